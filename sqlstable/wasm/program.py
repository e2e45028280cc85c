"""A canister's module, rewritten and compiled, with the shim that it is joined to.

What went into a program decides what it is: module, rewriter, weights, heap marks, the compiler and
its configuration. Programs are shared by all canisters of a process, and compiled ones by all
processes of a user, see `sqlstable.wasm.cache`.
"""

import atexit
import gc
import importlib
import json
import logging
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final, cast
from weakref import WeakSet

from sqlstable.errors import ModuleError, SettingsError
from sqlstable.ic.prices import PRICE_REGIMES, PriceRegime
from sqlstable.ic.units import GIB
from sqlstable.wasm import cache as kept
from sqlstable.wasm.interrupts import LISTENER
from sqlstable.wasm.rewrite.binary import WASM_PAGES_MAX
from sqlstable.wasm.rewrite.rewriter import SHIM_MODULE, RewriteOptions, Rewritten, rewrite
from sqlstable.wasm.shim import shim_text
from sqlstable.wasm.stack import set_stack

if TYPE_CHECKING:
    from wasmtime import Engine, Module

WASMTIME_VERSION: Final = "50.0.1"
"""Release of wasmtime that this was written for; others are refused, as their traps may differ."""

_REINSTALL: Final = f"install sqlstable again, or pip install wasmtime=={WASMTIME_VERSION}"
"""sqlstable depends on just this release, so it is missing only where somebody took it away."""

_REWRITER_FILES: Final = frozenset(
    (
        *("assembly.py", "binary.py", "heap_marks.py", "helpers.py", "metering.py"),
        *("operators.py", "bytereader.py", "rewriter.py"),
    )
)

NEAR_BYTES: Final = 64 * GIB
FAR_BYTES: Final = 512 * GIB
"""Addresses that each memory of a machine reserves, so that it never moves.

A machine has about 16 memories and a process 2^47 addresses: some 120 machines of the near kind
fit, or 15 of the far one, which is for images that need it.
"""


@dataclass(frozen=True, slots=True)
class ModuleShape:
    """What a machine must know of a rewritten module beside its code."""

    heap_wasm_pages: int
    "Wasm pages that the heap begins with."
    heap_wasm_pages_max: int
    mutable_globals: tuple[str, ...]
    "Names under which they are exported."
    imports: tuple[tuple[str, str, tuple[int, ...], tuple[int, ...]], ...]
    "Module, name, and types of parameters and results of each function that it imports."
    exports: frozenset[str]
    "Names of the functions that it exports."

    @classmethod
    def of(cls, rewritten: Rewritten) -> "ModuleShape":
        """Take it from a module that was just rewritten."""
        return cls(
            rewritten.heap.minimum,
            rewritten.heap.maximum or WASM_PAGES_MAX,
            tuple(item.export for item in rewritten.mutable_globals),
            tuple(
                (module, name, tuple(kind.parameters), tuple(kind.results))
                for module, name, kind in rewritten.imports
            ),
            rewritten.exports,
        )

    def to_bytes(self) -> bytes:
        """Write it down, behind its length."""
        values = asdict(self) | {"exports": sorted(self.exports)}
        text = json.dumps(values).encode()
        return len(text).to_bytes(4, "little") + text

    @classmethod
    def from_bytes(cls, data: memoryview) -> "tuple[ModuleShape, memoryview]":
        """Read it, and return what follows, too.

        Raises:
            ValueError: It is none; so do KeyError and TypeError say.
        """
        end = 4 + int.from_bytes(data[:4], "little")
        values = json.loads(bytes(data[4:end]))
        imports = tuple(
            (module, name, tuple(parameters), tuple(results))
            for module, name, parameters, results in values["imports"]
        )
        layout = cls(
            values["heap_wasm_pages"],
            values["heap_wasm_pages_max"],
            tuple(values["mutable_globals"]),
            imports,
            frozenset(values["exports"]),
        )
        return layout, data[end:]


@dataclass(frozen=True, slots=True)
class Program:
    """What a machine is made of."""

    name: str
    layout: "ModuleShape"
    watches_heap: bool
    regime: PriceRegime
    engine: "Engine"
    shim: "Module"
    module: "Module"


def wasmtime_module() -> Any:  # noqa: ANN401  a module
    """Return wasmtime.

    Raises:
        SettingsError: It is missing, or of another release than `WASMTIME_VERSION`.
    """
    try:
        module = importlib.import_module("wasmtime")
    except ImportError as error:
        raise SettingsError(
            f"the wasm engine needs wasmtime, which cannot be imported ({error}); "
            f"{_REINSTALL}, or use engine native"
        ) from error
    found = version("wasmtime")
    if found != WASMTIME_VERSION:
        raise SettingsError(
            f"the wasm engine needs wasmtime {WASMTIME_VERSION}, and {found} is installed; "
            f"{_REINSTALL}"
        )
    return module


_LOG: Final = logging.getLogger(__name__)


