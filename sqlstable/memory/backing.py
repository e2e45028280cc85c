"""Where the bytes of a stable memory are kept, behind one small protocol.

Stable memory is huge and mostly empty: 500 GiB may be grown of which a few MiB hold data. Every
backing is therefore sparse: bytes that were never written read as zero and cost nothing.

=====================  ===========================================================================
`MappedBacking`        an anonymous map that reserves addresses only; one flat view for all reads
`ChunkBacking`         a dictionary of 64 KiB chunks; any address, any system, about ten times
                       slower
`TieredBacking`        the first for the addresses it can reach, the second for all beyond
=====================  ===========================================================================
"""

import mmap
import sys
from contextlib import suppress
from typing import Final, Protocol

from sqlstable.errors import ImageError
from sqlstable.ic.units import GIB, KIB, OS_PAGE_BYTES, WASM_PAGE_BYTES, amount

Bytes = bytes | bytearray | memoryview

FLAT_BYTES_MAX: Final = 512 * GIB
"""Addresses that one map reserves at most; today's 500 GiB of stable memory fit."""

CHUNK_BYTES: Final = 64 * KIB
assert CHUNK_BYTES % OS_PAGE_BYTES == 0

# Linux's value; the mmap module names it only from Python 3.13 on.
_MAP_NORESERVE: Final[int] = getattr(mmap, "MAP_NORESERVE", 0x4000)


class Backing(Protocol):
    """Bytes by address. Never written ones read as zero; no bounds are checked here."""

    @property
    def flat(self) -> memoryview | None:
        """One writable view of the addresses from 0 on, or None where there is none."""
        ...

    def read(self, address: int, length: int) -> Bytes:
        """Return ``length`` bytes from ``address`` on; the result may change with later writes."""
        ...

    def write(self, address: int, data: Bytes) -> None:
        """Keep ``data`` from ``address`` on."""
        ...

    def discard(self, address: int, length: int) -> None:
        """Make ``length`` bytes from ``address`` on read as zero, and give their memory back."""
        ...

    def empty(self) -> "Backing":
        """Return a new backing of the same kind and reach that holds only zeros."""
        ...

    def close(self) -> None:
        """Give everything back; the backing is not used afterwards."""
        ...


