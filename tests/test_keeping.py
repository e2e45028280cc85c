"""A database in the heap is kept over an upgrade, whole and streamed, or the upgrade is undone."""

import sqlite3
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sqlstable.errors import LimitTrap, Trap
from sqlstable.workload.upgrading.strategies import (
    KEPT_OFFSET,
    STAY,
    STRATEGIES,
    STREAMED,
    WHOLE,
    kept_database,
    kept_sum,
)
from tests.kept_world import (
    SCHEMA_COOKIE,
    SERIALISING,
    WRITERS,
    canister,
    dump_sum,
    made,
    rows,
    state,
    table,
    without,
)

each_way = pytest.mark.parametrize("strategy", SERIALISING, ids=lambda it: it.name)
SIZES = st.sampled_from([512, 1024, 4096, 16_384, 65_536])
ENCODINGS = st.sampled_from(["UTF-8", "UTF-16le", "UTF-16be"])
VALUES = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40),
    st.binary(max_size=60),
    st.integers(0, 40_000).map(bytes),
)
TABLE = (
    "CREATE TABLE a (id INTEGER PRIMARY KEY, x, y)",
    "CREATE TABLE b (x, y, z, PRIMARY KEY (x, y, z)) WITHOUT ROWID",
)


@st.composite
def databases(draw):
    """A database of any kind, and the bytes of its SQLite pages."""
    size = draw(SIZES)
    contents = draw(st.lists(st.tuples(VALUES, VALUES), max_size=12))
    statements = [(sql,) for sql in TABLE] if draw(st.booleans()) or contents else []
    for number, (x, y) in enumerate(contents):
        statements.append(("INSERT INTO a (x, y) VALUES (?, ?)", (x, y)))
        statements.append(("INSERT INTO b VALUES (?, ?, ?)", (number, repr(x), repr(y)[:200])))
    if contents:
        statements.append(("CREATE INDEX c ON a (x, y)",))
        statements.append((f"DELETE FROM a WHERE id % {draw(st.integers(1, 3))} = 1",))
    return (
        made(
            statements,
            page_size=size,
            encoding=draw(ENCODINGS),
            auto_vacuum=draw(st.integers(0, 2)),
        ),
        size,
    )


@pytest.mark.slow
@each_way
@given(made_one=databases())
@settings(max_examples=40, deadline=None)
def test_what_was_kept_is_read_back_equal(strategy, made_one):
    database, size = made_one
    with canister(strategy, database, page_size=size) as one:
        for _ in range(2):
            one.upgrade()
            kept = kept_database(one.stable())
            if not database:
                continue
            same = (WRITERS, SCHEMA_COOKIE) if strategy is STREAMED else ()
            assert without(kept, *same) == without(database, *same)
            assert dump_sum(kept) == dump_sum(database)


@each_way
def test_an_empty_database_is_kept(strategy):
    with canister(strategy) as one:
        one.upgrade()
        one.upgrade()
        assert rows(one, "SELECT count(*) FROM sqlite_master") == [(0,)]


@each_way
def test_work_goes_on_behind_an_upgrade(strategy):
    oracle = sqlite3.connect(":memory:", isolation_level=None)
    oracle.deserialize(table(2000))
    with canister(strategy, table(2000)) as one:
        for number in range(4):
            for sql in (
                f"UPDATE item SET note = note || hex(zeroblob({number * 700})) WHERE owner = 3",
                f"DELETE FROM item WHERE id % 9 = {number}",
                "INSERT INTO item (owner, note) SELECT id, note FROM item WHERE id % 7 = 2",
                "VACUUM" if number == 2 else "REINDEX",
            ):
                one.update(sql)
                oracle.execute(sql)
            one.upgrade()
            everything = "SELECT * FROM item ORDER BY id"
            assert rows(one, everything) == oracle.execute(everything).fetchall()
            assert rows(one, "PRAGMA integrity_check") == [("ok",)]


def test_both_ways_keep_the_same_bytes_and_each_reads_the_others():
    database = table(500)
    with canister(WHOLE, database) as whole, canister(STREAMED, database) as streamed:
        whole.upgrade()
        streamed.upgrade()
        same = WRITERS, SCHEMA_COOKIE
        kept = [kept_database(one.stable()) for one in (whole, streamed)]
        assert without(kept[0], *same) == without(kept[1], *same)
        for one in (whole, streamed):
            image = one.stable()
            found = struct.unpack_from("<8sIIQQ", image)
            assert found[:4] == (b"SQLKEPT\0", 1, 4096, len(database))
            assert found[4] == kept_sum(kept_database(image), 4096)


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda it: it.name)
def test_every_strategy_answers_alike_before_and_behind_an_upgrade(strategy):
    asked = "SELECT owner, count(*), max(note) FROM item GROUP BY owner ORDER BY owner"
    connection = sqlite3.connect(":memory:")
    connection.deserialize(table(300))
    expected = connection.execute(asked).fetchall()
    with canister(strategy, table(300)) as one:
        assert rows(one, asked) == expected
        one.upgrade()
        assert rows(one, asked) == expected


