"""What a connection is shown after a rollback, so that it forgets what it knew.

A heap lives through a rollback natively, and with it two things of SQLite's that go back with the
bytes, and may come again with other content: its page cache, which goes by the change counter, and
the schema it has parsed, which goes by the cookie. A new change counter makes SQLite drop its
cache. The schema needs more: the next change of it, by whomever, gives the cookie a value that it
had before. So the first SQLite page is shown once with a cookie that nobody has; a file that is
empty again is shown as an empty database. SQLite notices, forgets the schema and looks again; by
then it sees the truth. What is written meanwhile is put right.

==========  ======================================  ==========================================
state       what a look at the change counter does  what a look at the first SQLite page does
==========  ======================================  ==========================================
trusted     nothing                                 nothing
in doubt    nothing                                 shows a moved cookie: *deceived*
deceived    makes the cache old: *trusted*          shows a moved cookie
==========  ======================================  ==========================================

A rollback that may have taken a schema with it leads to *in doubt* from anywhere.
"""

from collections.abc import Callable
from typing import Final

from sqlstable.database.hotpath import Read, Write
from sqlstable.memory.backing import Bytes
from sqlstable.sqlite.header import (
    CHANGE_COUNTER_BYTES,
    CHANGE_COUNTER_OFFSET,
    HEADER_BYTES,
    SCHEMA_COOKIE,
    SQLITE_PAGE_BYTES_MIN,
    empty_database,
)

CHANGED: Final = b"\xff" * CHANGE_COUNTER_BYTES
"""A change counter that no database has: it makes SQLite drop its cache."""

_TRUSTED, _IN_DOUBT, _DECEIVED = range(3)


class Doubt:
    """What one connection may know of one file that is not so any more."""

    __slots__ = ("_rollbacks", "_schema", "is_cache_old")

    def __init__(self) -> None:
        self.is_cache_old = False
        "Whether the next look at the change counter must make SQLite drop its cache."
        self._schema = _TRUSTED
        self._rollbacks = 0

    def on_rollback(self, *, is_schema_old: bool) -> None:
        """Take note that bytes went back that the connection may have in its heap."""
        self.is_cache_old = True
        if is_schema_old:
            self._schema = _IN_DOUBT
            self._rollbacks += 1

    @property
    def is_schema_old(self) -> bool:
        """Whether `paths` and `size` are needed."""
        return self._schema != _TRUSTED

    def paths(self, read: Read, write: Write) -> tuple[Read, Write]:
        """Return functions that show a moved cookie where that is due."""
        # A number of its own for each rollback: two in a row must not give the same cookie. The
        # upper half is moved, because schemas are changed by ones.
        delta = (self._rollbacks % 0x7FFF + 1) << 16

        def xRead(amount: int, offset: int) -> Bytes:
            if is_probe(amount, offset):
                if self._schema == _DECEIVED:
                    self.is_cache_old = True
                    self._schema = _TRUSTED
            elif offset == 0 and amount > HEADER_BYTES and self._schema != _TRUSTED:
                self._schema = _DECEIVED
                return _with_cookie_moved(read(amount, offset) or empty_database(amount), delta)
            return read(amount, offset)

        def xWrite(data: Bytes, offset: int) -> None:
            # SQLite writes back what it was shown.
            if offset == 0 and self._schema == _DECEIVED:
                data = _with_cookie_moved(data, -delta)
            write(data, offset)

        return xRead, xWrite

    def size(self, get_size: Callable[[], int]) -> Callable[[], int]:
        """Return a function that has an empty file looked into while there is doubt."""
        return lambda: get_size() or (SQLITE_PAGE_BYTES_MIN if self.is_schema_old else 0)


def is_probe(amount: int, offset: int) -> bool:
    """Return whether SQLite looks at the change counter, to learn whether its cache is old."""
    return offset == CHANGE_COUNTER_OFFSET and amount == CHANGE_COUNTER_BYTES


def _with_cookie_moved(data: Bytes, by: int) -> bytes:
    changed = bytearray(data)
    cookie = int.from_bytes(changed[SCHEMA_COOKIE], "big")
    changed[SCHEMA_COOKIE] = ((cookie + by) % (1 << 32)).to_bytes(4, "big")
    return bytes(changed)
