"""A trace as CSV, for spreadsheets and data frames: one flat row per statement, shape and so on.

Headers are stable: columns are added at the end only. An empty field is a number that was not
counted, or a text that does not apply. Lines end with a newline, text is UTF-8.

**Limitations.** SQL stands in its column as it was written. A spreadsheet may take a text that
starts with ``=``, ``+``, ``-`` or ``@`` for a formula; import the column as text when the SQL is
not your own.
"""

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from io import StringIO
from typing import Final, TypeAlias

from sqlstable.analysis.compare import Comparison, StatementPair
from sqlstable.analysis.groups import group_by_owner, group_by_shape
from sqlstable.analysis.growth import growth_steps
from sqlstable.analysis.source import TraceSource
from sqlstable.analysis.totals import outside_use
from sqlstable.analysis.verdict import tightest_limit, verdict
from sqlstable.report.table import By, checked_by
from sqlstable.trace.model import HeapUse, Instructions, Message, StableUse, Statement

Field: TypeAlias = str | int | float | bool | None
Row: TypeAlias = Sequence[Field]

_STABLE: Final = (
    "calls_read",
    "calls_write",
    "calls_size",
    "calls_grow",
    "bytes_read",
    "bytes_written",
    "os_pages_accessed",
    "os_pages_dirty",
    "wasm_pages_accessed",
    "wasm_pages_dirty",
)

_INSTRUCTIONS: Final = (
    *("instructions_total", "instructions_computation", "instructions_stable"),
    "instructions_heap",
)

HEADERS: Final[Mapping[By, tuple[str, ...]]] = {
    "statement": (
        *("statement", "message", "message_kind", "label", "outcome", "cache"),
        *("sql", "shape", "kind", "plan", "row_count", "runs"),
        *_STABLE,
        *("hits", "vm_steps", "fullscan_steps", "sorts"),
        *_INSTRUCTIONS,
    ),
    "shape": (
        *("shape", "kind", "statement_count", "run_count", "row_count"),
        *_STABLE,
        *("os_pages_accessed_median", "os_pages_accessed_max"),
        *("os_pages_dirty_median", "os_pages_dirty_max", "hits"),
    ),
    "owner": (
        *("owner", "table", "kind", "role", "statement_count"),
        *("os_pages_accessed", "os_pages_dirty"),
    ),
    "message": (
        *("message", "kind", "label", "outcome", "trap", "discarded_writes", "cache"),
        "statement_count",
        *_STABLE,
        *("outside_os_pages_accessed", "outside_os_pages_dirty", "verdict"),
        *("tightest_limit", "tightest_limit_used", "tightest_limit_max", "image_bytes"),
        "grown_bytes",
        *_INSTRUCTIONS,
        *("heap_wasm_pages_accessed", "heap_wasm_pages_written", "heap_os_pages_written"),
        "heap_size_bytes",
    ),
}
"""The columns of each view, in order."""

COMPARISON_HEADER: Final = (
    *("change", "plan_changed", "different_result_size"),
    *("statement_before", "statement_after", "sql", "shape", "kind"),
    *("os_pages_accessed_before", "os_pages_accessed_after"),
    *("os_pages_dirty_before", "os_pages_dirty_after"),
    *("bytes_read_before", "bytes_read_after"),
    *("bytes_written_before", "bytes_written_after"),
    *("hits_before", "hits_after", "row_count_before", "row_count_after"),
    *("runs_before", "runs_after", "plan_before", "plan_after"),
)
"""The columns of a comparison, in order."""


def render_csv(trace: TraceSource, *, by: By = "statement") -> str:
    """Return a trace as CSV, the columns as in ``HEADERS``.

    Args:
        trace: What was recorded.
        by: What one row stands for.

    Raises:
        SettingsError: ``by`` is none of the four.
    """
    by = checked_by(by)
    return "".join(csv_lines([HEADERS[by], *_ROWS[by](trace)]))


def render_comparison_csv(comparison: Comparison) -> str:
    """Return a comparison as CSV, one row for each pair of statements."""
    rows = map(_comparison_row, comparison.pairs)
    return "".join(csv_lines([COMPARISON_HEADER, *rows]))


