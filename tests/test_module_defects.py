"""What modules of others have found wrong once, each as small as it was found."""

import pytest

from sqlstable.errors import ModuleError, Trap
from tests.wasm_world import begun


def held(instance):
    """What the module's one mutable global holds, as text: a number, or whether a function."""
    found = instance.globals.typed()
    only = instance.joined.globals._globals[0]
    return repr(found) if found else type(only.value(instance._store)).__name__


def test_a_module_without_entry_points_starts_by_doing_nothing():
    instance = begun('(module (memory 1) (func (export "canister_update f")))')
    instance.start("canister_init", b"")
    instance.call("canister_update f", b"")


def test_an_entry_point_that_is_not_there_is_named_with_those_that_are():
    instance = begun('(module (memory 1) (func (export "canister_update f")))')
    with pytest.raises(ModuleError, match=r"no function 'canister_query g'; .*'canister_update f'"):
        instance.call("canister_query g", b"")
    instance.call("canister_update f", b"")


def test_a_module_without_memory_runs():
    instance = begun('(module (func (export "canister_update f")))')
    instance.start("canister_init", b"")
    instance.call("canister_update f", b"")
    instance.commit(is_new_heap=True)
    assert instance.tell().heap_size == 0


def test_a_start_function_runs_before_the_entry_point_or_without_it():
    body = "(i32.store (i32.const 0) (i32.add (i32.load (i32.const 0)) (i32.const 1)))"
    instance = begun(f"(module (memory 1) (func $start {body}) (start $start))")
    for _ in range(2):
        instance.start("canister_init", b"")
        assert instance.heap_bytes()[0] == 1


@pytest.mark.parametrize(
    ("kind", "first", "other"),
    [
        ("i32", "(i32.const 1)", "(i32.const 2)"),
        ("i64", "(i64.const 1)", "(i64.const 2)"),
        ("f32", "(f32.const 1)", "(f32.const nan:0x200001)"),
        ("f64", "(f64.const 1)", "(f64.const nan:0x8000000000001)"),
        ("v128", "(v128.const i64x2 1 2)", "(v128.const i64x2 3 4)"),
    ],
)
def test_globals_of_every_type_go_back_with_their_message(kind, first, other):
    instance = begun(
        f"""(module (memory 1)
          (global $g (export "g") (mut {kind}) {first})
          (func $f) (elem declare func $f)
          (func (export "canister_update f") (global.set $g {other})))"""
    )
    old = held(instance)
    instance.call("canister_update f", b"")
    changed = held(instance)
    assert (changed == old) == (first == other)
    instance.rollback(is_new_heap=False)
    assert held(instance) == old
    instance.call("canister_update f", b"")
    instance.commit(is_new_heap=False)
    assert held(instance) == changed
    instance.start("canister_init", b"")
    assert held(instance) == old
    instance.rollback(is_new_heap=True)
    assert held(instance) == changed


def test_a_dropped_segment_is_there_again_in_the_next_execution():
    instance = begun(
        """(module (memory 1) (data $d "hello")
          (func (export "canister_init")
            (memory.init $d (i32.const 0) (i32.const 0) (i32.const 5))
            (data.drop $d))
          (func (export "canister_update twice")
            (data.drop $d)
            (memory.init $d (i32.const 0) (i32.const 0) (i32.const 1))))"""
    )
    for _ in range(2):
        instance.start("canister_init", b"")
        assert instance.heap_bytes()[:5] == b"hello"
    with pytest.raises(Trap, match="heap out of bounds"):
        instance.call("canister_update twice", b"")
    instance.rollback(is_new_heap=True)
    instance.start("canister_init", b"")


def test_the_number_of_a_border_is_no_counter_type_of_a_module_of_others():
    wat = """(module (import "ic0" "performance_counter" (func $counter (param i32) (result i64)))
      (memory 1)
      (func (export "canister_update f") (drop (call $counter (i32.const 83)))))"""
    instance = begun(wat)
    with pytest.raises(Trap, match="counter type"):
        instance.call("canister_update f", b"")
    instance.rollback(is_new_heap=False)
    assert instance.tell().border_count == 0


def test_a_module_cannot_call_what_is_for_the_driver():
    wat = """(module (import "ic0" "rollback" (func $rollback (param i32)))
      (memory 1)
      (func (export "canister_update f") (call $rollback (i32.const 0))))"""
    with pytest.raises(ModuleError, match="'rollback' from 'ic0' that is not exported"):
        begun(wat)


def test_an_access_beyond_the_heap_is_not_counted_by_a_later_message():
    instance = begun(
        """(module (memory 0)
        (func (export "canister_update beyond") (drop (i32.load (i32.const 5000))))
        (func (export "canister_update grow") (drop (memory.grow (i32.const 1)))))"""
    )
    with pytest.raises(Trap, match="heap out of bounds"):
        instance.call("canister_update beyond", b"")
    instance.rollback(is_new_heap=False)
    instance.begin_message(1 << 40, 1 << 40, 1 << 40)
    instance.call("canister_update grow", b"")
    assert instance.tell().heap_os_pages_accessed == 0
