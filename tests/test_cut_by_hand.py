"""Numbered migrations cut into messages: the same rows, from wherever they were cut off."""

from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sqlstable import Canister, MigrationError, SqlError, StableMemory, Trap
from sqlstable.database.trial_copy import Scratch
from sqlstable.schema.cut_by_hand import by_ranges
from sqlstable.testing import trap_at
from tests.schema_world import dump

SETUP = """
CREATE TABLE t (id INTEGER PRIMARY KEY, a, b TEXT);
CREATE TABLE plain (x, y);
CREATE TABLE keyed (k PRIMARY KEY, v) WITHOUT ROWID;
"""
UP = """
ALTER TABLE t ADD COLUMN c INTEGER;
-- what it was
UPDATE t SET c = a * 2 WHERE a % 2 OR a > 15; -- all of them
CREATE TABLE more (x, y DEFAULT 'new');
INSERT INTO more (x) SELECT y FROM plain AS p WHERE p.x < 12;
CREATE INDEX more_x ON more (x);
DELETE FROM plain WHERE x IN (1, 2, 18);
UPDATE keyed SET v = v || '!';
UPDATE t SET b = (SELECT count(*) FROM more);
"""
ROWS = 20


@pytest.fixture(scope="module")
def image():
    with Canister() as canister:
        canister.update(SETUP)
        for number in range(ROWS):
            canister.update("INSERT INTO t VALUES (?, ?, 'b')", (3 * number - 7, number))
            canister.update("INSERT INTO plain VALUES (?, ?)", (number, f"y{number}"))
            canister.update("INSERT INTO keyed VALUES (?, ?)", (f"k{number}", number))
        return canister.image()


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "0001_all.sql").write_text(UP)
    return tmp_path


def opened(image):
    return Canister(memory=StableMemory.from_image(image))


@pytest.fixture(scope="module")
def expected(image, tmp_path_factory):
    folder = tmp_path_factory.mktemp("migrations")
    (folder / "0001_all.sql").write_text(UP)
    with opened(image) as canister:
        canister.upgrade(schema=folder)
        return dump(canister)


