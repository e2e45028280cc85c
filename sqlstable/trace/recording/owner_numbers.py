"""Whose OS pages are, as one range of numbers, for the accesses of one message.

The owners of SQLite pages come first, then the memory manager and whatever is unknown, then the
other files. A SQLite page that the message dirtied belongs to whom it belongs at the message's end,
any other one to whom it belonged last.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from sqlstable.ic.accesses import Accesses
from sqlstable.ic.units import OS_PAGE_BYTES, WASM_PAGE_BYTES
from sqlstable.trace.model import Owner, OwnerUse
from sqlstable.trace.ownership.file_owners import MANAGER, OTHER_MEMORY, FileOwners
from sqlstable.trace.ownership.owners import OwnerMap

_Numbers = npt.NDArray[np.int64]

OWNER_SHIFT: Final = 40
"""OS page indexes below 2^40 reach 4 PiB; above them stands the owner."""


@dataclass(frozen=True, slots=True)
class Places:
    """Gives the numbers of owners; the module's docstring says which there are."""

    owners: OwnerMap
    files: FileOwners | None
    dirty: set[int]
    "SQLite pages that the message wrote."
    page_size: int

    def owner_at(self, number: int) -> Owner:
        """Return the owner with a number."""
        beyond = number - len(self.owners.owners)
        if beyond < 0:
            return self.owners.owners[number]
        if beyond < 2:
            return (MANAGER, OTHER_MEMORY)[beyond]
        assert self.files is not None
        return self.files.owners[beyond - 2]

    def number_of(self, os_page: int, address: int, offset: int) -> int:
        """Return the number of the owner of one OS page of one access."""
        start = os_page * OS_PAGE_BYTES
        if offset < 0:
            return int(self._outside_numbers(np.array([start], dtype=np.int64))[0])
        # The first byte of the access inside the OS page, as an offset in the file.
        inside = offset if start <= address else offset + start - address
        number = inside // self.page_size + 1
        if number in self.dirty:
            return self.owners.owner_index(number)
        return self.owners.last_owner_index(number)

    def numbers_of(
        self, chunk: Accesses, os_pages: _Numbers, origin: npt.NDArray[np.intp]
    ) -> _Numbers:
        """Return the number of the owner of each OS page of each access."""
        offset, address = chunk.offset[origin], chunk.address[origin]
        inside = offset + np.maximum(os_pages * OS_PAGE_BYTES - address, 0)
        numbers = np.where(offset >= 0, inside // self.page_size + 1, 1)
        at_end = self.owners.owner_indexes(numbers).astype(np.int64)
        before = self.owners.last_owner_indexes(numbers).astype(np.int64)
        dirty = np.fromiter(self.dirty, np.int64, len(self.dirty))
        found = np.where(np.isin(numbers, dirty), at_end, before)
        outside = offset < 0
        if outside.any():
            found[outside] = self._outside_numbers(os_pages[outside] * OS_PAGE_BYTES)
        return found

    def _outside_numbers(self, addresses: _Numbers) -> _Numbers:
        manager = len(self.owners.owners)
        manager_bytes = WASM_PAGE_BYTES if self.files is None else self.files.manager_bytes
        found = np.where(addresses < manager_bytes, manager, manager + 1)
        beyond = np.flatnonzero(addresses >= manager_bytes)
        if self.files is not None and len(beyond):
            # A file that is unknown, at -1, stays the unknown one just below the first.
            found[beyond] = manager + 2 + self.files.owner_indexes(addresses[beyond])
        return found


@dataclass(frozen=True, slots=True)
class AddressPlaces:
    """Gives the numbers of owners where addresses alone say whose they are."""

    owners: Sequence[Owner]
    "By their numbers."
    index_of: Callable[[int], int]
    "Returns the number of an address's owner."
    indexes_of: Callable[[_Numbers], _Numbers]
    "Returns the numbers of many."

    def owner_at(self, number: int) -> Owner:
        """Return the owner with a number."""
        return self.owners[number]

    def number_of(self, os_page: int, address: int, offset: int) -> int:
        """Return the number of the owner of one OS page of one access."""
        return self.index_of(max(os_page * OS_PAGE_BYTES, address))

    def numbers_of(
        self, chunk: Accesses, os_pages: _Numbers, origin: npt.NDArray[np.intp]
    ) -> _Numbers:
        """Return the number of the owner of each OS page of each access."""
        return self.indexes_of(np.maximum(os_pages * OS_PAGE_BYTES, chunk.address[origin]))


AnyPlaces = Places | AddressPlaces


def sorted_uses(
    places: AnyPlaces, accessed: Mapping[int, int], dirty: Mapping[int, int]
) -> tuple[OwnerUse, ...]:
    """Return how many OS pages each owner has, the most accessed first.

    Args:
        places: Says who the owners are.
        accessed: OS pages accessed, by the owner's number.
        dirty: OS pages dirtied, likewise.
    """
    uses = []
    for number, count in accessed.items():
        uses.append(_owner_use(places.owner_at(number), count, dirty.get(number, 0)))
    if len(uses) > 1:
        uses.sort(key=lambda use: (-use.os_pages_accessed, use.name, use.role))
    return tuple(uses)


@lru_cache(maxsize=4096)
def _owner_use(owner: Owner, accessed: int, dirty: int) -> OwnerUse:
    return OwnerUse(owner.name, owner.table, owner.kind, owner.role, accessed, dirty)
