"""A schema applied in one message: checked, migrated, and noted in the ledger, or refused whole.

What is to be reached is a `SchemaTarget`: a whole schema, from which the migration is worked out
(`sqlstable.schema.schema_check`), or a folder of numbered migrations. Everything here runs SQL in
a message that somebody else has begun, and relies on it for taking back what was done.
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Final

from sqlstable.database.trial_copy import Scratch
from sqlstable.errors import MigrationError, SqlError
from sqlstable.schema.ledger import (
    Applied,
    Execute,
    Ledger,
    count_upgrade,
    is_reserved,
    make_ledger,
    note_applied,
    read_ledger,
)
from sqlstable.schema.migrations import (
    NumberedMigration,
    applied_as,
    check_kind,
    checksum_of,
    pending,
    read_migrations,
    run_steps,
)
from sqlstable.schema.schema_check import check_schemas
from sqlstable.schema.schema_model import Schema
from sqlstable.schema.schema_verdicts import Migration, SchemaCheck, Verdict
from sqlstable.schema.sql_tokens import lower
from sqlstable.schema.table_life import (
    deprecate,
    is_named_elsewhere,
    kind_of_table,
    missing,
    restore,
    retire,
    tables,
)
from sqlstable.schema.trial import (
    contents,
    difference,
    limits_of,
    reasons_against,
)

_SQL: Final = re.compile(r"\s*(--|/\*|create\b|alter\b)", re.IGNORECASE)

_ORDER: Final = ("table", "index", "view", "trigger")
"""In which objects can be made whatever order they have in the database."""

_CHANGES_SHOWN: Final = 5

MakeCopy = Callable[[], Scratch]
"""Makes a copy of the database as it is now, to try ways back on."""


@dataclass(frozen=True, slots=True)
class SchemaTarget:
    """What a database is to become."""

    name: str
    "What errors and the ledger call it."
    text: str | None
    "A whole schema as SQL; None for numbered migrations."
    migrations: tuple[NumberedMigration, ...] = ()
    renames: tuple[tuple[str, str], ...] = ()
    "Old and new names of tables and of ``table.column``, as somebody has decided."
    dropped: tuple[str, ...] = ()
    "Each ``table.column`` that is dropped, though its like is new."

    @property
    def checksum(self) -> str:
        """SHA-256 of all of it."""
        decisions = ("\n".join(it) for it in (*self.renames, self.dropped))
        return checksum_of(self.text, *(it.checksum for it in self.migrations), *decisions)


@dataclass(frozen=True, slots=True)
class SchemaOutcome:
    """What has become of a schema."""

    upgrade: int
    "Number of the upgrade, counted over those that had a schema."
    verdict: Verdict
    "How far there is a way back."
    applied: tuple[Applied, ...] = ()
    deprecated: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    restored: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    named: tuple[str, ...] = ()
    "Tables that a whole schema names."

    @property
    def sentences(self) -> tuple[str, ...]:
        """All of it in words."""
        upgrade = f"schema upgrade {self.upgrade}"
        return (
            *(_applied_words(it) for it in self.applied),
            *(f"table {it} is live again" for it in self.restored),
            *(
                f"table {it} is deprecated since {upgrade}: writes refused"
                for it in self.deprecated
            ),
            *(f"table {it} is unused since {upgrade}: no statement finds it" for it in self.unused),
            *self.notes,
        )


def read_target(
    schema: Path | str,
    *,
    renames: Mapping[str, str] | None = None,
    dropped: Collection[str] = (),
) -> SchemaTarget:
    """Return what ``schema`` stands for: SQL, the path of a SQL file, or a folder of migrations.

    Args:
        schema: One of these.
        renames: What somebody has decided: as for `check_schemas`.
        dropped: Likewise.

    Raises:
        MigrationError: There is no such file, it holds no migrations, or migrations by hand are
            to heed decisions.

    Examples:
        >>> read_target("CREATE TABLE t (x)").name
        'the schema'
    """
    pairs, columns = tuple(sorted((renames or {}).items())), tuple(dropped)
    if isinstance(schema, str) and (_SQL.match(schema) or ";" in schema or "\n" in schema):
        return SchemaTarget("the schema", schema, renames=pairs, dropped=columns)
    if not schema or not isinstance(schema, (str, PathLike)):
        raise MigrationError(
            f"the schema is {schema!r:.100}; give SQL that begins with CREATE, or the path of a "
            "SQL file or of a folder of migrations"
        )
    path = Path(schema)
    if path.is_dir():
        if renames or dropped:
            raise MigrationError(
                f"{path} is a folder of migrations, which rename and drop by themselves; leave "
                "renames and drops out"
            )
        return SchemaTarget(str(path), None, read_migrations(path))
    try:
        text = path.read_text(encoding="utf-8-sig")
        return SchemaTarget(str(path), text, renames=pairs, dropped=columns)
    except UnicodeDecodeError as error:
        raise MigrationError(f"{path} is not UTF-8: byte {error.start}") from error
    except (OSError, ValueError) as error:
        raise MigrationError(
            f"{str(path)[:200]!r} is no file and no folder of migrations that can be read; give "
            "the path of one, or SQL that begins with CREATE"
        ) from error


def apply_target(execute: Execute, target: SchemaTarget, copy: MakeCopy) -> SchemaOutcome:
    """Take a database to a target, in the open message.

    Args:
        execute: Runs SQL in the message; it is in no SQL transaction.
        target: What the database is to become.
        copy: Makes a copy of it as it is now.

    Raises:
        MigrationError: It is refused.
        SqlError: SQLite refused a statement of a migration.
    """
    ledger = read_ledger(execute)
    if target.text is None:
        todo = pending(target.migrations, ledger)
    else:
        check_kind(ledger, "schema")
        todo = ()
    make_ledger(execute)
    ledger = replace(ledger, upgrades=ledger.upgrades + 1)
    count_upgrade(execute, ledger.upgrades)
    if target.text is None:
        outcome = apply_numbered(execute, ledger, todo, copy)
    else:
        outcome = _apply_schema(execute, ledger, target, copy)
    return replace(outcome, unused=_retire(execute, outcome.named))


# -- numbered migrations --------------------------------------------------------------------------


def apply_numbered(
    execute: Execute, ledger: Ledger, todo: Sequence[NumberedMigration], copy: MakeCopy
) -> SchemaOutcome:
    """Apply numbered migrations, the ways back of which are tried first."""
    reasons, limits = reasons_of(todo, copy)
    applied = []
    with transaction(execute):
        for migration in todo:
            run_steps(execute, migration.up, f"migration {migration.title}")
            applied.append(applied_as(migration, ledger.upgrades, reasons[migration.number]))
            note_applied(execute, applied[-1])
    before = {it.name for it in ledger.tables}
    new = tuple(it.name for it in read_ledger(execute).tables if it.name not in before)
    ways = {it.way for it in applied}
    verdict: Verdict = "forward only" if "forward only" in ways else "both ways"
    return SchemaOutcome(
        ledger.upgrades,
        verdict if applied else "same",
        tuple(applied),
        new,
        notes=() if limits is None else (f"ways back were {limits}",),
    )


def reasons_of(
    todo: Sequence[NumberedMigration], copy: MakeCopy
) -> tuple[dict[int, str | None], str | None]:
    """Return why migrations are forward only, by number, and what the trial did not see."""
    reasons: dict[int, str | None] = {}
    limits = None
    if any(it.down is not None for it in todo):
        try:
            with copy() as scratch:
                limits = limits_of(scratch)
                reasons = reasons_against(scratch, todo)
        except SqlError as error:
            reasons = {it.number: f"it could not be tried: {error}" for it in todo}
    for it in todo:
        if it.down is None:
            reasons[it.number] = f"there is no {it.title}.down.sql"
    return reasons, limits


# -- whole schemas --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Intent:
    """What is to be done to reach a whole schema."""

    old: Schema
    new: Schema
    check: SchemaCheck
    restored: tuple[str, ...]
    "Tables that the schema names again."
    deprecated: tuple[str, ...]
    "Live tables that it does not name."

    @property
    def migration(self) -> Migration:
        """The way there."""
        assert self.check.migration is not None
        return self.check.migration


def intent_of(
    execute: Execute,
    ledger: Ledger,
    target: SchemaTarget,
    copy: MakeCopy,
    leave_out: Collection[str] = (),
) -> Intent:
    """Return what is to be done to reach a whole schema; tables it names again are live by now.

    Args:
        execute: Runs SQL in the message.
        ledger: As it is.
        target: With the schema.
        copy: Makes a copy of the database, whose rows are asked where they decide.
        leave_out: Tables that are being filled.

    Raises:
        MigrationError: Somebody has to decide first.
    """
    assert target.text is not None
    new = Schema.from_sql(target.text, name=target.name)
    _check_names(new, target.name)
    named = {lower(it.name) for it in new.tables}
    back = tuple(it.name for it in ledger.tables if lower(it.name) in named and it.by == "upgrade")
    for name in back:
        restore(execute, ledger, name)
    out = [it.name for it in ledger.tables if lower(it.name) not in named] + [*leave_out]
    renamed = [old for old, _ in target.renames]
    gone = missing((it for it in tables(execute) if it not in (*out, *renamed)), named)
    old = current_schema(execute, leave_out=(*gone, *out))
    check = _checked(old, new, target, copy)
    if check.migration is None:
        raise MigrationError(_undecided(target, check))
    return Intent(old, new, check, back, gone)


def _checked(old: Schema, new: Schema, target: SchemaTarget, copy: MakeCopy) -> SchemaCheck:
    """Compare two schemas; where that depends on rows, those of a whole copy decide."""
    renames = dict(target.renames)
    # A table is deprecated, whatever is said of it.
    dropped = [it for it in target.dropped if "." in it]
    check = check_schemas(old, new, renames=renames, dropped=dropped)
    if not any(it.depends_on_data for it in check.changes):
        return check
    try:
        with copy() as scratch:
            if not scratch.is_whole:
                return check
            return check_schemas(
                old, new, renames=renames, dropped=dropped, data=scratch.connection
            )
    except SqlError:
        # The database needs what is not here; then the worst of its rows decide.
        return check


def current_schema(execute: Execute, leave_out: Collection[str] = ()) -> Schema:
    """Return the schema that the database has, without what sqlstable keeps in it."""
    return Schema.from_sql(
        ";\n".join(sql for _, _, sql in current_objects(execute, leave_out)), name="the database"
    )


def current_objects(
    execute: Execute, leave_out: Collection[str] = ()
) -> tuple[tuple[str, str, str], ...]:
    """Return kind, name and SQL of what the code has in the database."""
    out = set(map(lower, leave_out))
    rows = execute(
        "SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY rowid"
    )
    found = [
        (kind, name, sql)
        for kind, name, table, sql in rows
        if not is_reserved(name)
        and not is_reserved(table)
        and lower(table) not in out
        and not lower(name).startswith("sqlite_")
        and not (kind == "table" and kind_of_table(execute, name) == "shadow")
    ]
    return tuple(sorted(found, key=lambda it: _ORDER.index(it[0])))


def finish_schema(
    execute: Execute, ledger: Ledger, target: SchemaTarget, intent: Intent, reason: str | None
) -> SchemaOutcome:
    """Move tables along their life and note a migration that has just run."""
    deprecated = _deprecate(execute, ledger, intent.deprecated)
    applied: tuple[Applied, ...] = ()
    check = intent.check
    if check.verdict != "same":
        assert target.text is not None
        back = check.rollback
        is_promised = reason is None and back is not None
        applied = (
            Applied(
                len(ledger.applied) + 1,
                "schema",
                target.name,
                target.checksum,
                ledger.upgrades,
                "both ways" if is_promised else "forward only",
                reason,
                _plain(back) if is_promised and back is not None else None,
            ),
        )
        note_applied(execute, applied[0])
    verdict = check.verdict if not applied else applied[0].way
    return SchemaOutcome(
        ledger.upgrades,
        verdict,
        applied,
        deprecated,
        restored=intent.restored,
        notes=check.notes,
        named=tuple(it.name for it in intent.new.tables),
    )


def reason_against(check: SchemaCheck, copy: MakeCopy) -> str | None:
    """Return why a schema's migration is forward only; None where its way back has led back."""
    if check.verdict == "same":
        return None
    if check.verdict != "both ways" or check.rollback is None or check.migration is None:
        worst = next((it for it in check.changes if it.verdict == check.verdict), None)
        return "there is no way back" if worst is None else f"{worst.name}: {worst.reason}"
    try:
        with copy() as scratch:
            before = contents(scratch.execute)
            run_migration(scratch.execute, check.migration)
            run_migration(scratch.execute, check.rollback)
            found = difference(before, contents(scratch.execute))
    except SqlError as error:
        return f"it could not be tried: {error}"
    return None if found is None else f"forward and back on a copy, {found}"


