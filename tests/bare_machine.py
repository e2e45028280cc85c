"""A rewritten module joined to plain memories and globals: no shim, no driver."""

import ctypes
import struct
from functools import cache

import wasmtime

from sqlstable.ic.units import WASM_PAGE_BYTES
from sqlstable.wasm.rewrite.heap_marks import EXTRA_CELLS, MARKS_BYTES
from sqlstable.wasm.rewrite.metering import EXTRAS, extra_cell
from sqlstable.wasm.rewrite.rewriter import SHIM_MODULE, RewriteOptions, rewrite

INSTRUCTIONS = 1 << 62


@cache
def bare_engine():
    config = wasmtime.Config()
    config.cranelift_nan_canonicalization = True
    return wasmtime.Engine(config)


def wasm_of(text):
    return bytes(wasmtime.wat2wasm(text))


class BareMachine:
    """One instance of a rewritten module."""

    def __init__(self, wasm, options=None, imports=None):
        self.rewritten = rewrite(wasm, options or RewriteOptions())
        self.store = wasmtime.Store(bare_engine())
        self.module = wasmtime.Module(bare_engine(), self.rewritten.wasm)
        self.shared = {}
        given = [self._given(item, imports or {}) for item in self.module.imports]
        self.exports = wasmtime.Instance(self.store, self.module, given).exports(self.store)

    def _given(self, item, imports):
        if item.module != SHIM_MODULE:
            return imports[item.module, item.name]
        if isinstance(item.type, wasmtime.MemoryType):
            made = wasmtime.Memory(self.store, item.type)
        else:
            value = {"counter": INSTRUCTIONS, "heap_size": self.rewritten.heap.minimum}
            is_i32 = item.name in ("heap_size", "trap_code")
            kind = wasmtime.ValType.i32 if is_i32 else wasmtime.ValType.i64
            made = wasmtime.Global(
                self.store,
                item.type,
                getattr(wasmtime.Val, str(kind()))(value.get(item.name, 0)),
            )
        self.shared[item.name] = made
        return made

    def call(self, name, *arguments):
        return self.exports[name](self.store, *arguments)

    def get(self, name):
        return self.shared[name].value(self.store)

    def extra(self, name):
        """What another table counts more: in a global, and in cells behind the marks."""
        found = self.get(name)
        is_64 = self.rewritten.heap.is_64
        if "heap_marks" in self.shared and EXTRA_CELLS[is_64]:
            cells = EXTRA_CELLS[is_64]
            start = extra_cell(list(EXTRAS).index(name), 0)
            data = self._bytes(self.shared["heap_marks"])[start : start + 8 * cells]
            found += sum(struct.unpack(f"<{cells}q", data))
        return found

    def used_by(self, name, *arguments):
        """Call a function; returns the instructions that it used, and its result."""
        before = self.get("counter")
        result = self.call(name, *arguments)
        return before - self.get("counter"), result

    def set_export(self, name, value):
        self.exports[name].set_value(self.store, value)

    def _bytes(self, memory):
        address = ctypes.addressof(memory.data_ptr(self.store).contents)
        return ctypes.string_at(address, memory.data_len(self.store))

    def heap_bytes(self):
        return self._bytes(self.shared["heap"])[: self.get("heap_size") * WASM_PAGE_BYTES]

    def marks(self):
        """OS pages of the heap marked as read, and as written."""
        size = MARKS_BYTES[self.rewritten.heap.is_64]
        marks = self._bytes(self.shared["heap_marks"])[:size]
        half = len(marks) // 2
        return tuple(
            {at for at in range(half) if part[at]} for part in (marks[:half], marks[half:])
        )
