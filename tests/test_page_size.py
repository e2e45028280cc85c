"""Predictions for larger SQLite pages: what is counted, by whom, and what is refused."""

import pytest

from sqlstable import Canister
from sqlstable.analysis.whatif.estimate import Estimate
from sqlstable.analysis.whatif.page_size import page_size_what_if
from sqlstable.errors import TraceError
from sqlstable.ic.words import READ
from sqlstable.trace.model import TraceSettings
from tests.hand_built import SETTINGS, HandBuiltTrace, accesses, message, statement, use


def reading(*pages_of, page_size=4096):
    """Return a trace of queries that read these SQLite pages, counted from 0."""
    made = tuple(
        accesses(*((READ, 65_536 + it * page_size, page_size, it * page_size) for it in pages))
        for pages in pages_of
    )
    return HandBuiltTrace(
        settings=TraceSettings({**SETTINGS.values, "page_size": page_size}),
        messages=tuple(message(i, "query", (i,), use(len(it))) for i, it in enumerate(pages_of)),
        statements=tuple(statement(i, i, "SELECT 1", len(it)) for i, it in enumerate(pages_of)),
        accesses_by_statement=made,
    )


def test_neighbours_share_a_larger_page():
    [row] = page_size_what_if(reading((0, 1, 2, 3)), [16_384]).rows
    assert row.os_pages_accessed == Estimate(4, 3, 5), "one page of 4, and the margin"


def test_each_message_pays_for_its_own():
    [row] = page_size_what_if(reading((0,), (1,), (0, 1)), [8192]).rows
    assert row.os_pages_accessed == Estimate(6, 5, 7)


def test_pages_far_apart_are_neighbours_at_best():
    found = page_size_what_if(reading((0, 100, 200, 300)), [8192]).rows[0].os_pages_accessed
    assert (found.low, found.value, found.high) == (3, 4, 9)


def test_small_pages_come_to_whole_os_pages():
    [row] = page_size_what_if(reading((0, 1, 9), page_size=1024), [4096]).rows
    assert row.os_pages_accessed.high >= 2
    assert row.os_pages_accessed.value == 1, "three of four neighbours, for all that is known"


def test_without_sizes_all_larger_ones_are_told():
    found = page_size_what_if(reading((0,), page_size=8192))
    assert [row.page_size for row in found.rows] == [16_384, 32_768, 65_536]
    assert page_size_what_if(reading((0,), page_size=65_536)).rows == ()


def test_an_empty_trace_accesses_nothing():
    found = page_size_what_if(HandBuiltTrace())
    assert {row.os_pages_accessed for row in found.rows} == {Estimate(0, 0, 0)}
    assert found.recorded_os_pages == 0


@pytest.mark.parametrize("size", [4096, 2048, 12_288, 131_072, 0])
def test_other_sizes_are_to_be_measured(size):
    with pytest.raises(TraceError, match=rf"measure others with `Canister\(page_size={size}\)`"):
        page_size_what_if(HandBuiltTrace(), [size])


def test_the_size_of_the_trace_must_be_known():
    with pytest.raises(TraceError, match="does not say its page_size"):
        page_size_what_if(HandBuiltTrace(settings=TraceSettings({})))


def beside(block):
    """Return the OS pages that a block accesses outside of the database, by row."""
    rows, os_pages = block.os_pages()
    is_beside = block.offset[rows] < 0
    return rows[is_beside], os_pages[is_beside]


def test_owners_add_up_and_what_is_outside_stays():
    with Canister(trace=":memory:") as canister:
        canister.update("CREATE TABLE t (a INTEGER PRIMARY KEY, b)")
        canister.update("CREATE INDEX ix ON t (b)")
        canister.update("INSERT INTO t (b) VALUES (zeroblob(9000)), ('x')")
        canister.query("SELECT b FROM t WHERE a = 2")
        with canister.trace() as trace:
            [row] = page_size_what_if(trace, [8192]).rows
            outside = sum(
                len({*zip(block.message[rows].tolist(), os_pages.tolist(), strict=True)})
                for block in trace.access_blocks()
                for rows, os_pages in [beside(block)]
            )
    assert {it.owner.name for it in row.by_owner} == {"sqlite_schema", "t", "ix"}
    assert sum(it.os_pages_accessed.value for it in row.by_owner) == (
        row.os_pages_accessed.value - outside
    )
    for estimate in (row.os_pages_accessed, *(it.os_pages_accessed for it in row.by_owner)):
        assert estimate.low <= estimate.value <= estimate.high
