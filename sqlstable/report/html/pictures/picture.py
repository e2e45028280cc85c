"""One picture of an HTML page, before it is packed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

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
    "Of its place in the page, and of its script in start.js."
    title: str
    note: str
    "What is seen, and how to read it."
    table: PictureTable
    facts: Mapping[str, Json]
    "What is small: names, sizes, points of curves."
    columns: Mapping[str, Integers] = field(default_factory=dict)
    "Whole numbers from -1 on."


def whole(number: int) -> str:
    """Spell a whole number in full, with commas between the thousands.

    Examples:
        >>> whole(1_234_567)
        '1,234,567'
    """
    return f"{number:,}"
