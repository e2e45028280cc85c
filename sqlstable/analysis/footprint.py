"""From accesses to a footprint: calls, bytes, and the pages they touched, each counted once."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from sqlstable.ic.units import OS_PAGE_BYTES, WASM_PAGE_BYTES
from sqlstable.trace.model import GROW, READ, SIZE, WRITE, Accesses, Calls, StableUse


def footprint(parts: Sequence[Accesses]) -> StableUse:
    """Return what the accesses did together; a page that several of them touched counts once.

    Args:
        parts: Accesses of one message; their order does not matter.

    Returns:
        Calls and bytes added up, pages united.

    Examples:
        >>> import numpy as np
        >>> two_reads = Accesses(
        ...     kind=np.array([READ, READ], dtype=np.int8),
        ...     address=np.array([4000, 4090], dtype=np.int64),
        ...     length=np.array([200, 6], dtype=np.int64),
        ...     offset=np.array([-1, -1], dtype=np.int64),
        ... )
        >>> footprint([two_reads]).os_pages_accessed, footprint([two_reads]).bytes_read
        (2, 206)
    """
    if not parts:
        return StableUse()
    kind = np.concatenate([part.kind for part in parts])
    address = np.concatenate([part.address for part in parts])
    length = np.concatenate([part.length for part in parts])
    written = kind == WRITE
    moved = written | (kind == READ)
    return StableUse(
        calls=Calls(*(int(np.count_nonzero(kind == call)) for call in (READ, WRITE, SIZE, GROW))),
        bytes_read=int(length[kind == READ].sum()),
        bytes_written=int(length[written].sum()),
        os_pages_accessed=_units_touched(address[moved], length[moved], OS_PAGE_BYTES),
        os_pages_dirty=_units_touched(address[written], length[written], OS_PAGE_BYTES),
        wasm_pages_accessed=_units_touched(address[moved], length[moved], WASM_PAGE_BYTES),
        wasm_pages_dirty=_units_touched(address[written], length[written], WASM_PAGE_BYTES),
    )


def _units_touched(
    address: npt.NDArray[np.int64], length: npt.NDArray[np.int64], unit_bytes: int
) -> int:
    """Return how many units of ``unit_bytes`` the ranges overlap, each counted once."""
    address, length = address[length > 0], length[length > 0]
    if len(address) == 0:
        return 0
    first = address // unit_bytes
    counts = (address + length - 1) // unit_bytes - first + 1
    # One entry for each unit of each range: its range's first unit, plus its place in the range.
    places = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return len(np.unique(np.repeat(first, counts) + places))
