"""What the system would say of a canister, from what is there and what somebody says of it."""

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from sqlstable.canister.life import Life
from sqlstable.ic.canister_figures import CanisterFigures
from sqlstable.ic.cycle_fees import CycleFees
from sqlstable.ic.idle_burn import AS_CREATED, Allocations, MemorySizes
from sqlstable.ic.units import WASM_PAGE_BYTES
from sqlstable.spelling import spelled

_FEES: Final = CycleFees()


@dataclass(frozen=True, slots=True)
class StatusTerms:
    """What a simulation cannot know of a canister, and somebody can say."""

    balance: int | None = None
    "Cycles."
    fees: CycleFees = _FEES
    "Of its subnet; those of today on 13 nodes unless something else is said."
    allocations: Allocations = AS_CREATED
    "What controllers have set."
    module: bytes | None = None
    "The module that is to be deployed; None for our own engine's."
    heap_bytes: int | None = None
    "Of the heap; None for what there is."


def figures_of_life(life: Life, terms: StatusTerms) -> CanisterFigures:
    """Return what the system would say of a canister.

    Args:
        life: Of the canister.
        terms: What somebody says of it.
    """
    door = None if life.is_empty else life.machine.heap_door
    module = terms.module
    if module is None and door is not None:
        module = door.module
    heap = terms.heap_bytes
    if heap is None and door is not None and terms.module is None:
        heap = door.size_bytes
    image = life.memory.image_file
    listed = () if life.snapshots is None else life.snapshots.listed()
    return CanisterFigures(
        "canister" if image is None else image.path.name,
        MemorySizes(
            heap=heap or 0,
            stable=life.memory.wasm_pages * WASM_PAGE_BYTES,
            module=len(module or b""),
            snapshots=sum(it.size_bytes for it in listed),
        ),
        terms.allocations,
        terms.fees,
        status="Stopped" if life.is_stopped else "Running",
        balance=terms.balance,
        module_hash=None if module is None else sha256(module).hexdigest(),
        unknown=tuple(_unknown(terms, has_module=module is not None, has_heap=heap is not None)),
    )


def _unknown(terms: StatusTerms, *, has_module: bool, has_heap: bool) -> Iterator[str]:
    if not has_module:
        way = spelled("StatusTerms(module=…)", "--module FILE")
        yield f"the module, which is left out of the memory; {way}, or the engine wasm"
    if not has_heap:
        way = spelled("StatusTerms(heap_bytes=…)", "--heap-bytes")
        yield f"the heap, which is left out of the memory; {way}, or the engine wasm"
    if terms.balance is None:
        yield f"the balance; {spelled('StatusTerms(balance=3 * 10**12)', '--balance 3T')}"
