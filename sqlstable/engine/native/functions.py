"""SQL functions of the native engine's own: what SQLite's would take from process or connection.

* ``random()`` and ``randomblob()`` draw from a seed, the same in each run.
* ``changes()``, ``total_changes()`` and ``last_insert_rowid()`` go on where another connection
  stood: the canister has one connection, which here may be opened again.
* The date functions know one zone, UTC, as in a canister, whatever the zone of the process.
"""

import random
import re
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import apsw

from sqlstable.engine.inspector import prepare
from sqlstable.engine.state import without_authorizer
from sqlstable.engine.statements import Params
from sqlstable.ic.units import INT64_MAX, INT64_MIN, MIB

# Innocuous, as SQLite's own are: schemas may use them in DEFAULT clauses and views.
_INNOCUOUS: Final = apsw.SQLITE_INNOCUOUS

_DATE_FUNCTIONS: Final = {
    **dict.fromkeys(("date", "time", "datetime", "julianday", "unixepoch"), 2),
    "strftime": 3,
}
"""The functions that take modifiers, and the fewest arguments with one."""

_DATE_ARGUMENTS_MAX: Final = 16

_ZONE_MODIFIERS: Final = frozenset(("localtime", "utc"))
_NO_SHIFT: Final = "+0 days"
"""What a shift between zones is where there is one zone: it takes its place among the modifiers."""

UTC: Final = ("UTC", "UTC")
"""Names of the zones of a process that SQLite's own date functions serve as they are."""

_PRIME: Final = (
    "PRAGMA query_only = off; "
    "ATTACH ':memory:' AS sqlstable_primer; CREATE TABLE sqlstable_primer.one (x); "
    "WITH r (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM r WHERE i < {}) "
    "INSERT INTO sqlstable_primer.one SELECT i FROM r; DETACH sqlstable_primer"
)
"""Changes some rows, and leaves nothing but their count."""

_PRIMED_ROWS_MAX: Final = 1000
"""Up to which SQLite's own count is made what it is told to be; it takes below a millisecond."""


_RANDOM_PIECE_BYTES: Final = 64 * MIB
"""Python draws up to 256 MiB at once; pieces of whole 32-bit words are the same numbers."""

_LEADING_INTEGER: Final = re.compile(r"[ \t\n\v\f\r]*([+-]?[0-9]{1,30})")


class Counters(NamedTuple):
    """What a connection tells of the statements that have changed rows."""

    last_insert_rowid: int = 0
    changes: int = 0
    total_changes: int = 0


NOTHING_COUNTED: Final = Counters()


class CounterFunctions:
    """``changes()`` and ``total_changes()`` of one connection, which can be told to go on.

    SQLite's own counts cannot be set. So the functions answer what they were told for as long as
    no statement has changed rows here since, and by then SQLite's own.

    Where a statement's plan is asked for, which makes SQLite's own count 0 before the statement
    has begun, `hold` comes before and `release` when it is over. A statement that may itself ask
    for a count other than 0 is not to be asked for its plan: a trigger has a count of its own for
    each row, and nobody tells when the one from before is back.
    """

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._told: Counters | None = None
        self._mark: tuple[int, int] | None = None
        self._offset = 0
        self._held: tuple[int, int] | None = None
        self._seen = (0, 0)
        "SQLite's own counts when they were last looked at."

        def changes(*_: object) -> int:
            count = connection.changes()
            if self._held is not None and (0, self._held[1]) == (count, connection.total_changes()):
                return self._held[0]
            if self._mark is None or self._mark != (count, connection.total_changes()):
                return count
            assert self._told is not None
            return self._told.changes

        def total_changes(*_: object) -> int:
            return connection.total_changes() + self._offset

        self._changes = changes
        connection.create_scalar_function("changes", changes, 0, flags=_INNOCUOUS)
        connection.create_scalar_function("total_changes", total_changes, 0, flags=_INNOCUOUS)

    def read(self) -> Counters:
        """Return what SQL would be told now."""
        connection = self._connection
        count, total = self._seen = connection.changes(), connection.total_changes()
        if self._mark is not None or self._held is not None:
            count = self._changes()
        return Counters(connection.last_insert_rowid(), count, total + self._offset)

    def has_moved(self) -> bool:
        """Whether a statement has changed rows since the counts were read, or told to go on."""
        connection = self._connection
        return (connection.changes(), connection.total_changes()) != self._seen

    def hold(self, sql: str, params: Params) -> bool:
        """Keep what ``changes()`` says now, even if SQLite's own count becomes 0.

        Returns:
            Whether it can: a statement whose program asks for the count has to find SQLite's own.
        """
        count = self._changes()
        if count and _asks_for_changes(self._connection, sql, params):
            return False
        self._held = count, self._connection.total_changes()
        return True

    def release(self) -> None:
        """Go by SQLite's own count again."""
        self._held = None

    def prime(self, count: int = 1) -> None:
        """Set SQLite's own count: whatever changes rows next makes that, or the total, differ.

        A statement that may, and finds no rows to change, leaves 0.
        """
        connection = self._connection
        is_query_only = connection.pragma("query_only")
        connection.cursor().execute(_PRIME.format(count), can_cache=False).fetchall()
        connection.pragma("query_only", is_query_only)

    def go_on(self, counters: Counters, *, is_exact: bool = False) -> None:
        """Answer from now on as if what ``counters`` tells had happened here.

        No SQL transaction may be open.

        Args:
            counters: What is told.
            is_exact: Whether SQLite's own count is to be the same, for a trigger that asks for it.
        """
        connection = self._connection
        if is_exact and connection.changes() != counters.changes in range(1, _PRIMED_ROWS_MAX + 1):
            self.prime(counters.changes)
        if counters is self._told and not self.has_moved():
            return
        connection.set_last_insert_rowid(counters.last_insert_rowid)
        self._told, self._mark = counters, None
        if connection.changes() != counters.changes:
            if connection.changes() == 0:
                self.prime()
                connection.set_last_insert_rowid(counters.last_insert_rowid)
            self._mark = (connection.changes(), connection.total_changes())
        self._seen = connection.changes(), connection.total_changes()
        self._offset = counters.total_changes - self._seen[1]


