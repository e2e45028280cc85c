"""Nothing is negative, and parts add up to their whole: statements, messages, runs."""

import random
from contextlib import suppress
from dataclasses import replace

import apsw
import pytest

import sqlstable
from sqlstable import Canister, SqlError, StableMemory, Trap
from sqlstable.analysis.totals import totals
from sqlstable.ic.limits import latest_limits, limits_at

COUNT = (
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 20000) "
    "SELECT max(i) FROM n"
)
FLAVOURS = {
    "native": {"engine": "native"},
    "wasm": {"engine": "wasm"},
    "wasm, raw": {"engine": "wasm", "layout": "raw"},
    "wasm, lean": {"engine": "wasm", "build": "lean", "track_heap": True},
    "wasm of 2024": {"engine": "wasm", "limits": limits_at("2024-01-01")},
    "wasm of 2022": {"engine": "wasm", "limits": limits_at("2022-06-01")},
    "wasm, heap not watched": {"engine": "wasm", "track_heap": False},
}


def parts(use):
    return (use.computation, use.stable, use.heap)


def check_instructions(use):
    assert min(use.total, *parts(use)) >= 0, use
    assert use.total == sum(parts(use)), use


def check_stable(whole, uses):
    """What statements and what lies outside of them did is what the message did."""
    for name in ("read", "write", "size", "grow"):
        counts = [getattr(each.calls, name) for each in uses]
        assert min(counts, default=0) >= 0
        assert sum(counts) == getattr(whole.calls, name)
    for name in ("bytes_read", "bytes_written"):
        counts = [getattr(each, name) for each in uses]
        assert min(counts, default=0) >= 0
        assert sum(counts) == getattr(whole, name)


def check(trace):
    """Hold all that a trace says against itself; returns the messages."""
    messages, statements = list(trace.messages), list(trace.statements)
    by_message = {message.index: [] for message in messages}
    for statement in statements:
        by_message[statement.message].append(statement)
    for message in messages:
        own = by_message[message.index]
        check_stable(message.stable, [each.stable for each in (*own, *message.outside)])
        if message.instructions is None:
            assert all(each.instructions is None for each in own)
            continue
        check_instructions(message.instructions)
        for statement in own:
            check_instructions(statement.instructions)
            phases = statement.phase_instructions
            assert min(phases.values()) >= 0
            use = statement.instructions
            assert sum(phases.values()) == use.computation + use.stable
        for whole, *each in zip(
            parts(message.instructions), *(parts(each.instructions) for each in own), strict=True
        ):
            assert whole - sum(each) >= 0, "around statements something is negative"
    whole = totals(trace)
    if all(message.instructions is not None for message in messages):
        check_instructions(whole.instructions)
        assert whole.instructions.total == sum(each.instructions.total for each in messages)
    return messages


def database(path, *, rows):
    with apsw.Connection(str(path)) as connection:
        connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, x, y)")
        connection.execute("CREATE INDEX t_x ON t (x)")
        for number in range(rows):
            connection.execute("INSERT INTO t (x, y) VALUES (?, zeroblob(900))", (number % 7,))
    connection.close()
    return path


def step(draw, canister):
    """One message of any kind, which may fail."""
    sql = draw.choice(
        (
            "SELECT count(*), max(y) FROM t",
            "SELECT x, count(*) FROM t GROUP BY x ORDER BY 2",
            "INSERT INTO t (x, y) VALUES (1, zeroblob(5000)); DELETE FROM t WHERE id % 5 = 0",
            "UPDATE t SET x = x + 1 WHERE id % 3 = 0",
            "INSERT INTO t (id) VALUES (1), (1)",
            "SELECT * FROM nowhere; SELECT 1",
            "SELECT 1; SELECT * FROM nowhere",
            "CREATE TABLE IF NOT EXISTS u AS SELECT * FROM t; DROP TABLE u",
            COUNT,
            "VACUUM",
            "PRAGMA temp_store",
            "",
        )
    )
    match draw.randrange(8):
        case 0:
            canister.upgrade()
        case 1:
            canister.query(sql, cache=draw.choice(("fresh", "cold", "warm")))
        case 2:
            with canister.message() as message:
                message.execute(sql)
                message.executemany("INSERT INTO t (x) VALUES (?)", [(1,), (2,)])
                message.trap()
        case 3:
            with canister.message() as message:
                memory = canister.memory
                with message.window("by hand"):
                    memory.access_read(memory.wasm_pages * 65_536 - 10_000, 9_000)
                message.execute(sql)
                with message.window("by hand"):
                    memory.access_read(0, 70_000)
                    memory.grow(1)
        case 4:
            with canister.message("query") as message:
                message.execute(sql)
                message.execute(sql)
        case _:
            canister.update(sql)


def small(limits):
    """Limits that end endless statements soon: of instructions, or of OS pages."""
    kinds = {
        kind: replace(limits.of(kind), instructions_max=30_000_000, os_pages_accessed_max=400)
        for kind in ("update", "query")
    }
    return replace(limits, **kinds)


def check_life(name, folder, *, seed, steps):
    """One life of a canister: import, messages that trap and do not, upgrades, reinstallation."""
    draw = random.Random(f"{name} {seed}")
    flavour = dict(FLAVOURS[name])
    limits = flavour.pop("limits", latest_limits())
    flavour |= {"trace": folder / "a.trace", "limits": limits}
    with Canister(folder / "a.stable", **flavour) as canister:
        canister.import_database(database(folder / "a.db", rows=draw.randrange(1, 400)))
        canister.memory.limits = small(limits)
        for _ in range(steps):
            with suppress(SqlError, Trap):
                step(draw, canister)
        canister.memory.limits = limits
        canister.reinstall()
        canister.update("CREATE TABLE t (x)")
    with sqlstable.open_trace(folder / "a.trace") as trace:
        messages = check(trace)
    assert {each.kind for each in messages} >= {"install", "update", "query", "upgrade"}
    assert {each.outcome for each in messages} == {"committed", "discarded", "trapped"}


@pytest.mark.parametrize("name", FLAVOURS)
def test_parts_add_up_over_a_random_life(name, tmp_path):
    check_life(name, tmp_path, seed=1, steps=40)


@pytest.mark.slow
@pytest.mark.parametrize("name", FLAVOURS)
def test_parts_add_up_over_many_random_lives(name, tmp_path):
    for seed in range(2, 10):
        folder = tmp_path / str(seed)
        folder.mkdir()
        check_life(name, folder, seed=seed, steps=60)


@pytest.mark.parametrize("layout", ["managed", "raw"])
def test_an_import_costs_what_opening_its_database_does(tmp_path, layout):
    path = database(tmp_path / "a.db", rows=5_000)
    with Canister(engine="wasm", layout=layout) as canister:
        message = canister.import_database(path).message
        image = canister.image()
    with Canister(
        engine="wasm", layout=layout, trace=":memory:", memory=StableMemory.from_image(image)
    ) as opened:
        expected = opened.trace().messages[0]
    assert message.stable.bytes_written > 4_000_000
    check_instructions(message.instructions)
    assert message.instructions.stable == expected.instructions.stable > 0
    assert message.instructions == expected.instructions
