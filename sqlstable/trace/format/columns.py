"""One column of integers as bytes: exact for all 64-bit ones, small where they are alike.

Layout. Integers of fixed size are little-endian; ``v`` is LEB128 (seven bits a byte, the lowest
first, the top bit set on all but the last); ``z`` is a signed integer as zigzag (0, -1, 1, -2 …
become 0, 1, 2, 3 …), then ``v``. A column without values takes no bytes; any other begins with
one byte for its form. Arithmetic is modulo 2**64::

    constant       0 | value z
    planes         1 | base z | shift u8 | width u8 | planes
                                      base + each value of the planes * 2**shift
    steps          2 | base z | shift u8 | width u8 | planes
                                      base + the sum of all zigzag values so far * 2**shift

``planes`` holds unsigned values of ``width`` bits, transposed, because equal parts of neighbours
compress when they lie side by side: first ``width // 8`` planes of one byte per value, the lowest
byte first, then ``width % 8`` planes of one bit per value, the lowest bit first, eight values to a
byte beginning with its lowest bit. Thus the offsets of whole SQLite pages at random over 500 GiB
take 27 bits each before any compression.

Limitations: how many values a column has is for the caller to know.
"""

from collections.abc import Sequence
from functools import lru_cache, reduce
from operator import or_
from typing import Final

import numpy as np
import numpy.typing as npt

Int64s = npt.NDArray[np.int64]
"""The values of a column."""
UInt64s = npt.NDArray[np.uint64]
"""Values above a base, or zigzag steps."""

FEW_VALUES: Final = 64
"""Below this many values plain Python is faster than numpy, and most blocks have few."""

_CONSTANT, _PLANES, _STEPS = range(3)
_CONSTANT_HEAD: Final = bytes([_CONSTANT])
_WORD_BITS: Final = 64


# Writing ------------------------------------------------------------------------------------


def encode_column(values: Int64s) -> bytes:
    """Return the bytes of a column, which `ByteReader.column` reads.

    Examples:
        >>> encode_column(np.array([4096, 4096])).hex(" ", 1)  # constant: 4096
        '00 80 40'
        >>> encode_column(np.array([0, 8192, 4096])).hex(" ", 1)  # 2**12 times 8 bits: 0, 2, 1
        '01 00 0c 08 00 02 01'
    """
    if len(values) == 0:
        return b""
    if is_constant(values):
        return bytes([_CONSTANT]) + signed_varint(int(values[0]))
    if len(values) < FEW_VALUES:
        return encode_few(values.tolist())
    base = values.min()
    above = (values - base).view(np.uint64)
    shift, width = _shift_and_width(int(np.bitwise_or.reduce(above)))
    above >>= shift
    steps = _steps(above.view(np.int64))
    steps_width = int(np.bitwise_or.reduce(steps)).bit_length()
    if steps_width < width:
        head = _head(_STEPS, int(values[0]), shift=shift, width=steps_width)
        return head + _planes(steps, steps_width)
    return _head(_PLANES, int(base), shift=shift, width=width) + _planes(above, width)


def is_constant(values: Int64s) -> bool:
    """Return whether all of one or more values are equal."""
    # Comparing bytes is several times faster than numpy on the few values of a small statement.
    raw = values.tobytes()
    return raw == raw[:8] * len(values)


