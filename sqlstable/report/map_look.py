"""How a page map is drawn, as it is chosen before anything is read or drawn."""

from dataclasses import dataclass
from typing import Final, Literal

MapBy = Literal["owner", "accesses", "writer", "age"]
"""What a cell of a page map shows."""

MapCurve = Literal["linear", "snake", "hilbert"]
"""How the cells of a map follow each other: `sqlstable.analysis.curves`."""

ROWS_MAX: Final = 32
"""Rows of cells: as many lines of letters, or half as many in colour."""


@dataclass(frozen=True, slots=True)
class MapLook:
    """How a page map is drawn."""

    by: MapBy = "owner"
    "What a cell shows."
    curve: MapCurve = "linear"
    "How cells follow each other."
    has_half_blocks: bool = False
    "Whether the terminal has many colours, and characters that are half filled."
    rows_max: int = ROWS_MAX
    "Rows of cells at most, 1 or more."
    columns_max: int = 1 << 20
    "Columns of cells at most, 16 or more; a terminal has room for fewer."
