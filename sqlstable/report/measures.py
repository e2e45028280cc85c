"""What is counted, and the columns that it fills: one list for tables, CSV and JSON.

A measure that is added here has a column in the table of every view, or in its CSV, or both.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Final, Protocol

from sqlstable.ic.words import INSTRUCTION_PHASES
from sqlstable.report.numbers import count
from sqlstable.report.sample_words import ESTIMATED
from sqlstable.report.table import Column, number
from sqlstable.report.view import Fields, Row, named, values_of
from sqlstable.trace.format.schema import COST_FIELDS, HEAP_FIELDS, STABLE_COLUMNS, STABLE_FIELDS
from sqlstable.trace.model import HeapUse, Instructions, StableUse, Statement


class Measured(Protocol):
    """Whatever a row stands for."""

    @property
    def stable(self) -> StableUse:
        """What it did to stable memory."""
        ...

    @property
    def instructions(self) -> Instructions | None:
        """What it cost."""
        ...


# -- in CSV --------------------------------------------------------------------------------------

STABLE: Final[Fields[Measured]] = Fields(
    STABLE_COLUMNS, values_of([f"stable.{name}" for name in STABLE_FIELDS])
)
"""What was done to stable memory."""

INSTRUCTION_PARTS: Final = COST_FIELDS[:4]

INSTRUCTIONS: Final = tuple(f"instructions_{name}" for name in INSTRUCTION_PARTS)
"""Columns of what it cost: in every view."""


def _known(names: Sequence[str]) -> Callable[[object], Row]:
    """Return what takes values out of an object, or of None as many times none."""
    of, nothing = values_of(names), (None,) * len(names)
    return lambda it: nothing if it is None else of(it)


SPENT: Final[Fields[Instructions | None]] = Fields(INSTRUCTIONS, _known(INSTRUCTION_PARTS))
"""What it cost, where that is known."""

HOW_KNOWN: Final[Fields[Measured]] = Fields(
    ("instructions_measured", "instructions_error_band"),
    lambda it: (
        (None, None)
        if it.instructions is None
        else (it.instructions.measured, it.instructions.error_band)
    ),
)
"""Whether that was counted, or else within which share of it one such estimate lies."""

COST: Final = SPENT.at(attrgetter("instructions"))
"""What something cost."""

PHASES: Final[Fields[Statement]] = Fields(
    tuple(f"instructions_{phase}" for phase in INSTRUCTION_PHASES),
    lambda it: [(it.phase_instructions or {}).get(phase) for phase in INSTRUCTION_PHASES],
)
"""What a statement's phases cost, encoding its rows included."""

CYCLES: Final[Fields[Any]] = named("cycles", "cycles_as_update")
"""What it cost in cycles, and what is free in queries were these called as updates."""

CYCLES_HEADING: Final = "cycles"
"""Of their column in tables."""

HEAP: Final[Fields[HeapUse | None]] = Fields(
    tuple(f"heap_{name}" for name in HEAP_FIELDS), _known(HEAP_FIELDS)
)
"""What a message did to the heap, where it was watched."""


# -- in tables -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TableMeasure:
    """A measure that has a column in every table."""

    heading: str
    of: Callable[[Any], int | None]
    "Takes a `Measured`."
    drop: int
    "When its column goes where there is no room; 0 for never."
    is_main: bool = False
    is_estimated: Callable[[Any], bool] = lambda _: False
    "Tells of a `Measured` whether the number was not counted."

    def spelled(self, row: Any) -> str | int | None:  # noqa: ANN401  a `Measured`
        """Return the number as tables show it: with a sign where it was estimated."""
        found = self.of(row)
        if found is None or not self.is_estimated(row):
            return found
        return f"{ESTIMATED} {count(found)}"


TABLE_MEASURES: Final = (
    TableMeasure("OS pages\naccessed", lambda it: it.stable.os_pages_accessed, 0, is_main=True),
    TableMeasure("dirty", lambda it: it.stable.os_pages_dirty, 8),
    TableMeasure(
        "instr.",
        lambda it: None if it.instructions is None else it.instructions.total,
        9,
        is_estimated=lambda it: it.instructions is not None and not it.instructions.measured,
    ),
)
"""The measures of every table, from left to right."""

ALWAYS: Final = TABLE_MEASURES[:2]
"""Those that were counted in every trace."""


def shown_measures(rows: Iterable[Measured]) -> tuple[TableMeasure, ...]:
    """Return the measures of which some row has a number."""
    listed = list(rows)
    return tuple(
        measure
        for measure in TABLE_MEASURES
        if measure in ALWAYS or any(measure.of(row) is not None for row in listed)
    )


def cycle_columns(rows: Iterable[Any], *, drop: int) -> list[Column[Any]]:
    """Return a column of cycles; none where no row has some that are not free.

    Args:
        rows: Each `Measured`, with ``cycles``.
        drop: When it goes where there is no room.
    """
    if not any(it.cycles for it in rows):
        return []
    return [number(CYCLES_HEADING, lambda it: _spelled(it.cycles, it), drop=drop)]


def as_update_columns(rows: Iterable[Any], *, drop: int) -> list[Column[Any]]:
    """Return a column of what is free in queries and paid in updates; none where nothing is.

    Args:
        rows: Each `Measured`, with ``cycles_as_update``.
        drop: When it goes where there is no room.
    """
    if not any(it.cycles_as_update for it in rows):
        return []
    heading = "queries\nas updates"
    return [number(heading, lambda it: _spelled(it.cycles_as_update, it), drop=drop)]


def _spelled(cycles: int | None, row: Measured) -> str | int | None:
    spent = row.instructions
    if cycles is None or spent is None or spent.measured:
        return cycles
    return f"{ESTIMATED} {count(cycles)}"


def measure_columns(
    measures: Iterable[TableMeasure], style: Callable[[Any, bool], str] | None = None
) -> list[Column[Any]]:
    """Return one column for each measure.

    Args:
        measures: What `shown_measures` returned.
        style: Returns the style of a row's cell, given whether the measure is the main one.
    """
    return [_column(measure, style) for measure in measures]


def _column(measure: TableMeasure, style: Callable[[Any, bool], str] | None) -> Column[Any]:
    main = "bold" * measure.is_main
    return number(
        measure.heading,
        measure.spelled,
        drop=measure.drop,
        style=main if style is None else lambda row: style(row, measure.is_main),
    )


@dataclass(frozen=True, slots=True)
class Sum:
    """Something measured that is no statement and no message."""

    stable: StableUse
    instructions: Instructions | None = None
