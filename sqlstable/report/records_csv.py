"""Messages or statements of a trace as CSV, with every column that a trace has of them.

The columns are those of `Trace.messages_frame` and `Trace.statements_frame`. They come a few
thousand rows at a time, whatever the length of the trace. An empty field is missing.
"""

from collections.abc import Iterable, Iterator

from sqlstable.report.as_csv import csv_lines
from sqlstable.trace.format.frames import FrameColumn, FrameColumns


def render_columns_csv(parts: Iterable[FrameColumns]) -> Iterator[str]:
    """Yield the lines of the CSV, each with its newline.

    Args:
        parts: Columns in parts, each with the same names.
    """
    is_first = True
    for columns in parts:
        if is_first:
            yield from csv_lines([tuple(columns)])
        is_first = False
        yield from csv_lines(zip(*map(_plain, columns.values()), strict=True))


def _plain(column: FrameColumn) -> list[object]:
    values: list[object] = column.values.tolist()
    if column.names is not None and column.names:
        values = [column.names[code] for code in column.values.tolist()]
    if column.known is None:
        return values
    known = column.known.tolist()
    return [value if is_known else None for value, is_known in zip(values, known, strict=True)]
