"""Owners at an opening: found from interior nodes, whatever the database looks like."""

import random
import sqlite3
from collections import Counter
from contextlib import closing

import numpy as np
import pytest

from sqlstable import Canister
from sqlstable.canister.observation import StoreReader
from sqlstable.ic.words import WRITE
from sqlstable.trace.ownership.owners import OwnerMap
from tests.owner_world import (
    Database,
    ImageReader,
    SqlReader,
    check,
    damage,
    expected_in,
    filled,
)


def database_file(path, script, *, page_size=4096, auto_vacuum=0, encoding="UTF-8"):
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript(
            f"PRAGMA page_size = {page_size}; PRAGMA auto_vacuum = {auto_vacuum};"
            f"PRAGMA encoding = '{encoding}'; BEGIN; {script}; COMMIT"
        )
    return path


def listed(image):
    """Return a map of a database of which nothing was met."""
    owner_map = OwnerMap()
    reader = ImageReader(None, image)
    owner_map.refresh(reader)
    return owner_map, reader


def numbers_of(expected, role):
    return [number for number, owner in enumerate(expected, start=1) if owner.role == role]


def expected_uses(before, after, accesses):
    """Return how many SQLite pages of each owner were accessed; those of one OS page each."""
    inside = accesses.offset >= 0
    numbers = accesses.offset[inside] // 4096 + 1
    dirty = {*numbers[accesses.kind[inside] == WRITE].tolist()}
    counts = Counter()
    for number in {*numbers.tolist()}:
        owner = after[number - 1] if number <= len(after) else None
        if number not in dirty and (owner is None or owner.kind == "freelist"):
            owner = before[number - 1]
        counts[(owner.name, owner.role)] += 1
    return counts


def names_in(owner_map):
    indexes = owner_map.owner_indexes(np.arange(1, owner_map.sqlite_page_count + 1))
    return {owner_map.owners[index].name for index in indexes}


ROWS = (
    "CREATE TABLE t (id INTEGER PRIMARY KEY, x, y); CREATE INDEX t_y ON t (y);"
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000) "
    "INSERT INTO t SELECT i, i, printf('%0100d', i) || iif(i % 500, '', zeroblob(9000)) FROM n"
)


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    return database_file(tmp_path_factory.mktemp("large") / "app.db", ROWS)


def test_a_listing_reads_the_nodes_above_the_leaves(large):
    image = large.read_bytes()
    owner_map, reader = listed(image)
    assert owner_map.fault == ""
    expected = expected_in(image)
    above = sum(owner.role == "interior" for owner in expected)
    assert len(expected) > 1_000
    # Beside them SQLite page 1 and one leaf of each tree, to know how deep it is.
    assert above < len(reader.numbers_read) <= above + 8
    for number, owner in enumerate(expected, start=1):
        found = owner_map.owners[owner_map.owner_indexes([number]).item()]
        assert found == owner or (owner.role == "overflow" and found.name == "(unknown)")


@pytest.fixture
def sqlite_pages_read(monkeypatch):
    read = []
    for name in ("read_sqlite_page", "read_before"):
        original = getattr(StoreReader, name)

        def counted(self, number, original=original):
            read.append(number)
            return original(self, number)

        monkeypatch.setattr(StoreReader, name, counted)
    return read


@pytest.mark.parametrize("engine", ["native", "wasm"])
def test_an_upgrade_reads_as_little_of_a_large_database_as_of_a_small_one(
    engine, large, tmp_path, sqlite_pages_read
):
    reads = []
    for rows in (10, 20_000):
        script = ROWS.replace("20000", str(rows))
        path = large if rows == 20_000 else database_file(tmp_path / "small.db", script)
        with Canister(engine=engine, owners=True) as canister:
            canister.import_database(path)
            canister.query("SELECT x FROM t WHERE id = 7")
            sqlite_pages_read.clear()
            canister.upgrade()
            reads.append(len(sqlite_pages_read))
            canister.query("SELECT x FROM t WHERE id = 7")
            reads.append(len(sqlite_pages_read) - reads[-1])
    assert reads[0] == reads[2] <= 1
    assert max(reads[1], reads[3]) <= 2


