"""Many files in one stable memory: attached databases, the directory that names them, growth."""

import gzip
import os
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from sqlstable import (
    Canister,
    ImageError,
    MemoryManager,
    SettingsError,
    StableMemory,
    StableVFS,
)
from sqlstable.layout import directory
from sqlstable.testing import list_accesses
from tests.doors import SCHEMA, Door, is_sound, opened_fixture, rows, series  # noqa: F401  a fixture
from tests.two_files import FILL, JOURNALS, two_databases

GOLDEN = Path(__file__).parent / "golden"
BUCKET_BYTES = 128 * 65_536


# -- attached databases ---------------------------------------------------------------------------


@pytest.mark.parametrize("journal", ["memory", "off", *JOURNALS])
@pytest.mark.parametrize("page_size", [512, 4096, 65_536])
@pytest.mark.parametrize("growth", ["bucket", "wasm-page"])
def test_an_attached_database_is_kept_under_its_name(opened, journal, page_size, growth):
    world = opened(bucket_pages=1, growth=growth)
    two_databases(world, f"page_size = {page_size}", f"journal_mode = {journal}")
    world.reopen()
    connection = world.connect()
    connection.execute("ATTACH 'other.db' AS other")
    assert rows(connection, "SELECT count(*), sum(length(x)) FROM other.o") == [(100, 50_000)]
    assert rows(connection, "PRAGMA other.page_size") == [(page_size,)]
    connection.execute("UPDATE o SET x = x || 'y' WHERE id > 50; DELETE FROM t WHERE id > 10")
    assert is_sound(connection)
    # The other one is a main database for whoever opens it by its name.
    connection.close()
    alone = world.connect(name="other.db")
    assert rows(alone, "SELECT sum(length(x)) FROM o") == [(50_050,)]
    assert rows(world.connect(), "SELECT count(*) FROM t") == [(10,)]


def test_files_lie_in_memories_from_122_on_and_the_main_name_is_kept(opened):
    world = opened()
    first = world.connect(name="app.db")
    first.execute(SCHEMA)
    assert [info.name for info in world.vfs.stable_files()] == [
        "app.db",
        "(file directory)",
        "app.db-journal",
    ]
    first.close()
    world.reopen()
    assert world.vfs.main_name == "app.db"
    # Another name is another database now, whoever is opened first.
    second = world.connect("journal_mode = memory", name="other.db")
    second.execute("CREATE TABLE o (x)")
    assert rows(world.connect(name="app.db"), "SELECT * FROM t") == []
    assert {info.name: info.memory_id for info in world.vfs.stable_files()} == {
        "app.db": 120,
        "(file directory)": 121,
        "app.db-journal": 122,
        "other.db": 123,
    }


def test_without_a_directory_any_first_name_is_that_of_the_main_database(opened):
    world = opened()
    world.connect("journal_mode = memory", name="app.db").execute(SCHEMA)
    assert [info.memory_id for info in world.vfs.stable_files()] == [120]
    world.reopen()
    assert rows(world.connect(name="main.db"), "SELECT * FROM t") == []


def test_ids_that_hold_something_already_are_skipped(opened):
    memory = StableMemory()
    manager = MemoryManager(memory, bucket_wasm_pages=1)
    for memory_id in (101, 122, 124):
        manager.get(memory_id).grow(1)
        manager.get(memory_id).write(0, b"mine")
    world = opened(memory, bucket_pages=1)
    two_databases(world, "journal_mode = persist")
    ids = {info.memory_id: info.name for info in world.vfs.stable_files()}
    assert ids == {
        120: "main.db",
        121: "(file directory)",
        123: "main.db-journal",
        125: "other.db-journal",
        126: "other.db",
        101: "(memory 101)",
        122: "(memory 122)",
        124: "(memory 124)",
    }
    manager = MemoryManager(StableMemory.from_image(memory.image()))
    assert [manager.get(memory_id).read(0, 4) for memory_id in (101, 122, 124)] == [b"mine"] * 3


def test_a_database_that_was_only_attached_takes_no_place(opened):
    world = opened()
    connection = world.connect("journal_mode = memory")
    connection.execute(SCHEMA)
    before = world.memory.image()
    connection.execute("ATTACH 'other.db' AS other")
    assert rows(connection, "SELECT * FROM other.sqlite_schema") == []
    connection.execute("DETACH other")
    assert world.memory.image() == before
    assert world.kinds == {"main.db": "database"}
    flags = apsw.SQLITE_OPEN_READWRITE
    with pytest.raises(apsw.CantOpenError, match=r"holds no database 'other\.db'"):
        apsw.Connection("other.db", flags=flags, vfs=world.vfs.name)


