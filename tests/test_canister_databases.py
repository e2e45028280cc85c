"""Databases into a canister and out of it, images, and what comes from elsewhere."""

import copy
import gzip
import os
import pickle
import shutil
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from sqlstable import (
    Canister,
    ImageError,
    MemoryManagerError,
    MessageError,
    SettingsError,
    SqlError,
    StableMemory,
    StableVFS,
)
from tests.canister_world import LAYOUTS, canister_fixture  # noqa: F401  a fixture
from tests.doors import series

VECTORS = Path(__file__).parent / "vectors"


# -- import ---------------------------------------------------------------------------------------


@pytest.fixture
def plain_path(tmp_path):
    """A plain database of 1024-byte SQLite pages."""
    path = tmp_path / "plain.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA page_size = 1024")
        connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, x)")
        connection.executemany("INSERT INTO t (x) VALUES (?)", [("x" * n,) for n in range(600)])
        connection.commit()
    return path


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_imported_database_has_the_rows_and_bytes_of_the_file(layout, plain_path, tmp_path):
    canister = Canister(layout=layout, bucket_pages=1)
    reply = canister.import_database(plain_path)
    assert reply.outcome == "committed"
    assert canister.settings.page_size == 1024
    assert canister.query("SELECT count(*), sum(length(x)) FROM t").rows == [(600, 179_700)]
    assert canister.extract_database(tmp_path / "copy.db") == plain_path.stat().st_size
    assert (tmp_path / "copy.db").read_bytes() == plain_path.read_bytes()
    canister.update("DELETE FROM t WHERE id % 2")
    canister.upgrade()
    assert canister.query("SELECT count(*) FROM t").rows == [(300,)]
    assert canister.query("PRAGMA integrity_check").rows == [("ok",)]
    canister.close()


@pytest.fixture
def wal_path(tmp_path):
    """A database with committed and uncommitted rows in its write-ahead log only."""
    origin = tmp_path / "origin"
    origin.mkdir()
    folder = tmp_path / "wal"
    folder.mkdir()
    writer = apsw.Connection(str(origin / "app.db"))
    writer.execute("PRAGMA journal_mode = wal; PRAGMA wal_autocheckpoint = 0").fetchall()
    writer.execute("CREATE TABLE t (x); INSERT INTO t VALUES ('committed')")
    writer.execute("PRAGMA cache_size = 2; BEGIN")
    writer.execute(f"INSERT INTO t SELECT 'uncommitted' || hex(zeroblob(900)) FROM {series(99)}")
    for path in origin.iterdir():
        if not path.name.endswith("-shm"):
            shutil.copy(path, folder)
    writer.close()
    return folder / "app.db"


def test_an_import_takes_in_what_is_committed_in_the_write_ahead_log(wal_path):
    log = wal_path.with_name("app.db-wal")
    assert log.stat().st_size > 90_000
    before = {path.name: path.read_bytes() for path in wal_path.parent.iterdir()}
    with Canister() as canister:
        canister.import_database(wal_path)
        assert canister.query("SELECT x FROM t").rows == [("committed",)]
        canister.update("INSERT INTO t VALUES ('more')")
        canister.upgrade()
        assert canister.query("PRAGMA integrity_check").rows == [("ok",)]
        assert canister.query("PRAGMA journal_mode").rows == [("memory",)]
    assert {path.name: path.read_bytes() for path in wal_path.parent.iterdir()} == before


