"""Who owns each SQLite page of a database: which table or index, or SQLite's own bookkeeping.

Owners are a state. `OwnerMap.refresh` takes it from SQLite's own ``dbstat``, which reads the
whole file; `OwnerMap.update` carries it past one message by reading little more than the SQLite
pages that the message dirtied. Both reach the same state, which the tests hold them to.

How an update stays small. Each SQLite page of a tree is referred to from exactly one other one,
its *parent*: the interior node above, the node whose cell overflows into it, or the one before
it in the overflow chain. So a SQLite page can change owner only if its parent was dirtied, if
its parent changed owner, if it became a root, or if it came off the freelist. An update marks all
dirtied SQLite pages of trees as *unsettled*, settles those whose parent stands firm and the
roots among them, and goes down from there wherever a child is unsettled or has another owner.
Free SQLite pages are set before, so what their stale bytes resemble is never looked at.

**Invariants**, between two calls, while `OwnerMap.fault` is empty:

* ``codes[number]`` is the owner index; 0 for unknown, and 0 beyond the file and for number 0.
* ``parents[number]`` is the parent of each SQLite page of a tree, and 0 for roots, for all others,
  and beyond the file.
* A tree has three successive owner indexes: interior, leaf and overflow, in this order.

**Limitations**

* SQLite pages that an already damaged database has lost (neither in a tree nor free) are
  unknown, and this is no fault, so that updates of such a database stay cheap.
* Whatever an update cannot explain makes it a refresh. What a refresh cannot explain is unknown
  and named by `OwnerMap.fault`, and every update is a refresh until the database is sound again.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from sqlstable.errors import ImageError
from sqlstable.trace.btree import (
    HEADER_BYTES,
    NO_NUMBERS,
    DatabaseHeader,
    Freelist,
    Node,
    Numbers,
    lock_byte_number,
    next_overflow,
    parse_database_header,
    parse_node,
    pointer_map_numbers,
    require_inside,
)

OwnerIndexes = npt.NDArray[np.int32]
"""Positions in `OwnerMap.owners`."""


@dataclass(frozen=True, slots=True)
class Owner:
    """To whom a SQLite page belongs, and what it does there."""

    name: str
    """Name of the table or index; sqlite_schema for the schema's own tree; otherwise (freelist),
    (pointer map), (lock-byte) or (unknown)."""
    table: str
    "The table that it serves; for whatever is no index, the name again."
    kind: str
    "table, index, freelist, pointer map, lock-byte or unknown."
    role: str
    "interior, leaf or overflow in a tree, trunk or leaf on the freelist, else empty."


UNKNOWN: Final = 0
FREELIST_TRUNK: Final = 1
FREELIST_LEAF: Final = 2
POINTER_MAP: Final = 3
LOCK_BYTE: Final = 4
_FIRST_TREE: Final = 5
"""Owner indexes from here on belong to trees, three to each."""

_OUTSIDE_TREES: Final = (
    Owner("(unknown)", "(unknown)", "unknown", ""),
    Owner("(freelist)", "(freelist)", "freelist", "trunk"),
    Owner("(freelist)", "(freelist)", "freelist", "leaf"),
    Owner("(pointer map)", "(pointer map)", "pointer map", ""),
    Owner("(lock-byte)", "(lock-byte)", "lock-byte", ""),
)
assert len(_OUTSIDE_TREES) == _FIRST_TREE

_TREE_ROLES: Final = ("interior", "leaf", "overflow")
_INTERIOR, _LEAF, _OVERFLOW = range(len(_TREE_ROLES))
_SCHEMA_NAME: Final = "sqlite_schema"
_SCHEMA_ROOT: Final = 1

_GROWTH_MAX: Final = 1024
"""SQLite pages by which a file may more than double in a message and still be updated.

Beyond, a refresh costs no more, and asks SQLite whether the header's count is true."""
_REFRESH_SHARE: Final = 0.25
"""What a refresh costs for each SQLite page of the file, divided by what an update costs for each
dirty one: 1.9 and 6.8 µs were measured, at 4096 bytes."""
_REFRESH_DIRTY_MIN: Final = 16
"""Dirty SQLite pages that cost an update as much as asking SQLite anything costs a refresh."""

