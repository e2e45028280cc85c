"""The seam that every memory shares: four calls on bytes that grow by whole Wasm pages."""

from typing import Protocol


class Memory(Protocol):
    """A memory as the Internet Computer's own one behaves; wrappers over memories are memories."""

    def size(self) -> int:
        """Return the size in Wasm pages."""
        ...

    def grow(self, wasm_pages: int) -> int:
        """Add zeroed Wasm pages.

        Returns:
            The size before, in Wasm pages, or -1 with nothing changed.
        """
        ...

    def read(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes from byte ``offset`` on; traps out of bounds."""
        ...

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Write ``data`` from byte ``offset`` on; traps out of bounds, never grows."""
        ...
