"""Migrations by random changes: there and back where that was promised; killed; out of limits."""

import signal
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sqlstable import (
    Canister,
    LimitTrap,
    MigrationError,
    SqlError,
    StableMemory,
    Trap,
    latest_limits,
)
from sqlstable.schema.migrations import make_migration
from tests.children import run_child
from tests.schema_world import dump

TABLES = {
    "account": ["id INTEGER PRIMARY KEY", "owner TEXT", "balance TEXT DEFAULT '0'"],
    "word": ["k TEXT PRIMARY KEY", "n INTEGER"],
    "plain": ["a", "b REAL"],
}
COLUMNS = (
    "x",
    "y TEXT",
    "z INTEGER DEFAULT 3",
    "w TEXT COLLATE NOCASE",
    "v INTEGER CHECK (v < 99)",
)
REPLACED = {
    "balance TEXT DEFAULT '0'": "balance INTEGER",
    "n INTEGER": "n TEXT",
    "b REAL": "b REAL UNIQUE",
    "owner TEXT": "owner TEXT NOT NULL",
}
INDEXES = {
    "CREATE INDEX account_owner ON account (owner)": "account",
    "CREATE UNIQUE INDEX word_n ON word (n)": "word",
    "CREATE INDEX plain_b ON plain (b) WHERE b > 1": "plain",
}
VIEWS = ("CREATE VIEW rich AS SELECT owner FROM account", "CREATE VIEW words AS SELECT k FROM word")


@st.composite
def schemas(draw, *, is_first=False):
    """SQL of a schema with the three tables, or a change of it."""
    lines = []
    for name, columns in TABLES.items():
        own = [*columns]
        if not is_first:
            own = [draw(st.sampled_from((it, REPLACED.get(it, it)))) for it in own]
        own += draw(st.lists(st.sampled_from(COLUMNS), max_size=2, unique=True))
        lines.append(f"CREATE TABLE {name} ({', '.join(own)})")
    lines += draw(st.lists(st.sampled_from(list(INDEXES)), max_size=3, unique=True))
    lines += draw(st.lists(st.sampled_from(VIEWS), max_size=2, unique=True))
    if draw(st.booleans()):
        lines.append("CREATE TABLE extra (e PRIMARY KEY) WITHOUT ROWID")
    return ";\n".join(lines)


VALUES = st.sampled_from(["7", "abc", 3, 2.5, None, b"x", "", "07"])


def insert(canister, rows):
    for number, (first, second) in enumerate(rows):
        canister.update("INSERT INTO account (owner, balance) VALUES (?, ?)", (first, second))
        canister.update("INSERT INTO word (k, n) VALUES (?, ?)", (f"k{number}", number))
        canister.update("INSERT INTO plain (a, b) VALUES (?, ?)", (first, number))


@settings(max_examples=40, deadline=None)
@given(
    schemas(is_first=True),
    schemas(),
    st.lists(st.tuples(VALUES, VALUES), max_size=5),
    st.booleans(),
)
def test_there_and_back_is_the_identity_where_it_was_promised(old, new, rows, is_cut):
    with Canister() as canister:
        canister.upgrade(schema=old)
        insert(canister, rows)
        before = dump(canister)
        columns = [f"{table}.{it.split()[0]}" for table in TABLES for it in COLUMNS]
        dropped = [it for it in columns if _has(old, it) and not _has(new, it)]
        try:
            if is_cut:
                canister.migrate(new, rows_per_message=2, dropped=dropped)
            else:
                canister.upgrade(schema=new, dropped=dropped)
        except MigrationError:
            assert dump(canister) == before
            return
        last = canister.schema_status().ledger.applied[-1]
        if last.number == 1 or last.way == "forward only":
            return
        canister.rollback_schema()
        assert dump(canister) == before


def _has(schema, column):
    table, _, name = column.partition(".")
    line = next(it for it in schema.split(";\n") if it.startswith(f"CREATE TABLE {table} "))
    return any(part.split()[0] == name for part in line.partition("(")[2].split(", "))


