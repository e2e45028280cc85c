"""The miss-ratio curve of SQLite pages alone, without the other figures of a pass."""

from sqlstable.analysis.locality.page_history import PageHistory
from sqlstable.analysis.locality.reuse import (
    MissRatioCurve,
    ReuseCounts,
    ReuseDistances,
    miss_ratio_curve,
)
from sqlstable.analysis.trace_source import TraceSource


def sqlite_miss_ratio(trace: TraceSource) -> MissRatioCurve | None:
    """Return what a cache of SQLite pages of the main database would miss, for every size.

    Returns:
        The curve that `sqlstable.analysis.locality.locality.locality` has for the unit ``sqlite``;
        None where a trace does not say how large SQLite pages are.

    Source: as `MissRatioCurve`.
    """
    page_bytes = trace.settings.values.get("page_size")
    if not isinstance(page_bytes, int) or page_bytes < 1:
        return None
    history, distances, counts = PageHistory(), ReuseDistances(), ReuseCounts()
    for block in trace.access_blocks(owners=False):
        _, numbers = block.sqlite_pages(page_bytes)
        counts.add(distances.feed(history.feed(numbers).previous))
    return miss_ratio_curve(counts.histogram())
