"""How tables speak of limits: how much a message used of the tightest, and whether that fits."""

from typing import Final

from rich.text import Text

from sqlstable.analysis.source import TraceSource
from sqlstable.analysis.verdict import covered, not_counted, share, tightest_limit, verdict
from sqlstable.report.grid import paragraph
from sqlstable.report.numbers import count, counted, percent, size
from sqlstable.report.text import clean
from sqlstable.trace.model import LimitUse, Message

_OF_WHAT: Final = {
    "stable_os_pages_accessed": "OS pages accessed",
    "stable_os_pages_dirty": "OS pages dirty",
    "instructions": "instructions",
}

NEAR: Final = 0.5
"""Share of a limit from which on it is shown as near."""


def limit_words(use: LimitUse) -> str:
    """Say how much of a limit was used.

    Examples:
        >>> limit_words(LimitUse("stable_os_pages_accessed", 162, 262_144))
        '162 of 262,144 OS pages accessed, 0.06%'
        >>> limit_words(LimitUse("stable_memory_bytes", 65_536, 500 * 2**30))
        '64.0 KiB of 500.0 GiB stable memory, <0.01%'
    """
    return " ".join(limit_parts(use))


def limit_parts(use: LimitUse) -> tuple[str, str]:
    """Say the same in two parts: how much, and of what."""
    spell = size if use.name.endswith("_bytes") else count
    what = _OF_WHAT.get(use.name) or clean(use.name).removesuffix("_bytes").replace("_", " ")
    return (
        f"{spell(use.used)} of {spell(use.limit)}",
        f"{what}, {percent(use.used, use.limit)}",
    )


def tightest_words(message: Message) -> str:
    """Say how much of its tightest limit a message used; empty where no limit applies."""
    tightest = tightest_limit(message)
    return "" if tightest is None else limit_words(tightest)


def instruction_words(message: Message) -> str:
    """Say what a message cost where `tightest_words` does not."""
    tightest = tightest_limit(message)
    if message.instructions is None or (tightest and tightest.name == "instructions"):
        return ""
    return f"{count(message.instructions.total)} instructions"


def coverage_words(message: Message) -> str:
    """Say what a verdict is about."""
    return ", ".join(map(clean, covered(message)))


def limit_style(message: Message) -> str:
    """Return how the use of a limit is shown: red beyond it, yellow near it."""
    if verdict(message) == "exceeds":
        return "not dim bold red"
    tightest = tightest_limit(message)
    return "yellow" if tightest is not None and share(tightest) >= NEAR else "dim"


_EXCEEDING_SHOWN: Final = 3


def fit_lines(trace: TraceSource, width: int) -> list[Text]:
    """Say whether all messages fit, and which one came nearest to a limit."""
    nearest = least = None
    exceeding, exceeding_count = [], 0
    for message in trace.messages:
        found = verdict(message)
        if found == "exceeds":
            exceeding_count += 1
            exceeding += [message] * (exceeding_count <= _EXCEEDING_SHOWN)
        if found is not None:
            nearest = message if nearest is None or _share(message) > _share(nearest) else nearest
            # Of several messages the one that was held against least speaks for all.
            is_least = least is None or len(not_counted(message)) > len(not_counted(least))
            least = message if is_least else least
    if nearest is None or least is None:
        text = "no limits: nothing says whether this fits" if trace.messages else ""
        return paragraph(text, width, style="bold") if text else []
    if exceeding:
        shown = ", ".join(f"message {it.index} ({tightest_words(it)})" for it in exceeding)
        more = ", …" * (exceeding_count > len(exceeding))
        text = f"{counted(exceeding_count, 'message')} over a limit: {shown}{more}"
        return paragraph(text, width, style="bold red")
    missing = not_counted(least)
    text = (
        f"every message fits ({coverage_words(least)})"
        f"{'; ' * bool(missing)}{', '.join(missing)}{' not counted' * bool(missing)}; nearest to a "
        f"limit: message {nearest.index}, {tightest_words(nearest)}"
    )
    return paragraph(text, width, style="bold")


def _share(message: Message) -> float:
    tightest = tightest_limit(message)
    return 0.0 if tightest is None else share(tightest)
