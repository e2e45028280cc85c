"""Why stable memory is as large as it is, and what made it grow when.

Stable memory never shrinks and is paid for whole, but it grows in large steps: by buckets of the
memory manager, 8 MiB each unless chosen otherwise, for each file in it. The areas in a trace say
who has what; here they are cut into parts that add up to the size of stable memory.

**Invariants**

* The parts of a `Growth` add up to its ``stable_bytes``, and the areas of a `GrowthStep` to what
  stable memory grew by in it, wherever they are known.

**Limitations**

* A trace of format version 1 has no areas. What grew is unknown there, the steps are not.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from sqlstable.analysis.trace_source import TraceSource
from sqlstable.errors import TraceError
from sqlstable.ic.accesses import Accesses
from sqlstable.ic.units import WASM_PAGE_BYTES
from sqlstable.ic.words import GROW, MessageKind
from sqlstable.trace.model import Message, StableArea

DATABASE_KIND: Final = "database"

UNCLAIMED: Final = "(nobody's)"
"""Name of stable memory that no area has: grown, but not handed to any file."""
UNCLAIMED_KIND: Final = "unclaimed"

_EMPTYING_KINDS: Final[tuple[MessageKind, ...]] = ("reinstall", "uninstall")
"""Kinds of message from which stable memory starts anew; loading a snapshot sets its size."""


@dataclass(frozen=True, slots=True)
class Filling:
    """What fills one area; the four add up to what is allocated to it."""

    data_bytes: int
    "Bytes of the file in use; in a database all SQLite pages but the free ones."
    free_bytes: int
    "Bytes of free SQLite pages: the next rows go there, VACUUM cuts them off the file."
    rounding_bytes: int
    "The rest of the last bucket that the file reaches; without buckets, of the last Wasm page."
    unused_bytes: int
    """Whole buckets, or Wasm pages, beyond: the file reached there once, or was given them ahead.
    Stable memory cannot shrink, so they stay the file's own."""


@dataclass(frozen=True, slots=True)
class GrowthPart:
    """One part of stable memory."""

    name: str
    "Name of a file, or of one of the parts of the main database."
    kind: str
    """data, free SQLite pages, bucket rounding, Wasm page rounding, unused; journal, wal, file
    directory, database, other memory, memory manager; or unclaimed."""
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Growth:
    """What stable memory consists of."""

    message: int
    "Index of the message at whose end this was so; -1 before the first."
    stable_bytes: int
    "Size of stable memory."
    areas: tuple[StableArea, ...]
    "Who has what of it, the main database first."

    @property
    def main(self) -> StableArea | None:
        """The main database."""
        first = self.areas[0] if self.areas else None
        return first if first is not None and first.kind == DATABASE_KIND else None

    @property
    def unclaimed_bytes(self) -> int:
        """Bytes of stable memory that no area has."""
        return self.stable_bytes - sum(area.allocated_bytes for area in self.areas)

    @property
    def parts(self) -> tuple[GrowthPart, ...]:
        """The main database cut up, every other file whole, and what is nobody's.

        Those of the main database are always there, others where they are not empty. They add up
        to ``stable_bytes``.
        """
        main = self.main
        others = self.areas if main is None else self.areas[1:]
        parts = [] if main is None else _main_parts(main)
        parts += [GrowthPart(area.name, area.kind, area.allocated_bytes) for area in others]
        parts.append(GrowthPart(UNCLAIMED, UNCLAIMED_KIND, self.unclaimed_bytes))
        known = 0 if main is None else 3
        return (*parts[:known], *(part for part in parts[known:] if part.size_bytes))


@dataclass(frozen=True, slots=True)
class GrowthStep:
    """One message that changed the size of stable memory."""

    message: int
    "Index of the message."
    before_bytes: int
    after_bytes: int
    areas: tuple[GrowthPart, ...]
    """By how much each area grew, the most first; those that did not are left out. Empty where
    the trace does not say, as in format version 1."""

    @property
    def grown_bytes(self) -> int:
        """Bytes that stable memory grew by; negative where a snapshot was loaded that has less."""
        return self.after_bytes - self.before_bytes


def filling(area: StableArea) -> Filling:
    """Return what fills an area.

    Examples:
        >>> bucket = 128 * 65_536
        >>> area = StableArea(
        ...     message=0, name="main.db", kind="database", memory_id=120,
        ...     allocated_bytes=2 * bucket, unit_bytes=bucket, size_bytes=2 * bucket,
        ...     used_bytes=10 * 4096, free_bytes=4096,
        ... )
        >>> filling(area)
        Filling(data_bytes=36864, free_bytes=4096, rounding_bytes=8347648, unused_bytes=8388608)
    """
    rounding = min(-area.used_bytes % area.unit_bytes, area.allocated_bytes - area.used_bytes)
    return Filling(
        data_bytes=area.used_bytes - area.free_bytes,
        free_bytes=area.free_bytes,
        rounding_bytes=rounding,
        unused_bytes=area.allocated_bytes - area.used_bytes - rounding,
    )


