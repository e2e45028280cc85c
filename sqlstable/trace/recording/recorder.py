"""The recorder of connections that we drive ourselves.

Boundaries come from our own calls: a statement is everything between the call that executes it
and its return. SQLite is asked for no more than needed:

* The first time a connection sees a statement's text, APSW's ``exec_trace`` marks the border
  between *prepare* and *run*, and cuts a text of several statements into its parts. From the
  second time on the statement is prepared already, and its *prepare* is empty.
* The commit hook marks the border between *run* and *commit*, autocommit included.
* At depth ``counters`` SQLite's profile event brings VM steps, scans and sorts; it costs about
  2 µs a statement. Depth ``pages`` does without.

Nothing here runs per access, and attribution comes after the message.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, Protocol

import apsw

from sqlstable.ic.accesses import TakenAccesses
from sqlstable.ic.words import COMMIT, EFFECTS, PREPARE, RUN, Depth, Effect
from sqlstable.sqlite.plan_rows import plan_lines
from sqlstable.sqlite.vm_steps import VM_STEPS_BETWEEN_LOOKS
from sqlstable.trace.recording.raw import (
    CONNECTION,
    NO_COUNTERS,
    NOTHING,
    PREPARE_ERROR,
    AccessSource,
    Counters,
    OutsideSpan,
    QuickStatement,
    RawMessage,
    RawStatement,
    Span,
    StatementText,
    clean_sql,
)
from sqlstable.trace.shape import kind_of, plan_key

Params = Sequence[Any] | dict[str, Any] | None
Rows = list[tuple[Any, ...]]

TEXTS_MAX: Final = 10_000
"""Texts of statements that are known at once; a script with literals has no end of them."""


class CountKeeper(Protocol):
    """Keeps what ``changes()`` says over a question for a plan, which SQLite counts as a change."""

    def hold(self, sql: str, params: Params) -> bool:
        """Keep what it says now; returns whether it can be kept for this statement."""
        ...

    def release(self) -> None:
        """The statement whose plan was asked for is over."""
        ...


class Recorder:
    """Records what the connections of one canister do to its stable memory.

    Args:
        log: The memory's access log.
        depth: ``counters`` or ``pages``.
        plans: Whether to ask for the plan of each statement, unrecorded.
    """

    def __init__(self, log: AccessSource, *, depth: Depth = "counters", plans: bool = True) -> None:
        self.log = log
        self.depth: Depth = depth
        self.plans = plans
        self.statements: list[RawStatement | QuickStatement] = []
        self.outside_spans: list[OutsideSpan] = []
        self.effect = NOTHING
        "What may have been changed by what is not among the statements."
        self._runners: list[Runner] = []

    def attach(self, connection: apsw.Connection) -> "Runner":
        """Return what executes statements on ``connection`` from now on, recorded."""
        runner = Runner(self, connection)
        self._runners.append(runner)
        return runner

    def detach(self, runner: "Runner") -> None:
        """Forget a connection that is closed."""
        if runner in self._runners:
            self._runners.remove(runner)

    def start_over(self, log: AccessSource) -> None:
        """Forget all connections, and what was recorded; ``log`` is written from now on."""
        self.log = log
        self._runners.clear()
        self.statements.clear()
        self.outside_spans.clear()

    def forget_texts(self) -> None:
        """Learn all statements anew: the schema has changed, and with it plans may have."""
        for runner in self._runners:
            runner.forget_texts()

    @contextmanager
    def outside(self, name: str) -> Iterator[None]:
        """Bill the accesses of a block to nobody's statement, under ``name``."""
        start = self.log.position()
        self.effect = CONNECTION
        try:
            yield
        finally:
            stop = self.log.position()
            if stop > start:
                self.outside_spans.append(OutsideSpan(start, stop, name))

    def so_far(self) -> TakenAccesses:
        """Return the accesses since the last call of `take`, and go on."""
        return self.log.so_far()

    def take(self) -> RawMessage:
        """Return what was recorded since the last call."""
        statements = self.statements.copy()
        self.statements.clear()
        outside = tuple(self.outside_spans)
        self.outside_spans.clear()
        self.effect = NOTHING
        return RawMessage(self.log.take(), statements, outside)


