"""Whose the SQLite pages of a database are that lies in the memory of a foreign module."""

from collections.abc import Callable, Collection

from sqlstable.sqlite.header import HEADER_BYTES, SQLITE_MAGIC, parse_header
from sqlstable.trace.model import Owner
from sqlstable.trace.ownership.owners import OwnerMap

Read = Callable[[int, int], bytes]
"""Gives bytes of its memory by offset and length, fewer where that ends."""


class MemoryPages:
    """A database's SQLite pages as they lie in a memory, for the owner map.

    Args:
        read: Gives bytes of the memory.
        size_bytes: How large the memory is.
        base: Where the database begins.
        page_size: Bytes of a SQLite page.
    """

    def __init__(
        self, read: Read, size_bytes: Callable[[], int], *, base: int, page_size: int
    ) -> None:
        self._read, self._memory_bytes = read, size_bytes
        self._base, self._page_size = base, page_size

    def read_sqlite_page(self, number: int) -> bytes:
        """Return one SQLite page."""
        return self._read(self._base + (number - 1) * self._page_size, self._page_size)

    def read_header(self) -> bytes:
        """Return the database's header, or as much of it as there is."""
        return self._read(self._base, HEADER_BYTES)

    def size_bytes(self) -> int:
        """Return the size that the header states, or the room that there is."""
        room = max(self._memory_bytes() - self._base, 0)
        header = parse_header(self.read_header())
        stated = 0 if header is None else header.size_bytes
        return stated if 0 < stated <= room else room


class ModuleDatabase:
    """A database, and whose its SQLite pages are after each message.

    Args:
        now: Its SQLite pages as they are.
        before: The same as they were when the open message began.
        base: Where it begins in its memory.
        page_size: Bytes of a SQLite page.
    """

    def __init__(self, now: MemoryPages, before: MemoryPages, *, base: int, page_size: int) -> None:
        self.base, self.page_size = base, page_size
        self._now, self._before = now, before
        self._owners = OwnerMap()
        self._dirty: Collection[int] = ()

    @property
    def fault(self) -> str:
        """Why owners are unknown that should not be; empty where they are not."""
        return self._owners.fault if self._owners.generation else ""

    def used(self) -> tuple[int, int]:
        """Return how many bytes it has, with what is in front of it, and how many are free."""
        header = parse_header(self._now.read_header())
        free = 0 if header is None else header.free_count * header.page_size
        return self.base + self._now.size_bytes(), free

    def before_end(self, accessed: Collection[int]) -> None:
        """Look at what goes with a message, while it can be seen as it was."""
        if self._owners.generation == 0:
            if not self._before.read_sqlite_page(1).startswith(SQLITE_MAGIC):
                return
            self._owners.refresh(self._before)
        if self._owners.may_meet:
            unmet = self._owners.unmet(accessed)
            if unmet:
                self._owners.meet(self._before, unmet)

    def after_end(self, dirty: Collection[int], *, is_kept: bool) -> None:
        """Carry the owners past a message."""
        self._dirty = dirty
        if is_kept:
            self._owners.update(self._now, dirty)

    def owner_of(self, number: int) -> Owner:
        """Return whose a SQLite page is, for the message that has just ended."""
        owners = self._owners
        is_dirty = number in self._dirty
        index = owners.owner_index(number) if is_dirty else owners.last_owner_index(number)
        return owners.owners[index]