def run_migration(execute: Execute, migration: Migration) -> None:
    """Run the steps of a migration, whole."""
    for step in migration.steps:
        execute(step.sql)


def _apply_schema(
    execute: Execute, ledger: Ledger, target: SchemaTarget, copy: MakeCopy
) -> SchemaOutcome:
    intent = intent_of(execute, ledger, target, copy)
    reason = reason_against(intent.check, copy)
    with transaction(execute):
        run_migration(execute, intent.migration)
        return finish_schema(execute, ledger, target, intent, reason)


def _check_names(new: Schema, name: str) -> None:
    names = [it.name for it in new.tables]
    names += [it.name for it in new.indexes]
    names += [it.name for it in new.views]
    names += [it.name for it in new.triggers]
    ours = next(filter(is_reserved, names), None)
    if ours is not None:
        raise MigrationError(
            f"{name} has {ours}, a name that sqlstable keeps for itself; choose another one, or "
            "leave it out of the schema if it came from a database. Nothing was changed"
        )


def _undecided(target: SchemaTarget, check: SchemaCheck) -> str:
    open_ones = [it for it in check.changes if it.verdict == "incompatible"]
    shown = "; ".join(f"{it.name}: {it.reason}" for it in open_ones[:_CHANGES_SHOWN])
    more = len(open_ones) - _CHANGES_SHOWN
    return (
        f"the database cannot become {target.name} unless somebody decides first: {shown}"
        + (f"; and {more} more" if more > 0 else "")
        + ". sqlstable schema check says all of it. Nothing was changed"
    )


