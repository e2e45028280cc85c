"""One module after another on the same stable memory, and what a rollback brings back."""

from contextlib import closing

import pytest
import wasmtime

from sqlstable.errors import ModuleError, SettingsError, Trap
from sqlstable.ic.prices import PRICE_REGIMES
from sqlstable.wasm.program import make_program
from sqlstable.wasm.shim import LOG
from sqlstable.wasm.shimstore import open_image_memory, wasm_memory

COUNTER = """(module
  (import "ic0" "stable64_grow" (func $grow (param i64) (result i64)))
  (import "ic0" "stable64_write" (func $write (param i64 i64 i64)))
  (import "ic0" "stable64_read" (func $read (param i64 i64 i64)))
  (import "ic0" "msg_reply_data_append" (func $append (param {ptr} {ptr})))
  (import "ic0" "msg_reply" (func $reply))
  (memory {ptr} 1)
  (data ({ptr}.const 16) "{name}")
  (global $count (mut i64) (i64.const {first}))
  (func (export "canister_init") (drop (call $grow (i64.const 1))))
  (func (export "canister_update add")
    (global.set $count (i64.add (global.get $count) (i64.const 1)))
    (i64.store ({ptr}.const 0) (i64.add (i64.load ({ptr}.const 0)) (i64.const 100)))
    (call $write (i64.const 0) (i64.const 0) (i64.const 8)))
  (func (export "canister_post_upgrade") {post})
  (func (export "canister_query look")
    (i64.store ({ptr}.const 8) (global.get $count))
    (call $append ({ptr}.const 0) ({ptr}.const 24))
    (call $read (i64.const 24) (i64.const 0) (i64.const 8))
    (call $append ({ptr}.const 24) ({ptr}.const 8))
    (call $reply)))"""


def maker(name, first=0, post="", ptr="i32"):
    text = COUNTER.format(name=name, first=first, post=post, ptr=ptr)
    wasm = bytes(wasmtime.wat2wasm(text))

    def make(reach_bytes):
        return make_program(
            wasm,
            name=name.strip(),
            regime=PRICE_REGIMES["wasm-native"],
            watches_heap=True,
            reach_bytes=reach_bytes,
        )

    return make


ONE = maker("module 1", 10)
TWO = maker("module 2", 20)
BROKEN = maker("module 3", 30, post="unreachable")
WIDE = maker("module w", 40, ptr="i64")
WIDE_BROKEN = maker("module b", 50, post="unreachable", ptr="i64")


@pytest.fixture(name="memory")
def memory_fixture():
    memory = wasm_memory(ONE)
    with memory.message("upgrade"):
        memory.store.renew_heap()
        memory.store.machine.start("canister_init", b"")
    yield memory
    memory.close()


def call(memory, name, kind="update"):
    memory.begin(kind)
    try:
        reply = memory.store.machine.call(name, b"")
    except Trap:
        memory.rollback()
        raise
    if kind == "update":
        memory.commit()
    else:
        memory.rollback()
    return reply


def look(memory):
    """What the heap, a global and stable memory hold, and the text of a data segment."""
    reply = call(memory, "canister_query look", "query")
    numbers = [int.from_bytes(reply[at : at + 8], "little") for at in (0, 8, 24)]
    return (*numbers, reply[16:24].decode())


def install(memory, make, *, keeps_heap=False, entry="canister_post_upgrade"):
    memory.begin("upgrade")
    try:
        memory.store.install(make, keeps_heap=keeps_heap)
        memory.store.machine.call(entry, b"")
    except (Trap, ModuleError):
        memory.rollback()
        raise
    memory.commit()


def test_an_upgrade_to_another_module_keeps_stable_memory_alone(memory):
    call(memory, "canister_update add")
    assert look(memory) == (100, 11, 100, "module 1")
    address = memory.store.machine.stable_address
    install(memory, TWO)
    assert look(memory) == (0, 20, 100, "module 2")
    assert memory.store.machine.stable_address == address
    call(memory, "canister_update add")
    call(memory, "canister_update add")
    assert look(memory) == (200, 22, 200, "module 2")


def test_an_upgrade_that_fails_brings_the_module_before_back(memory):
    call(memory, "canister_update add")
    before = look(memory)
    with pytest.raises(Trap, match="unreachable"):
        install(memory, BROKEN)
    assert look(memory) == before
    call(memory, "canister_update add")
    assert look(memory) == (200, 12, 200, "module 1")
    assert memory.store.machine.program.name == "module 1"


def test_what_the_message_did_before_the_upgrade_goes_too(memory):
    memory.begin("upgrade")
    memory.store.machine.call("canister_update add", b"")
    memory.store.install(TWO)
    memory.store.machine.call("canister_update add", b"")
    memory.rollback()
    assert look(memory) == (0, 10, 0, "module 1")


def test_a_kept_heap_is_found_by_the_new_module_and_its_segments_are_not(memory):
    call(memory, "canister_update add")
    install(memory, TWO, keeps_heap=True)
    assert look(memory) == (100, 20, 100, "module 1")
    call(memory, "canister_update add")
    with pytest.raises(Trap, match="unreachable"):
        install(memory, BROKEN, keeps_heap=True)
    assert look(memory) == (200, 21, 200, "module 1")


