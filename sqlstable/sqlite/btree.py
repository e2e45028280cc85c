"""SQLite's file format as far as it says who refers to whom, read from bytes.

Offsets and meanings are those of sqlite.org/fileformat.html, sections 1.3 to 1.8. All numbers
are big-endian, SQLite pages are counted from 1, and 0 stands for "none".

Header, the first 100 bytes of SQLite page 1::

    0   magic, 16 bytes          28  SQLite pages in the file
    16  bytes of a SQLite page   32  first freelist trunk
    20  reserved bytes at the    36  SQLite pages on the freelist
        end of each SQLite page  52  largest root; not 0: there are pointer maps
    24  change counter           56  text encoding: 1 UTF-8, 2 and 3 UTF-16
                                 92  change counter for which 28 is valid

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

Overflow: the next one of the chain, 4 bytes, then payload. Trunk of the freelist: the next
trunk, the number of leaves, then the leaves, 4 bytes each.

**Invariants**

* What a function returns lies within the bytes that it was given: whatever points outside
  raises `ImageError`. Whether a number lies within the file is for the caller to check.

**Limitations**

* The lock-byte SQLite page is the one at 1 GiB, where every ordinary build of SQLite has it.
"""

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from sqlstable.errors import ImageError
from sqlstable.ic.units import GIB

SCHEMA_ROOT: Final = 1
"""Number of the root of the schema's own tree."""
MAGIC: Final = b"SQLite format 3\x00"
HEADER_BYTES: Final = 100
SQLITE_PAGE_BYTES_MIN: Final = 512
SQLITE_PAGE_BYTES_MAX: Final = 65_536
USABLE_BYTES_MIN: Final = 480
"""SQLite refuses databases that reserve more of a SQLite page than leaves so many bytes."""
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
class DatabaseHeader:
    """What the header says that decides who owns which SQLite page."""

    sqlite_page_bytes: int
    "512 to 65 536, a power of two."
    usable_bytes: int
    "Bytes of a SQLite page without the reserved ones at its end; 480 or more."
    sqlite_page_count: int
    "SQLite pages in the file, or 0 where the header does not know (written by old versions)."
    first_trunk: int
    "Number of the first freelist trunk, or 0."
    free_count: int
    "SQLite pages on the freelist, trunks and leaves."
    has_pointer_maps: bool
    "Whether the database is one with auto_vacuum, full or incremental."
    text_encoding: int
    "1 for UTF-8 (or 0 where nothing was created yet), 2 and 3 for UTF-16, little and big-endian."


@dataclass(frozen=True, slots=True)
class Node:
    """One SQLite page of a B-tree, as far as it refers to other SQLite pages."""

    is_interior: bool
    children: Numbers
    "Left children in the order of the cells, then the right-most one; empty for a leaf."
    overflow_heads: list[int]
    "First SQLite page of each cell's overflow chain, in the order of the cells."


def parse_database_header(content: bytes) -> DatabaseHeader:
    """Return what the header says.

    Args:
        content: SQLite page 1, or its first 100 bytes.

    Raises:
        ImageError: The bytes are no header, or contradict themselves.
    """
    if len(content) < HEADER_BYTES or content[:16] != MAGIC:
        raise ImageError(f"no database header: the bytes begin with {content[:16]!r}")
    (stored,) = struct.unpack_from(">H", content, 16)
    size = SQLITE_PAGE_BYTES_MAX if stored == 1 else stored
    usable = size - content[20]
    if size & (size - 1) or size < SQLITE_PAGE_BYTES_MIN or usable < USABLE_BYTES_MIN:
        raise ImageError(
            f"the database header states SQLite pages of {size} bytes, {usable} of them usable"
        )
    change, count, first_trunk, free_count = struct.unpack_from(">4I", content, 24)
    return DatabaseHeader(
        sqlite_page_bytes=size,
        usable_bytes=usable,
        # Writers before SQLite 3.7.0 left the count alone; it holds only if both counters agree.
        sqlite_page_count=count if change == _u32(content, 92) else 0,
        first_trunk=first_trunk,
        free_count=free_count,
        has_pointer_maps=_u32(content, 52) != 0,
        text_encoding=_u32(content, 56),
    )


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

    def differs(self, header: DatabaseHeader) -> bool:
        """Return whether the header speaks of another freelist."""
        first_trunk = self.trunks[-1] if self.trunks else 0
        return header.first_trunk != first_trunk or header.free_count != self.count

    def follow(
        self,
        header: DatabaseHeader,
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
        header: DatabaseHeader,
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


def _joined(parts: Sequence[Numbers | list[int]]) -> Numbers:
    return np.concatenate([NO_NUMBERS, *parts]).astype(np.intp, copy=False)


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
