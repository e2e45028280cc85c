"""Turning a canister's module into one whose instructions and heap can be watched and rolled back.

What `rewrite` changes:

* A counter goes down by the weights of each basic block when the block begins, as on a replica, so
  that it agrees with a replica's at every moment it can be observed, traps included. At the start
  of a function and of each pass of a loop it is tested, and the message ends where it has fallen
  below zero; bulk operators are charged for their length before they run.
* The module's memory becomes an import, its mutable globals and its tables become exports: a driver
  can keep and restore the former, and call functions by their place in the latter.
* The size of the heap becomes logical, so that a rollback can lower it.
* Dropping a data segment sets a global that can be set back: on a replica each message has a new
  instance, in which no segment has been dropped.
* Loads and stores mark the OS pages that they touch (`sqlstable.wasm.rewrite.heap_marks`).
* A start function becomes an export, as on a replica.

Nothing is inserted before existing functions, types or memories, so their indexes stay. Globals of
the module shift by the imported ones. New exports have names that begin with `PRIVATE`; exports of
the module that do are left out, which no caller of a canister could reach. All that is imported
comes from `SHIM_MODULE`:

=============== ======================= ===========================================================
name            kind                    what
=============== ======================= ===========================================================
``heap``        memory, index 0         the module's own memory
``heap_marks``  memory, index 1         with marks only
``counter``     mutable i64             instructions left in the message; with metering only
``heap_size``   mutable i32             Wasm pages of the heap, logical
``trap_code``   mutable i32             why the message trapped, `sqlstable.wasm.traps`
``extra_…``     mutable i64             what other tables count more; with extras only; some of
                                        that lies behind the marks, in cells
=============== ======================= ===========================================================

**Invariants**

* A module rewritten with a table of weights counts what a replica with that table counts.
* Extras change no count; with them, instructions by each table are what a module rewritten with
  that table counts, at every moment.
* Marks and the logical size change no count and no result.
* Tables are as the module made them, as long as it has none of the operators that change tables:
  the Internet Computer refuses those (`sqlstable.wasm.rewrite.validation`).

**Limitations.** One memory, defined by the module. A load or store between the logical and the real
end of the heap does not trap: it can only happen after a rollback lowered the size.

Source of the metering:
    dfinity/ic rs/embedders/src/wasm_utils/instrumentation.rs @ 1bc0a5953, 2025-10-31.
"""

import re
from dataclasses import dataclass, replace
from typing import Final

from sqlstable.errors import ModuleError
from sqlstable.ic.prices import REPLICA, WeightTable
from sqlstable.wasm.rewrite.actions import (
    ACCESS,
    CALL,
    END,
    OPEN,
    OPEN_LOOP,
    RETURN,
    Actions,
)
from sqlstable.wasm.rewrite.binary import (
    FUNCTION,
    GLOBAL,
    I32,
    I64,
    MEMORY,
    TABLE,
    WASM64_PAGES_MAX,
    WASM_PAGES_MAX,
    Body,
    Export,
    FunctionType,
    Global,
    Import,
    Module,
    SizeLimits,
    TableType,
)
from sqlstable.wasm.rewrite.bytereader import Reader
from sqlstable.wasm.rewrite.heap_marks import (
    EXTRA_CELLS,
    MARKS_WASM_PAGES,
    MarkedAccesses,
    scratch_locals,
)
from sqlstable.wasm.rewrite.helpers import (
    Helper,
    bulk_helpers,
    growing_helper,
    init_helper,
    marking_helpers,
    metering_helpers,
)
from sqlstable.wasm.rewrite.metering import (
    COUNTER_LOCALS,
    EXTRAS,
    FunctionCharges,
    entry_weight,
)
from sqlstable.wasm.rewrite.module_reader import read_module
from sqlstable.wasm.rewrite.operators import cut
from sqlstable.wasm.rewrite.profiling import (
    PROFILE_END_EXPORT,
    PROFILE_EXPORT,
    PROFILE_MEMORY,
    PROFILE_WASM_PAGES,
    STABLE_GLOBALS,
    ProfiledCode,
    block_type_of,
    profiling_helpers,
)
from sqlstable.wasm.rewrite.statement_hook import with_statement_hook
from sqlstable.wasm.rewrite.validation import check_function, check_module, check_types

REWRITER_VERSION: Final = 6
"""Goes up with every change of what `rewrite` gives; part of the key of cached modules."""

