"""Carrying owners past a message by reading little more than the SQLite pages it dirtied.

Each SQLite page of a tree is referred to from exactly one other one, its *parent*: the interior
node above, the node whose cell overflows into it, or the one before it in the overflow chain. So
a SQLite page can change owner only if its parent was dirtied, if its parent changed owner, if it
became a root, or if it came off the freelist.

An update therefore marks all dirtied SQLite pages of trees as *unsettled*, settles those whose
parent stands firm and the roots among them, and goes down from there wherever a child is
unsettled or has another owner. Free SQLite pages are set before, so what their stale bytes
resemble is never looked at.

Most messages change no structure at all: they write leaves whose parents they do not write, and
`is_plain` tells that without reading any.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from sqlstable.errors import ImageError
from sqlstable.sqlite.btree import (
    SCHEMA_ROOT,
    Node,
    Numbers,
    next_overflow,
    parse_node,
    require_inside,
)
from sqlstable.sqlite.header import HEADER_BYTES, require_header
from sqlstable.sqlite.schema_rows import SchemaLeaf, SchemaRow, schema_rows
from sqlstable.trace.ownership.owner_source import GuardedReader
from sqlstable.trace.ownership.owner_state import (
    FIRST_TREE,
    FREELIST_LEAF,
    FREELIST_TRUNK,
    INTERIOR,
    LEAF,
    LOCK_BYTE,
    NO_CHANGES,
    OVERFLOW,
    POINTER_MAP,
    SCHEMA_TREE,
    TREE_ROLES,
    UNKNOWN,
    Changes,
    OwnerIndexes,
    OwnerState,
    TreeOf,
    is_ascending,
    lengthened,
    places_by_number,
    roles_of,
    trees_of,
)

_GROWTH_MAX: Final = 1024
"""SQLite pages by which a file may more than double in a message and still be updated."""


def is_plain(state: OwnerState, source: GuardedReader, dirty: set[int]) -> bool:
    """Return whether writing these SQLite pages has left all owners, and all chains, as they are.

    That is so where all are leaves of trees whose parents were not written, and the header says of
    file and freelist what it said before. Splitting, joining and balancing nodes writes their
    parent; allocating and freeing writes the freelist, the header, a pointer map, or what was
    allocated, none of which is such a leaf.

    Raises:
        ImageError: The header is damaged.
    """
    code_of, parent_of, count = state.codes.item, state.parents.item, state.count
    for number in dirty:
        if number == SCHEMA_ROOT:
            continue
        if number > count:
            return False
        code = code_of(number)
        # Leaves of the schema name trees.
        if code <= SCHEMA_TREE + OVERFLOW or (code - FIRST_TREE) % len(TREE_ROLES) != LEAF:
            return False
        if parent_of(number) in dirty:
            return False
    if SCHEMA_ROOT not in dirty:
        return True
    header, first = source.header()
    return header == state.header and first[HEADER_BYTES:] == state.schema_node


class OwnerUpdate:
    """One incremental update; the module's docstring says how it works."""

    def __init__(self, state: OwnerState, source: GuardedReader, tree_of: TreeOf) -> None:
        """Prepare to change ``state``, which must be that of a sound database."""
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
        self.has_renamed = False
        "Whether trees were given other names, with all that belongs to them."
        self._contents: dict[int, bytes] = {}
        "SQLite pages that were read for more than what they refer to."

    def run(self, dirty: Numbers) -> Changes:
        """Bring the state up to date.

        Args:
            dirty: Ascending, at least one.

        Raises:
            ImageError: The database, or the list of dirty SQLite pages, makes no sense.
        """
        self._source.expect(self._header, self._state.count)
        header_is_new = int(dirty[0]) == SCHEMA_ROOT
        if header_is_new:
            self._take_header()
            if SCHEMA_ROOT not in self._nodes:
                dirty = dirty[1:]
        dirty = dirty[: np.searchsorted(dirty, self._state.count, side="right")]
        self._take_freelist(dirty, header_is_new=header_is_new)
        dirty, before = self._unsettle_nodes(dirty)
        if ((before >= SCHEMA_TREE) & (before <= SCHEMA_TREE + OVERFLOW)).any():
            self._take_roots(dirty)
        self._settle_firm(dirty, before)
        while self._waiting:
            self._settle(*self._waiting.pop())
        return self._result()

    def undo(self) -> None:
        """Set all owners, and the count, to what they were; the rest stays useless."""
        # Those along chains that had an owner are in the log, too, which corrects them below.
        self._state.codes[self._chained] = UNKNOWN
        # What changed more than once ends with its oldest owner, so the oldest entry comes last.
        for numbers, before in reversed(self._log):
            self._state.codes[numbers] = before
        self._state.count = self._count_before

    def _take_header(self) -> None:
        """Read the header, and make the map as long as the file."""
        state, known = self._state, self._header
        content = self._content(SCHEMA_ROOT)
        header = require_header(content)
        if (
            header.page_size != known.page_size
            or header.usable_bytes != known.usable_bytes
            or header.has_pointer_maps != known.has_pointer_maps
        ):
            raise ImageError("the whole file was laid out anew")
        state.header = self._header = header
        count = self._source.sqlite_page_count(header)
        if count > 2 * state.count + _GROWTH_MAX:
            raise ImageError(f"the file grew from {state.count} to {count} SQLite pages")
        self._source.expect(header, count)
        self._resize(count)
        if content[HEADER_BYTES:] != state.schema_node:
            state.schema_node = bytes(content[HEADER_BYTES:])
            self._node(SCHEMA_ROOT)

    def _resize(self, count: int) -> None:
        state, before = self._state, self._state.count
        if count < before:
            cut = np.arange(count + 1, before + 1)
            self._assign(cut, UNKNOWN)
            state.parents[cut] = 0
            state.unread[cut] = False
        elif count > before:
            if count >= len(state.codes):
                capacity = count + count // 4 + 2
                state.codes = lengthened(state.codes, capacity)
                state.parents = lengthened(state.parents, capacity)
                state.unread = lengthened(state.unread, capacity)
            self._assign(np.arange(before + 1, count + 1), UNKNOWN)
            for numbers, code in places_by_number(self._header, first=before + 1, last=count):
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
            state.unread[numbers] = False

    def _unsettle_nodes(self, dirty: Numbers) -> tuple[Numbers, OwnerIndexes]:
        """Unsettle the dirty SQLite pages of trees; return them, and their owners before."""
        before = self._state.codes[dirty]
        may_be_node = (before >= FIRST_TREE) | (before == UNKNOWN)
        dirty, before = dirty[may_be_node], before[may_be_node]
        self._assign(dirty, UNKNOWN)
        self._state.unread[dirty] = False
        return dirty, before

    def _take_roots(self, dirty: Numbers) -> None:
        """Read what was written of the schema; rename trees, and send for roots that are new."""
        state = self._state
        written = set(dirty.tolist())
        gone, come = self._schema_changes(written)
        for row in gone:
            state.roots.pop(row.root, None)
        trees = {row.root: self._tree_of(row.name, row.table, row.kind) for row in come}
        if len(trees) != len(come) or trees.keys() & state.roots.keys():
            raise ImageError("tables or indexes share a root")
        # One may have moved to where another one with its new name was: the row is the same.
        trees |= {root: state.roots[root] for root in written if root in state.roots}
        state.roots |= trees
        dropped = {row.root for row in gone} - trees.keys()
        if dropped:
            numbers = np.array([root for root in dropped if root <= state.count], dtype=np.intp)
            self._assign(numbers[state.codes[numbers] >= FIRST_TREE], UNKNOWN)
        renamed: dict[int, int] = {}
        for root, tree in trees.items():
            if root > state.count:
                raise ImageError(f"the schema refers to SQLite page {root} as a root")
            seen = self._tree_seen_below(root)
            if seen not in (UNKNOWN, tree):
                renamed.setdefault(seen, tree)
        if renamed:
            self._rename(renamed)
        roots = np.fromiter(trees, np.intp, len(trees))
        self._send_for(roots, np.fromiter(trees.values(), np.int32, len(trees)))
        state.parents[roots] = 0

    def _schema_changes(self, dirty: set[int]) -> tuple[list[SchemaRow], list[SchemaRow]]:
        """Return the rows that went from the schema, and those that came to it in their order."""
        old = self._state.schema_rows
        new: dict[int, SchemaLeaf] = {}
        come: list[SchemaRow] = []
        for leaf in self._schema_leaves(dirty):
            if leaf in old and leaf not in dirty:
                new[leaf] = old[leaf]
                continue
            new[leaf] = schema_rows(
                self._content(leaf),
                number=leaf,
                header=self._header,
                read=self._content,
                known=old.get(leaf),
            )
            come += filter(None, new[leaf].values())
        changed = [rows for leaf, rows in old.items() if new.get(leaf) is not rows]
        gone = [row for rows in changed for row in rows.values() if row]
        self._state.schema_rows = new
        both = {*gone} & {*come}
        return [row for row in gone if row not in both], [row for row in come if row not in both]

    def _schema_leaves(self, dirty: set[int]) -> list[int]:
        """Return all leaves of the schema's tree, reading of its nodes those that were written."""
        leaves, waiting = [], [SCHEMA_ROOT]
        known = self._state.schema_rows
        while waiting:
            number = waiting.pop()
            if number in known and number not in dirty:
                leaves.append(number)
                continue
            self._content(number)
            node = self._node(number)
            if node.is_interior:
                waiting += reversed(node.children.tolist())
            else:
                leaves.append(number)
        return leaves

    def _tree_seen_below(self, root: int) -> int:
        """Return the tree to which what hangs on this root was known to belong, or UNKNOWN.

        A rename, or the move of a root by auto_vacuum, leaves the rest of the tree alone: that
        must be given the new name without being read.
        """
        code = self._state.codes.item(root)
        if code == UNKNOWN:
            codes = self._state.codes[self._node(root).children]
            firm = codes[codes >= FIRST_TREE]
            code = firm.item(0) if len(firm) else UNKNOWN
        return trees_of(code) if code >= FIRST_TREE else UNKNOWN

    def _rename(self, renamed: dict[int, int]) -> None:
        """Give all SQLite pages of trees to other trees, all at once."""
        self.has_renamed = True
        codes = self._state.codes[: self._state.count + 1]
        highest = max(int(codes.max()), *renamed) + len(TREE_ROLES)
        # One table for all: of two trees that swap names, the second would else take both.
        renumbered = np.arange(highest + 1, dtype=np.int32)
        for tree, now in renamed.items():
            for role in range(len(TREE_ROLES)):
                renumbered[tree + role] = now + role
        numbers = np.flatnonzero(renumbered[codes] != codes)
        self._log.append((numbers, codes[numbers]))
        codes[numbers] = renumbered[codes[numbers]]

    def _settle_firm(self, dirty: Numbers, before: OwnerIndexes) -> None:
        """Settle the dirty SQLite pages whose parent stands firm, and send for dirty roots."""
        parents = self._state.parents[dirty]
        parent_codes = self._state.codes[parents]
        # A parent that is unsettled itself sends for its children when it is settled.
        is_firm = parent_codes >= FIRST_TREE
        is_overflow = (before >= FIRST_TREE) & (roles_of(before) == OVERFLOW)
        for number in dirty[~is_firm].tolist():
            if number in self._state.roots:
                self._waiting.append((number, self._state.roots[number]))
        trees = trees_of(parent_codes)
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
        if code in (tree + INTERIOR, tree + LEAF):
            return
        if code != UNKNOWN:
            raise ImageError(f"two trees refer to SQLite page {number}")
        node = self._node(number)
        state.unread[number] = False
        state.codes[number] = tree + (INTERIOR if node.is_interior else LEAF)
        if len(node.children):
            state.parents[node.children] = number
            self._send_for(node.children, tree)
        for head in node.overflow_heads:
            self._settle_chain(head, number, tree)

    def _node(self, number: int) -> Node:
        """Return a node, read once however often it is looked at."""
        node = self._nodes.get(number)
        if node is None:
            content = self._contents.get(number) or self._source.sqlite_page(number)
            node = parse_node(content, number=number, usable_bytes=self._header.usable_bytes)
            require_inside(node.children, self._state.count)
            self._nodes[number] = node
        return node

    def _content(self, number: int) -> bytes:
        content = self._contents.get(number)
        if content is None:
            content = self._contents[number] = self._source.sqlite_page(number)
        return content

    def _settle_chain(self, number: int, parent: int, tree: int) -> None:
        """Set the owner along an overflow chain, up to where it is known to be right."""
        state, code = self._state, tree + OVERFLOW
        while number:
            if not 2 <= number <= state.count:
                raise ImageError(f"SQLite page {parent} refers to {number} as overflow")
            state.parents[number] = parent
            before = state.codes.item(number)
            # Behind it the chain is as it was: a link that was written is followed on its own.
            if before == code:
                return
            if before != UNKNOWN:
                self._unsettle(np.array([number]))
            state.codes[number] = code
            state.unread[number] = False
            self._chained.append(number)
            content = self._contents.get(number) or self._source.sqlite_page(number)
            parent, number = number, next_overflow(content)

    def _send_for(self, numbers: Numbers, trees: npt.NDArray[np.int32] | int) -> None:
        """Have those nodes settled that are not known to be nodes of their trees."""
        codes = self._state.codes[numbers]
        strays = np.flatnonzero((codes != trees + INTERIOR) & (codes != trees + LEAF))
        if len(strays):
            stray_numbers = numbers[strays]
            self._unsettle(stray_numbers)
            stray_trees = np.broadcast_to(trees, numbers.shape)[strays]
            self._waiting += zip(stray_numbers.tolist(), stray_trees.tolist(), strict=True)

    def _unsettle(self, numbers: Numbers) -> None:
        """Forget owners, which must be trees."""
        codes = self._state.codes[numbers]
        if ((codes > UNKNOWN) & (codes < FIRST_TREE)).any():
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
            return NO_CHANGES
        numbers, before = self._log[0]
        if len(self._log) > 1 or not is_ascending(numbers):
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
