"""Copies of whole files: shared blocks where the file system has them, else what is no hole."""

import errno
import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from sqlstable.ic.units import MIB
from sqlstable.memory.image.osfile import File, OsFile

_FICLONE: Final = 0x40049409
"""Lets a file share the blocks of another one. Source: Linux's ``linux/fs.h``."""

_PIECE_BYTES: Final = MIB

_CANNOT_SHARE: Final = frozenset(
    {
        *(errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.ENOSYS, errno.EPERM),
        *(errno.EBADF, errno.ETXTBSY),
    }
)
"""What a file system answers that shares no blocks, or not these."""


def clone(source: int, target: int) -> bool:
    """Let a file share the blocks of another one, which takes as long as that has extents.

    Args:
        source: Descriptor of the file.
        target: Of an empty one.

    Returns:
        Whether the file system can.

    Raises:
        OSError: It can, and failed.
    """
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError as error:
        if error.errno in _CANNOT_SHARE:
            return False
        raise
    return True


def copy_sparse(source: OsFile, target: File, size_bytes: int) -> int:
    """Copy what is no hole, and leave the holes; returns how many bytes were copied."""
    copied = 0
    for start, stop in source.extents():
        for offset in range(start, min(stop, size_bytes), _PIECE_BYTES):
            data = source.read(offset, min(_PIECE_BYTES, stop - offset))
            target.write(offset, [data])
            copied += len(data)
    target.resize(size_bytes)
    return copied


def can_clone(folder: Path, source: Path) -> bool:
    """Return whether a folder can share the blocks of a file; nothing is left of the trial."""
    trial = folder / f"trial-{os.getpid()}"
    try:
        first = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        second = os.open(trial, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            return clone(first, second)
        finally:
            os.close(second)
            with suppress(OSError):
                trial.unlink()
    except OSError:
        return False
    finally:
        os.close(first)
