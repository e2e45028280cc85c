"""A trace with other rows in some of its tables, without a byte of its file changed.

A connection of its own gets TEMP tables of the same names, which SQLite finds before those of the
file (https://sqlite.org/lang_naming.html), and TEMP views over them. So whatever reads a trace sees
the other rows: records, summaries, exports and data frames alike.
"""

from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Final

from sqlstable.trace.format.reader import Trace
from sqlstable.trace.format.storage import Connection, Row, SharedConnection, connected, reading

# ruff: noqa: SLF001  another way into a trace, beside the class itself

_MEMORY: Final = ""
"""Path of a trace that is in no file."""


def revised_trace(trace: Trace, tables: Mapping[str, Iterable[Row]]) -> Trace:
    """Return the same trace with other rows in some of its tables, to be closed on its own.

    Args:
        trace: Stays as it is.
        tables: All rows of each table that is to have others, in the order of its columns; of
            those that the trace's format does not have, nothing is taken.

    Raises:
        TraceError: The trace is closed, or damaged.
    """
    trace._select("SELECT 1")  # refuses where it is closed
    with reading(trace._name):
        connection = _revised(trace._shared.connection, tables)
    found = Trace(SharedConnection(connection), trace._name)
    # Messages that were written since then are not part of it, either.
    found._snapshot = trace._snapshot.read_by(found._select)
    return found


def _revised(source: Connection, tables: Mapping[str, Iterable[Row]]) -> Connection:
    connection = _another(source)
    try:
        connection.execute("BEGIN")
        for table, rows in {**_shadows(source), **tables}.items():
            _shadow(connection, table, rows)
        # A view of the file sees tables of the file alone.
        views = connection.execute("SELECT sql FROM main.sqlite_schema WHERE type = 'view'")
        for (sql,) in views.fetchall():
            connection.execute(sql.replace("CREATE VIEW", "CREATE TEMP VIEW", 1))
        connection.execute("COMMIT")
    except BaseException:
        connection.close()
        raise
    return connection


def _another(source: Connection) -> Connection:
    """Open the same file again; of a trace in no file, make a copy."""
    [(_, _, path)] = [row for row in source.execute("PRAGMA database_list") if row[1] == "main"]
    if path != _MEMORY:
        return connected(f"{Path(path).as_uri()}?mode=ro")
    copy = connected("")
    source.backup(copy)
    return copy


def _shadows(source: Connection) -> dict[str, list[Row]]:
    """Return the rows that stand before those of the file already."""
    names = source.execute("SELECT name FROM temp.sqlite_schema WHERE type = 'table'").fetchall()
    return {
        name: source.execute(f"SELECT * FROM temp.{name}").fetchall()  # noqa: S608  our own names
        for (name,) in names
    }


def _shadow(connection: Connection, table: str, rows: Iterable[Row]) -> None:
    known = connection.execute(
        "SELECT sql FROM main.sqlite_schema WHERE type = 'table' AND name = ?", (table,)
    ).fetchone()
    if known is None:
        return
    connection.execute(known[0].replace("CREATE TABLE", "CREATE TEMP TABLE", 1))
    [(count,)] = connection.execute("SELECT count(*) FROM pragma_table_info(?, 'temp')", (table,))
    values = ", ".join("?" * count)
    with closing(connection.cursor()) as cursor:
        cursor.executemany(f"INSERT INTO temp.{table} VALUES ({values})", rows)  # noqa: S608  our own names
