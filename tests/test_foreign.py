"""Databases from elsewhere: each kind comes out as it went in, and leaves nothing behind."""

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import apsw
import pytest

import sqlstable
from sqlstable import Canister
from sqlstable.database import checking, foreign
from sqlstable.database.foreign import SourceOptions, open_source
from tests.foreign_databases import make, table_rows
from tests.images import files_in
from tests.test_cli import call

LAYOUTS = ("managed", "raw")
ENGINES = ("native", "wasm")
PAGE_SIZES = (512, 1024, 2048, 4096, 8192, 16_384, 32_768, 65_536)

FREED = "DELETE FROM account WHERE id > 200"

KINDS = {
    **{f"{size} byte pages": {"before": f"PRAGMA page_size = {size}"} for size in PAGE_SIZES},
    "reserved bytes": {"reserved": 24},
    "UTF-16le": {"before": "PRAGMA encoding = 'UTF-16le'"},
    "UTF-16be": {"before": "PRAGMA encoding = 'UTF-16be'"},
    "auto_vacuum": {"before": "PRAGMA auto_vacuum = full", "after": FREED},
    "incremental vacuum": {"before": "PRAGMA auto_vacuum = incremental", "after": FREED},
    "a freelist": {"after": FREED},
    "secure_delete": {"before": "PRAGMA secure_delete = on", "after": FREED},
    "WITHOUT ROWID": {"after": "CREATE TABLE w (k PRIMARY KEY, v) WITHOUT ROWID"},
    "FTS5 and R-tree": {
        "after": "CREATE VIRTUAL TABLE f USING fts5 (x); INSERT INTO f VALUES ('a word');"
        "CREATE VIRTUAL TABLE r USING rtree (id, low, high); INSERT INTO r VALUES (1, 2, 3)"
    },
    "triggers, views and generated columns": {
        "after": "CREATE TABLE g (x, y AS (x * 2)); INSERT INTO g VALUES (4);"
        "CREATE VIEW v AS SELECT y FROM g; CREATE TRIGGER t AFTER INSERT ON g BEGIN SELECT 1; END"
    },
    "no table": {"rows": "PRAGMA user_version = 7"},
    "no page count": {"version": {28: 0}},
    "another page count": {"version": {28: 3, 92: 1}},
    "a freelist and no page count": {"after": FREED, "version": {28: 0}},
    "a log, all of it taken in": {"before": "PRAGMA journal_mode = wal"},
    "a persistent journal": {"before": "PRAGMA journal_mode = persist"},
}

SLOW = {f"{size} byte pages" for size in set(PAGE_SIZES) - {512, 4096, 65_536}}


@pytest.fixture(
    params=[pytest.param(it, marks=[pytest.mark.slow] if it in SLOW else []) for it in KINDS]
)
def database(request, tmp_path):
    folder = tmp_path / "origin"
    folder.mkdir()
    make(folder / "app.db", **KINDS[request.param])
    return folder / "app.db"