SHIM_MODULE: Final = "sqlstable"
"""Module name of all that a rewritten module imports beyond its own imports."""

PRIVATE: Final = "sqlstable:"
"""What the names of new exports begin with."""

START_EXPORT: Final = f"{PRIVATE}start"
"""What a start function is exported as."""


FIRST_TABLE: Final = f"{PRIVATE}table 0"
"""What the first table is exported as; callbacks are its functions."""


@dataclass(frozen=True, slots=True)
class RewriteOptions:
    """What to put into a module; equal options and modules give equal results."""

    weights: WeightTable | None = REPLICA
    "Weights to count instructions by, or None for no counter"
    has_extras: bool = False
    "With weights: whether to count by the other tables of price lists, too"
    has_heap_marks: bool = False
    "Whether loads and stores mark the OS pages they touch"
    every_access_may_straddle: bool = False
    "With marks: whether to distrust the alignment that loads and stores declare"
    is_deployed: bool = True
    "Whether to refuse what the Internet Computer refuses; otherwise types are not checked either"
    is_benchmark: bool = False
    "Whether a module may have as many methods as on a subnet for benchmarks"
    has_profile: bool = False
    "With weights and marks: whether functions say when they are entered and left"
    os_pages_priced: int = 1
    "With a profile: how many OS pages of the heap are charged as one"

    @property
    def key(self) -> str:
        """What tells these options from others, for the names of cached files."""
        table = "none" if self.weights is None else self.weights.name
        table += "-extras" if self.has_extras else ""
        marks = f"marks{int(self.every_access_may_straddle)}" if self.has_heap_marks else "plain"
        checks = "-benchmark" if self.is_benchmark else ""
        checks = checks if self.is_deployed else "-unchecked"
        profile = f"-profile{self.os_pages_priced}" if self.has_profile else ""
        return f"rewriter{REWRITER_VERSION}-{table}-{marks}{checks}{profile}"


@dataclass(frozen=True, slots=True)
class MutableGlobal:
    """A mutable global of the module."""

    export: str
    "Name under which it is exported, which has its index in the module as it came"
    value_type: int


@dataclass(frozen=True, slots=True)
class ExportedTable:
    """A table of the module; all are exported."""

    export: str
    "Name under which it is exported, which has its index"
    table: TableType


@dataclass(frozen=True, slots=True)
class Rewritten:
    """A rewritten module, and what a driver must know to run it."""

    wasm: bytes
    heap: SizeLimits
    "Wasm pages that the heap begins with, and may have at most; and whether addresses have 64 bits"
    mutable_globals: tuple[MutableGlobal, ...]
    tables: tuple[ExportedTable, ...]
    dropped_flags: tuple[str, ...]
    "Names of exported globals, i32, that are 1 once a data segment is dropped: 0 for each message"
    imports: tuple[tuple[str, str, FunctionType], ...]
    "Module, name and type of each function that it imports"
    exports: frozenset[str]
    "Names of the functions that it exports"
    has_active_data: bool
    "Whether data segments are written to the heap when the module is instantiated"
    function_count: int
    "Functions of the module as it came, the imported ones included; new ones follow"
    operator_count: int
    "Operators of the module as it came"
    compiled_operator_count: int
    "Operators with a replica's metering among them: what it charges the installation for"
    access_count: int
    "Loads and stores that leave marks"


def rewrite(wasm: bytes, options: RewriteOptions | None = None) -> Rewritten:
    """Rewrite a module.

    Args:
        wasm: A canister's module.
        options: What to put in; by default the counter of today's replica, without marks.

    Raises:
        ModuleError: The module is damaged, uses what is not supported, or the Internet Computer
            refuses it.
    """
    module = read_module(wasm)
    options = options or RewriteOptions()
    if options.is_deployed:
        check_module(module, is_benchmark=options.is_benchmark)
        check_types(wasm)
    return _Rewriter(module, options).rewritten()


