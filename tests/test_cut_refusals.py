"""What ends or forbids a cut migration: another text, another schema, VACUUM, limits, giving up."""

from dataclasses import replace

import pytest

from sqlstable import (
    Canister,
    LimitTrap,
    MigrationError,
    SqlError,
    StableMemory,
    Trap,
    latest_limits,
)
from sqlstable.schema.table_life import tables
from sqlstable.testing import trap_at
from tests.schema_world import dump, reading

OLD = "CREATE TABLE t (id INTEGER PRIMARY KEY, x TEXT); CREATE TABLE plain (a, b);"
NEW = "CREATE TABLE t (id INTEGER PRIMARY KEY, x INTEGER); CREATE TABLE plain (a INTEGER, b);"
ROWS = 20


class StopError(Exception):
    """Ends a migration between two messages."""


@pytest.fixture
def canister():
    with Canister() as it:
        it.update(OLD)
        for index in range(ROWS):
            it.update("INSERT INTO t (x) VALUES (?)", (str(index),))
            it.update("INSERT INTO plain VALUES (?, ?)", (str(index), index))
        yield it


def start(canister, messages=3):
    """Send the first messages of a migration."""
    sent = []

    def stop(message):
        sent.append(message)
        if len(sent) == messages:
            raise StopError

    with pytest.raises(StopError):
        canister.migrate(NEW, rows_per_message=5, on_message=stop)


def refused(canister, call, *args, **options):
    before = canister.image()
    with pytest.raises(MigrationError) as caught:
        call(*args, **options)
    assert canister.image() == before
    return str(caught.value)


def test_a_run_goes_on_with_its_own_text_only(canister):
    start(canister)
    other = NEW.replace("b)", "b TEXT)")
    for call in (canister.migrate, canister.upgrade):
        words = refused(canister, call, schema=other)
        assert "a migration to the schema is under way (10 rows are copied)" in words
    assert canister.migrate(NEW).rows == 2 * ROWS - 10


def test_a_run_is_refused_where_the_schema_has_changed(canister):
    start(canister)
    canister.update("CREATE TABLE more (x)")
    for call in (canister.migrate, canister.upgrade):
        words = refused(canister, call, schema=NEW)
        assert "the schema has changed since the migration to the schema began (10 rows" in words
    canister.update("DROP TABLE more")
    # Rows of the other table have numbers that SQLite may have given anew meanwhile.
    assert "may have given the rows of plain other numbers" in refused(
        canister, canister.migrate, NEW
    )
    canister.abandon_migration()
    assert canister.migrate(NEW).rows == 2 * ROWS


def test_vacuum_ends_a_run_by_numbers_that_it_may_change(canister):
    canister.update("DELETE FROM plain WHERE b < 3")
    start(canister)
    canister.update("VACUUM")
    assert "VACUUM has run" in refused(canister, canister.migrate, NEW)
    canister.abandon_migration()
    canister.migrate(NEW)
    assert canister.query("SELECT count(*), min(typeof(a)) FROM plain").rows == [(17, "integer")]


def test_vacuum_does_not_end_a_run_by_keys(canister):
    canister.update("DROP TABLE plain")
    new = NEW.partition(";")[0]
    sent = []

    def vacuum(message):
        sent.append(message.doing)
        if message.doing == "copy":
            canister.update("VACUUM")

    canister.migrate(new, rows_per_message=5, on_message=vacuum)
    assert sent == ["begin", *["copy"] * 4, "look", "switch"]
    assert canister.query("SELECT sum(x) FROM t").rows == [(190,)]


def test_giving_up_leaves_nothing(canister):
    before = dump(canister)
    start(canister)
    canister.update("UPDATE t SET x = x")
    with pytest.raises(SqlError):
        canister.update("INSERT INTO t VALUES (1, 1)")
    canister.abandon_migration()
    assert dump(canister) == before
    with reading(canister) as execute:
        assert tables(execute) == ("plain", "t")
        names = execute("SELECT name FROM sqlite_schema WHERE name LIKE '%copying%'")
    assert names == []
    canister.update("INSERT INTO t VALUES (99, 1)")


def test_the_life_of_tables_waits_for_a_run(canister):
    start(canister)
    for call in (canister.deprecate_table, canister.restore_table, canister.remove_table):
        assert "is under way (10 rows are copied); finish it first" in refused(canister, call, "t")
    assert "finish it first" in refused(canister, canister.rollback_schema)


def test_status_says_how_far_a_run_is(canister):
    start(canister, messages=4)
    status = canister.schema_status()
    assert [(it.source, it.rows, it.rows_total, it.is_kept) for it in status.copies] == [
        ("t", 15, ROWS, True),
        ("plain", 0, ROWS, True),
    ]
    assert [it.name for it in status.tables] == ["plain", "t"]
    assert status.run.rows == 15