class MappedBacking:
    """An anonymous private map with ``MAP_NORESERVE``: only written OS pages take memory.

    Args:
        capacity_bytes: Addresses reserved, a multiple of 4096.

    Raises:
        OSError: The system has no such maps, or no addresses left.
    """

    def __init__(self, capacity_bytes: int) -> None:
        """Reserve the addresses; takes about 10 µs whatever the capacity."""
        assert capacity_bytes % OS_PAGE_BYTES == 0
        if sys.platform != "linux":
            raise OSError("sparse anonymous maps are used on Linux only")
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE
        self._map: mmap.mmap | None = mmap.mmap(-1, capacity_bytes, flags=flags)
        with suppress(OSError):
            # A kernel with transparent huge pages may else spend 2 MiB on a single byte.
            self._map.madvise(mmap.MADV_NOHUGEPAGE)
        self._view = memoryview(self._map)
        self.flat: memoryview | None = self._view

    def read(self, address: int, length: int) -> memoryview:
        """Return a view, without copying."""
        return self._view[address : address + length]

    def write(self, address: int, data: Bytes) -> None:
        """Copy ``data`` into the map."""
        self._view[address : address + len(data)] = data

    def discard(self, address: int, length: int) -> None:
        """Drop what the system can drop of the range, and write zeros at its ragged ends."""
        end = address + length
        first = min(end, -(-address // mmap.PAGESIZE) * mmap.PAGESIZE)
        last = max(first, end // mmap.PAGESIZE * mmap.PAGESIZE)
        self._view[address:first] = bytes(first - address)
        self._view[last:end] = bytes(end - last)
        if last > first:
            assert self._map is not None
            self._map.madvise(mmap.MADV_DONTNEED, first, last - first)

    def empty(self) -> "MappedBacking":
        """Return a second map of the same capacity."""
        return MappedBacking(len(self._view))

    def close(self) -> None:
        """Drop the views; the map goes with the last view that somebody else still holds."""
        self._map = self.flat = None
        self._view = memoryview(b"")


class ChunkBacking:
    """A dictionary of 64 KiB chunks: any address below 2^64, on any system."""

    flat: memoryview | None = None

    def __init__(self) -> None:
        self._chunks: dict[int, bytearray] = {}

    def read(self, address: int, length: int) -> bytes:
        """Return a copy; chunks that do not exist read as zeros."""
        index, start = divmod(address, CHUNK_BYTES)
        if start + length <= CHUNK_BYTES:
            chunk = self._chunks.get(index)
            return bytes(length) if chunk is None else bytes(chunk[start : start + length])
        result = bytearray(length)
        for piece, start, done, count in _pieces(address, length):
            chunk = self._chunks.get(piece)
            if chunk is not None:
                result[done : done + count] = chunk[start : start + count]
        return bytes(result)

    def write(self, address: int, data: Bytes) -> None:
        """Copy ``data`` into chunks, making those that are missing."""
        view = memoryview(data)
        for piece, start, done, count in _pieces(address, len(data)):
            chunk = self._chunks.get(piece)
            if chunk is None:
                chunk = self._chunks[piece] = bytearray(CHUNK_BYTES)
            chunk[start : start + count] = view[done : done + count]

    def discard(self, address: int, length: int) -> None:
        """Forget whole chunks, and write zeros into those that are covered in part."""
        first, last = address // CHUNK_BYTES, (address + length) // CHUNK_BYTES
        if last - first > len(self._chunks):
            touched = [index for index in self._chunks if first <= index <= last]
        else:
            touched = [index for index in range(first, last + 1) if index in self._chunks]
        for index in touched:
            start = max(address - index * CHUNK_BYTES, 0)
            stop = min(address + length - index * CHUNK_BYTES, CHUNK_BYTES)
            if stop - start == CHUNK_BYTES:
                del self._chunks[index]
            elif stop > start:
                self._chunks[index][start:stop] = bytes(stop - start)

    def empty(self) -> "ChunkBacking":
        """Return a new dictionary."""
        return ChunkBacking()

    def close(self) -> None:
        """Forget all chunks."""
        self._chunks.clear()


class TieredBacking:
    """A map for the addresses it reaches, and chunks for everything beyond."""

    def __init__(self, near: Backing, far: Backing, *, near_bytes: int) -> None:
        """Join two backings at address ``near_bytes``, where the near one's flat view ends."""
        assert near.flat is None or len(near.flat) == near_bytes
        self._near = near
        self._far = far
        self._near_bytes = near_bytes

    @property
    def flat(self) -> memoryview | None:
        """The near backing's view."""
        return self._near.flat

    def read(self, address: int, length: int) -> Bytes:
        """Read from the one or the other, or join both at the border."""
        near = self._near_length(address, length)
        if near == length:
            return self._near.read(address, length)
        head = bytes(self._near.read(address, near)) if near else b""
        return head + self._far.read(address + near, length - near)

    def write(self, address: int, data: Bytes) -> None:
        """Write to the one or the other, or split at the border."""
        near = self._near_length(address, len(data))
        view = memoryview(data)
        if near:
            self._near.write(address, view[:near])
        if near < len(data):
            self._far.write(address + near, view[near:])

    def discard(self, address: int, length: int) -> None:
        """Discard in both."""
        near = self._near_length(address, length)
        if near:
            self._near.discard(address, near)
        if near < length:
            self._far.discard(address + near, length - near)

    def empty(self) -> "TieredBacking":
        """Return a new pair."""
        return TieredBacking(self._near.empty(), self._far.empty(), near_bytes=self._near_bytes)

    def close(self) -> None:
        """Close both."""
        self._near.close()
        self._far.close()

    def _near_length(self, address: int, length: int) -> int:
        return min(max(self._near_bytes - address, 0), length)


def reserve(capacity_bytes: int) -> Backing:
    r"""Return the fastest backing that this system offers for ``capacity_bytes`` addresses.

    Args:
        capacity_bytes: Highest address plus one that will be used, up to 2^64.

    Examples:
        >>> backing = reserve(1 << 63)
        >>> backing.write(1 << 62, b"far")
        >>> bytes(backing.read((1 << 62) - 1, 5))
        b'\x00far\x00'
        >>> backing.close()
    """
    near_bytes = min(-(-capacity_bytes // CHUNK_BYTES) * CHUNK_BYTES, FLAT_BYTES_MAX)
    try:
        near = MappedBacking(near_bytes)
    except OSError:
        # No sparse maps, or this process has used up its addresses: slower, and just as right.
        return ChunkBacking()
    if near_bytes >= capacity_bytes:
        return near
    return TieredBacking(near, ChunkBacking(), near_bytes=near_bytes)


def reserve_pair(capacity_bytes: int) -> tuple[Backing, Backing]:
    """Return two backings of one kind, for committed and for staged bytes."""
    backing = reserve(capacity_bytes)
    try:
        return backing, backing.empty()
    except OSError:
        # There were addresses left for one map, but not for two.
        backing.close()
        return ChunkBacking(), ChunkBacking()


def whole_wasm_pages(size_bytes: int) -> int:
    """Return of how many Wasm pages an image consists.

    Raises:
        ImageError: The last one is not whole.
    """
    wasm_pages, rest = divmod(size_bytes, WASM_PAGE_BYTES)
    if rest:
        whole = amount(wasm_pages, "Wasm page")
        raise ImageError(
            f"the image is {size_bytes} bytes long, {rest} more than {whole}; it is truncated, "
            "or not an image of stable memory"
        )
    return wasm_pages


def check_size(wasm_pages: int, wasm_pages_max: int) -> None:
    """Check that an image is not too large.

    Raises:
        ImageError: It is.
    """
    if wasm_pages > wasm_pages_max:
        raise ImageError(
            f"the image has {amount(wasm_pages, 'Wasm page')}, the limit is {wasm_pages_max}; "
            "choose limits of a later date, or None"
        )


def _pieces(address: int, length: int) -> list[tuple[int, int, int, int]]:
    """Cut a range at chunk borders: (chunk index, start inside, bytes before, byte count)."""
    pieces = []
    done = 0
    while done < length:
        index, start = divmod(address + done, CHUNK_BYTES)
        count = min(CHUNK_BYTES - start, length - done)
        pieces.append((index, start, done, count))
        done += count
    return pieces
