"""The superblock of ic-sqlite-vfs 2.x, layout version 8: what it says, and how it is written.

It is the first Wasm page of the virtual memory that has the database. Integers little-endian::

    byte          size  content
    ------------  ----  ------------------------------------------------------------------
       0             8  "ICSQLITE"
       8             4  version: 8
      12             4  bytes of a SQLite page: 16 384
      16             8  size of the database in bytes
      24             8  schema version, a number of the product's migrations
      32             8  number of committed transactions
      40             8  flags: 1 importing, 2 checksum is stale, 4 checksum is being made
      48             8  checksum of the database, as it was when last asked for
      56             8  checksum that the import is to have
      64             8  bytes of the import so far
      72             8  bytes of the import in all
      80             8  byte at which the import lies
      88             8  how far the checksum is made
      96             8  the checksum so far
     104             8  number of transactions when that was begun
     112             8  byte at which the database lies, a multiple of 65 536
     120             8  0; versions before had a table of SQLite pages
     128             8  SQLite pages of the database
     136             8  layout version: 8
     144             8  N, how many ranges are masked: 0 to 1024
     152             8  FNV-1a of the bytes before and behind, 160 + 16 x N, with these eight zero
     160 + 16 x n   16  masked range n: first SQLite page, and the one behind the last, from 0

A masked SQLite page reads as zeros, whatever lies in its place: it was cut off, or came with a
growth and was never written. Ranges ascend and do not touch.

Source: humandebri/ic-sqlite-vfs src/stable/meta.rs, src/sqlite_vfs/stable_blob/commit.rs and
zero_extents.rs, docs/API_STABILITY.md, 2.0.0 to 2.1.0.
"""

import struct
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

from sqlstable.errors import ImageError
from sqlstable.ic.units import WASM_PAGE_BYTES
from sqlstable.memory.signatures import SUPERBLOCK_MAGIC

VERSION: Final = 8
SQLITE_PAGE_BYTES: Final = 16_384
SUPERBLOCK_BYTES: Final = WASM_PAGE_BYTES
MASKS_MAX: Final = 1024

IMPORTING: Final = 1
CHECKSUM_STALE: Final = 2
CHECKSUM_REFRESHING: Final = 4

_HEAD: Final = struct.Struct("<8sII18Q")
_MASK: Final = struct.Struct("<QQ")
HEAD_BYTES: Final = _HEAD.size
ENCODED_BYTES_MAX: Final = HEAD_BYTES + MASKS_MAX * _MASK.size

assert HEAD_BYTES == 160
assert ENCODED_BYTES_MAX <= SUPERBLOCK_BYTES

_CHECKSUM: Final = slice(152, 160)
_FNV_BASIS: Final = 0xCBF2_9CE4_8422_2325
_FNV_PRIME: Final = 0x0000_0100_0000_01B3
_UINT64_MAX: Final = (1 << 64) - 1

Mask = tuple[int, int]
"""First SQLite page and the one behind the last, counted from 0."""


@dataclass(frozen=True, slots=True)
class Superblock:
    """What a superblock says."""

    database_bytes: int = 0
    schema_version: int = 0
    transactions: int = 0
    flags: int = 0
    checksum: int = 0
    imports: tuple[int, int, int, int] = (0, 0, 0, 0)
    "Expected checksum, bytes so far, bytes in all, and the byte at which it lies."
    refresh: tuple[int, int, int] = (0, 0, 0)
    base: int = SUPERBLOCK_BYTES
    "Byte of the virtual memory at which the database lies."
    masks: tuple[Mask, ...] = ()

    @property
    def is_importing(self) -> bool:
        """Whether an import has begun and not ended."""
        return bool(self.flags & IMPORTING)

    @property
    def encoded_bytes(self) -> int:
        """Bytes that it takes."""
        return HEAD_BYTES + len(self.masks) * _MASK.size

    def committed(self, database_bytes: int, written: Iterable[int]) -> "Superblock":
        """Return what stands there after a transaction has committed.

        Args:
            database_bytes: Size of the database now.
            written: SQLite pages that were written, counted from 0; those that the masks and a
                growth concern suffice.
        """
        before, after = page_count(self.database_bytes), page_count(database_bytes)
        # What was cut off must not be seen again, nor what a growth brought and nobody wrote.
        masks = [*self.masks, (min(before, after), max(before, after))]
        gone = {page for page in written if page < after}
        return replace(
            self,
            database_bytes=database_bytes,
            transactions=min(self.transactions + 1, _UINT64_MAX),
            flags=(self.flags | CHECKSUM_STALE) & ~CHECKSUM_REFRESHING,
            refresh=(0, 0, 0),
            masks=normal(without(masks, gone)),
        )

    def encode(self) -> bytes:
        """Return its bytes."""
        head = _HEAD.pack(
            SUPERBLOCK_MAGIC,
            VERSION,
            SQLITE_PAGE_BYTES,
            self.database_bytes,
            self.schema_version,
            self.transactions,
            self.flags,
            self.checksum,
            *self.imports,
            *self.refresh,
            self.base,
            0,
            page_count(self.database_bytes),
            VERSION,
            len(self.masks),
            0,
        )
        data = bytearray(head + b"".join(_MASK.pack(*mask) for mask in self.masks))
        data[_CHECKSUM] = fnv1a(data).to_bytes(8, "little")
        return bytes(data)


