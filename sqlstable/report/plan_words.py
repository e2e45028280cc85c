"""How tables show plans, with the rows that loops visited beside what the planner expected."""

from collections.abc import Iterator, Sequence
from typing import Final

from rich.text import Text

from sqlstable.report.grid import paragraph
from sqlstable.report.numbers import count, counted
from sqlstable.report.text import clean
from sqlstable.trace.model import LoopUse

DEPTH_MAX: Final = 20
"""Columns that the depth of a line takes at most."""


def plan_lines(
    plan: Sequence[str], loops: Sequence[LoopUse], width: int, *, indent: int
) -> Iterator[Text]:
    """Yield the lines of a plan, indented by their depth; each loop stands behind its line."""
    waiting = [loop for loop in loops if loop.rows_visited >= 0]
    for line in plan:
        depth = min(len(line) - len(line.lstrip(" ")), DEPTH_MAX)
        loop = next((it for it in waiting if it.plan.strip() == line.strip()), None)
        text = clean(line)
        if loop is not None:
            waiting.remove(loop)
            text = f"{text}: {loop_words(loop)}"
        yield from paragraph(text, width, style="dim", indent=min(indent + depth, width // 3))
    for loop in waiting:
        text = f"{clean(loop.plan)}: {loop_words(loop)}"
        yield from paragraph(text, width, style="dim", indent=indent)


def loop_words(loop: LoopUse) -> str:
    """Say how many rows a loop visited, beside the estimate.

    Examples:
        >>> loop_words(LoopUse("t", "SCAN t", loops=3, rows_visited=1200, rows_estimated=96.0))
        '1,200 rows visited in 3 loops; expected 96 each'
    """
    visited = f"{counted(loop.rows_visited, 'row')} visited in {counted(loop.loops, 'loop')}"
    return f"{visited}; expected {count(round(loop.rows_estimated, 1))} each"
