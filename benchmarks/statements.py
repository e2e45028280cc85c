"""What one statement and one message cost, at both depths of the recorder."""

from collections.abc import Callable
from typing import Any, Final

import apsw

from benchmarks.measure import interleaved_minima, seconds_per_call
from benchmarks.subjects import StableSubject
from sqlstable import Canister
from sqlstable.ic.words import Depth

DEPTHS: Final[tuple[Depth, ...]] = ("counters", "pages")

POINT_READ: Final = "SELECT balance FROM account WHERE id = ?"
POINT_UPDATE: Final = "UPDATE account SET balance = balance + 1 WHERE id = ?"
_SETUP: Final = (
    "CREATE TABLE account (id INTEGER PRIMARY KEY, owner TEXT, balance INTEGER)",
    (
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10000) "
        "INSERT INTO account SELECT i, 'owner ' || i, 100 FROM n"
    ),
)
_ID: Final = 5000

PLAIN: Final = "plain"
PROFILED: Final = "profiled"
STATEMENT: Final = "statement"
EMPTY_UPDATE: Final = "empty update"
COLD_QUERY: Final = "cold point query"
WARM_QUERY: Final = "warm point query"
POINT_UPDATE_MESSAGE: Final = "point update"


def measure_statements(*, runs: int, calls: int) -> dict[tuple[str, str], float]:
    """Return seconds by name and depth; ``statement`` and ``profiled`` are over ``plain``.

    The same cached point read is executed by `Message.execute` inside one message, and by
    ``connection.execute(...).fetchall()`` on an equal database through the same kind of VFS,
    accesses recorded, without a recorder's hooks. ``profiled`` is the latter with SQLite's profile
    event sent to a function that does nothing: what depth ``counters`` cannot do without.
    """
    plain = StableSubject(500, recorded=True)
    with plain as message:
        for sql in _SETUP:
            message.execute(sql)
    canisters = {depth: _canister(depth) for depth in DEPTHS}
    actions = _plain_actions(plain.connection, calls)
    for depth, canister in canisters.items():
        for name, action in _actions(canister, calls).items():
            actions[name, depth] = action
    with plain:
        results = interleaved_minima(actions, runs=runs)
    for key in ((PROFILED, ""), *((STATEMENT, depth) for depth in DEPTHS)):
        results[key] -= results[PLAIN, ""]
    for canister in canisters.values():
        canister.close()
    plain.close()
    return results


def _plain_actions(
    connection: apsw.Connection, calls: int
) -> dict[tuple[str, str], Callable[[], float]]:
    run = connection.execute

    def read() -> float:
        return seconds_per_call(lambda: run(POINT_READ, (_ID,)).fetchall(), calls=calls)

    def profiled() -> float:
        connection.trace_v2(apsw.SQLITE_TRACE_PROFILE, _ignore)
        seconds = read()
        connection.trace_v2(0, None)
        return seconds

    return {(PLAIN, ""): read, (PROFILED, ""): profiled}


def _ignore(event: dict[str, Any]) -> None:
    """Do nothing."""


def _canister(depth: Depth) -> Canister:
    canister = Canister(depth=depth)
    for sql in _SETUP:
        canister.update(sql)
    return canister


def _actions(canister: Canister, calls: int) -> dict[str, Callable[[], float]]:
    def statement() -> float:
        with canister.message("update") as message:
            execute = message.execute
            execute(POINT_READ, (_ID,))
            return seconds_per_call(lambda: execute(POINT_READ, (_ID,)), calls=calls)

    def empty() -> None:
        with canister.message("update"):
            pass

    message_calls = max(calls // 4, 1)
    return {
        STATEMENT: statement,
        EMPTY_UPDATE: lambda: seconds_per_call(empty, calls=message_calls),
        COLD_QUERY: lambda: seconds_per_call(
            lambda: canister.query(POINT_READ, (_ID,)), calls=message_calls
        ),
        WARM_QUERY: lambda: seconds_per_call(
            lambda: canister.query(POINT_READ, (_ID,), cache="warm"), calls=message_calls
        ),
        POINT_UPDATE_MESSAGE: lambda: seconds_per_call(
            lambda: canister.update(POINT_UPDATE, (_ID,)), calls=message_calls
        ),
    }
