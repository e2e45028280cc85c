"""Who owns each SQLite page of a database: which table or index, or SQLite's own bookkeeping.

Owners are a state. `OwnerMap.refresh` takes it from the interior nodes of all trees
(``owner_listing.py``), `OwnerMap.meet` finds overflow before anybody can need it
(``owner_chains.py``), and `OwnerMap.update` carries the state past one message by reading little
more than the SQLite pages that the message dirtied (``owner_update.py``).
Together they reach what SQLite's own ``dbstat`` says, which the tests hold them to.

**Limitations**

* SQLite pages that an already damaged database has lost (neither in a tree nor free) are
  unknown, and this is no fault, so that updates of such a database stay cheap.
* Whatever an update cannot explain makes it a refresh. What a refresh cannot explain is unknown
  and named by `OwnerMap.fault`, and every update is a refresh until the database is sound again.
* Damage in a leaf shows when the leaf is accessed, not before.
"""

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from sqlstable.errors import ImageError
from sqlstable.sqlite.btree import NO_NUMBERS, Numbers
from sqlstable.sqlite.schema_rows import shown_name
from sqlstable.trace.model import Owner, OwnerRuns
from sqlstable.trace.ownership.owner_chains import ChainFinder
from sqlstable.trace.ownership.owner_listing import list_owners
from sqlstable.trace.ownership.owner_source import DatabaseReader, GuardedReader
from sqlstable.trace.ownership.owner_state import (
    FIRST_TREE,
    FREELIST_LEAF,
    FREELIST_TRUNK,
    LOCK_BYTE,
    NO_CHANGES,
    OUTSIDE_TREES,
    POINTER_MAP,
    SCHEMA_NAME,
    SCHEMA_TREE,
    TREE_ROLES,
    UNKNOWN,
    Changes,
    OwnerIndexes,
    OwnerState,
    lengthened,
)
from sqlstable.trace.ownership.owner_update import OwnerUpdate, is_plain

__all__ = [
    "FREELIST_LEAF",
    "FREELIST_TRUNK",
    "LOCK_BYTE",
    "NO_CHANGES",
    "POINTER_MAP",
    "UNKNOWN",
    "Changes",
    "DatabaseReader",
    "Owner",
    "OwnerIndexes",
    "OwnerMap",
    "owner_runs",
]

_REFRESH_SHARE: Final = 0.25
"""What a refresh with overflow costs for each SQLite page of the file, divided by what an update
costs for each dirty one."""
_PLAIN_MAX: Final = 64
"""With more dirty SQLite pages than that, structure has changed."""
_REFRESH_DIRTY_MIN: Final = 16
"""Dirty SQLite pages that cost an update as much as beginning a refresh."""


def owner_runs(owners: Sequence[Owner], message: int, changes: Changes) -> OwnerRuns:
    """Return changes of owners as runs that hold from the end of a message on.

    Args:
        owners: Owner of each index.
        message: Index of the message.
        changes: What has changed with it.
    """
    numbers, indexes = changes.numbers, changes.owner_indexes
    if not len(numbers):
        return OwnerRuns(message, (), (), ())
    breaks = np.flatnonzero((np.diff(numbers) != 1) | (np.diff(indexes) != 0)) + 1
    starts = np.append(0, breaks)
    counts = np.diff(np.append(starts, len(numbers)))
    runs = [owners[index] for index in indexes[starts].tolist()]
    return OwnerRuns(message, numbers[starts].tolist(), counts.tolist(), runs)


