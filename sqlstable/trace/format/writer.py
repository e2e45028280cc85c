"""Writing a trace file: records of `sqlstable.trace.model` become rows and blocks."""

import gc
import json
import os
import sqlite3
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from operator import attrgetter
from pathlib import Path
from time import monotonic
from typing import Final, Self

from sqlstable.errors import TraceError
from sqlstable.ic.accesses import Accesses
from sqlstable.trace.blocks import EMPTY_BLOCK, encode_accesses
from sqlstable.trace.format.estimating import estimate
from sqlstable.trace.format.reader import Trace, open_trace
from sqlstable.trace.format.schema import (
    TRACE_APPLICATION_ID,
    TRACE_FORMAT_VERSION,
    schema,
)
from sqlstable.trace.format.storage import (
    Row,
    SharedConnection,
    application_and_version,
    connected,
    writing,
)
from sqlstable.trace.format.waiting_rows import WaitingRows
from sqlstable.trace.format.write_lock import WriteLock, is_being_written
from sqlstable.trace.model import (
    AccessSpan,
    AddressRun,
    Message,
    OwnerRuns,
    SchemaObject,
    StableArea,
    Statement,
    TreeShape,
)

FLUSH_MESSAGES: Final = 256
"""Messages that wait at most before they are committed together.

One transaction for each message would take most of the time of short ones, and each call of SQLite
for few rows a third of it."""
_FLUSH_BLOCK_BYTES: Final = 256 * 1024
"""Bytes of blocks that wait at most, likewise."""

FLUSH_S: Final = 1.0
"""After so long the next message is committed at once: slow runs are the ones people watch."""

_BOUND_BLOCK_BYTES_MAX: Final = 1 << 20
"""Bytes of a block that are given to SQLite at once."""


_index_of, _message_of = attrgetter("index"), attrgetter("message")


