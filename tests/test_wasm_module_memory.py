"""The module, on a plain host: its stable memory, call by call, as the native engine's."""

import itertools
import random
import struct
from contextlib import closing
from dataclasses import replace

import apsw
import pytest

from sqlstable import Canister, MemoryManager, SqlError, StableMemory, StableVFS, Trap
from sqlstable.engine.measured.module.builds import BUILDS
from sqlstable.ic.accesses import Accesses
from sqlstable.ic.limits import latest_limits
from sqlstable.ic.words import GROW, READ, SIZE, WRITE
from tests.witness_host import Host

PAGE_SIZES = (512, 1024, 2048, 4096, 8192, 16_384, 32_768, 65_536)
WASM_PAGE = 65_536

WORKLOAD = (
    "CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT, b REAL, c BLOB); CREATE INDEX t_a ON t (a)",
    (
        "WITH RECURSIVE n (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n LIMIT 1500) "
        "INSERT INTO t (a, b, c) SELECT 'x' || i, i * 0.5, randomblob(i % 200) FROM n"
    ),
    "SELECT count(*), sum(b) FROM t WHERE a LIKE '%7%'",
    "UPDATE t SET a = a || 'y' WHERE id % 3 = 0",
    "DELETE FROM t WHERE id % 5 = 0",
    "CREATE VIRTUAL TABLE f USING fts5 (x)",
    "INSERT INTO f SELECT a || ' ' || hex(c) FROM t LIMIT 300",
    "SELECT count(*) FROM f WHERE f MATCH 'x7'",
    "VACUUM",
    "SAVEPOINT s; UPDATE t SET b = 1; RELEASE s",
    "CREATE VIRTUAL TABLE r USING rtree (id, x0, x1); INSERT INTO r SELECT id, b, b + 1 FROM t",
    "SELECT count(*) FROM r WHERE x0 > 100 AND x1 < 110",
    "ANALYZE",
    "SELECT t1.id FROM t t1 JOIN t t2 ON t1.a = t2.a WHERE t2.b > 700",
    "DROP INDEX t_a",
    "PRAGMA integrity_check",
    "SELECT name, pageno FROM dbstat",
    "SELECT max(length(hex(c))), random() FROM t",
    "INSERT INTO t (c) VALUES (zeroblob(300000))",
    "DELETE FROM t WHERE length(c) > 1000; PRAGMA user_version = 5",
    "SELECT * FROM nowhere",
    "SELECT count(*) FROM t",
)


class LoggedCanister(Canister):
    """A native canister that keeps the accesses of its last message."""

    def __init__(self, **settings):
        super().__init__(depth="pages", owners=False, **settings)
        log = self.memory.log
        take = log.take

        def keep():
            taken = take()
            self.log = [row[:3] for row in Accesses.joined(taken.chunks(0, len(taken))).rows]
            return taken

        log.take = keep


def native_rows(canister, sql):
    try:
        return canister.update(sql).rows
    except SqlError as error:
        return str(error)


def module_rows(host, sql):
    reply = host.update(sql)
    return reply.rows if reply.failure is None else reply.failure.message


def memory_with_buckets_apart():
    """A memory in which another one's buckets lie between those of the database."""
    memory = StableMemory()
    manager = MemoryManager(memory, bucket_wasm_pages=1)
    other, database = manager.get(7), manager.get(120)
    for _ in range(8):
        other.grow(1)
        database.grow(1)
    return memory


# -- the same calls as the native engine ----------------------------------------------------------


def compare(settings, *, memory=StableMemory, workload=WORKLOAD):
    with closing(LoggedCanister(memory=memory(), **settings)) as native:
        host = Host(memory=memory(), **settings)
        for sql in workload:
            expected, found = native_rows(native, sql), module_rows(host, sql)
            if isinstance(expected, str):
                assert expected.startswith(found)
                # The native engine gives up its heap with the message.
                native.upgrade()
                host.upgrade()
                continue
            assert found == expected, sql
            assert host.log == native.log, sql
        native.upgrade()
        host.upgrade()
        assert host.log == [*opening_size(settings), *native.log]
        for sql in ("SELECT count(*), sum(b) FROM t", "SELECT id FROM t WHERE b > 100"):
            assert host.query(sql, cold=True).rows == native.query(sql).rows
            assert host.log == native.log, sql
        assert host.memory.image() == native.image()


