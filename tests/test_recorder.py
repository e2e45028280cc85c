"""Each kind of statement is billed to itself, in its phase; nothing falls between."""

import apsw
import pytest

import sqlstable
from sqlstable.trace.recording import recorder

WIDE = "x" * 900


@pytest.fixture
def connection():
    """A foreign connection with a table that spans many SQLite pages, and an empty cache."""
    memory = sqlstable.StableMemory()
    vfs = sqlstable.StableVFS(memory)
    connection = apsw.Connection("main.db", vfs=vfs.name)
    connection.execute("PRAGMA locking_mode = exclusive; PRAGMA journal_mode = memory").fetchall()
    connection.execute("CREATE TABLE a (id INTEGER PRIMARY KEY, s); CREATE TABLE b (id, s)")
    rows = [(number, WIDE) for number in range(200)]
    with connection:
        connection.executemany("INSERT INTO a VALUES (?, ?)", rows)
        connection.executemany("INSERT INTO b VALUES (?, ?)", rows)
    empty_cache(connection)
    yield connection
    connection.close(force=True)
    vfs.unregister()


def empty_cache(connection):
    connection.execute("PRAGMA shrink_memory").fetchall()


def table_sqlite_pages(connection, name):
    sql = "SELECT count(*) FROM dbstat WHERE name = ?"
    return connection.execute(sql, (name,)).fetchall()[0][0]


def billed(trace):
    """Calls billed to statements and to names outside, and all calls that the messages saw."""
    statements = [statement.stable.calls for statement in trace.statements]
    outside = [use.stable.calls for message in trace.messages for use in message.outside]
    whole = [message.stable.calls for message in trace.messages]
    total = lambda calls: (sum(c.read for c in calls), sum(c.write for c in calls))  # noqa: E731
    return total(statements), total(outside), total(whole)


def by_sql(trace, start):
    found = [statement for statement in trace.statements if statement.sql.startswith(start)]
    assert len(found) == 1, [statement.sql for statement in trace.statements]
    return found[0]


def test_interleaved_cursors_are_billed_step_by_step(connection):
    pages_a, pages_b = table_sqlite_pages(connection, "a"), table_sqlite_pages(connection, "b")
    empty_cache(connection)
    with sqlstable.record(connection) as trace:
        first, second = connection.execute("SELECT * FROM a"), connection.execute("SELECT * FROM b")
        for _ in range(200):
            next(first)
            next(second)
        assert first.fetchall() == second.fetchall() == []
    of_a, of_b = by_sql(trace, "SELECT * FROM a"), by_sql(trace, "SELECT * FROM b")
    # Whoever comes first also reads SQLite page 1 to see that the schema is unchanged.
    assert {of_a.stable.calls.read - 1, of_b.stable.calls.read} == {pages_a, pages_b}
    assert {owner.table for owner in of_b.owners} == {"b"}
    assert (of_a.row_count, of_b.row_count) == (200, 200)


def test_a_trigger_belongs_to_the_statement_that_fires_it(connection):
    connection.execute(
        "CREATE TRIGGER t AFTER INSERT ON a BEGIN INSERT INTO b VALUES (new.id, new.s); END"
    )
    empty_cache(connection)
    with sqlstable.record(connection) as trace:
        connection.execute("INSERT INTO a (s) VALUES ('new')")
    (statement,) = trace.statements
    assert {owner.table for owner in statement.owners} == {"a", "b", "sqlite_schema"}


def test_fts5s_inner_sql_belongs_to_the_statement_that_needs_it(connection):
    connection.execute("CREATE VIRTUAL TABLE f USING fts5 (body)")
    empty_cache(connection)
    with sqlstable.record(connection) as trace:
        connection.execute("INSERT INTO f VALUES ('some words to find')")
        connection.execute("SELECT rowid FROM f WHERE f MATCH 'words'").fetchall()
    assert [statement.sql[:6] for statement in trace.statements] == ["INSERT", "SELECT"]
    assert any(owner.table == "f_data" for owner in trace.statements[0].owners)
    statements, outside, whole = billed(trace)
    assert outside == (0, 0)
    assert statements == whole


