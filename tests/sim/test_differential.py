"""Random SQL on stable memory and on a plain file: the same rows, errors and database bytes.

Both run under the same PRAGMAs, because change counters, spills and the choice of free SQLite
pages depend on them. The bytes are compared whole, after every message, with one exception. What
a file loses when it is cut off reads as zeros when the file grows again; stable memory still has
it, here as in a canister. SQLite never relies on those bytes, but carries some of them along in
the unused parts of SQLite pages. So after a truncation our bytes may be anything where the plain
file has zeros. Half of the runs wipe what was cut off after each message and stay exact.
"""

from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random

import apsw
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sqlstable import Canister, MemoryManager, SqlError, StableMemory, StableVFS, Trap
from tests.doors import series

OWN_LAYOUTS = ("managed", "raw", "apart")
LAYOUTS = (*OWN_LAYOUTS, "froghub", "ic-sqlite-vfs")
"""The last is the managed one with another memory's buckets between those of the database."""


@dataclass(frozen=True)
class Circumstances:
    """How both databases are set up."""

    page_size: int
    layout: str
    journal_mode: str
    cache_size: int
    auto_vacuum: int
    wipes_tail: bool
    "Whether the test zeroes what lies behind the end of the database, after each message."

    def canister(self):
        return Canister(
            page_size=self.page_size,
            layout="managed" if self.layout == "apart" else self.layout,
            journal_mode=self.journal_mode,
            cache_size=self.cache_size,
            bucket_pages=1,
            depth="pages",
            memory=memory_with_buckets_apart() if self.layout == "apart" else None,
        )

    def connect(self, path):
        connection = apsw.Connection(str(path))
        for pragma in (
            f"page_size = {self.page_size}",
            "locking_mode = exclusive",
            "temp_store = memory",
            "synchronous = off",
            f"journal_mode = {self.journal_mode}",
            f"cache_size = {self.cache_size}",
            "foreign_keys = off",
        ):
            connection.execute(f"PRAGMA {pragma}").fetchall()
        return connection


def memory_with_buckets_apart():
    memory = StableMemory()
    manager = MemoryManager(memory, bucket_wasm_pages=1)
    for memory_id in (120, 3, 120):
        manager.get(memory_id).grow(1)
    return memory


