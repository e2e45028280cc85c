"""An exception from outside, such as Ctrl-C, at places of a message where it hurts most.

Every place is swept in `tests/sim/test_interrupt_sweep.py`.
"""

import json
import os
from contextlib import ExitStack
from functools import partial
from threading import Thread
from time import sleep

import pytest

from sqlstable import Canister, MessageError, SqlError, Trap
from sqlstable.canister.turns import Turn, Turns
from tests.children import run_child


def sweep(scenario, engine, place, trace, step):
    """Cut one scenario at each n-th place in a process of its own; returns what it counted."""
    done = run_child("-m", "tests.sim.cutting", scenario, engine, place, trace, step)
    assert done.returncode == 0, done.stderr[-3000:]
    counts = json.loads(done.stdout)
    assert counts.pop("failures") == [], counts
    assert counts["places"] > 0
    return counts


CALLBACK = """
from sqlstable import Canister
from tests.sim.cutting import Cut, Places

def is_callback(frame):
    return frame.f_code.co_name in ("on_statement", "_learn", "_plan")

class Callbacks(Places):
    def on_call(self, frame, event, arg):
        return super().on_call(frame, event, arg) if is_callback(frame) else None

cut = 0
for number in range(1, 400, 7):
    with Canister() as canister:
        try:
            with Callbacks(number):
                # Enough of them for freed memory to be somebody else's.
                for value in range(12):
                    canister.update(f"CREATE TABLE t{value} (x); INSERT INTO t{value} VALUES (1)")
        except Cut:
            cut += 1
print(cut)
"""


def test_an_exception_out_of_a_callback_of_apsw_leaves_the_process_alive():
    done = run_child("-c", CALLBACK)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 50


# A small sweep, of the places that are told of most.
SMALL = [
    ("update", "native", "plain", 97),
    ("several", "native", "trace", 397),
    ("trapping", "native", "plain", 197),
    ("awaiting", "native", "plain", 97),
    ("awaiting", "wasm", "plain", 197),
    ("cold_query", "native", "plain", 197),
    ("upgrade_hooks", "native", "plain", 597),
    ("upgrade_keep", "wasm", "plain", 597),
    ("uninstall", "wasm", "trace", 597),
    ("take_snapshot", "native", "plain", 197),
    ("load_snapshot", "wasm", "plain", 597),
    ("close", "native", "plain", 47),
    ("update", "wasm", "plain", 197),
    ("reinstall", "wasm", "plain", 697),
]


@pytest.mark.slow
@pytest.mark.parametrize("where", ["memory", "image"])
@pytest.mark.parametrize(("scenario", "engine", "trace", "step"), SMALL)
def test_a_cut_leaves_a_canister_that_works(scenario, engine, trace, step, where, tmp_path):
    sweep(scenario, engine, tmp_path if where == "image" else "memory", trace, step)


def test_a_cut_inside_a_message_leaves_the_canister_and_no_lock():
    sweep("update", "native", "memory", "plain", 197)


@pytest.mark.parametrize("engine", ["native", "wasm"])
def test_a_message_that_nobody_ends_is_rolled_back_once_it_is_dropped(engine):
    with Canister(engine=engine) as canister:
        canister.update("CREATE TABLE t (x)")
        message = canister.message()
        message.__enter__()
        message.execute("INSERT INTO t VALUES (1)")
        with pytest.raises(MessageError, match="one message at a time"):
            canister.query("SELECT 1")
        del message
        assert canister.query("SELECT count(*) FROM t").rows == [(0,)]


def test_a_message_that_is_begun_and_ended_by_hand_is_over():
    with Canister() as canister:
        message = canister.message()
        message.__enter__()
        message.execute("CREATE TABLE t (x)")
        message.__exit__(None, None, None)
        with ExitStack() as stack:
            stack.enter_context(canister.message()).execute("INSERT INTO t VALUES (1)")
        assert in_thread(lambda: canister.update("INSERT INTO t VALUES (1)")) is None
        assert canister.query("SELECT count(*) FROM t").rows == [(2,)]
        assert message.reply.statements


def test_threads_have_their_turns_in_order():
    turns, order = Turns(), []
    waiting = []
    with Turn(turns, "first", lambda: None):
        for number in range(6):
            turn = Turn(turns, str(number), partial(order.append, number))
            thread = Thread(target=lambda turn=turn: turn.__enter__() or turn.__exit__())
            thread.start()
            waiting.append(thread)
            while len(turns._tickets) < 2 + number:
                sleep(0)
        assert order == []
    for thread in waiting:
        thread.join(20)
    assert order == list(range(6))
    assert not turns._tickets


class Outside(KeyboardInterrupt):
    """What comes from outside."""


def raising(error):
    def callback(*_):
        raise error

    return callback


def insert_failing(canister, connection, what, callback):
    with canister.message() as message:
        message.execute("INSERT INTO t VALUES (1)")
        if what == "progress":
            connection.set_progress_handler(callback, 1)
        elif what == "authorizer":
            connection.authorizer = callback
        try:
            message.execute("INSERT INTO t SELECT fail()")
        finally:
            connection.set_progress_handler(None)
            connection.authorizer = None


