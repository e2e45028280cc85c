"""How far a sampled total is from what measuring every message comes to, on real data.

    python -m benchmarks.sampled [--quick]

Messages on Chinook and on TPC-H at scale 0.01 run once, all of them measured. Which of them a
sample would have measured, and what it would have said of all, is then worked out for one seed
after the other: a measured message costs the same whatever else is measured
(``tests/test_both.py``). One more run of each really measures a sample only.
"""

import argparse
import random
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks.datasets import MissingDataError
from benchmarks.goals import Outcome, goal_table
from benchmarks.measure import markdown
from benchmarks.tpch import data_folder, tpch
from sqlstable import Canister, Trace
from sqlstable.canister.sampling import Measure, Sampling
from sqlstable.trace.format.estimating import SampleBlock, blocks_of, margin_of, spreads_of
from sqlstable.trace.model import SampleGroup

SCALE: Final = 0.01
MESSAGES: Final = 4_000
QUICK: Final = 600
SEEDS: Final = 100
MEASURES: Final = ("auto", "16", "5%")
OUTSIDE_GOAL: Final = 5
"Totals of 100 that may lie outside of what is stated."
ERROR_GOAL: Final = 2.0
"Percent that a total may be off where every shape was measured."

Template = tuple[str, tuple[tuple[int, int], ...]]
"""SQL, and the bounds between which each of its parameters is drawn."""


@dataclass(frozen=True, slots=True)
class Workload:
    """A data set with what is asked of it."""

    name: str
    load: Callable[[Canister], None]
    templates: Sequence[Template]


def chinook() -> Workload:
    """Return messages on Chinook.

    Raises:
        MissingDataError: It is not there.
    """
    path = data_folder() / "chinook" / "chinook.sqlite"
    if not path.is_file():
        msg = f"{path} is missing; set SQLSTABLE_DATA to the folder of public data"
        raise MissingDataError(msg)
    return Workload("Chinook", lambda it: _import(it, path), CHINOOK)


def _import(canister: Canister, path: Path) -> None:
    canister.import_database(path)


def tpch_messages(folder: Path) -> Workload:
    """Return messages on TPC-H, which is generated into a folder.

    Raises:
        MissingDataError: The generator or the queries are not there.
    """
    dataset = tpch(data_folder(), folder, scale=SCALE)
    path = folder / "tpch.db"
    with closing(sqlite3.connect(path)) as connection:
        for table, schema in dataset.tables.items():
            connection.execute(schema)
            rows = list(dataset.rows(table))
            marks = ", ".join("?" * len(rows[0]))
            connection.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)
        for sql in dataset.indexes:
            connection.execute(sql)
        connection.commit()
    return Workload(dataset.name, lambda it: _import(it, path), TPCH)


_TRACK: Final = (1, 3503)
_CUSTOMER: Final = (1, 59)
_INVOICE: Final = (1, 412)

CHINOOK: Final[tuple[Template, ...]] = (
    ("SELECT Name, UnitPrice FROM Track WHERE TrackId = ?", (_TRACK,)),
    (
        "SELECT Title, Name FROM Album JOIN Artist USING (ArtistId) WHERE AlbumId = ?",
        ((1, 347),),
    ),
    (
        (
            "SELECT count(*), total(Milliseconds) FROM Album JOIN Track USING (AlbumId)"
            " WHERE ArtistId = ?"
        ),
        ((1, 275),),
    ),
    ("SELECT InvoiceId, Total FROM Invoice WHERE CustomerId = ?", (_CUSTOMER,)),
    (
        "SELECT Name, Quantity FROM InvoiceLine JOIN Track USING (TrackId) WHERE InvoiceId = ?",
        (_INVOICE,),
    ),
    (
        (
            "SELECT Name FROM PlaylistTrack JOIN Track USING (TrackId) WHERE PlaylistId = ?"
            " ORDER BY Milliseconds DESC LIMIT 10"
        ),
        ((1, 18),),
    ),
    (
        "SELECT BillingCountry, total(Total) FROM Invoice WHERE CustomerId < ? GROUP BY 1",
        (_CUSTOMER,),
    ),
    ("SELECT count(*) FROM Track WHERE Composer LIKE '%' || ? || '%'", ((0, 9),)),
    ("UPDATE Track SET UnitPrice = UnitPrice + 0.01 WHERE TrackId = ?", (_TRACK,)),
    ("UPDATE Customer SET Phone = ? WHERE CustomerId = ?", ((10**6, 10**7), _CUSTOMER)),
    (
        "INSERT INTO InvoiceLine (InvoiceId, TrackId, UnitPrice, Quantity) VALUES (?, ?, 0.99, 1)",
        (_INVOICE, _TRACK),
    ),
    ("DELETE FROM PlaylistTrack WHERE PlaylistId = 8 AND TrackId = ?", (_TRACK,)),
)