def test_an_import_rolls_a_hot_journal_back_and_leaves_the_original_alone(tmp_path):
    origin, folder = tmp_path / "origin", tmp_path / "crashed"
    origin.mkdir()
    folder.mkdir()
    with closing(apsw.Connection(str(origin / "app.db"))) as writer:
        writer.execute("PRAGMA synchronous = full").fetchall()
        writer.execute("CREATE TABLE t (x); INSERT INTO t VALUES ('committed')")
        writer.execute("PRAGMA cache_size = 2; BEGIN")
        writer.execute(f"INSERT INTO t SELECT 'lost' || hex(zeroblob(900)) FROM {series(99)}")
        writer.execute("UPDATE t SET x = x || 'lost'")
        for path in origin.iterdir():
            shutil.copy(path, folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert set(before) == {"app.db", "app.db-journal"}
    assert len(before["app.db"]) > 90_000
    with Canister() as canister:
        canister.import_database(folder / "app.db")
        assert canister.query("SELECT x FROM t").rows == [("committed",)]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_an_import_reads_beside_a_process_that_has_the_file_open(tmp_path):
    path = tmp_path / "live.db"
    for mode in ("wal", "delete"):
        with closing(apsw.Connection(str(path))) as writer:
            writer.execute(
                f"PRAGMA journal_mode = {mode}; PRAGMA wal_autocheckpoint = 0"
            ).fetchall()
            writer.execute(f"CREATE TABLE {mode}_t (x); INSERT INTO {mode}_t VALUES ('{mode}')")
            writer.execute(f"BEGIN; INSERT INTO {mode}_t VALUES ('uncommitted')")
            with Canister() as canister:
                canister.import_database(path)
                assert canister.query(f"SELECT x FROM {mode}_t").rows == [(mode,)]


def damage(path, offset, data):
    content = bytearray(path.read_bytes())
    content[offset : offset + len(data)] = data
    path.write_bytes(content)


def cut(path, length):
    path.write_bytes(path.read_bytes()[:length])


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (lambda path: path.unlink(), "is not a file"),
        (lambda path: (path.unlink(), path.mkdir()), "is not a file"),
        (lambda path: path.write_bytes(b""), "is not a SQLite database: it begins with b''"),
        (lambda path: path.write_text("id,x\n" * 99), r"it begins with b'id,x\\n"),
        (lambda path: cut(path, 50), "is not a SQLite database"),
        (lambda path: cut(path, 5000), r"is truncated: its header states \d+ SQLite pages of 1024"),
        (lambda path: damage(path, 16, b"\x03\x00"), "SQLite pages of 768 bytes; it is damaged"),
        (lambda path: damage(path, 21, b"\x00"), "payload fractions are 002020; it is damaged"),
        (
            lambda path: damage(path, 3 * 1024, b"\xff" * 900),
            r"(is damaged|malformed|cannot be rea)",
        ),
        (lambda path: damage(path, 100, b"\xff" * 400), r"(is damaged|malformed|cannot be read)"),
    ],
)
def test_a_bad_file_is_refused_with_the_reason_and_nothing_changes(plain_path, spoil, text):
    spoil(plain_path)
    with Canister() as canister:
        before = canister.image()
        with pytest.raises(ImageError, match=text):
            canister.import_database(plain_path)
        assert canister.image() == before
        canister.update("CREATE TABLE own (x)")
        assert canister.query("SELECT * FROM own").rows == []


def test_an_import_into_a_canister_with_a_database_is_refused(canister, plain_path):
    before = canister.image()
    with pytest.raises(MessageError, match=r"has a database of \d+ bytes already; reinstall"):
        canister.import_database(plain_path)
    assert canister.image() == before
    canister.reinstall()
    canister.import_database(plain_path)
    assert canister.query("SELECT count(*) FROM t").rows == [(600,)]


# -- extract --------------------------------------------------------------------------------------


