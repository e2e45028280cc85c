"""WAL in stable memory: one connection under an exclusive lock, as no canister has it."""

import sqlite3
from contextlib import closing, suppress
from random import Random

import apsw
import pytest

from sqlstable import Canister, ImageError, StableMemory, StableVFS, Trap
from sqlstable.testing import list_accesses, trap_at

WAL = ("locking_mode = exclusive", "journal_mode = wal")
SCHEMA = "CREATE TABLE t (id INTEGER PRIMARY KEY, x TEXT)"


def series(last):
    return (
        "(WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n "
        f"LIMIT {last}) SELECT i FROM n)"
    )


FILL = f"INSERT INTO t SELECT i, printf('%.*c', 500, 'x') FROM {series(100)}"


class Door:
    def __init__(self, memory=None, **options):
        self.memory = memory if memory is not None else StableMemory()
        self.vfs = StableVFS(self.memory, **options)
        self.connections = []

    def connect(self, *pragmas, name=None):
        connection = self.vfs.connect(name)
        self.connections.append(connection)
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}").fetchall()
        return connection

    def close(self):
        for connection in self.connections:
            connection.close(force=True)
        self.vfs.unregister()
        self.memory.close()


@pytest.fixture
def opened():
    doors = []

    def make(*arguments, **options):
        doors.append(Door(*arguments, **options))
        return doors[-1]

    yield make
    for door in doors:
        door.close()


def kept(connection):
    """Closing does not write the log back."""
    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    return connection


def rows(connection, sql="SELECT count(*), sum(length(x)) FROM t"):
    return connection.execute(sql).fetchall()


# -- connections of one's own ---------------------------------------------------------------------


def test_wal_is_answered_as_sqlite_answers_it_without_shared_memory(opened):
    connection = opened().connect()
    assert rows(connection, "PRAGMA journal_mode = wal") == [("delete",)]
    connection.execute("PRAGMA locking_mode = exclusive").fetchall()
    assert rows(connection, "PRAGMA journal_mode = wal") == [("wal",)]


@pytest.mark.parametrize("page_size", [512, 4096, 65_536])
@pytest.mark.parametrize("is_written_back", [False, True])
def test_a_database_in_wal_mode_is_found_again_with_its_log(opened, page_size, is_written_back):
    door = opened(bucket_pages=1)
    connection = kept(door.connect(f"page_size = {page_size}", *WAL))
    connection.execute(SCHEMA)
    connection.execute(FILL)
    if is_written_back:
        connection.execute("PRAGMA wal_checkpoint(truncate)").fetchall()
    connection.close()
    assert door.vfs.xAccess("main.db-wal", 0) is not is_written_back
    copy = StableMemory.from_image(door.memory.image())
    again = opened(copy)
    assert again.vfs.store.is_wal
    with pytest.raises(apsw.CantOpenError):
        apsw.Connection("main.db", vfs=again.vfs.name).execute("SELECT * FROM t")
    other = again.connect()
    assert rows(other) == [(100, 50_000)]
    assert rows(other, "PRAGMA integrity_check") == [("ok",)]
    other.execute("DELETE FROM t WHERE id > 10")
    assert rows(other, "PRAGMA journal_mode = delete") == [("delete",)]
    assert not again.vfs.xAccess("main.db-wal", 0)
    assert not again.vfs.store.is_wal
    other.close()
    plain = apsw.Connection("main.db", vfs=again.vfs.name)
    assert rows(plain) == [(10, 5000)]
    plain.close()


def test_each_transaction_is_a_message_and_a_commit_is_in_the_log(opened):
    door = opened(bucket_pages=1)
    connection = kept(door.connect(*WAL))
    connection.execute(SCHEMA)
    for number in range(1, 30):
        connection.execute("INSERT INTO t (x) VALUES (hex(zeroblob(500)))")
        assert door.memory.kind is None
        with closing(Door(StableMemory.from_image(door.memory.image()))) as copy:
            assert rows(copy.connect(), "SELECT count(*) FROM t") == [(number,)]
    kinds = [(info.name, info.kind) for info in door.vfs.stable_files()]
    assert ("main.db-wal", "wal") in kinds


