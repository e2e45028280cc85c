"""Owners: an update reaches what dbstat says, and reads little."""

import random
from contextlib import suppress

import apsw
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sqlstable.trace.model import Owner
from sqlstable.trace.ownership import owner_update
from sqlstable.trace.ownership import owners as owners_module
from sqlstable.trace.ownership.owners import OwnerMap
from tests.owner_world import (
    Database,
    ImageReader,
    check,
    expected_in,
    expected_owners,
    fill,
    filled,
    replay,
)

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
