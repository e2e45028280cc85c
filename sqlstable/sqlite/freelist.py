"""The freelist of a database: SQLite pages that nobody uses, read from bytes.

Offsets and meanings are those of sqlite.org/fileformat.html, section 1.5. A trunk of the freelist::

    0   the next trunk, or 0
    4   the number of leaves
    8   the leaves, 4 bytes each
"""

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from sqlstable.errors import ImageError
from sqlstable.sqlite.btree import NO_NUMBERS, Numbers, require_inside
from sqlstable.sqlite.header import Header


def parse_trunk(content: bytes, *, number: int, usable_bytes: int) -> tuple[int, Numbers]:
    """Return the next trunk of the freelist, or 0, and the leaves of this one.

    Args:
        content: The whole SQLite page.
        number: Its number, for the error's text.
        usable_bytes: Bytes of a SQLite page without the reserved ones.

    Raises:
        ImageError: It states more leaves than it has room for.
    """
    following, leaf_count = struct.unpack_from(">II", content)
    if 8 + 4 * leaf_count > usable_bytes:
        raise ImageError(f"trunk {number} of the freelist has no room for {leaf_count} leaves")
    return following, np.frombuffer(content, ">u4", leaf_count, 8).astype(np.intp)


@dataclass(frozen=True, slots=True)
class FreelistChange:
    """What came to the freelist and what left it, as numbers of SQLite pages."""

    gone: Numbers
    "No longer a leaf, or no longer a trunk; some may have come back as the other."
    leaves_come: Numbers
    trunks_come: Numbers


class Freelist:
    """The freelist as it was when last followed, so that following it again reads little.

    Invariants: `trunks` holds the last trunk first, because SQLite works at the head, so that
    most positions stay; `positions` is its inverse; `count` is the number of trunks and leaves.
    """

    def __init__(self) -> None:
        self.trunks: list[int] = []
        self.positions: dict[int, int] = {}
        self.leaves: dict[int, Numbers] = {}
        self.count = 0

    def differs(self, header: Header) -> bool:
        """Return whether the header speaks of another freelist."""
        first_trunk = self.trunks[-1] if self.trunks else 0
        return header.first_trunk != first_trunk or header.free_count != self.count

    def follow(
        self,
        header: Header,
        sqlite_page_count: int,
        read: Callable[[int], bytes],
        *,
        rewritten: list[int],
    ) -> FreelistChange:
        """Bring the freelist up to date, reading only trunks that are new or were rewritten.

        Args:
            header: As it is now.
            sqlite_page_count: SQLite pages in the file now.
            read: Returns the content of a SQLite page.
            rewritten: Trunks as of the last time whose SQLite pages were written since.

        Raises:
            ImageError: The freelist refers to what cannot be on it, or runs in a circle, or
                is not as long as the header says. What is kept of it is useless then.
        """
        kept, fresh = self._fresh_trunks(header, sqlite_page_count, read, set(rewritten))
        gone: list[Numbers | list[int]] = []
        leaves_come: list[Numbers] = []
        dropped = self.trunks[kept:]
        for trunk in dropped:
            old, new = self.leaves.pop(trunk), fresh.get(trunk)
            del self.positions[trunk]
            self.count -= 1 + len(old)
            if new is None:
                gone += [old, [trunk]]
            elif new is not old:
                # SQLite appends leaves and fills gaps with the last one: most stay in place.
                both = min(len(old), len(new))
                moved = np.flatnonzero(old[:both] != new[:both])
                gone += [old[moved], old[both:]]
                leaves_come += [new[moved], new[both:]]
        del self.trunks[kept:]
        known = set(dropped)
        trunks_come = [trunk for trunk in fresh if trunk not in known]
        leaves_come += [fresh[trunk] for trunk in trunks_come]
        for trunk, leaves in reversed(fresh.items()):
            self.positions[trunk] = len(self.trunks)
            self.trunks.append(trunk)
            self.leaves[trunk] = leaves
            self.count += 1 + len(leaves)
        if self.count != header.free_count:
            raise ImageError(f"{self.count} SQLite pages are free, not {header.free_count}")
        return FreelistChange(_joined(gone), _joined(leaves_come), _joined([trunks_come]))

    def _fresh_trunks(
        self,
        header: Header,
        sqlite_page_count: int,
        read: Callable[[int], bytes],
        rewritten: set[int],
    ) -> tuple[int, dict[int, Numbers]]:
        """Return how many trunks stay at the tail, and the leaves of those before, head first."""
        # Behind the last rewritten trunk no trunk's successor changed, so that all of them stay.
        kept = min((self.positions[trunk] for trunk in rewritten), default=len(self.trunks))
        fresh: dict[int, Numbers] = {}
        number = header.first_trunk
        while number:
            position = self.positions.get(number)
            if position is not None and position < kept:
                return position + 1, fresh
            if number in fresh or not 2 <= number <= sqlite_page_count:
                raise ImageError(f"the freelist refers to SQLite page {number} as a trunk")
            if position is None or number in rewritten:
                content = read(number)
                following, leaves = parse_trunk(
                    content, number=number, usable_bytes=header.usable_bytes
                )
                require_inside(leaves, sqlite_page_count)
            else:
                leaves = self.leaves[number]
                following = self.trunks[position - 1] if position else 0
            fresh[number] = leaves
            number = following
        return 0, fresh


def _joined(parts: Sequence[Numbers | list[int]]) -> Numbers:
    return np.concatenate([NO_NUMBERS, *parts]).astype(np.intp, copy=False)
