"""How much of the limits on sizes of its argument and reply a message used."""

import re
from typing import Final

from sqlstable.ic.charged import Payloads
from sqlstable.ic.limits import Limits
from sqlstable.ic.words import ANSWERING_KINDS, REPLY_BYTES, REQUEST_BYTES
from sqlstable.trace.model import LimitUse

_TRIED: Final = re.compile(r"application payload size \((\d+)\)")


def payload_uses(
    kind: str,
    payloads: Payloads,
    limits: Limits,
    *,
    trap: str | None = None,
    is_from_outside: bool = True,
) -> tuple[LimitUse, ...]:
    """Return the uses of both limits; none of a kind of message that nobody calls.

    Args:
        kind: Of the message, whose limits hold.
        payloads: What it brought and sent.
        limits: Of any day.
        trap: Words of the trap that ended it: of a reply that was too large they have the size.
        is_from_outside: Whether it was called from outside, and not by a canister, whose calls have
            a limit where they are made.

    Examples:
        >>> from sqlstable.ic.limits import latest_limits
        >>> for use in payload_uses("query", Payloads(100, 2_500_000), latest_limits()):
        ...     print(use.name, use.used, use.limit)
        request_bytes 100 2097152
        reply_bytes 2500000 3145728
    """
    if kind not in ANSWERING_KINDS:
        return ()
    tried = None if trap is None else _TRIED.search(trap)
    replied = payloads.reply_bytes if tried is None else int(tried[1])
    reply = LimitUse(REPLY_BYTES, replied, limits.reply_max(kind))
    if not is_from_outside:
        return (reply,)
    return (LimitUse(REQUEST_BYTES, payloads.request_bytes, limits.request_bytes_max), reply)
