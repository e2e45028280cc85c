"""The command line as its users meet it: output, exit statuses, and what bad input leaves."""

import csv
import io
import json
import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
from typer.testing import CliRunner

from sqlstable import __version__, open_trace
from sqlstable.cli import app
from sqlstable.cli.output import Screen
from sqlstable.cli.rows import row_pieces, value_text
from sqlstable.database.library import sqlite_version
from sqlstable.report.json_schema import report_schema
from tests.children import environment, run_child
from tests.golden_files import check_golden

SHOP = """\
--@ label schema
CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT, cents INTEGER);
--@ params items.csv
INSERT INTO item (name, cents) VALUES (?, ?);
--@ label cheapest
SELECT name, cents FROM item ORDER BY cents LIMIT 3;
BEGIN;
UPDATE item SET cents = cents + 1 WHERE id = 2;
COMMIT;
--@ trap
DELETE FROM item;
--@ upgrade
--@ query
DELETE FROM item WHERE id > 1;
SELECT count(*) AS items FROM item;
"""

ENVIRONMENT = environment()

ITEMS = "".join(f"item {number},{number * 37 % 100}\n" for number in range(1, 41))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder to work in, with a script and its rows."""
    monkeypatch.chdir(tmp_path)
    Path("shop.sql").write_text(SHOP)
    Path("items.csv").write_text(ITEMS)
    return tmp_path


def call(*arguments, stdin=None):
    return CliRunner().invoke(app, list(map(str, arguments)), input=stdin)


def run_program(*arguments, **options):
    """Run the real program, with pipes for streams."""
    return run_child("-m", "sqlstable", *arguments, env=ENVIRONMENT, text=False, **options)


def masked(text):
    """Return output without what another release of SQLite changes, as wide as before."""
    return text.replace(sqlite_version(), re.sub(r"\d", "x", sqlite_version()))


def contents(folder):
    """Return all there is in a folder, to be compared with later."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


# -- run ------------------------------------------------------------------------------------------


def test_run_prints_rows_and_a_table_of_what_was_touched(folder):
    result = call("run", "shop.sql", "--rows")
    assert (result.exit_code, result.stderr) == (0, "")
    check_golden("cli_run_rows.txt", masked(result.stdout))


@pytest.mark.parametrize("by", ["shape", "owner", "message"])
def test_run_groups_as_asked(folder, by):
    result = call("run", "shop.sql", "--by", by)
    assert result.exit_code == 0
    check_golden(f"cli_run_by_{by}.txt", masked(result.stdout))


def test_no_line_is_wider_than_100_columns_and_none_has_colour(folder):
    result = call("run", "shop.sql", "--rows")
    assert max(map(len, result.stdout.splitlines())) <= 100
    assert "\x1b" not in result.stdout


def test_json_is_the_only_thing_on_stdout_and_keeps_to_its_schema(folder):
    result = call("run", "shop.sql", "--format", "json", "--trace", "a.trace")
    document = json.loads(result.stdout)
    jsonschema.validate(document, report_schema())
    assert [message["outcome"] for message in document["messages"]] == [
        *("committed", "committed", "committed", "discarded", "committed", "trapped"),
        *("committed", "discarded"),
    ]
    assert document["messages"][-1]["discarded_writes"] is True
    assert result.stderr == ""


