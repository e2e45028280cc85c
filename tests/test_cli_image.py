"""Image files on the command line: run --image, import, extract, and all that is refused."""

import gzip
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

import sqlstable
from sqlstable import Canister
from sqlstable.cli import progress
from sqlstable.cli import running as run_command
from sqlstable.database import checking, foreign, transfer
from sqlstable.errors import TraceError
from sqlstable.memory.image import osfile
from tests.golden_files import check_golden
from tests.images import unsealed
from tests.test_cli import (
    ENVIRONMENT,
    assert_refused,
    call,
    contents,
    folder,  # noqa: F401  a fixture
    make_database,
)

VECTORS = Path(__file__).parent / "vectors"

LEDGER = """\
CREATE TABLE account (id INTEGER PRIMARY KEY, cents INTEGER);
INSERT INTO account (cents) VALUES (100), (200);
"""
TRANSFER = """\
BEGIN;
UPDATE account SET cents = cents - 7 WHERE id = 2;
UPDATE account SET cents = cents + 7 WHERE id = 1;
COMMIT;
"""
ASK = "SELECT cents FROM account ORDER BY id;\n"


@pytest.fixture
def image(folder):  # noqa: F811
    """The name of an image that holds a ledger, in small buckets."""
    with Canister("ledger.stable", bucket_pages=1) as canister:
        for sql in LEDGER.splitlines():
            canister.update(sql)
    return "ledger.stable"


SEAL_BYTES = 24


def cents(image):
    """Return what is in the accounts of an image."""
    with Canister(image) as canister:
        return [row[0] for row in canister.query(ASK).rows]


def rows(database, sql):
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute(sql).fetchall()


def cut_off(image):
    """Leave an image as kill -9 does that comes between a message's log and its image."""
    with Canister(image) as canister:
        before = Path(image).read_bytes()
        canister.update("UPDATE account SET cents = cents + 1000 WHERE id = 1")
        log = Path(f"{image}-log").read_bytes()
    Path(image).write_bytes(before)
    Path(f"{image}-log").write_bytes(unsealed(log))


# -- run --image ----------------------------------------------------------------------------------


def test_a_run_makes_an_image_and_leaves_it_alone(folder):  # noqa: F811
    result = call("run", "-", "--image", "new.stable", stdin=LEDGER)
    assert (result.exit_code, result.stderr) == (0, "")
    assert not Path("new.stable-log").exists()
    assert Path("new.stable").stat().st_size == 129 * 65_536
    assert cents("new.stable") == [100, 200]


def test_a_run_goes_on_with_what_the_image_holds(image):
    result = call("run", "-", "--image", image, stdin=TRANSFER)
    assert result.exit_code == 0
    assert result.stderr == (
        "Note: going on with ledger.stable: stable memory 128.0 KiB, database 8.0 KiB\n"
    )
    assert cents(image) == [107, 193]
    assert not Path("ledger.stable-log").exists()


@pytest.mark.parametrize("durability", ["process", "power"])
def test_the_durability_arrives(folder, durability):  # noqa: F811
    options = ("--image", "new.stable", "--durability", durability, "--settings")
    result = call("run", "-", *options, stdin=LEDGER)
    assert result.exit_code == 0
    assert f"durability {durability}" in result.stdout


def test_a_failing_script_leaves_what_was_answered(image):
    script = f"{TRANSFER}UPDATE account SET cents = 0; SELECT nope;\n"
    result = call("run", "-", "--image", image, stdin=script)
    assert result.exit_code == 1
    assert result.stderr.splitlines()[1:] == [
        "Note: what was answered before stays in ledger.stable",
        "Error: stdin, line 5: no such column: nope; in: SELECT nope",
    ]
    assert cents(image) == [0, 0]
    assert not Path("ledger.stable-log").exists()
    result = call("run", "-", "--image", image, stdin="SELECT nope;")
    assert "stays in" not in result.stderr


def test_a_pending_log_is_recovered_and_that_is_said(image):
    cut_off(image)
    result = call("run", "-", "--image", image, stdin=ASK)
    assert result.exit_code == 0
    assert result.stderr.splitlines()[0] == (
        "Note: ledger.stable was not closed; the last message (2 OS pages) recovered from its log"
    )
    assert cents(image) == [1100, 200]


def test_a_database_is_imported_into_a_new_image(folder):  # noqa: F811
    make_database("app.db", page_size=1024)
    options = ("--image", "app.stable", "--database", "app.db", "--page-size", "512")
    result = call("run", "-", *options, stdin="UPDATE t SET x = x + 1;")
    assert result.exit_code == 0
    assert result.stderr == (
        "Note: app.db has SQLite pages of 1024 bytes, and its copy of 512; rowids without an "
        "INTEGER PRIMARY KEY may be others there\n"
    )
    assert call("extract", "app.stable", "later.db").exit_code == 0
    assert rows("later.db", "SELECT x FROM t") == [(8,)]


