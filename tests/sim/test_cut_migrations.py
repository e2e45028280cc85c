"""Migrations cut into messages come to what the same one comes to in one upgrade, whatever happens.

A fault may be a trap at any access, a kill between any two messages, an upgrade in between; and the
code goes on writing to the tables that are being copied, in every way that SQL has.
"""

from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sqlstable import Canister, SqlError, StableMemory, Trap
from sqlstable.schema.cutting import read_run
from sqlstable.testing import trap_at
from tests.schema_world import dump, reading, trap_in_upgrade

OLD = """
CREATE TABLE account (id INTEGER PRIMARY KEY, owner TEXT UNIQUE, balance TEXT);
CREATE INDEX account_balance ON account (balance);
CREATE TABLE word (k TEXT COLLATE NOCASE, n INTEGER, v, PRIMARY KEY (k, n)) WITHOUT ROWID;
CREATE TABLE plain (a UNIQUE, b);
CREATE TABLE odd (a, b);
CREATE UNIQUE INDEX odd_a ON odd (lower(a));
CREATE TABLE log (line);
CREATE TRIGGER account_log AFTER UPDATE ON account BEGIN
  INSERT INTO log VALUES (old.owner || ' ' || new.owner); END;
CREATE VIEW rich AS SELECT owner FROM account WHERE balance > 5;
"""

NEW = """
CREATE TABLE account (id INTEGER PRIMARY KEY, owner TEXT UNIQUE, balance INTEGER);
CREATE INDEX account_balance ON account (balance);
CREATE TABLE word (k TEXT COLLATE NOCASE, n INTEGER, v TEXT, PRIMARY KEY (k, n)) WITHOUT ROWID;
CREATE TABLE plain (a UNIQUE, b INTEGER);
CREATE TABLE odd (a, b INTEGER);
CREATE UNIQUE INDEX odd_a ON odd (lower(a));
CREATE TABLE log (line);
CREATE TRIGGER account_log AFTER UPDATE ON account BEGIN
  INSERT INTO log VALUES (old.owner || ' ' || new.owner); END;
CREATE VIEW rich AS SELECT owner FROM account WHERE balance > 5;
"""

ROWS = 13


def fill(canister, rows=ROWS):
    canister.update(OLD)
    with canister.message() as message, message.transaction():
        for index in range(rows):
            message.execute(
                "INSERT INTO account VALUES (?, ?, ?)", (3 * index, f"o{index}", f"{index}")
            )
            message.execute("INSERT INTO word VALUES (?, ?, ?)", (f"W{index // 3}", index, index))
            message.execute("INSERT INTO plain VALUES (?, ?)", (f"p{index}", f"{index}"))
            message.execute("INSERT INTO odd VALUES (?, ?)", (f"q{index}", f"{index}"))


def image_of(rows=ROWS):
    with Canister() as canister:
        fill(canister, rows)
        return canister.image()


def opened(image, **options):
    return Canister(memory=StableMemory.from_image(image), **options)


@pytest.fixture(scope="module")
def image():
    return image_of()


@pytest.fixture(scope="module")
def expected(image):
    with opened(image) as canister:
        canister.upgrade(schema=NEW)
        return dump(canister)


@pytest.mark.parametrize("rows", [1, 2, 5, 12, 13, 14, 60, None])
def test_a_cut_migration_comes_to_what_an_upgrade_does(image, expected, rows):
    with opened(image) as canister:
        report = canister.migrate(NEW, rows_per_message=rows)
        assert dump(canister) == expected
        assert report.rows == 4 * ROWS
        assert all(it.rows <= (rows or 1000) for it in report.messages)
        assert canister.query("PRAGMA integrity_check").rows == [("ok",)]
        names = canister.query("SELECT name FROM sqlite_schema WHERE name LIKE '_sqlstable_%'").rows
        kept = {("_sqlstable_ledger",), ("_sqlstable_migrations",), ("_sqlstable_tables",)}
        assert set(names) == kept


