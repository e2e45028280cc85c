"""A module of Rust built by cargo alone tells its interface when it is asked."""

import pytest
import wasmtime

import sqlstable

SERVICE = "service : { greet : (text) -> (text) query }"


def module_of(pointer: str, *, memory: str = "1", text: str = SERVICE + "\\00") -> bytes:
    wat = f"""(module (memory {memory}) (data (i32.const 16) "{text}")
        {pointer}
        (func (export "canister_query greet")))"""
    return bytes(wasmtime.wat2wasm(wat))


GOOD = '(func (export "get_candid_pointer") (result i32) (i32.const 16))'


def test_what_it_tells_is_its_interface():
    with sqlstable.CanisterModule(module_of(GOOD)) as canister:
        with pytest.raises(sqlstable.CandidError, match="nope"):
            canister.query("nope")
        with pytest.raises(sqlstable.CandidError, match="text"):
            canister.query("greet")
        assert canister.query("greet", '("you")').answer == "reject"


def test_asking_counts_and_changes_nothing():
    counts = "(global $asked (mut i32) (i32.const 0))"
    pointer = """(func (export "get_candid_pointer") (result i32)
        (global.set $asked (i32.add (global.get $asked) (i32.const 1)))
        (i32.store8 (i32.const 5) (i32.const 1))
        (i32.const 16))
      (func (export "canister_init")
        (if (i32.or (global.get $asked) (i32.load8_u (i32.const 5))) (then (unreachable))))"""
    asked = module_of(counts + pointer)
    unasked = module_of(counts + pointer.replace("get_candid_pointer", "another"))
    took = []
    for module in (asked, unasked):
        with sqlstable.CanisterModule(module, trace=":memory:") as canister:
            (install,) = canister.trace().messages
            took.append((install.outcome, install.instructions, install.heap))
    assert took[0] == took[1]
    assert took[0][0] == "committed"


@pytest.mark.parametrize(
    ("pointer", "text"),
    [
        ('(func (export "get_candid_pointer") (result i32) (unreachable))', SERVICE),
        ('(func (export "get_candid_pointer") (result i32) (loop (br 0)) (i32.const 0))', SERVICE),
        ('(func (export "get_candid_pointer") (result i32) (i32.const -1))', SERVICE),
        ('(func (export "get_candid_pointer") (result i64) (i64.const 16))', SERVICE),
        ('(func (export "get_candid_pointer") (param i32) (result i32) (i32.const 16))', SERVICE),
        ('(func (export "get_candid_pointer"))', SERVICE),
        ('(memory (export "get_candid_pointer") 1)', None),
        (GOOD, "service : {"),
        (GOOD, "\\ff\\fe"),
    ],
    ids=["traps", "ends-not", "outside", "i64", "takes", "nothing", "memory", "broken", "no-text"],
)
def test_one_that_tells_nothing_sound_runs_without(pointer, text):
    if text is None:
        wat = '(module (memory (export "get_candid_pointer") 1) (func (export "canister_query a")))'
        module = bytes(wasmtime.wat2wasm(wat))
    else:
        module = module_of(pointer, text=text + "\\00")
    with sqlstable.CanisterModule(module) as canister:
        assert canister.query("nope").answer == "reject"
