"""A trace under other prices or limits: what it says of instructions and limits is mapped.

Everything else stays as it was recorded, and whatever reads a trace reads this one: views, exports,
data frames, and the sums that SQLite makes.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping

from sqlstable.analysis.trace_source import TraceSource
from sqlstable.trace.format.cost_rows import (
    limit_row,
    message_cost_row,
    part_row,
    statement_cost_row,
)
from sqlstable.trace.format.reader import Trace
from sqlstable.trace.format.revising import revised_trace
from sqlstable.trace.format.storage import Row
from sqlstable.trace.format.stream import StreamedTrace
from sqlstable.trace.model import Message, Statement

MapMessage = Callable[[Message], Message]
"""Returns a message with other ``instructions``, ``heap``, ``limits`` or ``parts``."""

MapStatement = Callable[[Statement], Statement]
"""Returns a statement with other ``instructions`` or ``phase_instructions``."""


def mapped_trace(
    trace: TraceSource,
    *,
    message: MapMessage | None = None,
    statement: MapStatement | None = None,
    settings: Mapping[str, object] | None = None,
) -> Trace:
    """Return a trace with other instructions and limits, to be closed on its own.

    Both functions are called for each record once, messages first, in order; what they change
    beside the fields named above is not seen.

    Args:
        trace: What was recorded; it stays open, and as it is.
        message: Maps a message; None leaves all as they are.
        statement: Maps a statement likewise.
        settings: Settings that are others than those recorded, or come to them.

    Examples:
        >>> from dataclasses import replace
        >>> from sqlstable import Canister
        >>> canister = Canister(trace=":memory:")
        >>> reply = canister.update("CREATE TABLE t (a)")
        >>> with canister.trace() as recorded:
        ...     unlimited = mapped_trace(recorded, message=lambda it: replace(it, limits=()))
        >>> [it.limits for it in unlimited.messages], unlimited.summary.nearest
        ([(), ()], None)
        >>> unlimited.close(); canister.close()
    """
    read = StreamedTrace(trace) if isinstance(trace, Trace) else trace
    tables: dict[str, Iterable[Row]] = {}
    if message is not None:
        rows = _message_rows(map(message, read.messages))
        tables |= rows
    if statement is not None:
        tables["statement_cost"] = _statement_rows(map(statement, read.statements))
    if settings is not None:
        values = {**read.settings.values, **settings}
        tables["settings"] = [(name, json.dumps(value)) for name, value in values.items()]
    return revised_trace(read.whole, tables)


def _message_rows(messages: Iterable[Message]) -> dict[str, list[Row]]:
    costs: list[Row] = []
    limits: list[Row] = []
    parts: list[Row] = []
    for it in messages:
        if it.instructions is not None:
            costs.append(message_cost_row(it, it.instructions))
        limits += [limit_row(it.index, at, use) for at, use in enumerate(it.limits)]
        parts += [part_row(it.index, at, part) for at, part in enumerate(it.parts)]
    return {"message_cost": costs, "message_limit": limits, "message_part": parts}


def _statement_rows(statements: Iterable[Statement]) -> Iterator[Row]:
    for it in statements:
        if it.instructions is not None:
            yield statement_cost_row(it, it.instructions)
