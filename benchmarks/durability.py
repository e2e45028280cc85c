"""What durable messages, large images, recovery and openings cost, against stated goals.

``python -m benchmarks.durability`` runs everything; ``--quick`` runs a small version of it in a few
seconds, whose numbers mean little. All files lie in a temporary folder, made in the current one
unless ``--folder`` names another, and go when it is done: it is that folder's disk that is
measured. See ``benchmarks/README.md`` for what each row is.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks import durable_messages, durable_sql
from benchmarks.durable_messages import (
    DIRTY_COUNTS,
    FLOOR,
    FLUSHED_FLOOR,
    POWER,
    PROCESS,
    ROLLBACK,
    SUBJECTS,
    TOUCH,
    MessageResult,
    Samples,
    measure_messages,
)
from benchmarks.durable_openings import (
    IMAGE_SIZES_BYTES,
    ROW_COUNT,
    Recovery,
    measure_far,
    measure_many,
    measure_recovery,
)
from benchmarks.durable_sql import (
    CACHE_SIZES,
    CANISTER_POWER,
    CANISTER_PROCESS,
    JOURNAL_FULL,
    POWER_SUBJECTS,
    PROCESS_SUBJECTS,
    VFS_POWER,
    VFS_PROCESS,
    WAL_EXCLUSIVE,
    WAL_FULL,
    WAL_NORMAL,
    WAL_OFF,
    SqlResult,
    measure_sql,
)
from benchmarks.goals import Outcome, goal_table
from benchmarks.measure import MICROSECONDS, MILLISECONDS, circumstances, markdown
from sqlstable.memory.image.durability import DURABILITIES

MEGABYTE: Final = 10**6
KILOBYTE: Final = 10**3

MESSAGE_GOALS_US: Final = {1: 12, 10: 40, 100: 300}
WAL_RATIO_GOAL: Final = 1.0
FULL_RATIO_GOAL: Final = 1.2
RECOVERY_GOALS_MS: Final = {"process": 50, "power": 1000}

PROCESS_PAIRS: Final = [
    (subject, reference)
    for subject in (VFS_PROCESS, CANISTER_PROCESS)
    for reference in (WAL_NORMAL, WAL_EXCLUSIVE)
]
PROCESS_PAIRS_SHOWN: Final = [*PROCESS_PAIRS, (VFS_PROCESS, WAL_OFF), (CANISTER_PROCESS, WAL_OFF)]
POWER_PAIRS: Final = [
    (subject, reference)
    for subject in (VFS_POWER, CANISTER_POWER)
    for reference in (JOURNAL_FULL, WAL_FULL)
]


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured, and where."""

    folder: Path
    is_quick: bool


