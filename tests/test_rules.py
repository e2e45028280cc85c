"""The rules that always hold, one by one, under the numbers that ARCHITECTURE.md gives them.

Each is shown here once, on a small case; the sweeps and random tests of `tests/sim` and of the
modules go further.
"""

import sqlite3
from contextlib import closing
from dataclasses import replace
from itertools import product

import pytest

import sqlstable
from sqlstable import Canister, LimitTrap, StableMemory, Trap, latest_limits
from sqlstable.ic.units import WASM_PAGE_BYTES
from sqlstable.ic.words import PHASES
from tests.children import environment, run_python
from tests.doors import series
from tests.rules_world import (
    FILL,
    LAYOUTS,
    SCHEMA,
    address_of,
    bucket_owners,
    update_and_trap,
)

ALL_LAYOUTS = (*LAYOUTS, "froghub", "ic-sqlite-vfs")
MORE = FILL.replace("SELECT i,", "SELECT i + 5000,")


def filled(**options):
    canister = Canister(**options)
    for sql in (*SCHEMA, FILL):
        canister.update(sql)
    return canister


# -- rule 1: nothing uncommitted survives, nothing committed is lost ------------------------------


@pytest.mark.parametrize("cache", ["fresh", "cold", "warm"])
@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM item",
        "UPDATE item SET body = 'gone'",
        "DROP TABLE item",
        MORE,
        "VACUUM",
        "PRAGMA user_version = 5",
        "INSERT INTO note VALUES ('gone')",
        "BEGIN; DELETE FROM item; COMMIT; VACUUM",
    ],
)
def test_rule_1_a_query_never_changes_the_image(sql, cache):
    canister = filled(bucket_pages=1)
    before = canister.image()
    reply = canister.query(sql, cache=cache)
    assert reply.outcome == "discarded"
    assert canister.image() == before
    canister.update("INSERT INTO item VALUES (900, 'kept', '')")
    assert canister.query("SELECT count(*), max(id) FROM item").rows == [(61, 900)]
    assert canister.query("PRAGMA integrity_check").rows == [("ok",)]
    canister.close()


@pytest.mark.parametrize("layout", ALL_LAYOUTS)
def test_rule_1_a_message_that_traps_leaves_the_image_as_it_was_size_included(layout):
    canister = filled(layout=layout, bucket_pages=1)
    before, wasm_pages = canister.image(), canister.memory.wasm_pages
    with pytest.raises(Trap, match="all done"):
        update_and_trap(canister, MORE, "DROP TABLE note")
    assert canister.image() == before
    assert canister.memory.wasm_pages == wasm_pages
    canister.close()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_rule_1_what_is_derived_from_the_image_is_derived_anew_after_a_rollback(layout):
    canister = filled(layout=layout, bucket_pages=1)
    size_bytes = canister.status().database_size_bytes
    with pytest.raises(Trap, match="all done"):
        update_and_trap(canister, MORE)
    assert canister.status().database_size_bytes == size_bytes
    # The manager's tables say so too: the same growth again takes the same buckets.
    canister.update(MORE)
    assert layout == "raw" or set(bucket_owners(canister.image())) == {120}
    assert canister.query("SELECT count(*) FROM item").rows == [(120,)]
    assert canister.query("PRAGMA integrity_check").rows == [("ok",)]
    canister.close()


def test_rule_1_an_answered_message_is_there_after_an_upgrade_and_in_a_copy_of_the_image():
    canister = filled()
    canister.update("INSERT INTO item VALUES (900, 'answered', '')")
    canister.upgrade()
    sql = "SELECT name FROM item WHERE id = 900"
    assert canister.query(sql).rows == [("answered",)]
    with Canister(memory=StableMemory.from_image(canister.image())) as copy:
        assert copy.query(sql).rows == [("answered",)]
    canister.close()


# -- rule 4: both engines agree; as far as one engine can show it ---------------------------------


def test_rule_4_cold_and_fresh_messages_do_not_depend_on_what_ran_before():
    sql = "SELECT count(*) FROM item JOIN log ON log.what = item.name WHERE item.id < 30"
    seen = {"cold": set(), "fresh": set()}
    for history in ([], ["SELECT * FROM item"], ["UPDATE item SET body = 1"], ["VACUUM"]):
        canister = filled()
        for statement in history:
            canister.query(statement)
        canister.query("SELECT * FROM item", cache="warm")
        for cache, footprints in seen.items():
            footprint = canister.query(sql, cache=cache).footprint
            footprints.add((footprint.calls, footprint.bytes_read, tuple(footprint.accessed)))
        canister.close()
    assert [len(footprints) for footprints in seen.values()] == [1, 1]


