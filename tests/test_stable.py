"""Stable memory: sizes, bounds, limits, messages that commit whole or leave nothing; its log."""

import os
import random
import subprocess
import sys
import warnings
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sqlstable.errors import (
    ImageError,
    LimitTrap,
    MessageError,
    OutOfBoundsTrap,
    SettingsError,
    Trap,
)
from sqlstable.ic.limits import latest_limits, resolve_limits
from sqlstable.ic.units import GIB, KIB, OS_PAGE_BYTES, OS_PAGES_PER_WASM_PAGE, WASM_PAGE_BYTES
from sqlstable.ic.words import GROW, READ, SIZE, WRITE
from sqlstable.memory import accesslog, backing, staged
from sqlstable.memory.accesslog import AccessLog
from sqlstable.memory.backing import ChunkBacking, MappedBacking, TieredBacking
from sqlstable.memory.bytemap import ACCESSED, DIRTY
from sqlstable.memory.stable import WASM_PAGES_MAX, StableMemory

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
    params=[
        "chunks",
        pytest.param("mapped", marks=NEEDS_LINUX),
        pytest.param("tiered", marks=NEEDS_LINUX),
    ]
)
def memory(request):
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


# --- Size and growth


def test_new_memory_is_empty():
    memory = StableMemory()
    assert memory.size() == memory.wasm_pages == 0
    assert memory.image() == b""
    assert memory.grow(0) == 0
    assert memory.read(0, 0) == b""


def test_grow_answers_the_size_before_and_adds_zeros(memory):
    assert memory.grow(2) == 4
    assert memory.grow(1) == 6
    assert memory.size() == 7
    assert memory.image() == bytes(7 * WASM_PAGE_BYTES)


def test_grow_by_nothing_answers_the_size(memory):
    assert memory.grow(0) == 4
    assert memory.size() == 4


