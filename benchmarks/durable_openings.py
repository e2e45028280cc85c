"""Opening image files: very large ones, ones that were left by a killed process, many of them.

What is killed, or must tell its memory, runs in a process of its own:
``python -m benchmarks.durable_openings far|many|victim …``; the others print one JSON object.
"""

import gc
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import time
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import apsw

from benchmarks.extremes import run_child
from benchmarks.measure import resident_bytes
from sqlstable import Canister
from sqlstable.ic.units import GIB, MIB, OS_PAGE_BYTES
from sqlstable.memory.image.commitlog import RECORDS_OFFSET
from sqlstable.memory.image.durability import Durability
from sqlstable.memory.image.durable import CHECKPOINT_BYTES

FAR_BYTES: Final = 500 * GIB
FAR_BUCKET_PAGES: Final = 256
"""With the default of 128 Wasm pages, layout managed ends at 256 GiB."""

FAR_DATABASE_BYTES: Final = {"raw": FAR_BYTES, "managed": FAR_BYTES - 16 * MIB}
"""Layout managed has one Wasm page before its first bucket, and buckets of 16 MiB here."""

IMAGE_SIZES_BYTES: Final = (20 * MIB, 200 * MIB, 2 * GIB, 20 * GIB)

SQLITE_PAGE_BYTES: Final = 4096
SQLITE_PAGE_COUNT_OFFSET: Final = 28
ROW_COUNT: Final = 100
_BODY_BYTES: Final = 3500
assert SQLITE_PAGE_BYTES // 2 < _BODY_BYTES < SQLITE_PAGE_BYTES, "one row fills one SQLite page"

_UPDATE: Final = "UPDATE filler SET body = zeroblob(?), message = ? WHERE id <= ?"
_READ: Final = "SELECT min(message), max(message) FROM filler WHERE id <= ?"

_STEADY_MESSAGES: Final = 10
"""Messages after which a victim may be killed."""

_KILL_SECONDS_MAX: Final = 0.02
Layout = Literal["raw", "managed"]
_MODULE: Final = "benchmarks.durable_openings"


