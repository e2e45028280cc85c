"""Serialising at every upgrade beside staying in stable memory, to ten million rows.

    python -m benchmarks.upgrade_compare [--quick | --wide]

What is counted is the same on any machine: nothing here depends on the clock. The laws are fitted
to the sizes below the largest, which checks them by a real run. Both price lists are shown: of
today, and of the day before heap and stable memory were charged by the region.

``--wide`` runs into the first failure instead of predicting it: rows of 64 KiB, so that few make a
database of 2 GiB. It takes up to 12 GB of memory.
"""

import sys
from collections.abc import Iterator
from typing import Final

from sqlstable.analysis.upgrading.break_even import break_even
from sqlstable.analysis.upgrading.limits_reached import (
    GrowthLaw,
    checked,
    first_failure,
    heap_law,
    upgrade_law,
)
from sqlstable.analysis.upgrading.upgrade_runs import Mean, SizeRun, UpgradeComparison
from sqlstable.ic.units import GIB, MIB
from sqlstable.workload.upgrading.comparing import UpgradeWorkload, compare_upgrades

SIZES: Final = (1e3, 3e3, 1e4, 3e4, 1e5, 3e5, 1e6)
CHECK: Final = 1e7
QUICK_SIZES: Final = (100, 300, 1000)
QUICK_CHECK: Final = 3000
DAYS: Final = {"today": "latest", "before 2026": "2025-01-01"}

WIDE: Final = """\
CREATE TABLE wide (id INTEGER PRIMARY KEY, body BLOB);
WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < /*@rows*/ 100)
INSERT INTO wide SELECT i, zeroblob(65000) FROM n;
--@ repeat 2
SELECT length(body) FROM wide WHERE id = 1 + abs(random()) % /*@rows*/ 100;
"""
WIDE_SIZES: Final = (1000, 2000, 4000, 8000)
"""Of 64 KiB and a little each: the largest is a database of half a GiB."""
WIDE_REAL: Final = (26_000, 31_000, 34_000)
"""Around the size at which the laws say that serialising whole fails."""


def main(arguments: list[str]) -> int:
    """Measure, and print Markdown."""
    if "--wide" in arguments:
        print("\n".join(_wide()))
        return 0
    is_quick = "--quick" in arguments
    sizes, check = (QUICK_SIZES, QUICK_CHECK) if is_quick else (SIZES, CHECK)
    for day, date in DAYS.items():
        # The check is the same law on any day, and takes longest.
        found = compare_upgrades(rows=sizes, check=check if day == "today" else None, limits=date)
        print(f"### Prices of {day}\n")
        print("\n".join(_tables(found)))
    return 0


def _tables(found: UpgradeComparison) -> Iterator[str]:
    checks = () if found.check is None else (found.check,)
    yield from _heading()
    for at in (*found.sizes, *checks):
        yield from _measured(at)
    yield ""
    yield "| way | upgrade grows as | heap grows as | fails first of | database, GiB | rows |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for way in found.ways:
        failure = first_failure(found, way)
        assert failure is not None, "there are sizes enough"
        data, size = failure.database_bytes, failure.size
        grown = [_exponent(law(found, way.name)) for law in (upgrade_law, heap_law)]
        yield (
            f"| {way.name} | {grown[0]} | {grown[1]} | {failure.cause} | "
            f"{data.value / GIB:,.2f} ({data.low / GIB:,.2f} to {data.high / GIB:,.2f}) | "
            f"{size.value:,.2g} ({size.low:,.2g} to {size.high:,.2g}) |"
        )
    yield ""
    yield from _checks(found)
    yield from _even(found)


def _heading() -> Iterator[str]:
    yield (
        "| rows | database, MiB | way | upgrade, M | OS pages | peak heap, MiB | ÷ database | "
        "read, M | write, M |"
    )
    yield "|" + " ---: |" * 2 + " --- |" + " ---: |" * 6


def _measured(at: SizeRun) -> Iterator[str]:
    for run in at.runs:
        size = "" if at.size is None else f"{at.size:,.0f}"
        data = f"{at.database_bytes / MIB:,.1f}"
        if run.upgrade is None:
            yield f"| {size} | {data} | {run.name} | {run.failure} | | | | | |"
            continue
        pages = max(part.os_pages_accessed for part in run.parts)
        heap = run.heap_bytes / MIB
        share = run.heap_bytes / at.database_bytes
        read, write = (
            f"{Mean.of(costs).value / 1e6:,.2f}" if costs else ""
            for costs in (run.reads, run.writes)
        )
        spent = f"{run.upgrade / 1e6:,.1f}"
        yield (
            f"| {size} | {data} | {run.name} | {spent} | {pages:,} | {heap:,.1f} | {share:,.2f} | "
            f"{read} | {write} |"
        )


def _exponent(grown: GrowthLaw | None) -> str:
    assert grown is not None, "there are sizes enough"
    it = grown.law.exponent
    return f"n^{abs(it.value):.3f} ± {(it.high - it.low) / 2:.3f}"


def _checks(found: UpgradeComparison) -> Iterator[str]:
    rows = checked(found)
    if not rows or found.check is None:
        return
    inside = sum(row.is_inside for row in rows)
    yield f"Checked by a real run at {found.check.size:,.0f} rows: {inside} of {len(rows)} inside."
    yield ""
    yield "| way | measure | real | predicted | from | to | inside |"
    yield "| --- | --- | ---: | ---: | ---: | ---: | --- |"
    for row in rows:
        numbers = (row.real, row.said.value, row.said.low, row.said.high)
        cells = " | ".join(f"{number:,.0f}" for number in numbers)
        yield f"| {row.name} | {row.measure} | {cells} | {'yes' if row.is_inside else 'NO'} |"
    yield ""


def _even(found: UpgradeComparison) -> Iterator[str]:
    yield (
        f"Break-even with staying, at {found.reads_per_day:,.0f} reads and "
        f"{found.writes_per_day:,.0f} writes a day:"
    )
    yield ""
    yield "| rows | way | spared a day, M | to hold, M | an upgrade more, M | upgrades a day |"
    yield "| ---: | --- | ---: | ---: | ---: | ---: |"
    for at in found.sizes:
        for way in found.ways[1:]:
            even = break_even(found, at, way.name)
            if even is not None:
                spared = even.spared
                yield (
                    f"| {at.size or 0:,.0f} | {way.name} | {spared.value / 1e6:,.0f} ± "
                    f"{spared.half_width / 1e6:,.0f} | {even.storage / 1e6:,.0f} | "
                    f"{even.extra / 1e6:,.1f} | {even.upgrades_per_day:,.1f} ({even.low:,.1f} to "
                    f"{even.high:,.1f}) |"
                )
    yield ""


def _wide() -> Iterator[str]:
    workload = UpgradeWorkload(WIDE, "wide rows")
    found = compare_upgrades(workload, rows=WIDE_SIZES)
    for way in found.ways:
        failure = first_failure(found, way)
        if failure is not None:
            size = failure.size
            yield (
                f"{way.name}: {failure.cause}, at {size.value:,.0f} rows ({size.low:,.0f} to "
                f"{size.high:,.0f})"
            )
    yield ""
    yield from _heading()
    for rows in WIDE_REAL:
        (at,) = compare_upgrades(workload, rows=[rows]).sizes
        yield from _measured(at)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
