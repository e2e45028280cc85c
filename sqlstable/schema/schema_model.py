"""A whole schema: all that is in a database but its rows."""

from dataclasses import dataclass
from typing import Self

from sqlstable.schema.schema_objects import SchemaIndex, SchemaTable, SchemaTrigger, SchemaView
from sqlstable.schema.schema_reading import objects_of_sql


@dataclass(frozen=True, slots=True)
class Schema:
    """All that a database's ``sqlite_schema`` says, and what SQLite makes of it.

    Examples:
        >>> schema = Schema.from_sql("CREATE TABLE account (id INTEGER PRIMARY KEY, owner TEXT)")
        >>> [column.name for column in schema.tables[0].columns]
        ['id', 'owner']
    """

    tables: tuple[SchemaTable, ...] = ()
    "In the order in which they were made, as all of these."
    indexes: tuple[SchemaIndex, ...] = ()
    views: tuple[SchemaView, ...] = ()
    triggers: tuple[SchemaTrigger, ...] = ()
    notes: tuple[str, ...] = ()
    "What was left out when it was read, a sentence each."

    @classmethod
    def from_sql(cls, text: str, *, name: str = "the schema") -> Self:
        """Return the schema that SQL makes; see `sqlstable.schema.schema_reading`.

        Args:
            text: CREATE, ALTER and DROP statements.
            name: What errors call it.

        Raises:
            SchemaError: It is no SQL that makes a schema.
        """
        return cls(**objects_of_sql(text, name=name))

    @property
    def sql(self) -> str:
        """All statements that make it, in order."""
        parts = (self.tables, self.indexes, self.views, self.triggers)
        return "".join(f"{it.sql};\n" for part in parts for it in part)

    def table(self, name: str) -> SchemaTable | None:
        """Return a table by its name, whatever its case; None where there is none."""
        wanted = name.lower()
        return next((it for it in self.tables if it.name.lower() == wanted), None)

    def indexes_of(self, table: str) -> tuple[SchemaIndex, ...]:
        """Return the indexes of a table."""
        wanted = table.lower()
        return tuple(it for it in self.indexes if it.table.lower() == wanted)

    def triggers_of(self, table: str) -> tuple[SchemaTrigger, ...]:
        """Return the triggers of a table or view."""
        wanted = table.lower()
        return tuple(it for it in self.triggers if it.table.lower() == wanted)
