"""A canister is one connection: settings, TEMP, counts of changes, attached databases."""

from contextlib import closing, suppress

import apsw
import pytest

from sqlstable import Canister, SqlError, StableMemory
from sqlstable.database.library import sqlite_version
from sqlstable.engine import pragmas, state
from sqlstable.engine.native.native_engine import is_complete
from sqlstable.workload.execution import run_steps
from sqlstable.workload.script import parse_script
from tests.children import run_python
from tests.one_canister import COUNTS, ENGINES, canister_fixture, trap  # noqa: F401  a fixture
from tests.sim.one_connection import Pair, script

CACHES = ("cold", "warm")

both_engines = pytest.mark.parametrize("engine", ENGINES)
each_cache = pytest.mark.parametrize("cache", CACHES)


def rows_of(script_text, engine="native"):
    """Run a workload script; returns what its statements answered, and why it stopped."""
    rows = []
    with Canister(engine=engine) as canister:
        outcome = run_steps(
            canister,
            parse_script(script_text, is_complete=is_complete),
            on_rows=lambda _step, _statement, found: rows.append(found.rows),
        )
    return rows, outcome.failure


# -- random scripts --------------------------------------------------------------------------------


@both_engines
@pytest.mark.parametrize("seed", range(4))
def test_random_messages_mean_what_they_mean_on_one_connection(engine, seed, tmp_path):
    with closing(Pair(engine, tmp_path)) as pair:
        for step in script(seed, is_native=engine == "native", length=8):
            pair.tell(step)


# -- settings --------------------------------------------------------------------------------------


SETTINGS = {
    "foreign_keys": 1,
    "automatic_index": 0,
    "recursive_triggers": 1,
    "reverse_unordered_selects": 1,
    "query_only": 1,
    "writable_schema": 1,
    "ignore_check_constraints": 1,
    "cache_size": 33,
    "synchronous": 2,
    "secure_delete": 1,
    "analysis_limit": 7,
    "defer_foreign_keys": 1,
    "temp_store": 1,
    "journal_size_limit": 1000,
}


@each_cache
@pytest.mark.parametrize("name", SETTINGS)
def test_a_pragma_holds_for_queries_and_after_a_trap_until_an_upgrade(canister, name, cache):
    ask = f"PRAGMA {name}"
    (at_first,) = canister.query(ask, cache="fresh").rows
    value = 1 - at_first[0] if at_first[0] in (0, 1) and SETTINGS[name] < 2 else SETTINGS[name]
    canister.update(f"{ask} = {value}")
    assert canister.query(ask, cache=cache).rows == [(value,)]
    trap(canister, f"{ask} = {at_first[0]}")
    assert canister.query(ask, cache=cache).rows == [(value,)]
    assert canister.update(ask).rows == [(value,)]
    assert canister.query(ask, cache="fresh").rows == [at_first]
    canister.upgrade()
    assert canister.query(ask, cache=cache).rows == [at_first]


@each_cache
def test_what_a_query_sets_goes_with_it(canister, cache):
    canister.update("CREATE TABLE t (x)")
    canister.query(
        "PRAGMA foreign_keys = on; CREATE TEMP TABLE t (x); INSERT INTO t VALUES (1)", cache=cache
    )
    asked = "SELECT foreign_keys, (SELECT count(*) FROM t), changes() FROM pragma_foreign_keys"
    for kind in ("query", "update"):
        with canister.message(kind, cache=cache) as message:
            assert message.execute(asked) == [(0, 0, 0)]


def test_a_pragma_that_sqlite_obeys_before_it_refuses_the_statement_holds(canister):
    with canister.message() as message, suppress(SqlError):
        message.execute("PRAGMA foreign_keys = on nonsense")
    assert canister.query("PRAGMA foreign_keys").rows == [(1,)]
    canister.update("EXPLAIN PRAGMA foreign_keys = off")
    assert canister.query("PRAGMA foreign_keys").rows == [(0,)]


def test_foreign_keys_are_enforced_after_a_trap(canister):
    for sql in ("CREATE TABLE p (id INTEGER PRIMARY KEY)", "CREATE TABLE c (p REFERENCES p)"):
        canister.update(sql)
    canister.update("PRAGMA foreign_keys = on")
    trap(canister, "DELETE FROM p")
    with pytest.raises(SqlError, match="FOREIGN KEY constraint failed"):
        canister.update("INSERT INTO c VALUES (9)")


