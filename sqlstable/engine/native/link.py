"""One connection of the native engine: what executes on it, and what it holds beside the file."""

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final, NamedTuple, Protocol

import apsw

from sqlstable.database.handles import DatabaseFile
from sqlstable.database.vfs import StableVFS
from sqlstable.engine.inspector import prepare
from sqlstable.engine.native.functions import NOTHING_COUNTED, CounterFunctions, Counters
from sqlstable.engine.state import (
    NOTHING_SET,
    ConnectionState,
    connect_virtual_tables,
    defer_foreign_keys,
    give_state,
    take_state,
    without_authorizer,
)
from sqlstable.engine.statements import Cursor, Params, Rows, sql_error
from sqlstable.errors import ImageError, SqlError
from sqlstable.ic.words import Effect

_READ_SCHEMA: Final = "SELECT 1 FROM sqlite_schema LIMIT 0"


class Executor(Protocol):
    """Executes statements on one connection, recorded or not."""

    keeper: Any
    "Keeps the counts of changes over what is done besides: a `CounterFunctions`."
    cursors: list[Any]
    "Those that are not finished."

    @property
    def execute(self) -> Callable[[str, Params], Rows]:
        """Execute one or more statements and return all rows."""
        ...

    def executemany(self, sql: str, rows: Iterable[Params]) -> Rows:
        """Execute once per row."""
        ...

    def open_cursor(self, sql: str, params: Params) -> Cursor:
        """Begin a statement stepped by its caller."""
        ...

    @property
    def effect(self) -> Effect:
        """What this message may have changed so far."""
        ...

    def skip_unrecorded(self) -> None:
        """Leave out of the counts what was just done on the connection unrecorded."""
        ...

    def close(self) -> None:
        """Let the connection go."""
        ...


class Heap(NamedTuple):
    """What committed messages have left in the connection, besides its caches.

    Each update makes one, so it is a tuple: that is made in a fifth of a data class's time.
    """

    state: ConnectionState = NOTHING_SET
    counters: Counters = NOTHING_COUNTED


