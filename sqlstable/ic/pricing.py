"""From units to instructions, by a price list."""

from dataclasses import dataclass

from sqlstable.ic.charged import Charged
from sqlstable.ic.prices import PriceRegime


@dataclass(frozen=True, slots=True)
class Spent:
    """Instructions by what they were spent on; a part that nobody counted is None."""

    computation: int | None
    stable: int
    "Always known, and exact."
    heap: int | None

    @property
    def total(self) -> int | None:
        """All of it; None where a part is not known."""
        if self.computation is None or self.heap is None:
            return None
        return self.computation + self.stable + self.heap


def spent(charged: Charged, regime: PriceRegime) -> Spent:
    """Return what units cost under a price list.

    Args:
        charged: The units of a message, or of a statement.
        regime: The price list, as it is for the kind of message and the width of the heap.

    Examples:
        >>> from sqlstable.ic.prices import PRICE_REGIMES
        >>> units = Charged(
        ...     {"replica": 41_000},
        ...     stable_accesses=2,
        ...     stable_bytes=8_192,
        ...     stable_regions_accessed=2,
        ... )
        >>> spent(units, PRICE_REGIMES["memory-tracker"])
        Spent(computation=41000, stable=168232, heap=None)
    """
    known = charged.computation
    stable = regime.stable_call_cost(
        accesses=charged.stable_accesses,
        bytes_moved=charged.stable_bytes,
        grows=charged.stable_grows,
    ) + regime.stable_page_cost(
        wasm_pages_accessed=charged.stable_regions_accessed,
        wasm_pages_dirty=charged.stable_regions_dirty,
        os_pages_dirty=charged.stable_os_pages_dirty,
    )
    return Spent(
        None if known is None else known.get(regime.table.name), stable, _heap(charged, regime)
    )


def _heap(charged: Charged, regime: PriceRegime) -> int | None:
    accessed, written = charged.heap_regions_accessed, charged.heap_regions_written
    os_pages = charged.heap_os_pages_written
    if accessed is None or written is None or os_pages is None:
        return None if regime.charges_heap else 0
    return regime.heap_cost(
        wasm_pages_accessed=accessed, wasm_pages_written=written, os_pages_written=os_pages
    )
