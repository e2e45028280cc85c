"""Budgets and changes since a baseline as tables for the terminal."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from rich.text import Text

from sqlstable.analysis.checking.baseline_changes import BaselineChanges, EntryChange
from sqlstable.analysis.checking.held_budget import BudgetVerdict
from sqlstable.report.check_words import (
    CHANGES_SHOWN,
    CheckReport,
    bound_words,
    change_words,
    estimate_words,
    failure_lines,
    measure_words,
    measured_words,
    settings_words,
    share_words,
    unchanged_words,
    verdict_words,
    words_of,
)
from sqlstable.report.grid import WIDTH_MIN, Cell, ColorSystem, paragraph, render, rule
from sqlstable.report.numbers import counted
from sqlstable.report.table import Column, Row, Table, number, words
from sqlstable.report.text import clean, shorten, wrap

_NAME_LINES_MAX: Final = 3
_STYLES: Final = {"regressed": "bold red", "improved": "green", "new": "blue", "gone": "yellow"}


def render_check(
    report: CheckReport, *, width: int = 100, color_system: ColorSystem | None = None
) -> str:
    """Return what a check has found as text.

    Args:
        report: What it has found.
        width: Columns of the terminal; no line is wider.
        color_system: One of rich's, for a terminal; None for plain text.
    """
    width = max(width, WIDTH_MIN)
    lines = paragraph(clean(settings_words(report)), width)
    if report.verdicts:
        lines += [Text(), *_budget_lines(report, width)]
    if report.changes is not None:
        lines += [Text(), *_change_lines(report.changes, width)]
    if estimate_words(report):
        lines += [Text(), *paragraph(estimate_words(report), width)]
    if report.summary():
        style = "bold green" if report.is_passed else "bold red"
        lines += [Text(), *paragraph(report.summary(), width, style=style)]
    return render(lines, width=width, color_system=color_system)


def _budget_lines(report: CheckReport, width: int) -> Iterator[Text]:
    columns: list[Column[BudgetVerdict]] = [
        _name("budget of", lambda it: str(it.budget.target)),
        words("what", lambda it: (measure_words(it),), width_max=26, drop=2),
        number("measured", measured_words, drop=5),
        number("budget", bound_words, drop=4),
        number("used", share_words, drop=1),
        words(
            "verdict",
            lambda it: (verdict_words(it),),
            width_max=24,
            drop=3,
            style=lambda it: "green" if it.is_kept else "bold red",
        ),
    ]
    table = Table.holding(columns, report.verdicts, width)
    yield from _framed(
        table, (line for it in report.verdicts for line in [*table.row(it), *_failure(it, width)])
    )


def _framed(table: Table[Row], body: Iterable[Text]) -> Iterator[Text]:
    yield from [*table.heading(), rule(table.width), *body, rule(table.width)]
    yield from table.left_out(way="--format json")


def _failure(found: BudgetVerdict, width: int) -> Iterator[Text]:
    for index, line in enumerate(() if found.is_kept else failure_lines(found)):
        text = "\n".join(shorten(clean(line), width - 4, lines_max=_NAME_LINES_MAX))
        style = "red" if not index else ""
        yield from (Text(f"    {one}", style=style) for one in text.split("\n"))


def _change_lines(found: BaselineChanges, width: int) -> Iterator[Text]:
    shown = found.changes[:CHANGES_SHOWN]
    if shown:
        table = _change_table(shown, width)
        yield from _framed(table, (line for it in shown for line in table.row(it)))
    left_out = len(found.changes) - len(shown)
    if left_out:
        yield from paragraph(f"and {counted(left_out, 'change')} more: --format json", width)
    yield from paragraph(unchanged_words(found), width)


def _change_table(shown: Sequence[EntryChange], width: int) -> Table[EntryChange]:
    """Fit the changes: before a number goes their words wrap; what has changed goes last."""
    tables = []
    for room in (max(width // 2, 16), max(width * 3 // 10, 16)):
        columns: list[Column[EntryChange]] = [
            _name("since the baseline", lambda it: str(it.name)),
            words("what", lambda it: (words_of(it.measure),), width_max=20, drop=3),
            number("before", _before, drop=1),
            number(
                "now",
                lambda it: "" if it.change is None else f"{it.change.current:,}",
                drop=2,
            ),
            Column("change", _change, width_max=room),
        ]
        tables.append(Table.holding(columns, shown, width))
    wide, narrow = tables
    return wide if len(wide.kept) == len(wide.columns) else narrow


def _change(found: EntryChange, width: int) -> Cell:
    return [Text(it, style=_STYLES[found.kind]) for it in wrap(clean(change_words(found)), width)]


def _before(found: EntryChange) -> str:
    previous = None if found.change is None else found.change.previous
    return "" if previous is None else f"{previous:,}"


def _name(heading: str, of: Callable[[Row], str]) -> Column[Row]:
    def shown(row: Row, width: int) -> Cell:
        return [Text(line) for line in shorten(clean(of(row)), width, lines_max=_NAME_LINES_MAX)]

    return Column(heading, shown, rest_min=16)
