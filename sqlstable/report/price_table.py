"""A trace under many price lists as a table for the terminal, and what a list's total rests on."""

import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

from rich.text import Text

from sqlstable.analysis.pricing.price_comparison import (
    AssumedTotal,
    ComparedRow,
    PriceComparison,
    Sensitivity,
    times,
)
from sqlstable.analysis.pricing.trace_prices import is_native, recorded_prices
from sqlstable.ic.assumptions import ASSUMPTIONS
from sqlstable.ic.prices import PRICE_REGIMES, PriceRegime
from sqlstable.ic.pricing import Spent
from sqlstable.report.frame import named_lines, title
from sqlstable.report.grid import WIDTH_MIN, Cell, ColorSystem, paragraph, render
from sqlstable.report.numbers import UNKNOWN, count, counted, percent
from sqlstable.report.price_words import assumption_words, default_words
from sqlstable.report.sample_words import ESTIMATED
from sqlstable.report.table import Column, Table, number
from sqlstable.report.text import clean, fit, shorten, wrap
from sqlstable.report.view import ends, more_lines
from sqlstable.trace.model import TraceSettings

LABEL_WIDTH_MIN: Final = 14
LIST_WIDTH_MIN: Final = max(map(len, PRICE_REGIMES))

NATIVE: Final = (
    "the native engine knows stable memory's part alone, exactly; computation and heap come from "
    "--engine wasm"
)

SAMPLED: Final = (
    "of messages that the engine both did not measure stable memory's part alone is known; with "
    "--measure all each is measured"
)

_TITLES: Final = {
    "trace": "What each price list makes of the trace, in instructions",
    "message": "What each price list makes of each message, in instructions",
    "statement": "What each price list makes of each statement, in instructions",
    "shape": "What each price list makes of each shape of statement, in instructions",
}


def render_price_comparison(
    found: PriceComparison, *, width: int = 100, color_system: ColorSystem | None = None
) -> str:
    """Return a comparison of price lists as a table of text.

    Args:
        found: What `sqlstable.analysis.pricing.price_comparison.compare_prices` found.
        width: Columns of the terminal; no line is wider.
        color_system: One of rich's, for a terminal; None for plain text.
    """
    width = max(width, WIDTH_MIN)
    lines = [*title(_TITLES[found.by], width), *_recorded(found.settings, width), Text()]
    if found.rows:
        lines += [*_row_lines(found, width), Text()]
    lines += [*_list_lines(found, width), Text(), *_notes(found, width)]
    return render(lines, width=width, color_system=color_system)


def _recorded(settings: TraceSettings, width: int) -> list[Text]:
    regime = recorded_prices(settings)
    words = "counted under no price list" if regime is None else f"recorded under {regime.label}"
    return paragraph(words, width, style="dim")


def _list_lines(found: PriceComparison, width: int) -> list[Text]:
    """Lay out one row for each list, the whole trace."""
    today = found.total.spent[found.today]
    rows = list(zip(found.lists, found.total.spent, strict=True))
    columns: list[Column[tuple[PriceRegime, Spent]]] = [
        Column(
            "price list",
            lambda it, width: [Text(line) for line in wrap(it[0].name, width)],
            rest_min=LIST_WIDTH_MIN,
        ),
        *_part_columns(lambda it: it[1]),
        number("total", lambda it: it[1].total),
        number("× today", lambda it: _times(it[1], today)),  # noqa: RUF001  the sign for "times"
    ]
    table = Table.holding(columns, rows, width)
    body = [line for row in rows for line in table.row(row)]
    return table.framed(body)


def _part_columns(of: Callable[[Any], Spent]) -> Iterator[Column[Any]]:
    """Yield the columns of the parts, each with its share of the total."""
    for place, part in enumerate(("computation", "stable", "heap"), start=1):
        yield number(part, partial(_part, of, part), drop=place + 4)
        yield number(f"{part[0]} %", partial(_part_share, of, part), drop=place + 1)


def _part(of: Callable[[Any], Spent], part: str, row: object) -> int | None:
    found: int | None = getattr(of(row), part)
    return found


def _part_share(of: Callable[[Any], Spent], part: str, row: object) -> str:
    used, total = getattr(of(row), part), of(row).total
    return UNKNOWN if used is None or not total else percent(used, total)


def _times(found: Spent, other: Spent) -> str:
    ratio = times(found, other)
    if ratio is None:
        return UNKNOWN
    return f"{ratio:.2g}" if ratio < 1 else f"{ratio:,.2f}"


def _row_lines(found: PriceComparison, width: int) -> list[Text]:
    """Lay out one row for each message, statement or shape, a column for each list."""
    columns = [
        Column(found.by, _label, rest_min=LABEL_WIDTH_MIN),
        *(
            number(
                regime.name.replace("-", "-\n"),
                partial(_total_under, place, found.settings.values.get("engine") == "both"),
                # The older a list, the sooner there is no room for it.
                drop=0 if place == found.today else place + 1,
            )
            for place, regime in enumerate(found.lists)
        ),
    ]
    first, left_out, last = ends(found.rows)
    table = Table.holding(columns, [*first, *last], width)
    body = [line for row in first for line in table.row(row)]
    body += more_lines(left_out, "more row", width)
    body += [line for row in last for line in table.row(row)]
    return table.framed(body)


