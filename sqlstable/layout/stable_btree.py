"""The stable B-tree of ic-stable-structures: where its nodes lie, and what each of them is.

`BTreeMap` and `BTreeSet` keep all nodes in chunks of one size, in one memory. Integers
little-endian; ``P`` bytes of payload in a chunk::

    byte              size    content
    ----------------  ------  --------------------------------------------------------------
      0               3       "BTR"
      3               1       layout version: 1 or 2
      4               48      page or key and value sizes, root, number of entries
     52               48      allocator: "BTA", version 1, 4 zero, P (8), chunks in use (8), ...
    100 + i x (16+P)  16      chunk i: "CHK", version 1, 1 if it is in use, 3 zero, next free (8)
    116 + i x (16+P)  P       its payload

A payload begins with "BTN", a version, and the type of the node, 0 for a leaf and 1 for an internal
one; what of a node of version 2 does not fit into its chunk lies in others, which begin with "NOF".

Invariants:

* What an access touches follows from its offset and from the first bytes of one chunk, so nothing
  is ever walked.
* A chunk that is not in use keeps the bytes of its last node; the byte in its header decides.

Limitations:

* ``clear`` leaves the chunks of before as they are. Nobody touches one of these until the tree has
  grown past it, and then it is written anew; who looks at it meanwhile sees what it was.

Source: dfinity/stable-structures src/btreemap.rs, allocator.rs, node.rs, b5d1650, 2026-05-12.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Offset = TypeVar("Offset", int, "npt.NDArray[np.int64]")

TREE_MAGIC: Final = b"BTR"
ALLOCATOR_MAGIC: Final = b"BTA"
CHUNK_MAGIC: Final = b"CHK"
NODE_MAGIC: Final = b"BTN"
OVERFLOW_MAGIC: Final = b"NOF"

TREE_VERSIONS: Final = (1, 2)
ALLOCATOR_OFFSET: Final = 52
FIRST_CHUNK_OFFSET: Final = 100
CHUNK_HEADER_BYTES: Final = 16
CHUNK_HEAD_BYTES: Final = CHUNK_HEADER_BYTES + 5
"""Bytes of a chunk that say what it is."""

ROLES: Final = ("header", "allocator header", "leaf", "internal", "overflow", "free", "chunk")
"""What a part of a tree can be; a chunk in use that begins with no node is called chunk."""

HEADER_UNIT: Final = 0
ALLOCATOR_UNIT: Final = 1
FIRST_CHUNK_UNIT: Final = 2


@dataclass(frozen=True, slots=True)
class StableBTree:
    """A B-tree in its memory, cut into *units*: 0 its header, 1 the allocator's, then its chunks.

    Examples:
        >>> tree = StableBTree(version=2, payload_bytes=1024)
        >>> tree.unit_of(0), tree.unit_of(52), tree.unit_of(100), tree.unit_of(100 + 1040)
        (0, 1, 2, 3)
        >>> tree.span_of(3)
        (1140, 2180)
    """

    version: int
    payload_bytes: int

    @classmethod
    def decode(cls, head: bytes) -> "StableBTree | None":
        """Return the tree that a memory begins with, or None where it is none that is known.

        Args:
            head: The first bytes of the memory, 100 of them where there are so many.
        """
        allocator = head[ALLOCATOR_OFFSET:FIRST_CHUNK_OFFSET]
        is_tree = head.startswith(TREE_MAGIC) and head[3:4] and head[3] in TREE_VERSIONS
        if not is_tree or not allocator.startswith(ALLOCATOR_MAGIC + b"\x01"):
            return None
        payload_bytes = int.from_bytes(allocator[8:16], "little")
        if not CHUNK_HEAD_BYTES - CHUNK_HEADER_BYTES <= payload_bytes < 1 << 32:
            return None
        return cls(head[3], payload_bytes)

    @property
    def chunk_bytes(self) -> int:
        """Bytes from one chunk to the next."""
        return CHUNK_HEADER_BYTES + self.payload_bytes

    def unit_of(self, offset: Offset) -> Offset:
        """Return the unit of an offset, or those of many."""
        chunk = (offset - FIRST_CHUNK_OFFSET) // self.chunk_bytes
        is_chunk = offset >= FIRST_CHUNK_OFFSET
        return (offset >= ALLOCATOR_OFFSET) * 1 + is_chunk * (chunk + 1)

    def span_of(self, unit: int) -> tuple[int, int]:
        """Return the first offset of a unit, and the one behind its last."""
        if unit < FIRST_CHUNK_UNIT:
            return ((0, ALLOCATOR_OFFSET), (ALLOCATOR_OFFSET, FIRST_CHUNK_OFFSET))[unit]
        start = FIRST_CHUNK_OFFSET + (unit - FIRST_CHUNK_UNIT) * self.chunk_bytes
        return start, start + self.chunk_bytes


def role_of_chunk(head: bytes) -> str:
    r"""Return what a chunk is.

    Args:
        head: Its first `CHUNK_HEAD_BYTES`; fewer where the memory ends before.

    Examples:
        >>> leaf = b"CHK\x01" + b"\x01" + bytes(11) + b"BTN\x02\x00"
        >>> role_of_chunk(leaf), role_of_chunk(leaf.replace(b"\x01\x01", b"\x01\x00"))
        ('leaf', 'free')
    """
    if not head.startswith(CHUNK_MAGIC) or head[4:5] == b"\0":
        # Behind the last chunk there is none yet, and nobody uses it.
        return "free"
    payload = head[CHUNK_HEADER_BYTES:]
    if payload.startswith(OVERFLOW_MAGIC):
        return "overflow"
    if payload.startswith(NODE_MAGIC) and len(payload) > 4:
        return "internal" if payload[4] else "leaf"
    return "chunk"
