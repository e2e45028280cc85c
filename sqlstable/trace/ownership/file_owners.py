"""Whose stable memory is outside of the main database file: the files beside it, bucket by bucket.

A journal, an attached database and the like each lie in whole buckets of the memory manager, so
an address belongs to the file that has its bucket.

**Invariants**

* What was once known of a bucket stays known until another file has it: a message that was
  rolled back has accessed files that are gone when it is attributed.
* A listing is asked for only when an address lies in a bucket that is not known yet.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from sqlstable.ic.units import WASM_PAGE_BYTES
from sqlstable.trace.model import AddressRun, Owner

_Numbers = npt.NDArray[np.int64]

MANAGER: Final = Owner("(memory manager)", "(memory manager)", "memory manager", "")
"""Owner of what a memory manager keeps in front of all virtual memories."""
OTHER_MEMORY: Final = Owner("(other memory)", "(other memory)", "unknown", "")
"""Owner of what lies outside of the database file, and in no file that is known."""


@dataclass(frozen=True, slots=True)
class ListedFile:
    """One file in stable memory, or a virtual memory of somebody else's."""

    name: str
    kind: str
    """database, journal, wal, file directory, length record, superblock or other memory."""
    bucket_addresses: Sequence[int]
    "Address of each of its buckets."


@dataclass(frozen=True, slots=True)
class FileListing:
    """All files in stable memory at one moment."""

    files: Sequence[ListedFile]
    bucket_bytes: int


class FileOwners:
    """The file that has each bucket of stable memory.

    Args:
        listing: Returns what is there now, unrecorded.
        manager_bytes: Bytes at the beginning of stable memory that are a memory manager's.

    Examples:
        >>> journal = ListedFile("main.db-journal", "journal", (65_536,))
        >>> files = FileOwners(lambda: FileListing([journal], bucket_bytes=65_536))
        >>> files.owner_indexes(np.array([65_536, 131_071, 131_072])).tolist()
        [0, 0, -1]
        >>> files.owners[0].kind
        'journal'
    """

    owners: list[Owner]
    "Owner of each index. It only grows: an index never comes to mean another owner."

    news: list[AddressRun]
    "What has become known since `take_news` was called last."

    def __init__(
        self, listing: Callable[[], FileListing], *, manager_bytes: int = WASM_PAGE_BYTES
    ) -> None:
        self.owners = []
        self.manager_bytes = manager_bytes
        self._listing = listing
        self._indexes: dict[Owner, int] = {}
        self._bucket_bytes = 1
        # By ascending address, as columns of one length.
        self._starts: _Numbers = np.empty(0, dtype=np.int64)
        self._owner_of_start: _Numbers = np.empty(0, dtype=np.int64)
        self.news = []
        if manager_bytes:
            self.news.append(AddressRun(0, manager_bytes, MANAGER))

    def refresh(self) -> None:
        """Learn what is there now; needed before a message is rolled back that made files."""
        listing = self._listing()
        self._bucket_bytes = listing.bucket_bytes
        addresses = [np.array(file.bucket_addresses, dtype=np.int64) for file in listing.files]
        counts = [len(column) for column in addresses]
        indexes = [self._index(file) for file in listing.files]
        starts = np.concatenate([*addresses, np.empty(0, dtype=np.int64)])
        owners = np.repeat(np.array(indexes, dtype=np.int64), counts)
        self._tell(starts, owners)
        is_kept = ~np.isin(self._starts, starts)
        starts = np.concatenate([starts, self._starts[is_kept]])
        owners = np.concatenate([owners, self._owner_of_start[is_kept]])
        order = np.argsort(starts)
        self._starts, self._owner_of_start = starts[order], owners[order]

    def take_news(self) -> list[AddressRun]:
        """Return what has become known since the last time, in the order in which it did."""
        found, self.news = self.news, []
        return found

    def owner_indexes(self, addresses: _Numbers) -> _Numbers:
        """Return the owner index of each address, or -1 where no file has the bucket.

        Args:
            addresses: Of stable memory, in any order.
        """
        found = self._known(addresses)
        if (found < 0).any():
            self.refresh()
            found = self._known(addresses)
        return found

    def _tell(self, starts: _Numbers, owners: _Numbers) -> None:
        """Keep as news whose buckets are another's than is known, neighbours together."""
        for start, index in sorted(
            (int(start), int(index))
            for start, index, known in zip(starts, owners, self._known(starts), strict=True)
            if index != known
        ):
            owner, last = self.owners[index], self.news[-1] if self.news else None
            if last and last.owner == owner and last.first_address + last.size_bytes == start:
                size_bytes = last.size_bytes + self._bucket_bytes
                self.news[-1] = AddressRun(last.first_address, size_bytes, owner)
            else:
                self.news.append(AddressRun(start, self._bucket_bytes, owner))

    def _known(self, addresses: _Numbers) -> _Numbers:
        if not len(self._starts):
            return np.full(len(addresses), -1, dtype=np.int64)
        at = np.searchsorted(self._starts, addresses, side="right") - 1
        # Before the first bucket ``at`` is -1, which would be the last one.
        is_inside = (at >= 0) & (addresses - self._starts[at] < self._bucket_bytes)
        return np.where(is_inside, self._owner_of_start[at], -1)

    def _index(self, file: ListedFile) -> int:
        owner = Owner(file.name, file.name, file.kind, "")
        index = self._indexes.setdefault(owner, len(self.owners))
        if index == len(self.owners):
            self.owners.append(owner)
        return index