@pytest.mark.parametrize("engine", ["native", "wasm"])
def test_an_opening_reads_the_nodes_above_the_leaves(engine, large, tmp_path, sqlite_pages_read):
    image = tmp_path / "app.stable"
    with Canister(image, engine=engine) as canister:
        canister.import_database(large)
    with Canister(image, engine=engine, owners=True):
        above = sum(owner.role == "interior" for owner in expected_in(large.read_bytes()))
        assert above < len(sqlite_pages_read) <= above + 12


@pytest.mark.parametrize("engine", ["native", "wasm"])
@pytest.mark.parametrize("auto_vacuum", [0, 1])
def test_overflow_that_a_first_message_frees_belongs_to_its_table(engine, auto_vacuum, tmp_path):
    """The leaf and the chain are read and freed in one message, and nothing was known of them."""
    path = database_file(
        tmp_path / "app.db",
        "CREATE TABLE t (id INTEGER PRIMARY KEY, x); CREATE TABLE u (k PRIMARY KEY) WITHOUT ROWID;"
        "INSERT INTO t VALUES (1, zeroblob(40000)), (2, zeroblob(30000)), (3, zeroblob(50000));"
        "INSERT INTO u VALUES (zeroblob(9000)), (randomblob(9001))",
        auto_vacuum=auto_vacuum,
    )
    with Canister(engine=engine, trace=":memory:") as canister:
        canister.import_database(path)
        images = [path.read_bytes()]
        for index, sql in enumerate(
            (
                "DELETE FROM t WHERE id = 2",
                "SELECT x FROM t WHERE id = 3",
                "UPDATE u SET k = zeroblob(8000) WHERE length(k) = 9001",
            )
        ):
            (canister.query if sql.startswith("SELECT") else canister.update)(sql)
            canister.extract_database(tmp_path / f"{index}.db")
            images.append((tmp_path / f"{index}.db").read_bytes())
        with canister.trace() as trace:
            uses = [statement.owners for statement in trace.statements]
            accesses = [trace.accesses(statement) for statement in trace.statements]
            met = [owner for owner in trace.owners if owner.role == "overflow"]
    for before, after, use, access in zip(images[:-1], images[1:], uses, accesses, strict=True):
        found = {
            (owner.name, owner.role): owner.os_pages_accessed
            for owner in use
            if owner.kind != "memory manager"
        }
        assert found == expected_uses(expected_in(before), expected_in(after), access)
    assert any(owner.role == "overflow" for owner in uses[0])
    # They have been so since the database was imported, not since they were met.
    assert {owner.since_message for owner in met if owner.name == "t"} == {1}


@pytest.mark.parametrize("engine", ["native", "wasm"])
def test_an_image_that_only_takes_queries_has_owners(engine, tmp_path):
    image = tmp_path / "app.stable"
    with Canister(image, engine=engine) as canister:
        canister.update("CREATE TABLE t (id INTEGER PRIMARY KEY, x)")
        canister.update("INSERT INTO t VALUES (1, zeroblob(30000)), (2, 'a')")
    with Canister(image, read_only=True, trace=":memory:", engine=engine) as canister:
        for _ in range(2):
            reply = canister.query("SELECT x FROM t WHERE id = 1", cache="fresh")
            owners = {(owner.name, owner.role) for owner in reply.statements[0].owners}
            assert ("t", "overflow") in owners
            assert not any(name == "(unknown)" for name, _ in owners)
        with canister.trace() as trace:
            assert ("t", "leaf") in {(run.name, run.role) for run in trace.owners}
            assert trace.owner_faults == ()


def test_a_chain_met_without_its_node_is_found_nevertheless(large):
    image = large.read_bytes()
    expected = expected_in(image)
    overflow = numbers_of(expected, "overflow")
    owner_map, reader = listed(image)
    changes = owner_map.meet(reader, [overflow[-1]])
    assert changes.numbers.tolist() == overflow
    assert not owner_map.may_meet


def test_pointer_maps_lead_from_a_chain_to_its_node():
    database = Database(page_size=512, auto_vacuum=1)
    database.sql("CREATE TABLE t (x)")
    for size in (30_000, 200, 40_000):
        database.sql("INSERT INTO t VALUES (zeroblob(?))", (size,))
    database.list()
    expected = expected_in(database.image)
    overflow = numbers_of(expected, "overflow")
    changes = database.map.meet(ImageReader(None, database.image), [overflow[40]])
    assert len(changes) < len(overflow) * 3 // 4
    assert database.map.may_meet
    check(database)


