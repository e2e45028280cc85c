"""Calls in a row that do the same, put together: a loop of a thousand is one row of a table."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from sqlstable.trace.model import HeapUse, Instructions, Message, StableUse

STRETCH_MIN: Final = 4
"""Fewer calls in a row stand each for itself."""


@dataclass(frozen=True, slots=True)
class CallStretch:
    """Calls in a row of one method, that came to the same; figures are the largest of any."""

    first: Message
    last: Message
    count: int
    stable: StableUse
    instructions: Instructions | None
    heap: HeapUse | None
    widest: Message
    "The one that accessed most OS pages."
    dearest: Message
    "The one that took most instructions."


def stretches(messages: Iterable[Message]) -> Iterator[Message | CallStretch]:
    """Yield messages in order, and stretches in place of many that do the same."""
    held: list[Message] = []
    stretch: CallStretch | None = None
    for message in messages:
        if stretch is not None and _key(message) == _key(stretch.last):
            stretch = _with(stretch, message)
            continue
        if stretch is not None:
            yield stretch
            stretch = None
        if held and _key(held[-1]) != _key(message):
            yield from held
            held = []
        held.append(message)
        if len(held) == STRETCH_MIN:
            stretch = _stretch_of(held)
            held = []
    if stretch is not None:
        yield stretch
    yield from held


def _key(message: Message) -> object:
    call = message.call
    method, answer = (None, None) if call is None else (call.method, call.answer)
    is_single = bool(message.parts) or message.continues is not None or message.outcome == "trapped"
    return (
        *(message.kind, method, answer, message.label, message.outcome),
        message.index if is_single else None,
    )


def _stretch_of(messages: list[Message]) -> CallStretch:
    first = messages[0]
    stretch = CallStretch(
        *(first, first, 1, first.stable, first.instructions, first.heap, first, first)
    )
    for message in messages[1:]:
        stretch = _with(stretch, message)
    return stretch


def _with(stretch: CallStretch, message: Message) -> CallStretch:
    stable, other = stretch.stable, message.stable
    is_wider = other.os_pages_accessed > stable.os_pages_accessed
    is_dearer = _total(message) > (stretch.instructions.total if stretch.instructions else 0)
    return replace(
        stretch,
        last=message,
        count=stretch.count + 1,
        stable=StableUse(
            os_pages_accessed=max(stable.os_pages_accessed, other.os_pages_accessed),
            os_pages_dirty=max(stable.os_pages_dirty, other.os_pages_dirty),
        ),
        instructions=message.instructions if is_dearer else stretch.instructions,
        heap=_largest(stretch.heap, message.heap),
        widest=message if is_wider else stretch.widest,
        dearest=message if is_dearer else stretch.dearest,
    )


def _total(message: Message) -> int:
    return 0 if message.instructions is None else message.instructions.total


def _largest(one: HeapUse | None, other: HeapUse | None) -> HeapUse | None:
    if one is None or other is None:
        return one or other
    return HeapUse(
        max(one.wasm_pages_accessed, other.wasm_pages_accessed),
        max(one.wasm_pages_written, other.wasm_pages_written),
        max(one.os_pages_written, other.os_pages_written),
        other.size_bytes,
    )
