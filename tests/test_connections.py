"""Several connections on one stable memory: SQLite's locks, busy handlers, rollbacks.

The oracle of the locks is SQLite itself: the same steps on a plain file in a temporary folder
answer the same rows and the same errors, and ask the busy handler as often.
"""

from contextlib import closing, suppress
from random import Random
from threading import Thread

import apsw
import pytest

from sqlstable import MessageError, StableMemory, StableVFS, Trap
from tests.connection_world import Place, W, set_up

JOURNALS = ("memory", "delete", "truncate", "persist")


@pytest.fixture
def both(tmp_path):
    """A place in stable memory and one in a folder."""
    places = [Place(), Place(tmp_path)]
    yield places
    for place in places:
        place.close()


def assert_same(places):
    here, there = places
    for mine, oracle in zip(here.answers, there.answers, strict=True):
        assert mine == oracle
    assert here.busy_calls == there.busy_calls
    assert here.state() == there.state()


# -- cases as SQLite defines them -----------------------------------------------------------------

CASES = {
    "readers_let_a_writer_reserve_and_keep_it_out_at_commit": [
        ("begin_reading", 1),
        ("sql", 0, f"BEGIN; {W}"),
        ("sql", 1, "SELECT count(*) FROM t"),
        ("begin_reading", 2),
        ("sql", 0, "COMMIT"),
        ("end_reading", 1),
        ("sql", 0, "COMMIT"),
        ("end_reading", 2),
        ("sql", 0, "COMMIT"),
        ("sql", 1, "SELECT count(*) FROM t"),
    ],
    "a_pending_writer_lets_no_new_reader_in": [
        ("begin_reading", 1),
        ("sql", 0, f"BEGIN; {W}"),
        ("sql", 0, "COMMIT"),
        ("sql", 2, "SELECT count(*) FROM t"),
        ("begin_reading", 2),
        ("read_on", 1),
        ("end_reading", 1),
        ("sql", 2, "SELECT count(*) FROM t"),
        ("sql", 0, "COMMIT"),
        ("sql", 2, "SELECT count(*) FROM t"),
    ],
    "a_pending_writer_that_rolls_back_lets_readers_in": [
        ("begin_reading", 1),
        ("sql", 0, f"BEGIN; {W}"),
        ("sql", 0, "COMMIT"),
        ("sql", 0, "ROLLBACK"),
        ("sql", 2, "SELECT count(*) FROM t"),
        ("sql", 2, W),
        ("end_reading", 1),
        ("sql", 2, W),
    ],
    "one_reserves_at_a_time": [
        ("sql", 0, "BEGIN IMMEDIATE"),
        ("sql", 1, "BEGIN IMMEDIATE"),
        ("sql", 1, W),
        ("sql", 1, "SELECT count(*) FROM t"),
        ("sql", 0, "COMMIT"),
        ("sql", 1, W),
    ],
    "an_exclusive_transaction_keeps_everybody_out": [
        ("begin_reading", 1),
        ("sql", 0, "BEGIN EXCLUSIVE"),
        ("end_reading", 1),
        ("sql", 0, "BEGIN EXCLUSIVE"),
        ("sql", 1, "SELECT count(*) FROM t"),
        ("sql", 2, "BEGIN IMMEDIATE"),
        ("sql", 0, f"{W}; COMMIT"),
        ("sql", 1, "SELECT count(*) FROM t"),
    ],
    "a_handler_that_ends_the_reading_lets_the_commit_succeed": [
        ("begin_reading", 1),
        ("on_busy", 0, (("read_on", 1), ("end_reading", 1))),
        ("sql", 0, W),
        ("sql", 2, "SELECT count(*) FROM t"),
    ],
    "a_handler_that_ends_the_writing_lets_the_next_writer_in": [
        ("sql", 1, f"BEGIN IMMEDIATE; {W}"),
        ("on_busy", 0, (("sql", 2, "SELECT count(*) FROM t"), ("sql", 1, "COMMIT"))),
        ("sql", 0, W),
        ("sql", 2, "SELECT count(*) FROM t"),
    ],
    "a_handler_that_gives_up_is_busy": [
        ("sql", 1, "BEGIN EXCLUSIVE"),
        ("on_busy", 0, (("sql", 2, "SELECT 1"), ("sql", 2, "SELECT 1"))),
        ("sql", 0, W),
        ("sql", 0, "SELECT count(*) FROM t"),
        ("sql", 1, "COMMIT"),
        ("sql", 0, W),
    ],
    "deadlock_the_second_of_two_readers_that_want_to_write_is_not_asked_to_wait": [
        ("on_busy", 0, (("sql", 2, "SELECT 1"),) * 3),
        ("on_busy", 1, (("sql", 2, "SELECT 1"),) * 3),
        ("sql", 0, "BEGIN; SELECT count(*) FROM t"),
        ("sql", 1, "BEGIN; SELECT count(*) FROM t"),
        ("sql", 0, W),
        ("sql", 1, W),
        ("sql", 0, "COMMIT"),
        ("sql", 1, "ROLLBACK"),
        ("sql", 0, "COMMIT"),
        ("sql", 1, W),
    ],
    "deadlock_a_reader_that_a_commit_waits_for_cannot_write": [
        ("on_busy", 0, (("sql", 2, "SELECT 1"),) * 3),
        ("sql", 0, "BEGIN; SELECT count(*) FROM t"),
        ("sql", 1, f"BEGIN; {W}"),
        ("sql", 1, "COMMIT"),
        ("sql", 0, W),
        ("sql", 0, "SELECT count(*) FROM t"),
        ("sql", 0, "COMMIT"),
        ("sql", 1, "COMMIT"),
        ("sql", 0, W),
    ],
    "exclusive_locking_mode_keeps_its_lock": [
        ("sql", 0, "PRAGMA locking_mode = exclusive"),
        ("sql", 0, "SELECT count(*) FROM t"),
        ("sql", 1, "SELECT count(*) FROM t"),
        ("sql", 1, W),
        ("sql", 0, W),
        ("sql", 1, "SELECT count(*) FROM t"),
        ("sql", 0, "PRAGMA locking_mode = normal"),
        ("sql", 0, "SELECT count(*) FROM t"),
        ("sql", 1, W),
        ("sql", 0, "SELECT count(*) FROM t"),
    ],
    "a_spilling_writer_needs_the_exclusive_lock": [
        ("sql", 0, "PRAGMA cache_size = 2"),
        ("sql", 2, "SELECT count(*) FROM t"),
        ("begin_reading", 1),
        ("sql", 0, "BEGIN; INSERT INTO t (x) SELECT hex(zeroblob(9000)) FROM t"),
        ("sql", 0, "INSERT INTO t (x) SELECT hex(zeroblob(9000)) FROM t"),
        ("sql", 2, "SELECT count(*) FROM t"),
        ("end_reading", 1),
        ("sql", 0, "INSERT INTO t (x) SELECT hex(zeroblob(9000)) FROM t"),
        ("sql", 2, "SELECT count(*) FROM t"),
        ("sql", 0, "ROLLBACK"),
        ("sql", 2, "SELECT count(*) FROM t"),
    ],
    "schema_changes_wait_like_others": [
        ("begin_reading", 1),
        ("sql", 0, "CREATE TABLE u (y)"),
        ("sql", 2, "SELECT count(*) FROM u"),
        ("end_reading", 1),
        ("sql", 0, "CREATE TABLE u (y)"),
        ("sql", 2, "SELECT count(*) FROM u"),
        ("sql", 1, "DROP TABLE u"),
        ("sql", 2, "SELECT count(*) FROM u"),
        ("sql", 0, "VACUUM"),
    ],
}


