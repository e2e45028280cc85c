"""Random messages on a canister and on one plain connection, statement by statement.

A canister has one SQLite connection, in its heap. What a message that traps, and each query, did
to the heap is gone afterwards. The plain side takes that literally: it keeps the statements of all
messages that committed since the heap began, and runs them again on a new connection wherever the
heap comes back. So nothing in it knows what belongs to a connection and what does not.
"""

import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random

import apsw

from sqlstable import Canister, SqlError, Trap
from sqlstable.trace.recording.recorder import plan_lines

SIDE = "side.db"
"""An attached database in stable memory, of the native engine only."""

BEGINNING = (
    "CREATE TABLE a (id INTEGER PRIMARY KEY, x, y CHECK (y < 90))",
    "CREATE TABLE b (x, y)",
    "CREATE TABLE p (id INTEGER PRIMARY KEY)",
    "CREATE TABLE c (id INTEGER PRIMARY KEY, p REFERENCES p ON DELETE CASCADE)",
    "CREATE TABLE d (p REFERENCES p DEFERRABLE INITIALLY DEFERRED)",
    "CREATE TABLE log (n)",
    (
        "CREATE TRIGGER logged AFTER INSERT ON log WHEN new.n > 0 "
        "BEGIN INSERT INTO log VALUES (new.n - 1); END"
    ),
    "CREATE TRIGGER gone AFTER DELETE ON a BEGIN INSERT INTO b VALUES (old.x, changes()); END",
    "CREATE INDEX b_x ON b (x)",
    "CREATE VIRTUAL TABLE f USING fts5(body)",
    "INSERT INTO a VALUES (1, 'Abc', 1), (2, 'abc', 2), (3, 'bcd', 3)",
    "INSERT INTO b SELECT id % 2, id FROM a",
    "INSERT INTO p VALUES (1), (2)",
    "INSERT INTO f VALUES ('one two')",
)

SWITCHES = (
    *("automatic_index", "case_sensitive_like", "cell_size_check", "checkpoint_fullfsync"),
    *("defer_foreign_keys", "foreign_keys", "fullfsync", "ignore_check_constraints"),
    *("legacy_alter_table", "query_only", "read_uncommitted", "recursive_triggers"),
    *("reverse_unordered_selects", "trusted_schema", "writable_schema"),
)
NUMBERS = {
    "analysis_limit": (0, 5, 100),
    "auto_vacuum": (0, 1, 2),
    "busy_timeout": (0, 50),
    "cache_size": (3, 20, 200),
    "cache_spill": (0, 10),
    "journal_size_limit": (-1, 1000),
    "max_page_count": (4000, 1_000_000),
    "page_size": (1024, 4096),
    "secure_delete": (0, 1, "fast"),
    "synchronous": (0, 1, 2),
    "temp_store": (0, 1, 2),
    "user_version": (1, 2, 3),
}
ASKED = (
    *(name for name in SWITCHES if name != "case_sensitive_like"),
    *NUMBERS,
    *("locking_mode", "journal_mode", "encoding", "page_count", "freelist_count"),
)

READS = (
    "SELECT last_insert_rowid(), changes(), total_changes()",
    "SELECT changes()",
    "SELECT * FROM a",
    "SELECT * FROM b ORDER BY x, y",
    "SELECT count(*) FROM a WHERE x LIKE 'ab%'",
    "SELECT * FROM main.a ORDER BY id DESC",
    "SELECT * FROM log",
    "SELECT * FROM c, d",
    "SELECT * FROM t",
    "SELECT * FROM temp.a",
    "SELECT * FROM one.s",
    "SELECT * FROM s",
    "SELECT * FROM two.s",
    "SELECT rowid, * FROM f('one')",
    "SELECT type, name, tbl_name, sql FROM sqlite_temp_schema",
    "SELECT name FROM sqlite_schema ORDER BY 1",
    "SELECT count(*) FROM pragma_table_info('t')",
    "SELECT seq, name FROM pragma_database_list",
    "SELECT foreign_keys FROM pragma_foreign_keys",
    "SELECT cache_size FROM pragma_cache_size",
    "SELECT schema, name, type FROM pragma_table_list WHERE name NOT LIKE 'f_%' ORDER BY 1, 2",
    "EXPLAIN QUERY PLAN SELECT * FROM a JOIN b ON a.y = b.y",
    "EXPLAIN QUERY PLAN SELECT * FROM b WHERE x = 1",
    "PRAGMA integrity_check",
    "PRAGMA quick_check",
    "PRAGMA foreign_key_check",
    "SELECT * FROM missing",
    "EXPLAIN QUERY PLAN SELECT * FROM t JOIN a USING (x)",
)

