"""The ordered log of accesses to one stable memory: cheap to append to, compact to keep.

An access by SQLite is nearly always one whole SQLite page of the database file, so the hot path
appends a single integer to `entries`: the file offset for a read, its complement for a write.
Everything else (other lengths, other places, size, grow) appends `IRREGULAR` there and its full
description to a second list.

**Invariants**

* Positions count from 0 since the last `take`; position ``p`` is entry ``p``.
* A Python integer is kept alive for at most about `COMPACT_AT` entries: `compact` turns them
  into 4-byte numbers.
"""

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from sqlstable.ic.accesses import Access, Accesses, TakenAccesses
from sqlstable.ic.units import INT64_MAX
from sqlstable.ic.words import READ, WRITE

IRREGULAR: Final = -(1 << 62)
"""Entry that stands for a row of the list of irregular accesses."""

COMPACT_AT: Final = 1 << 16
"""Entries that may be kept as Python integers, about 3 MB of them."""

CHUNK_ENTRIES: Final = 1 << 16
"""Accesses handed out at once when a log is read: numpy needs about 100 bytes for each."""

_IRREGULAR_UNIT: Final = -(1 << 31)

Translate = Callable[[npt.NDArray[np.int64]], npt.NDArray[np.int64]]
"""Gives the stable memory addresses of database file offsets."""


class Irregular(NamedTuple):
    """One access that is not a whole SQLite page of the database file."""

    position: int
    kind: int
    address: int
    length: int
    offset: int


class AccessLog:
    """Accesses since the last `take`, in the order in which they happened.

    Args:
        sqlite_page_bytes: Length of a regular access.
        translate: Where database file offsets lie in stable memory; the file's owner keeps it
            true as the file grows.
    """

    def __init__(self, sqlite_page_bytes: int, translate: Translate | None = None) -> None:
        self.sqlite_page_bytes = sqlite_page_bytes
        self.translate: Translate = translate if translate is not None else _identity
        self.entries: list[int] = []
        self.append = self.entries.append
        self._irregular: list[Irregular] = []
        self._compacted: list[npt.NDArray[np.int64] | npt.NDArray[np.int32]] = []
        self.compacted_count = 0
        self._looked_at: TakenAccesses | None = None
        "What `so_far` has given since the last `take`: it may be decoded already."

    def position(self) -> int:
        """Return the position that the next access will have."""
        return self.compacted_count + len(self.entries)

    def note(self, kind: int, address: int, length: int, offset: int = -1) -> None:
        """Append an irregular access."""
        self._irregular.append(Irregular(self.position(), kind, address, length, offset))
        self.append(IRREGULAR)

    def compact(self) -> bool:
        """Turn a long list of integers into a short array; SQLite calls this as it runs.

        Returns:
            False, which tells SQLite's progress handler to go on.
        """
        if len(self.entries) >= COMPACT_AT:
            self._compacted.append(_packed(self.entries, self.sqlite_page_bytes))
            self.compacted_count += len(self.entries)
            self.entries.clear()
        return False

    def so_far(self) -> TakenAccesses:
        """Return what `take` would, and go on."""
        self._looked_at = self._taken(self._compacted.copy(), self._irregular.copy())
        return self._looked_at

    def _taken(
        self,
        compacted: list[npt.NDArray[np.int64] | npt.NDArray[np.int32]],
        irregular: list[Irregular],
    ) -> TakenAccesses:
        decoder = _Decoder(
            self.sqlite_page_bytes, self.translate, compacted, self.entries.copy(), irregular
        )
        few = None if compacted else decoder.few
        return TakenAccesses(self.position(), decoder.chunks, few)

    def take(self) -> TakenAccesses:
        """Return everything since the last call, and start again at position 0."""
        taken, self._looked_at = self._looked_at, None
        if taken is None or len(taken) != self.position():
            taken = self._taken(self._compacted, self._irregular)
        self.entries.clear()
        if self._compacted:
            self._compacted = []
            self.compacted_count = 0
        # Even an empty list is theirs now.
        self._irregular = []
        return taken


