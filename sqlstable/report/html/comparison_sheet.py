"""The sheet of two traces side by side, and what stands above it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlstable.analysis.compare import Comparison, StatementPair, settings_that_differ
from sqlstable.report.comparison import (
    EMPTY,
    caution_lines,
    changes_counted,
    glossary,
    marks_of,
    of_calls,
    plan_changes,
    result_change,
)
from sqlstable.report.frame import NO_SETTINGS, SETTINGS, setting_value
from sqlstable.report.html.sheet import (
    Place,
    Sheet,
    SheetColumn,
    SheetDetail,
    SheetWords,
    sheet,
)
from sqlstable.report.html.summary_words import plain
from sqlstable.report.html.trace_sheets import LINE, WIDE
from sqlstable.report.measures import TABLE_MEASURES, TableMeasure
from sqlstable.report.numbers import count
from sqlstable.report.text import clean

NO_NAME: Final = ("before", "after")

_OF_STATEMENTS: Final = (
    "Statements, before and after",
    (
        "Paired by their SQL, then by their shape. Numbers are those after, and what they changed "
        "by. Open a row for those before and the plan: lines that went have a minus, those that "
        "came a plus."
    ),
)
_OF_CALLS: Final = (
    "Calls, before and after",
    (
        "Paired by method and argument, then by method. Numbers are those after, and what they "
        "changed by. Open a row for those before."
    ),
)
"""Titles and notes of sheets."""

_OF_SQL: Final = ("plan", "rows", "kind")
"""Columns that say nothing of calls."""


@dataclass(frozen=True, slots=True)
class TotalRow:
    """One number of both traces."""

    label: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class ComparisonWords:
    """What stands on top of a comparison."""

    names: tuple[str, str]
    counts: str
    cautions: tuple[str, ...]
    totals: tuple[TotalRow, ...]
    differing: tuple[TotalRow, ...]
    "Settings that are not the same."


def comparison_words(comparison: Comparison, names: tuple[str, str]) -> ComparisonWords:
    """Return what two traces come to, and what differs in how they were recorded."""
    before, after = comparison.before_settings, comparison.after_settings
    differing = settings_that_differ(before, after, NO_SETTINGS, first=SETTINGS)
    return ComparisonWords(
        names=tuple(clean(name) or other for name, other in zip(names, NO_NAME, strict=True)),  # type: ignore[arg-type]
        counts=changes_counted(comparison) if comparison.pairs else EMPTY,
        cautions=tuple(plain(caution_lines(comparison, WIDE))),
        totals=tuple(_totals(comparison)),
        differing=tuple(
            TotalRow(
                clean(name),
                *(setting_value(name, it.values.get(name)) for it in (before, after)),
            )
            for name in differing
        ),
    )


def _totals(comparison: Comparison) -> Iterator[TotalRow]:
    before, after = comparison.before, comparison.after
    yield TotalRow("messages", count(before.message_count), count(after.message_count))
    if not of_calls(comparison):
        yield TotalRow("statements", count(before.statement_count), count(after.statement_count))
    for measure in TABLE_MEASURES:
        sides = (measure.of(before), measure.of(after))
        if sides != (None, None):
            yield TotalRow(_heading(measure), *map(count, sides))


def comparison_sheet(comparison: Comparison) -> Sheet:
    """Return a row for each statement of two traces, before and after."""
    marks = marks_of(comparison)
    columns: list[SheetColumn[StatementPair]] = [
        SheetColumn("index", "#", lambda it: None if it.after is None else it.after.index),
        SheetColumn("sql", "statement", _sql, "text"),
        SheetColumn("change", "change", lambda it: marks[it.change][0], "choice"),
        SheetColumn("plan", "plan", _plan_word, "choice", "wide"),
        *(column for measure in enumerate(TABLE_MEASURES) for column in _measure(*measure)),
        SheetColumn("rows", "rows", lambda it: _side(it, lambda one: one.row_count), place="wide"),
        SheetColumn("kind", "kind", lambda it: _side(it, lambda one: one.kind), "choice", "detail"),
        SheetColumn("cache_before", "heap before", lambda it: it.cache_before, "choice", "detail"),
        SheetColumn("cache_after", "heap after", lambda it: it.cache_after, "choice", "detail"),
    ]
    details: list[SheetDetail[StatementPair]] = [
        SheetDetail("result", "Result", _result, LINE, is_list=True),
        SheetDetail("plans", "Plan", _plans, LINE, is_list=True),
    ]
    title, note = _OF_STATEMENTS
    if of_calls(comparison):
        title, note = _OF_CALLS
        columns = [it for it in columns if it.name not in _OF_SQL]
        columns[1] = replace(columns[1], heading="call")
    words = SheetWords(
        "statements",
        title,
        "statement",
        note,
        (),
        tuple(glossary(comparison)),
    )
    pairs = comparison.pairs
    return sheet(words, columns, pairs, count=len(pairs), details=details)


def _heading(measure: TableMeasure) -> str:
    return " ".join(measure.heading.split())


def _measure(place: int, measure: TableMeasure) -> Iterator[SheetColumn[StatementPair]]:
    """Yield a measure before and after, and by how much it changed."""
    name, heading = f"measure_{place}", _heading(measure)

    def of(side: Any) -> int | None:  # noqa: ANN401  a statement, or none
        return None if side is None else measure.of(side)

    def change(pair: StatementPair) -> int | None:
        before, after = of(pair.before), of(pair.after)
        return None if before is None or after is None else after - before

    shown: Place = "row" if measure.is_main else "wide"
    before = f"{heading} before"
    yield SheetColumn(f"{name}_before", before, lambda it: of(it.before), place="detail")
    yield SheetColumn(f"{name}_after", heading, lambda it: of(it.after), place="wide")
    yield SheetColumn(f"{name}_change", "change of it", change, "change", shown)


def _side(pair: StatementPair, of: Callable[[Any], Any]) -> Any:  # noqa: ANN401  a field
    return of(pair.after or pair.before)


def _sql(pair: StatementPair) -> str:
    return str(_side(pair, lambda it: it.sql)) or "(empty statement)"


def _plan_word(pair: StatementPair) -> str | None:
    if pair.before is None or pair.after is None:
        return None
    return "changed" if pair.plan_changed else "same"


def _result(pair: StatementPair) -> Iterator[str]:
    if pair.different_result_size and pair.before is not None and pair.after is not None:
        yield f"different result size: {result_change(pair.before, pair.after)}"


def _plans(pair: StatementPair) -> Iterator[str]:
    before = () if pair.before is None else pair.before.plan
    after = () if pair.after is None else pair.after.plan
    for sign, line in plan_changes(before, after):
        yield f"{sign} {line}"
