"""Where addresses, memory or SQLite's own limits run out on the wasm engine: one clear error."""

import re
import sys

import pytest

from sqlstable import Canister, LimitTrap, SqlError, Trap
from tests.children import run_python

NUMBERS = (
    "(WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n LIMIT 2000)"
)

TOO_MUCH = {
    "SELECT zeroblob(1000000001)": (SqlError, "string or blob too big"),
    "SELECT length(zeroblob(1000000000) || 'x')": (SqlError, "string or blob too big"),
    "INSERT INTO t VALUES (zeroblob(1000000000))": (SqlError, "string or blob too big"),
    "SELECT randomblob(300000000)": (LimitTrap, "exceeded the limit of 5000000000 instructions"),
    "SELECT zeroblob(900000000)": (LimitTrap, "exceeded the limit of 5000000000 instructions"),
    f"SELECT group_concat(zeroblob(1000000)) FROM {NUMBERS}": (
        LimitTrap,
        "exceeded the limit",
    ),
    "SELECT " + "1," * 3000 + "1": (SqlError, "too many columns in result set"),
    "SELECT " + "1+" * 2000 + "1": (SqlError, "Expression tree is too large"),
    "SELECT ?40000": (SqlError, "variable number must be between"),
    "SELECT CAST(x'ff' AS TEXT)": (SqlError, "column 0 of row 0 is not UTF-8"),
}


SLOW = re.compile(r"zeroblob\((?!1000000001)|randomblob")


def marked(sql):
    return pytest.param(sql, marks=pytest.mark.slow) if SLOW.search(sql) else sql


@pytest.mark.parametrize("sql", [marked(sql) for sql in TOO_MUCH], ids=lambda sql: sql[:40])
def test_limits_of_sqlite_end_in_its_words_and_the_canister_goes_on(sql):
    kind, words = TOO_MUCH[sql]
    with Canister(engine="wasm") as canister:
        canister.update("CREATE TABLE t (x)")
        with pytest.raises(kind, match=re.escape(words)):
            canister.query(sql)
        assert canister.update("INSERT INTO t VALUES (1) RETURNING x").rows == [(1,)]


def test_long_sql_runs():
    with Canister(engine="wasm") as canister:
        assert canister.query("SELECT 1 -- " + "x" * 10_000_000).rows == [(1,)]


def test_a_heap_that_is_full_is_out_of_memory_and_the_canister_goes_on():
    with Canister(engine="wasm", limits=None) as canister:
        canister.update("CREATE TABLE t (x)")
        # As a heap of 4 GiB would be, and sooner.
        canister.update("PRAGMA hard_heap_limit = 20000000")
        with pytest.raises(SqlError, match="out of memory"):
            canister.query("SELECT length(zeroblob(30000000) || 'x')")
        with pytest.raises(SqlError, match="out of memory"):
            canister.update("INSERT INTO t VALUES (zeroblob(30000000) || 'x')")
        assert canister.update("INSERT INTO t VALUES (1) RETURNING x").rows == [(1,)]


def test_a_call_that_no_heap_holds_is_refused():
    class Huge(bytes):
        def __len__(self):
            return 1 << 32

    with Canister(engine="wasm") as canister:
        machine = canister.memory.store.machine
        with pytest.raises(Trap, match="a heap has 4 GiB"):
            machine.call("canister_update execute", Huge(b"x"))


OPEN_MANY = """
import re, resource
from pathlib import Path
from sqlstable import Canister, SettingsError

Canister(engine="wasm").close()
used = int(re.search(r"VmSize:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) << 10
resource.setrlimit(resource.RLIMIT_AS, (used + (2500 << 30),) * 2)
there = []
try:
    while len(there) < 200:
        there.append(Canister(engine="wasm"))
        there[-1].update("CREATE TABLE t (x)")
except SettingsError as error:
    print(len(there), error)
try:
    there[0].reinstall()
except SettingsError as error:
    print("reinstall", error)
there.pop().close()
there.append(Canister(engine="wasm"))
print(there[0].query("SELECT count(*) FROM t").rows, there[1].query("SELECT 1").rows)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_where_addresses_run_out_there_is_one_error_and_room_again_after_a_close():
    opened, reinstalled, last = run_python(OPEN_MANY).splitlines()
    text = "no addresses left for another canister of the wasm engine"
    assert opened.startswith("2 ")
    assert text in opened
    assert "ulimit -v" in opened
    assert reinstalled.startswith("reinstall ")
    assert text in reinstalled
    assert last == "[(0,)] [(1,)]"