class OwnerMap:
    """The owner of every SQLite page of one database.

    Memory: 9 bytes for each SQLite page, and 8 for each free one.
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
        self.generation = 0
        "Grows when owners of SQLite pages may have changed that no `Changes` named."
        self._refresh_share = refresh_share
        self._refresh_dirty_min = refresh_dirty_min
        self._trees: dict[tuple[str, str, str], int] = {}
        self._shown: dict[tuple[str, str], str] = {}
        schema = self._tree_of(SCHEMA_NAME, SCHEMA_NAME, "table")
        assert schema == SCHEMA_TREE
        self._state = OwnerState()
        self._changes = NO_CHANGES

    @property
    def sqlite_page_count(self) -> int:
        """SQLite pages in the file when it was last looked at."""
        return self._state.count

    def owner_index(self, number: int) -> int:
        """Return the owner index of one SQLite page, as `owner_indexes` does of many."""
        return self._state.codes.item(number) if 1 <= number <= self._state.count else UNKNOWN

    def last_owner_index(self, number: int) -> int:
        """Return the owner index of one SQLite page, as `last_owner_indexes` does of many."""
        count = self._state.count
        found = self._state.codes.item(number) if 1 <= number <= count else UNKNOWN
        if found in (FREELIST_TRUNK, FREELIST_LEAF) or number > count:
            changes = self._changes
            at = int(np.searchsorted(changes.numbers, number))
            if at < len(changes) and changes.numbers[at] == number:
                before = changes.owner_indexes_before.item(at)
                return before if before >= FIRST_TREE else found
        return found

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

    def refresh(self, reader: DatabaseReader, *, whole: bool = False) -> Changes:
        """Find every owner anew; costs a look at the interior nodes of all trees.

        Args:
            reader: Shows the database.
            whole: Find overflow, too, which `meet` and `update` would do; costs a pass over all
                leaves.

        Returns:
            What differs from before. Nothing is raised for a damaged database: see `fault`.
        """
        return self._refresh(reader, None if whole else NO_NUMBERS)

    def meet(self, reader: DatabaseReader, accessed: Iterable[int]) -> Changes:
        """Find the overflow that a message has accessed, or could have.

        Args:
            reader: Shows the database as it was at the last refresh or update.
            accessed: SQLite pages that the message accessed, counted from 1, in any order.

        Returns:
            What was unknown, with what it is and has been since it was last in doubt. Nothing is
            raised for a damaged database: see `fault`.
        """
        if not self.may_meet:
            return NO_CHANGES
        finder = ChainFinder(self._state, GuardedReader(reader))
        try:
            finder.meet(accessed)
        except ImageError as error:
            self.fault = str(error)
        return self._found(finder.found)

    @property
    def may_meet(self) -> bool:
        """Whether there is anything left for `meet` to find."""
        state = self._state
        return not (self.fault or state.header is None or state.is_complete)

    def complete(self, reader: DatabaseReader) -> Changes:
        """Find all overflow that is unknown yet; costs a pass over all leaves.

        Arguments and result are those of `meet`.
        """
        return self.meet(reader, np.flatnonzero(self._state.unread).tolist())

    def unmet(self, accessed: Iterable[int]) -> list[int]:
        """Return those of the SQLite pages by which `meet` could find something."""
        count = self._state.count
        is_unread, code_of = self._state.unread.item, self._state.codes.item
        found = []
        for number in accessed:
            if number <= count and (is_unread(number) or code_of(number) == UNKNOWN):
                found.append(number)  # noqa: PERF401  a call less
        return found

    def update(self, reader: DatabaseReader, dirty: Iterable[int]) -> Changes:
        """Carry the map past a message that has committed, and whose accesses were met.

        Args:
            reader: Shows the database after the message.
            dirty: SQLite pages that the message wrote, counted from 1; all that differ from
                before must be among them, others may be, also beyond the end of the file.

        Returns:
            What differs from before. Nothing is raised for a damaged database: see `fault`.
        """
        written = set(dirty)
        self._changes = NO_CHANGES
        if not written:
            return NO_CHANGES
        source = GuardedReader(reader)
        attempt = None
        try:
            if not self.fault and self._state.header is not None:
                if len(written) <= _PLAIN_MAX and is_plain(self._state, source, written):
                    return NO_CHANGES
                few = self._refresh_dirty_min + self._refresh_share * self._state.count
                if len(written) <= few:
                    attempt = OwnerUpdate(self._state, source, self._tree_of)
                    self._changes = attempt.run(_ascending(written))
                    self.generation += attempt.has_renamed
                    return self._changes
        except ImageError:
            if attempt is not None:
                attempt.undo()
        return self._refresh(reader, _ascending(written))

    def _refresh(self, reader: DatabaseReader, dirty: Numbers | None) -> Changes:
        """List all, and find again the overflow that was known, and that of what was written.

        All overflow where ``dirty`` is None; none where it is empty.
        """
        before = self._state
        source = GuardedReader(reader)
        state, self.fault = list_owners(source, self._tree_of)
        self._state = state
        self.generation += 1
        if not self.fault and state.header is not None and (dirty is None or len(dirty)):
            wanted = np.flatnonzero(state.unread)
            if dirty is not None:
                is_read = (before.codes >= FIRST_TREE) & ~before.unread
                wanted = np.intersect1d(wanted, np.union1d(np.flatnonzero(is_read), dirty))
            try:
                ChainFinder(state, source).read_nodes(wanted.tolist())
            except ImageError as error:
                self.fault = str(error)
            state.is_complete = dirty is None
        size = max(before.count, state.count) + 1
        now, then = (lengthened(codes, size)[:size] for codes in (state.codes, before.codes))
        numbers = np.flatnonzero(now != then)
        self._changes = Changes(numbers, now[numbers], then[numbers])
        return self._changes

    def _found(self, numbers: list[int]) -> Changes:
        if not numbers:
            return NO_CHANGES
        found = np.array(sorted(numbers), dtype=np.intp)
        return Changes(found, self._state.codes[found], np.zeros(len(found), dtype=np.int32))

    def _tree_of(self, name: str, table: str, kind: str) -> int:
        """Return the first of a tree's three owner indexes."""
        tree = self._trees.setdefault((name, table, kind), len(self.owners))
        if tree == len(self.owners):
            shown = shown_name(name)
            # Names that are no text could be shown like one that is.
            while self._shown.setdefault((shown, kind), name) != name:
                shown += "\\"
            table = shown if name == table else shown_name(table)
            self.owners.extend(Owner(shown, table, kind, role) for role in TREE_ROLES)
        return tree


def _ascending(numbers: set[int]) -> Numbers:
    """Return the numbers sorted."""
    ordered = np.array(sorted(numbers), dtype=np.intp)
    assert not len(ordered) or ordered[0] >= 1, "SQLite pages are counted from 1"
    return ordered
