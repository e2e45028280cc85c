"""Results of statements as tables that fit the terminal, whatever they hold.

Rows are laid out and written in batches, so that a large result costs the memory of one batch
and a reader who leaves early ends the work. Columns shrink, the widest first; where even that is
not enough, each row becomes a list of its values. A text that could be taken for something else
stands in quotes, as in SQL.
"""

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeAlias

from rich.cells import cell_len
from rich.color import ColorSystem
from rich.style import Style
from rich.text import Text

from sqlstable.cli.output import Screen, write
from sqlstable.engine.statements import Rows
from sqlstable.report.grid import GAP
from sqlstable.report.numbers import counted
from sqlstable.report.text import ELLIPSIS, clean, fit
from sqlstable.workload.execution import StatementRows
from sqlstable.workload.script import ScriptStatement, ScriptStep

COLUMN_WIDTH_MIN: Final = 8
"""Narrower columns say too little: then each row becomes a list."""

INDENT: Final = 2

BATCH_ROWS: Final = 1000
"""Rows that are laid out together; columns can become wider from one batch to the next."""

_CHARACTERS_READ_MAX: Final = 2000
"""Of a longer text only the beginning is looked at: no terminal shows more of it."""
_BLOB_BYTES_READ_MAX: Final = 64

_AMBIGUOUS: Final = re.compile(r"|null|x'.*|'.*|\s.*|.*\s", re.IGNORECASE | re.DOTALL)
_PLAIN: Final = re.compile(r"[!-&(-MO-WYZ\[-mo-wy-~](?:[ -~]{0,400}[!-~])?")
"""Most texts: nothing to escape, and nothing ambiguous at either end."""

_ESCAPED_CATEGORIES: Final = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))
_JOINERS: Final = "\N{ZERO WIDTH JOINER}\N{ZERO WIDTH NON-JOINER}"

_Paint: TypeAlias = Callable[[str, str], str]
"""Gives a text a style, where there is a terminal that shows it."""


class RowPrinter:
    """Prints what statements return, as their messages end.

    Args:
        target: What the tables have to fit.
    """

    def __init__(self, target: Screen) -> None:
        self._screen = target
        self._printed: set[tuple[int, int]] = set()

    def __call__(self, step: ScriptStep, statement: ScriptStatement, found: StatementRows) -> None:
        """Print the rows of one statement; of a repeated message only those of the first."""
        key = id(step), id(statement)
        if key in self._printed:
            return
        self._printed.add(key)
        times = f" (the first of {counted(step.repeat, 'time')})" if step.repeat > 1 else ""
        heading = f"line {statement.line}{times}: {statement.sql}"
        for piece in row_pieces(heading, found.columns, found.rows, self._screen):
            write(piece)


def row_pieces(heading: str, columns: Sequence[str], rows: Rows, screen: Screen) -> Iterator[str]:
    """Yield what a statement returned as a table under a heading, in pieces of whole lines.

    Args:
        heading: What it is the result of.
        columns: Names of the columns.
        rows: All rows.
        screen: What the table has to fit.
    """
    paint = _plain if screen.color_system is None else _painted
    layout = _Layout([clean(name) for name in columns], screen.width - INDENT, paint)
    yield paint(fit(clean(heading), screen.width), "bold") + "\n"
    for start in range(0, max(len(rows), 1), BATCH_ROWS):
        lines = layout.lines(rows[start : start + BATCH_ROWS], start)
        yield "".join(f"{' ' * INDENT}{line}\n" for line in lines)
    yield f"{' ' * INDENT}{paint(counted(len(rows), 'row'), 'dim')}\n\n"


def value_text(value: object) -> str:
    r"""Return a value of SQLite's on one line, with nothing in it that a terminal acts on.

    Examples:
        >>> [value_text(value) for value in (None, "NULL", 42, "42", b"\x00\xff", "a\tb\x1b[1m")]
        ['NULL', "'NULL'", '42', '42', "x'00ff'", 'a\\tb\\x1b[1m']
    """
    match value:
        case None:
            return "NULL"
        case bytes():
            shown = value[:_BLOB_BYTES_READ_MAX].hex()
            return f"x'{shown}{ELLIPSIS if len(value) > _BLOB_BYTES_READ_MAX else ''}'"
        case str():
            if _PLAIN.fullmatch(value):
                return value
            text = "".join(map(_visible, value[:_CHARACTERS_READ_MAX]))
            if len(value) > _CHARACTERS_READ_MAX:
                text += ELLIPSIS
            return f"'{text}'" if _AMBIGUOUS.fullmatch(value[:_CHARACTERS_READ_MAX]) else text
        case _:
            return str(value)


def _visible(character: str) -> str:
    if " " <= character <= "~" or character in _JOINERS:
        return character
    if unicodedata.category(character) in _ESCAPED_CATEGORIES:
        return character.encode("unicode_escape").decode("ascii")
    return character


def row_lines(columns: Sequence[str], rows: Rows, width: int) -> list[Text]:
    """Return a small table as lines for a larger picture."""
    lines = _Layout(columns, width, _painted).lines(rows, 0)
    return list(map(Text.from_ansi, lines))


