"""The last migration taken back, by the way back that the ledger keeps of it."""

from sqlstable.database.library import quoted
from sqlstable.errors import MigrationError
from sqlstable.schema.applying import transaction
from sqlstable.schema.ledger import Applied, Execute, Ledger, forget_applied, read_ledger
from sqlstable.schema.migrations import make_migration, run_steps
from sqlstable.schema.table_life import missing, restore, tables


def go_back(execute: Execute) -> Applied:
    """Take back the last migration, in the open message; returns which one it was.

    Raises:
        MigrationError: There is none, it is forward only, or it would drop rows.
        SqlError: SQLite refused a statement of the way back.
    """
    ledger = read_ledger(execute)
    if not ledger.applied:
        raise MigrationError("no migration was applied; there is nothing to take back")
    last = ledger.applied[-1]
    title = f"{last.number:04}_{last.name}" if last.kind == "numbered" else f"to {last.name}"
    if last.down is None:
        raise MigrationError(
            f"migration {title} is forward only: {last.reason}. Go back to a snapshot from before "
            "it, or write a new migration. Nothing was changed"
        )
    before = tables(execute)
    filled = [name for name in before if execute(f"SELECT 1 FROM {quoted(name)} LIMIT 1")]  # noqa: S608  quoted
    with transaction(execute):
        back = make_migration(last.number, last.name, "SELECT 1", last.down)
        assert back.down is not None
        run_steps(execute, back.down, f"the way back of migration {title}", may_drop=True)
        lost = missing(filled, tables(execute))
        if lost and last.kind == "schema":
            raise MigrationError(
                f"taking back migration {title} would drop table {lost[0]}, which has rows by now; "
                "copy them elsewhere and delete them first. Nothing was changed"
            )
        _revive(execute, ledger, last)
        forget_applied(execute, last.number)
    return last


def _revive(execute: Execute, ledger: Ledger, last: Applied) -> None:
    """Let the tables live again that the upgrade of a migration deprecated."""
    for life in ledger.tables:
        is_of_it = life.by == "upgrade" and life.deprecated_since == last.upgrade
        if last.kind == "schema" and is_of_it and life.state == "deprecated":
            restore(execute, ledger, life.name)
