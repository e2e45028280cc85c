"""What happened to each OS page of stable memory, as columns for pictures.

A stable memory may be 500 GiB large and hardly used, so only *stretches* around OS pages that were
touched are shown. Between them lie gaps, and a picture says how large each is. A picture with fewer
cells than there are OS pages has each cell stand for several of them.

**Invariants**

* Reads and writes add up to the touches: each OS page that an access overlaps, once an access.
* The OS pages shown and those in gaps add up to the size of stable memory, or to the last stretch
  where that reaches beyond.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np

from sqlstable.analysis.page_counts import (
    LAST_ACCESS,
    LAST_WRITER,
    OWNER,
    READS,
    WRITES,
    PageCounts,
)
from sqlstable.analysis.trace_source import TraceSource
from sqlstable.ic.units import OS_PAGE_BYTES, OS_PAGES_PER_WASM_PAGE
from sqlstable.trace.access_stream import Int32s, Int64s
from sqlstable.trace.model import Owner

GAP_OS_PAGES_MIN: Final = 64
"""Untouched OS pages that a picture leaves out, at least; fewer are shown as they are."""


@dataclass(frozen=True, slots=True, eq=False)
class Stretches:
    """The parts of stable memory that pictures show, as columns of one length.

    Each begins and ends at the border of a Wasm page.
    """

    first: Int64s
    "Index of the first OS page, ascending."
    count: Int64s
    "OS pages, 1 or more."
    place: Int64s
    "OS pages shown before it: its place in a picture."
    gap: Int64s
    "OS pages left out before it; none of them was touched."
    gap_after: int
    "OS pages left out after the last one, up to the size of stable memory."

    @property
    def shown(self) -> int:
        """OS pages in all stretches."""
        return int(self.count.sum())

    @property
    def left_out(self) -> int:
        """OS pages in all gaps."""
        return int(self.gap.sum()) + self.gap_after

    def places(self, os_pages: Int64s) -> Int64s:
        """Return where OS pages lie among those shown, from 0; each must be in a stretch."""
        stretch = np.searchsorted(self.first, os_pages, side="right") - 1
        return self.place[stretch] + os_pages - self.first[stretch]

    def os_pages(self, places: Int64s) -> Int64s:
        """Return which OS pages lie at these places."""
        stretch = np.searchsorted(self.place, places, side="right") - 1
        return self.first[stretch] + places - self.place[stretch]


@dataclass(frozen=True, slots=True, eq=False)
class PageCells:
    """The cells of a picture, as columns of one length; each stands for as many OS pages."""

    os_pages_each: int
    "OS pages that a cell stands for, a power of two; the last one may be for fewer."
    first: Int64s
    """Index of the first OS page of each. A cell's OS pages follow each other in the picture, and
    may lie on two sides of a gap."""
    touched: Int64s
    "OS pages of it that were touched; 0 for a cell of which nothing else is known."
    owner: Int32s
    "Position in `PageMap.owners` of who has the most touched OS pages of it; -1 where none was."
    reads: Int64s
    writes: Int64s
    last_writer: Int64s
    "Index of the message that wrote to it last; -1 where none did."
    last_access: Int64s
    "Index of the message that accessed it last; -1 where none did."

    def __len__(self) -> int:
        return len(self.first)


@dataclass(frozen=True, eq=False)
class PageMap:
    """What happened to each OS page that was touched, as columns of one length."""

    os_pages: Int64s
    "Indexes, ascending."
    owner: Int32s
    """Position in ``owners`` of whose it was when last accessed by somebody known. An OS page with
    several SQLite pages has the owner of the one accessed last."""
    owners: tuple[Owner, ...]
    "Those of the trace, the unknown one first."
    reads: Int64s
    writes: Int64s
    last_writer: Int64s
    "Index of the message that wrote to it last; -1 where none did."
    last_access: Int64s
    "Index of the message that accessed it last."
    statement_count: Int64s
    "Statements that touched it."
    top_statements: Int32s
    "Indexes of the three that touched it most, in rows of three; -1 where there are fewer."
    message_count: int
    "Messages of the trace."
    stable_os_pages: int
    "Size of stable memory when the trace ends."

    @property
    def role(self) -> tuple[str, ...]:
        """B-tree role of each owner: interior, leaf or overflow, trunk or leaf, or empty."""
        return tuple(owner.role for owner in self.owners)

    @property
    def touches(self) -> int:
        """Reads and writes of all OS pages."""
        return int(self.reads.sum() + self.writes.sum())

    @cached_property
    def stretches(self) -> Stretches:
        """What pictures show of stable memory: touched Wasm pages, and what is short between."""
        return _stretches(self.os_pages, self.stable_os_pages)

    @cached_property
    def places(self) -> Int64s:
        """Where each of ``os_pages`` lies among the OS pages shown, from 0."""
        return self.stretches.places(self.os_pages)

    def cells(self, count_max: int) -> PageCells:
        """Return cells for the OS pages shown, in order.

        Args:
            count_max: Cells at most, 1 or more.

        Returns:
            One cell for each OS page shown, or for each 2, 4, 8 … of them.
        """
        return self._cells(joined(self.stretches.shown, count_max))

    def _cells(self, each: int) -> PageCells:
        count = -(-self.stretches.shown // each)
        cell = self.places // each
        reads, writes, touched = (np.zeros(count, np.int64) for _ in range(3))
        last_writer, last_access = (np.full(count, -1, np.int64) for _ in range(2))
        np.add.at(reads, cell, self.reads)
        np.add.at(writes, cell, self.writes)
        np.add.at(touched, cell, 1)
        np.maximum.at(last_writer, cell, self.last_writer)
        np.maximum.at(last_access, cell, self.last_access)
        first = self.stretches.os_pages(np.arange(count) * each)
        owner = _owner_of_most(cell, self.owner, count)
        return PageCells(each, first, touched, owner, reads, writes, last_writer, last_access)


def page_map(trace: TraceSource) -> PageMap:
    """Return what happened to each OS page, from one pass over the accesses.

    Examples:
        >>> from sqlstable import Canister
        >>> canister = Canister(trace=":memory:")
        >>> reply = canister.update("CREATE TABLE t (a)")
        >>> trace = canister.trace()
        >>> page_map = page_map(trace)
        >>> [page_map.owners[owner].name for owner in page_map.owner[-2:]]
        ['sqlite_schema', 't']
        >>> page_map.stretches.shown, page_map.stretches.left_out
        (32, 2032)
        >>> cells = page_map.cells(16)
        >>> cells.os_pages_each, cells.touched.tolist()
        (2, [2, 2, 2, 2, 1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0])
        >>> trace.close(); canister.close()
    """
    counts = PageCounts()
    for block in trace.access_blocks(pieces=True):
        counts.feed(block)
    columns = counts.columns
    statement_count, top = counts.statements.result(counts.os_pages)
    last = trace.messages[-1] if trace.messages else None
    return PageMap(
        os_pages=counts.os_pages,
        owner=columns[OWNER].astype(np.int32),
        owners=tuple(trace.access_owners),
        reads=columns[READS],
        writes=columns[WRITES],
        last_writer=columns[LAST_WRITER],
        last_access=columns[LAST_ACCESS],
        statement_count=statement_count,
        top_statements=top,
        message_count=trace.summary.message_count,
        stable_os_pages=-(-last.image_bytes // OS_PAGE_BYTES) if last else 0,
    )


def joined(count: int, count_max: int) -> int:
    """Return how many of ``count`` things to join in one, a power of two, to leave so few.

    Examples:
        >>> joined(10, 10), joined(11, 10), joined(0, 1)
        (1, 2, 1)
    """
    each = 1
    while -(-count // each) > count_max:
        each *= 2
    return each


def _stretches(os_pages: Int64s, stable_os_pages: int) -> Stretches:
    """Take whole Wasm pages: that much a message is charged for when it touches one."""
    each = OS_PAGES_PER_WASM_PAGE
    starts = np.unique(os_pages // each) * each
    if not len(starts):
        none = np.empty(0, np.int64)
        return Stretches(none, none, none, none, stable_os_pages)
    ends = starts + each
    far = starts[1:] - ends[:-1] >= GAP_OS_PAGES_MIN
    first = starts[np.concatenate(([True], far))]
    end = ends[np.concatenate((far, [True]))]
    # What is short at either end is shown, too.
    if first[0] < GAP_OS_PAGES_MIN:
        first[0] = 0
    if 0 < stable_os_pages - end[-1] < GAP_OS_PAGES_MIN:
        end[-1] = stable_os_pages
    count = end - first
    gap = first - np.concatenate(([0], end[:-1]))
    return Stretches(
        first, count, np.cumsum(count) - count, gap, max(0, stable_os_pages - int(end[-1]))
    )


def _owner_of_most(cell: Int64s, owner: Int32s, count: int) -> Int32s:
    """Return for each cell the owner that most of its OS pages have; of equals the first one."""
    most = np.full(count, -1, np.int32)
    if not len(cell):
        return most
    span = int(owner.max()) + 1
    pairs, pages = np.unique(cell * span + owner, return_counts=True)
    # The last assigned stays: the most pages, and of as many the smallest owner.
    order = np.lexsort((-pairs, pages))
    most[pairs[order] // span] = pairs[order] % span
    return most
