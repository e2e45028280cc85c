"""What the nine statements run on: SQLite's own files, and ours with more and more duties.

==============  ====================================================================================
``memdb``       SQLite's in-memory VFS, in C: nothing is recorded, limited or staged
``disk file``   a file in a temporary folder through SQLite's default VFS
``unrecorded``  `StableVFS` with all duties of a message (layout managed, limits, staged writes) but
                no log; statements go straight to APSW
``recorded``    the same with the ordered log: accesses are recorded, statements are not
``canister``    `Canister`, depth ``pages``: accesses and statements are recorded
==============  ====================================================================================
"""

import itertools
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import apsw

from benchmarks.nine import Borders, Params, Subject
from sqlstable import Canister, Message, StableMemory, StableVFS
from sqlstable.ic.words import Depth
from sqlstable.memory.accesslog import AccessLog
from sqlstable.sqlite.vm_steps import VM_STEPS_BETWEEN_LOOKS

_MEMDB_NUMBERS = itertools.count(1)


def set_pragmas(connection: apsw.Connection, cache_size: int) -> None:
    """Give a connection the settings that a canister's update connection has."""
    for pragma in (
        "page_size = 4096",
        "locking_mode = exclusive",
        "temp_store = memory",
        "synchronous = off",
        "journal_mode = memory",
        f"cache_size = {cache_size}",
    ):
        connection.execute(f"PRAGMA {pragma}").fetchall()


class PlainSubject:
    """An APSW connection; a message is nothing."""

    accesses: int | None = None

    def __init__(self, connection: apsw.Connection, cache_size: int) -> None:
        """Set the connection up."""
        set_pragmas(connection, cache_size)
        self.connection = connection
        run, run_many = connection.execute, connection.executemany

        def execute(sql: str, params: Params = ()) -> list[tuple[Any, ...]]:
            return run(sql, params).fetchall()

        def executemany(sql: str, rows: Iterable[Params]) -> list[tuple[Any, ...]]:
            return run_many(sql, rows).fetchall()

        self.execute = execute
        self.executemany = executemany

    def message(self) -> Borders:
        """Return itself: there is nothing to begin."""
        return self

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()

    def __enter__(self) -> Self:
        """Do nothing."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Do nothing."""


class StableSubject(PlainSubject):
    """A plain connection over a `StableVFS` whose messages are begun and committed here."""

    def __init__(self, cache_size: int, *, recorded: bool) -> None:
        """Make memory, VFS and connection."""
        self.memory = StableMemory()
        self.vfs = StableVFS(self.memory, implicit_messages=False)
        self.log: AccessLog | None = None
        if recorded:
            self.accesses = 0
            self.log = self.memory.log = self.vfs.store.new_log()
            self.vfs.store.rebind()
        self.memory.begin("update")
        connection = apsw.Connection("main.db", vfs=self.vfs.name)
        if self.log is not None:
            # As the recorder does: a long log is made small while SQLite runs.
            connection.set_progress_handler(self.log.compact, VM_STEPS_BETWEEN_LOOKS)
        super().__init__(connection, cache_size)
        self.memory.commit()

    def close(self) -> None:
        """Close all three."""
        super().close()
        self.vfs.unregister()
        self.memory.close()

    def __enter__(self) -> Self:
        """Begin a message."""
        self.memory.begin("update")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Commit it, and take what was recorded, as a canister does after each message."""
        self.memory.commit()
        if self.log is not None:
            assert self.accesses is not None
            self.accesses += self.log.position()
            self.log.take()


class CanisterSubject:
    """A canister; all its messages are updates, on the connection that stays warm."""

    accesses: int | None = None

    def __init__(self, cache_size: int, *, depth: Depth) -> None:
        """Install it."""
        self.canister = Canister(cache_size=cache_size, depth=depth)

    def message(self) -> Message:
        """Return a new update message."""
        return self.canister.message("update")

    def close(self) -> None:
        """Close it."""
        self.canister.close()


def memdb(cache_size: int) -> PlainSubject:
    """Return a new database of SQLite's in-memory VFS."""
    name = f"file:/benchmark-{next(_MEMDB_NUMBERS)}?vfs=memdb"
    flags = apsw.SQLITE_OPEN_URI | apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
    return PlainSubject(apsw.Connection(name, flags=flags), cache_size)


def disk_file(folder: Path, cache_size: int) -> PlainSubject:
    """Return a new database in a file of ``folder``."""
    path = folder / "plain.db"
    path.unlink(missing_ok=True)
    return PlainSubject(apsw.Connection(str(path)), cache_size)


def makers(folder: Path) -> dict[str, Callable[[int], Subject]]:
    """Return what makes each subject for a cache size, in the order of the tables."""
    return {
        MEMDB: memdb,
        DISK_FILE: lambda cache_size: disk_file(folder, cache_size),
        UNRECORDED: lambda cache_size: StableSubject(cache_size, recorded=False),
        RECORDED: lambda cache_size: StableSubject(cache_size, recorded=True),
        CANISTER: lambda cache_size: CanisterSubject(cache_size, depth="pages"),
    }


MEMDB: Final = "memdb"
DISK_FILE: Final = "disk file"
UNRECORDED: Final = "unrecorded"
RECORDED: Final = "recorded"
CANISTER: Final = "canister"
