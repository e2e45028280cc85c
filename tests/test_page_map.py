"""The map of stable memory: against plain counting, and the curves that draw it."""

import random
from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqlstable import Canister
from sqlstable.analysis.curves import CURVES, SIDE_MAX, hilbert, side_for, width_for
from sqlstable.analysis.page_map import GAP_OS_PAGES_MIN, page_map
from sqlstable.analysis.page_time import page_time
from sqlstable.ic.units import OS_PAGE_BYTES
from sqlstable.ic.words import GROW, WRITE
from sqlstable.trace.access_stream import UNKNOWN_OWNER
from tests.hand_built import HandBuiltTrace, accesses, message, statement, use
from tests.test_access_stream import run_at_random

STATEMENT_COUNT = 9


@st.composite
def traces(draw):
    """Two statements a message, with accesses here and far away, some of them long."""
    places = st.one_of(st.integers(0, 300), st.integers(5_000, 5_040), st.integers(0, 1 << 40))
    rows = st.tuples(st.integers(0, GROW), places, st.integers(0, 3 * OS_PAGE_BYTES), st.just(-1))
    made = [draw(st.lists(rows, max_size=30)) for _ in range(STATEMENT_COUNT)]
    messages = tuple(
        message(index, "update", range(2 * index, min(2 * index + 2, STATEMENT_COUNT)), use(1))
        for index in range(-(-STATEMENT_COUNT // 2))
    )
    return HandBuiltTrace(
        messages=messages,
        statements=tuple(statement(i, i // 2, "SELECT 1") for i in range(STATEMENT_COUNT)),
        accesses_by_statement=tuple(
            accesses(*((k, place * OS_PAGE_BYTES // 3, n, off) for k, place, n, off in it))
            for it in made
        ),
    )


class Plain:
    """Counts one access after the other."""

    def __init__(self, trace):
        self.reads, self.writes = Counter(), Counter()
        self.last_writer, self.last_access, self.owner = {}, {}, {}
        self.statements = defaultdict(Counter)
        self.access_count = 0
        for block in trace.access_blocks():
            self.access_count += len(block)
            rows, os_pages = block.os_pages()
            columns = (block.kind, block.message, block.statement, block.owner)
            each = zip(*(it[rows].tolist() for it in columns), os_pages.tolist(), strict=True)
            for kind, message_index, made_by, owner, os_page in each:
                (self.writes if kind == WRITE else self.reads)[os_page] += 1
                self.last_access[os_page] = message_index
                if kind == WRITE:
                    self.last_writer[os_page] = message_index
                if owner != UNKNOWN_OWNER:
                    self.owner[os_page] = owner
                if made_by >= 0:
                    self.statements[os_page][made_by] += 1

    def top(self, os_page):
        order = sorted(self.statements[os_page].items(), key=lambda it: (-it[1], it[0]))
        return [*(index for index, _ in order), -1, -1, -1][:3]


def check(trace):
    plain, made = Plain(trace), page_map(trace)
    os_pages = made.os_pages.tolist()
    assert os_pages == sorted(plain.last_access)
    assert made.reads.tolist() == [plain.reads[it] for it in os_pages]
    assert made.writes.tolist() == [plain.writes[it] for it in os_pages]
    assert made.last_writer.tolist() == [plain.last_writer.get(it, -1) for it in os_pages]
    assert made.last_access.tolist() == [plain.last_access[it] for it in os_pages]
    assert made.owner.tolist() == [plain.owner.get(it, UNKNOWN_OWNER) for it in os_pages]
    assert made.statement_count.tolist() == [len(plain.statements[it]) for it in os_pages]
    assert made.top_statements.tolist() == [plain.top(it) for it in os_pages]
    check_stretches(made)
    for count_max in (1, 7, 100, 1 << 20):
        check_cells(made, count_max)
    check_time(trace, made, plain)
    return made


def check_stretches(made):
    stretches = made.stretches
    inner = stretches.gap[1:].tolist()
    assert all(gap >= GAP_OS_PAGES_MIN for gap in inner)
    end = stretches.first[-1] + stretches.count[-1] if len(stretches.first) else 0
    assert stretches.shown + stretches.left_out == max(made.stable_os_pages, int(end))
    assert stretches.os_pages(made.places).tolist() == made.os_pages.tolist()
    assert len(set(made.places.tolist())) == len(made.places)


def check_cells(made, count_max):
    cells = made.cells(count_max)
    assert len(cells) <= count_max
    assert len(cells) == -(-made.stretches.shown // cells.os_pages_each)
    assert cells.reads.sum() + cells.writes.sum() == made.touches
    assert cells.touched.sum() == len(made.os_pages)
    members = defaultdict(list)
    for row, place in enumerate(made.places.tolist()):
        members[place // cells.os_pages_each].append(row)
    for cell, rows in members.items():
        owners = Counter(made.owner[rows].tolist())
        most = max(owners.values())
        assert cells.owner[cell] == min(it for it, count in owners.items() if count == most)
        assert cells.last_writer[cell] == made.last_writer[rows].max()
        assert cells.last_access[cell] == made.last_access[rows].max()
    assert np.flatnonzero(cells.owner >= 0).tolist() == sorted(members)


def check_time(trace, made, plain):
    counts = page_time(trace, made, time_bins_max=6, place_bins_max=5)
    assert counts.access_count == plain.access_count
    assert counts.reads.shape[0] <= 6
    assert counts.reads.shape[1] <= 5
    assert counts.reads.sum() == sum(plain.reads.values())
    assert counts.writes.sum() == sum(plain.writes.values())
    assert counts.first_message.tolist() == [
        messages_of(trace)[row * counts.accesses_each] for row in range(len(counts.first_message))
    ]
    by_column = np.bincount(
        made.places // counts.os_pages_each,
        weights=made.reads + made.writes,
        minlength=counts.reads.shape[1],
    )
    assert (counts.reads + counts.writes).sum(axis=0).tolist() == by_column.tolist()


def messages_of(trace):
    return [index for block in trace.access_blocks() for index in block.message.tolist()]


@given(traces())
def test_counts_are_those_of_plain_counting(trace):
    check(trace)


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_recorded_trace_is_counted_the_same(seed):
    with Canister(trace=":memory:") as canister:
        run_at_random(canister, random.Random(seed), 12)
        trace = canister.trace()
        made = check(trace)
        names = {made.owners[owner].name for owner in made.owner.tolist()}
        assert {"(memory manager)", "sqlite_schema", "t", "u"} <= names
        trace.close()


def test_an_empty_trace_has_an_empty_map():
    made = check(HandBuiltTrace())
    assert (made.touches, made.stretches.shown, len(made.cells(9))) == (0, 0, 0)


def test_far_apart_pages_leave_a_gap_that_says_how_large_it_is():
    far = 1 << 30
    trace = HandBuiltTrace(
        messages=(message(0, "update", (0,), use(2)),),
        statements=(statement(0, 0, "SELECT 1"),),
        accesses_by_statement=(
            accesses((0, 5 * 4096, 1, -1), (0, 100 * 4096, 1, -1), (1, far * 4096, 1, -1)),
        ),
    )
    stretches = check(trace).stretches
    assert list(zip(stretches.first, stretches.count, stretches.gap, strict=True)) == [
        (0, 16, 0),
        (96, 16, 80),
        (far, 16, far - 112),
    ]


@pytest.mark.parametrize("name", CURVES)
@pytest.mark.parametrize("count", [0, 1, 2, 3, 5, 64, 100, 4_096, 5_000, 20_000])
def test_each_cell_has_a_place_of_its_own(name, count):
    for width in {1, 3, 64, 200, width_for(count)}:
        x, y = CURVES[name](count, width)
        assert len(set(zip(x.tolist(), y.tolist(), strict=True))) == count
        assert np.all((x >= 0) & (x < width) & (y >= 0))


@pytest.mark.parametrize("side", [2, 4, 8, 16, 32, SIDE_MAX])
def test_a_hilbert_curve_never_leaps_and_leads_into_the_next(side):
    x, y = hilbert(3 * side * side, 3 * side)
    steps = np.abs(np.diff(x)) + np.abs(np.diff(y))
    assert side_for(3 * side * side) == side
    assert np.all(steps == 1)
    assert (x[0], y[0]) == (0, 0)


@given(st.integers(0, 300_000))
def test_a_picture_is_about_as_wide_as_high_and_mostly_full(count):
    side, width = side_for(count), width_for(count)
    height = -(-count // (width * side)) * side
    assert width - 2 * side <= height <= width
    assert count >= (width * height) // 2
