"""Two trees of the project side by side, in one run: is anything slower than it was?

    python -m benchmarks.beside BEFORE [--rounds 5] [GROUP ...]

``BEFORE`` is the folder of another checkout, as ``git worktree add`` makes it. Child processes of
the two trees take turns, and the least of all rounds counts. Times are the processor's. Groups are
``vfs``, ``durability`` and ``engines``.
"""

import argparse
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

from benchmarks.beside_rows import GROUPS
from benchmarks.goals import Outcome, goal_table
from benchmarks.measure import MICROSECONDS, markdown

HERE: Final = Path(__file__).parents[1]
SLOWER_PERCENT_MAX: Final = 3
COLD_PERCENT_MIN: Final = 25
_PLAIN: Final = "plain APSW, in memory"
_COLD: Final = ("cold point query, depth counters", "cold point query, depth pages")


def measured(tree: Path, group: str) -> dict[str, float]:
    """Run a group in a process of its own, with the package of one tree."""
    done = subprocess.run(
        [sys.executable, "-P", str(HERE / "benchmarks" / "beside_rows.py"), group],
        env=os.environ | {"PYTHONPATH": str(tree)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


def beside(before: Path, group: str, rounds: int) -> dict[str, tuple[float, float]]:
    """Return the least seconds before and now, by row."""
    least: dict[str, list[float]] = {}
    for number in range(rounds):
        # Each round begins with the other one.
        for which in (0, 1) if number % 2 else (1, 0):
            for row, seconds in measured((before, HERE)[which], group).items():
                pair = least.setdefault(row, [math.inf, math.inf])
                pair[which] = min(pair[which], seconds)
    return {row: (one, two) for row, (one, two) in least.items()}


def outcomes(pairs: dict[str, tuple[float, float]]) -> list[Outcome]:
    """Return the goals of a group."""
    found = [
        Outcome(f"{row}: slower by, %", SLOWER_PERCENT_MAX, max((now / was - 1) * 100, 0), 1)
        for row, (was, now) in pairs.items()
        if row != _PLAIN
    ]
    for row in _COLD:
        if row in pairs:
            was, now = (pairs[row][i] - pairs[_PLAIN][i] for i in (0, 1))
            left = now / was * 100
            found.append(
                Outcome(f"{row}, over plain APSW: left, %", 100 - COLD_PERCENT_MIN, left, 1)
            )
    return found


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.beside", description=__doc__)
    parser.add_argument("before", type=Path, help="the folder of the other tree")
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=", ".join(GROUPS))
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args(arguments)
    if not (chosen.before / "sqlstable").is_dir():
        parser.error(f"{chosen.before} has no package sqlstable")
    all_outcomes: list[Outcome] = []
    for group in chosen.groups or GROUPS:
        pairs = beside(chosen.before.resolve(), group, chosen.rounds)
        rows = [
            (row, f"{was * MICROSECONDS:.1f}", f"{now * MICROSECONDS:.1f}", f"{now / was:.3f}")
            for row, (was, now) in pairs.items()
        ]
        print(f"## {group}\n\n{markdown(('µs', 'before', 'now', 'now ÷ before'), rows)}\n")
        all_outcomes += outcomes(pairs)
    load = ", ".join(f"{value:.2f}" for value in os.getloadavg())
    print(f"## Goals\n\n{goal_table(all_outcomes)}\n\nLoad after: {load}.")


if __name__ == "__main__":
    main()
