"""A canister as wasmtime runs it: heap, stable memory, the shim, and the canister's module.

**Invariants**

* Memories never move while they stay within what they reserve, so their addresses are asked once;
  stable memory and the shim's lists are asked again where they could have left it.
* An upgrade to the same module does not make a new instance of it, because wasmtime frees none
  before its store: the heap is filled with zeros, gets the bytes and the module the state that new
  ones have, and is then as a new one. Another module is joined to the same shim and heap, or, where
  its addresses are of another width, to a heap and a shim of its own, on the same stable memory.
* The *kept* heap (``heap_kept`` in the shim, the module that was there and its state here) is the
  heap as the last message left it. A rollback goes back to it, whatever happened meanwhile.
"""

import ctypes
import struct
from collections.abc import Iterable
from functools import partial
from threading import get_ident, main_thread
from typing import TYPE_CHECKING, Any, Final

from sqlstable.errors import Trap
from sqlstable.ic.limits import Limits
from sqlstable.ic.system_calls import ANY_CONTEXT_BIT, CONTEXT_BITS
from sqlstable.ic.units import GIB, WASM_PAGE_BYTES
from sqlstable.ic.words import WRITE
from sqlstable.wasm import shim
from sqlstable.wasm.backtraces import backtrace_of
from sqlstable.wasm.calls import Call, Globals, Trampoline
from sqlstable.wasm.environment import Entry, Environment, ExecutionResult
from sqlstable.wasm.executing import entered, explained, place, result_of
from sqlstable.wasm.interrupts import LISTENER
from sqlstable.wasm.joined import Joined
from sqlstable.wasm.joining import reserving
from sqlstable.wasm.modules import Modules
from sqlstable.wasm.profiled import KeptTrees, ProfileMemory
from sqlstable.wasm.program import LIVE, Program, wasmtime_module
from sqlstable.wasm.rewrite.rewriter import START_EXPORT
from sqlstable.wasm.side import Side

if TYPE_CHECKING:
    from wasmtime import Memory, Store

_MAY_LEAVE_BYTES: Final = 48 * GIB
"""Where a memory is larger, its address is asked again; less than any memory reserves."""