class Link:
    """One connection with what executes on it and its file, and what it was told besides SQL."""

    __slots__ = (
        *("connection", "counters", "executor", "file", "has_virtual_tables", "is_in_utc"),
        *("pending", "was_set"),
    )

    def __init__(
        self,
        connection: apsw.Connection,
        executor: Executor,
        file: DatabaseFile,
    ) -> None:
        self.connection = connection
        self.executor = executor
        self.file = file
        self.counters = executor.keeper = CounterFunctions(connection)
        self.pending: dict[str, str] = {}
        "What those settings are that SQLite keeps to itself; see `PENDING_SETTINGS`."
        self.was_set = False
        "Whether a PRAGMA has set anything since this was last asked."
        self.has_virtual_tables = False
        "Whether there are any; they keep more than the schema in the connection."
        self.is_in_utc = False
        "Whether its date functions know no other zone, whatever that of the process."

    def close(self) -> None:
        """Close the connection, whatever it was doing.

        An SQL transaction that is open goes as it would with a canister's heap: SQLite rolls
        nothing back, and what had come to stable memory stays. Only a journal there can mend it.
        """
        if not self.connection.get_autocommit():
            for file in self.file.siblings():
                file.lose()
        self.file.on_pragma = None
        self.executor.close()
        self.connection.close(force=True)

    # -- statements -----------------------------------------------------------------------------

    def executemany(self, sql: str, rows: Iterable[Params]) -> Rows:
        """Execute once per row; see `Statements.executemany`."""
        try:
            return self.executor.executemany(sql, rows)
        except apsw.Error as error:
            raise refusal(error, sql) from error

    def open_cursor(self, sql: str, params: Params) -> Cursor:
        """Begin a statement that the caller steps; see `Statements.open_cursor`."""
        try:
            return self.executor.open_cursor(sql, params)
        except apsw.Error as error:
            raise refusal(error, sql) from error

    def columns(self, sql: str, params: Params) -> tuple[str, ...]:
        """Return the names of the columns of a statement; see `Statements.columns`."""
        with self.unrecorded():
            prepared = prepare(self.connection, sql, params)
        return () if prepared is None else prepared.columns

    # -- what is done unrecorded ----------------------------------------------------------------

    def unrecorded(self) -> AbstractContextManager[None]:
        """Let the connection read without marks, limits or log in a block."""
        return self.file.unrecorded()

    def forget(self) -> None:
        """Forget what was just done on the connection unrecorded."""
        self.executor.skip_unrecorded()
        self.was_set = False

    def doubt_cache(self) -> None:
        """Let SQLite look at the database anew: its page cache is to be empty, or may be wrong."""
        for file in self.file.siblings():
            file.doubt.is_cache_old = True

    def read_schema(self) -> None:
        """Let the connection know the schema, as a heap does that was there already."""
        self.file.doubt.is_cache_old = True
        with self.unrecorded(), without_authorizer(self.connection):
            look(self.connection, _READ_SCHEMA)
        self.executor.skip_unrecorded()
        self.file.doubt.is_cache_old = True

    def take(self, before: ConnectionState, effect: Effect) -> ConnectionState:
        """Return what the connection holds, of which ``effect`` may have changed."""
        with self.unrecorded():
            state = take_state(
                self.connection,
                before,
                pending=self.pending,
                has_settings=effect == "connection",
            )
        self.forget()
        return state

    def give(self, state: ConnectionState, *, without: tuple[str, ...] = ()) -> None:
        """Let the connection hold what another one did."""
        with self.unrecorded(), opening():
            give_state(self.connection, state, without=without, pending=self.pending)
        self.pending = dict(state.pending)
        self.forget()

    def stand_in(self, heap: Heap, *, without: tuple[str, ...]) -> None:
        """Be, just opened, as if it had been there for what has left ``heap`` behind."""
        self.read_schema()
        if heap.state != NOTHING_SET:
            self.give(heap.state, without=without)
        with self.unrecorded():
            self.has_virtual_tables = connect_virtual_tables(self.connection)
            with without_authorizer(self.connection):
                self.counters.prime()
        self.count_on(heap)
        self.doubt_cache()

    def count_on(self, heap: Heap) -> None:
        """Let counts of changes go on where another connection stood."""
        with self.unrecorded():
            with without_authorizer(self.connection):
                self.counters.go_on(heap.counters, is_exact=True)
            defer_foreign_keys(self.connection, heap.state)
        self.forget()


def look(connection: apsw.Connection, sql: str) -> None:
    """Run SQL of our own, which only a damaged database refuses."""
    with opening():
        connection.execute(sql).fetchall()


def play_back(vfs: StableVFS, name: str) -> None:
    """Let SQLite undo what a transaction over several messages left when its heap was lost.

    It happens in a message of its own that nobody sees: on the Internet Computer the heap would be
    back, and the transaction would go on.
    """
    memory, log = vfs.memory, vfs.memory.log
    memory.log = None
    vfs.store.rebind()
    try:
        with memory.message("update"):
            memory.limit(None)
            connection = vfs.connect(name)
            try:
                look(connection, _READ_SCHEMA)
            finally:
                connection.close(force=True)
    finally:
        memory.log = log
        vfs.store.rebind()


@contextmanager
def opening() -> Iterator[None]:
    """Blame the database for what SQLite refuses in a block."""
    try:
        yield
    except apsw.Error as error:
        raise ImageError(f"the database in stable memory cannot be opened: {error}") from error


def refusal(error: apsw.Error, sql: str) -> SqlError:
    """Return SQLite's error as one of ours that names the statement."""
    return sql_error(_words(error), sql)


def _words(error: apsw.Error) -> str:
    """Return SQLite's words; where it is APSW that complains, those of the other engine."""
    text = str(error)
    if not isinstance(error, apsw.BindingsError):
        return text
    count, *given = map(int, re.findall("[0-9]+", text))
    if len(given) < 2:
        return f"the statement has {count} parameters, and no values are given"
    total, used = given
    return (
        f"the statement has {count} parameters, and {total - used} of the {total} values given are "
        "left for it"
    )
