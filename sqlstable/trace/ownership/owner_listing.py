"""Finding every owner anew from little more than the interior nodes of all trees.

All leaves of a tree lie at one depth, so the nodes above them say whose they are: about one
SQLite page in a hundred is read. What overflows from a node is left unknown until somebody meets it
(`sqlstable.trace.ownership.owner_chains`).
"""

from collections.abc import Callable
from typing import Final

import numpy as np

from sqlstable.errors import ImageError
from sqlstable.sqlite.btree import (
    INTERIOR_INDEX,
    INTERIOR_TABLE,
    LEAF_INDEX,
    LEAF_TABLE,
    SCHEMA_ROOT,
    Numbers,
    kind_of_node,
    parse_node,
    require_inside,
)
from sqlstable.sqlite.header import HEADER_BYTES, Header
from sqlstable.sqlite.nodes import children_of
from sqlstable.sqlite.schema_rows import SchemaRow, schema_rows, shown_name
from sqlstable.trace.ownership.owner_source import GuardedReader
from sqlstable.trace.ownership.owner_state import (
    FIRST_TREE,
    FREELIST_LEAF,
    FREELIST_TRUNK,
    INTERIOR,
    LEAF,
    SCHEMA_NAME,
    SCHEMA_TREE,
    UNKNOWN,
    OwnerState,
    TreeOf,
    places_by_number,
    trees_of,
)

_DEPTH_MAX: Final = 20
"""Levels of a tree that SQLite itself can descend (BTCURSOR_MAX_DEPTH)."""
_FAULTS_MAX: Final = 5
"""Faults that are named; the others are counted."""
_READ_BYTES: Final = 1 << 22
"""Bytes of nodes that are held at once."""
_LEAF_KINDS: Final = {INTERIOR_TABLE: LEAF_TABLE, INTERIOR_INDEX: LEAF_INDEX}


def list_owners(source: GuardedReader, tree_of: TreeOf) -> tuple[OwnerState, str]:
    """Return the state of a database of which nothing is known, and its faults."""
    state = OwnerState()
    try:
        if source.size_bytes() == 0:
            return state, ""
        header, first = source.header()
        count = source.sqlite_page_count(header)
    except ImageError as error:
        return OwnerState(), str(error)
    state.header, state.count = header, count
    state.schema_node = bytes(first[HEADER_BYTES:])
    source.expect(header, count)
    state.codes = np.zeros(count + 1, dtype=np.int32)
    state.parents = np.zeros(count + 1, dtype=np.uint32)
    state.unread = np.zeros(count + 1, dtype=np.bool_)
    listing = _Listing(state, header, source)
    listing.guarded("", listing.place_others)
    listing.guarded(SCHEMA_NAME, lambda: listing.place_tree(SCHEMA_ROOT, SCHEMA_TREE))
    listing.guarded(SCHEMA_NAME, listing.read_schema)
    state.roots[SCHEMA_ROOT] = SCHEMA_TREE
    for row in [row for leaf in state.schema_rows.values() for row in leaf.values() if row]:
        listing.place_row(row, tree_of(row.name, row.table, row.kind))
    listing.forget_broken()
    faults = listing.faults[:_FAULTS_MAX]
    if len(listing.faults) > len(faults):
        faults.append(f"and {len(listing.faults) - len(faults)} more")
    return state, "; ".join(faults)


