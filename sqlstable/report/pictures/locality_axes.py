"""Pictures of locality: reuse, miss ratio, working set, regions, hot set."""

from typing import Final

import numpy as np
from matplotlib.axes import Axes

from sqlstable.analysis.locality.hot_set import SHARES
from sqlstable.analysis.locality.locality import Locality
from sqlstable.report.locality_words import UNIT_NAMES
from sqlstable.report.numbers import count, counted, percent
from sqlstable.report.pictures.paper import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    RED,
    counts_on,
    drawable,
    label,
    legend_of,
    nothing,
    percent_on,
)
from sqlstable.trace.access_stream import Int64s

POINTS_MAX: Final = 500
"""Points of a curve: more than a printer shows apart in a column."""


def draw_reuse(axes: Axes, found: Locality) -> None:
    """Draw the histogram of reuse distances, in bins that double."""
    unit = UNIT_NAMES[found.unit]
    label(axes, "Reuse distances", f"distinct other {unit}s touched in between", "touches")
    starts, counts = (column.tolist() for column in found.reuse.binned)
    if not found.touches:
        nothing(axes)
        return
    heights = [*counts, found.reuse.first_touches]
    colours = [BLUE] * len(counts) + [GREY]
    axes.bar(range(len(heights)), heights, width=0.9, color=colours)
    ends = [*starts[1:], 2 * max(1, starts[-1])] if starts else []
    names = [
        count(first) if last - first <= 1 else f"{count(first)}\N{EN DASH}{count(last - 1)}"
        for first, last in zip(starts, ends, strict=True)
    ]
    axes.set_xticks(range(len(heights)), [*names, "first touch"], rotation=45, ha="right")
    counts_on(axes.yaxis)


def draw_miss_ratio(
    axes: Axes, found: Locality, cache_size: int | None, *, of_module: bool = False
) -> None:
    """Draw the miss ratio of every cache size, with the configured cache marked.

    Args:
        axes: Where to.
        found: Of SQLite pages, where a cache of SQLite's is marked.
        cache_size: The configured cache, in pages of the same kind; None for no mark.
        of_module: Whether it is of a canister's own module, with a cache of its own or none.
    """
    unit = UNIT_NAMES[found.unit]
    title = f"Misses behind {'the module' if of_module else 'SQLite'}'s own cache"
    label(axes, title, f"cache, in {unit}s touched last", "miss ratio")
    percent_on(axes.yaxis)
    axes.set_ylim(0, 1.05)
    if not found.touches:
        nothing(axes)
        return
    sizes = _spread(found.distinct)
    axes.plot(sizes, found.miss_ratio.ratio[sizes], color=BLUE, drawstyle="steps-post")
    axes.set_xscale("symlog", linthresh=1)
    last = max(found.distinct, 1)
    axes.set_xlim(0, last * 1.15)
    _powers_on(axes, last)
    first = found.miss_ratio.misses_at(found.distinct)
    axes.axhline(first / found.touches, color=GREY, linewidth=0.7, linestyle=":")
    if cache_size is not None:
        _mark_cache(axes, found, cache_size, last)


def _mark_cache(axes: Axes, found: Locality, cache_size: int, last: int) -> None:
    ratio = percent(found.miss_ratio.misses_at(cache_size), found.touches)
    beyond = ", more than touched" if cache_size > last else ""
    place = min(cache_size, last)
    axes.axvline(place, color=RED, linewidth=1, linestyle="--")
    is_right = place > last**0.5
    axes.annotate(
        f"cache_size {count(cache_size)}{beyond}:\n{ratio}",
        (place, 0.03),
        xytext=(-4 if is_right else 4, 0),
        textcoords="offset points",
        ha="right" if is_right else "left",
        va="bottom",
        color=RED,
        fontsize=6.5,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1},
    )


