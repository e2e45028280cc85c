"""Each limit run into on purpose, by each kind of message, on each engine and by a module.

What holds of all: the words are the Internet Computer's (`sqlstable.ic`), the image is what it was,
byte for byte, the next message works, and the trace names the limit.
"""

import csv
import io
import json
from dataclasses import replace
from functools import partial
from itertools import product

import pytest
import wasmtime

from sqlstable import Canister, CanisterModule, Hooks, LimitTrap, latest_limits
from sqlstable.analysis.fitting.fit import message_fit
from sqlstable.analysis.verdict import tightest_limit, verdict
from sqlstable.ic.units import MIB
from sqlstable.ic.words import REPLY_BYTES
from sqlstable.report.as_csv import render_csv
from sqlstable.report.as_json import render_json
from sqlstable.report.as_table import render_table

LATEST = latest_limits()
FILL = (
    "WITH n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 40)"
    " INSERT INTO t SELECT i, zeroblob(3000) FROM n"
)
SCAN = "SELECT sum(length(x)) FROM t"

ACCESSED = (
    "Canister exceeded memory access limits: Exceeded the limit for the number of accessed pages "
    "in the stable memory in a single message execution: limit {update} KB for regular messages "
    "and {query} KB for queries."
)
DIRTY = (
    "Canister exceeded memory access limits: Exceeded the limit for the number of modified pages "
    "in the stable memory in a single execution: limit {update} KB for regular messages, {upgrade} "
    "KB for upgrade messages and {query} KB for queries."
)
INSTRUCTIONS = "Canister exceeded the limit of {most} instructions for single message execution."
REPLY = (
    "Canister violated contract: ic0.msg_reply_data_append: application payload size ({size}) "
    "cannot be larger than {most}."
)

PAGES = {
    "stable_os_pages_accessed": ("os_pages_accessed_max", ACCESSED),
    "stable_os_pages_dirty": ("os_pages_dirty_max", DIRTY),
    "instructions": ("instructions_max", INSTRUCTIONS),
}


def limited(name, kind, most):
    """Return today's limits with another one of one kind of message, and the words of its trap."""
    if name in PAGES:
        field, words = PAGES[name]
        limits = replace(LATEST, **{kind: replace(getattr(LATEST, kind), **{field: most})})
        kib = {it: getattr(getattr(limits, it), field) * 4 for it in ("update", "query", "upgrade")}
        return limits, words.format(most=most, **kib)
    field = "query_reply_bytes_max" if kind == "query" else "reply_bytes_max"
    return replace(LATEST, **{field: most}), REPLY


def assert_named(trace, index, name, limit):
    """Look at what the trace says of the message that trapped."""
    message = trace.messages[index]
    assert (message.trap_limit, verdict(message)) == (name, "exceeds")
    assert (tightest_limit(message).name, tightest_limit(message).limit) == (name, limit)
    assert message_fit(message, LATEST).word == "does not fit"
    assert index in trace.summary.exceeding


# -- SQL ------------------------------------------------------------------------------------------

SQL = {
    ("stable_os_pages_accessed", "update"): (8, FILL),
    ("stable_os_pages_accessed", "query"): (8, SCAN),
    ("stable_os_pages_dirty", "update"): (6, FILL),
    ("stable_os_pages_dirty", "query"): (6, FILL),
    ("instructions", "update"): (3_000_000, FILL),
    ("instructions", "query"): (2_000_000, SCAN),
    ("reply_bytes", "update"): (2_000, "SELECT zeroblob(2000)"),
    ("reply_bytes", "query"): (2_000, "SELECT zeroblob(2000)"),
}
COUNTED = ("instructions", "reply_bytes")
"""Limits that only the measured engine knows of."""


def filled(engine, **choices):
    canister = Canister(engine=engine, trace=":memory:", owners=False, **choices)
    canister.update("CREATE TABLE t (i INTEGER PRIMARY KEY, x)")
    canister.update(FILL.replace("SELECT i, ", "SELECT i + 100, "))
    return canister


