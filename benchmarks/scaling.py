"""Does growth go on as `sqlstable scale` says? Ten workloads, and a real point beyond each.

    python -m benchmarks.scaling [--quick | --other]

Each workload runs at five sizes on the wasm engine. ``--other`` takes other sizes, the native
engine and SQLite pages of 1024 bytes: nothing of the laws was chosen by that. What is predicted for
ten times the largest size is compared with a real run there: OS pages accessed, OS pages dirty,
instructions and stable bytes in use of the whole run, and every measure of each message and
statement. A workload is *inside* where all of the whole run are. Nothing here depends on the clock.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.scaling_workloads import WORKLOADS
from sqlstable.analysis.scaling.growing import Checked, ScaleResults, scale_results
from sqlstable.workload.sweeping.carrying_out import carry_out
from sqlstable.workload.sweeping.executors import processes
from sqlstable.workload.sweeping.results import ResultsFile
from sqlstable.workload.sweeping.spec import make_spec

SIZES: Final = (100, 300, 1000, 3000, 10_000)
CHOICES: Final[Mapping[str, str | int]] = {"engine": "wasm"}
QUICK_SIZES: Final = (100, 200, 400)
OTHER_SIZES: Final = (500, 2000, 7000, 20_000, 60_000)
OTHER_CHOICES: Final[Mapping[str, str | int]] = {"engine": "native", "page_size": 1024}
BEYOND: Final = 10
INSIDE_MIN: Final = 9
"""Of ten workloads."""

WORKERS: Final = 2


@dataclass(frozen=True, slots=True)
class Scaled:
    """One workload with its check."""

    name: str
    found: ScaleResults

    @property
    def rows(self) -> tuple[Checked, ...]:
        """All predictions with what was measured."""
        assert self.found.check is not None
        assert self.found.check.failure is None, self.found.check.failure
        return self.found.check.rows

    @property
    def of_run(self) -> tuple[Checked, ...]:
        """Those of the whole run."""
        return tuple(row for row in self.rows if row.grown.level == "run")

    @property
    def is_inside(self) -> bool:
        """Whether the whole run went on as predicted."""
        return bool(self.of_run) and all(row.is_inside for row in self.of_run)


def scaled(
    name: str, script: str, sizes: Sequence[int], choices: Mapping[str, str | int]
) -> Scaled:
    """Run one workload at all sizes and beyond."""
    every = (*sizes, sizes[-1] * BEYOND)
    # What crosses a limit far beyond is measured all the same.
    chosen = {**choices, "enforce": False}
    specs = [make_spec(script, choices=chosen, parameters={"rows": size}) for size in every]
    with ResultsFile(None, script=script) as results:
        carry_out(specs, results, processes(WORKERS))
        found = [it for it in results.results(specs) if it is not None]
    runs = [(float(size), it) for size, it in zip(every, found, strict=True)]
    return Scaled(name, scale_results("rows", runs[:-1], runs[-1]))


def table(rows: Sequence[Scaled]) -> str:
    """Return all workloads as Markdown."""
    lines = [
        "| workload | measure | law | predicted | from | to | real | inside | of all predictions |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: | --- | ---: |",
    ]
    for it in rows:
        inside = sum(row.is_inside for row in it.rows)
        for place, row in enumerate(it.of_run):
            series = row.grown.of(row.measure)
            assert series is not None
            assert series.fit is not None
            said = row.prediction
            lines.append(
                f"| {it.name if place == 0 else ''} | {row.measure} | {series.fit.best.name} "
                f"| {said.value:,.0f} | {said.low:,.0f} | {said.high:,.0f} | {row.real:,.0f} "
                f"| {'yes' if row.is_inside else 'NO'} "
                f"| {f'{inside} of {len(it.rows)}' if place == 0 else ''} |"
            )
    return "\n".join(lines)


def summary(rows: Sequence[Scaled]) -> str:
    """Return what came out, in sentences."""
    inside = sum(it.is_inside for it in rows)
    every = [row for it in rows for row in it.rows]
    of_run = [row for it in rows for row in it.of_run]
    widths = sorted((it.prediction.high - it.prediction.low) / 2 / it.real for it in of_run)
    errors = sorted(abs(it.prediction.value / it.real - 1) for it in of_run)
    middle = len(widths) // 2
    return (
        f"{inside} of {len(rows)} workloads inside (goal: {INSIDE_MIN} of 10), "
        f"{sum(row.is_inside for row in every)} of all {len(every)} predictions. Of the "
        f"{len(of_run)} of whole runs: median error {errors[middle]:.1%}, largest "
        f"{errors[-1]:.1%}; half an interval is {widths[middle]:.1%} of what was measured in the "
        f"median, {widths[-1]:.1%} at most."
    )


def main() -> None:
    """Run all workloads and print what came out."""
    sizes, choices = SIZES, CHOICES
    if "--quick" in sys.argv[1:]:
        sizes = QUICK_SIZES
    elif "--other" in sys.argv[1:]:
        sizes, choices = OTHER_SIZES, OTHER_CHOICES
    words = ", ".join(f"{name} {value}" for name, value in choices.items())
    listed = ", ".join(f"{size:,}" for size in sizes)
    print(f"Settings: {words}. Sizes: {listed}; real at {sizes[-1] * BEYOND:,}.\n")
    rows = [scaled(name, script, sizes, choices) for name, script in WORKLOADS.items()]
    print(f"{table(rows)}\n\n{summary(rows)}")


if __name__ == "__main__":
    main()
