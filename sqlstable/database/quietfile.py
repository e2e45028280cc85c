"""The calls of SQLite on a file that mean nothing where a message commits, and not the file."""

import apsw

from sqlstable.memory.backing import Bytes


class QuietFile:
    """A file that nobody locks or flushes; what it holds is the business of those who derive."""

    def xSync(self, flags: int) -> None:
        """Do nothing: there is no disk."""

    def xLock(self, level: int) -> None:
        """Do nothing: what others may do, the database's own lock says."""

    def xUnlock(self, level: int) -> None:
        """Do nothing."""

    def xCheckReservedLock(self) -> bool:
        """Nobody holds a lock."""
        return False

    def xFileControl(self, op: int, pointer: int) -> bool:
        """No operation is known."""
        return False

    def xSectorSize(self) -> int:
        """Return 512, so that no neighbour of a small SQLite page is ever written with it."""
        return 512

    def xDeviceCharacteristics(self) -> int:
        """Say, as SQLite's own files do, that a write never damages its neighbours."""
        return apsw.SQLITE_IOCAP_POWERSAFE_OVERWRITE

    def xClose(self) -> None:
        """Nothing to give back."""


class ReadOnlyFile(QuietFile):
    """A file that is only looked at."""

    def xWrite(self, data: Bytes, offset: int) -> None:
        """Refuse."""
        refuse_write(data, offset)

    def xTruncate(self, new_size: int) -> None:
        """Refuse."""
        refuse_write(b"", new_size)


def refuse_write(data: Bytes, offset: int) -> None:
    """Refuse to write.

    Raises:
        apsw.ReadOnlyError: Always.
    """
    raise apsw.ReadOnlyError("an observer of the database must not write to it")
