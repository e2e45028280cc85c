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

from collections.abc import Callable
from functools import partial
from typing import Final

import apsw

from sqlstable.database import hotpath
from sqlstable.database.doubt import CHANGED, is_probe
from sqlstable.database.hotpath import Read, Source, Write
from sqlstable.database.implicit import Messages
from sqlstable.database.locks import NONE, RESERVED, LockTable
from sqlstable.database.openfile import OpenFile
from sqlstable.database.quietfile import refuse_write
from sqlstable.database.stablefile import StableFile, grow
from sqlstable.ic.units import OS_PAGE_BYTES
from sqlstable.layout.files import file_size_bytes
from sqlstable.layout.layout import SizeRecord
from sqlstable.layout.placement import Placement
from sqlstable.memory.accesslog import AccessLog
from sqlstable.memory.backing import Bytes
from sqlstable.sqlite.header import (
    HEADER_BYTES,
    SCHEMA_COOKIE,
    states_size,
)

_NO_COOKIES: Final[frozenset[bytes]] = frozenset()


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
        self.files: list[OpenFile] = []
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

    def open(self, file: OpenFile) -> None:
        """Take in a new handle; an unrecorded one is that until it is bound again."""
        with self.messages.turn:
            if not self.files and self.memory.kind is None:
                # Nobody is in the middle of anything: what was begun and never had a header is
                # gone.
                self.set_size(self._derived_size())
            self.files.append(file)
            self.messages.open_count += 1
            self.bind(file)

    def forget(self, file: OpenFile) -> None:
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
        return any(
            file.is_dead and (file.is_lost or self.locks.level(file) >= RESERVED)
            for file in self.files
        )

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

    def on_rollback(self, *, is_moved: bool) -> None:
        """Derive everything anew, and make every connection drop its cache."""
        if is_moved:
            self.placement.reload()
        if self.journal is not None:
            self.journal.on_rollback(is_moved=is_moved)
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
                self.revive(file)

    def lose(self, file: OpenFile) -> None:
        """Let what SQLite still does with a handle run into the void: its heap is gone."""
        file.is_lost = True
        self._kill(file)

    def revive(self, file: OpenFile) -> None:
        """Let a handle whose SQL transaction had lost its message take part again."""
        file.is_dead = False
        self.bind(file)

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

    def _slow_read(self, file: OpenFile, amount: int, offset: int) -> Bytes:
        """Read any length anywhere; what lies beyond the end is cut off."""
        if is_probe(amount, offset):
            if file.doubt.is_cache_old:
                file.doubt.is_cache_old = False
                return CHANGED
            if self.messages.is_probe_free:
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

    def _first_look(self, file: OpenFile, amount: int, offset: int, length: int) -> Bytes:
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

    def bind(self, file: OpenFile) -> None:
        """Give a file the paths that it needs now."""
        if self.messages.is_unrecorded:
            file.xRead, file.xWrite = self.peek, refuse_write
            file.xFileSize = file.doubt.size(self._get_size)
        elif self.messages.implicit and self.memory.kind is None:
            file.xRead, file.xWrite = _idle_paths(self.messages, file, self.locks.is_held_by)
            file.xFileSize = file.doubt.size(self._get_size)
        else:
            self._bind_active(file)

    def _bind_active(self, file: OpenFile) -> None:
        paths = self._paths
        read, write = paths.read_of(partial(self._slow_read, file)), paths.write
        file.xFileSize = paths.get_size
        if file.doubt.is_schema_old:
            read, write = file.doubt.paths(read, write)
            file.xFileSize = file.doubt.size(paths.get_size)
        if self.messages.interceptor is not None:
            read, write = _intercepted(self.messages, file, read, write)
        file.xRead, file.xWrite = read, write

    def _get_size(self) -> int:
        return self._paths.get_size()

    def _kill(self, file: OpenFile) -> None:
        file.xRead, file.xWrite, file.is_dead = self._dead_read, _ignore_write, True
        file.xFileSize = file.doubt.size(self._get_size)

    def _dead_read(self, amount: int, offset: int) -> Bytes:
        """After a trap: the bytes as the rollback will leave them."""
        length = min(amount, self.placement.allocated_bytes - offset)
        if length <= 0:
            return b""
        return self.memory.backing.read(self.placement.map.address(offset), length)

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


def _idle_paths(
    messages: Messages, file: OpenFile, is_locked: Callable[[OpenFile], bool]
) -> tuple[Read, Write]:
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
                if not is_locked(file) and not messages.is_others():
                    messages.end()

    def xWrite(data: Bytes, offset: int) -> None:
        messages.begin()
        file.xWrite(data, offset)

    return xRead, xWrite


def _intercepted(
    messages: Messages, file: OpenFile, read: Read, write: Write
) -> tuple[Read, Write]:
    def xRead(amount: int, offset: int) -> Bytes:
        if not is_probe(amount, offset) or not (file.doubt.is_cache_old or messages.is_probe_free):
            messages.intercept("read")
        return read(amount, offset)

    def xWrite(data: Bytes, offset: int) -> None:
        messages.intercept("write")
        write(data, offset)

    return xRead, xWrite


def _ignore_write(data: Bytes, offset: int) -> None:
    """Take SQLite's rollback after a trap: the memory rolls back by itself."""


def _closed_read(amount: int, offset: int) -> Bytes:
    raise apsw.IOError("the database file is closed")
