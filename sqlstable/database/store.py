"""The database file in stable memory, shared by all connections that have it open.

**Invariants**

* The exact file size is known here during a session; stable memory itself only knows what is
  allocated. On opening it follows from the header (`file_size_bytes`).
* What is derived from the bytes (size, placement) is derived anew after each rollback.
* After a trap SQLite still plays back its own journal: those accesses see the bytes, change
  nothing, and are not counted.
* A message is open whenever SQLite moves bytes: the owner's own, or an implicit one per SQL
  transaction.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import apsw

from sqlstable.database import hotpath
from sqlstable.database.header import (
    CHANGE_COUNTER_BYTES,
    CHANGE_COUNTER_OFFSET,
    HEADER_BYTES,
    file_size_bytes,
)
from sqlstable.database.heapfile import HeapFile
from sqlstable.database.hotpath import Read, Write
from sqlstable.database.locks import NONE, LockTable
from sqlstable.database.placement import Placement
from sqlstable.errors import MessageError, Trap
from sqlstable.ic.units import OS_PAGE_BYTES
from sqlstable.memory.accesslog import AccessLog
from sqlstable.memory.backing import Bytes
from sqlstable.memory.stable import StableMemory

CHANGED: Final = b"\xff" * CHANGE_COUNTER_BYTES
"""A change counter that no database has: it makes SQLite drop its cache."""

# SQLite asks twice for each commit, so the numbers are not looked up in a module each time.
_COMMIT_PHASETWO: Final = apsw.SQLITE_FCNTL_COMMIT_PHASETWO
_PRAGMA: Final = apsw.SQLITE_FCNTL_PRAGMA
_OVERWRITE: Final = apsw.SQLITE_FCNTL_OVERWRITE

Interceptor = Callable[[str], None]
"""Is told "read", "write", "truncate" or "grow" before each; what it raises, the access raises."""


class DatabaseStore:
    """One database file: where it lies, how long it is, and who has it open.

    Args:
        memory: The stable memory.
        placement: Where the file lies.
        page_size: Bytes of a SQLite page; others work too, less quickly.
        implicit_messages: Whether SQL transactions outside of a message make one by themselves.
            Without it the owner promises to have one open.
    """

    def __init__(
        self,
        memory: StableMemory,
        placement: Placement,
        *,
        page_size: int,
        implicit_messages: bool,
    ) -> None:
        """Look at the file; nothing is written.

        Raises:
            ImageError: What lies there is not a whole database.
        """
        self.memory = memory
        self.placement = placement
        self.page_size = page_size
        self.implicit_messages = implicit_messages
        self.locks = LockTable()
        self.files: list[DatabaseFile] = []
        self.journals: dict[str, HeapFile] = {}
        "The journals that exist, by name; they are gone after a rollback, which needs none."
        self.interceptor: Interceptor | None = None
        self.is_page_size_stale = False
        "Whether the SQLite pages of the file may have another size now, as VACUUM can make it."
        self.position_after_commit = 0
        "Position in the log at which the last SQL commit was complete."
        self._implicit_open = False
        self.known_size = self._derived_size()
        self._paths = hotpath.make_paths(self)
        self._publish_map()
        memory.watchers.append(self)

    # -- the file -------------------------------------------------------------------------------

    @property
    def size_bytes(self) -> int:
        """Exact size of the file."""
        return self._paths.get_size()

    def set_size(self, size_bytes: int) -> None:
        """Make the file this long; bytes beyond stay where they are, as in a canister."""
        self._paths.set_size(size_bytes)

    def peek(self, amount: int, offset: int) -> bytes:
        """Return bytes as they are now, unrecorded; fewer at the end of the file."""
        return self._peek_within(amount, offset, self.size_bytes)

    def write_direct(self, data: Bytes, offset: int) -> None:
        """Write into the allocated part, whatever the file's size; for importing."""
        piece_bytes = self.placement.map.bucket_bytes
        view = memoryview(data)
        done = 0
        while done < len(data):
            count = min(len(data) - done, piece_bytes - (offset + done) % piece_bytes)
            address = self.placement.map.address(offset + done)
            self.memory.access_write(address, view[done : done + count], offset + done)
            done += count

    # -- recording ------------------------------------------------------------------------------

    def new_log(self) -> AccessLog:
        """Return a log that understands this file's offsets."""
        return AccessLog(self.page_size, self.placement.map.translate)

    def rebind(self) -> None:
        """Make the hot path anew, after anything it depends on has changed."""
        self.known_size = self.size_bytes
        self._paths = hotpath.make_paths(self)
        self._publish_map()
        for file in self.files:
            if not file.is_dead:
                self._bind(file)

    @contextmanager
    def unrecorded(self, file: "DatabaseFile") -> Iterator[None]:
        """Let one file read without marks, limits or log; its writes are refused."""
        file.xRead, file.xWrite = self.peek, _refuse_write
        try:
            yield
        finally:
            self._bind(file)

    # -- opening and closing --------------------------------------------------------------------

    def open(self, *, own_locks: bool, is_unrecorded: bool = False) -> "DatabaseFile":
        """Return a new handle on the file; an unrecorded one until it is bound again."""
        if not self.files and self.memory.kind is None:
            # Nobody is in the middle of anything: what was begun and never had a header is gone.
            self.set_size(self._derived_size())
        file = DatabaseFile(self, own_locks=own_locks)
        self.files.append(file)
        if is_unrecorded:
            file.xRead, file.xWrite = self.peek, _refuse_write
        else:
            self._bind(file)
        return file

    def forget(self, file: "DatabaseFile") -> None:
        """Take a closed handle off the list; the last one ends an implicit message."""
        self.files.remove(file)
        self.locks.unlock(file, NONE)
        # The functions close over the file: without them it goes at once, not with the next
        # garbage collection.
        file.xRead, file.xWrite = _closed_read, _refuse_write
        if not self.files:
            self.end_implicit()

    def close(self) -> None:
        """Stop watching the memory, and hold none of it any more."""
        if self in self.memory.watchers:
            self.memory.watchers.remove(self)
        self.known_size = self.size_bytes
        # The quick paths hold views, which would keep a closed memory until a garbage collection.
        self._paths = hotpath.slow_paths(self)

    # -- implicit messages ----------------------------------------------------------------------

    def end_implicit(self) -> None:
        """Commit the implicit message, if one is open, or roll it back if it trapped."""
        if not self._implicit_open:
            return
        self._implicit_open = False
        if self.memory.trap is not None:
            self.memory.rollback()
        else:
            self.memory.commit()

    def end_transaction(self) -> None:
        """Note where an SQL commit is complete, and end the implicit message."""
        log = self.memory.log
        if log is not None:
            self.position_after_commit = log.position()
        if self._implicit_open:
            self.end_implicit()

    def _begin_implicit(self) -> None:
        if self.memory.kind is None:
            self.memory.begin("update")
            self._implicit_open = True
        for file in self.files:
            self._bind_active(file)

    # -- what the memory tells ------------------------------------------------------------------

    def on_trap(self) -> None:
        """Let SQLite's own rollback run into the void."""
        for file in self.files:
            self._kill(file)

    def on_rollback(self) -> None:
        """Derive everything anew, and make every connection drop its cache."""
        self._implicit_open = self.is_page_size_stale = False
        self.journals.clear()
        self.placement.reload()
        self.known_size = self._derived_size()
        self._paths = hotpath.make_paths(self)
        for file in self.files:
            file.is_stale = True
            if self.locks.is_held_by(file):
                # In the middle of an SQL transaction its cache holds what is gone.
                self._kill(file)
            else:
                self._revive(file)

    def on_unlock(self, file: "DatabaseFile") -> None:
        """End the implicit message, unless it is another connection's, and revive the file."""
        if not self.locks.is_reserved():
            self.end_implicit()
        if file.is_dead and self.memory.trap is None:
            self._revive(file)

    def on_commit(self, file: "DatabaseFile") -> None:
        """End the implicit message; SQLite has written everything.

        Raises:
            Trap: The message had trapped before.
            MessageError: The message was rolled back under the SQL transaction.
        """
        if not file.is_dead:
            self.end_transaction()
            return
        if not self.implicit_messages:
            # The message's owner raises the trap when it ends.
            return
        if self.memory.trap is not None:
            raise self.memory.trap
        msg = (
            "the message was rolled back under this SQL transaction, which cannot commit: "
            "ROLLBACK it; or, under locking_mode exclusive, close the connection"
        )
        raise MessageError(msg)

    def on_end(self) -> None:
        """Wait for the next message, where messages are implicit."""
        if self.implicit_messages:
            self._implicit_open = False
            for file in self.files:
                if not file.is_dead:
                    self._bind(file)

    # -- the slow path --------------------------------------------------------------------------

    def slow_read(self, file: "DatabaseFile", amount: int, offset: int) -> Bytes:
        """Read any length anywhere; what lies beyond the end is cut off."""
        size = self.size_bytes
        if offset == CHANGE_COUNTER_OFFSET and amount == CHANGE_COUNTER_BYTES:
            if file.is_stale:
                file.is_stale = False
                return CHANGED
            if file.is_probe_free:
                return self.peek(amount, offset)
        if offset >= size:
            return b""
        length = min(amount, size - offset)
        address = self.placement.map.address(offset)
        log = self.memory.log
        if log is None or length != self.page_size or offset % length:
            return self.memory.access_read(address, length, offset)
        data = self.memory.touch_read(address, length)
        log.append(offset)
        return data

    def slow_write(self, data: Bytes, offset: int) -> None:
        """Write any length anywhere, growing the file and its memory as needed."""
        end = offset + len(data)
        if offset == 0 and len(data) != self.page_size:
            self.is_page_size_stale = True
        if end > self.placement.allocated_bytes:
            self._grow(end)
        address = self.placement.map.address(offset)
        log = self.memory.log
        if log is None or len(data) != self.page_size or offset % self.page_size:
            self.memory.access_write(address, data, offset)
        else:
            self.memory.touch_write(address, data)
            log.append(~offset)
        if end > self.size_bytes:
            self.set_size(end)

    def first_write_of_part(self, os_page: int) -> None:
        """Mark an OS page as dirty of which SQLite writes only a part, keeping the rest."""
        memory = self.memory
        memory.first_write(os_page)
        start = os_page * OS_PAGE_BYTES
        memory.staging.write(start, memory.backing.read(start, OS_PAGE_BYTES))

    # -- inside ---------------------------------------------------------------------------------

    def _bind(self, file: "DatabaseFile") -> None:
        if self.implicit_messages and self.memory.kind is None:
            file.xRead, file.xWrite = self._idle_paths(file)
        else:
            self._bind_active(file)

    def _bind_active(self, file: "DatabaseFile") -> None:
        file.xRead, file.xWrite = self._paths.read_of(file), self._paths.write
        if self.interceptor is not None:
            _intercept(file, self.interceptor)

    def _idle_paths(self, file: "DatabaseFile") -> tuple[Read, Write]:
        def xRead(amount: int, offset: int) -> Bytes:
            self._begin_implicit()
            try:
                return file.xRead(amount, offset)
            finally:
                # On opening the header is read without a lock, and so with no unlock to come.
                if not self.locks.is_held_by(file):
                    self.end_implicit()

        def xWrite(data: Bytes, offset: int) -> None:
            self._begin_implicit()
            file.xWrite(data, offset)

        return xRead, xWrite

    def _kill(self, file: "DatabaseFile") -> None:
        file.xRead, file.xWrite, file.is_dead = self._dead_read, _ignore_write, True

    def _revive(self, file: "DatabaseFile") -> None:
        file.is_dead = False
        self._bind(file)

    def _dead_read(self, amount: int, offset: int) -> Bytes:
        """After a trap: the bytes as the rollback will leave them."""
        length = min(amount, self.placement.allocated_bytes - offset)
        if length <= 0:
            return b""
        return self.memory.backing.read(self.placement.map.address(offset), length)

    def _grow(self, size_bytes: int) -> None:
        if self.interceptor is not None:
            self.interceptor("grow")
        old_map = self.placement.map
        try:
            grown = self.placement.grow_to(size_bytes)
        except Trap as trap:
            raise self.memory.poison(trap) from None
        if not grown:
            msg = (
                f"stable memory is full: the database needs {size_bytes} bytes and "
                f"{self.placement.allocated_bytes} are allocated; delete data and VACUUM, use "
                "larger buckets, or split the data over several canisters"
            )
            raise apsw.FullError(msg)
        if self.placement.map.origin != old_map.origin or self.size_bytes == 0:
            # The file has just got its first piece, or has come apart.
            self.rebind()
        else:
            self.set_size(self.size_bytes)
            self._publish_map()

    def _publish_map(self) -> None:
        """Tell the log where offsets lie.

        Not done after a rollback: the log still holds accesses to what was grown and is gone.
        """
        if self.memory.log is not None:
            self.memory.log.translate = self.placement.map.translate

    def _derived_size(self) -> int:
        allocated = self.placement.allocated_bytes
        first_bytes = self._peek_within(HEADER_BYTES, 0, allocated)
        return file_size_bytes(first_bytes, allocated)

    def _peek_within(self, amount: int, offset: int, size: int) -> bytes:
        length = min(amount, size - offset)
        if length <= 0:
            return b""
        return self.memory.peek(self.placement.map.address(offset), length)


