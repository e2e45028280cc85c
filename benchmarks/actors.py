"""What a small message takes as there are more entities: a game's tick, a ledger's transfer.

``python -m benchmarks.actors`` runs each ready workload on the wasm engine at growing sizes, with
its small message repeated, and takes medians. Nothing here is timed, so no machine is too busy.
*fresh* is one such message as the first after an upgrade. Exponents are those of log-log least
squares, with 95 % confidence.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from benchmarks.measure import markdown
from sqlstable import Canister, Exponent, growth_exponent
from sqlstable.analysis.scaling.laws import SIZES_MIN
from sqlstable.engine.native.native_engine import is_complete
from sqlstable.workload.execution import run_steps
from sqlstable.workload.placeholders import fill_placeholders
from sqlstable.workload.ready_made import ready_workload
from sqlstable.workload.script import ScriptStep, parse_script

MESSAGES: Final = {"ledger": "transfer", "game-tick": "tick", "churn": "turn over"}
"""Ready workloads, and the label of the message that is measured."""

SIZES: Final = (100, 300, 1000, 3000, 10_000, 30_000, 100_000, 300_000, 1_000_000)
QUICK_SIZES: Final = (100, 1000, 10_000)
REPEATS: Final = 200
QUICK_REPEATS: Final = 10


@dataclass(frozen=True, slots=True)
class Cost:
    """What the median message took."""

    os_pages_accessed: float
    os_pages_dirty: float
    instructions: float
    fresh_os_pages: int
    "OS pages that the first message after an upgrade accessed."
    database_bytes: int


def steps_of(name: str, size: int, repeats: int) -> list[ScriptStep]:
    """Return a ready workload at a size, its message repeated, and once more after an upgrade."""
    one = ready_workload(name)
    text = fill_placeholders(one.text, {one.size.name: size})
    text = text.replace("--@ repeat 5\n", f"--@ repeat {repeats}\n")
    upgrade = "\n--@ upgrade\n"
    steps = list(parse_script(text + upgrade, is_complete=is_complete))
    (again,) = (step for step in steps if step.label == MESSAGES[name])
    single = parse_script(text.replace(f"--@ repeat {repeats}\n", ""), is_complete=is_complete)
    return [*steps, next(step for step in single if step.label == again.label)]


def measure(name: str, size: int, repeats: int) -> Cost:
    """Run a ready workload at one size."""
    with Canister(engine="wasm", trace=":memory:", owners=False, enforce=False) as canister:
        outcome = run_steps(canister, steps_of(name, size, repeats), cache=None, name=name)
        assert outcome.failure is None, outcome.failure
        database_bytes = canister.status().database_size_bytes
        trace = canister.trace()
    with trace:
        *warm, fresh = (it for it in trace.messages if it.label == MESSAGES[name])
    return Cost(
        os_pages_accessed=median(it.stable.os_pages_accessed for it in warm),
        os_pages_dirty=median(it.stable.os_pages_dirty for it in warm),
        instructions=median(it.instructions.total for it in warm if it.instructions is not None),
        fresh_os_pages=fresh.stable.os_pages_accessed,
        database_bytes=database_bytes,
    )


def spelled(found: Exponent) -> str:
    """Spell an exponent with its interval."""
    return f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})"


def table(name: str, sizes: Sequence[int], costs: Sequence[Cost]) -> str:
    """Return the table of one workload."""
    rows: list[tuple[str, ...]] = [
        (
            f"{size:,}",
            f"{cost.database_bytes / 2**20:,.2f}",
            f"{cost.os_pages_accessed:g}",
            f"{cost.os_pages_dirty:g}",
            f"{cost.fresh_os_pages}",
            f"{cost.instructions:,.0f}",
        )
        for size, cost in zip(sizes, costs, strict=True)
    ]
    beyond = len(sizes) // 2
    fits = {"exponent": 0, f"exponent from {sizes[beyond]:,} on": beyond}
    for text, first in fits.items():
        if len(sizes) - first < SIZES_MIN:
            continue
        columns = (
            [cost.os_pages_accessed for cost in costs],
            [cost.os_pages_dirty for cost in costs],
            [float(cost.fresh_os_pages) for cost in costs],
            [cost.instructions for cost in costs],
        )
        # A median of whole counts has steps of a half.
        found = [spelled(growth_exponent(sizes[first:], it[first:], step=0.5)) for it in columns]
        rows.append((text, "", *found))
    heading = ("entities", "database, MiB", "OS pages", "dirty", "fresh", "instructions")
    return f"### `@{name}`: {MESSAGES[name]}\n\n{markdown(heading, rows)}\n"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Measures ready workloads by their size.")
    parser.add_argument("--quick", action="store_true", help="small sizes, few messages")
    quick = parser.parse_args().quick
    sizes, repeats = (QUICK_SIZES, QUICK_REPEATS) if quick else (SIZES, REPEATS)
    print(f"Medians of {repeats} messages, wasm engine, a cache of 500 SQLite pages.\n")
    for name in MESSAGES:
        print(table(name, sizes, [measure(name, size, repeats) for size in sizes]))


if __name__ == "__main__":
    main()
