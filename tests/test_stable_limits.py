"""Limits on OS pages, and traps: what crosses a limit, and what a trapped message still answers."""

from contextlib import suppress
from dataclasses import replace

import pytest

from sqlstable.errors import (
    LimitTrap,
    OutOfBoundsTrap,
    Trap,
)
from sqlstable.ic.units import GIB, OS_PAGE_BYTES, OS_PAGES_PER_WASM_PAGE, WASM_PAGE_BYTES
from sqlstable.memory.accesslog import AccessLog
from sqlstable.memory.bytemap import ACCESSED, DIRTY
from sqlstable.memory.stable import StableMemory
from tests.stable_world import (  # noqa: F401  a fixture
    KINDS,
    LATEST,
    Witness,
    filled,
    limited_memory,
    memory_fixture,
    os_page_at,
    small_limits,
    touched,
    trapped,
)

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
