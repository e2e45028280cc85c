"""The ``ic0`` calls, row by row of what the replica does: order of checks, lengths of 0, texts."""

import struct
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sqlstable.errors import LimitTrap, OutOfBoundsTrap, Trap
from sqlstable.ic.accesses import Accesses
from sqlstable.ic.limits import latest_limits
from sqlstable.ic.units import GIB, OS_PAGE_BYTES, WASM_PAGE_BYTES
from sqlstable.ic.words import GROW, READ, SIZE, WRITE
from sqlstable.memory.accesslog import AccessLog
from sqlstable.memory.api import HEAP_BYTES_MAX, SystemApi
from sqlstable.memory.backing import ChunkBacking
from sqlstable.memory.stable import StableMemory

LATEST = latest_limits()
STABLE_END = 2 * WASM_PAGE_BYTES
HEAP_END = WASM_PAGE_BYTES
WASM_PAGES_4_GIB = 65_536
U32_MAX = (1 << 32) - 1
U64_MAX = (1 << 64) - 1

STABLE_TEXT = "stable memory out of bounds"
HEAP_TEXT = "heap out of bounds"
BIG_TEXT = "32 bit stable memory api used on a memory larger than 4GB"
ACCESSED_TEXT = (
    "Canister exceeded memory access limits: Exceeded the limit for the number of accessed pages "
    "in the stable memory in a single message execution: limit 8 KB for regular messages and "
    "1048576 KB for queries."
)
DIRTY_TEXT = (
    "Canister exceeded memory access limits: Exceeded the limit for the number of modified pages "
    "in the stable memory in a single execution: limit 4 KB for regular messages, 8388608 KB for "
    "upgrade messages and 1048576 KB for queries."
)


def new_api(wasm_pages=2):
    """An API over a heap of one Wasm page; an update may access 2 OS pages and dirty 1."""
    update = replace(LATEST.update, os_pages_accessed_max=2, os_pages_dirty_max=1)
    memory = StableMemory(limits=replace(LATEST, update=update), backing=ChunkBacking())
    memory.grow(wasm_pages)
    memory.write(0, bytes(range(256)))
    return SystemApi(memory, bytearray(b"h" * HEAP_END))


@pytest.fixture
def api():
    return new_api()


@pytest.fixture
def big_api():
    """An API over a memory that the 32-bit calls cannot use."""
    return new_api(WASM_PAGES_4_GIB + 1)


def read_call(name):
    """The call with its arguments in the order of a write, so that one table serves both."""
    return lambda api, offset, heap, size: getattr(api, name)(heap, offset, size)


def write_call(name):
    return lambda api, offset, heap, size: getattr(api, name)(offset, heap, size)


READS = {"stable64_read": read_call("stable64_read"), "stable_read": read_call("stable_read")}
WRITES = {
    "stable64_write": write_call("stable64_write"),
    "stable_write": write_call("stable_write"),
}
CALLS = READS | WRITES
EVERY_CALL = pytest.mark.parametrize("name", CALLS)
EVERY_64_BIT_CALL = pytest.mark.parametrize("name", ["stable64_read", "stable64_write"])
EVERY_32_BIT_CALL = pytest.mark.parametrize("name", ["stable_read", "stable_write"])


def assert_traps(api, text, call, *arguments):
    """The call traps with exactly this text, the message is lost, and no byte has moved."""
    heap, image = bytes(api.heap), api.memory.peek(0, STABLE_END)
    api.memory.begin("update")
    with pytest.raises(Trap) as caught:
        call(api, *arguments)
    assert str(caught.value) == text
    assert api.memory.trap is caught.value
    api.memory.rollback()
    assert api.heap == heap
    assert api.memory.peek(0, STABLE_END) == image
    return caught.value


def log_of(api):
    """Record from now on."""
    api.memory.log = AccessLog(4096, lambda offsets: offsets)


def logged(api):
    taken = api.memory.log.take()
    return [row[:3] for row in Accesses.joined(taken.chunks(0, len(taken))).rows]


# --- Moving bytes


