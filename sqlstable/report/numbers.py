"""Numbers as people read them, as cells of a notebook spell them, too."""

from sqlstable.analysis.spelled_numbers import (
    COUNT_SPELLED_MAX,
    UNKNOWN,
    bar,
    count,
    counted,
    percent,
    size,
)

__all__ = ["COUNT_SPELLED_MAX", "UNKNOWN", "bar", "count", "counted", "percent", "size"]
