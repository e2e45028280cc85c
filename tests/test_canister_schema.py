"""A canister's schema: numbered migrations in upgrades and messages, and the life of its tables."""

from dataclasses import replace
from itertools import count

import pytest

from sqlstable import (
    Canister,
    Hooks,
    LimitTrap,
    MigrationError,
    SettingsError,
    SqlError,
    Trap,
    latest_limits,
)
from tests.schema_world import dump, trap_in_upgrade

FIRST = "CREATE TABLE account (id INTEGER PRIMARY KEY, owner TEXT);"
SECOND = "ALTER TABLE account ADD COLUMN balance INTEGER NOT NULL DEFAULT 0;"


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "migrations"
    path.mkdir()
    write(path, **{"0001_account": FIRST, "0001_account.down": "DROP TABLE account"})
    return path


@pytest.fixture
def canister():
    with Canister() as it:
        yield it


def write(folder, **texts):
    for name, text in texts.items():
        (folder / f"{name}.sql").write_text(text)


def refused(canister, call, *args, error=MigrationError, **options):
    """Return what the canister says, and see that nothing has changed."""
    before, messages = canister.image(), canister.message_count
    with pytest.raises(error) as caught:
        call(*args, **options)
    assert canister.image() == before
    # A step of the life cycle that failed is no message; an update is one, which trapped.
    assert canister.message_count - messages <= 1
    assert canister.query("PRAGMA integrity_check").rows == [("ok",)]
    return str(caught.value)


def test_an_upgrade_applies_what_is_new_once(canister, folder):
    reply = canister.upgrade(schema=folder)
    assert reply.notes == ("migration 0001_account: both ways",)
    assert [part.name for part in reply.parts] == ["post_upgrade"]
    canister.update("INSERT INTO account VALUES (1, 'alice')")
    assert canister.upgrade(schema=folder).notes == ()
    write(folder, **{"0002_balance": SECOND})
    assert canister.upgrade(schema=str(folder)).notes == (
        "migration 0002_balance: forward only (there is no 0002_balance.down.sql)",
    )
    assert canister.query("SELECT * FROM account").rows == [(1, "alice", 0)]
    status = canister.schema_status()
    assert [(it.number, it.name, it.upgrade) for it in status.ledger.applied] == [
        (1, "account", 1),
        (2, "balance", 3),
    ]


def test_an_upgrade_without_a_schema_knows_no_ledger(canister):
    canister.update(FIRST)
    assert canister.upgrade().notes == ()
    assert not canister.schema_status().has_ledger


def test_messages_apply_one_migration_each(canister, folder):
    write(folder, **{"0002_balance": SECOND, "0003_more": "INSERT INTO account VALUES (1, 'a', 2)"})
    report = canister.migrate(folder)
    assert [it.doing for it in report.messages] == ["numbered"] * 3
    assert len(report.sentences) == 3
    assert report.is_switched
    again = canister.migrate(folder)
    assert (again.messages[0].doing, again.sentences) == ("look", ())


def test_a_hook_finds_the_new_schema(folder, canister):
    def hook(message):
        message.execute("INSERT INTO account VALUES (7, 'hook')")

    canister.upgrade(schema=folder, hooks=Hooks(post_upgrade=hook))
    assert canister.query("SELECT owner FROM account").rows == [("hook",)]


def test_what_cannot_be_reached_changes_nothing(canister, folder):
    canister.upgrade(schema=folder)
    canister.update("INSERT INTO account VALUES (1, 'alice')")
    for call in (canister.upgrade, canister.migrate):
        write(folder, **{"0001_account": FIRST + "-- edited"})
        assert "was edited after it was applied" in refused(canister, call, schema=folder)
        write(folder, **{"0001_account": FIRST, "0003_c": "SELECT 1"})
        assert "holds no migration 0002" in refused(canister, call, schema=folder)
        (folder / "0003_c.sql").unlink()
        write(folder, **{"0001_b": "SELECT 1"})
        assert "have the same number" in refused(canister, call, schema=folder)
        (folder / "0001_b.sql").unlink()
        for sql in ("COMMIT", "ATTACH 'x' AS y", "PRAGMA journal_mode = delete"):
            write(folder, **{"0002_b": f"{SECOND} {sql};"})
            assert "migration 0002_b cannot hold" in refused(canister, call, schema=folder)
        write(folder, **{"0002_b": f"{SECOND} INSERT INTO nowhere VALUES (1)"})
        words = refused(canister, call, schema=folder, error=SqlError)
        assert words.startswith("no such table: nowhere")
        write(folder, **{"0002_b": "DROP TABLE account"})
        assert "0002_b drops table account" in refused(canister, call, schema=folder)
        (folder / "0002_b.sql").unlink()
        missing = refused(canister, call, schema=folder / "nothing.sql")
        assert "is no file and no folder of migrations" in missing


