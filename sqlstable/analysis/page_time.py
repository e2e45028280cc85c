"""When which OS pages were touched: counts by places in stable memory and by time.

Time is counted in accesses, so that a message is as wide as what it did. Places are those of a
`PageMap`: its stretches one after the other, without the gaps.

**Invariants**

* The counts add up to the touches of the map.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from sqlstable.analysis.page_map import PageMap, joined
from sqlstable.analysis.trace_source import TraceSource
from sqlstable.ic.words import WRITE
from sqlstable.trace.access_stream import Int64s

TIME_BINS_MAX: Final = 640
PLACE_BINS_MAX: Final = 360
"""Bins of a picture as large as a reader's screen has room for."""


@dataclass(frozen=True, slots=True, eq=False)
class PageTime:
    """Touches of OS pages by time and by place."""

    reads: Int64s
    "One row for each stretch of time, one column for each run of OS pages."
    writes: Int64s
    "Likewise."
    accesses_each: int
    "Accesses of all kinds that a row stands for, a power of two; the last one may be for fewer."
    os_pages_each: int
    "OS pages that a column stands for, a power of two; the last one may be for fewer."
    access_count: int
    "Accesses of all kinds."
    first_message: Int64s
    "Index of the message that the first access of each row belongs to."
    first_os_page: Int64s
    "Index of the first OS page of each column."


def page_time(
    trace: TraceSource,
    page_map: PageMap,
    *,
    time_bins_max: int = TIME_BINS_MAX,
    place_bins_max: int = PLACE_BINS_MAX,
) -> PageTime:
    """Return when which OS pages were touched, from one pass over the accesses.

    Args:
        trace: The trace that the map was made of.
        page_map: Where its OS pages lie in a picture.
        time_bins_max: Rows at most, 2 or more.
        place_bins_max: Columns at most, 1 or more.

    Examples:
        >>> from sqlstable import Canister
        >>> from sqlstable.analysis.page_map import page_map
        >>> canister = Canister(trace=":memory:")
        >>> reply = canister.update("CREATE TABLE t (a)")
        >>> trace = canister.trace()
        >>> counts = page_time(trace, page_map(trace), place_bins_max=2)
        >>> counts.os_pages_each, counts.first_os_page.tolist()
        (16, [0, 16])
        >>> trace.close(); canister.close()
    """
    os_pages_each = joined(page_map.stretches.shown, place_bins_max)
    columns = -(-page_map.stretches.shown // os_pages_each)
    rows = _Rows(time_bins_max, columns)
    for block in trace.access_blocks(owners=False):
        touching, os_pages = block.os_pages()
        column = page_map.stretches.places(os_pages) // os_pages_each
        rows.feed(touching, column, block.kind[touching] == WRITE, block.message)
    used = -(-rows.access_count // rows.each)
    return PageTime(
        reads=rows.counts[0, :used],
        writes=rows.counts[1, :used],
        accesses_each=rows.each,
        os_pages_each=os_pages_each,
        access_count=rows.access_count,
        first_message=rows.first_message[:used],
        first_os_page=page_map.stretches.os_pages(np.arange(columns) * os_pages_each),
    )


class _Rows:
    """Counts whose rows are joined by twos whenever time has no more room.

    How long a stream is, nobody knows before its end.
    """

    def __init__(self, count_max: int, columns: int) -> None:
        self.each = 1
        self.access_count = 0
        even = count_max - count_max % 2
        self.counts = np.zeros((2, even, columns), np.int64)
        self.first_message = np.zeros(even, np.int64)

    def feed(
        self,
        accesses: Int64s,
        columns: Int64s,
        writes: np.typing.NDArray[np.bool_],
        messages: np.typing.NDArray[np.int32],
    ) -> None:
        """Count touches of a block with these messages; which access of it made each is given."""
        end = self.access_count + len(messages)
        while end > self.each * len(self.first_message):
            self._join()
        row = (self.access_count + accesses) // self.each
        shape = self.counts.shape
        at = (writes * shape[1] + row) * shape[2] + columns
        self.counts += np.bincount(at, minlength=self.counts.size).reshape(shape)
        begun = np.arange(-(-self.access_count // self.each), -(-end // self.each))
        self.first_message[begun] = messages[begun * self.each - self.access_count]
        self.access_count = end

    def _join(self) -> None:
        half = len(self.first_message) // 2
        self.counts[:, :half] = self.counts[:, 0::2] + self.counts[:, 1::2]
        self.counts[:, half:] = 0
        self.first_message[:half] = self.first_message[0::2]
        self.each *= 2
