"""Price lists: what weights, system calls and pages cost in instructions, by date, with sources.

A `PriceRegime` joins a table of `sqlstable.ic.weights` with what system calls and pages cost, from
one day until the next regime's. What the sources leave open is a parameter of
`sqlstable.ic.assumptions`; here stand the defaults.

Every number of a price list stands here, and none anywhere else: the shim is given the costs of
its calls, and what a message owes for pages is worked out by the regime.

**Invariants**

- `PRICE_REGIMES` is ascending by date; the first has none, "as far back as the sources reach".

**Limitations.** All of it is a model read from source code, not compared with a running replica.
Prices are those of application subnets; system subnets charged nothing for pages before 2025.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import date
from itertools import pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from sqlstable.errors import SettingsError
from sqlstable.ic.dated_value import calendar_day
from sqlstable.ic.units import OS_PAGES_PER_WASM_PAGE
from sqlstable.ic.weights import REPLICA, REPLICA_2023, REPLICA_FLAT, WeightTable
from sqlstable.ic.words import DISCARDED_KINDS

if TYPE_CHECKING:
    from sqlstable.ic.limits import Limits

__all__ = [
    "EARLIEST_PRICES_DATE",
    "INSTALL_PER_OPERATOR",
    "LATEST_PRICES_DATE",
    "PRICE_REGIMES",
    "REPLICA",
    "REPLICA_2023",
    "REPLICA_FLAT",
    "PriceRegime",
    "SystemCosts",
    "WeightTable",
    "price_lists",
    "regime_of",
    "regime_on",
    "resolve_prices",
]

EARLIEST_PRICES_DATE: Final = date(2021, 5, 10)
"""First day of the history that prices were read from, as that of the limits."""

LATEST_PRICES_DATE: Final = date(2026, 8, 21)
"""Day of the newest release notes that the prices were compared with.

Source: dfinity/dre release-index.yaml @ 816e0bd0.
"""


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
    call_new: int = 1500
    call_perform: int = 5000
    cost_http_request_v2: int = 10_000
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
        assert all(0 <= getattr(self, one.name) < 1 << 31 for one in fields(self))


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
    dirty_heap_factor_64: int = 1
    """How many times as much that is for a heap with 64-bit addresses.

    Source: dfinity/ic pull request 1725, 2024-11-01; rs/config/src/embedders.rs
    WASM64_DIRTY_PAGE_OVERHEAD_MULTIPLIER @ 1bc0a5953, 2025-10-31.
    """
    dirty_heap_region: int = 0
    "Instructions for each Wasm page of the heap in which anything was written, likewise at the end"
    written_heap_factor_64: int = 1
    "How many times as much a region first written costs in a heap with 64-bit addresses"
    charges_query_writes: bool = True
    "Whether messages of which nothing is kept pay for regions that they write"
    assumptions: tuple[tuple[str, str], ...] = ()
    "What is assumed otherwise than by default: names and values of `sqlstable.ic.assumptions`"
    day: date | None = field(default=None, compare=False)
    """The day that was asked for, where one was: prices in cycles go by it. It is the same list."""

    @property
    def label(self) -> str:
        """The name, with what is assumed otherwise than by default.

        Examples:
            >>> from sqlstable.ic.assumptions import assumed
            >>> assumed(PRICE_REGIMES["memory-tracker"], {"stable-write-charges": "once"}).label
            'memory-tracker, stable-write-charges=once'
        """
        return ", ".join((self.name, *(f"{name}={value}" for name, value in self.assumptions)))

    @property
    def charges_heap(self) -> bool:
        """Whether what is touched in the heap costs anything."""
        costs = self.costs
        return bool(
            self.charges_heap_at_end or costs.heap_region_accessed or costs.heap_region_written
        )

    @property
    def charges_heap_at_end(self) -> bool:
        """Whether the heap is charged when a message is over, and not where it is touched."""
        return bool(self.dirty_heap_os_page or self.dirty_heap_region)

    def for_heap(self, *, is_64: bool) -> "PriceRegime":
        """Return the regime of canisters whose heaps have addresses of a width.

        Examples:
            >>> PRICE_REGIMES["wasm-native"].for_heap(is_64=True).dirty_heap_os_page
            4000
        """
        if not is_64 or self.dirty_heap_factor_64 == self.written_heap_factor_64 == 1:
            return self
        written = self.costs.heap_region_written * self.written_heap_factor_64
        return replace(
            self,
            costs=replace(self.costs, heap_region_written=written),
            dirty_heap_os_page=self.dirty_heap_os_page * self.dirty_heap_factor_64,
            dirty_heap_region=self.dirty_heap_region * self.dirty_heap_factor_64,
            dirty_heap_factor_64=1,
            written_heap_factor_64=1,
        )

    def for_message(self, kind: str) -> "PriceRegime":
        """Return what a message of a kind pays.

        Args:
            kind: One of `sqlstable.ic.words.MESSAGE_KINDS`.
        """
        if self.charges_query_writes or kind not in DISCARDED_KINDS:
            return self
        return replace(
            self, costs=replace(self.costs, stable_region_dirty=0, heap_region_written=0)
        )

    def heap_cost(
        self, *, wasm_pages_accessed: int, wasm_pages_written: int, os_pages_written: int
    ) -> int:
        """Return what a message owes for its heap."""
        return (
            wasm_pages_accessed * self.costs.heap_region_accessed
            + wasm_pages_written * self.costs.heap_region_written
            + wasm_pages_written * self.dirty_heap_region
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


_API: Final = (
    "dfinity/ic rs/embedders/src/wasmtime_embedder/system_api_complexity.rs @ 023cfe84 and "
    "linker.rs @ 0048d8c4 (transmitted and logged bytes), both newer than 2025-01"
)
_EARLY_API: Final = f"Costs of other calls are those of later: {_API}"

_REGIMES: Final = (
    PriceRegime(
        name="system-api-2021",
        since=None,
        table=REPLICA_FLAT,
        costs=SystemCosts(dirty_os_page=0),
        dirty_heap_os_page=0,
        source=(
            "2021 to 2022-10-10: each byte of stable memory, and 20 a call since spring 2022 "
            f"(EXC-770); pages are free. {_EARLY_API}"
        ),
    ),
    PriceRegime(
        name="system-api",
        since=date(2022, 10, 11),
        table=REPLICA_FLAT,
        costs=SystemCosts(),
        dirty_heap_os_page=0,
        source=(
            "2022-10-11 (RUN-357) to 2023-06-18: 1000 for each stable OS page first dirtied. "
            f"{_EARLY_API}"
        ),
    ),
    PriceRegime(
        name="wasm-native-flat",
        since=date(2023, 6, 19),
        table=REPLICA_FLAT,
        costs=SystemCosts(),
        dirty_heap_os_page=0,
        source=(
            "2023-06-19 (dfinity/ic 91e2dd94c) to 2023-10-03: stable memory as a second Wasm "
            f"memory, at the prices of before. {_EARLY_API}"
        ),
    ),
    PriceRegime(
        name="wasm-native",
        since=date(2023, 10, 4),
        table=REPLICA,
        costs=SystemCosts(),
        dirty_heap_os_page=1000,
        dirty_heap_factor_64=4,
        source=f"2023-10-04 (RUN-792) to 2026-05-06: 1000 for each dirty OS page. {_API}",
    ),
    PriceRegime(
        name="memory-tracker-at-1",
        since=date(2026, 5, 7),
        table=REPLICA,
        costs=SystemCosts(
            stable_region_accessed=16,
            stable_region_dirty=16,
            heap_region_accessed=16,
            heap_region_written=16,
        ),
        dirty_heap_os_page=1000,
        dirty_heap_factor_64=4,
        source=(
            "2026-05-07 (base release, dfinity/ic pull request 9565) to 2026-06-30: beside what "
            "was charged before, 1 for each of the 16 OS pages of a Wasm page, when it is first "
            "accessed and when it is first written (words of pull request 10440; not compared "
            f"with code). {_API}"
        ),
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
            "pages of a Wasm page, when it is first accessed and when it is first written; feature "
            "branches from 2026-07-17, base release 2026-07-31, which subnet had it on which day "
            f"is not known. {_API}"
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


INSTALL_PER_OPERATOR: Final = 6_000
"""Instructions that installing a module costs for each of its operators, as they are compiled.