def test_vacuum_into_makes_a_database_in_stable_memory(opened):
    world = opened()
    connection = world.connect()
    connection.execute(SCHEMA)
    connection.execute(FILL.format("t"))
    connection.execute("VACUUM INTO 'copy.db'")
    assert rows(world.connect(name="copy.db"), "SELECT sum(length(x)) FROM t") == [(50_000,)]
    with pytest.raises(apsw.SQLError, match="output file already exists"):
        connection.execute("VACUUM INTO 'copy.db'")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("n" * 241, "has 241 bytes; .* it can have 1 to 240"),
        ("ü" * 121, "has 242 bytes"),
        ("main.db-journal", "is what SQLite calls a file beside a database"),
        ("other.db-wal", "does not end in -journal or -wal"),
    ],
)
def test_a_name_that_cannot_be_is_refused_and_changes_nothing(opened, name, text):
    world = opened()
    connection = world.connect("journal_mode = persist")
    connection.execute(SCHEMA)
    before = world.memory.image()
    with pytest.raises(apsw.CantOpenError, match=text):
        connection.execute(f"ATTACH '{name}' AS other; CREATE TABLE other.o (x)")
    assert world.memory.image() == before


def test_a_main_database_with_a_long_name_is_alone(opened):
    world = opened(bucket_pages=1)
    connection = world.connect("journal_mode = memory", name="n" * 300)
    connection.execute(SCHEMA)
    before = world.memory.image()
    with pytest.raises(apsw.CantOpenError, match="has 300 bytes"):
        connection.execute("ATTACH 'other.db' AS other")
    connection.execute("PRAGMA journal_mode = persist").fetchall()
    with pytest.raises(apsw.CantOpenError, match="has 300 bytes"):
        connection.execute("INSERT INTO t VALUES (1, 'x')")
    assert world.memory.image() == before
    connection.execute("PRAGMA journal_mode = memory").fetchall()
    connection.execute("INSERT INTO t VALUES (1, 'x')")


def test_a_full_directory_and_a_full_memory_are_full_errors(opened):
    world = opened(bucket_pages=1)
    connection = world.connect("journal_mode = memory")
    connection.execute(SCHEMA)
    for number in range(133):
        connection.execute(f"ATTACH 'f{number}.db' AS f")
        connection.execute("PRAGMA f.journal_mode = memory").fetchall()
        connection.execute("CREATE TABLE f.t (x); DETACH f")
    assert len(world.vfs.stable_files()) == 135
    before = world.memory.image()
    connection.execute("ATTACH 'one more.db' AS f; PRAGMA f.journal_mode = memory")
    with pytest.raises(apsw.FullError, match="stable memory is full: the database needs"):
        connection.execute("CREATE TABLE f.t (x)")
    connection.close()
    assert world.memory.image() == before
    world.reopen()
    assert rows(world.connect(name="f132.db"), "SELECT name FROM sqlite_schema") == [("t",)]


# -- the directory --------------------------------------------------------------------------------


def golden_image():
    """An attached database and a journal, always the same bytes."""
    memory = StableMemory()
    vfs = StableVFS(memory, bucket_pages=1, now="2026-01-01 00:00:00")
    connection = vfs.connect()
    for sql in (
        "PRAGMA journal_mode = persist",
        "PRAGMA synchronous = off",
        "CREATE TABLE t (x)",
        "ATTACH 'orders.db' AS orders",
        "PRAGMA orders.journal_mode = memory",
        "CREATE TABLE orders.o (x)",
        "INSERT INTO o VALUES ('bought')",
        "INSERT INTO t VALUES ('kept')",
    ):
        connection.execute(sql).fetchall()
    connection.close()
    vfs.unregister()
    # A journal's checksums begin with a random number.
    manager = MemoryManager(memory)
    memory.write(manager.bucket_address(manager.buckets(122)[0]), bytes(65_536))
    return memory.image()


