"""What a snapshot of a 20 GiB image costs after so many OS pages have changed.

``python -m benchmarks.snapshots [FOLDER …]`` measures in each folder, such as one on ext4, one on
xfs and one on btrfs, and prints Markdown; without any, in a temporary one.

The image is sparse: 20 GiB long, of which 64 MiB are filled. A message writes OS pages drawn over
all of it, a snapshot is taken, the next message writes more. Times are the processor's, the least
of two runs; by the clock stand beside them, and count what else the machine does. The last column
is what the file system takes to share the image's blocks with a new file as a whole (FICLONE),
where it can.
"""

import argparse
import os
import random
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.measure import MICROSECONDS, MILLISECONDS, circumstances, exponent, markdown
from sqlstable import StableMemory
from sqlstable.canister.snapshots import Snapshots, load_alone
from sqlstable.ic.units import GIB, MIB, OS_PAGE_BYTES, WASM_PAGE_BYTES
from sqlstable.memory.image.osfile import OsFile
from sqlstable.memory.snapshots.cloning import clone

IMAGE_BYTES: Final = 20 * GIB
FILLED_BYTES: Final = 64 * MIB
COUNTS: Final = (0, 10, 100, 1_000, 10_000, 30_000)
FIXED_MS_MAX: Final = 50
OS_PAGE_US_MAX: Final = 2.0
RUNS: Final = 2
LOADED_MAX: Final = 10_000
"""OS pages; more are put back in the same way, and take their time."""


@dataclass(slots=True)
class Taken:
    """One snapshot; the least of several runs."""

    os_pages: int
    take_s: float
    "Of the processor."
    elapsed_s: float
    "By the clock, on a machine that others use, too."
    load_s: float | None
    clone_s: float | None
    size_bytes: int


def measure(folder: Path, counts: tuple[int, ...], seed: int) -> list[Taken]:
    """Take a snapshot after each count of changed OS pages, and load the one before it."""
    draw = random.Random(seed)
    path = folder / "large.stable"
    found = []
    with StableMemory.open(path, limits=None) as memory:
        with memory.message("update"):
            memory.limit(None)
            memory.grow(IMAGE_BYTES // WASM_PAGE_BYTES)
            for address in range(0, FILLED_BYTES, MIB):
                memory.write(address, draw.randbytes(MIB))
        snapshots = Snapshots(memory)
        before = snapshots.take()
        for count in counts:
            _write(memory, draw, count)
            clone_s = _clone_seconds(folder, path)
            start, began = time.process_time(), time.perf_counter()
            taken = snapshots.take()
            stop, ended = time.process_time(), time.perf_counter()
            assert taken.os_pages_copied == count, taken
            load_s = _load_seconds(snapshots, before.id, taken.id) if count <= LOADED_MAX else None
            layer = snapshots.shelf.find(taken.id).layers[-1]
            with closing(snapshots.shelf.open(layer)) as file:
                size_bytes = file.size()
            found.append(Taken(count, stop - start, ended - began, load_s, clone_s, size_bytes))
            # What was loaded counts as changed; the next one is to count from here.
            before = snapshots.take(replace_id=taken.id) if load_s else taken
    return found


def _write(memory: StableMemory, draw: random.Random, count: int) -> None:
    os_pages = draw.sample(range(IMAGE_BYTES // OS_PAGE_BYTES), count)
    with memory.message("update"):
        memory.limit(None)
        for os_page in os_pages:
            memory.write(os_page * OS_PAGE_BYTES, draw.randbytes(16))


def _load_seconds(snapshots: Snapshots, before: str, after: str) -> float:
    """Return how long it takes to load the snapshot before, and load the last one again."""
    start = time.process_time()
    load_alone(snapshots, before)
    stop = time.process_time()
    load_alone(snapshots, after)
    return stop - start


def _clone_seconds(folder: Path, path: Path) -> float | None:
    """Return how long the file system takes to share the blocks of a whole file."""
    with closing(OsFile(os.open(path, os.O_RDONLY))) as source:
        if _shared_in(source, folder / "shared") is None:
            return None
        # What is not on the disk yet would be written first, and counted.
        source.flush()
        return _shared_in(source, folder / "shared")


def _shared_in(source: OsFile, target: Path) -> float | None:
    with closing(OsFile(os.open(target, os.O_RDWR | os.O_CREAT))) as file:
        start = time.process_time()
        is_shared = clone(source.descriptor, file.descriptor)
        stop = time.process_time()
    target.unlink()
    return stop - start if is_shared else None


def _least(runs: list[list[Taken]]) -> list[Taken]:
    return [
        Taken(
            one[0].os_pages,
            min(it.take_s for it in one),
            min(it.elapsed_s for it in one),
            None if one[0].load_s is None else min(it.load_s or 0 for it in one),
            None if one[0].clone_s is None else min(it.clone_s or 0 for it in one),
            one[0].size_bytes,
        )
        for one in zip(*runs, strict=True)
    ]


def report(folder: Path, *, runs: int, counts: tuple[int, ...]) -> str:
    """Return the table of one folder."""
    measured = []
    for run in range(runs):
        with tempfile.TemporaryDirectory(dir=folder) as place:
            measured.append(measure(Path(place), counts, seed=run))
    least = _least(measured)
    rows = []
    for one in least:
        goal_s = FIXED_MS_MAX / MILLISECONDS + one.os_pages * OS_PAGE_US_MAX / MICROSECONDS
        rows.append(
            (
                f"{one.os_pages:,}",
                f"{one.take_s * MILLISECONDS:.2f}",
                f"{one.elapsed_s * MILLISECONDS:.2f}",
                f"{goal_s * MILLISECONDS:.0f}",
                "ok" if one.take_s <= goal_s else "MISSED",
                f"{one.take_s * MICROSECONDS / one.os_pages:.2f}" if one.os_pages else "",
                f"{one.size_bytes:,}",
                "" if one.load_s is None else f"{one.load_s * MILLISECONDS:.1f}",
                "" if one.clone_s is None else f"{one.clone_s * MILLISECONDS:.1f}",
            )
        )
    header = (
        *(
            "OS pages changed",
            "take, ms",
            "by the clock, ms",
            "goal, ms",
            "ok?",
            "µs an OS page",
            "bytes",
        ),
        *("load the one before, ms", "FICLONE, ms"),
    )
    many = [one for one in least if one.os_pages >= 1000]
    slope = exponent([one.os_pages for one in many], [one.take_s for one in many])
    sizes = exponent([one.os_pages for one in many], [one.size_bytes for one in many])
    text = "\n".join(f"* {name}: {value}" for name, value in circumstances(folder))
    return (
        f"{text}\n\n{markdown(header, rows)}\n\nFrom 1 000 OS pages on: time ∝ k^{slope:.3f}, "
        f"space ∝ k^{sizes:.3f}.\n"
    )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--quick", action="store_true", help="small and once; means little")
    chosen = parser.parse_args()
    counts = (*COUNTS[:4], 2000) if chosen.quick else COUNTS
    with tempfile.TemporaryDirectory() as own:
        for folder in chosen.folders or [Path(own)]:
            sys.stdout.write(report(folder, runs=1 if chosen.quick else RUNS, counts=counts) + "\n")


if __name__ == "__main__":
    main()
