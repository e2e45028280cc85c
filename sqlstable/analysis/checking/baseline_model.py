"""A baseline: the numbers of a trace that are kept to be compared with those of later runs.

Entries are named by label and shape, so that what is inserted into a script moves none of the
others. Equal names are told apart by their position among themselves.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from sqlstable.analysis.checking.table_scans import table_scans, tables_of
from sqlstable.analysis.compare import NO_INFLUENCE
from sqlstable.analysis.trace_source import TraceSource
from sqlstable.trace.model import Message, Statement, TraceSettings

KEPT_MEASURES: Final = ("instructions", "os_pages_accessed", "os_pages_dirty")
"""What is kept of each message and statement, in this order."""


class EntryName(NamedTuple):
    """What tells the entries of a baseline from each other; sorted by it."""

    label: str
    "Of the message; empty where it has none."
    kind: str
    "Of the message."
    what: str
    "message, or statement for one of several in a message."
    shape: str
    """Of the statement; of a message without a label that of its first one, and how many follow; of
    a module's message without a label its method."""

    def __str__(self) -> str:
        name = self.label or self.kind
        return f"{name}: {self.shape}" if self.shape else name


@dataclass(frozen=True, slots=True)
class BaselineEntry:
    """All messages, or statements, of one name."""

    count: int
    measures: Mapping[str, tuple[int | None, ...]]
    "By the names in `KEPT_MEASURES`: one number for each position, None where nobody counted it."
    scans: tuple[str, ...] = ()
    "Tables that some plan goes through, sorted."


@dataclass(frozen=True, slots=True)
class Baseline:
    """Numbers of a trace, and the settings under which they came about."""

    settings: Mapping[str, Any]
    "Those that influence counts."
    entries: Mapping[EntryName, BaselineEntry]
    unlike_wasm: str | None = None
    """Of a run with both engines, why its numbers are not all of the measured one; empty: they
    are. None where nobody said, or another engine ran."""

    @property
    def trace_settings(self) -> TraceSettings:
        """The settings as a trace has them."""
        return TraceSettings(self.settings)


def make_baseline(
    trace: TraceSource, messages: Iterable[Message] | None = None, *, label: str | None = None
) -> Baseline:
    """Return what is kept of a trace.

    Args:
        trace: Under the prices that are meant.
        messages: Those that are kept; by default all.
        label: Stands for the label of every message, in place of its own.
    """
    tables = tables_of(trace)
    found: dict[EntryName, list[Message | Statement]] = defaultdict(list)
    scans: dict[EntryName, set[str]] = defaultdict(set)
    unlike_wasm = "" if trace.settings.values.get("engine") == "both" else None
    for message in trace.messages if messages is None else messages:
        if unlike_wasm == "":
            unlike_wasm = _unlike_wasm(message)
        statements = [trace.statements[index] for index in message.statements]
        for name, it, scanning in _named(message, statements, label):
            found[name].append(it)
            scans[name].update(scan.table for one in scanning for scan in table_scans(one, tables))
    return Baseline(
        {name: value for name, value in trace.settings.values.items() if name not in NO_INFLUENCE},
        {name: _entry(found[name], scans[name]) for name in sorted(found)},
        unlike_wasm,
    )


def _unlike_wasm(message: Message) -> str:
    """Say why a message has other numbers than on the measured engine alone; empty: it has not."""
    place, sample = f"message {message.index}", message.sample
    if message.instructions is None or not message.instructions.measured or sample is None:
        return f"{place} was not measured; --measure all measures what can be"
    if sample.difference is not None:
        return f"{place} ended otherwise on the measured engine: {sample.difference}"
    native = message.stable.os_pages_accessed, message.stable.os_pages_dirty
    there = sample.os_pages_accessed, sample.os_pages_dirty
    if native != there:
        return (
            f"{place} accessed {native[0]} OS pages and dirtied {native[1]} on the native engine, "
            f"{there[0]} and {there[1]} on the measured one"
        )
    return ""


def _named(
    message: Message, statements: Sequence[Statement], label: str | None
) -> Iterator[tuple[EntryName, Message | Statement, Sequence[Statement]]]:
    """Yield the entries that a message belongs to, each with the statements that may scan in it.

    A message of one statement is one entry: what it costs beside that hardly changes.
    """
    known = message.label if label is None else label
    called = "" if known and label is None else _called(message, statements)
    yield EntryName(known or "", message.kind, "message", called), message, statements
    if len(statements) > 1:
        for it in statements:
            name = EntryName(known or "", message.kind, "statement", it.shape or it.sql)
            yield name, it, (it,)


def _called(message: Message, statements: Sequence[Statement]) -> str:
    if message.call is not None:
        return message.call.method
    if not statements:
        return ""
    first, more = statements[0].shape or statements[0].sql, len(statements) - 1
    return f"{first}; and {more} more" if more else first


def _entry(found: Sequence[Message | Statement], scans: Iterable[str]) -> BaselineEntry:
    return BaselineEntry(
        len(found),
        {
            "instructions": tuple(
                None if it.instructions is None else it.instructions.total for it in found
            ),
            "os_pages_accessed": tuple(it.stable.os_pages_accessed for it in found),
            "os_pages_dirty": tuple(it.stable.os_pages_dirty for it in found),
        },
        tuple(sorted(scans)),
    )
