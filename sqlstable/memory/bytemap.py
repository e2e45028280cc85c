"""The bytemap of a message: which OS pages it has accessed and dirtied, and the limits on both.

The replica keeps one byte for each OS page, bit 0 for written and bit 1 for accessed, so a read
sets 2 and a write 3. Sets are fresh for each message. Source: dfinity/ic
``rs/embedders/src/wasm_utils/system_api_replacements.rs``, 2025-10-31.

**Invariants**

* A page is in ``accessed`` exactly when its mark is not 0, in ``dirty`` exactly when it is 3.
* Clearing costs what was touched, not what the memory holds.
* A limit is checked before the access that would cross it: that access leaves no mark.
"""

import mmap
from typing import Final

import numpy as np

from sqlstable.errors import LimitTrap
from sqlstable.ic.limits import NO_LIMIT, Limits
from sqlstable.ic.units import KIB, OS_PAGE_BYTES
from sqlstable.ic.words import OS_PAGES_ACCESSED, OS_PAGES_DIRTY

ACCESSED: Final = 2
DIRTY: Final = 3

_VECTOR_OS_PAGES: Final = 64
"""From so many OS pages on, numpy is quicker than a loop."""


class Bytemap:
    """Marks of OS pages: a flat map for the near ones, a dictionary for those beyond.

    Args:
        flat_os_pages: OS pages 0 to ``flat_os_pages - 1`` are kept in the flat map.
    """

    def __init__(self, flat_os_pages: int) -> None:
        """Make an empty bytemap; the flat part costs memory only where it is marked."""
        try:
            # An anonymous map is zero without being touched, which a bytearray is not. A private
            # copy is a forked process's own, as the bytes are that the marks speak of.
            anonymous = mmap.mmap(-1, max(flat_os_pages, 1), access=mmap.ACCESS_COPY)
            self.marks = memoryview(anonymous)
        except OSError:
            # No addresses are left. The dictionary does for all of them, only more slowly.
            self.marks = memoryview(bytearray(1))
            flat_os_pages = 0
        self.flat_os_pages = flat_os_pages
        self.far_marks: dict[int, int] = {}
        self.accessed: list[int] = []
        self.dirty: list[int] = []
        self.accessed_max = NO_LIMIT
        self.dirty_max = NO_LIMIT
        self.limits: Limits | None = None
        self.is_enforced = True
        "Whether the limits of messages to come trap, or are only there to be compared with."
        self._limited_kind: str | None = None

    def begin(self, limits: Limits | None, kind: str) -> None:
        """Set the limits of the message that begins."""
        if limits is not self.limits or kind != self._limited_kind:
            self.limits, self._limited_kind = limits, kind
            if limits is None or not self.is_enforced:
                self.accessed_max = self.dirty_max = NO_LIMIT
            else:
                message = limits.of(kind)
                self.accessed_max = message.os_pages_accessed_max
                self.dirty_max = message.os_pages_dirty_max

    def mark(self, os_page: int) -> int:
        """Return 0, `ACCESSED` or `DIRTY`."""
        if os_page < self.flat_os_pages:
            return self.marks[os_page]
        return self.far_marks.get(os_page, 0)

    def states(self, pages: range) -> bytes:
        """Return the marks of consecutive OS pages."""
        if pages.stop <= self.flat_os_pages:
            return bytes(self.marks[pages.start : pages.stop])
        return bytes(self.mark(os_page) for os_page in pages)

    def first_read(self, os_page: int) -> None:
        """Mark one OS page as accessed that has no mark yet.

        Raises:
            LimitTrap: The message has accessed as many OS pages as it may.
        """
        if len(self.accessed) >= self.accessed_max:
            raise self._accessed_trap()
        self.accessed.append(os_page)
        self._set(os_page, ACCESSED)

    def first_write(self, os_page: int) -> None:
        """Mark one OS page as dirty that is not dirty yet.

        Raises:
            LimitTrap: The message has accessed or dirtied as many OS pages as it may.
        """
        self._first_write(os_page, fresh=not self.mark(os_page))

    def touch(self, pages: range, *, write: bool) -> None:
        """Mark consecutive OS pages; the whole access is checked before any mark is set.

        Raises:
            LimitTrap: One of the limits would be crossed.
        """
        if len(pages) == 1:
            mark = self.mark(pages.start)
            if write and mark != DIRTY:
                self._first_write(pages.start, fresh=not mark)
            elif not mark:
                self.first_read(pages.start)
            return
        states = np.frombuffer(self.states(pages), dtype=np.uint8)
        fresh = np.flatnonzero(states == 0)
        clean = np.flatnonzero(states != DIRTY) if write else fresh[:0]
        if len(self.accessed) + len(fresh) > self.accessed_max:
            raise self._accessed_trap()
        if len(self.dirty) + len(clean) > self.dirty_max:
            raise self._dirty_trap()
        self.accessed.extend((fresh + pages.start).tolist())
        self.dirty.extend((clean + pages.start).tolist())
        changed = clean if write else fresh
        for os_page in (changed + pages.start).tolist():
            self._set(os_page, DIRTY if write else ACCESSED)

    def clear(self) -> None:
        """Forget all marks, at the cost of the OS pages that were touched."""
        if len(self.accessed) < _VECTOR_OS_PAGES:
            marks, flat = self.marks, self.flat_os_pages
            for os_page in self.accessed:
                if os_page < flat:
                    marks[os_page] = 0
        else:
            indexes = np.array(self.accessed, dtype=np.int64)
            flat_marks = np.frombuffer(self.marks, dtype=np.uint8)
            flat_marks[indexes[indexes < self.flat_os_pages]] = 0
        if self.far_marks:
            self.far_marks.clear()
        self.accessed.clear()
        self.dirty.clear()

    def close(self) -> None:
        """Give the map back."""
        self.marks = memoryview(b"")
        self.flat_os_pages = 0
        self.far_marks.clear()

    def _first_write(self, os_page: int, *, fresh: bool) -> None:
        if fresh and len(self.accessed) >= self.accessed_max:
            raise self._accessed_trap()
        if len(self.dirty) >= self.dirty_max:
            raise self._dirty_trap()
        if fresh:
            self.accessed.append(os_page)
        self.dirty.append(os_page)
        self._set(os_page, DIRTY)

    def _set(self, os_page: int, mark: int) -> None:
        if os_page < self.flat_os_pages:
            self.marks[os_page] = mark
        else:
            self.far_marks[os_page] = mark

    def _accessed_trap(self) -> LimitTrap:
        assert self.limits is not None
        return accessed_trap(self.limits)

    def _dirty_trap(self) -> LimitTrap:
        assert self.limits is not None
        return dirty_trap(self.limits)


def accessed_trap(limits: Limits) -> LimitTrap:
    """Return the trap of a message that would access too many OS pages."""
    return LimitTrap(
        "Canister exceeded memory access limits: Exceeded the limit for the number of "
        "accessed pages in the stable memory in a single message execution: limit "
        f"{_kib(limits.update.os_pages_accessed_max)} KB for regular messages and "
        f"{_kib(limits.query.os_pages_accessed_max)} KB for queries.",
        limit=OS_PAGES_ACCESSED,
    )


def dirty_trap(limits: Limits) -> LimitTrap:
    """Return the trap of a message that would dirty too many OS pages."""
    return LimitTrap(
        "Canister exceeded memory access limits: Exceeded the limit for the number of "
        "modified pages in the stable memory in a single execution: limit "
        f"{_kib(limits.update.os_pages_dirty_max)} KB for regular messages, "
        f"{_kib(limits.upgrade.os_pages_dirty_max)} KB for upgrade messages and "
        f"{_kib(limits.query.os_pages_dirty_max)} KB for queries.",
        limit=OS_PAGES_DIRTY,
    )


def _kib(os_pages: int) -> int:
    return os_pages * OS_PAGE_BYTES // KIB
