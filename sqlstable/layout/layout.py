"""What a layout answers: whether an image has it, where files lie in it, and what goes with it.

A *layout* says where the bytes of a database lie in stable memory. Each is one module with one
object, and `sqlstable.layout.layouts` lists them. Who needs to know asks the object; nobody
compares names.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from sqlstable.ic.units import WASM_PAGE_BYTES
from sqlstable.layout.directory import Directory
from sqlstable.layout.filemap import FileMap
from sqlstable.layout.placement import Placement
from sqlstable.memory.manager import MemoryManager

if TYPE_CHECKING:
    from sqlstable.memory.stable import StableMemory


@dataclass(frozen=True, slots=True)
class Peek:
    """A look at the bytes of a stable memory; nothing of it is recorded."""

    read: Callable[[int, int], bytes]
    "Returns so many bytes from an address on; what is asked for is there."
    wasm_pages: int

    @classmethod
    def at(cls, memory: "StableMemory") -> "Peek":
        """Peek at a memory as it is now."""
        return cls(memory.peek, memory.wasm_pages)

    def start(self, length: int, address: int = 0) -> bytes:
        """Return the bytes at an address, fewer where the memory ends."""
        end = min(address + length, self.wasm_pages * WASM_PAGE_BYTES)
        return self.read(address, end - address) if end > address else b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """What goes with a layout."""

    has_buckets: bool
    "Whether there is a memory manager: buckets have a size, and growth can go by them."
    has_further_files: bool
    "Whether attached databases and journals have a place in stable memory."
    module_number: int | None
    "What the measured engine's module calls it; None where it does not know it."


@dataclass(frozen=True, slots=True)
class Opened:
    """A layout in one stable memory."""

    main: Placement
    "Where the main database lies."
    manager: MemoryManager | None = None
    directory: Directory | None = None
    "Names further files; None where there is no place for any."


class Layout(Protocol):
    """Where the bytes of a database lie in stable memory."""

    @property
    def name(self) -> str:
        """What ``--layout`` calls it."""
        ...

    @property
    def traits(self) -> Traits:
        """What goes with it."""
        ...

    def probe(self, peek: Peek) -> bool:
        """Return whether the bytes are of this layout, by what is unmistakably its own."""
        ...

    def locate(self, peek: Peek) -> FileMap:
        """Return where the main database lies.

        Raises:
            ImageError: The bytes are of this layout, and damaged.
        """
        ...

    def open(
        self, memory: "StableMemory", *, bucket_pages: int, growth: str, is_read_only: bool
    ) -> Opened:
        """Open the layout; what it needs in front of files is written into an empty memory.

        Args:
            memory: Empty, or of this layout.
            bucket_pages: Wasm pages of a bucket of a new memory manager.
            growth: ``bucket`` or ``wasm-page``.
            is_read_only: Whether nothing can be written.

        Raises:
            ImageError: The memory holds something else, or something damaged; it is left alone.
        """
        ...
