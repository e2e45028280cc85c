"""What the module is told of the files beside the database when a heap begins.

The directory says which virtual memory holds which file (`sqlstable.layout.directory`), and the
first bytes of a journal whether it exists. To look there costs the native engine no access, so the
module does not look, either: the driver does, unrecorded, and hands the answers over behind the
settings. From then on the module follows by itself what it changes.
"""

import struct
from collections.abc import Iterable, Iterator
from typing import Final

from sqlstable.errors import ImageError
from sqlstable.ic.units import WASM_PAGE_BYTES
from sqlstable.layout.directory import (
    DATABASE_MEMORY_ID,
    DIRECTORY_BYTES,
    DIRECTORY_MEMORY_ID,
    KINDS,
    MAGIC,
    Entry,
    decode,
)
from sqlstable.layout.files import file_size_bytes
from sqlstable.layout.layout import Layout, Peek
from sqlstable.layout.managed import first_bytes
from sqlstable.memory.manager import Tables, read_tables
from sqlstable.sqlite.header import HEADER_BYTES, JOURNAL_MAGIC

_SIZES_OFFSET: Final = 40
"""Of the sizes of virtual memories in the header of a memory manager; see its module."""

_SIZE: Final = struct.Struct("<Q")
_RECORD: Final = struct.Struct("<BBBBQ")
"""Drawn in ``module/source/files.c``."""


def further_files(layout: Layout, peek: Peek) -> tuple[str | None, bytes]:
    """Return the main database's name in the directory, and what the module is told of the files.

    Args:
        layout: Of stable memory.
        peek: A look at it.

    Returns:
        None and nothing where there is no directory, as in nearly all images.

    Raises:
        ImageError: The directory is damaged, or of a newer version.
    """
    if not layout.traits.has_further_files or not peek.wasm_pages:
        return None, b""
    at = _SIZES_OFFSET + _SIZE.size * DIRECTORY_MEMORY_ID
    if not _SIZE.unpack(peek.read(at, _SIZE.size))[0]:
        return None, b""
    tables = read_tables(peek.read, peek.wasm_pages)
    data = first_bytes(peek, tables, DIRECTORY_MEMORY_ID, DIRECTORY_BYTES)
    if not data.startswith(MAGIC):
        words = repr(data[: 2 * len(MAGIC)])
        return None, _record(Entry(DIRECTORY_MEMORY_ID, "", words), exists=False, size_bytes=0)
    entries = decode(data)
    main = next(it.name for it in entries.values() if it.memory_id == DATABASE_MEMORY_ID)
    return main, b"".join(_records(peek, tables, entries.values()))


def _records(peek: Peek, tables: Tables, entries: Iterable[Entry]) -> Iterator[bytes]:
    for entry in entries:
        allocated_bytes = tables.sizes_wasm_pages[entry.memory_id] * WASM_PAGE_BYTES
        start = first_bytes(peek, tables, entry.memory_id, HEADER_BYTES)
        exists, size_bytes = False, 0
        if entry.kind == "journal":
            exists = start.startswith(JOURNAL_MAGIC)
            size_bytes = allocated_bytes if exists else 0
        elif entry.kind == "database" and entry.memory_id != DATABASE_MEMORY_ID:
            size_bytes = _database_bytes(start, allocated_bytes)
        yield _record(entry, exists=exists, size_bytes=size_bytes)


def _database_bytes(start: bytes, allocated_bytes: int) -> int:
    try:
        return file_size_bytes(start, allocated_bytes)
    except ImageError:
        # SQLite says what is wrong once somebody attaches it.
        return allocated_bytes


def _record(entry: Entry, *, exists: bool, size_bytes: int) -> bytes:
    name = entry.name.encode()
    kind = KINDS.index(entry.kind)
    return _RECORD.pack(entry.memory_id, kind, len(name), exists, size_bytes) + name
