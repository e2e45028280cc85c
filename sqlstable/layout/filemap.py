"""Where the bytes of one file lie in stable memory, and back."""

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Numbers = npt.NDArray[np.int64]

ENDLESS: Final = 1 << 62
"""Bytes of the one bucket of a file that has all of stable memory."""


@dataclass(frozen=True, slots=True, eq=False)
class FileMap:
    """Where file offsets lie in stable memory, and which offsets addresses are.

    A file lies in buckets of one size. Its first byte is ``base`` bytes behind the beginning of
    the first of them: what holds it may keep something of its own in front.

    Examples:
        >>> apart = FileMap.of([65_536, 262_144], bucket_bytes=65_536)
        >>> apart.address(65_537), apart.offset(262_145), apart.offset(131_072)
        (262145, 65537, -1)
        >>> list(apart.pieces(65_530, 10))
        [(131066, 6), (262144, 4)]
        >>> together = FileMap.of([65_536, 131_072], bucket_bytes=65_536)
        >>> together.origin, list(together.pieces(65_530, 10))
        (65536, [(131066, 6), (131072, 4)])
    """

    bucket_bytes: int
    base: int
    starts: "array[int]"
    "Address of each bucket, in the order of the file, which is ascending."
    origin: int | None
    "Address of offset 0 where all buckets follow each other, else None."

    @classmethod
    def of(cls, addresses: Iterable[int], *, bucket_bytes: int, base: int = 0) -> Self:
        """Return the map of a file in buckets at these addresses; it may have none yet."""
        starts = array("q", addresses)
        first = starts[0] if starts else 0
        is_whole = all(after - before == bucket_bytes for before, after in pairwise(starts))
        return cls(bucket_bytes, base, starts, first + base if is_whole else None)

    @property
    def start(self) -> int | None:
        """Address of the file's first byte, or None where it has no place yet."""
        return self.address(0) if self.starts else None

    def moved(self, by: int) -> Self:
        """Return the map of a file that lies so many bytes further on."""
        starts = (start + by for start in self.starts)
        return self.of(starts, bucket_bytes=self.bucket_bytes, base=self.base)

    def address(self, offset: int) -> int:
        """Return the address of one offset inside the allocated part."""
        if self.origin is not None:
            return self.origin + offset
        bucket, rest = divmod(offset + self.base, self.bucket_bytes)
        return self.starts[bucket] + rest

    def pieces(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        """Yield address and length of each piece of a range inside the allocated part.

        It is cut at the ends of buckets, whether or not they follow each other: the crate's
        virtual memories make one call for each bucket, and calls are paid for.
        """
        while length > 0:
            rest = (offset + self.base) % self.bucket_bytes
            count = min(length, self.bucket_bytes - rest)
            yield self.address(offset), count
            offset += count
            length -= count

    def translate(self, offsets: "Numbers") -> "Numbers":
        """Return the addresses of many offsets."""
        if self.origin is not None:
            return offsets + self.origin
        inside = offsets + self.base
        buckets = inside // self.bucket_bytes
        return self._starts()[buckets] + inside - buckets * self.bucket_bytes

    def offset(self, address: int) -> int:
        """Return the offset of an address, -1 where it is not the file's."""
        bucket = bisect_right(self.starts, address) - 1
        if bucket < 0:
            return -1
        rest = address - self.starts[bucket]
        if rest >= self.bucket_bytes:
            return -1
        return max(bucket * self.bucket_bytes + rest - self.base, -1)

    def offsets(self, addresses: "Numbers") -> "Numbers":
        """Return the offsets of many addresses, -1 for those that are not the file's."""
        import numpy as np  # noqa: PLC0415  choosing a layout needs no arrays

        if not self.starts:
            return np.full(len(addresses), -1, dtype=np.int64)
        starts = self._starts()
        buckets = np.searchsorted(starts, addresses, side="right") - 1
        rest = addresses - starts[buckets]
        is_inside = (buckets >= 0) & (rest < self.bucket_bytes)
        offsets = np.maximum(buckets * self.bucket_bytes + rest - self.base, -1)
        return np.where(is_inside, offsets, -1)

    def _starts(self) -> "Numbers":
        import numpy as np  # noqa: PLC0415  choosing a layout needs no arrays

        return np.frombuffer(self.starts, dtype=np.int64)
