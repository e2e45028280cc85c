"""How much of the limits on sizes of arguments and replies a message used, where bytes are known.

A trace has them among a message's limits; one that was recorded before they were has bytes alone.
"""

from typing import Final

from sqlstable.ic.charged import Payloads
from sqlstable.ic.limits import latest_limits
from sqlstable.ic.words import REPLY_BYTES, REQUEST_BYTES
from sqlstable.trace import payload_uses as uses
from sqlstable.trace.model import LimitUse, Message

PAYLOAD_NAMES: Final = (REQUEST_BYTES, REPLY_BYTES)


def payload_uses(message: Message) -> tuple[LimitUse, ...]:
    """Return the uses of limits on a message's argument and reply; none where nobody counted.

    Examples:
        >>> from sqlstable.trace.model import StableUse
        >>> message = Message(
        ...     index=0, kind="query", label=None, outcome="discarded", trap=None,
        ...     discarded_writes=False, cache="cold", statements=(), stable=StableUse(),
        ...     outside=(), limits=(), image_bytes=0, payloads=Payloads(100, 2_500_000),
        ... )
        >>> for use in payload_uses(message):
        ...     print(use.name, use.used, use.limit)
        request_bytes 100 2097152
        reply_bytes 2500000 3145728
    """
    recorded = tuple(use for use in message.limits if use.name in PAYLOAD_NAMES)
    if recorded:
        return recorded
    known, call = message.payloads, message.call
    if known is not None:
        return uses.payload_uses(message.kind, known, latest_limits())
    if call is None:
        return ()
    answered = Payloads(0, call.answer_bytes)
    return uses.payload_uses(message.kind, answered, latest_limits(), is_from_outside=False)
