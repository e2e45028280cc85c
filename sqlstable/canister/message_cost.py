"""What one message cost, as a reply tells it."""

from dataclasses import dataclass

from sqlstable.analysis.pricing.message_cycles import cycles_as_update, message_cycles
from sqlstable.analysis.verdict import Verdict, tightest_limit, verdict
from sqlstable.ic.cycle_fees import REFERENCE_NODE_COUNT, CycleFees
from sqlstable.ic.prices import PriceRegime, regime_of
from sqlstable.ic.pricing import spent
from sqlstable.trace.model import LimitUse, Message


@dataclass(frozen=True, slots=True)
class MessageCost:
    """Instructions by what they were spent on, cycles, and shares of limits; None is not counted.

    The native engine counts no operators and watches no heap, so that only stable memory's part is
    known there.
    """

    instructions: int | None
    computation: int | None
    stable: int | None
    heap: int | None
    cycles: int | None
    "On a subnet of so many `nodes`; 0 for a query."
    limits: tuple[LimitUse, ...]
    tightest: LimitUse | None
    "The limit that trapped the message, else that of which it used the largest share."
    verdict: Verdict | None
    nodes: int = REFERENCE_NODE_COUNT
    "Of the subnet by whose prices the cycles are; the canister's memory has 32-bit addresses."
    cycles_as_update: int | None = None
    "What a query would cost were it called as an update; None for what is no query."


def message_cost(message: Message, prices: PriceRegime | None, fees: CycleFees) -> MessageCost:
    """Return what a message cost.

    Args:
        message: As a trace has it.
        prices: What stable memory's part is charged by where nobody counted; None: today's.
        fees: Prices in cycles; the heaps of our own engines are 32-bit.

    Examples:
        >>> from sqlstable import Canister
        >>> with Canister() as canister:
        ...     cost = canister.query("SELECT 1").cost
        >>> cost.instructions, cost.cycles, cost.verdict
        (None, 0, 'fits')
    """
    counted, called = message.instructions, cycles_as_update(message, fees)
    stable = None if counted is None else counted.stable
    if counted is None and message.charged is not None:
        regime = (prices or regime_of(None)).for_message(message.kind)
        stable = spent(message.charged, regime).stable
    return MessageCost(
        instructions=None if counted is None else counted.total,
        computation=None if counted is None else counted.computation,
        stable=stable,
        heap=None if counted is None else counted.heap,
        cycles=message_cycles(message, fees).total,
        limits=message.limits,
        tightest=tightest_limit(message),
        verdict=verdict(message),
        nodes=fees.node_count,
        cycles_as_update=None if called is None else called.total,
    )