def test_the_layout_of_an_image_with_further_files_stays_as_it_is(opened):
    path = GOLDEN / "files_image.bin.gz"
    image = bytearray(golden_image())
    # What depends on SQLite's version: it writes its own number into each database.
    at = -1
    while (at := image.find(b"SQLite format 3\0", at + 1)) >= 0:
        image[at + 96 : at + 100] = bytes(4)
    if os.environ.get("SQLSTABLE_UPDATE_GOLDEN") == "1":
        path.write_bytes(gzip.compress(bytes(image), mtime=0))
    assert bytes(image) == gzip.decompress(path.read_bytes())
    world = opened(StableMemory.from_image(gzip.decompress(path.read_bytes())))
    assert world.kinds == {
        "main.db": "database",
        "(file directory)": "file directory",
        "main.db-journal": "journal",
        "orders.db": "database",
    }
    connection = world.connect()
    connection.execute("ATTACH 'orders.db' AS orders")
    assert rows(connection, "SELECT t.x, o.x FROM t, o") == [("kept", "bought")]


def directory_address(memory):
    manager = MemoryManager(memory)
    return manager.bucket_address(manager.buckets(121)[0])


@pytest.mark.parametrize(
    ("offset", "data", "text"),
    [
        (8, b"\x02", "has version 2, and this sqlstable knows version 1; use a newer one"),
        (256, b"\x7a", "entry 0 .* virtual memory 122 cannot hold its file"),
        (512, b"\x78", "entry 1 .* virtual memory 120 cannot hold its file"),
        (512, b"\x65", "entry 1 .* virtual memory 101 cannot hold its file"),
        (512, b"\xff", "entry 1 .* virtual memory 255 cannot hold its file"),
        (513, b"\x00", "entry 1 .* a file of kind 0 cannot be"),
        (513, b"\x04", "entry 1 .* a file of kind 4 cannot be"),
        (514, b"\x00\x00", "entry 1 .* its name does not have 0 bytes"),
        (514, b"\x01\x00", "entry 1 .* its name does not have 1 bytes"),
        (514, b"\xff\xff", "entry 1 .* its name does not have 65535 bytes"),
        (521, b"\x00", "entry 1 .* its name does not have 15 bytes"),
        (520, b"\xff", "is no UTF-8"),
        (768, None, "entry 2 .* is there twice"),
        (256, bytes(1), "entry 0 .* no entry names virtual memory 120"),
    ],
)
def test_a_damaged_directory_is_refused_with_the_reason(offset, data, text):
    memory = StableMemory.from_image(golden_image())
    address = directory_address(memory)
    memory.write(address + offset, memory.read(address + 512, 256) if data is None else data)
    names, image = apsw.vfs_names(), memory.image()
    with pytest.raises(ImageError, match=text):
        StableVFS(memory)
    assert (apsw.vfs_names(), memory.image(), memory.watchers) == (names, image, [])


def test_a_memory_121_of_somebody_else_leaves_the_main_database_usable(opened):
    memory = StableMemory()
    manager = MemoryManager(memory, bucket_wasm_pages=1)
    manager.get(121).grow(1)
    manager.get(121).write(0, b"BTR of somebody")
    world = opened(memory)
    connection = world.connect("journal_mode = memory")
    connection.execute(SCHEMA)
    connection.execute(FILL.format("t"))
    assert is_sound(connection)
    before = memory.image()
    with pytest.raises(ImageError, match=r"begins with b'BTR of somebody.*main database only"):
        connection.execute("ATTACH 'other.db' AS other")
    connection.execute("PRAGMA journal_mode = persist")
    with pytest.raises(ImageError, match="belongs to something else"):
        connection.execute("DELETE FROM t")
    assert memory.image() == before
    assert world.kinds == {"main.db": "database", "(memory 121)": "other memory"}


def test_looking_gives_no_name_to_the_main_database(opened):
    world = opened()
    with closing(world.vfs.observe()) as observer:
        assert rows(observer, "SELECT * FROM sqlite_schema") == []
    with pytest.raises(apsw.CantOpenError):
        world.vfs.observe("other.db")
    world.connect("journal_mode = memory", name="app.db").execute(SCHEMA)
    assert world.vfs.main_name == "app.db"
    with closing(world.vfs.observe()) as observer:
        assert rows(observer, "SELECT count(*) FROM sqlite_schema") == [(1,)]


def test_the_directory_decodes_what_it_encodes():
    memory = StableMemory()
    manager = MemoryManager(memory, bucket_wasm_pages=1)
    book = directory.Directory(memory, manager)
    names = [f"ü{'n' * number}.db" for number in (0, 1, 200, 240)]
    for number, name in enumerate(names):
        entry = directory.Entry(122 + number, directory.KINDS[1 + number % 3], name)
        assert book.add(entry, main_name="main.db", before_write=lambda: None)
    again = directory.Directory(memory, manager)
    assert again.entries == book.entries
    assert list(again.entries) == ["main.db", *names]
    assert again.free_id() == 126


