"""The sheets of a trace: messages, statements, shapes and owners."""

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, Final

from sqlstable.analysis.groups import OwnerGroup, ShapeGroup, group_by_owner, group_by_shape
from sqlstable.analysis.growth import growth_steps
from sqlstable.analysis.pricing.message_cycles import cycles_as_update, message_cycles
from sqlstable.analysis.pricing.statement_prices import group_cycles, instruction_cycles
from sqlstable.analysis.totals import around_statements
from sqlstable.analysis.trace_source import TraceSource
from sqlstable.analysis.verdict import applies, not_counted, share, tightest_limit, verdict
from sqlstable.ic.message_fees import MessageCycles
from sqlstable.ic.words import INSTRUCTION_PHASES, PHASES
from sqlstable.report.call_words import answer_words, has_calls_alone, is_of_module
from sqlstable.report.growth_words import step_lines
from sqlstable.report.html.sheet import (
    Sheet,
    SheetColumn,
    SheetDetail,
    SheetWords,
    measure_sheet_columns,
    sheet,
)
from sqlstable.report.limit_words import coverage_words, limit_words, tightest_words
from sqlstable.report.measures import INSTRUCTION_PARTS, Sum
from sqlstable.report.messages import outcome, part_words, told_parts
from sqlstable.report.numbers import count
from sqlstable.report.owner_column import shares
from sqlstable.report.plan_words import plan_lines
from sqlstable.report.sample_words import ESTIMATED
from sqlstable.report.view import Glossary
from sqlstable.report.views import view_of
from sqlstable.trace.fees import trace_fees
from sqlstable.trace.model import LoopUse, Message, OutsideUse, OwnerUse, Statement

WIDE: Final = 1 << 20
"""Columns in which no line of text is broken: a browser breaks them."""

PARTS_PER_MILLION: Final = 1_000_000
KEPT: Final = 4096
"""Of plans and owners in words, as many as are made once only."""

_OF_SQL: Final = frozenset(
    ("hits", "rows", "runs", "vm_steps", "fullscan", "sorts", "kind", "cache")
)
"""Columns that say nothing of calls."""

_NO_COLUMNS: Final = ("of limit", "heap")
"""Words of the terminal's table of calls for what pages have no column of."""

_AS_UPDATE: Final = "cycles as an update"
"""What a query would cost if it were called as one; as a query it is free."""

LINE: Final[tuple[SheetColumn[str], ...]] = (SheetColumn("line", "", lambda it: it, "text"),)
"""A line of text below a row."""

_OWNERS: Final[tuple[SheetColumn[OwnerUse], ...]] = (
    SheetColumn("name", "owner", lambda it: it.name or it.kind, "choice"),
    SheetColumn("kind", "kind", lambda it: it.kind, "text"),
    SheetColumn("role", "role", lambda it: it.role, "text"),
    SheetColumn("accessed", "OS pages accessed", lambda it: it.os_pages_accessed),
    SheetColumn("dirty", "dirty", lambda it: it.os_pages_dirty),
)


def _how_known(measured: Any) -> str | None:  # noqa: ANN401  whatever is measured
    """Say that instructions were estimated; nothing where they were counted, or not known."""
    spent = measured.instructions
    return None if spent is None or spent.measured else f"{ESTIMATED} estimated"


_HOW_KNOWN: Final[SheetColumn[Any]] = SheetColumn(
    "known", "instr. are", _how_known, "choice", "wide"
)


def trace_sheets(trace: TraceSource) -> tuple[Sheet, ...]:
    """Return the sheets of a trace, in the order in which a page shows them.

    Args:
        trace: Its statements are read three times.
    """
    return messages_sheet(trace), statements_sheet(trace), shapes_sheet(trace), owners_sheet(trace)


# -- messages ------------------------------------------------------------------------------------