@each_cache
def test_case_sensitive_like_holds(canister, cache):
    canister.update("CREATE TABLE t (x); INSERT INTO t VALUES ('Abc'), ('abc')")
    canister.update("PRAGMA case_sensitive_like = on")
    trap(canister, "PRAGMA case_sensitive_like = off")
    sql = "SELECT count(*) FROM t WHERE x LIKE 'ab%'"
    assert canister.query(sql, cache=cache).rows == canister.update(sql).rows == [(1,)]


@each_cache
def test_automatic_index_decides_the_plans_of_queries(canister, cache):
    canister.update("CREATE TABLE t (a, b); CREATE TABLE u (a, b)")
    canister.update(
        "INSERT INTO t SELECT value, 1 FROM generate(200)".replace(
            "generate(200)",
            "json_each('[' || replace(printf('%.*c', 199, '1'), '1', '1,') || '1]')",
        )
    )
    canister.update("INSERT INTO u SELECT a, b FROM t")
    canister.update("PRAGMA automatic_index = off")
    sql = "EXPLAIN QUERY PLAN SELECT * FROM t JOIN u ON t.a = u.a"
    plan = [row[3] for row in canister.query(sql, cache=cache).rows]
    assert plan == ["SCAN t", "SCAN u"]


def test_a_cache_size_that_was_set_counts_for_cold_queries():
    counts = []
    for engine in ENGINES:
        with Canister(engine=engine) as canister:
            canister.update("CREATE TABLE t (x); CREATE TABLE u (x)")
            canister.update("INSERT INTO t SELECT zeroblob(3000) FROM json_each('[1,2,3,4,5,6,7]')")
            canister.update("INSERT INTO u SELECT * FROM t UNION ALL SELECT * FROM t")
            canister.update("PRAGMA cache_size = 3")
            reply = canister.query("SELECT count(*) FROM t, u", cache="cold")
            counts.append((reply.footprint.calls.read, reply.footprint.os_pages_accessed))
    assert counts[0] == counts[1]
    assert counts[0][0] > 2 * counts[0][1]


def test_every_pragma_of_this_sqlite_is_known_to_be_state_or_not():
    """One that is new may set what a connection has to keep."""
    of_the_database = {"application_id", "schema_version", "user_version", "incremental_vacuum"}
    telling = {"collation_list", "compile_options", "data_version", "database_list"}
    telling |= {"freelist_count", "function_list", "module_list", "page_count", "pragma_list"}
    doing = {"optimize", "shrink_memory", "wal_checkpoint"}
    without_rows_here = {"mmap_size"}
    known = {*state.OWN_SETTINGS, *state.SCHEMA_SETTINGS, *state.PENDING_SETTINGS}
    known |= {state.LIKE, state.DEFERRED, *pragmas.READING_PRAGMAS, *pragmas.PROCESS_WIDE}
    known |= of_the_database | telling | doing | without_rows_here
    with closing(apsw.Connection(":memory:")) as connection:
        names = {name for (name,) in connection.execute("PRAGMA pragma_list")}
    assert names <= known, f"SQLite {sqlite_version()}"


# -- TEMP ------------------------------------------------------------------------------------------


@each_cache
def test_a_temp_table_hides_that_of_main(canister, cache):
    canister.update("CREATE TABLE x (a); INSERT INTO x VALUES ('main')")
    canister.update("CREATE TEMP TABLE x (a); INSERT INTO x VALUES ('temp')")
    assert canister.query("SELECT a FROM x", cache=cache).rows == [("temp",)]
    trap(canister, "DELETE FROM x", "DROP TABLE temp.x")
    assert canister.query("SELECT a FROM x", cache=cache).rows == [("temp",)]
    canister.update("UPDATE x SET a = 'changed'")
    assert canister.query("SELECT a FROM x", cache=cache).rows == [("changed",)]
    canister.upgrade()
    assert canister.query("SELECT a FROM x", cache=cache).rows == [("main",)]


def test_a_temp_view_is_there_after_a_refused_statement(canister):
    canister.update("CREATE TABLE t (x); CREATE TEMP VIEW v AS SELECT x FROM t")
    with pytest.raises(SqlError, match="no such table: missing"):
        canister.update("SELECT * FROM missing")
    assert canister.update("DROP VIEW v").outcome == "committed"


