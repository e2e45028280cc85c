"""What larger SQLite pages would come to, as lines below the figures of locality."""

from rich.text import Text

from sqlstable.analysis.trace_source import TraceSource
from sqlstable.analysis.whatif.page_size import page_size_what_if
from sqlstable.errors import TraceError
from sqlstable.report.grid import paragraph
from sqlstable.report.numbers import count, size
from sqlstable.report.page_cache_table import change

_NOTE = (
    "as changes of the OS pages accessed in percent of {recorded}, with SQLite pages of {page} as "
    "recorded; far off where leaves are out of order. sqlstable sweep --page-size measures it, and "
    "instructions, too"
)


def page_size_lines(trace: TraceSource, width: int) -> list[Text]:
    """Lay out predictions for larger SQLite pages; nothing where there are none."""
    try:
        found = page_size_what_if(trace)
    except TraceError:
        return []
    if not found.rows:
        return []
    told = " · ".join(
        f"{size(row.page_size)} {change(row.os_pages_accessed, found.recorded_os_pages)}"
        for row in found.rows
    )
    note = _NOTE.format(
        recorded=count(found.recorded_os_pages), page=size(found.recorded_page_size)
    )
    heading = Text("what larger SQLite pages would come to", style="bold")
    return [heading, *paragraph(told, width), *paragraph(note, width, style="italic")]
