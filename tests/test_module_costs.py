"""What modules of others are charged beside their operators, and what their traps tell."""

import gc
import sys

import pytest
import wasmtime

from sqlstable.errors import SettingsError, Trap
from sqlstable.ic.prices import PRICE_REGIMES
from sqlstable.wasm import cache, program
from sqlstable.wasm.backtraces import BACKTRACE_TITLE
from sqlstable.wasm.executing import prints_of
from sqlstable.wasm.shim import INSTRUCTIONS_MAX, LOG
from tests.wasm_world import begun

WRITING = """(module
  (import "ic0" "stable64_grow" (func $grow (param i64) (result i64)))
  (import "ic0" "stable64_write" (func $write (param i64 i64 i64)))
  (memory {width} 4)
  (func (export "canister_update heap")
    (i32.store8 ({width}.const 0) (i32.const 1))
    (i32.store8 ({width}.const 4096) (i32.const 1))
    (i32.store8 ({width}.const 16384) (i32.const 1))
    (i32.store8 ({width}.const 131071) (i32.const 1)))
  (func (export "canister_update stable")
    (drop (call $grow (i64.const 1)))
    (call $write (i64.const 0) (i64.const 0) (i64.const 1))
    (call $write (i64.const 4096) (i64.const 0) (i64.const 8192))
    (call $write (i64.const 16384) (i64.const 0) (i64.const 1))
    (call $write (i64.const 0) (i64.const 0) (i64.const 1))))"""


@pytest.mark.parametrize(("width", "factor"), [("i32", 1), ("i64", 4)])
@pytest.mark.parametrize(("os_page_bytes", "charged"), [(4096, 4), (16_384, 3)])
def test_dirty_heap_pages_are_charged_by_width_and_size(width, factor, os_page_bytes, charged):
    wat = WRITING.format(width=width)
    instance = begun(wat, "wasm-native", os_page_bytes=os_page_bytes)
    instance.call("canister_update heap", b"")
    status = instance.tell()
    assert status.heap_os_pages_written == 4
    assert status.heap_os_pages_priced == charged
    assert instance.program.heap_cost(status) == 1000 * factor * charged


@pytest.mark.parametrize(("os_page_bytes", "charged"), [(4096, 4), (16_384, 2)])
def test_dirty_stable_pages_are_charged_by_size(os_page_bytes, charged):
    wat = WRITING.format(width="i32")
    instance = begun(wat, "wasm-native", os_page_bytes=os_page_bytes)
    instance.call("canister_update stable", b"")
    status = instance.tell()
    assert status.dirty_count == 4
    assert status.page_charges == 1000 * charged


def test_today_s_prices_know_no_sizes_and_no_widths():
    costs = set()
    for width in ("i32", "i64"):
        for os_page_bytes in (4096, 16_384):
            instance = begun(WRITING.format(width=width), os_page_bytes=os_page_bytes)
            instance.call("canister_update heap", b"")
            costs.add(instance.program.heap_cost(instance.tell()))
    assert costs == {4 * 80_000}


def test_other_sizes_of_os_pages_are_refused():
    with pytest.raises(SettingsError, match="os_page_bytes is 8192; it must be 4096 or 16384"):
        begun("(module)", os_page_bytes=8192)