_TREES_SQL: Final = (
    "SELECT name, tbl_name, type, rootpage FROM main.sqlite_schema "
    "WHERE typeof(rootpage) = 'integer' AND rootpage > 0"
)
# dbstat walks each tree depth first, so depths are enough to tell who is below whom. A sound
# database lists no SQLite page twice: the limit stops what only damage can make endless.
_LISTING_SQL: Final = (
    "SELECT pageno, unicode(pagetype), length(path) - length(replace(path, '/', '')), "
    "substr(path, -7) = '+000000' FROM main.dbstat LIMIT "
)


class DatabaseReader(Protocol):
    """Access to the database file as it is now, recorded nowhere."""

    def read_sqlite_page(self, number: int) -> bytes:
        """Return a whole SQLite page, counted from 1; fewer bytes where the file ends before.

        Only numbers from 1 to the file's count are asked for. Whatever is raised here or by
        `rows` counts as damage: it makes the owners unknown, and is named by `OwnerMap.fault`.
        """
        ...

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Return all rows of a statement, run by a SQLite that has ``dbstat``."""
        ...


@dataclass(frozen=True, slots=True)
class Changes:
    """SQLite pages whose owner changed, as columns of one length."""

    numbers: Numbers
    "SQLite pages, ascending, each once; those cut off the file's end are among them."
    owner_indexes: OwnerIndexes
    "Owner now; 0 (unknown) beyond the end of the file."
    owner_indexes_before: OwnerIndexes
    "Owner before; 0 (unknown) for SQLite pages that are new."

    def __len__(self) -> int:
        """Return how many SQLite pages changed owner."""
        return len(self.numbers)


class OwnerSpan(NamedTuple):
    """Successive SQLite pages with one owner."""

    first_number: int
    "Number of the first one, counted from 1."
    sqlite_page_count: int
    "1 or more."
    owner_index: int


_NO_OWNERS: Final[OwnerIndexes] = np.empty(0, dtype=np.int32)
_NO_CHANGES: Final = Changes(NO_NUMBERS, _NO_OWNERS, _NO_OWNERS)


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
        self.owners = list(_OUTSIDE_TREES)
        self.fault = "no refresh has been made"
        self._refresh_share = refresh_share
        self._refresh_dirty_min = refresh_dirty_min
        self._trees: dict[tuple[str, str, str], int] = {}
        self._state = _State()
        self._changes = _NO_CHANGES

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
        return np.where(is_gone & (changed[at] == wanted) & (before >= _FIRST_TREE), before, found)

    def refresh(self, reader: DatabaseReader) -> Changes:
        """Find every owner anew; costs a pass of ``dbstat`` over the whole file.

        Returns:
            What differs from before. Nothing is raised for a damaged database: see `fault`.
        """
        before, size_before = self._state.codes, self._state.count + 1
        self._state, self.fault = _list_anew(_Source(reader), self._tree_of)
        size = max(size_before, self._state.count + 1)
        now = _lengthened(self._state.codes, size)[:size]
        before = _lengthened(before, size)[:size]
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
            self._changes = _NO_CHANGES
            return self._changes
        few = self._refresh_dirty_min + self._refresh_share * self._state.count
        if self.fault or self._state.header is None or len(numbers) > few:
            return self.refresh(reader)
        attempt = _Update(self._state, _Source(reader), self._tree_of)
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
            self.owners.extend(Owner(name, table, kind, role) for role in _TREE_ROLES)
        return tree


_TreeOf = Callable[[str, str, str], int]
"""`OwnerMap._tree_of`."""


@dataclass(slots=True)
class _State:
    """What is known of a database between two messages; the module's docstring has the rules."""

    header: DatabaseHeader | None = None
    count: int = 0
    "SQLite pages in the file; the arrays are longer by at least one."
    codes: OwnerIndexes = field(default_factory=lambda: np.zeros(1, dtype=np.int32))
    parents: npt.NDArray[np.uint32] = field(default_factory=lambda: np.zeros(1, dtype=np.uint32))
    roots: dict[int, int] = field(default_factory=dict)
    "From the number of a root to its tree, that is to the first of its owner indexes."
    freelist: Freelist = field(default_factory=Freelist)
    schema_node: bytes = b""
    "SQLite page 1 behind the header."


