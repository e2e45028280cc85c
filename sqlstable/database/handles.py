"""What SQLite holds of an open database file: the calls that come and go with locks and commits.

Reading and writing are not here: the store gives each handle the functions that it needs just now.
"""

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import get_ident
from typing import Final

import apsw

from sqlstable.database.locks import NONE, RESERVED
from sqlstable.database.openfile import OpenFile
from sqlstable.database.settings import refuse_wal
from sqlstable.database.store import DatabaseStore
from sqlstable.ic.units import OS_PAGE_SHIFT
from sqlstable.memory.bytemap import DIRTY
from sqlstable.sqlite.header import ROLLBACK_VERSIONS, VERSIONS_OFFSET, WAL_VERSION

# SQLite asks twice for each commit, so the numbers are not looked up in a module each time.
_COMMIT_PHASETWO: Final = apsw.SQLITE_FCNTL_COMMIT_PHASETWO
_PRAGMA: Final = apsw.SQLITE_FCNTL_PRAGMA
_OVERWRITE: Final = apsw.SQLITE_FCNTL_OVERWRITE
_SYNC: Final = apsw.SQLITE_FCNTL_SYNC
_CONNECTION: Final = apsw.SQLITE_FCNTL_PDB


class DatabaseFile(OpenFile):
    """What SQLite holds when it has opened the database file; whoever makes it opens the file."""

    def __init__(self, store: DatabaseStore) -> None:
        super().__init__()
        self._store = store
        self.on_pragma: Callable[[apsw.VFSFcntlPragma], bool] | None = None
        "Is told of each PRAGMA of this database before SQLite obeys, and may refuse or answer it."
        store.open(self)

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
                    one.rebind()
                yield
        finally:
            # Also those that were opened meanwhile.
            for one in self.siblings():
                one.rebind()

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
            if isinstance(one, DatabaseFile)
            if one is self or one.connection_id == self.connection_id
        ]

    def lose(self) -> None:
        """Have lost the heap in the middle of an SQL transaction, which nobody rolls back then."""
        self._store.lose(self)

    def rebind(self) -> None:
        """Read and write as the store has it now."""
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
                try:
                    # Now, not at the first byte: between the two another thread's could begin.
                    store.messages.enter()
                except BaseException:
                    store.locks.unlock(self, NONE)
                    raise

    def xUnlock(self, level: int) -> None:
        """Give a lock back; the last one ends an implicit message."""
        # SQLite also does so after a lock that it did not get, and waits for nobody's turn then.
        if not self.is_locked:
            return
        store = self._store
        with store.messages.turn:
            store.locks.unlock(self, level)
            if level != NONE:
                return
            try:
                store.messages.on_unlock(self)
            finally:
                if self.is_dead and store.memory.trap is None:
                    # The SQL transaction that had lost its message is over, and with it its cache.
                    store.revive(self)

    def xCheckReservedLock(self) -> bool:
        """Whether any connection holds RESERVED or more."""
        with self._store.messages.turn:
            return self._store.locks.is_reserved()


def _leave_wal(store: DatabaseStore) -> None:
    """Put a database in rollback mode that a backup from one in WAL mode has written.

    The mode is in the header, which a backup copies. Nothing but the two bytes tells, and they lie
    in a dirty OS page then: under an exclusive lock most commits leave the header alone.
    """
    memory = store.memory
    address = store.placement.map.address(VERSIONS_OFFSET)
    if memory.store.bytemap.mark(address >> OS_PAGE_SHIFT) != DIRTY:
        return
    if WAL_VERSION in store.peek(len(ROLLBACK_VERSIONS), VERSIONS_OFFSET):
        memory.staging.write(address, ROLLBACK_VERSIONS)
        for file in store.files:
            file.doubt.is_cache_old = True
