"""The view with one row for each owner of OS pages: a table or index, and the role in it."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from rich.text import Text

from sqlstable.analysis.groups import OwnerGroup, group_by_owner, without_owners
from sqlstable.analysis.pricing.statement_prices import group_cycles
from sqlstable.analysis.trace_source import TraceSource
from sqlstable.report.as_json import render_owner_json
from sqlstable.report.call_words import has_calls_alone
from sqlstable.report.grid import Cell, cell, paragraph
from sqlstable.report.limit_words import fit_lines
from sqlstable.report.measures import (
    COST,
    CYCLES,
    as_update_columns,
    cycle_columns,
    measure_columns,
    shown_measures,
)
from sqlstable.report.messages import instruction_lines, outside_lines
from sqlstable.report.numbers import UNKNOWN, bar, counted
from sqlstable.report.table import Column, Table, number, words
from sqlstable.report.text import clean, fit
from sqlstable.report.view import (
    ACCESSED,
    DIRTY,
    GROUPS_MAX,
    OF_STATEMENTS,
    Fields,
    Look,
    View,
    more_lines,
    named,
)

NAME_WIDTH_MIN: Final = 16
TABLE_WIDTH_MAX: Final = 20
KIND_WIDTH_MAX: Final = 14
BAR_CELLS: Final = 12


def owner_lines(trace: TraceSource, look: Look) -> list[Text]:
    """Lay out the table of all owners, the one with most OS pages accessed first."""
    width = look.width
    groups = _groups(trace)
    shown = groups[:GROUPS_MAX]
    columns = _columns(shown)
    if has_calls_alone(trace):
        columns = [
            replace(it, heading="calls") if it.heading == "statements" else it
            for it in columns
            if it.heading != "of table" or any(map(_table, shown))
        ]
    table = Table.holding(columns, shown, width)
    body = [line for group in shown for line in table.row(group)]
    return [
        *table.framed([*body, *more_lines(len(groups) - len(shown), "more owner", width)]),
        *_note_lines(trace, groups, width),
    ]


def _groups(trace: TraceSource) -> list[OwnerGroup]:
    return group_by_owner(trace.statements, group_cycles(trace))


def _columns(groups: Sequence[OwnerGroup]) -> list[Column[OwnerGroup]]:
    accessed, *others = measure_columns(shown_measures(groups))
    most = max((group.os_pages_accessed for group in groups), default=0)
    return [
        Column("owner", _name_cell, rest_min=NAME_WIDTH_MIN),
        words("kind", lambda it: _spelled(it.kind), width_max=KIND_WIDTH_MAX, drop=3),
        words("of table", lambda it: _spelled(_table(it)), width_max=TABLE_WIDTH_MAX, drop=2),
        words("role", lambda it: _spelled(it.role), width_max=KIND_WIDTH_MAX, drop=7),
        number("statements", lambda it: it.statement_count, drop=4),
        accessed,
        Column(
            "",
            lambda it, width: cell(bar(it.os_pages_accessed, most, width), "cyan"),
            width=BAR_CELLS,
            drop=1,
        ),
        *others,
        *cycle_columns(groups, drop=6),
        *as_update_columns(groups, drop=5),
    ]


def _name_cell(group: OwnerGroup, width: int) -> Cell:
    return cell(fit(clean(group.name) or UNKNOWN, width), "bold")


def _spelled(text: str) -> list[str]:
    return [clean(text) or UNKNOWN]


def _table(group: OwnerGroup) -> str:
    """Return the table of an index; for a table its name says it already."""
    return group.table if group.table != group.name else ""


def _note_lines(trace: TraceSource, groups: list[OwnerGroup], width: int) -> list[Text]:
    owners = len({(group.name, group.kind) for group in groups})
    noun = "call" if has_calls_alone(trace) else "statement"
    lines = paragraph(
        f"{counted(owners, 'owner')} in {counted(len(trace.statements), noun)}",
        width,
        style="bold",
    )
    lines += outside_lines(trace, width)
    lines += instruction_lines(trace, width)
    if any(group.instructions is not None for group in groups):
        text = (
            f"instructions and cycles of an owner: of the {noun}s that touched it, whole, as an "
            f"instruction has no owner; owners share {noun}s, so these rows do not add up"
        )
        lines += paragraph(text, width, style="dim")
    unknown = without_owners(trace)
    if unknown:
        text = f"owners not determined for {counted(unknown, noun)}"
        lines += paragraph(text, width, style="italic")
    return [*lines, *fit_lines(trace, width)]


_OF_SQL: Final = View(
    by="owner",
    title="Whose OS pages of stable memory were touched, 4 KiB each",
    glossary=(
        (ACCESSED[0], ACCESSED[1] + OF_STATEMENTS),
        DIRTY,
        ("role", "of the OS pages in the owner's B-tree, or in the list of free ones"),
    ),
    lines=owner_lines,
    items=_groups,
    fields=(
        Fields(("owner",), lambda it: (it.name,)),
        named("table", "kind", "role", "statement_count", "os_pages_accessed", "os_pages_dirty"),
        COST,
        CYCLES,
    ),
    json=render_owner_json,
)
VIEW: Final = replace(
    _OF_SQL,
    of_calls=replace(
        _OF_SQL,
        glossary=(
            (ACCESSED[0], f"{ACCESSED[1]}, each counted once for each call"),
            DIRTY,
            ("owner", "a virtual memory by its id, or all of stable memory; a range of a MiB"),
            (
                "role",
                (
                    "of a part of it: header, leaf, internal node, overflow, data, free; an OS "
                    "page that holds several counts for each"
                ),
            ),
        ),
    ),
)
