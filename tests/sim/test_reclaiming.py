"""Giving space back changes no answer: random deletions, every mode and layout, traps within."""

import sqlite3
from contextlib import closing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sqlstable import Canister, StableMemory, Trap, reclaim
from sqlstable.testing import count_accesses, trap_at
from tests.reclaim_world import MODES, Plain, answers, holey, image_of

LAYOUTS = ("managed", "raw", "froghub", "ic-sqlite-vfs")
TRAPS = 25
"""Places in a message at which it is trapped, evenly spread."""

SCHEMA = "CREATE TABLE t (k INTEGER PRIMARY KEY, a INTEGER, body BLOB); CREATE INDEX t_a ON t (a)"

KEYS = st.integers(0, 400)
CHANGES = st.one_of(
    st.tuples(st.just("INSERT OR REPLACE INTO t VALUES (?, ?, zeroblob(?))"), KEYS, KEYS,
              st.integers(0, 9000)),
    st.tuples(st.just("INSERT OR IGNORE INTO t SELECT k + ?, a, body FROM t"), KEYS),
    st.tuples(st.just("DELETE FROM t WHERE k BETWEEN ?1 AND ?1 + ?2"), KEYS, KEYS),
    st.tuples(st.just("DELETE FROM t WHERE a % 3 = ?"), st.integers(0, 2)),
    st.tuples(st.just("UPDATE t SET a = a + ? WHERE k % 2 = 0"), KEYS),
)  # fmt: skip
GIVING_BACK = st.sampled_from(
    ("VACUUM", "PRAGMA incremental_vacuum(1)", "PRAGMA incremental_vacuum(9)", "upgrade")
)


@settings(max_examples=40)
@given(
    mode=st.sampled_from(MODES),
    layout=st.sampled_from(LAYOUTS),
    page_size=st.sampled_from((512, 1024, 4096, 65_536)),
    steps=st.lists(st.one_of(CHANGES, GIVING_BACK), min_size=2, max_size=14),
)
def test_no_answer_changes_and_no_row_is_lost(mode, layout, page_size, steps):
    with (
        closing(sqlite3.connect(":memory:")) as model,
        Canister(layout=layout, page_size=page_size) as canister,
    ):
        model.executescript(SCHEMA)
        canister.update(f"PRAGMA auto_vacuum = {mode}")
        canister.update(SCHEMA)
        for step in steps:
            if step == "upgrade":
                canister.upgrade()
            elif isinstance(step, str):
                stable_bytes = canister.status().stable_size_bytes
                file_bytes = canister.status().database_size_bytes
                canister.update(step)
                assert canister.status().stable_size_bytes == stable_bytes
                # A VACUUM may lay a few rows out so that they take a SQLite page more.
                assert canister.status().database_size_bytes <= file_bytes + 4 * page_size
            else:
                sql, *values = step
                canister.update(sql, values)
                model.execute(sql, values)
            found = canister.query("SELECT k, a, length(body) FROM t ORDER BY k").rows
            assert found == model.execute("SELECT k, a, length(body) FROM t ORDER BY k").fetchall()
        assert canister.query("PRAGMA integrity_check").rows == [("ok",)]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("mode", MODES)
def test_every_way_leaves_what_it_leaves_in_plain_sqlite(mode, seed, tmp_path):
    data = holey(mode=mode, page_size=(512, 2048, 4096, 8192)[seed], rows=200, seed=seed)
    report = reclaim(image_of(data), steps=(2, 17, 10_000))
    for way in report.ways:
        with Plain(data, tmp_path) as plain:
            for _ in range(way.messages_run):
                plain.run(way.sql)
            assert (way.file_bytes, way.free_sqlite_pages) == plain.sizes(), way.name


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("sql", ["VACUUM", "PRAGMA incremental_vacuum(30)"])
def test_a_trap_within_leaves_everything_as_it_was(sql, layout):
    data = holey(mode="incremental", rows=300)
    image = image_of(data, layout=layout, page_size=4096)

    def opened():
        return Canister(memory=StableMemory.from_image(image), layout=layout, page_size=4096)

    with opened() as canister:
        count = count_accesses(canister, lambda: canister.update(sql))
    assert count > 40
    with opened() as canister:
        before = answers(canister)
        for index in range(0, count, max(1, count // TRAPS)):
            with trap_at(canister, index), pytest.raises(Trap, match="injected"):
                canister.update(sql)
            assert canister.image() == image
            assert answers(canister) == before
        canister.update(sql)
        assert answers(canister) == before
