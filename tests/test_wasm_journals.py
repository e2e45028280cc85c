"""Journals in stable memory and attached databases: on the wasm engine, call by call the same.

The bytes are compared whole, but for journals: each of their headers has a random number in it,
which SQLite draws for itself on either engine.
"""

import itertools
from contextlib import closing

import pytest

from sqlstable import Canister, ImageError, SqlError, StableMemory, StableVFS, Trap
from sqlstable.database.settings import PRESETS
from sqlstable.engine.measured.module.builds import BUILDS
from sqlstable.layout.directory import DIRECTORY_BYTES, DIRECTORY_MEMORY_ID, decode
from sqlstable.layout.layout import Peek
from sqlstable.layout.managed import first_bytes
from sqlstable.memory.manager import read_tables
from sqlstable.wasm.shimstore import shim_of
from tests.doors import series
from tests.test_wasm_module_memory import (
    WORKLOAD,
    LoggedCanister,
    memory_with_buckets_apart,
    module_rows,
    native_rows,
)
from tests.used_pages import used_pages
from tests.witness_host import Host

MODES = ("delete", "truncate", "persist")

SHORT = (
    "CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT, b); CREATE INDEX t_a ON t (a)",
    f"INSERT INTO t SELECT i, 'x' || i * 7 % 101, zeroblob(i * 5) FROM {series(300)}",
    "UPDATE t SET a = a || 'y' WHERE id % 3 = 0",
    "BEGIN; UPDATE t SET b = randomblob(500); ROLLBACK",
    "SAVEPOINT s; UPDATE t SET b = randomblob(400); ROLLBACK TO s; RELEASE s",
    "INSERT INTO t SELECT id + 200, 'again', 1 FROM t",
    "DELETE FROM t WHERE id % 5 = 0",
    "VACUUM",
    "PRAGMA integrity_check",
    "SELECT count(*), sum(length(b)) FROM t",
)
"""One statement of it fails half-way."""

ATTACHING = (
    "CREATE TABLE t (id INTEGER PRIMARY KEY, a)",
    f"INSERT INTO t SELECT i, zeroblob(900) FROM {series(60)}",
    "ATTACH 'other.db' AS o",
    "CREATE TABLE o.u (x UNIQUE, y)",
    "INSERT INTO o.u SELECT id, a FROM t",
    "ATTACH 'third.db' AS p; CREATE TABLE p.u (x)",
    "BEGIN; INSERT INTO p.u SELECT x FROM o.u; UPDATE o.u SET y = 1; DELETE FROM t; ROLLBACK",
    "BEGIN; INSERT INTO p.u SELECT x FROM o.u; UPDATE o.u SET y = 1; DELETE FROM t; COMMIT",
    "INSERT INTO t SELECT x, y FROM o.u",
    "BEGIN; DELETE FROM p.u; DELETE FROM o.u; DELETE FROM t; ROLLBACK",
    "PRAGMA o.journal_mode = persist; UPDATE o.u SET y = 2 WHERE x % 2",
    "PRAGMA p.journal_mode = memory; UPDATE p.u SET x = x + 1",
    "DETACH p; ATTACH 'third.db' AS q; SELECT count(*), sum(x) FROM q.u",
    "VACUUM o",
    "PRAGMA o.integrity_check",
    "SELECT sum(t.id), count(*) FROM t JOIN o.u ON u.x = t.id",
)


def without_journals(image):
    """The bytes of an image, zeros where a journal is, and what files there are."""
    memory = StableMemory.from_image(image)
    peek = Peek.at(memory)
    tables = read_tables(peek.read, peek.wasm_pages)
    directory = first_bytes(peek, tables, DIRECTORY_MEMORY_ID, DIRECTORY_BYTES)
    data = bytearray(image)
    for entry in decode(directory).values() if directory else ():
        if entry.kind == "journal":
            for bucket in tables.buckets[entry.memory_id]:
                at = tables.bucket_address(bucket)
                data[at : at + tables.bucket_bytes] = bytes(tables.bucket_bytes)
    return bytes(data)


