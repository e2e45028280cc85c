"""Reading a database to find its owners, without trust in what it says."""

from typing import Any, Final, Protocol

from sqlstable.errors import ImageError
from sqlstable.trace.btree import DatabaseHeader
from sqlstable.trace.owner_state import SCHEMA_NAME, SCHEMA_ROOT, TreeOf

_TREES_SQL: Final = (
    "SELECT name, tbl_name, type, rootpage FROM main.sqlite_schema "
    "WHERE typeof(rootpage) = 'integer' AND rootpage > 0"
)


class DatabaseReader(Protocol):
    """Access to the database file as it is now, recorded nowhere."""

    def read_sqlite_page(self, number: int) -> bytes:
        """Return a whole SQLite page, counted from 1; fewer bytes where the file ends before.

        Only numbers from 1 to the file's count are asked for. Whatever is raised here or by
        `rows` counts as damage: it makes the owners unknown, and is named by `OwnerMap.fault`.
        """
        ...

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Return all rows of a statement, run by a SQLite that has ``dbstat``."""
        ...


class GuardedReader:
    """A reader whose every failure is an `ImageError`, and which cannot be read without end."""

    def __init__(self, reader: DatabaseReader) -> None:
        """Allow one read, that of SQLite page 1; `expect` allows more."""
        self._reader = reader
        self._sqlite_page_bytes = 0
        self._reads_left = 1

    def expect(self, header: DatabaseHeader, count: int) -> None:
        """Allow what a sound database of this shape can need: nothing is read three times."""
        self._sqlite_page_bytes = header.sqlite_page_bytes
        self._reads_left = 2 * count + 1

    def first(self) -> bytes:
        """Return SQLite page 1, of a size that is not known yet."""
        return self._read(SCHEMA_ROOT)

    def sqlite_page(self, number: int) -> bytes:
        """Return a whole SQLite page."""
        content = self._read(number)
        if len(content) != self._sqlite_page_bytes:
            raise ImageError(f"SQLite page {number} has {len(content)} bytes")
        return content

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Return all rows of a statement."""
        try:
            return self._reader.rows(sql)
        except Exception as error:  # the reader's SQLite library is not known here, nor its errors
            raise ImageError(f"SQLite cannot list the database: {error!r}") from error

    def sqlite_page_count(self) -> int:
        """Return the number of SQLite pages, 0 for a database that was never written."""
        [(count,)] = self.rows("PRAGMA main.page_count")
        return int(count)

    def roots(self, tree_of: TreeOf) -> dict[int, int]:
        """Return the tree of each root."""
        roots = {SCHEMA_ROOT: tree_of(SCHEMA_NAME, SCHEMA_NAME, "table")}
        for name, table, kind, root in self.rows(_TREES_SQL):
            roots[root] = tree_of(str(name), str(table), str(kind))
        return roots

    def _read(self, number: int) -> bytes:
        if self._reads_left <= 0:
            raise ImageError("SQLite pages refer to each other in circles")
        self._reads_left -= 1
        try:
            return self._reader.read_sqlite_page(number)
        except Exception as error:  # as in rows
            raise ImageError(f"SQLite page {number} cannot be read: {error!r}") from error
