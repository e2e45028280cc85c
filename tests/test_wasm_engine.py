"""The wasm engine: messages, its heap, traps anywhere, and what is counted."""

from contextlib import closing, suppress
from dataclasses import replace

import pytest

import sqlstable
import sqlstable.testing
from sqlstable import (
    Canister,
    LimitTrap,
    MessageError,
    SqlError,
    Trap,
)
from sqlstable.engine.measured.module.builds import load_program
from sqlstable.ic.limits import latest_limits
from sqlstable.ic.prices import PRICE_REGIMES
from sqlstable.wasm.shimstore import wasm_memory
from tests.children import run_python
from tests.wasm_world import canister_fixture, costs, fill, filled_fixture  # noqa: F401  fixtures


def heap_of(canister):
    return canister.memory.store.machine.heap_bytes()


# -- messages ------------------------------------------------------------------------------------


def test_a_canister_lives_as_on_the_native_engine(filled):
    assert filled.query("SELECT count(*), min(body) FROM t").rows == [(300, "row 0")]
    assert filled.upgrade().outcome == "committed"
    assert filled.query("SELECT count(*) FROM t").rows == [(300,)]
    reply = filled.query("DELETE FROM t")
    assert (reply.outcome, reply.discarded_writes) == ("discarded", True)
    assert filled.query("SELECT count(*) FROM t").rows == [(300,)]
    assert filled.reinstall().outcome == "committed"
    assert filled.memory.wasm_pages == 1
    with pytest.raises(SqlError, match="no such table: t; in: SELECT"):
        filled.query("SELECT * FROM t")


def test_values_are_exact(canister):
    canister.update("CREATE TABLE v (value)")
    values = [None, 0, -(2**63), 2**63 - 1, -0.0, 5e-324, "a\0b", "", b"", b"\0\xff", "é" * 5000]
    with canister.message() as message:
        message.executemany("INSERT INTO v VALUES (?)", [(value,) for value in values])
    rows = canister.query("SELECT value FROM v").rows
    assert [repr(value) for (value,) in rows] == [repr(value) for value in values]
    assert canister.query("SELECT :a, :b", {"a": 1, "b": b"x"}).rows == [(1, b"x")]


def test_results_pass_two_megabytes(canister):
    sql = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000) "
    rows = canister.query(sql + "SELECT i, printf('%01000d', i) FROM n").rows
    assert len(rows) == 3000
    assert rows[-1] == (3000, "3000".zfill(1000))


def test_an_sql_transaction_spans_calls_and_is_refused_when_left_open(filled):
    with filled.message() as message:
        message.execute("BEGIN")
        message.execute("DELETE FROM t WHERE id < 10")
        message.execute("ROLLBACK")
        message.execute("DELETE FROM t WHERE id = 299")
    assert filled.query("SELECT count(*) FROM t").rows == [(299,)]
    message = filled.message()
    with pytest.raises(MessageError, match="an open SQL transaction"), message:
        message.execute("BEGIN; DELETE FROM t")
    assert filled.query("SELECT count(*) FROM t").rows == [(299,)]
    with filled.message(keep_open=True) as message:
        message.execute("BEGIN; DELETE FROM t WHERE id = 0")
    filled.update("COMMIT")
    assert filled.query("SELECT count(*) FROM t").rows == [(298,)]


def test_cursors_and_errors(filled):
    with filled.message("query") as message:
        cursor = message.cursor("SELECT id FROM t LIMIT 3")
        assert next(cursor) == (0,)
        assert list(cursor) == [(1,), (2,)]
        with pytest.raises(SqlError, match="no such column"):
            message.execute("SELECT nope FROM t")
        assert message.execute("SELECT 1") == [(1,)]
    with pytest.raises(MessageError, match="1 open cursor"), filled.message("query") as message:
        next(message.cursor("SELECT id FROM t LIMIT 3"))
    with pytest.raises(SqlError, match="64 bits"):
        filled.update("INSERT INTO t VALUES (?, '')", (2**63,))


def test_random_numbers_are_those_of_the_native_engine(canister):
    with Canister() as native:
        for one in (native, canister):
            one.update("CREATE TABLE r (n, b)")
            one.update("INSERT INTO r VALUES (random(), randomblob(9))")
            one.upgrade()
            one.update("INSERT INTO r VALUES (random(), randomblob(9))")
        sql = "SELECT n, b, random(), datetime() FROM r"
        assert native.query(sql).rows == canister.query(sql).rows


# -- the heap ------------------------------------------------------------------------------------


