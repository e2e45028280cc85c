"""The module, on a plain host: SQL in, exact rows and facts out, as APSW has them."""

import math
import random
import struct
from contextlib import suppress

import apsw
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sqlstable import Canister, SqlError, Trap
from sqlstable.database.settings import NO_WAL
from sqlstable.engine.measured.codec import encode_request
from sqlstable.engine.measured.module.builds import BUILDS
from tests.witness_host import Heap, Host

PREPARE, RUN, COMMIT, ENCODE, GLUE = 1, 2, 3, 4, 0


@pytest.fixture(scope="module")
def host():
    return Host()


@pytest.fixture(params=sorted(BUILDS))
def any_host(request):
    return Host(build=request.param, cache_size=BUILDS[request.param].cache_size or 500)


def connection():
    """APSW set up as the module is."""
    made = apsw.Connection(":memory:")
    made.execute("PRAGMA temp_store = memory").fetchall()
    return made


def exact(rows):
    """Rows in a form in which equal means the same types and the same bits."""
    return [
        tuple(struct.pack("<d", v) if isinstance(v, float) else (type(v), v) for v in row)
        for row in rows
    ]


# -- values ---------------------------------------------------------------------------------------

INTEGERS = (0, 1, -1, 127, -128, 1 << 31, -(1 << 31), (1 << 63) - 1, -(1 << 63))
FLOATS = (0.0, -0.0, 1.5, 5e-324, -5e-324, 1.7976931348623157e308, math.inf, -math.inf, 0.1)
TEXTS = ("", "a", "a\0b", "\0", "é", "\U0001f600", "\ufeff", "\uffff", "x" * 70_000)
BLOBS = (b"", b"\0", b"\xff\xfe", bytes(range(256)), bytes(70_000))


def test_every_kind_of_value_comes_back_as_it_went(any_host):
    for values in (INTEGERS, FLOATS, TEXTS, BLOBS, (None, None)):
        sql = "SELECT " + ", ".join("?" * len(values))
        assert exact(any_host.rows(sql, values)) == exact([values])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.none()
        | st.integers(-(1 << 63), (1 << 63) - 1)
        | st.floats(allow_nan=False)
        | st.text(st.characters(exclude_categories=["Cs"]), max_size=9)
        | st.binary(max_size=9),
        min_size=1,
        max_size=5,
    )
)
def test_stored_values_come_back_exactly(host, values):
    host.rows("DROP TABLE IF EXISTS v")
    host.rows("CREATE TABLE v (x)")
    host.many("INSERT INTO v VALUES (?)", [(value,) for value in values])
    # SQLite keeps a real that is a whole number as an integer; -0.0 loses its sign by that.
    expected = connection()
    expected.execute("CREATE TABLE v (x)")
    expected.executemany("INSERT INTO v VALUES (?)", [(value,) for value in values])
    sql = "SELECT x, typeof(x), quote(x), hex(x) FROM v ORDER BY rowid"
    assert exact(host.rows(sql)) == exact(expected.execute(sql).fetchall())


def test_nan_becomes_null(host):
    assert host.rows("SELECT typeof(?), ?", (math.nan, math.nan)) == [("null", None)]


def test_blobs_of_zeros_need_no_room_in_the_request(host):
    request = encode_request("SELECT length(?)", (apsw.zeroblob(1 << 20),))
    assert len(request) < 100
    assert host.send("update", request).rows == [(1 << 20,)]


def test_parameters_by_name(host):
    sql = "SELECT :a, @b, $c, :a"
    assert host.rows(sql, {"a": 1, "b": "x", "c": None, "more": 2}) == [(1, "x", None, 1)]


def test_utf_16_databases(host):
    fresh = Host()
    fresh.rows("PRAGMA encoding = 'UTF-16le'")
    fresh.rows("CREATE TABLE t (x)")
    fresh.rows("INSERT INTO t VALUES (?)", ("é\0\U0001f600",))
    assert fresh.rows("SELECT x FROM t") == [("é\0\U0001f600",)]


# -- statements against APSW ----------------------------------------------------------------------

