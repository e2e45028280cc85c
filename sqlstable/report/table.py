"""Tables of columns that say once what they are called and what they show of a row."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Generic, Self, TypeVar

from rich.cells import cell_len
from rich.text import Text

from sqlstable.report.grid import GAP, Cell, cell, paragraph, rule
from sqlstable.report.numbers import count
from sqlstable.report.text import fit

Row = TypeVar("Row")

_ENDLESS: Final = 1 << 20
"""Columns of the terminal that no cell needs."""


@dataclass(frozen=True, slots=True)
class Column(Generic[Row]):
    """One column of a table, as wide as its heading and its cells need."""

    heading: str
    "Its lines separated by newlines."
    cell: Callable[[Row, int], Cell]
    "Returns what it shows of a row, no line wider than it is told."
    right: bool = False
    "Right-aligned, as numbers are."
    drop: int = 0
    "Its place in the order in which columns go where there is no room for all; 0: it stays."
    width: int = 0
    "Where it is known beforehand."
    width_max: int = _ENDLESS
    rest_min: int = 0
    """Of the one column that gets what the others leave: while it would get less, or less than a
    third of a narrow table, others are dropped."""

    def width_for(self, rows: Iterable[Row]) -> int:
        """Return how wide it is where it holds these rows."""
        lines = [*self.heading.split("\n")]
        lines += [line.plain for row in rows for line in self.cell(row, _ENDLESS)]
        return min(max(map(cell_len, lines)), self.width_max)


def number(
    heading: str,
    of: Callable[[Row], float | str | None],
    *,
    drop: int = 0,
    style: str | Callable[[Row], str] = "",
) -> Column[Row]:
    """Return a right-aligned column of counts; what is spelled already stays as it is."""

    def shown(row: Row, _width: int) -> Cell:
        found = of(row)
        text = found if isinstance(found, str) else count(found)
        return cell(text, style if isinstance(style, str) else style(row))

    return Column(heading, shown, right=True, drop=drop)


def words(
    heading: str,
    of: Callable[[Row], Sequence[str]],
    *,
    width_max: int,
    drop: int = 0,
    style: str | Callable[[Row], str] = "",
) -> Column[Row]:
    """Return a left-aligned column of lines, cut where they are wider than it may be."""

    def shown(row: Row, width: int) -> Cell:
        chosen = style if isinstance(style, str) else style(row)
        return [Text(fit(line, width), style=chosen) for line in of(row)]

    return Column(heading, shown, drop=drop, width_max=width_max)


@dataclass(frozen=True, slots=True)
class Table(Generic[Row]):
    """Columns fitted into a width, which they fill exactly.

    Examples:
        >>> columns = [
        ...     Column("statement", lambda it, _: cell(it), rest_min=6),
        ...     number("dirty", len),
        ...     words("whose OS pages", lambda _: ["t"], width_max=20, drop=1),
        ... ]
        >>> table = Table.holding(columns, ["COMMIT"], 20)
        >>> [line.plain for line in [*table.heading(), *table.row("COMMIT")]]
        ['statement      dirty', 'COMMIT             6']
    """

    columns: tuple[Column[Row], ...]
    widths: tuple[int, ...]
    kept: frozenset[int]
    "Indexes of the columns for which there is room."
    width: int

    @classmethod
    def holding(cls, columns: Iterable[Column[Row]], rows: Sequence[Row], width: int) -> Self:
        """Return the table that holds these rows; one of its columns takes the rest."""
        listed = tuple(columns)
        (rest,) = (index for index, column in enumerate(listed) if column.rest_min)
        widths = [
            0 if column.rest_min else column.width or column.width_for(rows) for column in listed
        ]
        rest_min = min(listed[rest].rest_min, width // 3)
        kept = dict.fromkeys(range(len(listed)))

        def left() -> int:
            return width - sum(widths[index] + GAP for index in kept if index != rest)

        droppable = (index for index in range(len(listed)) if listed[index].drop)
        for index in sorted(droppable, key=lambda index: listed[index].drop):
            if left() >= rest_min:
                break
            del kept[index]
        widths[rest] = left()
        assert widths[rest] > 0, "the columns that may not be dropped fill the table"
        return cls(listed, tuple(widths), frozenset(kept), width)

    def has(self, heading: str) -> bool:
        """Tell whether there is room for a column."""
        return any(self.columns[index].heading == heading for index in self.kept)

    def heading(self) -> list[Text]:
        """Lay out the headings, all ending on the same line."""
        height = max(column.heading.count("\n") + 1 for column in self.columns)
        cells = {}
        for index in self.kept:
            lines = self.columns[index].heading.split("\n")
            blank = [""] * (height - len(lines))
            cells[index] = [Text(line, style="bold") for line in blank + lines]
        return self._laid_out(cells)

    def row(self, row: Row) -> list[Text]:
        """Lay out one row, as many lines high as its highest cell."""
        return self._laid_out(
            {index: self.columns[index].cell(row, self.widths[index]) for index in self.kept}
        )

    def framed(
        self,
        body: Iterable[Text],
        *,
        sums: Iterable[Row] = (),
        stacked: Collection[str] = (),
    ) -> list[Text]:
        """Return the whole table: headings, lines, sums, and for which columns there was no room.

        Args:
            body: The lines of its rows, and what stands between them.
            sums: Rows below the line.
            stacked: Headings of columns that rows have elsewhere where there is no room.
        """
        lines = [*self.heading(), rule(self.width), *body, rule(self.width)]
        for row in sums:
            lines += self.row(row)
        return [*lines, *self.left_out(stacked)]

    def left_out(self, stacked: Collection[str] = (), *, way: str = "--format csv") -> list[Text]:
        """Return a sentence on columns for which there was no room, if there are any.

        Args:
            stacked: Headings of columns that rows have elsewhere where there is no room.
            way: The option that writes them all.
        """
        left_out = [
            " ".join(column.heading.split())
            for index, column in enumerate(self.columns)
            if index not in self.kept and column.heading and column.heading not in stacked
        ]
        if not left_out:
            return []
        names = ", ".join(left_out)
        text = f"left out at this width: {names}; use a wider terminal, or {way}"
        return paragraph(text, self.width, style="italic")

    def _laid_out(self, cells: Mapping[int, Cell]) -> list[Text]:
        height = max(map(len, cells.values()))
        return [self._line(cells, place) for place in range(height)]

    def _line(self, cells: Mapping[int, Cell], place: int) -> Text:
        """Return one line of a row; every cell is filled up to its column's width."""
        line = Text()
        for index in sorted(cells):
            lines, right = cells[index], self.columns[index].right
            text = lines[place] if place < len(lines) else Text()
            room = max(0, self.widths[index] - text.cell_len)
            line.append(" " * (GAP if line else 0))
            line.append(" " * (room if right else 0))
            line.append_text(text)
            line.append(" " * (0 if right else room))
        return line
