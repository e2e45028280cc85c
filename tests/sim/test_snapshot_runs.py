"""Random lives: snapshots, loads and upgrades between any two messages change no answer.

Beside the canister stands a plain connection in memory; a snapshot of it is a copy of its bytes.
"""

from contextlib import closing

import apsw
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sqlstable import Canister
from tests.one_canister import trap

STATEMENTS = st.one_of(
    st.tuples(st.just("insert"), st.integers(0, 60_000)),
    st.tuples(st.just("delete"), st.integers(0, 9)),
    st.tuples(st.just("update"), st.integers(0, 9)),
    st.tuples(st.just("index"), st.integers(0, 1)),
    st.tuples(st.just("vacuum"), st.just(0)),
    st.tuples(st.just("trap"), st.integers(0, 9)),
)
ACTIONS = st.one_of(
    st.tuples(st.just("sql"), STATEMENTS),
    st.tuples(st.sampled_from(["take", "replace", "load", "delete"]), st.integers(0, 5)),
    st.tuples(st.sampled_from(["upgrade", "reopen", "carry", "query"]), st.just(0)),
)

SCHEMA = "CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER, body BLOB)"
ASK = "SELECT id, n, length(body) FROM t ORDER BY id"


def sql_of(kind, number):
    return {
        "insert": f"INSERT INTO t (n, body) VALUES ({number % 10}, zeroblob({number}))",
        "delete": f"DELETE FROM t WHERE n = {number}",
        "update": f"UPDATE t SET n = (n + 1) % 10, body = zeroblob(100) WHERE n <= {number}",
        "index": "CREATE INDEX IF NOT EXISTS by_n ON t (n)"
        if number
        else "DROP INDEX IF EXISTS by_n",
        "vacuum": "VACUUM",
        "trap": f"UPDATE t SET n = {number}",
    }[kind]


class Pair:
    """A canister, and what it should answer."""

    def __init__(self, engine, folder):
        self.options = {"engine": engine, "bucket_pages": 1, "depth": "pages"}
        self.path = None if folder is None else folder / "app.stable"
        self.folder = folder
        self.canister = Canister(self.path, **self.options)
        self.model = apsw.Connection(":memory:")
        self.taken = []
        "Each snapshot with the model's bytes, the oldest first."
        self.carried = 0
        self.both(SCHEMA)

    def both(self, sql):
        self.canister.update(sql)
        self.model.execute(sql)

    def check(self):
        assert self.canister.query(ASK).rows == list(self.model.execute(ASK))
        assert [one.id for one in self.canister.snapshots] == [one.id for one, _ in self.taken]

    def run(self, action, choice):
        getattr(self, f"on_{action}")(choice)
        self.check()

    def on_sql(self, choice):
        kind, number = choice
        if kind == "trap":
            trap(self.canister, sql_of(kind, number))
            return
        self.both(sql_of(kind, number))

    def on_query(self, _):
        self.canister.query("DELETE FROM t")

    def on_upgrade(self, _):
        self.canister.upgrade()

    def on_take(self, choice):
        if len(self.taken) < 10:
            self.taken.append((self.canister.take_snapshot(), self.model.serialize("main")))

    def on_replace(self, choice):
        if self.taken:
            gone, _ = self.taken.pop(choice % len(self.taken))
            new = self.canister.take_snapshot(replace=gone)
            self.taken.append((new, self.model.serialize("main")))

    def on_load(self, choice):
        if self.taken:
            snapshot, data = self.taken[choice % len(self.taken)]
            self.canister.load_snapshot(snapshot)
            self.model.deserialize("main", data)

    def on_delete(self, choice):
        if self.taken:
            snapshot, _ = self.taken.pop(choice % len(self.taken))
            self.canister.delete_snapshot(snapshot)

    def on_carry(self, _):
        """Out to a folder and in again."""
        if self.folder is not None and self.taken and len(self.taken) < 10:
            self.carried += 1
            place = self.folder / f"carried-{self.carried}"
            snapshot, data = self.taken[0]
            self.canister.download_snapshot(snapshot, place)
            self.taken.append((self.canister.upload_snapshot(place), data))

    def on_reopen(self, _):
        if self.path is not None:
            self.canister.close()
            self.canister = Canister(self.path, **self.options)


@pytest.mark.parametrize("engine", ["native", "wasm"])
@pytest.mark.parametrize("place", ["memory", "file"])
@settings(
    max_examples=30,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(actions=st.lists(ACTIONS, min_size=5, max_size=30))
def test_no_answer_changes(tmp_path_factory, engine, place, actions):
    folder = tmp_path_factory.mktemp("life") if place == "file" else None
    pair = Pair(engine, folder)
    with closing(pair.model):
        try:
            for action, choice in actions:
                pair.run(action, choice)
            for snapshot, data in pair.taken:
                pair.canister.load_snapshot(snapshot)
                pair.model.deserialize("main", data)
                pair.check()
            assert pair.canister.query("PRAGMA integrity_check").rows == [("ok",)]
        finally:
            pair.canister.close()
