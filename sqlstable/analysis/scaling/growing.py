"""How what a script takes grows with one of its parameters, from runs at several sizes.

Statements of two runs are the same one where message, place in it and shape agree. Where the plan
of a statement changes on the way, only the sizes with the plan of the largest one tell how it goes
on, so only these are fitted; the change itself is reported with its jump.

**Limitations.** What grows in another way beyond the sizes than within them (a plan that changes
there, a cache that no longer holds a table) no fit can know. So every prediction says how far
beyond the sizes it lies, and a real point there checks it.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final, Literal

from sqlstable.analysis.scaling.laws import SIZES_MIN, Fit, Prediction, fit
from sqlstable.analysis.scaling.runs import RanMessage, RanStatement, RunResult, Scalar
from sqlstable.analysis.totals import sum_known
from sqlstable.ic.units import NO_LIMIT, OS_PAGE_BYTES
from sqlstable.ic.words import INSTRUCTIONS, OS_PAGES_ACCESSED, OS_PAGES_DIRTY, STABLE_MEMORY_BYTES
from sqlstable.trace.model import LimitUse

EXTRAPOLATION_MAX: Final = 1000.0
"""How many times the largest size a limit may lie beyond it and still be named."""

Measure = Literal["os_pages_accessed", "os_pages_dirty", "instructions", "used_bytes"]
"""What is fitted: fields of a message, a statement or a run."""

MEASURES: Final[tuple[Measure, ...]] = ("os_pages_accessed", "os_pages_dirty", "instructions")
"""Those of statements and messages; a run has ``used_bytes``, too."""

LIMITED: Final[Mapping[str, Measure]] = {
    OS_PAGES_ACCESSED: "os_pages_accessed",
    OS_PAGES_DIRTY: "os_pages_dirty",
    INSTRUCTIONS: "instructions",
    STABLE_MEMORY_BYTES: "used_bytes",
}
"""The measure that each limit is about. Stable memory itself grows by buckets; what fills it tells
how it goes on, and is at most a bucket for each file less."""

Key = tuple[int | str, ...]
"""Of a message its index and kind; of a statement its message, its place there and its shape."""

_STEPS: Final[Mapping[Measure, Callable[[int], float]]] = {
    "os_pages_accessed": lambda page_bytes: max(1, page_bytes // OS_PAGE_BYTES),
    "os_pages_dirty": lambda page_bytes: max(1, page_bytes // OS_PAGE_BYTES),
    "instructions": lambda _: 1,
    "used_bytes": lambda page_bytes: page_bytes,
}
"""What each measure goes by where SQLite pages have so many bytes: data come by whole ones."""

_GRID: Final = 200
_HALVINGS: Final = 60


@dataclass(frozen=True, slots=True)
class Series:
    """One measure at all sizes that tell how it goes on."""

    measure: Measure
    sizes: tuple[float, ...]
    values: tuple[float, ...]
    fit: Fit | None
    "None where there is nothing to fit."
    reason: str = ""
    "Why there is no fit."
    uncached: Fit | None = None
    """Of OS pages accessed: how many they would be at most if nothing were in SQLite's cache; None
    where nobody counted what was."""

    def predict(self, size: float, *, is_outgrown: bool) -> Prediction:
        """Return what is expected at a size.

        Args:
            size: Of the parameter.
            is_outgrown: Whether SQLite's cache, which holds the database at most sizes that were
                measured, may not do so there.
        """
        assert self.fit is not None
        found = self.fit.predict(size)
        if not is_outgrown or self.uncached is None:
            return found
        return replace(found, high=max(found.high, self.uncached.predict(size).high))


@dataclass(frozen=True, slots=True)
class PlanChange:
    """Two neighbouring sizes between which SQLite chose another plan."""

    before_size: float
    after_size: float
    before_plan: tuple[str, ...]
    after_plan: tuple[str, ...]
    before_os_pages_accessed: int
    after_os_pages_accessed: int


@dataclass(frozen=True, slots=True)
class Grown:
    """A statement, a message, or the whole run, over all sizes."""

    level: Literal["run", "message", "statement"]
    key: Key
    "By which it is the same one in another run."
    index: int
    "Of the message or statement in its run; 0 for the run."
    message: int
    "Index of its message; 0 for the run."
    kind: str
    label: str | None
    text: str
    "SQL of a statement at the largest size."
    series: tuple[Series, ...]
    limits: tuple[LimitUse, ...] = ()
    "Of a message, at the largest size."
    plan_changes: tuple[PlanChange, ...] = ()

    def of(self, measure: str) -> Series | None:
        """Return the series of one measure; None where nobody counted it."""
        return next((it for it in self.series if it.measure == measure), None)


@dataclass(frozen=True, slots=True)
class CacheHold:
    """How far SQLite's cache holds the whole database."""

    cache_bytes: int
    used: Fit | None
    "Of the bytes in use; None where `SIZES_MIN` sizes tell already how it goes on without."

    def is_outgrown(self, size: float) -> bool:
        """Tell whether the database may have outgrown the cache at a size."""
        return self.used is not None and self.used.predict(size).high > self.cache_bytes

    def size(self) -> float | None:
        """Return where the best law says so; None where that is beyond `EXTRAPOLATION_MAX`."""
        if self.used is None:
            return None
        first, last = min(self.used.sizes), max(self.used.sizes) * EXTRAPOLATION_MAX
        law = self.used.best
        return _crossing(law.value, float(self.cache_bytes), first, last)