def test_a_ledger_of_the_future_is_left_alone(canister, folder):
    canister.upgrade(schema=folder)
    canister.update("UPDATE _sqlstable_ledger SET value = 2 WHERE key = 'version'")
    for call in (canister.upgrade, canister.migrate):
        assert "is of version 2, and this sqlstable" in refused(canister, call, schema=folder)
    for call in (canister.deprecate_table, canister.remove_table, canister.restore_table):
        assert "is of version 2, and this sqlstable" in refused(canister, call, "account")
    assert "is of version 2" in refused(canister, canister.rollback_schema)


def test_foreign_keys_hold_behind_a_migration(folder):
    with Canister(foreign_keys=True) as canister:
        canister.upgrade(schema=folder)
        write(
            folder, **{"0002_b": "CREATE TABLE b (a REFERENCES account); INSERT INTO b VALUES (9)"}
        )
        words = refused(canister, canister.upgrade, schema=folder)
        assert "1 rows reference what is not there" in words
        write(folder, **{"0002_b": "CREATE TABLE b (a REFERENCES account)"})
        canister.upgrade(schema=folder)
        with pytest.raises(SqlError, match="FOREIGN KEY constraint failed"):
            canister.update("INSERT INTO b VALUES (9)")


def test_a_migration_that_crosses_a_limit_traps(folder):
    write(folder, **{"0002_b": "CREATE TABLE b AS SELECT randomblob(9000) FROM account, account"})
    latest = latest_limits()
    limits = replace(latest, update=replace(latest.update, os_pages_dirty_max=30))
    with Canister(limits=limits) as canister:
        canister.update(FIRST)
        for number in range(8):
            canister.update("INSERT INTO account VALUES (?, 'x')", (number,))
        write(folder, **{"0001_account": "CREATE TABLE a (x)"})
        with pytest.raises(LimitTrap):
            canister.migrate(folder)
        # The first one was a message of its own.
        assert [it.number for it in canister.schema_status().ledger.applied] == [1]
        refused(canister, canister.migrate, folder, error=LimitTrap)


def test_an_upgrade_traps_at_any_access_and_is_as_before(canister, folder):
    canister.update("CREATE TABLE other (x); CREATE TABLE t (x)")
    canister.update("INSERT INTO t VALUES (1), (2)")
    canister.deprecate_table("other")
    write(folder, **{"0002_b": "CREATE INDEX i ON t (x);\n--@ deprecate t"})
    before = canister.image()
    for access in count():
        try:
            with trap_in_upgrade(canister, access):
                canister.upgrade(schema=folder)
        except Trap:
            assert canister.image() == before
        else:
            break
    assert access > 10
    assert len(canister.schema_status().ledger.applied) == 2


def test_the_last_migration_is_taken_back(canister, folder):
    write(folder, **{"0002_b": SECOND, "0002_b.down": "ALTER TABLE account DROP COLUMN balance"})
    canister.upgrade(schema=folder)
    canister.update("INSERT INTO account VALUES (1, 'alice', 5)")
    canister.rollback_schema()
    assert canister.query("SELECT * FROM account").rows == [(1, "alice")]
    assert [it.number for it in canister.schema_status().ledger.applied] == [1]
    assert canister.upgrade(schema=folder).notes == ("migration 0002_b: both ways",)
    canister.rollback_schema()
    canister.rollback_schema()
    assert "nothing to take back" in refused(canister, canister.rollback_schema)


def test_what_is_forward_only_is_not_taken_back(canister, folder):
    write(folder, **{"0002_b": SECOND, "0002_b.down": "DELETE FROM account"})
    canister.upgrade(schema=folder)
    words = refused(canister, canister.rollback_schema)
    assert (
        "is forward only: forward and back on a copy, table account is defined otherwise" in words
    )


def test_a_table_lives_on_until_it_is_removed(canister, folder):
    write(folder, **{"0002_b": "CREATE TABLE old (x); INSERT INTO old VALUES (1)"})
    canister.upgrade(schema=folder)
    write(folder, **{"0003_c": "--@ deprecate old"})
    canister.upgrade(schema=folder)
    with pytest.raises(SqlError, match="table old is deprecated since schema upgrade 2"):
        canister.update("INSERT INTO old VALUES (2)")
    assert canister.query("SELECT * FROM old").rows == [(1,)]
    assert "only an unused one is removed" in refused(canister, canister.remove_table, "old")
    assert canister.upgrade(schema=folder).notes == (
        "table old is unused since schema upgrade 3: no statement finds it",
    )
    with pytest.raises(SqlError, match="no such table: old"):
        canister.query("SELECT * FROM old")
    canister.restore_table("old")
    canister.update("INSERT INTO old VALUES (2)")
    canister.deprecate_table("old")
    canister.upgrade(schema=folder)
    canister.remove_table("old")
    assert canister.schema_status().ledger.tables == ()
    assert "there is no table old" in refused(canister, canister.restore_table, "old")