@pytest.mark.parametrize(
    ("engine", "name", "kind"),
    [
        (engine, *of_what)
        for of_what in SQL
        for engine in ("native", "wasm")
        if engine == "wasm" or of_what[0] not in COUNTED
    ],
)
def test_a_message_of_sql_meets_each_limit(engine, name, kind):
    most, sql = SQL[name, kind]
    limits, words = limited(name, kind, most)
    with filled(engine) as canister:
        before = canister.image()
        canister.memory.limits = limits
        call = partial(canister.query, cache="cold") if kind == "query" else canister.update
        with pytest.raises(LimitTrap) as raised:
            call(sql)
        with canister.trace() as trace:
            index = len(trace.messages) - 1
            assert_named(trace, index, name, most)
            used = tightest_limit(trace.messages[index]).used
        assert raised.value.limit == name
        assert str(raised.value) == words.format(size=used, most=most)
        assert canister.image() == before
        canister.memory.limits = LATEST
        assert canister.update("INSERT INTO t VALUES (1, 1) RETURNING i").rows == [(1,)]
        assert canister.query("SELECT count(*) FROM t").rows == [(41,)]


@pytest.mark.parametrize("engine", ["native", "wasm"])
def test_stable_memory_that_is_full_traps(engine):
    full = replace(LATEST, stable_memory_wasm_pages_max=9)
    with filled(engine, bucket_pages=2, limits=full) as canister:
        before = canister.image()
        with pytest.raises(LimitTrap, match="grow failed: ") as raised:
            canister.update(FILL.replace("3000", "9000"))
        assert raised.value.limit == "stable_memory_bytes"
        with canister.trace() as trace:
            assert_named(trace, len(trace.messages) - 1, "stable_memory_bytes", 9 << 16)
        assert canister.image() == before
        assert canister.query("SELECT count(*) FROM t").rows == [(40,)]


@pytest.mark.parametrize(
    ("engine", "name", "most"),
    [
        ("native", "stable_os_pages_accessed", 6),
        ("wasm", "stable_os_pages_accessed", 6),
        ("native", "stable_os_pages_dirty", 6),
        ("wasm", "stable_os_pages_dirty", 6),
        ("wasm", "instructions", 2_000_000),
    ],
)
def test_an_upgrade_meets_each_limit(engine, name, most):
    limits, words = limited(name, "upgrade", most)
    with filled(engine) as canister:
        before = canister.image()
        canister.memory.limits = limits
        hooks = None if engine == "wasm" and name == "instructions" else fills_when_upgraded()
        with pytest.raises(LimitTrap) as raised:
            canister.upgrade(hooks=hooks)
        assert (raised.value.limit, str(raised.value)) == (name, words)
        assert canister.image() == before
        canister.memory.limits = LATEST
        assert canister.query("SELECT count(*) FROM t").rows == [(40,)]
        canister.upgrade()


def fills_when_upgraded():
    return Hooks(post_upgrade=lambda message: message.execute(FILL))


def test_statements_of_one_call_share_the_limit_on_its_reply_and_calls_are_judged_together():
    limits = replace(LATEST, reply_bytes_max=2_000)
    with filled("wasm", limits=limits) as canister:
        before = canister.image()
        with pytest.raises(LimitTrap, match="payload size"):
            canister.update("INSERT INTO t VALUES (1, 1); " + "SELECT zeroblob(900); " * 3)
        assert canister.image() == before
        with canister.message() as message:
            for _ in range(3):
                assert message.execute("SELECT zeroblob(900)") == [(bytes(900),)]
        with canister.message() as message:
            assert sum(1 for _ in message.cursor("SELECT substr(x, 1, 99) FROM t")) == 40
        with canister.trace() as trace:
            for found in trace.messages[4:]:
                assert (found.outcome, verdict(found)) == ("committed", "exceeds")
                assert tightest_limit(found).name == REPLY_BYTES
            shown = " ".join(render_table(trace).split())
        assert "3 messages over a limit" in shown
        assert "as a canister need not send all that it reads" in shown