class _Source:
    """A reader whose every failure is an `ImageError`, and which cannot be read without end."""

    def __init__(self, reader: DatabaseReader) -> None:
        self._reader = reader
        self._sqlite_page_bytes = 0
        self._reads_left = 1

    def expect(self, header: DatabaseHeader, count: int) -> None:
        """Allow what a sound database of this shape can need: nothing is read three times."""
        self._sqlite_page_bytes = header.sqlite_page_bytes
        self._reads_left = 2 * count + 1

    def first(self) -> bytes:
        """Return SQLite page 1, of a size that is not known yet."""
        return self._read(_SCHEMA_ROOT)

    def sqlite_page(self, number: int) -> bytes:
        """Return a whole SQLite page."""
        content = self._read(number)
        if len(content) != self._sqlite_page_bytes:
            raise ImageError(f"SQLite page {number} has {len(content)} bytes")
        return content

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Return all rows of a statement."""
        try:
            return self._reader.rows(sql)
        except Exception as error:  # the reader's SQLite library is not known here, nor its errors
            raise ImageError(f"SQLite cannot list the database: {error!r}") from error

    def sqlite_page_count(self) -> int:
        """Return the number of SQLite pages, 0 for a database that was never written."""
        [(count,)] = self.rows("PRAGMA main.page_count")
        return int(count)

    def roots(self, tree_of: _TreeOf) -> dict[int, int]:
        """Return the tree of each root."""
        roots = {_SCHEMA_ROOT: tree_of(_SCHEMA_NAME, _SCHEMA_NAME, "table")}
        for name, table, kind, root in self.rows(_TREES_SQL):
            roots[root] = tree_of(str(name), str(table), str(kind))
        return roots

    def _read(self, number: int) -> bytes:
        if self._reads_left <= 0:
            raise ImageError("SQLite pages refer to each other in circles")
        self._reads_left -= 1
        try:
            return self._reader.read_sqlite_page(number)
        except Exception as error:  # as in rows
            raise ImageError(f"SQLite page {number} cannot be read: {error!r}") from error


def _list_anew(source: _Source, tree_of: _TreeOf) -> tuple[_State, str]:
    """Return the state of a database of which nothing is known, and its faults."""
    state = _State()
    faults: list[str] = []
    try:
        state.count = source.sqlite_page_count()
        if state.count == 0:
            return state, ""
        first = source.first()
        state.header = parse_database_header(first)
        state.schema_node = bytes(first[HEADER_BYTES:])
    except ImageError as error:
        return _State(), str(error)
    source.expect(state.header, state.count)
    state.codes = np.zeros(state.count + 1, dtype=np.int32)
    state.parents = np.zeros(state.count + 1, dtype=np.uint32)
    try:
        state.roots = source.roots(tree_of)
        _place_trees(state, source.rows(f"{_LISTING_SQL}{state.count + 1}"))
    except ImageError as error:
        faults.append(str(error))
    try:
        _place_others(state, state.header, source)
    except ImageError as error:
        faults.append(str(error))
    return state, "; ".join(faults)


def _place_trees(state: _State, listing: list[tuple[int, int, int, int]]) -> None:
    """Set owners and parents from dbstat's rows, which come depth first."""
    table = np.fromiter(chain.from_iterable(listing), np.intp, 4 * len(listing)).reshape(-1, 4)
    numbers, types, depths, are_heads = table.T
    if not ((numbers >= 1) & (numbers <= state.count)).all():
        raise ImageError("a tree refers to SQLite pages beyond the end of the file")
    roles = np.full(len(types), -1)
    for role, name in enumerate(("internal", "leaf", "overflow")):
        roles[types == ord(name[0])] = role
    is_node = roles != _OVERFLOW
    is_root = is_node & (depths == 1)
    root_trees = [state.roots.get(root, UNKNOWN) for root in numbers[is_root].tolist()]
    trees = np.array(root_trees, dtype=np.int32)[np.cumsum(is_root) - 1]
    codes = np.where(roles >= 0, trees + roles, UNKNOWN)
    state.codes[numbers] = codes
    state.parents[numbers] = _parents(numbers, depths, is_node, is_head=are_heads != 0)
    if np.count_nonzero(state.codes) != len(codes) or not trees.all():
        raise ImageError("trees share SQLite pages, or have some that are no part of a tree")


