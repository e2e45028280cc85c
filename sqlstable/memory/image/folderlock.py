"""A lock on a folder that goes with its process, however that ends."""

import fcntl
import os
from pathlib import Path


class FolderLock:
    """An ``flock`` on a folder: tells what is being used from what a killed process has left.

    Raises:
        OSError: There is no such folder.
    """

    def __init__(self, folder: Path) -> None:
        """Open the folder; the lock is not taken yet."""
        self._descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)

    def take(self) -> bool:
        """Take the lock; False where another process has it, or has removed the folder."""
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return os.fstat(self._descriptor).st_nlink > 0

    def close(self) -> None:
        """Give the lock back; closing twice does no harm."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