@each_cache
def test_temp_triggers_fire_after_a_trap_and_in_queries(canister, cache):
    canister.update("CREATE TABLE t (x); CREATE TABLE log (x)")
    canister.update(
        "CREATE TEMP TRIGGER seen AFTER INSERT ON t BEGIN INSERT INTO log VALUES (new.x); END"
    )
    trap(canister, "DROP TRIGGER seen")
    canister.update("INSERT INTO t VALUES (1)")
    with canister.message("query", cache=cache) as message:
        message.execute("INSERT INTO t VALUES (2)")
        assert message.execute("SELECT x FROM log") == [(1,), (2,)]
    assert canister.query("SELECT x FROM log", cache=cache).rows == [(1,)]


def test_looking_for_temporary_things_makes_their_database_as_on_one_connection(canister):
    sql = "SELECT name FROM pragma_database_list"
    assert canister.query(sql).rows == [("main",)]
    canister.update("SELECT name FROM sqlite_temp_schema")
    assert canister.query(sql).rows == [("main",), ("temp",)]


@each_cache
def test_table_valued_pragmas_tell_of_the_one_connection(canister, cache):
    canister.update("PRAGMA foreign_keys = on; CREATE TEMP TABLE tt (a)")
    sql = "SELECT foreign_keys, (SELECT count(*) FROM pragma_table_info('tt')), name FROM "
    sql += "pragma_foreign_keys, sqlite_temp_schema"
    assert canister.query(sql, cache=cache).rows == [(1, 1, "tt")]


# -- counts of changes -----------------------------------------------------------------------------


@each_cache
def test_counts_of_changes_hold_for_queries_and_come_back_after_a_trap(canister, cache):
    canister.update("CREATE TABLE t (x); INSERT INTO t VALUES (1), (2); DELETE FROM t WHERE x = 1")
    expected = [(2, 1, 3)]
    assert canister.query(COUNTS, cache=cache).rows == expected
    trap(canister, "INSERT INTO t SELECT 5 FROM t", "DELETE FROM t")
    assert canister.query(COUNTS, cache=cache).rows == expected
    with canister.message("query", cache=cache) as message:
        message.execute("DELETE FROM t WHERE x = -1")
        assert message.execute(COUNTS) == [(2, 0, 3)]
        message.execute("INSERT INTO t VALUES (7), (8), (9)")
        assert message.execute(COUNTS) == [(5, 3, 6)]
    assert canister.query(COUNTS, cache=cache).rows == expected
    assert canister.update(COUNTS).rows == expected
    assert canister.query(COUNTS, cache="fresh").rows == [(0, 0, 0)]
    canister.update("INSERT INTO t VALUES (4)")
    assert canister.query(COUNTS, cache=cache).rows == [(3, 1, 4)]
    canister.upgrade()
    assert canister.update(COUNTS).rows == [(0, 0, 0)]


def test_asking_for_plans_does_not_change_what_changes_says(canister):
    canister.update("CREATE TABLE t (x); CREATE TABLE log (n)")
    canister.update("INSERT INTO t VALUES (1), (2), (3)")
    canister.update("INSERT INTO log VALUES (changes())")
    canister.update("UPDATE t SET x = 0")
    canister.update("INSERT INTO log SELECT changes() UNION ALL SELECT changes()")
    assert canister.query("SELECT n FROM log").rows == [(3,), (3,), (3,)]


# -- attached databases, virtual tables, functions -------------------------------------------------


@each_cache
def test_a_database_attached_in_the_heap_is_there_for_queries_and_after_a_trap(canister, cache):
    canister.update("ATTACH ':memory:' AS side")
    canister.update("CREATE TABLE side.t (a); INSERT INTO side.t VALUES (1), (2)")
    assert canister.query("SELECT count(*) FROM side.t", cache=cache).rows == [(2,)]
    trap(canister, "INSERT INTO side.t VALUES (3)", "DETACH side")
    canister.update("INSERT INTO side.t VALUES (4)")
    canister.query("DETACH side; ATTACH ':memory:' AS side", cache=cache)
    assert canister.query("SELECT max(a) FROM t", cache=cache).rows == [(4,)]


