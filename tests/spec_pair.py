"""A module as it came and rewritten, side by side, for scripts of the specification."""

import contextlib
import ctypes
from collections import Counter
from functools import cache

import wasmtime
from wasmtime import _bindings

from sqlstable.errors import ModuleError
from sqlstable.ic.prices import WeightTable
from sqlstable.wasm.rewrite.binary import FUNCTION, GLOBAL, MEMORY, TABLE
from sqlstable.wasm.rewrite.module_reader import read_module
from sqlstable.wasm.rewrite.rewriter import PRIVATE, START_EXPORT, RewriteOptions, rewrite
from tests.random_modules import random_value
from tests.spec_scripts import Form, called, parsed, raw, value_of

FUEL = WeightTable(
    name="wasmtime-fuel",
    source="wasmtime 50.0.1, measured",
    default=1,
    weights=dict.fromkeys(
        ["block", "loop", "else", "end", "nop", "drop", "return", "unreachable"], 0
    ),
    function_entry=1,
    per_unit=1,
)
REWRITTEN = RewriteOptions(FUEL, has_heap_marks=True, is_deployed=False)
INSTRUCTIONS = 1 << 40
_RANDOM_INSTRUCTIONS = 100_000
"""Of one call in a random module, which may be endless."""

SPECTEST = """(module
  (global (export "global_i32") i32 (i32.const 666))
  (global (export "global_i64") i64 (i64.const 666))
  (global (export "global_f32") f32 (f32.const 666.6))
  (global (export "global_f64") f64 (f64.const 666.6))
  (table (export "table") 10 20 funcref)
  (table (export "table64") i64 10 20 funcref)
  (memory (export "memory") 1 2))"""


PRINTS = {
    "print": "",
    "print_i32": "i32",
    "print_i64": "i64",
    "print_f32": "f32",
    "print_f64": "f64",
    "print_i32_f32": "i32 f32",
    "print_f64_f64": "f64 f64",
}


class NotComparableError(Exception):
    """What a script wants cannot be done on both sides; the text says why."""


@cache
def engine(*, has_fuel):
    config = wasmtime.Config()
    config.cranelift_nan_canonicalization = True
    config.consume_fuel = has_fuel
    # The stack of the rewritten side is larger, as its functions have more locals.
    return wasmtime.Engine(config)


class Side:
    """All instances of a script, on one engine."""

    def __init__(self, *, is_rewritten):
        self.is_rewritten = is_rewritten
        self.engine = engine(has_fuel=not is_rewritten)
        self.store = wasmtime.Store(self.engine)
        self.counters = []
        self.instructions = INSTRUCTIONS
        "What a new instance begins with."
        self.heap_sizes, self.tables = [], []
        if not is_rewritten:
            self.store.set_fuel(INSTRUCTIONS)
        spectest = wasmtime.Module(self.engine, wasmtime.wat2wasm(SPECTEST))
        self.registered = {"spectest": wasmtime.Instance(self.store, spectest, [])}
        self.prints = {name: self._print(kinds.split()) for name, kinds in PRINTS.items()}
        self.named = {}
        self.latest = None

    def _print(self, kinds):
        types = [getattr(wasmtime.ValType, kind)() for kind in kinds]
        return wasmtime.Func(self.store, wasmtime.FuncType(types, []), lambda *_: None)

    def given(self, module, name):
        """Return what is imported under a name."""
        if module == "spectest" and name in self.prints:
            return self.prints[name]
        instance = self.registered.get(module)
        if instance is None:
            raise NotComparableError("imports from an instance that was not made")
        found = instance.exports(self.store).get(name)
        if found is None:
            raise wasmtime.WasmtimeError(f"unknown import {module} {name}")
        return found

    def instantiate(self, wasm):
        """Make an instance and run its start function; returns the trap, or None."""
        if not self.is_rewritten:
            module = wasmtime.Module(self.engine, wasm)
            imports = [self.given(item.module, item.name) for item in module.imports]
            try:
                self.latest = wasmtime.Instance(self.store, module, imports)
            except wasmtime.Trap as trap:
                return trap
            return None
        rewritten = rewrite(wasm, REWRITTEN)
        module = wasmtime.Module(self.engine, rewritten.wasm)
        shared = {}
        imports = []
        for item in module.imports:
            if item.module != "sqlstable":
                imports.append(self.given(item.module, item.name))
                continue
            shared[item.name] = self._shared(item, rewritten)
            imports.append(shared[item.name])
        self.counters.append(shared["counter"])
        self.heap_sizes.append(shared["heap_size"])
        try:
            self.latest = wasmtime.Instance(self.store, module, imports)
        except wasmtime.Trap as trap:
            return trap
        own_tables = rewritten.tables[len(read_module(wasm).imported(TABLE)) :]
        exports = self.latest.exports(self.store)
        self.tables += [exports[table.export] for table in own_tables]
        if START_EXPORT in rewritten.exports:
            result = called(self.store, self.latest.exports(self.store)[START_EXPORT], [])
            if isinstance(result, wasmtime.Trap):
                return result
        return None

    def _shared(self, item, rewritten):
        if isinstance(item.type, wasmtime.MemoryType):
            return wasmtime.Memory(self.store, item.type)
        value = {"counter": self.instructions, "heap_size": rewritten.heap.minimum}.get(
            item.name, 0
        )
        kind = wasmtime.Val.i64 if item.name == "counter" else wasmtime.Val.i32
        return wasmtime.Global(self.store, item.type, kind(value))

    def spent(self):
        """Return what has been counted so far."""
        if not self.is_rewritten:
            return -self.store.get_fuel()
        return -sum(counter.value(self.store) for counter in self.counters)

    def limit(self, instructions):
        """Let what follows have so many instructions at most."""
        self.instructions = instructions
        if not self.is_rewritten:
            self.store.set_fuel(instructions)
        for counter in self.counters:
            counter.set_value(self.store, wasmtime.Val.i64(instructions))

    def is_out(self, result):
        """Return whether a result is the end of the instructions."""
        if not isinstance(result, wasmtime.Trap):
            return False
        if self.is_rewritten:
            return any(counter.value(self.store) < 0 for counter in self.counters)
        return result.trap_code is wasmtime.TrapCode.OUT_OF_FUEL

    def grown(self):
        """Return the sizes of heaps and tables: wasmtime's counter goes by what they grow."""
        return sum(size.value(self.store) for size in self.heap_sizes) + sum(
            table.size(self.store) for table in self.tables
        )

    def exports(self, name):
        """Return the exports of an instance; of the latest one without a name."""
        instance = self.latest if name is None else self.named.get(name)
        if instance is None:
            raise NotComparableError("calls an instance that was not made")
        return instance.exports(self.store)