def opening_size(settings):
    """Only a canister must ask how large its memory is; the native engine's raw layout knows."""
    return [(SIZE, 0, 0)] if settings.get("layout") == "raw" else []


@pytest.mark.parametrize("layout", ["managed", "raw"])
@pytest.mark.parametrize("page_size", [512, 4096, 65_536])
def test_calls_and_bytes_are_the_native_engines(page_size, layout):
    compare({"page_size": page_size, "layout": layout, "bucket_pages": 3})


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["managed", "raw"])
@pytest.mark.parametrize("cache_size", [10, 500])
@pytest.mark.parametrize("page_size", PAGE_SIZES)
def test_calls_and_bytes_at_every_page_size(page_size, cache_size, layout):
    compare({"page_size": page_size, "layout": layout, "bucket_pages": 1, "cache_size": cache_size})


@pytest.mark.parametrize("journal_mode", ["memory", "off"])
@pytest.mark.parametrize("growth", ["bucket", "wasm-page"])
def test_calls_by_growth_and_journal(growth, journal_mode):
    compare({"growth": growth, "bucket_pages": 5, "journal_mode": journal_mode, "cache_size": 20})


def test_calls_in_buckets_that_lie_apart():
    compare({"bucket_pages": 1}, memory=memory_with_buckets_apart)


def test_a_small_cache_spills_alike_and_rolls_back():
    workload = (
        *WORKLOAD[:2],
        "BEGIN; UPDATE t SET c = randomblob(500); ROLLBACK",
        "SAVEPOINT s; UPDATE t SET c = randomblob(400); ROLLBACK TO s; RELEASE s",
        "PRAGMA integrity_check",
        *WORKLOAD[2:5],
    )
    compare({"cache_size": 5, "bucket_pages": 2}, workload=workload)


def test_what_opening_calls():
    host = Host()
    # Formatting the manager: its header, then its table.
    assert host.log == [
        *[(SIZE, 0, 0)] * 2,
        *[(GROW, 0, 1), (WRITE, 0, 2080), (SIZE, 0, 0), (WRITE, 2080, 32_768)],
    ]
    host.rows("CREATE TABLE t (x)")
    assert host.log == [
        *[(SIZE, 0, 0), (WRITE, 2080, 1), (SIZE, 0, 0), (SIZE, 0, 0), (GROW, 0, 128)],
        *[(SIZE, 0, 0), (WRITE, 0, 2080)],
        *[(WRITE, WASM_PAGE, 4096), (WRITE, WASM_PAGE + 4096, 4096)],
    ]
    host.upgrade()
    assert host.log == [
        *[(SIZE, 0, 0), (READ, 0, 3), (READ, 0, 2080), (READ, 2080, 32_768)],
        *[(READ, WASM_PAGE, 100), (READ, WASM_PAGE, 4096)],
    ]


# -- one image, two engines -----------------------------------------------------------------------


@pytest.mark.parametrize("build", sorted(BUILDS))
@pytest.mark.parametrize("layout", ["managed", "raw"])
def test_the_native_engine_opens_the_image_and_the_other_way_round(layout, build):
    host = Host(layout=layout, build=build, cache_size=20)
    host.rows("CREATE TABLE t (x)")
    host.many("INSERT INTO t VALUES (?)", [(i,) for i in range(3000)])
    memory = StableMemory.from_image(host.memory.image())
    with Canister(memory=memory, layout=layout) as native:
        assert native.query("PRAGMA integrity_check").rows == [("ok",)]
        assert native.query("SELECT sum(x) FROM t").rows == [(4_498_500,)]
        native.update("INSERT INTO t SELECT x FROM t")
        image = native.image()
    again = Host(memory=StableMemory.from_image(image), layout=layout, build=build, cache_size=20)
    assert again.rows("SELECT sum(x) FROM t") == [(8_997_000,)]
    assert again.rows("PRAGMA integrity_check") == [("ok",)]


def test_a_vfs_opens_the_image():
    host = Host()
    host.rows("CREATE TABLE t (x); INSERT INTO t VALUES (42)")
    vfs = StableVFS(StableMemory.from_image(host.memory.image()))
    connection = vfs.connect()
    assert connection.execute("SELECT x FROM t").fetchall() == [(42,)]
    connection.close()
    vfs.unregister()


