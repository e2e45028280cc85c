"""How far one statement travels: Python calls inside the package, and the modules they are in.

    python -m benchmarks.journeys

Counted, not timed: a profiler hook sees each call of a Python function whose file lies in the
package, on a warm canister. The journeys use the public door alone, so another tree of the project
can be counted, too: ``PYTHONPATH=OTHER python -P benchmarks/journeys.py``.
"""

import gc
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, monotonic_ns
from types import FrameType
from typing import Any, Final
from unittest.mock import patch

import sqlstable
from benchmarks.goals import Outcome, goal_table
from benchmarks.measure import markdown
from sqlstable import Canister

_PACKAGE: Final = str(Path(sqlstable.__file__).parent) + "/"

_SETUP: Final = (
    "CREATE TABLE account (id INTEGER PRIMARY KEY, owner TEXT, balance INTEGER)",
    (
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000) "
        "INSERT INTO account SELECT i, 'owner ' || i, 100 FROM n"
    ),
)
_QUERY: Final = "SELECT owner FROM account WHERE id = ?"
_INSERT: Final = "INSERT INTO account (owner, balance) VALUES (?, ?)"
_WARMING: Final = 5


@dataclass(frozen=True, slots=True)
class Journey:
    """The calls of one statement."""

    by_function: Counter[tuple[str, str]]
    "Calls by file, below the package, and function."

    @property
    def calls(self) -> int:
        """All calls."""
        return self.by_function.total()

    @property
    def modules(self) -> int:
        """Modules that they are in."""
        return len({file for file, _ in self.by_function})


def journey(action: Callable[[], object]) -> Journey:
    """Return the calls of an action that has run a few times before.

    The clock stands still meanwhile: an image's file is looked at where the last look was long
    ago, a millisecond, and a trace is flushed that has waited long enough; when is up to how busy
    the computer is. Those are calls of some messages, not of each. Nor is garbage collected: what
    earlier work left would be let go in this statement, by functions of the package.
    """
    with _clock_stands_still(), _nothing_is_collected():
        for _ in range(_WARMING):
            action()
        return _counted(action)


@contextmanager
def _nothing_is_collected() -> Iterator[None]:
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@contextmanager
def _clock_stands_still() -> Iterator[None]:
    """Let the package's modules read the same moment again and again, whatever tree they are of."""
    now_s, now_ns = monotonic(), monotonic_ns()
    still = {"monotonic": lambda: now_s, "monotonic_ns": lambda: now_ns}
    with ExitStack() as stack:
        for name, module in [*sys.modules.items()]:
            for clock in (
                still.keys() & vars(module).keys() if name.startswith("sqlstable.") else ()
            ):
                stack.enter_context(patch.object(module, clock, still[clock]))
        yield


def _counted(action: Callable[[], object]) -> Journey:
    found: Counter[tuple[str, str]] = Counter()

    def note(frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(_PACKAGE):
            found[code.co_filename.removeprefix(_PACKAGE), code.co_name] += 1

    sys.setprofile(note)
    try:
        action()
    finally:
        sys.setprofile(None)
    return Journey(found)


def measure(folder: Path) -> dict[str, Journey]:
    """Count all journeys."""
    with ExitStack() as stack:

        def canister(*arguments: str, **options: Any) -> Canister:  # noqa: ANN401  as Canister has them
            made = stack.enter_context(Canister(*arguments, **options))
            for sql in _SETUP:
                made.update(sql)
            return made

        native, wasm = canister(), canister(engine="wasm")
        image = canister(str(folder / "plain.stable"))
        traced = canister(str(folder / "traced.stable"), trace=folder / "run.trace")
        return {
            QUERY: journey(lambda: native.query(_QUERY, (7,), cache="warm")),
            COLD: journey(lambda: native.query(_QUERY, (7,))),
            FOOTPRINT: journey(lambda: native.query(_QUERY, (7,)).footprint),
            UPDATE: journey(lambda: image.update(_INSERT, ("alice", 10))),
            TRACED: journey(lambda: traced.update(_INSERT, ("alice", 10))),
            WASM: journey(lambda: wasm.query(_QUERY, (7,))),
        }


QUERY: Final = "native query, warm"
COLD: Final = "native query, cold"
FOOTPRINT: Final = "native query, and its footprint"
UPDATE: Final = "update on an image"
TRACED: Final = "update on an image, with a trace"
WASM: Final = "wasm query"

GOALS: Final = {QUERY: 45, TRACED: 160, WASM: 80}


def main() -> None:
    """Count and print."""
    with tempfile.TemporaryDirectory(prefix="sqlstable-") as name:
        found = measure(Path(name))
    rows = [(what, str(one.calls), str(one.modules)) for what, one in found.items()]
    print(markdown(("journey", "calls", "modules"), rows), end="\n\n")
    print(goal_table([Outcome(what, goal, found[what].calls, 0) for what, goal in GOALS.items()]))
    if "--functions" in sys.argv[1:]:
        for what, one in found.items():
            lines = [
                (f"{file}:{name}", str(count)) for (file, name), count in one.by_function.items()
            ]
            print(f"\n### {what}\n\n{markdown(('function', 'calls'), lines)}")


if __name__ == "__main__":
    main()
