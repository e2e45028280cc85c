"""How tables speak of messages, whatever one of their rows stands for."""

from typing import Final

from rich.text import Text

from sqlstable.analysis.source import TraceSource
from sqlstable.analysis.totals import outside_total
from sqlstable.report.grid import paragraph
from sqlstable.report.numbers import count, counted
from sqlstable.report.text import clean, shorten
from sqlstable.trace.model import Message

TRAP_LINES_MAX: Final = 4


def outcome(message: Message) -> str:
    """Say how a message ended, and what that means where it is not obvious."""
    if message.outcome == "trapped":
        return "trapped, rolled back"
    if message.discarded_writes:
        return "discarded with its writes"
    return clean(message.outcome)


def trap_lines(message: Message, width: int) -> list[Text]:
    """Return the text of a message's trap; nothing where it has none."""
    if message.trap is None:
        return []
    lines = shorten(clean(message.trap), width - 2, lines_max=TRAP_LINES_MAX)
    return [Text(f"  {line}", style="red") for line in lines]


def outside_lines(trace: TraceSource, width: int) -> list[Text]:
    """Say what messages did outside of their statements; nothing where they did nothing."""
    outside = outside_total(trace)
    if outside.os_pages_accessed == 0:
        return []
    accessed = counted(outside.os_pages_accessed, "OS page")
    dirty = count(outside.os_pages_dirty)
    return paragraph(f"besides, outside of statements: {accessed} accessed, {dirty} dirty", width)
