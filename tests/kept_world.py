"""Databases to be kept over upgrades, and canisters that keep them."""

import hashlib
import sqlite3

from sqlstable.database.settings import Settings
from sqlstable.ic.limits import latest_limits
from sqlstable.workload.upgrading.driving import KeptCanister
from sqlstable.workload.upgrading.strategies import STREAMED, WHOLE

SERIALISING = (WHOLE, STREAMED)

SCHEMA_COOKIE = range(40, 44)
WRITERS = (*range(24, 28), *range(92, 100))
"""Bytes of the header in which a backup leaves its own marks: sqlite.org/fileformat.html, 1.3."""


def made(statements, *, page_size=4096, encoding="UTF-8", auto_vacuum=0):
    """The bytes of a database that SQLite itself has made."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute(f"PRAGMA page_size = {page_size}")
    connection.execute(f"PRAGMA encoding = '{encoding}'")
    connection.execute(f"PRAGMA auto_vacuum = {auto_vacuum}")
    for statement, *values in statements:
        connection.execute(statement, *values)
    has_pages = connection.execute("PRAGMA page_count").fetchone()[0]
    data = connection.serialize() if has_pages else b""
    connection.close()
    return data


def table(rows, *, page_size=4096):
    """A database of so many rows, with an index."""
    return made(
        [
            ("CREATE TABLE item (id INTEGER PRIMARY KEY, owner INTEGER, note TEXT)",),
            ("CREATE INDEX item_by_owner ON item (owner)",),
            *(
                ("INSERT INTO item VALUES (?, ?, ?)", (row, row * 7 % 13, f"note {row} " * 3))
                for row in range(rows)
            ),
        ],
        page_size=page_size,
    )


def dump_sum(database):
    """SHA-256 of the SQL that makes a database, which must be sound."""
    connection = sqlite3.connect(":memory:")
    connection.deserialize(database)
    connection.text_factory = bytes
    assert connection.execute("PRAGMA integrity_check").fetchall() == [(b"ok",)]
    names = [
        (kind, name)
        for kind, name in connection.execute("SELECT type, name FROM sqlite_master ORDER BY 1, 2")
    ]
    text = repr(names)
    for kind, name in names:
        if kind == b"table":
            quoted = name.decode().replace('"', '""')
            text += repr(connection.execute(f'SELECT * FROM "{quoted}"').fetchall())
    connection.close()
    return hashlib.sha256(text.encode()).hexdigest()


def without(database, *places):
    """A database with zeros where a backup may differ."""
    content = bytearray(database)
    for at in (at for place in places for at in place):
        content[at] = 0
    return bytes(content)


def canister(strategy, database=b"", *, page_size=4096):
    """A canister that has a database as behind an upgrade."""
    made_one = KeptCanister(strategy, Settings(page_size=page_size), latest_limits())
    if database:
        made_one.load(database)
    else:
        made_one.install()
    return made_one


def rows(canister_, sql):
    return canister_.query(sql)[0].rows


def state(canister_):
    """All that a message could change."""
    machine = canister_.machine
    return canister_.stable(), machine.heap_bytes(), machine.globals.typed()
