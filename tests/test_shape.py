"""Shapes and kinds of statements, row by row."""

import random
import re
import sqlite3
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqlstable.trace import shape
from sqlstable.trace.shape import kind_of, plan_key, shape_of

SHAPES = [
    # literals
    ("SELECT 1, 2.5, .5, 1., 1e3, 1.5E-3, 0xFF, 1_000", "SELECT ?, ?, ?, ?, ?, ?, ?, ?"),
    ("SELECT 'a', 'it''s', '', x'00ff', X'AB'", "SELECT ?, ?, ?, ?, ?"),
    ("SELECT 'a -- no comment', '/* nor this */'", "SELECT ?, ?"),
    ("SELECT ?, ?12, :name, @name, $name, $a::b(c)", "SELECT ?, ?, ?, ?, ?, ?"),
    ("UPDATE t SET a = NULL, b = TRUE, c = false", "UPDATE t SET a = ?, b = ?, c = ?"),
    ("INSERT INTO t VALUES (null, 1)", "INSERT INTO t VALUES (?, ?)"),
    ("SELECT CASE WHEN a THEN NULL ELSE 1 END", "SELECT CASE WHEN a THEN ? ELSE ? END"),
    # signs
    ("SELECT -1, +2, a - 3, a + -4, (-5)", "SELECT ?, ?, a - ?, a + ?, (?)"),
    ("SELECT a FROM t LIMIT -1 OFFSET -2", "SELECT a FROM t LIMIT ? OFFSET ?"),
    ("SELECT -a, a * -b", "SELECT - a, a * - b"),
    # what stays
    ("SELECT a FROM t WHERE b IS NULL", "SELECT a FROM t WHERE b IS NULL"),
    ("SELECT a FROM t WHERE b IS NOT NULL", "SELECT a FROM t WHERE b IS NOT NULL"),
    ('SELECT "a b", `c`, [d e], t1.x2 FROM t1', 'SELECT "a b", `c`, [d e], t1.x2 FROM t1'),
    ('SELECT "it""s", `a``b`', 'SELECT "it""s", `a``b`'),
    ("select Owner from Account where Id = 3", "SELECT Owner FROM Account WHERE Id = ?"),
    ("SELECT größe, 名前 FROM ψ", "SELECT größe, 名前 FROM ψ"),
    # spaces, comments, ends
    ("  SELECT\n\ta ,b\r\nFROM t ; ", "SELECT a, b FROM t"),
    ("SELECT a -- why\n, /* and */ b FROM t -- end", "SELECT a, b FROM t"),
    ("SELECT count ( * ) , t . * FROM t", "SELECT COUNT(*), t.* FROM t"),
    ("SELECT a||b, a<>b, a->>'$.c', a>=1", "SELECT a || b, a <> b, a ->> ?, a >= ?"),
    ("INSERT INTO t(a,b) SELECT max(a),1 FROM u", "INSERT INTO t (a, b) SELECT MAX(a), ? FROM u"),
    ("INSERT INTO main.t(a) VALUES(1)", "INSERT INTO main.t (a) VALUES (?)"),
    ("SELECT a FROM t WHERE EXISTS(SELECT 1)", "SELECT a FROM t WHERE EXISTS (SELECT ?)"),
    ("SELECT a FROM t JOIN u ON abs(a)=1", "SELECT a FROM t JOIN u ON ABS(a) = ?"),
    # lists and rows
    ("SELECT a FROM t WHERE b IN (1,2,3)", "SELECT a FROM t WHERE b IN (?)"),
    ("SELECT a FROM t WHERE b in(:x)", "SELECT a FROM t WHERE b IN (?)"),
    ("SELECT a FROM t WHERE b NOT IN ('x', NULL)", "SELECT a FROM t WHERE b NOT IN (?)"),
    ("SELECT a FROM t WHERE b IN (1, 2, c, 3)", "SELECT a FROM t WHERE b IN (?, c, ?)"),
    ("SELECT a IN (1), (2), 3, 4", "SELECT a IN (?), (?), ?, ?"),
    ("SELECT max(1, 2, 3)", "SELECT MAX(?, ?, ?)"),
    ("INSERT INTO t VALUES (1,'a'),(2,'b'),(3,NULL)", "INSERT INTO t VALUES (?, ?)"),
    (
        "INSERT INTO t VALUES (1, f(2)), (3, f(4)) ON CONFLICT (a) DO UPDATE SET b = 5",
        "INSERT INTO t VALUES (?, F(?)) ON CONFLICT (a) DO UPDATE SET b = ?",
    ),
    ("INSERT INTO t VALUES (1), (a), (2)", "INSERT INTO t VALUES (?), (a), (?)"),
    ("SELECT a WHERE (a,b) IN (VALUES (1,2),(3,4))", "SELECT a WHERE (a, b) IN (VALUES (?, ?))"),
    # other statements
    ("PRAGMA cache_size=-2000", "PRAGMA cache_size = ?"),
    ("PRAGMA table_info('t')", "PRAGMA table_info(?)"),
    ("EXPLAIN QUERY PLAN SELECT 1", "EXPLAIN QUERY PLAN SELECT ?"),
    (
        "CREATE TABLE IF NOT EXISTS t(a INTEGER PRIMARY KEY,b TEXT NULL DEFAULT NULL)",
        "CREATE TABLE IF NOT EXISTS t (a INTEGER PRIMARY KEY, b TEXT NULL DEFAULT NULL)",
    ),
    (
        "CREATE TABLE t(a REFERENCES u(b) ON DELETE SET NULL, UNIQUE(a))",
        "CREATE TABLE t (a REFERENCES u (b) ON DELETE SET NULL, UNIQUE (a))",
    ),
    ("CREATE INDEX i ON t(lower(a))", "CREATE INDEX i ON t (LOWER(a))"),
    ("CREATE VIRTUAL TABLE f USING fts5(a, b)", "CREATE VIRTUAL TABLE f USING fts5(a, b)"),
    # no SQL at all
    ("", ""),
    (" ;; ", ""),
    ("SELECT 'never closed", "SELECT ?"),
    ('SELECT "never closed', 'SELECT "never closed'),
    ("SELECT 1 /* never closed", "SELECT ?"),
    ("VALUES (1, (2", "VALUES (?, (?"),
    (") ( . , ;", ") (.,"),
]

