"""The trace file: a SQLite database that any SQLite tool can open.

``PRAGMA application_id`` is ``TRACE_APPLICATION_ID``, ``PRAGMA user_version`` the format version.
The tables are those below; each column is explained by a comment in the schema itself, so
``.schema`` in the ``sqlite3`` shell is the reference. Indexes count from 0, SQLite pages from 1.

=====================  ===================================================================
table                  one row for each
=====================  ===================================================================
``settings``           setting of the run, as JSON; ``closed`` is false while it is written
``message``            message
``message_limit``      limit of a message; a ``limit_value`` of NULL is no limit
``outside``            use of stable memory by no statement, under the name of its cause
``sql_text``           SQL text with its shape and kind; equal texts share a row
``plan``               line of a query plan; equal plans share an index
``statement``          statement, with SQLite's counters
``statement_phase``    phase of a statement: prepare, run, commit
``owner``              owner of SQLite pages: table, index, freelist …
``statement_owner``    owner whose OS pages a statement touched
``owner_run``          run of SQLite pages that has had one owner since a message
``statement_accesses`` statement that touched stable memory: its ordered accesses, as a block
``outside_accesses``   outside entry, likewise
=====================  ===================================================================

The blocks are those of ``sqlstable.trace.blocks``; all else is plain rows. The views
``statements``, ``shapes``, ``statement_owners`` and ``owner_runs`` join what belongs together.

Invariants:

* A message is in the file whole or not at all.
* A run that is killed leaves a readable trace: it lacks at most the last ``_FLUSH_MESSAGES``
  messages, fewer where these made many accesses, and its setting ``closed`` is false.
* Equal runs give equal bytes: no clock, no random names, nothing that depends on speed.
* What a reader gives back equals what was written, integers from -2**63 to 2**63 - 1. One value
  of the model is larger: ``NO_LIMIT``, 2**64 - 1, which is kept as NULL.

Limitations: not safe against power loss. While the file is written, and after a kill, its newest
rows are in ``-wal`` beside it; both stay together until a tool that may write has opened them.
"""

import importlib
import json
import sqlite3
import weakref
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property, lru_cache
from operator import attrgetter
from pathlib import Path
from typing import Any, Final, Self

from sqlstable.errors import TraceError
from sqlstable.ic.limits import NO_LIMIT
from sqlstable.trace.blocks import EMPTY_BLOCK, decode_accesses, encode_accesses
from sqlstable.trace.model import (
    PHASES,
    Accesses,
    Calls,
    LimitUse,
    Message,
    OutsideUse,
    OwnerRun,
    OwnerUse,
    SqliteCounters,
    StableUse,
    Statement,
    TraceSettings,
)

TRACE_FORMAT_VERSION: Final = 1
"""``PRAGMA user_version`` of the trace files written here."""

TRACE_APPLICATION_ID: Final = int.from_bytes(b"SqSt", "big")
"""``PRAGMA application_id`` of a trace file: the bytes ``SqSt`` at offset 68."""

# Rows wait for so many messages, or bytes of blocks, and are then committed together: one
# transaction for each message would take most of the time of short ones.
_FLUSH_MESSAGES: Final = 16
_FLUSH_BLOCK_BYTES: Final = 256 * 1024
# Texts known by their index. Forgetting them all costs a few double rows, never correctness.
_KNOWN_MAX: Final = 1 << 16

_STABLE_FIELDS: Final = (
    *("calls.read", "calls.write", "calls.size", "calls.grow", "bytes_read", "bytes_written"),
    *("os_pages_accessed", "os_pages_dirty", "wasm_pages_accessed", "wasm_pages_dirty"),
)
_STABLE_NAMES: Final = tuple(field.replace(".", "_") for field in _STABLE_FIELDS)
_COUNTER_NAMES: Final = ("hits", "vm_steps", "fullscan_steps", "sorts")
_STABLE_COLUMNS: Final = """-- calls of the stable memory API, and bytes moved by them
  calls_read INTEGER NOT NULL, calls_write INTEGER NOT NULL,
  calls_size INTEGER NOT NULL, calls_grow INTEGER NOT NULL,
  bytes_read INTEGER NOT NULL, bytes_written INTEGER NOT NULL,
  -- OS pages (4096 B) and Wasm pages (65 536 B), each counted once: accessed is read or written,
  -- dirty is written, even with equal bytes
  os_pages_accessed INTEGER NOT NULL, os_pages_dirty INTEGER NOT NULL,
  wasm_pages_accessed INTEGER NOT NULL, wasm_pages_dirty INTEGER NOT NULL"""

