"""The canister: messages, what they answer, trap for, and must not leave open."""

from contextlib import closing

import apsw
import pytest

from sqlstable import (
    Canister,
    MessageError,
    SqlError,
    Trap,
)
from tests.canister_world import canister_fixture, reads  # noqa: F401  a fixture
from tests.doors import series


def sqlite_pages(canister, name):
    with closing(canister.vfs.observe()) as connection:
        sql = "SELECT count(*) FROM dbstat WHERE name = ?"
        return connection.execute(sql, (name,)).fetchall()[0][0]


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
        pytest.raises(MessageError, match="A transaction alone may stay open"),
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
