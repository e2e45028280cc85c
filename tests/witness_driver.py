"""A witness of the driver: the rewritten module and the shim joined as plainly as possible.

It takes no short cut and no call of `sqlstable.wasm.instance`, so that both can be held against it.
"""

import ctypes
import struct
from functools import cache

import numpy as np
import wasmtime

from sqlstable.ic.prices import SystemCosts
from sqlstable.ic.system_calls import ANY_CONTEXT_BIT
from sqlstable.ic.units import WASM_PAGE_BYTES
from sqlstable.wasm import shim
from sqlstable.wasm.packing import outcome_at
from sqlstable.wasm.rewrite.heap_marks import MARKS_BYTES
from sqlstable.wasm.rewrite.rewriter import RewriteOptions, rewrite
from sqlstable.wasm.traps import TrapWords, trap_of

FREE = SystemCosts(*([0] * len(SystemCosts.__dataclass_fields__)))
"""System calls that cost nothing."""

NO_LIMIT = (1 << 64) - 1

BORDER_COST = 1 + 5 + 1
"""What a border costs by the replica's weights: a constant, a call, and the drop of its result."""


def signed64(value):
    """wasmtime takes and gives i64 as signed numbers."""
    return value - (1 << 64) if value >> 63 else value


def signed32(value):
    return value - (1 << 32) if value >> 31 else value


@cache
def engine():
    return wasmtime.Engine(wasmtime.Config())


@cache
def compiled(wasm):
    return wasmtime.Module(engine(), wasm)


class Machine:
    """One canister: its heap, its stable memory, the shim, and the module if there is one."""

    def __init__(self, wasm=None, options=None, *, costs=None, limits=None, heap_wasm_pages=1):
        self.store = wasmtime.Store(engine())
        self.limits = limits
        self.options = options or RewriteOptions()
        self.rewritten = None if wasm is None else rewrite(wasm, self.options)
        if self.rewritten is not None:
            heap_wasm_pages = self.rewritten.heap.minimum
        self.heap = self._memory(wasmtime.Limits(heap_wasm_pages, 65536))
        self.stable = self._memory(wasmtime.Limits(0, None), is_64=True)
        self.linker = wasmtime.Linker(engine())
        self.linker.define(self.store, "sqlstable", "heap", self.heap)
        self.linker.define(self.store, "sqlstable", "stable", self.stable)
        instance = self.linker.instantiate(self.store, compiled(shim.shim()))
        self.shim = instance.exports(self.store)
        self.set("heap_size", heap_wasm_pages)
        self.set("has_heap_marks", int(self.options.has_heap_marks))
        for name, value in shim.cost_globals(costs or SystemCosts()).items():
            self.set(name, value)
        self.set("has_borders", 1)
        self.set("charge_border", BORDER_COST)
        if self.rewritten is not None:
            self._instantiate()
        self.shim["keep_heap"](self.store, shim.WHOLE)
        self.globals = self._globals()
        self.instruction_limit = 0

    def _memory(self, limits, **options):
        return wasmtime.Memory(self.store, wasmtime.MemoryType(limits, **options))

    def _instantiate(self):
        module = compiled(self.rewritten.wasm)
        for item in module.imports:
            if (item.module, item.name) != ("sqlstable", "heap"):
                self.linker.define(self.store, item.module, item.name, self.shim[item.name])
        self.module = self.linker.instantiate(self.store, module).exports(self.store)

    def _globals(self):
        names = () if self.rewritten is None else self.rewritten.mutable_globals
        return {item.export: self.module[item.export].value(self.store) for item in names}

    # -- what the shim holds ---------------------------------------------------------------------

    def get(self, name):
        return self.shim[name].value(self.store)

    def set(self, name, value):
        self.shim[name].set_value(self.store, value)

    def bytes_of(self, memory, start=0, length=None):
        if isinstance(memory, str):
            memory = self.shim[memory]
        length = memory.data_len(self.store) - start if length is None else length
        if length == 0:
            return b""
        return ctypes.string_at(self._address(memory) + start, length)

    def poke(self, memory, start, data):
        if isinstance(memory, str):
            memory = self.shim[memory]
        assert start + len(data) <= memory.data_len(self.store)
        ctypes.memmove(self._address(memory) + start, bytes(data), len(data))

    def _address(self, memory):
        return ctypes.addressof(memory.data_ptr(self.store).contents)

    def list(self, described):
        count = self.get(described.count)
        width = len(described.columns)
        data = self.bytes_of(described.memory, 0, count * width * 8)
        numbers = struct.unpack(f"<{count * width}q", data)
        rows = [numbers[i : i + width] for i in range(0, len(numbers), width)]
        return [row[0] for row in rows] if width == 1 else rows

    def buffer(self, described):
        return self.bytes_of(described.memory, 0, self.get(described.size))

    def outcome(self):
        """The numbers that system calls leave."""
        return outcome_at(self._address(self.shim["outcome"]))

    @property
    def used(self):
        """Instructions of the message so far."""
        return self.instruction_limit - self.get("counter")

    def image(self):
        return self.bytes_of(self.stable, 0, self.get("stable_size_now") * WASM_PAGE_BYTES)

    def heap_bytes(self):
        return self.bytes_of(self.heap, 0, self.get("heap_size") * WASM_PAGE_BYTES)

    def marks(self):
        """OS pages of the heap marked as read, and as written."""
        marks = np.frombuffer(self.bytes_of("heap_marks", 0, MARKS_BYTES[False]), dtype=np.uint8)
        marks = marks.reshape(2, -1)
        return tuple(set(np.flatnonzero(row).tolist()) for row in marks)

    # -- messages --------------------------------------------------------------------------------

    def begin(self, instructions=shim.INSTRUCTIONS_MAX, accessed_max=NO_LIMIT, dirty_max=NO_LIMIT):
        self.instruction_limit = instructions
        self.shim["begin_message"](
            self.store, instructions, signed64(accessed_max), signed64(dirty_max)
        )

    def commit(self, heap=shim.WHOLE):
        self.shim["commit"](self.store, heap)
        self.globals = self._globals()

    def rollback(self, heap=shim.WHOLE):
        self.shim["rollback"](self.store, heap)
        for name, value in self.globals.items():
            self.module[name].set_value(self.store, value)

    def ic0(self, name, *arguments):
        """Call a system call directly; raises the trap."""
        return self._call(self.shim[name], arguments)

    def call(self, name, *arguments, argument=b""):
        """Call an export of the module; raises the trap."""
        self.shim["begin_call"](self.store, len(argument), ANY_CONTEXT_BIT)
        self.poke("argument", 0, argument)
        return self._call(self.module[name], arguments)

    def _call(self, function, arguments):
        try:
            return function(self.store, *arguments)
        except wasmtime.Trap as trap:
            found = self.outcome()
            raise trap_of(
                self.get("trap_code"),
                text=self.buffer(shim.TEXT).decode(),
                wasm_trap=trap.trap_code.name if trap.trap_code else None,
                limits=self.limits,
                instruction_limit=self.instruction_limit,
                words=TrapWords((found.first, found.second, found.third)),
            ) from trap
