"""Stable memory with messages, under a memory manager, against a plain bytearray.

Two sides do the same: `StableMemory` with its log, and `PlainMemory`, which copies all its bytes
when a message begins. Each has a manager over it, and each virtual memory a bytearray of its own
beside it. After every step sizes, traps, OS pages and calls must agree; after every message the
logged accesses one by one, the whole image, and what a manager opened anew finds in it.
"""

import random
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from sqlstable.errors import LimitTrap, OutOfBoundsTrap, Trap
from sqlstable.ic.accesses import Accesses
from sqlstable.ic.limits import latest_limits
from sqlstable.ic.units import OS_PAGE_BYTES, WASM_PAGE_BYTES, os_pages_spanned
from sqlstable.ic.words import GROW, READ, SIZE, WRITE
from sqlstable.memory import accesslog, bytemap, staged
from sqlstable.memory.accesslog import AccessLog
from sqlstable.memory.backing import ChunkBacking, MappedBacking, TieredBacking
from sqlstable.memory.manager import BUCKET_TABLE_OFFSET, BUCKETS_MAX, MemoryManager
from sqlstable.memory.stable import StableMemory

MEMORY_IDS = (0, 7, 120)
WASM_PAGES_MAX = 40
ROOM_WASM_PAGES = 10
"""No memory is grown outside of a message once so few Wasm pages are left: a trap in the middle
of the manager's growth needs a rollback behind it."""

GAP = range(BUCKET_TABLE_OFFSET + BUCKETS_MAX, WASM_PAGE_BYTES)
"""Bytes in front of bucket 0 that the manager never touches."""

OS_PAGES_MAX = {"update": (60, 40), "query": (45, 30), "upgrade": (90, 60)}
"""(accessed, dirty): the manager's own tables need 9, a bucket 16 to 48."""

LIMITS = replace(
    latest_limits(),
    stable_memory_wasm_pages_max=WASM_PAGES_MAX,
    **{
        kind: replace(
            latest_limits().of(kind), os_pages_accessed_max=most, os_pages_dirty_max=dirty
        )
        for kind, (most, dirty) in OS_PAGES_MAX.items()
    },
)


SEEDS = st.integers(0, (1 << 32) - 1)


def filler(length, seed):
    return bytes((seed + index) % 251 for index in range(251)) * (length // 251) + bytes(
        (seed + index) % 251 for index in range(length % 251)
    )


class PlainMemory:
    """What a stable memory is, written down in the plainest way."""

    def __init__(self):
        self.data = bytearray()
        self.committed = None
        self.kind = None
        self.trap = None
        self.accessed = set()
        self.dirty = set()
        self.calls = []

    def begin(self, kind):
        self.kind, self.committed = kind, bytes(self.data)

    def end(self, *, keep):
        if not keep:
            self.data = bytearray(self.committed)
        self.kind = self.trap = self.committed = None
        self.accessed, self.dirty = set(), set()

    def poison(self, trap):
        if self.kind is None:
            return trap
        self.trap = self.trap or trap
        return self.trap

    def size(self):
        self._check_trap()
        self.calls.append((SIZE, 0, 0))
        return len(self.data) // WASM_PAGE_BYTES

    def grow(self, wasm_pages):
        self._check_trap()
        self.calls.append((GROW, 0, wasm_pages))
        before = len(self.data) // WASM_PAGE_BYTES
        if before + wasm_pages > WASM_PAGES_MAX:
            return -1
        self.data.extend(bytes(wasm_pages * WASM_PAGE_BYTES))
        return before

    def read(self, offset, length):
        self._check(offset, length, write=False)
        self.calls.append((READ, offset, length))
        return bytes(self.data[offset : offset + length])

    def write(self, offset, data):
        self._check(offset, len(data), write=True)
        self.calls.append((WRITE, offset, len(data)))
        if len(data):
            self.data[offset : offset + len(data)] = data

    def peek(self, offset, length):
        return bytes(self.data[offset : offset + length])

    def _check_trap(self):
        if self.trap is not None:
            raise self.trap

    def _check(self, offset, length, *, write):
        self._check_trap()
        if length and offset + length > len(self.data):
            self._trap(OutOfBoundsTrap("stable memory out of bounds"))
        if self.kind is None:
            return
        os_pages = set(os_pages_spanned(offset, length))
        accessed, dirty = self.accessed | os_pages, self.dirty | (os_pages if write else set())
        most_accessed, most_dirty = OS_PAGES_MAX.get(self.kind, OS_PAGES_MAX["upgrade"])
        if len(accessed) > most_accessed:
            self._trap(LimitTrap("number of accessed"))
        if len(dirty) > most_dirty:
            self._trap(LimitTrap("number of modified"))
        self.accessed, self.dirty = accessed, dirty

    def _trap(self, trap):
        self.poison(trap)
        raise trap


