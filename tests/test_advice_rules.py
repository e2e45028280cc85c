"""Rules of advice at their borders, on traces made by hand; and advice from sweeps."""

from dataclasses import replace

import pytest

from sqlstable.analysis.advice.advise import advise
from sqlstable.analysis.advice.sending import ROW_FOR_ROW_MIN
from sqlstable.analysis.advice.sweep_advice import advise_sweep
from sqlstable.analysis.scaling.pareto import sweep_results
from sqlstable.analysis.scaling.runs import RanMessage, RanStatement, RunResult
from sqlstable.trace.model import (
    Instructions,
    LimitUse,
    SchemaObject,
    StableArea,
    TraceSettings,
)
from tests.hand_built import HandBuiltTrace, hits, message, owner, statement, use
from tests.test_cli import call, folder  # noqa: F401  a fixture

MIB = 2**20


def codes(trace):
    return [it.code for it in advise(trace)]


def with_settings(trace, **settings):
    return replace(trace, settings=TraceSettings({**trace.settings.values, **settings}))


def one(sql, accessed=100, dirty=0, **changes):
    made = statement(0, 0, sql, accessed, dirty, **changes)
    return HandBuiltTrace(
        messages=(message(0, "query" if dirty == 0 else "update", (0,), use(accessed, dirty)),),
        statements=(made,),
    )


def spent(total, heap):
    return Instructions(total, total - heap, 0, heap)


# -- limits and messages ---------------------------------------------------------------------------


@pytest.mark.parametrize(("used", "found"), [(49, []), (50, ["near-limit"]), (100, ["near-limit"])])
def test_half_of_a_limit_is_near(used, found):
    trace = one("SELECT 1", 1)
    limit = LimitUse("instructions", used, 100)
    trace = replace(trace, messages=(replace(trace.messages[0], limits=(limit,)),))
    assert codes(trace) == found


def row_for_row(count, *, between=0, rows=1):
    made, sent = [], []
    for number in range(count):
        made.append(statement(len(made), len(sent), "INSERT INTO t VALUES (?)", 2, 2, runs=rows))
        sent.append(message(len(sent), "update", (len(made) - 1,), use(2, 2)))
        if between and number % between == 0:
            made.append(statement(len(made), len(sent), "SELECT 1", 1))
            sent.append(message(len(sent), "query", (len(made) - 1,), use(1)))
    return HandBuiltTrace(messages=tuple(sent), statements=tuple(made))


def test_rows_that_come_one_by_one_in_a_row_can_be_sent_together():
    assert codes(row_for_row(ROW_FOR_ROW_MIN)) == ["no-transaction"]
    assert codes(row_for_row(ROW_FOR_ROW_MIN - 1)) == []
    assert codes(row_for_row(ROW_FOR_ROW_MIN, between=2)) == []
    assert codes(row_for_row(ROW_FOR_ROW_MIN, rows=5)) == []


# -- the cache -------------------------------------------------------------------------------------


def test_what_is_read_again_and_again_does_not_stay_in_the_cache():
    read = replace(use(1000), bytes_read=1000 * 4096 * 10)
    trace = one("SELECT a FROM t", 1000, stable=read)
    (advice,) = advise(trace)
    assert advice.code == "cache-too-small"
    assert "PRAGMA cache_size = 1250 instead of 500" in advice.sentence
    assert codes(with_settings(trace, cache_size=2000)) == []
    assert codes(one("SELECT a FROM t", 1000)) == []


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({}, ["cache-too-large"]),
        ({"price_regime": "wasm-native"}, []),
        ({"price_regime": None}, []),
        ({"price_regime": "of tomorrow"}, []),
        ({"cache_size": 20}, []),
        ({"cache_size": None}, []),
    ],
)
def test_a_large_cache_is_too_large_where_its_wasm_pages_are_charged_for(settings, found):
    trace = one("SELECT a FROM t", instructions=spent(20_000_000, 9_000_000))
    chosen = {"price_regime": "memory-tracker", **settings}
    assert codes(with_settings(trace, **chosen)) == found


def test_a_large_cache_that_is_needed_is_not_too_large():
    trace = one(
        "SELECT a FROM t",
        instructions=spent(20_000_000, 9_000_000),
        sqlite=hits(10_000),
    )
    assert codes(with_settings(trace, price_regime="memory-tracker")) == []


