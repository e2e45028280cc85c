"""Pictures of locality: reuse, miss ratio, working set, regions, hot set."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from sqlstable.analysis.configured_cache import configured_cache_pages
from sqlstable.analysis.locality.cached_misses import sqlite_miss_ratio
from sqlstable.analysis.locality.locality import Locality
from sqlstable.analysis.trace_source import TraceSource
from sqlstable.report.call_words import is_of_module
from sqlstable.report.html.pictures.picture import Json, Picture, PictureTable, whole
from sqlstable.report.numbers import count, counted

POINTS_MAX: Final = 400
"""Points of a curve at most: more than a page has pixels to tell apart."""
TABLE_POINTS: Final = 12


def reuse_picture(found: Locality) -> Picture:
    """Return the histogram of reuse distances, in bins that double."""
    starts, counts = (column.tolist() for column in found.reuse.binned)
    ends = [*starts[1:], 2 * starts[-1] if len(starts) > 1 else 1] if starts else []
    bins = list(zip(starts, ends, counts, strict=True))
    return Picture(
        id="reuse",
        title="Reuse distances",
        note="How many other OS pages were touched before one was touched again. What lies left of "
        "the size of a cache would be found in it.",
        table=PictureTable(
            ("Distance from", "to", "Touches"),
            tuple((whole(start), whole(end - 1), whole(count)) for start, end, count in bins),
        ),
        facts={
            "bins": [{"from": start, "to": end, "touches": n} for start, end, n in bins],
            "first_touches": found.reuse.first_touches,
            "touches": found.reuse.touches,
        },
    )


def miss_ratio_picture(found: Locality, trace: TraceSource) -> Picture:
    """Return the miss-ratio curve, with the configured cache marked.

    It is in SQLite pages, as SQLite's cache is, wherever the trace says how large these are.
    """
    of_sqlite = sqlite_miss_ratio(trace)
    curve, unit = of_sqlite or found.miss_ratio, "SQLite page" if of_sqlite else "OS page"
    ratio = curve.ratio
    sizes = _spread(len(ratio) - 1)
    points: list[Json] = [[size, _rounded(float(ratio[size]))] for size in sizes]
    configured = configured_cache_pages(trace)
    if configured is not None and configured > sizes[-1]:
        # Whatever is larger than all there is misses as often.
        points.append([configured, _rounded(float(ratio[-1]))])
    setting = "" if configured is None else f" SQLite's own had {counted(configured, unit)}."
    return Picture(
        id="miss-ratio",
        title="Miss ratio by size of a cache",
        note=f"Of the {unit}s that the workload asked stable memory for, the share that a cache of "
        "each size would still have had to fetch, if it kept those used last. What "
        f"{'the module' if is_of_module(trace.settings) else 'SQLite'}'s cache answered never came "
        f"here, so this is a cache behind it.{setting}",
        table=PictureTable(
            (f"Cache, in {unit}s", "Misses", "Miss ratio"),
            tuple(
                (whole(size), whole(curve.misses_at(size)), f"{ratio[size]:.2%}")
                for size in _few(sizes)
            ),
        ),
        facts={"points": points, "unit": unit, "configured": configured},
    )


def working_set_picture(found: Locality) -> Picture:
    """Return the working-set curve."""
    curve = found.working_set
    last = int(curve.windows[-1]) if len(curve.windows) else 0
    windows = [window for window in _spread(last) if window]
    return Picture(
        id="working-set",
        title="Working set",
        note="How many distinct OS pages are in any window of that many touches, on average. A "
        "curve that flattens early has a small working set.",
        table=PictureTable(
            ("Window, in touches", "OS pages, on average"),
            tuple((whole(it), f"{curve.size_at(it):,.1f}") for it in _few(windows)),
        ),
        facts={"points": [[it, _rounded(curve.size_at(it))] for it in windows]},
    )


def regions_picture(found: Locality) -> Picture:
    """Return how full the regions are that messages were charged for."""
    regions = found.regions
    accessed, dirty = (it.by_fullness.tolist() for it in (regions.accessed, regions.dirty))
    words = (
        f"{counted(regions.accessed.charged, 'region')} charged as accessed, "
        f"{regions.accessed.fullness:.0%} of their bytes in OS pages that were; "
        f"{counted(regions.dirty.charged, 'region')} as written, {regions.dirty.fullness:.0%}."
    )
    return Picture(
        id="regions",
        title="How full regions are",
        note="A message is charged for each region of 64 KiB that it touches first, however little "
        "of it. Regions on the left are paid for and hardly used; a message that had its OS pages "
        f"side by side would save. Prices: {regions.prices}; saved by compaction at most "
        f"{counted(regions.saved_instructions_max, 'instruction')} of "
        f"{count(regions.charged_instructions)}.",
        table=PictureTable(
            ("OS pages of 16", "Regions accessed", "Regions written"),
            tuple(
                (str(at + 1), whole(one), whole(two))
                for at, (one, two) in enumerate(zip(accessed, dirty, strict=True))
            ),
        ),
        facts={"accessed": accessed, "dirty": dirty, "words": words},
    )


def hot_set_picture(found: Locality) -> Picture:
    """Return the hot set."""
    hot = found.hot_set
    shares = sorted(hot.pages.items())
    return Picture(
        id="hot-set",
        title="Hot set",
        note="The fewest OS pages that have a share of all touches. The fewer, the more a small "
        "cache is worth.",
        table=PictureTable(
            ("Share of touches", "OS pages", "Share of those touched"),
            tuple(
                (f"{share:.0%}", whole(pages), f"{hot.share_of_pages(share):.1%}")
                for share, pages in shares
            ),
        ),
        facts={"shares": [[share, pages] for share, pages in shares], "distinct": hot.distinct},
    )


def _spread(last: int) -> list[int]:
    """Return whole numbers from 0 to ``last``, close to each other where they are small."""
    if last < POINTS_MAX:
        return list(range(last + 1))
    spread = np.unique(np.round(np.expm1(np.linspace(0, np.log1p(last), POINTS_MAX))))
    return [*(int(it) for it in spread if it < last), last]


def _few(points: Sequence[int]) -> list[int]:
    if len(points) <= TABLE_POINTS:
        return list(points)
    last = len(points) - 1
    return [points[at * last // (TABLE_POINTS - 1)] for at in range(TABLE_POINTS)]


def _rounded(value: float) -> float:
    """Six digits are more than a screen shows, and half the bytes of all."""
    return float(f"{value:.6g}")
