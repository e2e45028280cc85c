"""Databases with free SQLite pages, and what plain SQLite says of them and does to them."""

import random
import sqlite3
from contextlib import closing
from pathlib import Path

import apsw

from sqlstable import Canister

MODES = ("none", "full", "incremental")


def holey(*, mode="none", page_size=4096, rows=450, seed=0):
    """The bytes of a database in which rows were deleted here and there, and in a stretch."""
    rng = random.Random(seed)
    with closing(sqlite3.connect(":memory:")) as plain:
        plain.execute(f"PRAGMA page_size = {page_size}")
        plain.execute(f"PRAGMA auto_vacuum = {mode}")
        plain.execute("VACUUM")
        plain.execute("CREATE TABLE note (id INTEGER PRIMARY KEY, at INTEGER, body TEXT)")
        plain.execute("CREATE INDEX note_at ON note (at)")
        plain.execute("CREATE TABLE word (word TEXT PRIMARY KEY, uses INTEGER) WITHOUT ROWID")
        for number in range(rows):
            body = rng.randbytes(rng.randrange(20, 700)).hex()
            plain.execute("INSERT INTO note VALUES (?, ?, ?)", (number, rng.randrange(99), body))
            plain.execute("INSERT INTO word VALUES (?, ?)", (rng.randbytes(9).hex(), number))
        low = rng.randrange(rows // 2)
        plain.execute("DELETE FROM note WHERE id BETWEEN ? AND ?", (low, low + rows // 3))
        plain.execute("DELETE FROM note WHERE id % 7 = ?", (rng.randrange(7),))
        plain.execute("DELETE FROM word WHERE uses % 2 = 0")
        plain.commit()
        return plain.serialize()


def asked(connection, sql):
    """One value that plain SQLite answers."""
    return connection.execute(sql).fetchone()[0]


class Plain:
    """Plain SQLite on a copy of a database, in a file."""

    def __init__(self, data, folder):
        self.path = Path(folder, "plain.db")
        self.path.write_bytes(data)
        self.connection = apsw.Connection(str(self.path))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.connection.close()
        self.path.unlink()

    def run(self, statements):
        for sql in statements:
            # incremental_vacuum goes on as long as it is stepped, which Python's sqlite3 does once.
            self.connection.execute(sql).fetchall()

    def sizes(self):
        """Bytes of the file, and SQLite pages that are free in it."""
        pages = asked(self.connection, "PRAGMA page_count")
        size_bytes = pages * asked(self.connection, "PRAGMA page_size")
        assert self.path.stat().st_size == size_bytes
        return size_bytes, asked(self.connection, "PRAGMA freelist_count")


def image_of(data, **options):
    """A stable memory that holds a database."""
    with Canister(**options) as canister:
        canister.import_database(data)
        return canister.image()


def answers(canister):
    """All that can be asked of the database, in an order that does not depend on where rows lie."""
    tables = canister.query("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY 1").rows
    found = [canister.query("SELECT type, name, sql FROM sqlite_schema ORDER BY 1, 2").rows]
    found += [sorted(canister.query(f'SELECT * FROM "{name}"').rows) for (name,) in tables]
    assert canister.query("PRAGMA integrity_check").rows == [("ok",)]
    return found
