"""The shim against the model that the native engine runs on, and its own rules."""

import random
from dataclasses import replace

import pytest
import wasmtime
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sqlstable.errors import LimitTrap, OutOfBoundsTrap, Trap
from sqlstable.ic.accesses import Accesses
from sqlstable.ic.limits import MessageLimits, latest_limits
from sqlstable.ic.prices import PRICE_REGIMES, SystemCosts
from sqlstable.ic.system_calls import ANY_CONTEXT_BIT
from sqlstable.ic.units import OS_PAGE_BYTES, WASM_PAGE_BYTES
from sqlstable.ic.words import READ, WRITE
from sqlstable.memory import accesslog
from sqlstable.memory.api import SystemApi
from sqlstable.memory.stable import StableMemory
from sqlstable.wasm import shim
from tests.witness_driver import (
    FREE,
    NO_LIMIT,
    Machine,
    compiled,
    engine,
    signed32,
    signed64,
)

_INT64_MAX = (1 << 63) - 1
_HEAP_BYTES = 2 * WASM_PAGE_BYTES


def limits_of(*, accessed=NO_LIMIT, dirty=NO_LIMIT, wasm_pages=8_192_000):
    message = MessageLimits(accessed, dirty, 1)
    return replace(
        latest_limits(),
        stable_memory_wasm_pages_max=wasm_pages,
        update=message,
        query=message,
        upgrade=message,
        subnet_memory_bytes=1 << 40,
    )


# -- differential: the shim and SystemApi over StableMemory --------------------------------------

near = st.sampled_from([0, 1, 4095, 4096, 4097, 65_535, 65_536, 65_537, 131_072, 262_143, 262_144])
far = st.sampled_from(
    [(1 << 32) - 1, (1 << 32) + 1, 1 << 33, 1 << 62, 1 << 63, (1 << 64) - 4096, (1 << 64) - 1]
)
address_64 = st.one_of(near, st.integers(0, 4 * WASM_PAGE_BYTES), far)
length_64 = st.one_of(st.sampled_from([0, 1, 4096, 8192, 65_536]), st.integers(0, 20_000), far)
address_32 = st.one_of(near, st.integers(0, 4 * WASM_PAGE_BYTES), st.just((1 << 32) - 1))
length_32 = st.one_of(st.sampled_from([0, 1, 4096, 8192]), st.integers(0, 20_000))
pages_64 = st.one_of(st.integers(0, 3), st.sampled_from([65_536, 65_537, 1 << 40, 1 << 63]))
pages_32 = st.one_of(st.integers(0, 3), st.sampled_from([65_535, 65_536, (1 << 32) - 1]))

calls = st.one_of(
    st.tuples(st.just("stable64_size")),
    st.tuples(st.just("stable_size")),
    st.tuples(st.just("stable64_grow"), pages_64),
    st.tuples(st.just("stable_grow"), pages_32),
    st.tuples(st.just("stable64_read"), address_64, address_64, length_64),
    st.tuples(st.just("stable64_write"), address_64, address_64, length_64),
    st.tuples(st.just("stable_read"), address_32, address_32, length_32),
    st.tuples(st.just("stable_write"), address_32, address_32, length_32),
)
messages = st.lists(
    st.tuples(st.lists(calls, max_size=12), st.sampled_from(["commit", "rollback"])),
    min_size=1,
    max_size=4,
)


