"""Carrying a database in and out of stable memory: import and extract.

A plain ``.db`` file is copied, never opened as an image. What comes from elsewhere is checked
first: a file that is foreign, cut off or damaged is refused before a byte is changed.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import apsw

from sqlstable.database.header import HEADER_BYTES, ROLLBACK_VERSIONS, VERSIONS_OFFSET, parse_header
from sqlstable.database.store import DatabaseStore
from sqlstable.database.vfs import StableVFS
from sqlstable.errors import ImageError
from sqlstable.ic.units import MIB

_PIECE_BYTES: Final = MIB


def read_database(path: Path | str) -> bytes:
    """Return the bytes of a SQLite database file, with everything that is committed in it.

    A database in WAL mode may have committed SQLite pages beside it; they are taken in, and the
    result is in rollback mode, because WAL needs a second file.

    Args:
        path: The file; it is only read.

    Raises:
        ImageError: There is no such file, or it is not a whole, sound database.
    """
    path = Path(path)
    if not path.is_file():
        msg = f"{path} is not a file; give the path of a SQLite database"
        raise ImageError(msg)
    try:
        with path.open("rb") as file:
            first_bytes = file.read(HEADER_BYTES)
    except OSError as error:
        msg = f"{path} cannot be read: {error.strerror}"
        raise ImageError(msg) from error
    header = parse_header(first_bytes)
    if header is None:
        msg = f"{path} is not a SQLite database: it begins with {first_bytes[:16]!r}"
        raise ImageError(msg)
    size_bytes = path.stat().st_size
    if header.size_bytes > size_bytes:
        msg = (
            f"{path} is truncated: its header states {header.sqlite_page_count} SQLite pages of "
            f"{header.page_size} bytes, {header.size_bytes} in all, and the file has {size_bytes}"
        )
        raise ImageError(msg)
    try:
        data = _committed_bytes(path, is_wal=header.is_wal)
    except (apsw.Error, OSError) as error:
        msg = f"{path} cannot be read as a SQLite database: {error}"
        raise ImageError(msg) from error
    return data


def import_database(store: DatabaseStore, data: bytes) -> None:
    """Write a database's bytes into an empty store, inside the open message.

    Raises:
        ImageError: Stable memory has no room for it.
    """
    assert store.size_bytes == 0
    if not store.placement.grow_to(len(data)):
        msg = (
            f"the database has {len(data)} bytes, more than stable memory can hold; use larger "
            "buckets, or the limits of a later date"
        )
        raise ImageError(msg)
    for start in range(0, len(data), _PIECE_BYTES):
        store.write_direct(data[start : start + _PIECE_BYTES], start)


def extract_database(vfs: StableVFS, path: Path | str, *, overwrite: bool) -> int:
    """Write the database to a file, whole or not at all; stable memory stays as it is.

    Returns:
        Bytes written.

    Raises:
        ImageError: The file exists and ``overwrite`` is False, or it cannot be written.
    """
    store = vfs.store
    path = Path(path)
    if path.exists() and not overwrite:
        msg = f"{path} exists already; remove it, or ask to overwrite it"
        raise ImageError(msg)
    if store.size_bytes == 0:
        msg = "the canister has no database yet; create a table first"
        raise ImageError(msg)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("xb") as file:
            size_bytes = sum(file.write(piece) for piece in _pieces(store))
        partial.replace(path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        msg = f"{path} cannot be written: {os.strerror(error.errno or 0)}"
        raise ImageError(msg) from error
    return size_bytes


def _pieces(store: DatabaseStore) -> Iterator[bytes]:
    for start in range(0, store.size_bytes, _PIECE_BYTES):
        yield _piece(store, start)


def _piece(store: DatabaseStore, start: int) -> bytes:
    """Read a piece that may reach over buckets: by Wasm pages, which never do."""
    step = min(_PIECE_BYTES, store.placement.map.bucket_bytes)
    end = min(start + _PIECE_BYTES, store.size_bytes)
    parts = []
    while start < end:
        length = min(step - start % step, end - start)
        parts.append(store.peek(length, start))
        start += length
    return b"".join(parts)


def _committed_bytes(path: Path, *, is_wal: bool) -> bytes:
    """Let SQLite itself read the file, its write-ahead log or hot journal included."""
    if is_wal and not _beside(path, "-shm").exists():
        # Nobody has it open, and SQLite would leave files behind where it opens it.
        return _bytes_of_copy(path)
    try:
        return _bytes_of(path, apsw.SQLITE_OPEN_READONLY)
    except (apsw.CantOpenError, apsw.ReadOnlyError):
        # A hot journal must be rolled back first, and not in the original.
        return _bytes_of_copy(path)


def _bytes_of_copy(path: Path) -> bytes:
    with TemporaryDirectory() as folder:
        copy = Path(folder, path.name)
        for suffix in ("", "-wal", "-journal"):
            if _beside(path, suffix).exists():
                shutil.copyfile(_beside(path, suffix), _beside(copy, suffix))
        return _bytes_of(copy, apsw.SQLITE_OPEN_READWRITE)


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _bytes_of(path: Path, flags: int) -> bytes:
    connection = apsw.Connection(str(path), flags=flags)
    try:
        connection.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0)
        connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
        findings = connection.execute("PRAGMA integrity_check(3)").fetchall()
        if findings != [("ok",)]:
            shown = "; ".join(str(row[0]) for row in findings)
            msg = f"{path} is damaged: {shown}"
            raise ImageError(msg)
        return _in_rollback_mode(connection.serialize("main"))
    finally:
        connection.close(force=True)


def _in_rollback_mode(data: bytes) -> bytes:
    """Return a whole database with nothing beside it."""
    changed = bytearray(data)
    if len(changed) >= HEADER_BYTES:
        changed[VERSIONS_OFFSET : VERSIONS_OFFSET + len(ROLLBACK_VERSIONS)] = ROLLBACK_VERSIONS
    return bytes(changed)
