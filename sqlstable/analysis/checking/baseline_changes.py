"""What changed between a baseline and a later run.

The words are those of ``canbench``: a number has regressed or improved by so many per cent, and
what was not kept before is new.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

from sqlstable.analysis.benching.bench_changes import MetricChange
from sqlstable.analysis.checking.baseline_model import (
    KEPT_MEASURES,
    Baseline,
    BaselineEntry,
    EntryName,
)
from sqlstable.analysis.checking.baseline_text import update_option
from sqlstable.analysis.compare import NO_INFLUENCE, settings_that_differ
from sqlstable.errors import BudgetError
from sqlstable.ic.words import ANSWERING_KINDS

EntryChangeKind = Literal["regressed", "improved", "new", "gone"]

_Numbered = tuple[int, MetricChange]

ORDER: Final[tuple[EntryChangeKind, ...]] = ("regressed", "improved", "new", "gone")
"""Changes as reports list them."""

SCANS: Final = "scans"
"""Stands in the place of a measure where a table is scanned that was not, or is not any more."""

_FARTHEST: Final[tuple[tuple[EntryChangeKind, Callable[..., _Numbered]], ...]] = (
    ("regressed", max),
    ("improved", min),
)


@dataclass(frozen=True, slots=True)
class EntryChange:
    """One number of an entry that is not what it was, at the position where it changed most."""

    name: EntryName
    kind: EntryChangeKind
    measure: str
    "One of `KEPT_MEASURES`, or `SCANS`; empty for what is new or gone."
    change: MetricChange | None = None
    position: int = 1
    "Among the messages or statements of this name, counted from 1."
    count: int = 1
    "How many positions changed like this; how many are new or gone."
    of: int = 1
    "How many there are."
    tables: tuple[str, ...] = ()
    "Those that are scanned, or not any more."


@dataclass(frozen=True, slots=True)
class BaselineChanges:
    """All that changed since a baseline."""

    changes: tuple[EntryChange, ...]
    "Those that regressed first, each kind by name."
    unchanged_count: int
    "Entries of which no number changed."
    noise_percent: float
    "Smaller changes are noise."
    is_all_gone: bool = False
    "Whether no call that the baseline has was run, so that nothing was compared."

    @property
    def has_regressed(self) -> bool:
        """Whether some number is more than it was, beyond noise."""
        return bool(self.regressed)

    @property
    def regressed(self) -> list[EntryChange]:
        """Those of which some number is more than it was, the worst first.

        A table that is scanned and was not is worse than any number, and of those the one that
        grew by most per cent.
        """
        found = [it for it in self.changes if it.kind == "regressed"]
        return sorted(found, key=_badness, reverse=True)


def _badness(found: EntryChange) -> tuple[bool, float, int]:
    change = found.change
    if change is None:
        return found.measure == SCANS, 0, 0
    return False, change.percent or 0, change.delta or 0


def check_settings(kept: Baseline, now: Baseline, name: str) -> None:
    """Refuse to compare what came about under other settings.

    Raises:
        BudgetError: Some differ; it says which.
    """
    before, after = kept.trace_settings, now.trace_settings
    # What one side does not have, because another release wrote it, says nothing.
    unknown = before.values.keys() ^ after.values.keys() if _same_engine(kept, now) else set()
    unlike = _unlike(kept, now)
    # What both engines measured throughout is what the measured one counts.
    measured = {"engine", "measure"} if unlike == "" else set()
    left_out = {*NO_INFLUENCE, *unknown, *measured}
    differing = settings_that_differ(before, after, left_out, first=("engine",))
    if differing:
        words = ", ".join(
            f"{it} {_shown(before.values.get(it))} there, {_shown(after.values.get(it))} here"
            for it in differing
        )
        words += f" ({unlike})" if unlike else ""
        raise BudgetError(
            f"{name} was made under other settings: {words}; run with those, or make a new "
            f"baseline of this run with {update_option()}"
        )


_MEASURING: Final = ("wasm", "both")


def _unlike(kept: Baseline, now: Baseline) -> str | None:
    """Say why a run with both engines is not as one of the measured one; empty: it is.

    Returns:
        None where no such runs are compared.
    """
    sides = (kept, now)
    engines = [it.settings.get("engine") for it in sides]
    if "both" not in engines or not set(engines) <= {*_MEASURING}:
        return None
    found = [it.unlike_wasm for it in sides if it.settings.get("engine") == "both"]
    if None in found:
        return "whether all of the baseline was measured is not in it"
    return next((it for it in found if it), "")


def _same_engine(kept: Baseline, now: Baseline) -> bool:
    return bool(kept.settings.get("engine") == now.settings.get("engine"))


def _shown(value: object) -> str:
    return "none" if value is None else str(value)


def baseline_changes(kept: Baseline, now: Baseline, noise_percent: float = 0) -> BaselineChanges:
    """Compare a run with a baseline, name by name and position by position.

    Args:
        kept: The baseline.
        now: What the run has in its place.
        noise_percent: Smaller changes are noise; counts are exact, so there need not be any.

    Examples:
        >>> name = EntryName("find", "query", "message", "")
        >>> def of(pages):
        ...     return Baseline({}, {name: BaselineEntry(1, {"os_pages_accessed": (pages,)})})
        >>> found = baseline_changes(of(4), of(5))
        >>> found.has_regressed, found.changes[0].change.percent
        (True, 25.0)
    """
    changes, unchanged = [], 0
    for name in sorted({*kept.entries, *now.entries}):
        found = list(_changes(name, kept.entries.get(name), now.entries.get(name), noise_percent))
        changes += found
        unchanged += not found
    changes.sort(key=lambda it: ORDER.index(it.kind))
    # Every run has an installation.
    called = {name for name in kept.entries if name.kind in ANSWERING_KINDS}
    is_all_gone = bool(called) and called.isdisjoint(now.entries)
    return BaselineChanges(tuple(changes), unchanged, noise_percent, is_all_gone)


def _changes(
    name: EntryName, old: BaselineEntry | None, new: BaselineEntry | None, noise_percent: float
) -> Iterator[EntryChange]:
    if old is None or new is None:
        entry = new or old
        assert entry is not None, "a name is from one of the two"
        yield EntryChange(
            name, "new" if old is None else "gone", "", count=entry.count, of=entry.count
        )
        return
    for measure in KEPT_MEASURES:
        yield from _of_measure(name, measure, old, new, noise_percent)
    if added := set(new.scans) - set(old.scans):
        yield EntryChange(name, "regressed", SCANS, of=new.count, tables=tuple(sorted(added)))
    if removed := set(old.scans) - set(new.scans):
        yield EntryChange(name, "improved", SCANS, of=new.count, tables=tuple(sorted(removed)))
    more = new.count - old.count
    if more:
        yield EntryChange(name, "new" if more > 0 else "gone", "", count=abs(more), of=new.count)


def _of_measure(
    name: EntryName, measure: str, old: BaselineEntry, new: BaselineEntry, noise_percent: float
) -> Iterator[EntryChange]:
    before, after = old.measures.get(measure, ()), new.measures.get(measure, ())
    pairs = [
        (number, MetricChange(now, kept))
        # Those that only one side has are new, or gone.
        for number, (kept, now) in enumerate(zip(before, after, strict=False), 1)
        if kept is not None and now is not None
    ]
    for kind, most in _FARTHEST:
        found = [it for it in pairs if it[1].kind(noise_percent) == kind]
        if found:
            position, change = most(found, key=lambda it: (it[1].percent or 0, it[1].delta or 0))
            yield EntryChange(name, kind, measure, change, position, len(found), new.count)
