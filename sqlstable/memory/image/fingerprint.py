"""Checksums of OS pages, and the fingerprint of a whole image that follows from them.

The fingerprint is a sum, modulo 2^64, with one term for each OS page: its CRC-32, less that of
zeros, times an odd number that belongs to its place. So an OS page of zeros adds nothing, whether
it is a hole or was written; and a message changes the fingerprint by the terms of the OS pages that
it changed, whatever else the image holds.

**What it tells.** Two images that differ in an OS page have the same fingerprint once in 2^32, as
two OS pages have the same CRC-32. Nobody is kept from making such images on purpose.

**What it costs.** About 1 µs for each OS page that is not zero, when it is first taken. For that
reason it covers a part of large images only: the OS pages below ``os_pages_covered``, which hold
`FILLED_OS_PAGES_MAX` that are not zero.
"""

import struct
import zlib
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from sqlstable.ic.units import MIB, OS_PAGE_BYTES
from sqlstable.memory.backing import Bytes
from sqlstable.memory.image.osfile import ReadFile

FILLED_OS_PAGES_MAX: Final = 64 * MIB // OS_PAGE_BYTES
"""OS pages that are not zero and are looked at when a fingerprint is taken."""

ALL_OS_PAGES: Final = 1 << 52
"""More than any image has: the fingerprint covers whatever may come."""

SECTOR_BYTES: Final = 512
"""What a device writes whole or not at all."""

OS_PAGE_SECTORS: Final = OS_PAGE_BYTES // SECTOR_BYTES

ZERO_CRC: Final = zlib.crc32(bytes(OS_PAGE_BYTES))

_PLACE: Final = 0x9E37_79B1
"""A prime with bits in no order, near 2^32 divided by the golden ratio."""

_LOOPED_OS_PAGES: Final = 48
"""Up to so many OS pages, a plain loop is quicker than numpy."""

_SECTORS: Final = [
    slice(start, start + SECTOR_BYTES) for start in range(0, OS_PAGE_BYTES, SECTOR_BYTES)
]
_SECTOR_CRCS: Final = struct.Struct(f"<{OS_PAGE_SECTORS}I")

_MASK: Final = (1 << 64) - 1
_PIECE_OS_PAGES: Final = MIB // OS_PAGE_BYTES


class Fingerprint(NamedTuple):
    """What a whole image, or the beginning of a large one, is told by.

    Examples:
        >>> Fingerprint().changed([3], [ZERO_CRC], [7]).changed([3], [7], [ZERO_CRC]).value
        0
    """

    os_pages_covered: int = ALL_OS_PAGES
    "OS pages below this index count, others do not."
    value: int = 0
    os_pages_filled: int = 0
    "OS pages among those covered that are not zero, or were not."

    def changed(
        self, os_pages: Sequence[int], before: Sequence[int], after: Sequence[int]
    ) -> "Fingerprint":
        """Return the fingerprint after some OS pages have got other bytes.

        Args:
            os_pages: Which, each once.
            before: Their CRC-32s up to now.
            after: Their CRC-32s from now on.
        """
        covered, value, filled = self
        if len(os_pages) > _LOOPED_OS_PAGES:
            places = np.array(os_pages, dtype=np.uint64)
            old_crcs, new_crcs = (np.array(crcs, dtype=np.uint64) for crcs in (before, after))
            counts = places < covered
            terms = (new_crcs - old_crcs) * (places * np.uint64(_PLACE) | np.uint64(1))
            value += int(terms[counts].sum())
            filled += int(np.count_nonzero(old_crcs[counts] == ZERO_CRC))
            return Fingerprint(covered, value & _MASK, filled)
        for os_page, old, new in zip(os_pages, before, after, strict=True):
            if os_page < covered:
                value += (new - old) * (os_page * _PLACE | 1)
                if old == ZERO_CRC:
                    filled += 1
        return Fingerprint(covered, value & _MASK, filled)


def take_fingerprint(file: ReadFile, os_pages_covered: int | None = None) -> Fingerprint:
    """Read an image, and return its fingerprint.

    Args:
        file: The image.
        os_pages_covered: Which OS pages count. None lets all of them count where not more than
            `FILLED_OS_PAGES_MAX` are filled, else those up to there.
    """
    covered = ALL_OS_PAGES if os_pages_covered is None else os_pages_covered
    value = filled = 0
    for first, crcs in os_page_crcs_of(file, covered):
        places = np.arange(first, first + len(crcs), dtype=np.uint64)
        places = places * np.uint64(_PLACE) | np.uint64(1)
        value += int(((crcs - np.uint64(ZERO_CRC)) * places).sum())
        filled += int(np.count_nonzero(crcs != ZERO_CRC))
        if os_pages_covered is None and filled >= FILLED_OS_PAGES_MAX:
            covered = first + len(crcs)
            break
    return Fingerprint(covered, value & _MASK, filled)


def os_page_crcs_of(
    file: ReadFile, os_pages_covered: int
) -> Iterator[tuple[int, npt.NDArray[np.uint64]]]:
    """Yield CRC-32s of consecutive OS pages of an image, with the index of the first of them.

    Those that are left out are holes.
    """
    done = 0
    for start, stop in file.extents():
        # The blocks of a file system may be smaller than an OS page.
        first, last = start // OS_PAGE_BYTES, -(-stop // OS_PAGE_BYTES)
        last = min(last, os_pages_covered)
        for os_page in range(max(first, done), last, _PIECE_OS_PAGES):
            count = min(_PIECE_OS_PAGES, last - os_page)
            data = file.read(os_page * OS_PAGE_BYTES, count * OS_PAGE_BYTES)
            data = data.ljust(count * OS_PAGE_BYTES, b"\0")
            yield os_page, np.array(os_page_crcs([data]), dtype=np.uint64)
        done = max(done, last)


def os_page_crcs(parts: Sequence[Bytes]) -> list[int]:
    """Return the CRC-32 of each OS page in parts of whole OS pages."""
    crc32 = zlib.crc32
    crcs = []
    for part in parts:
        if len(part) == OS_PAGE_BYTES:
            crcs.append(crc32(part))
            continue
        view = memoryview(part)
        borders = range(0, len(view) + 1, OS_PAGE_BYTES)
        crcs += [crc32(view[start:stop]) for start, stop in pairwise(borders)]
    return crcs


def sector_crcs(os_page: Bytes) -> bytes:
    """Return the CRC-32s of an OS page's sectors, one behind the other."""
    view, crc32 = memoryview(os_page), zlib.crc32
    return _SECTOR_CRCS.pack(*[crc32(view[part]) for part in _SECTORS])