@pytest.mark.parametrize("layout", ["managed", "raw"])
def test_rule_4_both_engines_agree_in_fresh_and_cold_messages(layout):
    """At length in tests/sim/test_wasm_differential.py."""
    seen = []
    for engine in ("native", "wasm"):
        with sqlstable.Canister(engine=engine, layout=layout) as canister:
            canister.update("CREATE TABLE t (id INTEGER PRIMARY KEY, x TEXT)")
            with canister.message() as message, message.transaction():
                message.executemany(
                    "INSERT INTO t (x) VALUES (?)", [(f"row {i}" * 40,) for i in range(500)]
                )
            canister.update("CREATE INDEX t_x ON t (x)")
            told = [canister.image()]
            for cache in ("fresh", "cold"):
                for sql in ("SELECT count(x) FROM t", "SELECT id FROM t WHERE x > 'row 3'"):
                    reply = canister.query(sql, cache=cache)
                    told.append((reply.rows, reply.message.stable, list(reply.footprint.accessed)))
            seen.append(told)
    assert seen[0] == seen[1]


def test_rule_4_cache_sizes_are_sqlite_pages_for_every_engine():
    with Canister(cache_size=-2000) as canister:
        # 2000 KiB over 4096 bytes and the 88 that SQLite adds on wasm32.
        assert canister.settings.cache_size == 2000 * 1024 // (4096 + 88) == 489
        assert canister.query("PRAGMA cache_size").rows == [(489,)]


# -- rule 5: same input, same trace ---------------------------------------------------------------


RUN = """
import sys
import sqlstable

with sqlstable.Canister(trace=sys.argv[1]) as canister:
    canister.update("CREATE TABLE t (a UNIQUE, b, at DEFAULT CURRENT_TIMESTAMP); "
                    "CREATE VIRTUAL TABLE f USING fts5(x)")
    canister.update("INSERT INTO t (a, b) WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n "
                    "LIMIT 500) SELECT random(), hex(randomblob(40)) FROM n")
    canister.update("INSERT INTO f SELECT b FROM t")
    canister.query("SELECT *, datetime('now') FROM t JOIN f ON f.x = t.b LIMIT 9")
    try:
        with canister.message("update") as message:
            message.execute("DELETE FROM t WHERE random() % 2")
            message.trap()
    except sqlstable.Trap:
        pass
    canister.upgrade()
    canister.update("DELETE FROM t WHERE a > 0; VACUUM")
    with open(sys.argv[2], "wb") as file:
        file.write(canister.image())
"""


@pytest.mark.slow
def test_rule_5_same_input_same_trace_and_image_byte_for_byte(tmp_path):
    made = []
    for hash_seed in ("1", "271828"):
        folder = tmp_path / hash_seed
        folder.mkdir()
        values = environment(PYTHONHASHSEED=hash_seed, TZ=f"UTC+{hash_seed[0]}")
        run_python(RUN, folder / "run.trace", folder / "image", env=values, cwd=folder)
        made.append([(folder / name).read_bytes() for name in ("run.trace", "image")])
    assert made[0] == made[1]


# -- rule 6: the image is the database ------------------------------------------------------------


@pytest.mark.parametrize(("page_size", "layout"), [*product((512, 4096, 65_536), LAYOUTS)])
def test_rule_6_after_extract_plain_sqlite_opens_it(page_size, layout, tmp_path):
    canister = filled(page_size=page_size, layout=layout, bucket_pages=1)
    rows = canister.query("SELECT * FROM item").rows
    size_bytes = canister.extract_database(tmp_path / "plain.db")
    image = canister.image()
    data = (tmp_path / "plain.db").read_bytes()
    assert len(data) == size_bytes == int.from_bytes(data[28:32], "big") * page_size
    for offset in range(0, size_bytes, 512):
        address = address_of(image, layout, offset)
        assert data[offset : offset + 512] == image[address : address + 512]
    with closing(sqlite3.connect(tmp_path / "plain.db")) as plain:
        assert plain.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert plain.execute("PRAGMA page_size").fetchall() == [(page_size,)]
        assert plain.execute("SELECT * FROM item").fetchall() == rows
    canister.close()


