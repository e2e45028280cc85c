"""The view with one row for each statement, under the message to which it belongs."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from operator import itemgetter
from typing import Final

from rich.text import Text

from sqlstable.analysis.pricing.statement_prices import StatementCycles, instruction_cycles
from sqlstable.analysis.totals import Totals, around_statements, sum_known, totals
from sqlstable.analysis.trace_source import TraceSource
from sqlstable.ic.cycle_fees import CycleFees
from sqlstable.report import module_calls
from sqlstable.report.call_words import answer_words
from sqlstable.report.cost_words import message_cost_lines, spent_words
from sqlstable.report.frame import listed
from sqlstable.report.grid import Cell, paragraph
from sqlstable.report.limit_words import fit_lines, instruction_words, limit_style, tightest_words
from sqlstable.report.measures import (
    ALWAYS,
    COST,
    HOW_KNOWN,
    PHASES,
    STABLE,
    measure_columns,
    shown_measures,
)
from sqlstable.report.messages import (
    continues,
    estimated,
    instruction_lines,
    outcome,
    part_lines,
    trap_lines,
)
from sqlstable.report.module_calls import call_lines
from sqlstable.report.numbers import count, counted, size
from sqlstable.report.owner_column import Share, owner_column, shares
from sqlstable.report.plan_words import plan_lines
from sqlstable.report.table import Column, Table, number
from sqlstable.report.text import clean, shorten
from sqlstable.report.view import (
    ACCESSED,
    DIRTY,
    ONCE,
    ROWS_FIRST,
    ROWS_LAST,
    ROWS_MAX,
    WHOSE,
    Fields,
    Look,
    View,
    named,
    values_of,
)
from sqlstable.report.view import Row as CsvRow
from sqlstable.trace.fees import trace_fees
from sqlstable.trace.format.schema import COUNTER_NAMES
from sqlstable.trace.format.summary import Summary
from sqlstable.trace.model import Instructions, Message, OutsideUse, StableUse, Statement

NUMBER_HEADING: Final = "  #"
"""Wide enough to set the statements off from the lines that open their messages."""

NOTE_INDENT: Final = 5
"""Under the statement, which stands behind the numbers."""

STATEMENT_WIDTH_MIN: Final = 20
OWNER_NAME_WIDTH_MAX: Final = 16


@dataclass(frozen=True, slots=True)
class Heading:
    """The line that opens a message."""

    message: Message
    continued: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """One line of numbers: a statement, what happened outside of any, or a sum."""

    number: str
    "Index of the statement; empty for other rows."
    text: str
    stable: StableUse
    hits: int | None = None
    row_count: int | None = None
    owners: tuple[Share, ...] | None = None
    "None where owners are not asked for."
    style: str = ""
    instructions: Instructions | None = None
    statement: Statement | None = None
    "The statement that the row is about; its plan and more stand below."


@dataclass(frozen=True, slots=True)
class Omission:
    """Stands for what a table leaves out."""

    text: str


Part = Heading | Row | Omission

Place = tuple[Message, int | None]
"""A statement by its index, in its message; None for a message without one."""


def statement_lines(trace: TraceSource, look: Look) -> list[Text]:
    """Lay out the table of all statements, message by message."""
    width = look.width
    parts = list(_parts(trace))
    all_messages = totals(trace)
    total = _total_row(all_messages)
    rows = [*(part for part in parts if isinstance(part, Row)), total]
    table = Table.holding(_columns(rows), rows, width)
    fees = trace_fees(trace.settings)
    body = [line for part in parts for line in _part_lines(part, table, look, fees)]
    return [
        *table.framed(body, sums=[total]),
        *_byte_lines(all_messages, width),
        *instruction_lines(trace, width),
        *fit_lines(trace, width),
    ]


def _part_lines(part: Part, table: Table[Row], look: Look, fees: CycleFees) -> list[Text]:
    match part:
        case Heading():
            return _message_lines(part, fees, look.width)
        case Row():
            notes = [] if part.statement is None else _notes(part.statement, look)
            return [*table.row(part), *notes]
        case Omission():
            return paragraph(part.text, look.width, style="italic")


# -- what the table shows ------------------------------------------------------------------------


def _parts(trace: TraceSource) -> Iterator[Part]:
    """Yield headings and rows in order, an omission in place of too many of them."""
    found = trace.summary
    if found.statement_count + found.bare_count <= ROWS_MAX:
        yield from _parts_at(trace, list(_places(trace.messages)))
        return
    first = list(islice(_places(trace.messages), ROWS_FIRST))
    last = list(islice(_places_backwards(trace.messages), ROWS_LAST))[::-1]
    yield from _parts_at(trace, first)
    yield Omission(_omission(found, [*first, *last]))
    yield from _parts_at(trace, last)


def _places(messages: Iterable[Message]) -> Iterator[Place]:
    for message in messages:
        for index in message.statements or (None,):
            yield message, index


def _places_backwards(messages: Sequence[Message]) -> Iterator[Place]:
    for message in reversed(messages):
        for index in reversed(message.statements or (None,)):
            yield message, index


def _parts_at(trace: TraceSource, places: Sequence[Place]) -> Iterator[Heading | Row]:
    """Yield the parts of some statements, and of messages without one (None)."""
    shown: Message | None = None
    for message, index in places:
        if shown is None or message.index != shown.index:
            continued = index is not None and index != message.statements[0]
            yield Heading(message, continued=continued)
            shown = message
        if index is not None:
            yield _statement_row(trace.statements[index])
        if index is None or index == message.statements[-1]:
            yield from _closing_rows(trace, message)


def _closing_rows(trace: TraceSource, message: Message) -> Iterator[Row]:
    """Yield what a message did beside its statements, and its sum where that is a new number."""
    outside = [entry for entry in message.outside if entry.stable.os_pages_accessed > 0]
    around = around_statements(trace, message)
    if len(outside) == 1:
        yield replace(_outside_row(outside[0]), instructions=around)
    else:
        yield from map(_outside_row, outside)
        if around is not None and around.total:
            yield Row("", "around statements", StableUse(), style="dim", instructions=around)
    if len(message.statements) + len(outside) > 1:
        yield _message_row(message, [trace.statements[index] for index in message.statements])


def _statement_row(statement: Statement) -> Row:
    times = f"{count(statement.runs)} × " if statement.runs > 1 else ""  # noqa: RUF001
    return Row(
        number=str(statement.index),
        text=times + (clean(statement.sql) or "(empty statement)"),
        stable=statement.stable,
        hits=statement.sqlite.hits,
        row_count=statement.row_count,
        owners=tuple(shares(statement.owners)),
        instructions=statement.instructions,
        statement=statement,
    )


def _notes(statement: Statement, look: Look) -> Iterator[Text]:
    """Yield what stands below a statement: its instructions, its plan, and what loops visited."""
    spent = statement.instructions
    if spent is not None:
        phases = statement.phase_instructions
        reply = None if phases is None else phases["reply"]
        words = f"{estimated(spent)}{spent_words(spent, reply=reply)}"
        yield from paragraph(words, look.width, style="dim", indent=NOTE_INDENT)
    plan = statement.plan if look.plan else ()
    yield from plan_lines(plan, statement.loops, look.width, indent=NOTE_INDENT)


def _outside_row(entry: OutsideUse) -> Row:
    return Row(
        number="",
        text=f"outside of statements: {clean(entry.name)}",
        stable=entry.stable,
        style="dim",
    )


def _message_row(message: Message, statements: Sequence[Statement]) -> Row:
    return Row(
        number="",
        text="together, each OS page once",
        stable=message.stable,
        hits=sum_known(statement.sqlite.hits for statement in statements),
        row_count=sum(statement.row_count for statement in statements),
        style="italic",
        instructions=message.instructions,
    )


def _total_row(total: Totals) -> Row:
    return Row(
        number="",
        text=f"total of {counted(total.message_count, 'message')}",
        stable=total.stable,
        hits=total.hits,
        row_count=total.row_count,
        style="bold",
        instructions=total.instructions,
    )


def _omission(found: Summary, shown: Sequence[Place]) -> str:
    statements = found.statement_count - sum(index is not None for _, index in shown)
    bare = found.bare_count - sum(index is None for _, index in shown)
    rows_shown = Counter(message.index for message, _ in shown)
    whole = {
        message.index
        for message, _ in shown
        if message.outcome == "trapped"
        and rows_shown[message.index] == max(len(message.statements), 1)
    }
    trapped = len(found.trapped) - len(whole)
    what = f"{count(statements)} more {'statement' if statements == 1 else 'statements'}"
    if bare:
        what += f", {counted(bare, 'message')} without any"
    if trapped:
        what += f" ({counted(trapped, 'trapped message')} among them)"
    return f"… {what}: --by shape, or --format json for all"


# -- how it is laid out --------------------------------------------------------------------------


def _columns(rows: Sequence[Row]) -> list[Column[Row]]:
    measures = shown_measures(rows)
    name_width_max = OWNER_NAME_WIDTH_MAX - 4 * (len(measures) > len(ALWAYS))
    return [
        number(NUMBER_HEADING, lambda it: it.number, style="dim"),
        Column("statement", _text_cell, rest_min=STATEMENT_WIDTH_MIN),
        *measure_columns(measures, lambda it, is_main: it.style or "bold" * is_main),
        number("hits", _hits, drop=3, style=_style),
        number(
            "rows", lambda it: "" if it.row_count is None else it.row_count, drop=2, style=_style
        ),
        owner_column(rows, lambda it: it.owners, name_width_max=name_width_max),
    ]


def _style(row: Row) -> str:
    return row.style


def _hits(row: Row) -> int | str | None:
    return "" if row.hits is None and row.number == "" else row.hits


def _row_count(row: Row) -> int | str:
    return "" if row.row_count is None else row.row_count


def _text_cell(row: Row, width: int) -> Cell:
    lines = shorten(row.text, width, lines_max=max(2, len(row.owners or ())))
    return [Text(line, style=row.style) for line in lines]


def _message_lines(heading: Heading, fees: CycleFees, width: int) -> list[Text]:
    message = heading.message
    words = [f"message {message.index}", clean(message.kind)]
    if message.label is not None:
        words.append(f'"{clean(message.label)}"')
    if message.call is not None:
        words.append(clean(message.call.text))
    words += continues(message)
    if message.cache is not None:
        words.append(f"{clean(message.cache)} cache")
    words.append(outcome(message))
    if answer_words(message):
        words.append(answer_words(message))
    if heading.continued:
        words.append("continued")
    style = "bold red" if message.outcome == "trapped" else "bold blue"
    lines = [Text(line, style=style) for line in shorten(" · ".join(words), width, lines_max=2)]
    if heading.continued:
        return lines
    return [
        *_with_limit(lines, message, width),
        *message_cost_lines(message, fees, width),
        *part_lines(message, width),
        *trap_lines(message, width),
    ]


def _with_limit(lines: list[Text], message: Message, width: int) -> list[Text]:
    """Say behind a heading, or below it, how much of its tightest limit a message used."""
    words = [it for it in (instruction_words(message), tightest_words(message)) if it]
    text, style = " · ".join(words), limit_style(message)
    if not words:
        return lines
    if lines[-1].cell_len + len(f" · {text}") <= width:
        lines[-1].append(f" · {text}", style=f"not bold {style}")
        return lines
    return [*lines, *paragraph(text, width, style=style, indent=2)]


def _byte_lines(total: Totals, width: int) -> list[Text]:
    stable = total.stable
    words = [
        counted(total.statement_count, "statement"),
        f"read {size(stable.bytes_read)} in {counted(stable.calls.read, 'call')}",
        f"wrote {size(stable.bytes_written)} in {counted(stable.calls.write, 'call')}",
    ]
    if stable.calls.grow:
        words.append(f"grew {counted(stable.calls.grow, 'time')}")
    if total.image_bytes is not None and total.growth is None:
        # Otherwise the footer says it, and what it consists of.
        words.append(f"stable memory {size(total.image_bytes)} at the end")
    return listed(words, width, style="dim")


def _items(trace: TraceSource) -> Iterator[tuple[Statement, Message, StatementCycles]]:
    messages, cycles = trace.messages, instruction_cycles(trace)
    for statement in trace.statements:
        yield statement, messages[statement.message], cycles(statement)


def _plan(statement: Statement) -> CsvRow:
    return ("\n".join(statement.plan),)


_OF_MESSAGE: Final = named("kind", "label", "outcome", "cache").called(
    ("message_kind", "label", "outcome", "cache")
)
_OF_STATEMENT: Final = (
    named("sql", "shape", "kind"),
    Fields(("plan",), _plan),
    named("row_count", "runs"),
    STABLE,
    Fields(COUNTER_NAMES, values_of([f"sqlite.{name}" for name in COUNTER_NAMES])),
    COST,
    PHASES,
    HOW_KNOWN,
)

_OF_SQL: Final = View(
    by="statement",
    title="What each statement touched in stable memory, in OS pages of 4 KiB",
    glossary=(
        (ACCESSED[0], ACCESSED[1] + ONCE),
        DIRTY,
        ("hits", "SQLite pages that SQLite found in its own cache, without stable memory"),
        ("rows", "rows that the statement returned"),
        WHOSE,
    ),
    lines=statement_lines,
    items=_items,
    fields=(
        named("index", "message").called(("statement", "message")).at(itemgetter(0)),
        _OF_MESSAGE.at(itemgetter(1)),
        *(fields.at(itemgetter(0)) for fields in _OF_STATEMENT),
        named("paid", "as_update").called(("cycles", "cycles_as_update")).at(itemgetter(2)),
    ),
    has_plans=True,
    is_one_pass=True,
)
VIEW: Final = replace(
    _OF_SQL,
    of_calls=replace(
        _OF_SQL, title=module_calls.TITLE, glossary=module_calls.GLOSSARY, lines=call_lines
    ),
)