class DatabaseFile:
    """What SQLite holds when it has opened the database file.

    ``xRead`` and ``xWrite`` are set by the store, which changes them as messages come and go.
    """

    xRead: Read
    xWrite: Write

    def __init__(self, store: DatabaseStore, *, own_locks: bool) -> None:
        """Make a handle; the store binds it."""
        self._store = store
        self._locks = store.locks if own_locks else None
        self.is_stale = False
        "Whether the next look at the change counter must make SQLite drop its cache."
        self.is_probe_free = False
        "Whether that look is an artefact of the simulation, and not to be counted."
        self.is_dead = False
        "Whether the message has trapped."

    def xTruncate(self, new_size: int) -> None:
        """Shorten the file; the memory keeps its size, as in a canister."""
        if self.is_dead:
            return
        if self._store.interceptor is not None:
            self._store.interceptor("truncate")
        self._store.set_size(new_size)

    def xFileSize(self) -> int:
        """Return the exact size; no stable memory is involved."""
        return self._store.size_bytes

    def xSync(self, flags: int) -> None:
        """Do nothing: the message commits, not the file."""

    def xLock(self, level: int) -> None:
        """Take a lock among the connections of this file."""
        if self._locks is not None:
            self._locks.lock(self, level)

    def xUnlock(self, level: int) -> None:
        """Give a lock back; the last one ends an implicit message."""
        if self._locks is not None:
            self._locks.unlock(self, level)
            if level == NONE:
                self._store.on_unlock(self)

    def xCheckReservedLock(self) -> bool:
        """Whether any connection holds RESERVED or more."""
        return self._locks is not None and self._locks.is_reserved()

    def xFileControl(self, op: int, pointer: int) -> bool:
        """Take the end of an SQL transaction as the end of an implicit message; refuse WAL."""
        if op == _COMMIT_PHASETWO:
            self._store.on_commit(self)
        elif op == _PRAGMA:
            _refuse_wal(apsw.VFSFcntlPragma(pointer))
        elif op == _OVERWRITE:
            self._store.is_page_size_stale = True
        return False

    def xSectorSize(self) -> int:
        """Return 512, so that no neighbour of a small SQLite page is ever written with it."""
        return 512

    def xDeviceCharacteristics(self) -> int:
        """Say, as SQLite's own files do, that a write never damages its neighbours."""
        return apsw.SQLITE_IOCAP_POWERSAFE_OVERWRITE

    def xClose(self) -> None:
        """Give the handle back."""
        self._store.forget(self)