@dataclass(frozen=True, slots=True)
class Reach:
    """Where a message, or the run, meets a limit."""

    grown: Grown
    limit: LimitUse
    observed: tuple[float, float] | None
    "The last size at which it did not, 0 where there is none, and the first at which it did."
    size: float | None
    "Where the best law says; None where that is beyond `EXTRAPOLATION_MAX`, or was observed."
    low: float | None = None
    "The smallest size that the intervals allow."
    high: float | None = None
    "The largest; None: no end within `EXTRAPOLATION_MAX`."


@dataclass(frozen=True, slots=True)
class Checked:
    """A prediction, and what was measured."""

    grown: Grown
    measure: Measure
    prediction: Prediction
    real: float

    @property
    def is_inside(self) -> bool:
        """Whether the interval holds what was measured."""
        return self.prediction.holds(self.real)


@dataclass(frozen=True, slots=True)
class RealCheck:
    """A real run beyond the sizes."""

    size: float
    rows: tuple[Checked, ...] = ()
    failure: str | None = None
    "Why the run did not end well; what came before is checked all the same."


@dataclass(frozen=True, slots=True)
class ScaleResults:
    """How a script grows."""

    parameter: str
    sizes: tuple[float, ...]
    "Ascending."
    fixed: Mapping[str, Scalar]
    "Values of the script's other parameters, where they were chosen."
    settings: Mapping[str, object]
    run: Grown
    messages: tuple[Grown, ...]
    statements: tuple[Grown, ...]
    reaches: tuple[Reach, ...]
    "Only limits that are reached within `EXTRAPOLATION_MAX` times the largest size."
    cache: CacheHold
    failures: tuple[tuple[float, str], ...]
    "Sizes at which the script failed, and why."
    check: RealCheck | None = None

    @property
    def plan_changes(self) -> tuple[tuple[Grown, PlanChange], ...]:
        """All changes of plans, with the statements they belong to."""
        return tuple((it, change) for it in self.statements for change in it.plan_changes)


