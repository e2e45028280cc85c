"""The view with one row for each shape of statement: SQL that differs in its literals only."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from rich.text import Text

from sqlstable.analysis.groups import ShapeGroup, group_by_shape
from sqlstable.analysis.pricing.statement_prices import group_cycles
from sqlstable.analysis.trace_source import TraceSource
from sqlstable.ic.words import CALL_KIND
from sqlstable.report.as_json import render_shape_json
from sqlstable.report.call_words import WHOSE_OF_MODULE, has_calls_alone
from sqlstable.report.cost_words import group_cycle_words
from sqlstable.report.grid import GAP, Cell, paragraph
from sqlstable.report.limit_words import fit_lines
from sqlstable.report.measures import (
    COST,
    CYCLES,
    CYCLES_HEADING,
    HOW_KNOWN,
    STABLE,
    cycle_columns,
    measure_columns,
    shown_measures,
)
from sqlstable.report.messages import instruction_lines, outside_lines
from sqlstable.report.numbers import count, counted
from sqlstable.report.owner_column import HEADING, Share, owner_column, shares
from sqlstable.report.plan_words import plan_lines
from sqlstable.report.table import Column, Table, number
from sqlstable.report.text import clean, shorten
from sqlstable.report.view import (
    ACCESSED,
    DIRTY,
    GROUPS_MAX,
    OF_STATEMENTS,
    WHOSE,
    Look,
    View,
    more_lines,
    named,
)

SHAPE_WIDTH_MIN: Final = 18
OWNER_NAME_WIDTH_MAX: Final = 10

_STACKED: Final = (HEADING, CYCLES_HEADING)
"""Columns that stand below each row where there is no room for them."""


def shape_lines(trace: TraceSource, look: Look) -> list[Text]:
    """Lay out the table of all shapes, the one that accessed most OS pages first."""
    width = look.width
    groups = _groups(trace)
    shown = groups[:GROUPS_MAX]
    columns = _columns(shown)
    if has_calls_alone(trace):
        columns = [
            replace(it, heading="call") if it.heading == "statement shape" else it
            for it in columns
            if it.heading != "rows"
        ]
    table = Table.holding(columns, shown, width)
    body: list[Text] = []
    for group in shown:
        body += table.row(group)
        body += _below(group, table, width)
        if look.plan:
            body += _plan_lines(group, width)
    return [
        *table.framed(
            [*body, *more_lines(len(groups) - len(shown), "more shape", width)],
            stacked=_STACKED,
        ),
        *_note_lines(groups, width, "call" if has_calls_alone(trace) else "statement"),
        *outside_lines(trace, width),
        *instruction_lines(trace, width),
        *_cycle_lines(trace, groups, width),
        *fit_lines(trace, width),
    ]


def _groups(trace: TraceSource) -> list[ShapeGroup]:
    return group_by_shape(trace.statements, group_cycles(trace))


def _columns(groups: Sequence[ShapeGroup]) -> list[Column[ShapeGroup]]:
    return [
        number("times", lambda it: it.statement_count),
        Column("statement shape", _text_cell, rest_min=SHAPE_WIDTH_MIN),
        *measure_columns(shown_measures(groups)),
        *cycle_columns(groups, drop=1),
        number("median", lambda it: it.os_pages_accessed_median, drop=4),
        number("max", lambda it: it.os_pages_accessed_max, drop=5),
        number("rows", lambda it: it.row_count, drop=3),
        owner_column(groups, _shares, name_width_max=OWNER_NAME_WIDTH_MAX, drop=2),
    ]


def _shares(group: ShapeGroup) -> list[Share]:
    is_call = group.kind == CALL_KIND
    return shares(group.owners, group.stable.os_pages_accessed if is_call else None)


def _text_cell(group: ShapeGroup, width: int) -> Cell:
    times = f"{count(group.run_count)} × "  # noqa: RUF001  the sign for "times"
    many = group.run_count > group.statement_count
    text = (times if many else "") + (clean(group.shape) or "(empty statement)")
    lines = shorten(text, width, lines_max=max(2, len(_shares(group))))
    return [Text(line) for line in lines]


def _below(group: ShapeGroup, table: Table[ShapeGroup], width: int) -> list[Text]:
    """Say below a row what has no room in it, and what queries cost as updates."""
    words = []
    if group.owners and not table.has(HEADING):
        owners = (
            f"{it.name}{':' * it.rest} {count(it.os_pages_accessed)}" for it in _shares(group)
        )
        words.append(f"whose: {', '.join(owners)}")
    cycles = group_cycle_words(group, has_column=table.has(CYCLES_HEADING))
    text = " · ".join([*words, cycles] if cycles else words)
    return paragraph(text, width, style="dim", indent=len("times") + GAP) if text else []


def _plan_lines(group: ShapeGroup, width: int) -> list[Text]:
    indent = len("times") + GAP
    lines: list[Text] = []
    for place, plan in enumerate(group.plans):
        if place:
            lines += paragraph("or", width, style="dim", indent=indent)
        lines += plan_lines(plan, (), width, indent=indent)
    return lines


def _note_lines(groups: list[ShapeGroup], width: int, noun: str) -> list[Text]:
    statements = sum(group.statement_count for group in groups)
    accessed = sum(group.stable.os_pages_accessed for group in groups)
    return paragraph(
        f"{counted(len(groups), 'shape')} of {counted(statements, noun)}, "
        f"{counted(accessed, 'OS page')} accessed when each {noun} counts its own",
        width,
        style="bold",
    )


def _cycle_lines(trace: TraceSource, groups: Sequence[ShapeGroup], width: int) -> list[Text]:
    """Say what the column of cycles has, where there is one."""
    if not any(group.cycles or group.cycles_as_update for group in groups):
        return []
    text = (
        "cycles of a method: of its calls, whole"
        if has_calls_alone(trace)
        else "cycles of a shape: what its instructions cost; the base price and the arrival of a "
        "message are no statement's"
    )
    return paragraph(text, width, style="dim")


_OF_SQL: Final = View(
    by="shape",
    title="What each shape of statement touched in stable memory, in OS pages of 4 KiB",
    glossary=(
        ("shape", "SQL without its literals; times: statements that have it"),
        (ACCESSED[0], ACCESSED[1] + OF_STATEMENTS + "; median and max: of one statement"),
        DIRTY,
        WHOSE,
    ),
    lines=shape_lines,
    items=_groups,
    fields=(
        named("shape", "kind", "statement_count", "run_count", "row_count"),
        STABLE,
        named("os_pages_accessed_median", "os_pages_accessed_max"),
        named("os_pages_dirty_median", "os_pages_dirty_max", "hits"),
        COST,
        HOW_KNOWN,
        CYCLES,
    ),
    has_plans=True,
    json=render_shape_json,
)
VIEW: Final = replace(
    _OF_SQL,
    of_calls=replace(
        _OF_SQL,
        title="What the calls of each method cost, and what they touched in stable memory",
        glossary=(
            ("call", "kind of message and method; times: calls of it"),
            (
                ACCESSED[0],
                f"{ACCESSED[1]}, once for each call; median and max: of one",
            ),
            DIRTY,
            WHOSE_OF_MODULE,
        ),
    ),
)