def outcome(act, side):
    """Return what an action answered or how it trapped, in a form that compares."""
    try:
        return "value", act(side)
    except Trap as trap:
        text = str(trap)
        for words in ("number of accessed", "number of modified"):
            text = words if words in text else text
        side.memory.poison(trap)
        return type(trap).__name__, text


def manager_state(manager):
    return (
        manager.bucket_wasm_pages,
        manager.owners(),
        dict(manager.sizes()),
        [manager.buckets(memory_id) for memory_id in MEMORY_IDS],
    )


class MemoryModel(RuleBasedStateMachine):
    """Random messages, traps and growth; `make_backing` says over what."""

    make_backing = None

    @initialize(
        bucket_wasm_pages=st.integers(1, 3),
        is_in_message=st.booleans(),
        first_wasm_pages=st.tuples(st.integers(0, 5), st.integers(1, 3), st.integers(0, 1)),
    )
    def start(self, bucket_wasm_pages, is_in_message, first_wasm_pages):
        self.patch = pytest.MonkeyPatch()
        # Small, so that both ways of committing, clearing and compacting are taken.
        self.patch.setattr(staged, "STAGED_BYTES_KEPT", 50 * OS_PAGE_BYTES)
        self.patch.setattr(staged, "_LOOPED_OS_PAGES", 12)
        self.patch.setattr(bytemap, "_VECTOR_OS_PAGES", 12)
        self.patch.setattr(accesslog, "COMPACT_AT", 20)
        self.memory = StableMemory(limits=LIMITS, backing=type(self).make_backing())
        self.memory.log = AccessLog(4096, lambda offsets: offsets)
        self.memory.watchers.append(self)
        self.plain = PlainMemory()
        self.sides = [SimpleNamespace(memory=memory) for memory in (self.plain, self.memory)]
        self.virtual = {memory_id: bytearray() for memory_id in MEMORY_IDS}
        if is_in_message:
            self.begin("upgrade")
        self.both(lambda side: self.open_manager(side, bucket_wasm_pages))
        for memory_id, wasm_pages in zip(MEMORY_IDS, first_wasm_pages, strict=True):
            self.grow(memory_id, wasm_pages)

    # -- both sides at once ---------------------------------------------------------------------

    def both(self, act):
        """Do the same on both sides, and return what they agree on."""
        expected, actual = (outcome(act, side) for side in self.sides)
        assert actual == expected
        return actual

    @staticmethod
    def open_manager(side, bucket_wasm_pages):
        side.manager = MemoryManager(side.memory, bucket_wasm_pages=bucket_wasm_pages)
        side.handles = {memory_id: side.manager.get(memory_id) for memory_id in MEMORY_IDS}

    def on_trap(self):
        pass

    def on_end(self):
        pass

    def on_rollback(self):
        """Do what every owner of a manager must do."""
        self.sides[1].manager.reload(self.memory.peek, size_wasm_pages=self.memory.wasm_pages)

    # -- messages -------------------------------------------------------------------------------

    def is_open(self):
        return self.plain.kind is not None

    @precondition(lambda self: not self.is_open())
    @rule(kind=st.sampled_from(["update", "update", "query", "upgrade", "install", "reinstall"]))
    def begin(self, kind):
        self.memory.begin(kind)
        self.plain.begin(kind)
        self.committed_virtual = {key: bytes(data) for key, data in self.virtual.items()}

    @precondition(lambda self: self.is_open())
    @rule(wants_commit=st.sampled_from([True, True, False]))
    def end(self, wants_commit):
        committed = bytes(self.memory.backing.read(0, len(self.plain.committed)))
        assert committed == self.plain.committed
        keep = wants_commit and self.plain.trap is None and self.plain.kind != "query"
        size_before = len(self.plain.committed) // WASM_PAGE_BYTES
        # Where a message left no trace, nobody is told, and handles keep their bucket caches.
        has_trace = self.plain.trap is not None or self.plain.dirty
        has_trace = has_trace or len(self.plain.data) != len(self.plain.committed)
        if keep:
            self.memory.commit()
        else:
            self.memory.rollback()
            self.virtual = {key: bytearray(old) for key, old in self.committed_virtual.items()}
        self.plain.end(keep=keep)
        if has_trace and not keep:
            plain = self.sides[0]
            plain.manager.reload(plain.memory.peek, size_wasm_pages=size_before)
        self.compare_all()

    @rule(door=st.sampled_from(["memory", "virtual memory", "canister", *["none"] * 6]))
    def trap(self, door):
        if door == "memory":
            self.both(lambda side: side.memory.read(WASM_PAGES_MAX * WASM_PAGE_BYTES, 1))
        elif door == "virtual memory":
            end = len(self.virtual[MEMORY_IDS[1]])
            first = self.plain.trap
            name, _ = self.both(lambda side: side.manager.get(MEMORY_IDS[1]).write(end, b"xy"))
            # A message that has trapped before keeps its first trap.
            assert name == (type(first).__name__ if first else "OutOfBoundsTrap")
        elif door == "canister":
            trap = Trap("the canister called trap")
            self.memory.poison(trap)
            self.plain.poison(trap)

    # -- virtual memories -----------------------------------------------------------------------

    def has_room(self):
        size = len(self.plain.data) // WASM_PAGE_BYTES
        return self.is_open() or size + ROOM_WASM_PAGES <= WASM_PAGES_MAX

    @precondition(has_room)
    @rule(memory_id=st.sampled_from(MEMORY_IDS), wasm_pages=st.integers(0, 5))
    def grow(self, memory_id, wasm_pages):
        name, value = self.both(lambda side: side.handles[memory_id].grow(wasm_pages))
        if name == "value":
            assert value == len(self.virtual[memory_id]) // WASM_PAGE_BYTES
            self.virtual[memory_id].extend(bytes(wasm_pages * WASM_PAGE_BYTES))

    @rule(memory_id=st.sampled_from(MEMORY_IDS), seed=SEEDS)
    def read(self, memory_id, seed):
        for offset, length in self.ranges(memory_id, seed):
            name, value = self.both(lambda side: side.handles[memory_id].read(offset, length))  # noqa: B023
            if name == "value":
                assert value == self.virtual[memory_id][offset : offset + length]

    @rule(memory_id=st.sampled_from(MEMORY_IDS), seed=SEEDS)
    def write(self, memory_id, seed):
        for offset, length in self.ranges(memory_id, seed):
            written = filler(length, seed)
            name, _ = self.both(lambda side: side.handles[memory_id].write(offset, written))  # noqa: B023
            if name == "value":
                self.virtual[memory_id][offset : offset + length] = written

    def ranges(self, memory_id, seed):
        """Some ranges in bounds, most of them around the ends of OS pages and Wasm pages."""
        chance, size = random.Random(seed), len(self.virtual[memory_id])
        for _ in range(chance.randint(1, 6)):
            unit = chance.choice((OS_PAGE_BYTES, OS_PAGE_BYTES, WASM_PAGE_BYTES))
            near = unit * chance.randint(0, size // unit) + chance.randint(-3, 3)
            start = min(max(near, 0), size)
            length = chance.choice((0, 1, 5, 100, OS_PAGE_BYTES, 20_000, 2 * WASM_PAGE_BYTES))
            yield start, min(chance.choice((length, length, length + 3)), size - start)

    # -- the memory itself ----------------------------------------------------------------------

    @rule(seed=SEEDS)
    def read_raw(self, seed):
        chance, size = random.Random(seed), len(self.plain.data)
        offset = chance.randint(0, size)
        length = min(chance.choice((0, 1, 5000, 70_000)), size - offset)
        self.both(lambda side: side.memory.read(offset, length))

    @precondition(lambda self: self.plain.data)
    @rule(seed=SEEDS)
    def write_raw(self, seed):
        chance = random.Random(seed)
        offset = chance.choice(GAP)
        written = filler(min(chance.choice((0, 1, 9000)), GAP.stop - offset), seed)
        self.both(lambda side: side.memory.write(offset, written))

    @precondition(lambda self: self.plain.data and self.has_room())
    @rule(wasm_pages=st.sampled_from([0, 1, 2, WASM_PAGES_MAX]))
    def grow_raw(self, wasm_pages):
        self.both(lambda side: side.memory.grow(wasm_pages))

    @rule()
    def size(self):
        self.both(lambda side: side.memory.size())

    @rule()
    def compact(self):
        self.memory.log.compact()

    # -- agreement ------------------------------------------------------------------------------

    @invariant()
    def sides_agree(self):
        memory, plain = self.memory, self.plain
        assert memory.wasm_pages * WASM_PAGE_BYTES == len(plain.data)
        assert memory.kind == plain.kind
        assert (memory.trap is None) == (plain.trap is None)
        assert sorted(memory.bytemap.accessed) == sorted(plain.accessed)
        assert sorted(memory.bytemap.dirty) == sorted(plain.dirty)
        assert memory.log.position() == len(plain.calls)
        plain_side, side = self.sides
        assert manager_state(side.manager) == manager_state(plain_side.manager)
        sizes = {key: len(data) // WASM_PAGE_BYTES for key, data in self.virtual.items() if data}
        assert dict(side.manager.sizes()) == sizes

    def compare_all(self):
        """Compare what is too much to compare after each step."""
        memory, plain = self.memory, self.plain
        taken = memory.log.take()
        found = Accesses.joined(taken.chunks(0, len(taken)))
        kind, length = found.kind, found.length
        calls, plain.calls = plain.calls, []
        assert [row[:3] for row in found.rows] == calls
        for of_kind in (READ, WRITE):
            expected = sum(count for called, _, count in calls if called == of_kind)
            assert int(length[kind == of_kind].sum()) == expected
        assert memory.image() == plain.data
        if plain.data:
            reopened = MemoryManager(PeekingMemory(memory))
            assert manager_state(reopened) == manager_state(self.sides[1].manager)
            for memory_id, expected in self.virtual.items():
                assert reopened.get(memory_id).read(0, len(expected)) == expected

    def teardown(self):
        if not hasattr(self, "patch"):
            return
        if self.is_open():
            self.end(wants_commit=True)
        else:
            self.compare_all()
        self.memory.close()
        self.patch.undo()


class PeekingMemory:
    """A memory that is only looked at, unrecorded."""

    def __init__(self, memory):
        self.memory = memory
        self.read = memory.peek

    def size(self):
        return self.memory.wasm_pages


class ChunkModel(MemoryModel):
    """Over chunks: every mark is a far one."""

    make_backing = ChunkBacking


class MappedModel(MemoryModel):
    """Over a map: every mark is a near one."""

    @staticmethod
    def make_backing():
        return MappedBacking(WASM_PAGES_MAX * WASM_PAGE_BYTES)


class TieredModel(MemoryModel):
    """Over a map that ends amid the buckets, and at no Wasm page's end."""

    @staticmethod
    def make_backing():
        near_bytes = 3 * WASM_PAGE_BYTES + 5 * OS_PAGE_BYTES
        return TieredBacking(MappedBacking(near_bytes), ChunkBacking(), near_bytes=near_bytes)


NEEDS_LINUX = pytest.mark.skipif(
    sys.platform != "linux", reason="sparse anonymous maps are used on Linux only"
)
SETTINGS = settings(max_examples=120, stateful_step_count=50)

TestChunkModel = pytest.mark.slow(ChunkModel.TestCase)
TestMappedModel = pytest.mark.slow(NEEDS_LINUX(MappedModel.TestCase))
TestTieredModel = pytest.mark.slow(NEEDS_LINUX(TieredModel.TestCase))
TestChunkModel.settings = TestMappedModel.settings = TestTieredModel.settings = SETTINGS
