"""A canister is one heap in one process: page caches, heap limits, local time."""

import time
from contextlib import closing

import apsw
import pytest

from sqlstable import Canister, SqlError
from tests.children import environment, run_python
from tests.one_canister import COUNTS, ENGINES, canister_fixture, trap  # noqa: F401  a fixture

# -- page caches -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sql",
    [
        "EXPLAIN INSERT INTO t VALUES (5)",
        "DELETE FROM t WHERE x = -1",
        "BEGIN IMMEDIATE; COMMIT",
        "PRAGMA user_version",
        "CREATE TEMP TABLE u (x); INSERT INTO u VALUES (1)",
        "SELECT name FROM sqlite_temp_schema",
    ],
)
def test_a_warm_query_that_changes_nothing_stable_costs_the_next_update_nothing(sql):
    counts = []
    for engine in ENGINES:
        for query in ("SELECT 1", sql):
            with Canister(engine=engine) as canister:
                canister.update("CREATE TABLE t (x); INSERT INTO t VALUES (1)")
                canister.update("INSERT INTO t VALUES (2)")
                canister.query(query, cache="warm")
                footprint = canister.update("INSERT INTO t VALUES (3)").footprint
                counts.append((footprint.calls.read, footprint.os_pages_dirty))
    assert set(counts) == {(0, 1)}


@pytest.mark.parametrize("cache", ["fresh", "cold"])
@pytest.mark.parametrize(
    "sql", ["SELECT * FROM missing", "CREATE TABLE u (x); SELECT * FROM missing"]
)
def test_a_query_that_failed_costs_the_next_update_nothing(canister, cache, sql):
    canister.update("CREATE TABLE t (x); INSERT INTO t VALUES (1)")
    canister.update("INSERT INTO t VALUES (2)")
    with pytest.raises(SqlError, match="no such table: missing"):
        canister.query(sql, cache=cache)
    footprint = canister.update("INSERT INTO t VALUES (3)").footprint
    assert (footprint.calls.read, footprint.os_pages_dirty) == (0, 1)


def test_an_sql_transaction_outlives_a_query_that_failed():
    with Canister() as canister:
        canister.update("CREATE TABLE t (x)")
        with canister.message(keep_open=True) as message:
            message.execute("BEGIN; INSERT INTO t VALUES (1)")
        with pytest.raises(SqlError, match="no such table: missing"):
            canister.query("SELECT * FROM missing")
        canister.update("COMMIT")
        assert canister.query("SELECT x FROM t").rows == [(1,)]


def test_a_read_only_image_answers_with_its_state(tmp_path):
    path = tmp_path / "image.stable"
    with Canister(path) as canister:
        canister.update("CREATE TABLE t (x)")
    with Canister(path, read_only=True) as canister:
        assert canister.query(COUNTS).rows == [(0, 0, 0)]
        assert canister.query("PRAGMA foreign_keys", cache="warm").rows == [(0,)]


def test_the_heap_of_a_step_that_failed_comes_back(canister, tmp_path):
    canister.update("PRAGMA foreign_keys = on; CREATE TEMP TABLE t (x)")
    canister.update("INSERT INTO t VALUES (1), (2)")
    path = tmp_path / "app.db"
    with closing(apsw.Connection(str(path))) as connection:
        connection.execute("CREATE TABLE t (x)")
    broken = bytearray(path.read_bytes())
    broken[100] = 77
    with pytest.raises(Exception, match=r"."):
        canister.import_database(bytes(broken[:4000]))
    assert canister.query("SELECT count(*), changes() FROM t").rows == [(2, 2)]
    assert canister.query("PRAGMA foreign_keys").rows == [(1,)]


# -- what is the process's -------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "temp.", "side."])
@pytest.mark.parametrize("name", ["hard_heap_limit", "soft_heap_limit"])
@pytest.mark.parametrize("kind", ["update", "query", "trap"])
def test_a_heap_limit_stays_inside_of_the_canister(name, prefix, kind):
    limit = getattr(apsw, name)
    before = limit(-1)
    with Canister() as canister:
        canister.update("ATTACH ':memory:' AS side; CREATE TEMP TABLE t (x)")
        sql = f"PRAGMA {prefix}{name} = 100000000"
        refused = ""
        try:
            if kind == "trap":
                trap(canister, sql)
            else:
                getattr(canister, kind)(sql)
        except SqlError as error:
            refused = str(error)
        assert limit(-1) == before
        if not prefix and kind != "trap":
            assert refused.startswith(f"PRAGMA {name} would set a limit on the heap of this whole")
            assert "wasm engine" in refused
        assert canister.query(f"PRAGMA {name}").rows == [(before,)]


def test_a_folder_and_threads_are_refused():
    with Canister() as canister:
        with pytest.raises(SqlError, match="a folder for this whole process; leave it out"):
            canister.update("PRAGMA temp_store_directory = '/tmp'")
        with pytest.raises(SqlError, match="threads, of which a canister has one"):
            canister.query("PRAGMA threads = 4")
        assert canister.query("PRAGMA threads = 0").rows == [(0,)]
        assert canister.query("PRAGMA temp_store_directory").rows == []


ZONES = (
    "SELECT datetime('2026-07-01 12:00', 'localtime'), datetime('2026-07-01 12:00', 'utc'), "
    "strftime('%H:%M', '2026-01-01 06:30', 'LocalTime', '+1 hour'), "
    "date('now', 'localtime'), unixepoch('2026-07-01', 'utc'), time(0, 'unixepoch', 'localtime'), "
    "date('2026-01-31', '+1 month'), julianday('2026-07-01 12:00', 'localtime')"
)
IN_UTC = [
    (
        *("2026-07-01 12:00:00", "2026-07-01 12:00:00", "07:30", "2026-01-01", 1782864000),
        *("00:00:00", "2026-03-03", 2461223.0),
    )
]


@pytest.mark.parametrize(
    "zone",
    [
        "UTC",
        "Asia/Kathmandu",
        *(
            pytest.param(zone, marks=pytest.mark.slow)
            for zone in ("America/New_York", "Europe/London")
        ),
    ],
)
def test_local_time_is_utc_whatever_the_zone_of_the_process(zone):
    program = (
        "import sqlstable\n"
        "with sqlstable.Canister() as canister:\n"
        f"    sql = {ZONES!r}\n"
        "    canister.update('CREATE TABLE t (x DEFAULT (datetime(0, ?)))'"
        ".replace('?', \"'unixepoch', 'localtime'\"))\n"
        "    canister.update('INSERT INTO t DEFAULT VALUES')\n"
        "    rows = [canister.query(sql, cache=c).rows for c in ('fresh', 'cold', 'warm')]\n"
        "    print(rows, canister.update(sql).rows, canister.query('SELECT x FROM t').rows)\n"
    )
    told = run_python(program, env=environment(TZ=zone)).strip()
    assert told == f"{[IN_UTC] * 3} {IN_UTC} [('1970-01-01 00:00:00',)]"


def test_local_time_stays_utc_when_the_zone_of_the_process_changes(monkeypatch):
    with Canister() as canister:
        assert canister.update(ZONES).rows == canister.query(ZONES).rows == IN_UTC
        monkeypatch.setenv("TZ", "America/New_York")
        time.tzset()
        try:
            assert canister.update(ZONES).rows == canister.query(ZONES).rows == IN_UTC
            assert canister.query(ZONES, cache="fresh").rows == IN_UTC
        finally:
            monkeypatch.undo()
            time.tzset()
