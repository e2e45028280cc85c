"""All figures of the locality of a trace, from one pass over its accesses.

What is counted are *touches*: each OS page, or SQLite page, that a read or write overlaps, in the
order in which it happened, over all messages. Size and grow touch nothing.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from sqlstable.analysis.locality.breakdown import Breakdown, LocalityGroup
from sqlstable.analysis.locality.fragmentation import TreeFragmentation, fragmentation
from sqlstable.analysis.locality.hot_set import HotSet, hot_set
from sqlstable.analysis.locality.over_time import DistinctOverTime, MessageCounts
from sqlstable.analysis.locality.page_history import Int64s, PageHistory, Touches
from sqlstable.analysis.locality.regions import RegionCounter, RegionFullness, region_fullness
from sqlstable.analysis.locality.reuse import (
    MissRatioCurve,
    ReuseCounts,
    ReuseDistances,
    ReuseHistogram,
    miss_ratio_curve,
)
from sqlstable.analysis.locality.sequence import Sequentiality, Steps
from sqlstable.analysis.locality.working_set import WorkingSet, WorkingSetCurve
from sqlstable.analysis.locality.write_amplification import (
    WriteAmplification,
    write_amplification,
)
from sqlstable.analysis.trace_source import TraceSource
from sqlstable.errors import TraceError
from sqlstable.ic.prices import regime_of
from sqlstable.ic.units import OS_PAGES_PER_WASM_PAGE
from sqlstable.ic.words import WRITE
from sqlstable.trace.access_stream import AccessBlock

_Flags = npt.NDArray[np.bool_]

PageUnit = Literal["os", "sqlite"]
"""What a page is: an OS page of stable memory, or a SQLite page of the main database."""


@dataclass(frozen=True, slots=True, eq=False)
class Locality:
    """How local a trace is; each figure says where its formula comes from."""

    unit: PageUnit
    "What the pages of the figures are; `over_time`, `regions` and `writes` have OS pages always."
    accesses: int
    "Reads and writes of stable memory."
    touches: int
    "Pages that they overlapped, each as often as it was."
    distinct: int
    "Distinct pages touched."
    reuse: ReuseHistogram
    miss_ratio: MissRatioCurve
    working_set: WorkingSetCurve
    over_time: DistinctOverTime
    sequentiality: Sequentiality
    hot_set: HotSet
    regions: RegionFullness
    by_owner: tuple[LocalityGroup, ...]
    by_shape: tuple[LocalityGroup, ...]
    by_phase: tuple[LocalityGroup, ...]
    write_amplification: WriteAmplification
    trees: tuple[TreeFragmentation, ...]
    "The largest first; empty where the trace does not have them."


def locality(trace: TraceSource, *, unit: PageUnit = "os") -> Locality:
    """Measure how local the accesses of a trace are.

    Memory goes by the distinct pages and reuse distances, not by the length of the trace.

    Args:
        trace: Read once, block by block.
        unit: Whether pages are OS pages of stable memory or SQLite pages of the main database.

    Raises:
        TraceError: SQLite pages were asked for, and the trace does not say how large they are.

    Examples:
        >>> from sqlstable import Canister
        >>> canister = Canister(trace=":memory:")
        >>> reply = canister.update("CREATE TABLE t (a)")
        >>> with canister.trace() as trace:
        ...     found = locality(trace)
        >>> canister.close()
        >>> found.touches, found.distinct, found.miss_ratio.misses_at(found.distinct)
        (14, 11, 11)
    """
    gathering = _Gathering(trace, unit)
    for block in trace.access_blocks(pieces=True):
        gathering.feed(block)
    return gathering.result()


class _Gathering:
    """One pass over the blocks of a trace."""

    def __init__(self, trace: TraceSource, unit: PageUnit) -> None:
        self._trace = trace
        self._unit = unit
        self._page_size = _page_size(trace) if unit == "sqlite" else 0
        self._accesses = 0
        self._steps = Steps()
        self._history = PageHistory()
        self._distances = ReuseDistances()
        self._reuse = ReuseCounts()
        self._working_set = WorkingSet()
        self._touches_by_id = np.zeros(0, np.int64)
        self._groups = _breakdown(trace)
        self._messages = _MessagePages(len(trace.messages))

    def feed(self, block: AccessBlock) -> None:
        """Take the next accesses."""
        self._accesses += int(np.count_nonzero((block.kind <= WRITE) & block.begins))
        rows, os_pages = block.os_pages()
        self._messages.feed(block, rows, os_pages)
        if self._unit == "sqlite":
            rows, pages = block.sqlite_pages(self._page_size)
        else:
            pages = os_pages
        touches = self._history.feed(pages)
        distances = self._distances.feed(touches.previous)
        self._reuse.add(distances)
        self._working_set.feed(touches)
        self._touches_by_id = _added(self._touches_by_id, touches.ids, self._history.page_count)
        self._count_groups(block, rows, pages, touches, distances)

    def _count_groups(
        self, block: AccessBlock, rows: Int64s, pages: Int64s, touches: Touches, distances: Int64s
    ) -> None:
        statement = block.statement[rows]
        groups = self._groups.feed(
            statement=statement,
            phase=block.phase[rows],
            owner=block.owner[rows],
            ids=touches.ids,
            distances=distances,
        )
        self._groups.count_kinds(groups, block.kind[rows] == WRITE)
        makers = (block.message[rows], statement, block.outside[rows])
        found, strides = self._steps.feed(makers, pages)
        self._groups.count_steps(groups[found], strides)

    def result(self) -> Locality:
        """Return all figures."""
        reuse = self._reuse.histogram()
        return Locality(
            unit=self._unit,
            accesses=self._accesses,
            touches=self._history.touch_count,
            distinct=self._history.page_count,
            reuse=reuse,
            miss_ratio=miss_ratio_curve(reuse),
            working_set=self._working_set.curve(self._history),
            over_time=self._messages.counts.result(),
            sequentiality=self._steps.result(),
            hot_set=hot_set(self._touches_by_id),
            regions=region_fullness(
                self._messages.accessed.use(), self._messages.dirty.use(), regime_of(None)
            ),
            by_owner=self._groups.by_owner(),
            by_shape=self._groups.by_shape(),
            by_phase=self._groups.by_phase(),
            write_amplification=write_amplification(self._trace),
            trees=_trees(self._trace),
        )


class _MessagePages:
    """Counts the sets of OS pages and Wasm pages of each message.

    A page is new in its message where its last touch lies before the message's first.
    """

    def __init__(self, message_count: int) -> None:
        self.counts = MessageCounts(message_count)
        self.accessed = RegionCounter()
        self.dirty = RegionCounter()
        self._accessed = _MessageSets()
        self._dirty = _MessageSets()
        self._wasm = _MessageSets()

    def feed(self, block: AccessBlock, rows: Int64s, os_pages: Int64s) -> None:
        """Take OS pages that the accesses of a block overlap."""
        messages = block.message[rows].astype(np.int64)
        is_first, is_new = self._accessed.feed(messages, os_pages)
        self.counts.add("os_pages", messages[is_first])
        self.counts.add("os_pages_new", messages[is_new])
        self.accessed.feed(messages[is_first], os_pages[is_first])
        # What is no first touch of an OS page is none of its Wasm page either.
        wasm_messages = messages[is_first]
        is_first_wasm, is_new = self._wasm.feed(
            wasm_messages, os_pages[is_first] // OS_PAGES_PER_WASM_PAGE
        )
        self.counts.add("wasm_pages", wasm_messages[is_first_wasm])
        self.counts.add("wasm_pages_new", wasm_messages[is_new])
        writes = block.kind[rows] == WRITE
        messages, os_pages = messages[writes], os_pages[writes]
        is_first, _ = self._dirty.feed(messages, os_pages)
        self.counts.add("os_pages_dirty", messages[is_first])
        self.dirty.feed(messages[is_first], os_pages[is_first])


class _MessageSets:
    """Tells which touches are the first of their page in a message, and in the trace."""

    def __init__(self) -> None:
        self._history = PageHistory()
        self._message = -1
        self._message_start = 0

    def feed(self, messages: Int64s, pages: Int64s) -> tuple[_Flags, _Flags]:
        """Return, for each touch, whether it is the first of its message, and of all."""
        touches = self._history.feed(pages)
        begins = np.diff(messages, prepend=self._message) != 0
        # The first touch of the message that each belongs to; the one before goes on at first.
        starts = np.where(begins, touches.indexes, self._message_start)
        starts = np.maximum.accumulate(starts)
        if len(messages):
            self._message, self._message_start = int(messages[-1]), int(starts[-1])
        return touches.previous < starts, touches.previous < 0


def _breakdown(trace: TraceSource) -> Breakdown:
    shapes: dict[str, int] = {}
    shape_of = [
        shapes.setdefault(statement.shape or statement.sql, len(shapes))
        for statement in trace.statements
    ]
    return Breakdown(trace.access_owners, np.array(shape_of, np.int64), tuple(shapes))


def _trees(trace: TraceSource) -> tuple[TreeFragmentation, ...]:
    return fragmentation(trace.trees, _page_size(trace)) if trace.trees else ()


def _page_size(trace: TraceSource) -> int:
    page_size = trace.settings.values.get("page_size")
    if not isinstance(page_size, int) or page_size < 1:
        raise TraceError(
            "the trace does not say how large its SQLite pages are; measure in OS pages instead"
        )
    return page_size


def _added(counts: Int64s, ids: Int64s, size: int) -> Int64s:
    """Return counts by id with further ids counted."""
    found = np.bincount(ids, minlength=size)
    found[: len(counts)] += counts
    return found
