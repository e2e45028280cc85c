"""Fault sweep: a message that traps at any one of its accesses leaves nothing behind.

The fault model: the message stops just before one access to the database file or one growth of
stable memory, or behind the last of them, before its own commit. Bytes themselves never rot.
"""

from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import count, product

import apsw
import pytest

from sqlstable import Canister, MemoryManager, StableMemory, Trap
from sqlstable.layout.directory import DATABASE_MEMORY_ID
from sqlstable.sqlite.header import CHANGE_COUNTER_OFFSET
from sqlstable.testing import list_accesses, trap_at
from tests.doors import series

VERSION_VALID_FOR_OFFSET = 92

ACCESSES_SWEPT = 200
"""Messages of up to so many accesses trap at each of them, longer ones at every n-th, where n is
the stride that makes about `ACCESSES_STRIDDEN`; always at the first and the last access, at each
growth and truncation, and at what follows these."""

ACCESSES_STRIDDEN = 60

PAGE_SIZES = (512, 4096, 65_536)
PAGE_SIZES_SLOW = (1024, 16_384)
LAYOUTS = ("managed", "raw")
PRODUCTS = ("froghub", "ic-sqlite-vfs")
"""Each keeps something in front of the database, which must be true of it."""

APART = "managed_apart"
"""The managed layout with another memory's buckets between those of the database."""
JOURNALS = ("memory", "off")
STABLE_JOURNALS = ("delete", "truncate", "persist")
"""Each keeps a file beside the database, in layout managed."""

BODY_BYTES = {512: 300, 1024: 600, 4096: 1500, 16_384: 5000, 65_536: 20_000}
"""So that some rows fill a SQLite page, and some dozen SQLite pages a table."""


@dataclass(frozen=True)
class Case:
    """What a message does, and to what."""

    name: str
    statements: tuple[str, ...]
    setup: tuple[str, ...] = ()
    journals: tuple[str, ...] = JOURNALS
    cache_size: int = 500
    kind: str = "update"


def memory_with_buckets_apart() -> StableMemory:
    memory = StableMemory()
    manager = MemoryManager(memory, bucket_wasm_pages=1)
    for memory_id in (DATABASE_MEMORY_ID, 3, DATABASE_MEMORY_ID):
        manager.get(memory_id).grow(1)
    return memory


TEXT = "printf('%.*c', {body} + i, char(65 + i % 26))"
"""Not zeros, which stable memory has anyway."""

ITEMS = (
    "CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT, body BLOB)",
    "CREATE INDEX item_name ON item (name)",
    f"INSERT INTO item SELECT i, 'item ' || (i * 7919 % 101), {TEXT} FROM {series(24)}",
)
WORDS = (
    "CREATE VIRTUAL TABLE note USING fts5(title, body)",
    f"INSERT INTO note SELECT 'title ' || i, 'words ' || i % 7 || i * i % 31 FROM {series(30)}",
    "INSERT INTO note VALUES ('another', 'segment of words')",
)
BOXES = (
    "CREATE VIRTUAL TABLE box USING rtree(id, x0, x1, y0, y1)",
    f"INSERT INTO box SELECT i, i % 8, i % 8 + 2, i / 8, i / 8 + 3 FROM {series(60)}",
)
PAIRS = (
    "CREATE TABLE pair (a TEXT, b INTEGER, c, PRIMARY KEY (a, b)) WITHOUT ROWID",
    f"INSERT INTO pair SELECT 'key ' || i % 9, i, {TEXT} FROM {series(20)}",
    "CREATE TABLE part (id INTEGER PRIMARY KEY, pair REFERENCES item (id) ON DELETE CASCADE)",
)
SPILL = 5
"""SQLite pages of cache with which a transaction must write before it ends."""

