"""The life of a canister: messages, heap states, set-ups, upgrades, import and extract."""

import copy
import gzip
import os
import pickle
import random
import shutil
import sqlite3
import stat
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import apsw
import pytest

from sqlstable import (
    Canister,
    ImageError,
    LimitTrap,
    MemoryManagerError,
    MessageError,
    SettingsError,
    SqlError,
    StableMemory,
    StableVFS,
    Trap,
    latest_limits,
)

VECTORS = Path(__file__).parent / "vectors"
LAYOUTS = ("managed", "raw")


def series(last):
    return (
        "(WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n "
        f"LIMIT {last}) SELECT i FROM n)"
    )


@pytest.fixture
def canister():
    """A canister with a table of some SQLite pages, and a schema of more than one."""
    canister = Canister()
    for number in range(60):
        canister.update(f"CREATE TABLE empty_{number} (column_one, column_two, column_three)")
    canister.update("CREATE TABLE t (id INTEGER PRIMARY KEY, x TEXT)")
    canister.update(f"INSERT INTO t SELECT i, printf('%.*c', 200, 'x') FROM {series(300)}")
    yield canister
    canister.close()


def sqlite_pages(canister, name):
    with closing(canister.vfs.observe()) as connection:
        sql = "SELECT count(*) FROM dbstat WHERE name = ?"
        return connection.execute(sql, (name,)).fetchall()[0][0]


def reads(reply):
    return reply.footprint.calls.read


def update_and_trap(canister, *statements):
    with canister.message("update") as message:
        for sql in statements:
            message.execute(sql)
        message.trap()


# -- fresh, cold and warm -------------------------------------------------------------------------


def test_a_fresh_query_reads_the_schema_and_a_cold_one_does_not(canister):
    table, schema = sqlite_pages(canister, "t"), sqlite_pages(canister, "sqlite_schema")
    assert schema > 2
    sql = "SELECT * FROM t"
    cold, fresh = canister.query(sql), canister.query(sql, cache="fresh")
    # SQLite page 1 holds the root of the schema; the header is read by itself on opening.
    assert reads(cold) == table + 1
    assert reads(fresh) == 1 + schema + table
    # The PRAGMAs of the set-up need the schema already.
    assert [(use.name, use.stable.calls.read) for use in fresh.message.outside] == [
        ("open", 1 + schema)
    ]
    assert fresh.statements[0].stable.calls.read == table
    assert cold.message.outside == ()
    assert {phase: use.calls.read for phase, use in cold.statements[0].phases.items()} == {
        "prepare": 0,
        "run": table + 1,
        "commit": 0,
    }


def test_each_cold_query_starts_with_an_empty_page_cache(canister):
    sql = "SELECT * FROM t"
    footprints = [canister.query(sql).footprint for _ in range(3)]
    assert len({(f.calls, f.bytes_read, tuple(f.accessed)) for f in footprints}) == 1


def test_what_an_update_cached_survives_for_updates_and_warm_queries(canister):
    canister.update("SELECT * FROM t")
    assert reads(canister.update("SELECT * FROM t")) == 0
    assert reads(canister.query("SELECT * FROM t", cache="warm")) == 0
    assert reads(canister.query("SELECT * FROM t")) > 10
    assert reads(canister.update("UPDATE t SET x = 'y' WHERE id = 5")) == 0


def test_what_a_query_cached_does_not_disturb_the_next_update():
    seen = []
    for queries in (0, 3):
        canister = Canister(cache_size=10)
        canister.update("CREATE TABLE t (id INTEGER PRIMARY KEY, x TEXT)")
        canister.update(f"INSERT INTO t SELECT i, printf('%.*c', 200, 'x') FROM {series(300)}")
        canister.update("SELECT x FROM t WHERE id < 50")
        for cache in ("cold", "fresh", "cold")[:queries]:
            canister.query("SELECT * FROM t WHERE id > 200", cache=cache)
        footprint = canister.update("SELECT x FROM t WHERE id < 200").footprint
        seen.append((footprint.calls, footprint.accessed.tolist()))
        canister.close()
    assert seen[0] == seen[1]
    assert seen[0][0].read > 0


def test_a_warm_query_keeps_what_it_cached_for_the_next_update(canister):
    canister.upgrade()
    assert reads(canister.query("SELECT * FROM t", cache="warm")) > 10
    assert reads(canister.update("SELECT * FROM t")) == 0