class Pair:
    """The same memory twice."""

    def __init__(self, limits, wasm_pages):
        self.limits = limits
        self.machine = Machine(costs=FREE, limits=limits, heap_wasm_pages=2)
        self.memory = StableMemory(limits=limits)
        self.memory.log = accesslog.AccessLog(OS_PAGE_BYTES)
        self.api = SystemApi(self.memory, bytearray(_HEAP_BYTES))
        self.machine.set("stable_size_max", limits.stable_memory_wasm_pages_max)
        self.machine.shim["set_stable_size"](self.machine.store, wasm_pages)
        self.memory.grow(wasm_pages)
        self.memory.log.take()
        pattern = random.Random(wasm_pages).randbytes(_HEAP_BYTES)
        self.machine.poke(self.machine.heap, 0, pattern)
        self.api.heap[:] = pattern

    def close(self):
        self.memory.close()

    def begin(self):
        message = self.limits.update
        self.memory.begin("update")
        self.machine.begin(
            accessed_max=message.os_pages_accessed_max, dirty_max=message.os_pages_dirty_max
        )

    def run(self, name, *arguments):
        """Call both; returns whether they trapped."""
        expected = outcome(getattr(self.api, name), *arguments)
        convert = signed64 if "64" in name else signed32
        got = outcome(self.machine.ic0, name, *map(convert, arguments))
        assert got == expected
        return isinstance(expected[1], str)

    def compare(self):
        bytemap = self.memory.bytemap
        assert self.machine.list(shim.ACCESSED) == bytemap.accessed
        assert self.machine.list(shim.DIRTY) == bytemap.dirty
        assert self.machine.get("stable_size_now") == self.memory.wasm_pages
        assert self.logged() == list(zip(*self.expected_log(), strict=True))
        marks = bytearray(self.machine.bytes_of("bytemap"))
        for os_page in bytemap.accessed:
            assert marks[os_page] == bytemap.mark(os_page)
            marks[os_page] = 0
        assert not marks.strip(b"\0")
        assert self.machine.heap_bytes() == bytes(self.api.heap)

    def logged(self):
        limited = lambda number: _INT64_MAX if number < 0 else number  # noqa: E731  one use
        return [
            (kind, limited(address), limited(length))
            for kind, address, length in self.machine.list(shim.LOG)
        ]

    def expected_log(self):
        taken = self.memory.log.take()
        columns = Accesses.joined(taken.chunks(0, len(taken)))
        return columns.kind.tolist(), columns.address.tolist(), columns.length.tolist()

    def end(self, how):
        if how == "commit":
            self.memory.commit()
            self.machine.commit()
        else:
            self.memory.rollback()
            self.api.heap[:] = self.kept
            self.machine.rollback()
        assert self.machine.list(shim.ACCESSED) == []
        assert not self.machine.bytes_of("bytemap").strip(b"\0")
        self.kept = bytes(self.api.heap)
        assert self.machine.heap_bytes() == self.kept
        assert self.machine.get("stable_size_now") == self.memory.wasm_pages
        size = self.memory.wasm_pages * WASM_PAGE_BYTES
        if size < 1 << 24:
            image = bytes(self.memory.backing.read(0, size))
            assert self.machine.image() == image
            # What a rollback freed must be zero for whoever grows into it.
            behind = min(self.machine.stable.data_len(self.machine.store) - size, 1 << 20)
            assert not self.machine.bytes_of(self.machine.stable, size, behind).strip(b"\0")


def outcome(function, *arguments):
    """Return what a call gave, or the kind and the words of its trap."""
    try:
        return None, function(*arguments)
    except Trap as trap:
        return type(trap), trap.args[0]


@settings(max_examples=100)
@given(messages, st.sampled_from([0, 1, 4]), st.integers(0, 12), st.integers(0, 12))
@example([([("stable64_grow", 65_537), ("stable_size",)], "rollback")], 0, 0, 0)
@example([([("stable64_grow", 65_536), ("stable_size",), ("stable_grow", 1)], "commit")], 0, 0, 0)
@example([([("stable64_grow", 65_537), ("stable_read", 0, 0, 0)], "commit")], 0, 0, 0)
@example([([("stable64_grow", 65_537), ("stable_write", 0, 0, 0)], "commit")], 0, 0, 0)
@example([([("stable64_read", 0, (1 << 64) - 4096, 8192)], "commit")], 4, 0, 0)
@example([([("stable64_write", (1 << 64) - 1, 0, 2)], "commit")], 4, 0, 0)
@example([([("stable64_read", 1 << 33, 0, 1), ("stable64_size",)], "commit")], 4, 1, 1)
@example([([("stable_write", 65_537, 0, 0)], "commit")], 1, 0, 0)
@example([([("stable64_write", 65_537, 0, 0)], "commit")], 1, 0, 0)
@example([([("stable64_write", 4095, 0, 2), ("stable64_read", 0, 0, 9999)], "rollback")], 1, 3, 2)
def test_the_shim_does_what_the_model_does(script, wasm_pages, accessed_max, dirty_max):
    limits = limits_of(
        accessed=accessed_max or NO_LIMIT,
        dirty=dirty_max or NO_LIMIT,
        wasm_pages=70_000 if wasm_pages != 4 else 6,
    )
    pair = Pair(limits, wasm_pages)
    pair.machine.commit()
    pair.kept = pair.machine.heap_bytes()
    try:
        for message, how in script:
            pair.begin()
            trapped = any(pair.run(*call) for call in message)
            pair.compare()
            pair.end("rollback" if trapped else how)
    finally:
        pair.close()


