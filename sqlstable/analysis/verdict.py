"""Does a message fit the Internet Computer's limits?"""

from typing import Final, Literal

from sqlstable.ic.limits import NO_LIMIT
from sqlstable.trace.model import LimitUse, Message

Verdict = Literal["fits", "exceeds"]

LIMIT_TRAPS: Final = (
    "Exceeded the limit for the number of",
    "exceeded the limit of",
    "exceeded the slice limit",
    "grow failed",
)
"""Words by which the text of a trap shows that a limit was crossed.

Source: dfinity/ic rs/interfaces/src/execution_environment/errors.rs, 2025-10-31; the last one is
that of ic-stable-structures, for stable memory that cannot grow.
"""


def verdict(message: Message) -> Verdict | None:
    """Say whether a message stayed within every limit that applies to it.

    Returns:
        "exceeds" when a use is above its limit or a limit trapped the message, "fits" when every
        use is within its limit, None where no limit applies.

    Examples:
        >>> from sqlstable.trace.model import StableUse
        >>> use = LimitUse("os_pages_dirty", used=3, limit=2)
        >>> message = Message(
        ...     index=0, kind="update", label=None, outcome="committed", trap=None,
        ...     discarded_writes=False, cache="warm", statements=(), stable=StableUse(),
        ...     outside=(), limits=(use,), image_bytes=0,
        ... )
        >>> verdict(message)
        'exceeds'
    """
    applying = [use for use in message.limits if applies(use)]
    if trapped_by_limit(message) or any(use.used > use.limit for use in applying):
        return "exceeds"
    return "fits" if applying else None


def applies(use: LimitUse) -> bool:
    """Tell whether there is a limit at all; before some date there was none."""
    return use.limit < NO_LIMIT


def trapped_by_limit(message: Message) -> bool:
    """Tell whether a message trapped because it crossed a limit.

    The access that crosses a limit does not happen, so the use recorded can still be within it;
    the trap's text is what tells.
    """
    if message.outcome != "trapped" or message.trap is None:
        return False
    return any(words in message.trap for words in LIMIT_TRAPS)


def tightest_limit(message: Message) -> LimitUse | None:
    """Return the limit of which a message used the largest share; None where none applies.

    Of equal shares, the limit that is named first.
    """
    applying = [use for use in message.limits if applies(use)]
    return max(applying, key=lambda use: use.used / max(use.limit, 1), default=None)
