"""A canister inside of a replica: its code, its memory, and what the system knows of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sqlstable.errors import SettingsError
from sqlstable.ic.principals import principal_text
from sqlstable.wasm.module_file import PERSISTENCE_SECTION
from sqlstable.wasm.shimstore import ShimStore, shim_of

if TYPE_CHECKING:
    from sqlstable.memory.stable import StableMemory
    from sqlstable.wasm.instance import Instance
    from sqlstable.wasm.module_file import MetadataSection


class RunStatus(IntEnum):
    """Whether a canister takes messages, by the numbers that ``canister_status`` gives."""

    RUNNING = 1
    STOPPING = 2
    """It takes answers only, and is stopped behind the last one."""
    STOPPED = 3


@dataclass(slots=True)
class CanisterSettings:
    """What controllers set."""

    controllers: tuple[bytes, ...] = ()
    variables: dict[str, str] = field(default_factory=dict)
    "Environment variables."
    compute_allocation: int = 0
    memory_allocation: int = 0
    freezing_threshold: int = 2_592_000
    reserved_cycles_limit: int = 5_000_000_000_000
    wasm_memory_limit: int = 3 << 30
    wasm_memory_threshold: int = 0
    "With less room than this below the limit, ``canister_on_low_wasm_memory`` runs."


CYCLES_MAX: Final = (1 << 128) - 1
"""What a balance holds at most.

Source:
    Interface specification: amounts of cycles have 128 bits.
"""


@dataclass(slots=True)
class HousedCanister:
    """One canister of a replica."""

    name: str
    id: bytes
    memory: "StableMemory | None" = None
    "None as long as there never was code."
    module: bytes | None = None
    "As it was installed; None for an empty canister."
    module_hash: bytes = b""
    "SHA-256 of it."
    metadata: "Mapping[str, MetadataSection]" = field(default_factory=dict)
    "What it says of itself in custom sections."
    exports: frozenset[str] = frozenset()
    "Names of the functions that its code exports; none where there is no code."
    settings: CanisterSettings = field(default_factory=CanisterSettings)
    cycles: int = 0
    image: Path | None = None
    "The file that keeps its stable memory."
    durability: str = "process"
    version: int = 0
    "Goes up with each message that is kept, and each change of code or settings."
    status: RunStatus = RunStatus.RUNNING
    certified_data: bytes = b""
    timer_ns: int = 0
    "When the global timer is due; 0 for never."
    timer_ran_ns: int = 0
    "When it ran last."
    low_memory: str = "enough"
    "enough; ready: the hook is to run; told: it has run since there was enough."
    chunks: dict[bytes, bytes] = field(default_factory=dict)
    "Of the chunk store, by their hashes."
    cycles_paid: int = 0
    "Fees for calls, which are nobody's any more."

    def __post_init__(self) -> None:
        if not 0 <= self.cycles <= CYCLES_MAX:
            raise SettingsError(f"a balance was to be {self.cycles} cycles; it is 0 to 2^128 - 1")

    @property
    def store(self) -> ShimStore:
        """The store of its stable memory."""
        assert self.memory is not None
        return shim_of(self.memory)

    @property
    def instance(self) -> "Instance":
        """What its code runs on now."""
        return self.store.machine

    @property
    def keeps_heap(self) -> bool:
        """Whether its code expects the heap to survive upgrades."""
        return PERSISTENCE_SECTION in self.metadata

    @property
    def controllers(self) -> tuple[bytes, ...]:
        """Who may change it."""
        return self.settings.controllers

    def __str__(self) -> str:
        """Return name and principal."""
        return f"{self.name} ({principal_text(self.id)})"
