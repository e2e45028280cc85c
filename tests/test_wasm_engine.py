"""The wasm engine as a canister has it: messages, heap, counts, images, compiled modules."""

import json
import os
import random
import signal
import subprocess
import sys
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import pytest
import wasmtime
from jsonschema import Draft202012Validator

import sqlstable
import sqlstable.testing
from sqlstable import (
    Canister,
    ImageError,
    LimitTrap,
    MessageError,
    SettingsError,
    SqlError,
    SqlstableError,
    StableMemory,
    Trap,
)
from sqlstable.engine.measured.module.builds import load_program
from sqlstable.ic.limits import NO_LIMIT, latest_limits
from sqlstable.ic.prices import PRICE_REGIMES
from sqlstable.memory.image.imagefile import ImageFile
from sqlstable.report.json_schema import report_schema
from sqlstable.wasm import cache, calls, overlay, program
from sqlstable.wasm.instance import Instance
from sqlstable.wasm.shimstore import wasm_memory

ROWS = [(index, f"row {index}") for index in range(300)]


@pytest.fixture
def canister():
    with Canister(engine="wasm") as made:
        yield made


@pytest.fixture
def filled(canister):
    """One with a table of 300 rows, whose heap is warm."""
    fill(canister)
    return canister


def fill(canister):
    canister.update("CREATE TABLE t (id INTEGER PRIMARY KEY, body TEXT)")
    with canister.message() as message, message.transaction():
        message.executemany("INSERT INTO t VALUES (?, ?)", ROWS)


def heap_of(canister):
    return canister.memory.store.machine.heap_bytes()


def costs(reply):
    return (reply.message.instructions, reply.message.heap, reply.message.stable)


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
    for day in ("2023-01-01", "2024-01-01", "2026-08-01"):
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
    told = [
        subprocess.run(
            [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True
        ).stdout
        for _ in range(2)
    ]
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


# -- images --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layout", "growth"), [("managed", "bucket"), ("managed", "wasm-page"), ("raw", "bucket")]
)
def test_either_engine_opens_the_image_of_the_other(layout, growth):
    images = []
    for engine in ("native", "wasm"):
        with Canister(engine=engine, layout=layout, growth=growth) as canister:
            fill(canister)
            images.append(canister.image())
    assert images[0] == images[1]
    memory = sqlstable.StableMemory.from_image(images[0])
    with Canister(engine="wasm", layout=layout, memory=memory) as canister:
        canister.update("DELETE FROM t WHERE id > 9")
        canister.update("VACUUM")
        image = canister.image()
    memory = sqlstable.StableMemory.from_image(image)
    with Canister(layout=layout, memory=memory) as canister:
        assert canister.query("SELECT count(*) FROM t").rows == [(10,)]
        assert canister.query("PRAGMA integrity_check").rows == [("ok",)]


def test_a_database_comes_in_and_goes_out(tmp_path, filled):
    filled.extract_database(tmp_path / "app.db")
    with Canister(engine="wasm", page_size=1024) as canister:
        canister.import_database(tmp_path / "app.db")
        assert canister.settings.page_size == 4096
        assert canister.query("SELECT count(*) FROM t").rows == [(300,)]
        canister.update("PRAGMA page_size = 8192; VACUUM")
        assert canister.settings.page_size == 8192
        assert canister.status().database_size_bytes % 8192 == 0


def test_an_image_file_survives(tmp_path):
    path = tmp_path / "ledger.stable"
    with Canister(path, engine="wasm") as canister:
        fill(canister)
        image = canister.image()
    assert path.read_bytes() == image
    with Canister(path) as native:
        assert native.query("SELECT count(*) FROM t").rows == [(300,)]
        native.update("DELETE FROM t WHERE id = 1")
    with Canister(path, engine="wasm") as canister:
        assert canister.query("SELECT count(*) FROM t").rows == [(299,)]
        with pytest.raises(Trap), canister.message() as message:  # noqa: PT012
            message.execute("DELETE FROM t")
            message.trap()
        assert canister.query("SELECT count(*) FROM t").rows == [(299,)]
        canister.reinstall()
        canister.update("CREATE TABLE after (x)")
        image = canister.image()
    assert path.read_bytes() == image


