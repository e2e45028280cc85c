"""What an operator and a system call cost in instructions: named tables with their sources.

A replica adds up weights, one for each WebAssembly operator, and calls the sum *instructions*.
`REPLICA` is its table of today; `REPLICA_2023` and `REPLICA_FLAT` are those before it.
`WASMTIME_FUEL` is no price but a witness: wasmtime counts the same way with weights of its own, so
a module rewritten with them must count what wasmtime counts.

A `PriceRegime` joins a table with the costs of system calls, under the names that price lists have.

**Limitations.** All of it is a model read from source code, not compared with a running replica.
What is not verified is said where it stands.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Final

from sqlstable.wasm.rewrite.operators import CODES, LOADS, STORES


@dataclass(frozen=True, slots=True)
class WeightTable:
    """Weights of all operators.

    Examples:
        >>> REPLICA.weights["i32.div_u"], REPLICA.weights["local.get"]
        (10, 1)
    """

    name: str
    source: str
    "Repository, path, commit and date"
    weights: Mapping[str, int]
    "Instructions by the name of the operator; bulk operators without what their length costs"
    function_entry: int
    "Instructions that entering a function costs"
    per_unit: int
    "Instructions for each byte, or table entry, that a bulk operator moves"


@dataclass(frozen=True, slots=True)
class SystemCosts:
    """Instructions that system calls cost beyond the ``call`` itself.

    Each field is a global of the stable memory shim, by the same name. A charge for OS pages or
    regions falls on the call that touches them first in a message.

    Examples:
        >>> SystemCosts().stable_access, SystemCosts().dirty_os_page
        (20, 1000)
    """

    call: int = 500
    "Any call that is not named below"
    copied_byte: int = 1
    "Each byte that a call copies between the heap and the replica"
    transmitted_byte: int = 50
    "Each byte of a reply or reject, and of the log"
    logged_byte: int = 2
    "Each byte that enters the canister's log, beside its transmission"
    is_controller: int = 1000
    performance_counter: int = 200
    debug_print: int = 100
    trap: int = 500
    stable_access: int = 20
    "Each read or write of stable memory"
    stable_byte: int = 1
    "Each byte of it"
    stable_grow: int = 100
    dirty_os_page: int = 1000
    "Each stable OS page first dirtied"
    stable_region_accessed: int = 0
    "Each Wasm page of stable memory first accessed"
    stable_region_dirty: int = 0
    "Each Wasm page of stable memory first dirtied, beside its access"
    heap_region_accessed: int = 0
    "Each Wasm page of the heap first accessed"
    heap_region_written: int = 0
    "Each Wasm page of the heap first written, beside its access"

    def __post_init__(self) -> None:
        assert all(0 <= getattr(self, field.name) < 1 << 31 for field in fields(self))


@dataclass(frozen=True, slots=True)
class PriceRegime:
    """Weights and costs that belong together."""

    name: str
    table: WeightTable
    costs: SystemCosts
    dirty_heap_os_page: int
    "Instructions for each heap OS page written, charged when the message is over"
    source: str


def _table(
    default: int, *groups: tuple[int, str | Iterable[str]], base: Mapping[str, int] | None = None
) -> Mapping[str, int]:
    """Return a weight for every operator; later groups win."""
    weights = dict.fromkeys(CODES, default) if base is None else dict(base)
    for weight, names in groups:
        for name in names.split() if isinstance(names, str) else names:
            assert name in weights, name
            weights[name] = weight
    return MappingProxyType(weights)


def _both(sizes: str, names: str) -> list[str]:
    """Return each name for each of the types, such as ``f32.add`` and ``f64.add``."""
    return [f"{size}.{name}" for size in sizes.split() for name in names.split()]


_MARKERS: Final = "block loop else end"
_FLOAT_TRUNCATION: Final = [name for name in CODES if ".trunc_f" in name or ".trunc_sat" in name]
_FLOAT_COMPUTING: Final = _both("f32 f64", "add sub mul div min max ceil floor trunc nearest sqrt")
_BULK: Final = "memory.copy memory.fill memory.init table.copy table.fill table.init"

_NEW_METERING: Final = _table(
    1,
    (0, _MARKERS),
    (2, "if br br_if br_table global.get global.set"),
    (5, "call table.get table.set ref.is_null"),
    (10, "call_indirect"),
    (130, "ref.func"),
    (20, "memory.size"),
    (100, "table.size"),
    (100, _BULK),
    (300, "memory.grow table.grow data.drop elem.drop"),
    (10, _both("i32 i64", "div_s div_u rem_s rem_u")),
    (1, [*LOADS, *STORES]),
    (3, _both("f32 f64", "eq ne lt gt le ge")),
    (20, _FLOAT_TRUNCATION),
    (3, _both("f32 f64", "convert_i32_s convert_i64_s")),
    (16, _both("f32 f64", "convert_i32_u convert_i64_u")),
)

REPLICA: Final = WeightTable(
    name="replica",
    source=(
        "dfinity/ic rs/embedders/src/wasm_utils/instrumentation.rs instruction_to_cost "
        "@ 1bc0a5953, 2025-10-31; equal @ 002d5530"
    ),
    weights=_table(
        1,
        (1, _both("f32 f64", "abs neg")),
        (2, _both("f32 f64", "add sub mul ceil floor trunc nearest")),
        (3, "f32.div"),
        (5, "f64.div"),
        (18, _both("f32 f64", "min max")),
        (2, "f32.copysign"),
        (3, "f64.copysign"),
        (5, "f32.sqrt"),
        (8, "f64.sqrt"),
        base=_NEW_METERING,
    ),
    function_entry=1,
    per_unit=1,
)
"""The weights of today."""

REPLICA_2023: Final = WeightTable(
    name="replica-2023",
    source=(
        "dfinity/ic rs/embedders/src/wasm_utils/instrumentation.rs instruction_to_cost_new, in "
        "luc-blaeser/ic @ 0f039356; on application subnets from 2023-10-04, until when is unknown"
    ),
    weights=_table(
        1,
        (20, _FLOAT_COMPUTING),
        (2, _both("f32 f64", "abs neg copysign")),
        base=_NEW_METERING,
    ),
    function_entry=1,
    per_unit=1,
)
"""The first weights that told operators apart: computing with floats cost 20."""

REPLICA_FLAT: Final = WeightTable(
    name="replica-flat",
    source=(
        "dfinity/ic rs/embedders/src/wasm_utils/instrumentation.rs instruction_to_cost, in "
        "luc-blaeser/ic @ 0f039356; before 2023-10-04. That entering a function cost nothing is "
        "not verified"
    ),
    weights=_table(1, (0, _MARKERS)),
    function_entry=0,
    per_unit=1,
)
"""Every operator costs 1."""

WASMTIME_FUEL: Final = WeightTable(
    name="wasmtime-fuel",
    source="wasmtime 50.0.1, measured: tests/test_wasm_rewriter.py compares each run",
    weights=_table(1, (0, _MARKERS), (0, "nop drop return unreachable")),
    function_entry=1,
    per_unit=1,
)
"""What wasmtime's own counter adds up, as a witness for the rewriter."""

