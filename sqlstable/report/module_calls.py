"""The table of a module in whose messages no SQL is seen: a row for each call."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from rich.text import Text

from sqlstable.analysis.pricing.message_cycles import message_cycles
from sqlstable.analysis.totals import Totals, totals
from sqlstable.analysis.trace_source import TraceSource
from sqlstable.ic.cycle_fees import CycleFees
from sqlstable.ic.words import INSTRUCTIONS
from sqlstable.report.call_stretches import CallStretch, stretches
from sqlstable.report.call_words import WHOSE_OF_MODULE, answer_words, call_facts
from sqlstable.report.cost_words import message_cost_words
from sqlstable.report.frame import listed
from sqlstable.report.grid import GAP, Cell, paragraph
from sqlstable.report.limit_words import fit_lines, limit_style
from sqlstable.report.messages import instruction_lines, part_lines, trap_lines
from sqlstable.report.numbers import count, counted, percent, size
from sqlstable.report.owner_column import HEADING, Share, owner_column, shares
from sqlstable.report.table import Column, Table, number
from sqlstable.report.text import clean, shorten
from sqlstable.report.view import ACCESSED, DIRTY, ONCE, Glossary, Look, ends, more_lines
from sqlstable.trace.fees import trace_fees
from sqlstable.trace.model import HeapUse, Instructions, Message, StableUse, Statement

CALL_WIDTH_MIN: Final = 20
OWNER_NAME_WIDTH_MAX: Final = 12

TITLE: Final = "What each call cost, and what it touched in stable memory and in the heap"

GLOSSARY: Final[Glossary] = (
    (ACCESSED[0], f"{ACCESSED[1]} in stable memory{ONCE}"),
    DIRTY,
    ("of limit", "share of the instructions that such a message may execute"),
    ("heap", "Wasm pages of 64 KiB of the heap that were read or written; wr.: written"),
    WHOSE_OF_MODULE,
)


@dataclass(frozen=True, slots=True)
class CallRow:
    """One line of numbers: a call, or the sum of all."""

    number: str
    call: str
    facts: tuple[str, ...]
    "What there is to know of it, below its line."
    stable: StableUse
    instructions: Instructions | None
    limit: str
    "Share of the limit on instructions."
    heap: HeapUse | None
    owners: tuple[Share, ...] | None
    "None where owners are not asked for."
    style: str = ""


def call_lines(trace: TraceSource, look: Look) -> list[Text]:
    """Lay out the table of all calls in order."""
    width = look.width
    first, hidden, last = ends([*stretches(trace.messages)])
    fees = trace_fees(trace.settings)
    rows = {_index(it): _row(trace, it, fees) for it in (*first, *last)}
    total = totals(trace)
    summed = _total_row(trace, total)
    table = Table.holding(_columns([*rows.values(), summed]), [*rows.values(), summed], width)
    indent = table.widths[0] + GAP
    if not table.has(HEADING):
        rows = {index: _with_owners(row) for index, row in rows.items()}

    def lines(items: Sequence[Message | CallStretch]) -> Iterator[Text]:
        for item in items:
            row = rows[_index(item)]
            yield from table.row(row)
            for fact in row.facts:
                yield from paragraph(fact, width, style=row.style or "dim", indent=indent)
            if isinstance(item, Message):
                yield from part_lines(item, width)
                yield from trap_lines(item, width)
                yield from _reject_lines(item, width)

    body = [*lines(first), *more_lines(hidden, "more row", width), *lines(last)]
    return [
        *table.framed(body, sums=[summed], stacked=(HEADING,)),
        *_answer_lines(trace, total, width),
        *instruction_lines(trace, width),
        *fit_lines(trace, width),
    ]


def _index(item: Message | CallStretch) -> int:
    return item.first.index if isinstance(item, CallStretch) else item.index


def _row(trace: TraceSource, item: Message | CallStretch, fees: CycleFees) -> CallRow:
    if isinstance(item, CallStretch):
        return _stretch_row(trace, item, fees)
    [index] = item.statements
    statement = trace.statements[index]
    is_trapped = item.outcome == "trapped"
    return CallRow(
        number=str(item.index),
        call=clean(statement.sql),
        facts=(
            " · ".join([*call_facts(item), *_compiling(statement), *_label(item)]),
            *_cost_facts(item, fees),
        ),
        stable=item.stable,
        instructions=item.instructions,
        limit=_limit_share(item),
        heap=item.heap,
        owners=tuple(shares(statement.owners, item.stable.os_pages_accessed)),
        style="red" if is_trapped else limit_style(item).replace("dim", "").strip(),
    )


def _cost_facts(message: Message, fees: CycleFees, paid: Message | None = None) -> list[str]:
    words = message_cost_words(message, fees, paid)
    return [words] if words else []


def _costliest(trace: TraceSource, stretch: CallStretch, fees: CycleFees) -> Message:
    """Return the message of a stretch with most cycles: an argument's bytes are paid for, too."""
    found = trace.messages[stretch.first.index : stretch.last.index + 1]
    return max(found, key=lambda it: message_cycles(it, fees).total or 0)