# -- limits and trap texts -----------------------------------------------------------------------


def test_a_limit_holds_at_the_access_that_crosses_it():
    limits = limits_of(accessed=3, dirty=2)
    machine = Machine(costs=FREE, limits=limits)
    machine.shim["set_stable_size"](machine.store, 1)
    machine.begin(accessed_max=3, dirty_max=2)
    machine.ic0("stable64_write", 0, 0, 2 * OS_PAGE_BYTES)
    machine.ic0("stable64_read", 0, 2 * OS_PAGE_BYTES, 10)
    with pytest.raises(LimitTrap, match=r"modified pages in the stable memory.*limit 8 KB"):
        machine.ic0("stable64_write", 2 * OS_PAGE_BYTES, 0, 1)
    with pytest.raises(LimitTrap, match=r"accessed pages in the stable memory.*limit 12 KB"):
        machine.ic0("stable64_read", 0, 3 * OS_PAGE_BYTES, 1)
    assert machine.list(shim.ACCESSED) == [0, 1, 2]
    assert machine.list(shim.DIRTY) == [0, 1]


def test_every_trap_says_the_words_of_the_internet_computer():
    machine = Machine(limits=latest_limits())
    machine.shim["set_stable_size"](machine.store, 65_537)
    machine.begin(instructions=10_000)
    for call, words in [
        (("stable64_read", 0, 65_537 * WASM_PAGE_BYTES, 1), "stable memory out of bounds"),
        (("stable64_write", 0, WASM_PAGE_BYTES, 1), "heap out of bounds"),
        (("stable_size",), "32 bit stable memory api used on a memory larger than 4GB"),
        (("stable_write", 0, 0, 0), "32 bit stable memory api used on a memory larger than 4GB"),
        (
            ("stable64_read", 0, 0, 10_000),
            "Canister exceeded the limit of 10000 instructions for single message execution.",
        ),
    ]:
        machine.begin(instructions=10_000)
        with pytest.raises(Trap) as trapped:
            machine.ic0(*call)
        assert trapped.value.args[0] == words
    machine.poke(machine.heap, 0, b"no such key")
    machine.begin()
    with pytest.raises(Trap, match=r"^no such key$"):
        machine.ic0("trap", 0, 11)
    with pytest.raises(Trap, match=r"^\(trap message out of memory bounds\)$"):
        machine.ic0("trap", WASM_PAGE_BYTES - 1, 2)


def test_a_length_that_wraps_around_runs_out_of_instructions():
    machine = Machine()
    machine.begin(instructions=1000)
    with pytest.raises(LimitTrap, match="limit of 1000 instructions"):
        machine.ic0("stable64_read", 0, 0, signed64(1 << 63))
    assert machine.get("counter") < 0


def test_the_last_instruction_may_be_used():
    machine = Machine()
    machine.begin(instructions=500)
    machine.ic0("time")
    assert machine.get("counter") == 0
    machine.begin(instructions=499)
    with pytest.raises(LimitTrap):
        machine.ic0("time")


# -- charges -------------------------------------------------------------------------------------


def test_the_shim_has_no_costs_of_its_own():
    machine = Machine()
    defaults = wasmtime.Linker(engine())
    defaults.define(machine.store, "sqlstable", "heap", machine.heap)
    defaults.define(machine.store, "sqlstable", "stable", machine.stable)
    fresh = defaults.instantiate(machine.store, compiled(shim.shim())).exports(machine.store)
    for name in ("charge_border", *shim.cost_globals(SystemCosts())):
        assert fresh[name].value(machine.store) == 0, name


def test_a_write_costs_its_bytes_and_1000_for_each_newly_dirty_os_page():
    # The published exact checks, scaled down: grow and write five times, read five times.
    machine = Machine(heap_wasm_pages=16)
    machine.begin()
    chunk = 16 * WASM_PAGE_BYTES
    for index in range(5):
        machine.ic0("stable64_grow", 16)
        machine.ic0("stable64_write", index * chunk, 0, chunk)
    for index in range(5):
        machine.ic0("stable64_read", 0, index * chunk, chunk)
    os_pages = 5 * chunk // OS_PAGE_BYTES
    assert machine.used == 10 * chunk + 1000 * os_pages + 10 * 20 + 5 * 100
    assert machine.get("page_charges") == 1000 * os_pages