# -- rule 7: upgrade cost does not depend on database size ----------------------------------------


@pytest.mark.parametrize("layout", ALL_LAYOUTS)
def test_rule_7_an_upgrade_accesses_the_same_whatever_the_database_size(layout):
    uses = []
    for rows in (1, 100, 10_000):
        canister = Canister(layout=layout)
        canister.update("CREATE TABLE t (x)")
        canister.update(f"INSERT INTO t SELECT hex(zeroblob(100)) FROM {series(rows)}")
        reply = canister.upgrade()
        uses.append((reply.footprint.use, reply.footprint.accessed.tolist()))
        assert reply.footprint.os_pages_dirty == 0
        canister.close()
    assert uses[0] == uses[1] == uses[2]


# -- rule 8: a limit reached is a trap with the IC's own words ------------------------------------


ACCESSED_TEXT = (
    "Canister exceeded memory access limits: Exceeded the limit for the number of accessed pages "
    "in the stable memory in a single message execution: limit 160 KB for regular messages and "
    "80 KB for queries."
)
DIRTY_TEXT = (
    "Canister exceeded memory access limits: Exceeded the limit for the number of modified pages "
    "in the stable memory in a single execution: limit 40 KB for regular messages, 8388608 KB for "
    "upgrade messages and 20 KB for queries."
)


def small_limits():
    latest = latest_limits()
    update = replace(latest.update, os_pages_accessed_max=40, os_pages_dirty_max=10)
    query = replace(latest.query, os_pages_accessed_max=20, os_pages_dirty_max=5)
    return replace(latest, update=update, query=query, stable_memory_wasm_pages_max=6)


def limited(limits=None, **options):
    """A canister of 60 filled OS pages whose next messages may access fewer."""
    canister = Canister(limits=limits or small_limits(), bucket_pages=1, **options)
    canister.update("CREATE TABLE t (id INTEGER PRIMARY KEY, x)")
    for start in range(0, 60, 5):
        canister.update(
            f"INSERT INTO t SELECT {start} + i, printf('%.*c', 3000, 'x') FROM {series(5)}"
        )
    return canister


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("kind", "sql", "text", "accessed", "dirty"),
    [
        ("update", "SELECT count(x) FROM t", ACCESSED_TEXT, 40, 0),
        ("query", "SELECT count(x) FROM t", ACCESSED_TEXT, 20, 0),
        ("update", "UPDATE t SET x = x || 'y' WHERE id < 20", DIRTY_TEXT, None, 10),
        ("query", "UPDATE t SET x = x || 'y' WHERE id < 10", DIRTY_TEXT, None, 5),
    ],
)
def test_rule_8_os_page_limits_trap_at_the_access_that_crosses_them(
    layout, kind, sql, text, accessed, dirty
):
    canister = limited(layout=layout, trace=":memory:")
    canister.upgrade()
    before = canister.image()
    with pytest.raises(LimitTrap) as caught, canister.message(kind) as message:
        message.execute(sql)
    assert str(caught.value) == text
    assert canister.image() == before
    with closing(canister.trace()) as trace:
        message = trace.messages[-1]
        assert (message.outcome, message.trap) == ("trapped", text)
        # Everything up to the limit was counted, and nothing beyond.
        assert accessed in (None, message.stable.os_pages_accessed)
        assert message.stable.os_pages_dirty == dirty
        assert {limit.name: limit.used for limit in message.limits}[
            "stable_os_pages_dirty"
        ] == dirty
    assert canister.query("SELECT count(*) FROM t WHERE id < 9").rows == [(8,)]
    canister.close()


@pytest.mark.parametrize("layout", ALL_LAYOUTS)
@pytest.mark.parametrize("name", ["os_pages_accessed_max", "os_pages_dirty_max"])
def test_rule_8_exactly_the_limit_is_allowed_and_one_less_is_not(layout, name):
    sql = "UPDATE t SET x = x || 'y' WHERE id < 16"
    latest = latest_limits()
    with limited(latest, layout=layout) as canister:
        used = getattr(canister.query(sql).footprint, name.removesuffix("_max"))
    assert used > 10
    for limit in (used, used - 1):
        limits = replace(latest, query=replace(latest.query, **{name: limit}))
        with limited(limits, layout=layout) as canister:
            if limit == used:
                assert canister.query(sql).discarded_writes
            else:
                with pytest.raises(LimitTrap, match="memory access limits"):
                    canister.query(sql)


