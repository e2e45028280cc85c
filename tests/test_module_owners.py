"""Owners in a memory of which nothing is known beforehand, against those who know."""

import gzip
import random
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from sqlstable import Canister
from sqlstable.errors import Trap
from sqlstable.ic.accesses import FewAccesses, TakenAccesses
from sqlstable.ic.words import READ, RUN, WRITE
from sqlstable.layout.layout import Peek
from sqlstable.layout.stable_btree import StableBTree, role_of_chunk
from sqlstable.memory.stable import StableMemory
from sqlstable.module.module_owners import ModuleOwners
from sqlstable.module.owners_geography import MANAGER_PLACE, NOBODY, Geography
from sqlstable.trace.recording.few import FewMeter
from sqlstable.trace.recording.many import ManyMeter
from tests.witness_btree import walked

VECTORS = Path(__file__).parent / "vectors"
BUCKET = 8 * 1024 * 1024


def vector(name):
    return gzip.decompress((VECTORS / f"{name}.bin.gz").read_bytes())


def taken(rows, *, as_few):
    """Return accesses as a machine hands them on."""
    rows = [(kind, address, length, -1) for kind, address, length in rows]

    def chunks(start, stop):
        yield from FewAccesses(rows[start:stop])

    return TakenAccesses(len(rows), chunks, (lambda: rows) if as_few else None)


def uses_of(owners, accesses, *, is_kept=True, kind="update"):
    """Return whose OS pages accesses touch, as attribution finds it."""
    owners.before_end(kind, accesses)
    owners.after_end(is_kept=is_kept)
    few = accesses.few()
    meter = ManyMeter(accesses) if few is None else FewMeter(few)
    return meter.owners(((0, len(accesses), RUN),), owners.places())


def named(uses):
    """Return counts by name, table, kind and role."""
    return {
        (it.name, it.table, it.kind, it.role): (it.os_pages_accessed, it.os_pages_dirty)
        for it in uses
    }


# -- SQLite, against the owners of a canister of our own ------------------------------------------


class Pair:
    """A canister of our own, with owners that know nothing of it."""

    def __init__(self, **options):
        self.canister = Canister(trace=":memory:", **options)
        self.owners = ModuleOwners(self.canister.memory)
        observation = self.canister._life.observation
        self._inner, observation.look = observation.look, self._look

    def _look(self, accesses, is_kept):
        self._accesses, self._is_kept = accesses, is_kept
        self.owners.before_end(self._kind, accesses)
        self._inner(accesses, is_kept)

    def run(self, kind, sql):
        """Run one statement; returns what both say of it."""
        self._kind = kind
        with suppress(Trap):
            getattr(self.canister, kind)(sql)
        self.owners.after_end(is_kept=self._is_kept)
        few = self._accesses.few()
        meter = ManyMeter(self._accesses) if few is None else FewMeter(few)
        found = meter.owners(((0, len(self._accesses), RUN),), self.owners.places())
        with self.canister.trace() as trace:
            [index] = trace.messages[-1].statements
            return named(trace.statements[index].owners), named(found)


STEPS = (
    ("update", "CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT, b BLOB)"),
    ("update", "CREATE INDEX ta ON t(a)"),
    ("update", "INSERT INTO t(a, b) VALUES ('one', zeroblob(20000))"),
    ("query", "SELECT sum(length(b)) FROM t"),
)
ROWS = (
    "WITH RECURSIVE s(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM s WHERE x < {rows}) "
    "INSERT INTO t(a, b) SELECT hex(randomblob(20)), zeroblob({size}) FROM s"
)


def steps(seed, count):
    chance = random.Random(seed)
    yield from STEPS
    for index in range(count):
        rows, size = chance.choice([1, 10, 60]), chance.choice([10, 100, 9000])
        yield chance.choice(
            [
                ("update", ROWS.format(rows=rows, size=size)),
                ("update", ROWS.format(rows=rows, size=size)),
                ("query", "SELECT count(*), max(a) FROM t"),
                ("query", "DELETE FROM t WHERE id % 3 = 0"),
                ("update", f"DELETE FROM t WHERE id % {chance.choice([2, 7])} = 0"),
                ("update", f"CREATE TABLE u{index} (x)"),
                ("update", "VACUUM"),
            ]
        )


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"layout": "raw"},
        {"layout": "froghub"},
        {"layout": "ic-sqlite-vfs"},
        {"page_size": 512},
        {"page_size": 65_536},
        {"engine": "wasm"},
    ],
    ids=lambda it: "-".join(map(str, it.values())) or "managed",
)
def test_a_database_found_has_the_owners_of_one_that_was_known(options):
    pair = Pair(**options)
    with pair.canister:
        for kind, sql in steps(7, 24):
            known, found = pair.run(kind, sql)
            assert found == known, sql
        assert pair.owners.fault == ""


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_a_database_found_has_the_owners_of_one_that_was_known_for_long(seed):
    pair = Pair(page_size=random.Random(seed).choice([512, 1024, 4096, 16_384]))
    with pair.canister:
        for kind, sql in steps(seed, 120):
            known, found = pair.run(kind, sql)
            assert found == known, sql


