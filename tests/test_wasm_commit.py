"""The end of a message on the wasm engine, with each of its calls failing in turn."""

from contextlib import suppress

import pytest
import wasmtime

from sqlstable import Canister, Trap
from sqlstable.engine.measured.codec import encode_request
from sqlstable.ic.limits import NO_LIMIT
from sqlstable.ic.prices import PRICE_REGIMES
from sqlstable.memory.atomic import Atomic
from sqlstable.memory.image.durable import NotCommittedError
from sqlstable.memory.image.imagefile import ImageFile
from sqlstable.wasm import calls, program
from sqlstable.wasm.calls import Globals
from sqlstable.wasm.instance import Instance
from sqlstable.wasm.overlay import Overlay

STEPS = {"commit": Instance, "values": Globals, "on_commit": Overlay, "_end": Atomic}
REQUEST = encode_request("INSERT INTO t VALUES (5)")


class Fault:
    """Fails once, before or after the real call, at the call with this index."""

    def __init__(self, real, index, *, is_after, error):
        self.real, self.left, self.is_after, self.error = real, index, is_after, error
        self.is_hit = False

    def __call__(self, *arguments, **keywords):
        self.left -= 1
        fails = self.left == -1
        if fails and not self.is_after:
            self.is_hit = True
            raise self.error
        found = self.real(*arguments, **keywords)
        if fails:
            self.is_hit = True
            raise self.error
        return found


def rows(canister):
    return canister.query("SELECT count(*), max(length(x)) FROM t").rows


def grow(canister):
    """A message that grows heap and stable memory and changes both."""
    sql = "INSERT INTO t SELECT zeroblob(9000 + i) FROM n"
    numbers = "WITH n(i) AS (SELECT value FROM json_each('[1, 2, 3, 4, 5, 6, 7, 8, 9]')) "
    return canister.update(numbers + sql)


def lived(path, *, fault=None, patch=None):
    """One life with a fault in its second update: what was reported, and what there is."""
    with Canister(path, engine="wasm", limits=None) as canister:
        canister.update("CREATE TABLE t (x)")
        canister.update("INSERT INTO t VALUES (zeroblob(20))")
        before = canister.image()
        outcome = "trapped"
        if patch is not None:
            patch(canister, fault)
        with suppress(Trap):
            grow(canister)
            outcome = "committed"
        there = rows(canister)
        image = canister.image()
        assert (image == before) == (outcome == "trapped")
        assert there == ([(10, 9009)] if outcome == "committed" else [(1, 20)])
        # It goes on: an update, a trap, and the memory of it.
        canister.update("INSERT INTO t VALUES (1)")
        with suppress(Trap), canister.message() as message:
            message.execute("DELETE FROM t")
            message.trap()
        assert rows(canister)[0][0] == there[0][0] + 1
        assert canister.query("PRAGMA integrity_check").rows == [("ok",)]
        image = canister.image()
    if path is not None:
        assert path.read_bytes() == image
    return outcome


def patch_shim(name, monkeypatch):
    def patch(canister, fault):
        machine = canister.memory.store.machine
        fault.real = getattr(machine, name)
        monkeypatch.setattr(machine, name, fault)

    return patch


def patch_step(name, owner, monkeypatch):
    def patch(_canister, fault):
        fault.real = getattr(owner, name)

        def call(self, *arguments, **keywords):
            return fault(self, *arguments, **keywords)

        monkeypatch.setattr(owner, name, call)

    return patch


@pytest.mark.parametrize("is_file", [False, True])
@pytest.mark.parametrize("is_after", [False, True])
@pytest.mark.parametrize("name", ["_reserve_kept", "_commit"])
def test_a_shim_call_that_fails_at_the_end_leaves_what_was_reported(
    tmp_path, monkeypatch, name, is_after, is_file
):
    path = tmp_path / "a.stable" if is_file else None
    fault = Fault(None, 0, is_after=is_after, error=wasmtime.Trap("injected"))
    outcome = lived(path, fault=fault, patch=patch_shim(name, monkeypatch))
    assert fault.is_hit
    # Before the commit point nothing is kept, behind it everything.
    assert outcome == ("trapped" if name == "_reserve_kept" else "committed")


NEVER_CALLED = {
    ("_rollback", "update"),
    *((name, kind) for name in ("_reserve_kept", "_commit") for kind in ("query", "trap")),
}
SHIM_CALLS = ("_begin_message", "_begin_call", "_tell", "_reserve_kept", "_commit", "_rollback")


def insert(canister, kind):
    if kind == "trap":
        with canister.message() as message:
            message.execute("INSERT INTO t VALUES (2)")
            message.trap()
    elif kind == "query":
        canister.query("INSERT INTO t VALUES (2)")
    else:
        canister.update("INSERT INTO t VALUES (2)")