def test_rows_follow_the_limits_by_themselves(canister):
    for index in range(2000):
        canister.update("INSERT INTO plain VALUES (?, zeroblob(400))", (str(index),))
    image = canister.image()
    latest = latest_limits()
    limits = replace(latest, update=replace(latest.update, os_pages_dirty_max=60))
    reports = []
    for rows in (None, 2000):
        with Canister(memory=StableMemory.from_image(image, limits=limits), limits=limits) as small:
            reports.append(small.migrate(NEW, rows_per_message=rows))
            assert small.query("SELECT count(*) FROM plain").rows == [(2000 + ROWS,)]
    assert 0.3 < reports[0].share_max <= 1
    assert len(reports[0].messages) > 6
    # What fits is found at once where more was asked for, and stays.
    assert reports[1].crossed == 2
    allowed = [it.rows_max for it in reports[1].messages]
    assert (allowed[0], allowed[-1]) == (2000, 125)


def test_what_cannot_be_cut_says_so(canister):
    latest = latest_limits()
    limits = replace(latest, update=replace(latest.update, os_pages_dirty_max=4))
    image = canister.image()
    with Canister(memory=StableMemory.from_image(image, limits=limits), limits=limits) as small:
        with pytest.raises(LimitTrap):
            small.migrate(NEW)
        assert small.image() == image


def test_what_needs_a_decision_is_refused_with_its_reasons(canister):
    new = "CREATE TABLE t (id INTEGER PRIMARY KEY, x TEXT, y NOT NULL); CREATE TABLE plain (a, b)"
    for call in (canister.migrate, canister.upgrade):
        words = refused(canister, call, schema=new)
        assert "cannot become the schema unless somebody decides first: t.y: " in words
    ours = f"{OLD} CREATE TABLE _sqlstable_mine (x)"
    assert "_sqlstable_mine, a name that sqlstable keeps" in refused(
        canister, canister.migrate, ours
    )


def test_rows_that_break_a_new_rule_are_named(canister):
    canister.update("INSERT INTO t VALUES (98, '1')")
    new = OLD.replace("x TEXT", "x TEXT UNIQUE")
    for call in (canister.migrate, canister.upgrade):
        words = refused(canister, call, schema=new)
        assert "2 rows share their x: id 2 x '1', id 98 x '1'" in words


def test_rows_that_nobody_has_asked_end_a_migration(canister, monkeypatch):
    """Of a large database only a sample is copied, which decides nothing."""
    monkeypatch.setattr("sqlstable.database.trial_copy.WHOLE_BYTES_MAX", 0)
    canister.update("INSERT INTO t VALUES (98, '1')")
    new = OLD.replace("x TEXT", "x TEXT UNIQUE")
    before = canister.image()
    with pytest.raises(SqlError, match="UNIQUE constraint failed"):
        canister.upgrade(schema=new)
    assert canister.image() == before
    with pytest.raises(SqlError, match="UNIQUE constraint failed"):
        canister.migrate(new)
    assert canister.schema_status().run is not None
    canister.update("DELETE FROM t WHERE id = 98")
    canister.migrate(new)
    with pytest.raises(SqlError, match="UNIQUE constraint failed"):
        canister.update("INSERT INTO t VALUES (98, '1')")


def test_what_a_schema_does_not_say_is_decided_by_its_caller(canister):
    new = OLD.replace("x TEXT", "y TEXT").replace("TABLE plain", "TABLE simple")
    assert "unless somebody decides first" in refused(canister, canister.migrate, new)
    names = {"t.x": "t.y", "plain": "simple"}
    canister.migrate(new, renames=names)
    assert canister.query("SELECT y FROM t WHERE id = 3").rows == [("2",)]
    assert canister.query("SELECT count(*) FROM simple").rows == [(ROWS,)]
    assert canister.schema_status().ledger.tables == ()
    other = new.replace("y TEXT", "z TEXT")
    assert canister.upgrade(schema=other, dropped=["t.y"]).notes[0].startswith("migration 2")
    assert canister.query("SELECT z FROM t WHERE id = 3").rows == [(None,)]


def test_a_table_left_out_of_a_schema_is_deprecated_then_unused_and_comes_back(canister):
    with_old = f"{OLD} CREATE TABLE old (x)"
    canister.upgrade(schema=with_old)
    canister.update("INSERT INTO old VALUES (1)")
    assert canister.upgrade(schema=OLD).notes == (
        "table old is deprecated since schema upgrade 2: writes refused",
    )
    with pytest.raises(SqlError, match="table old is deprecated since schema upgrade 2"):
        canister.update("INSERT INTO old VALUES (2)")
    assert canister.upgrade(schema=OLD).notes == (
        "table old is unused since schema upgrade 3: no statement finds it",
    )
    assert canister.upgrade(schema=with_old).notes == ("table old is live again",)
    assert canister.query("SELECT * FROM old").rows == [(1,)]
    canister.update("INSERT INTO old VALUES (2)")
    assert canister.upgrade(schema=OLD).notes[0].startswith("table old is deprecated since")
    canister.upgrade(schema=OLD)
    canister.remove_table("old")
    assert canister.upgrade(schema=OLD).notes == ()


