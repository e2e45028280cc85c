"""The lower door: somebody's own APSW connections on a `StableVFS`."""

import gc
import weakref
from contextlib import closing
from dataclasses import replace

import apsw
import pytest

import sqlstable
from sqlstable import (
    ImageError,
    LimitTrap,
    MemoryManager,
    MessageError,
    SettingsError,
    StableMemory,
    StableVFS,
    Trap,
    latest_limits,
)
from sqlstable.database.vfs import vfs_of
from sqlstable.ic.units import GIB, OS_PAGE_BYTES
from tests.doors import SCHEMA, is_sound, memory_with_buckets_apart, opened_fixture, rows, series  # noqa: F401  a fixture
from tests.vfs_world import FILL, JOURNALS, LAYOUTS, committed

# -- the file -------------------------------------------------------------------------------------


@pytest.mark.parametrize("page_size", [512, 1024, 2048, 4096, 8192, 16_384, 32_768, 65_536])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_database_of_any_page_size_is_kept_and_found_again(opened, layout, page_size):
    door = opened(layout=layout, page_size=page_size, bucket_pages=1)
    connection = door.connect(f"page_size = {page_size}")
    connection.execute(SCHEMA)
    connection.execute(FILL)
    connection.close()
    copy = StableMemory.from_image(door.memory.image())
    again = opened(copy, layout=layout).connect()
    assert rows(again) == [(100, 50_000)]
    assert rows(again, "PRAGMA page_size") == [(page_size,)]
    assert is_sound(again)


def test_a_page_size_of_the_connections_own_works_too(opened):
    door = opened(page_size=4096)
    connection = door.connect("page_size = 16384")
    connection.execute(SCHEMA)
    connection.execute(FILL)
    connection.execute("PRAGMA page_size = 1024; VACUUM")
    assert rows(connection) == [(100, 50_000)]
    connection.close()
    again = opened(StableMemory.from_image(door.memory.image())).connect()
    assert rows(again, "PRAGMA page_size") == [(1024,)]
    assert rows(again) == [(100, 50_000)]
    assert is_sound(again)


@pytest.mark.parametrize("page_size", [512, 4096, 65_536])
def test_overflow_chains_cross_buckets_that_lie_apart(opened, page_size):
    door = opened(memory_with_buckets_apart(), page_size=page_size)
    connection = door.connect(f"page_size = {page_size}")
    connection.execute(SCHEMA)
    text = "".join(chr(32 + i * 7 % 90) for i in range(300_000))
    connection.execute("INSERT INTO t VALUES (1, ?)", (text,))
    connection.execute("INSERT INTO t VALUES (2, ?)", (text[::-1],))
    assert door.vfs.store.placement.map.origin is None
    assert rows(connection, "SELECT x FROM t") == [(text,), (text[::-1],)]
    with connection.blob_open("main", "t", "x", 1, writeable=True) as blob:
        blob.seek(200_000)
        blob.write(b"written in place")
        blob.seek(0)
        changed = text[:200_000] + "written in place" + text[200_016:]
        assert blob.read() == changed.encode()
    connection.execute("DELETE FROM t WHERE id = 2")
    assert rows(connection, "SELECT x FROM t") == [(changed,)]
    assert is_sound(connection)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_vacuum_shortens_the_file_and_never_the_memory(opened, layout):
    door = opened(layout=layout, bucket_pages=1)
    connection = door.connect()
    connection.execute(SCHEMA)
    connection.execute(f"INSERT INTO t SELECT i, printf('%.*c', 4000, 'x') FROM {series(100)}")
    size_bytes, wasm_pages = door.vfs.store.size_bytes, door.memory.wasm_pages
    connection.execute("DELETE FROM t WHERE id > 3")
    assert door.vfs.store.size_bytes == size_bytes
    connection.execute("VACUUM")
    small_bytes = door.vfs.store.size_bytes
    assert small_bytes < size_bytes / 10
    assert door.memory.wasm_pages == wasm_pages
    # Whoever opens the image next finds the same length by the header.
    again = opened(StableMemory.from_image(door.memory.image()), layout=layout)
    assert again.vfs.store.size_bytes == small_bytes
    assert is_sound(again.connect())
    connection.execute(f"INSERT INTO t (x) SELECT printf('%.*c', 4000, 'y') FROM {series(100)}")
    assert door.memory.wasm_pages <= wasm_pages + 1
    assert is_sound(connection)


