"""A database file in stable memory, shared by all connections that have it open.

**Invariants**

* The exact file size is known here during a session; stable memory itself only knows what is
  allocated. On opening it follows from the header (`file_size_bytes`).
* What is derived from the bytes (size, placement) is derived anew after each rollback.
* After a trap SQLite still plays back its own journal: those accesses see the bytes, change
  nothing, and are not counted.
* A message is open whenever SQLite moves bytes: the owner's own, or an implicit one, see
  `sqlstable.database.implicit`.
* The main database has the quick paths, and is logged by file offset. Attached ones go the slow
  path, and are logged by address.
"""

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from threading import get_ident
from typing import Final

import apsw

from sqlstable.database import hotpath
from sqlstable.database.doubt import CHANGED, Doubt, is_probe
from sqlstable.database.hotpath import Read, Source, Write
from sqlstable.database.implicit import Interceptor, Messages
from sqlstable.database.locks import NONE, RESERVED, Holder, LockTable
from sqlstable.database.quietfile import refuse_write
from sqlstable.database.settings import refuse_wal
from sqlstable.database.stablefile import StableFile, grow
from sqlstable.ic.units import OS_PAGE_BYTES
from sqlstable.layout.files import file_size_bytes
from sqlstable.layout.layout import SizeRecord
from sqlstable.layout.placement import Placement
from sqlstable.memory.accesslog import AccessLog
from sqlstable.memory.backing import Bytes
from sqlstable.sqlite.header import (
    HEADER_BYTES,
    ROLLBACK_VERSIONS,
    SCHEMA_COOKIE,
    VERSIONS_OFFSET,
    WAL_VERSION,
    states_size,
)

_NO_COOKIES: Final[frozenset[bytes]] = frozenset()

# SQLite asks twice for each commit, so the numbers are not looked up in a module each time.
_COMMIT_PHASETWO: Final = apsw.SQLITE_FCNTL_COMMIT_PHASETWO
_PRAGMA: Final = apsw.SQLITE_FCNTL_PRAGMA
_OVERWRITE: Final = apsw.SQLITE_FCNTL_OVERWRITE
_SYNC: Final = apsw.SQLITE_FCNTL_SYNC
_CONNECTION: Final = apsw.SQLITE_FCNTL_PDB