class Runner:
    """Executes statements on one connection and records them.

    ``execute`` is a closure made on attaching: it runs once per statement, and everything it
    needs is a local of it.
    """

    execute: Callable[[str, Params], Rows]
    keeper: CountKeeper | None = None
    "Of the connection's counts, where its owner has one."

    def __init__(self, recorder: Recorder, connection: apsw.Connection) -> None:
        """Hook into the connection; its own hooks of other ids stay."""
        self.recorder = recorder
        self.connection = connection
        self._texts: dict[str, StatementText] = {}
        self.plans: dict[str, tuple[str, ...]] = {}
        "Plans of statements that differ in literals alone, by `plan_key`."
        self.meter = _Meter(connection, counting=recorder.depth == "counters")
        self.borders: list[int] = []
        self.cursors: list[RecordedCursor] = []
        self._sight = _Sight()
        # One object for the life of the connection: APSW holds no reference to what it calls, so
        # nothing may drop the last one while it runs.
        self._on_statement = self._sight.on_statement
        log = recorder.log

        def on_commit() -> bool:
            self.borders.append(log.position())
            return False

        connection.set_commit_hook(on_commit, id=self)
        connection.set_progress_handler(log.compact, VM_STEPS_BETWEEN_LOOKS, id=self)
        self.execute = self._make_execute()

    @property
    def open_cursors(self) -> int:
        """How many cursors of `open_cursor` are not finished."""
        return len(self.cursors)

    def skip_unrecorded(self) -> None:
        """Leave out of the counts what was just done on the connection unrecorded."""
        self.meter.read()
        self.borders.clear()

    @property
    def effect(self) -> Effect:
        """What this message may have changed so far."""
        effect = self.recorder.effect
        for entry in self.recorder.statements:
            if entry[0].effect > effect:  # noqa: PLR1730  a third of the time of max(...)
                effect = entry[0].effect
        return EFFECTS[effect]

    def close(self) -> None:
        """Take the hooks off, so that the connection can go."""
        self.connection.set_commit_hook(None, id=self)
        self.connection.set_progress_handler(None, id=self)
        self.meter.close()
        self.recorder.detach(self)
        self.__dict__.pop("execute", None)

    def forget_texts(self) -> None:
        """Learn all statements anew."""
        self._texts.clear()
        self.plans.clear()

    @property
    def watch(self) -> "_Watch | None":
        """Who sees the statements that begin."""
        return self._sight.watch

    @watch.setter
    def watch(self, watch: "_Watch | None") -> None:
        self._sight.watch = watch
        self.connection.exec_trace = None if watch is None else self._on_statement

    def executemany(self, sql: str, rows: Iterable[Params]) -> Rows:
        """Execute ``sql`` once per row of ``rows``: one statement with many runs."""
        counted = _Counted(sql, rows)
        watch = _Watch(self, many=counted)
        self.borders.clear()
        with watch:
            cursor = self.connection.executemany(
                sql,
                counted,  # type: ignore[arg-type]  # any iterable does
                can_cache=_can_cache(sql),
            )
            result = cursor.fetchall()
        watch.finish(len(result))
        return result

    def open_cursor(self, sql: str, params: Params) -> "RecordedCursor":
        """Return a cursor that is stepped by its caller, each step billed to its statement."""
        cursor = RecordedCursor(self, sql, params)
        if not cursor.is_finished:
            self.cursors.append(cursor)
        return cursor

    def _make_execute(self) -> Callable[[str, Params], Rows]:
        log, entries = self.recorder.log, self.recorder.log.entries
        texts, borders = self._texts, self.borders
        run = self.connection.execute
        append = self.recorder.statements.append
        read_meter = self.meter.read
        counting = self.meter.counting
        first_time = self._first_time

        def execute(sql: str, params: Params = None) -> Rows:
            text = texts.get(sql)
            if text is None:
                return first_time(sql, params)
            start = log.compacted_count + len(entries)
            try:
                rows = run(sql, params).fetchall()
            except BaseException:
                self._record(text, start, row_count=0)
                raise
            stop = log.compacted_count + len(entries)
            if borders:
                self._record(text, start, row_count=len(rows))
            else:
                append((text, start, stop, len(rows), read_meter() if counting else NO_COUNTERS))
            return rows

        return execute

    def _first_time(self, sql: str, params: Params) -> Rows:
        rows: Rows = []
        self.borders.clear()
        watch = _Watch(self, rows=rows)
        with watch:
            for row in self.connection.execute(sql, params, can_cache=_can_cache(sql)):
                rows.append(row)
        watch.finish(len(rows))
        if len(self._texts) >= TEXTS_MAX:
            self.forget_texts()
        is_one = len(watch.texts) == 1 and watch.texts[0].sql == clean_sql(sql)
        if is_one and _can_cache(sql) and not watch.is_plan_owed:
            self._texts[sql] = watch.texts[0]
        if any(_may_change_schema(text) for text in watch.texts):
            self.recorder.forget_texts()
        return rows

    def _record(self, text: StatementText, start: int, *, row_count: int) -> None:
        spans = _phases(RUN, start, self.borders, self.recorder.log.position())
        self.borders.clear()
        self.recorder.statements.append(RawStatement(text, spans, row_count, 1, *self.meter.read()))


