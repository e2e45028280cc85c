"""One picture of an HTML page, before it is packed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from sqlstable.report.text import clean

Json = None | bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"]
Integers = npt.NDArray[np.signedinteger]


@dataclass(frozen=True, slots=True)
class PictureTable:
    """What a picture shows, for those who do not see it."""

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left_out: int = 0
    "Rows that would follow, and do not stand here."


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """One picture: its words, the data that its script draws, and the same as a table."""

    id: str
    "Of its place in the page."
    title: str
    note: str
    "What is seen, and how to read it."
    table: PictureTable
    facts: Mapping[str, Json]
    "What is small: names, sizes, points of curves."
    columns: Mapping[str, Integers] = field(default_factory=dict)
    "Whole numbers from -1 on."
    drawn_as: str = ""
    "The id whose script draws it, where a page has two of a kind; empty for its own."


TEXT_CHARACTERS_MAX: Final = 160
"""Characters of a name or a shape that a picture shows at most."""


def shortened(text: str) -> str:
    r"""Return a text on one line with nothing invisible in it, and cut off where it is long.

    Examples:
        >>> shortened("SELECT 1,\n  2")
        'SELECT 1, 2'
        >>> len(shortened("x" * 5_000))
        160
    """
    line = clean(text)
    return line if len(line) <= TEXT_CHARACTERS_MAX else line[: TEXT_CHARACTERS_MAX - 1] + "…"


def whole(number: int) -> str:
    """Spell a whole number in full, with commas between the thousands.

    Examples:
        >>> whole(1_234_567)
        '1,234,567'
    """
    return f"{number:,}"
