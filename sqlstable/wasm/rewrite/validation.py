"""What the Internet Computer refuses in a canister's module, in its own words.

A module is read first (`sqlstable.wasm.rewrite.module_reader`), which refuses what is no module or
uses a feature that replicas do not have; then its sections are checked here, as a replica checks
them when a canister is installed; then wasmtime checks the types of its code. Each message is that
of the replica, followed by the way out.

**Limitations.** Of several faults a replica may name another one first. Its limit on the length of
names of functions (1 MiB) is not checked.

Source:
    dfinity/ic rs/embedders/src/wasm_utils/validation.rs, instrumentation.rs (data segments) and
    rs/types/wasm_types/src/errors.rs (words) @ 1bc0a5953, 2025-10-31; tables and the size of the
    code section as in a newer validation.rs (humandebri/ic @ 1493686b). Numbers of entries:
    rs/config/src/embedders.rs @ 1bc0a5953.
"""

import atexit
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING, Final

from sqlstable.errors import ModuleError
from sqlstable.ic.system_calls import system_call
from sqlstable.ic.units import MIB, WASM_PAGE_BYTES
from sqlstable.wasm.rewrite.binary import (
    FUNCREF,
    FUNCTION,
    GLOBAL,
    TABLE,
    VALUE_TYPES,
    WASM64_PAGES_MAX,
    FunctionType,
    Import,
    Module,
)
from sqlstable.wasm.rewrite.bytereader import Reader
from sqlstable.wasm.rewrite.operators import name_of

if TYPE_CHECKING:
    from wasmtime import Engine

FUNCTIONS_MAX: Final = 50_000
GLOBALS_MAX: Final = 1_000
METHODS_MAX: Final = 1_000
METHOD_NAME_BYTES_MAX: Final = 20_000
"""Of all methods' names together."""

BENCHMARK_METHODS_MAX: Final = 100_000
BENCHMARK_METHOD_NAME_BYTES_MAX: Final = 5_000_000
"""On a subnet for benchmarks.

Source: dfinity/ic pull request 4861, 2025-04: a hundred times as many, of 50 bytes on average.
"""

CUSTOM_SECTIONS_MAX: Final = 16
CUSTOM_BYTES_MAX: Final = 1 * MIB
FUNCTION_OPERATORS_MAX: Final = 1_000_000
FUNCTION_COMPLEXITY_MAX: Final = 1_000_000

RESERVED_EXPORTS: Final = frozenset(
    (
        "canister counter_instructions",
        "canister counter_dirty_pages",
        "canister counter_accessed_pages",
        "canister_start",
        "stable_memory",
        "stable_bytemap_memory",
    )
)
SYSTEM_EXPORTS: Final = frozenset(
    (
        "canister_init",
        "canister_inspect_message",
        "canister_pre_upgrade",
        "canister_post_upgrade",
        "canister_heartbeat",
        "canister_global_timer",
        "canister_on_low_wasm_memory",
    )
)
"""Functions that a replica calls by themselves."""

METHOD_PREFIXES: Final = ("canister_update", "canister_query", "canister_composite_query")
"""What the names of methods begin with, a space behind them."""

_TOOLCHAIN: Final = "Build it with current tools for canisters (a CDK, ic-wasm)."
_WASI: Final = (
    "That is WASI, which canisters do not have: link ic-wasi-polyfill and run wasi2ic on the "
    "module, which redirects these imports, or build for wasm32-unknown-unknown."
)
_NUMERIC: Final = frozenset(("i32", "i64", "f32", "f64", "v128"))


def check_module(module: Module, *, is_benchmark: bool = False) -> None:
    """Insist on what the Internet Computer insists on, but for the code of functions.

    Args:
        module: What was read.
        is_benchmark: Whether it may have as many methods as on a subnet for benchmarks.

    Raises:
        ModuleError: It would refuse to install this module.
    """
    _check_imports(module)
    _check_exports(module, is_benchmark=is_benchmark)
    for table in module.all_tables:
        if table.element_type != FUNCREF:
            kind = VALUE_TYPES[table.element_type]
            raise ModuleError(
                "Wasm module has an invalid table section. Table element type must be funcref, "
                f"got {kind}. {_TOOLCHAIN}"
            )
    _check_globals(module)
    if len(module.functions) > FUNCTIONS_MAX:
        raise ModuleError(
            f"Wasm module defined {len(module.functions)} functions which exceeds the maximum "
            f"number allowed {FUNCTIONS_MAX}. Split this canister into multiple canisters."
        )
    if module.memory is not None and module.is_64 and module.memory.minimum > WASM64_PAGES_MAX:
        raise ModuleError(
            f"Wasm module declares an initial Wasm64 heap memory size of {module.memory.minimum} "
            f"pages which exceeds the maximum allowed size of {WASM64_PAGES_MAX} pages. Reduce "
            "the initial Wasm64 heap memory size."
        )
    _check_data(module)
    _check_custom(module.custom)


