"""Lines of text in columns, laid out to an exact width.

The tables here need what a plain table does not give: lines that run over all columns, and columns
with a list of bars in each cell.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from io import StringIO
from typing import Final, Literal

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from sqlstable.report.text import wrap

ColorSystem = Literal["auto", "standard", "256", "truecolor", "windows"]

WIDTH_MIN: Final = 40
"""Narrower tables are laid out at this width: below, no column for the SQL would be left."""

GAP: Final = 2
"""Columns of the terminal between two columns of a table."""

Cell = Sequence[Text]
"""The lines of one cell; an empty one is blank."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table."""

    heading: str
    "Its lines separated by newlines."
    width: int
    right: bool = False
    "Right-aligned, as numbers are."
    drop: int = 0
    "Its place in the order in which columns go where there is no room for all; 0: it stays."


def cell(text: str, style: str = "") -> Cell:
    """Return a cell of one line."""
    return [Text(text, style=style)]


def number_column(heading: str, texts: Iterable[str], *, drop: int = 0) -> Column:
    """Return a right-aligned column, as wide as its heading and its texts need."""
    return Column(heading, _width_for(heading, texts), right=True, drop=drop)


def text_column(heading: str, texts: Iterable[str], *, width_max: int, drop: int = 0) -> Column:
    """Return a left-aligned column; texts beyond ``width_max`` have to be fitted into it."""
    return Column(heading, min(_width_for(heading, texts), width_max), drop=drop)


@dataclass(frozen=True, slots=True)
class Grid:
    """The columns of one table; together they are exactly as wide as the table."""

    columns: tuple[Column, ...]
    text: int
    "Index of the column that got the width that the others left."
    kept: frozenset[int]
    "Indexes of the columns for which there is room."

    @property
    def text_width(self) -> int:
        """Width of the column for text."""
        return self.columns[self.text].width

    def heading(self) -> list[Text]:
        """Lay out the headings, all ending on the same line."""
        height = max(column.heading.count("\n") + 1 for column in self.columns)
        cells = []
        for column in self.columns:
            lines = column.heading.split("\n")
            blank = [""] * (height - len(lines))
            cells.append([Text(line, style="bold") for line in blank + lines])
        return self.row(cells)

    def row(self, cells: Sequence[Cell]) -> list[Text]:
        """Lay out one row, as many lines high as its highest cell."""
        assert len(cells) == len(self.columns)
        kept = [(self.columns[index], cells[index]) for index in sorted(self.kept)]
        height = max(len(lines) for _, lines in kept)
        return [_row_line(kept, place) for place in range(height)]


def grid(columns: Sequence[Column], *, width: int, text: int, text_width_min: int) -> Grid:
    """Fit columns into a width.

    Args:
        columns: All columns; the width of the one for text is not looked at.
        width: What they fill together.
        text: Index of the column that gets what the others leave.
        text_width_min: While it would get less, or less than a third of a narrow table, other
            columns are dropped.

    Examples:
        >>> columns = [Column("statement", 0), Column("dirty", 5), Column("whose", 20, drop=1)]
        >>> [line.plain for line in grid(columns, width=20, text=0, text_width_min=6).heading()]
        ['statement      dirty']
    """
    kept = set(range(len(columns)))
    text_width_min = min(text_width_min, width // 3)
    for index in sorted((it for it in kept if columns[it].drop), key=lambda it: columns[it].drop):
        if _left(columns, kept, text, width) >= text_width_min:
            break
        kept.remove(index)
    left = _left(columns, kept, text, width)
    assert left > 0, "the columns that may not be dropped fill the table"
    fitted = [
        replace(column, width=left) if index == text else column
        for index, column in enumerate(columns)
    ]
    return Grid(tuple(fitted), text, frozenset(kept))


def left_out_lines(table: Grid, width: int, *, stacked: Collection[str] = ()) -> list[Text]:
    """Say which columns there was no room for, but for those that rows have elsewhere."""
    headings = [
        " ".join(column.heading.split())
        for index, column in enumerate(table.columns)
        if index not in table.kept
    ]
    left_out = [heading for heading in headings if heading and heading not in stacked]
    if not left_out:
        return []
    text = f"left out at this width: {', '.join(left_out)}; use a wider terminal, or --format csv"
    return paragraph(text, width, style="italic")


def rule(width: int) -> Text:
    """Return a line across the table."""
    return Text("─" * width, style="dim")


def paragraph(text: str, width: int, *, style: str = "", indent: int = 0) -> list[Text]:
    """Return a text as indented lines."""
    return [Text(" " * indent + line, style=style) for line in wrap(text, width - indent)]


def fold(line: Text, width: int) -> list[Text]:
    """Return a line as lines that fit, the later ones indented deeper than it is.

    It breaks before a comment of SQL, else where columns part, else between words.

    Examples:
        >>> [it.plain for it in fold(Text("   SELECT name FROM shop"), 20)]
        ['   SELECT name FROM', '     shop']
    """
    lines, hang = [], ""
    while len(hang) + line.cell_len > width:
        place = _break(line.plain, width - len(hang))
        first, line = line.divide([place])
        first.rstrip()
        lines.append(Text(hang).append_text(first))
        if not hang:
            indent = len(first.plain) - len(first.plain.lstrip())
            hang = " " * (min(indent, width // 4) + 2)
        line = line[len(line.plain) - len(line.plain.lstrip()) :]
    return [*lines, Text(hang).append_text(line)]


def _break(text: str, width: int) -> int:
    indent = len(text) - len(text.lstrip())
    for place in (
        text.find(" -- ", indent, width + 4),
        text.rfind("   ", indent, width + 3),
        text.rfind(" ", indent, width + 1),
    ):
        if place > indent:
            return place
    return width


def render(lines: Iterable[Text], *, width: int, color_system: ColorSystem | None) -> str:
    """Turn lines into one string; no line is wider than ``width``.

    Without a colour system the result is plain text, without blanks at the ends of lines.
    """
    console = Console(
        width=width,
        file=StringIO(),
        color_system=color_system,
        force_terminal=color_system is not None,
        force_jupyter=False,
        legacy_windows=False,
    )
    with console.capture() as capture:
        for line in lines:
            console.print(line, no_wrap=True, overflow="ellipsis", crop=True)
    rendered = capture.get()
    if color_system is not None:
        return rendered
    return "".join(f"{line.rstrip()}\n" for line in rendered.splitlines())


def _width_for(heading: str, texts: Iterable[str]) -> int:
    return max(map(cell_len, [*heading.split("\n"), *texts]))


def _left(columns: Sequence[Column], kept: set[int], text: int, width: int) -> int:
    return width - sum(columns[index].width + GAP for index in kept if index != text)


def _row_line(cells: Sequence[tuple[Column, Cell]], place: int) -> Text:
    """Return one line of a row; every cell is filled up to its column's width."""
    line = Text()
    for column, lines in cells:
        text = lines[place] if place < len(lines) else Text()
        room = max(0, column.width - text.cell_len)
        line.append(" " * (GAP if line else 0))
        line.append(" " * (room if column.right else 0))
        line.append_text(text)
        line.append(" " * (0 if column.right else room))
    return line
