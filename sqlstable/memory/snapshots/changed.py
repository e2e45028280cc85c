"""Which OS pages have changed since a snapshot, so that the next one copies no others."""

from collections.abc import Iterable
from typing import Final

from sqlstable.memory.image.durable import PageChange

OS_PAGES_KEPT_MAX: Final = 1 << 20
"""More changed OS pages than that (4 GiB of them) are not remembered one by one."""


class ChangedPages:
    """The OS pages that committed messages have changed since a moment; maybe more, never fewer.

    Attributes:
        os_pages: Their indexes, if they are known.
        is_known: False where anything may have changed.

    Examples:
        >>> changed = ChangedPages()
        >>> changed.add([3, 5])
        >>> changed.forget()
        >>> changed.is_known, changed.os_pages
        (False, set())
    """

    def __init__(self) -> None:
        """Begin with none."""
        self.os_pages: set[int] = set()
        self.is_known = True

    def note(self, change: PageChange) -> None:
        """Take note of a message that is committed; doing it again does no harm."""
        if change.is_wiped or change.wasm_pages_after < change.wasm_pages_before:
            self.forget()
        elif change.dirty:
            self.add(change.dirty)

    def add(self, os_pages: Iterable[int]) -> None:
        """Take note of some."""
        if self.is_known:
            self.os_pages.update(os_pages)
            if len(self.os_pages) > OS_PAGES_KEPT_MAX:
                self.forget()

    def forget(self) -> None:
        """Anything may have changed."""
        self.is_known = False
        self.os_pages = set()

    def start_over(self) -> None:
        """None has changed since now."""
        self.is_known = True
        self.os_pages = set()
