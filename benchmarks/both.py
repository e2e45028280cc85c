"""A run on both engines against the native one alone, on messages of twenty shapes.

    python -m benchmarks.both [--quick] [--messages N] [--runs N] [--queries PERCENT] [--warm]

The same messages, from a seed, go to a canister on each; timed is the processor, from the first
message to the closed trace, so that estimates and what waits are in it. Queries are cold on the
native engine and warm where both run, as they are unless one asks for something else; with
``--warm`` they are warm on both sides.
"""

import argparse
import os
import random
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.goals import Outcome, goal_table
from benchmarks.measure import circumstances, markdown
from sqlstable import Canister, open_trace
from sqlstable.ic.words import CacheState
from sqlstable.trace.format.estimating import margin_of

GOAL: Final = 1.3
MESSAGES: Final = 1_000_000
QUICK: Final = 20_000
ROWS: Final = 10_000
SHARES: Final = (0.5, 0.9)
"""Which part of the messages are queries."""

SCHEMA: Final = """
CREATE TABLE account (id INTEGER PRIMARY KEY, name TEXT, cents INTEGER, region INTEGER);
CREATE INDEX account_region ON account (region, cents);
CREATE TABLE entry (id INTEGER PRIMARY KEY, account INTEGER, cents INTEGER, note TEXT);
CREATE INDEX entry_account ON entry (account);
"""

QUERIES: Final = (
    "SELECT name FROM account WHERE id = ?",
    "SELECT cents FROM account WHERE id = ?",
    "SELECT id, cents FROM account WHERE id BETWEEN ? AND ?1 + 10",
    "SELECT count(*) FROM account WHERE region = ?1 % 100",
    "SELECT max(cents) FROM account WHERE region = ?1 % 100",
    "SELECT id FROM account WHERE region = ?1 % 100 ORDER BY cents DESC LIMIT 5",
    "SELECT * FROM entry WHERE account = ?",
    "SELECT total(cents) FROM entry WHERE account = ?",
    "SELECT a.name, e.cents FROM account a JOIN entry e ON e.account = a.id WHERE a.id = ?",
    "SELECT note FROM entry WHERE id = ?",
)

UPDATES: Final = (
    "UPDATE account SET cents = cents + 1 WHERE id = ?",
    "UPDATE account SET cents = cents - 1 WHERE id = ?",
    "UPDATE account SET name = 'account ' || id WHERE id = ?",
    "UPDATE account SET region = (region + 1) % 100 WHERE id = ?",
    "INSERT INTO entry (account, cents, note) VALUES (?, 1, 'paid')",
    "INSERT INTO entry (account, cents) VALUES (?, 2)",
    "UPDATE entry SET note = 'seen' WHERE id = ?",
    "UPDATE entry SET cents = cents + 1 WHERE id = ?",
    "DELETE FROM entry WHERE id = ?",
    "INSERT OR REPLACE INTO account VALUES (?1, 'new', 0, ?1 % 100)",
)


@dataclass(frozen=True, slots=True)
class Timed:
    """What a run took, and what it measured."""

    seconds: float
    "Of the processor."
    measured: int
    margin: float
    "Of the sum of instructions, as a share of it."


def messages(count: int, share: float) -> Iterator[tuple[bool, str, int]]:
    """Yield messages: whether it is a query, its SQL, and its parameter."""
    draw = random.Random(f"{count} {share}")
    for _ in range(count):
        is_query = draw.random() < share
        yield is_query, draw.choice(QUERIES if is_query else UPDATES), draw.randrange(1, ROWS)


def timed(  # its name is a literal elsewhere
    engine: Any,  # noqa: ANN401
    count: int,
    share: float,
    folder: Path,
    cache: CacheState | None = None,
) -> Timed:
    """Run all messages on an engine, queries with a state of the heap, or the engine's own."""
    path = folder / f"{engine}.trace"
    canister = Canister(engine=engine, trace=path)
    with canister:
        canister.update(SCHEMA)
        with canister.message("update") as message, message.transaction():
            rows = [(it, f"account {it}", it * 7 % 1000, it % 100) for it in range(1, ROWS)]
            message.executemany("INSERT INTO account VALUES (?, ?, ?, ?)", rows)
            message.executemany(
                "INSERT INTO entry (account, cents, note) VALUES (?, ?, 'first')",
                [(it[0], it[2]) for it in rows],
            )
        begin = time.process_time()
        for is_query, sql, value in messages(count, share):
            if is_query:
                canister.query(sql, (value,), cache=cache)
            else:
                canister.update(sql, (value,))
    seconds = time.process_time() - begin
    with open_trace(path) as trace:
        found = trace.summary
        spent = 0 if found.instructions is None else found.instructions.total
        margin = margin_of(found.blocks) / spent if spent else 0.0
        measured = sum(block.measured for block in found.blocks)
    path.unlink()
    return Timed(seconds, measured, margin)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m benchmarks.both")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK:,} messages, once")
    parser.add_argument("--messages", type=int, default=MESSAGES)
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--queries", type=int, help="percent of the messages; by default 50 and 90")
    parser.add_argument("--warm", action="store_true", help="queries are warm on the native engine")
    args = parser.parse_args()
    count, runs = (QUICK, 1) if args.quick else (args.messages, args.runs)
    shares = SHARES if args.queries is None else (args.queries / 100,)
    rows, outcomes = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print(markdown(("what", "value"), circumstances(folder)), flush=True)
        # What is compiled once is in neither.
        timed("both", 1, 0.5, folder)
        for share in shares:
            best = {
                engine: min(
                    (
                        timed(engine, count, share, folder, "warm" if args.warm else None)
                        for _ in range(runs)
                    ),
                    key=lambda it: it.seconds,
                )
                for engine in ("native", "both")
            }
            native, both = best["native"], best["both"]
            what = f"both ÷ native, {count:,} messages, {share:.0%} queries"
            outcomes.append(Outcome(what, GOAL, both.seconds / native.seconds))
            print(f"{what}: {both.seconds:.1f} s ÷ {native.seconds:.1f} s", flush=True)
            rows.append(
                (
                    f"{share:.0%}",
                    f"{native.seconds:.1f}",
                    f"{both.seconds:.1f}",
                    f"{both.measured:,}",
                    f"{both.margin:.3%}",
                )
            )
    headings = ("queries", "native, s", "both, s", "messages measured", "total, ±")
    print(f"\n{markdown(headings, rows)}\n\n{goal_table(outcomes)}")
    print(f"\nload after: {os.getloadavg()[0]:.2f}")


if __name__ == "__main__":
    main()
