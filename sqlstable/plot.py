"""Pictures of traces with matplotlib, for notebooks and papers: ``import sqlstable.plot``.

Each function draws into the axes that it is given, in the reader's own style, or makes a figure of
its own, as wide as a column of a paper. It returns the axes. Colours can be told apart by
colour-blind readers, and names of tables are drawn as they are, whatever is in them.

Needs the extra ``plot``. ``sqlstable report TRACE --picture NAME --output FILE`` makes files.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from sqlstable.analysis.configured_cache import configured_cache_pages
from sqlstable.analysis.locality.locality import Locality, locality
from sqlstable.analysis.page_map import PageMap
from sqlstable.analysis.page_map import page_map as mapped
from sqlstable.analysis.page_time import page_time as timed
from sqlstable.analysis.trace_source import TraceSource
from sqlstable.report.call_words import is_of_module
from sqlstable.report.locality_words import sqlite_locality
from sqlstable.report.map_look import MapBy, MapCurve
from sqlstable.report.picture_names import drawing_room

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "growth",
    "hot_set",
    "miss_ratio",
    "page_map",
    "page_time",
    "regions",
    "reuse",
    "working_set",
]

# Where matplotlib is missing, the import says what to install.
_drawing = drawing_room()


def page_map(
    source: TraceSource | PageMap,
    ax: "Axes | None" = None,
    *,
    by: MapBy = "owner",
    curve: MapCurve = "hilbert",
) -> "Axes":
    """Draw where in stable memory the OS pages lie that were touched.

    Args:
        source: A trace, or its `sqlstable.analysis.page_map.PageMap`.
        ax: Where to draw; None for a new figure.
        by: What the cells show: owner, accesses, writer (the message that wrote last), or age.
        curve: How cells follow each other: hilbert, snake or linear.

    Examples:
        >>> import matplotlib; matplotlib.use("agg")
        >>> import sqlstable, sqlstable.plot
        >>> canister = sqlstable.Canister(trace=":memory:")
        >>> reply = canister.update("CREATE TABLE t (a)")
        >>> sqlstable.plot.page_map(canister.trace()).get_title(loc="left")
        'Stable memory, a cell: 1 OS page'
        >>> canister.close()
    """
    found = source if isinstance(source, PageMap) else mapped(source)
    return _drawn(ax, lambda axes: _drawing.draw_page_map(axes, found, by, curve))


def page_time(trace: TraceSource, ax: "Axes | None" = None) -> "Axes":
    """Draw when which OS pages were touched: a scan is a slope, a hot set a line across.

    Args:
        trace: The trace.
        ax: Where to draw; None for a new figure.
    """
    found = mapped(trace)
    counts = timed(trace, found)
    return _drawn(ax, lambda axes: _drawing.draw_page_time(axes, found, counts))


def reuse(source: TraceSource | Locality, ax: "Axes | None" = None) -> "Axes":
    """Draw the histogram of reuse distances.

    Args:
        source: A trace, or its `sqlstable.analysis.locality.locality.Locality`.
        ax: Where to draw; None for a new figure.
    """
    found = _found(source)
    return _drawn(ax, lambda axes: _drawing.draw_reuse(axes, found))


def miss_ratio(
    source: TraceSource | Locality, ax: "Axes | None" = None, *, cache_size: int | None = None
) -> "Axes":
    """Draw what a cache of every size would miss that keeps the SQLite pages touched last.

    Args:
        source: A trace, or the `sqlstable.analysis.locality.locality.Locality` of one unit.
        ax: Where to draw; None for a new figure.
        cache_size: Pages of the cache to mark; of a trace, None marks the configured one.
    """
    if isinstance(source, Locality):
        found, configured, of_module = source, None, False
    else:
        of_module = is_of_module(source.settings)
        found = sqlite_locality(source) or locality(source)
        configured = configured_cache_pages(source) if found.unit == "sqlite" else None
    marked = configured if cache_size is None else cache_size
    return _drawn(
        ax, lambda axes: _drawing.draw_miss_ratio(axes, found, marked, of_module=of_module)
    )


def working_set(source: TraceSource | Locality, ax: "Axes | None" = None) -> "Axes":
    """Draw the average working set of every window.

    Args:
        source: A trace, or its `sqlstable.analysis.locality.locality.Locality`.
        ax: Where to draw; None for a new figure.
    """
    found = _found(source)
    return _drawn(ax, lambda axes: _drawing.draw_working_set(axes, found))


def regions(source: TraceSource | Locality, ax: "Axes | None" = None) -> "Axes":
    """Draw how full the regions are that messages were charged for.

    Args:
        source: A trace, or its `sqlstable.analysis.locality.locality.Locality`.
        ax: Where to draw; None for a new figure.
    """
    found = _found(source)
    return _drawn(ax, lambda axes: _drawing.draw_regions(axes, found))


def growth(trace: TraceSource, ax: "Axes | None" = None) -> "Axes":
    """Draw the size of stable memory after each message, and what had been touched by then.

    Args:
        trace: The trace.
        ax: Where to draw; None for a new figure.
    """
    touched = locality(trace).over_time.os_pages_so_far
    return _drawn(ax, lambda axes: _drawing.draw_growth(axes, trace, touched))


def hot_set(trace: TraceSource, ax: "Axes | None" = None) -> "Axes":
    """Draw the Lorenz curve of touches over OS pages, with the hot set marked.

    Args:
        trace: The trace.
        ax: Where to draw; None for a new figure.
    """
    figures = _drawing.Figures(trace)
    return _drawn(ax, lambda axes: _drawing.PICTURES["hot-set"](axes, figures))


def _found(source: TraceSource | Locality) -> Locality:
    return source if isinstance(source, Locality) else locality(source)


def _drawn(ax: "Axes | None", draw: "Callable[[Axes], None]") -> "Axes":
    axes: Axes = _drawing.drawn_in(ax, draw)
    return axes
