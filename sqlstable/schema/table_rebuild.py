"""One table into another: by ALTER TABLE where SQLite's rules allow, else made anew.

Of ALTER TABLE only what SQLite has had since 3.35 is used: RENAME, ADD COLUMN, DROP COLUMN; its
rules are those of sqlite.org/lang_altertable.html. Whether they fit is tried on an empty table.
What depends on rows, which an empty table does not show, is decided here.

Making anew follows the steps of that page's section 7: a table under another name, all rows into
it, the old table dropped, the new one renamed. The other steps are those of the whole migration
(`sqlstable.schema.migration_plan`).
"""

from collections.abc import Iterator, Sequence
from typing import Final

import apsw

from sqlstable.schema.column_changes import TablePair
from sqlstable.schema.empty_database import carried_out
from sqlstable.schema.expressions import is_constant
from sqlstable.schema.sameness import lowered, table_key
from sqlstable.schema.schema_model import Schema
from sqlstable.schema.schema_objects import SchemaColumn, SchemaIndex, SchemaTable
from sqlstable.schema.schema_verdicts import Copy, MigrationStep
from sqlstable.schema.sql_tokens import literal, lower, meaning, quoted, tokens_of
from sqlstable.schema.table_text import items_between
from sqlstable.schema.virtual_changes import stored_columns

_ROWID_NAMES: Final = ("rowid", "_rowid_", "oid")


def alter_steps(
    pair: TablePair, indexes: Sequence[SchemaIndex]
) -> tuple[MigrationStep, ...] | None:
    """Return ALTER TABLE statements that make one table of another; None where none do.

    Args:
        pair: The tables.
        indexes: Those of the table that stay.
    """
    if pair.old.is_virtual or pair.new.is_virtual or not all(map(_can_be_added, pair.added)):
        return None
    table = quoted(pair.new.name)
    drops = [
        MigrationStep(
            f"ALTER TABLE {table} DROP COLUMN {quoted(it.name)}",
            f"{pair.new.name}.{it.name} is gone; every row is written anew",
            pair.new.name,
        )
        for it in pair.removed
    ]
    texts = _column_texts(pair.new)
    adds = [
        MigrationStep(
            f"ALTER TABLE {table} ADD COLUMN {texts[pair.new.columns.index(it)]}",
            f"{pair.new.name}.{it.name} is new; no row is written",
            pair.new.name,
        )
        for it in pair.added
    ]
    steps = (*drops, *adds)
    small = Schema(tables=(pair.old,), indexes=tuple(indexes))
    try:
        found = carried_out(small, [it.sql for it in steps]).table(pair.new.name)
    except apsw.Error:
        return None
    assert found is not None
    is_same = table_key(found, pair.new_schema) == table_key(pair.new, pair.new_schema)
    return steps if is_same else None


def rebuild_steps(pair: TablePair, between: str) -> Iterator[MigrationStep]:
    """Yield what makes a table anew, with all rows that it has.

    Args:
        pair: The tables.
        between: A name that nothing has.
    """
    name = pair.new.name
    copy = table_copy(pair, between)
    yield MigrationStep(renamed_text(pair.new, between), f"{name} is made anew", name)
    yield MigrationStep(copy_sql(copy), f"all rows of {name} are copied", name, copy)
    if pair.old.is_autoincrement and pair.new.is_autoincrement:
        yield from _sequence_steps(pair.old.name, between)
    yield MigrationStep(f"DROP TABLE {quoted(pair.old.name)}", f"the old {name} is gone", name)
    yield MigrationStep(
        f"ALTER TABLE {quoted(between)} RENAME TO {quoted(name)}", "it takes its place", name
    )


def copy_sql(copy: Copy) -> str:
    """Return the statement that copies all rows.

    OR ABORT, because a constraint of the new table may say to skip or replace rows silently.
    """
    return (
        f"INSERT OR ABORT INTO {quoted(copy.target)} ({', '.join(copy.columns)}) "  # noqa: S608
        f"SELECT {', '.join(copy.expressions)} FROM {quoted(copy.source)}"
    )


