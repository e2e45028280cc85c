"""What other sizes of SQLite's page cache would come to, as lines below the figures of locality."""

from collections.abc import Callable
from typing import Final

from rich.text import Text

from sqlstable.analysis.trace_source import TraceSource
from sqlstable.analysis.whatif.estimate import Estimate
from sqlstable.analysis.whatif.page_cache import (
    CacheEstimate,
    PageCacheWhatIf,
    page_cache_what_if,
)
from sqlstable.errors import TraceError
from sqlstable.report.grid import Cell, cell, paragraph
from sqlstable.report.numbers import UNKNOWN, count
from sqlstable.report.table import Column, Table, number
from sqlstable.report.text import fit

_Of = Callable[[CacheEstimate], Estimate | None]

FIGURES: Final[tuple[tuple[str, int, _Of], ...]] = (
    ("reads", 0, lambda it: it.reads),
    ("writes", 1, lambda it: it.writes),
    ("OS pages\naccessed", 2, lambda it: it.os_pages_accessed),
    ("instructions", 3, lambda it: it.instructions),
)
"""Headings, the order in which they go where there is no room, and what they show."""

PREDICTED_ACCESSES_MAX: Final = 200_000
"""Accesses from which a view of all does without predictions, which take 3 µs for each."""

_HEADING: Final = Text("what another cache_size would come to", style="bold")

_RECORDED_WELL: Final = 10
"""No smaller page cache than this tells much more; SQLite itself hardly goes below."""


def page_cache_lines(trace: TraceSource, width: int) -> list[Text]:
    """Lay out predictions for larger page caches; why there are none, where there are none."""
    try:
        found = page_cache_what_if(trace)
    except TraceError as error:
        return [_HEADING, *paragraph(str(error), width)]
    rows = (found.recorded, *found.rows)
    table = Table.holding(_columns(found), rows, width)
    body = [line for row in rows for line in table.row(row)]
    return [_HEADING, *table.framed(body), *paragraph(note(found), width, style="italic")]


def _columns(found: PageCacheWhatIf) -> list[Column[CacheEstimate]]:
    def of_size(row: CacheEstimate, width: int) -> Cell:
        recorded = " as recorded" if row is found.recorded else ""
        return cell(fit(count(row.cache_size) + recorded, width), "bold")

    figures = (
        _figure(found, heading, drop, of)
        for heading, drop, of in FIGURES
        if of(found.recorded) is not None
    )
    return [Column("cache_size", of_size, rest_min=10), *figures]


def _figure(found: PageCacheWhatIf, heading: str, drop: int, of: _Of) -> Column[CacheEstimate]:
    recorded = of(found.recorded)

    def shown(row: CacheEstimate) -> str:
        estimate = of(row)
        if estimate is None or recorded is None:
            return UNKNOWN
        return count(recorded.value) if row is found.recorded else change(estimate, recorded.value)

    return number(heading, shown, drop=drop)


def change(estimate: Estimate, recorded: int) -> str:
    """Spell how an estimate differs from what was recorded, both in percent of that.

    Examples:
        >>> change(Estimate(50, 48, 51), 100), change(Estimate(100, 100, 100), 100)
        ('-50.0% ± 2.0%', '+0.0% ± 0.0%')
    """
    whole = max(1, recorded) / 100
    off = max(estimate.high - estimate.value, estimate.value - estimate.low) / whole
    return f"{(estimate.value - recorded) / whole:+.1f}% ± {off:.1f}%"


def note(found: PageCacheWhatIf) -> str:
    """Say how predictions are to be read, and at which prices."""
    percents = (
        f"predicted from what a cache of {count(found.recorded_size)} SQLite pages missed, as "
        "changes in percent of what was recorded; ± is how far off they may be"
    )
    fits = f"from {count(found.fits_from)} on everything fits"
    prices = (
        f"instructions at the prices {found.prices}, which charge the heap that a cache fills: "
        "modelled"
    )
    told = (percents, fits, prices) if found.prices else (percents, fits)
    more = "; recorded with --cache-size 10, a trace tells more"
    return "; ".join(told) + (more if found.recorded_size > _RECORDED_WELL else "")