def test_csv_is_the_only_thing_on_stdout(folder):
    result = call("run", "shop.sql", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert len({len(row) for row in rows}) == 1
    assert rows[0]["sql"].startswith("CREATE TABLE item")
    assert result.stderr == ""


def test_data_stays_pure_when_the_run_fails(folder):
    Path("bad.sql").write_text("CREATE TABLE t (x);\nSELECT nope;\n")
    result = call("run", "bad.sql", "--format", "json")
    document = json.loads(result.stdout)
    jsonschema.validate(document, report_schema())
    assert result.exit_code == 1
    assert document["messages"][-1]["outcome"] == "trapped"
    assert result.stderr == "Error: bad.sql, line 2: no such column: nope; in: SELECT nope\n"


def test_a_failed_run_still_prints_what_it_did(folder):
    Path("bad.sql").write_text("CREATE TABLE t (x);\nINSERT INTO t VALUES (1;\n")
    result = call("run", "bad.sql")
    assert result.exit_code == 1
    assert "CREATE TABLE t (x)" in result.stdout
    assert "trapped, rolled back" in result.stdout
    assert "bad.sql, line 2" in result.stderr


def test_a_script_can_come_from_stdin(folder):
    result = call("run", "-", "--rows", stdin="SELECT 42 AS answer;")
    assert result.exit_code == 0
    assert "answer" in result.stdout
    failed = call("run", "-", stdin="SELECT\n\nnope;")
    assert (failed.exit_code, failed.stderr[:20]) == (1, "Error: stdin, line 1")


@pytest.mark.parametrize("script", ["", "-- nothing\n", "\ufeff", " ;; "])
def test_a_script_without_statements_says_so(folder, script):
    Path("empty.sql").write_text(script)
    result = call("run", "empty.sql", "--format", "json")
    assert (result.exit_code, result.stderr) == (
        0,
        "Note: empty.sql holds no statements, so nothing was run\n",
    )
    assert len(json.loads(result.stdout)["messages"]) == 1


def test_the_settings_arrive(folder):
    result = call(
        *("run", "shop.sql", "--format", "json", "--layout", "raw", "--page-size", "1024"),
        *("--cache-size", "-64", "--journal-mode", "off", "--limits", "2022-10-11"),
        *("--cache", "fresh"),
    )
    document = json.loads(result.stdout)
    settings = document["settings"]
    assert settings["layout"] == "raw"
    assert (settings["page_size"], settings["cache_size"]) == (1024, 58)
    assert (settings["journal_mode"], settings["limits"]) == ("off", "2022-10-11")
    caches = {message["cache"] for message in document["messages"] if message["kind"] == "query"}
    assert caches == {"fresh"}


def test_limits_can_be_switched_off_and_a_preset_chosen(folder):
    options = ("--limits", "none", "--preset", "ic-sqlite-vfs", "--format", "json")
    settings = json.loads(call("run", "shop.sql", *options).stdout)["settings"]
    assert settings["limits"] is None
    assert (settings["preset"], settings["page_size"]) == ("ic-sqlite-vfs", 16_384)


def test_a_database_is_imported_first_with_sqlite_pages_of_the_size_that_is_asked_for(folder):
    make_database("app.db", page_size=1024)
    before = Path("app.db").read_bytes()
    Path("ask.sql").write_text("SELECT x FROM t; UPDATE t SET x = 8;")
    result = call(
        *("run", "ask.sql", "--database", "app.db", "--page-size", "8192", "--format", "json")
    )
    assert result.exit_code == 0
    assert result.stderr == (
        "Note: app.db has SQLite pages of 1024 bytes, and its copy of 8192; rowids without an "
        "INTEGER PRIMARY KEY may be others there\n"
    )
    assert json.loads(result.stdout)["settings"]["page_size"] == 8192
    assert Path("app.db").read_bytes() == before


def test_the_trace_is_kept_and_an_old_one_only_replaced_by_force(folder):
    first = call("run", "shop.sql", "--trace", "run.trace")
    assert first.exit_code == 0
    assert "sqlstable report run.trace" in first.stderr
    with open_trace("run.trace") as trace:
        assert trace.settings["closed"] is True
        assert len(trace.messages) == 8
    before = contents(folder)
    again = call("run", "shop.sql", "--trace", "run.trace")
    assert (again.exit_code, again.stdout) == (2, "")
    assert "--force" in again.stderr
    assert contents(folder) == before
    Path("one.sql").write_text("SELECT 1;")
    assert call("run", "one.sql", "--trace", "run.trace", "--force").exit_code == 0
    with open_trace("run.trace") as trace:
        assert len(trace.messages) == 2


def test_only_the_first_rows_of_a_repeated_message_are_printed(folder):
    result = call("run", "-", "--rows", stdin="--@ repeat 3\nSELECT 'seen' AS word;")
    assert result.stdout.count("seen\n") == 1
    assert "line 2 (the first of 3 times): SELECT 'seen' AS word" in result.stdout


def make_database(path, *, page_size=4096):
    with sqlite3.connect(path) as db:
        db.executescript(
            f"PRAGMA page_size = {page_size}; CREATE TABLE t (x); INSERT INTO t VALUES (7)"
        )
    db.close()


# -- report ---------------------------------------------------------------------------------------


@pytest.fixture
def trace(folder):
    """A trace of the shop."""
    assert call("run", "shop.sql", "--trace", "run.trace").exit_code == 0
    return "run.trace"


@pytest.mark.parametrize("by", ["statement", "shape", "owner", "message"])
@pytest.mark.parametrize("form", ["table", "json", "csv"])
def test_a_report_equals_that_of_its_run(trace, form, by):
    options = ("--format", form, "--by", by)
    report = call("report", trace, *options)
    assert report.exit_code == 0
    run = call("run", "shop.sql", "--trace", "other.trace", *options)
    assert report.stdout == run.stdout


def test_a_comparison_says_what_became_better(trace):
    changed = SHOP.replace(
        "--@ label cheap", "CREATE INDEX price ON item (cents);\n--@ label cheap"
    )
    Path("changed.sql").write_text(changed)
    assert call("run", "changed.sql", "--trace", "later.trace").exit_code == 0
    table = call("report", trace, "--compare", "later.trace")
    assert table.stdout.startswith("before: run.trace\nafter:  later.trace\n")
    check_golden("cli_report_compare.txt", masked(table.stdout))
    document = json.loads(
        call("report", trace, "--compare", "later.trace", "--format", "json").stdout
    )
    assert document["format"] == "sqlstable-comparison"
    assert document["changes"]["added"] == 1
    sheet = call("report", trace, "--compare", "later.trace", "--format", "csv").stdout
    assert len(list(csv.DictReader(io.StringIO(sheet)))) == len(document["statements"])


def test_accesses_are_exported(trace):
    result = call("report", trace, "--export", "accesses")
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert {row["kind"] for row in rows} >= {"read", "write", "grow"}


def test_a_report_changes_nothing(trace, folder):
    before = contents(folder)
    for options in ((), ("--by", "owner"), ("--export", "accesses"), ("--compare", trace)):
        assert call("report", trace, *options).exit_code == 0
    assert contents(folder) == before


# -- bad input ------------------------------------------------------------------------------------


@pytest.fixture
def bad_folder(folder):
    """A folder full of files that are not what they are taken for."""
    make_database("app.db")
    assert call("run", "shop.sql", "--trace", "old.trace").exit_code == 0
    files = {
        "nul.sql": b"SELECT 1;\n\0",
        "binary.sql": b"SELECT '\xff\xfe';",
        "unclosed.sql": b"SELECT 1;\nSELECT 'abc",
        "directive.sql": b"SELECT 1;\n--@ nonsense\n",
        "dangling.sql": b"SELECT 1;\n--@ repeat 3\n",
        "shell.sql": b".tables\n",
        "no_rows.sql": b"--@ params missing.csv\nSELECT ?;\n",
        "cut.db": Path("app.db").read_bytes()[:5000],
        "garbled.db": Path("app.db").read_bytes()[:4096] + b"\xff" * 4096,
        "random.db": bytes(range(256)) * 20,
        "cut.trace": Path("old.trace").read_bytes()[:20_000],
        "newer.trace": newer_trace(Path("old.trace").read_bytes()),
    }
    for name, data in files.items():
        Path(name).write_bytes(data)
    Path("sub").mkdir()
    return folder


def newer_trace(data):
    return data[:60] + (99).to_bytes(4, "big") + data[64:]


BAD_SCRIPTS = {
    "missing.sql": "there is no file missing.sql",
    "sub": "sub is a folder",
    "nul.sql": "nul.sql, line 2: there is a NUL character",
    "binary.sql": "binary.sql, line 1: byte 0xff is not UTF-8",
    "app.db": "app.db is a SQLite file, not a script",
    "old.trace": "old.trace is a SQLite file, not a script",
    "unclosed.sql": "unclosed.sql, line 2",
    "directive.sql": "directive.sql, line 2: --@ nonsense is not a directive",
    "dangling.sql": "dangling.sql, line 2: nothing follows --@ repeat",
    "shell.sql": "shell.sql, line 1: .tables is a command of the sqlite3 shell",
    "no_rows.sql": "no_rows.sql, line 1: --@ params missing.csv: cannot be read",
    "x" * 300: "cannot be read: File name too long",
}

BAD_OPTIONS = {
    ("--layout", "stacked"): "layout is 'stacked'; it must be one of managed, raw",
    ("--preset", "mysql"): "no preset is named 'mysql'",
    ("--page-size", "1000"): "page_size is 1000",
    ("--page-size", "0"): "page_size is 0",
    ("--page-size", "131072"): "page_size is 131072",
    ("--page-size", "big"): "--page-size",
    ("--cache-size", "0"): "cache_size is 0",
    ("--cache-size", "99999999999"): "cache_size is 99999999999",
    ("--journal-mode", "wal"): "journal_mode wal is not available: no canister has",
    ("--layout", "raw", "--journal-mode", "wal"): "journal_mode wal is not available",
    ("--layout", "raw", "--preset", "ic-rusqlite"): "journal_mode persist",
    ("--growth", "quickly"): "growth is 'quickly'",
    ("--durability", "power"): "--durability concerns an image file",
    ("--journal-mode", "paper"): "journal_mode is 'paper'",
    ("--limits", "2020-12-31"): "the earliest date is 2021-05-10",
    ("--limits", "soon"): "'soon' is not a date",
    ("--limits", ""): "is not a date",
    ("--cache", "hot"): "'hot' is not one of",
    ("--format", "xml"): "'xml' is not one of",
    ("--by", "day"): "'day' is not one of",
    ("--rows", "--format", "json"): "--rows does not go with --format json",
    ("--rows", "--format", "csv"): "--rows does not go with --format csv",
    ("--database", "missing.db"): "missing.db is not a file",
    ("--database", "sub"): "sub is not a file",
    ("--database", "shop.sql"): "shop.sql is not a SQLite database",
    ("--database", "random.db"): "random.db is not a SQLite database",
    ("--database", "cut.db"): "cut.db is truncated",
    ("--database", "garbled.db"): "garbled.db",
    ("--trace", "old.trace"): "old.trace exists already",
    ("--trace", "sub"): "sub is a folder; give the path of a file",
    ("--trace", "sub", "--force"): "sub",
    ("--trace", "shop.sql", "--force"): "shop.sql exists and is not a trace",
    ("--trace", "app.db", "--force"): "app.db exists and is not a trace",
    ("--trace", "missing/new.trace"): "missing/new.trace cannot be written",
    ("--nonsense",): "--nonsense",
    ("another.sql",): "another.sql",
}

BAD_REPORTS = {
    ("missing.trace",): "there is no trace file missing.trace",
    ("sub",): "sub is a folder; give the path of a file",
    ("shop.sql",): "shop.sql is not a trace",
    ("app.db",): "app.db is a SQLite database but not a trace",
    ("newer.trace",): "newer.trace has trace format version 99",
    ("cut.trace",): "cut.trace is damaged",
    ("old.trace", "--compare", "missing.trace"): "there is no trace file missing.trace",
    ("old.trace", "--compare", "cut.trace"): "cut.trace is damaged",
    ("old.trace", "--compare", "old.trace", "--by", "owner"): "--by owner",
    ("old.trace", "--compare", "old.trace", "--export", "accesses"): "do not go together",
    ("old.trace", "--export", "accesses", "--format", "json"): "--export accesses writes CSV",
    ("old.trace", "--export", "plans"): "'plans' is not",
    ("old.trace", "--by", "day"): "'day' is not one of",
    (): "Missing argument",
}


def assert_refused(result, folder, before, reason):
    """Assert a usage error: a reason, no data, no traceback, and nothing changed."""
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert "Error: " in result.stderr
    assert reason in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr
    assert contents(folder) == before


@pytest.mark.parametrize(("script", "reason"), BAD_SCRIPTS.items(), ids=lambda text: text[:20])
def test_a_bad_script_is_refused_and_changes_nothing(bad_folder, script, reason):
    before = contents(bad_folder)
    result = call("run", script, "--trace", "new.trace")
    assert_refused(result, bad_folder, before, reason)
    result = call("run", script, "--trace", "old.trace", "--force")
    assert_refused(result, bad_folder, before, reason)


@pytest.mark.parametrize(("options", "reason"), BAD_OPTIONS.items(), ids=str)
def test_a_bad_option_is_refused_and_changes_nothing(bad_folder, options, reason):
    before = contents(bad_folder)
    assert_refused(call("run", "shop.sql", *options), bad_folder, before, reason)
    if "--trace" not in options:
        traced = call("run", "shop.sql", *options, "--trace", "old.trace", "--force")
        assert_refused(traced, bad_folder, before, reason)


@pytest.mark.parametrize(("arguments", "reason"), BAD_REPORTS.items(), ids=str)
def test_a_bad_trace_is_refused_and_changes_nothing(bad_folder, arguments, reason):
    before = contents(bad_folder)
    assert_refused(call("report", *arguments), bad_folder, before, reason)


@pytest.mark.skipif(os.name == "nt" or not hasattr(os, "geteuid"), reason="needs permissions")
def test_files_that_may_not_be_read_are_refused(bad_folder):
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    for name in ("shop.sql", "app.db", "old.trace"):
        Path(name).chmod(0)
    assert "cannot be read: Permission denied" in call("run", "shop.sql").stderr
    assert call("run", "-", "--database", "app.db", stdin="SELECT 1;").exit_code == 2
    assert call("report", "old.trace").exit_code == 2


def test_an_unknown_command_is_refused(folder):
    result = call("fly")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "No such command 'fly'" in result.stderr


@pytest.mark.parametrize("position", range(100, 24_000, 1_700))
def test_a_damaged_trace_never_shows_a_traceback(trace, position):
    data = bytearray(Path(trace).read_bytes())
    data[position : position + 60] = b"\xff" * 60
    Path("damaged.trace").write_bytes(data)
    for options in ((), ("--by", "owner"), ("--format", "json"), ("--export", "accesses")):
        result = call("report", "damaged.trace", *options)
        assert result.exit_code in (0, 2), result.exception
        if result.exit_code == 2:
            assert "damaged.trace" in result.stderr


def test_what_a_statement_holds_cannot_reach_the_terminal(folder):
    result = call("run", "-", "--rows", stdin="SELECT '\x1b[31m', nope -- \x1b[2J\n;")
    assert result.exit_code == 1
    assert "\x1b" not in result.stdout + result.stderr
    result = call("run", "-", "--rows", stdin="SELECT '\x1b[31m' AS '\x1b[2J';")
    assert result.exit_code == 0
    assert "\x1b" not in result.stdout
    assert r"\x1b[31m" in result.stdout


# -- rows -----------------------------------------------------------------------------------------


def test_wide_rows_are_shortened_to_fit():
    rows = [
        (1, "x" * 500, None, b"\x00\x01" * 400),
        (22, "東京都" * 100, 1.5, b""),
        (-3, "NULL", 2e300, b"\xff"),
    ]
    text = "".join(
        row_pieces("line 1: SELECT *", ("id", "text", "real", "blob"), rows, Screen(100, None))
    )
    check_golden("cli_rows_wide.txt", text)


def test_more_columns_than_fit_become_a_list():
    columns = tuple(f"column_{number}" for number in range(30))
    row = tuple(f"value {number} " + "y" * number * 5 for number in range(30))
    text = "".join(row_pieces("line 1: SELECT *", columns, [row], Screen(80, None)))
    check_golden("cli_rows_list.txt", text)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "NULL"),
        ("NULL", "'NULL'"),
        ("null", "'null'"),
        ("", "''"),
        (" padded", "' padded'"),
        ("x'00'", "'x'00''"),
        (b"", "x''"),
        (b"\x0a\xff", "x'0aff'"),
        ("two\nlines", r"two\nlines"),
        ("tab\tbell\x07", r"tab\tbell\x07"),
        ("turned \u202e round", r"turned \u202e round"),
        (-0.5, "-0.5"),
        (2**63 - 1, "9223372036854775807"),
        ("日本", "日本"),
    ],
)
def test_values_are_shown_as_what_they_are(value, shown):
    assert value_text(value) == shown