KINDS = [
    ("SELECT 1", True, "read"),
    ("VALUES (1)", True, "read"),
    ("select fts5_writes()", False, "write"),
    ("WITH t AS (SELECT 1) SELECT * FROM t", True, "read"),
    ("WITH t AS (SELECT 1) INSERT INTO a SELECT * FROM t", False, "write"),
    ("INSERT INTO t VALUES (1)", False, "write"),
    ("REPLACE INTO t VALUES (1)", False, "write"),
    ("update t set a = 1", False, "write"),
    ("DELETE FROM t", False, "write"),
    ("CREATE TABLE t (a)", False, "ddl"),
    ("CREATE TEMP VIEW v AS SELECT 1", False, "ddl"),
    ("DROP INDEX i", False, "ddl"),
    ("ALTER TABLE t RENAME TO u", False, "ddl"),
    ("VACUUM", False, "ddl"),
    ("REINDEX", False, "ddl"),
    ("ANALYZE", False, "ddl"),
    ("BEGIN IMMEDIATE", False, "transaction"),
    ("COMMIT", True, "transaction"),
    ("END", True, "transaction"),
    ("ROLLBACK TO a", True, "transaction"),
    ("SAVEPOINT a", True, "transaction"),
    ("RELEASE a", True, "transaction"),
    ("PRAGMA page_count", True, "pragma"),
    ("ATTACH 'a.db' AS a", True, "pragma"),
    ("DETACH a", True, "pragma"),
    ("EXPLAIN QUERY PLAN DELETE FROM t", True, "read"),
    ("EXPLAIN DELETE FROM t", True, "read"),
    ("-- first\n /* then */ ; \n\tinsert into t values (1)", False, "write"),
    ("\ufeffSELECT 1", True, "read"),
    ("/* INSERT */ SELECT 1", True, "read"),
    ("/* never closed", True, "read"),
    ("", True, "read"),
    ("?", False, "write"),
]


@pytest.mark.parametrize(("sql", "shape"), SHAPES)
def test_shape(sql, shape):
    assert shape_of(sql) == shape


@pytest.mark.parametrize(("sql", "shape"), SHAPES)
def test_the_shape_of_a_shape_is_itself(sql, shape):
    if "never closed" not in sql:
        assert shape_of(shape) == shape


@pytest.mark.parametrize(("sql", "readonly", "kind"), KINDS)
def test_kind(sql, readonly, kind):
    assert kind_of(sql, readonly=readonly) == kind


@given(st.text())
def test_any_text_has_a_shape_and_a_kind(text):
    assert isinstance(shape_of(text), str)
    assert kind_of(text, readonly=True) in ("read", "write", "ddl", "transaction", "pragma")


@given(st.text(alphabet="()'\"`[]?:@$-+/*., ;aIN1x\n"), st.text(alphabet="VALUES (1),;'IN"))
def test_text_that_is_nearly_sql_has_a_shape(text, ending):
    assert isinstance(shape_of(text + ending), str)