@pytest.mark.parametrize("journal", JOURNALS)
@pytest.mark.parametrize("case", CASES)
def test_locks_are_those_of_a_plain_file(both, case, journal):
    set_up(both, journal)
    for place in both:
        for step in CASES[case]:
            place.run(step)
    assert_same(both)
    answers = [answer for _, answer in both[0].answers]
    assert "BusyError" in answers or both[0].busy_calls


STEPS = (
    ("sql", "BEGIN"),
    ("sql", "BEGIN IMMEDIATE"),
    ("sql", "BEGIN EXCLUSIVE"),
    ("sql", "COMMIT"),
    ("sql", "COMMIT"),
    ("sql", "COMMIT"),
    ("sql", "ROLLBACK"),
    ("sql", W),
    ("sql", W),
    ("sql", "UPDATE t SET x = x || 'u' WHERE id % 2"),
    ("sql", "DELETE FROM t WHERE id = (SELECT max(id) FROM t)"),
    ("sql", "INSERT INTO t (x) SELECT hex(zeroblob(2500)) FROM t LIMIT 4"),
    ("sql", "SELECT count(*), sum(length(x)) FROM t"),
    ("sql", "SAVEPOINT s"),
    ("sql", "ROLLBACK TO s"),
    ("sql", "RELEASE s"),
    ("sql", "CREATE TABLE IF NOT EXISTS u (y)"),
    ("sql", "DROP TABLE IF EXISTS u"),
    ("begin_reading",),
    ("begin_reading",),
    ("read_on",),
    ("end_reading",),
    ("end_reading",),
)


