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

import time
from collections.abc import Callable, Iterable
from functools import partial

import apsw

from sqlstable.database.checking import Setup
from sqlstable.database.handles import DatabaseFile
from sqlstable.database.settings import Settings
from sqlstable.database.vfs import StableVFS
from sqlstable.engine.inspector import Inspector
from sqlstable.engine.native.functions import (
    UTC,
    UtcFunctions,
    register_random,
)
from sqlstable.engine.native.link import Executor, Heap, Link, look, play_back, refusal
from sqlstable.engine.pragmas import READING_PRAGMAS, ProcessSettings, refuse_process_wide
from sqlstable.engine.state import (
    DEFERRED,
    NOTHING_SET,
    PENDING_SETTINGS,
    TEMP,
    ConnectionState,
)
from sqlstable.engine.statements import (
    EARLIER_TRANSACTION,
    OPEN_TRANSACTION,
    Cursor,
    Params,
    Rows,
)
from sqlstable.ic.words import CacheState, Effect


class NativeEngine:
    """Executes SQL with APSW: a machine's `Statements`, and the heap that they run on.

    Args:
        vfs: Gives the database file; its owner opens and ends the messages.
        settings: PRAGMAs of both connections.
        attach: Makes what executes on a connection, such as a recorder's runner.
        is_foreign: Whether the database came from elsewhere, and is to be opened defensively.
    """

    execute: Callable[[str, Params], Rows]
    "Executes statements of the open message, and returns all their rows."

    def __init__(
        self,
        vfs: StableVFS,
        settings: Settings,
        attach: Callable[[apsw.Connection], Executor],
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
        self._was_open = False
        "Whether the message found an SQL transaction open on its connection."
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
                with link.unrecorded():
                    setup(link.connection)
        self._setups.append(setup)
        if self._update is not None:
            self._take(self._update, "connection")
        self._inspector.close()

    def open(self) -> None:
        """Open the update connection, recorded; the step that does so may go on with it."""
        self.discard_heap()
        self._keep(Heap())
        self._update = self._connect(exclusive=True)
        self._activate(self._update)

    def begin(self, kind: str, cache: CacheState) -> bool:
        """Choose the connection of the message, opening it where a trap or query closed it.

        Returns:
            Whether the heap is fresh, so that `enter` has to open the database.
        """
        self.message_number += 1
        self._cache = cache
        self._is_query = kind == "query"
        self._was_open = False
        if self._is_query and cache != "warm":
            if cache == "cold":
                self._begin_cold()
            return cache == "fresh"
        if self._update is None:
            self._update = self._reopen(exclusive=True)
        self._was_open = not self._update.connection.get_autocommit()
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
        state, effect = self._heap.state, link.executor.effect
        if link.was_set or (state.settings is not None and state.settings[None, DEFERRED]):
            effect = "connection"
        elif effect in ("nothing", "rows") and self._cache != "fresh":
            if (link.connection.db_filename(TEMP) is None) != (state.temp is None):
                # Asking for what is in TEMP makes it.
                effect = "schema"
            elif effect == "nothing" and link.counters.has_moved():
                # A function of the user's has executed SQL.
                effect = "rows"
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

    def explained(self, error: Exception, sql: str) -> Exception:
        """Return SQLite's error as a `SqlError` that names the statement, any other as it is."""
        return refusal(error, sql) if isinstance(error, apsw.Error) else error

    def executemany(self, sql: str, rows: Iterable[Params]) -> Rows:
        """Execute once per row.

        Raises:
            SqlError: SQLite refused.
            Trap: The message trapped inside.
        """
        return self._link.executemany(sql, rows)

    def open_cursor(self, sql: str, params: Params = None) -> Cursor:
        """Begin a statement that the caller steps.

        Raises:
            SqlError: SQLite refused.
            Trap: The message trapped inside.
        """
        return self._link.open_cursor(sql, params)

    def unfinished(self, *, keep_transaction: bool = False) -> str | None:
        """Say what the message has left open and must not; a cursor never outlives its message."""
        link = self._active
        assert link is not None
        if link.executor.cursors:
            return f"{len(link.executor.cursors)} open cursor(s)"
        if keep_transaction or (self._was_open and self._is_query):
            return None
        if not link.connection.get_autocommit():
            return EARLIER_TRANSACTION if self._was_open else OPEN_TRANSACTION
        return None if link.connection.txn_state() == apsw.SQLITE_TXN_NONE else "an open statement"

    def columns(self, sql: str, params: Params = None) -> tuple[str, ...]:
        """Return the names of the columns of a statement that this message has just run.

        Nothing is recorded; a statement that returns no rows has no columns.
        """
        return self._link.columns(sql, params)

    def is_readonly(self, sql: str, params: Params = None) -> bool:
        """Return whether a statement only reads, and so can be a query; nothing is recorded.

        One that cannot be prepared yet, or belongs on the connection of the updates (BEGIN, most
        PRAGMAs, what looks at temporary tables), does not count.
        """
        return self._inspector.is_readonly(sql, params)

    @property
    def _link(self) -> Link:
        """The connection of the open message."""
        assert self._active is not None
        return self._active

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

    def _take(self, link: Link, effect: Effect) -> None:
        state = link.take(self._heap.state, effect)
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
            link.give(state)
        link.count_on(self._heap)

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
        if not link.is_in_utc and (time.tzname != UTC or time.timezone):
            self._utc.register(link.connection)
            link.is_in_utc = True
        self._active = link
        self.execute = link.executor.execute

    def _begin_cold(self) -> None:
        link = self._query
        if link is not None and self._query_is_stale:
            if link.has_virtual_tables:
                # What they keep in the connection goes by rules of their own.
                self._close_query()
            else:
                # The updates' own heap knows the new schema; this one must learn it unseen.
                link.read_schema()
        self._query_is_stale = False
        if self._query is None:
            self._query = self._reopen(exclusive=False)
        link = self._query
        link.counters.go_on(self._heap.counters)
        link.doubt_cache()
        self._activate(link)

    def _reopen(self, *, exclusive: bool) -> Link:
        """Open a connection that stands for a heap that was there already."""
        for name in self._vfs.cabinet.hot_databases():
            play_back(self._vfs, name)
        with self._vfs.cabinet.messages.unrecorded():
            link = self._connect(exclusive=exclusive, state=self._heap.state)
        link.stand_in(self._heap, without=() if exclusive else ("locking_mode",))
        return link

    def _connect(self, *, exclusive: bool, state: ConnectionState = NOTHING_SET) -> Link:
        connection = apsw.Connection(self._vfs.main_name, vfs=self._vfs.name)
        file = self._vfs.store.files[-1]
        assert isinstance(file, DatabaseFile)
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
            look(connection, f"PRAGMA {pragma}")
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
