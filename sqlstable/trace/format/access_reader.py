"""Reading the ordered accesses of a trace in bulk, as `sqlstable.trace.access_stream` has them."""

from collections.abc import Iterator, Mapping
from functools import cached_property, lru_cache, partial
from itertools import groupby
from operator import itemgetter
from typing import Final, NamedTuple

from sqlstable.trace.access_stream import BLOCK_ACCESSES_MAX, NOBODY, AccessBlock
from sqlstable.trace.blocks import count_accesses
from sqlstable.trace.format.access_decoding import (
    AccessEntry,
    MessageAccesses,
    in_parts,
    message_accesses,
    together,
)
from sqlstable.trace.format.access_owners import AccessOwners, OwnerNames
from sqlstable.trace.format.schema import ORDERS_SINCE_VERSION
from sqlstable.trace.format.spans import decode_spans
from sqlstable.trace.format.storage import OF_MESSAGES, OF_STATEMENTS, Row, TracePart
from sqlstable.trace.model import Owner

ACCESSES_HELD_MAX: Final = 1 << 20
"""Accesses of a trace that are kept once they are decoded: 48 MiB as columns."""

_STRETCH_BYTES: Final = 4 << 20
"""Bytes of blocks that are read together, unless one message has more."""

_SELECT_SIZES: Final = """
SELECT message_index, sum(size) FROM (
  SELECT message_index, length(block) AS size
  FROM statement JOIN statement_accesses USING (statement_index)
  WHERE statement_index <= :last_statement
  UNION ALL SELECT message_index, length(block) FROM outside_accesses
  WHERE message_index <= :last_message
) GROUP BY message_index ORDER BY message_index"""

_SELECT_ENTRIES: Final = f"""
SELECT message_index, 0 AS is_outside, statement_index AS place, NULL AS name, block
FROM statement JOIN statement_accesses USING (statement_index) WHERE {OF_STATEMENTS}
UNION ALL SELECT message_index, 1, outside_index, name, block
FROM outside JOIN outside_accesses USING (message_index, outside_index) WHERE {OF_MESSAGES}
ORDER BY message_index, is_outside, place"""  # noqa: S608  our own words

_SELECT_ORDERS: Final = f"""
SELECT message_index, spans FROM message JOIN access_order USING (order_index)
WHERE {OF_MESSAGES}"""  # noqa: S608  our own words

_spans_of: Final = lru_cache(maxsize=1024)(decode_spans)


class _Piece(NamedTuple):
    """Accesses without owners: of whole messages, or a part of one large message."""

    block: AccessBlock
    large: MessageAccesses | None = None


class AccessReader:
    """Reads the accesses of a trace.

    Args:
        snapshot: The trace.
        page_size: Bytes of a SQLite page; None where that is not known.

    Attributes:
        outside_names: What can make accesses that belong to no statement.
    """

    def __init__(self, snapshot: TracePart, page_size: int | None) -> None:
        self._snapshot = snapshot
        self._page_size = page_size
        names = snapshot.select(
            "SELECT DISTINCT name FROM outside WHERE message_index <= :last_message ORDER BY name"
        )
        self.outside_names = tuple(name for (name,) in names)
        self._held: list[_Piece] | None = None

    @property
    def owners(self) -> tuple[Owner, ...]:
        """Who can own an access, the unknown owner first."""
        return self._names.owners

    @cached_property
    def _names(self) -> OwnerNames:
        return OwnerNames(self._snapshot)

    def blocks(self, *, owners: bool, pieces: bool = False) -> Iterator[AccessBlock]:
        """Yield all accesses in order; where no owners are wanted, all are unknown.

        In pieces, an access of several owners' SQLite pages is there in several rows.
        """
        if not owners:
            yield from (piece.block for piece in self._pieces())
            return
        finder = AccessOwners(self._snapshot, self._names, self._page_size)
        for block, large in self._pieces():
            whole = partial(in_parts, large) if large else partial(iter, (block,))
            yield finder.find(block, whole, pieces=pieces)

    def _pieces(self) -> Iterator[_Piece]:
        """Yield all accesses; those of a trace that has few enough are decoded once."""
        if self._held is not None:
            yield from self._held
            return
        held: list[_Piece] | None = []
        count = 0
        for piece in self._decoded():
            count += len(piece.block)
            if held is not None:
                held.append(piece)
                held = held if count <= ACCESSES_HELD_MAX else None
            yield piece
        self._held = held

    def _decoded(self) -> Iterator[_Piece]:
        waiting: list[MessageAccesses] = []
        waiting_count = 0
        for message in self._messages():
            count = message.access_count
            if waiting and waiting_count + count > BLOCK_ACCESSES_MAX:
                yield _Piece(together(waiting))
                waiting, waiting_count = [], 0
            if count > BLOCK_ACCESSES_MAX:
                yield from (_Piece(block, message) for block in in_parts(message))
            else:
                waiting.append(message)
                waiting_count += count
        if waiting:
            yield _Piece(together(waiting))

    def _messages(self) -> Iterator[MessageAccesses]:
        """Yield each message that made accesses."""
        outside_of = {name: number for number, name in enumerate(self.outside_names)}
        for first, last in self._stretches():
            part = self._snapshot.of_messages(first, last)
            orders: Mapping[int, bytes] = {}
            if part.version >= ORDERS_SINCE_VERSION:
                orders = dict(part.select(_SELECT_ORDERS))
            for message, rows in groupby(part.select(_SELECT_ENTRIES), key=itemgetter(0)):
                order = orders.get(message)
                entries = [_entry(row, outside_of) for row in rows]
                yield message_accesses(entries, None if order is None else _spans_of(order))

    def _stretches(self) -> Iterator[tuple[int, int]]:
        """Yield the first and the last of messages that are read together."""
        first, size_bytes, last = None, 0, NOBODY
        for message, message_bytes in self._snapshot.select(_SELECT_SIZES):
            if first is not None and size_bytes + message_bytes > _STRETCH_BYTES:
                yield first, last
                first, size_bytes = None, 0
            first = message if first is None else first
            size_bytes += message_bytes
            last = message
        if first is not None:
            yield first, last


def _entry(row: Row, outside_of: Mapping[str, int]) -> AccessEntry:
    message, is_outside, place, name, block = row
    statement, outside = (NOBODY, outside_of[name]) if is_outside else (place, NOBODY)
    return AccessEntry(message, statement, outside, count_accesses(block), block)
