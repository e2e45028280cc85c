"""The memory manager across traps and rollbacks, and against a plain model."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from sqlstable.errors import (
    ImageError,
    LimitTrap,
    OutOfBoundsTrap,
    Trap,
)
from sqlstable.ic.units import WASM_PAGE_BYTES
from sqlstable.memory.manager import (
    MemoryManager,
)
from tests.manager_world import (  # noqa: F401  fixtures
    SQLITE_MAGIC,
    LoggedMemory,
    SparseMemory,
    content,
    image,
    manager_fixture,
    memory_fixture,
    pattern,
    state,
)

# --- Traps and rollbacks


def test_memory_that_cannot_grow_for_the_header_traps():
    memory = LoggedMemory(wasm_pages_max=0)
    with pytest.raises(LimitTrap, match="own 2080 bytes at byte 0 need 1 Wasm pages more than the"):
        MemoryManager(memory)
    assert memory.data == b""


def test_failing_grow_below_traps_and_changes_nothing_in_the_manager():
    memory = LoggedMemory(wasm_pages_max=6)
    manager = MemoryManager(memory, bucket_wasm_pages=2)
    manager.get(1).grow(3)
    before, data = state(manager), bytes(memory.data)
    text = r"MemoryId\(1\): grow failed: 4 buckets of 2 Wasm pages need 9 .* the memory below has 5"
    with pytest.raises(LimitTrap, match=text):
        manager.get(1).grow(4)
    assert state(manager) == before
    memory.data[:] = data  # what the rollback of the message does
    assert manager.get(1).grow(1) == 3
    assert state(MemoryManager(memory)) == state(manager)


def test_trap_at_any_call_of_a_grow_leaves_the_manager_as_it_was():
    def prepare():
        memory = LoggedMemory()
        manager = MemoryManager(memory, bucket_wasm_pages=1)
        manager.get(3).grow(1)
        manager.get(4).grow(1)
        memory.take_log()
        return memory, manager

    memory, manager = prepare()
    manager.get(3).grow(2)
    expected, call_count = bytes(memory.data), len(memory.log)
    assert call_count == 9
    for calls_left in range(call_count):
        memory, manager = prepare()
        before, data = state(manager), bytes(memory.data)
        memory.calls_left = calls_left
        with pytest.raises(Trap, match="fault"):
            manager.get(3).grow(2)
        memory.calls_left = None
        assert state(manager) == before
        memory.data[:] = data
        assert manager.get(3).grow(2) == 1
        assert memory.data == expected


def test_reload_reaches_every_handle_and_makes_no_recorded_call(manager, memory):
    virtual, other = manager.get(4), manager.get(5)
    virtual.grow(3)
    virtual.write(0, b"kept")
    before, data = state(manager), bytes(memory.data)
    other.grow(2)
    virtual.grow(5)
    virtual.write(0, b"lost")
    virtual.read(7 * WASM_PAGE_BYTES, 1)
    memory.data[:] = data
    memory.take_log()

    manager.reload(memory.peek, size_wasm_pages=len(data) // WASM_PAGE_BYTES)
    assert memory.take_log() == []
    assert state(manager) == before
    assert (virtual.size(), other.size()) == (3, 0)
    assert virtual.read(0, 4) == b"kept"
    with pytest.raises(OutOfBoundsTrap):
        virtual.read(7 * WASM_PAGE_BYTES, 1)


def test_reload_empties_the_bucket_caches(manager, memory):
    virtual = manager.get(4)
    virtual.grow(1)
    virtual.read(0, 1)
    virtual.read(WASM_PAGE_BYTES, 1)
    manager.reload(memory.peek, size_wasm_pages=3)
    with pytest.raises(OutOfBoundsTrap):
        virtual.read(WASM_PAGE_BYTES, 1)
    memory.take_log()
    virtual.write(0, b"")
    assert memory.take_log() == [["w", 0, 0]]


def test_reload_of_an_empty_memory_starts_over_with_the_next_grow(manager, memory):
    expected_log = [["s", 0, 0], ["g", 1, 0], ["w", 0, 2080], ["s", 0, 0], ["w", 2080, 32_768]]
    expected_log += [["s", 0, 0], ["w", 2080, 1], ["s", 0, 0], ["s", 0, 0], ["g", 2, 0]]
    expected_log += [["s", 0, 0], ["w", 0, 2080]]
    virtual = manager.get(4)
    virtual.grow(7)
    memory.data.clear()
    manager.reload(memory.peek, size_wasm_pages=0)
    assert (virtual.size(), manager.owners(), dict(manager.sizes())) == (0, b"", {})
    assert manager.bucket_wasm_pages == 2
    with pytest.raises(OutOfBoundsTrap):
        virtual.read(0, 1)

    memory.take_log()
    assert virtual.grow(1) == 0
    assert memory.take_log() == expected_log
    fresh = LoggedMemory()
    expected = MemoryManager(fresh, bucket_wasm_pages=2).get(4)
    assert expected.grow(1) == 0
    assert virtual.grow(2) == expected.grow(2) == 1
    assert memory.data == fresh.data


def test_trap_while_starting_over_starts_over_again(manager, memory):
    memory.data.clear()
    manager.reload(memory.peek, size_wasm_pages=0)
    for calls_left in range(12):
        memory.calls_left = calls_left
        with pytest.raises(Trap, match="fault"):
            manager.get(4).grow(1)
        memory.data.clear()
    memory.calls_left = None
    assert manager.get(4).grow(1) == 0
    assert memory.data == image(allocated=1, bucket_wasm_pages=2, sizes={4: 1}, owners=b"\4")


def test_reload_of_overwritten_bytes_needs_the_permission_given_before():
    foreign = SQLITE_MAGIC.ljust(WASM_PAGE_BYTES, b"\0")
    memory = LoggedMemory(foreign)
    manager = MemoryManager(memory, bucket_wasm_pages=1, overwrite=True)
    memory.data[:] = foreign
    manager.reload(memory.peek, size_wasm_pages=1)
    assert manager.get(0).grow(1) == 0
    assert memory.data == image(allocated=1, sizes={0: 1}, owners=b"\0")


@pytest.mark.parametrize("damage", [b"SQL", b"MGR\2"])
def test_failed_reload_changes_nothing(manager, memory, damage):
    manager.get(4).grow(3)
    before = state(manager)
    memory.data[: len(damage)] = damage
    with pytest.raises(ImageError):
        manager.reload(memory.peek, size_wasm_pages=5)
    assert state(manager) == before


# --- A plain model


BUCKET_SIZES = (1, 2, 3, 128)
MEMORY_IDS = (0, 1, 120, 254)
MODEL_BYTES_MAX = 400 * WASM_PAGE_BYTES


class ManagerModel(RuleBasedStateMachine):
    """Random use of four memories beside four bytearrays; reopening may happen at any time."""

    @initialize(bucket_wasm_pages=st.sampled_from(BUCKET_SIZES))
    def make(self, bucket_wasm_pages):
        self.memory = SparseMemory()
        self.manager = MemoryManager(self.memory, bucket_wasm_pages=bucket_wasm_pages)
        self.model = {memory_id: bytearray() for memory_id in MEMORY_IDS}
        self.handles = {memory_id: self.manager.get(memory_id) for memory_id in MEMORY_IDS}

    @rule(memory_id=st.sampled_from(MEMORY_IDS), buckets=st.integers(0, 2), more=st.integers(-1, 2))
    def grow(self, memory_id, buckets, more):
        wasm_pages = max(0, buckets * self.manager.bucket_wasm_pages + more)
        model = self.model[memory_id]
        if len(model) + wasm_pages * WASM_PAGE_BYTES > MODEL_BYTES_MAX:
            return
        assert self.handles[memory_id].grow(wasm_pages) == len(model) // WASM_PAGE_BYTES
        model.extend(bytes(wasm_pages * WASM_PAGE_BYTES))

    @rule(memory_id=st.sampled_from(MEMORY_IDS), data=st.data(), seed=st.integers(0, 255))
    def write(self, memory_id, data, seed):
        offset, length = data.draw(self.ranges(memory_id))
        written = pattern(length, seed)
        self.handles[memory_id].write(offset, written)
        self.model[memory_id][offset : offset + length] = written

    @rule(memory_id=st.sampled_from(MEMORY_IDS), data=st.data())
    def read(self, memory_id, data):
        offset, length = data.draw(self.ranges(memory_id))
        expected = self.model[memory_id][offset : offset + length]
        assert self.handles[memory_id].read(offset, length) == expected

    @rule(memory_id=st.sampled_from(MEMORY_IDS), excess=st.integers(1, 3 * WASM_PAGE_BYTES))
    def read_past_the_end_with_a_new_handle(self, memory_id, excess):
        with pytest.raises(OutOfBoundsTrap):
            self.manager.get(memory_id).read(len(self.model[memory_id]), excess)

    @rule()
    def reload(self):
        before = state(self.manager)
        self.manager.reload(self.memory.read, size_wasm_pages=self.memory.size())
        assert state(self.manager) == before

    @rule()
    def reopen(self):
        before = state(self.manager)
        self.manager = MemoryManager(self.memory)
        self.handles = {memory_id: self.manager.get(memory_id) for memory_id in MEMORY_IDS}
        assert state(self.manager) == before

    @invariant()
    def sizes_agree(self):
        sizes = {
            memory_id: len(model) // WASM_PAGE_BYTES
            for memory_id, model in self.model.items()
            if model
        }
        assert dict(self.manager.sizes()) == sizes
        held = [index for memory_id in MEMORY_IDS for index in self.manager.buckets(memory_id)]
        assert sorted(held) == list(range(len(self.manager.owners())))
        required = 1 + len(held) * self.manager.bucket_wasm_pages
        assert self.memory.size() == required

    def teardown(self):
        for memory_id, model in self.model.items():
            assert content(self.manager, memory_id) == model

    def ranges(self, memory_id):
        """Ranges in bounds, most of them around the ends of Wasm pages."""
        size = len(self.model[memory_id])
        ends = st.integers(0, size // WASM_PAGE_BYTES).map(lambda n: n * WASM_PAGE_BYTES)
        near = st.builds(lambda end, by: min(max(end + by, 0), size), ends, st.integers(-9, 9))
        lengths = st.integers(0, 20) | st.integers(0, 3 * WASM_PAGE_BYTES)
        return st.builds(lambda offset, length: (offset, min(length, size - offset)), near, lengths)


TestManagerModel = pytest.mark.slow(ManagerModel.TestCase)
TestManagerModel.settings = settings(max_examples=60, stateful_step_count=25)
