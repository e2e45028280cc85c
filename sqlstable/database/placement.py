"""Where the bytes of the database file lie in stable memory.

A *placement* answers three questions for the virtual file system: how much is allocated, where a
file offset lies, and how to get more. Layouts are placements:

``managed``
    The memory manager of ic-stable-structures; the file lies raw in virtual memory 120, as
    ic-rusqlite keeps it. Allocated by whole buckets, because each growth of a virtual memory
    rewrites the manager's header.
``raw``
    The file begins at address 0 of stable memory. Allocated by Wasm pages.

A SQLite page never crosses a bucket's border: both are aligned to powers of two, and a bucket
holds whole Wasm pages.
"""

from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from sqlstable.errors import ImageError
from sqlstable.ic.units import WASM_PAGE_BYTES, wasm_pages_needed
from sqlstable.memory.manager import MemoryManager
from sqlstable.memory.stable import StableMemory

DATABASE_MEMORY_ID: Final = 120
"""Virtual memory of the database. Source: wasm-forge/ic-rusqlite ``src/lib.rs``, 0.5.0."""


@dataclass(frozen=True, slots=True, eq=False)
class FileMap:
    """Where file offsets lie in stable memory: one address for each bucket of the file."""

    bucket_bytes: int
    starts: npt.NDArray[np.int64]
    "Address of each bucket, in the order of the file."
    origin: int | None
    "Address of offset 0 where all buckets follow each other, else None."

    def address(self, offset: int) -> int:
        """Return the address of one offset inside the allocated part."""
        if self.origin is not None:
            return self.origin + offset
        bucket, rest = divmod(offset, self.bucket_bytes)
        return int(self.starts[bucket]) + rest

    def translate(self, offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the addresses of many offsets."""
        if self.origin is not None:
            return offsets + self.origin
        buckets = offsets // self.bucket_bytes
        return self.starts[buckets] + offsets - buckets * self.bucket_bytes


class Placement(Protocol):
    """Where the database file lies, and how it gets more room."""

    @property
    def allocated_bytes(self) -> int:
        """Bytes that the file may use without growing."""
        ...

    @property
    def map(self) -> FileMap:
        """Where its offsets lie; a new object whenever that changes."""
        ...

    def grow_to(self, size_bytes: int) -> bool:
        """Allocate at least ``size_bytes``; False, with nothing changed, where there is no room."""
        ...

    def reload(self) -> None:
        """Derive everything anew from the memory's bytes, unrecorded; after a rollback."""
        ...


class RawPlacement:
    """The file begins at address 0, and is all there is.

    Raises:
        ImageError: The memory holds a memory manager's image.
    """

    def __init__(self, memory: StableMemory) -> None:
        """Look at the memory; nothing is written."""
        if memory.wasm_pages and memory.peek(0, 3) == b"MGR":
            msg = (
                "the image begins with a memory manager's header ('MGR'); open it with layout "
                "managed"
            )
            raise ImageError(msg)
        self._memory = memory
        self.map = FileMap(WASM_PAGE_BYTES, np.zeros(1, dtype=np.int64), 0)

    @property
    def allocated_bytes(self) -> int:
        """The whole memory."""
        return self._memory.wasm_pages * WASM_PAGE_BYTES

    def grow_to(self, size_bytes: int) -> bool:
        """Grow the memory by the Wasm pages that are missing."""
        missing = wasm_pages_needed(size_bytes) - self._memory.wasm_pages
        return missing <= 0 or self._memory.grow(missing) >= 0

    def reload(self) -> None:
        """Nothing is derived."""


class ManagedPlacement:
    """The file is one virtual memory of a memory manager.

    Args:
        memory: An empty memory, or one that holds a manager's image.
        bucket_pages: Wasm pages of a bucket, for an empty memory; an image keeps its own.
        memory_id: Virtual memory of the file.

    Raises:
        ImageError: The memory holds something else.
    """

    def __init__(
        self,
        memory: StableMemory,
        *,
        bucket_pages: int,
        memory_id: int = DATABASE_MEMORY_ID,
    ) -> None:
        """Open the manager, or write a new one into an empty memory."""
        self._memory = memory
        self.manager = MemoryManager(memory, bucket_wasm_pages=bucket_pages)
        self.memory_id = memory_id
        self._file = self.manager.get(memory_id)
        self.map = self._derive()

    @property
    def allocated_bytes(self) -> int:
        """The virtual memory's size."""
        return self.manager.sizes().get(self.memory_id, 0) * WASM_PAGE_BYTES

    def grow_to(self, size_bytes: int) -> bool:
        """Grow by whole buckets, or by what is needed where a whole bucket has no room."""
        bucket_pages = self.manager.bucket_wasm_pages
        needed = wasm_pages_needed(size_bytes)
        allocated = self.allocated_bytes // WASM_PAGE_BYTES
        if needed <= allocated:
            return True
        whole = -(-needed // bucket_pages) * bucket_pages
        grown = self._file.grow(whole - allocated) >= 0
        if grown:
            self.map = self._derive()
        return grown

    def reload(self) -> None:
        """Read the manager's tables again."""
        if self.manager.reload(self._memory.peek, size_wasm_pages=self._memory.wasm_pages):
            self.map = self._derive()

    def _derive(self) -> FileMap:
        buckets = self.manager.buckets(self.memory_id)
        addresses = [self.manager.bucket_address(bucket) for bucket in buckets]
        starts = np.array(addresses or [0], dtype=np.int64)
        bucket_bytes = self.manager.bucket_bytes
        contiguous = bool(np.all(np.diff(starts) == bucket_bytes))
        return FileMap(bucket_bytes, starts, int(starts[0]) if contiguous else None)


def place(memory: StableMemory, *, layout: str, bucket_pages: int) -> Placement:
    """Return the placement that ``layout`` names.

    Raises:
        ImageError: The memory holds something that the layout cannot be.
    """
    if layout == "raw":
        return RawPlacement(memory)
    assert layout == "managed"
    return ManagedPlacement(memory, bucket_pages=bucket_pages)
