"""Somebody else's SQLite database file, held still and checked, on its way into stable memory.

The file, and what lies beside it, stay as they are.

===================================  ==============================================================
the database is                      then it is read
===================================  ==============================================================
in rollback mode                     in its place, under SQLite's shared lock
the same, with a hot journal         from a copy, in which SQLite has played the journal back
in WAL mode, and open elsewhere      from a backup of what is committed at one instant
in WAL mode, with a log beside it    from a copy, into which SQLite has taken the log
in WAL mode, without a log           in its place: the file is all there is
===================================  ==============================================================

A process gives up all its POSIX locks on a file when it closes any descriptor of it. SQLite knows
that, and keeps its own descriptors of a file until nobody holds a lock on it; so the file is read
through SQLite's own file object, never by a descriptor of ours, and by another process where this
one has it open already: perhaps by another copy of SQLite, whose locks ours would not know.
"""

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import apsw

from sqlstable.database.checking import Findings, Setup, Tick, check, prepare
from sqlstable.database.elsewhere import call_elsewhere, is_open_here
from sqlstable.database.settings import resolve_settings
from sqlstable.errors import ImageError
from sqlstable.ic.units import MIB
from sqlstable.memory.signatures import MANAGER_SIGNATURE
from sqlstable.spelling import spelled
from sqlstable.sqlite.header import HEADER_BYTES, SQLITE_MAGIC, parse_header, stand_alone

PIECE_BYTES: Final = MIB
"""Bytes that are held in memory at a time."""
assert PIECE_BYTES % 65_536 == 0, "a piece holds whole SQLite pages and whole Wasm pages"

_READ_ONLY: Final = apsw.SQLITE_OPEN_READONLY

_LOOK: Final = "SELECT 1 FROM sqlite_schema"
"""Makes SQLite look at the database, and lock it."""


def way_out() -> str:
    """Say what to do about functions, collations and modules that a database needs."""
    way = spelled("Canister.on_connect", "--on-connect FILE.py")
    return f"{way} can define what is missing"


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """How a database is looked at before it is carried over."""

    setups: Sequence[Setup] = ()
    "Run on each connection that reads it."
    is_thorough: bool = False
    "Whether ``integrity_check`` takes the place of ``quick_check``."
    page_size: int | None = None
    "Bytes of a SQLite page that are wanted; None keeps what it has."
    scratch: Path | None = None
    "A folder for copies, where one is needed; None for the system's own."
    on_tick: Tick | None = None
    "Called while the check goes on."
    is_checked: bool = True
    "False for a copy that somebody else checks."


class DatabaseSource:
    """A sound database in one file, which nobody changes meanwhile.

    Attributes:
        page_size: Bytes of a SQLite page.
        size_bytes: Bytes of the database; the file may be longer.
        notes: What its user should know, a sentence each.
    """

    def __init__(
        self,
        file: apsw.VFSFile,
        *,
        is_unchanged: Callable[[], bool],
        page_size: int,
        size_bytes: int,
        notes: tuple[str, ...],
    ) -> None:
        """Read by ``file``; what was read counts if ``is_unchanged`` in the end."""
        self._file = file
        self._is_unchanged = is_unchanged
        self.page_size = page_size
        self.size_bytes = size_bytes
        self.notes = notes

    def pieces(self) -> Iterator[tuple[int, bytes]]:
        """Yield the database in order, each piece with its offset and at most `PIECE_BYTES`.

        It needs no file beside it, and its header states its size.

        Raises:
            ImageError: Somebody else has changed the file, or it cannot be read.
        """
        for offset in range(0, self.size_bytes, PIECE_BYTES):
            length = min(PIECE_BYTES, self.size_bytes - offset)
            piece = self.read(offset, length)
            if len(piece) < length:
                end = offset + len(piece)
                raise ImageError(
                    f"the database file ends at byte {end} now; somebody else has cut it off"
                )
            yield offset, piece if offset else stand_alone(piece, self.size_bytes)
        if not self._is_unchanged():
            raise ImageError("somebody else has changed the database while it was read; try again")

    def read(self, offset: int, length: int) -> bytes:
        """Return bytes as they lie in the file; fewer at its end.

        Raises:
            ImageError: It cannot be read.
        """
        try:
            return self._file.xRead(length, offset)
        except apsw.Error as error:
            raise ImageError(f"the database file cannot be read: {error}") from error


@contextmanager
def open_source(
    database: Path | str | bytes, options: SourceOptions | None = None
) -> Iterator[DatabaseSource]:
    """Open a SQLite database for reading, after checking it whole.

    Args:
        database: Its file, which is only read; or its bytes.
        options: How it is looked at.

    Raises:
        ImageError: There is no such file, or it is not a whole, sound database.
        SettingsError: SQLite pages cannot have the size that is wanted.
    """
    options = options or SourceOptions()
    resolve_settings(page_size=options.page_size)
    with ExitStack() as stack:
        if isinstance(database, bytes):
            name, path = "the database", _folder(stack, options) / "bytes"
            path.write_bytes(database)
        else:
            name = str(database)
            _check_name(Path(database))
            # SQLite takes some words for something else, but no absolute path; what belongs to a
            # database lies beside the file itself, not beside a link to it.
            path = Path(os.path.realpath(database))
        try:
            if is_open_here(path):
                target = _folder(stack, options) / "elsewhere"
                call_elsewhere(_COPY, str(path), name, str(target))
                path = target
            source = _Reading(path, name, options, stack).source()
        except (apsw.Error, OSError) as error:
            raise ImageError(_refusal(name, error)) from error
        yield source


