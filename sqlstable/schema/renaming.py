"""Which names of a schema become others, and the schema with the new ones.

A rename is taken for one only where it is sure: where somebody says so, or where a name changes in
case alone. SQLite itself renames: it knows every place where a name stands.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import apsw

from sqlstable.errors import SchemaError
from sqlstable.schema.empty_database import carried_out
from sqlstable.schema.schema_model import Schema
from sqlstable.schema.schema_objects import SchemaTable
from sqlstable.schema.schema_verdicts import MigrationStep
from sqlstable.schema.sql_tokens import lower, quoted

_NAMES_SHOWN: Final = 8


@dataclass(frozen=True, slots=True)
class TableRename:
    """One table that goes on, and what is renamed of it."""

    old: str
    new: str
    columns: tuple[tuple[str, str], ...] = ()
    "Old and new names."

    @property
    def reversed(self) -> "TableRename":
        """The way back."""
        return TableRename(self.new, self.old, tuple((new, old) for old, new in self.columns))


@dataclass(frozen=True, slots=True)
class Renamed:
    """A schema under its new names."""

    schema: Schema
    steps: tuple[MigrationStep, ...]
    has_texts: bool = True
    "Whether its views and triggers could be renamed with it; else they are gone."


def resolve_renames(old: Schema, new: Schema, asked: Mapping[str, str]) -> tuple[TableRename, ...]:
    """Return all renames: those that are asked for, and those of case alone.

    Args:
        old: The schema as it is.
        new: The one that it is to be.
        asked: ``{"table": "table"}`` and ``{"table.column": "table.column"}``, or only the new
            column's name.

    Raises:
        SchemaError: Something is not there, or is asked for twice.
    """
    tables = dict(_asked_tables(old, new, asked))
    _check_once(tables.values(), "table")
    columns: dict[str, list[tuple[str, str]]] = {}
    for source, target in asked.items():
        if old.table(source) is None:
            table, column = _column_of(old, source)
            renamed_to = tables.get(lower(table.name), table.name)
            name = _new_column(new, table.name, renamed_to, target)
            columns.setdefault(lower(table.name), []).append((column, name))
    return tuple(_table_renames(old, new, tables, columns))


def with_new_names(old: Schema, renames: Collection[TableRename], taken: Schema) -> Renamed:
    """Rename in a schema.

    Args:
        old: The schema as it is.
        renames: What is renamed.
        taken: The other schema, whose names are no names for what is between.
    """
    steps = tuple(_steps(old, renames, taken))
    if not steps:
        return Renamed(old, ())
    statements = [it.sql for it in steps]
    try:
        return Renamed(carried_out(old, statements), steps)
    except apsw.Error:
        # A view that names what is not there keeps SQLite from renaming anything.
        try:
            return Renamed(carried_out(old, statements, has_texts=False), steps, has_texts=False)
        except apsw.Error as error:
            raise SchemaError(f"SQLite cannot rename as asked: {error}") from error


def free_name(wanted: str, taken: Collection[str]) -> str:
    """Return a name that nothing has.

    Args:
        wanted: What it is to be, if it is free.
        taken: Names in lower case, as `names_of` has them.

    Examples:
        >>> free_name("t", {"t"})
        't_2'
    """
    name, number = wanted, 1
    while lower(name) in taken:
        number += 1
        name = f"{wanted}_{number}"
    return name


def names_of(schema: Schema) -> Iterator[str]:
    """Yield the names of all objects, as they are compared."""
    for table in schema.tables:
        yield lower(table.name)
    for index in schema.indexes:
        yield lower(index.name)
    for view in schema.views:
        yield lower(view.name)
    for trigger in schema.triggers:
        yield lower(trigger.name)


def _listed(tables: Sequence[SchemaTable]) -> str:
    names = [it.name for it in tables[:_NAMES_SHOWN]]
    more = len(tables) - len(names)
    return ", ".join([*names, *([f"{more} more"] if more else [])]) or "none"


def _asked_tables(old: Schema, new: Schema, asked: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for source, target in asked.items():
        table = old.table(source)
        if table is None:
            continue
        renamed = new.table(target)
        if renamed is None:
            raise SchemaError(
                f"{source} cannot be renamed to {target}: the new schema has no such table; it has "
                f"{_listed(new.tables)}"
            )
        yield lower(table.name), renamed.name


def _column_of(old: Schema, source: str) -> tuple[SchemaTable, str]:
    for at, character in enumerate(source):
        table = old.table(source[:at]) if character == "." else None
        column = None if table is None else table.column(source[at + 1 :])
        if table is not None and column is not None:
            if table.is_virtual:
                raise SchemaError(f"{source} cannot be renamed: {table.name} is a virtual table")
            return table, column.name
    raise SchemaError(
        f"nothing in the old schema is called {source}; write TABLE or TABLE.COLUMN, it has "
        f"{_listed(old.tables)}"
    )


def _new_column(new: Schema, old_table: str, new_table: str, target: str) -> str:
    table = new.table(new_table)
    if table is None:
        raise SchemaError(
            f"a column of {old_table} cannot be renamed: the new schema has no table {new_table}"
        )
    names = [target]
    for prefix in (old_table, new_table):
        if lower(target).startswith(f"{lower(prefix)}."):
            names += [target[len(prefix) + 1 :]]
    for name in reversed(names):
        column = table.column(name)
        if column is not None:
            return column.name
    raise SchemaError(
        f"{target} is no column of {table.name} in the new schema; it has "
        f"{', '.join(it.name for it in table.columns)}"
    )


def _table_renames(
    old: Schema,
    new: Schema,
    tables: Mapping[str, str],
    columns: Mapping[str, list[tuple[str, str]]],
) -> Iterator[TableRename]:
    taken = set(map(lower, tables.values()))
    for table in old.tables:
        asked_columns = columns.get(lower(table.name), [])
        _check_once([name for _, name in asked_columns], f"column of {table.name}")
        name = tables.get(lower(table.name))
        if name is None and lower(table.name) not in taken:
            same = new.table(table.name)
            name = None if same is None else same.name
        if name is None:
            continue
        target = new.table(name)
        assert target is not None
        renamed = (*asked_columns, *_of_case(table, target, dict(asked_columns)))
        if name != table.name or renamed:
            yield TableRename(table.name, name, renamed)


def _of_case(
    old: SchemaTable, new: SchemaTable, asked: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    taken = set(map(lower, asked.values()))
    for column in () if old.is_virtual or new.is_virtual else old.columns:
        same = new.column(column.name)
        is_free = column.name not in asked and lower(column.name) not in taken
        if same is not None and same.name != column.name and is_free:
            yield column.name, same.name


def _check_once(names: Collection[str], what: str) -> None:
    seen: set[str] = set()
    for name in names:
        if lower(name) in seen:
            raise SchemaError(f"two renames lead to the {what} {name}; give one of them")
        seen.add(lower(name))


def _steps(old: Schema, renames: Collection[TableRename], taken: Schema) -> Iterator[MigrationStep]:
    tables = [(it.old, it.new) for it in renames if it.old != it.new]
    names = set(names_of(old))
    for source, target, final in _in_order(tables, names, lambda name: _between(name, old, taken)):
        yield MigrationStep(
            f"ALTER TABLE {quoted(source)} RENAME TO {quoted(target)}",
            f"{source} is called {final}",
            final,
        )
    for it in renames:
        table = old.table(it.old)
        assert table is not None
        own = {lower(column.name) for column in table.columns}
        # A column may change its case at once, a table may not.
        for source, target, final in _in_order(
            it.columns, own, lambda name: f"sqlstable_{name}", is_case_free=True
        ):
            yield MigrationStep(
                f"ALTER TABLE {quoted(it.new)} RENAME COLUMN {quoted(source)} TO {quoted(target)}",
                f"{it.new}.{source} is called {final}",
                it.new,
            )


def _between(name: str, old: Schema, new: Schema) -> str:
    return free_name(f"sqlstable_new_{name}", {*names_of(old), *names_of(new)})


def _in_order(
    moves: Collection[tuple[str, str]],
    names: Collection[str],
    between: Callable[[str], str],
    *,
    is_case_free: bool = False,
) -> Iterator[tuple[str, str, str]]:
    """Yield each move by a way that is free, with where it leads in the end.

    Args:
        moves: Old and new names.
        names: What is taken before, in lower case.
        between: Gives a free name, where the new one is taken.
        is_case_free: Whether a name may change its case at once.
    """
    late = []
    for source, target in moves:
        is_own = is_case_free and lower(source) == lower(target)
        if lower(target) in names and not is_own:
            yield source, between(target), target
            late.append((between(target), target))
        else:
            yield source, target, target
    for source, target in late:
        yield source, target, target