def test_explain_and_explain_query_plan_are_statements_of_their_own(connection):
    with sqlstable.record(connection) as trace:
        connection.execute("EXPLAIN SELECT * FROM a").fetchall()
        connection.execute("EXPLAIN QUERY PLAN SELECT * FROM b").fetchall()
        connection.execute("SELECT count(*) FROM a").fetchall()
    explain, plan, count = trace.statements
    assert (explain.kind, plan.kind, count.kind) == ("read", "read", "read")
    assert explain.stable.calls.read == plan.stable.calls.read == 0
    assert count.stable.calls.read > 20


def test_an_abandoned_statement_gets_its_own_commit(connection):
    with sqlstable.record(connection) as trace:
        next(connection.execute("INSERT INTO a (s) VALUES ('r') RETURNING id"))
        connection.execute("SELECT 1").fetchall()
    insert = by_sql(trace, "INSERT")
    assert insert.phases["commit"].calls.write == insert.stable.calls.write >= 1
    assert by_sql(trace, "SELECT 1").stable.calls.read == 0
    assert [message.kind for message in trace.messages] == ["update", "query"]


def test_a_statement_never_closed_is_recorded_all_the_same(connection):
    with sqlstable.record(connection) as trace:
        cursor = connection.execute("SELECT * FROM a")
        for _ in range(50):
            next(cursor)
    (statement,) = trace.statements
    assert statement.row_count >= 49
    assert statement.stable.calls.read > 5
    cursor.close()


def test_a_statement_that_is_prepared_again_is_one_statement(connection):
    connection.execute("SELECT count(*) FROM a").fetchall()
    other = "ALTER TABLE b ADD COLUMN more"
    with sqlstable.record(connection) as trace:
        connection.execute(other)
        connection.execute("SELECT count(*) FROM a").fetchall()
    assert [statement.sql for statement in trace.statements] == [other, "SELECT count(*) FROM a"]


def back_up_into(connection):
    with apsw.Connection(":memory:") as source:
        source.execute("CREATE TABLE a (id INTEGER PRIMARY KEY, s); CREATE TABLE c (id)")
        source.executemany("INSERT INTO a VALUES (?, ?)", [(n, WIDE) for n in range(400)])
    with connection.backup("main", source, "main") as backup:
        backup.step(-1)
    source.close()


def back_up_from(connection):
    target = apsw.Connection(":memory:")
    with target.backup("main", connection, "main") as backup:
        backup.step(-1)
    target.close()


def read_blob(connection):
    with connection.blob_open("main", "a", "s", 150, writeable=False) as blob:
        blob.read()


def write_blob(connection):
    with connection.blob_open("main", "a", "s", 150, writeable=True) as blob:
        blob.write(b"y" * 100)


def fail_to_prepare(connection):
    with pytest.raises(apsw.SQLError):
        connection.execute("SELECT nothing FROM nobody")


def update_from_another_connection(connection):
    other = apsw.Connection("main.db", vfs=connection.open_vfs)
    other.execute("PRAGMA journal_mode = memory; UPDATE a SET s = 'short' WHERE id < 50").fetchall()
    other.close()


BETWEEN = (
    back_up_into,
    back_up_from,
    read_blob,
    write_blob,
    fail_to_prepare,
    update_from_another_connection,
)
AFTERWARDS = (
    "SELECT 1",
    "SELECT count(*) FROM a",
    "INSERT INTO a (s) VALUES ('more')",
    "PRAGMA page_count",
    "CREATE TABLE d (x)",
)


@pytest.mark.parametrize("locking", ["normal", "exclusive"])
@pytest.mark.parametrize("sql", AFTERWARDS)
@pytest.mark.parametrize("act", BETWEEN)
def test_what_happens_between_statements_is_billed_to_none_of_them(act, sql, locking):
    if act is update_from_another_connection and locking == "exclusive":
        # Nobody else comes in.
        locking = "normal"
    uses = []
    for is_recorded in (False, True):
        vfs = sqlstable.StableVFS(sqlstable.StableMemory())
        connection = apsw.Connection("main.db", vfs=vfs.name)
        connection.execute(f"PRAGMA locking_mode = {locking}; PRAGMA journal_mode = memory")
        connection.execute("CREATE TABLE a (id INTEGER PRIMARY KEY, s)")
        with connection:
            connection.executemany("INSERT INTO a VALUES (?, ?)", [(n, WIDE) for n in range(200)])
        empty_cache(connection)
        if not is_recorded:
            act(connection)
        with sqlstable.record(connection) as trace:
            if is_recorded:
                act(connection)
            connection.execute(sql).fetchall()
        (statement,) = trace.statements
        uses.append((statement.phases["run"], statement.phases["commit"]))
        # Only after a backup came in, the schema must be parsed: of one SQLite page, as it is here.
        parsed_pages = int(act is back_up_into)
        assert statement.phases["prepare"].os_pages_accessed <= parsed_pages
        statements, outside, whole = billed(trace)
        assert tuple(map(sum, zip(statements, outside, strict=True))) == whole
        message = trace.messages[statement.message]
        assert message.kind == ("update" if statement.stable.os_pages_dirty else "query")
        connection.close()
        vfs.unregister()
    assert uses[0] == uses[1]