SETUP = """
CREATE TABLE person (id INTEGER PRIMARY KEY, name TEXT UNIQUE, age INT CHECK (age >= 0), score);
CREATE TABLE visit (person REFERENCES person (id) ON DELETE CASCADE, place TEXT, at TEXT);
CREATE INDEX visit_person ON visit (person);
CREATE TABLE pair (a, b, PRIMARY KEY (a, b)) WITHOUT ROWID;
CREATE TABLE typed (i INTEGER, r REAL, t TEXT, b BLOB, a ANY) STRICT;
CREATE VIEW old AS SELECT name FROM person WHERE age > 60;
CREATE TABLE log (what TEXT);
CREATE TRIGGER person_added AFTER INSERT ON person BEGIN
  INSERT INTO log VALUES ('added ' || new.name);
END;
WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300)
INSERT INTO person SELECT i, 'p' || i, i * 7 % 90, i / 3.0 FROM n;
INSERT INTO visit SELECT id, 'place ' || id % 11, date('2026-01-01', id || ' days') FROM person;
INSERT INTO pair SELECT age, id FROM person;
INSERT INTO typed VALUES (1, 2, 'three', x'04', 5.0);
CREATE VIRTUAL TABLE doc USING fts5 (title, body, tokenize = 'porter unicode61');
INSERT INTO doc SELECT name, 'the quick brown fox number ' || id || ' jumps' FROM person;
CREATE VIRTUAL TABLE old_doc USING fts4 (body);
INSERT INTO old_doc SELECT body FROM doc;
CREATE VIRTUAL TABLE box USING rtree (id, x0, x1, y0, y1);
INSERT INTO box SELECT id, age, age + 1, score, score + 2 FROM person;
CREATE VIRTUAL TABLE shape USING geopoly (name);
INSERT INTO shape (_shape, name) VALUES ('[[0,0],[1,0],[0,1],[0,0]]', 'corner');
ANALYZE;
"""

QUERIES = (
    "SELECT * FROM person ORDER BY score DESC LIMIT 7",
    "SELECT name, count(*) FROM person JOIN visit ON person.id = visit.person GROUP BY place",
    "SELECT age, sum(score) OVER (PARTITION BY age ORDER BY id) FROM person ORDER BY 1, 2 LIMIT 50",
    "SELECT group_concat(name, '|') FROM old",
    "SELECT * FROM pair WHERE a BETWEEN 3 AND 5",
    "SELECT *, typeof(a) FROM typed",
    "SELECT count(*) FROM log",
    "SELECT title, bm25(doc) < 0, snippet(doc, 1, '[', ']', '…', 4) FROM doc WHERE doc MATCH '17'",
    "SELECT rowid FROM old_doc WHERE body MATCH 'quick NEAR/3 fox' LIMIT 5",
    "SELECT id, x0, y1 FROM box WHERE x0 >= 10 AND x1 <= 20 ORDER BY id LIMIT 20",
    "SELECT name, geopoly_area(_shape) FROM shape",
    "SELECT json_group_array(json_object('n', name, 'a', age)) FROM person WHERE id < 9",
    'SELECT key, value, type FROM json_each(\'{"a": [1, 2.5, null], "b": "x"}\')',
    "SELECT hex(jsonb('[1,2]')), '{\"a\": 1}' ->> 'a'",
    "SELECT sqrt(2), pow(2, 10), ceil(1.2), trunc(-1.5), pi(), mod(7, 3)",
    "SELECT name, path, pageno, pagetype, ncell FROM dbstat ORDER BY pageno",
    "SELECT median(score), percentile(score, 10) FROM person",
    "SELECT date('now'), time('now'), datetime('now', 'localtime'), CURRENT_TIMESTAMP",
    "SELECT julianday('now'), strftime('%Y-%W-%j', 'now', '+40 days'), unixepoch()",
    "SELECT printf('%05d %.3f %s %q', 42, 3.14159, 'x', 'it''s'), 1e300 * 10, 0.1 + 0.2, 1.0 / 3",
    "SELECT CAST(1e15 AS TEXT), 123456789012345678, 9223372036854775807 + 1, 7 / 2, -7 % 3",
    "SELECT 'a' LIKE 'A', x'61' LIKE 'a', 'a' GLOB '[a-c]', 'é' LIKE 'É', upper('é')",
    "SELECT quote(x'00ff'), quote('it''s'), quote(1.5), hex('é'), char(233), unicode('é')",
    "SELECT name FROM pragma_table_info('person')",
    "PRAGMA table_xinfo(typed)",
    "PRAGMA foreign_key_list(visit)",
    "PRAGMA integrity_check",
    "PRAGMA journal_mode",
    "PRAGMA page_count",
    "PRAGMA encoding",
    "EXPLAIN QUERY PLAN SELECT * FROM visit WHERE person = 3 ORDER BY at",
    "EXPLAIN SELECT name FROM person WHERE id = 5",
    "INSERT INTO person (name, age) VALUES ('new', 1), ('newer', 2) RETURNING id, name",
    "UPDATE person SET age = age + 1 WHERE id % 50 = 0 RETURNING id, age",
    "INSERT INTO person (id, name) VALUES (1, 'one') ON CONFLICT (id) DO UPDATE SET name = 'x'",
    "DELETE FROM person WHERE id > 290 RETURNING name",
    "ALTER TABLE person ADD COLUMN note DEFAULT 'none'",
    "SELECT note, count(*) FROM person GROUP BY 1",
    "ALTER TABLE person DROP COLUMN note",
    "CREATE TEMP TABLE t AS SELECT * FROM person WHERE age < 9; SELECT * FROM t ORDER BY id",
    "SAVEPOINT s; DELETE FROM visit; ROLLBACK TO s; RELEASE s; SELECT count(*) FROM visit",
    "BEGIN; DELETE FROM visit; ROLLBACK; SELECT count(*) FROM visit",
    "ATTACH ':memory:' AS other; CREATE TABLE other.t AS SELECT 1 AS x; SELECT * FROM other.t",
    "VACUUM",
    "REINDEX",
    "SELECT sum(length(name)), total(score), avg(age), min(name), max(name) FROM person",
)

