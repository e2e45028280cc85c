"""The virtual file system that gives SQLite a database file in stable memory.

`StableVFS` registers itself with SQLite under a name of its own; open a connection with
``apsw.Connection("main.db", vfs=vfs.name)``, or by `StableVFS.connect`. In layout managed attached
databases and journals lie in stable memory as well, each in a virtual memory of its own; in layout
raw the database alone does. Temporary files lie in the heap. There is no write-ahead log: canisters
have none.
"""

import datetime as dt
from typing import Final
from weakref import WeakValueDictionary

import apsw

from sqlstable.database.cabinet import Cabinet
from sqlstable.database.extent import exact_size_bytes
from sqlstable.database.handles import DatabaseFile, SharedFile
from sqlstable.database.heapfile import HeapFile
from sqlstable.database.observer import ObserverVFS
from sqlstable.database.settings import resolve_settings
from sqlstable.database.stablefile import StableHandle
from sqlstable.errors import SettingsError
from sqlstable.layout.files import StableFileInfo
from sqlstable.layout.layouts import layout_named
from sqlstable.memory.stable import StableMemory
from sqlstable.sqlite.header import HEADER_BYTES, parse_header

JULIAN_DAY_OF_UNIX_EPOCH: Final = 2_440_587.5
MILLISECONDS_PER_DAY: Final = 86_400_000

_REGISTERED: Final[WeakValueDictionary[str, "StableVFS"]] = WeakValueDictionary()
"""Mirrors SQLite's own list of VFS names, which is as global as this."""

_STILL_WAL: Final = (
    "under its exclusive lock SQLite goes on with the header of a database in WAL mode, which a "
    "backup has copied; close the connection and open it again: the file itself needs no log"
)

_WRITING_FLAGS: Final = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE


class StableVFS(apsw.VFS):
    """A SQLite VFS over one stable memory.

    Args:
        memory: The stable memory; empty, or holding an image of the same layout.
        layout: A name in `sqlstable.layout.layouts.LAYOUT_NAMES`.
        page_size: Bytes of a SQLite page of a new database, 4096 unless the layout has another;
            an existing one keeps its own.
        bucket_pages: Wasm pages of a bucket of a new memory manager.
        growth: ``bucket`` allocates whole buckets to a file, as layout managed does unless told
            otherwise, ``wasm-page`` the Wasm pages that it needs, as the other layouts always do.
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
        >>> connection.execute("PRAGMA journal_mode = memory").get  # others need a stable file
        'memory'
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
        page_size: int | None = None,
        bucket_pages: int = 128,
        growth: str | None = None,
        now: str | None = None,
        implicit_messages: bool = True,
    ) -> None:
        settings = resolve_settings(
            layout=layout, page_size=page_size, bucket_pages=bucket_pages, growth=growth
        )
        self._now_ms = None if now is None else julian_milliseconds(now)
        self.memory = memory
        self.layout = layout_named(layout)
        has_buckets = self.layout.traits.has_buckets
        self.growth = settings.growth if has_buckets else None
        "The growth policy; None where there is no choice."
        self.cabinet = Cabinet(
            memory,
            layout=self.layout,
            page_size=settings.page_size,
            bucket_pages=bucket_pages,
            growth=settings.growth,
            implicit_messages=implicit_messages,
        )
        self.store = self.cabinet.store
        manager = self.cabinet.manager
        self.bucket_pages = None if manager is None else manager.bucket_wasm_pages
        "Wasm pages of a bucket; None where there are none."
        self.adopt_page_size()
        self._handle = SharedFile if implicit_messages else DatabaseFile
        self._observer: ObserverVFS | None = None
        self.name = _free_name()
        super().__init__(self.name, base="")
        _REGISTERED[self.name] = self
        self._learn_size()

    def unregister(self) -> None:
        """Take the VFS out of SQLite's list, after all its connections are closed."""
        self.cabinet.close()
        if self._observer is not None:
            self._observer.unregister()
        super().unregister()

    def connect(self, name: str | None = None) -> apsw.Connection:
        """Return a new connection on a database, as ``apsw.Connection`` would with this VFS.

        Args:
            name: The database; None for the main one.

        Raises:
            apsw.CantOpenError: The name is too long, or the layout has no place for a second one.
            ImageError: The database is damaged.

        Examples:
            >>> vfs = StableVFS(StableMemory())
            >>> connection = vfs.connect()
            >>> connection.db_filename("main")
            'main.db'
            >>> connection.close()
            >>> vfs.unregister()
        """
        return apsw.Connection(name or self.main_name, vfs=self.name)

    def observe(self, name: str | None = None) -> apsw.Connection:
        """Return a read-only connection that sees a database as it is now, unrecorded.

        Args:
            name: The database; None for the main one.

        Raises:
            apsw.CantOpenError: Stable memory holds no such database.
            ImageError: The database is damaged.
        """
        if self._observer is None:
            self._observer = ObserverVFS(f"{self.name}-observer", self.cabinet)
        return self._observer.connect(name)

    def stable_files(self) -> tuple[StableFileInfo, ...]:
        """Return what lies in stable memory, the main database first; nothing is recorded."""
        return self.cabinet.stable_files()

    @property
    def main_name(self) -> str:
        """Name of the main database: recorded in the image, first opened, or ``main.db``."""
        return self.cabinet.main_name

    # -- what SQLite calls ----------------------------------------------------------------------

    def xOpen(  # type: ignore[override]  # files need not derive from apsw.VFSFile
        self, name: str | apsw.URIFilename | None, flags: list[int]
    ) -> DatabaseFile | StableHandle | HeapFile:
        """Open a file in stable memory, or one of the heap."""
        text = name.filename() if isinstance(name, apsw.URIFilename) else name
        if text is None:
            return HeapFile()
        if flags[0] & apsw.SQLITE_OPEN_MAIN_DB:
            return self._open_database(text, flags)
        if flags[0] & apsw.SQLITE_OPEN_MAIN_JOURNAL:
            return self._open_journal(text)
        if flags[0] & apsw.SQLITE_OPEN_WAL:
            raise apsw.CantOpenError(_STILL_WAL)
        if flags[0] & apsw.SQLITE_OPEN_SUPER_JOURNAL:
            return self.cabinet.heap_file(text)
        return HeapFile()

    def xAccess(self, pathname: str, flags: int) -> bool:
        """Whether a file exists; no stable memory is involved."""
        return self.cabinet.exists(pathname)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: FBT001  SQLite's signature
        """Delete a journal: overwrite its header, as its virtual memory cannot shrink."""
        self.cabinet.delete(filename)

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

    def _open_database(self, name: str, flags: list[int]) -> DatabaseFile:
        # SQLite goes by the answer: without it a read-only connection would write.
        flags[1] = flags[0]
        if name.rpartition("/")[2] in ("", ".", ".."):
            raise apsw.CantOpenError(
                f"{name!r} can only be the name of a folder, of which stable memory has none; "
                "give the database a name such as main.db"
            )
        is_created = bool(flags[0] & apsw.SQLITE_OPEN_CREATE)
        store = self.cabinet.database(name, is_created=is_created)
        if self.cabinet.messages.is_read_only:
            flags[1] = flags[0] & ~_WRITING_FLAGS | apsw.SQLITE_OPEN_READONLY
        return self._handle(store)

    def _open_journal(self, name: str) -> StableHandle | HeapFile:
        file = self.cabinet.stable_file(name)
        return self.cabinet.heap_file(name) if file is None else StableHandle(file)

    def _learn_size(self) -> None:
        """Look for the end of a database whose header does not say where it is."""
        if self.store.states_size:
            return
        connection = self.observe()
        try:
            size_bytes = exact_size_bytes(self.store, connection)
        finally:
            connection.close(force=True)
        if size_bytes is not None:
            self.store.adopt_size(size_bytes)

    def adopt_page_size(self) -> None:
        """Learn the size of a SQLite page from the database, if there is one."""
        store = self.store
        store.is_page_size_stale = False
        header = parse_header(store.peek(HEADER_BYTES, 0))
        if header is not None and header.page_size != store.page_size:
            store.page_size = header.page_size
            store.rebind()


def vfs_of(connection: apsw.Connection) -> StableVFS:
    """Return the VFS that a connection's main database is opened through.

    Raises:
        SettingsError: It is not a `StableVFS`.
    """
    name = connection.open_vfs
    vfs = _REGISTERED.get(name)
    if vfs is None:
        raise SettingsError(
            f"the connection's database is opened through VFS {name!r}, not through a StableVFS; "
            "open it with apsw.Connection(name, vfs=StableVFS(memory).name)"
        )
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
        raise SettingsError(
            f"now is {now!r}; give a date and time such as 2026-01-01 00:00:00"
        ) from None
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
