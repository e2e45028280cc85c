"""What another cache_size would do to a trace: reads, writes, OS pages, and instructions.

A trace has the accesses that the recorded page cache missed. They go through a larger cache, as
SQLite decides (`sqlstable.analysis.whatif.sqlite_cache`), and those that it misses, too, are left.

What cannot be seen is what the recorded cache had: a page found there was used, and its use moves
it up in a larger cache, too. So a cache of ``n`` pages may in truth behave like one that is larger
or smaller by at most the recorded size: each figure says what it is for both, and that is its
error. The smaller the recorded cache, the more a trace tells.

Source: inclusion, R. L. Mattson et al. 1970; what a trace of misses leaves out, T. R. Puzak,
"Analysis of cache replacement algorithms", 1985, and S. F. Kaplan, Y. Smaragdakis, P. R. Wilson,
"Trace reduction for virtual memory simulations", SIGMETRICS 1999.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Final

import numpy as np

from sqlstable.analysis.trace_source import TraceSource
from sqlstable.analysis.whatif.cache_cost import CacheCost, cache_cost
from sqlstable.analysis.whatif.cache_events import Flags, cache_events
from sqlstable.analysis.whatif.cache_heaps import message_heaps, room_needed, run_through
from sqlstable.analysis.whatif.estimate import Estimate
from sqlstable.errors import TraceError
from sqlstable.spelling import spelled

_MARGIN: Final = 0.01
"""Error of accesses, at least: as much was seen where all sizes like it agreed."""

_SPILL_MARGIN: Final = 0.25
"""Error of the writes that happen before a commit, at least: 19 % was the most that was seen."""

_INSTRUCTION_MARGIN: Final = 0.08
"""Error of instructions, at least, as the heap is modelled: 7.4 % was the most that was seen."""

_EVENTS_MAX: Final = 6_000_000
"""Accesses that go through caches where nobody asks for sizes; a million takes half a second."""

_sets_size: Final = re.compile(r"\bcache_size\s*[=(]", re.IGNORECASE).search


@dataclass(frozen=True, slots=True)
class CacheEstimate:
    """What all messages together would do with one cache_size."""

    cache_size: int
    "In SQLite pages."
    reads: Estimate
    "Reads of stable memory."
    writes: Estimate
    os_pages_accessed: Estimate
    "Each once for a message; those of all messages add up."
    instructions: Estimate | None
    "None where the trace has none, as those of the native engine."


@dataclass(frozen=True, slots=True)
class PageCacheWhatIf:
    """A trace as recorded, and as it would be with other sizes of SQLite's page cache."""

    recorded_size: int
    "cache_size of the trace, in SQLite pages."
    fits_from: int
    "From this cache_size on nothing goes for want of room, and a larger one changes no access."
    recorded: CacheEstimate
    rows: tuple[CacheEstimate, ...]
    "By size, ascending."
    prices: str | None
    "Name of the price list of the instructions."


def page_cache_what_if(trace: TraceSource, sizes: Sequence[int] = ()) -> PageCacheWhatIf:
    """Predict what a trace would come to with other sizes of the page cache.

    Args:
        trace: All accesses are held, about 100 bytes each.
        sizes: Values of cache_size, none below the recorded one. Where none are given, the recorded
            one twice, four, eight … times, up to one in which everything fits; of a long trace
            fewer of these.

    Raises:
        TraceError: The trace does not say its page_size and cache_size; a size is below the
            recorded one, and what a smaller cache would miss is not in a trace; the workload sets
            cache_size itself; or the build has a cache that does not go by it.

    Examples:
        >>> from sqlstable import Canister
        >>> canister = Canister(trace=":memory:", cache_size=10)
        >>> reply = canister.update("CREATE TABLE t (a)")
        >>> with canister.trace() as trace:
        ...     found = page_cache_what_if(trace, [100])
        >>> found.recorded_size, found.rows[0].reads
        (10, Estimate(value=0, low=0, high=0))
        >>> canister.close()
    """
    page_size, recorded_size = _setting(trace, "page_size"), _setting(trace, "cache_size")
    _check(trace, recorded_size, sizes)
    model = _Model(trace, page_size, recorded_size)
    wanted = sorted({*sizes}) or _doubled(recorded_size, model.fitting_size, model.sizes_max)
    return PageCacheWhatIf(
        recorded_size=recorded_size,
        fits_from=model.fitting_size,
        recorded=model.estimate(recorded_size),
        rows=tuple(model.estimate(size) for size in wanted),
        prices=model.prices,
    )


