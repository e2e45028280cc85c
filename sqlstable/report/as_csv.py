"""A trace as CSV, for spreadsheets and data frames: one flat row per statement, shape and so on.

Headers are stable: columns are added at the end only. An empty field is a number that was not
counted, or a text that does not apply. Lines end with a newline, text is UTF-8.

**Limitations.** SQL stands in its column as it was written. A spreadsheet may take a text that
starts with ``=``, ``+``, ``-`` or ``@`` for a formula; import the column as text when the SQL is
not your own.
"""

import csv
from collections.abc import Callable, Iterable, Iterator
from io import StringIO
from itertools import chain
from typing import Final

from sqlstable.analysis.compare import Comparison, StatementPair
from sqlstable.analysis.trace_source import TraceSource
from sqlstable.report.measures import INSTRUCTIONS, Numbers, instruction_numbers
from sqlstable.report.view import Field, Row
from sqlstable.report.views import By, view_named
from sqlstable.trace.model import Statement

COMPARISON_HEADER: Final = (
    *("change", "plan_changed", "different_result_size"),
    *("statement_before", "statement_after", "sql", "shape", "kind"),
    *("os_pages_accessed_before", "os_pages_accessed_after"),
    *("os_pages_dirty_before", "os_pages_dirty_after"),
    *("bytes_read_before", "bytes_read_after"),
    *("bytes_written_before", "bytes_written_after"),
    *("hits_before", "hits_after", "row_count_before", "row_count_after"),
    *("runs_before", "runs_after", "plan_before", "plan_after"),
    *(f"{name}_{side}" for name in INSTRUCTIONS for side in ("before", "after")),
    *("cache_before", "cache_after"),
)
"""The columns of a comparison, in order."""


def render_csv(trace: TraceSource, *, by: By = "statement") -> str:
    """Return a trace as CSV, the columns as its view has them.

    Args:
        trace: What was recorded.
        by: What one row stands for.

    Raises:
        SettingsError: there is no such view.
    """
    view = view_named(by)
    return "".join(csv_lines([view.header, *view.rows(trace)]))


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
        *chain.from_iterable(zip(*map(_instructions, sides), strict=True)),
        *(pair.cache_before, pair.cache_after),
    )


def _instructions(statement: Statement | None) -> Numbers:
    return instruction_numbers(None if statement is None else statement.instructions)
