"""What a heap is worth: a cache warmed by an update serves queries, one warmed by a query does not.

On the Internet Computer a query's heap is thrown away when it has answered, so whatever SQLite
cached is read again by the next one. An update's heap stays. The wasm engine shows it in numbers:
instructions as they are counted there, and OS pages of stable memory.

    python examples/warm_heap.py
"""

from dataclasses import dataclass

import sqlstable

SCHEMA = "CREATE TABLE reading (id INTEGER PRIMARY KEY, sensor INTEGER, value REAL)"
ROWS = [(index, index % 50, index / 8) for index in range(4_000)]
QUESTION = "SELECT sensor, avg(value) FROM reading GROUP BY sensor"


@dataclass(frozen=True)
class Look:
    """What one message took."""

    what: str
    os_pages: int
    instructions: int


def looked(what: str, reply: sqlstable.Reply) -> Look:
    """Return the numbers of a reply."""
    spent = reply.message.instructions
    assert spent is not None
    return Look(what, reply.footprint.os_pages_accessed, spent.total)


def main() -> list[Look]:
    """Ask the same question five times, and print what it took each time."""
    with sqlstable.Canister(engine="wasm") as canister:
        canister.update(SCHEMA)
        with canister.message("update") as message, message.transaction():
            message.executemany("INSERT INTO reading VALUES (?, ?, ?)", ROWS)
        canister.upgrade()
        looks = [
            looked("query after an upgrade", canister.query(QUESTION)),
            looked("the same query again", canister.query(QUESTION)),
            looked("asked in an update", canister.update(QUESTION)),
            looked("query after that update", canister.query(QUESTION)),
            looked("the same query again", canister.query(QUESTION)),
        ]
    print(f"{len(ROWS):,} readings in stable memory, and one question about all of them.")
    print("The canister was just upgraded: its heap is new, and SQLite's cache is empty.\n")
    for look in looks:
        print(f"{look.what:25} {look.os_pages:4} OS pages, {look.instructions:11,} instructions")
    cold, warm = looks[0], looks[3]
    saved = cold.instructions - warm.instructions
    print(f"""
A query's heap is thrown away, so the second one reads all {cold.os_pages} OS pages again.
An update's heap stays: from then on each query finds the SQLite pages there,
touches {warm.os_pages} OS pages of stable memory, and saves {saved:,} instructions.
After the next upgrade the first query starts from nothing once more.""")
    return looks


if __name__ == "__main__":
    main()