def _parents(
    numbers: Numbers, depths: Numbers, is_node: npt.NDArray[np.bool_], *, is_head: npt.NDArray[Any]
) -> Numbers:
    """Return the parent of each of dbstat's rows, which come depth first; 0 for roots."""
    parents = np.zeros_like(numbers)
    links = np.flatnonzero(~is_node & ~is_head)
    parents[links] = numbers[links - 1]
    for depth in range(1, int(depths.max(initial=1)) + 1):
        nodes = np.flatnonzero(is_node & (depths == depth))
        # The depth of an overflow row is that of the node whose cell it belongs to.
        below = (is_node & (depths == depth + 1)) | (~is_node & is_head & (depths == depth))
        rows = np.flatnonzero(below)
        if len(rows):
            parents[rows] = numbers[nodes[np.searchsorted(nodes, rows) - 1]]
    return parents


def _place_others(state: _State, header: DatabaseHeader, source: _Source) -> None:
    """Set the owners of what is in no tree: freelist, pointer maps, the lock-byte."""
    placed = [*_places_by_number(header, first=1, last=state.count)]
    change = state.freelist.follow(header, state.count, source.sqlite_page, rewritten=[])
    placed += [(change.trunks_come, FREELIST_TRUNK), (change.leaves_come, FREELIST_LEAF)]
    taken = False
    for numbers, code in placed:
        taken |= bool(state.codes[numbers].any())
        state.codes[numbers] = code
    if taken:
        raise ImageError("SQLite pages of a tree, or of the freelist, have a second owner")


def _places_by_number(
    header: DatabaseHeader, *, first: int, last: int
) -> Iterable[tuple[Numbers, int]]:
    """Return the SQLite pages from first to last whose number alone says what they are."""
    if header.has_pointer_maps:
        yield (
            pointer_map_numbers(
                sqlite_page_bytes=header.sqlite_page_bytes,
                usable_bytes=header.usable_bytes,
                first=first,
                last=last,
            ),
            POINTER_MAP,
        )
    lock_byte = lock_byte_number(header.sqlite_page_bytes)
    if first <= lock_byte <= last:
        yield np.array([lock_byte], dtype=np.intp), LOCK_BYTE