Source: dfinity/ic rs/config/src/embedders.rs DEFAULT_COST_TO_COMPILE_WASM_INSTRUCTION, 2025-10-31.
"""


def price_lists() -> Mapping[str, PriceRegime]:
    """Return all price lists by their names, the oldest first.

    Examples:
        >>> list(price_lists())[-1], price_lists()["wasm-native"].costs.dirty_os_page
        ('memory-tracker', 1000)
    """
    return PRICE_REGIMES


def regime_on(day: date) -> PriceRegime:
    """Return what the Internet Computer counted on a day.

    Examples:
        >>> regime_on(date(2022, 10, 10)).name, regime_on(date(2022, 10, 11)).name
        ('system-api-2021', 'system-api')
    """
    return [regime for regime in _REGIMES if regime.since is None or regime.since <= day][-1]


def regime_of(limits: "Limits | None") -> PriceRegime:
    """Return what the Internet Computer counted on the day of the limits; today's without limits.

    Examples:
        >>> from sqlstable.ic.limits import limits_at
        >>> regime_of(limits_at("2024-01-01")).name, regime_of(None).name
        ('wasm-native', 'memory-tracker')
    """
    return regime_on(date.max if limits is None else limits.date)


def resolve_prices(
    prices: PriceRegime | date | str | None, limits: "Limits | None" = None
) -> PriceRegime:
    """Return the price list that ``prices`` names.

    Args:
        prices: A price list, its name, a day on which it held, or ``"latest"``; None: that of the
            limits' day.
        limits: Those that hold beside it.

    Raises:
        SettingsError: There is no such list, or nothing is known of that day.

    Examples:
        >>> resolve_prices("wasm-native").name, resolve_prices("2023-07-01").name
        ('wasm-native', 'wasm-native-flat')
    """
    if isinstance(prices, PriceRegime):
        return prices
    if prices is None:
        return regime_of(limits)
    if not isinstance(prices, date):
        if prices in PRICE_REGIMES:
            return PRICE_REGIMES[prices]
        if prices == "latest":
            return regime_of(None)
        try:
            prices = date.fromisoformat(prices)
        except (TypeError, ValueError):
            raise SettingsError(
                f"{prices!r} is neither a price list nor a date; the lists are "
                f"{', '.join(PRICE_REGIMES)}, and a date is written YYYY-MM-DD"
            ) from None
    day = calendar_day(prices)
    if day < EARLIEST_PRICES_DATE:
        raise SettingsError(
            f"no prices are known on {day}; the earliest date is {EARLIEST_PRICES_DATE}"
        )
    return replace(regime_on(day), day=day)