def copy_database(path: str, name: str, target: str) -> None:
    """Copy a database, with what is committed beside it, into one file.

    Args:
        path: The database, without links.
        name: What errors call it.
        target: The copy, which is not there yet.

    Raises:
        ImageError: It is no database, or cannot be read.
    """
    with ExitStack() as stack:
        try:
            source = _Reading(Path(path), name, SourceOptions(is_checked=False), stack).source()
        except (apsw.Error, OSError) as error:
            raise ImageError(_refusal(name, error)) from error
        with Path(target).open("xb") as file:
            file.writelines(piece for _, piece in source.pieces())


_COPY: Final = f"{__name__}:{copy_database.__name__}"


class _Reading:
    """The way from a file to a source."""

    def __init__(self, path: Path, name: str, options: SourceOptions, stack: ExitStack) -> None:
        self._path = path
        self._name = name
        self._options = options
        self._stack = stack
        self._before = _state(path)
        self._is_wal = False

    def source(self) -> DatabaseSource:
        self._is_wal = self._looks_like_wal()
        if self._is_wal:
            return self._source_in_wal_mode()
        inner = self._stack.enter_context(ExitStack())
        try:
            connection = self._held(self._path, inner)
        except (apsw.CantOpenError, apsw.ReadOnlyError):
            # A hot journal must be rolled back first, and not in the original.
            inner.close()
            return self._source_of_copy()
        return self._finished(self._path, connection)

    def _source_in_wal_mode(self) -> DatabaseSource:
        log, index = _beside(self._path, "-wal"), _beside(self._path, "-shm")
        if log.exists() and index.exists():
            # Without the parameter SQLite would write into the index of the log.
            return self._finished(None, self._held(self._path, self._stack, "?readonly_shm=1"))
        if _size(log):
            return self._source_of_copy()
        # SQLite would make a log and an index, if only to read.
        return self._finished(self._path, self._held(self._path, self._stack, "?immutable=1"))

    def _source_of_copy(self) -> DatabaseSource:
        copy = _folder(self._stack, self._options) / "copy"
        with ExitStack() as brief:
            _copy(_open_file(self._path, brief), copy)
        for suffix in ("-wal", "-journal"):
            if _beside(self._path, suffix).exists():
                shutil.copyfile(_beside(self._path, suffix), _beside(copy, suffix))
        if not self._is_unchanged():
            raise ImageError(f"{self._name} was changed while it was read; close it, and try again")
        with ExitStack() as brief:
            connection = self._connect(copy, brief, flags=apsw.SQLITE_OPEN_READWRITE)
            connection.execute(f"PRAGMA journal_mode = delete; {_LOOK}").fetchall()
        return self._finished(copy, self._held(copy, self._stack))

    def _finished(self, path: Path | None, connection: apsw.Connection) -> DatabaseSource:
        """Check the database; its bytes are in ``path``, or those of one instant in none yet."""
        options = self._options
        findings = Findings((), ())
        if options.is_checked:
            findings = check(
                connection,
                setups=options.setups,
                is_thorough=options.is_thorough,
                on_tick=options.on_tick,
            )
        if findings.damage:
            raise ImageError(f"{self._name} is damaged: {'; '.join(findings.damage)}")
        notes = [f"{self._name}: {gap}; {way_out()}" for gap in findings.gaps]
        page_size = _number(connection, "page_size")
        if options.page_size not in (None, page_size):
            path = self._paginated(connection, findings)
            notes.append(
                f"{self._name} has SQLite pages of {page_size} bytes, and its copy of "
                f"{options.page_size}; rowids without an INTEGER PRIMARY KEY may be others there"
            )
        elif path is None:
            path = self._backup(connection)
        if path != self._path:
            connection = self._connect(path, self._stack)
        page_size = _number(connection, "page_size")
        return DatabaseSource(
            _open_file(path, self._stack),
            # A copy is nobody else's.
            is_unchanged=self._is_unchanged if path == self._path else lambda: True,
            page_size=page_size,
            size_bytes=page_size * _number(connection, "page_count"),
            notes=tuple(notes),
        )

    def _is_unchanged(self) -> bool:
        return _state(self._path) == self._before

    def _paginated(self, connection: apsw.Connection, findings: Findings) -> Path:
        """Make a copy with SQLite pages of the size that is wanted."""
        if findings.collations:
            raise ImageError(
                f"{self._name} cannot be copied with SQLite pages of another size: there is no "
                f"collation {findings.collations[0]} here to sort its indexes by; {way_out()}"
            )
        if self._is_wal:
            # SQLite never changes the size in that mode.
            connection = self._connect(self._backup(connection), self._stack)
        path = _folder(self._stack, self._options) / "paginated"
        if connection.in_transaction:
            connection.execute("COMMIT")
        try:
            connection.execute(f"PRAGMA page_size = {self._options.page_size}")
            connection.execute("VACUUM main INTO ?", (str(path),))
        except apsw.SQLError as error:
            raise ImageError(
                f"{self._name} cannot be copied with SQLite pages of another size: {error}; "
                f"{way_out()}"
            ) from error
        return path

    def _backup(self, connection: apsw.Connection) -> Path:
        """Copy what the connection's transaction sees, the log's SQLite pages among it."""
        path = _folder(self._stack, self._options) / "backup"
        with ExitStack() as brief:
            copy = apsw.Connection(str(path))
            brief.callback(copy.close, force=True)
            copy.execute("PRAGMA journal_mode = off; PRAGMA synchronous = off").fetchall()
            with copy.backup("main", connection, "main") as backup:
                backup.step(-1)
            # The header is that of the original.
            copy.execute("PRAGMA journal_mode = delete").fetchall()
        return path

    def _held(self, path: Path, stack: ExitStack, query: str = "") -> apsw.Connection:
        """Return a connection that sees the database as it is now, to its end."""
        connection = self._connect(path, stack, query)
        if not connection.in_transaction:
            connection.execute("BEGIN")
        connection.execute(_LOOK).fetchall()
        return connection

    def _connect(
        self, path: Path, stack: ExitStack, query: str = "", *, flags: int = _READ_ONLY
    ) -> apsw.Connection:
        if query:
            connection = apsw.Connection(path.as_uri() + query, flags=flags | apsw.SQLITE_OPEN_URI)
        else:
            connection = apsw.Connection(str(path), flags=flags)
        stack.callback(connection.close, force=True)
        # Where they could write, they have no business.
        prepare(connection, self._options.setups if flags == _READ_ONLY else ())
        return connection

    def _looks_like_wal(self) -> bool:
        """Refuse what is no whole database; returns whether a log may belong to it."""
        with ExitStack() as brief:
            file = _open_file(self._path, brief)
            first_bytes, size_bytes = file.xRead(HEADER_BYTES, 0), file.xFileSize()
        if first_bytes.startswith(MANAGER_SIGNATURE):
            raise ImageError(
                f"{self._name} is an image of stable memory, no SQLite database; sqlstable extract "
                f"{self._name} APP.db takes its database out"
            )
        try:
            header = parse_header(first_bytes)
        except ImageError as error:
            raise ImageError(f"{self._name}: {error}") from error
        if header is None:
            start = first_bytes[: len(SQLITE_MAGIC)]
            raise ImageError(f"{self._name} is not a SQLite database: it begins with {start!r}")
        is_alone = not any(_beside(self._path, it).exists() for it in ("-wal", "-journal"))
        if header.size_bytes > size_bytes and is_alone:
            raise ImageError(
                f"{self._name} is truncated: its header states {header.sqlite_page_count} SQLite "
                f"pages of {header.page_size} bytes, {header.size_bytes} in all, and the file has "
                f"{size_bytes}"
            )
        # Whatever the header says, SQLite heeds a log that is there.
        return header.is_wal or _size(_beside(self._path, "-wal")) > 0