@pytest.mark.parametrize(("mode", "sqlite_pages"), [(0, 50), (1, 4), (2, 50)])
def test_auto_vacuum_shortens_the_file_by_its_mode(opened, mode, sqlite_pages):
    door = opened()
    connection = door.connect(f"auto_vacuum = {mode}")
    connection.execute(SCHEMA)
    connection.execute(f"INSERT INTO t SELECT i, printf('%.*c', 4000, 'x') FROM {series(48)}")
    connection.execute("DELETE FROM t")
    assert door.vfs.store.size_bytes // 4096 in range(sqlite_pages - 1, sqlite_pages + 3)
    if mode == 2:
        connection.execute("PRAGMA incremental_vacuum").fetchall()
        assert door.vfs.store.size_bytes // 4096 <= 4
    assert is_sound(connection)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("journal", JOURNALS)
@pytest.mark.parametrize("locking", ["normal", "exclusive"])
@pytest.mark.parametrize("is_new_vfs", [False, True])
def test_a_first_transaction_that_spilled_and_was_rolled_back_leaves_an_empty_file(
    opened, layout, journal, locking, is_new_vfs
):
    door = opened(layout=layout)
    pragmas = (f"locking_mode = {locking}", f"journal_mode = {journal}", "cache_size = 3")
    connection = door.connect(*pragmas)
    connection.execute("BEGIN; CREATE TABLE other (x)")
    connection.execute(f"INSERT INTO other SELECT printf('%.*c', 900, 'x') FROM {series(300)}")
    assert door.vfs.store.size_bytes > 100_000
    connection.execute("ROLLBACK")
    connection.close()
    if is_new_vfs:
        door.vfs.unregister()
        door.vfs = StableVFS(door.memory, layout=layout)
    connection = door.connect(*pragmas)
    assert rows(connection, "SELECT * FROM sqlite_schema") == []
    connection.execute(SCHEMA)
    connection.execute(FILL)
    assert rows(connection) == [(100, 50_000)]
    assert is_sound(connection)


