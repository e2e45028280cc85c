"""Benchmarks as CSV, in the columns of ``canbench`` with further ones behind them, and as JSON."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from typing import Final

from sqlstable.analysis.benching.bench_changes import BenchEntry, MetricChange
from sqlstable.analysis.benching.measured_bench import METRICS, BenchResult, Touched
from sqlstable.report.as_csv import csv_lines
from sqlstable.report.as_json import Json
from sqlstable.report.view import Field, Row

BENCH_FORMAT: Final = "sqlstable-bench"
BENCH_VERSION: Final = 1

_INFINITE: Final = "1.0E99"
"""What ``canbench`` writes where something came out of nothing."""

_TOUCHED: Final = tuple(field.name for field in fields(Touched))

_HEADER: Final = (
    *("status", "name", "scope_calls", "scope_calls Δ", "scope_calls Δ%"),
    *(f"{metric}{what}" for metric in METRICS for what in ("", " Δ", " Δ%")),
    *(f"message_{name}" for name in _TOUCHED),
)


def render_bench_csv(
    entries: Sequence[BenchEntry], results: Mapping[str, BenchResult]
) -> Iterator[str]:
    """Yield lines of CSV: one row for each benchmark, and one for each scope."""
    return csv_lines([_HEADER, *(_row(entry, results) for entry in entries)])


def _row(entry: BenchEntry, results: Mapping[str, BenchResult]) -> Row:
    cells: list[Field] = ["new" if entry.is_new else "", entry.name]
    cells += ["", "", ""] if entry.scope is None else _cells(entry.changes["calls"])
    for metric in METRICS:
        cells += _cells(entry.changes[metric])
    touched = results[entry.bench].touched if entry.scope is None else None
    return [*cells, *(None if touched is None else getattr(touched, name) for name in _TOUCHED)]


def _cells(change: MetricChange) -> list[Field]:
    percent = change.percent
    if percent is None:
        return [change.current, "", ""]
    sign = "-" if percent < 0 else ""
    shown = sign + _INFINITE if math.isinf(percent) else f"{percent:.2f}%"
    return [change.current, change.delta, shown]


def render_bench_json(
    entries: Sequence[BenchEntry],
    results: Mapping[str, BenchResult],
    settings: Mapping[str, Json],
    noise_percent: float,
) -> Iterator[str]:
    """Yield pieces of JSON text, in ASCII."""
    document = {
        "format": BENCH_FORMAT,
        "version": BENCH_VERSION,
        "settings": dict(settings),
        "noise_threshold_percent": noise_percent,
        "benchmarks": [_bench(it, entries, results, noise_percent) for it in sorted(results)],
    }
    yield json.dumps(document, indent=2, allow_nan=False) + "\n"


def _bench(
    name: str,
    entries: Sequence[BenchEntry],
    results: Mapping[str, BenchResult],
    noise_percent: float,
) -> dict[str, Json]:
    mine = [it for it in entries if it.bench == name]
    touched = results[name].touched
    return {
        "name": name,
        "total": _measured(mine[0], noise_percent),
        "scopes": {it.scope: _measured(it, noise_percent) for it in mine[1:] if it.scope},
        "message": None if touched is None else asdict(touched),
    }


def _measured(entry: BenchEntry, noise_percent: float) -> dict[str, Json]:
    found: dict[str, Json] = {"calls": entry.changes["calls"].current}
    for metric in METRICS:
        change = entry.changes[metric]
        found[metric] = {
            "value": change.current,
            "previous": change.previous,
            "change": change.kind(noise_percent),
        }
    return found