def main(arguments: list[str] | None = None) -> int:
    """Measure everything, and print tables; the last one is that of the goals."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.durability", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a small version, to see it work")
    parser.add_argument(
        "--folder", type=Path, default=Path(), help="folder on the disk that is to be measured"
    )
    options = parser.parse_args(arguments)
    if not options.folder.is_dir():
        parser.error(f"--folder {options.folder} is not a folder")
    start = time.perf_counter()
    outcomes: list[Outcome] = []
    for run in (run_messages, run_process_sql, run_power_sql, run_far, run_recovery, run_many):
        with tempfile.TemporaryDirectory(prefix="sqlstable-", dir=options.folder) as name:
            plan = Plan(Path(name).resolve(), is_quick=options.quick)
            if not outcomes:
                _section("Circumstances", markdown(("what", "is"), circumstances(plan.folder)))
            outcomes += run(plan)
    _section("Goals", goal_table(outcomes))
    met = sum(outcome.is_met for outcome in outcomes)
    load = ", ".join(f"{value:.2f}" for value in os.getloadavg())
    seconds = time.perf_counter() - start
    print(f"{met} of {len(outcomes)} goals met; took {seconds:.0f} s; load after: {load}.")
    return 0


# -- messages -------------------------------------------------------------------------------------


def run_messages(plan: Plan) -> list[Outcome]:
    """Measure messages and rollbacks at the lowest door."""
    full, quick = durable_messages.FULL, durable_messages.QUICK
    result = measure_messages(plan.folder, quick if plan.is_quick else full)
    _section("Messages by dirty OS pages", message_table(result))
    _section("Rollback by OS pages touched", rollback_table(result))
    outcomes = [
        Outcome(
            f"durable message of {dirty_count} dirty OS page(s), process, µs",
            goal,
            result.commits[PROCESS, dirty_count].median * MICROSECONDS,
            1,
        )
        for dirty_count, goal in MESSAGE_GOALS_US.items()
    ]
    touching = result.rollback_os_page_s / result.touch_os_page_s
    return [
        *outcomes,
        Outcome("rollback: each message, µs", 1, result.rollback_s * MICROSECONDS),
        Outcome("rollback: each OS page touched ÷ touching it", 1, touching),
    ]


def message_table(result: MessageResult) -> str:
    """Return microseconds of messages by subject and number of dirty OS pages."""
    rows = _sample_rows(result.commits, SUBJECTS)
    for subject, floor in ((PROCESS, FLOOR), (POWER, FLUSHED_FLOOR)):
        ratios = [
            result.commits[subject, k].median_ratio(result.commits[floor, k]) for k in DIRTY_COUNTS
        ]
        rows.append((f"{subject} ÷ floor, medians", *(f"{ratio:.2f}" for ratio in ratios)))
    return markdown(("µs: least / median / mean", *map(str, DIRTY_COUNTS)), rows)


def rollback_table(result: MessageResult) -> str:
    """Return microseconds of both halves of a message that is rolled back."""
    rows = _sample_rows(result.rollbacks, (TOUCH, ROLLBACK), decimals=2)
    table = markdown(("µs: least / median / mean", *map(str, DIRTY_COUNTS)), rows)
    each, os_page, touch = (
        second * MICROSECONDS
        for second in (result.rollback_s, result.rollback_os_page_s, result.touch_os_page_s)
    )
    return (
        f"{table}\n\nA rollback takes {each:.2f} µs, and {os_page:.3f} µs for each OS page that "
        f"was touched; touching one takes {touch:.2f} µs."
    )


def _sample_rows(
    samples: Mapping[tuple[str, int], Samples], names: Iterable[str], *, decimals: int = 1
) -> list[tuple[str, ...]]:
    def cell(part: Samples) -> str:
        values = (part.minimum, part.median, part.mean)
        return " / ".join(f"{value * MICROSECONDS:.{decimals}f}" for value in values)

    return [(name, *(cell(samples[name, k]) for k in DIRTY_COUNTS)) for name in names]


# -- SQL ------------------------------------------------------------------------------------------


def run_process_sql(plan: Plan) -> list[Outcome]:
    """Compare level process with WAL."""
    full, quick = durable_sql.PROCESS_FULL, durable_sql.PROCESS_QUICK
    outcomes = []
    for cache_size in CACHE_SIZES:
        result = measure_sql(
            plan.folder, PROCESS_SUBJECTS, cache_size, quick if plan.is_quick else full
        )
        _show_sql(result, "The same SQL, process", PROCESS_SUBJECTS, PROCESS_PAIRS_SHOWN)
        outcomes += _sql_outcomes(result, PROCESS_PAIRS, WAL_RATIO_GOAL)
    return outcomes


def run_power_sql(plan: Plan) -> list[Outcome]:
    """Compare level power with SQLite's ``synchronous=full``."""
    full, quick = durable_sql.POWER_FULL, durable_sql.POWER_QUICK
    result = measure_sql(
        plan.folder, POWER_SUBJECTS, CACHE_SIZES[0], quick if plan.is_quick else full
    )
    _show_sql(result, "The same SQL, power", POWER_SUBJECTS, POWER_PAIRS)
    return _sql_outcomes(result, POWER_PAIRS, FULL_RATIO_GOAL)


def _show_sql(
    result: SqlResult, title: str, subjects: Sequence[str], pairs: Sequence[tuple[str, str]]
) -> None:
    rows = _sample_rows(result.samples, subjects)
    header = ("µs: least / median / mean", *(f"{k} row(s)" for k in DIRTY_COUNTS))
    _section(f"{title}, {_cache(result)}", markdown(header, rows))
    _section(f"{title}, {_cache(result)}: ratios", ratio_table(result, pairs))


def _cache(result: SqlResult) -> str:
    return f"cache {result.cache_size:,}".replace(",", " ")


def _sql_outcomes(
    result: SqlResult, pairs: Sequence[tuple[str, str]], goal: float
) -> list[Outcome]:
    """Return the goals; all numbers of rows must meet them, so the worst one counts."""
    cache = _cache(result)
    worst = f"the worst of {', '.join(map(str, DIRTY_COUNTS))} rows"
    return [
        Outcome(f"{ours} ÷ {theirs}, {cache}: {worst}", goal, result.worst_ratio(ours, theirs))
        for ours, theirs in pairs
    ]


