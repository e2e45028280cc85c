"""Do inserts under ic-rusqlite's journal modes cost here what its authors have published?

``python -m benchmarks.journal_rows`` prints published and measured instructions of the inserts of
wasm-forge/benchmarks (``sqlite-vs-btreemap``): 100 000 rows are there, one transaction adds more
in between. Nothing is timed. The module is our own: SQLite 3.54.1 with ic-rusqlite's PRAGMAs, and
its database in virtual memory 120 of the same memory manager. What is not there is its file system:
ic-rusqlite's journal is a file of stable-fs, in chunks that a stable B-tree finds.

As there, all is one message, so that OS pages which the first rows have dirtied cost nothing more;
the INSERT is prepared before, and replies are not part of it.

Source:
    wasm-forge/benchmarks ``sqlite-vs-btreemap/canbench_results.yml``, commit 07f0f914 (canbench
    0.2.1), with the benchmarks of commit 3b764220 in its ``lib.rs``.
"""

import sys
from typing import Final

from benchmarks.measure import markdown
from sqlstable import Canister

LIMITS: Final = "2025-09-01"
"""A day of price list wasm-native, on which the figures were published."""

ROWS_THERE: Final = 100_000
STEP: Final = 10
"""Between their ids."""

PUBLISHED: Final = {
    ("persist", 1): 407_495,
    ("persist", 5): 453_298,
    ("persist", 10): 529_971,
    ("persist", 100): 2_338_989,
    ("persist", 1000): 20_485_018,
    ("memory", 1): 202_719,
    ("memory", 5): 248_522,
    ("memory", 10): 325_269,
    ("memory", 100): 2_068_848,
    ("memory", 1000): 18_953_202,
    ("off", 1): 149_553,
    ("off", 5): 195_380,
    ("off", 10): 272_089,
    ("off", 100): 1_997_964,
    ("off", 1000): 18_656_892,
}
"""Instructions by journal mode and rows that are inserted."""

_TABLE: Final = "CREATE TABLE users (id INTEGER PRIMARY KEY AUTOINCREMENT, username TEXT NOT NULL)"
_INSERT: Final = "INSERT INTO users (id, username) VALUES (?, ?)"
_PHASES: Final = ("run", "commit")


def measure(journal_mode: str, rows: int) -> int:
    """Return the instructions of a transaction that inserts rows between those that are there.

    Examples:
        >>> 0 < measure("off", 1)
        True
    """
    payload = "a" * 100
    middle = ROWS_THERE * STEP // 2 + STEP // 2
    preset = "ic-rusqlite"
    options = {"preset": preset, "journal_mode": journal_mode, "limits": LIMITS}
    with Canister(engine="wasm", **options) as canister, canister.message() as message:
        message.execute(_TABLE)
        for start in range(0, ROWS_THERE, ROWS_THERE // 10):
            numbers = range(start, start + ROWS_THERE // 10)
            with message.transaction():
                message.executemany(_INSERT, [(STEP * number, payload) for number in numbers])
        with message.transaction():
            more = [(middle + STEP * number, payload) for number in range(rows)]
            message.executemany(_INSERT, more)
    found = 0
    for statement in message.reply.statements[-3:]:
        assert statement.phase_instructions is not None
        found += sum(statement.phase_instructions[phase] for phase in _PHASES)
    return found


def main() -> int:
    """Measure and print."""
    lines = []
    for (journal_mode, rows), published in PUBLISHED.items():
        measured = measure(journal_mode, rows)
        lines.append((journal_mode, f"{rows:,}", f"{published:,}", f"{measured:,}",
                      f"{measured / published:.3f}"))  # fmt: skip
    print(markdown(("journal", "rows", "published", "measured", "ratio"), lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
