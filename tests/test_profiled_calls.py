"""The tree of calls that a module with a profile keeps: what belongs to which function."""

import random

import pytest
import wasmtime

from sqlstable.errors import Trap
from sqlstable.ic.prices import PRICE_REGIMES
from sqlstable.wasm.instance import Instance
from sqlstable.wasm.program import make_program
from sqlstable.wasm.rewrite import profiling

WAYS = """(module
  (import "ic0" "msg_reply" (func $reply))
  (import "ic0" "msg_reply_data_append" (func $append (param i32 i32)))
  (import "ic0" "stable64_grow" (func $grow (param i64) (result i64)))
  (import "ic0" "stable64_write" (func $write (param i64 i64 i64)))
  (import "ic0" "stable64_read" (func $read (param i64 i64 i64)))
  (import "ic0" "msg_arg_data_copy" (func $argument (param i32 i32 i32)))
  (memory (export "memory") 20)
  (table 4 funcref)
  (elem (i32.const 0) $leaf $branching $append $two)

  (func $leaf (result i32) (i32.const 7))                                            ;; 6
  (func $returning (param i32) (result i32)                                          ;; 7
    (block (loop (if (local.get 0) (then (return (call $leaf))))))
    (i32.const 1))
  (func $branching (param i32) (result i32)                                          ;; 8
    (block (result i32)
      (drop (br_if 1 (i32.const 5) (local.get 0)))
      (br_table 0 1 (i32.const 6) (i32.const 1)))
    (drop) (i32.const 9))
  (func $two (param i32) (result i32 i64)                                            ;; 9
    (if (local.get 0) (then (return (i32.const 1) (i64.const 2))))
    (call $leaf) (i64.const 3))
  (func $fib (param i32) (result i32)                                                ;; 10
    (if (result i32) (i32.lt_u (local.get 0) (i32.const 2))
      (then (local.get 0))
      (else (i32.add
        (call $fib (i32.sub (local.get 0) (i32.const 1)))
        (call $fib (i32.sub (local.get 0) (i32.const 2)))))))
  (func $even (param i32) (result i32)                                               ;; 11
    (if (i32.eqz (local.get 0)) (then (return (i32.const 1))))
    (return_call $odd (i32.sub (local.get 0) (i32.const 1))))
  (func $odd (param i32) (result i32)                                                ;; 12
    (if (i32.eqz (local.get 0)) (then (return (i32.const 0))))
    (return_call $even (i32.sub (local.get 0) (i32.const 1))))
  (func $deep (param i32) (result i32)                                               ;; 13
    (if (i32.eqz (local.get 0)) (then (return (i32.const 0))))
    (i32.add (i32.const 1) (call $deep (i32.sub (local.get 0) (i32.const 1)))))
  (func $touch (param i32) (i32.store (local.get 0) (i32.load offset=65536 (local.get 0))))  ;; 14
  (func $bulk (memory.copy (i32.const 0x80000) (i32.const 0x90000) (i32.const 0x10000))      ;; 15
    (memory.fill (i32.const 0xa0000) (i32.const 1) (i32.const 5000)))
  (func $stable                                                                      ;; 16
    (drop (call $grow (i64.const 3)))
    (call $write (i64.const 65530) (i64.const 0xc0000) (i64.const 10))
    (call $read (i64.const 0xd0000) (i64.const 65536) (i64.const 70000)))
  (func $last (return_call $reply))                                                  ;; 17
  (func $trapping (param i32)                                                        ;; 18
    (i32.store (i32.const 0xe0000) (i32.const 1))
    (if (local.get 0) (then (call $trapping (i32.sub (local.get 0) (i32.const 1))))
      (else (unreachable))))
  (func $endless (loop (br 0)))                                                      ;; 19

  (func (export "canister_update ways") (local $i i32)                               ;; 20
    (drop (call $returning (i32.const 1)))
    (drop (call $returning (i32.const 0)))
    (drop (call $branching (i32.const 0)))
    (drop (call $branching (i32.const 1)))
    (drop (drop (call $two (i32.const 0))))
    (drop (drop (call $two (i32.const 1))))
    (drop (call_indirect (result i32) (i32.const 0)))
    (drop (call_indirect (param i32) (result i32) (i32.const 1) (i32.const 1)))
    (loop
      (drop (call $leaf))
      (br_if 0 (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 100))))
    (call $last))
  (func (export "canister_update fib") (drop (call $fib (i32.const 12))) (call $last))
  (func (export "canister_update even") (drop (call $even (i32.const 100000))) (call $last))
  (func (export "canister_update deep") (drop (call $deep (i32.const 5000))) (call $last))
  (func (export "canister_update touch")
    (call $touch (i32.const 0)) (call $touch (i32.const 4096)) (call $touch (i32.const 0x20000))
    (call $bulk) (call $stable)
    (call $argument (i32.const 0x120000) (i32.const 0) (i32.const 4))
    (call $touch (i32.const 0x120000))
    (call $append (i32.const 0x110000) (i32.const 4)) (call $last))
  (func (export "canister_update trap") (call $touch (i32.const 0)) (call $trapping (i32.const 3)))
  (func (export "canister_update endless") (drop (call $leaf)) (call $endless))
  (func (export "canister_update outside") (call $touch (i32.const -70000)))
  (func (export "canister_update outside_stable")
    (call $write (i64.const 0) (i64.const 0) (i64.const 70000))))"""