@pytest.mark.parametrize("mode", ["delete", "truncate", "persist"])
@pytest.mark.parametrize("growth", ["bucket", "wasm-page"])
def test_every_journal_mode_and_growth_policy_comes_back(folder, mode, growth):  # noqa: F811
    options = ("--image", "a.stable", "--journal-mode", mode, "--growth", growth)
    assert call("run", "-", *options, stdin=LEDGER).exit_code == 0
    result = call("run", "-", *options, "--rows", "--settings", stdin=f"{TRANSFER}{ASK}")
    assert result.exit_code == 0, result.stderr
    assert f"journal_mode {mode}" in result.stdout
    assert f"growth {growth}" in result.stdout
    result = call("extract", "a.stable", "a.db")
    assert (result.exit_code, result.stderr) == (0, "")
    assert rows("a.db", ASK) == [(107,), (193,)]
    assert rows("a.db", "PRAGMA integrity_check") == [("ok",)]


def write_protected(monkeypatch, *names):
    """Let files be as if write-protected, which chmod cannot do for root."""
    really_open = os.open

    def open_(path, flags, *rest, **options):
        if Path(path).name in names and flags & (os.O_RDWR | os.O_WRONLY):
            raise PermissionError(13, "Permission denied", str(path))
        return really_open(path, flags, *rest, **options)

    monkeypatch.setattr(os, "open", open_)


def test_on_a_read_only_image_queries_run_and_updates_fail(image, folder, monkeypatch):  # noqa: F811
    write_protected(monkeypatch, "ledger.stable")
    before = contents(folder)
    result = call("run", "-", "--image", image, "--rows", stdin=ASK)
    assert result.exit_code == 0
    assert result.stderr == (
        "Note: going on with ledger.stable: stable memory 128.0 KiB, database 8.0 KiB; it is "
        "read-only: queries run, updates fail\n"
    )
    for step in (TRANSFER, "--@ upgrade\n--@ update\nSELECT 1;", "--@ reinstall\n"):
        result = call("run", "-", "--image", image, stdin=f"{ASK}{step}")
        assert result.exit_code == 1
        assert "ledger.stable is read-only, so only queries run on it" in result.stderr
        assert "Traceback" not in result.stderr
    assert contents(folder) == before


def test_an_image_that_is_changed_underneath_fails_the_run(image, monkeypatch):
    really_run = run_command.run_steps

    def run_steps(canister, steps, **options):
        with Path(image).open("ab") as file:
            file.write(b"\0" * 65_536)
        return really_run(canister, steps, **options)

    monkeypatch.setattr(run_command, "run_steps", run_steps)
    result = call("run", "-", "--image", image, stdin=TRANSFER)
    assert result.exit_code == 1
    assert "somebody else has changed the image while it was open" in result.stderr
    assert Path(f"{image}-log").exists()


def test_a_failed_opening_leaves_no_new_image(folder):  # noqa: F811
    Path("empty.stable").touch()
    make_database("app.db")
    before = contents(folder)
    for name in ("new.stable", "empty.stable"):
        result = call("run", "-", "--image", name, "--trace", "missing/a.trace", stdin=ASK)
        assert_refused(result, folder, before, "missing/a.trace cannot be written")


def test_what_cannot_be_imported_leaves_no_new_image(folder, monkeypatch):  # noqa: F811
    Path("empty.stable").touch()
    make_database("app.db")
    before = contents(folder)

    def fail(*_, **__):
        raise sqlstable.ImageError("the database has 8192 bytes, more than stable memory can hold")

    monkeypatch.setattr("sqlstable.canister.canister.import_database", fail)
    for name in ("new.stable", "empty.stable"):
        result = call("run", "-", "--image", name, "--database", "app.db", stdin=ASK)
        assert_refused(result, folder, before, "more than stable memory can hold")


# -- import ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["managed", "raw"])
@pytest.mark.parametrize("page_size", [512, 4096, 65_536])
def test_a_database_comes_out_as_it_went_in(folder, layout, page_size):  # noqa: F811
    make_database("app.db", page_size=page_size)
    result = call("import", "app.db", "app.stable", "--layout", layout)
    assert (result.exit_code, result.stderr) == (0, "")
    result = call("extract", "app.stable", "out.db")
    assert (result.exit_code, result.stderr) == (0, "")
    assert Path("out.db").read_bytes() == Path("app.db").read_bytes()
    assert {path.name for path in folder.iterdir()} == {
        *("app.db", "app.stable", "out.db", "items.csv", "shop.sql"),
    }


def test_what_import_and_extract_print(folder):  # noqa: F811
    make_database("app.db")
    texts = [
        call(*arguments).stdout
        for arguments in (
            ("import", "app.db", "app.stable"),
            ("import", "app.db", "app.stable", "--force", "--preset", "ic-rusqlite"),
            ("import", "app.db", "app.raw", "--layout", "raw", "--durability", "power"),
            ("extract", "app.raw", "out.db"),
        )
    ]
    check_golden("cli_image.txt", "\n".join(texts))


