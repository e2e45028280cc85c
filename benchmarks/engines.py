"""The wasm engine against the native one, and what its messages, upgrades and openings take.

    python -m benchmarks.engines [--quick]

The script is that of `benchmarks.nine`: nine statements on the same rows, in the same messages.
"""

import argparse
import gc
import hashlib
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from benchmarks.goals import Outcome, goal_table
from benchmarks.measure import (
    circumstances,
    geometric_mean,
    markdown,
    resident_bytes,
    seconds_per_call,
)
from benchmarks.nine import FULL, QUICK, STEPS, Workload, prepare, time_step
from sqlstable import Canister
from sqlstable.ic.units import GIB, MIB

VARIANTS: Final[dict[str, dict[str, Any]]] = {
    "native": {},
    "wasm": {"engine": "wasm", "track_heap": False},
    "wasm, heap watched": {"engine": "wasm", "track_heap": True},
}

STARTS: Final = """
import time
import sqlstable.canister.measured_machine
begin = time.perf_counter()
from sqlstable.engine.measured.module.builds import load_program
from sqlstable.ic.prices import regime_of
from sqlstable.wasm.instance import Instance
program = load_program("standard", regime_of(None), watches_heap=True)
Instance(program, stable_wasm_pages_max=8192000, limits=None)
print((time.perf_counter() - begin) * 1e3)
"""

COUNTS: Final = """
import hashlib
from benchmarks.engines import counted
print(hashlib.sha256(repr(counted()).encode()).hexdigest())
"""

OPENS: Final = """
import sys, time
from sqlstable import Canister
from sqlstable.canister.choices import Choices
from sqlstable.canister.machines import open_memory
Canister(engine="wasm").close()
open_memory(Choices(sys.argv[1], engine="wasm")).close()
begin = time.perf_counter()
memory = open_memory(Choices(sys.argv[1], engine="wasm"))
seconds = time.perf_counter() - begin
pages = int(open("/proc/self/statm").read().split()[1])
print(seconds * 1e3, pages * 4096 / 2**20)
memory.close()
"""


class CanisterSubject:
    """A canister as the nine statements want it."""

    accesses: int | None = None

    def __init__(self, options: dict[str, Any]) -> None:
        """Make it, and its empty table."""
        self._canister = Canister(cache_size=500, limits=None, **options)

    def message(self) -> Any:  # noqa: ANN401  a message
        """Return an update."""
        return self._canister.message("update")

    def close(self) -> None:
        """Close it."""
        self._canister.close()


def measure_script(work: Workload, runs: int) -> dict[str, dict[str, float]]:
    """Return the least seconds of each step by variant."""
    minima: dict[str, dict[str, float]] = {name: {} for name in VARIANTS}
    for _ in range(runs):
        for name, options in VARIANTS.items():
            subject = CanisterSubject(options)
            prepare(subject)
            for step, run in STEPS.items():
                seconds = time_step(run, subject, work)
                known = minima[name].get(step, math.inf)
                minima[name][step] = min(known, seconds)
            subject.close()
    return minima


def ratio(minima: dict[str, dict[str, float]], name: str) -> float:
    """Return the mean of a variant's times, divided by the native engine's."""
    return geometric_mean(
        minima[name][step] / seconds for step, seconds in minima["native"].items()
    )