def test_staying_costs_the_same_whatever_the_size_is():
    costs = set()
    for count in (1, 2000):
        with canister(STAY, table(count)) as one:
            costs.add(tuple(part.instructions for part in one.upgrade()))
    assert len(costs) == 1


@each_way
def test_each_part_pays_for_its_own_pages(strategy):
    database = table(2000)
    with canister(strategy, database) as one:
        before, behind = one.upgrade()
        os_pages = len(database) // 4096 + 1
        assert (before.os_pages_accessed, before.os_pages_dirty) == (os_pages, os_pages)
        assert (behind.os_pages_accessed, behind.os_pages_dirty) == (os_pages, 0)
        regions = len(database) // 65_536 + 2
        moved = len(database) + 32
        assert behind.stable >= regions * 80_000 + moved
        # Not twice: SQLite looks at the header again, and at nothing else.
        assert behind.stable < regions * 80_000 + moved + 20 * os_pages + 10_000


@pytest.mark.slow
def test_there_is_no_second_copy_of_a_streamed_database():
    database = table(60_000)
    with canister(WHOLE, database) as whole, canister(STREAMED, database) as streamed:
        whole.upgrade()
        streamed.upgrade()
        assert whole.heap_bytes_max > 2 * len(database)
        assert streamed.heap_bytes_max < 1.07 * len(database) + 2 * 2**20


@each_way
def test_an_open_transaction_is_refused_and_stays_open(strategy):
    with canister(strategy, table(10)) as one:
        one.update("BEGIN; DELETE FROM item")
        before = state(one)
        with pytest.raises(Trap, match=r"a transaction is open.*COMMIT"):
            one.upgrade()
        assert state(one) == before
        one.update("ROLLBACK")
        one.upgrade()
        assert rows(one, "SELECT count(*) FROM item") == [(10,)]


@each_way
@pytest.mark.parametrize(
    ("address", "data", "words"),
    [
        (0, b"X", "does not begin with SQLKEPT"),
        (8, b"\2", "of version 2, and this module knows version 1"),
        (12, b"\1", "is damaged: [0-9]+ bytes in SQLite pages of 4097"),
        (16, b"\1", "is damaged: [0-9]+ bytes in SQLite pages of 4096"),
        (22, b"\1", "is damaged: it says it has [0-9]+ bytes, and [0-9]+ are there"),
        (24, b"\xff", "is damaged: its sum is|is damaged"),
        (KEPT_OFFSET + 5000, b"\xff\xff", "is damaged: its sum is .* the upgrade is undone"),
        (KEPT_OFFSET, b"\0" * 16, "is damaged|cannot be brought back|not a database"),
    ],
)
def test_damage_is_refused_and_the_upgrade_undone(strategy, address, data, words):
    with canister(strategy, table(1000)) as one:
        one.upgrade()
        one.damage(address, data)
        before = state(one)
        with pytest.raises(Trap, match=words):
            one.upgrade(skip_pre_upgrade=True)
        assert state(one) == before
        assert rows(one, "SELECT count(*) FROM item") == [(1000,)]
        # What is in the heap is sound, and written anew.
        one.upgrade()
        assert rows(one, "SELECT count(*) FROM item") == [(1000,)]


@each_way
def test_any_changed_byte_of_a_database_is_noticed(strategy):
    with canister(strategy, table(40, page_size=512), page_size=512) as one:
        one.upgrade()
        image = one.stable()
        for at in range(KEPT_OFFSET, KEPT_OFFSET + len(kept_database(image)), 97):
            one.damage(at, bytes([image[at] ^ 1 << at % 8]))
            with pytest.raises(Trap):
                one.upgrade(skip_pre_upgrade=True)
            one.damage(at, image[at : at + 1])
        one.upgrade(skip_pre_upgrade=True)


@each_way
def test_skipping_pre_upgrade_brings_the_past_back(strategy):
    with canister(strategy, table(10)) as one:
        one.upgrade()
        one.update("DELETE FROM item")
        one.upgrade(skip_pre_upgrade=True)
        assert rows(one, "SELECT count(*) FROM item") == [(10,)]


@each_way
def test_skipping_pre_upgrade_the_first_time_is_refused(strategy):
    with canister(strategy) as one:
        one.update("CREATE TABLE t (x)")
        before = state(one)
        with pytest.raises(Trap, match="no database was kept: stable memory is empty"):
            one.upgrade(skip_pre_upgrade=True)
        assert state(one) == before


@each_way
def test_out_of_instructions_says_so(strategy):
    with canister(strategy, table(100)) as one:
        before = state(one)
        with pytest.raises(LimitTrap, match="exceeded the limit of 1000000 instructions"):
            one.upgrade(instructions_max=1_000_000)
        assert state(one) == before
