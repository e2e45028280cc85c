"""Rules 2 and 3: every stable byte moved is accounted for, and counts have a witness."""

from contextlib import closing
from functools import partial

import apsw
import pytest

import sqlstable
from sqlstable import Canister, StableMemory, Trap
from sqlstable.canister.machine import open_vfs
from sqlstable.canister.native_machine import NativeMachine
from sqlstable.database.stablefile import StableHandle
from sqlstable.ic.units import OS_PAGE_BYTES
from sqlstable.ic.words import PHASES, WRITE
from tests.doors import memory_with_buckets_apart, series
from tests.rules_world import FILL, LAYOUTS, SCHEMA, address_of, update_and_trap

PAGE_SIZES = (512, 1024, 2048, 4096, 8192, 16_384, 32_768, 65_536)


# -- rule 2: every stable byte moved is accounted for ---------------------------------------------


class CountedMemory(StableMemory):
    """Counts the calls that are made on it as a whole: those of the memory manager."""

    def __init__(self):
        super().__init__()
        self.witness = Witness()

    def size(self):
        self.witness.count(self, "size", 0)
        return super().size()

    def grow(self, wasm_pages, **options):
        self.witness.count(self, "grow", 0)
        return super().grow(wasm_pages, **options)

    def read(self, offset, length):
        self.witness.count(self, "read", length)
        return super().read(offset, length)

    def write(self, offset, data):
        self.witness.count(self, "write", len(data))
        super().write(offset, data)


class Witness:
    """What SQLite and the memory manager asked for, and what the bytemap knew, by message."""

    def __init__(self):
        self.messages = []
        self.start()

    def start(self):
        self.calls = dict.fromkeys(("read", "write", "size", "grow"), 0)
        self.bytes = dict.fromkeys(("read", "write", "size", "grow"), 0)

    def count(self, memory, call, length):
        if memory.kind is not None and memory.trap is None:
            self.calls[call] += 1
            self.bytes[call] += length

    def end_message(self, bytemap):
        os_pages = (sorted(bytemap.accessed), sorted(bytemap.dirty))
        self.messages.append((self.calls, self.bytes, *os_pages))
        self.start()


class WitnessedFile:
    """Stands between SQLite and its file, and counts what moves."""

    def __init__(self, file, memory):
        self._file = file
        self._memory = memory

    def __getattr__(self, name):
        return getattr(self._file, name)

    def xRead(self, amount, offset):
        data = self._file.xRead(amount, offset)
        is_header_probe = (amount, offset) == (16, 24)
        if len(data) and not is_header_probe:
            self._memory.witness.count(self._memory, "read", len(data))
        return data

    def xWrite(self, data, offset):
        self._file.xWrite(data, offset)
        self._memory.witness.count(self._memory, "write", len(data))


class WitnessedJournal:
    """The same for a journal or log; a bucket's border cuts an access in two."""

    def __init__(self, handle, file, vfs):
        self._handle = handle
        self._file = file
        self._vfs = vfs

    def __getattr__(self, name):
        return getattr(self._handle, name)

    def count(self, kind, offset, length):
        if self._vfs.cabinet.messages.is_unrecorded:
            return
        memory = self._vfs.memory
        for _, count in self._file.placement.map.pieces(offset, length):
            memory.witness.count(memory, kind, count)

    def xRead(self, amount, offset):
        data = self._handle.xRead(amount, offset)
        self.count("read", offset, len(data))
        return data

    def xWrite(self, data, offset):
        self._handle.xWrite(data, offset)
        self.count("write", offset, len(data))

    def xTruncate(self, size):
        existed = self._file.exists
        self._handle.xTruncate(size)
        if existed and not self._file.exists:
            # The header is overwritten, whose length the file formats tell.
            self.count("write", 0, 28)


class WitnessedVFS(sqlstable.StableVFS):
    """Gives SQLite files that count."""

    def xOpen(self, name, flags):
        file = super().xOpen(name, flags)
        if file in self.store.files:
            return WitnessedFile(file, self.memory)
        if type(file) is StableHandle:
            return WitnessedJournal(file, self.cabinet.stable_file(name), self)
        return file

    def xDelete(self, filename, syncdir):
        existed = self.xAccess(filename, 0)
        super().xDelete(filename, syncdir)
        if existed and not self.xAccess(filename, 0):
            header_bytes = 28 if filename.endswith("-journal") else 32
            self.memory.witness.count(self.memory, "write", header_bytes)


