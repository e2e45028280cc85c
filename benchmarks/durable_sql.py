"""The same SQL on an image file and on SQLite's own files.

A message is ``BEGIN``, k single-row updates on k different SQLite pages, ``COMMIT``; the rows are
drawn at random, and are the same for all. 100 000 rows of about 200 bytes lie on some 5 700 SQLite
pages of 4096 bytes.

========================  ==========================================================================
``VFS, …``                an APSW connection on `StableVFS` over an image file of that durability
``canister, …``           `Canister` on a file, depth ``pages``: one update message around the SQL
``WAL normal``            a plain file with WAL and ``synchronous=normal``: survives the end of the
                          process; after a loss of power it is whole, and may lack what was
                          answered
``WAL normal, exclusive`` the same with ``locking_mode=exclusive``, which spares the shared index
``WAL off``               the same as the first with ``synchronous=off``: promises what level
                          ``process`` promises, and never waits for the disk
``journal full``          SQLite's defaults: journal deleted after each commit, ``synchronous=full``
``WAL full``              WAL with ``synchronous=full``: flushes once for each commit
========================  ==========================================================================

A round is long enough to hold whole checkpoints: SQLite makes one when its WAL has 1000 SQLite
pages, level ``power`` one when its log has 64 MiB.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import apsw

from benchmarks.durable_messages import (
    DIRTY_COUNTS,
    POWER,
    PROCESS,
    Batch,
    Samples,
    interleaved_samples,
    seconds_of_each,
)
from benchmarks.subjects import set_pragmas
from sqlstable import Canister, StableMemory, StableVFS
from sqlstable.ic.units import OS_PAGE_BYTES
from sqlstable.memory.image.durability import Durability
from sqlstable.memory.image.durable import CHECKPOINT_BYTES

VFS_PROCESS: Final = "VFS, process"
CANISTER_PROCESS: Final = "canister, process"
WAL_NORMAL: Final = "WAL normal"
WAL_EXCLUSIVE: Final = "WAL normal, exclusive"
WAL_OFF: Final = "WAL off"
VFS_POWER: Final = "VFS, power"
CANISTER_POWER: Final = "canister, power"
JOURNAL_FULL: Final = "journal full"
WAL_FULL: Final = "WAL full"

PROCESS_SUBJECTS: Final = (VFS_PROCESS, CANISTER_PROCESS, WAL_NORMAL, WAL_EXCLUSIVE, WAL_OFF)
POWER_SUBJECTS: Final = (VFS_POWER, CANISTER_POWER, JOURNAL_FULL, WAL_FULL)

CACHE_SIZES: Final = (500, 50_000)
"""SQLite pages that SQLite keeps in the heap: a part of the database, and all of it."""

WAL_CHECKPOINT_SQLITE_PAGES: Final = 1000
"""SQLite's default for ``wal_autocheckpoint``."""

ROW_COUNT: Final = 100_000
ROW_STEP: Final = 40
"""Rows this far apart never share a SQLite page of 4096 bytes."""

_BODY_CHARACTERS: Final = 190
assert ROW_STEP * _BODY_CHARACTERS > 4096

CREATE: Final = "CREATE TABLE t (id INTEGER PRIMARY KEY, body TEXT)"
INSERT: Final = "INSERT INTO t VALUES (?, ?)"
UPDATE: Final = "UPDATE t SET body = ? WHERE id = ?"
CONTENT: Final = "SELECT count(*), min(body), max(body), sum(id * length(body)) FROM t"
SAMPLE: Final = "SELECT group_concat(body) FROM t WHERE id % 40 = 0"

Rows = Sequence[tuple[str, int]]
"""Parameters of the updates of one message."""


class SqlSubject(Protocol):
    """Something that runs the messages."""

    def load(self, rows: Sequence[tuple[int, str]]) -> None:
        """Make the table."""
        ...

    def send(self, rows: Rows) -> None:
        """Run one message."""
        ...

    def content(self) -> list[tuple[object, ...]]:
        """Return what must be the same for all."""
        ...

    def close(self) -> None:
        """Give everything back."""
        ...