STEPS = {
    "ALTER TABLE account ADD COLUMN x": "ALTER TABLE account DROP COLUMN x",
    "CREATE INDEX i ON word (n)": "DROP INDEX i",
    "ALTER TABLE plain RENAME COLUMN a TO c": "ALTER TABLE plain RENAME COLUMN c TO a",
    "CREATE TABLE more (x); INSERT INTO more SELECT k FROM word": "DROP TABLE more",
    "UPDATE word SET n = n + 1": "UPDATE word SET n = n - 1",
    "UPDATE account SET owner = upper(owner)": "UPDATE account SET owner = lower(owner)",
    "UPDATE plain SET b = b * 3": "UPDATE plain SET b = b / 3",
    "--@ deprecate word": "--@ restore word",
    "DELETE FROM plain": "SELECT 1",
}


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.sampled_from(list(STEPS)), min_size=1, max_size=4, unique=True),
    st.lists(st.tuples(VALUES, VALUES), max_size=5),
)
def test_numbered_migrations_lead_back_where_it_was_promised(tmp_path_factory, ups, rows):
    folder = tmp_path_factory.mktemp("migrations")
    for number, up in enumerate(ups, start=1):
        make_migration(number, "m", up, STEPS[up])
        (folder / f"{number:04}_m.sql").write_text(up)
        (folder / f"{number:04}_m.down.sql").write_text(STEPS[up])
    with Canister() as canister:
        for name, columns in TABLES.items():
            canister.update(f"CREATE TABLE {name} ({', '.join(columns)})")
        insert(canister, rows)
        dumps = [dump(canister)]
        try:
            canister.migrate(folder)
        except SqlError as error:
            # One deprecates what the next one writes to.
            assume("is deprecated since" not in str(error))
            raise
        applied = canister.schema_status().ledger.applied
        assert len(applied) == len(ups)
        for one in reversed(applied):
            if one.way == "forward only":
                return
            canister.rollback_schema()
        assert dump(canister) == dumps[0]


# -- kills ----------------------------------------------------------------------------------------

OLD = "CREATE TABLE t (id INTEGER PRIMARY KEY, x TEXT UNIQUE); CREATE TABLE plain (a, b)"
NEW = OLD.replace("x TEXT", "x INTEGER").replace("(a, b)", "(a INTEGER, b)")

CHILD = """
import os, signal, sys
from sqlstable import Canister
path, new, at, inside = sys.argv[1:]
sent = 0
def kill(_):
    global sent
    sent += 1
    if sent == int(at):
        if inside == "between":
            os.kill(os.getpid(), signal.SIGKILL)
        canister.vfs.store.messages.interceptor = intercept
left = 4
def intercept(kind):
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
canister = Canister(path)
canister.migrate(new, rows_per_message=9, on_message=kill)
"""


@pytest.fixture(scope="module")
def image():
    with Canister() as canister:
        canister.update(OLD)
        for number in range(30):
            canister.update("INSERT INTO t (x) VALUES (?)", (str(number),))
            canister.update("INSERT INTO plain VALUES (?, ?)", (str(number), "y" * 900))
        return canister.image()


@pytest.mark.parametrize("inside", ["between", "inside"])
@pytest.mark.parametrize("at", [1, 6])
def test_a_killed_migration_goes_on(image, tmp_path, at, inside):
    with Canister(memory=StableMemory.from_image(image)) as canister:
        canister.upgrade(schema=NEW)
        expected = dump(canister)
    path = Path(tmp_path, "app.stable")
    path.write_bytes(image)
    done = run_child("-c", CHILD, path, NEW, at, inside)
    assert done.returncode == -signal.SIGKILL, done.stderr
    with Canister(path) as canister:
        assert canister.schema_status().run is not None
        canister.migrate(NEW)
        assert dump(canister) == expected
    assert [it.name for it in tmp_path.iterdir()] == ["app.stable"]


# -- engines --------------------------------------------------------------------------------------


def test_an_upgrade_out_of_instructions_is_as_before(image):
    with Canister(engine="wasm", memory=StableMemory.from_image(image)) as canister:
        reply = canister.upgrade(schema=NEW)
    used = next(it.used for it in reply.limits if it.name == "instructions")
    latest = latest_limits()
    for percent in (60, 75, 90, 99):
        upgrade = replace(latest.upgrade, instructions_max=used * percent // 100)
        limits = replace(latest, upgrade=upgrade)
        memory = StableMemory.from_image(image, limits=limits)
        with Canister(engine="wasm", memory=memory, limits=limits) as canister:
            with pytest.raises(LimitTrap):
                canister.upgrade(schema=NEW)
            assert canister.image() == image
            assert canister.query("SELECT count(*) FROM t").rows == [(30,)]


@pytest.mark.parametrize("engine", ["native", "wasm"])
def test_an_upgrade_over_its_os_pages_is_as_before(image, engine):
    latest = latest_limits()
    limits = replace(latest, upgrade=replace(latest.upgrade, os_pages_dirty_max=9))
    memory = StableMemory.from_image(image, limits=limits)
    with Canister(engine=engine, memory=memory, limits=limits) as canister:
        with pytest.raises(Trap):
            canister.upgrade(schema=NEW)
        assert canister.image() == image
        # By messages it goes.
        canister.migrate(NEW)
        assert canister.query("SELECT sum(x) FROM t").rows == [(435,)]
