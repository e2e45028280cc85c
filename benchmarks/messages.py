"""What small messages, long scripts, owners, copies and starts take, against goals.

    python -m benchmarks.messages [--quick] [--gib SIZE] [PART ...]

Parts are ``small``, ``scripts``, ``large`` and ``starts``; without any, all are measured. Times are
the processor's, of this process or of a child; only copies are also measured by the clock.
"""

import argparse
import functools
import random
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from benchmarks.goals import Outcome, goal_table
from benchmarks.measure import (
    MICROSECONDS,
    circumstances,
    interleaved_minima,
    markdown,
    processor_seconds,
)
from sqlstable import Canister, open_trace
from sqlstable.ic.units import GIB, MIB

ROWS: Final = 5_000
_BATCH: Final = 600
"""Small messages that are measured at once."""

_PEAK: Final = """
import runpy, sys
sys.argv = ["sqlstable", *sys.argv[1:]]
try:
    runpy.run_module("sqlstable", run_name="__main__")
finally:
    # Not getrusage, whose peak begins with what the parent had.
    with open("/proc/self/status") as status:
        peak = next(line for line in status if line.startswith("VmHWM"))
    print(peak.split()[1], file=sys.stderr)
"""


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--quick", action="store_true", help="small and once")
    parser.add_argument("--gib", type=float, default=2.4, help="size of the large database")
    chosen = parser.parse_args(arguments)
    unknown = set(chosen.parts) - set(PARTS)
    if unknown:
        parser.error(f"no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    gib = 0.02 if chosen.quick else chosen.gib
    begin = time.perf_counter()
    print(markdown(("circumstance", "value"), circumstances(Path(tempfile.gettempdir()))), "\n")
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory() as folder:
        for name, part in PARTS.items():
            if not chosen.parts or name in chosen.parts:
                outcomes += part(Path(folder), quick=chosen.quick, gib=gib)
    print(goal_table(outcomes))
    print(f"\n{time.perf_counter() - begin:.0f} s")


# -- small messages ------------------------------------------------------------------------------


def measure_small(folder: Path, *, quick: bool, gib: float) -> list[Outcome]:
    """Microseconds of small messages: an insert, an update by key, a query by key, in turn."""
    del gib
    runs = 1 if quick else 7
    table_counts = (10, 100) if quick else (10, 1_000)
    costs: dict[tuple[int, str], float] = {}
    for tables in table_counts:
        variants: dict[str, dict[str, Any]] = {
            "plain": {},
            "owners": {"owners": True},
            "trace": {"trace": str(folder / f"small-{tables}.trace")},
            "trace, no owners": {
                "trace": str(folder / f"bare-{tables}.trace"),
                "owners": False,
            },
        }
        for engine in ("native", "wasm"):
            for name, options in variants.items():
                with _small_canister(tables, engine=engine, **options) as canister:
                    batch = _small_batch(canister, tables)
                    batch()
                    seconds = min(processor_seconds(batch) for _ in range(runs))
                costs[tables, f"{engine}, {name}"] = seconds / _BATCH * MICROSECONDS
                Path(str(options.get("trace", folder / "none"))).unlink(missing_ok=True)
    names = [name for tables, name in costs if tables == table_counts[0]]
    print(
        markdown(
            ("µs a small message", *(f"{tables} tables" for tables in table_counts)),
            [(name, *(f"{costs[tables, name]:.0f}" for tables in table_counts)) for name in names],
        ),
        "\n",
    )
    few, many = table_counts
    return [
        Outcome("small message with owners, µs", 60, costs[few, "native, owners"], 1),
        Outcome("small message with a trace, µs", 100, costs[few, "native, trace"], 1),
        Outcome(f"the same at {many} tables, µs", 200, costs[many, "native, trace"], 1),
    ]


def _small_canister(tables: int, **options: Any) -> Canister:  # noqa: ANN401  as Canister has them
    canister = Canister(**options)
    with canister.message("update") as message:
        for index in range(tables):
            message.execute(
                f"CREATE TABLE t{index} (id INTEGER PRIMARY KEY, name TEXT, balance INTEGER)"
            )
        rows = [(f"name {row}", row) for row in range(ROWS // tables)]
        for index in range(tables):
            message.executemany(f"INSERT INTO t{index} (name, balance) VALUES (?, ?)", rows)
    return canister


def _small_batch(canister: Canister, tables: int) -> Callable[[], None]:
    draw = random.Random(1)
    rows = ROWS // tables

    def batch() -> None:
        for index in range(_BATCH // 3):
            table, key = index % min(tables, 50), draw.randrange(rows) + 1
            canister.update(f"INSERT INTO t{table} (name, balance) VALUES (?, ?)", ("new", index))
            canister.update(f"UPDATE t{table} SET balance = ? WHERE id = ?", (index, key))
            canister.query(f"SELECT name, balance FROM t{table} WHERE id = ?", (key,))

    return batch


# -- scripts -------------------------------------------------------------------------------------


def measure_scripts(folder: Path, *, quick: bool, gib: float) -> list[Outcome]:
    """Seconds of whole commands on long scripts, and of reading what they wrote."""
    del gib
    inserts, tables = (2_000, 100) if quick else (100_000, 3_000)
    script, trace = folder / "inserts.sql", folder / "inserts.trace"
    lines = ["CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, balance INTEGER);"]
    lines += [f"INSERT INTO t VALUES ({index}, 'name {index}', 7);" for index in range(inserts)]
    script.write_text("\n".join(lines), encoding="utf-8")
    run_seconds, _ = command("run", str(script), "--trace", str(trace))
    with open_trace(trace) as opened:
        frame_seconds = processor_seconds(opened.to_pandas)
    report_seconds, report_mib = command("report", str(trace))
    trace_mib = trace.stat().st_size / MIB
    script.write_text(
        "".join(f"CREATE TABLE t{index} (a, b, c);\n" for index in range(tables)), encoding="utf-8"
    )
    ddl_seconds, _ = command("run", str(script), "--trace", str(folder / "ddl.trace"))
    print(f"The trace of {inserts} INSERTs has {trace_mib:.1f} MiB.\n")
    return [
        Outcome(f"script of {inserts} INSERTs, trace and report, s", 20, run_seconds),
        Outcome("report of that trace, s", 2.5, report_seconds),
        Outcome("report of that trace, peak MiB", 150, report_mib),
        Outcome("that trace into pandas, s", 2, frame_seconds),
        Outcome(f"script of {tables} CREATE TABLE, s", 6, ddl_seconds),
    ]


def command(*arguments: str) -> tuple[float, float]:
    """Return the processor's seconds of a command of ours, and its peak of memory in MiB."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = subprocess.run(
        [sys.executable, "-c", _PEAK, *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    if result.returncode:
        raise SystemExit(f"sqlstable {' '.join(arguments)} failed: {result.stderr.strip()}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, int(result.stderr.split()[-1]) / 1024


# -- a large database ----------------------------------------------------------------------------


def measure_large(folder: Path, *, quick: bool, gib: float) -> list[Outcome]:
    """Owners at opening and upgrade, and copies in and out, of a large database."""
    runs = 1 if quick else 3
    source, image, copy = folder / "app.db", folder / "app.stable", folder / "copy.db"
    make_database(source, int(gib * GIB))
    peaks: dict[str, float] = {}
    clocks = interleaved_minima(
        {
            "cp": lambda: _copy_seconds(source, copy),
            "quick_check": lambda: timed(lambda: _quick_check(source)),
            "import": lambda: _command_seconds(peaks, "import", source, image),
        },
        runs=runs,
    )
    # The image stays, and takes the part of the page cache that the copies had: anew and apart.
    clocks |= interleaved_minima(
        {
            "cp again": lambda: _copy_seconds(image, copy),
            "extract": lambda: _command_seconds(peaks, "extract", image, copy),
        },
        runs=runs,
    )
    copy.unlink()
    source.unlink()
    allowed = 2 * min(clocks["cp"], clocks["cp again"]) + clocks["quick_check"]
    opening = interleaved_minima(
        {owners: functools.partial(_opening_seconds, image, owners=owners) for owners in OWNERS},
        runs=runs,
    )
    upgrade = interleaved_minima(
        {owners: functools.partial(_upgrade_seconds, image, owners=owners) for owners in OWNERS},
        runs=runs,
    )
    print(
        markdown(
            (f"{gib:g} GiB", "seconds"),
            [
                *((f"{name}, by the clock", f"{it:.2f}") for name, it in clocks.items()),
                *((f"opening, owners {it}", f"{opening[it]:.4f}") for it in OWNERS),
                *((f"upgrade, owners {it}", f"{upgrade[it]:.4f}") for it in OWNERS),
            ],
        ),
        "\n",
    )
    image.unlink()
    return [
        Outcome(f"owners at opening, {gib:g} GiB, s", 0.2, opening[True] - opening[False]),
        Outcome(f"owners at upgrade, {gib:g} GiB, s", 0.2, upgrade[True] - upgrade[False]),
        Outcome("import ÷ (2 cp + quick_check)", 1, clocks["import"] / allowed),
        Outcome("extract ÷ (2 cp + quick_check)", 1, clocks["extract"] / allowed),
        Outcome("import, MiB resident", 150, peaks["import"], 0),
        Outcome("extract, MiB resident", 150, peaks["extract"], 0),
    ]


OWNERS: Final = (False, True)


def make_database(path: Path, size_bytes: int) -> None:
    """Make a database of a table with an index, of at least so many bytes."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript(
            "PRAGMA journal_mode = off; PRAGMA synchronous = off; BEGIN;"
            "CREATE TABLE item (id INTEGER PRIMARY KEY, code TEXT, body BLOB);"
            "CREATE INDEX item_code ON item (code);"
        )
        rows = 0
        while path.stat().st_size < size_bytes:
            # A row in fifty overflows; its code is as long as those of the others.
            connection.execute(
                "WITH RECURSIVE n (i) AS (SELECT ?1 UNION ALL SELECT i + 1 FROM n WHERE i < ?2) "
                "INSERT INTO item SELECT i, printf('code %012d', i),"
                " zeroblob(CASE i % 50 WHEN 0 THEN 6000 ELSE 400 + i % 97 END) FROM n",
                (rows, rows + 19_999),
            )
            rows += 20_000
        connection.execute("COMMIT")


def _copy_seconds(source: Path, target: Path) -> float:
    """Return the seconds of a plain copy, which is gone afterwards."""
    seconds = timed(lambda: shutil.copyfile(source, target))
    target.unlink()
    return seconds


def _command_seconds(peaks: dict[str, float], name: str, source: Path, target: Path) -> float:
    """Return the seconds of a command by the clock, and note how much memory it had."""

    def run() -> None:
        _, peaks[name] = command(name, str(source), str(target))

    target.unlink(missing_ok=True)
    return timed(run)


def timed(action: Callable[[], object]) -> float:
    """Return the seconds of one call by the clock."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def _quick_check(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        [(verdict,)] = connection.execute("PRAGMA quick_check")
    assert verdict == "ok"


def _opening_seconds(image: Path, *, owners: bool) -> float:
    opened: list[Canister] = []
    seconds = processor_seconds(lambda: opened.append(Canister(image, owners=owners)))
    opened[0].close()
    return seconds


def _upgrade_seconds(image: Path, *, owners: bool) -> float:
    with Canister(image, owners=owners) as canister:
        canister.upgrade()
        return processor_seconds(canister.upgrade)


# -- starts --------------------------------------------------------------------------------------


def measure_starts(folder: Path, *, quick: bool, gib: float) -> list[Outcome]:
    """Seconds of short commands beyond those of a Python that does nothing."""
    del gib
    trace = folder / "small.trace"
    with Canister(trace=trace) as canister:
        canister.update("CREATE TABLE t (x)")
        canister.query("SELECT * FROM t")
    commands = {
        "--help": ("--help",),
        "--version": ("--version",),
        "report small.trace": ("report", str(trace)),
    }
    actions = {"nothing": functools.partial(_child_seconds, "-c", "pass")}
    for name, arguments in commands.items():
        actions[name] = functools.partial(_child_seconds, "-m", "sqlstable", *arguments)
    minima = interleaved_minima(actions, runs=2 if quick else 15)
    goals = {"--help": 0.12, "--version": 0.12, "report small.trace": 0.4}
    return [
        Outcome(f"{name} over an empty Python, s", goal, minima[name] - minima["nothing"], 3)
        for name, goal in goals.items()
    ]


def _child_seconds(*arguments: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


PARTS: Final[dict[str, Callable[..., list[Outcome]]]] = {
    "small": measure_small,
    "scripts": measure_scripts,
    "large": measure_large,
    "starts": measure_starts,
}

if __name__ == "__main__":
    main()