# -- imports ---------------------------------------------------------------------------------------


def _check_imports(module: Module) -> None:
    for item in module.imports:
        if item.kind == FUNCTION:
            _check_system_call(item, module.types[item.type_index], is_64=module.is_64)
        elif item.kind == TABLE:
            raise ModuleError(
                "Wasm module has an invalid import section. Only tables imported from env.table "
                f"are allowed, and nothing gives it one; define the table {item.name!r} in the "
                "module."
            )
        elif item.kind == GLOBAL:
            raise ModuleError(
                "Wasm module has an invalid import section. Importing globals is not allowed. "
                f"Define {item.name!r} in the module: position-independent code imports globals."
            )


def _check_system_call(item: Import, kind: FunctionType, *, is_64: bool) -> None:
    call = system_call(item.name, is_64=is_64)
    where = "Wasm module has an invalid import section. Module imports function"
    if item.module.startswith("wasi_"):
        raise ModuleError(
            f"{where} '{item.name}' from '{item.module}' that is not exported by the runtime. "
            f"{_WASI}"
        )
    if call is None:
        other = system_call(item.name, is_64=False)
        hint = "Canisters have imports from 'ic0' only: build it for the Internet Computer."
        if other is not None:
            hint = "Modules with 64-bit memory do not have it: use the call for 64 or 128 bits."
        elif item.module == "ic0":
            hint = "There is no such system call: leave it out, or build with a newer CDK."
        raise ModuleError(
            f"{where} '{item.name}' from '{item.module}' that is not exported by the runtime. "
            f"{hint}"
        )
    if item.module != "ic0":
        raise ModuleError(
            f'{where} "{item.name}" from "{item.module}", expected to be imported from one of '
            f'["ic0"] instead. {_TOOLCHAIN}'
        )
    _check_signature(call.signature(is_64=is_64), item.name, kind)


def _check_signature(
    expected: tuple[tuple[str, ...], tuple[str, ...]], name: str, kind: FunctionType
) -> None:
    for what, wanted, found in (
        ("input params", expected[0], kind.parameters),
        ("return type", expected[1], kind.results),
    ):
        types = [VALUE_TYPES[value] for value in found]
        if types != list(wanted):
            raise ModuleError(
                "Wasm module has an invalid function signature. Expected "
                f"{what} {_shown(wanted)} for '{name}', got {_shown(types)}. {_TOOLCHAIN}"
            )


def _shown(types: Iterable[str]) -> str:
    return f"[{', '.join(name.upper() for name in types)}]"


# -- exports ---------------------------------------------------------------------------------------


def _check_exports(module: Module, *, is_benchmark: bool) -> None:
    methods: set[str] = set()
    for item in module.exports:
        if item.name in RESERVED_EXPORTS:
            raise ModuleError(
                "Wasm module has an invalid export section. Exporting reserved symbol "
                f"{item.name} not allowed. Give it another name."
            )
        if item.kind != FUNCTION:
            continue
        prefix, space, method = item.name.partition(" ")
        if space and prefix in METHOD_PREFIXES:
            if method in methods:
                raise ModuleError(
                    f"Duplicate function '{method}' exported multiple times with different call "
                    "types: update, query, or composite_query. Try defining different versions of "
                    f"the function for each call type, e.g. `{method}_update`, `{method}_query`, "
                    "etc."
                )
            methods.add(method)
        elif item.name.startswith("canister_") and item.name not in SYSTEM_EXPORTS:
            raise ModuleError(
                "Wasm module has an invalid export section. Exporting reserved function "
                f"'{item.name}' with \"canister_\" prefix. Give it another name."
            )
        else:
            prefix = item.name
        if prefix in METHOD_PREFIXES or prefix in SYSTEM_EXPORTS:
            _check_signature(((), ()), item.name, module.type_of(item.index))
    if is_benchmark:
        _check_methods(methods, BENCHMARK_METHODS_MAX, BENCHMARK_METHOD_NAME_BYTES_MAX)
    else:
        _check_methods(methods, METHODS_MAX, METHOD_NAME_BYTES_MAX)