class WitnessMachine:
    """A machine that does what another one does, and counts beside it."""

    def __init__(self, memory):
        self._machine = NativeMachine(
            memory, depth="counters", make_vfs=partial(open_vfs, kind=WitnessedVFS)
        )

    def __getattr__(self, name):
        return getattr(self._machine, name)

    def end(self, call, look):
        self.memory.witness.end_message(self.memory.bytemap)
        return self._machine.end(call, look)


@pytest.fixture
def witnessed():
    """Makes canisters with a witness; gives canister, its witness and its connections."""
    made = []

    def make(**options):
        memory = CountedMemory()
        canister = Canister(memory=memory, machine=WitnessMachine, trace=":memory:", **options)
        made.append(canister)
        return canister, memory.witness

    yield make
    for canister in made:
        canister.close()


def mixed_messages(canister, connections):
    """Everything that moves bytes, in messages of many kinds."""
    update = connections[0]
    for sql in SCHEMA:
        canister.update(sql)
    canister.update(FILL)
    with canister.message("update") as message:
        message.executemany(
            "INSERT INTO item VALUES (?, ?, ?)",
            [(i, f"many {i}", "y" * i) for i in range(200, 260)],
        )
        with (
            closing(message.cursor("SELECT * FROM item")) as one,
            closing(message.cursor("SELECT name FROM item ORDER BY name")) as other,
        ):
            for _ in range(30):
                next(one)
                next(other)
            message.execute("UPDATE item SET body = 'changed' WHERE id = 7")
            assert len([*one]) == 90
        with pytest.raises(sqlstable.SqlError, match="no such table"):
            message.execute("SELECT * FROM missing")
        message.execute("EXPLAIN SELECT * FROM item")
        message.execute("EXPLAIN QUERY PLAN SELECT * FROM item")
        message.execute("INSERT INTO note SELECT body FROM item; DELETE FROM note WHERE rowid < 9")
        message.execute("BEGIN; DELETE FROM item WHERE id % 2; SAVEPOINT s; DELETE FROM item")
        message.execute("ROLLBACK TO s; COMMIT")
        with (
            message.window("blob"),
            update.blob_open("main", "item", "body", 8, writeable=True) as blob,
        ):
            blob.write(b"blob")
        update.execute("UPDATE log SET what = 'behind our back'").fetchall()
    canister.query("SELECT body FROM note WHERE note MATCH 'x*' ORDER BY rank LIMIT 3")
    canister.query("UPDATE item SET name = 'in vain'", cache="fresh")
    canister.query("SELECT count(*) FROM item, log", cache="warm")
    canister.update("PRAGMA incremental_vacuum; VACUUM; ANALYZE; REINDEX")
    with pytest.raises(Trap, match="all done"):
        update_and_trap(canister, "INSERT INTO item SELECT id + 9000, name, body FROM item")
    canister.upgrade()
    canister.update("INSERT INTO item VALUES (7000, 'after', printf('%.*c', 200000, 'z'))")
    canister.update("DROP TABLE note; CREATE TABLE other AS SELECT * FROM item")
    canister.query("PRAGMA integrity_check")
    canister.update("PRAGMA page_size = 2048; VACUUM")
    canister.update("INSERT INTO other SELECT * FROM item")
    canister.query("SELECT * FROM other")


@pytest.mark.parametrize(
    ("layout", "page_size"),
    [
        ("managed", 4096),
        ("raw", 512),
        ("managed", 65_536),
        ("raw", 8192),
        ("froghub", 4096),
        ("froghub", 512),
        ("ic-sqlite-vfs", None),
    ],
)
@pytest.mark.parametrize("cache_size", [5, 500])
def test_rule_2_every_stable_byte_moved_is_accounted_for(witnessed, layout, page_size, cache_size):
    check_that_all_is_accounted_for(
        *witnessed(layout=layout, page_size=page_size, cache_size=cache_size, bucket_pages=1)
    )


@pytest.mark.parametrize("journal", ["delete", "truncate", "persist"])
@pytest.mark.parametrize("page_size", [512, 4096, 65_536])
def test_rule_2_holds_with_a_journal_in_stable_memory_too(witnessed, journal, page_size):
    check_that_all_is_accounted_for(
        *witnessed(journal_mode=journal, page_size=page_size, cache_size=5, bucket_pages=1)
    )