@pytest.mark.parametrize("journal", JOURNALS)
@pytest.mark.parametrize("seed", range(6))
def test_random_steps_of_three_connections_answer_as_on_a_plain_file(both, journal, seed):
    set_up(both, journal, cache_size=(3, 500)[seed % 2])
    generator = Random(f"{journal} {seed}")
    steps = []
    for _ in range(250):
        kind, *arguments = generator.choice(STEPS)
        steps.append((kind, generator.randrange(3), *arguments))
    for place in both:
        for number in range(3):
            # One that ends another's reading, and one that only waits.
            other = (number + 1) % 3
            place.on_busy(number, [("end_reading", other)] * (seed % 3))
        for step in steps:
            place.run(step)
    assert_same(both)
    answers = [answer for _, answer in both[0].answers]
    assert answers.count("BusyError") > 5
    for place in both:
        for number in range(3):
            place.end_reading(number)
            place.sql(number, "ROLLBACK")
    for connection in both[0].connections:
        assert connection.execute("PRAGMA integrity_check").get == "ok"
    assert both[0].memory.kind is None


def test_a_busy_timeout_lasts_until_another_thread_has_committed():
    with closing(Place()) as place:
        set_up([place], "delete")
        writer, waiting = place.connections[:2]
        waiting.set_busy_timeout(60_000)
        writer.execute(f"BEGIN IMMEDIATE; {W}")
        answers = []
        thread = Thread(target=lambda: answers.append(waiting.execute(W).fetchall()))
        thread.start()
        # Nothing is answered while the lock is held, however long that is.
        thread.join(0.05)
        assert answers == []
        writer.execute("COMMIT")
        thread.join()
        assert answers == [[]]
        assert writer.execute("SELECT count(*) FROM t").get == 5


# -- one memory, several databases ----------------------------------------------------------------


def test_one_connection_at_a_time_writes_to_a_memory():
    with closing(Place()) as place:
        set_up([place], "memory", attached=True)
        one, two, _ = place.connections
        one.execute("CREATE TABLE other.o (x)")
        one.execute(f"BEGIN; {W}")
        with pytest.raises(apsw.BusyError):
            two.execute("INSERT INTO o VALUES (1)")
        assert two.execute("SELECT count(*) FROM o").get == 0
        one.execute("INSERT INTO o VALUES (2); COMMIT")
        two.execute("INSERT INTO o VALUES (3)")
        calls = []

        def end_the_other(count):
            calls.append(count)
            one.execute("COMMIT")
            return True

        two.set_busy_handler(end_the_other)
        one.execute("BEGIN; DELETE FROM o")
        two.execute(W)
        assert calls == [0]
        assert one.execute("SELECT count(*) FROM o, t").get == 0


def test_in_a_message_of_the_owner_connections_may_write_to_different_databases():
    with closing(Place()) as place:
        set_up([place], "memory", attached=True)
        one, two, three = place.connections
        one.execute("CREATE TABLE other.o (x)")
        with place.memory.message("update"):
            one.execute(f"BEGIN; {W}")
            two.execute("INSERT INTO o VALUES (1)")
            one.execute("COMMIT")
        assert three.execute("SELECT count(*) FROM o, t").get == 4


# -- rollbacks under all of them ------------------------------------------------------------------


