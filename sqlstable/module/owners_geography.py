"""To which memory each address of a stable memory belongs, whoever made it.

A stable memory is one memory, or a memory manager of ic-stable-structures has cut it into buckets
that belong to virtual memories. Each of these is a *place* here, with a number: the id of a virtual
memory, or one of those below.
"""

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt

from sqlstable.errors import ImageError
from sqlstable.ic.units import WASM_PAGE_BYTES
from sqlstable.layout.filemap import ENDLESS, FileMap
from sqlstable.layout.layout import Peek
from sqlstable.memory.manager import BUCKETS_OFFSET, MEMORIES_MAX, NO_OWNER, Tables, read_tables
from sqlstable.memory.signatures import MANAGER_MAGIC

Numbers = npt.NDArray[np.int64]

NOBODY: Final = NO_OWNER
"""Place of buckets without an owner, and of what lies in front of a memory manager."""
MANAGER_PLACE: Final = MEMORIES_MAX + 1
"""Place of the memory manager's header and table."""
WHOLE_PLACE: Final = MEMORIES_MAX + 2
"""Place of all of stable memory, where there is no memory manager."""

_BASES: Final = (0, WASM_PAGE_BYTES)
"""Where a memory manager may begin: Internet Identity has a Wasm page of its own in front."""


@dataclass(frozen=True)
class Geography:
    """Which place has each address, and where each place lies.

    Examples:
        >>> Geography(None, 0).locate(70_000)
        (257, 70000)
    """

    tables: Tables | None
    "Those of the memory manager; None where there is none that is sound."
    base: int
    "Where the memory manager begins."

    @classmethod
    def of(cls, peek: Peek) -> "Geography":
        """Look at a stable memory."""
        for base in _BASES:
            if peek.start(len(MANAGER_MAGIC), base) == MANAGER_MAGIC:
                behind = _behind(peek, base)
                try:
                    return cls(read_tables(behind.read, behind.wasm_pages), base)
                except ImageError:
                    break
        return cls(None, 0)

    @property
    def header_stop(self) -> int:
        """Address behind what says which buckets there are, and whether there are any."""
        return self.base + BUCKETS_OFFSET

    def locate(self, address: int) -> tuple[int, int]:
        """Return the place of an address, and its offset there."""
        tables = self.tables
        if tables is None:
            return WHOLE_PLACE, address
        inside = address - self.header_stop
        if inside < 0:
            return (MANAGER_PLACE, address) if address >= self.base else (NOBODY, address)
        bucket, rest = divmod(inside, tables.bucket_bytes)
        place = tables.owners[bucket] if bucket < len(tables.owners) else NOBODY
        if place == NOBODY:
            return NOBODY, address
        # They are ascending.
        return place, bisect_left(tables.buckets[place], bucket) * tables.bucket_bytes + rest

    def locate_many(self, addresses: Numbers) -> tuple[Numbers, Numbers]:
        """Return the places of many addresses, and their offsets there."""
        tables = self.tables
        if tables is None:
            return np.full(len(addresses), WHOLE_PLACE, dtype=np.int64), addresses
        inside = addresses - self.header_stop
        owners, ranks = self._owners_and_ranks
        bucket = np.clip(inside // tables.bucket_bytes, 0, len(owners) - 1)
        place = owners[bucket]
        place = np.where(inside >= 0, place, MANAGER_PLACE)
        place = np.where(addresses >= self.base, place, NOBODY)
        offset = ranks[bucket] * tables.bucket_bytes + inside % tables.bucket_bytes
        return place, np.where(place < NOBODY, offset, addresses)

    def map_of(self, place: int, *, base: int = 0) -> FileMap:
        """Return where a place lies, from some offset of it on."""
        if place >= NOBODY or self.tables is None:
            return FileMap.of((0,), bucket_bytes=ENDLESS, base=base)
        starts = (self.base + self.tables.bucket_address(it) for it in self.tables.buckets[place])
        return FileMap.of(starts, bucket_bytes=self.tables.bucket_bytes, base=base)

    def size_of(self, place: int, wasm_pages: int) -> int:
        """Return how many bytes a place has, in a stable memory of so many Wasm pages."""
        if place >= NOBODY or self.tables is None:
            return wasm_pages * WASM_PAGE_BYTES
        return self.tables.sizes_wasm_pages[place] * WASM_PAGE_BYTES

    def memory_ids(self) -> Iterator[int]:
        """Yield the virtual memories that have buckets, ascending."""
        if self.tables is not None:
            yield from (it for it, buckets in enumerate(self.tables.buckets) if buckets)

    @cached_property
    def _owners_and_ranks(self) -> tuple[Numbers, Numbers]:
        """The place of each bucket and its rank there; one more, for all that lies behind."""
        assert self.tables is not None
        owners = np.frombuffer(bytes(self.tables.owners), dtype=np.uint8).astype(np.int64)
        ranks = np.zeros(len(owners), dtype=np.int64)
        for place in self.memory_ids():
            buckets = self.tables.buckets[place]
            ranks[buckets] = np.arange(len(buckets))
        return np.append(owners, NOBODY), np.append(ranks, 0)


def _behind(peek: Peek, base: int) -> Peek:
    """Return a look at what lies from an address on."""
    return Peek(
        lambda address, length: peek.read(base + address, length),
        peek.wasm_pages - base // WASM_PAGE_BYTES,
    )