_SCHEMA: Final = """
CREATE TABLE settings (
  name TEXT NOT NULL PRIMARY KEY ON CONFLICT REPLACE,
  value TEXT NOT NULL                   -- JSON; null where unknown
);
CREATE TABLE message (
  message_index INTEGER PRIMARY KEY,    -- from 0 over the whole trace
  kind TEXT NOT NULL,                   -- install, update, query, upgrade or reinstall
  label TEXT,                           -- as given by the script
  outcome TEXT NOT NULL,                -- committed, discarded or trapped
  trap TEXT,                            -- text of the trap
  discarded_writes INTEGER NOT NULL,    -- 1 for a query that wrote; its writes are gone
  cache TEXT,                           -- fresh, cold or warm; NULL for life-cycle steps
  image_bytes INTEGER NOT NULL,         -- size of stable memory when the message had ended
  {stable}
);
CREATE TABLE message_limit (            -- limit_value is NULL where there is no limit
  message_index INTEGER NOT NULL REFERENCES message, limit_index INTEGER NOT NULL,
  name TEXT NOT NULL, used INTEGER NOT NULL, limit_value INTEGER,
  PRIMARY KEY (message_index, limit_index)
) WITHOUT ROWID;
CREATE TABLE outside (
  message_index INTEGER NOT NULL REFERENCES message, outside_index INTEGER NOT NULL,
  name TEXT NOT NULL,                   -- what made the accesses: open, close, blob, backup …
  {stable},
  PRIMARY KEY (message_index, outside_index)
) WITHOUT ROWID;
CREATE TABLE sql_text (
  sql_index INTEGER PRIMARY KEY, sql TEXT NOT NULL,
  shape TEXT NOT NULL,                  -- the SQL with its literals replaced by ?
  kind TEXT NOT NULL                    -- read, write, ddl, transaction or pragma
);
CREATE TABLE plan (                     -- lines of EXPLAIN QUERY PLAN, indented by their depth
  plan_index INTEGER NOT NULL, line_index INTEGER NOT NULL, line TEXT NOT NULL,
  PRIMARY KEY (plan_index, line_index)
) WITHOUT ROWID;
CREATE TABLE statement (
  statement_index INTEGER PRIMARY KEY,  -- from 0 over the whole trace
  message_index INTEGER NOT NULL REFERENCES message,
  sql_index INTEGER NOT NULL REFERENCES sql_text,
  plan_index INTEGER,                   -- NULL where there is no plan
  row_count INTEGER NOT NULL,
  runs INTEGER NOT NULL,                -- more than 1 for executemany
  hits INTEGER,                         -- SQLite pages from SQLite's own cache; NULL: not asked
  vm_steps INTEGER, fullscan_steps INTEGER, sorts INTEGER,
  {stable}
);
CREATE TABLE statement_phase (
  statement_index INTEGER NOT NULL REFERENCES statement,
  phase TEXT NOT NULL,                  -- prepare, run or commit
  {stable},
  PRIMARY KEY (statement_index, phase)
) WITHOUT ROWID;
CREATE TABLE owner (
  owner_index INTEGER PRIMARY KEY, name TEXT NOT NULL,
  table_name TEXT NOT NULL,             -- the table that an index belongs to, or the table itself
  kind TEXT NOT NULL,                   -- table, index, freelist, pointer map, header …
  role TEXT NOT NULL                    -- interior, leaf, overflow, trunk, or empty
);
CREATE TABLE statement_owner (          -- by position, the most accessed first
  statement_index INTEGER NOT NULL REFERENCES statement, position INTEGER NOT NULL,
  owner_index INTEGER NOT NULL REFERENCES owner,
  os_pages_accessed INTEGER NOT NULL, os_pages_dirty INTEGER NOT NULL,
  PRIMARY KEY (statement_index, position)
) WITHOUT ROWID;
CREATE TABLE owner_run (
  run_number INTEGER PRIMARY KEY,       -- from 1, in the order in which they became true
  since_message INTEGER NOT NULL,       -- true from the end of this message on, until a later run
  first_sqlite_page INTEGER NOT NULL,   -- number of the first SQLite page, counted from 1
  sqlite_page_count INTEGER NOT NULL,
  owner_index INTEGER NOT NULL REFERENCES owner
);
CREATE TABLE statement_accesses (       -- ordered accesses; layout: sqlstable/trace/blocks.py
  statement_index INTEGER PRIMARY KEY REFERENCES statement, block BLOB NOT NULL
);
CREATE TABLE outside_accesses (         -- likewise, of an outside entry
  message_index INTEGER NOT NULL REFERENCES message, outside_index INTEGER NOT NULL,
  block BLOB NOT NULL, PRIMARY KEY (message_index, outside_index)
);
CREATE VIEW statements AS               -- statements with SQL, plan, message and phases
SELECT statement_index, message_index, message.kind AS message_kind, label, outcome, cache,
  sql_text.kind AS kind, sql, shape, ifnull((
    SELECT group_concat(line, char(10)) FROM plan WHERE plan.plan_index = statement.plan_index
  ), '') AS plan,
  row_count, runs, hits, vm_steps, fullscan_steps, sorts,
  {of_statement}, {of_prepare}, {of_run}, {of_commit}
FROM statement JOIN message USING (message_index) JOIN sql_text USING (sql_index)
  JOIN statement_phase AS prepare USING (statement_index)
  JOIN statement_phase AS run USING (statement_index)
  JOIN statement_phase AS "commit" USING (statement_index)
WHERE prepare.phase = 'prepare' AND run.phase = 'run' AND "commit".phase = 'commit';
CREATE VIEW shapes AS                   -- equal work together, the most OS pages first
SELECT shape, kind, count(*) AS statement_count, sum(runs) AS runs, sum(row_count) AS row_count,
  sum(os_pages_accessed) AS os_pages_accessed_sum, max(os_pages_accessed) AS os_pages_accessed_max,
  sum(os_pages_dirty) AS os_pages_dirty_sum, max(os_pages_dirty) AS os_pages_dirty_max,
  sum(bytes_read) AS bytes_read, sum(bytes_written) AS bytes_written
FROM statement JOIN sql_text USING (sql_index)
GROUP BY shape, kind ORDER BY os_pages_accessed_sum DESC;
CREATE VIEW statement_owners AS         -- whose OS pages each statement touched, by name
SELECT statement_index, position, name, table_name, kind, role, os_pages_accessed, os_pages_dirty
FROM statement_owner JOIN owner USING (owner_index);
CREATE VIEW owner_runs AS
-- Who owns SQLite page :number when message :message has ended:
--   SELECT * FROM owner_runs
--   WHERE since_message <= :message AND :number BETWEEN first_sqlite_page AND last_sqlite_page
--   ORDER BY since_message DESC, run_number DESC LIMIT 1
SELECT run_number, since_message, first_sqlite_page, sqlite_page_count,
  name, table_name, kind, role, first_sqlite_page + sqlite_page_count - 1 AS last_sqlite_page
FROM owner_run JOIN owner USING (owner_index);
"""

