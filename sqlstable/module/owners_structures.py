"""What one memory of a foreign module holds, and whose each part of it is.

A structure cuts its memory into *units*, so that the unit of an offset is a matter of arithmetic,
and says of a unit whose it is by looking at a few bytes of it. Only units that a message has
touched are ever looked at.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from sqlstable.errors import ImageError
from sqlstable.ic.units import MIB
from sqlstable.layout import superblock
from sqlstable.layout.contents import contents_of
from sqlstable.layout.stable_btree import (
    ALLOCATOR_UNIT,
    CHUNK_HEAD_BYTES,
    FIRST_CHUNK_OFFSET,
    HEADER_UNIT,
    Offset,
    StableBTree,
    role_of_chunk,
)
from sqlstable.memory.signatures import MANAGER_MAGIC, SUPERBLOCK_MAGIC
from sqlstable.module.owners_database import ModuleDatabase
from sqlstable.module.owners_geography import MANAGER_PLACE, NOBODY, WHOLE_PLACE
from sqlstable.sqlite.header import HEADER_BYTES, SQLITE_MAGIC, parse_header
from sqlstable.trace.model import Owner
from sqlstable.trace.ownership.file_owners import MANAGER

HEAD_BYTES: Final = 4096
"""Bytes of a memory that say what it holds; a superblock has more."""

FRONT: Final = frozenset((0,))
"""The unit in front of a database's SQLite pages, which are counted from 1."""

Read = Callable[[int, int], bytes]
"""Gives bytes of a memory by offset and length, fewer where it ends."""


@dataclass(frozen=True, slots=True)
class Plain:
    """A memory of which a header is told from all else, or that is one whole."""

    header: Owner
    data: Owner
    header_bytes: int = 0

    def unit_of(self, offset: Offset) -> Offset:
        """Return 0 for the header, 1 for what follows."""
        return (offset >= self.header_bytes) * 1

    def span_of(self, unit: int) -> tuple[int, int | None]:
        """Return where a unit begins and ends; None where the memory does."""
        return (self.header_bytes, None) if unit else (0, self.header_bytes)

    def owners_of(self, units: Iterable[int]) -> Mapping[int, Owner]:
        """Return whose units are."""
        return {unit: self.data if unit else self.header for unit in units}


@dataclass(frozen=True, slots=True)
class Ranges:
    """A memory of which nothing is known: whose a range of it is, its addresses say."""

    def unit_of(self, offset: Offset) -> Offset:
        """Return the number of the range."""
        return offset // MIB

    def span_of(self, unit: int) -> tuple[int, int]:
        """Return where a range begins and ends."""
        return unit * MIB, (unit + 1) * MIB

    def owners_of(self, units: Iterable[int]) -> Mapping[int, Owner]:
        """Return their names.

        Examples:
            >>> Ranges().owners_of([1])[1].name
            '1-2 MiB'
        """
        names = {unit: f"{unit}-{unit + 1} MiB" for unit in units}
        return {unit: Owner(name, name, "range", "") for unit, name in names.items()}


@dataclass(frozen=True, slots=True)
class NodeTree:
    """A stable B-tree, whose chunks are nodes."""

    name: str
    tree: StableBTree
    read: Read

    def unit_of(self, offset: Offset) -> Offset:
        """Return the header, the allocator's header, or a chunk."""
        return self.tree.unit_of(offset)

    def span_of(self, unit: int) -> tuple[int, int]:
        """Return where a unit begins and ends."""
        return self.tree.span_of(unit)

    def owners_of(self, units: Iterable[int]) -> Mapping[int, Owner]:
        """Return what the units are now."""
        roles = {HEADER_UNIT: "header", ALLOCATOR_UNIT: "allocator header"}
        return {
            unit: Owner(
                self.name, self.name, "stable B-tree", roles.get(unit) or self._chunk_role(unit)
            )
            for unit in units
        }

    def _chunk_role(self, unit: int) -> str:
        return role_of_chunk(self.read(self.span_of(unit)[0], CHUNK_HEAD_BYTES))