class ConnectionSubject:
    """Messages on an APSW connection."""

    def __init__(self, connection: apsw.Connection, *closers: Callable[[], None]) -> None:
        """Take over the connection, and what is to be closed after it."""
        self._connection = connection
        self._closers = closers

    def load(self, rows: Sequence[tuple[int, str]]) -> None:
        """Make the table in one transaction."""
        with self._connection as connection:
            connection.execute(CREATE)
            connection.executemany(INSERT, rows)

    def send(self, rows: Rows) -> None:
        """Run one transaction."""
        execute = self._connection.execute
        execute("BEGIN")
        for row in rows:
            execute(UPDATE, row)
        execute("COMMIT")

    def content(self) -> list[tuple[object, ...]]:
        """Return sums over the table, and the rows that change."""
        return [self._connection.execute(sql).fetchall()[0] for sql in (CONTENT, SAMPLE)]

    def close(self) -> None:
        """Close everything."""
        self._connection.close()
        for close in self._closers:
            close()


class CanisterSubject:
    """The same as messages of a canister."""

    def __init__(self, canister: Canister) -> None:
        """Take over the canister."""
        self._canister = canister

    def load(self, rows: Sequence[tuple[int, str]]) -> None:
        """Make the table in one message."""
        with self._canister.message("update") as message:
            message.execute("BEGIN")
            message.execute(CREATE)
            message.executemany(INSERT, rows)
            message.execute("COMMIT")

    def send(self, rows: Rows) -> None:
        """Run one message."""
        with self._canister.message("update") as message:
            execute = message.execute
            execute("BEGIN")
            for row in rows:
                execute(UPDATE, row)
            execute("COMMIT")

    def content(self) -> list[tuple[object, ...]]:
        """Return sums over the table, and the rows that change."""
        return [self._canister.query(sql).rows[0] for sql in (CONTENT, SAMPLE)]

    def close(self) -> None:
        """Close it."""
        self._canister.close()


def _stable_connection(path: Path, cache_size: int, durability: Durability) -> ConnectionSubject:
    memory = StableMemory.open(path, durability=durability)
    vfs = StableVFS(memory)
    connection = apsw.Connection("main.db", vfs=vfs.name)
    set_pragmas(connection, cache_size)
    return ConnectionSubject(connection, vfs.unregister, memory.close)


def _canister(path: Path, cache_size: int, durability: Durability) -> CanisterSubject:
    canister = Canister(path, cache_size=cache_size, depth="pages", durability=durability)
    return CanisterSubject(canister)


def _plain(
    path: Path, cache_size: int, *, journal: str, synchronous: str, locking: str = "normal"
) -> ConnectionSubject:
    connection = apsw.Connection(str(path))
    pragmas = {
        "page_size": OS_PAGE_BYTES,
        "locking_mode": locking,
        "journal_mode": journal,
        "synchronous": synchronous,
        "temp_store": "memory",
        "cache_size": cache_size,
        "wal_autocheckpoint": WAL_CHECKPOINT_SQLITE_PAGES,
    }
    for name, value in pragmas.items():
        connection.execute(f"PRAGMA {name} = {value}").fetchall()
    assert connection.execute("PRAGMA journal_mode").fetchall() == [(journal,)]
    return ConnectionSubject(connection)


def make_subject(name: str, folder: Path, cache_size: int) -> SqlSubject:
    """Return a new subject with files of its own in ``folder``."""
    path = folder / f"{name} {cache_size}"
    if name in (VFS_PROCESS, VFS_POWER):
        durability: Durability = PROCESS if name == VFS_PROCESS else POWER
        return _stable_connection(path, cache_size, durability)
    if name in (CANISTER_PROCESS, CANISTER_POWER):
        durability = PROCESS if name == CANISTER_PROCESS else POWER
        return _canister(path, cache_size, durability)
    return _plain(
        path,
        cache_size,
        journal="delete" if name == JOURNAL_FULL else "wal",
        synchronous=name.removesuffix(", exclusive").rpartition(" ")[2],
        locking="exclusive" if name == WAL_EXCLUSIVE else "normal",
    )