def test_a_message_rolled_back_takes_the_log_back(opened):
    door = opened(bucket_pages=1)
    connection = kept(door.connect(*WAL))
    connection.execute(SCHEMA)
    connection.execute(FILL)
    before = door.memory.image()
    with suppress(Trap), door.memory.message("update"):
        connection.execute("UPDATE t SET x = 'gone'")
        connection.execute("PRAGMA wal_checkpoint(truncate)").fetchall()
        raise door.memory.poison(Trap("rolled back"))
    assert door.memory.image() == before
    # Under an exclusive lock SQLite knows better than the file: open it again.
    connection.close(force=True)
    again = door.connect()
    assert rows(again) == [(100, 50_000)]
    again.execute("UPDATE t SET x = 'y' WHERE id = 1")
    assert rows(again, "PRAGMA integrity_check") == [("ok",)]


def test_an_attached_database_can_be_in_wal_mode(opened):
    door = opened(bucket_pages=1)
    connection = door.connect("locking_mode = exclusive")
    connection.execute("ATTACH 'other.db' AS other")
    assert rows(connection, "PRAGMA other.journal_mode = wal") == [("wal",)]
    connection.execute(f"{SCHEMA}; CREATE TABLE other.o (x)")
    connection.execute("BEGIN; INSERT INTO t VALUES (1, 'a'); INSERT INTO o VALUES ('b'); COMMIT")
    assert door.memory.kind is None
    image = door.memory.image()
    with closing(Door(StableMemory.from_image(image))) as copy:
        assert rows(copy.connect(name="other.db"), "SELECT * FROM o") == [("b",)]
        assert rows(copy.connect(), "SELECT * FROM t") == [(1, "a")]


def test_an_observer_sees_what_the_log_has(opened):
    door = opened()
    connection = kept(door.connect(*WAL))
    connection.execute(SCHEMA)
    for number in range(1, 4):
        connection.execute("INSERT INTO t (x) VALUES ('x')")
        before = door.memory.image()
        with closing(door.vfs.observe()) as observer:
            assert rows(observer, "SELECT count(*) FROM t") == [(number,)]
            with pytest.raises(apsw.ReadOnlyError):
                observer.execute("DELETE FROM t")
        assert door.memory.image() == before
        assert door.memory.kind is None
    assert rows(connection, "PRAGMA integrity_check") == [("ok",)]


# -- canisters ------------------------------------------------------------------------------------


def test_a_canister_in_wal_mode_has_no_journal_beside_its_log():
    with filled() as canister:
        kinds = [info.kind for info in canister.vfs.stable_files()]
        assert kinds == ["database", "file directory", "wal"]


def filled(**options):
    canister = Canister(journal_mode="wal", bucket_pages=1, **options)
    canister.update(SCHEMA)
    canister.update(FILL)
    return canister


@pytest.mark.parametrize("cache", ["cold", "fresh", "warm"])
def test_a_query_sees_what_updates_have_committed(cache):
    with filled(cache_size=10) as canister:
        for number in range(1, 6):
            canister.update("INSERT INTO t (x) VALUES ('y')")
            sql = "SELECT count(*) FROM t"
            assert canister.query(sql, cache=cache).rows == [(100 + number,)]
            before = canister.image()
            assert canister.query("DELETE FROM t RETURNING 1", cache=cache).rows
            assert canister.image() == before
            assert canister.query(sql, cache=cache).rows == [(100 + number,)]
        canister.update("DELETE FROM t WHERE id > 50")
        assert canister.query("SELECT count(*) FROM t", cache=cache).rows == [(50,)]
        assert canister.query("PRAGMA integrity_check", cache=cache).rows == [("ok",)]


def test_a_cold_query_reads_each_sqlite_page_once():
    with filled() as canister:
        canister.update("PRAGMA wal_checkpoint(truncate)")
        reply = canister.query("SELECT * FROM t")
        leaves = canister.query("SELECT count(*) FROM dbstat WHERE name = 't'").rows[0][0]
        # The table and SQLite page 1; nothing of the log, which is empty.
        assert reply.footprint.os_pages_accessed == leaves + 1
        assert canister.query("SELECT * FROM t").footprint.use == reply.footprint.use


@pytest.mark.parametrize("page_size", [512, 4096, 65_536])
def test_upgrades_traps_and_write_backs_lose_nothing(page_size):
    generator = Random(page_size)
    model = {}
    with Canister(
        journal_mode="wal", bucket_pages=1, page_size=page_size, cache_size=10
    ) as canister:
        canister.update(SCHEMA)
        for number in range(200):
            key, text = generator.randrange(50), "x" * generator.randrange(2000)
            kind = generator.randrange(8)
            if kind == 0:
                canister.upgrade()
            elif kind == 1:
                canister.update("PRAGMA wal_checkpoint(restart)")
            elif kind == 2:
                with suppress(Trap), canister.message() as message:
                    message.execute("REPLACE INTO t VALUES (?, ?)", (key, text))
                    message.trap()
            elif kind == 3:
                canister.query("DELETE FROM t")
            else:
                canister.update("REPLACE INTO t VALUES (?, ?)", (key, text))
                model[key] = text
            if number % 10 == 0:
                assert dict(canister.query("SELECT * FROM t").rows) == model
        assert canister.query("PRAGMA integrity_check").rows == [("ok",)]


