"""Owners of a damaged database: what is unknown and named, and what never raises."""

import random
import struct

import numpy as np
import pytest

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
from sqlstable.trace.ownership.owners import Changes, OwnerMap
from tests.owner_world import (
    Database,
    ImageReader,
    SqlReader,
    WatchedFile,
    check,
    damage,
    filled,
    freelist,
    pointer_map_of,
    replay,
    spans,
)


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