def scale_results(
    parameter: str, runs: Sequence[tuple[float, RunResult]], check: tuple[float, RunResult] | None
) -> ScaleResults:
    """Fit what a script takes at several sizes.

    Args:
        parameter: What the sizes are of.
        runs: Sizes, each once, with what was run; in any order, at least one.
        check: A size beyond them, and what was run there.
    """
    runs = sorted(runs, key=lambda it: it[0])
    run = _grown_run(runs)
    messages = tuple(_grown_messages(runs))
    cache = _cache_hold(runs, run)
    found = ScaleResults(
        parameter=parameter,
        sizes=tuple(size for size, _ in runs),
        fixed={name: it for name, it in runs[-1][1].parameters.items() if name != parameter},
        settings=next((dict(it.settings) for _, it in reversed(runs) if it.settings), {}),
        run=run,
        messages=messages,
        statements=tuple(_grown_statements(runs, check)),
        reaches=tuple(_reaches(runs, run, messages, cache)),
        cache=cache,
        failures=tuple((size, it.failure) for size, it in runs if it.failure is not None),
    )
    return found if check is None else replace(found, check=_checked(found, *check))


# -- over all sizes ------------------------------------------------------------------------------


def _grown_run(runs: Sequence[tuple[float, RunResult]]) -> Grown:
    points = []
    for size, result in runs:
        if result.failure is None:
            plans = tuple(statement.plan for statement in result.statements)
            names: tuple[Measure, ...] = (*MEASURES, "used_bytes")
            counts = {name: getattr(result, name) for name in names}
            points.append(_Point(size, plans, counts, _uncached_of_run(result)))
    return Grown("run", (), 0, 0, "run", None, "", _series(points, _page_bytes(runs[-1][1])))


def _uncached_of_run(result: RunResult) -> int | None:
    found = [_uncached(message, result) for message in result.messages]
    return sum_known(found) if None not in found else None


def _grown_messages(runs: Sequence[tuple[float, RunResult]]) -> Iterator[Grown]:
    points: dict[Key, list[_Point]] = {}
    latest: dict[Key, RanMessage] = {}
    first_sql = {it.message: it.sql for it in reversed(runs[-1][1].statements)}
    for size, result in runs:
        by_message = _plans_by_message(result)
        for message in _whole_messages(result):
            key = _message_key(message)
            latest[key] = message
            point = _point(size, by_message.get(message.index, ()), message, result)
            points.setdefault(key, []).append(point)
    for key, last in sorted(latest.items()):
        yield Grown(
            level="message",
            key=key,
            index=last.index,
            message=last.index,
            kind=last.kind,
            label=last.label,
            text=first_sql.get(last.index, ""),
            series=_series(points[key], _page_bytes(runs[-1][1])),
            limits=last.limits,
        )


def _grown_statements(
    runs: Sequence[tuple[float, RunResult]], check: tuple[float, RunResult] | None
) -> Iterator[Grown]:
    points: dict[Key, list[_Point]] = {}
    found: dict[Key, list[tuple[float, RanStatement]]] = {}
    for size, result in runs:
        whole = {message.index for message in _whole_messages(result)}
        for statement in result.statements:
            if statement.message in whole:
                key = _statement_key(statement)
                found.setdefault(key, []).append((size, statement))
                point = _point(size, statement.plan, statement, result)
                points.setdefault(key, []).append(point)
    beyond = {} if check is None else {_statement_key(it): it for it in check[1].statements}
    for key, statements in sorted(found.items()):
        last = statements[-1][1]
        real = [(check[0], beyond[key])] if check is not None and key in beyond else []
        yield Grown(
            level="statement",
            key=key,
            index=last.index,
            message=last.message,
            kind=last.kind,
            label=None,
            text=last.sql,
            series=_series(points[key], _page_bytes(runs[-1][1])),
            plan_changes=tuple(_plan_changes([*statements, *real])),
        )


def _message_key(message: RanMessage) -> Key:
    return (message.index, message.kind)


def _statement_key(statement: RanStatement) -> Key:
    return (statement.message, statement.place, statement.shape)


def _whole_messages(result: RunResult) -> Iterator[RanMessage]:
    """Yield the messages that were not cut off: by a limit, or by what the run failed of."""
    for message in result.messages:
        is_last = message is result.messages[-1]
        is_cut_off = message.trap_limit is not None or (is_last and result.failure is not None)
        if message.outcome != "trapped" or not is_cut_off:
            yield message


