"""Databases in memory that hold a schema and no rows, to try statements on."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import apsw

from sqlstable.database.checking import prepare
from sqlstable.schema.schema_model import Schema
from sqlstable.schema.schema_reading import objects_of


@contextmanager
def scratch(schema: Schema, *, has_texts: bool = True) -> Iterator[apsw.Connection]:
    """Yield a connection to an empty database of a schema.

    Args:
        schema: What is in it.
        has_texts: Whether views and triggers are, too.
    """
    connection = apsw.Connection(":memory:")
    try:
        prepare(connection, ())
        for table in schema.tables:
            connection.execute(table.sql).fetchall()
        for index in schema.indexes:
            connection.execute(index.sql).fetchall()
        if has_texts:
            for view in schema.views:
                connection.execute(view.sql).fetchall()
            for trigger in schema.triggers:
                connection.execute(trigger.sql).fetchall()
        yield connection
    finally:
        connection.close(force=True)


def schema_of(connection: apsw.Connection) -> Schema:
    """Return the schema of a connection's main database."""
    return Schema(**objects_of(connection, name="the schema"))


def carried_out(schema: Schema, statements: Iterable[str], *, has_texts: bool = True) -> Schema:
    """Return what statements make of a schema.

    Raises:
        apsw.Error: SQLite refuses one.

    Examples:
        >>> old = Schema.from_sql("CREATE TABLE t (a)")
        >>> carried_out(old, ["ALTER TABLE t ADD COLUMN b"]).tables[0].sql
        'CREATE TABLE t (a, b)'
    """
    with scratch(schema, has_texts=has_texts) as connection:
        for sql in statements:
            connection.execute(sql).fetchall()
        return schema_of(connection)