def ending_just_below(size_bytes, page_size=65_536):
    """A database whose header counts ``size_bytes`` in SQLite pages; only the first are there."""
    plain = apsw.Connection("")
    plain.execute(f"PRAGMA page_size = {page_size}; {SCHEMA}")
    head = bytearray(plain.serialize("main"))
    plain.close()
    head[28:32] = (size_bytes // page_size).to_bytes(4, "big")
    return bytes(head)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_lock_byte_page_at_1_gib_is_never_touched(opened, layout):
    """What lies below is a hole: SQLite goes by the count in the header."""
    door = opened(StableMemory(limits=None), layout=layout, page_size=65_536)
    with door.memory.message():
        assert door.vfs.store.placement.grow_to(GIB)
        door.vfs.store.write_direct(ending_just_below(GIB), 0)
    door.vfs.unregister()
    door.vfs = StableVFS(door.memory, layout=layout)
    connection = door.connect("journal_mode = off", "locking_mode = exclusive")
    for number in range(4):
        connection.execute("INSERT INTO t VALUES (?, zeroblob(200000))", (number,))
    assert door.vfs.store.size_bytes > GIB
    assert rows(connection, "SELECT id, length(x) FROM t") == [(i, 200_000) for i in range(4)]
    lock_byte_number = GIB // 65_536 + 1
    numbers = {number for (number,) in rows(connection, "SELECT pageno FROM dbstat")}
    assert numbers - {1, 2} == {*range(lock_byte_number + 1, max(numbers) + 1)}
    assert len(numbers) > 12
    connection.close()
    # Nobody has written there, and a scan of everything does not read there.
    address = door.vfs.store.placement.map.address(GIB)
    assert door.memory.peek(address, 65_536) == bytes(65_536)
    again = door.connect("locking_mode = normal")
    with door.memory.message("query"):
        assert len(again.execute("SELECT * FROM t").fetchall()) == 4
        marks = door.memory.bytemap.states(
            range(address // OS_PAGE_BYTES - 1, address // OS_PAGE_BYTES + 17)
        )
        # The OS page behind it was read, those in it and the hole before it were not.
        assert marks == bytes(17) + b"\x02"


# -- messages -------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("locking", ["normal", "exclusive"])
def test_each_sql_transaction_is_an_implicit_message(opened, layout, locking):
    door = opened(layout=layout)
    connection = door.connect(f"locking_mode = {locking}", "cache_size = 3")
    connection.execute(SCHEMA)
    assert door.memory.kind is None
    before = committed(door.memory)
    connection.execute("BEGIN")
    connection.execute(FILL)
    assert door.memory.kind == "update"
    assert committed(door.memory) == before
    connection.execute("COMMIT")
    assert door.memory.kind is None
    assert committed(door.memory) != before
    again = opened(StableMemory.from_image(door.memory.image()), layout=layout)
    assert rows(again.connect()) == [(100, 50_000)]


def test_opening_a_connection_leaves_no_message_open(opened):
    door = opened()
    door.connect().execute(SCHEMA)
    connection = door.connect()
    assert door.memory.kind is None
    with door.memory.message("update"):
        connection.execute("INSERT INTO t VALUES (1, 'x')")
    assert rows(connection, "SELECT * FROM t") == [(1, "x")]


def test_a_read_is_a_message_of_its_own_and_changes_nothing(opened):
    door = opened()
    connection = door.connect()
    connection.execute(SCHEMA)
    connection.execute(FILL)
    before = door.memory.image()
    cursor = connection.execute("SELECT * FROM t")
    next(cursor)
    assert door.memory.kind == "update"
    assert door.memory.bytemap.accessed
    cursor.close()
    assert door.memory.kind is None
    assert door.memory.bytemap.accessed == []
    assert door.memory.image() == before


@pytest.mark.parametrize("journal", ["delete", "truncate", "persist", "memory"])
def test_an_sql_rollback_leaves_the_database_as_it_was(opened, journal):
    door = opened(bucket_pages=1)
    connection = door.connect(f"journal_mode = {journal}", "cache_size = 3")
    connection.execute(SCHEMA)
    connection.execute(FILL)
    before = connection.serialize("main")
    connection.execute("BEGIN; UPDATE t SET x = x || 'spilled'; INSERT INTO t (x) SELECT x FROM t")
    assert len(door.memory.bytemap.dirty) > 10
    connection.execute("ROLLBACK")
    assert connection.serialize("main") == before
    assert door.memory.kind is None
    assert is_sound(connection)


@pytest.mark.parametrize("journal", JOURNALS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_several_transactions_in_a_message_of_the_owner_stand_or_fall_together(
    opened, layout, journal
):
    door = opened(layout=layout)
    connection = door.connect(f"journal_mode = {journal}")
    connection.execute(SCHEMA)
    before = door.memory.image()

    def fail():
        with door.memory.message("update"):
            connection.execute("INSERT INTO t VALUES (1, 'x')")
            connection.execute("CREATE TABLE other (x)")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert door.memory.image() == before
    assert rows(connection, "SELECT * FROM t") == []
    with door.memory.message("query"):
        connection.execute("INSERT INTO t VALUES (2, 'in vain')")
        assert rows(connection, "SELECT * FROM t") == [(2, "in vain")]
    assert door.memory.image() == before
    assert rows(connection, "SELECT * FROM t") == []
    with door.memory.message("update"):
        connection.execute("INSERT INTO t VALUES (3, 'x')")
        connection.execute("INSERT INTO t VALUES (4, 'x')")
    assert rows(connection, "SELECT id FROM t") == [(3,), (4,)]
    assert is_sound(connection)


def test_a_change_counter_that_comes_twice_deceives_no_cache(opened):
    door = opened()
    one, other = door.connect(), door.connect()
    one.execute(SCHEMA)
    one.execute(FILL)
    # A rolled-back message and the next one leave the same change counter behind.
    with door.memory.message("query"):
        one.execute("UPDATE t SET x = 'rolled back' WHERE id = 50")
    other.execute("UPDATE t SET x = 'committed' WHERE id = 50")
    assert rows(one, "SELECT x FROM t WHERE id = 50") == [("committed",)]
    one.execute("UPDATE t SET x = x || '!' WHERE id = 51")
    assert rows(other, "SELECT x FROM t WHERE id = 50") == [("committed",)]


@pytest.mark.parametrize("spills", [False, True])
@pytest.mark.parametrize("journal", ["delete", "persist", "memory"])
@pytest.mark.parametrize("locking", ["normal", "exclusive"])
def test_a_transaction_whose_message_was_rolled_back_cannot_commit(
    opened, journal, locking, spills
):
    door = opened()
    setup = door.connect()
    setup.execute(SCHEMA)
    setup.execute(FILL)
    setup.close()
    connection = door.connect(
        f"locking_mode = {locking}", f"journal_mode = {journal}", f"cache_size = {3 + 997 * spills}"
    )
    # Under an exclusive lock only a commit tells that the reading before it is over.
    connection.execute("PRAGMA user_version = 1")
    before = door.memory.image()
    with door.memory.message("query"):
        connection.execute("UPDATE t SET x = 'first' WHERE id < 50")
        connection.execute("BEGIN; UPDATE t SET x = 'second' WHERE id > 30")
    assert door.memory.image() == before
    with pytest.raises(MessageError, match="rolled back under this SQL transaction"):
        connection.execute("COMMIT")
    assert door.memory.image() == before
    if locking == "normal":
        assert rows(connection) == [(100, 50_000)]
        connection.execute("UPDATE t SET x = 'goes on' WHERE id = 1")
    connection.close()
    assert rows(door.connect(), "SELECT count(*) FROM t WHERE x LIKE 'x%'") == [
        (99 if locking == "normal" else 100,)
    ]
    assert is_sound(door.connections[-1])


@pytest.mark.parametrize("journal", ["delete", "truncate", "persist", "memory"])
def test_a_journal_does_not_outlive_the_message_it_belongs_to(opened, journal):
    limits = replace(latest_limits(), stable_memory_wasm_pages_max=4)
    door = opened(StableMemory(limits=limits), layout="raw")
    connection = door.connect(f"journal_mode = {journal}", "cache_size = 3")
    connection.execute(SCHEMA)
    connection.execute(FILL)
    before = door.memory.image()
    with door.memory.message("query"):
        connection.execute("UPDATE t SET x = 'gone'")
        # Fails in the middle, which leaves a journal to be played back: of this message only.
        with pytest.raises(apsw.FullError, match="stable memory is full"):
            connection.execute(f"INSERT INTO t (x) SELECT hex(zeroblob(300)) FROM {series(999)}")
    assert door.memory.image() == before
    assert rows(door.connect()) == [(100, 50_000)]
    assert door.memory.image() == before
    assert rows(connection) == [(100, 50_000)]


# -- traps ----------------------------------------------------------------------------------------


def limited_memory():
    latest = latest_limits()
    update = replace(latest.update, os_pages_accessed_max=30, os_pages_dirty_max=20)
    return StableMemory(limits=replace(latest, update=update))


def limited(opened, *pragmas, **options):
    """A connection on 100 rows in 50 OS pages, of which a message may access 30 and dirty 20."""
    door = opened(limited_memory(), bucket_pages=1, **options)
    connection = door.connect(*pragmas)
    connection.execute(SCHEMA)
    for start in range(0, 100, 10):
        connection.execute(
            f"INSERT INTO t SELECT {start} + i, printf('%.*c', 1900, 'x') FROM {series(10)}"
        )
    connection.close()
    return door, door.connect(*pragmas)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("journal", JOURNALS)
@pytest.mark.parametrize("locking", ["normal", "exclusive"])
@pytest.mark.parametrize(
    "sql", ["SELECT sum(length(x)) FROM t", "UPDATE t SET x = 'y'", "DELETE FROM t; VACUUM"]
)
def test_a_limit_in_an_implicit_message_leaves_the_image_and_a_reopened_connection_is_sound(
    opened, layout, journal, locking, sql
):
    pragmas = (f"journal_mode = {journal}", f"locking_mode = {locking}")
    door, connection = limited(opened, *pragmas, layout=layout)
    before = committed(door.memory)
    with pytest.raises(LimitTrap, match="memory access limits"):
        connection.execute(sql).fetchall()
    connection.close(force=True)
    assert door.memory.kind is None
    assert door.memory.image() == before
    connection = door.connect(*pragmas)
    assert rows(connection, "SELECT count(*), min(x) FROM t WHERE id < 20") == [(19, "x" * 1900)]
    connection.execute("UPDATE t SET x = 'z' WHERE id = 5")
    connection.close()
    unlimited = opened(StableMemory.from_image(door.memory.image()), layout=layout).connect()
    assert rows(unlimited) == [(100, 99 * 1900 + 1)]
    assert is_sound(unlimited)


@pytest.mark.parametrize("journal", JOURNALS)
def test_under_normal_locking_a_connection_goes_on_after_a_trap(opened, journal):
    door, connection = limited(opened, f"journal_mode = {journal}")
    other = door.connect()
    for _ in range(3):
        before = door.memory.image()
        with pytest.raises(LimitTrap):
            connection.execute("UPDATE t SET x = 'y'")
        assert door.memory.kind is None
        assert door.memory.image() == before
        for one in (other, connection):
            assert rows(one, "SELECT count(*), min(x) FROM t WHERE id < 9") == [(8, "x" * 1900)]
        connection.execute("UPDATE t SET x = x WHERE id = 5")
        other.execute("UPDATE t SET x = x WHERE id = 6")


@pytest.mark.parametrize("locking", ["normal", "exclusive"])
def test_a_trapped_transaction_stays_trapped_even_if_the_exception_is_swallowed(opened, locking):
    door, connection = limited(opened, f"locking_mode = {locking}", "journal_mode = memory")
    before = committed(door.memory)
    connection.execute("BEGIN; UPDATE t SET x = 'before' WHERE id = 1")
    with pytest.raises(LimitTrap) as first:
        connection.execute("SELECT sum(length(x)) FROM t").fetchall()
    connection.execute("UPDATE t SET x = 'after' WHERE id = 2")
    with pytest.raises(LimitTrap) as second:
        connection.execute("COMMIT")
    assert second.value is first.value
    connection.close(force=True)
    assert door.memory.image() == before


# -- the VFS itself -------------------------------------------------------------------------------


def test_unregistering_leaves_no_name_and_no_watcher(opened):
    before = apsw.vfs_names()
    memory = StableMemory()
    for _ in range(50):
        vfs = StableVFS(memory)
        with closing(apsw.Connection("main.db", vfs=vfs.name)) as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS t (x)")
        vfs.unregister()
    assert apsw.vfs_names() == before
    assert memory.watchers == []


def test_a_connection_that_outlives_its_vfs_is_told_and_closes():
    memory = StableMemory()
    vfs = StableVFS(memory)
    connection = vfs.connect()
    connection.execute("CREATE TABLE t (x)")
    before = memory.image()
    vfs.unregister()
    for sql in ("SELECT * FROM t", "INSERT INTO t VALUES (1)"):
        with pytest.raises(apsw.IOError, match="the VFS is unregistered"):
            connection.execute(sql).fetchall()
    connection.close()
    assert memory.kind is None
    assert memory.image() == before


def test_each_vfs_has_a_name_of_its_own(opened):
    doors = [opened() for _ in range(4)]
    assert len({door.vfs.name for door in doors}) == 4
    for number, door in enumerate(doors):
        door.connect().execute(f"CREATE TABLE only_{number} (x)")
    for number, door in enumerate(doors):
        sql = "SELECT name FROM sqlite_schema"
        assert rows(door.connections[0], sql) == [(f"only_{number}",)]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"layout": "flat"}, SettingsError),
        ({"page_size": 1000}, SettingsError),
        ({"bucket_pages": 0}, SettingsError),
        ({"now": "soon"}, SettingsError),
        ({"layout": "raw"}, ImageError),
    ],
)
def test_a_vfs_that_cannot_be_made_leaves_nothing_behind(options, error):
    memory = StableMemory()
    MemoryManager(memory)
    names, image = apsw.vfs_names(), memory.image()
    with pytest.raises(error):
        StableVFS(memory, **options)
    assert (apsw.vfs_names(), memory.image(), memory.watchers) == (names, image, [])


