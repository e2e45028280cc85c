"""How long the table reports of a million accesses take, from the command to its last line.

``python -m benchmarks.tables`` runs ``sqlstable report`` on the trace of `benchmarks.html`, a child
process each time, and counts the child's own seconds of the processor beside those of the clock:
on a busy machine the clock counts other people's work.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from benchmarks.goals import Outcome, goal_table
from benchmarks.html import write_trace

REPORTS: Final = {
    "default": (),
    "--by locality": ("--by", "locality"),
    "--map": ("--map",),
}
GOAL_S: Final = 1.0


def run_report(trace: Path, options: tuple[str, ...]) -> tuple[float, float]:
    """Run one report, and return the seconds of the clock and of the processor that it took."""
    command = [sys.executable, "-m", "sqlstable", "report", str(trace), *options]
    before, begin = os.times(), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    seconds, after = time.perf_counter() - begin, os.times()
    user = after.children_user - before.children_user
    return seconds, user + after.children_system - before.children_system


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=7)
    runs: int = parser.parse_args().runs
    outcomes, medians = [], []
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder, "run.trace")
        write_trace(trace)
        for name, options in REPORTS.items():
            pairs = [run_report(trace, options) for _ in range(runs)]
            clock, processor = zip(*pairs, strict=True)
            outcomes += [
                Outcome(f"{name}, s by the clock", GOAL_S, min(clock)),
                Outcome(f"{name}, s of the processor", GOAL_S, min(processor)),
            ]
            medians.append(
                f"{name} {statistics.median(clock):.2f} s by the clock, "
                f"{statistics.median(processor):.2f} s of the processor"
            )
    print(goal_table(outcomes))
    print(f"medians of {runs}: " + "; ".join(medians))


if __name__ == "__main__":
    main()
