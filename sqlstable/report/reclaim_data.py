"""Ways to give free SQLite pages back, as CSV and JSON: one row for each."""

import json
from collections.abc import Iterator
from dataclasses import asdict

from sqlstable.analysis.reclaimable import ReclaimReport, Way
from sqlstable.report.as_csv import csv_lines
from sqlstable.report.as_json import Json
from sqlstable.trace.model import LimitUse

RECLAIM_FORMAT = "sqlstable-reclaim"
RECLAIM_VERSION = 1

_COUNTS = (
    *("messages", "messages_run", "file_bytes", "free_sqlite_pages", "stable_bytes"),
    *("os_pages_accessed", "os_pages_dirty", "instructions"),
)


def render_reclaim_csv(report: ReclaimReport) -> Iterator[str]:
    """Yield lines of CSV: what there is, the ways, and new images of the vacuumed database."""
    header = (
        *("kind", "name", "file_bytes_before", "free_sqlite_pages_before", "stable_bytes_before"),
        *_COUNTS,
        *("limit", "limit_used", "limit_value", "fits", "fits_upgrade", "failure"),
    )
    before = (report.file_bytes, report.free_sqlite_pages, report.stable_bytes)
    rows: list[tuple[str | int | float | bool | None, ...]] = [
        (
            *(way.kind, way.name, *before),
            *(getattr(way, name) for name in _COUNTS),
            *_limit_fields(way.tightest),
            *(way.fits, way.fits_upgrade, way.failure),
        )
        for way in report.ways
    ]
    for image in report.images:
        name = (
            image.layout if image.bucket_pages is None else f"{image.layout} {image.bucket_pages}"
        )
        sizes = (report.vacuum.file_bytes, 0, image.stable_bytes)
        rows.append(("image", name, *before, None, None, *sizes, *([None] * 9)))
    return csv_lines([header, *rows])


def render_reclaim_json(report: ReclaimReport) -> Iterator[str]:
    """Yield pieces of JSON text, in ASCII."""
    yield json.dumps(reclaim_document(report), indent=2) + "\n"


def reclaim_document(report: ReclaimReport) -> dict[str, Json]:
    """Return the report as plain data; what does not apply is null."""
    return {
        "format": RECLAIM_FORMAT,
        "version": RECLAIM_VERSION,
        "source": report.source,
        "settings": {name: _plain(value) for name, value in report.settings.items()},
        "page_size": report.page_size,
        "file_bytes": report.file_bytes,
        "free_sqlite_pages": report.free_sqlite_pages,
        "auto_vacuum": report.auto_vacuum,
        "stable_bytes": report.stable_bytes,
        "bucket_bytes": report.bucket_bytes,
        "parts": [asdict(part) for part in report.parts],
        "ways": [_way(way) for way in report.ways],
        "images": [asdict(image) for image in report.images],
        "advice": list(report.advice),
    }


def _way(way: Way) -> dict[str, Json]:
    return {
        "kind": way.kind,
        "name": way.name,
        "sql": list(way.sql),
        **{name: getattr(way, name) for name in _COUNTS},
        "tightest": None if way.tightest is None else asdict(way.tightest),
        "upgrade_tightest": None if way.upgrade_tightest is None else asdict(way.upgrade_tightest),
        "fits": way.fits,
        "fits_upgrade": way.fits_upgrade,
        "failure": way.failure,
    }


def _limit_fields(use: LimitUse | None) -> tuple[str | int | None, ...]:
    return (None, None, None) if use is None else (use.name, use.used, use.limit)


def _plain(value: object) -> str | int | float | bool | None:
    return value if value is None or isinstance(value, str | int | float) else str(value)
