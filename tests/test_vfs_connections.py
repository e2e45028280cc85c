"""The lower door: several connections, journals and temporary files, databases in and out."""

import sqlite3
from contextlib import closing

import apsw
import pytest

from sqlstable import (
    StableMemory,
)
from sqlstable.database import vfs as vfs_module
from tests.doors import SCHEMA, is_sound, memory_with_buckets_apart, opened_fixture, rows, series  # noqa: F401  a fixture
from tests.vfs_world import FILL, JOURNALS, LAYOUTS, committed

# -- several connections --------------------------------------------------------------------------


def test_one_connection_writes_while_others_read_what_was_committed(opened):
    door = opened()
    writer, reader = door.connect(), door.connect()
    writer.execute(SCHEMA)
    writer.execute("BEGIN IMMEDIATE; INSERT INTO t VALUES (1, 'x')")
    assert rows(reader, "SELECT * FROM t") == []
    with pytest.raises(apsw.BusyError):
        reader.execute("BEGIN IMMEDIATE")
    # The reader's end is not the end of the writer's message.
    assert door.memory.kind == "update"
    writer.execute("COMMIT")
    assert door.memory.kind is None
    assert rows(reader, "SELECT * FROM t") == [(1, "x")]


def test_a_writer_waits_for_readers_and_keeps_new_ones_out(opened):
    door = opened()
    writer, reader, late = door.connect(), door.connect(), door.connect()
    writer.execute(SCHEMA)
    writer.execute("INSERT INTO t VALUES (1, 'x'), (2, 'y')")
    reading = reader.execute("SELECT * FROM t")
    next(reading)
    writer.execute("BEGIN; DELETE FROM t")
    with pytest.raises(apsw.BusyError):
        writer.execute("COMMIT")
    with pytest.raises(apsw.BusyError):
        rows(late)
    assert [*reading] == [(2, "y")]
    writer.execute("COMMIT")
    assert rows(late, "SELECT count(*) FROM t") == [(0,)]


def test_a_reader_turned_away_by_a_writer_does_not_end_the_writers_message(opened):
    door = opened()
    writer, reader = door.connect("cache_size = 3"), door.connect()
    writer.execute(SCHEMA)
    writer.execute(FILL)
    rows(reader)
    before = committed(door.memory)
    # Spilling takes an exclusive lock.
    writer.execute("BEGIN; UPDATE t SET x = x || 'spilled'")
    with pytest.raises(apsw.BusyError):
        rows(reader)
    assert door.memory.kind == "update"
    assert committed(door.memory) == before
    writer.execute("ROLLBACK")
    assert rows(reader) == [(100, 50_000)]


def test_an_exclusive_connection_keeps_others_out_until_it_closes(opened):
    door = opened()
    owner, other = door.connect("locking_mode = exclusive"), door.connect()
    owner.execute(SCHEMA)
    with pytest.raises(apsw.BusyError):
        rows(other)
    owner.close()
    assert rows(other, "SELECT * FROM t") == []


def test_closing_a_connection_rolls_its_transaction_back_and_frees_its_locks(opened):
    door = opened()
    one, other = door.connect("cache_size = 3"), door.connect()
    one.execute(SCHEMA)
    one.execute(FILL)
    before = one.serialize("main")
    one.execute("BEGIN; UPDATE t SET x = x || 'spilled'")
    one.close(force=True)
    assert other.serialize("main") == before
    other.execute("DELETE FROM t")
    assert is_sound(other)