def decode(data: bytes, *, memory_bytes: int) -> Superblock:
    """Return what a superblock says.

    Args:
        data: Its bytes, `ENCODED_BYTES_MAX` where there are so many.
        memory_bytes: Size of the virtual memory that it is in.

    Raises:
        ImageError: It is of another version, or damaged, or the database is cut off.
    """
    if data[: len(SUPERBLOCK_MAGIC)] != SUPERBLOCK_MAGIC or len(data) < HEAD_BYTES:
        raise ImageError(f"no superblock of ic-sqlite-vfs is there: {data[:16]!r}")
    _, version, page_bytes, *numbers = _HEAD.unpack_from(data)
    size, schema, transactions, flags, checksum = numbers[:5]
    base, _, _, layout_version, count, meta_checksum = numbers[12:]
    _check_version(version, layout_version)
    if count > MASKS_MAX:
        raise _damaged(f"it counts {count} masked ranges, and {MASKS_MAX} are the most")
    encoded = bytearray(data[: HEAD_BYTES + count * _MASK.size])
    encoded[_CHECKSUM] = bytes(8)
    if fnv1a(encoded) != meta_checksum:
        raise _damaged(
            f"its checksum is {meta_checksum:#018x}, and its bytes give {fnv1a(encoded):#018x}"
        )
    masks = tuple(_MASK.unpack_from(data, HEAD_BYTES + n * _MASK.size) for n in range(count))
    _check_masks(masks)
    if page_bytes != SQLITE_PAGE_BYTES or base % WASM_PAGE_BYTES or base < SUPERBLOCK_BYTES:
        raise _damaged(f"SQLite pages of {page_bytes} bytes cannot begin at its byte {base}")
    if size and base + size > memory_bytes:
        raise ImageError(
            f"the superblock of ic-sqlite-vfs says that a database of {size} bytes lies at byte "
            f"{base}, and its virtual memory has {memory_bytes} bytes; the image is truncated"
        )
    return Superblock(
        database_bytes=size,
        schema_version=schema,
        transactions=transactions,
        flags=flags,
        checksum=checksum,
        imports=(numbers[5], numbers[6], numbers[7], numbers[8]),
        refresh=(numbers[9], numbers[10], numbers[11]),
        base=base,
        masks=masks,
    )


def page_count(size_bytes: int) -> int:
    """Return how many SQLite pages a database of this size has."""
    return -(-size_bytes // SQLITE_PAGE_BYTES)


def fnv1a(data: bytes | bytearray) -> int:
    """Return the 64-bit FNV-1a hash.

    Examples:
        >>> hex(fnv1a(b"")), hex(fnv1a(b"a"))
        ('0xcbf29ce484222325', '0xaf63dc4c8601ec8c')
    """
    value = _FNV_BASIS
    for byte in data:
        value = (value ^ byte) * _FNV_PRIME & _UINT64_MAX
    return value


def without(masks: Iterable[Mask], pages: Collection[int]) -> list[Mask]:
    """Return ranges without some SQLite pages.

    Examples:
        >>> without([(2, 6)], {3, 9})
        [(2, 3), (4, 6)]
    """
    left: list[Mask] = []
    for start, stop in masks:
        gone = sorted(page for page in pages if start <= page < stop)
        starts = (start, *(page + 1 for page in gone))
        left += (mask for mask in zip(starts, (*gone, stop), strict=True) if mask[0] < mask[1])
    return left


def normal(masks: Iterable[Mask]) -> tuple[Mask, ...]:
    """Return ranges in order, with none empty, and none that touch.

    Examples:
        >>> normal([(4, 6), (1, 1), (2, 4), (8, 9)])
        ((2, 6), (8, 9))
    """
    merged: list[Mask] = []
    for start, stop in sorted(mask for mask in masks if mask[0] < mask[1]):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(stop, merged[-1][1]))
        else:
            merged.append((start, stop))
    return tuple(merged)


def _check_version(version: int, layout_version: int) -> None:
    for found in (version, layout_version):
        if found != VERSION:
            raise ImageError(
                f"the superblock of ic-sqlite-vfs has version {found}, and only version {VERSION} "
                "(2.x of the product) keeps a database in one piece; export the database with the "
                "canister's own version, and import it: sqlstable import APP.db IMAGE"
            )


def _check_masks(masks: tuple[Mask, ...]) -> None:
    ordered = all(start < stop for start, stop in masks)
    if not ordered or any(before[1] >= after[0] for before, after in pairwise(masks)):
        raise _damaged(f"its masked ranges {masks[:4]} are not in order")


def _damaged(reason: str) -> ImageError:
    return ImageError(
        f"the superblock of ic-sqlite-vfs is damaged: {reason}; restore an intact image"
    )