def table_copy(pair: TablePair, target: str) -> Copy:
    """Return what is copied of a table, and how."""
    columns, expressions = [], []
    rowid = _shared_rowid(pair)
    if rowid is not None:
        columns.append(rowid)
        expressions.append(rowid)
    copied = {lower(it.name) for it in stored_columns(pair.new)}
    for old, new in pair.common:
        if lower(new.name) in copied and not old.is_hidden:
            columns.append(quoted(new.name))
            expressions.append(_expression(old, new))
    if not columns:
        # A row has to have something.
        first = stored_columns(pair.new)[0]
        columns.append(quoted(first.name))
        expressions.append(first.default or "NULL")
    return Copy(pair.old.name, target, tuple(columns), tuple(expressions), _key(pair.old))


def renamed_text(table: SchemaTable, name: str) -> str:
    """Return the text that makes a table under another name.

    Examples:
        >>> schema = Schema.from_sql("CREATE TABLE t (a CHECK (t.a > 0))")
        >>> renamed_text(schema.tables[0], "u")
        'CREATE TABLE "u" (a CHECK ("u".a > 0))'
    """
    tokens = tokens_of(table.sql)
    at_name = 3 if table.is_virtual else 2
    own = lower(table.name)
    pieces, at = [], 0
    for number, token in enumerate(tokens):
        is_qualifier = (
            not table.is_virtual
            and number > at_name
            and token.kind in ("name", "string")
            and token.key in (own, literal(own))
            and tokens[number + 1 : number + 2] != ()
            and tokens[number + 1].key == "."
        )
        if number == at_name or is_qualifier:
            pieces += [table.sql[at : token.start], quoted(name)]
            at = token.end
    return "".join(pieces) + table.sql[at:]


def rowid_name(table: SchemaTable) -> str | None:
    """Return a name of a table's rowid that no column has; None where there is none."""
    taken = lowered(it.name for it in table.columns)
    if table.is_without_rowid:
        return None
    return next((it for it in _ROWID_NAMES if it not in taken), None)


def _shared_rowid(pair: TablePair) -> str | None:
    """Return the name under which a rowid that no column shows is copied."""
    if pair.old.rowid_column is not None or pair.new.rowid_column is not None:
        return None
    if pair.old.is_without_rowid or pair.new.is_without_rowid:
        return None
    taken = lowered(it.name for it in (*pair.old.columns, *pair.new.columns))
    return next((it for it in _ROWID_NAMES if it not in taken), None)


def _key(table: SchemaTable) -> tuple[str, ...]:
    if table.is_without_rowid and table.primary_key is not None:
        return tuple(map(quoted, table.primary_key.columns))
    if table.rowid_column is not None:
        return (quoted(table.rowid_column),)
    name = rowid_name(table)
    return () if name is None else (name,)


def _expression(old: SchemaColumn, new: SchemaColumn) -> str:
    name = quoted(old.name)
    has_default = new.default is not None and meaning(new.default) != ("null",)
    if new.is_not_null and not old.is_not_null and has_default and not new.key_position:
        return f"coalesce({name}, {new.default})"
    return name


def _can_be_added(column: SchemaColumn) -> bool:
    """Return whether ADD COLUMN takes a column also where the table has rows."""
    if column.generated == "stored":
        return False
    return column.default is None or is_constant(column.default)


def _column_texts(table: SchemaTable) -> list[str]:
    tokens = tokens_of(table.sql)
    opening = next(at for at, it in enumerate(tokens) if it.kind == "sign" and it.key == "(")
    return items_between(table.sql, tokens, opening)[0]


def _sequence_steps(old: str, between: str) -> Iterator[MigrationStep]:
    purpose = f"the highest key that {old} ever had goes on"
    yield MigrationStep(
        f"DELETE FROM sqlite_sequence WHERE name = {literal(between)}",  # noqa: S608
        purpose,
        old,
    )
    yield MigrationStep(
        f"INSERT INTO sqlite_sequence (name, seq) SELECT {literal(between)}, seq "  # noqa: S608
        f"FROM sqlite_sequence WHERE name = {literal(old)}",
        purpose,
        old,
    )