_Row = tuple[Any, ...]
_ToRow = Callable[[object], _Row]


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
    ) -> None:
        """Begin a trace.

        Args:
            path: The file to create; None keeps the trace in memory.
            settings: The circumstances of the run, as values that JSON knows; tuples come back
                as lists. ``closed`` is set by the writer.
            overwrite: Replace an existing trace. A file that is no trace is never replaced.

        Raises:
            TraceError: The file exists, or cannot be created, or a setting is not JSON.
        """
        rows = _setting_rows({**settings, "closed": False})
        self._path = None if path is None else Path(path)
        self._name = "the trace in memory" if path is None else str(path)
        self._closed = False
        self._failure: str | None = None
        self._waiting_messages = self._waiting_block_bytes = 0
        with _writing(self._name):
            self._shared = _Shared(_created(self._path, overwrite=overwrite))
        self._inserts = _insert_statements(self._shared.connection)
        self._rows: dict[str, list[_Row]] = {table: [] for table in self._inserts}
        self._sql_texts = _Numbers(self._rows["sql_text"])
        self._owners = _Numbers(self._rows["owner"])
        self._plans = _Numbers(self._rows["plan"])
        # Also runs when the writer is collected: a trace in memory stays readable until then.
        self._release = weakref.finalize(self, self._shared.release)
        self._rows["settings"] += rows
        self._flush()

    def __enter__(self) -> Self:
        """Return the writer."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the writer."""
        self.close()

    def write(
        self,
        message: Message,
        statements: Sequence[Statement],
        *,
        statement_accesses: Mapping[int, Iterable[Accesses]] | None = None,
        outside_accesses: Sequence[Iterable[Accesses]] = (),
        owner_runs: Sequence[OwnerRun] = (),
    ) -> None:
        """Add a message that has ended.

        Args:
            message: Its index is larger than that of every message before.
            statements: All statements of the message, in the order of ``message.statements``.
            statement_accesses: Ordered accesses by statement index; may lack statements.
            outside_accesses: Ordered accesses, one for each of ``message.outside``; or none.
            owner_runs: Owners of SQLite pages as far as they changed with this message.

        Raises:
            TraceError: The trace is closed, or cannot be written.
        """
        assert tuple(statement.index for statement in statements) == message.statements
        assert all(statement.message == message.index for statement in statements)
        assert len(outside_accesses) in (0, len(message.outside))
        by_index = statement_accesses or {}
        assert set(by_index) <= set(message.statements)
        self._check_open()
        # Blocks come first: an error in what yields the accesses leaves nothing half written.
        blocks = [(index, encode_accesses(chunks)) for index, chunks in by_index.items()]
        outside_blocks = [encode_accesses(chunks) for chunks in outside_accesses]
        self._add_message(message)
        for statement in statements:
            self._add_statement(statement)
        for run in owner_runs:
            self._add_owner_run(run)
        self._rows["statement_accesses"] += [row for row in blocks if row[1] != EMPTY_BLOCK]
        self._rows["outside_accesses"] += [
            (message.index, *row) for row in enumerate(outside_blocks) if row[1] != EMPTY_BLOCK
        ]
        self._waiting_messages += 1
        self._waiting_block_bytes += sum(len(block) for _, block in blocks)
        self._waiting_block_bytes += sum(map(len, outside_blocks))
        is_much = self._waiting_block_bytes >= _FLUSH_BLOCK_BYTES
        if is_much or self._waiting_messages >= _FLUSH_MESSAGES:
            self._flush()

    def update_settings(self, values: Mapping[str, object]) -> None:
        """Add settings, or replace them.

        Raises:
            TraceError: A value is not JSON, or the trace is closed or cannot be written.
        """
        self._check_open()
        self._rows["settings"] += _setting_rows({**values, "closed": False})
        self._flush()

    def trace(self) -> "Trace":
        """Return a reader of what has been written so far.

        It stays readable after the writer is closed, and has to be closed on its own.

        Raises:
            TraceError: The trace cannot be written or read.
        """
        if self._release.alive:
            if self._failure is None:
                self._flush()
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
        self._closed = True
        try:
            if self._failure is None:
                self._failure = f"{self._name} is closed"
                self._rows["settings"] += _setting_rows({"closed": True})
                self._flush()
                # Back to one file, which can be copied alone and read from anywhere. Where
                # somebody is reading it right now it stays as it is, readable nevertheless.
                with suppress(sqlite3.OperationalError):
                    self._shared.connection.execute("PRAGMA journal_mode = DELETE").fetchall()
        finally:
            if self._path is not None:
                self._release()

    def _check_open(self) -> None:
        if self._failure is not None:
            raise TraceError(f"{self._failure}; nothing more can be added to it")

    def _flush(self) -> None:
        """Commit all waiting rows in one transaction."""
        connection = self._shared.connection
        try:
            with _writing(self._name):
                connection.execute("BEGIN")
                for table, rows in self._rows.items():
                    if rows:
                        connection.executemany(self._inserts[table], rows)
                connection.execute("COMMIT")
        except BaseException as error:
            # An interrupt leaves the rows waiting for next time; an error of SQLite is final.
            if isinstance(error, TraceError):
                self._failure = str(error)
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        for rows in self._rows.values():
            rows.clear()
        self._waiting_messages = self._waiting_block_bytes = 0

    def _add_message(self, message: Message) -> None:
        index = message.index
        self._rows["message"].append(_message_row(message))
        self._rows["message_limit"] += [
            (index, position, use.name, use.used, None if use.limit == NO_LIMIT else use.limit)
            for position, use in enumerate(message.limits)
        ]
        self._rows["outside"] += [
            (index, position, use.name, *_stable_row(use.stable))
            for position, use in enumerate(message.outside)
        ]

    def _add_statement(self, statement: Statement) -> None:
        index, plan = statement.index, statement.plan
        texts = (statement.sql, statement.shape, statement.kind)
        sql_index = self._sql_texts.index(texts, [texts])
        plan_index = self._plans.index(plan, enumerate(plan)) if plan else None
        keys = (index, statement.message, sql_index, plan_index)
        self._rows["statement"].append(keys + _statement_row(statement))
        self._rows["statement_phase"] += [
            (index, phase, *_stable_row(statement.phases[phase])) for phase in PHASES
        ]
        self._rows["statement_owner"] += [
            (index, position, self._owner_index(use), use.os_pages_accessed, use.os_pages_dirty)
            for position, use in enumerate(statement.owners)
        ]

    def _add_owner_run(self, run: OwnerRun) -> None:
        span = (run.since_message, run.first_sqlite_page, run.sqlite_page_count)
        # SQLite numbers the rows itself, from 1.
        self._rows["owner_run"].append((None, *span, self._owner_index(run)))

    def _owner_index(self, owner: OwnerUse | OwnerRun) -> int:
        names = (owner.name, owner.table, owner.kind, owner.role)
        return self._owners.index(names, [names])