METHODS = ("ways", "fib", "even", "deep", "touch", "trap", "endless", "outside", "outside_stable")

NAMES = {
    **dict(enumerate(("reply", "append", "grow", "write", "read", "argument"))),
    **dict(
        enumerate(
            (
                *("leaf", "returning", "branching", "two", "fib", "even", "odd", "deep"),
                *("touch", "bulk", "stable", "last", "trapping", "endless"),
                *METHODS,
            ),
            6,
        )
    ),
}


def instance_of(wat, regime="memory-tracker", **options):
    wasm = wat if isinstance(wat, bytes) else bytes(wasmtime.wat2wasm(wat))
    program = make_program(
        wasm, name="profiled", regime=PRICE_REGIMES[regime], watches_heap=True, **options
    )
    return Instance(program, stable_wasm_pages_max=100, limits=None)


def run(instance, method, instructions=10_000_000):
    """Return what the shim counted, and the trees; what was done stays undone."""
    instance.begin_message(instructions, -1, -1)
    trap = None
    try:
        instance.call(f"canister_update {method}", b"abcd")
    except Trap as found:
        trap = str(found)
    status = instance.tell()
    trees = [called.tree for called in instance.trees.take()]
    instance.rollback(is_new_heap=False)
    return status, trap, trees


@pytest.fixture(scope="module", name="pair", params=[4096, 16_384], ids=["4 KiB", "16 KiB"])
def pair_fixture(request):
    pages = {"os_page_bytes": request.param}
    return instance_of(WAYS, **pages), instance_of(WAYS, has_profile=True, **pages)


def paths(tree):
    """Return nodes by their paths of names."""
    names = []
    for node in tree:
        above = () if node.parent < 0 else names[node.parent]
        names.append((*above, NAMES[node.function]))
    assert len(set(names)) == len(names)
    return dict(zip(names, tree, strict=True))


def total(trees, field):
    return sum(getattr(node, field) for tree in trees for node in tree)


@pytest.mark.parametrize("method", METHODS)
def test_a_profile_changes_nothing_and_adds_up(pair, method):
    plain, profiled = pair
    expected, expected_trap, nothing = run(plain, method)
    status, trap, trees = run(profiled, method)
    assert (status, trap) == (expected, expected_trap)
    assert not nothing
    assert total(trees, "instructions") == 10_000_000 - status.counter
    assert total(trees, "heap_regions_accessed") == status.heap_regions_accessed
    assert total(trees, "heap_regions_written") == status.heap_regions_written
    assert total(trees, "heap_os_pages_written") == status.heap_os_pages_priced
    # And again: nothing of the last message is left.
    assert run(profiled, method) == (status, trap, trees)


def test_functions_are_left_however_they_end(pair):
    _, _, (tree,) = run(pair[1], "ways")
    found = {path: node.calls for path, node in paths(tree).items()}
    assert found == {
        ("ways",): 1,
        ("ways", "returning"): 2,
        ("ways", "returning", "leaf"): 1,
        ("ways", "branching"): 3,
        ("ways", "two"): 2,
        ("ways", "two", "leaf"): 1,
        ("ways", "leaf"): 101,
        ("ways", "last"): 1,
        ("ways", "last", "reply"): 1,
    }


