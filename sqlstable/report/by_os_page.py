"""The view with a cell for each OS page: a map of stable memory; its CSV has a row for each."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from rich.text import Text

from sqlstable.analysis.page_map import PageMap, page_map
from sqlstable.analysis.trace_source import TraceSource
from sqlstable.report.grid import paragraph
from sqlstable.report.map_lines import map_lines
from sqlstable.report.numbers import count, counted
from sqlstable.report.sparks import columns_each, sparkline
from sqlstable.report.view import ACCESSED, DIRTY, Fields, Look, View, named
from sqlstable.trace.model import Owner

NOTHING: Final = "no OS page of stable memory was touched, or the trace does not say which"


@dataclass(frozen=True, slots=True)
class OsPageRow:
    """What happened to one OS page, as a row of CSV."""

    os_page: int
    owner: Owner
    reads: int
    writes: int
    last_writer: int | None
    "Index of the message that wrote to it last."
    last_access: int
    statement_count: int
    top_statements: tuple[int, ...]
    "Those that touched it most, at most three."


def os_page_rows(found: PageMap) -> Iterator[OsPageRow]:
    """Yield a row for each OS page that was touched, in the order of addresses."""
    columns = (
        *(found.os_pages, found.owner, found.reads, found.writes, found.last_writer),
        *(found.last_access, found.statement_count, found.top_statements),
    )
    for os_page, owner, reads, writes, writer, access, statements, top in zip(
        *(column.tolist() for column in columns), strict=True
    ):
        yield OsPageRow(
            *(os_page, found.owners[owner], reads, writes, None if writer < 0 else writer),
            *(access, statements, tuple(it for it in top if it >= 0)),
        )


def _lines(trace: TraceSource, look: Look) -> list[Text]:
    found = page_map(trace)
    if not len(found.os_pages):
        return paragraph(NOTHING, look.width)
    return [*map_lines(found, look.map, look.width), Text(), *message_lines(trace, look.width)]


def message_lines(trace: TraceSource, width: int) -> list[Text]:
    """Draw the OS pages that each message accessed, as a sparkline with its scale."""
    os_pages = [message.stable.os_pages_accessed for message in trace.messages]
    most = max(os_pages, default=0)
    each = columns_each(len(os_pages), width)
    joined = "" if each == 1 else f", a column for {each}, the most of them"
    words = (
        f"OS pages accessed by message, 0 to {count(len(os_pages) - 1)}{joined}; at most "
        f"{counted(most, 'OS page')}, in message {count(os_pages.index(most))}"
    )
    return [
        *paragraph(words, width, style="bold"),
        Text(sparkline(os_pages, width), style="cyan"),
    ]


VIEW: Final = View(
    by="os-page",
    title="Map of stable memory, in OS pages of 4 KiB",
    glossary=(ACCESSED, DIRTY),
    lines=_lines,
    items=lambda trace: os_page_rows(page_map(trace)),
    fields=(
        named("os_page"),
        Fields(
            ("owner", "table", "kind", "role"),
            lambda it: (it.owner.name, it.owner.table, it.owner.kind, it.owner.role),
        ),
        named("reads", "writes", "last_writer", "last_access", "statement_count"),
        Fields(("top_statements",), lambda it: (" ".join(map(str, it.top_statements)),)),
    ),
    is_one_pass=True,
)
