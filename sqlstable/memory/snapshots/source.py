"""What a snapshot is taken of, and put back into: a stable memory."""

from collections.abc import Iterator
from typing import Final

import numpy as np

from sqlstable.errors import SnapshotError
from sqlstable.ic.units import MIB, OS_PAGE_BYTES, OS_PAGES_PER_WASM_PAGE, WASM_PAGE_BYTES
from sqlstable.memory.backing import Bytes
from sqlstable.memory.snapshots.layers import (
    NO_OS_PAGES,
    Contents,
    LayeredBytes,
    OsPages,
    batches_of,
    byte_runs,
    runs_of,
)
from sqlstable.memory.stable import StableMemory

_SCANNED_BYTES: Final = 4 * MIB


class Committed:
    """The committed bytes of a stable memory, by OS pages.

    Args:
        memory: It; no message is open, or one that has written nothing yet.
    """

    def __init__(self, memory: StableMemory) -> None:
        image = memory.image_file
        self._backing = memory.backing if image is None else image.backing
        self._image = image
        self.wasm_pages = memory.wasm_pages
        self._os_page_count = self.wasm_pages * OS_PAGES_PER_WASM_PAGE
        flat, size_bytes = self._backing.flat, self.wasm_pages * WASM_PAGE_BYTES
        self._rows: Contents | None = None
        if image is None and flat is not None and len(flat) >= size_bytes:
            self._rows = np.frombuffer(flat, np.uint8, size_bytes).reshape(-1, OS_PAGE_BYTES)

    def parts(self, os_pages: OsPages) -> list[Bytes]:
        """Return the bytes of some OS pages inside the memory, in pieces.

        An image file is read, not looked at through its map: there, each OS page that nobody has
        looked at before costs a fault, which takes several times as long.
        """
        if self._image is None:
            content = self.contents(os_pages)
            return [content.data.cast("B") if content.flags.c_contiguous else content.tobytes()]
        return [*self._image.file.read_runs(byte_runs(os_pages))]

    def contents(self, os_pages: OsPages) -> Contents:
        """Return the bytes of some OS pages; those behind the end are zero."""
        if self._image is not None and (not len(os_pages) or os_pages[-1] < self._os_page_count):
            whole = b"".join(self.parts(os_pages))
            return np.frombuffer(whole, np.uint8).reshape(-1, OS_PAGE_BYTES)
        if self._rows is not None and (not len(os_pages) or os_pages[-1] < len(self._rows)):
            return self._rows[os_pages]
        out = np.zeros((len(os_pages), OS_PAGE_BYTES), np.uint8)
        inside = os_pages[os_pages < self.wasm_pages * OS_PAGES_PER_WASM_PAGE]
        for first, stop in runs_of(inside):
            data = self._backing.read(int(inside[first]) << 12, (stop - first) << 12)
            out[first:stop] = np.frombuffer(data, np.uint8).reshape(-1, OS_PAGE_BYTES)
        return out

    def filled(self) -> OsPages:
        """Return the OS pages that may be other than zero; in memory, all are looked at."""
        if self._image is not None:
            spans = list(self._image.file.extents())
            found = [np.arange(start >> 12, -(-stop // OS_PAGE_BYTES)) for start, stop in spans]
            os_pages = np.concatenate(found) if found else NO_OS_PAGES
            return os_pages[os_pages < self.wasm_pages * OS_PAGES_PER_WASM_PAGE]
        total, step = self.wasm_pages * OS_PAGES_PER_WASM_PAGE, _SCANNED_BYTES // OS_PAGE_BYTES
        found = []
        for start in range(0, total, step):
            os_pages = np.arange(start, min(start + step, total))
            found.append(os_pages[self.contents(os_pages).any(axis=1)])
        return np.concatenate(found) if found else NO_OS_PAGES


def differing(source: Committed, other: LayeredBytes, os_pages: OsPages) -> Iterator[OsPages]:
    """Yield those OS pages that are not the same in both, some at a time."""
    for batch in batches_of(os_pages):
        yield batch[(source.contents(batch) != other.gather(batch)).any(axis=1)]


def put_back(memory: StableMemory, other: LayeredBytes, os_pages: OsPages | None) -> None:
    """Let the open message make stable memory what a snapshot says.

    Args:
        memory: With a message that has done nothing yet, and is not limited.
        other: The bytes of the snapshot.
        os_pages: Those that may differ; None: any.

    Raises:
        SnapshotError: The snapshot is larger than stable memory may become.
    """
    if other.wasm_pages < memory.wasm_pages:
        # Stable memory shrinks in no other way.
        memory.wipe()
        os_pages = other.filled()
        before = None
    else:
        before = Committed(memory)
        if os_pages is None:
            os_pages = np.union1d(before.filled(), other.filled())
    if memory.grow(other.wasm_pages - memory.wasm_pages) < 0:
        raise SnapshotError(
            f"the snapshot has {other.wasm_pages} Wasm pages of stable memory, more than the "
            "limits allow; choose limits of a later date, or None"
        )
    os_pages = os_pages[os_pages < other.wasm_pages * OS_PAGES_PER_WASM_PAGE]
    for batch in batches_of(os_pages):
        content = other.gather(batch)
        old = 0 if before is None else before.contents(batch)
        is_other = (content != old).any(axis=1)
        wanted, content = batch[is_other], content[is_other]
        for first, stop in runs_of(wanted):
            memory.access_write(int(wanted[first]) << 12, content[first:stop].tobytes())
