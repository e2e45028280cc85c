"""``sqlstable scale`` as its users meet it: reports, files of results, and bad input."""

import csv
import io
import json
import sqlite3
from pathlib import Path

import pytest

from sqlstable.cli import many_runs
from tests.test_cli import call

SCRIPT = """\
CREATE TABLE t (id INTEGER PRIMARY KEY, body TEXT);
--@ label fill
WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < /*@rows*/ 100)
INSERT INTO t (body) SELECT printf('row %020d', n) FROM c;
SELECT count(*) FROM t WHERE body LIKE '%7';
"""

SIZES = ("--param", "rows=100,300,1e3,3e3", "--workers", 1)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("work.sql").write_text(SCRIPT)
    return tmp_path


def test_a_report_has_sizes_exponents_and_a_check():
    result = call("scale", "work.sql", *SIZES)
    assert result.exit_code == 0, result.stderr
    text = " ".join(result.stdout.split())
    assert "rows: 100 · 300 · 1,000 · 3,000" in text
    assert "checked by a real run at 9,000, 3.0 times the largest size: 15 of 15" in text
    assert "engine native" in text


def test_json_and_csv_have_every_series():
    found = json.loads(call("scale", "work.sql", *SIZES, "--format", "json").stdout)
    assert (found["format"], found["version"]) == ("sqlstable-scale", 1)
    assert found["sizes"] == [100, 300, 1000, 3000]
    assert found["statements"][2]["measures"]["os_pages_accessed"]["values"][-1] > 10
    assert found["settings"]["engine"] == "native"
    rows = list(
        csv.DictReader(
            io.StringIO(
                call("scale", "work.sql", *SIZES, "--format", "csv", "--check", "none").stdout
            )
        )
    )
    assert [row["measure"] for row in rows[:3]] == [
        *("os_pages_accessed", "os_pages_dirty", "used_bytes")
    ]
    assert rows[0]["check_size"] == ""
    assert rows[0]["sizes"] == "100 300 1000 3000"


def test_equal_commands_write_equal_bytes_and_go_on_from_their_results(monkeypatch):
    first = call("scale", "work.sql", *SIZES, "--results", "r.sqlite")
    assert first.exit_code == 0
    monkeypatch.setattr(many_runs, "carry_out", lambda *_, **__: None)
    second = call("scale", "work.sql", *SIZES, "--results", "r.sqlite")
    assert second.stdout == first.stdout
    assert "5 of 5 runs are in r.sqlite already" in second.stderr
    connection = sqlite3.connect("r.sqlite")
    rows = "SELECT json_extract(parameters, '$.rows') FROM run ORDER BY run_index"
    assert connection.execute(rows).fetchall() == [(100,), (300,), (1000,), (3000,), (9000,)]
    connection.close()


def test_an_interrupted_command_reports_what_it_has_and_how_to_go_on(monkeypatch):
    whole = many_runs.carry_out

    def cut_off(specs, results, crew, **options):
        whole(specs[:3], results, crew)
        raise KeyboardInterrupt

    monkeypatch.setattr(many_runs, "carry_out", cut_off)
    result = call("scale", "work.sql", *SIZES, "--results", "r.sqlite")
    assert result.exit_code == 130
    assert "rows: 100 · 300 · 1,000" in result.stdout
    assert "interrupted after 3 of 5 runs; the same command goes on" in result.stderr


@pytest.mark.slow
def test_the_wasm_engine_tells_where_instructions_meet_their_limit():
    found = json.loads(
        call("scale", "work.sql", *SIZES, "--engine", "wasm", "--format", "json").stdout
    )
    limits = {it["limit"] for it in found["limits"]}
    assert "instructions" in limits
    assert all(it["size_low"] <= it["size"] for it in found["limits"])
    rows = {it["measure"] for it in found["check"]["predictions"]}
    assert "instructions" in rows