def test_many_pieces_go_through_buckets_and_messages(folder, monkeypatch):  # noqa: F811
    monkeypatch.setattr(foreign, "PIECE_BYTES", 3 * 65_536)
    with closing(sqlite3.connect("app.db")) as connection:
        connection.execute("CREATE TABLE t (x)")
        connection.executemany("INSERT INTO t VALUES (?)", [(os.urandom(9000),)] * 400)
        connection.commit()
    for options in ((), ("--growth", "wasm-page"), ("--layout", "raw")):
        result = call("import", "app.db", "app.stable", "--force", *options)
        assert result.exit_code == 0, result.stderr
        assert call("extract", "app.stable", "out.db", "--force").exit_code == 0
        assert Path("out.db").read_bytes() == Path("app.db").read_bytes()


def test_an_imported_image_equals_that_of_a_run(folder):  # noqa: F811
    make_database("app.db")
    assert call("import", "app.db", "a.stable").exit_code == 0
    assert call("run", "-", "--image", "b.stable", "--database", "app.db", stdin="").exit_code == 0
    assert Path("a.stable").read_bytes() == Path("b.stable").read_bytes()


def test_committed_sqlite_pages_beside_the_database_come_along(folder):  # noqa: F811
    source = sqlite3.connect("app.db")
    with closing(source):
        source.executescript(
            "PRAGMA journal_mode = wal; CREATE TABLE t (x); INSERT INTO t VALUES (7)"
        )
        assert call("import", "app.db", "open.stable").exit_code == 0
        for suffix in ("", "-wal"):
            shutil.copyfile(f"app.db{suffix}", f"copy.db{suffix}")
    before = contents(folder)
    assert call("import", "copy.db", "copy.stable").exit_code == 0
    assert {name: contents(folder)[name] for name in before} == before
    for name in ("open", "copy"):
        assert call("extract", f"{name}.stable", f"{name}.out").exit_code == 0
        assert rows(f"{name}.out", "SELECT x FROM t") == [(7,)]


def test_a_hot_journal_is_rolled_back_in_a_copy(folder):  # noqa: F811
    make_database("app.db")
    with closing(sqlite3.connect("app.db", isolation_level=None)) as connection:
        connection.executescript("PRAGMA cache_size = 1; BEGIN; UPDATE t SET x = 8")
        connection.execute("INSERT INTO t SELECT randomblob(5000) FROM t, t AS u, t AS v")
        connection.executemany("INSERT INTO t VALUES (?)", [(b"x" * 9000,)] * 50)
        for suffix in ("", "-journal"):
            shutil.copyfile(f"app.db{suffix}", f"hot.db{suffix}")
        connection.execute("ROLLBACK")
    before = contents(folder)
    assert call("import", "hot.db", "hot.stable").exit_code == 0
    assert {name: contents(folder)[name] for name in before} == before
    assert call("extract", "hot.stable", "out.db").exit_code == 0
    assert rows("out.db", "SELECT x FROM t") == [(7,)]


def test_an_old_image_is_replaced_by_force_with_its_pending_log(image):
    cut_off(image)
    make_database("app.db")
    Path(image).chmod(0o640)
    result = call("import", "app.db", image, "--force")
    assert (result.exit_code, result.stderr) == (0, "")
    assert not Path(f"{image}-log").exists()
    assert Path(image).stat().st_mode & 0o777 == 0o640
    assert call("extract", image, "out.db").exit_code == 0
    assert Path("out.db").read_bytes() == Path("app.db").read_bytes()


def test_a_link_stays_a_link_and_its_image_is_replaced(image):
    Path("sub").mkdir()
    Path(image).rename(f"sub/{image}")
    Path("link.stable").symlink_to(f"sub/{image}")
    make_database("app.db")
    assert call("import", "app.db", "link.stable", "--force").exit_code == 0
    assert Path("link.stable").is_symlink()
    assert call("extract", "link.stable", "out.db").exit_code == 0
    assert Path("out.db").read_bytes() == Path("app.db").read_bytes()


# -- extract --------------------------------------------------------------------------------------


def test_a_pending_log_is_applied_in_memory_only(image, folder):  # noqa: F811
    cut_off(image)
    before = contents(folder)
    result = call("extract", image, "out.db")
    assert result.exit_code == 0
    assert result.stderr == (
        "Note: ledger.stable was not closed; the last message (2 OS pages) recovered from its "
        "log; in memory only, the files stay as they are\n"
    )
    assert rows("out.db", ASK) == [(1100,), (200,)]
    assert {name: contents(folder)[name] for name in before} == before


def test_the_image_of_a_real_memory_manager_gives_its_database(folder):  # noqa: F811
    packed = VECTORS / "memory_manager_sqlite_in_memory_120.bin.gz"
    Path("stable_memory.bin").write_bytes(gzip.decompress(packed.read_bytes()))
    result = call("extract", "stable_memory.bin", "app.db")
    assert (result.exit_code, result.stderr) == (0, "")
    assert rows("app.db", "PRAGMA integrity_check") == [("ok",)]
    assert rows("app.db", "SELECT count(*) FROM sqlite_schema")[0][0] > 0