class Pair:
    """A canister and a plain file that are told the same."""

    def __init__(self, circumstances, folder):
        self.circumstances = circumstances
        self.path = Path(folder) / "plain.db"
        self.path.unlink(missing_ok=True)
        self.canister = circumstances.canister()
        self.plain = circumstances.connect(self.path)
        self.has_stale_bytes = False
        self.is_undefined = False
        self.watch()
        self.update([f"PRAGMA auto_vacuum = {circumstances.auto_vacuum}"])

    def close(self):
        self.canister.close()
        self.plain.close(force=True)

    def watch(self):
        """Learn of truncations; the file of a new heap is a new one."""
        self.store = self.canister.vfs.store
        self.store.messages.interceptor = self.on_access
        self.store.rebind()

    def on_access(self, kind):
        self.has_stale_bytes |= kind == "truncate"

    def update(self, statements):
        """One message that commits."""
        with self.canister.message("update") as message:
            outcomes = [self.both(message, self.plain, sql) for sql in statements]
        self.check(outcomes)

    def trap(self, statements):
        """An update that traps at its end; the plain file is put back by hand."""
        before = self.path.read_bytes()
        outcomes = []
        with suppress(Trap), self.canister.message("update") as message:
            outcomes = [self.both(message, self.plain, sql) for sql in statements]
            message.trap()
        self.plain.close(force=True)
        self.path.write_bytes(before)
        self.plain = self.circumstances.connect(self.path)
        self.check(outcomes)

    def query(self, statements, cache):
        """A query, which may write in vain; the plain side runs it on a copy."""
        with closing(apsw.Connection(":memory:")) as copy:
            if data := self.path.read_bytes():
                copy.deserialize("main", data)
            with self.canister.message("query", cache=cache) as message:
                outcomes = [self.both(message, copy, sql) for sql in statements]
        self.check(outcomes)

    @staticmethod
    def both(message, plain, sql):
        try:
            ours = message.execute(sql)
        except SqlError as error:
            ours = str(error).rpartition("; in: ")[0]
        try:
            theirs = plain.execute(sql).fetchall()
        except apsw.Error as error:
            theirs = str(error)
        return sql, ours, theirs

    def upgrade(self):
        self.canister.upgrade()
        self.watch()
        self.plain.close()
        self.plain = self.circumstances.connect(self.path)
        self.check()

    def check(self, outcomes=()):
        for sql, ours, theirs in outcomes:
            assert ours == theirs, sql
            # Without a journal SQLite cannot undo the half of a statement that failed.
            self.is_undefined |= (
                isinstance(theirs, str) and self.circumstances.journal_mode == "off"
            )
        plain = self.path.read_bytes()
        assert self.store.size_bytes == len(plain)
        ours = b"".join(self.store.peek(512, offset) for offset in range(0, len(plain), 512))
        if self.has_stale_bytes and ours != plain:
            assert only_where_zero_differs(ours, plain)
        else:
            assert ours == plain
        if self.circumstances.wipes_tail and ours == plain:
            self.wipe_tail()

    def wipe_tail(self):
        self.has_stale_bytes = False
        placement, backing = self.store.placement, self.canister.memory.backing
        for offset in range(self.store.size_bytes, placement.allocated_bytes, 512):
            backing.write(placement.map.address(offset), bytes(512))

    def check_contents(self):
        """Compare what counts, whatever the bytes: all rows of all tables, and soundness."""
        sql = "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name"
        with self.canister.message("query") as message:
            for (name,) in message.execute(sql):
                rows = message.execute(f"SELECT * FROM {name} ORDER BY 1, 2")
                assert rows == self.plain.execute(f"SELECT * FROM {name} ORDER BY 1, 2").fetchall()
            assert message.execute("PRAGMA integrity_check") == [("ok",)]


def only_where_zero_differs(ours, plain):
    """Whether ours differs from plain only where plain has zeros."""
    one, other = np.frombuffer(ours, np.uint8), np.frombuffer(plain, np.uint8)
    return not np.any(other[one != other])


# -- random SQL -----------------------------------------------------------------------------------

NUMBERS = st.integers(0, 40)
TABLES = st.sampled_from(["t0", "t1", "w"])
"""Two with a rowid, and one without."""

VALUES = st.one_of(
    st.just("NULL"),
    st.integers(-(2**63), 2**63 - 1).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.builds("printf('%.*c', {}, '{}')".format, st.integers(0, 9000), st.sampled_from("abcé")),
    st.builds("zeroblob({})".format, st.integers(0, 9000)),
    st.binary(max_size=12).map(lambda data: f"x'{data.hex()}'"),
)


def sql(template, *parts):
    return st.builds(template.format, *parts)


MANY = st.integers(1, 60).map(series)