def test_a_schema_is_taken_back_by_the_way_that_led_back(canister):
    before = dump(canister)
    new = OLD.replace("x TEXT", "x TEXT, y INTEGER") + "CREATE TABLE extra (z);"
    notes = canister.upgrade(schema=new).notes
    assert notes == ("migration 1, to the schema: both ways",)
    canister.update("INSERT INTO extra VALUES (1)")
    words = refused(canister, canister.rollback_schema)
    assert "would drop table extra, which has rows by now" in words
    canister.update("DELETE FROM extra")
    canister.rollback_schema()
    assert dump(canister) == before
    assert canister.schema_status().ledger.applied == ()


@pytest.mark.parametrize("engine", ["native", "wasm"])
def test_foreign_keys_are_enforced_again_whatever_happened(engine):
    old = "CREATE TABLE a (id INTEGER PRIMARY KEY, x TEXT); CREATE TABLE b (a REFERENCES a)"
    with Canister(engine=engine, foreign_keys=True) as canister:
        canister.update(f"{old}; INSERT INTO a VALUES (1, '1'); INSERT INTO b VALUES (1)")

        def check(_):
            with pytest.raises(SqlError, match="FOREIGN KEY constraint failed"):
                canister.update("DELETE FROM a")

        check(None)
        if engine == "native":
            for access in (2, 6):
                with pytest.raises(Trap), trap_at(canister, access):
                    canister.migrate(old.replace("x TEXT", "x INTEGER"))
                check(None)
        canister.migrate(old.replace("x TEXT", "x INTEGER"), on_message=check)
        canister.upgrade(schema=old.replace("x TEXT", "x REAL"))
        check(None)
        assert canister.query("SELECT x, a FROM a, b").rows == [(1.0, 1)]


def test_tables_of_any_kind_and_name_are_migrated(canister):
    old = """
        CREATE TABLE "we""ird [t] 'x'" ("a b" INTEGER PRIMARY KEY, "c,d" TEXT UNIQUE);
        CREATE TABLE "[q]" (a, b);
        CREATE TABLE wide (a, b, c, d, e, f, g, h, i, v, PRIMARY KEY (a, b, c, d, e, f, g, h, i))
            WITHOUT ROWID;
        CREATE TABLE named (rowid TEXT, _rowid_, oid);
        CREATE TABLE counted (id INTEGER PRIMARY KEY AUTOINCREMENT, x TEXT);
        CREATE VIRTUAL TABLE note USING fts5 (body);
    """
    new = old.replace('"c,d" TEXT', '"c,d" INTEGER').replace("(a, b)", "(a INTEGER, b)")
    new = new.replace("i, v,", "i, v INTEGER,").replace("_rowid_,", "_rowid_ INTEGER,")
    new = new.replace("x TEXT", "x INTEGER").replace("fts5 (body)", "fts5 (body, tokenize = ascii)")
    canister.update(f"DROP TABLE t; DROP TABLE plain; {old}")
    for number in range(7):
        canister.update("""INSERT INTO "we""ird [t] 'x'" VALUES (?, ?)""", (number, str(number)))
        canister.update('INSERT INTO "[q]" VALUES (?, 1)', (str(number),))
        canister.update("INSERT INTO wide VALUES (?, 2, 3, 4, 5, 6, 7, 8, 9, '10')", (number,))
        canister.update("INSERT INTO named VALUES (?, '8', '9')", (str(number),))
        canister.update("INSERT INTO counted (x) VALUES ('5')")
        canister.update("INSERT INTO note VALUES (?)", (f"word{number}",))
    canister.update("DELETE FROM counted WHERE id > 5")
    image = canister.image()
    with Canister(memory=StableMemory.from_image(image)) as twin:
        twin.upgrade(schema=new)
        expected = dump(twin)

    def write(_):
        canister.update("""UPDATE "we""ird [t] 'x'" SET "c,d" = "c,d" """)
        canister.update('UPDATE "[q]" SET b = b; UPDATE wide SET v = v')

    canister.migrate(new, rows_per_message=3, on_message=write)
    assert dump(canister) == expected
    assert expected[1]["named"].total() == 7
    assert canister.query("SELECT seq FROM sqlite_sequence").rows == [(7,)]
