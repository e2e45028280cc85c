"""All pictures by their names, and files of them: the same bytes for the same trace."""

from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from textwrap import fill
from types import MappingProxyType
from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sqlstable.analysis.configured_cache import configured_cache_pages
from sqlstable.analysis.locality.locality import Locality, locality
from sqlstable.analysis.page_map import PageMap, page_map
from sqlstable.analysis.page_time import PageTime, page_time
from sqlstable.analysis.trace_source import TraceSource
from sqlstable.report.call_words import is_of_module
from sqlstable.report.frame import STATED, setting
from sqlstable.report.locality_words import sqlite_locality
from sqlstable.report.picture_names import PictureEnding, PictureName
from sqlstable.report.pictures.locality_axes import (
    draw_hot_set,
    draw_miss_ratio,
    draw_regions,
    draw_reuse,
    draw_working_set,
)
from sqlstable.report.pictures.memory_axes import draw_growth, draw_page_map, draw_page_time
from sqlstable.report.pictures.paper import (
    COLUMN_INCHES,
    GREY,
    HEIGHT_INCHES,
    drawable,
    paper_style,
)

_LINE_CHARACTERS: Final = 88
_SETTINGS: Final = (*STATED, "page_size", "cache_size", "layout")


class Figures:
    """The figures that pictures of one trace share, each worked out when one needs it.

    Args:
        trace: Read once for each kind of figure.
    """

    def __init__(self, trace: TraceSource) -> None:
        self.trace = trace

    @cached_property
    def os_pages(self) -> Locality:
        """How local it is in OS pages."""
        return locality(self.trace)

    @cached_property
    def cached_pages(self) -> Locality:
        """How local it is in SQLite pages, or where nobody knows these, in OS pages."""
        return sqlite_locality(self.trace) or self.os_pages

    @cached_property
    def map(self) -> PageMap:
        """What happened to each OS page."""
        return page_map(self.trace)

    @cached_property
    def times(self) -> PageTime:
        """When it happened."""
        return page_time(self.trace, self.map)


def _miss_ratio(axes: Axes, figures: Figures) -> None:
    found = figures.cached_pages
    cache_size = configured_cache_pages(figures.trace) if found.unit == "sqlite" else None
    draw_miss_ratio(axes, found, cache_size, of_module=is_of_module(figures.trace.settings))


PICTURES: Final[Mapping[PictureName, Callable[[Axes, Figures], None]]] = MappingProxyType(
    {
        "page-map": lambda axes, it: draw_page_map(axes, it.map),
        "page-time": lambda axes, it: draw_page_time(axes, it.map, it.times),
        "reuse": lambda axes, it: draw_reuse(axes, it.os_pages),
        "miss-ratio": _miss_ratio,
        "working-set": lambda axes, it: draw_working_set(axes, it.os_pages),
        "regions": lambda axes, it: draw_regions(axes, it.os_pages),
        "growth": lambda axes, it: draw_growth(
            axes, it.trace, it.os_pages.over_time.os_pages_so_far
        ),
        "hot-set": lambda axes, it: draw_hot_set(axes, it.os_pages, it.map.reads + it.map.writes),
    }
)
"""What draws each picture."""

_HEIGHTS_INCHES: Final[Mapping[PictureName, float]] = MappingProxyType({"page-map": 3.3})
"""Of pictures with a long legend beside them."""

_METADATA: Final[Mapping[PictureEnding, Mapping[str, Any]]] = MappingProxyType(
    {
        ".png": {"Software": "sqlstable"},
        ".svg": {"Date": None, "Creator": "sqlstable"},
        ".pdf": {"CreationDate": None, "Creator": "sqlstable", "Producer": "matplotlib"},
    }
)
"""What files say of themselves: neither when they were made nor by which release."""


def save_picture(figures: Figures, name: PictureName, path: Path, ending: PictureEnding) -> None:
    """Draw one picture into a file.

    Args:
        figures: Of the trace.
        name: Of the picture.
        path: Where to; whatever is there is replaced.
        ending: Says the format, whatever the path ends with.
    """
    with paper_style():
        size = COLUMN_INCHES, _HEIGHTS_INCHES.get(name, HEIGHT_INCHES)
        figure = Figure(figsize=size, layout="constrained")
        PICTURES[name](figure.subplots(), figures)
        figure.supxlabel(circumstances(figures.trace), fontsize=4.5, color=GREY)
        figure.savefig(path, format=ending.removeprefix("."), metadata=dict(_METADATA[ending]))


def drawn_in(axes: Axes | None, draw: Callable[[Axes], None]) -> Axes:
    """Draw into axes, or where there are none, into those of a new figure that notebooks show."""
    if axes is not None:
        draw(axes)
        return axes
    # Files need no figure that somebody shows, nor what shows it.
    import matplotlib.pyplot as plt  # noqa: PLC0415

    with paper_style():
        size = (COLUMN_INCHES, HEIGHT_INCHES)
        figure, made = plt.subplots(figsize=size, layout="constrained")
        draw(made)
        # What is made when it is drawn would have another style by then.
        figure.draw_without_rendering()
        return made


def circumstances(trace: TraceSource) -> str:
    """Return the settings that a picture states below it."""
    values = trace.settings.values
    words = [setting(name, values[name]) for name in _SETTINGS if values.get(name) is not None]
    return fill(drawable(" · ".join(["sqlstable", *words])), _LINE_CHARACTERS)
