"""What one statement and one message cost, at both depths of the recorder."""

from collections.abc import Callable
from typing import Final

from benchmarks.measure import interleaved_minima, seconds_per_call
from benchmarks.subjects import StableSubject
from sqlstable import Canister
from sqlstable.trace.recorder import Depth

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

STATEMENT: Final = "statement"
EMPTY_UPDATE: Final = "empty update"
COLD_QUERY: Final = "cold point query"
WARM_QUERY: Final = "warm point query"
POINT_UPDATE_MESSAGE: Final = "point update"


def measure_statements(*, runs: int, calls: int) -> dict[tuple[str, Depth | str], float]:
    """Return seconds by name and depth; the name ``statement`` is over plain APSW.

    The same cached point read is executed by `Message.execute` inside one message, and by
    ``connection.execute(...).fetchall()`` on an equal database through the same kind of VFS,
    accesses recorded, without a recorder's hooks.
    """
    plain = StableSubject(500, recorded=True)
    with plain as message:
        for sql in _SETUP:
            message.execute(sql)
    canisters = {depth: _canister(depth) for depth in DEPTHS}
    run = plain.connection.execute
    actions: dict[str, Callable[[], float]] = {
        "plain": lambda: seconds_per_call(lambda: run(POINT_READ, (_ID,)).fetchall(), calls=calls)
    }
    for depth, canister in canisters.items():
        for name, action in _actions(canister, calls).items():
            actions[f"{name}/{depth}"] = action
    with plain:
        minima = interleaved_minima(actions, runs=runs)
    results: dict[tuple[str, Depth | str], float] = {("plain", ""): minima.pop("plain")}
    for key, seconds in minima.items():
        name, _, depth_name = key.partition("/")
        results[name, depth_name] = seconds
    for depth in DEPTHS:
        results[STATEMENT, depth] -= results["plain", ""]
        canisters[depth].close()
    plain.close()
    return results


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