def test_a_vfs_is_found_by_its_connection(opened):
    door = opened()
    assert vfs_of(door.connect()) is door.vfs
    with (
        closing(apsw.Connection(":memory:")) as plain,
        pytest.raises(SettingsError, match="not through a StableVFS"),
    ):
        vfs_of(plain)


def test_closing_frees_files_views_and_maps_without_a_garbage_collection():
    gc.collect()
    gc.disable()
    try:
        memory = StableMemory()
        vfs = StableVFS(memory)
        connection = apsw.Connection("main.db", vfs=vfs.name)
        connection.execute(SCHEMA)
        connection.execute(FILL)
        file = weakref.ref(vfs.store.files[0])
        maps = [weakref.ref(memory.backing._map), weakref.ref(memory.staging._map)]
        maps.append(weakref.ref(memory.bytemap.marks.obj))
        connection.close()
        assert file() is None
        vfs.unregister()
        memory.close()
        assert [one() for one in maps] == [None, None, None]
    finally:
        gc.enable()


def test_closing_a_canister_gives_all_memory_back_without_a_garbage_collection():
    gc.collect()
    gc.disable()
    try:
        canister = sqlstable.Canister()
        canister.update(SCHEMA)
        canister.update(FILL)
        canister.query("SELECT * FROM t")
        with pytest.raises(Trap), canister.message() as message:
            message.trap()
        canister.upgrade()
        canister.update("DELETE FROM t")
        memory = canister.memory
        maps = [weakref.ref(memory.backing._map), weakref.ref(memory.staging._map)]
        maps.append(weakref.ref(memory.bytemap.marks.obj))
        canister.close()
        assert [one() for one in maps] == [None, None, None]
    finally:
        gc.enable()


