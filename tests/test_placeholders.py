"""Literals that a script names: found, replaced, left alone, refused."""

import sqlite3

import pytest

from sqlstable.errors import ScriptError, SettingsError
from sqlstable.workload.placeholders import (
    fill_placeholders,
    find_placeholders,
    literal,
    read_value,
)

SCRIPT = """\
CREATE TABLE t (n INTEGER, who TEXT);
WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < /*@rows*/ 10)
INSERT INTO t SELECT n, /*@who*/ 'o''hara' FROM c;
SELECT count(*), max(who) FROM t WHERE n <= /*@rows*/10 -- not /*@this*/ 1
"""


def test_a_script_stays_plain_sql():
    connection = sqlite3.connect(":memory:")
    connection.executescript(SCRIPT.rpartition("SELECT")[0])
    assert connection.execute("SELECT count(*), max(who) FROM t").fetchall() == [(10, "o'hara")]
    connection.close()


def test_parameters_have_a_default_and_a_line():
    found = find_placeholders(SCRIPT)
    assert [(it.name, it.default, it.line) for it in found.values()] == [
        ("rows", 10, 2),
        ("who", "o'hara", 3),
    ]


def test_only_the_literals_change_and_lines_stay_where_they_are():
    filled = fill_placeholders(SCRIPT, {"rows": 5000, "who": "it's /*@rows*/ 1"})
    assert filled == SCRIPT.replace("*/ 10", "*/ 5000").replace("*/10", "*/5000").replace(
        "'o''hara'", "'it''s /*@rows*/ 1'"
    )
    assert fill_placeholders(SCRIPT, {}) == SCRIPT


@pytest.mark.parametrize(
    "hidden",
    [
        "'/*@a*/ 1'",
        '"/*@a*/ 1"',
        "`/*@a*/ 1`",
        "[/*@a*/ 1]",
        "-- /*@a*/ 1",
        "/* /*@a*/ 1",
        "'''/*@a*/ 1'",
    ],
)
def test_what_stands_in_texts_names_and_comments_is_no_parameter(hidden):
    assert find_placeholders(f"SELECT {hidden}") == {}


@pytest.mark.parametrize(
    ("script", "text"),
    [
        ("SELECT\n/*@rows*/ x", "line 2: /*@rows*/ stands before no literal"),
        ("SELECT /*@rows*/", "stands before no literal"),
        ("SELECT /*@rows*/ 10x", "stands before no literal"),
        ("SELECT /*@two words*/ 1", "'two words' is no name"),
        ("SELECT /*@*/ 1", "is no name"),
        ("SELECT /*@a*/ 1, \n /*@a*/ 2", "line 2: parameter a is 2 here and 1 on line 1"),
    ],
)
def test_a_wrong_marker_is_refused_with_its_line(script, text):
    with pytest.raises(ScriptError, match=text.replace("*", "\\*")):
        find_placeholders(script)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"size": 1}, "no parameter 'size'; it has rows, who"),
        ({"rows": "many"}, "parameter rows of script is a number"),
        ({"who": 3}, "parameter who of script is text"),
        ({"rows": float("nan")}, "is nan"),
        ({"rows": float("inf")}, "is inf"),
        ({"rows": 1 << 63}, "must be below"),
        ({"who": "a\0b"}, "NUL character"),
    ],
)
def test_a_value_that_does_not_go_with_the_script_is_refused(values, text):
    with pytest.raises(SettingsError, match=text):
        fill_placeholders(SCRIPT, values)


def test_values_of_the_command_line():
    words = ["1e3", "1000", "-5", "0.25", "1e-2", "ann", "0x10", "1e400", ""]
    assert [read_value(word) for word in words] == [
        *(1000, 1000, -5, 0.25, 0.01, "ann", "0x10", float("inf"), "")
    ]
    assert [literal(it) for it in (1000, 0.25, "a'b")] == ["1000", "0.25", "'a''b'"]