class _Meter:
    """SQLite's own counters, as differences since the last reading.

    ``read`` is a closure made on opening, as `Runner.execute` is.
    """

    read: Callable[[], Counters]
    "Returns hits, VM steps, full-scan steps and sorts since the last call."
    skip_hits: Callable[[], None]
    "Leaves out the hits of what we did ourselves."

    def __init__(self, connection: apsw.Connection, *, counting: bool) -> None:
        self.counting = counting
        self.is_paused = False
        self._connection = connection
        self._open()

    def close(self) -> None:
        """Take the hook off."""
        if self.counting:
            self._connection.trace_v2(0, None, id=self)
        for name in ("read", "skip_hits"):
            self.__dict__.pop(name, None)

    def _open(self) -> None:
        if not self.counting:
            self.read = lambda: NO_COUNTERS
            self.skip_hits = lambda: None
            return
        status, hit_counter = self._connection.status, apsw.SQLITE_DBSTATUS_CACHE_HIT
        hits_before = status(hit_counter)[0]
        vm_steps = fullscan_steps = sorts = 0

        def on_profile(event: dict[str, Any]) -> None:
            nonlocal vm_steps, fullscan_steps, sorts
            if self.is_paused:
                return
            # SQL inside of SQL (triggers, FTS5) is part of the statement that caused it, so its
            # steps are added.
            counts = event["stmt_status"]
            vm_steps += counts["SQLITE_STMTSTATUS_VM_STEP"]
            fullscan_steps += counts["SQLITE_STMTSTATUS_FULLSCAN_STEP"]
            sorts += counts["SQLITE_STMTSTATUS_SORT"]

        def read() -> Counters:
            nonlocal hits_before, vm_steps, fullscan_steps, sorts
            hits = status(hit_counter)[0]
            reading = (hits - hits_before, vm_steps, fullscan_steps, sorts)
            hits_before = hits
            vm_steps = fullscan_steps = sorts = 0
            return reading

        def skip_hits() -> None:
            nonlocal hits_before
            hits_before = status(hit_counter)[0]

        self.read = read
        self.skip_hits = skip_hits
        self._connection.trace_v2(apsw.SQLITE_TRACE_PROFILE, on_profile, id=self)


class _Sight:
    """What APSW calls before each statement, for as long as a connection lives."""

    def __init__(self) -> None:
        self.watch: _Watch | None = None

    def on_statement(self, cursor: apsw.Cursor, sql: str, bindings: Any) -> bool:  # noqa: ANN401  APSW's bindings
        """Pass it on to whoever watches; the statement may run."""
        if self.watch is not None:
            self.watch.on_statement(cursor, sql, bindings)
        return True


class _Counted:
    """Iterates over rows that a text is run for, and counts them."""

    def __init__(self, sql: str, rows: Iterable[Params]) -> None:
        self.sql = sql
        self._rows = rows
        self.count = 0

    def __iter__(self) -> Iterator[Params]:
        for row in self._rows:
            self.count += 1
            yield row


