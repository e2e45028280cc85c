"""The view with one row for each owner of OS pages: a table or index, and the role in it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from rich.text import Text

from sqlstable.analysis.groups import OwnerGroup, group_by_owner, without_owners
from sqlstable.analysis.trace_source import TraceSource
from sqlstable.report.grid import (
    Cell,
    Column,
    Grid,
    cell,
    grid,
    left_out_lines,
    number_column,
    paragraph,
    rule,
    text_column,
)
from sqlstable.report.limit_words import fit_lines
from sqlstable.report.measures import (
    INSTRUCTIONS,
    TableMeasure,
    instruction_numbers,
    measure_cells,
    measure_columns,
    shown_measures,
)
from sqlstable.report.messages import instruction_lines, outside_lines
from sqlstable.report.numbers import UNKNOWN, bar, count, counted
from sqlstable.report.text import clean, fit
from sqlstable.report.view import ACCESSED, DIRTY, GROUPS_MAX, OF_STATEMENTS, Look, Row, View
from sqlstable.trace.model import Instructions, StableUse

NAME_WIDTH_MIN: Final = 16
TABLE_WIDTH_MAX: Final = 20
KIND_WIDTH_MAX: Final = 14
BAR_CELLS: Final = 12


@dataclass(frozen=True, slots=True)
class _Measured:
    """The numbers of one owner, as every table has them."""

    stable: StableUse
    instructions: Instructions | None


def _measured(group: OwnerGroup) -> _Measured:
    use = StableUse(os_pages_accessed=group.os_pages_accessed, os_pages_dirty=group.os_pages_dirty)
    return _Measured(use, group.instructions)


def owner_lines(trace: TraceSource, look: Look) -> list[Text]:
    """Lay out the table of all owners, the one with most OS pages accessed first."""
    width = look.width
    groups = group_by_owner(trace.statements)
    shown = groups[:GROUPS_MAX]
    measures = shown_measures(map(_measured, shown))
    table = _grid(shown, measures, width)
    lines = [*table.heading(), rule(width)]
    most = max((group.os_pages_accessed for group in shown), default=0)
    for group in shown:
        lines += table.row(_cells(group, measures, table, most))
    if len(groups) > GROUPS_MAX:
        more = counted(len(groups) - GROUPS_MAX, "more owner")
        lines += paragraph(f"… {more}: --format csv or json for all", width, style="italic")
    left_out = left_out_lines(table, width)
    return [*lines, rule(width), *left_out, *_note_lines(trace, groups, width)]


def _grid(groups: Sequence[OwnerGroup], measures: Sequence[TableMeasure], width: int) -> Grid:
    accessed, *others = measure_columns(measures, [_measured(group) for group in groups])
    columns = (
        Column("owner", 0),
        text_column("kind", [clean(it.kind) for it in groups], width_max=KIND_WIDTH_MAX, drop=3),
        text_column("of table", map(_table, groups), width_max=TABLE_WIDTH_MAX, drop=2),
        text_column("role", [clean(it.role) for it in groups], width_max=KIND_WIDTH_MAX, drop=5),
        number_column("statements", [count(it.statement_count) for it in groups], drop=4),
        accessed,
        Column("", BAR_CELLS, drop=1),
        *others,
    )
    return grid(columns, width=width, text=0, text_width_min=NAME_WIDTH_MIN)


def _cells(
    group: OwnerGroup, measures: Sequence[TableMeasure], table: Grid, most: int
) -> list[Cell]:
    def name(text: str, column: int, style: str = "") -> Cell:
        return cell(fit(clean(text) or UNKNOWN, table.columns[column].width), style)

    accessed, *others = measure_cells(measures, _measured(group))
    return [
        name(group.name, 0, "bold"),
        name(group.kind, 1),
        name(_table(group), 2),
        name(group.role, 3),
        cell(count(group.statement_count)),
        accessed,
        cell(bar(group.os_pages_accessed, most, BAR_CELLS), "cyan"),
        *others,
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
    lines += instruction_lines(trace, width)
    if any(group.instructions is not None for group in groups):
        text = (
            "instructions of an owner: of the statements that touched it, whole; owners share "
            "statements, so these rows do not add up"
        )
        lines += paragraph(text, width, style="dim")
    unknown = without_owners(trace)
    if unknown:
        text = f"owners not determined for {counted(unknown, 'statement')}"
        lines += paragraph(text, width, style="italic")
    return [*lines, *fit_lines(trace, width)]


def _csv_rows(trace: TraceSource) -> Iterator[Row]:
    for group in group_by_owner(trace.statements):
        yield (
            *(group.name, group.table, group.kind, group.role, group.statement_count),
            *(group.os_pages_accessed, group.os_pages_dirty),
            *instruction_numbers(group.instructions),
        )


VIEW: Final = View(
    by="owner",
    title="Whose OS pages of stable memory were touched, 4 KiB each",
    glossary=(
        (ACCESSED[0], ACCESSED[1] + OF_STATEMENTS),
        DIRTY,
        ("role", "of the OS pages in the owner's B-tree, or in the list of free ones"),
    ),
    lines=owner_lines,
    header=(
        *("owner", "table", "kind", "role", "statement_count"),
        *("os_pages_accessed", "os_pages_dirty"),
        *INSTRUCTIONS,
    ),
    rows=_csv_rows,
)
