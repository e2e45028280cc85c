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
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final, cast
from weakref import WeakSet, WeakValueDictionary

from sqlstable.errors import ModuleError, SettingsError
from sqlstable.ic.assumptions import assumed
from sqlstable.ic.prices import INSTALL_PER_OPERATOR, PRICE_REGIMES, PriceRegime
from sqlstable.ic.units import GIB, KIB, OS_PAGE_BYTES
from sqlstable.wasm import cache as kept
from sqlstable.wasm.interrupts import LISTENER
from sqlstable.wasm.rewrite.binary import WASM_PAGES_MAX
from sqlstable.wasm.rewrite.metering import EXTRAS
from sqlstable.wasm.rewrite.rewriter import RewriteOptions, Rewritten, rewrite
from sqlstable.wasm.shim import ShimStatus, shim_text
from sqlstable.wasm.stack import set_stack

if TYPE_CHECKING:
    from wasmtime import Engine, Module

WASMTIME_VERSION: Final = "50.0.1"
"""Release of wasmtime that this was written for; others are refused, as their traps may differ."""

_REINSTALL: Final = f"install sqlstable again, or pip install wasmtime=={WASMTIME_VERSION}"
"""sqlstable depends on just this release, so it is missing only where somebody took it away."""

OS_PAGE_SIZES: Final = (OS_PAGE_BYTES, 16 * KIB)
"""Sizes of OS pages that can be charged."""

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
    is_64: bool
    "Whether addresses of the heap have 64 bits."
    dropped_flags: tuple[str, ...]
    "Names of exported globals that are 1 once a data segment is dropped; 0 for each message."
    has_active_data: bool
    "Whether segments are written to the heap when the module is instantiated."
    function_count: int
    "Functions as the module came, the imported ones included."
    operator_count: int
    "Operators that installing the module is charged for."

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
            is_64=rewritten.heap.is_64,
            dropped_flags=rewritten.dropped_flags,
            has_active_data=rewritten.has_active_data,
            function_count=rewritten.function_count,
            operator_count=rewritten.compiled_operator_count,
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
            is_64=values["is_64"],
            dropped_flags=tuple(values["dropped_flags"]),
            has_active_data=values["has_active_data"],
            function_count=values["function_count"],
            operator_count=values["operator_count"],
        )
        return layout, data[end:]


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Program:
    """What a machine is made of."""

    name: str
    layout: "ModuleShape"
    watches_heap: bool
    has_borders: bool
    "Whether the module marks borders of phases, as our own builds do."
    os_page_bytes: int
    "Size of the OS pages that are charged: 4096, or 16 384 as on some computers."
    regime: PriceRegime
    "What is counted, for heaps as this module's is."
    engine: "Engine"
    shim: "Module"
    module: "Module"
    has_extras: bool = True
    "Whether the other tables of price lists are counted, too."
    has_profile: bool = False
    "Whether functions say when they are entered and left."
    source: bytes = field(default=b"", repr=False)
    "With a profile the module as it came, which may name its functions."

    @property
    def install_instructions(self) -> int:
        """What installing the module is charged, before any of it runs."""
        return self.layout.operator_count * INSTALL_PER_OPERATOR

    @property
    def counts_heap(self) -> bool:
        """Whether it is known what the heap is charged for, by this list or by another one.

        That is counted in any case, but where a heap that would be charged is not to be watched.
        """
        return self.watches_heap or not self.regime.charges_heap

    def heap_cost(self, status: ShimStatus) -> int:
        """Return what a message is charged for its heap, which is on no counter; 0 if not watched.

        Args:
            status: What the shim told of the message.
        """
        if not self.watches_heap:
            return 0
        return self.regime.heap_cost(
            wasm_pages_accessed=status.heap_regions_accessed,
            wasm_pages_written=status.heap_regions_written,
            os_pages_written=status.heap_os_pages_priced,
        )


_PROGRAMS: Final[WeakValueDictionary[tuple[object, ...], Program]] = WeakValueDictionary()
"""Those in use, by all that went into them."""


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
    found = _release(version)
    if found != WASMTIME_VERSION:
        raise SettingsError(
            f"the wasm engine needs wasmtime {WASMTIME_VERSION}, and {found} is installed; "
            f"{_REINSTALL}"
        )
    return module


@cache
def _release(version_of: Callable[[str], str]) -> str:
    """Return the release of wasmtime that is installed; that takes longer than a message."""
    return version_of("wasmtime")


_COMPILING: Final = (
    "compiling the Wasm module (%s, %.1f MB); that is done once, and takes about 2 s for each MB"
)

_LOG: Final = logging.getLogger(__name__)