# -- what both have in common ---------------------------------------------------------------------


@contextmanager
def transaction(execute: Execute, *, checks: bool = True) -> Iterator[None]:
    """Run a block in one SQL transaction that enforces no foreign keys until its end.

    An exception leaves the transaction to the message, which goes with it.

    Args:
        execute: Runs SQL in the message.
        checks: Whether foreign keys are checked at the end, where they are enforced.

    Raises:
        MigrationError: A foreign key is broken behind the block.
    """
    is_enforcing = execute("PRAGMA foreign_keys") == [(1,)]
    if is_enforcing:
        execute("PRAGMA foreign_keys = off")
    execute("BEGIN")
    yield
    if is_enforcing and checks:
        broken = execute("PRAGMA foreign_key_check")
        if broken:
            table, rowid, parent, _ = broken[0]
            raise MigrationError(
                f"{len(broken)} rows reference what is not there after the migration, the first in "
                f"table {table} (rowid {rowid}) table {parent}. Nothing was changed"
            )
    execute("COMMIT")
    if is_enforcing:
        execute("PRAGMA foreign_keys = on")


def _deprecate(execute: Execute, ledger: Ledger, names: Collection[str]) -> tuple[str, ...]:
    return tuple(deprecate(execute, ledger, name, "upgrade").name for name in names)


def _retire(execute: Execute, named: Collection[str]) -> tuple[str, ...]:
    """Put away the deprecated tables that nothing names, and nothing did one upgrade before."""
    known = set(map(lower, named))
    ledger = read_ledger(execute)
    found = [
        it
        for it in ledger.tables
        if it.state == "deprecated"
        and it.deprecated_since < ledger.upgrades
        and lower(it.name) not in known
        and not is_named_elsewhere(execute, it.name)
    ]
    return tuple(retire(execute, ledger, it).name for it in found)


def _plain(migration: Migration) -> str:
    return "".join(f"{it.sql};\n" for it in migration.steps)


def _applied_words(it: Applied) -> str:
    return f"migration {it.title}: {it.way}" + ("" if it.reason is None else f" ({it.reason})")
