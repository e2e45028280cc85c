"""The ledger: what has happened to a schema, kept as a few small tables in the database itself.

It goes wherever the database goes: through upgrades, snapshots, ``extract``. Any program that reads
SQLite can read it. Whatever sqlstable keeps in a database has a name that begins with
``_sqlstable_``; such names are reserved, and a schema check does not see them.

**Invariants**

* A row of the ledger is written in the message that does what it tells of.
* Where nothing was ever recorded there is no ledger: reading makes none.
* A ledger of a newer version is not touched.

``_sqlstable_ledger`` (key, value)
    ``version`` of the ledger; ``upgrades``: how many upgrades had a schema; ``removed NAME``: a
    table that is gone, see `RemovedTable`.
``_sqlstable_migrations`` (number, kind, name, checksum, upgrade, way, reason, down)
    What was applied, see `Applied`.
``_sqlstable_tables`` (name, deprecated_since, unused_since, by, kept_as)
    The tables that are on their way out, see `TableLife`. One that is not there is live.
``_sqlstable_run`` and ``_sqlstable_copies``
    How far a migration is that is cut into messages, while there is one; see
    `sqlstable.schema.run_rows`.
"""

from collections.abc import Callable
from dataclasses import astuple, dataclass
from typing import Any, Final, Literal

from sqlstable.errors import MigrationError, SqlError

Rows = list[tuple[Any, ...]]

Execute = Callable[..., Rows]
"""Runs SQL with parameters in an open message, or on a copy, and returns the rows."""

RESERVED_PREFIX: Final = "_sqlstable_"
"""Begins the name of whatever sqlstable keeps in a database."""

LEDGER_VERSION: Final = 1

Kind = Literal["numbered", "schema"]
Way = Literal["both ways", "forward only"]

_MAKE: Final = """
CREATE TABLE _sqlstable_ledger (key TEXT NOT NULL PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE _sqlstable_migrations (number INTEGER PRIMARY KEY, kind TEXT NOT NULL,
    name TEXT NOT NULL, checksum TEXT NOT NULL, upgrade INTEGER NOT NULL, way TEXT NOT NULL,
    reason TEXT, down TEXT);
CREATE TABLE _sqlstable_tables (name TEXT NOT NULL PRIMARY KEY,
    deprecated_since INTEGER NOT NULL, unused_since INTEGER, by TEXT NOT NULL, kept_as TEXT)
    WITHOUT ROWID;
"""

_REMOVED: Final = "removed "
"""Begins the key under which the ledger has a table that is gone."""

_READ_APPLIED: Final = """
SELECT number, kind, name, checksum, upgrade, way, reason, down
FROM _sqlstable_migrations ORDER BY number
"""

_READ_TABLES: Final = """
SELECT name, deprecated_since, unused_since, by, kept_as FROM _sqlstable_tables ORDER BY name
"""


@dataclass(frozen=True, slots=True)
class Applied:
    """A migration that has been applied."""

    number: int
    "Counted from 1, without gaps."
    kind: Kind
    "``numbered``: by hand, a file of a folder; ``schema``: worked out from a schema."
    name: str
    checksum: str
    "SHA-256 of its text, the way back included."
    upgrade: int
    "Number of the upgrade that it came with; 0 for one that came by messages."
    way: Way
    "Whether the way back was tried on a copy and led back."
    reason: str | None
    "Why it is forward only."
    down: str | None
    "SQL of the way back, where it is promised."

    @property
    def title(self) -> str:
        """What it is called wherever it is named: as its file, or by number and schema."""
        is_file = self.kind == "numbered"
        return f"{self.number:04}_{self.name}" if is_file else f"{self.number}, to {self.name}"


@dataclass(frozen=True, slots=True)
class TableLife:
    """A table that is on its way out."""

    name: str
    deprecated_since: int
    "Number of the upgrade since which writes are refused; 0 before the first one."
    unused_since: int | None
    "Number of the upgrade since which no statement can name it; None while it is deprecated."
    by: Literal["upgrade", "hand"]
    "Who deprecated it: an upgrade whose schema does not name it, or somebody by a command."
    kept_as: str | None
    "The name under which its rows are, while it is unused."

    @property
    def state(self) -> Literal["deprecated", "unused"]:
        """``deprecated`` or ``unused``."""
        return "deprecated" if self.unused_since is None else "unused"


@dataclass(frozen=True, slots=True)
class RemovedTable:
    """A table that was dropped by hand, with its rows: no way back brings it back."""

    name: str
    unused_since: int
    "Number of the upgrade since which no statement could name it."
    applied: int
    "Number of the last migration that was applied when it was removed; 0 before the first."

    def is_missed_by(self, applied: Applied) -> bool:
        """Return whether the table was there before a migration, so that its way back lacks it."""
        return applied.number <= self.applied and applied.upgrade <= self.unused_since