SCHEMA_CHANGES = st.one_of(
    sql("CREATE TABLE IF NOT EXISTS t{} (id INTEGER PRIMARY KEY, a, b)", st.integers(0, 1)),
    st.just("CREATE TABLE IF NOT EXISTS w (id INTEGER, a, b, PRIMARY KEY (id, a)) WITHOUT ROWID"),
    sql("CREATE INDEX IF NOT EXISTS i{} ON {} (b, a)", st.integers(0, 2), TABLES),
    sql("CREATE INDEX IF NOT EXISTS part ON {} (a) WHERE id > {}", TABLES, NUMBERS),
    sql("CREATE UNIQUE INDEX IF NOT EXISTS unique_{0} ON {0} (id, b)", TABLES),
    sql("DROP INDEX IF EXISTS i{}", st.integers(0, 2)),
    sql("DROP TABLE IF EXISTS {}", TABLES),
    sql("ALTER TABLE {} ADD COLUMN more{} DEFAULT {}", TABLES, st.integers(0, 3), VALUES),
    sql("ALTER TABLE {} RENAME TO kept{}", TABLES, st.integers(0, 3)),
    sql(
        "CREATE TRIGGER IF NOT EXISTS g{0} AFTER {1} ON {2} BEGIN "
        "DELETE FROM t1 WHERE id = new.id + {3}; END",
        st.integers(0, 1),
        st.sampled_from(["INSERT", "UPDATE"]),
        st.sampled_from(["t0", "w"]),
        NUMBERS,
    ),
)
ROW_CHANGES = st.one_of(
    sql(
        "INSERT OR REPLACE INTO {} (id, a, b) VALUES ({}, {}, {}), ({}, {}, {})",
        TABLES,
        NUMBERS,
        VALUES,
        VALUES,
        NUMBERS,
        VALUES,
        VALUES,
    ),
    sql("INSERT OR IGNORE INTO {} (id, a, b) SELECT i, {}, i * i FROM {}", TABLES, VALUES, MANY),
    sql(
        "INSERT OR REPLACE INTO {} (id, a, b) SELECT id + {}, a, b FROM {}", TABLES, NUMBERS, TABLES
    ),
    sql("UPDATE OR REPLACE {} SET a = {} WHERE id % {} = 0", TABLES, VALUES, st.integers(1, 9)),
    sql("UPDATE OR IGNORE {} SET id = id + {}, b = {}", TABLES, NUMBERS, VALUES),
    sql("DELETE FROM {} WHERE id < {}", TABLES, NUMBERS),
    sql("DELETE FROM {} WHERE id % 3 = {} RETURNING id", TABLES, st.integers(0, 2)),
    sql("DELETE FROM {}", TABLES),
    sql("INSERT INTO f SELECT 'words ' || i, 'more {}' FROM {}", NUMBERS, MANY),
    sql("DELETE FROM f WHERE rowid < {}", NUMBERS),
    sql("INSERT INTO f(f) VALUES ('{}')", st.sampled_from(["optimize", "rebuild"])),
    sql("INSERT OR REPLACE INTO r SELECT i, i % {}, i % 7 + 50 FROM {}", st.integers(1, 9), MANY),
    sql("DELETE FROM r WHERE x0 > {}", st.integers(0, 7)),
    sql("PRAGMA user_version = {}", NUMBERS),
)
FAILING = st.one_of(
    sql("INSERT INTO {} (id, a, b) SELECT {} - i, 1, 2 FROM {}", TABLES, NUMBERS, MANY),
    sql("UPDATE {} SET id = {}", TABLES, NUMBERS),
    sql("SELECT missing FROM {}", TABLES),
    st.just("SELECT 'unfinished"),
)
READS = st.one_of(
    sql("SELECT * FROM {} ORDER BY id", TABLES),
    sql("SELECT count(*), sum(length(a)), max(b) FROM {} WHERE id > {}", TABLES, NUMBERS),
    sql(
        "SELECT one.id, other.b FROM {} one JOIN {} other USING (id) ORDER BY 1, 2", TABLES, TABLES
    ),
    sql("SELECT b FROM {} WHERE b > {} ORDER BY b, a LIMIT 9", TABLES, VALUES),
    st.just("SELECT count(*) FROM v"),
    sql("SELECT rowid, a FROM f WHERE f MATCH 'words AND {}' ORDER BY rowid", NUMBERS),
    sql("SELECT id FROM r WHERE x1 > {} ORDER BY id", st.integers(50, 60)),
    st.just("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY name"),
    st.just("PRAGMA integrity_check"),
    st.just("PRAGMA freelist_count"),
)
UPKEEP = st.one_of(
    st.just("VACUUM"),
    st.just("ANALYZE"),
    st.just("REINDEX"),
    sql("PRAGMA incremental_vacuum({})", NUMBERS),
)