def test_the_first_message_after_an_upgrade_finds_an_empty_heap(canister):
    table, schema = sqlite_pages(canister, "t"), sqlite_pages(canister, "sqlite_schema")
    canister.update("SELECT * FROM t")
    # Magic, header and bucket table of the memory manager; then the database's header.
    assert reads(canister.upgrade()) == 3 + 1 + schema
    assert reads(canister.update("SELECT * FROM t")) == table


def test_a_query_sees_what_updates_committed_and_learns_new_schemas_unseen(canister):
    assert canister.query("SELECT count(*) FROM t").rows == [(300,)]
    canister.update("INSERT INTO t VALUES (900, 'new')")
    assert canister.query("SELECT x FROM t WHERE id = 900").rows == [("new",)]
    canister.update("ALTER TABLE t ADD COLUMN more DEFAULT 5; CREATE TABLE later (y)")
    reply = canister.query("SELECT more FROM t WHERE id = 900")
    assert reply.rows == [(5,)]
    assert reply.statements[0].phases["prepare"].calls.read == 0
    assert canister.query("SELECT * FROM later").rows == []


@pytest.mark.parametrize("cache", ["cold", "warm", "fresh"])
@pytest.mark.parametrize(
    "sql",
    [
        "PRAGMA cache_size = 7",
        "PRAGMA foreign_keys = on",
        "CREATE TEMP TABLE left_over (x)",
        "ATTACH ':memory:' AS left_over",
        "UPDATE t SET x = 'in vain'",
        "BEGIN; CREATE TABLE left_over (x); COMMIT",
    ],
)
def test_what_a_query_does_to_its_connection_goes_with_it(canister, cache, sql):
    canister.query(sql, cache=cache)
    for later in ("cold", "warm", "fresh"):
        reply = canister.query(
            "SELECT (SELECT cache_size FROM pragma_cache_size), "
            "(SELECT foreign_keys FROM pragma_foreign_keys), "
            "(SELECT count(*) FROM pragma_database_list WHERE name = 'left_over'), "
            "(SELECT count(*) FROM pragma_table_list WHERE name = 'left_over'), "
            "(SELECT count(*) FROM t WHERE x = 'in vain')",
            cache=later,
        )
        assert reply.rows == [(500, 0, 0, 0, 0)]


@pytest.mark.parametrize("cache", ["cold", "warm", "fresh"])
def test_a_query_that_writes_through_a_function_leaves_nothing_either(canister, cache):
    def set_up(connection):
        def write(number):
            connection.execute("INSERT INTO t VALUES (?, 'from a function')", (number,))

        connection.create_scalar_function("write", write, 1)

    canister.on_connect(set_up)
    before = canister.image()
    reply = canister.query("SELECT write(900)", cache=cache)
    assert (reply.outcome, reply.discarded_writes) == ("discarded", True)
    assert canister.image() == before
    for later in ("cold", "warm"):
        assert canister.query("SELECT count(*) FROM t", cache=later).rows == [(300,)]
    canister.update("INSERT INTO t VALUES (900, 'kept')")
    assert canister.query("PRAGMA integrity_check").rows == [("ok",)]


# -- replies --------------------------------------------------------------------------------------


def test_a_message_answers_the_rows_of_all_its_statements_in_order(canister):
    with canister.message("query", label="both") as message:
        assert message.execute("SELECT 1 UNION SELECT 2; SELECT 'three'") == [
            (1,),
            (2,),
            ("three",),
        ]
        assert message.execute("SELECT :x", {"x": 4}) == [(4,)]
    assert message.reply.rows == [(1,), (2,), ("three",), (4,)]
    assert message.reply.message.label == "both"
    assert message.reply.outcome == "discarded"


def test_a_message_has_no_reply_while_it_is_open(canister):
    with (
        canister.message("update") as message,
        pytest.raises(MessageError, match="no reply yet: read it after its with block"),
    ):
        _ = message.reply


def test_a_message_that_trapped_answers_no_rows_but_what_it_touched(canister):
    message = canister.message("update")

    def run():
        with message:
            message.execute("DELETE FROM t RETURNING id")
            message.trap("enough")

    with pytest.raises(Trap, match="enough"):
        run()
    reply = message.reply
    assert (reply.outcome, reply.rows, reply.message.trap) == ("trapped", [], "enough")
    assert reply.footprint.os_pages_dirty > 1


