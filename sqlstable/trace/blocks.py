"""The compressed block that keeps the ordered accesses of one statement.

As plain rows, 10 million accesses fill 140 MB of a trace file. As one block, reads and writes
at random over 500 GiB fill 35 MB, and a scan through the file in order 13 kB. A block is built
from chunks, segment by segment, so the accesses never have to be in memory all at once.

Invariants:

* ``decode_accesses(encode_accesses(chunks))`` gives back every value of every column exactly,
  over the whole range of a signed 64-bit integer.
* The bytes depend on the accesses alone, not on how they were cut into chunks.
* Every segment but the last holds ``SEGMENT_ACCESSES`` accesses.
* The checksum covers everything before it: a damaged block is refused, never half read.

Layout. Integers of fixed size are little-endian; ``v`` and columns are as in
`sqlstable.trace.format.columns`::

    block          version u8 = 1 | segment … | CRC-32 of all bytes before it, u32
    segment        accesses v, 1 or more | body bytes v | packed bytes v | packed body
                   equal sizes: the body as it is; else a zlib stream
    body           what | length | offset | displacement | address

``what`` and ``length`` are columns with one value per access; ``what`` is 2 * kind, plus 1 where
the access lies outside of the database file. The column ``offset`` has one value per access
inside, the column ``address`` one per access outside. An access inside has its address at
``offset + displacement``, modulo 2**64. The displacement is constant, or constant in each bucket of
the memory manager; then it is kept as a function of the offset::

    displacement   0 | values                         a column, one value per access inside
                   granule u8, 16 or 23 | runs v | starts | values
                                                      from offset starts[i] * 2**granule on,
                                                      values[i]: two columns of runs values

Thus reads of whole SQLite pages at random over 500 GiB take 27 bits each before any compression,
and one more where reads and writes mix.

Limitations: kinds are of 8 bits. SQLite keeps at most 1 000 000 000 bytes in one value, which is
room for 280 million accesses at random over 500 GiB.
"""

import zlib
from collections.abc import Iterable, Iterator, Sequence
from io import BytesIO
from itertools import repeat
from operator import lshift, sub
from typing import Final

import numpy as np

from sqlstable.errors import TraceError
from sqlstable.ic.accesses import Access, Accesses, FewAccesses
from sqlstable.trace.format.columns import (
    FEW_VALUES,
    ByteReader,
    Int64s,
    encode_column,
    encode_few,
    is_constant,
    varint,
)

BLOCK_VERSION: Final = 1
"""First byte of every block."""

_HEAD: Final = bytes([BLOCK_VERSION])

EMPTY_BLOCK: Final = _HEAD + zlib.crc32(_HEAD).to_bytes(4, "little")
"""The block that holds no accesses."""

SEGMENT_ACCESSES: Final = 1 << 17
"""Accesses in one segment: 6.5 MB as columns, which bounds the memory that encoding needs."""

# Bodies smaller than this do not get smaller by compression.
_COMPRESS_BYTES_MIN: Final = 64
_CRC_BYTES: Final = len(EMPTY_BLOCK) - len(_HEAD)
# One body is at most this large: five columns of 64-bit values, and room for all heads.
_BODY_BYTES_MAX: Final = 5 * 8 * SEGMENT_ACCESSES + 4096
# Memory managers hand out buckets of 8 MiB by default, and always whole Wasm pages.
_GRANULES: Final = (23, 16)
# Granules a displacement table may span: 8 MB of memory, and 8 TiB of database at 8 MiB each.
_TABLE_GRANULES_MAX: Final = 1 << 20
_LISTED: Final = 0
_LISTED_HEAD: Final = bytes([_LISTED])
_SIGN: Final = 1 << 63
_WORD: Final = (1 << 64) - 1