@EVERY_CALL
def test_call_moves_bytes_between_stable_memory_and_heap(api, name):
    with api.memory.message():
        CALLS[name](api, 250, 1000, 6)
    if name in READS:
        assert api.heap[998:1008] == b"hh\xfa\xfb\xfc\xfd\xfe\xffhh"
        assert api.memory.peek(250, 6) == b"\xfa\xfb\xfc\xfd\xfe\xff"
    else:
        assert api.memory.peek(248, 10) == b"\xf8\xf9hhhhhh\0\0"
        assert api.heap == b"h" * HEAP_END
    assert len(api.heap) == HEAP_END


@EVERY_CALL
def test_last_byte_of_either_memory_is_inside(api, name):
    api.memory.write(STABLE_END - 3, b"end")
    CALLS[name](api, STABLE_END - 3, HEAP_END - 3, 3)
    expected = b"end" if name in READS else b"hhh"
    assert api.heap[-3:] == expected
    assert api.memory.peek(STABLE_END - 3, 3) == expected


@EVERY_CALL
def test_call_is_logged_once_with_its_bytes(api, name):
    log_of(api)
    CALLS[name](api, 5, 7, 11)
    assert logged(api) == [(READ if name in READS else WRITE, 5, 11)]


# --- Order of the checks


@EVERY_64_BIT_CALL
@pytest.mark.parametrize(
    ("offset", "size"),
    [(STABLE_END, 1), (STABLE_END - 1, 2), (0, STABLE_END + 1), (U64_MAX, 1), (U64_MAX, U64_MAX)],
)
def test_stable_bounds_trap(api, name, offset, size):
    trap = assert_traps(api, STABLE_TEXT, CALLS[name], offset, 0, size)
    assert isinstance(trap, OutOfBoundsTrap)


@EVERY_CALL
def test_stable_bounds_come_before_the_heap(api, name):
    assert_traps(api, STABLE_TEXT, CALLS[name], STABLE_END, U32_MAX, 1)
    assert_traps(api, STABLE_TEXT, CALLS[name], 0, 0, U32_MAX)


@EVERY_64_BIT_CALL
def test_largest_heap_comes_before_the_limits(api, name):
    assert_traps(api, HEAP_TEXT, CALLS[name], 0, HEAP_BYTES_MAX + 1, 3 * OS_PAGE_BYTES)
    assert_traps(api, HEAP_TEXT, CALLS[name], 0, U64_MAX, 3 * OS_PAGE_BYTES)


@EVERY_64_BIT_CALL
def test_length_above_the_largest_heap_comes_before_the_limits(name):
    api = new_api(WASM_PAGES_4_GIB + 1)
    assert_traps(api, HEAP_TEXT, CALLS[name], 0, 0, HEAP_BYTES_MAX + 1)


@EVERY_CALL
def test_limits_come_before_the_heaps_own_size(api, name):
    for heap in (HEAP_END, U32_MAX):
        trap = assert_traps(api, ACCESSED_TEXT, CALLS[name], 0, heap, 3 * OS_PAGE_BYTES)
        assert isinstance(trap, LimitTrap)


@pytest.mark.parametrize("name", WRITES)
def test_dirty_limit_comes_after_the_access_limit_and_before_the_heaps_own_size(api, name):
    for heap in (0, HEAP_END):
        assert_traps(api, ACCESSED_TEXT, CALLS[name], 0, heap, 2 * OS_PAGE_BYTES + 1)
        assert_traps(api, DIRTY_TEXT, CALLS[name], 0, heap, 2 * OS_PAGE_BYTES)


@EVERY_CALL
@pytest.mark.parametrize(
    ("heap", "size"), [(HEAP_END, 1), (HEAP_END - 1, 2), (0, HEAP_END + 1), (U32_MAX, 1)]
)
def test_heap_bounds_trap_last(api, name, heap, size):
    update = replace(LATEST.update, os_pages_accessed_max=99, os_pages_dirty_max=99)
    api.memory.limits = replace(LATEST, update=update)
    trap = assert_traps(api, HEAP_TEXT, CALLS[name], 0, heap, size)
    assert isinstance(trap, OutOfBoundsTrap)


