"""What lies beside a database from elsewhere, who else has it open, and whose locks these are."""

import os
import random
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing, nullcontext
from pathlib import Path

import apsw
import pytest

from sqlstable import Canister, ImageError
from sqlstable.database.foreign import SourceOptions, open_source
from tests.foreign_databases import make, needy_fixture, table_rows  # noqa: F401  a fixture
from tests.images import files_in, open_descriptors
from tests.test_cli import call

# -- databases that are more than one file --------------------------------------------------------


def random_bytes(count):
    return random.Random(count).randbytes(count)


def left_behind(folder, *, suffixes, mode):
    """A database as a crash leaves it, with 'committed' in it and 'lost' on its way."""
    origin = folder / "live"
    origin.mkdir()
    target = folder / "crashed"
    target.mkdir()
    with closing(apsw.Connection(str(origin / "app.db"))) as writer:
        writer.execute(f"PRAGMA journal_mode = {mode}; PRAGMA wal_autocheckpoint = 0").fetchall()
        writer.execute("CREATE TABLE t (x); INSERT INTO t VALUES ('committed')")
        writer.execute("PRAGMA cache_size = 2; BEGIN")
        writer.executemany("INSERT INTO t VALUES ('lost' || ?)", [("x" * 3000,)] * 90)
        writer.execute("UPDATE t SET x = x || 'lost'")
        for suffix in suffixes:
            if suffix.endswith("!"):
                (target / f"app.db{suffix[:-1]}").write_bytes(random_bytes(32_768))
            else:
                shutil.copyfile(origin / f"app.db{suffix}", target / f"app.db{suffix}")
    return target / "app.db"


CRASHED = {
    "a log": ("wal", ("", "-wal")),
    "a log and its index": ("wal", ("", "-wal", "-shm")),
    "a log and an index of nobody": ("wal", ("", "-wal", "-shm!")),
    "a hot journal": ("delete", ("", "-journal")),
}


@pytest.mark.parametrize("kind", CRASHED)
@pytest.mark.parametrize("page_size", [None, 8192])
@pytest.mark.parametrize("is_linked", [False, True], ids=["named", "linked"])
def test_what_a_crash_left_beside_a_database_counts_and_stays(tmp_path, kind, page_size, is_linked):
    mode, suffixes = CRASHED[kind]
    path = left_behind(tmp_path, suffixes=suffixes, mode=mode)
    before = files_in(path.parent)
    if is_linked:
        (tmp_path / "link.db").symlink_to(path)
        path = tmp_path / "link.db"
    with Canister() as canister:
        canister.import_database(path, page_size=page_size)
        assert canister.settings.page_size == (page_size or 4096)
        assert canister.query("SELECT x FROM t").rows == [("committed",)]
        assert canister.query("PRAGMA journal_mode").rows == [("memory",)]
        assert canister.query("PRAGMA integrity_check").rows == [("ok",)]
        canister.extract_database(tmp_path / "out.db")
    assert files_in(tmp_path / "crashed") == before
    assert (tmp_path / "out.db").read_bytes()[18:20] == b"\x01\x01"


BESIDE = {
    "a log of nobody": ("delete", "-wal", random_bytes),
    "an empty log": ("delete", "-wal", lambda _: b""),
    "a journal of nobody": ("delete", "-journal", random_bytes),
    "a log of nobody in WAL mode": ("wal", "-wal", random_bytes),
    "an empty log in WAL mode": ("wal", "-wal", lambda _: b""),
    "an index alone": ("wal", "-shm", bytes),
    "an index of nobody": ("wal", "-shm", random_bytes),
}


@pytest.mark.parametrize("kind", BESIDE)
@pytest.mark.parametrize("page_size", [None, 512])
def test_what_lies_beside_a_database_by_chance_counts_for_nothing_and_stays(
    tmp_path, kind, page_size
):
    mode, suffix, content = BESIDE[kind]
    path = tmp_path / "app.db"
    make(path, before=f"PRAGMA journal_mode = {mode}")
    Path(f"{path}{suffix}").write_bytes(content(32_768))
    before = files_in(tmp_path)
    with Canister() as canister:
        canister.import_database(path, page_size=page_size)
        assert canister.query("SELECT count(*) FROM account").rows == [(301,)]
    assert files_in(tmp_path) == before


