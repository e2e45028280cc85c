"""Reading, refusing and rewriting modules; counting instructions."""

import contextlib
import random

import pytest
import wasmtime
from hypothesis import given, settings
from hypothesis import strategies as st

from sqlstable.database.settings import Settings
from sqlstable.database.vfs import julian_milliseconds
from sqlstable.engine.measured.codec import decode_reply, encode_request, encode_settings
from sqlstable.engine.measured.module.builds import load
from sqlstable.errors import LimitTrap, ModuleError, Trap
from sqlstable.ic.prices import (
    PRICE_REGIMES,
    REPLICA,
    REPLICA_2023,
    REPLICA_FLAT,
    WeightTable,
)
from sqlstable.wasm import shim
from sqlstable.wasm.rewrite import operators
from sqlstable.wasm.rewrite.binary import SizeLimits
from sqlstable.wasm.rewrite.module_reader import read_module
from sqlstable.wasm.rewrite.rewriter import START_EXPORT, RewriteOptions, rewrite
from tests.witness_driver import FREE, Machine, engine

WASMTIME_FUEL = WeightTable(
    name="wasmtime-fuel",
    source="wasmtime 50.0.1, measured: each run is compared",
    default=1,
    weights=dict.fromkeys(
        ["block", "loop", "else", "end", "nop", "drop", "return", "unreachable"], 0
    ),
    function_entry=1,
    per_unit=1,
)
"""What wasmtime's own counter adds up: no price but a witness, as it counts the same way."""

MARKED = RewriteOptions(has_heap_marks=True)


def wasm_of(text):
    return bytes(wasmtime.wat2wasm(text))


# -- against wasmtime's own counter --------------------------------------------------------------

STATEMENTS = [
    "CREATE TABLE u(id INTEGER PRIMARY KEY, name TEXT, grp INT, score REAL)",
    "CREATE INDEX u_grp ON u(grp)",
    "CREATE TABLE k(k TEXT PRIMARY KEY, v BLOB) WITHOUT ROWID",
    "CREATE VIRTUAL TABLE ft USING fts5(t)",
    "CREATE VIRTUAL TABLE box USING rtree(id, x0, x1)",
    """INSERT INTO u WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 400)
    SELECT i, 'user-' || hex(i * 2654435761 % 4294967296), i % 17, i * 0.37 FROM c""",
    "INSERT INTO k SELECT 'key' || id, zeroblob(300) FROM u LIMIT 50",
    "INSERT INTO ft SELECT name || ' alpha beta' FROM u LIMIT 100",
    "INSERT INTO box SELECT id, id, id + 10 FROM u LIMIT 100",
    "SELECT * FROM u WHERE id = 200",
    "SELECT count(*) FROM u WHERE grp = 5",
    "SELECT sum(length(name)), avg(score) FROM u",
    "SELECT a.grp, count(*) FROM u a JOIN u b ON a.grp = b.grp GROUP BY 1 ORDER BY 2 DESC LIMIT 5",
    "SELECT id FROM u ORDER BY name DESC LIMIT 3",
    "SELECT count(*) FROM u WHERE name LIKE '%FF%'",
    "SELECT * FROM u",
    "SELECT sum(s) FROM (SELECT sum(score) OVER (PARTITION BY grp ORDER BY id) s FROM u)",
    "SELECT sum(sin(score) * exp(-id / 1000.0) / (1 + sqrt(score))) FROM u",
    "SELECT count(*) FROM ft WHERE ft MATCH 'alpha'",
    "SELECT count(*) FROM box WHERE x0 < 50 AND x1 > 20",
    "SELECT json_group_array(json_object('a', id, 'b', name)) FROM u LIMIT 40",
    "UPDATE u SET score = score + 1 WHERE id = 77",
    "UPDATE u SET score = score + 1 WHERE grp < 5",
    "DELETE FROM u WHERE id < 50",
    "SELECT group_concat(name) FROM u",
    "PRAGMA integrity_check",
    "SELECT * FROM no_such_table",
]


