"""Workload scripts: cut where SQLite ends statements, grouped by transactions and directives."""

import itertools
import sqlite3
from dataclasses import replace
from sqlite3 import complete_statement

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqlstable.errors import ScriptError
from sqlstable.workload.script import DIRECTIVES, ScriptStatement, ScriptStep, parse_script

TRIGGER = """CREATE TRIGGER log AFTER INSERT ON note BEGIN
  INSERT INTO log VALUES ('one; END;');
  SELECT CASE 1 WHEN 1 THEN 2 END;
END"""


def cut(text, **options):
    return parse_script(text, is_complete=complete_statement, **options)


def outline(text, **options):
    """Return kind and statements of each step."""
    return [(step.kind, [one.sql for one in step.statements]) for step in cut(text, **options)]


def lone_statements(text):
    """Return the statements of a script in which each is a message alone."""
    steps = cut(text)
    assert all(step.kind == "auto" and len(step.statements) == 1 for step in steps)
    return [step.statements[0].sql for step in steps]


# --- statements ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("", [], id="empty"),
        pytest.param(" \t\r\n\f", [], id="blank"),
        pytest.param("-- one;\n/* two; */ ;;\n;", [], id="comments and semicolons alone"),
        pytest.param("SELECT 1; SELECT 2;", ["SELECT 1", "SELECT 2"], id="two on a line"),
        pytest.param("SELECT 1;;\n ; SELECT 2;", ["SELECT 1", "SELECT 2"], id="semicolons"),
        pytest.param("SELECT 1 \n ;", ["SELECT 1"], id="blank before semicolon"),
        pytest.param("SELECT 1", ["SELECT 1"], id="no last semicolon"),
        pytest.param("SELECT 1 -- one;", ["SELECT 1 -- one;"], id="no semicolon, comment"),
        pytest.param("SELECT 1 -- one\n;", ["SELECT 1 -- one"], id="comment before semicolon"),
        pytest.param("-- a\n/* b */ SELECT 1;", ["SELECT 1"], id="comments before"),
        pytest.param("SELECT 1; -- a; b\nSELECT 2;", ["SELECT 1", "SELECT 2"], id="between"),
        pytest.param("SELECT /* ; */ 1;", ["SELECT /* ; */ 1"], id="comment inside"),
        pytest.param("SELECT /*/ ; */ 1;", ["SELECT /*/ ; */ 1"], id="slash opens no end"),
        pytest.param("SELECT /***/ 1; SELECT 2;", ["SELECT /***/ 1", "SELECT 2"], id="stars"),
        pytest.param("SELECT 4 - 1 / 2 * 3;", ["SELECT 4 - 1 / 2 * 3"], id="no comment signs"),
        pytest.param("SELECT 'a;b''c;';", ["SELECT 'a;b''c;'"], id="string"),
        pytest.param("SELECT '--', '/*';", ["SELECT '--', '/*'"], id="comment signs in string"),
        pytest.param('SELECT "a;""b";', ['SELECT "a;""b"'], id="double quotes"),
        pytest.param("SELECT `a;b`;", ["SELECT `a;b`"], id="backticks"),
        pytest.param("SELECT [a;'b];", ["SELECT [a;'b]"], id="brackets"),
        pytest.param(
            "SELECT '\n--@ nothing\n';", ["SELECT '\n--@ nothing\n'"], id="directive text"
        ),
        pytest.param("/*\n--@ nothing\n*/ SELECT 1;", ["SELECT 1"], id="directive in a comment"),
        pytest.param("-- @ update\nSELECT 1;", ["SELECT 1"], id="no directive"),
        pytest.param("\ufeffSELECT 1;", ["SELECT 1"], id="byte order mark"),
        pytest.param("SELECT 1;\n\ufeffSELECT 2;", ["SELECT 1", "SELECT 2"], id="joined files"),
        pytest.param("SELECT 1;\r\nSELECT\r\n2;\r\n", ["SELECT 1", "SELECT\r\n2"], id="CRLF"),
        pytest.param("SELECT 'é漢😀;';", ["SELECT 'é漢😀;'"], id="beyond ASCII"),
        pytest.param(f"{TRIGGER};SELECT 1;", [TRIGGER, "SELECT 1"], id="trigger"),
        pytest.param(TRIGGER, [TRIGGER], id="trigger, no last semicolon"),
        pytest.param(
            "CREATE TEMP TRIGGER a BEGIN SELECT 1;/* ; */ end -- x\n; SELECT 2;",
            ["CREATE TEMP TRIGGER a BEGIN SELECT 1;/* ; */ end -- x", "SELECT 2"],
            id="trigger, comments around END",
        ),
        pytest.param("EXPLAIN BEGIN; SELECT 1;", ["EXPLAIN BEGIN", "SELECT 1"], id="explain"),
        pytest.param("COMMIT; SELECT 1;", ["COMMIT", "SELECT 1"], id="nothing to commit"),
        pytest.param("ROLLBACK; RELEASE a;", ["ROLLBACK", "RELEASE a"], id="nothing to release"),
        pytest.param("SAVEPOINT; SELECT 1;", ["SAVEPOINT", "SELECT 1"], id="nameless savepoint"),
        pytest.param("BEG\u0131N; SELECT 1;", ["BEG\u0131N", "SELECT 1"], id="no ASCII i"),
        pytest.param("$;", ["$"], id="nonsense is SQLite's to refuse"),
    ],
)
def test_statements_are_cut_where_sqlite_ends_them(text, expected):
    assert lone_statements(text) == expected


