"""The virtual file system that gives SQLite a database file in stable memory.

`StableVFS` registers itself with SQLite under a name of its own; open a connection with
``apsw.Connection("main.db", vfs=vfs.name)``. One database file per VFS lies in stable memory; its
journals and all temporary files lie in the heap.
"""

import datetime as dt
from typing import Final
from weakref import WeakValueDictionary

import apsw

from sqlstable.database.header import HEADER_BYTES, parse_header
from sqlstable.database.heapfile import HeapFile
from sqlstable.database.placement import place
from sqlstable.database.settings import resolve_settings
from sqlstable.database.store import DatabaseFile, DatabaseStore, ObserverFile
from sqlstable.errors import SettingsError
from sqlstable.ic.units import WASM_PAGE_BYTES
from sqlstable.memory.stable import StableMemory

OBSERVER_NAME: Final = "sqlstable-observer"
"""File name under which a connection sees the database without being seen."""

JULIAN_DAY_OF_UNIX_EPOCH: Final = 2_440_587.5
MILLISECONDS_PER_DAY: Final = 86_400_000

_REGISTERED: Final[WeakValueDictionary[str, "StableVFS"]] = WeakValueDictionary()
"""Mirrors SQLite's own list of VFS names, which is as global as this."""

_JOURNAL_FLAGS: Final = (
    apsw.SQLITE_OPEN_MAIN_JOURNAL | apsw.SQLITE_OPEN_SUPER_JOURNAL | apsw.SQLITE_OPEN_TEMP_JOURNAL
)


class StableVFS(apsw.VFS):
    """A SQLite VFS over one stable memory.

    Args:
        memory: The stable memory; empty, or holding an image of the same layout.
        layout: ``managed`` or ``raw``, see `sqlstable.database.placement`.
        page_size: Bytes of a SQLite page of a new database; an existing one keeps its own.
        bucket_pages: Wasm pages of a bucket of a new memory manager.
        now: The date and time that SQLite is told, such as ``2026-01-01 00:00:00``; None for the
            system's clock.
        implicit_messages: True makes each SQL transaction a message of its own where none is
            open; False is for owners who always have one open. Under ``locking_mode=exclusive``
            SQLite does not tell when it has done reading: such a message goes on until the next
            commit, or until the connection closes.

    Raises:
        ImageError: The memory holds something else, or a database that is cut off.
        SettingsError: A setting is unknown or out of range.

    Examples:
        >>> memory = StableMemory()
        >>> vfs = StableVFS(memory)
        >>> connection = apsw.Connection("main.db", vfs=vfs.name)
        >>> _ = connection.execute("CREATE TABLE t (x); INSERT INTO t VALUES (42)")
        >>> connection.execute("SELECT x FROM t").fetchall()
        [(42,)]
        >>> connection.close()
        >>> vfs.unregister()
        >>> memory.size()  # one Wasm page of header, one bucket of 128
        129
    """

    def __init__(
        self,
        memory: StableMemory,
        *,
        layout: str = "managed",
        page_size: int = 4096,
        bucket_pages: int = 128,
        now: str | None = None,
        implicit_messages: bool = True,
    ) -> None:
        """Open the layout and register the VFS."""
        resolve_settings(layout=layout, page_size=page_size, bucket_pages=bucket_pages)
        self._now_ms = None if now is None else julian_milliseconds(now)
        self.memory = memory
        self.layout = layout
        placement = place(memory, layout=layout, bucket_pages=bucket_pages)
        self.bucket_pages = placement.map.bucket_bytes // WASM_PAGE_BYTES
        self.store = DatabaseStore(
            memory, placement, page_size=page_size, implicit_messages=implicit_messages
        )
        self.adopt_page_size()
        self._file_name: str | None = None
        self._own_locks = implicit_messages
        self.is_unrecorded = False
        "While True, files are opened for reading unseen; see `DatabaseStore.unrecorded`."
        self.name = _free_name()
        super().__init__(self.name, base="")
        _REGISTERED[self.name] = self

    def unregister(self) -> None:
        """Take the VFS out of SQLite's list, after all its connections are closed."""
        self.store.close()
        super().unregister()

    def observe(self) -> apsw.Connection:
        """Return a read-only connection that sees the database as it is now, unrecorded."""
        flags = apsw.SQLITE_OPEN_READONLY
        connection = apsw.Connection(OBSERVER_NAME, flags=flags, vfs=self.name)
        connection.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0)
        connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
        return connection

    # -- what SQLite calls ----------------------------------------------------------------------

    def xOpen(  # type: ignore[override]  # files need not derive from apsw.VFSFile
        self, name: str | apsw.URIFilename | None, flags: list[int]
    ) -> DatabaseFile | HeapFile:
        """Open the database file in stable memory, and anything else in the heap."""
        text = name.filename() if isinstance(name, apsw.URIFilename) else name
        if text is None:
            return HeapFile()
        if flags[0] & apsw.SQLITE_OPEN_MAIN_DB:
            return self._open_database(text)
        if flags[0] & apsw.SQLITE_OPEN_WAL:
            msg = "WAL needs a file beside the database; choose journal_mode memory or off"
            raise apsw.CantOpenError(msg)
        if flags[0] & _JOURNAL_FLAGS:
            return self.store.journals.setdefault(text, HeapFile())
        return HeapFile()

    def xAccess(self, pathname: str, flags: int) -> bool:
        """Whether a file exists; no stable memory is involved."""
        if pathname == self._file_name:
            return self.store.size_bytes > 0
        return pathname in self.store.journals

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: FBT001  SQLite's signature
        """Delete a journal."""
        self.store.journals.pop(filename, None)

    def xFullPathname(self, name: str) -> str:
        """Names are taken as they are: there are no folders."""
        return name

    def xCurrentTime(self) -> float:
        """Return the pinned time as a Julian day."""
        if self._now_ms is None:
            return super().xCurrentTime()
        return self._now_ms / MILLISECONDS_PER_DAY

    def xCurrentTimeInt64(self) -> int:
        """Return the pinned time in milliseconds since the Julian epoch."""
        if self._now_ms is None:
            return super().xCurrentTimeInt64()
        return self._now_ms

    # -- inside ---------------------------------------------------------------------------------

    def _open_database(self, name: str) -> DatabaseFile:
        if name == OBSERVER_NAME:
            return ObserverFile(self.store)
        if self._file_name not in (None, name):
            msg = (
                f"the stable memory holds one database file, opened as {self._file_name!r}; "
                f"{name!r} would be a second one: attach ':memory:', or give it a VFS of its own"
            )
            raise apsw.CantOpenError(msg)
        self._file_name = name
        return self.store.open(own_locks=self._own_locks, is_unrecorded=self.is_unrecorded)

    def adopt_page_size(self) -> None:
        """Learn the size of a SQLite page from the database, if there is one."""
        store = self.store
        store.is_page_size_stale = False
        header = parse_header(store.peek(HEADER_BYTES, 0))
        if header is not None and header.page_size != store.page_size:
            store.page_size = header.page_size
            store.rebind()