# -- stable B-trees, against a walk from the root ------------------------------------------------

TREES = (
    "btreemap_v2_u64_u64.a_100_inserts",
    "btreemap_v2_u64_u64.b_after_removes",
    "btreemap_v2_u64_u64.e_cleared",
    "btreemap_v2_u64_u64.f_15_after_clear",
    "btreemap_v2_blob_unbounded.a_200_inserts",
    "btreemap_v2_blob_unbounded.c_removes",
    "btreemap_v2_blob_unbounded.d_40_inserts_30_pops",
    "btreemap_v1_u64_blob12.b_100_removes",
    "btreemap_v1_migrated_u64_blob12.c_40_inserts",
    "btreeset_u32.b_300_removes",
)


@pytest.mark.parametrize("name", TREES)
def test_what_a_chunk_is_agrees_with_a_walk_from_the_root(name):
    data = vector(name)
    tree = StableBTree.decode(data[:100])
    found = {}
    for unit in range(2, tree.unit_of(len(data) - 1) + 1):
        start, _ = tree.span_of(unit)
        role = role_of_chunk(data[start : start + 21])
        if role != "free":
            found[start] = role
    reached = walked(data)
    assert {start: found.get(start) for start in reached} == reached
    if "clear" not in name:
        # Behind a clear, old chunks that nobody reaches keep what they were.
        assert found == reached


def test_accesses_to_a_tree_belong_to_its_nodes():
    data = vector("btreemap_v2_blob_unbounded.a_200_inserts")
    roles = walked(data)
    memory = StableMemory.from_image(data, limits=None)
    rows = [(READ, 0, 28), (READ, 60, 4), *((READ, start + 16, 100) for start in roles)]
    few, many = (uses_of(ModuleOwners(memory), taken(rows[:90], as_few=it)) for it in (True, False))
    assert few == many
    uses = uses_of(ModuleOwners(memory), taken(rows, as_few=False))
    assert {it.kind for it in uses} == {"stable B-tree"}
    assert {it.role for it in uses} == {"header", "allocator header", *roles.values()}
    assert {it.name for it in uses} == {"stable memory"}


# -- memory managers -----------------------------------------------------------------------------

KINDS = {
    0: "stable B-tree",
    1: "stable log index",
    2: "stable log data",
    3: "stable cell",
    4: "stable vec",
    5: "stable min-heap",
    6: "stable B-tree",
}


@pytest.mark.parametrize("base", [0, 65_536])
@pytest.mark.parametrize("as_few", [True, False])
def test_virtual_memories_are_told_by_id_and_by_what_they_hold(base, as_few):
    data = vector("canister_image")
    memory = StableMemory.from_image(b"IIC".ljust(base, b"\0") * bool(base) + data, limits=None)
    starts = {index: base + 65_536 + index * BUCKET for index in KINDS}
    rows = [(WRITE, base, 40), *((READ, start, 4) for start in starts.values())]
    owners = ModuleOwners(memory)
    uses = uses_of(owners, taken(rows, as_few=as_few))
    assert {it.kind for it in uses} == {"memory manager", *KINDS.values()}
    for index, kind in KINDS.items():
        assert (f"memory {index}", kind, "header") in {(it.name, it.kind, it.role) for it in uses}
    if base:
        [front] = uses_of(owners, taken([(READ, 10, 4)], as_few=as_few))
        assert (front.name, front.os_pages_accessed) == ("(before the manager)", 1)
    areas = owners.areas(0)
    assert [it.memory_id for it in areas] == [*KINDS, None]
    assert sum(it.allocated_bytes for it in areas) == len(data)
    assert {it.memory_id: it.kind for it in areas} == {**KINDS, None: "memory manager"}


def test_a_database_in_a_virtual_memory_that_is_not_in_one_piece_has_its_tables():
    memory = StableMemory.from_image(vector("memory_manager_sqlite_in_memory_120"), limits=None)
    geography = Geography.of(Peek.at(memory))
    place = geography.map_of(120)
    rows = [(READ, place.address(page * 4096), 4096) for page in range(61)]
    found = named(uses_of(ModuleOwners(memory), taken(rows, as_few=True), kind="query"))
    names = {name for name, _, _, _ in found}
    assert sum(accessed for accessed, _ in found.values()) == 61
    assert "sqlite_schema" in names
    assert "(unknown)" not in names


