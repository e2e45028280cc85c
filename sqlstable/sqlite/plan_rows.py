"""The rows that EXPLAIN QUERY PLAN answers, as the lines of a tree."""

from collections.abc import Iterable, Sequence
from typing import Any


def plan_lines(rows: Iterable[Sequence[Any]]) -> tuple[str, ...]:
    """Return EXPLAIN QUERY PLAN's rows as lines, indented by two spaces per level.

    Args:
        rows: Rows of id, parent id, unused, detail.

    Examples:
        >>> plan_lines([(3, 0, 0, "SCAN a"), (7, 3, 0, "SEARCH b")])
        ('SCAN a', '  SEARCH b')
    """
    depths = {0: -1}
    lines = []
    for number, parent, _, detail in rows:
        depth = depths[number] = depths.get(parent, -1) + 1
        lines.append("  " * depth + detail)
    return tuple(lines)