@EVERY_CALL
def test_calls_that_trap_are_not_logged(api, name):
    log_of(api)
    assert_traps(api, STABLE_TEXT, CALLS[name], STABLE_END, 0, 1)
    assert_traps(api, ACCESSED_TEXT, CALLS[name], 0, 0, 3 * OS_PAGE_BYTES)
    assert_traps(api, HEAP_TEXT, CALLS[name], 0, HEAP_END, 1)
    assert logged(api) == []


@EVERY_CALL
def test_failing_call_outside_of_a_message_changes_nothing(api, name):
    heap, image = bytes(api.heap), api.memory.image()
    for offset, address in ((STABLE_END, 0), (0, HEAP_END)):
        with pytest.raises(OutOfBoundsTrap):
            CALLS[name](api, offset, address, 1)
    assert (api.heap, api.memory.image()) == (heap, image)
    assert api.memory.trap is None


# --- Lengths of 0


@EVERY_64_BIT_CALL
@pytest.mark.parametrize("offset", [0, STABLE_END, STABLE_END + 1, U64_MAX])
@pytest.mark.parametrize("heap", [0, HEAP_END + 1, HEAP_BYTES_MAX + 1, U64_MAX])
def test_64_bit_call_of_no_bytes_is_checked_against_nothing(api, name, offset, heap):
    log_of(api)
    with api.memory.message():
        CALLS[name](api, offset, heap, 0)
        assert api.memory.bytemap.accessed == []
    assert api.heap == b"h" * HEAP_END
    assert logged(api) == [(READ if name in READS else WRITE, min(offset, (1 << 63) - 1), 0)]


@pytest.mark.parametrize("offset", [0, STABLE_END, STABLE_END + 1, U32_MAX])
def test_32_bit_read_of_no_bytes_is_checked_against_nothing(api, big_api, offset):
    for each in (api, big_api):
        log_of(each)
        with each.memory.message():
            each.stable_read(U32_MAX, offset, 0)
        assert logged(each) == [(READ, offset, 0)]


def test_32_bit_write_of_no_bytes_is_checked_against_the_stable_memory(api, big_api):
    """The one call of the four that does: its return for length 0 comes late."""
    log_of(api)
    api.stable_write(STABLE_END, U32_MAX, 0)
    assert logged(api) == [(WRITE, STABLE_END, 0)]
    assert_traps(api, STABLE_TEXT, write_call("stable_write"), STABLE_END + 1, 0, 0)
    assert_traps(api, STABLE_TEXT, write_call("stable_write"), U32_MAX, 0, 0)
    assert_traps(big_api, BIG_TEXT, write_call("stable_write"), 0, 0, 0)


# --- 32 bits


@EVERY_32_BIT_CALL
def test_32_bit_calls_trap_above_4_gib_before_anything_else(big_api, name):
    trap = assert_traps(big_api, BIG_TEXT, CALLS[name], 0, 0, 1)
    assert type(trap) is Trap
    assert_traps(big_api, BIG_TEXT, CALLS[name], U32_MAX, U32_MAX, U32_MAX)


@EVERY_32_BIT_CALL
def test_32_bit_calls_reach_the_last_byte_of_4_gib(name):
    api = new_api(WASM_PAGES_4_GIB)
    api.memory.write(4 * GIB - 1, b"z")
    CALLS[name](api, U32_MAX, 0, 1)
    assert (api.heap[0], api.memory.peek(U32_MAX, 1)) in ((ord("z"), b"z"), (ord("h"), b"h"))
    assert_traps(api, STABLE_TEXT, CALLS[name], U32_MAX, 0, 2)


def test_32_bit_size_traps_above_4_gib_and_not_at_it():
    api = new_api(WASM_PAGES_4_GIB)
    assert api.stable_size() == WASM_PAGES_4_GIB
    api.stable64_grow(1)
    assert_traps(api, BIG_TEXT, SystemApi.stable_size)
    assert api.stable64_size() == WASM_PAGES_4_GIB + 1


