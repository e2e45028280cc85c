"""Two traces side by side, statement by statement: what became better, what worse."""

from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from sqlstable.analysis.alignment import align
from sqlstable.analysis.totals import Totals, sum_instructions, sum_uses, totals
from sqlstable.analysis.trace_source import TraceSource
from sqlstable.trace.markup import ROWS_SHOWN, html_table
from sqlstable.trace.model import Instructions, StableUse, Statement, TraceSettings

Change = Literal["better", "worse", "mixed", "same", "added", "removed"]

NO_INFLUENCE: Final = frozenset(
    (
        *("closed", "owners", "depth", "durability", "limits", "prices", "preset", "measured"),
        *("recorded_limits", "prices_day"),
        *("canister", "module", "module_sha256", "module_bytes", "heap_address_bits"),
    )
)
"""Settings that change no count, or are what is compared: another build of a module.

Limits change prices, which have a setting of their own."""

INSTRUCTIONS_TOLERANCE: Final = 0.01
"""Share by which instructions may differ and still count as the same: a row moves within its
SQLite page, a B-tree is searched in another order."""

CHANGES: Final[tuple[Change, ...]] = ("better", "worse", "mixed", "same", "added", "removed")
"""Every change there is, in the order in which reports count them."""


@dataclass(frozen=True, slots=True)
class StatementPair:
    """One statement as it was before and as it is after; one of the two can be missing."""

    before: Statement | None
    after: Statement | None
    change: Change
    "By OS pages accessed and dirty, and by instructions; see ``change_of``."
    plan_changed: bool
    "Both are there, and SQLite executes them by different plans."
    different_result_size: bool
    """Both are there, and their row counts or runs differ: fewer OS pages may then just mean less
    work."""
    cache_before: str | None = None
    "State of the heap when the statement's message began: fresh, cold, warm, or None."
    cache_after: str | None = None

    @property
    def other_cache(self) -> bool:
        """Whether both are there, and found the heap in different states."""
        both = self.before is not None and self.after is not None
        return both and self.cache_before != self.cache_after


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
    paired_instructions: tuple[Instructions | None, Instructions | None] = (None, None)
    "Likewise, before and after."

    @property
    def differing_settings(self) -> tuple[str, ...]:
        """Return the names of the settings that differ and may change counts."""
        before, after = self.before_settings, self.after_settings
        return tuple(settings_that_differ(before, after, NO_INFLUENCE))

    @property
    def other_cache_count(self) -> int:
        """Return how many statements found the heap in another state than before."""
        return sum(pair.other_cache for pair in self.pairs)

    @property
    def is_like_with_like(self) -> bool:
        """Whether more is worse: the runs have the same settings, the heaps the same states."""
        return not self.differing_settings and not self.other_cache_count

    def __repr__(self) -> str:
        changes = [f"{count:,} {change}" for change, count in change_counts(self).items() if count]
        return f"<Comparison of {len(self.pairs):,} statements: {', '.join(changes) or 'none'}>"

    def _repr_html_(self) -> str:
        """Show in a notebook what changed, the changed statements first."""
        ranked = sorted(self.pairs, key=lambda pair: pair.change == "same")
        differing = ", ".join(self.differing_settings)
        caption = f"{len(ranked):,} statements, before → after" + (
            f"; not like with like: {differing}" if differing else ""
        )
        return html_table(caption, _SHOWN, map(_shown, ranked[:ROWS_SHOWN]))


_SHOWN: Final = ("statement", "change", "OS pages accessed", "dirty", "instructions", "rows")


def _shown(pair: StatementPair) -> tuple[str, ...]:
    sides = [pair.before, pair.after]
    statement = pair.after or pair.before
    assert statement is not None
    return (
        statement.sql,
        pair.change + ("; plan changed" if pair.plan_changed else ""),
        _arrow(sides, lambda it: it.stable.os_pages_accessed),
        _arrow(sides, lambda it: it.stable.os_pages_dirty),
        _arrow(sides, lambda it: None if it.instructions is None else it.instructions.total),
        _arrow(sides, lambda it: it.row_count),
    )


def _arrow(sides: Iterable[Statement | None], number: Callable[[Statement], int | None]) -> str:
    """Spell a number before and after, or once where it stayed."""
    found = [None if it is None else number(it) for it in sides]
    before, after = ("-" if it is None else f"{it:,}" for it in found)
    return after if before == after else f"{before} → {after}"


