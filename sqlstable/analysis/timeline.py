"""A trace laid out on one axis: messages, their statements, and the phases of these.

The axis counts what was measured, never time: instructions where all messages have them, else
calls of the stable memory API. Slices follow each other without gaps, so a profiler's views of
them (flame graph, left-heavy, timeline) show shares that add up.

**Invariants**

* The children of a slice lie inside of it, one behind the other, and end where it ends.
* The slices of all messages cover the axis, and its length is what all messages come to.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Literal

from sqlstable.analysis.trace_source import TraceSource
from sqlstable.ic.words import INSTRUCTION_PHASES, PHASES
from sqlstable.trace.model import Message, StableUse, Statement

Unit = Literal["instructions", "calls"]

AROUND = "around statements"
"""What a message spends before, between and behind its statements."""

HEAP = "heap"
"""What is charged to a statement for the heap, in whichever phase it was touched."""


@dataclass(frozen=True, slots=True)
class Slice:
    """A stretch of the axis."""

    name: str
    category: str
    "message, statement, phase or outside."
    start: int
    length: int
    facts: Mapping[str, object] = field(default_factory=dict)
    "What else is known of it, by names with their units."
    children: "tuple[Slice, ...]" = ()

    @property
    def stop(self) -> int:
        """Where it ends."""
        return self.start + self.length


def unit_of(trace: TraceSource) -> Unit:
    """Return what the axis of a trace counts."""
    spent = trace.summary.instructions
    return "calls" if spent is None else "instructions"


def timeline(trace: TraceSource) -> Iterator[Slice]:
    """Yield a slice for each message, in order.

    Examples:
        >>> import sqlstable
        >>> with sqlstable.Canister() as canister:
        ...     reply = canister.query("SELECT 1")
        >>> from sqlstable.analysis.timeline import message_slice
        >>> message_slice(reply.message, reply.statements, "calls", 10).stop
        10
    """
    unit, start = unit_of(trace), 0
    for message in trace.messages:
        statements = [trace.statements[index] for index in message.statements]
        found = message_slice(message, statements, unit, start)
        yield found
        start = found.stop


def message_slice(
    message: Message, statements: Iterable[Statement], unit: Unit, start: int
) -> Slice:
    """Return the slice of one message, which begins at ``start``."""
    at = start
    children = []
    for statement in statements:
        children.append(_statement_slice(statement, unit, at))
        at = children[-1].stop
    if unit == "calls":
        for outside in message.outside:
            children.append(_leaf(outside.name, "outside", at, _calls(outside.stable)))
            at = children[-1].stop
        length = at - start
    else:
        length = _spent(message)
        children.append(_leaf(AROUND, "outside", at, start + length - at))
    label = "" if message.label is None else f" {message.label}"
    facts = {
        "message": message.index,
        "outcome": message.outcome,
        "trap": message.trap,
        "cache": message.cache,
        "continues": message.continues,
        **_stable_facts(message.stable),
    }
    name = f"{message.kind}{label}"
    return Slice(name, "message", start, length, facts, _there(children))


def _statement_slice(statement: Statement, unit: Unit, start: int) -> Slice:
    lengths = _phase_lengths(statement, unit)
    at, children = start, []
    for name, length in lengths:
        children.append(_leaf(name, "phase", at, length))
        at += length
    facts = {
        "statement": statement.index,
        "sql": statement.sql,
        "plan": "\n".join(statement.plan),
        "rows": statement.row_count,
        "runs": statement.runs,
        **_stable_facts(statement.stable),
    }
    name = statement.shape or statement.sql
    return Slice(name, "statement", start, at - start, facts, _there(children))


def _phase_lengths(statement: Statement, unit: Unit) -> Iterable[tuple[str, int]]:
    if unit == "calls":
        return [(phase, _calls(statement.phases[phase])) for phase in PHASES]
    spent, by_phase = statement.instructions, statement.phase_instructions
    if spent is None:
        return []
    if by_phase is None:
        return [("run", spent.total)]
    phases = [(phase, by_phase[phase]) for phase in INSTRUCTION_PHASES]
    return chain(phases, [(HEAP, spent.total - sum(by_phase.values()))])


def _leaf(name: str, category: str, start: int, length: int) -> Slice:
    return Slice(name, category, start, length)


def _there(children: Iterable[Slice]) -> tuple[Slice, ...]:
    return tuple(child for child in children if child.length > 0)


def _spent(message: Message) -> int:
    return 0 if message.instructions is None else message.instructions.total


def _calls(use: StableUse) -> int:
    return use.calls.read + use.calls.write + use.calls.size + use.calls.grow


def _stable_facts(use: StableUse) -> dict[str, object]:
    return {
        "os_pages_accessed": use.os_pages_accessed,
        "os_pages_dirty": use.os_pages_dirty,
        "bytes_read": use.bytes_read,
        "bytes_written": use.bytes_written,
    }
