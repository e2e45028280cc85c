"""A migration taken forward by one message, or by one upgrade, from wherever it is.

What is to be done next is read from the database each time, so it does not matter what came
between: a trap, a kill, an upgrade, writes of the code.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

from sqlstable.database.trial_copy import Scratch
from sqlstable.errors import MigrationError
from sqlstable.schema.applying import (
    Intent,
    MakeCopy,
    SchemaOutcome,
    SchemaTarget,
    apply_numbered,
    apply_target,
    current_objects,
    finish_schema,
    intent_of,
    reason_against,
    reasons_of,
    transaction,
)
from sqlstable.schema.cut_by_hand import begin_by_hand, go_on_by_hand, has_ranges
from sqlstable.schema.cutting import (
    CutPlan,
    RunState,
    abandon_run,
    begin_run,
    catch_up,
    copy_rows,
    end_run,
    has_run,
    note_run,
    plan_of,
    read_run,
    schema_version,
    waiting,
)
from sqlstable.schema.ledger import (
    Applied,
    Execute,
    Ledger,
    count_upgrade,
    make_ledger,
    note_applied,
    read_ledger,
)
from sqlstable.schema.migrations import (
    NumberedMigration,
    applied_as,
    check_kind,
    checksum_of,
    pending,
)
from sqlstable.spelling import spelled

Doing = Literal["begin", "copy", "catch up", "change", "run", "look", "switch", "numbered"]
"""What a message of a migration does.

