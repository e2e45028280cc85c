"""Databases made elsewhere, for imports."""

import ctypes
from contextlib import closing

import apsw
import pytest

ROWS = """
    CREATE TABLE account (id INTEGER PRIMARY KEY, owner TEXT, cents INTEGER);
    CREATE INDEX account_owner ON account (owner);
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300)
    INSERT INTO account SELECT i, 'owner ' || i * 7919 % 1000, i * i FROM n;
    INSERT INTO account VALUES (1000, hex(zeroblob(40000)), 0)
"""


def make(path, *, before="", after="", rows=ROWS, version=None, reserved=0):
    """Make a database; ``version`` sets header fields that only old writers leave like that."""
    with closing(apsw.Connection(str(path))) as connection:
        if reserved:
            count = ctypes.c_int(reserved)
            operation = apsw.SQLITE_FCNTL_RESERVE_BYTES
            assert connection.file_control("main", operation, ctypes.addressof(count))
        connection.execute(f"{before}; {rows}; {after}").fetchall()
    if version is not None:
        content = bytearray(path.read_bytes())
        for offset, value in version.items():
            content[offset : offset + 4] = value.to_bytes(4, "big")
        path.write_bytes(content)


def table_rows(path):
    """Everything that the tables hold, and what SQLite finds wrong."""
    with closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)) as connection:
        names = connection.execute(
            "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name"
        ).fetchall()
        tables = [connection.execute(f'SELECT * FROM "{name}"').fetchall() for (name,) in names]
        return names, tables, connection.execute("PRAGMA integrity_check").fetchall()


def define(connection):
    connection.create_collation("unicase", lambda a, b: (a > b) - (a < b))
    connection.create_scalar_function(
        "checked", lambda value: value, flags=apsw.SQLITE_INNOCUOUS | apsw.SQLITE_DETERMINISTIC
    )


MISSING = {
    "collation": (
        "CREATE TABLE deck (name TEXT COLLATE unicase); CREATE UNIQUE INDEX d ON deck (name)",
        "there is no collation unicase here",
    ),
    "function in a check": (
        "CREATE TABLE deck (name TEXT CHECK (checked(name)))",
        "deck cannot be used in full: no such function: checked",
    ),
    "function in an index": (
        "CREATE TABLE deck (name); CREATE INDEX d ON deck (checked(name))",
        "deck cannot be used in full: unknown function: checked()",
    ),
    "generated column": (
        "CREATE TABLE deck (name, twice AS (checked(name)) STORED)",
        "deck cannot be used in full: unknown function: checked()",
    ),
}


@pytest.fixture(name="needy", params=MISSING)
def needy_fixture(request, tmp_path):
    """A sound database that needs something, and what is said of it."""
    rows, said = MISSING[request.param]
    path = tmp_path / "deck.db"
    with closing(apsw.Connection(str(path))) as connection:
        define(connection)
        connection.execute(f"{rows}; INSERT INTO deck (name) VALUES (1), (2)")
        connection.execute("CREATE TABLE note (id); INSERT INTO note VALUES (7)")
    return path, said
