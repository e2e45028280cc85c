"""The life of a canister: set-up, upgrade, reinstallation, time and randomness."""

import random
from contextlib import closing, suppress
from dataclasses import replace

import apsw
import pytest

from sqlstable import (
    Canister,
    LimitTrap,
    SettingsError,
    SqlError,
    StableMemory,
    Trap,
    latest_limits,
)
from tests.canister_world import LAYOUTS, canister_fixture, reads  # noqa: F401  a fixture
from tests.doors import series


def update_and_trap(canister, *statements):
    with canister.message("update") as message:
        for sql in statements:
            message.execute(sql)
        message.trap()


# -- set-up of connections ------------------------------------------------------------------------


def test_a_set_up_is_replayed_on_every_connection(canister):
    def set_up(connection):
        connection.create_scalar_function("twice", lambda x: 2 * x, 1)
        connection.execute("PRAGMA foreign_keys = on").fetchall()

    canister.query("SELECT 1")
    canister.on_connect(set_up)
    sql = "SELECT twice(21), foreign_keys FROM pragma_foreign_keys"

    def everywhere():
        replies = [canister.update(sql)]
        replies += [canister.query(sql, cache=cache) for cache in ("fresh", "cold", "warm")]
        return {tuple(reply.rows) for reply in replies}

    assert everywhere() == {((42, 1),)}
    with pytest.raises(Trap, match="called trap"):
        update_and_trap(canister, "DELETE FROM t")
    assert everywhere() == {((42, 1),)}
    with pytest.raises(SqlError):
        canister.update("SELECT nothing")
    assert everywhere() == {((42, 1),)}
    canister.upgrade()
    assert everywhere() == {((42, 1),)}
    canister.reinstall()
    assert everywhere() == {((42, 1),)}


def test_a_set_up_that_fails_is_refused_and_forgotten(canister):
    def set_up(connection):
        connection.execute("SELECT * FROM missing")

    with pytest.raises(apsw.SQLError, match="no such table"):
        canister.on_connect(set_up)
    canister.upgrade()
    assert canister.query("SELECT count(*) FROM t").rows == [(300,)]


def test_a_set_up_that_writes_is_refused_outside_of_a_message(canister):
    before = canister.image()
    with pytest.raises(apsw.ReadOnlyError):
        canister.on_connect(lambda connection: connection.execute("DELETE FROM t"))
    assert canister.image() == before
    assert canister.query("SELECT count(*) FROM t").rows == [(300,)]
    assert reads(canister.update("SELECT 1")) == 0


# -- upgrade and reinstall ------------------------------------------------------------------------


def test_an_upgrade_wipes_the_heap_and_keeps_stable_memory(canister):
    canister.update("CREATE TEMP TABLE heap (x); INSERT INTO heap VALUES (1)")
    canister.update("PRAGMA cache_size = 7")
    assert canister.query("SELECT count(*) FROM heap", cache="warm").rows == [(1,)]
    before = canister.image()
    reply = canister.upgrade()
    assert reply.outcome == "committed"
    assert canister.image() == before
    with pytest.raises(SqlError, match="no such table: heap"):
        canister.query("SELECT count(*) FROM heap", cache="warm")
    assert canister.query("PRAGMA cache_size").rows == [(500,)]
    assert canister.query("SELECT count(*) FROM t").rows == [(300,)]


def test_an_upgrade_that_traps_leaves_the_canister_as_it_was_and_usable(tmp_path):
    limits = latest_limits()
    limits = replace(limits, upgrade=replace(limits.upgrade, os_pages_accessed_max=9))
    memory = StableMemory()
    with Canister(memory=memory) as canister:
        canister.update("CREATE TABLE t (x); INSERT INTO t VALUES (1)")
        memory.limits = limits
        before = canister.image()
        # The manager's header and bucket table are 9 OS pages; the database comes on top.
        with pytest.raises(LimitTrap, match="memory access limits"):
            canister.upgrade()
        assert canister.image() == before
        assert canister.query("SELECT x FROM t").rows == [(1,)]
        canister.update("INSERT INTO t VALUES (2)")
        memory.limits = latest_limits()
        canister.upgrade()
        assert canister.query("SELECT x FROM t").rows == [(1,), (2,)]


