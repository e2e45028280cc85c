"""Reading the ordered accesses of a trace in bulk; `sqlstable.trace.access_stream` has the result.

Blocks of a few accesses are decoded as plain integers, many of them into one set of columns; large
ones segment by segment, so that a statement of any length is never held whole.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, groupby
from operator import itemgetter
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from sqlstable.ic.accesses import Access, Accesses, FewAccesses
from sqlstable.ic.units import WASM_PAGE_BYTES
from sqlstable.ic.words import WRITE
from sqlstable.trace.access_stream import (
    BLOCK_ACCESSES_MAX,
    NOBODY,
    UNKNOWN_OWNER,
    AccessBlock,
    Int32s,
    Int64s,
)
from sqlstable.trace.blocks import count_accesses, decode_few, decode_segments
from sqlstable.trace.format.columns import FEW_VALUES
from sqlstable.trace.format.storage import Row, Snapshot
from sqlstable.trace.model import Owner
from sqlstable.trace.ownership.owner_replay import OwnerReplay, RunColumns
from sqlstable.trace.ownership.owner_state import OUTSIDE_TREES, UNKNOWN
from sqlstable.trace.recording.owner_numbers import MANAGER, OTHER_MEMORY

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

_SELECT_ENTRIES: Final = """
SELECT message_index, 0 AS is_outside, statement_index AS place, NULL AS name, block
FROM statement JOIN statement_accesses USING (statement_index)
WHERE statement_index BETWEEN :first_statement AND :last_statement
UNION ALL SELECT message_index, 1, outside_index, name, block
FROM outside JOIN outside_accesses USING (message_index, outside_index)
WHERE message_index BETWEEN :first_message AND :last_message
ORDER BY message_index, is_outside, place"""

_SELECT_RUNS: Final = """
SELECT since_message, first_sqlite_page, sqlite_page_count, owner_index FROM owner_run
WHERE since_message <= :last_message ORDER BY run_number"""

_SELECT_COMMITTED: Final = """
SELECT message_index FROM message
WHERE message_index <= :last_message AND outcome = 'committed' ORDER BY message_index"""


_MESSAGES_MAX: Final = np.iinfo(np.int32).max

_SQLITE_PAGES_BITS: Final = 32
"""Numbers of SQLite pages are below 2^32, so that a message's index has room above one."""


class _Entry(NamedTuple):
    """The accesses of one statement, or of one outside entry."""

    message: int
    statement: int
    outside: int
    access_count: int
    block: bytes


class _Piece(NamedTuple):
    """Accesses without owners: of whole messages, or a part of one large message."""

    block: AccessBlock
    large: Sequence[_Entry] = ()
    "All entries of that large message."


