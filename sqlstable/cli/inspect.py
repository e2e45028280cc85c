"""``sqlstable inspect``: what an image, a snapshot or a database is, and what to type next."""

import json
import os
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from sqlstable.analysis.growth import Growth
from sqlstable.canister.areas import list_areas
from sqlstable.cli.failures import RunError, UsageError
from sqlstable.cli.options import Format
from sqlstable.cli.output import write
from sqlstable.cli.places import METADATA_NAME, STABLE_NAME, check_regular
from sqlstable.cli.progress import LoadProgress
from sqlstable.database.looking import Read, damage_of
from sqlstable.database.vfs import StableVFS
from sqlstable.errors import ImageError, SnapshotError
from sqlstable.ic.units import WASM_PAGE_BYTES
from sqlstable.layout.contents import Contents, contents_of
from sqlstable.layout.directory import DATABASE_MEMORY_ID
from sqlstable.layout.inspection import Held, inspected
from sqlstable.layout.layout import Layout, Peek
from sqlstable.layout.layouts import LAYOUTS
from sqlstable.memory.signatures import MANAGER_MAGIC
from sqlstable.memory.stable import StableMemory
from sqlstable.report.numbers import counted, percent, size
from sqlstable.report.text import clean
from sqlstable.sqlite.header import SQLITE_MAGIC
from sqlstable.trace.format.schema import TRACE_APPLICATION_ID

_APPLICATION_ID: Final = slice(68, 72)
"""Where a SQLite database says whose it is; sqlite.org/fileformat.html, section 1.3."""

_UNCHECKED: Final[dict[str, Any]] = {"integrity": None, "is_damaged": None}

_FORMAT: Final = "sqlstable inspection"
_FORMAT_VERSION: Final = 1


@dataclass(slots=True)
class Found:
    """What there is to say, in the order in which it is said."""

    path: str
    kind: str
    "image, snapshot, database, trace or other."
    text: str
    size_bytes: int
    layout: str | None = None
    wasm_pages: int | None = None
    bucket_pages: int | None = None
    memories: list[dict[str, Any]] = field(default_factory=list)
    growth: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    next: list[str] = field(default_factory=list)


def inspect_path(
    *,
    path: Annotated[
        Path,
        typer.Argument(
            metavar="PATH",
            help="An image of stable memory, a snapshot's folder, or a SQLite database; it is only "
            "read.",
        ),
    ],
    quick: Annotated[
        bool, typer.Option("--quick", help="Leave the integrity of databases unchecked.")
    ] = False,
    output_format: Annotated[
        Format, typer.Option("--format", help="What to write: table (text) or json.")
    ] = "table",
) -> None:
    """Say what an image, a snapshot or a database is, what it holds, and what to type next."""
    if output_format == "csv":
        raise UsageError("an inspection is no table; choose --format table or json")
    found = _found(path, is_quick=quick)
    if _has_free(found):
        found.next.append(f"reclaim {_quoted(path)}")
    write(_as_json(found) if output_format == "json" else _as_text(found))
    damaged = [memory for memory in found.memories if memory["is_damaged"]]
    if damaged:
        where = "".join(
            f", in memory {memory['memory_id']}"
            for memory in damaged
            if memory["memory_id"] is not None
        )
        raise RunError(f"{path} holds a damaged database{where}; what SQLite finds stands above")


def _found(path: Path, *, is_quick: bool) -> Found:
    if not path.is_dir():
        return _file(path, "image", is_quick=is_quick)
    image = path / STABLE_NAME
    if not image.exists():
        raise UsageError(
            f"{path} is a folder without {STABLE_NAME}, so it is no snapshot of a canister; give "
            "the path of a file"
        )
    found = _file(image, "snapshot", is_quick=is_quick)
    if (path / METADATA_NAME).exists():
        _describe_snapshot(found, path)
    others = [clean(one.name) for one in sorted(path.iterdir()) if one.name != STABLE_NAME]
    if others:
        found.notes.append(f"beside it: {', '.join(others)}")
    return found


