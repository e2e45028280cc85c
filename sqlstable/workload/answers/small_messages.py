"""What small messages cost, each by itself: the first thing that a developer wants to know.

A table of tracks of about sixty bytes with an index on a number in no order, and plays of them. The
messages come in an order that gives each the heap that its name says: *fresh* behind an opening,
*cold* without SQLite's page cache, *warm* as an update before it has left it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from sqlstable.canister.canister import Canister
from sqlstable.canister.reply import Reply
from sqlstable.ic.words import CacheState
from sqlstable.trace.model import Message

ROWS: Final = 20_000

SCHEMA: Final = (
    "CREATE TABLE track (id INTEGER PRIMARY KEY, serial INTEGER, title TEXT)",
    "CREATE TABLE play (id INTEGER PRIMARY KEY, track INTEGER, day INTEGER)",
)
INDEXES: Final = (
    "CREATE INDEX track_serial ON track (serial)",
    "CREATE INDEX play_track ON play (track)",
)

LOOKUP: Final = "SELECT title FROM track WHERE id = ?"
RANGE: Final = "SELECT id, title FROM track WHERE serial BETWEEN ? AND ?"
JOIN: Final = (
    "SELECT track.title, play.day FROM track JOIN play ON play.track = track.id "
    "WHERE track.serial BETWEEN ? AND ?"
)
CHART: Final = (
    "SELECT track.title, count(*) AS plays FROM play JOIN track ON track.id = play.track "
    "GROUP BY track.id ORDER BY plays DESC, track.title LIMIT 10"
)
SCAN: Final = "SELECT count(*) FROM track WHERE title LIKE '%9999%'"
UPDATE: Final = "UPDATE track SET title = ? WHERE id = ?"
INSERT: Final = "INSERT INTO track (serial, title) VALUES (?, ?)"

_ID: Final = 4711
_HUNDRED: Final = (500_000, 505_000)
_TEN: Final = (500_000, 500_500)
_TITLE: Final = "a new title of about sixty bytes, as long as the others here"


@dataclass(frozen=True, slots=True)
class SmallMessage:
    """One message, with what it was asked."""

    name: str
    message: Message
    rows: int


def small_messages(build: str, *, rows: int = ROWS) -> Iterator[SmallMessage]:
    """Run the small messages on a canister of its own, and yield each.

    Args:
        build: Of the wasm engine.
        rows: Of each table.

    Raises:
        SettingsError: There is no such build, or wasmtime is missing.
    """
    with Canister(engine="wasm", build=build) as canister:
        _fill(canister, rows)
        yield _told("SELECT 1, in an update", canister.update("SELECT 1"))
        yield from _reads(canister)
        yield from _writes(canister)
        yield from _together(canister)
        canister.upgrade()
        reply = canister.update(UPDATE, ("after an upgrade", _ID))
        yield _told("first update behind an upgrade", reply)
        canister.update("DROP INDEX track_serial")
        yield _told("join by the index, index dropped", canister.query(JOIN, _TEN, cache="cold"))


def _fill(canister: Canister, rows: int) -> None:
    for sql in SCHEMA:
        canister.update(sql)
    with canister.message() as message, message.transaction():
        message.executemany(
            "INSERT INTO track VALUES (?, ?, ?)",
            [(it, it * 7919 % 1_000_003, f"track {it} " + "x" * 50) for it in range(rows)],
        )
        message.executemany(
            "INSERT INTO play VALUES (?, ?, ?)",
            [(it, it * 7 % rows, it % 365) for it in range(rows)],
        )
    for sql in INDEXES:
        canister.update(sql)


def _reads(canister: Canister) -> Iterator[SmallMessage]:
    asked: tuple[tuple[str, str, tuple[int, ...]], ...] = (
        ("point lookup", LOOKUP, (_ID,)),
        ("100 rows by an index", RANGE, _HUNDRED),
        ("small join", JOIN, _TEN),
        ("ten most played", CHART, ()),
    )
    states: tuple[CacheState, ...] = ("fresh", "cold", "warm")
    for name, sql, values in asked:
        for cache in states:
            if cache == "warm":
                # A query leaves no heap behind; an update does.
                canister.update(sql, values)
            yield _told(f"{name}, {cache}", canister.query(sql, values, cache=cache))
    yield _told("LIKE over all rows, cold", canister.query(SCAN, cache="cold"))


def _writes(canister: Canister) -> Iterator[SmallMessage]:
    canister.update(LOOKUP, (_ID,))
    yield _told("small update, warm", canister.update(UPDATE, (_TITLE, _ID)))
    yield _told("the same again, equal value", canister.update(UPDATE, (_TITLE, _ID)))
    yield _told("insert with an index, warm", canister.update(INSERT, (77, _TITLE)))


def _together(canister: Canister) -> Iterator[SmallMessage]:
    with canister.message("query", cache="cold") as message:
        for number in range(100):
            message.execute(LOOKUP, (number * 199 + 1,))
    yield _told("100 point lookups in one message, cold", message.reply)
    with canister.message() as message, message.transaction():
        message.execute(LOOKUP, (_ID,))
        message.execute(RANGE, _HUNDRED)
        message.execute(UPDATE, ("another title", _ID))
        message.execute(INSERT, (78, _TITLE))
    yield _told("lookup, range, update and insert in one transaction", message.reply)


def _told(name: str, reply: Reply) -> SmallMessage:
    return SmallMessage(name, reply.message, len(reply.rows))