def test_places_of_many_addresses_are_those_of_each():
    memory = StableMemory.from_image(vector("memory_manager_interleaved_bucket1"), limits=None)
    geography = Geography.of(Peek.at(memory))
    addresses = np.arange(0, memory.wasm_pages * 65_536 + 200_000, 9_999)
    places, offsets = geography.locate_many(addresses)
    each = [geography.locate(it) for it in addresses.tolist()]
    assert [*zip(places.tolist(), offsets.tolist(), strict=True)] == each
    assert {MANAGER_PLACE, NOBODY, 0, 7, 254} >= set(places.tolist()) > {MANAGER_PLACE, NOBODY}


# -- what it costs -------------------------------------------------------------------------------


class Peeked:
    """A stable memory that counts the bytes that are looked at."""

    def __init__(self, memory):
        self._memory = memory
        self.bytes = 0

    def peek(self, offset, length):
        """Look, and count."""
        self.bytes += length
        return self._memory.peek(offset, length)

    def peek_before(self, offset, length):
        """Look likewise."""
        self.bytes += length
        return self._memory.peek_before(offset, length)

    def __getattr__(self, name):
        return getattr(self._memory, name)


@pytest.mark.parametrize("rows", [100, 20_000])
def test_a_message_costs_what_it_touched_however_large_the_database_is(rows):
    pair = Pair()
    with pair.canister:
        pair.owners._memory = peeked = Peeked(pair.canister.memory)
        pair.run("update", STEPS[0][1])
        pair.run("update", ROWS.format(rows=rows, size=100))
        pair.run("query", "SELECT a FROM t WHERE id = 50")
        peeked.bytes = 0
        pair.run("query", "SELECT a FROM t WHERE id = 51")
        pair.run("update", "UPDATE t SET a = 'x' WHERE id = 52")
        # A leaf, what stands above it, the header, and no more.
        assert peeked.bytes <= 10 * 4096


def test_an_access_to_a_large_tree_looks_at_its_node_alone():
    data = vector("btreemap_v2_blob_unbounded.a_200_inserts")
    peeked = Peeked(StableMemory.from_image(data, limits=None))
    owners = ModuleOwners(peeked)
    leaf = next(start for start, role in walked(data).items() if role == "leaf")
    uses_of(owners, taken([(READ, leaf + 16, 100)], as_few=True))
    peeked.bytes = 0
    uses_of(owners, taken([(READ, leaf + 16, 100)], as_few=True))
    assert peeked.bytes <= 64


# -- what is told of it --------------------------------------------------------------------------


def test_only_what_is_new_is_told():
    data = vector("btreemap_v2_u64_u64.a_100_inserts")
    memory = StableMemory.from_image(data, limits=None)
    owners = ModuleOwners(memory)
    rows = [(READ, start + 16, 10) for start in walked(data)]
    uses_of(owners, taken(rows, as_few=True))
    first = owners.take_news()
    assert first
    uses_of(owners, taken(rows, as_few=True))
    assert owners.take_news() == []


def test_without_anything_known_ranges_own():
    memory = StableMemory(limits=None)
    memory.grow(64)
    rows = [(WRITE, 10, 4), (READ, (1 << 20) - 10, 20)]
    found = named(uses_of(ModuleOwners(memory), taken(rows, as_few=True)))
    assert {name: counts for (name, *_), counts in found.items()} == {
        "0-1 MiB": (2, 1),
        "1-2 MiB": (1, 0),
    }


@pytest.mark.parametrize("seed", range(30))
def test_damage_makes_owners_unknown_and_nothing_else(seed):
    chance = random.Random(seed)
    name = chance.choice(["canister_image", "memory_manager_sqlite_in_memory_120", *TREES])
    data = bytearray(vector(name)[: 12 * 65_536])
    for _ in range(chance.choice([1, 20, 400])):
        data[chance.randrange(chance.choice([64, 4096, len(data)]))] = chance.randrange(256)
    memory = StableMemory.from_image(bytes(data), limits=None)
    size = memory.wasm_pages * 65_536
    rows = [
        (chance.choice([READ, WRITE]), chance.randrange(size - 9000), chance.randrange(9000))
        for _ in range(60)
    ]
    owners = ModuleOwners(memory)
    for as_few in (True, False):
        accesses = taken(rows, as_few=as_few)
        assert sum(it.os_pages_accessed for it in uses_of(owners, accesses)) > 0
    owners.areas(1)
