"""What the sources of the price lists leave open, as named parameters with a default each.

A price list stands for the defaults. `assumed` returns it under other values, and
`assumptions_of` says what one that is given assumes. Nothing here is known for certain: that is
why it can be chosen, and why reports state it.

**Invariants**

- The default of an assumption changes no price list: `PRICE_REGIMES` holds it already.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from sqlstable.errors import SettingsError
from sqlstable.ic.prices import PRICE_REGIMES, PriceRegime
from sqlstable.ic.units import OS_PAGES_PER_WASM_PAGE
from sqlstable.ic.weights import REPLICA_2023
from sqlstable.spelling import spelled


@dataclass(frozen=True, slots=True)
class Assumption:
    """One thing that the sources leave open."""

    name: str
    meaning: str
    "The question, in words."
    values: Mapping[str, str]
    "What can be assumed, and what each value means; the default is the first."
    lists: tuple[str, ...]
    "Names of the price lists that it concerns."
    source: str
    "Why it is open."
    change: Callable[[PriceRegime, str], PriceRegime]
    "Returns a price list under a value that is not the default."

    @property
    def default(self) -> str:
        """What is assumed when nothing is said."""
        return next(iter(self.values))


def _with_costs(regime: PriceRegime, **costs: int) -> PriceRegime:
    return replace(regime, costs=replace(regime.costs, **costs))


def _heap_dirty_unit(regime: PriceRegime, value: str) -> PriceRegime:
    units = 1 if value == "wasm-page" else OS_PAGES_PER_WASM_PAGE
    return replace(
        regime, dirty_heap_os_page=0, dirty_heap_region=regime.dirty_heap_os_page * units
    )


_TRACKERS: Final = ("memory-tracker-at-1", "memory-tracker")

_ALL: Final = (
    Assumption(
        name="stable-write-charges",
        meaning="How often is a region of stable memory charged that is written?",
        values={
            "twice": "when it is first accessed, and once more when it is first written",
            "once": "when it is first accessed",
        },
        lists=_TRACKERS,
        source=(
            "two charges were measured of the heap; the tracker of stable memory ran in a mode "
            "that ignores dirty pages in code of 2025-10, so that it may charge once"
        ),
        change=lambda regime, _: _with_costs(regime, stable_region_dirty=0),
    ),
    Assumption(
        name="query-write-charges",
        meaning="Is a query charged for regions that it writes, beside their access?",
        values={
            "yes": "as an update is",
            "no": "a region of heap or stable memory costs its access alone",
        },
        lists=_TRACKERS,
        source=(
            "dfinity/ic rs/memory_tracker/src/deterministic.rs says that dirty pages are ignored "
            "where they are not tracked, as in queries; not read in code of 2026-07"
        ),
        change=lambda regime, _: replace(regime, charges_query_writes=False),
    ),
    Assumption(
        name="heap-dirty-unit",
        meaning="What is the unit of the charge for heap that was written, at a message's end?",
        values={
            "os-page": "1,000 for each OS page that was written",
            "wasm-page": "1,000 for each Wasm page in which anything was written",
            "whole-region": "16,000 for each such Wasm page: all its OS pages count as dirty",
        },
        lists=("wasm-native", "memory-tracker-at-1"),
        source=(
            "sources speak of dirty heap pages; OS pages are what the tracker of 2025-10 counts, "
            "and the deterministic one of 2026 lists all 16 of a region"
        ),
        change=_heap_dirty_unit,
    ),
    Assumption(
        name="wasm64-heap-factor",
        meaning="How many times as much does written heap cost, at 64-bit addresses?",
        values={"1": "as at 32-bit addresses", "4": "as under wasm-native"},
        lists=("memory-tracker",),
        source="dfinity/ic pull request 1725 for dirty pages, 2024-11-01; not read for the tracker",
        change=lambda regime, value: replace(regime, written_heap_factor_64=int(value)),
    ),
    Assumption(
        name="stable-call-charge",
        meaning="What does a read or write of stable memory cost beside its bytes?",
        values={"20": "20 instructions", "0": "nothing"},
        lists=("system-api-2021", "memory-tracker"),
        source=(
            "20 since spring 2022 (EXC-770), on which day is not known; that the tracker's prices "
            "left it as it was is not verified"
        ),
        change=lambda regime, value: _with_costs(regime, stable_access=int(value)),
    ),
    Assumption(
        name="stable-grow-charge",
        meaning="What does growing stable memory cost, where it was no Wasm memory?",
        values={"100": "100 instructions, as since", "500": "500, as other calls"},
        lists=("system-api-2021", "system-api"),
        source=(
            "dfinity/ic rs/embedders/src/wasmtime_embedder/system_api_complexity.rs has 500 for "
            "what is not Wasm-native, in code newer than 2025-01"
        ),
        change=lambda regime, value: _with_costs(regime, stable_grow=int(value)),
    ),
    Assumption(
        name="float-weights",
        meaning="Which weights has computing with floats?",
        values={
            "today": "2 to 18 by operator",
            "2023": "20, as when operators were first told apart",
        },
        lists=("wasm-native",),
        source="until when the weights of 2023-10-04 held is not known",
        change=lambda regime, _: replace(regime, table=REPLICA_2023),
    ),
)

ASSUMPTIONS: Final[Mapping[str, Assumption]] = MappingProxyType({it.name: it for it in _ALL})
"""All of them by their names."""

assert len(ASSUMPTIONS) == len(_ALL), "two assumptions share a name"
assert all({*it.lists} <= {*PRICE_REGIMES} for it in _ALL)


def assumed(regime: PriceRegime, values: Mapping[str, str]) -> PriceRegime:
    """Return a price list under other assumptions.

    Args:
        regime: A price list, for no kind of heap or message yet.
        values: By the names of assumptions; those that do not concern the list change nothing.

    Raises:
        SettingsError: There is no such assumption, or it cannot have that value.

    Examples:
        >>> once = assumed(PRICE_REGIMES["memory-tracker"], {"stable-write-charges": "once"})
        >>> once.stable_page_cost(wasm_pages_accessed=1, wasm_pages_dirty=1, os_pages_dirty=1)
        80000
    """
    changed = regime
    for name, value in check_assumptions(values).items():
        assumption = ASSUMPTIONS[name]
        if regime.name not in assumption.lists or value == _value(regime, assumption):
            continue
        assert name not in dict(regime.assumptions), "a list that assumes otherwise already"
        changed = replace(
            assumption.change(changed, value), assumptions=(*changed.assumptions, (name, value))
        )
    return changed


def check_assumptions(values: Mapping[str, str]) -> Mapping[str, str]:
    """Return assumptions that exist, with values that they can have, in the order of their list.

    Raises:
        SettingsError: There is no such assumption, or it cannot have that value.
    """
    for name, value in values.items():
        assumption = ASSUMPTIONS.get(name)
        if assumption is None:
            raise SettingsError(
                f"there is no assumption {name!r}; there are {', '.join(ASSUMPTIONS)}"
            )
        if value not in assumption.values:
            raise SettingsError(
                f"{name} is {value!r}; it must be one of {', '.join(assumption.values)}"
            )
    return {name: values[name] for name in ASSUMPTIONS if name in values}


def assumptions_of(regime: PriceRegime) -> dict[str, str]:
    """Return what a price list assumes, by the names of the assumptions that concern it.

    Examples:
        >>> assumptions_of(PRICE_REGIMES["wasm-native"])
        {'heap-dirty-unit': 'os-page', 'float-weights': 'today'}
    """
    return {it.name: _value(regime, it) for it in _ALL if regime.name in it.lists}


def reaches_stable(name: str, prices: str) -> bool:
    """Tell whether an assumption changes what a list charges for stable memory.

    The others are about the heap or about computation.

    Args:
        name: Of the assumption.
        prices: Name of a list that it concerns.

    Examples:
        >>> tracker = PRICE_REGIMES["memory-tracker"]
        >>> [it for it in assumptions_of(tracker) if not reaches_stable(it, tracker.name)]
        ['wasm64-heap-factor']
    """
    before = PRICE_REGIMES[prices]
    others = [assumed(before, {name: value}) for value in ASSUMPTIONS[name].values]
    return any(
        (it.costs, it.charges_query_writes) != (before.costs, before.charges_query_writes)
        for it in others
    )


def check_counted(regime: PriceRegime) -> PriceRegime:
    """Return a price list that can be counted while messages run.

    Raises:
        SettingsError: It charges queries otherwise than updates, which is worked out afterwards.
    """
    if not regime.charges_query_writes:
        way = spelled(
            'repriced(trace, assume={"query-write-charges": "no"})',
            "sqlstable report TRACE --assume query-write-charges=no",
        )
        raise SettingsError(
            "query-write-charges=no is worked out from a trace, and not while it is recorded; run "
            f"without it, and price the trace: {way}"
        )
    return regime


def price_settings(regime: PriceRegime) -> dict[str, object]:
    """Return what the settings of a trace say of its prices.

    Examples:
        >>> price_settings(PRICE_REGIMES["system-api"])
        {'prices': 'system-api', 'assumptions': {'stable-grow-charge': '100'}}
    """
    day = {} if regime.day is None else {"prices_day": regime.day.isoformat()}
    return {"prices": regime.name, **day, "assumptions": assumptions_of(regime)}


def parsed_assumptions(texts: Iterable[str]) -> dict[str, str]:
    """Return assumptions that are written as NAME=VALUE.

    Raises:
        SettingsError: One is not, one is named twice, or is not known.
    """
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise SettingsError(
                f"{text!r} is not NAME=VALUE, as in stable-write-charges=once; the names are "
                f"{', '.join(ASSUMPTIONS)}"
            )
        if name in found:
            raise SettingsError(f"{name} is assumed twice, as {found[name]} and as {value}")
        found[name] = value
    return dict(check_assumptions(found))


def _value(regime: PriceRegime, assumption: Assumption) -> str:
    return dict(regime.assumptions).get(assumption.name, assumption.default)
