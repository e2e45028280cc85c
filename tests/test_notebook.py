"""The Jupyter extension, in a shell of IPython: what cells run, show and refuse."""

from dataclasses import replace
from threading import Event

import numpy as np
import pytest
from IPython.core.interactiveshell import InteractiveShell

import sqlstable
from sqlstable.analysis.message_html import verdict_words
from sqlstable.notebook import MESSAGES_SHOWN, NotebookProgress
from sqlstable.notebook_options import STABLE, CellError
from sqlstable.report.limit_words import limit_parts
from sqlstable.trace.model import LimitUse
from tests.hostile_texts import HOSTILE_NAME, is_harmless
from tests.notebook_world import make_shell


@pytest.fixture(scope="module")
def one_shell():
    yield make_shell()
    InteractiveShell.clear_instance()


@pytest.fixture
def shell(one_shell):
    sqlstable.load_ipython_extension(one_shell)
    names = dict(one_shell.user_ns)
    yield one_shell
    sqlstable.unload_ipython_extension(one_shell)
    # Not its own reset, which collects all garbage each time.
    one_shell.user_ns.clear()
    one_shell.user_ns.update(names)


def cell(shell, text, options=""):
    return shell.run_cell_magic("stable", options, text)


def line(shell, name, options=""):
    return shell.run_line_magic(name, options)


def refused(run, *arguments):
    """The one line that a notebook shows in place of a traceback."""
    with pytest.raises(CellError) as caught:
        run(*arguments)
    (shown,) = caught.value._render_traceback_()
    assert "\n" not in shown
    assert caught.value.__cause__ is None
    return shown.removeprefix("Error: ")


def test_a_cell_is_one_message_whose_kind_sqlite_decides(shell):
    made = cell(shell, "CREATE TABLE t (id INTEGER PRIMARY KEY, x);\nINSERT INTO t (x) VALUES (7);")
    assert [reply.message.kind for reply in made.replies] == ["update"]
    assert len(made.replies[0].statements) == 2
    found = cell(
        shell, "SELECT x FROM t; SELECT count(*) AS n FROM t", "--label look --cache fresh"
    )
    message = found.replies[0].message
    assert (message.kind, message.cache, message.label) == ("query", "fresh", "look")
    assert (found.columns, found.rows) == (("n",), [(1,)])
    shown = repr(found)
    assert 'message 2 · query · "look" · fresh cache · discarded' in shown
    assert "OS pages accessed" in shown
    assert ": t 1" in shown
    assert "fits (OS pages, stable memory)" in shown
    html = found._repr_html_()
    assert html.count("<table>") == 3
    assert ">n</th>" in html
    assert "fits (OS pages" in html


def test_many_rows_are_cut_and_counted(shell):
    found = cell(
        shell,
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50) "
        "SELECT i FROM n",
    )
    assert "20 rows, 30 more rows not shown" in repr(found)
    assert ">50 rows</caption>" in found._repr_html_()
    assert len(found.rows) == 50


def test_a_query_that_writes_is_discarded(shell):
    cell(shell, "CREATE TABLE t (x)")
    assert "discarded with its writes" in repr(cell(shell, "INSERT INTO t VALUES (1)", "--query"))
    assert cell(shell, "SELECT count(*) FROM t", "--update").replies[0].outcome == "committed"
    assert cell(shell, "SELECT count(*) FROM t").rows == [(0,)]


def test_names_bind_variables(shell):
    shell.user_ns.update(who="Zoë", number=np.int64(4))
    found = cell(shell, "SELECT :who, @number + 1, ':who' -- :nobody")
    assert found.rows == [("Zoë", 5, ":who")]
    assert refused(cell, shell, "SELECT :nobody") == (
        "cell, line 1: there is no variable nobody for :nobody"
    )
    assert "write :name" in refused(cell, shell, "SELECT ?")
    shell.user_ns["who"] = object()
    assert "object" in refused(cell, shell, "SELECT :who")


def test_an_answer_goes_into_a_variable(shell):
    found = cell(shell, "SELECT 1 AS one", "--into answer")
    assert shell.user_ns["answer"] is found
    assert "no name of a variable" in refused(cell, shell, "CREATE TABLE t (x)", "--into 1x")
    assert cell(shell, "SELECT count(*) FROM sqlite_schema").rows == [(0,)]


