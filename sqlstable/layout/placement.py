"""Where one file lies in stable memory, and how it gets more room.

A *placement* answers three questions for the virtual file system: how much is allocated, where a
file offset lies, and how to get more. There are two, and one over them:

`RawPlacement`
    The file has stable memory for itself, from some byte on. Allocated by Wasm pages.
`ManagedPlacement`
    The file has a virtual memory of a memory manager for itself, from some byte on. Allocated by
    whole buckets (growth policy ``bucket``), because each growth of a virtual memory rewrites the
    manager's header, or by the Wasm pages that are needed (``wasm-page``), which is what a file
    mounted by stable-fs pays.
`NamedPlacement`
    A further file in a virtual memory of its own, which the directory names.

A SQLite page never crosses a bucket's border: both are aligned to powers of two, and a bucket
holds whole Wasm pages.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from sqlstable.ic.units import WASM_PAGE_BYTES, wasm_pages_needed
from sqlstable.layout.directory import DATABASE_MEMORY_ID, Directory, Entry
from sqlstable.layout.filemap import ENDLESS, FileMap
from sqlstable.memory.manager import MemoryManager

if TYPE_CHECKING:
    from sqlstable.memory.stable import StableMemory


class RawPlacement:
    """The file begins at a byte of stable memory, and has all that follows.

    Args:
        memory: The stable memory.
        base: Its first byte.
    """

    memory_id = None

    def __init__(self, memory: "StableMemory", base: int = 0) -> None:
        self._memory = memory
        self.map = FileMap.of((0,), bucket_bytes=ENDLESS, base=base)

    @property
    def allocated_bytes(self) -> int:
        """All of the memory behind the base."""
        return max(self._memory.wasm_pages * WASM_PAGE_BYTES - self.map.base, 0)

    def grow_to(self, size_bytes: int) -> bool:
        """Grow the memory by the Wasm pages that are missing."""
        missing = wasm_pages_needed(self.map.base + size_bytes) - self._memory.wasm_pages
        return missing <= 0 or self._memory.grow(missing) >= 0

    def reload(self) -> None:
        """Nothing is derived."""


class ManagedPlacement:
    """The file is one virtual memory of a memory manager.

    Args:
        manager: The memory manager.
        growth: ``bucket`` or ``wasm-page``.
        memory_id: Virtual memory of the file.
        base: Its first byte there.
    """

    def __init__(
        self,
        manager: MemoryManager,
        *,
        growth: str,
        memory_id: int = DATABASE_MEMORY_ID,
        base: int = 0,
    ) -> None:
        self._manager = manager
        self._by_bucket = growth == "bucket"
        self._base = base
        self.memory_id = memory_id
        self._handle = manager.get(memory_id)
        self.map = self._derive()

    @property
    def allocated_bytes(self) -> int:
        """The virtual memory's size, from the base on."""
        return max(self._handle.size() * WASM_PAGE_BYTES - self._base, 0)

    def grow_to(self, size_bytes: int) -> bool:
        """Grow by whole buckets, or by what is needed, as the growth policy has it."""
        needed = wasm_pages_needed(self._base + size_bytes)
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
        return manager_map(self._manager, self.memory_id, base=self._base)


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
        """Peek the file up; a new one gets its place with its first byte."""
        self._manager = manager
        self._directory = directory
        self._growth = growth
        self._name = name
        self._kind = kind
        self._get_main_name = get_main_name
        self._before_write = before_write
        self._nowhere = FileMap.of((), bucket_bytes=manager.bucket_bytes)
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
        return self._nowhere if self._place is None else self._place.map

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
        """Peek the file up anew."""
        entry = self._directory.entries.get(self._name)
        self._place = None if entry is None else self._placed(entry.memory_id)

    def _placed(self, memory_id: int) -> ManagedPlacement:
        return ManagedPlacement(self._manager, growth=self._growth, memory_id=memory_id)


Placement = RawPlacement | ManagedPlacement | NamedPlacement
"""Says of a file: ``allocated_bytes`` it may use without growing, and its ``map``, a new object
whenever that changes; ``grow_to`` a size is False, with nothing changed, where there is no room,
and ``reload`` follows the manager's tables after a rollback."""


def manager_map(manager: MemoryManager, memory_id: int, *, base: int = 0) -> FileMap:
    """Return where a virtual memory lies, from some byte of it on."""
    addresses = map(manager.bucket_address, manager.buckets(memory_id))
    return FileMap.of(addresses, bucket_bytes=manager.bucket_bytes, base=base)