def test_rule_8_a_trapped_message_stays_trapped_even_if_the_exception_is_swallowed():
    canister = limited()
    canister.upgrade()
    before = canister.image()
    caught = []

    def swallow(call, *arguments):
        with pytest.raises(LimitTrap) as swallowed:
            call(*arguments)
        caught.append(swallowed.value)

    def run():
        with canister.message("update") as message:
            message.execute("INSERT INTO t VALUES (900, 'before the trap')")
            swallow(message.execute, "SELECT count(x) FROM t")
            swallow(message.execute, "INSERT INTO t VALUES (901, 'after the trap')")
            swallow(message.execute, "SELECT 1")
            swallow(message.executemany, "INSERT INTO t VALUES (?, 1)", [(902,)])
            swallow(message.cursor, "SELECT 1")
            swallow(message.trap)

    with pytest.raises(LimitTrap) as final:
        run()
    assert [trap is final.value for trap in caught] == [True] * 6
    assert canister.image() == before
    assert canister.query("SELECT count(*) FROM t WHERE id > 899").rows == [(0,)]
    canister.close()


def test_rule_8_a_managed_memory_that_cannot_grow_traps():
    canister = limited(replace(latest_limits(), stable_memory_wasm_pages_max=6))
    before = canister.image()
    with pytest.raises(LimitTrap, match=r"grow failed: 6 buckets .* the memory below has 6 and"):
        canister.update("INSERT INTO t VALUES (900, printf('%.*c', 200000, 'x'))")
    assert canister.image() == before
    canister.update("INSERT INTO t VALUES (900, 'a little')")
    assert canister.memory.wasm_pages <= 6
    canister.close()


def test_rule_8_a_raw_memory_that_cannot_grow_fails_the_statement_and_the_message_may_go_on():
    limits = replace(latest_limits(), stable_memory_wasm_pages_max=6)
    canister = limited(limits, layout="raw")
    with canister.message("update") as message:
        message.execute("DELETE FROM t WHERE id = 1")
        with pytest.raises(
            sqlstable.SqlError, match=r"stable memory is full.*393216 are allocated"
        ):
            message.execute("INSERT INTO t VALUES (900, printf('%.*c', 300000, 'x'))")
    assert message.reply.outcome == "committed"
    assert canister.query("SELECT min(id), max(id) FROM t").rows == [(2, 60)]
    canister.close()


# -- rule 9: observing changes nothing ------------------------------------------------------------


@pytest.mark.parametrize("layout", ALL_LAYOUTS)
def test_rule_9_owners_plans_depth_and_trace_change_no_count(layout, tmp_path):
    seen = []
    for owners, plans, depth, traced in (
        (True, True, "counters", True),
        (False, True, "counters", True),
        (True, False, "counters", False),
        (False, True, "pages", False),
        (False, False, "pages", False),
    ):
        trace = tmp_path / f"{len(seen)}.trace" if traced else None
        canister = Canister(
            layout=layout, bucket_pages=1, cache_size=9, trace=trace, owners=owners, depth=depth
        )
        canister.machine.recorder.plans = plans
        seen.append([*counts_of_a_workload(canister), canister.image()])
        canister.close()
    assert all(one == seen[0] for one in seen)


def counts_of_a_workload(canister):
    replies = [canister.update(sql) for sql in (*SCHEMA, FILL)]
    sql = "SELECT name, body FROM item WHERE name > ? ORDER BY body DESC LIMIT 5"
    states = ("fresh", "cold", "warm", "cold")
    replies += [canister.query(sql, ("name 3",), cache=cache) for cache in states]
    with canister.message("update") as message:
        message.executemany("INSERT INTO item (name) VALUES (?)", [("a",), ("b",)])
        with closing(message.cursor("SELECT * FROM item")) as cursor:
            next(cursor)
            message.execute("UPDATE item SET name = name || 'x' WHERE id % 7 = 0")
    replies += [message.reply, canister.upgrade(), canister.update("DROP TABLE log; VACUUM")]
    for reply in replies:
        phases = [[statement.phases[phase] for phase in PHASES] for statement in reply.statements]
        yield (reply.rows, reply.message.stable, phases, reply.message.outside)
        yield (reply.footprint.accessed.tolist(), reply.footprint.dirty.tolist())