def test_other_memories_are_left_alone():
    memory = memory_with_buckets_apart()
    other = MemoryManager(memory).get(7)
    other.write(0, b"theirs" * 10_000)
    host = Host(memory=memory)
    host.rows("CREATE TABLE t (x)")
    host.many("INSERT INTO t VALUES (?)", [("x" * 1000,) for _ in range(900)])
    manager = MemoryManager(memory)
    assert manager.get(7).read(0, 60_000) == b"theirs" * 10_000
    assert len(manager.buckets(120)) > 8
    assert host.rows("SELECT count(*), min(x) FROM t") == [(900, "x" * 1000)]
    host.upgrade()
    assert host.rows("SELECT count(*), min(x) FROM t") == [(900, "x" * 1000)]


# -- the life of the heap -------------------------------------------------------------------------


def test_an_upgrade_keeps_stable_memory_and_forgets_the_heap():
    host = Host()
    host.rows("CREATE TABLE t (x); INSERT INTO t VALUES (1); CREATE TEMP TABLE u (y)")
    host.rows("SELECT * FROM t")
    assert host.log == []
    image = host.memory.image()
    host.upgrade()
    assert host.memory.image() == image
    assert host.update("SELECT * FROM u").failure.message == "no such table: u"
    assert host.rows("SELECT * FROM t") == [(1,)]
    assert host.log == [(READ, WASM_PAGE + 4096, 4096)]


def test_a_query_leaves_nothing_behind():
    host = Host()
    host.rows("CREATE TABLE t (x); INSERT INTO t VALUES (1)")
    image = host.memory.image()
    assert host.query("DELETE FROM t RETURNING x").rows == [(1,)]
    assert host.memory.image() == image
    assert host.rows("SELECT * FROM t") == [(1,)]


@pytest.mark.parametrize("layout", ["managed", "raw"])
def test_a_first_transaction_that_was_undone_leaves_an_empty_database(layout):
    host = Host(layout=layout, cache_size=5)
    host.rows(
        "BEGIN; CREATE TABLE t (x); WITH RECURSIVE n (i) AS (VALUES (1) UNION ALL SELECT i + 1 "
        "FROM n LIMIT 300) INSERT INTO t SELECT zeroblob(1000) FROM n; ROLLBACK"
    )
    assert host.memory.wasm_pages > 1
    assert host.update("SELECT 1").finish.database_bytes == 0
    host.upgrade()
    assert host.rows("SELECT count(*) FROM sqlite_schema") == [(0,)]
    host.rows("CREATE TABLE t (x); INSERT INTO t VALUES (1)")
    host.upgrade()
    assert host.rows("SELECT * FROM t") == [(1,)]
    assert host.rows("PRAGMA integrity_check") == [("ok",)]


def test_growth_over_many_buckets():
    host = Host(bucket_pages=1)
    host.rows("CREATE TABLE t (x)")
    for _ in range(5):
        host.many("INSERT INTO t VALUES (zeroblob(?))", [(10_000,) for _ in range(40)])
    manager = MemoryManager(StableMemory.from_image(host.memory.image()))
    assert manager.buckets(120) == tuple(range(len(manager.buckets(120))))
    assert manager.sizes() == {120: len(manager.buckets(120))}
    assert len(manager.buckets(120)) >= 30
    host.upgrade()
    assert host.rows("SELECT count(*), sum(length(x)) FROM t") == [(200, 2_000_000)]


def test_vacuum_makes_the_file_shorter_and_keeps_the_memory():
    host = Host(page_size=1024)
    host.rows("CREATE TABLE t (x)")
    host.many("INSERT INTO t VALUES (zeroblob(?))", [(1000,) for _ in range(400)])
    before = host.rows("DELETE FROM t WHERE rowid > 5 RETURNING 1")
    assert len(before) == 395
    long = host.update("SELECT 1").finish.database_bytes
    host.rows("VACUUM")
    short = host.update("SELECT 1").finish.database_bytes
    assert short < long / 10
    host.upgrade()
    assert host.update("SELECT 1").finish.database_bytes == short


