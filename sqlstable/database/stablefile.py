"""Rollback journals in stable memory.

A virtual memory cannot shrink, and a file in it cannot be deleted. So a file *exists* if its first
bytes are a journal's magic; deleting it, or cutting it to nothing, overwrites its header with
zeros. That is what SQLite's journal mode PERSIST does anyway: DELETE and TRUNCATE cost the same.

The exact size is kept during a session. After reopening or a rollback a file that exists may be
as long as its virtual memory: SQLite recognises what is stale behind its records by checksums.

Accesses are logged one by one, cut at the borders of buckets.
"""

from collections.abc import Callable, Iterator
from typing import Final

import apsw

from sqlstable.database.implicit import Messages
from sqlstable.database.quietfile import QuietFile
from sqlstable.errors import Trap
from sqlstable.layout.placement import Placement
from sqlstable.memory.backing import Bytes
from sqlstable.sqlite.header import JOURNAL_MAGIC

HEADER_BYTES: Final = 28


class StableFile:
    """One journal, shared by all its handles.

    Args:
        messages: Of the stable memory.
        placement: Where the file lies.
        is_dead: Whether the SQL transaction that writes has lost its message.
    """

    def __init__(
        self,
        messages: Messages,
        placement: Placement,
        *,
        is_dead: Callable[[], bool],
    ) -> None:
        self.placement = placement
        self.handle_count = 0
        self.exists = False
        "Whether SQLite finds the file."
        self.size_bytes = 0
        "Bytes of the file, exactly while somebody has it open."
        self._messages = messages
        self._memory = messages.memory
        self._is_dead = is_dead
        self.derive()

    def derive(self) -> None:
        """Learn from the bytes whether the file exists, unrecorded."""
        self._look()
        self.size_bytes = self.placement.allocated_bytes if self.exists else 0

    def on_rollback(self, *, is_moved: bool) -> None:
        """Derive everything anew."""
        if is_moved:
            self.placement.reload()
        self.derive()

    def peek(self, amount: int, offset: int) -> bytes:
        """Return bytes as they are now, unrecorded; fewer at the end of the file."""
        pieces = self._pieces(amount, offset)
        return b"".join(self._memory.peek(address, count) for address, count in pieces)

    def read(self, amount: int, offset: int) -> bytes:
        """Return up to ``amount`` bytes; fewer at the end of the file."""
        if self._messages.is_unrecorded:
            return self.peek(amount, offset)
        if self.is_dead():
            # The bytes as the rollback will leave them.
            backing = self._memory.backing
            return b"".join(
                bytes(backing.read(address, count))
                for address, count in self._pieces(amount, offset)
            )
        self._messages.enter()
        self._messages.intercept("read")
        read = self._memory.access_read
        return b"".join(
            bytes(read(address, count)) for address, count in self._pieces(amount, offset)
        )

    def write(self, data: Bytes, offset: int) -> None:
        """Write, growing the file and its memory as needed."""
        if not self._may_change():
            return
        end = offset + len(data)
        if end > self.placement.allocated_bytes:
            grow(self._messages, self.placement, end, "the journal")
        self._messages.intercept("write")
        self._write(data, offset)
        self.size_bytes = max(self.size_bytes, end)
        if offset < len(JOURNAL_MAGIC):
            self._look()

    def truncate(self, size_bytes: int) -> None:
        """Shorten the file; cut to nothing, it does not exist any more."""
        if size_bytes >= self.size_bytes or not self._may_change():
            return
        self._messages.intercept("truncate")
        self.size_bytes = size_bytes
        if size_bytes == 0:
            self._erase()

    def delete(self) -> None:
        """Make the file not exist; its virtual memory stays."""
        if not self.exists:
            self.size_bytes = 0
        elif self._may_change():
            self._messages.intercept("delete")
            self.size_bytes = 0
            self._erase()

    def is_dead(self) -> bool:
        """Whether what SQLite still does belongs to a message that has trapped or is gone."""
        return self._memory.trap is not None or self._is_dead()

    # -- inside ---------------------------------------------------------------------------------

    def _may_change(self) -> bool:
        if self._messages.is_unrecorded:
            raise apsw.ReadOnlyError("an observer of the journal must not write to it")
        if self.is_dead():
            return False
        self._messages.enter()
        return True

    def _erase(self) -> None:
        if self.exists:
            self._write(bytes(HEADER_BYTES), 0)
            self.exists = False

    def _write(self, data: Bytes, offset: int) -> None:
        view = memoryview(data)
        for address, count in self.placement.map.pieces(offset, len(data)):
            self._memory.access_write(address, view[:count])
            view = view[count:]

    def _look(self) -> None:
        start = b""
        if self.placement.allocated_bytes:
            start = self._memory.peek(self.placement.map.address(0), len(JOURNAL_MAGIC))
        self.exists = start == JOURNAL_MAGIC

    def _pieces(self, amount: int, offset: int) -> Iterator[tuple[int, int]]:
        return self.placement.map.pieces(offset, min(amount, self.size_bytes - offset))


class StableHandle(QuietFile):
    """What SQLite holds when it has opened a journal."""

    def __init__(self, file: StableFile) -> None:
        self._file = file
        self._is_open = True
        file.handle_count += 1
        self.xRead = file.read
        self.xWrite = file.write
        self.xTruncate = file.truncate

    def xFileSize(self) -> int:
        """Return the size; no stable memory is involved."""
        return self._file.size_bytes

    def xClose(self) -> None:
        """Let go; the file stays."""
        if self._is_open:
            self._is_open = False
            self._file.handle_count -= 1


def grow(messages: Messages, placement: Placement, size_bytes: int, what: str) -> None:
    """Allocate at least ``size_bytes`` to a file.

    Raises:
        Trap: The message may not touch what the memory manager has to write.
        apsw.FullError: Stable memory has no room.
    """
    messages.intercept("grow")
    try:
        grown = placement.grow_to(size_bytes)
    except Trap as trap:
        raise messages.memory.poison(trap) from None
    if not grown:
        messages.on_full()
        raise apsw.FullError(
            f"stable memory is full: {what} needs {size_bytes} bytes and "
            f"{placement.allocated_bytes} are allocated; delete data and VACUUM, use "
            "larger buckets, or split the data over several canisters"
        )