def test_lines_are_those_where_the_sql_starts():
    text = "-- one\n\n  SELECT\n1; /* a\nb */ SELECT 2;\r\n--@ update\nSELECT 3\n;"
    steps = cut(text)
    assert [(step.line, step.statements[0].line) for step in steps] == [(3, 3), (5, 5), (6, 7)]


def test_a_step_says_everything():
    assert cut("--@ label one\nSELECT 1;") == (
        ScriptStep(
            kind="auto",
            statements=(ScriptStatement(sql="SELECT 1", line=2, params=None),),
            label="one",
            repeat=1,
            line=2,
            await_after=False,
        ),
    )


# --- transactions --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "begin",
    [
        "BEGIN",
        "begin transaction",
        "BEGIN IMMEDIATE",
        "BEGIN EXCLUSIVE TRANSACTION",
        "Begin/**/Deferred",
    ],
)
@pytest.mark.parametrize(
    "end",
    [
        "COMMIT",
        "commit transaction",
        "END",
        "End Transaction",
        "ROLLBACK",
        "ROLLBACK TRANSACTION",
        "ROLLBACK -- TO a",
    ],
)
def test_a_transaction_is_one_update(begin, end):
    text = (
        f"SELECT 0;\n-- x\n{begin}; INSERT INTO t VALUES (1); SELECT 1;\n/* y */{end}\n; SELECT 2;"
    )
    assert outline(text) == [
        ("auto", ["SELECT 0"]),
        ("update", [begin, "INSERT INTO t VALUES (1)", "SELECT 1", end]),
        ("auto", ["SELECT 2"]),
    ]


@pytest.mark.parametrize(
    "statements",
    [
        pytest.param(["BEGIN", "SAVEPOINT a", "RELEASE a", "COMMIT"], id="savepoint inside"),
        pytest.param(["BEGIN", "SAVEPOINT a", "ROLLBACK TO a", "END"], id="rolled back to"),
        pytest.param(["BEGIN", "BEGIN", "COMMIT"], id="second BEGIN is refused at run time"),
        pytest.param(["BEGIN", "RELEASE b", "ROLLBACK TO b", "COMMIT"], id="unknown names"),
        pytest.param(
            ["BEGIN", "ROLLBACK TRANSACTION TO SAVEPOINT a", "ROLLBACK"], id="long ROLLBACK TO"
        ),
        pytest.param(["BEGIN", "CREATE TRIGGER a BEGIN SELECT 1; END", "END"], id="trigger"),
        pytest.param(["SAVEPOINT a", "SELECT 1", "RELEASE a"], id="savepoint"),
        pytest.param(["savepoint Ab", "release savepoint aB"], id="case of names"),
        pytest.param(["SAVEPOINT Ä", "RELEASE ä", "RELEASE Ä"], id="case beyond ASCII"),
        pytest.param(["SAVEPOINT a", "SAVEPOINT b", "RELEASE b", "RELEASE a"], id="nested"),
        pytest.param(["SAVEPOINT a", "SAVEPOINT b", "RELEASE a"], id="outer ends inner"),
        pytest.param(["SAVEPOINT a", "SAVEPOINT A", "RELEASE a", "RELEASE a"], id="same name"),
        pytest.param(
            ["SAVEPOINT a", "SAVEPOINT b", "ROLLBACK TO a", "RELEASE b", "RELEASE a"],
            id="inner forgotten",
        ),
        pytest.param(["SAVEPOINT a", "BEGIN", "RELEASE a"], id="BEGIN inside is refused"),
        pytest.param(["SAVEPOINT a", "SAVEPOINT b", "COMMIT"], id="commit ends all"),
        pytest.param(["SAVEPOINT a", "ROLLBACK"], id="rollback ends all"),
        pytest.param(["SAVEPOINT 'a;''b'", 'RELEASE "A;\'b"'], id="quoted names"),
        pytest.param(["SAVEPOINT [a b]", "RELEASE `a b`"], id="bracketed name"),
        pytest.param(["SAVEPOINT /* x */ a -- b", "RELEASE -- b\na /* c */"], id="comments"),
    ],
)
def test_a_transaction_ends_where_sqlite_ends_it(statements):
    text = "".join(f"{sql}\n;\n" for sql in [*statements, "SELECT 1"])
    assert outline(text) == [("update", statements), ("auto", ["SELECT 1"])]


