"""What a message does to the time of its canister: slices, rounds, heap delta, pause.

**Modelled.** A canister has a round for each of its slices, and nobody else in its way; rounds
follow each other at `BLOCKS_PER_SECOND_MIN` to `BLOCKS_PER_SECOND_MAX`. Nothing was measured on a
network.

**Sources** are those of the limits by their names in `sqlstable.ic.limits.LIMITS`. The rate of
blocks: dfinity/developer-docs docs/references/resource-limits.md @ b58cf042, 2026-08-18.
"""

from dataclasses import dataclass
from typing import Final

from sqlstable.analysis.fitting.circumstances import limit_value, trace_limits, trace_regime
from sqlstable.analysis.trace_source import TraceSource
from sqlstable.ic.limits import Limits
from sqlstable.ic.prices import PriceRegime
from sqlstable.ic.units import OS_PAGE_BYTES, OS_PAGES_PER_WASM_PAGE
from sqlstable.ic.words import DISCARDED_KINDS, READ, UPDATE_KINDS, WRITE
from sqlstable.trace.model import HeapUse, Message

BLOCKS_PER_SECOND_MIN: Final = 0.75
BLOCKS_PER_SECOND_MAX: Final = 1.5


@dataclass(frozen=True, slots=True)
class HeapDelta:
    """What a message adds to the heap delta of its subnet."""

    stable_os_pages: int
    "OS pages of stable memory that it left dirty; 0 where nothing of it was kept."
    heap_os_pages: int | None
    "OS pages of the heap, likewise; None where the heap was not watched."
    pause_rounds: int
    "Rounds that the canister is not scheduled, until it has paid down what is above a round's."

    @property
    def size_bytes(self) -> int:
        """All of it that was counted, in bytes."""
        return (self.stable_os_pages + (self.heap_os_pages or 0)) * OS_PAGE_BYTES


@dataclass(frozen=True, slots=True)
class Pace:
    """What a message does to the time of its canister."""

    slices: int | None
    "None for a query, which is not sliced, and where instructions were not counted."
    rounds: int | None
    "One for each slice, and one more where a slice is inserted to copy the heap; likewise."
    delta: HeapDelta

    @property
    def seconds_min(self) -> float | None:
        """Seconds from its first round to the end of its last one, modelled."""
        return None if self.rounds is None else self.rounds / BLOCKS_PER_SECOND_MAX

    @property
    def seconds_max(self) -> float | None:
        """The same where blocks are slow."""
        return None if self.rounds is None else self.rounds / BLOCKS_PER_SECOND_MIN


def message_pace(message: Message, limits: Limits | None, regime: PriceRegime) -> Pace:
    """Return what a message does to the time of its canister.

    Args:
        message: Of a trace.
        limits: Of the day; None for today's.
        regime: The price list, which says how many OS pages of the heap are dirty.

    Examples:
        >>> from sqlstable.ic.prices import PRICE_REGIMES
        >>> from sqlstable.trace.model import Instructions, StableUse
        >>> spent = Instructions(4_000_000_001, 4_000_000_001, 0, 0)
        >>> message = Message(
        ...     index=0, kind="update", label=None, outcome="committed", trap=None,
        ...     discarded_writes=False, cache="warm", statements=(),
        ...     stable=StableUse(os_pages_dirty=524_288), outside=(), limits=(), image_bytes=0,
        ...     instructions=spent,
        ... )
        >>> found = message_pace(message, None, PRICE_REGIMES["memory-tracker"])
        >>> found.slices, found.rounds, found.seconds_min, found.seconds_max
        (3, 3, 2.0, 4.0)
        >>> found.delta.size_bytes // 2**20, found.delta.pause_rounds
        (2048, 27)
    """
    delta = heap_delta(message, limits, regime)
    slices = _slices(message, limits)
    if slices is None:
        return Pace(None, None, delta)
    copied = limit_value("heap_os_pages_dirty_extra_slice", limits)
    is_copied = copied is not None and (_heap_os_pages(message.heap, regime) or 0) > copied
    return Pace(slices, slices + is_copied, delta)