_ORDER: Final = (1, 60_000)
_YEAR: Final = (1993, 1997)

TPCH: Final[tuple[Template, ...]] = (
    ("SELECT * FROM orders WHERE o_orderkey = ?", (_ORDER,)),
    ("SELECT * FROM lineitem WHERE l_orderkey = ? ORDER BY l_linenumber", (_ORDER,)),
    (
        "SELECT o_orderkey, o_totalprice FROM orders WHERE o_custkey = ? ORDER BY o_orderdate DESC",
        ((1, 1500),),
    ),
    (
        (
            "SELECT s_name, ps_supplycost FROM partsupp JOIN supplier ON s_suppkey = ps_suppkey"
            " WHERE ps_partkey = ? ORDER BY ps_supplycost"
        ),
        ((1, 2000),),
    ),
    (
        (
            "SELECT total(l_extendedprice * (1 - l_discount)) FROM customer JOIN orders"
            " ON o_custkey = c_custkey JOIN lineitem ON l_orderkey = o_orderkey"
            " WHERE c_custkey = ?"
        ),
        ((1, 1500),),
    ),
    (
        (
            "SELECT n_name, count(*) FROM customer JOIN nation ON n_nationkey = c_nationkey"
            " WHERE n_regionkey = ? GROUP BY 1"
        ),
        ((0, 4),),
    ),
    # Query 4 of TPC-H, of a month.
    (
        (
            "SELECT o_orderpriority, count(*) FROM orders WHERE o_orderdate >= date(?1 || '-01-01')"
            " AND o_orderdate < date(?1 || '-01-01', '+1 month') AND EXISTS (SELECT 1 FROM lineitem"
            " WHERE l_orderkey = o_orderkey AND l_commitdate < l_receiptdate) GROUP BY 1 ORDER BY 1"
        ),
        (_YEAR,),
    ),
    # Query 6, of a week.
    (
        (
            "SELECT sum(l_extendedprice * l_discount) FROM lineitem"
            " WHERE l_shipdate >= date(?1 || '-01-01') AND l_shipdate < date(?1 || '-01-08')"
            " AND l_discount BETWEEN 0.05 AND 0.07 AND l_quantity < 24"
        ),
        (_YEAR,),
    ),
    ("UPDATE customer SET c_acctbal = c_acctbal - 1 WHERE c_custkey = ?", ((1, 1500),)),
    (
        "UPDATE partsupp SET ps_availqty = ps_availqty - 1 WHERE ps_partkey = ?",
        ((1, 2000),),
    ),
    (
        (
            "INSERT OR REPLACE INTO orders VALUES"
            " (?, ?, 'O', 1.5, '1998-08-02', '5-LOW', 'Clerk', 0, 'new')"
        ),
        ((60_001, 10**6), (1, 1500)),
    ),
    ("DELETE FROM lineitem WHERE l_orderkey = ?", (_ORDER,)),
)


def run(workload: Workload, count: int, measure: str) -> Trace:
    """Run messages of a workload, drawn from a seed, and return their trace."""
    draw = random.Random(workload.name)
    with Canister(engine="both", measure=measure, trace=":memory:") as canister:
        workload.load(canister)
        for _ in range(count):
            sql, bounds = draw.choice(workload.templates)
            params = tuple(draw.randint(*it) for it in bounds)
            (canister.query if sql.startswith("SELECT") else canister.update)(sql, params)
        trace = canister.trace()
    assert trace is not None
    return trace


def run_sampled(workload: Workload, count: int) -> int:
    """Return what a run says that really measures a sample only."""
    spent = run(workload, count, "auto").summary.instructions
    assert spent is not None
    return spent.total


def known(trace: Trace) -> list[tuple[SampleGroup, int]]:
    """Return what each message was, and what it took; all were measured."""
    found = []
    for message in trace.messages:
        if message.sample is not None and not message.sample.group.reason:
            assert message.instructions is not None
            assert message.instructions.measured
            found.append((message.sample.group._replace(block=0), message.instructions.total))
    return found


