"""Predictions for other sizes of the page cache: the cache itself, heaps, and what is refused."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqlstable import Canister
from sqlstable.analysis.whatif.page_cache import Estimate, page_cache_what_if
from sqlstable.analysis.whatif.sqlite_cache import SqliteCache
from sqlstable.errors import TraceError
from sqlstable.ic.words import READ, WRITE
from sqlstable.trace.model import StableUse, TraceSettings
from tests.hand_built import (
    SETTINGS,
    HandBuiltTrace,
    accesses,
    message,
    statement,
    use,
)
from tests.locality_witness import lru_misses

PAGES = st.lists(st.integers(1, 12), max_size=60)


@given(PAGES, st.integers(2, 14))
def test_clean_pages_go_least_recently_used_first(pages, size):
    cache = SqliteCache(size)
    missed = [cache.use(page) for page in pages]
    assert sum(missed) == lru_misses(pages, size - 1)
    assert SqliteCache(size).read_all(pages) == missed
    cache.commit()
    assert cache.writes == 0


@given(PAGES, PAGES, st.integers(1, 14))
def test_looking_is_reading_on_a_copy(before, pages, size):
    cache = SqliteCache(size)
    cache.read_all(before)
    expected = cache.copy().read_all(pages)
    assert cache.look_all(pages) == expected
    assert cache.read_all(pages) == expected, "and it was left as it was"


@given(st.lists(st.tuples(st.integers(1, 12), st.booleans()), max_size=60), st.integers(2, 14))
def test_what_became_dirty_is_written(uses, size):
    cache = SqliteCache(size)
    for page, dirty in uses:
        cache.use(page, dirty=dirty)
    cache.commit()
    changed = [page for page, dirty in uses if dirty]
    assert len(set(changed)) <= cache.writes <= len(changed)
    before = cache.writes
    cache.commit()
    assert cache.writes == before


@given(st.lists(st.tuples(st.integers(1, 12), st.booleans()), max_size=60))
def test_a_cache_with_room_for_all_spills_nothing(uses):
    pages = {page for page, _ in uses}
    cache = SqliteCache(SqliteCache.size_for(len(pages)))
    misses = Counter(page for page, dirty in uses if cache.use(page, dirty=dirty))
    assert set(misses.values()) <= {1}
    assert cache.writes == 0


def test_dirty_pages_stay_until_nine_tenths_are_dirty():
    cache = SqliteCache(10)
    assert all(cache.use(page, dirty=True) for page in range(1, 9))
    assert cache.writes == 0
    cache.use(9, dirty=True)
    assert cache.writes == 1, "the first page was spilled"
    assert not cache.use(1), "and is still there, clean"


def test_a_copy_goes_on_by_itself():
    cache = SqliteCache(4)
    cache.use(1)
    copy = cache.copy()
    assert not copy.use(1)
    assert copy.use(2)
    assert cache.use(2)


def test_an_estimate_tells_its_error_by_its_size():
    assert Estimate(100, 90, 105).error == 0.1
    assert Estimate(0, 0, 0).error == 0


# -- heaps -----------------------------------------------------------------------------------------


def pages_of(*messages, engine="native", cache_size=2):
    """Return a trace of messages, each a kind, a cache, and the SQLite pages that it reads."""
    made = [
        accesses(*((READ, page * 4096, 4096, page * 4096 - 4096) for page in pages))
        for _, _, pages in messages
    ]
    return HandBuiltTrace(
        settings=TraceSettings({**SETTINGS.values, "engine": engine, "cache_size": cache_size}),
        messages=tuple(
            message(index, kind, (index,), use(len(pages)), cache=cache)
            for index, (kind, cache, pages) in enumerate(messages)
        ),
        statements=tuple(statement(i, i, "SELECT 1", len(it[2])) for i, it in enumerate(messages)),
        accesses_by_statement=tuple(made),
    )


def reads_left(*messages, engine="native"):
    return page_cache_what_if(pages_of(*messages, engine=engine), [100]).rows[0].reads.value


def test_updates_find_what_updates_read():
    assert reads_left(("update", "warm", (1, 2)), ("update", "warm", (2, 3))) == 3


@pytest.mark.parametrize("cache", ["cold", "fresh"])
def test_a_cold_query_finds_nothing_and_leaves_nothing(cache):
    query = ("query", cache, (1, 2))
    assert reads_left(("update", "warm", (1, 2)), query, query) == 6


def test_a_warm_query_leaves_what_it_read_on_the_native_engine_alone():
    query = ("query", "warm", (1, 2))
    assert reads_left(("update", "warm", (1,)), query, query) == 2
    assert reads_left(("update", "warm", (1,)), query, query, engine="wasm") == 3


def test_an_upgrade_lets_the_cache_go():
    update = ("update", "warm", (1, 2))
    assert reads_left(update, ("upgrade", None, ()), update) == 4
    assert reads_left(update, ("upgrade", None, (2,)), update) == 4


def test_what_goes_past_the_cache_stays():
    rows = [(READ, 4096 + 24, 16, 24), (READ, 0, 4096, -1), (WRITE, 0, 4096, -1)] * 3
    trace = HandBuiltTrace(
        messages=(message(0, "update", (0,), use(2, 1)),),
        statements=(statement(0, 0, "UPDATE t SET a = 1", 2, 1),),
        accesses_by_statement=(accesses(*rows),),
    )
    [row] = page_cache_what_if(trace, [1000]).rows
    assert (row.reads.value, row.writes.value) == (6, 3)
    assert row.os_pages_accessed == Estimate(2, 1, 3)


def test_a_page_spilled_and_changed_again_is_written_once():
    rows = [(kind, 8192, 4096, 8192) for kind in (READ, WRITE, READ, WRITE)]
    committing = statement(0, 0, "UPDATE t SET a = 1", 1, 1)
    trace = HandBuiltTrace(
        settings=TraceSettings({**SETTINGS.values, "cache_size": 2}),
        messages=(message(0, "update", (0,), use(1, 1)),),
        statements=(committing,),
        accesses_by_statement=(accesses(*rows),),
    )
    [row] = page_cache_what_if(trace, [100]).rows
    assert (row.reads, row.writes) == (Estimate(1, 0, 2), Estimate(1, 0, 2))


def undone(*statements, outcome="committed"):
    """Return a trace of one update of statements: SQL, and kind and page of each access."""
    made = tuple(
        accesses(*((kind, page * 4096, 4096, page * 4096) for kind, page in rows))
        for _, rows in statements
    )
    return HandBuiltTrace(
        settings=TraceSettings({**SETTINGS.values, "cache_size": 2}),
        messages=(message(0, "update", range(len(statements)), use(2, 2), outcome=outcome),),
        statements=tuple(
            statement(i, 0, sql, 1, 1, kind="transaction" if sql.startswith("ROLL") else "write")
            for i, (sql, _) in enumerate(statements)
        ),
        accesses_by_statement=made,
    )


def test_a_rollback_writes_nothing_where_nothing_is_spilled():
    spilled = ((READ, 2), (WRITE, 2), (READ, 3), (WRITE, 3))
    trace = undone(("UPDATE t SET a = 1", spilled), ("ROLLBACK", ((WRITE, 2), (WRITE, 3))))
    [row] = page_cache_what_if(trace, [100]).rows
    assert (row.reads.value, row.writes.value, row.os_pages_accessed.value) == (2, 0, 2)


def test_a_rollback_to_a_savepoint_ends_no_transaction():
    rows = ((READ, 2), (WRITE, 2))
    trace = undone(("UPDATE t SET a = 1", rows), ("ROLLBACK TO s", ((READ, 2), (WRITE, 2))))
    [row] = page_cache_what_if(trace, [100]).rows
    assert (row.reads.value, row.writes.value) == (1, 1)


def test_what_a_trap_undid_was_never_committed():
    trace = undone(("UPDATE t SET a = 1", ((READ, 2), (WRITE, 2))), outcome="trapped")
    [row] = page_cache_what_if(trace, [100]).rows
    assert (row.reads.value, row.writes.value) == (1, 0)


def test_a_rollback_writes_back_what_the_journal_was_synced_for():
    cache = SqliteCache(4)
    assert [cache.use(page, dirty=True) for page in (1, 2, 3)] == [True] * 3
    assert cache.writes == 1, "the second page spilled the first"
    assert cache.roll_back()
    assert cache.writes == 1 + 2, "two were in the journal by then"
    assert not cache.roll_back()


# -- refusals and edges ----------------------------------------------------------------------------


def test_an_empty_trace_comes_to_nothing():
    found = page_cache_what_if(HandBuiltTrace())
    assert [row.reads for row in found.rows] == [Estimate(0, 0, 0)]
    assert found.recorded.os_pages_accessed.value == 0


def test_without_sizes_they_are_doubled_until_all_fits():
    found = page_cache_what_if(pages_of(("update", "warm", tuple(range(1, 20))), cache_size=10))
    assert [row.cache_size for row in found.rows] == [20, 40]
    assert found.rows[-1].cache_size >= found.fits_from > 20


def test_a_smaller_cache_than_recorded_is_refused():
    with pytest.raises(TraceError, match=r"recorded with cache_size 500.*with cache_size=10$"):
        page_cache_what_if(HandBuiltTrace(), [1000, 10])


@pytest.mark.parametrize("name", ["page_size", "cache_size"])
@pytest.mark.parametrize("value", [None, 0, "many"])
def test_settings_that_are_not_known_are_asked_for(name, value):
    trace = HandBuiltTrace(settings=TraceSettings({**SETTINGS.values, name: value}))
    with pytest.raises(TraceError, match=f"does not say its {name}"):
        page_cache_what_if(trace)


def test_the_lean_build_has_a_cache_of_its_own():
    trace = HandBuiltTrace(settings=TraceSettings({**SETTINGS.values, "build": "lean"}))
    with pytest.raises(TraceError, match='build="standard"'):
        page_cache_what_if(trace)


@pytest.mark.parametrize("sql", ["PRAGMA cache_size = 20", "pragma main.Cache_Size(-2000)"])
def test_a_workload_that_sets_the_size_itself_has_not_one(sql):
    trace = HandBuiltTrace(
        messages=(message(0, "update", (0,), use(0)),),
        statements=(statement(0, 0, sql, kind="pragma"),),
    )
    with pytest.raises(TraceError, match="statement 0 sets cache_size itself"):
        page_cache_what_if(trace)


def test_asking_for_the_size_sets_nothing():
    trace = HandBuiltTrace(
        messages=(message(0, "update", (0,), use(0)),),
        statements=(statement(0, 0, "PRAGMA cache_size", kind="pragma"),),
    )
    assert page_cache_what_if(trace).recorded_size == 500


def test_the_recorded_size_is_what_was_recorded():
    with Canister(trace=":memory:", cache_size=10) as canister:
        canister.update("CREATE TABLE t (a PRIMARY KEY, b) WITHOUT ROWID")
        canister.update(
            "INSERT INTO t WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n "
            "LIMIT 300) SELECT i * 7919 % 1009, zeroblob(300) FROM n"
        )
        with canister.trace() as trace:
            found = page_cache_what_if(trace, [10, 1000])
            stable: StableUse = trace.summary.stable
    same, ample = found.rows
    assert same == found.recorded
    assert same.reads == Estimate(*[stable.calls.read] * 3)
    assert same.writes == Estimate(*[stable.calls.write] * 3)
    assert same.os_pages_accessed == Estimate(*[stable.os_pages_accessed] * 3)
    assert ample.reads.value < same.reads.value
    assert ample.writes.value < same.writes.value
    assert ample.reads == Estimate(0, 0, 0)
