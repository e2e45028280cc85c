"""What a trace says of other sizes of the page cache, against runs with those sizes."""

import pytest

from benchmarks.cache_workloads import CACHE_WORKLOADS, traced
from sqlstable.analysis.totals import sum_instructions
from sqlstable.analysis.whatif.page_cache import page_cache_what_if

SIZES = (20, 50, 100, 400, 1000)


def told(trace):
    """Return what a run came to: reads, writes, OS pages, and instructions."""
    use = trace.summary.stable
    spent = sum_instructions(it.instructions for it in trace.messages)
    counts = (use.calls.read, use.calls.write, use.os_pages_accessed)
    return *counts, None if spent is None else spent.total


@pytest.mark.parametrize("work", CACHE_WORKLOADS, ids=lambda work: work.__name__)
@pytest.mark.parametrize("engine", ["native", "wasm"])
def test_five_sizes_come_to_what_was_predicted(work, engine):
    with traced(work, engine=engine, cache_size=10) as trace:
        found = page_cache_what_if(trace, SIZES)
        counts = (found.recorded.reads, found.recorded.writes, found.recorded.os_pages_accessed)
        assert tuple(it.value for it in counts) == told(trace)[:3]
        assert not any(it.error for it in counts)
    for row in found.rows:
        with traced(work, engine=engine, cache_size=row.cache_size) as trace:
            reads, writes, os_pages, spent = told(trace)
        assert row.reads.low <= reads <= row.reads.high
        assert row.writes.low <= writes <= row.writes.high
        assert row.os_pages_accessed.low <= os_pages <= row.os_pages_accessed.high
        if row.cache_size >= 5 * found.recorded_size:
            assert row.reads.value == pytest.approx(reads, rel=0.05)
            assert row.writes.value == pytest.approx(writes, rel=0.05)
            assert row.os_pages_accessed.value == pytest.approx(os_pages, rel=0.05)
        if row.cache_size >= found.fits_from:
            assert max(row.writes.error, row.os_pages_accessed.error) < 0.011
        if engine == "wasm":
            assert row.instructions.low <= spent <= row.instructions.high
        else:
            assert row.instructions is None
    assert found.rows[-1].cache_size >= found.fits_from