class Trace:
    """A trace, read back; a context manager. ``open_trace`` and ``TraceWriter.trace`` make one.

    Settings are read at once, everything else when it is first asked for. What has been read
    does not change any more, even if the trace is still being written. Reading raises
    ``TraceError`` where the file is damaged or closed, or an index is unknown.

    Attributes:
        settings: The circumstances of the run. ``settings["closed"]`` is False where the run
            was cut off, or still goes on.
    """

    def __init__(self, shared: "_Shared", name: str) -> None:
        """Take over one use of a connection; ``open_trace`` is the way in."""
        self._shared = shared
        self._name = name
        self._release = weakref.finalize(self, shared.release)
        try:
            with _reading(name):
                rows = self._select("SELECT name, value FROM settings ORDER BY rowid")
                self.settings = TraceSettings({key: json.loads(value) for key, value in rows})
        except BaseException:
            self._release()
            raise

    def __enter__(self) -> Self:
        """Return the trace."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the trace."""
        self.close()

    @cached_property
    def messages(self) -> tuple[Message, ...]:
        """All messages in order."""
        with _reading(self._name):
            return tuple(_messages(self._select))

    @cached_property
    def statements(self) -> tuple[Statement, ...]:
        """All statements in order."""
        with _reading(self._name):
            return tuple(_statements(self._select))

    @cached_property
    def owners(self) -> tuple[OwnerRun, ...]:
        """Owners of SQLite pages, as runs in the order in which they became true.

        A later run replaces an earlier one wherever they overlap.
        """
        with _reading(self._name):
            rows = self._select("SELECT * FROM owner_runs ORDER BY run_number")
            return tuple(OwnerRun(*row[1:8]) for row in rows)

    def accesses(self, statement: Statement | int) -> Accesses:
        """Return the accesses of a statement, given itself or its index, in order."""
        index = statement.index if isinstance(statement, Statement) else int(statement)
        rows = self._select(_SELECT_BLOCK, index)
        if not rows:
            raise TraceError(f"{self._name} has no statement with the index {index}")
        return self._decoded(rows[0][0], f"statement {index}")

    def outside_accesses(self, message: Message | int) -> tuple[tuple[str, Accesses], ...]:
        """Return the accesses in a message, given itself or its index, that no statement made.

        Returns:
            For each outside entry of the message its name and its accesses in order.
        """
        index = message.index if isinstance(message, Message) else int(message)
        if not self._select("SELECT 1 FROM message WHERE message_index = ?", index):
            raise TraceError(f"{self._name} has no message with the index {index}")
        return tuple(
            (name, self._decoded(block, f"message {index}, {name}"))
            for name, block in self._select(_SELECT_OUTSIDE_BLOCKS, index)
        )

    def to_pandas(self) -> Any:  # noqa: ANN401  pandas is optional, so its types are unknown here
        """Return a ``pandas.DataFrame`` with one row per statement.

        The columns are those of the view ``statements``, the first of them the index: every
        count is a column of its own, of the whole statement as ``calls_read`` …, of its phases as
        ``prepare_calls_read`` …. SQLite's counters are missing where they were not asked for.

        Raises:
            TraceError: pandas is not installed, or the file is damaged.
        """
        try:
            pandas = importlib.import_module("pandas")
        except ImportError as error:
            raise TraceError("to_pandas needs pandas; pip install 'sqlstable[all]'") from error
        rows = self._select("SELECT * FROM statements ORDER BY statement_index")
        names = [name for _, name, *_ in self._select("PRAGMA table_info(statements)")]
        frame = pandas.DataFrame(rows, columns=names)
        for name in _COUNTER_NAMES:
            # From the rows again: a column with gaps has become floats, which round.
            place = names.index(name)
            frame[name] = pandas.array([row[place] for row in rows], dtype="Int64")
        return frame.set_index("statement_index")

    def close(self) -> None:
        """Close the file; idempotent. What has been read before stays usable."""
        self._release()

    def _select(self, sql: str, *parameters: object) -> list[_Row]:
        if not self._release.alive:
            raise TraceError(f"{self._name} is closed; open it again")
        with _reading(self._name):
            return self._shared.connection.execute(sql, parameters).fetchall()

    def _decoded(self, block: bytes | None, place: str) -> Accesses:
        try:
            with _reading(self._name):
                return decode_accesses(EMPTY_BLOCK if block is None else block)
        except TraceError as error:
            raise TraceError(f"{self._name}, {place}: {error}") from error