def growth_at_end(trace: TraceSource) -> Growth | None:
    """Return what stable memory consists of when the trace ends; None where it does not say.

    A trace whose run was cut off says it for the last message that changed its size.

    Raises:
        TraceError: The areas of the trace contradict its messages.
    """
    listings = _listings(trace.areas)
    if not listings:
        return None
    return _growth(trace, max(listings), listings)


def growth_steps(trace: TraceSource) -> Mapping[int, GrowthStep]:
    """Return the messages that changed the size of stable memory, by their indexes.

    Raises:
        TraceError: The areas of the trace contradict its messages.
    """
    listings = _listings(trace.areas)
    steps: dict[int, GrowthStep] = {}
    size_bytes: int | None = None
    known: Growth | None = None
    for message in trace.messages:
        if message.kind in _EMPTYING_KINDS:
            size_bytes, known = 0, None
        if size_bytes is None:
            size_bytes = _bytes_before_first(trace, message)
        is_listed = message.index in listings
        now = _growth(trace, message.index, listings) if is_listed else None
        if message.image_bytes != size_bytes:
            # Without a listing before, all of it is new only where there was nothing at all.
            is_known = is_listed and (known is not None or size_bytes == 0)
            areas = _differences(known, now) if is_known else ()
            steps[message.index] = GrowthStep(message.index, size_bytes, message.image_bytes, areas)
        if is_listed or message.image_bytes != size_bytes:
            known = now
        size_bytes = message.image_bytes
    return steps


def _main_parts(main: StableArea) -> list[GrowthPart]:
    filled = filling(main)
    unit = "Wasm page" if main.memory_id is None else "bucket"
    return [
        GrowthPart("data", "data", filled.data_bytes),
        GrowthPart("free SQLite pages", "free SQLite pages", filled.free_bytes),
        GrowthPart(f"{unit} rounding", f"{unit} rounding", filled.rounding_bytes),
        GrowthPart("unused behind the database", "unused", filled.unused_bytes),
    ]


def _listings(areas: Iterable[StableArea]) -> dict[int, tuple[StableArea, ...]]:
    """Return the areas by the message at whose end they were so."""
    return {message: tuple(listed) for message, listed in groupby(areas, lambda area: area.message)}


def _growth(
    trace: TraceSource, message: int, listings: Mapping[int, tuple[StableArea, ...]]
) -> Growth:
    growth = Growth(message, _image_bytes(trace.messages, message), listings[message])
    if growth.unclaimed_bytes < 0:
        raise TraceError(
            f"the trace is damaged: after message {message} stable memory has "
            f"{growth.stable_bytes} bytes, and its areas have "
            f"{growth.stable_bytes - growth.unclaimed_bytes}; record it again"
        )
    return growth


def _image_bytes(messages: Sequence[Message], index: int) -> int:
    if not 0 <= index < len(messages):
        raise TraceError(
            f"the trace is damaged: it says what stable memory consists of after message {index}, "
            f"and has {len(messages)} messages; record it again"
        )
    return messages[index].image_bytes


def _bytes_before_first(trace: TraceSource, first: Message) -> int:
    """Return how large stable memory was before the first message: less by what that one grew."""
    if first.stable.calls.grow == 0:
        return first.image_bytes
    parts = [trace.accesses(trace.statements[index]) for index in first.statements]
    parts += [accesses for _, accesses in trace.outside_accesses(first)]
    grown = sum(_grown_wasm_pages(part) for part in parts)
    return max(first.image_bytes - grown * WASM_PAGE_BYTES, 0)


def _grown_wasm_pages(accesses: Accesses) -> int:
    import numpy as np  # noqa: PLC0415  numbers need no arrays

    return int(np.sum(accesses.length[accesses.kind == GROW]))


def _differences(before: Growth | None, after: Growth | None) -> tuple[GrowthPart, ...]:
    sizes_before, sizes = _sizes(before), _sizes(after)
    parts = [
        GrowthPart(name, kind, sizes.get((name, kind), 0) - sizes_before.get((name, kind), 0))
        for name, kind in dict.fromkeys([*sizes, *sizes_before])
    ]
    changed = [part for part in parts if part.size_bytes]
    return tuple(sorted(changed, key=lambda part: -part.size_bytes))


def _sizes(growth: Growth | None) -> dict[tuple[str, str], int]:
    if growth is None:
        return {}
    sizes: dict[tuple[str, str], int] = {(UNCLAIMED, UNCLAIMED_KIND): growth.unclaimed_bytes}
    for area in growth.areas:
        key = (area.name, area.kind)
        sizes[key] = sizes.get(key, 0) + area.allocated_bytes
    return sizes
