"""Image files on the command line: `run --image`, `import` and `extract`."""

import gzip
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

import sqlstable
from sqlstable.cli import progress
from sqlstable.cli import running as run_command
from sqlstable.database import checking, foreign
from tests.cli_images import (  # noqa: F401  a fixture
    ASK,
    LEDGER,
    TRANSFER,
    cents,
    cut_off,
    image_fixture,
    write_protected,
)
from tests.golden_files import check_golden
from tests.test_cli import (
    assert_refused,
    call,
    contents,
    folder,  # noqa: F401  a fixture
    make_database,
)

VECTORS = Path(__file__).parent / "vectors"


def rows(database, sql):
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute(sql).fetchall()


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

    monkeypatch.setattr("sqlstable.canister.steps.import_database", fail)
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


def test_a_damaged_database_is_taken_out_and_the_command_fails(image):
    data = bytearray(Path(image).read_bytes())
    start = 65_536 + 4096
    data[start : start + 8] = b"\xff" * 8
    Path(image).write_bytes(data)
    result = call("extract", image, "out.db")
    assert result.exit_code == 1
    assert result.stdout == "out.db: a SQLite database of 8.0 KiB\n"
    assert result.stderr.startswith(
        "Error: out.db is taken out as it is, and damaged: quick_check finds "
    )
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
