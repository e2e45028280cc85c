"""The heap of a machine as snapshots take it and put it back."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlstable.ic.units import WASM_PAGE_BYTES

if TYPE_CHECKING:
    from sqlstable.wasm.shimstore import ShimStore


@dataclass(frozen=True, slots=True)
class HeapImage:
    """What runs on a stable memory when a snapshot is taken: the module, its heap, its globals."""

    module: bytes
    wasm_memory: bytes
    global_values: tuple[tuple[str, Any], ...]
    "Type and value of each."


class HeapDoor:
    """Takes the heap of a module between messages, and puts another one in its place in one.

    Args:
        store: Of the memory that the module works on.
        load_module: Returns the module's bytes as they were before anything was counted in them.

    Attributes:
        wanted: The heap that the next start in a message is to go on with; None: a new one.
    """

    def __init__(self, store: "ShimStore", load_module: Callable[[], bytes]) -> None:
        self._store = store
        self._load_module = load_module
        self.wanted: HeapImage | None = None

    @property
    def module(self) -> bytes:
        """The module that runs."""
        return self._load_module()

    @property
    def size_bytes(self) -> int:
        """Of the heap that is there now."""
        return self._store.machine.tell().heap_size * WASM_PAGE_BYTES

    def take(self) -> HeapImage:
        """Return the heap as the last message has left it."""
        machine = self._store.machine
        return HeapImage(self.module, machine.heap_bytes(), tuple(machine.globals.typed()))

    def put(self, image: HeapImage) -> None:
        """Let the open message go on with another heap.

        Raises:
            Trap: This computer has no memory left.
        """
        self._store.renew_heap()
        self._store.machine.renew_heap(image.wasm_memory)
        self._store.machine.globals.set_typed(image.global_values)
