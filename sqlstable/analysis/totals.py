"""Totals of a trace, and of the parts of a message that belong to no statement.

Calls and bytes add up. OS pages and Wasm pages are sets *of one message*, fresh for each message,
as the Internet Computer counts them; a total over several messages is therefore the sum of their
sizes, and an OS page that ten messages touched counts ten times in it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from operator import add, attrgetter
from typing import Final

from sqlstable.analysis.growth import Growth, growth_at_end
from sqlstable.analysis.pricing.trace_cycles import (
    TraceCycles,
    trace_cycles,
    trace_cycles_as_update,
)
from sqlstable.analysis.trace_source import TraceSource
from sqlstable.trace.fees import trace_fees
from sqlstable.trace.model import (
    Calls,
    Instructions,
    Message,
    StableUse,
    Statement,
)

_CALLS: Final = ("read", "write", "size", "grow")
_COUNTS: Final = (
    *("bytes_read", "bytes_written", "os_pages_accessed", "os_pages_dirty"),
    *("wasm_pages_accessed", "wasm_pages_dirty"),
)
_calls: Final = attrgetter(*_CALLS)
_counts: Final = attrgetter(*_COUNTS)
assert [it.name for it in fields(Calls)] == list(_CALLS)
assert [it.name for it in fields(StableUse)] == ["calls", *_COUNTS]

_NO_INSTRUCTIONS: Final = Instructions(0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Totals:
    """All messages of a trace together."""

    message_count: int
    statement_count: int
    row_count: int
    hits: int | None
    "SQLite pages taken from SQLite's own cache; None where no statement counted them."
    stable: StableUse
    "Calls and bytes of all messages; pages as the sum of the messages' sets."
    image_bytes: int | None
    "Size of stable memory after the last message; None for a trace without messages."
    growth: Growth | None
    "What stable memory consists of when the trace ends; None where it does not say."
    instructions: Instructions | None = None
    "Of all messages; None where not every message has some."
    statement_instructions: Instructions | None = None
    "Of all statements; what is left lies around them. None where not all are known."
    phase_instructions: Mapping[str, int] | None = None
    "Those of the statements by phase, encoding their rows included; None where not all are known."
    cycles: TraceCycles | None = None
    "Of all messages; None for a trace without any."
    cycles_as_update: TraceCycles | None = None
    "What the queries, which are free, would cost were each called as an update; None without one."

    @property
    def around_instructions(self) -> Instructions | None:
        """What messages cost beside their statements."""
        return difference(self.instructions, self.statement_instructions)


def totals(trace: TraceSource) -> Totals:
    """Add up all messages of a trace.

    Raises:
        TraceError: The areas of the trace contradict its messages.
    """
    found = trace.summary
    fees = trace_fees(trace.settings)
    return Totals(
        message_count=found.message_count,
        statement_count=found.statement_count,
        row_count=found.row_count,
        hits=found.hits,
        stable=found.stable,
        image_bytes=trace.messages[-1].image_bytes if found.message_count else None,
        growth=growth_at_end(trace),
        instructions=found.instructions,
        statement_instructions=found.statement_instructions,
        phase_instructions=found.phase_instructions,
        cycles=trace_cycles(found.kinds, fees) if found.message_count else None,
        cycles_as_update=trace_cycles_as_update(found.kinds, fees),
    )


def sum_uses(uses: Iterable[StableUse]) -> StableUse:
    """Add up uses field by field; page counts are added too, not united.

    Examples:
        >>> use = StableUse(calls=Calls(read=1), bytes_read=10, os_pages_accessed=1)
        >>> sum_uses([use, use])  # doctest: +ELLIPSIS
        StableUse(calls=Calls(read=2, ...), bytes_read=20, ..., os_pages_accessed=2, ...)
    """
    # One by one: a long trace is not held whole.
    sums = [0] * (len(_CALLS) + len(_COUNTS))
    for use in uses:
        sums = list(map(add, sums, (*_calls(use.calls), *_counts(use))))
    calls, counts = sums[: len(_CALLS)], sums[len(_CALLS) :]
    return StableUse(Calls(*calls), *counts)


def sum_instructions(uses: Iterable[Instructions | None]) -> Instructions | None:
    """Add up instructions; None where some are not known, or there are none.

    Examples:
        >>> sum_instructions([Instructions(5, 2, 2, 1), Instructions(1, 1, 0, 0)])
        Instructions(total=6, computation=3, stable=2, heap=1, measured=True, error_band=None)
        >>> sum_instructions([None])
    """
    total = None
    for use in uses:
        if use is None:
            return None
        total = _added(total or _NO_INSTRUCTIONS, use)
    return total


def _added(one: Instructions, other: Instructions) -> Instructions:
    return Instructions(
        one.total + other.total,
        one.computation + other.computation,
        one.stable + other.stable,
        one.heap + other.heap,
        measured=one.measured and other.measured,
    )


def statement_instructions(statements: Sequence[Statement]) -> Instructions | None:
    """Add up what statements cost; no statement costs nothing."""
    if not statements:
        return Instructions(0, 0, 0, 0)
    return sum_instructions(statement.instructions for statement in statements)


def around_statements(trace: TraceSource, message: Message) -> Instructions | None:
    """Return what a message cost beside its statements: opening, reading the request, replying."""
    if message.instructions is None:
        return None
    own = statement_instructions([trace.statements[index] for index in message.statements])
    return difference(message.instructions, own)


def difference(whole: Instructions | None, part: Instructions | None) -> Instructions | None:
    """Take a part away from the whole, kind by kind; None where one is not known.

    Examples:
        >>> difference(Instructions(9, 4, 3, 2), Instructions(5, 2, 2, 1))
        Instructions(total=4, computation=2, stable=1, heap=1, measured=True, error_band=None)
    """
    if whole is None or part is None:
        return None
    return Instructions(
        total=whole.total - part.total,
        computation=whole.computation - part.computation,
        stable=whole.stable - part.stable,
        heap=whole.heap - part.heap,
        measured=whole.measured and part.measured,
    )


def sum_known(counts: Iterable[int | None]) -> int | None:
    """Add up the counts that are known; None where none is.

    Examples:
        >>> sum_known([1, None, 2]), sum_known([None])
        (3, None)
    """
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def outside_total(trace: TraceSource) -> StableUse:
    """Add up what all messages did outside of their statements; pages as the sum of their sets."""
    return sum_uses(outside_use(trace, message) for message in trace.messages)


def outside_use(trace: TraceSource, message: Message) -> StableUse:
    """Return what a message did in stable memory that belongs to none of its statements.

    Pages are united over its outside entries. That needs their accesses only where two entries
    touched some; otherwise the recorded counts already are the union, and nothing is read.
    """
    if sum(entry.stable.os_pages_accessed > 0 for entry in message.outside) <= 1:
        return sum_uses(entry.stable for entry in message.outside)
    from sqlstable.trace.footprint import measure  # noqa: PLC0415  numbers need no arrays

    return measure(accesses for _, accesses in trace.outside_accesses(message)).use