def test_an_image_without_a_database_says_what_it_has(folder):  # noqa: F811
    packed = VECTORS / "canister_image.bin.gz"
    Path("stable_memory.bin").write_bytes(gzip.decompress(packed.read_bytes()))
    result = call("extract", "stable_memory.bin", "app.db")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(
        "Error: stable_memory.bin holds no database where the main one lies; it has (memory 0) ("
    )
    assert not Path("app.db").exists()


def test_attached_databases_are_named_and_taken_out(image):
    script = "ATTACH 'other.db' AS other; CREATE TABLE other.t (x); INSERT INTO other.t VALUES (5);"
    result = call("run", "-", "--image", image, stdin=script)
    assert result.exit_code == 0, result.stderr
    result = call("extract", image, "main.out")
    assert result.exit_code == 0
    assert result.stderr == (
        "Note: ledger.stable holds 1 more database: other.db; --name takes one of them out\n"
    )
    assert rows("main.out", ASK) == [(100,), (200,)]
    result = call("extract", image, "other.out", "--name", "other.db")
    assert result.exit_code == 0, result.stderr
    assert rows("other.out", "SELECT x FROM t") == [(5,)]
    assert rows("other.out", "PRAGMA integrity_check") == [("ok",)]


def test_a_damaged_database_is_taken_out_with_a_warning(image):
    data = bytearray(Path(image).read_bytes())
    start = 65_536 + 4096
    data[start : start + 8] = b"\xff" * 8
    Path(image).write_bytes(data)
    result = call("extract", image, "out.db")
    assert result.exit_code == 0
    assert result.stderr.startswith("Note: quick_check finds in out.db: ")
    assert Path("out.db").stat().st_size == 8192


def test_an_old_database_is_replaced_by_force(image):
    make_database("old.db")
    assert call("extract", image, "old.db", "--force").exit_code == 0
    assert rows("old.db", ASK) == [(100,), (200,)]


def test_an_image_larger_than_todays_limits_can_be_looked_at(folder):  # noqa: F811
    make_database("app.db")
    assert call("import", "app.db", "app.stable", "--layout", "raw").exit_code == 0
    os.truncate("app.stable", 600 * 2**30)
    assert call("extract", "app.stable", "out.db").exit_code == 0
    assert Path("out.db").read_bytes() == Path("app.db").read_bytes()
    result = call("run", "-", "--image", "app.stable", "--layout", "raw", stdin=ASK)
    assert result.exit_code == 2
    assert "9830400 Wasm pages, the limit is" in result.stderr
    os.truncate("app.stable", 9 * 2**30)
    result = call("run", "-", "--image", "app.stable", "--limits", "2021-05-10", stdin=ASK)
    assert result.exit_code == 2
    assert "choose limits of a later date" in result.stderr
    assert Path("app.stable").stat().st_size == 9 * 2**30
    assert Path("app.stable").stat().st_blocks < 1000
    assert not Path("app.stable-log").exists()


# -- what is refused ------------------------------------------------------------------------------


@pytest.fixture
def bad_folder(image, folder):  # noqa: F811
    """A folder full of files that are not what they are taken for."""
    make_database("app.db")
    make_database("late.db")
    assert call("import", "app.db", "app.raw", "--layout", "raw").exit_code == 0
    whole = Path(image).read_bytes()
    shutil.copyfile(image, "pending.stable")
    cut_off("pending.stable")
    log = Path("pending.stable-log").read_bytes()
    files = {
        "cut.stable": whole[:-100],
        "short.stable": whole[:65_536],
        "random.stable": bytes(range(255, -1, -1)) * 256,
        "zeros.stable": bytes(65_536),
        "empty.stable": b"",
        "header.stable": whole[:4] + b"\xff\xff" + whole[6:],
        "foreign.stable": whole[:65_536] + bytes(65_536),
        "foreign.stable-log": log,
        "newer.stable": whole,
        "newer.stable-log": log[:8] + (3).to_bytes(4, "little") + log[12:],
        "nolog.stable": whole,
        "nolog.stable-log": b"my own log\n" * 500,
        "orphan.stable-log": log,
        "late.db-wal": b"a log that waits",
        "early.db-journal": b"a journal that waits",
        "random.db": bytes(range(256)) * 20,
        "cut.db": Path("app.db").read_bytes()[:5000],
        "garbled.db": Path("app.db").read_bytes()[:4096] + b"\xff" * 4096,
        "text.txt": b"some text\n",
    }
    for name, data in files.items():
        Path(name).write_bytes(data)
    Path("sub").mkdir()
    os.mkfifo("pipe")
    Path("dangling").symlink_to("nowhere")
    return folder


# What opens an image refuses these, whether it writes or reads.
BAD_IMAGES = {
    "sub": "sub is a folder",
    "pipe": "pipe is a pipe",
    "app.db": "app.db is a SQLite database, no image; sqlstable import app.db IMAGE makes one",
    "cut.stable": "cut.stable is 130972 bytes long, 65436 more than 1 Wasm page of",
    "short.stable": "short.stable: ",
    "random.stable": "random.stable: ",
    "header.stable": "header.stable: ",
    "foreign.stable": "foreign.stable-log is the log of another image, or of another state",
    "newer.stable": "newer.stable-log has format version 3, and only 2 is known",
    "nolog.stable": "nolog.stable-log is not a log of sqlstable",
}

