"""What a schema consists of, as data that can be compared.

Names are as SQLite keeps them; two that differ in case alone name the same thing. Expressions are
texts, of which only the tokens count: see `sqlstable.schema.sql_tokens`.
"""

from dataclasses import dataclass
from typing import Literal

Affinity = Literal["INTEGER", "TEXT", "BLOB", "REAL", "NUMERIC", "ANY"]
"""What SQLite makes of a value that is stored in a column; ``ANY``, of a STRICT table, nothing."""


@dataclass(frozen=True, slots=True)
class CheckRule:
    """A CHECK constraint."""

    expression: str
    name: str | None = None


@dataclass(frozen=True, slots=True)
class ForeignKeyRule:
    """A FOREIGN KEY constraint."""

    columns: tuple[str, ...]
    parent: str
    parent_columns: tuple[str, ...]
    "Empty for the parent's primary key."
    on_update: str = "NO ACTION"
    on_delete: str = "NO ACTION"
    is_deferred: bool = False
    name: str | None = None


@dataclass(frozen=True, slots=True)
class UniqueRule:
    """A UNIQUE or PRIMARY KEY constraint."""

    columns: tuple[str, ...]
    collations: tuple[str, ...]
    "One for each column."
    descending: tuple[bool, ...]
    "One for each column."
    conflict: str = "ABORT"
    "What is done about a row that is there already: the word behind ON CONFLICT."
    name: str | None = None


@dataclass(frozen=True, slots=True)
class SchemaColumn:
    """A column of a table."""

    name: str
    type: str
    "As it was declared; empty where it was not."
    affinity: Affinity
    is_not_null: bool
    default: str | None
    "The expression behind DEFAULT; None where there is none."
    collation: str
    key_position: int
    "Its place in the primary key, from 1; 0 where it is not part of it."
    generated: Literal["virtual", "stored"] | None = None
    expression: str | None = None
    "What a generated column is computed by."
    is_hidden: bool = False
    "Whether a virtual table keeps it out of ``SELECT *``."
    not_null_conflict: str = "ABORT"

    @property
    def is_stored(self) -> bool:
        """Whether values of it are given, and not computed."""
        return self.generated is None


@dataclass(frozen=True, slots=True)
class SchemaTable:
    """A table; of a virtual one its module is known, and the rest is the module's."""

    name: str
    sql: str
    columns: tuple[SchemaColumn, ...]
    primary_key: UniqueRule | None = None
    uniques: tuple[UniqueRule, ...] = ()
    checks: tuple[CheckRule, ...] = ()
    foreign_keys: tuple[ForeignKeyRule, ...] = ()
    is_without_rowid: bool = False
    is_strict: bool = False
    is_autoincrement: bool = False
    module: str | None = None
    "Of a virtual table, in lower case; None for one that is not."
    arguments: tuple[str, ...] = ()
    "Of a virtual table."

    @property
    def is_virtual(self) -> bool:
        """Whether a module keeps its rows."""
        return self.module is not None

    @property
    def rowid_column(self) -> str | None:
        """The column that is the rowid, an INTEGER PRIMARY KEY; None where there is none."""
        key = self.primary_key
        if self.is_without_rowid or key is None or len(key.columns) != 1 or key.descending[0]:
            return None
        column = self.column(key.columns[0])
        return column.name if column is not None and column.type.upper() == "INTEGER" else None

    def column(self, name: str) -> SchemaColumn | None:
        """Return a column by its name, whatever its case; None where there is none."""
        wanted = name.lower()
        return next((it for it in self.columns if it.name.lower() == wanted), None)


@dataclass(frozen=True, slots=True)
class SchemaIndex:
    """An index that somebody created; those of constraints belong to their constraints."""

    name: str
    table: str
    sql: str
    terms: tuple[str, ...]
    "Columns and expressions, with their collation and direction where these are told."
    is_unique: bool = False
    where: str | None = None
    "The condition of a partial index."


@dataclass(frozen=True, slots=True)
class SchemaView:
    """A view."""

    name: str
    sql: str
    columns: tuple[str, ...]
    "Empty where SQLite cannot compile the view."


@dataclass(frozen=True, slots=True)
class SchemaTrigger:
    """A trigger."""

    name: str
    table: str
    "Or the view, of an INSTEAD OF trigger."
    sql: str