@pytest.mark.parametrize("rows", [1, 7, 20, 21])
def test_it_comes_to_what_one_message_does(image, folder, expected, rows):
    with opened(image) as canister:
        report = canister.migrate(folder, rows_per_message=rows)
        assert dump(canister) == expected
        assert report.rows == 3 * ROWS
        assert len(report.messages) >= 3 * (ROWS // rows) + 4
        names = canister.query("SELECT name FROM sqlite_schema WHERE name LIKE '_sqlstable_%'").rows
        assert len(names) == 3
        assert canister.migrate(folder).messages[0].doing == "look"


@pytest.mark.slow
def test_a_trap_at_any_access_is_made_good(image, folder, expected):
    for access in count():
        with opened(image) as canister:
            try:
                with trap_at(canister, access):
                    canister.migrate(folder, rows_per_message=9)
            except Trap:
                canister.upgrade()
                canister.migrate(folder, rows_per_message=13)
                assert dump(canister) == expected
            else:
                break
    assert access > 30


def test_an_upgrade_does_what_is_left(image, folder, expected):
    (folder / "0002_more.sql").write_text("CREATE TABLE last (x)")
    images = []
    with opened(image) as canister:
        canister.migrate(
            folder, rows_per_message=9, on_message=lambda _: images.append(canister.image())
        )
    for left in images[:-2]:
        with opened(left) as canister:
            notes = canister.upgrade(schema=folder).notes
            assert [note.split(":")[0] for note in notes] == [
                "migration 0001_all",
                "migration 0002_more",
            ]
            canister.update("DROP TABLE last")
            assert dump(canister) == expected


def test_writes_are_refused_until_it_is_over(image, folder):
    said = []
    with opened(image) as canister:

        def between(_):
            try:
                canister.update("INSERT OR REPLACE INTO plain VALUES (1, 2)")
            except SqlError as error:
                said.append(str(error))

        canister.migrate(folder, rows_per_message=9, on_message=between)
        assert len(said) > 8
        assert all(it.startswith("table plain is being migrated by 0001_all") for it in said)
        assert canister.query("SELECT count(*) FROM plain WHERE x = 1").rows == [(1,)]


class StopError(Exception):
    """Ends a migration between two messages."""


def start(canister, folder):
    def stop(message):
        if message.rows:
            raise StopError

    with pytest.raises(StopError):
        canister.migrate(folder, rows_per_message=9, on_message=stop)


def test_what_is_applied_in_part_is_finished_or_left(image, folder):
    with opened(image) as canister:
        start(canister, folder)
        before = canister.image()
        with pytest.raises(MigrationError, match="applied in part, and what it has done is not"):
            canister.abandon_migration()
        (folder / "0001_all.sql").write_text(UP + "-- edited")
        for call in (canister.migrate, canister.upgrade):
            with pytest.raises(MigrationError, match="is not the text that it began with"):
                call(schema=folder)
            with pytest.raises(MigrationError, match="is not the text that it began with"):
                call(schema="CREATE TABLE t (x)")
        (folder / "0001_all.sql").write_text(UP)
        assert canister.image() == before
        assert canister.schema_status().run.rows == 9
        canister.update("CREATE TABLE between_two (x)")
        with pytest.raises(MigrationError, match="the schema has changed, or VACUUM has run"):
            canister.migrate(folder)


def test_a_table_is_not_dropped_piece_by_piece(image, folder):
    (folder / "0001_all.sql").write_text("UPDATE t SET a = 1; DROP TABLE t")
    with opened(image) as canister, pytest.raises(MigrationError, match="drops table t"):
        canister.migrate(folder, rows_per_message=9)


@pytest.mark.parametrize(
    ("sql", "table"),
    [
        ("UPDATE t SET a = 1", "t"),
        ('update "T" set a = (b) where b = "x" or a', "t"),
        ("DELETE FROM t WHERE a IN (1, 2) -- why", "t"),
        ("INSERT INTO plain SELECT a, b FROM t WHERE 'where' = b", "t"),
        ("INSERT OR IGNORE INTO plain (x) SELECT max(a, 3) FROM t", "t"),
        ("INSERT INTO plain SELECT count(*), 1 FROM t", None),
        ("INSERT INTO plain SELECT a, b FROM t ORDER BY a", None),
        ("INSERT INTO plain SELECT a, b FROM t LIMIT 1", None),
        ("INSERT INTO plain SELECT DISTINCT a, b FROM t", None),
        ("INSERT INTO plain SELECT a, b FROM t UNION SELECT 1, 2", None),
        ("INSERT INTO plain SELECT t.a, keyed.v FROM t, keyed", None),
        ("INSERT INTO t SELECT id + 100, a, b FROM t", None),
        ("INSERT INTO plain VALUES (1, 2)", None),
        ("UPDATE t SET id = id + 1", None),
        ("UPDATE t SET a = (SELECT max(a) FROM t)", None),
        ("UPDATE t SET a = k FROM keyed WHERE k = a", None),
        ("UPDATE keyed SET v = 1", None),
        ("DELETE FROM t RETURNING a", None),
        ("CREATE TABLE u AS SELECT a FROM t", None),
        ("WITH w AS (SELECT 1) DELETE FROM t", None),
    ],
)
def test_what_takes_rows_one_by_one_is_cut(sql, table):
    with Scratch() as scratch:
        scratch.execute(SETUP)
        found = by_ranges(scratch.execute, sql)
        assert (None if found is None else found.table.lower()) == table
        if found is not None:
            scratch.execute(found.sql, (1, 2))


CONDITIONS = st.sampled_from(["", "WHERE a > 3", "WHERE a > 3 OR b = 'x'", "WHERE NOT a -- end"])


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(-3, 9), st.sampled_from("xyz")), max_size=9),
    st.sampled_from(
        ["UPDATE t SET a = a + 1", "DELETE FROM t", "INSERT INTO plain SELECT a, b FROM t"]
    ),
    CONDITIONS,
    st.integers(1, 5),
)
def test_ranges_come_to_the_whole(rows, head, condition, size):
    sql = f"{head} {condition}"
    with Scratch() as one, Scratch() as other:
        for it in (one, other):
            it.execute(SETUP)
            it.connection.executemany("INSERT INTO t (a, b) VALUES (?, ?)", rows)
        one.execute(sql)
        cut = by_ranges(other.execute, sql)
        for first in range(1, 12, size):
            other.execute(cut.sql, (first, first + size - 1))
        for table in ("t", "plain"):
            read = f"SELECT * FROM {table} ORDER BY rowid"
            assert one.execute(read) == other.execute(read)
