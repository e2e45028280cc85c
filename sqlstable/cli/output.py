"""Where output goes: how wide and colourful a terminal is, and what a pipe gets instead."""

import os
import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TextIO

if TYPE_CHECKING:
    from sqlstable.report.grid import ColorSystem

WIDTH_WITHOUT_TERMINAL: Final = 100
"""Columns of output that goes to a file or a pipe, so that it is the same everywhere."""

COLUMNS_DIGITS_MAX: Final = 4
"""Digits of ``COLUMNS`` that are believed."""

_COERCED: Final = "C.UTF-8"
"""What Python itself sets LC_CTYPE to, where the locale is C; see PEP 538."""


@dataclass(frozen=True, slots=True)
class Screen:
    """What text for people has to fit."""

    width: int
    "Columns."
    color_system: "ColorSystem | None"
    "One of rich's, or None for plain text."


def screen() -> Screen:
    """Describe where stdout goes.

    ``COLUMNS`` says how wide it is, also for a pipe; ``NO_COLOR`` takes all colour away, and
    ``FORCE_COLOR`` gives it to what is no terminal.
    """
    from sqlstable.report.grid import WIDTH_MIN

    is_terminal_there = is_terminal(sys.stdout)
    return Screen(max(_columns(is_terminal_there), WIDTH_MIN), _color_system(is_terminal_there))


def has_half_blocks(target: Screen) -> bool:
    """Return whether stdout shows many colours, and the characters that hold two cells of a map.

    Sixteen colours are too few: some terminals show several of ours as one.
    """
    from rich.console import Console

    if target.color_system is None:
        return False
    try:
        "▀▄█".encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return Console(color_system=target.color_system).color_system in ("256", "truecolor")


def _columns(is_terminal_there: bool) -> int:  # noqa: FBT001  private
    if is_terminal_there:
        return shutil.get_terminal_size((WIDTH_WITHOUT_TERMINAL, 24)).columns
    columns = os.environ.get("COLUMNS", "")
    is_number = columns.isascii() and columns.isdigit() and len(columns) <= COLUMNS_DIGITS_MAX
    return int(columns) or WIDTH_WITHOUT_TERMINAL if is_number else WIDTH_WITHOUT_TERMINAL


def _color_system(is_terminal_there: bool) -> "ColorSystem | None":  # noqa: FBT001  private
    is_dumb = os.environ.get("TERM", "") in ("", "dumb")
    if os.environ.get("NO_COLOR"):
        return None
    if os.environ.get("FORCE_COLOR", "0") not in ("", "0"):
        return "standard" if is_dumb else "auto"
    return "auto" if is_terminal_there and os.environ.get("TERM") != "dumb" else None


def is_ascii_locale() -> bool:
    """Return whether the user's locale is one that has ASCII only.

    Python takes UTF-8 then, which helps where no locale was chosen; where one was, this is it.
    """
    if os.environ.get("PYTHONIOENCODING") or os.environ.get("PYTHONUTF8") == "1":
        return False
    chosen = os.environ.get("LC_ALL") or os.environ.get("LC_CTYPE")
    if not chosen or chosen == _COERCED:
        chosen = os.environ.get("LC_ALL") or os.environ.get("LANG")
    return chosen in ("C", "POSIX")


def is_terminal(stream: TextIO | None) -> bool:
    """Return whether somebody sits at this stream; None is one that was closed from the start."""
    return stream is not None and not stream.closed and stream.isatty()


def write(text: str) -> None:
    """Write text for people on stdout."""
    sys.stdout.write(text)


def write_data(pieces: Iterable[str]) -> None:
    """Write data for programs on stdout, in UTF-8 whatever the locale says."""
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(encoding="utf-8")
    for piece in pieces:
        sys.stdout.write(piece)