def compare(settings, workload, *, memory=StableMemory, build="standard", after=()):
    """Send the same to both; build lean has a page cache of its own, so it reads and spills others.

    Of that build are compared rows, errors and the SQLite pages that hold something.
    """
    with closing(LoggedCanister(memory=memory(), **settings)) as native:
        host = Host(memory=memory(), build=build, **settings)

        def check_stable_memory(sql):
            if build == "lean":
                theirs = used_pages(native.image(), lambda it: native.query(it).rows, "managed")
                ours = used_pages(host.memory.image(), host.rows, "managed")
            else:
                assert host.log == native.log, sql
                ours, theirs = map(without_journals, (host.memory.image(), native.image()))
            assert ours == theirs, sql

        def check(sql):
            expected, found = native_rows(native, sql), module_rows(host, sql)
            if isinstance(expected, str):
                assert expected.startswith(found), sql
                # The native engine gives up its heap with the message.
                native.upgrade()
                host.upgrade()
            else:
                assert found == expected, sql
            check_stable_memory(sql)

        for sql in workload:
            check(sql)
        native.upgrade()
        host.upgrade()
        check_stable_memory("upgrade")
        for sql in after:
            check(sql)


@pytest.mark.parametrize("mode", MODES)
def test_journals_are_the_native_engines_call_by_call(mode):
    compare({"journal_mode": mode, "bucket_pages": 1, "cache_size": 12}, SHORT)


@pytest.mark.parametrize("growth", ["bucket", "wasm-page"])
def test_attached_databases_are_the_native_engines_call_by_call(growth):
    settings = {"bucket_pages": 2, "growth": growth, "cache_size": 12}
    again = ("ATTACH 'other.db' AS o", "SELECT count(*), sum(y) FROM o.u", "DELETE FROM o.u")
    compare(settings, ATTACHING, after=again)


@pytest.mark.slow
@pytest.mark.parametrize("build", sorted(BUILDS))
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("page_size", [512, 4096, 65_536])
def test_journals_at_every_page_size(page_size, mode, build):
    settings = {"page_size": page_size, "journal_mode": mode, "bucket_pages": 1, "cache_size": 9}
    compare(settings, WORKLOAD[:13] + SHORT[2:5], build=build)
    compare(settings, ATTACHING, build=build, memory=memory_with_buckets_apart)


# -- traps ----------------------------------------------------------------------------------------

FILL = f"INSERT INTO t SELECT i, 'x' || i, zeroblob(400) FROM {series(60)}"
SWEPT = "BEGIN; UPDATE t SET b = 'y' || id; INSERT INTO t SELECT id + 100, a, 1 FROM t; COMMIT"
SWEPT_TWO = (
    "BEGIN; INSERT INTO p.u SELECT x FROM o.u; UPDATE o.u SET x = x + 1; "
    "CREATE TABLE p.v (y); COMMIT"
)


TRAPPED = (
    ("persist", 4096, 1, "standard"),
    ("persist", 1024, 5, "lean"),
    ("delete", 4096, 1, "standard"),
    ("delete", 4096, 1, "lean"),
    ("truncate", 1024, 1, "standard"),
    ("truncate", 4096, 1, "lean"),
)
"""Each by its mode, bytes of a SQLite page, accesses between two traps, and build."""


class TrappingMemory(StableMemory):
    """Traps at one of its calls."""

    calls_left = None

    def _count(self):
        if self.calls_left is not None:
            self.calls_left -= 1
            if self.calls_left < 0:
                self.calls_left = None
                raise self.poison(Trap("injected"))

    def access_read(self, *arguments):
        self._count()
        return super().access_read(*arguments)

    def access_write(self, *arguments):
        self._count()
        super().access_write(*arguments)

    def grow(self, wasm_pages):
        self._count()
        return super().grow(wasm_pages)


