"""The view with one row for each message, and how much of each limit it used."""

from collections.abc import Iterator, Sequence
from typing import Final

from rich.text import Text

from sqlstable.analysis.growth import growth_steps
from sqlstable.analysis.totals import around_statements, outside_use, totals
from sqlstable.analysis.trace_source import TraceSource
from sqlstable.analysis.verdict import covered, not_counted, tightest_limit, verdict
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
from sqlstable.report.growth_words import step_lines
from sqlstable.report.limit_words import (
    coverage_words,
    fit_lines,
    limit_style,
    tightest_parts,
    tightest_words,
)
from sqlstable.report.measures import (
    HEAP,
    INSTRUCTIONS,
    STABLE,
    TableMeasure,
    heap_numbers,
    instruction_numbers,
    measure_cells,
    measure_columns,
    shown_measures,
    stable_numbers,
)
from sqlstable.report.messages import outcome, sum_lines, trap_lines
from sqlstable.report.numbers import UNKNOWN, count, counted
from sqlstable.report.text import clean, fit, shorten, wrap
from sqlstable.report.view import (
    ACCESSED,
    DIRTY,
    ONCE,
    ROWS_FIRST,
    ROWS_LAST,
    ROWS_MAX,
    Look,
    Row,
    View,
)
from sqlstable.trace.model import Message

MESSAGE_WIDTH_MIN: Final = 24

LIMIT_HEADING: Final = "tightest limit"
LIMIT_WIDTH_MAX: Final = 26
VERDICT_WIDTH: Final = len("fits (OS pages,")


def message_lines(trace: TraceSource, look: Look) -> list[Text]:
    """Lay out the table of all messages in order."""
    width = look.width
    messages = trace.messages
    first, last = messages, messages[:0]
    if len(messages) > ROWS_MAX:
        first, last = messages[:ROWS_FIRST], messages[-ROWS_LAST:]
    measures = shown_measures([*first, *last])
    table = _grid([*first, *last], measures, width)
    lines = [*table.heading(), rule(width)]
    steps = growth_steps(trace)
    for message in first:
        lines += _message_lines(trace, message, table, measures)
        lines += trap_lines(message, width)
        lines += step_lines(steps.get(message.index), width)
    if last:
        more = counted(len(messages) - len(first) - len(last), "more message")
        lines += paragraph(f"… {more}: --format csv or json for all", width, style="italic")
    for message in last:
        lines += _message_lines(trace, message, table, measures)
        lines += trap_lines(message, width)
        lines += step_lines(steps.get(message.index), width)
    left_out = left_out_lines(table, width, stacked=(LIMIT_HEADING,))
    return [*lines, rule(width), *left_out, *_note_lines(trace, width)]


def _grid(
    messages: Sequence[Message],
    measures: Sequence[TableMeasure],
    width: int,
) -> Grid:
    columns = (
        number_column("#", [str(message.index) for message in messages]),
        Column("message", 0),
        *measure_columns(measures, messages),
        text_column(
            LIMIT_HEADING,
            [line for message in messages for line in _limit_texts(message)],
            width_max=LIMIT_WIDTH_MAX,
            drop=10,
        ),
        text_column(
            "verdict",
            [line for message in messages for line in _verdict_texts(message)],
            width_max=VERDICT_WIDTH,
            drop=7,
        ),
    )
    return grid(columns, width=width, text=1, text_width_min=MESSAGE_WIDTH_MIN)


def _message_lines(
    trace: TraceSource,
    message: Message,
    table: Grid,
    measures: Sequence[TableMeasure],
) -> list[Text]:
    words = [clean(message.kind), outcome(message)]
    if message.cache is not None:
        words.insert(1, f"{clean(message.cache)} cache")
    style = "bold red" if message.outcome == "trapped" else "bold"
    heading = shorten(" · ".join(words), table.text_width, lines_max=2)
    cells: list[Cell] = [
        cell(str(message.index), "dim"),
        [
            *(Text(line, style=style) for line in heading),
            *(Text(line) for line in _content(trace, message, table.text_width)),
            *([] if 2 + len(measures) in table.kept else _limit_lines(message, table.text_width)),
        ],
        *measure_cells(measures, message),
        [
            Text(fit(line, LIMIT_WIDTH_MAX), style=limit_style(message))
            for line in _limit_texts(message)
        ],
        _verdict_cell(message),
    ]
    return table.row(cells)


