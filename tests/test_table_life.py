"""The life of a table: live, deprecated, unused, removed, and back."""

import pytest

from sqlstable.database.trial_copy import Scratch
from sqlstable.errors import MigrationError, SqlError
from sqlstable.schema.ledger import count_upgrade, make_ledger, read_ledger
from sqlstable.schema.table_life import (
    deprecate,
    is_named_elsewhere,
    remove,
    restore,
    retire,
    tables,
)
from sqlstable.schema.trial import contents, difference

WRITES = (
    "INSERT INTO account VALUES (9, 'x')",
    "INSERT OR IGNORE INTO account VALUES (9, 'x')",
    "REPLACE INTO account VALUES (1, 'x')",
    "INSERT INTO account VALUES (1, 'x') ON CONFLICT DO UPDATE SET owner = 'x'",
    "UPDATE account SET owner = 'x'",
    "UPDATE OR IGNORE account SET owner = 'x'",
    "DELETE FROM account",
)


@pytest.fixture
def scratch():
    with Scratch() as it:
        it.execute("""
            CREATE TABLE Account (id INTEGER PRIMARY KEY, owner TEXT);
            CREATE INDEX account_owner ON account (owner);
            INSERT INTO account VALUES (1, 'alice'), (2, 'bob')""")
        make_ledger(it.execute)
        count_upgrade(it.execute, 3)
        yield it


def test_a_deprecated_table_is_read_and_not_written(scratch):
    life = deprecate(scratch.execute, read_ledger(scratch.execute), "account", "hand")
    assert (life.name, life.state, life.deprecated_since) == ("Account", "deprecated", 3)
    for write in WRITES:
        with pytest.raises(SqlError, match="table Account is deprecated since schema upgrade 3"):
            scratch.execute(write)
    assert len(scratch.execute("SELECT * FROM account")) == 2
    assert tables(scratch.execute) == ("Account",)


def test_an_unused_table_has_a_name_that_no_statement_has(scratch):
    before = contents(scratch.execute)
    life = deprecate(scratch.execute, read_ledger(scratch.execute), "account", "upgrade")
    count_upgrade(scratch.execute, 4)
    unused = retire(scratch.execute, read_ledger(scratch.execute), life)
    assert (unused.state, unused.unused_since, unused.kept_as) == (
        *("unused", 4),
        "_sqlstable_unused_Account",
    )
    assert read_ledger(scratch.execute).table("ACCOUNT") == unused
    with pytest.raises(SqlError, match="no such table: account"):
        scratch.execute("SELECT * FROM account")
    assert tables(scratch.execute) == ()
    restore(scratch.execute, read_ledger(scratch.execute), "account")
    assert difference(before, contents(scratch.execute)) is None
    assert read_ledger(scratch.execute).tables == ()
    scratch.execute(WRITES[0])


def test_only_an_unused_table_is_removed(scratch):
    with pytest.raises(MigrationError, match="is live, and only an unused one is removed"):
        remove(scratch.execute, read_ledger(scratch.execute), "account")
    life = deprecate(scratch.execute, read_ledger(scratch.execute), "account", "hand")
    with pytest.raises(MigrationError, match="is deprecated since schema upgrade 3, and only"):
        remove(scratch.execute, read_ledger(scratch.execute), "account")
    retire(scratch.execute, read_ledger(scratch.execute), life)
    remove(scratch.execute, read_ledger(scratch.execute), "account")
    names = scratch.execute("SELECT name FROM sqlite_schema WHERE name NOT LIKE '_sqlstable_%'")
    assert names == []
    assert read_ledger(scratch.execute).tables == ()
    with pytest.raises(MigrationError, match="there is no table account; the tables are: none"):
        restore(scratch.execute, read_ledger(scratch.execute), "account")


def test_misuse_is_refused_by_name(scratch):
    scratch.execute("CREATE VIEW everybody AS SELECT 1")
    ledger = read_ledger(scratch.execute)
    for name in ("nothing", "everybody", "_sqlstable_ledger", "sqlite_schema"):
        with pytest.raises(MigrationError, match=r"there is no table .*; the tables are: Account"):
            deprecate(scratch.execute, ledger, name, "hand")
    with pytest.raises(MigrationError, match="table account is live; there is nothing to restore"):
        restore(scratch.execute, ledger, "account")
    deprecate(scratch.execute, ledger, "account", "hand")
    with pytest.raises(
        MigrationError, match="table Account is deprecated already, since schema upg"
    ):
        deprecate(scratch.execute, read_ledger(scratch.execute), "account", "hand")


def test_a_table_is_not_restored_over_another_one(scratch):
    life = deprecate(scratch.execute, read_ledger(scratch.execute), "account", "hand")
    retire(scratch.execute, read_ledger(scratch.execute), life)
    scratch.execute("CREATE TABLE account (x)")
    with pytest.raises(MigrationError, match=r"another table of that name .* _sqlstable_unused_"):
        restore(scratch.execute, read_ledger(scratch.execute), "account")


@pytest.mark.parametrize(
    ("sql", "is_named"),
    [
        ("CREATE VIEW v AS SELECT * FROM ACCOUNT", True),
        ("CREATE TABLE t (a REFERENCES account)", True),
        ("CREATE TABLE t (x); CREATE TRIGGER g DELETE ON t BEGIN DELETE FROM account; END", True),
        ("CREATE TABLE account_2 (x)", False),
        ("CREATE TRIGGER g DELETE ON account BEGIN DELETE FROM account; END", False),
    ],
)
def test_a_table_that_something_names_is_in_use(scratch, sql, is_named):
    scratch.execute(sql)
    assert is_named_elsewhere(scratch.execute, "Account") is is_named


def test_a_virtual_table_moves_along_too(scratch):
    scratch.execute("CREATE VIRTUAL TABLE note USING fts5 (body); INSERT INTO note VALUES ('hi')")
    life = deprecate(scratch.execute, read_ledger(scratch.execute), "note", "hand")
    retire(scratch.execute, read_ledger(scratch.execute), life)
    restore(scratch.execute, read_ledger(scratch.execute), "note")
    assert scratch.execute("SELECT body FROM note WHERE note MATCH 'hi'") == [("hi",)]
    with pytest.raises(MigrationError, match="note_data is a shadow table"):
        deprecate(scratch.execute, read_ledger(scratch.execute), "note_data", "hand")
