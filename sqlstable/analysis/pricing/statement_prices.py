"""What statements of a trace cost in cycles, one by one, so that views can put them together."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from sqlstable.analysis.pricing.message_cycles import (
    cycles_as_update,
    message_cycles,
    statement_cycles,
    statement_cycles_as_update,
)
from sqlstable.analysis.trace_source import TraceSource
from sqlstable.ic.words import CALL_KIND
from sqlstable.trace.fees import trace_fees
from sqlstable.trace.model import Statement


@dataclass(frozen=True, slots=True)
class StatementCycles:
    """Cycles of a statement, or of several together; None where nobody counted instructions."""

    paid: int | None = None
    as_update: int | None = None
    """What those in queries, which are free, would cost were these called as updates. None where
    there is no such statement, too."""


StatementPrice = Callable[[Statement], StatementCycles]
"""Returns the cycles of a statement."""


def no_price(_statement: Statement) -> StatementCycles:
    """Know nothing of a statement's cycles."""
    return StatementCycles()


def instruction_cycles(trace: TraceSource) -> StatementPrice:
    """Return what a statement's instructions cost; its message's other prices are nobody's."""
    messages, fees = trace.messages, trace_fees(trace.settings)

    def price(statement: Statement) -> StatementCycles:
        kind = messages[statement.message].kind
        return StatementCycles(
            statement_cycles(statement, kind, fees),
            statement_cycles_as_update(statement, kind, fees),
        )

    return price


def group_cycles(trace: TraceSource) -> StatementPrice:
    """Return what a statement adds to the cycles of a group.

    A call of a module is its message, whole: base price, arrival and calls to others included.
    Statements of SQL share a message, so that only their instructions are theirs.
    """
    messages, fees = trace.messages, trace_fees(trace.settings)
    by_itself = instruction_cycles(trace)

    def price(statement: Statement) -> StatementCycles:
        if statement.instructions is None:
            return StatementCycles()
        message = messages[statement.message]
        if statement.kind != CALL_KIND or len(message.statements) != 1:
            return by_itself(statement)
        called = cycles_as_update(message, fees)
        return StatementCycles(
            message_cycles(message, fees).total, None if called is None else called.total
        )

    return price


def sum_cycles(prices: Iterable[StatementCycles]) -> StatementCycles:
    """Add up cycles; None where what is paid is not known of some, or there are none.

    Examples:
        >>> sum_cycles([StatementCycles(5), StatementCycles(0, 7)])
        StatementCycles(paid=5, as_update=7)
        >>> sum_cycles([StatementCycles(5), StatementCycles()]), sum_cycles([])
        (StatementCycles(paid=None, as_update=None), StatementCycles(paid=None, as_update=None))
    """
    paid: int | None = None
    as_update: int | None = None
    for price in prices:
        if price.paid is None:
            return StatementCycles()
        paid = (paid or 0) + price.paid
        if price.as_update is not None:
            as_update = (as_update or 0) + price.as_update
    return StatementCycles(paid, as_update)
