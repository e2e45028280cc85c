"""A damaged module is refused, or it is one: never another exception, a crash, or endless work."""

import contextlib
import os
import time

import pytest
import wasmtime

from sqlstable.engine.measured.module.builds import load
from sqlstable.errors import ModuleError
from sqlstable.wasm.module_file import ModuleFile
from sqlstable.wasm.rewrite.rewriter import RewriteOptions, rewrite
from tests.bare_machine import bare_engine, wasm_of
from tests.module_mutations import mutated
from tests.test_wasm_features import DROPPING, TAIL_CALLS, VECTORS, WASM64
from tests.test_wasm_rewriter import COUNTING

MUTATIONS = int(os.environ.get("SQLSTABLE_MUTATIONS") or 2_000)
"""How many; 100 000 have been run by hand."""

SECONDS_MAX = 5.0
"""Of processor time for one small module; it takes a thousandth of that."""

OTHERS = """(module
  (type $f (func (param i32 f64) (result i32)))
  (import "ic0" "msg_reply" (func $reply))
  (import "ic0" "stable64_read" (func (param i64 i64 i64)))
  (memory (export "memory") 1 4)
  (table (export "table") 4 8 funcref)
  (global $g (mut f64) (f64.const 1.5))
  (global (mut v128) (v128.const i64x2 1 2))
  (elem (i32.const 1) $one)
  (elem declare func $one)
  (data (i32.const 5) "active")
  (func $one (type $f) (local i64 i64 v128)
    (block $a (block $b (block $c
      (br_table $a $b $c (local.get 0)))
      (return (i32.const 2))))
    (drop (ref.is_null (ref.func $one)))
    (drop (select (result funcref) (ref.null func) (table.get (i32.const 0)) (i32.const 1)))
    (if (result i32) (i32.trunc_sat_f64_u (local.get 1))
      (then (call_indirect (type $f) (i32.const 1) (f64.const 2) (i32.const 1)))
      (else (memory.size))))
  (func (export "canister_update go") (call $reply))
  (func (export "canister_query look")))"""


def small_modules():
    texts = [COUNTING, OTHERS, TAIL_CALLS, VECTORS, WASM64]
    texts += [DROPPING.format(kind=kind) for kind in ("i32", "i64")]
    return [wasm_of(text) for text in texts]


def attempt(data):
    """Take a module through all that happens before it is compiled; returns whether it is one."""
    try:
        wasm = ModuleFile.of(data).wasm
    except ModuleError:
        return False
    with contextlib.suppress(ModuleError):
        rewrite(wasm, RewriteOptions(has_heap_marks=True, is_deployed=False))
    try:
        rewritten = rewrite(wasm, RewriteOptions(has_heap_marks=True)).wasm
    except ModuleError:
        return False
    # What was taken is valid as it came, so it is valid as it was made.
    wasmtime.Module.validate(bare_engine(), rewritten)
    return True


def test_small_modules_with_damage_are_refused_or_are_valid_when_rewritten():
    modules = small_modules()
    taken = 0
    for seed in range(MUTATIONS):
        start = time.process_time()
        taken += attempt(mutated(modules, seed))
        assert time.process_time() - start < SECONDS_MAX, seed
    assert MUTATIONS / 50 < taken < MUTATIONS / 2


@pytest.mark.slow
def test_a_large_module_with_damage_is_refused_or_is_valid_when_rewritten():
    for seed in range(12):
        attempt(mutated([load("lean")], seed))
