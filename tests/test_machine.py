"""The seam below a canister: every message on one machine, and machines of one's own."""

import inspect
from contextlib import closing

import pytest

import sqlstable
from sqlstable import Canister, SettingsError, SqlError, StableMemory, Trap
from sqlstable.canister.native_machine import NativeMachine


class Listening:
    """A machine that notes how each message of another one goes."""

    def __init__(self, memory):
        self._machine = NativeMachine(memory, depth="counters")
        self.begun = []
        self.ended = []

    def __getattr__(self, name):
        return getattr(self._machine, name)

    def begin(self, call):
        self.begun.append(call.part or call.kind)
        self._machine.begin(call)

    def end(self, call, look):
        ended = self._machine.end(call, look)
        self.ended.append((ended.facts.kind, ended.facts.outcome))
        return ended


def test_every_message_goes_the_same_way_life_cycle_included(tmp_path):
    with Canister(machine=Listening) as canister:
        canister.update("CREATE TABLE t (x)")
        canister.query("SELECT * FROM t")
        with pytest.raises(Trap), canister.message() as message:
            message.trap()
        canister.upgrade()
        canister.extract_database(tmp_path / "app.db")
        canister.reinstall()
        canister.import_database(tmp_path / "app.db")
        assert canister.query("SELECT * FROM t").rows == []
        machine = canister.machine
    kinds = ("install", "update", "query", "update", "upgrade", "reinstall", "install", "query")
    assert machine.begun == [
        *("install", "init", "update", "query", "update", "upgrade", "post_upgrade"),
        *("reinstall", "init", "install", "query"),
    ]
    outcomes = ["committed"] * len(kinds)
    outcomes[2] = outcomes[-1] = "discarded"
    outcomes[3] = "trapped"
    assert machine.ended == [*zip(kinds, outcomes, strict=True)]


def test_the_facts_of_a_message_are_made_once_and_stay():
    with Canister(machine=Listening, trace=":memory:") as canister:
        canister.update("CREATE TABLE t (x)", label="make")
        reply = canister.update("INSERT INTO t VALUES (1)")
        assert (reply.message.index, reply.message.statements) == (2, (1,))
        with pytest.raises(AttributeError):
            reply._ended.facts.outcome = "trapped"
        with closing(canister.trace()) as trace:
            assert [message.label for message in trace.messages] == [None, "make", None]
            assert trace.messages[2] == reply.message


def test_a_machine_is_made_on_the_memory_that_was_chosen(tmp_path):
    memory = StableMemory()
    with Canister(memory=memory, machine=Listening) as canister:
        assert canister.memory is memory
    with Canister(tmp_path / "a.stable", machine=Listening) as canister:
        canister.update("CREATE TABLE t (x)")
        assert canister.status().settings["engine"] == "native"
    with Canister(tmp_path / "a.stable") as canister:
        assert canister.query("SELECT * FROM t").rows == []


def test_a_machine_that_cannot_be_made_gives_the_image_back(tmp_path):
    def fail(memory):
        raise SettingsError("no such machine")

    for _ in range(2):
        with pytest.raises(SettingsError, match="no such machine"):
            Canister(tmp_path / "a.stable", machine=fail)
    with Canister(tmp_path / "a.stable"):
        pass


def test_a_step_that_fails_is_no_message_and_leaves_the_canister_as_it_was():
    class Failing(Listening):
        def end(self, call, look):
            if call.kind == "upgrade":
                raise self.memory.poison(Trap("no room"))
            return super().end(call, look)

    with Canister(machine=Failing, trace=":memory:") as canister:
        canister.update("CREATE TABLE t (x)")
        with pytest.raises(Trap, match="no room"):
            canister.upgrade()
        canister.update("INSERT INTO t VALUES (1)")
        with pytest.raises(SqlError):
            canister.update("SELECT * FROM missing")
        assert canister.query("SELECT * FROM t").rows == [(1,)]
        with closing(canister.trace()) as trace:
            assert [message.kind for message in trace.messages] == [
                *("install", "update", "update", "update", "query"),
            ]


def test_keywords_are_refused_and_shown_by_name():
    with pytest.raises(TypeError, match="unexpected keyword argument 'pagesize'"):
        Canister(pagesize=4096)
    with pytest.raises(TypeError, match="takes from 1 to 2 positional arguments"):
        Canister(None, "wasm")
    names = [*inspect.signature(sqlstable.Canister).parameters]
    assert names[:4] == ["path", "engine", "measure", "layout"]
    for name in names:
        assert f"{name}: " in Canister.__doc__