def test_an_os_page_is_charged_once_in_a_message_and_again_in_the_next():
    machine = Machine()
    machine.shim["set_stable_size"](machine.store, 1)
    for _ in range(2):
        machine.begin()
        machine.ic0("stable64_write", 4000, 0, 200)
        assert machine.used == 20 + 200 + 2000
        machine.ic0("stable64_write", 4000, 0, 200)
        machine.ic0("stable64_read", 0, 0, 5)
        assert machine.used == 3 * 20 + 405 + 2000
        machine.commit()


def test_regions_are_charged_when_first_accessed_and_again_when_first_written():
    machine = Machine(costs=PRICE_REGIMES["memory-tracker"].costs)
    machine.shim["set_stable_size"](machine.store, 3)
    machine.begin()
    machine.ic0("stable64_read", 0, WASM_PAGE_BYTES - 1, 2)
    assert machine.get("page_charges") == 2 * 80_000
    machine.ic0("stable64_read", 0, 5 * OS_PAGE_BYTES, 9)
    machine.ic0("stable64_write", 0, 0, 1)
    machine.ic0("stable64_write", 9 * OS_PAGE_BYTES, 0, 1)
    assert machine.get("page_charges") == 3 * 80_000
    machine.ic0("stable64_write", 2 * WASM_PAGE_BYTES, 0, 1)
    assert machine.get("page_charges") == 5 * 80_000
    assert machine.get("stable_regions_accessed") == 3
    assert machine.get("stable_regions_dirty") == 2
    assert machine.used == 5 * 80_000 + 5 * 20 + 2 + 9 + 1 + 1 + 1


@pytest.mark.parametrize(
    ("name", "arguments", "cost"),
    [
        ("msg_arg_data_size", (), 500),
        ("msg_reply", (), 500),
        ("msg_reply_data_append", (0, 100), 500 + 50 * 100),
        ("msg_caller_copy", (0, 0, 1), 501),
        ("is_controller", (0, 29), 1029),
        ("performance_counter", (0,), 200),
        ("debug_print", (0, 10), 100 + 52 * 10),
        ("debug_print", (0, 5000), 100 + 52 * 4096),
        ("stable64_grow", (0,), 100),
        ("stable64_size", (), 0),
        ("time", (), 500),
    ],
)
def test_system_calls_cost_what_the_table_says(name, arguments, cost):
    machine = Machine()
    machine.begin()
    machine.ic0(name, *arguments)
    assert machine.used == cost


def test_prints_pay_transmission_while_the_log_has_room():
    machine = Machine()
    machine.begin()
    machine.ic0("debug_print", 0, 4000)
    machine.ic0("debug_print", 0, 4000)
    assert machine.used == 2 * 100 + 2 * 2 * 4000 + 50 * 4096


# -- buffers -------------------------------------------------------------------------------------


def test_argument_and_reply_go_through():
    machine = Machine(heap_wasm_pages=2)
    machine.begin()
    machine.shim["begin_call"](machine.store, 70_000, ANY_CONTEXT_BIT)
    argument = random.Random(1).randbytes(70_000)
    machine.poke("argument", 0, argument)
    assert machine.ic0("msg_arg_data_size") == 70_000
    machine.ic0("msg_arg_data_copy", 100, 0, 70_000)
    for start in range(0, 70_000, 7000):
        machine.ic0("msg_reply_data_append", 100 + start, 7000)
    machine.ic0("msg_reply")
    assert machine.buffer(shim.REPLY) == argument
    assert machine.get("answer") == 1
    with pytest.raises(Trap, match="the call is already replied"):
        machine.ic0("msg_reply")
    with pytest.raises(Trap, match="payload: src=1 \\+ length=70000 exceeds the slice size=70000"):
        machine.ic0("msg_arg_data_copy", 0, 1, 70_000)