def test_two_memories_take_part_in_one_transaction(opened):
    one, two = opened(), opened(layout="raw")
    flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE | apsw.SQLITE_OPEN_URI
    connection = apsw.Connection("main.db", flags=flags, vfs=one.vfs.name)
    one.connections.append(connection)
    connection.execute(f"ATTACH 'file:other.db?vfs={two.vfs.name}' AS other")
    connection.execute("CREATE TABLE main.a (x); CREATE TABLE other.b (x)")
    connection.execute("BEGIN; INSERT INTO a VALUES (1); INSERT INTO b VALUES (2); COMMIT")
    before = connection.serialize("main"), connection.serialize("other")
    connection.execute("BEGIN; INSERT INTO a VALUES (3); INSERT INTO b VALUES (4); ROLLBACK")
    assert (connection.serialize("main"), connection.serialize("other")) == before
    assert (one.memory.kind, two.memory.kind) == (None, None)
    connection.close()
    assert rows(one.connect(), "SELECT * FROM a") == [(1,)]
    assert rows(two.connect(name="other.db"), "SELECT * FROM b") == [(2,)]


# -- journals, temporary files, further files -----------------------------------------------------


@pytest.mark.parametrize("journal", JOURNALS)
def test_in_layout_raw_journals_lie_in_the_heap(opened, journal):
    door = opened(layout="raw")
    connection = door.connect(f"journal_mode = {journal}", "cache_size = 3")
    assert rows(connection, "PRAGMA journal_mode") == [(journal,)]
    connection.execute(SCHEMA)
    connection.execute(FILL)
    connection.execute("UPDATE t SET x = x || 'y'")
    size_bytes = door.vfs.store.size_bytes
    image = door.memory.image()
    # Nothing but the database lies in stable memory.
    assert image[:size_bytes] == connection.serialize("main")
    assert not any(image[size_bytes:])
    assert door.vfs.cabinet.messages.heap.keys() <= {"main.db-journal"}


@pytest.mark.parametrize("locking", ["normal", "exclusive"])
@pytest.mark.parametrize("spelling", ["wal", "WAL", "'wal'", "w"])
@pytest.mark.parametrize("layout", ["managed", "raw"])
def test_wal_is_refused_with_the_reason_and_the_database_stays_usable(
    opened, layout, locking, spelling
):
    door = opened(layout=layout)
    connection = door.connect(f"locking_mode = {locking}")
    connection.execute(SCHEMA)
    with pytest.raises(apsw.SQLError, match="wal is not available: no canister has"):
        connection.execute(f"PRAGMA journal_mode = {spelling}")
    connection.execute(FILL)
    connection.close()
    assert door.vfs.store.peek(2, 18) == b"\x01\x01"
    assert rows(door.connect()) == [(100, 50_000)]


def test_an_attached_database_cannot_be_in_wal_mode_either(opened):
    connection = opened().connect("locking_mode = exclusive")
    connection.execute("ATTACH 'other.db' AS other; CREATE TABLE other.o (x)")
    with pytest.raises(apsw.SQLError, match="wal is not available"):
        connection.execute("PRAGMA other.journal_mode = wal")
    assert rows(connection, "SELECT count(*) FROM o") == [(0,)]


@pytest.mark.parametrize("layout", ["managed", "raw"])
@pytest.mark.parametrize("locking", ["normal", "exclusive"])
def test_a_backup_from_a_database_in_wal_mode_is_in_rollback_mode(
    opened, tmp_path, layout, locking
):
    door = opened(layout=layout)
    connection = door.connect(f"locking_mode = {locking}")
    with closing(apsw.Connection(str(tmp_path / "app.db"))) as source:
        assert rows(source, "PRAGMA journal_mode = wal") == [("wal",)]
        source.execute(SCHEMA)
        source.execute(FILL)
        with connection.backup("main", source, "main") as backup:
            backup.step()
    assert door.vfs.store.peek(2, 18) == b"\1\1"
    if locking == "exclusive":
        # SQLite keeps the header that it has copied in its cache.
        with pytest.raises(apsw.CantOpenError, match="close the connection and open it again"):
            rows(connection)
        connection.close()
        connection = door.connect()
    assert rows(connection) == [(100, 50_000)]
    connection.execute("DELETE FROM t WHERE id > 10")
    again = opened(StableMemory.from_image(door.memory.image()), layout=layout)
    assert rows(again.connect()) == [(10, 5000)]


