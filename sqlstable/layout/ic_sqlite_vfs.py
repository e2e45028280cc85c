"""Layout ``ic-sqlite-vfs``: that of ic-sqlite-vfs 2.x, a superblock and then the database.

Both lie in one virtual memory of a memory manager. The application chooses which one: an image
that is made here has it in 120, as the product's example does; in others it is the one that begins
with the superblock (`sqlstable.layout.superblock` draws it), and of several the first. SQLite
pages have 16 384 bytes, and begin where OS pages begin.

Invariants:

* When an SQL transaction commits, the superblock follows in the same message, as the product
  writes it: size, number of transactions, stale checksum, masked ranges, checksum of itself.
* Grows by the Wasm pages that are needed unless told otherwise, as the product does.

Limitations:

* The product keeps a transaction's writes in the heap and writes each SQLite page once, when it
  commits; here SQLite writes them where they belong when it wants to.
* A masked SQLite page reads as what lies in its place. SQLite never asks what is in one: it has
  never written it, or has given it up. What is extracted has zeros there.
* While an import is under way, nothing can be written; nor can the product.
"""

from typing import TYPE_CHECKING, Final

from sqlstable.errors import ImageError, Trap
from sqlstable.ic.units import OS_PAGE_BYTES, WASM_PAGE_BYTES
from sqlstable.layout import superblock
from sqlstable.layout.directory import DATABASE_MEMORY_ID
from sqlstable.layout.filemap import FileMap
from sqlstable.layout.layout import Opened, Peek, Traits
from sqlstable.layout.managed import Managed, first_bytes, map_of, open_manager, superblock_ids
from sqlstable.layout.placement import ManagedPlacement, manager_map
from sqlstable.layout.superblock import SQLITE_PAGE_BYTES, Superblock
from sqlstable.memory.manager import MemoryManager, read_tables
from sqlstable.memory.signatures import MANAGER_MAGIC
from sqlstable.sqlite.header import SQLITE_MAGIC

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sqlstable.memory.stable import StableMemory

_OS_PAGES_PER_SQLITE_PAGE: Final = SQLITE_PAGE_BYTES // OS_PAGE_BYTES


class SuperblockRecord:
    """The superblock in front of the database.

    Args:
        memory: The stable memory.
        manager: Its memory manager.
        memory_id: Virtual memory that it is in.
    """

    kind: Final = "superblock"

    def __init__(self, memory: "StableMemory", manager: MemoryManager, memory_id: int) -> None:
        self._memory = memory
        self._manager = manager
        self._handle = manager.get(memory_id)

    @property
    def used_bytes(self) -> int:
        """Bytes of the superblock."""
        return self.read().encoded_bytes

    def size_bytes(self) -> int:
        """Return the size of the database that it states."""
        return self.read().database_bytes if self._handle.size() else 0

    def read(self) -> Superblock:
        """Return what it says now."""
        # No bucket is smaller than a Wasm page, so the whole superblock lies in the first one.
        bucket = self._manager.buckets(self._handle.memory_id)[0]
        data = self._memory.peek(self._manager.bucket_address(bucket), superblock.ENCODED_BYTES_MAX)
        return superblock.decode(data, memory_bytes=self._handle.size() * WASM_PAGE_BYTES)

    def masked(self) -> tuple[tuple[int, int], ...]:
        """Return where masked SQLite pages would be."""
        return tuple(
            (start * SQLITE_PAGE_BYTES, stop * SQLITE_PAGE_BYTES)
            for start, stop in self.read().masks
        )

    def settle(self, size_bytes: int, *, is_whole: bool) -> None:
        """Write what the product writes when a transaction has committed."""
        old = self.read()
        if size_bytes == old.database_bytes and not self._memory.bytemap.dirty:
            return
        if old.is_importing:
            raise self._refused(
                "an import into this database of ic-sqlite-vfs is under way, and nothing else may "
                "change meanwhile; finish or cancel it in the canister, or extract the database"
            )
        written: Iterable[int] = ()
        if is_whole:
            written = range(superblock.page_count(size_bytes))
        elif old.masks or size_bytes > old.database_bytes:
            written = self._written(old.base)
        new = old.committed(size_bytes, written)
        if len(new.masks) > superblock.MASKS_MAX:
            raise self._refused(
                f"the superblock of ic-sqlite-vfs would need {len(new.masks)} masked ranges, and "
                f"has room for {superblock.MASKS_MAX}; VACUUM, or carry the database over"
            )
        self._handle.write(0, new.encode())

    def _written(self, base: int) -> "Iterator[int]":
        """Yield the SQLite pages that the message has written."""
        place = manager_map(self._manager, self._handle.memory_id, base=base)
        for os_page in self._memory.bytemap.dirty:
            offset = place.offset(os_page * OS_PAGE_BYTES)
            if offset >= 0:
                yield offset // SQLITE_PAGE_BYTES

    def _refused(self, text: str) -> Trap:
        return self._memory.poison(Trap(text))