# -- how a database is stored ----------------------------------------------------------------------


def test_a_journal_in_stable_memory_is_named_with_its_pages():
    owners = (owner("t", 50, 50), owner("main.db-journal", 30, 30, kind="journal", role=""))
    trace = one("INSERT INTO t VALUES (1)", 80, 80, owners=owners)
    for mode in ("delete", "truncate", "persist", "wal"):
        assert codes(with_settings(trace, journal_mode=mode)) == ["journal"]
    for mode in ("memory", "off", None):
        assert codes(with_settings(trace, journal_mode=mode)) == []


@pytest.mark.parametrize(
    ("page_size", "plan", "rows", "found"),
    [
        (16_384, ("SEARCH t USING INTEGER PRIMARY KEY (rowid=?)",), 1, ["page-size"]),
        (4096, ("SEARCH t USING INTEGER PRIMARY KEY (rowid=?)",), 1, []),
        (512, ("SEARCH t USING INTEGER PRIMARY KEY (rowid=?)",), 1, []),
        (16_384, ("SCAN t",), 1, []),
        (16_384, ("SEARCH t USING INDEX i (a=?)",), 5000, []),
        (None, ("SEARCH t USING INDEX i (a=?)",), 1, []),
    ],
)
def test_large_sqlite_pages_are_for_scans(page_size, plan, rows, found):
    trace = one("SELECT a FROM t WHERE b = 1", 100, plan=plan, row_count=rows)
    assert codes(with_settings(trace, page_size=page_size)) == found


@pytest.mark.parametrize(("files", "found"), [(3, []), (12, ["buckets"])])
def test_buckets_that_hold_next_to_nothing_are_told(files, found):
    areas = tuple(
        StableArea(0, f"{number}.db", "database", 120, 8 * MIB, 8 * MIB, 8 * MIB, 4096, 0)
        for number in range(files)
    )
    trace = one("SELECT 1", 1)
    sized = replace(trace.messages[0], image_bytes=files * 8 * MIB)
    assert codes(replace(trace, messages=(sized,), areas=areas)) == found


# -- indexes that nobody reads ---------------------------------------------------------------------

T = SchemaObject("table", "t", "t", "CREATE TABLE t (a, b REFERENCES u, c UNIQUE)")
I = SchemaObject("index", "i", "t", "CREATE INDEX i ON t(a)")  # noqa: E741  its name in the SQL


def written(*, schema=(T, I), plan=(), name="i", reads=True):
    own = (owner("t", 50, 50), owner(name, 50, 50, kind="index", table="t"))
    made = [statement(0, 0, "INSERT INTO t VALUES (1, 2, 3)", 100, 100, owners=own)]
    if reads:
        made.append(statement(1, 1, "SELECT a FROM t", 10, plan=plan, owners=(owner("t", 10),)))
    sent = (message(0, "update", (0,), use(100, 100)), message(1, "query", (1,), use(10)))
    return HandBuiltTrace(messages=sent[: len(made)], statements=tuple(made), schema=tuple(schema))


def test_an_index_is_dropped_only_where_nothing_reads_or_needs_it():
    (advice,) = advise(written())
    assert (advice.code, advice.statements) == ("unused-index", (0,))
    assert advice.sentence.endswith("DROP INDEX i")
    for plan in ("SEARCH t USING INDEX i (a=?)", "SCAN t USING COVERING INDEX i"):
        assert codes(written(plan=("SCAN u", f"  {plan}"))) == []
    assert codes(written(plan=("SEARCH t USING INDEX ii (a=?)",))) == ["unused-index"]
    assert codes(written(reads=False)) == []
    assert codes(written(schema=(T,))) == []
    assert codes(written(schema=(T, replace(I, sql="CREATE UNIQUE INDEX i ON t(a)")))) == []
    assert codes(written(schema=(T, replace(I, sql="CREATE INDEX i ON t(b)")))) == []
    assert codes(written(name="sqlite_autoindex_t_1")) == []


# -- columns and paging ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sql", "overflow", "found"),
    [
        ("SELECT * FROM t", 60, ["select-star"]),
        ("SELECT a, t.* FROM t", 60, ["select-star"]),
        ("SELECT count(*) FROM t", 60, []),
        ("SELECT a * b FROM t", 60, []),
        ("SELECT * FROM t", 20, []),
        ("SELECT * FROM t", 3, []),
    ],
)
def test_a_star_matters_where_rows_overflow(sql, overflow, found):
    owners = (owner("t", 100 - overflow), owner("t", overflow, role="overflow"))
    assert codes(one(sql, 100, owners=owners, row_count=50)) == found


