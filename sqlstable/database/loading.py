"""Database files of any size on their way into stable memory, and a look at those that came out.

`sqlstable.database.transfer` holds a whole database in memory, because one message must take it.
A new image is different: nobody has it yet, so it can be filled piece by piece.

**Limitations**

* What is in WAL mode and open elsewhere passes through memory whole: SQLite alone knows which
  SQLite pages count, and hands out at most 2 GiB.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import apsw

from sqlstable.database.header import (
    HEADER_BYTES,
    MAGIC,
    ROLLBACK_VERSIONS,
    VERSIONS_OFFSET,
    parse_header,
)
from sqlstable.database.vfs import StableVFS
from sqlstable.errors import ImageError
from sqlstable.ic.units import GIB, MIB, WASM_PAGE_BYTES
from sqlstable.memory.stable import StableMemory

PIECE_BYTES: Final = 16 * MIB
"""Bytes that one message of a load writes; so much is staged in memory, and logged."""
assert PIECE_BYTES % WASM_PAGE_BYTES == 0

SERIALIZED_BYTES_MAX: Final = 2 * GIB - 257
"""What SQLite allocates in one piece at most. Source: ``SQLITE_MAX_ALLOCATION_SIZE``, 3.54.1."""

_STEPS_BETWEEN_TICKS: Final = 100_000
"""Steps of SQLite's virtual machine: some milliseconds."""

_FINDINGS_MAX: Final = 3

Tick = Callable[[], None]
"""Is called every few milliseconds of a long check; may raise, which ends it."""


class DatabaseSource:
    """A sound database file that is held still: nobody else's commit changes it meanwhile.

    Attributes:
        page_size: Bytes of a SQLite page.
        size_bytes: Bytes of the database; the file may be longer.
    """

    def __init__(self, connection: apsw.Connection, *, descriptor: int | None) -> None:
        """Read by ``descriptor``, or through the connection where that is None."""
        self._connection = connection
        self._descriptor = descriptor
        self.page_size = _number(connection, "page_size")
        self.size_bytes = self.page_size * _number(connection, "page_count")

    def pieces(self) -> Iterator[tuple[int, bytes]]:
        """Yield the database in order, each piece with its offset and at most 16 MiB.

        It is in rollback mode, because WAL needs a second file.

        Raises:
            ImageError: The file has become shorter.
        """
        data = self._connection.serialize("main") if self._descriptor is None else None
        for offset in range(0, self.size_bytes, PIECE_BYTES):
            length = min(PIECE_BYTES, self.size_bytes - offset)
            if data is not None:
                piece = data[offset : offset + length]
            else:
                assert self._descriptor is not None
                piece = _read(self._descriptor, offset, length)
            yield offset, _in_rollback_mode(piece) if offset == 0 else piece


@contextmanager
def open_source(path: Path, *, on_tick: Tick | None = None) -> Iterator[DatabaseSource]:
    """Open a SQLite database file for reading, after checking it whole.

    What is committed in a write-ahead log beside it is taken in; a journal that was left behind is
    rolled back, in a copy.

    Args:
        path: The file; it is only read.
        on_tick: Called while the check goes on.

    Raises:
        ImageError: There is no such file, or it is not a whole, sound database.
    """
    is_wal = _check_first_bytes(path)
    with ExitStack() as stack:
        try:
            source = _source(path, stack, is_wal=is_wal, on_tick=on_tick)
        except (apsw.Error, OSError) as error:
            msg = f"{path} cannot be read as a SQLite database: {_reason(error)}"
            raise ImageError(msg) from error
        yield source