@dataclass(frozen=True, slots=True)
class SqlPlan:
    """How much is measured.

    Args:
        row_count: Rows of the table.
        rounds: Each subject has its turn in each of them.
        messages: In a round, by number of updates.
    """

    row_count: int
    rounds: int
    messages: Mapping[int, int]


def _process_messages(sqlite_pages: int) -> dict[int, int]:
    """Return how many messages write so many SQLite pages to a WAL."""
    return {k: max(sqlite_pages // k, 1) for k in DIRTY_COUNTS}


def _power_messages(log_bytes: int) -> dict[int, int]:
    """Return how many messages fill so many bytes of a log.

    The header of a record takes one OS page more. The SQLite page of the change counter is not
    written again and again: under an exclusive lock nobody would look at it.
    """
    return {k: max(-(-log_bytes // ((k + 1) * OS_PAGE_BYTES)), 1) for k in DIRTY_COUNTS}


PROCESS_FULL: Final = SqlPlan(ROW_COUNT, 15, _process_messages(2 * WAL_CHECKPOINT_SQLITE_PAGES))
PROCESS_QUICK: Final = SqlPlan(
    ROW_COUNT // 20, 2, _process_messages(WAL_CHECKPOINT_SQLITE_PAGES // 10)
)
POWER_FULL: Final = SqlPlan(ROW_COUNT, 3, _power_messages(CHECKPOINT_BYTES))
POWER_QUICK: Final = SqlPlan(ROW_COUNT // 20, 1, _power_messages(CHECKPOINT_BYTES // 1000))


@dataclass(frozen=True, slots=True)
class SqlResult:
    """The same messages on all subjects, at one cache size."""

    cache_size: int
    samples: dict[tuple[str, int], Samples]
    "By subject and number of updates."

    def ratio(self, subject: str, reference: str, dirty_count: int) -> float:
        """Return mean by mean, checkpoints included."""
        return self.samples[subject, dirty_count].ratio(self.samples[reference, dirty_count])

    def worst_ratio(self, subject: str, reference: str) -> float:
        """Return the largest ratio over the numbers of updates."""
        return max(self.ratio(subject, reference, dirty_count) for dirty_count in DIRTY_COUNTS)


def measure_sql(folder: Path, subjects: Sequence[str], cache_size: int, plan: SqlPlan) -> SqlResult:
    """Send the same messages to all subjects; the files stay in ``folder``."""
    made = {name: make_subject(name, folder, cache_size) for name in subjects}
    rows = [(number, _body(number)) for number in range(plan.row_count)]
    for subject in made.values():
        subject.load(rows)
    samples: dict[tuple[str, int], Samples] = {}
    for dirty_count in DIRTY_COUNTS:
        # Each subject draws for itself, and all draw the same.
        batches = {
            (name, dirty_count): _batch(subject, random.Random(dirty_count), dirty_count, plan)
            for name, subject in made.items()
        }
        samples |= interleaved_samples(batches, rounds=plan.rounds)
    contents = {name: subject.content() for name, subject in made.items()}
    for subject in made.values():
        subject.close()
    _check_equal(contents)
    return SqlResult(cache_size, samples)


def _batch(subject: SqlSubject, draw: random.Random, dirty_count: int, plan: SqlPlan) -> Batch:
    places = range(0, plan.row_count, ROW_STEP)

    def batch() -> tuple[float, ...]:
        messages = [
            [(_body(draw.randrange(10**9)), place) for place in draw.sample(places, dirty_count)]
            for _ in range(plan.messages[dirty_count])
        ]
        return seconds_of_each(subject.send, messages)

    return batch


def _body(number: int) -> str:
    """Return a text that is always as long, so that no row ever moves."""
    return f"{number:0{_BODY_CHARACTERS}d}"


def _check_equal(contents: Mapping[str, object]) -> None:
    (first, expected), *others = contents.items()
    for name, found in others:
        if found != expected:
            msg = f"{name} and {first} have run the same messages and hold other rows"
            raise AssertionError(msg)
