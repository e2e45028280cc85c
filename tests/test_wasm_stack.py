"""How deep SQL may go on the wasm engine, and in which threads."""

import sys
import threading

import pytest
import wasmtime

from sqlstable import Canister, SettingsError, Trap
from sqlstable.ic.limits import NO_LIMIT
from sqlstable.ic.prices import PRICE_REGIMES
from sqlstable.wasm import program, stack
from sqlstable.wasm.instance import Instance

INDEX_COLUMNS = ",".join("abcde"[number % 5] for number in range(1_000))
WIDE = f"CREATE TABLE wide (a, b, c, d, e, PRIMARY KEY ({INDEX_COLUMNS}))"
DEEP = {
    "compound": "SELECT 1" + " UNION ALL SELECT 1" * 499,
    "sum": "SELECT 1" + " + 1" * 990,
    "not": "SELECT " + "NOT " * 900 + "1",
    "text": "SELECT " + "||".join(["'a'"] * 980),
    "index": "SELECT * FROM wide WHERE a = 1 AND b = 2 AND c = 3 AND d = 4 AND e = 5",
}

ENDLESS = """(module
  (memory 1)
  (func $deeper (param i64) (result i64)
    (i64.add (local.get 0) (call $deeper (i64.add (local.get 0) (i64.const 1)))))
  (func (export "canister_init"))
  (func (export "canister_update deeper") (drop (call $deeper (i64.const 0))))
  (func (export "canister_update nothing")))"""


def rows_of(engine):
    with Canister(engine=engine, limits=None) as canister:
        canister.update(WIDE)
        return {name: canister.query(sql).rows for name, sql in DEEP.items()}


def in_thread(run, stack_bytes):
    """Run in a thread of its own, with so much stack, and return what it returned or raised."""
    found = []

    def run_there():
        try:
            found.append(run())
        except Exception as error:  # noqa: BLE001  it is looked at
            found.append(error)

    before = threading.stack_size(stack_bytes)
    try:
        thread = threading.Thread(target=run_there)
        thread.start()
    finally:
        threading.stack_size(before)
    thread.join()
    return found[0]


def test_what_sqlite_allows_is_deep_enough_for_both_engines_in_any_thread():
    expected = rows_of("native")
    assert len(expected["compound"]) == 500
    assert rows_of("wasm") == expected
    assert in_thread(lambda: rows_of("wasm"), 8 << 20) == expected


def test_calls_without_end_trap_and_the_next_message_runs():
    made = program.make_program(
        bytes(wasmtime.wat2wasm(ENDLESS)),
        name="endless",
        regime=PRICE_REGIMES["memory-tracker"],
        watches_heap=True,
    )
    machine = Instance(made, stable_wasm_pages_max=10, limits=None)
    machine.begin_message(1 << 40, NO_LIMIT, NO_LIMIT)
    machine.start("canister_init", b"")
    machine.commit(is_new_heap=True)
    for _ in range(2):
        machine.begin_message(1 << 40, NO_LIMIT, NO_LIMIT)
        with pytest.raises(Trap, match=r"^stack overflow$"):
            machine.call("canister_update deeper", b"")
        machine.rollback(is_new_heap=False)
    machine.begin_message(1 << 40, NO_LIMIT, NO_LIMIT)
    assert machine.call("canister_update nothing", b"") == b""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not say")
def test_a_thread_knows_its_stack():
    assert in_thread(stack.thread_stack_bytes, 64 << 20) >= 64 << 20


def test_a_thread_with_too_little_stack_is_refused_before_anything_happens(monkeypatch):
    # Said, not made: the C library gives a thread the larger stack of one that has ended.
    monkeypatch.setattr(stack, "thread_stack_bytes", lambda: 2 << 20)
    with Canister(engine="wasm") as canister:
        canister.update("CREATE TABLE t (x)")
        for run in (
            lambda: Canister(engine="wasm"),
            lambda: canister.update("INSERT INTO t VALUES (1)"),
            lambda: canister.query("SELECT * FROM t"),
            canister.upgrade,
        ):
            error = in_thread(run, 8 << 20)
            assert isinstance(error, SettingsError), error
            assert "threading.stack_size(8 * 1024 * 1024)" in str(error)
        assert canister.query("SELECT count(*) FROM t").rows == [(0,)]
