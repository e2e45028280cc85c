"""The parts of a step on the measured machine: each with its instructions, and its heap's."""

from sqlstable.canister.machine import Call, Parts
from sqlstable.engine.measured.notes import HeapTouched
from sqlstable.memory.stable import StableMemory
from sqlstable.wasm.shimstore import ShimStore, shim_of
from sqlstable.wasm.traps import TrapCode, trap_of


class MeasuredParts:
    """Counts what the parts of a step take, of one limit on instructions that they share.

    On the Internet Computer each part is an execution of its own: what it touches first, of stable
    memory or of the heap, is charged to it, whoever was there in the part before.

    Args:
        memory: A memory over a `ShimStore`.
    """

    def __init__(self, memory: StableMemory) -> None:
        self.heaps: list[HeapTouched] = []
        "What the parts that have ended did to the heap."
        self._memory = memory
        self._parts = Parts(memory)
        self._start = 0
        "Instructions that the message had taken when its part began."

    def reset(self) -> None:
        """Begin a message, which has no parts yet."""
        self.heaps.clear()
        self._parts.running, self._start = None, 0

    def next(self, call: Call) -> None:
        """End the part that runs, and begin the one that a call names.

        Raises:
            Trap: The heap of the part that ends costs more than there is left.
        """
        store = self._store
        touched, taken = self._touched(), self._taken()
        self._parts.next(call, store.used, taken - self._start)
        self._start = taken
        if touched is None:
            return
        machine = store.machine
        self.heaps.append(touched)
        # It is on no counter while it may still grow; now it cannot.
        left = machine.tell().counter - touched.cost(machine.program.regime)
        machine.set_value("counter", left)
        if left < 0:
            raise self._memory.poison(
                trap_of(TrapCode.OUT_OF_INSTRUCTIONS, instruction_limit=machine.instruction_limit)
            )

    def end(self, call: Call) -> None:
        """End the last part, and let the message end as one."""
        self._parts.end(call, self._store.used, self._taken() - self._start)

    @property
    def _store(self) -> ShimStore:
        return shim_of(self._memory)

    def _touched(self) -> HeapTouched | None:
        machine = self._store.machine
        return HeapTouched.of(machine.tell()) if machine.program.counts_heap else None

    def _taken(self) -> int:
        """Return the instructions of the message so far, those of its heap included."""
        machine, touched = self._store.machine, self._touched()
        heap = 0 if touched is None else touched.cost(machine.program.regime)
        return machine.instruction_limit - machine.tell().counter + heap
