"""A sheet: many rows of an HTML page that its script sorts, filters, and draws a part at a time.

Rows are packed as columns of whole numbers. A text is its place in a list of texts, each there
once; what lies below a row, such as its owners, is a table of its own with a count for each row.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final, Generic, Literal, TypeVar

import numpy as np

from sqlstable.report.html.pictures.picture import Integers, Json
from sqlstable.report.measures import TABLE_MEASURES
from sqlstable.report.text import clean

Item = TypeVar("Item")

ROWS_MAX: Final = 100_000
"""Rows of a sheet at most; a page says how many more there are."""

NUMBER_MAX: Final = 2**53 - 1
"""A browser tells no larger whole numbers apart; only damaged traces have such."""
UNKNOWN: Final = -1

TEXT_CHARACTERS_MAX: Final = 4_000
TEXT_LINES_MAX: Final = 80
INDENT_MAX: Final = 40

PARTS_OF_A_WHOLE: Final = 10_000
"""In which shares are counted."""

Unit = Literal["number", "bytes", "share", "change", "text", "choice"]
"""What a column holds; a choice is a text of few values, and a change may be negative."""

Place = Literal["row", "wide", "detail", "nowhere"]
"""Where a column is shown: in every row, in rows with room, below an opened row, or not itself."""


@dataclass(frozen=True, slots=True)
class SheetColumn(Generic[Item]):
    """One column of a sheet, or of a table below its rows."""

    name: str
    heading: str
    of: Callable[[Item], int | str | None]
    "None where it is not known."
    unit: Unit = "number"
    place: Place = "row"
    sort_by: str = ""
    "The column by which it is sorted; empty for itself."

    @property
    def is_text(self) -> bool:
        """Whether it holds texts."""
        return self.unit in ("text", "choice")


@dataclass(frozen=True, slots=True)
class SheetDetail(Generic[Item]):
    """A table below each row that has something in it."""

    name: str
    heading: str
    of: Callable[[Item], Iterable[Any]]
    columns: tuple[SheetColumn[Any], ...]
    is_list: bool = False
    "Whether it is lines of text, and no table."


@dataclass(frozen=True, slots=True)
class SheetWords:
    """What a sheet is called, and how it is read."""

    id: str
    title: str
    noun: str
    "What a row stands for; rows can be linked to by it and their number."
    note: str = ""
    links: tuple[Mapping[str, Json], ...] = ()
    "From a row to rows of another sheet: words, sheet, column there, column here."
    glossary: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Sheet:
    """A sheet, packed."""

    words: SheetWords
    row_count: int
    left_out: int
    facts: Mapping[str, Json]
    columns: Mapping[str, Integers]

    @property
    def id(self) -> str:
        """The id of its place in the page."""
        return self.words.id


@dataclass(slots=True)
class _Filling:
    """The columns of one table while rows come."""

    prefix: str
    columns: tuple[SheetColumn[Any], ...]
    values: dict[str, list[int]] = field(default_factory=dict)
    texts: dict[str, dict[str, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for column in self.columns:
            self.values[column.name] = []
            if column.is_text:
                self.texts[column.name] = {}

    def add(self, item: object) -> None:
        for column in self.columns:
            found = column.of(item)
            self.values[column.name].append(self._whole(column, found))

    def _whole(self, column: SheetColumn[Any], found: int | str | None) -> int:
        if found is None:
            return UNKNOWN
        if column.is_text:
            texts = self.texts[column.name]
            return texts.setdefault(str(found), len(texts))
        assert isinstance(found, int)
        if column.unit == "change":
            # Columns are packed from -1 on, so the sign goes into the lowest bit.
            size = min(abs(found), NUMBER_MAX // 2)
            return 2 * size if found >= 0 else 2 * size - 1
        return max(min(found, NUMBER_MAX), UNKNOWN)

    def described(self) -> list[Json]:
        return [
            {
                "name": column.name,
                "heading": column.heading,
                "unit": column.unit,
                "place": column.place,
                "sort_by": column.sort_by or column.name,
                "texts": [shown_text(text) for text in self.texts.get(column.name, ())],
            }
            for column in self.columns
            if self._is_known(column.name)
        ]

    def packed(self) -> Iterator[tuple[str, Integers]]:
        for name, values in self.values.items():
            if self._is_known(name):
                yield f"{self.prefix}{name}", np.array(values, np.int64)

    def _is_known(self, name: str) -> bool:
        return any(value >= 0 for value in self.values[name])


def sheet(
    words: SheetWords,
    columns: Sequence[SheetColumn[Item]],
    items: Iterable[Item],
    *,
    count: int,
    details: Sequence[SheetDetail[Item]] = (),
) -> Sheet:
    """Return the sheet of some items; columns and details of which nothing is known are not in it.

    Args:
        words: What it is called.
        columns: Of each row.
        items: What the rows stand for, in the order in which they are shown.
        count: How many there are.
        details: What lies below rows.
    """
    rows = _Filling("", tuple(columns))
    below = [(it, _Filling(f"{it.name}.", it.columns)) for it in details]
    counts: dict[str, list[int]] = {it.name: [] for it in details}
    for item in islice(items, ROWS_MAX):
        rows.add(item)
        for detail, filling in below:
            listed = list(detail.of(item))
            counts[detail.name].append(len(listed))
            for each in listed:
                filling.add(each)
    found = [(it, filling) for it, filling in below if any(counts[it.name])]
    packed = dict(rows.packed())
    for detail, filling in found:
        packed |= dict(filling.packed())
        packed[f"{detail.name}.count"] = np.array(counts[detail.name], np.int64)
    shown = min(count, ROWS_MAX)
    facts: dict[str, Json] = {
        "noun": words.noun,
        "count": shown,
        "columns": rows.described(),
        "details": [
            {
                "name": it.name,
                "heading": it.heading,
                "is_list": it.is_list,
                "columns": filling.described(),
            }
            for it, filling in found
        ],
        "links": list(words.links),
    }
    return Sheet(words, count, count - shown, facts, packed)


def measure_sheet_columns(of: Callable[[Item], Any]) -> list[SheetColumn[Item]]:
    """Return a column for each measure that tables have, of what an item holds.

    Args:
        of: Returns what is measured.
    """
    return [
        SheetColumn(
            name=f"measure_{place}",
            heading=" ".join(measure.heading.split()),
            of=lambda it, measure=measure: measure.of(of(it)),  # type: ignore[misc]
            place="row" if measure.is_main else "wide",
        )
        for place, measure in enumerate(TABLE_MEASURES)
    ]


def shown_text(text: str) -> str:
    r"""Return a text with nothing invisible in it, its lines and their indents kept.

    Examples:
        >>> shown_text("SELECT\n  1\x00")
        'SELECT\n  1␀'
    """
    if len(text) <= TEXT_CHARACTERS_MAX and text.isascii() and text.isprintable():
        return text
    if len(text) > TEXT_CHARACTERS_MAX:
        half = TEXT_CHARACTERS_MAX // 2
        text = f"{text[:half]} … {text[-half:]}"
    lines = text.split("\n")
    if len(lines) > TEXT_LINES_MAX:
        lines = [*lines[: TEXT_LINES_MAX // 2], "…", *lines[-TEXT_LINES_MAX // 2 :]]
    return "\n".join(_line(line) for line in lines).strip("\n")


def _line(line: str) -> str:
    indent = len(line) - len(line.lstrip(" \t"))
    return " " * min(indent, INDENT_MAX) + clean(line)
