"""Units of the Internet Computer's memories, and page arithmetic.

Three kinds of page meet in this project, and none of them is ever called just "page":

==============  ==================  ============  ==========================================
word            size                counted from  what counts in it
==============  ==================  ============  ==========================================
SQLite page     512 B to 64 KiB     1             SQLite's file format
OS page         4096 B              0             the replica's accessed and dirty limits
Wasm page       65 536 B            0             ``grow``, and the memory tracker's price
==============  ==================  ============  ==========================================
"""

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB
TIB: Final = 1024 * GIB

OS_PAGE_BYTES: Final = 4096
"""Bytes of one OS page. Source: dfinity/ic rs/sys/src/lib.rs ``PAGE_SIZE``, 2025-10-31."""

WASM_PAGE_BYTES: Final = 65_536
"""Bytes of one Wasm page. Source: WebAssembly core specification, memory instances."""

OS_PAGE_SHIFT: Final = 12
"""Turns addresses into OS pages. Where every access pays for it, it is written as a literal."""
assert OS_PAGE_BYTES == 1 << OS_PAGE_SHIFT

OS_PAGES_PER_WASM_PAGE: Final = WASM_PAGE_BYTES // OS_PAGE_BYTES
assert OS_PAGES_PER_WASM_PAGE * OS_PAGE_BYTES == WASM_PAGE_BYTES

SECOND_NS: Final = 1_000_000_000
"""The time of canisters is counted in nanoseconds."""

INT64_MIN: Final = -(1 << 63)
INT64_MAX: Final = (1 << 63) - 1
UINT64_MAX: Final = (1 << 64) - 1
"""Integers of SQLite are signed, addresses of a 64-bit memory are not."""

NO_LIMIT: Final = UINT64_MAX
"""Stands for "no limit yet": more OS pages than a 64-bit address reaches."""


def os_pages_spanned(offset: int, length: int) -> range:
    """Return the indexes of the OS pages that ``[offset, offset + length)`` overlaps.

    Args:
        offset: First byte, counted from the start of the memory; 0 or more.
        length: Bytes covered; 0 gives an empty range.

    Returns:
        0-based OS page indexes, ascending.

    Examples:
        >>> list(os_pages_spanned(4095, 2))
        [0, 1]
        >>> list(os_pages_spanned(4096, 4096))
        [1]
        >>> list(os_pages_spanned(10, 0))
        []
    """
    if length == 0:
        return range(0)
    return range(offset // OS_PAGE_BYTES, (offset + length - 1) // OS_PAGE_BYTES + 1)


def wasm_pages_needed(size_bytes: int) -> int:
    """Return how many Wasm pages hold ``size_bytes`` bytes.

    Args:
        size_bytes: 0 or more.

    Examples:
        >>> wasm_pages_needed(0), wasm_pages_needed(1), wasm_pages_needed(65_536)
        (0, 1, 1)
    """
    return -(-size_bytes // WASM_PAGE_BYTES)


def amount(number: int, unit: str) -> str:
    """Write a number with its unit, for errors.

    Examples:
        >>> amount(1, "Wasm page"), amount(0, "OS page"), amount(12_345, "OS page")
        ('1 Wasm page', '0 OS pages', '12345 OS pages')
    """
    return f"{number} {unit}" if number == 1 else f"{number} {unit}s"