class ObserverFile(DatabaseFile):
    """A handle that only looks: nothing it does is recorded, marked, limited, or locked."""

    def __init__(self, store: DatabaseStore) -> None:
        """Make the handle; it is not one of the store's files."""
        super().__init__(store, own_locks=False)
        self.xRead, self.xWrite = self._read, _refuse_write

    def _read(self, amount: int, offset: int) -> Bytes:
        if offset == CHANGE_COUNTER_OFFSET and amount == CHANGE_COUNTER_BYTES:
            # Writers under an exclusive lock leave the counter alone; always look again.
            return CHANGED
        return self._store.peek(amount, offset)

    def xCheckReservedLock(self) -> bool:
        """Say yes: a journal that is there belongs to somebody, and is not to be played back."""
        return True

    def xTruncate(self, new_size: int) -> None:
        """Refuse."""
        _refuse_write(b"", 0)

    def xFileControl(self, op: int, pointer: int) -> bool:
        """Leave messages alone."""
        return False

    def xClose(self) -> None:
        """Nothing to give back."""


def _intercept(file: DatabaseFile, interceptor: Interceptor) -> None:
    read, write = file.xRead, file.xWrite

    def xRead(amount: int, offset: int) -> Bytes:
        is_probe = offset == CHANGE_COUNTER_OFFSET and amount == CHANGE_COUNTER_BYTES
        if not is_probe or not (file.is_stale or file.is_probe_free):
            interceptor("read")
        return read(amount, offset)

    def xWrite(data: Bytes, offset: int) -> None:
        interceptor("write")
        write(data, offset)

    file.xRead, file.xWrite = xRead, xWrite


def _refuse_wal(pragma: apsw.VFSFcntlPragma) -> None:
    # Under an exclusive lock SQLite would write the mode into the database, which then needs a
    # second file to be opened ever again. It takes "w" for "wal", too.
    value = (pragma.value or "").lower()
    if pragma.name.lower() == "journal_mode" and value and "wal".startswith(value):
        pragma.result = (
            "WAL needs a file beside the database; choose journal_mode memory or off, which need "
            "none"
        )
        raise apsw.SQLError(pragma.result)


def _ignore_write(data: Bytes, offset: int) -> None:
    """Take SQLite's rollback after a trap: the memory rolls back by itself."""


def _closed_read(amount: int, offset: int) -> Bytes:
    msg = "the database file is closed"
    raise apsw.IOError(msg)


def _refuse_write(data: Bytes, offset: int) -> None:
    msg = "an observer of the database must not write to it"
    raise apsw.ReadOnlyError(msg)
