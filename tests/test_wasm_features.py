"""What the Internet Computer takes beyond plain Wasm: 64-bit heaps, vectors, tail calls, more."""

import pytest
import wasmtime

from sqlstable.errors import ModuleError
from sqlstable.ic.prices import REPLICA
from sqlstable.wasm.rewrite.binary import FUNCREF, V128, SizeLimits, TableType
from sqlstable.wasm.rewrite.operators import NAMES, cut, name_of
from sqlstable.wasm.rewrite.rewriter import PRIVATE, START_EXPORT, RewriteOptions, rewrite
from tests.bare_machine import BareMachine, wasm_of

MARKED = RewriteOptions(has_heap_marks=True)
WASM64_PAGES_MAX = 98_304

WASM64 = """(module
  (memory (export "memory") i64 1 100000)
  (data (i64.const 8) "hello")
  (data $part "passive")
  (func (export "size") (result i64) (memory.size))
  (func (export "grow") (param i64) (result i64) (memory.grow (local.get 0)))
  (func (export "poke") (param i64 i64) (i64.store offset=8 (local.get 0) (local.get 1)))
  (func (export "peek") (param i64) (result i64) (i64.load (local.get 0)))
  (func (export "far") (param i64) (result i32)
    (i32.load8_u offset=0xfffffffffffffff0 (local.get 0)))
  (func (export "fill") (param i64 i64) (memory.fill (local.get 0) (i32.const 7) (local.get 1)))
  (func (export "copy") (param i64 i64 i64)
    (memory.copy (local.get 0) (local.get 1) (local.get 2)))
  (func (export "init") (param i64)
    (memory.init $part (local.get 0) (i32.const 0) (i32.const 7))))"""


@pytest.fixture(params=[RewriteOptions(), MARKED], ids=["plain", "marked"])
def wasm64(request):
    return BareMachine(wasm_of(WASM64), request.param)


def test_a_64_bit_heap_grows_to_six_gib_and_no_further(wasm64):
    assert wasm64.rewritten.heap == SizeLimits(1, WASM64_PAGES_MAX, is_64=True)
    assert wasm64.call("grow", 2) == 1
    assert wasm64.call("size") == 3 == wasm64.get("heap_size")
    assert wasm64.call("grow", WASM64_PAGES_MAX - 3 + 1) == -1
    assert wasm64.call("grow", -1) == -1
    assert wasm64.call("grow", WASM64_PAGES_MAX - 3) == 3
    assert wasm64.call("size") == WASM64_PAGES_MAX
    wasm64.call("poke", (6 << 30) - 16, 9)
    assert wasm64.call("peek", (6 << 30) - 8) == 9


def test_a_64_bit_heap_that_was_made_smaller_grows_again_inside(wasm64):
    wasm64.call("grow", 2)
    wasm64.shared["heap_size"].set_value(wasm64.store, 1)
    assert wasm64.call("size") == 1
    assert wasm64.call("grow", 1) == 1
    assert wasm64.get("heap_size") == 2
    assert wasm64.shared["heap"].size(wasm64.store) == 3


def test_accesses_of_64_bit_heaps_are_marked(wasm64):
    if not wasm64.rewritten.access_count:
        return
    wasm64.call("grow", 1)
    wasm64.call("poke", 4096, 5)
    wasm64.call("peek", 70_000)
    wasm64.call("init", 3 * 4096)
    wasm64.call("fill", 5 * 4096 - 1, 2)
    wasm64.call("copy", 7 * 4096, 9 * 4096, 1)
    assert wasm64.marks() == ({9, 17}, {1, 3, 4, 5, 7})


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("peek", (1 << 40,)),
        ("peek", (-1,)),
        ("poke", (6 << 30, 1)),
        ("far", (0,)),
        ("far", (40,)),  # the sum does not wrap around
        ("fill", (0, -1)),
        ("fill", (-1, 5)),
        ("fill", (5, 1 << 44)),
        ("copy", (0, 0, 1 << 32)),
        ("copy", (1 << 61, 0, 1 << 61)),
        ("init", (65_530,)),
    ],
)
def test_what_lies_outside_of_a_64_bit_heap_traps_as_it_does_anywhere(wasm64, name, arguments):
    with pytest.raises(wasmtime.Trap) as trapped:
        wasm64.call(name, *arguments)
    assert trapped.value.trap_code is wasmtime.TrapCode.MEMORY_OUT_OF_BOUNDS
    assert set(wasm64.heap_bytes()) <= {0, *b"hello"}


def test_loads_and_stores_of_64_bit_heaps_cost_two(wasm64):
    assert wasm64.used_by("peek", 0) == (1 + 1 + 2, int.from_bytes(b"\0" * 8))
    assert wasm64.used_by("poke", 0, 0)[0] == 1 + 1 + 1 + 2
    assert wasm64.used_by("size")[0] == 1 + 20
    assert wasm64.used_by("fill", 0, 1000)[0] == 1 + 3 + 100 + 1000
    assert wasm64.used_by("init", 0)[0] == 1 + 3 + 100 + 7