def test_a_message_that_traps_at_any_access_leaves_nothing():
    def act(canister):
        with canister.message() as message:
            message.execute("UPDATE t SET x = x || 'changed' WHERE id % 3 = 0")
            message.execute("PRAGMA wal_checkpoint(truncate)")
            message.execute("INSERT INTO t (x) VALUES ('last')")

    with filled(depth="pages") as canister:
        accesses = list_accesses(canister, lambda: act(canister))
    assert {"read", "write", "truncate"} <= set(accesses)
    with filled(depth="pages") as canister:
        before, found = canister.image(), canister.query("SELECT * FROM t").rows
        for index in range(0, len(accesses), 3):
            with pytest.raises(Trap, match="injected"), trap_at(canister, index):
                act(canister)
            assert canister.image() == before, (index, accesses[index])
        assert canister.query("SELECT * FROM t").rows == found
        act(canister)
        assert canister.query("PRAGMA integrity_check").rows == [("ok",)]


def test_extraction_takes_the_log_in_and_changes_nothing(tmp_path):
    with filled() as canister:
        canister.update("INSERT INTO t VALUES (900, 'in the log')")
        before, messages = canister.image(), canister.status().messages
        size_bytes = canister.extract_database(tmp_path / "copy.db")
        assert canister.image() == before
        assert canister.status().messages == messages
        canister.update("INSERT INTO t VALUES (901, 'goes on')")
    assert (tmp_path / "copy.db").stat().st_size == size_bytes
    with closing(sqlite3.connect(tmp_path / "copy.db")) as plain:
        assert plain.execute("SELECT x FROM t WHERE id > 500").fetchall() == [("in the log",)]
        assert plain.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert plain.execute("PRAGMA journal_mode").fetchall() == [("delete",)]


def test_an_image_in_wal_mode_keeps_it_and_says_so():
    with filled() as canister:
        canister.update("INSERT INTO t VALUES (900, 'in the log')")
        image = canister.image()
    with Canister(memory=StableMemory.from_image(image)) as again:
        assert again.settings.journal_mode == "wal"
        assert again.status().settings["journal_mode"] == "wal"
        assert again.query("SELECT x FROM t WHERE id > 500").rows == [("in the log",)]
        again.update("DELETE FROM t WHERE id < 900")
        assert again.query("SELECT count(*) FROM t").rows == [(1,)]
        again.update("PRAGMA journal_mode = memory")
        assert again.query("SELECT count(*) FROM t").rows == [(1,)]
        assert not again.vfs.store.is_wal
    with pytest.raises(ImageError):
        Canister(memory=StableMemory.from_image(image), layout="raw")


def test_a_script_can_switch_to_wal_and_back():
    with Canister(bucket_pages=1) as canister:
        canister.update(SCHEMA)
        canister.query("SELECT * FROM t")
        for mode in ("wal", "memory", "wal", "persist"):
            assert canister.update(f"PRAGMA journal_mode = {mode}").rows == [(mode,)]
            canister.update("INSERT INTO t (x) VALUES (?)", (mode,))
            assert (
                canister.query("SELECT max(id) FROM t").rows
                == canister.query("SELECT count(*) FROM t", cache="fresh").rows
            )
        assert canister.query("SELECT count(*) FROM t").rows == [(4,)]
        assert canister.query("PRAGMA integrity_check").rows == [("ok",)]


def test_owners_are_right_under_wal(tmp_path):
    with filled(trace=":memory:") as canister:
        canister.update("CREATE TABLE other (x); INSERT INTO other VALUES (1)")
        reply = canister.query("SELECT * FROM other")
        with closing(canister.trace()) as trace:
            names = {run.name for run in trace.owners}
    assert {"t", "other", "sqlite_schema"} <= names
    assert reply.rows == [(1,)]


def test_what_only_reads_is_known_under_wal():
    with filled() as canister:
        assert canister.engine.is_readonly("SELECT * FROM t")
        canister.update("CREATE TABLE later (x)")
        assert canister.engine.is_readonly("SELECT * FROM later")
        assert not canister.engine.is_readonly("DELETE FROM later")
