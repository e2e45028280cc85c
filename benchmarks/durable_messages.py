"""What one durable message costs at the lowest door, and what its bytes cost at the least.

A message writes k whole OS pages at random places of a sparse image of 1 GiB, and commits; the
places are the same each time, so that no hole is filled while the clock runs.

===================  ===============================================================================
``in memory``        `StableMemory` without a file
``process``          an image file; an answered message survives the end of the process
``power``            the same, flushed before it is answered
``floor, process``   the same bytes moved by bare calls: copies into a map, a CRC-32 over them, one
                     ``pwritev`` to a log, one ``pwrite`` into the image per OS page; no marks, no
                     limits, no record that anybody could read, nothing checked
``floor, power``     the same with ``fdatasync`` of the log, and of the image once in 64 MiB of log
===================  ===============================================================================
"""

import gc
import mmap
import os
import random
import statistics
import time
import zlib
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, TypeVar

from sqlstable import StableMemory
from sqlstable.ic.units import GIB, OS_PAGE_BYTES, WASM_PAGE_BYTES
from sqlstable.memory.image.commitlog import RECORDS_OFFSET, next_record_offset
from sqlstable.memory.image.durable import CHECKPOINT_BYTES

IMAGE_BYTES: Final = GIB
DIRTY_COUNTS: Final = (1, 10, 100)

IN_MEMORY: Final = "in memory"
PROCESS: Final = "process"
POWER: Final = "power"
FLOOR: Final = "floor, process"
FLUSHED_FLOOR: Final = "floor, power"
SUBJECTS: Final = (IN_MEMORY, PROCESS, POWER, FLOOR, FLUSHED_FLOOR)
FLUSHED: Final = frozenset({POWER, FLUSHED_FLOOR})

TOUCH: Final = "touch"
ROLLBACK: Final = "rollback"

_HEAD: Final = bytes(200)


@dataclass(frozen=True, slots=True)
class Samples:
    """Seconds of single messages, in rounds.

    Examples:
        >>> samples = Samples(((1.0, 3.0), (2.0, 6.0)))
        >>> samples.minimum, samples.median, samples.mean
        (1.0, 2.5, 3.0)
        >>> Samples(((2.0,), (4.0,), (90.0,))).ratio(Samples(((1.0,), (2.0,), (3.0,))))
        2.0
    """

    rounds: tuple[tuple[float, ...], ...]

    @property
    def minimum(self) -> float:
        """The quickest message."""
        return min(map(min, self.rounds))

    @property
    def median(self) -> float:
        """The typical message: what happens to a few does not show."""
        return statistics.median(second for part in self.rounds for second in part)

    @property
    def mean(self) -> float:
        """What a message costs in the long run, checkpoints included."""
        return statistics.fmean(second for part in self.rounds for second in part)

    def ratio(self, other: "Samples") -> float:
        """Return mean by mean: the median of what the rounds give.

        Both ran in each round one right after the other, so a round in which the machine was busy
        with something else counts as one, however long it took.
        """
        return statistics.median(
            sum(ours) / len(ours) * len(theirs) / sum(theirs)
            for ours, theirs in zip(self.rounds, other.rounds, strict=True)
        )

    def median_ratio(self, other: "Samples") -> float:
        """Return typical message by typical message: checkpoints do not show."""
        return self.median / other.median


Key = TypeVar("Key", bound=Hashable)
Batch = Callable[[], tuple[float, ...]]
"""Sends some messages, and returns the seconds of each."""


def interleaved_samples(batches: Mapping[Key, Batch], *, rounds: int) -> dict[Key, Samples]:
    """Run all batches round by round, each round beginning with another one."""
    keys = list(batches)
    found: dict[Key, list[tuple[float, ...]]] = {key: [] for key in keys}
    for number in range(rounds):
        first = number % len(keys)
        for key in keys[first:] + keys[:first]:
            # What is there already is hidden from the collector: only new objects cost.
            gc.collect()
            gc.freeze()
            found[key].append(batches[key]())
            gc.unfreeze()
    return {key: Samples(tuple(parts)) for key, parts in found.items()}


