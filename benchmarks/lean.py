"""What small messages cost at today's prices, in build standard and in build lean.

``python -m benchmarks.lean [MODULE.wasm]`` prints computation, stable memory and heap in thousands
of instructions and their sum in millions, and the regions of the heap that were accessed and
written. A module that is named stands between the two: an earlier build lean, whose page cache had
six SQLite pages. Nothing is timed; two runs print the same.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from unittest.mock import patch

from sqlstable import Canister, Reply
from sqlstable.engine.measured.module import builds

POINT: Final = ("SELECT s FROM t WHERE id = ?", (4711,))
RANGE: Final = ("SELECT id, s FROM t WHERE k BETWEEN ? AND ?", (500_000, 505_000))
UPDATE: Final = ("UPDATE t SET s = ? WHERE id = ?", ("changed", 4711))
INSERT: Final = (
    "INSERT INTO t (k, s) VALUES (?, ?)",
    (77, "a new row of about sixty bytes, as the others have them here"),
)
EARLIER_CACHE_SIZE: Final = 6


def filled(build: str, cache_size: int | None) -> Canister:
    """Return a canister with 20 000 rows of about 60 bytes and an index, 1.7 MB."""
    canister = Canister(engine="wasm", build=build, cache_size=cache_size, track_heap=True)
    canister.update("CREATE TABLE t (id INTEGER PRIMARY KEY, k INTEGER, s TEXT)")
    rows = [(i, i * 7919 % 1_000_003, f"row {i} " + "x" * 50) for i in range(20_000)]
    with canister.message() as message, message.transaction():
        message.executemany("INSERT INTO t VALUES (?, ?, ?)", rows)
    canister.update("CREATE INDEX t_k ON t (k)")
    return canister


def together(canister: Canister, *statements: tuple[str, tuple[object, ...]]) -> Reply:
    """Run statements in one transaction of one update."""
    with canister.message() as message, message.transaction():
        for sql, values in statements:
            message.execute(sql, values)
    return message.reply


def lookups(canister: Canister, cache: str) -> Reply:
    """Run a hundred point lookups in one query."""
    with canister.message("query", cache=cache) as message:
        for number in range(100):
            message.execute(POINT[0], (number * 199 + 1,))
    return message.reply


def warmed(canister: Canister, question: tuple[str, tuple[int, ...]]) -> Reply:
    """Ask what an update has just asked."""
    canister.update(*question)
    return canister.query(*question, cache="warm")


def upgraded(canister: Canister) -> Reply:
    """Run an update behind an upgrade."""
    canister.upgrade()
    return canister.update(*UPDATE)


MESSAGES: Final[dict[str, Callable[[Canister], Reply]]] = {
    "point lookup, fresh": lambda it: it.query(*POINT, cache="fresh"),
    "100 rows by index, fresh": lambda it: it.query(*RANGE, cache="fresh"),
    "point lookup, cold": lambda it: it.query(*POINT, cache="cold"),
    "100 rows by index, cold": lambda it: it.query(*RANGE, cache="cold"),
    "100 point lookups in a message, cold": lambda it: lookups(it, "cold"),
    "point lookup, warm": lambda it: warmed(it, POINT),
    "100 rows by index, warm": lambda it: warmed(it, RANGE),
    "100 point lookups in a message, warm": lambda it: lookups(it, "warm"),
    "update of SELECT 1, warm": lambda it: it.update("SELECT 1"),
    "small update, warm": lambda it: it.update(*UPDATE),
    "the same again, equal value": lambda it: it.update(*UPDATE),
    "insert with index, warm": lambda it: it.update(*INSERT),
    "point + range + update + insert, one transaction": lambda it: together(
        it, POINT, RANGE, UPDATE, INSERT
    ),
    "first update after an upgrade": upgraded,
    "1 000 rows by key, cache as it is": lambda it: it.query(
        "SELECT id, s FROM t WHERE id BETWEEN 1 AND 1000"
    ),
    "LIKE '%9999%' over all rows": lambda it: it.query(
        "SELECT count(*) FROM t WHERE s LIKE '%9999%'"
    ),
    "4 000 look-ups of a join": lambda it: it.query(
        "SELECT count(*) FROM t a JOIN t b ON b.id = a.k % 20000 WHERE a.id < 4000"
    ),
    "1 000 rows updated by number": lambda it: it.update(
        "UPDATE t SET k = k + 1 WHERE id % 20 = 3"
    ),
}
"""One after the other on one canister; the names are those of the table in RESULTS.md."""


@contextmanager
def another_lean(module: Path | None) -> Iterator[None]:
    """Let build lean be another module."""
    if module is None:
        yield
        return
    data = module.read_bytes()
    with patch.object(builds, "load", lambda _: data):
        yield


def measured(build: str, cache_size: int | None = None) -> list[str]:
    """Return a cell of the table for each message."""
    cells = []
    with filled(build, cache_size) as canister:
        for ask in MESSAGES.values():
            message = ask(canister).message
            spent, heap = message.instructions, message.heap
            parts = (spent.computation, spent.stable, spent.heap)
            cells.append(
                " / ".join(f"{part / 1e3:,.0f}" for part in parts)
                + f" = {spent.total / 1e6:.2f}, {heap.wasm_pages_accessed}"
                f" ({heap.wasm_pages_written})"
            )
    return cells


def main() -> None:
    """Print the table."""
    module = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    columns = {"standard": measured("standard"), "lean": measured("lean")}
    if module is not None:
        # A program of this name is kept; it must not be the one of the build.
        from sqlstable.wasm import program  # noqa: PLC0415

        program.shared_program.cache_clear()
        program._PROGRAMS.clear()  # noqa: SLF001  nothing else asks for this
        with another_lean(module):
            earlier = measured("lean", EARLIER_CACHE_SIZE)
        columns = {"standard": columns["standard"], module.stem: earlier, "lean": columns["lean"]}
    print("| | " + " | ".join(columns) + " |")
    print("| --- |" + " ---: |" * len(columns))
    for name, *cells in zip(MESSAGES, *columns.values(), strict=True):
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
