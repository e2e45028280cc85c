"""Finding every owner anew, with a pass of SQLite's ``dbstat`` over the whole file."""

from itertools import chain
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from sqlstable.errors import ImageError
from sqlstable.trace.btree import HEADER_BYTES, DatabaseHeader, Numbers, parse_database_header
from sqlstable.trace.owner_source import GuardedReader
from sqlstable.trace.owner_state import (
    FREELIST_LEAF,
    FREELIST_TRUNK,
    OVERFLOW,
    UNKNOWN,
    OwnerState,
    TreeOf,
    places_by_number,
)

# dbstat walks each tree depth first, so depths are enough to tell who is below whom. A sound
# database lists no SQLite page twice: the limit stops what only damage can make endless.
_LISTING_SQL: Final = (
    "SELECT pageno, unicode(pagetype), length(path) - length(replace(path, '/', '')), "
    "substr(path, -7) = '+000000' FROM main.dbstat LIMIT "
)


def list_owners(source: GuardedReader, tree_of: TreeOf) -> tuple[OwnerState, str]:
    """Return the state of a database of which nothing is known, and its faults."""
    state = OwnerState()
    faults: list[str] = []
    try:
        state.count = source.sqlite_page_count()
        if state.count == 0:
            return state, ""
        first = source.first()
        state.header = parse_database_header(first)
        state.schema_node = bytes(first[HEADER_BYTES:])
    except ImageError as error:
        return OwnerState(), str(error)
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


def _place_trees(state: OwnerState, listing: list[tuple[int, int, int, int]]) -> None:
    """Set owners and parents from dbstat's rows, which come depth first."""
    table = np.fromiter(chain.from_iterable(listing), np.intp, 4 * len(listing)).reshape(-1, 4)
    numbers, types, depths, are_heads = table.T
    if not ((numbers >= 1) & (numbers <= state.count)).all():
        raise ImageError("a tree refers to SQLite pages beyond the end of the file")
    roles = np.full(len(types), -1)
    for role, name in enumerate(("internal", "leaf", "overflow")):
        roles[types == ord(name[0])] = role
    is_node = roles != OVERFLOW
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


def _place_others(state: OwnerState, header: DatabaseHeader, source: GuardedReader) -> None:
    """Set the owners of what is in no tree: freelist, pointer maps, the lock-byte."""
    placed = [*places_by_number(header, first=1, last=state.count)]
    change = state.freelist.follow(header, state.count, source.sqlite_page, rewritten=[])
    placed += [(change.trunks_come, FREELIST_TRUNK), (change.leaves_come, FREELIST_LEAF)]
    taken = False
    for numbers, code in placed:
        taken |= bool(state.codes[numbers].any())
        state.codes[numbers] = code
    if taken:
        raise ImageError("SQLite pages of a tree, or of the freelist, have a second owner")
