"""SQLite's file format as far as it says who refers to whom, read from bytes.

Offsets and meanings are those of sqlite.org/fileformat.html, sections 1.4 to 1.8. All numbers
are big-endian, SQLite pages are counted from 1, and 0 stands for "none".

Node, a SQLite page of a B-tree (on SQLite page 1 behind the header)::

    0   kind: 2 interior index, 5 interior table, 10 leaf index, 13 leaf table
    3   cells, 2 bytes           8   right-most child, interior only
    8 or 12                      one 2-byte pointer for each cell

Cell, in this order where the kind has it::

    left child, 4 bytes            2, 5
    payload bytes P, varint        2, 10, 13
    rowid, varint                  5, 13
    payload, the part kept here    2, 10, 13
    first overflow, 4 bytes        2, 10, 13, only if not all of P is kept here

Overflow: the next one of the chain, 4 bytes, then payload.

**Invariants**

* What a function returns lies within the bytes that it was given: whatever points outside
  raises `ImageError`. Whether a number lies within the file is for the caller to check.

**Limitations**

* The lock-byte SQLite page is the one at 1 GiB, where every ordinary build of SQLite has it.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from sqlstable.errors import ImageError
from sqlstable.ic.units import GIB
from sqlstable.sqlite.header import HEADER_BYTES

SCHEMA_ROOT: Final = 1
"""Number of the root of the schema's own tree."""
LOCK_BYTE_OFFSET: Final = GIB
"""First byte of the range on which SQLite takes file locks; nothing is stored around it."""
POINTER_MAP_ENTRY_BYTES: Final = 5

INTERIOR_INDEX: Final = 2
INTERIOR_TABLE: Final = 5
LEAF_INDEX: Final = 10
LEAF_TABLE: Final = 13

CELL_BYTES_MIN: Final = {INTERIOR_INDEX: 6, INTERIOR_TABLE: 5, LEAF_INDEX: 4, LEAF_TABLE: 4}
"""Fewest bytes of one cell, by kind of node: how near the end a cell may begin."""
_NODE_FIELDS: Final = struct.Struct(">BxxHxxx")
_U32: Final = struct.Struct(">I")
_FOUR: Final = np.arange(4, dtype=np.intp)
_VARINT_MORE: Final = 0x80
"""Bit of a varint's byte that says that another byte follows."""

Numbers = npt.NDArray[np.intp]
"""SQLite page numbers, each 1 or more."""

NO_NUMBERS: Final[Numbers] = np.empty(0, dtype=np.intp)


@dataclass(frozen=True, slots=True)
class Node:
    """One SQLite page of a B-tree, as far as it refers to other SQLite pages."""

    is_interior: bool
    children: Numbers
    "Left children in the order of the cells, then the right-most one; empty for a leaf."
    overflow_heads: list[int]
    "First SQLite page of each cell's overflow chain, in the order of the cells."


def parse_node(content: bytes, *, number: int, usable_bytes: int) -> Node:
    """Return what one SQLite page of a B-tree refers to.

    Args:
        content: The whole SQLite page.
        number: Its number, 1 or more: on SQLite page 1 the header comes first.
        usable_bytes: Bytes of a SQLite page without the reserved ones.

    Raises:
        ImageError: This is no node, or a cell lies outside of it.

    Examples:
        >>> leaf = bytes([13, 0, 0, 0, 0, 2, 0, 0]) + bytes(504)
        >>> parse_node(leaf, number=2, usable_bytes=512)
        Node(is_interior=False, children=array([], dtype=int64), overflow_heads=[])
    """
    start = HEADER_BYTES if number == SCHEMA_ROOT else 0
    kind, cell_count = _NODE_FIELDS.unpack_from(content, start)
    if kind not in CELL_BYTES_MIN:
        raise ImageError(f"SQLite page {number} has kind {kind}, which no node of a B-tree has")
    is_interior = kind in (INTERIOR_INDEX, INTERIOR_TABLE)
    pointers = start + (12 if is_interior else 8)
    if pointers + 2 * cell_count > usable_bytes:
        raise ImageError(f"SQLite page {number} has no room for the {cell_count} cells it states")
    cells = np.frombuffer(content, ">u2", cell_count, pointers).astype(np.intp)
    if cell_count and int(cells.max()) > usable_bytes - CELL_BYTES_MIN[kind]:
        raise ImageError(
            f"a cell of SQLite page {number} begins at {cells.max()}, too near its end"
        )
    children = NO_NUMBERS
    if is_interior:
        octets = np.frombuffer(content, np.uint8)
        left = octets[cells[:, None] + _FOUR].view(">u4").ravel()
        children = np.append(left, _u32(content, start + 8)).astype(np.intp)
    heads: list[int] = []
    if kind != INTERIOR_TABLE and cell_count:
        cells += 4 if is_interior else 0
        heads = _overflow_heads(content, cells, is_table=kind == LEAF_TABLE, usable=usable_bytes)
    return Node(is_interior=is_interior, children=children, overflow_heads=heads)