def encode_accesses(chunks: Iterable[Accesses]) -> bytes:
    """Return the block that holds these accesses in order.

    Args:
        chunks: Accesses in the order in which they happened, in pieces of any size. A chunk must
            not change until encoding has ended.

    Returns:
        One block: 5 bytes where there are no accesses, else from 15 bytes up.

    Examples:
        >>> block = encode_accesses([])
        >>> len(block), len(decode_accesses(block))
        (5, 0)
    """
    if isinstance(chunks, FewAccesses) and len(chunks.rows) < FEW_VALUES:
        return _block_of_few(chunks.rows)
    block = BytesIO()
    block.write(_HEAD)
    checksum = zlib.crc32(_HEAD)
    for accesses in _whole_segments(chunks):
        segment = _segment(accesses)
        block.write(segment)
        checksum = zlib.crc32(segment, checksum)
    block.write(checksum.to_bytes(_CRC_BYTES, "little"))
    return block.getvalue()


def decode_accesses(block: bytes | memoryview) -> Accesses:
    """Return the accesses that a block holds.

    Args:
        block: What ``encode_accesses`` returned.

    Raises:
        TraceError: The block is damaged, or of a newer version.
    """
    return Accesses.joined(decode_segments(block))


def decode_segments(block: bytes | memoryview) -> Iterator[Accesses]:
    """Yield the accesses that a block holds, at most ``SEGMENT_ACCESSES`` at a time.

    Args:
        block: What ``encode_accesses`` returned.

    Raises:
        TraceError: The block is damaged, or of a newer version.
    """
    reader = ByteReader(_checked(memoryview(block)))
    try:
        while not reader.at_end():
            yield _read_segment(reader)
    except (ValueError, IndexError, zlib.error) as error:
        raise TraceError(f"a block of accesses is damaged: {error}") from error


def count_accesses(block: bytes | memoryview) -> int:
    """Return how many accesses a block holds, from the heads of its segments alone.

    Args:
        block: What ``encode_accesses`` returned. Its checksum is left for who decodes it.

    Raises:
        TraceError: The block ends too early.
    """
    reader = ByteReader(memoryview(block)[1:-_CRC_BYTES])
    count = 0
    try:
        while not reader.at_end():
            count += reader.varint(SEGMENT_ACCESSES)
            reader.varint(_BODY_BYTES_MAX)
            reader.take(reader.varint(_BODY_BYTES_MAX))
    except ValueError as error:
        raise TraceError(f"a block of accesses is damaged: {error}") from error
    return count


def decode_few(block: bytes | memoryview) -> list[Access]:
    """Return the accesses of a block that holds fewer than `FEW_VALUES`, as plain integers.

    Args:
        block: What ``encode_accesses`` returned.

    Raises:
        TraceError: The block is damaged, or of a newer version.
    """
    reader = ByteReader(_checked(memoryview(block)))
    try:
        rows = []
        while not reader.at_end():
            rows += _read_few(reader)
    except (ValueError, IndexError, zlib.error) as error:
        raise TraceError(f"a block of accesses is damaged: {error}") from error
    return rows


def _checked(block: memoryview) -> memoryview:
    """Return what lies between version and checksum, once both are found right."""
    if len(block) < 1 + _CRC_BYTES:
        raise TraceError(f"a block of accesses is damaged: it has {len(block)} bytes, 5 at least")
    content = block[:-_CRC_BYTES]
    if zlib.crc32(content) != int.from_bytes(block[-_CRC_BYTES:], "little"):
        raise TraceError("a block of accesses is damaged: its checksum does not match")
    if content[0] != BLOCK_VERSION:
        raise TraceError(
            f"a block of accesses has version {content[0]}, and this sqlstable reads "
            f"{BLOCK_VERSION}; upgrade sqlstable"
        )
    return content[1:]


