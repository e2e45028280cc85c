"""What a message of the measured engine is charged for, and what that comes to under its prices.

The shim counts units; what they cost it takes off one counter, together with operators and system
calls. So the cost of computation is what is left of the counter, and that of other tables of
weights lies apart from it by their extras (`sqlstable.wasm.rewrite.metering`).
"""

from collections.abc import Mapping
from typing import Final

from sqlstable.engine.measured.notes import (
    NO_BORDER,
    Border,
    HeapTouched,
    MessageNotes,
    StableTouched,
)
from sqlstable.ic.charged import Charged
from sqlstable.ic.prices import REPLICA
from sqlstable.trace.model import HeapUse, Instructions
from sqlstable.wasm.rewrite.metering import EXTRAS

_Spent = tuple[Instructions, Charged]


def spent_by_message(notes: MessageNotes) -> tuple[Instructions, HeapUse | None, Charged]:
    """Return what a message has cost, what it did to its heap, and what it is charged for."""
    end, regime = notes.end, notes.regime
    # The parts before the last one have theirs on the counter.
    earlier = sum(each.cost(regime) for each in notes.earlier_heaps)
    touched, heap = _touched(NO_BORDER, end), notes.heap
    pages = end.page_charges
    if notes.log.has_drivers:
        # The canister pays for what it accesses, also where the driver did before.
        touched = StableTouched(*map(max, touched, notes.log.touched()))
        pages = touched.cost(regime)
    computation = end.instructions - end.page_charges - earlier
    instructions, charged = _spent(
        notes, (0, end.log_count), computation, pages, touched, heap, end
    )
    shown = HeapUse(*heap[:4]) if heap is not None and notes.watches_heap else None
    return instructions, shown, charged


def spent_between(notes: MessageNotes, start: Border, stop: Border) -> _Spent:
    """Return what was spent from one border of a message to another, and what it is charged for."""
    heap = None
    if notes.counts_heap:
        before, after = start.heap_regions, stop.heap_regions
        os_pages = stop.heap_os_pages - start.heap_os_pages
        heap = HeapTouched(
            (after & _LOW) - (before & _LOW), (after >> 32) - (before >> 32), os_pages, 0, os_pages
        )
    pages = stop.page_charges - start.page_charges
    return _spent(
        notes,
        (start.log_count, stop.log_count),
        stop.instructions - start.instructions - pages,
        pages,
        _touched(start, stop),
        heap,
        Border(*(after - before for before, after in zip(start, stop, strict=True))),
    )


_LOW: Final = (1 << 32) - 1


def _touched(start: Border, stop: Border) -> StableTouched:
    return StableTouched(
        stop.charged_os_pages_dirty - start.charged_os_pages_dirty,
        stop.charged_regions_accessed - start.charged_regions_accessed,
        stop.charged_regions_dirty - start.charged_regions_dirty,
    )


def _spent(
    notes: MessageNotes,
    log: tuple[int, int],
    computation: int,
    pages: int,
    touched: StableTouched,
    heap: HeapTouched | None,
    extras: Border,
) -> _Spent:
    """Return it, where the calls on stable memory are in ``computation`` still."""
    calls = notes.log.calls(*log)
    called = calls.cost(notes.regime)
    computation -= called
    stable = pages + called
    heap_cost = 0 if heap is None else heap.cost(notes.regime)
    charged = Charged(
        _by_table(notes, computation, extras),
        calls.accesses,
        calls.bytes_moved,
        calls.grows,
        touched.os_pages_dirty,
        touched.wasm_pages_accessed,
        touched.wasm_pages_dirty,
        None if heap is None else heap.wasm_pages_accessed,
        None if heap is None else heap.wasm_pages_written,
        None if heap is None else heap.os_pages_priced,
    )
    total = computation + stable + heap_cost
    return Instructions(total, computation, stable, heap_cost), charged


def _by_table(notes: MessageNotes, computation: int, extras: Border) -> Mapping[str, int]:
    """Return the instructions of operators and system calls by each table of weights."""
    own = notes.regime.table
    if not notes.has_extras:
        return {own.name: computation}
    beyond = {REPLICA.name: 0}
    beyond |= {table.name: int(getattr(extras, name)) for name, table in EXTRAS.items()}
    if own.name not in beyond:
        return {own.name: computation}
    today = computation - beyond[own.name]
    return {name: today + extra for name, extra in beyond.items()}