class _Rewriter:
    """Rewrites one module."""

    def __init__(self, module: Module, options: RewriteOptions) -> None:
        _check(module)
        self.module = module
        self.options = options
        self.heap = _heap_of(module)
        self.imported_globals = len(module.imported(GLOBAL))
        self.dropped = _segments_dropped(module)
        table = options.weights
        self.new_globals = ["heap_size", "trap_code"] if table is None else [*_METERED_GLOBALS]
        if options.has_extras:
            assert table is not None, "extras stand beside a count"
            self.new_globals += EXTRAS
        if options.has_profile:
            assert table is not None, "a profile is of instructions"
            assert options.has_heap_marks, "a profile is of regions, too"
            self.new_globals += STABLE_GLOBALS
        self.global_shift = len(self.new_globals)
        self.helpers = self._helpers()
        self.names = self._names()
        self.actions = Actions(
            module,
            self.names,
            global_shift=self.global_shift,
            dropped=frozenset(self.dropped),
            weights=table,
            has_extras=options.has_extras,
            has_heap_marks=options.has_heap_marks,
            is_deployed=options.is_deployed,
        )
        self.accesses: dict[int, MarkedAccesses] = {}
        self.operator_count = 0
        self.access_count = 0
        self.compiled_count = _REPLICA_OPERATORS + 2 * len(module.globals)
        self.charges: dict[int, FunctionCharges] = {}
        has_cells = options.has_extras and options.has_heap_marks
        self.cells = EXTRA_CELLS[module.is_64] if has_cells else 0
        self.profiled = (
            ProfiledCode(self.names, module.function_count - len(module.functions))
            if options.has_profile
            else None
        )
        self.type_indexes, self.types = self._types()

    def rewritten(self) -> Rewritten:
        """Rewrite everything."""
        module = self.module
        bodies = [
            self._body(body, module.types[type_index], function)
            for function, (body, type_index) in enumerate(
                zip(module.bodies, module.functions, strict=True), len(module.imported(FUNCTION))
            )
        ]
        bodies += [helper.body(self.names) for helper in self.helpers]
        mutable_globals = tuple(
            MutableGlobal(f"{PRIVATE}global {index}", item.value_type)
            for index, item in enumerate(module.globals, self.imported_globals)
            if item.is_mutable
        )
        tables = tuple(
            ExportedTable(f"{PRIVATE}table {index}", table)
            for index, table in enumerate(module.all_tables)
        )
        flags = [Global(I32, is_mutable=True, initial=_ZERO) for _ in self.dropped]
        has_empty_segment = bool(self.dropped)
        changed = replace(
            module,
            types=self.types,
            imports=(*module.imports, *self._imports()),
            functions=(*module.functions, *self.type_indexes),
            memory=None if self.profiled is None else _PROFILE_LIMITS,
            globals=(*module.globals, *flags),
            exports=self._exports(),
            start=None,
            bodies=tuple(bodies),
            data_count=len(module.data_segments) + 1 if has_empty_segment else module.data_count,
            data_segments=module.data_segments + (_EMPTY_SEGMENT,) * has_empty_segment,
        )
        changed = with_statement_hook(changed, module)
        return Rewritten(
            wasm=changed.encode(),
            heap=self.heap,
            mutable_globals=mutable_globals,
            tables=tables,
            dropped_flags=tuple(map(_flag_export, self.dropped)),
            imports=tuple(
                (item.module, item.name, module.types[item.type_index])
                for item in module.imported(FUNCTION)
            ),
            exports=frozenset(item.name for item in changed.exports if item.kind == FUNCTION),
            has_active_data=any(segment[0] != _PASSIVE for segment in module.data_segments),
            function_count=module.function_count,
            operator_count=self.operator_count,
            compiled_operator_count=self.operator_count + self.compiled_count,
            access_count=self.access_count,
        )

    # -- code ------------------------------------------------------------------------------------

    def _body(self, body: Body, kind: FunctionType, function: int) -> Body:
        operators = cut(body.data, body.start, body.stop)
        if self.options.is_deployed:
            self.actions.function = function
            check_function(operators, function)
        self.operator_count += len(operators)
        came = [] if self.profiled is None else [*operators]
        local = len(kind.parameters) + body.local_count
        charges = self._charges(local)
        groups = body.local_groups
        if charges is not None:
            groups += COUNTER_LOCALS
            local += 1
        marked = self._rewrite(operators, self._accesses(local), charges, body)
        if marked:
            groups += scratch_locals(
                is_64=self.module.is_64, has_vectors=self.actions.has_vector_values
            )
            self.access_count += marked
        if self.profiled is None:
            code = b"".join(operators)
        else:
            code = self.profiled.code(function, self._block_type(kind.results), came, operators)
        if charges is not None:
            code = charges.copy + code
        return Body(groups, sum(count for count, _ in groups), code, 0, len(code))

    def _block_type(self, results: bytes) -> bytes:
        several = len(results) > 1
        index = self.types.index(FunctionType(b"", results)) if several else 0
        return block_type_of(results, index)

    def _charges(self, local: int) -> FunctionCharges | None:
        if self.options.weights is None:
            return None
        if local not in self.charges:
            self.charges[local] = FunctionCharges(
                counter=self.names["counter"],
                local=local,
                out_of_instructions=self.names["out_of_instructions"],
                has_marks=self.options.has_heap_marks,
                extras=tuple(self.names[name] for name in EXTRAS if self.options.has_extras),
                has_cells=self.cells > 0,
            )
        return self.charges[local]

    def _accesses(self, local: int) -> MarkedAccesses:
        if local not in self.accesses:
            self.accesses[local] = MarkedAccesses(
                local,
                is_64=self.module.is_64,
                every_access_may_straddle=self.options.every_access_may_straddle,
                marks=None if self.profiled is None else self.profiled.marks,
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
        assert ACCESS == 1  # so that kinds add up to the number of marked operators
        actions = self.actions
        table = self.options.weights
        weight = 0 if table is None else entry_weight(table, has_extras=self.options.has_extras)
        first, is_reentrant, is_stale = 0, True, False
        nesting, marked, compiled, turns = 1, 0, 0, max(self.cells, 1)
        for index, operator in enumerate(operators):
            action = actions[operator]
            if action.__class__ is int:
                weight += action
                continue
            own_weight, kind, replacement = action  # type: ignore[misc]
            weight += own_weight
            if kind < OPEN:
                operators[index] = accesses[operator] if kind == ACCESS else replacement
                marked += kind
                continue
            if kind == CALL:
                operators[index] = replacement
                is_stale = True
                compiled += actions.compiled_extra.get(operator, 0)
                continue
            if kind < END:
                nesting += 1
                if kind == OPEN:
                    continue
            elif kind == END:
                nesting -= 1
            if charges is not None:
                if is_stale and nesting and kind != RETURN:
                    operators[index] = charges.copy + operator
                codes = charges.tested if is_reentrant else charges.plain
                operators[first] = codes[weight, first % turns] + operators[first]
                compiled += _TESTED_CHARGE if is_reentrant else _CHARGE if weight else 0
            weight, first, is_reentrant, is_stale = 0, index + 1, kind == OPEN_LOOP, False
            if nesting == 0:
                break
        if nesting or first != len(operators):
            raise ModuleError(
                f"byte {body.start}: the blocks of the function there do not end where it ends; "
                "the module is damaged"
            )
        self.compiled_count += compiled
        return marked

    # -- the other sections ----------------------------------------------------------------------

    def _helpers(self) -> list[Helper]:
        options, is_64 = self.options, self.module.is_64
        helpers = [
            growing_helper(self.heap.maximum or 0, is_64=is_64),
            *bulk_helpers(
                is_64=is_64,
                is_metered=options.weights is not None,
                has_marks=options.has_heap_marks,
            ),
        ]
        if options.weights is not None:
            has_64 = is_64 or any(table.limits.is_64 for table in self.module.all_tables)
            helpers += metering_helpers(options.weights.per_unit, has_64=has_64)
        if options.has_heap_marks:
            helpers += marking_helpers(is_64=is_64, has_profile=options.has_profile)
        if options.has_profile:
            helpers += profiling_helpers(is_64=is_64, group=options.os_pages_priced)
        empty = len(self.module.data_segments)
        return helpers + [init_helper(segment, empty, is_64=is_64) for segment in self.dropped]

    def _names(self) -> dict[str, int]:
        """Return the indexes of new globals and functions."""
        module = self.module
        flags = self.global_shift + module.global_count
        functions = [helper.name for helper in self.helpers]
        return {
            **{name: self.imported_globals + at for at, name in enumerate(self.new_globals)},
            **{f"dropped_{segment}": flags + at for at, segment in enumerate(self.dropped)},
            **{name: module.function_count + at for at, name in enumerate(functions)},
        }

    def _types(self) -> tuple[list[int], tuple[FunctionType, ...]]:
        """Return the type index of each helper, and all types."""
        types = list(self.module.types)
        if self.options.has_profile:
            # Of blocks, see `sqlstable.wasm.rewrite.profiling`.
            types += {
                FunctionType(b"", types[index].results): None
                for index in self.module.functions
                if len(types[index].results) > 1
            }
        indexes = []
        for helper in self.helpers:
            if helper.type not in types:
                types.append(helper.type)
            indexes.append(types.index(helper.type))
        return indexes, tuple(types)

    def _imports(self) -> list[Import]:
        memories = [("heap", SizeLimits(self.heap.minimum, None, self.heap.is_64))]
        if self.options.has_heap_marks:
            marks = MARKS_WASM_PAGES[self.heap.is_64]
            memories.append(("heap_marks", SizeLimits(marks, marks)))
        return [
            *(Import(SHIM_MODULE, name, MEMORY, limits.encode()) for name, limits in memories),
            *(
                Import(SHIM_MODULE, name, GLOBAL, bytes([_GLOBAL_TYPES[name], 1]))
                for name in self.new_globals
            ),
        ]

    def _exports(self) -> tuple[Export, ...]:
        """Return the module's own exports, and what a driver needs."""
        module, shift = self.module, self.global_shift
        exports = [
            replace(item, index=item.index + shift)
            if item.kind == GLOBAL and item.index >= self.imported_globals
            else item
            for item in module.exports
            if not item.name.startswith(PRIVATE)
        ]
        seen = set()
        for item in exports:
            if item.name in seen:
                raise ModuleError(f"export section: {item.name!r} is exported twice")
            seen.add(item.name)
        exports += [
            Export(f"{PRIVATE}global {index}", GLOBAL, index + shift)
            for index, item in enumerate(module.globals, self.imported_globals)
            if item.is_mutable
        ]
        exports += [
            Export(f"{PRIVATE}table {index}", TABLE, index)
            for index in range(len(module.all_tables))
        ]
        exports += [
            Export(_flag_export(segment), GLOBAL, self.names[f"dropped_{segment}"])
            for segment in self.dropped
        ]
        if module.start is not None:
            exports.append(Export(START_EXPORT, FUNCTION, module.start))
        if self.profiled is not None:
            exports.append(Export(PROFILE_EXPORT, MEMORY, PROFILE_MEMORY))
            exports.append(Export(PROFILE_END_EXPORT, FUNCTION, self.names["profile_end"]))
        return tuple(exports)


_METERED_GLOBALS: Final = ["counter", "heap_size", "trap_code"]
_GLOBAL_TYPES: Final = {
    "counter": I64,
    "heap_size": I32,
    "trap_code": I32,
    **dict.fromkeys(EXTRAS, I64),
    **dict.fromkeys(STABLE_GLOBALS, I64),
}
_PROFILE_LIMITS: Final = SizeLimits(PROFILE_WASM_PAGES, PROFILE_WASM_PAGES)
_ZERO: Final = b"\x41\0\x0b"
_EMPTY_SEGMENT: Final = b"\1\0"
"""A passive data segment without bytes."""

_CHARGE: Final = 4
_TESTED_CHARGE: Final = 10
"""Operators that a replica puts in for each basic block, by `compiled_operator_count`'s source."""

_REPLICA_OPERATORS: Final = 3 * 2 + 12 + 46
"""Those of three globals and two functions of its own.

What it puts in the place of the calls on stable memory that a module imports, some hundred for
each, is left out.
"""

_PASSIVE: Final = 1
_DROP: Final = re.compile(rb"\xfc(?:\x09|\x89\x80{0,3}\x00)([\x80-\xff]{0,4}[\x00-\x7f])")
"""What looks like dropping a data segment."""


def _flag_export(segment: int) -> str:
    return f"{PRIVATE}dropped {segment}"


def _heap_of(module: Module) -> SizeLimits:
    """Return the limits of the heap; 0 Wasm pages where the module has no memory."""
    own = module.memory or SizeLimits(0, 0)
    largest = WASM64_PAGES_MAX if own.is_64 else WASM_PAGES_MAX
    return SizeLimits(
        own.minimum, largest if own.maximum is None else min(own.maximum, largest), own.is_64
    )


def _segments_dropped(module: Module) -> list[int]:
    """Return the passive data segments that the module may drop, perhaps some more."""
    if module.data_count is None:
        return []
    passive = {
        index
        for index, data in enumerate(module.data_segments)
        if Reader(data, 0, len(data), "data section").u32() == _PASSIVE
    }
    if not passive:
        return []
    code = module.bodies[0].data if module.bodies else b""
    named = (_number(match.group(1)) for match in _DROP.finditer(code))
    return sorted(passive.intersection(named))


def _number(data: bytes) -> int:
    return sum((byte & 0x7F) << 7 * place for place, byte in enumerate(data))


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
