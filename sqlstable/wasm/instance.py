"""A canister as wasmtime runs it: heap, stable memory, the shim, and the canister's module.

**Invariants**

* Memories never move while they stay within what they reserve, so their addresses are asked once;
  stable memory and the shim's lists are asked again where they could have left it.
* An upgrade does not make a new instance, because wasmtime frees none before its store: the heap is
  filled with zeros, gets the bytes and the mutable globals that a new instance has, and is then as
  a new one's. Tables keep what they hold, which modules of C never change.
* The *kept* heap (``heap_kept`` in the shim, and the globals here) is the heap as the last message
  left it. A rollback goes back to it, whatever happened to the instance meanwhile.
"""

import ctypes
import struct
from threading import get_ident, main_thread
from typing import TYPE_CHECKING, Any, Final

from sqlstable.errors import Trap
from sqlstable.ic.limits import Limits
from sqlstable.ic.units import GIB, WASM_PAGE_BYTES
from sqlstable.ic.words import WRITE
from sqlstable.wasm import shim
from sqlstable.wasm.calls import Call, Globals, Trampoline
from sqlstable.wasm.interrupts import LISTENER, NEVER, NEXT_INTERRUPT
from sqlstable.wasm.joining import join, reserving, shim_values
from sqlstable.wasm.program import LIVE, Program, wasmtime_module
from sqlstable.wasm.rewrite.binary import WASM_PAGES_MAX as HEAP_WASM_PAGES_MAX
from sqlstable.wasm.rewrite.rewriter import SHIM_MODULE, START_EXPORT
from sqlstable.wasm.traps import trap_of

if TYPE_CHECKING:
    from wasmtime import Limits as WasmLimits
    from wasmtime import Memory, Store

_MAY_LEAVE_BYTES: Final = 48 * GIB
"""Where a memory is larger, its address is asked again; less than any memory reserves."""

