"""Calls that await, in any order, beside a list: what is committed is there, and nothing else.

Each call is a few messages with an await between them; other calls, queries and upgrades run while
it awaits, in whatever order the schedule says. The model is a list of rows that a message takes
over when it ends well.
"""

import signal
from contextlib import suppress
from dataclasses import replace
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sqlstable import Canister, MessageError, SqlError, Trap, latest_limits
from sqlstable.testing import trap_at
from sqlstable.workload.hazard import JOURNALS
from tests.children import run_child

STATEMENTS = {
    "insert": ("INSERT INTO t (x) VALUES (?)", lambda rows, value: [*rows, value]),
    "add": ("UPDATE t SET x = x + ?", lambda rows, value: [row + value for row in rows]),
    "delete": (
        "DELETE FROM t WHERE x % 5 = ?",
        lambda rows, value: [row for row in rows if row % 5 != value],
    ),
}

statements = st.lists(st.tuples(st.sampled_from(sorted(STATEMENTS)), st.integers(0, 4)), max_size=3)
messages = st.tuples(statements, st.booleans())
"""What a message does, and whether in a transaction."""
endings = st.sampled_from(["end", "end", "trap", "fail", "refused"])
calls = st.lists(st.tuples(st.lists(messages, min_size=1, max_size=4), endings), max_size=5)
schedules = st.lists(st.integers(0, 9), max_size=30)


class Call:
    """A call on its way: a message of a canister, and what the model says it should do."""

    def __init__(self, world, parts, ending):
        self.world, self.parts, self.ending = world, [*parts], ending
        self.message = world.canister.message(label=f"call {len(world.calls)}")
        self.block = None
        self.indexes = []
        self.is_over = False
        self.upgrades = world.upgrades

    def step(self):
        """Run the next message of the call: up to its await, or its end."""
        world, message = self.world, self.message
        rows, (todo, is_together) = [*world.rows], self.parts.pop(0)
        if self.upgrades != world.upgrades:
            with pytest.raises(Trap, match="got other code or another heap") as caught:
                self._go_on()
            self._leave(caught.value)
            return
        self._go_on()
        if is_together:
            message.execute("BEGIN")
        for name, value in todo:
            sql, apply = STATEMENTS[name]
            message.execute(sql, (value,))
            rows = apply(rows, value)
        if is_together:
            with pytest.raises(MessageError, match="cannot await with an open SQL"):
                message.commit_point()
            message.execute("COMMIT")
        if self.parts:
            self.indexes.append(world.canister.message_count)
            self.block = message.awaiting()
            self.block.__enter__()
            world.rows = rows
        else:
            self._end(rows)

    def _go_on(self):
        if self.block is None:
            self.message.__enter__()
        else:
            block, self.block = self.block, None
            block.__exit__(None, None, None)

    def _end(self, rows):
        message, world = self.message, self.world
        if self.ending == "end":
            self._leave(None)
            world.rows = rows
        elif self.ending == "trap":
            with pytest.raises(Trap) as caught:
                message.trap()
            self._leave(caught.value)
        elif self.ending == "fail":
            with pytest.raises(SqlError) as caught:
                message.execute("INSERT INTO nowhere VALUES (1)")
            self._leave(caught.value)
        else:
            message.execute("BEGIN")
            with pytest.raises(MessageError, match="ended with an open SQL transaction"):
                self._leave(None)

    def _leave(self, error):
        self.is_over = True
        self.indexes.append(self.world.canister.message_count)
        self.message.__exit__(None if error is None else type(error), error, None)


