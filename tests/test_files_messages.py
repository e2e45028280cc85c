"""Journals and further files across messages: rollbacks, traps, transactions over several."""

import gc
import random
import weakref
from contextlib import closing, suppress
from dataclasses import replace
from itertools import count, pairwise

import pytest

from sqlstable import (
    Canister,
    StableMemory,
    Trap,
    latest_limits,
)
from sqlstable.ic.accesses import Accesses
from sqlstable.memory.accesslog import AccessLog
from sqlstable.testing import list_accesses, trap_at
from tests.doors import SCHEMA, Door, is_sound, opened_fixture, rows, series  # noqa: F401  a fixture
from tests.two_files import FILL, JOURNALS, two_databases

# -- journals -------------------------------------------------------------------------------------


@pytest.mark.parametrize("journal", JOURNALS)
@pytest.mark.parametrize("locking", ["normal", "exclusive"])
def test_a_journal_in_stable_memory_is_gone_after_each_commit(opened, journal, locking):
    world = opened(bucket_pages=1)
    connection = world.connect(
        f"journal_mode = {journal}", f"locking_mode = {locking}", "cache_size = 3"
    )
    connection.execute(SCHEMA)
    connection.execute(FILL.format("t"))
    before = connection.serialize("main")
    connection.execute("BEGIN; UPDATE t SET x = x || 'spilled'")
    assert world.vfs.xAccess("main.db-journal", 0)
    connection.execute("ROLLBACK")
    assert connection.serialize("main") == before
    assert not world.vfs.xAccess("main.db-journal", 0)
    connection.execute("UPDATE t SET x = x || 'kept'")
    assert not world.vfs.xAccess("main.db-journal", 0)
    world.reopen()
    assert not world.vfs.xAccess("main.db-journal", 0)
    assert rows(world.connect(), "SELECT sum(length(x)) FROM t") == [(50_400,)]


@pytest.mark.parametrize("journal", JOURNALS)
def test_delete_and_truncate_dirty_the_same_os_pages_as_persist(journal):
    with Canister(journal_mode=journal, trace=":memory:") as canister:
        canister.update(SCHEMA)
        canister.update(FILL.format("t"))
        reply = canister.update("UPDATE t SET x = 'y' WHERE id = 50")
        # The header and page 1, one leaf; two OS pages of the journal with their records.
        with Canister(journal_mode="persist") as persist:
            persist.update(SCHEMA)
            persist.update(FILL.format("t"))
            expected = persist.update("UPDATE t SET x = 'y' WHERE id = 50")
        assert len(reply.footprint.dirty) == len(expected.footprint.dirty)


@pytest.mark.parametrize("page_size", [512, 4096, 65_536])
def test_a_hot_journal_of_an_image_is_played_back_when_it_is_opened(opened, page_size):
    world = opened(bucket_pages=1)
    connection = world.connect(
        f"page_size = {page_size}", "journal_mode = persist", "cache_size = 1"
    )
    connection.execute(SCHEMA)
    connection.execute(FILL.format("t"))
    connection.execute(f"INSERT INTO t (x) SELECT 'many' || x FROM t, {series(6)}")
    connection.execute("CREATE INDEX i ON t (x)")
    # A longer journal first, whose records lie stale behind those of the next one.
    connection.execute("UPDATE t SET x = x || 'before'")
    before = rows(connection, "SELECT * FROM t")
    with world.memory.message("update"):
        connection.execute("BEGIN; UPDATE t SET x = 'half of it' WHERE id < 70")
    # As a canister is that awaits inside a transaction: the message is kept, the heap is not.
    image = world.memory.image()
    connection.close(force=True)
    again = opened(StableMemory.from_image(image))
    assert again.vfs.xAccess("main.db-journal", 0)
    other = again.connect()
    assert rows(other, "SELECT * FROM t") == before
    assert is_sound(other)
    assert not again.vfs.xAccess("main.db-journal", 0)


