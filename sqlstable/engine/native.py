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

import random
import re
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

import apsw

from sqlstable.database.settings import Settings
from sqlstable.database.store import DatabaseFile
from sqlstable.database.vfs import StableVFS
from sqlstable.engine.inspector import Inspector, prepare
from sqlstable.engine.protocol import CacheState, Cursor, Params, Rows
from sqlstable.errors import ImageError, SqlError
from sqlstable.ic.units import MIB

Setup = Callable[[apsw.Connection], None]

_SQL_SHOWN_CHARACTERS: Final = 200

_RANDOM_PIECE_BYTES: Final = 64 * MIB
"""Python draws up to 256 MiB at once; pieces of whole 32-bit words are the same numbers."""

_LEADING_INTEGER: Final = re.compile(r"[ \t\n\v\f\r]*([+-]?[0-9]{1,30})")


class Runner(Protocol):
    """Executes statements on one connection, recorded or not."""

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
    def was_plain(self) -> bool:
        """Whether all statements of this message so far left the connection as it was."""
        ...

    def skip_unrecorded(self) -> None:
        """Leave out of the counts what was just done on the connection unrecorded."""
        ...

    def close(self) -> None:
        """Let the connection go."""
        ...


class Link:
    """One connection with its runner and its file."""

    __slots__ = ("connection", "file", "runner")

    def __init__(self, connection: apsw.Connection, runner: Runner, file: DatabaseFile) -> None:
        """Join them."""
        self.connection = connection
        self.runner = runner
        self.file = file

    def close(self) -> None:
        """Close the connection, whatever it was doing."""
        self.runner.close()
        self.connection.close(force=True)


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
        vfs.is_probe_free = True
        self._inspector = Inspector(vfs, self._setups, is_foreign=is_foreign)

    # -- the life of the heap -------------------------------------------------------------------

    def on_connect(self, setup: Setup) -> None:
        """Run ``setup`` on every connection, those that are open and those to come."""
        for link in (self._update, self._query):
            if link is not None:
                # No message is open that could be billed for what it looks at.
                with self._vfs.store.unrecorded(link.file):
                    setup(link.connection)
        self._setups.append(setup)
        self._inspector.close()

    def open(self) -> None:
        """Open the update connection, recorded."""
        self.discard_heap()
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
        self._active = self._update
        return False

    def enter(self) -> None:
        """Open the database inside the message."""
        self._close_query()
        self._query = self._active = self._connect(exclusive=False)

    def end(self, *, discarded: bool) -> None:
        """Close what does not fit the memory any more."""
        link = self._active
        assert link is not None
        self._active = None
        plain = link.runner.was_plain
        if link is self._query:
            if discarded or not plain or self._cache == "fresh":
                self._close_query()
        elif self._is_query and (discarded or not plain):
            self._close_update()
        elif not plain:
            self._query_is_stale = True

    def discard_heap(self) -> None:
        """Close both connections."""
        self._active = None
        self._inspector.close()
        self._close_update()
        self._close_query()

    def close(self) -> None:
        """Close both connections."""
        self.discard_heap()

    # -- statements -----------------------------------------------------------------------------

    @property
    def execute(self) -> Callable[[str, Params], Rows]:
        """Executes statements of the open message, and returns all their rows."""
        assert self._active is not None
        return self._active.runner.execute

    def explained(self, error: Exception, sql: str) -> Exception:
        """Return SQLite's error as a `SqlError` that names the statement, any other as it is."""
        return _sql_error(error, sql) if isinstance(error, apsw.Error) else error

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
            raise _sql_error(error, sql) from error

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
            raise _sql_error(error, sql) from error

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
        with self._vfs.store.unrecorded(link.file):
            prepared = prepare(link.connection, sql, params)
        return () if prepared is None else prepared.columns

    # -- inside ---------------------------------------------------------------------------------

    def _begin_cold(self) -> None:
        if self._query is None:
            self._query = self._reopen(exclusive=False)
        elif self._query_is_stale:
            # The updates' own heap knows the new schema; this one must learn it unseen.
            self._read_schema(self._query)
        self._query_is_stale = False
        for file in self._vfs.store.siblings(self._query.file):
            file.is_stale = True
        self._active = self._query

    def _reopen(self, *, exclusive: bool) -> Link:
        """Open a connection that stands for a heap that was there already."""
        for name in self._vfs.cabinet.hot_databases():
            self._play_back(name)
        self._vfs.is_unrecorded = True
        try:
            link = self._connect(exclusive=exclusive)
        finally:
            self._vfs.is_unrecorded = False
        self._read_schema(link)
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
                memory.bytemap.begin(None, "update")
                connection = vfs.connect(name)
                try:
                    _look(connection, "SELECT 1 FROM sqlite_schema LIMIT 0")
                finally:
                    connection.close(force=True)
        finally:
            memory.log = log
            vfs.store.rebind()

    def _read_schema(self, link: Link) -> None:
        link.file.is_stale = True
        with self._vfs.store.unrecorded(link.file):
            _look(link.connection, "SELECT 1 FROM sqlite_schema LIMIT 0")
        link.runner.skip_unrecorded()
        link.file.is_stale = True

    def _connect(self, *, exclusive: bool) -> Link:
        connection = apsw.Connection(self._vfs.main_name, vfs=self._vfs.name)
        file = self._vfs.store.files[-1]
        try:
            self._set_up(connection, exclusive=exclusive)
            return Link(connection, self._attach(connection), file)
        except BaseException:
            connection.close(force=True)
            raise

    def _set_up(self, connection: apsw.Connection, *, exclusive: bool) -> None:
        settings = self._settings
        _register_random(connection, settings.seed, lambda: self.message_number)
        if self.is_foreign:
            connection.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0)
        pragmas = (
            f"locking_mode = {'exclusive' if exclusive else 'normal'}",
            f"page_size = {self._vfs.store.page_size}",
            f"temp_store = {settings.temp_store}",
            f"synchronous = {settings.synchronous}",
            f"journal_mode = {settings.journal_mode}",
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


def _register_random(
    connection: apsw.Connection, seed: int, message_number: Callable[[], int]
) -> None:
    """Replace ``random()`` and ``randomblob()``: the same message draws the same numbers.

    The generator starts anew in each message, so a message that traps uses nothing up.
    """
    generators: dict[int, random.Random] = {}

    def generator() -> random.Random:
        number = message_number()
        if number not in generators:
            generators.clear()
            generators[number] = random.Random(f"{seed}:{number}")  # noqa: S311  no secret
        return generators[number]

    def sql_random(*_: object) -> int:
        return generator().getrandbits(64) - (1 << 63)

    def sql_randomblob(*lengths: Any) -> bytes:  # noqa: ANN401  SQL values
        length = max(_as_int64(lengths[0]), 1)
        if length > connection.limit(apsw.SQLITE_LIMIT_LENGTH):
            # As SQLite's own function does, before memory is asked for.
            msg = "string or blob too big"
            raise apsw.TooBigError(msg)
        pieces = range(0, length, _RANDOM_PIECE_BYTES)
        draw = generator().randbytes
        return b"".join(draw(min(_RANDOM_PIECE_BYTES, length - at)) for at in pieces)

    # Innocuous, as SQLite's own are: schemas may use them in DEFAULT clauses and views.
    flags = apsw.SQLITE_INNOCUOUS
    connection.create_scalar_function("random", sql_random, 0, flags=flags)
    connection.create_scalar_function("randomblob", sql_randomblob, 1, flags=flags)


def _as_int64(value: object) -> int:
    """Return what SQLite takes an SQL value for where it needs an integer."""
    text = value.decode("latin-1") if isinstance(value, bytes) else value
    if isinstance(text, str):
        found = _LEADING_INTEGER.match(text)
        text = int(found[1]) if found else 0
    number = text if isinstance(text, int | float) else 0
    return int(min(max(number, -(1 << 63)), (1 << 63) - 1))


def _look(connection: apsw.Connection, sql: str) -> None:
    """Run SQL of our own, which only a damaged database refuses."""
    try:
        connection.execute(sql).fetchall()
    except apsw.Error as error:
        msg = f"the database in stable memory cannot be opened: {error}"
        raise ImageError(msg) from error


def _sql_error(error: apsw.Error, sql: str) -> SqlError:
    shown = " ".join(sql.split())
    if len(shown) > _SQL_SHOWN_CHARACTERS:
        shown = shown[: _SQL_SHOWN_CHARACTERS - 1] + "…"
    return SqlError(f"{_words(error)}; in: {shown}")


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
