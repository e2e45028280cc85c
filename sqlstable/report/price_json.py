"""Price lists, comparisons of them and what they assume, as JSON and CSV."""

import json
from collections.abc import Iterator, Mapping
from typing import Final

from sqlstable.analysis.pricing.price_comparison import (
    AssumedTotal,
    ComparedRow,
    PriceComparison,
    Sensitivity,
    rows_of,
    shares,
    times,
)
from sqlstable.analysis.pricing.price_examples import EXAMPLES
from sqlstable.analysis.pricing.trace_prices import recorded_prices
from sqlstable.ic.assumptions import ASSUMPTIONS, assumptions_of
from sqlstable.ic.prices import PriceRegime
from sqlstable.ic.pricing import Spent
from sqlstable.ic.weights import WeightTable
from sqlstable.report.as_csv import csv_lines
from sqlstable.report.as_json import Json
from sqlstable.report.price_words import (
    HEAP_UNITS,
    computation_formula,
    heap_formula,
    stable_formula,
    until,
)
from sqlstable.trace.model import TraceSettings

LISTS_FORMAT: Final = "sqlstable-prices"
COMPARISON_FORMAT: Final = "sqlstable-price-comparison"
SENSITIVITY_FORMAT: Final = "sqlstable-price-sensitivity"
VERSION: Final = 1
"""Raised only when a field changes its meaning or goes; new fields do not raise it."""


def price_lists_json(lists: tuple[PriceRegime, ...], *, weights: bool) -> str:
    """Return price lists as one JSON document.

    Args:
        lists: Those wanted.
        weights: Whether the weight of each operator is told, too.
    """
    tables = {it.table.name: it.table for it in lists}
    concerned = {name for it in lists for name in assumptions_of(it)}
    return _dumped(
        {
            "format": LISTS_FORMAT,
            "version": VERSION,
            "prices": [_price_list(it) for it in lists],
            "assumptions": [
                {
                    "name": it.name,
                    "meaning": it.meaning,
                    "values": dict(it.values),
                    "default": it.default,
                    "prices": list(it.lists),
                    "source": it.source,
                }
                for it in ASSUMPTIONS.values()
                if it.name in concerned
            ],
            "weights": [_weights(it, whole=weights) for it in tables.values()],
        }
    )


def _price_list(regime: PriceRegime) -> dict[str, Json]:
    last = until(regime)
    costs = regime.costs
    return {
        "name": regime.name,
        "since": None if regime.since is None else regime.since.isoformat(),
        "until": None if last is None else last.isoformat(),
        "weights": regime.table.name,
        "formula": {
            "computation": computation_formula(regime),
            "stable": stable_formula(regime),
            "heap": heap_formula(regime),
        },
        "costs": {name: getattr(costs, name) for name in costs.__slots__ if name not in HEAP_UNITS},
        "heap": {
            **{name: getattr(costs, name) for name in HEAP_UNITS},
            "os_page_written_at_end": regime.dirty_heap_os_page,
            "wasm_page_written_at_end": regime.dirty_heap_region,
            "at_end_factor_64": regime.dirty_heap_factor_64,
            "written_factor_64": regime.written_heap_factor_64,
        },
        "charges_query_writes": regime.charges_query_writes,
        "assumptions": dict(assumptions_of(regime)),
        "examples": [
            {
                "name": it.name,
                "meaning": it.meaning,
                "instructions": it.instructions(regime),
            }
            for it in EXAMPLES
        ],
        "source": regime.source,
    }


def _weights(table: WeightTable, *, whole: bool) -> dict[str, Json]:
    return {
        "name": table.name,
        "default": table.default,
        "function_entry": table.function_entry,
        "per_unit": table.per_unit,
        "operators": dict(sorted(table.weights.items())) if whole else None,
        "operators_64": dict(sorted(table.weights_64.items())) if whole else None,
        "source": table.source,
    }


def price_comparison_json(found: PriceComparison) -> str:
    """Return a comparison of price lists as one JSON document."""
    return _dumped(
        {
            "format": COMPARISON_FORMAT,
            "version": VERSION,
            "recorded": _recorded(found.settings),
            "today": found.lists[found.today].name,
            "prices": [
                {"name": it.name, "assumptions": dict(assumptions_of(it))} for it in found.lists
            ],
            "by": found.by,
            "rows": [_compared(found, row) for row in found.rows],
            "total": _compared(found, found.total),
        }
    )


def _compared(found: PriceComparison, row: ComparedRow) -> dict[str, Json]:
    today = row.spent[found.today]
    return {
        "name": row.name,
        "index": row.index,
        "count": row.count,
        "instructions": {
            regime.name: {**_spent(spent), "times_today": _rounded(times(spent, today))}
            for regime, spent in zip(found.lists, row.spent, strict=True)
        },
    }


def _spent(spent: Spent) -> dict[str, Json]:
    return {
        "total": spent.total,
        "computation": spent.computation,
        "stable": spent.stable,
        "heap": spent.heap,
        "shares": {name: _rounded(share) for name, share in shares(spent).items()},
    }


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, 6)


def price_comparison_csv(found: PriceComparison) -> Iterator[str]:
    """Yield a comparison as lines of CSV, one for each row under each list."""
    yield from csv_lines([_CSV_HEADER, *_csv_rows(found)])


_CSV_HEADER: Final = (
    *("by", "index", "name", "count", "prices"),
    *("instructions_total", "instructions_computation", "instructions_stable"),
    *("instructions_heap", "times_today"),
)


def _csv_rows(found: PriceComparison) -> Iterator[list[str | int | float | None]]:
    for row in rows_of(found):
        by = "trace" if row is found.total else found.by
        today = row.spent[found.today]
        for regime, spent in zip(found.lists, row.spent, strict=True):
            yield [
                *(by, row.index, row.name, row.count, regime.name),
                *(spent.total, spent.computation, spent.stable, spent.heap),
                _rounded(times(spent, today)),
            ]


def sensitivity_json(found: Sensitivity) -> str:
    """Return how far a total moves with what its prices assume, as one JSON document."""

    def moved(it: AssumedTotal) -> dict[str, Json]:
        return {
            "assumptions": dict(it.assumptions),
            "instructions": _spent(it.spent),
            "times_default": _rounded(times(it.spent, found.default)),
        }

    return _dumped(
        {
            "format": SENSITIVITY_FORMAT,
            "version": VERSION,
            "recorded": _recorded(found.settings),
            "prices": found.regime.name,
            "messages": found.message_count,
            "messages_measured": found.measured_count,
            "messages_left_out": found.left_out_count,
            "assumptions": {name: ASSUMPTIONS[name].default for name in found.names},
            "default": _spent(found.default),
            "single": [moved(it) for it in found.single],
            "least": moved(found.least),
            "most": moved(found.most),
        }
    )


def _recorded(settings: TraceSettings) -> Json:
    regime = recorded_prices(settings)
    if regime is None:
        return None
    return {"prices": regime.name, "assumptions": dict(assumptions_of(regime))}


def _dumped(document: Mapping[str, Json]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