class IcSqliteVfs:
    """The database behind a superblock, in a virtual memory."""

    name: Final = "ic-sqlite-vfs"
    traits: Final = Traits(
        has_buckets=True,
        has_further_files=False,
        defaults={"page_size": SQLITE_PAGE_BYTES, "growth": "wasm-page"},
        module_settings=None,
    )

    def probe(self, peek: Peek) -> bool:
        """A virtual memory begins with a superblock, and none holds a database as managed does."""
        if peek.start(len(MANAGER_MAGIC)) != MANAGER_MAGIC:
            return False
        try:
            tables = read_tables(peek.read, peek.wasm_pages)
        except ImageError:
            return False
        main = first_bytes(peek, tables, DATABASE_MEMORY_ID, len(SQLITE_MAGIC))
        return bool(superblock_ids(peek, tables)) and main != SQLITE_MAGIC

    def locate(self, peek: Peek) -> FileMap:
        """Look it up in the manager's tables and in the superblock."""
        if peek.wasm_pages == 0:
            return Managed().locate(peek)
        tables = read_tables(peek.read, peek.wasm_pages)
        memory_id = superblock_ids(peek, tables)[0]
        address = tables.bucket_address(tables.buckets[memory_id][0])
        block = superblock.decode(
            peek.read(address, superblock.ENCODED_BYTES_MAX),
            memory_bytes=tables.sizes_wasm_pages[memory_id] * WASM_PAGE_BYTES,
        )
        return map_of(peek, memory_id, base=block.base)

    def open(
        self, memory: "StableMemory", *, bucket_pages: int, growth: str, is_read_only: bool
    ) -> Opened:
        """Read the manager's tables and the superblock; what is empty gets them."""
        manager = open_manager(memory, bucket_pages=bucket_pages, is_read_only=is_read_only)
        memory_id = self._memory_id(memory, manager)
        record = SuperblockRecord(memory, manager, memory_id)
        if manager.get(memory_id).size() == 0:
            self._format(memory, manager, memory_id, is_read_only=is_read_only)
        main = ManagedPlacement(
            manager, growth=growth, memory_id=memory_id, base=record.read().base
        )
        return Opened(main, manager, record=record)

    def _memory_id(self, memory: "StableMemory", manager: MemoryManager) -> int:
        peek = Peek.at(memory)
        found = superblock_ids(peek, read_tables(peek.read, peek.wasm_pages))
        if found:
            return found[0]
        if manager.get(DATABASE_MEMORY_ID).size():
            raise ImageError(
                "no virtual memory begins with the superblock of ic-sqlite-vfs, and "
                f"{DATABASE_MEMORY_ID}, where one would be made, holds something; a database that "
                "begins there has layout managed"
            )
        return DATABASE_MEMORY_ID

    def _format(
        self, memory: "StableMemory", manager: MemoryManager, memory_id: int, *, is_read_only: bool
    ) -> None:
        if memory.kind is None:
            if is_read_only:
                raise ImageError("the image has no superblock of ic-sqlite-vfs, and is read-only")
            with memory.message("install"):
                self._format(memory, manager, memory_id, is_read_only=False)
            return
        handle = manager.get(memory_id)
        if handle.grow(1) < 0:
            raise ImageError("stable memory has no room for the superblock of ic-sqlite-vfs")
        handle.write(0, Superblock().encode())
