"""Rows that two trees of the project are compared by, on the public door alone.

``benchmarks.beside`` runs this file in child processes, each with one of the trees on its path; it
imports nothing else of the benchmarks. A group is printed as JSON: the processor's seconds by row.
"""

import gc
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw

from sqlstable import Canister, StableMemory, StableVFS

SETUP = (
    "CREATE TABLE account (id INTEGER PRIMARY KEY, owner TEXT, balance INTEGER)",
    (
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10000) "
        "INSERT INTO account SELECT i, 'owner ' || i, i * 7919 % 10007 FROM n"
    ),
    "CREATE INDEX by_balance ON account (balance)",
)
POINT = "SELECT owner FROM account WHERE id = ?"
UPDATE = "UPDATE account SET balance = balance + 1 WHERE id = ?"
SCAN = "SELECT sum(balance), sum(length(owner)) FROM account"
RANGE = "SELECT sum(length(owner)) FROM account WHERE balance BETWEEN ? AND ? + 1000"


def best(action: Callable[[], object], *, calls: int, repeats: int = 3) -> float:
    """Return the least mean of the processor's seconds of one call."""
    found = []
    action()
    for _ in range(repeats):
        gc.collect()
        gc.freeze()
        begin = time.process_time()
        for _ in range(calls):
            action()
        found.append((time.process_time() - begin) / calls)
        gc.unfreeze()
    return min(found)


def filled(*arguments: Any, **options: Any) -> Canister:  # noqa: ANN401  as Canister has them
    """Return a canister with the rows in it."""
    canister = Canister(*arguments, **options)
    for sql in SETUP:
        canister.update(sql)
    return canister


def vfs(folder: Path) -> dict[str, float]:
    """Accesses and messages of the native engine."""
    del folder
    rows = {}
    connection = apsw.Connection(":memory:")
    for sql in SETUP:
        connection.execute(sql).fetchall()
    # What the statement itself takes, without a file behind it.
    rows["plain APSW, in memory"] = best(
        lambda: connection.execute(POINT, (5000,)).fetchall(), calls=4000
    )
    for depth in ("counters", "pages"):
        with filled(depth=depth) as canister:
            rows[f"cold point query, depth {depth}"] = best(
                lambda: canister.query(POINT, (5000,)), calls=2000
            )
    with filled(cache_size=20) as canister:
        rows["warm point query"] = best(
            lambda: canister.query(POINT, (5000,), cache="warm"), calls=2000
        )
        rows["point update"] = best(lambda: canister.update(UPDATE, (5000,)), calls=1000)
        rows["scan"] = best(lambda: canister.query(SCAN), calls=20)
        rows["range by an index"] = best(lambda: canister.query(RANGE, (50, 50)), calls=10)
        rows["update of all rows"] = best(
            lambda: canister.update("UPDATE account SET balance = balance + 1"), calls=2
        )
    with filled(owners=True) as canister:
        rows["point update with owners"] = best(
            lambda: canister.update(UPDATE, (5000,)), calls=1000
        )
    door = StableVFS(StableMemory())
    lower = apsw.Connection("main.db", vfs=door.name)
    for sql in SETUP:
        lower.execute(sql).fetchall()
    lower.execute("PRAGMA cache_size = 20").fetchall()
    rows["lower door: range by an index"] = best(
        lambda: lower.execute(RANGE, (50, 50)).fetchall(), calls=10
    )
    rows["lower door: implicit update"] = best(
        lambda: lower.execute(UPDATE, (5000,)).fetchall(), calls=500
    )
    lower.close()
    door.unregister()
    return rows


def durability(folder: Path) -> dict[str, float]:
    """Messages on image files."""
    rows = {}
    for name in ("process", "power"):
        with filled(folder / f"{name}.stable", durability=name) as canister:
            rows[f"point update, durability {name}"] = best(
                lambda: canister.update(UPDATE, (5000,)), calls=300
            )
    path = folder / "process.stable"

    def reopened() -> None:
        with Canister(path):
            pass

    rows["opening an image"] = best(reopened, calls=20)
    with filled(folder / "traced.stable", trace=folder / "run.trace") as canister:
        rows["point update with a trace"] = best(
            lambda: canister.update(UPDATE, (5000,)), calls=600
        )
    return rows


def engines(folder: Path) -> dict[str, float]:
    """The wasm engine."""
    del folder
    rows = {}
    with filled(engine="wasm", cache_size=20) as canister:
        rows["wasm point query"] = best(lambda: canister.query(POINT, (5000,)), calls=500)
        rows["wasm point update"] = best(lambda: canister.update(UPDATE, (5000,)), calls=500)
        rows["wasm scan"] = best(lambda: canister.query(SCAN), calls=20)
        rows["wasm range by an index"] = best(lambda: canister.query(RANGE, (50, 50)), calls=10)
        rows["wasm upgrade"] = best(canister.upgrade, calls=20)
    with filled(engine="wasm", owners=True) as canister:
        rows["wasm point update with owners"] = best(
            lambda: canister.update(UPDATE, (5000,)), calls=300
        )
    return rows


GROUPS = {"vfs": vfs, "durability": durability, "engines": engines}

if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="sqlstable-") as name:
        print(json.dumps(GROUPS[sys.argv[1]](Path(name))))
