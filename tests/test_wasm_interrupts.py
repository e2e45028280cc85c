"""Ctrl-C while a Wasm call runs, in which no Python does: it ends, and the canister goes on."""

import json

import pytest

from tests.children import run_child

pytestmark = pytest.mark.slow

ENDLESS = "WITH RECURSIVE r (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM r) SELECT count(*) FROM r"

# The signal comes when the machine runs the statement, however slow this computer is.
SIGNAL = """
import os, signal, sys, threading, time
from sqlstable.engine.measured.measured_engine import WasmEngine

def interrupt_when(machine):
    while not machine._is_running:
        time.sleep(0.001)
    time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGINT)

send = WasmEngine._send
def sending(engine, sql, *rest):
    if "RECURSIVE" in sql:
        machine = engine._store.machine
        threading.Thread(target=interrupt_when, args=(machine,)).start()
    return send(engine, sql, *rest)
WasmEngine._send = sending
"""

PYTHON = """
import json
from sqlstable import Canister, Trap

endless, path = sys.argv[1:]
answers = []
with Canister(path or None, engine="wasm", limits=None, trace=":memory:") as canister:
    canister.update("CREATE TABLE t (x)")
    canister.update("INSERT INTO t VALUES (1)")
    for run, sql in (
        (canister.query, endless),
        (canister.update, f"INSERT INTO t {endless}"),
        (canister.update, f"INSERT INTO t VALUES (99); {endless}"),
    ):
        try:
            run(sql)
        except KeyboardInterrupt:
            answers.append("interrupted")
        canister.update("INSERT INTO t VALUES (2)")
    canister.upgrade()
    # A handler that raises nothing does not make the call go on.
    signal.signal(signal.SIGINT, lambda *_: answers.append("handled"))
    try:
        canister.query(endless)
    except Trap as trap:
        answers.append(str(trap))
    answers.append(canister.query("SELECT x FROM t").rows)
    trace = canister.trace()
    answers.append([message.outcome for message in trace.messages])
    answers.append([len(it.statements) for it in trace.messages if it.outcome == "trapped"])
    answers.append([
        (trace.statements[index].sql, trace.statements[index].instructions.total / cost.total)
        for message in trace.messages if message.outcome == "trapped"
        for index, cost in [(message.statements[-1], message.instructions)]
    ])
print(json.dumps(answers))
"""


@pytest.mark.parametrize("place", ["memory", "image"])
def test_ctrl_c_ends_a_wasm_call_and_the_canister_goes_on(place, tmp_path):
    path = tmp_path / "app.stable" if place == "image" else ""
    done = run_child("-c", SIGNAL + PYTHON, ENDLESS, path)
    assert done.returncode == 0, done.stderr
    *interrupted, handled, trap, rows, outcomes, counts, listed = json.loads(done.stdout)
    assert interrupted == ["interrupted"] * 3
    assert (handled, trap) == (
        "handled",
        "interrupted from outside; nothing of the message remains",
    )
    assert rows == [[1], [2], [2], [2]]
    assert outcomes.count("trapped") == 4
    # What an interrupt cut off is listed with its cost, as what a limit cut off is.
    assert counts == [1, 1, 2, 1]
    assert [sql for sql, _ in listed] == [ENDLESS, f"INSERT INTO t {ENDLESS}", ENDLESS, ENDLESS]
    assert all(0.5 < share <= 1 for _, share in listed)


COMMAND = """
from sqlstable.cli import main
sys.argv[1:] = ["run", sys.argv[1], "--engine", "wasm", "--limits", "none"]
main()
"""


def test_ctrl_c_ends_the_command_in_a_wasm_call(tmp_path):
    script = tmp_path / "slow.sql"
    script.write_text(f"CREATE TABLE t (x);\n{ENDLESS};\n")
    done = run_child("-c", SIGNAL + COMMAND, script)
    assert done.returncode == 130, done.stderr


CHILDREN = """
import sys
from sqlstable import Canister

with Canister(engine="wasm", limits=None) as canister:
    canister.update("CREATE TABLE t (x)")
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(write, b"x")
            time.sleep(60)
        except KeyboardInterrupt:
            os._exit(7)
    os.read(read, 1)
    threading.Thread(target=lambda: (time.sleep(0.2), os.kill(child, signal.SIGINT))).start()
    # A call that is long enough to be there when the child is interrupted.
    sql = ENDLESS.replace("FROM r)", "FROM r WHERE x < 2000000)")
    print(canister.query(sql).rows, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_an_interrupt_of_a_forked_child_is_none_of_its_parent():
    prelude = f"import os, signal, threading, time\nENDLESS = {ENDLESS!r}\n"
    done = run_child("-c", prelude + CHILDREN)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[(2000000,)] 7\n"


def test_who_does_not_use_the_wasm_engine_keeps_the_descriptor_for_signals():
    code = "import signal; from sqlstable import Canister; Canister().close()"
    done = run_child("-c", f"{code}; print(signal.set_wakeup_fd(-1))")
    assert done.stdout == "-1\n", done.stderr


LOOPS = """
import os, signal, threading, time
import wasmtime
from sqlstable.ic.prices import PRICE_REGIMES
from sqlstable.wasm import shim
from sqlstable.wasm.instance import Instance
from sqlstable.wasm.program import make_program

WAT = '''(module (memory {} 1)
  (func $deep (param i32) (result i32)
    (if (result i32) (local.get 0)
      (then (i32.add (call $deep (i32.sub (local.get 0) (i32.const 1)))
        (call $deep (i32.sub (local.get 0) (i32.const 1)))))
      (else (i32.const 1))))
  (func (export "loop") (loop $next (br $next)))
  (func (export "calls") (drop (call $deep (i32.const 60))))
  (func (export "short")))'''
for width in ("i32", "i64"):
    program = make_program(
        bytes(wasmtime.wat2wasm(WAT.format(width))), name=width,
        regime=PRICE_REGIMES["memory-tracker"], watches_heap=True,
    )
    instance = Instance(program, stable_wasm_pages_max=10, limits=None)
    for name in ("loop", "calls", "loop"):
        instance.begin_message(shim.INSTRUCTIONS_MAX, -1, -1)
        send = lambda: (time.sleep(0.1), os.kill(os.getpid(), signal.SIGINT))
        threading.Thread(target=send).start()
        try:
            instance.call(name, b"")
        except KeyboardInterrupt:
            print(width, name)
        instance.recover()
        instance.rollback(is_new_heap=True)
        instance.begin_message(1000, -1, -1)
        instance.call("short", b"")
        instance.commit(is_new_heap=False)
"""


def test_ctrl_c_ends_what_touches_no_memory():
    done = run_child("-c", LOOPS, timeout=60)
    assert done.returncode == 0, done.stderr
    names = ("loop", "calls", "loop")
    assert done.stdout.splitlines() == [f"{w} {n}" for w in ("i32", "i64") for n in names]
