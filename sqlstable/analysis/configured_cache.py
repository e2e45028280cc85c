"""The page cache that a trace was recorded with, to be marked in pictures of other caches."""

from sqlstable.analysis.trace_source import TraceSource
from sqlstable.ic.units import KIB


def configured_cache_pages(trace: TraceSource) -> int | None:
    """Return the SQLite pages that SQLite's own cache may hold; None where a trace does not say.

    Source: https://www.sqlite.org/pragma.html#pragma_cache_size: a negative value is in KiB.
    """
    size, page_bytes = (trace.settings.values.get(name) for name in ("cache_size", "page_size"))
    if not isinstance(size, int) or not isinstance(page_bytes, int) or page_bytes <= 0:
        return None
    return size if size >= 0 else -size * KIB // page_bytes
