"""A trace held against the limits of another day, without running it again.

**Limitations.** What ran, ran under the limits of the run: a message that one of those trapped has
not gone further here, and one that would have been trapped here is shown with all that it used.
Its later messages then start from what it left, which on that day nothing had left.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from sqlstable.analysis.fitting.uses import limit_uses
from sqlstable.analysis.mapped_trace import mapped_trace
from sqlstable.analysis.trace_source import TraceSource
from sqlstable.analysis.verdict import applies, is_import, share, tightest_limit
from sqlstable.ic.limits import Limits
from sqlstable.ic.words import INSTRUCTIONS, OS_PAGES_ACCESSED, OS_PAGES_DIRTY
from sqlstable.trace.format.reader import Trace
from sqlstable.trace.model import LimitUse, Message

RECORDED_LIMITS: Final = "recorded_limits"
"""Name of the setting that keeps the day of the limits that a trace was recorded under."""


def relimited(trace: TraceSource, limits: Limits) -> Trace:
    """Return a trace as held against the limits of a day, to be closed on its own.

    Args:
        trace: What was recorded; it stays open, and as it is.
        limits: Of the day.

    Examples:
        >>> from sqlstable import Canister
        >>> from sqlstable.ic.limits import limits_at
        >>> with Canister(trace=":memory:") as canister:
        ...     reply = canister.update("CREATE TABLE t (a)")
        ...     with canister.trace() as trace:
        ...         then = relimited(trace, limits_at("2021-09-01"))
        >>> [use.limit // 2**30 for use in then.messages[1].limits if use.name.endswith("_bytes")]
        [4]
        >>> then.close()
    """

    def of_message(message: Message) -> Message:
        if is_import(message) or message.kind == "uninstall":
            return message
        return replace(message, limits=limit_uses(message, limits))

    settings = {
        "limits": limits.date.isoformat(),
        RECORDED_LIMITS: trace.settings.values.get("limits"),
    }
    return mapped_trace(trace, message=of_message, settings=settings)


@dataclass(frozen=True, slots=True)
class Crossing:
    """The first message that is over a limit, and where it crosses it."""

    message: Message
    use: LimitUse
    "Of the limit."
    statement: int | None
    "Index of the statement that crosses it; None where no single one does."


def first_crossing(trace: TraceSource) -> Crossing | None:
    """Return the first message of a trace that is over a limit; None where all fit."""
    if not trace.summary.exceeding:
        return None
    message = trace.messages[trace.summary.exceeding[0]]
    use = tightest_limit(message)
    return None if use is None else Crossing(message, use, crossing_statement(trace, message, use))


def crossing_statement(trace: TraceSource, message: Message, use: LimitUse) -> int | None:
    """Return the statement at which a message's use of a limit is first above it.

    A message that was trapped by the limit stopped in its last statement. Of instructions, those
    around the statements are taken to come last.
    """
    if message.outcome == "trapped" and message.trap_limit == use.name:
        return message.statements[-1] if message.statements else None
    if not applies(use) or share(use) <= 1:
        return None
    if use.name == INSTRUCTIONS:
        return _crossed(_instructions(trace, message), use.limit)
    if use.name in (OS_PAGES_ACCESSED, OS_PAGES_DIRTY) and not message.parts:
        return _crossed(_os_pages(trace, message, is_dirty=use.name == OS_PAGES_DIRTY), use.limit)
    return None


def _crossed(sums: Iterator[tuple[int, int]], limit: int) -> int | None:
    return next((index for index, used in sums if used > limit), None)


def _instructions(trace: TraceSource, message: Message) -> Iterator[tuple[int, int]]:
    used = 0
    for index in message.statements:
        spent = trace.statements[index].instructions
        used += 0 if spent is None else spent.total
        yield index, used


def _os_pages(trace: TraceSource, message: Message, *, is_dirty: bool) -> Iterator[tuple[int, int]]:
    from sqlstable.trace.footprint import EMPTY, measure, unite  # noqa: PLC0415  needs arrays

    found = EMPTY
    for index in message.statements:
        found = unite([found, measure([trace.accesses(trace.statements[index])])])
        yield index, found.os_pages_dirty if is_dirty else found.os_pages_accessed
