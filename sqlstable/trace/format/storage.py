"""The SQLite file beneath a trace: its connections, its header, and what is told when it fails."""

import errno
import os
import sqlite3
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Self, TypeAlias

from sqlstable.errors import TraceError

Row = tuple[Any, ...]
"""One row of a table, or of a query's result."""


Connection: TypeAlias = sqlite3.Connection
"""For modules that make no connection themselves."""

Select = Callable[[str, Mapping[str, object]], list[Row]]
"""Runs a query on a trace, with named parameters, and returns all rows."""

OF_MESSAGES: Final = "message_index BETWEEN :first_message AND :last_message"
OF_STATEMENTS: Final = "statement_index BETWEEN :first_statement AND :last_statement"
"""Conditions by which a query bounds itself."""


class TracePart:
    """A trace as it was at one moment, or a part of it: later messages are not seen.

    A message is in the file whole or not at all, and its rows never change. So a bound on the
    indexes is as good as one long transaction, and holds nobody up who goes on writing.
    """

    def __init__(
        self,
        select: Select,
        *,
        version: int,
        last_message: int,
        last_statement: int,
        first_message: int = 0,
        first_statement: int = 0,
    ) -> None:
        """Bound what ``select`` returns; the last indexes are -1 where there is none."""
        self.version = version
        self.last_message = last_message
        self.last_statement = last_statement
        self.first_message = first_message
        self.first_statement = first_statement
        self._select = select

    def of_statements(self, first: int, last: int) -> "TracePart":
        """Return the part with the statements from one index to another."""
        return self._part(first_statement=first, last_statement=last)

    def of_messages(self, first: int, last: int) -> "TracePart":
        """Return the part with the messages from one index to another, and their statements."""
        return self._part(
            first_message=first,
            last_message=last,
            first_statement=self._first_statement_from(first),
            last_statement=self._first_statement_from(last + 1) - 1,
        )

    def read_by(self, select: Select) -> "TracePart":
        """Return the same part, read by another connection."""
        return TracePart(select, version=self.version, **self._bounds())

    def _part(self, **bounds: int) -> "TracePart":
        return TracePart(self._select, version=self.version, **{**self._bounds(), **bounds})

    def _bounds(self) -> dict[str, int]:
        return {
            "first_message": self.first_message,
            "last_message": self.last_message,
            "first_statement": self.first_statement,
            "last_statement": self.last_statement,
        }

    def _first_statement_from(self, message: int) -> int:
        """Return the first statement of a message or a later one: they are in the same order."""
        return bisect_left(range(self.last_statement + 1), message, key=self._message_of)

    def _message_of(self, statement: int) -> int:
        sql = "SELECT message_index FROM statement WHERE statement_index = :statement"
        [(message,)] = self._select(sql, {"statement": statement})
        return int(message)

    def select(self, sql: str, **parameters: object) -> list[Row]:
        """Run a query that bounds itself by ``:last_message`` or ``:last_statement``."""
        return self._select(sql, {**self._bounds(), **parameters})

    def select_of_messages(self, sql: str, order: str) -> list[Row]:
        """Return rows that have a ``message_index``."""
        return self.select(f"{sql} WHERE {OF_MESSAGES} ORDER BY {order}")

    def select_of_statements(self, sql: str, order: str | None = None) -> list[Row]:
        """Return rows that have a ``statement_index``, in its order, then in another one."""
        keys = "statement_index" if order is None else f"statement_index, {order}"
        return self.select(f"{sql} WHERE {OF_STATEMENTS} ORDER BY {keys}")


class SharedConnection:
    """A connection that is closed when its last user lets go of it."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self._users = 1

    def use(self) -> Self:
        """Return itself, for one user more."""
        self._users += 1
        return self

    def release(self) -> None:
        """Let go of it, on behalf of one user."""
        self._users -= 1
        if self._users == 0:
            self.connection.close()


@contextmanager
def writing(name: str) -> Iterator[None]:
    """Turn errors of writing the named trace into `TraceError`."""
    try:
        yield
    except (sqlite3.Error, OSError, OverflowError, UnicodeError) as error:
        raise TraceError(f"{name} cannot be written: {error}") from error


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Turn errors of reading the named trace, or its rows, into `TraceError`."""
    try:
        yield
    except MemoryError as error:  # what SQLite's own refusal to allocate becomes
        raise TraceError(
            f"{name} is damaged, or needs more memory than there is; record it again"
        ) from error
    except (sqlite3.Error, ValueError, TypeError, LookupError) as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK) & 0xFF
        if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
            way_out = "if its run was cut off, copy it with its -wal file to a writable folder"
            raise TraceError(f"{name} cannot be read: {error}; {way_out}") from error
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise TraceError(f"{name} cannot be read now: {error}; try again later") from error
        raise TraceError(f"{name} is damaged: {error}; record it again") from error


def connected(uri: str) -> sqlite3.Connection:
    """Return a connection that leaves transactions to its user."""
    # The garbage collector may close a connection in any thread.
    return sqlite3.connect(
        uri, uri=True, timeout=1.0, isolation_level=None, check_same_thread=False
    )


def application_and_version(path: Path) -> tuple[int, int] | None:
    """Return ``application_id`` and ``user_version`` of a SQLite file; None for any other file.

    SQLite itself looks, lest closing a descriptor of ours gave up the locks with which this
    process writes the trace: then the next reader would take its log in, and delete it.
    """
    if _is_empty(path):
        return None
    has_log = path.with_name(f"{path.name}-wal").exists()
    with reading(str(path)):
        # With a log it must be one that SQLite reads, or the file may be only half up to date;
        # without one SQLite would make it.
        for options in ("readonly_shm=1", "immutable=1") if has_log else ("immutable=1",):
            try:
                return _look(f"{path.absolute().as_uri()}?mode=ro&{options}")
            except sqlite3.DatabaseError as error:
                code = error.sqlite_errorcode & 0xFF
                if code == sqlite3.SQLITE_NOTADB:
                    return None
                if code != sqlite3.SQLITE_CANTOPEN or options == "immutable=1":
                    raise
    raise AssertionError


def _is_empty(path: Path) -> bool:
    """Whether nothing is in a file; refuses what cannot be read, which SQLite says less clearly."""
    try:
        size_bytes = path.stat().st_size
    except FileNotFoundError as error:
        raise TraceError(f"there is no trace file {path}; sqlstable run records one") from error
    except OSError as error:
        raise TraceError(f"{path} cannot be read: {error.strerror}") from error
    if path.is_dir():
        raise TraceError(f"{path} cannot be read: {os.strerror(errno.EISDIR)}")
    if not os.access(path, os.R_OK):
        raise TraceError(f"{path} cannot be read: {os.strerror(errno.EACCES)}")
    return size_bytes == 0


def _look(uri: str) -> tuple[int, int]:
    connection = connected(uri)
    try:
        [(application_id,)] = connection.execute("PRAGMA application_id")
        [(version,)] = connection.execute("PRAGMA user_version")
    finally:
        connection.close()
    return int(application_id) & 0xFFFFFFFF, int(version)