CASES = (
    Case("insert", ("INSERT INTO item VALUES (900, 'new', hex(zeroblob({body})))",), ITEMS),
    Case(
        "two_sql_commits",
        ("INSERT INTO item VALUES (900, 'new', 'x')", "UPDATE item SET name = 'b' WHERE id = 900"),
        ITEMS,
    ),
    Case("update_many", ("UPDATE item SET name = name || ' again', body = body || 'x'",), ITEMS),
    Case("delete_all", ("DELETE FROM item",), ITEMS),
    Case("delete_where", ("DELETE FROM item WHERE id % 3",), ITEMS),
    Case(
        "insert_select",
        (f"INSERT INTO item SELECT id + 100 * i, name || i, body FROM item, {series(6)}",),
        ITEMS,
    ),
    Case("create_index", ("CREATE INDEX item_body ON item (body, name)",), ITEMS),
    Case("vacuum", ("VACUUM",), (*ITEMS, "DELETE FROM item WHERE id % 2")),
    Case(
        "auto_vacuum_full",
        ("DELETE FROM item WHERE id % 3",),
        ("PRAGMA auto_vacuum = full", *ITEMS),
    ),
    Case(
        "auto_vacuum_incremental",
        ("PRAGMA incremental_vacuum(9)",),
        ("PRAGMA auto_vacuum = incremental", *ITEMS, "DELETE FROM item WHERE id % 3"),
    ),
    Case("fts5_insert", ("INSERT INTO note VALUES ('more', 'words and words')",), WORDS),
    Case("fts5_merge", ("INSERT INTO note(note) VALUES ('optimize')",), WORDS),
    Case("rtree_insert", ("INSERT INTO box VALUES (500, 1, 9, 1, 9)",), BOXES),
    Case(
        "overflow_chain",
        ("INSERT INTO item VALUES (901, 'long', hex(zeroblob(5 * {body})))",),
        ITEMS,
    ),
    Case("without_rowid", ("UPDATE pair SET a = a || b, c = c || 'x' WHERE b % 2",), PAIRS),
    Case(
        "upsert_and_savepoints",
        (
            "SAVEPOINT one",
            "INSERT INTO pair VALUES ('key 1', 1, 'x') ON CONFLICT DO UPDATE SET c = 'upserted'",
            "SAVEPOINT two",
            "DELETE FROM pair",
            "ROLLBACK TO two",
            "RELEASE one",
        ),
        PAIRS,
        journals=("memory",),
    ),
    Case("analyze_and_reindex", ("ANALYZE", "REINDEX", "DELETE FROM sqlite_stat1"), ITEMS),
    Case(
        "rollback_after_spill",
        (
            "BEGIN",
            "UPDATE item SET body = body || 'spilled', name = 'spilled' || id",
            "ROLLBACK",
            "INSERT INTO item VALUES (902, 'kept', 'x')",
        ),
        ITEMS,
        journals=("memory",),
        cache_size=SPILL,
    ),
    Case(
        "commit_after_spill",
        ("BEGIN", "UPDATE item SET body = body || 'spilled', name = 'spilled' || id", "COMMIT"),
        ITEMS,
        cache_size=SPILL,
    ),
    Case(
        "ddl",
        (
            "CREATE TABLE other (a, b, PRIMARY KEY (a, b)) WITHOUT ROWID",
            "ALTER TABLE item ADD COLUMN extra DEFAULT 'e'",
            "ALTER TABLE item RENAME COLUMN name TO label",
            "DROP INDEX item_name",
            "CREATE TRIGGER t AFTER INSERT ON item BEGIN INSERT INTO other VALUES (new.id, 1); END",
            "INSERT INTO item VALUES (903, 'fires', 'x', 'y')",
        ),
        ITEMS,
    ),
    Case("drop_table", ("DROP TABLE item",), ITEMS),
    Case("first_message", ITEMS),
    Case("writing_query", ("UPDATE item SET name = 'x', body = 'y'",), ITEMS, kind="query"),
    Case("growing_query", ITEMS, WORDS, kind="query"),
)