def random_message(generator):
    number = generator.randrange(40)
    return generator.choice(
        [
            f"INSERT OR REPLACE INTO t VALUES ({number}, printf('%.*c', {number * 37}, 'a'))",
            f"UPDATE t SET x = x || 'longer' WHERE id % {number + 1} = 0",
            f"DELETE FROM t WHERE id % 7 = {number % 7}",
            f"CREATE TABLE IF NOT EXISTS t{number % 3} AS SELECT * FROM t",
            f"DROP TABLE IF EXISTS t{number % 3}",
            "CREATE INDEX IF NOT EXISTS i ON t (x)",
            "DROP INDEX IF EXISTS i",
            "VACUUM",
            f"INSERT INTO f VALUES ('some words {number}')",
            f"DELETE FROM f WHERE f MATCH 'words' AND rowid < {number}",
            "BEGIN; DELETE FROM t; ROLLBACK",
            f"INSERT INTO t (x) SELECT printf('%.*c', 900, 'b') FROM {series(20)}",
            "INSERT INTO t VALUES (1, 2, 3)",
        ]
    )


def rows_of_everything(canister):
    tables = canister.query(
        "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name"
    ).rows
    return {name: canister.query(f"SELECT * FROM {name} ORDER BY 1").rows for (name,) in tables}


def database_without_counters(canister, path):
    """The database's bytes but for what SQLite increments once per connection that writes."""
    canister.extract_database(path, overwrite=True)
    data = bytearray(path.read_bytes())
    data[24:28] = data[92:96] = bytes(4)
    return data


@pytest.mark.parametrize("seed", range(8))
def test_an_upgrade_between_any_two_messages_changes_nothing(seed, tmp_path):
    generator = random.Random(seed)
    options = {
        "layout": generator.choice(LAYOUTS),
        "page_size": generator.choice((512, 4096, 65_536)),
        "journal_mode": "memory",
        "cache_size": generator.choice((8, 500)),
        "bucket_pages": generator.choice((1, 128)),
    }
    plain, upgraded = Canister(**options), Canister(**options)
    for canister in (plain, upgraded):
        canister.update("CREATE TABLE t (id INTEGER PRIMARY KEY, x)")
        canister.update("CREATE VIRTUAL TABLE f USING fts5(x)")
    for _ in range(40):
        sql = random_message(generator)
        for canister in (plain, upgraded):
            with suppress(SqlError):
                canister.update(sql)
        if generator.random() < 0.5:
            before = upgraded.image()
            upgraded.upgrade()
            assert upgraded.image() == before
        assert rows_of_everything(plain) == rows_of_everything(upgraded), f"seed {seed}: {sql}"
    first, second = (database_without_counters(c, tmp_path / "db") for c in (plain, upgraded))
    assert first == second, f"seed {seed}"
    assert plain.memory.wasm_pages == upgraded.memory.wasm_pages
    assert upgraded.query("PRAGMA integrity_check").rows == [("ok",)]
    plain.close()
    upgraded.close()


def test_a_vacuum_into_another_sqlite_page_size_is_learned_at_once(tmp_path):
    with Canister(trace=tmp_path / "run.trace") as canister:
        canister.update("CREATE TABLE t (x)")
        canister.update(f"INSERT INTO t SELECT hex(zeroblob(900)) FROM {series(40)}")
        canister.update("PRAGMA page_size = 16384; VACUUM")
        assert canister.settings.page_size == 16_384
        reply = canister.query("SELECT * FROM t")
        assert reply.footprint.bytes_read == 16_384 * reads(reply)
        assert {owner.name for owner in reply.statements[0].owners} == {"sqlite_schema", "t"}
        with pytest.raises(Trap, match="called trap"):
            update_and_trap(canister, "PRAGMA page_size = 512", "VACUUM")
        # The next VACUUM keeps the size, on a connection that was opened after the trap.
        canister.update("VACUUM")
        assert canister.query("PRAGMA page_size").rows == [(16_384,)]
        assert canister.settings.page_size == 16_384
        with closing(canister.trace()) as trace:
            assert trace.settings["page_size"] == 16_384


@pytest.mark.parametrize("layout", ["managed", "raw"])
def test_wal_is_refused_with_the_reason_and_the_canister_stays_usable(layout):
    with pytest.raises(SettingsError, match="wal is not available: no canister has the shared"):
        Canister(layout=layout, journal_mode="wal")
    canister = Canister(layout=layout)
    canister.update("CREATE TABLE t (id INTEGER PRIMARY KEY, x TEXT)")
    canister.update(f"INSERT INTO t SELECT i, 'x' FROM {series(300)}")
    for run in (canister.update, canister.query):
        with pytest.raises(SqlError, match="choose memory or off, or in layout managed"):
            run("PRAGMA journal_mode = WAL")
    canister.update("INSERT INTO t VALUES (900, 'goes on')")
    canister.upgrade()
    assert canister.query("SELECT count(*) FROM t").rows == [(301,)]


