"""Layout ``managed``: the memory manager of ic-stable-structures, a virtual memory for each file.

The main database lies raw in virtual memory 120, as ic-rusqlite keeps it; further files lie in
virtual memories of their own, which a directory names (`sqlstable.layout.directory`).
"""

from typing import TYPE_CHECKING, Final

from sqlstable.errors import ImageError
from sqlstable.ic.units import WASM_PAGE_BYTES
from sqlstable.layout.directory import DATABASE_MEMORY_ID, Directory
from sqlstable.layout.filemap import FileMap
from sqlstable.layout.layout import Opened, Peek, Traits
from sqlstable.layout.placement import ManagedPlacement
from sqlstable.memory.manager import MEMORIES_MAX, MemoryManager, Tables, read_tables
from sqlstable.memory.signatures import MANAGER_MAGIC, SUPERBLOCK_MAGIC

if TYPE_CHECKING:
    from sqlstable.memory.stable import StableMemory


class Managed:
    """The database in virtual memory 120 of a memory manager."""

    name: Final = "managed"
    traits: Final = Traits(has_buckets=True, has_further_files=True, module_settings=(1, 0))

    def probe(self, peek: Peek) -> bool:
        """A memory manager is at the beginning."""
        return peek.start(len(MANAGER_MAGIC)) == MANAGER_MAGIC

    def locate(self, peek: Peek) -> FileMap:
        """Peek it up in the manager's tables."""
        return map_of(peek, DATABASE_MEMORY_ID)

    def open(
        self, memory: "StableMemory", *, bucket_pages: int, growth: str, is_read_only: bool
    ) -> Opened:
        """Read the manager's tables and the directory; an empty memory gets a manager."""
        manager = open_manager(memory, bucket_pages=bucket_pages, is_read_only=is_read_only)
        if not manager.buckets(DATABASE_MEMORY_ID):
            _refuse_superblocks(Peek.at(memory))
        return Opened(ManagedPlacement(manager, growth=growth), manager, Directory(memory, manager))


def superblock_ids(peek: Peek, tables: Tables) -> list[int]:
    """Return the virtual memories that begin with a superblock of ic-sqlite-vfs, ascending."""
    return [
        memory_id
        for memory_id in range(MEMORIES_MAX)
        if first_bytes(peek, tables, memory_id, len(SUPERBLOCK_MAGIC)) == SUPERBLOCK_MAGIC
    ]


def first_bytes(peek: Peek, tables: Tables, memory_id: int, length: int) -> bytes:
    """Return up to a Wasm page of the beginning of a virtual memory; none where it is empty."""
    if not tables.sizes_wasm_pages[memory_id]:
        return b""
    return peek.read(tables.bucket_address(tables.buckets[memory_id][0]), length)


def _refuse_superblocks(peek: Peek) -> None:
    found = superblock_ids(peek, read_tables(peek.read, peek.wasm_pages))
    if found:
        raise ImageError(
            f"virtual memory {DATABASE_MEMORY_ID} holds nothing, and {found[0]} a database with "
            "the superblock of ic-sqlite-vfs; open the image with layout ic-sqlite-vfs"
        )


def open_manager(memory: "StableMemory", *, bucket_pages: int, is_read_only: bool) -> MemoryManager:
    """Return the memory manager of a memory; an empty one gets one.

    Raises:
        ImageError: The memory holds something else, or is empty and read-only.
    """
    if memory.kind is not None or memory.wasm_pages > 0:
        return MemoryManager(memory, bucket_wasm_pages=bucket_pages)
    if is_read_only:
        raise ImageError("the image file is empty and read-only; there is nothing to look at")
    # An image file takes no writes outside of messages.
    with memory.message("install"):
        return MemoryManager(memory, bucket_wasm_pages=bucket_pages)


def map_of(peek: Peek, memory_id: int, *, base: int = 0) -> FileMap:
    """Return where a virtual memory lies, from some byte of it on.

    Raises:
        MemoryManagerError: The manager's tables are damaged.
    """
    if peek.wasm_pages == 0:
        return FileMap.of((), bucket_bytes=WASM_PAGE_BYTES, base=base)
    tables = read_tables(peek.read, peek.wasm_pages)
    addresses = map(tables.bucket_address, tables.buckets[memory_id])
    return FileMap.of(addresses, bucket_bytes=tables.bucket_bytes, base=base)