class DatabaseStore:
    """One database file: where it lies, how long it is, and who has it open.

    Args:
        messages: Of the stable memory.
        placement: Where the file lies.
        page_size: Bytes of a SQLite page; others work too, less quickly.
        is_main: Whether it is the main database; False for attached ones.
        record: What the layout keeps in front of it.
    """

    def __init__(
        self,
        messages: Messages,
        placement: Placement,
        *,
        page_size: int,
        is_main: bool = True,
        record: SizeRecord | None = None,
    ) -> None:
        """Look at the file; nothing is written.

        Raises:
            ImageError: What lies there is not a whole database.
        """
        self.messages = messages
        self.memory = messages.memory
        self.placement = placement
        self.page_size = page_size
        self.is_main = is_main
        self.record = record
        self.locks = LockTable()
        self.files: list[DatabaseFile] = []
        self.journal: StableFile | None = None
        "Its journal in stable memory, once it has been opened."
        self.is_page_size_stale = False
        "Whether the SQLite pages of the file may have another size now, as VACUUM can make it."
        self._cookies = self._past_cookies = _NO_COOKIES
        "What told the version of the schema in this message, and in the one that has just ended."
        self._unstated_bytes: int | None = None
        self.known_size = self._derived_size()
        self._paths = self._new_paths()
        self._publish_map()
        messages.stores.append(self)

    # -- the file -------------------------------------------------------------------------------

    @property
    def size_bytes(self) -> int:
        """Exact size of the file."""
        return self._paths.get_size()

    @property
    def states_size(self) -> bool:
        """Whether the header says how long the file is, or there is none."""
        return not self.size_bytes or states_size(self.peek(HEADER_BYTES, 0))

    def adopt_size(self, size_bytes: int) -> None:
        """Know from now on how long a file is whose header does not say."""
        self._unstated_bytes = size_bytes
        self.set_size(size_bytes)

    def set_size(self, size_bytes: int) -> None:
        """Make the file this long; bytes beyond stay where they are, as in a canister."""
        self._paths.set_size(size_bytes)

    def peek(self, amount: int, offset: int) -> bytes:
        """Return bytes as they are now, unrecorded; fewer at the end of the file."""
        return self._peek_within(amount, offset, self.size_bytes)

    def peek_before(self, amount: int, offset: int) -> bytes:
        """Return bytes as they were when the open message began, unrecorded."""
        return self.memory.peek_before(self.placement.map.address(offset), amount)

    def settle(self, size_bytes: int, *, is_whole: bool = False) -> None:
        """Make what the layout keeps in front of the file true of it; see `SizeRecord.settle`."""
        if self.record is not None:
            self.messages.intercept("write")
            self.record.settle(size_bytes, is_whole=is_whole)

    def write_direct(self, data: Bytes, offset: int) -> None:
        """Write into the allocated part, whatever the file's size; for importing."""
        view = memoryview(data)
        for address, count in self.placement.map.pieces(offset, len(data)):
            self.memory.access_write(address, view[:count], offset)
            view = view[count:]
            offset += count

    # -- recording ------------------------------------------------------------------------------

    def new_log(self) -> AccessLog:
        """Return a log that understands this file's offsets."""
        return AccessLog(self.page_size, self.placement.map.translate)

    def rebind(self) -> None:
        """Make the hot path anew, after anything it depends on has changed."""
        self.known_size = self.size_bytes
        self._paths = self._new_paths()
        self._publish_map()
        for file in self.files:
            if not file.is_dead:
                self.bind(file)

    # -- opening and closing --------------------------------------------------------------------

    def open(self, *, own_locks: bool) -> "DatabaseFile":
        """Return a new handle on the file; an unrecorded one is that until it is bound again."""
        with self.messages.turn:
            if not self.files and self.memory.kind is None:
                # Nobody is in the middle of anything: what was begun and never had a header is
                # gone.
                self.set_size(self._derived_size())
            file = (SharedFile if own_locks else DatabaseFile)(self)
            file.is_probe_free = self.messages.is_probe_free
            self.files.append(file)
            self.messages.open_count += 1
            self.bind(file)
            return file

    def forget(self, file: "DatabaseFile") -> None:
        """Take a closed handle off the list; the last one ends an implicit message."""
        with self.messages.turn:
            self.files.remove(file)
            self.locks.unlock(file, NONE)
            # The functions close over the file: without them it goes at once, not with the next
            # garbage collection.
            file.xRead, file.xWrite = _closed_read, refuse_write
            self.messages.on_close()

    def is_writer_dead(self) -> bool:
        """Whether the connection that writes has lost its message; nobody else writes then."""
        return any(file.is_dead and self.locks.level(file) >= RESERVED for file in self.files)

    def has_live_journal(self) -> bool:
        """Whether the journal that is there belongs to somebody, and is not to be played back."""
        return self.journal is not None and self.journal.exists and self.journal.handle_count > 0

    def close(self) -> None:
        """Hold nothing of the memory any more."""
        self.known_size = self.size_bytes
        self.journal = None
        # The quick paths hold views, which would keep a closed memory until a garbage collection.
        self._paths = hotpath.closed_paths(self.known_size)

    # -- what the memory tells ------------------------------------------------------------------

    def on_begin(self) -> None:
        """Give the files their quick paths."""
        for file in self.files:
            self._bind_active(file)

    def on_trap(self) -> None:
        """Let SQLite's own rollback run into the void."""
        for file in self.files:
            self._kill(file)

    def on_rollback(self) -> None:
        """Derive everything anew, and make every connection drop its cache."""
        self.is_page_size_stale = False
        self.known_size = self._derived_size()
        self._paths = self._new_paths()
        past, self._past_cookies = self._past_cookies, _NO_COOKIES
        was_schema_changed = bool(past) and past != {self._cookie()}
        for file in self.files:
            file.doubt.on_rollback(is_schema_old=was_schema_changed)
            if self.locks.is_held_by(file):
                # In the middle of an SQL transaction its cache holds what is gone.
                self._kill(file)
            else:
                self._revive(file)

    def begin_locked(self, file: "DatabaseFile") -> None:
        """Begin the implicit message of who has just got a lock; without it the lock goes again."""
        try:
            self.messages.enter()
        except BaseException:
            self.locks.unlock(file, NONE)
            raise

    def on_unlock(self, file: "DatabaseFile") -> None:
        """End the implicit message, unless somebody is writing, and revive the file."""
        try:
            self.messages.on_unlock(file)
        finally:
            if file.is_dead and self.memory.trap is None:
                self._revive(file)

    def on_commit(self) -> None:
        """Note that a connection has committed inside the message of the memory's owner."""
        self._cookies |= {self._cookie()}

    def on_end(self) -> None:
        """Wait for the next implicit message."""
        self._past_cookies, self._cookies = self._cookies, _NO_COOKIES
        for file in self.files:
            if not file.is_dead:
                self.bind(file)

    # -- the slow path --------------------------------------------------------------------------

    def _slow_read(self, file: "DatabaseFile", amount: int, offset: int) -> Bytes:
        """Read any length anywhere; what lies beyond the end is cut off."""
        if is_probe(amount, offset):
            if file.doubt.is_cache_old:
                file.doubt.is_cache_old = False
                return CHANGED
            if file.is_probe_free:
                return self.peek(amount, offset)
        size = self.size_bytes
        if offset >= size:
            return b""
        length = min(amount, size - offset)
        if amount == HEADER_BYTES and not self.locks.is_held_by(file):
            return self._first_look(file, amount, offset, length)
        return self._read(length, offset)

    def _slow_write(self, data: Bytes, offset: int) -> None:
        """Write any length anywhere, growing the file and its memory as needed."""
        end = offset + len(data)
        if offset == 0 and len(data) != self.page_size:
            self.is_page_size_stale = True
        if end > self.placement.allocated_bytes:
            self._grow(end)
        address = self.placement.map.address(offset)
        log = self.memory.log
        if not self.is_main:
            self.memory.access_write(address, data)
        elif log is None or len(data) != self.page_size or offset % self.page_size:
            self.memory.access_write(address, data, offset)
        else:
            self.memory.touch_write(address, data)
            log.append(~offset)
        if end > self.size_bytes:
            self.set_size(end)

    def _first_write_of_part(self, os_page: int) -> None:
        """Mark an OS page as dirty of which SQLite writes only a part, keeping the rest."""
        memory = self.memory
        memory.first_write(os_page)
        start = os_page * OS_PAGE_BYTES
        memory.staging.write(start, memory.backing.read(start, OS_PAGE_BYTES))

    # -- inside ---------------------------------------------------------------------------------

    def _first_look(self, file: "DatabaseFile", amount: int, offset: int, length: int) -> Bytes:
        """Read the header on opening, which SQLite does without a lock."""
        messages = self.messages
        with messages.turn:
            messages.wait_for_others()
            if messages.is_idle:
                # The message that was open when the file was bound is over.
                return file.xRead(amount, offset)
            return self._read(length, offset)

    def _read(self, length: int, offset: int) -> Bytes:
        address = self.placement.map.address(offset)
        if not self.is_main:
            return self.memory.access_read(address, length)
        log = self.memory.log
        if log is None or length != self.page_size or offset % length:
            return self.memory.access_read(address, length, offset)
        data = self.memory.touch_read(address, length)
        log.append(offset)
        return data

    def _cookie(self) -> bytes:
        return self.peek(HEADER_BYTES, 0)[SCHEMA_COOKIE]

    def _new_paths(self) -> hotpath.Paths:
        source = Source(
            self.memory,
            self.placement,
            self.page_size,
            self.known_size,
            self._slow_write,
            self._first_write_of_part,
        )
        return hotpath.make_paths(source) if self.is_main else hotpath.slow_paths(source)

    def bind(self, file: "DatabaseFile") -> None:
        """Give a file the paths that it needs now."""
        if self.messages.is_unrecorded:
            file.xRead, file.xWrite = self.peek, refuse_write
            file.xFileSize = file.doubt.size(self._get_size)
        elif self.messages.implicit and self.memory.kind is None:
            file.xRead, file.xWrite = _idle_paths(self.messages, file)
            file.xFileSize = file.doubt.size(self._get_size)
        else:
            self._bind_active(file)

    def _bind_active(self, file: "DatabaseFile") -> None:
        paths = self._paths
        read, write = paths.read_of(partial(self._slow_read, file)), paths.write
        file.xFileSize = paths.get_size
        if file.doubt.is_schema_old:
            read, write = file.doubt.paths(read, write)
            file.xFileSize = file.doubt.size(paths.get_size)
        if self.messages.interceptor is not None:
            read, write = _intercepted(file, read, write, self.messages.interceptor)
        file.xRead, file.xWrite = read, write

    def _get_size(self) -> int:
        return self._paths.get_size()

    def _kill(self, file: "DatabaseFile") -> None:
        file.xRead, file.xWrite, file.is_dead = self._dead_read, _ignore_write, True
        file.xFileSize = file.doubt.size(self._get_size)

    def _revive(self, file: "DatabaseFile") -> None:
        file.is_dead = False
        self.bind(file)

    def _dead_read(self, amount: int, offset: int) -> Bytes:
        """After a trap: the bytes as the rollback will leave them."""
        length = max(min(amount, self.placement.allocated_bytes - offset), 0)
        return (
            self.memory.backing.read(self.placement.map.address(offset), length) if length else b""
        )

    def _grow(self, size_bytes: int) -> None:
        old_origin = self.placement.map.origin
        grow(self.messages, self.placement, size_bytes, "the database")
        if self.placement.map.origin != old_origin or self.size_bytes == 0:
            # The file has just got its first piece, or has come apart.
            self.rebind()
        else:
            self.set_size(self.size_bytes)
            self._publish_map()

    def _publish_map(self) -> None:
        """Tell the log where offsets lie.

        Not done after a rollback: the log still holds accesses to what was grown and is gone.
        """
        if self.is_main and self.memory.log is not None:
            self.memory.log.translate = self.placement.map.translate

    def _derived_size(self) -> int:
        allocated = self.placement.allocated_bytes
        if self.record is not None:
            allocated = min(allocated, self.record.size_bytes())
        first_bytes = self._peek_within(HEADER_BYTES, 0, allocated)
        size_bytes = file_size_bytes(first_bytes, allocated)
        if size_bytes and self._unstated_bytes is not None and not states_size(first_bytes):
            return self._unstated_bytes
        return size_bytes

    def _peek_within(self, amount: int, offset: int, size: int) -> bytes:
        length = min(amount, size - offset)
        if length <= 0:
            return b""
        return self.memory.peek(self.placement.map.address(offset), length)