def _check(trace: TraceSource, recorded_size: int, sizes: Sequence[int]) -> None:
    """Refuse what a trace does not have."""
    if trace.settings.values.get("build") == "lean":
        way = spelled('build="standard"', "--build standard")
        raise TraceError(
            "the lean build has a page cache of its own, which chooses how much of cache_size to "
            f"use; record with {way} to see what a larger cache would do"
        )
    too_small = [size for size in sizes if size < recorded_size]
    if too_small:
        smallest = too_small[0]
        way = spelled(f"cache_size={smallest}", f"--cache-size {smallest}")
        raise TraceError(
            f"the trace was recorded with cache_size {recorded_size}, and what a smaller one of "
            f"{smallest} would read is not in it; record it with {way}"
        )
    setting = (it.index for it in trace.statements if it.kind == "pragma" and _sets_size(it.sql))
    index = next(setting, None)
    if index is not None:
        raise TraceError(
            f"statement {index} sets cache_size itself, so that the trace has not one size; leave "
            f"it out and record with {spelled('cache_size', '--cache-size')}"
        )


def _doubled(recorded_size: int, fitting_size: int, count_max: int) -> list[int]:
    """Return sizes that double, the last of which holds everything, as many as may be."""
    sizes = [recorded_size * 2]
    while sizes[-1] < fitting_size:
        sizes.append(sizes[-1] * 2)
    count = min(len(sizes), count_max)
    # Evenly from the first to the last; a single one is the last.
    places = np.linspace(len(sizes) - 1, 0, count).round().astype(int)
    return sorted(sizes[place] for place in places)


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What is left with one size of the cache, of all messages together."""

    reads: int
    writes: int
    os_pages: int
    wasm_pages: int


class _Model:
    """Runs the accesses of a trace through caches of any size, each once."""

    def __init__(self, trace: TraceSource, page_size: int, recorded_size: int) -> None:
        events = cache_events(trace, page_size)
        self._events = events
        self._heaps = message_heaps(trace, events)
        self._recorded_size = recorded_size
        everything = np.ones(len(events), bool)
        self._outcomes = {recorded_size: self._left(everything, int(events.is_write.sum()))}
        self._cost = cache_cost(trace, events, page_size)
        self.fitting_size = max(recorded_size, room_needed(events, self._heaps))

    @property
    def sizes_max(self) -> int:
        """How many sizes are told where nobody asks for any: so many as take a few seconds."""
        return max(2, _EVENTS_MAX // max(1, 3 * len(self._events)))

    @property
    def prices(self) -> str | None:
        """Name of the price list."""
        return None if self._cost is None else self._cost.prices.name

    def estimate(self, size: int) -> CacheEstimate:
        """Return what a size comes to, with what it may be."""
        found = [self._outcome(it) for it in self._like(size)]
        margin = spill_margin = 0.0
        if size != self._recorded_size:
            spills = abs(found[0].writes - self._outcome(self.fitting_size).writes)
            margin, spill_margin = _MARGIN, spills * _SPILL_MARGIN
        return CacheEstimate(
            cache_size=size,
            reads=_estimate([it.reads for it in found], margin),
            writes=_estimate([it.writes for it in found], margin, spill_margin),
            os_pages_accessed=_estimate([it.os_pages for it in found], margin),
            instructions=None
            if self._cost is None
            else self._instructions(size, found, self._cost),
        )

    def _like(self, size: int) -> tuple[int, ...]:
        """Return the size, and those like which it may behave."""
        recorded = self._recorded_size
        if size == recorded or size >= self.fitting_size:
            return (size,)
        return (size, max(recorded, size - recorded), size + recorded)

    def _instructions(self, size: int, found: Sequence[_Outcome], cost: CacheCost) -> Estimate:
        recorded = self._outcomes[self._recorded_size]
        left = [
            cost.recorded
            - cost.saved(
                reads=recorded.reads - it.reads,
                writes=recorded.writes - it.writes,
                regions=recorded.wasm_pages - it.wasm_pages,
            )
            for it in found
        ]
        heap, heap_least, heap_most = cost.heap(self._recorded_size, size)
        value = left[0] + heap
        margin = 0 if size == self._recorded_size else ceil(value * _INSTRUCTION_MARGIN)
        return Estimate(
            value,
            min(value - margin, min(left) + heap_least),
            max(value + margin, max(left) + heap_most),
        )

    def _outcome(self, size: int) -> _Outcome:
        if size not in self._outcomes:
            self._outcomes[size] = self._left(*run_through(self._events, self._heaps, size))
        return self._outcomes[size]

    def _left(self, kept: Flags, writes: int) -> _Outcome:
        events = self._events
        return _Outcome(
            int(np.count_nonzero(kept & ~events.is_write)),
            writes,
            events.os_pages.count_of(kept),
            events.wasm_pages.count_of(kept),
        )


def _estimate(values: Sequence[int], margin: float, extra: float = 0.0) -> Estimate:
    """Return the first value, between all of them and its margins."""
    value = values[0]
    least = ceil(max(value * margin, extra))
    return Estimate(value, max(0, min(*values, value - least)), max(*values, value + least))


def _setting(trace: TraceSource, name: str) -> int:
    value = trace.settings.values.get(name)
    if not isinstance(value, int) or value < 1:
        raise TraceError(f"the trace does not say its {name}; record it with a canister or `run`")
    return value