# -- growth ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("bucket_pages", [1, 2, 128])
@pytest.mark.parametrize("growth", ["bucket", "wasm-page"])
def test_a_file_grows_by_its_policy(opened, growth, bucket_pages):
    world = opened(bucket_pages=bucket_pages, growth=growth)
    connection = two_databases(world, "journal_mode = persist")
    connection.execute(f"INSERT INTO t (x) SELECT hex(zeroblob(900)) FROM {series(200)}")
    for info in world.vfs.stable_files():
        bucket_bytes = bucket_pages * 65_536
        assert info.allocated_bytes == len(info.bucket_addresses) * bucket_bytes
        assert info.used_bytes <= info.size_bytes <= info.allocated_bytes
        if info.kind == "file directory":
            assert (info.size_bytes, info.used_bytes) == (65_536, 256 * 5)
        elif growth == "bucket":
            assert info.size_bytes == info.allocated_bytes
        else:
            assert info.size_bytes - info.used_bytes < 65_536 or info.kind == "journal"


def test_growth_by_wasm_pages_rewrites_the_managers_header_each_time():
    def grows(growth):
        with Canister(growth=growth, journal_mode="memory") as canister:
            canister.update(SCHEMA)
            return list_accesses(canister, lambda: canister.update(FILL.format("t"))).count("grow")

    # 100 rows of 500 bytes fill 14 SQLite pages behind the first one's Wasm page.
    assert (grows("bucket"), grows("wasm-page")) == (0, 0)

    def grows_far(growth):
        with Canister(growth=growth, journal_mode="memory") as canister:
            canister.update(SCHEMA)
            sql = f"INSERT INTO t SELECT i, printf('%.*c', 2000, 'x') FROM {series(200)}"
            return list_accesses(canister, lambda: canister.update(sql)).count("grow")

    assert (grows_far("bucket"), grows_far("wasm-page")) == (0, 6)


def test_the_presets_have_growth_policies():
    with Canister(preset="ic-rusqlite", bucket_pages=1) as canister:
        assert canister.settings.growth == "wasm-page"
        assert canister.settings.journal_mode == "persist"
        canister.update(SCHEMA)
        canister.update(FILL.format("t"))
        assert canister.query("SELECT count(*) FROM t").rows == [(100,)]
        names = [info.name for info in canister.vfs.stable_files()]
        assert names == ["main.db", "(file directory)", "main.db-journal"]
    with Canister(layout="raw") as canister:
        assert canister.status().settings["growth"] is None
        assert canister.vfs.growth is None
    with pytest.raises(SettingsError, match="or layout managed"):
        Canister(preset="ic-rusqlite", layout="raw")


def test_stable_files_lists_everything_and_records_nothing(opened):
    world = opened()
    connection = two_databases(world, "journal_mode = persist")
    MemoryManager(world.memory).get(7).grow(3)
    world.connections.clear()
    connection.close()
    world.reopen()
    world.memory.log = world.vfs.store.new_log()
    infos = world.vfs.stable_files()
    assert world.memory.log.position() == 0
    world.memory.log = None
    listed = [(info.name, info.kind, info.memory_id, info.size_bytes) for info in infos]
    assert listed == [
        ("main.db", "database", 120, BUCKET_BYTES),
        ("(memory 7)", "other memory", 7, 3 * 65_536),
        ("(file directory)", "file directory", 121, 65_536),
        ("main.db-journal", "journal", 122, BUCKET_BYTES),
        ("other.db-journal", "journal", 123, BUCKET_BYTES),
        ("other.db", "database", 124, BUCKET_BYTES),
    ]
    assert sum(info.allocated_bytes for info in infos) + 65_536 == world.memory.wasm_pages * 65_536
    other = world.connect(name="other.db")
    used = {info.name: info.used_bytes for info in infos}
    assert used["other.db"] == len(other.serialize("main"))
    assert (used["main.db-journal"], used["(memory 7)"]) == (0, 3 * 65_536)
    with closing(Door(layout="raw")) as raw:
        raw.connect().execute(SCHEMA)
        (info,) = raw.vfs.stable_files()
        assert (info.memory_id, info.allocated_bytes, info.used_bytes) == (None, 65_536, 8192)


# -- image files ----------------------------------------------------------------------------------


