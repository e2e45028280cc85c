"""What a memory holds, told by its first bytes: a description, never a guess.

A *memory* here is a whole stable memory or one virtual memory of a manager. Integers of
ic-stable-structures are little-endian, those of SQLite big-endian.

Source: dfinity/stable-structures b5d1650 (magics and lengths), wasm-forge/stable-fs v0.12
(``FSA1``, ``FSJ1``), dumblepy/nim-ic-sqlite 2026-09 (``NIMSQLV1``), Motoko's ``region.rs``, moc
2026-01 (``MOREGION``).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from sqlstable.errors import ImageError
from sqlstable.ic.units import WASM_PAGE_BYTES, amount
from sqlstable.layout import superblock
from sqlstable.layout.directory import MAGIC as DIRECTORY_MAGIC
from sqlstable.layout.directory import decode as decode_directory
from sqlstable.memory.image.commitlog import LOG_MAGIC
from sqlstable.memory.signatures import MANAGER_MAGIC, SUPERBLOCK_MAGIC
from sqlstable.sqlite.header import (
    HEADER_BYTES,
    JOURNAL_MAGIC,
    SQLITE_MAGIC,
    Header,
    parse_header,
)

LOOKED_AT_BYTES: Final = WASM_PAGE_BYTES
"""How much of a memory's beginning is needed; fewer bytes do where there are not so many."""

DATABASE: Final = "database"

_SHOWN_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class Contents:
    """What one memory holds."""

    kind: str
    """database, superblock, file directory, journal, structure, file system, regions, nothing or
    unknown."""
    text: str
    "The same in words, with numbers."
    base: int = 0
    "Where its database begins."
    database_bytes: int | None = None
    "How long its database is; None where it has none that can be read."
    header: Header | None = None
    "Of its database, where that begins in the same Wasm page."


def contents_of(data: bytes, size_bytes: int) -> Contents:
    """Return what a memory holds.

    Args:
        data: Its first `LOOKED_AT_BYTES`.
        size_bytes: Its size.

    Examples:
        >>> contents_of(b"SVC" + bytes([1]) + (7).to_bytes(8, "little"), 65_536).text
        'a Vec of ic-stable-structures (SVC, version 1) of 7 entries'
        >>> contents_of(b"hello, world", 65_536).text
        'something unknown: it begins with 68 65 6c 6c 6f 2c 20 77 6f 72 6c 64 "hello, world"'
    """
    if size_bytes == 0:
        return Contents("nothing", "nothing: it has no bytes")
    for magic, describe in _READERS:
        if data.startswith(magic):
            return describe(data, size_bytes)
    if data[8:24] == SQLITE_MAGIC:
        return _behind_length(data, size_bytes)
    if not any(data):
        return Contents("nothing", f"zeros in its first {len(data)} bytes")
    zeros = len(data) - len(data.lstrip(b"\0"))
    if zeros >= _SHOWN_BYTES:
        words = f"something unknown: {zeros} bytes of zeros, then {shown(data[zeros:])}"
        return Contents("unknown", words)
    return Contents("unknown", f"something unknown: it begins with {shown(data)}")


def database_contents(data: bytes, room_bytes: int, *, base: int = 0, what: str = "") -> Contents:
    """Return what is said of a database.

    Args:
        data: Its first bytes, the header at least.
        room_bytes: Bytes that it can have at most.
        base: Where it begins in its memory.
        what: How what is around it is named.
    """
    what = what or "a SQLite database"
    try:
        header = parse_header(data)
    except ImageError as error:
        return Contents(DATABASE, f"{what}, damaged: {error}", base)
    if header is None:
        return Contents(DATABASE, f"{what}, cut off in its header", base)
    size_bytes = header.size_bytes or room_bytes
    pages = size_bytes // header.page_size
    text = f"{what} of {pages} SQLite pages of {header.page_size} bytes, {header.free_count} free"
    if not header.size_bytes:
        text += "; its header leaves its size open, so it may have fewer"
    if header.is_wal:
        text += "; in WAL mode, which no canister has"
    if size_bytes > room_bytes:
        return Contents(
            DATABASE,
            f"{text}: {size_bytes} bytes, and only {room_bytes} are there: truncated",
            base,
            header=header,
        )
    return Contents(DATABASE, text, base, size_bytes, header)


def _plain(data: bytes, size_bytes: int) -> Contents:
    return database_contents(data[:HEADER_BYTES], size_bytes)


