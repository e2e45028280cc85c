"""How long the table reports of a million accesses take, from the command to its last line.

``python -m benchmarks.tables`` runs ``sqlstable report`` on the trace of `benchmarks.html`, a child
process each time, and counts the child's own seconds of the processor beside those of the clock:
on a busy machine the clock counts other people's work. The child's modules are compiled before, as
those of an installed package are.
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


def compiled_in(folder: str) -> dict[str, str]:
    """Return an environment whose modules are compiled into a folder by their first use."""
    environment = dict(os.environ, PYTHONPYCACHEPREFIX=folder)
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    return environment


def run_report(
    trace: Path, options: tuple[str, ...], environment: dict[str, str]
) -> tuple[float, float]:
    """Run one report, and return the seconds of the clock and of the processor that it took."""
    command = [sys.executable, "-m", "sqlstable", "report", str(trace), *options]
    before, begin = os.times(), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
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
        environment = compiled_in(str(Path(folder, "compiled")))
        for name, options in REPORTS.items():
            run_report(trace, options, environment)
            pairs = [run_report(trace, options, environment) for _ in range(runs)]
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