def ratio_table(result: SqlResult, pairs: Sequence[tuple[str, str]]) -> str:
    """Return how each subject compares with each reference."""
    rows = []
    for ours, theirs in pairs:
        cells = []
        for k in DIRTY_COUNTS:
            typical = result.samples[ours, k].median_ratio(result.samples[theirs, k])
            cells.append(f"{result.ratio(ours, theirs, k):.2f} ({typical:.2f})")
        rows.append((f"{ours} ÷ {theirs}", *cells))
    return markdown(("mean ÷ mean (median ÷ median)", *map(str, DIRTY_COUNTS)), rows)


# -- openings -------------------------------------------------------------------------------------


def run_far(plan: Plan) -> list[Outcome]:
    """Open images of 500 GiB."""
    outcomes = []
    children = {}
    for layout in ("raw", "managed"):
        child = measure_far(plan.folder / "far", layout, 1 if plan.is_quick else 5)
        children[f"500 GiB, {layout}"] = child
        opening = child["open_s"]
        reading, updating = opening + child["point_read_s"], opening + child["point_update_s"]
        what = f"500 GiB image, {layout}"
        outcomes += [
            Outcome(f"{what}: open and point read, ms", 20, reading * MILLISECONDS),
            Outcome(f"{what}: open and point update, ms", 20, updating * MILLISECONDS),
            Outcome(f"{what}: resident, MB", 100, child["resident_peak_bytes"] / MEGABYTE, 0),
        ]
    _section("Images of 500 GiB", _field_table(children))
    return outcomes


def run_recovery(plan: Plan) -> list[Outcome]:
    """Open images that a killed process has left."""
    sizes = IMAGE_SIZES_BYTES[:: len(IMAGE_SIZES_BYTES) - 1] if plan.is_quick else IMAGE_SIZES_BYTES
    path = plan.folder / "killed"
    kills = 1 if plan.is_quick else 5
    found = {
        PROCESS: [
            measure_recovery(path, size, PROCESS, row_count=ROW_COUNT, kills=kills)
            for size in sizes
        ],
        POWER: [
            measure_recovery(path, sizes[-1], POWER, row_count=row_count, kills=min(kills, 3))
            for row_count in ((ROW_COUNT,) if plan.is_quick else (1, ROW_COUNT))
        ],
    }
    _section("Opening after kill -9", recovery_table([*found[PROCESS], *found[POWER]]))
    names = {PROCESS: "any size", POWER: "64 MiB of log"}
    return [
        Outcome(
            f"opening after kill -9, {level}, {names[level]}: the slowest, ms",
            RECOVERY_GOALS_MS[level],
            max(max(recovery.seconds) for recovery in recoveries) * MILLISECONDS,
            1,
        )
        for level, recoveries in found.items()
    ]


def recovery_table(recoveries: Iterable[Recovery]) -> str:
    """Return milliseconds of the openings."""
    return markdown(
        ("ms", "least", "most", "kills", "the last one"),
        [
            (
                recovery.what,
                f"{min(recovery.seconds) * MILLISECONDS:.2f}",
                f"{max(recovery.seconds) * MILLISECONDS:.2f}",
                f"{len(recovery.seconds)}",
                recovery.recovered,
            )
            for recovery in recoveries
        ],
    )


def run_many(plan: Plan) -> list[Outcome]:
    """Open and close canisters."""
    count = 20 if plan.is_quick else 1000
    children = {}
    outcomes = []
    for durability in DURABILITIES:
        child = measure_many(plan.folder / "many", durability, count)
        children[f"openings, {durability}"] = child
        each = child["resident_grown_bytes_each"] / KILOBYTE
        outcomes += [
            Outcome(f"openings, {durability}: descriptors left", 0, child["descriptors_grown"], 0),
            Outcome(f"openings, {durability}: VFS names left", 0, child["vfs_names_grown"], 0),
            Outcome(f"openings, {durability}: resident memory left by each, kB", 0.25, each),
        ]
    _section("Openings and closings", _field_table(children))
    return outcomes


def _field_table(children: Mapping[str, Mapping[str, Any]]) -> str:
    """Return all that child processes measured; seconds in milliseconds."""
    rows = []
    for name, child in children.items():
        for field, value in child.items():
            if field.endswith("_s"):
                rows.append((f"{name}: {field.removesuffix('_s')}_ms", f"{value * 1000:.3f}"))
            else:
                shown = f"{value:.1f}" if isinstance(value, float) else f"{value}"
                rows.append((f"{name}: {field}", shown))
    return markdown(("process", "value"), rows)


def _section(title: str, text: str) -> None:
    print(f"## {title}\n\n{text}\n", flush=True)


if __name__ == "__main__":
    sys.exit(main())