class Several:
    """Three connections on two databases, and a dictionary that should hold the same rows."""

    def __init__(self, seed):
        self.generator = Random(seed)
        self.place = Place()
        journal = self.generator.choice(JOURNALS)
        for _ in range(3):
            self.place.open(journal, attached=True, cache_size=self.generator.choice([3, 500]))
        first = self.place.connections[0]
        first.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, x TEXT)")
        first.execute("CREATE TABLE other.o (id INTEGER PRIMARY KEY, x TEXT)")
        first.execute("CREATE INDEX other.i ON o (x)")
        self.model = {"t": {}, "o": {}}
        self.extra = 0

    def message(self):
        memory = self.place.memory
        before, model, extra = memory.image(), self.copied(), self.extra
        is_kept = self.generator.random() < 0.6
        with suppress(Trap), memory.message("update"):
            for _ in range(self.generator.randint(1, 3)):
                self.transaction()
            if not is_kept:
                raise memory.poison(Trap("rolled back"))
        if not is_kept:
            assert memory.image() == before
            self.model, self.extra = model, extra

    def copied(self):
        return {table: dict(found) for table, found in self.model.items()}

    def transaction(self):
        generator = self.generator
        connection = generator.choice(self.place.connections)
        if generator.random() < 0.1:
            self.change_schema(connection)
            return
        model = self.copied()
        connection.execute(generator.choice(["BEGIN", "BEGIN IMMEDIATE"]))
        for _ in range(generator.randint(1, 4)):
            self.change(connection)
        if generator.random() < 0.25:
            connection.execute("ROLLBACK")
            self.model = model
        else:
            connection.execute("COMMIT")

    def change(self, connection):
        generator = self.generator
        table, key = generator.choice("to"), generator.randrange(40)
        match generator.randrange(4):
            case 0 | 1:
                text = f"{key} " * generator.randrange(600)
                connection.execute(f"REPLACE INTO {table} VALUES (?, ?)", (key, text))
                self.model[table][key] = text
            case 2:
                connection.execute(f"DELETE FROM {table} WHERE id >= ?", (key,))
                self.model[table] = {n: x for n, x in self.model[table].items() if n < key}
            case 3:
                connection.execute(f"UPDATE {table} SET x = 'u' || x WHERE id < ?", (key,))
                self.model[table].update(
                    {n: "u" + x for n, x in self.model[table].items() if n < key}
                )

    def change_schema(self, connection):
        """Tables come and go by the same numbers of schema and root page, rolled back or not."""
        generator = self.generator
        schema = generator.choice(["main", "other"])
        connection.execute(f"CREATE TABLE {schema}.extra_{schema}_{self.extra} (a, b)")
        connection.execute(f"INSERT INTO extra_{schema}_{self.extra} VALUES ({self.extra}, 1)")
        if self.extra:
            for name, database in self.extras(connection):
                number = int(name.rpartition("_")[2])
                row = connection.execute(f"SELECT a, b FROM {database}.{name}").fetchall()
                assert row == [(number, 1)]
                if generator.random() < 0.5:
                    connection.execute(f"DROP TABLE {database}.{name}")
        self.extra += 1

    def extras(self, connection):
        sql = (
            "SELECT name, '{0}' FROM {0}.sqlite_schema WHERE type = 'table' AND name LIKE 'extra%'"
        )
        return [
            row
            for database in ("main", "other")
            for row in connection.execute(sql.format(database)).fetchall()
        ]

    def check(self, connections):
        for connection in connections:
            for table, rows in self.model.items():
                assert dict(connection.execute(f"SELECT id, x FROM {table}").fetchall()) == rows


@pytest.mark.parametrize("seed", range(10))
def test_400_random_messages_on_three_connections_agree_with_a_model(seed):
    several = Several(seed)
    with closing(several.place):
        for number in range(400):
            several.message()
            # Not all of them each time: a look would refresh their caches.
            connections = several.place.connections
            several.check(several.generator.sample(connections, several.generator.randrange(3)))
            if number % 40 == 39:
                for name in ("main", "other"):
                    sql = f"PRAGMA {name}.integrity_check"
                    assert several.generator.choice(connections).execute(sql).get == "ok"
        several.check(connections)


class Ledger(StableMemory):
    """Looks into the image after each commit that changes it, as if the process ended there."""

    def __init__(self):
        super().__init__()
        self.totals = []
        self.is_watching = False

    def commit(self):
        is_changed = bool(self.bytemap.dirty)
        super().commit()
        if is_changed and self.is_watching:
            self.totals.append(total_of(self.image()))


def total_of(image):
    memory = StableMemory.from_image(image)
    vfs = StableVFS(memory)
    with closing(vfs.connect()) as connection:
        connection.execute("ATTACH 'other.db' AS other")
        sql = "SELECT (SELECT sum(x) FROM main.a) + (SELECT sum(x) FROM other.b)"
        total = connection.execute(sql).get
        for name in ("main", "other"):
            assert connection.execute(f"PRAGMA {name}.integrity_check").get == "ok"
    vfs.unregister()
    memory.close()
    return total


