"""Reading an image file: through a map of it where that is safe, else by ``pread``.

A map is ten times quicker, but reading a hole of a file on a full memory file system through one
kills the process, and network file systems do the same when the file shrinks; both are read by
``pread``. Committed bytes are never written through the map: `sqlstable.memory.image.durable`
writes them to the file, and Linux shows them in the map at once.

The map reserves addresses for the whole capacity and lays the file over their beginning, so the
view that the hot path holds stays the same as the file grows. Beyond the file it reads as zero.
"""

import ctypes
import mmap
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

from sqlstable.errors import ImageError
from sqlstable.memory.backing import FLAT_BYTES_MAX, Backing, Bytes, reserve
from sqlstable.memory.image.osfile import OsFile, ReadFile

MAPPED_FILE_SYSTEMS: Final = frozenset({"ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "bcachefs"})
"""Local file systems on disks, where reading through a map cannot fail for want of memory."""

_MAP_FIXED: Final = 0x10
_MAP_NORESERVE: Final[int] = getattr(mmap, "MAP_NORESERVE", 0x4000)
"""Linux's values; the mmap module names the second one from Python 3.13 on, the first never."""


class FileBacking:
    """Committed bytes in a file; what lies beyond its end reads as zero.

    Args:
        file: The image.
        capacity_bytes: Highest address plus one that will ever be used.
        window: A map over the file, or None to read by ``pread``.
    """

    def __init__(self, file: ReadFile, capacity_bytes: int, window: "FileWindow | None") -> None:
        """Read through ``window`` from now on."""
        self._file = file
        self._capacity_bytes = capacity_bytes
        self._window = window
        self.flat: memoryview | None = None if window is None else window.view
        self._view = memoryview(b"") if self.flat is None else self.flat
        self._refusal: str | None = None

    def read(self, address: int, length: int) -> Bytes:
        """Return a view where there is a map, else a copy."""
        if address + length <= len(self._view):
            return self._view[address : address + length]
        if self._refusal is not None:
            raise ImageError(self._refusal)
        data = self._file.read(address, length)
        return data if len(data) == length else data + bytes(length - len(data))

    def write(self, address: int, data: Bytes) -> None:
        """Refuse: only a commit changes the image."""
        raise AssertionError(address, len(data))

    def discard(self, address: int, length: int) -> None:
        """Refuse, likewise."""
        raise AssertionError(address, length)

    def resized(self, size_bytes: int) -> None:
        """Follow the file, which has this length now.

        Raises:
            OSError: The system gives no map.
        """
        if self._window is not None:
            self._window.resized(size_bytes)

    def empty(self) -> Backing:
        """Return a backing in memory, of the same reach."""
        return reserve(self._capacity_bytes)

    def disown(self, refusal: str) -> None:
        """Drop the map, and answer every further read with this refusal."""
        self._refusal = refusal
        self.close()

    def close(self) -> None:
        """Drop the map; the file is its owner's to close."""
        self.flat = self._window = None
        self._view = memoryview(b"")


class FileWindow:
    """A flat view of a file that stays in its place while the file grows.

    Args:
        file: The file; its length when ``resized`` is called is what may be read.
        capacity_bytes: Addresses reserved.

    Raises:
        OSError: The system has no such maps, or no addresses left.
    """

    def __init__(self, file: OsFile, capacity_bytes: int) -> None:
        if sys.platform != "linux":
            raise OSError("maps that grow in place are used on Linux only")
        self._file = file
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE
        self._map = mmap.mmap(-1, capacity_bytes, flags=flags)
        self._address = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        self.view = memoryview(self._map).toreadonly()
        self._mapped_bytes = 0
        self.resized(file.size())

    def resized(self, size_bytes: int) -> None:
        """Show the file as long as it is now, and zeros behind it."""
        size_bytes = min(size_bytes, len(self.view))
        if size_bytes > self._mapped_bytes:
            self._lay(self._mapped_bytes, size_bytes, mmap.MAP_SHARED, self._file.descriptor)
        elif size_bytes < self._mapped_bytes:
            # Touching a map of a file beyond its end kills the process.
            flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE
            self._lay(size_bytes, self._mapped_bytes, flags, -1)
        self._mapped_bytes = size_bytes

    def _lay(self, start: int, stop: int, flags: int, descriptor: int) -> None:
        assert _mmap is not None
        address = self._address + start
        found = _mmap(
            address,
            stop - start,
            mmap.PROT_READ,
            flags | _MAP_FIXED,
            descriptor,
            start if descriptor >= 0 else 0,
        )
        if found != address:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))


def open_backing(file: OsFile, capacity_bytes: int, *, use_map: bool | None = None) -> FileBacking:
    """Return the reader that suits the file system.

    Args:
        file: The image.
        capacity_bytes: Highest address plus one that will ever be used.
        use_map: None decides by the file system.
    """
    reach_bytes = min(-(-capacity_bytes // mmap.PAGESIZE) * mmap.PAGESIZE, FLAT_BYTES_MAX)
    window = None
    if use_map if use_map is not None else is_map_safe(file.descriptor):
        with suppress(OSError):
            # Without a map the file is read by pread: slower, and just as right.
            window = FileWindow(file, reach_bytes)
    return FileBacking(file, capacity_bytes, window)


def is_map_safe(descriptor: int) -> bool:
    """Return whether an open file lies on one of `MAPPED_FILE_SYSTEMS`; unknown ones do not."""
    device = os.fstat(descriptor).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    try:
        lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    types = set()
    for line in lines.splitlines():
        # Fields are "id parent major:minor root point options … - type source options"; proc(5).
        front, _, back = line.partition(" - ")
        if front.split()[2:3] == [wanted]:
            types.add(back.split()[0])
    return bool(types) and types <= MAPPED_FILE_SYSTEMS


def _find_mmap() -> "ctypes._NamedFuncPointer | None":
    if sys.platform != "linux":
        return None
    function = ctypes.CDLL(None, use_errno=True).mmap
    function.argtypes = (
        ctypes.c_void_p,
        ctypes.c_size_t,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_long,
    )
    function.restype = ctypes.c_void_p
    return function


_mmap: Final = _find_mmap()