``copy`` copies new rows, ``catch up`` brings those up to date that were written meanwhile;
``change`` takes the next rows of a numbered migration that is cut, ``run`` runs what stands between
its cuts; ``look`` finds nothing left: behind the last row of a table, or at the end.
"""


@dataclass(frozen=True, slots=True)
class Advance:
    """What one message has done for a migration."""

    doing: Doing
    rows: int = 0
    "Rows that it copied, or brought up to date."
    outcome: SchemaOutcome | None = None
    "What has become of the schema, once the migration is over."
    is_over: bool = False
    "Whether nothing is left to do, or only the switch where that was not asked for."


class SchemaRun:
    """One migration, advanced message by message.

    Args:
        target: What the database is to become.
        copy: Makes a copy of it as it is now, to try ways back on.
        switches: Whether the last message, the switch, is to be sent.
    """

    def __init__(self, target: SchemaTarget, copy: MakeCopy, *, switches: bool = True) -> None:
        self._target = target
        self._copy = copy
        self._switches = switches
        self._known: tuple[int, Intent, CutPlan] | None = None
        self.cuts = False
        "Whether numbered migrations are cut, too, which a message each is enough for mostly."
        self.can_cut = False
        "Whether the one that is next can be."
        self.doing: Doing = "begin"
        "What the message does that is open, or did that trapped."

    def advance(self, execute: Execute, rows_max: int | None) -> Advance:
        """Do what is to be done next, in the open message.

        Args:
            execute: Runs SQL in the message; it is in no SQL transaction.
            rows_max: At most so many rows are copied; None for all.

        Raises:
            MigrationError: The migration is refused.
            SqlError: SQLite refused a statement of it.
        """
        ledger = read_ledger(execute)
        run = read_run(execute)
        if run is not None:
            check_run(run, self._target)
        if self._target.text is None:
            return self._next_numbered(execute, ledger, run, rows_max)
        check_kind(ledger, "schema")
        if run is None:
            self.doing = "begin"
            return self._begin(execute, ledger)
        return self._go_on(execute, ledger, run, rows_max)

    def _next_numbered(
        self, execute: Execute, ledger: Ledger, run: RunState | None, rows_max: int | None
    ) -> Advance:
        todo = pending(self._target.migrations, ledger)
        if not todo:
            return Advance("look", is_over=True)
        one, is_last = todo[0], len(todo) == 1
        if run is not None:
            return self._go_on_by_hand(execute, ledger, one, run.facts, rows_max, is_last=is_last)
        self.can_cut = has_ranges(one)
        if self.cuts and self.can_cut:
            self.doing = "begin"
            reason = reasons_of(todo[:1], self._copy)[0][one.number]
            make_ledger(execute)
            with transaction(execute, checks=False):
                begin_by_hand(execute, one, reason)
            return Advance("begin")
        self.doing = "numbered"
        make_ledger(execute)
        outcome = apply_numbered(execute, ledger, todo[:1], self._copy)
        return Advance("numbered", outcome=outcome, is_over=is_last)

    def _go_on_by_hand(
        self,
        execute: Execute,
        ledger: Ledger,
        one: NumberedMigration,
        facts: dict[str, Any],
        rows_max: int | None,
        *,
        is_last: bool,
    ) -> Advance:
        self.doing = "copy"
        with transaction(execute, checks=facts["step"] >= len(one.up)):
            part = go_on_by_hand(execute, one, facts, rows_max)
            if part is not None:
                return Advance(*part)
            applied = applied_as(one, ledger.upgrades, facts["reason"])
            note_applied(execute, applied)
        outcome = SchemaOutcome(ledger.upgrades, applied.way, (applied,))
        return Advance("switch", outcome=outcome, is_over=is_last)

    def _begin(self, execute: Execute, ledger: Ledger) -> Advance:
        intent = intent_of(execute, ledger, self._target, self._copy)
        if intent.check.verdict == "same" and not intent.deprecated and not intent.restored:
            return Advance("look", is_over=True)
        make_ledger(execute)
        reason = reason_against(intent.check, self._copy)
        plan = plan_of(intent.migration, execute, intent.old, intent.new)
        if not plan.copies and not self._switches:
            return Advance("look", is_over=True)
        with transaction(execute):
            if not plan.copies:
                self.doing = "switch"
                return self._switch(execute, ledger, intent, plan, reason)
            facts = {
                "name": self._target.name,
                "checksum": self._target.checksum,
                "schema": _checksum(execute, ()),
                "reason": reason,
            }
            begin_run(execute, plan, facts)
        self._known = schema_version(execute), intent, plan
        return Advance("begin")

    def _go_on(
        self, execute: Execute, ledger: Ledger, run: RunState, rows_max: int | None
    ) -> Advance:
        intent, plan = self._recalled(execute, ledger, run)
        left = sum(waiting(execute, cut) for cut in plan.copies)
        is_copied = all(state.is_done for state in run.copies)
        if is_copied and (rows_max is None or left <= rows_max or left >= run.left):
            # Where the code writes faster than messages catch up, more of them would not help.
            if not self._switches:
                return Advance("look", is_over=True)
            self.doing = "switch"
            with transaction(execute):
                for cut, state in zip(plan.copies, run.copies, strict=True):
                    catch_up(execute, cut, state, None)
                end_run(execute, plan)
                return self._switch(execute, ledger, intent, plan, run.facts["reason"])
        self.doing = "copy"
        with transaction(execute, checks=False):
            rows = self._copy_some(execute, plan, run, rows_max)
            note_run(execute, rows_per_message=rows_max, **({"left": left} if is_copied else {}))
        doing: Doing = "catch up" if is_copied else "copy"
        return Advance(doing if rows else "look", rows)

    def _copy_some(
        self, execute: Execute, plan: CutPlan, run: RunState, rows_max: int | None
    ) -> int:
        """Bring written rows up to date, and copy new ones, of which there are always some."""
        rows = 0
        states = tuple(zip(plan.copies, run.copies, strict=True))
        is_copied = all(state.is_done for state in run.copies)
        part = rows_max if is_copied or rows_max is None else rows_max // 2
        for cut, state in states:
            rows += catch_up(execute, cut, state, None if part is None else part - rows)
        todo = None if rows_max is None else max(1, rows_max - rows)
        for cut, state in states:
            if not state.is_done and (todo is None or todo > 0):
                copied = copy_rows(execute, cut, state, todo).rows - state.rows
                rows += copied
                todo = None if todo is None else todo - copied
        return rows

    def _switch(
        self,
        execute: Execute,
        ledger: Ledger,
        intent: Intent,
        plan: CutPlan,
        reason: str | None,
    ) -> Advance:
        for sql in plan.last:
            execute(sql)
        outcome = finish_schema(execute, ledger, self._target, intent, reason)
        return Advance("switch", outcome=outcome, is_over=True)

    def _clean_copy(self) -> Scratch:
        """Return a copy of the database without what the run has made."""
        copy = self._copy()
        abandon_run(copy.execute)
        return copy

    def _recalled(self, execute: Execute, ledger: Ledger, run: RunState) -> tuple[Intent, CutPlan]:
        """Return what is to be done, worked out again where somebody else changed the schema.

        Raises:
            MigrationError: It is not the schema any more that the run began with.
        """
        version = schema_version(execute)
        if self._known is not None and self._known[0] == version:
            return self._known[1:]
        targets = tuple(row[0] for row in execute("SELECT target FROM _sqlstable_copies"))
        if _checksum(execute, targets) != run.facts["schema"]:
            raise MigrationError(
                f"the schema has changed since the migration to {run.facts['name']} began "
                f"({run.rows:,} rows are copied); undo that change, or give the migration up with "
                f"{_abandon()}, and begin again. Nothing was changed"
            )
        intent = intent_of(execute, ledger, self._target, self._clean_copy, targets)
        plan = plan_of(intent.migration, execute, intent.old, intent.new)
        if version != run.facts["schema_version"]:
            _check_rowids(plan, intent, run)
        self._known = version, intent, plan
        return intent, plan


def upgrade_to(execute: Execute, target: SchemaTarget, copy: MakeCopy) -> SchemaOutcome:
    """Take a database all the way to a target, in the open message of an upgrade.

    Raises:
        MigrationError: It is refused, as it is while another migration is under way.
        SqlError: SQLite refused a statement of a migration.
    """
    run = read_run(execute)
    if run is None:
        return apply_target(execute, target, copy)
    check_run(run, target)
    ledger = read_ledger(execute)
    count_upgrade(execute, ledger.upgrades + 1)
    whole = SchemaRun(target, copy)
    applied: list[Applied] = []
    while True:
        step = whole.advance(execute, None)
        if step.outcome is not None:
            applied += step.outcome.applied
        if step.is_over:
            assert step.outcome is not None
            return replace(step.outcome, upgrade=ledger.upgrades + 1, applied=tuple(applied))


def check_run(run: RunState, target: SchemaTarget) -> None:
    """Refuse another target than that of the migration that is under way.

    Raises:
        MigrationError: It is another one, or its text has changed.
    """
    number = run.facts.get("number")
    checksums = {it.number: it.checksum for it in target.migrations}
    checksum = target.checksum if number is None else checksums.get(number)
    if run.facts["checksum"] != checksum:
        raise MigrationError(
            f"a migration to {run.facts['name']} is under way ({run.rows:,} rows are copied), and "
            f"{target.name} is not the text that it began with; finish it with that one, or give "
            f"it up with {_abandon()}. Nothing was changed"
        )


def _abandon() -> str:
    return spelled("abandon_migration", "sqlstable schema migrate IMAGE --abandon")


def check_no_run(execute: Execute) -> None:
    """Refuse to touch the schema while a migration is under way.

    Raises:
        MigrationError: One is.
    """
    run = read_run(execute)
    if run is not None:
        raise MigrationError(
            f"a migration to {run.facts['name']} is under way ({run.rows:,} rows are copied); "
            f"finish it first, or give it up with {_abandon()}. Nothing was changed"
        )


def abandon(execute: Execute) -> None:
    """Give up the migration that is under way.

    Raises:
        MigrationError: There is none.
    """
    read_ledger(execute)
    if not has_run(execute):
        raise MigrationError("no migration is under way; there is nothing to give up")
    run = read_run(execute)
    if run is not None and "number" in run.facts:
        raise MigrationError(
            f"migration {run.facts['name']} is applied in part, and what it has done is not "
            "undone; finish it, or load a snapshot from before it. Nothing was changed"
        )
    with transaction(execute, checks=False):
        abandon_run(execute)


def _check_rowids(plan: CutPlan, intent: Intent, run: RunState) -> None:
    """Refuse to go on by numbers of rows that VACUUM may have given anew.

    Raises:
        MigrationError: It may have.
    """
    for cut in plan.copies:
        table = intent.old.table(cut.copy.source)
        if table is not None and not table.is_without_rowid and table.rowid_column is None:
            raise MigrationError(
                f"VACUUM has run, or the schema has changed and changed back, since the migration "
                f"to {run.facts['name']} began, and may have given the rows of {table.name} other "
                f"numbers; give the migration up with {_abandon()}, and begin again. Nothing was "
                "changed"
            )


def _checksum(execute: Execute, targets: tuple[str, ...]) -> str:
    return checksum_of(*(sql for _, _, sql in current_objects(execute, targets)))
