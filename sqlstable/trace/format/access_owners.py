"""Who owned the accesses of a trace: SQLite pages by the runs of owners, all else by addresses."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Final

import numpy as np
import numpy.typing as npt

from sqlstable.ic.units import WASM_PAGE_BYTES
from sqlstable.ic.words import WRITE
from sqlstable.trace.access_stream import UNKNOWN_OWNER, AccessBlock, Int32s, Int64s
from sqlstable.trace.format.owner_pieces import Cut, in_pieces
from sqlstable.trace.format.schema import ORDERS_SINCE_VERSION
from sqlstable.trace.format.storage import Row, TracePart
from sqlstable.trace.model import Owner
from sqlstable.trace.ownership.file_owners import MANAGER, OTHER_MEMORY
from sqlstable.trace.ownership.owner_replay import OwnerReplay, RunColumns
from sqlstable.trace.ownership.owner_state import OUTSIDE_TREES, UNKNOWN

_SELECT_RUNS: Final = """
SELECT since_message, first_sqlite_page, sqlite_page_count, owner_index FROM owner_run
WHERE since_message <= :last_message ORDER BY run_number"""

_SELECT_ADDRESS_RUNS: Final = """
SELECT since_message, first_address, size_bytes, owner_index FROM address_run
WHERE since_message <= :last_message ORDER BY run_number"""

_SELECT_COMMITTED: Final = """
SELECT message_index FROM message
WHERE message_index <= :last_message AND outcome = 'committed' ORDER BY message_index"""

_MESSAGES_MAX: Final = np.iinfo(np.int32).max

_SQLITE_PAGES_BITS: Final = 32
"""Numbers of SQLite pages are below 2^32, so that a message's index has room above one."""


class OwnerNames:
    """The owners of a trace, numbered anew: the unknown one is 0, and each is there once."""

    def __init__(self, snapshot: TracePart) -> None:
        rows = snapshot.select("SELECT * FROM owner ORDER BY owner_index")
        table = {index: Owner(*columns) for index, *columns in rows}
        known = dict.fromkeys((OUTSIDE_TREES[UNKNOWN], *table.values(), MANAGER, OTHER_MEMORY))
        self.owners = tuple(known)
        self.numbers: Mapping[Owner, int] = {it: number for number, it in enumerate(known)}
        self.number_of_index = np.zeros(max(table, default=0) + 1, dtype=np.int64)
        for index, it in table.items():
            self.number_of_index[index] = self.numbers[it]