@pytest.mark.parametrize(
    "statements",
    [["BEGIN", "SELECT 1"], ["SAVEPOINT a", "ROLLBACK TO a"], ["BEGIN"]],
)
def test_a_transaction_left_open_is_an_update_for_the_runner_to_refuse(statements):
    text = ";".join(statements)
    assert outline(text) == [("update", statements)]
    assert outline(f"{text};\n--@ upgrade") == [("update", statements), ("upgrade", [])]


# --- directives ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            "--@ update\nA;\nB;\n--@ query\nC;\n--@ update\nD",
            [("update", ["A", "B"]), ("query", ["C"]), ("update", ["D"])],
            id="messages of several statements",
        ),
        pytest.param(
            "A;\n--@ upgrade\n--@ reinstall\nB;",
            [("auto", ["A"]), ("upgrade", []), ("reinstall", []), ("auto", ["B"])],
            id="steps without statements",
        ),
        pytest.param(
            "--@ update\nA;\n--@ upgrade\nB;\nC;",
            [("update", ["A"]), ("upgrade", []), ("auto", ["B"]), ("auto", ["C"])],
            id="an upgrade ends the message for good",
        ),
        pytest.param(
            "--@ update\nA;\nBEGIN;\nB;\nCOMMIT;\nC;",
            [("update", ["A", "BEGIN", "B", "COMMIT", "C"])],
            id="a transaction ends no directive's message",
        ),
        pytest.param(
            "BEGIN;\nA;\n--@ query\nB;",
            [("update", ["BEGIN", "A"]), ("query", ["B"])],
            id="a directive ends an open transaction's message",
        ),
        pytest.param(" \t--@\tUpdate \r\nA;B;", [("update", ["A", "B"])], id="blanks and case"),
        pytest.param("--@update\nA;B;", [("update", ["A", "B"])], id="no blank"),
        pytest.param("\ufeff--@ update\nA;B;", [("update", ["A", "B"])], id="byte order mark"),
        pytest.param("-- x\n/* y\n*/\n--@ query\n-- z\nA;", [("query", ["A"])], id="comments"),
    ],
)
def test_directives_group_statements(text, expected):
    assert outline(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            "--@ update\nA;\n--@ await\nB;\nC;",
            [("update", ["A"], True), ("update", ["B", "C"], False)],
            id="the next message is of the same kind",
        ),
        pytest.param(
            "--@ query\nA;\n--@ await\n--@ upgrade",
            [("query", ["A"], True), ("upgrade", [], False)],
            id="nothing after it",
        ),
        pytest.param("--@ update\nA;\n--@ await", [("update", ["A"], True)], id="at the end"),
        pytest.param(
            "BEGIN;\nA;\n--@ await\nB;\nCOMMIT;",
            [("update", ["BEGIN", "A"], True), ("update", ["B", "COMMIT"], False)],
            id="open transaction",
        ),
        pytest.param(
            "INSERT A;\n--@ await\nB;\nC;\n--@ upgrade\nD;",
            [
                ("update", ["INSERT A"], True),
                ("update", ["B", "C"], False),
                ("upgrade", [], False),
                ("auto", ["D"], False),
            ],
            id="a statement alone",
        ),
        pytest.param(
            "BEGIN;\nA;\nCOMMIT;\n--@ await\nB;",
            [("update", ["BEGIN", "A", "COMMIT"], True), ("update", ["B"], False)],
            id="a transaction that has ended",
        ),
        pytest.param(
            "A;\nDROP B;\n--@ await",
            [("auto", ["A"], False), ("update", ["DROP B"], True)],
            id="a statement alone at the end",
        ),
        pytest.param(
            "--@ await\nA;\n--@ upgrade\n--@ await\nB;",
            [("auto", ["A"], False), ("upgrade", [], False), ("auto", ["B"], False)],
            id="nothing to end",
        ),
        pytest.param(
            "--@ trap\nDROP A;\n--@ await\nB;",
            [("trap", ["DROP A"], False), ("auto", ["B"], False)],
            id="what trapped never comes to it",
        ),
        pytest.param(
            "--@ update\n--@ await\nA;\n--@ await\n--@ await\nB;",
            [("update", ["A"], True), ("update", ["B"], False)],
            id="nothing in between",
        ),
    ],
)
def test_await_ends_a_message(text, expected):
    steps = cut(text)
    assert [
        (step.kind, [one.sql for one in step.statements], step.await_after) for step in steps
    ] == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("--@ update\nA;\n--@ await\nB;", [None, 0], id="at once"),
        pytest.param("--@ query\nA;\n--@ await\nB;\n--@ await\nC;", [None, 0, 1], id="again"),
        pytest.param("BEGIN;\nA;\n--@ await\nB;\nCOMMIT;\nC;", [None, 0, None], id="BEGIN"),
        pytest.param(
            "BEGIN;\nA;\n--@ await\n--@ update\nB;\n--@ continue\nC;\nCOMMIT;",
            [None, None, 0],
            id="others meanwhile",
        ),
        pytest.param(
            "--@ update\nA;\n--@ await\n--@ update\nB;\n--@ await\n--@ continue\nC;\n"
            "--@ continue\nD;",
            [None, None, 1, 0],
            id="the last first",
        ),
        pytest.param(
            "--@ label a\n--@ update\nA;\n--@ await\n--@ label b\n--@ update\nB;\n--@ await\n"
            "--@ continue a\nC;\n--@ continue b\nD;",
            [None, None, 0, 1],
            id="crosswise",
        ),
        pytest.param(
            "--@ trap\n--@ update\nA;\n--@ await\nB;", [None, None], id="behind a trap nothing"
        ),
        pytest.param("--@ update\nA;\n--@ await\n--@ update\nB;", [None, None], id="never"),
    ],
)
def test_what_follows_an_await_goes_on_with_the_message(text, expected):
    assert [step.continues for step in cut(text)] == expected


