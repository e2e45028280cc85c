"""Connections in several threads: who waits, and who is told to."""

import sys
from contextlib import closing
from threading import Event, Thread

import apsw
import pytest

from sqlstable import MessageError, StableMemory, StableVFS
from tests.connection_world import SETUP, Place, W, set_up
from tests.sim.test_threads import insert_by_threads


def in_a_thread(action):
    """What ``action`` returns or raises in another thread."""
    answers = []

    def run():
        try:
            answers.append(action())
        except Exception as error:  # noqa: BLE001  handed over
            answers.append(error)

    thread = Thread(target=run)
    thread.start()
    thread.join()
    return answers[0]


def test_a_message_belongs_to_the_thread_that_began_it():
    with closing(Place()) as place:
        set_up([place], "delete")
        one, two, _ = place.connections
        with place.memory.message("update"):
            error = in_a_thread(lambda: two.execute("SELECT * FROM t").fetchall())
            assert isinstance(error, MessageError)
            assert "a message (update) of another thread is open" in str(error)
            error = in_a_thread(lambda: place.vfs.connect().execute("SELECT * FROM t").fetchall())
            assert isinstance(error, MessageError)
            one.execute(W)
        assert in_a_thread(lambda: two.execute("SELECT count(*) FROM t").get) == 4
        # An implicit message, while a cursor is open.
        cursor = one.execute("SELECT * FROM t")
        next(cursor)
        error = in_a_thread(lambda: two.execute(W))
        assert isinstance(error, apsw.BusyError)
        cursor.close()
        assert in_a_thread(lambda: two.execute(W).fetchall()) == []
        assert one.execute("SELECT count(*) FROM t").get == 5


def test_threads_that_wait_for_each_other_lose_nothing():
    with closing(Place()) as place:
        set_up([place], "persist")

        def insert(connection):
            connection.set_busy_timeout(60_000)
            for _ in range(5):
                connection.execute(W).fetchall()

        threads = [Thread(target=insert, args=(one,)) for one in place.connections]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert place.connections[0].execute("SELECT count(*) FROM t").get == 3 + 15
        assert place.connections[0].execute("PRAGMA integrity_check").get == "ok"
        assert place.memory.kind is None


class Watched(StableMemory):
    """Runs something in another thread at one moment in the life of a message."""

    def __init__(self):
        super().__init__()
        self.watchers.append(self)
        self.at = {}

    def begin(self, kind):
        super().begin(kind)
        self.now("begin")

    def commit(self):
        self.now("commit")
        super().commit()

    def on_end(self):
        self.now("end")

    def on_rollback(self):
        """Nothing is derived."""

    def on_trap(self):
        """Nothing has to stop."""

    def now(self, moment):
        action = self.at.pop(moment, None)
        if action is not None:
            action()


@pytest.mark.parametrize("moment", ["begin", "commit"])
def test_another_thread_is_told_to_wait_from_beginning_to_end(moment):
    memory = Watched()
    vfs = StableVFS(memory)
    with closing(vfs.connect()) as one, closing(vfs.connect()) as two:
        one.execute(SETUP[0])
        errors = []
        memory.at[moment] = lambda: errors.append(in_a_thread(lambda: two.execute(W)))
        one.execute(W).fetchall()
        # A MessageError would not ask the busy handler.
        assert [type(error) for error in errors] == [apsw.BusyError]
        assert two.execute("SELECT count(*) FROM t").get == 1
    vfs.unregister()


def test_a_message_that_begins_while_another_ends_is_not_forgotten():
    memory = Watched()
    vfs = StableVFS(memory)
    with closing(vfs.connect("one.db")) as one, closing(vfs.connect("two.db")) as two:
        for connection in (one, two):
            connection.execute(SETUP[0])
            connection.set_busy_timeout(60_000)
        begun = Event()
        thread = Thread(target=lambda: two.execute(W).fetchall())

        def disturb():
            vfs.store.messages.interceptor = lambda _: begun.set()
            thread.start()
            # It has to wait; were it let in, it would have begun by then.
            begun.wait(0.1)

        memory.at["end"] = disturb
        one.execute(W).fetchall()
        thread.join()
        assert memory.kind is None
        assert [c.execute("SELECT count(*) FROM t").get for c in (one, two)] == [1, 1]
    vfs.unregister()


def test_threads_that_open_and_insert_beside_each_other_wait_for_their_turn():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        assert insert_by_threads(StableMemory(), 200) == []
    finally:
        sys.setswitchinterval(before)
