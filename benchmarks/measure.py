"""Small tools for measuring: minima, means, exponents, memory, and the circumstances."""

import gc
import math
import os
import platform
import time
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeVar

import apsw
import numpy as np

MICROSECONDS: Final = 1e6
MILLISECONDS: Final = 1e3


def processor_seconds(action: Callable[[], object]) -> float:
    """Return the processor's seconds of one call.

    Nothing that is measured so waits, so these are the seconds that a clock shows on an idle
    machine; on a busy one the clock would count other people's work. What the process holds
    already is hidden from the garbage collector meanwhile: only new objects cost.
    """
    gc.collect()
    gc.freeze()
    start = time.process_time()
    action()
    elapsed = time.process_time() - start
    gc.unfreeze()
    return elapsed


def seconds_per_call(action: Callable[[], object], *, calls: int) -> float:
    """Return the mean of the processor's seconds of one call of many."""

    def many() -> None:
        for _ in range(calls):
            action()

    return processor_seconds(many) / calls


Key = TypeVar("Key", bound=Hashable)


def interleaved_minima(
    actions: Mapping[Key, Callable[[], float]], *, runs: int
) -> dict[Key, float]:
    """Call each action ``runs`` times in turn, and return the least that each one gave.

    In turn, so that what else the machine does hits all alike.
    """
    minima = dict.fromkeys(actions, math.inf)
    for _ in range(runs):
        for name, action in actions.items():
            minima[name] = min(minima[name], action())
    return minima


def geometric_mean(values: Iterable[float]) -> float:
    """Return the geometric mean.

    Examples:
        >>> round(geometric_mean([1.0, 4.0]), 6)
        2.0
    """
    logarithms = [math.log(value) for value in values]
    return math.exp(sum(logarithms) / len(logarithms))


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """Return e of the least-squares fit cost = c * size^e.

    Examples:
        >>> round(exponent([1, 10, 100], [5, 50, 500]), 6)
        1.0
    """
    slope, _ = np.polyfit(np.log(sizes), np.log(costs), 1)
    return float(slope)


def resident_bytes(field: str = "VmRSS") -> int:
    """Return resident memory now (``VmRSS``), or its peak (``VmHWM``); Linux only."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    msg = f"/proc/self/status has no {field}; this measurement needs Linux"
    raise OSError(msg)


def circumstances(folder: Path) -> list[tuple[str, str]]:
    """Return what the numbers depend on, as rows of a table."""
    load = ", ".join(f"{value:.2f}" for value in os.getloadavg())
    return [
        ("Python", f"{platform.python_implementation()} {platform.python_version()}"),
        ("SQLite", f"{apsw.sqlite_lib_version()} (APSW {apsw.apsw_version()})"),
        ("numpy", np.__version__),
        ("system", f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"),
        ("disk file", f"VFS {apsw.vfs_names()[0]!r} on {filesystem_of(folder)}"),
        ("load before", load),
    ]


def filesystem_of(folder: Path) -> str:
    """Return the type of the file system that a folder lies on; Linux only."""
    best = ("", "an unknown file system")
    for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines():
        _, place, kind, *_ = line.split()
        if folder.resolve().is_relative_to(place) and len(place) >= len(best[0]):
            best = (place, kind)
    return best[1]


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table whose columns line up; the first one to the left.

    Examples:
        >>> print(markdown(("row", "ms"), [("scan", "5.1"), ("index", "36.0")]))
        | row   |   ms |
        | ----- | ---: |
        | scan  |  5.1 |
        | index | 36.0 |
    """
    table = [list(header), *map(list, rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    widths[1:] = [max(width, 3) for width in widths[1:]]

    def line(cells: Sequence[str]) -> str:
        first, *others = zip(cells, widths, strict=True)
        padded = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]
        return f"| {' | '.join(padded)} |"

    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join([line(table[0]), f"| {' | '.join(rule)} |", *map(line, table[1:])])