def sweep(settings, setup, attach, swept, *, build="standard", stride=1):
    """Trap at each access of a message: nothing is changed, and what follows finds a database."""
    host = Host(memory=TrappingMemory(), build=build, **settings)
    host.rows(setup)
    if attach:
        host.rows(attach)
    host.upgrade()
    before = host.memory.image()
    for index in itertools.count(0, stride):
        if attach:
            host.rows(attach)
        host.memory.calls_left = index
        try:
            host.rows(swept)
        except Trap:
            assert host.memory.calls_left is None
        else:
            assert index > 20
            break
        assert host.memory.image() == before
        assert host.rows("PRAGMA integrity_check") == [("ok",)]
        assert host.memory.image() == before
    host.memory.calls_left = None
    assert host.rows("PRAGMA integrity_check") == [("ok",)]


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "page_size", "stride", "build"), TRAPPED)
def test_a_trap_at_any_access_leaves_nothing_of_a_journal(mode, page_size, stride, build):
    settings = {"page_size": page_size, "journal_mode": mode, "bucket_pages": 1, "cache_size": 7}
    sweep(settings, f"{SHORT[0]}; {FILL}", None, SWEPT, build=build, stride=stride)
    # The first transaction makes directory and journal.
    sweep(settings, "SELECT 1", None, f"{SHORT[0]}; {FILL}", build=build, stride=stride)


@pytest.mark.slow
@pytest.mark.parametrize(("build", "stride"), [("standard", 1), ("lean", 1)])
def test_a_trap_at_any_access_leaves_nothing_of_two_attached_databases(build, stride):
    setup = f"CREATE TABLE t (x); INSERT INTO t SELECT i FROM {series(99)}"
    attach = (
        "ATTACH 'other.db' AS o; CREATE TABLE IF NOT EXISTS o.u (x, y); "
        "INSERT INTO o.u SELECT x, zeroblob(300) FROM t WHERE NOT EXISTS (SELECT 1 FROM o.u); "
        "ATTACH 'third.db' AS p; CREATE TABLE IF NOT EXISTS p.u (x)"
    )
    settings = {"bucket_pages": 1, "cache_size": 7}
    sweep(settings, setup, attach, SWEPT_TWO, build=build, stride=stride)