class Instance:
    """One canister in a store of its own.

    Args:
        program: What it runs.
        stable_wasm_pages_max: How large stable memory may become.
        limits: Those that traps quote.
    """

    def __init__(
        self, program: Program, *, stable_wasm_pages_max: int, limits: Limits | None
    ) -> None:
        """Instantiate the shim and the module; nothing runs yet."""
        self.limits = limits
        self.instruction_limit = shim.INSTRUCTIONS_MAX
        wasmtime = wasmtime_module()
        self._trap_type: type[Exception] = wasmtime.Trap
        self._store: Store = wasmtime.Store(program.engine)
        # By itself a store refuses more than ten thousand of each.
        self._store.set_limits(instances=_MANY, tables=_MANY, memories=_MANY)
        LISTENER.listen()
        with reserving():
            self._stable: Memory = wasmtime.Memory(
                self._store, wasmtime.MemoryType(wasmtime.Limits(0, None), is_64=True)
            )
        self._trampoline = Trampoline(self._store)
        self._is_heap_touched = False
        self._told: shim.ShimStatus | None = None
        "What the shim told, as long as nothing has moved since."
        self._mode = _ANY_MODE
        self._is_running = False
        "Whether code of the canister runs, or was cut off before the shim could be called again."
        self._modules = Modules(
            self._store, self._trampoline, self._stable, stable_wasm_pages_max, program
        )
        self.trees = KeptTrees(partial(_profile_of, self._modules))
        self._use(self._modules.side)
        self._stable_address = self._side.address(self._stable)
        LIVE.add(self)

    @property
    def side(self) -> Side:
        """The heap and the shim of the module that runs."""
        return self._side

    @property
    def joined(self) -> Joined:
        """The module that runs."""
        return self._modules.joined

    @property
    def program(self) -> Program:
        """What runs."""
        return self.joined.program

    @property
    def globals(self) -> Globals:
        """The mutable globals of the module that runs."""
        return self.joined.globals

    # -- messages -------------------------------------------------------------------------------

    def begin_message(self, instructions: int, accessed_max: int, dirty_max: int) -> None:
        """Begin a message, or begin one again that has done nothing yet, with other limits."""
        assert 0 <= instructions <= shim.INSTRUCTIONS_MAX
        self.instruction_limit = instructions
        self._shim_call(
            self._begin_message, instructions, _signed(accessed_max), _signed(dirty_max)
        )
        self.trees.begin()

    def call(self, name: str, argument: bytes) -> bytes:
        """Call an entry point of the canister, and return its reply.

        Raises:
            Trap: It trapped; the message must be rolled back.
            ModuleError: The module exports no such function.
        """
        status = self.enter(self.joined.entry(name), argument, ANY_CONTEXT_BIT, _ANY_MODE)
        return ctypes.string_at(self._addresses["reply"], status.reply_size)

    def execute(self, entry: Entry, argument: bytes, environment: Environment) -> ExecutionResult:
        """Run an execution in the open message, and return what it left; errors as `call`."""
        call, mode, numbers = entered(self.joined, entry, environment)
        place(self._side, environment)
        status = self.enter(call, argument, CONTEXT_BITS[environment.context], mode, numbers)
        return result_of(self._side, status)

    def enter(
        self, entry: Call, argument: bytes, bit: int, mode: str, numbers: tuple[int, ...] = ()
    ) -> shim.ShimStatus:
        """Let code of the canister run in a context, given as its bit and as its name.

        Raises:
            Trap: It trapped; the message must be rolled back.
        """
        self.run(entry, argument, bit, mode, numbers)
        self.follow_stable(self.tell().stable_size)
        return self.tell()

    def run(
        self, entry: Call, argument: bytes, bit: int, mode: str, numbers: tuple[int, ...] = ()
    ) -> None:
        """Do the same, and ask for nothing; an interrupt ends it if this is the main thread."""
        size = len(argument)
        if size > _ARGUMENT_BYTES_MAX:
            raise Trap(f"the call has {size} bytes, and a heap has 4 GiB; make several of it")
        self._is_heap_touched, self._mode = True, mode
        self._shim_call(self._begin_call, size, bit)
        if size:
            ctypes.memmove(self._addresses["argument"], argument, size)
        self.joined.begin_execution()
        if get_ident() == _MAIN_THREAD:
            self._is_running = True
            LISTENER.running = self._side.guard
        try:
            entry(*numbers)
        except self._trap_type as trap:
            is_interrupted = self._stop_running()
            raise self._explained(trap, is_interrupted=is_interrupted) from None
        except BaseException:
            # Python had an exception for its thread as soon as it got that back.
            self._stop_running()
            raise
        if self._is_running:
            LISTENER.release(self._side.guard)
            self._is_running = False

    def start(self, name: str, argument: bytes) -> None:
        """Make the heap new, and call ``canister_init`` or ``canister_post_upgrade``, if exported.

        Raises:
            Trap: It trapped; the message must be rolled back, which brings the old heap back.
        """
        self.renew_heap()
        if self.joined.has_start:
            self.enter(self.joined.entry(START_EXPORT), b"", ANY_CONTEXT_BIT, _ANY_MODE)
        if name in self.program.layout.exports:
            self.call(name, argument)

    def renew_heap(self, data: bytes | None = None) -> None:
        """Make the heap what a new instance's is, or other bytes; the kept one stays."""
        self._is_heap_touched, self._told = True, None
        self._modules.renew(data)

    def install(self, program: Program, *, keeps_heap: bool = False) -> None:
        """Go on with another module in the open message, on the same stable memory.

        Nothing of it runs. A rollback goes back to the module before, with its heap and state.

        Args:
            program: The new module; the same one begins anew.
            keeps_heap: Whether it finds the heap as it is, instead of a new one; its globals are
                new in any case.

        Raises:
            ModuleError: The module cannot be instantiated; the message has to be rolled back.
            Trap: This computer has no memory left for the heap; likewise.
            SettingsError: The heap should be kept, and has addresses of another width; or this
                process has no addresses left.
        """
        self._is_heap_touched, self._told = True, None
        self.trees.keep()
        try:
            self._modules.install(program, keeps_heap=keeps_heap)
        finally:
            self._use(self._modules.side)

    def prepare_commit(self) -> None:
        """Do what a commit could fail at.

        Raises:
            Trap: This computer has no memory left; the message can be rolled back.
        """
        self._shim_call(self._reserve_kept)

    def commit(self, *, is_new_heap: bool) -> None:
        """Keep what the message did, to stable memory and to the heap; again does no harm."""
        self.trees.keep()
        told = self._told
        self._shim_call(self._commit, self._how(is_new_heap=is_new_heap))
        self._side.shrink(told)
        self._modules.commit()
        self._is_heap_touched = False

    def rollback(self, *, is_new_heap: bool) -> None:
        """Take back what the message did, to stable memory and to the heap; again does no harm."""
        if self._is_running:
            self._stop_running()
        self.trees.keep()
        told = self._told
        self._shim_call(self._rollback, self._how(is_new_heap=is_new_heap))
        self._side.shrink(told)
        self._modules.rollback()
        if self._side is not self._modules.side:
            self._use(self._modules.side)
        self._is_heap_touched = False

    def keep_heap(self) -> None:
        """Let a rollback go back to the heap as it is now."""
        self._shim_call(self._keep_heap, shim.WHOLE)
        self._modules.keep()

    def end_unseen(self) -> None:
        """Forget what was counted and marked so far; the heap stays as it is, and the kept one."""
        self._shim_call(self._commit, shim.KEEP_NOTHING)

    def tell(self) -> shim.ShimStatus:
        """Return what the message has done so far; the shim is asked if anything has moved."""
        status = self._told
        if status is None:
            self._shim_call(self._tell)
            status = self._told = shim.ShimStatus._make(_STATUS.unpack_from(self._numbers))
        return status

    # -- stable memory, from outside ------------------------------------------------------------

    @property
    def stable_address(self) -> int:
        """Where stable memory begins in this process."""
        return self._stable_address

    @property
    def stable_wasm_pages(self) -> int:
        """Size of stable memory as the open message sees it."""
        return self.tell().stable_size

    def host_access(self, offset: int, length: int, *, is_write: bool) -> None:
        """Check, mark and log an access of the driver, which then moves the bytes; it is free.

        Raises:
            Trap: It lies outside, or crosses a limit.
        """
        self._shim_call(self._host_access, _signed(offset), _signed(length), 3 if is_write else 2)

    def host_grow(self, wasm_pages: int, wasm_pages_max: int) -> int:
        """Grow stable memory; returns the old size, or -1."""
        old = self._shim_call(self._host_grow, _signed(wasm_pages), _signed(wasm_pages_max))
        self.follow_stable(self.tell().stable_size)
        return old

    def note_size(self) -> None:
        """Log a question for the size."""
        self._shim_call(self._note_size)

    def set_stable_size(self, wasm_pages: int) -> bool:
        """Set the size between messages; returns whether there was room. Bytes are the caller's."""
        is_set = bool(self._shim_call(self._set_stable_size, wasm_pages))
        self.follow_stable(wasm_pages)
        return is_set

    # -- what was noted -------------------------------------------------------------------------

    def noted(self, what: shim.List, count: int) -> bytes:
        """Return the first ``count`` records of a list as bytes."""
        if not count:
            return b""
        size = count * 8 * len(what.columns)
        return ctypes.string_at(self.address_of(what.memory, size), size)

    def heap_bytes(self) -> bytes:
        """Return the heap as it is now."""
        return self._side.heap_bytes()

    def set_value(self, name: str, value: int) -> None:
        """Set one of the shim's globals."""
        self._told = None
        self._side.set_value(name, value)

    def value(self, name: str) -> int:
        """Return one of the shim's globals."""
        return self._side.value(name)

    def close(self) -> None:
        """Give everything back; the machine is not used afterwards."""
        LIVE.discard(self)
        # Functions hold the store, and it the address space.
        self.__dict__.clear()

    # -- inside ---------------------------------------------------------------------------------

    def address_of(self, memory: str, size: int = 0) -> int:
        """Return where one of the shim's memories begins in this process.

        Args:
            memory: Name of its export.
            size: Bytes that are going to be read; large ones might have moved it.
        """
        if size > _MAY_LEAVE_BYTES:
            self._addresses[memory] = self._side.address(self._side.exports[memory])
        return self._addresses[memory]

    def _how(self, *, is_new_heap: bool) -> int:
        """Return how the heap is kept or restored at the end of a message."""
        if not self._is_heap_touched:
            return shim.KEEP_NOTHING
        return shim.WHOLE if is_new_heap else shim.BY_MARKS

    def _shim_call(self, call: Call, *numbers: int) -> int:
        """Call the shim; what it refuses, or finds no memory for, is a trap of ours."""
        self._told = None
        try:
            return call(*numbers)
        except self._trap_type as trap:
            raise self._explained(trap) from None

    def recover(self) -> None:
        """Take nothing for granted, after an exception from outside that may have come anywhere.

        What follows is a commit or a rollback of the open message, of the whole heap.
        """
        self._stop_running()
        self._is_heap_touched, self._told = True, None

    def _stop_running(self) -> bool:
        """Make the shim's calls come to their end again; returns whether an interrupt came."""
        self._trampoline.forget_traps()
        is_interrupted = self._is_running and LISTENER.release(self._side.guard)
        self._is_running = False
        return is_interrupted

    def _explained(self, trap: Any, *, is_interrupted: bool = False) -> Trap:  # noqa: ANN401  wasmtime's
        name = _INTERRUPT if is_interrupted else trap.trap_code and trap.trap_code.name
        numbers = self.limits, self.instruction_limit
        found = self.joined.called_unknown() or explained(
            self._side, self.tell(), name, self._mode, *numbers
        )
        found.backtrace = backtrace_of(trap, self.program.layout.function_count)
        return found

    def follow_stable(self, wasm_pages: int) -> None:
        """Ask where stable memory is, if it has grown so far that it could have moved."""
        if wasm_pages * WASM_PAGE_BYTES > _MAY_LEAVE_BYTES:
            self._stable_address = self._side.address(self._stable)

    def _use(self, side: Side) -> None:
        """Let calls and addresses be those of a side."""
        self._side, self._told = side, None
        calls = side.calls
        self._begin_message = calls["begin_message"]
        self._begin_call, self._tell = calls["begin_call"], calls["tell"]
        self._commit, self._rollback = calls["commit"], calls["rollback"]
        self._reserve_kept = calls["reserve_kept"]
        self._host_access, self._host_grow = calls["host_access"], calls["host_grow"]
        self._note_size = calls["stable64_size"]
        self._set_stable_size, self._keep_heap = calls["set_stable_size"], calls["keep_heap"]
        self._addresses = side.addresses
        self._numbers = (ctypes.c_int64 * len(shim.ShimStatus._fields)).from_address(
            side.addresses["status"]
        )


