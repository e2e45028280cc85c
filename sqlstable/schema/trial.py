"""Ways back, tried on a copy before they are promised: forward, then back, must change nothing.

What is compared is everything but what sqlstable keeps for itself: the definition of each table,
index, view and trigger, as SQLite understands it, and each row.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Final

from sqlstable.database.library import quoted
from sqlstable.database.trial_copy import SAMPLE_ROWS, Scratch
from sqlstable.errors import MigrationError, SqlError
from sqlstable.schema.ledger import Execute, is_reserved, make_ledger
from sqlstable.schema.migrations import NumberedMigration, run_steps
from sqlstable.schema.sql_tokens import meaning

_STATISTICS: Final = "sqlite_stat"
_ROW_SHOWN_CHARACTERS: Final = 80

Contents = tuple[dict[str, tuple[str, ...]], dict[str, Counter[str]]]
"""Definitions by kind and name, and the rows of each table."""


def contents(execute: Execute) -> Contents:
    """Return all that a way back must bring back.

    Examples:
        >>> with Scratch() as scratch:
        ...     _ = scratch.execute("CREATE TABLE t (x); INSERT INTO t VALUES (1), (1)")
        ...     contents(scratch.execute)[1]
        {'t': Counter({'(1,)': 2})}
    """
    definitions: dict[str, tuple[str, ...]] = {}
    rows: dict[str, Counter[str]] = {}
    for kind, name, sql in execute("SELECT type, name, sql FROM sqlite_schema ORDER BY name"):
        if is_reserved(name) or name.startswith(_STATISTICS):
            continue
        definitions[f"{kind} {name}"] = meaning(sql)
        if kind == "table":
            read = execute(f"SELECT * FROM {quoted(name)}")  # noqa: S608  quoted
            rows[name] = Counter(map(repr, read))
    return definitions, rows


def difference(before: Contents, after: Contents) -> str | None:
    """Return the first thing that is not as it was, in words; None where nothing differs.

    Examples:
        >>> difference(({"table t": ("x",)}, {}), ({}, {}))
        'table t is gone'
    """
    for name, definition in before[0].items():
        if name not in after[0]:
            return f"{name} is gone"
        if after[0][name] != definition:
            return f"{name} is defined otherwise"
    new = next((name for name in after[0] if name not in before[0]), None)
    if new is not None:
        return f"{new} is still there"
    for table, rows in before[1].items():
        lost, added = rows - after[1][table], after[1][table] - rows
        if lost or added:
            return _rows_differ(table, rows, lost, added)
    return None


def _rows_differ(table: str, rows: Counter[str], lost: Counter[str], added: Counter[str]) -> str:
    shown = next(iter(lost or added))[:_ROW_SHOWN_CHARACTERS]
    if not lost:
        return f"table {table} has {added.total()} more rows, such as {shown}"
    text = f"of {rows.total()} rows of table {table} {lost.total()} come back otherwise, or not: "
    other = next(iter(added), None)
    return text + (shown if other is None else f"{shown} as {other[:_ROW_SHOWN_CHARACTERS]}")


def reasons_against(
    copy: Scratch, migrations: Sequence[NumberedMigration]
) -> dict[int, str | None]:
    """Return why each of some migrations is forward only, by its number; None where it is not.

    Args:
        copy: Of the database that they are to be applied to; it is as they leave it afterwards.
        migrations: In their order.
    """
    reasons: dict[int, str | None] = {}
    for migration in migrations:
        try:
            with_ledger(copy)
            before = contents(copy.execute)
            run_steps(copy.execute, migration.up, migration.title)
        except (SqlError, MigrationError) as error:
            # It may need what only the canister has; if it cannot be applied, its caller is told.
            reasons[migration.number] = f"it could not be tried: {error}"
            continue
        reasons[migration.number] = _reason_against(copy, before, migration)
    return reasons


def with_ledger(copy: Scratch) -> None:
    """Give a copy what the original is given first."""
    make_ledger(copy.execute)


def limits_of(copy: Scratch) -> str | None:
    """Return what a trial on a copy did not see; None where it saw everything."""
    return None if copy.is_whole else f"tried on {SAMPLE_ROWS:,} rows of each table"


def _reason_against(copy: Scratch, before: Contents, migration: NumberedMigration) -> str | None:
    if migration.down is None:
        return f"there is no {migration.title}.down.sql"
    copy.execute("SAVEPOINT way_back")
    try:
        run_steps(copy.execute, migration.down, f"the way back of {migration.title}", may_drop=True)
        found = difference(before, contents(copy.execute))
    except (SqlError, MigrationError) as error:
        found = str(error)
    finally:
        copy.execute("ROLLBACK TO way_back; RELEASE way_back")
    return None if found is None else f"forward and back on a copy, {found}"