@cache
def shared_program(
    name: str,
    read: Callable[[str], bytes],
    prices: tuple[str, tuple[tuple[str, str], ...]],
    *,
    watches_heap: bool,
    reach_bytes: int = NEAR_BYTES,
) -> Program:
    """Return the program of a module that all canisters of the process share.

    Args:
        name: What the module is called.
        read: Returns its bytes by that name.
        prices: What is counted: a name in `PRICE_REGIMES`, and what is assumed of it.
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
        regime=assumed(PRICE_REGIMES[prices[0]], dict(prices[1])),
        watches_heap=watches_heap,
        has_borders=True,
        reach_bytes=reach_bytes,
    )


def make_program(  # noqa: PLR0913  each is a choice
    wasm: bytes,
    *,
    name: str,
    regime: PriceRegime,
    watches_heap: bool,
    has_borders: bool = False,
    has_extras: bool = True,
    has_profile: bool = False,
    os_page_bytes: int = OS_PAGE_BYTES,
    is_benchmark: bool = False,
    reach_bytes: int = NEAR_BYTES,
) -> Program:
    """Return the program of any canister module.

    Args:
        wasm: The module.
        name: What it is called.
        regime: What is counted.
        watches_heap: Whether what is touched in the heap is reported and charged.
        has_borders: Whether the module marks borders of phases, as our own builds do.
        has_extras: Whether the other tables of price lists are counted, too.
        has_profile: Whether functions say when they are entered and left; no count changes.
        os_page_bytes: Size of the OS pages that are charged, 4096 or 16 384; limits stay with 4096.
        is_benchmark: Whether the module may have as many methods as on a subnet for benchmarks.
        reach_bytes: Addresses that each memory reserves.

    Raises:
        ModuleError: The module is damaged, needs what is not supported, or the Internet Computer
            refuses it.
        SettingsError: There are no OS pages of that size.
    """
    if os_page_bytes not in OS_PAGE_SIZES:
        raise SettingsError(f"os_page_bytes is {os_page_bytes}; it must be 4096 or 16384")
    options = RewriteOptions(  # with marks: copying the heap for each message would cost more
        weights=regime.table,
        has_extras=has_extras,
        has_heap_marks=True,
        is_deployed=not has_borders,  # our own builds have a method twice: update and query
        has_profile=has_profile,
        os_pages_priced=os_page_bytes // OS_PAGE_BYTES,
        is_benchmark=is_benchmark,
    )
    engine = _engine(reach_bytes)
    tables = regime.table, *EXTRAS.values()
    key = _key(reach_bytes, wasm, options.key, *(it.key for it in tables), *_rewriter_sources())
    known = name, key, regime.label, watches_heap, has_borders, has_profile, os_page_bytes
    if (program := _PROGRAMS.get(known)) is not None:
        return program
    if (found := _loaded(engine, key)) is None:
        _LOG.info(_COMPILING, name, len(wasm) / 1e6)
        rewritten = rewrite(wasm, options)
        found = ModuleShape.of(rewritten), _compiled(engine, rewritten.wasm)
        kept.keep(key, found[0].to_bytes() + bytes(found[1].serialize()))
    layout, module = found
    program = _PROGRAMS[known] = Program(
        name=name,
        layout=layout,
        watches_heap=watches_heap,
        has_borders=has_borders,
        os_page_bytes=os_page_bytes,
        regime=regime.for_heap(is_64=layout.is_64),
        engine=engine,
        shim=_shim(reach_bytes, is_64=layout.is_64),
        module=module,
        has_extras=has_extras,
        has_profile=has_profile,
        source=wasm if has_profile else b"",
    )
    return program


@cache
def _rewriter_sources() -> list[bytes]:
    """Return what the rewriter is made of: its version may lag behind while it is worked on."""
    package = files("sqlstable.wasm.rewrite")
    names = sorted(item.name for item in package.iterdir() if item.name.endswith(".py"))
    return [(package / name).read_bytes() for name in names]


def _forget() -> None:
    """Let go of everything while wasmtime is still able to free it: the process ends."""
    for machine in list(LIVE):
        machine.close()
    LISTENER.stop()
    for cached in (shared_program, _shim, _engine):
        cached.cache_clear()
    gc.collect()
    # What somebody still holds is not freed by Python any more before wasmtime is gone.
    for program in list(_PROGRAMS.values()):
        for owned in (program.module, program.shim, program.engine):
            owned.close()


LIVE: Final[WeakSet[Any]] = WeakSet()
"""Instances that are not closed."""


@cache
def _engine(reach_bytes: int) -> "Engine":
    wasmtime = wasmtime_module()
    config = wasmtime.Config()
    config.memory_reservation = reach_bytes
    set_stack(config)
    config.cranelift_nan_canonicalization = True
    atexit.register(_forget)
    return cast("Engine", wasmtime.Engine(config))


@cache
def _shim(reach_bytes: int, *, is_64: bool) -> "Module":
    from sqlstable.wasm.shim import shim  # noqa: PLC0415  assembled only where needed

    engine = _engine(reach_bytes)
    key = _key(reach_bytes, shim_text(is_64=is_64))
    content = kept.load(key)
    module = None if content is None else _deserialized(engine, content)
    if module is None:
        module = _compiled(engine, shim(is_64=is_64))
        kept.keep(key, bytes(module.serialize()))
    return module


def _key(reach_bytes: int, *parts: bytes | str) -> str:
    return kept.key_of(
        *parts,
        f"wasmtime {WASMTIME_VERSION}",
        f"{platform.system()} {platform.machine()}",
        f"reservation {reach_bytes}, canonical NaN",
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
