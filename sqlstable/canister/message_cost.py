"""What a message cost, or a call with all that it took, as a reply tells it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from sqlstable.analysis.pricing.message_cycles import cycles_as_update, message_cycles
from sqlstable.analysis.verdict import Verdict, share, tightest_limit, verdict
from sqlstable.ic.cycle_fees import REFERENCE_NODE_COUNT, CycleFees
from sqlstable.ic.message_fees import MessageCycles
from sqlstable.ic.prices import PriceRegime, regime_of
from sqlstable.ic.pricing import spent
from sqlstable.trace.model import LimitUse, Message

_VERDICTS: Final[tuple[Verdict | None, ...]] = (None, "fits", "fits as far as it ran", "exceeds")
"""From what says least to what is worst."""


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
    cycle_parts: MessageCycles
    "What they are paid for: ``.base``, ``.execution``, ``.ingress`` and ``.calls``."
    limits: tuple[LimitUse, ...]
    tightest: LimitUse | None
    "The limit that trapped the message, else that of which it used the largest share."
    verdict: Verdict | None
    nodes: int = REFERENCE_NODE_COUNT
    "Of the subnet by whose prices the cycles are."
    cycles_as_update: int | None = None
    "What a query would cost were it called as an update; None for what is no query."


def message_cost(message: Message, prices: PriceRegime | None, fees: CycleFees) -> MessageCost:
    """Return what a message cost.

    Args:
        message: As a trace has it.
        prices: What stable memory's part is charged by where nobody counted; None: today's.
        fees: Prices in cycles.

    Examples:
        >>> from sqlstable import Canister
        >>> with Canister() as canister:
        ...     cost = canister.query("SELECT 1").cost
        >>> cost.instructions, cost.cycles, cost.verdict
        (None, 0, 'fits')
    """
    counted, called = message.instructions, cycles_as_update(message, fees)
    paid = message_cycles(message, fees)
    stable = None if counted is None else counted.stable
    if counted is None and message.charged is not None:
        regime = (prices or regime_of(None)).for_message(message.kind)
        stable = spent(message.charged, regime).stable
    return MessageCost(
        instructions=None if counted is None else counted.total,
        computation=None if counted is None else counted.computation,
        stable=stable,
        heap=None if counted is None else counted.heap,
        cycles=paid.total,
        cycle_parts=paid,
        limits=message.limits,
        tightest=tightest_limit(message),
        verdict=verdict(message),
        nodes=fees.node_count,
        cycles_as_update=None if called is None else called.total,
    )


def cost_together(costs: Sequence[MessageCost]) -> MessageCost:
    """Return what the messages of a call cost together.

    Limits are those of the first, the call itself; of the tightest one and of the verdict every
    message has its say, and the worst counts.

    Examples:
        >>> cost_together(()).instructions, cost_together(()).cycles
        (0, 0)
    """
    parts = [it.cycle_parts for it in costs]
    paid = MessageCycles(
        base=sum(it.base for it in parts),
        execution=_sum(it.execution for it in parts),
        ingress=_sum(it.ingress for it in parts),
        calls=sum(it.calls for it in parts),
        prepaid=max((it.prepaid for it in parts if it.prepaid is not None), default=None),
    )
    worst = max((it.verdict for it in costs), key=_VERDICTS.index, default=None)
    tightest = [it.tightest for it in costs if it.tightest is not None and it.verdict == worst]
    return MessageCost(
        instructions=_sum(it.instructions for it in costs),
        computation=_sum(it.computation for it in costs),
        stable=_sum(it.stable for it in costs),
        heap=_sum(it.heap for it in costs),
        cycles=paid.total,
        cycle_parts=paid,
        limits=costs[0].limits if costs else (),
        tightest=max(tightest, key=share, default=None),
        verdict=worst,
        nodes=costs[0].nodes if costs else REFERENCE_NODE_COUNT,
        cycles_as_update=_as_update(costs),
    )


def _as_update(costs: Sequence[MessageCost]) -> int | None:
    """Return what a call costs whose query is called as an update; None where none can be."""
    if all(it.cycles_as_update is None for it in costs):
        return None
    return _sum(it.cycles if it.cycles_as_update is None else it.cycles_as_update for it in costs)


def _sum(figures: Iterable[int | None]) -> int | None:
    """Add up what is known; None where one is not."""
    total = 0
    for figure in figures:
        if figure is None:
            return None
        total += figure
    return total
