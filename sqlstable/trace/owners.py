"""Who owns each SQLite page of a database: which table or index, or SQLite's own bookkeeping.

Owners are a state. `OwnerMap.refresh` takes it from SQLite's own ``dbstat``, which reads the
whole file (`sqlstable.trace.owner_listing`); `OwnerMap.update` carries it past one message by
reading little more than the SQLite pages that the message dirtied
(`sqlstable.trace.owner_update`). Both reach the same state, which the tests hold them to.

**Limitations**

* SQLite pages that an already damaged database has lost (neither in a tree nor free) are
  unknown, and this is no fault, so that updates of such a database stay cheap.
* Whatever an update cannot explain makes it a refresh. What a refresh cannot explain is unknown
  and named by `OwnerMap.fault`, and every update is a refresh until the database is sound again.
"""

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from sqlstable.errors import ImageError
from sqlstable.trace.btree import Numbers
from sqlstable.trace.owner_listing import list_owners
from sqlstable.trace.owner_source import DatabaseReader, GuardedReader
from sqlstable.trace.owner_state import (
    FIRST_TREE,
    FREELIST_LEAF,
    FREELIST_TRUNK,
    LOCK_BYTE,
    NO_CHANGES,
    OUTSIDE_TREES,
    POINTER_MAP,
    TREE_ROLES,
    UNKNOWN,
    Changes,
    Owner,
    OwnerIndexes,
    OwnerState,
    is_ascending,
    lengthened,
)
from sqlstable.trace.owner_update import OwnerUpdate

__all__ = [
    "FREELIST_LEAF",
    "FREELIST_TRUNK",
    "LOCK_BYTE",
    "POINTER_MAP",
    "UNKNOWN",
    "Changes",
    "DatabaseReader",
    "Owner",
    "OwnerIndexes",
    "OwnerMap",
    "OwnerSpan",
    "owner_spans",
]

_REFRESH_SHARE: Final = 0.25
"""What a refresh costs for each SQLite page of the file, divided by what an update costs for each
dirty one: 1.9 and 6.8 µs were measured, at 4096 bytes."""
_REFRESH_DIRTY_MIN: Final = 16
"""Dirty SQLite pages that cost an update as much as asking SQLite anything costs a refresh."""


class OwnerSpan(NamedTuple):
    """Successive SQLite pages with one owner."""

    first_number: int
    "Number of the first one, counted from 1."
    sqlite_page_count: int
    "1 or more."
    owner_index: int


def owner_spans(changes: Changes) -> list[OwnerSpan]:
    """Return changes as runs of successive SQLite pages that have one owner now.

    Examples:
        >>> now = np.array([5, 5, 7, 7], dtype=np.int32)
        >>> owner_spans(Changes(np.array([2, 3, 4, 9]), now, np.zeros_like(now)))[1:]
        [OwnerSpan(first_number=4, sqlite_page_count=1, owner_index=7), \
OwnerSpan(first_number=9, sqlite_page_count=1, owner_index=7)]
    """
    numbers, owners = changes.numbers, changes.owner_indexes
    if not len(numbers):
        return []
    breaks = np.flatnonzero((np.diff(numbers) != 1) | (np.diff(owners) != 0)) + 1
    starts = np.append(0, breaks)
    counts = np.diff(np.append(starts, len(numbers)))
    columns = (numbers[starts].tolist(), counts.tolist(), owners[starts].tolist())
    return [OwnerSpan(*span) for span in zip(*columns, strict=True)]