def _check_methods(methods: set[str], count_max: int, bytes_max: int) -> None:
    kinds = (
        "`canister_update <name>`, `canister_query <name>`, or `canister_composite_query <name>`"
    )
    if len(methods) > count_max:
        raise ModuleError(
            f"The number of exported functions called {kinds} is {len(methods)} which exceeds "
            f"{count_max}. Try combining multiple endpoints into a single endpoint."
        )
    total = sum(len(name.encode()) for name in methods)
    if total > bytes_max:
        raise ModuleError(
            f"The sum of `<name>` lengths in exported functions called {kinds} is {total} which "
            f"exceeds the allowed limit of {bytes_max}. Try using shorter method names."
        )


# -- the other sections ----------------------------------------------------------------------------


def _check_globals(module: Module) -> None:
    if module.global_count > GLOBALS_MAX:
        raise ModuleError(
            f"Wasm module defined {module.global_count} globals which exceeds the maximum number "
            f"allowed {GLOBALS_MAX}. Try collecting multiple globals into a single structure which "
            "can be stored on the heap."
        )
    for item in module.globals:
        kind = VALUE_TYPES[item.value_type]
        if kind not in _NUMERIC:
            raise ModuleError(
                f"Wasm module has an invalid global section. Unsupported global type: {kind}. "
                "Keep references in a table."
            )


def _check_data(module: Module) -> None:
    """Insist that active data segments lie at constants, inside of the heap as it begins."""
    if module.memory is None:
        return
    bits, const = (64, 0x42) if module.is_64 else (32, 0x41)
    size = module.memory.minimum * WASM_PAGE_BYTES
    for data in module.data_segments:
        reader = Reader(data, 0, len(data), "data section")
        form = reader.u32()
        if form == 1:
            continue
        if form == 2:
            reader.u32()
        if reader.byte() != const:
            raise ModuleError(
                "Wasm module has an invalid data section. Invalid offset expression in data "
                f"segment for {bits}bit memory. {_TOOLCHAIN}"
            )
        offset = reader.signed(bits) % (1 << bits)
        reader.byte()
        length = reader.u32()
        if offset + length > size:
            raise ModuleError(
                f"Wasm module has invalid data segment of {length} bytes at {offset}. Its heap "
                f"begins with {size} bytes: declare a larger memory."
            )


def _check_custom(custom: tuple[tuple[str, bytes], ...]) -> None:
    """Insist on what sections for the Internet Computer must be like."""
    names: set[str] = set()
    total = 0
    for title, content in custom:
        if not title.startswith("icp:"):
            continue
        scope, space, name = title.partition(" ")
        if scope not in ("icp:public", "icp:private"):
            raise _bad_custom(
                f"Invalid custom section: Custom section '{title}' has no public/private scope "
                "defined."
            )
        if not space:
            raise _bad_custom(
                "'icp:' section names must have a space after the public/private scope"
            )
        if name in names:
            raise _bad_custom(f"Invalid custom section: name {name} already exists")
        names.add(name)
        total += len(content) + len(name.encode())
        if total > CUSTOM_BYTES_MAX:
            raise _bad_custom(
                "Invalid custom sections: total size of the custom sections exceeds the maximum "
                f"allowed: size {total} bytes, allowed {CUSTOM_BYTES_MAX} bytes"
            )
        if len(names) > CUSTOM_SECTIONS_MAX:
            raise ModuleError(
                f"Wasm module defined {len(names)} custom sections which exceeds the maximum "
                f"number allowed {CUSTOM_SECTIONS_MAX}. Take some away with ic-wasm."
            )


def _bad_custom(what: str) -> ModuleError:
    return ModuleError(
        f"Wasm module has an invalid custom section. {what} Set metadata with ic-wasm."
    )


# -- code ------------------------------------------------------------------------------------------


UNSUPPORTED_OPERATORS: Final = frozenset(
    ("table.grow", "table.set", "table.fill", "table.copy", "table.init")
)
"""Whatever changes a table: a replica keeps no tables from one message to the next."""


def check_operator(name: str, function: int) -> None:
    """Insist that an operator is one that the Internet Computer takes.

    Args:
        name: Of the operator.
        function: Index of the function that it is in.
    """
    if name in UNSUPPORTED_OPERATORS:
        raise ModuleError(
            f"Wasm module contains a function at index {function} with unsupported instruction "
            f"{name}. Canisters cannot change tables: build it without."
        )