def _asks_for_changes(connection: apsw.Connection, sql: str, params: Params) -> bool:
    """Whether a statement, or a trigger or view that it uses, calls ``changes()``.

    It is prepared once more, and no step is made: that moves no count.
    """
    asked: list[bool] = []

    def authorize(operation: int, _: object, name: str | None, *_where: object) -> int:
        if operation == apsw.SQLITE_FUNCTION:
            asked.append((name or "").lower() == "changes")
        return apsw.SQLITE_OK

    with without_authorizer(connection):
        connection.authorizer = authorize
        try:
            prepare(connection, sql, params)
        finally:
            connection.authorizer = None
    return any(asked)


def register_random(
    connection: apsw.Connection, seed: int, message_number: Callable[[], int]
) -> None:
    """Replace ``random()`` and ``randomblob()``: the same message draws the same numbers.

    The generator starts anew in each message, so a message that traps uses nothing up.
    """
    generators: dict[int, random.Random] = {}

    def generator() -> random.Random:
        number = message_number()
        if number not in generators:
            generators.clear()
            generators[number] = random.Random(f"{seed}:{number}")  # noqa: S311  no secret
        return generators[number]

    def sql_random(*_: object) -> int:
        return generator().getrandbits(64) + INT64_MIN

    def sql_randomblob(*lengths: Any) -> bytes:  # noqa: ANN401  SQL values
        length = max(_as_int64(lengths[0]), 1)
        if length > connection.limit(apsw.SQLITE_LIMIT_LENGTH):
            # As SQLite's own function does, before memory is asked for.
            raise apsw.TooBigError("string or blob too big")
        pieces = range(0, length, _RANDOM_PIECE_BYTES)
        draw = generator().randbytes
        return b"".join(draw(min(_RANDOM_PIECE_BYTES, length - at)) for at in pieces)

    connection.create_scalar_function("random", sql_random, 0, flags=_INNOCUOUS)
    connection.create_scalar_function("randomblob", sql_randomblob, 1, flags=_INNOCUOUS)


def _as_int64(value: object) -> int:
    """Return what SQLite takes an SQL value for where it needs an integer."""
    text = value.decode("latin-1") if isinstance(value, bytes) else value
    if isinstance(text, str):
        found = _LEADING_INTEGER.match(text)
        text = int(found[1]) if found else 0
    number = text if isinstance(text, int | float) else 0
    return int(min(max(number, INT64_MIN), INT64_MAX))


class UtcFunctions:
    """The date functions with one zone, for processes that are set to another one.

    SQLite asks the C library for the local time. Where that is not UTC, calls with a modifier go
    through here: a modifier between zones becomes one that shifts by nothing, and SQLite computes
    the rest. Calls without a modifier stay SQLite's own.

    Args:
        vfs_name: Tells the time that is ``now``.
    """

    def __init__(self, vfs_name: str) -> None:
        """Take note; the connection that computes is opened when it is needed."""
        self._vfs_name = vfs_name
        self._computer: apsw.Connection | None = None

    def register(self, connection: apsw.Connection) -> None:
        """Let a connection know no other zone than UTC."""
        for name, fewest in _DATE_FUNCTIONS.items():
            for count in range(fewest, _DATE_ARGUMENTS_MAX + 1):
                function = self._function(name, count)
                connection.create_scalar_function(
                    name, function, count, deterministic=True, flags=_INNOCUOUS
                )
        # Setting it makes SQLite prepare all statements anew, those with its own functions, too.
        connection.authorizer = connection.authorizer

    def close(self) -> None:
        """Close the connection that computes."""
        if self._computer is not None:
            self._computer.close(force=True)
            self._computer = None

    def _function(self, name: str, count: int) -> Callable[..., Any]:
        sql = f"SELECT {name}({', '.join('?' * count)})"

        def function(*values: Any) -> Any:  # noqa: ANN401  SQL values
            if self._computer is None:
                self._computer = apsw.Connection(":memory:", vfs=self._vfs_name)
            return self._computer.execute(sql, tuple(map(_without_zone, values))).get

        return function


def _without_zone(value: Any) -> Any:  # noqa: ANN401  an SQL value
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    return _NO_SHIFT if isinstance(text, str) and text.lower() in _ZONE_MODIFIERS else value