def test_instructions_are_those_of_the_function_itself(pair):
    _, _, (tree,) = run(pair[1], "ways")
    found = {path: node.instructions for path, node in paths(tree).items()}
    weights = PRICE_REGIMES["memory-tracker"].table
    leaf = weights.function_entry + weights.total("i32.const end")
    assert found["ways", "leaf"] == 101 * leaf
    assert found["ways", "two", "leaf"] == leaf
    assert found["ways", "last", "reply"] == 500


def test_recursion_is_a_path(pair):
    _, _, (tree,) = run(pair[1], "fib")
    found = paths(tree)
    calls = [found[("fib", *["fib"] * depth)].calls for depth in range(1, 13)]
    assert calls[:4] == [1, 2, 4, 8]
    assert sum(calls) == 465


def test_a_tail_call_leaves_its_function(pair):
    _, _, (tree,) = run(pair[1], "even")
    found = {path: node.calls for path, node in paths(tree).items()}
    assert found == {
        ("even",): 1,
        ("even", "even"): 50_001,
        ("even", "odd"): 50_000,
        ("even", "last"): 1,
        ("even", "last", "reply"): 1,
    }


def test_paths_that_are_too_long_belong_to_where_they_begin(pair):
    _, _, (tree,) = run(pair[1], "deep")
    assert len(tree) == profiling.DEPTH_MAX + 2
    deepest = max(paths(tree).items(), key=lambda item: len(item[0]))
    assert deepest[1].instructions > 4000 * 5
    assert paths(tree)["deep", "last", "reply"].instructions == 500


def test_regions_belong_to_whoever_touches_them_first(pair):
    _, _, (tree,) = run(pair[1], "touch")
    is_small = pair[1].program.os_page_bytes == 4096
    found = {
        path: (
            node.heap_regions_accessed,
            node.heap_regions_written,
            node.heap_os_pages_written,
            node.stable_regions_accessed,
            node.stable_regions_written,
        )
        for path, node in paths(tree).items()
    }
    assert found == {
        ("touch",): (0, 0, 0, 0, 0),
        ("touch", "touch"): (6 - 1, 3 - 1, 3 if is_small else 2, 0, 0),
        ("touch", "bulk"): (3, 2, 16 + 2 if is_small else 4 + 1, 0, 0),
        ("touch", "stable"): (0, 0, 0, 0, 0),
        ("touch", "stable", "grow"): (0, 0, 0, 0, 0),
        ("touch", "stable", "write"): (1, 0, 0, 2, 2),
        ("touch", "stable", "read"): (2, 2, 18 if is_small else 5, 1, 0),
        ("touch", "argument"): (1, 1, 1, 0, 0),
        ("touch", "append"): (1, 0, 0, 0, 0),
        ("touch", "last"): (0, 0, 0, 0, 0),
        ("touch", "last", "reply"): (0, 0, 0, 0, 0),
    }


def test_a_trap_leaves_what_was_done_to_those_who_did_it(pair):
    _, trap, (tree,) = run(pair[1], "trap")
    assert "unreachable" in trap
    found = paths(tree)
    assert len(found) == 6
    assert found["trap", "trapping"].heap_regions_written == 1
    _, trap, (tree,) = run(pair[1], "endless")
    assert "instructions" in trap
    assert paths(tree)["endless", "endless"].instructions > 9_999_000
    # Whatever trapped, the next message begins at its beginning.
    _, _, (tree,) = run(pair[1], "ways")
    assert [node.function for node in tree if node.parent < 0] == [20]


def test_more_functions_than_fit_belong_to_their_callers(monkeypatch):
    monkeypatch.setattr(
        profiling,
        "_ENTER",
        profiling._ENTER.replace(
            f"i32.const {profiling.ROOT + profiling.NODES_MAX * profiling.NODE_BYTES}",
            f"i32.const {profiling.ROOT + 4 * profiling.NODE_BYTES}",
        ),
    )
    # Another module, so that no compiled one is taken.
    small = instance_of(WAYS.replace("i32.const 12", "i32.const 13"), has_profile=True)
    plain = instance_of(WAYS.replace("i32.const 12", "i32.const 13"))
    status, trap, trees = run(small, "fib")
    assert (status, trap) == run(plain, "fib")[:2]
    assert len(trees[0]) == 3
    assert total(trees, "instructions") == 10_000_000 - status.counter


