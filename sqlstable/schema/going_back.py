"""The last migration taken back, by the way back that the ledger keeps of it."""

from sqlstable.database.library import quoted
from sqlstable.errors import MigrationError
from sqlstable.schema.applying import transaction
from sqlstable.schema.ledger import Applied, Execute, Ledger, forget_applied, read_ledger
from sqlstable.schema.migrations import TableStep, make_migration, run_steps
from sqlstable.schema.sql_tokens import lower
from sqlstable.schema.table_life import deprecate, missing, restore, tables
from sqlstable.spelling import spelled


def go_back(execute: Execute, *, without_removed: bool = False) -> tuple[str, ...]:
    """Take back the last migration, in the open message; returns what became of tables, in words.

    Args:
        execute: Runs SQL in the message.
        without_removed: Whether the old schema is to be reached without the tables that were
            removed since.

    Raises:
        MigrationError: There is none, it is forward only, it would drop rows, or a table that was
            there before it is gone.
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
    back = make_migration(last.number, last.name, "SELECT 1", last.down)
    assert back.down is not None
    restored = {lower(it.table) for it in back.down if isinstance(it, TableStep)}
    gone = [
        it.name
        for it in ledger.removed
        if it.is_missed_by(last) and (last.kind == "schema" or lower(it.name) in restored)
    ]
    if gone and not (without_removed and last.kind == "schema"):
        raise MigrationError(_refusal(title, gone, last))
    with transaction(execute):
        words = _revive(execute, ledger, last)
        before = tables(execute)
        filled = [name for name in before if execute(f"SELECT 1 FROM {quoted(name)} LIMIT 1")]  # noqa: S608  quoted
        run_steps(execute, back.down, f"the way back of migration {title}", may_drop=True)
        lost = missing(filled, tables(execute))
        if lost and last.kind == "schema":
            raise MigrationError(
                f"taking back migration {title} would drop table {lost[0]}, which has rows by now; "
                "copy them elsewhere and delete them first. Nothing was changed"
            )
        forget_applied(execute, last.number)
    return (*words, *(f"table {it} was removed, with its rows, and stays gone" for it in gone))


def _revive(execute: Execute, ledger: Ledger, last: Applied) -> tuple[str, ...]:
    """Let tables be again what they were before a whole schema was applied; says which.

    What that upgrade, or one since, has deprecated was live. What was deprecated before, or by
    hand, and put away since, is deprecated again, so that it can be read.
    """
    if last.kind != "schema":
        return ()
    words = []
    for life in ledger.tables:
        if life.by == "upgrade" and life.deprecated_since >= last.upgrade:
            restore(execute, ledger, life.name)
            words.append(f"table {life.name} is live again")
        elif life.unused_since is not None and life.unused_since >= last.upgrade:
            restore(execute, ledger, life.name)
            deprecate(execute, read_ledger(execute), life.name, life.by)
            words.append(f"table {life.name} is deprecated again: it is read, and writes refused")
    return tuple(words)


def _refusal(title: str, gone: list[str], last: Applied) -> str:
    names = ", ".join(gone)
    what = f"tables {names} were" if len(gone) > 1 else f"table {names} was"
    call = spelled(
        "rollback_schema(without_removed=True)",
        "sqlstable schema rollback IMAGE --without-removed",
    )
    way = f", or go back without, with {call}"
    return (
        f"taking back migration {title} does not reach the schema before it: {what} removed since, "
        "with all rows, and cannot come back; load a snapshot from before"
        f"{way if last.kind == 'schema' else ''}. Nothing was changed"
    )
