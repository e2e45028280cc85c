"""Where the database lies in the stable memory of a module."""

from contextlib import suppress

from sqlstable.errors import MemoryManagerError
from sqlstable.layout.filemap import FileMap
from sqlstable.layout.layout import Layout, Peek
from sqlstable.memory.manager import BUCKETS_OFFSET
from sqlstable.memory.stable import StableMemory
from sqlstable.sqlite.header import PAGE_SIZE, stated_page_size
from sqlstable.wasm.shimstore import shim_of


class LocatedDatabase:
    """The database of a memory; where it lies changes only as that grows.

    Args:
        layout: Of stable memory.
        memory: Is looked at, unrecorded.
    """

    def __init__(self, layout: Layout, memory: StableMemory) -> None:
        self._layout = layout
        self._memory = memory
        self._store = shim_of(memory)
        self._map = layout.locate(Peek(memory.peek, 0))
        self._start = self._map.start
        self._wasm_pages = 0

    @property
    def front_bytes(self) -> int:
        """Bytes at the beginning of stable memory that say where the database is, or how long."""
        return BUCKETS_OFFSET if self._layout.traits.has_buckets else self._map.base

    def map_at(self, wasm_pages: int) -> FileMap:
        """Return where its bytes are in stable memory of this size, which it has now."""
        if wasm_pages != self._wasm_pages:
            # A message that trapped while it grew leaves tables that are half written.
            with suppress(MemoryManagerError):
                self._map = self._layout.locate(Peek(self._memory.peek, wasm_pages))
                self._start = self._map.start
                self._wasm_pages = wasm_pages
        return self._map

    def page_size(self) -> int | None:
        """Return the page size that its header states now; None where there is none."""
        store = self._store
        wasm_pages = store.wasm_pages
        if not wasm_pages:
            return None
        self.map_at(wasm_pages)
        if self._start is None:
            return None
        return stated_page_size(store.read(self._start + PAGE_SIZE.start, 2)) or None