class _Watch:
    """Sees each statement of one call begin, by ``exec_trace``, and records them one by one."""

    def __init__(
        self, runner: Runner, *, rows: Rows | None = None, many: _Counted | None = None
    ) -> None:
        self.texts: list[StatementText] = []
        self._runner = runner
        self._recorder = runner.recorder
        self._connection = runner.connection
        self._meter = runner.meter
        self._borders = runner.borders
        self._rows = rows if rows is not None else []
        self._many = many
        self._cursor: apsw.Cursor | None = None
        self._start = self._recorder.log.position()
        self._prepared = self._start
        self._rows_before = 0
        self._spans: list[Span] = []
        self._outer: _Watch | None = None
        self.is_plan_owed = False
        "Whether a plan was not asked for, and may be the next time."

    def __enter__(self) -> None:
        self._outer = self._runner.watch
        if self._outer is not None:
            self._outer.pause()
        self._runner.watch = self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        outer = self._outer
        self._runner.watch = outer
        self._release()
        if outer is not None:
            outer.resume()
        if kind is not None:
            # SQLite may have obeyed a PRAGMA before it came upon what it refuses.
            self._recorder.effect = CONNECTION
            if self.texts:
                self.finish(len(self._rows))
            else:
                stop = self._recorder.log.position()
                if stop > self._start:
                    span = OutsideSpan(self._start, stop, PREPARE_ERROR)
                    self._recorder.outside_spans.append(span)

    def pause(self) -> None:
        """Bill what there is so far: another statement of the same message comes in between."""
        self._bill_until(self._recorder.log.position())

    def resume(self) -> None:
        """Go on behind the other statement."""
        self._start = self._prepared = self._recorder.log.position()

    def finish(self, row_count: int) -> None:
        """Record the statement that ran last; what runs once a row is one, whatever came of it."""
        if not self.texts:
            return
        text, runs = self.texts[-1], 1
        if self._many is not None:
            sql, runs = clean_sql(self._many.sql), max(1, self._many.count)
            text = StatementText(sql, text.kind, text.is_readonly, text.plan)
        spans = self.spans_until(self._recorder.log.position())
        rows = row_count - self._rows_before
        self._recorder.statements.append(RawStatement(text, spans, rows, runs, *self._meter.read()))

    def spans_until(self, stop: int) -> tuple[Span, ...]:
        """Return what is billed to the statement up to a position."""
        self._bill_until(stop)
        return tuple(self._spans)

    def _bill_until(self, stop: int) -> None:
        if self._prepared > self._start:
            self._spans.append((self._start, self._prepared, PREPARE))
        self._spans.extend(_phases(RUN, self._prepared, self._borders, stop))
        self._borders.clear()

    def on_statement(self, cursor: apsw.Cursor, sql: str, bindings: Any) -> None:  # noqa: ANN401  APSW's bindings
        """Take note that SQLite is about to run a statement."""
        if self._cursor is None:
            self._cursor = cursor
        elif cursor is not self._cursor:
            # SQL inside of a Python function belongs to the statement that called it, and a
            # question for the plan to nobody.
            return
        position = self._recorder.log.position()
        if self._many is not None and self.texts:
            self._close_run(position)
            return
        cleaned = clean_sql(sql)
        if not cleaned:
            return
        if self.texts:
            self._release()
            self.finish(len(self._rows))
            self._rows_before = len(self._rows)
            self._start = position
        self._spans = []
        self._prepared = position
        self.texts.append(self._learn(cursor, cleaned, sql, bindings))

    def _close_run(self, position: int) -> None:
        """Between two runs of ``executemany``: a commit ends where the next run begins."""
        self._release()
        if self._borders:
            self._bill_until(position)
            self._start = self._prepared = position

    def _release(self) -> None:
        if self._runner.keeper is not None:
            self._runner.keeper.release()

    def _learn(
        self, cursor: apsw.Cursor, cleaned: str, sql: str, bindings: Params
    ) -> StatementText:
        is_readonly = cursor.is_readonly
        kind = kind_of(cleaned, readonly=is_readonly)
        plan: tuple[str, ...] = ()
        # What has no plan is not asked for one: SQLite obeys PRAGMAs, and ends what is deferred.
        has_plan = kind not in ("transaction", "pragma") and not cursor.is_explain
        if self._recorder.plans and has_plan:
            key, plans = plan_key(sql), self._runner.plans
            known = None if key is None else plans.get(key)
            keeper = self._runner.keeper
            # Where a statement only reads, SQLite counts no changes of it, nor of its plan.
            if known is not None:
                plan = known
            elif keeper is None or is_readonly or keeper.hold(sql, bindings):
                plan = self._plan(sql, bindings)
                if key is not None:
                    plans[key] = plan
            else:
                self.is_plan_owed = True
        return StatementText(cleaned, kind, is_readonly, plan)

    def _plan(self, sql: str, bindings: Params) -> tuple[str, ...]:
        """Ask for the plan on the same connection: it reads no page, and sees the same schema."""
        self._meter.is_paused = True
        try:
            # Without the statement cache, whose other entries would be pushed out.
            rows = self._connection.cursor().execute(
                "EXPLAIN QUERY PLAN " + sql, bindings, can_cache=False
            )
            return plan_lines(rows.fetchall())
        except apsw.Error:
            return ()
        finally:
            self._meter.is_paused = False
            self._meter.skip_hits()