@st.composite
def transactions(draw, changes, *, may_roll_back):
    """BEGIN, changes with savepoints among them, and an end."""
    statements = ["BEGIN"]
    for _ in range(draw(st.integers(1, 3))):
        inner = draw(st.lists(changes, min_size=1, max_size=3))
        if may_roll_back and draw(st.booleans()):
            end = draw(st.sampled_from(["RELEASE s", "ROLLBACK TO s"]))
            inner = ["SAVEPOINT s", *inner, end]
        statements += inner
    end = draw(st.sampled_from(["COMMIT", "ROLLBACK"])) if may_roll_back else "COMMIT"
    return [*statements, end]


@st.composite
def runs(draw, layouts=LAYOUTS):
    """Circumstances, and what happens in them."""
    layout = draw(st.sampled_from(layouts))
    journal_modes = ["memory", "memory", "off"]
    if layout in ("managed", "apart"):
        journal_modes += ["delete", "truncate", "persist"]
    circumstances = Circumstances(
        page_size=draw(st.sampled_from([512, 1024, 4096, 16_384, 65_536])),
        layout=layout,
        journal_mode=draw(st.sampled_from(journal_modes)),
        cache_size=draw(st.sampled_from([4, 12, 500])),
        auto_vacuum=draw(st.sampled_from([0, 0, 1, 2])),
        wipes_tail=draw(st.booleans()),
    )
    may_roll_back = circumstances.journal_mode != "off"
    changes = st.one_of(SCHEMA_CHANGES, ROW_CHANGES, ROW_CHANGES, READS)
    if may_roll_back:
        changes = st.one_of(changes, changes, FAILING)
    update = st.one_of(
        st.lists(changes, min_size=1, max_size=4),
        transactions(changes, may_roll_back=may_roll_back),
        st.lists(UPKEEP, min_size=1, max_size=2),
    )
    query = st.lists(st.one_of(READS, READS, ROW_CHANGES), min_size=1, max_size=3)
    step = st.one_of(
        st.tuples(st.just("update"), update),
        st.tuples(st.just("update"), update),
        st.tuples(st.just("query"), query, st.sampled_from(["cold", "fresh"])),
        st.tuples(st.just("trap"), update),
        st.tuples(st.just("upgrade")),
    )
    return circumstances, draw(st.lists(step, min_size=1, max_size=10))


BEGINNING = [
    "CREATE TABLE t0 (id INTEGER PRIMARY KEY, a, b)",
    "CREATE TABLE t1 (id INTEGER PRIMARY KEY, a, b)",
    "CREATE TABLE w (id INTEGER, a, b, PRIMARY KEY (id, a)) WITHOUT ROWID",
    "CREATE INDEX i0 ON t0 (b, a)",
    f"INSERT INTO t0 SELECT i, printf('%.*c', i * 40, 'x'), i FROM {series(40)}",
    "CREATE VIEW v AS SELECT a, b FROM t0 UNION ALL SELECT a, b FROM t1",
    "CREATE VIRTUAL TABLE f USING fts5(a, b)",
    "CREATE VIRTUAL TABLE r USING rtree(id, x0, x1)",
]


# -- several connections on one memory ------------------------------------------------------------