@pytest.mark.parametrize(
    ("mode", "build"), [("persist", "standard"), ("delete", "standard"), ("persist", "lean")]
)
def test_out_of_instructions_at_any_point_leaves_nothing_of_a_journal(mode, build):
    settings = {"journal_mode": mode, "bucket_pages": 1, "cache_size": 7}
    with Canister(engine="wasm", build=build, **settings) as canister:
        canister.update(f"{SHORT[0]}; {FILL}")
        before, machine = canister.image(), shim_of(canister.memory).machine
        with canister.message("query") as message:
            message.execute(SWEPT)
        total = message.reply.message.instructions.total
        for permille in range(1, 1000, 40):
            with pytest.raises(Trap, match="instruction"), canister.message() as message:  # noqa: PT012
                machine.set_value("counter", total * permille // 1000)
                message.execute(SWEPT)
            assert canister.image() == before
        assert canister.query("PRAGMA integrity_check").rows == [("ok",)]
        canister.update(SWEPT)
        assert canister.query("PRAGMA integrity_check").rows == [("ok",)]


# -- one image, two engines -----------------------------------------------------------------------


ENGINES = {
    "native": {"engine": "native"},
    "wasm": {"engine": "wasm"},
    "lean": {"engine": "wasm", "build": "lean"},
}


def left_open(engine, mode, path):
    """An image whose journal is hot: a transaction has spilled, and its heap is gone."""
    with Canister(path, **ENGINES[engine], journal_mode=mode, cache_size=9) as canister:
        canister.update(f"{SHORT[0]}; {FILL}")
        canister.update("BEGIN; UPDATE t SET b = zeroblob(900)", allow_open_transaction=True)


@pytest.mark.parametrize(
    ("left_by", "opened_by", "mode"),
    [
        ("native", "wasm", "persist"),
        ("wasm", "native", "delete"),
        ("wasm", "wasm", "truncate"),
        ("lean", "native", "persist"),
        ("native", "lean", "delete"),
        ("wasm", "lean", "truncate"),
    ],
)
def test_either_engine_plays_back_the_journal_that_the_other_left(
    left_by, opened_by, mode, tmp_path
):
    path = tmp_path / "app.stable"
    left_open(left_by, mode, path)
    with pytest.raises(ImageError, match="plays back where it may write"):
        Canister(path, engine="wasm", read_only=True).query("SELECT 1")
    with Canister(path, **ENGINES[opened_by], journal_mode=mode) as canister:
        sql = "SELECT count(*), sum(length(b)) FROM t"
        assert canister.query(sql).rows == [(60, 24_000)]
        assert canister.query("PRAGMA integrity_check").rows == [("ok",)]
        canister.update("DELETE FROM t WHERE id > 9")
    with Canister(path, **ENGINES[left_by], journal_mode=mode) as canister:
        assert canister.query("SELECT count(*) FROM t").rows == [(9,)]


def test_attached_databases_go_from_engine_to_engine(tmp_path):
    path, total = tmp_path / "app.stable", 0
    for turn, engine in enumerate(("native", "wasm", "wasm", "native", "wasm")):
        with Canister(path, engine=engine, journal_mode="persist") as canister:
            with canister.message() as message:
                message.execute("ATTACH 'other.db' AS o; CREATE TABLE IF NOT EXISTS o.u (x)")
                message.execute("INSERT INTO o.u VALUES (?)", (turn,))
                message.execute("CREATE TABLE IF NOT EXISTS t (x); INSERT INTO t SELECT * FROM o.u")
            total += turn
            assert canister.query("SELECT sum(x) FROM o.u").rows == [(total,)]
            names = [file.name for file in canister.vfs.stable_files()]
            assert "other.db" in names
            assert "main.db-journal" in names


def test_an_image_with_another_main_name_opens():
    memory = StableMemory()
    vfs = StableVFS(memory)
    connection = vfs.connect("app.db")
    sql = "PRAGMA journal_mode = persist; CREATE TABLE t (x); INSERT INTO t VALUES (7)"
    connection.execute(sql).fetchall()
    connection.close()
    vfs.unregister()
    with Canister(engine="wasm", memory=memory, journal_mode="persist") as canister:
        canister.update("INSERT INTO t VALUES (8)")
        assert canister.query("SELECT sum(x) FROM t").rows == [(15,)]
        assert [file.name for file in canister.vfs.stable_files()].count("app.db-journal") == 1


@pytest.mark.parametrize(
    "sql",
    [
        "ATTACH 'a-journal' AS o",
        "ATTACH 'folder/' AS o",
        f"ATTACH '{'n' * 241}' AS o",
        f"ATTACH '{'n' * 300}' AS o",
        "PRAGMA journal_mode = wal",
        "ATTACH 'o.db' AS o; PRAGMA o.journal_mode = wal",
    ],
)
def test_both_engines_refuse_in_the_same_words(sql):
    words = []
    for engine in ("native", "wasm"):
        with Canister(engine=engine) as canister:
            with pytest.raises(SqlError) as caught:
                canister.update(sql)
            words.append(str(caught.value))
            assert canister.query("SELECT 1").rows == [(1,)]
    assert words[0] == words[1]


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_presets_run_as_they_are(preset):
    images = []
    for engine in ("native", "wasm"):
        with Canister(engine=engine, preset=preset, limits=None) as canister:
            canister.update(f"{SHORT[0]}; {FILL}")
            canister.update("UPDATE t SET b = 1 WHERE id < 7")
            [(mode,)] = canister.update("PRAGMA journal_mode").rows
            assert mode == PRESETS[preset]["journal_mode"]
            images.append(without_journals(canister.image()))
    assert images[0] == images[1]
