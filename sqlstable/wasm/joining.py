"""A canister's module joined to the system calls that it imports."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from sqlstable.errors import ModuleError, SettingsError
from sqlstable.wasm.program import Program, wasmtime_module
from sqlstable.wasm.rewrite.rewriter import SHIM_MODULE
from sqlstable.wasm.shim import BORDER_OPERATORS, cost_globals

if TYPE_CHECKING:
    from wasmtime import Linker, Store

_STUB: Final = """(module
  (global (export "unknown") (mut i32) (i32.const 0))
  (func (export "call") (param {}) (result {}) (global.set 0 (i32.const 1)) unreachable))"""


def shim_values(program: Program, stable_wasm_pages_max: int) -> dict[str, int]:
    """Return what the shim is told of a program, by the names of its globals."""
    costs = program.regime.costs
    if not program.watches_heap:
        costs = replace(costs, heap_region_accessed=0, heap_region_written=0)
    return {
        "heap_size": program.layout.heap_wasm_pages,
        "has_heap_marks": 1,
        "stable_size_max": stable_wasm_pages_max,
        **cost_globals(costs),
        "charge_border": program.regime.table.total(BORDER_OPERATORS),
    }


def join(
    store: "Store",
    linker: "Linker",
    program: Program,
    shim: Any,  # noqa: ANN401  wasmtime's
) -> tuple[Any, dict[str, Any]]:
    """Instantiate a program's module.

    Args:
        store: Of the instance.
        linker: Has the heap and stable memory.
        program: Whose module it is.
        shim: Exports of the shim.

    Returns:
        The module's exports; and by the name of each system call that is not known here, a global
        that tells whether it was called.

    Raises:
        ModuleError: A call has other parameters than the module thinks.
        SettingsError: The process has no addresses left.
    """
    wasmtime = wasmtime_module()
    unknown: dict[str, Any] = {}
    defined = {(SHIM_MODULE, "heap"), (SHIM_MODULE, "stable")}
    for item in program.module.imports:
        name = str(item.name)
        if (item.module, name) in defined:
            continue
        defined.add((item.module, name))
        found = shim.get(name)
        if found is None or item.module not in ("ic0", SHIM_MODULE):
            found, unknown[name] = _stub(store, program, item.type)
        linker.define(store, item.module, name, found)
    try:
        with reserving():
            instance = linker.instantiate(store, program.module)
    except wasmtime.WasmtimeError as error:
        raise ModuleError(
            f"the module cannot be joined to the system calls that it imports: {error}"
        ) from error
    return instance.exports(store), unknown


def _stub(store: "Store", program: Program, kind: Any) -> tuple[Any, Any]:  # noqa: ANN401  wasmtime's
    """Return what stands for a system call that is not known: it traps, and says that it did."""
    wasmtime = wasmtime_module()
    types = (" ".join(map(str, part)) for part in (kind.params, kind.results))
    module = wasmtime.Module(program.engine, _STUB.format(*types))
    exports = wasmtime.Instance(store, module, []).exports(store)
    return exports["call"], exports["unknown"]


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