def test_an_extract_never_overwrites_unless_asked(canister, tmp_path):
    path = tmp_path / "out.db"
    path.write_text("precious")
    with pytest.raises(ImageError, match=r"out.db exists already; remove it, or ask to overwrite"):
        canister.extract_database(path)
    assert path.read_text() == "precious"
    canister.extract_database(path, overwrite=True)
    with closing(sqlite3.connect(path)) as plain:
        assert plain.execute("SELECT count(*) FROM t").fetchall() == [(300,)]
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.db"]


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("missing/out.db", "No such file or directory"),
        ("file/out.db", "Not a directory"),
        ("x" * 300 + "out.db", "File name too long"),
    ],
)
def test_an_extract_that_cannot_be_written_says_why(canister, tmp_path, path, reason):
    (tmp_path / "file").touch()
    with pytest.raises(ImageError, match=rf"out\.db cannot be written: {reason}"):
        canister.extract_database(tmp_path / path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_an_extract_into_an_unwritable_folder_says_so(canister, tmp_path):
    folder = tmp_path / "locked"
    folder.mkdir()
    folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
    if os.access(folder, os.W_OK):
        pytest.skip("this user may write everywhere")
    with pytest.raises(ImageError, match=r"out\.db cannot be written: Permission denied"):
        canister.extract_database(folder / "out.db")


def test_an_extract_without_a_database_says_so(tmp_path):
    with Canister() as canister, pytest.raises(ImageError, match="no database yet; create a table"):
        canister.extract_database(tmp_path / "out.db")
    assert [*tmp_path.iterdir()] == []


# -- images ---------------------------------------------------------------------------------------


def vector_image():
    data = (VECTORS / "memory_manager_sqlite_in_memory_120.bin.gz").read_bytes()
    return gzip.decompress(data)


def test_an_image_of_a_real_canister_is_queried_updated_and_extracted_in_place(tmp_path):
    image = vector_image()
    canister = Canister(memory=StableMemory.from_image(image))
    sql = "SELECT count(*), sum(id), max(name) FROM t"
    assert canister.query(sql).rows == [(3000, 4_498_500, "name-02999")]
    assert canister.settings.bucket_pages == 2
    assert canister.image() == image
    canister.update("DELETE FROM t WHERE id % 3 = 0")
    canister.update("INSERT INTO t SELECT id + 5000, name || ' copy', v FROM t")
    canister.upgrade()
    assert canister.query("SELECT count(*) FROM t").rows == [(4000,)]
    after = canister.image()
    # Buckets 1 and 3 belong to memory 3; what the database needs more comes behind them.
    assert len(after) > len(image)
    bucket_bytes = 2 * 65_536
    for bucket in (1, 3):
        start = 65_536 + bucket * bucket_bytes
        assert after[start : start + bucket_bytes] == image[start : start + bucket_bytes]
    assert set(after[2080 : 2080 + int.from_bytes(after[4:6], "little")]) == {3, 120}
    canister.extract_database(tmp_path / "plain.db")
    with closing(sqlite3.connect(tmp_path / "plain.db")) as plain:
        assert plain.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert plain.execute("SELECT count(*) FROM t").fetchall() == [(4000,)]
    canister.close()


def spoiled(offset, data, *, length=None):
    image = bytearray(vector_image())
    image[offset : offset + len(data)] = data
    return bytes(image[:length])


@pytest.mark.parametrize(
    ("image", "layout", "error", "text"),
    [
        (spoiled(0, b"", length=100_000), "managed", ImageError, "1 Wasm page; it is truncated"),
        (spoiled(0, b"", length=65_536 * 5), "managed", MemoryManagerError, "image is truncated"),
        (spoiled(3, b"\x02"), "managed", MemoryManagerError, "layout version 2"),
        (spoiled(6, b"\x00\x00"), "managed", MemoryManagerError, "buckets have 0 Wasm pages"),
        (spoiled(2081, b"\x78"), "managed", MemoryManagerError, "memory 3 has 3 Wasm pages"),
        (spoiled(0, b"\x00" * 3), "managed", ImageError, "no memory manager"),
        (spoiled(65_536, b"SQLOTE"), "managed", ImageError, "no SQLite database is there"),
        (spoiled(65_536 + 16, b"\x03\x00"), "managed", ImageError, "768 bytes; it is damaged"),
        (spoiled(65_536 + 21, b"\x41"), "managed", ImageError, "payload fractions"),
        (spoiled(65_536 + 28, b"\x00\x10"), "managed", ImageError, "the image is truncated"),
        (vector_image(), "raw", ImageError, "has layout managed, not raw; choose layout managed"),
        (
            vector_image()[65_536:],
            "managed",
            ImageError,
            "has layout raw, not managed; choose layout raw",
        ),
        (bytes(8) + b"SQLite format 3\x00" + bytes(65_512), "raw", ImageError, "froghub"),
        (b"ICSQLITE" + bytes(65_528), "raw", ImageError, "ic-sqlite-vfs"),
    ],
)
def test_a_spoiled_image_is_refused_with_the_reason(image, layout, error, text):
    with pytest.raises(error, match=text):
        Canister(memory=StableMemory.from_image(image), layout=layout)


def test_an_image_whose_rows_are_damaged_says_so_when_they_are_read(plain_path):
    image = bytearray(plain_path.read_bytes())
    image[3 * 1024 : 4 * 1024] = b"\xff" * 1024
    image += bytes(-len(image) % 65_536)
    with Canister(memory=StableMemory.from_image(image), layout="raw") as canister:
        with pytest.raises(SqlError, match="malformed"):
            canister.query("SELECT sum(length(x)) FROM t")
        with pytest.raises(SqlError, match="malformed"):
            canister.update("UPDATE t SET x = 1")
        assert canister.image() == image


@pytest.mark.parametrize("layout", ["managed", "raw"])
def test_an_image_in_wal_mode_is_refused_with_the_reason_and_the_way_out(plain_path, layout):
    with Canister(layout=layout) as canister:
        canister.import_database(plain_path)
        image = bytearray(canister.image())
    at = image.index(b"SQLite format 3\0") + 18
    assert image[at : at + 2] == b"\1\1"
    image[at : at + 2] = b"\2\2"
    with pytest.raises(ImageError, match=r"WAL mode.*import APP\.db IMAGE.*journal_mode = delete"):
        Canister(memory=StableMemory.from_image(bytes(image)), layout=layout)
    with pytest.raises(ImageError, match="WAL mode"):
        StableVFS(StableMemory.from_image(bytes(image)), layout=layout)


# -- what comes from elsewhere is opened defensively ----------------------------------------------


@pytest.fixture
def hostile_path(tmp_path):
    """A database whose schema calls a function that its opener may have."""
    path = tmp_path / "hostile.db"
    with closing(apsw.Connection(str(path))) as connection:
        connection.create_scalar_function("launch", lambda x: x, 1)
        connection.execute("CREATE TABLE t (x); INSERT INTO t VALUES (1)")
        connection.execute("CREATE VIEW v AS SELECT launch(x) FROM t")
        connection.execute("CREATE TRIGGER g AFTER INSERT ON t BEGIN SELECT launch(new.x); END")
    return path


def defensive_checks(canister, launched):
    canister.on_connect(lambda c: c.create_scalar_function("launch", launched.append, 1))
    for _ in range(2):
        with pytest.raises(SqlError, match=r"unsafe use of launch"):
            canister.query("SELECT * FROM v")
        with pytest.raises(SqlError, match=r"unsafe use of launch"):
            canister.update("INSERT INTO t VALUES (2)")
        with pytest.raises(SqlError, match="may not be modified"):
            canister.update("PRAGMA writable_schema = on; DELETE FROM sqlite_schema")
        canister.query("SELECT launch(5)")
        canister.upgrade()
    assert launched == [5, 5]


def test_an_imported_schema_is_not_trusted(hostile_path):
    with Canister() as canister:
        canister.import_database(hostile_path)
        defensive_checks(canister, [])


def test_the_schema_of_an_image_is_not_trusted(hostile_path):
    image = hostile_path.read_bytes()
    image += bytes(-len(image) % 65_536)
    with Canister(memory=StableMemory.from_image(image), layout="raw") as canister:
        defensive_checks(canister, [])


def test_a_schema_of_ones_own_is_trusted(hostile_path):
    with Canister() as canister:
        canister.import_database(hostile_path)
        canister.reinstall()
        launched = []
        canister.on_connect(lambda c: c.create_scalar_function("launch", launched.append, 1))
        canister.update("CREATE TABLE t (x); CREATE VIEW v AS SELECT launch(x) FROM t")
        canister.update("INSERT INTO t VALUES (7)")
        canister.query("SELECT * FROM v")
        assert launched == [7]


@pytest.mark.parametrize("journal_mode", ["memory", "off"])
def test_journal_mode_is_as_set_for_what_comes_from_elsewhere_too(hostile_path, journal_mode):
    with Canister(journal_mode=journal_mode) as canister:
        canister.import_database(hostile_path)
        assert canister.update("PRAGMA journal_mode").rows == [(journal_mode,)]
        assert canister.query("PRAGMA journal_mode").rows == [(journal_mode,)]


def test_settings_of_a_canister_hold_on_both_connections():
    expected = {
        "page_size": 8192,
        "cache_size": 77,
        "journal_mode": "off",
        "synchronous": 0,
        "temp_store": 2,
    }
    with Canister(page_size=8192, cache_size=77, journal_mode="off") as canister:
        canister.update("CREATE TABLE t (x)")
        for name, value in expected.items():
            for cache in ("fresh", "cold", "warm"):
                assert canister.query(f"PRAGMA {name}", cache=cache).rows == [(value,)]
        assert canister.update("PRAGMA locking_mode").rows == [("exclusive",)]


def test_an_unknown_setting_of_the_canister_changes_no_memory_passed_in():
    memory = StableMemory()
    for options in ({"page_size": 5}, {"now": "never"}, {"depth": "deep"}, {"layout": "round"}):
        with pytest.raises(SettingsError):
            Canister(memory=memory, **options)
    assert (memory.size(), memory.watchers, memory.log) == (0, [], None)


@pytest.mark.parametrize("engine", ["native", "wasm"])
def test_a_canister_shows_where_it_is_and_how_far_it_has_come(tmp_path, engine):
    path = tmp_path / "ledger.stable"
    canister = Canister(path, engine=engine)
    assert repr(canister) == f"<Canister {path}: {engine} engine, open, 1 message>"
    canister.update("CREATE TABLE t (x)")
    assert repr(canister) == f"<Canister {path}: {engine} engine, open, 2 messages>"
    canister.close()
    assert repr(canister) == f"<Canister {path}: {engine} engine, closed, 2 messages>"
    with Canister(engine=engine) as canister:
        assert repr(canister) == f"<Canister in memory: {engine} engine, open, 1 message>"
        with canister.message() as message:
            message.execute("SELECT 1")
            assert repr(canister) == f"<Canister in memory: {engine} engine, open, 1 message>"


@pytest.mark.parametrize("engine", ["native", "wasm"])
@pytest.mark.parametrize("copied", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_canister_stays_in_its_process(engine, copied):
    with Canister(engine=engine) as canister:
        with pytest.raises(MessageError, match="stays in its process; open its image there, once"):
            copied(canister)
        assert canister.query("SELECT 1").rows == [(1,)]
    with pytest.raises(MessageError, match="stays in its process"):
        copied(canister)