WASM64 = """(module
  (memory (export "memory") i64 3)
  (func $poke (param i64) (i64.store (local.get 0) (i64.load offset=65536 (local.get 0))))
  (func (export "canister_update poke")
    (call $poke (i64.const 0)) (call $poke (i64.const 8)) (call $poke (i64.const 65536))
    (memory.fill (i64.const 131072) (i32.const 1) (i64.const 5001)))
  (func (export "canister_update far") (call $poke (i64.const 0x7fffffffff))))"""


@pytest.mark.parametrize("method", ["poke", "far"])
def test_heaps_with_64_bit_addresses_have_profiles_too(method):
    expected = run(instance_of(WASM64), method)
    status, trap, trees = run(instance_of(WASM64, has_profile=True), method)
    assert (status, trap) == expected[:2]
    assert total(trees, "instructions") == 10_000_000 - status.counter
    assert total(trees, "heap_regions_written") == status.heap_regions_written
    assert total(trees, "heap_os_pages_written") == status.heap_os_pages_written
    assert total(trees, "heap_regions_accessed") == status.heap_regions_accessed


def test_trees_that_nobody_takes_are_few(pair):
    profiled = pair[1]
    for _ in range(100):
        profiled.begin_message(10_000_000, -1, -1)
        profiled.call("canister_update fib", b"")
        profiled.rollback(is_new_heap=False)
    assert len(profiled.trees.take()) == 64
    assert profiled.trees.take() == []


# Operators that leave an i32: below and how deep, a block; {f} is a function, {n} a number.
ENDS = ("(i32.const {n})", "(local.get 0)")
SHAPES = (
    *ENDS,
    "(i32.add {} {})",
    "(call $f{f} {})",
    "(call_indirect (param i32) (result i32) {} (i32.const {f}))",
    "(if (result i32) {} (then {}) (else {}))",
    "(block (result i32) {})",
    "(block (result i32) (br_if 0 {} {}) (return))",
    "(block (result i32) (loop (br_if 1 {} {}) (drop) (br_if 0 (i32.eqz {}))) {})",
    "(i32.load (i32.and {} (i32.const 0xfffff)))",
    "(block (result i32) (i32.store (i32.and {} (i32.const 0xfffff)) {}) {})",
    "(block (result i32) (if {} (then (return_call $f{f} {}))) {})",
    "(block (result i32) (if {} (then (br 1 {}))) (return {}))",
)


def random_body(rng, functions, depth=0):
    shape = rng.choice(SHAPES if depth < 6 else ENDS)
    numbers = {"f": rng.randrange(functions), "n": rng.randrange(200_000)}
    parts = shape.replace("{}", "\0").format(**numbers).split("\0")
    below = [random_body(rng, functions, depth + 1) for _ in parts[1:]]
    return "".join(part for pair in zip(parts, [*below, ""], strict=True) for part in pair)


def random_module(seed):
    rng = random.Random(seed)
    count = rng.randint(2, 8)
    bodies = "".join(
        f"(func $f{index} (param i32) (result i32) {random_body(rng, count)})\n"
        for index in range(count)
    )
    table = " ".join(f"$f{index}" for index in range(count))
    return (
        f'(module (memory (export "memory") 20) (table {count} funcref)\n'
        f"(elem (i32.const 0) {table})\n{bodies}"
        '(func (export "canister_update go") (drop (call $f0 (i32.const 3)))))'
    )


@pytest.mark.parametrize("seeds", [range(8), pytest.param(range(8, 100), marks=pytest.mark.slow)])
def test_random_modules_add_up(seeds):
    for seed in seeds:
        wat = random_module(seed)
        expected = run(instance_of(wat), "go", 200_000)
        status, trap, trees = run(instance_of(wat, has_profile=True), "go", 200_000)
        # A stack overflows earlier with a profile.
        if expected[1] is None or "stack" not in expected[1]:
            assert (status, trap) == expected[:2]
        assert total(trees, "instructions") == 200_000 - status.counter
        assert total(trees, "heap_regions_accessed") == status.heap_regions_accessed
        assert total(trees, "heap_regions_written") == status.heap_regions_written
        assert total(trees, "heap_os_pages_written") == status.heap_os_pages_written
