"""Measurements at the far end, each in a process of its own so that its memory can be told.

``python -m benchmarks.extremes far`` and ``python -m benchmarks.extremes many`` print one JSON
object each; `benchmarks.vfs` runs them and reads it.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from benchmarks.measure import resident_bytes
from sqlstable import Canister, StableMemory, latest_limits, open_trace
from sqlstable.ic.units import GIB, WASM_PAGE_BYTES

FAR_BYTES: Final = 500 * GIB

ROW_COUNT: Final = 100_000
"""Rows of about 200 bytes: 22 MB, a B-tree three levels deep."""

CACHE_SIZE: Final = 10
"""SQLite pages; so few that nearly each point read goes down the whole tree again."""

POINT_READS: Final = (
    "WITH RECURSIVE draw (n, x) AS (SELECT 1, ? UNION ALL "
    "SELECT n + 1, (x * 1103515245 + 12345) % 2147483648 FROM draw WHERE n < ?) "
    "SELECT sum(length(s)) FROM draw CROSS JOIN t ON t.id = 1 + (x / 1024) % ?"
)
"""Draws row numbers (a linear congruential generator) and reads each row; one statement."""

_PROBE_READS: Final = 10_000


def run_child(name: str, *arguments: str, module: str = "benchmarks.extremes") -> dict[str, Any]:
    """Run one of a module's measurements in a process of its own, and return what it printed."""
    command = [sys.executable, "-m", module, name, *arguments]
    root = Path(__file__).parents[1]
    path = os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])])
    result = subprocess.run(
        command, check=True, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}
    )
    values: dict[str, Any] = json.loads(result.stdout)
    return values


def measure_far() -> dict[str, Any]:
    """Grow raw stable memory to 500 GiB, and read one row of a database in it.

    The database is made first; then comes growth to the full size, opening a canister over the
    memory, and one point read by a query message in a fresh heap: schema, B-tree and all.
    """
    limits = latest_limits()
    assert limits.stable_memory_wasm_pages_max * WASM_PAGE_BYTES >= FAR_BYTES
    memory = StableMemory(limits=limits)
    first = Canister(layout="raw", memory=memory)
    first.update("CREATE TABLE t (id INTEGER PRIMARY KEY, s TEXT)")
    with first.message("update") as message:
        message.executemany("INSERT INTO t VALUES (?, ?)", ((i, f"row {i}") for i in range(1000)))
    start = time.perf_counter()
    first.close()
    missing = FAR_BYTES // WASM_PAGE_BYTES - memory.wasm_pages
    assert memory.grow(missing) >= 0
    grown = time.perf_counter()
    second = Canister(layout="raw", memory=memory)
    opened = time.perf_counter()
    rows = second.query("SELECT s FROM t WHERE id = ?", (500,), cache="fresh").rows
    stop = time.perf_counter()
    assert rows == [("row 500",)], rows
    memory.write(FAR_BYTES - 4, b"last")
    assert memory.read(FAR_BYTES - 4, 4) == b"last"
    return {
        "grow_s": grown - start,
        "open_s": opened - grown,
        "point_read_s": stop - opened,
        "grow_open_read_s": stop - start,
        "resident_bytes": resident_bytes(),
        "resident_peak_bytes": resident_bytes("VmHWM"),
    }


def measure_many(access_count: int, message_count: int) -> dict[str, Any]:
    """Record many accesses by random point reads, write the trace, and read it back.

    Args:
        access_count: About how many accesses.
        message_count: Query messages they are spread over, one statement each.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "many.trace"
        canister = Canister(cache_size=CACHE_SIZE, trace=path)
        canister.update("CREATE TABLE t (id INTEGER PRIMARY KEY, s TEXT)")
        canister.update(
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) "
            "INSERT INTO t SELECT i, printf('%0200d', i) FROM n",
            (ROW_COUNT,),
        )
        before = resident_bytes("VmHWM")
        probe, _, _ = _run_message(canister, 0, _PROBE_READS)
        reads = access_count * _PROBE_READS // (probe * message_count)
        messages = [_run_message(canister, seed, reads) for seed in range(1, message_count + 1)]
        accesses = sum(message[0] for message in messages)
        run_s = sum(message[1] for message in messages)
        write_s = sum(message[2] for message in messages)
        start = time.perf_counter()
        canister.close()
        write_s += time.perf_counter() - start
        peak = resident_bytes("VmHWM")
        with open_trace(path) as trace:
            calls = sum(statement.stable.calls.read for statement in trace.statements)
        return {
            "accesses": accesses,
            "accesses_in_trace": calls,
            "messages": message_count,
            "run_s": run_s,
            "write_s": write_s,
            "trace_bytes": path.stat().st_size,
            "resident_before_bytes": before,
            "resident_peak_bytes": peak,
        }


def _run_message(canister: Canister, seed: int, reads: int) -> tuple[int, float, float]:
    """Return the accesses of one message, its seconds, and the seconds of writing it down."""
    log = canister.memory.log
    assert log is not None
    start = time.perf_counter()
    with canister.message("query", cache="warm") as message:
        message.execute(POINT_READS, (seed, reads, ROW_COUNT))
        accesses = log.position()
        ran = time.perf_counter()
    return accesses, ran - start, time.perf_counter() - ran


def main(arguments: list[str]) -> None:
    """Print one measurement as JSON."""
    name, *numbers = arguments
    result = measure_far() if name == "far" else measure_many(*map(int, numbers))
    print(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1:])
