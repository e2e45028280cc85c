"""``sqlstable check``: what it runs, tells and keeps, and how a CI job meets it."""

import json
import sqlite3
from pathlib import Path

import pytest

from sqlstable import Canister
from tests.test_cli import call, contents

SCRIPT = """\
CREATE TABLE note (id INTEGER PRIMARY KEY, author INTEGER, body TEXT);
CREATE INDEX note_author ON note (author);
--@ label load
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)
INSERT INTO note SELECT i, i % 300, 'note ' || i FROM n;
--@ label notes of an author
SELECT body FROM note WHERE author = 42;
"""

BUDGET = """\
[label."notes of an author"]
os_pages_accessed = 15
no_scan = true

[each_message]
limit = { os_pages_accessed = "1%" }
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("w.sql").write_text(SCRIPT)
    Path("slow.sql").write_text(SCRIPT.replace("CREATE INDEX note_author ON note (author);", ""))
    Path("b.toml").write_text(BUDGET)
    return tmp_path


def checked(*arguments, status=0):
    done = call("check", *arguments)
    assert done.exit_code == status, (done.stdout, done.stderr)
    return done


def test_an_index_that_is_dropped_fails_the_job_and_is_told_with_statement_and_table(folder):
    assert "3 budgets kept" in checked("w.sql", "--budget", "b.toml").stdout
    done = checked("slow.sql", "--budget", "b.toml", "--markdown", "summary.md", status=1)
    assert (
        "Error: 2 of 3 budgets not kept; the worst: notes of an author: scans note" in done.stderr
    )
    for text in (done.stdout, Path("summary.md").read_text()):
        assert "scans note, and may not in message 3 (query)" in text
        assert "SELECT body FROM note WHERE author = 42" in text
        assert "goes through all of note (SCAN note)" in text
        assert "whose OS pages: note " in text


def test_a_file_that_is_called_a_trace_and_is_none_is_no_script(folder):
    Path("cut.trace").touch()
    done = checked("cut.trace", "--budget", "b.toml", status=2)
    assert "cut.trace is not a trace" in done.stderr


def test_a_trace_is_held_to_the_same_as_a_run(folder):
    assert call("run", "slow.sql", "--trace", "slow.trace").exit_code == 0
    data = json.loads(
        checked("slow.trace", "--budget", "b.toml", "--format", "json", status=1).stdout
    )
    assert data["passed"] is False
    assert [it["kept"] for it in data["budgets"]] == [False, False, True]
    run = json.loads(checked("slow.sql", "--budget", "b.toml", "--format", "json", status=1).stdout)
    assert run["budgets"] == data["budgets"]
    assert data["budgets"][1]["scans"] == [
        {"table": "note", "plan": "SCAN note", "sql": "SELECT body FROM note WHERE author = 42"}
    ]


@pytest.fixture(scope="module")
def priced(tmp_path_factory):
    """Return a trace of the wasm engine, of one update."""
    path = tmp_path_factory.mktemp("priced") / "w.trace"
    with (
        Canister(engine="wasm", trace=path) as canister,
        canister.message("update", label="make") as sent,
    ):
        sent.execute("CREATE TABLE t (a)")
    return path


def spent_of(trace, *options, budget="b.toml"):
    """Return the instructions of a trace as its report and a check have them."""
    report = json.loads(call("report", trace, "--format", "json", *options).stdout)
    (found,) = report["messages"][-1:]
    text = checked(trace, "--budget", budget, "--format", "json", *options).stdout
    data = json.loads(text)
    return found["instructions"]["total"], data["budgets"][0]["measured"], data["settings"]


PRICED = "[label.make]\ninstructions = 900_000_000\n"


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--prices", "wasm-native"),
        ("--prices", "2022-12-01"),
        ("--assume", "stable-write-charges=once"),
        ("--prices", "wasm-native", "--assume", "heap-dirty-unit=whole-region"),
    ],
)
def test_a_trace_is_held_to_budgets_under_other_prices_as_a_report_shows_them(
    folder, priced, options
):
    Path("b.toml").write_text(PRICED)
    report, check, settings = spent_of(priced, *options)
    assert report == check
    if options:
        assert check != spent_of(priced)[1]
        text = " ".join(checked(priced, "--budget", "b.toml", *options).stdout.split())
        assert f"prices {settings['price_regime']}" in text
        if "--assume" in options:
            assert f"assumed {options[-1].replace('=', ' ')}" in text


def test_the_budget_file_names_prices_and_limits_of_a_trace_and_options_come_first(folder, priced):
    Path("file.toml").write_text("prices = 'wasm-native'\nlimits = '2024-01-01'\n" + PRICED)
    Path("b.toml").write_text(PRICED)
    _, there, settings = spent_of(priced, budget="file.toml")
    assert there == spent_of(priced, "--prices", "wasm-native")[1]
    assert settings["limits"] == "2024-01-01"
    assert (
        spent_of(priced, "--prices", "memory-tracker", budget="file.toml")[1]
        == (spent_of(priced)[1])
    )


@pytest.mark.slow
def test_a_script_runs_under_the_prices_as_a_trace_of_it_is_repriced(folder):
    Path("b.toml").write_text(PRICED.replace("make", "load"))
    options = ("--budget", "b.toml", "--prices", "wasm-native", "--format", "json")
    assert call("run", "w.sql", "--engine", "wasm", "--trace", "w.trace").exit_code == 0
    run, trace = (json.loads(checked(it, *options).stdout) for it in ("w.sql", "w.trace"))
    assert run["budgets"] == trace["budgets"]
    assert run["settings"]["price_regime"] == "wasm-native"


def test_a_baseline_under_other_prices_is_refused(folder, priced):
    checked(priced, "--baseline", "b.json", "--update-baseline")
    done = checked(priced, "--baseline", "b.json", "--prices", "wasm-native", status=2)
    assert "price_regime memory-tracker there, wasm-native here" in done.stderr
    # Limits change no count.
    passed = checked(priced, "--baseline", "b.json", "--limits", "2026-07-15").stdout
    assert "did not change" in passed


def test_a_baseline_is_made_kept_and_compared(folder):
    native = ("--engine", "native", "--baseline", "b.json")
    done = checked("w.sql", *native, "--update-baseline")
    assert "the baseline is in b.json, with 5 entries" in done.stderr
    kept = Path("b.json").read_bytes()
    # No engine is named: it is that of the baseline.
    assert "5 entries did not change" in checked("w.sql", "--baseline", "b.json").stdout
    slower = checked("slow.sql", "--baseline", "b.json", status=1)
    assert "regressed: scans note" in slower.stdout
    assert "; the worst: notes of an author: scans note, and did not before; and " in slower.stderr
    assert "gone" in slower.stdout
    assert Path("b.json").read_bytes() == kept
    # Whoever means it keeps the new numbers, sees what changed, and gets the same file twice.
    assert "regressed by" in checked("slow.sql", *native, "--update-baseline").stdout
    changed = Path("b.json").read_bytes()
    checked("slow.sql", *native, "--update-baseline")
    assert kept != changed == Path("b.json").read_bytes()


def test_a_run_of_nothing_that_the_baseline_has_does_not_pass(folder):
    native = ("--engine", "native", "--baseline", "b.json")
    checked("w.sql", *native, "--update-baseline")
    Path("other.sql").write_text("CREATE TABLE other (a);\n", encoding="utf-8")
    done = checked("other.sql", *native, status=1)
    assert "nothing of the baseline was run" in done.stdout
    Path("none.sql").write_text("-- nothing\n", encoding="utf-8")
    assert "nothing of the baseline was run" in checked("none.sql", *native, status=1).stdout


def test_a_threshold_lets_small_changes_pass(folder):
    checked("w.sql", "--engine", "native", "--baseline", "b.json", "--update-baseline")
    Path("more.sql").write_text(SCRIPT.replace("< 3000", "< 3100"))
    assert "regressed by" in checked("more.sql", "--baseline", "b.json", status=1).stdout
    passed = checked("more.sql", "--baseline", "b.json", "--threshold", "50").stdout
    assert "or by less than 50%" in passed


def test_another_setting_is_no_regression_but_a_refusal(folder):
    checked("w.sql", "--engine", "native", "--baseline", "b.json", "--update-baseline")
    done = checked("w.sql", "--baseline", "b.json", "--page-size", 8192, status=2)
    assert "made under other settings: page_size 4096 there, 8192 here" in done.stderr
    assert done.stdout == ""


@pytest.mark.slow
def test_instructions_ask_for_the_engine_that_counts_them(folder):
    Path("b.toml").write_text("[each_message]\ninstructions = 900_000_000\nlimit = '10%'\n")
    found = json.loads(checked("w.sql", "--budget", "b.toml", "--format", "json").stdout)
    assert found["settings"]["engine"] == "wasm"
    assert found["budgets"][0]["measured"] > 1_000_000
    told = checked("w.sql", "--budget", "b.toml", "--engine", "native", status=2).stderr
    assert "nobody counted instructions of message 0 (install)" in told
    assert told.endswith("; run it with --engine wasm\n")
    # What is kept is kept with instructions.
    checked("w.sql", "--baseline", "w.json", "--update-baseline")
    assert "wasm" in Path("w.json").read_text()
    assert "5 entries did not change" in checked("w.sql", "--baseline", "w.json").stdout


def test_an_image_and_a_database_stay_as_they_are(folder):
    with Canister("app.stable", page_size=1024) as canister:
        canister.update("CREATE TABLE note (id INTEGER PRIMARY KEY, author INTEGER, body TEXT)")
        canister.update("INSERT INTO note VALUES (1, 42, 'one')")
    made = sqlite3.connect("app.db")
    made.executescript("CREATE TABLE note (author, body); INSERT INTO note VALUES (42, 'two')")
    made.close()
    Path("q.sql").write_text(
        "INSERT INTO note (author) VALUES (7);\n--@ label all\nSELECT body FROM note;\n"
    )
    Path("b.toml").write_text("[label.all]\nrows = 2\n")
    before = contents(folder)
    for option in (("--image", "app.stable"), ("--database", "app.db")):
        assert "1 budget kept" in checked("q.sql", "--budget", "b.toml", *option).stdout
    assert contents(folder) == before


def test_a_run_that_fails_is_held_to_nothing(folder):
    Path("bad.sql").write_text(SCRIPT + "SELECT * FROM missing;\n")
    done = checked("bad.sql", "--budget", "b.toml", status=1)
    assert "the run failed, so nothing was checked: bad.sql, line 8: no such table" in done.stderr
    assert done.stdout == ""


def test_the_summary_replaces_its_own_and_nothing_else(folder):
    Path("summary.md").write_text("")
    for _ in range(2):
        checked("w.sql", "--budget", "b.toml", "--markdown", "summary.md")
    assert (
        Path("summary.md").read_text().startswith("<!-- sqlstable check -->\n### ✅ sqlstable: 3")
    )
    shown = checked("w.sql", "--budget", "b.toml", "--format", "markdown").stdout
    assert shown == Path("summary.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("w.sql",), "there is nothing to check; give --budget FILE.toml or --baseline FILE"),
        (("w.sql", "--update-baseline", "--budget", "b.toml"), "--update-baseline concerns a base"),
        (("w.sql", "--threshold", "2", "--budget", "b.toml"), "--threshold concerns a baseline"),
        (("w.sql", "--baseline", "b.json", "--threshold", "-1"), "--threshold -1 is no number of"),
        (("w.sql", "--baseline", "b.json", "--threshold", "nan"), "--threshold nan is no number"),
        (("w.sql", "--baseline", "b.json"), "there is no file b.json; --update-baseline makes it"),
        (("w.sql", "--budget", "none.toml"), "there is no file none.toml"),
        (("w.sql", "--budget", "."), "is a folder; give the path of a file"),
        (("w.sql", "--budget", "w.sql"), "w.sql is no TOML"),
        (("w.sql", "--budget", "app.bin"), "app.bin is no text in UTF-8"),
        (("none.sql", "--budget", "b.toml"), "there is no file none.sql"),
        (
            ("w.sql", "--budget", "label.toml"),
            "no such label; did you mean",
        ),
        (("w.sql", "--budget", "b.toml", "--limits", "none"), "--limits none leaves nothing"),
        (("w.trace", "--budget", "b.toml", "--limits", "none"), "--limits none holds a trace"),
        (("w.sql", "--budget", "b.toml", "--prices", "cheap"), "'cheap' is neither a price list"),
        (("w.trace", "--budget", "b.toml", "--prices", "1999-01-01"), "1999-01-01"),
        (("w.trace", "--budget", "b.toml", "--assume", "x=1"), "there is no assumption 'x'"),
        (
            ("w.sql", "--budget", "b.toml", "--assume", "float-weights=2023"),
            "--assume float-weights=2023 concerns prices wasm-native",
        ),
        (("w.sql", "--budget", "b.toml", "--build", "lean"), "--build concerns the wasm engine"),
        (("w.sql", "--budget", "b.toml", "--image", "none"), "there is no image none"),
        (("w.trace", "--budget", "b.toml", "--engine", "wasm"), "--engine concerns a script, and"),
        (("app.db", "--budget", "b.toml"), "app.db is"),
        (("w.sql", "--budget", "b.toml", "--markdown", "w.sql"), "is not a summary of sqlstable"),
        (("w.sql", "--budget", "b.toml", "--markdown", "no/x.md"), "the folder of no/x.md is not"),
        (("w.sql", "--baseline", "b.toml", "--update-baseline"), "b.toml is no baseline"),
        (("w.sql", "--baseline", "b.toml"), "b.toml is no baseline: it is no JSON"),
        (
            ("w.sql", "--baseline", "x", "--update-baseline", "--markdown", "x"),
            "two of the files that are named are the same one",
        ),
    ],
)
def test_misuse_is_one_line_with_the_way_out_and_changes_nothing(folder, arguments, told):
    Path("app.bin").write_bytes(b"\xff\xfe")
    Path("label.toml").write_text("[label.'note of an author']\nrows = 1")
    made = sqlite3.connect("app.db")
    made.executescript("CREATE TABLE t (a)")
    made.close()
    assert call("run", "w.sql", "--trace", "w.trace").exit_code == 0
    before = contents(folder)
    done = checked(*arguments, status=2)
    assert told in done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1
    assert done.stdout == ""
    assert contents(folder) == before