def check_function(operators: list[bytes], function: int) -> None:
    """Insist that a function is not too large, and not too complex.

    Args:
        operators: Its code.
        function: Its index.
    """
    size = len(operators)
    if size * _COMPLEXITY_MAX > FUNCTION_COMPLEXITY_MAX:
        complexity = sum(map(complexity_of, operators))
        if complexity > FUNCTION_COMPLEXITY_MAX:
            raise ModuleError(
                f"Wasm module contains a function at index {function} with complexity "
                f"{complexity} which exceeds the maximum complexity allowed "
                f"{FUNCTION_COMPLEXITY_MAX}. Try breaking large functions up into multiple smaller "
                "functions."
            )
    if size > FUNCTION_OPERATORS_MAX:
        raise ModuleError(
            f"Wasm module contains a function at index {function} of size {size} that exceeds the "
            f"maximum allowed size of {FUNCTION_OPERATORS_MAX}. Try breaking large functions up "
            "into multiple smaller functions."
        )


_COMPLEXITY_MAX: Final = 50
_BRANCHING: Final = "block loop if br br_if br_table call call_indirect memory.grow"
_COMPARISONS: Final = "eq ne lt_s lt_u gt_s gt_u le_s le_u ge_s ge_u"
_FLOAT_COMPARISONS: Final = "eq ne lt gt le ge"


def _both(kinds: str, names: str) -> list[str]:
    return [f"{kind}.{name}" for kind in kinds.split() for name in names.split()]


def _words(text: str) -> list[str]:
    return text.split()


_COMPLEXITIES: Final[dict[str, int]] = {
    **dict.fromkeys(
        (
            *_words("global.get select memory.size i32.eqz i64.eqz i32.popcnt i64.popcnt"),
            *_both("i32 i64 f32 f64", "store"),
            *_both("i32 i64", f"store8 store16 extend8_s extend16_s {_COMPARISONS}"),
            *_both("f32 f64", f"ceil floor sqrt trunc {_FLOAT_COMPARISONS}"),
            *_words("i64.store32 i64.extend32_s i32.wrap_i64 f64.promote_f32"),
            *_words("i32.reinterpret_f32 i64.reinterpret_f64"),
            *_words("f32.reinterpret_i32 f64.reinterpret_i64"),
        ),
        2,
    ),
    **dict.fromkeys(
        (
            *_both("i32 i64 f32 f64", "load"),
            *_both("i32 i64", "load8_s load8_u load16_s load16_u rem_u rem_s div_u div_s"),
            *_both("i32 i64", "trunc_sat_f32_s trunc_sat_f32_u trunc_sat_f64_s trunc_sat_f64_u"),
            *_words("i64.load32_s i64.load32_u memory.fill f32.copysign f64.copysign f64.eq"),
        ),
        3,
    ),
    **dict.fromkeys(_words("f32.neg f32.abs f64.neg f64.abs memory.copy"), 4),
    **dict.fromkeys(
        (
            *_both("i32 i64", "trunc_f32_s trunc_f32_u trunc_f64_s trunc_f64_u"),
            *_both("f32 f64", "convert_i32_s convert_i32_u convert_i64_s convert_i64_u"),
            *_words("i64.extend_i32_s i64.extend_i32_u f32.demote_f64"),
        ),
        5,
    ),
    "ref.is_null": 6,
    "ref.func": 8,
    "table.get": 14,
    **dict.fromkeys(_BRANCHING.split(), _COMPLEXITY_MAX),
}


def complexity_of(operator: bytes) -> int:
    """Return what an operator adds to the complexity of its function.

    Examples:
        >>> complexity_of(bytes.fromhex("10 05")), complexity_of(bytes.fromhex("20 05"))
        (50, 1)
    """
    return _COMPLEXITIES.get(name_of(operator), 1)


# -- types -----------------------------------------------------------------------------------------


def check_types(wasm: bytes) -> None:
    """Insist that the code of a module is well typed, which wasmtime decides.

    Raises:
        ModuleError: It is not.
    """
    from wasmtime import Module as Compiled  # noqa: PLC0415  slow to import
    from wasmtime import WasmtimeError  # noqa: PLC0415

    try:
        Compiled.validate(_engine(), wasm)
    except WasmtimeError as error:
        raise ModuleError(
            "Wasmtime failed to validate wasm module wasmtime::Module::validate() failed with "
            f"{error}. The module is not valid WebAssembly: build it again."
        ) from None


@cache
def _engine() -> "Engine":
    """Return an engine with the features that a replica's has."""
    from wasmtime import Config, Engine  # noqa: PLC0415  slow to import

    config = Config()
    config.wasm_threads = False
    config.wasm_relaxed_simd = False
    config.wasm_multi_memory = False
    config.wasm_function_references = False
    config.wasm_gc = False
    config.wasm_exceptions = False
    # Let go while wasmtime is still able to free it.
    atexit.register(_engine.cache_clear)
    return Engine(config)
