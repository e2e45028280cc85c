"""Footprints and owners of messages with few accesses, with plain integers and sets.

Most messages make a handful of accesses, for which numpy takes many times as long. The results
are those of `sqlstable.trace.recording.many`, which the tests hold both to.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from operator import add
from typing import Final, NamedTuple, Self

import numpy as np

from sqlstable.ic.accesses import Access, FewAccesses
from sqlstable.ic.units import OS_PAGE_SHIFT, OS_PAGES_PER_WASM_PAGE
from sqlstable.ic.words import PHASES, WRITE
from sqlstable.trace.footprint import EMPTY, Footprint
from sqlstable.trace.model import NO_USE, Calls, OwnerUse, StableUse
from sqlstable.trace.recording.owner_numbers import OWNER_SHIFT, AnyPlaces, sorted_uses
from sqlstable.trace.recording.raw import Span

_WASM_PAGE_SHIFT: Final = OS_PAGES_PER_WASM_PAGE.bit_length() - 1
assert 1 << _WASM_PAGE_SHIFT == OS_PAGES_PER_WASM_PAGE
_wasm_page_of: Final = _WASM_PAGE_SHIFT.__rrshift__
"""Gives the Wasm page of an OS page; a method of an integer is no call of Python's."""


class Tally(NamedTuple):
    """What some accesses touched."""

    accessed: set[int]
    "OS pages read or written."
    dirty: set[int]
    calls: list[int]
    "By kind."
    moved: list[int]
    "Bytes read, and bytes written."
    use: StableUse
    "All of it as counts alone."

    @classmethod
    def of(cls, rows: Iterable[Access]) -> Self:
        """Count accesses."""
        accessed: set[int] = set()
        dirty: set[int] = set()
        calls, moved = [0, 0, 0, 0], [0, 0]
        for kind, address, length, _ in rows:
            calls[kind] += 1
            # The length of a grow is in Wasm pages, and moves no bytes.
            if kind > WRITE:
                continue
            moved[kind] += length
            if length > 0:
                first = address >> OS_PAGE_SHIFT
                last = (address + length - 1) >> OS_PAGE_SHIFT
                # One SQLite page of 4 KiB is one OS page, which needs no range.
                if first == last:
                    accessed.add(first)
                    if kind == WRITE:
                        dirty.add(first)
                else:
                    pages = range(first, last + 1)
                    accessed.update(pages)
                    if kind == WRITE:
                        dirty.update(pages)
        return cls(accessed, dirty, calls, moved, _use(accessed, dirty, calls, moved))

    @classmethod
    def united(cls, tallies: Sequence[Self]) -> Self:
        """Return what all of them, one at least, have counted."""
        if len(tallies) == 1:
            return tallies[0]
        accessed: set[int] = set()
        dirty: set[int] = set()
        calls, moved = [0, 0, 0, 0], [0, 0]
        for tally in tallies:
            accessed |= tally.accessed
            dirty |= tally.dirty
            calls = [*map(add, calls, tally.calls)]
            moved = [*map(add, moved, tally.moved)]
        return cls(accessed, dirty, calls, moved, _use(accessed, dirty, calls, moved))

    def footprint(self) -> Footprint:
        """The same with sorted OS pages."""
        return Footprint(
            np.array(sorted(self.accessed), dtype=np.int64),
            np.array(sorted(self.dirty), dtype=np.int64),
            Calls(*self.calls),
            *self.moved,
        )


class FewMeter:
    """Measures the parts of a message with few accesses, as `ManyMeter` does with many."""

    def __init__(self, rows: list[Access]) -> None:
        self._rows = rows
        self._tallies: list[Tally] = []

    def phases(self, spans: Sequence[Span]) -> tuple[StableUse, list[StableUse]]:
        """Return the use of all spans together, and of each phase."""
        uses = [NO_USE] * len(PHASES)
        rows_of: dict[int, list[Access]] = {}
        for start, stop, phase in spans:
            if stop > start:
                rows_of[phase] = rows_of.get(phase, []) + self._rows[start:stop]
        if not rows_of:
            return NO_USE, uses
        tallies = []
        for phase, rows in rows_of.items():
            tally = Tally.of(rows)
            uses[phase] = tally.use
            tallies.append(tally)
        # Nearly always one phase does everything, and is the whole itself, not only equal to it.
        whole = tallies[0] if len(tallies) == 1 else Tally.united(tallies)
        self._tallies.append(whole)
        return whole.use, uses

    def outside(self, start: int, stop: int) -> StableUse:
        """Return the use of successive accesses that belong to no statement."""
        if stop == start:
            return NO_USE
        tally = Tally.of(self._rows[start:stop])
        self._tallies.append(tally)
        return tally.use

    def owners(self, spans: Sequence[Span], places: AnyPlaces) -> tuple[OwnerUse, ...]:
        """Return the owners of what was touched in spans."""
        accessed: set[int] = set()
        dirty: set[int] = set()
        accessed_counts: dict[int, int] = {}
        dirty_counts: dict[int, int] = {}
        for start, stop, _ in spans:
            for kind, address, length, offset in self._rows[start:stop]:
                if kind > WRITE or length <= 0:
                    continue
                first = address >> OS_PAGE_SHIFT
                for os_page in range(first, ((address + length - 1) >> OS_PAGE_SHIFT) + 1):
                    number = places.number_of(os_page, address, offset)
                    # SQLite pages below 4 KiB share an OS page, which then counts for each owner.
                    key = number << OWNER_SHIFT | os_page
                    if key not in accessed:
                        accessed.add(key)
                        accessed_counts[number] = accessed_counts.get(number, 0) + 1
                    if kind == WRITE and key not in dirty:
                        dirty.add(key)
                        dirty_counts[number] = dirty_counts.get(number, 0) + 1
        return sorted_uses(places, accessed_counts, dirty_counts)

    def whole(self) -> tuple[Callable[[], Footprint], StableUse]:
        """Return the footprint of all that was measured, to be made once it is asked for."""
        if not self._tallies:
            return lambda: EMPTY, NO_USE
        whole = Tally.united(self._tallies)
        return whole.footprint, whole.use

    def accesses(self, spans: Sequence[Span]) -> FewAccesses:
        """Return the accesses of spans in order."""
        rows: list[Access] = []
        for start, stop, _ in spans:
            rows += self._rows[start:stop]
        return FewAccesses(rows)


def _use(
    accessed: set[int], dirty: set[int], calls: Sequence[int], moved: Sequence[int]
) -> StableUse:
    wasm_pages_accessed = len(set(map(_wasm_page_of, accessed)))
    wasm_pages_dirty = len(set(map(_wasm_page_of, dirty)))
    return _stable_use(
        *calls, *moved, len(accessed), len(dirty), wasm_pages_accessed, wasm_pages_dirty
    )


# Equal work has equal counts, and looking it up is quicker than making the records.
@lru_cache(maxsize=4096)
def _stable_use(*numbers: int) -> StableUse:
    return StableUse(Calls(*numbers[:4]), *numbers[4:])
