"""The compressed block that keeps the ordered accesses of one statement.

As plain rows, 10 million accesses fill 140 MB of a trace file. As one block, reads and writes
at random over 500 GiB fill 35 MB, and a scan through the file in order 10 kB. A block is built
from chunks, segment by segment, so the accesses never have to be in memory all at once.

Invariants:

* ``decode_accesses(encode_accesses(chunks))`` gives back every value of every column exactly,
  over the whole range of a signed 64-bit integer.
* The bytes depend on the accesses alone, not on how they were cut into chunks.
* Every segment but the last holds ``SEGMENT_ACCESSES`` accesses.
* The checksum covers everything before it: a damaged block is refused, never half read.

Layout. Integers of fixed size are little-endian; ``v`` is LEB128 (seven bits a byte, the lowest
first, the top bit set on all but the last); ``z`` is a signed integer as zigzag (0, -1, 1, -2 …
become 0, 1, 2, 3 …), then ``v``::

    block          version u8 = 1 | segment … | CRC-32 of all bytes before it, u32
    segment        accesses v, 1 or more | body bytes v | packed bytes v | packed body
                   equal sizes: the body as it is; else a zlib stream
    body           unit u8 | what | quotient | remainder (only where unit > 0) | length
                   | displacement

``what``, ``quotient``, ``remainder`` and ``length`` are columns with one value per access:

    what           2 * kind, plus 1 where the access lies outside of the database file
    position       quotient * 2**unit + remainder: the offset inside, the address outside
    length         as it was

An access inside has its address at ``offset + displacement``. The displacement is constant, or
constant in each bucket of the memory manager, so it is kept as a function of the offset::

    displacement   0                                  no access lies inside
                   1 | z                              the same for all
                   2 | granule u8 | runs v | starts | values
                                                      from offset starts[i] * 2**granule on,
                                                      values[i]: two columns of runs values
                   3 | values                         a column, one value per access inside

A column begins with one byte for its form. Arithmetic is modulo 2**64::

    constant       0 | value z
    planes         1 | base z | width u8 | planes     base + each value of the planes
    steps          2 | base z | width u8 | planes     base + the sum of all zigzag values so far
    sparse         3 | value z | exceptions v | indexes | values
                                                      value, but for these; the two columns are
                                                      not sparse themselves

``planes`` holds unsigned values of ``width`` bits, transposed, because equal parts of neighbours
compress when they lie side by side: first ``width // 8`` planes of one byte per value, the lowest
byte first, then ``width % 8`` planes of one bit per value, the lowest bit first, eight values to a
byte beginning with its lowest bit. Thus reads of whole SQLite pages at random over 500 GiB take
27 bits each before any compression, and one more where reads and writes mix.

Limitations: kinds are of 8 bits. SQLite keeps at most 1 000 000 000 bytes in one value, which is
room for 280 million accesses of the worst kind.
"""

import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from io import BytesIO
from typing import Final

import numpy as np
import numpy.typing as npt

from sqlstable.errors import TraceError
from sqlstable.trace.model import Accesses

BLOCK_VERSION: Final = 1
"""First byte of every block."""

_HEAD: Final = bytes([BLOCK_VERSION])

EMPTY_BLOCK: Final = _HEAD + zlib.crc32(_HEAD).to_bytes(4, "little")
"""The block that holds no accesses."""

SEGMENT_ACCESSES: Final = 1 << 18
"""Accesses in one segment: 6.5 MB as columns, which bounds the memory that encoding needs."""

# Below this many values the plain forms win, or lose less than it takes to find out.
_SMALL: Final = 64
# Bodies smaller than this do not get smaller by compression.
_COMPRESS_BYTES_MIN: Final = 64
_CRC_BYTES: Final = len(EMPTY_BLOCK) - len(_HEAD)
# One body is at most this large: six columns of 64-bit values, and room for all headers.
_BODY_BYTES_MAX: Final = 6 * 8 * SEGMENT_ACCESSES + 4096
# One exception in so many is still cheaper on its own than in planes of its own.
_SPARSE_SHARE: Final = 16
_UNIT_BITS_MAX: Final = 16
_UNIT_BITS_MIN: Final = 9
# Memory managers hand out buckets of 8 MiB by default, and always whole Wasm pages; chunked
# layouts may go down to whole OS pages.
_GRANULES: Final = (23, 16, 12)
# Granules a displacement table may span: 8 MB of memory, and 8 TiB of database at 8 MiB each.
_TABLE_GRANULES_MAX: Final = 1 << 20
_SAMPLE_WINDOWS: Final = 4
_SAMPLE_VALUES: Final = 1024

