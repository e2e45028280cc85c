"""What a trace says of the database when it ends: schema, shapes of trees, and bytes changed."""

from itertools import pairwise

import apsw
import pytest

from sqlstable import Canister, open_trace
from sqlstable.canister import trace_end as trace_end_module

FILL = (
    "INSERT INTO t (b) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 900) "
    "SELECT hex(randomblob(i % 200 + 20)) FROM n"
)


def fill(canister):
    canister.update("CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT UNIQUE)")
    canister.update("CREATE VIEW v AS SELECT a FROM t")
    canister.update(FILL)
    canister.update("INSERT INTO t (b) VALUES (hex(zeroblob(9000)))")
    canister.update("DELETE FROM t WHERE a % 3 = 0")


@pytest.mark.parametrize("engine", ["native", "wasm"])
def test_trees_are_those_of_dbstat_and_the_schema_is_sqlites(engine, tmp_path):
    with Canister(trace=tmp_path / "a.trace", engine=engine, page_size=1024) as canister:
        fill(canister)
        canister.extract_database(tmp_path / "a.db")
    plain = apsw.Connection(str(tmp_path / "a.db"))
    with open_trace(tmp_path / "a.trace") as trace:
        rows = plain.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema").fetchall()
        assert [(it.type, it.name, it.table, it.sql) for it in trace.schema] == rows
        assert {it.name for it in trace.trees} == {"sqlite_schema", "t", "sqlite_autoindex_t_1"}
        for tree in trace.trees:
            found = plain.execute(
                "SELECT sum(pagetype = 'internal'), sum(pagetype = 'leaf'), "
                "sum(pagetype = 'overflow'), sum(ncell), sum(payload), sum(unused), "
                "max(length(path) - length(replace(path, '/', ''))) FILTER "
                "(WHERE pagetype = 'leaf') FROM dbstat WHERE name = ?",
                (tree.name,),
            ).fetchone()
            pages = (tree.interior_pages, tree.leaf_pages, tree.overflow_pages)
            counts = (tree.cells, tree.payload_bytes, tree.unused_bytes, tree.depth)
            assert (*pages, *counts) == found
            leaves = plain.execute(
                "SELECT pageno FROM dbstat WHERE name = ? AND pagetype = 'leaf' ORDER BY path",
                (tree.name,),
            ).fetchall()
            steps = [b - a == 1 for (a,), (b,) in pairwise(leaves)]
            assert tree.leaves_in_order == (sum(steps) / len(steps) if steps else None)
        assert [it.overflow_pages > 0 for it in trace.trees if it.name == "t"] == [True]
        assert [it.table for it in trace.trees if it.kind == "index"] == ["t"]


def test_a_running_trace_tells_what_is_there_so_far():
    with Canister(trace=":memory:") as canister:
        assert [it.name for it in canister.trace().schema] == []
        fill(canister)
        first = canister.trace()
        canister.update("DROP VIEW v")
        names = [it.name for it in canister.trace().schema]
        assert names == ["t", "sqlite_autoindex_t_1"]
        assert len(first.trees) == 3


def test_a_large_database_is_not_gone_through(tmp_path, monkeypatch):
    monkeypatch.setattr(trace_end_module, "TREES_SQLITE_PAGES_MAX", 3)
    with Canister(trace=tmp_path / "a.trace") as canister:
        fill(canister)
    with open_trace(tmp_path / "a.trace") as trace:
        assert trace.trees == ()
        assert len(trace.schema) == 3
        assert "up to 3 SQLite pages" in trace.settings["trees_skipped"]


@pytest.mark.parametrize("engine", ["native", "wasm"])
def test_bytes_changed_are_those_that_differ(engine):
    with Canister(trace=":memory:", engine=engine, bytes_changed=True) as canister:
        fill(canister)
        before = canister.image()
        canister.update("UPDATE t SET b = upper(b) || 'x' WHERE a BETWEEN 10 AND 90")
        after = canister.image()
        canister.query("DELETE FROM t")
        canister.update("SELECT count(*) FROM t")
        messages = canister.trace().messages
    differing = sum(a != b for a, b in zip(before, after, strict=True))
    assert [it.bytes_changed for it in messages[-3:]] == [differing, 0, 0]
    assert 0 < differing < messages[-3].stable.bytes_written
    # Steps of the life cycle are not looked at.
    assert messages[0].bytes_changed is None


def test_nobody_compares_bytes_unless_asked():
    with Canister(trace=":memory:") as canister:
        fill(canister)
        assert {it.bytes_changed for it in canister.trace().messages} == {None}