def test_both_engines_come_to_the_same_bytes(image):
    images = []
    for engine in ("native", "wasm"):
        with opened(image, engine=engine) as canister:
            canister.migrate(NEW, rows_per_message=7)
            images.append(canister.image())
    assert images[0] == images[1]


def test_a_trap_at_any_access_is_made_good(image, expected):
    for access in count():
        with opened(image) as canister:
            try:
                with trap_at(canister, access):
                    canister.migrate(NEW, rows_per_message=9)
            except Trap:
                canister.migrate(NEW, rows_per_message=9)
                assert dump(canister) == expected
            else:
                break
    assert access > 60


def test_a_kill_between_any_two_messages_is_made_good(image, expected):
    images = [image]
    with opened(image) as canister:
        canister.migrate(
            NEW, rows_per_message=4, on_message=lambda _: images.append(canister.image())
        )
    assert len(images) > 14
    for index, left in enumerate(images):
        with opened(left) as canister:
            if index % 2:
                canister.upgrade()
                canister.migrate(NEW, rows_per_message=11)
            else:
                # An upgrade with the schema does what is left.
                canister.upgrade(schema=NEW)
            assert dump(canister) == expected


def test_an_upgrade_that_finishes_a_run_traps_at_any_access(image, expected):
    with opened(image) as canister:
        canister.migrate(NEW, rows_per_message=9, switch=False)
        canister.update("UPDATE account SET balance = balance || '0'")
        left = canister.image()
        for access in count():
            try:
                with trap_in_upgrade(canister, access):
                    canister.upgrade(schema=NEW)
            except Trap:
                assert canister.image() == left
            else:
                break
        assert access > 30
        rows = canister.query("SELECT balance, typeof(balance) FROM account WHERE id = 36").rows
        assert rows == [(120, "integer")]


# -- writes meanwhile -----------------------------------------------------------------------------

IDS = st.integers(-2, 3 * ROWS + 3)
NAMES = st.sampled_from([f"o{index}" for index in range(0, ROWS, 2)] + ["new", None])
WORDS = st.sampled_from(["W0", "w1", "W2", "w9"])
VALUES = st.sampled_from(["7", "abc", 3, 2.5, None, b"x"])
CLAUSES = st.sampled_from(["", "OR REPLACE", "OR IGNORE", "OR ABORT", "OR FAIL"])


def statement(sql, *values):
    return st.tuples(CLAUSES, *values).map(
        lambda drawn: (sql.replace("OR", drawn[0], 1) if "OR" in sql else sql, drawn[1:])
    )


WRITES = st.one_of(
    statement("INSERT OR INTO account VALUES (?, ?, ?)", IDS, NAMES, VALUES),
    statement("UPDATE OR account SET owner = ? WHERE id = ?", NAMES, IDS),
    statement("UPDATE OR account SET id = ? WHERE id = ?", IDS, IDS),
    statement("UPDATE OR account SET balance = ? WHERE id % 4 = 0", VALUES),
    statement("DELETE FROM account WHERE id = ?", IDS),
    statement("DELETE FROM account WHERE id > ?", IDS),
    statement(
        "INSERT INTO account VALUES (?, ?, ?) ON CONFLICT (owner) DO UPDATE SET balance = 'up'",
        *(IDS, NAMES, VALUES),
    ),
    statement("INSERT INTO account VALUES (?, ?, 1) ON CONFLICT DO NOTHING", IDS, NAMES),
    statement("INSERT OR INTO word VALUES (?, ?, ?)", WORDS, IDS, VALUES),
    statement("UPDATE OR word SET k = ? WHERE n = ?", WORDS, IDS),
    statement("DELETE FROM word WHERE k = ?", WORDS),
    statement("INSERT OR INTO plain (a, b) VALUES (?, ?)", NAMES, VALUES),
    statement("INSERT OR INTO plain (rowid, a, b) VALUES (?, ?, ?)", IDS, NAMES, VALUES),
    statement("UPDATE OR plain SET a = ? WHERE rowid = ?", NAMES, IDS),
    statement("DELETE FROM plain WHERE rowid = ?", IDS),
)