_CONSTANT, _PLANES, _STEPS, _SPARSE = range(4)
_NOWHERE, _EVERYWHERE, _TABLE, _LISTED = range(4)

_Int64s = npt.NDArray[np.int64]
_UInt64s = npt.NDArray[np.uint64]


def encode_accesses(chunks: Iterable[Accesses]) -> bytes:
    """Return the block that holds these accesses in order.

    Args:
        chunks: Accesses in the order in which they happened, in pieces of any size. A chunk must
            not change until encoding has ended.

    Returns:
        One block: 5 bytes where there are no accesses, else from 20 bytes up.

    Examples:
        >>> block = encode_accesses([])
        >>> len(block), len(decode_accesses(block))
        (5, 0)
    """
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
    segments = tuple(decode_segments(block))
    if len(segments) == 1:
        return segments[0]
    return Accesses(
        np.concatenate([np.empty(0, np.int8), *(accesses.kind for accesses in segments)]),
        np.concatenate([np.empty(0, np.int64), *(accesses.address for accesses in segments)]),
        np.concatenate([np.empty(0, np.int64), *(accesses.length for accesses in segments)]),
        np.concatenate([np.empty(0, np.int64), *(accesses.offset for accesses in segments)]),
    )


def decode_segments(block: bytes | memoryview) -> Iterator[Accesses]:
    """Yield the accesses that a block holds, at most ``SEGMENT_ACCESSES`` at a time.

    Args:
        block: What ``encode_accesses`` returned.

    Raises:
        TraceError: The block is damaged, or of a newer version.
    """
    reader = _Reader(_checked(memoryview(block)))
    try:
        while not reader.at_end():
            yield _read_segment(reader)
    except (ValueError, IndexError, zlib.error) as error:
        raise TraceError(f"a block of accesses is damaged: {error}") from error


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
                segment = _joined(pending)
                # Let go of the pieces now: while the segment is encoded, memory is at its peak.
                pending, pending_count = [], 0
                yield segment
    if pending:
        yield _joined(pending)


def _joined(pieces: list[Accesses]) -> Accesses:
    if len(pieces) == 1:
        return pieces[0]
    return Accesses(
        np.concatenate([piece.kind for piece in pieces]),
        np.concatenate([piece.address for piece in pieces]),
        np.concatenate([piece.length for piece in pieces]),
        np.concatenate([piece.offset for piece in pieces]),
    )


# Writing ------------------------------------------------------------------------------------


def _segment(accesses: Accesses) -> bytes:
    body = _body(accesses)
    packed = zlib.compress(body, 1) if len(body) >= _COMPRESS_BYTES_MIN else body
    if len(packed) >= len(body):
        packed = body
    return _varint(len(accesses)) + _varint(len(body)) + _varint(len(packed)) + packed


def _body(accesses: Accesses) -> bytes:
    address = np.asarray(accesses.address, np.int64)
    offset = np.asarray(accesses.offset, np.int64)
    outside = offset == -1
    what = _column((np.asarray(accesses.kind, np.int64) << 1) | outside)
    if outside.any():
        position = np.where(outside, address, offset)
        inside = ~outside
        address, offset = address[inside], offset[inside]
    else:
        position = offset
    unit = _unit_bits(position)
    parts = [bytes([unit]), what, _column(position >> unit)]
    if unit > 0:
        parts.append(_column(position & ((1 << unit) - 1)))
    parts.append(_column(np.asarray(accesses.length, np.int64)))
    return b"".join((*parts, _displacement(offset, address - offset)))


def _unit_bits(position: _Int64s) -> int:
    """Return the largest unit that all positions share, or nearly all of a long segment."""
    common = int(np.bitwise_or.reduce(position)) & ((1 << _UNIT_BITS_MAX) - 1)
    zero_bits = (common & -common).bit_length() - 1 if common else _UNIT_BITS_MAX
    if zero_bits >= _UNIT_BITS_MIN:
        return zero_bits
    if len(position) >= _SMALL:
        for unit in range(_UNIT_BITS_MAX, _UNIT_BITS_MIN - 1, -1):
            odd_count = np.count_nonzero(position & ((1 << unit) - 1))
            if odd_count * _SPARSE_SHARE <= len(position):
                return unit
    return 0