class FuelHost:
    """The module as it came, under wasmtime's own counter; system calls cost no fuel."""

    def __init__(self, wasm):
        config = wasmtime.Config()
        config.consume_fuel = True
        self.engine = wasmtime.Engine(config)
        self.store = wasmtime.Store(self.engine)
        self.stable = bytearray()
        self.argument, self.reply = b"", []
        i32, i64 = wasmtime.ValType.i32(), wasmtime.ValType.i64()
        linker = wasmtime.Linker(self.engine)
        for name, parameters, results, function in (
            ("stable64_size", [], [i64], lambda: len(self.stable) >> 16),
            ("stable64_grow", [i64], [i64], self.grow),
            ("stable64_read", [i64] * 3, [], self.read),
            ("stable64_write", [i64] * 3, [], self.write),
            ("msg_arg_data_size", [], [i32], lambda: len(self.argument)),
            ("msg_arg_data_copy", [i32] * 3, [], self.copy_argument),
            ("msg_reply_data_append", [i32] * 2, [], self.append_reply),
            ("msg_reply", [], [], lambda: None),
            ("trap", [i32] * 2, [], lambda *_: None),
            ("performance_counter", [i32], [i64], lambda _: 0),
        ):
            kind = wasmtime.FuncType(parameters, results)
            linker.define(self.store, "ic0", name, wasmtime.Func(self.store, kind, function))
        self.store.set_fuel(1 << 62)
        instance = linker.instantiate(self.store, wasmtime.Module(self.engine, wasm))
        self.exports = instance.exports(self.store)
        self.heap = self.exports["memory"]

    def call(self, name, argument):
        self.argument, self.reply = argument, []
        before = self.store.get_fuel()
        self.exports[name](self.store)
        return before - self.store.get_fuel(), b"".join(self.reply)

    def grow(self, pages):
        self.stable += bytes(pages << 16)
        return (len(self.stable) >> 16) - pages

    def read(self, address, offset, size):
        self.heap.write(self.store, self.stable[offset : offset + size], address)

    def write(self, offset, address, size):
        data = self.heap.read(self.store, address, address + size)
        self.stable[offset : offset + size] = data

    def copy_argument(self, address, offset, size):
        self.heap.write(self.store, self.argument[offset : offset + size], address)

    def append_reply(self, address, size):
        address &= (1 << 32) - 1
        self.reply.append(bytes(self.heap.read(self.store, address, address + size)))


def module_machine(build="standard", weights=REPLICA, *, costs=None, **options):
    machine = Machine(
        load(build), RewriteOptions(weights, is_deployed=False, **options), costs=costs
    )
    machine.set("charge_border", 0)
    machine.begin()
    machine.call("canister_init", argument=settings_argument())
    machine.commit()
    return machine


def settings_argument():
    chosen = Settings()
    return encode_settings(chosen, now_ms=julian_milliseconds(chosen.now))


def request(sql):
    return encode_request(sql, key=bytes(16))


def run(machine, sql):
    """Run SQL as an update; returns the instructions and the reply's bytes."""
    machine.begin()
    machine.call("canister_update execute", argument=request(sql))
    used, reply = machine.used, machine.buffer(shim.REPLY)
    machine.commit()
    return used, reply


@pytest.mark.slow
def test_with_wasmtimes_weights_the_rewriter_counts_what_wasmtime_counts():
    host = FuelHost(load("standard"))
    machine = module_machine(weights=WASMTIME_FUEL, costs=FREE)
    host.call("canister_init", settings_argument())
    assert len(STATEMENTS) >= 20
    for sql in STATEMENTS:
        heap_wasm_pages = machine.get("heap_size")
        argument = request(sql)
        fuel, expected = host.call("canister_update execute", argument)
        used, reply = run(machine, sql)
        assert reply == expected, sql
        # Fuel has one more for each Wasm page that the heap grows by; nothing else is different.
        grown = machine.get("heap_size") - heap_wasm_pages
        assert fuel == used + grown, sql
        assert grown <= fuel * 0.0005


@pytest.mark.slow
def test_marks_change_no_count_no_reply_and_no_byte():
    plain, marked = module_machine(), module_machine(has_heap_marks=True)
    again = module_machine(has_heap_marks=True)
    for sql in STATEMENTS:
        expected = run(plain, sql)
        assert run(marked, sql) == expected, sql
        assert run(again, sql) == expected, sql
    assert marked.heap_bytes() == plain.heap_bytes() == again.heap_bytes()
    assert marked.image() == plain.image()
    assert decode_reply([expected[1]]).failure is not None


