"""What a trace says of larger SQLite pages, against runs with them."""

import random

import pytest

from benchmarks.cache_workloads import CACHE_WORKLOADS, traced
from sqlstable import Canister
from sqlstable.analysis.whatif.page_size import page_size_what_if


@pytest.mark.parametrize("work", CACHE_WORKLOADS, ids=lambda work: work.__name__)
def test_trees_in_order_come_to_what_was_predicted(work):
    with traced(work, engine="native", cache_size=10) as trace:
        found = page_size_what_if(trace)
    for row in found.rows:
        with traced(work, engine="native", cache_size=10, page_size=row.page_size) as trace:
            real = trace.summary.stable.os_pages_accessed
        assert row.os_pages_accessed.low <= real <= row.os_pages_accessed.high
        assert row.os_pages_accessed.value == pytest.approx(real, rel=0.06)


def out_of_order(page_size):
    """Return the OS pages of ranges and points in a tree filled in random order, and the trace."""
    canister = Canister(cache_size=50, page_size=page_size, trace=":memory:")
    canister.update("CREATE TABLE t (k INTEGER PRIMARY KEY, s TEXT) WITHOUT ROWID")
    draw = random.Random(2)
    keys = random.Random(1).sample(range(6000), 6000)
    with canister.message() as message, message.transaction():
        message.executemany("INSERT INTO t VALUES (?, ?)", [(key, "x" * 90) for key in keys])
    for _ in range(10):
        low = draw.randrange(5500)
        canister.query("SELECT max(s) FROM t WHERE k BETWEEN ? AND ?", (low, low + 300))
        canister.query("SELECT s FROM t WHERE k = ?", (low,))
    return canister


def test_trees_out_of_order_stay_within_the_error_that_is_told():
    with out_of_order(4096) as canister, canister.trace() as trace:
        found = page_size_what_if(trace)
    for row in found.rows:
        with out_of_order(row.page_size) as canister, canister.trace() as trace:
            real = trace.summary.stable.os_pages_accessed
        assert row.os_pages_accessed.low <= real <= row.os_pages_accessed.high
