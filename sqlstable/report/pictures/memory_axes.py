"""Pictures of stable memory: its map, when what of it was touched, and its growth."""

from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, to_rgb
from matplotlib.patches import Patch

from sqlstable.analysis.curves import CURVES, width_for
from sqlstable.analysis.page_map import PageMap
from sqlstable.analysis.page_time import PageTime
from sqlstable.analysis.trace_source import TraceSource
from sqlstable.ic.units import MIB, OS_PAGE_BYTES
from sqlstable.report.map_look import MapBy, MapCurve
from sqlstable.report.map_shades import UNTOUCHED, shading
from sqlstable.report.numbers import count, counted, size
from sqlstable.report.pictures.paper import (
    BLUE,
    ORANGE,
    counts_on,
    label,
    legend_of,
    nothing,
    shown_name,
)

CELLS_MAX: Final = 1 << 16
"""Cells of a map: 256 by 256 in a column of a paper."""

_EMPTY: Final = "#ffffff"
_UNTOUCHED: Final = "#e8e8e8"


def draw_page_map(
    axes: Axes, page_map: PageMap, by: MapBy = "owner", curve: MapCurve = "hilbert"
) -> None:
    """Draw a cell for each OS page, or for several of them, which it says."""
    cells = page_map.cells(CELLS_MAX)
    each = cells.os_pages_each
    stands = counted(each, "OS page") + ("" if each == 1 else f", {size(each * OS_PAGE_BYTES)}")
    label(axes, f"Stable memory, a cell: {stands}", "", "")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(b=False)
    if not len(page_map.os_pages):
        nothing(axes)
        return
    shades = shading(page_map, cells, by)
    columns = width_for(len(cells))
    x, y = CURVES[curve](len(cells), columns)
    colours = [_EMPTY, _UNTOUCHED, *(shade.colour for shade in shades.shades)]
    picture = np.zeros((int(y.max()) + 1, columns), np.int64)
    picture[y, x] = shades.of_cells - UNTOUCHED + 1
    table = np.array([to_rgb(colour) for colour in colours])
    axes.imshow(table[picture], interpolation="nearest", aspect="equal")
    words = "along Hilbert curves" if curve == "hilbert" else f"in lines, {curve}"
    stretches = page_map.stretches
    gaps = f";\n{count(stretches.left_out)} more, never touched, left out"
    axes.set_xlabel(
        f"{counted(stretches.shown, 'OS page')} {words}{gaps if stretches.left_out else ''}",
        fontsize=6,
    )
    _map_legend(axes, [(it.colour, it.meaning) for it in shades.shades], shades.words)


def _map_legend(axes: Axes, entries: list[tuple[str, str]], title: str) -> None:
    entries = [*entries, (_UNTOUCHED, "not touched")]
    handles: list[Any] = [Patch(facecolor=colour) for colour, _ in entries]
    legend = legend_of(
        axes,
        handles,
        [_short(words) for _, words in entries],
        loc="upper left",
        bbox_to_anchor=(1.01, 1.0),
        borderaxespad=0,
        handlelength=1,
        handleheight=1,
        title=title,
        title_fontsize=6.5,
        alignment="left",
    )
    legend.set_in_layout(True)


def _short(words: str) -> str:
    """Set the count of OS pages below the name, which is cut."""
    name, comma, pages = words.rpartition(", ")
    return f"{shown_name(name)}\n{pages}" if comma and pages.endswith(("page", "pages")) else words


def draw_page_time(axes: Axes, page_map: PageMap, counts: PageTime) -> None:
    """Draw how often which OS pages were touched when: darker is rarer."""
    label(
        axes,
        "OS pages over time",
        f"time, in accesses ({count(counts.accesses_each)} a column)",
        f"OS pages, in the order of addresses\n({count(counts.os_pages_each)} a row)",
    )
    touches = (counts.reads + counts.writes).T
    if not touches.sum():
        nothing(axes)
        return
    rows, columns = touches.shape
    extent = (0, columns * counts.accesses_each, rows * counts.os_pages_each, 0)
    most = max(2, int(touches.max()))
    shown = axes.imshow(
        np.ma.masked_equal(touches, 0),
        aspect="auto",
        interpolation="nearest",
        cmap="cividis",
        norm=LogNorm(1, most),
        extent=extent,
    )
    counts_on(axes.xaxis)
    counts_on(axes.yaxis)
    assert axes.figure is not None
    bar = axes.figure.colorbar(shown, ax=axes, pad=0.02)
    bar.set_label("touches of a cell")
    counts_on(bar.ax.yaxis, is_log=True)


def draw_growth(axes: Axes, trace: TraceSource, touched_os_pages: Any) -> None:  # noqa: ANN401  an array, or a list
    """Draw the size of stable memory after each message, and what had been touched by then."""
    label(axes, "Growth of stable memory", "message", "size, in MiB")
    sizes = np.array([message.image_bytes for message in trace.messages], np.float64) / MIB
    if not len(sizes):
        nothing(axes)
        return
    touched = np.asarray(touched_os_pages, np.float64) * OS_PAGE_BYTES / MIB
    places = np.arange(len(sizes))
    # Steps of one message have no length.
    mark = "o" if len(sizes) == 1 else ""
    (stable,) = axes.plot(places, sizes, color=BLUE, marker=mark, drawstyle="steps-post")
    (used,) = axes.plot(
        places, touched, color=ORANGE, marker=mark, linestyle="--", drawstyle="steps-post"
    )
    axes.set_ylim(0, 1.3 * max(1e-3, float(sizes.max()), float(touched.max())))
    counts_on(axes.xaxis)
    legend_of(axes, [stable, used], ["stable memory", "OS pages touched so far"], loc="upper left")
