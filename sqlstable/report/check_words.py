"""How verdicts on budgets and changes since a baseline are put into words, for every front door."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from sqlstable.analysis.checking.baseline_changes import SCANS, BaselineChanges, EntryChange
from sqlstable.analysis.checking.budget_model import LimitBudget, NumberBudget, ScanBudget
from sqlstable.analysis.checking.held_budget import BudgetVerdict
from sqlstable.analysis.pricing.trace_prices import recorded_prices
from sqlstable.report.numbers import counted, percent
from sqlstable.report.sample_words import ESTIMATED
from sqlstable.trace.model import Statement, TraceSettings

CHANGES_SHOWN: Final = 50
"""Rows of changes that a table shows; JSON has all."""

OWNERS_NAMED: Final = 3
TRAPS_NAMED: Final = 5
LINES_OF_WORST: Final = 3
"""Lines on the budget that was exceeded most that an error has."""


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What a check has found."""

    settings: TraceSettings
    verdicts: Sequence[BudgetVerdict] = ()
    changes: BaselineChanges | None = None
    "None where there was no baseline."
    nodes: int = 13
    "Of the subnet, by which cycles are counted."
    estimated_count: int = 0
    "Messages that were not measured, but estimated from others."

    @property
    def failures(self) -> list[BudgetVerdict]:
        """The verdicts on budgets that were not kept, in their order."""
        return [it for it in self.verdicts if not it.is_kept]

    @property
    def worst(self) -> BudgetVerdict | None:
        """The budget that was exceeded most, one of scans before all others; None: all are kept."""
        return max(self.failures, key=_badness, default=None)

    @property
    def is_passed(self) -> bool:
        """Whether every budget is kept, nothing has regressed, and something was compared."""
        changes = self.changes
        is_sound = changes is None or not (changes.has_regressed or changes.is_all_gone)
        return not self.failures and is_sound

    def summary(self) -> str:
        """Say what came of it, on one line."""
        parts = []
        if self.verdicts:
            failed, total = len(self.failures), counted(len(self.verdicts), "budget")
            parts.append(f"{failed} of {total} not kept" if failed else f"{total} kept")
        if self.changes is not None:
            kinds = [it.kind for it in self.changes.changes]
            found = [
                f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds) if kinds.count(kind)
            ]
            nothing = "; nothing of the baseline was run" * self.changes.is_all_gone
            words = ", ".join(found) if found else "no change"
            parts.append(f"since the baseline: {words}{nothing}")
        return "; ".join(parts)


def _badness(found: BudgetVerdict) -> tuple[bool, float]:
    if not found.exceeded_count:
        return False, 0
    share = found.share
    return bool(found.scans), math.inf if share is None else float(share)


def worst_words(report: CheckReport) -> str:
    """Say what came of a check that failed, what is worst, and how many more there are.

    Args:
        report: Of which some budget is not kept, or whose changes fail it.
    """
    if report.worst is not None:
        lines = "; ".join([*failure_lines(report.worst)][:LINES_OF_WORST])
        more = len(report.failures) - 1
        if not more:
            return f"{report.summary()}: {lines}"
        return f"{report.summary()}; the worst: {lines}; and {counted(more, 'more budget')}"
    assert report.changes is not None, "something failed"
    regressed = report.changes.regressed
    if not regressed:
        return f"{report.summary()}; {_named(report.changes.changes[0])}, for one"
    more = len(regressed) - 1
    behind = f"; and {more:,} more" if more else ""
    return f"{report.summary()}; {'the worst: ' * bool(more)}{_named(regressed[0])}{behind}"


def _named(found: EntryChange) -> str:
    if found.measure == SCANS:
        return f"{found.name}: scans {', '.join(found.tables)}, and did not before"
    what = " ".join(it for it in (words_of(found.measure), change_words(found)) if it)
    return f"{found.name}: {what}"