@given(
    settings=st.sets(st.sampled_from(["--@ label a\n", "--@ repeat 2\n"])).map("".join),
    first=st.sampled_from(["UPDATE A", "insert A", "/**/ CREATE A", "BEGIN; A; COMMIT"]),
    between=st.sampled_from(["", "\n-- words", "\n--@ label b"]),
    word=st.sampled_from(["await", "await allow-open-transaction"]),
    below=st.sampled_from(
        (
            *("", "B;", "B;\nC;", "BEGIN;\n--@ await\nB;\nCOMMIT;", "--@ await\nB;"),
            *("--@ query\nB;\n--@ continue\nC;", "--@ upgrade\n--@ continue\nC;"),
            "B;\n--@ trap\nC;",
        )
    ),
)
def test_a_writing_statement_alone_awaits_as_an_update_does(settings, first, between, word, below):
    if between.endswith("b") and not below.startswith("B"):
        between = ""  # A label needs a message that goes on.
    text = f"{first};{between}\n--@ {word}\n{below}"
    alone, told = cut(settings + "\n" + text), cut(settings + "--@ update\n" + text.lstrip("\n"))
    assert alone[0].await_after
    assert [bare(step) for step in alone] == [bare(step) for step in told]


def bare(step):
    """Return a step without its lines, which differ by where its directive stands."""
    statements = tuple(replace(it, line=0) for it in step.statements)
    return replace(step, line=0, statements=statements)