@pytest.mark.parametrize(
    ("sql", "rows", "found"),
    [
        ("SELECT a FROM t ORDER BY b LIMIT ? OFFSET ?", 20, ["offset"]),
        ("SELECT a FROM t ORDER BY b LIMIT ?, ?", 20, ["offset"]),
        ("SELECT a FROM t ORDER BY b LIMIT ?", 20, []),
        ("SELECT a FROM t ORDER BY b LIMIT ? OFFSET ?", 90, []),
    ],
)
def test_an_offset_matters_where_it_skips_more_than_it_shows(sql, rows, found):
    trace = one(sql, 100, row_count=rows)
    assert codes(trace) == found
    assert all("WHERE b > ? ORDER BY b LIMIT" in it.sentence for it in advise(trace))


def test_nothing_is_advised_for_a_part_that_does_not_matter():
    star = "SELECT * FROM t"
    owners = (owner("t", 40), owner("t", 60, role="overflow"))
    for whole, found in ((4_000, ["select-star"]), (10_000, [])):
        made = (
            statement(0, 0, star, 100, owners=owners, row_count=50),
            statement(1, 1, "SELECT a FROM u", whole, sqlite=hits(5_000)),
        )
        sent = (message(0, "query", (0,), use(100)), message(1, "query", (1,), use(whole)))
        assert codes(HandBuiltTrace(messages=sent, statements=made)) == found


# -- sweeps ----------------------------------------------------------------------------------------


def result(instructions, *, statements=(), limits=(), index_uses=None, failure=None):
    sent = RanMessage(
        0, "query", None, "discarded", None, None, 10, 5, 65_536, limits, instructions
    )
    return RunResult({}, {}, {}, (sent,), statements, failure, index_uses or {})


def test_a_sweep_says_which_setting_was_measured_to_save():
    choices = [{"page_size": size, "rows": rows} for size in (4096, 16_384) for rows in (1, 2)]
    found = sweep_results(choices, [result(it) for it in (100, 200, 150, 400)])
    (advice,) = advise_sweep(found)
    assert (advice.code, advice.sentence) == (
        "page-size",
        "Choose page_size 4096 rather than 16384",
    )
    assert advice.gain == "measured: 33 % less instructions"
    assert [cite.split(",")[0] for cite in advice.cites] == ["row 1", "row 3"]
    # The best row has to win by what can be told from chance.
    close = sweep_results(choices, [result(it) for it in (100, 200, 104, 400)])
    assert advise_sweep(close) == ()


def test_a_sweep_that_failed_or_is_empty_says_nothing():
    assert advise_sweep(sweep_results([], [])) == ()
    assert advise_sweep(sweep_results([{"page_size": 1}], [result(1, failure="no")])) == ()


def test_a_sweep_says_what_no_setting_mends():
    scan = RanStatement(
        *(0, 0, 0, "SELECT a FROM t WHERE b = 1", "SELECT a FROM t WHERE b = ?", "read"),
        *(("SCAN t",), 1, 1, 500, 0, 500, 2_000_000, 0, 90),
    )
    limits = (LimitUse("instructions", 60, 100),)
    uses = {"i": 0, "used": 3, "sqlite_autoindex_t_1": 0}
    found = sweep_results(
        [{"page_size": 4096}],
        [result(100, statements=(scan,), limits=limits, index_uses=uses)],
    )
    assert [it.code for it in advise_sweep(found)] == [
        "missing-index",
        "near-limit",
        "unused-index",
    ]
    assert all("row 1, " in it.cites[0] for it in advise_sweep(found))
    # Results hold no schema, so nobody knows what an index is there for.
    assert "unless it is UNIQUE or serves a foreign key" in advise_sweep(found)[-1].sentence


@pytest.mark.slow
def test_the_command_shows_what_a_sweep_advises(folder):  # noqa: F811
    shown = call("sweep", "shop.sql", "--page-size", "4096,65536", "--format", "table")
    assert shown.exit_code == 0
    assert "Choose page_size 4096 rather than 65536" in " ".join(shown.stdout.split())