@pytest.mark.parametrize(
    ("limits", "wasm_pages_max"),
    [
        ("2021-06-01", 65_536),
        (date(2021, 9, 13), 65_536),
        ("2021-09-14", 2 * 65_536),
        ("2024-01-09", 400 * GIB // WASM_PAGE_BYTES),
        ("latest", 500 * GIB // WASM_PAGE_BYTES),
        (replace(LATEST, stable_memory_wasm_pages_max=3), 3),
        (None, WASM_PAGES_MAX),
    ],
)
def test_growth_ends_at_the_limit_of_the_day(limits, wasm_pages_max):
    memory = StableMemory(limits=limits)
    for growth in (wasm_pages_max + 1, 1 << 64, 1 << 70):
        assert memory.grow(growth) == -1
    assert memory.grow(wasm_pages_max - 1) == 0
    assert memory.grow(2) == -1
    assert memory.size() == wasm_pages_max - 1
    assert memory.grow(1) == wasm_pages_max - 1
    assert memory.grow(1) == -1
    assert memory.grow(0) == wasm_pages_max
    end = wasm_pages_max * WASM_PAGE_BYTES
    memory.write(end - 1, b"!")
    assert memory.read(end - 2, 2) == b"\0!"
    with pytest.raises(OutOfBoundsTrap):
        memory.read(end - 1, 2)
    memory.close()


def test_refused_growth_changes_nothing_in_a_message_either():
    memory = StableMemory(limits=replace(LATEST, stable_memory_wasm_pages_max=3))
    with memory.message():
        assert memory.grow(2) == 0
        assert memory.grow(2) == -1
        memory.write(2 * WASM_PAGE_BYTES - 1, b"!")
    assert memory.size() == 2
    assert memory.trap is None


def test_growth_can_be_bounded_below_the_limit():
    memory = StableMemory(limits=replace(LATEST, stable_memory_wasm_pages_max=3))
    assert memory.grow(2, wasm_pages_max=1) == -1
    assert memory.grow(2, wasm_pages_max=2) == 0
    assert memory.grow(2, wasm_pages_max=9) == -1


def test_negative_growth_is_impossibly_large(memory):
    assert memory.grow(-1) == -1
    assert memory.size() == 4


@pytest.mark.parametrize("limits", ["2021-05-09", "yesterday"])
def test_unknown_limits_are_refused(limits):
    with pytest.raises(SettingsError):
        StableMemory(limits=limits)
    assert resolve_limits(None) is None
    assert resolve_limits(LATEST) is LATEST


# --- Bounds


@pytest.mark.parametrize(
    ("offset", "length"),
    [
        (4 * WASM_PAGE_BYTES, 1),
        (4 * WASM_PAGE_BYTES - 1, 2),
        (0, 4 * WASM_PAGE_BYTES + 1),
        (1 << 62, 1),
        ((1 << 64) - 1, 1),
        (-1, 1),
        (-1, 2),
        (-WASM_PAGE_BYTES, WASM_PAGE_BYTES),
    ],
)
def test_access_outside_the_memory_traps(memory, offset, length):
    before = filled(memory)
    with pytest.raises(OutOfBoundsTrap, match=r"\Astable memory out of bounds\Z"):
        memory.read(offset, length)
    with pytest.raises(OutOfBoundsTrap, match=r"\Astable memory out of bounds\Z"):
        memory.write(offset, bytes(length))
    assert memory.image() == before


def test_negative_length_traps(memory):
    with pytest.raises(OutOfBoundsTrap):
        memory.read(5, -1)


def test_last_byte_is_inside(memory):
    memory.write(4 * WASM_PAGE_BYTES - 1, b"z")
    assert memory.read(4 * WASM_PAGE_BYTES - 2, 2) == b"\0z"


@pytest.mark.parametrize("offset", [0, 4 * WASM_PAGE_BYTES, 4 * WASM_PAGE_BYTES + 1, 1 << 64])
def test_access_of_no_bytes_is_never_out_of_bounds(memory, offset):
    with memory.message():
        assert memory.read(offset, 0) == b""
        memory.write(offset, b"")
        assert touched(memory) == ([], [])


def test_trap_outside_of_a_message_leaves_the_memory_usable(memory):
    with pytest.raises(OutOfBoundsTrap):
        memory.read(1 << 40, 1)
    assert memory.trap is None
    memory.write(0, b"on")
    assert memory.read(0, 2) == b"on"


def test_writes_outside_of_a_message_are_kept_at_once_and_not_marked(memory):
    witness = Witness(memory)
    memory.write(10, b"kept")
    assert memory.read(10, 4) == b"kept"
    assert touched(memory) == ([], [])
    assert bytes(memory.backing.read(10, 4)) == b"kept"
    assert witness.events == []


@pytest.mark.parametrize("address", [1 << 62, WASM_PAGES_MAX * WASM_PAGE_BYTES - 5, 511 * GIB])
def test_far_byte_reads_back_without_limits(address):
    memory = StableMemory(limits=None)
    assert memory.grow(WASM_PAGES_MAX) == 0
    memory.write(address, b"apart")
    with memory.message("query"):
        memory.write(address + 1, b"--")
        assert memory.read(address, 5) == b"a--rt"
    with memory.message():
        memory.write(address + 2, b"++")
        assert memory.read(address, 5) == b"ap++t"
        assert touched(memory)[1] == [address // OS_PAGE_BYTES]
    assert memory.read(address, 5) == b"ap++t"
    assert memory.bytemap.far_marks == {}
    memory.close()


@NEEDS_LINUX
def test_range_across_the_end_of_the_flat_view_is_one_range():
    memory = StableMemory(backing=BACKINGS["tiered"]())
    memory.grow(4)
    assert memory.bytemap.flat_os_pages == BORDER // OS_PAGE_BYTES
    last = BORDER // OS_PAGE_BYTES - 1
    with memory.message():
        memory.write(BORDER - 3, b"border")
        assert memory.bytemap.states(range(last - 1, last + 3)) == bytes([0, DIRTY, DIRTY, 0])
        assert memory.read(BORDER - 5, 10) == b"\0\0border\0\0"
    assert memory.bytemap.states(range(last - 1, last + 3)) == bytes(4)
    assert memory.read(BORDER - 5, 10) == b"\0\0border\0\0"


# --- Limits on OS pages


ACCESSED_TEXT = (
    "Canister exceeded memory access limits: Exceeded the limit for the number of accessed pages "
    "in the stable memory in a single message execution: limit {} KB for regular messages and {} "
    "KB for queries."
)
DIRTY_TEXT = (
    "Canister exceeded memory access limits: Exceeded the limit for the number of modified pages "
    "in the stable memory in a single execution: limit {} KB for regular messages, {} KB for "
    "upgrade messages and {} KB for queries."
)
FEW = {"update": (5, 3), "query": (4, 2), "upgrade": (9, 7)}
"""(accessed, dirty) OS pages; read and dirty limits all differ."""


def few_of(kind):
    return FEW.get(kind, FEW["upgrade"])


def read_os_page(memory, index):
    assert memory.read(os_page_at(index) + 100, 1) == b"\0"


def write_os_page(memory, index):
    memory.write(os_page_at(index) + 100, b"w")


@pytest.mark.parametrize("kind", KINDS)
def test_access_limit_traps_at_the_os_page_that_crosses_it(kind):
    memory = limited_memory(**FEW)
    accessed_max, _ = few_of(kind)
    memory.begin(kind)
    for index in range(accessed_max):
        read_os_page(memory, 3 * index)
    for index in range(accessed_max):
        read_os_page(memory, 3 * index)
    with pytest.raises(LimitTrap) as caught:
        read_os_page(memory, 3 * accessed_max)
    assert str(caught.value) == ACCESSED_TEXT.format(5 * 4, 4 * 4)
    assert touched(memory) == ([3 * index for index in range(accessed_max)], [])
    memory.rollback()


@pytest.mark.parametrize("kind", KINDS)
def test_dirty_limit_traps_at_the_os_page_that_crosses_it(kind):
    memory = limited_memory(**FEW)
    _, dirty_max = few_of(kind)
    memory.begin(kind)
    for index in range(dirty_max):
        write_os_page(memory, 2 * index)
    for index in range(dirty_max):
        write_os_page(memory, 2 * index)
    read_os_page(memory, 2 * dirty_max)
    with pytest.raises(LimitTrap) as caught:
        write_os_page(memory, 2 * dirty_max)
    assert str(caught.value) == DIRTY_TEXT.format(3 * 4, 7 * 4, 2 * 4)
    assert len(memory.bytemap.dirty) == dirty_max
    memory.rollback()
    assert memory.image() == bytes(4 * WASM_PAGE_BYTES)


@pytest.mark.parametrize("kind", KINDS)
def test_todays_limits_have_the_replicas_texts(kind):
    memory = StableMemory()
    memory.grow(9 * GIB // WASM_PAGE_BYTES)
    gib = {"update": 2, "query": 1}.get(kind, 8)
    memory.begin(kind)
    with pytest.raises(LimitTrap) as caught:
        memory.read(7, gib * GIB + OS_PAGE_BYTES - 7)
    assert str(caught.value) == ACCESSED_TEXT.format(2_097_152, 1_048_576)
    memory.rollback()

    memory.limits = replace(
        LATEST, **{name: replace(LATEST.of(name), os_pages_accessed_max=1 << 40) for name in FEW}
    )
    memory.begin(kind)
    with pytest.raises(LimitTrap) as caught:
        memory.touch(0, gib * GIB + 1, write=True)
    assert str(caught.value) == DIRTY_TEXT.format(2_097_152, 8_388_608, 1_048_576)
    memory.rollback()
    memory.close()


@pytest.mark.parametrize(
    ("access", "accessed_ok"),
    [
        pytest.param(lambda memory, length: memory.read(0, length), 5, id="read"),
        pytest.param(lambda memory, length: memory.touch_read(0, length), 5, id="touch_read"),
        pytest.param(lambda memory, length: memory.write(0, bytes(length)), 3, id="write"),
        pytest.param(lambda memory, length: memory.touch_write(0, bytes(length)), 3, id="staged"),
    ],
)
def test_range_is_checked_whole_before_any_of_it_is_marked(access, accessed_ok):
    memory = limited_memory(**FEW)
    memory.begin("update")
    with pytest.raises(LimitTrap):
        access(memory, os_page_at(accessed_ok) + 1)
    assert touched(memory) == ([], [])
    assert memory.trap is not None
    memory.rollback()
    with memory.message():
        access(memory, os_page_at(accessed_ok))
        assert touched(memory)[0] == list(range(accessed_ok))


def test_quick_doors_have_the_same_limits():
    memory = limited_memory(update=(3, 2))
    memory.begin("update")
    memory.first_write(7)
    memory.first_read(8)
    memory.first_write(8)
    assert touched(memory) == ([7, 8], [7, 8])
    with pytest.raises(LimitTrap, match="number of modified"):
        memory.first_write(9)
    assert touched(memory) == ([7, 8], [7, 8])
    assert memory.trap is not None
    memory.rollback()
    memory.begin("update")
    for index in range(3):
        memory.first_read(index)
    memory.first_write(1)
    with pytest.raises(LimitTrap, match="number of accessed"):
        memory.first_read(3)
    assert touched(memory) == ([0, 1, 2], [1])
    assert memory.trap is not None
    memory.rollback()
    memory.limits = small_limits(update=(1, 1))
    memory.begin("update")
    memory.first_read(0)
    with pytest.raises(LimitTrap, match="number of accessed"):
        memory.first_write(1)
    memory.rollback()


def test_write_to_an_accessed_os_page_counts_as_dirty_only():
    memory = limited_memory(update=(2, 2))
    with memory.message():
        memory.read(0, 2 * OS_PAGE_BYTES)
        memory.write(0, bytes(2 * OS_PAGE_BYTES))
        assert touched(memory) == ([0, 1], [0, 1])
        assert memory.bytemap.accessed == memory.bytemap.dirty == [0, 1]


def test_access_limit_comes_before_the_dirty_limit():
    memory = limited_memory(update=(1, 1))
    memory.begin("update")
    with pytest.raises(LimitTrap, match="number of accessed"):
        memory.write(0, bytes(2 * OS_PAGE_BYTES))
    memory.rollback()


def test_bounds_come_before_limits():
    memory = limited_memory(update=(0, 0))
    memory.begin("update")
    with pytest.raises(OutOfBoundsTrap):
        memory.write(4 * WASM_PAGE_BYTES - 1, b"ab")
    memory.rollback()


def test_each_message_counts_afresh():
    memory = limited_memory(update=(2, 1))
    for index in range(5):
        with memory.message():
            write_os_page(memory, index)
            read_os_page(memory, index + 6)
            assert touched(memory) == ([index, index + 6], [index])
        assert touched(memory) == ([], [])
        assert memory.bytemap.states(range(64)) == bytes(64)


def test_no_limit_holds_outside_of_messages_or_without_limits():
    memory = limited_memory(update=(0, 0), query=(0, 0))
    memory.write(0, bytes(4 * WASM_PAGE_BYTES))
    assert memory.read(0, 4 * WASM_PAGE_BYTES) == memory.image()
    free = StableMemory(limits=None)
    free.grow(9)
    with free.message("query"):
        free.write(0, bytes(9 * WASM_PAGE_BYTES))
        assert len(free.bytemap.dirty) == 9 * OS_PAGES_PER_WASM_PAGE
    free.close()


def test_limits_can_be_lifted_for_a_message():
    memory = limited_memory(update=(1, 1))
    with memory.message():
        memory.bytemap.begin(None, "update")
        memory.write(0, bytes(9 * OS_PAGE_BYTES))
    memory.begin("update")
    with pytest.raises(LimitTrap):
        memory.write(0, bytes(9 * OS_PAGE_BYTES))
    memory.rollback()


def test_limits_before_their_introduction_do_not_bind():
    memory = StableMemory(limits="2022-10-10")
    memory.grow(2 * 65_536)
    with memory.message():
        memory.touch(0, 4 * WASM_PAGE_BYTES, write=False)
        assert memory.bytemap.dirty_max == memory.bytemap.accessed_max == (1 << 64) - 1
    memory.close()


def test_marks_are_2_for_accessed_and_3_for_dirty(memory):
    with memory.message():
        memory.read(OS_PAGE_BYTES - 1, 2)
        memory.write(2 * OS_PAGE_BYTES - 1, b"ab")
        memory.read(2 * OS_PAGE_BYTES, 1)
        assert memory.bytemap.states(range(4)) == bytes([ACCESSED, DIRTY, DIRTY, 0])
        assert (ACCESSED, DIRTY) == (2, 3)
        assert touched(memory) == ([0, 1, 2], [1, 2])


def test_os_page_written_with_equal_bytes_is_dirty(memory):
    with memory.message():
        memory.write(0, b"\0")
        assert touched(memory) == ([0], [0])


# --- Traps


def test_trapped_message_stays_trapped_even_if_swallowed(memory):
    def swallow():
        memory.write(0, b"lost")
        with suppress(Trap):
            memory.read(1 << 40, 1)
        with suppress(Trap):
            memory.write(0, b"lost again")

    before = filled(memory)
    with pytest.raises(OutOfBoundsTrap) as caught, memory.message():
        swallow()
    assert str(caught.value) == "stable memory out of bounds"
    assert memory.image() == before
    assert memory.trap is None
    assert memory.kind is None


@pytest.mark.parametrize(
    "call",
    [
        lambda memory: memory.size(),
        lambda memory: memory.grow(0),
        lambda memory: memory.grow(1 << 60),
        lambda memory: memory.read(0, 1),
        lambda memory: memory.read(0, 0),
        lambda memory: memory.read(1 << 40, 1),
        lambda memory: memory.write(0, b"x"),
        lambda memory: memory.write(0, b""),
        lambda memory: memory.touch(0, 1, write=True),
        lambda memory: memory.touch_read(0, 1),
        lambda memory: memory.touch_write(0, b"x"),
        lambda memory: memory.commit(),
    ],
)
def test_every_later_call_raises_the_first_trap(memory, call):
    memory.log = AccessLog(4096, lambda offsets: offsets)
    with trapped(memory) as trap:
        with pytest.raises(OutOfBoundsTrap) as caught:
            call(memory)
        assert caught.value is trap
        assert memory.kind == "update"
        assert memory.wasm_pages == 4
        assert touched(memory) == ([], [])
        assert memory.log.position() == 0


def test_first_trap_wins_over_later_ones(memory):
    with trapped(memory) as first:
        assert memory.poison(Trap("second")) is first
        assert memory.trap is first


def test_observers_can_look_at_a_trapped_message(memory):
    with trapped(memory):
        assert memory.peek(0, 2) == b"\0\0"
        assert memory.wasm_pages == 4
        assert len(memory.image()) == 4 * WASM_PAGE_BYTES


def test_poisoning_makes_a_message_trap(memory):
    def call_trap():
        memory.write(0, b"x")
        assert memory.poison(mine) is mine

    mine = Trap("the canister called trap")
    with pytest.raises(Trap) as caught, memory.message():
        call_trap()
    assert caught.value is mine
    assert memory.read(0, 1) == b"\0"


def test_poisoning_outside_of_a_message_only_hands_the_trap_back(memory):
    witness = Witness(memory)
    mine = Trap("nobody is here")
    assert memory.poison(mine) is mine
    assert memory.trap is None
    assert witness.events == []


def test_message_after_a_trapped_one_is_sound(memory):
    for _ in range(2):
        with trapped(memory):
            pass
        with memory.message():
            memory.write(0, b"fine")
        assert memory.read(0, 4) == b"fine"


# --- Messages


def test_commit_keeps_bytes_and_size(memory):
    with memory.message():
        assert memory.grow(2) == 4
        memory.write(5 * WASM_PAGE_BYTES, b"new")
        memory.write(1, b"old")
        assert bytes(memory.backing.read(0, 4)) == bytes(4)
    assert memory.size() == 6
    assert memory.read(0, 5) == b"\0old\0"
    assert memory.read(5 * WASM_PAGE_BYTES - 1, 5) == b"\0new\0"


@pytest.mark.parametrize("kind", KINDS)
def test_only_a_query_discards_its_writes_and_growth(memory, kind):
    with memory.message(kind):
        memory.grow(1)
        memory.write(4 * WASM_PAGE_BYTES - 1, b"ab")
        assert memory.read(4 * WASM_PAGE_BYTES - 1, 2) == b"ab"
        assert memory.size() == 5
    kept = kind != "query"
    assert memory.size() == 4 + kept
    assert memory.read(4 * WASM_PAGE_BYTES - 1, 1) == (b"a" if kept else b"\0")


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, OutOfBoundsTrap])
def test_exception_rolls_the_message_back_and_passes_on(memory, error):
    def fail():
        memory.grow(3)
        memory.write(0, bytes(5 * WASM_PAGE_BYTES))
        raise mine

    before = filled(memory)
    mine = error("mine")
    with pytest.raises(error) as caught, memory.message():
        fail()
    assert caught.value is mine
    assert memory.image() == before


def test_rollback_restores_size_and_bytes(memory):
    before = filled(memory)
    memory.begin("update")
    memory.write(0, b"gone")
    memory.grow(7)
    memory.write(9 * WASM_PAGE_BYTES, b"gone")
    assert memory.size() == 11
    memory.rollback()
    assert memory.size() == 4
    assert memory.image() == before
    with pytest.raises(OutOfBoundsTrap):
        memory.read(4 * WASM_PAGE_BYTES, 1)


def test_growth_rolled_back_and_grown_again_reads_zero(memory):
    for whole in (False, True):
        memory.begin("update")
        memory.grow(1)
        memory.write(4 * WASM_PAGE_BYTES, b"\xff" * WASM_PAGE_BYTES)
        memory.rollback()
        with memory.message("query"):
            memory.grow(1)
            assert memory.read(4 * WASM_PAGE_BYTES, WASM_PAGE_BYTES) == bytes(WASM_PAGE_BYTES)
            memory.write(
                4 * WASM_PAGE_BYTES + 5000, b"x" * (WASM_PAGE_BYTES - 5000 if whole else 1)
            )
            assert memory.read(4 * WASM_PAGE_BYTES, 5001) == bytes(5000) + b"x"
    memory.grow(1)
    assert memory.image() == bytes(5 * WASM_PAGE_BYTES)


@pytest.mark.parametrize(
    ("offset", "length"),
    [
        (0, 1),
        (1, OS_PAGE_BYTES - 2),
        (OS_PAGE_BYTES - 1, 1),
        (OS_PAGE_BYTES - 1, 2),
        (OS_PAGE_BYTES, OS_PAGE_BYTES),
        (OS_PAGE_BYTES, OS_PAGE_BYTES + 1),
        (OS_PAGE_BYTES - 1, OS_PAGE_BYTES + 1),
        (100, 3 * OS_PAGE_BYTES),
        (BORDER - 1, 2),
        (BORDER - OS_PAGE_BYTES, OS_PAGE_BYTES + 9),
        (BORDER - 5, WASM_PAGE_BYTES + 10),
    ],
)
def test_partial_writes_keep_the_rest_of_their_os_pages(memory, offset, length):
    expected = bytearray(filled(memory))
    with memory.message("query"):
        # What a message left staged must not shine through in the next one.
        memory.write(0, b"\xee" * (4 * WASM_PAGE_BYTES))
    for written in (b"1" * length, b"2" * (length // 2 + 1)):
        expected[offset : offset + len(written)] = written
    with memory.message():
        memory.write(offset, b"1" * length)
        memory.write(offset, b"2" * (length // 2 + 1))
        assert memory.read(0, 4 * WASM_PAGE_BYTES) == expected
        assert memory.image() == expected
    assert memory.image() == expected


@pytest.mark.parametrize("count", [1, 2, 63, 64, 65, 200])
def test_commit_applies_scattered_os_pages(memory, count):
    memory.grow(16)
    expected = bytearray(filled(memory))
    chance = random.Random(count)
    chosen = chance.sample(range(20 * OS_PAGES_PER_WASM_PAGE), count)
    with memory.message():
        for index in chosen:
            start = os_page_at(index) + chance.randrange(OS_PAGE_BYTES)
            memory.write(start, b"!")
            expected[start] = ord("!")
        assert memory.image() == expected
    assert memory.image() == expected
    assert touched(memory) == ([], [])
    assert memory.bytemap.states(range(320)) == bytes(320)


@pytest.mark.parametrize("count", [64, 65, 100])
def test_commit_applies_runs_at_both_ends_of_the_memory(memory, count):
    memory.grow(16)
    last = 20 * OS_PAGES_PER_WASM_PAGE - 1
    expected = bytearray(20 * WASM_PAGE_BYTES)
    with memory.message():
        for index in [last, *range(count - 3, -1, -1), last - 1]:
            data = bytes([index % 255 + 1]) * OS_PAGE_BYTES
            memory.write(os_page_at(index), data)
            expected[os_page_at(index) : os_page_at(index + 1)] = data
        assert len(memory.bytemap.dirty) == count
    assert memory.image() == expected


def test_read_mixes_staged_and_committed_bytes(memory):
    expected = bytearray(filled(memory))
    with memory.message():
        for index in (1, 3, 4, 8):
            memory.write(os_page_at(index) + 50, b"staged")
            expected[os_page_at(index) + 50 : os_page_at(index) + 56] = b"staged"
        for start in (0, 40, 4096, 4146, 4150, 12_288):
            for length in (1, 8, 4096, 5000, 30_000):
                assert memory.read(start, length) == expected[start : start + length]


def test_messages_do_not_nest(memory):
    memory.begin("update")
    memory.write(0, b"kept")
    text = r"a message \(update\) is open already; end it before beginning another"
    with pytest.raises(MessageError, match=text):
        memory.begin("query")
    assert memory.kind == "update"
    memory.commit()
    assert memory.read(0, 4) == b"kept"


def test_message_inside_a_message_rolls_the_outer_one_back(memory):
    def nest():
        memory.write(0, b"lost")
        with memory.message("query"):
            pytest.fail("the inner block ran")

    with pytest.raises(MessageError, match="open already"), memory.message():
        nest()
    assert memory.read(0, 4) == bytes(4)
    assert memory.kind is None


def test_commit_and_rollback_need_a_message(memory):
    with pytest.raises(MessageError, match="no message is open; begin one first"):
        memory.commit()
    with pytest.raises(MessageError, match="no message is open; there is nothing to roll back"):
        memory.rollback()
    memory.begin("update")
    memory.commit()
    with pytest.raises(MessageError):
        memory.commit()


def test_query_cannot_be_committed(memory):
    memory.begin("query")
    memory.write(0, b"lost")
    with pytest.raises(MessageError, match="what a query does is never kept; roll it back"):
        memory.commit()
    assert memory.kind == "query"
    memory.rollback()
    assert memory.read(0, 4) == bytes(4)


@pytest.mark.parametrize("limits", ["latest", None])
def test_unknown_kind_is_refused(limits):
    memory = StableMemory(limits=limits)
    with pytest.raises(SettingsError, match="unknown message kind 'qeury'; use one of update, "):
        memory.begin("qeury")
    assert memory.kind is None
    memory.close()


# --- Staged memory


@pytest.mark.parametrize("ending", ["commit", "rollback"])
def test_staged_memory_is_given_back_when_there_is_much_of_it(memory, monkeypatch, ending):
    monkeypatch.setattr(staged, "STAGED_BYTES_KEPT", 8 * OS_PAGE_BYTES)
    end = 4 * WASM_PAGE_BYTES

    def stage(index):
        memory.begin("update")
        memory.write(os_page_at(index), bytes([index + 1]) * OS_PAGE_BYTES)
        getattr(memory, ending)()

    for index in range(8):
        stage(8 * index)
    assert bytes(memory.staging.read(0, end)).count(0) == end - 8 * OS_PAGE_BYTES
    stage(1)
    assert bytes(memory.staging.read(0, end)) == bytes(end)
    stage(2)
    assert bytes(memory.staging.read(0, end)).count(0) == end - OS_PAGE_BYTES
    kept = {*range(0, 64, 8), 1, 2} if ending == "commit" else set()
    expected = [index + 1 if index in kept else 0 for index in range(64)]
    assert list(memory.image()[::OS_PAGE_BYTES]) == expected


def test_staged_memory_of_growth_rolled_back_is_given_back_too(memory, monkeypatch):
    monkeypatch.setattr(staged, "STAGED_BYTES_KEPT", OS_PAGE_BYTES)
    memory.begin("update")
    memory.grow(20)
    memory.write(23 * WASM_PAGE_BYTES, b"x")
    memory.rollback()
    memory.begin("update")
    memory.write(0, b"y")
    memory.rollback()
    assert bytes(memory.staging.read(0, 24 * WASM_PAGE_BYTES)) == bytes(24 * WASM_PAGE_BYTES)


def test_staged_memory_of_a_load_is_given_back_at_once(memory, monkeypatch):
    monkeypatch.setattr(staged, "BULK_BYTES", 2 * OS_PAGE_BYTES)
    for os_page_count, kept in ((2, 2), (3, 0)):
        with memory.message():
            memory.write(0, b"x" * (os_page_count * OS_PAGE_BYTES))
        held = bytes(memory.staging.read(0, WASM_PAGE_BYTES))
        assert held.count(b"x") == kept * OS_PAGE_BYTES


# --- Watchers


def test_watchers_of_a_commit_are_told_of_its_end_only(memory):
    witness = Witness(memory)
    with memory.message():
        memory.write(0, b"x")
        memory.grow(1)
        assert witness.events == []
    assert witness.seen == [("end", None, False, 5, b"x")]


def test_watchers_of_a_rollback_are_told_of_its_end_and_then_of_the_bytes(memory):
    witness = Witness(memory)
    with memory.message("query"):
        memory.write(0, b"x")
        memory.grow(1)
    assert witness.seen == [("end", None, False, 4, b"\0"), ("rollback", None, False, 4, b"\0")]


def test_watchers_of_a_trap_are_told_once_and_first(memory):
    witness = Witness(memory)
    memory.begin("update")
    memory.write(0, b"x")
    for _ in range(2):
        with pytest.raises(OutOfBoundsTrap):
            memory.read(1 << 40, 1)
    memory.poison(Trap("again"))
    assert witness.seen == [("trap", "update", True, 4, b"x")]
    memory.rollback()
    assert witness.events == ["trap", "end", "rollback"]
    assert witness.seen[1:] == [("end", None, False, 4, b"\0"), ("rollback", None, False, 4, b"\0")]


@pytest.mark.parametrize(
    ("act", "events"),
    [
        (lambda memory: memory.read(0, 1), ["end"]),
        (lambda memory: memory.grow(0), ["end"]),
        (lambda memory: memory.grow(1), ["end", "rollback"]),
        (lambda memory: memory.write(0, b"\0"), ["end", "rollback"]),
    ],
)
def test_watchers_hear_of_a_rollback_only_where_something_changed(memory, act, events):
    witness = Witness(memory)
    with memory.message("query"):
        act(memory)
    assert witness.events == events


def test_watchers_of_a_trap_without_changes_hear_of_the_rollback(memory):
    witness = Witness(memory)
    with trapped(memory):
        pass
    assert witness.events == ["trap", "end", "rollback"]


def test_all_watchers_are_told(memory):
    first, second = Witness(memory), Witness(memory)
    with memory.message("query"):
        memory.grow(1)
    assert first.events == second.events == ["end", "rollback"]


# --- Images


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_image_survives_the_round_trip(memory, kind):
    before = filled(memory)
    copy = StableMemory.from_image(kind(before))
    assert copy.image() == before
    assert copy.size() == 4
    copy.write(0, b"own")
    assert memory.image() == before
    copy.close()


@pytest.mark.parametrize("kind", [str, Path])
def test_image_file_is_read(tmp_path, kind):
    path = tmp_path / "stable_memory.bin"
    data = bytes(WASM_PAGE_BYTES) + random.Random(1).randbytes(WASM_PAGE_BYTES)
    path.write_bytes(data)
    memory = StableMemory.from_image(kind(path))
    memory.write(0, b"in the copy only")
    memory.close()
    assert path.read_bytes() == data


def test_empty_image_is_an_empty_memory():
    assert StableMemory.from_image(b"").size() == 0


def test_holes_of_an_image_take_no_memory(monkeypatch):
    monkeypatch.setattr(backing, "reserve", lambda _capacity: ChunkBacking())
    data = bytearray(5 * WASM_PAGE_BYTES)
    data[3 * WASM_PAGE_BYTES + 9] = data[-1] = 1
    memory = StableMemory.from_image(data)
    assert sorted(memory.backing._chunks) == [3, 4]
    assert memory.image() == data


@pytest.mark.parametrize(
    ("length", "text"),
    [
        (
            1,
            "the image is 1 bytes long, 1 more than 0 Wasm pages; it is truncated, or not an image",
        ),
        (3 * WASM_PAGE_BYTES - 1, "the image is 196607 bytes long, 65535 more than 2 Wasm pages"),
    ],
)
def test_image_of_broken_length_is_refused(length, text):
    with pytest.raises(ImageError, match=text):
        StableMemory.from_image(bytes(length))


def test_image_above_the_limit_is_refused():
    limits = replace(LATEST, stable_memory_wasm_pages_max=2)
    text = "the image has 3 Wasm pages, the limit is 2; choose limits of a later date, or None"
    with pytest.raises(ImageError, match=text):
        StableMemory.from_image(bytes(3 * WASM_PAGE_BYTES), limits=limits)
    assert StableMemory.from_image(bytes(2 * WASM_PAGE_BYTES), limits=limits).size() == 2


def test_image_shows_the_open_message(memory):
    with memory.message("query"):
        memory.grow(1)
        memory.write(4 * WASM_PAGE_BYTES, b"staged")
        assert memory.image() == bytes(4 * WASM_PAGE_BYTES) + b"staged".ljust(
            WASM_PAGE_BYTES, b"\0"
        )
    assert memory.image() == bytes(4 * WASM_PAGE_BYTES)


def test_reset_empties_the_memory(memory):
    filled(memory)
    witness = Witness(memory)
    memory.reset()
    assert memory.size() == 0
    # A message like any other, behind which everything has to be looked at anew.
    assert witness.seen == [("end", None, False, 0, b""), ("rollback", None, False, 0, b"")]
    with pytest.raises(OutOfBoundsTrap):
        memory.read(0, 1)
    with memory.message():
        assert memory.grow(5) == 0
        memory.write(3 * WASM_PAGE_BYTES + 1, b"new")
    assert memory.image().strip(b"\0") == b"new"


def test_reset_inside_a_message_is_refused(memory):
    memory.begin("reinstall")
    with pytest.raises(MessageError, match=r"a message \(reinstall\) is open; end it before"):
        memory.reset()
    assert memory.size() == 4
    memory.commit()


# --- Observers


def test_peek_is_neither_counted_nor_recorded(memory):
    memory.log = AccessLog(4096, lambda offsets: offsets)
    with memory.message():
        memory.write(5000, b"seen")
        position, before = memory.log.position(), touched(memory)
        assert memory.peek(4998, 8) == b"\0\0seen\0\0"
        assert memory.peek(0, 4 * WASM_PAGE_BYTES) == memory.image()
        assert memory.peek(2 * WASM_PAGE_BYTES, 0) == b""
        assert memory.wasm_pages == 4
        with pytest.raises(OutOfBoundsTrap, match="stable memory out of bounds"):
            memory.peek(4 * WASM_PAGE_BYTES, 1)
        assert memory.trap is None
        assert memory.log.position() == position == 1
        assert touched(memory) == before == ([1], [1])


# --- The process around it


@NEEDS_LINUX
def test_forked_process_leaves_the_marks_of_its_parent_alone():
    memory = StableMemory()
    memory.grow(1)
    memory.begin("update")
    memory.read(0, 1)
    with warnings.catch_warnings():
        # Python warns from 3.12 on where other threads run; none of them is used here.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:  # pragma: no cover
        try:
            # The child is refused; whatever marks all the same does not reach the parent.
            memory.bytemap.touch(range(2), write=True)
            memory.write(0, b"child")
        except Trap as trap:
            os._exit(0 if "before this process was forked" in str(trap) else 1)
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    assert memory.bytemap.states(range(2)) == bytes([ACCESSED, 0])
    assert memory.read(0, 5) == bytes(5)
    memory.commit()
    memory.close()


@NEEDS_LINUX
@pytest.mark.parametrize("maps", [0, 1, 2])
def test_memory_falls_back_to_chunks_where_addresses_run_out(maps):
    resource = pytest.importorskip("resource")  # Windows has none
    before = resource.getrlimit(resource.RLIMIT_AS)
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (taken + maps * 512 * GIB + GIB, before[1]))
    try:
        memory = StableMemory(limits=None)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    assert type(memory.backing) is type(memory.staging)
    assert isinstance(memory.backing, TieredBacking if maps == 2 else ChunkBacking)
    memory.grow(1)
    with memory.message():
        memory.write(0, b"fine")
    assert memory.read(0, 4) == b"fine"
    memory.close()


@NEEDS_LINUX
@pytest.mark.slow
def test_closing_gives_all_memory_back():
    script = """
import os
from pathlib import Path
from sqlstable.memory.stable import StableMemory
def statm(column):
    return int(Path("/proc/self/statm").read_text().split()[column]) * os.sysconf("SC_PAGE_SIZE")
before = statm(0), statm(1)
memory = StableMemory()
memory.grow(8_000_000)
with memory.message():
    for index in range(5000):
        memory.write(index * 100_000_000, b"x")
assert statm(0) - before[0] > 1000 * 2**30
memory.close()
assert statm(0) - before[0] < 64 * 2**20, statm(0) - before[0]
assert statm(1) - before[1] < 16 * 2**20, statm(1) - before[1]
"""
    subprocess.run([sys.executable, "-c", script], check=True)


# --- The log


def new_log(sqlite_page_bytes=4096):
    """A log whose database file begins at byte 65 536."""
    return AccessLog(sqlite_page_bytes, lambda offsets: offsets + WASM_PAGE_BYTES)


def rows(columns):
    return list(zip(*(column.tolist() for column in columns), strict=True))


def logged(log):
    taken = log.take()
    return rows(taken.columns(0, len(taken)))


def test_calls_are_logged_in_order_with_their_kinds(memory):
    memory.log = new_log()
    memory.size()
    memory.grow(3)
    with memory.message():
        memory.write(5, b"abc")
        memory.read(9, 2)
        memory.grow(0)
    memory.access_read(70_000, 7, 4464)
    memory.access_write(70_001, b"12345", 4465)
    assert logged(memory.log) == [
        (SIZE, 0, 0, -1),
        (GROW, 0, 3, -1),
        (WRITE, 5, 3, -1),
        (READ, 9, 2, -1),
        (GROW, 0, 0, -1),
        (READ, 70_000, 7, 4464),
        (WRITE, 70_001, 5, 4465),
    ]
    assert (READ, WRITE, SIZE, GROW) == (0, 1, 2, 3)


def test_access_of_no_bytes_is_logged(memory):
    memory.log = new_log()
    memory.read(7, 0)
    memory.write(1 << 64, b"")
    assert logged(memory.log) == [(READ, 7, 0, -1), (WRITE, (1 << 63) - 1, 0, -1)]


def test_growth_that_fails_is_logged_and_growth_that_traps_is_not(memory):
    memory.log = new_log()
    assert memory.grow((1 << 64) - 1) == -1
    with trapped(memory), pytest.raises(Trap):
        memory.grow(1)
    assert logged(memory.log) == [(GROW, 0, (1 << 63) - 1, -1)]


def test_accesses_that_trap_are_not_logged():
    memory = limited_memory(update=(1, 1))
    memory.log = new_log()
    for access in (
        lambda: memory.read(0, 5000),
        lambda: memory.write(0, bytes(5000)),
        lambda: memory.read(1 << 40, 1),
        lambda: memory.write(1 << 40, b"x"),
    ):
        memory.begin("update")
        with pytest.raises(Trap):
            access()
        memory.rollback()
    assert memory.log.position() == 0


def test_rollback_keeps_the_log(memory):
    memory.log = new_log()
    with memory.message("query"):
        memory.write(0, b"x")
    assert logged(memory.log) == [(WRITE, 0, 1, -1)]


@pytest.mark.parametrize("sqlite_page_bytes", [512, 4096, 65_536])
def test_regular_entries_are_offsets_and_complements(sqlite_page_bytes):
    log = new_log(sqlite_page_bytes)
    for index in (0, 1, 7):
        log.append(index * sqlite_page_bytes)
        log.append(~(index * sqlite_page_bytes))
    expected = [
        (
            kind,
            WASM_PAGE_BYTES + index * sqlite_page_bytes,
            sqlite_page_bytes,
            index * sqlite_page_bytes,
        )
        for index in (0, 1, 7)
        for kind in (READ, WRITE)
    ]
    assert logged(log) == expected


def test_positions_count_from_0_since_the_last_take(monkeypatch):
    monkeypatch.setattr(accesslog, "COMPACT_AT", 3)
    log = new_log()
    append = log.append
    for round_length in (2, 7, 0, 4):
        for position in range(round_length):
            assert log.position() == position
            append(4096 * position) if position % 2 else log.note(READ, position, 1)
            assert log.compact() is False
        taken = log.take()
        assert len(taken) == round_length
        assert log.position() == log.compacted_count == 0
        addresses = [row[1] for row in rows(taken.columns(0, round_length))]
        expected = [WASM_PAGE_BYTES + 4096 * p if p % 2 else p for p in range(round_length)]
        assert addresses == expected


def test_taken_log_does_not_change_any_more():
    log = new_log()
    log.append(0)
    log.note(READ, 1, 1)
    taken = log.take()
    before = rows(taken.columns(0, 2))
    log.append(8192)
    log.note(WRITE, 2, 2)
    assert rows(taken.columns(0, 2)) == before
    assert len(taken) == 2
    assert [row[0] for row in logged(log)] == [READ, WRITE]


def test_compacting_waits_until_there_is_enough(monkeypatch):
    monkeypatch.setattr(accesslog, "COMPACT_AT", 3)
    log = new_log()
    for count in (1, 2):
        log.append(0)
        log.compact()
        assert (len(log.entries), log.compacted_count) == (count, 0)
    log.append(0)
    log.compact()
    assert (len(log.entries), log.compacted_count) == (0, 3)
    assert log.position() == 3


TIB_8 = 1 << 43
EDGES = [TIB_8 - 8192, TIB_8 - 4096, TIB_8, TIB_8 + 4096, (1 << 44) - 4096]


@pytest.mark.parametrize("offset", EDGES)
@pytest.mark.parametrize("write", [False, True])
def test_compacting_keeps_offsets_beyond_four_bytes_of_sqlite_page_numbers(
    monkeypatch, offset, write
):
    monkeypatch.setattr(accesslog, "COMPACT_AT", 1)
    log = new_log()
    log.append(4096)
    log.note(GROW, 0, 5)
    log.append(~offset if write else offset)
    log.compact()
    assert logged(log) == [
        (READ, WASM_PAGE_BYTES + 4096, 4096, 4096),
        (GROW, 0, 5, -1),
        (int(write), WASM_PAGE_BYTES + offset, 4096, offset),
    ]


def test_compacted_entry_takes_four_bytes_below_8_tib(monkeypatch):
    monkeypatch.setattr(accesslog, "COMPACT_AT", 1)
    log = new_log()
    log.append(TIB_8 - 4096)
    log.append(~(TIB_8 - 8192))
    log.note(SIZE, 0, 0)
    log.compact()
    log.append(TIB_8)
    log.compact()
    assert [piece.dtype for piece in log._compacted] == [np.int32, np.int64]


@st.composite
def accesses(draw):
    """An access as the row that must come back, for some size of SQLite pages."""
    if draw(st.booleans()):
        index = draw(st.integers(0, 9) | st.integers(0, (1 << 32) - 2))
        return draw(st.sampled_from((READ, WRITE))), index
    kind = draw(st.sampled_from((READ, WRITE, SIZE, GROW)))
    numbers = st.integers(0, (1 << 63) - 1)
    return kind, draw(numbers), draw(numbers), draw(st.integers(-1, 1 << 45))


@pytest.mark.slow
@settings(max_examples=150)
@given(
    sqlite_page_bytes=st.sampled_from([512, 4096, 65_536]),
    steps=st.lists(st.tuples(accesses(), st.booleans()), max_size=30),
    chunk_entries=st.integers(1, 9),
    cut=st.tuples(st.integers(0, 31), st.integers(0, 31)),
)
def test_compacting_and_cutting_change_no_column(sqlite_page_bytes, steps, chunk_entries, cut):
    log, expected = new_log(sqlite_page_bytes), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(accesslog, "COMPACT_AT", 2)
        patch.setattr(accesslog, "CHUNK_ENTRIES", chunk_entries)
        for access, is_compacted in steps:
            if len(access) == 2:
                kind, index = access
                offset = index * sqlite_page_bytes
                log.append(~offset if kind == WRITE else offset)
                expected.append((kind, WASM_PAGE_BYTES + offset, sqlite_page_bytes, offset))
            else:
                log.note(*access)
                expected.append(access)
            if is_compacted:
                log.compact()
        taken = log.take()
        assert len(taken) == len(expected)
        assert rows(taken.columns(0, len(taken))) == expected
        start, stop = cut
        chunks = list(taken.chunks(start, stop))
        assert [row for chunk in chunks for row in rows(chunk)] == expected[start:stop]
        assert rows(taken.columns(start, stop)) == expected[start:stop]


def test_long_log_is_handed_out_in_pieces(monkeypatch):
    monkeypatch.setattr(accesslog, "COMPACT_AT", 10)
    monkeypatch.setattr(accesslog, "CHUNK_ENTRIES", 4)
    log = new_log()
    for index in range(25):
        log.append(4096 * index)
        log.compact()
    chunks = list(log.take().chunks(1, 24))
    assert [len(chunk.kind) for chunk in chunks] == [4, 4, 1, 4, 4, 2, 4]
    assert np.concatenate([chunk.offset for chunk in chunks]).tolist() == [
        4096 * index for index in range(1, 24)
    ]


def test_columns_of_nothing_are_empty_and_typed():
    columns = new_log().take().columns(0, 0)
    assert [len(column) for column in columns] == [0, 0, 0, 0]
    assert [column.dtype for column in columns] == [np.int8, np.int64, np.int64, np.int64]


def test_translation_may_hand_back_the_array_it_was_given():
    log = AccessLog(4096, lambda offsets: offsets)
    log.append(8192)
    log.note(READ, 3, 1, 77)
    assert logged(log) == [(READ, 8192, 4096, 8192), (READ, 3, 1, 77)]


def test_offsets_are_translated_when_the_log_is_read():
    """The database may move, by growth, while its accesses wait in the log."""
    origin = [0]
    log = AccessLog(4096, lambda offsets: offsets + origin[0])
    log.append(4096)
    log.note(READ, 3, 1)
    taken = log.take()
    origin[0] = 5 * KIB
    assert rows(taken.columns(0, 2)) == [(READ, 4096 + 5 * KIB, 4096, 4096), (READ, 3, 1, -1)]