def write(canister, sql, values):
    """Return what SQLite says of a write, without the words of ours."""
    try:
        canister.update(sql, values)
    except SqlError as error:
        return str(error).split(";")[0]
    return None


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.lists(WRITES, max_size=3), max_size=24),
    st.integers(1, 9),
    st.booleans(),
    st.booleans(),
)
def test_writes_meanwhile_are_kept(groups, rows, recursive, upgrades):
    waiting = list(groups)
    with opened(IMAGE) as canister, opened(IMAGE) as twin:
        for one in (canister, twin):
            one.update(f"PRAGMA recursive_triggers = {recursive:d}")

        def between(_):
            for sql, values in waiting.pop(0) if waiting else ():
                assert write(canister, sql, values) == write(twin, sql, values), sql
            if upgrades:
                canister.upgrade()
                canister.update(f"PRAGMA recursive_triggers = {recursive:d}")

        canister.migrate(NEW, rows_per_message=rows, on_message=between, switch=False)
        for group in waiting[:]:
            between(group)
        canister.migrate(NEW, rows_per_message=rows)
        twin.upgrade(schema=NEW)
        assert dump(canister) == dump(twin)


IMAGE = image_of()

EACH = (
    "UPDATE account SET id = id + 100 WHERE id < 20",
    "UPDATE account SET id = -id",
    "DELETE FROM account WHERE id = 0; UPDATE account SET owner = 'o0' WHERE id = 36",
    "REPLACE INTO account VALUES (77, 'o2', '1')",
    "UPDATE OR REPLACE account SET owner = 'o1' WHERE id = 30",
    "UPDATE word SET k = 'a' || k",
    "UPDATE word SET n = -n WHERE n % 2",
    "DELETE FROM word WHERE n % 3 = 0; INSERT INTO word VALUES ('W0', 99, 'x')",
    "REPLACE INTO plain VALUES ('p1', 'new')",
    "UPDATE plain SET rowid = rowid + 50 WHERE rowid % 2",
)


@pytest.mark.parametrize("sql", EACH)
def test_each_kind_of_write_is_kept_wherever_it_comes(sql, image):
    with opened(image) as twin:
        twin.update(sql)
        twin.upgrade(schema=NEW)
        expected = dump(twin)
    for number in range(7):
        with opened(image) as canister:
            sent = []

            def between(message, canister=canister, number=number, sent=sent):
                sent.append(message)
                if len(sent) == number + 1:
                    canister.update(sql)

            canister.migrate(NEW, rows_per_message=9, on_message=between)
            assert len(sent) > 7
            assert dump(canister) == expected


REFUSED = (
    "INSERT INTO odd VALUES ('x', 1)",
    "INSERT OR REPLACE INTO odd VALUES ('x', 1)",
    "INSERT OR IGNORE INTO odd VALUES ('x', 1)",
    "UPDATE odd SET b = 2",
    "DELETE FROM odd",
)


def test_writes_are_refused_where_they_cannot_be_kept(image, expected):
    said = []
    with opened(image) as canister:

        def between(_):
            with reading(canister) as execute:
                if read_run(execute) is not None:
                    said.extend(write(canister, sql, ()) for sql in REFUSED)
            assert len(canister.query("SELECT * FROM odd").rows) == ROWS

        canister.migrate(NEW, rows_per_message=5, on_message=between)
        assert dump(canister) == expected
        canister.update("INSERT INTO odd VALUES ('x', 1)")
    assert len(said) > 40
    assert {it.split(":")[0] for it in said} == {"table odd is being migrated"}


def test_many_writes_are_brought_up_to_date_piece_by_piece(image):
    with opened(image) as canister:
        canister.migrate(NEW, rows_per_message=9, switch=False)
        canister.update("UPDATE account SET balance = id")
        report = canister.migrate(NEW, rows_per_message=5)
        assert [(it.doing, it.rows) for it in report.messages] == [
            *(("catch up", 5), ("catch up", 5)),
            ("switch", 0),
        ]
        rows = canister.query("SELECT count(*) FROM account WHERE balance = id").rows
        assert rows == [(ROWS,)]