def settings_that_differ(
    before: TraceSettings,
    after: TraceSettings,
    ignored: Container[str],
    *,
    first: Iterable[str] = (),
) -> list[str]:
    """Return the names of the settings that differ.

    What only one of two engines has differs with the engine, which is named.

    Args:
        before: Of one trace.
        after: Of the other.
        ignored: Settings that do not matter.
        first: Names in the order in which they come first.
    """
    names = dict.fromkeys((*first, *before.values, *after.values))
    values = {name: (before.values.get(name), after.values.get(name)) for name in names}
    differing = [name for name, (old, new) in values.items() if old != new and name not in ignored]
    if "engine" not in differing:
        return differing
    return [name for name in differing if None not in values[name]]


def compare(before: TraceSource, after: TraceSource) -> Comparison:
    """Compare two traces, statement by statement.

    Statements are paired by their SQL, then by their shape; see ``sqlstable.analysis.alignment``.
    """
    pairs = tuple(
        _pair(*sides, _cache(before, sides[0]), _cache(after, sides[1]))
        for sides in align(before.statements, after.statements)
    )
    paired = [(pair.before, pair.after) for pair in pairs if pair.before and pair.after]
    return Comparison(
        before_settings=before.settings,
        after_settings=after.settings,
        pairs=pairs,
        before=totals(before),
        after=totals(after),
        paired_before=sum_uses(statement.stable for statement, _ in paired),
        paired_after=sum_uses(statement.stable for _, statement in paired),
        paired_instructions=(
            sum_instructions(statement.instructions for statement, _ in paired),
            sum_instructions(statement.instructions for _, statement in paired),
        ),
    )


def change_of(
    before: StableUse,
    after: StableUse,
    instructions: tuple[Instructions | None, Instructions | None] = (None, None),
) -> Change:
    """Compare two uses by the OS pages they accessed and dirtied, and by their instructions.

    Args:
        before: What was done to stable memory.
        after: Likewise.
        instructions: Before and after; they count where both are known, and differ by more than
            ``INSTRUCTIONS_TOLERANCE``.

    Returns:
        "better" when one count fell and the other did not rise, "worse" when one rose and the
        other did not fall, "mixed" when one rose and the other fell, else "same".

    Examples:
        >>> change_of(StableUse(os_pages_accessed=40), StableUse(os_pages_accessed=3))
        'better'
        >>> change_of(StableUse(os_pages_dirty=2), StableUse(os_pages_accessed=3))
        'mixed'
    """
    changes = (
        after.os_pages_accessed - before.os_pages_accessed,
        after.os_pages_dirty - before.os_pages_dirty,
        _instruction_change(*instructions),
    )
    if not any(changes):
        return "same"
    if all(change <= 0 for change in changes):
        return "better"
    if all(change >= 0 for change in changes):
        return "worse"
    return "mixed"


def _instruction_change(before: Instructions | None, after: Instructions | None) -> int:
    if before is None or after is None:
        return 0
    change = after.total - before.total
    return change if abs(change) > INSTRUCTIONS_TOLERANCE * before.total else 0


def change_counts(comparison: Comparison) -> Mapping[Change, int]:
    """Return how many statements changed how, every change named."""
    counts = Counter(pair.change for pair in comparison.pairs)
    return {change: counts[change] for change in CHANGES}


def _cache(trace: TraceSource, statement: Statement | None) -> str | None:
    return None if statement is None else trace.messages[statement.message].cache


def _pair(
    before: Statement | None,
    after: Statement | None,
    cache_before: str | None,
    cache_after: str | None,
) -> StatementPair:
    if before is None or after is None:
        assert before is not None or after is not None
        return StatementPair(
            before=before,
            after=after,
            change="added" if before is None else "removed",
            plan_changed=False,
            different_result_size=False,
            cache_before=cache_before,
            cache_after=cache_after,
        )
    return StatementPair(
        before=before,
        after=after,
        change=change_of(before.stable, after.stable, (before.instructions, after.instructions)),
        plan_changed=before.plan != after.plan,
        different_result_size=(before.row_count, before.runs) != (after.row_count, after.runs),
        cache_before=cache_before,
        cache_after=cache_after,
    )