class DatabaseFile(Holder):
    """What SQLite holds when it has opened the database file.

    ``xRead``, ``xWrite`` and ``xFileSize`` are set by the store, which changes them as messages
    come and go: SQLite asks for all three with every message.
    """

    xRead: Read
    xWrite: Write
    xFileSize: Callable[[], int]

    def __init__(self, store: DatabaseStore) -> None:
        """Make a handle; the store binds it."""
        self._store = store
        self.doubt = Doubt()
        self.is_probe_free = False
        "Whether that look is an artefact of the simulation, and not to be counted."
        self.on_pragma: Callable[[apsw.VFSFcntlPragma], bool] | None = None
        "Is told of each PRAGMA of this database before SQLite obeys, and may refuse or answer it."

    @property
    def is_locked(self) -> bool:
        """Whether the connection holds a lock on the file."""
        return self._store.locks.is_held_by(self)

    @contextmanager
    def unrecorded(self) -> Iterator[None]:
        """Let the connection read without marks, limits or log; its writes are refused."""
        messages = self._store.messages
        try:
            with messages.unrecorded():
                for one in self.siblings():
                    one.bind()
                yield
        finally:
            # Also those that were opened meanwhile.
            for one in self.siblings():
                one.bind()

    def siblings(self) -> "list[DatabaseFile]":
        """Return the database files of the same connection, itself among them."""
        stores = self._store.messages.stores
        if len(stores) == 1:
            return [self]
        return [
            one
            for store in stores
            if isinstance(store, DatabaseStore)
            for one in store.files
            if one is self or one.connection_id == self.connection_id
        ]

    def bind(self) -> None:
        """Read and write as the store has it."""
        if not self.is_dead:
            self._store.bind(self)

    def xTruncate(self, new_size: int) -> None:
        """Shorten the file; the memory keeps its size, as in a canister."""
        if self.is_dead:
            return
        self._store.messages.intercept("truncate")
        self._store.set_size(new_size)

    def xLock(self, level: int) -> None:
        """Look whose message is open: whoever begins messages has an order of its own.

        Raises:
            MessageError: It is another thread's.
        """
        memory = self._store.memory
        if memory.kind is not None and memory.thread != get_ident():
            self._store.messages.check_thread()

    def xCheckReservedLock(self) -> bool:
        """Whether any connection holds RESERVED or more."""
        return self._store.has_live_journal()

    def xFileControl(self, op: int, pointer: int) -> bool:
        """Learn of the two steps of an SQL commit, and whose file this is; refuse WAL."""
        store = self._store
        if op == _COMMIT_PHASETWO:
            if store.record is not None and not self.is_dead:
                store.settle(store.size_bytes)
            store.messages.on_commit(self)
        elif op == _SYNC:
            store.messages.on_sync(self)
            if not self.is_dead:
                _leave_wal(store)
        elif op == _PRAGMA:
            pragma = apsw.VFSFcntlPragma(pointer)
            refuse_wal(pragma)
            if self.on_pragma is not None:
                return self.on_pragma(pragma)
        elif op == _OVERWRITE:
            store.is_page_size_stale = True
        elif op == _CONNECTION:
            # A pointer to the variable that holds the connection's address.
            self.connection_id = ctypes.c_void_p.from_address(pointer).value
        return False

    def xClose(self) -> None:
        """Give the handle back."""
        self._store.forget(self)


