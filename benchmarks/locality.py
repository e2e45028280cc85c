"""Locality from a trace: how long a miss-ratio curve takes, and how true predictions are.

    python -m benchmarks.locality [--quick] [PART ...]

Parts are ``curve`` and ``cache``; without any, both. Times are the processor's. The touches of
``curve`` are made up, 30 % a cyclic scan and 70 % skewed; those of ``cache`` are of five workloads
on both engines (`benchmarks.cache_workloads`), recorded with a small page cache, and run again with
others.
"""

import argparse
import statistics
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from benchmarks.cache_workloads import CACHE_WORKLOADS, traced
from benchmarks.goals import Outcome, goal_table
from benchmarks.measure import circumstances, markdown, processor_seconds
from sqlstable.analysis.locality.page_history import PageHistory
from sqlstable.analysis.locality.reuse import (
    MissRatioCurve,
    ReuseCounts,
    ReuseDistances,
    miss_ratio_curve,
)
from sqlstable.analysis.totals import sum_instructions
from sqlstable.analysis.whatif.page_cache import CacheEstimate, Estimate, page_cache_what_if
from sqlstable.ic.words import ENGINES
from sqlstable.trace.access_stream import BLOCK_ACCESSES_MAX
from sqlstable.trace.format.reader import Trace

_PAGES: Final = 100_000
_RECORDED: Final = 10
_SIZES: Final = (50, 100, 200, 400, 1000)


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--quick", action="store_true", help="small and once")
    chosen = parser.parse_args(arguments)
    unknown = set(chosen.parts) - set(PARTS)
    if unknown:
        parser.error(f"no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    begin = time.perf_counter()
    print(markdown(("circumstance", "value"), circumstances(Path(tempfile.gettempdir()))), "\n")
    outcomes: list[Outcome] = []
    for name, part in PARTS.items():
        if not chosen.parts or name in chosen.parts:
            outcomes += part(quick=chosen.quick)
    print(goal_table(outcomes))
    print(f"\n{time.perf_counter() - begin:.0f} s")


# -- the miss-ratio curve --------------------------------------------------------------------------


def _touches(count: int) -> npt.NDArray[np.int64]:
    draw = np.random.default_rng(0)
    cyclic, skewed = np.arange(count) % _PAGES, _PAGES * draw.random(count) ** 3
    return np.where(draw.random(count) < 0.3, cyclic, skewed.astype(np.int64))


def _curve(pages: npt.NDArray[np.int64]) -> MissRatioCurve:
    history, distances, counts = PageHistory(), ReuseDistances(), ReuseCounts()
    for start in range(0, len(pages), BLOCK_ACCESSES_MAX):
        touches = history.feed(pages[start : start + BLOCK_ACCESSES_MAX])
        counts.add(distances.feed(touches.previous))
    return miss_ratio_curve(counts.histogram())


def measure_curve(*, quick: bool) -> list[Outcome]:
    """Time and memory of the exact curve of made-up touches."""
    pages = _touches(100_000 if quick else 10_000_000)
    times = [processor_seconds(lambda: _curve(pages)) for _ in range(1 if quick else 5)]
    tracemalloc.start()
    curve = _curve(pages)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert curve.touches == len(pages)
    seconds = " ".join(f"{it:.2f}" for it in sorted(times))
    print(f"curve of {len(pages):,} touches, s: {seconds}; median {statistics.median(times):.2f}\n")
    what = f"miss-ratio curve of {len(pages) / 1e6:g} million touches"
    return [
        Outcome(f"{what}, s", 4, min(times)),
        Outcome(f"{what}, MB beyond them", 100, peak / 1e6, 0),
    ]


# -- predictions -----------------------------------------------------------------------------------


def _told(trace: Trace) -> Mapping[str, int | None]:
    use = trace.summary.stable
    spent = sum_instructions(it.instructions for it in trace.messages)
    return {
        "reads": use.calls.read,
        "writes": use.calls.write,
        "OS pages accessed": use.os_pages_accessed,
        "instructions": None if spent is None else spent.total,
    }


def _predicted(row: CacheEstimate) -> Mapping[str, Estimate | None]:
    found = (row.reads, row.writes, row.os_pages_accessed, row.instructions)
    return dict(zip(("reads", "writes", "OS pages accessed", "instructions"), found, strict=True))


def measure_cache(*, quick: bool) -> list[Outcome]:
    """Errors of predictions, against runs with those sizes of the page cache."""
    largest: dict[str, float] = {}
    beyond = 0
    rows = []
    for engine in ENGINES[: 1 if quick else None]:
        for work in CACHE_WORKLOADS[: 1 if quick else None]:
            with traced(work, engine=engine, cache_size=_RECORDED) as trace:
                found = page_cache_what_if(trace, _SIZES)
            for row in found.rows:
                with traced(work, engine=engine, cache_size=row.cache_size) as trace:
                    told = _told(trace)
                errors = []
                for name, estimate in _predicted(row).items():
                    real = told[name]
                    if estimate is None or real is None:
                        errors.append("")
                        continue
                    error = (estimate.value - real) / max(1, real)
                    largest[name] = max(largest.get(name, 0.0), abs(error))
                    beyond += not estimate.low <= real <= estimate.high
                    errors.append(f"{100 * error:+.1f} (± {100 * estimate.error:.1f})")
                rows.append((engine, work.__name__, str(row.cache_size), *errors))
    names = ("reads", "writes", "OS pages accessed", "instructions")
    print(markdown(("engine", "workload", "cache_size", *(f"{it}, %" for it in names)), rows), "\n")
    goals = [
        Outcome(f"prediction at five sizes: largest error of {name}, %", 5, 100 * error, 1)
        for name, error in largest.items()
    ]
    return [*goals, Outcome("predictions outside of their own error", 0, beyond, 0)]


PARTS: Final[Mapping[str, Callable[..., list[Outcome]]]] = {
    "curve": measure_curve,
    "cache": measure_cache,
}

if __name__ == "__main__":
    main()