BAD_RUNS = {
    **{("--image", name): reason for name, reason in BAD_IMAGES.items()},
    ("--image", "missing/a.stable"): "missing/a.stable cannot be opened",
    ("--image", "x" * 300): "File name too long",
    ("--image", "dangling/a.stable"): "dangling/a.stable cannot be opened",
    ("--image", "app.raw"): "app.raw: ",
    ("--image", "ledger.stable", "--layout", "raw"): "ledger.stable: the image begins with a",
    ("--image", "ledger.stable", "--database", "app.db"): (
        "ledger.stable has a database of 8192 bytes already; leave --database out"
    ),
    ("--image", "ledger.stable", "--database", "app.db", "--journal-mode", "wal"): "wal",
    ("--image", "new.stable", "--database", "cut.db"): "cut.db is truncated",
    ("--image", "new.stable", "--layout", "raw", "--journal-mode", "persist"): "journal_mode",
    ("--image", "new.stable", "--limits", "2020-01-01"): "the earliest date is 2021-05-10",
    ("--image", "new.stable", "--durability", "sometimes"): "durability is 'sometimes'",
    ("--image", "new.stable", "--growth", "fast"): "growth is 'fast'",
    ("--durability", "power"): "--durability concerns an image file",
}

BAD_EXTRACTS = {
    **{(name, "out.db"): reason for name, reason in BAD_IMAGES.items()},
    ("missing.stable", "out.db"): "there is no image file missing.stable",
    ("dangling", "out.db"): "there is no image file dangling",
    ("empty.stable", "out.db"): "empty.stable holds no database where the main one lies",
    ("zeros.stable", "out.db"): "zeros.stable holds no database where the main one lies",
    ("ledger.stable", "app.db"): "app.db exists already; choose another file, or add --force",
    ("ledger.stable", "sub"): "sub is a folder",
    ("ledger.stable", "sub", "--force"): "sub is a folder",
    ("ledger.stable", "pipe", "--force"): "pipe is a pipe",
    ("ledger.stable", "dangling", "--force"): "dangling is a link to a file that is not there",
    ("ledger.stable", "text.txt", "--force"): "text.txt exists and is not a SQLite database",
    ("ledger.stable", "ledger.stable", "--force"): "ledger.stable is the image itself",
    ("app.raw", "app.raw", "--force"): "app.raw is the image itself",
    ("ledger.stable", "late.db", "--force"): "late.db-wal lies there",
    ("ledger.stable", "early.db"): "early.db-journal lies there",
    ("ledger.stable", "missing/out.db"): "the folder of missing/out.db is not there",
    ("ledger.stable", "y" * 300): "cannot be made: File name too long",
    ("ledger.stable", "out.db", "--layout", "raw"): "ledger.stable: the image begins with a",
    ("app.raw", "out.db", "--layout", "managed"): "app.raw: ",
    ("ledger.stable", "out.db", "--layout", "paper"): "layout is 'paper'",
    ("ledger.stable", "out.db", "--name", "other.db"): "holds no database named other.db",
    ("ledger.stable",): "Missing argument",
}

BAD_IMPORTS = {
    ("missing.db", "new.stable"): "missing.db is not a file",
    ("sub", "new.stable"): "sub is not a file",
    ("pipe", "new.stable"): "pipe is not a file",
    ("shop.sql", "new.stable"): "shop.sql is not a SQLite database",
    ("random.db", "new.stable"): "random.db is not a SQLite database",
    ("cut.db", "new.stable"): "cut.db is truncated",
    ("garbled.db", "new.stable"): "garbled.db",
    ("ledger.stable", "new.stable"): "ledger.stable is an image of stable memory",
    ("app.db", "ledger.stable"): "ledger.stable exists already; choose another file, or add",
    ("app.db", "app.db"): "app.db exists already",
    ("app.db", "sub", "--force"): "sub is a folder",
    ("app.db", "pipe", "--force"): "pipe is a pipe",
    ("app.db", "dangling", "--force"): "dangling is a link to a file that is not there",
    ("app.db", "text.txt", "--force"): "text.txt exists and is not an image",
    ("app.db", "random.stable", "--force"): "random.stable exists and is not an image",
    ("app.db", "late.db", "--force"): "late.db is a SQLite database, no image",
    ("app.db", "app.db", "--force"): "app.db is a SQLite database, no image",
    ("app.db", "cut.stable", "--force"): "cut.stable is 130972 bytes long",
    ("app.db", "foreign.stable", "--force"): "foreign.stable-log is the log of another image",
    ("app.db", "newer.stable", "--force"): "newer.stable-log has format version 3",
    (
        "app.db",
        "orphan.stable",
    ): "there is no image orphan.stable, but its log orphan.stable-log is there",
    ("app.db", "orphan.stable", "--force"): "there is no image orphan.stable, but its log",
    ("app.db", "missing/new.stable"): "the folder of missing/new.stable is not there",
    ("app.db", "z" * 300): "cannot be made: File name too long",
    ("app.db", "new.stable", "--layout", "stacked"): "layout is 'stacked'",
    ("app.db", "new.stable", "--preset", "mysql"): "no preset is named 'mysql'",
    ("app.db", "new.stable", "--growth", "fast"): "growth is 'fast'",
    ("app.db", "new.stable", "--durability", "sometimes"): "durability is 'sometimes'",
    ("app.db", "new.stable", "--limits", "2020-01-01"): "the earliest date is 2021-05-10",
    ("app.db", "new.stable", "--page-size", "500"): "page_size is 500",
    ("app.db",): "Missing argument",
}