# Small blocks repeat a few numbers: lengths, displacements, counts of accesses.
@lru_cache(maxsize=1024)
def varint(value: int) -> bytes:
    """Return an integer, 0 or more, as LEB128."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


@lru_cache(maxsize=1024)
def signed_varint(value: int) -> bytes:
    """Return an integer as zigzag, then LEB128."""
    return varint(value << 1 if value >= 0 else ~value << 1 | 1)


def encode_few(items: Sequence[int]) -> bytes:
    """Return the bytes of a column of fewer than `FEW_VALUES` values, as `encode_column` does."""
    if not items:
        return b""
    base = min(items)
    if base == max(items):
        return _CONSTANT_HEAD + signed_varint(base)
    above = [item - base for item in items]
    shift, width = _shift_and_width(reduce(or_, above))
    size = (width + 7) // 8
    rows = b"".join([(value >> shift).to_bytes(size, "little") for value in above])
    planes = b"".join([rows[plane::size] for plane in range(size)])
    return _head(_PLANES, base, shift=shift, width=8 * size) + planes


def _shift_and_width(common: int) -> tuple[int, int]:
    """Return how many zero bits end all values, and how many bits the longest has before them.

    Args:
        common: The bits that any of the values has; not 0.
    """
    shift = (common & -common).bit_length() - 1
    return shift, common.bit_length() - shift


def _head(form: int, base: int, *, shift: int, width: int) -> bytes:
    return bytes([form]) + signed_varint(base) + bytes([shift, width])


def _steps(values: Int64s) -> UInt64s:
    """Return the differences of neighbours as zigzag, the first of them 0."""
    steps = np.zeros(len(values), np.int64)
    np.subtract(values[1:], values[:-1], out=steps[1:])
    signs = steps >> (_WORD_BITS - 1)
    steps <<= 1
    steps ^= signs
    return steps.view(np.uint64)


def _planes(values: UInt64s, width: int) -> bytes:
    byte_planes, bit_planes = divmod(width, 8)
    as_bytes = values.astype("<u8", copy=False).view(np.uint8).reshape(len(values), 8)
    planes = [as_bytes[:, :byte_planes].T.tobytes()]
    if bit_planes:
        top = np.ascontiguousarray(as_bytes[:, byte_planes])
        bits = (top & (1 << bit) for bit in range(bit_planes))
        planes.extend(np.packbits(plane, bitorder="little").tobytes() for plane in bits)
    return b"".join(planes)


# Reading ------------------------------------------------------------------------------------


class ByteReader:
    """A position in bytes that moves forward and never past their end.

    Whatever it cannot read raises `ValueError`.
    """

    def __init__(self, content: memoryview) -> None:
        self._content = content
        self._position = 0

    def at_end(self) -> bool:
        """Return whether all bytes have been taken."""
        return self._position == len(self._content)

    def take(self, size_bytes: int) -> memoryview:
        """Return the next so many bytes."""
        start, stop = self._position, self._position + size_bytes
        if stop > len(self._content):
            raise ValueError(f"it ends {stop - len(self._content)} bytes too early")
        self._position = stop
        return self._content[start:stop]

    def byte(self) -> int:
        """Return the next byte."""
        return self.take(1)[0]

    def varint(self, most: int) -> int:
        """Return the next LEB128 integer, which must not be larger than ``most``."""
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

    def signed_varint(self) -> int:
        """Return the next integer that is zigzag, then LEB128."""
        value = self.varint((1 << _WORD_BITS) - 1)
        return value >> 1 ^ -(value & 1)

    def column(self, count: int) -> Int64s:
        """Return the next column, which has so many values; a new array.

        Examples:
            >>> ByteReader(memoryview(bytes.fromhex("01 00 0c 08 00 02 01"))).column(3).tolist()
            [0, 8192, 4096]
        """
        if count == 0:
            return np.empty(0, np.int64)
        form = self.byte()
        if form > _STEPS:
            raise ValueError(f"a column of the unknown form {form}")
        base = np.int64(self.signed_varint())
        if form == _CONSTANT:
            return np.full(count, base)
        shift, width = self.byte(), self.byte()
        if max(shift, width) > _WORD_BITS:
            raise ValueError(f"a column of {width} bits, shifted by {shift}")
        values = self._planes(count, width)
        if form == _STEPS:
            signed = (values >> 1).view(np.int64) ^ -(values & 1).view(np.int64)
            return (np.cumsum(signed) << shift) + base
        return (values << shift).view(np.int64) + base

    def few(self, count: int) -> list[int]:
        """Return the next column as plain integers, which is quicker for a handful of them.

        Examples:
            >>> ByteReader(memoryview(bytes.fromhex("01 00 0c 08 00 02 01"))).few(3)
            [0, 8192, 4096]
        """
        if count == 0:
            return []
        start, form = self._position, self.byte()
        base = self.signed_varint()
        if form == _CONSTANT:
            return [base] * count
        shift, width = self.byte(), self.byte()
        size, bits = divmod(width, 8)
        if form != _PLANES or bits or base.bit_length() + shift + width >= _WORD_BITS:
            # Columns of many values, and values that may pass 64 bits: arrays know their way.
            self._position = start
            return [*map(int, self.column(count))]
        planes = [self.take(count) for _ in range(size)]
        if size == 1:
            return [base + (value << shift) for value in planes[0]]
        rows = zip(*planes, strict=True)
        return [base + (int.from_bytes(row, "little") << shift) for row in rows]

    def _planes(self, count: int, width: int) -> UInt64s:
        byte_planes, bit_planes = divmod(width, 8)
        as_bytes = np.zeros((count, 8), np.uint8)
        for plane in range(byte_planes):
            as_bytes[:, plane] = np.frombuffer(self.take(count), np.uint8)
        for bit in range(bit_planes):
            packed = np.frombuffer(self.take((count + 7) // 8), np.uint8)
            as_bytes[:, byte_planes] |= np.unpackbits(packed, count=count, bitorder="little") << bit
        return as_bytes.reshape(-1).view("<u8").astype(np.uint64, copy=False)