def load(
    memory: StableMemory,
    source: DatabaseSource,
    *,
    layout: str,
    bucket_pages: int,
    growth: str,
    on_bytes: Callable[[int], None],
) -> None:
    """Fill an empty stable memory with a database, in many messages.

    Args:
        memory: Nobody else sees it before the load is done.
        source: The database.
        layout: ``managed`` or ``raw``.
        bucket_pages: Wasm pages of a bucket.
        growth: ``bucket`` or ``wasm-page``.
        on_bytes: Is told after each message how many bytes are loaded.

    Raises:
        ImageError: Stable memory has no room for it.
        Trap: It could not be written; what was written is of no use.
    """
    assert memory.wasm_pages == 0
    vfs = StableVFS(
        memory,
        layout=layout,
        page_size=source.page_size,
        bucket_pages=bucket_pages,
        growth=growth,
        implicit_messages=False,
    )
    try:
        with memory.message("install"):
            if not vfs.store.placement.grow_to(source.size_bytes):
                msg = (
                    f"the database has {source.size_bytes} bytes, more than stable memory can "
                    "hold; choose the limits of a later date"
                )
                raise ImageError(msg)
        for offset, piece in source.pieces():
            with memory.message("install"):
                vfs.store.write_direct(piece, offset)
            on_bytes(offset + len(piece))
    finally:
        vfs.unregister()


def extract_further(vfs: StableVFS, name: str, path: Path) -> int:
    """Write an attached database to a new file, and return its size in bytes.

    Args:
        vfs: Of layout managed, with no message open.
        name: As `StableVFS.stable_files` has it.
        path: The file, which must not exist; after an error a part of it may be there.

    Raises:
        ImageError: The database is empty or damaged.
        OSError: The file cannot be written.
    """
    store = vfs.cabinet.database(name, is_created=True)
    if not store.size_bytes:
        msg = f"the database {name} is empty; there is nothing to extract"
        raise ImageError(msg)
    with path.open("xb") as file:
        # A Wasm page lies in one bucket.
        for start in range(0, store.size_bytes, WASM_PAGE_BYTES):
            file.write(store.peek(WASM_PAGE_BYTES, start))
    return store.size_bytes


def find_damage(path: Path, *, on_tick: Tick | None = None) -> tuple[str, ...]:
    """Return what SQLite finds wrong with a database file; nothing where it is sound.

    Args:
        path: In rollback mode, with no file beside it; it is only read.
        on_tick: Called while the check goes on.
    """
    try:
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
        try:
            return _damage(connection, on_tick)
        finally:
            connection.close(force=True)
    except (apsw.Error, UnicodeEncodeError) as error:
        return (_reason(error),)


# -- inside ---------------------------------------------------------------------------------------


def _check_first_bytes(path: Path) -> bool:
    """Refuse what is no whole database; returns whether it is in WAL mode."""
    if not path.is_file():
        msg = f"{path} is not a file; give the path of a SQLite database"
        raise ImageError(msg)
    try:
        os.fsencode(path).decode()
    except UnicodeDecodeError:
        msg = f"{path} has a name that is no UTF-8, as SQLite's names are; rename it"
        raise ImageError(msg) from None
    try:
        with path.open("rb") as file:
            first_bytes = file.read(HEADER_BYTES)
    except OSError as error:
        msg = f"{path} cannot be read: {error.strerror}"
        raise ImageError(msg) from error
    if first_bytes[:4] == b"MGR\x01":
        msg = (
            f"{path} is an image of stable memory, no SQLite database; sqlstable extract {path} "
            "APP.db takes its database out"
        )
        raise ImageError(msg)
    header = parse_header(first_bytes)
    if header is None:
        msg = f"{path} is not a SQLite database: it begins with {first_bytes[: len(MAGIC)]!r}"
        raise ImageError(msg)
    size_bytes = path.stat().st_size
    if header.size_bytes > size_bytes:
        msg = (
            f"{path} is truncated: its header states {header.sqlite_page_count} SQLite pages of "
            f"{header.page_size} bytes, {header.size_bytes} in all, and the file has {size_bytes}"
        )
        raise ImageError(msg)
    return header.is_wal