def messages_sheet(trace: TraceSource) -> Sheet:
    """Return a row for each message, with its verdict and its tightest limit."""
    fees, told = trace_fees(trace.settings), _told(trace)
    columns: list[SheetColumn[Message]] = [
        SheetColumn("index", "#", lambda it: it.index),
        SheetColumn("kind", "kind", lambda it: it.kind, "choice", "wide"),
        SheetColumn("content", "message", lambda it: _content(trace, it), "text"),
        SheetColumn("label", "label", lambda it: it.label, "choice", "detail"),
        SheetColumn(
            "answer",
            "answer",
            lambda it: answer_words(it) or None,
            "text",
            "wide" if is_of_module(trace.settings) else "detail",
        ),
        SheetColumn("said", "answered", _answered, "text", "detail"),
        SheetColumn("cache", "heap", lambda it: it.cache, "choice", "detail"),
        SheetColumn("outcome", "outcome", outcome, "choice", "detail"),
        SheetColumn("continues", "continues message", lambda it: it.continues, place="detail"),
        *measure_sheet_columns(_itself),
        _HOW_KNOWN,
        SheetColumn(
            "tightest",
            "tightest limit",
            lambda it: tightest_words(it) or None,
            "text",
            "wide",
            sort_by="share",
        ),
        SheetColumn("share", "share of it", _share, place="nowhere"),
        SheetColumn("cycles", "cycles", lambda it: message_cycles(it, fees).total, place="wide"),
        SheetColumn(
            "cycles_as_update",
            _AS_UPDATE,
            lambda it: _total(cycles_as_update(it, fees)),
            place="wide",
        ),
        SheetColumn("verdict", "verdict", verdict, "choice"),
        SheetColumn("statements", "statements", lambda it: len(it.statements), place="detail"),
        *_instruction_columns(),
        SheetColumn("around", "instructions around statements", _around(trace), place="detail"),
        SheetColumn("image", "stable memory", lambda it: it.image_bytes, "bytes", "detail"),
        SheetColumn("bytes_read", "read", lambda it: it.stable.bytes_read, "bytes", "detail"),
        SheetColumn("written", "written", lambda it: it.stable.bytes_written, "bytes", "detail"),
        SheetColumn("changed", "changed by that", lambda it: it.bytes_changed, "bytes", "detail"),
    ]
    details: list[SheetDetail[Message]] = [
        SheetDetail("told", "What to know", told, LINE, is_list=True),
        SheetDetail("limits", "Limits", _limits, LINE, is_list=True),
        SheetDetail(
            "outside",
            "Outside of statements",
            lambda it: it.outside,
            (SheetColumn("name", "by", lambda it: it.name, "text"), *measure_sheet_columns(_use)),
        ),
    ]
    words = SheetWords(
        "messages",
        "Messages",
        "message",
        "What commits whole or leaves nothing, and what limits are about.",
        ({"words": "Its statements", "sheet": "statements", "there": "message", "here": "index"},),
        _glossary("message", trace),
    )
    return sheet(words, columns, trace.messages, count=len(trace.messages), details=details)


def _told(trace: TraceSource) -> Callable[[Message], Iterator[str]]:
    """Return what there is to know of a message beside its numbers."""
    steps = growth_steps(trace)

    def told(message: Message) -> Iterator[str]:
        if message.trap is not None:
            yield message.trap
        yield from map(part_words, told_parts(message))
        missing = not_counted(message)
        if message.limits:
            yield f"the verdict is about {coverage_words(message)}" + (
                f"; not counted: {', '.join(missing)}" if missing else ""
            )
        yield from (line.plain for line in step_lines(steps.get(message.index), WIDE))

    return told


def _total(cycles: MessageCycles | None) -> int | None:
    return None if cycles is None else cycles.total


def _answered(message: Message) -> str | None:
    return None if message.call is None else message.call.answer_text


def _limits(message: Message) -> Iterator[str]:
    return (limit_words(use, message) for use in message.limits if applies(use))


def _share(message: Message) -> int | None:
    tightest = tightest_limit(message)
    return None if tightest is None else round(share(tightest) * PARTS_PER_MILLION)


def _around(trace: TraceSource) -> Callable[[Message], int | None]:
    def total(message: Message) -> int | None:
        spent = None if message.instructions is None else around_statements(trace, message)
        return None if spent is None else spent.total

    return total


def _content(trace: TraceSource, message: Message) -> str:
    if message.call is not None:
        return message.call.text
    if message.label is not None:
        return message.label
    if not message.statements:
        return ", ".join(entry.name for entry in message.outside) or "no statement"
    more = len(message.statements) - 1
    first = trace.statements[message.statements[0]].sql
    return first + (f"\n… and {more:,} more" if more else "")


# -- statements ----------------------------------------------------------------------------------