WRITES = (
    "INSERT INTO a (x, y) VALUES ('new', {n})",
    "INSERT INTO a VALUES ({n}, 'Abd', {n})",
    "INSERT OR REPLACE INTO a VALUES ({n}, 'x', 4)",
    "UPDATE a SET y = y + 1 WHERE id < {n}",
    "DELETE FROM a WHERE id = {n}",
    "DELETE FROM a WHERE id = -1",
    "DELETE FROM a WHERE id < {n}",
    "INSERT INTO b VALUES ({n}, {n})",
    "INSERT INTO p VALUES ({n})",
    "INSERT INTO c (p) VALUES ({n})",
    "INSERT INTO d VALUES ({n})",
    "DELETE FROM p WHERE id = {n}",
    "INSERT INTO log VALUES (3)",
    "INSERT INTO f VALUES ('one {n}')",
    "DELETE FROM f WHERE rowid = {n}",
    "UPDATE f SET body = 'one more' WHERE rowid = {n}",
    "INSERT INTO f (f) VALUES ('rebuild')",
    "INSERT INTO t VALUES ({n}, 'temp')",
    "UPDATE t SET x = x + 1",
    "INSERT INTO temp.a VALUES ({n}, 'hidden', 0)",
    "INSERT INTO v VALUES ({n})",
    "INSERT INTO one.s VALUES ({n})",
    "INSERT INTO two.s SELECT x FROM b",
    "DELETE FROM s WHERE x < {n}",
    "UPDATE sqlite_sequence SET seq = 5",
    "EXPLAIN INSERT INTO a VALUES (1, 2, 3)",
    (
        "WITH r (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM r WHERE i < 40) "
        "INSERT INTO b SELECT i % 3, i FROM r"
    ),
)

DEFINITIONS = (
    "CREATE TEMP TABLE t (x, y)",
    "CREATE TEMP TABLE IF NOT EXISTS t (x INTEGER PRIMARY KEY, y)",
    "CREATE TEMP TABLE a (id, x, y)",
    "CREATE TEMP TABLE made AS SELECT * FROM main.a",
    "CREATE TEMP VIEW v AS SELECT x FROM main.b",
    "CREATE TEMP TRIGGER seen AFTER INSERT ON main.b BEGIN INSERT INTO t VALUES (new.x, 'b'); END",
    (
        "CREATE TEMP TRIGGER into_v INSTEAD OF INSERT ON v BEGIN "
        "INSERT INTO b VALUES (new.x, last_insert_rowid()); END"
    ),
    "CREATE INDEX temp.t_x ON t (x)",
    "CREATE VIRTUAL TABLE temp.g USING fts5(body)",
    "INSERT INTO g VALUES ('one')",
    "DROP TABLE temp.t",
    "DROP TABLE t",
    "DROP TABLE temp.a",
    "DROP VIEW v",
    "DROP TRIGGER seen",
    "CREATE TABLE e{n} (x)",
    "DROP TABLE e{n}",
    "ALTER TABLE b ADD COLUMN z{n}",
    "CREATE INDEX b_y ON b (y)",
    "DROP INDEX b_y",
    "ANALYZE",
    "REINDEX",
    "VACUUM",
    "ATTACH ':memory:' AS one",
    "ATTACH ':memory:' AS two",
    "ATTACH '' AS one",
    "CREATE TABLE one.s (x)",
    "CREATE TABLE two.s (x)",
    "DETACH one",
    "DETACH two",
    "PRAGMA one.cache_size = 7",
    "PRAGMA optimize",
    "PRAGMA temp.foreign_keys = on",
    "PRAGMA foreign_keys = on nonsense",
    "EXPLAIN PRAGMA recursive_triggers = off",
    "SELECT * FROM sqlite_temp_schema",
)