class AccessOwners:
    """Finds the owners of accesses, message after message.

    Args:
        snapshot: The trace.
        names: Its owners.
        page_size: Bytes of a SQLite page; None where that is not known: then no owner of one is.
    """

    def __init__(self, snapshot: TracePart, names: OwnerNames, page_size: int | None) -> None:
        self._page_size = page_size
        self._other = names.numbers[OTHER_MEMORY]
        self._replay = _replay(snapshot, names, snapshot.select(_SELECT_RUNS))
        if snapshot.version >= ORDERS_SINCE_VERSION:
            rows = snapshot.select(_SELECT_ADDRESS_RUNS)
            self._addresses = _replay(snapshot, names, rows)
        else:
            self._addresses = _manager_alone(names)

    def find(
        self,
        block: AccessBlock,
        whole: Callable[[], Iterable[AccessBlock]],
        *,
        pieces: bool = False,
    ) -> AccessBlock:
        """Return a block with its owners.

        Args:
            block: The accesses of whole messages, or a part of those of one.
            whole: Gives all accesses of these messages.
            pieces: Whether an access of several owners' SQLite pages is cut where an owner ends.
        """
        owner = np.full(len(block), UNKNOWN_OWNER, dtype=np.int32)
        cuts: list[Cut] = []
        start = 0
        while start < len(block):
            message = int(block.message[start])
            self._replay.advance(message)
            self._addresses.advance(message)
            until = min(self._replay.changes_at, self._addresses.changes_at, _MESSAGES_MAX)
            stop = int(np.searchsorted(block.message, np.int32(until)))
            part = block.slice(start, stop)
            owner[start:stop] = self._owners_of(part, whole)
            if pieces:
                cuts += self._cuts(part, start)
            start = stop
        found = block.having(owner=owner)
        return in_pieces(found, cuts) if cuts else found

    def _cuts(self, part: AccessBlock, start: int) -> Iterator[Cut]:
        """Yield how accesses fall apart that begin with one owner and go on with another."""
        if self._page_size is None:
            return
        is_wide = (part.kind <= WRITE) & (part.offset >= 0) & (part.length > self._page_size)
        for row in np.flatnonzero(is_wide).tolist():
            offset, length = int(part.offset[row]), int(part.length[row])
            first = offset // self._page_size + 1
            last = (offset + length - 1) // self._page_size + 1
            numbers = self._replay.borders(first, last)
            # What a message writes belongs to whom it belongs at its end.
            is_write = part.kind[row] == WRITE
            owners = self._replay.owners(numbers) if is_write else self._replay.last_owners(numbers)
            offsets = np.maximum((numbers - 1) * self._page_size, offset)
            is_other = np.append(True, owners[1:] != owners[:-1])
            yield Cut(start + row, offsets[is_other], owners[is_other])

    def _owners_of(self, part: AccessBlock, whole: Callable[[], Iterable[AccessBlock]]) -> Int32s:
        """Return the owners of accesses of messages that share what is known of owners."""
        found = np.full(len(part), UNKNOWN_OWNER, dtype=np.int32)
        moved, inside = part.kind <= WRITE, part.offset >= 0
        beside = np.flatnonzero(moved & ~inside)
        by_address = self._addresses.owners(part.address[beside])
        found[beside] = np.where(by_address == UNKNOWN_OWNER, self._other, by_address)
        if self._page_size is not None:
            numbers = part.offset // self._page_size + 1
            last = self._replay.last_owners(numbers)
            if self._replay.asks_for_writes:
                self._give_to_writers(part, numbers, last, whole)
            np.copyto(found, last, where=moved & inside)
        return found

    def _give_to_writers(
        self,
        part: AccessBlock,
        numbers: Int64s,
        last: Int32s,
        whole: Callable[[], Iterable[AccessBlock]],
    ) -> None:
        """Replace the last owners of SQLite pages that their messages wrote by those at the end."""
        now = self._replay.owners(numbers)
        differ = np.flatnonzero((last != now) & (part.offset >= 0))
        if len(differ):
            keys = _key(part.message[differ], numbers[differ])
            wanted, place = np.unique(keys, return_inverse=True)
            written = self._written(wanted, whole())[place]
            last[differ[written]] = now[differ[written]]

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


def _replay(snapshot: TracePart, names: OwnerNames, rows: Sequence[Row]) -> OwnerReplay:
    since, first, count, owner = columns_of(rows, 4)
    (committed,) = columns_of(snapshot.select(_SELECT_COMMITTED), 1)
    kinds = [it.kind for it in names.owners]
    return OwnerReplay(
        RunColumns(since, first, count, names.number_of_index[owner]),
        committed,
        is_tree=np.array([kind in ("table", "index") for kind in kinds]),
        is_free=np.array([kind == "freelist" for kind in kinds]),
    )


def _manager_alone(names: OwnerNames) -> OwnerReplay:
    """Return who has which addresses, for traces that do not tell."""
    columns = np.array([[0], [0], [WASM_PAGE_BYTES], [names.numbers[MANAGER]]], dtype=np.int64)
    nothing = np.zeros(len(names.owners), dtype=np.bool_)
    return OwnerReplay(RunColumns(*columns), columns[0][:0], is_tree=nothing, is_free=nothing)


def _key(message: Int32s, number: Int64s) -> Int64s:
    return (message.astype(np.int64) << _SQLITE_PAGES_BITS) | number


def columns_of(rows: Sequence[Row], width: int) -> Int64s:
    """Return rows of whole numbers as columns."""
    flat = np.fromiter(chain.from_iterable(rows), np.int64, len(rows) * width)
    return flat.reshape(len(rows), width).T