# -- where charges stand -------------------------------------------------------------------------


BLOCK_ENDS = {"loop", "if", "else", "end", "br", "br_if", "br_table", "return", "unreachable"}


def replica_charges(code, weights):
    """Where a replica charges what: position of the operator, weight, whether it tests.

    Written from the description of its algorithm, apart from the rewriter.
    """
    charges = []
    position, weight, tests = 0, weights.function_entry, True
    for index, operator in enumerate(code):
        name = operators.name_of(operator)
        weight += weights.weight(name)
        if name in {
            "loop",
            "if",
            "else",
            "end",
            "br",
            "br_if",
            "br_table",
            "return",
            "unreachable",
        }:
            if weight or tests:
                charges.append((position, weight, tests))
            position, weight, tests = index + 1, 0, name == "loop"
    return charges


def found_charges(code, local, out):
    """The charges in rewritten code, by the position of the operator in the code as it was."""
    get, tee, set_ = (bytes([opcode]) + local for opcode in (0x20, 0x22, 0x21))
    test = [get, b"\x42\0", b"\x53", b"\x04\x40", b"\x10" + out, b"\0", b"\x0b"]
    charges, position, index = [], 0, 0
    while index < len(code):
        weight = None
        if code[index : index + 2] == [b"\x23\0", set_]:
            index += 2
            continue
        if code[index] == get and code[index + 2 : index + 5] == [b"\x7d", tee, b"\x24\0"]:
            number = code[index + 1][1:]
            weight = sum((byte & 127) << 7 * place for place, byte in enumerate(number))
            index += 5
        if code[index : index + len(test)] == test:
            charges.append((position, weight or 0, True))
            index += len(test)
        elif weight is not None:
            charges.append((position, weight, False))
        else:
            position += 1
            index += 1
    return charges


def leb(value):
    return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + leb(value >> 7)


@pytest.mark.parametrize("weights", [REPLICA, REPLICA_2023, REPLICA_FLAT], ids=lambda w: w.name)
def test_charges_stand_where_a_replica_puts_them(weights):
    wasm = load("lean")
    module = read_module(wasm)
    changed = read_module(rewrite(wasm, RewriteOptions(weights, is_deployed=False)).wasm)
    out = next(
        module.function_count + index
        for index, type_index in enumerate(changed.functions[len(module.functions) :])
        if changed.types[type_index].parameters == changed.types[type_index].results == b""
    )
    assert len(module.bodies) > 100
    for before, after, type_index in list(
        zip(module.bodies, changed.bodies, module.functions, strict=False)
    )[::7]:
        local = len(module.types[type_index].parameters) + before.local_count
        code = operators.cut(before.data, before.start, before.stop)
        charged = operators.cut(after.data, after.start, after.stop)
        found = found_charges(charged, leb(local), leb(out))
        assert found == replica_charges(code, weights)


COUNTING = """(module
  (import "ic0" "performance_counter" (func $used (param i32) (result i64)))
  (import "ic0" "stable64_grow" (func $grow (param i64) (result i64)))
  (import "ic0" "stable64_write" (func $write (param i64 i64 i64)))
  (import "ic0" "stable64_read" (func $read (param i64 i64 i64)))
  (memory (export "memory") 1 3)
  (global $g (mut i32) (i32.const 7))
  (global (export "constant") i64 (i64.const 5))
  (data $part "passive")
  (func (export "empty"))
  (func (export "loop") (param $n i32)
    (loop $l (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1))))))
  (func (export "branches") (param i32) (result i32)
    (if (result i32) (local.get 0)
      (then (i32.const 1))
      (else (i32.mul (i32.const 2) (i32.const 3)))))
  (func (export "bulk") (param $n i32)
    (memory.fill (i32.const 0) (i32.const 1) (local.get $n))
    (memory.copy (i32.const 100) (i32.const 0) (local.get $n))
    (memory.init $part (i32.const 0) (i32.const 0) (i32.const 7)))
  (func (export "set") (global.set $g (i32.add (global.get $g) (i32.const 1))))
  (func (export "get") (result i32) (global.get $g))
  (func (export "size") (result i32) (memory.size))
  (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
  (func (export "poke") (param i32 i32) (i32.store (local.get 0) (local.get 1)))
  (func (export "peek") (param i32) (result i32) (i32.load (local.get 0)))
  (func (export "divide") (param i32) (result i32) (i32.div_u (i32.const 1) (local.get 0)))
  (func $deep (export "deep") (call $deep))
  (func (export "used twice") (result i64)
    (drop (call $used (i32.const 0)))
    (nop)
    (call $used (i32.const 0)))
  (func (export "straight") (if (i32.const 1) (then (nop) (nop) (nop) (nop) (nop))))
  (func (export "stable")
    (drop (call $grow (i64.const 1)))
    (call $write (i64.const 0) (i64.const 0) (i64.const 1))
    (call $write (i64.const 4096) (i64.const 0) (i64.const 1))
    (call $read (i64.const 0) (i64.const 0) (i64.const 1))))
"""


