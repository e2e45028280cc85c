"""What changed between two measurements of the same benchmarks.

The rules are those that users of ``canbench`` know: a change is noise below a threshold in per
cent, anything behind 0 is infinitely more, and a benchmark that was not kept before is new.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from sqlstable.analysis.benching.measured_bench import METRICS, BenchResult

NOISE_PERCENT: Final = 2.0
"""Smaller changes are noise.

Source: dfinity/canbench canbench-bin/src/main.rs noise_threshold @ f35fd97, 2026.
"""

ChangeKind = Literal["new", "regressed", "improved", "unchanged"]


@dataclass(frozen=True, slots=True)
class MetricChange:
    """A number, and the one before it.

    Examples:
        >>> MetricChange(110, 100).kind(2.0), MetricChange(110, 100).percent
        ('regressed', 10.0)
        >>> MetricChange(5, None).kind(2.0), MetricChange(5, 0).percent
        ('new', inf)
        >>> MetricChange(5, 5).kind(0), MetricChange(501, 500).kind(0)
        ('unchanged', 'regressed')
    """

    current: int
    previous: int | None

    @property
    def delta(self) -> int | None:
        """How much it is more; None where there was nothing before."""
        return None if self.previous is None else self.current - self.previous

    @property
    def percent(self) -> float | None:
        """How many per cent it is more."""
        if self.previous is None:
            return None
        delta = self.current - self.previous
        if self.previous == 0:
            return math.copysign(math.inf, delta) if delta else 0.0
        return delta / self.previous * 100.0

    def kind(self, noise_percent: float) -> ChangeKind:
        """Return what it is."""
        percent = self.percent
        if percent is None:
            return "new"
        if not percent or abs(percent) < noise_percent:
            return "unchanged"
        return "improved" if percent < 0 else "regressed"


@dataclass(frozen=True, slots=True)
class BenchEntry:
    """The total of a benchmark or one of its scopes, with what it was before."""

    bench: str
    scope: str | None
    is_new: bool
    changes: Mapping[str, MetricChange]
    "By metric; and ``calls``."

    @property
    def name(self) -> str:
        """Its name in lists."""
        return self.bench if self.scope is None else f"{self.bench}::{self.scope}"

    def kinds(self, noise_percent: float) -> set[ChangeKind]:
        """Return what its metrics are."""
        return {self.changes[metric].kind(noise_percent) for metric in METRICS}


def bench_entries(
    new: Mapping[str, BenchResult], old: Mapping[str, BenchResult]
) -> list[BenchEntry]:
    """Compare what was measured with what was kept, by name.

    Examples:
        >>> from sqlstable.analysis.benching.measured_bench import Measurement
        >>> [it.name for it in bench_entries({"put": BenchResult(Measurement())}, {})]
        ['put']
    """
    found = []
    for name, result in sorted(new.items()):
        before = dict(old[name].measurements()) if name in old else {}
        for scope, measured in result.measurements():
            kept = before.get(scope)
            changes = {
                metric: MetricChange(
                    measured.value(metric), None if kept is None else kept.value(metric)
                )
                for metric in ("calls", *METRICS)
            }
            found.append(BenchEntry(name, scope, kept is None, changes))
    return found


def significant(entries: Iterable[BenchEntry], noise_percent: float) -> list[BenchEntry]:
    """Return those that are new or changed, by how many per cent more instructions they take."""
    found = [it for it in entries if it.kinds(noise_percent) != {"unchanged"}]
    found.sort(key=lambda it: (status_mark(it, noise_percent), it.name))

    def percent(it: BenchEntry) -> float:
        found = it.changes["instructions"].percent
        return -math.inf if found is None else found

    return sorted(found, key=percent, reverse=True)


def status_mark(entry: BenchEntry, noise_percent: float) -> str:
    """Return ``new``, ``+``, ``-`` or ``+/-``; nothing where nothing changed."""
    if entry.is_new:
        return "new"
    kinds = entry.kinds(noise_percent)
    marks = [mark for mark, kind in (("+", "regressed"), ("-", "improved")) if kind in kinds]
    return "/".join(marks)


@dataclass(frozen=True, slots=True)
class Spread:
    """Five numbers of many: largest first."""

    maximum: float
    p75: float
    median: float
    p25: float
    minimum: float

    @classmethod
    def of(cls, values: Sequence[float], rounding: Callable[[float], float]) -> "Spread":
        """Take them from at least one value; what lies between two is rounded.

        Examples:
            >>> Spread.of([1, 3, 2], round).median
            2
        """
        ordered = sorted(values)

        def at(part: float) -> float:
            rank = part * (len(ordered) - 1)
            low, high = math.floor(rank), math.ceil(rank)
            if low == high:
                return ordered[low]
            weight = rank - low
            return rounding(ordered[low] * (1.0 - weight) + ordered[high] * weight)

        return cls(ordered[-1], at(0.75), at(0.5), at(0.25), ordered[0])


@dataclass(frozen=True, slots=True)
class MetricSummary:
    """How one metric changed over all benchmarks; scopes are not in it."""

    metric: str
    counts: Mapping[ChangeKind, int]
    delta: Spread | None
    percent: Spread | None


def summaries(entries: Iterable[BenchEntry], noise_percent: float) -> list[MetricSummary]:
    """Sum up the changes of each metric."""
    totals = [it for it in entries if it.scope is None]
    found = []
    for metric in METRICS:
        changes = [it.changes[metric] for it in totals]
        kinds = [change.kind(noise_percent) for change in changes]
        counts: dict[ChangeKind, int] = {
            kind: kinds.count(kind) for kind in ("regressed", "improved", "new", "unchanged")
        }
        deltas = [change.delta for change in changes if change.delta is not None]
        percents = [change.percent for change in changes if change.percent is not None]
        found.append(
            MetricSummary(
                metric,
                counts,
                Spread.of(deltas, _half_away) if deltas else None,
                Spread.of(percents, float) if percents else None,
            )
        )
    return found


def _half_away(value: float) -> int:
    return int(math.copysign(math.floor(abs(value) + 0.5), value))