def test_another_page_size_by_vacuum():
    host = Host()
    host.rows("CREATE TABLE t (x); INSERT INTO t VALUES (1)")
    host.rows("PRAGMA journal_mode = off; PRAGMA page_size = 16384; VACUUM")
    host.upgrade()
    assert host.rows("PRAGMA page_size") == [(16_384,)]
    assert host.rows("SELECT * FROM t") == [(1,)]


# -- no room --------------------------------------------------------------------------------------


def limited(wasm_pages):
    return StableMemory(limits=replace(latest_limits(), stable_memory_wasm_pages_max=wasm_pages))


FILL = (
    "WITH RECURSIVE n (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n LIMIT 900) "
    "INSERT INTO t SELECT zeroblob(1000) FROM n"
)


def test_full_stable_memory_is_an_sql_error_in_layout_raw():
    host = Host(memory=limited(4), layout="raw")
    host.rows("CREATE TABLE t (x)")
    reply = host.update(FILL)
    assert reply.failure.code == apsw.SQLITE_FULL
    with Canister(memory=limited(4), layout="raw") as native:
        native.update("CREATE TABLE t (x)")
        with pytest.raises(SqlError) as caught:
            native.update(FILL)
        assert str(caught.value).startswith(reply.failure.message)
    assert reply.failure.message.startswith("stable memory is full: the database needs 266240")
    assert reply.finish.is_autocommit
    assert host.rows("SELECT count(*) FROM t") == [(0,)]
    assert host.rows("PRAGMA integrity_check") == [("ok",)]


def test_full_stable_memory_is_a_trap_of_the_memory_manager():
    texts = []
    host = Host(memory=limited(5), bucket_pages=2)
    host.rows("CREATE TABLE t (x)")
    image = host.memory.image()
    with pytest.raises(Trap) as caught:
        host.update(FILL)
    texts.append(str(caught.value))
    assert host.memory.image() == image
    assert host.rows("SELECT count(*) FROM t") == [(0,)]
    with Canister(memory=limited(5), bucket_pages=2) as native:
        native.update("CREATE TABLE t (x)")
        with pytest.raises(Trap) as caught:
            native.update(FILL)
        texts.append(str(caught.value))
    assert texts[0] == texts[1]
    assert "3 buckets of 2 Wasm pages need 7 Wasm pages" in texts[0]


def test_no_room_for_the_managers_own_header():
    with pytest.raises(Trap, match="grow failed: the memory manager's own 2080 bytes at byte 0"):
        Host(memory=limited(0))


def test_no_bucket_left_is_an_sql_error():
    memory = StableMemory()
    manager = MemoryManager(memory, bucket_wasm_pages=1)
    assert manager.get(5).grow(32_766) == 0
    host = Host(memory=memory)
    host.rows("CREATE TABLE t (x)")
    failure = host.update(FILL).failure
    assert failure.code == apsw.SQLITE_FULL
    assert "stable memory is full: the database needs 135168 bytes and 131072" in failure.message
    assert host.rows("SELECT count(*) FROM t") == [(0,)]


def test_a_limit_traps_and_the_next_message_is_as_if_nothing_was():
    limits = latest_limits()
    few = replace(limits.update, os_pages_dirty_max=20)
    host = Host(memory=StableMemory(limits=replace(limits, update=few)))
    host.rows("CREATE TABLE t (x)")
    image = host.memory.image()
    with pytest.raises(Trap, match="modified pages in the stable memory in a single execution"):
        host.update(FILL)
    assert host.memory.image() == image
    assert host.rows("INSERT INTO t VALUES (1) RETURNING x") == [(1,)]
    assert host.rows("PRAGMA integrity_check") == [("ok",)]


def test_a_trap_at_any_access_leaves_nothing():
    def fresh():
        memory = StableMemory()
        host = Host(memory=memory, bucket_pages=1, cache_size=5)
        host.rows("CREATE TABLE t (x); CREATE INDEX i ON t (x)")
        return host

    sql = "INSERT INTO t VALUES (zeroblob(90000)), (1); DELETE FROM t WHERE x = 1; SELECT * FROM t"
    host = fresh()
    host.rows(sql)
    count = len(host.log)
    image = host.memory.image()
    chosen = [*random.Random(1).sample(range(count), 12), 0, count - 1]
    for number in chosen:
        host = fresh()
        before = host.memory.image()
        fail_once(host.memory, number)
        with pytest.raises(Trap, match="on purpose"):
            host.update(sql)
        assert host.memory.image() == before
        host.rows(sql)
        assert host.memory.image() == image


