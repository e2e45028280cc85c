"""The view with one row for each shape of statement: SQL that differs in its literals only."""

from collections.abc import Iterator, Sequence
from typing import Final

from rich.text import Text

from sqlstable.analysis.groups import ShapeGroup, group_by_shape
from sqlstable.analysis.trace_source import TraceSource
from sqlstable.report.grid import (
    GAP,
    Column,
    Grid,
    cell,
    grid,
    left_out_lines,
    number_column,
    paragraph,
    rule,
)
from sqlstable.report.limit_words import fit_lines
from sqlstable.report.measures import (
    INSTRUCTIONS,
    STABLE,
    TableMeasure,
    instruction_numbers,
    measure_cells,
    measure_columns,
    shown_measures,
    stable_numbers,
)
from sqlstable.report.messages import instruction_lines, outside_lines
from sqlstable.report.numbers import count, counted
from sqlstable.report.owner_column import OwnerColumn, owner_column, shares
from sqlstable.report.plan_words import plan_lines
from sqlstable.report.text import clean, shorten
from sqlstable.report.view import (
    ACCESSED,
    DIRTY,
    GROUPS_MAX,
    OF_STATEMENTS,
    WHOSE,
    Look,
    Row,
    View,
)

SHAPE_WIDTH_MIN: Final = 18
OWNER_NAME_WIDTH_MAX: Final = 10


def shape_lines(trace: TraceSource, look: Look) -> list[Text]:
    """Lay out the table of all shapes, the one that accessed most OS pages first."""
    width = look.width
    groups = group_by_shape(trace.statements)
    shown = groups[:GROUPS_MAX]
    measures = shown_measures(shown)
    owners = owner_column(
        [shares(group.owners) for group in shown], name_width_max=OWNER_NAME_WIDTH_MAX
    )
    table = _grid(shown, measures, owners, width)
    lines = [*table.heading(), rule(width)]
    for group in shown:
        lines += _group_lines(group, measures, table, owners)
        if look.plan:
            lines += _plan_lines(group, width)
    if len(groups) > GROUPS_MAX:
        more = counted(len(groups) - GROUPS_MAX, "more shape")
        lines += paragraph(f"… {more}: --format csv or json for all", width, style="italic")
    return [
        *lines,
        rule(width),
        *left_out_lines(table, width),
        *_note_lines(groups, width),
        *outside_lines(trace, width),
        *instruction_lines(trace, width),
        *fit_lines(trace, width),
    ]


def _plan_lines(group: ShapeGroup, width: int) -> list[Text]:
    indent = len("times") + GAP
    lines: list[Text] = []
    for place, plan in enumerate(group.plans):
        if place:
            lines += paragraph("or", width, style="dim", indent=indent)
        lines += plan_lines(plan, (), width, indent=indent)
    return lines


def _grid(
    groups: Sequence[ShapeGroup],
    measures: Sequence[TableMeasure],
    owners: OwnerColumn,
    width: int,
) -> Grid:
    columns = (
        number_column("times", [count(group.statement_count) for group in groups]),
        Column("statement shape", 0),
        *measure_columns(measures, groups),
        number_column("median", [count(it.os_pages_accessed_median) for it in groups], drop=4),
        number_column("max", [count(it.os_pages_accessed_max) for it in groups], drop=5),
        number_column("rows", [count(it.row_count) for it in groups], drop=2),
        owners.column,
    )
    return grid(columns, width=width, text=1, text_width_min=SHAPE_WIDTH_MIN)


def _group_lines(
    group: ShapeGroup, measures: Sequence[TableMeasure], table: Grid, owners: OwnerColumn
) -> list[Text]:
    owner_cell = owners.cell(shares(group.owners), os_pages_accessed=_accessed(group))
    text = shorten(_text(group), table.text_width, lines_max=max(2, len(owner_cell)))
    cells = [
        cell(count(group.statement_count)),
        [Text(line) for line in text],
        *measure_cells(measures, group),
        cell(count(group.os_pages_accessed_median)),
        cell(count(group.os_pages_accessed_max)),
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


def _csv_rows(trace: TraceSource) -> Iterator[Row]:
    for group in group_by_shape(trace.statements):
        yield (
            *(group.shape, group.kind, group.statement_count, group.run_count, group.row_count),
            *stable_numbers(group.stable),
            *(group.os_pages_accessed_median, group.os_pages_accessed_max),
            *(group.os_pages_dirty_median, group.os_pages_dirty_max, group.hits),
            *instruction_numbers(group.instructions),
        )


VIEW: Final = View(
    by="shape",
    title="What each shape of statement touched in stable memory, in OS pages of 4 KiB",
    glossary=(
        ("shape", "SQL without its literals; times: statements that have it"),
        (ACCESSED[0], ACCESSED[1] + OF_STATEMENTS + "; median and max: of one statement"),
        DIRTY,
        WHOSE,
    ),
    lines=shape_lines,
    header=(
        *("shape", "kind", "statement_count", "run_count", "row_count"),
        *STABLE,
        *("os_pages_accessed_median", "os_pages_accessed_max"),
        *("os_pages_dirty_median", "os_pages_dirty_max", "hits"),
        *INSTRUCTIONS,
    ),
    rows=_csv_rows,
)
