"""Price lists in words: what each charges for, and what it assumes."""

from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from itertools import pairwise
from typing import Final

from sqlstable.ic.assumptions import ASSUMPTIONS, assumptions_of
from sqlstable.ic.prices import PRICE_REGIMES, PriceRegime
from sqlstable.report.numbers import count

STABLE_UNITS: Final[Mapping[str, str]] = {
    "stable_access": "read or write",
    "stable_byte": "byte that they move",
    "stable_grow": "growth",
    "dirty_os_page": "OS page first written",
    "stable_region_accessed": "Wasm page first accessed",
    "stable_region_dirty": "Wasm page first written",
}
"""What stable memory is charged for, by the fields of `sqlstable.ic.prices.SystemCosts`."""

HEAP_UNITS: Final[Mapping[str, str]] = {
    "heap_region_accessed": "Wasm page first accessed",
    "heap_region_written": "Wasm page first written",
}
"""What the heap is charged for as it is touched, likewise."""


def until(regime: PriceRegime) -> date | None:
    """Return the last day of a price list; None for that of today."""
    for earlier, later in pairwise(PRICE_REGIMES.values()):
        if earlier.name == regime.name and later.since is not None:
            return later.since - timedelta(days=1)
    return None


def stable_formula(regime: PriceRegime) -> str:
    """Spell what a list charges for stable memory.

    Examples:
        >>> stable_formula(PRICE_REGIMES["wasm-native"]).split(" + ")[1:3]
        ['1 per byte that they move', '100 per growth']
    """
    return _terms((getattr(regime.costs, name), unit) for name, unit in STABLE_UNITS.items())


def heap_formula(regime: PriceRegime) -> str:
    """Spell what a list charges for the heap.

    Examples:
        >>> print(heap_formula(PRICE_REGIMES["wasm-native"]))
        1,000 per OS page written, at the end of the message (x 4 at 64-bit addresses)
    """
    at_touch = _terms((getattr(regime.costs, name), unit) for name, unit in HEAP_UNITS.items())
    if at_touch and regime.written_heap_factor_64 != 1:
        at_touch += f" (x {regime.written_heap_factor_64} where written, at 64-bit addresses)"
    at_end = _terms(
        (
            (regime.dirty_heap_os_page, "OS page written"),
            (regime.dirty_heap_region, "Wasm page in which anything was written"),
        )
    )
    if at_end:
        at_end += ", at the end of the message"
        if regime.dirty_heap_factor_64 != 1:
            at_end += f" (x {regime.dirty_heap_factor_64} at 64-bit addresses)"
    return " + ".join(filter(None, (at_touch, at_end))) or "nothing"


def computation_formula(regime: PriceRegime) -> str:
    """Spell what a list charges for the rest."""
    return (
        f"operators by the weights {regime.table.name}; system calls, most of them "
        f"{regime.costs.call}, and {regime.costs.copied_byte} per byte copied"
    )


def _terms(charges: Iterator[tuple[int, str]] | tuple[tuple[int, str], ...]) -> str:
    return " + ".join(f"{count(price)} per {unit}" for price, unit in charges if price)


def assumption_words(regime: PriceRegime) -> str:
    """Spell what a list assumes; empty where it leaves nothing open.

    Examples:
        >>> assumption_words(PRICE_REGIMES["wasm-native"])
        'heap-dirty-unit os-page, float-weights today'
        >>> assumption_words(PRICE_REGIMES["wasm-native-flat"])
        ''
    """
    chosen = dict(regime.assumptions)
    return ", ".join(
        f"{name} {value}" + (" (chosen)" if name in chosen else "")
        for name, value in assumptions_of(regime).items()
    )


def default_words(values: Mapping[str, str]) -> str:
    """Spell assumptions as ``--assume`` takes them; ``defaults`` where there is none."""
    return ", ".join(f"{name}={values[name]}" for name in ASSUMPTIONS if name in values) or "none"
