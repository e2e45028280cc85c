"""The seams of memories: four calls on bytes that grow by whole Wasm pages, and who is told."""

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


class Watcher(Protocol):
    """Somebody who derives state from the bytes, and must know when they change underneath.

    Of one message a watcher is told in this order: that it has trapped, that it is over, that the
    bytes went back.
    """

    def on_trap(self) -> None:
        """The message has trapped: accesses from now on do not count and must not fail again."""
        ...

    def on_rollback(self) -> None:
        """The bytes are those before the message again, the size included; or none, after a reset.

        Not told where the message neither changed anything nor trapped.
        """
        ...

    def on_end(self) -> None:
        """The message is over."""
        ...
