"""How a script grows, as CSV and JSON: every series with its fit, limits, plans and the check."""

import json
from collections.abc import Iterator

from sqlstable.analysis.scaling.growing import Checked, Grown, ScaleResults, Series
from sqlstable.analysis.scaling.laws import CONFIDENCE
from sqlstable.report.as_csv import csv_lines
from sqlstable.report.as_json import Json
from sqlstable.report.view import Row

SCALE_FORMAT = "sqlstable-scale"
SCALE_VERSION = 1

_HEADER = (
    *("level", "index", "message", "kind", "label", "text", "measure", "sizes", "values"),
    *("law", "a", "b", "exponent", "exponent_low", "exponent_high", "is_power_law", "no_fit"),
    *("check_size", "check_real", "check_predicted", "check_low", "check_high", "check_inside"),
)


def render_scale_csv(found: ScaleResults) -> Iterator[str]:
    """Yield lines of CSV: one row for each measure of the run, a message or a statement."""
    return csv_lines([_HEADER, *_rows(found)])


def render_scale_json(found: ScaleResults) -> Iterator[str]:
    """Yield pieces of JSON text: the same text for the same runs, in ASCII."""
    yield json.dumps(scale_document(found), indent=2, allow_nan=False) + "\n"


def scale_document(found: ScaleResults) -> dict[str, Json]:
    """Return what was fitted as plain data; what does not apply is null."""
    check = found.check
    return {
        "format": SCALE_FORMAT,
        "version": SCALE_VERSION,
        "confidence": CONFIDENCE,
        "parameter": found.parameter,
        "fixed_parameters": dict(found.fixed),
        "sizes": list(found.sizes),
        "settings": {name: _plain(value) for name, value in found.settings.items()},
        "run": _grown(found.run),
        "messages": [_grown(it) for it in found.messages],
        "statements": [_grown(it) for it in found.statements],
        "limits": [
            {
                "level": it.grown.level,
                "index": it.grown.index,
                "limit": it.limit.name,
                "limit_value": it.limit.limit,
                "observed_between": None if it.observed is None else list(it.observed),
                "size": it.size,
                "size_low": it.low,
                "size_high": it.high,
                "times_beyond_largest": None if it.size is None else it.size / found.sizes[-1],
            }
            for it in found.reaches
        ],
        "plan_changes": [
            {
                "statement": grown.index,
                "sizes": [it.before_size, it.after_size],
                "plans": [list(it.before_plan), list(it.after_plan)],
                "os_pages_accessed": [it.before_os_pages_accessed, it.after_os_pages_accessed],
            }
            for grown, it in found.plan_changes
        ],
        "failures": [{"size": size, "failure": text} for size, text in found.failures],
        "check": None
        if check is None
        else {
            "size": check.size,
            "failure": check.failure,
            "predictions": [_checked(row) for row in check.rows],
        },
    }


def _grown(grown: Grown) -> dict[str, Json]:
    return {
        "index": grown.index,
        "message": grown.message,
        "kind": grown.kind,
        "label": grown.label,
        "text": grown.text,
        "measures": {it.measure: _series(it) for it in grown.series},
    }


def _series(series: Series) -> dict[str, Json]:
    found = series.fit
    return {
        "sizes": list(series.sizes),
        "values": list(series.values),
        "no_fit": series.reason or None,
        "law": None if found is None else found.best.name,
        "coefficients": None if found is None else list(found.best.coefficients),
        "laws_standing": [] if found is None else [law.name for law in found.laws],
        "exponent": None
        if found is None
        else {
            "value": found.exponent.value,
            "low": found.exponent.low,
            "high": found.exponent.high,
            "is_power_law": found.exponent.is_power_law,
        },
    }


def _checked(row: Checked) -> dict[str, Json]:
    return {
        "level": row.grown.level,
        "index": row.grown.index,
        "measure": row.measure,
        "real": row.real,
        "predicted": row.prediction.value,
        "low": row.prediction.low,
        "high": _plain(row.prediction.high),
        "inside": row.is_inside,
    }


def _plain(value: object) -> Json:
    if isinstance(value, float) and value in (float("inf"), float("-inf")):
        return None
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _rows(found: ScaleResults) -> Iterator[Row]:
    rows = () if found.check is None else found.check.rows
    checked = {(row.grown.level, row.grown.key, row.measure): row for row in rows}
    for grown in (found.run, *found.messages, *found.statements):
        for series in grown.series:
            row = checked.get((grown.level, grown.key, series.measure))
            yield (*_place(grown), *_fitted(series), *_real(row, found))


def _place(grown: Grown) -> Row:
    return (grown.level, grown.index, grown.message, grown.kind, grown.label, grown.text)


def _fitted(series: Series) -> Row:
    sizes, values = (" ".join(f"{it:.17g}" for it in row) for row in (series.sizes, series.values))
    if series.fit is None:
        return (series.measure, sizes, values, *(None,) * 7, series.reason)
    law, exponent = series.fit.best, series.fit.exponent
    return (
        *(series.measure, sizes, values, law.name, *law.coefficients),
        *(exponent.value, exponent.low, exponent.high, exponent.is_power_law, None),
    )


def _real(row: Checked | None, found: ScaleResults) -> Row:
    if row is None or found.check is None:
        return (None,) * 6
    said = row.prediction
    return (found.check.size, row.real, said.value, said.low, said.high, row.is_inside)
