"""The first 100 bytes of a database file, as far as its size and kind follow from them.

Offsets and meanings are those of SQLite's file format (sqlite.org/fileformat.html, section 1.3).
"""

from dataclasses import dataclass
from typing import Final

from sqlstable.errors import ImageError

MAGIC: Final = b"SQLite format 3\x00"
HEADER_BYTES: Final = 100

CHANGE_COUNTER_OFFSET: Final = 24
CHANGE_COUNTER_BYTES: Final = 16
"""SQLite compares the 16 bytes from 24 on to learn whether its cache is still true."""

SCHEMA_COOKIE: Final = slice(40, 44)
"""SQLite compares this number to learn whether its parsed schema is still true."""

VERSIONS_OFFSET: Final = 18
WAL_VERSION: Final = 2
ROLLBACK_VERSIONS: Final = b"\x01\x01"
"""The two bytes from 18 on are 2 in WAL mode, and 1 otherwise."""

_CHANGE_COUNTER: Final = slice(24, 28)
_PAGE_COUNT: Final = slice(28, 32)
_VERSION_VALID_FOR: Final = slice(92, 96)


@dataclass(frozen=True, slots=True)
class Header:
    """What the header says of the file."""

    page_size: int
    "Bytes of a SQLite page."
    sqlite_page_count: int
    "SQLite pages in the file, or 0 where the header does not know (written by old versions)."
    is_wal: bool
    "Whether the file is in WAL mode, which needs files beside it."

    @property
    def size_bytes(self) -> int:
        """Bytes of the file, or 0 where the header does not know."""
        return self.page_size * self.sqlite_page_count


def parse_header(data: bytes) -> Header | None:
    """Return the header, or None where ``data`` does not begin with SQLite's magic.

    Args:
        data: The file's first 100 bytes.

    Raises:
        ImageError: The magic is there, but the header contradicts itself.
    """
    if data[:16] != MAGIC or len(data) < HEADER_BYTES:
        return None
    stored = int.from_bytes(data[16:18], "big")
    page_size = 65_536 if stored == 1 else stored
    if page_size & (page_size - 1) or not 512 <= page_size <= 65_536:
        raise ImageError(
            f"the database header states SQLite pages of {page_size} bytes; it is damaged"
        )
    if data[21:24] != b"\x40\x20\x20":
        raise ImageError(
            f"the database header's payload fractions are {data[21:24].hex()}; it is damaged"
        )
    # Writers before SQLite 3.7.0 left the count alone; it is true only if both counters agree.
    is_known = data[_CHANGE_COUNTER] == data[_VERSION_VALID_FOR]
    known = int.from_bytes(data[_PAGE_COUNT], "big") if is_known else 0
    return Header(page_size=page_size, sqlite_page_count=known, is_wal=WAL_VERSION in data[18:20])


def file_size_bytes(first_bytes: bytes, allocated_bytes: int) -> int:
    """Return how long the database file is that lies in ``allocated_bytes`` bytes of memory.

    Memory is allocated in Wasm pages and never shrinks, so the header decides. A first
    transaction that was rolled back leaves a header of zeros behind: that file is empty.

    Args:
        first_bytes: The first bytes of the memory, at least 100 where there are so many.
        allocated_bytes: Bytes allocated to the file.

    Raises:
        ImageError: The bytes are not a database, are cut off, or in WAL mode.
    """
    if allocated_bytes == 0 or not any(first_bytes[:HEADER_BYTES]):
        return 0
    header = parse_header(first_bytes)
    if header is None:
        raise ImageError(_foreign(first_bytes))
    if header.is_wal:
        raise ImageError(
            "the database is in WAL mode, and no canister has a write-ahead log. If this is a "
            "database file, import it: sqlstable import APP.db IMAGE; if it is an image, the early "
            "sqlstable that made it takes it out of that mode: PRAGMA journal_mode = delete"
        )
    if header.size_bytes > allocated_bytes:
        raise ImageError(
            f"the database says it has {header.sqlite_page_count} SQLite pages of "
            f"{header.page_size} bytes, {header.size_bytes} in all, but only {allocated_bytes} "
            "bytes are there; the image is truncated"
        )
    return header.size_bytes or allocated_bytes


def states_size(first_bytes: bytes) -> bool:
    """Return whether a header says how long its database is; old writers left the number alone."""
    header = parse_header(first_bytes)
    return header is not None and header.sqlite_page_count > 0


def with_size(first_bytes: bytes, size_bytes: int) -> bytes:
    """Return the beginning of a database with its size in the header, as SQLite writes it.

    Args:
        first_bytes: At least the header.
        size_bytes: Exact size of the database.
    """
    header = parse_header(first_bytes)
    assert header is not None
    if header.sqlite_page_count:
        return first_bytes
    changed = bytearray(first_bytes)
    changed[_PAGE_COUNT] = (size_bytes // header.page_size).to_bytes(4, "big")
    changed[_VERSION_VALID_FOR] = changed[_CHANGE_COUNTER]
    return bytes(changed)


def stand_alone(first_bytes: bytes, size_bytes: int) -> bytes:
    """Return the beginning of a database that needs no file beside it, and states its size.

    Args:
        first_bytes: At least the header; the log of a database in WAL mode is taken in already.
        size_bytes: Exact size of the database.
    """
    changed = bytearray(with_size(first_bytes, size_bytes))
    changed[VERSIONS_OFFSET : VERSIONS_OFFSET + len(ROLLBACK_VERSIONS)] = ROLLBACK_VERSIONS
    return bytes(changed)


def empty_database(page_size: int) -> bytes:
    """Return a database without a table, of one SQLite page.

    Examples:
        >>> parse_header(empty_database(512)).size_bytes
        512
    """
    data = bytearray(page_size)
    data[: len(MAGIC)] = MAGIC
    # 65 536 does not fit into two bytes and is written as 1.
    data[16:18] = (page_size if page_size < 1 << 16 else 1).to_bytes(2, "big")
    data[18:24] = b"\x01\x01\x00\x40\x20\x20"
    data[28:32] = (1).to_bytes(4, "big")
    # An empty leaf of the schema's table, whose cells would begin at the end.
    data[100] = 13
    data[105:107] = (page_size % (1 << 16)).to_bytes(2, "big")
    return bytes(data)


def _foreign(first_bytes: bytes) -> str:
    start = first_bytes[:16]
    if start[8:] == MAGIC[:8]:
        return (
            "a SQLite database begins at byte 8, behind a length: that is the layout of "
            "froghub's ic-sqlite, which is not read yet; copy the bytes from 8 on and import them"
        )
    if start[:3] == b"MGR":
        return "the bytes begin with a memory manager's header; open them with layout managed"
    if start[:8] == b"ICSQLITE":
        return "the bytes begin with ic-sqlite-vfs's superblock, a layout that is not read yet"
    return (
        f"no SQLite database is there: the bytes begin with {start!r}, and a database with "
        f"{MAGIC!r}; choose the layout and memory that hold it"
    )