@dataclass(frozen=True)
class World:
    """A case under certain settings."""

    case: Case
    page_size: int
    layout: str
    journal: str

    def sql(self, statements: tuple[str, ...]) -> list[str]:
        return [sql.format(body=BODY_BYTES[self.page_size]) for sql in statements]

    def build(self) -> Canister:
        canister = Canister(
            page_size=self.page_size,
            layout="managed" if self.layout == APART else self.layout,
            journal_mode=self.journal,
            cache_size=self.case.cache_size,
            # The smallest bucket, so that files cross borders; and no cost beside the accesses.
            bucket_pages=1,
            depth="pages",
            memory=memory_with_buckets_apart() if self.layout == APART else None,
        )
        for sql in self.sql(self.case.setup):
            canister.update(sql)
        return canister

    def act(self, canister: Canister, *, trap_at_end: bool = False) -> None:
        with canister.message(self.case.kind) as message:
            for sql in self.sql(self.case.statements):
                message.execute(sql)
            if trap_at_end:
                message.trap()

    def model(self) -> tuple[str, str]:
        """What a database in plain memory holds before the message and after it."""
        connection = apsw.Connection(":memory:")
        connection.execute(f"PRAGMA page_size = {self.page_size}")
        for sql in self.sql(self.case.setup):
            connection.execute(sql).fetchall()
        before = dump(lambda sql: connection.execute(sql).fetchall())
        if self.case.kind == "query":
            return before, before
        for sql in self.sql(self.case.statements):
            connection.execute(sql).fetchall()
        return before, dump(lambda sql: connection.execute(sql).fetchall())


def dump(rows_of: Callable[[str], list]) -> list:
    """All rows of all tables, virtual ones and their shadows included, and the schema."""
    schema = rows_of("SELECT type, name, sql FROM sqlite_schema ORDER BY name")
    tables = [name for kind, name, _ in schema if kind == "table"]
    return [schema, *(rows_of(f"SELECT * FROM {name} ORDER BY 1, 2") for name in tables)]


def assert_sound(canister: Canister, rows: list) -> None:
    with canister.message("query") as message:
        assert dump(message.execute) == rows
        assert message.execute("PRAGMA integrity_check") == [("ok",)]


