"""The recorder of somebody else's APSW connection.

Nobody tells us when a statement is stepped, so SQLite's own trace events are the boundaries. What
they really report was found by trying, and differs from what one expects:

* Accesses are billed **backwards**: everything since the last boundary belongs to the statement
  that the next event names. What precedes a statement's STMT event is its *prepare* if SQLite has
  parsed the schema meanwhile, as far as it lies behind the last lock and the last commit. Nothing
  else is read when a statement is prepared, PRAGMAs included, so the rest is nobody's.
* Triggers repeat the outer statement's id; FTS5's inner SQL comes with ids and PROFILE events of
  its own. Only a STMT event that is not marked as a trigger opens a statement; a PROFILE event of
  anything else closes nothing.
* EXPLAIN has a PROFILE event and no STMT event; a statement that SQLite prepares again has two
  PROFILE events.
* A statement that is abandoned half-way gets its PROFILE event *before* it halts, so its commit
  comes after. It stays billable until the next STMT event.
* Nothing announces which of several open statements is being stepped, but each step ends with a
  ROW or a PROFILE event that names it. They cost about 0.3 µs a row, and count the rows as well.
* The commit hook fires at the border between *run* and *commit*.
* Blob I/O, backups and prepares that fail have no events, and count as *outside*;
  `ForeignRecorder.window` bills what happens inside a ``with`` block to a name.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import apsw

from sqlstable.ic.accesses import TakenAccesses
from sqlstable.ic.words import COMMIT, PREPARE, RUN
from sqlstable.sqlite.plan_rows import plan_lines
from sqlstable.sqlite.vm_steps import VM_STEPS_BETWEEN_LOOKS
from sqlstable.trace.recording.raw import (
    AccessSource,
    OutsideSpan,
    RawMessage,
    RawStatement,
    Span,
    StatementText,
    clean_sql,
)
from sqlstable.trace.shape import kind_of

_EVENTS: Final = apsw.SQLITE_TRACE_STMT | apsw.SQLITE_TRACE_ROW | apsw.SQLITE_TRACE_PROFILE
_PARAMS_TRIED_MAX: Final = 100
"""Numbered parameters up to which a plan is asked for."""


class _Open:
    """A statement that has begun."""

    __slots__ = ("fullscan_steps", "hits", "phase", "row_count", "runs", "sorts", "spans", "sql",
                 "vm_steps")  # fmt: skip

    def __init__(self, sql: str) -> None:
        self.sql = sql
        self.spans: list[Span] = []
        self.phase = RUN
        self.row_count = 0
        self.runs = 1
        self.hits = self.vm_steps = self.fullscan_steps = self.sorts = 0


class ForeignRecorder:
    """Records a connection through SQLite's trace events, beside whoever else traces it.

    Args:
        log: The access log of the connection's stable memory.
        connection: The connection; its own hooks stay.
        position_after_commit: Gives the position at which the last SQL commit was complete.
        position_at_lock: Gives the position at which a connection without a lock took one last.
    """

    def __init__(
        self,
        log: AccessSource,
        connection: apsw.Connection,
        *,
        position_after_commit: Callable[[], int],
        position_at_lock: Callable[[], int],
    ) -> None:
        self._log = log
        self._connection = connection
        self._position_after_commit = position_after_commit
        self._position_at_lock = position_at_lock
        self._last = 0
        self._open: dict[int, _Open] = {}
        self._inner: set[int] = set()
        self._closed: _Open | None = None
        self._closed_id = 0
        self._done: list[_Open] = []
        self._outside: list[OutsideSpan] = []
        self._cuts: list[tuple[int, int]] = []
        self._hits = self._hits_now()
        self._schema_bytes = self._schema_bytes_now()
        connection.set_commit_hook(self._on_commit, id=self)
        connection.set_progress_handler(log.compact, VM_STEPS_BETWEEN_LOOKS, id=self)
        connection.trace_v2(_EVENTS, self._on_event, id=self)

    @contextmanager
    def window(self, name: str) -> Iterator[None]:
        """Bill what happens inside to nobody's statement, but to ``name``."""
        self._bill_rest()
        start = self._log.position()
        try:
            yield
        finally:
            stop = self._log.position()
            if stop > start:
                self._outside.append(OutsideSpan(start, stop, name))
            self._last = stop

    def stop(self) -> list[RawMessage]:
        """Take the hooks off, and return what was recorded, one message per SQL transaction."""
        connection = self._connection
        connection.trace_v2(0, None, id=self)
        connection.set_commit_hook(None, id=self)
        connection.set_progress_handler(None, id=self)
        self._bill_rest()
        self._done.extend(self._open.values())
        self._open.clear()
        taken = self._log.take()
        texts = {sql: self._text(sql) for sql in {item.sql for item in self._done}}
        statements = [_finished(item, texts[item.sql]) for item in self._done]
        return self._messages(taken, statements)

    # -- events ---------------------------------------------------------------------------------

    def _on_event(self, event: dict[str, Any]) -> None:
        code = event["code"]
        if code == apsw.SQLITE_TRACE_STMT:
            self._on_begin(event["id"], event["sql"], is_inner=event["trigger"])
        elif code == apsw.SQLITE_TRACE_ROW:
            item = self._open.get(event["id"])
            if item is not None:
                item.row_count += 1
                self._bill(item)
        else:
            self._on_profile(event)

    def _on_begin(self, number: int, sql: str, *, is_inner: bool) -> None:
        if is_inner:
            if number not in self._open:
                self._inner.add(number)
            return
        item = self._new(sql)
        self._bill_nobody(sql)
        self._bill(item, PREPARE)
        self._open[number] = item

    def _on_profile(self, event: dict[str, Any]) -> None:
        number, sql = event["id"], event["sql"]
        item = self._open.pop(number, None)
        if item is None and number not in self._inner:
            item = self._without_begin(number, sql)
        self._inner.discard(number)
        if item is None:
            return
        self._bill(item)
        self._count(item, event)
        if item is not self._closed:
            self._done.append(item)
        self._closed, self._closed_id = item, number

    def _without_begin(self, number: int, sql: str) -> _Open | None:
        """A second PROFILE of one statement, the only event of an EXPLAIN, or inner SQL."""
        closed = self._closed
        if closed is not None and self._closed_id == number and closed.sql == sql:
            return closed
        return self._new(sql) if clean_sql(sql)[:7].upper() == "EXPLAIN" else None

    def _new(self, sql: str) -> _Open:
        """Settle what came before, and begin a statement."""
        if self._closed is not None:
            self._bill_commit_of_closed()
        self._cut_if_quiet()
        self._closed = None
        return _Open(sql)

    def _on_commit(self) -> bool:
        item = self._running()
        if item is not None:
            self._bill(item)
            item.phase = COMMIT
        return False

    # -- billing --------------------------------------------------------------------------------

    def _running(self) -> _Open | None:
        if len(self._open) == 1:
            return next(iter(self._open.values()))
        # Several are open: the commit is that of the one whose event came last, if any.
        return self._closed

    def _bill(self, item: _Open, phase: int | None = None) -> None:
        position = self._log.position()
        if position > self._last:
            item.spans.append((self._last, position, item.phase if phase is None else phase))
            self._last = position

    def _bill_commit_of_closed(self) -> None:
        """An abandoned statement commits behind its PROFILE event."""
        closed = self._closed
        assert closed is not None
        end = self._position_after_commit()
        if closed.phase == COMMIT and end > self._last:
            closed.spans.append((self._last, end, COMMIT))
            self._last = end

    def _bill_nobody(self, sql: str) -> None:
        """Leave out what was no statement's, before one begins that has been prepared."""
        end = self._log.position()
        if end == self._last:
            return
        committed = self._position_after_commit()
        begin = end
        if self._schema_bytes != self._schema_bytes_now():
            begin = max(self._last, committed, self._position_at_lock())
        has_committed = self._last < committed <= begin
        self._last = begin
        if has_committed and self._is_quiet():
            self._cuts.append((committed, len(self._done)))

    def _bill_rest(self) -> None:
        if self._closed is not None:
            self._bill_commit_of_closed()
        self._last = self._log.position()

    def _count(self, item: _Open, event: dict[str, Any]) -> None:
        status = event["stmt_status"]
        item.vm_steps += status["SQLITE_STMTSTATUS_VM_STEP"]
        item.fullscan_steps += status["SQLITE_STMTSTATUS_FULLSCAN_STEP"]
        item.sorts += status["SQLITE_STMTSTATUS_SORT"]
        hits = self._hits_now()
        item.hits += hits - self._hits
        self._hits = hits
        self._schema_bytes = self._schema_bytes_now()

    def _hits_now(self) -> int:
        return self._connection.status(apsw.SQLITE_DBSTATUS_CACHE_HIT)[0]

    def _schema_bytes_now(self) -> int:
        """How much memory the parsed schema takes; as much as before, if nobody has parsed it."""
        return self._connection.status(apsw.SQLITE_DBSTATUS_SCHEMA_USED)[0]

    # -- messages -------------------------------------------------------------------------------

    def _cut_if_quiet(self) -> None:
        """Between SQL transactions one message ends and the next begins."""
        if self._is_quiet() and len(self._done) > (self._cuts[-1][1] if self._cuts else 0):
            self._cuts.append((self._last, len(self._done)))

    def _is_quiet(self) -> bool:
        return not self._open and not self._connection.in_transaction

    def _messages(self, taken: TakenAccesses, statements: list[RawStatement]) -> list[RawMessage]:
        end = (len(taken), len(statements))
        cuts = self._cuts if self._cuts and self._cuts[-1] == end else [*self._cuts, end]
        messages = []
        start, first = 0, 0
        for stop, last in cuts:
            messages.append(
                RawMessage(
                    taken.part(start, stop),
                    [_moved(item, -start) for item in statements[first:last]],
                    tuple(
                        OutsideSpan(span.start - start, span.stop - start, span.name)
                        for span in self._outside
                        if start <= span.start < stop
                    ),
                )
            )
            start, first = stop, last
        return messages

    def _text(self, sql: str) -> StatementText:
        """Ask SQLite about a statement when the recording is over, without running it."""
        cleaned = clean_sql(sql)
        found: list[bool] = []

        def on_statement(cursor: apsw.Cursor, sql: str, bindings: object) -> bool:
            # EXPLAIN QUERY PLAN is as read-only as what it explains.
            found.append(cursor.is_readonly)
            return True

        cursor = self._connection.cursor()
        cursor.exec_trace = on_statement
        plan: tuple[str, ...] = ()
        for params in _candidate_params():
            try:
                rows = cursor.execute(f"EXPLAIN QUERY PLAN {cleaned}", params, can_cache=False)
                plan = plan_lines(rows.fetchall())
                break
            except apsw.BindingsError:
                continue
            except apsw.Error:
                # An EXPLAIN, or a statement whose table is gone by now.
                break
        is_readonly = bool(found) and found[-1]
        return StatementText(cleaned, kind_of(cleaned, readonly=is_readonly), is_readonly, plan)


class _AnyName(dict[str, Any]):
    """Binds NULL to every named parameter."""

    def __missing__(self, key: str) -> None:
        return None


def _candidate_params() -> Iterator[Any]:
    """Yield NULLs for named parameters, then for one, two … numbered ones.

    SQLite tells how many a statement has only once they are bound.
    """
    yield _AnyName()
    for count in range(_PARAMS_TRIED_MAX):
        yield (None,) * count


def _finished(item: _Open, text: StatementText) -> RawStatement:
    return RawStatement(
        text,
        tuple(item.spans),
        item.row_count,
        item.runs,
        item.hits,
        item.vm_steps,
        item.fullscan_steps,
        item.sorts,
    )


def _moved(item: RawStatement, by: int) -> RawStatement:
    spans = tuple((start + by, stop + by, phase) for start, stop, phase in item.spans)
    return item._replace(spans=spans)
