"""Databases whose owners are held against dbstat, SQLite page by SQLite page.

The oracle is independent of the code under test: it takes names and roles from dbstat, walks
the freelist itself, and finds pointer maps with SQLite's own formula, one number at a time.
"""

import copy
import ctypes
import random
import struct

import apsw
import numpy as np

from sqlstable.trace.model import Owner
from sqlstable.trace.ownership import owners as owners_module
from sqlstable.trace.ownership.owners import Changes, OwnerMap, owner_runs

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


class SqlReader(ImageReader):
    """A reader over bytes alone: SQLite sees them as they are, damaged or not."""

    def __init__(self, image):
        connection = apsw.Connection(":memory:")
        connection.deserialize("main", image)
        super().__init__(connection, image)


def damage(image, rng, number):
    """Change bytes of a SQLite page, rather those that refer to others."""
    start = (number - 1) * 512 + (100 if number == 1 else 0)
    for _ in range(rng.choice((1, 1, 3, 60))):
        at = start + rng.choice((0, rng.randrange(12), rng.randrange(412)))
        image[at] = rng.choice((0, 1, 2, 5, 10, 13, 255, rng.randrange(256)))