def test_rows_of_three_mebibytes_are_a_query_and_no_update():
    with filled("wasm") as canister:
        mib = "SELECT zeroblob(?)"
        assert len(canister.query(mib, (3 * MIB - 1_000,)).rows[0][0]) == 3 * MIB - 1_000
        for call, size in ((canister.query, 3 * MIB), (canister.update, 2 * MIB)):
            with pytest.raises(LimitTrap, match=f"cannot be larger than {size}"):
                call(mib, (size,))


@pytest.mark.parametrize(
    ("kind", "is_kept"), [("update", True), ("upgrade", True), ("query", False)]
)
def test_a_heap_that_is_too_large_ends_what_would_be_kept(kind, is_kept):
    fills = "SELECT length(hex(zeroblob(6000000)))"
    with filled("wasm") as canister:
        before = canister.image()
        size_bytes = canister.memory.store.machine.tell().heap_size << 16
        canister.memory.limits = replace(LATEST, heap_bytes_max=size_bytes + 5_000_000)
        call = {
            "update": partial(canister.update, fills),
            "query": partial(canister.query, fills),
            "upgrade": partial(
                canister.upgrade, hooks=Hooks(post_upgrade=lambda it: it.execute(fills))
            ),
        }[kind]
        if not is_kept:
            assert call().rows == [(12_000_000,)]
            return
        with pytest.raises(LimitTrap, match="exceeded its current Wasm memory limit of") as raised:
            call()
        assert raised.value.limit == "wasm_memory_limit"
        assert canister.image() == before
        # The heap is that of before as well.
        assert canister.memory.store.machine.tell().heap_size << 16 == size_bytes
        assert canister.update("INSERT INTO t VALUES (1, 1) RETURNING i").rows == [(1,)]
        with canister.trace() as trace:
            # A step of the life cycle that fails leaves no message.
            trapped = [it for it in trace.messages if it.outcome == "trapped"]
            assert len(trapped) == (kind == "update")
            for it in trapped:
                assert (it.trap_limit, verdict(it)) == ("wasm_memory_limit", "exceeds")


@pytest.mark.parametrize("engine", ["native", "wasm", "both"])
def test_measuring_without_traps_says_what_would_have_trapped(engine):
    few = replace(LATEST.update, os_pages_dirty_max=6, instructions_max=3_000_000)
    limits = replace(LATEST, update=few, reply_bytes_max=2_000, heap_bytes_max=1)
    with filled(engine, enforce=False, limits=limits) as canister:
        assert canister.update(f"{FILL} RETURNING x").rows == [(bytes(3000),)] * 40
        with canister.trace() as trace:
            last = trace.messages[-1]
            over = {it.name for it in last.limits if it.used > it.limit}
            stable = {"stable_os_pages_dirty"}
            assert over == (stable if engine == "native" else {*stable, *COUNTED})
            assert (last.outcome, verdict(last)) == ("committed", "exceeds")


# -- arguments of SQL: judged, and no trap --------------------------------------------------------


@pytest.mark.parametrize("kind", ["update", "query"])
@pytest.mark.parametrize("engine", ["wasm", "both"])
def test_an_argument_of_sql_that_is_too_large_runs_and_does_not_fit(engine, kind):
    limits = replace(LATEST, request_bytes_max=500)
    measure = {"measure": "all"} if engine == "both" else {}
    with filled(engine, limits=limits, **measure) as canister:
        with canister.message(kind) as message:
            # Together they are over it, and neither alone.
            for _ in range(2):
                assert message.execute("SELECT length(?)", ("x" * 300,)) == [(300,)]
        with canister.trace() as trace:
            last = trace.messages[-1]
            assert (last.trap, verdict(last)) == (None, "exceeds")
            assert message_fit(last, limits).word == "does not fit"
            use = tightest_limit(last)
            assert (use.name, use.limit) == ("request_bytes", 500)
            assert use.used == last.payloads.request_bytes > 600


