"""Carrying a database in and out of stable memory: import and extract.

What comes in is a `DatabaseSource`, which has been checked: into a canister as one message, or into
an image file that nobody has yet, which needs no message and no log. What goes out is a plain file,
whole or not at all.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlstable.database.foreign import PIECE_BYTES, DatabaseSource
from sqlstable.database.store import DatabaseStore
from sqlstable.database.vfs import StableVFS
from sqlstable.errors import ImageError
from sqlstable.ic.limits import Limits
from sqlstable.ic.units import OS_PAGE_BYTES, WASM_PAGE_BYTES
from sqlstable.layout.filemap import FileMap
from sqlstable.memory.image.osfile import OsFile
from sqlstable.memory.stable import StableMemory
from sqlstable.sqlite.header import stand_alone

OnBytes = Callable[[int], None]
"""Is told now and then how many bytes have been carried over."""


def import_database(store: DatabaseStore, source: DatabaseSource) -> None:
    """Write a database into an empty store, inside the open message.

    Raises:
        ImageError: Stable memory has no room for it, or the source could not be read to its end.
    """
    assert store.size_bytes == 0
    _make_room(store, source.size_bytes)
    for offset, piece in source.pieces():
        store.write_direct(piece, offset)
    store.settle(source.size_bytes, is_whole=True)


def make_image(
    path: Path,
    source: DatabaseSource,
    *,
    layout: str,
    bucket_pages: int,
    growth: str,
    limits: Limits | None,
    is_flushed: bool,
    on_bytes: OnBytes,
) -> None:
    """Make an image file that holds a database.

    The bytes go to their places in the file at once: until it is whole nobody has it, so that a
    log would protect nothing.

    Args:
        path: The file, which is not there yet; after an error a part of it may be.
        source: The database.
        layout: ``managed`` or ``raw``.
        bucket_pages: Wasm pages of a bucket.
        growth: ``bucket`` or ``wasm-page``.
        limits: Limits to enforce, or None.
        is_flushed: Whether it must survive a loss of power when this returns.
        on_bytes: Is told after each piece how many bytes are there.

    Raises:
        ImageError: Stable memory has no room for it, or the source could not be read to its end.
        OSError: It could not be written.
    """
    size_bytes, tables, file_map = _tables(
        source, layout=layout, bucket_pages=bucket_pages, growth=growth, limits=limits
    )
    file = OsFile(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666))
    try:
        file.resize(size_bytes)
        for address, data in tables:
            file.write(address, [data])
        for offset, piece in source.pieces():
            _write(file, file_map, piece, offset)
            on_bytes(offset + len(piece))
        if is_flushed:
            file.flush()
    finally:
        file.close()


def new_image_bytes(
    size_bytes: int,
    *,
    page_size: int,
    layout: str,
    bucket_pages: int,
    growth: str,
) -> int:
    """Return how large a stable memory is that is made for a database, and never held another.

    Args:
        size_bytes: Of the database.
        page_size: Bytes of a SQLite page.
        layout: Any.
        bucket_pages: Wasm pages of a bucket.
        growth: ``bucket`` or ``wasm-page``.

    Examples:
        >>> chosen = {"page_size": 4096, "bucket_pages": 128, "growth": "bucket"}
        >>> new_image_bytes(40_960, layout="managed", **chosen) // 65_536
        129
        >>> new_image_bytes(40_960, layout="raw", **chosen) // 65_536
        1
    """
    with StableMemory(limits=None) as memory:
        with memory.message("install"):
            _laid_out(
                memory,
                size_bytes,
                page_size=page_size,
                layout=layout,
                bucket_pages=bucket_pages,
                growth=growth,
            )
        return memory.wasm_pages * WASM_PAGE_BYTES


def extract_database(
    vfs: StableVFS,
    path: Path | str,
    *,
    name: str | None = None,
    overwrite: bool = False,
    on_bytes: OnBytes | None = None,
) -> int:
    """Write a database to a file, whole or not at all; stable memory stays as it is.

    Args:
        vfs: With no message open.
        path: The file.
        name: An attached database, as `StableVFS.stable_files` has it; None for the main one.
        overwrite: Whether a file that is there may be replaced.
        on_bytes: Is told after each piece how many bytes are written.

    Returns:
        Bytes written.

    Raises:
        ImageError: The file exists and ``overwrite`` is False, it cannot be written, or there is
            no database.
    """
    path = Path(path)
    if os.path.lexists(path) and not overwrite:
        raise ImageError(f"{path} exists already; remove it, or ask to overwrite it")
    store = vfs.store if name is None else vfs.cabinet.database(name, is_created=True)
    if store.size_bytes == 0:
        what = "the canister has no database" if name is None else f"the database {name} is empty"
        raise ImageError(f"{what} yet; create a table first")
    done_bytes = 0
    try:
        with TemporaryDirectory(prefix=f"{path.name[:99]}.", dir=path.parent) as folder:
            partial = Path(folder, "database")
            with partial.open("xb") as file:
                for piece in _pieces(store):
                    done_bytes += file.write(piece)
                    if on_bytes is not None:
                        on_bytes(done_bytes)
            partial.replace(path)
    except OSError as error:
        raise ImageError(f"{path} cannot be written: {os.strerror(error.errno or 0)}") from error
    return done_bytes


def read_database(store: DatabaseStore, start: int, length: int) -> bytes:
    """Return committed bytes of a database, without a message and uncounted.

    Args:
        store: With no message open.
        start: The first byte, counted from the start of the database.
        length: How many; they are there.
    """
    memory, image_file = store.memory, store.memory.image_file
    read = memory.peek if image_file is None else image_file.read
    masked = () if store.record is None else store.record.masked()
    pieces = store.placement.map.pieces(start, length)
    data = b"".join(read(address, count) for address, count in pieces)
    return _with_zeros(data, start, masked)


# -- inside ---------------------------------------------------------------------------------------


def _make_room(store: DatabaseStore, size_bytes: int) -> None:
    if not store.placement.grow_to(size_bytes):
        raise ImageError(
            f"the database has {size_bytes} bytes, more than stable memory can hold; use "
            "larger buckets, or the limits of a later date"
        )


def _tables(
    source: DatabaseSource, *, layout: str, bucket_pages: int, growth: str, limits: Limits | None
) -> tuple[int, list[tuple[int, bytes]], FileMap]:
    """Lay a database out; returns the image's size, what is not the database, and its places."""
    with StableMemory(limits=limits) as memory:
        with memory.message("install"):
            file_map = _laid_out(
                memory,
                source.size_bytes,
                page_size=source.page_size,
                layout=layout,
                bucket_pages=bucket_pages,
                growth=growth,
            )
            starts = [os_page * OS_PAGE_BYTES for os_page in sorted(memory.bytemap.dirty)]
        tables = [(start, memory.peek(start, OS_PAGE_BYTES)) for start in starts]
        return memory.wasm_pages * WASM_PAGE_BYTES, tables, file_map


