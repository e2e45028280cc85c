"""What statements of a trace cost in cycles, one by one, so that views can put them together."""

from collections.abc import Callable, Iterable

from sqlstable.analysis.pricing.message_cycles import message_cycles, statement_cycles
from sqlstable.analysis.trace_source import TraceSource
from sqlstable.ic.words import CALL_KIND
from sqlstable.trace.fees import trace_fees
from sqlstable.trace.model import Statement

StatementPrice = Callable[[Statement], int | None]
"""Returns the cycles of a statement; None where nobody counted its instructions."""


def no_price(_statement: Statement) -> None:
    """Know nothing of a statement's cycles."""


def instruction_cycles(trace: TraceSource) -> StatementPrice:
    """Return what a statement's instructions cost; its message's other prices are nobody's."""
    messages, fees = trace.messages, trace_fees(trace.settings)
    return lambda it: statement_cycles(it, messages[it.message].kind, fees)


def group_cycles(trace: TraceSource) -> StatementPrice:
    """Return what a statement adds to the cycles of a group.

    A call of a module is its message, whole: base price, arrival and calls to others included.
    Statements of SQL share a message, so that only their instructions are theirs.
    """
    messages, fees = trace.messages, trace_fees(trace.settings)

    def price(statement: Statement) -> int | None:
        if statement.instructions is None:
            return None
        message = messages[statement.message]
        if statement.kind == CALL_KIND and len(message.statements) == 1:
            return message_cycles(message, fees).total
        return statement_cycles(statement, message.kind, fees)

    return price


def sum_cycles(prices: Iterable[int | None]) -> int | None:
    """Add up cycles; None where some are not known, or there are none.

    Examples:
        >>> sum_cycles([5, 0]), sum_cycles([5, None]), sum_cycles([])
        (5, None, None)
    """
    total: int | None = None
    for price in prices:
        if price is None:
            return None
        total = (total or 0) + price
    return total
