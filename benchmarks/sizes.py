"""Whether commit and rollback depend on how large the image is, or only on what is dirty.

Images are sparse: most of their bytes were never written, and cost nothing. Two doors are measured:
``memory`` is `StableMemory` alone, with k dirty OS pages anywhere in it; ``canister`` is a message
of `Canister` that has changed k rows, one on each SQLite page, in a database whose header states
the full size. A rollback of the canister includes opening the database again in the next message.

The median of many messages counts: what happens to a few, such as giving back staged memory once in
64 MiB of it, does not show.
"""

import random
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from benchmarks.measure import exponent, interleaved_minima
from sqlstable import Canister, StableMemory, Trap
from sqlstable.ic.units import GIB, MIB, OS_PAGE_BYTES, WASM_PAGE_BYTES

SIZES_BYTES: Final = (20 * MIB, 200 * MIB, 2 * GIB, 20 * GIB)
DIRTY_COUNTS: Final = (1, 10, 100)
DOORS: Final = ("memory", "canister")
ENDS: Final = ("commit", "rollback")

SQLITE_PAGE_BYTES: Final = 4096
SQLITE_PAGE_COUNT_OFFSET: Final = 28
_BODY_BYTES: Final = 3500
assert SQLITE_PAGE_BYTES // 2 < _BODY_BYTES < SQLITE_PAGE_BYTES, "one row fills one SQLite page"

_UPDATE: Final = "UPDATE filler SET body = randomblob(?) WHERE id <= ?"


@dataclass(frozen=True, slots=True)
class SizeResult:
    """Seconds of one end of a message, for one number of dirty OS pages."""

    door: str
    end: str
    dirty_count: int
    seconds: tuple[float, ...]
    "One for each of `SIZES_BYTES`."

    @property
    def exponent(self) -> float:
        """How the cost grows with the image: 0 for not at all, 1 for in proportion."""
        return exponent(SIZES_BYTES, self.seconds)


def measure_sizes(*, runs: int, quick: bool) -> list[SizeResult]:
    """Return the cost of commit and rollback for each door and number of dirty OS pages."""
    results = []
    for door, make in (("memory", _memory_ends), ("canister", _canister_ends)):
        for dirty_count in DIRTY_COUNTS:
            with make() as ends:
                minima = _minima(ends, dirty_count, runs=runs, quick=quick)
            results += [
                SizeResult(door, end, dirty_count, tuple(minima[end, s] for s in SIZES_BYTES))
                for end in ENDS
            ]
    return results


End = Callable[[int], float]
"""Dirties so many OS pages in a new message, ends it, and returns the seconds of the end."""


def _minima(
    ends: dict[tuple[str, int], End], dirty_count: int, *, runs: int, quick: bool
) -> dict[tuple[str, int], float]:
    messages = 10 if quick else 200

    def batch(end: End) -> Callable[[], float]:
        return lambda: statistics.median(end(dirty_count) for _ in range(messages))

    actions = {key: batch(end) for key, end in ends.items()}
    return interleaved_minima(actions, runs=runs)


# -- StableMemory alone ---------------------------------------------------------------------------


@contextmanager
def _memory_ends() -> Iterator[dict[tuple[str, int], End]]:
    memories = {size: _sparse_memory(size) for size in SIZES_BYTES}
    yield {
        (name, size): _memory_end(memory, getattr(memory, name))
        for size, memory in memories.items()
        for name in ENDS
    }
    for memory in memories.values():
        memory.close()


def _sparse_memory(size_bytes: int) -> StableMemory:
    memory = StableMemory()
    memory.grow(size_bytes // WASM_PAGE_BYTES)
    return memory


def _memory_end(memory: StableMemory, finish: Callable[[], None]) -> End:
    draw = random.Random(2)
    os_page_count = memory.wasm_pages * WASM_PAGE_BYTES // OS_PAGE_BYTES
    # The same OS pages each time: filling a hole is the system's cost, and is paid once.
    places = [
        os_page * OS_PAGE_BYTES for os_page in draw.sample(range(os_page_count), max(DIRTY_COUNTS))
    ]
    data = draw.randbytes(OS_PAGE_BYTES)
    memory.begin("update")
    for place in places:
        memory.write(place, data)
    memory.commit()

    def end(dirty_count: int) -> float:
        memory.begin("update")
        for place in places[:dirty_count]:
            memory.write(place, data)
        start = time.perf_counter()
        finish()
        return time.perf_counter() - start

    return end


# -- a canister -----------------------------------------------------------------------------------


@contextmanager
def _canister_ends() -> Iterator[dict[tuple[str, int], End]]:
    canisters = {size: _sparse_canister(size) for size in SIZES_BYTES}
    yield {
        (name, size): make(canister)
        for size, canister in canisters.items()
        for name, make in (("commit", _canister_commit), ("rollback", _canister_rollback))
    }
    for canister in canisters.values():
        canister.close()


def _sparse_canister(size_bytes: int) -> Canister:
    """Return a canister whose database states so many bytes, most of which were never written."""
    canister = Canister(depth="pages")
    with canister.message("update") as message:
        message.execute("CREATE TABLE filler (id INTEGER PRIMARY KEY, body BLOB)")
        for _ in range(max(DIRTY_COUNTS)):
            message.execute("INSERT INTO filler (body) VALUES (zeroblob(?))", (_BODY_BYTES,))
    count = (size_bytes // SQLITE_PAGE_BYTES).to_bytes(4, "big")
    with canister.memory.message("upgrade"):
        assert canister.vfs.store.placement.grow_to(size_bytes)
        canister.vfs.store.write_direct(count, SQLITE_PAGE_COUNT_OFFSET)
    canister.upgrade()
    assert canister.status().database_size_bytes == size_bytes
    return canister


def _canister_commit(canister: Canister) -> End:
    def end(dirty_count: int) -> float:
        with canister.message("update") as message:
            message.execute(_UPDATE, (_BODY_BYTES, dirty_count))
            start = time.perf_counter()
        return time.perf_counter() - start

    return end


def _canister_rollback(canister: Canister) -> End:
    def end(dirty_count: int) -> float:
        start = 0.0
        try:
            with canister.message("update") as message:
                message.execute(_UPDATE, (_BODY_BYTES, dirty_count))
                start = time.perf_counter()
                message.trap("rolled back")
        except Trap:
            pass
        with canister.message("update"):
            pass
        return time.perf_counter() - start

    return end