def _laid_out(
    memory: StableMemory,
    size_bytes: int,
    *,
    page_size: int,
    layout: str,
    bucket_pages: int,
    growth: str,
) -> FileMap:
    """Make room for a database in an empty memory, and return where its bytes go."""
    vfs = StableVFS(
        memory,
        layout=layout,
        page_size=page_size,
        bucket_pages=bucket_pages,
        growth=growth,
        implicit_messages=False,
    )
    try:
        _make_room(vfs.store, size_bytes)
        vfs.store.settle(size_bytes, is_whole=True)
        return vfs.store.placement.map
    finally:
        vfs.unregister()


def _write(file: OsFile, file_map: FileMap, piece: bytes, offset: int) -> None:
    if piece == bytes(len(piece)):
        # The image has a hole there.
        return
    view, parts, start = memoryview(piece), [], 0
    runs = list(file_map.pieces(offset, len(piece)))
    for _, count in runs:
        parts.append(view[start : start + count])
        start += count
    file.write_runs(runs, parts)


def _pieces(store: DatabaseStore) -> Iterator[bytes]:
    """Yield the committed bytes of a database, a piece at a time."""
    assert store.memory.kind is None
    size_bytes = store.size_bytes
    for start in range(0, size_bytes, PIECE_BYTES):
        data = read_database(store, start, min(PIECE_BYTES, size_bytes - start))
        yield data if start else stand_alone(data, size_bytes)


def _with_zeros(data: bytes, start: int, masked: Iterable[tuple[int, int]]) -> bytes:
    """Return bytes of a file from an offset on, with zeros where the layout says so."""
    for low, high in masked:
        first, last = max(low - start, 0), min(high - start, len(data))
        if first < last:
            data = data[:first] + bytes(last - first) + data[last:]
    return data