_CALLS: Final = {
    "begin_message": 3,
    "begin_call": 1,
    "reserve_kept": 0,
    "commit": 1,
    "rollback": 1,
    "tell": 0,
    "host_access": 3,
    "enter_access": 3,
    "host_grow": 2,
    "stable64_size": 0,
    "set_stable_size": 1,
    "keep_heap": 1,
    "reset_heap": 1,
}


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
        self.program = program
        self.limits = limits
        self.instruction_limit = shim.INSTRUCTIONS_MAX
        wasmtime = wasmtime_module()
        self._trap_type: type[Exception] = wasmtime.Trap
        self._store: Store = wasmtime.Store(program.engine)
        self._store.set_epoch_deadline(NEVER)
        LISTENER.listen(program.engine)
        self._heap = self._memory(
            wasmtime.Limits(program.layout.heap_wasm_pages, HEAP_WASM_PAGES_MAX), is_64=False
        )
        self._stable = self._memory(wasmtime.Limits(0, None), is_64=True)
        linker = wasmtime.Linker(program.engine)
        linker.define(self._store, SHIM_MODULE, "heap", self._heap)
        linker.define(self._store, SHIM_MODULE, "stable", self._stable)
        with reserving():
            joined = linker.instantiate(self._store, program.shim)
        self._shim: Any = joined.exports(self._store)
        for name, value in shim_values(program, stable_wasm_pages_max).items():
            self.set_value(name, value)
        self._instance, self._unknown = join(self._store, linker, program, self._shim)
        self._learn_addresses()
        trampoline = Trampoline(self._store)
        self._trampoline = trampoline
        calls = {
            name: trampoline.call_of(self._shim[name], count) for name, count in _CALLS.items()
        }
        self._begin_message = calls["begin_message"]
        self._begin_call, self._tell = calls["begin_call"], calls["tell"]
        self._commit, self._rollback = calls["commit"], calls["rollback"]
        self._reserve_kept = calls["reserve_kept"]
        self._host_access, self._host_grow = calls["host_access"], calls["host_grow"]
        self._enter_access, self._note_size = calls["enter_access"], calls["stable64_size"]
        self._set_stable_size, self._keep_heap = calls["set_stable_size"], calls["keep_heap"]
        self._reset_heap = calls["reset_heap"]
        self._entries: dict[str, Call] = {}
        self._is_heap_touched = False
        self._told: shim.ShimStatus | None = None
        "What the shim told, as long as nothing has moved since."
        self._is_running = False
        "Whether code of the canister runs, or was cut off before the shim could be called again."
        mutable = [self._instance[name] for name in program.layout.mutable_globals]
        self.globals = Globals(self._store, mutable)
        # A new instance's globals, and its heap without the zeros at the end.
        self._new_globals = self._kept_globals = self.globals.values()
        self._new_heap = self.heap_bytes().rstrip(b"\0")
        if START_EXPORT in program.layout.exports:
            start = self._trampoline.call_of(self._instance[START_EXPORT], 0)
            self._entries[START_EXPORT] = start
        self._keep_heap(shim.WHOLE)
        LIVE.add(self)

    # -- messages -------------------------------------------------------------------------------

    def begin_message(self, instructions: int, accessed_max: int, dirty_max: int) -> None:
        """Begin a message, or begin one again that has done nothing yet, with other limits."""
        assert 0 <= instructions <= shim.INSTRUCTIONS_MAX
        self.instruction_limit = instructions
        self._shim_call(
            self._begin_message, instructions, _signed(accessed_max), _signed(dirty_max)
        )

    def call(self, name: str, argument: bytes) -> bytes:
        """Call an entry point of the canister, and return its reply.

        Raises:
            Trap: It trapped; the message must be rolled back.
        """
        entry = self._entries.get(name)
        if entry is None:
            entry = self._entries[name] = self._trampoline.call_of(self._instance[name], 0)
        size = len(argument)
        if size > _ARGUMENT_BYTES_MAX:
            raise Trap(f"the call has {size} bytes, and a heap has 4 GiB; make several of it")
        self._is_heap_touched = True
        self._shim_call(self._begin_call, size)
        self._told = None
        if size:
            ctypes.memmove(self._addresses["argument"], argument, size)
        self._run(entry)
        status = self.tell()
        self._follow_stable(status.stable_size)
        return ctypes.string_at(self._addresses["reply"], status.reply_size)

    def start(self, name: str, argument: bytes) -> None:
        """Make the heap new, and call ``canister_init`` or ``canister_post_upgrade``.

        Raises:
            Trap: It trapped; the message must be rolled back, which brings the old heap back.
        """
        self.renew_heap()
        if START_EXPORT in self._entries:
            self._begin_call(0)
            self._run(self._entries[START_EXPORT])
        self.call(name, argument)

    def renew_heap(self, data: bytes | None = None) -> None:
        """Make the heap what a new instance's is, or other bytes; the kept one stays."""
        self._is_heap_touched, self._told = True, None
        data = self._new_heap if data is None else data
        wasm_pages = max(self.program.layout.heap_wasm_pages, len(data) // WASM_PAGE_BYTES)
        if not self._reset_heap(wasm_pages):
            raise Trap("this computer has no memory left for the heap")
        ctypes.memmove(self._heap_address, data, len(data))
        self.globals.set_values(self._new_globals)

    def prepare_commit(self) -> None:
        """Do what a commit could fail at.

        Raises:
            Trap: This computer has no memory left; the message can be rolled back.
        """
        self._shim_call(self._reserve_kept)

    def commit(self, *, is_new_heap: bool) -> None:
        """Keep what the message did, to stable memory and to the heap; again does no harm."""
        self._shim_call(self._commit, self._how(is_new_heap=is_new_heap))
        self._kept_globals = self.globals.values()
        self._is_heap_touched = False

    def rollback(self, *, is_new_heap: bool) -> None:
        """Take back what the message did, to stable memory and to the heap; again does no harm."""
        if self._is_running:
            self._stop_running()
        self._shim_call(self._rollback, self._how(is_new_heap=is_new_heap))
        self.globals.set_values(self._kept_globals)
        self._is_heap_touched = False

    def keep_heap(self) -> None:
        """Let a rollback go back to the heap as it is now."""
        self._shim_call(self._keep_heap, shim.WHOLE)
        self._kept_globals = self.globals.values()

    def end_unseen(self) -> None:
        """Forget what was counted and marked so far; the heap stays as it is, and the kept one."""
        self._shim_call(self._commit, shim.KEEP_NOTHING)

    def forget_below(self, address: int) -> None:
        """Forget the message's accesses below an address, and what they cost; and all other calls.

        In a fresh heap the database is opened anew and the memory manager is not: its tables were
        read when the canister was upgraded, in a message of its own.
        """
        status, marks = self.tell(), self._marks()
        rows = memoryview(self.noted(shim.LOG, status.log_count)).cast("q").tolist()
        accesses = [row for row in zip(*[iter(rows)] * 3, strict=True) if row[0] <= WRITE]
        forgotten = [length for _, start, length in accesses if start < address]
        free = self.program.regime.stable_call_cost(
            accesses=len(forgotten), bytes_moved=sum(forgotten)
        )
        counter = status.counter + status.page_charges + free
        self.end_unseen()
        for kind, start, length in accesses:
            if start >= address:
                self._enter_access(start, length, 3 if kind == WRITE else 2)
        for at, part in marks:
            ctypes.memmove(at, part, len(part))
        self.set_value("counter", counter - self.tell().page_charges)

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
        self._follow_stable(self.tell().stable_size)
        return old

    def note_size(self) -> None:
        """Log a question for the size."""
        self._shim_call(self._note_size)

    def set_stable_size(self, wasm_pages: int) -> bool:
        """Set the size between messages; returns whether there was room. Bytes are the caller's."""
        is_set = bool(self._shim_call(self._set_stable_size, wasm_pages))
        self._follow_stable(wasm_pages)
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
        return ctypes.string_at(self._heap_address, self.value("heap_size") * WASM_PAGE_BYTES)

    def set_value(self, name: str, value: int) -> None:
        """Set one of the shim's globals."""
        self._told = None
        self._shim[name].set_value(self._store, value)

    def value(self, name: str) -> int:
        """Return one of the shim's globals."""
        return int(self._shim[name].value(self._store))

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
            self._addresses[memory] = self._address(self._shim[memory])
        return self._addresses[memory]

    def _how(self, *, is_new_heap: bool) -> int:
        """Return how the heap is kept or restored at the end of a message."""
        if not self._is_heap_touched:
            return shim.KEEP_NOTHING
        return shim.WHOLE if is_new_heap else shim.BY_MARKS

    def _run(self, entry: Call) -> None:
        """Let code of the canister run, which an interrupt ends if this is the main thread."""
        self._told = None
        if get_ident() == _MAIN_THREAD:
            self._is_running = True
            self._trampoline.set_deadline(NEXT_INTERRUPT)
        try:
            entry()
        except self._trap_type as trap:
            self._stop_running()
            raise self._explained(trap) from None
        except BaseException:
            # Python had an exception for its thread as soon as it got that back.
            self._stop_running()
            raise
        self._trampoline.set_deadline(NEVER)
        self._is_running = False

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

    def _stop_running(self) -> None:
        """Make the shim's calls come to their end again."""
        self._trampoline.set_deadline(NEVER)
        self._trampoline.forget_traps()
        self._is_running = False

    def _explained(self, trap: Any) -> Trap:  # noqa: ANN401  wasmtime's
        status = self.tell()
        code = trap.trap_code
        for name, called in self._unknown.items():
            if called.value(self._store):
                called.set_value(self._store, 0)
                msg = f"ic0.{name} is not known here; leave the call out, or test it with PocketIC"
                return Trap(msg)
        text = ctypes.string_at(self.address_of("text"), status.text_size)
        return trap_of(
            status.trap_code,
            text=text.decode(errors="replace"),
            wasm_trap=None if code is None else code.name,
            limits=self.limits,
            instruction_limit=self.instruction_limit,
        )

    def _memory(self, limits: "WasmLimits", *, is_64: bool) -> "Memory":
        wasmtime = wasmtime_module()
        with reserving():
            memory: Memory = wasmtime.Memory(self._store, wasmtime.MemoryType(limits, is_64=is_64))
        return memory

    def _learn_addresses(self) -> None:
        names = {
            *("argument", "reply", "debug", "text", "status", "heap_marks", "bytemap", "undo"),
            *(item.memory for item in shim.LISTS),
        }
        self._addresses = {name: self._address(self._shim[name]) for name in names}
        self._heap_address = self._address(self._heap)
        self._stable_address = self._address(self._stable)
        self._numbers = (ctypes.c_int64 * len(shim.ShimStatus._fields)).from_address(
            self._addresses["status"]
        )

    def _address(self, memory: "Memory") -> int:
        return ctypes.addressof(memory.data_ptr(self._store).contents)

    def _follow_stable(self, wasm_pages: int) -> None:
        """Ask where stable memory is, if it has grown so far that it could have moved."""
        if wasm_pages * WASM_PAGE_BYTES > _MAY_LEAVE_BYTES:
            self._stable_address = self._address(self._stable)

    def _marks(self) -> list[tuple[int, bytes]]:
        size = self._heap.size(self._store) * (WASM_PAGE_BYTES // 4096)
        start = self._addresses["heap_marks"]
        return [(at, ctypes.string_at(at, size)) for at in (start, start + (1 << 20))]


_ARGUMENT_BYTES_MAX: Final = (1 << 32) - 1

_MAIN_THREAD: Final = main_thread().ident
"""The only one in which Python raises KeyboardInterrupt."""

_STATUS: Final = struct.Struct(f"={len(shim.ShimStatus._fields)}q")


def stable_bytes(machine: Instance) -> bytes:
    """Return stable memory as it is now, whole."""
    size = machine.stable_wasm_pages * WASM_PAGE_BYTES
    # ctypes.string_at ends at 2 GiB.
    return bytes((ctypes.c_char * size).from_address(machine.stable_address))


def put_stable(machine: Instance, address: int, data: bytes) -> None:
    """Change bytes of stable memory between messages; nobody counts that."""
    assert address + len(data) <= machine.stable_wasm_pages * WASM_PAGE_BYTES
    ctypes.memmove(machine.stable_address + address, data, len(data))


def _signed(value: int) -> int:
    """Return an unsigned 64-bit number as wasmtime takes it."""
    return value - (1 << 64) if value >> 63 else value
