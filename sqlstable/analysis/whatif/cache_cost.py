"""What a larger page cache saves in instructions, and what it costs.

Saved are reads and spills: their calls and bytes, the regions of stable memory that no other access
of the message touches, and SQLite's work for them. A cache costs the heap that it lies in: where
regions of the heap are charged, each message pays for those in which the SQLite pages lie that it
uses, found or read, because using one writes the header beside it.

The charges are those of the trace's price list, and exact. SQLite's work and the heap are modelled:

* `READ_WORK` and `WRITE_WORK` instructions of computation for each read and each write;
* a cached SQLite page takes twice its size in the heap, the next power of two above page and
  header. A message that uses ``n`` SQLite pages writes in the heap where each of them lies, and
  where its neighbours in the list of least recent use lie. At best the ``n`` lie side by side; at
  random, ``k`` pages meet ``m (1 - (1 - 1/m)^k)`` of a cache's ``m`` regions: ``k = 3 n`` where no
  neighbour is used itself, and ``k = 2 n`` is taken as the middle.

Source: `sqlstable.ic.prices` for charges; the work and the size in the heap measured on the wasm
engine with SQLite 3.54.1 (``python -m benchmarks.locality`` compares them with runs); the expected
number of regions is that of A. F. Cardenas, "Analysis and performance of inverted data base
structures", CACM 18 (5), 1975.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from sqlstable.analysis.trace_source import TraceSource
from sqlstable.analysis.whatif.cache_events import CacheEvents, Int64s
from sqlstable.ic.prices import PRICE_REGIMES, PriceRegime
from sqlstable.ic.units import WASM_PAGE_BYTES

READ_WORK: Final = 530
"""Instructions of computation for a read of a SQLite page, beside the call."""

WRITE_WORK: Final = 950
"""Instructions of computation for a write of a SQLite page, beside the call."""

_NEIGHBOURS_USED: Final = 2
_NEIGHBOURS_ALL: Final = 3
"""Pages written in the heap for each page used: its two neighbours are others in the end."""


@dataclass(frozen=True, slots=True, eq=False)
class CacheCost:
    """Prices the difference between two sizes of the page cache."""

    recorded: int
    "Instructions of all messages as recorded."
    prices: PriceRegime
    page_size: int
    "Bytes of a SQLite page."
    pages_used: Int64s
    "Distinct SQLite pages that each message read or wrote."
    pages_known: Int64s
    "Distinct SQLite pages up to each message: as many as a cache can hold by then."
    slot_bytes: int
    "Of heap for a cached SQLite page; 0 where prices charge nothing for the heap."

    def saved(self, *, reads: int, writes: int, regions: int) -> int:
        """Return the instructions that fewer accesses save.

        Args:
            reads: Reads that are not made any more.
            writes: Writes that are not made any more; below 0 where there are more of them.
            regions: Regions of stable memory that messages do not access any more.
        """
        calls = self.prices.stable_call_cost(
            accesses=reads + writes, bytes_moved=(reads + writes) * self.page_size
        )
        touched = self.prices.stable_page_cost(
            wasm_pages_accessed=regions, wasm_pages_dirty=0, os_pages_dirty=0
        )
        return calls + touched + reads * READ_WORK + writes * WRITE_WORK

    def heap(self, recorded_size: int, size: int) -> tuple[int, int, int]:
        """Return the instructions that the heap of a larger cache costs: about, at least, at most.

        Args:
            recorded_size: cache_size as recorded.
            size: The other one, in SQLite pages.
        """
        about, least, most = (
            self._regions(size, pages) - self._regions(recorded_size, pages)
            for pages in (_NEIGHBOURS_USED, None, _NEIGHBOURS_ALL)
        )
        found = [about, min(about, least, most), max(about, least, most)]
        about, least, most = (
            self.prices.heap_cost(wasm_pages_accessed=it, wasm_pages_written=it, os_pages_written=0)
            for it in found
        )
        return about, least, most

    def _regions(self, size: int, spread: int | None) -> int:
        """Return in how many regions of the heap messages use a cache.

        Args:
            size: cache_size.
            spread: Pages at random for each page used; None: those used lie side by side.
        """
        per_page = self.slot_bytes / WASM_PAGE_BYTES
        used = np.minimum(self.pages_used, size)
        if spread is None or per_page >= 1:
            return round(float(np.ceil(used * per_page).sum()))
        regions = np.maximum(1.0, np.minimum(self.pages_known, size) * per_page)
        # A region alone is met by any page; its logarithm is none.
        missed = np.exp(spread * self.pages_used * np.log1p(-np.minimum(1 / regions, 1 - 1e-12)))
        return round(float((regions * (1 - missed)).sum()))


def cache_cost(trace: TraceSource, events: CacheEvents, page_size: int) -> CacheCost | None:
    """Return what prices sizes of the page cache; None for a trace without instructions."""
    recorded = trace.summary.instructions
    prices = PRICE_REGIMES.get(str(trace.settings.values.get("price_regime")))
    if recorded is None or prices is None:
        return None
    used, known = _pages(events, len(trace.messages))
    slot_bytes = 2 * page_size if prices.costs.heap_region_accessed else 0
    return CacheCost(recorded.total, prices, page_size, used, known, slot_bytes)


def _pages(events: CacheEvents, message_count: int) -> tuple[Int64s, Int64s]:
    """Return the distinct SQLite pages in each message, and up to each."""
    sets = events.sqlite_pages
    _, first = np.unique(sets.member, return_index=True)
    used = np.bincount(events.message[sets.event[first]], minlength=message_count)
    cached = np.flatnonzero(events.page)
    _, first = np.unique(events.page[cached], return_index=True)
    new = np.bincount(events.message[cached[first]], minlength=message_count)
    return used, np.cumsum(new)
