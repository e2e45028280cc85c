"""The view with one row for each message, and how much of each limit it used."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Final

from rich.text import Text

from sqlstable.analysis.fitting.circumstances import trace_limits, trace_regime
from sqlstable.analysis.fitting.fit import MessageFit, message_fit
from sqlstable.analysis.fitting.message_pace import Pace, message_pace, slice_overrun
from sqlstable.analysis.fitting.payload_limits import payload_uses
from sqlstable.analysis.growth import growth_steps
from sqlstable.analysis.pricing.message_cycles import cycles_as_update, message_cycles
from sqlstable.analysis.totals import around_statements, outside_use, totals
from sqlstable.analysis.trace_source import TraceSource
from sqlstable.analysis.verdict import covered, not_counted, tightest_limit, verdict
from sqlstable.ic.limits import Limits
from sqlstable.ic.message_fees import MessageCycles
from sqlstable.ic.words import REPLY_BYTES, REQUEST_BYTES
from sqlstable.report.by_checkpoint import checkpoint_lines
from sqlstable.report.call_words import answer_words
from sqlstable.report.cost_words import message_cost_lines
from sqlstable.report.fit_words import fit_notes, pace_lines
from sqlstable.report.grid import Cell, paragraph
from sqlstable.report.growth_words import step_lines
from sqlstable.report.limit_words import (
    coverage_words,
    fit_lines,
    limit_style,
    tightest_parts,
    tightest_words,
)
from sqlstable.report.measures import (
    COST,
    HEAP,
    HOW_KNOWN,
    INSTRUCTIONS,
    SPENT,
    STABLE,
    measure_columns,
    shown_measures,
)
from sqlstable.report.messages import (
    continues,
    instruction_lines,
    outcome,
    part_lines,
    trap_lines,
)
from sqlstable.report.numbers import UNKNOWN, count, counted
from sqlstable.report.table import Column, Table, number, words
from sqlstable.report.text import clean, fit, shorten, wrap
from sqlstable.report.view import (
    ACCESSED,
    DIRTY,
    ONCE,
    Fields,
    Look,
    Row,
    View,
    ends,
    more_lines,
    named,
    values_of,
)
from sqlstable.trace.fees import trace_fees
from sqlstable.trace.format.schema import CALL_FIELDS
from sqlstable.trace.model import Instructions, Message, ModuleCall, StableUse

MESSAGE_WIDTH_MIN: Final = 24

LIMIT_HEADING: Final = "tightest limit"
LIMIT_WIDTH_MAX: Final = 26
VERDICT_WIDTH: Final = len("fits (OS pages,")


def message_lines(trace: TraceSource, look: Look) -> list[Text]:
    """Lay out the table of all messages in order."""
    width = look.width
    first, hidden, last = ends(trace.messages)
    shown = [*first, *last]

    def text_cell(message: Message, width: int) -> Cell:
        limits = [] if table.has(LIMIT_HEADING) else _limit_lines(message, width)
        return [*_heading(message, width), Text(_content(trace, message, width)), *limits]

    table = Table.holding(_columns(shown, text_cell, trace_limits(trace.settings)), shown, width)
    steps, fees = growth_steps(trace), trace_fees(trace.settings)

    def lines(messages: Sequence[Message]) -> Iterator[Text]:
        for message in messages:
            yield from table.row(message)
            yield from part_lines(message, width)
            yield from trap_lines(message, width)
            yield from step_lines(steps.get(message.index), width)
            yield from message_cost_lines(message, fees, width)
            yield from fit_notes(trace, message, width)

    body = [*lines(first), *more_lines(hidden, "more message", width), *lines(last)]
    return [*table.framed(body, stacked=(LIMIT_HEADING,)), *_note_lines(trace, width)]


def _columns(
    messages: Sequence[Message],
    text_cell: Callable[[Message, int], Cell],
    limits: Limits | None,
) -> list[Column[Message]]:
    return [
        number("#", lambda it: str(it.index), style="dim"),
        Column("message", text_cell, rest_min=MESSAGE_WIDTH_MIN),
        *measure_columns(shown_measures(messages)),
        words(LIMIT_HEADING, _limit_texts, width_max=LIMIT_WIDTH_MAX, drop=10, style=limit_style),
        words(
            "verdict",
            lambda it: _verdict_texts(it, limits),
            width_max=VERDICT_WIDTH,
            drop=7,
            style=lambda it: "bold red" * (verdict(it) == "exceeds"),
        ),
    ]


def _heading(message: Message, width: int) -> list[Text]:
    said = [clean(message.kind), *continues(message), outcome(message)]
    if message.cache is not None:
        said.insert(-1, f"{clean(message.cache)} cache")
    if answer_words(message):
        said.append(answer_words(message))
    style = "bold red" if message.outcome == "trapped" else "bold"
    return [Text(line, style=style) for line in shorten(" · ".join(said), width, lines_max=2)]


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


def _verdict_texts(message: Message, limits: Limits | None) -> Sequence[str]:
    """Say whether a message fits, and what that is about where it is not about all limits."""
    found = message_fit(message, limits).word
    if found is None:
        return [UNKNOWN]
    if found != "fits" or not not_counted(message):
        return wrap(found, VERDICT_WIDTH)
    return wrap(f"{found} ({coverage_words(message)})", VERDICT_WIDTH)


def _content(trace: TraceSource, message: Message, width: int) -> str:
    """Name what a message did: its label, or its first statement and how many follow."""
    if not message.statements:
        names = ", ".join(clean(entry.name) for entry in message.outside)
        return fit(f"outside of statements: {names}" if names else "no statement", width)
    if message.call is not None:
        label = "" if message.label is None else f'"{clean(message.label)}": '
        return "".join(shorten(f"{label}{clean(message.call.text)}", width, lines_max=1))
    if message.label is not None:
        statements = counted(len(message.statements), "statement")
        return fit(f'"{clean(message.label)}", {statements}', width)
    sql = clean(trace.statements[message.statements[0]].sql)
    more = len(message.statements) - 1
    ending = f" and {count(more)} more" if more else ""
    return f"{''.join(shorten(sql, width - len(ending), lines_max=1))}{ending}"


def _note_lines(trace: TraceSource, width: int) -> list[Text]:
    total = totals(trace)
    words = (
        f"total of {counted(total.message_count, 'message')}: "
        f"{counted(total.stable.os_pages_accessed, 'OS page')} accessed, "
        f"{count(total.stable.os_pages_dirty)} dirty"
    )
    return [
        *paragraph(words, width, style="bold"),
        *instruction_lines(trace, width),
        *fit_lines(trace, width),
        *pace_lines(trace, width),
        *checkpoint_lines(trace, width),
    ]


# -- CSV -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Known:
    """A message, with what its trace says of it."""

    message: Message
    outside: StableUse
    around: Instructions | None
    grown_bytes: int
    fit: MessageFit
    pace: Pace
    slice_overrun: bool | None
    cycles: MessageCycles
    as_update: MessageCycles | None


def _items(trace: TraceSource) -> Iterator[_Known]:
    steps = growth_steps(trace)
    limits, regime = trace_limits(trace.settings), trace_regime(trace.settings)
    fees = trace_fees(trace.settings)
    for message in trace.messages:
        step = steps.get(message.index)
        yield _Known(
            message,
            outside_use(trace, message),
            around_statements(trace, message),
            0 if step is None else step.grown_bytes,
            message_fit(message, limits),
            message_pace(message, limits, regime),
            slice_overrun(trace, message),
            message_cycles(message, fees),
            cycles_as_update(message, fees),
        )


def _verdict_fields(known: _Known) -> Row:
    tightest = tightest_limit(known.message)
    outside = known.outside
    return (
        *(outside.os_pages_accessed, outside.os_pages_dirty, verdict(known.message)),
        *((None,) * 3 if tightest is None else (tightest.name, tightest.used, tightest.limit)),
        *(known.message.image_bytes, known.grown_bytes),
    )


def _coverage_fields(message: Message) -> Row:
    return ("; ".join(covered(message)), "; ".join(not_counted(message)), message.trap_limit)


def _pace_fields(known: _Known) -> Row:
    found = known.pace
    delta = found.delta
    return (
        *(known.fit.word, found.slices, found.rounds, found.seconds_min, found.seconds_max),
        *(known.slice_overrun, delta.size_bytes, delta.heap_os_pages, delta.pause_rounds),
    )


def _size_fields(message: Message) -> Row:
    """Give the sizes of argument and reply; of a reply that was refused the one that was tried."""
    used = {use.name: use.used for use in payload_uses(message)}
    return (used.get(REQUEST_BYTES), used.get(REPLY_BYTES))


def _cycle_fields(found: MessageCycles) -> Row:
    return (found.total, found.base, found.execution, found.ingress, found.calls)


def _cycles_as_update(found: MessageCycles | None) -> Row:
    return (None if found is None else found.total,)


def _statement_count(message: Message) -> Row:
    return (len(message.statements),)


_message: Final[Callable[[_Known], Message]] = attrgetter("message")

_OF_MESSAGE: Final = (
    named("index").called(["message"]),
    named("kind", "label", "outcome", "trap", "discarded_writes", "cache"),
    Fields(("statement_count",), _statement_count),
    STABLE,
)


def _call_fields(call: ModuleCall | None) -> Row:
    return (None,) * len(CALL_FIELDS) if call is None else values_of(CALL_FIELDS)(call)


_CALL: Final = Fields(
    ("method", "call", "answer", "answer_bytes", "answer_text", "calls_made"), _call_fields
)
"""What a module was called with, and what it answered."""

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
                "by one; only as an update: a query over its limits and within an update's; does "
                "not fit: above one, or trapped by it"
            ),
        ),
    ),
    lines=message_lines,
    items=_items,
    fields=(
        *(fields.at(_message) for fields in _OF_MESSAGE),
        Fields(
            (
                *("outside_os_pages_accessed", "outside_os_pages_dirty", "verdict"),
                *("tightest_limit", "tightest_limit_used", "tightest_limit_max"),
                *("image_bytes", "grown_bytes"),
            ),
            _verdict_fields,
        ),
        COST.at(_message),
        HEAP.at(attrgetter("message.heap")),
        SPENT.at(attrgetter("around")).called(f"around_{name}" for name in INSTRUCTIONS),
        Fields(("verdict_covers", "verdict_not_counted", "trap_limit"), _coverage_fields).at(
            _message
        ),
        named("continues").at(_message),
        _CALL.at(attrgetter("message.call")),
        Fields(
            (
                *("fit", "slices", "rounds", "seconds_min", "seconds_max", "slice_overrun"),
                *("heap_delta_bytes", "heap_delta_heap_os_pages", "pause_rounds"),
            ),
            _pace_fields,
        ),
        Fields(
            ("cycles", *(f"cycles_{part}" for part in ("base", "execution", "ingress", "calls"))),
            _cycle_fields,
        ).at(attrgetter("cycles")),
        HOW_KNOWN.at(_message),
        Fields((REQUEST_BYTES, REPLY_BYTES), _size_fields).at(_message),
        Fields(("cycles_as_update",), _cycles_as_update).at(attrgetter("as_update")),
    ),
)
