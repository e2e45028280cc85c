"""The price lists as text for the terminal: dates, formulas, sources, what they assume."""

from collections.abc import Iterator, Sequence
from functools import partial

from rich.text import Text

from sqlstable.analysis.pricing.price_examples import EXAMPLES, PriceExample
from sqlstable.ic.assumptions import ASSUMPTIONS, assumptions_of
from sqlstable.ic.prices import PriceRegime
from sqlstable.ic.weights import WeightTable
from sqlstable.report.frame import listed, named_lines, title
from sqlstable.report.grid import WIDTH_MIN, ColorSystem, cell, paragraph, render
from sqlstable.report.numbers import UNKNOWN, count
from sqlstable.report.price_words import (
    computation_formula,
    heap_formula,
    stable_formula,
    until,
)
from sqlstable.report.table import Column, Table, number


def render_price_lists(
    lists: Sequence[PriceRegime],
    *,
    width: int = 100,
    color_system: ColorSystem | None = None,
    weights: bool = False,
) -> str:
    """Return price lists as text.

    Args:
        lists: Those wanted, the oldest first.
        width: Columns of the terminal; no line is wider.
        color_system: One of rich's, for a terminal; None for plain text.
        weights: Whether operators that cost more or less than most are named, too.
    """
    width = max(width, WIDTH_MIN)
    lines = [*title("Prices in instructions, by date", width), Text()]
    for regime in lists:
        lines += [*_list_lines(regime, width), Text()]
    lines += [*title("What that comes to, in instructions", width)]
    lines += [*_example_lines(lists, width), Text()]
    concerned = dict.fromkeys(name for it in lists for name in assumptions_of(it))
    if concerned:
        lines += title("What is assumed, as the sources leave it open", width)
        lines += paragraph(
            "the value in front is the default; --assume NAME=VALUE changes it", width, style="dim"
        )
        for name in concerned:
            lines += _assumption_lines(name, width)
    if weights:
        for table in {it.table.name: it.table for it in lists}.values():
            lines += [Text(), *_weight_lines(table, width)]
    return render(lines, width=width, color_system=color_system)


def _list_lines(regime: PriceRegime, width: int) -> list[Text]:
    since, last = regime.since, until(regime)
    dates = f"{since or 'the beginning'} to {last or 'today'}"
    lines = paragraph(f"{regime.name}, {dates}", width, style="bold")
    for name, text in (
        ("computing", computation_formula(regime)),
        ("stable", stable_formula(regime)),
        ("heap", heap_formula(regime)),
        ("assumed", ", ".join(f"{name} {it}" for name, it in assumptions_of(regime).items())),
        ("source", regime.source),
    ):
        lines += named_lines(name, text, width) if text else []
    return lines


def _example_lines(lists: Sequence[PriceRegime], width: int) -> list[Text]:
    columns: list[Column[PriceRegime]] = [
        Column("price list", lambda it, _: cell(it.name), rest_min=14),
        *(
            number(example.name.replace(" ", "\n"), partial(_cost, example), drop=place)
            for place, example in zip((0, 3, 2, 4, 1), EXAMPLES, strict=True)
        ),
    ]
    table = Table.holding(columns, lists, width)
    lines = table.framed([line for regime in lists for line in table.row(regime)])
    for example in EXAMPLES:
        lines += named_lines(example.name, example.meaning, width)
    return lines


def _cost(example: PriceExample, regime: PriceRegime) -> int:
    return example.instructions(regime)


def _assumption_lines(name: str, width: int) -> list[Text]:
    assumption = ASSUMPTIONS[name]
    lines = paragraph(f"{name}: {assumption.meaning}", width, style="bold")
    values = (f"{value}: {text}" for value, text in assumption.values.items())
    lines += listed([*values], width)
    lines += paragraph(f"of {', '.join(assumption.lists)}; {assumption.source}", width, style="dim")
    return lines


def _weight_lines(table: WeightTable, width: int) -> Iterator[Text]:
    yield from title(f"Weights {table.name}", width)
    yield from paragraph(
        f"an operator that is not named costs {table.default}, entering a function "
        f"{table.function_entry}, each byte or entry of a bulk operator {table.per_unit}",
        width,
    )
    for weight in sorted({*table.weights.values()} - {table.default}):
        names = " ".join(sorted(it for it, cost in table.weights.items() if cost == weight))
        yield from named_lines(count(weight), names, width)
    if table.weights_64:
        wide = " ".join(sorted(table.weights_64))
        weight = next(iter(table.weights_64.values()))
        yield from named_lines(f"{count(weight)} (64)", f"at 64-bit addresses: {wide}", width)
    yield from named_lines("source", table.source or UNKNOWN, width)