def measure_words(found: BudgetVerdict) -> str:
    """Name what a budget is about.

    Examples:
        >>> from sqlstable.analysis.checking.budget_model import Target
        >>> budget = NumberBudget(Target("total"), "os_pages_accessed", 4)
        >>> measure_words(BudgetVerdict(budget, 1, 1, measured=61))
        'OS pages accessed'
    """
    match found.budget:
        case NumberBudget(measure=measure):
            return words_of(measure)
        case LimitBudget():
            return f"limit: {words_of(found.limit.name) if found.limit else 'none'}"
    return "tables scanned"


def words_of(name: str) -> str:
    """Spell the name of a measure or limit.

    Examples:
        >>> words_of("stable_os_pages_dirty"), words_of("heap_wasm_pages_accessed")
        ('OS pages dirty', 'heap Wasm pages accessed')
    """
    plain = name.removeprefix("stable_os").replace("_", " ").strip()
    if name.startswith("stable_os"):
        plain = f"os {plain}"
    return plain.replace("os pages", "OS pages").replace("wasm", "Wasm")


def measured_words(found: BudgetVerdict) -> str:
    """Spell what was measured: a number, or a part of a limit; with a sign where it was not."""
    if found.limit is not None:
        return _sign(found) + percent(found.limit.used, found.limit.limit)
    return f"{_sign(found)}{found.measured:,}"


def _sign(found: BudgetVerdict) -> str:
    return f"{ESTIMATED} " * found.is_estimated


def bound_words(found: BudgetVerdict) -> str:
    """Spell what is allowed, in the same way."""
    match found.budget:
        case NumberBudget(bound=bound):
            return f"{bound:,}"
        case LimitBudget(percent=part):
            return f"{part.normalize():f}%"
        case ScanBudget(tables=tables):
            return f"none of {', '.join(tables)}" if tables else "none"


def share_words(found: BudgetVerdict) -> str:
    """Spell which part of the budget is used."""
    share = found.share
    return "-" if share is None else _sign(found) + percent(share.numerator, share.denominator)


def verdict_words(found: BudgetVerdict) -> str:
    """Spell the verdict, and on which message it rests; with a sign where that was estimated."""
    sign = "" if found.is_sure else f"{ESTIMATED} "
    if found.is_kept:
        return f"{sign}kept"
    word = f"{sign}exceeded" if found.exceeded_count else "trapped"
    many = found.held_count > 1 and found.budget.target.scope != "total"
    if not (many and found.exceeded_count):
        return word
    how_many = f"{ESTIMATED} " * bool(found.estimated_count)
    return f"{word} in {how_many}{found.exceeded_count:,} of {found.held_count:,}"


def failure_lines(found: BudgetVerdict) -> Iterator[str]:
    """Yield what there is to know of a budget that was not kept; the first line says all."""
    target = found.budget.target
    message = found.message
    at = "" if message is None else f" in message {message.index} ({message.kind})"
    if found.exceeded_count:
        yield f"{target}: {_excess(found)}{at}"
        if found.scans:
            for it in found.scans:
                yield f"goes through all of {it.scan.table} ({it.scan.line}): {_sql(it.statement)}"
        elif found.statement is not None:
            yield from _statement_lines(found, found.statement)
    if found.trapped:
        listed = ", ".join(map(str, found.trapped[:TRAPS_NAMED]))
        more = len(found.trapped) - TRAPS_NAMED
        others = f" and {more} more" if more > 0 else ""
        yield (
            f"{target}: trapped in message {listed}{others}; with allow_trap = true it is held to "
            "what it used until then"
        )


def _excess(found: BudgetVerdict) -> str:
    match found.budget:
        case NumberBudget():
            return f"{measured_words(found)} {measure_words(found)}, budget {bound_words(found)}"
        case LimitBudget():
            assert found.limit is not None
            return (
                f"{_sign(found)}{found.limit.used:,} of {found.limit.limit:,} "
                f"{words_of(found.limit.name)} is {measured_words(found)} of the limit, budget "
                f"{bound_words(found)}"
            )
    tables = dict.fromkeys(it.scan.table for it in found.scans)
    return f"scans {', '.join(tables)}, and may not"