def test_a_setup_that_writes_leaves_no_trace_in_what_is_imported(tmp_path):
    def setup(connection):
        connection.execute("CREATE TABLE IF NOT EXISTS mine (x)")
        connection.execute("INSERT INTO mine VALUES (1)")

    make(tmp_path / "app.db", before="PRAGMA journal_mode = wal")
    crashed = left_behind(tmp_path, suffixes=("", "-journal"), mode="delete")
    for path in (tmp_path / "app.db", crashed):
        with open_source(path, SourceOptions(setups=[setup])) as source:
            data = b"".join(piece for _, piece in source.pieces())
        assert b"mine" not in data


def test_a_setup_may_leave_a_transaction_open(tmp_path):
    make(tmp_path / "app.db")
    with open_source(
        tmp_path / "app.db",
        SourceOptions(setups=[lambda connection: connection.execute("BEGIN")], page_size=512),
    ) as source:
        assert source.page_size == 512


HOLDING = """
import sys, apsw
connection = apsw.Connection(sys.argv[1])
for sql in sys.argv[2:]:
    connection.execute(sql).fetchall()
print("ready", flush=True)
sys.stdin.read()
"""


class Holder:
    """Another process that has a database open, until the end of the block."""

    def __init__(self, path, *statements):
        self._process = subprocess.Popen(
            [sys.executable, "-c", HOLDING, path, *statements],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def __enter__(self):
        assert self._process.stdout.readline() == b"ready\n"

    def __exit__(self, *_):
        self._process.communicate()
        assert self._process.returncode == 0


def test_a_log_that_another_process_is_writing_gives_what_is_committed_and_stays(tmp_path):
    folder = tmp_path / "live"
    folder.mkdir()
    path = folder / "app.db"
    statements = (
        "PRAGMA journal_mode = wal",
        "CREATE TABLE t (x)",
        "INSERT INTO t VALUES ('committed')",
        "BEGIN",
        "INSERT INTO t VALUES ('not yet')",
    )
    with Holder(path, *statements):
        before = files_in(folder)
        assert set(before) == {"app.db", "app.db-wal", "app.db-shm"}
        for number, options in enumerate(((), ("--page-size", "512"))):
            image = tmp_path / f"{number}.stable"
            assert call("import", path, image, *options).exit_code == 0
            assert call("extract", image, tmp_path / f"{number}.db").exit_code == 0
            assert (tmp_path / f"{number}.db").stat().st_size == 2 * (4096, 512)[number]
            assert table_rows(tmp_path / f"{number}.db")[1:] == ([[("committed",)]], [("ok",)])
        assert files_in(folder) == before
    assert table_rows(path)[1:] == ([[("committed",)]], [("ok",)])


def test_a_database_that_somebody_writes_to_says_so(tmp_path):
    path = tmp_path / "app.db"
    make(path)
    with Holder(path, "BEGIN EXCLUSIVE"):
        result = call("import", path, tmp_path / "app.stable")
        assert result.exit_code == 2
        assert "cannot be read now: database is locked; somebody else is writing" in result.stderr
    assert call("import", path, tmp_path / "app.stable").exit_code == 0


def test_a_database_that_is_changed_while_it_is_read_is_refused(tmp_path):
    path = tmp_path / "app.db"
    make(path, before="PRAGMA journal_mode = wal")
    with open_source(path) as source:
        pieces = source.pieces()
        next(pieces)
        os.utime(path, ns=(1, 1))
        with pytest.raises(ImageError, match="somebody else has changed the database"):
            list(pieces)


def test_a_database_in_a_folder_nobody_may_write_to_is_read(tmp_path):
    for mode in ("delete", "wal"):
        path = tmp_path / mode / "app.db"
        path.parent.mkdir()
        make(path, before=f"PRAGMA journal_mode = {mode}")
        path.chmod(0o444)
        path.parent.chmod(0o555)
        try:
            with Canister() as canister:
                canister.import_database(path)
                assert canister.query("SELECT count(*) FROM account").rows == [(301,)]
            assert [one.name for one in path.parent.iterdir()] == ["app.db"]
        finally:
            path.parent.chmod(0o755)


# -- locks ----------------------------------------------------------------------------------------


WRITING = """
import sys, apsw
try:
    apsw.Connection(sys.argv[1]).execute(sys.argv[2]).fetchall()
except apsw.BusyError:
    print("locked")
else:
    print("written")
"""


def written_elsewhere(path, sql="INSERT INTO account (owner) VALUES ('other')"):
    command = [sys.executable, "-c", WRITING, path, sql]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


OPENINGS = {
    "imported": lambda path: Canister().import_database(path),
    "imported by the command": lambda path: call("import", path, path.with_suffix(".stable")),
    "re-paginated": lambda path: Canister().import_database(path, page_size=512),
}
LIBRARIES = {
    "apsw": lambda path: apsw.Connection(str(path)),
    "sqlite3": lambda path: sqlite3.connect(path, isolation_level=None),
}


@pytest.mark.parametrize("lock", ["BEGIN IMMEDIATE", "BEGIN EXCLUSIVE"])
@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize(
    "opening",
    [pytest.param(it, marks=[] if it == "imported" else [pytest.mark.slow]) for it in OPENINGS],
)
def test_looking_at_a_database_leaves_the_locks_that_this_process_has(
    tmp_path, opening, library, lock
):
    path = tmp_path / "app.db"
    make(path)
    with closing(LIBRARIES[library](path)) as mine:
        mine.execute(lock)
        assert written_elsewhere(path) == "locked"
        expects = pytest.raises(ImageError, match=r"app\.db cannot be read now: database is locked")
        is_refused = "EXCLUSIVE" in lock and "command" not in opening
        with expects if is_refused else nullcontext():
            OPENINGS[opening](path)
        assert written_elsewhere(path) == "locked"
        mine.execute("COMMIT")
        assert written_elsewhere(path) == "written"


@pytest.mark.parametrize("library", LIBRARIES)
def test_looking_at_a_log_leaves_the_locks_of_the_process_that_writes_it(tmp_path, library):
    path = tmp_path / "app.db"
    make(path, before="PRAGMA journal_mode = wal")
    with closing(LIBRARIES[library](path)) as mine:
        mine.execute("INSERT INTO account (owner) VALUES ('in the log')")
        with Canister() as canister:
            canister.import_database(path)
            assert canister.query("SELECT count(*) FROM account").rows == [(302,)]
        # Who closes last takes the log in and deletes it; that may not be somebody else.
        assert written_elsewhere(path, "SELECT count(*) FROM account") == "written"
        assert Path(f"{path}-wal").exists()
        mine.execute("INSERT INTO account (owner) VALUES ('in the log, too')")
    assert table_rows(path)[1][0][-1][1] == "in the log, too"


@pytest.mark.slow
def test_a_database_that_is_open_here_is_checked_and_needs_what_it_needs(needy):
    path, said = needy
    with closing(apsw.Connection(str(path))) as mine, Canister() as canister:
        mine.execute("SELECT * FROM note")
        (text,) = canister.import_database(path).notes
        assert said in text
        assert str(path) in text
    path.write_bytes(path.read_bytes()[:5000])
    with (
        closing(apsw.Connection(str(path))),
        Canister() as canister,
        pytest.raises(ImageError, match=r"deck\.db is truncated"),
    ):
        canister.import_database(path)


def test_no_descriptor_of_a_database_stays_open(tmp_path):
    make(tmp_path / "app.db", before="PRAGMA journal_mode = wal")
    Path(tmp_path / "bad.db").write_bytes(b"SQLite format 3\0" + b"\xff" * 5000)
    with Canister() as canister:
        canister.import_database(tmp_path / "app.db")
        with pytest.raises(ImageError):
            Canister().import_database(tmp_path / "bad.db")
        assert open_descriptors(tmp_path) == []
