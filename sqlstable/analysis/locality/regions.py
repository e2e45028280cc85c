"""How full the 64 KiB regions are that messages are charged for.

Today's prices charge each Wasm page of stable memory that a message first accesses, and again when
it first dirties it, whatever it touches there (`sqlstable.ic.prices`, regime memory-tracker).
"""

from dataclasses import dataclass

import numpy as np

from sqlstable.analysis.locality.page_history import Int64s
from sqlstable.ic.prices import PriceRegime
from sqlstable.ic.units import OS_PAGES_PER_WASM_PAGE


@dataclass(frozen=True, slots=True, eq=False)
class RegionUse:
    """Regions that messages touched in one way, and the OS pages in them that they did touch.

    A region that ten messages touched counts ten times, as it is charged.
    """

    by_fullness: Int64s
    "Regions by the OS pages touched in them: at position k those with k + 1 of 16."
    compact: int
    "Regions that would do if each message's OS pages lay side by side: by message, rounded up."

    @property
    def charged(self) -> int:
        """Regions that messages paid for."""
        return int(self.by_fullness.sum())

    @property
    def os_pages(self) -> int:
        """OS pages touched in them; those of each message add up."""
        return int(self.by_fullness @ np.arange(1, OS_PAGES_PER_WASM_PAGE + 1))

    @property
    def fullness(self) -> float:
        """Share of the charged bytes that lay in a touched OS page, from 1/16 to 1; 0 for none."""
        return self.os_pages / max(1, self.charged * OS_PAGES_PER_WASM_PAGE)


@dataclass(frozen=True, slots=True)
class RegionFullness:
    """What messages paid for regions, and what compaction could save of it at most.

    The least that any order of OS pages could cost a message is its OS pages by 16, rounded up. One
    order serves all messages, so what can be saved in truth is at most what stands here; for a
    message alone it is exact.

    Source: `sqlstable.ic.prices`, which names where the charge for a region was read.
    """

    accessed: RegionUse
    dirty: RegionUse
    region_accessed_instructions: int
    "Charge for a region first accessed, by the price list."
    region_dirty_instructions: int
    prices: str
    "Name of the price list."

    @property
    def charged_instructions(self) -> int:
        """What all messages paid for regions."""
        return self._priced(self.accessed.charged, self.dirty.charged)

    @property
    def compact_instructions(self) -> int:
        """What they would pay if each message's OS pages lay side by side."""
        return self._priced(self.accessed.compact, self.dirty.compact)

    @property
    def saved_instructions_max(self) -> int:
        """What compaction could save at most."""
        return self.charged_instructions - self.compact_instructions

    def _priced(self, accessed: int, dirty: int) -> int:
        return accessed * self.region_accessed_instructions + dirty * self.region_dirty_instructions


class RegionCounter:
    """Counts the OS pages in each region of each message; messages come in order."""

    def __init__(self) -> None:
        self._by_fullness = np.zeros(OS_PAGES_PER_WASM_PAGE, np.int64)
        self._compact = 0
        # The message that may go on, and its regions so far.
        self._message = np.empty(0, np.int64)
        self._regions = np.empty(0, np.int64)

    def feed(self, message: Int64s, os_pages: Int64s) -> None:
        """Take OS pages that messages touched, each once in its message."""
        self._message = np.concatenate([self._message, message])
        self._regions = np.concatenate([self._regions, os_pages // OS_PAGES_PER_WASM_PAGE])
        if len(self._message):
            self._count_until(int(self._message[-1]))

    def use(self) -> RegionUse:
        """Return what was counted."""
        if len(self._message):
            self._count_until(int(self._message[-1]) + 1)
        return RegionUse(self._by_fullness, self._compact)

    def _count_until(self, message: int) -> None:
        """Count the messages before this one, to which nothing can be added any more."""
        end = int(np.searchsorted(self._message, message))
        messages, regions = self._message[:end], self._regions[:end]
        self._message, self._regions = self._message[end:], self._regions[end:]
        if not end:
            return
        _, by_message = np.unique(messages, return_counts=True)
        self._compact += int((-(-by_message // OS_PAGES_PER_WASM_PAGE)).sum())
        # Equal regions of a message come together when sorted by both.
        order = np.lexsort((regions, messages))
        same = (np.diff(regions[order]) == 0) & (np.diff(messages[order]) == 0)
        starts = np.flatnonzero(np.append(True, ~same))
        in_region = np.diff(np.append(starts, end))
        self._by_fullness += np.bincount(in_region - 1, minlength=OS_PAGES_PER_WASM_PAGE)


def region_fullness(accessed: RegionUse, dirty: RegionUse, prices: PriceRegime) -> RegionFullness:
    """Price what was counted."""
    costs = prices.costs
    return RegionFullness(
        accessed, dirty, costs.stable_region_accessed, costs.stable_region_dirty, prices.name
    )
