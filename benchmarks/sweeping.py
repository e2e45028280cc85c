"""How much quicker is a sweep with two workers of Dask than with one?

    python -m benchmarks.sweeping [--rounds 3] [--runs 100]

A hundred runs of one script, each with a seed of its own, on a `LocalCluster` of one worker and of
two, in turn, with the cluster up and each worker warm, results written to a file. Seconds by the
clock hold whatever else the machine does, so rounds are repeated, and minimum and median are given.
Beside them stand the processor's seconds of the busier worker, and of this process with the
scheduler in it: on an idle machine with a processor for each, the clock shows about the busier
worker's; at worst, with nothing at the same time, the sum of both.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Taken:
    """Seconds of a hundred runs."""

    clock: float
    busier_worker: float
    "Of the processor."
    scheduler: float
    "Of the processor: this process, with the scheduler in it."

    @property
    def at_worst(self) -> float:
        """Where scheduler and workers never work at the same time."""
        return self.busier_worker + self.scheduler


def measured(specs: Sequence[RunSpec], workers: int, folder: Path) -> Taken:
    """Carry out all runs."""
    with cluster(workers) as address, Client(address) as client:
        before = client.run(time.process_time)
        begin, begin_here = time.perf_counter(), time.process_time()
        path = folder / f"{workers}-{begin}.sqlite"
        with ResultsFile(path, script=SCRIPT) as results:
            carry_out(specs, results, dask(address))
            clock, here = time.perf_counter() - begin, time.process_time() - begin_here
            after = client.run(time.process_time)
            assert not results.missing(specs)
            assert all(it is not None and it.failure is None for it in results.results(specs))
    return Taken(clock, max(after[worker] - before[worker] for worker in before), here)


def main() -> None:
    """Measure in turn, and print what came out."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--runs", type=int, default=100)
    chosen = parser.parse_args()
    specs = [make_spec(SCRIPT, choices={"seed": seed}) for seed in range(chosen.runs)]
    taken: dict[int, list[Taken]] = {workers: [] for workers in WORKERS}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(chosen.rounds):
            for workers in WORKERS:
                taken[workers].append(measured(specs, workers, Path(folder)))
    print(
        f"{chosen.runs} runs, {chosen.rounds} rounds in turn; 2 workers ÷ 1 worker, goal {GOAL}\n"
    )
    print("| seconds | 1 worker: minimum | median | 2 workers: minimum | median | ÷ | median |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name in ("clock", "busier_worker", "scheduler", "at_worst"):
        one, two = ([getattr(it, name) for it in taken[workers]] for workers in WORKERS)
        least = [min(one), statistics.median(one), min(two), statistics.median(two)]
        ratio = statistics.median(b / a for a, b in zip(one, two, strict=True))
        cells = " | ".join(f"{value:.1f}" for value in least)
        print(f"| {name} | {cells} | {min(two) / min(one):.2f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