ERRORS = (
    "SELECT * FROM nowhere",
    "SELECT nothing FROM person",
    "SELEC 1",
    "SELECT 1; SELECT",
    "SELECT 'open",
    "INSERT INTO person (id) VALUES (1)",
    "INSERT INTO person (name, age) VALUES ('neg', -1)",
    "INSERT INTO person (name) VALUES ('p2')",
    "INSERT INTO typed (i) VALUES ('x')",
    "SELECT abs(-9223372036854775808)",
    "SELECT json('{')",
    "SELECT zeroblob(3000000000)",
    "COMMIT",
    "CREATE TABLE person (x)",
    "SELECT * FROM doc WHERE doc MATCH '\"'",
    "SELECT count(*) FROM person, nowhere",
    "DROP TABLE nothing",
    "SELECT load_extension('x')",
)


@pytest.fixture(scope="module")
def filled():
    host = Host()
    host.rows(SETUP)
    native = Canister(depth="pages", owners=False)
    native.update(SETUP)
    yield host, native
    native.close()


@pytest.mark.parametrize("sql", QUERIES)
def test_rows_are_those_of_the_native_engine(filled, sql):
    host, native = filled
    assert exact(host.rows(sql)) == exact(native.update(sql).rows)


@pytest.mark.parametrize("sql", ERRORS)
def test_errors_are_sqlites_own(filled, sql):
    host, native = filled
    if "load_extension" in sql:
        expected = apsw.SQLError("no such function: load_extension")
        expected.result, expected.extendedresult = 1, 1
    else:
        with pytest.raises(SqlError) as caught:
            native.update(sql)
        expected = caught.value.__cause__
        assert isinstance(expected, apsw.Error)
    failure = host.update(sql).failure
    assert failure.message == str(expected)
    assert (failure.code, failure.extended_code) == (expected.result, expected.extendedresult)


def test_an_error_names_its_byte_and_ends_the_request(host):
    sql = "SELECT 1; SELECT é, nope; SELECT 3"
    reply = host.update("CREATE TABLE IF NOT EXISTS e (é); " + sql.replace("nope", "é.é FROM e"))
    failure = reply.failure
    assert failure.message == "no such column: é.é"
    assert len(reply.statements) == 2
    sent = "CREATE TABLE IF NOT EXISTS e (é); SELECT 1; SELECT é, "
    assert failure.offset == len(sent.encode())
    assert reply.finish is not None


# -- requests -------------------------------------------------------------------------------------


def test_facts_of_statements(host):
    sql = "CREATE TABLE IF NOT EXISTS f (a, b);  SELECT a AS é, b FROM f -- end\n; DELETE FROM f"
    reply = host.update(sql, names=True)
    assert [statement.facts.cut_from(sql) for statement in reply.statements] == [
        "CREATE TABLE IF NOT EXISTS f (a, b);",
        "  SELECT a AS é, b FROM f -- end\n;",
        " DELETE FROM f",
    ]
    assert [statement.facts.is_readonly for statement in reply.statements] == [False, True, False]
    assert reply.statements[1].facts.column_names == ("é", "b")
    assert host.update("EXPLAIN SELECT 1").statements[0].facts.explain == 1
    assert host.update("EXPLAIN QUERY PLAN SELECT 1").statements[0].facts.explain == 2
    assert host.update("SELECT 1").statements[0].facts.column_names is None