def _plans_by_message(result: RunResult) -> dict[int, tuple[tuple[str, ...], ...]]:
    plans: dict[int, tuple[tuple[str, ...], ...]] = {}
    for statement in result.statements:
        plans[statement.message] = (*plans.get(statement.message, ()), statement.plan)
    return plans


def _plan_changes(points: Sequence[tuple[float, RanStatement]]) -> Iterator[PlanChange]:
    for (before_size, before), (after_size, after) in pairwise(points):
        if before.plan != after.plan:
            yield PlanChange(
                before_size=before_size,
                after_size=after_size,
                before_plan=before.plan,
                after_plan=after.plan,
                before_os_pages_accessed=before.os_pages_accessed,
                after_os_pages_accessed=after.os_pages_accessed,
            )


@dataclass(frozen=True, slots=True)
class _Point:
    """One thing at one size."""

    size: float
    plans: object
    "What has to stay as it is at the largest size."
    counts: Mapping[Measure, int | None]
    uncached: int | None
    "OS pages that would have been accessed at most without a cache."


def _point(size: float, plans: object, it: RanStatement | RanMessage, run: RunResult) -> _Point:
    counts: dict[Measure, int | None] = {name: getattr(it, name) for name in MEASURES}
    return _Point(size, plans, counts, _uncached(it, run))