def test_blob_io_and_backup_are_billed_to_their_windows(connection):
    with sqlstable.record(connection) as trace:
        with (
            trace.window("blob"),
            connection.blob_open("main", "a", "s", 150, writeable=False) as blob,
        ):
            blob.read()
        copy = apsw.Connection(":memory:")
        with trace.window("backup"), copy.backup("main", connection, "main") as backup:
            backup.step(-1)
        copy.close()
        connection.execute("SELECT 1").fetchall()
    names = {use.name for message in trace.messages for use in message.outside}
    assert names == {"blob", "backup"}
    statements, outside, whole = billed(trace)
    assert outside[0] > 50
    assert (statements[0] + outside[0], statements[1] + outside[1]) == whole


def test_a_failed_prepare_is_an_entry_of_its_own_in_a_canister():
    with sqlstable.Canister(trace=":memory:") as canister:
        canister.update("CREATE TABLE a (x)")
        canister.query("SELECT * FROM a")
        with canister.message("query") as message, pytest.raises(sqlstable.SqlError):
            message.execute("SELECT * FROM missing")
        names = {use.name: use.stable.calls.read for use in message.reply.message.outside}
    # SQLite looks at the schema cookie in SQLite page 1 before it says that a table is missing.
    assert names == {"prepare error": 1}
    assert message.reply.statements == ()


def test_executemany_is_one_statement_with_many_runs():
    with sqlstable.Canister() as canister:
        canister.update("CREATE TABLE a (x)")
        with canister.message("update") as message:
            message.execute("BEGIN")
            message.executemany("INSERT INTO a VALUES (?)", ((x,) for x in range(500)))
            message.execute("COMMIT")
        begin, insert, commit = message.reply.statements
    assert (begin.runs, insert.runs, commit.runs) == (1, 500, 1)
    assert insert.sql == "INSERT INTO a VALUES (?)"
    # SQLite keeps dirty SQLite pages in its cache until COMMIT.
    assert insert.stable.calls.write == 0
    assert commit.phases["commit"].calls.write == commit.stable.calls.write > 1


def test_autocommitted_runs_of_executemany_are_cut_at_each_commit():
    with sqlstable.Canister() as canister:
        canister.update("CREATE TABLE a (x)")
        with canister.message("update") as message:
            message.executemany("INSERT INTO a VALUES (?)", [(x,) for x in range(50)])
        (insert,) = message.reply.statements
    assert insert.runs == 50
    # The change counter in SQLite page 1 is written once, because the lock is never let go.
    assert insert.phases["commit"].calls.write == insert.stable.calls.write >= 50


@pytest.mark.parametrize("depth", ["counters", "pages"])
def test_run_and_commit_of_an_autocommit_are_told_apart(depth):
    with sqlstable.Canister(depth=depth) as canister:
        canister.update("CREATE TABLE a (id INTEGER PRIMARY KEY, s)")
        for _ in range(2):  # the first sight of a text takes another way than the second
            (insert,) = canister.update("INSERT INTO a (s) VALUES ('x')").statements
            assert insert.phases["run"].calls.write == 0
            assert insert.phases["commit"].calls.write == insert.stable.calls.write >= 1
            assert insert.phases["prepare"].calls.read == 0


def test_the_schema_read_in_a_fresh_heap_is_prepare():
    with sqlstable.Canister() as canister:
        canister.update("CREATE TABLE a (id INTEGER PRIMARY KEY, s)")
        canister.update("INSERT INTO a (s) VALUES ('x')")
        reply = canister.query("SELECT s FROM a WHERE id = 1", cache="fresh")
    outside = sum(use.stable.calls.read for use in reply.message.outside)
    assert outside + reply.statements[0].phases["prepare"].calls.read >= 2


