"""What SQLite says of a database whose bytes lie anywhere: it is read through a function.

Nothing is written, locked, or looked for beside it. A database in WAL mode is shown as one that is
not: what its log has is not there.
"""

from collections.abc import Callable
from typing import Final

import apsw

from sqlstable.database.checking import Findings, Tick, check, prepare
from sqlstable.database.heapfile import HeapFile
from sqlstable.database.quietfile import ReadOnlyFile
from sqlstable.memory.backing import Bytes
from sqlstable.sqlite.header import ROLLBACK_VERSIONS, VERSIONS_OFFSET, WAL_VERSION

Read = Callable[[int, int], bytes]
"""Returns so many bytes from an offset on; what is asked for is there."""

_WAL: Final = bytes([WAL_VERSION])

_VFS_NAME: Final = "sqlstable-looking"


def damage_of(read: Read, size_bytes: int, *, on_tick: Tick | None = None) -> Findings:
    """Let SQLite check a database, indexes against their tables included.

    Args:
        read: Returns its bytes.
        size_bytes: How long it is.
        on_tick: Called while the check goes on; may raise, which ends it.
    """
    vfs = LookingVFS(read, size_bytes)
    try:
        connection = apsw.Connection("main.db", flags=apsw.SQLITE_OPEN_READONLY, vfs=vfs.name)
        try:
            prepare(connection, ())
            return check(connection, is_thorough=True, on_tick=on_tick)
        finally:
            connection.close(force=True)
    except apsw.Error as error:
        return Findings((str(error),), ())
    finally:
        vfs.unregister()


class LookingVFS(apsw.VFS):
    """One database, for looking only.

    Args:
        read: Returns its bytes.
        size_bytes: How long it is.
    """

    def __init__(self, read: Read, size_bytes: int) -> None:
        self._read = read
        self._size_bytes = size_bytes
        # Names are global to the process, and two of these may be looked through at once.
        self.name = f"{_VFS_NAME}-{id(self):x}"
        super().__init__(self.name, base="")

    def xOpen(  # type: ignore[override]  # files need not derive from apsw.VFSFile
        self, name: str | apsw.URIFilename | None, flags: list[int]
    ) -> "LookedAt | HeapFile":
        """Open the database, or a temporary file."""
        if flags[0] & apsw.SQLITE_OPEN_MAIN_DB:
            flags[1] = flags[0]
            return LookedAt(self._read, self._size_bytes)
        return HeapFile()

    def xAccess(self, pathname: str, flags: int) -> bool:
        """There is nothing beside it."""
        return False

    def xFullPathname(self, name: str) -> str:
        """Names are taken as they are."""
        return name


class LookedAt(ReadOnlyFile):
    """The database as a file that SQLite reads."""

    def __init__(self, read: Read, size_bytes: int) -> None:
        self._bytes = read
        self._size_bytes = size_bytes

    def xRead(self, amount: int, offset: int) -> Bytes:
        """Return bytes; fewer at the end."""
        length = min(amount, self._size_bytes - offset)
        if length <= 0:
            return b""
        data = self._bytes(offset, length)
        if offset == 0 and length >= VERSIONS_OFFSET + len(ROLLBACK_VERSIONS):
            stop = VERSIONS_OFFSET + len(ROLLBACK_VERSIONS)
            versions = data[VERSIONS_OFFSET:stop].replace(_WAL, ROLLBACK_VERSIONS[:1])
            # Any other version is damage, or of a later SQLite: it is SQLite's to say so.
            return data[:VERSIONS_OFFSET] + versions + data[stop:]
        return data

    def xFileSize(self) -> int:
        """Return the size."""
        return self._size_bytes