def sqlite_version() -> str:
    """Return the version of the SQLite that runs everything here."""
    return apsw.sqlite_lib_version()


def vfs_of(connection: apsw.Connection) -> StableVFS:
    """Return the VFS that a connection's main database is opened through.

    Raises:
        SettingsError: It is not a `StableVFS`.
    """
    name = connection.open_vfs
    vfs = _REGISTERED.get(name)
    if vfs is None:
        msg = (
            f"the connection's database is opened through VFS {name!r}, not through a StableVFS; "
            "open it with apsw.Connection(name, vfs=StableVFS(memory).name)"
        )
        raise SettingsError(msg)
    return vfs


def julian_milliseconds(now: str) -> int:
    """Return a date and time (UTC) as SQLite counts it: milliseconds since the Julian epoch.

    Raises:
        SettingsError: ``now`` is not an ISO date and time.

    Examples:
        >>> julian_milliseconds("1970-01-01 00:00:00")
        210866760000000
    """
    try:
        moment = dt.datetime.fromisoformat(now)
    except ValueError:
        msg = f"now is {now!r}; give a date and time such as 2026-01-01 00:00:00"
        raise SettingsError(msg) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=dt.UTC)
    epoch_ms = int(JULIAN_DAY_OF_UNIX_EPOCH * MILLISECONDS_PER_DAY)
    unix_epoch = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    return epoch_ms + (moment - unix_epoch) // dt.timedelta(milliseconds=1)


def _free_name() -> str:
    # VFS names are global to the process; the first free number keeps them short and repeatable.
    taken = set(apsw.vfs_names())
    number = 1
    while f"sqlstable-{number}" in taken:
        number += 1
    return f"sqlstable-{number}"