@pytest.mark.slow
@pytest.mark.parametrize("page_size", [512, 1024, 2048, 4096, 8192, 16_384, 32_768, 65_536])
@pytest.mark.parametrize("auto_vacuum", [0, 1, 2])
@pytest.mark.parametrize("encoding", ["UTF-8", "UTF-16le", "UTF-16be"])
def test_any_opening_reaches_what_dbstat_says(page_size, auto_vacuum, encoding, tmp_path):
    rng = random.Random(f"{page_size} {auto_vacuum} {encoding}")
    long_name = "ein Näme " * 30
    script = (
        f'CREATE TABLE "{long_name}" (id INTEGER PRIMARY KEY, x, y);'
        f'CREATE INDEX "i {long_name}" ON "{long_name}" (x);'
        "CREATE TABLE w (k, x, y, PRIMARY KEY (k, x)) WITHOUT ROWID;"
        "CREATE VIRTUAL TABLE f USING fts5 (body); CREATE VIRTUAL TABLE r USING rtree (id, a, b);"
        "CREATE TABLE gone (x);"
    )
    for table, columns in ((f'"{long_name}"', "id, x, y"), ("w", "k, x, y"), ("gone", "x")):
        for _ in range(3):
            first, size = rng.randrange(1 << 40), rng.choice((20, 300, 3_000, 70_000))
            count = max(3, min(2_000, 400_000 // size))
            values = {"x": f"randomblob(abs(random() % {size}) + 9)", "y": "i"}
            chosen = ", ".join(values.get(column, "i") for column in columns.split(", "))
            script += (
                f"WITH RECURSIVE n(i) AS (SELECT {first} UNION ALL SELECT i + 1 FROM n"
                f" WHERE i < {first + count}) INSERT INTO {table} ({columns})"
                f" SELECT {chosen} FROM n;"
            )
    script += "INSERT INTO f SELECT hex(x) FROM gone LIMIT 40; INSERT INTO r VALUES (1, 2, 3);"
    script += f"DROP TABLE gone; CREATE TABLE after{rng.randrange(9)} (x)"
    path = tmp_path / "app.db"
    database_file(path, script, page_size=page_size, auto_vacuum=auto_vacuum, encoding=encoding)
    image = path.read_bytes()
    owner_map, reader = listed(image)
    owner_map.complete(reader)
    assert owner_map.fault == ""
    indexes = owner_map.owner_indexes(np.arange(1, owner_map.sqlite_page_count + 1))
    assert [owner_map.owners[index] for index in indexes] == expected_in(image)


def test_names_that_begin_alike_for_longer_than_a_sqlite_page(tmp_path):
    name = "x" * 900
    script = "; ".join(
        f'CREATE TABLE "{name}{at}" (a); CREATE VIEW "{name}v{at}" AS SELECT 1' for at in range(4)
    )
    path = database_file(tmp_path / "app.db", script, page_size=512)
    owner_map, reader = listed(path.read_bytes())
    assert owner_map.fault == ""
    assert {f"{name}{at}" for at in range(4)} <= names_in(owner_map)
    owner_map.complete(reader)
    assert "(unknown)" not in names_in(owner_map)


# -- what is wrong with a database -----------------------------------------------------------------


def renamed(path, *pairs):
    image = path.read_bytes()
    for old, new in pairs:
        assert image.count(old) >= 1
        image = image.replace(old, new)
    path.write_bytes(image)
    return path


@pytest.mark.parametrize("engine", ["native", "wasm"])
def test_names_that_are_no_text_are_escaped_and_stay_apart(engine, tmp_path):
    path = database_file(
        tmp_path / "old.db",
        "CREATE TABLE plain (a); CREATE TABLE cafX (b); CREATE TABLE cafY (b);"
        r'CREATE TABLE "caf\xe9" (c); CREATE INDEX iX ON cafX (b)',
    )
    renamed(path, (b"cafX", b"caf\xe9"), (b"cafY", b"caf\xe8"), (b"iX", b"i\xfc"))
    owner_map, _ = listed(path.read_bytes())
    assert owner_map.fault == ""
    names = [r"caf\xe9", r"caf\xe8", r"i\xfc", "plain", "sqlite_schema"]
    others = names_in(owner_map) - {*names}
    assert len(others) == 1
    assert others.pop().startswith(r"caf\xe9")
    with Canister(engine=engine, trace=":memory:") as canister:
        canister.import_database(path)
        canister.update("INSERT INTO plain VALUES (1)")
        with canister.trace() as trace:
            assert "plain" in {owner.name for owner in trace.statements[-1].owners}
            assert {*names} <= {owner.name for owner in trace.owners}


def test_trees_that_share_a_root_are_nobodys_and_a_fault():
    database = filled(50)
    image = bytearray(database.image)
    roots = {owner: root for root, owner in database.map._state.roots.items()}
    t, u = (roots[database.map._trees[name, name, "table"]] for name in "tu")
    rows = database.connection.execute("SELECT name, rootpage FROM sqlite_schema").fetchall()
    assert dict(rows)["u"] == u
    database.sql("PRAGMA writable_schema = 1")
    database.sql("UPDATE sqlite_schema SET rootpage = ? WHERE name = 'u'", (t,))
    image = bytes(database.file.data)
    owner_map, _ = listed(image)
    assert "second owner" in owner_map.fault
    assert names_in(owner_map) & {"t", "u"} == set()
    assert {"t_x", "u_x", "sqlite_schema"} <= names_in(owner_map)
    database.image = image
    dirty = database.file.take_dirty(4096)
    database.map.update(ImageReader(database.connection, image), dirty)
    assert "second owner" in database.map.fault
    assert names_in(database.map) & {"t", "u"} == set()


@pytest.mark.slow
@pytest.mark.parametrize("auto_vacuum", [0, 1])
def test_damage_never_raises_and_never_reads_without_end(auto_vacuum):
    database = filled(60, page_size=512, auto_vacuum=auto_vacuum)
    database.sql("INSERT INTO t VALUES (5000, 1, zeroblob(20000))")
    sound = bytes(database.file.data)
    count = len(sound) // 512
    rng = random.Random(f"openings {auto_vacuum}")
    faults = 0
    for _ in range(400):
        image = bytearray(sound)
        for number in rng.sample(range(1, count + 1), rng.randint(1, 4)):
            damage(image, rng, number)
        owner_map, reader = listed(bytes(image))
        assert len(reader.numbers_read) <= 3 * count + 2
        assert owner_map.sqlite_page_count <= count
        for _ in range(5):
            reader = ImageReader(None, bytes(image))
            owner_map.meet(reader, rng.sample(range(1, count + 1), 5))
            assert len(reader.numbers_read) <= 3 * count + 2
        owner_map.complete(ImageReader(None, bytes(image)))
        owner_map.update(SqlReader(bytes(image)), rng.sample(range(1, count + 9), 4))
        faults += owner_map.fault != ""
    assert faults > 100


def test_a_leaf_where_none_can_be_is_a_fault_when_it_is_met(large):
    image = bytearray(large.read_bytes())
    expected = expected_in(bytes(image))
    interior = numbers_of(expected, "interior")[0]
    leaf = next(n for n in numbers_of(expected, "leaf") if expected[n - 1].name == "t" and n > 9)
    image[(leaf - 1) * 4096 : leaf * 4096] = image[(interior - 1) * 4096 : interior * 4096]
    owner_map, reader = listed(bytes(image))
    assert owner_map.fault == ""
    owner_map.meet(reader, [leaf])
    assert "depth" in owner_map.fault


def test_peeking_at_what_was_before_records_and_changes_nothing(tmp_path):
    path = database_file(tmp_path / "app.db", ROWS.replace("20000", "3000"))
    images, counts = [], []
    for owners in (False, True):
        with Canister(owners=owners) as canister:
            canister.import_database(path)
            replies = [
                canister.update("DELETE FROM t WHERE id % 500 = 0"),
                canister.update("INSERT INTO t (x, y) VALUES (1, zeroblob(30000))"),
                canister.query("SELECT sum(length(y)) FROM t"),
            ]
            counts.append([reply.message.stable for reply in replies])
            images.append(canister.image())
    assert images[0] == images[1]
    assert counts[0] == counts[1]
