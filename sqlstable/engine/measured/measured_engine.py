"""The wasm engine: SQLite as a canister runs it, with its instructions counted.

Requests go to the module's ``execute``, several in a message if need be. The heap is part of the
message: a trap brings the old one back warm, a query's is thrown away, an upgrade's is new.

**Invariants**

* Asking about statements (plans, columns, whether they only read) never asks the module: the
  observer's connections answer, from the database or from a copy of its schema.
* ``cold`` and ``fresh`` are made inside of the message, from the heap as it is, and go with it.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Final

import apsw

from sqlstable.database.cabinet import MAIN_NAME
from sqlstable.database.settings import Settings
from sqlstable.database.vfs import StableVFS, julian_milliseconds
from sqlstable.engine.inspector import Inspector
from sqlstable.engine.measured.codec import (
    Answer,
    Finish,
    StatementResult,
    decode_whole,
    encode_many,
    encode_request,
    encode_settings,
    encode_until,
    random_key,
)
from sqlstable.engine.measured.cursors import WasmCursor, encode_cursor
from sqlstable.engine.measured.further_files import further_files
from sqlstable.engine.measured.located import LocatedDatabase
from sqlstable.engine.measured.notes import (
    Border,
    CallNote,
    MessageNotes,
    NotedLog,
    WholeNote,
)
from sqlstable.engine.measured.overrun import Overrun
from sqlstable.engine.measured.schema_copy import Piece, Plan, Plans
from sqlstable.engine.statements import (
    EARLIER_TRANSACTION,
    OPEN_TRANSACTION,
    Params,
    Rows,
    sql_error,
)
from sqlstable.errors import ImageError, SqlError, Trap
from sqlstable.ic.words import CacheState
from sqlstable.layout.layout import Peek
from sqlstable.layout.layouts import layout_named
from sqlstable.memory.stable import StableMemory
from sqlstable.wasm import shim
from sqlstable.wasm.instance import forget_below
from sqlstable.wasm.shim import ShimStatus
from sqlstable.wasm.shimstore import catch_up, shim_of
from sqlstable.wasm.stack import check_thread

_UPDATE: Final = "canister_update execute"
_QUERY: Final = "canister_query execute"
_CURSORS: Final = {_UPDATE: "canister_update cursor", _QUERY: "canister_query cursor"}
"""The entry points of cursors, by those of whole requests."""

_READ_SCHEMA: Final = encode_request("PRAGMA cache_size")
"""Asks for what the schema is needed for, and is no statement that reads: one would end what
``PRAGMA defer_foreign_keys`` has begun."""

_EMPTY_CACHE: Final = encode_request("", cold=True)

_IDLE: Final = Finish(
    is_autocommit=True,
    txn_state=0,
    open_statements=0,
    total_changes=0,
    database_bytes=0,
    heap_bytes=0,
)


class WasmEngine:
    """Executes SQL in the module of a `StableMemory` over a `ShimStore`.

    Args:
        memory: The stable memory, with its machine.
        settings: How the database is opened.
        layout: Of stable memory.
        counters: Whether replies carry SQLite's counters.
        is_foreign: Whether the database came from elsewhere, and is to be opened defensively.
        noted: What the open message has executed on the heap before this one.
        asks_plans: Whether statements are given with their plans.
    """

    def __init__(
        self,
        memory: StableMemory,
        settings: Settings,
        *,
        counters: bool,
        is_foreign: bool = False,
        noted: list[CallNote] | None = None,
        asks_plans: bool = True,
    ) -> None:
        """Take note; `open` opens."""
        self._asks_plans = asks_plans
        self.is_foreign = is_foreign
        self.message_number = 0
        self._memory = memory
        self._store = shim_of(memory)
        self._settings, self._counters = settings, counters
        self._vfs: StableVFS | None = None
        self._inspector: Inspector | None = None
        self._plans = Plans(self._observing, foreign_keys=settings.foreign_keys)
        self._name = _UPDATE
        self._cache: CacheState = "warm"
        self.calls = [] if noted is None else noted
        self._finish = self._kept_finish = _IDLE
        self._cursors: list[WasmCursor] = []
        self._cursor_number = 0
        "Of the cursor opened last; each has another one as long as a heap lives."
        self._last_results: Sequence[StatementResult] = ()
        self._stepped: WasmCursor | None = None
        self._key_number, self._random_key = -1, b""
        self._overrun = Overrun(memory)
        self.database = LocatedDatabase(layout_named(settings.layout), memory)
        "Where it lies."

    # -- the life of the heap -------------------------------------------------------------------

    def look_through(self, vfs: StableVFS) -> None:
        """Take what the observer's connections go through."""
        self._close_observers()
        self._vfs = vfs
        self._inspector = Inspector(vfs, (), is_foreign=self.is_foreign)

    def open(self, *, has_started: bool = False) -> None:
        """Start a new heap in the open message, as ``canister_init`` does.

        Args:
            has_started: Whether the module's start function has made it, in a part of its own.

        Raises:
            ImageError: The database cannot be opened.
        """
        name = "canister_post_upgrade" if self._memory.kind == "upgrade" else "canister_init"
        self._start(name, has_started=has_started)
        self._finish = self._kept_finish = _IDLE

    def begin(self, kind: str, cache: CacheState) -> bool:
        """Take note of a message that begins.

        Returns:
            Whether its heap is not the warm one, so that `enter` has to make it.

        Raises:
            SettingsError: This thread has too little stack for a canister.
        """
        check_thread()
        self.message_number += 1
        self._name = _QUERY if kind == "query" else _UPDATE
        self._cache = cache if kind == "query" else "warm"
        self._overrun.make_heap = None if self._cache == "warm" else self.enter
        return self._cache != "warm"

    def enter(self) -> None:
        """Make a cold or fresh heap inside of the message; again, if it begins once more."""
        if self._cache == "fresh":
            self._plans.renew()
            self._start("canister_post_upgrade")
            self._finish = _IDLE
            forget_below(self._store.machine, self.database.front_bytes)
        elif self._cache == "cold":
            memory = self._memory
            machine = self._store.machine
            self._store.renew_heap()
            # Neither counted nor limited, because it stands for what was there before.
            memory.limit(None)
            try:
                machine.call(self._name, _READ_SCHEMA)
                machine.call(self._name, _EMPTY_CACHE)
            except Trap as trap:
                raise memory.poison(trap) from None
            machine.end_unseen()
            memory.limit(memory.limits)

    def end(self, *, discarded: bool) -> None:
        """Take note that the message is over."""
        if self._name is _QUERY:
            self._finish = self._kept_finish
            self._plans.take_back()
        else:
            self._kept_finish = self._finish
            self._plans.keep()

    def discard_heap(self) -> None:
        """Take note that the message trapped; the memory's rollback brings the old heap back."""
        # A step that was cut off may have left its cursor.
        self._finish, self._stepped = self._kept_finish, None
        self._cursors.clear()
        self._plans.take_back()

    def close(self) -> None:
        """Close the observer's connections."""
        self._close_observers()

    # -- statements -----------------------------------------------------------------------------

    def execute(self, sql: str, params: Params = None, /) -> Rows:
        """Execute statements of the open message, and return all their rows."""
        request = encode_request(sql, params, counters=self._counters, key=self._key())
        if self._asks_plans:
            self._plans.learn(sql, params)
        return self._send(sql, request, params)

    def explained(self, error: Exception, sql: str) -> Exception:
        """Return the error: it is one of ours already."""
        return error

    def executemany(self, sql: str, rows: Iterable[Params]) -> Rows:
        """Execute once per row: one statement, or several one after the other.

        Raises:
            SqlError: SQLite refused.
            Trap: The message trapped inside.
        """
        request, refused = encode_until(sql, rows, counters=self._counters, key=self._key())
        call_count = len(self.calls)
        try:
            # What comes before a row that is refused has run, as it has where rows go one by one.
            found = [] if request is None else self._send(sql, request)
        except SqlError as error:
            # All rows went with the request; SQLite came so far.
            error.row = _runs(self._last_results) or 1
            raise
        finally:
            _join(self.calls[call_count:], sql)
        if refused is not None:
            raise refused
        return found

    def request_of(self, sql: str, params: Params, rows: Sequence[Params] | None) -> bytes | None:
        """Return what `execute` sends, or with rows `executemany`; None where there is no row."""
        if rows is None:
            return encode_request(sql, params, counters=self._counters, key=self._key())
        return encode_many(sql, rows, counters=self._counters, key=self._key())

    def open_cursor(self, sql: str, params: Params = None) -> "WasmCursor":
        """Begin a statement, which stops at each row until it is asked for the next one.

        Raises:
            SqlError: SQLite refused.
            Trap: The message trapped inside.
        """
        request = encode_request(sql, params, counters=self._counters, key=self._key())
        self._plans.learn(sql, params)
        self._cursor_number += 1
        cursor = WasmCursor(self._send_cursor, self._cursors, sql, params, self._cursor_number)
        cursor.open(request)
        return cursor

    def unfinished(self, *, keep_transaction: bool = False) -> str | None:
        """Say what the message has left open and must not; a cursor never outlives its message."""
        if self._cursors:
            return f"{len(self._cursors)} open cursor(s)"
        was_open = self._cache == "warm" and not self._kept_finish.is_autocommit
        if keep_transaction or (was_open and self._name is _QUERY):
            return None
        if not self._finish.is_autocommit:
            return EARLIER_TRANSACTION if was_open else OPEN_TRANSACTION
        return "an open statement" if self._finish.txn_state else None

    # -- asking ---------------------------------------------------------------------------------

    def is_readonly(self, sql: str, params: Params = None) -> bool:
        """Return whether a statement only reads, and so can be a query; nothing is recorded."""
        assert self._inspector is not None
        catch_up(self._memory)
        with self._store.looking():
            return self._inspector.is_readonly(sql, params)

    def columns(self, sql: str, params: Params = None) -> tuple[str, ...]:
        """Return the names of the columns of a statement that this message has just run.

        Nothing is recorded; a statement that returns no rows has no columns.
        """
        found = self._plans.columns(sql, params)
        if found is None:
            results = self._last_results
            count = results[0].facts.column_count if results else 0
            found = tuple(f"column {number}" for number in range(1, count + 1))
        return found

    # -- what was noted -------------------------------------------------------------------------

    def take_notes(self) -> MessageNotes:
        """Return what was noted of the message that is about to end, and begin anew."""
        machine = self._store.machine
        status = machine.tell()
        notes = MessageNotes(
            calls=self.calls,
            log=NotedLog(
                machine.noted(shim.LOG, status.log_count), self.database.map_at(status.stable_size)
            ),
            borders=machine.noted(shim.BORDERS, status.border_count),
            status=status,
            instruction_limit=machine.instruction_limit,
            regime=machine.program.regime,
            watches_heap=machine.program.watches_heap,
            counts_heap=machine.program.counts_heap,
            has_extras=machine.program.has_extras,
        )
        self.calls = []
        self._overrun.sent.clear()
        return notes

    # -- inside ---------------------------------------------------------------------------------

    def _start(self, name: str, *, has_started: bool = False) -> None:
        settings, memory = self._settings, self._memory
        main_name, files = further_files(layout_named(settings.layout), Peek.at(memory))
        argument = encode_settings(
            settings,
            now_ms=julian_milliseconds(settings.now),
            name=main_name or MAIN_NAME,
            is_foreign=self.is_foreign,
            files=files,
        )
        check_thread()
        self._store.renew_heap()
        machine = self._store.machine
        run = machine.call if has_started else machine.start
        try:
            self._overrun.start(partial(run, name, argument))
        except Trap as trap:
            memory.poison(trap)
            if memory.kind == "query" or "cannot be opened" not in str(trap):
                raise memory.poison(trap) from None
            raise ImageError(str(trap)) from trap

    def _send_cursor(self, cursor: WasmCursor, action: int, request: bytes) -> Rows:
        """Let a cursor do something, which belongs to its one statement."""
        data = encode_cursor(action, cursor.number, request)
        self._last_results, self._stepped = (), cursor
        try:
            return self._send(cursor.sql, data, cursor.params, name=_CURSORS[self._name])
        finally:
            self._stepped = None
            cursor.note(self._last_results)

    def _send(
        self, sql: str, request: bytes, params: Params = None, *, name: str | None = None
    ) -> Rows:
        memory, machine = self._memory, self._store.machine
        plan, is_of_concern = self._plans.known(sql)
        try:
            data, status = self._overrun.call(name or self._name, request)
        except (Trap, KeyboardInterrupt) as end:
            # An interrupted message is lost, too, and what it cost up to here is its statements'.
            with suppress(Trap):
                cut = self._plans.cut(sql)
                self._note(sql, plan, machine.tell(), len(request), (), trapped=cut)
            raise memory.poison(end) if isinstance(end, Trap) else end from None
        reply = decode_whole(data)
        assert reply.finish is not None
        self._finish = reply.finish
        rows = reply.rows if len(reply.statements) != 1 else reply.statements[0].rows
        is_failed = reply.failure is not None
        self._note(sql, plan, status, len(request), reply.statements, is_failed=is_failed)
        self._last_results = reply.statements
        if is_of_concern or reply.finish.is_autocommit != self._plans.is_autocommit:
            pieces, sure = _pieces(sql, reply)
            autocommit = reply.finish.is_autocommit
            self._plans.follow(pieces, params, is_autocommit=autocommit, is_sure=sure)
        if reply.failure is not None:
            raise sql_error(reply.failure.message, sql)
        return rows

    def _note(
        self,
        sql: str,
        plan: Plan,
        status: ShimStatus,
        request_bytes: int,
        results: Sequence[StatementResult],
        *,
        trapped: Sequence[tuple[str, Plan]] = (),
        is_failed: bool = False,
    ) -> None:
        counts = [len(each.rows) for each in results]
        for each in results:
            each.rows = []  # they may be many, and are the caller's
        call = CallNote(
            sql=sql,
            results=results,
            row_counts=counts,
            border_start=self.calls[-1].border_stop if self.calls else 0,
            border_stop=status.border_count,
            end_row=Border.now(status, self._store.machine.instruction_limit),
            request_bytes=request_bytes,
            reply_bytes=0 if trapped else status.reply_size,
            plans=[plan.lines] if len(counts) == 1 else [],
            trapped=trapped,
            is_failed=is_failed,
        )
        if self._stepped is not None:
            self._stepped.take(call)
        self.calls.append(call)

    def _key(self) -> bytes:
        if self._key_number != self.message_number:
            self._key_number = self.message_number
            self._random_key = random_key(self._settings.seed, self.message_number)
        return self._random_key

    @contextmanager
    def _observing(self) -> Iterator[apsw.Connection]:
        """Give a connection that sees the database as it is now; nothing of it is recorded."""
        assert self._vfs is not None
        catch_up(self._memory)
        with self._store.looking():
            connection = self._vfs.observe()
            try:
                yield connection
            finally:
                connection.close(force=True)

    def _close_observers(self) -> None:
        if self._inspector is not None:
            self._inspector.close()
        self._plans.close()


