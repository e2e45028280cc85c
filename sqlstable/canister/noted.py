"""What the measured engine has noted of a message, in the form of a recorder."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Final, overload

import numpy as np
import numpy.typing as npt

from sqlstable.canister.charging import spent_between, spent_by_message
from sqlstable.engine.measured.codec import Loop, StatementCounters
from sqlstable.engine.measured.notes import Border, CallNote, Mark, MessageNotes, WholeNote
from sqlstable.engine.measured.schema_copy import Plan
from sqlstable.errors import Trap
from sqlstable.ic import words
from sqlstable.ic.charged import Charged, Payloads, charged_together
from sqlstable.ic.words import INSTRUCTION_PHASES
from sqlstable.trace.model import Instructions, LoopUse
from sqlstable.trace.recording.raw import (
    NO_COUNTERS,
    PREPARE_ERROR,
    Costs,
    Counters,
    OutsideSpan,
    RawMessage,
    RawStatement,
    Span,
    StatementText,
    clean_sql,
)
from sqlstable.trace.shape import kind_of
from sqlstable.wasm.rewrite.metering import EXTRAS

_Rows = npt.NDArray[np.int64]


def raw_message(
    notes: MessageNotes, outside: Sequence[OutsideSpan], trap: Trap | None = None
) -> RawMessage:
    """Return notes of a message, and the trap that ended it, as a recorder gives them."""
    statements = NotedStatements(notes)
    extra = statements.failed_spans() if statements.has_failure else ()
    costs = partial(_costs_of, notes, trap)
    return RawMessage(notes.log.taken(), statements, (*outside, *extra), costs)


def _costs_of(notes: MessageNotes, trap: Trap | None) -> Costs:
    """Return what a message has cost, and what it brought and sent."""
    request_bytes = sum(call.request_bytes for call in notes.calls)
    reply_bytes = sum(call.reply_bytes for call in notes.calls)
    if trap is not None:
        reply_bytes = len(str(trap).encode())
    return Costs(*spent_by_message(notes), Payloads(request_bytes, reply_bytes))


_PHASE_OF: Final[Mapping[int, int]] = {
    Mark.GLUE: words.RUN,
    Mark.PREPARE: words.PREPARE,
    Mark.RUN: words.RUN,
    Mark.COMMIT: words.COMMIT,
    Mark.ENCODE: words.RUN,
}
"""Whom accesses are billed to, by the mark that they follow."""

_INSTRUCTIONS_OF: Final = {
    "prepare": Mark.PREPARE,
    "run": Mark.RUN,
    "commit": Mark.COMMIT,
    "reply": Mark.ENCODE,
}

assert set(_PHASE_OF) == set(Mark)
assert tuple(_INSTRUCTIONS_OF) == INSTRUCTION_PHASES

_MARK, _INSTRUCTIONS, _LOG = map(Border._fields.index, ("mark", "instructions", "log_count"))

_HEAP: Final = slice(
    Border._fields.index("heap_regions"), Border._fields.index("heap_os_pages") + 1
)

_COMPUTED: Final = [(name, Border._fields.index(name)) for name in ("instructions", *EXTRAS)]
"""Columns of what operators cost."""


class NotedStatements(Sequence[RawStatement]):
    """The statements of a message, worked out when somebody asks."""

    def __init__(self, notes: MessageNotes) -> None:
        self._notes = notes
        self._length = 0
        self.has_failure = False
        "Whether SQLite refused a statement."
        for call in notes.calls:
            self._length += self._statement_count(call)
            self.has_failure |= call.is_failed
        self._made: list[RawStatement] | None = None
        self._failed: list[OutsideSpan] = []
        self._ends: dict[int, tuple[int, ...]] = {}
        "The ends of calls, by the number of borders before them, once calls are joined."

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> RawStatement: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[RawStatement]: ...

    def __getitem__(self, index: int | slice) -> RawStatement | Sequence[RawStatement]:
        return self._all()[index]

    def __iter__(self) -> Iterator[RawStatement]:
        return iter(self._all())

    def failed_spans(self) -> list[OutsideSpan]:
        """Return the accesses of what could not be prepared."""
        self._all()
        return self._failed

    def _all(self) -> list[RawStatement]:
        if self._made is None:
            if any(call.whole is not None for call in self._notes.calls):
                self._ends = {call.border_stop: call.end_row for call in self._notes.calls}
            self._made = [
                statement for call in self._notes.calls for statement in self._of_call(call)
            ]
            assert len(self._made) == self._length
        return self._made

    def _statement_count(self, call: CallNote) -> int:
        if call.whole is not None:
            return int(call is call.whole.calls[-1])
        return len(_begun(call, self._table(call))) if call.trapped else len(call.results)

    def _table(self, call: CallNote) -> _Rows:
        """Return the borders of a call, and its end as one more."""
        rows = self._notes.border_rows()[call.border_start : call.border_stop]
        return np.concatenate((rows, np.array([call.end_row], dtype=np.int64)))

    def _of_call(self, call: CallNote) -> Iterator[RawStatement]:
        if call.whole is not None:
            if call is call.whole.calls[-1]:
                yield self._whole(call.whole)
            return
        table = self._table(call)
        rows = table[:-1]
        starts = np.flatnonzero(rows[:, _MARK] == Mark.PREPARE).tolist()
        if call.trapped:
            yield from self._trapped(call, table)
            return
        indexes = iter(range(len(call.results)))
        for start, stop in pairwise((*starts, len(rows))):
            group = table[start : stop + 1]
            if Mark.RUN in group[:-1, _MARK]:
                yield self._statement(call, next(indexes), group)
                continue
            span = OutsideSpan(int(group[0, _LOG]), int(group[-1, _LOG]), PREPARE_ERROR)
            if span.stop > span.start:
                self._failed.append(span)

    def _statement(self, call: CallNote, index: int, group: _Rows) -> RawStatement:
        result = call.results[index]
        readonly = result.facts.is_readonly
        sql = _cleaned(result.facts.cut_from(call.sql))
        plan = call.plans[index] if index < len(call.plans) else ()
        text = StatementText(sql, kind_of(sql, readonly=readonly), readonly, plan)
        counters = result.counters
        costs, charged, phases = self._costs(group)
        return RawStatement(
            text,
            _spans(group),
            call.row_counts[index],
            max(1, result.runs),
            None if counters is None else counters.cache_hits,
            None if counters is None else counters.vm_steps,
            None if counters is None else counters.fullscan_steps,
            None if counters is None else counters.sorts,
            costs,
            phases,
            tuple(map(_loop_use, result.loops)),
            charged,
        )

    def _whole(self, whole: WholeNote) -> RawStatement:
        """Join what calls did for one statement, or statements for one call."""
        results = [result for call in whole.calls for result in call.results]
        readonly = all(result.facts.is_readonly for result in results)
        plans = [plan for call in whole.calls for plan in call.plans]
        sql = _cleaned(whole.sql)
        text = StatementText(
            sql, kind_of(sql, readonly=readonly), readonly, plans[0] if plans else ()
        )
        tables = [table for call in whole.calls if len(table := self._whole_table(call)) > 1]
        parts = [self._costs(table) for table in tables]
        costs = [cost for cost, _, _ in parts]
        counters = [result.counters for result in results if result.counters is not None]
        return RawStatement(
            text,
            tuple(span for table in tables for span in _spans(table)),
            whole.row_count,
            whole.runs,
            *_added(counters),
            Instructions(
                sum(cost.total for cost in costs),
                sum(cost.computation for cost in costs),
                sum(cost.stable for cost in costs),
                sum(cost.heap for cost in costs),
            ),
            {name: sum(phases[name] for _, _, phases in parts) for name in _INSTRUCTIONS_OF},
            tuple(_loop_use(loop) for result in results for loop in result.loops),
            charged_together([charged for _, charged, _ in parts]),
        )

    def _whole_table(self, call: CallNote) -> _Rows:
        """Return the borders of a call that is part of a statement, the first one filled in.

        The shim tells of the heap at the beginning of statements, and at the end of calls.
        """
        table = self._table(call)
        if table[0, _MARK] != Mark.PREPARE:
            before = self._ends.get(call.border_start)
            if before is not None:
                table[0, _HEAP] = before[_HEAP]
        return table

    def _trapped(self, call: CallNote, table: _Rows) -> Iterator[RawStatement]:
        """A call that trapped has told nothing of its statements: its borders and text do."""
        starts = _begun(call, table)
        stops = (*starts[1:], len(table) - 1)
        for (sql, plan), start, stop in zip(call.trapped, starts, stops, strict=False):
            yield self._cut_off(_cleaned(sql), plan, table[start : stop + 1])

    def _cut_off(self, sql: str, plan: Plan, group: _Rows) -> RawStatement:
        kind = kind_of(sql, readonly=plan.is_readonly)
        text = StatementText(sql, kind, plan.is_readonly or kind == "read", plan.lines)
        # Rows are encoded one by one.
        rows = np.count_nonzero(group[:-1, _MARK] == Mark.ENCODE)
        costs, charged, phases = self._costs(group)
        return RawStatement(
            text, _spans(group), int(rows), 1, None, None, None, None, costs, phases, (), charged
        )

    def _costs(self, group: _Rows) -> tuple[Instructions, Charged, dict[str, int]]:
        spent, marks = np.diff(group[:, _INSTRUCTIONS]), group[:-1, _MARK]
        phases = {name: int(spent[marks == mark].sum()) for name, mark in _INSTRUCTIONS_OF.items()}
        first, last = Border(*group[0].tolist()), Border(*group[-1].tolist())
        if Mark.GLUE in marks:
            # What lies between phases is nobody's statement.
            glue = np.diff(group, axis=0)[marks == Mark.GLUE].sum(axis=0).tolist()
            ends = ((name, getattr(last, name) - glue[at]) for name, at in _COMPUTED)
            last = last._replace(**dict(ends))
        return *spent_between(self._notes, first, last), phases


def _begun(call: CallNote, table: _Rows) -> list[int]:
    """Return at which borders the statements of a call that trapped begin.

    The first has what lies before it, and one that its text does not tell apart is the last.
    """
    starts = np.flatnonzero(table[:-1, _MARK] == Mark.PREPARE).tolist()
    return [0, *starts[1 : len(call.trapped)]]


def _loop_use(loop: Loop) -> LoopUse:
    return LoopUse(loop.name, loop.plan, loop.loops, loop.visits, loop.estimated_rows)


def _added(counters: Sequence[StatementCounters]) -> Counters:
    """Return hits, VM steps, full-scan steps and sorts of all."""
    if not counters:
        return NO_COUNTERS
    return (
        sum(each.cache_hits for each in counters),
        sum(each.vm_steps for each in counters),
        sum(each.fullscan_steps for each in counters),
        sum(each.sorts for each in counters),
    )


def _cleaned(sql: str) -> str:
    """Return a statement without what SQLite skips before it: comments, and bare semicolons."""
    cleaned = clean_sql(sql)
    while cleaned.startswith(";"):
        cleaned = clean_sql(cleaned[1:])
    return cleaned


def _spans(group: _Rows) -> tuple[Span, ...]:
    """Return who is billed for which accesses, neighbours of one phase joined."""
    logs, marks = group[:, _LOG], group[:-1, _MARK]
    moved = np.flatnonzero(np.diff(logs))
    spans: list[Span] = []
    for index in moved.tolist():
        start, stop, phase = int(logs[index]), int(logs[index + 1]), _PHASE_OF[int(marks[index])]
        if spans and spans[-1][1] == start and spans[-1][2] == phase:
            spans[-1] = (spans[-1][0], stop, phase)
        else:
            spans.append((start, stop, phase))
    at = int(logs[0])
    return tuple(spans) or ((at, at, words.RUN),)