def test_a_cache_warmed_by_an_update_serves_the_next_query_and_one_by_a_query_does_not(filled):
    filled.upgrade()
    read = [filled.query("SELECT * FROM t").footprint.os_pages_accessed for _ in range(2)]
    assert read[0] == read[1] > 1
    filled.update("SELECT * FROM t")
    assert filled.query("SELECT * FROM t").footprint.os_pages_accessed == 0


def test_cold_and_fresh_queries_read_what_the_native_engine_reads(filled):
    with Canister() as native:
        fill(native)
        for cache_state in ("cold", "fresh"):
            sql = "SELECT count(*) FROM t WHERE body > ''"
            ours, theirs = (one.query(sql, cache=cache_state) for one in (filled, native))
            assert ours.rows == theirs.rows
            assert ours.footprint.accessed.tolist() == theirs.footprint.accessed.tolist()
            assert ours.message.stable == theirs.message.stable


def test_a_query_leaves_the_heap_as_it_was(filled):
    before = heap_of(filled)
    for cache_state in ("warm", "cold", "fresh"):
        filled.query("SELECT * FROM t ORDER BY body DESC", cache=cache_state)
        assert heap_of(filled) == before
    filled.query("PRAGMA cache_size = 3; CREATE TEMP TABLE x (y); DELETE FROM t")
    assert heap_of(filled) == before


@pytest.mark.parametrize("track_heap", [True, False])
def test_a_trap_brings_the_old_heap_back_and_the_next_message_is_as_without_it(track_heap):
    replies = []
    for traps in (False, True):
        with Canister(engine="wasm", track_heap=track_heap) as canister:
            fill(canister)
            image, heap = canister.image(), heap_of(canister)
            if traps:
                with pytest.raises(Trap, match="enough"), canister.message() as message:  # noqa: PT012
                    message.execute("DELETE FROM t; CREATE TABLE other AS SELECT 1")
                    message.trap("enough")
                assert (canister.image(), heap_of(canister)) == (image, heap)
                with pytest.raises(SqlError):
                    canister.update("DELETE FROM t; SELECT nope")
                assert (canister.image(), heap_of(canister)) == (image, heap)
            replies.append(costs(canister.query("SELECT * FROM t WHERE id = 7")))
    assert replies[0] == replies[1]


def test_an_upgrade_makes_the_heap_that_a_new_instance_has():
    """No new instance is made for an upgrade, see `sqlstable.wasm.instance`."""
    with Canister(engine="wasm") as origin:
        fill(origin)
        image = origin.image()
    memories = [sqlstable.StableMemory.from_image(image) for _ in range(2)]
    first, second = (Canister(engine="wasm", memory=memory) for memory in memories)
    with first, second:
        first.update("SELECT * FROM t ORDER BY body")
        first.query("SELECT 1")
        for one in (first, second):
            one.upgrade()
        assert heap_of(first) == heap_of(second)
        again = [one.query("SELECT * FROM t WHERE id = 5") for one in (first, second)]
    assert costs(again[0]) == costs(again[1])


def test_a_failed_upgrade_brings_the_old_heap_back(filled, monkeypatch):
    image, heap = filled.image(), heap_of(filled)
    machine = filled.memory.store.machine
    monkeypatch.setattr(machine, "start", failing(machine.start))
    with pytest.raises(Trap, match="too late"):
        filled.upgrade()
    monkeypatch.undo()
    assert (filled.image(), heap_of(filled)) == (image, heap)
    assert filled.query("SELECT * FROM t").footprint.os_pages_accessed == 0
    assert filled.upgrade().outcome == "committed"


def failing(start):
    def start_and_fail(name, argument):
        start(name, argument)
        raise Trap("too late")

    return start_and_fail


def test_a_failed_reinstallation_brings_everything_back(filled, monkeypatch):
    image, heap = filled.image(), heap_of(filled)
    commit = filled.memory.commit
    monkeypatch.setattr(filled.memory, "commit", lambda: (_ for _ in ()).throw(Trap("no")))
    with pytest.raises(Trap, match="no"):
        filled.reinstall()
    monkeypatch.setattr(filled.memory, "commit", commit)
    assert (filled.image(), heap_of(filled)) == (image, heap)
    assert filled.query("SELECT count(*) FROM t").rows == [(300,)]


# -- traps everywhere ------------------------------------------------------------------------------


CHANGES = """
    UPDATE t SET body = body || '!' WHERE id % 50 = 0;
    INSERT INTO t SELECT id + 1000, body FROM t
"""