def test_a_reply_can_be_large():
    machine = Machine(heap_wasm_pages=16)
    machine.begin()
    for _ in range(40):
        machine.ic0("msg_reply_data_append", 0, 16 * WASM_PAGE_BYTES)
    assert machine.get("reply_size") == 40 * 16 * WASM_PAGE_BYTES


def test_prints_are_kept_in_order():
    machine = Machine()
    machine.begin()
    machine.poke(machine.heap, 0, b"onetwo")
    machine.ic0("debug_print", 0, 3)
    machine.ic0("debug_print", 3, 3)
    assert machine.buffer(shim.DEBUG) == b"\3\0\0\0one\3\0\0\0two"
    machine.commit()
    assert machine.buffer(shim.DEBUG) == b""


def test_the_driver_has_the_numbers_of_a_message_at_one_look():
    machine = Machine()
    machine.shim["set_stable_size"](machine.store, 1)
    machine.begin()
    machine.ic0("stable64_write", 0, 0, 10)
    machine.ic0("debug_print", 0, 4)
    machine.shim["tell"](machine.store)
    data = machine.bytes_of("status", 0, 8 * len(shim.ShimStatus._fields))
    numbers = dict(zip(shim.ShimStatus._fields, memoryview(data).cast("q"), strict=True))
    for name in shim.ShimStatus._fields:
        assert numbers[name] == machine.get("stable_size_now" if name == "stable_size" else name)
    assert numbers["dirty_count"] == numbers["log_count"] == 1
    assert numbers["debug_size"] == 8


def test_what_the_driver_accesses_counts_as_a_call_does_but_is_free():
    machine = Machine(limits=limits_of(accessed=2))
    machine.shim["set_stable_size"](machine.store, 1)
    machine.begin(accessed_max=2)
    machine.ic0("host_access", 4090, 10, 3)
    machine.ic0("host_access", 0, 0, 2)
    machine.ic0("host_access", 5000, 1, 2)
    assert machine.list(shim.ACCESSED) == machine.list(shim.DIRTY) == [0, 1]
    read, write = shim.OF_DRIVER + READ, shim.OF_DRIVER + WRITE
    assert machine.list(shim.LOG) == [(write, 4090, 10), (read, 0, 0), (read, 5000, 1)]
    assert machine.used == machine.get("page_charges") == 0
    with pytest.raises(LimitTrap, match="accessed pages"):
        machine.ic0("host_access", 8192, 1, 2)
    with pytest.raises(OutOfBoundsTrap, match="stable memory out of bounds"):
        machine.ic0("host_access", WASM_PAGE_BYTES, 1, 2)
    assert machine.ic0("host_grow", 1, -1) == 1
    assert machine.ic0("host_grow", 1, 2) == -1


def test_an_access_that_is_entered_once_more_costs_its_os_pages_only():
    machine = Machine()
    machine.shim["set_stable_size"](machine.store, 1)
    machine.begin()
    machine.ic0("enter_access", 4090, 10, 3)
    assert machine.list(shim.LOG) == [(WRITE, 4090, 10)]
    assert machine.used == machine.get("page_charges") == 2000


# -- borders -------------------------------------------------------------------------------------