def assert_line(result, folder, before, reason):  # noqa: F811
    """Assert a refusal of one clear line, after which every file is as it was."""
    if "Usage:" not in result.stderr:
        assert result.stderr.startswith("Error: ")
        assert result.stderr.count("\n") == 1, result.stderr
        assert ".partial" not in result.stderr
    assert_refused(result, folder, before, reason)


@pytest.mark.parametrize(("options", "reason"), BAD_RUNS.items(), ids=str)
def test_a_bad_image_is_refused_and_nothing_changes(bad_folder, options, reason):
    before = contents(bad_folder)
    assert_line(call("run", "shop.sql", *options), bad_folder, before, reason)


@pytest.mark.parametrize(("arguments", "reason"), BAD_EXTRACTS.items(), ids=str)
def test_a_bad_extraction_is_refused_and_nothing_changes(bad_folder, arguments, reason):
    before = contents(bad_folder)
    assert_line(call("extract", *arguments), bad_folder, before, reason)


@pytest.mark.parametrize(("arguments", "reason"), BAD_IMPORTS.items(), ids=str)
def test_a_bad_import_is_refused_and_nothing_changes(bad_folder, arguments, reason):
    before = contents(bad_folder)
    assert_line(call("import", *arguments), bad_folder, before, reason)


def test_a_database_too_large_for_one_message_is_shown_the_way(bad_folder, monkeypatch):
    shutil.copyfile("app.db", "large.db")
    # The header says where the database ends, and so much is loaded.
    os.truncate("large.db", 3 * 2**30)
    monkeypatch.setattr(run_command, "_IMPORTED_BYTES_MAX", 4096)
    result = call("run", "shop.sql", "--database", "large.db")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "sqlstable import large.db IMAGE, and run on that with --image" in result.stderr
    assert call("import", "large.db", "large.stable").exit_code == 0


@contextmanager
def opened_elsewhere(image):
    """Let another process have an image open; yields its process id."""
    program = (
        "import sys, sqlstable\n"
        "with sqlstable.Canister(sys.argv[1]):\n"
        "    print('open', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, image],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=ENVIRONMENT,
    ) as process:
        assert process.stdout.readline() == b"open\n"
        yield process.pid
        process.stdin.close()


@pytest.mark.slow
def test_an_image_that_is_open_elsewhere_is_left_alone(bad_folder):
    with opened_elsewhere("ledger.stable") as process_id:
        before = contents(bad_folder)
        for arguments in (
            ("run", "shop.sql", "--image", "ledger.stable"),
            ("extract", "ledger.stable", "out.db"),
            ("import", "app.db", "ledger.stable", "--force"),
        ):
            reason = f"ledger.stable is open in process {process_id}; close it there first"
            assert_line(call(*arguments), bad_folder, before, reason)
    assert cents("ledger.stable") == [100, 200]


def test_a_write_protected_image_is_not_replaced(bad_folder, monkeypatch):
    write_protected(monkeypatch, "ledger.stable")
    before = contents(bad_folder)
    result = call("import", "app.db", "ledger.stable", "--force")
    assert_line(result, bad_folder, before, "ledger.stable is write-protected")
    result = call("run", "shop.sql", "--image", "ledger.stable", "--database", "app.db")
    assert_line(result, bad_folder, before, "ledger.stable is read-only, so no database")


def test_a_database_that_stable_memory_cannot_hold_is_refused(bad_folder, monkeypatch):
    before = contents(bad_folder)
    monkeypatch.setattr("sqlstable.layout.placement.ManagedPlacement.grow_to", lambda *_: False)
    for arguments in (("new.stable",), ("ledger.stable", "--force")):
        result = call("import", "app.db", *arguments)
        assert_line(result, bad_folder, before, "more than stable memory can hold")


# -- what fails on the way ------------------------------------------------------------------------


def assert_failed(result, folder, before, reason):  # noqa: F811
    """Assert a failure of one line, after which every file is as it was."""
    assert (result.exit_code, result.stdout) == (1, ""), result.output
    assert result.stderr == f"Error: {reason}\n"
    assert contents(folder) == before


