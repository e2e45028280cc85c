"""How a message's cycles are spelled: what is paid, or what a free query costs as an update."""

from sqlstable.analysis.pricing.message_cycles import cycles_as_update, message_cycles
from sqlstable.analysis.spelled_numbers import counted
from sqlstable.analysis.verdict import is_import
from sqlstable.ic.cycle_fees import CycleFees
from sqlstable.ic.message_fees import FREE_KINDS
from sqlstable.trace.model import Message


def paid_words(message: Message, fees: CycleFees) -> str:
    """Say what a message costs in cycles; nothing where that is not known, or nobody pays for it.

    Args:
        message: Of a trace.
        fees: Of the subnet.

    Examples:
        >>> from sqlstable import Canister
        >>> with Canister(engine="wasm") as canister:
        ...     asked, made = canister.query("SELECT 1"), canister.update("SELECT 1")
        >>> paid_words(asked.message, CycleFees()) == "free; as an update " + paid_words(
        ...     made.message, CycleFees()
        ... )
        True
    """
    if is_import(message):
        return "" if message.instructions is None else "no canister's work, so no cycles"
    if message.kind not in FREE_KINDS:
        total = message_cycles(message, fees).total
        return "" if total is None else counted(total, "cycle")
    called = cycles_as_update(message, fees)
    return "" if called is None or called.total is None else as_update_words(called.total)


def as_update_words(cycles: int) -> str:
    """Say what is free as a query and what it costs as an update.

    Examples:
        >>> as_update_words(7_123_456)
        'free; as an update 7,123,456 cycles'
    """
    return f"free; as an update {counted(cycles, 'cycle')}"
