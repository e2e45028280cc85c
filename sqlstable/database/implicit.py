"""The open message of one memory, as all SQLite files in it see it.

A memory has one message at a time, and SQLite may have several files open in it: a main database,
attached ones, journals. Whoever uses connections without messages of their own gets an *implicit*
one per SQL transaction. It begins with the first byte that SQLite moves, and ends

* when the last of the databases that take part has committed. SQLite announces each of them once
  before (``SQLITE_FCNTL_SYNC``) and once when it is done (``SQLITE_FCNTL_COMMIT_PHASETWO``); in
  between all that the transaction wrote is still one message;
* when a connection gives up its last lock and nobody is writing: SQL ROLLBACK, or reading;
* when the last file is closed.

Under ``locking_mode=exclusive`` SQLite does not tell when it has done reading or rolling back:
such a message goes on until the next commit.

**Invariants**

* One connection at a time writes to a memory: what another one had spilled would be committed
  with it. A second writer is told that the database is busy, also where it wants another file.
* A message belongs to the thread that began it. It begins with the first lock at the latest, so
  whoever holds a lock has the message; another thread's lock is refused, and SQLite waits for it.
* Locks are looked at and changed, messages begin and end, and files are opened and closed in one
  thread at a time: each in its *turn*. Where the owner begins the messages it has its own
  order of threads, and there is no lock that an exception from outside could leave taken.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Condition, RLock, get_ident
from typing import Final, NoReturn, Protocol

import apsw

from sqlstable.database.heapfile import HeapFile
from sqlstable.database.locks import LockTable
from sqlstable.database.openfile import OpenFile
from sqlstable.errors import MessageError, Trap
from sqlstable.layout.layout import Opened
from sqlstable.memory.stable import StableMemory

_TURN_WAITED_S: Final = 0.05
"""How long a lock waits for the turn of another thread before SQLite's busy handler is asked."""

_WAITED_S: Final = 5.0
"""How long a look without a lock waits for the message of another thread, as SQLite would have it
wait for a lock; it has no busy handler there."""

Interceptor = Callable[[str], None]
"""Is told "read", "write", "truncate", "grow" or "delete" before each; what it raises, the access
raises."""


class Store(Protocol):
    """A database file, with those who have it open."""

    @property
    def locks(self) -> LockTable:
        """Who holds which lock."""
        ...

    def rebind(self) -> None:
        """Something that the quick paths depend on has changed."""
        ...

    def on_begin(self) -> None:
        """An implicit message has begun."""
        ...

    def on_commit(self) -> None:
        """An SQL transaction has committed inside the message of the memory's owner."""
        ...

    def on_trap(self) -> None:
        """The message has trapped."""
        ...

    def on_rollback(self, *, is_moved: bool) -> None:
        """The bytes went back, and files may lie elsewhere."""
        ...

    def on_end(self) -> None:
        """The message is over."""
        ...