class World:
    """A canister, and the rows that it should hold."""

    def __init__(self, canister):
        self.canister, self.rows, self.calls, self.upgrades = canister, [], [], 0
        canister.update("CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, x)")

    def act(self, number, todo):
        """Do what a number of the schedule says: begin a call, go on with one, or do else."""
        going = [call for call in self.calls if not call.is_over]
        if number == 9 and going and self.upgrades < 1:
            self.canister.upgrade()
            self.upgrades += 1
        elif number == 8:
            self.canister.update("INSERT INTO t (x) VALUES (100)")
            self.rows = [*self.rows, 100]
        elif number % 2 and going:
            going[number % len(going)].step()
        elif todo:
            self.calls.append(Call(self, *todo.pop()))
            self.calls[-1].step()
        self.look()

    def look(self):
        found = self.canister.query("SELECT x FROM t ORDER BY id").rows
        assert [row for (row,) in found] == self.rows

    def close(self):
        """Let all calls come to their end."""
        for call in self.calls:
            while not call.is_over:
                call.step()
                self.look()
        with self.canister.trace() as trace:
            for call in self.calls:
                of_call = [trace.messages[index] for index in call.indexes]
                assert [it.continues for it in of_call] == [None, *call.indexes[:-1]]
                assert {it.label for it in of_call} == {call.message.reply.message.label}
                assert len(call.message.replies) == len(call.indexes)
        assert self.canister.query("PRAGMA integrity_check").rows == [("ok",)]


def play(canister, todo, schedule):
    world, todo = World(canister), [*todo]
    for number in schedule:
        world.act(number, todo)
    while todo:
        world.act(0, todo)
    world.close()
    return world.rows


@pytest.mark.parametrize("engine", ["native", "wasm"])
@given(calls, schedules)
@settings(max_examples=40, deadline=None)
def test_calls_that_await_leave_what_the_model_says(engine, todo, schedule):
    with Canister(engine=engine, trace=":memory:") as canister:
        play(canister, todo, schedule)


@pytest.mark.parametrize("engine", ["native", "wasm"])
@given(calls, schedules)
@settings(max_examples=15, deadline=None)
def test_the_same_on_an_image_file_that_is_opened_again(engine, todo, schedule):
    with TemporaryDirectory() as folder:
        path = Path(folder, "a.stable")
        with Canister(path, engine=engine, trace=":memory:") as canister:
            rows = play(canister, todo, schedule)
        with Canister(path, engine=engine) as canister:
            found = canister.query("SELECT x FROM t ORDER BY id").rows
            assert [row for (row,) in found] == rows


@pytest.mark.parametrize("engine", ["native", "wasm"])
def test_threads_whose_calls_await_disturb_nobody(engine):
    """Each moves an amount out of one account before an await, and into another behind it."""
    with Canister(engine=engine, trace=":memory:") as canister:
        canister.update(
            "CREATE TABLE account (id INTEGER PRIMARY KEY, amount INTEGER, moving INTEGER)"
        )
        with canister.message() as message:
            message.executemany(
                "INSERT INTO account VALUES (?, 100, 0)", [(it,) for it in range(4)]
            )
        failures = []

        def move(source, target):
            with canister.message(label=f"from {source}") as message:
                message.execute(
                    "UPDATE account SET amount = amount - 1, moving = moving + 1 WHERE id = ?",
                    (source,),
                )
                with message.awaiting():
                    [(total,)] = canister.query("SELECT sum(amount + moving) FROM account").rows
                message.execute("UPDATE account SET moving = moving - 1 WHERE id = ?", (source,))
                message.execute("UPDATE account SET amount = amount + 1 WHERE id = ?", (target,))
            return total

        def run(number):
            for turn in range(25):
                total = move(number, (number + turn) % 4)
                if total != 400:
                    failures.append(total)

        threads = [Thread(target=run, args=(number,), daemon=True) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in threads)
        assert failures == []
        found = canister.query("SELECT sum(amount), sum(moving) FROM account").rows
        assert found == [(400, 0)]
        with canister.trace() as trace:
            labels = {it.index: it.label for it in trace.messages}
            behind = [it for it in trace.messages if it.continues is not None]
        assert len(behind) == 100
        assert all(labels[it.continues] == it.label for it in behind)


# -- a trap at each access behind the await -------------------------------------------------------


def behind(message):
    """A message that reads, writes, grows and frees."""
    message.execute("INSERT INTO t (x) VALUES (zeroblob(9000))")
    message.execute("UPDATE t SET x = x || 'y' WHERE id % 7 = 0")
    message.execute("DELETE FROM t WHERE id % 5 = 0")
    message.execute("CREATE INDEX IF NOT EXISTS by_x ON t (x)")


def call(canister, images):
    with canister.message() as message:
        message.execute("UPDATE t SET x = x || 'z' WHERE id % 3 = 0")
        message.commit_point()
        images.append(canister.image())
        behind(message)