def statements_sheet(trace: TraceSource) -> Sheet:
    """Return a row for each statement, with its plan, owners, phases, and loops below."""
    messages, cycles = trace.messages, instruction_cycles(trace)
    # Most statements share few plans and owners.
    plan, whose = lru_cache(KEPT)(_plan), lru_cache(KEPT)(_whose)
    columns: list[SheetColumn[Statement]] = [
        SheetColumn("index", "#", lambda it: it.index),
        SheetColumn("sql", "statement", lambda it: it.sql or "(empty statement)", "text"),
        SheetColumn("kind", "kind", lambda it: it.kind, "choice", "detail"),
        SheetColumn("message", "message", lambda it: it.message, place="detail"),
        SheetColumn("in_kind", "in a", lambda it: messages[it.message].kind, "choice", "detail"),
        SheetColumn("label", "label", lambda it: messages[it.message].label, "choice", "detail"),
        SheetColumn("cache", "heap", lambda it: messages[it.message].cache, "choice", "detail"),
        *measure_sheet_columns(_itself),
        _HOW_KNOWN,
        SheetColumn("hits", "hits", lambda it: it.sqlite.hits, place="wide"),
        SheetColumn("rows", "rows", lambda it: it.row_count, place="wide"),
        SheetColumn("whose", "whose OS pages", lambda it: whose(it.owners), "text", "wide"),
        SheetColumn("runs", "runs", lambda it: it.runs, place="detail"),
        *_instruction_columns(),
        SheetColumn("cycles", "cycles", lambda it: cycles(it).paid, place="detail"),
        SheetColumn(
            "cycles_as_update", _AS_UPDATE, lambda it: cycles(it).as_update, place="detail"
        ),
        SheetColumn("vm_steps", "steps of SQLite", lambda it: it.sqlite.vm_steps, place="detail"),
        SheetColumn(
            "fullscan", "rows scanned", lambda it: it.sqlite.fullscan_steps, place="detail"
        ),
        SheetColumn("sorts", "sorts", lambda it: it.sqlite.sorts, place="detail"),
        SheetColumn("bytes_read", "read", lambda it: it.stable.bytes_read, "bytes", "detail"),
        SheetColumn("written", "written", lambda it: it.stable.bytes_written, "bytes", "detail"),
    ]
    details: list[SheetDetail[Statement]] = [
        SheetDetail("plan", "Plan", lambda it: plan(it.plan, it.loops), LINE, is_list=True),
        SheetDetail("owners", "Whose OS pages", lambda it: it.owners, _OWNERS),
        SheetDetail(
            "phases",
            "Phases",
            _phases,
            (
                SheetColumn("phase", "phase", lambda it: it[0], "text"),
                SheetColumn("accessed", "OS pages accessed", lambda it: it[1]),
                SheetColumn("dirty", "dirty", lambda it: it[2]),
                SheetColumn("instructions", "instr.", lambda it: it[3]),
            ),
        ),
    ]
    title, note = (
        ("Calls", "Open a row for whose OS pages it touched.")
        if has_calls_alone(trace)
        else (
            "Statements",
            "Open a row for its plan, whose OS pages it touched, and what its phases cost.",
        )
    )
    words = SheetWords(
        "statements",
        title,
        "statement",
        note,
        ({"words": "Its message", "sheet": "messages", "there": "index", "here": "message"},),
        _glossary("statement", trace),
    )
    statements = trace.summary.statement_count
    if has_calls_alone(trace):
        columns = [it for it in columns if it.name not in _OF_SQL]
    return sheet(words, columns, trace.statements, count=statements, details=details)


def _phases(statement: Statement) -> Iterator[tuple[str, int | None, int | None, int | None]]:
    """Yield the phases in which something happened, encoding the rows included."""
    spent = statement.phase_instructions or {}
    for phase in INSTRUCTION_PHASES:
        use = statement.phases[phase] if phase in PHASES else None
        pages = (None, None) if use is None else (use.os_pages_accessed, use.os_pages_dirty)
        if any(pages) or spent.get(phase):
            yield (phase, *pages, spent.get(phase))


def _whose(owners: tuple[OwnerUse, ...]) -> str | None:
    return ", ".join(f"{it.name} {count(it.os_pages_accessed)}" for it in shares(owners)) or None


def _plan(plan: tuple[str, ...], loops: tuple[LoopUse, ...]) -> tuple[str, ...]:
    return tuple(line.plain for line in plan_lines(plan, loops, WIDE, indent=0))


# -- shapes and owners ---------------------------------------------------------------------------


