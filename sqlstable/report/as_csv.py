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
from typing import Final

from sqlstable.analysis.compare import Comparison, StatementPair
from sqlstable.analysis.trace_source import TraceSource
from sqlstable.report.measures import INSTRUCTION_PARTS
from sqlstable.report.view import Field, Fields, Row, header, named, rows
from sqlstable.report.views import By, view_named
from sqlstable.trace.model import Statement


def render_csv(trace: TraceSource, *, by: By = "statement") -> str:
    """Return a trace as CSV, the columns as its view has them.

    Args:
        trace: What was recorded.
        by: What one row stands for.

    Raises:
        SettingsError: there is no such view.
    """
    view = view_named(by)
    return "".join(csv_lines([view.header, *rows(view.fields, view.items(trace))]))


def render_comparison_csv(comparison: Comparison) -> str:
    """Return a comparison as CSV, one row for each pair of statements."""
    return "".join(
        csv_lines([header(COMPARISON_FIELDS), *rows(COMPARISON_FIELDS, comparison.pairs)])
    )


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


def _later(pair: StatementPair) -> Statement:
    statement = pair.after or pair.before
    assert statement is not None
    return statement


def _both(name: str, of: Callable[[Statement], Field]) -> Fields[StatementPair]:
    """Return a field of both sides, empty where one is missing."""
    return Fields(
        (f"{name}_before", f"{name}_after"),
        lambda pair: [None if it is None else of(it) for it in (pair.before, pair.after)],
    )


def _part(name: str) -> Callable[[Statement], Field]:
    return lambda it: None if it.instructions is None else getattr(it.instructions, name)


COMPARISON_FIELDS: Final[tuple[Fields[StatementPair], ...]] = (
    named("change", "plan_changed", "different_result_size"),
    _both("statement", lambda it: it.index),
    named("sql", "shape", "kind").at(_later),
    _both("os_pages_accessed", lambda it: it.stable.os_pages_accessed),
    _both("os_pages_dirty", lambda it: it.stable.os_pages_dirty),
    _both("bytes_read", lambda it: it.stable.bytes_read),
    _both("bytes_written", lambda it: it.stable.bytes_written),
    _both("hits", lambda it: it.sqlite.hits),
    _both("row_count", lambda it: it.row_count),
    _both("runs", lambda it: it.runs),
    _both("plan", lambda it: "\n".join(it.plan)),
    *(_both(f"instructions_{name}", _part(name)) for name in INSTRUCTION_PARTS),
    named("cache_before", "cache_after"),
)
"""What is known of each pair of statements; new ones come at the end."""