@pytest.mark.parametrize("journal", ["memory", "delete"])
@pytest.mark.parametrize("layout", ["managed", "raw"])
def test_connections_on_an_image_file_make_messages_of_their_own(opened, tmp_path, layout, journal):
    path = tmp_path / "app.stable"
    world = opened(StableMemory.open(path), layout=layout, bucket_pages=1)
    connection = world.connect(f"journal_mode = {journal}")
    connection.execute(SCHEMA)
    if layout == "managed":
        connection.execute("ATTACH 'other.db' AS other; CREATE TABLE other.o (x)")
    for number in range(4):
        connection.execute("BEGIN; INSERT INTO t (x) VALUES ('x')")
        if layout == "managed":
            connection.execute("INSERT INTO o VALUES ('x')")
        connection.execute("COMMIT")
        # What is in the file and its log is all that a killed process leaves behind.
        copies = tmp_path / f"copy {number}"
        copies.mkdir()
        for file in tmp_path.glob("app.stable*"):
            (copies / file.name).write_bytes(file.read_bytes())
        with closing(Door(StableMemory.open(copies / "app.stable"), layout=layout)) as copy:
            found = copy.connect()
            assert rows(found, "SELECT count(*) FROM t") == [(number + 1,)]
            if layout == "managed":
                found.execute("ATTACH 'other.db' AS other")
                assert rows(found, "SELECT count(*) FROM o") == [(number + 1,)]
            assert is_sound(found)


@pytest.mark.parametrize("layout", ["managed", "raw"])
def test_a_read_only_image_file_can_be_read_and_not_written(opened, tmp_path, layout):
    path = tmp_path / "app.stable"
    with closing(Door(StableMemory.open(path), layout=layout, bucket_pages=1)) as world:
        connection = world.connect("journal_mode = memory")
        connection.execute(SCHEMA)
        connection.execute(FILL.format("t"))
    before = path.read_bytes()
    world = opened(StableMemory.open(path, is_read_only=True), layout=layout)
    connection = world.connect()
    assert rows(connection, "SELECT count(*), sum(length(x)) FROM t") == [(100, 50_000)]
    for sql in ("DELETE FROM t", "CREATE TABLE o (x)", "VACUUM", "PRAGMA user_version = 1"):
        with pytest.raises(apsw.ReadOnlyError):
            connection.execute(sql)
    assert rows(connection, "SELECT count(*) FROM t") == [(100,)]
    assert world.memory.kind is None
    world.close()
    world.connections.clear()
    assert path.read_bytes() == before


def test_an_observer_sees_each_database_and_is_not_seen(opened):
    world = opened(bucket_pages=1)
    connection = two_databases(world, "journal_mode = persist")
    memory = world.memory
    memory.log = world.vfs.store.new_log()
    world.vfs.store.rebind()
    before = memory.image()
    for name, table in ((None, "t"), ("main.db", "t"), ("other.db", "o")):
        with closing(world.vfs.observe(name)) as observer:
            assert rows(observer, f"SELECT count(*) FROM {table}") == [(100,)]
            assert rows(observer, "SELECT count(*) FROM dbstat")[0][0] > 10
            with pytest.raises(apsw.ReadOnlyError):
                observer.execute(f"DELETE FROM {table}")
    with pytest.raises(apsw.CantOpenError, match=r"holds no database 'third\.db'"):
        world.vfs.observe("third.db")
    assert memory.log.position() == 0
    assert memory.kind is None
    assert memory.image() == before
    memory.log = None
    world.vfs.store.rebind()
    assert is_sound(connection)


def test_a_damaged_attached_database_does_not_stop_the_main_one(tmp_path):
    path = tmp_path / "app.stable"
    with Canister(path, journal_mode="delete") as canister:
        canister.update(SCHEMA)
        with canister.message("update") as message:
            message.execute("ATTACH 'other.db' AS other")
            message.execute("CREATE TABLE other.o (x)")
    image = path.read_bytes()
    # The bucket of the file that was made last is the last one.
    start = image.rindex(b"SQLite format 3\0")
    path.write_bytes(image[:start] + b"no database here" + image[start + 16 :])
    with StableMemory.open(path) as memory:
        vfs = StableVFS(memory)
        found = {file.name: file.kind for file in vfs.stable_files()}
        vfs.unregister()
    assert found["other.db"] == "database"
    assert found["other.db-journal"] == "journal"
    with Canister(path, journal_mode="delete") as canister:
        canister.update("INSERT INTO t VALUES (1, 'x')")
        assert canister.query("SELECT x FROM t").rows == [("x",)]
        with canister.message("update") as message, pytest.raises(ImageError, match="no SQLite"):
            message.execute("ATTACH 'other.db' AS other")
