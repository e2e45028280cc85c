"""Where a message of several calls runs out of instructions, its heap charged as it is touched.

After each call it is known whether the message has used too much. Where it has, the place lies in
that call, and is found by running the message again (`sqlstable.wasm.exact_stop`): the same calls
on the same heap and the same stable memory, all but the last one with as many instructions as they
had. So what each call was sent is kept until the message ends, where there is a limit.

**Limitations.** A step of the life cycle, and a message in which Python itself used stable memory,
are not run again: they stop at the end of the statement, or where their computation does. A border
of a phase (`sqlstable.engine.measured.notes.Mark`) costs its few instructions until it is passed,
so that a message may stop that early.
"""

from collections.abc import Callable

from sqlstable.errors import LimitTrap, Trap
from sqlstable.ic.limits import heap_too_large
from sqlstable.ic.units import WASM_PAGE_BYTES
from sqlstable.ic.words import CALL_KINDS, WASM_MEMORY_LIMIT
from sqlstable.memory.stable import StableMemory
from sqlstable.wasm import shim
from sqlstable.wasm.exact_stop import (
    allow,
    is_over_in_time,
    out_of_instructions,
    stopped_in_time,
)
from sqlstable.wasm.shim import ShimStatus
from sqlstable.wasm.shimstore import ShimStore, shim_of


class Overrun:
    """Knows when the open message has used too many instructions, and finds out where.

    Args:
        memory: Its memory.
    """

    def __init__(self, memory: StableMemory) -> None:
        self._memory, self._store = memory, shim_of(memory)
        program = self._store.machine.program
        regime = program.regime
        self._wasm_page_cost_max = regime.heap_cost_max(1)
        is_charged = regime.charges_heap and not regime.charges_heap_at_end
        self._is_charged = is_charged and program.watches_heap
        self.make_heap: Callable[[], None] | None = None
        "Makes the heap of the open message; None: it goes on with the one that it finds."
        self.sent: list[tuple[str, bytes]] = []
        "What the open message has called, and with which requests; until it ends."

    def call(self, name: str, request: bytes) -> tuple[bytes, ShimStatus]:
        """Call an entry point; returns its reply, and what the message has done by then.

        Raises:
            Trap: It trapped, or the message has used too many instructions, and stands where it was
                stopped, or its heap has become too large; it is to be poisoned.
        """
        machine, kind = self._store.machine, self._memory.kind
        is_limited = self._is_charged and machine.instruction_limit != shim.INSTRUCTIONS_MAX
        if is_limited and kind in CALL_KINDS:
            self.sent.append((name, request))
        try:
            data = machine.call(name, request)
        except Trap as trap:
            raise self._in_time(trap, self._send_again) from None
        status = machine.tell()
        _check_heap_size(self._store, status)
        # Nearly always even all of the heap would not cost as much as is left.
        if status.counter <= self._wasm_page_cost_max * status.heap_size:
            self._check(self._send_again)
        return data, status

    def start(self, run: Callable[[], object]) -> None:
        """Start the module on a new heap, as `call` calls it.

        Args:
            run: Starts it.

        Raises:
            Trap: As for `call`.
        """

        def again() -> None:
            self._store.renew_heap()
            run()

        try:
            run()
        except Trap as trap:
            raise self._in_time(trap, again, is_first=True) from None
        _check_heap_size(self._store, self._store.machine.tell())
        self._check(again, is_first=True)

    # -- inside ---------------------------------------------------------------------------------

    def _check(self, last: Callable[[], object], *, is_first: bool = False) -> None:
        """Trap where the message has used too many instructions at the end of a call."""
        machine = self._store.machine
        if is_over_in_time(machine, machine.tell()):
            raise self._in_time(None, last, is_first=is_first)

    def _in_time(
        self, trap: Trap | None, last: Callable[[], object], *, is_first: bool = False
    ) -> Trap:
        """Return the trap with which a message ends that may have used too many instructions.

        Args:
            trap: With which it has ended; None: it has used too many, and was not stopped.
            last: Runs the call in which that happened.
            is_first: Whether nothing of the message comes before that call.
        """
        store = self._store
        machine = store.machine
        if trap is not None and not is_over_in_time(machine, machine.tell()):
            return trap
        if store.is_driven or self._memory.kind not in CALL_KINDS:
            return trap or out_of_instructions(machine.instruction_limit)

        def run(most: int) -> None:
            store.begin_again()
            if not is_first:
                if self.make_heap is not None:
                    self.make_heap()
                for name, request in self.sent[:-1]:
                    machine.call(name, request)
            allow(machine, most)
            last()

        return stopped_in_time(machine, run, trap)

    def _send_again(self) -> None:
        self._store.machine.call(*self.sent[-1])


def _check_heap_size(store: ShimStore, status: ShimStatus) -> None:
    """Trap where the heap is larger than the message may leave it behind.

    The Internet Computer traps where it grows; here the statement runs to its end first.
    """
    size_bytes = status.heap_size * WASM_PAGE_BYTES
    if size_bytes > store.heap_bytes_max:
        raise LimitTrap(heap_too_large(size_bytes, store.heap_bytes_max), limit=WASM_MEMORY_LIMIT)
