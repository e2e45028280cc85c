"""``check_schemas``: may a database of one schema become one of another, and come back?"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import apsw

from sqlstable.errors import SchemaError
from sqlstable.schema.migration_plan import plan_migration
from sqlstable.schema.object_changes import all_changes
from sqlstable.schema.renaming import Renamed, TableRename, resolve_renames, with_new_names
from sqlstable.schema.schema_data import decided, tried
from sqlstable.schema.schema_model import Schema
from sqlstable.schema.schema_verdicts import (
    VERDICTS,
    Migration,
    SchemaChange,
    SchemaCheck,
    Verdict,
)


def check_schemas(
    old: Schema,
    new: Schema,
    *,
    renames: Mapping[str, str] | None = None,
    dropped: Collection[str] = (),
    data: apsw.Connection | None = None,
) -> SchemaCheck:
    """Compare two schemas, and find the migration between them.

    What rows decide is judged for the worst of them, unless those that are there are given.

    Args:
        old: The schema of the database as it is.
        new: The schema that it is to have.
        renames: What is renamed: ``{"table": "table"}`` or ``{"table.column": "table.column"}``.
        dropped: Tables and ``table.column`` that are dropped, though it looks like a rename.
        data: A copy of a database of the old schema, whose rows are asked; it is changed, and
            changed back.

    Raises:
        SchemaError: A rename or something dropped is not there.

    Examples:
        >>> old = Schema.from_sql("CREATE TABLE t (a)")
        >>> check = check_schemas(old, Schema.from_sql("CREATE TABLE t (a, b)"))
        >>> check.verdict, [step.sql for step in check.migration.steps]
        ('both ways', ['ALTER TABLE "t" ADD COLUMN b'])
        >>> check.rollback.steps[0].sql
        'ALTER TABLE "t" DROP COLUMN "b"'
    """
    check_dropped(old, dropped)
    found = resolve_renames(old, new, renames or {})
    renamed = with_new_names(old, found, new)
    changes = (
        *_rename_changes(found),
        *all_changes(_with_texts(renamed, old), new, dropped=dropped),
    )
    ways = _Ways(old, new, found, renamed)
    if data is not None:
        changes = decided(data, old, renamed, changes)
        changes = _relieved(data, ways, changes)
    verdict = worst(changes)
    if verdict == "same":
        return SchemaCheck("same", (), Migration(()), Migration(()), _notes(old, new))
    migration = None if verdict == "incompatible" else ways.there()
    if migration is None and verdict != "incompatible":
        changes = (*changes, _undone("no statements were found that SQLite accepts one by one"))
    rollback = ways.back(is_promised=worst(changes) == "both ways")
    if rollback is None and worst(changes) == "both ways":
        changes = (*changes, _undone("no way back was found", "forward only"))
    if data is not None and migration is not None:
        is_promised = worst(changes) == "both ways"
        reason, reached = tried(data, old, migration, rollback if is_promised else None)
        if reason:
            changes = (*changes, _undone(f"tried on a copy of the data, {reason}", reached))
    verdict = worst(changes)
    if verdict == "incompatible":
        return SchemaCheck(verdict, changes, None, None, _notes(old, new))
    return SchemaCheck(verdict, changes, migration, rollback, _notes(old, new))


@dataclass(frozen=True, slots=True)
class _Ways:
    """The migrations between two schemas."""

    old: Schema
    new: Schema
    renames: tuple[TableRename, ...]
    renamed: Renamed

    def there(self) -> Migration | None:
        """Plan the migration, whatever the verdict."""
        return plan_migration(self.old, self.renamed, self.new, self.renames)

    def back(self, *, is_promised: bool) -> Migration | None:
        """Plan the way back; if it is not promised, only where no value is missing."""
        return way_back(self.old, self.new, self.renames, is_promised=is_promised)


def _relieved(
    data: apsw.Connection, ways: _Ways, changes: tuple[SchemaChange, ...]
) -> tuple[SchemaChange, ...]:
    """Try what rows seem to stand in the way of: some questions to rows can only be near ones."""
    stops = [it for it in changes if it.verdict == "incompatible"]
    if not stops or not all(it.depends_on_data for it in stops):
        return changes
    migration = ways.there()
    if migration is None or tried(data, ways.old, migration, None)[0]:
        return changes
    rollback = ways.back(is_promised=True)
    is_lost = rollback is None or tried(data, ways.old, migration, rollback)[0]
    verdict: Verdict = "forward only" if is_lost else "both ways"
    text = "tried on a copy of the data, the migration goes through"
    return tuple(
        replace(it, verdict=verdict, reason=f"{it.reason.partition('; ')[0]}; {text}")
        if it in stops
        else it
        for it in changes
    )


def worst(changes: Sequence[SchemaChange]) -> Verdict:
    """Return the verdict over all changes."""
    return max((it.verdict for it in changes), key=VERDICTS.index, default="same")


def way_back(
    old: Schema, new: Schema, renames: Sequence[TableRename], *, is_promised: bool
) -> Migration | None:
    """Return the migration from the new to the old schema.

    Args:
        old: Where it leads.
        new: Where it begins.
        renames: What was renamed on the way there.
        is_promised: Whether rows of the old schema can always go back; else there is none where
            the old schema needs values that nobody has.
    """
    reverse = tuple(it.reversed for it in renames)
    try:
        renamed = with_new_names(new, reverse, old)
    except SchemaError:
        return None
    changes = all_changes(_with_texts(renamed, new), old, dropped=_all_names(new))
    if not is_promised and any(it.needs_value for it in changes):
        return None
    return plan_migration(new, renamed, old, reverse)


def check_dropped(old: Schema, dropped: Collection[str]) -> None:
    """Refuse names that nothing has.

    Raises:
        SchemaError: There is one.
    """
    for name in dropped:
        if name.lower() not in {it.lower() for it in _all_names(old)}:
            raise SchemaError(
                f"nothing in the old schema is called {name}; write TABLE or TABLE.COLUMN"
            )


def _all_names(schema: Schema) -> tuple[str, ...]:
    return tuple(
        name
        for table in schema.tables
        for name in (table.name, *(f"{table.name}.{it.name}" for it in table.columns))
    )


def _with_texts(renamed: Renamed, old: Schema) -> Schema:
    """Return the renamed schema with its views and triggers, as they were where need be."""
    if renamed.has_texts:
        return renamed.schema
    return replace(renamed.schema, views=old.views, triggers=old.triggers)


def _rename_changes(renames: Sequence[TableRename]) -> Iterator[SchemaChange]:
    for it in renames:
        if it.old != it.new:
            yield SchemaChange(
                "renamed",
                "table",
                it.new,
                "both ways",
                f"it was called {it.old}",
                it.new,
                old_code="works" if it.old.lower() == it.new.lower() else "fails",
            )
        for old, new in it.columns:
            yield SchemaChange(
                "renamed",
                "column",
                f"{it.new}.{new}",
                "both ways",
                f"it was called {old}",
                it.new,
                old_code="differs" if old.lower() == new.lower() else "fails",
            )


def _undone(reason: str, verdict: Verdict = "incompatible") -> SchemaChange:
    return SchemaChange(
        "changed", "table", "the whole", verdict, reason, old_code="fails", needs_value=True
    )


def _notes(old: Schema, new: Schema) -> tuple[str, ...]:
    return (*old.notes, *new.notes)