# -- inside ---------------------------------------------------------------------------------------


def _check_name(path: Path) -> None:
    if not os.path.isfile(path):  # noqa: PTH113  also for a name that is too long
        raise ImageError(f"{path} is not a file; give the path of a SQLite database")
    try:
        os.fsencode(os.path.realpath(path)).decode()
    except UnicodeDecodeError:
        raise ImageError(
            f"{path} has a name that is no UTF-8, as SQLite's names are; rename it"
        ) from None
    if not os.access(path, os.R_OK):
        raise ImageError(f"{path} cannot be read: Permission denied")


def _folder(stack: ExitStack, options: SourceOptions) -> Path:
    return Path(stack.enter_context(TemporaryDirectory(dir=options.scratch)))


def _open_file(path: Path, stack: ExitStack) -> apsw.VFSFile:
    # As a main database, so that SQLite minds the locks that this process has on it.
    file = apsw.VFSFile("", str(path), [apsw.SQLITE_OPEN_MAIN_DB | _READ_ONLY, 0])
    stack.callback(file.xClose)
    return file


def _copy(file: apsw.VFSFile, target: Path) -> None:
    with target.open("xb") as copy:
        size_bytes = file.xFileSize()
        for offset in range(0, size_bytes, PIECE_BYTES):
            # Not beyond the end: there APSW takes zeros for bytes that were not read.
            copy.write(file.xRead(min(PIECE_BYTES, size_bytes - offset), offset))


def _state(path: Path) -> tuple[int, int, int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _number(connection: apsw.Connection, pragma: str) -> int:
    value = connection.pragma(pragma)
    assert isinstance(value, int)
    return value


def _refusal(name: str, error: Exception) -> str:
    if isinstance(error, apsw.BusyError):
        return f"{name} cannot be read now: {error}; somebody else is writing to it, try again"
    reason = (isinstance(error, OSError) and error.strerror) or str(error)
    return f"{name} cannot be read as a SQLite database: {reason}"
