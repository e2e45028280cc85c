"""Owners: an update reaches what dbstat says, reads little, and survives damage.

The oracle is independent of the code under test: it takes names and roles from dbstat, walks
the freelist itself, and finds pointer maps with SQLite's own formula, one number at a time.
"""

import copy
import ctypes
import random
import struct
from contextlib import suppress

import apsw
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sqlstable.errors import ImageError
from sqlstable.sqlite.btree import (
    lock_byte_number,
    parse_node,
    pointer_map_numbers,
)
from sqlstable.sqlite.freelist import parse_trunk
from sqlstable.sqlite.header import require_header
from sqlstable.trace.ownership import owner_update
from sqlstable.trace.ownership import owners as owners_module
from sqlstable.trace.ownership.owners import Changes, Owner, OwnerMap, owner_runs

ROLES = {"internal": "interior", "leaf": "leaf", "overflow": "overflow"}


class ImageReader:
    """A reader over the bytes of a database and a connection to it, which counts its use."""

    def __init__(self, connection, image):
        self.connection = connection
        self.image = image
        self.numbers_read = []

    def read_sqlite_page(self, number):
        self.numbers_read.append(number)
        size = sqlite_page_bytes(self.image)
        return self.image[(number - 1) * size : number * size]

    def size_bytes(self):
        return len(self.image)


class CountingMap(OwnerMap):
    """A map that counts how often it listed all trees."""

    listings = 0

    def _refresh(self, reader, dirty):
        self.listings += 1
        return super()._refresh(reader, dirty)


