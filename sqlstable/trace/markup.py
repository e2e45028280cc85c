"""What a notebook shows: small tables in HTML, in the notebook's own colours, light or dark.

Whatever a cell holds is shown as text: markup is escaped, control characters and those that turn
the direction of writing become visible, and what is very long loses its middle.
"""

import unicodedata
from collections.abc import Iterable, Sequence
from html import escape
from typing import Final, TypeGuard

ROWS_SHOWN: Final = 20
"""Rows that a notebook shows of anything long."""

CHARACTERS_SHOWN: Final = 400
"""Characters that it shows of one text."""

_INVISIBLE: Final = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))
_KEPT: Final = "\n\N{ZERO WIDTH JOINER}\N{ZERO WIDTH NON-JOINER}"

# Notebooks align every cell to the right; what is read from the left says so itself.
_WORDS: Final = ' style="text-align:left;white-space:pre-wrap"'
_CAPTION: Final = ' style="text-align:left"'
_NUMBER: Final = ' style="text-align:right"'


def html_table(caption: str, headings: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table; numbers stand to the right, with commas between their thousands.

    Args:
        caption: Stands above it.
        headings: Of its columns; none where the first cell of each row says what the row is.
        rows: Their cells; None is a blank one.

    Examples:
        >>> html = html_table("t", ["sql", "rows"], [["a < b", 1234]])
        >>> "a &lt; b</td>" in html, ">1,234</td>" in html
        (True, True)
    """
    listed = [tuple(row) for row in rows]
    lines = [_heading(headings, listed)] if headings else []
    lines += [f"<tr>{''.join(map(_cell, row))}</tr>" for row in listed]
    above = f"<caption{_CAPTION}>{html_text(caption)}</caption>"
    return f"<table>{above}{''.join(lines)}</table>"


def html_text(text: str) -> str:
    r"""Return foreign text as HTML that shows it.

    Examples:
        >>> html_text("<b>\x1b \u202egpj")
        '&lt;b&gt;\\x1b \\u202egpj'
    """
    if len(text) > CHARACTERS_SHOWN:
        half = CHARACTERS_SHOWN // 2
        text = f"{text[:half]} … {text[-half:]}"
    return escape("".join(map(_visible, text.replace("\r\n", "\n"))))


def number_text(value: float) -> str:
    """Spell a number with commas between its thousands.

    Examples:
        >>> number_text(1234567), number_text(0.25)
        ('1,234,567', '0.25')
    """
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"


def _heading(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return the headings, each on the side of what it stands over."""
    first = rows[0] if rows else ("",) * len(headings)
    cells = (
        f"<th{_NUMBER if _is_number(value) else _WORDS}>{html_text(heading)}</th>"
        for heading, value in zip(headings, first, strict=True)
    )
    return f"<tr>{''.join(cells)}</tr>"


def _cell(value: object) -> str:
    if _is_number(value):
        return f"<td{_NUMBER}>{number_text(value)}</td>"
    return f"<td{_WORDS}>{'' if value is None else html_text(str(value))}</td>"


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _visible(character: str) -> str:
    if character in _KEPT or unicodedata.category(character) not in _INVISIBLE:
        return character
    return character.encode("unicode_escape").decode("ascii")
