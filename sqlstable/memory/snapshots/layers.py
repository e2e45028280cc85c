"""The bytes of snapshots, in layers: each holds the OS pages that changed since the one below.

A layer is a file, or bytes in memory, and never changes. The bytes of a snapshot are its uppermost
layer's OS pages, and for all others those of the next one below that has them.

=============  ===================================================================================
``N.image``    an image as it is, with holes; nothing below it shows
``N.layer``    some OS pages, as below; the flag *whole* says that nothing below it shows
=============  ===================================================================================

::

    0     8   "SQSTLAYR"
    8     4   version, 1
    12    4   flags: 1 whole
    16    8   size of stable memory, in Wasm pages
    24    8   number of OS pages
    32    4   CRC-32 of the table
    36    4   CRC-32 of the 36 bytes before
    4096      table: the index of each OS page, 8 bytes, ascending; zeros up to a whole OS page
    …         the OS pages, 4096 bytes each

Numbers are little-endian.

**Invariants**

* What a layer showed stays as it is, however many others come above it.
* An OS page behind the size that a layer states is zero, and shows nothing from below, also where
  a later one is larger again.

**Limitations.** The OS pages themselves carry no checksum, as an image carries none: it would take
longer than all the rest.
"""

import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from sqlstable.errors import SnapshotError
from sqlstable.ic.units import OS_PAGE_BYTES, OS_PAGES_PER_WASM_PAGE, WASM_PAGE_BYTES
from sqlstable.memory.backing import Bytes
from sqlstable.memory.image.osfile import ReadFile, Run

OsPages = npt.NDArray[np.int64]
"""Indexes of OS pages, ascending, each once."""

Contents = npt.NDArray[np.uint8]
"""Bytes of OS pages, 4096 to a row."""

IMAGE_SUFFIX: Final = ".image"
LAYER_SUFFIX: Final = ".layer"

OS_PAGES_AT_ONCE: Final = 1024
"""Copied with one call: 4 MiB."""

_MAGIC: Final = b"SQSTLAYR"
_VERSION: Final = 1
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
class Layer:
    """One layer.

    Attributes:
        name: Of its file.
        wasm_pages: Size of stable memory when it was made.
        file: Where it is.
        os_pages: Those that it has; None for an image, which has all.
        is_whole: Whether nothing below shows.
    """

    name: str
    wasm_pages: int
    file: ReadFile
    os_pages: OsPages | None
    is_whole: bool

    def filled(self) -> OsPages:
        """Return the OS pages that may be other than what is below, or than zero."""
        if self.os_pages is not None:
            return self.os_pages
        spans = [(start // OS_PAGE_BYTES, stop) for start, stop in self.file.extents()]
        found = [np.arange(first, -(-stop // OS_PAGE_BYTES)) for first, stop in spans]
        return np.unique(np.concatenate(found)) if found else NO_OS_PAGES

    def take(self, wanted: OsPages, out: Contents, places: OsPages) -> OsPages:
        """Put the OS pages that it has to where they are wanted.

        Args:
            wanted: Which are asked for.
            out: All that are asked for, by row.
            places: The row of each.

        Returns:
            The positions in ``wanted`` of those that it does not have.
        """
        if self.os_pages is None:
            self._copy(wanted, 0, out, places)
            return NO_OS_PAGES
        if not len(self.os_pages):
            return np.arange(len(wanted))
        at = np.searchsorted(self.os_pages, wanted)
        is_there = self.os_pages[np.minimum(at, len(self.os_pages) - 1)] == wanted
        self._copy(at[is_there], _data_offset(len(self.os_pages)), out, places[is_there])
        return np.flatnonzero(~is_there)

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
        contents: Their bytes, in that order, cut anywhere.
        wasm_pages: Size of stable memory.
        is_whole: Whether nothing below shows.
    """
    table = os_pages.astype("<u8").tobytes()
    flags = _WHOLE if is_whole else 0
    head = _HEAD.pack(_MAGIC, _VERSION, flags, wasm_pages, len(os_pages), zlib.crc32(table))
    front = (head + _CRC.pack(zlib.crc32(head))).ljust(OS_PAGE_BYTES, b"\0")
    yield front, table.ljust(_data_offset(len(os_pages)) - OS_PAGE_BYTES, b"\0")
    yield from contents


def read_layer(name: str, file: ReadFile) -> Layer:
    """Return the layer that a file holds.

    Raises:
        SnapshotError: It is damaged, or of a newer format.
    """
    size_bytes = file.size()
    if name.endswith(IMAGE_SUFFIX):
        if size_bytes % WASM_PAGE_BYTES:
            raise _damaged(name, f"it has {size_bytes} bytes, and these are no whole Wasm pages")
        return Layer(name, size_bytes // WASM_PAGE_BYTES, file, None, is_whole=True)
    head = file.read(0, _HEAD.size + _CRC.size)
    if len(head) < _HEAD.size + _CRC.size or not head.startswith(_MAGIC):
        raise _damaged(name, "it does not begin as one")
    if zlib.crc32(head[: _HEAD.size]) != _CRC.unpack(head[_HEAD.size :])[0]:
        raise _damaged(name, "the checksum of its head is wrong")
    _, version, flags, wasm_pages, count, crc = _HEAD.unpack(head[: _HEAD.size])
    if version != _VERSION or flags > _WHOLE:
        raise SnapshotError(
            f"{name} is a layer of format {version}, and {_VERSION} is known here; a newer release "
            "of sqlstable reads it"
        )
    expected_bytes = _data_offset(count) + count * OS_PAGE_BYTES
    if size_bytes != expected_bytes:
        raise _damaged(name, f"it has {size_bytes} bytes instead of {expected_bytes}")
    table = file.read(OS_PAGE_BYTES, count * 8)
    if zlib.crc32(table) != crc:
        raise _damaged(name, "the checksum of its table is wrong")
    os_pages = np.frombuffer(table, "<u8").astype(np.int64)
    return Layer(name, wasm_pages, file, os_pages, is_whole=bool(flags & _WHOLE))


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