class RecordedCursor:
    """A cursor whose every step is billed to its statement, however steps interleave."""

    def __init__(self, runner: Runner, sql: str, params: Params) -> None:
        """Begin the statement; SQLite steps it to its first row."""
        self._runner = runner
        self._log = runner.recorder.log
        self._spans: list[Span] = []
        self._row_count = 0
        self._counters = (0, 0, 0, 0)
        self._watch = _Watch(runner)
        runner.borders.clear()
        self.is_finished = False
        with self._watch:
            self._cursor = runner.connection.execute(sql, params, can_cache=_can_cache(sql))
        self._spans.extend(self._watch.spans_until(self._log.position()))

    def __iter__(self) -> "RecordedCursor":
        return self

    def __next__(self) -> tuple[Any, ...]:
        try:
            with self._step():
                row = next(self._cursor)
        except BaseException:
            self._finish()
            raise
        self._row_count += 1
        assert isinstance(row, tuple)
        return row

    def close(self) -> None:
        """End the statement, finished or not."""
        if self.is_finished:
            return
        try:
            with self._step():
                self._cursor.close()
        finally:
            self._finish()

    @contextmanager
    def _step(self) -> Iterator[None]:
        """Bill a step to this statement, and not to one that asks for the row while it runs."""
        outer, borders = self._runner.watch, self._runner.borders
        if outer is not None:
            outer.pause()
        start = self._log.position()
        try:
            yield
        finally:
            self._spans.extend(_phases(RUN, start, borders, self._log.position()))
            borders.clear()
            if outer is not None:
                outer.resume()

    def _finish(self) -> None:
        self.is_finished = True
        runner = self._runner
        if self in runner.cursors:
            runner.cursors.remove(self)
        if self._watch.texts:
            spans = tuple(span for span in self._spans if span[1] > span[0])
            reading = runner.meter.read()
            runner.recorder.statements.append(
                RawStatement(self._watch.texts[0], spans, self._row_count, 1, *reading)
            )


def _can_cache(sql: str) -> bool:
    """Whether SQLite may run a prepared statement again.

    Not a PRAGMA: one that was prepared before ``temp_store`` was set may look at a TEMP database
    that has gone, and ends the process.
    """
    return "pragma" not in sql.lower()


def _may_change_schema(text: StatementText) -> bool:
    return text.kind in ("ddl", "pragma") or text.sql[:8].upper() == "ROLLBACK"


def _phases(first: int, start: int, borders: list[int], stop: int) -> tuple[Span, ...]:
    """Cut ``start`` to ``stop`` where a commit began: run, then commit from the border on."""
    if not borders:
        return ((start, stop, first),)
    return ((start, borders[0], first), (borders[0], stop, COMMIT))
