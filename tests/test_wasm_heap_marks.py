"""Marks of the heap: against a model, against what changed, and against page protection."""

import ctypes
import faulthandler
import os
import random
import sys

import pytest
import wasmtime

from sqlstable.errors import LimitTrap
from sqlstable.ic.limits import latest_limits
from sqlstable.ic.units import OS_PAGE_BYTES, WASM_PAGE_BYTES, os_pages_spanned
from sqlstable.wasm import shim
from sqlstable.wasm.rewrite import heap_marks, helpers
from sqlstable.wasm.rewrite.heap_marks import ACCESS_BYTES, READ, value_type_of
from sqlstable.wasm.rewrite.operators import LOADS
from sqlstable.wasm.rewrite.rewriter import RewriteOptions
from tests.bare_machine import BareMachine
from tests.test_wasm_rewriter import STATEMENTS, module_machine, request, run
from tests.witness_driver import FREE, Machine, compiled

HEAP_WASM_PAGES = 4
HEAP_BYTES = HEAP_WASM_PAGES * WASM_PAGE_BYTES
PROGRAMS = 100


# -- random programs against a model -------------------------------------------------------------


class Program:
    """A random module with one function, and the OS pages that it must mark."""

    def __init__(self, seed, *, has_true_hints, is_64=False):
        self.kind = "i64" if is_64 else "i32"
        self.random = random.Random(seed)
        self.has_true_hints = has_true_hints
        self.read, self.written = set(), set()
        steps = [self._step() for _ in range(self.random.randrange(1, 25))]
        self.text = f"""(module (memory {self.kind} {HEAP_WASM_PAGES})
            (data $part "{"x" * 200}")
            (func (export "run") (param $zero {self.kind}) (local $i {self.kind})
            {" ".join(steps)}))"""

    def _step(self):
        choice = self.random.random()
        if choice < 0.75:
            return self._access(self._address(16))
        if choice < 0.85:
            return self._loop()
        return self._bulk()

    def _address(self, room):
        near = self.random.randrange(1, HEAP_BYTES // OS_PAGE_BYTES) * OS_PAGE_BYTES
        near += self.random.randrange(-9, 9)
        far = self.random.randrange(HEAP_BYTES)
        return min(self.random.choice([near, near, far, 0]), HEAP_BYTES - room)

    def _access(self, address, index="(local.get $zero)", stride=0, count=1):
        name = self.random.choice(sorted(ACCESS_BYTES))
        length = ACCESS_BYTES[name]
        touched = self.read if name in LOADS else self.written
        for pass_index in range(count):
            touched.update(os_pages_spanned(address + pass_index * stride, length))
        offset = self.random.choice([0, 0, 1, 4, self.random.randrange(address + 1)])
        offset = min(offset, address)
        align = 1 << self.random.randrange(length.bit_length())
        while self.has_true_hints and (address % align or stride % align):
            align //= 2
        where = f"({self.kind}.add ({self.kind}.const {address - offset}) {index})"
        access = f"{name} offset={offset} align={align} {'0' if 'lane' in name else ''} {where}"
        kind = value_type_of(name)
        if kind:
            shape = "i64x2 0" if kind == "v128" else ""
            access = f"{access} ({kind}.const {shape} {self.random.randrange(100)})"
        return f"(drop ({access}))" if name in LOADS else f"({access})"

    def _loop(self):
        stride = self.random.choice([1, 4, 8, 100, 4096, 5000])
        count = self.random.randrange(1, 30)
        address = self._address(stride * count + 16)
        body = self._access(max(address, 0), "(local.get $i)", stride, count)
        kind = self.kind
        return f"""(local.set $i ({kind}.const 0))
            (loop $l {body}
              (local.set $i ({kind}.add (local.get $i) ({kind}.const {stride})))
              (br_if $l ({kind}.lt_u (local.get $i) ({kind}.const {stride * count}))))"""

    def _bulk(self):
        operator = self.random.choice(["memory.fill", "memory.copy", "memory.init $part"])
        lengths = [0, 1, 2, 100, 200] if "init" in operator else [0, 1, 5000, 9000]
        length = self.random.choice(lengths)
        target = self._address(length)
        self.written.update(os_pages_spanned(target, length))
        source = 0 if "init" in operator else self._address(length)
        if operator == "memory.copy":
            self.read.update(os_pages_spanned(source, length))
        address = f"{self.kind}.const"
        source_kind = address if operator == "memory.copy" else "i32.const"
        length_kind = "i32.const" if "init" in operator else address
        return (
            f"({operator} ({address} {target}) ({source_kind} {source}) ({length_kind} {length}))"
        )


def outcome(program, options, *, is_mutated):
    """Run a program with marks; returns what was marked."""
    wasm = bytes(wasmtime.wat2wasm(program.text))
    if program.kind == "i64":
        machine = BareMachine(wasm, options)
    else:
        machine = Machine(wasm, options, costs=FREE)
        machine.begin()
    before = machine.heap_bytes()
    machine.call("run", 0)
    read, written = machine.marks()
    after = machine.heap_bytes()
    assert is_mutated or changed_pages(before, after) <= written
    return read, written


def mismatches(seeds, *, has_true_hints, is_mutated=False, is_64=False):
    """Return the seeds of programs whose marks are not the model's."""
    options = RewriteOptions(has_heap_marks=True, every_access_may_straddle=not has_true_hints)
    wrong = []
    for seed in seeds:
        program = Program(seed, has_true_hints=has_true_hints, is_64=is_64)
        if outcome(program, options, is_mutated=is_mutated) != (program.read, program.written):
            wrong.append(seed)
    return wrong


@pytest.mark.parametrize("has_true_hints", [True, False], ids=["true hints", "any hints"])
def test_marks_of_random_programs_are_those_of_the_model(has_true_hints):
    assert mismatches(range(PROGRAMS), has_true_hints=has_true_hints) == []
    compiled.cache_clear()


def test_marks_of_random_programs_with_64_bit_addresses_are_those_of_the_model():
    assert mismatches(range(PROGRAMS // 2), has_true_hints=True, is_64=True) == []


@pytest.mark.slow
@pytest.mark.parametrize("has_true_hints", [True, False], ids=["true hints", "any hints"])
def test_marks_of_many_random_programs_are_those_of_the_model(has_true_hints):
    for start in range(PROGRAMS, 6 * PROGRAMS, PROGRAMS):
        assert mismatches(range(start, start + PROGRAMS), has_true_hints=has_true_hints) == []
        compiled.cache_clear()


range_code = heap_marks.mark_range_code


def without_offset(monkeypatch):
    page_of = heap_marks._page_of
    monkeypatch.setattr(heap_marks, "_page_of", lambda _, *, is_64: page_of(0, is_64=is_64))


def without_the_last_byte(monkeypatch):
    monkeypatch.setattr(heap_marks, "ACCESS_BYTES", dict.fromkeys(ACCESS_BYTES, 1))


def without_the_source_of_copies(monkeypatch):
    monkeypatch.setattr(
        helpers, "mark_range_code", lambda array: "end" if array == READ else range_code(array)
    )


def with_one_page_too_few(monkeypatch):
    change = ("i32.le_u", "i32.lt_u")
    monkeypatch.setattr(
        helpers, "mark_range_code", lambda array: range_code(array).replace(*change)
    )


def with_marks_for_nothing(monkeypatch):
    change = ("i32.eqz", "i32.const 0 i32.and")
    monkeypatch.setattr(
        helpers, "mark_range_code", lambda array: range_code(array).replace(*change)
    )


def with_reads_for_writes(monkeypatch):
    monkeypatch.setattr(heap_marks, "WRITTEN", dict.fromkeys(heap_marks.WRITTEN, READ))


@pytest.mark.parametrize(
    "mutate",
    [
        without_offset,
        without_the_last_byte,
        without_the_source_of_copies,
        with_one_page_too_few,
        with_marks_for_nothing,
        with_reads_for_writes,
    ],
)
def test_a_mutated_rewriter_is_caught(mutate, monkeypatch):
    mutate(monkeypatch)
    assert mismatches(range(25), has_true_hints=True, is_mutated=True)


# -- the real module -----------------------------------------------------------------------------


def changed_pages(before, after):
    size = min(len(before), len(after))
    pages = {
        start // OS_PAGE_BYTES
        for start in range(0, size, OS_PAGE_BYTES)
        if before[start : start + OS_PAGE_BYTES] != after[start : start + OS_PAGE_BYTES]
    }
    return pages | {
        start // OS_PAGE_BYTES
        for start in range(size, len(after), OS_PAGE_BYTES)
        if after[start : start + OS_PAGE_BYTES].strip(b"\0")
    }


@pytest.mark.slow
def test_what_a_statement_changes_is_marked_as_written():
    machine = module_machine(has_heap_marks=True)
    for sql in STATEMENTS:
        before = machine.heap_bytes()
        machine.begin()
        machine.call("canister_update execute", argument=request(sql))
        read, written = machine.marks()
        assert changed_pages(before, machine.heap_bytes()) <= written, sql
        assert max(read | written) < machine.get("heap_size") * WASM_PAGE_BYTES // OS_PAGE_BYTES
        machine.commit(shim.BY_MARKS)
        kept = machine.bytes_of("heap_kept", 0, machine.get("heap_size") * WASM_PAGE_BYTES)
        assert kept == machine.heap_bytes(), sql


@pytest.mark.slow
def test_a_statement_taken_back_by_marks_leaves_heap_and_image_as_they_were():
    machine = module_machine(has_heap_marks=True)
    for sql in STATEMENTS:
        before = machine.heap_bytes(), machine.image()
        machine.begin()
        machine.call("canister_update execute", argument=request(sql))
        first = machine.used, machine.buffer(shim.REPLY)
        machine.rollback(shim.BY_MARKS)
        assert (machine.heap_bytes(), machine.image()) == before, sql
        assert run(machine, sql) == first, sql


@pytest.mark.slow
def test_a_message_that_traps_anywhere_leaves_nothing():
    machine = module_machine(has_heap_marks=True)
    for sql in STATEMENTS[:9]:
        run(machine, sql)
    sql = "UPDATE u SET score = score + 1, name = name || 'x' WHERE id % 40 = 0"
    before = machine.heap_bytes(), machine.image()
    machine.begin()
    machine.call("canister_update execute", argument=request(sql))
    expected = machine.used, machine.buffer(shim.REPLY)
    os_pages = len(machine.list(shim.ACCESSED))
    machine.rollback(shim.BY_MARKS)
    generator = random.Random(5)
    limits = [{"instructions": generator.randrange(expected[0])} for _ in range(40)]
    limits += [{"accessed_max": count} for count in range(os_pages)]
    machine.limits = latest_limits()
    for limit in limits:
        machine.begin(**limit)
        with pytest.raises(LimitTrap):
            machine.call("canister_update execute", argument=request(sql))
        machine.rollback(shim.BY_MARKS)
        assert (machine.heap_bytes(), machine.image()) == before, limit
    assert run(machine, sql) == expected


# -- page protection -----------------------------------------------------------------------------

NONE, READ_ONLY = 0, 1
PROTECTED_STATEMENTS = STATEMENTS[9:15] + STATEMENTS[21:25]
PAGES_CLOSED_ALONE = 24


def runs_with(machine, sql, closed, expected):
    """Run SQL in a forked child with heap OS pages closed; returns whether it did as expected.

    A closed page ends the child one way or the other: by a trap where the module touches it, by a
    signal where a system call does.
    """
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        return status == 0
    status = 1
    try:
        faulthandler.disable()
        libc = ctypes.CDLL(None, use_errno=True)
        base = machine._address(machine.heap)
        machine.begin()
        for os_page, protection in closed.items():
            address = ctypes.c_void_p(base + os_page * OS_PAGE_BYTES)
            assert libc.mprotect(address, ctypes.c_size_t(OS_PAGE_BYTES), protection) == 0
        machine.call("canister_update execute", argument=request(sql))
        if (machine.used, machine.buffer(shim.REPLY)) == expected:
            status = 0
    finally:
        os._exit(status)


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs fork and mprotect")
def test_marks_are_what_page_protection_finds():
    marked, twin = module_machine(has_heap_marks=True), module_machine()
    for sql in STATEMENTS[:9]:
        run(marked, sql)
        run(twin, sql)
    generator = random.Random(3)
    for sql in PROTECTED_STATEMENTS:
        heap_os_pages = marked.get("heap_size") * WASM_PAGE_BYTES // OS_PAGE_BYTES
        marked.begin()
        marked.call("canister_update execute", argument=request(sql))
        expected = marked.used, marked.buffer(shim.REPLY)
        read, written = ({p for p in pages if p < heap_os_pages} for pages in marked.marks())
        # Nothing is missing: with all else closed, and what is read only read-only, it runs.
        closed = dict.fromkeys(set(range(heap_os_pages)) - read - written, NONE)
        closed |= dict.fromkeys(read - written, READ_ONLY)
        assert runs_with(twin, sql, closed, expected), sql
        # Nothing is superfluous: with one of them closed it does not.
        alone = [(page, NONE) for page in read] + [(page, READ_ONLY) for page in written]
        for page, protection in generator.sample(
            sorted(alone), min(len(alone), PAGES_CLOSED_ALONE)
        ):
            assert not runs_with(twin, sql, {page: protection}, expected), (sql, page)
        marked.commit()
        assert run(twin, sql) == expected