def test_32_bit_grow_answers_minus_one_where_the_result_passes_4_gib():
    api = new_api(WASM_PAGES_4_GIB - 3)
    assert api.stable_grow(4) == -1
    assert api.stable_grow(U32_MAX) == -1
    assert api.stable_grow(2) == WASM_PAGES_4_GIB - 3
    assert api.stable_grow(1) == WASM_PAGES_4_GIB - 1
    assert api.stable_grow(1) == -1
    assert api.stable_grow(0) == WASM_PAGES_4_GIB
    assert api.stable64_grow(1) == WASM_PAGES_4_GIB


def test_32_bit_grow_traps_where_the_size_is_above_4_gib_already(big_api):
    for growth in (0, 1, U32_MAX):
        assert_traps(big_api, BIG_TEXT, SystemApi.stable_grow, growth)
    assert big_api.memory.wasm_pages == WASM_PAGES_4_GIB + 1


def test_32_bit_calls_obey_todays_limit_too():
    memory = StableMemory(limits=replace(LATEST, stable_memory_wasm_pages_max=3))
    api = SystemApi(memory, bytearray())
    assert api.stable_grow(4) == -1
    assert api.stable_grow(3) == 0


# --- Size and growth


def test_64_bit_grow_answers_minus_one_at_the_limit(api):
    maximum = LATEST.stable_memory_wasm_pages_max
    assert api.stable64_grow(maximum - 1) == -1
    assert api.stable64_grow(U64_MAX) == -1
    assert api.stable64_grow(maximum - 2) == 2
    assert api.stable64_grow(1) == -1
    assert api.stable64_grow(0) == api.stable64_size() == maximum


def test_size_and_growth_are_logged_as_calls_even_where_growth_fails(api):
    log_of(api)
    api.stable64_size()
    api.stable_size()
    api.stable64_grow(1)
    api.stable_grow(1)
    api.stable_grow(U32_MAX)
    api.stable64_grow(U64_MAX)
    assert logged(api) == [
        (SIZE, 0, 0),
        (SIZE, 0, 0),
        (GROW, 0, 1),
        (GROW, 0, 1),
        (GROW, 0, U32_MAX),
        (GROW, 0, (1 << 63) - 1),
    ]


# --- Arguments and traps


@pytest.mark.parametrize("bad", [-1, 1 << 64])
@pytest.mark.parametrize("name", ["stable64_read", "stable64_write", "stable64_grow"])
def test_64_bit_arguments_are_unsigned_64_bit_numbers(api, name, bad):
    count = 1 if name == "stable64_grow" else 3
    for position in range(count):
        arguments = [0] * count
        arguments[position] = bad
        with pytest.raises(ValueError, match=f"is {bad}; it must be from 0 to {U64_MAX}"):
            getattr(api, name)(*arguments)


@pytest.mark.parametrize("bad", [-1, 1 << 32])
@pytest.mark.parametrize("name", ["stable_read", "stable_write", "stable_grow"])
def test_32_bit_arguments_are_unsigned_32_bit_numbers(api, name, bad):
    count = 1 if name == "stable_grow" else 3
    for position in range(count):
        arguments = [0] * count
        arguments[position] = bad
        with pytest.raises(ValueError, match=f"is {bad}; it must be from 0 to {U32_MAX}"):
            getattr(api, name)(*arguments)


def test_bad_argument_is_the_callers_mistake_and_no_trap(api):
    with api.memory.message():
        with pytest.raises(ValueError, match="size is -1"):
            api.stable64_read(0, 0, -1)
        api.stable64_write(0, 0, 1)
    assert api.memory.peek(0, 1) == b"h"


EVERY_OTHER_CALL = {
    "stable64_size": (),
    "stable64_grow": (0,),
    "stable64_read": (0, 0, 1),
    "stable64_write": (0, 0, 1),
    "stable_size": (),
    "stable_grow": (0,),
    "stable_read": (0, 0, 1),
    "stable_write": (0, 0, 1),
    "stable64_loadi8": (0,),
    "stable64_loadf64": (0,),
    "stable64_storei64": (0, 1),
    "stable64_storef32": (0, 1.0),
}


