"""The migration from one schema to another, tried on an empty database before it is shown.

The order of steps is that of SQLite's documentation of ALTER TABLE, section 7: what names a table
that changes (triggers, views) goes first and comes again last, indexes are made after the rows are
there, and foreign keys are checked at the end.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final

import apsw

from sqlstable.errors import SchemaError
from sqlstable.schema.column_changes import TablePair
from sqlstable.schema.constraint_changes import has_parent_key
from sqlstable.schema.empty_database import carried_out
from sqlstable.schema.expressions import mentions
from sqlstable.schema.renaming import Renamed, TableRename, free_name, names_of
from sqlstable.schema.sameness import (
    foreign_columns,
    index_key,
    schema_key,
    table_key,
    text_key,
)
from sqlstable.schema.schema_model import Schema
from sqlstable.schema.schema_objects import SchemaTable, SchemaTrigger, SchemaView
from sqlstable.schema.schema_verdicts import Migration, MigrationStep
from sqlstable.schema.sql_tokens import literal, lower, meaning, quoted
from sqlstable.schema.table_rebuild import alter_steps, rebuild_steps
from sqlstable.schema.virtual_changes import fts_table

_GUARD: Final = "sqlstable_guard"
"""A temporary table whose CHECK ends a migration that breaks a foreign key."""


@dataclass(frozen=True, slots=True)
class _Way:
    """How boldly a migration is planned."""

    alters: bool
    "Whether ALTER TABLE is used where it can be."
    keeps_texts: bool
    "Whether views and triggers stay that name nothing that changes."


_WAYS: Final = (
    _Way(alters=True, keeps_texts=True),
    _Way(alters=True, keeps_texts=False),
    _Way(alters=False, keeps_texts=False),
)


def plan_migration(
    old: Schema, renamed: Renamed, new: Schema, renames: Collection[TableRename]
) -> Migration | None:
    """Return the migration; None where there is none that gives exactly the new schema.

    Args:
        old: The schema as it is.
        renamed: The same under its new names.
        new: The schema that it is to be.
        renames: What is renamed.
    """
    wanted = schema_key(new)
    for way in _WAYS:
        migration = _Planner(old, renamed, new, renames, way).migration()
        try:
            found = carried_out(old, [it.sql for it in migration.steps])
        except (apsw.Error, SchemaError):
            # SQLite refuses more than the rules say where a view or a trigger is broken.
            continue
        if schema_key(found) == wanted:
            return migration
    return None


class _Planner:
    """Puts the steps of one migration together."""

    def __init__(
        self,
        old: Schema,
        renamed: Renamed,
        new: Schema,
        renames: Collection[TableRename],
        way: _Way,
    ) -> None:
        self._old = old
        self._renamed = renamed
        self._new = new
        self._way = way
        self._before = renamed.schema
        self._pairs = [
            TablePair(before, after, self._before, new)
            for after in new.tables
            for before in (self._before.table(after.name),)
            if before is not None and table_key(before, self._before) != table_key(after, new)
        ]
        self._lost_indexes = self._find_lost_indexes()
        self._taken = {*names_of(old), *names_of(new)}
        self._removed = [it for it in self._before.tables if new.table(it.name) is None]
        self._added = [it for it in new.tables if self._before.table(it.name) is None]
        self._altered = {it.new.name: self._alter(it) for it in self._pairs}
        self._rebuilt = {lower(name) for name, steps in self._altered.items() if steps is None}
        self._touched = self._touched_names(renames)
        self._lost_views, self._lost_triggers = self._lost_texts()

    def migration(self) -> Migration:
        steps = (
            *self._drop_texts(),
            *self._renamed.steps,
            *self._drop_indexes(),
            *self._drop_tables(),
            *self._make_tables(),
            *self._change_tables(),
            *self._make_indexes(),
            *self._fill(),
            *self._make_texts(),
            *self._guards(),
        )
        return Migration(steps, is_rebuilding=bool(self._rebuilt or self._removed))

    # -- what changes ---------------------------------------------------------------------------

    def _alter(self, pair: TablePair) -> tuple[MigrationStep, ...] | None:
        if not self._way.alters:
            return None
        indexes = self._before.indexes_of(pair.old.name)
        return alter_steps(pair, [it for it in indexes if it.name not in self._lost_indexes])

    def _find_lost_indexes(self) -> set[str]:
        after = {lower(it.name): index_key(it) for it in self._new.indexes}
        return {
            it.name for it in self._before.indexes if after.get(lower(it.name)) != index_key(it)
        }

    def _touched_names(self, renames: Collection[TableRename]) -> set[str]:
        """Return tables that a view or trigger must not name while they change."""
        names = set(self._rebuilt)
        for it in renames:
            names |= {lower(it.old), lower(it.new)}
        names |= {lower(it.name) for it in self._removed}
        for pair in self._pairs:
            if pair.removed:
                names.add(lower(pair.new.name))
        return names

    def _lost_texts(self) -> tuple[list[SchemaView], list[SchemaTrigger]]:
        """Return views and triggers of the old schema that go, be it only for a while."""
        views = {lower(it.name): it for it in self._new.views}
        triggers = {lower(it.name): it for it in self._new.triggers}
        gone = {
            lower(it.name)
            for it in self._old.views
            if self._is_other(it, views) or not self._way.keeps_texts
        }
        touched = self._touched | gone
        is_growing = True
        while is_growing:
            more = {lower(it.name) for it in self._old.views if mentions(it.sql) & touched}
            is_growing = not more <= gone
            gone |= more
            touched |= more
        lost_triggers = [
            it
            for it in self._old.triggers
            if self._is_other(it, triggers)
            or not self._way.keeps_texts
            or mentions(it.sql) & touched
        ]
        return [it for it in self._old.views if lower(it.name) in gone], lost_triggers

    def _is_other(
        self,
        it: SchemaView | SchemaTrigger,
        after: dict[str, SchemaView] | dict[str, SchemaTrigger],
    ) -> bool:
        twin = after.get(lower(it.name))
        return twin is None or text_key(twin) != text_key(it)

    # -- steps ----------------------------------------------------------------------------------

    def _drop_texts(self) -> Iterator[MigrationStep]:
        for trigger in self._lost_triggers:
            yield self._drop(trigger, "TRIGGER", {lower(it.name) for it in self._new.triggers})
        for view in self._lost_views:
            yield self._drop(view, "VIEW", {lower(it.name) for it in self._new.views})

    def _drop(
        self, it: SchemaView | SchemaTrigger, word: str, kept: Collection[str]
    ) -> MigrationStep:
        will_return = lower(it.name) in kept
        purpose = f"{it.name} is made anew below" if will_return else f"{it.name} is gone"
        return MigrationStep(f"DROP {word} {quoted(it.name)}", purpose)

    def _drop_indexes(self) -> Iterator[MigrationStep]:
        dropped = self._rebuilt | {lower(it.name) for it in self._removed}
        for index in self._before.indexes:
            # Those of a table that is dropped go with it.
            if lower(index.table) not in dropped and index.name in self._lost_indexes:
                purpose = f"the index {index.name} is gone, or made anew below"
                yield MigrationStep(f"DROP INDEX {quoted(index.name)}", purpose, index.table)

    def _drop_tables(self) -> Iterator[MigrationStep]:
        for table in self._removed:
            yield MigrationStep(
                f"DROP TABLE {quoted(table.name)}", f"{table.name} is gone", table.name
            )

    def _make_tables(self) -> Iterator[MigrationStep]:
        for table in self._added:
            yield MigrationStep(table.sql, f"{table.name} is new", table.name)

    def _change_tables(self) -> Iterator[MigrationStep]:
        for pair in self._pairs:
            steps = self._altered[pair.new.name]
            between = free_name(f"sqlstable_new_{pair.new.name}", self._taken)
            if steps is not None:
                yield from steps
            elif _is_elsewhere(pair.new):
                name = pair.new.name
                yield MigrationStep(f"DROP TABLE {quoted(name)}", f"{name} is made anew", name)
                yield MigrationStep(pair.new.sql, f"{name} is made anew", name)
            else:
                yield from rebuild_steps(pair, between)

    def _make_indexes(self) -> Iterator[MigrationStep]:
        before = {lower(it.name): it for it in self._before.indexes}
        for index in self._new.indexes:
            twin = before.get(lower(index.name))
            is_there = twin is not None and index_key(twin) == index_key(index)
            if not is_there or lower(index.table) in self._rebuilt:
                purpose = f"the index {index.name} is made from the rows"
                yield MigrationStep(index.sql, purpose, index.table)

    def _fill(self) -> Iterator[MigrationStep]:
        """Yield what indexes texts of other tables for FTS5."""
        fresh = {lower(it.name) for it in self._added} | self._rebuilt
        known = {lower(it.name) for it in (*self._new.tables,)}
        known |= {lower(it.name) for it in self._new.views}
        for table in self._new.tables:
            # What is made anew may have other texts, which the index has to follow.
            is_stale = bool({lower(table.name), _content(table)} & fresh)
            if is_stale and _is_elsewhere(table) and _content(table) in known:
                name = quoted(table.name)
                yield MigrationStep(
                    f"INSERT INTO {name} ({name}) VALUES ('rebuild')",  # noqa: S608
                    f"{table.name} indexes the texts of {_content(table)}",
                    table.name,
                )

    def _make_texts(self) -> Iterator[MigrationStep]:
        kept = _names(self._old.views) - _names(self._lost_views)
        for view in self._new.views:
            if lower(view.name) not in kept:
                yield MigrationStep(view.sql, f"the view {view.name}")
        kept = _names(self._old.triggers) - _names(self._lost_triggers)
        for trigger in self._new.triggers:
            if lower(trigger.name) not in kept:
                yield MigrationStep(trigger.sql, f"the trigger {trigger.name}", trigger.table)

    def _guards(self) -> Iterator[MigrationStep]:
        """Yield what ends the migration where a new foreign key does not hold."""
        for pair in self._pairs:
            known = [foreign_columns(it, self._before) for it in pair.old.foreign_keys]
            for number, rule in enumerate(pair.new.foreign_keys):
                is_new = foreign_columns(rule, self._new) not in known
                # What SQLite calls a mismatch it refuses to check.
                if is_new and has_parent_key(pair, rule):
                    yield from _guard(pair.new, number, rule.parent)


def _guard(table: SchemaTable, number: int, parent: str) -> Iterator[MigrationStep]:
    # SQLite counts from the last one.
    foreign_id = len(table.foreign_keys) - 1 - number
    rule = f"each row of {table.name} references a row of {parent}"
    yield MigrationStep(
        f"CREATE TEMP TABLE {_GUARD} (holds CONSTRAINT {quoted(rule)} CHECK (holds))",
        rule,
        table.name,
    )
    yield MigrationStep(
        f"INSERT INTO temp.{_GUARD} SELECT NOT EXISTS (SELECT 1 FROM "  # noqa: S608
        f"pragma_foreign_key_check({literal(table.name)}) WHERE fkid = {foreign_id})",
        "the migration ends here where one does not",
        table.name,
    )
    yield MigrationStep(f"DROP TABLE temp.{_GUARD}", "that was all", table.name)


def _names(texts: Collection[SchemaView] | Collection[SchemaTrigger]) -> set[str]:
    return {lower(it.name) for it in texts}


def _is_elsewhere(table: SchemaTable) -> bool:
    """Return whether it indexes the texts of another table."""
    return table.module == "fts5" and fts_table(table).content == "other"


def _content(table: SchemaTable) -> str:
    """Return the table whose texts an FTS5 table indexes, as names are compared."""
    for argument in table.arguments:
        keys = meaning(argument)
        if keys[:2] == ("content", "="):
            return lower(keys[2].strip("'\"`[]"))
    return ""