@dataclass(frozen=True, slots=True)
class DatabasePages:
    """A SQLite database, whose units are its SQLite pages, behind what is in front of it."""

    name: str
    database: ModuleDatabase
    front_kind: str = ""
    "What is in front: length record or superblock."
    suffix: str = field(default="")
    "Behind the names of its tables, where another database comes before it."

    def is_like(self, other: "DatabasePages") -> bool:
        """Whether another one's SQLite pages lie where these do."""
        return (self.database.base, self.database.page_size) == (
            other.database.base,
            other.database.page_size,
        )

    def unit_of(self, offset: Offset) -> Offset:
        """Return the number of the SQLite page; 0 for what is in front."""
        base, size = self.database.base, self.database.page_size
        return (offset >= base) * ((offset - base) // size + 1)

    def span_of(self, unit: int) -> tuple[int, int]:
        """Return where a unit begins and ends."""
        base, size = self.database.base, self.database.page_size
        return (base + (unit - 1) * size, base + unit * size) if unit else (0, base)

    def owners_of(self, units: Iterable[int]) -> Mapping[int, Owner]:
        """Return whose the SQLite pages are."""
        front = Owner(f"({self.front_kind})", f"({self.front_kind})", self.front_kind, "")
        return {
            unit: self._named(self.database.owner_of(unit)) if unit else front for unit in units
        }

    def _named(self, owner: Owner) -> Owner:
        if not self.suffix:
            return owner
        return Owner(owner.name + self.suffix, owner.table + self.suffix, owner.kind, owner.role)


Structure = Plain | Ranges | NodeTree | DatabasePages

_HEADED: Final[Mapping[bytes, tuple[str, int]]] = {
    b"SVC": ("stable vec", 64),
    b"SMH": ("stable min-heap", 64),
    b"SCL": ("stable cell", 8),
    b"GLI": ("stable log index", 40),
    b"GLD": ("stable log data", 32),
}
"""Structures of one header by their magic, with its bytes.

Source: dfinity/stable-structures src/vec.rs, min_heap.rs, cell.rs, log.rs, b5d1650, 2026-05-12."""


def name_of_place(place: int) -> str:
    """Return what a memory is called.

    Examples:
        >>> name_of_place(3), name_of_place(WHOLE_PLACE)
        ('memory 3', 'stable memory')
    """
    return "stable memory" if place == WHOLE_PLACE else f"memory {place}"


def structure_of(
    place: int, read: Read, make_database: Callable[[int, int], ModuleDatabase], *, base: int
) -> Structure:
    """Return what a memory holds, as its first bytes say.

    Args:
        place: Its number.
        read: Gives its bytes.
        make_database: Makes what owns a database at an offset, with SQLite pages of a size.
        base: Where the memory manager begins.
    """
    if place == MANAGER_PLACE:
        return Plain(MANAGER, MANAGER)
    if place == NOBODY:
        front = Owner("(before the manager)", "(before the manager)", "other memory", "")
        return Plain(front, Owner("(nobody's)", "(nobody's)", "unclaimed", ""), base)
    name, head = name_of_place(place), read(0, HEAD_BYTES)
    found = _database_in(name, head, read, make_database)
    if found is not None:
        return found
    tree = StableBTree.decode(head[:FIRST_CHUNK_OFFSET])
    if tree is not None:
        return NodeTree(name, tree, read)
    return _headed(name, head) or (Ranges() if place == WHOLE_PLACE else _other(name, head))


def _headed(name: str, head: bytes) -> Plain | None:
    found = _HEADED.get(head[:3])
    if found is None or head[3:4] != b"\x01":
        return None
    kind, header_bytes = found
    return Plain(Owner(name, name, kind, "header"), Owner(name, name, kind, "data"), header_bytes)


def _other(name: str, head: bytes) -> Plain:
    kind = contents_of(head, len(head)).kind
    if kind in ("unknown", "nothing", "structure", "database") or head.startswith(MANAGER_MAGIC):
        owner = Owner(f"({name})", f"({name})", "other memory", "")
    else:
        owner = Owner(name, name, kind, "")
    return Plain(owner, owner)


def _database_in(
    name: str, head: bytes, read: Read, make_database: Callable[[int, int], ModuleDatabase]
) -> DatabasePages | None:
    """Return the database that a memory holds: at its beginning, or behind what is known."""
    for base, kind in _places_of_database(head, read):
        first = read(base, HEADER_BYTES)
        if first.startswith(SQLITE_MAGIC):
            try:
                header = parse_header(first)
            except ImageError:
                return None
            if header is not None:
                return DatabasePages(name, make_database(base, header.page_size), kind)
    return None


def _places_of_database(head: bytes, read: Read) -> Iterable[tuple[int, str]]:
    yield 0, ""
    if head[8 : 8 + len(SQLITE_MAGIC)] == SQLITE_MAGIC:
        yield 8, "length record"
    if head.startswith(SUPERBLOCK_MAGIC):
        data = read(0, superblock.ENCODED_BYTES_MAX)
        try:
            yield superblock.decode(data, memory_bytes=1 << 62).base, "superblock"
        except ImageError:
            return