VECTORS = """(module
  (memory (export "memory") 1)
  (global $v (mut v128) (v128.const i64x2 1 2))
  (func $twice (param v128) (result v128) (local v128)
    (block (result v128)
      (local.set 1 (i64x2.add (local.get 0) (local.get 0)))
      (local.get 1)))
  (func (export "run") (result i64)
    (v128.store offset=16 (i32.const 4086) (call $twice (global.get $v)))
    (v128.store8_lane offset=1 3 (i32.const 8191) (v128.const i32x4 0x9000000 0 0 0))
    (global.set $v (v128.load64_lane offset=8 1 (i32.const 20480) (v128.const i64x2 5 6)))
    (drop (v128.load32x2_s (i32.const 16380)))
    (i64x2.extract_lane 1 (v128.load offset=6 (i32.const 4096)))))"""


@pytest.mark.parametrize("options", [RewriteOptions(), MARKED], ids=["plain", "marked"])
def test_vectors_are_computed_stored_and_marked(options):
    machine = BareMachine(wasm_of(VECTORS), options)
    assert [item.value_type for item in machine.rewritten.mutable_globals] == [V128]
    used, result = machine.used_by("run")
    assert result == 4
    assert machine.heap_bytes()[8192] == 9
    called = 1 + 1 + 1 + 1 + 1 + 1
    stored = 1 + 2 + 5 + 1 + (1 + 1 + 1) + (1 + 1 + 1 + 2)
    assert used == 1 + called + stored + (1 + 1 + 1) + (1 + 1 + 1)
    if options is MARKED:
        # A vector declared as aligned to 16 bytes is believed to be: one mark.
        assert machine.marks() == ({1, 3, 5}, {1, 2})


TAIL_CALLS = """(module
  (type $f (func (param i64 i64) (result i64)))
  (table funcref (elem $sum $odd))
  (func $sum (export "sum") (type $f)
    (if (result i64) (i64.eqz (local.get 0))
      (then (local.get 1))
      (else (return_call $sum
        (i64.sub (local.get 0) (i64.const 1)) (i64.add (local.get 1) (local.get 0))))))
  (func $odd (export "odd") (type $f)
    (return_call_indirect (type $f) (local.get 0) (local.get 1) (i32.const 0))))"""


def test_tail_calls_need_no_stack_and_are_counted():
    machine = BareMachine(wasm_of(TAIL_CALLS), MARKED)
    used, result = machine.used_by("sum", 1_000_000, 0)
    assert result == 1_000_000 * 1_000_001 // 2
    each = 1 + 1 + 1 + 2 + (3 + 3 + 3)
    assert used == 1_000_000 * each + 1 + 1 + 1 + 2 + 1
    assert machine.used_by("odd", 0, 5) == (1 + 3 + 60 + (1 + 1 + 1 + 2 + 1), 5)
    assert REPLICA.weight("return_call") == 3


DROPPING = """(module
  (memory (export "memory") {kind} 1)
  (data ({kind}.const 100) "active")
  (data $first "first")
  (data $second "second")
  (global (mut i32) (i32.const 3))
  (func (export "first") (param i32 i32)
    (memory.init $first ({kind}.const 0) (local.get 0) (local.get 1)))
  (func (export "second") (memory.init $second ({kind}.const 50) (i32.const 0) (i32.const 6)))
  (func (export "active") (param i32)
    (memory.init 0 ({kind}.const 0) (i32.const 0) (local.get 0)))
  (func (export "drop") (data.drop $first))
  (func (export "drop active") (data.drop 0)))"""


@pytest.mark.parametrize("kind", ["i32", "i64"])
def test_a_dropped_segment_is_like_an_empty_one_until_its_flag_goes_back(kind):
    machine = BareMachine(wasm_of(DROPPING.format(kind=kind)), MARKED)
    assert machine.rewritten.dropped_flags == (f"{PRIVATE}dropped 1",)
    machine.call("second")
    for _ in range(2):
        assert machine.used_by("first", 0, 5)[0] == 1 + 3 + 100 + 5
        assert machine.heap_bytes().startswith(b"first")
        assert machine.used_by("drop")[0] == 1 + 300
        machine.call("drop")
        machine.call("first", 0, 0)
        for operands in [(0, 1), (1, 0), (0, 5)]:
            with pytest.raises(wasmtime.Trap, match="out of bounds memory access"):
                machine.call("first", *operands)
        machine.call("second")
        machine.set_export(machine.rewritten.dropped_flags[0], 0)
    with pytest.raises(wasmtime.Trap, match="out of bounds memory access"):
        machine.call("active", 1)
    machine.call("active", 0)
    machine.call("drop active")


