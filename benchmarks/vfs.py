"""What the virtual file system, the recorder and a message cost, against stated goals.

``python -m benchmarks.vfs`` runs everything, best of five; ``--quick`` runs a small version of it
in a few seconds, whose numbers mean little. See ``benchmarks/README.md`` for what each row is.
"""

import argparse
import math
import os
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.extremes import run_child
from benchmarks.goals import Outcome, goal_table
from benchmarks.measure import (
    MICROSECONDS,
    MILLISECONDS,
    circumstances,
    geometric_mean,
    markdown,
)
from benchmarks.nine import FULL, QUICK, STEPS, Workload, prepare, statement_counts, time_step
from benchmarks.sizes import DOORS, ENDS, SIZES_BYTES, SizeResult, measure_sizes
from benchmarks.statements import (
    COLD_QUERY,
    DEPTHS,
    EMPTY_UPDATE,
    PLAIN,
    POINT_UPDATE_MESSAGE,
    PROFILED,
    STATEMENT,
    WARM_QUERY,
    measure_statements,
)
from benchmarks.subjects import CANISTER, DISK_FILE, MEMDB, RECORDED, UNRECORDED, makers
from sqlstable.ic.units import GIB, MIB

CACHE_SIZES: Final = (500, 50_000)
"""SQLite pages that SQLite keeps in the heap: a quarter of the database, and all of it."""

QUICK_CACHE_SIZES: Final = (50, 50_000)

SUBJECTS: Final = (MEMDB, DISK_FILE, UNRECORDED, RECORDED, CANISTER)

MANY_ACCESSES: Final = 10_000_000
MANY_OF_A_KIND: Final = 1_000
"""From so many on, what one of them costs can be told from noise."""

MEGABYTE: Final = 10**6


@dataclass(frozen=True, slots=True)
class NineResult:
    """The nine statements at one cache size."""

    cache_size: int
    seconds: dict[str, dict[str, float]]
    "The least seconds by subject and row."
    accesses: dict[str, int]
    "Accesses of stable memory by row."

    def ratio(self, subject: str, reference: str) -> float:
        """Return the geometric mean over the nine rows of the time of one by the other's."""
        return geometric_mean(
            self.seconds[subject][row] / self.seconds[reference][row] for row in STEPS
        )

    def access_us(self, *rows: str) -> float:
        """Return what one recorded access costs more than memdb's, in µs, over some rows."""
        over = sum(self.seconds[RECORDED][row] - self.seconds[MEMDB][row] for row in rows)
        return over / sum(self.accesses[row] for row in rows) * MICROSECONDS

    def rows_with(self, accesses_min: int) -> list[str]:
        """Return the rows with at least so many accesses."""
        return [row for row in STEPS if self.accesses[row] >= accesses_min]


def measure_nine(cache_size: int, work: Workload, *, runs: int, folder: Path) -> NineResult:
    """Run the nine statements on all subjects, row by row in turn, and keep the minima."""
    seconds = {subject: dict.fromkeys(STEPS, math.inf) for subject in SUBJECTS}
    accesses = dict.fromkeys(STEPS, 0)
    for run in range(runs):
        subjects = {name: make(cache_size) for name, make in makers(folder).items()}
        # Each run begins with another subject, so that none always follows the same one.
        first = run % len(SUBJECTS)
        order = SUBJECTS[first:] + SUBJECTS[:first]
        for subject in subjects.values():
            prepare(subject)
        recorded = subjects[RECORDED]
        for row, step in STEPS.items():
            before = recorded.accesses or 0
            for name in order:
                elapsed = time_step(step, subjects[name], work)
                seconds[name][row] = min(seconds[name][row], elapsed)
            accesses[row] = (recorded.accesses or 0) - before
        for subject in subjects.values():
            subject.close()
    return NineResult(cache_size, seconds, accesses)


def nine_table(result: NineResult) -> str:
    """Return the nine rows in milliseconds, and how they compare with memdb."""
    rows = []
    for row in STEPS:
        times = [result.seconds[subject][row] for subject in SUBJECTS]
        ratio = result.seconds[RECORDED][row] / result.seconds[MEMDB][row]
        rows.append((row, *(f"{time * MILLISECONDS:.2f}" for time in times), f"{ratio:.2f}"))
    means = [f"{result.ratio(subject, MEMDB):.3f}" for subject in SUBJECTS]
    rows.append(("geometric mean ÷ memdb", *means, means[SUBJECTS.index(RECORDED)]))
    return markdown(("ms", *SUBJECTS, "recorded ÷ memdb"), rows)


