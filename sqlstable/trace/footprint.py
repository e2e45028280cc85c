"""From accesses to a footprint: calls, bytes, and the sets of OS and Wasm pages touched."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from sqlstable.ic.accesses import Accesses
from sqlstable.ic.units import OS_PAGE_BYTES, OS_PAGES_PER_WASM_PAGE
from sqlstable.ic.words import GROW, READ, SIZE, WRITE
from sqlstable.trace.markup import html_table
from sqlstable.trace.model import Calls, StableUse

_Pages = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Footprint:
    """What was touched in stable memory, by which calls.

    Examples:
        >>> EMPTY.os_pages_accessed
        0
    """

    accessed: _Pages
    "OS pages read or written: 0-based indexes, ascending, each once."
    dirty: _Pages
    "OS pages written: 0-based indexes, ascending, each once."
    calls: Calls
    bytes_read: int
    bytes_written: int

    @property
    def os_pages_accessed(self) -> int:
        """How many OS pages were read or written."""
        return len(self.accessed)

    @property
    def os_pages_dirty(self) -> int:
        """How many OS pages were written."""
        return len(self.dirty)

    @property
    def use(self) -> StableUse:
        """The same as counts alone."""
        return StableUse(
            calls=self.calls,
            bytes_read=self.bytes_read,
            bytes_written=self.bytes_written,
            os_pages_accessed=len(self.accessed),
            os_pages_dirty=len(self.dirty),
            wasm_pages_accessed=_wasm_pages(self.accessed),
            wasm_pages_dirty=_wasm_pages(self.dirty),
        )

    def _repr_html_(self) -> str:
        """Show the counts in a notebook."""
        use = self.use
        rows = (
            ("OS pages", use.os_pages_accessed, use.os_pages_dirty),
            ("Wasm pages", use.wasm_pages_accessed, use.wasm_pages_dirty),
        )
        calls = (
            ("read", use.calls.read, use.bytes_read),
            ("write", use.calls.write, use.bytes_written),
            ("size", use.calls.size, None),
            ("grow", use.calls.grow, None),
        )
        return html_table("footprint", ("in stable memory", "accessed", "dirty"), rows) + (
            html_table("calls", ("of stable memory", "calls", "bytes"), calls)
        )


EMPTY: Final = Footprint(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64), Calls(), 0, 0)


def measure(chunks: Iterable[Accesses]) -> Footprint:
    """Return the footprint of accesses that come in pieces."""
    return unite([_measure(chunk) for chunk in chunks])


def unite(footprints: list[Footprint]) -> Footprint:
    """Return the footprint of several together: calls and bytes add up, OS pages are united."""
    used = [footprint for footprint in footprints if footprint is not EMPTY]
    if not used:
        return EMPTY
    if len(used) == 1:
        return used[0]
    return Footprint(
        _distinct(np.concatenate([footprint.accessed for footprint in used])),
        _distinct(np.concatenate([footprint.dirty for footprint in used])),
        Calls(
            read=sum(footprint.calls.read for footprint in used),
            write=sum(footprint.calls.write for footprint in used),
            size=sum(footprint.calls.size for footprint in used),
            grow=sum(footprint.calls.grow for footprint in used),
        ),
        sum(footprint.bytes_read for footprint in used),
        sum(footprint.bytes_written for footprint in used),
    )


def units_spanned(
    start: npt.NDArray[np.int64], length: npt.NDArray[np.int64], unit_bytes: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.int64]]:
    """Return each unit that each range of bytes overlaps, and which range it comes from.

    Args:
        start: First bytes.
        length: Bytes, each 0 or more; 0 overlaps none.
        unit_bytes: Bytes of one unit, such as an OS page.

    Returns:
        Positions of ranges, ascending, and a 0-based index of a unit of each.
    """
    first = start // unit_bytes
    count = np.where(length > 0, (start + length - 1) // unit_bytes - first + 1, 0)
    origin = np.arange(len(start))
    if np.all(count == 1):
        return origin, first
    origin = np.repeat(origin, count)
    # The k-th unit of a range is its first one plus k.
    step = np.arange(len(origin)) - np.repeat(np.cumsum(count) - count, count)
    return origin, first[origin] + step


def _measure(chunk: Accesses) -> Footprint:
    if not len(chunk.kind):
        return EMPTY
    counts = np.bincount(chunk.kind, minlength=4)
    reads, writes = chunk.kind == READ, chunk.kind == WRITE
    moved = np.where(reads | writes, chunk.length, 0)
    origin, pages = units_spanned(chunk.address, moved, OS_PAGE_BYTES)
    return Footprint(
        _distinct(pages),
        _distinct(pages[writes[origin]]),
        Calls(*(int(counts[kind]) for kind in (READ, WRITE, SIZE, GROW))),
        int(chunk.length[reads].sum()),
        int(chunk.length[writes].sum()),
    )


def _distinct(pages: _Pages) -> _Pages:
    return np.unique(pages) if len(pages) > 1 else pages


def _wasm_pages(os_pages: _Pages) -> int:
    if len(os_pages) < 2:
        return len(os_pages)
    # The indexes ascend, so equal Wasm pages are neighbours.
    return 1 + int(np.count_nonzero(np.diff(os_pages // OS_PAGES_PER_WASM_PAGE)))
