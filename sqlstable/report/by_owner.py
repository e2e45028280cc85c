"""The table with one row for each owner of OS pages: a table or index, and the role in it."""

from typing import Final

from rich.text import Text

from sqlstable.analysis.groups import OwnerGroup, group_by_owner, without_owners
from sqlstable.analysis.source import TraceSource
from sqlstable.report.grid import (
    Cell,
    Column,
    Grid,
    cell,
    grid,
    number_column,
    paragraph,
    rule,
    text_column,
)
from sqlstable.report.messages import outside_lines
from sqlstable.report.numbers import UNKNOWN, bar, count, counted
from sqlstable.report.text import clean, fit

ROWS_MAX: Final = 50
"""Rows of a table that is sorted by what matters: what comes later matters little."""

NAME_WIDTH_MIN: Final = 16
TABLE_WIDTH_MAX: Final = 20
KIND_WIDTH_MAX: Final = 14
BAR_CELLS: Final = 12


def owner_lines(trace: TraceSource, width: int) -> list[Text]:
    """Lay out the table of all owners, the one with most OS pages accessed first."""
    groups = group_by_owner(trace.statements)
    shown = groups[:ROWS_MAX]
    table = _grid(shown, width)
    lines = [*table.heading(), rule(width)]
    most = max((group.os_pages_accessed for group in shown), default=0)
    for group in shown:
        lines += table.row(_cells(group, table, most))
    if len(groups) > ROWS_MAX:
        more = counted(len(groups) - ROWS_MAX, "more owner")
        lines += paragraph(f"… {more}: --format csv or json for all", width, style="italic")
    return [*lines, rule(width), *_note_lines(trace, groups, width)]


def _grid(groups: list[OwnerGroup], width: int) -> Grid:
    columns = (
        Column("owner", 0),
        text_column("kind", [clean(group.kind) for group in groups], width_max=KIND_WIDTH_MAX),
        text_column("of table", map(_table, groups), width_max=TABLE_WIDTH_MAX),
        text_column("role", [clean(group.role) for group in groups], width_max=KIND_WIDTH_MAX),
        number_column("statements", [count(group.statement_count) for group in groups]),
        number_column("OS pages\naccessed", [count(group.os_pages_accessed) for group in groups]),
        Column("", BAR_CELLS),
        number_column("dirty", [count(group.os_pages_dirty) for group in groups]),
    )
    return grid(columns, width=width, text=0, text_width_min=NAME_WIDTH_MIN, drop=[6, 2, 1])


def _cells(group: OwnerGroup, table: Grid, most: int) -> list[Cell]:
    def name(text: str, column: int, style: str = "") -> Cell:
        return cell(fit(clean(text) or UNKNOWN, table.columns[column].width), style)

    return [
        name(group.name, 0, "bold"),
        name(group.kind, 1),
        name(_table(group), 2),
        name(group.role, 3),
        cell(count(group.statement_count)),
        cell(count(group.os_pages_accessed), "bold"),
        cell(bar(group.os_pages_accessed, most, BAR_CELLS), "cyan"),
        cell(count(group.os_pages_dirty)),
    ]


def _table(group: OwnerGroup) -> str:
    """Return the table of an index; for a table its name says it already."""
    return clean(group.table) if group.table not in ("", group.name) else UNKNOWN


def _note_lines(trace: TraceSource, groups: list[OwnerGroup], width: int) -> list[Text]:
    owners = len({(group.name, group.kind) for group in groups})
    lines = paragraph(
        f"{counted(owners, 'owner')} in {counted(len(trace.statements), 'statement')}",
        width,
        style="bold",
    )
    lines += outside_lines(trace, width)
    unknown = without_owners(trace)
    if unknown:
        text = f"owners not determined for {counted(unknown, 'statement')}"
        lines += paragraph(text, width, style="italic")
    return lines