@dataclass(frozen=True, slots=True)
class Ledger:
    """What the ledger of a database says."""

    version: int = LEDGER_VERSION
    upgrades: int = 0
    "Upgrades that had a schema."
    applied: tuple[Applied, ...] = ()
    "In the order of their numbers."
    tables: tuple[TableLife, ...] = ()
    "By name."
    removed: tuple[RemovedTable, ...] = ()
    "By name."

    def table(self, name: str) -> TableLife | None:
        """Return what is known of a table; None for one that is live, or not there."""
        return next((it for it in self.tables if it.name.casefold() == name.casefold()), None)


def is_reserved(name: str) -> bool:
    """Return whether a name is one of those that sqlstable keeps for itself.

    Examples:
        >>> is_reserved("_sqlstable_tables"), is_reserved("account")
        (True, False)
    """
    return name[: len(RESERVED_PREFIX)].casefold() == RESERVED_PREFIX


def read_ledger(execute: Execute) -> Ledger:
    """Return what the ledger says; an empty one where there is none.

    Raises:
        MigrationError: It is of a newer version, or damaged.

    Examples:
        >>> from sqlstable.database.trial_copy import Scratch
        >>> with Scratch() as scratch:
        ...     read_ledger(scratch.execute).upgrades
        0
    """
    if not has_ledger(execute):
        return Ledger()
    try:
        facts: dict[str, Any] = dict(execute("SELECT key, value FROM _sqlstable_ledger"))
        version = facts.get("version")
        if isinstance(version, int) and version > LEDGER_VERSION:
            raise MigrationError(
                f"the ledger in the database is of version {version}, and this sqlstable knows "
                f"versions up to {LEDGER_VERSION}; use a newer sqlstable. Nothing was changed"
            )
        applied = execute(_READ_APPLIED)
        tables = execute(_READ_TABLES)
        if not isinstance(version, int) or version < 1:
            raise MigrationError(f"{_damaged()}: its version is {version!r}")
        return Ledger(
            version,
            facts["upgrades"],
            tuple(Applied(*row) for row in applied),
            tuple(TableLife(*row) for row in tables),
            tuple(_removed(key, facts[key]) for key in sorted(facts) if key.startswith(_REMOVED)),
        )
    except (SqlError, KeyError, TypeError, ValueError) as error:
        raise MigrationError(f"{_damaged()}: {error}") from error


def has_ledger(execute: Execute) -> bool:
    """Return whether there is a ledger."""
    return bool(execute("SELECT 1 FROM sqlite_schema WHERE name = '_sqlstable_ledger'"))


def make_ledger(execute: Execute) -> None:
    """Make the ledger's tables where they are not there."""
    if not has_ledger(execute):
        execute(_MAKE)
        facts = (("version", LEDGER_VERSION), ("upgrades", 0))
        for fact in facts:
            execute("INSERT INTO _sqlstable_ledger VALUES (?, ?)", fact)


def count_upgrade(execute: Execute, number: int) -> None:
    """Note that an upgrade had a schema; it was the one of that number."""
    execute("UPDATE _sqlstable_ledger SET value = ? WHERE key = 'upgrades'", (number,))


def note_applied(execute: Execute, applied: Applied) -> None:
    """Note a migration that was applied."""
    execute("INSERT INTO _sqlstable_migrations VALUES (?, ?, ?, ?, ?, ?, ?, ?)", astuple(applied))


def forget_applied(execute: Execute, number: int) -> None:
    """Take back the note on a migration, which was taken back itself."""
    execute("DELETE FROM _sqlstable_migrations WHERE number = ?", (number,))


def note_table(execute: Execute, table: TableLife) -> None:
    """Note where a table stands that is not live."""
    execute("INSERT OR REPLACE INTO _sqlstable_tables VALUES (?, ?, ?, ?, ?)", astuple(table))


def forget_table(execute: Execute, name: str) -> None:
    """Note that a table is live, or gone."""
    execute("DELETE FROM _sqlstable_tables WHERE name = ?", (name,))


def note_removed(execute: Execute, removed: RemovedTable) -> None:
    """Note that a table is gone, with its rows."""
    value = f"{removed.unused_since} {removed.applied}"
    fact = (f"{_REMOVED}{removed.name}", value)
    execute("INSERT OR REPLACE INTO _sqlstable_ledger VALUES (?, ?)", fact)


def _removed(key: str, value: str) -> RemovedTable:
    unused_since, applied = map(int, value.split())
    return RemovedTable(key.removeprefix(_REMOVED), unused_since, applied)


def _damaged() -> str:
    return (
        "the ledger in the database, its tables _sqlstable_ledger, _sqlstable_migrations and "
        "_sqlstable_tables, is damaged, or somebody else's; go back to a snapshot from before. "
        "Nothing was changed"
    )