@pytest.mark.parametrize("journal", ["delete", "truncate", "persist"])
def test_a_journal_that_a_script_asks_for_lies_in_stable_memory(canister, journal):
    size_bytes = canister.status().stable_size_bytes
    assert canister.update(f"PRAGMA journal_mode = {journal}").rows == [(journal,)]
    before = canister.image()
    with pytest.raises(Trap, match="called trap"):
        update_and_trap(canister, "PRAGMA cache_size = 3", "UPDATE t SET x = x || 'y'")
    assert canister.image() == before
    canister.update(f"PRAGMA journal_mode = {journal}")
    canister.update("BEGIN; DELETE FROM t; ROLLBACK; UPDATE t SET x = 'z'")
    assert canister.query("SELECT count(*), max(x) FROM t").rows == [(300, "z")]
    assert canister.query("PRAGMA integrity_check").rows == [("ok",)]
    # Beside the database: the file directory and the journal, a bucket of 8 MiB each.
    assert canister.status().stable_size_bytes == size_bytes + 2 * 128 * 65_536
    kinds = [info.kind for info in canister.vfs.stable_files()]
    assert kinds == ["database", "file directory", "journal"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_reinstall_wipes_stable_memory_too(layout):
    canister, new = Canister(layout=layout), Canister(layout=layout)
    canister.update("CREATE TABLE t (x)")
    canister.update(f"INSERT INTO t SELECT hex(zeroblob(900)) FROM {series(900)}")
    assert canister.reinstall().outcome == "committed"
    assert canister.image() == new.image()
    assert canister.query("SELECT * FROM sqlite_schema").rows == []
    for one in (canister, new):
        one.update("CREATE TABLE other (x)")
    assert canister.image() == new.image()
    canister.close()
    new.close()


def test_status_counts_messages_and_sizes():
    with Canister(bucket_pages=4) as canister:
        assert canister.status().database_size_bytes == 0
        canister.update("CREATE TABLE t (x)")
        canister.query("SELECT 1")
        status = canister.status()
        assert (status.messages, status.database_size_bytes) == (3, 8192)
        assert status.stable_size_bytes == (1 + 4) * 65_536
        assert status.settings["locking_mode"] == "exclusive"


# -- time and randomness --------------------------------------------------------------------------


def test_time_is_pinned():
    sql = "SELECT datetime('now'), CURRENT_TIMESTAMP, date('now', '+1 day'), unixepoch()"
    with Canister() as canister:
        at = "2026-01-01 00:00:00"
        assert canister.query(sql).rows == [(at, at, "2026-01-02", 1_767_225_600)]
        assert canister.update(sql).rows == canister.query(sql, cache="fresh").rows
        canister.upgrade()
        assert canister.query("SELECT datetime('now')").rows == [(at,)]
    with Canister(now="2021-05-10 12:00:00.250") as canister:
        sql = "SELECT strftime('%Y-%m-%d %H:%M:%f', 'now')"
        assert canister.query(sql).rows == [("2021-05-10 12:00:00.250",)]


def draws(**options):
    sql = "SELECT random(), hex(randomblob(6)), random()"
    with Canister(**options) as canister:
        canister.update("CREATE TABLE t (a DEFAULT (random()), b)")
        canister.update("INSERT INTO t (b) VALUES (1), (2)")
        rows = [canister.query("SELECT a FROM t").rows]
        rows += [canister.update(sql).rows, canister.query(sql).rows, canister.query(sql).rows]
        canister.upgrade()
        return [*rows, canister.update(sql).rows]


def test_randomness_is_seeded():
    assert draws() == draws() == draws(seed=0)
    assert draws(seed=1) != draws(seed=2)
    assert draws(layout="raw", page_size=512, depth="pages") == draws()


def test_each_message_draws_its_own_numbers():
    drawn = draws()
    assert len({str(rows) for rows in drawn}) == len(drawn)
    (first, _, second) = drawn[1][0]
    assert first != second


def test_a_random_limit_of_blobs_is_that_of_sqlite():
    with Canister() as canister:
        rows = canister.query("SELECT length(randomblob(0)), length(randomblob(-5))").rows
        assert rows == [(1, 1)]