@pytest.mark.parametrize("sql", ["SELECT 1", "WITH a AS (SELECT 1) DELETE B", "COMMIT", "PRAGMA a"])
def test_what_may_be_a_query_awaits_only_as_an_update(sql):
    reason = "line 3: nothing says whether the statement on line 2 .* put --@ update in front"
    with pytest.raises(ScriptError, match=reason):
        cut(f"A;\n{sql};\n--@ await\nB;")
    assert [it.continues for it in cut(f"A;\n--@ update\n{sql};\n--@ await\nB;")] == [None, None, 1]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("--@ update\nBEGIN;\n--@ await allow-open-transaction\nCOMMIT;\nA;", [True, False]),
        ("BEGIN;\n--@ await  Allow-open-transaction", None),
        (
            "BEGIN;\n--@ await allow-open-transaction\n--@ query\nA;\n--@ upgrade\n--@ continue\nB",
            [True, True, False, False],
        ),
    ],
)
def test_a_transaction_may_be_open_where_the_script_says_so(text, expected):
    if expected is None:
        with pytest.raises(ScriptError, match="line 2: --@ await takes no argument but allow-open"):
            cut(text)
    else:
        assert [step.allow_open_transaction for step in cut(text)] == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("--@ continue\nA;", "line 1: no message awaits here"),
        ("--@ update\nA;\n--@ await\nB;\n--@ continue\nC;", "line 5: no message awaits here"),
        ("--@ update\nA;\n--@ await\n--@ continue b\nC;", "line 4: no message called b awaits"),
        ("--@ update\nA;\n--@ await\n--@ continue", "line 4: --@ continue holds no statements"),
        ("--@ trap\nA;\n--@ await\n--@ continue\nB;", "line 4: no message awaits here"),
    ],
)
def test_nothing_goes_on_that_does_not_await(text, reason):
    with pytest.raises(ScriptError, match=reason):
        cut(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            "--@ update\nA;\n--@ trap\nB;",
            [("trap", ["A"]), ("auto", ["B"])],
            id="ends the message there",
        ),
        pytest.param("--@ query\nA;\n--@ trap", [("trap", ["A"])], id="query"),
        pytest.param("A;\n--@ trap\nB;\nC;", [("auto", ["A"]), ("trap", ["B"]), ("auto", ["C"])]),
        pytest.param(
            "--@ trap\nBEGIN;\nA;\nCOMMIT;\nB;",
            [("trap", ["BEGIN", "A", "COMMIT"]), ("auto", ["B"])],
            id="before a transaction",
        ),
        pytest.param(
            "--@ trap\n--@ update\nA;\nB;\n--@ query\nC;",
            [("trap", ["A", "B"]), ("query", ["C"])],
            id="before a directive",
        ),
        pytest.param("--@ update\n--@ trap\nA;\nB;", [("trap", ["A", "B"])], id="below it"),
        pytest.param(
            "BEGIN;\nA;\n--@ trap\nB;", [("trap", ["BEGIN", "A"]), ("auto", ["B"])], id="open"
        ),
        pytest.param(
            "BEGIN;\nA;\n--@ trap\nCOMMIT;\nB;",
            [("trap", ["BEGIN", "A"]), ("auto", ["B"])],
            id="its COMMIT is never reached",
        ),
        pytest.param(
            "SAVEPOINT a;\nSAVEPOINT b;\n--@ trap\n-- x\nRELEASE A;\nCOMMIT;",
            [("trap", ["SAVEPOINT a", "SAVEPOINT b"]), ("auto", ["COMMIT"])],
            id="its RELEASE is never reached",
        ),
        pytest.param(
            "--@ update\nBEGIN;\nA;\n--@ trap\nEND;",
            [("trap", ["BEGIN", "A"])],
            id="nor that of a transaction below a directive",
        ),
        pytest.param(
            "SAVEPOINT a;\nSAVEPOINT b;\n--@ trap\nRELEASE b;",
            [("trap", ["SAVEPOINT a", "SAVEPOINT b"]), ("auto", ["RELEASE b"])],
            id="an inner RELEASE is no end",
        ),
        pytest.param(
            "BEGIN;\n--@ trap\n--@ update\nCOMMIT;",
            [("trap", ["BEGIN"]), ("update", ["COMMIT"])],
            id="a COMMIT in another message stays",
        ),
        pytest.param(
            "BEGIN;\n--@ trap\nA;\nCOMMIT;",
            [("trap", ["BEGIN"]), ("auto", ["A"]), ("auto", ["COMMIT"])],
            id="a COMMIT further down stays",
        ),
    ],
)
def test_trap_ends_a_message(text, expected):
    assert outline(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("--@ label a b \nA;\nB;", [("a b", 1), (None, 1)], id="statement"),
        pytest.param("--@ label a\nBEGIN;\nEND;\nB;", [("a", 1), (None, 1)], id="transaction"),
        pytest.param("--@ label a\n--@ update\nA;\nB;", [("a", 1)], id="above the directive"),
        pytest.param("--@ update\n--@ label a\nA;\nB;", [("a", 1)], id="below the directive"),
        pytest.param(
            "--@ repeat 3\n--@ label a\n--@ query\nA;", [("a", 3)], id="both above the directive"
        ),
        pytest.param("--@ label a\n--@ query\n--@ repeat 3\nA;", [("a", 3)], id="around it"),
        pytest.param(
            "--@ update\nA;\n--@ label b\n--@ update\nB;",
            [(None, 1), ("b", 1)],
            id="for the message after the open one",
        ),
        pytest.param(
            "--@ label a\n--@ repeat 2\n--@ update\nA;\n--@ await\nB;",
            [("a", 2), (None, 1)],
            id="not for what follows an await",
        ),
        pytest.param(
            "--@ update\nA;\n--@ await\n--@ label b\nB;", [(None, 1), ("b", 1)], id="after await"
        ),
        pytest.param(
            "--@ update\nA;\n--@ label b\n--@ await\nB;", [(None, 1), ("b", 1)], id="before await"
        ),
        pytest.param("--@ label up\n--@ repeat 2\n--@ upgrade\nA;", [("up", 2), (None, 1)]),
        pytest.param("--@ repeat 1000000000\nA;", [(None, 1_000_000_000)], id="most"),
    ],
)
def test_label_and_repeat_hold_for_one_message(text, expected):
    assert [(step.label, step.repeat) for step in cut(text)] == expected


