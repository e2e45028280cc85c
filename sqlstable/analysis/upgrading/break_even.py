"""How often a canister can be upgraded before staying in stable memory is cheaper.

A database in the heap spares each message some instructions, and costs more at each upgrade and to
hold: what it spares in a day, divided by what an upgrade costs more, is how many upgrades a day
cost the same. Below that serialising is cheaper, above it staying.

**Limitations.** An instruction costs one cycle, as it has since 2024-10-30; what a message costs
whatever it does is the same for both ways, and left out. A query that is not replicated costs
nothing: then the reads are 0.
"""

import math
from dataclasses import dataclass
from typing import Final

from sqlstable.analysis.upgrading.upgrade_runs import Mean, SizeRun, UpgradeComparison
from sqlstable.ic.cycle_fees import fee_rates
from sqlstable.ic.idle_burn import DAY_S
from sqlstable.ic.units import GIB

STORAGE_CYCLES: Final = fee_rates().storage_gib_second
"""Cycles that a GiB of memory costs a second, heap or stable, on a subnet of 13 nodes."""


@dataclass(frozen=True, slots=True)
class BreakEven:
    """When a way of keeping data costs as much as staying."""

    name: str
    spared: Mean
    "Instructions that its messages spare in a day; below 0 where they cost more."
    storage: float
    "Cycles that it costs more in a day to hold; below 0 where it costs less."
    extra: int
    "Instructions that an upgrade costs more."
    upgrades_per_day: float
    "At which both cost the same, 0 where staying is cheaper anyway."
    low: float
    "Ends of the interval that should hold it with a confidence of 95 %."
    high: float


def break_even(found: UpgradeComparison, size: SizeRun, name: str) -> BreakEven | None:
    """Compare a way of keeping data with the first; None where either has failed.

    Both ran the same messages, so that each is compared with itself, and what they differ by among
    each other is no error.
    """
    stay, other = size.run_of(found.ways[0].name), size.run_of(name)
    if stay.upgrade is None or other.upgrade is None:
        return None
    spared = _spared(
        (found.reads_per_day, stay.reads, other.reads),
        (found.writes_per_day, stay.writes, other.writes),
    )
    storage = (other.held_bytes - stay.held_bytes) / GIB * STORAGE_CYCLES * DAY_S
    extra = other.upgrade - stay.upgrade
    error = spared.half_width
    rates = [_rate(spared.value + off - storage, extra) for off in (0.0, -error, error)]
    return BreakEven(name, spared, storage, extra, *rates)


def _spared(*kinds: tuple[float, tuple[int, ...], tuple[int, ...]]) -> Mean:
    """Return what a day's messages of each kind spare together."""
    total, variance, count = 0.0, 0.0, 0
    for per_day, stay, other in kinds:
        if not stay or not per_day:
            continue
        mean = Mean.of([before - behind for before, behind in zip(stay, other, strict=True)])
        total += per_day * mean.value
        variance += (per_day * mean.half_width) ** 2
        count += mean.count
    return Mean(total, math.sqrt(variance), count)


def _rate(spared: float, extra: int) -> float:
    if extra <= 0:
        # It never costs more: however often, where it spares anything at all.
        return math.inf if spared > 0 else 0.0
    return max(0.0, spared / extra)
