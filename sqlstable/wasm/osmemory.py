"""Giving memory back to the system that nobody needs any more, where it stays mapped."""

import ctypes
import sys
from functools import cache
from typing import Final

_MADV_DONTNEED: Final = 4
"""Linux's value: the part reads as zeros from now on, and takes no memory."""


def give_back(address: int, size: int) -> None:
    """Let the system have a part of memory whose bytes are not needed; a part stays mapped.

    Where the system knows no such thing, nothing happens.

    Args:
        address: Where it begins, a multiple of the system's page size.
        size: Its length in bytes.
    """
    if sys.platform == "linux":
        _advise()(address, size, _MADV_DONTNEED)


@cache
def _advise() -> "ctypes._NamedFuncPointer":
    advise = ctypes.CDLL(None).madvise
    advise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    return advise
