"""A message costs what it touches, not what the memory holds: proved by counting, never by timing.

The same messages run over 20 MiB and over 20 GiB. A wrapped backing counts the bytes that move, and
wrapped marks count the bytemap's cells that are looked at or set.
"""

import random
from types import SimpleNamespace

import numpy as np
import pytest

from sqlstable.ic.units import GIB, MIB, OS_PAGE_BYTES, WASM_PAGE_BYTES
from sqlstable.memory import bytemap as bytemap_module
from sqlstable.memory.backing import ChunkBacking, reserve
from sqlstable.memory.bytemap import Bytemap
from sqlstable.memory.stable import StableMemory

SMALL, LARGE = 20 * MIB, 20 * GIB
COUNTS = (1, 10, 63, 64, 65, 500)
"""OS pages touched: both sides of every threshold behind which another way is taken."""


class CountingBacking:
    """A backing that counts the bytes read from it and written to it, and the calls to discard."""

    def __init__(self, inner):
        self.inner = inner
        self.moved = {"read": 0, "written": 0, "discards": 0}

    @property
    def flat(self):
        return self.inner.flat

    def read(self, address, length):
        self.moved["read"] += length
        return self.inner.read(address, length)

    def write(self, address, data):
        self.moved["written"] += len(data)
        self.inner.write(address, data)

    def discard(self, address, length):
        self.moved["discards"] += 1
        self.inner.discard(address, length)

    def empty(self):
        return CountingBacking(self.inner.empty())

    def close(self):
        self.inner.close()


