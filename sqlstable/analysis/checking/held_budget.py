"""One budget that is held against messages and statements, and the verdict on it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Final

from sqlstable.analysis.checking.budget_measures import BUDGET_MEASURES, Costed
from sqlstable.analysis.checking.budget_model import (
    Budget,
    LimitBudget,
    NumberBudget,
    ScanBudget,
    cut,
)
from sqlstable.analysis.checking.budget_reading import near, there_are
from sqlstable.analysis.checking.table_scans import TableScan, table_scans
from sqlstable.analysis.verdict import applies, is_estimated, is_import, share
from sqlstable.errors import BudgetError
from sqlstable.ic.words import CALL_KIND, INSTRUCTIONS, OS_PAGES_ACCESSED, OS_PAGES_DIRTY
from sqlstable.spelling import spelled
from sqlstable.trace.model import LimitUse, Message, Statement

SCANS_KEPT: Final = 8
"""Different scans that a verdict names; the others are counted."""

_OF_STATEMENT: Final = {
    INSTRUCTIONS: "instructions",
    OS_PAGES_ACCESSED: "os_pages_accessed",
    OS_PAGES_DIRTY: "os_pages_dirty",
}
"""Limits of a message that a single statement uses a part of."""


@dataclass(frozen=True, slots=True)
class Scanned:
    """A scan that a budget does not allow."""

    scan: TableScan
    statement: Statement


@dataclass(frozen=True, slots=True)
class BudgetVerdict:
    """One budget, and how a trace keeps it."""

    budget: Budget
    held_count: int
    "How many messages or statements it was held against."
    exceeded_count: int
    "How many of them exceeded it."
    measured: int = 0
    "The worst number; of a part of a limit what was used of it, of scans how many there were."
    limit: LimitUse | None = None
    "The limit that it is a part of."
    message: Message | None = None
    "The message that has the worst number; None for a total."
    statement: Statement | None = None
    "The statement to look at: the one that is meant, or that has most of the message's number."
    scans: tuple[Scanned, ...] = ()
    "Different scans, each with the first statement that does it."
    trapped: tuple[int, ...] = ()
    "Indexes of messages that trapped, and were not allowed to."
    costed: int | None = None
    "What the statement to look at has of the number."
    estimated_count: int = 0
    "In how many of those that it was held against the number was estimated, not counted."
    is_estimated: bool = False
    "Whether the worst number was; of a total, whether a part of it was."

    @property
    def is_sure(self) -> bool:
        """Whether the verdict rests on what was counted: on all of it, or on what exceeds it."""
        return not (self.is_estimated or (self.is_kept and self.estimated_count))

    @property
    def is_kept(self) -> bool:
        """Whether nothing exceeded it, and nothing trapped."""
        return not self.exceeded_count and not self.trapped

    @property
    def share(self) -> Fraction | None:
        """Return which part of the budget is used; None where it is 0 or has no number.

        Above 1 where it is exceeded.
        """
        match self.budget:
            case NumberBudget(bound=bound):
                return Fraction(self.measured, bound) if bound else None
            case LimitBudget(percent=percent):
                if not percent or self.limit is None:
                    return None
                return _part(self.limit) * 100 / Fraction(percent)
        return None


@dataclass(slots=True)
class HeldBudget:
    """A budget, and what was found so far."""

    budget: Budget
    name: str
    "What errors call the file that it is from."
    tables: dict[str, str]
    "What `tables_of` returned."
    held_count: int = 0
    exceeded_count: int = 0
    measured: int = 0
    worst: Costed | None = None
    limit: LimitUse | None = None
    scans: dict[tuple[str, str], Scanned] = field(default_factory=dict)
    trapped: list[int] = field(default_factory=list)
    estimated_count: int = 0
    is_estimated: bool = False

    def hold(self, costed: Costed) -> None:
        """Hold it against one more message or statement."""
        if self._is_beyond(costed.message):
            return
        self.held_count += 1
        message, is_total = costed.message, self.budget.target.scope == "total"
        has_trapped = message.outcome == "trapped" or (
            message.sample is not None and message.sample.has_trapped
        )
        has_trapped = has_trapped and not self.budget.allows_trap
        if has_trapped and not is_total and message.index not in self.trapped:
            self.trapped.append(message.index)
        match self.budget:
            case NumberBudget():
                self._hold_number(self.budget, costed, is_total=is_total)
            case LimitBudget():
                self._hold_limit(self.budget, costed)
            case ScanBudget():
                self._hold_scans(self.budget, costed)

    def _is_beyond(self, message: Message) -> bool:
        """Tell whether a message ran no code, so that nobody counted what is meant."""
        if isinstance(self.budget, LimitBudget):
            return is_import(message)
        is_bare = message.kind == "load_snapshot" and message.instructions is None
        return (
            is_bare
            and isinstance(self.budget, NumberBudget)
            and BUDGET_MEASURES[self.budget.measure].needs_wasm
        )

    def _hold_number(self, budget: NumberBudget, costed: Costed, *, is_total: bool) -> None:
        value = costed.value(budget.measure)
        if value is None:
            raise self._uncounted(costed, budget.measure)
        # A query is free, whatever it does.
        is_estimated = bool(value) and costed.is_estimated(budget.measure)
        self.estimated_count += is_estimated
        if not is_total:
            self.exceeded_count += value > budget.bound
        elif BUDGET_MEASURES[budget.measure].is_state:
            self.measured, self.worst = value, None
            return
        else:
            value += self.measured
            is_estimated = bool(self.estimated_count)
        if self.worst is None or value > self.measured:
            self.measured, self.worst, self.is_estimated = value, costed, is_estimated

    def _uncounted(self, costed: Costed, what: str) -> BudgetError:
        way = spelled('engine="wasm"', "--engine wasm")
        return BudgetError(
            f"{self.name}, {self.budget.target.place}: nobody counted {what} of message "
            f"{costed.message.index} ({costed.message.kind}); run it with {way}"
        )

    def _hold_limit(self, budget: LimitBudget, costed: Costed) -> None:
        uses = [use for use in _uses(costed) if applies(use)]
        if budget.limit is not None:
            names = (budget.limit, f"stable_{budget.limit}")
            found = [use for use in uses if use.name in names]
            if not found:
                raise BudgetError(self._no_limit(budget.limit, costed))
            uses = found
        elif not any(use.name == INSTRUCTIONS for use in uses):
            # The tightest limit of those that happen to be known would be a promise of nothing.
            raise self._uncounted(costed, INSTRUCTIONS)
        use = max(uses, key=share)
        part = _part(use)
        self.estimated_count += any(is_estimated(costed.message, it) for it in uses)
        self.exceeded_count += part * 100 > Fraction(budget.percent)
        if self.limit is None or part > _part(self.limit):
            self.limit, self.measured, self.worst = use, use.used, costed
            self.is_estimated = is_estimated(costed.message, use)

    def _no_limit(self, name: str, costed: Costed) -> str:
        known = [use.name.removeprefix("stable_") for use in _uses(costed)]
        return (
            f"{self.name}, {self.budget.target.place}: message {costed.message.index} "
            f"({costed.message.kind}) has no limit {name!r}"
            f"{near(name, known) or there_are(known)}"
        )

    def _hold_scans(self, budget: ScanBudget, costed: Costed) -> None:
        if any(it.kind == CALL_KIND for it in costed.statements):
            raise BudgetError(
                f"{self.name}, {budget.target.place}: no SQL was seen in message "
                f"{costed.message.index}, so nobody knows what it scans; leave no_scan out"
            )
        found = [
            Scanned(scan, statement)
            for statement in costed.statements
            for scan in table_scans(statement, self.tables)
            if not budget.tables or scan.table.lower() in budget.tables
        ]
        self.exceeded_count += bool(found)
        self.measured += len(found)
        for it in found:
            self.scans.setdefault((it.scan.table, it.statement.shape), it)
            if self.worst is None:
                self.worst = costed

    def verdict(self) -> BudgetVerdict:
        """Return what was found.

        Raises:
            BudgetError: It is about a table that is not there.
        """
        if isinstance(self.budget, ScanBudget):
            self._check_tables(self.budget)
        is_total = self.budget.target.scope == "total"
        if is_total and isinstance(self.budget, NumberBudget):
            self.exceeded_count = int(self.measured > self.budget.bound)
        scans = tuple(self.scans.values())[:SCANS_KEPT]
        statement, costed = (scans[0].statement, None) if scans else self._heaviest()
        return BudgetVerdict(
            self.budget,
            self.held_count,
            self.exceeded_count,
            self.measured,
            self.limit,
            None if is_total or self.worst is None else self.worst.message,
            statement,
            scans,
            tuple(self.trapped),
            costed,
            self.estimated_count,
            self.is_estimated,
        )

    def _heaviest(self) -> tuple[Statement | None, int | None]:
        """Return the statement that has most of the worst number, and how much that is.

        Of what a statement has no part in, the one that accessed most OS pages.
        """
        worst, name = self.worst, ""
        match self.budget:
            case NumberBudget(measure=measure) if self.budget.target.scope != "total":
                name = measure
            case LimitBudget() if self.limit is not None:
                name = _OF_STATEMENT.get(self.limit.name, "image_bytes")
        if worst is None or not name or not worst.statements:
            return None, None
        of = BUDGET_MEASURES[name].of_statement
        by = of or BUDGET_MEASURES["os_pages_accessed"].of_statement
        assert by is not None
        amounts = [by(it) or 0 for it in worst.statements]
        most = amounts.index(max(amounts))
        return worst.statements[most], None if of is None else amounts[most]

    def _check_tables(self, budget: ScanBudget) -> None:
        seen = {it.scan.table.lower() for it in self.scans.values()}
        for table in budget.tables:
            if self.tables and table not in self.tables and table not in seen:
                known = sorted(self.tables.values())
                hint = near(table, known) or there_are(map(cut, known))
                place = f"{self.name}, {budget.target.place}: no_scan"
                raise BudgetError(f"{place}: there is no table {table!r}{hint}")


def _uses(costed: Costed) -> Sequence[LimitUse]:
    """Return the limits of a message; of a statement those that it uses a part of."""
    if costed.is_whole:
        return costed.message.limits
    found = []
    for use in costed.message.limits:
        name = _OF_STATEMENT.get(use.name)
        value = None if name is None else costed.value(name)
        if value is not None:
            found.append(LimitUse(use.name, value, use.limit))
    return found


def _part(use: LimitUse) -> Fraction:
    return Fraction(use.used, max(use.limit, 1))