@pytest.mark.parametrize("is_mapped", [True, False])
def test_an_image_is_the_same_however_it_is_laid_over_stable_memory(
    tmp_path, monkeypatch, is_mapped
):
    if not is_mapped:
        monkeypatch.setattr(ImageFile, "map_descriptor", None)
    monkeypatch.setattr(overlay, "DROPPED_BYTES", 1 << 16)
    path = tmp_path / "ledger.stable"
    with Canister(engine="wasm", bucket_pages=1) as plain:
        for _ in range(2):
            with Canister(path, engine="wasm", bucket_pages=1) as canister:
                for one in (plain, canister):
                    one.update("CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, x)")
                    for index in range(60):
                        sql = "INSERT INTO t (x) VALUES (printf('%.*c', ?, 'x'))"
                        one.update(sql, (index * 200,))
                        one.update("UPDATE t SET x = x || '!' WHERE id % 7 = ?", (index % 7,))
                        one.query("DELETE FROM t")
                    one.upgrade()
                assert canister.image()[65_536:] == plain.image()[65_536:]
            assert path.read_bytes()[65_536:] == plain.image()[65_536:]


KILLED = """
import sys, sqlstable
canister = sqlstable.Canister(sys.argv[1], engine="wasm")
canister.update("CREATE TABLE IF NOT EXISTS t (x)")
while True:
    with canister.message() as message:
        message.executemany("INSERT INTO t VALUES (?)", [("x" * 900,)] * 5)
    print(canister.query("SELECT count(*) FROM t").rows[0][0], flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="kill -9 is POSIX's")
def test_what_was_answered_is_there_after_a_kill(tmp_path):
    path = tmp_path / "killed.stable"
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, text=True
    )
    answered = 0
    while answered < 400:
        answered = int(process.stdout.readline())
    os.kill(process.pid, signal.SIGKILL)
    rest = process.stdout.read().split()
    process.wait()
    process.stdout.close()
    answered = int(rest[-1]) if rest and rest[-1].isdigit() else answered
    with Canister(path, engine="wasm") as canister:
        assert canister.query("SELECT count(*) FROM t").rows[0][0] >= answered
        assert canister.query("PRAGMA integrity_check").rows == [("ok",)]


def test_a_read_only_image_takes_queries(tmp_path):
    path = tmp_path / "ledger.stable"
    with Canister(path, engine="wasm") as canister:
        fill(canister)
    before = path.read_bytes()
    with Canister(path, engine="wasm", read_only=True) as canister:
        for _ in range(2):
            assert canister.query("SELECT count(*) FROM t").rows == [(300,)]
        with pytest.raises(Trap, match="read-only"):
            canister.update("DELETE FROM t")
        assert canister.query("DELETE FROM t").discarded_writes
        assert canister.query("SELECT count(*) FROM t").rows == [(300,)]
    assert path.read_bytes() == before


def test_images_of_something_else_are_refused(tmp_path):
    memory = sqlstable.StableMemory.from_image(b"MGX".ljust(65_536, b"\1"))
    with pytest.raises(ImageError):
        Canister(engine="wasm", memory=memory)
    with Canister() as canister:
        canister.update("CREATE TABLE t (x)")
        image = bytearray(canister.image())
    at = image.index(b"SQLite format 3") + 18
    image[at : at + 2] = b"\2\2"
    memory = sqlstable.StableMemory.from_image(bytes(image))
    with pytest.raises(ImageError, match="WAL mode"):
        Canister(engine="wasm", memory=memory)


# -- settings ------------------------------------------------------------------------------------


def test_what_does_not_go_together_is_refused(filled, tmp_path):
    with pytest.raises(SettingsError, match="build"):
        Canister(engine="wasm", build="fast")
    with pytest.raises(SettingsError, match="concerns the wasm engine"):
        Canister(build="lean")
    with pytest.raises(SettingsError, match="journal_mode delete"):
        Canister(engine="wasm", journal_mode="delete")
    with pytest.raises(SettingsError, match="cannot be called from a Wasm module"):
        filled.on_connect(print)
    memory = sqlstable.StableMemory.open(tmp_path / "a.stable")
    with memory, pytest.raises(SettingsError, match="give its path"):
        Canister(engine="wasm", memory=memory)


def test_faults_on_demand_are_for_the_native_engine(filled):
    with pytest.raises(SettingsError, match="native engine only"):
        sqlstable.testing.count_accesses(filled, lambda: filled.update("DELETE FROM t"))


def test_without_wasmtime_there_is_one_clear_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "wasmtime", None)
    with pytest.raises(
        SettingsError,
        match=r"install sqlstable again, or pip install wasmtime==[\d.]+, or use engine native",
    ):
        Canister(engine="wasm")


def test_the_public_way_of_calling_does_the_same_and_warns_once(monkeypatch):
    with Canister(engine="wasm") as quick:
        fill(quick)
        expected = costs(quick.query("SELECT * FROM t"))
    calls._quick_call.cache_clear()
    monkeypatch.setattr(calls, "_private_interface", object)
    try:
        with pytest.warns(RuntimeWarning, match="unchecked call") as seen:
            slow = Canister(engine="wasm")
        with slow:
            fill(slow)
            assert costs(slow.query("SELECT * FROM t")) == expected
            with pytest.raises(Trap, match="no"), slow.message() as message:
                message.trap("no")
            # A new machine, and no second warning.
            slow.reinstall()
        assert len(seen) == 1
    finally:
        calls._quick_call.cache_clear()


# -- the command line ------------------------------------------------------------------------------


def run_command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "sqlstable", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_the_command_line_runs_scripts_on_the_wasm_engine(tmp_path):
    script = tmp_path / "script.sql"
    script.write_text(
        "CREATE TABLE t (x);\nINSERT INTO t VALUES (1), (2);\n--@ upgrade\nSELECT x FROM t;\n"
    )
    image = tmp_path / "image.stable"
    options = ("--engine", "wasm", "--image", image, "--build", "profile", "--format", "json")
    result = run_command("run", script, *options)
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    settings = report["settings"]
    assert (settings["engine"], settings["build"], settings["measured"]) == (
        "wasm",
        "profile",
        True,
    )
    last = report["messages"][-1]
    assert last["cache"] == "warm"
    assert last["instructions"]["total"] > report["statements"][-1]["instructions"]["total"]
    assert last["heap"]["wasm_pages_accessed"] > 0
    assert report["statements"][-1]["loops"][0]["rows_visited"] == 2
    assert report["totals"]["instructions"]["measured"]
    Draft202012Validator(report_schema()).validate(report)
    table = run_command("run", script, "--engine", "wasm")
    assert "instructions: computation" in table.stdout
    with Canister(image) as native:
        assert native.query("SELECT x FROM t").rows == [(1,), (2,)]


def test_the_command_line_refuses_a_build_of_the_native_engine(tmp_path):
    script = tmp_path / "script.sql"
    script.write_text("SELECT 1;")
    result = run_command("run", script, "--build", "lean")
    assert (result.returncode, result.stdout) == (2, "")
    assert "add --engine wasm" in result.stderr


# -- compiled modules ----------------------------------------------------------------------------


@pytest.fixture
def cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return cache.cache_folder()


def test_the_cache_keeps_what_is_whole_and_its_own(cache_folder):
    key = cache.key_of("a")
    assert cache.load(key) is None
    cache.keep(key, b"compiled")
    assert cache.load(key) == b"compiled"
    assert cache_folder.stat().st_mode & 0o777 == 0o700
    path = cache_folder / key
    for damaged in (b"", path.read_bytes()[:-1], path.read_bytes()[:-1] + b"X"):
        whole = path.read_bytes()
        path.write_bytes(damaged)
        assert cache.load(key) is None
        path.write_bytes(whole)
    other = cache_folder / cache.key_of("b")
    path.replace(other)
    assert cache.load(cache.key_of("b")) is None


@pytest.mark.skipif(sys.platform == "win32", reason="modes are POSIX's")
def test_the_cache_loads_nothing_that_others_may_write(cache_folder, tmp_path):
    key = cache.key_of("a")
    cache.keep(key, b"compiled")
    (cache_folder / key).chmod(0o666)
    assert cache.load(key) is None
    (cache_folder / key).chmod(0o600)
    elsewhere = tmp_path / "elsewhere"
    (cache_folder / key).replace(elsewhere)
    (cache_folder / key).symlink_to(elsewhere)
    assert cache.load(key) is None
    (cache_folder / key).unlink()
    elsewhere.replace(cache_folder / key)
    assert cache.load(key) == b"compiled"
    cache_folder.chmod(0o777)
    assert cache.load(key) is None
    cache.keep(key, b"other")
    cache_folder.chmod(0o700)
    assert cache.load(key) == b"compiled"


WAT = """
(module
  (import "ic0" "msg_reply" (func $reply))
  (import "ic0" "call_perform_later" (func $unknown (param i32)))
  (import "ic0" "call_perform" (func $known (result i32)))
  (memory 1)
  (func (export "canister_init"))
  (func (export "canister_update reply") (call $reply))
  (func (export "canister_update unknown") (call $unknown (i32.const 1)))
  (func (export "canister_update known") (drop (call $known))))
