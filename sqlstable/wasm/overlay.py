"""An image file laid over stable memory, so that opening reads nothing.

A private map of the file takes the place of the first pages of the Wasm memory: what is read comes
from the file when it is first touched, what is written stays in this process. When a message has
committed, the file holds the same bytes, and the private copies can go.

Where a file cannot be mapped safely (see `sqlstable.memory.image.filebacking`), what it holds is
copied.
"""

import ctypes
import mmap
import os
import sys
from contextlib import suppress
from typing import Final
from weakref import finalize

from sqlstable.errors import ImageError
from sqlstable.ic.units import MIB, OS_PAGE_BYTES, WASM_PAGE_BYTES
from sqlstable.memory.image.imagefile import ImageFile
from sqlstable.wasm.instance import Instance

DROPPED_BYTES: Final = 64 * MIB
"""Private copies that may gather before they are dropped."""

_MAP_FIXED: Final = 0x10
_MAP_NORESERVE: Final[int] = getattr(mmap, "MAP_NORESERVE", 0x4000)
_MADV_DONTNEED: Final = 4
"""Linux's values; the mmap module has the first one nowhere, the others not everywhere."""


class Overlay:
    """An image file over the stable memory of a machine.

    Args:
        image: The file, open.
    """

    def __init__(self, image: ImageFile) -> None:
        """Take note; `cover` covers."""
        self._image = image
        self._descriptor = _own_descriptor(image)
        if self._descriptor is not None:
            self._closer = finalize(self, os.close, self._descriptor)
        self._covered_bytes = 0
        self._private_bytes = 0

    def cover(self, machine: Instance) -> None:
        """Give a new machine the image's size and bytes.

        Raises:
            ImageError: There is no room for it in this process.
        """
        wasm_pages = self._image.wasm_pages
        self._covered_bytes = 0
        if not machine.set_stable_size(wasm_pages):
            raise ImageError(
                f"the image has {wasm_pages} Wasm pages, and this process has no addresses for so "
                "many; close other canisters first"
            )
        if self._descriptor is not None:
            self._lay(machine, wasm_pages * WASM_PAGE_BYTES)
            return
        for address, data in self._image.pieces():
            ctypes.memmove(machine.stable_address + address, data, len(data))

    def on_commit(self, machine: Instance, *, os_pages_dirty: int, is_wiped: bool) -> None:
        """Follow the file, which now holds what stable memory does."""
        if self._descriptor is None:
            return
        if is_wiped:
            self._covered_bytes = 0
        self._private_bytes += os_pages_dirty * OS_PAGE_BYTES
        size_bytes = self._image.wasm_pages * WASM_PAGE_BYTES
        if self._private_bytes < DROPPED_BYTES:
            return
        self._private_bytes = 0
        # It saves memory and nothing else: where it cannot be done, the copies stay.
        with suppress(OSError):
            if self._covered_bytes:
                _check(_libc().madvise(machine.stable_address, self._covered_bytes, _MADV_DONTNEED))
            self._lay(machine, size_bytes)

    def close(self) -> None:
        """Let the file go; the map goes with its machine."""
        if self._descriptor is not None:
            self._closer()

    def _lay(self, machine: Instance, size_bytes: int) -> None:
        """Map the part of the file that is not covered yet; what lay there before goes."""
        start = self._covered_bytes
        if size_bytes <= start:
            return
        assert self._descriptor is not None
        address = machine.stable_address + start
        found = _libc().mmap(
            address,
            size_bytes - start,
            mmap.PROT_READ | mmap.PROT_WRITE,
            mmap.MAP_PRIVATE | _MAP_FIXED | _MAP_NORESERVE,
            self._descriptor,
            start,
        )
        if found != address:
            _check(-1)
        self._covered_bytes = size_bytes


def _own_descriptor(image: ImageFile) -> int | None:
    """Open the image once more, so that a map of it, which a forked child inherits, holds no lock.

    None where it is better read than mapped.
    """
    locked = image.map_descriptor
    if locked is None or sys.platform != "linux":
        return None
    try:
        return os.open(f"/proc/self/fd/{locked}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None


def _check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _libc() -> ctypes.CDLL:
    library = ctypes.CDLL(None, use_errno=True)
    library.mmap.restype = ctypes.c_void_p
    library.mmap.argtypes = (
        ctypes.c_void_p,
        ctypes.c_size_t,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_long,
    )
    library.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    return library
