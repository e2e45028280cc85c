"""The bytes of snapshots, in layers: each holds the OS pages that changed since the one below.

A layer is a file, or bytes in memory, and never changes. The bytes of a snapshot are its uppermost
layer's OS pages, and for all others those of the next one below that has them.

=============  ===================================================================================
``N.image``    an image as it is, with holes; nothing below it shows
``N.sums``     checksums of its OS pages, as below; those that it does not name are zero
``N.layer``    some OS pages, as below; the flag *whole* says that nothing below it shows
=============  ===================================================================================

::

    0     8   "SQSTLAYR"
    8     4   version, 2
    12    4   flags: 1 whole
    16    8   size of stable memory, in Wasm pages
    24    8   number of OS pages
    32    4   CRC-32 of the table
    36    4   CRC-32 of the 36 bytes before
    4096      table: the index of each OS page, 8 bytes, ascending; zeros up to a whole OS page
    …         the OS pages, 4096 bytes each; in ``N.sums`` there are none
    …         CRC-32 of each OS page, 4 bytes
    …     4   CRC-32 of these

Numbers are little-endian.

**Invariants**

* What a layer showed stays as it is, however many others come above it.
* An OS page behind the size that a layer states is zero, and shows nothing from below, also where
  a later one is larger again.

* Every OS page that is read is checked first. One that is shown by nobody is not.

**Limitations.** A CRC-32 tells of accidents, not of anybody who writes both. Modules, heaps and
chunks carry none.
"""

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final
from zlib import crc32

import numpy as np
import numpy.typing as npt

from sqlstable.errors import SnapshotError
from sqlstable.ic.units import OS_PAGE_BYTES, OS_PAGES_PER_WASM_PAGE, WASM_PAGE_BYTES
from sqlstable.memory.backing import Bytes
from sqlstable.memory.image.fingerprint import (
    ALL_OS_PAGES,
    ZERO_CRC,
    os_page_crcs,
    os_page_crcs_of,
)
from sqlstable.memory.image.osfile import ReadFile, Run

OsPages = npt.NDArray[np.int64]
"""Indexes of OS pages, ascending, each once."""

Contents = npt.NDArray[np.uint8]
"""Bytes of OS pages, 4096 to a row."""

Crcs = npt.NDArray[np.uint32]
"""CRC-32s of OS pages."""

IMAGE_SUFFIX: Final = ".image"
LAYER_SUFFIX: Final = ".layer"
SUMS_SUFFIX: Final = ".sums"

OS_PAGES_AT_ONCE: Final = 1024
"""Copied with one call: 4 MiB."""

_MAGIC: Final = b"SQSTLAYR"
_VERSION: Final = 2
_WHOLE: Final = 1
_HEAD: Final = struct.Struct("<8sIIQQI")
_CRC: Final = struct.Struct("<I")

NO_OS_PAGES: Final[OsPages] = np.empty(0, np.int64)


