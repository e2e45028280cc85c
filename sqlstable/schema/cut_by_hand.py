"""A numbered migration cut into messages: what its statements do to many rows is done by ranges.

Its statements run in their order. One that takes the rows of a table one by one, an ``UPDATE``, a
``DELETE`` or an ``INSERT … SELECT`` from one table, is cut by the table's rowid::

    UPDATE t SET a = b WHERE c              what the file says
    UPDATE t SET a = b WHERE (c)            what a message runs
        AND rowid >= ?1 AND rowid <= ?2

What stands between two of these runs in one message. So the code may meet the schema half-way, and
writes to the tables that the migration names are refused by triggers until it is over, with an
error that says so. Subqueries, aggregates, joins, tables without rowids and views are not cut.

What has been done is not undone when somebody changes their mind: a migration that is applied in
part is finished, or a snapshot is loaded.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, Literal

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from sqlstable.errors import MigrationError
from sqlstable.schema.cutting import make_run, note_run, schema_version
from sqlstable.schema.ledger import RESERVED_PREFIX, Execute
from sqlstable.schema.migrations import (
    NumberedMigration,
    Step,
    check_drops,
    root_pages,
    run_steps,
)
from sqlstable.schema.sql_tokens import lower, tokens_of
from sqlstable.schema.table_life import guard, kind_of_table, tables

_MOVING: Final = "moving"
_ROWID: Final = "rowid"
_IS_OURS: Final = "(SELECT value FROM _sqlstable_run WHERE key = 'open') IS NOT 1"

_NOT_CUT: Final = (
    *(exp.Subquery, exp.AggFunc, exp.Window, exp.Join, exp.Group, exp.Order, exp.Limit, exp.With),
    *(exp.Distinct, exp.Returning, exp.OnConflict, exp.SetOperation, exp.Exists),
)
"""What takes more than the row at hand, or says more than which rows."""


@dataclass(frozen=True, slots=True)
class RowRange:
    """A statement that takes the rows of one table one by one."""

    table: str
    sql: str
    "With the parameters ``?1`` and ``?2``: from which rowid on, and up to which."


def by_ranges(execute: Execute, step: Step) -> RowRange | None:
    """Return how a step is cut; None where it runs whole.

    Examples:
        >>> from sqlstable.database.trial_copy import Scratch
        >>> with Scratch() as scratch:
        ...     _ = scratch.execute("CREATE TABLE t (a, b)")
        ...     by_ranges(scratch.execute, "UPDATE t SET a = 1 WHERE b OR a;").sql
        'UPDATE t SET a = 1 WHERE (b OR a) AND rowid >= ?1 AND rowid <= ?2'
    """
    if not isinstance(step, str):
        return None
    table = _table_taken(step)
    if table is None or kind_of_table(execute, table) != "table":
        return None
    facts = execute("SELECT wr FROM pragma_table_list(?) WHERE schema = 'main'", (table,))
    columns = {
        lower(name) for (name,) in execute("SELECT name FROM pragma_table_xinfo(?)", (table,))
    }
    if facts != [(0,)] or _ROWID in columns or _sets_key(execute, step, table):
        return None
    return RowRange(table, _with_range(step))


def has_ranges(migration: NumberedMigration) -> bool:
    """Return whether anything in a migration may be cut, as far as that is known beforehand."""
    return any(isinstance(it, str) and _table_taken(it) is not None for it in migration.up)


def begin_by_hand(execute: Execute, migration: NumberedMigration, reason: str | None) -> None:
    """Begin a migration that is cut, and refuse writes to what it names."""
    make_run(execute)
    facts = {"name": migration.title, "checksum": migration.checksum, "number": migration.number}
    note_run(execute, **facts, reason=reason, step=0, last=None, rows=0, open=0)
    note_run(execute, tables=json.dumps(root_pages(execute)))
    words = {token.key for step in migration.up for token in tokens_of(_text_of(step))}
    for table in tables(execute):
        if lower(table) in words and kind_of_table(execute, table) == "table":
            text = (
                f"table {table} is being migrated by {migration.title}: it can be read, and writes "
                "are refused until that is over; send the rest of the migration"
            )
            guard(execute, table, _MOVING, text, when=_IS_OURS)
    note_run(execute, schema_version=schema_version(execute))


def go_on_by_hand(
    execute: Execute, migration: NumberedMigration, facts: dict[str, Any], rows_max: int | None
) -> tuple[Literal["change", "run", "look"], int] | None:
    """Do the next part of a migration; returns what that was and how many rows it took.

    It returns None once the migration is over.

    Raises:
        MigrationError: Somebody has changed the schema, or the migration drops a table.
    """
    if schema_version(execute) != facts["schema_version"]:
        raise MigrationError(
            f"the schema has changed, or VACUUM has run, since migration {migration.title} began "
            f"({facts['rows']:,} rows are taken); it is applied in part, so load a snapshot from "
            "before it. Nothing was changed"
        )
    at, rows = facts["step"], 0
    note_run(execute, open=1)
    cut = by_ranges(execute, migration.up[at]) if at < len(migration.up) else None
    if cut is not None:
        last, rows = _take(execute, cut, facts["last"], rows_max)
        note_run(execute, last=last, step=at if last is not None else at + 1)
    elif at < len(migration.up):
        whole = tuple(_until_cut(execute, migration.up[at:]))
        run_steps(execute, whole, f"migration {migration.title}", may_drop=True)
        note_run(execute, step=at + len(whole))
    else:
        check_drops(json.loads(facts["tables"]), execute, f"migration {migration.title}")
        end_by_hand(execute)
        return None
    note_run(execute, open=0, rows=facts["rows"] + rows)
    note_run(execute, schema_version=schema_version(execute))
    if cut is None:
        return "run", 0
    return "change" if rows else "look", rows


def end_by_hand(execute: Execute) -> None:
    """Take away what `begin_by_hand` has made."""
    pattern = f"{RESERVED_PREFIX}{_MOVING}_"
    found = execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'")
    for (name,) in found:
        if name.startswith(pattern):
            execute(f'DROP TRIGGER "{name.replace(chr(34), chr(34) * 2)}"')
    execute("DROP TABLE _sqlstable_copies; DROP TABLE _sqlstable_run")


def _take(
    execute: Execute, cut: RowRange, last: int | None, rows_max: int | None
) -> tuple[int | None, int]:
    """Run a statement for the next rows; returns the last of them, None behind the last of all."""
    table = f'"{cut.table.replace(chr(34), chr(34) * 2)}"'
    first = -(1 << 63) if last is None else last + 1
    upto = count = None
    if rows_max is not None:
        read = f"SELECT rowid FROM {table} WHERE rowid >= ? ORDER BY rowid LIMIT 1 OFFSET ?"  # noqa: S608
        found = execute(read, (first, rows_max - 1))
        upto, count = (found[0][0], rows_max) if found else (None, None)
    if upto is None:
        count = execute(f"SELECT count(*) FROM {table} WHERE rowid >= ?", (first,))[0][0]  # noqa: S608
    execute(cut.sql, (first, (1 << 63) - 1 if upto is None else upto))
    return (None if upto == (1 << 63) - 1 else upto), count or 0


def _until_cut(execute: Execute, steps: tuple[Step, ...]) -> Iterator[Step]:
    """Yield the first steps that run whole, up to one that may be cut."""
    for index, step in enumerate(steps):
        if index and isinstance(step, str) and _table_taken(step) is not None:
            return
        yield step


def _text_of(step: Step) -> str:
    return step if isinstance(step, str) else step.table


def _table_taken(sql: str) -> str | None:
    """Return the one table whose rows a statement takes one by one; None for any other."""
    words = tokens_of(sql)
    if not words or words[0].key not in ("update", "delete", "insert"):
        return None
    try:
        tree = sqlglot.parse_one(sql, dialect="sqlite")
    except SqlglotError:
        return None
    found = list(tree.find_all(exp.Table))
    if tree.find(*_NOT_CUT) is not None or any(it.args.get("db") for it in found):
        return None
    if isinstance(tree, exp.Insert):
        return _table_read(tree, found)
    is_alone = isinstance(tree, exp.Update | exp.Delete) and len(found) == 1
    return found[0].name if is_alone and tree.find(exp.Select) is None else None


def _table_read(tree: exp.Insert, found: list[exp.Table]) -> str | None:
    """Return the table that an ``INSERT … SELECT`` reads, if it is one, and not its own."""
    select = tree.expression
    if not isinstance(select, exp.Select) or len(list(tree.find_all(exp.Select))) != 1:
        return None
    source = select.args.get("from_") or select.args.get("from")
    is_other = len(found) == 2 and lower(found[0].name) != lower(found[1].name)
    if source is None or not is_other or not isinstance(source.this, exp.Table):
        return None
    return source.this.name


def _sets_key(execute: Execute, sql: str, table: str) -> bool:
    """Return whether an UPDATE may move rows to other rowids; in doubt it does."""
    words = [token.key for token in tokens_of(sql)]
    if words[0] != "update":
        return False
    key = execute("SELECT name FROM pragma_table_info(?) WHERE pk", (table,))
    names = {_ROWID, "oid", "_rowid_", *(lower(name) for (name,) in key)}
    return any(word in names and after == "=" for word, after in pairwise(words))


def _with_range(sql: str) -> str:
    """Return a statement with the condition that the rows lie in a range."""
    depth, start = 0, None
    for token in tokens_of(sql):
        depth += {"(": 1, ")": -1}.get(token.key, 0)
        if depth == 0 and token.kind == "name" and not token.is_quoted and token.key == "where":
            start = token
    bounds = "rowid >= ?1 AND rowid <= ?2"
    whole = sql.rstrip().removesuffix(";").rstrip()
    # A comment at the end would swallow what is put behind it.
    if start is None:
        return f"{whole}\nWHERE {bounds}" if "--" in whole else f"{whole} WHERE {bounds}"
    condition = whole[start.end :].strip()
    end = "\n" if "--" in condition else ""
    return f"{whole[: start.end]} ({condition}{end}) AND {bounds}"