class _Listing:
    """One listing: owners are claimed, and what is claimed twice is nobody's in the end."""

    def __init__(self, state: OwnerState, header: Header, source: GuardedReader) -> None:
        self.faults: list[str] = []
        self._state = state
        self._header = header
        self._source = source
        self._contested: list[Numbers] = []
        self._broken: set[int] = set()
        "Trees that are not to be believed."
        self._order = np.empty(state.count + 1, dtype=np.intp)

    def guarded(self, name: str, step: Callable[[], None]) -> bool:
        """Take a step; returns whether it failed, which is a fault."""
        try:
            step()
        except ImageError as error:
            self.faults.append(f"{shown_name(name)}: {error}" if name else str(error))
            return True
        return False

    def place_others(self) -> None:
        """Set the owners of what is in no tree: freelist, pointer maps, the lock-byte."""
        state, header = self._state, self._header
        for numbers, code in places_by_number(header, first=1, last=state.count):
            self._claim(numbers, code, 0)
        change = state.freelist.follow(header, state.count, self._source.sqlite_page, rewritten=[])
        self._claim(change.trunks_come, FREELIST_TRUNK, 0)
        self._claim(change.leaves_come, FREELIST_LEAF, 0)

    def place_row(self, row: SchemaRow, tree: int) -> None:
        """Set the owners of the tree that a row of the schema names."""
        self._state.roots[row.root] = tree
        if self.guarded(row.name, lambda: self.place_tree(row.root, tree)):
            self._broken.add(tree)

    def place_tree(self, root: int, tree: int) -> None:
        """Set the owners of all nodes of one tree."""
        state, source = self._state, self._source
        if root > state.count:
            raise ImageError(f"the schema refers to SQLite page {root} as a root")
        content = source.sqlite_page(root)
        kind = kind_of_node(content, number=root)
        is_leaf = kind not in _LEAF_KINDS
        self._claim(np.array([root]), tree + (LEAF if is_leaf else INTERIOR), 0)
        state.unread[root] = kind != INTERIOR_TABLE
        if is_leaf:
            return
        level = parse_node(content, number=root, usable_bytes=self._header.usable_bytes).children
        parents: Numbers | int = root
        for _ in range(_DEPTH_MAX):
            require_inside(level, state.count)
            below = kind_of_node(source.sqlite_page(int(level[0])), number=int(level[0]))
            is_leaf = below == _LEAF_KINDS[kind]
            if not is_leaf and below != kind:
                raise ImageError(f"SQLite page {level[0]} is a node of kind {below} below {kind}")
            self._claim(level, tree + (LEAF if is_leaf else INTERIOR), parents)
            state.unread[level] = is_leaf or kind == INTERIOR_INDEX
            if is_leaf:
                return
            level, parents = self._children(level, kind)
        raise ImageError(f"its tree is more than {_DEPTH_MAX} levels deep")

    def read_schema(self) -> None:
        """Read the rows of all leaves of the schema."""
        state = self._state
        for leaf in np.flatnonzero(state.codes == SCHEMA_TREE + LEAF).tolist():
            content = self._source.sqlite_page(leaf)
            state.schema_rows[leaf] = schema_rows(
                content, number=leaf, header=self._header, read=self._source.sqlite_page
            )

    def forget_broken(self) -> None:
        """Make unknown what was claimed twice, and all of the trees that claimed it."""
        codes = self._state.codes
        if self._contested:
            contested = np.concatenate(self._contested)
            owners = codes[contested]
            self._broken |= {int(tree) for tree in trees_of(owners[owners >= FIRST_TREE])}
            codes[contested] = UNKNOWN
        if self._broken:
            is_broken = (codes >= FIRST_TREE) & np.isin(trees_of(codes), list(self._broken))
            codes[is_broken] = UNKNOWN
            self._state.parents[is_broken] = 0
            self._state.unread[codes < FIRST_TREE] = False

    def _children(self, numbers: Numbers, kind: int) -> tuple[Numbers, Numbers]:
        usable, found = self._header.usable_bytes, []
        step = max(1, _READ_BYTES // self._header.page_size)
        for start in range(0, len(numbers), step):
            some = numbers[start : start + step]
            contents = [self._source.sqlite_page(number) for number in some.tolist()]
            found.append(children_of(contents, some, kind=kind, usable=usable))
        children, parents = zip(*found, strict=True)
        return np.concatenate(children), np.concatenate(parents)

    def _claim(self, numbers: Numbers, code: int, parents: Numbers | int) -> None:
        """Set the owner of SQLite pages that have none yet."""
        codes = self._state.codes
        is_taken = codes[numbers] != UNKNOWN
        order = np.arange(len(numbers), dtype=np.intp)
        self._order[numbers] = order
        is_taken |= self._order[numbers] != order
        if is_taken.any():
            taken = numbers[is_taken]
            codes[numbers[~is_taken]] = code
            self._contested.append(taken)
            raise ImageError(f"SQLite page {taken[0]} has a second owner")
        codes[numbers] = code
        self._state.parents[numbers] = parents
