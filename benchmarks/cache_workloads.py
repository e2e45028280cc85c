"""Five workloads on one database, for which any size of the page cache makes a difference.

Rows and keys are those of a seeded generator, the same on both engines and with any cache.
"""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from sqlstable import Canister
from sqlstable.ic.words import EngineName
from sqlstable.trace.format.reader import Trace

ROWS: Final = 20_000


def _fill(canister: Canister) -> None:
    """Make two tables with an index each, 2 MB together."""
    canister.update("CREATE TABLE t (id INTEGER PRIMARY KEY, k INTEGER, s TEXT)")
    with canister.message() as message, message.transaction():
        rows = ((i, i * 7919 % 1_000_003, f"row {i} " + "x" * 50) for i in range(ROWS))
        message.executemany("INSERT INTO t VALUES (?, ?, ?)", list(rows))
    canister.update("CREATE INDEX t_k ON t (k)")
    canister.update("CREATE TABLE u (id INTEGER PRIMARY KEY, t_id INTEGER, v TEXT)")
    with canister.message() as message, message.transaction():
        others = ((i, i * 31 % ROWS, f"u{i}" + "y" * 30) for i in range(ROWS // 2))
        message.executemany("INSERT INTO u VALUES (?, ?, ?)", list(others))
    canister.update("CREATE INDEX u_t ON u (t_id)")


def _skewed(draw: random.Random, count: int) -> int:
    """Return a number below ``count``, small ones far more often."""
    return int(count * draw.random() ** 3)


def point_reads(canister: Canister, draw: random.Random) -> None:
    """Look rows up by key, 400 in a message."""
    for _ in range(6):
        with canister.message("query") as message:
            for _ in range(400):
                message.execute("SELECT s FROM t WHERE id = ?", (_skewed(draw, ROWS),))


def ranges(canister: Canister, draw: random.Random) -> None:
    """Read ranges of an index, and the rows they name."""
    for _ in range(6):
        with canister.message("query") as message:
            for _ in range(25):
                low = _skewed(draw, 1_000_000)
                message.execute("SELECT id, s FROM t WHERE k BETWEEN ? AND ?", (low, low + 1500))


def join(canister: Canister, draw: random.Random) -> None:
    """Join both tables, from either side."""
    for _ in range(5):
        with canister.message("query") as message:
            low = _skewed(draw, 18_000)
            message.execute(
                "SELECT count(*), max(t.s) FROM u JOIN t ON t.id = u.t_id "
                "WHERE u.id BETWEEN ? AND ?",
                (low // 2, low // 2 + 400),
            )
            message.execute(
                "SELECT count(u.v) FROM t JOIN u ON t.id = u.t_id WHERE t.k BETWEEN ? AND ?",
                (low * 50, low * 50 + 8000),
            )


def updates(canister: Canister, draw: random.Random) -> None:
    """Change indexed rows, many in a transaction, then one in a message."""
    for _ in range(6):
        with canister.message() as message, message.transaction():
            for _ in range(150):
                changed = ("changed " + "z" * 50, draw.randrange(10**6), _skewed(draw, ROWS))
                message.execute("UPDATE t SET s = ?, k = ? WHERE id = ?", changed)
    for _ in range(60):
        canister.update("UPDATE t SET s = ? WHERE id = ?", ("w" * 56, _skewed(draw, ROWS)))


def mix(canister: Canister, draw: random.Random) -> None:
    """Insert, read, change, count and delete, in messages of both kinds."""
    for turn in range(40):
        with canister.message() as message, message.transaction():
            for _ in range(5):
                new = (draw.randrange(ROWS), "new" + "q" * 40)
                message.execute("INSERT INTO u (t_id, v) VALUES (?, ?)", new)
                message.execute("SELECT s FROM t WHERE id = ?", (_skewed(draw, ROWS),))
                message.execute("UPDATE t SET k = k + 1 WHERE id = ?", (_skewed(draw, ROWS),))
        low = turn * 20_000
        canister.query("SELECT count(*) FROM t WHERE k BETWEEN ? AND ?", (low, low + 5000))
        if turn % 10 == 9:
            canister.update("DELETE FROM u WHERE id BETWEEN ? AND ?", (turn * 20, turn * 20 + 40))


CACHE_WORKLOADS: Final[tuple[Callable[[Canister, random.Random], None], ...]] = (
    *(point_reads, ranges, join),
    *(updates, mix),
)
"""Reads of single rows, ranges, a join, updates, and all of it."""


@contextmanager
def traced(
    work: Callable[[Canister, random.Random], None],
    *,
    engine: EngineName,
    cache_size: int,
    page_size: int = 4096,
) -> Iterator[Trace]:
    """Run a workload and give its trace, that of filling the database included."""
    with Canister(
        engine=engine, cache_size=cache_size, page_size=page_size, trace=":memory:"
    ) as canister:
        _fill(canister)
        work(canister, random.Random(1))
        with canister.trace() as trace:
            yield trace
