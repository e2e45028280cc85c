"""What is said of two schemas: verdicts, changes, and the migration from one to the other.

==============  ===================================================================================
verdict         every database of the old schema
==============  ===================================================================================
same            is one of the new schema as it stands; only spelling may differ
both ways       can be migrated, and the way back gives exactly what was there before
forward only    can be migrated unless its rows break a new rule, and something may not come back
incompatible    needs somebody to decide first; there is no migration
==============  ===================================================================================
"""

from dataclasses import dataclass
from typing import Final, Literal

Verdict = Literal["same", "both ways", "forward only", "incompatible"]

VERDICTS: Final[tuple[Verdict, ...]] = ("same", "both ways", "forward only", "incompatible")
"""From the best to the worst; the worst change is the verdict of all."""

ChangeKind = Literal["added", "removed", "changed", "renamed"]

ObjectKind = Literal["table", "column", "index", "view", "trigger", "constraint"]

OldCode = Literal["works", "differs", "refused", "fails"]
"""What the old code's statements do on the new schema, if they name their columns.

``works``: what they did. ``differs``: they run, and may answer or do something else. ``refused``:
reading works, and some rows that were written are refused. ``fails``: some no longer compile, or
always fail.
"""

OLD_CODE: Final[tuple[OldCode, ...]] = ("works", "differs", "refused", "fails")
"""From the best to the worst."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A question to rows of the old schema, its renames done: which of them stand in the way?"""

    table: str
    condition: str
    "SQL over one row; what raises an error stands in the way, too."
    shown: tuple[str, ...] = ()
    "Columns whose values are worth showing."
    if_found: Verdict = "incompatible"
    "The verdict where there are such rows; where there are none it is *both ways*."
    said: str = ""
    "What such rows do, as in: 3 rows have no value in b."


@dataclass(frozen=True, slots=True)
class SchemaChange:
    """One thing that is another one in the new schema."""

    kind: ChangeKind
    object_kind: ObjectKind
    name: str
    "Of a column ``table.column``; of a constraint its table, and what it says."
    verdict: Verdict
    reason: str
    "One sentence."
    table: str | None = None
    "The table in the new schema, or the old one where it is removed; None for a view."
    old_code: OldCode = "works"
    "What this change alone does to the old code's statements."
    way_back: str = ""
    "What the way back does to rows that the new code has written meanwhile; empty for nothing."
    probe: Probe | None = None
    "What decides on given data; None where no data can."
    needs_value: bool = False
    "Whether rows need something that nobody has said, so that only an empty table can change."

    @property
    def depends_on_data(self) -> bool:
        """Whether rows can make the verdict a better one, or the migration stop."""
        return self.probe is not None


@dataclass(frozen=True, slots=True)
class Copy:
    """All rows of one table into another: ``INSERT INTO target (columns) SELECT expressions``."""

    source: str
    target: str
    columns: tuple[str, ...]
    "Of the target, quoted where need be; the first of a rowid table may be its rowid."
    expressions: tuple[str, ...]
    "SQL over the source's columns, one for each column."
    key: tuple[str, ...]
    "The source's columns that tell its rows apart, quoted where need be: ranges of them cut it."


@dataclass(frozen=True, slots=True)
class MigrationStep:
    """One statement of a migration."""

    sql: str
    "Without a semicolon at its end."
    purpose: str
    "Why, in a few words."
    table: str | None = None
    copies: Copy | None = None
    "Where it copies a whole table."


@dataclass(frozen=True, slots=True)
class Migration:
    """The way from one schema to another; all steps together, or none.

    Foreign keys must not be enforced while one runs that `is_rebuilding`: dropping the old table
    would delete what references it. `PRAGMA foreign_keys` does nothing inside a transaction.
    """

    steps: tuple[MigrationStep, ...]
    is_rebuilding: bool = False
    "Whether some table is made anew: the twelve steps that SQLite's documentation of ALTER gives."

    @property
    def script(self) -> str:
        """The whole as plain SQL, in one transaction.

        Examples:
            >>> print(Migration((MigrationStep("DROP VIEW v", "it is gone"),)).script)
            BEGIN;
            -- it is gone
            DROP VIEW v;
            COMMIT;
            <BLANKLINE>
        """
        lines = ["BEGIN;", *(f"-- {it.purpose}\n{it.sql};" for it in self.steps), "COMMIT;"]
        if self.is_rebuilding:
            lines = ["PRAGMA foreign_keys = off;", *lines]
        return "\n".join(lines) + "\n"


@dataclass(frozen=True, slots=True)
class SchemaCheck:
    """What was found about two schemas."""

    verdict: Verdict
    changes: tuple[SchemaChange, ...]
    migration: Migration | None
    "From the old to the new one; None where somebody has to decide first."
    rollback: Migration | None
    """From the new to the old one: the way back. It restores everything if the verdict says so.
    None where there is no migration, or where the old schema needs values that nobody has."""
    notes: tuple[str, ...] = ()

    @property
    def old_code(self) -> OldCode:
        """What the old code's statements do on the new schema, over all changes."""
        return max((it.old_code for it in self.changes), key=OLD_CODE.index, default="works")