def _limit_lines(message: Message, width: int) -> list[Text]:
    """Say how much of its tightest limit a message used."""
    return [
        Text(line, style=limit_style(message))
        for line in wrap(tightest_words(message), width)
        if line
    ]


def _limit_texts(message: Message) -> Sequence[str]:
    """Return the same in two lines, for a column of its own."""
    return tightest_parts(message) or [UNKNOWN]


def _verdict_texts(message: Message) -> Sequence[str]:
    """Say whether a message fits, and what that is about where it is not about all limits."""
    found = verdict(message)
    if found is None:
        return [UNKNOWN]
    if found != "fits" or not not_counted(message):
        return wrap(found, VERDICT_WIDTH)
    return wrap(f"{found} ({coverage_words(message)})", VERDICT_WIDTH)


def _verdict_cell(message: Message) -> Cell:
    style = "bold red" if verdict(message) == "exceeds" else ""
    return [Text(line, style=style) for line in _verdict_texts(message)]


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


def _note_lines(trace: TraceSource, width: int) -> list[Text]:
    total = totals(trace)
    words = (
        f"total of {counted(total.message_count, 'message')}: "
        f"{counted(total.stable.os_pages_accessed, 'OS page')} accessed, "
        f"{count(total.stable.os_pages_dirty)} dirty"
    )
    return [
        *paragraph(words, width, style="bold"),
        *sum_lines(total, width),
        *fit_lines(trace, width),
    ]


# -- CSV -----------------------------------------------------------------------------------------


def _csv_rows(trace: TraceSource) -> Iterator[Row]:
    steps = growth_steps(trace)
    for message in trace.messages:
        outside = outside_use(trace, message)
        yield (
            *(message.index, message.kind, message.label, message.outcome, message.trap),
            *(message.discarded_writes, message.cache, len(message.statements)),
            *stable_numbers(message.stable),
            *(outside.os_pages_accessed, outside.os_pages_dirty, verdict(message)),
            *_tightest(message),
            message.image_bytes,
            steps[message.index].grown_bytes if message.index in steps else 0,
            *instruction_numbers(message.instructions),
            *heap_numbers(message.heap),
            *instruction_numbers(around_statements(trace, message)),
            *("; ".join(covered(message)), "; ".join(not_counted(message)), message.trap_limit),
        )


def _tightest(message: Message) -> Row:
    tightest = tightest_limit(message)
    if tightest is None:
        return (None, None, None)
    return (tightest.name, tightest.used, tightest.limit)


VIEW: Final = View(
    by="message",
    title="What each message touched in stable memory, in OS pages of 4 KiB",
    glossary=(
        (ACCESSED[0], ACCESSED[1] + ONCE),
        DIRTY,
        ("tightest", "the limit of which the message used the largest share, or that trapped it"),
        (
            "verdict",
            (
                "fits: within all limits, or those named only; as far as it ran: trapped, but not "
                "by one; exceeds: above one, or trapped by it"
            ),
        ),
    ),
    lines=message_lines,
    header=(
        *("message", "kind", "label", "outcome", "trap", "discarded_writes", "cache"),
        "statement_count",
        *STABLE,
        *("outside_os_pages_accessed", "outside_os_pages_dirty", "verdict"),
        *("tightest_limit", "tightest_limit_used", "tightest_limit_max", "image_bytes"),
        "grown_bytes",
        *INSTRUCTIONS,
        *HEAP,
        *(f"around_{name}" for name in INSTRUCTIONS),
        *("verdict_covers", "verdict_not_counted", "trap_limit"),
    ),
    rows=_csv_rows,
)
