"""The first 100 bytes of a database file: its size and kind, and where its freelist begins.

Offsets and meanings are those of sqlite.org/fileformat.html, section 1.3; numbers are big-endian::

    0   magic, 16 bytes          32  first freelist trunk
    16  bytes of a SQLite page   36  SQLite pages on the freelist
    18  write and read version   40  schema cookie
    20  reserved bytes at the    52  largest root; not 0: there are pointer maps
        end of each SQLite page  56  text encoding: 1 UTF-8, 2 and 3 UTF-16
    21  payload fractions, 3     92  change counter for which 28 is valid
    24  change counter
    28  SQLite pages in the file
"""

import struct
from dataclasses import dataclass
from typing import Final

from sqlstable.errors import ImageError

SQLITE_MAGIC: Final = b"SQLite format 3\x00"
JOURNAL_MAGIC: Final = bytes.fromhex("d9d505f920a163d7")
"""What a rollback journal begins with; sqlite.org/fileformat.html, section 3."""

HEADER_BYTES: Final = 100
SQLITE_PAGE_BYTES_MIN: Final = 512
SQLITE_PAGE_BYTES_MAX: Final = 65_536
USABLE_BYTES_MIN: Final = 480
"""SQLite refuses databases that reserve more of a SQLite page than leaves so many bytes."""

PAGE_SIZE: Final = slice(16, 18)

CHANGE_COUNTER_OFFSET: Final = 24
CHANGE_COUNTER_BYTES: Final = 16
"""SQLite compares the 16 bytes from 24 on to learn whether its cache is still true."""

SCHEMA_COOKIE: Final = slice(40, 44)
"""SQLite compares this number to learn whether its parsed schema is still true."""

VERSIONS_OFFSET: Final = 18
WAL_VERSION: Final = 2
ROLLBACK_VERSIONS: Final = b"\x01\x01"
"""The two bytes from 18 on are 2 in WAL mode, and 1 otherwise."""

_PAYLOAD_FRACTIONS: Final = b"\x40\x20\x20"
_FIELDS: Final = struct.Struct(">16xH2sB3s4I12xII32xI4x")
assert _FIELDS.size == HEADER_BYTES
_CHANGE_COUNTER: Final = slice(24, 28)
_PAGE_COUNT: Final = slice(28, 32)
_VERSION_VALID_FOR: Final = slice(92, 96)


@dataclass(frozen=True, slots=True)
class Header:
    """What the header says of the file."""

    page_size: int
    "Bytes of a SQLite page: 512 to 65 536, a power of two."
    usable_bytes: int
    "The same without the reserved ones at its end; 480 or more."
    sqlite_page_count: int
    "SQLite pages in the file, or 0 where the header does not know (written by old versions)."
    is_wal: bool
    "Whether the file is in WAL mode, which needs files beside it."
    first_trunk: int
    "Number of the first freelist trunk, or 0."
    free_count: int
    "SQLite pages on the freelist, trunks and leaves."
    has_pointer_maps: bool
    "Whether the database is one with auto_vacuum, full or incremental."
    text_encoding: int
    "1 for UTF-8 (or 0 where nothing was created yet), 2 and 3 for UTF-16, little and big-endian."

    @property
    def size_bytes(self) -> int:
        """Bytes of the file, or 0 where the header does not know."""
        return self.page_size * self.sqlite_page_count


def stated_page_size(stored: bytes) -> int:
    r"""Return the page size that the two bytes `PAGE_SIZE` of a header state, right or wrong.

    Examples:
        >>> stated_page_size(b"\x10\x00"), stated_page_size(b"\x00\x01")
        (4096, 65536)
    """
    # 65 536 does not fit into two bytes and is written as 1.
    return int.from_bytes(stored, "big") if stored != b"\x00\x01" else SQLITE_PAGE_BYTES_MAX


def parse_header(data: bytes) -> Header | None:
    """Return the header, or None where ``data`` does not begin with SQLite's magic.

    Args:
        data: The file's first 100 bytes.

    Raises:
        ImageError: The magic is there, but the header contradicts itself.
    """
    if data[:16] != SQLITE_MAGIC or len(data) < HEADER_BYTES:
        return None
    _, versions, reserved, fractions, change, count, trunk, free, largest_root, encoding, valid = (
        _FIELDS.unpack_from(data)
    )
    page_size = stated_page_size(data[PAGE_SIZE])
    usable = page_size - reserved
    if page_size & (page_size - 1) or page_size < SQLITE_PAGE_BYTES_MIN:
        raise ImageError(
            f"the database header states SQLite pages of {page_size} bytes; it is damaged"
        )
    if usable < USABLE_BYTES_MIN:
        raise ImageError(
            f"the database header states SQLite pages of {page_size} bytes, {usable} of them "
            "usable; it is damaged"
        )
    if fractions != _PAYLOAD_FRACTIONS:
        raise ImageError(
            f"the database header's payload fractions are {fractions.hex()}; it is damaged"
        )
    return Header(
        page_size=page_size,
        usable_bytes=usable,
        # Writers before SQLite 3.7.0 left the count alone; it holds only if both counters agree.
        sqlite_page_count=count if change == valid else 0,
        is_wal=WAL_VERSION in versions,
        first_trunk=trunk,
        free_count=free,
        has_pointer_maps=largest_root != 0,
        text_encoding=encoding,
    )


def require_header(data: bytes) -> Header:
    """Return the header of what has to be a database.

    Raises:
        ImageError: The bytes are no header, or contradict themselves.
    """
    header = parse_header(data)
    if header is None:
        raise ImageError(f"no database header: the bytes begin with {data[:16]!r}")
    return header


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
    data[: len(SQLITE_MAGIC)] = SQLITE_MAGIC
    data[PAGE_SIZE] = (page_size if page_size < SQLITE_PAGE_BYTES_MAX else 1).to_bytes(2, "big")
    data[18:24] = ROLLBACK_VERSIONS + b"\x00" + _PAYLOAD_FRACTIONS
    data[_PAGE_COUNT] = (1).to_bytes(4, "big")
    # An empty leaf of the schema's table, whose cells would begin at the end.
    data[100] = 13
    data[105:107] = (page_size % (1 << 16)).to_bytes(2, "big")
    return bytes(data)