def test_a_query_that_only_reads_has_discarded_nothing(canister):
    assert not canister.query("SELECT 1").discarded_writes
    assert canister.query("DELETE FROM t").discarded_writes


# -- traps ----------------------------------------------------------------------------------------


def test_any_exception_that_leaves_the_block_rolls_the_message_back(canister):
    before = canister.image()

    def fail():
        with canister.message("update") as message:
            message.execute("DELETE FROM t")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert canister.image() == before
    assert canister.query("SELECT count(*) FROM t").rows == [(300,)]


def test_an_sql_error_that_is_handled_leaves_the_rest_of_the_message(canister):
    with canister.message("update") as message:
        message.execute("INSERT INTO t VALUES (900, 'before')")
        with pytest.raises(SqlError, match=r"UNIQUE constraint failed: t\.id; in: INSERT"):
            message.execute("INSERT INTO t VALUES (900, 'again')")
        message.execute("INSERT INTO t VALUES (901, 'after')")
    assert canister.query("SELECT count(*) FROM t").rows == [(302,)]


def test_an_error_shows_a_long_statement_shortened(canister):
    with pytest.raises(SqlError) as caught:
        canister.update("SELECT " + "1,\n  " * 500 + "FROM")
    text = str(caught.value)
    assert len(text) < 300
    assert text.endswith("…")
    assert "\n" not in text


def test_a_trap_is_raised_by_its_own_text(canister):
    with pytest.raises(Trap, match=r"^out of cheese$"), canister.message("update") as message:
        message.trap("out of cheese")


# -- statements inside of statements --------------------------------------------------------------


def test_rows_may_come_from_a_cursor_of_the_same_message(canister):
    canister.update("CREATE TABLE copy (id, x)")
    with canister.message("update") as message:
        message.executemany("INSERT INTO copy VALUES (?, ?)", message.cursor("SELECT * FROM t"))
    assert canister.query("SELECT count(*) FROM copy").rows == [(300,)]
    assert [(one.sql[:6], one.runs) for one in message.reply.statements] == [
        ("SELECT", 1),
        ("INSERT", 300),
    ]


def test_an_error_in_the_end_of_an_abandoned_statement_is_raised(canister):
    canister.update("CREATE TABLE child (t REFERENCES t DEFERRABLE INITIALLY DEFERRED)")
    with canister.message("update") as message:
        message.execute("PRAGMA foreign_keys = on")
        cursor = message.cursor("INSERT INTO child VALUES (5000) RETURNING t")
        assert next(cursor) == (5000,)
        with pytest.raises(SqlError, match="FOREIGN KEY constraint failed"):
            cursor.close()


# -- what a message must not leave open -----------------------------------------------------------

LEFT_OPEN = [
    (lambda m: m.execute("BEGIN; DELETE FROM t"), "an open SQL transaction"),
    (lambda m: m.execute("SAVEPOINT s; DELETE FROM t"), "an open SQL transaction"),
    (lambda m: next(m.cursor("SELECT * FROM t")), r"1 open cursor\(s\)"),
    (lambda m: next(m.cursor("DELETE FROM t RETURNING id")), r"1 open cursor\(s\)"),
    (
        lambda m: [next(m.cursor("SELECT * FROM t")), next(m.cursor("SELECT x FROM t"))],
        r"2 open cursor\(s\)",
    ),
]


@pytest.mark.parametrize(("leave", "text"), LEFT_OPEN)
@pytest.mark.parametrize("kind", ["update", "query"])
def test_what_is_left_open_is_refused_with_an_explanation(canister, kind, leave, text):
    before = canister.image()

    def run():
        with canister.message(kind) as message:
            leave(message)

    with pytest.raises(
        MessageError, match=rf"^the {kind} message ended with {text}; .*other messages run in bet"
    ):
        run()
    assert canister.image() == before
    assert canister.query("SELECT count(*) FROM t").rows == [(300,)]
    canister.update("INSERT INTO t VALUES (900, 'goes on')")
    assert canister.query("PRAGMA integrity_check").rows == [("ok",)]


