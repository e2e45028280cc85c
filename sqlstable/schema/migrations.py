"""Numbered migrations: a folder of SQL files, each applied once, in order, and never edited again.

``0001_name.sql`` leads forward, ``0001_name.down.sql`` beside it back, if anybody wrote one.
Numbers begin at 1 and have no gaps. What a file may not hold is whatever would reach beyond the
message that applies it: transactions, other files, settings of the connection, and the names that
sqlstable keeps for itself.

Beside SQL a migration may move a table along its life, by a directive on a line of its own::

    --@ deprecate old_table
    --@ restore old_table
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final, Literal

from sqlstable.database.trial_copy import cut_statements
from sqlstable.errors import MigrationError
from sqlstable.schema.ledger import RESERVED_PREFIX, Applied, Execute, Ledger, read_ledger
from sqlstable.schema.table_life import deprecate, missing, restore, tables

_FILE: Final = re.compile(r"(?P<number>\d+)_(?P<name>[\w.-]*?)(?P<down>\.down)?\.sql", re.ASCII)

_DIRECTIVE: Final = re.compile(r"^[ \t]*--@[ \t]*(.*?)[ \t]*$", re.MULTILINE)
_TABLE_STEP: Final = re.compile(r"(deprecate|restore)[ \t]+(.+)")

_FIRST_WORDS: Final = re.compile(r"\s*(\w+)(?:\s+(\w+))?")

_REFUSED: Final = {
    "begin": "begins a transaction: each migration runs in one of its own",
    "commit": "ends the transaction that the migration runs in",
    "end": "ends the transaction that the migration runs in",
    "rollback": "ends the transaction that the migration runs in",
    "savepoint": "begins a transaction: each migration runs in one of its own",
    "release": "ends a transaction: each migration runs in one of its own",
    "attach": "reaches for another database, which no upgrade has",
    "detach": "reaches for another database, which no upgrade has",
    "vacuum": "rewrites the whole database, and cannot run in a transaction; send it by itself",
    "pragma": "sets something of the connection, which ends with the heap, or cannot be taken back",
}
"""First words of statements that reach beyond the message, and why they may not."""

_PRAGMAS: Final = ("user_version", "application_id", "defer_foreign_keys", "legacy_alter_table")
"""They lie in the database and are taken back with it, or end with the transaction."""


@dataclass(frozen=True, slots=True)
class TableStep:
    """A directive of a migration."""

    verb: Literal["deprecate", "restore"]
    table: str


Step = str | TableStep
"""A statement, or a directive."""


@dataclass(frozen=True, slots=True)
class NumberedMigration:
    """One migration of a folder."""

    number: int
    "Counted from 1."
    name: str
    up: tuple[Step, ...]
    down: tuple[Step, ...] | None
    "The way back, where there is one."
    checksum: str
    "SHA-256 of both texts."
    down_text: str | None = None

    @property
    def title(self) -> str:
        """Number and name, as its file has them."""
        return f"{self.number:04}_{self.name}"


def read_migrations(folder: Path) -> tuple[NumberedMigration, ...]:
    """Return the migrations of a folder, in order.

    Raises:
        MigrationError: A number is missing or there twice, a name is none, or a file holds what no
            migration may.
    """
    ups: dict[int, tuple[str, Path]] = {}
    downs: dict[int, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix != ".sql" or path.name.startswith("."):
            continue
        found = _FILE.fullmatch(path.name)
        if found is None or int(found["number"]) == 0:
            raise MigrationError(
                f"{path} is no numbered migration; name it like 0001_name.sql, and the way back "
                "0001_name.down.sql, counted from 1"
            )
        number = int(found["number"])
        other = downs.get(number) if found["down"] else ups.get(number, ("", None))[1]
        if other is not None:
            raise MigrationError(
                f"{other.name} and {path.name} in {folder} have the same number; give one of them "
                "the next free one"
            )
        if found["down"]:
            downs[number] = path
        else:
            ups[number] = (found["name"], path)
    _check_numbers(folder, ups, downs)
    return tuple(
        _read(number, name, path, downs.get(number)) for number, (name, path) in sorted(ups.items())
    )


def make_migration(
    number: int, name: str, up_text: str, down_text: str | None = None
) -> NumberedMigration:
    """Return a migration of texts.

    Raises:
        MigrationError: A text holds what no migration may.

    Examples:
        >>> migration = make_migration(1, "first", "CREATE TABLE t (x);", "DROP TABLE t")
        >>> migration.title, migration.up, migration.checksum[:12]
        ('0001_first', ('CREATE TABLE t (x);',), '2e43fcc17928')
    """
    title = f"migration {number:04}_{name}"
    return NumberedMigration(
        number,
        name,
        _steps(up_text, title),
        None if down_text is None else _steps(down_text, f"the way back of {title}"),
        checksum_of(up_text, down_text),
        down_text,
    )


def checksum_of(*texts: str | None) -> str:
    """Return the SHA-256 of texts, however their lines end."""
    digest = sha256()
    for text in texts:
        data = b"" if text is None else "\n".join(text.splitlines()).encode()
        digest.update(f"{text is None:d} {len(data)} ".encode() + data)
    return digest.hexdigest()


def pending(
    migrations: tuple[NumberedMigration, ...], ledger: Ledger
) -> tuple[NumberedMigration, ...]:
    """Return the migrations that are still to be applied; those that were are as they were.

    Raises:
        MigrationError: One was edited, or is not in the folder any more; or the database follows
            schemas.
    """
    check_kind(ledger, "numbered")
    by_number = {it.number: it for it in migrations}
    for applied in ledger.applied:
        known = by_number.get(applied.number)
        title = f"{applied.number:04}_{applied.name}"
        if known is None:
            raise MigrationError(
                f"migration {title} was applied, and is not in the folder; put it back"
                f"{_other_way(applied, ledger)}. Nothing was changed"
            )
        if known.checksum != applied.checksum:
            raise MigrationError(
                f"migration {known.title} was edited after it was applied (as {title}, SHA-256 "
                f"{applied.checksum[:12]}…, now {known.checksum[:12]}…); put its text back, and "
                "write what is to change as a new one. Nothing was changed"
            )
    return tuple(it for it in migrations if it.number > len(ledger.applied))


def _other_way(applied: Applied, ledger: Ledger) -> str:
    """Return what helps where the file of a migration is gone for good; empty if nothing does."""
    later = [it for it in ledger.applied if it.number >= applied.number]
    if any(it.down is None for it in later):
        return ""
    times = "" if len(later) == 1 else f", {len(later)} times"
    return f", or take it back with sqlstable schema rollback{times}"


def check_kind(ledger: Ledger, kind: str) -> None:
    """Refuse to take a database forward in another way than before.

    Raises:
        MigrationError: It has been.
    """
    other = next((it for it in ledger.applied if it.kind != kind), None)
    if other is not None:
        ways = {"numbered": "numbered migrations", "schema": "whole schemas"}
        raise MigrationError(
            f"this database follows {ways[other.kind]} (the last is {ledger.applied[-1].name}), "
            f"and is now given {ways[kind]}; stay with the first. Nothing was changed"
        )


def run_steps(
    execute: Execute, steps: tuple[Step, ...], title: str, *, may_drop: bool = False
) -> None:
    """Run the steps of one migration.

    Args:
        execute: Runs their SQL.
        steps: Its steps, or those of its way back.
        title: What errors call it.
        may_drop: Whether it may drop tables, as a way back drops what the way there has made.

    Raises:
        MigrationError: It drops a table.
        SqlError: SQLite refused a statement.
    """
    before = {} if may_drop else root_pages(execute)
    for step in steps:
        if isinstance(step, str):
            execute(step)
        elif step.verb == "deprecate":
            deprecate(execute, read_ledger(execute), step.table, "hand")
        else:
            restore(execute, read_ledger(execute), step.table)
    check_drops(before, execute, title)


def check_drops(before: dict[str, int], execute: Execute, title: str) -> None:
    """Refuse a migration that has dropped a table.

    Args:
        before: What `root_pages` said before it.
        execute: Runs SQL in the message.
        title: What errors call it.

    Raises:
        MigrationError: It has.
    """
    after = root_pages(execute)
    kept = set(after.values())
    # A table that was renamed is where it was.
    gone = [name for name in missing(before, after) if before[name] not in kept]
    if gone:
        raise MigrationError(
            f"{title} drops table {gone[0]}, and no upgrade drops one: write --@ deprecate "
            f"{gone[0]} in its place, and remove it when nothing names it any more. Nothing was "
            "changed"
        )


def root_pages(execute: Execute) -> dict[str, int]:
    """Return where the tables begin that no migration may drop; in order of their names."""
    pages: dict[str, int] = dict(
        execute("SELECT name, rootpage FROM sqlite_schema WHERE type = 'table'")
    )
    # What has no page of its own, as a virtual table, is told by its name.
    return {name: pages[name] or -1 - index for index, name in enumerate(tables(execute))}


def _check_numbers(folder: Path, ups: dict[int, tuple[str, Path]], downs: dict[int, Path]) -> None:
    if not ups:
        raise MigrationError(
            f"{folder} holds no migrations; the first is named like {folder / '0001_name.sql'}"
        )
    for expected, number in enumerate(sorted(ups), start=1):
        if number != expected:
            raise MigrationError(
                f"{folder} holds no migration {expected:04}, and goes on with "
                f"{ups[number][1].name}; number them without gaps, from 0001"
            )
    for number, path in downs.items():
        if number not in ups:
            raise MigrationError(f"{path} leads back from a migration that is not there")


def _read(number: int, name: str, path: Path, down: Path | None) -> NumberedMigration:
    return make_migration(number, name, _text(path), None if down is None else _text(down))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise MigrationError(f"{path} is not UTF-8: byte {error.start}") from error


def _steps(text: str, title: str) -> tuple[Step, ...]:
    return tuple(_all_steps(text, title))


def _all_steps(text: str, title: str) -> Iterator[Step]:
    start = 0
    for directive in _DIRECTIVE.finditer(text):
        yield from _statements(text[start : directive.start()], title)
        found = _TABLE_STEP.fullmatch(directive[1])
        if found is None:
            raise MigrationError(
                f"{title} has the directive --@ {directive[1]}, and knows deprecate TABLE and "
                "restore TABLE only"
            )
        yield TableStep("deprecate" if found[1] == "deprecate" else "restore", found[2])
        start = directive.end()
    yield from _statements(text[start:], title)


def _statements(text: str, title: str) -> Iterator[str]:
    for statement in cut_statements(text):
        _check(statement, title)
        yield statement


def _check(statement: str, title: str) -> None:
    found = _FIRST_WORDS.match(statement)
    first, second = ("", "") if found is None else (found[1].lower(), (found[2] or "").lower())
    reason = _REFUSED.get(first)
    if first == "pragma" and second in _PRAGMAS:
        reason = None
    if RESERVED_PREFIX in statement.lower():
        reason = f"names {RESERVED_PREFIX}…, which sqlstable keeps for itself"
    if reason is not None:
        shown = " ".join(statement.split())[:60]
        raise MigrationError(f"{title} cannot hold {shown!r}: it {reason}. Nothing was changed")


def applied_as(migration: NumberedMigration, upgrade: int, reason: str | None) -> Applied:
    """Return what the ledger is to say of a migration.

    Args:
        migration: It.
        upgrade: The upgrade that it came with.
        reason: Why it is forward only; None where its way back has led back.
    """
    return Applied(
        migration.number,
        "numbered",
        migration.name,
        migration.checksum,
        upgrade,
        "both ways" if reason is None else "forward only",
        reason,
        migration.down_text if reason is None else None,
    )
