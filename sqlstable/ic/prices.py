"""What an operator, a system call and a page cost in instructions, as data: by date, with sources.

A replica adds up weights, one for each WebAssembly operator, and calls the sum *instructions*.
`REPLICA` is its table of today; `REPLICA_2023` and `REPLICA_FLAT` are those before it. A
`PriceRegime` joins a table with what system calls and pages cost, from one day until the next.

Every number of a price list stands here, and none anywhere else: the rewriter asks for the weight
of an operator by its name, the shim is given the costs of its calls, and what a message owes for
pages is worked out by the regime.

**Invariants**

- `PRICE_REGIMES` is ascending by date; the first has none, "as far back as the sources reach".

**Limitations.** All of it is a model read from source code, not compared with a running replica.
What is not verified is said where it stands.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import date
from itertools import pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from sqlstable.ic.units import OS_PAGES_PER_WASM_PAGE

if TYPE_CHECKING:
    from sqlstable.ic.limits import Limits


@dataclass(frozen=True, slots=True)
class WeightTable:
    """Weights of all operators.

    Examples:
        >>> REPLICA.weight("i32.div_u"), REPLICA.weight("local.get")
        (10, 1)
    """

    name: str
    source: str
    "Repository, path, commit and date"
    default: int
    "Instructions of an operator that is not named"
    weights: Mapping[str, int]
    "Instructions by the name of the operator; bulk operators without what their length costs"
    function_entry: int
    "Instructions that entering a function costs"
    per_unit: int
    "Instructions for each byte, or table entry, that a bulk operator moves"

    def weight(self, operator: str) -> int:
        """Return what an operator costs."""
        return self.weights.get(operator, self.default)

    def total(self, operators: str) -> int:
        """Return what operators cost together, their names apart by spaces."""
        return sum(map(self.weight, operators.split()))

    @property
    def key(self) -> str:
        """What tells these weights from others, whatever the tables are called."""
        named = sorted(self.weights.items())
        return repr((self.default, named, self.function_entry, self.per_unit))


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
    """Weights and costs that belong together, from one day until the next regime's."""

    name: str
    since: date | None
    """First day; None: as far back as the sources reach."""
    table: WeightTable
    costs: SystemCosts
    dirty_heap_os_page: int
    "Instructions for each heap OS page written, charged when the message is over"
    source: str

    @property
    def charges_heap(self) -> bool:
        """Whether what is touched in the heap costs anything."""
        costs = self.costs
        return bool(
            self.dirty_heap_os_page or costs.heap_region_accessed or costs.heap_region_written
        )

    def heap_cost(
        self, *, wasm_pages_accessed: int, wasm_pages_written: int, os_pages_written: int
    ) -> int:
        """Return what a message owes for its heap."""
        return (
            wasm_pages_accessed * self.costs.heap_region_accessed
            + wasm_pages_written * self.costs.heap_region_written
            + os_pages_written * self.dirty_heap_os_page
        )

    def heap_cost_max(self, wasm_pages: int) -> int:
        """Return what no message owes more than: all of a heap of that size written."""
        return self.heap_cost(
            wasm_pages_accessed=wasm_pages,
            wasm_pages_written=wasm_pages,
            os_pages_written=wasm_pages * OS_PAGES_PER_WASM_PAGE,
        )

    def stable_page_cost(
        self, *, wasm_pages_accessed: int, wasm_pages_dirty: int, os_pages_dirty: int
    ) -> int:
        """Return what a message owes for the pages of stable memory that it was first to touch."""
        return (
            wasm_pages_accessed * self.costs.stable_region_accessed
            + wasm_pages_dirty * self.costs.stable_region_dirty
            + os_pages_dirty * self.costs.dirty_os_page
        )

    def stable_call_cost(self, *, accesses: int, bytes_moved: int, grows: int = 0) -> int:
        """Return what calls on stable memory cost by themselves, without its pages."""
        return (
            accesses * self.costs.stable_access
            + bytes_moved * self.costs.stable_byte
            + grows * self.costs.stable_grow
        )


def _weights(
    *groups: tuple[int, str | Iterable[str]], base: Mapping[str, int] | None = None
) -> Mapping[str, int]:
    """Return weights by name; later groups win."""
    weights = {} if base is None else dict(base)
    for weight, names in groups:
        weights |= dict.fromkeys(names.split() if isinstance(names, str) else names, weight)
    return MappingProxyType(weights)


def _both(sizes: str, names: str) -> list[str]:
    """Return each name for each of the types, such as ``f32.add`` and ``f64.add``."""
    return [f"{size}.{name}" for size in sizes.split() for name in names.split()]


_MARKERS: Final = "block loop else end"
_FLOAT_COMPUTING: Final = _both("f32 f64", "add sub mul div min max ceil floor trunc nearest sqrt")
_FLOAT_TRUNCATION: Final = _both(
    "i32 i64",
    "trunc_f32_s trunc_f32_u trunc_f64_s trunc_f64_u "
    "trunc_sat_f32_s trunc_sat_f32_u trunc_sat_f64_s trunc_sat_f64_u",
)
_BULK: Final = "memory.copy memory.fill memory.init table.copy table.fill table.init"

_NEW_METERING: Final = _weights(
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
    default=1,
    weights=_weights(
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
    default=1,
    weights=_weights(
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
    default=1,
    weights=_weights((0, _MARKERS)),
    function_entry=0,
    per_unit=1,
)
"""Every operator costs 1."""

_API: Final = (
    "dfinity/ic rs/embedders/src/wasmtime_embedder/system_api_complexity.rs @ 023cfe84 and "
    "linker.rs @ 0048d8c4 (transmitted and logged bytes), both newer than 2025-01"
)

_REGIMES: Final = (
    PriceRegime(
        name="system-api",
        since=None,
        table=REPLICA_FLAT,
        costs=SystemCosts(),
        dirty_heap_os_page=0,
        source=f"Until 2023-06; costs of calls of that time are not verified. {_API}",
    ),
    PriceRegime(
        name="wasm-native",
        since=date(2023, 10, 4),
        table=REPLICA,
        costs=SystemCosts(),
        dirty_heap_os_page=1000,
        source=f"2023-10-04 to 2026-07: 1000 for each dirty OS page. {_API}",
    ),
    PriceRegime(
        name="memory-tracker",
        since=date(2026, 7, 1),
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

PRICE_REGIMES: Final[Mapping[str, PriceRegime]] = MappingProxyType(
    {regime.name: regime for regime in _REGIMES}
)
"""Weights and costs by the names of the price lists, the oldest first."""

assert len(PRICE_REGIMES) == len(_REGIMES), "two price lists share a name"
assert all(regime.since is None for regime in _REGIMES[:1])
assert all(
    (earlier.since or date.min) < (later.since or date.min) for earlier, later in pairwise(_REGIMES)
), "price lists are not sorted by date"


def regime_of(limits: "Limits | None") -> PriceRegime:
    """Return what the Internet Computer counted on the day of the limits; today's without limits.

    Examples:
        >>> from sqlstable.ic.limits import limits_at
        >>> regime_of(limits_at("2024-01-01")).name, regime_of(None).name
        ('wasm-native', 'memory-tracker')
    """
    day = date.max if limits is None else limits.date
    return [regime for regime in _REGIMES if regime.since is None or regime.since <= day][-1]