def heap_delta(message: Message, limits: Limits | None, regime: PriceRegime) -> HeapDelta:
    """Return what a message adds to the heap delta, and how long its canister pauses for that.

    Queries and failed messages add nothing. That OS pages of stable memory count one by one under
    the memory tracker, too, is not verified.

    Source:
        dfinity/ic rs/execution_environment/src/scheduler.rs and execution/call_or_task.rs
        @ 1bc0a5953, 2025-10-31.
    """
    if message.outcome != "committed" or message.kind in DISCARDED_KINDS:
        return HeapDelta(0, 0, 0)
    delta = HeapDelta(message.stable.os_pages_dirty, _heap_os_pages(message.heap, regime), 0)
    round_bytes = limit_value("heap_delta_canister_round_bytes", limits)
    if round_bytes is None:
        return delta
    # What is above a round's is debt, paid down by as much a round.
    pause = max(0, -(-delta.size_bytes // round_bytes) - 1)
    return HeapDelta(delta.stable_os_pages, delta.heap_os_pages, pause)


def slice_overrun(trace: TraceSource, message: Message) -> bool | None:
    """Tell whether one read or write of stable memory is so large that it overruns its slice.

    It is held against the instructions at which a bulk operation fails that begins in a fresh
    slice, each region that it spans counted as touched first. Bulk operations inside of the heap,
    and those on arguments and replies, leave nothing in a trace: of them nothing is said.

    Returns:
        None where nothing is sliced, as for queries.
    """
    limits, regime = trace_limits(trace.settings), trace_regime(trace.settings)
    most = limit_value("instructions_slice_overrun", limits)
    if most is None or message.kind in DISCARDED_KINDS:
        return None
    use = message.stable
    # Nearly always all accesses together are not enough.
    if _copy_cost(regime, use.bytes_read + use.bytes_written, is_write=True) < most:
        return False
    chunks = [trace.accesses(trace.statements[index]) for index in message.statements]
    chunks += [accesses for _, accesses in trace.outside_accesses(message)]
    return any(
        _copy_cost(regime, int(chunk.length[chunk.kind == kind].max(initial=0)), is_write=is_write)
        >= most
        for chunk in chunks
        for kind, is_write in ((READ, False), (WRITE, True))
    )


def _copy_cost(regime: PriceRegime, size_bytes: int, *, is_write: bool) -> int:
    """Return what one read or write costs at most."""
    os_pages = -(-size_bytes // OS_PAGE_BYTES) + 1
    wasm_pages = -(-os_pages // OS_PAGES_PER_WASM_PAGE) + 1
    return regime.stable_call_cost(accesses=1, bytes_moved=size_bytes) + regime.stable_page_cost(
        wasm_pages_accessed=wasm_pages,
        wasm_pages_dirty=wasm_pages * is_write,
        os_pages_dirty=os_pages * is_write,
    )


def _slices(message: Message, limits: Limits | None) -> int | None:
    if message.instructions is None or message.kind in DISCARDED_KINDS:
        return None
    what = "update" if message.kind in UPDATE_KINDS else "install"
    size = limit_value(f"instructions_slice_{what}", limits)
    return 1 if size is None else max(1, -(-message.instructions.total // size))


def _heap_os_pages(heap: HeapUse | None, regime: PriceRegime) -> int | None:
    """Return the dirty OS pages of a heap; the memory tracker takes all of a Wasm page for dirty.

    Source: dfinity/ic rs/memory_tracker/src/deterministic.rs mark_wasm_page_dirty.
    """
    if heap is None:
        return None
    if regime.costs.heap_region_written:
        return heap.wasm_pages_written * OS_PAGES_PER_WASM_PAGE
    return heap.os_pages_written
