"""A trace as a table for the terminal, with one row per statement, shape, owner or message."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal, get_args

from rich.text import Text

from sqlstable.analysis.source import TraceSource
from sqlstable.errors import SettingsError
from sqlstable.report.by_message import message_lines
from sqlstable.report.by_owner import owner_lines
from sqlstable.report.by_shape import shape_lines
from sqlstable.report.by_statement import statement_lines
from sqlstable.report.frame import (
    glossary_lines,
    provenance_lines,
    settings_lines,
    title,
    unfinished_lines,
)
from sqlstable.report.grid import WIDTH_MIN, ColorSystem, paragraph, render
from sqlstable.report.growth import growth_lines

By = Literal["statement", "shape", "owner", "message"]
"""What one row of a table stands for."""

EMPTY: Final = "The trace is empty: no message was recorded, so no OS page was touched."

_TITLES: Final[Mapping[By, str]] = {
    "statement": "What each statement touched in stable memory, in OS pages of 4 KiB",
    "shape": "What each shape of statement touched in stable memory, in OS pages of 4 KiB",
    "owner": "Whose OS pages of stable memory were touched, 4 KiB each",
    "message": "What each message touched in stable memory, in OS pages of 4 KiB",
}

_ACCESSED: Final = ("accessed", "OS pages read or written")
_DIRTY: Final = ("dirty", "OS pages written, even with equal bytes")
_ONCE: Final = ", each counted once in its row; the total adds up the messages"
_OF_STATEMENTS: Final = ", each counted once for each statement"
_WHOSE: Final = (
    "whose",
    "the table, index, freelist … that owns the OS pages accessed; bar: share of the row",
)

_GLOSSARIES: Final[Mapping[By, Sequence[tuple[str, str]]]] = {
    "statement": (
        (_ACCESSED[0], _ACCESSED[1] + _ONCE),
        _DIRTY,
        ("hits", "SQLite pages that SQLite found in its own cache, without stable memory"),
        ("rows", "rows that the statement returned"),
        _WHOSE,
    ),
    "shape": (
        ("shape", "SQL without its literals; times: statements that have it"),
        (_ACCESSED[0], _ACCESSED[1] + _OF_STATEMENTS + "; median and max: of one statement"),
        _DIRTY,
        _WHOSE,
    ),
    "owner": (
        (_ACCESSED[0], _ACCESSED[1] + _OF_STATEMENTS),
        _DIRTY,
        ("role", "of the OS pages in the owner's B-tree, or in the list of free ones"),
    ),
    "message": (
        (_ACCESSED[0], _ACCESSED[1] + _ONCE),
        _DIRTY,
        ("limit on", "how much of that limit the message used"),
        ("verdict", "fits: within every limit; exceeds: above one, or trapped by one"),
    ),
}

_VIEWS: Final[Mapping[By, Callable[[TraceSource, int], list[Text]]]] = {
    "statement": statement_lines,
    "shape": shape_lines,
    "owner": owner_lines,
    "message": message_lines,
}
assert set(_TITLES) == set(_GLOSSARIES) == set(_VIEWS) == set(get_args(By))


def render_table(
    trace: TraceSource,
    *,
    by: By = "statement",
    width: int = 100,
    color_system: ColorSystem | None = None,
) -> str:
    """Return a trace as a table of text.

    Args:
        trace: What was recorded.
        by: What one row stands for.
        width: Columns of the terminal; no line is wider. Less than ``WIDTH_MIN`` counts as that.
        color_system: One of rich's, for a terminal; None for plain text.

    Raises:
        SettingsError: ``by`` is none of the four.
    """
    width = max(width, WIDTH_MIN)
    lines = [
        *title(_TITLES[checked_by(by)], width),
        *settings_lines(trace.settings, width),
        *unfinished_lines(trace.settings, width),
        Text(),
    ]
    if trace.messages:
        lines += [*_VIEWS[by](trace, width), Text()]
        lines += [*glossary_lines(_GLOSSARIES[by], trace.settings, width), Text()]
    else:
        lines += [*paragraph(EMPTY, width), Text()]
    lines += growth_lines(trace, width)
    lines += provenance_lines([trace.settings], trace.messages, width)
    return render(lines, width=width, color_system=color_system)


def checked_by(by: str) -> By:
    """Return ``by`` where it is one of the four.

    Raises:
        SettingsError: It is not.
    """
    for known in get_args(By):
        if by == known:
            found: By = known
            return found
    raise SettingsError(f"cannot group by {by!r}; use one of {', '.join(get_args(By))}")
