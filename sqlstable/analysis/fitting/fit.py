"""Does a message fit: as what it is, only as an update, or not at all?

`sqlstable.analysis.verdict` says the same of the limits of a message's own kind alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from sqlstable.analysis.fitting.payload_limits import payload_uses
from sqlstable.analysis.fitting.uses import limit_uses
from sqlstable.analysis.verdict import (
    applies,
    share,
    tightest_limit,
    trapped_by_limit,
    verdict,
)
from sqlstable.ic.limits import Limits
from sqlstable.ic.words import DISCARDED_KINDS
from sqlstable.trace.model import LimitUse, Message, Statement

FitWord = Literal["fits", "fits as far as it ran", "fits only as an update", "does not fit"]

ONLY_AS_UPDATE: Final = "fits only as an update"
DOES_NOT_FIT: Final = "does not fit"

AS_UPDATE_KINDS: Final = ("query", "replicated_query")
"""Kinds of message that somebody can call as an update instead."""


@dataclass(frozen=True, slots=True)
class MessageFit:
    """Whether a message fits, and how near it is to a limit."""

    word: FitWord | None
    "None where no limit applies."
    tightest: LimitUse | None
    "The limit that trapped it, else that of which it used the largest share, payloads included."
    as_other: LimitUse | None = None
    """What would be tightest for a query as an update, or for an update that wrote nothing as a
    query; None for others, and where the day of the limits is not known. Whether the update can be
    called so, its statements say: see `other_kind`."""


def message_fit(message: Message, limits: Limits | None) -> MessageFit:
    """Say whether a message fits.

    Args:
        message: Of a trace, with its uses of limits.
        limits: Those of the trace; without them nothing is known of other kinds of message.

    Examples:
        >>> from sqlstable.ic.limits import latest_limits
        >>> from sqlstable.trace.model import StableUse
        >>> message = Message(
        ...     index=0, kind="query", label=None, outcome="discarded", trap=None,
        ...     discarded_writes=False, cache="cold", statements=(),
        ...     stable=StableUse(os_pages_accessed=300_000), outside=(),
        ...     limits=(LimitUse("stable_os_pages_accessed", 300_000, 262_144),), image_bytes=0,
        ... )
        >>> found = message_fit(message, latest_limits())
        >>> found.word, found.tightest.limit, found.as_other.limit
        ('fits only as an update', 262144, 524288)
    """
    found, tightest = verdict(message), tightest_limit(message)
    other = _as_other(message, limits)
    payloads = payload_uses(message) if message.limits else ()
    fullest = max(payloads, key=share, default=None)
    if fullest is not None and found is not None and not trapped_by_limit(message):
        if tightest is None or share(fullest) > share(tightest):
            tightest = fullest
        if share(fullest) > 1:
            return MessageFit(DOES_NOT_FIT, tightest, other)
    if found != "exceeds":
        return MessageFit(found, tightest, other)
    # What a trapped message would have gone on to use, nobody knows.
    is_known = message.outcome != "trapped" and other is not None and share(other) <= 1
    is_query = message.kind in DISCARDED_KINDS
    return MessageFit(ONLY_AS_UPDATE if is_known and is_query else DOES_NOT_FIT, tightest, other)


def other_kind(
    message: Message, statements: Sequence[Statement], limits: Limits | None
) -> tuple[Literal["query", "update"], LimitUse] | None:
    """Say what a message would be as another kind, as far as it can be called so.

    Args:
        message: Of a trace.
        statements: All of the trace. An update is a query only where its own do nothing but read:
            others that wrote nothing may write next time, or have failed.
        limits: Those of the trace; without them nothing is known.

    Returns:
        The kind, and the limit that would be tightest; None where there is no other kind.
    """
    found = _as_other(message, limits)
    if found is None:
        return None
    if message.kind in AS_UPDATE_KINDS:
        return "update", found
    only_reads = all(statements[index].kind in ("read", "call") for index in message.statements)
    return ("query", found) if only_reads else None


def _as_other(message: Message, limits: Limits | None) -> LimitUse | None:
    if limits is None or not message.limits:
        return None
    if message.kind in AS_UPDATE_KINDS:
        kind = "update"
    elif _wrote_nothing(message):
        kind = "query"
    else:
        return None
    names = {use.name for use in message.limits}
    uses = [it for it in limit_uses(message, limits, kind) if applies(it) and it.name in names]
    return max(uses, key=share, default=None)


def _wrote_nothing(message: Message) -> bool:
    # What trapped may have been about to write.
    is_whole = message.kind == "update" and message.outcome == "committed"
    return is_whole and bool(message.statements) and not message.stable.os_pages_dirty