def test_describing_runs_nothing(host):
    reply = host.update("CREATE TABLE never (x); SELECT :a AS q, ?", describe=True)
    assert [statement.is_ended for statement in reply.statements] == [False, False]
    assert reply.statements[1].facts.column_names == ("q", "?")
    assert reply.statements[1].facts.parameter_count == 2
    assert host.update("SELECT * FROM never").failure.message == "no such table: never"


@pytest.mark.parametrize("sql", ["", "  ;; \n", "-- only\n", "/* a */ /* b"])
def test_nothing_to_run_is_fine(host, sql):
    reply = host.update(sql)
    assert reply.statements == []
    assert reply.failure is None


@pytest.mark.parametrize(
    ("sql", "params", "message"),
    [
        ("SELECT ?", (), "has 1 parameters, and 0 of the 0 values"),
        ("SELECT ?", (1, 2), "has 1 parameters, and 2 of the 2 values"),
        ("SELECT ?; SELECT ?", (1,), "has 1 parameters, and 0 of the 1 values"),
        ("SELECT ?; SELECT 5", (1, 2), "has 0 parameters, and 1 of the 2 values"),
        ("SELECT ?", None, "has 1 parameters, and no values are given"),
        ("SELECT :a", {"b": 1}, "no value is given for parameter 'a'"),
        ("SELECT ?1", {"1": 1}, "parameter 1 of the statement has no name"),
    ],
)
def test_values_that_do_not_fit_are_an_error(host, sql, params, message):
    failure = host.update(sql, params).failure
    assert message in failure.message
    assert failure.code == apsw.SQLITE_RANGE


def test_positional_values_are_used_up_in_order(host):
    reply = host.update("SELECT ?, ?; SELECT 5; SELECT ? /* c */ ; -- end", (1, 2, 3))
    assert reply.failure is None
    assert reply.rows == [(1, 2), (5,), (3,)]


def test_many_rows_are_one_statement(any_host):
    any_host.rows("CREATE TABLE m (a PRIMARY KEY, b)")
    reply = any_host.many("INSERT INTO m VALUES (?, ?) RETURNING a", [(i, "x") for i in range(500)])
    (statement,) = reply.statements
    assert (statement.runs, statement.rows[-1], statement.last_rowid) == (500, (499,), 500)
    assert statement.changes == 1
    assert reply.finish.total_changes == 500
    reply = any_host.many("INSERT INTO m VALUES (:a, :b)", [{"a": 501, "b": 1}, {"a": 5, "b": 1}])
    assert reply.failure.message == "UNIQUE constraint failed: m.a"
    assert any_host.rows("SELECT count(*) FROM m") == [(501,)]


def test_all_statements_run_for_each_of_many_rows(host):
    reply = host.many("SELECT ?; SELECT ?, 'x'; -- end", [(1, 2), (3, 4), (5, 6)])
    assert reply.rows == [(1,), (2, "x"), (3,), (4, "x"), (5,), (6, "x")]
    reply = host.many("SELECT ?; SELECT ?", [(1, 2), (3,)])
    assert [it.rows for it in reply.statements] == [[(1,)], [(2,)], [(3,)], []]
    assert "has 1 parameters, and 0 of the 1 values given are left" in reply.failure.message
    named = [{"a": 1, "b": 2}, {"a": 3, "b": 4}]
    assert host.many("SELECT :a; SELECT :b", named).rows == [(1,), (2,), (3,), (4,)]


def test_transactions_span_requests(host):
    host.rows("CREATE TABLE tx (x)")
    begin, insert, look, commit = (
        encode_request(sql)
        for sql in ("BEGIN", "INSERT INTO tx VALUES (1)", "SELECT count(*) FROM tx", "COMMIT")
    )
    replies = host.send("update", begin, insert, look, commit)
    assert [reply.finish.is_autocommit for reply in replies] == [False, False, False, True]
    assert [reply.finish.txn_state for reply in replies] == [0, 2, 2, 0]
    assert replies[2].rows == [(1,)]


