"""Many nodes of one B-tree at once: what they refer to, by numpy instead of one by one.

As `sqlstable.sqlite.btree`, whose layout this follows, but for hundreds of SQLite pages of one
kind together, none of them the first.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from sqlstable.errors import ImageError
from sqlstable.sqlite.btree import (
    CELL_BYTES_MIN,
    INTERIOR_INDEX,
    INTERIOR_TABLE,
    LEAF_TABLE,
    Numbers,
    overflow_head,
    suspect_cells,
)

_Octets = npt.NDArray[np.uint8]


def children_of(
    contents: Sequence[bytes], numbers: Numbers, *, kind: int, usable: int
) -> tuple[Numbers, Numbers]:
    """Return all children of interior nodes, and the parent of each.

    Args:
        contents: Whole SQLite pages of one size.
        numbers: Their numbers.
        kind: That of all.
        usable: Bytes of a SQLite page without the reserved ones.

    Raises:
        ImageError: One is of another kind, or a cell lies outside of it.
    """
    octets, rows, cells = _cells_of(contents, numbers, kind=kind, usable=usable)
    size = len(contents[0])
    bases = np.arange(len(contents), dtype=np.intp) * size
    children = np.append(_u32s(octets, bases[rows] + cells), _u32s(octets, bases + 8))
    return children, np.append(numbers[rows], numbers)


def overflow_heads_of(
    contents: Sequence[bytes], numbers: Numbers, *, kind: int, usable: int
) -> list[tuple[int, int]]:
    """Return the number of a node and the head of an overflow chain, of each chain.

    Arguments and errors are those of `children_of`.
    """
    octets, rows, cells = _cells_of(contents, numbers, kind=kind, usable=usable)
    if not len(cells) or kind == INTERIOR_TABLE:
        return []
    cells += 4 if kind == INTERIOR_INDEX else 0
    is_table = kind == LEAF_TABLE
    size = len(contents[0])
    places = suspect_cells(octets, rows * size + cells, is_table=is_table, usable=usable)
    found = []
    for row, at in zip(*(part.tolist() for part in np.divmod(places, size)), strict=True):
        head = overflow_head(contents[row], at, is_table=is_table, usable=usable)
        if head:
            found.append((int(numbers[row]), head))
    return found


def _cells_of(
    contents: Sequence[bytes], numbers: Numbers, *, kind: int, usable: int
) -> tuple[_Octets, Numbers, Numbers]:
    """Return all octets, and of each cell the index of its node and where it begins there."""
    size = len(contents[0])
    octets = np.frombuffer(b"".join(contents), np.uint8)
    table = octets.reshape(len(contents), size)
    others = np.flatnonzero(table[:, 0] != kind)
    if len(others):
        raise ImageError(f"SQLite page {numbers[others[0]]} is no node of kind {kind}")
    counts = table[:, 3].astype(np.intp) << 8 | table[:, 4]
    pointers = 12 if kind in (INTERIOR_INDEX, INTERIOR_TABLE) else 8
    if int(counts.max()) * 2 + pointers > usable:
        number = numbers[counts.argmax()]
        raise ImageError(f"SQLite page {number} has no room for the {counts.max()} cells it states")
    rows = np.repeat(np.arange(len(contents), dtype=np.intp), counts)
    order = np.arange(len(rows), dtype=np.intp) - np.repeat(np.cumsum(counts) - counts, counts)
    places = rows * size + pointers + 2 * order
    cells = octets[places].astype(np.intp) << 8 | octets[places + 1]
    if len(cells) and int(cells.max()) > usable - CELL_BYTES_MIN[kind]:
        at = int(cells.argmax())
        raise ImageError(
            f"a cell of SQLite page {numbers[rows[at]]} begins at {cells[at]}, too near its end"
        )
    return octets, rows, cells


def _u32s(octets: _Octets, places: Numbers) -> Numbers:
    four = octets[places[:, None] + np.arange(4, dtype=np.intp)]
    values: Numbers = four.view(">u4").ravel().astype(np.intp)
    return values