def counted_memory(size_bytes, kind):
    inner = ChunkBacking() if kind == "chunks" else reserve(size_bytes)
    memory = StableMemory(limits=None, backing=CountingBacking(inner))
    memory.grow(size_bytes // WASM_PAGE_BYTES)
    return memory


def take_moved(memory):
    """Return what has moved since the last call: in the committed backing, in the staging one."""
    moved = memory.backing.moved, memory.staging.moved
    zero = {"read": 0, "written": 0, "discards": 0}
    memory.backing.moved, memory.staging.moved = dict(zero), dict(zero)
    return moved


def scattered(count, size_bytes):
    """OS pages that lie as far apart as the memory is large, a third of them with a neighbour."""
    singles = random.Random(count).sample(
        range(0, size_bytes // OS_PAGE_BYTES, 2), count - count // 3
    )
    return singles + [index + 1 for index in singles[: count // 3]]


def messages(size_bytes, kind, indexes):
    """Run one message of each kind; yield what each of their steps moved."""
    memory = counted_memory(size_bytes, kind)
    yield take_moved(memory)
    for ending in ("commit", "rollback", "commit"):
        memory.begin("update")
        yield take_moved(memory)
        for index in indexes:
            memory.read(index * OS_PAGE_BYTES + 7, 5)
        yield take_moved(memory)
        for index in indexes:
            memory.write(index * OS_PAGE_BYTES + 7, b"12345")
        yield take_moved(memory)
        getattr(memory, ending)()
        yield take_moved(memory)
    memory.close()


@pytest.mark.parametrize("kind", ["reserved", "chunks"])
@pytest.mark.parametrize("count", COUNTS)
def test_message_moves_the_same_bytes_whatever_the_memory_holds(kind, count):
    near = scattered(count, SMALL)
    far = scattered(count, LARGE)
    small = list(messages(SMALL, kind, near))
    assert list(messages(LARGE, kind, near)) == small
    assert list(messages(LARGE, kind, far)) == small


@pytest.mark.parametrize("size_bytes", [SMALL, LARGE])
@pytest.mark.parametrize("count", COUNTS)
def test_commit_moves_the_dirty_os_pages_once_and_rollback_nothing(size_bytes, count):
    indexes = scattered(count, size_bytes)
    steps = list(messages(size_bytes, "reserved", indexes))
    nothing = {"read": 0, "written": 0, "discards": 0}
    dirty_bytes = len(set(indexes)) * OS_PAGE_BYTES
    made, *rest = steps
    assert made == (nothing, nothing)
    for begun, read, written, ended, ending in zip(
        rest[0::4],
        rest[1::4],
        rest[2::4],
        rest[3::4],
        ("commit", "rollback", "commit"),
        strict=True,
    ):
        assert begun == (nothing, nothing)
        assert read == ({**nothing, "read": 5 * count}, nothing)
        # The rest of an OS page written in part is staged with it.
        staged = {**nothing, "written": dirty_bytes + 5 * count}
        assert written == ({**nothing, "read": dirty_bytes}, staged)
        if ending == "rollback":
            assert ended == (nothing, nothing)
        else:
            committed = {**nothing, "written": dirty_bytes}
            assert ended == (committed, {**nothing, "read": dirty_bytes})


@pytest.mark.parametrize(
    ("offset", "length", "os_pages_covered_in_part"),
    [
        (0, OS_PAGE_BYTES, 0),
        (OS_PAGE_BYTES, 3 * OS_PAGE_BYTES, 0),
        (7, 3 * OS_PAGE_BYTES, 2),
        (0, 3 * OS_PAGE_BYTES - 1, 1),
        (1, 3 * OS_PAGE_BYTES - 1, 1),
        (7, 100, 1),
    ],
)
def test_only_os_pages_covered_in_part_are_read_to_be_staged(
    offset, length, os_pages_covered_in_part
):
    memory = counted_memory(SMALL, "reserved")
    memory.begin("update")
    for expected in (os_pages_covered_in_part, 0):
        take_moved(memory)
        memory.write(offset, bytes(length))
        assert take_moved(memory)[0]["read"] == expected * OS_PAGE_BYTES
    memory.rollback()
    memory.close()


@pytest.mark.parametrize("ending", ["commit", "rollback"])
@pytest.mark.parametrize("growth_bytes", [SMALL, LARGE])
def test_growth_moves_nothing(ending, growth_bytes):
    memory = counted_memory(MIB, "chunks")
    memory.begin("update")
    memory.grow(growth_bytes // WASM_PAGE_BYTES)
    getattr(memory, ending)()
    nothing = {"read": 0, "written": 0, "discards": 0}
    assert take_moved(memory) == (nothing, nothing)


@pytest.mark.parametrize("size_bytes", [SMALL, LARGE])
def test_message_without_accesses_moves_nothing(size_bytes):
    memory = counted_memory(size_bytes, "reserved")
    for kind in ("update", "query"):
        with memory.message(kind):
            memory.size()
    nothing = {"read": 0, "written": 0, "discards": 0}
    assert take_moved(memory) == (nothing, nothing)
    memory.close()


# --- The bytemap


class CountingMarks:
    """A bytemap's cells that count how many of them are looked at or set."""

    def __init__(self, marks):
        self.marks = marks
        self.cells = 0

    def __getitem__(self, key):
        self.cells += self._width(key)
        return self.marks[key]

    def __setitem__(self, key, value):
        self.cells += self._width(key)
        self.marks[key] = value

    def __len__(self):
        return len(self.marks)

    def _width(self, key):
        return len(range(*key.indices(len(self.marks)))) if isinstance(key, slice) else 1


class CountingArray:
    """What numpy makes of those cells: it may only be indexed, and that counts too."""

    def __init__(self, marks):
        self.marks = marks
        self.array = np.frombuffer(marks.marks, dtype=np.uint8)

    def __setitem__(self, indexes, value):
        self.marks.cells += indexes.size
        self.array[indexes] = value


def counting_numpy():
    def frombuffer(source, dtype):
        if isinstance(source, CountingMarks):
            return CountingArray(source)
        return np.frombuffer(source, dtype=dtype)

    return SimpleNamespace(**{**vars(np), "frombuffer": frombuffer})


def cells_of_a_message(flat_os_pages, mark, indexes):
    """Return the cells used while OS pages are marked, and while the marks are cleared."""
    bytemap = Bytemap(flat_os_pages)
    bytemap.begin(None, "update")
    bytemap.marks = marks = CountingMarks(bytemap.marks)
    for index in indexes:
        mark(bytemap, index)
    marked, marks.cells = marks.cells, 0
    assert sorted(bytemap.accessed) == sorted(indexes)
    bytemap.clear()
    assert bytemap.accessed == bytemap.dirty == []
    assert bytemap.far_marks == {}
    assert not any(bytemap.mark(index) for index in indexes)
    cleared = marks.cells - sum(index < flat_os_pages for index in indexes)
    bytemap.marks = marks.marks
    bytemap.close()
    return marked, cleared


MARKS = {
    "first_read": lambda bytemap, index: bytemap.first_read(index),
    "first_write": lambda bytemap, index: bytemap.first_write(index),
    "touch": lambda bytemap, index: bytemap.touch(range(index, index + 1), write=True),
}


@pytest.mark.parametrize("mark", MARKS.values(), ids=MARKS)
@pytest.mark.parametrize("count", COUNTS)
def test_clearing_the_bytemap_costs_the_touched_cells_only(monkeypatch, mark, count):
    monkeypatch.setattr(bytemap_module, "np", counting_numpy())
    small_os_pages, large_os_pages = SMALL // OS_PAGE_BYTES, LARGE // OS_PAGE_BYTES
    near, far = scattered(count, SMALL), scattered(count, LARGE)
    marked, cleared = cells_of_a_message(small_os_pages, mark, near)
    assert cleared == count
    assert marked <= 2 * count
    assert cells_of_a_message(large_os_pages, mark, near) == (marked, cleared)
    assert cells_of_a_message(large_os_pages, mark, far) == (marked, cleared)


@pytest.mark.parametrize("count", COUNTS)
def test_clearing_marks_beyond_the_flat_part_touches_no_flat_cell(monkeypatch, count):
    monkeypatch.setattr(bytemap_module, "np", counting_numpy())
    beyond = [index + (1 << 50) for index in range(count)]
    assert cells_of_a_message(1000, MARKS["first_write"], beyond) == (0, 0)
    both = [*range(count), *beyond]
    assert cells_of_a_message(1000, MARKS["first_write"], both)[1] == count