def test_time_is_pinned_by_now_and_else_that_of_the_system(opened):
    pinned = opened(now="2021-05-10 12:30:00").connect()
    assert rows(pinned, "SELECT datetime('now'), julianday('now')") == [
        ("2021-05-10 12:30:00", 2_459_345.0208333335)
    ]
    with closing(apsw.Connection(":memory:")) as plain:
        sql = "SELECT unixepoch('now')"
        here, there = rows(opened().connect(), sql), rows(plain, sql)
    assert abs(here[0][0] - there[0][0]) < 60


def test_an_observer_sees_the_database_and_never_writes(opened):
    door = opened()
    connection = door.connect()
    connection.execute(SCHEMA)
    with closing(door.vfs.observe()) as observer:
        for count in range(1, 4):
            connection.execute("INSERT INTO t (x) VALUES ('x')")
            assert rows(observer, "SELECT count(*) FROM t") == [(count,)]
            assert door.memory.kind is None
        for sql in ("DELETE FROM t", "CREATE TABLE other (x)", "PRAGMA user_version = 5"):
            with pytest.raises(apsw.ReadOnlyError):
                observer.execute(sql)
        # Not even a writer keeps it from looking.
        connection.execute("BEGIN EXCLUSIVE; DELETE FROM t")
        assert rows(observer, "SELECT count(*) FROM t") == [(3,)]
        connection.execute("COMMIT")
        assert rows(observer, "SELECT count(*) FROM t") == [(0,)]