@pytest.mark.parametrize("call_name", ["write", "write_runs", "resize"])
def test_a_full_disk_leaves_nothing_of_an_import(bad_folder, monkeypatch, call_name):
    before = contents(bad_folder)
    really = getattr(osfile.OsFile, call_name)
    for failing in range(1, 40):
        calls = []

        def fail(self, *arguments, calls=calls, failing=failing):
            calls.append(arguments)
            if len(calls) == failing:
                raise OSError(28, "No space left on device")
            return really(self, *arguments)

        monkeypatch.setattr(osfile.OsFile, call_name, fail)
        result = call("import", "app.db", "new.stable")
        monkeypatch.setattr(osfile.OsFile, call_name, really)
        if len(calls) < failing:
            assert result.exit_code == 0
            return
        if call_name == "write" and sum(map(len, calls[failing - 1][1])) == SEAL_BYTES:
            # A record that is not sealed leaves recovery more to do, and that is all.
            assert result.exit_code == 0
            Path("new.stable").unlink()
            continue
        assert result.exit_code == 1
        assert result.stderr.startswith("Error: new.stable could not be made: ")
        assert result.stderr.endswith("No space left on device\n")
        assert contents(bad_folder) == before
    pytest.fail("the sweep did not come to its end")


@pytest.mark.parametrize("durability", ["process", "power"])
def test_a_full_disk_fails_a_run_and_leaves_what_was_answered(image, monkeypatch, durability):
    really_write = osfile.OsFile.write
    really_run = run_command.run_steps
    calls = []

    def write(self, offset, parts):
        calls.append(offset)
        # Each message writes its record, and then its OS pages.
        if len(calls) > 4:
            raise OSError(28, "No space left on device")
        really_write(self, offset, parts)

    def run_steps(canister, steps, **options):
        patch.setattr(osfile.OsFile, "write", write)
        return really_run(canister, steps, **options)

    script = "INSERT INTO account (cents) VALUES (1);\n" * 9
    with monkeypatch.context() as patch:
        patch.setattr(run_command, "run_steps", run_steps)
        result = call("run", "-", "--image", image, "--durability", durability, stdin=script)
    assert result.exit_code == 1
    assert "No space left on device" in result.stderr.splitlines()[-1]
    answered = result.stdout.count("INSERT INTO account")
    assert 1 < answered < 9
    there = cents(image)
    assert there[:2] == [100, 200]
    assert answered - 1 <= len(there[2:]) <= answered


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_leaves_nothing_of_an_extraction(bad_folder, monkeypatch):
    before = contents(bad_folder)
    really_open = Path.open

    def open_(path, mode="r", *rest, **options):
        file = really_open(path, mode, *rest, **options)
        if "x" in mode:
            file.close()
            file = really_open("/dev/full", "wb", buffering=0)
        return file

    monkeypatch.setattr(Path, "open", open_)
    for arguments in (("out.db",), ("app.db", "--force")):
        result = call("extract", "ledger.stable", *arguments)
        reason = f"{arguments[0]} could not be made: No space left on device"
        assert_failed(result, bad_folder, before, reason)


def test_ctrl_c_leaves_the_image_of_a_run_with_what_was_answered(image, monkeypatch):
    def on_step(_self, _step, messages):
        if messages == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(progress.MessageProgress, "on_step", on_step)
    script = "--@ repeat 9\nINSERT INTO account (cents) VALUES (1);"
    result = call("run", "-", "--image", image, stdin=script)
    assert result.exit_code == 130
    assert result.stderr.endswith("Error: interrupted in stdin, line 2\n")
    assert result.stdout.count("INSERT INTO account") == 2
    assert not Path(f"{image}-log").exists()
    assert cents(image) == [100, 200, 1, 1]


@pytest.mark.parametrize("target", ["new.stable", "ledger.stable"])
def test_ctrl_c_leaves_nothing_of_an_import(bad_folder, monkeypatch, target):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    before = contents(bad_folder)
    for name in ("DatabaseSource.pieces", "check"):
        with monkeypatch.context() as patch:
            patch.setattr(f"sqlstable.database.foreign.{name}", interrupt)
            result = call("import", "app.db", target, "--force")
        assert (result.exit_code, result.stderr) == (130, "Error: interrupted\n")
        assert contents(bad_folder) == before