def _join(calls: Iterable[CallNote], sql: str) -> None:
    """Let several statements of a call count as one."""
    for call in calls:
        if len(call.results) > 1:
            row_count = 0 if call.is_failed else sum(call.row_counts)
            call.whole = WholeNote(sql, [call], row_count, _runs(call.results))
        elif len(call.trapped) > 1:
            call.trapped = [(sql, call.trapped[0][1])]


def _runs(results: Sequence[StatementResult]) -> int:
    """Return for how many rows of parameters statements have run, or begun to."""
    if not results:
        return 0
    first = results[0].facts.begin
    if any(each.facts.begin != first for each in results):
        return sum(each.facts.begin == first for each in results)
    return sum(each.runs for each in results)


def _pieces(sql: str, reply: Answer) -> tuple[list[Piece], bool]:
    """Return the statements of a text that ran, and whether these are surely all."""
    results = reply.statements
    failed = reply.failure is not None
    # A cursor is in the middle of the last one until that has ended.
    ran = results[:-1] if failed else [each for each in results if each.is_ended]
    # What failed is the last one, or what could not be prepared behind it.
    is_sure = not failed or not results or not sql.encode()[results[-1].facts.end :].strip()
    return [Piece(each.facts.cut_from(sql), each.facts.is_readonly) for each in ran], is_sure
