"""The lean build's page cache against SQLite's own, and what of the heap it touches.

The oracle is build standard: the same messages must give the same rows, errors and bytes of SQLite
pages, whatever the caches keep, spill, rename, cut off and throw away.
"""

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sqlstable.engine.measured.codec import encode_request
from sqlstable.errors import Trap
from tests.test_wasm_instructions import Canister
from tests.used_pages import used_pages
from tests.witness_host import Host

ROWS_SQL = (
    "WITH RECURSIVE n (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n LIMIT {rows}) "
    "INSERT INTO t (k, s) SELECT (i * 7919 + {seed}) % 1009, printf('%.*c', {length}, 'x') || i "
    "FROM n"
)
TABLE_SQL = "CREATE TABLE t (id INTEGER PRIMARY KEY, k INT, s TEXT); CREATE INDEX t_k ON t (k);"
SAME_SQL = "SELECT count(*), total(k), total(length(s)) FROM t NOT INDEXED"


def numbers(most):
    return st.integers(1, most)


WRITES = st.one_of(
    st.builds(
        lambda rows, seed, length: ROWS_SQL.format(rows=rows, seed=seed, length=length),
        numbers(60),
        numbers(1000),
        st.sampled_from([1, 40, 400, 3000]),
    ),
    st.builds("UPDATE t SET s = s || 'y', k = k + 1 WHERE id % {} = 0".format, numbers(9)),
    st.builds("DELETE FROM t WHERE id % {} = 0".format, numbers(5)),
    st.builds("DELETE FROM t WHERE id > (SELECT max(id) FROM t) - {}".format, numbers(80)),
    st.just("INSERT INTO t (id, k) SELECT id, 0 FROM t ORDER BY id LIMIT 1"),  # an error
)
READS = st.one_of(
    st.just(SAME_SQL),
    st.builds(
        "SELECT id, k, length(s) FROM t WHERE k BETWEEN {0} AND {0} + 90".format, numbers(900)
    ),
    st.just("SELECT k, count(*) FROM t GROUP BY k ORDER BY length(s), k LIMIT 5"),
    st.just("SELECT count(*) FROM t a JOIN t b ON b.id = a.k"),
    st.just("CREATE TEMP TABLE IF NOT EXISTS e AS SELECT * FROM t; SELECT total(k) FROM e"),
)
WHOLES = st.one_of(
    st.just("VACUUM"),
    st.builds("PRAGMA incremental_vacuum({})".format, numbers(9)),
    st.just("PRAGMA shrink_memory"),
    st.builds("PRAGMA cache_size = {}".format, st.sampled_from([0, 1, 2, 5, 17, 40, 300, -64])),
    st.builds("PRAGMA page_size = {}; VACUUM".format, st.sampled_from([512, 1024, 4096, 65_536])),
    st.just("DROP TABLE IF EXISTS temp.e"),
)
TRANSACTIONS = st.builds(
    lambda inner, undone, end: ";".join(
        ["BEGIN", *inner, "SAVEPOINT p", *undone, "ROLLBACK TO p", *inner[:1], end]
    ),
    st.lists(WRITES, max_size=3),
    st.lists(WRITES, max_size=2),
    st.sampled_from(["COMMIT", "ROLLBACK"]),
)
MESSAGES = st.tuples(
    st.sampled_from(["update", "update", "update", "query", "cold", "trap", "upgrade"]),
    st.one_of(WRITES, WRITES, READS, READS, WHOLES, TRANSACTIONS),
)


def outcome(host, kind, sql):
    """What a message says to the world."""
    if kind == "upgrade":
        host.upgrade()
        kind = "update"
    if kind == "trap":
        # The second request is none: what the first one did is rolled back, and the heap is new.
        with pytest.raises(Trap, match="cut off"):
            host.send("update", encode_request(sql), b"")
        return None
    if kind == "cold":
        reply = host.query(sql, cold=True)
    else:
        reply = host.update(sql) if kind == "update" else host.query(sql)
    failure = reply.failure and (reply.failure.code, reply.failure.message)
    if failure:
        # A transaction that the failure left open would hold back VACUUM for good.
        host.update("ROLLBACK")
    return reply.rows, failure


def check_alike(messages, **chosen):
    hosts = [Host(build=build, layout="raw", **chosen) for build in ("standard", "lean")]
    for host in hosts:
        host.rows("PRAGMA auto_vacuum = 2; VACUUM; " + TABLE_SQL)
    for kind, sql in messages:
        expected, found = (outcome(host, kind, sql) for host in hosts)
        assert found == expected, (kind, sql)
    for host in hosts:
        assert host.rows("PRAGMA integrity_check") == [("ok",)]
    standard, lean = (used_pages(host.memory.image(), host.rows) for host in hosts)
    assert lean == standard


@pytest.mark.slow
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(MESSAGES, min_size=3, max_size=12),
    st.sampled_from([512, 1024, 4096, 65_536]),
    st.sampled_from([1, 2, 6, 20, 128]),
    st.sampled_from(["memory", "off"]),
)
@example(
    [("update", ROWS_SQL.format(rows=60, seed=1, length=3000)), ("update", "VACUUM")],
    512,
    1,
    "memory",
)
def test_rows_errors_and_bytes_are_those_of_sqlites_own_cache(messages, page, cache, journal):
    check_alike(messages, page_size=page, cache_size=cache, journal_mode=journal)


@pytest.mark.parametrize("page_size", [512, 4096, 65_536])
def test_a_transaction_far_beyond_the_cache_spills_and_rolls_back(page_size):
    grow = ROWS_SQL.format(rows=60, seed=5, length=3000)
    change = "UPDATE t SET s = s || 'y', k = k + 1"
    check_alike(
        [
            ("update", grow),
            ("update", f"BEGIN; {grow}; SAVEPOINT p; {change}; ROLLBACK TO p; {change}; COMMIT"),
            ("update", f"BEGIN; {grow}; {change}; ROLLBACK"),
            ("trap", f"{grow}; {change}"),
            ("query", SAME_SQL),
            ("update", "DELETE FROM t WHERE id > 20; PRAGMA incremental_vacuum"),
            ("update", "PRAGMA page_size = 1024; VACUUM"),
            ("cold", SAME_SQL),
        ],
        page_size=page_size,
        cache_size=3,
    )


# -- what of the heap a message touches -----------------------------------------------------------


@pytest.fixture(scope="module")
def filled():
    """20 000 rows, more SQLite pages than the cache holds."""
    canister = Canister("lean")
    canister.update(TABLE_SQL + ROWS_SQL.format(rows=20_000, seed=0, length=50))
    return canister


POINT = "SELECT s FROM t WHERE id = ?"
RANGE = "SELECT id, s FROM t WHERE k BETWEEN 500 AND 504"


def regions(canister, sql, values=None):
    canister.update(sql, values)
    return canister.regions_accessed, canister.regions_written


def test_a_statement_without_data_touches_two_regions(filled):
    # Stack, allocator and headers are written in one; constants and variables are read in another.
    filled.update("SELECT 1")
    assert regions(filled, "SELECT 1") == (2, 1)


def test_hits_write_no_region_of_images(filled):
    filled.update(POINT, (4711,))
    accessed, written = regions(filled, POINT, (4711,))
    # Beside those of any statement: texts that are seldom read, and the images.
    assert written == 1
    assert accessed <= 3 + 3


def test_pages_that_were_loaded_together_lie_together(filled):
    assert len(filled.update(RANGE)) >= 90
    accessed, written = regions(filled, RANGE)
    # 128 SQLite pages of 4096 bytes are eight regions.
    assert written <= 2
    assert accessed <= 3 + 8