# -- the program ----------------------------------------------------------------------------------


def test_the_version_is_that_of_the_package():
    result = call("--version")
    assert (result.exit_code, result.stdout) == (
        0,
        f"sqlstable {__version__} (SQLite {sqlite_version()})\n",
    )


def test_without_a_command_the_help_is_shown():
    result = call()
    assert result.exit_code == 0
    for command in ("demo", "run", "report", "import", "extract"):
        assert re.search(rf"^  {command}  ", result.stdout, re.MULTILINE)


def test_the_help_names_every_option():
    text = call("run", "--help").stdout
    for option in (
        *("--database", "--layout", "--preset", "--page-size", "--cache-size", "--journal-mode"),
        *("--limits", "--cache", "--trace", "--force", "--rows", "--format", "--by"),
        *("--image", "--durability", "--growth"),
    ):
        assert option in text
    text = call("import", "--help").stdout
    for option in ("--layout", "--preset", "--growth", "--limits", "--durability", "--force"):
        assert option in text
    text = call("extract", "--help").stdout
    for option in ("--name", "--layout", "--force"):
        assert option in text
    text = call("report", "--help").stdout
    for option in ("--compare", "--export", "--format", "--by"):
        assert option in text


@pytest.mark.slow
def test_the_program_runs_as_a_module(folder):
    result = run_program("run", "shop.sql", "--rows")
    assert (result.returncode, result.stderr) == (0, b"")
    assert result.stdout.decode() == call("run", "shop.sql", "--rows").stdout


