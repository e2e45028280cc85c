"""The life of a table: live, deprecated, unused, removed; each step by itself, none by accident.

===========  ================================================  ==============================
state        what holds                                        how it comes about
===========  ================================================  ==============================
live         read and written                                  it was made, or restored
deprecated   read; a write is refused by a trigger that says   an upgrade whose schema does
             why                                               not name it, or by hand
unused       no statement can name it: its rows lie under a    the next upgrade whose schema
             reserved name, with their indexes                 names it neither
removed      gone                                              by hand only, from unused only
===========  ================================================  ==============================

Up to *unused* all of it can be taken back, and no row is touched: each step changes the schema
alone. Merely upgrading never drops a table.
"""

import re
from collections.abc import Iterable
from typing import Final, Literal

from sqlstable.database.library import quoted
from sqlstable.errors import MigrationError
from sqlstable.schema.ledger import (
    RESERVED_PREFIX,
    Execute,
    Ledger,
    RemovedTable,
    TableLife,
    forget_table,
    is_reserved,
    note_removed,
    note_table,
)
from sqlstable.schema.sql_tokens import literal, lower

_WRITES: Final = ("INSERT", "UPDATE", "DELETE")
_UNUSED: Final = f"{RESERVED_PREFIX}unused_"


def guard(execute: Execute, table: str, purpose: str, text: str, *, when: str = "") -> None:
    """Refuse all writes to a table, by triggers that say why; with ``when``, while that holds."""
    condition = f"WHEN {when} " if when else ""
    for write in _WRITES:
        trigger = quoted(f"{RESERVED_PREFIX}{purpose}_{write.lower()}_{table}")
        execute(
            f"CREATE TRIGGER IF NOT EXISTS {trigger} BEFORE {write} ON {quoted(table)} "
            f"{condition}BEGIN SELECT RAISE(ABORT, {literal(text)}); END"
        )


def unguard(execute: Execute, table: str, purpose: str) -> None:
    """Take away what `guard` has made."""
    for write in _WRITES:
        name = quoted(f"{RESERVED_PREFIX}{purpose}_{write.lower()}_{table}")
        execute(f"DROP TRIGGER IF EXISTS {name}")


def deprecate(
    execute: Execute, ledger: Ledger, name: str, by: Literal["upgrade", "hand"]
) -> TableLife:
    """Refuse writes to a live table from now on.

    Raises:
        MigrationError: There is no such table, or it is not live.
    """
    name = _live_name(execute, ledger, name)
    since = ledger.upgrades
    if kind_of_table(execute, name) == "table":
        guard(
            execute,
            name,
            "deprecated",
            f"table {name} is deprecated since schema upgrade {since}: it can be read, and writes "
            "are refused; restore it first with restore_table, or sqlstable schema restore",
        )
    life = TableLife(name, since, None, by, None)
    note_table(execute, life)
    return life


def restore(execute: Execute, ledger: Ledger, name: str) -> None:
    """Let a table be live again, with all its rows.

    Raises:
        MigrationError: It is live already, removed, or there is something else of its name.
    """
    life = ledger.table(name)
    if life is None:
        _check_exists(execute, name)
        raise MigrationError(f"table {name} is live; there is nothing to restore")
    if life.kept_as is not None:
        if kind_of_table(execute, life.name) is not None:
            raise MigrationError(
                f"table {life.name} cannot be restored: there is another table of that name by "
                f"now; rename that one first. The rows are in {life.kept_as}"
            )
        execute(f"ALTER TABLE {quoted(life.kept_as)} RENAME TO {quoted(life.name)}")
    unguard(execute, life.name, "deprecated")
    forget_table(execute, life.name)


def retire(execute: Execute, ledger: Ledger, life: TableLife) -> TableLife:
    """Put a deprecated table away, under a name that no statement of the code has."""
    kept_as = f"{_UNUSED}{life.name}"
    execute(f"ALTER TABLE {quoted(life.name)} RENAME TO {quoted(kept_as)}")
    unused = TableLife(life.name, life.deprecated_since, ledger.upgrades, life.by, kept_as)
    note_table(execute, unused)
    return unused


