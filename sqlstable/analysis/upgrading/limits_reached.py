"""How what a way of keeping data takes grows, where it fails first, and what it fails of.

**How it grows** is an exponent over the sizes, of what there is beyond that without any data.

**Where it ends** goes by the bytes of the database: heap, pages and instructions follow them in
proportion, and the database follows the size by a law of its own. A heap that grows by doubling
lies above its line at one size and below it at the next; that is what the interval is made of.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from sqlstable.analysis.scaling.laws import SIZES_MIN, Fit, Prediction, fit
from sqlstable.analysis.upgrading.upgrade_runs import (
    Ceilings,
    SizeRun,
    StrategyRun,
    UpgradeComparison,
    WayOfKeeping,
)
from sqlstable.ic.units import TIB, WASM_PAGE_BYTES

BEYOND_MAX: Final = 1024 * TIB
"""What would be reached beyond is never reached: bytes, or rows of one."""

REGION_INSTRUCTIONS: Final = 160_000
"""What an upgrade goes by: a Wasm page more is charged twice.

Source: dfinity/ic pull request 10789, merged in 2026-07; see `sqlstable.ic.prices`.
"""

_HALVINGS: Final = 100

Measure = Callable[[StrategyRun], int]
"""Something that is measured of each run."""


@dataclass(frozen=True, slots=True)
class GrowthLaw:
    """Laws of what there is of something beyond what there is of it without data."""

    base: int
    "Without any data; 0 where nothing grows."
    law: Fit
    "Of what there is more."

    def predict(self, at: float) -> Prediction:
        """Return what is expected, all of it."""
        said = self.law.predict(at)
        return Prediction(self.base + said.value, self.base + said.low, self.base + said.high)


@dataclass(frozen=True, slots=True)
class Bound:
    """Something that grows with the data, and the limit that it must not pass."""

    cause: str
    limit: int
    unit: str
    "instructions, bytes or OS pages."
    of: Measure | None
    "What grows; None: the database itself."
    step: int
    "What it goes by."


@dataclass(frozen=True, slots=True)
class FirstFailure:
    """The limit that a way of keeping data reaches first."""

    cause: str
    limit: int
    unit: str
    database_bytes: Prediction
    "Of the database at which it is reached, with the interval of 95 % confidence."
    size: Prediction
    "The size that has such a database, likewise."


@dataclass(frozen=True, slots=True)
class CheckedLaw:
    """What a law said of the real run beyond the sizes, and what that was."""

    name: str
    "Of the strategy; empty of the database, which all have."
    measure: str
    "instructions of the upgrade, heap_bytes, or database_bytes."
    real: float
    said: Prediction

    @property
    def is_inside(self) -> bool:
        """Whether the interval holds it."""
        return self.said.holds(self.real)


# -- how it grows ---------------------------------------------------------------------------------


def upgrade_instructions(run: StrategyRun) -> int:
    """Return what an upgrade costs."""
    return run.upgrade or 0


def peak_heap(run: StrategyRun) -> int:
    """Return the largest size of the heap."""
    return run.heap_bytes


def upgrade_law(found: UpgradeComparison, name: str) -> GrowthLaw | None:
    """Fit laws of the size to an upgrade's instructions; None where there are too few sizes."""
    return _grown(found, name, upgrade_instructions, step=REGION_INSTRUCTIONS, by=_size_of)


def heap_law(found: UpgradeComparison, name: str) -> GrowthLaw | None:
    """Fit laws of the size to the largest size of the heap, likewise."""
    return _grown(found, name, peak_heap, step=WASM_PAGE_BYTES, by=_size_of)


def database_law(found: UpgradeComparison) -> GrowthLaw | None:
    """Fit laws of the size to the bytes of the database."""
    points = [(at.size, at.database_bytes) for at in found.sizes if at.size is not None]
    law = _fitted(points, step=WASM_PAGE_BYTES)
    return None if law is None else GrowthLaw(0, law)


def _size_of(at: SizeRun) -> float | None:
    return at.size


def _bytes_of(at: SizeRun) -> float | None:
    return at.database_bytes


def _grown(
    found: UpgradeComparison,
    name: str,
    of: Measure,
    *,
    step: int,
    by: Callable[[SizeRun], float | None] = _bytes_of,
) -> GrowthLaw | None:
    base = of(found.empty.run_of(name))
    runs = [(by(at), of(at.run_of(name))) for at in found.sizes if at.run_of(name).parts]
    values = [value for _, value in runs]
    if values and max(values) - min(values) < step:
        # Nothing grows that is larger than what a single region makes of it.
        base, step = 0, 1
    points = [(at, max(value - base, step)) for at, value in runs if at is not None]
    law = _fitted(points, step=step)
    if law is None:
        return None
    if by is _bytes_of:
        # In proportion, unless the data say that it is not.
        line = tuple(it for it in law.laws if it.name == "linear")
        law = replace(law, laws=line or law.laws)
    return GrowthLaw(base, law)