# --- what is refused -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        pytest.param("\nSELECT\n'a;\n", 2, "' opens on line 3", id="unclosed string"),
        pytest.param('SELECT "a;', 1, 'close it with "', id="unclosed name"),
        pytest.param("SELECT `a;", 1, "close it with `", id="unclosed backtick"),
        pytest.param("SELECT [a;", 1, "close it with ]", id="unclosed bracket"),
        pytest.param("SELECT 1; SELECT /* a;", 1, "close it with */", id="unclosed comment"),
        pytest.param("SELECT 1;\n/*/", 2, "/* opens here", id="unclosed comment between"),
        pytest.param("\nCREATE TRIGGER a BEGIN\nSELECT 1;", 2, "END and a semicolon", id="trigger"),
        pytest.param("SELECT 1;\n.import a b\n", 2, ".import is a command", id="dot command"),
        pytest.param("SELECT 1; .tables", 1, "only SQL and --@ directives", id="dot later"),
        pytest.param(".", 1, ". is a command", id="dot alone"),
        pytest.param("A;\n--@ updat\nB;", 2, ", ".join(DIRECTIVES), id="unknown directive"),
        pytest.param("--@ \nupdate\nA;", 1, ": --@ is not a directive", id="empty directive"),
        pytest.param("--@ update now\nA;", 1, "takes no argument; remove 'now'", id="argument"),
        pytest.param("--@ label \r\nA;", 1, "write --@ label NAME", id="no name"),
        pytest.param("--@ repeat\nA;", 1, "write --@ repeat N", id="no count"),
        pytest.param("--@ params\nA;", 1, "write --@ params FILE.csv", id="no file"),
        pytest.param("A; --@ update\nB;", 1, "a line of its own", id="behind SQL"),
        pytest.param("/* a */ --@ update\nB;", 1, "a line of its own", id="behind a comment"),
        pytest.param("\nSELECT\n--@ update\n1;", 3, "begins on line 2", id="inside a statement"),
        pytest.param("SELECT 1\n--@ upgrade\n", 2, "with a semicolon", id="semicolon forgotten"),
        pytest.param("SELECT 1 --@ x\n;", 1, "inside the statement", id="in a statement's line"),
        pytest.param("A;\n--@ label a\n", 2, "nothing follows --@ label", id="label at the end"),
        pytest.param("--@ repeat 2", 1, "nothing follows --@ repeat", id="repeat at the end"),
        pytest.param("--@ trap\n--@ await", 1, "nothing follows --@ trap", id="trap at the end"),
        pytest.param("--@ params a.csv", 1, "nothing follows --@ params", id="params at the end"),
        pytest.param("--@ update", 1, "holds no statements", id="update at the end"),
        pytest.param("--@ query\n--@ upgrade", 1, "holds no statements", id="empty query"),
        pytest.param("--@ label a\n--@ label b\nA;", 2, "on line 1 already", id="two labels"),
        pytest.param("--@ label a\n--@ update\n--@ label b\nA;", 3, "line 1 already", id="around"),
        pytest.param("--@ repeat 2\n--@ repeat 2\nA;", 2, "same message", id="two repeats"),
        pytest.param("--@ params a\n--@ params a\nA;", 2, "same statement", id="two params"),
        pytest.param("--@ trap\n--@ trap\nA;", 2, "on line 1 already", id="two traps"),
        pytest.param("--@ trap\n--@ upgrade", 2, "runs no statements", id="trap and upgrade"),
        pytest.param("BEGIN;\n--@ label a\nEND;", 2, "begins on line 1", id="in a transaction"),
        pytest.param(
            "--@ update\nA;\n--@ repeat 2\nB;", 3, "inside the message", id="in a message"
        ),
        *(
            pytest.param(f"A;\n--@ repeat {count}\nA;", 2, "from 1 to 1000000000", id=count)
            for count in ("0", "-1", "x", "1.5", "2 3", "1000000001", "9" * 5000, "²")
        ),
        *(
            pytest.param(f"BEGIN;\n--@ params a\n{sql};", 2, sql.split()[0], id=f"params, {sql}")
            for sql in ("BEGIN", "COMMIT", "END", "ROLLBACK", "SAVEPOINT a", "RELEASE a")
        ),
    ],
)
def test_what_is_refused_is_named_with_its_line(text, line, words):
    with pytest.raises(ScriptError) as caught:
        cut(text, name="work.sql")
    assert str(caught.value).startswith(f"work.sql, line {line}: ")
    assert words in str(caught.value)


