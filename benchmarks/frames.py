"""Frames and exports of ten million accesses: how long they take, and how much memory beyond.

    python -m benchmarks.frames [--rounds 3] [FOLDER]

Each row is measured in a process of its own, which imports the library first: the time is that of
the call, the memory the peak resident set beyond what was there before it. Traces are made in
FOLDER, by default a temporary one, from seeded random accesses: ten messages of a million each over
a million SQLite pages, and a hundred thousand messages of six each.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np

from sqlstable.ic.accesses import Accesses
from sqlstable.trace.format.file import Trace, TraceWriter, open_trace
from sqlstable.trace.model import (
    NO_USE,
    Message,
    Owner,
    OwnerRuns,
    SqliteCounters,
    Statement,
)

TRACES: Final = {"large": (10, 1_000_000), "many": (100_000, 6)}
"""Messages, and accesses of each."""
_SQLITE_PAGES: Final = 1 << 20
_OWNERS: Final = [Owner(f"t{it}", f"t{it}", "table", "leaf") for it in range(50)]
_RUN: Final = 100


def make(path: Path, messages: int, accesses: int) -> None:
    """Write a trace of random accesses, with owners that change now and then."""
    rng = np.random.default_rng(1)
    starts = range(1, _SQLITE_PAGES, _RUN)
    owners = [_OWNERS[position % len(_OWNERS)] for position in range(len(starts))]
    with TraceWriter(path, {"page_size": 4096}) as writer:
        for index in range(messages):
            offset = rng.integers(0, _SQLITE_PAGES, accesses) * 4096
            kind = (rng.random(accesses) < 0.3).astype(np.int8)
            made = Accesses(kind, offset + 65_536, np.full(accesses, 4096), offset)
            runs = OwnerRuns(index, [index * 7 % _SQLITE_PAGES + 1], [3], [_OWNERS[index % 50]])
            if index == 0:
                runs = OwnerRuns(0, [*starts], [_RUN] * len(starts), owners)
            writer.write(
                _message(index),
                [_statement(index)],
                statement_accesses={index: [made]},
                owner_runs=[runs] if index % 20 == 0 or messages < 100 else [],
            )


def _message(index: int) -> Message:
    return Message(
        *(index, "update", None, "committed", None, False, "warm", (index,), NO_USE, (), (), 65_536)
    )


def _statement(index: int) -> Statement:
    sql = "SELECT 1"
    return Statement(
        *(index, index, sql, sql, "read", 1, 1, (), NO_USE, {}, SqliteCounters(), ()),
    )


ACTIONS: Final[dict[str, Callable[[Trace], Any]]] = {
    "access_blocks": lambda trace: sum(len(block) for block in trace.access_blocks()),
    "access_blocks, no owners": lambda trace: sum(
        len(block) for block in trace.access_blocks(owners=False)
    ),
    "accesses_frame, pandas": lambda trace: trace.accesses_frame(library="pandas"),
    "accesses_frame, polars": lambda trace: trace.accesses_frame(library="polars"),
    "accesses_frame, pyarrow": lambda trace: trace.accesses_frame(library="pyarrow"),
    "statements_frame, pandas": lambda trace: trace.statements_frame(),
    "messages_frame, pandas": lambda trace: trace.messages_frame(),
}


def measured(path: Path, action: str) -> tuple[float, float]:
    """Return the seconds and the megabytes of one action, in this process."""
    library = action.rpartition(" ")[2]
    if library in ("pandas", "polars", "pyarrow"):
        __import__(library)
    with open_trace(path) as trace:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        begin = time.perf_counter()
        kept = ACTIONS[action](trace)
        seconds = time.perf_counter() - begin
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        del kept
    return seconds, (peak - before) / 1024


def _child(path: Path, action: str) -> tuple[float, float]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.frames", "--one", action, str(path)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    seconds, megabytes = json.loads(done.stdout)
    return seconds, megabytes


def main() -> None:
    """Print a row for each trace and action."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("folder", nargs="?", type=Path)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measured(options.folder, options.one)))
        return
    with tempfile.TemporaryDirectory() as made:
        folder = options.folder or Path(made)
        print("| trace | | least s | median s | MB beyond the start |\n|---|---|---|---|---|")
        for name, size in TRACES.items():
            path = folder / f"{name}.trace"
            if not path.exists():
                make(path, *size)
            for action in ACTIONS:
                found = [_child(path, action) for _ in range(options.rounds)]
                seconds = sorted(it for it, _ in found)
                peak = max(it for _, it in found)
                middle = seconds[len(seconds) // 2]
                print(f"| {name} | {action} | {seconds[0]:.2f} | {middle:.2f} | {peak:.0f} |")


if __name__ == "__main__":
    main()
