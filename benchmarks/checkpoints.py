"""What a checkpoint gets from rows that are appended, put into a B-tree, and changed at random.

``python -m benchmarks.checkpoints`` prints a table as Markdown: for each workload 500 messages of
one row, a message a round, on a table that has rows already. Nothing is timed; two runs print the
same. ``--rows N`` takes tables of other sizes.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from benchmarks.measure import markdown
from sqlstable import Canister
from sqlstable.analysis.checkpoints.intervals import (
    ROUNDS,
    CheckpointInterval,
    checkpoint_intervals,
)

ROWS: Final = (1_000, 20_000, 200_000)
BODY_BYTES: Final = 100
STRIDE: Final = 7_919
"""A prime: its multiples fill a range in no order."""

TABLE: Final = "CREATE TABLE t (id INTEGER PRIMARY KEY, key INTEGER, body TEXT)"
INDEX: Final = "CREATE INDEX t_key ON t (key)"
INSERT: Final = "INSERT INTO t (id, key, body) VALUES (?, ?, ?)"
UPDATE: Final = "UPDATE t SET body = ? WHERE id = ?"

Parameters = tuple[object, ...]


def _scattered(number: int, rows: int) -> int:
    """Return places all over a table of as many rows, in no order."""
    return number * STRIDE * 31 % rows


def _body(number: int) -> str:
    return f"{number:0{BODY_BYTES}}"


def _append(number: int, rows: int) -> Parameters:
    return 2 * (rows + number), number, _body(number)


def _between(number: int, rows: int) -> Parameters:
    # Keys of the table are even.
    return 2 * _scattered(number, rows) + 1, number, _body(number)


def _append_indexed(number: int, rows: int) -> Parameters:
    return 2 * (rows + number), 2 * _scattered(number, rows) + 1, _body(number)


def _change(number: int, rows: int) -> Parameters:
    return _body(-number), 2 * _scattered(number, rows)


WORKLOADS: Final[dict[str, tuple[str, bool, Callable[[int, int], Parameters]]]] = {
    "rows appended": (INSERT, False, _append),
    "rows into a B-tree, anywhere": (INSERT, False, _between),
    "rows appended, an index anywhere": (INSERT, True, _append_indexed),
    "rows changed, anywhere": (UPDATE, False, _change),
}
"""SQL of a message, whether there is an index, and its parameters."""


def measured(name: str, rows: int, folder: Path) -> CheckpointInterval:
    """Return what 500 messages of a workload leave."""
    sql, is_indexed, parameters = WORKLOADS[name]
    image = folder / "table.stable"
    with Canister(image) as canister:
        canister.update(TABLE)
        if is_indexed:
            canister.update(INDEX)
        with canister.message("update") as message, message.transaction():
            message.executemany(
                INSERT,
                (
                    (2 * number, 2 * (number * STRIDE % rows), _body(number))
                    for number in range(rows)
                ),
            )
    with Canister(image, trace=":memory:") as canister:
        for number in range(ROUNDS):
            canister.update(sql, parameters(number, rows))
        [found] = checkpoint_intervals(canister.trace())
    image.unlink()
    return found


def table(row_counts: tuple[int, ...]) -> Iterator[tuple[str, ...]]:
    """Yield a row for each workload on a table of each size."""
    for rows in row_counts:
        for name in WORKLOADS:
            with tempfile.TemporaryDirectory() as folder:
                found = measured(name, rows, Path(folder))
            each, by_chunks = found.hashed_bytes_each, found.chunk_bytes_each
            assert each is not None
            assert by_chunks is not None
            yield (
                *(f"{rows:,}", name, f"{found.os_pages_dirty_sum:,}", f"{found.os_pages_dirty:,}"),
                *(f"{found.range_count:,}", f"{found.overlay_bytes:,}", f"{each:.4f}"),
                *(f"{found.chunks_touched:,}", f"{by_chunks:.1f}"),
                f"{100 * found.subnet_share:.4f} %",
            )


HEADINGS: Final = (
    *("rows before", "500 messages of one row", "OS pages dirty, added up", "different ones"),
    *("ranges", "overlay, bytes", "hashed for each dirty byte", "chunks of memory touched"),
    *("hashed if these were", "of the subnet's heap delta, without heap"),
)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=ROWS)
    chosen = parser.parse_args()
    print(markdown(HEADINGS, [*table(tuple(chosen.rows))]))


if __name__ == "__main__":
    main()