def test_a_trap_at_each_access_leaves_nothing(filled):
    image, heap = filled.image(), heap_of(filled)
    filled.memory.store.machine.set_value("trap_at", -1)
    index = 0
    while True:
        filled.memory.store.machine.set_value("trap_at", index)
        with suppress(Trap):
            filled.update(CHANGES)
            break
        assert (filled.image(), heap_of(filled)) == (image, heap)
        index += 1
    assert index > 3
    assert filled.query("SELECT count(*) FROM t").rows == [(600,)]


def test_out_of_instructions_at_many_points_leaves_nothing():
    with Canister(engine="wasm") as canister:
        fill(canister)
        whole = canister.query(CHANGES).message.instructions
    counts = []
    for part in range(1, 20):
        limit = whole.total * part // 20
        limits = latest_limits()
        limits = replace(limits, update=replace(limits.update, instructions_max=limit))
        with Canister(engine="wasm", memory=None, limits=latest_limits()) as canister:
            fill(canister)
            canister.memory.limits = limits
            image, heap = canister.image(), heap_of(canister)
            with pytest.raises(LimitTrap, match=f"exceeded the limit of {limit} instructions"):
                canister.update(CHANGES)
            assert (canister.image(), heap_of(canister)) == (image, heap)
            canister.memory.limits = latest_limits()
            counts.append(costs(canister.update(CHANGES))[0])
    assert set(counts) == {counts[0]}


def test_limits_of_os_pages_are_enforced_at_the_access(filled):
    limits = latest_limits()
    update = replace(limits.update, os_pages_dirty_max=2)
    filled.memory.limits = replace(limits, update=update)
    image = filled.image()
    with pytest.raises(LimitTrap, match="modified pages"):
        filled.update("UPDATE t SET body = body || body")
    assert filled.image() == image
    filled.memory.limits = replace(limits, query=replace(limits.query, os_pages_accessed_max=1))
    with pytest.raises(LimitTrap, match="accessed pages"):
        filled.query("SELECT count(body) FROM t", cache="cold")


# -- counts --------------------------------------------------------------------------------------


def test_what_a_message_costs_adds_up(filled):
    reply = filled.update("UPDATE t SET body = 'x' WHERE id = 3")
    spent, [statement] = reply.message.instructions, reply.statements
    for use in (spent, statement.instructions):
        assert use.total == use.computation + use.stable + use.heap
        assert use.measured
    phases = statement.phase_instructions
    assert sum(phases.values()) + statement.instructions.heap == statement.instructions.total
    # One OS page written, of a Wasm page that was not accessed before: facts of the price list.
    assert statement.instructions.stable == 20 + 4096 + 160_000
    assert statement.phases["commit"].bytes_written == 4096
    heap = reply.message.heap
    assert spent.heap == 80_000 * (heap.wasm_pages_accessed + heap.wasm_pages_written)
    assert heap.os_pages_written >= heap.wasm_pages_written > 0
    assert heap.size_bytes == len(heap_of(filled))


def test_statements_of_one_request_are_told_apart(filled):
    sql = "SELECT 1; -- nothing\n ; UPDATE t SET body = 'y' WHERE id = 2; SELECT id FROM t LIMIT 2"
    reply = filled.update(sql)
    assert reply.rows == [(1,), (0,), (1,)]
    assert [each.sql for each in reply.statements] == [
        "SELECT 1",
        "UPDATE t SET body = 'y' WHERE id = 2",
        "SELECT id FROM t LIMIT 2",
    ]
    assert [each.row_count for each in reply.statements] == [1, 0, 2]
    assert [each.stable.calls.write for each in reply.statements] == [0, 1, 0]
    assert all(each.instructions.total > 0 for each in reply.statements)
    parts = sum(each.instructions.total for each in reply.statements)
    assert parts < reply.message.instructions.total


def test_executemany_is_one_statement_with_many_runs(filled):
    with filled.message() as message:
        message.executemany("INSERT INTO t VALUES (?, 'z')", [(5000,), (5001,), (5002,)])
        message.executemany("INSERT INTO t VALUES (?, 'z')", [])
    [statement] = message.reply.statements
    assert (statement.runs, statement.kind) == (3, "write")
    assert statement.phases["commit"].calls.write == 3


def test_price_regimes_follow_the_limits(canister):
    counted = {}
    for regime in PRICE_REGIMES.values():
        day = regime.since or "2022-01-01"
        with Canister(engine="wasm", limits=day) as one:
            fill(one)
            reply = one.query("SELECT * FROM t WHERE id = 9")
            counted[one.status().settings["price_regime"]] = reply.message
    assert list(counted) == list(PRICE_REGIMES)
    assert counted["system-api"].heap is None
    native = counted["wasm-native"]
    assert native.instructions.heap == 1000 * native.heap.os_pages_written