class _Update:
    """One incremental update; the module's docstring says how it works."""

    def __init__(self, state: _State, source: _Source, tree_of: _TreeOf) -> None:
        assert state.header is not None
        self._state = state
        self._source = source
        self._tree_of = tree_of
        self._header = state.header
        self._count_before = state.count
        self._log: list[tuple[Numbers, OwnerIndexes]] = []
        "Numbers whose owner was about to change, and their owners then, oldest first."
        self._waiting: list[tuple[int, int]] = []
        "Numbers and trees of nodes to settle."
        self._chained: list[int] = []
        "Numbers that were given an owner along overflow chains; those not logged were unknown."
        self._nodes: dict[int, Node] = {}
        "What was read of trees."

    def run(self, dirty: Numbers) -> Changes:
        """Bring the state up to date.

        Args:
            dirty: Ascending, at least one.

        Raises:
            ImageError: The database, or the list of dirty SQLite pages, makes no sense.
        """
        self._source.expect(self._header, self._state.count)
        header_is_new = int(dirty[0]) == _SCHEMA_ROOT
        if header_is_new:
            self._take_header()
            if _SCHEMA_ROOT not in self._nodes:
                dirty = dirty[1:]
        dirty = dirty[: np.searchsorted(dirty, self._state.count, side="right")]
        self._take_freelist(dirty, header_is_new=header_is_new)
        dirty, before = self._unsettle_nodes(dirty)
        schema = self._tree_of(_SCHEMA_NAME, _SCHEMA_NAME, "table")
        if ((before >= schema) & (before <= schema + _OVERFLOW)).any():
            self._take_roots()
        self._settle_firm(dirty, before)
        while self._waiting:
            self._settle(*self._waiting.pop())
        return self._result()

    def undo(self) -> None:
        """Set all owners, and the count, to what they were; the rest stays useless."""
        self._state.codes[self._chained] = UNKNOWN
        for numbers, before in reversed(self._log):
            self._state.codes[numbers] = before
        self._state.count = self._count_before

    def _take_header(self) -> None:
        """Read the header, and make the map as long as the file."""
        state, known = self._state, self._header
        content = self._source.sqlite_page(_SCHEMA_ROOT)
        header = parse_database_header(content)
        if (
            header.sqlite_page_bytes != known.sqlite_page_bytes
            or header.usable_bytes != known.usable_bytes
            or header.has_pointer_maps != known.has_pointer_maps
        ):
            raise ImageError("the whole file was laid out anew")
        state.header = self._header = header
        count = header.sqlite_page_count or self._source.sqlite_page_count()
        if count > 2 * state.count + _GROWTH_MAX:
            raise ImageError(f"the file grew from {state.count} to {count} SQLite pages")
        self._source.expect(header, count)
        self._resize(count)
        if content[HEADER_BYTES:] != state.schema_node:
            state.schema_node = bytes(content[HEADER_BYTES:])
            self._nodes[_SCHEMA_ROOT] = self._parse(_SCHEMA_ROOT, content)

    def _resize(self, count: int) -> None:
        state, before = self._state, self._state.count
        if count < before:
            cut = np.arange(count + 1, before + 1)
            self._assign(cut, UNKNOWN)
            state.parents[cut] = 0
        elif count > before:
            if count >= len(state.codes):
                capacity = count + count // 4 + 2
                state.codes = _lengthened(state.codes, capacity)
                state.parents = _lengthened(state.parents, capacity)
            self._assign(np.arange(before + 1, count + 1), UNKNOWN)
            for numbers, code in _places_by_number(self._header, first=before + 1, last=count):
                state.codes[numbers] = code
        state.count = count

    def _take_freelist(self, dirty: Numbers, *, header_is_new: bool) -> None:
        """Set the owners of what was freed, and unsettle what was taken from the freelist."""
        state = self._state
        known = state.freelist
        rewritten = dirty[state.codes[dirty] == FREELIST_TRUNK].tolist()
        if not rewritten and not (header_is_new and known.differs(self._header)):
            return
        change = known.follow(
            self._header, state.count, self._source.sqlite_page, rewritten=rewritten
        )
        self._assign(change.gone, UNKNOWN)
        for numbers, code in (
            (change.leaves_come, FREELIST_LEAF),
            (change.trunks_come, FREELIST_TRUNK),
        ):
            is_fixed = (state.codes[numbers] == POINTER_MAP) | (state.codes[numbers] == LOCK_BYTE)
            if is_fixed.any():
                raise ImageError("the freelist refers to SQLite pages that cannot be free")
            self._assign(numbers, code)
            state.parents[numbers] = 0

    def _unsettle_nodes(self, dirty: Numbers) -> tuple[Numbers, OwnerIndexes]:
        """Unsettle the dirty SQLite pages of trees; return them, and their owners before."""
        before = self._state.codes[dirty]
        may_be_node = (before >= _FIRST_TREE) | (before == UNKNOWN)
        dirty, before = dirty[may_be_node], before[may_be_node]
        self._assign(dirty, UNKNOWN)
        return dirty, before

    def _take_roots(self) -> None:
        """Read the schema; rename trees, and send for the roots that are new."""
        state = self._state
        known, state.roots = state.roots, self._source.roots(self._tree_of)
        dropped = [root for root in known if root not in state.roots and root <= state.count]
        if dropped:
            numbers = np.array(dropped, dtype=np.intp)
            self._assign(numbers[state.codes[numbers] >= _FIRST_TREE], UNKNOWN)
        renamed: dict[int, int] = {}
        for root, tree in state.roots.items():
            if root > state.count:
                raise ImageError(f"the schema refers to SQLite page {root} as a root")
            seen = self._tree_seen_below(root)
            if seen not in (UNKNOWN, tree):
                renamed.setdefault(seen, tree)
        if renamed:
            self._rename(renamed)
        roots = np.fromiter(state.roots, np.intp, len(state.roots))
        trees = np.fromiter(state.roots.values(), np.int32, len(state.roots))
        self._send_for(roots, trees)
        state.parents[roots] = 0

    def _tree_seen_below(self, root: int) -> int:
        """Return the tree to which what hangs on this root was known to belong, or UNKNOWN.

        A rename, or the move of a root by auto_vacuum, leaves the rest of the tree alone: that
        must be given the new name without being read.
        """
        code = self._state.codes.item(root)
        if code == UNKNOWN:
            codes = self._state.codes[self._node(root).children]
            firm = codes[codes >= _FIRST_TREE]
            code = firm.item(0) if len(firm) else UNKNOWN
        return _tree(code) if code >= _FIRST_TREE else UNKNOWN

    def _rename(self, renamed: dict[int, int]) -> None:
        """Give all SQLite pages of trees to other trees, all at once."""
        codes = self._state.codes[: self._state.count + 1]
        highest = max(int(codes.max()), *renamed) + len(_TREE_ROLES)
        renumbered = np.arange(highest + 1, dtype=np.int32)
        for tree, now in renamed.items():
            for role in range(len(_TREE_ROLES)):
                renumbered[tree + role] = now + role
        numbers = np.flatnonzero(renumbered[codes] != codes)
        self._log.append((numbers, codes[numbers]))
        codes[numbers] = renumbered[codes[numbers]]

    def _settle_firm(self, dirty: Numbers, before: OwnerIndexes) -> None:
        """Settle the dirty SQLite pages whose parent stands firm, and send for dirty roots."""
        parents = self._state.parents[dirty]
        parent_codes = self._state.codes[parents]
        is_firm = parent_codes >= _FIRST_TREE
        is_overflow = (before >= _FIRST_TREE) & (_role(before) == _OVERFLOW)
        for number in dirty[~is_firm].tolist():
            if number in self._state.roots:
                self._waiting.append((number, self._state.roots[number]))
        trees = _tree(parent_codes)
        is_node = is_firm & ~is_overflow
        self._waiting += zip(dirty[is_node].tolist(), trees[is_node].tolist(), strict=True)
        chained = is_firm & is_overflow
        columns = (dirty[chained].tolist(), parents[chained].tolist(), trees[chained].tolist())
        for number, parent, tree in zip(*columns, strict=True):
            self._settle_chain(number, parent, tree)

    def _settle(self, number: int, tree: int) -> None:
        """Set the owner of one node, and go on to what it refers to."""
        state = self._state
        code = state.codes.item(number)
        if code in (tree + _INTERIOR, tree + _LEAF):
            return
        if code != UNKNOWN:
            raise ImageError(f"two trees refer to SQLite page {number}")
        node = self._node(number)
        state.codes[number] = tree + (_INTERIOR if node.is_interior else _LEAF)
        if len(node.children):
            state.parents[node.children] = number
            self._send_for(node.children, tree)
        for head in node.overflow_heads:
            self._settle_chain(head, number, tree)

    def _node(self, number: int) -> Node:
        """Return a node, read once however often it is looked at."""
        node = self._nodes.get(number)
        if node is None:
            content = self._source.sqlite_page(number)
            node = self._nodes[number] = self._parse(number, content)
        return node

    def _parse(self, number: int, content: bytes) -> Node:
        node = parse_node(content, number=number, usable_bytes=self._header.usable_bytes)
        require_inside(node.children, self._state.count)
        return node

    def _settle_chain(self, number: int, parent: int, tree: int) -> None:
        """Set the owner along an overflow chain, up to where it is known to be right."""
        state, code = self._state, tree + _OVERFLOW
        while number:
            if not 2 <= number <= state.count:
                raise ImageError(f"SQLite page {parent} refers to {number} as overflow")
            state.parents[number] = parent
            before = state.codes.item(number)
            if before == code:
                return
            if before != UNKNOWN:
                self._unsettle(np.array([number]))
            state.codes[number] = code
            self._chained.append(number)
            parent, number = number, next_overflow(self._source.sqlite_page(number))

    def _send_for(self, numbers: Numbers, trees: npt.NDArray[np.int32] | int) -> None:
        """Have those nodes settled that are not known to be nodes of their trees."""
        codes = self._state.codes[numbers]
        strays = np.flatnonzero((codes != trees + _INTERIOR) & (codes != trees + _LEAF))
        if len(strays):
            stray_numbers = numbers[strays]
            self._unsettle(stray_numbers)
            stray_trees = np.broadcast_to(trees, numbers.shape)[strays]
            self._waiting += zip(stray_numbers.tolist(), stray_trees.tolist(), strict=True)

    def _unsettle(self, numbers: Numbers) -> None:
        """Forget owners, which must be trees."""
        codes = self._state.codes[numbers]
        if ((codes > UNKNOWN) & (codes < _FIRST_TREE)).any():
            raise ImageError("a tree refers to SQLite pages that are in no tree")
        self._assign(numbers, UNKNOWN)

    def _assign(self, numbers: Numbers, code: int) -> None:
        """Set owners, and note those from before."""
        if len(numbers):
            self._log.append((numbers, self._state.codes[numbers]))
            self._state.codes[numbers] = code

    def _result(self) -> Changes:
        """Return what changed, once nothing is unsettled."""
        if self._chained:
            chained = np.array(self._chained, dtype=np.intp)
            self._log.append((chained, np.full(len(chained), UNKNOWN, dtype=np.int32)))
        if not self._log:
            return _NO_CHANGES
        numbers, before = self._log[0]
        if len(self._log) > 1 or not _is_ascending(numbers):
            # Of each SQLite page the oldest entry counts, which is the first that unique finds.
            numbers, first = np.unique(
                np.concatenate([numbers for numbers, _ in self._log]), return_index=True
            )
            before = np.concatenate([before for _, before in self._log])[first]
        now = self._state.codes[numbers]
        was_owned = (before != UNKNOWN) | (numbers > self._count_before)
        if ((now == UNKNOWN) & was_owned & (numbers <= self._state.count)).any():
            raise ImageError("nothing refers to SQLite pages that are neither free nor a root")
        changed = now != before
        return Changes(numbers[changed], now[changed], before[changed])


def _tree(codes: Any) -> Any:  # noqa: ANN401  an integer or an array of them
    """Return the first owner index of the trees that these owner indexes belong to."""
    return codes - _role(codes)


def _role(codes: Any) -> Any:  # noqa: ANN401  as in _tree
    """Return the position in `_TREE_ROLES` of owner indexes of trees."""
    return (codes - _FIRST_TREE) % len(_TREE_ROLES)


def _is_ascending(numbers: Numbers) -> bool:
    return len(numbers) < 2 or bool((numbers[1:] > numbers[:-1]).all())


def _ascending(numbers: Numbers) -> Numbers:
    """Return the numbers sorted, each once."""
    if not _is_ascending(numbers):
        numbers = np.unique(numbers)
    assert not len(numbers) or numbers[0] >= 1, "SQLite pages are counted from 1"
    return numbers


def _lengthened(values: npt.NDArray[Any], length: int) -> npt.NDArray[Any]:
    """Return the array, with zeros behind it where it is shorter than ``length``."""
    missing = length - len(values)
    return np.append(values, np.zeros(missing, dtype=values.dtype)) if missing > 0 else values
