"""Runs of one script under several settings, and which of them nothing beats."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlstable.analysis.scaling.runs import RunResult, Scalar


@dataclass(frozen=True, slots=True)
class SweepRow:
    """One combination of settings, and what it came to.

    Examples:
        >>> row = SweepRow(number=1, choices={"page_size": 512}, result=RunResult({}, {}, {}))
        >>> row.objectives(has_instructions=False)
        (0, 0, 0)
    """

    number: int
    "Counted from 1, in the order of the combinations; advice cites it."
    choices: Mapping[str, Scalar]
    "What was varied, settings and parameters of the script, by name."
    result: RunResult
    is_on_front: bool = False
    "Whether no other row is at least as good in everything, and better in something."

    def objectives(self, *, has_instructions: bool) -> tuple[int, int, int]:
        """Return what is to be small: instructions or OS pages accessed, OS pages dirty, bytes."""
        result = self.result
        work = result.instructions if has_instructions else result.os_pages_accessed
        assert work is not None
        return (work, result.os_pages_dirty, result.stable_bytes)


@dataclass(frozen=True, slots=True)
class SweepResults:
    """All rows of a sweep."""

    rows: tuple[SweepRow, ...]
    "One for each combination, those that failed included."
    varied: tuple[str, ...]
    "Names of what was varied: settings in the order of the command's options, then parameters."
    has_instructions: bool
    "Whether every run that ended well counted instructions."

    @property
    def front(self) -> tuple[SweepRow, ...]:
        """The rows that nothing beats."""
        return tuple(row for row in self.rows if row.is_on_front)

    @property
    def best(self) -> SweepRow | None:
        """The row with the least work: instructions, or OS pages accessed; None where all fail."""
        done = [row for row in self.rows if row.result.failure is None]
        return min(
            done,
            key=lambda it: it.objectives(has_instructions=self.has_instructions),
            default=None,
        )


def sweep_results(
    choices: Sequence[Mapping[str, Scalar]], results: Sequence[RunResult | None]
) -> SweepResults:
    """Number runs of one script, and mark those that nothing beats.

    A row is on the Pareto front where no other one is at most as large in each of the three
    objectives and smaller in one. Rows with equal objectives are on it together. Runs that failed
    are not compared: what they lack is not cheap.

    Args:
        choices: What was varied, for each run, all with the same names.
        results: As many runs; None for one that was not carried out, which keeps its number.

    Source:
        The definition of dominance and of the Pareto optimal set: K. Deb, *Multi-Objective
        Optimization using Evolutionary Algorithms*, 2001, section 2.4.
    """
    rows = [
        SweepRow(number, chosen, result)
        for number, (chosen, result) in enumerate(zip(choices, results, strict=True), 1)
        if result is not None
    ]
    done = [row.result for row in rows if row.result.failure is None]
    has_instructions = bool(done) and all(it.instructions is not None for it in done)
    points = {
        row.number: row.objectives(has_instructions=has_instructions)
        for row in rows
        if row.result.failure is None
    }
    best = non_dominated(set(points.values()))
    marked = tuple(
        SweepRow(row.number, row.choices, row.result, is_on_front=points.get(row.number) in best)
        for row in rows
    )
    return SweepResults(marked, tuple(choices[0]) if choices else (), has_instructions)


def non_dominated(points: set[tuple[int, ...]]) -> set[tuple[int, ...]]:
    """Return the points that no other one dominates, all coordinates being better when smaller.

    Examples:
        >>> sorted(non_dominated({(1, 9), (2, 2), (3, 3), (9, 1)}))
        [(1, 9), (2, 2), (9, 1)]
    """
    found: list[tuple[int, ...]] = []
    # In this order a point can only be dominated by one that came before it.
    for point in sorted(points):
        if not any(_dominates(other, point) for other in found):
            found.append(point)
    return set(found)


def _dominates(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))