def make_sparse_image(path: Path, size_bytes: int, layout: Layout = "managed") -> None:
    """Make an image with a database that states so many bytes, most of which are a hole."""
    bucket_pages = FAR_BUCKET_PAGES if layout == "managed" and size_bytes > 200 * GIB else None
    canister = Canister(path, layout=layout, bucket_pages=bucket_pages, depth="pages")
    with canister.message("update") as message:
        message.execute("CREATE TABLE filler (id INTEGER PRIMARY KEY, message INTEGER, body BLOB)")
        for _ in range(ROW_COUNT):
            message.execute("INSERT INTO filler VALUES (NULL, 0, zeroblob(?))", (_BODY_BYTES,))
    count = (size_bytes // SQLITE_PAGE_BYTES).to_bytes(4, "big")
    with canister.memory.message("upgrade"):
        assert canister.vfs.store.placement.grow_to(size_bytes)
        canister.vfs.store.write_direct(count, SQLITE_PAGE_COUNT_OFFSET)
    canister.upgrade()
    assert canister.status().database_size_bytes == size_bytes
    canister.close()


# -- a very large image ---------------------------------------------------------------------------


def measure_far(path: Path, layout: Layout, runs: int) -> dict[str, Any]:
    """Make an image of 500 GiB, and open it in processes of their own; the quickest counts."""
    make_sparse_image(path, FAR_DATABASE_BYTES[layout], layout)
    children = [run_child("far", str(path), layout, module=_MODULE) for _ in range(runs)]
    found = path.stat()
    path.unlink()
    best = min(children, key=lambda child: float(child["open_s"]))
    return {**best, "image_bytes": found.st_size, "blocks_bytes": found.st_blocks * 512}


def _far(path: Path, layout: Layout) -> dict[str, Any]:
    before = resident_bytes("VmHWM")
    start = time.perf_counter()
    canister = Canister(path, layout=layout)
    opened = time.perf_counter()
    rows = canister.query("SELECT length(body) FROM filler WHERE id = ?", (50,), cache="fresh").rows
    read = time.perf_counter()
    canister.update("UPDATE filler SET message = message + 1 WHERE id = ?", (ROW_COUNT // 2,))
    updated = time.perf_counter()
    assert rows == [(_BODY_BYTES,)], rows
    canister.close()
    closed = time.perf_counter()
    return {
        "open_s": opened - start,
        "point_read_s": read - opened,
        "point_update_s": updated - read,
        "close_s": closed - updated,
        "resident_before_bytes": before,
        "resident_peak_bytes": resident_bytes("VmHWM"),
    }


# -- recovery -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Recovery:
    """Openings after kills, of one image."""

    what: str
    "Level, size, and rows that each message has updated."
    seconds: tuple[float, ...]
    "Of opening a canister, recovery included; one for each kill."
    recovered: str
    "What the last opening said."
    log_bytes: int
    "Bytes of the log that the last kill has left."


def measure_recovery(
    path: Path, size_bytes: int, durability: Durability, *, row_count: int, kills: int
) -> Recovery:
    """Kill a process in the middle of its messages, and open what it left; several times.

    With ``power`` the process kills itself when the log holds nearly all it may.
    """
    make_sparse_image(path, size_bytes)
    draw = random.Random(1)
    seconds = []
    recovered, log_bytes = "", 0
    for _ in range(kills):
        answered = _kill_victim(path, durability, row_count, draw)
        log_bytes = path.with_name(f"{path.name}-log").stat().st_size
        start = time.perf_counter()
        canister = Canister(path, durability=durability)
        seconds.append(time.perf_counter() - start)
        assert canister.recovery is not None
        recovered = canister.recovery.removeprefix(str(path)).strip()
        ((first, last),) = canister.query(_READ, (row_count,)).rows
        assert first == last in (answered, answered + 1), (first, last, answered)
        canister.close()
    path.unlink()
    size = f"{size_bytes // GIB} GiB" if size_bytes >= GIB else f"{size_bytes // MIB} MiB"
    return Recovery(
        f"{durability}, {size}, messages of {row_count} row(s)",
        tuple(seconds),
        recovered,
        log_bytes,
    )


def _kill_victim(path: Path, durability: str, row_count: int, draw: random.Random) -> int:
    """Return the number of the last message that the victim has answered."""
    answers = path.with_name(f"{path.name} answers")
    command = [sys.executable, "-m", _MODULE, "victim", *map(str, (path, durability, row_count))]
    with _running([*command, str(answers)]) as victim:
        assert victim.stdout is not None
        assert victim.stdout.readline() == "ready\n"
        if durability == "process":
            time.sleep(draw.uniform(0, _KILL_SECONDS_MAX))
            victim.kill()
        assert victim.wait(timeout=300) == -signal.SIGKILL
    answered = int.from_bytes(answers.read_bytes(), "little")
    answers.unlink()
    return answered


@contextmanager
def _running(command: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    root = Path(__file__).parents[1]
    search = os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": search}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            yield process
        finally:
            process.kill()


def _victim(path: Path, durability: Durability, row_count: int, answers: Path) -> None:
    """Send messages until somebody kills this process, or the log is full."""
    canister = Canister(path, durability=durability, depth="pages")
    descriptor = os.open(answers, os.O_RDWR | os.O_CREAT)
    ((number,),) = canister.query("SELECT max(message) FROM filler").rows
    sent = 0
    end_offset = RECORDS_OFFSET
    while True:
        number += 1
        with canister.message() as message:
            message.execute(_UPDATE, (_BODY_BYTES, number, row_count))
            dirty_count = len(canister.memory.bytemap.dirty)
        # What was written outlives the process, like an answer that somebody has read.
        os.pwrite(descriptor, number.to_bytes(8, "little"), 0)
        sent += 1
        if sent == _STEADY_MESSAGES:
            print("ready", flush=True)
        if durability == "power":
            # Each record has its OS pages and one for its header.
            before, end_offset = end_offset, end_offset + (dirty_count + 1) * OS_PAGE_BYTES
            if 2 * end_offset - before - RECORDS_OFFSET >= CHECKPOINT_BYTES:
                os.kill(os.getpid(), signal.SIGKILL)


# -- many openings --------------------------------------------------------------------------------


def measure_many(path: Path, durability: Durability, count: int) -> dict[str, Any]:
    """Open and close a small canister many times, in a process of its own.

    Five times as many go before those that are measured: memory grows for some 4000 openings, as
    caches and arenas fill, and what counts is whether it goes on.
    """
    result = run_child("many", str(path), durability, str(count), module=_MODULE)
    path.unlink()
    return result


def _many(path: Path, durability: Durability, count: int) -> dict[str, Any]:
    with Canister(path) as canister:
        canister.update("CREATE TABLE account (id INTEGER PRIMARY KEY, balance INTEGER)")
        canister.update("INSERT INTO account (balance) VALUES (1), (2), (3)")
    # Made beforehand, so that they are no part of the growth.
    openings, closings = array("d", [0.0] * count), array("d", [0.0] * count)
    for _ in range(6):
        resident, descriptors, names = _held()
        for number in range(count):
            start = time.perf_counter()
            canister = Canister(path, durability=durability)
            opened = time.perf_counter()
            canister.close()
            openings[number] = opened - start
            closings[number] = time.perf_counter() - opened
    resident_after, descriptors_after, names_after = _held()
    return {
        "count": count,
        "open_s": statistics.median(openings),
        "close_s": statistics.median(closings),
        "open_close_mean_s": statistics.fmean(openings) + statistics.fmean(closings),
        "descriptors_grown": descriptors_after - descriptors,
        "vfs_names_grown": names_after - names,
        "resident_grown_bytes": resident_after - resident,
        "resident_grown_bytes_each": (resident_after - resident) / count,
        "resident_bytes": resident_after,
    }


def _held() -> tuple[int, int, int]:
    """Return resident bytes, open descriptors, and registered VFS names."""
    gc.collect()
    return resident_bytes(), len(os.listdir("/proc/self/fd")), len(apsw.vfs_names())  # noqa: PTH208


def main(arguments: list[str]) -> None:
    """Run one of the processes."""
    name, path, *rest = arguments
    if name == "victim":
        durability, row_count, answers = rest
        _victim(Path(path), _durability(durability), int(row_count), Path(answers))
    elif name == "far":
        print(json.dumps(_far(Path(path), "raw" if rest == ["raw"] else "managed")))
    else:
        durability, count = rest
        print(json.dumps(_many(Path(path), _durability(durability), int(count))))


def _durability(name: str) -> Durability:
    return "power" if name == "power" else "process"


if __name__ == "__main__":
    main(sys.argv[1:])