def _statement_lines(found: BudgetVerdict, statement: Statement) -> Iterator[str]:
    amount = "" if found.costed is None else f" ({_sign(found)}{found.costed:,})"
    yield f"most of it{amount}: {_sql(statement)}"
    pages: Counter[str] = Counter()
    for it in statement.owners:
        pages[it.name or it.kind] += it.os_pages_accessed
    if pages:
        owners = (f"{name} {count:,}" for name, count in pages.most_common(OWNERS_NAMED))
        yield f"whose OS pages: {', '.join(owners)}"
    if statement.plan:
        yield f"its plan: {'; '.join(line.strip() for line in statement.plan)}"


def _sql(statement: Statement) -> str:
    return " ".join(statement.sql.split())


def change_words(found: EntryChange) -> str:
    """Say what changed, as ``canbench`` does.

    Examples:
        >>> from sqlstable.analysis.benching.bench_changes import MetricChange
        >>> from sqlstable.analysis.checking.baseline_model import EntryName
        >>> name = EntryName("find", "query", "message", "")
        >>> change_words(EntryChange(name, "regressed", "instructions", MetricChange(1123, 1000)))
        'regressed by 12.30%'
        >>> big = MetricChange(99_999_997, 100_000_000)
        >>> change_words(EntryChange(name, "improved", "instructions", big))
        'improved by 3 (<0.01%)'
        >>> change_words(EntryChange(name, "gone", "", count=2, of=3))
        'gone (2 of 5)'
    """
    if found.measure == SCANS:
        verb = "scans" if found.kind == "regressed" else "does not scan any more"
        return f"{found.kind}: {verb} {', '.join(found.tables)}"
    if found.change is None:
        before = found.of + found.count if found.kind == "gone" else found.of
        is_whole = found.count == found.of
        return found.kind if is_whole else f"{found.kind} ({found.count:,} of {before:,})"
    at = f" ({found.count:,} of {found.of:,}, most in number {found.position:,})"
    part = found.change.percent
    assert part is not None, "there was a number before"
    by = "from 0" if math.isinf(part) else f"by {abs(part):.2f}%"
    if by == "by 0.00%":
        by = f"by {abs(found.change.current - (found.change.previous or 0)):,} (<0.01%)"
    return f"{found.kind} {by}{at if found.of > 1 else ''}"


def unchanged_words(found: BaselineChanges) -> str:
    """Say how much is as in the baseline."""
    noise = f", or by less than {found.noise_percent:g}%" if found.noise_percent else ""
    return f"{counted(found.unchanged_count, 'entry')} did not change{noise}"


def estimate_words(report: CheckReport) -> str:
    """Say what was not counted, and how to count it; nothing where all was.

    Examples:
        >>> estimate_words(CheckReport(TraceSettings({}), estimated_count=1))
        '≈ instructions, cycles, arguments and replies of 1 message are estimated from others; --engine wasm counts them'
    """  # noqa: E501  what is printed
    if not report.estimated_count:
        return ""
    changed = ", also where they changed since the baseline" if report.changes is not None else ""
    return (
        f"{ESTIMATED} instructions, cycles, arguments and replies of "
        f"{counted(report.estimated_count, 'message')} are estimated from others{changed}; "
        "--engine wasm counts them"
    )


def _assumed(settings: TraceSettings) -> Iterator[tuple[str, str]]:
    """Yield what was assumed otherwise than by default."""
    regime = recorded_prices(settings)
    if regime is not None:
        yield from regime.assumptions


def settings_words(report: CheckReport) -> str:
    """State what numbers depend on most."""
    values = report.settings.values
    names = {"engine": "engine", "sqlite": "sqlite", "price_regime": "prices", "limits": "limits"}
    parts = [f"{word} {values[name]}" for name, word in names.items() if values.get(name)]
    parts += [f"assumed {name} {value}" for name, value in _assumed(report.settings)]
    if any(it.budget.key in ("cycles", "cycles_as_update") for it in report.verdicts):
        wide = ", with 64-bit memory" if report.settings.has_wide_heap else ""
        parts.append(f"cycles on a subnet of {report.nodes} nodes{wide}")
    return " · ".join(parts)