def measure_messages(calls: int) -> dict[str, float]:
    """Return microseconds of messages that do nothing, and milliseconds of an upgrade."""
    with Canister(engine="wasm", track_heap=True) as canister:
        canister.update("CREATE TABLE t (x)")

        def empty(kind: Any) -> Callable[[], None]:  # noqa: ANN401  a kind of message
            def run() -> None:
                with canister.message(kind):
                    pass

            return run

        found = {
            "update": seconds_per_call(empty("update"), calls=calls) * 1e6,
            "query": seconds_per_call(empty("query"), calls=calls) * 1e6,
            "update of SELECT 1": seconds_per_call(lambda: canister.update("SELECT 1"), calls=calls)
            * 1e6,
            "query of SELECT 1": seconds_per_call(lambda: canister.query("SELECT 1"), calls=calls)
            * 1e6,
        }
        with canister.message() as message, message.transaction():
            message.executemany("INSERT INTO t VALUES (?)", [("x" * 500,)] * 20_000)
        found["upgrade"] = seconds_per_call(canister.upgrade, calls=max(calls // 20, 10)) * 1e3
    return found


def measure_starts() -> tuple[float, float]:
    """Return milliseconds of a start with and without a compiled module in the cache."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "XDG_CACHE_HOME": folder}
        first = float(_printed(STARTS, environment))
        cached = min(float(_printed(STARTS, environment)) for _ in range(5))
    return cached, first


def measure_opening(folder: Path, size_bytes: int) -> tuple[float, float]:
    """Return milliseconds and resident MiB of opening an image of this size."""
    path = folder / "large.stable"
    with Canister(path, engine="wasm") as canister:
        canister.update("CREATE TABLE t (x)")
    os.truncate(path, size_bytes)
    # The first time, it may have to be compiled for so large a memory.
    openings = [_printed(OPENS, dict(os.environ), str(path)).split() for _ in range(4)][1:]
    path.unlink()
    return min(float(it[0]) for it in openings), min(float(it[1]) for it in openings)


def measure_residence(messages: int, upgrades: int) -> float:
    """Return by how many MiB memory grows over many messages and upgrades."""
    with Canister(engine="wasm", track_heap=True) as canister:
        canister.update("CREATE TABLE t (id INTEGER PRIMARY KEY, x TEXT)")

        def go_on(count: int, upgrade_count: int) -> None:
            for index in range(count):
                if index % 2:
                    canister.query("SELECT x FROM t WHERE id = ?", (index % 300,))
                else:
                    canister.update(
                        "INSERT OR REPLACE INTO t VALUES (?, ?)", (index % 300, f"x{index}")
                    )
                if index % (count // upgrade_count) == 0:
                    canister.upgrade()

        go_on(100, 10)
        gc.collect()
        before = resident_bytes()
        go_on(messages, upgrades)
        gc.collect()
        return (resident_bytes() - before) / MIB


def counted() -> list[object]:
    """Return everything that two processes must agree on."""
    seen: list[object] = []
    with Canister(engine="wasm") as canister:
        canister.update("CREATE TABLE t (id INTEGER PRIMARY KEY, x TEXT)")
        for index in range(50):
            update = canister.update(
                "INSERT INTO t (x) VALUES (random() || ?)", ("x" * index * 40,)
            )
            query = canister.query("SELECT sum(length(x)) FROM t")
            seen += [
                (one.rows, one.message.instructions, one.message.heap, one.message.stable)
                for one in (update, query)
            ]
        machine: Any = canister.memory
        seen.append(hashlib.sha256(canister.image()).hexdigest())
        seen.append(hashlib.sha256(machine.store.machine.heap_bytes()).hexdigest())
    return seen


def _printed(script: str, environment: dict[str, str], *arguments: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    return result.stdout.strip()


def main(arguments: list[str] | None = None) -> None:
    """Measure everything and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows, fewer runs")
    quick = parser.parse_args(arguments).quick
    begin = time.perf_counter()
    print(markdown(("circumstance", "value"), circumstances(Path(tempfile.gettempdir()))), "\n")
    minima = measure_script(Workload.of(**(QUICK if quick else FULL)), runs=1 if quick else 3)
    print(
        markdown(
            ("milliseconds", *VARIANTS),
            [
                (step, *(f"{minima[name][step] * 1e3:.1f}" for name in VARIANTS))
                for step in minima["native"]
            ],
        )
    )
    messages = measure_messages(200 if quick else 2000)
    cached, first = measure_starts()
    with tempfile.TemporaryDirectory() as folder:
        opening_ms, opening_mib = measure_opening(Path(folder), 500 * GIB)
    counts = (1000, 100) if quick else (10_000, 1000)
    growth = measure_residence(*counts)
    sums = [_printed(COUNTS, dict(os.environ)) for _ in range(2)]
    print(
        goal_table(
            [
                Outcome("wasm ÷ native, geometric mean", 2.0, ratio(minima, "wasm")),
                Outcome(
                    "wasm with the heap watched ÷ native, geometric mean",
                    2.6,
                    ratio(minima, "wasm, heap watched"),
                ),
                Outcome("empty update, µs", 80, messages["update"], 1),
                Outcome("empty query, µs", 120, messages["query"], 1),
                Outcome("update of SELECT 1, µs", 80, messages["update of SELECT 1"], 1),
                Outcome("query of SELECT 1, µs", 120, messages["query of SELECT 1"], 1),
                Outcome("upgrade, ms", 2, messages["upgrade"]),
                Outcome("start from a compiled module, ms", 60, cached, 1),
                Outcome("start with compiling, ms", 3000, first, 0),
                Outcome("opening 500 GiB, ms", 10, opening_ms),
                Outcome("opening 500 GiB, MiB resident", 120, opening_mib, 1),
                Outcome("{} messages and {} upgrades, MiB more".format(*counts), 50, growth, 1),
                Outcome("two processes differ", 0, float(sums[0] != sums[1]), 0),
            ]
        )
    )
    print(f"\n{time.perf_counter() - begin:.0f} s")


if __name__ == "__main__":
    main()