class SharedFile(DatabaseFile):
    """A file whose connections have SQLite's locks among them, and implicit messages."""

    def xLock(self, level: int) -> None:
        """Take a lock among the connections of this file.

        Raises:
            apsw.BusyError: Another connection's lock stands against it, another connection is
                writing to another file of the memory, or a message of another thread is open.
        """
        store = self._store
        with store.messages.locking():
            if level >= RESERVED:
                store.messages.check_writer(store, self)
            is_first = not self.is_locked
            store.locks.lock(self, level)
            if is_first:
                store.messages.note_lock()
                # Now, not at the first byte: between the two another thread's could begin.
                store.begin_locked(self)

    def xUnlock(self, level: int) -> None:
        """Give a lock back; the last one ends an implicit message."""
        # SQLite also does so after a lock that it did not get, and waits for nobody's turn then.
        if self.is_locked:
            with self._store.messages.turn:
                self._store.locks.unlock(self, level)
                if level == NONE:
                    self._store.on_unlock(self)

    def xCheckReservedLock(self) -> bool:
        """Whether any connection holds RESERVED or more."""
        with self._store.messages.turn:
            return self._store.locks.is_reserved()


def _leave_wal(store: DatabaseStore) -> None:
    """Put a database in rollback mode that a backup from one in WAL mode has written.

    The mode is in the header, which a backup copies. Nothing but the two bytes tells, and the
    OS page is dirty already: the backup has written it.
    """
    if WAL_VERSION in store.peek(len(ROLLBACK_VERSIONS), VERSIONS_OFFSET):
        address = store.placement.map.address(VERSIONS_OFFSET)
        store.memory.staging.write(address, ROLLBACK_VERSIONS)
        for file in store.files:
            file.doubt.is_cache_old = True