class Connections:
    """Some connections on one memory, and a dictionary that should hold the same rows."""

    def __init__(self, generator, layout):
        self.generator = generator
        self.memory = StableMemory()
        self.vfs = StableVFS(self.memory, layout=layout, bucket_pages=1)
        self.model = {}
        self.journal = generator.choice(["delete", "truncate", "persist", "memory"])
        self.connections = [self.connect() for _ in range(3)]
        self.connections[0].execute("CREATE TABLE t (id INTEGER PRIMARY KEY, x TEXT)")
        self.connections[0].execute("CREATE INDEX i ON t (x)")
        self.accesses_left = None
        self.vfs.store.messages.interceptor = self.on_access
        self.vfs.store.rebind()

    def on_access(self, kind):
        if self.accesses_left is None:
            return
        self.accesses_left -= 1
        if self.accesses_left < 0:
            self.accesses_left = None
            raise self.memory.poison(Trap(f"injected before a {kind}"))

    def connect(self):
        connection = apsw.Connection("main.db", vfs=self.vfs.name)
        cache_size = self.generator.choice([5, 500])
        connection.execute(f"PRAGMA journal_mode = {self.journal}").fetchall()
        connection.execute(f"PRAGMA cache_size = {cache_size}")
        return connection

    def close(self):
        for connection in self.connections:
            connection.close()
        self.vfs.unregister()
        self.memory.close()

    def message(self):
        """Some SQL transactions on any of the connections, kept or rolled back together."""
        before, model = self.memory.image(), dict(self.model)
        if self.generator.random() < 0.3:
            self.accesses_left = self.generator.randrange(60)
        is_kept = False
        # Where a savepoint of APSW's fails at its end, APSW replaces the trap by an error.
        with suppress(Trap, apsw.SQLError), self.memory.message("update"):
            for _ in range(self.generator.randint(1, 4)):
                self.transaction()
            if self.generator.random() < 0.2:
                raise self.memory.poison(Trap("rolled back at its end"))
            is_kept = True
        self.accesses_left = None
        if not is_kept:
            self.model = model
            assert self.memory.image() == before

    def transaction(self):
        connection = self.generator.choice(self.connections)
        first = self.generator.randrange(200)
        text = "x" * self.generator.randrange(400)
        match self.generator.randrange(5):
            case 0:
                numbers = range(first, first + self.generator.randrange(60))
                with connection:
                    sql = "INSERT OR REPLACE INTO t VALUES (?, ?)"
                    connection.executemany(sql, [(number, text) for number in numbers])
                self.model.update(dict.fromkeys(numbers, text))
            case 1:
                connection.execute("UPDATE t SET x = x || ? WHERE id >= ?", ("y", first))
                self.model.update({n: x + "y" for n, x in self.model.items() if n >= first})
            case 2:
                connection.execute("DELETE FROM t WHERE id % 7 = ?", (first % 7,))
                self.model = {n: x for n, x in self.model.items() if n % 7 != first % 7}
            case 3:
                connection.execute("VACUUM")
            case 4:
                try:
                    connection.execute("BEGIN; DELETE FROM t WHERE id < ?", (first,))
                    connection.execute("UPDATE t SET x = 'long' || hex(zeroblob(300))")
                    connection.execute("COMMIT")
                finally:
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
                text = "long" + "00" * 300
                self.model = {n: text for n in self.model if n >= first}

    def check(self, connections):
        for connection in connections:
            assert dict(connection.execute("SELECT id, x FROM t").fetchall()) == self.model
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@pytest.mark.parametrize("layout", ["managed", "raw", "froghub", "ic-sqlite-vfs"])
@pytest.mark.parametrize("seed", range(8))
def test_connections_agree_with_a_model_whatever_is_rolled_back_under_them(seed, layout):
    generator = Random(f"{seed} {layout}")
    with closing(Connections(generator, layout)) as several:
        for _ in range(100):
            several.message()
            # Not all of them each time: a look would refresh their caches.
            several.check(generator.sample(several.connections, generator.randrange(3)))
        several.check(several.connections)


# -- the whole ------------------------------------------------------------------------------------


@pytest.mark.slow
@settings(
    max_examples=400,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(runs())
def test_random_sql_gives_the_rows_errors_and_bytes_of_a_plain_file(tmp_path, run):
    circumstances, steps = run
    with closing(Pair(circumstances, tmp_path)) as pair:
        pair.update(BEGINNING)
        for kind, *arguments in steps:
            getattr(pair, kind)(*arguments)
            if pair.is_undefined:
                return
        pair.check_contents()