@pytest.mark.parametrize(
    ("layout", "journal_mode"),
    [*(("managed", mode) for mode in JOURNALS), ("raw", "memory"), ("froghub", "memory")],
)
def test_a_trap_at_each_access_behind_an_await_leaves_the_commit_point(layout, journal_mode):
    options = {"layout": layout, "journal_mode": journal_mode, "cache_size": 10}
    with Canister(bucket_pages=1 if layout == "managed" else None, **options) as canister:
        canister.update("CREATE TABLE t (id INTEGER PRIMARY KEY, x)")
        with canister.message() as message, message.transaction():
            message.executemany("INSERT INTO t (x) VALUES (?)", [("x" * 300,)] * 60)
        swept = 0
        for index in count():
            images, is_whole = [], False
            with suppress(Trap), trap_at(canister, index):
                call(canister, images)
                is_whole = True
            if is_whole:
                break
            if images:
                swept += 1
                assert canister.image() == images[0]
            assert canister.query("PRAGMA integrity_check").rows == [("ok",)]
            canister.update("UPDATE t SET x = rtrim(x, 'yz')")
        assert swept > 20


def test_running_out_of_instructions_behind_an_await_brings_its_heap_back():
    latest, swept = latest_limits(), 0
    for instructions_max in range(3_000_000, 9_000_000, 250_000):
        limits = replace(latest, update=replace(latest.update, instructions_max=instructions_max))
        with Canister(engine="wasm", cache_size=10, limits=limits) as canister:
            canister.update("CREATE TABLE t (id INTEGER PRIMARY KEY, x)")
            canister.update("CREATE TEMP TABLE kept (x)")
            images, message = [], canister.message()
            with suppress(Trap), message:
                message.execute("INSERT INTO kept VALUES (1)")
                message.commit_point()
                images.append(canister.image())
                for _ in range(9):
                    behind(message)
                    message.execute("INSERT INTO kept VALUES (2)")
            assert [canister.image()] == images
            assert canister.query("SELECT * FROM kept").rows == [(1,)]
            swept += "instructions" in message.reply.message.trap
    assert swept == 24


# -- kill -9 --------------------------------------------------------------------------------------


@pytest.mark.parametrize("durability", ["process", "power"])
def test_what_was_committed_at_an_await_survives_a_kill_at_any_system_call(durability, tmp_path):
    arguments = ("awaits", durability, tmp_path, 3 if durability == "process" else 1, 1)
    done = run_child("-m", "tests.sim.killing", *arguments, timeout=None)
    assert done.returncode == 0, done.stderr
    assert '"at_the_await"' in done.stdout


KILLED = """
import os, signal, sys
from sqlstable import Canister

path, engine, where = sys.argv[1:]

def here(name):
    if name == where:
        os.kill(os.getpid(), signal.SIGKILL)

canister = Canister(path, engine=engine)
with canister.message() as message:
    message.execute("INSERT INTO t (x) VALUES ('before')")
    here("before the await")
    with message.awaiting():
        here("at the await")
        canister.update("INSERT INTO t (x) VALUES ('between')")
        here("behind another message")
    message.execute("INSERT INTO t (x) VALUES ('behind')")
    here("in what goes on")
here("behind the end")
"""

PLACES = {
    "before the await": [],
    "at the await": ["before"],
    "behind another message": ["before", "between"],
    "in what goes on": ["before", "between"],
    "behind the end": ["before", "between", "behind"],
}


@pytest.mark.parametrize("engine", ["native", "wasm"])
def test_what_was_committed_when_a_process_is_killed_is_there(engine, tmp_path):
    for number, (where, expected) in enumerate(PLACES.items()):
        path = tmp_path / f"{number}.stable"
        with Canister(path, engine=engine) as canister:
            canister.update("CREATE TABLE t (id INTEGER PRIMARY KEY, x)")
        done = run_child("-c", KILLED, path, engine, where)
        assert done.returncode == -signal.SIGKILL, done.stderr
        with Canister(path, engine=engine) as canister:
            found = canister.query("SELECT x FROM t ORDER BY id").rows
            assert [row for (row,) in found] == expected, where
            assert canister.query("PRAGMA integrity_check").rows == [("ok",)]
