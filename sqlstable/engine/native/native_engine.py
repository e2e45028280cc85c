"""The native engine: APSW in this process, over a `StableVFS`.

Updates run on one connection under an exclusive lock, which stays *warm*. Queries run on a second
one, *cold* by default: its parsed schema and prepared statements are kept, its page cache is
dropped at the beginning of each query message. So a cache filled by an update survives, and one
filled by a query disturbs nobody, as on the Internet Computer.

**Invariants**

* The second connection is an artefact: opening it and reading the schema into it stands for a
  heap that an update has left behind, and is not recorded. Opening in a *fresh* heap is recorded.
* After a trap both connections are closed; they are opened again, unrecorded, at the beginning of
  the next message. On the Internet Computer the old heap would come back warm; here the page
  cache is empty then.
* What a query leaves in its connection (a pragma, a temporary table, a write) goes with it: the
  connection is closed when the message ends.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Final, NamedTuple, Protocol

import apsw

from sqlstable.database.checking import Setup
from sqlstable.database.settings import Settings
from sqlstable.database.store import DatabaseFile
from sqlstable.database.vfs import StableVFS
from sqlstable.engine.inspector import Inspector, prepare
from sqlstable.engine.native.functions import (
    NOTHING_COUNTED,
    CounterFunctions,
    Counters,
    UtcFunctions,
    is_process_in_utc,
    register_random,
)
from sqlstable.engine.pragmas import READING_PRAGMAS, ProcessSettings, refuse_process_wide
from sqlstable.engine.state import (
    NOTHING_SET,
    PENDING_SETTINGS,
    ConnectionState,
    connect_virtual_tables,
    defer_foreign_keys,
    give_state,
    is_temp_open,
    take_state,
    without_authorizer,
)
from sqlstable.engine.statements import Cursor, Params, Rows, sql_error
from sqlstable.errors import ImageError
from sqlstable.ic.words import CacheState, Effect

_READ_SCHEMA: Final = "SELECT 1 FROM sqlite_schema LIMIT 0"


class Runner(Protocol):
    """Executes statements on one connection, recorded or not."""

    keeper: Any
    "Keeps the counts of changes over what the runner does by itself: a `CounterFunctions`."

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
    def open_cursors(self) -> int:
        """Cursors that are not finished."""
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


class Link:
    """One connection with its runner and its file, and what it was told besides SQL."""

    __slots__ = (
        *("connection", "counters", "file", "has_virtual_tables", "is_in_utc", "pending"),
        *("runner", "was_set"),
    )

    def __init__(self, connection: apsw.Connection, runner: Runner, file: DatabaseFile) -> None:
        self.connection = connection
        self.runner = runner
        self.file = file
        self.counters = runner.keeper = CounterFunctions(connection)
        self.pending: dict[str, str] = {}
        "What those settings are that SQLite keeps to itself; see `PENDING_SETTINGS`."
        self.was_set = False
        "Whether a PRAGMA has set anything since this was last asked."
        self.has_virtual_tables = False
        "Whether there are any; they keep more than the schema in the connection."
        self.is_in_utc = False
        "Whether its date functions know no other zone, whatever that of the process."

    def close(self) -> None:
        """Close the connection, whatever it was doing."""
        self.file.on_pragma = None
        self.runner.close()
        self.connection.close(force=True)


class Heap(NamedTuple):
    """What committed messages have left in the connection, besides its caches.

    Each update makes one, so it is a tuple: that is made in a fifth of a data class's time.
    """

    state: ConnectionState = NOTHING_SET
    counters: Counters = NOTHING_COUNTED


class NativeEngine:
    """Executes SQL with APSW.

    Args:
        vfs: Gives the database file; its owner opens and ends the messages.
        settings: PRAGMAs of both connections.
        attach: Makes the runner of a connection, such as a recorder's.
        is_foreign: Whether the database came from elsewhere, and is to be opened defensively.
    """

    def __init__(
        self,
        vfs: StableVFS,
        settings: Settings,
        attach: Callable[[apsw.Connection], Runner],
        *,
        is_foreign: bool = False,
    ) -> None:
        """Take note; `open` opens."""
        self.is_foreign = is_foreign
        self.message_number = 0
        self._vfs = vfs
        self._settings = settings
        self._attach = attach
        self._setups: list[Setup] = []
        self._update: Link | None = None
        self._query: Link | None = None
        self._query_is_stale = False
        self._active: Link | None = None
        self._cache: CacheState = "warm"
        self._is_query = False
        self._heap = Heap()
        self._owed: Effect = "nothing"
        "What an open SQL transaction may have changed, to be looked at when it has ended."
        vfs.cabinet.messages.is_probe_free = True
        self._process = ProcessSettings.read()
        self._utc = UtcFunctions(vfs.name)
        self._inspector = Inspector(vfs, self._setups, is_foreign=is_foreign)

    # -- the life of the heap -------------------------------------------------------------------

    @property
    def heap(self) -> "Heap":
        """What committed messages have left in the connection, for an engine that goes on."""
        return self._heap

    def resume(self, heap: "Heap") -> None:
        """Go on with what another engine's messages have left, from the next message on."""
        self.discard_heap()
        self._keep(heap)

    def on_connect(self, setup: Setup) -> None:
        """Run ``setup`` on every connection, those that are open and those to come."""
        for link in (self._update, self._query):
            if link is not None:
                # No message is open that could be billed for what it looks at.
                with link.file.unrecorded():
                    setup(link.connection)
        self._setups.append(setup)
        if self._update is not None:
            self._take(self._update, "connection")
        self._inspector.close()

    def open(self) -> None:
        """Open the update connection, recorded."""
        self.discard_heap()
        self._keep(Heap())
        self._update = self._connect(exclusive=True)

    def begin(self, kind: str, cache: CacheState) -> bool:
        """Choose the connection of the message, opening it where a trap or query closed it.

        Returns:
            Whether the heap is fresh, so that `enter` has to open the database.
        """
        self.message_number += 1
        self._cache = cache
        self._is_query = kind == "query"
        if self._is_query and cache != "warm":
            if cache == "cold":
                self._begin_cold()
            return cache == "fresh"
        if self._update is None:
            self._update = self._reopen(exclusive=True)
        self._activate(self._update)
        return False

    def enter(self) -> None:
        """Open the database inside the message."""
        self._close_query()
        self._query = self._connect(exclusive=False)
        self._activate(self._query)

    def end(self, *, discarded: bool) -> None:
        """Keep what an update left in the connection, and undo what a query did."""
        link = self._active
        if link is None:
            # A step of the life cycle, which has executed nothing.
            return
        self._active = None
        effect = link.runner.effect
        if link.was_set or self._heap.state.is_deferring:
            effect = "connection"
        elif effect in ("nothing", "rows") and self._cache != "fresh":
            effect = self._hidden_effect(link, effect)
        if effect == "connection":
            self._process.put_back()
        if link is self._query:
            if discarded or effect != "nothing" or self._cache == "fresh":
                self._close_query()
        elif self._is_query:
            if discarded:
                # Its page cache holds what is gone.
                self._close_update()
            elif effect != "nothing":
                self._undo(link, effect)
        elif effect != "nothing" or self._owed != "nothing":
            self._end_update(link, effect)

    def discard_heap(self) -> None:
        """Close all connections on the database; after a query that failed only its own."""
        if self._active is not None and self._active is self._query:
            # The updates' own heap has seen nothing of it.
            self._active = None
            self._process.put_back()
            self._close_query()
            return
        self._active = None
        self._owed = "nothing"
        self._process.put_back()
        self._inspector.close()
        self._close_update()
        self._close_query()

    def close(self) -> None:
        """Close all connections."""
        self.discard_heap()
        self._utc.close()

    # -- statements -----------------------------------------------------------------------------

    @property
    def execute(self) -> Callable[[str, Params], Rows]:
        """Executes statements of the open message, and returns all their rows."""
        assert self._active is not None
        return self._active.runner.execute

    def explained(self, error: Exception, sql: str) -> Exception:
        """Return SQLite's error as a `SqlError` that names the statement, any other as it is."""
        return sql_error(_words(error), sql) if isinstance(error, apsw.Error) else error

    def executemany(self, sql: str, rows: Iterable[Params]) -> Rows:
        """Execute once per row.

        Raises:
            SqlError: SQLite refused.
            Trap: The message trapped inside.
        """
        assert self._active is not None
        try:
            return self._active.runner.executemany(sql, rows)
        except apsw.Error as error:
            raise sql_error(_words(error), sql) from error

    def open_cursor(self, sql: str, params: Params = None) -> Cursor:
        """Begin a statement that the caller steps.

        Raises:
            SqlError: SQLite refused.
            Trap: The message trapped inside.
        """
        assert self._active is not None
        try:
            return self._active.runner.open_cursor(sql, params)
        except apsw.Error as error:
            raise sql_error(_words(error), sql) from error

    def unfinished(self, *, keep_transaction: bool = False) -> str | None:
        """Say what the message has left open and must not; a cursor never outlives its message."""
        link = self._active
        assert link is not None
        if link.runner.open_cursors:
            return f"{link.runner.open_cursors} open cursor(s)"
        if keep_transaction:
            return None
        if not link.connection.get_autocommit():
            return "an open SQL transaction"
        return None if link.connection.txn_state() == apsw.SQLITE_TXN_NONE else "an open statement"

    # -- asking ---------------------------------------------------------------------------------

    def is_readonly(self, sql: str, params: Params = None) -> bool:
        """Return whether a statement only reads, and so can be a query; nothing is recorded.

        One that cannot be prepared yet, or belongs on the connection of the updates (BEGIN, most
        PRAGMAs, what looks at temporary tables), does not count.
        """
        return self._inspector.is_readonly(sql, params)

    def columns(self, sql: str, params: Params = None) -> tuple[str, ...]:
        """Return the names of the columns of a statement that this message has just run.

        Nothing is recorded; a statement that returns no rows has no columns.
        """
        link = self._active
        assert link is not None
        with link.file.unrecorded():
            prepared = prepare(link.connection, sql, params)
        return () if prepared is None else prepared.columns

    # -- inside: what belongs to the connection -------------------------------------------------

    def _end_update(self, link: Link, effect: Effect) -> None:
        """Take what the message left in the connection, for queries and for after a trap."""
        self._query_is_stale = True
        state = self._heap.state
        self._heap = Heap(state, link.counters.read())
        if self._owed != "nothing":
            effect = self._owed
        if effect == "rows" and not state.has_content:
            return
        if not link.connection.get_autocommit():
            # What it changed in TEMP may yet be rolled back, as what it changed in main.
            self._owed = "connection"
            return
        self._owed = "nothing"
        self._take(link, effect)

    def _hidden_effect(self, link: Link, effect: Effect) -> Effect:
        """Say what a message has changed that seems to have read, or changed rows, only."""
        if is_temp_open(link.connection) != (self._heap.state.temp is not None):
            # Asking for what is in TEMP makes it.
            return "schema"
        # A function of the user's may have executed SQL.
        return "rows" if effect == "rows" or link.counters.has_moved() else "nothing"

    def _take(self, link: Link, effect: Effect) -> None:
        with link.file.unrecorded():
            state = take_state(
                link.connection,
                self._heap.state,
                pending=link.pending,
                has_settings=effect == "connection",
            )
        self._forget(link)
        if effect != "rows" or state != self._heap.state:
            self._keep(Heap(state, self._heap.counters), has_new_names=effect != "rows")

    def _keep(self, heap: "Heap", *, has_new_names: bool = True) -> None:
        """Go by ``heap`` from now on."""
        if has_new_names and (heap.state.has_names or self._heap.state.has_names):
            self._inspector.close()
            self._inspector.state = heap.state
        self._heap = heap
        self._close_query()

    def _undo(self, link: Link, effect: Effect) -> None:
        """Undo what a warm query left in the connection of the updates, and keep its page cache."""
        state = self._heap.state
        has_set = effect == "connection"
        if not link.connection.get_autocommit() or (has_set and state.settings is None):
            self._close_update()
            return
        if has_set or effect == "schema" or state.has_content:
            self._give(link)
        self._count_on(link)

    def _give(self, link: Link, *, without: tuple[str, ...] = ()) -> None:
        state = self._heap.state
        with link.file.unrecorded(), _opening():
            give_state(link.connection, state, without=without, pending=link.pending)
        link.pending = dict(state.pending)
        self._forget(link)

    def _count_on(self, link: Link) -> None:
        with link.file.unrecorded():
            with without_authorizer(link.connection):
                link.counters.go_on(self._heap.counters, is_exact=True)
            defer_foreign_keys(link.connection, self._heap.state)
        self._forget(link)

    def _forget(self, link: Link) -> None:
        """Forget what was just done on a connection unrecorded."""
        link.runner.skip_unrecorded()
        link.was_set = False

    def _on_pragma(self, link: Link, pragma: apsw.VFSFcntlPragma, *, exclusive: bool) -> bool:
        """Take note of what a PRAGMA sets; refuse and answer what is not the connection's."""
        name = pragma.name.lower()
        if pragma.value is None:
            if name != "locking_mode" or exclusive:
                return False
            set_by_workload = {} if self._cache == "fresh" else self._heap.state.settings or {}
            pragma.result = set_by_workload.get((None, name), self._settings.locking_mode)
            return True
        refuse_process_wide(pragma)
        if name not in READING_PRAGMAS:
            link.was_set = True
            if name in PENDING_SETTINGS:
                link.pending[name] = pragma.value
        return False

    # -- inside: connections --------------------------------------------------------------------

    def _activate(self, link: Link) -> None:
        if not link.is_in_utc and not is_process_in_utc():
            self._utc.register(link.connection)
            link.is_in_utc = True
        self._active = link

    def _begin_cold(self) -> None:
        link = self._query
        if link is not None and self._query_is_stale:
            if link.has_virtual_tables:
                # What they keep in the connection goes by rules of their own.
                self._close_query()
            else:
                # The updates' own heap knows the new schema; this one must learn it unseen.
                self._read_schema(link)
        self._query_is_stale = False
        if self._query is None:
            self._query = self._reopen(exclusive=False)
        link = self._query
        link.counters.go_on(self._heap.counters)
        for file in link.file.siblings():
            file.doubt.is_cache_old = True
        self._activate(link)

    def _reopen(self, *, exclusive: bool) -> Link:
        """Open a connection that stands for a heap that was there already."""
        for name in self._vfs.cabinet.hot_databases():
            self._play_back(name)
        with self._vfs.cabinet.messages.unrecorded():
            link = self._connect(exclusive=exclusive, state=self._heap.state)
        self._read_schema(link)
        if self._heap.state != NOTHING_SET:
            self._give(link, without=() if exclusive else ("locking_mode",))
        with link.file.unrecorded():
            link.has_virtual_tables = connect_virtual_tables(link.connection)
            with without_authorizer(link.connection):
                link.counters.prime()
        self._count_on(link)
        for file in link.file.siblings():
            file.doubt.is_cache_old = True
        return link

    def _play_back(self, name: str) -> None:
        """Let SQLite undo what a transaction over several messages left when its heap was lost.

        It happens in a message of its own that nobody sees: on the Internet Computer the heap
        would be back, and the transaction would go on.
        """
        vfs = self._vfs
        memory, log = vfs.memory, vfs.memory.log
        memory.log = None
        vfs.store.rebind()
        try:
            with memory.message("update"):
                memory.limit(None)
                connection = vfs.connect(name)
                try:
                    _look(connection, _READ_SCHEMA)
                finally:
                    connection.close(force=True)
        finally:
            memory.log = log
            vfs.store.rebind()

    def _read_schema(self, link: Link) -> None:
        link.file.doubt.is_cache_old = True
        connection = link.connection
        with link.file.unrecorded(), without_authorizer(connection):
            _look(connection, _READ_SCHEMA)
        link.runner.skip_unrecorded()
        link.file.doubt.is_cache_old = True

    def _connect(self, *, exclusive: bool, state: ConnectionState = NOTHING_SET) -> Link:
        connection = apsw.Connection(self._vfs.main_name, vfs=self._vfs.name)
        file = self._vfs.store.files[-1]
        try:
            self._set_up(connection, exclusive=exclusive, state=state)
            link = Link(connection, self._attach(connection), file)
        except BaseException:
            connection.close(force=True)
            raise
        file.on_pragma = partial(self._on_pragma, link, exclusive=exclusive)
        return link

    def _set_up(
        self, connection: apsw.Connection, *, exclusive: bool, state: ConnectionState
    ) -> None:
        settings = self._settings
        register_random(connection, settings.seed, lambda: self.message_number)
        if self.is_foreign:
            connection.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0)
        # At once: changing it later can delete a journal, which may be another connection's.
        set_mode = (state.settings or {}).get(("main", "journal_mode"))
        pragmas = (
            f"locking_mode = {'exclusive' if exclusive else 'normal'}",
            f"page_size = {self._vfs.store.page_size}",
            f"temp_store = {settings.temp_store}",
            f"synchronous = {settings.synchronous}",
            f"journal_mode = {set_mode or settings.journal_mode}",
            f"cache_size = {settings.cache_size}",
            f"foreign_keys = {'on' if settings.foreign_keys else 'off'}",
        )
        for pragma in pragmas:
            _look(connection, f"PRAGMA {pragma}")
        if self.is_foreign:
            # Last, because defensive mode refuses journal_mode off.
            connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
        for setup in self._setups:
            setup(connection)

    def _close_update(self) -> None:
        if self._update is not None:
            self._update.close()
            self._update = None

    def _close_query(self) -> None:
        if self._query is not None:
            self._query.close()
            self._query = None


def is_complete(sql: str) -> bool:
    """Return whether SQLite takes a text for one statement or more, the last one closed.

    Examples:
        >>> is_complete("SELECT 1;"), is_complete("SELECT ';'")
        (True, False)
    """
    return apsw.complete(sql)


def _look(connection: apsw.Connection, sql: str) -> None:
    """Run SQL of our own, which only a damaged database refuses."""
    with _opening():
        connection.execute(sql).fetchall()


@contextmanager
def _opening() -> Iterator[None]:
    try:
        yield
    except apsw.Error as error:
        raise ImageError(f"the database in stable memory cannot be opened: {error}") from error


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