def draw_working_set(axes: Axes, found: Locality) -> None:
    """Draw the average working set of every window."""
    unit = UNIT_NAMES[found.unit]
    label(axes, "Working set", "window, in touches", f"distinct {unit}s, on average")
    curve = found.working_set
    if not len(curve.windows):
        nothing(axes)
        return
    windows = _spread(found.touches)[1:]
    sizes = [curve.size_at(window) for window in windows.tolist()]
    axes.plot(windows, sizes, color=BLUE)
    if found.touches > 1:
        axes.set_xscale("log")
        counts_on(axes.xaxis, is_log=True)
    axes.set_ylim(0, 1.12 * found.distinct)
    counts_on(axes.yaxis)
    axes.axhline(found.distinct, color=GREY, linewidth=0.7, linestyle=":")
    words = f"all {counted(found.distinct, unit)} touched"
    axes.annotate(words, (float(windows[0]), found.distinct), fontsize=6.5, color=GREY, va="bottom")


def draw_regions(axes: Axes, found: Locality) -> None:
    """Draw how full the regions are that messages were charged for."""
    regions = found.regions
    label(axes, "How full charged regions are", "OS pages touched of the 16 in a region", "regions")
    places = np.arange(1, 17)
    parts = ((regions.accessed, BLUE, "accessed", -0.2), (regions.dirty, ORANGE, "written", 0.2))
    handles, names = [], []
    for use, colour, name, shift in parts:
        handles.append(axes.bar(places + shift, use.by_fullness, width=0.4, color=colour))
        names.append(f"{name}: {count(use.charged)}, {use.fullness:.0%} full")
    axes.set_xticks([1, 4, 8, 12, 16])
    counts_on(axes.yaxis)
    if not regions.accessed.charged:
        nothing(axes)
        return
    axes.set_ylim(0, 1.35 * max(1, *regions.accessed.by_fullness, *regions.dirty.by_fullness))
    legend_of(axes, handles, names, loc="upper left")
    saved = percent(regions.saved_instructions_max, regions.charged_instructions)
    axes.set_xlabel(
        f"OS pages touched of the 16 in a region\ncompaction saves at most {saved} of the charge\n"
        f"(prices {drawable(regions.prices)})"
    )


def draw_hot_set(axes: Axes, found: Locality, touches: Int64s) -> None:
    """Draw the Lorenz curve of touches over OS pages, the most touched first.

    Args:
        axes: Where to.
        found: Tells the hot set.
        touches: Of each OS page touched, in any order.
    """
    label(axes, "Hot set", "share of the OS pages touched, the hottest first", "share of touches")
    percent_on(axes.xaxis)
    percent_on(axes.yaxis)
    if not len(touches):
        nothing(axes)
        return
    running = np.append(0, np.cumsum(np.sort(touches)[::-1]))
    places = _spread(len(touches))
    axes.plot(places / len(touches), running[places] / running[-1], color=BLUE)
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.7, linestyle=":")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.03)
    for share in SHARES:
        pages = found.hot_set.pages[share]
        x = pages / len(touches)
        axes.plot([x], [share], "o", color=GREEN, markersize=3, clip_on=False)
        axes.annotate(
            f"{share:.0%} on {counted(pages, 'OS page')}",
            (x, share),
            xytext=(-5, 0) if x > 0.55 else (5, -7),
            textcoords="offset points",
            ha="right" if x > 0.55 else "left",
            va="bottom" if x > 0.55 else "center",
            fontsize=6.5,
        )


def _spread(last: int) -> Int64s:
    """Return whole numbers from 0 to ``last``, close to each other where they are small."""
    if last <= POINTS_MAX:
        return np.arange(last + 1)
    spread = np.round(np.expm1(np.linspace(0, np.log1p(last), POINTS_MAX))).astype(np.int64)
    return np.unique(np.append(spread, last))


def _powers_on(axes: Axes, last: int) -> None:
    powers = [10**power for power in range(19) if 10**power <= last]
    ticks = [0, *powers[:: -(-len(powers) // 6) or 1]]
    axes.set_xticks(ticks, [count(tick) for tick in ticks])
    axes.set_xticks([], minor=True)
