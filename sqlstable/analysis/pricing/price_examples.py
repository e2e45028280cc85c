"""Worked examples of a price list: what SQLite's smallest accesses cost under it."""

from dataclasses import dataclass
from typing import Final

from sqlstable.ic.charged import Charged
from sqlstable.ic.prices import PriceRegime
from sqlstable.ic.pricing import spent

SQLITE_PAGE_BYTES: Final = 4096
"""Of a SQLite page in the examples, by default as in the database."""


@dataclass(frozen=True, slots=True)
class PriceExample:
    """Some accesses in a message that has touched nothing yet."""

    name: str
    meaning: str
    charged: Charged

    def instructions(self, regime: PriceRegime) -> int:
        """Return what they cost, each call with its operator ``call``."""
        found = spent(self.charged, regime)
        assert found.heap is not None
        return (
            self.charged.stable_accesses * regime.table.weight("call") + found.stable + found.heap
        )


def _example(
    name: str,
    meaning: str,
    *,
    accesses: int = 0,
    regions: int = 0,
    regions_dirty: int = 0,
    os_pages_dirty: int = 0,
    heap_regions: int = 0,
    heap_os_pages: int = 0,
) -> PriceExample:
    return PriceExample(
        name,
        meaning,
        Charged(
            {},
            accesses,
            accesses * SQLITE_PAGE_BYTES,
            0,
            os_pages_dirty,
            regions,
            regions_dirty,
            heap_regions,
            heap_regions if heap_os_pages else 0,
            heap_os_pages,
        ),
    )


EXAMPLES: Final = (
    _example("read", "one SQLite page of 4 KiB, in an untouched region", accesses=1, regions=1),
    _example("read 16", "16 such SQLite pages side by side, one region", accesses=16, regions=1),
    _example("read far", "16 such SQLite pages, each in another region", accesses=16, regions=16),
    _example(
        "update",
        "one SQLite page read and written back",
        accesses=2,
        regions=1,
        regions_dirty=1,
        os_pages_dirty=1,
    ),
    _example(
        "heap",
        "one OS page of the heap read and written, in an untouched region",
        heap_regions=1,
        heap_os_pages=1,
    ),
)
"""What an untouched region makes of it: everything else that a statement computes comes on top."""