def test_exports_of_a_module_do_not_meet_those_for_the_driver():
    taken = [f"{PRIVATE}global 0", f"{PRIVATE}table 0", START_EXPORT, "canister_start", "global 0"]
    exports = "".join(f'(export "{name}" (func $f))' for name in taken)
    wasm = wasm_of(
        f"""(module (global (mut i32) (i32.const 5)) (table 3 funcref) (func $f) (func $s)
        (start $s) (memory (export "memory") 1) {exports})"""
    )
    machine = BareMachine(wasm, RewriteOptions(is_deployed=False))
    assert {item.export for item in machine.rewritten.mutable_globals} == {taken[0]}
    assert machine.exports[taken[0]].value(machine.store) == 5
    (table,) = machine.rewritten.tables
    assert table.table == TableType(FUNCREF, SizeLimits(3, None))
    assert machine.exports[table.export].size(machine.store) == 3
    assert machine.rewritten.exports == {"canister_start", "global 0", START_EXPORT}
    machine.call(START_EXPORT)


def test_tables_with_64_bit_indexes_are_taken():
    machine = BareMachine(
        wasm_of(
            """(module (table i64 2 10 funcref) (elem (i64.const 1) $f) (elem $e func $f)
            (func $f (result i32) (i32.const 6))
            (func (export "call") (result i32) (call_indirect (result i32) (i64.const 1)))
            (func (export "grow") (result i64) (table.grow (ref.null func) (i64.const 3)))
            (func (export "bulk")
              (table.fill (i64.const 1) (ref.func $f) (i64.const 3))
              (table.copy (i64.const 0) (i64.const 1) (i64.const 2))
              (table.init $e (i64.const 0) (i32.const 0) (i32.const 1))
              (elem.drop $e)))"""
        ),
        RewriteOptions(is_deployed=False),
    )
    assert machine.rewritten.tables[0].table.limits == SizeLimits(2, 10, is_64=True)
    assert machine.call("call") == 6
    assert machine.call("grow") == 2
    operators = 1 + 9 + 129 + 300 + 300
    assert machine.used_by("bulk")[0] == operators + 3 + 2 + 1


def test_what_a_replica_compiles_is_the_module_with_its_metering():
    rewritten = rewrite(
        wasm_of(
            """(module (memory 1) (global i32 (i32.const 1)) (global i32 (i32.const 1))
            (func (param i32)
              (loop $l (br_if $l (local.get 0)))
              (memory.fill (i32.const 0) (i32.const 0) (i32.const 0))
              (drop (memory.grow (i32.const 1)))))"""
        )
    )
    assert rewritten.operator_count == 12
    injected = 2 * 10 + 4 + 3 + 3  # two tested charges, one that is not, the length, the growth
    globals_, functions = 2 * (2 + 3), 12 + 46
    assert rewritten.compiled_operator_count == 12 + injected + globals_ + functions


PADDED = {
    "i32.load, alignment": ("28 8200 00", "28 02 00"),
    "i32.trunc_sat_f32_s": ("fc 8000", "fc 00"),
    "memory.size": ("3f 8000", "3f 00"),
    "memory.copy": ("fc 8a00 8000 00", "fc 0a 00 00"),
    "v128.load": ("fd 8000 84808000 00", "fd 00 04 00"),
    "i16x8.add": ("fd 8e8180 00", "fd 8e01"),
    "v128.store8_lane": ("fd d880 00 00 00 0f", "fd 58 00 00 0f"),
    "select t": ("1c 8100 7f", "1c 01 7f"),
}


@pytest.mark.parametrize(("given", "shortest"), PADDED.values(), ids=PADDED)
def test_operators_written_longer_than_need_be_come_out_short(given, shortest):
    code = bytes.fromhex(f"01 {given} 0b")
    assert cut(code, 0, len(code)) == [b"\x01", bytes.fromhex(shortest), b"\x0b"]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("fd 9a01", "unknown, or damaged"),
        ("fd 8002", "relaxed SIMD"),
        ("fd ffffffff0f", "relaxed SIMD"),
        ("fd", "unknown, or damaged"),
        ("fd 0c 0000", "v128.const"),
        ("28 20 00", "i32.load"),
        ("28 42 00 00", "several memories"),
        ("fd 00 44 00 00", "several memories"),
        ("fc 0a 01 00", "several memories"),
        ("28 ffffffff0f 00", "several memories|i32.load"),
        ("fc 12", "prefix of number 18"),
        ("fe 03 00", "threads"),
    ],
)
def test_operators_that_are_none_are_refused_with_their_name(code, words):
    data = bytes.fromhex(code)
    with pytest.raises(ModuleError, match=words):
        cut(data, 0, len(data))


def test_every_operator_is_cut_off_as_one():
    for code, name in NAMES.items():
        assert name_of(code + b"\0" * 20) == name