@pytest.mark.slow
@pytest.mark.parametrize("form", ["json", "table"])
def test_a_closed_pipe_is_no_error(folder, form):
    assert run_into_closed_pipe("run", "shop.sql", "--format", form) == (0, b"")


@pytest.mark.slow
@pytest.mark.parametrize("repeat", [1, 300])
def test_a_failed_run_says_so_into_a_closed_pipe(folder, repeat):
    Path("bad.sql").write_text(f"--@ repeat {repeat}\nSELECT 1;\nSELECT nope;")
    status, stderr = run_into_closed_pipe("run", "bad.sql", "--format", "csv")
    assert (status, stderr) == (
        1,
        b"Error: bad.sql, line 3: no such column: nope; in: SELECT nope\n",
    )


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("run", "--help")])
def test_a_closed_pipe_is_no_error_for_what_comes_before_a_command(arguments):
    assert run_into_closed_pipe(*arguments) == (0, b"")


def run_into_closed_pipe(*arguments):
    with subprocess.Popen(
        [sys.executable, "-m", "sqlstable", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=ENVIRONMENT,
    ) as program:
        program.stdout.close()
        stderr = program.stderr.read()
    return program.returncode, stderr


@pytest.mark.slow
def test_an_error_comes_behind_what_was_printed_before(folder):
    Path("bad.sql").write_text("SELECT nope;")
    result = run_merged("run", "bad.sql")
    assert result.endswith("Error: bad.sql, line 1: no such column: nope; in: SELECT nope\n")


def run_merged(*arguments):
    """Return both streams of the program as they arrive in one place."""
    merged = {"capture_output": False, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return run_child("-m", "sqlstable", *arguments, env=ENVIRONMENT, **merged).stdout


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_an_error(folder):
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(
            [sys.executable, "-m", "sqlstable", "run", "shop.sql"],
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
            env=ENVIRONMENT,
        )
    assert (result.returncode, result.stderr) == (
        1,
        b"Error: the output cannot be written: No space left on device\n",
    )


@pytest.mark.slow
def test_a_terminal_without_the_characters_gets_others(folder):
    result = subprocess.run(
        [sys.executable, "-m", "sqlstable", "run", "shop.sql"],
        capture_output=True,
        check=False,
        env={**ENVIRONMENT, "PYTHONIOENCODING": "ascii"},
    )
    assert (result.returncode, result.stderr) == (0, b"")
    assert result.stdout.isascii()
