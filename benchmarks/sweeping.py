"""How much quicker is a sweep with two workers of Dask than with one?

    python -m benchmarks.sweeping [--rounds 3] [--runs 100]

A hundred runs of one script, each with a seed of its own, on a `LocalCluster` of one worker and of
two, in turn. Seconds are of the clock, with the cluster up and each worker warm, results written to
a file; what else the machine does counts, so rounds are repeated, and minimum and median are given.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from distributed import Client, LocalCluster

from sqlstable.workload.sweeping.carrying_out import carry_out
from sqlstable.workload.sweeping.executors import dask
from sqlstable.workload.sweeping.one_run import run_spec
from sqlstable.workload.sweeping.results import ResultsFile
from sqlstable.workload.sweeping.spec import RunSpec, make_spec

GOAL: Final = 0.6
WORKERS: Final = (1, 2)

SCRIPT: Final = """\
CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT, cents INTEGER);
CREATE INDEX item_name ON item (name);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60000)
INSERT INTO item SELECT i, hex(randomblob(6)), i % 1000 FROM n;
SELECT count(*), sum(cents) FROM item WHERE name BETWEEN 'A' AND 'C';
UPDATE item SET cents = cents + 1 WHERE id % 10 = 0;
"""


@contextmanager
def cluster(workers: int):  # noqa: ANN201  Dask has no types
    """Yield the address of a cluster whose workers have all run once."""
    with LocalCluster(
        n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None
    ) as made:
        with Client(made.scheduler_address) as client:
            client.run(run_spec, make_spec(SCRIPT))
        yield made.scheduler_address


def seconds(specs: Sequence[RunSpec], workers: int, folder: Path) -> float:
    """Return how long all runs take."""
    with cluster(workers) as address:
        begin = time.perf_counter()
        path = folder / f"{workers}-{begin}.sqlite"
        with ResultsFile(path, script=SCRIPT) as results:
            carry_out(specs, results, dask(address))
            elapsed = time.perf_counter() - begin
            assert not results.missing(specs)
            assert all(it is not None and it.failure is None for it in results.results(specs))
    return elapsed


def main() -> None:
    """Measure in turn, and print what came out."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--runs", type=int, default=100)
    chosen = parser.parse_args()
    specs = [make_spec(SCRIPT, choices={"seed": seed}) for seed in range(chosen.runs)]
    taken: dict[int, list[float]] = {workers: [] for workers in WORKERS}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(chosen.rounds):
            for workers in WORKERS:
                taken[workers].append(seconds(specs, workers, Path(folder)))
    one, two = (taken[workers] for workers in WORKERS)
    ratios = [b / a for a, b in zip(one, two, strict=True)]
    print(f"{chosen.runs} runs, {chosen.rounds} rounds in turn, seconds by the clock\n")
    print("| workers | minimum | median |\n| ---: | ---: | ---: |")
    for workers in WORKERS:
        print(
            f"| {workers} | {min(taken[workers]):.1f} | {statistics.median(taken[workers]):.1f} |"
        )
    print(
        f"\n2 workers ÷ 1 worker: {min(two) / min(one):.2f} of the minima, "
        f"{statistics.median(ratios):.2f} in the median of rounds, {min(ratios):.2f} to "
        f"{max(ratios):.2f} (goal: {GOAL})"
    )


if __name__ == "__main__":
    main()