def open_trace(path: Path | str) -> Trace:
    """Open a trace file for reading; the file is not changed.

    Args:
        path: A file that ``TraceWriter`` has written, or is still writing.

    Raises:
        TraceError: The file is missing, is no trace, has a newer format, or is damaged.
    """
    path = Path(path)
    found = _application_and_version(path)
    if found is None:
        raise TraceError(f"{path} is not a trace: it is not a SQLite file")
    application_id, version = found
    if application_id != TRACE_APPLICATION_ID:
        raise TraceError(
            f"{path} is a SQLite database but not a trace: its application_id is "
            f"0x{application_id:08x}, that of a trace 0x{TRACE_APPLICATION_ID:08x}"
        )
    if not 1 <= version <= TRACE_FORMAT_VERSION:
        raise TraceError(
            f"{path} has trace format version {version}, and this sqlstable reads up to "
            f"{TRACE_FORMAT_VERSION}; upgrade sqlstable"
        )
    with _reading(str(path)):
        connection = _connected(path.absolute().as_uri() + "?mode=ro")
    return Trace(_Shared(connection), str(path))


class _Shared:
    """A connection that is closed when its last user lets go of it."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self._users = 1

    def use(self) -> Self:
        self._users += 1
        return self

    def release(self) -> None:
        self._users -= 1
        if self._users == 0:
            self.connection.close()


class _Numbers:
    """Gives each different value the next index, and adds its rows; equal values share them."""

    def __init__(self, rows: list[_Row]) -> None:
        self._rows = rows
        self._known: dict[tuple[str, ...], int] = {}
        self._next = 0

    def index(self, value: tuple[str, ...], rows: Iterable[_Row]) -> int:
        index = self._known.get(value)
        if index is None:
            if len(self._known) == _KNOWN_MAX:
                self._known.clear()
            index = self._known[value] = self._next
            self._next += 1
            self._rows += [(index, *row) for row in rows]
        return index


@contextmanager
def _writing(name: str) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError, OverflowError, UnicodeError) as error:
        raise TraceError(f"{name} cannot be written: {error}") from error


@contextmanager
def _reading(name: str) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, ValueError, TypeError, LookupError) as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK) & 0xFF
        if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
            way_out = "if its run was cut off, copy it with its -wal file to a writable folder"
            raise TraceError(f"{name} cannot be read: {error}; {way_out}") from error
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise TraceError(f"{name} cannot be read now: {error}; try again later") from error
        raise TraceError(f"{name} is damaged: {error}; record it again") from error


def _connected(uri: str) -> sqlite3.Connection:
    # Transactions are ours, and the garbage collector may close a connection in any thread.
    return sqlite3.connect(
        uri, uri=True, timeout=1.0, isolation_level=None, check_same_thread=False
    )


def _created(path: Path | None, *, overwrite: bool) -> sqlite3.Connection:
    """Return a connection to a new trace with all tables and no rows."""
    if path is not None:
        _make_way(path, overwrite=overwrite)
    connection = _connected(":memory:" if path is None else path.absolute().as_uri())
    try:
        connection.executescript(
            f"PRAGMA page_size = 4096; PRAGMA synchronous = OFF; BEGIN;"
            f"PRAGMA application_id = {TRACE_APPLICATION_ID};"
            f"PRAGMA user_version = {TRACE_FORMAT_VERSION}; {_schema()} COMMIT;"
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


def _schema() -> str:
    columns = {
        f"of_{table}": ", ".join(f'"{table}".{name} AS {prefix}{name}' for name in _STABLE_NAMES)
        for table, prefix in (("statement", ""), *((phase, f"{phase}_") for phase in PHASES))
    }
    return _SCHEMA.format(stable=_STABLE_COLUMNS, **columns)


def _make_way(path: Path, *, overwrite: bool) -> None:
    """Remove an older trace, if there is one and it may go."""
    if not path.exists():
        return
    found = None if path.is_dir() else _application_and_version(path)
    if found is None or found[0] != TRACE_APPLICATION_ID:
        raise TraceError(f"{path} exists and is not a trace; choose another file")
    if not overwrite:
        raise TraceError(f"{path} exists; remove it, choose another file, or ask for overwriting")
    for suffix in ("", "-wal", "-shm", "-journal"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _application_and_version(path: Path) -> tuple[int, int] | None:
    """Return two numbers of the header of a SQLite file; None for any other file."""
    try:
        with path.open("rb") as file:
            # Source: https://www.sqlite.org/fileformat2.html section 1.3.
            header = file.read(100)
    except FileNotFoundError as error:
        raise TraceError(f"there is no trace file {path}; sqlstable run records one") from error
    except OSError as error:
        raise TraceError(f"{path} cannot be read: {error.strerror}") from error
    if len(header) < 100 or not header.startswith(b"SQLite format 3\0"):
        return None
    return int.from_bytes(header[68:72], "big"), int.from_bytes(header[60:64], "big")


def _setting_rows(values: Mapping[str, object]) -> list[_Row]:
    rows: list[_Row] = []
    for name, value in values.items():
        try:
            rows.append((name, json.dumps(value, allow_nan=False)))
        except (TypeError, ValueError) as error:
            raise TraceError(f"the setting {name} cannot be kept as JSON: {error}") from error
    return rows


# In the order of the columns: of a message all, of a statement those after its four indexes.
_stable_row: Final[_ToRow] = attrgetter(*_STABLE_FIELDS)
_message_row: Final[_ToRow] = attrgetter(
    *("index", "kind", "label", "outcome", "trap", "discarded_writes", "cache", "image_bytes"),
    *(f"stable.{field}" for field in _STABLE_FIELDS),
)
_statement_row: Final[_ToRow] = attrgetter(
    *("row_count", "runs", *(f"sqlite.{name}" for name in _COUNTER_NAMES)),
    *(f"stable.{field}" for field in _STABLE_FIELDS),
)

_Select = Callable[[str], list[_Row]]

_SELECT_BLOCK: Final = (
    "SELECT block FROM statement LEFT JOIN statement_accesses USING (statement_index)"
    " WHERE statement_index = ?"
)
_SELECT_OUTSIDE_BLOCKS: Final = (
    "SELECT name, block FROM outside"
    " LEFT JOIN outside_accesses USING (message_index, outside_index)"
    " WHERE message_index = ? ORDER BY outside_index"
)


# Equal work has equal counts: sharing the records saves time and memory on long traces.
@lru_cache(maxsize=4096)
def _stable_use(*row: int) -> StableUse:
    return StableUse(Calls(*row[:4]), *row[4:])


def _grouped(rows: Iterable[_Row]) -> dict[int, list[_Row]]:
    """Return the rows by their first column, without it."""
    groups: dict[int, list[_Row]] = defaultdict(list)
    for first, *rest in rows:
        groups[first].append(tuple(rest))
    return groups


def _messages(select: _Select) -> Iterator[Message]:
    statements = _grouped(
        select("SELECT message_index, statement_index FROM statement ORDER BY statement_index")
    )
    outside = _grouped(select("SELECT * FROM outside ORDER BY message_index, outside_index"))
    limits = _grouped(select("SELECT * FROM message_limit ORDER BY message_index, limit_index"))
    for row in select("SELECT * FROM message ORDER BY message_index"):
        index, kind, label, outcome, trap, discarded_writes, cache, image_bytes, *stable = row
        yield Message(
            *(index, kind, label, outcome, trap, bool(discarded_writes), cache),
            tuple(statement for (statement,) in statements.get(index, ())),
            _stable_use(*stable),
            tuple(OutsideUse(name, _stable_use(*use)) for _, name, *use in outside.get(index, ())),
            tuple(
                LimitUse(name, used, NO_LIMIT if limit is None else limit)
                for _, name, used, limit in limits.get(index, ())
            ),
            image_bytes,
        )


def _statements(select: _Select) -> Iterator[Statement]:
    sql_texts = {index: texts for index, *texts in select("SELECT * FROM sql_text")}
    plan_rows = select("SELECT * FROM plan ORDER BY plan_index, line_index")
    plans = {
        index: tuple(line for _, line in lines) for index, lines in _grouped(plan_rows).items()
    }
    phases = {
        (index, phase): stable for index, phase, *stable in select("SELECT * FROM statement_phase")
    }
    owners = _grouped(select("SELECT * FROM statement_owners ORDER BY statement_index, position"))
    for row in select("SELECT * FROM statement ORDER BY statement_index"):
        index, message, sql_index, plan_index, row_count, runs, *counts = row
        sql, shape, kind = sql_texts[sql_index]
        yield Statement(
            *(index, message, sql, shape, kind, row_count, runs),
            () if plan_index is None else plans[plan_index],
            _stable_use(*counts[4:]),
            {phase: _stable_use(*phases[index, phase]) for phase in PHASES},
            SqliteCounters(*counts[:4]),
            tuple(OwnerUse(*owner) for _, *owner in owners.get(index, ())),
        )