def test_after_a_kept_heap_the_same_module_can_begin_anew(memory):
    call(memory, "canister_update add")
    install(memory, TWO, keeps_heap=True)
    call(memory, "canister_update add")
    assert look(memory) == (200, 21, 200, "module 1")
    for _ in range(2):
        install(memory, TWO)
        assert look(memory) == (0, 20, 200, "module 2")


def test_the_same_module_again_begins_anew(memory):
    call(memory, "canister_update add")
    joined = memory.store.machine.joined
    install(memory, ONE)
    assert look(memory) == (0, 10, 100, "module 1")
    assert memory.store.machine.joined is joined


def test_there_and_back_again(memory):
    for make, name in ((TWO, "module 2"), (ONE, "module 1")) * 3:
        install(memory, make)
        call(memory, "canister_update add")
        assert look(memory)[3] == name


def test_a_reinstallation_of_another_module_empties_stable_memory(memory):
    call(memory, "canister_update add")
    for is_kept in (False, True):
        memory.begin("upgrade")
        memory.wipe()
        memory.store.install(TWO)
        memory.store.machine.call("canister_init", b"")
        if is_kept:
            memory.commit()
        else:
            memory.rollback()
            assert look(memory) == (100, 11, 100, "module 1")
    assert look(memory) == (0, 20, 0, "module 2")


def test_a_module_that_cannot_be_instantiated_leaves_the_one_before(memory):
    wasm = bytes(wasmtime.wat2wasm("(module (table 1 funcref) (func $f) (elem (i32.const 5) $f))"))

    def make(reach_bytes):
        regime = PRICE_REGIMES["wasm-native"]
        return make_program(
            wasm, name="long", regime=regime, watches_heap=True, reach_bytes=reach_bytes
        )

    call(memory, "canister_update add")
    with pytest.raises(ModuleError, match="a segment does not fit"):
        install(memory, make)
    assert look(memory) == (100, 11, 100, "module 1")


def test_a_module_with_a_heap_of_the_other_width_takes_over_and_back_again(memory):
    call(memory, "canister_update add")
    for make, entry, first, stable in (
        (WIDE, "module w", 40, 100),
        (ONE, "module 1", 10, 200),
        (WIDE, "module w", 40, 200),
    ):
        install(memory, make)
        assert look(memory) == (0, first, stable, entry)
        call(memory, "canister_update add")
        call(memory, "canister_update add")
        assert look(memory) == (200, first + 2, 200, entry)


def test_an_upgrade_to_the_other_width_that_fails_leaves_what_was(memory):
    call(memory, "canister_update add")
    for make in (WIDE_BROKEN, WIDE_BROKEN, BROKEN):
        before = look(memory)
        memory.begin("upgrade")
        memory.store.machine.call("canister_update add", b"")
        memory.store.install(make)
        memory.store.machine.call("canister_update add", b"")
        with pytest.raises(Trap, match="unreachable"):
            memory.store.machine.call("canister_post_upgrade", b"")
        memory.rollback()
        assert look(memory) == before
    install(memory, WIDE)
    before = look(memory)
    with pytest.raises(Trap, match="unreachable"):
        install(memory, BROKEN)
    assert look(memory) == before == (0, 40, 100, "module w")


def test_what_was_noted_before_goes_on_on_the_other_side(memory):
    machine = memory.store.machine
    memory.begin("upgrade")
    machine.call("canister_update add", b"")
    used = memory.store.used, machine.tell().counter
    rows = memory.store.machine.noted(LOG, machine.tell().log_count)
    memory.store.install(WIDE)
    assert (memory.store.used, machine.tell().counter) == used
    assert machine.noted(LOG, machine.tell().log_count) == rows
    machine.call("canister_update add", b"")
    assert memory.store.used == (1, 1)
    memory.commit()
    assert look(memory) == (100, 41, 100, "module w")


def test_a_heap_of_the_other_width_cannot_be_kept(memory):
    call(memory, "canister_update add")
    memory.begin("upgrade")
    with pytest.raises(SettingsError, match="32 bits, and those of the new module 64"):
        memory.store.install(WIDE, keeps_heap=True)
    memory.rollback()
    assert look(memory) == (100, 11, 100, "module 1")


def test_another_module_goes_on_with_an_image_file(tmp_path):
    path = tmp_path / "app.stable"
    for make, entry, first, stable in (
        (ONE, "canister_init", 10, 100),
        (TWO, "canister_post_upgrade", 20, 200),
        (WIDE, "canister_post_upgrade", 40, 300),
    ):
        memory = open_image_memory(ONE, path, limits=None, durability="process", is_read_only=False)
        with closing(memory):
            install(memory, make, entry=entry)
            with pytest.raises(Trap, match="unreachable"):
                install(memory, BROKEN)
            for _ in range(stable // 100):
                call(memory, "canister_update add")
            name = "module w" if make is WIDE else f"module {first // 10}"
            assert look(memory) == (stable, first + stable // 100, stable, name)
        assert path.read_bytes()[:8] == stable.to_bytes(8, "little")