def _fitted(points: list[tuple[float, int]], *, step: int) -> Fit | None:
    # Databases of two sizes may have equal bytes.
    points = list(dict(points).items())
    if len(points) < SIZES_MIN:
        return None
    return fit([at for at, _ in points], [value for _, value in points], step=step)


# -- where it ends --------------------------------------------------------------------------------


def bounds_of(way: WayOfKeeping, ceilings: Ceilings) -> tuple[Bound, ...]:
    """Return all that could end a way of keeping data."""
    found = [
        Bound(
            "instructions of one upgrade",
            ceilings.instructions_max,
            "instructions",
            upgrade_instructions,
            REGION_INSTRUCTIONS,
        ),
        Bound(
            "stable OS pages accessed by one part of an upgrade",
            ceilings.os_pages_accessed_max,
            "OS pages",
            lambda run: max(it.os_pages_accessed for it in run.parts),
            1,
        ),
        Bound(
            "stable OS pages dirtied by one part of an upgrade",
            ceilings.os_pages_dirty_max,
            "OS pages",
            lambda run: max(it.os_pages_dirty for it in run.parts),
            1,
        ),
        Bound("stable memory", ceilings.stable_bytes_max, "bytes", None, WASM_PAGE_BYTES),
    ]
    if way.is_in_heap:
        # Else it has what SQLite caches, which cache_size limits.
        heap_max = ceilings.heap_bytes_max
        found.append(Bound("the heap", heap_max, "bytes", peak_heap, WASM_PAGE_BYTES))
    if way.database_bytes_max is not None:
        cause = "what SQLite allocates at once"
        found.append(Bound(cause, way.database_bytes_max, "bytes", None, WASM_PAGE_BYTES))
    return tuple(found)


def first_failure(found: UpgradeComparison, way: WayOfKeeping) -> FirstFailure | None:
    """Return what a way of keeping data fails of first; None where nobody knows.

    A law is fitted to each thing that grows; the first to reach its limit is the one.
    """
    database = database_law(found)
    if database is None:
        return None
    reached = [
        FirstFailure(
            bound.cause, bound.limit, bound.unit, size_bytes, _inverse(database, size_bytes)
        )
        for bound in bounds_of(way, found.ceilings)
        if (size_bytes := _reached(found, bound, way.name)) is not None
    ]
    return min(reached, key=lambda it: it.database_bytes.value, default=None)


def _reached(found: UpgradeComparison, bound: Bound, name: str) -> Prediction | None:
    """Return the database at which a limit is reached."""
    if bound.of is None:
        return Prediction(bound.limit, bound.limit, bound.limit)
    law = _grown(found, name, bound.of, step=bound.step)
    if law is None:
        return None
    value = _where(lambda at: law.predict(at).value, bound.limit)
    if value is None:
        return None
    low = _where(lambda at: law.predict(at).high, bound.limit)
    high = _where(lambda at: law.predict(at).low, bound.limit)
    return Prediction(value, value if low is None else low, math.inf if high is None else high)


def _inverse(database: GrowthLaw, size_bytes: Prediction) -> Prediction:
    """Return the sizes that have databases of so many bytes."""
    value = _where(lambda at: database.predict(at).value, size_bytes.value)
    low = _where(lambda at: database.predict(at).high, size_bytes.low)
    high = _where(lambda at: database.predict(at).low, size_bytes.high)
    return Prediction(
        math.inf if value is None else value, low or 0.0, math.inf if high is None else high
    )


def _where(of: Callable[[float], float], limit: float) -> float | None:
    """Return where something that grows reaches a limit; None beyond `BEYOND_MAX`."""
    low, high = 0.0, math.log(BEYOND_MAX)
    if of(math.exp(high)) < limit:
        return None
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if of(math.exp(middle)) < limit:
            low = middle
        else:
            high = middle
    return math.exp(high)


# -- whether that holds ---------------------------------------------------------------------------


def checked(found: UpgradeComparison) -> tuple[CheckedLaw, ...]:
    """Return each prediction for the real run beyond the sizes; none where there was none.

    The database by the size; what follows from it by the database that there really was. The heap
    of a way that has its database elsewhere is what SQLite caches, and ends where that does.
    """
    check, database = found.check, database_law(found)
    if check is None or check.size is None or database is None:
        return ()
    said = database.predict(check.size)
    rows = [CheckedLaw("", "database_bytes", check.database_bytes, said)]
    for way in found.ways:
        run = check.run_of(way.name)
        for measure, of, step in (
            ("instructions", upgrade_instructions, REGION_INSTRUCTIONS),
            ("heap_bytes", peak_heap, WASM_PAGE_BYTES),
        ):
            is_known = run.parts and (way.is_in_heap or measure == "instructions")
            law = _grown(found, way.name, of, step=step) if is_known else None
            if law is not None:
                said = law.predict(check.database_bytes)
                rows.append(CheckedLaw(way.name, measure, of(run), said))
    return tuple(rows)