_API: Final = (
    "dfinity/ic rs/embedders/src/wasmtime_embedder/system_api_complexity.rs @ 023cfe84 and "
    "linker.rs @ 0048d8c4 (transmitted and logged bytes), both newer than 2025-01"
)

PRICE_REGIMES: Final[Mapping[str, PriceRegime]] = MappingProxyType(
    {
        regime.name: regime
        for regime in (
            PriceRegime(
                name="system-api",
                table=REPLICA_FLAT,
                costs=SystemCosts(),
                dirty_heap_os_page=0,
                source=f"Until 2023-06; costs of calls of that time are not verified. {_API}",
            ),
            PriceRegime(
                name="wasm-native",
                table=REPLICA,
                costs=SystemCosts(),
                dirty_heap_os_page=1000,
                source=f"2023-10-04 to 2026-07: 1000 for each dirty OS page. {_API}",
            ),
            PriceRegime(
                name="memory-tracker",
                table=REPLICA,
                costs=SystemCosts(
                    dirty_os_page=0,
                    stable_region_accessed=80_000,
                    stable_region_dirty=80_000,
                    heap_region_accessed=80_000,
                    heap_region_written=80_000,
                ),
                dirty_heap_os_page=0,
                source=(
                    "Since 2026-07: dfinity/ic pull request 10789, 5000 for each of the 16 OS "
                    "pages of a Wasm page. That stable writes are charged as heap writes are, "
                    "that queries are charged for writes, and that reads and writes still cost "
                    f"20 and their bytes is not verified. {_API}"
                ),
            ),
        )
    }
)
"""Weights and costs by the names of the price lists."""
