"""What benchmarks of a canister's module measured: by themselves, and of the whole message.

A benchmark measures itself (`Measurement`), as ``canbench`` reports it. Around it, the message in
which it ran touched pages, which it cannot see itself (`Touched`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

METRICS: Final = ("instructions", "heap_increase", "stable_memory_increase")
"""What is compared of a measurement; calls are shown."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """What a benchmark or a scope of one says of itself; sizes are Wasm pages.

    Examples:
        >>> Measurement(calls=1, instructions=207).value("instructions")
        207
    """

    calls: int = 0
    instructions: int = 0
    heap_increase: int = 0
    stable_memory_increase: int = 0

    def value(self, metric: str) -> int:
        """Return what was measured by its name."""
        return int(getattr(self, metric))


@dataclass(frozen=True, slots=True)
class Touched:
    """What the message of a benchmark did, from its first instruction to its reply."""

    instructions: int
    "All of them, with those of its argument, of its reply and of pages, at the prices of the run."
    instructions_today: int
    "The same at the newest prices: a region is charged where it is first touched."
    cycles: int
    "What it costs as an update call at the newest prices, without the bytes of its message."
    os_pages_accessed: int
    "OS pages of stable memory."
    os_pages_dirty: int
    regions_accessed: int
    "Wasm pages of stable memory."
    regions_dirty: int
    heap_os_pages_accessed: int
    heap_os_pages_dirty: int
    heap_regions_accessed: int
    "Wasm pages of the heap."
    heap_regions_dirty: int


@dataclass(frozen=True, slots=True)
class BenchResult:
    """One benchmark.

    Examples:
        >>> BenchResult(Measurement(1, 207)).measurements()
        [(None, Measurement(calls=1, instructions=207, heap_increase=0, stable_memory_increase=0))]
    """

    total: Measurement
    scopes: Mapping[str, Measurement] = field(default_factory=dict)
    touched: Touched | None = None
    "None where it was read from a file."

    def measurements(self) -> list[tuple[str | None, Measurement]]:
        """Return the total and all scopes, by name; the total has none."""
        return [(None, self.total), *sorted(self.scopes.items())]
