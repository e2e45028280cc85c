"""The nine statements that every variant runs: load, index, read, change, tidy up.

The same statements on the same rows, in the same order, in messages with the same borders. A
*subject* is whatever executes them; where it has no messages, its borders do nothing.
"""

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Protocol

from benchmarks.measure import processor_seconds

Params = Sequence[Any]

KEY_RANGE: Final = 10**9
"""The indexed column holds random numbers below this."""

INSERT: Final = "INSERT INTO t VALUES (?, ?, ?)"
POINT_READ: Final = "SELECT s FROM t WHERE id = ?"
SCAN: Final = "SELECT sum(length(s)) FROM t"
RANGE: Final = "SELECT sum(length(s)) FROM t WHERE k BETWEEN ? AND ?"
AUTOCOMMIT_UPDATE: Final = "UPDATE t SET s = ? WHERE id = ?"
INDEXED_UPDATE: Final = "UPDATE t SET k = k + 1 WHERE id = ?"


class Executor(Protocol):
    """Executes SQL inside one message, and returns all rows."""

    def execute(self, sql: str, params: Params = ()) -> list[tuple[Any, ...]]:
        """Execute once."""
        ...

    def executemany(self, sql: str, rows: Iterable[Params]) -> list[tuple[Any, ...]]:
        """Execute once per row of parameters."""
        ...


class Borders(Protocol):
    """A message as a ``with`` block."""

    def __enter__(self) -> Executor:
        """Begin."""
        ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None:
        """End."""
        ...


class Subject(Protocol):
    """Something the nine statements run on."""

    accesses: int | None
    "Accesses of stable memory so far; None where nobody counts."

    def message(self) -> Borders:
        """Return a new message."""
        ...

    def close(self) -> None:
        """Give everything back."""
        ...


@dataclass(frozen=True, slots=True)
class Workload:
    """How much of everything, and the random numbers, drawn once for all subjects."""

    rows: list[tuple[int, int, str]]
    keys: list[tuple[int]]
    range_count: int
    autocommit_count: int

    @classmethod
    def of(cls, row_count: int, *, key_count: int, autocommit_count: int) -> "Workload":
        """Draw the rows and keys."""
        draw = random.Random(1)
        rows = [(i, draw.randrange(KEY_RANGE), f"x{i}" * 8) for i in range(row_count)]
        keys = [(draw.randrange(row_count),) for _ in range(key_count)]
        return cls(rows, keys, range_count=40, autocommit_count=autocommit_count)


FULL: Final = {"row_count": 100_000, "key_count": 50_000, "autocommit_count": 5_000}
QUICK: Final = {"row_count": 10_000, "key_count": 5_000, "autocommit_count": 500}


def prepare(subject: Subject) -> None:
    """Make the empty table; not measured."""
    with subject.message() as message:
        message.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, k INTEGER, s TEXT)")


def _insert(subject: Subject, work: Workload) -> None:
    with subject.message() as message:
        message.execute("BEGIN")
        message.executemany(INSERT, work.rows)
        message.execute("COMMIT")


def _index(subject: Subject, work: Workload) -> None:
    with subject.message() as message:
        message.execute("CREATE INDEX t_k ON t (k)")


def _point_reads(subject: Subject, work: Workload) -> None:
    with subject.message() as message:
        execute = message.execute
        for key in work.keys:
            execute(POINT_READ, key)


def _scan(subject: Subject, work: Workload) -> None:
    with subject.message() as message:
        message.execute(SCAN)


def _ranges(subject: Subject, work: Workload) -> None:
    step = KEY_RANGE // 100
    with subject.message() as message:
        for i in range(work.range_count):
            message.execute(RANGE, (i * step, (i + 2) * step))


def _autocommits(subject: Subject, work: Workload) -> None:
    row_count = len(work.rows)
    for i in range(work.autocommit_count):
        with subject.message() as message:
            message.execute(AUTOCOMMIT_UPDATE, (f"y{i}" * 8, i * 17 % row_count))


def _indexed_updates(subject: Subject, work: Workload) -> None:
    with subject.message() as message:
        message.execute("BEGIN")
        message.executemany(INDEXED_UPDATE, work.keys)
        message.execute("COMMIT")


def _vacuum(subject: Subject, work: Workload) -> None:
    with subject.message() as message:
        message.execute("VACUUM")


def _delete(subject: Subject, work: Workload) -> None:
    with subject.message() as message:
        message.execute("DELETE FROM t WHERE id % 3 = 0")


Step = Callable[[Subject, Workload], None]

STEPS: Final[dict[str, Step]] = {
    "insert rows": _insert,
    "build index": _index,
    "point reads": _point_reads,
    "scan": _scan,
    "index ranges": _ranges,
    "autocommit updates": _autocommits,
    "indexed updates": _indexed_updates,
    "VACUUM": _vacuum,
    "delete a third": _delete,
}


def statement_counts(work: Workload) -> dict[str, int]:
    """Return how many statements, runs of ``executemany`` included, each row executes."""
    counts = dict.fromkeys(STEPS, 1)
    counts["insert rows"] = len(work.rows) + 2
    counts["point reads"] = len(work.keys)
    counts["index ranges"] = work.range_count
    counts["autocommit updates"] = work.autocommit_count
    counts["indexed updates"] = len(work.keys) + 2
    return counts


def time_step(step: Step, subject: Subject, work: Workload) -> float:
    """Return the processor's seconds of one step."""
    return processor_seconds(lambda: step(subject, work))