@cache
def shared_program(
    name: str,
    read: Callable[[str], bytes],
    regime_name: str,
    *,
    watches_heap: bool,
    reach_bytes: int = NEAR_BYTES,
) -> Program:
    """Return the program of a module that all canisters of the process share.

    Args:
        name: What the module is called.
        read: Returns its bytes by that name.
        regime_name: What is counted, a name in `PRICE_REGIMES`.
        watches_heap: Whether what is touched in the heap is reported and charged.
        reach_bytes: Addresses that each memory reserves.

    Raises:
        SettingsError: wasmtime is missing.
        ModuleError: As `make_program`.
    """
    wasmtime_module()
    return make_program(
        read(name),
        name=name,
        regime=PRICE_REGIMES[regime_name],
        watches_heap=watches_heap,
        reach_bytes=reach_bytes,
    )


def make_program(
    wasm: bytes,
    *,
    name: str,
    regime: PriceRegime,
    watches_heap: bool,
    reach_bytes: int = NEAR_BYTES,
) -> Program:
    """Return the program of any canister module.

    Raises:
        ModuleError: The module is damaged, needs what is not supported, or imports from elsewhere
            than ``ic0``.
    """
    # Always with marks, which cost less than copying the heap for each rollback that might come.
    options = RewriteOptions(weights=regime.table, has_heap_marks=True)
    engine = _engine(reach_bytes)
    key = _key(reach_bytes, wasm, options.key, regime.table.key, *_rewriter_sources())
    found = _loaded(engine, key)
    if found is None:
        _LOG.info("compiling the Wasm module (%s); that is done once, and takes seconds", name)
        rewritten = rewrite(wasm, options)
        layout = ModuleShape.of(rewritten)
        _check_imports(rewritten)
        module = _compiled(engine, rewritten.wasm)
        kept.keep(key, layout.to_bytes() + bytes(module.serialize()))
    else:
        layout, module = found
    return Program(
        name=name,
        layout=layout,
        watches_heap=watches_heap,
        regime=regime,
        engine=engine,
        shim=_shim(reach_bytes),
        module=module,
    )


def _rewriter_sources() -> list[bytes]:
    """Return what the rewriter is made of: its version may lag behind while it is worked on."""
    package = files("sqlstable.wasm.rewrite")
    names = sorted(item.name for item in package.iterdir() if item.name.endswith(".py"))
    return [(package / name).read_bytes() for name in names if name in _REWRITER_FILES]


def _check_imports(rewritten: Rewritten) -> None:
    for module, function, _ in rewritten.imports:
        if module not in ("ic0", SHIM_MODULE):
            raise ModuleError(
                f"the module imports {function!r} from {module!r}; a canister has imports from "
                "'ic0' only: build it for the Internet Computer, without WASI or JavaScript"
            )


def _forget() -> None:
    """Let go of everything while wasmtime is still able to free it: the process ends."""
    for machine in list(LIVE):
        machine.close()
    LISTENER.stop()
    for cached in (shared_program, _shim, _engine):
        cached.cache_clear()
    gc.collect()


LIVE: Final[WeakSet[Any]] = WeakSet()
"""Instances that are not closed."""


@cache
def _engine(reach_bytes: int) -> "Engine":
    wasmtime = wasmtime_module()
    config = wasmtime.Config()
    config.memory_reservation = reach_bytes
    set_stack(config)
    config.cranelift_nan_canonicalization = True
    config.epoch_interruption = True
    atexit.register(_forget)
    return cast("Engine", wasmtime.Engine(config))


@cache
def _shim(reach_bytes: int) -> "Module":
    from sqlstable.wasm.shim import shim  # noqa: PLC0415  assembled only where needed

    engine = _engine(reach_bytes)
    key = _key(reach_bytes, shim_text())
    content = kept.load(key)
    module = None if content is None else _deserialized(engine, content)
    if module is None:
        module = _compiled(engine, shim())
        kept.keep(key, bytes(module.serialize()))
    return module


def _key(reach_bytes: int, *parts: bytes | str) -> str:
    return kept.key_of(
        *parts,
        f"wasmtime {WASMTIME_VERSION}",
        f"{platform.system()} {platform.machine()}",
        f"reservation {reach_bytes}, canonical NaN, epochs",
    )


def _loaded(engine: "Engine", key: str) -> "tuple[ModuleShape, Module] | None":
    content = kept.load(key)
    if content is None:
        return None
    try:
        layout, code = ModuleShape.from_bytes(content)
    except (ValueError, KeyError, TypeError):
        return None
    module = _deserialized(engine, code)
    return None if module is None else (layout, module)


def _deserialized(engine: "Engine", content: memoryview) -> "Module | None":
    wasmtime = wasmtime_module()
    try:
        return cast("Module", wasmtime.Module.deserialize(engine, bytes(content)))
    except wasmtime.WasmtimeError:
        # Of another processor, perhaps: compiled anew, like what is damaged.
        return None


def _compiled(engine: "Engine", wasm: bytes) -> "Module":
    wasmtime = wasmtime_module()
    try:
        return cast("Module", wasmtime.Module(engine, wasm))
    except wasmtime.WasmtimeError as error:
        raise ModuleError(f"the module is not valid WebAssembly: {error}") from error
