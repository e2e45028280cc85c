"""Measuring ways of keeping data on one workload: messages, then an upgrade, at one size.

**A script and its day.** What stands before the first message that only reads, or that is
repeated, fills the database; it stands for many messages, and has no limits. The rest is a sample
of a day: its queries are the reads, its updates the writes. With a database that is there already
all of the script is.

**One size.** The database is filled in a heap, once, and every way begins with its bytes, as behind
an upgrade. The day runs once so that heaps are warm, and once more to be measured; then the
canister is upgraded.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import Final

from sqlstable.analysis.upgrading.upgrade_runs import PartCost, SizeRun, StrategyRun
from sqlstable.database.settings import Settings
from sqlstable.engine.statements import Params
from sqlstable.errors import ScriptError, SqlError, Trap
from sqlstable.ic.limits import Limits
from sqlstable.workload.script import ScriptStep
from sqlstable.workload.upgrading.driving import KeptCanister
from sqlstable.workload.upgrading.strategies import STREAMED, Strategy, kept_database

BUILT_IN: Final = "entries"
"""Name of the workload that comes with this."""

OnWork = Callable[[str], None]
"""Is told what begins."""


@dataclass(frozen=True, slots=True)
class Filled:
    """A database, and the steps of the script that are left."""

    database: bytes
    page_size: int
    day: tuple[ScriptStep, ...]


def built_in_script() -> str:
    """Return the workload that comes with this.

    Examples:
        >>> "/*@rows*/" in built_in_script()
        True
    """
    return (files("sqlstable.workload.upgrading") / "entries.sql").read_text(encoding="utf-8")


def check_steps(steps: Sequence[ScriptStep], *, name: str) -> None:
    """Refuse what has no place in a comparison.

    Raises:
        ScriptError: The script has a step of the life cycle, a trap, or an await.
    """
    for step in steps:
        if step.kind not in ("auto", "update", "query") or step.await_after:
            word = "await" if step.await_after else step.kind
            raise ScriptError(
                f"{name}, line {step.line}: --@ {word} has no place here: messages are compared, "
                "and each way is upgraded behind them; leave it out"
            )


def fill(steps: Sequence[ScriptStep], settings: Settings, limits: Limits, *, name: str) -> Filled:
    """Run the part of a script that fills the database.

    Raises:
        ScriptError: A statement of it failed.
    """
    left = list(steps)
    with KeptCanister(STREAMED, settings, limits) as canister:
        canister.install()
        while left and left[0].repeat == 1:
            with _named(left[0], name):
                if _only_reads(canister, left[0]):
                    break
                for sql, rows in _calls(left[0]):
                    canister.update(sql, rows, is_limited=False)
            del left[0]
        canister.upgrade(instructions_max=_NO_LIMIT)
        database = kept_database(canister.stable())
    return Filled(database, settings.page_size, tuple(left))


_NO_LIMIT: Final = 1 << 61


def measure(
    filled: Filled,
    strategies: Sequence[Strategy],
    settings: Settings,
    limits: Limits,
    *,
    size: float | None,
    name: str,
    on_work: OnWork = lambda _: None,
) -> SizeRun:
    """Measure ways of keeping one database.

    Args:
        filled: It, and the day's messages.
        strategies: The ways.
        settings: How it is opened; it keeps the page size that it has.
        limits: Those of the Internet Computer.
        size: What the parameter was, if there is one.
        name: Of the script, for errors.
        on_work: Is told of each way as it begins.

    Raises:
        ScriptError: A message of the day failed on a way that was able to begin it.
    """
    settings = replace(settings, page_size=filled.page_size)
    runs = []
    for strategy in strategies:
        on_work(strategy.name)
        runs.append(_measured(filled, strategy, settings, limits, name=name))
    return SizeRun(size, len(filled.database), tuple(runs))


def _measured(
    filled: Filled, strategy: Strategy, settings: Settings, limits: Limits, *, name: str
) -> StrategyRun:
    reads: list[int] = []
    writes: list[int] = []
    parts: tuple[PartCost, ...] = ()
    failure = None
    with KeptCanister(strategy, settings, limits) as canister:
        try:
            canister.load(filled.database)
            for costs in ((None, None), (reads, writes)):
                for is_read, cost in _day(canister, filled.day, name=name):
                    kept = costs[0 if is_read else 1]
                    if kept is not None:
                        kept.append(cost.instructions)
            parts = canister.upgrade()
        except Trap as trap:
            failure = str(trap)
        heap_bytes, stable_bytes = canister.heap_bytes_max, canister.stable_bytes
    return StrategyRun(
        strategy.name, tuple(reads), tuple(writes), parts, heap_bytes, stable_bytes, failure
    )


def _day(
    canister: KeptCanister, steps: Sequence[ScriptStep], *, name: str
) -> Iterator[tuple[bool, PartCost]]:
    """Run the day's messages; yields whether each only read, and what it cost."""
    for step in steps:
        with _named(step, name):
            is_read = _only_reads(canister, step)
            send = canister.query if is_read else canister.update
            for _ in range(step.repeat):
                for sql, rows in _calls(step):
                    yield is_read, send(sql, rows)[1]


def _only_reads(canister: KeptCanister, step: ScriptStep) -> bool:
    if step.kind != "auto":
        return step.kind == "query"
    return all(canister.is_readonly(one.sql) for one in step.statements)


@contextmanager
def _named(step: ScriptStep, name: str) -> Iterator[None]:
    """Say in which line a statement stands that SQLite refuses."""
    try:
        yield
    except SqlError as error:
        raise ScriptError(f"{name}, line {step.line}: {error}") from error


def _calls(step: ScriptStep) -> Iterator[tuple[str, Sequence[Params]]]:
    """Yield the messages of a step: one, unless a statement of it has rows of its own."""
    if all(one.params is None for one in step.statements):
        yield ";\n".join(one.sql for one in step.statements), ()
        return
    for one in step.statements:
        yield one.sql, one.params or ()
