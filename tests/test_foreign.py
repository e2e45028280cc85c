"""Databases of every kind on their way in and out, with plain SQLite as the witness."""

import ctypes
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

import sqlstable
from sqlstable import Canister, ImageError
from sqlstable.database import checking, foreign
from sqlstable.database.foreign import SourceOptions, open_source
from tests.images import files_in, open_descriptors
from tests.test_cli import call

LAYOUTS = ("managed", "raw")
ENGINES = ("native", "wasm")
PAGE_SIZES = (512, 1024, 2048, 4096, 8192, 16_384, 32_768, 65_536)

ROWS = """
    CREATE TABLE account (id INTEGER PRIMARY KEY, owner TEXT, cents INTEGER);
    CREATE INDEX account_owner ON account (owner);
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300)
    INSERT INTO account SELECT i, 'owner ' || i * 7919 % 1000, i * i FROM n;
    INSERT INTO account VALUES (1000, hex(zeroblob(40000)), 0)
"""


def make(path, *, before="", after="", rows=ROWS, version=None, reserved=0):
    """Make a database; ``version`` sets header fields that only old writers leave like that."""
    with closing(apsw.Connection(str(path))) as connection:
        if reserved:
            count = ctypes.c_int(reserved)
            operation = apsw.SQLITE_FCNTL_RESERVE_BYTES
            assert connection.file_control("main", operation, ctypes.addressof(count))
        connection.execute(f"{before}; {rows}; {after}").fetchall()
    if version is not None:
        content = bytearray(path.read_bytes())
        for offset, value in version.items():
            content[offset : offset + 4] = value.to_bytes(4, "big")
        path.write_bytes(content)


def table_rows(path):
    """Everything that the tables hold, and what SQLite finds wrong."""
    with closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)) as connection:
        names = connection.execute(
            "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name"
        ).fetchall()
        tables = [connection.execute(f'SELECT * FROM "{name}"').fetchall() for (name,) in names]
        return names, tables, connection.execute("PRAGMA integrity_check").fetchall()


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


# -- what only the database's own program has -----------------------------------------------------


def define(connection):
    connection.create_collation("unicase", lambda a, b: (a > b) - (a < b))
    connection.create_scalar_function(
        "checked", lambda value: value, flags=apsw.SQLITE_INNOCUOUS | apsw.SQLITE_DETERMINISTIC
    )


MISSING = {
    "collation": (
        "CREATE TABLE deck (name TEXT COLLATE unicase); CREATE UNIQUE INDEX d ON deck (name)",
        "there is no collation unicase here",
    ),
    "function in a check": (
        "CREATE TABLE deck (name TEXT CHECK (checked(name)))",
        "deck cannot be used in full: no such function: checked",
    ),
    "function in an index": (
        "CREATE TABLE deck (name); CREATE INDEX d ON deck (checked(name))",
        "deck cannot be used in full: unknown function: checked()",
    ),
    "generated column": (
        "CREATE TABLE deck (name, twice AS (checked(name)) STORED)",
        "deck cannot be used in full: unknown function: checked()",
    ),
}


@pytest.fixture(params=MISSING)
def needy(request, tmp_path):
    """A sound database that needs something, and what is said of it."""
    rows, said = MISSING[request.param]
    path = tmp_path / "deck.db"
    with closing(apsw.Connection(str(path))) as connection:
        define(connection)
        connection.execute(f"{rows}; INSERT INTO deck (name) VALUES (1), (2)")
        connection.execute("CREATE TABLE note (id); INSERT INTO note VALUES (7)")
    return path, said


def test_what_can_be_read_is_used_and_what_is_missing_is_named(needy, tmp_path):
    path, said = needy
    with Canister() as canister:
        (text,) = canister.import_database(path).notes
        assert said in text
        assert "--on-connect FILE.py or Canister.on_connect" in text
        assert canister.query("SELECT id FROM note").rows == [(7,)]
    for options in ((), ("--integrity-check",)):
        result = call("import", path, tmp_path / "deck.stable", "--force", *options)
        assert result.exit_code == 0
        assert said in result.stderr
        result = call("extract", tmp_path / "deck.stable", tmp_path / "out.db", "--force", *options)
        assert result.exit_code == 0
        assert said in result.stderr
        assert (tmp_path / "out.db").read_bytes() == path.read_bytes()