class _Layout:
    """A table in the making: how wide its columns are so far, and which hold numbers."""

    def __init__(self, names: Sequence[str], width: int, paint: _Paint) -> None:
        self._names = names
        self._width = width
        self._paint = paint
        self._natural = list(map(cell_len, names))
        self._rights: list[bool] = []

    def lines(self, rows: Rows, start: int) -> Iterator[str]:
        """Yield the lines of some rows, before the first ones the heading; none ends in a blank.

        Args:
            rows: Of one batch.
            start: Index of the first of them.
        """
        values = list(zip(*rows, strict=True)) or [()] * len(self._names)
        texts = [list(map(value_text, column)) for column in values]
        self._natural = [
            max(size, _width(column)) for size, column in zip(self._natural, texts, strict=True)
        ]
        widths = _fitted(self._natural, self._width)
        if widths is None:
            yield from self._lists(values, texts, start)
            return
        if not start:
            self._rights = list(map(_are_numbers, values))
            yield from self._heading(widths)
        cells = [
            self._column(column, shown, width, right=right)
            for column, shown, width, right in zip(
                values, texts, widths, self._rights or [False] * len(widths), strict=True
            )
        ]
        yield from map(str.rstrip, map((" " * GAP).join, zip(*cells, strict=True)))

    def _heading(self, widths: Sequence[int]) -> Iterator[str]:
        cells = [
            self._paint(_placed(fit(name, width), width, right=right), "bold")
            for name, width, right in zip(self._names, widths, self._rights, strict=True)
        ]
        yield (" " * GAP).join(cells).rstrip()
        yield self._paint("─" * (sum(widths) + GAP * (len(widths) - 1)), "dim")

    def _column(
        self, values: Sequence[object], texts: Sequence[str], width: int, *, right: bool
    ) -> list[str]:
        """Return the cells of one column, all of one width."""
        kinds = set(map(type, values))
        if kinds <= {int, float} and _width(texts) <= width:
            return [text.rjust(width) for text in texts]
        if kinds == {str} and _are_narrow(texts) and _width(texts) <= width:
            return [text.ljust(width) for text in texts]
        return [
            self._cell(value, text, width, right=right if value is None else _is_number(value))
            for value, text in zip(values, texts, strict=True)
        ]

    def _cell(self, value: object, text: str, width: int, *, right: bool) -> str:
        if isinstance(value, bytes) and len(text) > width:
            # Cut inside of the quotes, so that it can still be seen to be a blob.
            text = f"{text[: width - 2]}{ELLIPSIS}'"
        placed = _placed(fit(text, width), width, right=right)
        return self._paint(placed, "dim italic") if value is None else placed

    def _lists(
        self, values: Sequence[Sequence[object]], texts: Sequence[Sequence[str]], start: int
    ) -> Iterator[str]:
        """Yield each row as a list, one value on a line."""
        name_width = min(max(map(cell_len, self._names)), self._width // 3)
        room = self._width - name_width - 2 * GAP
        names = [
            self._paint(_placed(fit(name, name_width), name_width), "dim") for name in self._names
        ]
        rows = zip(zip(*values, strict=True), zip(*texts, strict=True), strict=True)
        for number, (row, shown) in enumerate(rows, start + 1):
            yield self._paint(f"row {number}", "bold")
            for name, value, text in zip(names, row, shown, strict=True):
                value_cell = self._cell(value, text, room, right=False).rstrip()
                yield f"{' ' * GAP}{name}{' ' * GAP}{value_cell}"


def _plain(text: str, _style: str) -> str:
    return text


def _painted(text: str, style: str) -> str:
    return Style.parse(style).render(text, color_system=ColorSystem.STANDARD)


def _placed(text: str, width: int, *, right: bool = False) -> str:
    room = " " * (width - cell_len(text))
    return room + text if right else text + room


def _are_narrow(texts: Sequence[str]) -> bool:
    """Whether each character takes one column of the terminal."""
    return "".join(texts).isascii()


def _width(texts: Sequence[str]) -> int:
    measure = len if _are_narrow(texts) else cell_len
    return max(map(measure, texts), default=0)


def _fitted(natural: Sequence[int], width: int) -> list[int] | None:
    """Shrink the widest columns until all fit; None where one would say too little.

    Examples:
        >>> _fitted([3, 50, 20], 50), _fitted([20] * 10, 60)
        ([3, 23, 20], None)
    """
    room = width - GAP * (len(natural) - 1)
    widths = list(natural)
    while sum(widths) > room:
        widest = max(widths)
        if widest <= COLUMN_WIDTH_MIN:
            return None
        next_widest = max((size for size in widths if size < widest), default=0)
        wide = [index for index, size in enumerate(widths) if size == widest]
        over = sum(widths) - room
        step = max(1, min(widest - max(next_widest, COLUMN_WIDTH_MIN), -(-over // len(wide))))
        for index in wide:
            widths[index] -= min(step, max(sum(widths) - room, 0))
    return widths


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)


def _are_numbers(values: Sequence[object]) -> bool:
    """Tell whether a column's heading goes to the right, over numbers."""
    return bool(values) and all(isinstance(value, int | float | None) for value in values)