ERRORS = [MemoryError("no memory is left"), Outside(), ZeroDivisionError("division")]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("what", ["function", "progress", "authorizer"])
def test_an_exception_of_a_callback_leaves_a_canister_that_works(what, error):
    connections = []
    with Canister() as canister:
        canister.on_connect(connections.append)
        canister.on_connect(
            lambda connection: connection.create_scalar_function("fail", raising(error))
        )
        canister.update("CREATE TABLE t (x)")
        with pytest.raises((SqlError, Trap, type(error))) as caught:
            insert_failing(canister, connections[0], what, raising(error))
        chain = [caught.value, caught.value.__cause__, caught.value.__context__]
        assert error in chain
        assert canister.query("SELECT count(*) FROM t").rows == [(0,)]
        canister.update("INSERT INTO t VALUES (1)")
        assert canister.query("SELECT count(*) FROM t").rows == [(1,)]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_exception_on_connecting_leaves_the_canister_as_it_was(error):
    is_failing = []

    def setup(_connection):
        if is_failing:
            raise error

    with Canister() as canister:
        canister.on_connect(setup)
        canister.update("CREATE TABLE t (x); INSERT INTO t VALUES (1)")
        is_failing.append(True)
        with pytest.raises(type(error)):
            canister.upgrade()
        is_failing.clear()
        assert canister.query("SELECT count(*) FROM t").rows == [(1,)]
        assert canister.upgrade().outcome == "committed"


def in_thread(run):
    """What ``run`` raises in another thread, or None."""
    raised = []

    def call():
        try:
            run()
        except BaseException as error:  # noqa: BLE001  handed over
            raised.append(error)

    thread = Thread(target=call)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()
    return raised[0] if raised else None


@pytest.mark.parametrize("engine", ["native", "wasm"])
def test_a_message_and_its_cursor_belong_to_one_thread(engine):
    with Canister(engine=engine) as canister:
        with canister.message() as message:
            message.execute("CREATE TABLE t (x)")
            message.executemany("INSERT INTO t VALUES (?)", [(n,) for n in range(9)])
            cursor = message.cursor("SELECT x FROM t ORDER BY x")
            assert next(cursor) == (0,)
            for run in (
                lambda: message.execute("DELETE FROM t"),
                lambda: message.executemany("DELETE FROM t WHERE x = ?", [(1,)]),
                lambda: message.cursor("DELETE FROM t"),
                lambda: message.trap("elsewhere"),
                lambda: next(cursor),
                cursor.close,
                lambda: message.__exit__(None, None, None),
            ):
                error = in_thread(run)
                assert isinstance(error, MessageError), error
                assert "thread that began it" in str(error)
            assert len(list(cursor)) == 8
            cursor.close()
        assert canister.query("SELECT count(*) FROM t").rows == [(9,)]
        assert len(message.reply.statements) >= 3


# -- after a fork ---------------------------------------------------------------------------------

FORKED = """
import os, sys
import apsw
from sqlstable import Canister, StableMemory, StableVFS, Trap
from sqlstable.memory.forks import LEFT_BEHIND

canister = Canister(engine=sys.argv[1], trace=":memory:")
canister.update("CREATE TABLE t (x)")
memory = StableMemory()
memory.grow(1)
other = StableMemory()
vfs = StableVFS(other)
connection = vfs.connect()
connection.execute("CREATE TABLE t (x)")
open_memory = StableMemory()
open_memory.grow(1)
open_memory.begin("update")
calls = {
    "update": lambda: canister.update("INSERT INTO t VALUES (1)"),
    "query": lambda: canister.query("SELECT * FROM t"),
    "message": lambda: canister.message().__enter__(),
    "upgrade": canister.upgrade,
    "reinstall": canister.reinstall,
    "import": lambda: canister.import_database(b""),
    "extract": lambda: canister.extract_database("/nowhere"),
    "image": canister.image,
    "status": canister.status,
    "vfs": lambda: canister.vfs,
    "trace": canister.trace,
    "on_connect": lambda: canister.on_connect(print),
    "size": memory.size,
    "grow": lambda: memory.grow(1),
    "read": lambda: memory.read(0, 1),
    "write": lambda: memory.write(0, b"x"),
    "begin": lambda: memory.begin("update"),
    "memory.image": memory.image,
    "reset": memory.reset,
    "commit": open_memory.commit,
    "open read": lambda: open_memory.read(0, 1),
    "select": lambda: connection.execute("SELECT * FROM t").fetchall(),
    "insert": lambda: connection.execute("INSERT INTO t VALUES (1)"),
}
child = os.fork()
if child == 0:
    for name, call in calls.items():
        for _ in range(2):
            try:
                call()
            except Trap as error:
                assert str(error) == LEFT_BEHIND, (name, error)
            except BaseException as error:
                print(name, repr(error), file=sys.stderr, flush=True)
                os._exit(1)
            else:
                print(name, "was not refused", file=sys.stderr, flush=True)
                os._exit(1)
    canister.close()
    canister.close()
    memory.close()
    with Canister(engine=sys.argv[1]) as mine:
        mine.update("CREATE TABLE t (x)")
    os._exit(0)
_, status = os.waitpid(child, 0)
assert status == 0, status
canister.update("INSERT INTO t VALUES (1)")
assert canister.query("SELECT * FROM t").rows == [(1,)]
connection.execute("INSERT INTO t VALUES (1)")
canister.close()
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("engine", ["native", "wasm"])
def test_after_a_fork_each_call_gives_one_error_without_an_image_too(engine):
    done = run_child("-c", FORKED, engine)
    assert done.returncode == 0, done.stderr
