"""Does a message fit the Internet Computer's limits, and of which ones does anybody know?"""

from collections.abc import Iterator, Mapping
from typing import Final, Literal

from sqlstable.ic.units import NO_LIMIT
from sqlstable.ic.words import (
    INSTRUCTIONS,
    OS_PAGES_ACCESSED,
    OS_PAGES_DIRTY,
    REPLY_BYTES,
    REQUEST_BYTES,
    STABLE_MEMORY_BYTES,
)
from sqlstable.trace.model import LimitUse, Message

Verdict = Literal["fits", "fits as far as it ran", "exceeds"]

COVERED: Final[Mapping[str, str]] = {
    OS_PAGES_ACCESSED: "OS pages",
    OS_PAGES_DIRTY: "OS pages",
    STABLE_MEMORY_BYTES: "stable memory",
    INSTRUCTIONS: "instructions",
    REQUEST_BYTES: "argument and reply",
    REPLY_BYTES: "argument and reply",
}
"""The limits of a message by their names, and in how many words a verdict names them."""


def verdict(message: Message) -> Verdict | None:
    """Say whether a message stayed within every limit that it was held against.

    A verdict is worth what it covers: see `covered` and `not_counted`.

    Returns:
        "exceeds" when a use is above its limit or a limit trapped the message; where every use is
        within its limit "fits", or "fits as far as it ran" when something else trapped the
        message; None where no limit applies.

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
    if not applying:
        return None
    return "fits as far as it ran" if message.outcome == "trapped" else "fits"


def applies(use: LimitUse) -> bool:
    """Tell whether there is a limit at all; before some date there was none."""
    return use.limit < NO_LIMIT


def covered(message: Message) -> tuple[str, ...]:
    """Return what a verdict on a message is about, in a few words each."""
    return tuple(
        dict.fromkeys(COVERED.get(use.name, use.name) for use in message.limits if applies(use))
    )


def is_estimated(message: Message, use: LimitUse) -> bool:
    """Tell whether what a message used of a limit was not counted, but estimated from others."""
    return use.name in _ESTIMATED and not is_measured(message)


def is_measured(message: Message) -> bool:
    """Tell whether nothing that is known of a message was estimated from others."""
    return message.instructions is None or message.instructions.measured


_ESTIMATED: Final = (INSTRUCTIONS, REQUEST_BYTES, REPLY_BYTES)
"""What is estimated of a message that was not measured; OS pages are counted of each."""


def estimated(message: Message) -> tuple[str, ...]:
    """Return what of that which a verdict is about (`covered`) was estimated, not counted."""
    return tuple(
        dict.fromkeys(
            COVERED.get(use.name, use.name)
            for use in message.limits
            if applies(use) and is_estimated(message, use)
        )
    )


def not_counted(message: Message) -> tuple[str, ...]:
    """Return what has a limit that the message was not held against, as nobody counted it."""
    return tuple(dict.fromkeys(_not_counted(message))) if message.limits else ()


def is_import(message: Message) -> bool:
    """Tell whether a message loaded a database, which no limit applies to and nobody pays for.

    A canister is installed by its first message; what installs later brings a database.
    """
    is_later = message.kind == "install" and message.index > 0
    return is_later and not message.limits and message.call is None


def trapped_by_limit(message: Message) -> bool:
    """Tell whether a message trapped because it crossed a limit.

    The access that crosses a limit does not happen, so the use recorded can still be within it.
    """
    return message.outcome == "trapped" and message.trap_limit is not None


def tightest_limit(message: Message) -> LimitUse | None:
    """Return the limit that trapped a message, else that of which it used the largest share.

    Of equal shares, the limit that is named first; None where no limit applies, and where one has
    trapped it of which nobody says how much was used, as ``wasm_memory_limit``.
    """
    applying = [use for use in message.limits if applies(use)]
    if trapped_by_limit(message):
        applying = [use for use in applying if use.name == message.trap_limit]
    return max(applying, key=share, default=None)


def share(use: LimitUse) -> float:
    """Return which part of a limit was used; above 1 where it was crossed."""
    return use.used / max(use.limit, 1)


def _not_counted(message: Message) -> Iterator[str]:
    names = {use.name for use in message.limits}
    for name in _COUNTED:
        words = COVERED[name]
        if name not in names and words not in covered(message):
            yield words


_COUNTED: Final = (OS_PAGES_ACCESSED, OS_PAGES_DIRTY, STABLE_MEMORY_BYTES, INSTRUCTIONS)
"""Limits of all kinds of message. Of sizes of arguments and replies reports speak where they say
what is not here: many messages have none."""