@each_cache
def test_a_database_attached_in_stable_memory_is_there_for_queries_and_after_a_trap(cache):
    with Canister() as canister:
        canister.update("ATTACH 'side.db' AS side")
        canister.update("CREATE TABLE side.t (a); INSERT INTO side.t VALUES (1)")
        reply = canister.query("SELECT a FROM side.t", cache=cache)
        assert reply.rows == [(1,)]
        assert (reply.footprint.os_pages_accessed > 0) == (cache == "cold")
        trap(canister, "DELETE FROM side.t", "CREATE TABLE side.gone (x)")
        canister.update("INSERT INTO side.t VALUES (2)")
        assert canister.query("SELECT a FROM t", cache=cache).rows == [(1,), (2,)]
        canister.upgrade()
        canister.update("ATTACH 'side.db' AS side")
        assert canister.query("SELECT a FROM t", cache=cache).rows == [(1,), (2,)]


def test_what_names_mean_decides_whether_a_statement_can_be_a_query():
    with Canister() as canister:
        canister.update("ATTACH ':memory:' AS one; CREATE TABLE one.t (x)")
        canister.update("ATTACH 'side.db' AS side; CREATE TABLE side.u (x)")
        canister.update("CREATE TEMP TABLE v (x)")
        reading = ("SELECT x FROM one.t", "SELECT x FROM u", "SELECT x FROM v")
        assert all(map(canister.engine.is_readonly, reading))
        assert not canister.engine.is_readonly("INSERT INTO v VALUES (1)")
        canister.update("DETACH one")
        assert not canister.engine.is_readonly("SELECT x FROM one.t")
        canister.upgrade()
        assert not any(map(canister.engine.is_readonly, reading))


@pytest.mark.parametrize("cache", ["fresh", "cold", "warm"])
def test_a_sound_fts5_index_is_called_sound(canister, cache):
    canister.update("CREATE VIRTUAL TABLE f USING fts5 (x); INSERT INTO f VALUES ('one two')")
    canister.query("SELECT rowid FROM f ('one')")
    for sql in ("INSERT INTO f VALUES ('one three')", "INSERT INTO f (f) VALUES ('rebuild')"):
        canister.update(sql)
        for check in ("integrity_check", "quick_check"):
            assert canister.query(f"PRAGMA {check}", cache=cache).rows == [("ok",)]


def test_engines_count_the_same_in_cold_queries_of_a_full_text_index():
    seen = []
    for engine in ENGINES:
        with Canister(engine=engine) as canister:
            canister.update("CREATE VIRTUAL TABLE f USING fts5 (x)")
            counts = []
            for text in ("one two", "one three", "four"):
                canister.update("INSERT INTO f VALUES (?)", (text,))
                for _ in range(2):
                    reply = canister.query("SELECT rowid FROM f ('one')", cache="cold")
                    counts.append(reply.footprint.accessed.tolist())
            seen.append(counts)
    assert seen[0] == seen[1]


@each_cache
def test_functions_and_collations_are_there_for_queries_and_after_a_trap(cache):
    def setup(connection):
        connection.create_scalar_function("twice", lambda value: 2 * value)
        connection.create_collation("backwards", lambda one, two: (one < two) - (one > two))

    with Canister() as canister:
        canister.on_connect(setup)
        canister.update("CREATE TABLE t (x); INSERT INTO t VALUES ('a'), ('b')")
        canister.update("CREATE TEMP VIEW v AS SELECT twice(21) AS y")
        sql = "SELECT x, y FROM t, v ORDER BY x COLLATE backwards"
        for _ in range(2):
            assert canister.query(sql, cache=cache).rows == [("b", 42), ("a", 42)]
            trap(canister, "DROP VIEW v")
            assert canister.update(sql).rows == [("b", 42), ("a", 42)]


def test_an_authorizer_of_the_users_sees_nothing_but_the_workload():
    seen = []

    def authorize(*action):
        seen.append(action)
        return apsw.SQLITE_OK

    def setup(connection):
        connection.authorizer = authorize

    with Canister() as canister:
        canister.on_connect(setup)
        canister.update("PRAGMA foreign_keys = on")
        canister.update("CREATE TEMP TABLE t (x)")
        trap(canister, "DELETE FROM t")
        seen.clear()
        canister.query("SELECT x FROM t")
        tables = {action[1] for action in seen if action[0] == apsw.SQLITE_READ}
        assert tables == {"t"}
        assert apsw.SQLITE_PRAGMA not in {action[0] for action in seen}


