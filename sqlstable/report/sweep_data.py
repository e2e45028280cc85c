"""A script under several settings, as CSV and JSON: one row for each combination."""

import json
from collections.abc import Iterator, Sequence

from sqlstable.analysis.advice.advice import Advice
from sqlstable.analysis.scaling.pareto import SweepResults, SweepRow
from sqlstable.report.as_csv import csv_lines
from sqlstable.report.as_json import Json

SWEEP_FORMAT = "sqlstable-sweep"
SWEEP_VERSION = 1

_FIELDS = (
    *("instructions", "os_pages_accessed", "os_pages_dirty", "stable_bytes", "used_bytes"),
    "failure",
)


def render_sweep_csv(found: SweepResults) -> Iterator[str]:
    """Yield lines of CSV, one for each row."""
    header = ("number", *found.varied, *_FIELDS, "is_on_front")
    rows = (
        (
            row.number,
            *(row.choices.get(name) for name in found.varied),
            *(value for value in _values(row).values()),
            row.is_on_front,
        )
        for row in found.rows
    )
    return csv_lines([header, *rows])


def render_sweep_json(
    found: SweepResults, *, advice: Sequence[Advice], design: str
) -> Iterator[str]:
    """Yield pieces of JSON text: the same text for the same runs, in ASCII."""
    yield json.dumps(sweep_document(found, advice=advice, design=design), indent=2) + "\n"


def sweep_document(
    found: SweepResults, *, advice: Sequence[Advice], design: str
) -> dict[str, Json]:
    """Return the rows as plain data; what does not apply is null."""
    return {
        "format": SWEEP_FORMAT,
        "version": SWEEP_VERSION,
        "design": design,
        "varied": list(found.varied),
        "work": "instructions" if found.has_instructions else "os_pages_accessed",
        "front": [row.number for row in found.front],
        "rows": [_row(row) for row in found.rows],
        "advice": [
            {
                "code": it.code,
                "sentence": it.sentence,
                "cites": list(it.cites),
                "gain": it.gain,
                "rows": list(it.statements),
            }
            for it in advice
        ],
    }


def _row(row: SweepRow) -> dict[str, Json]:
    return {
        "number": row.number,
        "choices": dict(row.choices),
        "settings": dict(row.result.settings),
        **_values(row),
        "is_on_front": row.is_on_front,
    }


def _values(row: SweepRow) -> dict[str, int | str | None]:
    """Return what a row came to; of one that failed only why."""
    result = row.result
    if result.failure is not None:
        return {**dict.fromkeys(_FIELDS), "failure": result.failure}
    return {name: getattr(result, name) for name in _FIELDS}
