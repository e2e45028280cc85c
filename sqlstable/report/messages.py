"""How tables speak of messages, whatever one of their rows stands for."""

from typing import Final

from rich.text import Text

from sqlstable.analysis.totals import Totals, outside_total, totals
from sqlstable.analysis.trace_source import TraceSource
from sqlstable.ic.words import INSTRUCTION_PHASES
from sqlstable.report.call_words import has_calls_alone
from sqlstable.report.cost_words import cost_lines, spent_words
from sqlstable.report.grid import paragraph
from sqlstable.report.numbers import count, counted
from sqlstable.report.sample_words import ESTIMATED, sample_lines
from sqlstable.report.text import clean, shorten
from sqlstable.trace.model import Instructions, Message, Part

TRAP_LINES_MAX: Final = 4


def outcome(message: Message) -> str:
    """Say how a message ended, and what that means where it is not obvious."""
    if message.outcome == "trapped":
        return "trapped, rolled back"
    if message.discarded_writes:
        return "discarded with its writes"
    return clean(message.outcome)


def continues(message: Message) -> list[str]:
    """Say which message one goes on from, behind an await; nothing where it begins a call."""
    return [] if message.continues is None else [f"continues message {message.continues}"]


def part_words(part: Part) -> str:
    """Say what one part of a step of the life cycle used.

    Examples:
        >>> part_words(Part("post_upgrade", 11, 1, 1_513_211))
        'post_upgrade: 11 OS pages accessed, 1 dirty, 1,513,211 instructions'
    """
    words = [
        f"{clean(part.name)}: {counted(part.os_pages_accessed, 'OS page')} accessed",
        f"{count(part.os_pages_dirty)} dirty",
    ]
    if part.instructions is not None:
        words.append(counted(part.instructions, "instruction"))
    return ", ".join(words)


def told_parts(message: Message) -> tuple[Part, ...]:
    """Return the parts that say more than their message: those of upgrades, or of several."""
    is_told = len(message.parts) > 1 or message.kind == "upgrade"
    return message.parts if is_told else ()


def part_lines(message: Message, width: int) -> list[Text]:
    """Return a line for each part of a step of the life cycle; of others none."""
    return [
        line
        for part in told_parts(message)
        for line in paragraph(part_words(part), width, indent=2)
    ]


def trap_lines(message: Message, width: int) -> list[Text]:
    """Return the text of a message's trap; nothing where it has none."""
    if message.trap is None:
        return []
    lines = shorten(clean(message.trap), width - 2, lines_max=TRAP_LINES_MAX)
    return [Text(f"  {line}", style="red") for line in lines]


def instruction_lines(trace: TraceSource, width: int) -> list[Text]:
    """Say what all messages cost, and where; of stable memory alone where nobody counted."""
    return [
        *sum_lines(totals(trace), width, has_statements=not has_calls_alone(trace)),
        *cost_lines(trace, width),
        *sample_lines(trace, width),
    ]


def sum_lines(total: Totals, width: int, *, has_statements: bool = True) -> list[Text]:
    """Say what messages cost together: in statements by phase, and around them.

    Args:
        total: What they come to.
        width: Columns of the terminal.
        has_statements: Whether there are any: a message that is one whole has nothing around it.
    """
    spent, inside, around = (
        total.instructions,
        total.statement_instructions,
        total.around_instructions,
    )
    if spent is None:
        return []
    sign = estimated(spent)
    words = f"{sign}{count(spent.total)} instructions: {spent_words(spent)}"
    lines = paragraph(words, width)
    if has_statements and inside is not None and around is not None:
        words = f"in statements {sign}{count(inside.total)}{_phases(total, inside.heap)}"
        lines += paragraph(words, width, indent=2)
        lines += paragraph(
            f"around statements {sign}{count(around.total)}: opening, requests, replies",
            width,
            indent=2,
        )
    return lines


def estimated(spent: Instructions) -> str:
    """Return the sign of what was not counted, to stand before it; else nothing."""
    return "" if spent.measured else f"{ESTIMATED} "


def _phases(total: Totals, heap: int) -> str:
    spent = total.phase_instructions
    if spent is None:
        return ""
    words = [f"{phase} {count(spent[phase])}" for phase in INSTRUCTION_PHASES]
    return f": {', '.join(words)}, heap {count(heap)}"


def outside_lines(trace: TraceSource, width: int) -> list[Text]:
    """Say what messages did outside of their statements; nothing where they did nothing."""
    outside = outside_total(trace)
    if outside.os_pages_accessed == 0:
        return []
    accessed = counted(outside.os_pages_accessed, "OS page")
    dirty = count(outside.os_pages_dirty)
    return paragraph(f"besides, outside of statements: {accessed} accessed, {dirty} dirty", width)