def apart_table(result: NineResult, work: Workload) -> str:
    """Return what accesses and what statements cost, apart, where there are many of them."""
    counts = statement_counts(work)
    rows = []
    for row in STEPS:
        memdb, recorded, canister = (
            result.seconds[subject][row] * MICROSECONDS for subject in (MEMDB, RECORDED, CANISTER)
        )
        accesses, statements = result.accesses[row], counts[row]
        rows.append(
            (
                row,
                f"{accesses}",
                f"{(recorded - memdb) / accesses:.2f}" if accesses >= MANY_OF_A_KIND else "",
                f"{statements}",
                f"{(canister - recorded) / statements:.2f}" if statements >= MANY_OF_A_KIND else "",
            )
        )
    return markdown(("row", "accesses", "µs an access", "statements", "µs a statement"), rows)


def nine_outcomes(results: Mapping[int, NineResult], work: Workload) -> list[Outcome]:
    """Return the goals about accesses."""
    small, large = results.values()
    many = len(work.rows) // 5
    sizes = [f"cache {cache_size:,}".replace(",", " ") for cache_size in results]
    return [
        Outcome("one read over memdb, µs (index ranges)", 0.36, small.access_us("index ranges")),
        Outcome(
            f"one access over memdb, µs (all rows with {many} accesses or more)",
            0.36,
            small.access_us(*small.rows_with(many)),
        ),
        Outcome(f"accesses recorded ÷ memdb, {sizes[0]}", 1.42, small.ratio(RECORDED, MEMDB), 3),
        Outcome(f"accesses recorded ÷ memdb, {sizes[1]}", 1.14, large.ratio(RECORDED, MEMDB), 3),
        Outcome(
            f"recording ÷ not recording, {sizes[0]}", 1.15, small.ratio(RECORDED, UNRECORDED), 3
        ),
        Outcome(
            f"recording ÷ not recording, {sizes[1]}", 1.08, large.ratio(RECORDED, UNRECORDED), 3
        ),
    ]


Costs = Mapping[tuple[str, str], float]


def statement_outcomes(costs: Costs) -> list[Outcome]:
    """Return the goals about statements and messages."""
    goals = {
        (STATEMENT, "counters"): 2.5,
        (STATEMENT, "pages"): 0.3,
        (EMPTY_UPDATE, "counters"): 5,
        (EMPTY_UPDATE, "pages"): 5,
        (COLD_QUERY, "counters"): 12,
        (COLD_QUERY, "pages"): 12,
    }
    return [
        Outcome(f"{name} at depth {depth}, µs", goal, costs[name, depth] * MICROSECONDS)
        for (name, depth), goal in goals.items()
    ]


def statement_table(costs: Costs) -> str:
    """Return all costs of statements and messages in microseconds."""
    names = (STATEMENT, EMPTY_UPDATE, COLD_QUERY, WARM_QUERY, POINT_UPDATE_MESSAGE)
    plain, profiled = (f"{costs[name, ''] * MICROSECONDS:.2f}" for name in (PLAIN, PROFILED))
    rows: list[tuple[str, ...]] = [
        ("the same statement by plain APSW", plain, plain),
        ("SQLite's profile event alone", profiled, ""),
    ]
    rows += [
        (name, *(f"{costs[name, depth] * MICROSECONDS:.2f}" for depth in DEPTHS)) for name in names
    ]
    return markdown(("µs", *DEPTHS), rows)


def size_outcomes(results: list[SizeResult]) -> list[Outcome]:
    """Return the goals about commit and rollback: the worst exponent of each."""
    outcomes = []
    for door in DOORS:
        for end in ENDS:
            exponents = [r.exponent for r in results if (r.door, r.end) == (door, end)]
            worst = max(exponents, key=abs)
            outcomes.append(Outcome(f"{door} {end}: exponent in image size", 0.05, worst, 3))
    return outcomes


def size_table(results: list[SizeResult]) -> str:
    """Return commit and rollback in microseconds by image size."""
    rows = [
        (
            f"{result.door} {result.end}, {result.dirty_count} dirty",
            *(f"{seconds * MICROSECONDS:.1f}" for seconds in result.seconds),
            f"{result.exponent:+.3f}",
        )
        for result in results
    ]
    sizes = [f"{s // GIB} GiB" if s >= GIB else f"{s // MIB} MiB" for s in SIZES_BYTES]
    return markdown(("µs", *sizes, "exponent"), rows)


Child = Mapping[str, Any]


def best_child(field: str, *arguments: str, runs: int) -> Child:
    """Run a measurement in processes of its own, and return the one with the least ``field``."""
    return min((run_child(*arguments) for _ in range(runs)), key=lambda child: child[field])


