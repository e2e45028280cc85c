"""Schema and B-trees of the main database as SQLite itself tells them; nothing is recorded."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import apsw

from sqlstable.database.vfs import StableVFS
from sqlstable.errors import ImageError

_SCHEMA: Final = "SELECT type, name, tbl_name, sql FROM sqlite_schema"
_NODES: Final = "SELECT name, path, pageno, pagetype, ncell, payload, unused FROM dbstat"


def schema_of(vfs: StableVFS) -> list[tuple[Any, ...]]:
    """Return the rows of sqlite_schema: type, name, table and SQL.

    Raises:
        ImageError: The database cannot be read.
    """
    with _observed(vfs) as connection:
        return connection.execute(_SCHEMA).fetchall()


def nodes_of(vfs: StableVFS) -> Iterator[tuple[Any, ...]]:
    """Yield the SQLite pages of all trees, those of each together and in the order of keys.

    Yields:
        Name of the tree, path from its root, number, type (internal, leaf or overflow), cells,
        payload bytes and unused bytes. Source: https://sqlite.org/dbstat.html.

    Raises:
        ImageError: The database cannot be read.
    """
    with _observed(vfs) as connection:
        yield from connection.execute(_NODES)


@contextmanager
def _observed(vfs: StableVFS) -> Iterator[apsw.Connection]:
    try:
        connection = vfs.observe()
        try:
            yield connection
        finally:
            connection.close(force=True)
    except (apsw.Error, UnicodeError) as error:
        raise ImageError(f"the database could not be read: {error}") from error