class _Decoder:
    """Decodes the accesses of one message piece by piece, on demand."""

    __slots__ = (
        "_compacted",
        "_decoded",
        "_entries",
        "_irregular",
        "_sqlite_page_bytes",
        "_translate",
    )

    def __init__(
        self,
        sqlite_page_bytes: int,
        translate: Translate,
        compacted: list[npt.NDArray[np.int64] | npt.NDArray[np.int32]],
        entries: list[int],
        irregular: list[Irregular],
    ) -> None:
        """Take over the lists; they are not shared with the log any more."""
        self._sqlite_page_bytes = sqlite_page_bytes
        self._translate = translate
        self._compacted = compacted
        self._entries = entries
        self._irregular = irregular
        self._decoded: Accesses | None = None

    def few(self) -> list[Access]:
        """Return all accesses as plain integers; none of them is compacted."""
        entries, length = self._entries, self._sqlite_page_bytes
        if not entries:
            return []
        offsets = [
            entry if entry >= 0 else 0 if entry == IRREGULAR else ~entry for entry in entries
        ]
        addresses = self._translate(np.array(offsets, dtype=np.int64)).tolist()
        found = [
            (READ if entry >= 0 else WRITE, address, length, offset)
            for entry, address, offset in zip(entries, addresses, offsets, strict=True)
        ]
        for row in self._irregular:
            found[row.position] = (
                row.kind,
                min(row.address, INT64_MAX),
                min(row.length, INT64_MAX),
                row.offset,
            )
        return found

    def chunks(self, start: int, stop: int) -> Iterator[Accesses]:
        """Yield the accesses at positions ``start`` to ``stop - 1``, `CHUNK_ENTRIES` at a time."""
        if not self._compacted:
            # A short log is read several times, span by span: it is decoded once.
            if self._decoded is None:
                self._decoded = self._columns(self._entries, 0)
            if stop > start:
                yield self._decoded.slice(start, stop)
            return
        base = 0
        for piece in (*self._compacted, self._entries):
            first, last = max(start - base, 0), min(stop - base, len(piece))
            for low in range(first, last, CHUNK_ENTRIES):
                high = min(low + CHUNK_ENTRIES, last)
                yield self._columns(piece[low:high], base + low)
            base += len(piece)

    def _columns(
        self, piece: list[int] | npt.NDArray[np.int64] | npt.NDArray[np.int32], base: int
    ) -> Accesses:
        offset = _unpacked(piece, self._sqlite_page_bytes)
        irregular = np.flatnonzero(offset == IRREGULAR)
        kind = (offset < 0).astype(np.int8)
        np.invert(offset, out=offset, where=offset < 0)
        offset[irregular] = 0
        # A copy, because a translation that changes nothing may hand back what it was given.
        address = self._translate(offset.copy())
        length = np.full(len(offset), self._sqlite_page_bytes, dtype=np.int64)
        if len(irregular):
            rows = self._irregular_between(base, base + len(piece))
            assert len(rows) == len(irregular)
            kind[irregular] = [row.kind for row in rows]
            # Larger ones were asked for in vain: by a grow that failed, an access of no bytes.
            address[irregular] = [min(row.address, INT64_MAX) for row in rows]
            length[irregular] = [min(row.length, INT64_MAX) for row in rows]
            offset[irregular] = [row.offset for row in rows]
        return Accesses(kind, address, length, offset)

    def _irregular_between(self, start: int, stop: int) -> list[Irregular]:
        rows = self._irregular
        low = _first_at(rows, start)
        return rows[low : _first_at(rows, stop)]


def _identity(offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return offsets


def _first_at(rows: list[Irregular], position: int) -> int:
    low, high = 0, len(rows)
    while low < high:
        middle = (low + high) // 2
        if rows[middle].position < position:
            low = middle + 1
        else:
            high = middle
    return low


def _packed(
    entries: list[int], sqlite_page_bytes: int
) -> npt.NDArray[np.int64] | npt.NDArray[np.int32]:
    """Offsets become SQLite page indexes, which fit in four bytes up to 8 TiB of 4 KiB ones."""
    shift = sqlite_page_bytes.bit_length() - 1
    offsets = np.array(entries, dtype=np.int64)
    # The complement of a multiple of 2^shift, shifted, is the complement of the shifted multiple.
    units = offsets >> shift
    irregular = offsets == IRREGULAR
    regular = units[~irregular]
    if len(regular) and (regular.max() >= 1 << 31 or regular.min() <= _IRREGULAR_UNIT):
        return offsets
    units[irregular] = _IRREGULAR_UNIT
    return units.astype(np.int32)


def _unpacked(
    piece: list[int] | npt.NDArray[np.int64] | npt.NDArray[np.int32], sqlite_page_bytes: int
) -> npt.NDArray[np.int64]:
    if isinstance(piece, list) or piece.dtype == np.int64:
        return np.array(piece, dtype=np.int64)
    units = piece.astype(np.int64)
    shift = sqlite_page_bytes.bit_length() - 1
    irregular = units == _IRREGULAR_UNIT
    # Reads shift back; writes are complements and do so as complements.
    offsets = np.where(units >= 0, units << shift, ~(~units << shift))
    offsets[irregular] = IRREGULAR
    return offsets
