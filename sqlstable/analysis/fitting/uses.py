"""How much of each limit a message used, whatever limits it was recorded under."""

from collections.abc import Iterator
from dataclasses import replace

from sqlstable.analysis.verdict import share
from sqlstable.ic.limits import Limits, MessageLimits, part_kind
from sqlstable.ic.units import WASM_PAGE_BYTES
from sqlstable.ic.words import (
    INSTRUCTIONS,
    OS_PAGES_ACCESSED,
    OS_PAGES_DIRTY,
    REPLY_BYTES,
    REQUEST_BYTES,
    STABLE_MEMORY_BYTES,
)
from sqlstable.trace.model import LimitUse, Message


def limit_uses(message: Message, limits: Limits, kind: str | None = None) -> tuple[LimitUse, ...]:
    """Hold what a message did against some limits.

    Args:
        message: Of a trace.
        limits: Of any day.
        kind: Of whose limits, if not of the message's own kind.

    Returns:
        In the order in which a trace has them; limits that did not exist yet are ``NO_LIMIT``. What
        else the message was recorded with, beside these, is at the end.

    Examples:
        >>> from sqlstable.ic.limits import latest_limits
        >>> from sqlstable.trace.model import StableUse
        >>> message = Message(
        ...     index=0, kind="query", label=None, outcome="discarded", trap=None,
        ...     discarded_writes=False, cache="cold", statements=(),
        ...     stable=StableUse(os_pages_accessed=300_000), outside=(), limits=(), image_bytes=0,
        ... )
        >>> limit_uses(message, latest_limits())[0].limit
        262144
        >>> limit_uses(message, latest_limits(), "update")[0].limit
        524288
    """
    kind = kind or message.kind
    own = tuple(_own(message, limits, kind))
    named = {use.name for use in own}
    payloads = {REQUEST_BYTES: limits.request_bytes_max, REPLY_BYTES: limits.reply_max(kind)}
    rest = (use for use in message.limits if use.name not in named)
    return (*own, *(replace(use, limit=payloads.get(use.name, use.limit)) for use in rest))


def _own(message: Message, limits: Limits, kind: str) -> Iterator[LimitUse]:
    yield from _os_pages(message, limits, kind)
    stable_bytes_max = limits.stable_memory_wasm_pages_max * WASM_PAGE_BYTES
    yield LimitUse(STABLE_MEMORY_BYTES, message.image_bytes, stable_bytes_max)
    if message.instructions is not None:
        yield LimitUse(INSTRUCTIONS, message.instructions.total, limits.of(kind).instructions_max)


def _os_pages(message: Message, limits: Limits, kind: str) -> tuple[LimitUse, LimitUse]:
    """Return the uses of OS pages; each part of a step has its own, and the nearest speaks."""
    if not message.parts:
        stable = message.stable
        return _held(limits.of(kind), stable.os_pages_accessed, stable.os_pages_dirty)
    of_parts = [
        _held(limits.of(part_kind(it.name, kind)), it.os_pages_accessed, it.os_pages_dirty)
        for it in message.parts
    ]
    accessed, dirty = zip(*of_parts, strict=True)
    return max(accessed, key=share), max(dirty, key=share)


def _held(
    limits: MessageLimits, os_pages_accessed: int, os_pages_dirty: int
) -> tuple[LimitUse, LimitUse]:
    return (
        LimitUse(OS_PAGES_ACCESSED, os_pages_accessed, limits.os_pages_accessed_max),
        LimitUse(OS_PAGES_DIRTY, os_pages_dirty, limits.os_pages_dirty_max),
    )
