"""What a layout answers: whether an image has it, where files lie in it, and what goes with it.

A *layout* says where the bytes of a database lie in stable memory. Each is one module with one
object, and `sqlstable.layout.layouts` lists them. Who needs to know asks the object; nobody
compares names.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
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
    defaults: Mapping[str, object] = field(default_factory=dict)
    "Settings as its product has them, by name, where nobody chooses others."
    module_settings: tuple[int, int] | None
    """Version of the settings and layout by which the measured engine's module knows it, see
    ``module/source/module.h``; None where it does not."""


class SizeRecord(Protocol):
    """What a layout keeps in front of the main database: how long it is, at least."""

    @property
    def kind(self) -> str:
        """What reports call it."""
        ...

    @property
    def used_bytes(self) -> int:
        """Bytes that it takes."""
        ...

    def size_bytes(self) -> int:
        """Return how long the database may be at most, as the bytes say; unrecorded."""
        ...

    def masked(self) -> tuple[tuple[int, int], ...]:
        """Return the ranges of offsets that are zeros, whatever lies in their place."""
        ...

    def settle(self, size_bytes: int, *, is_whole: bool) -> None:
        """Make it true of a database of this size, in the open message.

        Args:
            size_bytes: Exact size of the database; an SQL transaction on it has just committed.
            is_whole: Whether every byte of it is new, as after an import.

        Raises:
            Trap: The message may not write it, or the image must not be changed.
        """
        ...


@dataclass(frozen=True, slots=True)
class Opened:
    """A layout in one stable memory."""

    main: Placement
    "Where the main database lies."
    manager: MemoryManager | None = None
    directory: Directory | None = None
    "Names further files; None where there is no place for any."
    record: SizeRecord | None = None
    "What lies in front of the main database; None where nothing does."

    def reload(self, memory: "StableMemory") -> bool:
        """Follow the bytes after a rollback; returns whether files may lie elsewhere now."""
        if self.manager is None:
            return False
        is_moved = self.manager.reload(memory.peek, size_wasm_pages=memory.wasm_pages)
        if self.directory is not None:
            self.directory.reload()
        return is_moved


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
