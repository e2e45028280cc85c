"""What a stable memory is, and what each memory in it holds; told from its bytes alone.

Nothing here needs a library for SQLite, and nothing is read but beginnings: an image may be
hundreds of GiB of holes.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

from sqlstable.errors import ImageError
from sqlstable.ic.units import WASM_PAGE_BYTES, amount
from sqlstable.layout.contents import (
    DATABASE,
    LOOKED_AT_BYTES,
    Contents,
    contents_of,
    database_contents,
    shown,
)
from sqlstable.layout.directory import DATABASE_MEMORY_ID, DIRECTORY_MEMORY_ID, Entry, decode
from sqlstable.layout.directory import MAGIC as DIRECTORY_MAGIC
from sqlstable.layout.filemap import ENDLESS, FileMap
from sqlstable.layout.layout import Layout, Peek
from sqlstable.layout.layouts import recognised
from sqlstable.layout.managed import first_bytes
from sqlstable.memory.manager import NO_OWNER, Tables, read_tables
from sqlstable.memory.signatures import MANAGER_MAGIC
from sqlstable.sqlite.header import HEADER_BYTES

FILE_SYSTEM_IDS: Final = range(101, 120)
"""Virtual memories of stable-fs where ic-rusqlite mounts it. Source: its ``src/lib.rs``, 0.5.0."""

_NIM_LEGACY_ADDRESS: Final = 1025 * WASM_PAGE_BYTES


@dataclass(frozen=True, slots=True)
class Held:
    """One memory of an image: a virtual one, or all of it."""

    memory_id: int | None
    "None where there is no memory manager."
    name: str | None
    "Name of the file that it is, where a directory has one."
    size_bytes: int
    allocated_bytes: int
    contents: Contents
    place: FileMap | None
    "Where its database lies; None where it has none that can be read."


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a stable memory is."""

    text: str
    "In words."
    layout: Layout | None
    "None where it is of none that can be opened."
    bucket_pages: int | None
    "Wasm pages of a bucket; None where there is no sound memory manager."
    held: tuple[Held, ...]
    "All memories that have bytes, by ascending id."


def inspected(peek: Peek) -> Inspection:
    """Look at a whole stable memory."""
    if peek.wasm_pages == 0:
        return Inspection("empty: no Wasm page was ever grown", None, None, ())
    if peek.start(len(MANAGER_MAGIC)) == MANAGER_MAGIC:
        return _managed(peek, "a memory manager of ic-stable-structures")
    if peek.start(len(MANAGER_MAGIC), WASM_PAGE_BYTES) == MANAGER_MAGIC:
        behind = Peek(
            lambda address, length: peek.read(WASM_PAGE_BYTES + address, length),
            peek.wasm_pages - 1,
        )
        whose = " as Internet Identity's does" if peek.start(3) == b"IIC" else ""
        found = _managed(
            behind,
            f"a Wasm page that begins with {shown(peek.start(16))}{whose}, and from byte "
            f"{WASM_PAGE_BYTES} on a memory manager of ic-stable-structures",
        )
        # No layout opens a manager that does not begin at the beginning.
        moved = tuple(
            replace(one, place=None if one.place is None else one.place.moved(WASM_PAGE_BYTES))
            for one in found.held
        )
        return Inspection(found.text, None, found.bucket_pages, moved)
    size_bytes = peek.wasm_pages * WASM_PAGE_BYTES
    contents = contents_of(peek.start(LOOKED_AT_BYTES), size_bytes)
    text = contents.text
    if contents.kind in ("unknown", "nothing") and _is_old_nim(peek):
        text += f"; a superblock of nim-ic-sqlite (NIMSQLV1) is at byte {_NIM_LEGACY_ADDRESS}"
    place = FileMap.of((0,), bucket_bytes=ENDLESS, base=contents.base)
    held = Held(None, None, size_bytes, size_bytes, contents, _if_read(contents, place))
    return Inspection(f"without a memory manager: {text}", recognised(peek), None, (held,))


def _managed(peek: Peek, what: str) -> Inspection:
    try:
        tables = read_tables(peek.read, peek.wasm_pages)
    except ImageError as error:
        return Inspection(f"{what}, not sound: {error}", None, None, ())
    count = len(tables.owners)
    holes = tables.owners.count(NO_OWNER)
    bucket = amount(tables.bucket_wasm_pages, "Wasm page")
    text = f"{what}, {amount(count, 'bucket')} of {bucket}"
    if holes:
        text += f" ({holes} without an owner)"
    held = tuple(_held(peek, tables))
    return Inspection(text, recognised(peek), tables.bucket_wasm_pages, held)


def _held(peek: Peek, tables: Tables) -> Iterator[Held]:
    entries = _entries(peek, tables)
    for memory_id, size_wasm_pages in enumerate(tables.sizes_wasm_pages):
        buckets, entry = tables.buckets[memory_id], entries.get(memory_id)
        if not size_wasm_pages and not buckets:
            continue
        size_bytes = size_wasm_pages * WASM_PAGE_BYTES
        data = first_bytes(peek, tables, memory_id, LOOKED_AT_BYTES)
        contents = contents_of(data, size_bytes)
        addresses = map(tables.bucket_address, buckets)
        place = FileMap.of(addresses, bucket_bytes=tables.bucket_bytes, base=contents.base)
        if contents.kind == "superblock" and contents.database_bytes is not None:
            contents = _in_superblock(peek, contents, place)
        elif entry is not None and entry.kind == "journal" and contents.kind != "journal":
            contents = Contents("journal", "a rollback journal of SQLite, deleted")
        elif contents.kind == "unknown" and memory_id in FILE_SYSTEM_IDS:
            contents = Contents(
                "file system", f"{contents.text}; stable-fs has memories 101 to 119"
            )
        yield Held(
            memory_id,
            None if entry is None else entry.name,
            size_bytes,
            len(buckets) * tables.bucket_bytes,
            contents,
            _if_read(contents, place),
        )


def _in_superblock(peek: Peek, contents: Contents, place: FileMap) -> Contents:
    """Look at the database behind a superblock, too."""
    assert contents.database_bytes is not None
    header = peek.read(place.address(0), HEADER_BYTES)
    database = database_contents(header, contents.database_bytes, base=contents.base)
    return Contents(
        contents.kind,
        f"{contents.text}: {database.text}",
        contents.base,
        contents.database_bytes,
        database.header,
    )


def _entries(peek: Peek, tables: Tables) -> dict[int, Entry]:
    """Return what is known of the files in virtual memories, by id."""
    data = first_bytes(peek, tables, DIRECTORY_MEMORY_ID, LOOKED_AT_BYTES)
    known = {DATABASE_MEMORY_ID: Entry(DATABASE_MEMORY_ID, DATABASE, "main.db")}
    if data.startswith(DIRECTORY_MAGIC):
        with suppress(ImageError):
            known |= {entry.memory_id: entry for entry in decode(data).values()}
    return known


def _if_read(contents: Contents, place: FileMap) -> FileMap | None:
    is_sound = contents.kind == DATABASE or contents.header is not None
    return place if is_sound and contents.database_bytes else None


def _is_old_nim(peek: Peek) -> bool:
    return peek.start(8, _NIM_LEGACY_ADDRESS) == b"NIMSQLV1"