def _displacement(offset: _Int64s, displacement: _Int64s) -> bytes:
    if len(offset) == 0:
        return bytes([_NOWHERE])
    if _is_constant(displacement):
        return bytes([_EVERYWHERE]) + _signed_varint(int(displacement[0]))
    if len(offset) >= _SMALL:
        for granule in _GRANULES:
            table = _displacement_table(offset >> granule, displacement)
            if table is not None:
                starts, values = table
                head = bytes([_TABLE, granule]) + _varint(len(starts))
                return head + _column(starts) + _column(values)
    return bytes([_LISTED]) + _column(displacement)


def _displacement_table(granules: _Int64s, values: _Int64s) -> tuple[_Int64s, _Int64s] | None:
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


def _is_constant(values: _Int64s) -> bool:
    # Comparing bytes is several times faster than numpy on the few values of a small statement.
    raw = values.tobytes()
    return raw == raw[:8] * len(values)


def _column(values: _Int64s, *, sparse: bool = True) -> bytes:
    assert len(values) > 0
    if _is_constant(values):
        return bytes([_CONSTANT]) + _signed_varint(int(values[0]))
    if len(values) < _SMALL:
        return _small_column(values)
    if sparse:
        usual = Counter(values[:: len(values) // 16].tolist()).most_common(1)[0][0]
        exceptions = np.flatnonzero(values != usual)
        if len(exceptions) * _SPARSE_SHARE <= len(values):
            head = bytes([_SPARSE]) + _signed_varint(usual) + _varint(len(exceptions))
            indexes = _column(exceptions, sparse=False)
            return head + indexes + _column(values[exceptions], sparse=False)
    base, above = _above_base(values)
    steps = _steps(values)
    cost = _sample_bytes if len(values) >= _SAMPLE_VALUES else _width
    if cost(steps) < cost(above):
        return _planes_column(_STEPS, int(values[0]), steps)
    return _planes_column(_PLANES, base, above)


def _width(values: _UInt64s) -> int:
    return int(values.max()).bit_length()


def _small_column(values: _Int64s) -> bytes:
    # Plain Python takes a third of numpy's time on a few values, and most blocks have few.
    items = values.tolist()
    base = min(items)
    width = ((max(items) - base).bit_length() + 7) // 8 * 8
    planes = _planes((values - base).view(np.uint64), width)
    return bytes([_PLANES]) + _signed_varint(base) + bytes([width]) + planes


def _above_base(values: _Int64s) -> tuple[int, _UInt64s]:
    base = values.min()
    return int(base), (values - base).view(np.uint64)


def _steps(values: _Int64s) -> _UInt64s:
    """Return the differences of neighbours as zigzag, the first of them 0."""
    steps = np.zeros(len(values), np.int64)
    np.subtract(values[1:], values[:-1], out=steps[1:])
    return ((steps << 1) ^ (steps >> 63)).view(np.uint64)


def _sample_bytes(values: _UInt64s) -> int:
    """Return the compressed size of these values, or of a few windows of many values."""
    if len(values) > _SAMPLE_WINDOWS * _SAMPLE_VALUES:
        stride = (len(values) - _SAMPLE_VALUES) // (_SAMPLE_WINDOWS - 1)
        starts = range(0, _SAMPLE_WINDOWS * stride, stride)
        values = np.concatenate([values[start : start + _SAMPLE_VALUES] for start in starts])
    return len(zlib.compress(_planes(values, _width(values)), 1))


def _planes_column(form: int, base: int, values: _UInt64s) -> bytes:
    width = _width(values)
    return bytes([form]) + _signed_varint(base) + bytes([width]) + _planes(values, width)


def _planes(values: _UInt64s, width: int) -> bytes:
    byte_planes, bit_planes = divmod(width, 8)
    as_bytes = values.astype("<u8", copy=False).view(np.uint8).reshape(len(values), 8)
    planes = [as_bytes[:, :byte_planes].T.tobytes()]
    if bit_planes:
        top = np.ascontiguousarray(as_bytes[:, byte_planes])
        bits = (top & (1 << bit) for bit in range(bit_planes))
        planes.extend(np.packbits(plane, bitorder="little").tobytes() for plane in bits)
    return b"".join(planes)


def _varint(value: int) -> bytes:
    if value < 0x80:
        return bytes([value])
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _signed_varint(value: int) -> bytes:
    return _varint(value << 1 if value >= 0 else ~value << 1 | 1)


# Reading ------------------------------------------------------------------------------------


class _Reader:
    """A position in bytes that moves forward and never past their end."""

    def __init__(self, content: memoryview) -> None:
        self._content = content
        self._position = 0

    def at_end(self) -> bool:
        return self._position == len(self._content)

    def take(self, size_bytes: int) -> memoryview:
        start, stop = self._position, self._position + size_bytes
        if stop > len(self._content):
            raise ValueError(f"it ends {stop - len(self._content)} bytes too early")
        self._position = stop
        return self._content[start:stop]

    def byte(self) -> int:
        return self.take(1)[0]

    def varint(self, most: int) -> int:
        value = shift = 0
        while shift < 70:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if value > most:
                    break
                return value
            shift += 7
        raise ValueError(f"a number is larger than {most}")

    def signed_varint(self) -> np.int64:
        value = self.varint((1 << 64) - 1)
        return np.int64(value >> 1 ^ -(value & 1))


def _read_segment(reader: _Reader) -> Accesses:
    count = reader.varint(SEGMENT_ACCESSES)
    body_bytes = reader.varint(_BODY_BYTES_MAX)
    packed = reader.take(reader.varint(_BODY_BYTES_MAX))
    body = packed if len(packed) == body_bytes else _decompressed(packed, body_bytes)
    if count == 0:
        raise ValueError("a segment is empty")
    body_reader = _Reader(body)
    accesses = _read_body(body_reader, count)
    if not body_reader.at_end():
        raise ValueError("a segment has bytes left over")
    return accesses


def _decompressed(packed: memoryview, body_bytes: int) -> memoryview:
    # The size is bounded before anything is unpacked: a few damaged bytes could claim gigabytes.
    inflater = zlib.decompressobj()
    body = inflater.decompress(packed, body_bytes + 1)
    if len(body) != body_bytes or not inflater.eof or inflater.unused_data:
        raise ValueError(f"a segment does not unpack to {body_bytes} bytes")
    return memoryview(body)


def _read_body(reader: _Reader, count: int) -> Accesses:
    unit = reader.byte()
    if unit > _UNIT_BITS_MAX:
        raise ValueError(f"a unit of 2**{unit} bytes")
    what = _read_column(reader, count)
    position = _read_column(reader, count)
    if unit > 0:
        position = (position << unit) | _read_column(reader, count)
    length = _read_column(reader, count)
    inside = (what & 1) == 0
    offset = np.where(inside, position, np.int64(-1))
    address = position
    address[inside] += _read_displacement(reader, position[inside])
    return Accesses((what >> 1).astype(np.int8), address, length, offset)


def _read_displacement(reader: _Reader, offset: _Int64s) -> _Int64s:
    form = reader.byte()
    if form == _NOWHERE and len(offset) == 0:
        return offset
    if form == _EVERYWHERE:
        return np.full(len(offset), reader.signed_varint())
    if form == _TABLE:
        granule = reader.byte()
        if granule not in _GRANULES:
            raise ValueError(f"a granule of 2**{granule} bytes")
        run_count = reader.varint(SEGMENT_ACCESSES)
        starts = _read_column(reader, run_count)
        values = _read_column(reader, run_count)
        return values[np.searchsorted(starts, offset >> granule, side="right") - 1]
    if form == _LISTED:
        return _read_column(reader, len(offset))
    raise ValueError(f"a displacement of the unknown form {form}")


def _read_column(reader: _Reader, count: int, *, sparse: bool = True) -> _Int64s:
    if count == 0:
        raise ValueError("a column is empty")
    form = reader.byte()
    base = reader.signed_varint()
    if form == _CONSTANT:
        return np.full(count, base)
    if form == _PLANES:
        return _read_planes(reader, count).view(np.int64) + base
    if form == _STEPS:
        steps = _read_planes(reader, count)
        signed = (steps >> 1).view(np.int64) ^ -(steps & 1).view(np.int64)
        return np.cumsum(signed) + base
    if form == _SPARSE and sparse:
        exception_count = reader.varint(count)
        indexes = _read_column(reader, exception_count, sparse=False)
        values = np.full(count, base)
        values[indexes] = _read_column(reader, exception_count, sparse=False)
        return values
    raise ValueError(f"a column of the unknown form {form}")


def _read_planes(reader: _Reader, count: int) -> _UInt64s:
    width = reader.byte()
    if width > 64:
        raise ValueError(f"a column of {width} bits")
    byte_planes, bit_planes = divmod(width, 8)
    as_bytes = np.zeros((count, 8), np.uint8)
    for plane in range(byte_planes):
        as_bytes[:, plane] = np.frombuffer(reader.take(count), np.uint8)
    for bit in range(bit_planes):
        packed = np.frombuffer(reader.take((count + 7) // 8), np.uint8)
        as_bytes[:, byte_planes] |= np.unpackbits(packed, count=count, bitorder="little") << bit
    return as_bytes.reshape(-1).view("<u8").astype(np.uint64, copy=False)