def test_lines_of_directives_make_a_script(shell):
    found = cell(
        shell,
        "CREATE TABLE t (x);\n--@ repeat 20\nINSERT INTO t VALUES (1);\n--@ upgrade\n"
        "SELECT count(*) FROM t",
    )
    assert found.message_count == 23
    assert len(found.replies) == MESSAGES_SHOWN
    assert "13 more messages" in repr(found)
    assert "13 more messages" in found._repr_html_()
    assert cell(shell, "SELECT count(*) FROM t").rows == [(20,)]
    assert "is a script" in refused(cell, shell, "--@ upgrade\nSELECT 1", "--query")


@pytest.mark.parametrize(
    ("text", "options", "expected"),
    [
        ("SELECT * FROM missing", "", "cell, line 1: no such table: missing; in: SELECT * FROM"),
        ("SELECT 1;\nSELEKT", "", 'cell, line 2: near "SELEKT": syntax error'),
        ("SELECT 'a", "", "cell, line 1: the statement that begins here never ends"),
        ("-- nothing", "", "the cell holds no statement"),
        ("BEGIN", "", "the update message ended with"),
        ("--@ dance", "", "--@ dance is not a directive"),
        ("SELECT 1", "--nope", "%%stable: unrecognized arguments: --nope"),
        ("SELECT 1", "--engine quick", "invalid choice: 'quick'"),
        ("SELECT 1", "--label 'a", "No closing quotation"),
        ("SELECT 1", "--query --update", "not allowed with argument"),
        ("SELECT 1", "--canister nobody", "the variable nobody is not there"),
        ("SELECT 1", "--measure 2", "--measure concerns runs on both engines; add --engine both"),
        ("SELECT 1", "--engine both --measure some", "measure"),
        ("SELECT 1", "--page-size 1000", "page_size is 1000"),
        ("SELECT 1", "--limits soon", "soon"),
        ("SELECT 1", "--image /proc/nothing/x", "/proc/nothing"),
    ],
)
def test_whatever_is_refused_is_one_line(shell, text, options, expected, capsys):
    assert expected in refused(cell, shell, text, options)
    capsys.readouterr()
    # And the next cell finds a sound canister.
    assert cell(shell, "SELECT 1 AS one").rows == [(1,)]


def test_a_message_awaits_in_a_cell(shell, capsys):
    text = (
        "--@ update\n{}INSERT INTO t VALUES (1);\n--@ await\n--@ query\nSELECT 1;\n--@ continue\n{}"
    )
    cell(shell, "CREATE TABLE t (x)")
    whole = cell(shell, text.format("", "INSERT INTO t VALUES (2)"))
    assert "continues message 2" in whole._repr_html_()
    torn = text.format("BEGIN; ", "COMMIT")
    capsys.readouterr()
    for text in (torn, torn.removeprefix("--@ update\n").replace("--@ query\nSELECT 1;\n", "")):
        said = refused(cell, shell, text)
        assert "the message cannot await with an open SQL transaction; it was rolled back" in said
        assert "--@ await allow-open-transaction, or --allow-open-transaction of" in said
        shown = capsys.readouterr().out
        assert "trapped, rolled back" in shown
        assert "open SQL transaction" not in shown
    assert "of sqlstable run and %%stable" in refused(cell, shell, "BEGIN")
    cell(shell, torn, "--allow-open-transaction")
    assert cell(shell, "SELECT count(*) FROM t").rows == [(3,)]


def test_a_statement_alone_awaits_in_a_cell(shell):
    cell(shell, "CREATE TABLE t (x)")
    whole = cell(shell, "DELETE FROM t;\n--@ await\nINSERT INTO t VALUES (1);")
    assert [reply.message.continues for reply in whole.replies] == [None, 2]
    assert "put --@ update in front" in refused(cell, shell, "SELECT 1;\n--@ await\nSELECT 2;")


