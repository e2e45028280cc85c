"""Locality against plain models: on random touches, and on what real statements touch."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqlstable import Canister, open_trace
from sqlstable.analysis.locality.hot_set import hot_set
from sqlstable.analysis.locality.locality import locality
from sqlstable.analysis.locality.page_history import PIECE_TOUCHES, PageHistory
from sqlstable.analysis.locality.reuse import ReuseCounts, ReuseDistances, miss_ratio_curve
from sqlstable.analysis.locality.value_counts import ValueCounts
from sqlstable.analysis.locality.working_set import WorkingSet
from sqlstable.errors import TraceError
from sqlstable.ic.words import PHASES, READ, WRITE
from tests.hand_built import HandBuiltTrace, accesses, message, statement, use
from tests.locality_witness import (
    average_working_set,
    hot_pages,
    lru_misses,
    reuse_distances,
)

PAGES = st.one_of(
    st.lists(st.integers(0, 9), max_size=80),
    st.lists(st.sampled_from((0, 5, (1 << 50) - 1, 1 << 50, (1 << 51) - 1)), max_size=40),
)
CUTS = st.lists(st.integers(0, 80), max_size=4)


def fed(pages, cuts=()):
    """Return the history, the distances and the working sets of touches fed in parts."""
    history, distances, working_set = PageHistory(), ReuseDistances(), WorkingSet()
    found = []
    borders = [0, *sorted(min(cut, len(pages)) for cut in cuts), len(pages)]
    for start, end in pairwise(borders):
        touches = history.feed(np.array(pages[start:end], np.int64))
        working_set.feed(touches)
        found += distances.feed(touches.previous).tolist()
    return history, found, working_set


def histogram_of(distances):
    counts = ReuseCounts()
    counts.add(np.array(distances, np.int64))
    return counts.histogram()


@given(PAGES, CUTS)
def test_reuse_distances_are_those_of_a_stack(pages, cuts):
    assert fed(pages, cuts)[1] == reuse_distances(pages)


@given(PAGES)
def test_misses_are_those_of_a_cache_of_every_size(pages):
    histogram = histogram_of(fed(pages)[1])
    curve = miss_ratio_curve(histogram)
    assert len(curve.misses) == len(set(pages)) + 1
    assert curve.touches == histogram.touches == len(pages)
    assert curve.misses[-1] == histogram.first_touches == len(set(pages))
    assert (np.diff(curve.misses) <= 0).all()
    for size in range(1, len(curve.misses) + 2):
        expected = lru_misses(pages, size)
        assert curve.misses_at(size) == histogram.misses_at(size) == expected
    if pages:
        half = curve.size_for(0.5)
        assert half is None or curve.misses_at(half) * 2 <= len(pages)
        assert half is None or half == 0 or curve.misses_at(half - 1) * 2 > len(pages)


@given(PAGES, CUTS)
def test_the_working_set_is_averaged_over_every_window(pages, cuts):
    history, _, working_set = fed(pages, cuts)
    curve = working_set.curve(history)
    assert curve.size_at(0) == 0
    for window in range(1, len(pages) + 2):
        assert curve.size_at(window) == pytest.approx(average_working_set(pages, window))
    sizes = [0, *curve.sizes]
    assert (np.diff(sizes) >= 0).all()
    rises = np.diff(sizes) / np.diff([0, *curve.windows])
    assert (np.diff(rises) <= 1e-9).all(), "the curve is concave"


@given(PAGES)
def test_the_hot_set_takes_the_most_touched_pages_first(pages):
    _, counts = np.unique(np.array(pages, np.int64), return_counts=True)
    found = hot_set(counts)
    assert dict(found.pages) == {
        share: hot_pages(pages, round(share * 100)) for share in (0.5, 0.9, 0.99)
    }
    assert found.distinct == len(set(pages))


@given(st.lists(st.lists(st.integers(0, 1 << 62), max_size=6), max_size=6))
def test_values_are_counted_as_often_as_they_come(parts):
    counted_values = ValueCounts()
    for part in parts:
        counted_values.add(np.array(part, np.int64))
        counted_values.counted()
    values, counts = counted_values.counted()
    every = [value for part in parts for value in part]
    assert values.tolist() == sorted(set(every))
    assert counts.tolist() == [every.count(value) for value in values.tolist()]


@given(PAGES, CUTS)
def test_ids_name_pages_by_small_numbers(pages, cuts):
    history, _, _ = fed(pages, cuts)
    again = history.feed(np.array(pages, np.int64))
    assert history.pages[again.ids].tolist() == pages
    assert sorted(set(again.ids.tolist())) == list(range(history.page_count))


@pytest.mark.parametrize("count", [1, PIECE_TOUCHES - 1, PIECE_TOUCHES, PIECE_TOUCHES + 1])
def test_distances_go_on_over_the_borders_of_pieces(count):
    draw = np.random.default_rng(count)
    pages = np.where(draw.random(count) < 0.5, np.arange(count) % 40, draw.integers(0, 9, count))
    _, distances, _ = fed(pages)
    assert distances == reuse_distances(pages.tolist())


# -- whole traces ----------------------------------------------------------------------------------


def by_statements(*pages_of, kind=READ):
    """Return a trace of one query for each statement, that touches these OS pages."""
    made = tuple(
        accesses(*((kind, page * 4096, 4096, page * 4096) for page in pages)) for pages in pages_of
    )
    return HandBuiltTrace(
        messages=tuple(
            message(i, "query", (i,), use(len(set(it)))) for i, it in enumerate(pages_of)
        ),
        statements=tuple(
            statement(i, i, "SELECT 1", len(set(it))) for i, it in enumerate(pages_of)
        ),
        accesses_by_statement=made,
    )


def test_an_empty_trace_has_no_locality():
    found = locality(HandBuiltTrace())
    assert (found.accesses, found.touches, found.distinct) == (0, 0, 0)
    assert found.miss_ratio.misses.tolist() == [0]
    assert found.miss_ratio.ratio.tolist() == [0]
    assert found.reuse.median is None
    assert found.working_set.size_at(10) == 0
    assert found.hot_set.share_of_pages(0.5) == 0
    assert found.sequentiality.share == found.sequentiality.run_length == 0
    assert found.regions.charged_instructions == found.regions.saved_instructions_max == 0
    assert (found.by_owner, found.by_shape, found.by_phase) == ((), (), ())
    assert len(found.over_time.os_pages) == 0
    assert [column.tolist() for column in found.reuse.binned] == [[], []]


def test_one_access_touches_one_page():
    found = locality(by_statements([(1 << 50) + 3]))
    assert (found.accesses, found.touches, found.distinct) == (1, 1, 1)
    assert found.miss_ratio.misses.tolist() == [1, 1]
    assert found.working_set.size_at(1) == found.working_set.size_at(100) == 1
    assert dict(found.hot_set.pages) == {0.5: 1, 0.9: 1, 0.99: 1}
    assert found.regions.accessed.by_fullness.tolist() == [1] + [0] * 15
    assert found.regions.saved_instructions_max == 0


def test_sparse_pages_of_64_bits_are_as_good_as_others():
    near, far = [0, 1, 2, 0, 1], [0, 1 << 50, (1 << 51) - 1, 0, 1 << 50]
    assert locality(by_statements(near)).reuse.counts.tolist() == [2]
    assert locality(by_statements(far)).reuse.counts.tolist() == [2]


def test_regions_are_charged_whole_in_each_message():
    # Two regions with an OS page each would be one; 17 OS pages side by side need two.
    found = locality(by_statements([0, 16, 0], range(17))).regions
    assert found.accessed.charged == 2 + 2
    assert found.accessed.compact == 1 + 2
    assert found.accessed.os_pages == 2 + 17
    assert found.accessed.by_fullness.tolist() == [3, *[0] * 14, 1]
    assert found.accessed.fullness == 19 / 64
    assert found.prices == "memory-tracker"
    assert found.charged_instructions == 4 * 80_000
    assert found.saved_instructions_max == 80_000
    written = locality(by_statements([0, 16], kind=WRITE)).regions
    assert written.charged_instructions == 4 * 80_000
    assert written.saved_instructions_max == 2 * 80_000


def test_strides_are_told_within_a_statement():
    found = locality(by_statements([0, 1, 2, 2, 9, 3], [4, 5])).sequentiality
    assert (found.steps, found.same, found.sequential) == (6, 1, 3)
    assert (found.forward, found.backward) == (1, 1)
    assert found.strides[0] == (1, 3)
    assert found.share == 3 / 5
    assert found.run_length == 5 / 2


def test_sqlite_pages_need_their_size():
    trace = by_statements([0, 1])
    assert locality(trace, unit="sqlite").distinct == 2
    unknown = HandBuiltTrace(settings=type(trace.settings)({}))
    with pytest.raises(TraceError, match="measure in OS pages"):
        locality(unknown, unit="sqlite")


@pytest.fixture(name="trace", scope="module")
def trace_fixture(tmp_path_factory):
    path = tmp_path_factory.mktemp("locality") / "run.trace"
    with Canister(trace=path, cache_size=10) as canister:
        canister.update("CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT)")
        canister.update(
            "INSERT INTO t (b) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n "
            "LIMIT 900) SELECT hex(zeroblob(100)) || i FROM n"
        )
        canister.update("CREATE INDEX ix ON t (b)")
        for key in range(1, 900, 50):
            canister.query("SELECT b FROM t WHERE a = ?", (key,))
        canister.query("SELECT count(*) FROM t WHERE b LIKE '%7'")
        canister.update("UPDATE t SET b = 'x' || a WHERE a % 90 = 0")
        canister.upgrade()
    with open_trace(path) as trace:
        yield trace


@pytest.mark.parametrize("unit", ["os", "sqlite"])
def test_totals_are_conserved(trace, unit):
    found = locality(trace, unit=unit)
    calls = trace.summary.stable.calls
    assert found.accesses == calls.read + calls.write
    assert found.touches == found.reuse.touches == found.miss_ratio.touches
    assert found.distinct == found.reuse.first_touches == found.hot_set.distinct
    for groups in (found.by_owner, found.by_shape, found.by_phase):
        assert sum(it.touches for it in groups) == found.touches
        assert sum(it.reuse.touches for it in groups) == found.touches
        assert sum(it.reuse.first_touches for it in groups) == found.distinct
        assert max(it.distinct for it in groups) <= found.distinct
        assert sum(it.distinct for it in groups) >= found.distinct
        assert sum(it.sequentiality.steps for it in groups) == found.sequentiality.steps
        assert sum(it.sequentiality.sequential for it in groups) == found.sequentiality.sequential
        for size in (0, 1, 7, 100, 10_000):
            misses = sum(it.reuse.misses_at(size) for it in groups)
            assert misses == found.miss_ratio.misses_at(size)


def test_every_cache_size_has_the_misses_of_a_cache_that_is_kept(trace):
    pages = [page for block in trace.access_blocks() for page in block.os_pages()[1].tolist()]
    curve = locality(trace).miss_ratio
    for size in (1, 2, 5, 20, 60, 200):
        assert curve.misses_at(size) == lru_misses(pages, size)


def test_messages_have_the_pages_that_the_recorder_counted(trace):
    found = locality(trace).over_time
    uses = [it.stable for it in trace.messages]
    assert found.os_pages.tolist() == [it.os_pages_accessed for it in uses]
    assert found.os_pages_dirty.tolist() == [it.os_pages_dirty for it in uses]
    assert found.wasm_pages.tolist() == [it.wasm_pages_accessed for it in uses]
    assert found.os_pages_so_far[-1] == locality(trace).distinct
    assert (found.os_pages_new <= found.os_pages).all()
    assert (found.wasm_pages_new <= found.wasm_pages).all()


def test_regions_are_those_that_messages_paid_for(trace):
    found = locality(trace).regions
    uses = [it.stable for it in trace.messages]
    assert found.accessed.charged == sum(it.wasm_pages_accessed for it in uses)
    assert found.dirty.charged == sum(it.wasm_pages_dirty for it in uses)
    assert found.accessed.os_pages == sum(it.os_pages_accessed for it in uses)
    assert found.dirty.os_pages == sum(it.os_pages_dirty for it in uses)


def test_groups_are_owners_shapes_and_phases(trace):
    found = locality(trace)
    assert {"t", "ix", "sqlite_schema"} <= {it.owner.name for it in found.by_owner}
    assert "SELECT b FROM t WHERE a = ?" in {it.name for it in found.by_shape}
    assert "(outside)" in {it.name for it in found.by_shape}
    phases = [it.name for it in found.by_phase]
    assert set(phases) <= {*PHASES, "(unknown)", "(outside)"}
    called = [it for it in trace.messages if it.kind in ("update", "query")]
    written = sum(it.stable.bytes_written for it in called)
    assert found.write_amplification.bytes_written == written
