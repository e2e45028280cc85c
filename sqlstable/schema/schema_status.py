"""What has become of a schema, to be shown: migrations, lives of tables, and how far one is."""

from dataclasses import dataclass

from sqlstable.database.library import quoted
from sqlstable.schema.cutting import RunState, read_run
from sqlstable.schema.ledger import Execute, Ledger, TableLife, has_ledger, read_ledger
from sqlstable.schema.table_life import tables


@dataclass(frozen=True, slots=True)
class TableStatus:
    """A table, and where it stands in its life."""

    name: str
    state: str
    "``live``, ``deprecated`` or ``unused``."
    since: int | None
    "Number of the upgrade since which it stands there; None for a live one."
    rows: int | None
    "Rows of one that is not live; the others are not counted."


@dataclass(frozen=True, slots=True)
class CopyStatus:
    """How far a table of a migration is."""

    source: str
    rows: int
    "Rows that have been copied."
    rows_total: int
    "Rows of the old table."
    is_kept: bool
    "Whether writes meanwhile are kept in step; else they are refused."


@dataclass(frozen=True, slots=True)
class SchemaStatus:
    """What the ledger of a database says."""

    has_ledger: bool
    ledger: Ledger
    tables: tuple[TableStatus, ...]
    run: RunState | None
    "How far a migration is; None where none is under way."
    copies: tuple[CopyStatus, ...] = ()
    "Of that migration."


def read_status(execute: Execute) -> SchemaStatus:
    """Return what the ledger of a database says.

    Raises:
        MigrationError: It is damaged, or of a newer version.

    Examples:
        >>> from sqlstable.database.trial_copy import Scratch
        >>> with Scratch() as scratch:
        ...     _ = scratch.execute("CREATE TABLE t (x)")
        ...     read_status(scratch.execute).tables[0].state
        'live'
    """
    ledger = read_ledger(execute)
    run = read_run(execute)
    copies = () if run is None else _copies(execute)
    filled = [row[0] for row in execute("SELECT target FROM _sqlstable_copies")] if run else []
    named = [it for it in tables(execute) if it not in filled]
    live = [TableStatus(it, "live", None, None) for it in named if ledger.table(it) is None]
    gone = [_life(execute, it) for it in ledger.tables]
    return SchemaStatus(has_ledger(execute), ledger, (*live, *gone), run, copies)


def _life(execute: Execute, life: TableLife) -> TableStatus:
    since = life.deprecated_since if life.unused_since is None else life.unused_since
    return TableStatus(life.name, life.state, since, _count(execute, life.kept_as or life.name))


def _copies(execute: Execute) -> tuple[CopyStatus, ...]:
    rows = execute("SELECT number, source, rows FROM _sqlstable_copies ORDER BY number")
    logs = {name for (name,) in execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    return tuple(
        CopyStatus(source, done, _count(execute, source), f"_sqlstable_changed_{number}" in logs)
        for number, source, done in rows
    )


def _count(execute: Execute, table: str) -> int:
    count: int = execute(f"SELECT count(*) FROM {quoted(table)}")[0][0]  # noqa: S608  quoted
    return count
