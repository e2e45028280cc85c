"""What a view of a trace is: one object, from which tables and CSV are made."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, Final, Generic, TypeAlias, TypeVar

from rich.text import Text

from sqlstable.analysis.trace_source import TraceSource
from sqlstable.report.grid import paragraph
from sqlstable.report.map_look import MapLook
from sqlstable.report.numbers import counted

Item = TypeVar("Item")
Other = TypeVar("Other")

Field: TypeAlias = str | int | float | bool | None
"""One field of a row of CSV."""

Row: TypeAlias = Sequence[Field]

Glossary: TypeAlias = Sequence[tuple[str, str]]
"""Words of a table, each with what it means."""


@dataclass(frozen=True, slots=True)
class Look:
    """How much a table shows."""

    width: int = 100
    "Columns of the terminal."
    plan: bool = False
    "Whether plans stand under their statements."
    settings: bool = False
    "Whether all settings are named, and not only those that differ from the defaults."
    map: MapLook = field(default_factory=MapLook)
    "How a map of stable memory is drawn."


@dataclass(frozen=True, slots=True)
class Fields(Generic[Item]):
    """Fields that lie side by side in each row, and what they hold."""

    names: tuple[str, ...]
    "The columns of CSV."
    of: Callable[[Item], Row]
    "Returns as many values."

    def at(self, place: Callable[[Other], Item]) -> "Fields[Other]":
        """Return the same fields of what lies there."""
        return Fields(self.names, lambda it: self.of(place(it)))

    def called(self, names: Iterable[str]) -> "Fields[Item]":
        """Return the same fields under other names."""
        return Fields(tuple(names), self.of)


def named(*names: str) -> Fields[Any]:
    """Return fields that are called as the attributes that they hold.

    Examples:
        >>> named("real", "imag").of(1 + 2j), named("real").of(1 + 2j)
        ((1.0, 2.0), (1.0,))
    """
    return Fields(names, values_of(names))


def values_of(names: Sequence[str]) -> Callable[[Any], Row]:
    """Return a function that takes values out of an object; paths have dots."""
    getter: Callable[[Any], Any] = attrgetter(*names)
    return getter if len(names) > 1 else lambda it: (getter(it),)


def header(fields: Iterable[Fields[Any]]) -> tuple[str, ...]:
    """Return the names of all columns."""
    return tuple(name for each in fields for name in each.names)


def rows(fields: Sequence[Fields[Item]], items: Iterable[Item]) -> Iterator[Row]:
    """Yield a row for each item."""
    getters = [each.of for each in fields]
    for item in items:
        yield [value for of in getters for value in of(item)]


@dataclass(frozen=True, slots=True)
class View:
    """One way to look at a trace."""

    by: str
    "What one row stands for: a name of `sqlstable.report.views.By`."
    title: str
    glossary: Glossary
    lines: Callable[[TraceSource, Look], list[Text]]
    "The lines of its table."
    items: Callable[[TraceSource], Iterable[Any]]
    "What its rows stand for, in order."
    fields: tuple[Fields[Any], ...]
    "What is known of each, as in its CSV; new ones come at the end."
    has_plans: bool = False
    "Whether plans can stand under its rows."
    json: Callable[[TraceSource], Iterator[str]] | None = None
    "Its JSON in pieces, where the JSON of a whole trace does not hold all of it."
    is_one_pass: bool = False
    "Whether its table goes through the statements once, so that they need not stay in memory."
    of_calls: "View | None" = None
    "The same of a module in whose messages no SQL is seen, where its words are others."

    @property
    def header(self) -> tuple[str, ...]:
        """The columns of its CSV."""
        return header(self.fields)


ACCESSED: Final = ("accessed", "OS pages read or written")
DIRTY: Final = ("dirty", "OS pages written, even with equal bytes")
ONCE: Final = ", each counted once in its row; the total adds up the messages"
OF_STATEMENTS: Final = ", each counted once for each statement"
WHOSE: Final = (
    "whose",
    "the table, index, freelist … that owns the OS pages accessed; bar: share of the row",
)

ROWS_MAX: Final = 60
"""Up to so many rows a table in the order of the trace shows all."""
ROWS_FIRST: Final = 40
ROWS_LAST: Final = 10
assert ROWS_FIRST + ROWS_LAST < ROWS_MAX

GROUPS_MAX: Final = 50
"""Rows of a table that is sorted by what matters: what comes later matters little."""


def ends(rows: Sequence[Item]) -> tuple[Sequence[Item], int, Sequence[Item]]:
    """Return the first rows of a table, how many it leaves out, and its last rows.

    Examples:
        >>> ends(range(12)), ends(range(100))
        ((range(0, 12), 0, range(0, 0)), (range(0, 40), 50, range(90, 100)))
    """
    if len(rows) <= ROWS_MAX:
        return rows, 0, rows[:0]
    return rows[:ROWS_FIRST], len(rows) - ROWS_FIRST - ROWS_LAST, rows[-ROWS_LAST:]


def more_lines(number: int, noun: str, width: int) -> list[Text]:
    """Say how many rows a table leaves out; nothing where it has all."""
    text = f"… {counted(number, noun)}: --format csv or json for all"
    return paragraph(text, width, style="italic") if number else []