@pytest.fixture(params=[RewriteOptions(), MARKED], ids=["plain", "marked"])
def counting(request):
    return Machine(wasm_of(COUNTING), request.param)


@pytest.mark.parametrize(
    ("name", "arguments", "used"),
    [
        ("empty", (), 1),
        # const, get, sub, tee, br_if for each pass.
        ("loop", (1,), 1 + 6),
        ("loop", (10,), 1 + 10 * 6),
        ("branches", (1,), 1 + 1 + 2 + 1),
        ("branches", (0,), 1 + 1 + 2 + 3),
        ("bulk", (0,), 1 + 9 + 300 + 7),
        ("bulk", (1000,), 1 + 9 + 300 + 2000 + 7),
        ("size", (), 1 + 20),
        ("grow", (1,), 1 + 1 + 300),
        ("set", (), 1 + 2 + 1 + 1 + 2),
        ("divide", (1,), 1 + 1 + 1 + 10),
    ],
)
def test_instructions_by_hand(counting, name, arguments, used):
    counting.begin()
    counting.call(name, *arguments)
    expected = used if name != "loop" else 1 + arguments[0] * 6
    assert counting.used == expected


def test_the_counter_shows_whole_basic_blocks(counting):
    counting.begin()
    # The block is charged before it begins: both calls see all of it, and 200 for each so far.
    block = 1 + 2 * (1 + 5) + 1 + 1
    assert counting.call("used twice") == block + 400


def test_the_bill_that_an_upstream_test_pins(counting):
    counting.begin()
    counting.call("stable")
    operators_cost = 1 + 1 + 4 * 5 + 10
    assert counting.used == operators_cost + 100 + 1000 * 2 + 2 * (20 + 1) + (20 + 1)
    if counting.options.has_heap_marks:
        counting.shim["count_heap"](counting.store)
        dirty = counting.get("heap_os_pages_written")
        assert dirty * PRICE_REGIMES["wasm-native"].dirty_heap_os_page == 1000


# -- running out ---------------------------------------------------------------------------------


def test_out_of_instructions_where_a_replica_notices(counting):
    for limit in range(80):
        counting.begin(instructions=limit)
        if limit >= 61:
            counting.call("loop", 10)
        else:
            with pytest.raises(LimitTrap, match=rf"exceeded the limit of {limit} instructions"):
                counting.call("loop", 10)
        counting.rollback()


def test_a_branch_is_not_tested_but_its_cost_stays(counting):
    # Entry, const and if are tested; the five operators of the branch are not.
    counting.begin(instructions=4)
    counting.call("straight")
    assert counting.get("counter") == -5
    with pytest.raises(LimitTrap):
        counting.call("empty")


def test_bulk_operators_are_tested_before_they_run(counting):
    counting.begin(instructions=2000)
    with pytest.raises(LimitTrap):
        counting.call("bulk", 60_000)
    assert not counting.heap_bytes().strip(b"\0")