@pytest.mark.parametrize("name", EVERY_OTHER_CALL)
def test_trapped_message_answers_every_call_with_its_first_trap(api, name):
    log_of(api)
    api.memory.begin("update")
    with pytest.raises(OutOfBoundsTrap) as first:
        api.stable64_read(HEAP_END, 0, 1)
    with pytest.raises(OutOfBoundsTrap) as later:
        getattr(api, name)(*EVERY_OTHER_CALL[name])
    assert later.value is first.value
    api.memory.rollback()
    assert logged(api) == []


@EVERY_CALL
@pytest.mark.parametrize("arguments", [(0, 0, 0), (STABLE_END, 0, 1), (0, HEAP_END, 1)])
def test_trapped_message_stays_with_its_first_trap_whatever_the_arguments(api, name, arguments):
    api.memory.begin("update")
    with pytest.raises(LimitTrap) as first:
        api.memory.touch(0, 3 * OS_PAGE_BYTES, write=False)
    with pytest.raises(LimitTrap) as later:
        CALLS[name](api, *arguments)
    assert later.value is first.value
    api.memory.rollback()


# --- Direct loads and stores

BITS = (8, 16, 32, 64)
LOADS = {
    f"stable64_load{form}": size
    for form, size in zip(
        ("i8", "i16", "i32", "i64", "f32", "f64"), (1, 2, 4, 8, 4, 8), strict=True
    )
}


def wrapped(value, bits):
    """The signed number that the low bits are."""
    low = value % (1 << bits)
    return low - (1 << bits) if low >> (bits - 1) else low


ANY_INTEGER = st.integers() | st.builds(
    lambda bits, by: (1 << bits) + by,
    st.sampled_from([7, 8, 15, 16, 31, 32, 63, 64]),
    st.integers(-2, 2),
)