@pytest.mark.parametrize("journal", JOURNALS)
@pytest.mark.parametrize("seed", range(3))
def test_no_image_ever_holds_half_of_a_transaction_over_two_databases(journal, seed):
    generator = Random(f"{journal} {seed}")
    place = Place()
    place.memory.close()
    place.vfs.unregister()
    place.memory = Ledger()
    place.vfs = StableVFS(place.memory, bucket_pages=1)
    rows = 30
    with closing(place):
        for _ in range(3):
            place.open(journal, attached=True, cache_size=3)
        first = place.connections[0]
        first.execute("CREATE TABLE a (id INTEGER PRIMARY KEY, x INTEGER, y)")
        first.execute("CREATE TABLE other.b (id INTEGER PRIMARY KEY, x INTEGER, y)")
        series = f"WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT {rows})"
        first.execute(
            f"BEGIN; INSERT INTO a {series} SELECT i, 100, zeroblob(900) FROM n;"
            f"INSERT INTO b {series} SELECT i, 100, zeroblob(900) FROM n; COMMIT"
        )
        place.memory.is_watching = True
        open_on = set()
        for _ in range(150):
            number = generator.randrange(3)
            if number not in open_on:
                if place.sql(number, generator.choice(["BEGIN", "BEGIN IMMEDIATE"])) == []:
                    open_on.add(number)
                if generator.random() < 0.5:
                    place.sql(number, "SELECT sum(x) FROM a, b USING (id)")
                continue
            one, two = (generator.randint(1, rows) for _ in "ab")
            steps = [
                f"UPDATE a SET x = x - 7, y = zeroblob({one * 60}) WHERE id = {one}",
                f"UPDATE b SET x = x + 7, y = zeroblob({two * 60}) WHERE id = {two}",
                f"UPDATE a SET y = zeroblob(1100) WHERE id > {one}",
            ]
            # Both halves or, where one is refused, neither.
            place.sql(number, "SAVEPOINT s")
            if not all(place.sql(number, step) == [] for step in steps):
                place.sql(number, "ROLLBACK TO s")
            place.sql(number, "RELEASE s")
            if generator.random() < 0.6:
                if place.sql(number, "COMMIT") != []:
                    place.sql(number, "ROLLBACK")
                open_on.discard(number)
            elif generator.random() < 0.5:
                place.sql(number, "ROLLBACK")
                open_on.discard(number)
        assert len(place.memory.totals) > 10
        assert set(place.memory.totals) == {rows * 200}


def test_a_table_of_a_message_that_was_rolled_back_is_nobodys():
    with closing(Place()) as place:
        set_up([place], "memory")
        one, two, _ = place.connections
        with place.memory.message("query"):
            one.execute("CREATE TABLE mine (a, b); INSERT INTO mine VALUES (1, 2)")
        # Takes the same version of the schema, and the same SQLite page.
        two.execute("CREATE TABLE yours (p, q); INSERT INTO yours VALUES (8, 9)")
        with pytest.raises(apsw.SQLError, match="no such table: mine"):
            one.execute("SELECT * FROM mine")
        assert one.execute("SELECT * FROM yours").fetchall() == [(8, 9)]
        assert one.serialize("main") == two.serialize("main")


def test_the_first_table_of_all_can_be_rolled_back_and_made_again():
    with closing(Place()) as place:
        one, two = place.open("memory"), place.open("memory")
        for _ in range(2):
            with place.memory.message("query"):
                one.execute("CREATE TABLE t (x)")
            assert two.execute("SELECT * FROM sqlite_schema").fetchall() == []
        one.execute("CREATE TABLE t (x)")
        assert [row[1] for row in two.execute("SELECT * FROM sqlite_schema")] == ["t"]
        assert two.execute("PRAGMA schema_version").get == 1


def test_a_reader_whose_message_is_rolled_back_reads_on_and_cannot_write():
    with closing(Place()) as place:
        set_up([place], "persist")
        one, two, _ = place.connections
        before = place.memory.image()
        with place.memory.message("query"):
            one.execute(f"BEGIN; {W}; SELECT * FROM t")
            two.execute("BEGIN; SELECT count(*) FROM t")
        assert place.memory.image() == before
        with pytest.raises(apsw.BusyError):
            one.execute("COMMIT")
        two.execute("COMMIT")
        with pytest.raises(MessageError, match="rolled back under this SQL transaction"):
            one.execute("COMMIT")
        assert place.memory.image() == before
        assert [one.execute("SELECT count(*) FROM t").get for one in (one, two)] == [3, 3]
        two.execute(W)
        assert one.execute("SELECT count(*) FROM t").get == 4