def test_traps_of_webassembly_have_the_words_of_the_internet_computer(counting):
    for name, arguments, words in (
        ("divide", (0,), "integer division by 0"),
        ("peek", (1 << 30,), "heap out of bounds"),
        ("poke", (65_533, 1), "heap out of bounds"),
        ("deep", (), "stack overflow"),
    ):
        counting.begin()
        with pytest.raises(Trap, match=words):
            counting.call(name, *arguments)
        counting.rollback()


# -- heap, globals, start ------------------------------------------------------------------------


def test_the_size_of_the_heap_goes_back(counting):
    counting.begin()
    assert counting.call("grow", 1) == 1
    assert counting.call("grow", 2) == -1  # the module says that it takes 3 at most
    counting.call("poke", 70_000, 5)
    counting.rollback()
    counting.begin()
    assert counting.call("size") == 1
    assert counting.call("grow", 2) == 1
    assert counting.call("peek", 70_000) == 0
    assert counting.call("grow", -1) == -1
    assert counting.call("size") == 3
    counting.commit()
    assert counting.get("heap_size") == 3


def test_mutable_globals_are_exported_by_their_index(counting):
    assert [item.export for item in counting.rewritten.mutable_globals] == ["sqlstable:global 0"]
    counting.begin()
    counting.call("set")
    assert counting.call("get") == 8
    assert counting.module["sqlstable:global 0"].value(counting.store) == 8
    counting.module["sqlstable:global 0"].set_value(counting.store, 40)
    assert counting.call("get") == 40
    assert counting.module["constant"].value(counting.store) == 5


def test_a_start_function_becomes_an_export():
    machine = Machine(
        wasm_of(
            """(module (memory 1) (global $g (mut i32) (i32.const 0))
            (func $s (global.set $g (i32.const 3))) (start $s)
            (func (export "get") (result i32) (global.get $g)))"""
        )
    )
    machine.begin()
    assert machine.call("get") == 0
    machine.call(START_EXPORT)
    assert machine.call("get") == 3
    assert START_EXPORT in machine.rewritten.exports


def test_a_module_without_memory_or_globals_runs():
    machine = Machine(wasm_of('(module (func (export "f") (result i32) (i32.const 5)))'))
    machine.begin()
    assert machine.call("f") == 5
    assert machine.rewritten.heap == SizeLimits(0, 0)


def test_options_have_different_keys():
    options = [
        RewriteOptions(),
        RewriteOptions(None),
        RewriteOptions(REPLICA_FLAT),
        MARKED,
        RewriteOptions(has_heap_marks=True, every_access_may_straddle=True),
    ]
    assert len({option.key for option in options}) == len(options)


def test_equal_modules_are_rewritten_to_equal_ones():
    wasm = wasm_of(COUNTING)
    assert rewrite(wasm, MARKED) == rewrite(wasm, MARKED)


# -- reading and refusing ------------------------------------------------------------------------


@pytest.mark.parametrize("build", ["standard", "lean"])
def test_what_is_read_is_written_back(build):
    wasm = load(build)
    assert read_module(wasm).encode() == wasm
    small = wasm_of(COUNTING)
    assert read_module(small).encode() == small


UNSUPPORTED = {
    "threads": "(module (memory 1 1 shared))",
    "atomics": "(module (memory 1) (func (atomic.fence)))",
    "relaxed SIMD": """(module (func (param v128) (result v128)
        (i32x4.relaxed_trunc_f32x4_s (local.get 0))))""",
    "several memories": "(module (memory 1) (memory 1))",
    "another memory": "(module (memory 1) (memory 1) (func (drop (i32.load 1 (i32.const 0)))))",
    "exceptions": "(module (tag $e) (func (throw $e)))",
    "garbage": "(module (type (struct (field i32))))",
    "imported memory": '(module (import "env" "memory" (memory 1)))',
    "the shim's names": '(module (import "sqlstable" "counter" (global (mut i64))))',
    "extended constants": "(module (global i32 (i32.add (i32.const 1) (i32.const 2))))",
}