_MANY: Final = 1 << 30

_INTERRUPT: Final = "INTERRUPT"
"""A name in `sqlstable.wasm.traps.WASM_TRAPS`."""

_ANY_MODE: Final = "update"
"""Where code runs that asks for nothing a context would forbid."""

_ARGUMENT_BYTES_MAX: Final = (1 << 32) - 1

_MAIN_THREAD: Final = main_thread().ident
"""The only one in which Python raises KeyboardInterrupt."""

_STATUS: Final = struct.Struct(f"={len(shim.ShimStatus._fields)}q")


def stable_bytes(machine: Instance) -> bytes:
    """Return stable memory as it is now, whole."""
    size = machine.stable_wasm_pages * WASM_PAGE_BYTES
    # ctypes.string_at ends at 2 GiB.
    return bytes((ctypes.c_char * size).from_address(machine.stable_address))


def statement_texts(machine: Instance) -> bytes:
    """Return the texts of statements that the message told of, each behind its size."""
    size = machine.value("statements_size")
    return ctypes.string_at(machine.address_of("statements", size), size) if size else b""


def put_stable(machine: Instance, address: int, data: bytes) -> None:
    """Change bytes of stable memory between messages; nobody counts that."""
    assert address + len(data) <= machine.stable_wasm_pages * WASM_PAGE_BYTES
    ctypes.memmove(machine.stable_address + address, data, len(data))


