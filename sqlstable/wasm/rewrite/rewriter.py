"""Turning a canister's module into one whose instructions and heap can be watched and rolled back.

What `rewrite` changes:

* A counter goes down by the weights of each basic block when the block begins, as on a replica, so
  that it agrees with a replica's at every moment it can be observed, traps included. At the start
  of a function and of each pass of a loop it is tested, and the message ends where it has fallen
  below zero; bulk operators are charged for their length before they run.
* The module's memory becomes an import, its mutable globals become exports: a driver can keep and
  restore both.
* The size of the heap becomes logical, so that a rollback can lower it.
* Loads and stores mark the OS pages that they touch (`sqlstable.wasm.rewrite.heap_marks`).
* A start function becomes the export ``canister_start``, as on a replica.

Nothing is inserted before existing functions, types or memories, so their indexes stay. Globals of
the module shift by the imported ones. All that is imported comes from `SHIM_MODULE`:

=============== ======================= ===========================================================
name            kind                    what
=============== ======================= ===========================================================
``heap``        memory, index 0         the module's own memory
``heap_marks``  memory, index 1         with marks only: 2 MiB
``counter``     mutable i64             instructions left in the message; with metering only
``heap_size``   mutable i32             Wasm pages of the heap, logical
``trap_code``   mutable i32             why the message trapped, `sqlstable.wasm.traps`
=============== ======================= ===========================================================

**Invariants**

* A module rewritten with a table of weights counts what a replica with that table counts.
* Marks and the logical size change no count and no result.

**Limitations.** One memory with 32-bit addresses, defined by the module. A load or store between
the logical and the real end of the heap does not trap: it can only happen after a rollback lowered
the size.

Source of the metering:
    dfinity/ic rs/embedders/src/wasm_utils/instrumentation.rs @ 1bc0a5953, 2025-10-31.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from sqlstable.errors import ModuleError
from sqlstable.ic.prices import REPLICA, WeightTable
from sqlstable.ic.units import WASM_PAGE_BYTES
from sqlstable.wasm.rewrite.binary import (
    FUNCTION,
    GLOBAL,
    I32,
    I64,
    MEMORY,
    WASM_PAGES_MAX,
    Body,
    Export,
    FunctionType,
    Import,
    Module,
    SizeLimits,
    read_module,
)
from sqlstable.wasm.rewrite.bytereader import unsigned
from sqlstable.wasm.rewrite.heap_marks import MARKS_BYTES, SCRATCH_LOCALS, MarkedAccesses
from sqlstable.wasm.rewrite.helpers import (
    Helper,
    bulk_helpers,
    growing_helper,
    marking_helpers,
    metering_helpers,
)
from sqlstable.wasm.rewrite.metering import COUNTER_LOCALS, FunctionCharges
from sqlstable.wasm.rewrite.operators import LOADS, STORES, cut, name_of, numbers_of

REWRITER_VERSION: Final = 2
"""Goes up with every change of what `rewrite` gives; part of the key of cached modules."""

SHIM_MODULE: Final = "sqlstable"
"""Module name of all that a rewritten module imports beyond its own imports."""

START_EXPORT: Final = "canister_start"
"""What a start function is exported as."""


@dataclass(frozen=True, slots=True)
class RewriteOptions:
    """What to put into a module; equal options and modules give equal results."""

    weights: WeightTable | None = REPLICA
    "Weights to count instructions by, or None for no counter"
    has_heap_marks: bool = False
    "Whether loads and stores mark the OS pages they touch"
    every_access_may_straddle: bool = False
    "With marks: whether to distrust the alignment that loads and stores declare"

    @property
    def key(self) -> str:
        """What tells these options from others, for the names of cached files."""
        table = "none" if self.weights is None else self.weights.name
        marks = f"marks{int(self.every_access_may_straddle)}" if self.has_heap_marks else "plain"
        return f"rewriter{REWRITER_VERSION}-{table}-{marks}"


@dataclass(frozen=True, slots=True)
class MutableGlobal:
    """A mutable global of the module."""

    export: str
    "Name under which it is exported: ``global`` and its index in the module as it came"
    value_type: int


@dataclass(frozen=True, slots=True)
class Rewritten:
    """A rewritten module, and what a driver must know to run it."""

    wasm: bytes
    heap: SizeLimits
    "Wasm pages that the heap begins with, and may have at most"
    mutable_globals: tuple[MutableGlobal, ...]
    imports: tuple[tuple[str, str, FunctionType], ...]
    "Module, name and type of each function that it imports"
    exports: frozenset[str]
    "Names of the functions that it exports"
    operator_count: int
    "Operators of the module as it came: what a replica charges the installation for"
    access_count: int
    "Loads and stores that leave marks"


def rewrite(wasm: bytes, options: RewriteOptions | None = None) -> Rewritten:
    """Rewrite a module.

    Args:
        wasm: A canister's module.
        options: What to put in; by default the counter of today's replica, without marks.

    Raises:
        ModuleError: The module is damaged, or uses what is not supported.
    """
    return _Rewriter(read_module(wasm), options or RewriteOptions()).rewritten()


# What becomes of an operator. Plain numbers, because they are compared a million times; all above
# _OPEN end a basic block, except for calls.
_REPLACE: Final = 0
_ACCESS: Final = 1
_OPEN: Final = 2
_OPEN_IF: Final = 3
_OPEN_LOOP: Final = 4
_END: Final = 5
_LEAVE: Final = 6
_RETURN: Final = 7
_CALL: Final = 8

_Action = int | tuple[int, int, bytes]
"""The weight of an operator that stays as it is; or weight, what becomes of it, replacement."""

_KINDS: Final = {
    "block": _OPEN,
    "if": _OPEN_IF,
    "loop": _OPEN_LOOP,
    "end": _END,
    **dict.fromkeys(("else", "br", "br_if", "br_table"), _LEAVE),
    **dict.fromkeys(("return", "unreachable"), _RETURN),
}
_GLOBAL_OPERATORS: Final = frozenset(("global.get", "global.set"))
_FUNCTION_OPERATORS: Final = frozenset(("call", "call_indirect", "ref.func"))
_HEAP_OPERATORS: Final = (
    LOADS
    | STORES
    | {
        "memory.size",
        "memory.grow",
        "memory.copy",
        "memory.fill",
        "memory.init",
    }
)
_CHARGED_TABLE_OPERATORS: Final = frozenset(("table.copy", "table.fill", "table.init"))


class _Actions(dict[bytes, _Action]):
    """What becomes of each operator; a large module has few different ones."""

    def __init__(self, make: Callable[[bytes], _Action]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, operator: bytes) -> _Action:
        action = self[operator] = self._make(operator)
        return action


class _Rewriter:
    """Rewrites one module."""

    def __init__(self, module: Module, options: RewriteOptions) -> None:
        _check(module)
        self.module = module
        self.options = options
        own = module.memory
        self.heap = SizeLimits(
            0 if own is None else own.minimum,
            WASM_PAGES_MAX
            if own is None or own.maximum is None
            else min(own.maximum, WASM_PAGES_MAX),
        )
        self.imported_globals = len(module.imported(GLOBAL))
        table = options.weights
        new_globals = ["heap_size", "trap_code"] if table is None else _METERED_GLOBALS
        self.global_shift = len(new_globals)
        self.helpers = self._helpers()
        self.names = {name: self.imported_globals + index for index, name in enumerate(new_globals)}
        self.new_globals = new_globals
        for index, helper in enumerate(self.helpers):
            self.names[helper.name] = module.function_count + index
        self.actions = _Actions(self._action)
        self.accesses: dict[int, MarkedAccesses] = {}
        self.operator_count = 0
        self.access_count = 0
        self.charges: dict[int, FunctionCharges] = {}

    def rewritten(self) -> Rewritten:
        """Rewrite everything."""
        module = self.module
        bodies = [
            self._body(body, len(module.types[type_index].parameters))
            for body, type_index in zip(module.bodies, module.functions, strict=True)
        ]
        bodies += [helper.body(self.names) for helper in self.helpers]
        type_indexes, types = self._types()
        globals_ = [
            (index, item)
            for index, item in enumerate(module.globals, self.imported_globals)
            if item.is_mutable
        ]
        changed = replace(
            module,
            types=types,
            imports=(*module.imports, *self._imports()),
            functions=(*module.functions, *type_indexes),
            memory=None,
            exports=self._exports([index for index, _ in globals_]),
            start=None,
            bodies=tuple(bodies),
        )
        return Rewritten(
            wasm=changed.encode(),
            heap=self.heap,
            mutable_globals=tuple(
                MutableGlobal(f"global {index}", item.value_type) for index, item in globals_
            ),
            imports=tuple(
                (item.module, item.name, module.types[item.type_index])
                for item in module.imported(FUNCTION)
            ),
            exports=frozenset(item.name for item in changed.exports if item.kind == FUNCTION),
            operator_count=self.operator_count,
            access_count=self.access_count,
        )

    # -- code ------------------------------------------------------------------------------------

    def _body(self, body: Body, parameter_count: int) -> Body:
        operators = cut(body.data, body.start, body.stop)
        self.operator_count += len(operators)
        local = parameter_count + body.local_count
        charges = self._charges(local)
        groups = body.local_groups
        if charges is not None:
            groups += COUNTER_LOCALS
            local += 1
        marked = self._rewrite(operators, self._accesses(local), charges, body)
        if marked:
            groups += SCRATCH_LOCALS
            self.access_count += marked
        code = (b"" if charges is None else charges.copy) + b"".join(operators)
        return Body(groups, sum(count for count, _ in groups), code, 0, len(code))

    def _charges(self, local: int) -> FunctionCharges | None:
        if self.options.weights is None:
            return None
        if local not in self.charges:
            self.charges[local] = FunctionCharges(
                counter=self.names["counter"],
                local=local,
                out_of_instructions=self.names["out_of_instructions"],
            )
        return self.charges[local]

    def _accesses(self, local: int) -> MarkedAccesses:
        if local not in self.accesses:
            self.accesses[local] = MarkedAccesses(
                local, every_access_may_straddle=self.options.every_access_may_straddle
            )
        return self.accesses[local]

    def _rewrite(
        self,
        operators: list[bytes],
        accesses: MarkedAccesses,
        charges: FunctionCharges | None,
        body: Body,
    ) -> int:
        """Change ``operators`` in place; returns how many of them leave marks.

        The charge for a basic block stands before its first operator, and the copy of the counter
        is made anew before the last one of a block with a call.
        """
        assert _ACCESS == 1  # so that kinds add up to the number of marked operators
        actions = self.actions
        weight = 0 if self.options.weights is None else self.options.weights.function_entry
        first, is_reentrant, is_stale = 0, True, False
        nesting, marked = 1, 0
        for index, operator in enumerate(operators):
            action = actions[operator]
            if action.__class__ is int:
                weight += action
                continue
            own_weight, kind, replacement = action  # type: ignore[misc]
            weight += own_weight
            if kind < _OPEN:
                operators[index] = accesses[operator] if kind == _ACCESS else replacement
                marked += kind
                continue
            if kind == _CALL:
                operators[index] = replacement
                is_stale = True
                continue
            if kind < _END:
                nesting += 1
                if kind == _OPEN:
                    continue
            elif kind == _END:
                nesting -= 1
            if charges is not None:
                if is_stale and nesting and kind != _RETURN:
                    operators[index] = charges.copy + operator
                codes = charges.tested if is_reentrant else charges.plain
                operators[first] = codes[weight] + operators[first]
            weight, first, is_reentrant, is_stale = 0, index + 1, kind == _OPEN_LOOP, False
            if nesting == 0:
                break
        if nesting or first != len(operators):
            raise ModuleError(
                f"byte {body.start}: the blocks of the function there do not end where it ends; "
                "the module is damaged"
            )
        return marked

    def _action(self, operator: bytes) -> _Action:
        """Decide what becomes of an operator."""
        name = name_of(operator)
        table = self.options.weights
        weight = 0 if table is None else table.weight(name)
        kind = _KINDS.get(name)
        if kind is not None:
            return weight, kind, operator
        if name in _GLOBAL_OPERATORS:
            return weight, _REPLACE, self._shifted(operator)
        if name in _FUNCTION_OPERATORS:
            if name != "call_indirect":
                self._check_index("function", numbers_of(operator)[0], self.module.function_count)
            return weight if name == "ref.func" else (weight, _CALL, operator)
        if name in _HEAP_OPERATORS:
            return self._heap_action(name, operator, weight)
        if name in _CHARGED_TABLE_OPERATORS and table is not None:
            return weight, _CALL, self._call("charge") + operator
        return weight

    def _heap_action(self, name: str, operator: bytes, weight: int) -> _Action:
        if self.module.memory is None:
            raise ModuleError(
                f"a function uses {name}, but the module has no memory; it is damaged"
            )
        if name in LOADS or name in STORES:
            return (weight, _ACCESS, operator) if self.options.has_heap_marks else weight
        if name == "memory.size":
            return weight, _REPLACE, b"\x23" + unsigned(self.names["heap_size"])
        if name == "memory.init":
            return weight, _CALL, self._call("before_init") + operator
        return weight, _CALL, self._call(name.partition(".")[2])

    def _call(self, helper: str) -> bytes:
        return b"\x10" + unsigned(self.names[helper])

    def _shifted(self, operator: bytes) -> bytes:
        index = numbers_of(operator)[0]
        self._check_index("global", index, self.module.global_count)
        if index < self.imported_globals:
            return operator
        return operator[:1] + unsigned(index + self.global_shift)

    def _check_index(self, what: str, index: int, count: int) -> None:
        if index >= count:
            raise ModuleError(f"code section: there is no {what} {index}; the module is damaged")

    # -- the other sections ----------------------------------------------------------------------

    def _helpers(self) -> list[Helper]:
        options = self.options
        helpers = [
            growing_helper(self.heap.maximum or WASM_PAGES_MAX),
            *bulk_helpers(is_metered=options.weights is not None, has_marks=options.has_heap_marks),
        ]
        if options.weights is not None:
            helpers += metering_helpers(options.weights.per_unit)
        if options.has_heap_marks:
            helpers += marking_helpers()
        return helpers

    def _types(self) -> tuple[list[int], tuple[FunctionType, ...]]:
        """Return the type index of each helper, and all types."""
        types = list(self.module.types)
        indexes = []
        for helper in self.helpers:
            if helper.type not in types:
                types.append(helper.type)
            indexes.append(types.index(helper.type))
        return indexes, tuple(types)

    def _imports(self) -> list[Import]:
        memories = [("heap", SizeLimits(self.heap.minimum, None))]
        if self.options.has_heap_marks:
            marks = MARKS_BYTES // WASM_PAGE_BYTES
            memories.append(("heap_marks", SizeLimits(marks, marks)))
        return [
            *(Import(SHIM_MODULE, name, MEMORY, limits.encode()) for name, limits in memories),
            *(
                Import(SHIM_MODULE, name, GLOBAL, bytes([_GLOBAL_TYPES[name], 1]))
                for name in self.new_globals
            ),
        ]

    def _exports(self, mutable_globals: list[int]) -> tuple[Export, ...]:
        shift = self.global_shift
        exports = [
            replace(item, index=item.index + shift)
            if item.kind == GLOBAL and item.index >= self.imported_globals
            else item
            for item in self.module.exports
        ]
        exports += [Export(f"global {index}", GLOBAL, index + shift) for index in mutable_globals]
        start = self.module.start
        if start is not None and Export(START_EXPORT, FUNCTION, start) not in exports:
            exports.append(Export(START_EXPORT, FUNCTION, start))
        seen = set()
        for item in exports:
            if item.name in seen:
                raise ModuleError(f"export section: {item.name!r} is exported twice")
            seen.add(item.name)
        return tuple(exports)


_METERED_GLOBALS: Final = ["counter", "heap_size", "trap_code"]
_GLOBAL_TYPES: Final = {"counter": I64, "heap_size": I32, "trap_code": I32}


def _check(module: Module) -> None:
    if module.imported(MEMORY):
        raise ModuleError(
            "import section: the module imports its memory, which a canister cannot; "
            "build it with a memory of its own"
        )
    for item in module.imports:
        if item.module == SHIM_MODULE:
            raise ModuleError(
                f"import section: {SHIM_MODULE!r} is not for canisters; "
                f"leave out the import of {item.name!r}"
            )