@pytest.mark.parametrize("is_after", [False, True])
@pytest.mark.parametrize("kind", ["update", "query", "trap"])
@pytest.mark.parametrize("name", SHIM_CALLS)
def test_each_shim_call_of_a_message_may_fail_once(name, kind, is_after):
    for index in range(20):
        with Canister(engine="wasm", limits=None) as canister:
            canister.update("CREATE TABLE t (x)")
            machine = canister.memory.store.machine
            real = getattr(machine, name)
            fault = Fault(real, index, is_after=is_after, error=wasmtime.Trap("injected"))
            setattr(machine, name, fault)
            is_committed = False
            with suppress(Trap):
                insert(canister, kind)
                is_committed = kind == "update"
            setattr(machine, name, real)
            assert canister.query("SELECT count(*) FROM t").rows == [(int(is_committed),)]
            canister.update("INSERT INTO t VALUES (3)")
        if not fault.is_hit:
            break
    assert index > 0 or (name, kind) in NEVER_CALLED
    assert index < 19


MACHINE_STEPS = ("start", "call", "renew_heap", "prepare_commit", "tell", "commit", "rollback")


@pytest.mark.parametrize("kind", ["upgrade", "reinstall"])
@pytest.mark.parametrize("name", MACHINE_STEPS)
def test_each_step_of_an_upgrade_or_reinstallation_may_fail_once(monkeypatch, name, kind):
    for index in range(80):
        with Canister(engine="wasm", limits=None) as canister:
            canister.update("CREATE TABLE t (x)")
            fault = Fault(None, index, is_after=False, error=wasmtime.Trap("injected"))
            is_wiped = False
            with monkeypatch.context() as patch:
                patch_step(name, Instance, patch)(canister, fault)
                with suppress(wasmtime.Trap, Trap):
                    getattr(canister, kind)()
                    is_wiped = kind == "reinstall"
            tables = canister.query("SELECT name FROM sqlite_schema").rows
            assert tables == ([] if is_wiped else [("t",)])
            canister.update("CREATE TABLE u (x)")
        if not fault.is_hit:
            break
    assert index < 79


@pytest.mark.parametrize("is_file", [False, True])
@pytest.mark.parametrize("is_after", [False, True])
@pytest.mark.parametrize("name", ["commit", "values", "on_commit", "_end"])
def test_a_step_that_fails_behind_the_commit_point_is_done_again(
    tmp_path, monkeypatch, name, is_after, is_file
):
    path = tmp_path / "a.stable" if is_file else None
    fault = Fault(None, 0, is_after=is_after, error=RuntimeError("injected"))
    assert lived(path, fault=fault, patch=patch_step(name, STEPS[name], monkeypatch)) == "committed"
    assert fault.is_hit or (name == "on_commit" and not is_file)


def test_an_image_that_cannot_take_the_message_keeps_heap_and_memory_as_they_were(
    tmp_path, monkeypatch
):
    fault = Fault(None, 0, is_after=False, error=NotCommittedError("injected"))
    outcome = lived(
        tmp_path / "a.stable", fault=fault, patch=patch_step("commit", ImageFile, monkeypatch)
    )
    assert outcome == "trapped"


@pytest.mark.parametrize("is_after", [False, True])
@pytest.mark.parametrize("name", ["commit", "values", "_end"])
def test_a_commit_that_is_cut_off_from_outside_is_finished_by_the_rollback(
    tmp_path, monkeypatch, name, is_after
):
    with Canister(tmp_path / "a.stable", engine="wasm", limits=None) as canister:
        canister.update("CREATE TABLE t (x)")
        memory = canister.memory
        memory.begin("update")
        memory.store.machine.call("canister_update execute", REQUEST)
        fault = Fault(None, 0, is_after=is_after, error=KeyboardInterrupt())
        patch_step(name, STEPS[name], monkeypatch)(canister, fault)
        with pytest.raises(KeyboardInterrupt):
            memory.commit()
        if memory.kind is not None:
            memory.rollback()
        assert canister.query("SELECT x FROM t").rows == [(5,)]
        image = canister.image()
    assert (tmp_path / "a.stable").read_bytes() == image


GLOBALS = """(module (memory 1)
  (global $a (mut i32) (i32.const -5)) (global $b (mut i64) (i64.const 0x8123456789abcdef))
  (global $c (mut f32) (f32.const 1.5)) (global $d (mut f64) (f64.const -2.25))
  (func (export "canister_init"))
  (func (export "canister_update change")
    (global.set $a (i32.const 9)) (global.set $b (i64.const -9))
    (global.set $c (f32.const 9)) (global.set $d (f64.const 9))))"""


@pytest.mark.parametrize("is_quick", [True, False])
def test_globals_of_all_types_of_numbers_go_back_with_the_heap(monkeypatch, is_quick):
    if not is_quick:
        monkeypatch.setattr(calls, "_quick_call", lambda: None)
    made = program.make_program(
        bytes(wasmtime.wat2wasm(GLOBALS)),
        name="globals",
        regime=PRICE_REGIMES["memory-tracker"],
        watches_heap=True,
    )
    machine = Instance(made, stable_wasm_pages_max=10, limits=None)

    def message(name, end, **how):
        machine.begin_message(1 << 40, NO_LIMIT, NO_LIMIT)
        machine.call(name, b"")
        getattr(machine, end)(**how)
        return [each.value(machine._store) for each in machine.globals._globals]

    first = [-5, 0x8123456789ABCDEF - (1 << 64), 1.5, -2.25]
    assert message("canister_init", "commit", is_new_heap=True) == first
    assert message("canister_update change", "rollback", is_new_heap=False) == first
    assert message("canister_update change", "commit", is_new_heap=False) == [9, -9, 9.0, 9.0]
    machine.close()