def test_what_sql_brings_has_its_size_in_every_format():
    with filled("wasm") as canister:
        rows = [(number, "x" * 1_000) for number in range(2_200)]
        with canister.message() as message:
            message.executemany("INSERT INTO t VALUES (? + 1000, ?)", rows)
        assert canister.query("SELECT count(*) FROM t").rows == [(2_240,)]
        with canister.trace() as trace:
            use = next(it for it in trace.messages[3].limits if it.name == "request_bytes")
            said = json.loads("".join(render_json(trace)))["messages"][3]
            lines = [*csv.DictReader(io.StringIO(render_csv(trace, by="message")))]
            text, by_message = render_table(trace), render_table(trace, by="message")
        assert 2_200_000 < use.used < 2_300_000
        kept = {"name": "request_bytes", "used": use.used, "limit": 2 * MIB}
        assert kept in said["limits"]
        assert kept in said["payload_limits"]
        assert said["tightest_limit"] == kept
        assert (said["verdict"], said["fit"]) == ("exceeds", "does not fit")
        assert "argument and reply" in said["verdict_covers"]
        assert lines[3]["tightest_limit"] == "request_bytes"
        assert lines[3]["request_bytes"] == str(use.used)
        assert int(lines[4]["reply_bytes"]) > 0
        assert (lines[3]["verdict"], lines[3]["tightest_limit_used"]) == ("exceeds", str(use.used))
        for shown in (text, by_message):
            words = " ".join(shown.split())
            assert "1 message over a limit: message 3 (2.1 MiB of 2.0 MiB argument, 107%)" in words
            assert "from outside send the rows in several messages, or let SQL make them" in words


def test_a_reply_that_the_native_engine_lets_through_is_told_and_stops_nothing():
    limits = replace(LATEST, reply_bytes_max=2_000, query_reply_bytes_max=2_000)
    with filled("both", measure="all", limits=limits) as canister:
        assert canister.query("SELECT zeroblob(3000)").rows == [(bytes(3000),)]
        insert = "INSERT INTO t VALUES (?, zeroblob(3000)) RETURNING x"
        for number in range(3):
            assert canister.update(insert, (number,)).rows == [(bytes(3000),)]
        assert canister.update("INSERT INTO t VALUES (9, 9) RETURNING i").rows == [(9,)]
        assert canister.query("SELECT count(*) FROM t").rows == [(44,)]
        with canister.trace() as trace:
            over, last = trace.messages[3:7], trace.messages[7:]
            shown = " ".join(render_table(trace).split())
        for message in over:
            assert "application payload size" in message.sample.difference
            assert (message.trap, verdict(message)) == (None, "exceeds")
            assert (tightest_limit(message).name, tightest_limit(message).limit) == (
                REPLY_BYTES,
                2_000,
            )
        # The measured engine goes on beside it.
        assert [verdict(it) for it in last] == ["fits"] * 2
        assert all("its heap began anew" in it.sample.difference for it in last)
        assert all(it.instructions.measured for it in last)
        assert "4 messages over a limit" in shown
        assert "reaches nobody: ask for less at once, as with LIMIT and a key to go on" in shown
        assert "message 3 does not fit: on the measured engine it trapped" in shown


# -- modules --------------------------------------------------------------------------------------


def image_of(canister):
    [housed] = canister._world.replica.canisters
    return housed.memory.image()


def module(body):
    """Return a module with a method of each kind, and a hook of upgrades, that do one thing."""
    return bytes(
        wasmtime.wat2wasm(f"""(module
          (import "ic0" "stable64_grow" (func $grow (param i64) (result i64)))
          (import "ic0" "stable64_read" (func $read (param i64 i64 i64)))
          (import "ic0" "stable64_write" (func $write (param i64 i64 i64)))
          (import "ic0" "msg_reply_data_append" (func $append (param i32 i32)))
          (import "ic0" "msg_reply" (func $reply))
          (memory 2)
          (func $do {body})
          (func (export "canister_init") (drop (call $grow (i64.const 1))))
          (func (export "canister_post_upgrade") (call $do))
          (func $go (call $do) (call $reply))
          (export "canister_update go" (func $go))
          (export "canister_query look" (func $go))
          (func (export "canister_update idle") (call $reply)))""")
    )