IN_A_CHILD = """
import sqlstable
with sqlstable.Canister() as canister:
    canister.update("CREATE TABLE t (x)")
    ask = "PRAGMA temp.{name}"
    for _ in range(3):
        canister.query(ask, cache="warm")
    canister.on_connect(lambda connection: connection.create_scalar_function(
        "ask", lambda: connection.execute(ask).get))
    for _ in range(3):
        canister.query("SELECT ask()", cache="warm")
    with canister.message() as message:
        for _ in range(2):
            for sql in (ask, "SELECT 1; " + ask, "PRAGMA temp_store = 1", "PRAGMA temp_store = 2"):
                message.execute(sql)
            message.executemany(ask + " -- ?1", [()] * 2)
            list(message.cursor(ask))
print("done")
"""


@pytest.mark.parametrize("name", ["user_version", "freelist_count", "application_id"])
def test_a_pragma_prepared_before_temp_has_gone_does_not_end_the_process(name):
    program = IN_A_CHILD.replace("{name}", name)
    assert run_python(program) == "done\n"


def test_temp_that_an_update_opened_stays_though_the_message_has_changed_rows():
    sql = "SELECT name FROM pragma_database_list"
    with Canister() as canister:
        canister.update("CREATE TABLE p (id); INSERT INTO p VALUES (3)")
        canister.update("DELETE FROM p; SELECT * FROM sqlite_temp_schema")
        for cache in CACHES:
            with pytest.raises(SqlError, match="no such table"):
                canister.query("SELECT * FROM missing", cache=cache)
            assert canister.query(sql, cache=cache).rows == [("main",), ("temp",)]


@each_cache
@pytest.mark.parametrize(
    "opening", ["", "SELECT * FROM sqlite_temp_schema", "CREATE TEMP TABLE v (x)"]
)
def test_the_size_of_temps_cache_is_that_of_one_connection(canister, cache, opening):
    canister.update("CREATE TABLE t (x)")
    canister.update("PRAGMA foreign_keys = on")
    canister.update(opening or "SELECT 1")
    for _ in range(3):
        trap(canister, "CREATE TEMP TABLE u (x)")
        assert canister.query("PRAGMA temp.cache_size", cache=cache).rows == [(0,)]


UPSERT = (
    "CREATE TRIGGER g AFTER DELETE ON a BEGIN UPDATE b SET y = 0 WHERE x = -1; "
    "INSERT INTO b VALUES (old.x, changes()); INSERT INTO b VALUES (0, changes()); END"
)


@pytest.mark.parametrize(
    ("trigger", "counts"),
    [
        (
            "CREATE TRIGGER g AFTER DELETE ON a BEGIN INSERT INTO b VALUES (old.x, changes()); END",
            [3, 3, 3],
        ),
        (UPSERT, [0, 1, 0, 1, 0, 1]),
    ],
)
@pytest.mark.parametrize("depth", ["pages", "counters"])
def test_a_trigger_counts_as_on_one_connection_when_its_statement_is_new(trigger, counts, depth):
    with Canister(depth=depth) as canister:
        canister.update("CREATE TABLE a (id INTEGER PRIMARY KEY, x); CREATE TABLE b (x, y)")
        canister.update(trigger)
        for last in (8, 9):
            canister.update("DELETE FROM b; INSERT INTO a (x) VALUES (1), (2), (3)")
            canister.update(f"DELETE FROM a WHERE id < {last}")
            assert canister.query("SELECT y FROM b ORDER BY rowid").rows == [(n,) for n in counts]


@each_cache
def test_a_trigger_counts_as_on_one_connection_after_a_trap_and_a_query(canister, cache):
    canister.update("CREATE TABLE a (id INTEGER PRIMARY KEY, x); CREATE TABLE b (x, y)")
    canister.update("CREATE TABLE other (x)")
    canister.update(
        "CREATE TRIGGER g AFTER DELETE ON a BEGIN INSERT INTO b VALUES (old.x, changes()); END"
    )
    for undo in (
        lambda: trap(canister, "DELETE FROM b"),
        lambda: canister.query("INSERT INTO other VALUES (1)", cache=cache),
    ):
        canister.update("DELETE FROM b; INSERT INTO a (x) VALUES (1), (2), (3)")
        undo()
        canister.update("DELETE FROM a")
        assert canister.query("SELECT y FROM b").rows == [(3,)] * 3