def test_fts5_and_rtree_live_in_stable_memory_too(opened):
    door = opened(page_size=512)
    connection = door.connect("page_size = 512")
    connection.execute("CREATE VIRTUAL TABLE note USING fts5(body)")
    connection.execute("CREATE VIRTUAL TABLE box USING rtree(id, x0, x1)")
    connection.execute(
        f"INSERT INTO note SELECT 'word' || (i % 9) || ' and more' FROM {series(200)}"
    )
    connection.execute(f"INSERT INTO box SELECT i, i, i + 5 FROM {series(200)}")
    connection.close()
    again = opened(StableMemory.from_image(door.memory.image())).connect()
    assert rows(again, "SELECT count(*) FROM note WHERE note MATCH 'word3'") == [(22,)]
    assert rows(again, "SELECT count(*) FROM box WHERE x0 <= 50 AND x1 >= 50") == [(6,)]
    assert is_sound(again)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_connection_opened_for_reading_cannot_write(opened, layout):
    door = opened(layout=layout)
    connection = door.connect()
    connection.execute(SCHEMA)
    assert connection.readonly("main") is False
    uri = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_URI
    before = door.memory.image()
    for name, flags in (("main.db", apsw.SQLITE_OPEN_READONLY), ("file:main.db?mode=ro", uri)):
        with closing(apsw.Connection(name, flags=flags, vfs=door.vfs.name)) as reader:
            assert reader.readonly("main") is True
            assert rows(reader, "SELECT count(*) FROM t") == [(0,)]
            with pytest.raises(apsw.ReadOnlyError):
                reader.execute("INSERT INTO t VALUES (1, 'x')")
    assert door.memory.image() == before
    connection.execute("INSERT INTO t VALUES (1, 'x')")


@pytest.mark.parametrize("name", [".", "..", "/", "data/", "data/.."])
def test_the_name_of_a_folder_is_no_name_of_a_database(opened, name):
    door = opened()
    with pytest.raises(apsw.CantOpenError, match="can only be the name of a folder"):
        apsw.Connection(name, vfs=door.vfs.name)
    assert door.vfs.main_name == "main.db"