def next_overflow(content: bytes) -> int:
    """Return the number of the SQLite page that follows in an overflow chain, or 0."""
    return _u32(content, 0)


def kind_of_node(content: bytes, *, number: int) -> int:
    """Return the kind of a node.

    Raises:
        ImageError: This is no node.
    """
    kind = content[HEADER_BYTES if number == SCHEMA_ROOT else 0]
    if kind not in CELL_BYTES_MIN:
        raise ImageError(f"SQLite page {number} has kind {kind}, which no node of a B-tree has")
    return kind


def payloads_of(content: bytes, *, number: int, usable: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield of each cell of a table's leaf what is kept here, all its bytes, and the overflow.

    Args:
        content: The whole SQLite page.
        number: Its number.
        usable: Bytes of a SQLite page without the reserved ones.

    Raises:
        ImageError: A cell lies outside of the SQLite page.
    """
    start = HEADER_BYTES if number == SCHEMA_ROOT else 0
    _, cell_count = _NODE_FIELDS.unpack_from(content, start)
    if start + 8 + 2 * cell_count > usable:
        raise ImageError(f"SQLite page {number} has no room for the {cell_count} cells it states")
    for (cell,) in struct.iter_unpack(">H", content[start + 8 : start + 8 + 2 * cell_count]):
        size, at = varint_at(content, cell)
        _rowid, at = varint_at(content, at)
        local, overflow = size, 0
        if size > usable - 35:
            local = local_bytes(size, usable=usable, local_max=usable - 35)
            if at + local + 4 > usable:
                raise ImageError(f"a payload of {size} bytes reaches past its SQLite page")
            overflow = _u32(content, at + local)
        if at + local > usable:
            raise ImageError(f"a payload of {size} bytes reaches past its SQLite page")
        yield content[at : at + local], size, overflow


def local_bytes(payload: int, *, usable: int, local_max: int) -> int:
    """Return how many bytes of a payload that overflows are kept in its cell."""
    local_min = (usable - 12) * 32 // 255 - 23
    local = local_min + (payload - local_min) % (usable - 4)
    return local if local <= local_max else local_min


def lock_byte_number(sqlite_page_bytes: int) -> int:
    """Return the number of the SQLite page that SQLite never uses, because locks lie there.

    Examples:
        >>> lock_byte_number(4096)
        262145
    """
    return LOCK_BYTE_OFFSET // sqlite_page_bytes + 1


def pointer_map_numbers(
    *, sqlite_page_bytes: int, usable_bytes: int, first: int, last: int
) -> Numbers:
    """Return which SQLite pages are pointer maps in a database that has them.

    Args:
        sqlite_page_bytes: 512 to 65 536.
        usable_bytes: The same without reserved bytes.
        first: Lowest number of interest, 1 or more.
        last: Highest number of interest; below ``first`` for none.

    Returns:
        The numbers from ``first`` to ``last``, ascending.

    Examples:
        >>> pointer_map_numbers(sqlite_page_bytes=512, usable_bytes=512, first=1, last=300)
        array([  2, 105, 208])
    """
    # One map describes as many SQLite pages as it has room for entries, and they follow it.
    stride = usable_bytes // POINTER_MAP_ENTRY_BYTES + 1
    lowest = max(0, (first - 2) // stride)
    numbers = np.arange(2 + lowest * stride, last + 1, stride, dtype=np.intp)
    numbers[numbers == lock_byte_number(sqlite_page_bytes)] += 1
    return numbers[(numbers >= first) & (numbers <= last)]


def require_inside(numbers: Numbers, sqlite_page_count: int) -> None:
    """Raise unless something may refer to all of these: they are in the file, and not its first.

    Raises:
        ImageError: At least one is not from 2 to ``sqlite_page_count``.
    """
    if len(numbers) and (int(numbers.min()) < 2 or int(numbers.max()) > sqlite_page_count):
        raise ImageError(
            f"SQLite pages {numbers.min()} to {numbers.max()} are referred to, "
            f"but the file has {sqlite_page_count}"
        )


def _overflow_heads(content: bytes, cells: Numbers, *, is_table: bool, usable: int) -> list[int]:
    """Return the heads of the overflow chains of cells that begin, at ``cells``, with P."""
    octets = np.frombuffer(content, np.uint8)
    suspects = suspect_cells(octets, cells, is_table=is_table, usable=usable)
    heads = (
        overflow_head(content, at, is_table=is_table, usable=usable) for at in suspects.tolist()
    )
    return [head for head in heads if head]


def suspect_cells(
    octets: npt.NDArray[np.uint8], cells: Numbers, *, is_table: bool, usable: int
) -> Numbers:
    """Return those of the cells that may overflow: long payloads, and long varints.

    Args:
        octets: What the cells lie in.
        cells: Where they begin, with P; at least one.
        is_table: Whether they are those of a table's leaf.
        usable: Bytes of a SQLite page without the reserved ones.
    """
    local_max = _local_max(is_table=is_table, usable=usable)
    first = octets[cells]
    if local_max >= _VARINT_MORE - 1 and int(first.max()) < _VARINT_MORE:
        return NO_NUMBERS
    second = octets[cells + 1]
    two_bytes = (first & 0x7F).astype(np.int32) << 7 | second & 0x7F
    payload = np.where(first < _VARINT_MORE, first, two_bytes)
    # Varints of three bytes and more are rare on one SQLite page, so they are looked at singly.
    return cells[(payload > local_max) | (first & second >= _VARINT_MORE)]


def overflow_head(content: bytes, at: int, *, is_table: bool, usable: int) -> int:
    """Return the head of one cell's overflow chain, or 0 where the payload is all local.

    Raises:
        ImageError: The cell reaches past the end of its SQLite page, or states no overflow.
    """
    local_max = _local_max(is_table=is_table, usable=usable)
    payload, at = varint_at(content, at)
    if payload <= local_max:
        return 0
    if is_table:
        _rowid, at = varint_at(content, at)
    at += local_bytes(payload, usable=usable, local_max=local_max)
    if at + 4 > usable:
        raise ImageError(f"a payload of {payload} bytes reaches past the end of its SQLite page")
    head = _u32(content, at)
    if head == 0:
        raise ImageError(f"a payload of {payload} bytes has no overflow")
    return head


def _local_max(*, is_table: bool, usable: int) -> int:
    return usable - 35 if is_table else (usable - 12) * 64 // 255 - 23


def varint_at(content: bytes, at: int) -> tuple[int, int]:
    """Return the varint at ``at``, and the offset behind it.

    Raises:
        ImageError: It reaches past the end.
    """
    value = 0
    for octet in content[at : at + 8]:
        at += 1
        value = value << 7 | octet & 0x7F
        if octet < _VARINT_MORE:
            return value, at
    if at >= len(content):
        raise ImageError("a cell reaches past the end of its SQLite page")
    # The ninth byte counts with all of its bits.
    return value << 8 | content[at], at + 1


def _u32(content: bytes, at: int) -> int:
    number: int = _U32.unpack_from(content, at)[0]
    return number
