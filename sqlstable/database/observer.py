"""Looking at databases in stable memory as they are now, through a VFS of its own.

Nothing that a connection of this VFS does is recorded, marked, limited or locked, it gives no file
a name, and it cannot write. Files have the names that they have for everybody.
"""

import apsw

from sqlstable.database.cabinet import Cabinet
from sqlstable.database.checking import prepare
from sqlstable.database.doubt import CHANGED, is_probe
from sqlstable.database.heapfile import HeapFile
from sqlstable.database.quietfile import ReadOnlyFile
from sqlstable.database.stablefile import StableFile
from sqlstable.database.store import DatabaseStore
from sqlstable.memory.backing import Bytes


class ObserverVFS(apsw.VFS):
    """The files of a cabinet, for looking only.

    Args:
        name: Under which SQLite knows the VFS.
        cabinet: The files.
    """

    def __init__(self, name: str, cabinet: Cabinet) -> None:
        self.name = name
        self._cabinet = cabinet
        super().__init__(name, base="")

    def connect(self, database: str | None) -> apsw.Connection:
        """Return a connection on a database, None for the main one, that trusts no schema.

        Raises:
            apsw.CantOpenError: Stable memory holds no such database.
            ImageError: The database is damaged.
        """
        connection = apsw.Connection(
            database or self._cabinet.main_name, flags=apsw.SQLITE_OPEN_READONLY, vfs=self.name
        )
        prepare(connection, ())
        return connection

    def xOpen(  # type: ignore[override]  # files need not derive from apsw.VFSFile
        self, name: str | apsw.URIFilename | None, flags: list[int]
    ) -> "ObservedDatabase | ObservedJournal | HeapFile":
        """Open a file for looking."""
        text = name.filename() if isinstance(name, apsw.URIFilename) else name
        if text is not None and flags[0] & apsw.SQLITE_OPEN_MAIN_DB:
            flags[1] = flags[0]
            return ObservedDatabase(self._cabinet.existing(text))
        if text is not None and flags[0] & apsw.SQLITE_OPEN_MAIN_JOURNAL:
            file = self._cabinet.stable_file(text)
            return HeapFile() if file is None else ObservedJournal(file)
        return HeapFile()

    def xAccess(self, pathname: str, flags: int) -> bool:
        """Whether a file exists; no stable memory is involved."""
        return self._cabinet.exists(pathname)

    def xFullPathname(self, name: str) -> str:
        """Names are taken as they are: there are no folders."""
        return name


class ObservedDatabase(ReadOnlyFile):
    """A database that is only looked at."""

    def __init__(self, store: DatabaseStore) -> None:
        self._store = store

    def xRead(self, amount: int, offset: int) -> Bytes:
        """Return bytes as they are now."""
        if is_probe(amount, offset):
            # Writers under an exclusive lock leave the counter alone; always look again.
            return CHANGED
        return self._store.peek(amount, offset)

    def xFileSize(self) -> int:
        """Return the exact size."""
        return self._store.size_bytes

    def xCheckReservedLock(self) -> bool:
        """Say yes: a journal that is there belongs to somebody, and is not to be played back."""
        return True


class ObservedJournal(ReadOnlyFile):
    """A journal that is only looked at."""

    def __init__(self, file: StableFile) -> None:
        self._file = file
        self.xRead = file.peek

    def xFileSize(self) -> int:
        """Return the size."""
        return self._file.size_bytes
