"""The table with one row for each shape of statement: SQL that differs in its literals only."""

from collections.abc import Sequence
from typing import Final

from rich.text import Text

from sqlstable.analysis.groups import ShapeGroup, group_by_shape
from sqlstable.analysis.source import TraceSource
from sqlstable.report.grid import Column, Grid, cell, grid, number_column, paragraph, rule
from sqlstable.report.messages import outside_lines
from sqlstable.report.numbers import count, counted
from sqlstable.report.owners import OwnerColumn, owner_column, shares
from sqlstable.report.text import clean, shorten

ROWS_MAX: Final = 50
"""Rows of a table that is sorted by what matters: what comes later matters little."""

SHAPE_WIDTH_MIN: Final = 18
OWNER_NAME_WIDTH_MAX: Final = 10


def shape_lines(trace: TraceSource, width: int) -> list[Text]:
    """Lay out the table of all shapes, the one that accessed most OS pages first."""
    groups = group_by_shape(trace.statements)
    shown = groups[:ROWS_MAX]
    owners = owner_column(
        [shares(group.owners) for group in shown], name_width_max=OWNER_NAME_WIDTH_MAX
    )
    table = _grid(shown, owners, width)
    lines = [*table.heading(), rule(width)]
    for group in shown:
        lines += _group_lines(group, table, owners)
    if len(groups) > ROWS_MAX:
        more = counted(len(groups) - ROWS_MAX, "more shape")
        lines += paragraph(f"… {more}: --format csv or json for all", width, style="italic")
    return [*lines, rule(width), *_note_lines(groups, width), *outside_lines(trace, width)]


def _grid(groups: Sequence[ShapeGroup], owners: OwnerColumn, width: int) -> Grid:
    columns = (
        number_column("times", [count(group.statement_count) for group in groups]),
        Column("statement shape", 0),
        number_column("OS pages\naccessed", [count(_accessed(group)) for group in groups]),
        number_column("median", [count(group.os_pages_accessed_median) for group in groups]),
        number_column("max", [count(group.os_pages_accessed_max) for group in groups]),
        number_column("dirty", [count(group.stable.os_pages_dirty) for group in groups]),
        number_column("rows", [count(group.row_count) for group in groups]),
        owners.column,
    )
    return grid(columns, width=width, text=1, text_width_min=SHAPE_WIDTH_MIN, drop=[7, 6])


def _group_lines(group: ShapeGroup, table: Grid, owners: OwnerColumn) -> list[Text]:
    owner_cell = owners.cell(shares(group.owners), os_pages_accessed=_accessed(group))
    text = shorten(_text(group), table.text_width, lines_max=max(2, len(owner_cell)))
    cells = [
        cell(count(group.statement_count)),
        [Text(line) for line in text],
        cell(count(_accessed(group)), "bold"),
        cell(count(group.os_pages_accessed_median)),
        cell(count(group.os_pages_accessed_max)),
        cell(count(group.stable.os_pages_dirty)),
        cell(count(group.row_count)),
        owner_cell,
    ]
    return table.row(cells)


def _text(group: ShapeGroup) -> str:
    times = f"{count(group.run_count)} × "  # noqa: RUF001  the sign for "times"
    many = group.run_count > group.statement_count
    return (times if many else "") + (clean(group.shape) or "(empty statement)")


def _accessed(group: ShapeGroup) -> int:
    return group.stable.os_pages_accessed


def _note_lines(groups: list[ShapeGroup], width: int) -> list[Text]:
    statements = sum(group.statement_count for group in groups)
    accessed = sum(map(_accessed, groups))
    return paragraph(
        f"{counted(len(groups), 'shape')} of {counted(statements, 'statement')}, "
        f"{counted(accessed, 'OS page')} accessed when each statement counts its own",
        width,
        style="bold",
    )