def remove(execute: Execute, ledger: Ledger, name: str) -> None:
    """Drop an unused table, with its rows.

    Raises:
        MigrationError: It is not unused.
    """
    life = ledger.table(name)
    if life is None:
        _check_exists(execute, name)
        raise MigrationError(
            f"table {name} is live, and only an unused one is removed; deprecate it first: with "
            "deprecate_table, sqlstable schema deprecate, or an upgrade whose schema leaves it out"
        )
    if life.kept_as is None or life.unused_since is None:
        raise MigrationError(
            f"table {life.name} is deprecated since schema upgrade {life.deprecated_since}, and "
            "only an unused one is removed; the next upgrade whose schema leaves it out makes it "
            "unused, or restore it"
        )
    execute(f"DROP TABLE {quoted(life.kept_as)}")
    forget_table(execute, life.name)
    last = ledger.applied[-1].number if ledger.applied else 0
    note_removed(execute, RemovedTable(life.name, life.unused_since, last))


def is_named_elsewhere(execute: Execute, name: str) -> bool:
    """Return whether a view, a trigger or another table names a table; in doubt it does.

    Examples:
        >>> from sqlstable.database.trial_copy import Scratch
        >>> with Scratch() as scratch:
        ...     _ = scratch.execute("CREATE TABLE a (x); CREATE VIEW b AS SELECT * FROM a")
        ...     [is_named_elsewhere(scratch.execute, name) for name in "ab"]
        [True, False]
    """
    rows = execute(
        "SELECT name, tbl_name, sql FROM sqlite_schema WHERE sql IS NOT NULL AND type <> 'index'"
    )
    word = re.compile(rf"(?<![\w$]){re.escape(name)}(?![\w$])", re.IGNORECASE)
    own = lower(name)
    return any(
        word.search(sql) is not None
        for object_name, table, sql in rows
        if lower(table) != own and not is_reserved(object_name)
    )


def kind_of_table(execute: Execute, name: str) -> str | None:
    """Return ``table``, ``virtual``, ``shadow`` or ``view``; None where there is no such table."""
    rows = execute("SELECT type FROM pragma_table_list(?) WHERE schema = 'main'", (name,))
    return rows[0][0] if rows else None


def tables(execute: Execute) -> tuple[str, ...]:
    """Return the names of all tables of the code: no views, no shadow tables, none of ours."""
    rows = execute(
        "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type IN ('table', 'virtual') "
        "ORDER BY name"
    )
    return tuple(name for (name,) in rows if _is_of_code(name))


def missing(names: Iterable[str], there: Iterable[str]) -> tuple[str, ...]:
    """Return the names that are not there, as SQLite compares names."""
    known = set(map(lower, there))
    return tuple(name for name in names if lower(name) not in known)


def _live_name(execute: Execute, ledger: Ledger, name: str) -> str:
    """Return the name of a live table as the database has it."""
    life = ledger.table(name)
    if life is not None:
        since = life.unused_since if life.state == "unused" else life.deprecated_since
        raise MigrationError(
            f"table {life.name} is {life.state} already, since schema upgrade {since}"
        )
    _check_exists(execute, name)
    return next(there for there in tables(execute) if lower(there) == lower(name))


def _check_exists(execute: Execute, name: str) -> None:
    kind = kind_of_table(execute, name)
    if not _is_of_code(name) or kind not in ("table", "virtual"):
        there = ", ".join(tables(execute)) or "none"
        what = f"{name} is a {kind} table" if kind == "shadow" else f"there is no table {name}"
        raise MigrationError(f"{what}; the tables are: {there}")


def _is_of_code(name: str) -> bool:
    return not is_reserved(name) and not name.casefold().startswith("sqlite_")
