"""What was measured of ways to keep a database over an upgrade, as plain data."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sqlstable.analysis.scaling.laws import CONFIDENCE
from sqlstable.trace.student import t_quantile


@dataclass(frozen=True, slots=True)
class PartCost:
    """What a message cost, or one part of an upgrade."""

    name: str
    "Of the entry point, as in canister_pre_upgrade."
    instructions: int
    "All of them: computation, stable memory and heap."
    stable: int
    "Of them: calls on stable memory, their bytes and pages."
    heap: int
    "Of them: regions of the heap."
    os_pages_accessed: int
    os_pages_dirty: int
    heap_bytes: int
    "Size of the heap at its end; a heap never shrinks, so that is its peak."

    @property
    def computation(self) -> int:
        """Instructions of the code itself."""
        return self.instructions - self.stable - self.heap


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean of several messages, and how far from it the true one may be.

    Examples:
        >>> mean = Mean.of([10, 12, 14])
        >>> mean.value, round(mean.half_width, 2), mean.count
        (12.0, 4.97, 3)
    """

    value: float
    half_width: float
    """Of the interval that holds the true mean with a confidence of 95 %; infinite for one
    message, which says nothing of others."""
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Mean":
        """Return the mean of one value or more."""
        count = len(values)
        mean = math.fsum(values) / count
        if count == 1:
            return cls(mean, math.inf, 1)
        variance = math.fsum((value - mean) ** 2 for value in values) / (count - 1)
        return cls(mean, t_quantile(CONFIDENCE, count - 1) * math.sqrt(variance / count), count)


@dataclass(frozen=True, slots=True)
class StrategyRun:
    """One way of keeping data, at one size."""

    name: str
    reads: tuple[int, ...]
    "Instructions of each read message, in order: the same messages for every way."
    writes: tuple[int, ...]
    parts: tuple[PartCost, ...]
    "Of the upgrade, in order; none where it failed."
    heap_bytes: int
    "The largest that the heap was, messages included."
    stable_bytes: int
    "Size of stable memory behind the upgrade; it never shrinks."
    failure: str | None = None
    "Why it failed; what was not measured then is empty."

    @property
    def upgrade(self) -> int | None:
        """Instructions of the upgrade; None where it failed."""
        return sum(part.instructions for part in self.parts) if self.parts else None

    @property
    def held_bytes(self) -> int:
        """Bytes that the canister goes on paying for: heap and stable memory."""
        return self.parts[-1].heap_bytes + self.stable_bytes if self.parts else 0


@dataclass(frozen=True, slots=True)
class SizeRun:
    """All ways at one size."""

    size: float | None
    "What the parameter was, or None where there is none."
    database_bytes: int
    runs: tuple[StrategyRun, ...]

    def run_of(self, name: str) -> StrategyRun:
        """Return the run of a strategy."""
        return next(run for run in self.runs if run.name == name)


@dataclass(frozen=True, slots=True)
class WayOfKeeping:
    """A strategy, as reports name it."""

    name: str
    summary: str
    database_bytes_max: int | None
    "The largest database that it can keep, whatever the limits are; None: as they say."
    is_in_heap: bool
    "Whether the database is in the heap between messages."


@dataclass(frozen=True, slots=True)
class Ceilings:
    """What ends a way of keeping data."""

    instructions_max: int
    "Of an upgrade, all its parts together."
    os_pages_accessed_max: int
    "Of each part, like the next."
    os_pages_dirty_max: int
    stable_bytes_max: int
    heap_bytes_max: int


@dataclass(frozen=True, slots=True)
class UpgradeComparison:
    """Ways of keeping data, measured at several sizes of one workload."""

    script: str
    size_name: str | None
    "Name of the parameter that has sizes."
    settings: tuple[tuple[str, object], ...]
    ways: tuple[WayOfKeeping, ...]
    "The first is the one that the others are compared with."
    sizes: tuple[SizeRun, ...]
    "Ascending."
    empty: SizeRun
    "Without any data: what every upgrade costs."
    check: SizeRun | None
    "A real run beyond them, which no law has seen."
    ceilings: Ceilings
    reads_per_day: float
    writes_per_day: float

    def __repr__(self) -> str:
        names = ", ".join(way.name for way in self.ways)
        return f"<UpgradeComparison of {names} at {len(self.sizes)} sizes>"