class Messages:
    """Begins and ends implicit messages, and passes on what the memory tells.

    Args:
        memory: The stable memory.
        implicit: Whether SQL transactions outside of a message make one by themselves. Without
            it the owner promises to have one open.
    """

    opened: Opened
    "What the layout has derived from the bytes; whoever opens it sets it before anything else."

    def __init__(self, memory: StableMemory, *, implicit: bool) -> None:
        self.memory = memory
        self.implicit = implicit
        self.stores: list[Store] = []
        "The main database first."
        self.open_count = 0
        "Database files that are open."
        self.heap: dict[str, HeapFile] = {}
        "Super-journals, and journals where the layout has no place for them, by name."
        self.is_unrecorded = False
        "Whether files are bound, and journals are read, for looking only; see `unrecorded`."
        self.is_probe_free = False
        "Whether looks at the change counter are artefacts of the simulation, and not counted."
        self._interceptor: Interceptor | None = None
        self.position_after_commit = 0
        "Position in the log at which the last SQL commit was complete."
        self.position_at_lock = 0
        "Position in the log at which a connection that held no lock took its last one."
        self._is_open = False
        self._is_ours = False
        "Whether the memory's message is implicit: from before it begins until it has ended."
        lock = RLock()
        self.turn: RLock | _Unshared = lock if implicit else _Unshared()
        "Held by who looks at locks and message, or changes one of them."
        self._ended = Condition(lock)
        self._committing: set[OpenFile] = set()

    def disband(self) -> None:
        """Let go of everybody."""
        self.stores.clear()

    # -- before accesses ------------------------------------------------------------------------

    def enter(self) -> None:
        """Begin an implicit message where none is open."""
        if self.is_idle:
            self.begin()

    def begin(self) -> None:
        """Begin an implicit message, or join the one that is open; another thread's ends first.

        Raises:
            apsw.BusyError: It did not end in time.
            apsw.IOError: The files are nobody's any more.
            MessageError: It belongs to another thread, and is the owner's.
        """
        if not self.stores:
            raise apsw.IOError("the VFS is unregistered; close the connections on it before that")
        with self.turn:
            self.wait_for_others()
            if self.memory.kind is None:
                self._begin()
            # Also where it was open already: a file that was opened before still has the
            # functions that led here, and would come back for ever.
            for store in self.stores:
                store.on_begin()

    @contextmanager
    def unrecorded(self) -> Iterator[None]:
        """Have files that are opened or bound in a block look only: no marks, limits or log."""
        self.is_unrecorded = True
        try:
            yield
        finally:
            self.is_unrecorded = False

    def intercept(self, kind: str) -> None:
        """Tell the interceptor, if there is one, what is about to happen."""
        if self._interceptor is not None:
            self._interceptor(kind)

    @property
    def interceptor(self) -> Interceptor | None:
        """Is told of each access to any file of the memory."""
        return self._interceptor

    @interceptor.setter
    def interceptor(self, interceptor: Interceptor | None) -> None:
        self._interceptor = interceptor
        for store in self.stores:
            store.rebind()

    @property
    def is_read_only(self) -> bool:
        """Whether nothing can be written: the image takes queries only, and nobody undoes them.

        The owner of messages may write in a query, which is discarded as a whole.
        """
        image = self.memory.image_file
        return self.implicit and image is not None and image.is_read_only

    def note_lock(self) -> None:
        """Take note that a connection begins to look at a database."""
        log = self.memory.log
        if log is not None:
            self.position_at_lock = log.position()

    @property
    def is_idle(self) -> bool:
        """Whether the next byte that SQLite moves begins a message."""
        return self.implicit and self.memory.kind is None

    # -- locks ----------------------------------------------------------------------------------

    def check_thread(self) -> None:
        """Refuse to work inside a message that its owner has begun in another thread.

        Raises:
            MessageError: It is one.
        """
        # Without a turn: where messages have an owner there is none to wait for.
        if self.is_others():
            self._refuse_others()

    @contextmanager
    def locking(self) -> Iterator[None]:
        """Run a block in this thread's turn, with no message of another thread open.

        Raises:
            apsw.BusyError: It is another thread's turn, or its message is open, and worth waiting
                for.
            MessageError: Its message is one of the memory's owner.
        """
        # Not for long: a commit flushes, and whoever set no busy handler wants to know.
        if not self.turn.acquire(timeout=_TURN_WAITED_S):
            raise apsw.BusyError(
                "another thread is beginning or ending a message; wait until it has"
            )
        try:
            if self.is_others():
                self._refuse_others()
            yield
        finally:
            self.turn.release()

    def is_others(self) -> bool:
        """Whether a message of another thread is open."""
        memory = self.memory
        return memory.kind is not None and memory.thread != get_ident()

    def wait_for_others(self) -> None:
        """Wait until no message of another thread is open.

        Raises:
            apsw.BusyError: It did not end in time.
            MessageError: It is one of the memory's owner.
        """
        with self.turn:
            if self.is_others() and self._is_ours:
                self._ended.wait_for(lambda: not self.is_others(), _WAITED_S)
            if self.is_others():
                self._refuse_others()

    def _refuse_others(self) -> NoReturn:
        msg = (
            f"a message ({self.memory.kind}) of another thread is open, and a stable memory has "
            "one message at a time: wait until it has ended"
        )
        if self._is_ours:
            # SQLite asks the busy handler, and words the error itself.
            raise apsw.BusyError(msg)
        raise MessageError(msg)

    def check_writer(self, store: Store, handle: OpenFile) -> None:
        """Refuse a second writer in the memory, before it takes a lock to write.

        Raises:
            apsw.BusyError: Another connection is writing to another database.
        """
        if len(self.stores) == 1 or not (self._is_open or self.memory.kind is None):
            # In a message of the owner all stand or fall together anyway.
            return
        for other in self.stores:
            if other is not store and other.locks.is_reserved_by_others(handle.connection_id):
                raise apsw.BusyError(
                    "another connection is writing to another database of this stable memory, "
                    "whose messages commit all of it: end its transaction first"
                )

    # -- the ends -------------------------------------------------------------------------------

    def end(self) -> None:
        """Commit the implicit message, if one is open, or roll it back if it trapped.

        Raises:
            Trap: It could not be committed, and was rolled back.
        """
        with self.turn:
            self._committing.clear()
            if not self._is_open:
                return
            self._is_open = False
            try:
                self._end()
            finally:
                self._is_ours = False
                self._ended.notify_all()

    def on_sync(self, handle: OpenFile) -> None:
        """Note that a database is about to commit."""
        # SQLite flushes all databases before it commits the first: so they are known by then.
        if self._is_open:
            self._committing.add(handle)

    def on_commit(self, handle: OpenFile) -> None:
        """End the implicit message after the last database of an SQL transaction.

        Raises:
            Trap: The message had trapped before, or cannot be committed.
            MessageError: The message was rolled back under the SQL transaction.
        """
        if handle.is_dead:
            self._refuse_commit()
            return
        self._committing.discard(handle)
        if self._committing:
            return
        log = self.memory.log
        if log is not None:
            self.position_after_commit = log.position()
        if self._is_open:
            self.end()
        elif self.implicit:
            for store in self.stores:
                store.on_commit()

    def on_full(self) -> None:
        """Forget a commit that has failed half-way: SQLite rolls all of it back."""
        self._committing.clear()

    def on_unlock(self, handle: OpenFile) -> None:
        """End the implicit message, unless somebody is writing, or it is another thread's."""
        with self.turn:
            self._committing.discard(handle)
            if self.is_others() and any(store.locks.is_held() for store in self.stores):
                # Its own locks end it. Without any it is the look of somebody who has gone.
                return
            if not any(store.locks.is_reserved() for store in self.stores):
                self.end()

    def on_close(self) -> None:
        """End the implicit message with the last open file."""
        with self.turn:
            self.open_count -= 1
            if not self.open_count:
                self.end()

    def _begin(self) -> None:
        self._is_ours = True
        try:
            # On a read-only image there are only readers.
            self.memory.begin("query" if self.is_read_only else "update")
        except BaseException:
            self._is_ours = False
            raise
        self._is_open = True

    def _end(self) -> None:
        if self.memory.trap is not None or self.memory.kind == "query":
            self.memory.rollback()
            return
        try:
            self.memory.commit()
        except Trap:
            self.memory.rollback()
            raise

    def _refuse_commit(self) -> None:
        if not self.implicit:
            # The message's owner raises the trap when it ends.
            return
        if self.memory.trap is not None:
            raise self.memory.trap
        raise MessageError(
            "the message was rolled back under this SQL transaction, which cannot commit: "
            "ROLLBACK it; or, under locking_mode exclusive, close the connection"
        )

    # -- what the memory tells ------------------------------------------------------------------

    def on_trap(self) -> None:
        """Pass it on."""
        with self.turn:
            for store in self.stores:
                store.on_trap()

    def on_rollback(self) -> None:
        """Derive everything anew."""
        with self.turn:
            self._is_open = self._is_ours = False
            self._committing.clear()
            self.heap.clear()
            # First: where the stores look for their files, these must lie already.
            is_moved = self.opened.reload(self.memory)
            for store in self.stores:
                store.on_rollback(is_moved=is_moved)
            if self.implicit:
                self._ended.notify_all()

    def on_end(self) -> None:
        """Wait for the next message, where messages are implicit."""
        if self.heap and self.opened.directory is not None:
            # Journals have a place then, and a super-journal is of no use beyond its message.
            self.heap.clear()
        if not self.implicit:
            # The owner has an order of threads: there is no turn to wait for.
            return
        with self.turn:
            self._is_open = self._is_ours = False
            for store in self.stores:
                store.on_end()
            self._ended.notify_all()


class _Unshared:
    """The turn of those who have their own order of threads."""

    def acquire(self, *, timeout: float) -> bool:
        """It is free."""
        return timeout >= 0

    def release(self) -> None:
        """It stays free."""

    def __enter__(self) -> None:
        """It is free."""

    def __exit__(self, *_: object) -> None:
        """It stays free."""
