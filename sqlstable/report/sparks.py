"""Small pictures made of characters: a row of columns, and bars under each other."""

from collections.abc import Sequence
from typing import Final

_HEIGHTS: Final = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float], width: int, *, top: float | None = None) -> str:
    """Draw values as columns of eight heights; what is not nothing shows at least a sliver.

    Where there are more values than columns, each column shows the largest of those it stands for.

    Args:
        values: 0 or more each.
        width: Columns at most, 1 or more.
        top: What a full column stands for; the largest value where nothing is said.

    Examples:
        >>> sparkline([0, 1, 5, 10], 10), sparkline([1, 9, 2, 3], 2), sparkline([], 5)
        (' ▁▄█', '█▃', '')
    """
    each = columns_each(len(values), width)
    shown = [max(values[start : start + each]) for start in range(0, len(values), each)]
    full = max(shown, default=0) if top is None else top
    return "".join(_column(value, full) for value in shown)


def columns_each(count: int, width: int) -> int:
    """Return how many of ``count`` values one column of a sparkline stands for.

    Examples:
        >>> columns_each(100, 50), columns_each(101, 50), columns_each(0, 50)
        (2, 3, 1)
    """
    return max(1, -(-count // width))


def _column(value: float, full: float) -> str:
    if value <= 0 or full <= 0:
        return " "
    return _HEIGHTS[min(7, max(0, int(8 * value / full - 1e-9)))]