def chosen(kinds: tuple[str, ...]) -> list[int]:
    """The access indexes to trap at; see `ACCESSES_SWEPT`."""
    if len(kinds) <= ACCESSES_SWEPT:
        return list(range(len(kinds)))
    stride = -(-len(kinds) // ACCESSES_STRIDDEN)
    special = [at for at, kind in enumerate(kinds) if kind in ("grow", "truncate")]
    around = {*special, *(at + 1 for at in special)}
    return sorted({*range(0, len(kinds), stride), len(kinds) - 1, *around} & {*range(len(kinds))})


def without_nonces(canister: Canister) -> bytes:
    """The image, without journals: SQLite begins their checksums with random numbers."""
    image = bytearray(canister.image())
    for info in canister.vfs.stable_files():
        if info.kind == "journal":
            for address in info.bucket_addresses:
                image[address : address + 65_536] = bytes(65_536)
    return bytes(image)


def without_counters(canister: Canister) -> bytes:
    """The image, without what SQLite increments once per connection that writes.

    With a journal beside it only the database: SQLite journals its first page for that.
    """
    store = canister.vfs.store
    if len(canister.vfs.stable_files()) > 1:
        database = bytearray().join(
            store.peek(512, offset) for offset in range(0, store.size_bytes, 512)
        )
        database[CHANGE_COUNTER_OFFSET : CHANGE_COUNTER_OFFSET + 4] = bytes(4)
        database[VERSION_VALID_FOR_OFFSET : VERSION_VALID_FOR_OFFSET + 4] = bytes(4)
        return bytes(database)
    image = bytearray(canister.image())
    for offset in (CHANGE_COUNTER_OFFSET, VERSION_VALID_FOR_OFFSET):
        address = canister.vfs.store.placement.map.address(offset)
        image[address : address + 4] = bytes(4)
    return bytes(image)


def sweep(world: World) -> None:
    before_rows, after_rows = world.model()
    untrapped, twin, canister = world.build(), world.build(), world.build()
    before = canister.image()
    world.act(untrapped)
    # Both start from the heap that a trap leaves, so both make the same accesses.
    for one in (twin, canister):
        untouched = one.image()
        with pytest.raises(Trap, match="called trap"):
            world.act(one, trap_at_end=True)
        assert one.image() == untouched
    kinds = list_accesses(twin, lambda: world.act(twin))
    assert_sound(twin, after_rows)

    for access_index in chosen(kinds):
        text = rf"^injected trap: access {access_index} \({kinds[access_index]}\)$"
        with pytest.raises(Trap, match=text), trap_at(canister, access_index):
            world.act(canister)
        assert canister.image() == before
        assert_sound(canister, before_rows)

    with pytest.raises(Trap, match="called trap"):
        world.act(canister, trap_at_end=True)
    assert canister.image() == before
    world.act(canister)
    assert without_nonces(canister) == without_nonces(twin)
    assert without_counters(canister) == without_counters(untrapped)
    assert_sound(canister, after_rows)
    for one in (untrapped, twin, canister):
        one.close()


def worlds(page_sizes, layouts, *, names=None, without=frozenset(), journals=JOURNALS):
    return [
        pytest.param(
            World(case, page_size, layout, journal),
            id=f"{case.name}-{page_size}-{layout}-{journal}",
        )
        for case, page_size, layout, journal in product(CASES, page_sizes, layouts, journals)
        if (journal if journal in JOURNALS else "memory") in case.journals
        and (names is None or case.name in names)
        and (case.name, page_size) not in without
    ]


LONG = {("create_index", 65_536), *(("insert_select", page_size) for page_size in PAGE_SIZES)}


@pytest.mark.parametrize("world", worlds(PAGE_SIZES, LAYOUTS, without=LONG))
def test_a_trap_at_any_access_leaves_nothing_and_the_next_message_is_sound(world):
    sweep(world)


@pytest.mark.slow
@pytest.mark.parametrize(
    "world",
    [
        *worlds(PAGE_SIZES_SLOW, LAYOUTS),
        *worlds(PAGE_SIZES, LAYOUTS, names={"insert_select"}),
        *worlds((65_536,), LAYOUTS, names={"create_index"}),
    ],
)
def test_a_trap_at_any_access_leaves_nothing_in_the_longer_messages_too(world):
    sweep(world)


SMALL = {"insert", "update_many", "rollback_after_spill", "vacuum", "first_message"}


@pytest.mark.parametrize("world", worlds(PAGE_SIZES, [APART], names=SMALL))
def test_a_trap_at_any_access_leaves_nothing_where_buckets_lie_apart(world):
    sweep(world)


@pytest.mark.parametrize("world", worlds([4096, 16_384], PRODUCTS, names=SMALL))
def test_a_trap_at_any_access_leaves_nothing_in_front_of_the_database_either(world):
    sweep(world)


@pytest.mark.parametrize(
    "world",
    [
        *worlds(PAGE_SIZES, ["managed"], names=SMALL, journals=STABLE_JOURNALS),
        *worlds((4096,), [APART], names=SMALL, journals=STABLE_JOURNALS),
    ],
)
def test_a_trap_at_any_access_leaves_nothing_in_a_journal_either(world):
    sweep(world)


@pytest.mark.slow
@pytest.mark.parametrize("world", worlds(PAGE_SIZES, [APART], names={"insert_select"}))
def test_a_trap_while_growing_leaves_nothing_where_buckets_lie_apart(world):
    sweep(world)


# -- every way of running SQL, every kind of message ---------------------------------------------


def run_in_pieces(message):
    message.executemany("INSERT INTO item VALUES (?, ?, ?)", [(i, "n", b"b") for i in (70, 71)])
    with closing(message.cursor("SELECT id, body FROM item")) as outer:
        next(outer)
        message.execute("UPDATE item SET name = 'between' WHERE id = 3")
        with closing(message.cursor("DELETE FROM item WHERE id > 20 RETURNING id")) as inner:
            assert len([*inner]) == 6
        assert len([*outer]) == 19


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_trap_at_any_access_leaves_nothing_in_cursors_and_executemany(layout):
    canister = World(CASES[0], 4096, layout, "memory").build()
    before = canister.image()
    for access_index in count():
        with trap_at(canister, access_index), suppress(Trap):
            with canister.message("update") as message:
                run_in_pieces(message)
            break
        assert canister.image() == before
    assert access_index > 20
    assert canister.query("SELECT count(*) FROM item").rows == [(20,)]
    assert canister.query("PRAGMA integrity_check").rows == [("ok",)]
    canister.close()


@pytest.mark.parametrize("cache", ["fresh", "cold", "warm"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_trap_at_any_access_of_a_reading_query_changes_nothing(layout, cache):
    canister = World(CASES[0], 4096, layout, "memory").build()
    rows = canister.query("SELECT * FROM item").rows
    before = canister.image()
    # Without this a warm query would find all in the cache.
    with pytest.raises(Trap), canister.message("update") as message:
        message.trap()
    for access_index in count():
        try:
            with trap_at(canister, access_index):
                reply = canister.query("SELECT * FROM item", cache=cache)
        except Trap:
            assert canister.image() == before
        else:
            break
    assert access_index > 10
    assert reply.rows == rows
    canister.update("INSERT INTO item VALUES (900, 'after', 'x')")
    assert canister.query("SELECT count(*) FROM item").rows == [(25,)]
    assert canister.query("PRAGMA integrity_check").rows == [("ok",)]
    canister.close()


def test_a_trap_whose_exception_is_swallowed_still_leaves_nothing():
    canister = World(CASES[0], 4096, "managed", "memory").build()
    before = canister.image()
    swallowed = 0
    for access_index in count():
        try:
            with trap_at(canister, access_index), canister.message("update") as message:
                for number in (1, 2):
                    with suppress(Trap):
                        message.execute(f"UPDATE item SET name = 'x{number}' WHERE id = {number}")
                        continue
                    swallowed += 1
        except Trap:
            assert canister.image() == before
        else:
            break
    # An access of the first statement fails both, one of the second only that.
    assert swallowed > access_index > 5
    assert canister.query("SELECT name FROM item WHERE id < 3").rows == [("x1",), ("x2",)]
    canister.close()


# -- faults below the database: the memory manager's own calls, and the life cycle ----------------


def trap_of(action):
    try:
        action()
    except Trap as trap:
        return trap
    return None


class FaultyMemory(StableMemory):
    """Traps at one call of a message, the memory manager's own included."""

    trap_index: int | None = None
    count = 0

    def arm(self, trap_index):
        self.trap_index, self.count = trap_index, 0

    def _count(self):
        if self.kind is None or self.trap is not None:
            return
        index, self.count = self.count, self.count + 1
        if index == self.trap_index:
            raise self.poison(Trap(f"injected at call {index}"))

    def size(self):
        self._count()
        return super().size()

    def grow(self, wasm_pages, **options):
        self._count()
        return super().grow(wasm_pages, **options)

    def touch(self, address, length, *, write):
        self._count()
        super().touch(address, length, write=write)

    def count_accesses_of(self, canister):
        """Count what SQLite asks of the file too; the hot path calls none of the above."""
        canister.vfs.store.messages.interceptor = lambda _: self._count()
        canister.vfs.store.rebind()


def sweep_calls(memory, action):
    """Trap at each call that ``action`` makes until it gets through; returns how often."""
    before = memory.image()
    for trap_index in count():
        memory.arm(trap_index)
        trap = trap_of(action)
        memory.arm(None)
        if trap is None:
            break
        assert str(trap) == f"injected at call {trap_index}"
        assert memory.image() == before
    return trap_index


def test_a_trap_inside_a_growth_of_the_memory_manager_leaves_nothing():
    memory = FaultyMemory()
    canister = Canister(memory=memory, bucket_pages=1)
    canister.update("CREATE TABLE t (x)")
    memory.count_accesses_of(canister)
    trapped = sweep_calls(
        memory, lambda: canister.update("INSERT INTO t VALUES (zeroblob(300000))")
    )
    assert trapped > 80
    # Five buckets more: each growth asks for the size, grows, and writes table and header.
    assert memory.wasm_pages == 1 + 1 + 4
    assert canister.query("SELECT length(x) FROM t").rows == [(300_000,)]
    assert canister.query("PRAGMA integrity_check").rows == [("ok",)]
    canister.close()


def test_a_trap_at_any_call_of_an_upgrade_leaves_the_canister_as_it_was():
    memory = FaultyMemory()
    canister = Canister(memory=memory)
    canister.update("CREATE TABLE t (x)")
    for trap_index in count():
        before = canister.image()
        memory.arm(trap_index)
        try:
            canister.upgrade()
        except Trap:
            memory.arm(None)
            assert canister.image() == before
            canister.update("INSERT INTO t VALUES (1)")
            assert canister.query("SELECT count(*) FROM t").rows == [(trap_index + 1,)]
        else:
            break
    assert trap_index >= 2
    memory.arm(None)
    assert canister.query("PRAGMA integrity_check").rows == [("ok",)]
    canister.close()


@pytest.mark.parametrize("layout", [*LAYOUTS, *PRODUCTS])
def test_a_trap_at_any_call_of_an_import_leaves_the_canister_empty_and_usable(layout, tmp_path):
    source = apsw.Connection(str(tmp_path / "app.db"))
    source.execute("PRAGMA page_size = 1024; CREATE TABLE t (x); INSERT INTO t VALUES (42)")
    source.close()
    memory = FaultyMemory()
    canister = Canister(memory=memory, layout=layout)
    trapped = sweep_calls(memory, lambda: canister.import_database(tmp_path / "app.db"))
    assert trapped > (4 if layout == "managed" else 2)
    assert canister.query("SELECT x FROM t").rows == [(42,)]
    assert canister.settings.page_size == (16_384 if layout == "ic-sqlite-vfs" else 1024)
    canister.close()


def test_a_failed_import_leaves_the_settings_as_they_were(tmp_path):
    source = apsw.Connection(str(tmp_path / "app.db"))
    source.execute("PRAGMA page_size = 1024; CREATE TABLE t (x)")
    source.close()
    memory = FaultyMemory()
    canister = Canister(memory=memory, page_size=8192)
    memory.arm(5)
    with pytest.raises(Trap, match="injected"):
        canister.import_database(tmp_path / "app.db")
    memory.arm(None)
    canister.update("CREATE TABLE own (x)")
    assert canister.query("PRAGMA page_size").rows == [(8192,)]
    assert canister.settings.page_size == 8192
    canister.close()


@pytest.mark.parametrize("layout", [*LAYOUTS, *PRODUCTS])
def test_a_trap_at_any_call_of_an_install_leaves_the_memory_empty_and_usable(layout):
    memory = FaultyMemory()
    canisters = []
    trapped = sweep_calls(memory, lambda: canisters.append(Canister(memory=memory, layout=layout)))
    assert trapped >= (4 if layout == "managed" else 0)
    (canister,) = canisters
    canister.update("CREATE TABLE t (x)")
    canister.close()
