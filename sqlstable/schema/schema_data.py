"""What rows say to a change that depends on them, and what is in a database, for comparison."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

import apsw

from sqlstable.errors import SchemaError
from sqlstable.schema.renaming import Renamed
from sqlstable.schema.schema_model import Schema
from sqlstable.schema.schema_objects import SchemaTable
from sqlstable.schema.schema_verdicts import Migration, Probe, SchemaChange, Verdict
from sqlstable.schema.sql_tokens import quoted
from sqlstable.schema.table_rebuild import rowid_name

ROWS_SHOWN: Final = 3
"""Rows that are named where they stand in the way."""

_OF_ONE: Final = {
    "have": "has",
    "share": "shares",
    "break": "breaks",
    "reference": "references",
    "make": "makes",
}
"""Verbs of one row."""

_CHARACTERS_SHOWN: Final = 24


@dataclass(frozen=True, slots=True)
class RowAnswer:
    """What rows say to a probe."""

    count: int
    "Rows that stand in the way."
    examples: tuple[str, ...]
    "The first of them, by their keys."
    error: str = ""
    "What SQLite says where the question itself fails."


def decided(
    connection: apsw.Connection, old: Schema, renamed: Renamed, changes: Sequence[SchemaChange]
) -> tuple[SchemaChange, ...]:
    """Return changes with the verdicts that the rows of a database give them.

    Args:
        connection: On a copy of it, which is changed and changed back.
        old: The schema that it has.
        renamed: The same under its new names.
        changes: Between that and the new schema.

    Raises:
        SchemaError: SQLite cannot read what is asked.
    """
    if not any(it.depends_on_data for it in changes):
        return tuple(changes)
    with undone(connection):
        if renamed.steps:
            for trigger in old.triggers:
                connection.execute(f"DROP TRIGGER {quoted(trigger.name)}")
            for view in old.views:
                connection.execute(f"DROP VIEW {quoted(view.name)}")
        for step in renamed.steps:
            connection.execute(step.sql)
        return tuple(_decided(connection, renamed.schema, it) for it in changes)


def ask(connection: apsw.Connection, schema: Schema, probe: Probe) -> RowAnswer:
    """Return what rows say to a probe."""
    table = schema.table(probe.table)
    keys = _keys(table)
    columns = [*keys, *(quoted(it) for it in probe.shown if quoted(it) not in keys)]
    source = f"FROM {quoted(probe.table)} WHERE {probe.condition}"
    try:
        ((count,),) = connection.execute(f"SELECT count(*) {source}").fetchall()
        if not count:
            return RowAnswer(0, ())
        shown = ", ".join(f"quote({it})" for it in columns)
        # By their keys, so that the same rows are named whatever index SQLite goes through.
        order = f" ORDER BY {', '.join(keys)}" if keys else ""
        sql = f"SELECT {shown} {source}{order} LIMIT {ROWS_SHOWN}"
        rows = connection.execute(sql).fetchall()
    except (apsw.Error, UnicodeDecodeError) as error:
        return RowAnswer(0, (), str(error))
    examples = tuple(_example(columns, row) for row in rows)
    assert isinstance(count, int)
    return RowAnswer(count, examples)


def tried(
    connection: apsw.Connection, old: Schema, migration: Migration, rollback: Migration | None
) -> tuple[str, Verdict]:
    """Try a migration on a database, and change it back.

    Returns:
        What went wrong, empty for nothing, and the verdict that it leads to.

    Args:
        connection: On a copy of it, where foreign keys are not enforced.
        old: The schema that it has.
        migration: What is tried.
        rollback: The way back, which has to restore everything; None where none is promised.
    """
    connection.execute("SAVEPOINT sqlstable_trial")
    try:
        before = None if rollback is None else digests(connection, old)
        for step in migration.steps:
            connection.execute(step.sql).fetchall()
        for step in () if rollback is None else rollback.steps:
            connection.execute(step.sql).fetchall()
        if rollback is not None and digests(connection, old) != before:
            return "the way back does not restore all rows", "forward only"
    except apsw.Error as error:
        return f"a statement fails: {error}", "incompatible"
    finally:
        connection.execute("ROLLBACK TO sqlstable_trial; RELEASE sqlstable_trial")
    return "", "both ways"


def digests(connection: apsw.Connection, schema: Schema) -> dict[str, tuple[int, int]]:
    """Return of each table how many rows it has, and a sum over them in any order.

    Values are taken with their types, and texts by their bytes. The rowid of a table counts where a
    column shows it. Of computed columns nothing is taken, nor of FTS5 tables without texts.
    """
    found = {}
    for table in schema.tables:
        columns = [it.name for it in table.columns if it.is_stored and not it.is_hidden]
        if columns and not any(it.replace(" ", "") == "content=''" for it in table.arguments):
            found[table.name] = _digest(connection, quoted(table.name), columns)
    if any(it.is_autoincrement for it in schema.tables):
        # No key yet is the same as no row there.
        source = "(SELECT name, seq FROM sqlite_sequence WHERE seq <> 0)"
        found["sqlite_sequence"] = _digest(connection, source, ["name", "seq"])
    return found


@contextmanager
def undone(connection: apsw.Connection) -> Iterator[None]:
    """Undo what is done inside."""
    connection.execute("SAVEPOINT sqlstable_look")
    try:
        yield
    except apsw.Error as error:
        raise SchemaError(f"the rows cannot be asked: {error}") from error
    finally:
        connection.execute("ROLLBACK TO sqlstable_look; RELEASE sqlstable_look")


def _decided(connection: apsw.Connection, schema: Schema, change: SchemaChange) -> SchemaChange:
    probe = change.probe
    if probe is None:
        return change
    answer = ask(connection, schema, probe)
    if answer.error:
        return replace(
            change, verdict=probe.if_found, reason=f"{change.reason}; here: {answer.error}"
        )
    if not answer.count:
        return replace(
            change, verdict="both ways", reason=f"{change.reason}; no row is concerned here"
        )
    some = ", ".join(answer.examples) + (", …" if answer.count > len(answer.examples) else "")
    return replace(
        change,
        verdict=probe.if_found,
        reason=f"{change.reason}; {_told(answer.count, probe.said)}: {some}",
    )


def _told(count: int, said: str) -> str:
    """Return what so many rows do.

    Examples:
        >>> _told(1, "have NULL in a"), _told(1000, "would be lost")
        ('1 row has NULL in a', '1,000 rows would be lost')
    """
    if count != 1:
        return f"{count:,} rows {said}"
    verb, _, rest = said.partition(" ")
    return f"1 row {_OF_ONE.get(verb, verb)} {rest}"


def _keys(table: SchemaTable | None) -> list[str]:
    if table is None:
        return []
    if table.rowid_column is not None:
        return [quoted(table.rowid_column)]
    if table.is_without_rowid and table.primary_key is not None:
        return [quoted(it) for it in table.primary_key.columns]
    name = rowid_name(table)
    return [] if name is None else [name]


def _example(columns: Sequence[str], row: Sequence[Any]) -> str:
    return " ".join(
        f"{name.strip(chr(34))} {_short(str(it))}" for name, it in zip(columns, row, strict=True)
    )


def _short(text: str) -> str:
    return text if len(text) <= _CHARACTERS_SHOWN else f"{text[:_CHARACTERS_SHOWN]}…"


def _digest(connection: apsw.Connection, table: str, columns: Sequence[str]) -> tuple[int, int]:
    # Bytes of texts, because a text may be no Unicode, and in any encoding.
    values = ", ".join(
        f"typeof({it}), iif(typeof({it}) = 'text', CAST({it} AS BLOB), {it})"
        for it in map(quoted, columns)
    )
    count = total = 0
    for row in connection.execute(f"SELECT {values} FROM {table}"):  # noqa: S608
        digest = hashlib.blake2b(repr(row).encode(), digest_size=16).digest()
        count, total = count + 1, (total + int.from_bytes(digest, "big")) % (1 << 128)
    return count, total