@pytest.mark.parametrize(
    "use",
    [
        LimitUse("instructions", 23_412_720, 5 * 10**9),
        LimitUse("stable_memory_bytes", 8_454_144, 500 * 2**30),
        LimitUse("stable_os_pages_accessed", 262_143, 262_144),
        LimitUse("stable_os_pages_accessed", 262_145, 262_144),
    ],
)
def test_a_cell_spells_a_limit_as_tables_do(shell, use):
    message = replace(cell(shell, "SELECT 1").replies[0].message, limits=(use,))
    amount, of_what = limit_parts(use)
    words = verdict_words(message).split("nearest to a limit: ")[1].split("; not counted")[0]
    assert words.startswith(amount + " ")
    assert words.endswith(", " + of_what.rsplit(", ", 1)[1])
    assert ("100%" in words) == (use.used > use.limit)


def test_a_failed_message_is_shown_before_its_error(shell, capsys):
    cell(shell, "CREATE TABLE t (x UNIQUE); INSERT INTO t VALUES (1)")
    assert "UNIQUE" in refused(cell, shell, "INSERT INTO t VALUES (1)")
    assert "trapped, rolled back" in capsys.readouterr().out


def test_an_upgrade_keeps_what_a_trap_does_not(shell):
    cell(shell, "CREATE TABLE t (x); INSERT INTO t VALUES (1)")
    trapped = shell.run_cell_magic("stable_trap", "--label oops", "INSERT INTO t VALUES (2)")
    assert trapped.replies[0].outcome == "trapped"
    assert trapped.replies[0].message.label == "oops"
    assert trapped.replies[0].message.trap == "the notebook says stable_trap"
    upgraded = line(shell, "stable_upgrade")
    assert upgraded.replies[0].message.kind == "upgrade"
    assert cell(shell, "SELECT x FROM t").rows == [(1,)]
    assert line(shell, "stable_trap").replies[0].outcome == "trapped"


def test_the_trace_is_there_while_it_runs(shell, capsys):
    cell(shell, "CREATE TABLE t (x)")
    with line(shell, "stable_trace") as trace:
        assert [message.kind for message in trace.messages] == ["install", "update"]
    with line(shell, "stable_trace", "--by owner"):
        assert "Whose OS pages" in capsys.readouterr().out


def test_the_map_is_there_while_it_runs(shell):
    cell(shell, "CREATE TABLE t (x)")
    assert repr(line(shell, "stable_map")) == "<map of stable memory: 32 OS pages shown>"


def test_options_make_a_canister_and_do_not_change_one(shell):
    first = line(shell, "stable_canister", "--page-size 1024 --limits none")
    assert first.settings.page_size == 1024
    assert line(shell, "stable_canister") is first
    assert cell(shell, "SELECT 1", "--page-size 1024").rows == [(1,)]
    text = refused(cell, shell, "SELECT 1", "--page-size 512 --journal-mode off")
    assert "%stable_canister --page-size 512 --journal-mode off begins another one" in text
    assert "page_size is 1000" in refused(line, shell, "stable_canister", "--page-size 1000")
    assert line(shell, "stable_canister") is first
    second = line(shell, "stable_canister", "--new")
    assert second is not first
    assert second.settings.page_size == 4096
    with pytest.raises(sqlstable.MessageError, match="closed"):
        first.query("SELECT 1")


def test_a_canister_that_somebody_closed_is_told_of(shell):
    line(shell, "stable_canister").close()
    text = refused(cell, shell, "SELECT 1")
    assert "closed" in text
    assert "%stable_canister --new" in text
    line(shell, "stable_canister", "--new")
    assert cell(shell, "SELECT 1 AS one").rows == [(1,)]


def test_loading_again_begins_anew_and_unloading_twice_does_no_harm(shell):
    first = line(shell, "stable_canister")
    sqlstable.load_ipython_extension(shell)
    assert "closed" in repr(first)
    assert line(shell, "stable_canister") is not first
    sqlstable.unload_ipython_extension(shell)
    sqlstable.unload_ipython_extension(shell)


def test_an_image_is_kept(shell, tmp_path):
    path = tmp_path / "a.stable"
    cell(shell, "CREATE TABLE t (x); INSERT INTO t VALUES (5)", f"--image '{path}'")
    line(shell, "stable_canister", f"--image '{path}'")
    assert cell(shell, "SELECT x FROM t").rows == [(5,)]
    line(shell, "stable_canister", "--new")
    with sqlstable.Canister(path) as canister:
        assert canister.query("SELECT x FROM t").rows == [(5,)]