def csv_lines(rows: Iterable[Row]) -> Iterator[str]:
    r"""Yield rows as lines of CSV.

    Examples:
        >>> list(csv_lines([["a,b", 1, None, True]]))
        ['"a,b",1,,true\n']
    """
    buffer = StringIO(newline="")
    # The writer quotes the line ends that it is told to write, and both kinds have to be quoted.
    writer = csv.writer(buffer, lineterminator="\r\n")
    for row in rows:
        writer.writerow([str(it).lower() if isinstance(it, bool) else it for it in row])
        yield buffer.getvalue().removesuffix("\r\n") + "\n"
        buffer.seek(0)
        buffer.truncate()


def _statement_rows(trace: TraceSource) -> Iterator[Row]:
    messages = trace.messages
    for statement in trace.statements:
        message = messages[statement.message]
        yield (
            *(statement.index, message.index, message.kind, message.label, message.outcome),
            *(message.cache, statement.sql, statement.shape, statement.kind),
            *("\n".join(statement.plan), statement.row_count, statement.runs),
            *_stable(statement.stable),
            *(statement.sqlite.hits, statement.sqlite.vm_steps),
            *(statement.sqlite.fullscan_steps, statement.sqlite.sorts),
            *_instructions(statement.instructions),
        )


def _shape_rows(trace: TraceSource) -> Iterator[Row]:
    for group in group_by_shape(trace.statements):
        yield (
            *(group.shape, group.kind, group.statement_count, group.run_count, group.row_count),
            *_stable(group.stable),
            *(group.os_pages_accessed_median, group.os_pages_accessed_max),
            *(group.os_pages_dirty_median, group.os_pages_dirty_max, group.hits),
        )


def _owner_rows(trace: TraceSource) -> Iterator[Row]:
    for group in group_by_owner(trace.statements):
        yield (
            *(group.name, group.table, group.kind, group.role, group.statement_count),
            *(group.os_pages_accessed, group.os_pages_dirty),
        )


def _message_rows(trace: TraceSource) -> Iterator[Row]:
    steps = growth_steps(trace)
    for message in trace.messages:
        outside = outside_use(trace, message)
        yield (
            *(message.index, message.kind, message.label, message.outcome, message.trap),
            *(message.discarded_writes, message.cache, len(message.statements)),
            *_stable(message.stable),
            *(outside.os_pages_accessed, outside.os_pages_dirty, verdict(message)),
            *_limit(message),
            message.image_bytes,
            steps[message.index].grown_bytes if message.index in steps else 0,
            *_instructions(message.instructions),
            *_heap(message.heap),
        )


_ROWS: Final[Mapping[By, Callable[[TraceSource], Iterator[Row]]]] = {
    "statement": _statement_rows,
    "shape": _shape_rows,
    "owner": _owner_rows,
    "message": _message_rows,
}
assert set(_ROWS) == set(HEADERS)


def _stable(use: StableUse) -> Row:
    return (
        *(use.calls.read, use.calls.write, use.calls.size, use.calls.grow),
        *(use.bytes_read, use.bytes_written, use.os_pages_accessed, use.os_pages_dirty),
        *(use.wasm_pages_accessed, use.wasm_pages_dirty),
    )


def _instructions(use: Instructions | None) -> Row:
    if use is None:
        return (None,) * len(_INSTRUCTIONS)
    return (use.total, use.computation, use.stable, use.heap)


def _heap(use: HeapUse | None) -> Row:
    if use is None:
        return (None,) * 4
    return (
        *(use.wasm_pages_accessed, use.wasm_pages_written),
        *(use.os_pages_written, use.size_bytes),
    )


def _limit(message: Message) -> Row:
    tightest = tightest_limit(message)
    if tightest is None:
        return (None, None, None)
    return (tightest.name, tightest.used, tightest.limit)


def _comparison_row(pair: StatementPair) -> Row:
    statement = pair.after or pair.before
    assert statement is not None
    numbers: tuple[Callable[[Statement], Field], ...] = (
        lambda it: it.stable.os_pages_accessed,
        lambda it: it.stable.os_pages_dirty,
        lambda it: it.stable.bytes_read,
        lambda it: it.stable.bytes_written,
        lambda it: it.sqlite.hits,
        lambda it: it.row_count,
        lambda it: it.runs,
        lambda it: "\n".join(it.plan),
    )
    sides = (pair.before, pair.after)
    return (
        *(pair.change, pair.plan_changed, pair.different_result_size),
        *(None if side is None else side.index for side in sides),
        *(statement.sql, statement.shape, statement.kind),
        *(None if side is None else number(side) for number in numbers for side in sides),
    )
