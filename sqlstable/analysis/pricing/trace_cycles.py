"""What all messages of a trace cost, from sums that SQLite makes; stable memory's part.

**Invariants**

- The sums are those of `sqlstable.analysis.pricing.message_cycles` over all messages, on a subnet
  of 13 nodes: there no price is rounded but that of instructions, message by message.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from sqlstable.ic.cycle_fees import REFERENCE_NODE_COUNT, CycleFees
from sqlstable.ic.message_fees import (
    AS_UPDATE,
    FREE_KINDS,
    FROM_OUTSIDE,
    IMPORT,
    NAMED,
    WITHOUT_BASE,
)
from sqlstable.ic.prices import PriceRegime
from sqlstable.ic.pricing import spent
from sqlstable.ic.snapshot_costs import whole_instructions
from sqlstable.trace.format.kind_sums import KindSums


@dataclass(frozen=True, slots=True)
class TraceCycles:
    """Cycles of all messages, by what they are paid for; queries that nobody replicates are free.

    Examples:
        >>> TraceCycles(5_000_000, 2_000_000, 1_200_000, 0).total
        8200000
    """

    base: int
    execution: int | None
    "For instructions; None where some messages have none that are known."
    ingress: int
    "For what arrives from outside, as far as its bytes are known."
    calls: int
    unknown_arrivals: int = 0
    "Messages from outside whose bytes nobody counted."
    paid_count: int = 0
    "Messages that are not free."
    nodes: int = REFERENCE_NODE_COUNT
    "Of the subnet."
    heap_address_bits: int = 32
    "With 64 an instruction costs twice as much."
    import_count: int = 0
    "Messages left out, as they loaded a database: that is no canister's work."

    @property
    def total(self) -> int | None:
        """All of it; None where a part is not known."""
        return None if self.unknown_arrivals else self.known

    @property
    def known(self) -> int | None:
        """All but what arrives unknown; None where instructions are not known."""
        if self.execution is None:
            return None
        return self.base + self.execution + self.ingress + self.calls


def trace_cycles(kinds: Iterable[KindSums], fees: CycleFees) -> TraceCycles:
    """Return what the messages of a trace cost together.

    Args:
        kinds: Of the trace's summary.
        fees: Of the subnet.

    Examples:
        >>> from sqlstable import Canister
        >>> with Canister(trace=":memory:") as canister:
        ...     reply = canister.query("SELECT 1")
        ...     with canister.trace() as trace:
        ...         found = trace_cycles(trace.summary.kinds, CycleFees())
        >>> found.paid_count, found.base, found.execution
        (1, 5000000, None)
    """
    base = ingress = calls = unknown = paid = imports = 0
    execution: int | None = 0
    for it in kinds:
        if it.kind in FREE_KINDS:
            continue
        if it.kind == IMPORT:
            imports += it.message_count
            continue
        paid += it.message_count
        base += 0 if it.kind in WITHOUT_BASE else it.message_count * fees.execution(instructions=0)
        own = _execution(it, fees)
        execution = None if execution is None or own is None else execution + own
        if it.kind in FROM_OUTSIDE:
            unknown += it.arrival_count - it.known_arrival_count
            ingress += _ingress(it, fees)
        calls += it.call_count * fees.call_base
        calls += fees.transmission(payload_bytes=it.call_bytes)
        if it.kind == "callback":
            calls += fees.transmission(payload_bytes=it.request_bytes)
    bits = 64 if fees.is_64 else 32
    return TraceCycles(
        base, execution, ingress, calls, unknown, paid, fees.node_count, bits, imports
    )


def trace_cycles_as_update(kinds: Iterable[KindSums], fees: CycleFees) -> TraceCycles | None:
    """Return what all queries of a trace would cost were each called as an update.

    Args:
        kinds: Of the trace's summary.
        fees: Of the subnet.

    Returns:
        What would be paid for them alone; None where there is no query.
    """
    called = [replace(it, kind=AS_UPDATE[it.kind]) for it in kinds if it.kind in AS_UPDATE]
    return trace_cycles(called, fees) if called else None


def stable_part(kinds: Iterable[KindSums], regime: PriceRegime) -> int | None:
    """Return the instructions of stable memory's part; None where its units are not known.

    Args:
        kinds: Of the trace's summary.
        regime: The price list.
    """
    total = 0
    for it in kinds:
        if it.charged_count < it.message_count:
            return None
        total += spent(it.stable, regime.for_message(it.kind)).stable
    return total


def _execution(it: KindSums, fees: CycleFees) -> int | None:
    uncounted = it.message_count - it.counted_count
    instructions = it.instructions
    if uncounted and it.kind == "load_snapshot":
        instructions += uncounted * whole_instructions(0) + it.uncounted_image_bytes
    elif uncounted and it.kind != "uninstall":
        return None
    return fees.instructions_of_many(instructions=instructions, last_digits=it.last_digits)


def _ingress(it: KindSums, fees: CycleFees) -> int:
    arrived = it.arrived_bytes + (it.method_bytes if it.kind in NAMED else 0)
    each = fees.ingress(message_bytes=0)
    return it.known_arrival_count * each + fees.ingress(message_bytes=arrived) - each