def test_several_statements_in_one_text_are_cut():
    with sqlstable.Canister() as canister:
        canister.update("CREATE TABLE a (x)")
        sql = "INSERT INTO a VALUES (1); -- one\nSELECT x FROM a; SELECT 2, 3;"
        for _ in range(2):
            reply = canister.update(sql)
            assert [statement.sql for statement in reply.statements] == [
                "INSERT INTO a VALUES (1)",
                "SELECT x FROM a",
                "SELECT 2, 3",
            ]
        assert [statement.row_count for statement in reply.statements] == [0, 2, 1]


def test_interleaved_cursors_of_a_message_are_billed_step_by_step():
    with sqlstable.Canister(cache_size=10) as canister:
        canister.update("CREATE TABLE a (s); CREATE TABLE b (s)")
        with canister.message() as message:
            message.executemany("INSERT INTO a VALUES (?)", [(WIDE,)] * 100)
            message.executemany("INSERT INTO b VALUES (?)", [(WIDE,)] * 100)
        with canister.message("query") as message:
            first, second = message.cursor("SELECT * FROM a"), message.cursor("SELECT * FROM b")
            for _ in range(100):
                next(first)
                next(second)
            first.close()
            second.close()
        of_a, of_b = message.reply.statements
    assert of_a.row_count == of_b.row_count == 100
    assert abs(of_a.stable.calls.read - of_b.stable.calls.read) <= 1


def test_sql_inside_a_python_function_belongs_to_the_statement_that_calls_it():
    with sqlstable.Canister() as canister:
        canister.update("CREATE TABLE a (x); CREATE TABLE b (x)")
        canister.update("INSERT INTO a VALUES (1), (2); INSERT INTO b VALUES (10)")

        def setup(connection):
            def inner(x):
                return connection.execute("SELECT max(x) FROM b").fetchall()[0][0] + x

            connection.create_scalar_function("inner_max", inner, 1)

        canister.on_connect(setup)
        reply = canister.query("SELECT inner_max(x) FROM a")
    assert reply.rows == [(11,), (12,)]
    (statement,) = reply.statements
    assert statement.stable.calls.read == reply.message.stable.calls.read == 3


def test_a_recording_leaves_other_tracers_and_the_connection_alone(connection):
    seen = []
    connection.trace_v2(apsw.SQLITE_TRACE_STMT, lambda event: seen.append(event["sql"]), id="mine")
    with sqlstable.record(connection):
        connection.execute("SELECT 1").fetchall()
    connection.execute("SELECT 2").fetchall()
    assert "SELECT 1" in seen
    assert seen[-1] == "SELECT 2"


def test_only_connections_in_stable_memory_can_be_recorded():
    connection = apsw.Connection(":memory:")
    with (
        pytest.raises(sqlstable.SettingsError, match="not through a StableVFS"),
        sqlstable.record(connection),
    ):
        pass
    connection.close()


def test_a_recording_cannot_be_read_while_it_runs(connection):
    with sqlstable.record(connection) as trace:
        with pytest.raises(sqlstable.MessageError, match="still running"):
            _ = trace.statements
        with (
            pytest.raises(sqlstable.MessageError, match="being recorded already"),
            sqlstable.record(connection),
        ):
            pass


@pytest.mark.parametrize(
    ("script", "asked"),
    [
        ([f"INSERT INTO t VALUES ({at}, 'a')" for at in range(9)], 1),
        ([f"INSERT INTO t SELECT {at}, 'a'" for at in range(9)], 9),
        ([f"SELECT x FROM t WHERE x LIKE '{at}%'" for at in range(9)], 9),
        (
            [
                "INSERT INTO t VALUES (1, 2)",
                "CREATE INDEX i ON t (x)",
                "INSERT INTO t VALUES (3, 4)",
            ],
            3,
        ),
    ],
)
def test_statements_that_differ_in_literals_alone_are_asked_for_one_plan(
    script, asked, monkeypatch
):
    questions = []
    ask = recorder._Watch._plan

    def counted(self, sql, bindings):
        questions.append(sql)
        return ask(self, sql, bindings)

    with sqlstable.Canister(depth="pages") as canister:
        canister.update("CREATE TABLE t (x, y DEFAULT 1)")
        monkeypatch.setattr(recorder._Watch, "_plan", counted)
        for sql in script:
            (canister.query if sql.startswith("SELECT") else canister.update)(sql)
    assert len(questions) == asked