def check_that_all_is_accounted_for(canister, witness):
    connections = []
    canister.on_connect(connections.append)
    mixed_messages(canister, connections)
    with closing(canister.trace()) as trace:
        assert len(trace.messages) == len(witness.messages)
        for message, (calls, moved, accessed, dirty) in zip(
            trace.messages, witness.messages, strict=True
        ):
            # What SQLite and the memory manager asked for, and what the memory marked.
            stable = message.stable
            assert calls == {name: getattr(stable.calls, name) for name in calls}
            assert (stable.bytes_read, stable.bytes_written) == (moved["read"], moved["write"])
            assert (stable.os_pages_accessed, stable.os_pages_dirty) == (len(accessed), len(dirty))
            check_parts_make_the_whole(trace, message, accessed, dirty)
        names = {use.name for message in trace.messages for use in message.outside}
        assert names == {"open", "blob", "prepare error", "message"} & names
        assert {"open", "blob", "message"} <= names


def check_parts_make_the_whole(trace, message, accessed, dirty):
    statements = [trace.statements[index] for index in message.statements]
    uses = [statement.phases[phase] for statement in statements for phase in PHASES]
    uses += [use.stable for use in message.outside]
    for name in ("read", "write", "size", "grow"):
        parts = sum(getattr(use.calls, name) for use in uses)
        assert parts == getattr(message.stable.calls, name)
    assert sum(use.bytes_read for use in uses) == message.stable.bytes_read
    assert sum(use.bytes_written for use in uses) == message.stable.bytes_written
    pieces = [trace.accesses(statement) for statement in statements]
    pieces += [piece for _, piece in trace.outside_accesses(message)]
    assert os_pages_of(pieces, writes_only=False) == accessed
    assert os_pages_of(pieces, writes_only=True) == dirty


def os_pages_of(pieces, *, writes_only):
    found = set()
    for piece in pieces:
        columns = (piece.kind.tolist(), piece.address.tolist(), piece.length.tolist())
        for kind, address, length in zip(*columns, strict=True):
            if length and kind <= WRITE and (kind == WRITE or not writes_only):
                found |= os_pages(address, length)
    return sorted(found)


def os_pages(address, length):
    return {*range(address // OS_PAGE_BYTES, (address + length - 1) // OS_PAGE_BYTES + 1)}


# -- rule 3: counts have an independent witness ---------------------------------------------------


def dbstat_os_pages(canister, layout, name, path):
    """OS pages under SQLite page 1 and under the rows of plain SQLite's dbstat."""
    image = canister.image()
    canister.extract_database(path, overwrite=True)
    with closing(apsw.Connection(str(path))) as plain:
        sql = "SELECT pgoffset, pgsize FROM dbstat WHERE name = ?"
        spans = plain.execute(sql, (name,)).fetchall()
    found = os_pages(address_of(image, layout, 0), spans[0][1])
    for offset, length in spans:
        found |= os_pages(address_of(image, layout, offset), length)
    return sorted(found), len(spans)


@pytest.mark.parametrize("page_size", PAGE_SIZES)
@pytest.mark.parametrize("layout", [*LAYOUTS, "apart"])
def test_rule_3_a_cold_scan_accesses_what_dbstat_lists_and_sqlite_page_1(
    page_size, layout, tmp_path
):
    memory = memory_with_buckets_apart() if layout == "apart" else None
    layout = "raw" if layout == "raw" else "managed"
    canister = Canister(layout=layout, page_size=page_size, bucket_pages=2, memory=memory)
    canister.update("CREATE TABLE before (x)")
    canister.update("CREATE TABLE wide (id INTEGER PRIMARY KEY, name TEXT, body TEXT)")
    canister.update("CREATE TABLE pair (a, b, PRIMARY KEY (a, b)) WITHOUT ROWID")
    canister.update("CREATE INDEX wide_name ON wide (name, id)")
    canister.update(f"INSERT INTO before SELECT hex(zeroblob(300)) FROM {series(100)}")
    canister.update(
        "INSERT INTO wide SELECT i, hex(zeroblob(90)) || i, hex(zeroblob(i * i * 3)) "
        f"FROM {series(100)}"
    )
    canister.update(f"INSERT INTO pair SELECT i % 10, hex(zeroblob(i)) FROM {series(100)}")
    canister.update("DELETE FROM before WHERE rowid % 2")
    for name, sql, least in (
        ("wide", "SELECT * FROM wide", 30),
        ("before", "SELECT * FROM before", 1),
        ("pair", "SELECT * FROM pair", 1),
        ("wide_name", "SELECT name, id FROM wide INDEXED BY wide_name ORDER BY name", 1),
    ):
        expected, sqlite_pages = dbstat_os_pages(canister, layout, name, tmp_path / "plain.db")
        footprint = canister.query(sql).footprint
        assert footprint.accessed.tolist() == expected
        assert footprint.os_pages_dirty == 0
        assert footprint.calls.read == sqlite_pages + 1
        assert footprint.bytes_read == (sqlite_pages + 1) * page_size
        assert sqlite_pages >= least
    canister.close()