T = TypeVar("T")


def seconds_of_each(action: Callable[[T], object], arguments: Iterable[T]) -> tuple[float, ...]:
    """Call an action once per argument, and return the seconds of each call by the clock."""
    clock = time.perf_counter
    seconds = []
    for argument in arguments:
        start = clock()
        action(argument)
        seconds.append(clock() - start)
    return tuple(seconds)


class Writer(Protocol):
    """Something that writes OS pages in messages."""

    def send(self, places: Sequence[int]) -> None:
        """Write one OS page to each place, and commit."""
        ...

    def close(self) -> None:
        """Give everything back."""
        ...


class MemoryWriter:
    """Stable memory, in a file or not.

    Args:
        memory: An empty one.
        places: All that will ever be written.
    """

    def __init__(self, memory: StableMemory, places: Sequence[int]) -> None:
        """Grow it, and write everywhere once."""
        self._memory = memory
        self._data = random.Random(2).randbytes(OS_PAGE_BYTES)
        with memory.message():
            assert memory.grow(IMAGE_BYTES // WASM_PAGE_BYTES) == 0
        self.send(places)

    def send(self, places: Sequence[int]) -> None:
        """Send one message."""
        memory, data = self._memory, self._data
        write = memory.write
        memory.begin("update")
        for place in places:
            write(place, data)
        memory.commit()

    def touch_and_roll_back(self, places: Sequence[int]) -> tuple[float, float]:
        """Return the seconds of writing, begin included, and those of the rollback."""
        memory, data, clock = self._memory, self._data, time.perf_counter
        write = memory.write
        start = clock()
        memory.begin("update")
        for place in places:
            write(place, data)
        written = clock()
        memory.rollback()
        return written - start, clock() - written

    def close(self) -> None:
        """Close the memory."""
        self._memory.close()


class BareWriter:
    """The same bytes moved by bare calls.

    Args:
        folder: Where its two files are made.
        places: All that will ever be written.
        is_flushed: Whether to flush, as ``power`` does.
    """

    def __init__(self, folder: Path, places: Sequence[int], *, is_flushed: bool) -> None:
        """Make both files, and write everywhere once."""
        name = FLUSHED_FLOOR if is_flushed else FLOOR
        self._image, self._log = (
            os.open(folder / f"{name}.{part}", os.O_RDWR | os.O_CREAT | os.O_EXCL)
            for part in ("image", "log")
        )
        os.ftruncate(self._image, IMAGE_BYTES)
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        self._map = mmap.mmap(-1, IMAGE_BYTES, flags=flags)
        self._staged = memoryview(self._map)
        self._data = random.Random(2).randbytes(OS_PAGE_BYTES)
        self._is_flushed = is_flushed
        self._offset = RECORDS_OFFSET
        self.send(places)

    def send(self, places: Sequence[int]) -> None:
        """Move the bytes of one message."""
        staged, data = self._staged, self._data
        for place in places:
            staged[place : place + OS_PAGE_BYTES] = data
        parts = [staged[place : place + OS_PAGE_BYTES] for place in places]
        crc = 0
        for part in parts:
            crc = zlib.crc32(part, crc)
        written = os.pwritev(self._log, [_HEAD, *parts], self._offset)
        if self._is_flushed:
            os.fdatasync(self._log)
            self._offset = next_record_offset(self._offset + written)
        pwrite, image = os.pwrite, self._image
        for place, part in zip(places, parts, strict=True):
            pwrite(image, part, place)
        if self._offset - RECORDS_OFFSET >= CHECKPOINT_BYTES:
            os.fdatasync(image)
            self._offset = RECORDS_OFFSET

    def close(self) -> None:
        """Close both files and the map."""
        self._staged.release()
        self._map.close()
        os.close(self._image)
        os.close(self._log)


@dataclass(frozen=True, slots=True)
class MessageResult:
    """What was measured at the lowest door."""

    commits: dict[tuple[str, int], Samples]
    "By subject and number of dirty OS pages: whole messages, from begin to the end of commit."
    rollbacks: dict[tuple[str, int], Samples]
    "By `TOUCH` or `ROLLBACK` and number of OS pages; image file, level process."

    @property
    def rollback_s(self) -> float:
        """Seconds of a rollback, apart from what was touched."""
        return self._line(ROLLBACK)[0]

    @property
    def rollback_os_page_s(self) -> float:
        """Seconds of a rollback for each OS page that was touched."""
        return self._line(ROLLBACK)[1]

    @property
    def touch_os_page_s(self) -> float:
        """Seconds of touching an OS page."""
        return self._line(TOUCH)[1]

    def _line(self, part: str) -> tuple[float, float]:
        """Return the constant, and what each OS page adds: the line through both ends."""
        few, many = DIRTY_COUNTS[0], DIRTY_COUNTS[-1]
        low, high = self.rollbacks[part, few].median, self.rollbacks[part, many].median
        slope = (high - low) / (many - few)
        return low - slope * few, slope


@dataclass(frozen=True, slots=True)
class MessagePlan:
    """How much is measured.

    Args:
        rounds: Each subject has its turn in each of them.
        os_pages: OS pages that a subject writes in a round, by any number of messages.
        flushed_messages: Messages of a flushing subject in a round.
    """

    rounds: int
    os_pages: int
    flushed_messages: int


FULL: Final = MessagePlan(rounds=10, os_pages=2000, flushed_messages=60)
QUICK: Final = MessagePlan(rounds=2, os_pages=200, flushed_messages=4)


def measure_messages(folder: Path, plan: MessagePlan) -> MessageResult:
    """Measure messages and rollbacks; the files stay in ``folder``."""
    draw = random.Random(1)
    count = max(DIRTY_COUNTS)
    places = [
        os_page * OS_PAGE_BYTES
        for os_page in draw.sample(range(IMAGE_BYTES // OS_PAGE_BYTES), count)
    ]
    process = MemoryWriter(StableMemory.open(folder / "process.stable"), places)
    power_memory = StableMemory.open(folder / "power.stable", durability="power")
    writers: dict[str, Writer] = {
        IN_MEMORY: MemoryWriter(StableMemory(), places),
        PROCESS: process,
        POWER: MemoryWriter(power_memory, places),
        FLOOR: BareWriter(folder, places, is_flushed=False),
        FLUSHED_FLOOR: BareWriter(folder, places, is_flushed=True),
    }
    commits: dict[tuple[str, int], Samples] = {}
    for dirty_count in DIRTY_COUNTS:
        messages = max(plan.os_pages // dirty_count, 1)
        batches = {
            (name, dirty_count): _batch(
                writer,
                places[:dirty_count],
                plan.flushed_messages if name in FLUSHED else messages,
            )
            for name, writer in writers.items()
        }
        commits |= interleaved_samples(batches, rounds=plan.rounds)
    rollbacks = _measure_rollbacks(process, places, plan)
    for writer in writers.values():
        writer.close()
    return MessageResult(commits, rollbacks)


def _batch(writer: Writer, places: Sequence[int], messages: int) -> Batch:
    return lambda: seconds_of_each(writer.send, [places] * messages)


def _measure_rollbacks(
    writer: MemoryWriter, places: Sequence[int], plan: MessagePlan
) -> dict[tuple[str, int], Samples]:
    found: dict[tuple[str, int], list[tuple[float, ...]]] = {}
    for _ in range(plan.rounds):
        for dirty_count in DIRTY_COUNTS:
            messages = max(plan.os_pages // dirty_count, 1)
            pairs = [writer.touch_and_roll_back(places[:dirty_count]) for _ in range(messages)]
            for part, seconds in zip((TOUCH, ROLLBACK), zip(*pairs, strict=True), strict=True):
                found.setdefault((part, dirty_count), []).append(seconds)
    return {key: Samples(tuple(parts)) for key, parts in found.items()}