def test_results_of_10_mib(any_host):
    reply = any_host.update(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10500) "
        "SELECT i, printf('%1000d', i) FROM n"
    )
    assert len(reply.rows) == 10_500
    assert reply.rows[-1] == (10_500, f"{10_500:1000d}")
    (row,) = any_host.rows("SELECT zeroblob(10485760), hex(zeroblob(5242880))")
    assert row == (bytes(10_485_760), "00" * 5_242_880)


def test_counters_are_sqlites(filled):
    host, _ = filled
    sql = "SELECT count(*) FROM person a, person b WHERE a.age + b.age > 100 ORDER BY a.score"
    reply = host.update(sql, counters=True)
    counters = reply.statements[0].counters
    assert counters.fullscan_steps > 10_000
    assert counters.vm_steps > counters.fullscan_steps
    assert counters.reprepares == counters.cache_writes == counters.cache_spills == 0
    assert host.update(sql).statements[0].counters is None
    cold = host.update("SELECT * FROM person", counters=True, cold=True).statements[0].counters
    warm = host.update("SELECT * FROM person", counters=True).statements[0].counters
    assert cold.cache_misses > 0 == warm.cache_misses
    assert cold.vm_steps == warm.vm_steps
    # FTS5 keeps its statements, and their steps belong to the one that asks.
    plain = host.update("SELECT 1", counters=True).statements[0].counters
    fts = host.update("INSERT INTO doc VALUES ('a', 'b')", counters=True).statements[0].counters
    assert fts.vm_steps > plain.vm_steps + 20


def test_the_profile_build_counts_the_rows_of_each_loop():
    host = Host(build="profile")
    host.rows("CREATE TABLE a (x); CREATE TABLE b (y); CREATE INDEX b_y ON b (y)")
    host.many("INSERT INTO a VALUES (?)", [(i,) for i in range(40)])
    host.many("INSERT INTO b VALUES (?)", [(i % 20,) for i in range(100)])
    (statement,) = host.update("SELECT count(*) FROM a JOIN b ON y = x").statements
    outer, inner = statement.loops
    assert (outer.plan, outer.loops, outer.visits) == ("SCAN a", 1, 40)
    assert (inner.name, inner.loops, inner.visits) == ("b_y", 40, 100)
    assert inner.plan.startswith("SEARCH b USING COVERING INDEX b_y")


# -- determinism ----------------------------------------------------------------------------------


def test_random_numbers_are_the_native_engines(any_host):
    sql = "SELECT random(), hex(randomblob(7)), randomblob(0), random() FROM (VALUES (1), (2), (3))"
    with Canister(depth="pages", owners=False) as native:
        for _ in range(3):
            assert any_host.rows(sql) == native.update(sql).rows
    number = any_host.message_number + 1
    expected = random.Random(f"0:{number}")
    rows = any_host.rows(
        "WITH RECURSIVE n (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n LIMIT 999) "
        "SELECT random() FROM n"
    )
    assert [row[0] for row in rows] == [expected.getrandbits(64) - (1 << 63) for _ in range(999)]


def test_one_message_draws_one_stream(host):
    host.message_number = 41
    request = encode_request("SELECT random()", key=host._key())
    first, second = host.send("update", request, request)
    expected = random.Random("0:42")
    drawn = [expected.getrandbits(64) - (1 << 63) for _ in range(2)]
    assert [first.rows[0][0], second.rows[0][0]] == drawn


def test_random_numbers_have_the_settings_seed():
    host = Host(seed=-5)
    assert host.rows("SELECT random()") == [(random.Random("-5:1").getrandbits(64) - (1 << 63),)]


def test_two_runs_leave_the_same_heap_and_the_same_image():
    heaps, images = [], []
    for _ in range(2):
        host = Host()
        host.rows(SETUP)
        host.rows("SELECT random(), date('now'); DELETE FROM person WHERE id % 3")
        heaps.append(bytes(host.heap.snapshot()))
        images.append(host.memory.image())
    assert heaps[0] == heaps[1]
    assert images[0] == images[1]


# -- phases ---------------------------------------------------------------------------------------


