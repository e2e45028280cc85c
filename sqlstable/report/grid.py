"""Lines of text, fitted into a width; `sqlstable.report.table` puts them into columns."""

from collections.abc import Iterable, Sequence
from io import StringIO
from typing import Final, Literal

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


def cell(text: str, style: str = "") -> Cell:
    """Return a cell of one line."""
    return [Text(text, style=style)]


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
