"""Two traces side by side, statement by statement: what became better, what worse."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from sqlstable.analysis.alignment import align
from sqlstable.analysis.source import TraceSource
from sqlstable.analysis.totals import Totals, sum_uses, totals
from sqlstable.trace.model import StableUse, Statement, TraceSettings

Change = Literal["better", "worse", "mixed", "same", "added", "removed"]

CHANGES: Final[tuple[Change, ...]] = ("better", "worse", "mixed", "same", "added", "removed")
"""Every change there is, in the order in which reports count them."""


@dataclass(frozen=True, slots=True)
class StatementPair:
    """One statement as it was before and as it is after; one of the two can be missing."""

    before: Statement | None
    after: Statement | None
    change: Change
    "By OS pages accessed and dirty; see ``change_of``."
    plan_changed: bool
    "Both are there, and SQLite executes them by different plans."
    different_result_size: bool
    """Both are there, and their row counts or runs differ: fewer OS pages may then just mean less
    work."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two traces side by side."""

    before_settings: TraceSettings
    after_settings: TraceSettings
    pairs: tuple[StatementPair, ...]
    "In the order of the later trace, removed statements behind their predecessors."
    before: Totals
    after: Totals
    paired_before: StableUse
    "Sum over the statements that both traces have; pages as the sum of the statements' sets."
    paired_after: StableUse


def compare(before: TraceSource, after: TraceSource) -> Comparison:
    """Compare two traces, statement by statement.

    Statements are paired by their SQL, then by their shape; see ``sqlstable.analysis.alignment``.
    """
    pairs = tuple(_pair(*sides) for sides in align(before.statements, after.statements))
    paired = [(pair.before, pair.after) for pair in pairs if pair.before and pair.after]
    return Comparison(
        before_settings=before.settings,
        after_settings=after.settings,
        pairs=pairs,
        before=totals(before),
        after=totals(after),
        paired_before=sum_uses(statement.stable for statement, _ in paired),
        paired_after=sum_uses(statement.stable for _, statement in paired),
    )


def change_of(before: StableUse, after: StableUse) -> Change:
    """Compare two uses by the OS pages they accessed and dirtied.

    Returns:
        "better" when one count fell and the other did not rise, "worse" when one rose and the
        other did not fall, "mixed" when one rose and the other fell, else "same".

    Examples:
        >>> change_of(StableUse(os_pages_accessed=40), StableUse(os_pages_accessed=3))
        'better'
        >>> change_of(StableUse(os_pages_dirty=2), StableUse(os_pages_accessed=3))
        'mixed'
    """
    accessed = after.os_pages_accessed - before.os_pages_accessed
    dirty = after.os_pages_dirty - before.os_pages_dirty
    if accessed == dirty == 0:
        return "same"
    if accessed <= 0 and dirty <= 0:
        return "better"
    if accessed >= 0 and dirty >= 0:
        return "worse"
    return "mixed"


def change_counts(comparison: Comparison) -> Mapping[Change, int]:
    """Return how many statements changed how, every change named."""
    counts = Counter(pair.change for pair in comparison.pairs)
    return {change: counts[change] for change in CHANGES}


def _pair(before: Statement | None, after: Statement | None) -> StatementPair:
    if before is None or after is None:
        assert before is not None or after is not None
        return StatementPair(
            before=before,
            after=after,
            change="added" if before is None else "removed",
            plan_changed=False,
            different_result_size=False,
        )
    return StatementPair(
        before=before,
        after=after,
        change=change_of(before.stable, after.stable),
        plan_changed=before.plan != after.plan,
        different_result_size=(before.row_count, before.runs) != (after.row_count, after.runs),
    )
