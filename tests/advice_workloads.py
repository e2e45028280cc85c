"""Ten workloads with a mistake that is known each, and the same without it.

`tests/test_advice.py` runs both: the advice names the mistake, following it makes the measured
number smaller, and the mended workload gets no advice.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from sqlstable import Canister, open_trace

ROWS = 6_000


@dataclass(frozen=True)
class Mistake:
    """A workload that has a mistake unless it is told to be without."""

    code: str
    "The rule that has to find it."
    names: str
    "What the advice or its numbers have to name."
    measure: str
    "What following it makes smaller: os_pages_accessed, os_pages_dirty or instructions."
    run: Callable[[Canister, bool], None]
    "Told whether the mistake is mended."
    mistaken: Mapping[str, object] = field(default_factory=dict)
    "Settings with the mistake."
    mended: Mapping[str, object] = field(default_factory=dict)
    "Settings without it."
    smaller_by: float = 1.05
    "At least so many times."


def record(mistake, path, *, mended):
    """Run a workload, and return its trace."""
    keywords = mistake.mended if mended else mistake.mistaken
    with Canister(trace=path, **keywords) as canister:
        mistake.run(canister, mended)
    return open_trace(path)


def measured(trace, mistake):
    """Return the number that following the advice makes smaller."""
    total = trace.summary
    if mistake.measure == "instructions":
        return total.instructions.total
    return getattr(total.stable, mistake.measure)


def load(canister, sql, rows):
    """Fill a table in one message."""
    with canister.message("update") as message, message.transaction():
        message.executemany(sql, rows)


def tracks(canister, *, rows=ROWS):
    canister.update("CREATE TABLE track (id INTEGER PRIMARY KEY, artist TEXT, title TEXT)")
    load(
        canister,
        "INSERT INTO track VALUES (?, ?, ?)",
        ((n, f"artist {n * 7919 % 500}", f"title {n} {'x' * 40}") for n in range(rows)),
    )


def look_up(canister, mended):
    tracks(canister)
    if mended:
        canister.update("CREATE INDEX track_artist ON track(artist)")
    for number in range(30):
        canister.query("SELECT title FROM track WHERE artist = ?", (f"artist {number}",))


def keep_an_index(canister, mended):
    canister.update("CREATE TABLE post (id INTEGER PRIMARY KEY, author INTEGER, body TEXT)")
    if not mended:
        canister.update("CREATE INDEX post_body ON post(body)")
    chance = random.Random(1)
    for first in range(0, ROWS, 300):
        load(
            canister,
            "INSERT INTO post VALUES (?, ?, ?)",
            ((first + n, n, f"{chance.random()} {'y' * 60}") for n in range(300)),
        )
        canister.query("SELECT body FROM post WHERE id = ?", (first,))


def read_single_rows(canister, _):
    tracks(canister, rows=2_000)
    for number in range(200):
        canister.query("SELECT title FROM track WHERE id = ?", (number * 7,))


def change_rows(canister, _):
    tracks(canister, rows=2_000)
    for number in range(40):
        with canister.message("update") as message:
            for row in (number, 1000 + number):
                message.execute("UPDATE track SET title = 'new' WHERE id = ?", (row,))


def read_ranges(canister, _):
    tracks(canister)
    canister.update("CREATE INDEX track_artist ON track(artist)")
    canister.upgrade()
    for number in range(40):
        sql = "SELECT title FROM track WHERE artist BETWEEN ? AND ?"
        canister.query(sql, (f"artist {100 + number}", f"artist {104 + number}"))


def key_by_text(canister, mended):
    key = "number INTEGER PRIMARY KEY" if mended else "number TEXT PRIMARY KEY"
    canister.update(f"CREATE TABLE invoice ({key}, cents INTEGER)")
    keys = [n if mended else f"invoice-2026-{n:012}" for n in range(ROWS)]
    load(canister, "INSERT INTO invoice VALUES (?, ?)", ((key, 5) for key in keys))
    for key in keys[:: ROWS // 200]:
        canister.query("SELECT cents FROM invoice WHERE number = ?", (key,))


def key_by_chance(canister, mended):
    chance = random.Random(1)
    canister.update("CREATE TABLE event (id INTEGER PRIMARY KEY, what TEXT)")
    for first in range(0, ROWS, 100):
        keys = range(first, first + 100) if mended else [chance.getrandbits(60) for _ in range(100)]
        load(canister, "INSERT INTO event VALUES (?, ?)", ((key, "z" * 100) for key in keys))


def send_rows(canister, mended):
    canister.update("CREATE TABLE sale (id INTEGER PRIMARY KEY, cents INTEGER)")
    rows = [(number, number % 100) for number in range(200)]
    if mended:
        load(canister, "INSERT INTO sale VALUES (?, ?)", rows)
    else:
        for row in rows:
            canister.update("INSERT INTO sale VALUES (?, ?)", row)


def show_titles(canister, mended):
    canister.update("CREATE TABLE page (id INTEGER PRIMARY KEY, title TEXT, body TEXT)")
    load(
        canister,
        "INSERT INTO page VALUES (?, ?, ?)",
        ((n, f"title {n}", "w" * 30_000) for n in range(100)),
    )
    for first in range(0, 100, 10):
        columns = "id, title" if mended else "*"
        canister.query(f"SELECT {columns} FROM page WHERE id BETWEEN ? AND ? + 9", (first, first))


def page_through(canister, mended):
    tracks(canister)
    for part in range(0, ROWS, 500):
        if mended:
            sql = "SELECT id, title FROM track WHERE id >= ? ORDER BY id LIMIT 20"
        else:
            sql = "SELECT id, title FROM track ORDER BY id LIMIT 20 OFFSET ?"
        canister.query(sql, (part,))


MISTAKES = (
    Mistake("missing-index", "track(artist)", "os_pages_accessed", look_up, smaller_by=3),
    Mistake("unused-index", "post_body", "os_pages_dirty", keep_an_index, smaller_by=2),
    Mistake(
        *("page-size", "UPDATE track", "instructions", change_rows),
        {"page_size": 65_536, "engine": "wasm", "cache_size": 20},
        {"engine": "wasm", "cache_size": 20},
    ),
    Mistake("journal", "delete", "os_pages_dirty", change_rows, {"journal_mode": "delete"}),
    Mistake(
        *("cache-too-large", "artist BETWEEN", "instructions", read_ranges),
        {"engine": "wasm", "cache_size": 2000},
        {"engine": "wasm", "cache_size": 20},
    ),
    Mistake("text-key", "invoice", "os_pages_accessed", key_by_text, smaller_by=1.5),
    Mistake("random-key", "event", "os_pages_dirty", key_by_chance, smaller_by=3),
    Mistake(
        *("no-transaction", "INSERT INTO sale", "instructions", send_rows),
        {"engine": "wasm"},
        {"engine": "wasm"},
        smaller_by=5,
    ),
    Mistake("select-star", "overflow of page", "os_pages_accessed", show_titles, smaller_by=1.5),
    Mistake("offset", "WHERE id > ?", "os_pages_accessed", page_through, smaller_by=1.5),
)
"""Each of the known mistakes."""