def test_a_script_that_fails_at_one_size_is_reported_with_the_sizes_that_ran():
    Path("fails.sql").write_text(
        SCRIPT + "CREATE TABLE u (x CHECK (x < 2000)); INSERT INTO u VALUES (/*@rows*/ 100);"
    )
    result = call("scale", "fails.sql", *SIZES, "--check", "none")
    assert result.exit_code == 1
    assert "Error: the script failed at rows 3000: fails.sql, line 6: CHECK" in result.stderr
    assert "at 3,000 the script failed" in result.stdout
    assert result.stdout.count("n^") >= 1


def test_a_database_is_imported_first_and_csv_files_are_read():
    connection = sqlite3.connect("app.db")
    connection.executescript("CREATE TABLE old (x); INSERT INTO old VALUES (1)")
    connection.close()
    Path("rows.csv").write_text("1\n2\n")
    Path("use.sql").write_text(
        "--@ params rows.csv\nINSERT INTO old VALUES (?);\n"
        "SELECT count(*) FROM old WHERE x < /*@limit*/ 3;"
    )
    result = call(
        *("scale", "use.sql", "--param", "limit=1,2,3", "--database", "app.db", "--workers", 1)
    )
    assert result.exit_code == 0, result.stderr
    assert "not at all" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((), "no parameter has several; the script has rows"),
        (("--param", "rows=5"), "no parameter has several"),
        (("--param", "rows=1,2", "--param", "rows=3"), "stands there twice"),
        (("--param", "rows"), "is not NAME=VALUE"),
        (("--param", "rows="), "is not NAME=VALUE"),
        (("--param", "rows=1,,2"), "is not NAME=VALUE"),
        (("--param", "rows=1e3,1000"), "has a value twice"),
        (("--param", "size=1,2"), "no parameter 'size'; it has rows"),
        (("--param", "rows=1,-5"), "'-5' is no size"),
        (("--param", "rows=0,5"), "'0' is no size"),
        (("--param", "rows=nan,5"), "is a number, and 'nan' is none"),
        (("--param", "rows=1,1e17"), "is no size"),
        (("--param", "rows=1,1e400"), "must be below 2^63"),
        (("--param", "rows=1,many"), "is a number, and 'many' is none"),
        ((*SIZES, "--check", "100"), "is not beyond the largest size"),
        ((*SIZES, "--check", "x"), "is no size"),
        ((*SIZES, "--layout", "raw", "--journal-mode", "persist"), "room for the database only"),
        ((*SIZES, "--page-size", "1000"), "must be a power of two"),
        ((*SIZES, "--build", "lean"), "concerns the wasm engine"),
        ((*SIZES, "--limits", "none", "--no-enforce"), "leaves none"),
        ((*SIZES, "--database", "none.db"), "none.db"),
        ((*SIZES, "--database", "work.sql"), "work.sql"),
        ((*SIZES, "--results", "work.sql"), "no file of results, or damaged"),
        ((*SIZES, "--results", "."), "is a folder"),
        ((*SIZES, "--dask", "tcp://127.0.0.1:9"), "--workers and --dask do not go together"),
        (("--param", "rows=1,2,3", "--workers", "0"), "workers is 0"),
    ],
)
def test_bad_input_is_refused_and_nothing_is_written(folder, arguments, text):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    result = call("scale", "work.sql", *arguments)
    assert result.exit_code == 2, result.output
    assert text in result.stderr
    assert "Traceback" not in result.output
    assert result.stdout == ""
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize(
    ("script", "text"),
    [
        ("", "holds no statements"),
        ("SELECT /*@rows*/ x", "stands before no literal"),
        ("SELECT /*@rows*/ 1, /*@rows*/ 2", "give it one default"),
        ("SELECT 'open", "never closes"),
    ],
)
def test_a_script_that_cannot_be_used_is_refused(script, text):
    Path("bad.sql").write_text(script)
    result = call("scale", "bad.sql", "--param", "rows=1,2,3")
    assert result.exit_code == 2
    assert text in result.stderr
