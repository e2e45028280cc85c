"""What the system says of a canister in a replica; ``canister_status`` answers from it."""

from typing import Final

from sqlstable.ic.canister_figures import CanisterFigures
from sqlstable.ic.cycle_fees import CycleFees
from sqlstable.ic.idle_burn import Allocations, MemorySizes
from sqlstable.ic.principals import principal_text
from sqlstable.ic.units import WASM_PAGE_BYTES
from sqlstable.replica.housed import HousedCanister

SUBNET_FEES: Final = CycleFees()
"""Those of the one subnet that a replica is."""


def figures_of(canister: HousedCanister, fees: CycleFees = SUBNET_FEES) -> CanisterFigures:
    """Return what the system says of a canister.

    Args:
        canister: It.
        fees: Of its subnet.
    """
    has_memory = canister.memory is not None and canister.module is not None
    settings = canister.settings
    return CanisterFigures(
        canister.name,
        MemorySizes(
            heap=canister.instance.tell().heap_size * WASM_PAGE_BYTES if has_memory else 0,
            stable=canister.store.wasm_pages * WASM_PAGE_BYTES if has_memory else 0,
            module=len(canister.module or b""),
            chunk_store=sum(map(len, canister.chunks.values())),
        ),
        Allocations(
            memory_bytes=settings.memory_allocation,
            compute_percent=settings.compute_allocation,
            freezing_threshold_s=settings.freezing_threshold,
            reserved_cycles_limit=settings.reserved_cycles_limit,
        ),
        fees,
        status=canister.status.name.capitalize(),
        controllers=tuple(map(principal_text, settings.controllers)),
        balance=canister.cycles,
        module_hash=None if canister.module is None else canister.module_hash.hex(),
        wasm_memory_limit=settings.wasm_memory_limit,
        wasm_memory_threshold=settings.wasm_memory_threshold,
    )
