"""``sqlstable upgrade compare``: what is measured, what follows from it, and bad input."""

import csv
import io
import json
import math
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

import sqlstable
from sqlstable.analysis.scaling.laws import Prediction
from sqlstable.analysis.upgrading.break_even import STORAGE_CYCLES, break_even
from sqlstable.analysis.upgrading.limits_reached import (
    checked,
    first_failure,
    heap_law,
    upgrade_law,
)
from sqlstable.analysis.upgrading.upgrade_runs import (
    Ceilings,
    PartCost,
    SizeRun,
    StrategyRun,
    UpgradeComparison,
    WayOfKeeping,
)
from sqlstable.errors import ScriptError, SettingsError
from sqlstable.report.upgrade_data import upgrade_document
from sqlstable.report.upgrade_table import even_words, failure_words, render_upgrades
from sqlstable.workload.upgrading import measuring
from tests.golden_files import check_golden
from tests.test_cli import call

GIB = 1 << 30
SCRIPT = """\
CREATE TABLE t (id INTEGER PRIMARY KEY, body TEXT);
WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < /*@rows*/ 50)
INSERT INTO t (body) SELECT printf('row %020d', n) FROM c;
--@ repeat 3
SELECT body FROM t WHERE id = 1 + abs(random()) % /*@rows*/ 50;
--@ repeat 3
UPDATE t SET body = 'x' WHERE id = 1 + abs(random()) % /*@rows*/ 50;
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("day.sql").write_text(SCRIPT)
    return tmp_path


# -- by hand: laws, failures, break-even ----------------------------------------------------------


def part(instructions, heap_bytes=65_536, os_pages=1):
    return PartCost("canister_post_upgrade", instructions, 0, 0, os_pages, 0, heap_bytes)


def run(name, instructions, *, heap_bytes=65_536, reads=(), writes=(), stable_bytes=65_536):
    parts = (part(instructions, heap_bytes),)
    return StrategyRun(name, reads, writes, parts, heap_bytes, stable_bytes)


def comparison(cost, *, sizes=(1e3, 3e3, 1e4, 3e4, 1e5), check=None, bytes_max=None, heap=0):
    """One of which an upgrade costs by a law, and staying ten million."""

    def at(size):
        kept = run("other", round(cost(size)), heap_bytes=2**20 + round(heap * size))
        return SizeRun(size, round(64 * size), (run("stay", 10_000_000), kept))

    ways = (
        WayOfKeeping("stay", "", None, is_in_heap=False),
        WayOfKeeping("other", "", bytes_max, is_in_heap=True),
    )
    ceilings = Ceilings(300 * 10**9, 2**21, 2**21, 500 * GIB, 4 * GIB)
    return UpgradeComparison(
        script="by hand",
        size_name="rows",
        settings=(("limits", "2026-08-18"), ("price_regime", "memory-tracker")),
        ways=ways,
        sizes=tuple(map(at, sizes)),
        empty=at(0),
        check=None if check is None else at(check),
        ceilings=ceilings,
        reads_per_day=1000,
        writes_per_day=100,
    )


def test_exponents_are_those_that_went_in():
    found = comparison(lambda n: 5_000_000 + 1000 * n)
    stay, other = (upgrade_law(found, name).law.exponent for name in ("stay", "other"))
    assert stay.low <= 0 <= stay.high
    assert stay.high - stay.low < 0.02
    assert other.low <= 1 <= other.high
    assert other.is_power_law
    assert upgrade_law(found, "other").predict(1e6).holds(5_000_000 + 1e9)


def test_a_law_without_growth_and_too_few_sizes_are_said_so():
    assert upgrade_law(comparison(lambda n: n, sizes=(1e3, 1e4)), "stay") is None
    assert (
        first_failure(comparison(lambda n: n, sizes=(1e3, 1e4)), comparison(len_).ways[1]) is None
    )
    assert heap_law(comparison(lambda _: 10_000_000), "other").law.is_constant


def len_(size):
    return size


@pytest.mark.parametrize(
    ("options", "cause", "size"),
    [
        # 300 billion instructions at 10 000 a row, before anything else.
        ({"cost": lambda n: 10_000 * n}, "instructions of one upgrade", 3e7),
        ({"cost": lambda n: 1000 * n, "heap": 100}, "the heap", 4 * GIB / 100),
        (
            {"cost": lambda n: 1000 * n, "heap": 10, "bytes_max": 2 * GIB},
            "what SQLite allocates at once",
            2 * GIB / 64,
        ),
    ],
)
def test_the_first_limit_is_found_where_the_law_meets_it(options, cause, size):
    found = comparison(**options)
    failure = first_failure(found, found.ways[1])
    assert failure.cause == cause
    assert failure.size.holds(size)
    assert failure.size.value == pytest.approx(size, rel=0.1)
    assert failure.database_bytes.value == pytest.approx(64 * size, rel=0.1)
    assert f"fails first of {cause} (" in failure_words(found, found.ways[1])


def test_staying_ends_where_stable_memory_does():
    found = comparison(lambda n: 1000 * n)
    failure = first_failure(found, found.ways[0])
    assert failure.cause == "stable memory"
    assert failure.size.holds(500 * GIB / 64)
    assert failure.database_bytes == Prediction(*(500 * GIB,) * 3)


def test_predictions_are_checked_by_the_run_that_no_law_has_seen():
    straight = comparison(lambda n: 5_000_000 + 1000 * n, check=3e5)
    assert len(checked(straight)) == 4
    assert all(row.is_inside for row in checked(straight))
    # Of a sudden ten times as dear.
    bent = comparison(lambda n: 5_000_000 + 1000 * n * (10 if n > 2e5 else 1), check=3e5)
    assert [row.measure for row in checked(bent) if not row.is_inside] == ["instructions"]
    assert checked(comparison(lambda n: n)) == ()


def test_break_even_is_what_a_day_spares_by_what_an_upgrade_costs_more():
    size = SizeRun(
        1e3,
        64_000,
        (
            run("stay", 2_000_000, reads=(100, 120, 140), writes=(50, 50, 50)),
            run("other", 12_000_000, reads=(60, 70, 80), writes=(30, 30, 30)),
        ),
    )
    found = comparison(len_)
    even = break_even(found, size, "other")
    # Means 50 and 20; deviations of 40, 50, 60 are 10, and Student's t of two is 4.303.
    assert even.spared.value == 1000 * 50 + 100 * 20
    assert even.spared.half_width == pytest.approx(1000 * 4.3027 * 10 / math.sqrt(3), rel=1e-4)
    assert (even.extra, even.storage) == (10_000_000, 0)
    assert even.upgrades_per_day == pytest.approx(52_000 / 10_000_000)
    assert even.low == pytest.approx((52_000 - even.spared.half_width) / 10_000_000)
    assert even.high == pytest.approx((52_000 + even.spared.half_width) / 10_000_000)
    assert even_words(even).startswith("cheaper up to 0.0052 upgrades a day (0.0027 to 0.0077)")


def test_storage_counts_as_cycles_and_errors_of_dear_messages_end_at_zero():
    stay = run("stay", 2_000_000, reads=(100, 101), writes=())
    other = run("other", 12_000_000, reads=(100, 101), writes=(), stable_bytes=65_536 + GIB)
    found = comparison(len_)
    even = break_even(found, SizeRun(1, 1, (stay, other)), "other")
    assert even.storage == STORAGE_CYCLES * 86_400
    assert (even.upgrades_per_day, even.low, even.high) == (0, 0, 0)
    assert even_words(even).startswith("never cheaper; ")
    failed = replace(other, parts=(), failure="out of memory")
    assert break_even(found, SizeRun(1, 1, (stay, failed)), "other") is None


def test_one_message_says_nothing_of_others():
    stay = run("stay", 2_000_000, reads=(100_000,))
    other = run("other", 12_000_000, reads=(50_000,))
    even = break_even(comparison(len_), SizeRun(1, 1, (stay, other)), "other")
    assert (even.low, even.high) == (0, math.inf)
    assert "cheaper up to about 5 upgrades a day" in even_words(even)
    assert "repeat it" in even_words(even)


# -- measured -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_an_upgrade_of_serialised_data_grows_and_one_of_stable_data_does_not():
    found = sqlstable.compare_upgrades(rows=[1000, 3000, 10_000, 30_000])
    stay, whole, streamed = (upgrade_law(found, way.name).law.exponent for way in found.ways)
    assert stay.low <= 0 <= stay.high
    assert len({at.run_of("stay").upgrade for at in found.sizes}) == 1
    for exponent in (whole, streamed):
        assert 0.8 < exponent.value < 1.2
        assert exponent.low > 0.5
    assert [len(at.run_of("whole").reads) for at in found.sizes] == [40] * 4


@pytest.mark.slow
def test_sizes_too_small_to_say_where_it_ends_are_said_to_be():
    found = sqlstable.compare_upgrades(rows=[300, 600, 1000])
    words = [failure_words(found, way) for way in found.ways]
    assert all("too small to say where" in it and "inf" not in it for it in words)


def test_two_comparisons_are_equal_and_nothing_is_counted_by_the_clock():
    first, second = (sqlstable.compare_upgrades(rows=[200]) for _ in range(2))
    assert first == second


@pytest.mark.slow
def test_prices_of_another_day_count_otherwise():
    now, then = (
        sqlstable.compare_upgrades(rows=[2000], limits=day).sizes[0]
        for day in ("latest", "2025-01-01")
    )
    # Heap regions cost nothing by themselves then, and OS pages of it a thousand each.
    for name in ("stay", "whole"):
        assert sum(then.run_of(name).reads) < sum(now.run_of(name).reads) / 3


@pytest.mark.slow
def test_a_script_of_ones_own_is_cut_where_its_day_begins():
    workload = sqlstable.UpgradeWorkload(SCRIPT, "day.sql")
    found = sqlstable.compare_upgrades(workload, rows=[70])
    runs = found.sizes[0].runs
    assert [(len(it.reads), len(it.writes)) for it in runs] == [(3, 3)] * 3
    plain = sqlstable.UpgradeWorkload("CREATE TABLE t (x); SELECT 1; INSERT INTO t VALUES (1)")
    (at,) = sqlstable.compare_upgrades(plain).sizes
    assert (at.size, len(at.runs[0].reads), len(at.runs[0].writes)) == (None, 1, 1)


@pytest.mark.slow
def test_a_database_is_taken_as_it_is():
    connection = sqlite3.connect("app.db")
    connection.executescript(
        "PRAGMA page_size = 1024; CREATE TABLE t (x); INSERT INTO t VALUES (zeroblob(100000))"
    )
    connection.close()
    Path("day.sql").write_text("SELECT count(*) FROM t; INSERT INTO t VALUES (1)")
    result = call("upgrade", "compare", "day.sql", "--database", "app.db", "--format", "json")
    found = json.loads(result.stdout)
    (size,) = found["sizes"]
    assert size["size"] is None
    assert size["database_bytes"] == Path("app.db").stat().st_size
    assert found["settings"]["page_size"] == 1024
    assert [it["read"]["messages"] for it in size["ways"]] == [1, 1, 1]
    text = call("upgrade", "compare", "day.sql", "--database", "app.db").stdout
    assert "needs three sizes or more" in text


@pytest.mark.slow
def test_the_report_is_as_reviewed():
    found = sqlstable.compare_upgrades(rows=[300, 1000, 3000, 10_000], check=20_000)
    for width in (80, 100):
        check_golden(
            f"upgrade_compare_{width}.txt", render_upgrades(found, width=width, color_system=None)
        )


@pytest.mark.slow
def test_json_and_csv_have_all_that_was_measured():
    options = ("upgrade", "compare", "day.sql", "--rows", "100,400,900", "--check", "2000")
    found = json.loads(call(*options, "--format", "json").stdout)
    assert (found["format"], found["version"]) == ("sqlstable-upgrade-comparison", 1)
    assert [it["size"] for it in found["sizes"]] == [100, 400, 900]
    whole = found["sizes"][0]["ways"][1]
    assert whole["upgrade_instructions"] == sum(it["instructions"] for it in whole["parts"])
    assert all(
        it["instructions"] == it["computation"] + it["stable"] + it["heap"] for it in whole["parts"]
    )
    assert [it["name"] for it in whole["parts"]] == [
        "canister_pre_upgrade",
        "canister_post_upgrade",
    ]
    assert found["check"]["size"] == 2000
    assert len(found["check"]["predictions"]) == 6
    rows = list(csv.DictReader(io.StringIO(call(*options, "--format", "csv").stdout)))
    assert [(row["size"], row["way"], row["is_check"]) for row in rows[-4:]] == [
        ("900", "streamed", "false"),
        *(("2000", name, "true") for name in ("stay", "whole", "streamed")),
    ]
    assert int(rows[1]["upgrade_instructions"]) == whole["upgrade_instructions"]


@pytest.mark.slow
def test_a_way_that_fails_is_named_and_the_others_go_on(monkeypatch):
    real = measuring.KeptCanister.upgrade

    def upgrade(self, **options):
        if self.strategy.name == "whole" and self.stable_bytes > 3 * 65_536:
            raise sqlstable.Trap("out of memory: 9 bytes")
        return real(self, **options)

    monkeypatch.setattr(measuring.KeptCanister, "upgrade", upgrade)
    found = sqlstable.compare_upgrades(rows=[100, 5000])
    assert [it.failure for it in found.sizes[1].runs] == [None, "out of memory: 9 bytes", None]
    text = render_upgrades(found, width=100, color_system=None)
    assert "whole failed at 5,000 rows: out of memory: 9 bytes" in text
    assert upgrade_document(found)["sizes"][1]["ways"][1]["parts"] == []


# -- misuse ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--rows", "0"], "--rows '0' is no size; a size is a whole number above 0"),
        (["--rows", "1e3,x"], "--rows 'x' is no size"),
        (["--rows", "1e3,1e3"], "or one twice"),
        (["--rows", "1e12"], "is no size"),
        (["--rows", "10,20", "--check", "20"], "not beyond the largest size, 20"),
        (["missing.sql"], "there is no file missing.sql"),
        (["--engine", "native"], "--engine native has no heap that could be serialised"),
        (["--database", "app.db"], "--database wants a script"),
        (["day.sql", "--database", "missing.db"], "missing.db is not a file"),
        (["--limits", "none"], "--limits none leaves nothing that could fail first"),
        (["--limits", "2020-01-01"], "2021-05-10"),
        (["--page-size", "1000"], "page_size is 1000"),
        (["day.sql", "--check", "9"], "--check 9 wants --rows"),
    ],
)
def test_bad_arguments_are_refused(arguments, words):
    result = call("upgrade", "compare", *arguments)
    assert result.exit_code == 2
    assert words in " ".join(result.stderr.split())
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("-- nothing", "day.sql holds no statements, so there is nothing to compare"),
        ("CREATE TABLE t (x); SELECT * FROM u", "day.sql, line 1: no such table: u"),
        ("CREATE TABLE t (x);\n--@ upgrade\nSELECT 1", "day.sql, line 2: --@ upgrade has no place"),
        ("--@ update\nSELECT 1;\n--@ await\nSELECT 2", "line 1: --@ await has no place"),
        ("CREATE TABLE t (x);\nINSERT INTO u VALUES (1)", "day.sql, line 2: no such table: u"),
    ],
)
def test_scripts_that_have_no_place_here_are_refused(script, words):
    Path("day.sql").write_text(script)
    result = call("upgrade", "compare", "day.sql")
    assert result.exit_code == 2
    assert words in " ".join(result.stderr.split())


def test_values_that_are_none_are_refused_in_python():
    plain = sqlstable.UpgradeWorkload("CREATE TABLE t (x); SELECT 1", "plain.sql")
    for options, words in (
        ({"rows": [0.5]}, "is no size"),
        ({"rows": []}, "one size or more"),
        ({"rows": [2, 2]}, "each once"),
        ({"rows": [20], "check": 10}, "not beyond the largest size"),
        ({"reads_per_day": -1}, "messages a day"),
        ({"workload": plain, "rows": [3]}, "has no parameter"),
        (
            {"workload": replace(plain, script=SCRIPT, database=Path("x")), "rows": [3]},
            "has the size that it has",
        ),
    ):
        with pytest.raises(SettingsError, match=words):
            sqlstable.compare_upgrades(**options)
    with pytest.raises(ScriptError):
        sqlstable.compare_upgrades(sqlstable.UpgradeWorkload("SELECT 'x", "bad.sql"))
