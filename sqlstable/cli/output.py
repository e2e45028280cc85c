"""Where output goes: how wide and colourful a terminal is, and what a pipe gets instead."""

import os
import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, TextIO

from sqlstable.report.grid import WIDTH_MIN, ColorSystem

WIDTH_WITHOUT_TERMINAL: Final = 100
"""Columns of output that goes to a file or a pipe, so that it is the same everywhere."""


@dataclass(frozen=True, slots=True)
class Screen:
    """What text for people has to fit."""

    width: int
    "Columns."
    color_system: ColorSystem | None
    "One of rich's, or None for plain text."


def screen() -> Screen:
    """Describe where stdout goes."""
    if not is_terminal(sys.stdout):
        return Screen(WIDTH_WITHOUT_TERMINAL, None)
    columns = shutil.get_terminal_size((WIDTH_WITHOUT_TERMINAL, 24)).columns
    plain = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
    return Screen(max(columns, WIDTH_MIN), None if plain else "auto")


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
