"""A canister's module joined to the system calls that it imports."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from sqlstable.errors import ModuleError, SettingsError
from sqlstable.ic.prices import REPLICA
from sqlstable.ic.units import OS_PAGE_BYTES
from sqlstable.wasm.program import Program, wasmtime_module
from sqlstable.wasm.rewrite.metering import EXTRAS
from sqlstable.wasm.rewrite.rewriter import SHIM_MODULE
from sqlstable.wasm.rewrite.statement_hook import HOOK_TABLE
from sqlstable.wasm.shim import BORDER_OPERATORS, OF_DRIVER_ONLY, cost_globals

if TYPE_CHECKING:
    from wasmtime import Func, Memory, Store, Table

_STUB: Final = """(module
  (global (export "unknown") (mut i32) (i32.const 0))
  (func (export "call") (param {}) (result {}) (global.set 0 (i32.const 1)) unreachable))"""


def shim_values(program: Program, stable_wasm_pages_max: int) -> dict[str, int]:
    """Return what the shim is told of a program, by the names of its globals."""
    costs = program.regime.costs
    if not program.watches_heap:
        costs = replace(costs, heap_region_accessed=0, heap_region_written=0)
    return {
        "has_heap_marks": 1,
        "has_borders": int(program.has_borders),
        "os_pages_priced": program.os_page_bytes // OS_PAGE_BYTES,
        "stable_size_max": stable_wasm_pages_max,
        **cost_globals(costs),
        "charge_border": program.regime.table.total(BORDER_OPERATORS),
        **{
            f"border_{name}": table.total(BORDER_OPERATORS) - REPLICA.total(BORDER_OPERATORS)
            if program.has_extras
            else 0
            for name, table in EXTRAS.items()
        },
    }


def join(
    store: "Store",
    program: Program,
    heap: "Memory",
    shim: Any,  # noqa: ANN401  wasmtime's
) -> tuple[Any, dict[str, Any]]:
    """Instantiate a program's module.

    Args:
        store: Of the instance.
        program: Whose module it is.
        heap: What it works on.
        shim: Exports of the shim.

    Returns:
        The module's exports; and by the name of each system call that is not known here, a global
        that tells whether it was called.

    Raises:
        ModuleError: A call has other parameters than the module thinks, or a segment reaches
            beyond the heap or a table.
        SettingsError: The process has no addresses left.
    """
    wasmtime = wasmtime_module()
    unknown: dict[str, Any] = {}
    stubs: dict[str, Any] = {}
    imports = []
    for item in program.module.imports:
        name = str(item.name)
        if item.module == SHIM_MODULE and name == "heap":
            imports.append(heap)
            continue
        found = None if name in OF_DRIVER_ONLY and item.module == "ic0" else shim.get(name)
        found = found or stubs.get(name)
        if found is None:
            found, unknown[name] = _stub(store, program, item.type)
            stubs[name] = found
        imports.append(found)
    try:
        with reserving():
            instance = wasmtime.Instance(store, program.module, imports)
    except wasmtime.Trap as trap:
        raise ModuleError(
            f"the module cannot be instantiated, a segment does not fit: {trap.message}"
        ) from None
    except wasmtime.WasmtimeError as error:
        raise ModuleError(
            f"the module cannot be joined to the system calls that it imports: {error}"
        ) from error
    exports = instance.exports(store)
    hook = exports.get(HOOK_TABLE)
    if hook is not None:
        hook.set(store, 0, shim["statement"])
    return exports, unknown


def _stub(store: "Store", program: Program, kind: Any) -> tuple[Any, Any]:  # noqa: ANN401  wasmtime's
    """Return what stands for a system call that is not known: it traps, and says that it did."""
    wasmtime = wasmtime_module()
    types = (" ".join(map(str, part)) for part in (kind.params, kind.results))
    module = wasmtime.Module(program.engine, _STUB.format(*types))
    exports = wasmtime.Instance(store, module, []).exports(store)
    return exports["call"], exports["unknown"]


_THROUGH: Final = """(module
  (import "canister" "table" (table {address} 0 funcref))
  (func (export "call") (param $at {address}) (param $environment {pointer})
    (call_indirect (param {pointer}) (local.get $environment) (local.get $at))))"""


def calling_through(
    store: "Store",
    program: Program,
    table: "Table",
    *,
    is_64: bool,
) -> "Func":
    """Return what calls a function of a table by its place, with a number of the pointers' width.

    Args:
        store: Of the instance.
        program: Whose module has the table.
        table: Of functions.
        is_64: Whether pointers have 64 bits.
    """
    wasmtime = wasmtime_module()
    # Which kind of addresses the table itself has, wasmtime-py does not tell.
    for address in ("i32", "i64"):
        text = _THROUGH.format(address=address, pointer="i64" if is_64 else "i32")
        try:
            instance = wasmtime.Instance(store, wasmtime.Module(program.engine, text), [table])
        except wasmtime.WasmtimeError:
            continue
        call: Func = instance.exports(store)["call"]
        return call
    raise ModuleError("the first table of the module has no functions")


@contextmanager
def reserving() -> Iterator[None]:
    """Say it well where memories find no room in this process.

    Raises:
        SettingsError: They find none.
    """
    wasmtime = wasmtime_module()
    try:
        yield
    except wasmtime.WasmtimeError as error:
        reason = str(error).partition("\n")[0]
        if "mmap" not in reason:
            raise
        raise SettingsError(
            "this process has no addresses left for another canister of the wasm engine: each "
            "reserves 1 TiB or more, and a process has 128 TiB, or what `ulimit -v` leaves it; "
            f"close those that are not needed any more, or use another process ({reason})"
        ) from None
