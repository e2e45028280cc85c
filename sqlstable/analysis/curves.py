"""Where the n-th cell of a picture lies: curves that fill a grid with a line of memory.

A *Hilbert curve* keeps what lies close in memory close in the picture, in both directions, so an
owner is a patch and a scan is a block. A *snake* turns at the end of each line, a *linear* map
begins again at the left.

One Hilbert curve fills a square of a power of two, and for 100 000 cells the smallest such square
would stay 60 % empty. So there are several curves of 64 by 64 cells at most, one beside the other
and then in lines, as words are read. Each begins at its upper left and ends at its upper right
corner, where the next one begins.
"""

from collections.abc import Callable, Mapping
from math import isqrt
from types import MappingProxyType
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

Int32s = npt.NDArray[np.int32]
Places = tuple[Int32s, Int32s]
"""Columns and rows, from 0 at the upper left, one each for every cell."""

CurveName = Literal["hilbert", "snake", "linear"]

SIDE_MAX: Final = 64
"""Columns, and rows, of one Hilbert curve at most; a power of two."""
assert SIDE_MAX & (SIDE_MAX - 1) == 0


def side_for(cell_count: int) -> int:
    """Return the columns of each Hilbert curve: the most of which one curve is full.

    Examples:
        >>> [side_for(count) for count in (0, 1, 3, 4, 100, 100_000)]
        [1, 1, 1, 2, 8, 64]
    """
    side = 1
    while side < SIDE_MAX and 4 * side * side <= cell_count:
        side *= 2
    return side


def width_for(cell_count: int) -> int:
    """Return the columns of a picture about as wide as high: whole Hilbert curves.

    Examples:
        >>> [width_for(count) for count in (0, 1, 5, 100, 100_000)]
        [1, 1, 4, 16, 320]
    """
    side = side_for(cell_count)
    curves = -(-max(cell_count, 1) // (side * side))
    across = isqrt(curves)
    return side * (across + (across * across < curves))


def linear(cell_count: int, width: int) -> Places:
    """Place cells line by line, each line from the left.

    Args:
        cell_count: How many, 0 or more.
        width: Columns, 1 or more.

    Examples:
        >>> [axis.tolist() for axis in linear(5, 3)]
        [[0, 1, 2, 0, 1], [0, 0, 0, 1, 1]]
    """
    y, x = np.divmod(np.arange(cell_count, dtype=np.int32), np.int32(width))
    return x, y


def snake(cell_count: int, width: int) -> Places:
    """Place cells line by line, every other line from the right.

    Args:
        cell_count: How many, 0 or more.
        width: Columns, 1 or more.

    Examples:
        >>> [axis.tolist() for axis in snake(5, 3)]
        [[0, 1, 2, 2, 1], [0, 0, 0, 1, 1]]
    """
    x, y = linear(cell_count, width)
    return np.where(y % 2 == 0, x, np.int32(width - 1) - x), y


def hilbert(cell_count: int, width: int) -> Places:
    """Place cells along Hilbert curves that stand side by side.

    Args:
        cell_count: How many, 0 or more.
        width: Columns, 1 or more; those beyond the last whole curve stay empty.

    Examples:
        >>> [axis.tolist() for axis in hilbert(5, 4)]
        [[0, 0, 1, 1, 2], [0, 1, 1, 0, 0]]

    Source: D. Hilbert, Über die stetige Abbildung einer Linie auf ein Flächenstück, Mathematische
        Annalen 38, 1891; turned here so that it begins at the upper left and ends at the upper
        right.
    """
    side = side_for(cell_count)
    while side > width:
        side //= 2
    curve, along = np.divmod(np.arange(cell_count, dtype=np.int32), np.int32(side * side))
    x, y = _along_one_curve(along, side)
    across = width // side
    return x + side * (curve % across), y + side * (curve // across)


def _along_one_curve(along: Int32s, side: int) -> Places:
    """Choose the quarter of each size of square by two bits of the way, the smallest first.

    Whatever was placed in the smaller square is turned so that both its ends meet its neighbours:
    the whole always begins at the upper left and ends at the upper right.
    """
    x, y = np.zeros_like(along), np.zeros_like(along)
    square = 1
    while square < side:
        right = (along >> 1) & 1
        lower = (along ^ right) & 1
        flipped = (lower == 0) & (right == 1)
        x, y = np.where(flipped, square - 1 - x, x), np.where(flipped, square - 1 - y, y)
        turned = lower == 0
        x, y = np.where(turned, y, x), np.where(turned, x, y)
        x, y = x + square * right, y + square * lower
        along = along >> 2
        square *= 2
    return x.astype(np.int32), y.astype(np.int32)


Curve = Callable[[int, int], Places]
"""Places a number of cells in a picture of so many columns."""

CURVES: Final[Mapping[CurveName, Curve]] = MappingProxyType(
    {"hilbert": hilbert, "snake": snake, "linear": linear}
)
"""The curves by their names, in the order in which a reader is offered them."""