def test_marks_tell_the_phases(host):
    host.rows("CREATE TABLE ph (x)")
    host.update("INSERT INTO ph VALUES (1); SELECT x FROM ph")
    assert [phase for phase, _ in host.marks] == [
        *(PREPARE, GLUE, RUN, COMMIT, GLUE, RUN, GLUE),
        *(PREPARE, GLUE, RUN, ENCODE, RUN, GLUE, RUN, GLUE),
    ]
    # All that the first statement writes is written in its commit, and nothing in the glue.
    positions = [position for _, position in host.marks]
    begin, end = positions[3], positions[4]
    assert {kind for kind, _, _ in host.log[begin:end]} == {1}
    host.many("INSERT INTO ph VALUES (?)", [(1,), (2,)])
    assert [phase for phase, _ in host.marks] == [
        *(PREPARE, GLUE, RUN, COMMIT, RUN, COMMIT, GLUE, RUN, GLUE)
    ]


# -- what does not go -----------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["wal", "WA", "w"])
def test_a_write_ahead_log_is_refused(host, mode):
    failure = host.update(f"PRAGMA journal_mode = '{mode}'").failure
    assert failure.message == NO_WAL
    assert host.rows("PRAGMA journal_mode") == [("memory",)]


def test_journal_modes_in_the_heap(host):
    assert host.rows("PRAGMA journal_mode = off") == [("off",)]
    assert host.rows("PRAGMA journal_mode = memory") == [("memory",)]


def test_a_second_database_file_is_refused_where_there_is_no_place_for_it():
    host = Host(layout="raw")
    failure = host.update("ATTACH 'other.db' AS other").failure
    assert failure.code == apsw.SQLITE_CANTOPEN
    assert "holds one database file, opened as 'main.db'" in failure.message
    assert host.update("SELECT 1").failure is None


def test_the_lean_stack_refuses_or_traps():
    host = Host(build="lean", cache_size=6)
    assert host.rows("SELECT " + "1 + " * 150 + "1") == [(151,)]
    failure = host.update("SELECT " + "1 + " * 250 + "1").failure
    assert failure.message == "Expression tree is too large (maximum depth 200)"
    host.rows("CREATE VIEW v0 AS SELECT 1 AS a")
    host.rows("".join(f"CREATE VIEW v{i + 1} AS SELECT a FROM v{i};" for i in range(400)))
    assert host.rows("SELECT * FROM v90") == [(1,)]
    image = host.memory.image()
    with pytest.raises(Trap, match="out of bounds memory access"):
        host.update("SELECT * FROM v400")
    assert host.memory.image() == image
    assert host.rows("SELECT * FROM v90") == [(1,)]


def test_the_lean_pool_spills_over():
    host = Host(build="lean", cache_size=6)
    host.rows("CREATE TABLE t (x)")
    host.rows(
        "WITH RECURSIVE n (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n LIMIT 50000) "
        "INSERT INTO t SELECT i FROM n"
    )
    rows = host.rows("SELECT x FROM t ORDER BY -x")
    assert len(rows) == 50_000
    assert rows[0] == (50_000,)
    assert host.rows("PRAGMA integrity_check") == [("ok",)]


# -- malformed arguments --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_bytes", "message"),
    [
        (b"", "the request is cut off"),
        (struct.pack("<II", 0, 5) + b";\0b\0;" + bytes(4), "the SQL has a NUL"),
        (struct.pack("<II", 0, 99), "the request is cut off"),
        (struct.pack("<III", 0, 0, 1) + b"\7\0\0\0\0", "parameters of kind 7"),
        (encode_request("SELECT ?", (1,))[:-1], "the request is cut off"),
        (struct.pack("<III", 8, 1000, 0) + bytes(1000), "the random key has 1000 bytes"),
    ],
)
def test_malformed_requests_trap(host, request_bytes, message):
    with pytest.raises(Trap, match=message):
        host.send("update", request_bytes)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damaged_requests_give_a_reply_or_an_error(host, data):
    good = bytearray(encode_request("SELECT ?, :a; SELECT 2", (1, "text", b"blob"), key=b"key"))
    for _ in range(data.draw(st.integers(1, 4))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    # A text may be none any more: a value that was a blob.
    with suppress(Trap, SqlError):
        host.send("query", bytes(good[: data.draw(st.integers(0, len(good)))]))


def test_a_heap_that_was_never_set_up_traps(host):
    with pytest.raises(Trap, match="canister_init was not called"):
        Heap(host).call("canister_query execute", encode_request("SELECT 1"))


@pytest.mark.parametrize("size", [0, 47, 303, 1000])
def test_malformed_settings_trap(host, size):
    with pytest.raises(Trap, match="the settings"):
        host.heap.call("canister_init", bytes(size))