def test_the_charge_for_installing_comes_from_the_cache_as_well(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    wasm = bytes(wasmtime.wat2wasm(WRITING.format(width="i32")))
    options = {"regime": PRICE_REGIMES["memory-tracker"], "watches_heap": True}
    first = program.make_program(wasm, name="first", **options)
    charge, shape = first.install_instructions, first.layout
    assert charge == 6000 * shape.operator_count > 6000 * 38
    del first
    gc.collect()
    assert len(list(cache.cache_folder().iterdir())) >= 1
    monkeypatch.setattr(program, "rewrite", None)
    assert program.make_program(wasm, name="first", **options).install_instructions == charge


TRAPPING = """(module $shop
  (import "ic0" "trap" (func $trap (param i32 i32)))
  (import "ic0" "stable64_write" (func $write (param i64 i64 i64)))
  (memory 1)
  (data (i32.const 0) "no more")
  (func $shop::sell::h0123456789abcdef (call $trap (i32.const 0) (i32.const 7)))
  (func $store (call $write (i64.const 0) (i64.const 0) (i64.const 1)))
  (func $divide (param i32) (result i32) (i32.div_u (i32.const 1) (local.get 0)))
  (func $fill (memory.fill (i32.const 0) (i32.const 0) (i32.const 65537)))
  (func $spin (loop $next (br $next)))
  (func (export "canister_update sell") (call $shop::sell::h0123456789abcdef))
  (func (export "canister_update store") (call $store))
  (func (export "canister_update divide") (drop (call $divide (i32.const 0))))
  (func (export "canister_update fill") (call $fill))
  (func (export "canister_update spin") (call $spin)))"""


@pytest.mark.parametrize(
    ("method", "text", "innermost", "index"),
    [
        ("sell", "no more", "shop::sell", 7),
        ("store", "stable memory out of bounds", "store", 8),
        ("divide", "integer division by 0", "divide", 9),
        ("fill", "heap out of bounds", "fill", 10),
        ("spin", "exceeded the limit of 100000 instructions", "spin", 11),
    ],
)
def test_a_trap_tells_which_functions_were_running(method, text, innermost, index):
    instance = begun(TRAPPING)
    instance.begin_message(100_000, -1, -1)
    with pytest.raises(Trap, match=text) as caught:
        instance.call(f"canister_update {method}", b"")
    assert caught.value.backtrace == (innermost, f"unknown function at index {index}")
    assert BACKTRACE_TITLE not in str(caught.value)


DEEP = """(module (memory 1)
  (func $deep (param i32) (result i32)
    (i32.add (i32.const 1) (call $deep (i32.add (local.get 0) (i32.const 1)))))
  (func $grow (drop (memory.grow (i32.const 65535))) (i32.store (i32.const -4) (i32.const 1)))
  (func (export "canister_update deep") (drop (call $deep (i32.const 0))))
  (func (export "canister_update spin") (loop $next (br $next)))
  (func (export "canister_update grow") (call $grow))
  (func (export "canister_update trap") (call $grow) unreachable)
  (func (export "canister_query size") (i32.store (i32.const 0) (memory.size))))"""


def test_what_uses_everything_up_leaves_the_process_and_the_heap_as_they_were():
    instance = begun(DEEP)
    for method, text in (
        ("deep", "stack overflow"),
        ("spin", "exceeded the limit"),
        ("trap", "unreachable"),
    ):
        instance.begin_message(10_000_000, -1, -1)
        with pytest.raises(Trap, match=text):
            instance.call(f"canister_update {method}", b"")
        instance.rollback(is_new_heap=False)
        instance.begin_message(10_000_000, -1, -1)
        instance.call("canister_query size", b"")
        assert instance.heap_bytes()[:4] == b"\1\0\0\0"
        instance.rollback(is_new_heap=False)
    instance.begin_message(10_000_000, -1, -1)
    instance.call("canister_update grow", b"")
    assert instance.tell().heap_size == 65_536
    instance.prepare_commit()
    instance.commit(is_new_heap=False)
    assert instance.tell().heap_size == 65_536


WIDE = """(module (memory i64 1)
  (func (export "canister_update grow")
    (drop (memory.grow (i64.const 98303)))
    (i32.store8 (i64.const 5000000000) (i32.const 1))
    (i64.store (i64.const 6442450936) (i64.const 7)))
  (func (export "canister_update more")
    (if (i64.ne (memory.grow (i64.const 1)) (i64.const -1)) (then unreachable)))
  (func (export "canister_update beyond") (drop (i64.load (i64.const 6442450937))))
  (func (export "canister_update change") (i64.store (i64.const 6442450936) (i64.const 8)))
  (func (export "canister_query look")
    (if (i64.ne (i64.load (i64.const 6442450936)) (i64.const 7)) (then unreachable))))"""


def test_a_64_bit_heap_has_6_gib_that_are_kept_and_go_back_by_what_was_touched():
    instance = begun(WIDE)
    instance.call("canister_update grow", b"")
    assert instance.tell().heap_size == 98_304
    assert instance.tell().heap_os_pages_written == 2
    instance.prepare_commit()
    instance.commit(is_new_heap=False)
    instance.call("canister_update more", b"")
    instance.call("canister_update change", b"")
    with pytest.raises(Trap, match="heap out of bounds"):
        instance.call("canister_update beyond", b"")
    instance.rollback(is_new_heap=False)
    instance.call("canister_query look", b"")


PRINTING = """(module
  (import "ic0" "debug_print" (func $print (param i32 i32)))
  (memory 17)
  (func (export "canister_update print") (local $left i32)
    (local.set $left (i32.const 1000))
    (loop $next
      (call $print (i32.const 0) (i32.const 5000))
      (local.set $left (i32.sub (local.get $left) (i32.const 1)))
      (br_if $next (local.get $left)))
    (call $print (i32.const 0) (i32.const 1048577))
    (call $print (i32.const 4000000) (i32.const 1))))"""


def test_no_more_than_a_mebibyte_of_prints_is_kept_and_all_are_charged():
    instance = begun(PRINTING)
    costs = []
    for _ in range(2):
        before = instance.tell().counter
        instance.call("canister_update print", b"")
        status = instance.tell()
        costs.append(before - status.counter)
        assert status.debug_size == 1 << 20
    assert costs[1] <= costs[0]
    prints = prints_of(instance.side, instance.tell())
    assert prints == ()
    instance.rollback(is_new_heap=False)
    assert instance.tell().debug_size == 0


def test_lists_of_a_large_message_are_given_back():
    wat = """(module (import "ic0" "stable64_size" (func $size (result i64))) (memory 1)
      (func (export "canister_update ask") (local $left i32)
        (local.set $left (i32.const 3000000))
        (loop $next
          (drop (call $size))
          (local.set $left (i32.sub (local.get $left) (i32.const 1)))
          (br_if $next (local.get $left)))))"""
    instance = begun(wat)
    for end in (instance.commit, instance.rollback):
        instance.begin_message(INSTRUCTIONS_MAX, -1, -1)
        instance.call("canister_update ask", b"")
        assert instance.tell().log_count == 3_000_000
        assert instance.noted(LOG, 3_000_000)[:4] == b"\2\0\0\0"
        end(is_new_heap=False)
        if sys.platform == "linux":
            assert instance.noted(LOG, 1) == bytes(24)
    instance.begin_message(INSTRUCTIONS_MAX, -1, -1)
    instance.call("canister_update ask", b"")
    assert instance.tell().log_count == 3_000_000
