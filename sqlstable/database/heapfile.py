"""Files that live in the heap: temporary databases, sorters, and journals.

They die with the heap, as they would in a canister, and never touch stable memory.
"""

from sqlstable.database.quietfile import QuietFile
from sqlstable.memory.backing import Bytes


class HeapFile(QuietFile):
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

    def xDeviceCharacteristics(self) -> int:
        """Claim nothing."""
        return 0