# --- the work stays linear -----------------------------------------------------------------


ROW = "INSERT INTO note VALUES ('a;b''c', \"d;\", /* ; */ 1); -- e;\n"
CASE = "SELECT CASE 1 WHEN 1 THEN 2 END;\n"


@pytest.mark.parametrize(
    ("text", "statement_count", "calls_max"),
    [
        pytest.param(ROW * 2000, 2000, 2000, id="many statements"),
        pytest.param(f"SELECT {','.join(chr(39) + 'a;b' + chr(39) for _ in range(9000))};", 1, 1),
        pytest.param(f"CREATE TRIGGER a BEGIN\n{ROW * 2000}END;", 1, 2, id="long trigger"),
        pytest.param(f"CREATE TRIGGER a BEGIN\n{CASE * 2000}END;", 1, 2, id="CASE in a trigger"),
        pytest.param(f"CREATE TRIGGER a BEGIN\n{ROW * 2000}", None, 2, id="trigger without END"),
        pytest.param(f"{ROW * 2000}SELECT '{'a;' * 9000}", None, 2000, id="unclosed string"),
    ],
)
def test_sqlite_is_asked_about_each_character_at_most_twice(text, statement_count, calls_max):
    asked = []

    def is_complete(sql):
        asked.append(len(sql))
        return complete_statement(sql)

    if statement_count is None:
        with pytest.raises(ScriptError):
            parse_script(text, is_complete=is_complete)
    else:
        steps = parse_script(text, is_complete=is_complete)
        assert sum(len(step.statements) for step in steps) == statement_count
    assert len(asked) <= calls_max
    assert sum(asked) <= 2 * (len(text) + len("\n;"))


# --- random scripts ------------------------------------------------------------------------