def test_layout_raw_refuses_a_second_file_and_takes_memory_databases(opened):
    connection = opened(layout="raw").connect()
    connection.execute(SCHEMA)
    with pytest.raises(apsw.CantOpenError, match=r"opened as 'main\.db'; 'other\.db' would be"):
        connection.execute("ATTACH 'other.db' AS other")
    with pytest.raises(apsw.CantOpenError, match="would be a second one"):
        connection.execute("VACUUM INTO 'copy.db'")
    connection.execute("ATTACH ':memory:' AS heap; ATTACH '' AS temporary")
    connection.execute("CREATE TABLE heap.a (x); CREATE TABLE temporary.b (x)")
    connection.execute("BEGIN; INSERT INTO a VALUES (1); INSERT INTO t VALUES (1, 'x'); COMMIT")
    assert rows(connection, "SELECT a.x, t.x FROM a, t") == [(1, "x")]


def test_temporary_files_are_heap(opened, monkeypatch):
    made = []

    class CountedFile(vfs_module.HeapFile):
        def __init__(self):
            super().__init__()
            made.append(self)

    monkeypatch.setattr(vfs_module, "HeapFile", CountedFile)
    door = opened()
    connection = door.connect("temp_store = file", "cache_size = 5", "journal_mode = off")
    connection.execute(SCHEMA)
    connection.execute(FILL)
    before, wasm_pages = door.memory.image(), door.memory.wasm_pages
    connection.execute("PRAGMA temp.cache_size = 5")
    connection.execute(
        f"CREATE TEMP TABLE big AS SELECT hex(zeroblob(900)) AS x FROM {series(300)}"
    )
    connection.execute("CREATE INDEX temp.i ON big (x)")
    sql = "SELECT count(*) FROM (SELECT DISTINCT big.x || t.x FROM big, t ORDER BY 1)"
    assert rows(connection, sql) == [(1,)]
    assert max(len(file.data) for file in made) > 300_000
    assert door.memory.image() == before
    assert door.memory.wasm_pages == wasm_pages
    connection.execute("DROP TABLE big")
    connection.execute("CREATE INDEX main.j ON t (x)")
    assert is_sound(connection)


def without_counters(connection):
    """A database without its change counters and the version that wrote it."""
    data = bytearray(connection.serialize("main"))
    data[24:28], data[92:100] = bytes(4), bytes(8)
    return data


# -- whole databases in and out -------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_backup_goes_in_and_out(opened, layout):
    with closing(apsw.Connection(":memory:")) as source:
        source.execute("PRAGMA page_size = 8192")
        source.execute(SCHEMA)
        source.execute(FILL)
        door = opened(layout=layout, bucket_pages=1)
        connection = door.connect()
        with connection.backup("main", source, "main") as backup:
            backup.step()
        assert door.memory.kind is None
        assert without_counters(connection) == without_counters(source)
    connection.execute("DELETE FROM t WHERE id % 2")
    with closing(apsw.Connection(":memory:")) as target:
        with target.backup("main", connection, "main") as backup:
            while not backup.done:
                backup.step(3)
        assert rows(target) == [(50, 25_000)]
        assert is_sound(target)
    assert door.memory.kind is None
    connection.close()
    again = opened(StableMemory.from_image(door.memory.image()), layout=layout).connect()
    assert rows(again, "PRAGMA page_size") == [(8192,)]
    assert is_sound(again)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_serialize_gives_the_bytes_that_lie_in_stable_memory(opened, layout, tmp_path):
    door = opened(layout=layout, bucket_pages=1)
    connection = door.connect()
    connection.execute(SCHEMA)
    connection.execute(FILL)
    data = connection.serialize("main")
    store = door.vfs.store
    assert len(data) == store.size_bytes
    assert data == b"".join(store.peek(512, offset) for offset in range(0, len(data), 512))
    (tmp_path / "plain.db").write_bytes(data)
    with closing(sqlite3.connect(tmp_path / "plain.db")) as plain:
        assert plain.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert plain.execute("SELECT count(*) FROM t").fetchall() == [(100,)]