@given(value=ANY_INTEGER, bits=st.sampled_from(BITS), offset=st.integers(0, 99))
def test_integers_wrap_and_come_back_signed(value, bits, offset):
    api = new_api()
    getattr(api, f"stable64_storei{bits}")(offset, value)
    assert getattr(api, f"stable64_loadi{bits}")(offset) == wrapped(value, bits)
    expected = (value % (1 << bits)).to_bytes(bits // 8, "little")
    assert api.memory.peek(offset, bits // 8) == expected
    following = offset + bits // 8
    assert api.memory.peek(following, 3) == bytes(range(following, following + 3))


def test_integers_are_little_endian(api):
    api.stable64_storei32(0, 0x01020304)
    assert api.memory.peek(0, 4) == b"\x04\x03\x02\x01"
    assert api.stable64_loadi8(0) == 4
    assert api.stable64_loadi16(2) == 0x0102
    api.stable64_storei8(0, 0x80)
    assert api.stable64_loadi8(0) == -128


F64_BITS = st.integers(0, U64_MAX) | st.builds(
    lambda sign, payload: sign << 63 | 0x7FF << 52 | payload,
    st.integers(0, 1),
    st.integers(0, (1 << 52) - 1),
)
F32_BITS = st.integers(0, U32_MAX) | st.builds(
    lambda sign, payload: sign << 31 | 0xFF << 23 | payload,
    st.integers(0, 1),
    st.integers(0, (1 << 23) - 1),
)


@given(bits=F64_BITS)
@example(bits=0x7FF0_0000_0000_0001)  # a signalling NaN
@example(bits=0xFFF8_0000_0000_0000)
@example(bits=0x8000_0000_0000_0000)  # minus zero
def test_64_bit_floats_keep_every_bit(bits):
    api = new_api()
    api.memory.write(8, bits.to_bytes(8, "little"))
    value = api.stable64_loadf64(8)
    assert struct.pack("<d", value) == bits.to_bytes(8, "little")
    api.stable64_storef64(16, value)
    assert api.memory.peek(16, 8) == bits.to_bytes(8, "little")


@given(bits=F32_BITS)
@example(bits=0x7F80_0001)  # a signalling NaN
@example(bits=0xFFC0_0000)
@example(bits=0x8000_0000)  # minus zero
@example(bits=0x0000_0001)  # the smallest number above 0
@example(bits=0x7F80_0000)  # infinity
def test_32_bit_floats_keep_every_bit(bits):
    api = new_api()
    api.memory.write(8, bits.to_bytes(4, "little"))
    value = api.stable64_loadf32(8)
    is_nan = bits & 0x7FFF_FFFF > 0x7F80_0000
    assert (value != value) == is_nan  # noqa: PLR0124  only a NaN differs from itself
    api.stable64_storef32(16, value)
    assert api.memory.peek(16, 4) == bits.to_bytes(4, "little")


@given(value=st.floats(allow_nan=False))
@example(value=1e300)
@example(value=-1e300)
@example(value=3.4028235677973366e38)  # half a step above the largest: rounds to infinity
@example(value=0.1)
def test_32_bit_stores_round_to_the_nearest_float(value):
    api = new_api()
    api.stable64_storef32(0, value)
    with np.errstate(over="ignore", under="ignore"):
        expected = np.float64(value).astype(np.float32)
    assert api.memory.peek(0, 4) == expected.tobytes()
    assert api.stable64_loadf32(0) == float(expected)


@given(payload=st.integers(1, (1 << 52) - 1))
@example(payload=1)
def test_32_bit_store_of_a_nan_is_a_nan(payload):
    api = new_api()
    api.stable64_storef32(0, struct.unpack("<d", struct.pack("<Q", 0x7FF << 52 | payload))[0])
    (bits,) = struct.unpack("<I", api.memory.peek(0, 4))
    assert bits > 0x7F80_0000
    assert bits & 0x7F_FFFF == (payload >> 29 or 1 << 22)


@pytest.mark.parametrize(("name", "length"), LOADS.items())
@pytest.mark.parametrize("before", range(9))
def test_direct_access_touches_the_os_pages_that_its_bytes_lie_on(name, length, before):
    api = new_api()
    api.memory.limits = None
    offset = OS_PAGE_BYTES - before
    expected = sorted({offset // OS_PAGE_BYTES, (offset + length - 1) // OS_PAGE_BYTES})
    assert len(expected) == (2 if 0 < before < length else 1)
    log_of(api)
    with api.memory.message():
        getattr(api, name)(offset)
        assert api.memory.bytemap.accessed == expected
        assert api.memory.bytemap.dirty == []
    with api.memory.message():
        value = 1.5 if "f" in name else 1
        getattr(api, name.replace("load", "store"))(offset, value)
        assert api.memory.bytemap.accessed == api.memory.bytemap.dirty == expected
        assert getattr(api, name)(offset) == value
    assert getattr(api, name)(offset) == value
    assert logged(api)[:2] == [(READ, offset, length), (WRITE, offset, length)]


@pytest.mark.parametrize(("name", "length"), LOADS.items())
def test_direct_access_traps_at_the_end_of_stable_memory(api, name, length):
    load, store = getattr(api, name), getattr(api, name.replace("load", "store"))
    store(STABLE_END - length, 0)
    assert load(STABLE_END - length) == 0
    for offset in (STABLE_END - length + 1, STABLE_END, U64_MAX):
        assert_traps(api, STABLE_TEXT, lambda _api, offset=offset: load(offset))
        assert_traps(api, STABLE_TEXT, lambda _api, offset=offset: store(offset, 0))
    with pytest.raises(ValueError, match="offset is -1"):
        load(-1)


def test_direct_access_obeys_the_limits(api):
    def load_three(api):
        for index in range(3):
            api.stable64_loadi64(index * OS_PAGE_BYTES)

    assert_traps(api, ACCESSED_TEXT, load_three)
    assert_traps(api, DIRTY_TEXT, lambda api: api.stable64_storei64(OS_PAGE_BYTES - 1, 1))