def fail_once(memory, number):
    """Make the access of that number, counted from 0, trap."""
    numbers = itertools.count()

    def failing(plain):
        def call(*arguments):
            if next(numbers) == number:
                raise Trap("failed on purpose")
            return plain(*arguments)

        return call

    for name in ("access_read", "access_write", "grow", "size"):
        setattr(memory, name, failing(getattr(memory, name)))


# -- damaged images -------------------------------------------------------------------------------


def damaged(change, *, layout="managed"):
    host = Host(layout=layout)
    host.rows("CREATE TABLE t (x)")
    image = bytearray(host.memory.image())
    changed = change(image)
    return StableMemory.from_image(bytes(image if changed is None else changed))


def put(offset, data):
    def change(image):
        image[offset : offset + len(data)] = data

    return change


@pytest.mark.parametrize(
    ("layout", "change", "message"),
    [
        ("managed", put(0, b"XYZ"), "no memory manager in this memory of 129 Wasm pages"),
        ("managed", put(3, b"\2"), "layout version 2; only version 1 was ever released"),
        ("managed", put(4, struct.pack("<H", 9)), "9 buckets of 128 Wasm pages in a memory of 129"),
        ("managed", put(6, b"\0\0"), "1 buckets of 0 Wasm pages"),
        ("managed", put(2085, b"\7"), "bucket 5 belongs to memory 7, but only 1 buckets"),
        ("managed", put(48, b"\1"), "memory 1 has 1 Wasm pages, but only 0 buckets"),
        ("managed", lambda image: image[: 100 * WASM_PAGE], "in a memory of 100"),
        ("managed", put(WASM_PAGE, b"NOT"), "no SQLite database is there"),
        ("managed", put(WASM_PAGE + 16, b"\1\1"), "states SQLite pages of 257 bytes"),
        ("managed", put(WASM_PAGE + 18, b"\2\2"), "the database is in WAL mode"),
        ("managed", put(WASM_PAGE + 28, b"\xff" * 4), "the image is truncated"),
        ("raw", put(0, b"MGR"), "no SQLite database is there"),
        ("raw", put(28, b"\0\0\1\0"), "says it has 1048576 bytes, but only 65536 are there"),
    ],
)
def test_damaged_images_trap_with_the_reason(layout, change, message):
    memory = damaged(change, layout=layout)
    image = memory.image()
    with pytest.raises(Trap, match=message):
        Host(memory=memory, layout=layout)
    assert memory.image() == image


@pytest.mark.slow
def test_any_damage_gives_an_error_or_a_trap():
    host = Host(page_size=512, bucket_pages=1)
    host.rows("CREATE TABLE t (x, y); CREATE INDEX i ON t (y)")
    host.many("INSERT INTO t VALUES (?, ?)", [(i, "y" * (i % 90)) for i in range(300)])
    host.rows("CREATE VIRTUAL TABLE f USING fts5 (x); INSERT INTO f VALUES ('a b c')")
    good = host.memory.image()
    chance = random.Random(7)
    for _ in range(60):
        image = bytearray(good)
        for _ in range(chance.randrange(1, 12)):
            start = chance.choice((0, WASM_PAGE))
            image[chance.randrange(start, start + 30_000)] = chance.randrange(256)
        try:
            damaged_host = Host(memory=StableMemory.from_image(bytes(image)), is_foreign=True)
            damaged_host.update("SELECT * FROM t ORDER BY y; SELECT * FROM f WHERE f MATCH 'a'")
            damaged_host.update("PRAGMA integrity_check; UPDATE t SET y = x; VACUUM")
        except (Trap, SqlError):
            pass


def test_a_foreign_database_is_opened_defensively():
    host = Host()
    host.rows("CREATE TABLE t (x)")
    foreign = Host(memory=StableMemory.from_image(host.memory.image()), is_foreign=True)
    failure = foreign.update("PRAGMA writable_schema = on; DELETE FROM sqlite_schema").failure
    assert failure.message == "table sqlite_master may not be modified"