NATIVE_ONLY = (
    f"ATTACH '{SIDE}' AS side",
    "CREATE TABLE IF NOT EXISTS side.z (x)",
    "INSERT INTO side.z VALUES ({n})",
    "SELECT * FROM z",
    "DETACH side",
    "SELECT twice(21), twice(changes())",
    "SELECT x FROM a ORDER BY x COLLATE backwards",
    "CREATE TEMP VIEW w AS SELECT twice(y) FROM main.b",
    "SELECT * FROM w",
    "PRAGMA journal_mode = delete",
    "PRAGMA journal_mode = persist",
    "PRAGMA journal_mode = memory",
    "PRAGMA locking_mode = normal",
    "PRAGMA locking_mode = exclusive",
)


KINDS = ("update", "trap", "query", "failing query", "upgrade")


@dataclass(frozen=True)
class Step:
    """One message, or ``upgrade``."""

    kind: str
    "One of `KINDS`; an update and a query that trap at their end have kinds of their own."
    statements: tuple[str, ...] = ()
    cache: str = "cold"


def script(seed, *, is_native, length=14):
    """Return the steps of one random script."""
    random = Random(seed)
    # A few kinds at a time: what is set together is likely to matter together.
    definitions = random.sample(DEFINITIONS, 14)
    reads = random.sample(READS, 16)
    if is_native and random.random() < 0.5:
        definitions += random.sample(NATIVE_ONLY, 7)
    return [_step(random, definitions, reads) for _ in range(length)]


def _step(random, definitions, reads):
    kind = random.choices(KINDS, (9, 3, 8, 2, 1))[0]
    if kind == "upgrade":
        return Step(kind)
    many = random.randint(1, 4)
    statements = [_statement(random, kind, definitions, reads) for _ in range(many)]
    if random.random() < 0.2:
        statements = ["BEGIN", *statements, random.choice(("COMMIT", "ROLLBACK"))]
    return Step(kind, tuple(statements), random.choice(("cold", "cold", "warm", "fresh")))


def _statement(random, kind, definitions, reads):
    weights = (8, 1, 1, 1, 2) if "query" in kind else (1, 4, 4, 3, 1)
    chosen = random.choices(("read", "write", "define", "set", "ask"), weights)[0]
    if chosen == "read":
        return random.choice(reads)
    if chosen == "ask":
        return f"PRAGMA {random.choice(ASKED)}"
    if chosen == "set":
        if random.random() < 0.6:
            return f"PRAGMA {random.choice(SWITCHES)} = {random.choice(('on', 'off'))}"
        name = random.choice(list(NUMBERS))
        return f"PRAGMA {name} = {random.choice(NUMBERS[name])}"
    text = random.choice(WRITES if chosen == "write" else definitions)
    return text.replace("{n}", str(random.randint(1, 9)))


def add_functions(connection):
    """What a canister's `on_connect` registers."""
    connection.create_scalar_function("twice", lambda value: None if value is None else 2 * value)
    connection.create_collation("backwards", lambda one, two: (one < two) - (one > two))