class AccessReader:
    """Reads the accesses of a trace.

    Args:
        snapshot: The trace.
        page_size: Bytes of a SQLite page; None where that is not known: then no owner is.

    Attributes:
        owners: Who can own an access, the unknown owner first.
        outside_names: What can make accesses that belong to no statement.
    """

    def __init__(self, snapshot: Snapshot, page_size: int | None) -> None:
        self._snapshot = snapshot
        self._page_size = page_size
        names = snapshot.select(
            "SELECT DISTINCT name FROM outside WHERE message_index <= :last_message ORDER BY name"
        )
        self.outside_names = tuple(name for (name,) in names)
        rows = snapshot.select("SELECT * FROM owner ORDER BY owner_index")
        self._table = {index: Owner(*columns) for index, *columns in rows}
        self.owners = tuple(
            dict.fromkeys((OUTSIDE_TREES[UNKNOWN], *self._table.values(), MANAGER, OTHER_MEMORY))
        )
        self._numbers = {owner: number for number, owner in enumerate(self.owners)}

    def blocks(self, *, owners: bool) -> Iterator[AccessBlock]:
        """Yield all accesses in order; where no owners are wanted, all are unknown."""
        replay = self._replay() if owners else None
        for piece in self._pieces():
            yield piece.block if replay is None else self._owned(replay, piece)

    # Decoding -----------------------------------------------------------------------------------

    def _pieces(self) -> Iterator[_Piece]:
        waiting: list[_Entry] = []
        waiting_count = 0
        for entries in self._messages():
            count = sum(entry.access_count for entry in entries)
            if waiting and waiting_count + count > BLOCK_ACCESSES_MAX:
                yield _Piece(_together(waiting))
                waiting, waiting_count = [], 0
            if count > BLOCK_ACCESSES_MAX:
                for block in _large(entries):
                    yield _Piece(block, entries)
            else:
                waiting += entries
                waiting_count += count
        if waiting_count:
            yield _Piece(_together(waiting))

    def _messages(self) -> Iterator[list[_Entry]]:
        """Yield the entries of each message that made accesses."""
        outside_of = {name: number for number, name in enumerate(self.outside_names)}
        for first, last in self._stretches():
            rows = self._snapshot.of_messages(first, last).select(_SELECT_ENTRIES)
            for _, group in groupby(rows, key=itemgetter(0)):
                yield [_entry(row, outside_of) for row in group]

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

    # Owners -------------------------------------------------------------------------------------

    def _replay(self) -> OwnerReplay:
        since, first, count, owner = _columns(self._snapshot.select(_SELECT_RUNS), 4)
        number_of = np.zeros(max(self._table, default=0) + 1, dtype=np.int64)
        for index, it in self._table.items():
            number_of[index] = self._numbers[it]
        runs = RunColumns(since, first, count, number_of[owner])
        (committed,) = _columns(self._snapshot.select(_SELECT_COMMITTED), 1)
        kinds = [it.kind for it in self.owners]
        return OwnerReplay(
            runs,
            committed,
            is_tree=np.array([kind in ("table", "index") for kind in kinds]),
            is_free=np.array([kind == "freelist" for kind in kinds]),
        )

    def _owned(self, replay: OwnerReplay, piece: _Piece) -> AccessBlock:
        block = piece.block
        owner = np.zeros(len(block), dtype=np.int32)
        start = 0
        while start < len(block):
            replay.advance(int(block.message[start]))
            # What is not cut here belongs to whole messages, or to the one that is large.
            is_later = block.message[start:] >= min(replay.changes_at, _MESSAGES_MAX)
            stop = start + int(np.searchsorted(is_later, True))  # noqa: FBT003  a value to look for
            part = block.slice(start, stop)
            owner[start:stop] = self._owners_of(replay, part, piece.large)
            start = stop
        return replace(block, owner=owner)

    def _owners_of(self, replay: OwnerReplay, part: AccessBlock, large: Sequence[_Entry]) -> Int32s:
        """Return the owners of accesses of messages that share what is known of owners."""
        moved, inside = part.kind <= WRITE, part.offset >= 0
        manager, other = self._numbers[MANAGER], self._numbers[OTHER_MEMORY]
        found = np.where(part.address < WASM_PAGE_BYTES, manager, other).astype(np.int32)
        if self._page_size is not None:
            numbers = part.offset // self._page_size + 1
            last = replay.last_owners(numbers)
            if replay.asks_for_writes:
                now = replay.owners(numbers)
                differ = np.flatnonzero((last != now) & inside)
                wanted, place = np.unique(
                    _key(part.message[differ], numbers[differ]), return_inverse=True
                )
                written = self._written(wanted, _large(large) if large else [part])[place]
                last[differ[written]] = now[differ[written]]
            found = np.where(inside, last, found)
        found[~moved] = UNKNOWN_OWNER
        return found

    def _written(self, wanted: Int64s, blocks: Iterable[AccessBlock]) -> npt.NDArray[np.bool_]:
        """Return which SQLite pages their messages wrote.

        Args:
            wanted: Keys of SQLite pages, ascending.
            blocks: All accesses of their messages.
        """
        assert self._page_size is not None
        # Writes that begin and that end at each place between the keys.
        borders = np.zeros(len(wanted) + 1, dtype=np.int64)
        for block in blocks:
            is_write = (block.kind == WRITE) & (block.offset >= 0) & (block.length > 0)
            message, offset = block.message[is_write], block.offset[is_write]
            first = _key(message, offset // self._page_size + 1)
            last = _key(message, (offset + block.length[is_write] - 1) // self._page_size + 1)
            np.add.at(borders, np.searchsorted(wanted, first), 1)
            np.subtract.at(borders, np.searchsorted(wanted, last, side="right"), 1)
        return np.cumsum(borders)[:-1] > 0


def _key(message: Int32s, number: Int64s) -> Int64s:
    return (message.astype(np.int64) << _SQLITE_PAGES_BITS) | number


def _columns(rows: Sequence[Row], width: int) -> Int64s:
    flat = np.fromiter(chain.from_iterable(rows), np.int64, len(rows) * width)
    return flat.reshape(len(rows), width).T


def _entry(row: Row, outside_of: Mapping[str, int]) -> _Entry:
    message, is_outside, place, name, block = row
    statement, outside = (NOBODY, outside_of[name]) if is_outside else (place, NOBODY)
    return _Entry(message, statement, outside, count_accesses(block), block)


def _together(entries: Sequence[_Entry]) -> AccessBlock:
    """Decode entries of whole messages as one block."""
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
    message, statement, outside = (
        np.repeat([entry[place] for entry in entries], counts) for place in range(3)
    )
    position = np.arange(len(message)) - np.repeat(np.cumsum(counts) - counts, counts)
    return _block(message, statement, outside, position, Accesses.joined(parts))


def _large(entries: Sequence[_Entry]) -> Iterator[AccessBlock]:
    """Decode entries of one message segment by segment."""
    for entry in entries:
        start = 0
        for accesses in decode_segments(entry.block):
            count = len(accesses)
            message, statement, outside = (np.full(count, value) for value in entry[:3])
            position = np.arange(start, start + count)
            yield _block(message, statement, outside, position, accesses)
            start += count


def _block(
    message: Int64s, statement: Int64s, outside: Int64s, position: Int64s, accesses: Accesses
) -> AccessBlock:
    return AccessBlock(
        message.astype(np.int32),
        statement.astype(np.int32),
        np.full(len(accesses), -1, dtype=np.int8),
        accesses.kind,
        accesses.address,
        accesses.length,
        accesses.offset,
        position,
        np.zeros(len(accesses), dtype=np.int32),
        outside.astype(np.int16),
    )
