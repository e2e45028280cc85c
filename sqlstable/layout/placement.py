"""Where the bytes of the database file lie in stable memory.

A *placement* answers three questions for the virtual file system: how much is allocated, where a
file offset lies, and how to get more. Layouts are placements:

``managed``
    The memory manager of ic-stable-structures; the main database lies raw in virtual memory 120,
    as ic-rusqlite keeps it, and further files in virtual memories of their own, which the
    directory names. Allocated by whole buckets (growth policy ``bucket``), because each growth of
    a virtual memory rewrites the manager's header, or by the Wasm pages that are needed
    (``wasm-page``), which is what a file mounted by stable-fs pays.
``raw``
    The file begins at address 0 of stable memory. Allocated by Wasm pages.

A SQLite page never crosses a bucket's border: both are aligned to powers of two, and a bucket
holds whole Wasm pages.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from sqlstable.errors import ImageError
from sqlstable.ic.units import WASM_PAGE_BYTES, wasm_pages_needed
from sqlstable.layout.directory import DATABASE_MEMORY_ID, Directory, Entry
from sqlstable.memory.manager import MemoryManager
from sqlstable.memory.signatures import MANAGER_MAGIC
from sqlstable.memory.stable import StableMemory


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

    def pieces(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        """Yield address and length of each piece of a range inside the allocated part."""
        while length > 0:
            count = length
            if self.origin is None:
                count = min(length, self.bucket_bytes - offset % self.bucket_bytes)
            yield self.address(offset), count
            offset += count
            length -= count

    def translate(self, offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the addresses of many offsets."""
        if self.origin is not None:
            return offsets + self.origin
        buckets = offsets // self.bucket_bytes
        return self.starts[buckets] + offsets - buckets * self.bucket_bytes


class Placement(Protocol):
    """Where a file lies, and how it gets more room."""

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
        """Derive everything anew from the manager's tables, unrecorded; after a rollback."""
        ...


class RawPlacement:
    """The file begins at address 0, and is all there is.

    Raises:
        ImageError: The memory holds a memory manager's image.
    """

    def __init__(self, memory: StableMemory) -> None:
        """Look at the memory; nothing is written."""
        if memory.wasm_pages and memory.peek(0, len(MANAGER_MAGIC)) == MANAGER_MAGIC:
            raise ImageError(
                "the image begins with a memory manager's header ('MGR'); open it with layout "
                "managed"
            )
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
        manager: The memory manager.
        growth: ``bucket`` or ``wasm-page``.
        memory_id: Virtual memory of the file.
    """

    def __init__(
        self, manager: MemoryManager, *, growth: str, memory_id: int = DATABASE_MEMORY_ID
    ) -> None:
        self._manager = manager
        self._by_bucket = growth == "bucket"
        self.memory_id = memory_id
        self._handle = manager.get(memory_id)
        self.map = self._derive()

    @property
    def allocated_bytes(self) -> int:
        """The virtual memory's size."""
        return self._handle.size() * WASM_PAGE_BYTES

    def grow_to(self, size_bytes: int) -> bool:
        """Grow by whole buckets, or by what is needed, as the growth policy has it."""
        needed = wasm_pages_needed(size_bytes)
        allocated = self._handle.size()
        if needed <= allocated:
            return True
        if self._by_bucket:
            bucket_pages = self._manager.bucket_wasm_pages
            needed = -(-needed // bucket_pages) * bucket_pages
        grown = self._handle.grow(needed - allocated) >= 0
        if grown:
            self.map = self._derive()
        return grown

    def reload(self) -> None:
        """Follow the manager's tables."""
        self.map = self._derive()

    def _derive(self) -> FileMap:
        return map_of(self._manager, self.memory_id)


class NamedPlacement:
    """A further file: its name is in the directory once it has a place.

    Args:
        manager: The memory manager.
        directory: Names the file.
        growth: ``bucket`` or ``wasm-page``.
        name: Name of the file.
        kind: database or journal.
        get_main_name: Gives the name of the main database, for a new directory.
        before_write: Called before the directory is written.
    """

    def __init__(
        self,
        manager: MemoryManager,
        directory: Directory,
        *,
        growth: str,
        name: str,
        kind: str,
        get_main_name: Callable[[], str],
        before_write: Callable[[], None],
    ) -> None:
        """Look the file up; a new one gets its place with its first byte."""
        self._manager = manager
        self._directory = directory
        self._growth = growth
        self._name = name
        self._kind = kind
        self._get_main_name = get_main_name
        self._before_write = before_write
        self._place: ManagedPlacement | None = None
        self.reload()

    @property
    def memory_id(self) -> int | None:
        """Virtual memory of the file, or None where it has none yet."""
        return None if self._place is None else self._place.memory_id

    @property
    def allocated_bytes(self) -> int:
        """The virtual memory's size."""
        return 0 if self._place is None else self._place.allocated_bytes

    @property
    def map(self) -> FileMap:
        """Where the file's offsets lie."""
        return _nowhere(self._manager) if self._place is None else self._place.map

    def grow_to(self, size_bytes: int) -> bool:
        """Grow, after giving a new file its virtual memory; its name is written last."""
        if self._place is not None:
            return self._place.grow_to(size_bytes)
        directory = self._directory
        directory.check_usable()
        memory_id = directory.free_id()
        if memory_id is None or not directory.make_room():
            return False
        place = self._placed(memory_id)
        if not place.grow_to(size_bytes):
            return False
        added = directory.add(
            Entry(memory_id, self._kind, self._name),
            main_name=self._get_main_name(),
            before_write=self._before_write,
        )
        assert added, "there was room for the directory"
        self._place = place
        return True

    def reload(self) -> None:
        """Look the file up anew."""
        entry = self._directory.entries.get(self._name)
        self._place = None if entry is None else self._placed(entry.memory_id)

    def _placed(self, memory_id: int) -> ManagedPlacement:
        return ManagedPlacement(self._manager, growth=self._growth, memory_id=memory_id)


def map_of(manager: MemoryManager, memory_id: int) -> FileMap:
    """Return where a virtual memory lies."""
    addresses = [manager.bucket_address(bucket) for bucket in manager.buckets(memory_id)]
    if not addresses:
        return _nowhere(manager)
    starts = np.array(addresses, dtype=np.int64)
    contiguous = bool(np.all(np.diff(starts) == manager.bucket_bytes))
    return FileMap(manager.bucket_bytes, starts, addresses[0] if contiguous else None)


def _nowhere(manager: MemoryManager) -> FileMap:
    return FileMap(manager.bucket_bytes, np.zeros(1, dtype=np.int64), 0)