@pytest.mark.parametrize("text", UNSUPPORTED.values(), ids=UNSUPPORTED)
def test_what_is_not_supported_is_refused_with_its_name(text):
    with pytest.raises(ModuleError, match=r"support|not allowed|canister cannot"):
        rewrite(wasm_of(text))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "begins with"),
        (b"\0asm", "version"),
        (b"\0asm\x0d\0\1\0", "component"),
        (b"\x1f\x8b\x08", "gzip"),
        (b"\0asm\1\0\0\0\1", "none is left"),
        (b"\0asm\1\0\0\0\1\5\1", "are needed and"),
        (b"\0asm\1\0\0\0\1\2\xff\1", "module is truncated"),
        (b"\0asm\1\0\0\0\x7f\0", "unknown"),
        (b"\0asm\1\0\0\0\3\1\0\1\1\0", "twice or too late"),
        (b"\0asm\1\0\0\0\1\6\xff\xff\xff\xff\xff\x7f", "more than 32 bits"),
    ],
)
def test_damage_is_told_with_its_place(data, words):
    with pytest.raises(ModuleError, match=words):
        read_module(data)


def attempt(data):
    """Rewrite what may be damaged; what comes out must be something wasmtime can judge."""
    try:
        wasm = rewrite(data, MARKED).wasm
    except ModuleError:
        return
    with contextlib.suppress(wasmtime.WasmtimeError):
        wasmtime.Module.validate(engine(), wasm)


SMALL = wasm_of(COUNTING)


@settings(max_examples=300)
@given(st.data())
def test_damaged_modules_are_refused_and_nothing_else(data):
    wasm = bytearray(SMALL)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(wasm) - 1))
        match data.draw(st.sampled_from(["flip", "cut", "insert", "number"])):
            case "flip":
                wasm[place] ^= 1 << data.draw(st.integers(0, 7))
            case "cut":
                del wasm[place : place + data.draw(st.integers(1, 20))]
            case "insert":
                wasm[place:place] = data.draw(st.binary(max_size=8))
            case "number":
                wasm[place : place + 5] = b"\xff\xff\xff\xff\x0f"
        if not wasm:
            break
    attempt(bytes(wasm))


@settings(max_examples=200)
@given(st.binary(max_size=60))
def test_any_bytes_are_refused_or_read(data):
    attempt(b"\0asm\1\0\0\0" + data)


def test_code_of_any_bytes_is_refused_or_cut():
    generator = random.Random(4)
    for _ in range(2000):
        code = generator.randbytes(generator.randrange(1, 60))
        try:
            cut = operators.cut(code, 0, len(code))
        except ModuleError:
            continue
        joined = b"".join(cut)
        # An operator that is written longer than need be comes out shorter.
        assert joined == code or len(joined) < len(code)
        assert operators.cut(joined, 0, len(joined)) == cut


def test_a_large_br_table_that_is_not_there_is_no_work():
    with pytest.raises(ModuleError, match="br_table"):
        operators.cut(b"\x0e\xff\xff\xff\xff\x0f" + bytes(100), 0, 106)


@pytest.mark.slow
def test_a_damaged_real_module_is_refused_and_nothing_else():
    wasm = load("standard")
    generator = random.Random(7)
    for _ in range(12):
        damaged = bytearray(wasm)
        for _ in range(generator.randrange(1, 4)):
            damaged[generator.randrange(len(damaged))] = generator.randrange(256)
        attempt(
            bytes(damaged[: generator.choice([len(damaged), generator.randrange(len(damaged))])])
        )


def test_an_operator_that_leaves_its_index_space_is_refused():
    # Valid by its form; the rewriter's own functions and globals would otherwise answer.
    for old, new in ((b"\x10\x00", b"\x10\x7f"), (b"\x23\x00", b"\x23\x02")):
        wasm = wasm_of(
            "(module (memory 1) (global i32 (i32.const 1)) (global i32 (i32.const 1))"
            "(func $f (call $f) (drop (global.get 0))))"
        )
        with pytest.raises(ModuleError, match="there is no"):
            rewrite(wasm.replace(old, new), RewriteOptions(is_deployed=False))
        with pytest.raises(ModuleError, match="Wasmtime failed to validate"):
            rewrite(wasm.replace(old, new))


def test_every_operator_has_a_name_and_a_weight():
    for table in (REPLICA, REPLICA_2023, REPLICA_FLAT, WASMTIME_FUEL):
        assert set(table.weights) <= set(operators.CODES)
    for name, code in operators.CODES.items():
        assert operators.NAMES[code] == name
