"""SQL statements of a module that tells of them by its hook, as a recorder gives them.

The hook says where a statement begins, with its text, and where one ends. A statement may begin
while another one runs, as a trigger does, or a loop over rows that updates them: what happens
belongs to the one that began last and has not ended. What has not ended ends with the message.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from sqlstable.canister.charging import spent_between
from sqlstable.engine.measured.notes import Border, MessageNotes
from sqlstable.ic.charged import charged_together
from sqlstable.ic.words import INSTRUCTION_PHASES, RUN
from sqlstable.trace.model import Instructions
from sqlstable.trace.recording.raw import (
    NO_COUNTERS,
    RawStatement,
    Span,
    StatementText,
    clean_sql,
)
from sqlstable.trace.shape import kind_of

BEGINS: Final = 1
ENDS: Final = 2
"""Marks of the hook's borders, as ``shim/statements.wat`` has them."""

_LENGTH_BYTES: Final = 8


@dataclass(slots=True)
class _RunningStatement:
    """A statement, and where it ran."""

    sql: str
    pieces: list[tuple[Border, Border]] = field(default_factory=list)


def hooked_statements(notes: MessageNotes, texts: bytes) -> list[RawStatement]:
    """Return the statements of a message in the order in which they began; none without a hook.

    Args:
        notes: What the message has left.
        texts: Those of its statements, each behind its length.
    """
    rows = notes.border_rows().tolist()
    if not rows:
        return []
    listed = iter([*_texts(texts)])
    begun: list[_RunningStatement] = []
    running: list[_RunningStatement] = []
    moments = [*(Border(*row) for row in rows), notes.end]
    for (mark, *_), here, there in zip(rows, moments, moments[1:], strict=False):
        if mark == BEGINS:
            running.append(_RunningStatement(next(listed, "")))
            begun.append(running[-1])
        elif mark == ENDS and running:
            running.pop()
        if running:
            running[-1].pieces.append((here, there))
    return [_statement(notes, it) for it in begun]


def _texts(data: bytes) -> Iterator[str]:
    at = 0
    while at + _LENGTH_BYTES <= len(data):
        size = int.from_bytes(data[at : at + _LENGTH_BYTES], "little")
        at += _LENGTH_BYTES
        yield data[at : at + size].decode(errors="replace")
        at += size


def _statement(notes: MessageNotes, found: _RunningStatement) -> RawStatement:
    sql = clean_sql(found.sql)
    # Whether it writes SQLite knows, and only that; where the first word does not say it, it reads.
    text = StatementText(sql, kind_of(sql, readonly=True), is_readonly=False)
    computed = [spent_between(notes, *piece) for piece in found.pieces]
    spent = dict.fromkeys(INSTRUCTION_PHASES, 0)
    total = Instructions(*(sum(getattr(it, name) for it, _ in computed) for name in _PARTS))
    charged = charged_together([it for _, it in computed])
    spent["run"] = total.total - total.heap
    return RawStatement(text, _spans(found), 0, 1, *NO_COUNTERS, total, spent, (), charged)


_PARTS: Final = ("total", "computation", "stable", "heap")


def _spans(found: _RunningStatement) -> tuple[Span, ...]:
    """Return whose accesses are, neighbours joined."""
    spans: list[Span] = []
    for start, stop in found.pieces:
        if stop.log_count == start.log_count:
            continue
        if spans and spans[-1][1] == start.log_count:
            spans[-1] = (spans[-1][0], stop.log_count, RUN)
        else:
            spans.append((start.log_count, stop.log_count, RUN))
    at = found.pieces[0][0].log_count if found.pieces else 0
    return tuple(spans) or ((at, at, RUN),)