def test_runs_of_one_statement_count_by_themselves():
    with Canister() as canister:
        canister.update("CREATE TABLE t (x)")
        for counting in ("changes()", "ask()"):
            canister.on_connect(
                lambda connection: connection.create_scalar_function(
                    "ask", lambda: connection.execute("SELECT changes()").get
                )
            )
            canister.update("DELETE FROM t")
            canister.update("INSERT INTO t VALUES (1), (2), (3)")
            with canister.message() as message:
                message.executemany(
                    f"INSERT INTO t SELECT {counting} FROM (SELECT 1) WHERE ?", [(0,), (1,), (1,)]
                )
            assert canister.query("SELECT x FROM t").rows[3:] == [(0,), (1,)]


# -- whole scripts ---------------------------------------------------------------------------------


SCRIPTS = {
    "a PRAGMA decides the plans of later queries": (
        """CREATE TABLE t (a INT, b INT);
        CREATE TABLE u (a INT, b INT);
        WITH RECURSIVE q (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM q WHERE i < 200)
        INSERT INTO t SELECT i, i % 2 FROM q;
        INSERT INTO u SELECT a, b FROM t;
        PRAGMA automatic_index = OFF;
        EXPLAIN QUERY PLAN SELECT * FROM t JOIN u ON t.a = u.a;""",
        [[(3, 0, 216, "SCAN t"), (5, 0, 216, "SCAN u")]],
        None,
    ),
    "a sound index is called sound": (
        """CREATE VIRTUAL TABLE f USING fts5 (x);
        INSERT INTO f VALUES ('one two');
        SELECT rowid FROM f ('one');
        INSERT INTO f VALUES ('one three');
        PRAGMA integrity_check;""",
        [[(1,)], [("ok",)]],
        None,
    ),
    "what table-valued pragmas tell": (
        """PRAGMA foreign_keys = ON;
        SELECT foreign_keys FROM pragma_foreign_keys;
        CREATE TEMP TABLE tt (a);
        SELECT count(*) FROM pragma_table_info('tt');
        SELECT name FROM sqlite_temp_schema;""",
        [[(1,)], [(1,)], [("tt",)]],
        None,
    ),
    "a PRAGMA holds for later queries": (
        """CREATE TABLE t (id INTEGER PRIMARY KEY, a);
        INSERT INTO t (a) VALUES ('Abc'), ('abc');
        PRAGMA case_sensitive_like = ON;
        SELECT count(*) FROM t WHERE a LIKE 'ab%';
        PRAGMA reverse_unordered_selects = ON;
        SELECT a FROM t;""",
        [[(1,)], [("abc",), ("Abc",)]],
        None,
    ),
    "what is attached stays": (
        """ATTACH ':memory:' AS side;
        CREATE TABLE side.t (a);
        INSERT INTO side.t VALUES (1), (2);
        --@ query
        SELECT count(*) FROM side.t;
        --@ update
        --@ trap
        INSERT INTO side.t VALUES (3);
        --@ update
        INSERT INTO side.t VALUES (4);""",
        [[(2,)]],
        None,
    ),
    "a TEMP table hides that of main": (
        """CREATE TABLE x (a);
        INSERT INTO x VALUES ('main');
        CREATE TEMP TABLE x (a);
        INSERT INTO x VALUES ('temp');
        SELECT a FROM x;""",
        [[("temp",)]],
        None,
    ),
    "foreign keys stay on after a trap": (
        """CREATE TABLE p (id INTEGER PRIMARY KEY);
        CREATE TABLE c (p REFERENCES p);
        PRAGMA foreign_keys = ON;
        --@ update
        --@ trap
        DELETE FROM p;
        --@ update
        INSERT INTO c VALUES (9);""",
        [],
        "script, line 8: FOREIGN KEY constraint failed; in: INSERT INTO c VALUES (9)",
    ),
}


@both_engines
@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_means_what_it_means_on_one_connection(name, engine):
    text, rows, failure = SCRIPTS[name]
    assert rows_of(text, engine) == (rows, failure)


def test_a_copy_of_the_image_has_a_heap_of_its_own():
    with Canister() as canister:
        canister.update("CREATE TABLE t (x); PRAGMA foreign_keys = on; CREATE TEMP TABLE u (x)")
        with Canister(memory=StableMemory.from_image(canister.image())) as copy:
            assert copy.query("PRAGMA foreign_keys").rows == [(0,)]
            with pytest.raises(SqlError, match="no such table: u"):
                copy.query("SELECT * FROM u")