def _idle_paths(messages: Messages, file: DatabaseFile) -> tuple[Read, Write]:
    """Return functions that begin an implicit message with the first byte that moves.

    Once it has begun, the store has given the file others, which these two call.
    """

    def xRead(amount: int, offset: int) -> Bytes:
        messages.begin()
        try:
            return file.xRead(amount, offset)
        finally:
            # On opening the header is read without a lock, and so with no unlock to come. But
            # the last unlock of another thread may have come, and a message of its own.
            with messages.turn:
                if not file.is_locked and not messages.is_others():
                    messages.end()

    def xWrite(data: Bytes, offset: int) -> None:
        messages.begin()
        file.xWrite(data, offset)

    return xRead, xWrite


def _intercepted(
    file: DatabaseFile, read: Read, write: Write, interceptor: Interceptor
) -> tuple[Read, Write]:
    def xRead(amount: int, offset: int) -> Bytes:
        if not is_probe(amount, offset) or not (file.doubt.is_cache_old or file.is_probe_free):
            interceptor("read")
        return read(amount, offset)

    def xWrite(data: Bytes, offset: int) -> None:
        interceptor("write")
        write(data, offset)

    return xRead, xWrite


def _ignore_write(data: Bytes, offset: int) -> None:
    """Take SQLite's rollback after a trap: the memory rolls back by itself."""


def _closed_read(amount: int, offset: int) -> Bytes:
    raise apsw.IOError("the database file is closed")
