"""The table with one row for each message, and how much of each limit it used."""

from collections.abc import Sequence
from itertools import chain
from typing import Final

from rich.text import Text

from sqlstable.analysis.growth import growth_steps
from sqlstable.analysis.source import TraceSource
from sqlstable.analysis.totals import totals
from sqlstable.analysis.verdict import applies, verdict
from sqlstable.report.grid import Cell, Column, Grid, cell, grid, number_column, paragraph, rule
from sqlstable.report.growth import step_lines
from sqlstable.report.messages import outcome, trap_lines
from sqlstable.report.numbers import UNKNOWN, count, counted, percent
from sqlstable.report.text import clean, fit, shorten, wrap
from sqlstable.trace.model import Message

ROWS_MAX: Final = 60
"""Up to so many rows a table shows all."""
ROWS_FIRST: Final = 40
ROWS_LAST: Final = 10
assert ROWS_FIRST + ROWS_LAST < ROWS_MAX

MESSAGE_WIDTH_MIN: Final = 24

LIMITS_MAX: Final = 3
"""Limits that get a column, those used most."""
LIMIT_WIDTH: Final = 8


def message_lines(trace: TraceSource, width: int) -> list[Text]:
    """Lay out the table of all messages in order."""
    messages = list(trace.messages)
    first, last = messages, list[Message]()
    if len(messages) > ROWS_MAX:
        first, last = messages[:ROWS_FIRST], messages[-ROWS_LAST:]
    limits = _limits_used_most(messages)
    table = _grid([*first, *last], limits, width)
    lines = [*table.heading(), rule(width)]
    steps = growth_steps(trace)
    for message in first:
        lines += _message_lines(trace, message, table, limits)
        lines += trap_lines(message, width)
        lines += step_lines(steps.get(message.index), width)
    if last:
        more = counted(len(messages) - len(first) - len(last), "more message")
        lines += paragraph(f"… {more}: --format csv or json for all", width, style="italic")
    for message in last:
        lines += _message_lines(trace, message, table, limits)
        lines += trap_lines(message, width)
        lines += step_lines(steps.get(message.index), width)
    return [*lines, rule(width), *_note_lines(trace, width)]


def _grid(messages: Sequence[Message], limits: Sequence[str], width: int) -> Grid:
    columns = (
        number_column("#", [str(message.index) for message in messages]),
        Column("message", 0),
        number_column(
            "OS pages\naccessed", [count(it.stable.os_pages_accessed) for it in messages]
        ),
        number_column("dirty", [count(it.stable.os_pages_dirty) for it in messages]),
        *(number_column(_limit_heading(name), _shares(messages, name)) for name in limits),
        Column("verdict", len("exceeds")),
    )
    last_limit = len(columns) - 2
    drop = range(last_limit, last_limit - len(limits), -1)
    return grid(columns, width=width, text=1, text_width_min=MESSAGE_WIDTH_MIN, drop=drop)


def _message_lines(
    trace: TraceSource, message: Message, table: Grid, limits: Sequence[str]
) -> list[Text]:
    words = [clean(message.kind), outcome(message)]
    if message.cache is not None:
        words.insert(1, f"{clean(message.cache)} cache")
    style = "bold red" if message.outcome == "trapped" else "bold"
    heading = shorten(" · ".join(words), table.text_width, lines_max=2)
    found = verdict(message)
    cells: list[Cell] = [
        cell(str(message.index), "dim"),
        [
            *(Text(line, style=style) for line in heading),
            *(Text(line) for line in _content(trace, message, table.text_width)),
        ],
        cell(count(message.stable.os_pages_accessed), "bold"),
        cell(count(message.stable.os_pages_dirty)),
        *(cell(_share(message, name)) for name in limits),
        cell(found or UNKNOWN, "bold red" if found == "exceeds" else ""),
    ]
    return table.row(cells)


def _content(trace: TraceSource, message: Message, width: int) -> list[str]:
    """Name what a message did: its label, or its first statement and how many follow."""
    if not message.statements:
        names = ", ".join(clean(entry.name) for entry in message.outside)
        text = f"outside of statements: {names}" if names else "no statement"
        return [fit(text, width)]
    if message.label is not None:
        text = f'"{clean(message.label)}", {counted(len(message.statements), "statement")}'
        return [fit(text, width)]
    sql = clean(trace.statements[message.statements[0]].sql)
    more = len(message.statements) - 1
    ending = f" and {count(more)} more" if more else ""
    return [f"{''.join(shorten(sql, width - len(ending), lines_max=1))}{ending}"]


# -- limits --------------------------------------------------------------------------------------


def _limits_used_most(messages: Sequence[Message]) -> list[str]:
    """Return the names of the limits to show, in the order in which messages name them."""
    shares: dict[str, float] = {}
    for use in chain.from_iterable(message.limits for message in messages):
        share = use.used / max(use.limit, 1) if applies(use) else 0.0
        shares[use.name] = max(shares.get(use.name, 0.0), share)
    kept = sorted(shares, key=lambda name: -shares[name])[:LIMITS_MAX]
    return [name for name in shares if name in kept]


def _share(message: Message, limit: str) -> str:
    for use in message.limits:
        if use.name == limit and applies(use):
            return percent(use.used, use.limit)
    return UNKNOWN


def _shares(messages: Sequence[Message], limit: str) -> list[str]:
    return [_share(message, limit) for message in messages]


def _limit_heading(name: str) -> str:
    # That OS pages are those of stable memory goes without saying here.
    words = clean(name).removeprefix("stable_os_").replace("pages_", "OS pages_").split("_")
    return "\n".join(["limit on", *wrap(" ".join(words), LIMIT_WIDTH)][:4])


def _note_lines(trace: TraceSource, width: int) -> list[Text]:
    total = totals(trace)
    exceeding = sum(verdict(message) == "exceeds" for message in trace.messages)
    words = (
        f"total of {counted(total.message_count, 'message')}: "
        f"{counted(total.stable.os_pages_accessed, 'OS page')} accessed, "
        f"{count(total.stable.os_pages_dirty)} dirty; {count(exceeding)} over a limit"
    )
    return paragraph(words, width, style="bold")
