"""From the blocks of statements and outside entries to accesses as they followed each other.

Blocks of a few accesses are decoded as plain integers, many of them into one set of columns; large
ones segment by segment, so that a message of any length is never held whole.
"""

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Final, NamedTuple

import numpy as np

from sqlstable.errors import TraceError
from sqlstable.ic.accesses import Access, Accesses, FewAccesses
from sqlstable.trace.access_stream import (
    BLOCK_ACCESSES_MAX,
    NO_PHASE,
    UNKNOWN_OWNER,
    AccessBlock,
    Int64s,
    joined_blocks,
)
from sqlstable.trace.blocks import decode_few, decode_segments
from sqlstable.trace.format.columns import FEW_VALUES
from sqlstable.trace.model import AccessSpan

_FIELDS: Final = 3
"""Of an entry, those that its accesses share."""


class AccessEntry(NamedTuple):
    """The accesses of one statement, or of one outside entry."""

    message: int
    statement: int
    outside: int
    access_count: int
    block: bytes


class MessageAccesses(NamedTuple):
    """The accesses of one message."""

    entries: Sequence[AccessEntry]
    spans: Sequence[AccessSpan]
    "How they followed each other."

    @property
    def access_count(self) -> int:
        """How many there are."""
        return sum(entry.access_count for entry in self.entries)


def message_accesses(
    entries: Sequence[AccessEntry], spans: Sequence[AccessSpan] | None
) -> MessageAccesses:
    """Return the accesses of a message; without spans entry by entry, in phases that nobody knows.

    Raises:
        TraceError: The spans are those of other entries.
    """
    counts = {number: entry.access_count for number, entry in enumerate(entries)}
    if spans is None:
        spans = [AccessSpan(entry, NO_PHASE, count) for entry, count in counts.items()]
        return MessageAccesses(entries, spans)
    told: dict[int, int] = {}
    for entry, _, count in spans:
        told[entry] = told.get(entry, 0) + count
    if told != counts:
        raise TraceError(f"message {entries[0].message}: the order of its accesses is damaged")
    return MessageAccesses(entries, spans)


def together(messages: Sequence[MessageAccesses]) -> AccessBlock:
    """Decode all accesses of messages as one block."""
    entries = [*chain.from_iterable(message.entries for message in messages)]
    parts: list[Accesses] = []
    rows: list[Access] = []
    for entry in entries:
        if entry.access_count < FEW_VALUES:
            rows += decode_few(entry.block)
        else:
            parts += FewAccesses(rows)
            rows = []
            parts += decode_segments(entry.block)
    parts += FewAccesses(rows)
    counts = np.array([entry.access_count for entry in entries])
    starts = np.cumsum(counts) - counts
    message, statement, outside = (
        np.repeat([entry[place] for entry in entries], counts) for place in range(_FIELDS)
    )
    position = np.arange(len(message)) - np.repeat(starts, counts)
    block = _block(message, statement, outside, position, Accesses.joined(parts))
    return _in_order(block, messages, starts.tolist())


def _in_order(
    block: AccessBlock, messages: Sequence[MessageAccesses], next_rows: list[int]
) -> AccessBlock:
    """Return rows that stand entry by entry in the order of their spans.

    Args:
        block: The rows.
        messages: Whose they are.
        next_rows: First row of each entry.
    """
    first_entry = 0
    starts = []
    for entries, spans in messages:
        for entry, _, count in spans:
            starts.append(next_rows[first_entry + entry])
            next_rows[first_entry + entry] += count
        first_entry += len(entries)
    counts = np.array([count for _, spans in messages for _, _, count in spans])
    phases = np.array([phase for _, spans in messages for _, phase, _ in spans], dtype=np.int8)
    start, here = np.array(starts), np.cumsum(counts) - counts
    if not np.array_equal(start, here):
        block = block.where(np.repeat(start - here, counts) + np.arange(len(block)))
    return block.having(phase=np.repeat(phases, counts))


def in_parts(message: MessageAccesses) -> Iterator[AccessBlock]:
    """Decode the accesses of one message, a block after the other."""
    entry, phase, count = np.array(message.spans, dtype=np.int64).T
    readers = [_EntryReader(it) for it in message.entries]
    stops = np.cumsum(count)
    for first in range(0, int(stops[-1]), BLOCK_ACCESSES_MAX):
        last = min(first + BLOCK_ACCESSES_MAX, int(stops[-1]))
        spans = slice(np.searchsorted(stops, first, "right"), np.searchsorted(stops, last) + 1)
        begins = np.maximum(stops[spans] - count[spans], first)
        counts = np.minimum(stops[spans], last) - begins
        block = _taken(readers, np.repeat(entry[spans], counts))
        yield block.having(phase=np.repeat(phase[spans].astype(np.int8), counts))


def _taken(readers: "Sequence[_EntryReader]", entry_of_row: Int64s) -> AccessBlock:
    """Return the next row of an entry, for each row that one is named for."""
    entries, counts = np.unique(entry_of_row, return_counts=True)
    parts = [
        readers[entry].take(count)
        for entry, count in zip(entries.tolist(), counts.tolist(), strict=True)
    ]
    order = np.argsort(entry_of_row, kind="stable")
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    return parts[0] if len(parts) == 1 else joined_blocks(parts).where(place)


class _EntryReader:
    """Gives the accesses of an entry, so many at a time."""

    def __init__(self, entry: AccessEntry) -> None:
        self._segments = _segments(entry)
        self._rest = joined_blocks([])

    def take(self, count: int) -> AccessBlock:
        """Return the next ones, phases unknown."""
        parts = [self._rest]
        missing = count - len(self._rest)
        while missing > 0:
            parts.append(next(self._segments))
            missing -= len(parts[-1])
        whole = joined_blocks([part for part in parts if len(part)])
        self._rest = whole.slice(count, len(whole))
        return whole.slice(0, count)


def _segments(entry: AccessEntry) -> Iterator[AccessBlock]:
    start = 0
    for accesses in decode_segments(entry.block):
        count = len(accesses)
        message, statement, outside = (np.full(count, value) for value in entry[:_FIELDS])
        position = np.arange(start, start + count)
        yield _block(message, statement, outside, position, accesses)
        start += count


def _block(
    message: Int64s, statement: Int64s, outside: Int64s, position: Int64s, accesses: Accesses
) -> AccessBlock:
    return AccessBlock(
        message.astype(np.int32),
        statement.astype(np.int32),
        np.full(len(accesses), NO_PHASE, dtype=np.int8),
        accesses.kind,
        accesses.address,
        accesses.length,
        accesses.offset,
        position,
        np.full(len(accesses), UNKNOWN_OWNER, dtype=np.int32),
        outside.astype(np.int16),
    )