class Plain:
    """One connection on plain files, and what is needed to have it again."""

    def __init__(self, folder, *, is_native):
        self.folder = Path(folder)
        self.is_native = is_native
        self.count = 0
        self.files = {}
        self.history = []
        self.connection = self.revive()

    def close(self):
        self.connection.close(force=True)

    def revive(self, *, is_fresh=False):
        """Return a new connection that stands where the last committed message ended."""
        self.count += 1
        folder = self.folder / str(self.count)
        folder.mkdir()
        files = self.snapshot() if is_fresh else self.files
        for name, data in files.items():
            (folder / name).write_bytes(data)
        connection = apsw.Connection(str(folder / "main.db"))
        for pragma in (
            *("locking_mode = exclusive", "page_size = 4096", "temp_store = memory"),
            *("synchronous = off", "journal_mode = memory", "cache_size = 500"),
            "foreign_keys = off",
        ):
            connection.execute(f"PRAGMA {pragma}").fetchall()
        if self.is_native:
            add_functions(connection)
        if not is_fresh:
            for sql in self.history:
                run(connection, sql)
        return connection

    def snapshot(self):
        """Return the bytes of all files as the last committed message left them."""
        # A copy of the connection is closed, so that all that it holds is in its files.
        copy = self.revive()
        folder = Path(copy.filename).parent
        copy.close(force=True)
        return {path.name: path.read_bytes() for path in folder.glob("*.db")}

    def tidy(self):
        """Delete the folders of connections that are gone."""
        keep = Path(self.connection.filename).parent
        for folder in self.folder.iterdir():
            if folder != keep:
                shutil.rmtree(folder)

    def upgrade(self):
        self.files = self.snapshot()
        self.history = []
        self.connection.close(force=True)
        self.connection = self.revive()


def run(connection, sql):
    """Return rows, or SQLite's words."""
    folder = Path(connection.filename).parent
    if f"'{SIDE}'" in sql:
        sql = sql.replace(f"'{SIDE}'", f"'{folder / SIDE}'")
    try:
        return shown(sql, connection.execute(sql).fetchall())
    except UnicodeDecodeError:
        # What EXPLAIN says of some operands is no text, and now and then no UTF-8.
        assert is_program(sql)
        return None
    except apsw.Error as error:
        return str(error)


def shown(sql, rows):
    """Leave out of rows what depends on more than the connection and the database."""
    if sql.startswith("EXPLAIN QUERY PLAN"):
        # Neither estimates, as SQLite keeps old ones of tables without statistics, nor addresses in
        # the program, which depend on when the schema was read.
        return plan_lines(rows)
    # Programs of EXPLAIN name how often the schema was read.
    return None if is_program(sql) else rows


def is_program(sql):
    return sql.startswith("EXPLAIN ") and not sql.startswith("EXPLAIN QUERY PLAN")


class DifferenceError(AssertionError):
    """What the two sides said differently."""


class Pair:
    """A canister and one plain connection that are told the same."""

    def __init__(self, engine, folder):
        self.canister = Canister(engine=engine)
        self.is_native = engine == "native"
        if self.is_native:
            self.canister.on_connect(add_functions)
        self.plain = Plain(folder, is_native=self.is_native)
        self.told = []
        self.update(BEGINNING)

    def close(self):
        self.canister.close()
        self.plain.close()

    def tell(self, step):
        self.told.append(step)
        if step.kind == "upgrade":
            self.canister.upgrade()
            self.plain.upgrade()
        elif step.kind == "update":
            self.update(step.statements)
        elif step.kind == "trap":
            self.trap(step.statements)
        else:
            self.query(step.statements, step.cache, fails=step.kind == "failing query")
        self.plain.tidy()

    def update(self, statements):
        with self.canister.message("update") as message:
            self.plain.history += self.both(message, self.plain.connection, statements)

    def trap(self, statements):
        copy = self.plain.revive()
        with suppress(Trap), self.canister.message("update") as message:
            self.both(message, copy, statements)
            message.trap()
        copy.close(force=True)

    def query(self, statements, cache, *, fails=False):
        copy = self.plain.revive(is_fresh=cache == "fresh")
        with suppress(Trap), self.canister.message("query", cache=cache) as message:
            self.both(message, copy, statements)
            if fails:
                message.trap()
        copy.close(force=True)

    def both(self, message, plain, statements):
        """Run statements on both sides; returns those that were run."""
        statements = list(statements)
        for sql in statements:
            try:
                ours = shown(sql, message.execute(sql))
            except SqlError as error:
                ours = str(error).rpartition("; in: ")[0]
                if is_program(sql) and "UTF-8" in ours:
                    ours = None
            theirs = run(plain, sql)
            if ours != theirs:
                story = "\n".join(map(str, self.told))
                msg = f"{story}\n{sql}\nhere  {ours}\nplain {theirs}"
                raise DifferenceError(msg)
            if sql is statements[-1] and plain.in_transaction:
                statements.append("ROLLBACK")
        return statements
