"""Parameters of a script from a CSV file, and what of it is refused."""

import csv
from pathlib import Path
from sqlite3 import complete_statement

import pytest

from sqlstable.errors import ScriptError
from sqlstable.workload.script import parse_script


def cut(text, **options):
    return parse_script(text, is_complete=complete_statement, **options)


def test_params_are_bound_to_the_next_statement_only(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "my rows.csv").write_text('1,a\n2,"b, ""c""\n;"\n', encoding="utf-8")
    text = "--@ update\nA;\n--@ params sub/my rows.csv\nB;\nC;"
    (step,) = cut(text, base_folder=tmp_path)
    assert [one.params for one in step.statements] == [None, ((1, "a"), (2, 'b, "c"\n;')), None]


def test_params_may_stand_above_the_message_and_other_directives(tmp_path):
    (tmp_path / "rows.csv").write_text("1\n", encoding="utf-8")
    text = "--@ params rows.csv\n--@ label a\n--@ upgrade\n--@ update\nA;"
    _, step = cut(text, base_folder=tmp_path)
    assert step.statements[0].params == ((1,),)


def test_params_are_relative_to_the_current_folder_when_nothing_is_said(tmp_path, monkeypatch):
    (tmp_path / "rows.csv").write_text("1\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert cut("--@ params rows.csv\nA;")[0].statements[0].params == ((1,),)
    monkeypatch.chdir(Path(tmp_path.root))
    absolute = cut(f"--@ params {tmp_path / 'rows.csv'}\nA;")
    assert absolute[0].statements[0].params == ((1,),)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("", None),
        ('""', None),
        ("0", 0),
        ("-12", -12),
        ("9223372036854775807", 2**63 - 1),
        ("-9223372036854775808", -(2**63)),
        ("9223372036854775808", "9223372036854775808"),
        ("-9223372036854775809", "-9223372036854775809"),
        ("9" * 5000, "9" * 5000),
        ("0.5", 0.5),
        (".5", 0.5),
        ("-.5", -0.5),
        ("-1.25e-3", -0.00125),
        ("1e3", 1000.0),
        ("1e999", "1e999"),
        ("007", "007"),
        ("00.5", "00.5"),
        ("-0", "-0"),
        ("+1", "+1"),
        ("1.", "1."),
        (".", "."),
        ("-", "-"),
        (" 1", " 1"),
        ("1_000", "1_000"),
        ("0x10", "0x10"),
        ("nan", "nan"),
        ("inf", "inf"),
        ("NULL", "NULL"),
        ("٣", "٣"),
        ("é漢", "é漢"),
        ('"a\r\nb"', "a\r\nb"),
    ],
)
def test_fields_become_the_values_they_look_like(tmp_path, written, expected):
    (tmp_path / "rows.csv").write_text(f"{written},x\r\n", encoding="utf-8", newline="")
    (step,) = cut("--@ params rows.csv\nA;", base_folder=tmp_path)
    ((value, rest),) = step.statements[0].params
    assert (type(value), value, rest) == (type(expected), expected, "x")


def test_a_csv_file_may_begin_with_a_byte_order_mark(tmp_path):
    (tmp_path / "rows.csv").write_bytes(b"\xef\xbb\xbf1")
    (step,) = cut("--@ params rows.csv\nA;", base_folder=tmp_path)
    assert step.statements[0].params == ((1,),)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(None, "cannot be read: No such file", id="missing"),
        pytest.param(b"", "has no rows", id="empty"),
        pytest.param(b"\xef\xbb\xbf", "has no rows", id="byte order mark alone"),
        pytest.param(
            b"1,2\n3\n",
            "line 2 has another number of fields than the first row, 1 instead of 2",
            id="ragged",
        ),
        pytest.param(
            b'1,"a\nb"\n3,4,5\n',
            "line 3 has another number of fields than the first row, 3 instead of 2",
            id="ragged after a break",
        ),
        pytest.param(b"1\n\n2\n", "line 2 is blank", id="blank line"),
        pytest.param(b"1\n\n", "line 2 is blank", id="blank line at the end"),
        pytest.param(b'1\n"a', "line 2 is not CSV", id="unclosed quote"),
        pytest.param(b'1\n"a"b\n', "line 2 is not CSV", id="text behind a quote"),
        pytest.param(b"\xff\n", "is not UTF-8", id="bytes"),
    ],
)
def test_bad_csv_is_refused(tmp_path, content, words):
    if content is not None:
        (tmp_path / "rows.csv").write_bytes(content)
    with pytest.raises(ScriptError) as caught:
        cut("A;\n--@ params rows.csv\nB;", base_folder=tmp_path, name="work.sql")
    assert str(caught.value).startswith("work.sql, line 2: --@ params rows.csv: ")
    assert words in str(caught.value)


def test_a_folder_is_no_csv_file(tmp_path):
    with pytest.raises(ScriptError, match="cannot be read"):
        cut("--@ params .\nA;", base_folder=tmp_path)


def bound(folder, sql, content):
    (folder / "rows.csv").write_text(content)
    (step,) = cut(f"--@ params rows.csv\n{sql};", base_folder=folder)
    return step.statements[0].params


def test_a_heading_names_named_parameters_in_any_order_and_may_have_more(tmp_path):
    content = "note,b,:a\nx,1,2\ny,3,\n"
    sql = "INSERT INTO t VALUES (:a, $b, :a, ':c', [:d], \"@e\", a$f) -- :g"
    assert bound(tmp_path, sql, content) == ((2, 1), (None, 3))
    assert bound(tmp_path, "SELECT @b", content) == ((1,), (3,))


def test_a_question_mark_takes_every_line_as_data_whatever_it_looks_like(tmp_path):
    sql = "INSERT INTO t (a, b) VALUES (?, ?2) -- :a"
    assert bound(tmp_path, sql, "a,b\n1,2\n") == (("a", "b"), (1, 2))


@pytest.mark.parametrize(
    ("sql", "content", "reason"),
    [
        ("SELECT :a, :b", "a,c\n1,2\n", ":b is there 0 times; it has 'a', 'c'"),
        ("SELECT :a", "1\n2\n", ":a is there 0 times; it has '1'. Write a heading, or \\?"),
        ("SELECT :a", "a,:a\n1,2\n", ":a is there 2 times"),
        ("SELECT :a, ?", "a,b\n1,2\n", "has both \\? and :a"),
        ("SELECT :a", "a\n", "has no rows"),
        ("SELECT :a", "", "has no rows"),
        ("SELECT :a", "a\n1,2\n", "line 2 has another number of fields"),
    ],
)
def test_a_heading_that_does_not_fit_the_statement_is_refused(tmp_path, sql, content, reason):
    with pytest.raises(ScriptError, match=reason):
        bound(tmp_path, sql, content)


def test_a_field_may_be_as_long_as_sqlite_takes_it_and_python_keeps_its_own_bound(tmp_path):
    before = csv.field_size_limit()
    assert bound(tmp_path, "SELECT ?", "x" * (before + 1)) == (("x" * (before + 1),),)
    assert csv.field_size_limit() == before