def test_journals_and_further_files_are_logged_by_address(opened):
    world = opened(bucket_pages=1)
    connection = two_databases(world, "journal_mode = persist")
    memory = world.memory
    log = memory.log = world.vfs.store.new_log()
    world.vfs.store.rebind()
    with memory.message("update"):
        connection.execute("BEGIN; UPDATE t SET x = 'a' WHERE id = 1")
        connection.execute("UPDATE o SET x = 'b' WHERE id = 1; COMMIT")
        touched = set(memory.bytemap.accessed)
        dirty = set(memory.bytemap.dirty)
    rows = Accesses.joined(log.take().chunks(0, 10_000)).rows
    pages, written = set(), set()
    for kind, address, length, offset in rows:
        if kind > 1:
            continue
        spanned = set(range(address // 4096, (address + length - 1) // 4096 + 1))
        pages |= spanned
        written |= spanned if kind == 1 else set()
        assert (offset >= 0) == (owner_of(world, address) == 120)
    # What the bytemap has is what the log has: nothing is moved beside it.
    assert pages == touched
    assert written == dirty
    assert isinstance(log, AccessLog)
    memory.log = None
    world.vfs.store.rebind()


def owner_of(world, address):
    for info in world.vfs.stable_files():
        if any(start <= address < start + 65_536 for start in info.bucket_addresses):
            return info.memory_id
    return None


def test_a_further_file_crosses_buckets_that_lie_apart(opened):
    world = opened(bucket_pages=1)
    connection = two_databases(world, "journal_mode = persist", "cache_size = 3")
    for number in range(6):
        connection.execute(f"INSERT INTO t (x) SELECT x || {number} FROM t LIMIT 50")
        connection.execute(f"INSERT INTO o (x) SELECT x || {number} FROM o LIMIT 50")
    connection.execute("BEGIN; UPDATE t SET x = 'a' || x; UPDATE o SET x = 'b' || x; ROLLBACK")
    infos = {info.name: info for info in world.vfs.stable_files()}
    for name in ("main.db", "other.db", "main.db-journal"):
        addresses = infos[name].bucket_addresses
        assert len(addresses) > 1
        assert any(b - a != 65_536 for a, b in pairwise(addresses))
    assert is_sound(connection)
    world.reopen()
    connection = world.connect()
    connection.execute("ATTACH 'other.db' AS other")
    assert is_sound(connection)
    assert rows(connection, "SELECT count(*) FROM o") == [(400,)]


# -- rollbacks and traps --------------------------------------------------------------------------


@pytest.mark.parametrize("journal", ["memory", *JOURNALS])
@pytest.mark.parametrize("is_first", [False, True])
def test_a_rollback_takes_files_and_directory_back(opened, journal, is_first):
    world = opened(bucket_pages=1)
    connection = world.connect(f"journal_mode = {journal}")
    connection.execute(SCHEMA)
    if not is_first:
        connection.execute("ATTACH 'first.db' AS first")
        connection.execute(f"PRAGMA first.journal_mode = {journal}").fetchall()
        connection.execute("CREATE TABLE first.f (x)")
    connection.execute("ATTACH 'other.db' AS other")
    connection.execute(f"PRAGMA other.journal_mode = {journal}").fetchall()
    before, files = world.memory.image(), world.vfs.stable_files()
    for _ in range(2):
        with world.memory.message("query"):
            connection.execute("CREATE TABLE other.o (x)")
            connection.execute(f"INSERT INTO o SELECT zeroblob(900) FROM {series(300)}")
            connection.execute(f"INSERT INTO t (x) SELECT zeroblob(900) FROM {series(300)}")
            assert "other.db" in world.kinds
        assert world.memory.image() == before
        assert world.vfs.stable_files() == files
        assert rows(connection, "SELECT * FROM other.sqlite_schema") == []
    connection.execute("CREATE TABLE other.o (x)")
    connection.execute("INSERT INTO o VALUES (1); INSERT INTO t (x) VALUES (2)")
    assert is_sound(connection)
    world.reopen()
    assert rows(world.connect(name="other.db"), "SELECT * FROM o") == [(1,)]


CASES = {
    "two_databases": (
        "BEGIN",
        "UPDATE t SET x = x || 'changed' WHERE id % 3 = 0",
        "UPDATE o SET x = x || 'changed' WHERE id % 4 = 0",
        "COMMIT",
    ),
    "spilling": (
        "PRAGMA cache_size = 4",
        "PRAGMA other.cache_size = 4",
        "BEGIN",
        "UPDATE t SET x = 'long' || hex(x)",
        "UPDATE o SET x = 'long' || hex(x)",
        "COMMIT",
        "PRAGMA cache_size = 500",
    ),
    "new_file": (
        "ATTACH 'new.db' AS new",
        "CREATE TABLE new.n AS SELECT * FROM o",
        "DETACH new",
    ),
    "sql_rollback": (
        "PRAGMA other.cache_size = 4",
        "BEGIN",
        "UPDATE o SET x = 'long' || hex(x)",
        "ROLLBACK",
        "INSERT INTO o VALUES (900, 'kept')",
    ),
    "vacuum": ("DELETE FROM o WHERE id % 2", "VACUUM other", "VACUUM main"),
}


@pytest.mark.parametrize("journal", ["memory", *JOURNALS])
@pytest.mark.parametrize("case", CASES)
def test_a_message_that_traps_at_any_access_to_any_file_leaves_nothing(case, journal):
    """The fault sweep: a trap at each access, to whichever file, takes everything back."""

    def act(canister):
        with canister.message("update") as message:
            for sql in CASES[case]:
                message.execute(sql)

    def build():
        canister = Canister(journal_mode=journal, bucket_pages=1, depth="pages")
        canister.on_connect(lambda connection: connection.execute("ATTACH 'other.db' AS other"))
        canister.on_connect(
            lambda connection: connection.execute(
                f"PRAGMA other.journal_mode = {journal}"
            ).fetchall()
        )
        canister.update(SCHEMA)
        canister.update("CREATE TABLE other.o (id INTEGER PRIMARY KEY, x TEXT)")
        canister.update(FILL.format("t"))
        canister.update(FILL.format("o"))
        return canister

    def contents(canister):
        with canister.message("query") as message:
            found = [message.execute(f"SELECT * FROM {table}") for table in "to"]
            assert message.execute("PRAGMA integrity_check") == [("ok",)]
        return found

    with build() as canister:
        accesses = list_accesses(canister, lambda: act(canister))
        after = contents(canister)
    assert "write" in accesses
    assert "truncate" in accesses or journal != "truncate" or case == "new_file"
    with build() as canister:
        before, rows_before = canister.image(), contents(canister)
        step = max(1, len(accesses) // 40)
        special = [at for at, kind in enumerate(accesses) if kind not in ("read", "write")]
        for index in sorted({*range(0, len(accesses), step), *special}):
            with pytest.raises(Trap, match="injected"), trap_at(canister, index):
                act(canister)
            assert canister.image() == before, (index, accesses[index])
            if index % (3 * step) == 0:
                assert contents(canister) == rows_before
        act(canister)
        assert contents(canister) == after


# -- implicit messages over several databases -----------------------------------------------------


class Commits(StableMemory):
    """Counts the messages that changed something."""

    def __init__(self):
        super().__init__()
        self.changes = []

    def commit(self):
        if self.bytemap.dirty:
            self.changes.append(len(self.bytemap.dirty))
        super().commit()


@pytest.mark.parametrize("journal", ["memory", *JOURNALS])
@pytest.mark.parametrize("locking", ["normal", "exclusive"])
@pytest.mark.parametrize("synchronous", ["off", "full"])
def test_a_transaction_over_several_databases_is_one_message(opened, journal, locking, synchronous):
    world = opened(Commits(), bucket_pages=1)
    connection = two_databases(
        world,
        f"journal_mode = {journal}",
        f"locking_mode = {locking}",
        f"synchronous = {synchronous}",
    )
    connection.execute("ATTACH 'third.db' AS third")
    connection.execute(f"PRAGMA third.journal_mode = {journal}").fetchall()
    connection.execute("CREATE TABLE third.h (x)")
    changes = world.memory.changes
    for sql in (
        "BEGIN; INSERT INTO t VALUES (901, 'a'); INSERT INTO o VALUES (901, 'b'); COMMIT",
        "BEGIN IMMEDIATE; UPDATE o SET x = 'c' WHERE id = 901; COMMIT",
        "BEGIN EXCLUSIVE; UPDATE t SET x = 'c' WHERE id < 9; INSERT INTO h VALUES (1); COMMIT",
        "BEGIN; DELETE FROM t WHERE id = 1; DELETE FROM o WHERE id = 1; DELETE FROM h; COMMIT",
    ):
        changes.clear()
        connection.execute(sql)
        assert world.memory.kind is None
        assert len(changes) == 1
        # All of it is in that message: an image of now has everything.
        copy = Door(StableMemory.from_image(world.memory.image()))
        with closing(copy):
            found = copy.connect()
            found.execute("ATTACH 'other.db' AS other; ATTACH 'third.db' AS third")
            for table in "toh":
                select = f"SELECT * FROM {table}"
                assert rows(found, select) == rows(connection, select)
            assert is_sound(found)


def test_a_kill_between_any_two_commits_of_files_leaves_whole_transactions(opened):
    """The committed bytes change in whole messages only, whatever SQLite does in between."""
    images = []

    class Kept(StableMemory):
        def commit(self):
            is_dirty = bool(self.bytemap.dirty)
            super().commit()
            if is_dirty:
                images.append(self.image())

    world = opened(Kept(), bucket_pages=1)
    connection = two_databases(world, "journal_mode = delete", "synchronous = full", "cache_size=3")
    images.clear()
    for number in range(1, 6):
        connection.execute(
            f"BEGIN; UPDATE t SET x = '{number}' || x; UPDATE o SET x = '{number}' || x; COMMIT"
        )
    assert len(images) == 5
    for number, image in enumerate(images, 1):
        with closing(Door(StableMemory.from_image(image))) as copy:
            found = copy.connect()
            found.execute("ATTACH 'other.db' AS other")
            for table in "to":
                assert rows(found, f"SELECT sum(length(x)) FROM {table}") == [
                    (50_000 + 100 * number,)
                ]


def test_a_commit_without_room_is_rolled_back_and_told(opened):
    class Full(StableMemory):
        is_full = False

        def commit(self):
            if self.is_full and self.bytemap.dirty:
                raise self.poison(Trap("the image file has no room"))
            super().commit()

    for pragmas in (("locking_mode = normal",), ("journal_mode = memory",)):
        world = opened(Full(), bucket_pages=1)
        connection = two_databases(world, *pragmas)
        before = world.memory.image()
        world.memory.is_full = True
        with pytest.raises(Trap, match="no room"):
            connection.execute("BEGIN; DELETE FROM t; DELETE FROM o; COMMIT")
        assert world.memory.kind is None
        assert world.memory.image() == before
        assert rows(connection, "SELECT count(*) FROM t, o WHERE t.id = o.id") == [(100,)]
        world.memory.is_full = False
        connection.execute("BEGIN; DELETE FROM t; DELETE FROM o; COMMIT")
        assert rows(connection, "SELECT count(*) FROM t, o") == [(0,)]
        assert is_sound(connection)


# -- the native engine ----------------------------------------------------------------------------


@pytest.mark.parametrize("journal", JOURNALS)
def test_queries_pay_nothing_for_a_journal_that_updates_keep(journal):
    def run(mode):
        with Canister(journal_mode=mode, depth="pages") as canister:
            canister.update(SCHEMA)
            canister.update(FILL.format("t"))
            for number in range(3):
                canister.update("UPDATE t SET x = 'y' WHERE id = ?", (number,))
            before = canister.image()
            uses = [
                canister.query(sql, cache=cache).footprint.use
                for sql in ("SELECT * FROM t", "SELECT x FROM t WHERE id = 5", "DELETE FROM t")
                for cache in ("cold", "fresh")
                if (mode, sql) == ("memory", sql) or not sql.startswith("DELETE")
            ]
            assert canister.image() == before
            return uses[:4]

    assert run(journal) == run("memory")


@pytest.mark.parametrize("journal", JOURNALS)
def test_an_open_transactions_journal_is_not_played_back_by_a_query(journal):
    with Canister(journal_mode=journal, cache_size=3) as canister:
        canister.update(SCHEMA)
        canister.update(FILL.format("t"))
        with canister.message("update", keep_open=True) as message:
            message.execute("BEGIN; UPDATE t SET x = 'half' WHERE id < 80")
        before = canister.image()
        canister.query("SELECT count(*) FROM t")
        assert canister.image() == before
        with canister.message("update") as message:
            message.execute("COMMIT")
        assert canister.query("SELECT count(*) FROM t WHERE x = 'half'").rows == [(79,)]


@pytest.mark.parametrize("journal", JOURNALS)
def test_a_transaction_over_messages_is_undone_when_a_trap_loses_its_heap(journal):
    with Canister(journal_mode=journal, cache_size=3, trace=":memory:") as canister:
        canister.update(SCHEMA)
        canister.update(FILL.format("t"))
        before = canister.query("SELECT * FROM t").rows
        with canister.message("update", keep_open=True) as message:
            message.execute("BEGIN; UPDATE t SET x = 'half' WHERE id < 80")
        with suppress(Trap), canister.message("update") as message:
            message.execute("UPDATE t SET x = 'more'")
            message.trap()
        reply = canister.query("SELECT * FROM t")
        assert reply.rows == before
        assert canister.query("SELECT * FROM t").footprint.use == reply.footprint.use
        canister.update("DELETE FROM t")
        assert canister.query("PRAGMA integrity_check").rows == [("ok",)]


@pytest.mark.parametrize("journal", JOURNALS)
def test_random_messages_over_two_databases_agree_with_a_model(journal):
    generator = random.Random(journal)
    with Canister(journal_mode=journal, bucket_pages=1, cache_size=8) as canister:
        canister.on_connect(lambda connection: connection.execute("ATTACH 'other.db' AS other"))
        canister.update(SCHEMA)
        canister.update("CREATE TABLE other.o (id INTEGER PRIMARY KEY, x TEXT)")
        model = {"t": {}, "o": {}}
        for number in count():
            if number == 150:
                break
            draft = {table: dict(found) for table, found in model.items()}
            is_kept = generator.random() < 0.6
            with suppress(Trap), canister.message("update") as message, message.transaction():
                for _ in range(generator.randint(1, 4)):
                    table, key = generator.choice("to"), generator.randrange(60)
                    if generator.random() < 0.3:
                        message.execute(f"DELETE FROM {table} WHERE id = ?", (key,))
                        draft[table].pop(key, None)
                    else:
                        text = "x" * generator.randrange(3000)
                        message.execute(f"REPLACE INTO {table} VALUES (?, ?)", (key, text))
                        draft[table][key] = text
                if not is_kept:
                    message.trap()
            if is_kept:
                model = draft
            if number % 10 == 0:
                with canister.message("query") as message:
                    for table in "to":
                        assert dict(message.execute(f"SELECT * FROM {table}")) == model[table]
            if number % 50 == 49:
                canister.upgrade()
        assert canister.query("PRAGMA integrity_check").rows == [("ok",)]


def test_closing_leaves_nothing_to_the_garbage_collector():
    gc.collect()
    gc.disable()
    try:
        world = Door(bucket_pages=1)
        two_databases(world, "journal_mode = persist")
        cabinet, vfs = world.vfs.cabinet, world.vfs
        parts = [vfs, cabinet, cabinet.messages, cabinet.directory, cabinet.manager]
        parts += [*cabinet._stores.values(), *cabinet._stable.values(), vfs.store]
        assert len(parts) == 9
        parts = [weakref.ref(part) for part in parts]
        world.close()
        del world, vfs, cabinet
        assert [part() for part in parts] == [None] * 9
    finally:
        gc.enable()


def test_limits_hold_for_further_files_too(opened):
    latest = latest_limits()
    update = replace(latest.update, os_pages_accessed_max=60, os_pages_dirty_max=45)
    memory = StableMemory(limits=replace(latest, update=update))
    world = opened(memory, bucket_pages=1)
    connection = world.connect("journal_mode = memory")
    connection.execute("ATTACH 'other.db' AS other; PRAGMA other.journal_mode = memory")
    connection.execute("CREATE TABLE other.o (id INTEGER PRIMARY KEY, x TEXT)")
    before = memory.image()
    with pytest.raises(Trap, match="modified pages"):
        connection.execute(f"INSERT INTO o SELECT i, hex(zeroblob(900)) FROM {series(200)}")
    assert memory.image() == before
    connection.execute("INSERT INTO o VALUES (1, 'goes on')")
    assert is_sound(connection)
