"""What giving space back takes as a database grows: VACUUM, and steps of incremental vacuum.

``python -m benchmarks.reclaiming`` makes databases with auto_vacuum incremental of which a third is
free, and runs ``sqlstable.reclaim`` on them, on the wasm engine. Nothing is timed.
"""

import argparse
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Final

from benchmarks.actors import spelled
from benchmarks.measure import markdown
from sqlstable import ReclaimReport, growth_exponent, reclaim
from sqlstable.analysis.scaling.laws import SIZES_MIN

ROWS: Final = (1000, 10_000, 30_000, 100_000, 300_000, 1_000_000)
QUICK_ROWS: Final = (1000, 3000, 10_000)
STEPS: Final = (100, 1000)


def make_database(path: Path, rows: int) -> None:
    """Make a database of which the middle third was deleted."""
    with closing(sqlite3.connect(path)) as plain:
        plain.execute("PRAGMA auto_vacuum = incremental")
        plain.execute("CREATE TABLE event (id INTEGER PRIMARY KEY, at INTEGER, body TEXT)")
        plain.execute(
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)"
            " INSERT INTO event SELECT i, i * 7919 % 1000003, printf('event %0200d', i) FROM n",
            (rows,),
        )
        plain.execute("CREATE INDEX event_by_at ON event (at)")
        plain.execute("DELETE FROM event WHERE id BETWEEN ? AND ?", (rows // 3, 2 * rows // 3))
        plain.commit()


def measure(rows: int) -> ReclaimReport:
    """Try all ways on a database of so many rows."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "app.db")
        make_database(path, rows)
        return reclaim(path, engine="wasm", steps=STEPS)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Measures ways to give space back.")
    parser.add_argument("--quick", action="store_true", help="small databases")
    sizes = QUICK_ROWS if parser.parse_args().quick else ROWS
    reports = {rows: measure(rows) for rows in sizes}
    heading = (
        *("rows", "way", "messages", "file, MiB", "OS pages", "dirty", "instructions"),
        "of the nearest limit",
    )
    lines = []
    for rows, report in reports.items():
        for way in report.ways:
            share = 0.0 if way.tightest is None else way.tightest.used / way.tightest.limit
            lines.append(
                (
                    f"{rows:,}",
                    way.name,
                    f"{way.messages:,}",
                    f"{report.file_bytes / 2**20:.2f} → {way.file_bytes / 2**20:.2f}",
                    f"{way.os_pages_accessed:,}",
                    f"{way.os_pages_dirty:,}",
                    "failed" if way.instructions is None else f"{way.instructions:,}",
                    f"{100 * share:.2f} %",
                )
            )
    print(markdown(heading, lines))
    for index, name in ((0, "VACUUM"), (1, "incremental_vacuum(100)")):
        # Where one step takes all that is free, it is no step.
        whole = {
            rows: report.ways[index]
            for rows, report in reports.items()
            if index == 0 or report.ways[index].messages > 1
        }
        if len(whole) < SIZES_MIN:
            continue
        accessed = [float(way.os_pages_accessed) for way in whole.values()]
        counted = [float(way.instructions or 0) for way in whole.values()]
        pages, work = (spelled(growth_exponent([*whole], it)) for it in (accessed, counted))
        print(f"\n{name}, largest message: OS pages ∝ rows^{pages}, instructions ∝ rows^{work}")


if __name__ == "__main__":
    main()
