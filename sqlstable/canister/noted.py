"""What the measured engine has noted of a message, in the form of a recorder."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Final, overload

import numpy as np
import numpy.typing as npt

from sqlstable.engine.measured.notes import CallNote, HeapTouched, Mark, MessageNotes
from sqlstable.ic import words
from sqlstable.ic.words import INSTRUCTION_PHASES
from sqlstable.trace.model import HeapUse, Instructions, LoopUse
from sqlstable.trace.recording.raw import (
    PREPARE_ERROR,
    OutsideSpan,
    RawMessage,
    RawStatement,
    Span,
    StatementText,
    clean_sql,
)
from sqlstable.trace.shape import kind_of

_Rows = npt.NDArray[np.int64]


def raw_message(notes: MessageNotes, outside: Sequence[OutsideSpan]) -> RawMessage:
    """Return notes of a message as a recorder gives them."""
    statements = NotedStatements(notes)
    extra = statements.failed_spans() if statements.has_failure else ()
    return RawMessage(notes.log.taken(), statements, (*outside, *extra), lambda: _costs(notes))


def _costs(notes: MessageNotes) -> tuple[Instructions, HeapUse | None]:
    total, stable_part, heap_part = notes.cost
    heap = notes.heap
    return (
        Instructions(total, total - stable_part - heap_part, stable_part, heap_part),
        None if heap is None else HeapUse(*heap),
    )


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

_MARK, _INSTRUCTIONS, _LOG, _CHARGES, _REGIONS, _OS_PAGES = range(6)


class NotedStatements(Sequence[RawStatement]):
    """The statements of a message, worked out when somebody asks."""

    def __init__(self, notes: MessageNotes) -> None:
        self._notes = notes
        self._length = 0
        self.has_failure = False
        "Whether SQLite refused a statement."
        for call in notes.calls:
            self._length += 1 if call.is_trapped else len(call.results)
            self.has_failure |= call.is_failed
        self._made: list[RawStatement] | None = None
        self._failed: list[OutsideSpan] = []

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
            self._made = [
                statement for call in self._notes.calls for statement in self._of_call(call)
            ]
            assert len(self._made) == self._length
        return self._made

    def _of_call(self, call: CallNote) -> Iterator[RawStatement]:
        rows = self._notes.border_rows()[call.border_start : call.border_stop]
        end = np.array([call.end_row], dtype=np.int64)
        table = np.concatenate((rows, end))
        starts = np.flatnonzero(rows[:, _MARK] == Mark.PREPARE).tolist()
        if call.is_trapped:
            yield self._trapped(call, table)
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
        costs, phases = self._costs(group)
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
            tuple(
                LoopUse(loop.name, loop.plan, loop.loops, loop.visits, loop.estimated_rows)
                for loop in result.loops
            ),
        )

    def _trapped(self, call: CallNote, table: _Rows) -> RawStatement:
        """A call that trapped has told nothing of its statements: they count as one."""
        sql = clean_sql(call.sql)
        readonly = call.is_readonly
        plan = call.plans[0] if call.plans else ()
        text = StatementText(sql, kind_of(sql, readonly=readonly), readonly, plan)
        if len(table) < 2:
            stop = int(table[-1, _LOG])
            return RawStatement(text, ((stop, stop, words.RUN),), 0, 1, None, None, None, None)
        costs, phases = self._costs(table)
        return RawStatement(text, _spans(table), 0, 1, None, None, None, None, costs, phases)

    def _costs(self, group: _Rows) -> tuple[Instructions, dict[str, int]]:
        notes = self._notes
        spent, marks = np.diff(group[:, _INSTRUCTIONS]), group[:-1, _MARK]
        phases = {name: int(spent[marks == mark].sum()) for name, mark in _INSTRUCTIONS_OF.items()}
        stable_part = int(group[-1, _CHARGES] - group[0, _CHARGES]) + notes.log.stable_cost(
            int(group[0, _LOG]), int(group[-1, _LOG]), notes.regime
        )
        heap = 0
        if notes.watches_heap:
            before, after = int(group[0, _REGIONS]), int(group[-1, _REGIONS])
            touched = HeapTouched(
                (after & _LOW) - (before & _LOW),
                (after >> 32) - (before >> 32),
                int(group[-1, _OS_PAGES] - group[0, _OS_PAGES]),
                0,
            )
            heap = touched.cost(notes.regime)
        counted = sum(phases.values())
        return Instructions(counted + heap, counted - stable_part, stable_part, heap), phases


_LOW: Final = (1 << 32) - 1


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