def _profile_of(modules: Modules) -> ProfileMemory | None:
    # Apart from the instance: what holds itself is freed late.
    return modules.joined.profile


def _signed(value: int) -> int:
    """Return an unsigned 64-bit number as wasmtime takes it."""
    return value - (1 << 64) if value >> 63 else value


def call_each(machine: Instance, name: str, arguments: Iterable[bytes]) -> None:
    """Call an entry point once for each argument, and ask neither for replies nor for counts.

    Raises:
        Trap: One of the calls trapped; the message must be rolled back.
        ModuleError: The module exports no such function.
    """
    entry = machine.joined.entry(name)
    for argument in arguments:
        machine.run(entry, argument, ANY_CONTEXT_BIT, _ANY_MODE)
    machine.follow_stable(machine.tell().stable_size)


def forget_below(machine: Instance, address: int) -> None:
    """Forget the message's accesses below an address, and what they cost; and all other calls.

    In a fresh heap the database is opened anew and the memory manager is not: its tables were
    read when the canister was upgraded, in a message of its own.
    """
    status, side = machine.tell(), machine.side
    marks = side.marks()
    rows = memoryview(machine.noted(shim.LOG, status.log_count)).cast("q").tolist()
    accesses = [row for row in zip(*[iter(rows)] * 3, strict=True) if row[0] <= WRITE]
    forgotten = [length for _, start, length in accesses if start < address]
    free = machine.program.regime.stable_call_cost(
        accesses=len(forgotten), bytes_moved=sum(forgotten)
    )
    counter = status.counter + status.page_charges + free
    machine.end_unseen()
    for kind, start, length in accesses:
        if start >= address:
            side.calls["enter_access"](start, length, 3 if kind == WRITE else 2)
    for at, part in marks:
        ctypes.memmove(at, part, len(part))
    machine.set_value("counter", counter - machine.tell().page_charges)
