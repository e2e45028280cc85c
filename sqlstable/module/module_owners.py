"""Whose stable memory a foreign module touches: found between messages, and recorded nowhere.

What is looked at is what messages have touched: the memory manager's tables where they were
written, the first bytes of a memory whose beginning was, and of each unit that was accessed what
says whose it is. So a message costs what it touched, however large stable memory is.

**Rules**

* A unit of a stable B-tree is what it is when the message ends, before anything is rolled back.
* A SQLite page that a message wrote belongs to whom it belongs when the message has ended, any
  other one to whom it belonged last, as in databases of our own.
* Nothing that the bytes say is trusted: what contradicts itself is a memory of which nothing is
  known.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

import numpy as np

from sqlstable.ic.accesses import Accesses, TakenAccesses
from sqlstable.ic.units import OS_PAGE_BYTES, WASM_PAGE_BYTES
from sqlstable.ic.words import WIPING_KINDS, WRITE
from sqlstable.layout.layout import Peek
from sqlstable.memory.manager import BUCKET_TABLE_OFFSET, BUCKETS_MAX, BUCKETS_OFFSET
from sqlstable.memory.stable import StableMemory
from sqlstable.module.owners_database import MemoryPages, ModuleDatabase
from sqlstable.module.owners_geography import (
    MANAGER_PLACE,
    NOBODY,
    WHOLE_PLACE,
    Geography,
    Numbers,
)
from sqlstable.module.owners_structures import (
    FRONT,
    HEAD_BYTES,
    DatabasePages,
    Plain,
    Read,
    Structure,
    name_of_place,
    structure_of,
)
from sqlstable.trace.footprint import units_spanned
from sqlstable.trace.model import AddressRun, Owner, StableArea
from sqlstable.trace.recording.owner_numbers import AddressPlaces

_UNIT_SHIFT: Final = 48
"""Units are below 2^48; above them stands the place."""
_UNIT_MASK: Final = (1 << _UNIT_SHIFT) - 1


@dataclass(slots=True)
class _TouchedUnits:
    """What a message touched of one place."""

    accessed: set[int] = field(default_factory=set)
    "Units."
    dirty: set[int] = field(default_factory=set)


class ModuleOwners:
    """The owners of a stable memory of which nothing is known beforehand.

    Args:
        memory: The stable memory; it is only looked at.

    Examples:
        >>> from sqlstable.memory.stable import StableMemory
        >>> owners = ModuleOwners(StableMemory())
        >>> owners.areas(0)
        ()
    """

    def __init__(self, memory: StableMemory) -> None:
        self._memory = memory
        self._owners: list[Owner] = []
        self._indexes: dict[Owner, int] = {}
        self._geography = Geography(None, 0)
        self._is_stale = True
        "Whether the memory manager has to be looked at."
        self._structures: dict[int, Structure] = {}
        self._suspects: set[int] = set()
        "Places that may hold something else than they did."
        self._is_wiped = False
        "Whether the last message began with an empty stable memory, or with another one."
        self._known: dict[int, int] = {}
        "Owner index of each unit, by place and unit; what the trace says, too."
        self._of_message: dict[int, int] = {}
        "The same of those that the last message touched."
        self._touched: dict[int, _TouchedUnits] = {}
        self._news: list[AddressRun] = []

    @property
    def fault(self) -> str:
        """Why owners of SQLite pages are unknown that should not be; empty where they are not."""
        return next((it.database.fault for it in self._databases() if it.database.fault), "")

    def before_end(self, kind: str, accesses: TakenAccesses) -> None:
        """Look at what a message has touched, while memory shows what it did.

        Args:
            kind: Of the message.
            accesses: All of them.
        """
        self._is_wiped = kind in WIPING_KINDS
        if self._is_wiped:
            self._forget()
        os_pages = np.array(self._memory.bytemap.dirty, dtype=np.int64)
        if self._is_stale or (os_pages * OS_PAGE_BYTES < self._geography.header_stop).any():
            self._geography = Geography.of(Peek.at(self._memory))
            self._is_stale = False
        places, offsets = self._geography.locate_many(os_pages * OS_PAGE_BYTES)
        self._suspects.update(places[offsets < HEAD_BYTES].tolist())
        self._touched, self._of_message = {}, {}
        self._gather(accesses)
        for place, touched in self._touched.items():
            structure = self._structures[place]
            if isinstance(structure, DatabasePages):
                structure.database.before_end(touched.accessed - FRONT)
            else:
                self._learn(place, structure.owners_of(touched.accessed))

    def after_end(self, *, is_kept: bool) -> None:
        """Learn whose the SQLite pages are, now that the message is committed or gone."""
        for place, touched in self._touched.items():
            structure = self._structures[place]
            if isinstance(structure, DatabasePages):
                structure.database.after_end(touched.dirty - FRONT, is_kept=is_kept)
                self._learn(place, structure.owners_of(touched.accessed))
            if not is_kept and touched.dirty:
                # What was made in it is gone, and may have looked like something else.
                self._suspects.add(place)
                self._is_stale |= place == MANAGER_PLACE
        self._tell()

    def places(self) -> AddressPlaces:
        """Return whose the OS pages of the last message are."""
        return AddressPlaces(self._owners, self._index_of, self._indexes_of)

    def take_news(self) -> list[AddressRun]:
        """Return what has become known since the last time."""
        found, self._news = self._news, []
        return found

    def areas(self, message: int) -> tuple[StableArea, ...]:
        """Return what stable memory consists of now, after the message with this index."""
        if not self._memory.wasm_pages:
            return ()
        self._geography = Geography.of(Peek.at(self._memory))
        tables = self._geography.tables
        if tables is None:
            return (self._area(message, WHOLE_PLACE, WASM_PAGE_BYTES),)
        found = [
            self._area(message, it, tables.bucket_bytes) for it in self._geography.memory_ids()
        ]
        used_bytes = BUCKET_TABLE_OFFSET + BUCKETS_MAX
        manager = ("memory manager", "memory manager", None, BUCKETS_OFFSET, WASM_PAGE_BYTES)
        return (*found, StableArea(message, *manager, BUCKETS_OFFSET, used_bytes, 0))

    # -- inside ---------------------------------------------------------------------------------

    def _forget(self) -> None:
        """Begin anew: stable memory has been wiped, or is another one."""
        self._is_stale = True
        self._structures.clear()
        self._suspects.clear()
        self._known.clear()

    def _databases(self) -> list[DatabasePages]:
        return [it for it in self._structures.values() if isinstance(it, DatabasePages)]

    def _area(self, message: int, place: int, unit_bytes: int) -> StableArea:
        structure = self._structure(place)
        size_bytes = self._geography.size_of(place, self._memory.wasm_pages)
        tables = self._geography.tables
        allocated = size_bytes if tables is None else len(tables.buckets[place]) * unit_bytes
        used_bytes, free_bytes, kind = size_bytes, 0, "other memory"
        if isinstance(structure, DatabasePages):
            used, free = structure.database.used()
            used_bytes, free_bytes = min(used, size_bytes), min(free, used, size_bytes)
            kind = "database"
        elif not isinstance(structure, Plain) or structure.data.kind != "other memory":
            kind = next(iter(structure.owners_of([1]).values())).kind
        return StableArea(
            message=message,
            name=name_of_place(place),
            kind=kind,
            memory_id=None if place == WHOLE_PLACE else place,
            allocated_bytes=allocated,
            unit_bytes=unit_bytes,
            size_bytes=min(size_bytes, allocated),
            used_bytes=min(used_bytes, allocated),
            free_bytes=free_bytes,
        )

    def _structure(self, place: int) -> Structure:
        found = self._structures.get(place)
        if found is not None and place not in self._suspects:
            return found
        self._suspects.discard(place)
        new = structure_of(
            place,
            self._reader(place),
            partial(self._database, place),
            base=self._geography.base,
        )
        if isinstance(new, DatabasePages):
            if isinstance(found, DatabasePages) and found.is_like(new):
                # It knows whose its SQLite pages are.
                return found
            self._structures.pop(place, None)
            if self._databases():
                new = replace(new, suffix=f" ({new.name})")
        self._structures[place] = new
        return new

    def _database(self, place: int, base: int, page_size: int) -> ModuleDatabase:
        now, before = (
            MemoryPages(
                self._reader(place, is_before=is_before),
                partial(self._size_of, place),
                base=base,
                page_size=page_size,
            )
            for is_before in (False, True)
        )
        return ModuleDatabase(now, before, base=base, page_size=page_size)

    def _size_of(self, place: int) -> int:
        return self._geography.size_of(place, self._memory.wasm_pages)

    def _reader(self, place: int, *, is_before: bool = False) -> Read:
        """Return what gives the bytes of a place, fewer where it ends."""
        memory = self._memory

        def read(offset: int, length: int) -> bytes:
            there = min(length, self._size_of(place) - offset)
            if there <= 0 or (is_before and self._is_wiped):
                return b""
            peek = memory.peek_before if is_before else memory.peek
            pieces = self._geography.map_of(place).pieces(offset, there)
            return b"".join(peek(address, count) for address, count in pieces)

        return read

    def _gather(self, accesses: TakenAccesses) -> None:
        """Find out which units of which places were touched."""
        few = accesses.few()
        if few is None:
            for chunk in accesses.chunks(0, len(accesses)):
                self._gather_many(chunk)
            return
        for kind, address, length, _ in few:
            if kind > WRITE or length <= 0:
                continue
            end = address + length
            for os_page in range(address // OS_PAGE_BYTES, (end - 1) // OS_PAGE_BYTES + 1):
                start = max(os_page * OS_PAGE_BYTES, address)
                count = min((os_page + 1) * OS_PAGE_BYTES, end) - start
                place, offset = self._geography.locate(start)
                unit_of = self._structure(place).unit_of
                units = range(unit_of(offset), unit_of(offset + count - 1) + 1)
                self._touch(place, units, is_write=kind == WRITE)

    def _gather_many(self, chunk: Accesses) -> None:
        moved = np.where(chunk.kind <= WRITE, chunk.length, 0)
        origin, os_pages = units_spanned(chunk.address, moved, OS_PAGE_BYTES)
        address, is_write = chunk.address[origin], chunk.kind[origin] == WRITE
        start = np.maximum(os_pages * OS_PAGE_BYTES, address)
        stop = np.minimum((os_pages + 1) * OS_PAGE_BYTES, address + moved[origin])
        places, offsets = self._geography.locate_many(start)
        for place in np.unique(places).tolist():
            here = places == place
            unit_of = self._structure(place).unit_of
            first, count = unit_of(offsets[here]), (stop - start)[here]
            last = unit_of(offsets[here] + count - 1)
            for wanted in (True, False):
                of_kind = is_write[here] == wanted
                ends = np.unique(np.stack((first[of_kind], last[of_kind])), axis=1)
                for low, high in ends.T.tolist():
                    self._touch(place, range(low, high + 1), is_write=wanted)

    def _touch(self, place: int, units: range, *, is_write: bool) -> None:
        touched = self._touched.get(place)
        if touched is None:
            touched = self._touched[place] = _TouchedUnits()
        touched.accessed.update(units)
        if is_write:
            touched.dirty.update(units)

    def _learn(self, place: int, found: Mapping[int, Owner]) -> None:
        """Take note of whose units are."""
        indexes = self._indexes
        for unit, owner in found.items():
            index = indexes.get(owner)
            if index is None:
                index = indexes[owner] = len(self._owners)
                self._owners.append(owner)
            self._of_message[place << _UNIT_SHIFT | unit] = index

    def _index_of(self, address: int) -> int:
        place, offset = self._geography.locate(address)
        return self._of_message[place << _UNIT_SHIFT | self._structures[place].unit_of(offset)]

    def _indexes_of(self, addresses: Numbers) -> Numbers:
        places, offsets = self._geography.locate_many(addresses)
        keys = np.zeros(len(addresses), dtype=np.int64)
        for place in np.unique(places).tolist():
            here = places == place
            keys[here] = place << _UNIT_SHIFT | self._structures[place].unit_of(offsets[here])
        wanted, at = np.unique(keys, return_inverse=True)
        found = [self._of_message[key] for key in wanted.tolist()]
        return np.array(found, dtype=np.int64)[at]

    def _tell(self) -> None:
        """Keep as news whose units are another's than is known, neighbours together."""
        pieces: list[tuple[int, int, int]] = []
        for key, index in self._of_message.items():
            if self._known.get(key) != index:
                self._known[key] = index
                pieces += ((*it, index) for it in self._pieces(key))
        for start, size_bytes, index in sorted(pieces):
            owner, last = self._owners[index], self._news[-1] if self._news else None
            if last and last.owner is owner and last.first_address + last.size_bytes == start:
                self._news[-1] = AddressRun(last.first_address, last.size_bytes + size_bytes, owner)
            else:
                self._news.append(AddressRun(start, size_bytes, owner))

    def _pieces(self, key: int) -> Iterable[tuple[int, int]]:
        """Return where a unit lies: addresses and sizes."""
        place, unit = key >> _UNIT_SHIFT, key & _UNIT_MASK
        start, stop = self._structures[place].span_of(unit)
        end = self._size_of(place)
        if place == MANAGER_PLACE:
            return [(self._geography.base, BUCKETS_OFFSET)]
        if place == NOBODY:
            # Others may have what lies between.
            return [] if unit else [(0, self._geography.base)]
        stop = end if stop is None else min(stop, end)
        return self._geography.map_of(place).pieces(start, max(stop - start, 0))