def _source(path: Path, stack: ExitStack, *, is_wal: bool, on_tick: Tick | None) -> DatabaseSource:
    if is_wal and not _beside(path, "-shm").exists():
        # Nobody has it open, and SQLite would leave files behind where it opens it.
        return _source_of_copy(path, stack, on_tick=on_tick)
    inner = stack.enter_context(ExitStack())
    try:
        connection = _opened(path, inner, apsw.SQLITE_OPEN_READONLY, on_tick)
    except (apsw.CantOpenError, apsw.ReadOnlyError):
        # A hot journal must be rolled back first, and not in the original.
        inner.close()
        return _source_of_copy(path, stack, on_tick=on_tick)
    if not is_wal:
        return DatabaseSource(connection, descriptor=_descriptor(path, inner))
    source = DatabaseSource(connection, descriptor=None)
    if source.size_bytes > SERIALIZED_BYTES_MAX:
        msg = (
            f"{path} is in WAL mode, open elsewhere, and has {source.size_bytes} bytes; more than "
            f"{SERIALIZED_BYTES_MAX} can only be read after it is closed there"
        )
        raise ImageError(msg)
    return source


def _source_of_copy(path: Path, stack: ExitStack, *, on_tick: Tick | None) -> DatabaseSource:
    copy = Path(stack.enter_context(TemporaryDirectory()), path.name)
    for suffix in ("", "-wal", "-journal"):
        if _beside(path, suffix).exists():
            shutil.copyfile(_beside(path, suffix), _beside(copy, suffix))
    with ExitStack() as brief:
        connection = _connection(copy, brief, apsw.SQLITE_OPEN_READWRITE)
        connection.execute("PRAGMA journal_mode = delete").fetchall()
    connection = _opened(copy, stack, apsw.SQLITE_OPEN_READONLY, on_tick)
    return DatabaseSource(connection, descriptor=_descriptor(copy, stack))


def _opened(path: Path, stack: ExitStack, flags: int, on_tick: Tick | None) -> apsw.Connection:
    """Return a connection that has checked the database, and goes on reading it."""
    connection = _connection(path, stack, flags)
    # From the check's first read to the end nobody can commit into the file.
    connection.execute("BEGIN")
    findings = _damage(connection, on_tick)
    if findings:
        msg = f"{path} is damaged: {'; '.join(findings)}"
        raise ImageError(msg)
    return connection


def _connection(path: Path, stack: ExitStack, flags: int) -> apsw.Connection:
    connection = apsw.Connection(str(path), flags=flags)
    stack.callback(connection.close, force=True)
    connection.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0)
    connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
    return connection


def _descriptor(path: Path, stack: ExitStack) -> int:
    """Open the file beside its connection.

    Closing any descriptor of a file gives up all of the process's POSIX locks on it, SQLite's own
    included: so this one is opened last, and nothing is read once it is closed.
    """
    descriptor = os.open(path, os.O_RDONLY)
    stack.callback(os.close, descriptor)
    return descriptor


def _damage(connection: apsw.Connection, on_tick: Tick | None) -> tuple[str, ...]:
    def progress() -> bool:
        # Python's own signals are looked at here, too: Ctrl-C ends even a long check.
        if on_tick is not None:
            on_tick()
        return False

    connection.set_progress_handler(progress, _STEPS_BETWEEN_TICKS)
    try:
        rows = connection.execute(f"PRAGMA integrity_check({_FINDINGS_MAX})").fetchall()
    finally:
        connection.set_progress_handler(None)
    return () if rows == [("ok",)] else tuple(str(row[0]) for row in rows)


def _number(connection: apsw.Connection, pragma: str) -> int:
    value = connection.pragma(pragma)
    assert isinstance(value, int)
    return value


def _read(descriptor: int, offset: int, length: int) -> bytes:
    parts = []
    while length:
        part = os.pread(descriptor, length, offset)
        if not part:
            msg = f"the database file ends at byte {offset} now; somebody else has cut it off"
            raise ImageError(msg)
        parts.append(part)
        offset += len(part)
        length -= len(part)
    return b"".join(parts)


def _in_rollback_mode(data: bytes) -> bytes:
    changed = bytearray(data)
    if len(changed) >= HEADER_BYTES:
        changed[VERSIONS_OFFSET : VERSIONS_OFFSET + len(ROLLBACK_VERSIONS)] = ROLLBACK_VERSIONS
    return bytes(changed)


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _reason(error: Exception) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error)