class TraceWriter:
    """Writes a trace file message by message, or a trace in memory.

    A context manager. After a failed write (a full disk, say) the file holds the messages
    committed before, and every further write fails.

    Examples:
        >>> with TraceWriter(None, {"engine": "native"}) as writer:
        ...     writer.update_settings({"sqlite": "3.54.1"})
        >>> with writer.trace() as trace:
        ...     trace.settings["sqlite"], trace.messages
        ('3.54.1', ())
    """

    def __init__(
        self,
        path: Path | str | None,
        settings: Mapping[str, object],
        *,
        overwrite: bool = False,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """Begin a trace.

        Args:
            path: The file to create; None keeps the trace in memory.
            settings: The circumstances of the run, as values that JSON knows; tuples come back
                as lists. ``closed`` is set by the writer.
            overwrite: Replace an existing trace. A file that is no trace is never replaced, nor
                a trace that is still being written.
            clock: Tells seconds. It decides when rows are committed, and is in none of them.

        Raises:
            TraceError: The file exists, or is being written, or cannot be created, or a setting
                is not JSON.
        """
        rows = _setting_rows({**settings, "closed": False})
        self._path = None if path is None else Path(path)
        self._name = "the trace in memory" if path is None else str(path)
        self._process = os.getpid()
        self._closed = False
        self._failure: str | None = None
        self._clock, self._flushed_s = clock, clock()
        with writing(self._name):
            self._shared = SharedConnection(_created(self._path, overwrite=overwrite))
        self._inserts = _insert_statements(self._shared.connection)
        self._rows = WaitingRows(self._inserts)
        self._has_begun = False
        "Whether waiting rows are being written, or are there and not forgotten yet."
        self._trees_skipped = ""
        # Also runs when the writer is collected: a trace in memory stays readable until then.
        self._release = weakref.finalize(self, self._shared.release)
        self._rows["settings"] += rows
        self._flush()
        self._unlock = None if path is None else _locked(self, Path(path))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def is_open(self) -> bool:
        """Whether more can be added: it is not closed, no write has failed, and nobody forked."""
        return self._failure is None and os.getpid() == self._process

    def write(  # noqa: PLR0913  all that there is to say of a message, in one go
        self,
        message: Message,
        statements: Sequence[Statement],
        *,
        statement_accesses: Mapping[int, Iterable[Accesses]] | None = None,
        outside_accesses: Sequence[Iterable[Accesses]] = (),
        owner_runs: Sequence[OwnerRuns] = (),
        areas: Sequence[StableArea] = (),
        owner_fault: str | None = None,
        address_runs: Sequence[AddressRun] = (),
        order: Sequence[AccessSpan] = (),
    ) -> None:
        """Add a message that has ended.

        Args:
            message: Its index is larger than that of every message before.
            statements: All statements of the message, in the order of ``message.statements``.
            statement_accesses: Ordered accesses by statement index; may lack statements.
            outside_accesses: Ordered accesses, one for each of ``message.outside``; or none.
            owner_runs: Owners of SQLite pages as far as they changed with this message, or turn out
                to have been since an earlier one.
            areas: What stable memory consists of now, where its size changed; else none.
            owner_fault: Why owners are unknown now, where that changed; empty: they are whole.
            address_runs: Whose addresses outside of the main database file have become known.
            order: How the accesses followed each other, all of them; empty: statement by statement,
                then what is outside, in phases that nobody knows.

        Raises:
            TraceError: The trace is closed, or cannot be written.
        """
        assert tuple(map(_index_of, statements)) == message.statements
        assert {message.index}.issuperset(map(_message_of, (*statements, *areas)))
        assert len(outside_accesses) in (0, len(message.outside))
        by_index = statement_accesses or {}
        assert by_index.keys() <= set(message.statements)
        self._check_open()
        # Blocks come first: an error in what yields the accesses leaves nothing half written. After
        # an exception from outside, what is half written is taken back next time.
        blocks = [(index, encode_accesses(chunks)) for index, chunks in by_index.items()]
        outside_blocks = [*map(encode_accesses, outside_accesses)]
        rows = self._rows
        rows.add_message(message, order)
        for statement in statements:
            rows.add_statement(statement)
        for runs in owner_runs:
            rows.add_owner_runs(runs)
        # Most messages have neither, and each would be a call.
        if address_runs:
            rows.add_address_runs(message.index, address_runs)
        if areas:
            rows.add_areas(areas)
        if owner_fault is not None:
            rows["owner_fault"].append((message.index, owner_fault))
        for index, block in blocks:
            rows.block_bytes += len(block)
            if block != EMPTY_BLOCK:
                rows["statement_accesses"].append((index, block))
        for position, block in enumerate(outside_blocks):
            rows.block_bytes += len(block)
            if block != EMPTY_BLOCK:
                rows["outside_accesses"].append((message.index, position, block))
        rows.message_count += 1
        rows.whole = None
        if (
            rows.message_count >= FLUSH_MESSAGES
            or rows.block_bytes >= _FLUSH_BLOCK_BYTES
            or self._clock() - self._flushed_s >= FLUSH_S
        ):
            self._flush()

    def write_areas(self, areas: Sequence[StableArea]) -> None:
        """Add what stable memory consists of, after a message that was written without.

        Args:
            areas: All areas of one message; of each message they are written at most once.

        Raises:
            TraceError: The trace is closed or cannot be written.
        """
        self._check_open()
        self._rows.add_areas(areas)
        self._flush()

    def write_end(
        self, objects: Sequence[SchemaObject], trees: Sequence[TreeShape], *, trees_skipped: str
    ) -> None:
        """Say what the main database is at last; what was said before is replaced.

        Args:
            objects: The rows of its sqlite_schema.
            trees: Its B-trees.
            trees_skipped: Why there are none; else empty.

        Raises:
            TraceError: The trace is closed or cannot be written.
        """
        self._check_open()
        self._rows.add_end(objects, trees)
        if trees_skipped != self._trees_skipped:
            self._trees_skipped = trees_skipped
            self._rows["settings"] += _setting_rows({"trees_skipped": trees_skipped or None})
        self._flush()

    def update_settings(self, values: Mapping[str, object]) -> None:
        """Add settings, or replace them.

        Raises:
            TraceError: A value is not JSON, or the trace is closed or cannot be written.
        """
        self._check_open()
        self._rows["settings"] += _setting_rows({**values, "closed": False})
        self._flush()

    def trace(self) -> Trace:
        """Return a reader of what has been written so far.

        It stays readable after the writer is closed, and has to be closed on its own.

        Raises:
            TraceError: The trace cannot be written or read.
        """
        self._check_process()
        if self._release.alive:
            if self._failure is None:
                self._flush()
                self._estimate()
            return Trace(self._shared.use(), self._name)
        assert self._path is not None, "a trace in memory ends with its writer"
        return open_trace(self._path)

    def close(self) -> None:
        """Write what is waiting, mark the trace as complete, and close the file; idempotent.

        Raises:
            TraceError: The trace cannot be written.
        """
        if self._closed:
            return
        if os.getpid() != self._process:
            # What waits is the parent's to write, and SQLite's connection the parent's to close.
            self._closed = True
            self._release.detach()
            return
        try:
            if self._failure is None:
                self._rows["settings"] += _setting_rows({"closed": True})
                self._flush()
                self._estimate()
                self._failure = f"{self._name} is closed"
                # Back to one file, which can be copied alone and read from anywhere. Where
                # somebody is reading it right now it stays as it is, readable nevertheless.
                with suppress(sqlite3.OperationalError):
                    self._shared.connection.execute("PRAGMA journal_mode = DELETE").fetchall()
        except Exception:
            self._let_go()
            raise
        # Not after an exception from outside: then it can be closed again.
        self._let_go()

    def _let_go(self) -> None:
        self._closed = True
        self._failure = self._failure or f"{self._name} is closed"
        if self._path is not None:
            self._release()
        if self._unlock is not None:
            self._unlock()

    def _check_process(self) -> None:
        if os.getpid() != self._process:
            raise TraceError(
                f"{self._name} is written by process {self._process}, of which this one is a fork; "
                "begin a trace of its own here"
            )

    def _check_open(self) -> None:
        self._check_process()
        if self._failure is not None:
            raise TraceError(f"{self._failure}; nothing more can be added to it")
        self._settle()

    def _flush(self) -> None:
        """Commit all waiting rows in one transaction."""
        connection = self._shared.connection
        self._settle()
        try:
            with writing(self._name):
                connection.execute("BEGIN")
                self._has_begun = True
                if self._rows.has_end:
                    connection.execute("DELETE FROM schema_object")
                    connection.execute("DELETE FROM tree")
                for table, rows in self._rows.items():
                    if table == "statement_accesses":
                        self._insert_blocks(rows)
                    elif rows:
                        connection.executemany(self._inserts[table], rows)
                connection.execute("COMMIT")
        except BaseException as error:
            # An interrupt leaves the rows waiting for next time; an error of SQLite is final.
            if isinstance(error, TraceError):
                self._failure = str(error)
            self._settle()
            raise
        self._forget_waiting()

    def _estimate(self) -> None:
        """Say what messages cost, as far as they were not measured and others stand for them."""
        if not self._rows.has_samples:
            return
        connection = self._shared.connection
        with writing(self._name):
            connection.execute("BEGIN")
            estimate(connection)
            connection.execute("COMMIT")

    def _settle(self) -> None:
        """Undo or finish what an exception from outside has cut off, wherever that was.

        It may be cut off as well, and be done again.
        """
        if self._shared.connection.in_transaction:
            self._has_begun = False
            self._shared.connection.execute("ROLLBACK")
        elif self._has_begun:
            # The rows are committed.
            self._forget_waiting()
        if self._rows.whole is not None:
            self._rows.take_back()

    def _forget_waiting(self) -> None:
        self._rows.forget()
        self._has_begun = False
        self._flushed_s = self._clock()

    def _insert_blocks(self, rows: Sequence[Row]) -> None:
        """Insert access blocks, large ones piece by piece: SQLite would copy them twice."""
        connection, insert = self._shared.connection, self._inserts["statement_accesses"]
        connection.executemany(insert, [row for row in rows if not _is_large(row)])
        for index, block in filter(_is_large, rows):
            connection.execute(
                "INSERT INTO statement_accesses VALUES (?, zeroblob(?))",
                (index, len(block)),
            )
            with connection.blobopen("statement_accesses", "block", index) as blob:
                view = memoryview(block)
                for start in range(0, len(block), _BOUND_BLOCK_BYTES_MAX):
                    blob.write(view[start : start + _BOUND_BLOCK_BYTES_MAX])


def _locked(writer: TraceWriter, path: Path) -> Callable[[], object]:
    """Lock the trace of a writer; returns what unlocks it, as its collection does."""
    return weakref.finalize(writer, WriteLock(path).release)


def _is_large(row: Row) -> bool:
    return len(row[1]) > _BOUND_BLOCK_BYTES_MAX


def _created(path: Path | None, *, overwrite: bool) -> sqlite3.Connection:
    """Return a connection to a new trace with all tables and no rows."""
    if path is not None:
        _make_way(path, overwrite=overwrite)
    # Without a name SQLite keeps a file that nobody else sees and that goes with the process: what
    # its cache holds is in memory, and the rest on disk.
    connection = connected("" if path is None else path.absolute().as_uri())
    try:
        connection.executescript(
            f"PRAGMA page_size = 4096; PRAGMA synchronous = OFF; BEGIN;"
            f"PRAGMA application_id = {TRACE_APPLICATION_ID};"
            f"PRAGMA user_version = {TRACE_FORMAT_VERSION}; {schema()} COMMIT;"
        )
        # Readers need no lock and no permission to undo a write that was cut off. A file system
        # that cannot do it leaves the mode as it was.
        with suppress(sqlite3.OperationalError):
            connection.execute("PRAGMA journal_mode = WAL").fetchall()
    except BaseException:
        connection.close()
        if path is not None:
            path.unlink(missing_ok=True)
        raise
    return connection


def _insert_statements(connection: sqlite3.Connection) -> dict[str, str]:
    """Return one INSERT per table, in the order of the schema, which is that of references."""
    tables = connection.execute(
        "SELECT tables.name, count(*) FROM sqlite_master AS tables, pragma_table_info(tables.name)"
        " WHERE tables.type = 'table' GROUP BY tables.rowid ORDER BY tables.rowid"
    ).fetchall()
    return {
        name: f"INSERT INTO {name} VALUES ({', '.join('?' * count)})"  # noqa: S608  our own names
        for name, count in tables
    }


def check_way(path: Path, *, overwrite: bool) -> None:
    """Refuse a file that is there already and may not be replaced by a trace.

    Raises:
        TraceError: It is no trace, or still being written, or nobody asked for overwriting.
    """
    if not path.exists():
        return
    found = None if path.is_dir() else application_and_version(path)
    if found is None or found[0] != TRACE_APPLICATION_ID:
        raise TraceError(f"{path} exists and is not a trace; choose another file")
    if not overwrite:
        raise TraceError(f"{path} exists; remove it, choose another file, or ask for overwriting")
    if is_being_written(path):
        # By one that nobody has any more, it may be, and that waits for its collection.
        gc.collect()
    if is_being_written(path):
        raise TraceError(
            f"{path} is still being written; close its canister, let its run end, or choose "
            "another file"
        )


def _make_way(path: Path, *, overwrite: bool) -> None:
    """Remove an older trace, if there is one and it may go."""
    check_way(path, overwrite=overwrite)
    for suffix in ("", "-wal", "-shm", "-journal"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _setting_rows(values: Mapping[str, object]) -> list[Row]:
    rows: list[Row] = []
    for name, value in values.items():
        try:
            rows.append((name, json.dumps(value, allow_nan=False)))
        except (TypeError, ValueError) as error:
            raise TraceError(f"the setting {name} cannot be kept as JSON: {error}") from error
    return rows