class WatchedFile:
    """A database file in memory that knows where it was read and written."""

    def __init__(self):
        self.data = bytearray()
        self.written = set()
        self.read = set()

    def xRead(self, amount, offset):
        self.read.add(offset)
        return bytes(self.data[offset : offset + amount])

    def xWrite(self, data, offset):
        self.data.extend(bytes(max(0, offset - len(self.data))))
        self.data[offset : offset + len(data)] = data
        self.written.add(range(offset, offset + len(data)))

    def take_dirty(self, size):
        """Return the SQLite pages of so many bytes that were written since the last time."""
        numbers = {at // size + 1 for written in self.written for at in written[::size]}
        self.written.clear()
        return sorted(numbers)

    def xTruncate(self, size):
        del self.data[size:]

    def xFileSize(self):
        return len(self.data)

    def xSectorSize(self):
        return 512

    def xDeviceCharacteristics(self):
        return 0

    def xFileControl(self, operation, pointer):
        return False

    def xCheckReservedLock(self):
        return False

    def xSync(self, flags):
        pass

    def xLock(self, level):
        pass

    def xUnlock(self, level):
        pass

    def xClose(self):
        pass


class WatchedVFS(apsw.VFS):
    """One database file; what SQLite needs beside it lives in memory too."""

    def __init__(self, name, file):
        super().__init__(name, "")
        self.file = file

    def xOpen(self, name, flags):
        return self.file if flags[0] & apsw.SQLITE_OPEN_MAIN_DB else WatchedFile()

    def xAccess(self, path, flags):
        return False

    def xFullPathname(self, name):
        return name

    def xDelete(self, name, sync):
        pass


class Database:
    """A database, an owner map that follows it, and what the map has seen of it.

    Updates that become refreshes would hide mistakes, so that by default none does for its size.
    """

    def __init__(self, *, page_size=4096, auto_vacuum=0, reserved=0, file=None, refresh_share=1e9):
        self.file = file or WatchedFile()
        name = f"watched-{id(self)}"
        self.vfs = WatchedVFS(name, self.file)
        self.connection = apsw.Connection("database", vfs=name)
        if reserved:
            reserve(self.connection, reserved)
        for name, value in (
            ("page_size", page_size),
            ("auto_vacuum", auto_vacuum),
            ("journal_mode", "memory"),
            ("temp_store", "memory"),
            ("synchronous", "off"),
        ):
            self.sql(f"PRAGMA {name} = {value}")
        self.map = CountingMap(refresh_share=refresh_share)
        self.image = b""
        self.accessed = set()
        "SQLite pages of the last message."
        self.extra = random.Random(0)

    def sql(self, text, *bindings):
        return self.connection.execute(text, *bindings).fetchall()

    def list(self):
        """List all owners but those of overflow."""
        self.image = bytes(self.file.data)
        self.file.written.clear()
        self.file.read.clear()
        return self.map.refresh(ImageReader(self.connection, self.image))

    def refresh(self):
        """List all owners, and find those of overflow."""
        self.image = bytes(self.file.data)
        self.file.written.clear()
        reader = ImageReader(self.connection, self.image)
        changes = self.map.refresh(reader)
        return reader, merged(changes, self.map.complete(reader))

    def meet(self):
        """Show the map what the message accessed, in the database as it was before."""
        size = sqlite_page_bytes(self.image)
        offsets = {at for written in self.file.written for at in written[::size]} | self.file.read
        self.accessed = {offset // size + 1 for offset in offsets}
        self.file.read.clear()
        return self.map.meet(ImageReader(self.connection, self.image), self.accessed)

    def update(self, *, only_differing=False):
        """Update the map with what was written, or with what differs and some that does not."""
        before, self.image = self.image, bytes(self.file.data)
        size = sqlite_page_bytes(self.image)
        dirty = self.file.take_dirty(size)
        differ = differing(before, self.image)
        # What was cut off the end differs without having been written.
        assert set(differ[: np.searchsorted(differ, len(self.image) // size, "right")]) <= {*dirty}
        if only_differing:
            dirty = differ + self.extra.choices(range(1, len(before) // size + 2), k=3)
        reader = ImageReader(self.connection, self.image)
        return reader, self.map.update(reader, np.array(dirty, dtype=np.int64))

    def numbers_of(self, name):
        numbers = np.arange(1, self.map.sqlite_page_count + 1)
        indexes = self.map.owner_indexes(numbers)
        return [
            int(number)
            for number, index in zip(numbers, indexes, strict=True)
            if self.map.owners[index].name == name
        ]


def merged(first, second):
    """Return two successive changes as one; the second tells of what was unknown."""
    assert not second.owner_indexes_before.any()
    places = {number: at for at, number in enumerate(first.numbers.tolist())}
    before = [
        first.owner_indexes_before.item(places[number]) if number in places else 0
        for number in second.numbers.tolist()
    ]
    is_left = ~np.isin(first.numbers, second.numbers)
    numbers = np.append(first.numbers[is_left], second.numbers)
    now = np.append(first.owner_indexes[is_left], second.owner_indexes)
    then = np.append(first.owner_indexes_before[is_left], np.array(before, dtype=np.int32))
    order = np.argsort(numbers)
    is_change = (now != then)[order]
    return Changes(*(column[order][is_change] for column in (numbers, now, then)))


def reserve(connection, count):
    """Have so many bytes reserved at the end of each SQLite page of a new database."""
    value = ctypes.c_int(count)
    reserve_bytes = 38  # SQLITE_FCNTL_RESERVE_BYTES
    connection.file_control("main", reserve_bytes, ctypes.addressof(value))


def sqlite_page_bytes(image):
    (stored,) = struct.unpack_from(">H", image, 16)
    return 65_536 if stored == 1 else stored


def differing(before, after):
    """Return the SQLite pages that differ; beyond the end there are zeros."""
    size = sqlite_page_bytes(after)
    length = max(len(before), len(after))
    before, after = (np.frombuffer(b.ljust(length, b"\0"), np.uint8) for b in (before, after))
    return (np.flatnonzero((before != after).reshape(-1, size).any(axis=1)) + 1).tolist()


def expected_owners(connection, image):
    """Return the owner of each SQLite page, in order."""
    size = sqlite_page_bytes(image)
    count = len(image) // size
    schema = connection.execute("SELECT name, tbl_name, type FROM sqlite_schema WHERE rootpage > 0")
    about = {name: (table, kind) for name, table, kind in schema}
    about["sqlite_schema"] = ("sqlite_schema", "table")
    found = {
        number: Owner("(unknown)", "(unknown)", "unknown", "") for number in range(1, count + 1)
    }
    rows = connection.execute("SELECT name, pageno, pagetype FROM dbstat").fetchall()
    found |= {number: Owner(name, *about[name], ROLES[role]) for name, number, role in rows}
    found |= {number: special("(freelist)", role) for number, role in freelist(image, size)}
    lock_byte = 2**30 // size + 1
    if lock_byte <= count:
        found[lock_byte] = special("(lock-byte)")
    if image[52:56] != bytes(4):
        usable = size - image[20]
        found |= {
            number: special("(pointer map)")
            for number in range(2, count + 1)
            if pointer_map_of(number, usable, lock_byte) == number
        }
    return [found[number] for number in range(1, count + 1)]


def expected_in(image):
    """Return the same of bytes alone: nothing of it comes into the cache of who wrote them."""
    connection = apsw.Connection(":memory:")
    connection.deserialize("main", image)
    found = expected_owners(connection, image)
    connection.close()
    return found


def special(name, role=""):
    return Owner(name, name, name.strip("()"), role)


def freelist(image, size):
    trunk, free_count = struct.unpack_from(">II", image, 32)
    found = []
    while trunk:
        found.append((trunk, "trunk"))
        following, leaves = struct.unpack_from(">II", image, (trunk - 1) * size)
        numbers = struct.unpack_from(f">{leaves}I", image, (trunk - 1) * size + 8)
        found += [(number, "leaf") for number in numbers]
        trunk = following
    assert len(found) == free_count
    return found


def pointer_map_of(number, usable, lock_byte):
    """SQLite's ptrmapPageno, from btree.c."""
    entries = usable // 5 + 1
    found = (number - 2) // entries * entries + 2
    return found + 1 if found == lock_byte else found


def check(database, expected=None):
    """Compare the map with the oracle, and its inner state with that of a new map."""
    assert database.map.fault == ""
    expected = expected or expected_in(database.image)
    assert database.map.sqlite_page_count == len(expected)
    numbers = np.arange(1, len(expected) + 1)
    is_known = database.map.owner_indexes(numbers) != owners_module.UNKNOWN
    owner_map = copy.deepcopy(database.map)
    owner_map.complete(ImageReader(database.connection, database.image))
    assert owner_map.fault == ""
    assert not owner_map._state.unread.any()
    found = [owner_map.owners[index] for index in owner_map.owner_indexes(numbers)]
    wrong = {
        number: (is_now, should_be)
        for number, is_now, should_be in zip(numbers.tolist(), found, expected, strict=True)
        if is_now != should_be
    }
    assert not wrong
    # What was unknown is overflow that nobody has met, or lost.
    unknown = [owner for owner, known in zip(expected, is_known, strict=True) if not known]
    assert {owner.role for owner in unknown} <= {"overflow", ""}
    new = OwnerMap()
    new.refresh(ImageReader(database.connection, database.image))
    new.complete(ImageReader(database.connection, database.image))
    state, new_state = owner_map._state, new._state
    size = len(expected) + 1
    assert np.array_equal(state.parents[:size], new_state.parents[:size])
    assert not state.parents[size:].any()
    assert not state.codes[size:].any()
    assert state.freelist.trunks == new_state.freelist.trunks
    assert state.roots.keys() == new_state.roots.keys()
    assert state.schema_rows == new_state.schema_rows


def spans(changes):
    """Return first numbers, counts and owner indexes of successive SQLite pages with one owner."""
    runs = owner_runs(range(1 << 20), 0, changes)
    columns = (runs.first_sqlite_pages, runs.sqlite_page_counts, runs.owners)
    return [*zip(*columns, strict=True)]


def replay(history, changes):
    """Apply changes to a plain dictionary, as a trace file would."""
    for number, now, before in zip(
        changes.numbers.tolist(),
        changes.owner_indexes.tolist(),
        changes.owner_indexes_before.tolist(),
        strict=True,
    ):
        assert history.get(number, 0) == before != now
        history[number] = now
    assert (np.diff(changes.numbers) > 0).all()
    from_spans = [
        (first + at, index) for first, count, index in spans(changes) for at in range(count)
    ]
    pairs = zip(changes.numbers.tolist(), changes.owner_indexes.tolist(), strict=True)
    assert from_spans == list(pairs)


TABLES = ("a", "b", "c", "d")
SIZES = (0, 10, 60, 130, 300, 1_000, 3_000, 9_000, 40_000)


def statement(rng):
    """Return one random statement; many fail, because what they name is missing or is there."""
    table, other = rng.choice(TABLES), rng.choice(TABLES)
    blob = f"randomblob(abs(random() % {rng.choice(SIZES) + 1}))"
    rows = rng.choice((1, 3, 20, 60))
    # Negative and large keys are stored as long varints.
    low = rng.choice((0, 0, 0, 0, -300, 2**40)) + rng.randint(0, 200)
    numbers = (
        f"WITH RECURSIVE n(i) AS (SELECT {low} UNION ALL "
        f"SELECT i + 1 FROM n WHERE i < {low + rows})"
    )
    some = f"WHERE id BETWEEN {low} AND {low + rng.choice((0, 5, 100))}"
    choices = (
        (3, f"CREATE TABLE {table} (id INTEGER PRIMARY KEY, x, y)"),
        (2, f"CREATE TABLE {table} (id, x, y, PRIMARY KEY (id, x)) WITHOUT ROWID"),
        (1, f"CREATE TABLE {table} (id PRIMARY KEY, x UNIQUE, y)"),
        (1, f"CREATE TABLE {table} (id INTEGER PRIMARY KEY AUTOINCREMENT, x, y)"),
        (1, f"CREATE TABLE {table} AS SELECT * FROM {other}"),
        (2, f"CREATE INDEX {table}_x ON {table} (x)"),
        (1, f"CREATE INDEX {table}_xy ON {table} (y, x, id)"),
        (1, f"CREATE VIRTUAL TABLE {table} USING fts5 (id, x, y)"),
        (1, f"CREATE VIRTUAL TABLE {table} USING rtree (id, x, y)"),
        (9, f"{numbers} INSERT OR IGNORE INTO {table} (id, x, y) SELECT i, {blob}, i FROM n"),
        (6, f"{numbers} REPLACE INTO {table} (id, x, y) SELECT i, i, {blob} FROM n"),
        (2, f"INSERT OR IGNORE INTO {table} SELECT * FROM {other}"),
        (6, f"UPDATE {table} SET y = {blob} {some}"),
        (3, f"UPDATE {table} SET x = {blob} {some}"),
        (2, f"UPDATE {table} SET id = id + 300 {some}"),
        (5, f"DELETE FROM {table} {some}"),
        (2, f"DELETE FROM {table}"),
        (3, f"DROP TABLE {table}"),
        (2, f"DROP INDEX {table}_x"),
        (2, f"ALTER TABLE {table} RENAME TO {other}"),
        (1, f"ALTER TABLE {table} ADD COLUMN z"),
        (1, f"ALTER TABLE {table} DROP COLUMN z"),
        (1, f"INSERT INTO {table} ({table}) VALUES ('optimize')"),
        (1, "REINDEX"),
        (1, "ANALYZE"),
        (1, "VACUUM"),
        (2, f"PRAGMA incremental_vacuum({rng.choice((1, 5, 100))})"),
        (1, f"PRAGMA secure_delete = {rng.choice((0, 1))}"),
    )
    weights, texts = zip(*choices, strict=True)
    return rng.choices(texts, weights)[0]


def message(database, rng):
    """Run one message of one or several random statements."""
    if rng.random() < 0.5:
        with suppress(apsw.Error):
            database.sql(statement(rng))
        return
    database.sql("BEGIN")
    for _ in range(rng.randint(2, 6)):
        with suppress(apsw.Error):
            database.sql(statement(rng))
    database.sql("ROLLBACK" if rng.random() < 0.1 else "COMMIT")


def follow(database, rng, messages, *, only_differing=False):
    """Hold the map to the oracle over random messages; none may need a listing.

    The map is opened and upgraded by listings alone, and knows of overflow only what is met.
    """
    database.sql("CREATE TABLE a (id INTEGER PRIMARY KEY, x, y); CREATE INDEX a_x ON a (x)")
    database.sql("CREATE TABLE b (id, x, y, PRIMARY KEY (id, x)) WITHOUT ROWID")
    database.list()
    history = dict(enumerate(database.map._state.codes.tolist()))
    for _ in range(messages):
        if rng.random() < 0.3:
            # All is forgotten, and so is SQLite's cache: what it holds was met by nobody.
            database.sql("PRAGMA shrink_memory")
            database.list()
            history = dict(enumerate(database.map._state.codes.tolist()))
        before = expected_in(database.image)
        message(database, rng)
        listings = database.map.listings
        grown_max = 2 * database.map.sqlite_page_count + owner_update._GROWTH_MAX
        replay(history, database.meet())
        check_met(database, before)
        reader, changes = database.update(only_differing=only_differing)
        if database.map.sqlite_page_count <= grown_max:
            assert database.map.listings == listings
            # What was rewritten with equal bytes can have changed owner, which costs more reads.
            others = [number for number in reader.numbers_read if number != 1]
            assert only_differing or len(others) == len(set(others))
        replay(history, changes)
        check(database)
        database.file.read.clear()
    numbers = np.arange(1, database.map.sqlite_page_count + 1)
    found = database.map.owner_indexes(numbers).tolist()
    assert found == [history.get(number, 0) for number in numbers.tolist()]


def check_met(database, expected):
    """What a message accessed has its owner from before, whatever happened to it since."""
    for number in database.accessed:
        if number <= len(expected):
            found = database.map.owners[database.map.owner_indexes([number]).item()]
            assert found == expected[number - 1], number


@pytest.mark.slow
@pytest.mark.parametrize("auto_vacuum", [0, 1, 2])
@pytest.mark.parametrize("page_size", [512, 1024, 4096, 65_536])
@pytest.mark.parametrize("only_differing", [False, True])
def test_updates_reach_what_dbstat_says(page_size, auto_vacuum, only_differing):
    rng = random.Random(f"{page_size} {auto_vacuum} {only_differing}")
    database = Database(page_size=page_size, auto_vacuum=auto_vacuum)
    # Normal locking rewrites the header in each message; a small cache spills, so that SQLite
    # pages are written before the message knows that it does not need them.
    database.sql(f"PRAGMA locking_mode = {rng.choice(('normal', 'exclusive'))}")
    database.sql(f"PRAGMA cache_size = {rng.choice((5, 500))}")
    follow(database, rng, 40, only_differing=only_differing)


@pytest.mark.slow
@pytest.mark.parametrize("reserved", [1, 8, 32])
def test_reserved_bytes_are_not_used(reserved):
    database = Database(page_size=512, auto_vacuum=2, reserved=reserved)
    follow(database, random.Random(reserved), 40)
    assert database.image[20] == reserved


@pytest.mark.slow
@settings(max_examples=30)
@given(
    rng=st.randoms(use_true_random=False),
    page_size=st.sampled_from([512, 4096]),
    auto_vacuum=st.sampled_from([0, 1, 2]),
    messages=st.integers(1, 12),
)
def test_any_messages_reach_what_dbstat_says(rng, page_size, auto_vacuum, messages):
    follow(Database(page_size=page_size, auto_vacuum=auto_vacuum), rng, messages)


def filled(rows=300, *, size=700, **options):
    """Return a followed database with tables t and u, an index on each, and free SQLite pages."""
    database = Database(**options)
    for table in "tu":
        database.sql(f"CREATE TABLE {table} (id INTEGER PRIMARY KEY, x, y)")
        database.sql(f"CREATE INDEX {table}_x ON {table} (x)")
        fill(database, table, rows, size)
    database.sql("DELETE FROM u WHERE id > ?", (rows * 2 // 3,))
    database.refresh()
    return database


def fill(database, table, rows, size):
    database.sql(
        f"INSERT INTO {table} (x, y) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n"
        f" WHERE i < {rows}) SELECT i, zeroblob({size}) FROM n"
    )


def updated(database):
    """Update the map, check it, and return how many SQLite pages that read."""
    listings = database.map.listings
    database.meet()
    reader, _ = database.update()
    assert database.map.listings == listings
    numbers_read = len(reader.numbers_read)
    check(database)
    return numbers_read


@pytest.mark.parametrize(
    ("auto_vacuum", "statements"),
    [
        (0, "ALTER TABLE t RENAME TO v"),
        (0, "ALTER TABLE t RENAME TO v; ALTER TABLE u RENAME TO t; ALTER TABLE v RENAME TO u"),
        (0, "DROP TABLE u; ALTER TABLE t RENAME TO u"),
        (0, "DROP TABLE u; ALTER TABLE t RENAME TO u; INSERT INTO u (x, y) VALUES (1, 2)"),
        (
            0,
            "DROP TABLE t; CREATE TABLE t (id INTEGER PRIMARY KEY, x); INSERT INTO t VALUES (1, 2)",
        ),
        (1, "ALTER TABLE t RENAME TO v"),
        # The table with the last root moves to the place of the dropped one, and the new table
        # takes the place that it left.
        (2, "DROP TABLE t"),
        (2, "DROP TABLE t; CREATE TABLE v (id)"),
        (2, "DROP TABLE t; ALTER TABLE u RENAME TO t; CREATE TABLE u (id)"),
    ],
)
def test_renamed_and_moved_trees_are_not_read(auto_vacuum, statements):
    database = filled(1_000, auto_vacuum=auto_vacuum)
    assert database.map.sqlite_page_count > 300
    database.sql(f"BEGIN; {statements}; COMMIT")
    assert updated(database) < 16


def test_freed_and_reused_in_one_message():
    database = filled()
    t_before = set(database.numbers_of("t"))
    database.sql("BEGIN; DROP TABLE t; CREATE TABLE w (k PRIMARY KEY, v) WITHOUT ROWID")
    database.sql("INSERT INTO w SELECT id, zeroblob(3000) FROM u LIMIT 50; COMMIT")
    updated(database)
    assert t_before & set(database.numbers_of("w"))


def test_stale_bytes_of_free_sqlite_pages_are_never_followed():
    """What overflows lies where nodes were, and the reverse, in one message."""
    database = filled(page_size=512)
    for _ in range(4):
        database.sql("BEGIN; DELETE FROM t; INSERT INTO t VALUES (1, 2, zeroblob(90000)); COMMIT")
        updated(database)
        database.sql("BEGIN; DELETE FROM t")
        fill(database, "t", 400, 100)
        database.sql("COMMIT")
        updated(database)


@pytest.mark.parametrize("page_size", [512, 65_536])
def test_chains_are_followed_only_where_they_changed(page_size):
    database = filled(page_size=page_size)
    database.sql("INSERT INTO t VALUES (1000, 1, zeroblob(100 * ?))", (page_size,))
    assert updated(database) > 100
    database.sql("UPDATE t SET x = 2 WHERE id = 999")
    database.sql("INSERT INTO t VALUES (999, 1, 1)")
    assert updated(database) < 10
    with database.connection.blob_open("main", "t", "y", 1000, writeable=True) as blob:
        blob.seek(50 * page_size)
        blob.write(b"in the middle")
    assert updated(database) <= 2


def test_schema_edited_behind_the_cookie():
    database = filled()
    database.sql("PRAGMA writable_schema = 1")
    database.sql("UPDATE sqlite_schema SET name = 'renamed' WHERE name = 't_x'")
    # SQLite opens no such schema anew, so the connection that has it open is asked.
    listings = database.map.listings
    database.update()
    assert database.map.listings == listings
    check(database, expected_owners(database.connection, database.image))
    assert database.numbers_of("renamed")
    assert not database.numbers_of("t_x")


def test_an_index_cut_out_of_the_schema_leaves_its_sqlite_pages_unknown():
    database = filled()
    numbers = database.numbers_of("t_x")
    database.sql("PRAGMA writable_schema = 1")
    database.sql("DELETE FROM sqlite_schema WHERE name = 't_x'")
    database.update()
    check(database)
    assert not database.map.owner_indexes(numbers).any()


@pytest.mark.slow
def test_schema_larger_than_one_sqlite_page():
    database = filled(page_size=512)
    for number in range(60):
        database.sql(f"CREATE TABLE many_{number} (a, b, c, d DEFAULT 'a long default value')")
        updated(database)
    assert Owner("sqlite_schema", "sqlite_schema", "table", "interior") in [
        database.map.owners[index] for index in database.map.owner_indexes([1])
    ]
    database.sql("BEGIN")
    for number in range(0, 60, 2):
        database.sql(f"DROP TABLE many_{number}")
    database.sql("COMMIT")
    updated(database)


@pytest.mark.slow
def test_one_row_update_reads_what_it_dirtied():
    database = filled(18_000)
    assert database.map.sqlite_page_count > 5_000
    for at in range(1, 18_000, 450):
        database.sql("UPDATE t SET y = zeroblob(699) WHERE id = ?", (at,))
        dirty = database.file.take_dirty(4096)
        reader = ImageReader(database.connection, database.file.data)
        changes = database.map.update(reader, dirty)
        assert not len(changes)
        assert len(reader.numbers_read) <= len(dirty) <= 2
    database.image = bytes(database.file.data)
    check(database)


@pytest.mark.slow
def test_freeing_a_row_from_a_long_freelist_reads_one_trunk():
    database = filled(12_000, page_size=512, size=400)
    database.sql("DELETE FROM u WHERE id < 7000")
    updated(database)
    assert len(database.map._state.freelist.trunks) > 50
    for at in range(7_000, 7_400, 10):
        database.sql("DELETE FROM u WHERE id BETWEEN ? AND ?", (at, at + 9))
        dirty = database.file.take_dirty(512)
        reader = ImageReader(database.connection, database.file.data)
        assert len(database.map.update(reader, dirty))
        assert len(reader.numbers_read) <= len(dirty)
    database.image = bytes(database.file.data)
    check(database)


def test_freed_sqlite_pages_belong_to_whom_they_belonged_last():
    database = filled()
    numbers = np.array(database.numbers_of("t_x") + database.numbers_of("u_x"), dtype=np.int64)
    before = database.map.owner_indexes(numbers)
    free = np.array(database.numbers_of("(freelist)"))
    beyond = [database.map.sqlite_page_count + 1, 10**9]
    database.sql("DROP INDEX t_x")
    database.update()
    kinds = {database.map.owners[index].kind for index in database.map.owner_indexes(numbers)}
    assert kinds == {"freelist", "index"}
    assert database.map.last_owner_indexes(numbers).tolist() == before.tolist()
    # What was free before the message counts as free, and what never was is unknown.
    assert database.map.last_owner_indexes(free).tolist() == (
        database.map.owner_indexes(free).tolist()
    )
    assert database.map.last_owner_indexes(beyond).tolist() == [owners_module.UNKNOWN] * 2
    # One message later they count as free, also if that one wrote nothing.
    database.update()
    assert database.map.last_owner_indexes(numbers).tolist() == (
        database.map.owner_indexes(numbers).tolist()
    )


def test_sqlite_pages_used_only_within_a_message_belong_to_the_freelist():
    database = filled()
    count = database.map.sqlite_page_count
    database.sql("BEGIN; INSERT INTO t (id, y) VALUES (5000, zeroblob(900000))")
    database.sql("DELETE FROM t WHERE id = 5000; COMMIT")
    updated(database)
    new = np.arange(count + 1, database.map.sqlite_page_count + 1)
    assert len(new) > 100
    kinds = {database.map.owners[index].kind for index in database.map.last_owner_indexes(new)}
    assert kinds == {"freelist"}


def test_sqlite_pages_cut_off_belong_to_whom_they_belonged_last():
    database = filled(auto_vacuum=1)
    last = database.map.sqlite_page_count
    before = database.map.owner_indexes([last]).tolist()
    database.sql("DELETE FROM u; DELETE FROM t WHERE id > 10")
    _, changes = database.update()
    check(database)
    assert database.map.sqlite_page_count < last
    assert database.map.owner_indexes([last]).tolist() == [owners_module.UNKNOWN]
    assert database.map.last_owner_indexes([last]).tolist() == before
    assert last in changes.numbers


def test_owner_indexes_keep_their_meaning():
    database = filled()
    seen = list(database.map.owners)
    for text in ("DROP TABLE t", "CREATE TABLE t (id)", "ALTER TABLE t RENAME TO v", "VACUUM"):
        database.sql(text)
        database.update()
        check(database)
        assert database.map.owners[: len(seen)] == seen
        seen = list(database.map.owners)
    assert len(set(seen)) == len(seen)


def test_owners_outside_of_the_file_are_unknown():
    database = filled()
    count = database.map.sqlite_page_count
    assert database.map.owner_indexes([-1, 0, count + 1, 2**32]).tolist() == [0] * 4
    assert database.map.owners[0].kind == "unknown"
    assert OwnerMap().owner_indexes([1]).tolist() == [0]
    assert OwnerMap().last_owner_indexes([1]).tolist() == [0]


def test_many_dirty_sqlite_pages_make_a_refresh():
    database = filled(refresh_share=0.25)
    database.sql("UPDATE t SET y = 1 WHERE id = 1")
    listings = database.map.listings
    database.update()
    assert database.map.listings == listings
    database.sql("VACUUM")
    database.update()
    assert database.map.listings == listings + 1
    check(database)


def test_a_new_layout_makes_a_refresh():
    database = filled()
    for setting in ("page_size = 1024", "auto_vacuum = 1", "auto_vacuum = 0"):
        database.sql(f"PRAGMA {setting}")
        database.sql("VACUUM")
        listings = database.map.listings
        database.update()
        assert database.map.listings == listings + 1
        check(database)


def test_a_database_that_was_never_written_has_no_sqlite_pages():
    database = Database()
    assert len(database.refresh()[1]) == 0
    assert (database.map.fault, database.map.sqlite_page_count) == ("", 0)
    reader = ImageReader(database.connection, b"")
    assert len(database.map.update(reader, [1])) == 0
    database.sql("CREATE TABLE t (id)")
    database.update()
    check(database)
    assert database.map.sqlite_page_count == 2


def test_a_header_without_a_count_is_not_believed():
    database = filled()
    database.sql("INSERT INTO t VALUES (5000, 1, zeroblob(20000))")
    image = bytearray(database.file.data)
    image[28:32] = bytes(4)
    image[92:96] = bytes(4)
    dirty = database.file.take_dirty(4096)
    reader = ImageReader(database.connection, bytes(image))
    listings = database.map.listings
    database.map.update(reader, dirty)
    assert database.map.listings == listings
    database.image = bytes(database.file.data)
    check(database)


def test_a_sqlite_page_missing_from_the_dirty_ones_makes_a_refresh():
    database = filled()
    database.sql("INSERT INTO t VALUES (5000, 1, zeroblob(20000))")
    dirty = database.file.take_dirty(4096)
    leaf = set(dirty) & set(database.numbers_of("t"))
    database.image = bytes(database.file.data)
    reader = ImageReader(database.connection, database.image)
    listings = database.map.listings
    database.map.update(reader, [number for number in dirty if number not in leaf])
    assert database.map.listings == listings + 1
    check(database)


class BrokenReader:
    """Reads the first SQLite page and then nothing more."""

    def __init__(self, reader):
        self.reader = reader

    def read_sqlite_page(self, number):
        if number > 1:
            raise OSError("gone")
        return self.reader.read_sqlite_page(number)

    def size_bytes(self):
        return self.reader.size_bytes()


def test_a_reader_that_fails_leaves_all_unknown_until_it_works_again():
    database = filled()
    reader, changes = database.refresh()
    assert len(changes) == 0
    database.map.update(BrokenReader(reader), [1, 2])
    assert "gone" in database.map.fault
    # All but the SQLite page that could be read.
    assert not database.map.owner_indexes(np.arange(2, 100)).any()
    database.map.update(reader, [1])
    check(database)


class SqlReader(ImageReader):
    """A reader over bytes alone: SQLite sees them as they are, damaged or not."""

    def __init__(self, image):
        connection = apsw.Connection(":memory:")
        connection.deserialize("main", image)
        super().__init__(connection, image)


@pytest.mark.slow
@pytest.mark.parametrize("auto_vacuum", [0, 1])
def test_damage_never_raises_and_heals(auto_vacuum):
    database = filled(60, page_size=512, auto_vacuum=auto_vacuum)
    database.sql("INSERT INTO t VALUES (5000, 1, zeroblob(20000))")
    database.map = OwnerMap(refresh_share=1e9)
    history = {}
    replay(history, database.refresh()[1])
    sound, count = database.image, database.map.sqlite_page_count
    rng = random.Random(7)
    for _ in range(200):
        image = bytearray(sound)
        numbers = rng.sample(range(1, count + 1), rng.randint(1, 4))
        for number in numbers:
            damage(image, rng, number)
        reader = SqlReader(bytes(image))
        replay(history, database.map.update(reader, numbers))
        assert len(reader.numbers_read) <= 5 * count
        indexes = database.map.owner_indexes(np.arange(1, count + 1))
        assert indexes.min() >= 0
        assert indexes.max() < len(database.map.owners)
        healed = ImageReader(database.connection, sound)
        replay(history, database.map.update(healed, numbers))
        check(database)


def damage(image, rng, number):
    """Change bytes of a SQLite page, rather those that refer to others."""
    start = (number - 1) * 512 + (100 if number == 1 else 0)
    for _ in range(rng.choice((1, 1, 3, 60))):
        at = start + rng.choice((0, rng.randrange(12), rng.randrange(412)))
        image[at] = rng.choice((0, 1, 2, 5, 10, 13, 255, rng.randrange(256)))


@pytest.mark.parametrize(("role", "at"), [("interior", 8), ("overflow", 0), ("trunk", 0)])
def test_circles_end(role, at):
    database = filled(200, page_size=512)
    count = database.map.sqlite_page_count
    roles = [database.map.owners[i].role for i in database.map.owner_indexes(range(count + 1))]
    number = roles.index(role)
    image = bytearray(database.image)
    start = (number - 1) * 512 + at
    image[start : start + 4] = number.to_bytes(4, "big")
    reader = SqlReader(bytes(image))
    database.map.update(reader, [number])
    assert len(reader.numbers_read) <= 5 * count
    database.refresh()
    check(database)


def test_lost_sqlite_pages_are_unknown_but_no_fault():
    """A database that an old mistake made lose SQLite pages stays cheap to follow."""
    database = filled()
    trunk, free_count = struct.unpack_from(">II", database.image, 32)
    assert trunk
    lost = [number for number, _ in freelist(database.image, 4096)]
    assert len(lost) == free_count
    database.file.data[32:40] = bytes(8)
    # SQLite has the header in its cache, so the damage is done to a new connection's file.
    again = Database(file=database.file)
    again.refresh()
    assert again.map.fault == ""
    assert not again.map.owner_indexes(lost).any()
    again.sql("UPDATE t SET x = 5 WHERE id = 7")
    listings = again.map.listings
    again.update()
    assert again.map.listings == listings


def test_a_chain_that_strays_into_lost_sqlite_pages_changes_nothing_on_the_way():
    database = filled()
    database.sql("INSERT INTO t VALUES (5000, 1, zeroblob(20000)); DROP TABLE u")
    image = bytearray(database.file.data)
    lost = [number for number, role in freelist(image, 4096) if role == "leaf"]
    image[32:40] = bytes(8)
    owner_map, history = OwnerMap(refresh_share=1e9), {}
    replay(history, owner_map.refresh(SqlReader(bytes(image))))
    replay(history, owner_map.complete(SqlReader(bytes(image))))
    assert owner_map.fault == ""
    roles = [owner_map.owners[index].role for index in owner_map.owner_indexes(range(200))]
    overflow = roles.index("overflow")
    for number in lost[:5]:
        image[(overflow - 1) * 4096 : (overflow - 1) * 4096 + 4] = number.to_bytes(4, "big")
        replay(history, owner_map.update(SqlReader(bytes(image)), [overflow]))


def test_what_cannot_be_free_is_named():
    database = filled(auto_vacuum=2)
    trunk = int.from_bytes(database.image[32:36], "big")
    at = (trunk - 1) * 4096 + 8
    pointer_map, root = 2, 3
    for number in (pointer_map, root):
        image = bytearray(database.image)
        image[at : at + 4] = number.to_bytes(4, "big")
        owner_map = OwnerMap(refresh_share=1e9)
        owner_map.refresh(ImageReader(database.connection, database.image))
        assert owner_map.fault == ""
        if number == pointer_map:
            owner_map.update(SqlReader(bytes(image)), [trunk])
        else:
            owner_map.refresh(SqlReader(bytes(image)))
        assert "second owner" in owner_map.fault


def test_a_header_that_promises_too_much_costs_no_memory():
    database = filled()
    image = bytearray(database.image)
    image[28:32] = b"\xff\xff\xff\xf0"
    database.map.update(SqlReader(bytes(image)), [1])
    assert database.map.fault
    assert database.map.sqlite_page_count <= len(image) // 4096


class SparseFile(WatchedFile):
    """A file of SQLite pages of 64 KiB, of which those that are mostly zeros cost no memory."""

    def __init__(self):
        super().__init__()
        self.contents = {}
        self.size = 0

    def xRead(self, amount, offset):
        number, start = divmod(offset, 65_536)
        return self.contents.get(number, b"")[start : start + amount].ljust(amount, b"\0")

    def xWrite(self, data, offset):
        assert (offset % 65_536, len(data)) == (0, 65_536)
        is_sparse = data[16:] == bytes(65_520)
        self.contents[offset // 65_536] = bytes(data[:16] if is_sparse else data)
        self.size = max(self.size, offset + 65_536)
        self.written.add(range(offset, offset + 65_536))

    def xFileSize(self):
        return self.size


class SparseReader(ImageReader):
    """A reader over a sparse file."""

    def read_sqlite_page(self, number):
        return self.image.xRead(65_536, (number - 1) * 65_536)

    def size_bytes(self):
        return self.image.size


@pytest.mark.slow
def test_the_lock_byte_of_a_file_over_one_gibibyte(monkeypatch):
    monkeypatch.setattr(owner_update, "_GROWTH_MAX", 20_000)
    file = SparseFile()
    database = Database(page_size=65_536, auto_vacuum=2, file=file)
    database.sql("CREATE TABLE t (y)")
    reader = SparseReader(database.connection, file)
    database.map.refresh(reader)
    file.written.clear()
    for size in (900_000_000, 200_000_000):
        database.sql("INSERT INTO t VALUES (zeroblob(?))", (size,))
        database.map.update(reader, file.take_dirty(65_536))
    lock_byte = lock_byte_number(65_536)
    numbers = np.arange(1, database.map.sqlite_page_count + 1)
    assert len(numbers) > lock_byte
    found = database.map.owner_indexes(numbers)
    assert np.flatnonzero(found == owners_module.LOCK_BYTE).tolist() == [lock_byte - 1]
    assert np.flatnonzero(found == owners_module.POINTER_MAP).tolist() == [1, 13_109]
    database.map.refresh(reader)
    database.map.complete(reader)
    assert np.array_equal(database.map.owner_indexes(numbers), found)
    assert database.map.fault == ""


@pytest.mark.parametrize("size", [512, 1024, 2048, 4096, 8192, 16_384, 32_768, 65_536])
@pytest.mark.parametrize("reserved", [0, 1, 7, 32])
def test_pointer_maps_are_where_sqlite_has_them(size, reserved):
    usable, lock_byte = size - reserved, 2**30 // size + 1
    ranges = ((1, 3_000), (2, 2), (3, 700), (lock_byte - 2_000, lock_byte + 2_000))
    for first, last in ranges:
        found = pointer_map_numbers(
            sqlite_page_bytes=size, usable_bytes=usable, first=first, last=last
        )
        assert found.tolist() == [
            number
            for number in range(max(first, 2), last + 1)
            if pointer_map_of(number, usable, lock_byte) == number
        ]


def test_a_pointer_map_makes_room_for_the_lock_byte(monkeypatch):
    """No SQLite page size makes them meet soon, so the lock-byte is moved to where they do."""
    monkeypatch.setattr("sqlstable.sqlite.btree.LOCK_BYTE_OFFSET", 512 * 104)
    assert lock_byte_number(512) == 105
    for first, last, expected in ((1, 300, [2, 106, 208]), (106, 106, [106]), (1, 105, [2])):
        found = pointer_map_numbers(sqlite_page_bytes=512, usable_bytes=512, first=first, last=last)
        assert found.tolist() == expected


@pytest.mark.parametrize(
    ("at", "octets"),
    [(0, b"sqlite"), (16, b"\x01\x00"), (16, b"\x10\x01"), (16, b"\x02\x00\x01\x01\x21")],
)
def test_headers_that_contradict_themselves_are_refused(at, octets):
    content = bytearray(filled(5).image[:100])
    assert require_header(bytes(content)).page_size == 4096
    content[at : at + len(octets)] = octets
    with pytest.raises(ImageError):
        require_header(bytes(content))
    with pytest.raises(ImageError):
        require_header(bytes(content[:99]))


@pytest.mark.parametrize(
    "content",
    [
        bytes(512),
        bytes([13, 0, 0, 255, 255]) + bytes(507),
        bytes([13, 0, 0, 0, 1, 0, 0, 0, 1, 254]) + bytes(502),
        # A payload of 16 383 bytes whose overflow would be stated behind the end.
        bytes([13, 0, 0, 0, 1, 0, 0, 0, 1, 240]) + bytes(486) + b"\xff\x7f\x01" + bytes(13),
        # One whose chain begins nowhere.
        bytes([13, 0, 0, 0, 1, 0, 0, 0, 0, 20]) + bytes(10) + b"\xff\x7f\x01" + bytes(489),
        # A varint that does not end.
        bytes([13, 0, 0, 0, 1, 0, 0, 0, 1, 252]) + bytes(498) + b"\xff" * 4,
    ],
)
def test_nodes_that_reach_past_their_end_are_refused(content):
    assert len(content) == 512
    with pytest.raises(ImageError):
        parse_node(content, number=2, usable_bytes=512)


def test_trunks_that_reach_past_their_end_are_refused():
    content = struct.pack(">II", 0, 127) + bytes(504)
    with pytest.raises(ImageError):
        parse_trunk(content, number=2, usable_bytes=512)


def test_spans_join_neighbours_with_one_owner():
    now = np.array([5, 5, 5, 6, 6], dtype=np.int32)
    changes = Changes(np.array([3, 4, 6, 7, 8]), now, np.zeros_like(now))
    assert spans(changes) == [(3, 2, 5), (6, 1, 5), (7, 2, 6)]
    nothing = np.empty(0, dtype=np.int32)
    assert spans(Changes(nothing.astype(np.intp), nothing, nothing)) == []