def far_outcomes(far: Child) -> list[Outcome]:
    """Return the goals about 500 GiB."""
    return [
        Outcome(
            "500 GiB of grown raw memory: grow, open and one point read, ms",
            50,
            far["grow_open_read_s"] * MILLISECONDS,
        ),
        Outcome(
            "500 GiB of grown raw memory: resident, MB",
            120,
            far["resident_peak_bytes"] / MEGABYTE,
            0,
        ),
    ]


def many_outcomes(many: Child) -> list[Outcome]:
    """Return the goals about a long trace."""
    what = f"{many['accesses'] / MEGABYTE:.1f} million accesses in {many['messages']} message(s)"
    return [
        Outcome(f"{what}: resident, MB", 150, many["resident_peak_bytes"] / MEGABYTE, 0),
        Outcome(f"{what}: trace written, s", 5, many["write_s"]),
        Outcome(f"{what}: trace, MB", 45, many["trace_bytes"] / MEGABYTE, 1),
    ]


def child_table(children: Mapping[str, Child]) -> str:
    """Return all that the child processes measured."""
    rows = []
    for name, child in children.items():
        for field, value in child.items():
            shown = f"{value:.4f}" if isinstance(value, float) else f"{value}"
            rows.append((f"{name}: {field}", shown))
    return markdown(("process", "value"), rows)


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured."""

    runs: int
    is_quick: bool

    @property
    def cache_sizes(self) -> tuple[int, int]:
        """SQLite pages in the heap: a small part of the database, and all of it."""
        return QUICK_CACHE_SIZES if self.is_quick else CACHE_SIZES


def run_nine(plan: Plan) -> list[Outcome]:
    """Measure accesses by the nine statements."""
    work = Workload.of(**(QUICK if plan.is_quick else FULL))
    results = {}
    with tempfile.TemporaryDirectory(prefix="sqlstable-") as name:
        folder = Path(name)
        _section("Circumstances", markdown(("what", "is"), circumstances(folder)))
        for cache_size in plan.cache_sizes:
            result = measure_nine(cache_size, work, runs=plan.runs, folder=folder)
            title = f"The nine statements, cache {cache_size}"
            _section(title, nine_table(result))
            _section(f"{title}: apart", apart_table(result, work))
            results[cache_size] = result
    return nine_outcomes(results, work)


def run_statements(plan: Plan) -> list[Outcome]:
    """Measure statements and messages."""
    costs = measure_statements(runs=plan.runs, calls=500 if plan.is_quick else 20_000)
    _section("Statements and messages", statement_table(costs))
    return statement_outcomes(costs)


def run_sizes(plan: Plan) -> list[Outcome]:
    """Measure commit and rollback."""
    results = measure_sizes(runs=plan.runs, quick=plan.is_quick)
    _section("Commit and rollback by image size", size_table(results))
    return size_outcomes(results)


def run_extremes(plan: Plan) -> list[Outcome]:
    """Measure what needs a process of its own."""
    count = str(MANY_ACCESSES // (100 if plan.is_quick else 1))
    many_runs = min(plan.runs, 2)
    far = best_child("grow_open_read_s", "far", runs=plan.runs)
    one = best_child("write_s", "many", count, "1", runs=many_runs)
    ten = best_child("write_s", "many", count, "10", runs=many_runs)
    children = {"500 GiB": far, "one message": one, "ten messages": ten}
    _section("Extremes", child_table(children))
    return far_outcomes(far) + many_outcomes(one) + many_outcomes(ten)


def main(arguments: list[str] | None = None) -> int:
    """Measure everything, and print tables; the last one is that of the goals."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.vfs", description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="repetitions; the least time counts")
    parser.add_argument("--quick", action="store_true", help="a small version, to see it work")
    options = parser.parse_args(arguments)
    if options.runs < 1:
        parser.error("--runs must be 1 or more")
    plan = Plan(runs=1 if options.quick else options.runs, is_quick=options.quick)
    outcomes: list[Outcome] = []
    for run in (run_nine, run_statements, run_sizes, run_extremes):
        outcomes += run(plan)
    _section("Goals", goal_table(outcomes))
    met = sum(outcome.is_met for outcome in outcomes)
    load = ", ".join(f"{value:.2f}" for value in os.getloadavg())
    print(f"{met} of {len(outcomes)} goals met; best of {plan.runs}; load after: {load}.")
    return 0


def _section(title: str, text: str) -> None:
    print(f"## {title}\n\n{text}\n", flush=True)


if __name__ == "__main__":
    sys.exit(main())
