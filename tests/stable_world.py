"""Backings, memories and witnesses for the tests of stable memory."""

import random
import sys
from contextlib import contextmanager
from dataclasses import replace

import pytest

from sqlstable.errors import (
    OutOfBoundsTrap,
)
from sqlstable.ic.limits import latest_limits
from sqlstable.ic.units import OS_PAGE_BYTES, WASM_PAGE_BYTES
from sqlstable.memory.backing import ChunkBacking, MappedBacking, TieredBacking
from sqlstable.memory.stable import StableMemory

LATEST = latest_limits()
KINDS = ("update", "query", "upgrade", "install", "reinstall")
BORDER = 2 * WASM_PAGE_BYTES
"""Where the tiered backing of these tests passes from map to chunks."""

BACKINGS = {
    "mapped": lambda: MappedBacking(64 * WASM_PAGE_BYTES),
    "chunks": ChunkBacking,
    "tiered": lambda: TieredBacking(MappedBacking(BORDER), ChunkBacking(), near_bytes=BORDER),
}
NEEDS_LINUX = pytest.mark.skipif(
    sys.platform != "linux", reason="sparse anonymous maps are used on Linux only"
)


@pytest.fixture(
    name="memory",
    params=[
        "chunks",
        pytest.param("mapped", marks=NEEDS_LINUX),
        pytest.param("tiered", marks=NEEDS_LINUX),
    ],
)
def memory_fixture(request):
    """Four empty Wasm pages over each backing."""
    memory = StableMemory(backing=BACKINGS[request.param]())
    memory.grow(4)
    yield memory
    memory.close()


def small_limits(**kinds):
    """Today's limits with other numbers for some kinds: (accessed, dirty) OS pages."""
    changed = {
        kind: replace(
            getattr(LATEST, kind), os_pages_accessed_max=accessed, os_pages_dirty_max=dirty
        )
        for kind, (accessed, dirty) in kinds.items()
    }
    return replace(LATEST, **changed)


def limited_memory(wasm_pages=4, **kinds):
    memory = StableMemory(limits=small_limits(**kinds), backing=ChunkBacking())
    memory.grow(wasm_pages)
    return memory


def filled(memory, seed=0):
    """Give every byte of the memory a value, outside of any message; return them."""
    length = memory.wasm_pages * WASM_PAGE_BYTES
    data = random.Random(seed).randbytes(length)
    memory.write(0, data)
    return data


def os_page_at(index):
    return index * OS_PAGE_BYTES


def touched(memory):
    return sorted(memory.bytemap.accessed), sorted(memory.bytemap.dirty)


class Witness:
    """A watcher that writes down what it is told, and how the memory looks at that moment."""

    def __init__(self, memory):
        self.memory = memory
        self.events = []
        self.seen = []
        memory.watchers.append(self)

    def on_trap(self):
        self._note("trap")

    def on_rollback(self):
        self._note("rollback")

    def on_end(self):
        self._note("end")

    def _note(self, event):
        memory = self.memory
        self.events.append(event)
        first = memory.peek(0, 1) if memory.wasm_pages else b""
        self.seen.append((event, memory.kind, memory.trap is not None, memory.wasm_pages, first))


@contextmanager
def trapped(memory, kind="update"):
    """Run a block in a message that has trapped, its caller having swallowed the exception."""
    memory.begin(kind)
    with pytest.raises(OutOfBoundsTrap) as caught:
        memory.read(memory.wasm_pages * WASM_PAGE_BYTES, 1)
    yield caught.value
    memory.rollback()
