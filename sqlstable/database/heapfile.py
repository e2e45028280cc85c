"""Files that live in the heap: temporary databases, sorters, and journals.

They die with the heap, as they would in a canister, and never touch stable memory.
"""

from sqlstable.memory.backing import Bytes


class HeapFile:
    """A growable buffer with the calls that SQLite makes on a file."""

    def __init__(self) -> None:
        self.data = bytearray()

    def xRead(self, amount: int, offset: int) -> bytes:
        """Return up to ``amount`` bytes; fewer at the end of the file."""
        return bytes(self.data[offset : offset + amount])

    def xWrite(self, data: Bytes, offset: int) -> None:
        """Write, filling a gap with zeros."""
        if offset > len(self.data):
            self.data.extend(bytes(offset - len(self.data)))
        self.data[offset : offset + len(data)] = data

    def xTruncate(self, new_size: int) -> None:
        """Cut the file off."""
        del self.data[new_size:]

    def xFileSize(self) -> int:
        """Return the size in bytes."""
        return len(self.data)

    def xSync(self, flags: int) -> None:
        """Do nothing: there is no disk."""

    def xLock(self, level: int) -> None:
        """Do nothing: nobody else has this file."""

    def xUnlock(self, level: int) -> None:
        """Do nothing."""

    def xCheckReservedLock(self) -> bool:
        """Nobody holds a lock."""
        return False

    def xFileControl(self, op: int, pointer: int) -> bool:
        """No operation is known."""
        return False

    def xSectorSize(self) -> int:
        """Return the same as the database file."""
        return 512

    def xDeviceCharacteristics(self) -> int:
        """Claim nothing."""
        return 0

    def xClose(self) -> None:
        """Keep the data: a journal is opened again by its name."""
