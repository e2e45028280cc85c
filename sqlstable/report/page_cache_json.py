"""What other sizes of SQLite's page cache would come to, as JSON."""

from collections.abc import Mapping

from sqlstable.analysis.trace_source import TraceSource
from sqlstable.analysis.whatif.estimate import Estimate
from sqlstable.analysis.whatif.page_cache import CacheEstimate, page_cache_what_if
from sqlstable.errors import TraceError
from sqlstable.report.as_json import Json


def page_cache_json(trace: TraceSource) -> Mapping[str, Json]:
    """Return predictions; where there are none, why."""
    try:
        found = page_cache_what_if(trace)
    except TraceError as error:
        return {"refused": str(error), "fits_from": None, "prices": None, "sizes": []}
    return {
        "refused": None,
        "fits_from": found.fits_from,
        "prices": found.prices,
        "sizes": [_size(row) for row in (found.recorded, *found.rows)],
    }


def _size(row: CacheEstimate) -> Mapping[str, Json]:
    return {
        "cache_size": row.cache_size,
        "reads": _estimate(row.reads),
        "writes": _estimate(row.writes),
        "os_pages_accessed": _estimate(row.os_pages_accessed),
        "instructions": None if row.instructions is None else _estimate(row.instructions),
    }


def _estimate(estimate: Estimate) -> Mapping[str, Json]:
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high}