def _label(row: ComparedRow, width: int) -> Cell:
    place = "" if row.index is None or row.count > 1 else f"{row.index} "
    many = f"{count(row.count)} × " if row.count > 1 else ""  # noqa: RUF001  the sign for "times"
    text = clean(" ".join(row.name.split())) or "(empty statement)"
    return [Text(line) for line in shorten(f"{many}{place}{text}", width, lines_max=2)]


def _total_under(place: int, is_sampled: bool, row: ComparedRow) -> int | None:  # noqa: FBT001  of a partial
    """Return a total; on the native engine, which knows no other, that of stable memory."""
    spent = row.spent[place]
    return spent.stable if spent.total is None and not is_sampled else spent.total


def _notes(found: PriceComparison, width: int) -> list[Text]:
    assumed = [
        f"{regime.name}: {words}" for regime in found.lists if (words := assumption_words(regime))
    ]
    return [
        *_beware(found.settings, width),
        *named_lines(
            "stable", "calls on stable memory, their bytes, and what they touched first", width
        ),
        *named_lines("assumed", "; ".join(assumed), width),
        *named_lines("see also", "formulas and sources: sqlstable prices", width),
    ]


# -- what is assumed -------------------------------------------------------------------------------


def render_sensitivity(
    found: Sensitivity, *, width: int = 100, color_system: ColorSystem | None = None
) -> str:
    """Return how far a total moves with what its prices assume, as a table of text.

    Args:
        found: What `sqlstable.analysis.pricing.price_comparison.sensitivity` found.
        width: Columns of the terminal; no line is wider.
        color_system: One of rich's, for a terminal; None for plain text.
    """
    width = max(width, WIDTH_MIN)
    name = found.regime.name
    lines = title(f"How far the total moves with what prices {name} assume, in instructions", width)
    lines += _recorded(found.settings, width)
    lines += paragraph(_sampled_words(found), width) if _sampled_words(found) else []
    lines.append(Text())
    if not found.names:
        lines += paragraph(f"{name} assumes nothing: its sources leave nothing open", width)
        return render(lines, width=width, color_system=color_system)
    rows = [
        ("as by default", AssumedTotal({}, found.default)),
        *((default_words(it.assumptions), it) for it in found.single),
        (f"least: {default_words(found.least.assumptions)}", found.least),
        (f"most: {default_words(found.most.assumptions)}", found.most),
    ]
    table = Table.holding(
        [
            Column("assumed", _assumed, rest_min=LABEL_WIDTH_MIN),
            *_part_columns(lambda it: it[1].spent),
            number("total", lambda it: it[1].spent.total),
            number("moves", lambda it: _moved(it[1].spent, found.default)),
        ],
        rows,
        width,
    )
    body = [line for row in rows[:-2] for line in table.row(row)]
    lines += [*table.framed(body, sums=rows[-2:]), Text()]
    if found.settings.values.get("engine") != "both":
        lines += _beware(found.settings, width)
    for each in found.names:
        assumption = ASSUMPTIONS[each]
        values = "; ".join(f"{value}: {text}" for value, text in assumption.values.items())
        lines += paragraph(f"{each}: {assumption.meaning} {values}", width, style="dim", indent=2)
    return render(lines, width=width, color_system=color_system)


def _sampled_words(found: Sensitivity) -> str:
    """Say which messages the total is worked out from; nothing where each was counted."""
    if found.measured_count == found.message_count:
        return ""
    left_out = found.left_out_count
    return (
        f"{ESTIMATED} all numbers are estimated from {count(found.measured_count)} of "
        f"{counted(found.message_count, 'message')}, those that were measured, each for others of "
        "equal work"
        f"{f'; without {count(left_out)} that none of them stands for' * bool(left_out)}"
    )


def _assumed(row: tuple[str, AssumedTotal], width: int) -> Cell:
    """Break behind spaces, hyphens of names and ``=``, and in no word or value."""
    lines = [""]
    for piece in re.findall(r"(?<==)\S+ ?|[^-= ]+[-=]? ?", row[0]):
        if lines[-1] and len(lines[-1] + piece.rstrip()) > width:
            lines.append("")
        lines[-1] += piece
    return [Text(fit(line.rstrip(), width)) for line in lines]


def _moved(found: Spent, default: Spent) -> str:
    ratio = times(found, default)
    if ratio is None:
        return UNKNOWN
    moved = f"{100 * (ratio - 1):+.1f}%"
    # A sign before nothing would say that it moves.
    return "0.0%" if moved in ("+0.0%", "-0.0%") else moved


def _beware(settings: TraceSettings, width: int) -> list[Text]:
    if not is_native(settings):
        return []
    words = SAMPLED if settings.values.get("engine") == "both" else NATIVE
    return [*named_lines("beware", words, width)]