def _whole_segments(chunks: Iterable[Accesses]) -> Iterator[Accesses]:
    """Cut the accesses anew, so that segments do not depend on how they came."""
    pending: list[Accesses] = []
    pending_count = 0
    for chunk in chunks:
        start = 0
        while start < len(chunk):
            stop = min(len(chunk), start + SEGMENT_ACCESSES - pending_count)
            pending.append(chunk.slice(start, stop))
            pending_count += stop - start
            start = stop
            if pending_count == SEGMENT_ACCESSES:
                segment = Accesses.joined(pending)
                # Let go of the pieces now: while the segment is encoded, memory is at its peak.
                pending, pending_count = [], 0
                yield segment
    if pending:
        yield Accesses.joined(pending)


# Writing ------------------------------------------------------------------------------------


def _block_of_few(rows: Sequence[Access]) -> bytes:
    """Return the block of accesses that fit in one segment of short columns."""
    if not rows:
        return EMPTY_BLOCK
    kinds, addresses, lengths, offsets = zip(*rows, strict=True)
    whats: Sequence[int] = [*map(lshift, kinds, repeat(1))]
    outside: Sequence[int] = ()
    if -1 in offsets:
        whats = [kind << 1 | (offset == -1) for kind, _, _, offset in rows]
        outside = [address for _, address, _, offset in rows if offset == -1]
        addresses = tuple(address for _, address, _, offset in rows if offset != -1)
        offsets = tuple(offset for offset in offsets if offset != -1)
    displacements: Sequence[int] = [*map(sub, addresses, offsets)]
    if displacements and not -_SIGN <= min(displacements) <= max(displacements) < _SIGN:
        # Only damaged numbers lie so far apart; a difference is kept as 64 bits hold it.
        displacements = [(value + _SIGN & _WORD) - _SIGN for value in displacements]
    body = b"".join(
        (
            encode_few(whats),
            encode_few(lengths),
            encode_few(offsets),
            _LISTED_HEAD,
            encode_few(displacements),
            encode_few(outside),
        )
    )
    block = _HEAD + pack(body, len(rows))
    return block + zlib.crc32(block).to_bytes(_CRC_BYTES, "little")


def _segment(accesses: Accesses) -> bytes:
    return pack(_body(accesses), len(accesses))


def pack(body: bytes, count: int) -> bytes:
    """Return a body behind how many values it has, compressed where that makes it smaller."""
    packed = zlib.compress(body, 1) if len(body) >= _COMPRESS_BYTES_MIN else body
    if len(packed) >= len(body):
        packed = body
    return varint(count) + varint(len(body)) + varint(len(packed)) + packed


def _body(accesses: Accesses) -> bytes:
    address = np.asarray(accesses.address, np.int64)
    offset = np.asarray(accesses.offset, np.int64)
    outside = offset == -1
    what = (np.asarray(accesses.kind, np.int64) << 1) | outside
    address_outside = address[:0]
    if outside.any():
        inside = ~outside
        address_outside = address[outside]
        address, offset = address[inside], offset[inside]
    return b"".join(
        (
            encode_column(what),
            encode_column(np.asarray(accesses.length, np.int64)),
            encode_column(offset),
            _displacement(offset, address - offset),
            encode_column(address_outside),
        )
    )


def _displacement(offset: Int64s, displacement: Int64s) -> bytes:
    if len(offset) >= FEW_VALUES and not is_constant(displacement):
        for granule in _GRANULES:
            table = _displacement_table(offset >> granule, displacement)
            if table is not None:
                starts, values = table
                head = bytes([granule]) + varint(len(starts))
                return head + encode_column(starts) + encode_column(values)
    return _LISTED_HEAD + encode_column(displacement)


def _displacement_table(granules: Int64s, values: Int64s) -> tuple[Int64s, Int64s] | None:
    """Return where runs of equal values start, and their values; None if that is not exact."""
    first = int(granules.min())
    span = int(granules.max()) - first + 1
    if span > _TABLE_GRANULES_MAX:
        return None
    index = granules - first
    table = np.zeros(span, np.int64)
    table[index] = values
    if (table[index] != values).any():
        return None
    seen = np.zeros(span, np.bool_)
    seen[index] = True
    starts = np.flatnonzero(seen)
    table = table[starts]
    changes = np.flatnonzero(np.concatenate(([True], table[1:] != table[:-1])))
    return starts[changes] + first, table[changes]