def test_on_connect_gives_what_is_missing_to_an_import(needy, tmp_path):
    path, _ = needy
    for is_thorough in (False, True):
        with Canister() as canister:
            canister.on_connect(define)
            reply = canister.import_database(path, integrity_check=is_thorough, page_size=512)
            assert all("its copy of 512" in note for note in reply.notes)
            assert len(canister.query("SELECT name FROM deck ORDER BY name").rows) == 2
            canister.update("INSERT INTO deck (name) VALUES (5)")
    (tmp_path / "setup.py").write_text(
        "import apsw\n"
        "def on_connect(connection):\n"
        "    connection.create_collation('unicase', lambda a, b: (a > b) - (a < b))\n"
        "    connection.create_scalar_function('checked', lambda value: value,\n"
        "        flags=apsw.SQLITE_INNOCUOUS | apsw.SQLITE_DETERMINISTIC)\n"
    )
    option = ("--on-connect", tmp_path / "setup.py")
    result = call("import", path, tmp_path / "deck.stable", *option)
    assert (result.exit_code, result.stderr) == (0, "")
    result = call("extract", tmp_path / "deck.stable", tmp_path / "out.db", *option)
    assert (result.exit_code, result.stderr) == (0, "")
    ask = "SELECT name FROM deck ORDER BY name;"
    for place in (("--database", path), ("--image", tmp_path / "deck.stable")):
        result = call("run", "-", *place, *option, "--rows", stdin=ask)
        assert result.exit_code == 0, result.stderr


def test_sqlite_pages_of_another_size_need_what_the_schema_names(needy, tmp_path):
    path, _ = needy
    before = files_in(tmp_path)
    result = call("import", path, tmp_path / "deck.stable", "--page-size", "512")
    assert result.exit_code == 2
    assert "cannot be copied with SQLite pages of another size" in result.stderr
    assert files_in(tmp_path) == before


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ("CREATE VIRTUAL TABLE f USING nobody(x)", "no such module: nobody"),
        ("CREATE VIRTUAL TABLE f USING fts5(x, tokenize='nobody')", "no such tokenizer: nobody"),
    ],
)
def test_a_module_or_tokenizer_nobody_has_is_no_damage(tmp_path, schema, said):
    path = tmp_path / "app.db"
    with closing(apsw.Connection(str(path))) as connection:
        connection.execute("CREATE TABLE note (id); INSERT INTO note VALUES (7)")
        connection.execute("CREATE VIRTUAL TABLE f USING fts5(x)")
        connection.execute("PRAGMA writable_schema = on")
        connection.execute("UPDATE sqlite_schema SET sql = ? WHERE name = 'f'", (schema,))
    with Canister() as canister:
        notes = canister.import_database(path).notes
        (note,) = notes
        assert said in note
        assert canister.query("SELECT id FROM note").rows == [(7,)]


def test_damage_is_told_from_what_is_missing(needy):
    path, _ = needy
    content = bytearray(path.read_bytes())
    with closing(apsw.Connection(str(path))) as connection:
        sql = "SELECT rootpage FROM sqlite_schema WHERE name = 'note'"
        (root,) = connection.execute(sql).fetchone()
    content[(root - 1) * 4096 : (root - 1) * 4096 + 8] = b"\xff" * 8
    path.write_bytes(content)
    with Canister() as canister, pytest.raises(ImageError, match=r"damaged|malformed"):
        canister.import_database(path)


def test_the_thorough_check_finds_what_an_index_lacks_and_the_quick_one_does_not(tmp_path):
    path = tmp_path / "app.db"
    make(path)
    with closing(apsw.Connection(str(path))) as connection:
        # What is changed while the schema knows of no index stays as it was in the index.
        connection.execute("PRAGMA writable_schema = on")
        schema = connection.execute("SELECT * FROM sqlite_schema WHERE type = 'index'").fetchall()
        connection.execute("DELETE FROM sqlite_schema WHERE type = 'index'")
    with closing(apsw.Connection(str(path))) as connection:
        connection.execute("UPDATE account SET owner = 'nobody' WHERE id = 5")
        connection.execute("PRAGMA writable_schema = on")
        connection.executemany("INSERT INTO sqlite_schema VALUES (?, ?, ?, ?, ?)", schema)
    assert call("import", path, tmp_path / "quick.stable").exit_code == 0
    result = call("import", path, tmp_path / "thorough.stable", "--integrity-check")
    assert result.exit_code == 2
    assert "is damaged: row 5 missing from index account_owner" in result.stderr
    with Canister() as canister, pytest.raises(ImageError, match="is damaged"):
        canister.import_database(path, integrity_check=True)


BAD_SETUPS = {
    "def on_connect(": "SyntaxError",
    "1 / 0": "ZeroDivisionError: division by zero",
    "on_connect = 7": "defines no on_connect(connection)",
    "def on_connect(connection): 1 / 0": "has failed: ZeroDivisionError",
    "def on_connect(): pass": "has failed: TypeError",
    "def on_connect(connection): connection.execute('SELECT nobody()')": "no such function",
}