"""


def made(wat):
    regime = PRICE_REGIMES["memory-tracker"]
    wasm = bytes(wasmtime.wat2wasm(wat))
    found = program.make_program(wasm, name="other", regime=regime, watches_heap=True)
    return Instance(found, stable_wasm_pages_max=10, limits=None)


def test_system_calls_without_meaning_trap_with_their_names(cache_folder):
    machine = made(WAT)
    machine.begin_message(1 << 40, NO_LIMIT, NO_LIMIT)
    machine.start("canister_init", b"")
    assert machine.call("canister_update reply", b"") == b""
    texts = {"known": "ic0.call_perform has no meaning", "unknown": "later is not known"}
    for name, text in texts.items():
        with pytest.raises(Trap, match=text):
            machine.call(f"canister_update {name}", b"")
        machine.rollback(is_new_heap=False)
        machine.begin_message(1 << 40, NO_LIMIT, NO_LIMIT)


def test_imports_from_elsewhere_are_refused(cache_folder):
    wat = '(module (import "wasi_snapshot_preview1" "fd_write" (func)) (memory 1))'
    with pytest.raises(sqlstable.errors.ModuleError, match="'ic0' only"):
        made(wat)


# -- staying small -------------------------------------------------------------------------------


def resident_bytes():
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_many_messages_and_upgrades_keep_no_memory(filled):
    def go_on(messages, upgrades):
        for index in range(messages):
            if index % 2:
                filled.query("SELECT body FROM t WHERE id = ?", (index % 300,))
            else:
                filled.update("UPDATE t SET body = ? WHERE id = ?", (f"b{index}", index % 300))
            if upgrades and index % (messages // upgrades) == 0:
                filled.upgrade()

    go_on(100, 10)
    before = resident_bytes()
    go_on(2000, 200)
    assert resident_bytes() - before < 25_000_000


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["managed", "raw"])
def test_damaged_images_give_errors_and_never_a_crash(layout):
    with Canister(layout=layout) as canister:
        canister.update("CREATE TABLE t (id INTEGER PRIMARY KEY, x TEXT)")
        canister.update("CREATE INDEX t_x ON t (x)")
        rows = [(number, "x" * (number % 90)) for number in range(400)]
        with canister.message() as message:
            message.executemany("INSERT INTO t VALUES (?, ?)", rows)
        image = canister.image()
    start = 65_536 if layout == "managed" else 0
    draw, refused = random.Random(layout), 0
    for _ in range(40):
        damaged = bytearray(image)
        # The manager's tables, or the header and B-trees of the database.
        first = draw.choice((0, start, start))
        for _ in range(draw.randrange(1, 6)):
            damaged[first + int(draw.random() ** 3 * 60_000)] = draw.randrange(256)
        try:
            memory = StableMemory.from_image(bytes(damaged))
            with Canister(memory=memory, engine="wasm", layout=layout) as canister:
                canister.query("SELECT count(*), max(x) FROM t")
                canister.update("UPDATE t SET x = x || 'y'")
                canister.query("PRAGMA integrity_check")
        except SqlstableError:
            refused += 1
    assert 0 < refused < 40