class OwnerMap:
    """The owner of every SQLite page of one database.

    Memory: 8 bytes for each SQLite page, and 8 for each free one.
    """

    owners: list[Owner]
    "Owner of each index. It only grows: an index never comes to mean another owner."
    fault: str
    "Why SQLite pages are unknown that should not be; empty while the database is sound."

    def __init__(
        self, *, refresh_share: float = _REFRESH_SHARE, refresh_dirty_min: int = _REFRESH_DIRTY_MIN
    ) -> None:
        """Make a map in which every SQLite page is unknown.

        Args:
            refresh_share: An update becomes a refresh when more than this share of the file's
                SQLite pages is dirty; 0 to 1, or above for never.
            refresh_dirty_min: So many dirty SQLite pages do not count for that; 0 or more.
        """
        self.owners = list(OUTSIDE_TREES)
        self.fault = "no refresh has been made"
        self._refresh_share = refresh_share
        self._refresh_dirty_min = refresh_dirty_min
        self._trees: dict[tuple[str, str, str], int] = {}
        self._state = OwnerState()
        self._changes = NO_CHANGES

    @property
    def sqlite_page_count(self) -> int:
        """SQLite pages in the file when it was last looked at."""
        return self._state.count

    def owner_indexes(self, numbers: npt.ArrayLike) -> OwnerIndexes:
        """Return the owner index of each SQLite page.

        Args:
            numbers: SQLite pages, counted from 1, in any order; 0 (unknown) is the answer for
                those beyond the end of the file.
        """
        wanted = np.asarray(numbers, dtype=np.intp)
        inside = np.where((wanted >= 1) & (wanted <= self._state.count), wanted, 0)
        return self._state.codes[inside]

    def last_owner_indexes(self, numbers: npt.ArrayLike) -> OwnerIndexes:
        """Return the owner index of each SQLite page, before it was freed where it just was.

        A SQLite page that the most recent refresh or update found on the freelist or beyond the
        end of the file, and that belonged to a table or index before, still counts as theirs:
        the message read it as such. One that had been free already counts as free.

        Args:
            numbers: SQLite pages, counted from 1, in any order.
        """
        wanted = np.asarray(numbers, dtype=np.intp)
        found = self.owner_indexes(wanted)
        changed = self._changes.numbers
        if not len(changed):
            return found
        at = np.minimum(np.searchsorted(changed, wanted), len(changed) - 1)
        before = self._changes.owner_indexes_before[at]
        is_free = (found == FREELIST_TRUNK) | (found == FREELIST_LEAF)
        is_gone = is_free | (wanted > self._state.count)
        return np.where(is_gone & (changed[at] == wanted) & (before >= FIRST_TREE), before, found)

    def refresh(self, reader: DatabaseReader) -> Changes:
        """Find every owner anew; costs a pass of ``dbstat`` over the whole file.

        Returns:
            What differs from before. Nothing is raised for a damaged database: see `fault`.
        """
        before, size_before = self._state.codes, self._state.count + 1
        self._state, self.fault = list_owners(GuardedReader(reader), self._tree_of)
        size = max(size_before, self._state.count + 1)
        now = lengthened(self._state.codes, size)[:size]
        before = lengthened(before, size)[:size]
        numbers = np.flatnonzero(now != before)
        self._changes = Changes(numbers, now[numbers], before[numbers])
        return self._changes

    def update(self, reader: DatabaseReader, dirty: npt.ArrayLike) -> Changes:
        """Carry the map past a message that has committed.

        Args:
            reader: Shows the database after the message.
            dirty: SQLite pages that the message wrote, counted from 1; all that differ from
                before must be among them, others may be, also beyond the end of the file.

        Returns:
            What differs from before. Nothing is raised for a damaged database: see `fault`.
        """
        numbers = _ascending(np.asarray(dirty, dtype=np.intp))
        if not len(numbers):
            self._changes = NO_CHANGES
            return self._changes
        few = self._refresh_dirty_min + self._refresh_share * self._state.count
        if self.fault or self._state.header is None or len(numbers) > few:
            return self.refresh(reader)
        attempt = OwnerUpdate(self._state, GuardedReader(reader), self._tree_of)
        try:
            self._changes = attempt.run(numbers)
        except ImageError:
            attempt.undo()
            return self.refresh(reader)
        return self._changes

    def _tree_of(self, name: str, table: str, kind: str) -> int:
        """Return the first of a tree's three owner indexes."""
        tree = self._trees.setdefault((name, table, kind), len(self.owners))
        if tree == len(self.owners):
            self.owners.extend(Owner(name, table, kind, role) for role in TREE_ROLES)
        return tree


def _ascending(numbers: Numbers) -> Numbers:
    """Return the numbers sorted, each once."""
    if not is_ascending(numbers):
        numbers = np.unique(numbers)
    assert not len(numbers) or numbers[0] >= 1, "SQLite pages are counted from 1"
    return numbers