def test_a_table_that_a_view_names_stays_readable(canister, folder):
    canister.update("CREATE TABLE old (x); CREATE VIEW v AS SELECT x FROM old")
    canister.deprecate_table("old")
    canister.upgrade(schema=folder)
    canister.upgrade(schema=folder)
    assert canister.query("SELECT * FROM v").rows == []
    assert canister.schema_status().ledger.tables[0].state == "deprecated"


def test_rows_per_message_is_at_least_one(canister, folder):
    with pytest.raises(SettingsError, match="rows_per_message is 0"):
        canister.migrate(folder, rows_per_message=0)


def test_nothing_is_under_way_to_abandon(canister):
    assert "no migration is under way" in refused(canister, canister.abandon_migration)


def test_a_database_with_functions_of_its_own_is_migrated_all_the_same(canister, folder):
    def setup(connection):
        connection.create_scalar_function("twice", lambda x: 2 * x, 1, deterministic=True)

    canister.on_connect(setup)
    canister.update("CREATE TABLE t (x, y AS (twice(x)))")
    assert canister.upgrade(schema=folder).notes == ("migration 0001_account: both ways",)


SHOP = """CREATE TABLE account (id INTEGER PRIMARY KEY, balance TEXT);
CREATE TABLE coupon (code TEXT PRIMARY KEY); CREATE INDEX coupon_code ON coupon (code DESC);"""
SHOP_WITHOUT = "CREATE TABLE account (id INTEGER PRIMARY KEY, balance INTEGER);"


def filled_shop(canister):
    canister.upgrade(schema=SHOP)
    canister.update("INSERT INTO account VALUES (1, '5'); INSERT INTO coupon VALUES ('SPRING')")
    before = dump(canister)
    canister.migrate(SHOP_WITHOUT)
    return before


@pytest.mark.parametrize("upgrades", range(3))
def test_a_rollback_brings_back_what_was_put_away(canister, upgrades):
    before = filled_shop(canister)
    for _ in range(upgrades):
        canister.upgrade(schema=SHOP_WITHOUT)
    assert canister.rollback_schema().notes == ("table coupon is live again",)
    assert dump(canister) == before
    assert canister.schema_status().ledger.tables == ()
    canister.update("INSERT INTO coupon VALUES ('AUTUMN')")


def test_a_table_deprecated_by_hand_is_deprecated_again(canister):
    filled_shop(canister)
    canister.restore_table("coupon")
    canister.deprecate_table("coupon")
    canister.upgrade(schema=SHOP_WITHOUT)
    assert "is deprecated again" in canister.rollback_schema().notes[0]
    assert canister.query("SELECT * FROM coupon").rows == [("SPRING",)]
    with pytest.raises(SqlError, match="table coupon is deprecated"):
        canister.update("DELETE FROM coupon")


def test_a_rollback_that_lacks_a_removed_table_is_refused_unless_asked_for(canister):
    filled_shop(canister)
    canister.upgrade(schema=SHOP_WITHOUT)
    canister.remove_table("coupon")
    words = refused(canister, canister.rollback_schema)
    assert "table coupon was removed since, with all rows, and cannot come back" in words
    assert [it.name for it in canister.schema_status().ledger.removed] == ["coupon"]
    reply = canister.rollback_schema(without_removed=True)
    assert reply.notes == ("table coupon was removed, with its rows, and stays gone",)
    assert canister.query("SELECT typeof(balance) FROM account").rows == [("text",)]


def test_a_migration_after_a_removal_is_taken_back_as_ever(canister):
    filled_shop(canister)
    canister.upgrade(schema=SHOP_WITHOUT)
    canister.remove_table("coupon")
    canister.migrate(SHOP_WITHOUT + "CREATE TABLE more (x);")
    assert canister.rollback_schema().notes == ()


def test_a_numbered_way_back_that_restores_a_removed_table_is_refused(canister, folder):
    write(folder, **{"0002_b": "--@ deprecate account", "0002_b.down": "--@ restore account"})
    canister.upgrade(schema=folder)
    canister.upgrade(schema=folder)
    canister.remove_table("account")
    words = refused(canister, canister.rollback_schema)
    assert "table account was removed since" in words
    assert "--without-removed" not in words