def test_a_heap_that_is_dearer_than_todays_is_held_against_the_limit():
    found = load_program("standard", PRICE_REGIMES["memory-tracker"], watches_heap=True)
    costs = replace(found.regime.costs, heap_region_accessed=1_000_000_000)
    dear = replace(found, regime=replace(found.regime, costs=costs))
    with Canister(engine="wasm", memory=wasm_memory(lambda _: dear)) as canister:
        canister.update("CREATE TABLE t (x)")
        with pytest.raises(LimitTrap, match="exceeded the limit of 40000000000 instructions"):
            canister.update("INSERT INTO t VALUES (zeroblob(4000000))")
        assert canister.update("SELECT count(*) FROM t").rows == [(0,)]


def test_watching_the_heap_changes_no_other_count():
    counted = []
    for track_heap in (False, True):
        with Canister(engine="wasm", track_heap=track_heap) as canister:
            fill(canister)
            spent = canister.query("SELECT * FROM t").message.instructions
            counted.append((spent.computation, spent.stable, spent.total - spent.heap))
            assert (spent.heap > 0) == track_heap
    assert counted[0] == counted[1]


def test_observing_changes_no_count(tmp_path):
    counted = []
    for options in ({}, {"trace": ":memory:"}, {"owners": True}):
        with Canister(engine="wasm", **options) as canister:
            fill(canister)
            canister.update("CREATE INDEX by_body ON t (body)")
            canister.engine.is_readonly("SELECT * FROM t")
            with canister.message("query") as message:
                message.execute("SELECT id FROM t WHERE body = 'row 3'")
                assert canister.engine.columns("SELECT id FROM t WHERE body = 'row 3'") == ("id",)
                message.execute("SELECT id FROM t WHERE body = 'row 4'")
            counted.append(costs(message.reply))
    assert counted[0] == counted[1] == counted[2]


SCRIPT = """
import hashlib, sqlstable
with sqlstable.Canister(engine="wasm") as canister:
    canister.update("CREATE TABLE t (id INTEGER PRIMARY KEY, body TEXT)")
    seen = []
    for index in range(20):
        reply = canister.update("INSERT INTO t (body) VALUES (random() || ?)", ("x" * index * 90,))
        message = reply.message
        seen.append((message.instructions, message.heap, reply.footprint.dirty.tolist()))
        reply = canister.query("SELECT sum(length(body)) FROM t")
        seen.append((reply.rows, reply.message.instructions, reply.footprint.accessed.tolist()))
    canister.upgrade()
    heap, image = canister.memory.store.machine.heap_bytes(), canister.image()
    print(seen, hashlib.sha256(heap).hexdigest(), hashlib.sha256(image).hexdigest())
"""


@pytest.mark.slow
def test_two_processes_count_the_same():
    told = [run_python(SCRIPT) for _ in range(2)]
    assert told[0] == told[1]
    assert len(told[0]) > 1000


def test_the_profile_build_counts_visited_rows():
    with Canister(engine="wasm", build="profile", trace=":memory:") as canister:
        fill(canister)
        canister.query("SELECT count(*) FROM t WHERE body LIKE '%7'")
        with closing(canister.trace()) as trace:
            [loop] = trace.statements[-1].loops
    assert (loop.name, loop.loops, loop.rows_visited) == ("t", 1, 300)


def test_the_lean_build_runs():
    with Canister(engine="wasm", build="lean") as canister:
        fill(canister)
        reply = canister.query("SELECT * FROM t WHERE id = 7")
        assert reply.rows == [(7, "row 7")]
        assert reply.message.instructions.total < 1_500_000


# -- traces --------------------------------------------------------------------------------------


def test_a_trace_keeps_costs_owners_and_plans(tmp_path):
    path = tmp_path / "run.trace"
    with Canister(engine="wasm", trace=path) as canister:
        fill(canister)
        reply = canister.query("SELECT body FROM t WHERE id = 4", cache="cold", label="look")
    with sqlstable.open_trace(path) as trace:
        message, statement = trace.messages[-1], trace.statements[-1]
        assert message == reply.message
        assert (message.heap, message.instructions.measured) == (reply.message.heap, True)
        assert statement.instructions == reply.statements[0].instructions
        assert statement.phase_instructions == reply.statements[0].phase_instructions
        assert statement.plan == ("SEARCH t USING INTEGER PRIMARY KEY (rowid=?)",)
        assert {owner.name for owner in statement.owners} >= {"t"}
        accesses = trace.accesses(statement)
        assert (accesses.address - accesses.offset).tolist() == [65_536] * len(accesses)
        assert trace.settings["engine"] == "wasm"
        assert trace.settings["build"] == "standard"
