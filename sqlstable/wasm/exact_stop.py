"""Where a message runs out of instructions if its heap is charged as it touches it.

A machine's counter has computation and stable memory; what the heap has cost by then is found from
its marks, when a message is over. The Internet Computer takes both from one counter, which code
tests where a function or a pass of a loop begins, and before what costs by its length. So a message
that went too far is run again from what it found, with other numbers of instructions, until it is
known at which of these places it was first over. Mostly that takes one run, or two.

Where the heap is charged when a message is over, it is stopped by nothing but its computation.

**Limitations.** Parts of an installation, and callbacks that leave instructions to a cleanup, stop
where their computation does, or at their end.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlstable.errors import LimitTrap, Trap
from sqlstable.ic.words import INSTRUCTIONS
from sqlstable.wasm.shim import ShimStatus
from sqlstable.wasm.traps import TrapCode, trap_of

if TYPE_CHECKING:
    from sqlstable.wasm.instance import Instance


@dataclass(frozen=True, slots=True)
class StoppedAt:
    """How far a message came."""

    used: int
    "Instructions but for the heap."
    heap: int
    "Instructions that its heap had cost by then."
    is_tested: bool
    "Whether it was stopped where code tests the counter; else it came to its end, or trapped."


def first_over(run: Callable[[int], StoppedAt], limit: int, last: StoppedAt) -> StoppedAt:
    """Return the first place at which a message has used more than its limit.

    Args:
        run: Runs it anew, until it has used more than so many instructions without the heap. What
            the last call returned is where it stands afterwards.
        limit: Of the message.
        last: Where it came to with ``limit`` instructions for all but the heap; over the limit.

    Returns:
        The place; ``last`` where no test of the counter comes before it.

    Examples:
        >>> places = [StoppedAt(10, 0, True), StoppedAt(20, 80, True), StoppedAt(30, 80, True)]
        >>> def run(most):
        ...     return next((it for it in places if it.used > most), StoppedAt(35, 160, False))
        >>> first_over(run, 105, run(105))
        StoppedAt(used=30, heap=80, is_tested=True)
    """

    def is_over(place: StoppedAt) -> bool:
        return place.used + place.heap > limit

    # It has used more than `low` there, as the heap only becomes dearer; and `high` at most.
    low, high = limit - last.heap, last.used
    while True:
        found = run(low)
        if not found.is_tested or is_over(found):
            return found
        low = found.used
        middle = (low + high) // 2
        if middle <= low:
            continue
        found = run(middle)
        if not found.is_tested:
            high = middle
        elif is_over(found):
            high, low = found.used, max(low, limit - found.heap)
        else:
            low = found.used


def is_over_in_time(instance: "Instance", status: ShimStatus) -> bool:
    """Tell whether a message used too much, its heap charged as it is touched.

    Source:
        dfinity/ic rs/embedders/tests/instrumentation.rs run_charge_for_dirty_stable64_test: where
        the heap is charged at the end, a message that has come so far succeeds.
    """
    if instance.program.regime.charges_heap_at_end:
        return False
    heap = instance.program.heap_cost(status)
    return heap > 0 and heap > status.counter


def stopped_in_time(
    instance: "Instance", run: Callable[[int], object], trap: Trap | None = None
) -> Trap:
    """Run an open message again until it stands where the Internet Computer stops it.

    Args:
        instance: What it runs on.
        run: Takes it back, and runs it anew with so many instructions, see `allow`.
        trap: With which it has ended, beyond its limit; None: it came to its end.

    Returns:
        The trap with which it ends there: that of the limit, or the one that it had before.
    """
    limit = instance.instruction_limit

    def place(raised: Trap | None) -> StoppedAt:
        status = instance.tell()
        used = instance.value("instruction_limit") - status.counter
        is_tested = isinstance(raised, LimitTrap) and raised.limit == INSTRUCTIONS
        return StoppedAt(used, instance.program.heap_cost(status), is_tested)

    def again(most: int) -> StoppedAt:
        try:
            run(most)
        except Trap as raised:
            return place(raised)
        return place(None)

    try:
        found = first_over(again, limit, place(trap))
    finally:
        allow(instance, limit)
    if trap is not None and not found.is_tested:
        return trap
    return out_of_instructions(limit)


def out_of_instructions(limit: int) -> Trap:
    """Return the trap of a message that has used more instructions than its limit."""
    return trap_of(TrapCode.OUT_OF_INSTRUCTIONS, instruction_limit=limit)


def allow(instance: "Instance", most: int) -> None:
    """Let the open message have so many instructions in all; what it has used stays used."""
    left = instance.value("counter") + most - instance.value("instruction_limit")
    instance.set_value("counter", left)
    instance.set_value("instruction_limit", most)