def test_a_transaction_may_stay_open_over_messages_on_request(canister):
    with canister.message("update", keep_open=True) as message:
        message.execute("BEGIN; INSERT INTO t VALUES (900, 'first')")
    assert canister.query("SELECT count(*) FROM t").rows == [(300,)]
    with canister.message("update", keep_open=True) as message:
        message.execute("INSERT INTO t VALUES (901, 'second')")
    canister.update("COMMIT")
    assert canister.query("SELECT count(*) FROM t").rows == [(302,)]


def test_a_transaction_that_stayed_open_dies_with_the_heap(canister):
    with canister.message("update", keep_open=True) as message:
        message.execute("BEGIN; INSERT INTO t VALUES (900, 'first')")
    canister.upgrade()
    with pytest.raises(SqlError, match="no transaction is active"):
        canister.update("COMMIT")
    assert canister.query("SELECT count(*) FROM t").rows == [(300,)]


def test_a_cursor_never_stays_open_over_messages(canister):
    with (
        pytest.raises(MessageError, match="a transaction alone may stay open"),
        canister.message("update", keep_open=True) as message,
    ):
        next(message.cursor("SELECT * FROM t"))


def test_a_transaction_left_in_a_query_goes_with_the_query(canister):
    for cache in ("cold", "warm", "fresh"):
        with canister.message("query", cache=cache, keep_open=True) as message:
            message.execute("BEGIN; DELETE FROM t")
        assert canister.query("SELECT count(*) FROM t", cache="warm").rows == [(300,)]
        canister.update("INSERT INTO t (x) VALUES ('x'); DELETE FROM t WHERE x = 'x'")


# -- one message at a time ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "action",
    [
        lambda c: c.update("SELECT 1"),
        lambda c: c.query("SELECT 1"),
        lambda c: c.upgrade(),
        lambda c: c.reinstall(),
        lambda c: c.import_database("nothing.db"),
        lambda c: c.extract_database("nothing.db"),
        lambda c: c.on_connect(print),
        lambda c: c.message().__enter__(),
    ],
)
def test_messages_do_not_nest(canister, action):
    with canister.message("update") as message:
        message.execute("INSERT INTO t VALUES (900, 'outer')")
        with pytest.raises(MessageError, match=r"a message \(update\) is open.*end it first"):
            action(canister)
        message.execute("INSERT INTO t VALUES (901, 'outer')")
    assert canister.query("SELECT count(*) FROM t").rows == [(302,)]


def test_a_message_is_used_once_and_inside_its_block(canister):
    message = canister.message("update")
    with pytest.raises(MessageError, match="inside its with block"):
        message.execute("SELECT 1")
    with message:
        message.execute("SELECT 1")
    with pytest.raises(MessageError, match="inside its with block"):
        message.execute("SELECT 1")
    with pytest.raises(MessageError, match="a message runs once"), message:
        pass


# -- closing --------------------------------------------------------------------------------------


def test_closing_twice_does_no_harm_and_closes_for_everything():
    canister = Canister()
    canister.close()
    canister.close()
    for action in (
        lambda: canister.update("SELECT 1"),
        lambda: canister.query("SELECT 1"),
        canister.upgrade,
        canister.reinstall,
        lambda: canister.extract_database("nothing.db"),
        lambda: canister.import_database("nothing.db"),
        lambda: canister.on_connect(print),
        canister.status,
        lambda: canister.vfs,
        lambda: canister.engine,
    ):
        with pytest.raises(MessageError, match="the canister is closed; make a new one"):
            action()


def test_closing_inside_a_message_abandons_it():
    canister = Canister(trace=":memory:")
    canister.update("CREATE TABLE t (x)")
    with canister.message("update") as message:
        message.execute("INSERT INTO t VALUES (1)")
        canister.close()
        with pytest.raises(MessageError, match="not open"):
            message.execute("SELECT 1")
    with closing(canister.trace()) as trace:
        assert (trace.messages[-1].outcome, trace.messages[-1].trap) == (
            "trapped",
            "the canister was closed",
        )


def test_a_closed_canister_leaves_no_vfs_behind():
    before = set(apsw.vfs_names())
    for _ in range(3):
        with Canister() as canister:
            canister.update("CREATE TABLE t (x)")
            canister.upgrade()
    assert set(apsw.vfs_names()) == before


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
        (vector_image(), "raw", ImageError, "open it with layout managed"),
        (vector_image()[65_536:], "managed", ImageError, "open it with layout='raw'"),
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
