"""What is known of who owns each SQLite page of a database: the owners, and where they stand.

An owner index says whose a SQLite page is, and what it does there. The first few are the same in
every database; then come three for each tree, one for each role.

**Invariants** of an `OwnerState` between two messages, while the database is sound:

* ``codes[number]`` is the owner index; 0 for unknown, and 0 beyond the file and for number 0.
* ``parents[number]`` is the parent of each SQLite page of a tree, and 0 for roots, for all others,
  and beyond the file. The parent is the one other SQLite page that refers to it, be it as a child
  or as overflow.
* A tree has three successive owner indexes: interior, leaf and overflow, in this order.
* ``unread[number]`` says that a node has not been looked at for overflow. What overflows from it is
  unknown until then, with parent 0; what overflows from any other node is known to its end.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from sqlstable.sqlite.btree import (
    NO_NUMBERS,
    Numbers,
    lock_byte_number,
    pointer_map_numbers,
)
from sqlstable.sqlite.freelist import Freelist
from sqlstable.sqlite.header import Header
from sqlstable.sqlite.schema_rows import SchemaLeaf
from sqlstable.trace.model import Owner

OwnerIndexes = npt.NDArray[np.int32]
"""Positions in `sqlstable.trace.ownership.owners.OwnerMap.owners`."""


UNKNOWN: Final = 0
FREELIST_TRUNK: Final = 1
FREELIST_LEAF: Final = 2
POINTER_MAP: Final = 3
LOCK_BYTE: Final = 4
FIRST_TREE: Final = 5
"""Owner indexes from here on belong to trees, three to each."""

OUTSIDE_TREES: Final = (
    Owner("(unknown)", "(unknown)", "unknown", ""),
    Owner("(freelist)", "(freelist)", "freelist", "trunk"),
    Owner("(freelist)", "(freelist)", "freelist", "leaf"),
    Owner("(pointer map)", "(pointer map)", "pointer map", ""),
    Owner("(lock-byte)", "(lock-byte)", "lock-byte", ""),
)
assert len(OUTSIDE_TREES) == FIRST_TREE

TREE_ROLES: Final = ("interior", "leaf", "overflow")
"""Roles in a tree, in the order of its owner indexes."""
INTERIOR, LEAF, OVERFLOW = range(len(TREE_ROLES))

SCHEMA_NAME: Final = "sqlite_schema"
SCHEMA_TREE: Final = FIRST_TREE
"""First owner index of the schema's own tree, in every map."""

TreeOf = Callable[[str, str, str], int]
"""Gives the first owner index of the tree with this name, table and kind of a `SchemaRow`."""


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
        return len(self.numbers)


_NO_OWNERS: Final[OwnerIndexes] = np.empty(0, dtype=np.int32)
NO_CHANGES: Final = Changes(NO_NUMBERS, _NO_OWNERS, _NO_OWNERS)


@dataclass(slots=True)
class OwnerState:
    """What is known of a database between two messages; the module's docstring has the rules."""

    header: Header | None = None
    count: int = 0
    "SQLite pages in the file; the arrays are longer by at least one."
    codes: OwnerIndexes = field(default_factory=lambda: np.zeros(1, dtype=np.int32))
    parents: npt.NDArray[np.uint32] = field(default_factory=lambda: np.zeros(1, dtype=np.uint32))
    unread: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros(1, dtype=np.bool_))
    is_complete: bool = False
    "Whether no node is unread."
    roots: dict[int, int] = field(default_factory=dict)
    "From the number of a root to its tree, that is to the first of its owner indexes."
    freelist: Freelist = field(default_factory=Freelist)
    schema_node: bytes = b""
    "SQLite page 1 behind the header."
    schema_rows: dict[int, SchemaLeaf] = field(default_factory=dict)
    "Rows of sqlite_schema, by the leaf that they are on."


def trees_of(codes: Any) -> Any:  # noqa: ANN401  an integer or an array of them
    """Return the first owner index of the trees that these owner indexes belong to."""
    return codes - roles_of(codes)


def roles_of(codes: Any) -> Any:  # noqa: ANN401  as in trees_of
    """Return the position in `TREE_ROLES` of owner indexes of trees."""
    return (codes - FIRST_TREE) % len(TREE_ROLES)


def places_by_number(header: Header, *, first: int, last: int) -> Iterable[tuple[Numbers, int]]:
    """Return the SQLite pages from first to last whose number alone says what they are."""
    if header.has_pointer_maps:
        yield (
            pointer_map_numbers(
                sqlite_page_bytes=header.page_size,
                usable_bytes=header.usable_bytes,
                first=first,
                last=last,
            ),
            POINTER_MAP,
        )
    lock_byte = lock_byte_number(header.page_size)
    if first <= lock_byte <= last:
        yield np.array([lock_byte], dtype=np.intp), LOCK_BYTE


def lengthened(values: npt.NDArray[Any], length: int) -> npt.NDArray[Any]:
    """Return the array, with zeros behind it where it is shorter than ``length``."""
    missing = length - len(values)
    return np.append(values, np.zeros(missing, dtype=values.dtype)) if missing > 0 else values


def is_ascending(numbers: Numbers) -> bool:
    """Return whether each number is larger than the one before."""
    return len(numbers) < 2 or bool((numbers[1:] > numbers[:-1]).all())
