"""Two databases in one stable memory."""

from tests.doors import SCHEMA, Door, is_sound, opened_fixture, rows, series  # noqa: F401  a fixture

JOURNALS = ("delete", "truncate", "persist")

FILL = f"INSERT INTO {{}} SELECT i, printf('%.*c', 500, 'x') FROM {series(100)}"


def two_databases(world, *pragmas):
    connection = world.connect(*pragmas)
    connection.execute(SCHEMA)
    connection.execute(FILL.format("t"))
    connection.execute("ATTACH 'other.db' AS other")
    for pragma in pragmas:
        connection.execute(f"PRAGMA other.{pragma}").fetchall()
    connection.execute("CREATE TABLE other.o (id INTEGER PRIMARY KEY, x TEXT)")
    connection.execute(FILL.format("o"))
    return connection
