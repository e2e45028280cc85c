"""How tables speak of limits: how much a message used of the tightest, and whether that fits."""

from collections.abc import Iterator, Sequence
from typing import Final

from rich.text import Text

from sqlstable.analysis.trace_source import TraceSource
from sqlstable.analysis.verdict import (
    covered,
    estimated,
    is_estimated,
    is_import,
    not_counted,
    share,
    tightest_limit,
    trapped_by_limit,
    verdict,
)
from sqlstable.ic.words import (
    INSTRUCTIONS,
    OS_PAGES_ACCESSED,
    OS_PAGES_DIRTY,
    REPLY_BYTES,
    REQUEST_BYTES,
)
from sqlstable.report.grid import paragraph
from sqlstable.report.numbers import count, counted, percent, size
from sqlstable.report.sample_words import ESTIMATED
from sqlstable.report.text import clean
from sqlstable.trace.model import LimitUse, Message

_OF_WHAT: Final = {
    OS_PAGES_ACCESSED: "OS pages accessed",
    OS_PAGES_DIRTY: "OS pages dirty",
    INSTRUCTIONS: "instructions",
    REQUEST_BYTES: "argument",
}

_ARGUMENT_RAN: Final = (
    "an argument over its limit ran all the same, as what of it a canister makes itself is its "
    "own: from outside send the rows in several messages, or let SQL make them"
)
_REPLIES_RAN: Final = (
    "a reply of several statements that is over its limit together ran all the same, as a "
    "canister need not send all that it reads: what goes out, ask for in several messages"
)
_REPLY_LOST: Final = (
    "a reply over its limit reaches nobody: ask for less at once, as with LIMIT and a key to go on "
    "from"
)
_OVER_SHOWN_MAX: Final = 3
_TRAPPED_SHOWN_MAX: Final = 8

NEAR: Final = 0.5
"""Share of a limit from which on it is shown as near."""


def limit_words(use: LimitUse, message: Message | None = None) -> str:
    """Say how much of a limit was used.

    Args:
        use: Of the limit.
        message: That used it, where it may be that this was estimated.

    Examples:
        >>> limit_words(LimitUse("stable_os_pages_accessed", 162, 262_144))
        '162 of 262,144 OS pages accessed, 0.06%'
        >>> limit_words(LimitUse("stable_memory_bytes", 65_536, 500 * 2**30))
        '64.0 KiB of 500.0 GiB stable memory, <0.01%'
    """
    return " ".join(limit_parts(use, message))


def limit_parts(use: LimitUse, message: Message | None = None) -> tuple[str, str]:
    """Say the same in two parts: how much, and of what."""
    sign = f"{ESTIMATED} " if message is not None and is_estimated(message, use) else ""
    spell = size if use.name.endswith("_bytes") else count
    what = _OF_WHAT.get(use.name) or clean(use.name).removesuffix("_bytes").replace("_", " ")
    return (
        f"{sign}{spell(use.used)} of {spell(use.limit)}",
        f"{what}, {percent(use.used, use.limit)}",
    )


def tightest_words(message: Message) -> str:
    """Say how much of its tightest limit a message used; empty where nothing is known of any."""
    return " ".join(tightest_parts(message))


def tightest_parts(message: Message) -> Sequence[str]:
    """Say the same in two parts, or in none."""
    if is_import(message):
        return ("loading a database:", "no limit applies")
    tightest = tightest_limit(message)
    if tightest is None and trapped_by_limit(message):
        return ("trapped by", clean(message.trap_limit or ""))
    return () if tightest is None else limit_parts(tightest, message)


def instruction_words(message: Message) -> str:
    """Say what a message cost where `tightest_words` does not."""
    tightest = tightest_limit(message)
    if message.instructions is None or (tightest and tightest.name == INSTRUCTIONS):
        return ""
    sign = "" if message.instructions.measured else f"{ESTIMATED} "
    return f"{sign}{count(message.instructions.total)} instructions"


def coverage_words(message: Message) -> str:
    """Say what a verdict is about, and what of it was estimated."""
    guessed = estimated(message)
    return ", ".join(f"{ESTIMATED} " * (it in guessed) + clean(it) for it in covered(message))


def limit_style(message: Message) -> str:
    """Return how the use of a limit is shown: red beyond it, yellow near it."""
    if verdict(message) == "exceeds":
        return "not dim bold red"
    tightest = tightest_limit(message)
    return "yellow" if tightest is not None and share(tightest) >= NEAR else "dim"


def fit_lines(trace: TraceSource, width: int) -> list[Text]:
    """Say whether all messages fit and which one came nearest to a limit, and which trapped."""
    return [*_fit_lines(trace, width), *_trapped_lines(trace, width)]


def _trapped_lines(trace: TraceSource, width: int) -> list[Text]:
    over = frozenset(trace.summary.exceeding)
    trapped = [index for index in trace.summary.trapped if index not in over]
    if not trapped:
        return []
    shown = ", ".join(map(str, trapped[:_TRAPPED_SHOWN_MAX]))
    more = ", …" * (len(trapped) > _TRAPPED_SHOWN_MAX)
    text = f"{counted(len(trapped), 'message')} trapped: {shown}{more}"
    return paragraph(text, width, style="bold red")


def _fit_lines(trace: TraceSource, width: int) -> list[Text]:
    found = trace.summary
    if found.exceeding:
        shown = [trace.messages[index] for index in found.exceeding[:_OVER_SHOWN_MAX]]
        words = ", ".join(f"message {it.index} ({tightest_words(it)})" for it in shown)
        more = ", …" * (len(found.exceeding) > len(shown))
        text = f"{counted(len(found.exceeding), 'message')} over a limit: {words}{more}"
        lines = paragraph(text, width, style="bold red")
        for advice in dict.fromkeys(it for message in shown for it in _size_advice(message)):
            lines += paragraph(advice, width, style="yellow")
        return lines
    if found.nearest is None:
        text = "no limits: nothing says whether this fits" if found.message_count else ""
        return paragraph(text, width, style="bold") if text else []
    nearest = trace.messages[found.nearest]
    # Of several messages the one that was held against least speaks for all.
    limited = (trace.messages[index] for index in found.limited)
    least = max(limited, key=lambda it: (len(not_counted(it)), len(covered(it))))
    missing = not_counted(least)
    guessed = sum(block.estimated for block in found.blocks)
    text = (
        f"every message{' with a limit' * bool(found.unlimited_count)} fits"
        f"{' as far as it ran' * bool(found.trapped)} ({coverage_words(least)})"
        f"{'; ' * bool(missing)}{', '.join(missing)}{' not counted' * bool(missing)}; nearest to a "
        f"limit: message {nearest.index}, {tightest_words(nearest)}"
    )
    if guessed:
        text += f"; instructions of {counted(guessed, 'message')} are estimated ({ESTIMATED})"
    return paragraph(text, width, style="bold")


def _size_advice(message: Message) -> Iterator[str]:
    """Say what to do about an argument or a reply over its limit."""
    over = {use.name for use in message.limits if share(use) > 1}
    if REQUEST_BYTES in over:
        yield _ARGUMENT_RAN
    if REPLY_BYTES in over:
        is_together = message.trap is None and len(message.statements) > 1
        yield _REPLIES_RAN if is_together else _REPLY_LOST
