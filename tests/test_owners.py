"""Owners: an update reaches what dbstat says, reads little, and survives damage.

The oracle is independent of the code under test: it takes names and roles from dbstat, walks
the freelist itself, and finds pointer maps with SQLite's own formula, one number at a time.
"""

import ctypes
import random
import struct
from contextlib import suppress

import apsw
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sqlstable.errors import ImageError
from sqlstable.trace import owners as owners_module
from sqlstable.trace.btree import (
    lock_byte_number,
    parse_database_header,
    parse_node,
    parse_trunk,
    pointer_map_numbers,
)
from sqlstable.trace.owners import Changes, Owner, OwnerMap, OwnerSpan, owner_spans

ROLES = {"internal": "interior", "leaf": "leaf", "overflow": "overflow"}


class ImageReader:
    """A reader over the bytes of a database and a connection to it, which counts its use."""

    def __init__(self, connection, image):
        self.connection = connection
        self.image = image
        self.numbers_read = []
        self.statements = []

    def read_sqlite_page(self, number):
        self.numbers_read.append(number)
        size = sqlite_page_bytes(self.image)
        return self.image[(number - 1) * size : number * size]

    def rows(self, sql):
        self.statements.append(sql)
        return self.connection.execute(sql).fetchall()


class Database:
    """A database in memory, an owner map that follows it, and the image that the map has seen."""

    def __init__(self, *, page_size=4096, auto_vacuum=0, reserved=0, **options):
        self.connection = apsw.Connection("database", vfs="memdb")
        if reserved:
            reserve(self.connection, reserved)
        self.sql(f"PRAGMA page_size = {page_size}")
        self.sql(f"PRAGMA auto_vacuum = {auto_vacuum}")
        # Updates that give up and refresh would hide a mistake, so the tests exclude both.
        self.map = OwnerMap(**{"refresh_share": 1e9, **options})
        self.image = b""
        self.extra = random.Random(0)

    def sql(self, text, *bindings):
        return self.connection.execute(text, *bindings).fetchall()

    def refresh(self):
        self.image = self.connection.serialize("main")
        reader = ImageReader(self.connection, self.image)
        return reader, self.map.refresh(reader)

    def update(self, *, extra=3):
        """Update the map with what differs from the last image, and some that does not."""
        before, self.image = self.image, self.connection.serialize("main")
        dirty = differing(before, self.image)
        size = sqlite_page_bytes(self.image)
        highest = max(len(before), len(self.image)) // size
        dirty += [self.extra.randint(1, highest) for _ in range(extra)]
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
    found = {number: Owner("(unknown)", "(unknown)", "unknown", "") for number in range(1, count + 1)}
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


def check(database):
    """Compare the map with the oracle, and its inner state with that of a new map."""
    owner_map = database.map
    assert owner_map.fault == ""
    expected = expected_owners(database.connection, database.image)
    assert owner_map.sqlite_page_count == len(expected)
    numbers = np.arange(1, len(expected) + 1)
    found = [owner_map.owners[index] for index in owner_map.owner_indexes(numbers)]
    wrong = {
        number: (is_now, should_be)
        for number, is_now, should_be in zip(numbers.tolist(), found, expected, strict=True)
        if is_now != should_be
    }
    assert not wrong
    new = OwnerMap()
    new.refresh(ImageReader(database.connection, database.image))
    state, new_state = owner_map._state, new._state
    size = len(expected) + 1
    assert np.array_equal(state.parents[:size], new_state.parents[:size])
    assert not state.parents[size:].any()
    assert not state.codes[size:].any()
    assert state.freelist.trunks == new_state.freelist.trunks
    assert state.roots.keys() == new_state.roots.keys()


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
        (first + at, index)
        for first, count, index in owner_spans(changes)
        for at in range(count)
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
    low = rng.randint(0, 200)
    numbers = (
        f"WITH RECURSIVE n(i) AS (SELECT {low} UNION ALL SELECT i + 1 FROM n WHERE i < {low + rows})"
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


def follow(database, rng, messages):
    """Hold the map to the oracle over random messages; none may need a refresh."""
    history = {}
    # A first table brings the file into being.
    database.sql("CREATE TABLE first (id)")
    replay(history, database.refresh()[1])
    check(database)
    for _ in range(messages):
        message(database, rng)
        grown_max = 2 * database.map.sqlite_page_count + owners_module._GROWTH_MAX
        reader, changes = database.update()
        if database.map.sqlite_page_count <= grown_max:
            assert not any("dbstat" in sql for sql in reader.statements), reader.statements
            assert len(reader.numbers_read) == len(set(reader.numbers_read))
        replay(history, changes)
        check(database)
    numbers = np.arange(1, database.map.sqlite_page_count + 1)
    found = database.map.owner_indexes(numbers).tolist()
    assert found == [history.get(number, 0) for number in numbers.tolist()]
    return history


@pytest.mark.slow
@pytest.mark.parametrize("auto_vacuum", [0, 1, 2])
@pytest.mark.parametrize("page_size", [512, 1024, 4096, 65_536])
def test_updates_reach_what_dbstat_says(page_size, auto_vacuum):
    for seed in range(2):
        database = Database(page_size=page_size, auto_vacuum=auto_vacuum)
        follow(database, random.Random(f"{seed} {page_size} {auto_vacuum}"), 40)
