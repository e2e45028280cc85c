"""Footprints and owners of messages with many accesses, with numpy, chunk by chunk."""

from collections.abc import Callable, Iterator, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from sqlstable.ic.accesses import Accesses, TakenAccesses
from sqlstable.ic.units import OS_PAGE_BYTES
from sqlstable.ic.words import PHASES, WRITE
from sqlstable.trace.footprint import EMPTY, Footprint, measure, unite, units_spanned
from sqlstable.trace.model import OwnerUse, StableUse
from sqlstable.trace.recording.owner_numbers import OWNER_SHIFT, AnyPlaces, sorted_uses
from sqlstable.trace.recording.raw import Span

_Numbers = npt.NDArray[np.int64]

_SPANS_READ_SINGLY: Final = 4
"""With more spans than that, what lies between them is read too, and left out."""


class ManyMeter:
    """Measures the parts of a message with many accesses, as `FewMeter` does with few."""

    def __init__(self, taken: TakenAccesses) -> None:
        self._taken = taken
        self._footprints: list[Footprint] = []

    def phases(self, spans: Sequence[Span]) -> tuple[StableUse, list[StableUse]]:
        """Return the use of all spans together, and of each phase."""
        of_phase: list[list[Span]] = [[] for _ in PHASES]
        for span in spans:
            of_phase[span[2]].append(span)
        footprints = [measure(self.accesses(part)) if part else EMPTY for part in of_phase]
        whole = unite(footprints)
        self._footprints.append(whole)
        uses = [footprint.use for footprint in footprints]
        if whole in footprints:
            return uses[footprints.index(whole)], uses
        return whole.use, uses

    def outside(self, start: int, stop: int) -> StableUse:
        """Return the use of successive accesses that belong to no statement."""
        footprint = measure(self._taken.chunks(start, stop))
        self._footprints.append(footprint)
        return footprint.use

    def owners(self, spans: Sequence[Span], places: AnyPlaces) -> tuple[OwnerUse, ...]:
        """Return the owners of what was touched in spans."""
        accessed_keys, dirty_keys = [], []
        for chunk in self.accesses(spans):
            moved = np.where(chunk.kind <= WRITE, chunk.length, 0)
            origin, os_pages = units_spanned(chunk.address, moved, OS_PAGE_BYTES)
            keys = (places.numbers_of(chunk, os_pages, origin) << OWNER_SHIFT) | os_pages
            accessed_keys.append(np.unique(keys))
            dirty_keys.append(np.unique(keys[chunk.kind[origin] == WRITE]))
        return sorted_uses(places, _counted(accessed_keys), _counted(dirty_keys))

    def whole(self) -> tuple[Callable[[], Footprint], StableUse]:
        """Return the footprint of all that was measured."""
        footprint = unite(self._footprints)
        return lambda: footprint, footprint.use

    def accesses(self, spans: Sequence[Span]) -> Iterator[Accesses]:
        """Yield the accesses of spans in order, in few pieces however many spans there are."""
        if len(spans) <= _SPANS_READ_SINGLY:
            for start, stop, _ in spans:
                if stop > start:
                    yield from self._taken.chunks(start, stop)
            return
        low = min(start for start, _, _ in spans)
        high = max(stop for _, stop, _ in spans)
        wanted = np.zeros(high - low, dtype=bool)
        for start, stop, _ in spans:
            wanted[start - low : stop - low] = True
        base = 0
        for chunk in self._taken.chunks(low, high):
            part = wanted[base : base + len(chunk.kind)]
            base += len(chunk.kind)
            yield chunk.where(part)


def _counted(keys: list[_Numbers]) -> dict[int, int]:
    """Return how many different OS pages each owner has, by the owner's number."""
    if not keys:
        return {}
    distinct = np.unique(np.concatenate(keys)) if len(keys) > 1 else keys[0]
    counts = np.bincount(distinct >> OWNER_SHIFT)
    return {number: int(counts[number]) for number in np.flatnonzero(counts).tolist()}