def shapes_sheet(trace: TraceSource) -> Sheet:
    """Return a row for each shape of statement, the one that accessed most OS pages first."""
    groups = group_by_shape(trace.statements, group_cycles(trace))
    columns: list[SheetColumn[tuple[int, ShapeGroup]]] = [
        SheetColumn("index", "#", lambda it: it[0]),
        SheetColumn("shape", "shape", lambda it: it[1].shape or "(empty statement)", "text"),
        SheetColumn("kind", "kind", lambda it: it[1].kind, "choice", "detail"),
        SheetColumn("times", "times", lambda it: it[1].statement_count),
        *measure_sheet_columns(_second),
        SheetColumn("known", _HOW_KNOWN.heading, lambda it: _how_known(it[1]), "choice", "wide"),
        SheetColumn("cycles", "cycles", lambda it: it[1].cycles, place="wide"),
        SheetColumn(
            "cycles_as_update", _AS_UPDATE, lambda it: it[1].cycles_as_update, place="wide"
        ),
        SheetColumn("max", "at most", lambda it: it[1].os_pages_accessed_max, place="wide"),
        SheetColumn("runs", "runs", lambda it: it[1].run_count, place="detail"),
        SheetColumn("rows", "rows", lambda it: it[1].row_count, place="wide"),
        SheetColumn("hits", "hits", lambda it: it[1].hits, place="detail"),
    ]
    details: list[SheetDetail[tuple[int, ShapeGroup]]] = [
        SheetDetail("plan", "Plans", _plans, LINE, is_list=True),
        SheetDetail("owners", "Whose OS pages", lambda it: it[1].owners, _OWNERS),
    ]
    title, note = (
        ("Methods", "Calls of one method by one kind of message, put together.")
        if has_calls_alone(trace)
        else (
            "Shapes of statements",
            "Statements that differ in their literals only, put together.",
        )
    )
    if has_calls_alone(trace):
        columns = [it for it in columns if it.name not in _OF_SQL]
    words = SheetWords(
        "shapes",
        title,
        "shape",
        note,
        (),
        _glossary("shape", trace),
    )
    return sheet(words, columns, enumerate(groups, 1), count=len(groups), details=details)


def _plans(numbered: tuple[int, ShapeGroup]) -> Iterator[str]:
    for place, plan in enumerate(numbered[1].plans):
        if place:
            yield "or"
        yield from _plan(plan, ())


def owners_sheet(trace: TraceSource) -> Sheet:
    """Return a row for each owner and role, the one with most OS pages accessed first."""
    noun = "call" if has_calls_alone(trace) else "statement"
    groups = group_by_owner(trace.statements, group_cycles(trace))
    columns: list[SheetColumn[tuple[int, OwnerGroup]]] = [
        SheetColumn("index", "#", lambda it: it[0]),
        SheetColumn("owner", "owner", lambda it: it[1].name or it[1].kind, "text"),
        SheetColumn("kind", "kind", lambda it: it[1].kind, "choice"),
        SheetColumn("role", "role", lambda it: it[1].role or None, "choice", "wide"),
        SheetColumn("table", "of table", _table, "choice", "wide"),
        *measure_sheet_columns(_second),
        SheetColumn("cycles", "cycles", lambda it: it[1].cycles, place="wide"),
        SheetColumn(
            "cycles_as_update", _AS_UPDATE, lambda it: it[1].cycles_as_update, place="wide"
        ),
        SheetColumn("times", f"{noun}s", lambda it: it[1].statement_count, place="wide"),
    ]
    words = SheetWords(
        "owners",
        "Owners by role",
        "owner",
        "Tables, indexes and whatever else OS pages belong to, by role in the B-tree. Instructions "
        f"and cycles are those of the {noun}s that touched an owner, whole, so rows do not add up.",
        (),
        _glossary("owner", trace),
    )
    return sheet(words, columns, enumerate(groups, 1), count=len(groups))


def _table(numbered: tuple[int, OwnerGroup]) -> str | None:
    """Return the table of an index; for a table its name says it already."""
    group = numbered[1]
    return group.table if group.table != group.name else None


# -- of all --------------------------------------------------------------------------------------


def _itself(measured: Any) -> Any:  # noqa: ANN401  whatever is measured
    return measured


def _use(entry: OutsideUse) -> Sum:
    return Sum(entry.stable)


def _second(numbered: tuple[int, Any]) -> Any:  # noqa: ANN401  likewise
    return numbered[1]


def _instruction_columns() -> list[SheetColumn[Any]]:
    """Return columns of what instructions were spent on."""

    def column(part: str) -> SheetColumn[Any]:
        return SheetColumn(
            f"instructions_{part}",
            f"instructions: {part}",
            lambda it: None if it.instructions is None else getattr(it.instructions, part),
            place="detail",
        )

    return [column(part) for part in INSTRUCTION_PARTS if part != "total"]


def _glossary(by: Any, trace: TraceSource) -> tuple[tuple[str, str], ...]:  # noqa: ANN401  the name of a view
    words: Glossary = view_of(by, trace).glossary
    left_out = _NO_COLUMNS if has_calls_alone(trace) else ()
    return tuple(it for it in words if it[0] not in left_out)
