"""Memories that show what a manager does to them, and the vectors of the Rust crate."""

import struct

import numpy as np
import pytest

from sqlstable.errors import (
    Trap,
)
from sqlstable.ic.units import WASM_PAGE_BYTES, os_pages_spanned
from sqlstable.memory.manager import (
    MEMORIES_MAX,
    MemoryManager,
)

TABLE_END = 2080 + 32_768


class LoggedMemory:
    """A growing bytearray with hard bounds that logs each call as the vectors do."""

    def __init__(self, data=b"", *, wasm_pages_max=2**32):
        self.data = bytearray(data)
        self.log = []
        self.wasm_pages_max = wasm_pages_max
        self.calls_left = None

    def size(self):
        self._record("s", 0, 0)
        return len(self.data) // WASM_PAGE_BYTES

    def grow(self, wasm_pages):
        self._record("g", wasm_pages, 0)
        before = len(self.data) // WASM_PAGE_BYTES
        if before + wasm_pages > self.wasm_pages_max:
            return -1
        self.data.extend(bytes(wasm_pages * WASM_PAGE_BYTES))
        return before

    def read(self, offset, length):
        self._record("r", offset, length)
        return self.peek(offset, length)

    def write(self, offset, data):
        self._record("w", offset, len(data))
        assert 0 <= offset <= offset + len(data) <= len(self.data)
        self.data[offset : offset + len(data)] = data

    def peek(self, offset, length):
        assert 0 <= offset <= offset + length <= len(self.data)
        return bytes(self.data[offset : offset + length])

    def take_log(self):
        log, self.log = self.log, []
        return log

    def _record(self, *call):
        if self.calls_left == 0:
            raise Trap("fault: no calls left")
        if self.calls_left is not None:
            self.calls_left -= 1
        self.log.append(list(call))


class SparseMemory:
    """A memory of any size that holds only the Wasm pages written to."""

    def __init__(self):
        self.wasm_pages = {}
        self.size_wasm_pages = 0
        self.os_pages_dirty = set()

    def size(self):
        return self.size_wasm_pages

    def grow(self, wasm_pages):
        self.size_wasm_pages += wasm_pages
        return self.size_wasm_pages - wasm_pages

    def read(self, offset, length):
        assert 0 <= offset <= offset + length <= self.size_wasm_pages * WASM_PAGE_BYTES
        blank = bytes(WASM_PAGE_BYTES)
        return b"".join(
            bytes(self.wasm_pages.get(index, blank)[start:stop])
            for index, start, stop in self._pieces(offset, length)
        )

    def write(self, offset, data):
        assert 0 <= offset <= offset + len(data) <= self.size_wasm_pages * WASM_PAGE_BYTES
        self.os_pages_dirty.update(os_pages_spanned(offset, len(data)))
        rest = memoryview(data)
        for index, start, stop in self._pieces(offset, len(data)):
            wasm_page = self.wasm_pages.setdefault(index, bytearray(WASM_PAGE_BYTES))
            wasm_page[start:stop] = rest[: stop - start]
            rest = rest[stop - start :]

    def _pieces(self, offset, length):
        while length:
            index, start = divmod(offset, WASM_PAGE_BYTES)
            count = min(WASM_PAGE_BYTES - start, length)
            yield index, start, start + count
            offset, length = offset + count, length - count


def pattern(length, seed):
    index = np.arange(length, dtype=np.uint64)
    return ((131 * seed + 17 * index + 29 * (index >> np.uint64(8))) % 256).astype("u1").tobytes()


def content(manager, memory_id):
    memory = manager.get(memory_id)
    return memory.read(0, memory.size() * WASM_PAGE_BYTES)


def state(manager):
    """Everything a manager says about itself."""
    return (
        manager.bucket_wasm_pages,
        manager.owners(),
        dict(manager.sizes()),
        [manager.buckets(memory_id) for memory_id in range(MEMORIES_MAX)],
    )


def image(
    *,
    magic=b"MGR",
    version=1,
    allocated=0,
    bucket_wasm_pages=1,
    sizes=(),
    owners=b"",
    wasm_pages=None,
    byte_order="<",
):
    """A managed memory written out from the documented layout, field by field."""
    size_list = [dict(sizes).get(memory_id, 0) for memory_id in range(255)]
    front = magic + struct.pack(f"{byte_order}BHH", version, allocated, bucket_wasm_pages)
    front += bytes(32) + struct.pack(f"{byte_order}255Q", *size_list)
    front += owners + b"\xff" * (32_768 - len(owners))
    assert len(front) == TABLE_END
    if wasm_pages is None:
        wasm_pages = 1 + allocated * bucket_wasm_pages
    return front + bytes(wasm_pages * WASM_PAGE_BYTES - len(front))


@pytest.fixture(name="memory")
def memory_fixture():
    return LoggedMemory()


@pytest.fixture(name="manager")
def manager_fixture(memory):
    manager = MemoryManager(memory, bucket_wasm_pages=2)
    memory.take_log()
    return manager


SQLITE_MAGIC = b"SQLite format 3\0"