class MemoryFile:
    """Bytes in memory, read as a file is."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def size(self) -> int:
        """Return the length in bytes."""
        return len(self._data)

    def read(self, offset: int, length: int) -> bytes:
        """Return up to ``length`` bytes."""
        return self._data[offset : offset + length]

    def extents(self) -> Iterator[tuple[int, int]]:
        """Yield all of it."""
        if self._data:
            yield 0, len(self._data)

    def close(self) -> None:
        """Let go of the bytes."""
        self._data = b""


@dataclass(frozen=True, slots=True, eq=False)
class Sums:
    """Checksums of OS pages; those that are not named are zero.

    Examples:
        >>> Sums(np.array([3]), np.array([7], np.uint32)).of(np.array([3, 4])).tolist()
        [7, 3340501009]
    """

    os_pages: OsPages
    crcs: Crcs

    def of(self, os_pages: OsPages) -> Crcs:
        """Return what the checksums of some OS pages have to be."""
        found = np.full(len(os_pages), ZERO_CRC, np.uint32)
        if len(self.os_pages):
            at = np.minimum(np.searchsorted(self.os_pages, os_pages), len(self.os_pages) - 1)
            is_named = self.os_pages[at] == os_pages
            found[is_named] = self.crcs[at[is_named]]
        return found

    def with_others(self, others: "Sums") -> "Sums":
        """Return these with others in the place of some, or beside them."""
        os_pages = np.union1d(self.os_pages, others.os_pages)
        crcs = self.of(os_pages)
        crcs[np.searchsorted(os_pages, others.os_pages)] = others.crcs
        return Sums(os_pages, crcs)


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """One layer.

    Attributes:
        name: Of its file.
        wasm_pages: Size of stable memory when it was made.
        file: Where it is.
        os_pages: Those that it has; None for an image, which has all.
        is_whole: Whether nothing below shows.
        sums: Checksums of its OS pages.
    """

    name: str
    wasm_pages: int
    file: ReadFile
    os_pages: OsPages | None
    is_whole: bool
    sums: Sums

    def filled(self) -> OsPages:
        """Return the OS pages that may be other than what is below, or than zero."""
        if self.os_pages is not None:
            return self.os_pages
        spans = [(start // OS_PAGE_BYTES, stop) for start, stop in self.file.extents()]
        found = [np.arange(first, -(-stop // OS_PAGE_BYTES)) for first, stop in spans]
        # What should be there, and is a hole now, is looked at as well.
        return np.unique(np.concatenate([self.sums.os_pages, *found]))

    def take(self, wanted: OsPages, out: Contents, places: OsPages) -> OsPages:
        """Put the OS pages that it has to where they are wanted.

        Args:
            wanted: Which are asked for.
            out: All that are asked for, by row.
            places: The row of each.

        Returns:
            The positions in ``wanted`` of those that it does not have.

        Raises:
            SnapshotError: One has other bytes than when it was copied.
        """
        if self.os_pages is None:
            self._copy(wanted, 0, out, places)
            self._check(wanted, out, places)
            return NO_OS_PAGES
        if not len(self.os_pages):
            return np.arange(len(wanted))
        at = np.searchsorted(self.os_pages, wanted)
        is_there = self.os_pages[np.minimum(at, len(self.os_pages) - 1)] == wanted
        self._copy(at[is_there], _data_offset(len(self.os_pages)), out, places[is_there])
        self._check(wanted[is_there], out, places[is_there])
        return np.flatnonzero(~is_there)

    def _check(self, os_pages: OsPages, content: Contents, places: OsPages) -> None:
        found = np.array([crc32(content[row]) for row in places.tolist()], np.uint32)
        wrong = os_pages[found != self.sums.of(os_pages)]
        if len(wrong):
            more = "" if len(wrong) == 1 else f", nor do {len(wrong) - 1} more read with it"
            raise _damaged(
                self.name, f"OS page {wrong[0]} does not have the checksum that it had{more}"
            )

    def _copy(self, slots: OsPages, offset: int, out: Contents, places: OsPages) -> None:
        """Copy rows of the file, each run of neighbours with one call."""
        for first, stop in runs_of(slots):
            start = offset + int(slots[first]) * OS_PAGE_BYTES
            data = self.file.read(start, (stop - first) * OS_PAGE_BYTES)
            whole = np.frombuffer(data.ljust((stop - first) * OS_PAGE_BYTES, b"\0"), np.uint8)
            out[places[first:stop]] = whole.reshape(-1, OS_PAGE_BYTES)


class LayeredBytes:
    """The bytes of one snapshot, read as a file is; see `sqlstable.memory.image.osfile.ReadFile`.

    Args:
        layers: From the lowest to its own.
    """

    def __init__(self, layers: Sequence[Layer]) -> None:
        assert layers
        self.layers = layers
        self.wasm_pages = layers[-1].wasm_pages

    def size(self) -> int:
        """Return the length in bytes."""
        return self.wasm_pages * WASM_PAGE_BYTES

    def gather(self, os_pages: OsPages) -> Contents:
        """Return the bytes of some OS pages."""
        out = np.zeros((len(os_pages), OS_PAGE_BYTES), np.uint8)
        places, reach = np.arange(len(os_pages)), self.wasm_pages
        for layer in reversed(self.layers):
            reach = min(reach, layer.wasm_pages)
            places = places[os_pages[places] < reach * OS_PAGES_PER_WASM_PAGE]
            if not len(places):
                break
            places = places[layer.take(os_pages[places], out, places)]
            if layer.is_whole:
                break
        return out

    def filled(self) -> OsPages:
        """Return the OS pages that may be other than zero."""
        found = []
        for layer in reversed(self.layers):
            found.append(layer.filled())
            if layer.is_whole:
                break
        all_of_them = np.unique(np.concatenate(found))
        return all_of_them[all_of_them < self.wasm_pages * OS_PAGES_PER_WASM_PAGE]

    def read(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes; fewer at the end."""
        length = min(length, self.size() - offset)
        if length <= 0:
            return b""
        first = offset // OS_PAGE_BYTES
        os_pages = np.arange(first, -(-(offset + length) // OS_PAGE_BYTES))
        start = offset - first * OS_PAGE_BYTES
        return self.gather(os_pages).tobytes()[start : start + length]

    def extents(self) -> Iterator[tuple[int, int]]:
        """Yield what may be other than zero."""
        filled = self.filled()
        for first, stop in runs_of(filled):
            yield int(filled[first]) * OS_PAGE_BYTES, (int(filled[stop - 1]) + 1) * OS_PAGE_BYTES

    def close(self) -> None:
        """Close the files of the layers."""
        for layer in self.layers:
            layer.file.close()


def layer_parts(
    os_pages: OsPages,
    contents: Iterable[Sequence[Bytes]],
    *,
    wasm_pages: int,
    is_whole: bool = False,
) -> Iterator[Sequence[Bytes]]:
    """Yield the bytes of a layer, some pieces at a time.

    Args:
        os_pages: What it has.
        contents: Their bytes, in that order, in pieces of whole OS pages.
        wasm_pages: Size of stable memory.
        is_whole: Whether nothing below shows.
    """
    yield _front(os_pages, wasm_pages=wasm_pages, is_whole=is_whole)
    crcs: list[int] = []
    for pieces in contents:
        crcs += os_page_crcs(pieces)
        yield pieces
    yield _summed(np.array(crcs, np.uint32))


def sums_parts(sums: Sums, *, wasm_pages: int) -> Iterator[Sequence[Bytes]]:
    """Yield the bytes of the file with the checksums of an image."""
    yield _front(sums.os_pages, wasm_pages=wasm_pages, is_whole=True)
    yield _summed(sums.crcs)


def sums_of(file: ReadFile) -> Sums:
    """Read an image, and return the checksums of its OS pages."""
    os_pages, found = [NO_OS_PAGES], [np.empty(0, np.uint32)]
    for first, crcs in os_page_crcs_of(file, ALL_OS_PAGES):
        filled = np.flatnonzero(crcs != ZERO_CRC)
        os_pages.append(filled + first)
        found.append(crcs[filled].astype(np.uint32))
    return Sums(np.concatenate(os_pages), np.concatenate(found))


def _front(os_pages: OsPages, *, wasm_pages: int, is_whole: bool) -> tuple[bytes, bytes]:
    table = os_pages.astype("<u8").tobytes()
    flags = _WHOLE if is_whole else 0
    head = _HEAD.pack(_MAGIC, _VERSION, flags, wasm_pages, len(os_pages), crc32(table))
    front = (head + _CRC.pack(crc32(head))).ljust(OS_PAGE_BYTES, b"\0")
    return front, table.ljust(_data_offset(len(os_pages)) - OS_PAGE_BYTES, b"\0")


def _summed(crcs: Crcs) -> tuple[bytes, bytes]:
    data = crcs.astype("<u4").tobytes()
    return data, _CRC.pack(crc32(data))


def read_image_layer(name: str, file: ReadFile, sums: Sums) -> Layer:
    """Return the layer that is an image, with its checksums.

    Raises:
        SnapshotError: It is damaged.
    """
    size_bytes = file.size()
    if size_bytes % WASM_PAGE_BYTES:
        raise _damaged(name, f"it has {size_bytes} bytes, and these are no whole Wasm pages")
    return Layer(name, size_bytes // WASM_PAGE_BYTES, file, None, is_whole=True, sums=sums)


def read_layer(name: str, file: ReadFile) -> Layer:
    """Return the layer that a file holds, or, without a byte of them, OS pages of an image.

    Raises:
        SnapshotError: It is damaged, or of another format.
    """
    size_bytes = file.size()
    kept_bytes = 0 if name.endswith(SUMS_SUFFIX) else OS_PAGE_BYTES
    head = file.read(0, _HEAD.size + _CRC.size)
    if len(head) < _HEAD.size + _CRC.size or not head.startswith(_MAGIC):
        raise _damaged(name, "it does not begin as one")
    if crc32(head[: _HEAD.size]) != _CRC.unpack(head[_HEAD.size :])[0]:
        raise _damaged(name, "the checksum of its head is wrong")
    _, version, flags, wasm_pages, count, crc = _HEAD.unpack(head[: _HEAD.size])
    if version != _VERSION or flags > _WHOLE:
        raise SnapshotError(
            f"{name} is a layer of format {version}, and {_VERSION} is known here; another release "
            "of sqlstable reads it"
        )
    crcs_offset = _data_offset(count) + count * kept_bytes
    expected_bytes = crcs_offset + count * _CRC.size + _CRC.size
    if size_bytes != expected_bytes:
        raise _damaged(name, f"it has {size_bytes} bytes instead of {expected_bytes}")
    table = file.read(OS_PAGE_BYTES, count * 8)
    if crc32(table) != crc:
        raise _damaged(name, "the checksum of its table is wrong")
    data = file.read(crcs_offset, count * _CRC.size)
    if file.read(crcs_offset + len(data), _CRC.size) != _CRC.pack(crc32(data)):
        raise _damaged(name, "the checksum of its checksums is wrong")
    os_pages = np.frombuffer(table, "<u8").astype(np.int64)
    sums = Sums(os_pages, np.frombuffer(data, "<u4").astype(np.uint32))
    return Layer(name, wasm_pages, file, os_pages, is_whole=bool(flags & _WHOLE), sums=sums)


def runs_of(numbers: OsPages) -> Iterator[tuple[int, int]]:
    """Yield the positions of each run of numbers that follow each other, first and behind last.

    Examples:
        >>> list(runs_of(np.array([4, 5, 9])))
        [(0, 2), (2, 3)]
    """
    if not len(numbers):
        return
    breaks = np.flatnonzero(np.diff(numbers) != 1) + 1
    starts, stops = [0, *breaks.tolist()], [*breaks.tolist(), len(numbers)]
    for first, stop in zip(starts, stops, strict=True):
        # A run may be as long as an image.
        for start in range(first, stop, OS_PAGES_AT_ONCE):
            yield start, min(start + OS_PAGES_AT_ONCE, stop)


def byte_runs(os_pages: OsPages) -> list[Run]:
    """Return first byte and length of each run of OS pages that follow each other.

    Examples:
        >>> byte_runs(np.array([4, 5, 9]))
        [(16384, 8192), (36864, 4096)]
    """
    if not len(os_pages):
        return []
    breaks = np.flatnonzero(np.diff(os_pages) != 1) + 1
    firsts = np.concatenate(([0], breaks))
    lengths = np.diff(np.concatenate((firsts, [len(os_pages)]))) * OS_PAGE_BYTES
    return [*zip((os_pages[firsts] * OS_PAGE_BYTES).tolist(), lengths.tolist(), strict=True)]


def batches_of(os_pages: OsPages) -> Iterator[OsPages]:
    """Yield some at a time, as many as are copied at once."""
    for start in range(0, len(os_pages), OS_PAGES_AT_ONCE):
        yield os_pages[start : start + OS_PAGES_AT_ONCE]


def _data_offset(count: int) -> int:
    return OS_PAGE_BYTES + -(-count * 8 // OS_PAGE_BYTES) * OS_PAGE_BYTES


def _damaged(name: str, what: str) -> SnapshotError:
    return SnapshotError(
        f"{name}, a layer of snapshots, is damaged: {what}. The snapshots that stand on it are "
        "lost; delete them"
    )