def _behind_length(data: bytes, size_bytes: int) -> Contents:
    length = int.from_bytes(data[:8], "big")
    what = f"a SQLite database behind its length of {length} bytes, as froghub's ic-sqlite has it,"
    return database_contents(
        data[8 : 8 + HEADER_BYTES], min(length, size_bytes - 8), base=8, what=what
    )


def _superblock(data: bytes, size_bytes: int) -> Contents:
    try:
        block = superblock.decode(data, memory_bytes=size_bytes)
    except ImageError as error:
        return Contents("superblock", str(error))
    words = [f"{amount(block.transactions, 'transaction')} committed"]
    if block.masks:
        words.append(f"{sum(stop - start for start, stop in block.masks)} SQLite pages masked")
    if block.is_importing:
        words.append("an import under way")
    return Contents(
        "superblock",
        f"a superblock of ic-sqlite-vfs (version {superblock.VERSION}; {', '.join(words)}) and "
        f"from byte {block.base} on a database of {block.database_bytes} bytes",
        block.base,
        block.database_bytes or None,
    )


def _directory(data: bytes, size_bytes: int) -> Contents:
    try:
        entries = decode_directory(data)
    except ImageError as error:
        return Contents("file directory", str(error))
    names = ", ".join(f"{entry.name} in {entry.memory_id}" for entry in entries.values())
    return Contents("file directory", f"sqlstable's directory of files: {names}")


def _structure(name: str, counted_at: slice, noun: str) -> "_Reader":
    def describe(data: bytes, size_bytes: int) -> Contents:
        number = int.from_bytes(data[counted_at], "little")
        magic = data[:3].decode()
        text = f"{name} of ic-stable-structures ({magic}, version {data[3]}) of {number} {noun}"
        return Contents("structure", text)

    return describe


def _said(kind: str, text: str) -> "_Reader":
    def describe(data: bytes, size_bytes: int) -> Contents:
        return Contents(kind, text)

    return describe


def _regions(data: bytes, size_bytes: int) -> Contents:
    version, blocks = int.from_bytes(data[8:12], "little"), int.from_bytes(data[22:26], "little")
    return Contents(
        "regions",
        f"the regions of a Motoko canister (MOREGION, version {version}): {blocks} blocks of "
        f"{int.from_bytes(data[12:14], 'little')} Wasm pages",
    )


def _nim(data: bytes, size_bytes: int) -> Contents:
    version = int.from_bytes(data[8:12], "little")
    return Contents(
        "superblock",
        f"a superblock of nim-ic-sqlite (NIMSQLV1, version {version}), "
        "which is not read here; export the database with the canister's own version",
    )


def shown(data: bytes) -> str:
    """Return the beginning of bytes for a person to read."""
    start = data[:_SHOWN_BYTES]
    printable = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in start)
    return f'{start.hex(" ")} "{printable}"'


_Reader = Callable[[bytes, int], Contents]

_READERS: Final[tuple[tuple[bytes, _Reader], ...]] = (
    (SQLITE_MAGIC, _plain),
    (SUPERBLOCK_MAGIC, _superblock),
    (DIRECTORY_MAGIC, _directory),
    (LOG_MAGIC, _said("log", "the log of an image; look at the image that it lies beside")),
    (JOURNAL_MAGIC, _said("journal", "a rollback journal of SQLite")),
    (b"NIMSQLV1", _nim),
    (b"MOREGION", _regions),
    (b"BTR", _structure("a BTreeMap", slice(20, 28), "entries")),
    (b"SCL", _structure("a Cell", slice(4, 8), "bytes")),
    (b"SVC", _structure("a Vec", slice(4, 12), "entries")),
    (b"SMH", _structure("a MinHeap", slice(4, 12), "entries")),
    (b"GLI", _structure("the index of a Log", slice(32, 40), "entries")),
    (b"GLD", _said("structure", "the data of a Log of ic-stable-structures (GLD)")),
    (b"FSA1", _said("file system", "stable-fs: where the chunks of its files are (FSA1)")),
    (b"ALO1", _said("file system", "stable-fs: where the chunks of its files are (ALO1, old)")),
    (b"FSJ1", _said("file system", "stable-fs: its old journal (FSJ1)")),
    (
        MANAGER_MAGIC,
        _said("unknown", "another memory manager of ic-stable-structures inside this one"),
    ),
)
