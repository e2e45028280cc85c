"""When two parts of schemas are the same one, however they are written."""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from sqlstable.schema.schema_model import Schema
from sqlstable.schema.schema_objects import (
    CheckRule,
    ForeignKeyRule,
    SchemaColumn,
    SchemaIndex,
    SchemaTable,
    SchemaTrigger,
    SchemaView,
    UniqueRule,
)
from sqlstable.schema.sql_tokens import lower, meaning

Rule = TypeVar("Rule")

Key = tuple[object, ...]


def lowered(names: Iterable[str]) -> tuple[str, ...]:
    """Return names as they are compared."""
    return tuple(map(lower, names))


def column_key(column: SchemaColumn) -> Key:
    """Return all that counts of a column; the exact spelling of its name does, results show it."""
    return (
        column.name,
        meaning(column.type),
        column.is_not_null,
        meaning(column.default),
        lower(column.collation),
        column.key_position,
        column.generated,
        meaning(column.expression),
        column.is_hidden,
        column.not_null_conflict,
    )


def unique_columns(rule: UniqueRule) -> Key:
    """Return what a rule holds unique, and in which order."""
    return tuple(zip(lowered(rule.columns), lowered(rule.collations), rule.descending, strict=True))


def unique_key(rule: UniqueRule) -> Key:
    """Return all that counts of a UNIQUE or PRIMARY KEY constraint."""
    return (unique_columns(rule), rule.conflict, None if rule.name is None else lower(rule.name))


def check_key(rule: CheckRule) -> Key:
    """Return all that counts of a CHECK constraint."""
    return (meaning(rule.expression), None if rule.name is None else lower(rule.name))


def foreign_columns(rule: ForeignKeyRule, schema: Schema) -> Key:
    """Return what references what, the parent's primary key by its columns."""
    parents = rule.parent_columns
    if not parents:
        parent = schema.table(rule.parent)
        key = None if parent is None else parent.primary_key
        parents = () if key is None else key.columns
    return (lowered(rule.columns), lower(rule.parent), lowered(parents))


def foreign_key(rule: ForeignKeyRule, schema: Schema) -> Key:
    """Return all that counts of a FOREIGN KEY constraint."""
    return (
        foreign_columns(rule, schema),
        rule.on_update,
        rule.on_delete,
        rule.is_deferred,
        None if rule.name is None else lower(rule.name),
    )


def table_key(table: SchemaTable, schema: Schema) -> Key:
    """Return all that counts of a table."""
    if table.is_virtual:
        return (table.name, table.module, *(meaning(it) for it in table.arguments))
    return (
        table.name,
        tuple(map(column_key, table.columns)),
        None if table.primary_key is None else unique_key(table.primary_key),
        sorted(map(repr, map(unique_key, table.uniques))),
        sorted(map(repr, map(check_key, table.checks))),
        sorted(repr(foreign_key(it, schema)) for it in table.foreign_keys),
        table.is_without_rowid,
        table.is_strict,
        table.is_autoincrement,
    )


def index_key(index: SchemaIndex) -> Key:
    """Return all that counts of an index."""
    return (index.name, *index_content(index))


def index_content(index: SchemaIndex) -> Key:
    """Return all that counts of an index but its name."""
    terms = tuple(map(meaning, index.terms))
    return (lower(index.table), index.is_unique, terms, meaning(index.where))


def text_key(it: SchemaView | SchemaTrigger) -> Key:
    """Return all that counts of a view or a trigger: its text."""
    keys = meaning(it.sql)
    is_qualified = keys[2:4] == ("main", ".")
    return (it.name, *keys[:2], *keys[4 if is_qualified else 2 :])


def schema_key(schema: Schema) -> Key:
    """Return all that counts of a schema; the order of its objects does not."""
    return (
        {lower(it.name): table_key(it, schema) for it in schema.tables},
        {lower(it.name): index_key(it) for it in schema.indexes},
        {lower(it.name): text_key(it) for it in schema.views},
        {lower(it.name): text_key(it) for it in schema.triggers},
    )


def unpaired(
    old: Sequence[Rule], new: Sequence[Rule], key_of: Callable[[Rule], Key]
) -> tuple[list[Rule], list[Rule]]:
    """Return what only one of two lists has; what both have is taken away once for once.

    Examples:
        >>> unpaired("aab", "abc", lambda letter: (letter,))
        (['a'], ['c'])
    """
    only_new = list(new)
    only_old = []
    for it in old:
        twin = next((other for other in only_new if key_of(other) == key_of(it)), None)
        if twin is None:
            only_old.append(it)
        else:
            only_new.remove(twin)
    return only_old, only_new