class Pair:
    """Runs a script on both sides."""

    def __init__(self):
        self.sides = [Side(is_rewritten=False), Side(is_rewritten=True)]
        self.counts = Counter()
        self.differences = []

    def run(self, text):
        for form in parsed(text):
            with contextlib.suppress(NotComparableError):
                self.one(text, form)

    def one(self, text, form):
        """Do what one form says."""
        match form[0]:
            case "module":
                self.module(text[form.start : form.stop], form)
            case "register":
                for side in self.sides:
                    name = form[2] if len(form) > 2 else None
                    side.registered[form[1].decode()] = (
                        side.latest if name is None else side.named.get(name)
                    )
            case "invoke" | "assert_return" | "assert_trap":
                action = form if form[0] == "invoke" else form[1]
                if action[0] == "module":
                    self.module(text[action.start : action.stop], action)
                elif action[0] == "invoke":
                    self.invoke(action)
                else:
                    self.read(action)
            case "assert_unlinkable":
                self.module(text[form[1].start : form[1].stop], form[1])
            case "assert_invalid" | "assert_malformed":
                self.refused(text[form[1].start : form[1].stop], form)

    def skip(self, why):
        self.counts[f"skipped: {why}"] += 1
        raise NotComparableError(why)

    def differ(self, what, *found):
        self.differences.append((what, *found))

    def module(self, text, form):
        """Make an instance on both sides, or none on both."""
        for side in self.sides:
            side.latest = None
        if any(word in ("definition", "instance") for word in form[1:3]):
            self.skip("a module definition")
        try:
            wasm = bytes(wasmtime.wat2wasm(text))
            read = read_module(wasm)
        except (wasmtime.WasmtimeError, ModuleError):
            self.skip("a module that is not supported")
        if read.imported(MEMORY):
            self.skip("a module that imports its memory")
        outcomes = []
        for side in self.sides:
            try:
                trap = side.instantiate(wasm)
                outcomes.append(None if trap is None else str(trap.trap_code))
            except wasmtime.WasmtimeError:
                outcomes.append("refused")
        if outcomes[0] != outcomes[1]:
            self.differ("an instance", text[:60], *outcomes)
        self.counts["modules"] += 1
        name = next((word for word in form[1:2] if str(word).startswith("$")), None)
        for side in self.sides:
            if name is not None:
                side.named[name] = side.latest

    def compare(self, wasm, generator):
        """Call each exported function of a module with random values, and look at all it left."""
        module = read_module(wasm)
        for side in self.sides:
            side.limit(_RANDOM_INSTRUCTIONS)
        outcomes = [side.instantiate(wasm) for side in self.sides]
        if any(side.is_out(trap) for side, trap in zip(self.sides, outcomes, strict=True)):
            return
        if any(outcomes):
            codes = [None if trap is None else str(trap.trap_code) for trap in outcomes]
            if codes[0] != codes[1]:
                self.differ("an instance", *codes)
            self.counts["modules that trap at their start"] += 1
            return
        self.counts["modules"] += 1
        for item in module.exports:
            if item.kind != FUNCTION or item.name.startswith(PRIVATE):
                continue
            kinds = module.type_of(item.index).parameters
            arguments = [random_value(generator, kind) for kind in kinds]
            if None in arguments:
                continue
            for side in self.sides:
                side.limit(_RANDOM_INSTRUCTIONS)
            if not self.call(None, item.name, arguments):
                # It may have been cut off at different places: nothing can be compared any more.
                self.counts["endless"] += 1
                return
        self.look(module)

    def look(self, module):
        """Compare memory and globals."""
        sides = [side.latest.exports(side.store) for side in self.sides]
        for item in module.exports:
            if item.kind == GLOBAL:
                found = [
                    _global_of(side, one[item.name])
                    for side, one in zip(self.sides, sides, strict=True)
                ]
                if found[0] != found[1]:
                    self.differ("a global", item.name, *found)
                self.counts["globals read"] += 1
            elif item.kind == MEMORY:
                found = [one[item.name] for one in sides]
                data = [
                    bytes(memory.read(side.store, 0, None))
                    for side, memory in zip(self.sides, found, strict=True)
                ]
                size = self.sides[1].heap_sizes[-1].value(self.sides[1].store) << 16
                if data[0] != data[1][:size]:
                    self.differ("the heap", len(data[0]), size)
                self.counts["heaps compared"] += 1

    def invoke(self, form):
        """Call a function on both sides, as a form of a script says."""
        named = isinstance(form[1], str)
        name = (form[2] if named else form[1]).decode("utf-8", "surrogatepass")
        arguments = [value_of(item) for item in form[3 if named else 2 :]]
        if None in arguments:
            self.skip("an argument that is a reference")
        if name.startswith(PRIVATE):
            self.skip("a private name")
        self.call(form[1] if named else None, name, arguments)

    def call(self, instance, name, arguments):
        """Call a function on both sides; returns whether it came to its end."""
        results, spent = [], []
        grown = self.sides[1].grown()
        for side in self.sides:
            before = side.spent()
            exports = side.exports(instance)
            result = called(side.store, exports[name], arguments)
            spent.append(side.spent() - before)
            if side.is_out(result):
                return False
            results.append(str(result.trap_code) if isinstance(result, wasmtime.Trap) else result)
        self.counts["calls"] += 1
        if "STACK_OVERFLOW" in str(results[0]) and "STACK_OVERFLOW" in str(results[1]):
            return True
        if results[0] != results[1]:
            self.differ("a result", name, *results)
        if isinstance(results[0], str):
            self.counts["traps"] += 1
        elif spent[0] != spent[1] + self.sides[1].grown() - grown:
            self.differ("a count", name, *spent)
        else:
            self.counts["counted"] += 1
        return True

    def read(self, form):
        """Read a global on both sides."""
        if form[0] != "get":
            self.skip(f"an action {form[0]}")
        named = len(form) > 2
        name = form[-1].decode()
        values = [
            str(side.exports(form[1] if named else None)[name].value(side.store))
            for side in self.sides
        ]
        if values[0] != values[1]:
            self.differ("a global", name, *values)
        self.counts["globals read"] += 1

    def refused(self, text, form):
        """Insist that what is no module is refused, and by nothing but `ModuleError`."""
        if not isinstance(form[1], Form) or form[1][0] != "module":
            self.skip("not a module")
        try:
            wasm = bytes(wasmtime.wat2wasm(text))
        except wasmtime.WasmtimeError:
            self.skip("text that is none")
        try:
            rewrite(wasm)
        except ModuleError:
            self.counts["refused"] += 1
        else:
            self.differ("a module that should be refused", text[:200])


def _global_of(side, found):
    """Return the kind and the bytes of what a global holds.

    wasmtime's Python types end the process when asked for the name of a vector's type.
    """
    value = _bindings.wasmtime_val_t()
    _bindings.wasmtime_global_get(
        side.store._context(), ctypes.byref(found._global), ctypes.byref(value)
    )
    return raw(value)