def test_ctrl_c_leaves_nothing_of_an_extraction(bad_folder, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    before = contents(bad_folder)
    for name in ("extract_database", "find_damage"):
        with monkeypatch.context() as patch:
            patch.setattr(f"sqlstable.cli.extract.{name}", interrupt)
            result = call("extract", "ledger.stable", "app.db", "--force")
        assert (result.exit_code, result.stderr) == (130, "Error: interrupted\n")
        assert contents(bad_folder) == before


CRASHES = {
    "before the log goes": (Path, "unlink", False),
    "between log and image": (Path, "unlink", True),
    "before the image comes": (Path, "replace", False),
    "after the image came": (Path, "replace", True),
}


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("moment", CRASHES)
def test_a_crash_while_an_image_is_replaced_leaves_one_of_the_two(bad_folder, moment):
    # The log of the old image would fit the new one, which is a copy of the old one.
    assert call("extract", "ledger.stable", "ledger.db").exit_code == 0
    assert call("import", "ledger.db", "ledger.stable", "--force").exit_code == 0
    cut_off("ledger.stable")
    child = os.fork()
    if child == 0:
        crash_at(*CRASHES[moment])
        call("import", "ledger.db", "ledger.stable", "--force")
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    is_new = moment == "after the image came"
    assert cents("ledger.stable") == ([100, 200] if is_new else [1100, 200])
    assert cents("ledger.stable") == ([100, 200] if is_new else [1100, 200])


def crash_at(owner, name, is_after):
    """End the process before or after a call that concerns the old image's log, or a place."""
    really = getattr(owner, name)

    def crash(path, *arguments, **options):
        concerned = name == "replace" or path.name == "ledger.stable-log"
        # The pending log goes first, when the old image is recovered; then our own one.
        concerned = (
            concerned
            and ".partial" not in path.name
            and (name == "replace" or path.stat().st_size <= 4096)
        )
        if concerned and not is_after:
            os._exit(9)
        result = really(path, *arguments, **options)
        if concerned:
            os._exit(9)
        return result

    setattr(owner, name, crash)


@pytest.mark.slow
def test_a_killed_import_leaves_the_old_image_as_it_was(bad_folder):
    program = (
        "import os, signal, sqlstable.cli as cli\n"
        "from sqlstable.database import checking, foreign, transfer\n"
        "def pieces(source):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "foreign.DatabaseSource.pieces = pieces\n"
        "cli.main()\n"
    )
    before = Path("ledger.stable").read_bytes()
    arguments = ["import", "app.db", "ledger.stable", "--force"]
    command = [sys.executable, "-c", program, *arguments]
    assert subprocess.run(command, check=False, env=ENVIRONMENT).returncode == -9
    assert Path("ledger.stable").read_bytes() == before
    assert cents("ledger.stable") == [100, 200]
    result = call("import", "app.db", "ledger.stable", "--force")
    assert (result.exit_code, result.stderr) == (0, "")


def test_names_that_are_no_text_are_fine_or_refused(bad_folder):
    image, database = os.fsdecode(b"a\xff.stable"), os.fsdecode(b"o\xff \x1b[31m.db")
    assert call("import", "app.db", image).exit_code == 0
    assert call("run", "-", "--image", image, stdin="SELECT x FROM t;").exit_code == 0
    result = call("extract", image, database)
    assert result.exit_code == 0
    assert "\x1b" not in result.stdout
    assert Path(database).read_bytes() == Path("app.db").read_bytes()
    result = call("import", database, "new.stable")
    assert result.exit_code == 2
    assert "has a name that is no UTF-8" in result.stderr
    assert "\x1b" not in result.stderr


def test_a_place_that_is_taken_meanwhile_is_left_alone(bad_folder, monkeypatch):
    really_make = transfer.make_image

    def make(*arguments, **options):
        really_make(*arguments, **options)
        Path("new.stable").write_bytes(b"somebody else's")

    monkeypatch.setattr("sqlstable.cli.import_.make_image", make)
    result = call("import", "app.db", "new.stable")
    assert result.exit_code == 2
    assert "has been made by somebody else meanwhile" in result.stderr
    assert Path("new.stable").read_bytes() == b"somebody else's"
    assert not [path for path in bad_folder.iterdir() if "partial" in path.name]


def test_a_trace_that_breaks_off_leaves_the_image_whole(image, monkeypatch):
    really_run = run_command.run_steps

    def fail(*_, **__):
        raise TraceError("the trace cannot be written: no space")

    def run_steps(canister, steps, **options):
        outcome = really_run(canister, steps, **options)
        patch.setattr("sqlstable.trace.format.writer.TraceWriter._flush", fail)
        return outcome

    with monkeypatch.context() as patch:
        patch.setattr(run_command, "run_steps", run_steps)
        result = call("run", "-", "--image", image, "--trace", "a.trace", stdin=TRANSFER)
    assert result.exit_code == 1
    assert "unfinished" in result.stdout
    assert result.stderr.endswith("Error: the trace cannot be written: no space\n")
    assert not Path(f"{image}-log").exists()
    assert cents(image) == [107, 193]


# -- who watches ----------------------------------------------------------------------------------


def test_long_work_shows_a_bar_on_a_terminal_only(folder, monkeypatch):  # noqa: F811
    make_database("app.db")
    monkeypatch.setattr(checking, "_STEPS_BETWEEN_TICKS", 1)
    monkeypatch.setattr(progress, "PATIENCE_S", 0)
    assert call("import", "app.db", "quiet.stable").stderr == ""
    monkeypatch.setattr(progress, "is_terminal", lambda _: True)
    shown = []
    really_show = progress.WorkProgress.show

    def show(self, description, **options):
        shown.append(description)
        really_show(self, description, **options)

    monkeypatch.setattr(progress.WorkProgress, "show", show)
    assert call("import", "app.db", "shown.stable").exit_code == 0
    assert call("extract", "shown.stable", "out.db").exit_code == 0
    assert {"checking app.db", "8.0 KiB of 8.0 KiB", "checking out.db"} == set(shown)
