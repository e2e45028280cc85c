"""Results of statements as tables that fit the terminal, whatever they hold.

Columns shrink, the widest first; where even that is not enough, each row becomes a list of its
values. A text that could be taken for something else stands in quotes, as in SQL.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Final

from rich.cells import cell_len
from rich.text import Text

from sqlstable.cli.output import Screen, write
from sqlstable.engine.protocol import Rows
from sqlstable.report.grid import GAP, render, rule
from sqlstable.report.numbers import counted
from sqlstable.report.text import ELLIPSIS, clean, fit
from sqlstable.workload.run import StatementRows
from sqlstable.workload.script import ScriptStatement, ScriptStep

COLUMN_WIDTH_MIN: Final = 8
"""Narrower columns say too little: then each row becomes a list."""

INDENT: Final = 2

_CHARACTERS_READ_MAX: Final = 2000
"""Of a longer text only the beginning is looked at: no terminal shows more of it."""
_BLOB_BYTES_READ_MAX: Final = 64

_AMBIGUOUS: Final = re.compile(r"|null|x'.*|'.*|\s.*|.*\s", re.IGNORECASE | re.DOTALL)
_ESCAPED_CATEGORIES: Final = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))
_JOINERS: Final = "\N{ZERO WIDTH JOINER}\N{ZERO WIDTH NON-JOINER}"


class RowPrinter:
    """Prints what statements return, as their messages end.

    Args:
        target: What the tables have to fit.
    """

    def __init__(self, target: Screen) -> None:
        """Begin with nothing printed."""
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
        write(render_rows(heading, found.columns, found.rows, self._screen))


def render_rows(heading: str, columns: Sequence[str], rows: Rows, screen: Screen) -> str:
    """Return what a statement returned as a table under a heading.

    Args:
        heading: What it is the result of.
        columns: Names of the columns.
        rows: All rows.
        screen: What the table has to fit.
    """
    lines = [
        Text(fit(clean(heading), screen.width), style="bold"),
        *row_lines([clean(name) for name in columns], rows, screen.width - INDENT),
        Text(counted(len(rows), "row"), style="dim"),
    ]
    indented = [lines[0], *(Text(" " * INDENT).append_text(line) for line in lines[1:]), Text()]
    if screen.color_system is None:
        # The same text in a third of the time: results can have many rows.
        return "".join(f"{line.plain.rstrip()}\n" for line in indented)
    return render(indented, width=screen.width, color_system=screen.color_system)


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


def row_lines(columns: Sequence[str], rows: Rows, width: int) -> Iterator[Text]:
    """Yield a table of rows; a list of each row's values where the width is not enough."""
    widths = _fitted(_natural_widths(columns, rows), width)
    if widths is None:
        yield from _list_lines(columns, rows, width)
        return
    rights = [_are_numbers(rows, index) for index in range(len(columns))]
    yield _joined(
        [
            _placed(Text(fit(name, size), style="bold"), size, right=right)
            for name, size, right in zip(columns, widths, rights, strict=True)
        ]
    )
    yield rule(sum(widths) + GAP * (len(widths) - 1))
    for row in rows:
        yield _joined(
            [
                _placed(_value(value, size), size, right=_goes_right(value, column_goes=right))
                for value, size, right in zip(row, widths, rights, strict=True)
            ]
        )


def _list_lines(columns: Sequence[str], rows: Rows, width: int) -> Iterator[Text]:
    """Yield each row as a list, one value on a line."""
    name_width = min(max(map(cell_len, columns)), width // 3)
    for number, row in enumerate(rows, 1):
        yield Text(f"row {number}", style="bold")
        for name, value in zip(columns, row, strict=True):
            line = Text(" " * GAP)
            line.append_text(_placed(Text(fit(name, name_width), style="dim"), name_width))
            line.append(" " * GAP)
            yield line.append_text(_value(value, width - name_width - 2 * GAP))


def _value(value: object, width: int) -> Text:
    text = value_text(value)
    if isinstance(value, bytes) and len(text) > width:
        # Cut inside of the quotes, so that it can still be seen to be a blob.
        text = f"{text[: width - 2]}{ELLIPSIS}'"
    return Text(fit(text, width), style="dim italic" if value is None else "")


def _placed(text: Text, width: int, *, right: bool = False) -> Text:
    room = Text(" " * (width - text.cell_len))
    return room.append_text(text) if right else text.append_text(room)


def _joined(cells: Sequence[Text]) -> Text:
    return Text(" " * GAP).join(cells)


def _natural_widths(columns: Sequence[str], rows: Rows) -> list[int]:
    widths = list(map(cell_len, columns))
    for row in rows:
        widths = [
            max(size, cell_len(value_text(value))) for size, value in zip(widths, row, strict=True)
        ]
    return widths


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


def _goes_right(value: object, *, column_goes: bool) -> bool:
    return column_goes if value is None else isinstance(value, int | float)


def _are_numbers(rows: Rows, index: int) -> bool:
    """Tell whether a column's heading goes to the right, over numbers."""
    return bool(rows) and all(isinstance(row[index], int | float | None) for row in rows)
