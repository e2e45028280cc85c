"""Reading a database to find its owners, without trust in what it says."""

from typing import Protocol

from sqlstable.errors import ImageError
from sqlstable.sqlite.btree import SCHEMA_ROOT
from sqlstable.sqlite.header import Header, require_header


class DatabaseReader(Protocol):
    """Access to the database file as it is now, recorded nowhere."""

    def read_sqlite_page(self, number: int) -> bytes:
        """Return a whole SQLite page, counted from 1; fewer bytes where the file ends before.

        Only numbers from 1 to the file's count are asked for. Whatever is raised here counts as
        damage: it makes the owners unknown, and is named by `OwnerMap.fault`.
        """
        ...

    def size_bytes(self) -> int:
        """Return the size of the file."""
        ...


class GuardedReader:
    """A reader whose every failure is an `ImageError`, and which cannot be read without end."""

    def __init__(self, reader: DatabaseReader) -> None:
        """Allow one read, that of SQLite page 1; `expect` allows more."""
        self._reader = reader
        self._sqlite_page_bytes = 0
        self._reads_left = 1

    def expect(self, header: Header, count: int) -> None:
        """Allow what a sound database of this shape can need: nothing is read four times."""
        self._sqlite_page_bytes = header.page_size
        self._reads_left = 3 * count + 1

    def header(self) -> tuple[Header, bytes]:
        """Return the header and SQLite page 1, of a size that is not known yet."""
        first = self._read(SCHEMA_ROOT)
        return require_header(first), first

    def sqlite_page(self, number: int) -> bytes:
        """Return a whole SQLite page."""
        content = self._read(number)
        if len(content) != self._sqlite_page_bytes:
            raise ImageError(f"SQLite page {number} has {len(content)} bytes")
        return content

    def sqlite_page_count(self, header: Header) -> int:
        """Return how many SQLite pages there are.

        Raises:
            ImageError: The header promises more than the file has.
        """
        there = -(-self.size_bytes() // header.page_size)
        if header.sqlite_page_count > there:
            raise ImageError(
                f"the header states {header.sqlite_page_count} SQLite pages, the file has {there}"
            )
        return header.sqlite_page_count or there

    def size_bytes(self) -> int:
        """Return the size of the file."""
        try:
            return self._reader.size_bytes()
        except Exception as error:  # the reader is not known here, nor its errors
            raise ImageError(f"the size of the file cannot be read: {error!r}") from error

    def _read(self, number: int) -> bytes:
        if self._reads_left <= 0:
            raise ImageError("SQLite pages refer to each other in circles")
        self._reads_left -= 1
        try:
            return self._reader.read_sqlite_page(number)
        except Exception as error:  # as in size_bytes
            raise ImageError(f"SQLite page {number} cannot be read: {error!r}") from error
