"""Accesses that move SQLite pages of several owners, cut where an owner ends.

SQLite moves one SQLite page at a time; loading a database moves a megabyte of them in one call. Who
asks where owners lie needs the parts of such a call.
"""

from dataclasses import dataclass

import numpy as np

from sqlstable.ic.units import OS_PAGE_BYTES
from sqlstable.trace.access_stream import AccessBlock, Int32s, Int64s


@dataclass(frozen=True, slots=True)
class Cut:
    """How one access falls apart."""

    row: int
    "Of its block."
    offsets: Int64s
    "Where in the database file each owner's part begins, ascending; the access begins first."
    owners: Int32s
    "Whose each part is."


def in_pieces(block: AccessBlock, cuts: list[Cut]) -> AccessBlock:
    """Return a block in which some rows are replaced by their parts, which share their position.

    Parts begin where an OS page does, so that each OS page is in one of them: the owner of its
    first byte has it.

    Examples:
        >>> from sqlstable.trace.access_stream import block_of
        >>> block = block_of([(0, 70_000, 9, -1), (1, 8_192, 16_384, 4_096)])
        >>> cut = Cut(1, np.array([4_096, 12_288]), np.array([3, 7], np.int32))
        >>> whole = in_pieces(block, [cut])
        >>> whole.address.tolist(), whole.length.tolist(), whole.owner.tolist()
        ([70000, 8192, 16384], [9, 8192, 8192], [0, 3, 7])
    """
    counts = np.ones(len(block), dtype=np.int64)
    starts = {}
    for cut in cuts:
        starts[cut.row] = _starts(cut, int(block.address[cut.row]), int(block.length[cut.row]))
        counts[cut.row] = len(starts[cut.row][0])
    first = np.cumsum(counts) - counts
    whole = block.where(np.repeat(np.arange(len(block)), counts))
    address, offset, length = whole.address.copy(), whole.offset.copy(), whole.length.copy()
    owner = whole.owner.copy()
    for row, (moved, owners) in starts.items():
        part = slice(first[row], first[row] + counts[row])
        length[part] = np.diff(np.append(moved, block.length[row]))
        address[part] += moved
        offset[part] += moved
        owner[part] = owners
    return whole.having(address=address, offset=offset, length=length, owner=owner)


def _starts(cut: Cut, address: int, length: int) -> tuple[Int64s, Int32s]:
    """Return how many bytes were moved when each part begins, and its owner."""
    moved = cut.offsets - cut.offsets[0]
    moved[1:] += -(address + moved[1:]) % OS_PAGE_BYTES
    # Of owners that begin in one OS page the last one goes on in the next.
    is_last = np.append(moved[1:] != moved[:-1], True) & (moved < length)
    return moved[is_last], cut.owners[is_last]
