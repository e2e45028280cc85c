"""Footprints and owners of messages with few accesses, with plain integers and sets.

Most messages make a handful of accesses, for which numpy takes many times as long. The results
are those of `sqlstable.trace.recording.many`, which the tests hold both to.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from operator import add
from typing import Final

import numpy as np

from sqlstable.ic.units import OS_PAGE_SHIFT, OS_PAGES_PER_WASM_PAGE
from sqlstable.ic.words import PHASES, WRITE
from sqlstable.trace.footprint import EMPTY, Footprint
from sqlstable.trace.model import NO_USE, Calls, FewAccesses, OwnerUse, StableUse
from sqlstable.trace.recording.owner_numbers import OWNER_SHIFT, Places, sorted_uses
from sqlstable.trace.recording.raw import Access, Span

_WASM_PAGE_SHIFT: Final = OS_PAGES_PER_WASM_PAGE.bit_length() - 1
assert 1 << _WASM_PAGE_SHIFT == OS_PAGES_PER_WASM_PAGE


class Tally:
    """What some accesses touched: sets of OS pages, calls by kind, bytes read and written."""

    __slots__ = ("accessed", "calls", "dirty", "moved")

    def __init__(self) -> None:
        self.accessed: set[int] = set()
        self.dirty: set[int] = set()
        self.calls = [0, 0, 0, 0]
        self.moved = [0, 0]

    def add(self, rows: Iterable[Access]) -> None:
        """Count accesses."""
        accessed, dirty, calls, moved = self.accessed, self.dirty, self.calls, self.moved
        for kind, address, length, _ in rows:
            calls[kind] += 1
            if kind > WRITE:
                continue
            moved[kind] += length
            if length > 0:
                first = address >> OS_PAGE_SHIFT
                last = (address + length - 1) >> OS_PAGE_SHIFT
                if first == last:
                    accessed.add(first)
                    if kind == WRITE:
                        dirty.add(first)
                else:
                    pages = range(first, last + 1)
                    accessed.update(pages)
                    if kind == WRITE:
                        dirty.update(pages)

    @property
    def use(self) -> StableUse:
        """The same as counts alone."""
        return _stable_use(
            *self.calls,
            *self.moved,
            len(self.accessed),
            len(self.dirty),
            _wasm_pages(self.accessed),
            _wasm_pages(self.dirty),
        )

    def footprint(self) -> Footprint:
        """The same with sorted OS pages."""
        return Footprint(
            np.array(sorted(self.accessed), dtype=np.int64),
            np.array(sorted(self.dirty), dtype=np.int64),
            Calls(*self.calls),
            *self.moved,
        )


class FewMeter:
    """A `Meter` of ``attribution.py``, for the parts of a message with few accesses."""

    def __init__(self, rows: Sequence[Access]) -> None:
        self._rows = rows
        self._tallies: list[Tally] = []

    def phases(self, spans: Sequence[Span]) -> tuple[StableUse, list[StableUse]]:
        """Return the use of all spans together, and of each phase."""
        rows, uses = self._rows, [NO_USE] * len(PHASES)
        if len(spans) == 1:
            start, stop, phase = spans[0]
            uses[phase] = self._measured(rows[start:stop])
            return uses[phase], uses
        tallies: dict[int, Tally] = {}
        for start, stop, phase in spans:
            if stop > start:
                tally = tallies.get(phase)
                if tally is None:
                    tally = tallies[phase] = Tally()
                tally.add(rows[start:stop])
        for phase, tally in tallies.items():
            uses[phase] = tally.use
        if not tallies:
            return NO_USE, uses
        whole = united(tallies.values())
        self._tallies.append(whole)
        return whole.use, uses

    def outside(self, start: int, stop: int) -> StableUse:
        """Return the use of successive accesses that belong to no statement."""
        return self._measured(self._rows[start:stop])

    def owners(self, spans: Sequence[Span], places: Places) -> tuple[OwnerUse, ...]:
        """Return the owners of what was touched in spans."""
        accessed: set[int] = set()
        dirty: set[int] = set()
        for start, stop, _ in spans:
            for kind, address, length, offset in self._rows[start:stop]:
                if kind > WRITE or length <= 0:
                    continue
                first = address >> OS_PAGE_SHIFT
                for os_page in range(first, ((address + length - 1) >> OS_PAGE_SHIFT) + 1):
                    number = places.number_of(os_page, address, offset)
                    key = number << OWNER_SHIFT | os_page
                    accessed.add(key)
                    if kind == WRITE:
                        dirty.add(key)
        return sorted_uses(places, _counted(accessed), _counted(dirty))

    def whole(self) -> tuple[Callable[[], Footprint], StableUse]:
        """Return the footprint of all that was measured, to be made once it is asked for."""
        if not self._tallies:
            return lambda: EMPTY, NO_USE
        whole = united(self._tallies)
        return whole.footprint, whole.use

    def accesses(self, spans: Sequence[Span]) -> FewAccesses:
        """Return the accesses of spans in order."""
        if len(spans) == 1:
            start, stop, _ = spans[0]
            return FewAccesses(self._rows[start:stop])
        return FewAccesses([row for start, stop, _ in spans for row in self._rows[start:stop]])

    def _measured(self, rows: Sequence[Access]) -> StableUse:
        if not rows:
            return NO_USE
        tally = Tally()
        tally.add(rows)
        self._tallies.append(tally)
        return tally.use


def united(tallies: Iterable[Tally]) -> Tally:
    """Return what all of them, one at least, have counted."""
    tallies = [*tallies]
    if len(tallies) == 1:
        return tallies[0]
    whole = Tally()
    for tally in tallies:
        whole.accessed |= tally.accessed
        whole.dirty |= tally.dirty
        whole.calls = [*map(add, whole.calls, tally.calls)]
        whole.moved = [*map(add, whole.moved, tally.moved)]
    return whole


def _wasm_pages(os_pages: set[int]) -> int:
    if len(os_pages) < 2:
        return len(os_pages)
    return len({os_page >> _WASM_PAGE_SHIFT for os_page in os_pages})


# Equal work has equal counts, and looking it up is quicker than making the records.
@lru_cache(maxsize=4096)
def _stable_use(*numbers: int) -> StableUse:
    return StableUse(Calls(*numbers[:4]), *numbers[4:])


def _counted(keys: set[int]) -> dict[int, int]:
    """Return how many different OS pages each owner has, by the owner's number."""
    counts: dict[int, int] = {}
    for key in keys:
        number = key >> OWNER_SHIFT
        counts[number] = counts.get(number, 0) + 1
    return counts