def test_borders_are_free_and_tell_what_was_used():
    machine = Machine()
    machine.shim["set_stable_size"](machine.store, 1)
    machine.set("charge_border", 0)
    machine.begin()
    machine.ic0("performance_counter", shim.BORDER)
    machine.ic0("stable64_write", 0, 0, 10)
    machine.ic0("performance_counter", shim.BORDER | 3 << 8)
    machine.ic0("stable64_size")
    machine.ic0("performance_counter", shim.BORDER | 4 << 8)
    assert machine.list(shim.BORDERS) == [
        (0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
        (3, 1030, 1, 1000, 0, 0, 0, 0, 1, 1, 1),
        (4, 1030, 2, 1000, 0, 0, 0, 0, 1, 1, 1),
    ]
    assert machine.ic0("performance_counter", 0) == 1230
    with pytest.raises(Trap, match="Error getting performance counter type 2"):
        machine.ic0("performance_counter", 2)


# -- marks and the kept heap ---------------------------------------------------------------------


def tracked(**options):
    machine = Machine(**options)
    machine.set("has_heap_marks", 1)
    return machine


def test_system_calls_mark_their_side_of_the_heap():
    machine = tracked(heap_wasm_pages=4)
    machine.shim["set_stable_size"](machine.store, 1)
    machine.begin()
    machine.ic0("stable64_read", 4095, 0, 2)
    machine.ic0("stable64_write", 0, 3 * OS_PAGE_BYTES, OS_PAGE_BYTES)
    machine.ic0("stable64_write", 0, 9 * OS_PAGE_BYTES, 0)
    machine.ic0("msg_reply_data_append", 20 * OS_PAGE_BYTES - 1, 2)
    assert machine.marks() == ({3, 19, 20}, {0, 1})
    machine.shim["count_heap"](machine.store)
    assert machine.get("heap_os_pages_accessed") == 5
    assert machine.get("heap_os_pages_written") == 2
    assert machine.get("heap_regions_accessed") == 2
    assert machine.get("heap_regions_written") == 1
    machine.commit(shim.BY_MARKS)
    assert machine.marks() == (set(), set())


@settings(max_examples=60)
@given(st.data())
def test_the_heap_goes_back_by_its_marks(data):
    machine = tracked(heap_wasm_pages=2)
    machine.shim["set_stable_size"](machine.store, 2)
    model = bytearray(2 * WASM_PAGE_BYTES)
    generator = random.Random(data.draw(st.integers(0, 1 << 30)))
    machine.poke(machine.stable, 0, generator.randbytes(2 * WASM_PAGE_BYTES))
    for _ in range(data.draw(st.integers(1, 5))):
        machine.begin()
        now = bytearray(model)
        if generator.random() < 0.4:
            # As the module's own memory.grow does.
            grown = generator.randrange(3)
            machine.set("heap_size", machine.get("heap_size") + grown)
            missing = machine.get("heap_size") - machine.heap.size(machine.store)
            machine.heap.grow(machine.store, max(missing, 0))
            now += bytes(grown * WASM_PAGE_BYTES)
        for _ in range(generator.randrange(6)):
            length = generator.choice([1, 100, 5000, 40_000])
            target = generator.randrange(len(now) - length)
            source = generator.randrange(2 * WASM_PAGE_BYTES - length)
            machine.ic0("stable64_read", target, source, length)
            now[target : target + length] = machine.bytes_of(machine.stable, source, length)
        assert machine.heap_bytes() == bytes(now)
        if generator.random() < 0.5:
            machine.commit(shim.BY_MARKS)
            model = now
        else:
            machine.rollback(shim.BY_MARKS)
        assert machine.heap_bytes() == bytes(model)
        behind = machine.bytes_of(machine.heap, len(model))
        assert not behind.strip(b"\0")


def test_a_heap_made_new_is_zero_and_its_past_is_forgotten():
    machine = tracked(heap_wasm_pages=4)
    machine.poke(machine.heap, 3 * WASM_PAGE_BYTES, b"old")
    machine.shim["keep_heap"](machine.store, shim.WHOLE)
    assert machine.shim["reset_heap"](machine.store, 2) == 1
    machine.shim["keep_heap"](machine.store, shim.WHOLE)
    assert not machine.bytes_of(machine.heap).strip(b"\0")
    machine.begin()
    machine.set("heap_size", 4)
    machine.commit(shim.BY_MARKS)
    machine.begin()
    machine.shim["set_stable_size"](machine.store, 1)
    machine.ic0("stable64_read", 3 * WASM_PAGE_BYTES, 0, 100)
    machine.rollback(shim.BY_MARKS)
    assert not machine.bytes_of(machine.heap).strip(b"\0")


def test_growing_into_what_a_rollback_freed_finds_zeros():
    machine = Machine()
    for _ in range(3):
        machine.begin()
        assert machine.ic0("stable64_grow", 2) == 0
        machine.poke(machine.heap, 0, b"x" * 100)
        assert not machine.image().strip(b"\0")
        machine.ic0("stable64_write", 70_000, 0, 100)
        machine.rollback()
        assert machine.get("stable_size_now") == 0


def test_a_full_stable_memory_does_not_grow():
    machine = Machine()
    machine.set("stable_size_max", 3)
    machine.begin()
    assert machine.ic0("stable64_grow", 4) == -1
    assert machine.ic0("stable64_grow", 3) == 0
    assert machine.ic0("stable64_grow", 0) == 3
    assert machine.ic0("stable64_grow", 1) == -1
    assert machine.ic0("stable64_grow", -1) == -1