nasty_text = st.text(alphabet="ab;'\"`[]-/*@.\n\r\t é\ufeff", max_size=12)
literals = st.one_of(
    nasty_text.map(lambda text: "'" + text.replace("'", "''") + "'"),
    nasty_text.map(lambda text: "'' AS \"c" + text.replace('"', '""') + '"'),
    nasty_text.map(lambda text: "'' AS `c" + text.replace("`", "``") + "`"),
    nasty_text.map(lambda text: "'' AS [c" + text.replace("]", "") + "]"),
    st.integers(0, 99).map(str),
)
line_comments = nasty_text.map(lambda text: "--" + text.replace("\n", "").replace("@", "") + "\n")
block_comments = nasty_text.map(lambda text: "/*" + text.replace("*/", "").rstrip("*") + " */")
comments = st.one_of(line_comments, block_comments)
gaps = st.lists(st.one_of(comments, st.sampled_from([" ", "\n", "\r\n", "\t"])), max_size=3).map(
    lambda parts: " " + "".join(parts) + " "
)
values = st.lists(st.one_of(literals, comments.map("{}0".format)), min_size=1, max_size=4)
selects = st.builds(
    lambda gap, items: f"SELECT{gap}{','.join(items)}", gaps, values.filter(lambda items: items)
)
inserts = st.builds(
    lambda gap, text: "INSERT INTO note{}VALUES ('{}')".format(gap, text.replace("'", "''")),
    gaps,
    nasty_text,
)
triggers = st.builds(
    lambda number, temp, body, gap: (
        f"CREATE{temp} TRIGGER IF NOT EXISTS t{number} AFTER DELETE ON note{gap}BEGIN "
        f"{';'.join(body)};{gap}END"
    ),
    st.integers(0, 9),
    st.sampled_from(["", " TEMP", " temporary"]),
    st.lists(st.one_of(selects, inserts, st.just("SELECT CASE 1 WHEN 1 THEN 2 END")), min_size=1),
    gaps,
)
statements = st.one_of(selects, inserts, triggers)


@pytest.mark.slow
@pytest.mark.parametrize("is_complete", [complete_statement, apsw.complete])
@given(parts=st.lists(st.tuples(gaps, statements), max_size=5), last=st.sampled_from(["", ";"]))
def test_joined_statements_are_cut_back_to_themselves(is_complete, parts, last):
    text = ""
    expected = []
    for gap, sql in parts:
        text += (";" if text else "") + gap
        expected.append((sql, 1 + text.count("\n")))
        text += sql
    steps = parse_script(text + last, is_complete=is_complete)
    assert [(one.sql, one.line) for step in steps for one in step.statements] == expected
    assert all(len(step.statements) == 1 for step in steps)


TABLES = "CREATE TABLE note (body TEXT);\n"
transactions = st.builds(
    lambda ends, inside: ";\n".join([ends[0], *inside, ends[1]]),
    st.sampled_from(
        [("BEGIN", "COMMIT"), ("begin immediate", "ROLLBACK"), ("SAVEPOINT [a;]", "RELEASE 'A;'")]
    ),
    st.lists(inserts, max_size=3),
)


@pytest.mark.slow
@given(parts=st.lists(st.tuples(gaps, st.one_of(statements, transactions)), max_size=5))
def test_sqlite_runs_the_statements_as_it_runs_the_script(parts):
    text = TABLES + ";".join(gap + sql for gap, sql in parts)
    whole = sqlite3.connect(":memory:", isolation_level=None)
    whole.executescript(text)
    apart = sqlite3.connect(":memory:", isolation_level=None)
    for step in cut(text):
        assert not apart.in_transaction
        for statement in step.statements:
            assert apart.in_transaction == (statement is not step.statements[0])
            apart.execute(statement.sql).fetchall()
    assert list(whole.iterdump()) == list(apart.iterdump())
    whole.close()
    apart.close()


@given(st.text(alphabet="ab;'\"`[]-/*@.\n\r é", max_size=40))
def test_any_text_is_cut_or_refused_and_nothing_is_lost(text):
    try:
        steps = cut(text)
    except ScriptError:
        return
    position = 0
    for step in steps:
        for statement in step.statements:
            position = text.index(statement.sql, position) + len(statement.sql)
            assert complete_statement(statement.sql + "\n;")


ANY_LINE = ["A;", "BEGIN;", "COMMIT;", "--@ label a", "--@ repeat 2"] + [
    f"--@ {word}" for word in DIRECTIVES if word not in {"label", "repeat", "params"}
]


@given(st.lists(st.sampled_from(ANY_LINE)))
def test_any_order_of_directives_is_understood_or_refused(lines):
    try:
        steps = cut("\n".join(lines))
    except ScriptError:
        return
    written = sum(line.endswith(";") for line in lines)
    never_reached = lines.count("COMMIT;") if "--@ trap" in lines else 0
    kept = sum(len(step.statements) for step in steps)
    assert written - never_reached <= kept <= written
    assert all(step.line < after.line for step, after in itertools.pairwise(steps))
    for step in steps:
        assert bool(step.statements) == (step.kind not in {"upgrade", "reinstall"})