def _describe_snapshot(found: Found, path: Path) -> None:
    """Say what a snapshot says of itself, or what is wrong with its folder."""
    from sqlstable.memory.snapshots.folder import open_folder

    try:
        said = open_folder(path).metadata
    except SnapshotError as error:
        found.notes.append(str(error))
        return
    taken_at = datetime.fromtimestamp(said.taken_at_ns // 10**9, UTC)
    found.notes.append(
        f"taken at {taken_at:%Y-%m-%d %H:%M:%S} UTC: module {size(said.wasm_module_size)}, heap "
        f"{size(said.wasm_memory_size)}, {counted(len(said.chunks), 'chunk')}, canister version "
        f"{said.canister_version}"
    )
    found.next.append(f"snapshot upload app.stable {_quoted(path)}")


def _file(path: Path, kind: str, *, is_quick: bool) -> Found:
    check_regular(path)
    if not path.exists():
        raise UsageError(f"there is no file {path}")
    size_bytes = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(WASM_PAGE_BYTES)
    contents = contents_of(start, size_bytes)
    is_filled = contents.database_bytes == size_bytes or size_bytes % WASM_PAGE_BYTES
    if start.startswith(SQLITE_MAGIC) and is_filled and kind == "image":
        return _database(path, start, contents, size_bytes, is_quick=is_quick)
    if contents.kind == "log":
        raise UsageError(f"{path} is {contents.text}")
    if size_bytes % WASM_PAGE_BYTES and contents.kind == "unknown":
        is_cut = start.startswith(MANAGER_MAGIC)
        text = "it begins with a memory manager's header, so its end is missing"
        raise RunError(
            f"{path} has {size_bytes} bytes, and an image of stable memory whole Wasm pages of "
            f"{WASM_PAGE_BYTES}; nor is it a SQLite database: {text if is_cut else contents.text}"
        )
    return _image(path, kind, is_quick=is_quick)


# -- a plain database -----------------------------------------------------------------------------


def _database(
    path: Path, start: bytes, contents: Contents, size_bytes: int, *, is_quick: bool
) -> Found:
    name = _quoted(path)
    if start[_APPLICATION_ID] == TRACE_APPLICATION_ID.to_bytes(4, "big"):
        return Found(
            str(path), "trace", "a trace of sqlstable", size_bytes, next=[f"report {name}"]
        )
    found = Found(str(path), "database", contents.text, size_bytes)
    if contents.database_bytes is None or contents.database_bytes > size_bytes:
        return found
    with path.open("rb") as file:

        def read(offset: int, length: int) -> bytes:
            return os.pread(file.fileno(), length, offset)

        checked = _checked(path.name, read, contents, is_quick=is_quick)
    found.memories.append(
        {
            "memory_id": None,
            "name": path.name,
            "kind": contents.kind,
            "text": contents.text,
            "size_bytes": size_bytes,
            "allocated_bytes": size_bytes,
            **_of_database(contents),
            **checked,
        }
    )
    found.notes += [
        f"{path.name}{suffix} lies beside it, and is not looked at"
        for suffix in ("-wal", "-journal")
        if path.with_name(path.name + suffix).exists()
    ]
    if size_bytes % WASM_PAGE_BYTES == 0:
        found.notes.append("its length is that of an image in layout raw, too, which it may be")
        found.next.append(f"run SCRIPT.sql --image {name} --layout raw")
    found.next[:0] = [f"import {name} app.stable", f"run SCRIPT.sql --database {name}"]
    return found


# -- an image -------------------------------------------------------------------------------------


def _image(path: Path, kind: str, *, is_quick: bool) -> Found:
    with StableMemory.open(path, limits=None, is_read_only=True, is_created=False) as memory:
        peek = Peek.at(memory)
        inspection = inspected(peek)
        found = Found(
            str(path),
            kind,
            inspection.text,
            peek.wasm_pages * WASM_PAGE_BYTES,
            wasm_pages=peek.wasm_pages,
            bucket_pages=inspection.bucket_pages,
        )
        assert memory.image_file is not None
        if memory.image_file.recovery is not None:
            found.notes.append(memory.image_file.recovery)
        for held in inspection.held:
            found.memories.append(_held(held, peek, is_quick=is_quick))
        layout = inspection.layout
        if layout is None:
            if not peek.wasm_pages:
                found.next.append(f"run SCRIPT.sql --image {_quoted(path)}")
            return found
        try:
            found.growth = _growth(memory, layout)
        except ImageError as error:
            if not any(str(error) in one["text"] for one in found.memories):
                found.notes.append(f"layout {layout.name} does not open: {error}")
            return found
    found.layout = layout.name
    _advise(found, layout, [held for held in inspection.held if held.contents.database_bytes])
    return found


def _held(held: Held, peek: Peek, *, is_quick: bool) -> dict[str, Any]:
    checked = _UNCHECKED
    place = held.place
    if place is not None:

        def read(offset: int, length: int) -> bytes:
            return b"".join(peek.read(*piece) for piece in place.pieces(offset, length))

        name = held.name or f"memory {held.memory_id}"
        checked = _checked(name, read, held.contents, is_quick=is_quick)
    return {
        "memory_id": held.memory_id,
        "name": held.name if held.contents.kind in ("database", "journal") else None,
        "kind": held.contents.kind,
        "text": held.contents.text,
        "size_bytes": held.size_bytes,
        "allocated_bytes": held.allocated_bytes,
        **_of_database(held.contents),
        **checked,
    }


def _of_database(contents: Contents) -> dict[str, Any]:
    header = contents.header
    return {
        "database_bytes": contents.database_bytes,
        "page_size": None if header is None else header.page_size,
        "free_sqlite_pages": None if header is None else header.free_count,
    }


def _checked(name: str, read: Read, contents: Contents, *, is_quick: bool) -> dict[str, Any]:
    """Return what SQLite finds, ``ok`` alone where that is nothing; None where it is not asked."""
    if is_quick or contents.database_bytes is None:
        return _UNCHECKED
    with LoadProgress(name) as progress:
        findings = damage_of(read, contents.database_bytes, on_tick=progress.on_tick)
    texts = [clean(line) for line in (*findings.damage, *findings.gaps)]
    return {"integrity": texts or ["ok"], "is_damaged": bool(findings.damage)}


def _growth(memory: StableMemory, layout: Layout) -> list[dict[str, Any]]:
    """Return what stable memory consists of.

    Raises:
        ImageError: The layout does not open.
    """
    vfs = StableVFS(memory, layout=layout.name)
    try:
        growth = Growth(0, memory.wasm_pages * WASM_PAGE_BYTES, list_areas(vfs, 0))
    finally:
        vfs.unregister()
    return [
        {"name": part.name, "kind": part.kind, "size_bytes": part.size_bytes}
        for part in growth.parts
        if part.size_bytes
    ]


def _advise(found: Found, layout: Layout, databases: Sequence[Held]) -> None:
    """Say what to type next, and what no command does."""
    name = _quoted(Path(found.path))
    reached: set[int | None] = set()
    main_id = _main_id(layout, databases)
    if main_id is not _NOWHERE:
        reached.add(main_id)
        chosen = "" if layout is LAYOUTS[0] else f" --layout {layout.name}"
        found.next += [f"extract {name} app.db", f"run SCRIPT.sql --image {name}{chosen}"]
    for held in databases:
        if layout.traits.has_further_files and held.name and held.memory_id not in reached:
            reached.add(held.memory_id)
            found.next.append(f"extract {name} other.db --name {_quoted(Path(held.name))}")
    own_bytes = layout.traits.defaults.get("page_size")
    for held in databases:
        header = held.contents.header
        if own_bytes is not None and header is not None and header.page_size != own_bytes:
            found.notes.append(
                f"the product's own SQLite pages have {own_bytes} bytes, and these "
                f"{header.page_size}: it may not open the image"
            )
    found.notes += [
        f"no command takes out the database in memory {held.memory_id}"
        for held in databases
        if held.memory_id not in reached
    ]
    if not databases:
        found.notes.append("no database is in it")
    if found.memories and not databases:
        memory_id = found.memories[0]["memory_id"]
        found.notes.append(
            "Python reads its memories: "
            f"MemoryManager(StableMemory.from_image({found.path!r})).get({memory_id}).read(0, 64)"
        )


_NOWHERE: Final = -1


def _main_id(layout: Layout, databases: Sequence[Held]) -> int | None:
    """Return the virtual memory of the main database, None without a manager, or `_NOWHERE`."""
    ids = [held.memory_id for held in databases]
    if layout.traits.has_further_files:
        return DATABASE_MEMORY_ID if DATABASE_MEMORY_ID in ids else _NOWHERE
    behind = [held for held in databases if held.contents.kind == "superblock"]
    if layout.traits.has_buckets:
        return behind[0].memory_id if behind else _NOWHERE
    return ids[0] if ids else _NOWHERE


# -- as text --------------------------------------------------------------------------------------


def _as_text(found: Found) -> str:
    return "\n".join(_lines(found)) + "\n"


def _lines(found: Found) -> Iterator[str]:
    is_image = found.wasm_pages is not None
    yield f"{clean(found.path)}: {_title(found) if is_image else clean(found.text)}"
    pages = "" if found.wasm_pages is None else f", {counted(found.wasm_pages, 'Wasm page')}"
    yield f"  size    {size(found.size_bytes)}{pages}"
    if is_image:
        yield f"  made    {clean(found.text)}"
    for memory in found.memories:
        yield from _memory_lines(memory)
    if found.growth:
        parts = (f"{clean(part['name'])} {size(part['size_bytes'])}" for part in found.growth)
        yield f"  growth  {', '.join(parts)}"
    for text in found.notes:
        yield f"  note    {clean(text)}"
    for command in found.next:
        yield f"  next    sqlstable {command}"


def _title(found: Found) -> str:
    is_snapshot, layout = found.kind == "snapshot", found.layout
    what = "a snapshot's stable memory" if is_snapshot else "an image of stable memory"
    if not found.wasm_pages:
        return what
    return f"{what}, {'of no layout that opens here' if layout is None else f'layout {layout}'}"


def _memory_lines(memory: dict[str, Any]) -> Iterator[str]:
    if memory["memory_id"] is not None:
        named = f" ({clean(memory['name'])})" if memory["name"] else ""
        yield (
            f"  memory {memory['memory_id']}{named}: {size(memory['size_bytes'])} of "
            f"{size(memory['allocated_bytes'])}; {clean(memory['text'])}"
        )
    if memory["free_sqlite_pages"]:
        yield f"    free: {_free(memory)}"
    if memory["database_bytes"] is not None:
        checked = memory["integrity"]
        told = "not checked (--quick)" if checked is None else "; ".join(checked)
        yield f"    integrity: {told}"


def _has_free(found: Found) -> bool:
    """Tell whether the main database has free SQLite pages, and is one that opens here."""
    if found.kind == "database":
        return any(memory["free_sqlite_pages"] for memory in found.memories)
    return any(part["kind"] == "free SQLite pages" for part in found.growth)


def _free(memory: dict[str, Any]) -> str:
    """Say how much of a database is free, and what for."""
    free, page_bytes = memory["free_sqlite_pages"], memory["page_size"]
    share = percent(free * page_bytes, memory["database_bytes"] or free * page_bytes)
    return (
        f"{counted(free, 'SQLite page')}, {size(free * page_bytes)}, {share} of the database; "
        "the next rows go there"
    )


def _as_json(found: Found) -> str:
    values = {name: getattr(found, name) for name in Found.__slots__}
    document = {"format": _FORMAT, "version": _FORMAT_VERSION, **values}
    document["next"] = [f"sqlstable {command}" for command in found.next]
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _quoted(path: Path) -> str:
    """Return a path as a shell takes it, with nothing in it that a terminal would act on."""
    text = str(path)
    if text.startswith("-"):
        # Else it would be taken for an option.
        text = f"./{text}"
    if text.isprintable():
        return shlex.quote(text)
    shown = (
        chr(byte) if 32 <= byte < 127 and byte not in b"'\\" else f"\\x{byte:02x}"
        for byte in os.fsencode(text)
    )
    return f"$'{''.join(shown)}'"
