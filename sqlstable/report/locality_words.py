"""How local a trace is, in lines: what a person reads from top to bottom in half a minute."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import numpy as np
from rich.text import Text

from sqlstable.analysis.configured_cache import configured_cache_pages
from sqlstable.analysis.locality.cached_misses import sqlite_miss_ratio
from sqlstable.analysis.locality.locality import Locality, PageUnit, locality
from sqlstable.analysis.locality.regions import RegionUse
from sqlstable.analysis.locality.reuse import MissRatioCurve
from sqlstable.analysis.trace_source import TraceSource
from sqlstable.errors import TraceError
from sqlstable.ic.units import OS_PAGE_BYTES
from sqlstable.report.call_words import is_of_module
from sqlstable.report.grid import paragraph
from sqlstable.report.numbers import UNKNOWN, bar, count, counted, percent, size
from sqlstable.report.sparks import sparkline
from sqlstable.report.view import Look

INDENT: Final = 17
BINS_MAX: Final = 12
"""Bars of the reuse histogram at most."""
CURVE_COLUMNS_MAX: Final = 64
WINDOWS_MAX: Final = 4

UNIT_NAMES: Final[dict[PageUnit, str]] = {"os": "OS page", "sqlite": "SQLite page"}

NO_ACCESSES: Final = "no access to stable memory was recorded, so nothing is local or not"


def sqlite_locality(trace: TraceSource) -> Locality | None:
    """Return the locality of SQLite pages; None where a trace does not say how large they are."""
    try:
        return locality(trace, unit="sqlite")
    except TraceError:
        return None


def locality_lines(trace: TraceSource, found: Locality, look: Look) -> list[Text]:
    """Lay out the figures of a whole trace.

    Args:
        trace: Where it comes from.
        found: Its figures, of OS pages.
        look: How wide the terminal is.
    """
    if not found.touches:
        return paragraph(NO_ACCESSES, look.width)
    behind = sqlite_miss_ratio(trace)
    parts: list[Iterable[Text]] = [
        _figure("touches", _touches(found), look.width),
        _figure("hot set", _hot_set(found), look.width),
        _figure("sequentiality", _sequentiality(found), look.width),
        _figure("working set", _working_set(found), look.width),
        _reuse_lines(found, look.width),
        _miss_ratio_lines(
            behind or found.miss_ratio, "sqlite" if behind else found.unit, trace, look.width
        ),
        _figure("regions", _regions(found), look.width),
        _figure("writes", _writes(found), look.width),
    ]
    return [line for part in parts for line in part]


def _figure(name: str, text: str, width: int) -> list[Text]:
    lines = paragraph(text, width, indent=INDENT)
    return [_headed(name, lines[0]), *lines[1:]]


def _headed(name: str, line: Text) -> Text:
    """Put the name of a figure into the margin of its first line."""
    return Text(name.ljust(INDENT), style="bold").append_text(_plain(line[INDENT:]))


def _plain(line: Text) -> Text:
    return Text(style="not bold").append_text(line)


def _touches(found: Locality) -> str:
    return (
        f"{count(found.touches)} of OS pages, by {counted(found.accesses, 'read and write')}; "
        f"{counted(found.distinct, 'distinct OS page')}, {size(found.distinct * OS_PAGE_BYTES)}"
    ).replace("read and writes", "reads and writes")


def _hot_set(found: Locality) -> str:
    parts = [
        f"{share:.0%} on {count(pages)}" for share, pages in sorted(found.hot_set.pages.items())
    ]
    return f"of the touches {' · '.join(parts)} of {counted(found.distinct, 'OS page')}"


def _sequentiality(found: Locality) -> str:
    order = found.sequentiality
    if not order.steps:
        return "no statement touched more than once"
    strides = ", ".join(f"{stride:+,}" if stride else "0" for stride, _ in order.strides[:4])
    return (
        f"{order.share:.1%} of the steps to another OS page go to the next one, "
        f"{order.run_length:,.1f} OS pages a run; most frequent strides {strides}"
    )


def _working_set(found: Locality) -> str:
    """Tell the working sets of windows of powers of ten, the whole trace last."""
    powers = [10**power for power in range(1, 19) if 10**power < found.touches]
    windows = [*powers[-WINDOWS_MAX:], found.touches]
    return (
        " · ".join(
            f"{count(window)} touches: {found.working_set.size_at(window):,.1f}"
            for window in windows
        )
        + " OS pages, on average"
    )


def _reuse_lines(found: Locality, width: int) -> Iterator[Text]:
    reuse = found.reuse
    middle = UNKNOWN if reuse.median is None else count(reuse.median)
    text = f"other OS pages touched until one is touched again; median {middle}"
    yield from _figure("reuse distance", text, width)
    rows = [*_bins(found), ("first touch", reuse.first_touches)]
    most = max(number for _, number in rows)
    label = max(len(name) for name, _ in rows)
    digits = max(len(count(number)) for _, number in rows)
    cells = max(8, min(40, width - INDENT - label - digits - 4))
    for name, number in rows:
        line = Text(f"{'':{INDENT}}{name:>{label}}  {count(number):>{digits}}  ")
        yield line.append(bar(number, most, cells), style="cyan")


def _bins(found: Locality) -> list[tuple[str, int]]:
    """Return the bars of the histogram: distances that double, or more where there are many."""
    starts, counts = (column.tolist() for column in found.reuse.binned)
    each = max(1, -(-len(starts) // BINS_MAX))
    # Distance 0 stands alone: the same OS page again.
    groups = [(0, 1), *((at, at + each) for at in range(1, len(starts), each))]
    ends = [*starts[1:], 2 * starts[-1] if len(starts) > 1 else 1] if starts else []
    return [
        (_span(starts[first], ends[min(after, len(ends)) - 1] - 1), sum(counts[first:after]))
        for first, after in groups[: len(starts)]
    ]


def _span(first: int, last: int) -> str:
    return count(first) if first == last else f"{count(first)} to {count(last)}"


def _miss_ratio_lines(
    curve: MissRatioCurve, unit: PageUnit, trace: TraceSource, width: int
) -> Iterator[Text]:
    """Draw the curve over sizes that grow by a factor, the configured cache marked below."""
    name = UNIT_NAMES[unit]
    text = (
        f"of a cache of so many {name}s that keeps those touched last, behind the module's own"
        if is_of_module(trace.settings)
        else f"of a cache of so many {name}s that keeps those touched last, behind SQLite's own: "
        "what that one answered never came here"
    )
    yield from _figure("miss ratio", text, width)
    last = max(1, _distinct(curve))
    columns = min(CURVE_COLUMNS_MAX, width - INDENT - 2)
    sizes = np.unique(np.round(np.geomspace(1, last, columns)).astype(np.int64))
    ratios = [curve.misses_at(it) / max(1, curve.touches) for it in sizes.tolist()]
    margin = " " * INDENT
    yield Text(margin).append(sparkline(ratios, columns, top=1.0), style="cyan")
    yield _axis(len(sizes), "1", f"{count(last)} {name}s")
    configured = configured_cache_pages(trace) if unit == "sqlite" else None
    if configured is not None:
        yield from _mark_lines(curve, configured, sizes.tolist(), width)
    yield from _points(curve, width)


def _axis(columns: int, left: str, right: str) -> Text:
    room = max(1, columns - len(left) - len(right))
    return Text(f"{'':{INDENT}}{left}{'':{room}}{right}", style="dim")


def _mark_lines(
    curve: MissRatioCurve, configured: int, sizes: Sequence[int], width: int
) -> list[Text]:
    """Point at the cache that the trace was recorded with."""
    place = min(int(np.searchsorted(sizes, configured)), len(sizes) - 1)
    beyond = ", more than were touched" if configured > _distinct(curve) else ""
    text = (
        f"▲ cache_size {count(configured)}{beyond}: a second cache as large would miss "
        f"{_ratio(curve, configured)}"
    )
    return _pointed(text, place, width)


def _points(curve: MissRatioCurve, width: int) -> list[Text]:
    """Tell a few points of the curve."""
    shares = [it for it in (0.5, 0.1) if curve.size_for(it) is not None]
    points = [f"{it:.0%} from {count(curve.size_for(it))} on" for it in shares]
    points.append(f"never below {_ratio(curve, _distinct(curve))}, the first touches")
    return paragraph("misses " + ", ".join(points), width, indent=INDENT)


def _distinct(curve: MissRatioCurve) -> int:
    """Return the distinct pages: the largest size that a curve has."""
    return len(curve.misses) - 1


def _pointed(text: str, place: int, width: int) -> list[Text]:
    """Set the mark below its column, and its words to the side where there is room."""
    if INDENT + place + len(text) <= width:
        return [Text(" " * (INDENT + place) + text, style="yellow")]
    if INDENT + place + 1 >= len(text) + INDENT:
        turned = f"{text[2:]} {text[0]}"
        return [Text(" " * (INDENT + place + 1 - len(turned)) + turned, style="yellow")]
    mark, words = text[0], text[2:]
    first = Text(" " * (INDENT + place) + mark, style="yellow")
    return [first, *paragraph(words, width, style="yellow", indent=INDENT)]


def _ratio(curve: MissRatioCurve, cache: int) -> str:
    return percent(curve.misses_at(cache), curve.touches)


def _regions(found: Locality) -> str:
    regions = found.regions
    saved = regions.saved_instructions_max
    words = (
        f"of 64 KiB, charged by message: accessed {_charged(regions.accessed)}; written "
        f"{_charged(regions.dirty)}. "
    )
    if not regions.charged_instructions:
        return words
    return words + (
        f"Compaction could save at most {count(saved)} of "
        f"{count(regions.charged_instructions)} instructions "
        f"({percent(saved, regions.charged_instructions)}) at the prices {regions.prices}"
    )


def _charged(use: RegionUse) -> str:
    return f"{count(use.charged)}, {use.fullness:.0%} full"


def _writes(found: Locality) -> str:
    writes = found.write_amplification
    text = (
        f"{size(writes.bytes_written)} written by updates and queries, "
        f"{counted(writes.os_pages_dirty, 'OS page')} dirty ({size(writes.dirty_bytes)})"
    )
    if writes.bytes_changed is None:
        return text + "; bytes changed: not in this trace"
    if not writes.bytes_changed:
        return text + "; no byte changed"
    return text + (
        f", {size(writes.bytes_changed)} changed: amplification "
        f"{writes.written_by_changed:,.1f} × written, {writes.dirty_by_changed:,.1f} × dirty"  # noqa: RUF001  the sign for "times"
    )
