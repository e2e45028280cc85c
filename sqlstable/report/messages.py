"""How tables name a message's end."""

from typing import Final

from rich.text import Text

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
