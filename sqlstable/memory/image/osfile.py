"""Files of the operating system, behind the few calls that a durable image needs.

`File` is the seam: `OsFile` is a real one, and tests put simulated ones in its place, which fail,
tear and forget as storage does.
"""

import ctypes
import errno
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, Protocol

from sqlstable.ic.units import KIB
from sqlstable.memory.backing import Bytes

PARTS_MAX: Final = 1024
"""Buffers that one call writes. Source: Linux's ``UIO_MAXIOV``."""

PIECE_BYTES: Final = 64 * KIB
"""What is written in larger pieces, Linux keeps in larger folios, and each later write of 4 KiB
into one of those takes two to three times as long (measured with 1 MiB, kernel 6.18, ext4)."""

Run = tuple[int, int]
"""First byte, and bytes."""

_FALLOC_FL_KEEP_SIZE: Final = 1
"""Source: Linux's ``linux/falloc.h``."""

_CANNOT_RESERVE: Final = frozenset({errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})
"""What a file system answers that gives no promise of space."""


class ReadFile(Protocol):
    """Bytes by offset, to be read; what fails raises `OSError`."""

    def size(self) -> int:
        """Return the length in bytes."""
        ...

    def read(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes from ``offset`` on; fewer at the end."""
        ...

    def extents(self) -> Iterator[tuple[int, int]]:
        """Yield first byte and end of each range that may be other than zero, ascending."""
        ...

    def close(self) -> None:
        """Let go of the file; closing twice does no harm."""
        ...


class File(ReadFile, Protocol):
    """Bytes by offset that outlive the process."""

    def write(self, offset: int, parts: Sequence[Bytes]) -> None:
        """Write the parts one behind the other, all of them or raise."""
        ...

    def write_runs(self, runs: Sequence[Run], data: Sequence[Bytes]) -> None:
        """Write the bytes of each run to where it begins, all of them or raise."""
        ...

    def resize(self, size_bytes: int) -> None:
        """Make the file this long; new bytes are zero."""
        ...

    def reserve(self, offset: int, length: int) -> None:
        """Make sure that writing there later does not fail for want of space; keeps the length."""
        ...

    def flush(self) -> None:
        """Return when everything written so far would survive a loss of power."""
        ...


class OsFile:
    """A file of the operating system, by its descriptor."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def size(self) -> int:
        """Return the length in bytes."""
        return os.fstat(self.descriptor).st_size

    def read(self, offset: int, length: int) -> bytes:
        """Return up to ``length`` bytes."""
        data = os.pread(self.descriptor, length, offset)
        while len(data) < length:
            more = os.pread(self.descriptor, length - len(data), offset + len(data))
            if not more:
                break
            data += more
        return data

    def read_runs(self, runs: Sequence[Run]) -> list[bytes]:
        """Return the bytes of each run, all of which lie in the file."""
        pread, descriptor = os.pread, self.descriptor
        found = [pread(descriptor, length, start) for start, length in runs]
        for at, (start, length) in enumerate(runs):
            if len(found[at]) != length:
                # Once more, from where a short read is gone on with.
                found[at] = self.read(start, length).ljust(length, b"\0")
        return found

    def extents(self) -> Iterator[tuple[int, int]]:
        """Yield what the file system does not call a hole."""
        size_bytes = self.size()
        if not hasattr(os, "SEEK_DATA"):
            yield 0, size_bytes
            return
        stop = 0
        while stop < size_bytes:
            try:
                start = os.lseek(self.descriptor, stop, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:
                    # Only a hole is left.
                    return
                raise
            stop = os.lseek(self.descriptor, start, os.SEEK_HOLE)
            yield start, stop

    def write(self, offset: int, parts: Sequence[Bytes]) -> None:
        """Write all parts; a short write is gone on with, and ends in the error behind it."""
        if len(parts) > PARTS_MAX:
            for first in range(0, len(parts), PARTS_MAX):
                batch = parts[first : first + PARTS_MAX]
                self.write(offset, batch)
                offset += sum(map(len, batch))
            return
        if len(parts) == 1:
            length = len(parts[0])
            done = os.pwrite(self.descriptor, parts[0], offset)
        else:
            length = sum(map(len, parts))
            done = os.pwritev(self.descriptor, parts, offset)
        if done < length:
            rest = memoryview(b"".join(parts))[done:]
            while len(rest):
                offset += done
                done = os.pwrite(self.descriptor, rest, offset)
                rest = rest[done:]

    def write_runs(self, runs: Sequence[Run], data: Sequence[Bytes]) -> None:
        """Write run by run."""
        pwrite, descriptor = os.pwrite, self.descriptor
        for (start, length), part in zip(runs, data, strict=True):
            if length > PIECE_BYTES:
                view = memoryview(part)
                for done in range(0, length, PIECE_BYTES):
                    self.write(start + done, (view[done : done + PIECE_BYTES],))
            elif pwrite(descriptor, part, start) != length:
                # Once more, from where a short write shows what is wrong.
                self.write(start, (part,))

    def resize(self, size_bytes: int) -> None:
        """Truncate or extend with a hole."""
        os.ftruncate(self.descriptor, size_bytes)

    def reserve(self, offset: int, length: int) -> None:
        """Allocate blocks where the file system promises them."""
        if _fallocate is None:
            return
        while _fallocate(self.descriptor, _FALLOC_FL_KEEP_SIZE, offset, length):
            number = ctypes.get_errno()
            if number in _CANNOT_RESERVE:
                return
            # A signal interrupts it, and Python repeats only calls of its own.
            if number != errno.EINTR:
                raise OSError(number, os.strerror(number))

    def flush(self) -> None:
        """Write data, and what is needed to find it, to the device."""
        # macOS has no fdatasync in Python.
        getattr(os, "fdatasync", os.fsync)(self.descriptor)

    def close(self) -> None:
        """Close the descriptor."""
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def _find_fallocate() -> Callable[[int, int, int, int], int] | None:
    # Python's posix_fallocate cannot keep the length, and the length is the stable size.
    if sys.platform != "linux":
        return None
    function = getattr(ctypes.CDLL(None, use_errno=True), "fallocate64", None)
    if function is None:
        return None
    function.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    function.restype = ctypes.c_int
    result: Callable[[int, int, int, int], int] = function
    return result


_fallocate: Final = _find_fallocate()


def flush_folder(folder: Path) -> None:
    """Make a new name in a folder survive a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