def sampled(
    messages: Iterable[tuple[SampleGroup, int]], measure: str, seed: int
) -> tuple[list[SampleBlock], list[list[int]]]:
    """Return what a sample would have said of messages, and what the others took, by row."""
    sampling = Sampling(Measure.parsed(measure), seed)
    costs: dict[SampleGroup, list[int]] = {}
    others: dict[SampleGroup, list[int]] = {}
    for alike, cost in messages:
        group, is_measured = sampling.choose(alike)
        spent, other = costs.setdefault(group, []), others.setdefault(group, [])
        if is_measured:
            spent.append(cost)
            sampling.note(group, cost)
        else:
            other.append(cost)
    # As a trace gives them: by group, and then by block.
    order = sorted(costs, key=lambda it: (it.kind, it.outcome, it.shape, it.work, it.block))
    blocks = blocks_of(
        (
            *(at, *group, len(costs[group]) + len(others[group]), len(costs[group])),
            *(sum(costs[group]), 0, 0, sum(it**2 for it in costs[group])),
        )
        for at, group in enumerate(order)
    )
    return blocks, [others[group] for group in order]


def share_inside(blocks: Iterable[SampleBlock], others: Sequence[Sequence[int]]) -> float:
    """Return which share of the messages that were not measured is as each was said to be."""
    inside = count = 0
    for block, spread, freedom in spreads_of(blocks):
        away = block.band(spread, freedom) * block.mean
        costs = [cost for at in block.indexes for cost in others[at]]
        inside += sum(abs(cost - round(block.mean)) <= away for cost in costs)
        count += len(costs)
    return inside / count if count else 1.0


@dataclass(frozen=True, slots=True)
class Compared:
    """What samples said of a workload, beside what it took."""

    measured: list[float]
    "Share of the messages, by seed."
    errors: list[float]
    "Of the total, as a share of it."
    margins: list[float]
    "Within which it was said to lie, likewise."
    singles: list[float]
    "Share of the messages that were not measured and lie within what was said of each."

    @property
    def outside(self) -> int:
        """How many totals lie outside of what was said."""
        return sum(it > margin for it, margin in zip(self.errors, self.margins, strict=True))


def compared(
    messages: Sequence[tuple[SampleGroup, int]], measure: str, seeds: Iterable[int]
) -> Compared:
    """Compare totals of samples with what all messages took."""
    whole = sum(cost for _, cost in messages)
    found = Compared([], [], [], [])
    for seed in seeds:
        blocks, others = sampled(messages, measure, seed)
        estimate = sum(block.mean * block.messages for block in blocks)
        found.measured.append(sum(block.measured for block in blocks) / len(messages))
        found.errors.append(abs(estimate - whole) / whole)
        found.margins.append(margin_of(blocks) / whole)
        found.singles.append(share_inside(blocks, others))
    return found


def workloads(folder: Path) -> Iterator[Workload]:
    """Yield all workloads; what is missing is said."""
    for make in (chinook, lambda: tpch_messages(folder)):
        try:
            yield make()
        except MissingDataError as error:
            print(f"\n{error}", file=sys.stderr)


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m benchmarks.sampled")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} messages")
    count = QUICK if parser.parse_args().quick else MESSAGES
    rows, outcomes = [], []
    with tempfile.TemporaryDirectory() as name:
        for workload in workloads(Path(name)):
            messages = known(run(workload, count, "all"))
            whole = sum(cost for _, cost in messages)
            for measure in MEASURES:
                found = compared(messages, measure, range(SEEDS))
                rows.append(
                    (
                        workload.name,
                        measure,
                        f"{median(found.measured):.1%}",
                        f"{median(found.errors):.3%}",
                        f"{max(found.errors):.3%}",
                        f"{median(found.margins):.3%}",
                        f"{found.outside}",
                        f"{sum(found.singles) / len(found.singles):.1%}",
                    )
                )
                what = f"{workload.name}, {measure}"
                outside = f"{what}: totals of {SEEDS} outside of what is stated"
                outcomes.append(Outcome(outside, OUTSIDE_GOAL, found.outside, 0))
                furthest = 100 * max(found.errors)
                outcomes.append(Outcome(f"{what}: furthest off, %", ERROR_GOAL, furthest))
            print(f"{workload.name}: {len(messages):,} messages, {whole:,} instructions")
            print(f"really sampled: {run_sampled(workload, count):,}", flush=True)
    headings = (
        "data",
        "measure",
        "measured",
        "off by",
        "at most",
        "stated, ±",
        "outside",
        "singles inside",
    )
    print(f"\n{markdown(headings, rows)}\n\n{goal_table(outcomes)}")


if __name__ == "__main__":
    main()
