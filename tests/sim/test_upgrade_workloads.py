"""Steps of the life cycle between any two messages of a random workload change no answer.

The oracle is plain SQLite, which knows neither messages nor upgrades: each message is an SQL
transaction there, and one that fails is rolled back.
"""

from contextlib import closing
from dataclasses import replace

import apsw
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sqlstable import Canister, Hooks, SqlError, Trap
from tests.upgrade_world import ENGINES, LAYOUTS

pytestmark = pytest.mark.slow

SCHEMA = (
    "CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT UNIQUE, amount INTEGER)",
    "CREATE TABLE log (item INTEGER REFERENCES item (id), body TEXT)",
    "CREATE INDEX log_item ON log (item)",
    """CREATE TRIGGER audit AFTER UPDATE ON item BEGIN
    INSERT INTO log VALUES (new.id, 'from ' || old.amount || ' to ' || new.amount); END""",
)
STATEMENTS = (
    "INSERT INTO item (name, amount) VALUES ('item ' || ?1, ?1)",
    "INSERT OR REPLACE INTO item (id, name, amount) VALUES (?1 % 7, 'item ' || ?1, -?1)",
    "UPDATE item SET amount = amount + ?1 WHERE id % 3 = ?1 % 3",
    "DELETE FROM item WHERE id % 11 = ?1 % 11",
    "INSERT INTO log SELECT id, printf('%.*c', 400 + ?1, 'x') FROM item",
    "DELETE FROM log WHERE rowid % 2 = ?1 % 2",
    "CREATE INDEX IF NOT EXISTS item_amount ON item (amount, name)",
    "DROP INDEX IF EXISTS item_amount",
    "CREATE TABLE IF NOT EXISTS more AS SELECT * FROM item",
    "INSERT INTO more SELECT * FROM item",
)
"""The last one fails until there is such a table, the first one where there is such an item."""

QUERIES = (
    "SELECT * FROM item WHERE amount > ?1 ORDER BY id",
    "SELECT item, count(*), sum(length(body)) FROM log GROUP BY item ORDER BY item",
    "SELECT type, name, sql FROM sqlite_schema ORDER BY name",
    "SELECT max(id), total(amount) FROM item WHERE id <> ?1",
)

numbers = st.integers(0, 60)
messages = st.one_of(
    st.tuples(st.just("update"), st.lists(st.sampled_from(STATEMENTS), min_size=1), numbers),
    st.tuples(st.just("query"), st.sampled_from(QUERIES), numbers),
    st.tuples(st.just("trap"), st.lists(st.sampled_from(STATEMENTS)), numbers),
)
STEPS = ("upgrade", "hooks", "keep", "failing", "stop", "uninstall")
workloads = st.lists(st.tuples(messages, st.sampled_from((*STEPS, None, None))), max_size=12)


def touch(message):
    """Do in a hook what leaves the database's content as it is."""
    message.execute("CREATE TABLE IF NOT EXISTS passing AS SELECT * FROM log")
    message.execute("DROP TABLE passing")


def fail(message):
    message.execute("DELETE FROM item")
    message.trap("on purpose")


CODE = Hooks(pre_upgrade=touch, post_upgrade=touch)
KEEPING = replace(CODE, keeps_heap=True)
FAILING = replace(CODE, post_upgrade=fail)


def take(step, canister, folder):
    """Take a step of the life cycle, behind which everything is to be as it was."""
    if step == "upgrade":
        canister.upgrade(hooks=Hooks(), skip_pre_upgrade=True, wasm_memory_persistence="replace")
    elif step == "hooks":
        canister.upgrade(hooks=CODE, wasm_memory_persistence="replace")
    elif step == "keep":
        canister.upgrade(hooks=KEEPING, wasm_memory_persistence="keep")
    elif step == "failing":
        with pytest.raises(Trap, match="on purpose"):
            canister.upgrade(hooks=FAILING, wasm_memory_persistence="replace")
    elif step == "stop":
        canister.stop()
        canister.upgrade(wasm_memory_persistence="replace")
        canister.start()
    else:
        # What was taken out before is all that is left of it.
        canister.extract_database(folder / "kept.db", overwrite=True)
        canister.uninstall()
        canister.reinstall()
        canister.import_database(folder / "kept.db")


class Oracle:
    """Plain SQLite, with messages as SQL transactions."""

    def __init__(self):
        self.connection = apsw.Connection(":memory:")
        for sql in SCHEMA:
            self.connection.execute(sql)

    def close(self):
        self.connection.close()

    def query(self, sql, number):
        return self.connection.execute(sql, given_to(sql, number)).fetchall()

    def update(self, statements, number, *, is_kept):
        """Return whether it succeeded."""
        self.connection.execute("BEGIN")
        try:
            for sql in statements:
                self.connection.execute(sql, given_to(sql, number))
        except apsw.Error:
            is_kept = False
            succeeded = False
        else:
            succeeded = True
        self.connection.execute("COMMIT" if is_kept else "ROLLBACK")
        return succeeded


def given_to(sql, number):
    return (number,) if "?1" in sql else ()


def send(canister, statements, number, *, is_kept):
    """Run a message of several statements; returns whether it succeeded, but for a trap."""
    try:
        with canister.message() as message, message.transaction():
            for sql in statements:
                message.execute(sql, given_to(sql, number))
            if not is_kept:
                message.trap("of the workload")
    except SqlError:
        return False
    except Trap:
        return True
    return True


def run(engine, layout, workload, folder):
    with (
        closing(Oracle()) as oracle,
        Canister(engine=engine, layout=layout, hooks=CODE, depth="pages") as canister,
    ):
        for sql in SCHEMA:
            canister.update(sql)
        for (kind, what, number), step in workload:
            if kind == "query":
                rows = canister.query(what, given_to(what, number)).rows
                assert rows == oracle.query(what, number)
            else:
                expected = oracle.update(what, number, is_kept=kind == "update")
                assert send(canister, what, number, is_kept=kind == "update") == expected
            if step is not None:
                take(step, canister, folder)
        for sql in QUERIES:
            assert canister.query(sql, given_to(sql, 3)).rows == oracle.query(sql, 3)
        assert canister.query("PRAGMA integrity_check").rows == [("ok",)]


def checked(examples):
    return settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


@pytest.mark.parametrize("layout", LAYOUTS)
@checked(25)
@given(workload=workloads)
def test_steps_change_no_answer_on_the_native_engine(layout, tmp_path, workload):
    run("native", layout, workload, tmp_path)


@pytest.mark.parametrize("layout", LAYOUTS)
@checked(8)
@given(workload=workloads)
def test_steps_change_no_answer_on_the_wasm_engine(layout, tmp_path, workload):
    run("wasm", layout, workload, tmp_path)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("step", STEPS)
def test_each_step_between_all_messages_of_one_workload(engine, step, tmp_path):
    """So that none depends on luck."""
    workload = [(("update", list(STATEMENTS[:5]), 7), step), (("query", QUERIES[1], 0), step)]
    workload += [(("trap", list(STATEMENTS[2:4]), 3), step), (("update", [STATEMENTS[9]], 1), step)]
    workload += [(("update", [STATEMENTS[8], STATEMENTS[9]], 5), step)]
    run(engine, "managed", workload, tmp_path)