def expected_bytes(path):
    """What the database is alone, in rollback mode, and with its size in the header."""
    content = bytearray(path.read_bytes())
    page_size = int.from_bytes(content[16:18], "big")
    page_size = 65_536 if page_size == 1 else page_size
    content[18:20] = b"\x01\x01"
    content[28:32] = (len(content) // page_size).to_bytes(4, "big")
    content[92:96] = content[24:28]
    return bytes(content)


# -- kinds


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_kind_of_database_comes_out_of_an_image_as_it_went_in(database, tmp_path, layout):
    image, out = tmp_path / "app.stable", tmp_path / "out.db"
    before = files_in(database.parent)
    result = call("import", database, image, "--layout", layout)
    assert (result.exit_code, result.stderr) == (0, "")
    result = call("extract", image, out, "--integrity-check")
    assert (result.exit_code, result.stderr) == (0, "")
    assert out.read_bytes() == expected_bytes(database)
    assert table_rows(out)[2] == [("ok",)]
    assert files_in(database.parent) == before
    assert {path.name for path in tmp_path.iterdir()} == {"origin", "app.stable", "out.db"}


@pytest.mark.parametrize("engine", ENGINES)
def test_each_kind_of_database_keeps_its_size_in_a_canister(database, tmp_path, engine):
    with Canister(engine=engine, bucket_pages=1) as canister:
        reply = canister.import_database(database)
        assert reply.notes == ()
        assert canister.status().database_size_bytes == database.stat().st_size
        assert canister.query("PRAGMA integrity_check").rows == [("ok",)]
        canister.update("CREATE TABLE later (x)")
        canister.upgrade()
        assert canister.query("PRAGMA integrity_check").rows == [("ok",)]
        canister.extract_database(tmp_path / "out.db")
    assert table_rows(tmp_path / "out.db")[2] == [("ok",)]


@pytest.mark.parametrize("page_size", [512, 65_536])
def test_each_kind_of_database_is_copied_with_sqlite_pages_of_another_size(
    database, tmp_path, page_size
):
    own = Canister()
    own.import_database(database)
    own_page_size = own.settings.page_size
    own.close()
    before = files_in(database.parent)
    image, out = tmp_path / "app.stable", tmp_path / "out.db"
    result = call("import", database, image, "--page-size", page_size)
    assert result.exit_code == 0, result.stderr
    is_same = own_page_size == page_size
    said = f"has SQLite pages of {own_page_size} bytes, and its copy of {page_size}"
    assert (said in result.stderr) is not is_same
    assert call("extract", image, out).exit_code == 0
    assert files_in(database.parent) == before
    with closing(apsw.Connection(str(out))) as connection:
        assert connection.pragma("page_size") == page_size
    assert table_rows(out) == table_rows(database)


# -- what is left behind --------------------------------------------------------------------------


KILLED = """
import os, signal, sys
import sqlstable.cli as cli
from sqlstable.database import foreign, transfer
def end(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)
setattr(eval(sys.argv[1]), sys.argv[2], end)
del sys.argv[1:3]
cli.main()
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "moment", [("foreign", "check"), ("foreign.DatabaseSource", "pieces"), ("transfer", "_write")]
)
def test_what_a_killed_import_leaves_is_gone_after_the_next_one(tmp_path, moment, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make(Path("app.db"))
    arguments = ("import", "app.db", "app.stable", "--page-size", "512")
    command = [sys.executable, "-c", KILLED, *moment, *arguments]
    assert subprocess.run(command, check=False).returncode == -9
    assert [one.suffix for one in tmp_path.iterdir() if one.is_dir()] == [".partial"]
    assert call(*arguments).exit_code == 0
    assert {one.name for one in tmp_path.iterdir()} == {"app.db", "app.stable"}


@pytest.mark.slow
def test_the_folder_of_an_import_that_goes_on_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make(Path("app.db"))
    Path("sqlstable-mine.partial").write_text("a file of mine")
    really_check = checking.check

    def check(*arguments, **options):
        monkeypatch.setattr(foreign, "check", really_check)
        command = [sys.executable, "-m", "sqlstable", "import", "app.db", "other.stable"]
        assert subprocess.run(command, check=False).returncode == 0
        return really_check(*arguments, **options)

    monkeypatch.setattr(foreign, "check", check)
    assert call("import", "app.db", "app.stable").exit_code == 0
    assert Path("app.stable").read_bytes() == Path("other.stable").read_bytes()
    assert {one.name for one in tmp_path.iterdir()} == {
        *("app.db", "app.stable", "other.stable", "sqlstable-mine.partial"),
    }


def test_large_databases_pass_through_a_piece_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(foreign, "PIECE_BYTES", 65_536)
    make(tmp_path / "app.db", rows="CREATE TABLE t (x); INSERT INTO t VALUES (randomblob(900000))")
    sizes = []
    with open_source(tmp_path / "app.db", SourceOptions(scratch=tmp_path)) as source:
        for _, piece in source.pieces():
            sizes.append(len(piece))
    assert max(sizes) == 65_536
    assert sum(sizes) == (tmp_path / "app.db").stat().st_size


@pytest.mark.slow
def test_a_database_with_a_hole_leaves_a_hole_in_the_image(tmp_path):
    path = tmp_path / "app.db"
    make(path, rows="CREATE TABLE t (x); INSERT INTO t VALUES (zeroblob(30000000))")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA secure_delete = on")
        connection.execute("DELETE FROM t")
        connection.commit()
    image = tmp_path / "app.stable"
    assert call("import", path, image).exit_code == 0
    assert image.stat().st_blocks * 512 < image.stat().st_size / 2
    assert call("extract", image, tmp_path / "out.db").exit_code == 0
    assert (tmp_path / "out.db").read_bytes() == path.read_bytes()


# -- images whose database does not state its size -------------------------------------------------


UNSTATED = {
    "no count": ("", {28: 0}),
    "another count": ("", {28: 3, 92: 1}),
    "a freelist at the end": (FREED, {28: 0}),
    "overflow pages of zeros at the end": (
        "CREATE TABLE z (x); INSERT INTO z VALUES (zeroblob(90000))",
        {28: 0},
    ),
    "auto_vacuum": ("PRAGMA auto_vacuum = full; VACUUM", {28: 0}),
    "free pages of zeros": (f"PRAGMA secure_delete = on; {FREED}", {28: 0}),
}


def trapped(canister):
    with canister.message() as message:
        message.execute("CREATE TABLE lost (x)")
        message.trap("on purpose")


def unstated_image(tmp_path, kind, layout):
    after, version = UNSTATED[kind]
    path, image = tmp_path / "app.db", tmp_path / "app.stable"
    make(path, after=after)
    size_bytes = path.stat().st_size
    assert call("import", path, image, "--layout", layout).exit_code == 0
    content = bytearray(image.read_bytes())
    start = content.index(b"SQLite format 3\0")
    for offset, value in version.items():
        content[start + offset : start + offset + 4] = value.to_bytes(4, "big")
    image.write_bytes(content)
    return path, image, size_bytes


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", UNSTATED)
@pytest.mark.parametrize("engine", ENGINES)
def test_a_database_keeps_its_size_in_an_image_that_does_not_state_it(
    tmp_path, kind, layout, engine
):
    path, image, size_bytes = unstated_image(tmp_path, kind, layout)
    before = image.read_bytes()
    assert call("extract", image, tmp_path / "out.db", "--integrity-check").stderr == ""
    assert table_rows(tmp_path / "out.db") == table_rows(path)
    assert image.read_bytes() == before
    with Canister(image, engine=engine, layout=layout) as canister:
        assert canister.status().database_size_bytes == size_bytes
        assert canister.query("PRAGMA integrity_check").rows == [("ok",)]
        with pytest.raises(sqlstable.Trap):
            trapped(canister)
        assert canister.status().database_size_bytes == size_bytes
        canister.update("CREATE TABLE kept (x)")
        canister.upgrade()
        assert canister.query("PRAGMA integrity_check").rows == [("ok",)]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_looking_at_an_image_that_does_not_state_its_size_changes_nothing(tmp_path, layout):
    _, image, size_bytes = unstated_image(tmp_path, "no count", layout)
    before = image.read_bytes()
    with Canister(image, read_only=True, layout=layout) as canister:
        assert canister.status().database_size_bytes == size_bytes
        assert canister.query("PRAGMA integrity_check").rows == [("ok",)]
    with sqlstable.StableMemory.open(image) as memory:
        vfs = sqlstable.StableVFS(memory, layout=layout)
        connection = vfs.connect()
        connection.execute("PRAGMA journal_mode = memory").fetchall()
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.pragma("page_count") * 4096 == size_bytes
        connection.execute("BEGIN; CREATE TABLE lost (x); ROLLBACK").fetchall()
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        connection.close()
        vfs.unregister()
    assert image.read_bytes() == before