def _stretch_row(trace: TraceSource, stretch: CallStretch, fees: CycleFees) -> CallRow:
    [first], [widest] = stretch.first.statements, stretch.widest.statements
    facts = [clean(stretch.first.kind).replace("_", " "), *_label(stretch.first)]
    return CallRow(
        number=f"{stretch.first.index}-{stretch.last.index}",
        call=f"{count(stretch.count)} × {clean(trace.statements[first].sql)} …",  # noqa: RUF001
        facts=(
            " · ".join([facts[0], "the largest figures of any", *facts[1:]]),
            *_cost_facts(stretch.dearest, fees, _costliest(trace, stretch, fees)),
        ),
        stable=stretch.stable,
        instructions=stretch.instructions,
        limit=_limit_share(stretch.dearest),
        heap=stretch.heap,
        owners=tuple(
            shares(trace.statements[widest].owners, stretch.widest.stable.os_pages_accessed)
        ),
        style=limit_style(stretch.dearest).replace("dim", "").strip(),
    )


def _compiling(statement: Statement) -> list[str]:
    """Say what an installation paid for compiling its module."""
    spent = (statement.phase_instructions or {}).get("prepare", 0)
    return [f"{count(spent)} instructions for compiling the module"] if spent else []


def _label(message: Message) -> list[str]:
    return [] if message.label is None else [f'"{clean(message.label)}"']


def _limit_share(message: Message) -> str:
    limit = next((it for it in message.limits if it.name == INSTRUCTIONS), None)
    return "" if limit is None else percent(limit.used, limit.limit)


def _with_owners(row: CallRow) -> CallRow:
    """Return a row that says whose the OS pages are below its call."""
    if not row.owners:
        return row
    said = ", ".join(f"{it.name} {count(it.os_pages_accessed)}" for it in row.owners)
    return replace(row, facts=(f"{row.facts[0]} · whose: {said}", *row.facts[1:]))


def _total_row(trace: TraceSource, total: Totals) -> CallRow:
    return CallRow(
        number="",
        call=f"total of {counted(total.message_count, 'call')}",
        facts=(),
        stable=total.stable,
        instructions=total.instructions,
        limit="",
        heap=_heap_total(trace),
        owners=None,
        style="bold",
    )


def _heap_total(trace: TraceSource) -> HeapUse | None:
    """Add up what all messages did to the heap; None where nobody watched."""
    total: HeapUse | None = None
    for message in trace.messages:
        if message.heap is not None:
            before = total or HeapUse(0, 0, 0, 0)
            total = replace(
                message.heap,
                wasm_pages_accessed=before.wasm_pages_accessed + message.heap.wasm_pages_accessed,
                wasm_pages_written=before.wasm_pages_written + message.heap.wasm_pages_written,
            )
    return total


def _columns(rows: Sequence[CallRow]) -> list[Column[CallRow]]:
    return [
        number(" #", lambda it: it.number, style="dim"),
        Column("call", _call_cell, rest_min=CALL_WIDTH_MIN),
        number("instr.", lambda it: _total(it.instructions), style=_main_style),
        number("of\nlimit", lambda it: it.limit, drop=3, style=_style),
        number("OS pages\naccessed", lambda it: it.stable.os_pages_accessed, style=_main_style),
        number("dirty", lambda it: it.stable.os_pages_dirty, drop=5, style=_style),
        number("heap", lambda it: _heap(it, "wasm_pages_accessed"), drop=4, style=_style),
        number("wr.", lambda it: _heap(it, "wasm_pages_written"), drop=2, style=_style),
        owner_column(rows, lambda it: it.owners, name_width_max=OWNER_NAME_WIDTH_MAX),
    ]


def _total(spent: Instructions | None) -> int | None:
    return None if spent is None else spent.total


def _heap(row: CallRow, name: str) -> int | None:
    return None if row.heap is None else getattr(row.heap, name)


def _style(row: CallRow) -> str:
    return row.style


def _main_style(row: CallRow) -> str:
    return row.style or "bold"


def _call_cell(row: CallRow, width: int) -> Cell:
    lines_max = max(2, len(row.owners or ()))
    style = row.style or "bold"
    return [Text(line, style=style) for line in shorten(row.call, width, lines_max=lines_max)]


def _reject_lines(message: Message, width: int) -> list[Text]:
    call = message.call
    if call is None or call.answer != "reject" or not call.answer_text:
        return []
    lines = shorten(clean(call.answer_text), width - 2, lines_max=2)
    return [Text(f"  {line}", style="yellow") for line in lines]


def _answer_lines(trace: TraceSource, total: Totals, width: int) -> list[Text]:
    """Say what came of all calls, and what they moved."""
    fates = Counter(_fate(message) for message in trace.messages)
    words = [f"{count:,} {fate}" for fate, count in fates.items() if fate]
    stable = total.stable
    for verb, moved, times in (
        ("read", stable.bytes_read, stable.calls.read),
        ("wrote", stable.bytes_written, stable.calls.write),
    ):
        words.append(f"{verb} {size(moved)} in {counted(times, 'piece')}")
    if stable.calls.grow:
        words.append(f"grew {counted(stable.calls.grow, 'time')}")
    return listed(words, width, style="dim")


def _fate(message: Message) -> str:
    if message.outcome == "trapped":
        return "trapped"
    if message.call is None or message.call.answer == "none":
        return answer_words(message)
    return {"reply": "replied", "reject": "rejected"}[message.call.answer]
