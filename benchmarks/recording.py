"""What it takes to record instructions: units of all price lists, counted in one run, and traces.

    python -m benchmarks.recording [--quick]

The script is that of `benchmarks.nine` on the wasm engine, in variants that run in turn: one counts
for the newest list only, and cannot be priced by another one; ordinary runs count for all; and one
writes a trace of all that as well.
"""

import argparse
import math
import tempfile
from pathlib import Path
from typing import Final

from benchmarks.engines import CanisterSubject
from benchmarks.goals import Outcome, goal_table
from benchmarks.measure import circumstances, geometric_mean, markdown
from benchmarks.nine import FULL, QUICK, STEPS, Workload, prepare, time_step
from sqlstable.engine.measured.module.builds import load
from sqlstable.ic.prices import regime_of
from sqlstable.wasm.program import Program, make_program
from sqlstable.wasm.shimstore import wasm_memory

ONE: Final = "one list"
ALL: Final = "all lists"
TRACED: Final = "all lists, trace"

GOAL: Final = 1.02


def counting_for_one(reach_bytes: int) -> Program:
    """Return the ordinary program but that it counts by today's weights alone."""
    return make_program(
        load("standard"),
        name="standard",
        regime=regime_of(None),
        watches_heap=True,
        has_borders=True,
        has_extras=False,
        reach_bytes=reach_bytes,
    )


def subject_of(variant: str, folder: Path) -> CanisterSubject:
    """Return an empty canister of a variant."""
    if variant == ONE:
        memory = wasm_memory(counting_for_one, limits=None)
        return CanisterSubject({"engine": "wasm", "memory": memory})
    trace = {"trace": folder / "run.trace", "overwrite_trace": True} if variant == TRACED else {}
    return CanisterSubject({"engine": "wasm", **trace})


def measure(work: Workload, runs: int, folder: Path) -> dict[tuple[str, str], float]:
    """Return the least processor's seconds by variant and step."""
    minima: dict[tuple[str, str], float] = {}
    for _ in range(runs):
        for variant in (ONE, ALL, TRACED):
            subject = subject_of(variant, folder)
            prepare(subject)
            for step, run in STEPS.items():
                known = minima.get((variant, step), math.inf)
                minima[variant, step] = min(known, time_step(run, subject, work))
            subject.close()
    return minima


def main(arguments: list[str] | None = None) -> None:
    """Measure everything and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows, one run")
    quick = parser.parse_args(arguments).quick
    print(markdown(("circumstance", "value"), circumstances(Path(tempfile.gettempdir()))), "\n")
    with tempfile.TemporaryDirectory(prefix="sqlstable-") as folder:
        work = Workload.of(**(QUICK if quick else FULL))
        seconds = measure(work, 1 if quick else 5, Path(folder))
    variants = (ONE, ALL, TRACED)
    rows = [
        (
            step,
            *(f"{seconds[variant, step] * 1e3:.1f}" for variant in variants),
            *(f"{seconds[variant, step] / seconds[ONE, step]:.3f}" for variant in variants[1:]),
        )
        for step in STEPS
    ]
    print(markdown(("milliseconds", *variants, *(f"{name} ÷ one" for name in variants[1:])), rows))
    ratio = geometric_mean(seconds[ALL, step] / seconds[ONE, step] for step in STEPS)
    print()
    print(goal_table([Outcome("counting for all lists ÷ for one, geometric mean", GOAL, ratio, 3)]))


if __name__ == "__main__":
    main()