def _uncached(it: RanStatement | RanMessage, run: RunResult) -> int | None:
    """Add to what was accessed what came out of the cache: together no more than there is."""
    if run.used_bytes is None:
        return None
    there = -(-run.used_bytes // OS_PAGE_BYTES)
    each = max(1, _page_bytes(run) // OS_PAGE_BYTES)
    return max(it.os_pages_accessed, min(it.os_pages_accessed + (it.hits or 0) * each, there))


def _page_bytes(run: RunResult) -> int:
    found = run.settings.get("page_size")
    return found if isinstance(found, int) else OS_PAGE_BYTES


def _series(points: Sequence[_Point], page_bytes: int) -> tuple[Series, ...]:
    """Return the measures that were counted at all sizes with the plan of the largest one."""
    first = len(points)
    while first > 0 and points[first - 1].plans == points[-1].plans:
        first -= 1
    found = points[first:]
    sizes = [point.size for point in found]
    made = []
    for measure in found[0].counts if found else ():
        values = _known([point.counts[measure] for point in found])
        if values:
            step = float(_STEPS[measure](page_bytes))
            series = _one_series(measure, sizes, values, step, is_after_change=first > 0)
            uncached = _known([point.uncached for point in found])
            if measure == "os_pages_accessed" and series.fit is not None and uncached:
                series = replace(series, uncached=fit(sizes, uncached, step=step))
            made.append(series)
    return tuple(made)


def _known(values: Sequence[int | None]) -> list[float]:
    """Return counts where all are known, else none."""
    found = [float(value) for value in values if value is not None]
    return found if len(found) == len(values) else []


def _one_series(
    measure: Measure,
    sizes: Sequence[float],
    values: Sequence[float],
    step: float,
    *,
    is_after_change: bool,
) -> Series:
    reason = ""
    if not any(values):
        reason = "none at any size"
    elif len(values) < SIZES_MIN:
        plan = " with the last plan" if is_after_change else ""
        reason = f"only {len(values)} of {SIZES_MIN} sizes{plan}"
    elif not all(values):
        reason = "none at some"
    found = None if reason else fit(sizes, values, step=step)
    return Series(measure, tuple(sizes), tuple(values), found, reason)


def _cache_hold(runs: Sequence[tuple[float, RunResult]], run: Grown) -> CacheHold:
    largest = runs[-1][1]
    cache_size = largest.settings.get("cache_size")
    pages = cache_size if isinstance(cache_size, int) else 0
    cache_bytes = pages * _page_bytes(largest)
    series = run.of("used_bytes")
    if series is None or sum(used > cache_bytes for used in series.values) >= SIZES_MIN:
        return CacheHold(cache_bytes, None)
    return CacheHold(cache_bytes, series.fit)


# -- limits --------------------------------------------------------------------------------------


def _reaches(
    runs: Sequence[tuple[float, RunResult]],
    run: Grown,
    messages: Sequence[Grown],
    cache: CacheHold,
) -> Iterator[Reach]:
    observed = _observed(runs)
    seen = {message.index for message in messages}
    for index, (message, use, between) in observed.items():
        if index not in seen:
            # It met its limit at every size, so there is no size at which it is whole.
            grown = Grown("message", (), index, index, message.kind, message.label, "", ())
            yield Reach(grown, use, between, None)
    memory: LimitUse | None = None
    for grown in messages:
        if grown.index in observed:
            _, use, between = observed[grown.index]
            yield Reach(grown, use, between, None)
            continue
        for use in grown.limits:
            if use.name == STABLE_MEMORY_BYTES:
                memory = use
            elif use.limit < NO_LIMIT:
                yield from _predicted(grown, use, cache)
    if memory is not None and memory.limit < NO_LIMIT:
        yield from _predicted(run, memory, cache)


def _observed(
    runs: Sequence[tuple[float, RunResult]],
) -> dict[int, tuple[RanMessage, LimitUse, tuple[float, float]]]:
    """Return the messages that a limit trapped, with the sizes between which that began."""
    found: dict[int, tuple[RanMessage, LimitUse, tuple[float, float]]] = {}
    before = 0.0
    for size, result in runs:
        for message in result.messages:
            use = next((it for it in message.limits if it.name == message.trap_limit), None)
            if use is not None and message.index not in found:
                found[message.index] = (message, use, (before, size))
        before = size
    return found


def _predicted(grown: Grown, use: LimitUse, cache: CacheHold) -> Iterator[Reach]:
    series = grown.of(LIMITED.get(use.name, ""))
    if series is None or series.fit is None:
        return
    first, last = min(series.sizes), max(series.sizes) * EXTRAPOLATION_MAX

    def reached(end: Callable[[Prediction], float]) -> float | None:
        return _crossing(
            lambda size: end(series.predict(size, is_outgrown=cache.is_outgrown(size))),
            *(float(use.limit), first, last),
        )

    size = reached(lambda it: it.value)
    if size is not None:
        low, high = reached(lambda it: it.high), reached(lambda it: it.low)
        yield Reach(grown, use, None, size, low, high)


def _crossing(
    value: Callable[[float], float], limit: float, first: float, last: float
) -> float | None:
    """Return the smallest size at which a value reaches a limit; None where it does not."""
    if value(first) >= limit:
        return first
    if value(last) < limit:
        return None
    ratio = (last / first) ** (1 / _GRID)
    grid = (first * ratio**step for step in range(1, _GRID))
    high = next((size for size in grid if value(size) >= limit), last)
    low = high / ratio
    for _ in range(_HALVINGS):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if value(middle) >= limit else (middle, high)
    return high


# -- the real point beyond -----------------------------------------------------------------------


def _checked(found: ScaleResults, size: float, real: RunResult) -> RealCheck:
    rows: list[Checked] = []
    measured = _measured(real)
    for grown in (found.run, *found.messages, *found.statements):
        it = measured.get((grown.level, grown.key))
        for series in grown.series:
            value = None if it is None else getattr(it, series.measure)
            if series.fit is not None and value is not None:
                prediction = series.predict(size, is_outgrown=found.cache.is_outgrown(size))
                rows.append(Checked(grown, series.measure, prediction, float(value)))
    return RealCheck(size, tuple(rows), real.failure)


def _measured(real: RunResult) -> dict[tuple[str, Key], object]:
    whole = {message.index for message in _whole_messages(real)}
    measured: dict[tuple[str, Key], object] = {}
    if real.failure is None:
        measured["run", ()] = real
    for message in real.messages:
        if message.index in whole:
            measured["message", _message_key(message)] = message
    for statement in real.statements:
        if statement.message in whole:
            measured["statement", _statement_key(statement)] = statement
    return measured