@given(
    st.lists(
        st.integers(-(2**63), 2**63 - 1)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text()
        | st.binary()
        | st.none()
    ),
    st.sampled_from([" ", "\n", "  ", "\t", " /* c */ "]),
)
def test_literals_and_spaces_make_no_difference(values, space):
    """SQLite itself writes the literals."""
    connection = sqlite3.connect(":memory:")
    quoted = [connection.execute("SELECT quote(?)", (value,)).fetchone()[0] for value in values]
    connection.close()
    listed = f",{space}".join(["0", *quoted])
    sql = f"SELECT{space}a{space}FROM t WHERE a{space}IN{space}({space}{listed}{space})"
    assert shape_of(sql) == "SELECT a FROM t WHERE a IN (?)"


def test_shapes_of_shapes_of_real_statements_still_run():
    """What a shape keeps is still SQL: SQLite prepares it with its parameters unbound."""
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE t (a, b TEXT)")
    for sql in (
        "INSERT INTO t(a, b) VALUES (1, 'x'), (-2, NULL)",
        "SELECT count(*), sum(a) FILTER(WHERE b<>'y') OVER(PARTITION BY a) FROM t GROUP BY a",
        "UPDATE t SET a=a-1 WHERE b LIKE 'x%' AND a IN(1,2)",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<9) SELECT * FROM n",
    ):
        shape = shape_of(sql)
        connection.execute("EXPLAIN " + shape, (None,) * len(re.findall(r"\?", shape))).fetchall()
    connection.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    [
        "INSERT INTO t VALUES " + ",".join(f"({i}, 'abc', NULL)" for i in range(50_000)),
        *(piece * 50_000 for piece in ("'", "/*", "(", ":a::", "[:", "1e", "--", "$a(", "IN(1,")),
        "VALUES (1)," * 50_000,
    ],
    ids=lambda text: text[:12],
)
def test_time_grows_with_the_length_only(text):
    start = time.process_time()
    shape_of(text)
    kind_of(text, readonly=True)
    # Measured: at most 0.3 s. Anything quadratic takes minutes.
    assert time.process_time() - start < 10


PIECES = (
    *("'a'", "'it''s'", "x'ab'", "X'0'", "ax'5'", "12", "1.5", ".5", "1.", "1e5", "1e+5", "1e"),
    *("0x1F", "1_000", "a.5", "a.b", "t", "INSERT", "VALUES", "(", ")", ",", "-", "+", "*"),
    *("--c\n", "/* ' */", '"q\'"', "[b]", "`c`", "?", "?1", ":n", "@v", "$x", "NULL", "IN", " "),
    *("\n", "é", "1é", "N'x'", "e5", "_1", "'unterminated", "\ufeff", "=", "||", "x", "5x", ";"),
    *("1.5.5", "\0"),
)


@pytest.mark.parametrize("seed", range(4))
def test_literals_found_quickly_are_those_that_the_tokenizer_finds(seed):
    rng = random.Random(seed)
    quick = 0
    for _ in range(5_000):
        sql = "".join(
            rng.choice(PIECES) + rng.choice(("", " ")) for _ in range(rng.randrange(1, 9))
        )
        plain = shape._plain(sql)
        if plain is not None:
            quick += 1
            assert shape._without_literals(plain) == shape._without_literals(sql)
        assert shape_of(sql) == shape._shape(sql)
    assert quick > 500


PLANS = [
    "SELECT * FROM t WHERE x LIKE {} || ''",
    "SELECT * FROM t WHERE x = {}",
    "INSERT INTO t SELECT {}, x FROM t",
    "INSERT INTO t VALUES ({}, (SELECT max(x) FROM t))",
    "INSERT INTO t VALUES ({}, 1) ON CONFLICT DO UPDATE SET x = 1",
    "INSERT INTO t VALUES ({}, 1) RETURNING x",
    "WITH v AS (SELECT {}) INSERT INTO t SELECT * FROM v",
    'INSERT INTO "t" VALUES ({})',
    "UPDATE t SET x = {}",
    "EXPLAIN INSERT INTO t VALUES ({})",
]


@pytest.mark.parametrize("sql", PLANS)
def test_a_plan_that_literals_may_change_is_asked_for_each_text(sql):
    assert plan_key(sql.format("'a'")) is None


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO t VALUES ({}, 'b')",
        "replace into t (x) values ({}), (2)",
        " INSERT OR IGNORE INTO t VALUES({})",
    ],
)
def test_rows_that_are_inserted_share_a_plan(sql):
    assert plan_key(sql.format("'SELECT'")) == plan_key(sql.format(17)) is not None