# Reading ------------------------------------------------------------------------------------


def _read_segment(reader: ByteReader) -> Accesses:
    count, body = unpack(reader)
    accesses = _read_body(body, count)
    if not body.at_end():
        raise ValueError("a segment has bytes left over")
    return accesses


def unpack(
    reader: ByteReader, count_max: int = SEGMENT_ACCESSES, bytes_max: int = _BODY_BYTES_MAX
) -> tuple[int, ByteReader]:
    """Return how many values the next body has, and the body.

    Raises:
        ValueError: There are none, or more than ``count_max``, or more than ``bytes_max`` bytes, or
            they are damaged.
    """
    count = reader.varint(count_max)
    body_bytes = reader.varint(bytes_max)
    packed = reader.take(reader.varint(bytes_max))
    if count == 0:
        raise ValueError("a segment is empty")
    is_plain = len(packed) == body_bytes
    return count, ByteReader(packed if is_plain else _decompressed(packed, body_bytes))


def _read_few(reader: ByteReader) -> list[Access]:
    """Return what `_read_segment` does, as plain integers."""
    count, body = unpack(reader)
    whats = body.few(count)
    lengths = body.few(count)
    inside_count = count - sum(what & 1 for what in whats)
    offsets = body.few(inside_count)
    if body.byte() != _LISTED:
        raise ValueError("a small segment has a table of displacements")
    addresses = [*map(_wrapped_sum, offsets, body.few(inside_count))]
    outside = body.few(count - inside_count)
    if not body.at_end():
        raise ValueError("a segment has bytes left over")
    if not outside:
        return [*zip([what >> 1 for what in whats], addresses, lengths, offsets, strict=True)]
    inside_of, outside_of = iter(zip(addresses, offsets, strict=True)), iter(outside)
    return [
        (what >> 1, next(outside_of), length, -1)
        if what & 1
        else (what >> 1, (place := next(inside_of))[0], length, place[1])
        for what, length in zip(whats, lengths, strict=True)
    ]


def _wrapped_sum(offset: int, displacement: int) -> int:
    """Add as 64 bits do."""
    value = offset + displacement
    return value if -_SIGN <= value < _SIGN else (value + _SIGN & _WORD) - _SIGN


def _decompressed(packed: memoryview, body_bytes: int) -> memoryview:
    # The size is bounded before anything is unpacked: a few damaged bytes could claim gigabytes.
    inflater = zlib.decompressobj()
    body = inflater.decompress(packed, body_bytes + 1)
    if len(body) != body_bytes or not inflater.eof or inflater.unused_data:
        raise ValueError(f"a segment does not unpack to {body_bytes} bytes")
    return memoryview(body)


def _read_body(reader: ByteReader, count: int) -> Accesses:
    what = reader.column(count)
    length = reader.column(count)
    inside = (what & 1) == 0
    inside_count = int(np.count_nonzero(inside))
    inside_offset = reader.column(inside_count)
    address, offset = np.empty(count, np.int64), np.full(count, -1, np.int64)
    offset[inside] = inside_offset
    address[inside] = inside_offset + _read_displacement(reader, inside_offset)
    address[~inside] = reader.column(count - inside_count)
    return Accesses((what >> 1).astype(np.int8), address, length, offset)


def _read_displacement(reader: ByteReader, offset: Int64s) -> Int64s:
    granule = reader.byte()
    if granule == _LISTED:
        return reader.column(len(offset))
    if granule not in _GRANULES:
        raise ValueError(f"a granule of 2**{granule} bytes")
    run_count = reader.varint(len(offset))
    starts, values = reader.column(run_count), reader.column(run_count)
    return values[np.searchsorted(starts, offset >> granule, side="right") - 1]