@pytest.mark.parametrize("text", BAD_SETUPS)
@pytest.mark.parametrize("command", ["import", "run"])
def test_a_setup_that_fails_is_told_in_a_line(tmp_path, text, command, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "app.db")
    Path("setup.py").write_text(text)
    before = files_in(tmp_path)
    arguments = {
        "import": ("import", "app.db", "app.stable"),
        "run": ("run", "-", "--database", "app.db", "--image", "app.stable"),
    }[command]
    result = call(*arguments, "--on-connect", "setup.py", stdin="SELECT 1;")
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: ")
    assert BAD_SETUPS[text] in result.stderr
    assert "should not have happened" not in result.stderr
    assert files_in(tmp_path) == before


@pytest.mark.parametrize(
    ("name", "reason"),
    [("missing.py", "No such file"), (".", "is a folder"), ("app.db", "cannot be run")],
)
def test_a_setup_that_is_none_is_refused(tmp_path, name, reason, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "app.db")
    result = call("import", "app.db", "app.stable", "--on-connect", name)
    assert result.exit_code == 2
    assert reason in result.stderr


# -- names and kinds of input ---------------------------------------------------------------------

SPECIAL = (":memory:", "file::memory:", "file:app.db?mode=ro", "a?mode=memory", "a#b%41", "a b'\"")


@pytest.mark.parametrize("name", SPECIAL)
@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_a_file_is_a_file_whatever_it_is_called(tmp_path, name, mode, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make(tmp_path / name, before=f"PRAGMA journal_mode = {mode}")
    before = files_in(tmp_path)
    for path in (name, f"./{name}", tmp_path / name):
        with Canister() as canister:
            canister.import_database(path)
            assert canister.query("SELECT count(*) FROM account").rows == [(301,)]
    assert files_in(tmp_path) == before
    assert call("import", name, "app.stable").exit_code == 0
    result = call("run", "-", "--database", name, stdin="SELECT count(*) FROM account;")
    assert result.exit_code == 0, result.stderr
    assert call("extract", "app.stable", f"{name} out").exit_code == 0
    with Canister("app.stable") as canister:
        canister.extract_database(f"{name} again")
    assert Path(f"{name} again").read_bytes() == Path(f"{name} out").read_bytes()


@pytest.mark.parametrize("name", ["", ":memory:", "file:app.db", "app.db\0", "x" * 300])
def test_a_name_that_is_no_file_is_refused(tmp_path, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Canister() as canister, pytest.raises(ImageError, match="is not a file"):
        canister.import_database(name)


def test_the_bytes_of_a_database_are_checked_like_a_file(tmp_path):
    make(tmp_path / "app.db", version={28: 0})
    data = (tmp_path / "app.db").read_bytes()
    with Canister() as canister:
        canister.import_database(data)
        assert canister.query("PRAGMA integrity_check").rows == [("ok",)]
    for bad, reason in ((data[:5000], "damaged|malformed"), (b"nothing", "is not a SQLite")):
        with Canister() as canister, pytest.raises(ImageError, match=reason):
            canister.import_database(bad)


def test_another_size_of_sqlite_pages_than_that_of_an_image_is_refused(tmp_path):
    make(tmp_path / "app.db")
    image = tmp_path / "app.stable"
    assert call("import", tmp_path / "app.db", image).exit_code == 0
    before = image.read_bytes()
    result = call("run", "-", "--image", image, "--page-size", "8192", stdin="SELECT 1;")
    assert result.exit_code == 2
    assert "has SQLite pages of 4096 bytes, and --page-size asks for 8192" in result.stderr
    assert "sqlstable import APP.db NEW --page-size 8192" in result.stderr
    assert image.read_bytes() == before
    result = call("run", "-", "--image", image, "--page-size", "4096", stdin="SELECT 1;")
    assert result.exit_code == 0


@pytest.mark.parametrize("page_size", [0, -1, 500, 1000, 131_072])
def test_a_size_that_no_sqlite_page_has_is_refused(tmp_path, page_size):
    make(tmp_path / "app.db")
    for arguments in (
        ("import", tmp_path / "app.db", tmp_path / "app.stable"),
        ("run", "-", "--database", tmp_path / "app.db"),
    ):
        result = call(*arguments, "--page-size", page_size, stdin="SELECT 1;")
        assert result.exit_code == 2
        assert f"page_size is {page_size}" in result.stderr
    with Canister() as canister, pytest.raises(sqlstable.SettingsError, match="page_size is"):
        canister.import_database(tmp_path / "app.db", page_size=page_size)


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