def test_a_canister_of_the_notebook_is_used_by_name(shell):
    shell.user_ns["mine"] = mine = sqlstable.Canister(owners=True)
    cell(shell, "CREATE TABLE t (x)", "--canister mine")
    shell.user_ns["plain"] = sqlstable.Canister()
    assert "not determined" in cell(shell, "CREATE TABLE t (x)", "--canister plain")._repr_html_()
    shell.user_ns["plain"].close()
    assert mine.query("SELECT count(*) FROM t").rows == [(0,)]
    assert line(shell, "stable_upgrade", "--canister mine").replies[0].outcome == "committed"
    assert "keeps no trace" in refused(line, shell, "stable_trace", "--canister mine")
    assert "leave it out" in refused(cell, shell, "SELECT 1", "--canister mine --engine wasm")
    shell.user_ns["mine"] = 7
    assert "is no canister" in refused(cell, shell, "SELECT 1", "--canister mine")
    mine.close()


def test_instructions_are_shown_where_they_are_counted(shell):
    found = cell(shell, "CREATE TABLE t (x)", "--engine wasm")
    spent = found.replies[0].message.instructions
    assert f"{spent.total:,} instructions: computation {spent.computation:,}" in found._repr_html_()
    assert f"{spent.total:,} instructions" in repr(found)


def test_both_engines_measure_a_sample_of_the_cells(shell):
    canister = line(shell, "stable_canister", "--engine both --measure 2")
    assert canister.status().settings["engine"] == "both"
    assert canister.status().settings["measure"] == "2"
    cell(shell, "CREATE TABLE t (x)")
    found = cell(shell, "--@ repeat 20\nINSERT INTO t VALUES (random())")
    counted = [it.message.instructions is not None for it in found.replies]
    assert any(counted)
    with line(shell, "stable_trace") as trace:
        spent = [it.instructions for it in trace.messages if it.kind == "update"]
    assert {it.measured for it in spent} == {True, False}
    assert "%stable_canister --engine both --measure 3" in refused(
        cell, shell, "SELECT 1", "--engine both --measure 3"
    )


def test_hostile_names_and_values_are_shown_and_do_nothing(shell):
    quoted = '"' + HOSTILE_NAME.replace('"', '""') + '"'
    cell(shell, f"CREATE TABLE {quoted} (x)")
    cell(shell, f"INSERT INTO {quoted} VALUES ('{HOSTILE_NAME.replace(chr(39), chr(39) * 2)}')")
    found = cell(shell, f"SELECT x AS {quoted} FROM {quoted}")
    assert is_harmless(found._repr_html_())
    assert not set("\x1b\u202e") & set(repr(found))


def test_every_option_has_its_help(shell):
    for name in (
        "stable",
        "stable_canister",
        "stable_upgrade",
        "stable_trap",
        "stable_trace",
        "stable_map",
    ):
        kind = "cell" if name == "stable" else "line"
        assert "usage: %" in shell.find_magic(name, kind).__doc__
    assert "--cache {fresh,cold,warm}" in STABLE.format_help()


def test_a_bar_is_drawn_while_work_goes_on_and_then_goes(monkeypatch):
    shown, is_drawn = [], Event()

    class Handle:
        def update(self, bar):
            shown.append(bar)
            is_drawn.set()

    monkeypatch.setattr("sqlstable.notebook.PATIENCE_S", 0)
    monkeypatch.setattr("sqlstable.notebook.REDRAW_S", 0)
    monkeypatch.setattr("sqlstable.notebook.display", lambda *_, **__: Handle())
    monkeypatch.setattr("sqlstable.notebook.clear_output", lambda **_: shown.append("gone"))
    with NotebookProgress() as progress:
        progress.show("<b>", done=2, total=4)
        is_drawn.clear()
        assert is_drawn.wait(20)
    assert shown[-1] == "gone"
    assert shown[-2]._repr_html_() == (
        f'<progress value="2" max="4"></progress> &lt;b&gt; · {shown[-2].seconds} s'
    )


def test_quick_work_shows_no_bar(monkeypatch):
    shown = []
    monkeypatch.setattr("sqlstable.notebook.PATIENCE_S", 20)
    monkeypatch.setattr("sqlstable.notebook.display", lambda *_, **__: shown.append("bar"))
    monkeypatch.setattr("sqlstable.notebook.clear_output", lambda **_: shown.append("gone"))
    with NotebookProgress() as progress:
        progress.show("x")
    assert shown == []