READS = "(call $read (i64.const 0) (i64.const 0) (i64.const 32768))"
WRITES = "(call $write (i64.const 0) (i64.const 0) (i64.const 32768))"
LOOPS = "(loop $next (br $next))"
REPLIES = "(call $append (i32.const 0) (i32.const 2000))"
MODULE = {
    "stable_os_pages_accessed": (READS, 7),
    "stable_os_pages_dirty": (WRITES, 7),
    "instructions": (LOOPS, 1_000_000),
    "reply_bytes": (REPLIES, 1_999),
}


# Nobody waits for the reply of an upgrade.
OF_MODULES = sorted(
    set(product(MODULE, ("update", "query", "upgrade"))) - {("reply_bytes", "upgrade")}
)


@pytest.mark.parametrize(("name", "kind"), OF_MODULES)
def test_a_message_of_a_module_meets_each_limit(name, kind):
    body, most = MODULE[name]
    code = module(body)
    limits, words = limited(name, kind, most)
    with CanisterModule(code, limits=limits, trace=":memory:") as canister:
        before = image_of(canister)
        call, what = {
            "update": (canister.update, "go"),
            "query": (canister.query, "look"),
            "upgrade": (canister.upgrade, code),
        }[kind]
        with pytest.raises(LimitTrap) as raised:
            call(what)
        assert raised.value.limit == name
        assert str(raised.value).startswith(words.format(size=2000, most=most))
        assert image_of(canister) == before
        canister.update("idle")
        with canister.trace() as trace:
            trapped = [it.index for it in trace.messages if it.outcome == "trapped"]
            assert len(trapped) == 1
            assert_named(trace, trapped[0], name, most)


def test_an_argument_that_is_too_large_is_refused_before_a_module_runs():
    limits = replace(LATEST, request_bytes_max=500)
    with CanisterModule(module(""), limits=limits, trace=":memory:") as canister:
        before = image_of(canister)
        for call, method in ((canister.update, "go"), (canister.query, "look")):
            call(method, bytes(500 - len(method)))
            assert "the call has 501 bytes, and a message from outside has 500 at most" in str(
                call(method, bytes(501 - len(method)))
            )
        assert image_of(canister) == before
        with canister.trace() as trace:
            assert [it.kind for it in trace.messages] == ["install", "update", "query"]
            # The name of the method counts for what the network takes, and is no payload.
            assert [it.limits[-2].used for it in trace.messages[1:]] == [498, 496]


GROWS = "(drop (memory.grow (i32.const 49152)))"


@pytest.mark.parametrize(
    ("kind", "is_kept"),
    [("update", True), pytest.param("upgrade", True, marks=pytest.mark.slow), ("query", False)],
)
def test_a_heap_of_a_module_that_is_too_large_ends_what_would_be_kept(kind, is_kept):
    code = module(f"(call $write (i64.const 0) (i64.const 0) (i64.const 9)) {GROWS}")
    with CanisterModule(code, trace=":memory:") as canister:
        before = image_of(canister)
        call, what = {
            "update": (canister.update, "go"),
            "query": (canister.query, "look"),
            "upgrade": (canister.upgrade, code),
        }[kind]
        if not is_kept:
            call(what)
            return
        with pytest.raises(LimitTrap, match="exceeded its current Wasm memory limit of") as raised:
            call(what)
        assert raised.value.limit == "wasm_memory_limit"
        assert image_of(canister) == before
        canister.update("idle")


def test_a_heap_of_a_module_grows_to_four_gibibytes_at_most():
    # A growth that is refused is an answer, and no trap.
    body = """(if (i32.ne (memory.grow (i32.const 65535)) (i32.const -1)) (then unreachable))
      (if (i32.ne (memory.size) (i32.const 2)) (then unreachable))"""
    with CanisterModule(module(body), trace=":memory:") as canister:
        canister.update("go")
        canister.query("look")