def test_rule_9_looking_at_status_image_and_extract_is_never_recorded(tmp_path):
    plain, watched = filled(), filled()
    for canister in (plain, watched):
        canister.query("SELECT * FROM log")
    watched.status()
    watched.image()
    watched.extract_database(tmp_path / "copy.db")
    watched.on_connect(lambda connection: connection.execute("SELECT * FROM item").fetchall())
    sql = "SELECT count(*) FROM log"
    uses = [canister.query(sql).footprint.use for canister in (plain, watched)]
    assert uses[0] == uses[1]
    for canister in (plain, watched):
        canister.close()


# -- rule 10: bad input gets a clear error and changes nothing ------------------------------------


@pytest.mark.parametrize(
    ("action", "error", "text"),
    [
        (lambda c: c.update("INSRT INTO item"), sqlstable.SqlError, r'near "INSRT".*in: INSRT'),
        (lambda c: c.update("INSERT INTO item VALUES (1)"), sqlstable.SqlError, "3 columns"),
        (lambda c: c.update("INSERT INTO item VALUES (1, 2, 3)"), sqlstable.SqlError, "UNIQUE"),
        (lambda c: c.update("DELETE FROM item; SELECT * FROM no"), sqlstable.SqlError, "no such"),
        (lambda c: c.update("SELECT ?", ()), sqlstable.SqlError, "has 1 parameters, and 0 of"),
        (lambda c: c.query("SELECT 1", cache="hot"), sqlstable.SettingsError, "fresh, cold, warm"),
        (lambda c: c.message("upgrade"), sqlstable.SettingsError, "update, query"),
        (lambda c: c.update("BEGIN; DELETE FROM item"), sqlstable.MessageError, "open SQL trans"),
        (lambda c: c.import_database(__file__), sqlstable.MessageError, "reinstall it first"),
        (lambda c: c.extract_database(__file__), sqlstable.ImageError, "exists already"),
        (lambda c: c.update(f"ATTACH '{'n' * 300}' AS o"), sqlstable.SqlError, "can have 1 to 240"),
    ],
)
def test_rule_10_bad_input_gets_a_clear_error_and_changes_nothing(action, error, text):
    canister = filled()
    before = canister.image()
    with pytest.raises(error, match=text):
        action(canister)
    assert canister.image() == before
    assert canister.query("SELECT count(*) FROM item").rows == [(60,)]
    canister.update("DELETE FROM item")
    canister.close()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"page_size": 1000}, "page_size is 1000; it must be a power of two"),
        ({"page_size": 131_072}, "from 512 to 65536"),
        ({"cache_size": 0}, "cache_size is 0"),
        (
            {"journal_mode": "wal", "layout": "raw"},
            "journal_mode wal is not available",
        ),
        ({"journal_mode": "never"}, "one of memory, off, delete, truncate, persist$"),
        ({"growth": "byte"}, "one of bucket, wasm-page"),
        ({"layout": "flat"}, "one of managed, raw"),
        ({"bucket_pages": 0}, "bucket_pages is 0"),
        ({"bucket_pages": 32_768}, "bucket"),
        ({"preset": "none"}, "ic-rusqlite, ic-sqlite-vfs"),
        ({"preset": "ic-rusqlite", "layout": "raw"}, r"\(of preset ic-rusqlite\)"),
        ({"limits": "2020-01-01"}, "earliest date is 2021-05-10"),
        ({"limits": "soon"}, "YYYY-MM-DD"),
        ({"now": "yesterday"}, "give a date and time"),
        ({"engine": "steam"}, "one of native"),
        ({"depth": "deep"}, "counters, pages"),
    ],
)
def test_rule_10_a_bad_setting_is_named_with_what_is_possible(options, text):
    with pytest.raises(sqlstable.SettingsError, match=text):
        Canister(**options)


@pytest.mark.parametrize("layout", ALL_LAYOUTS)
def test_rule_10_a_foreign_memory_is_refused_and_left_as_it_was(layout):
    memory = StableMemory()
    memory.grow(2)
    memory.write(0, b"something else entirely")
    before = memory.image()
    with pytest.raises(sqlstable.ImageError, match=r"bytes.*begin with|begins with the bytes"):
        Canister(memory=memory, layout=layout)
    # It is still the caller's.
    assert memory.image() == before
    memory.write(0, b"usable")
    assert memory.size() * WASM_PAGE_BYTES == len(before)
