"""The seams of memories: four calls on bytes, a store of such bytes, and who is told of changes."""

from typing import TYPE_CHECKING, Final, Literal, Protocol

from sqlstable.ic.limits import Limits
from sqlstable.memory.backing import Backing, Bytes

if TYPE_CHECKING:
    # Choosing a layout needs the seam of a manager, and no arrays.
    from sqlstable.memory.bytemap import Bytemap
    from sqlstable.memory.image.durable import PageChange

OUT_OF_BOUNDS: Final = "stable memory out of bounds"
"""Source: dfinity/ic rs/interfaces/src/execution_environment/errors.rs, 2025-10-31."""


Counting = Literal["on", "anew", "together"]
"""How OS pages are counted from now on: as before; from nothing, as of another part of the message;
or those of all its parts at once, as it ends."""


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


class MessageStore(Protocol):
    """Bytes that a message changes, and which then are kept or go back."""

    @property
    def bytemap(self) -> "Bytemap":
        """Which OS pages the message has touched so far, and its limits on them."""
        ...

    def begin(self, limits: Limits | None, kind: str, counting: Counting = "on") -> None:
        """Set the limits of the message that begins, or of the open one from now on."""
        ...

    def prepare(self) -> "PageChange":
        """Do all that could fail of a commit, and return what it is to commit.

        Raises:
            Trap: This computer has no room for it; the message can be rolled back.
        """
        ...

    def commit(self, change: "PageChange") -> None:
        """Keep what the message did; doing it again does no harm."""
        ...

    def rollback(self) -> bool:
        """Take back what the message did, and return whether that was anything."""
        ...

    def wipe(self) -> None:
        """Become empty, in a message that has done nothing yet."""
        ...

    def recover(self) -> None:
        """Take nothing for granted, after an exception from outside that may have come anywhere.

        What follows is the commit of what was prepared, or a rollback.
        """
        ...


class ByteStore(MessageStore, Protocol):
    """Where a `StableMemory` has its bytes; what is asked here is as the open message sees it."""

    backing: Backing
    "Committed bytes."
    staging: Backing
    "Bytes of the OS pages that the message has dirtied."

    @property
    def wasm_pages(self) -> int:
        """The size in Wasm pages, without counting as a call."""
        ...

    def size(self) -> int:
        """Return the size in Wasm pages, as a call of the open message."""
        ...

    def grow(self, wasm_pages: int, wasm_pages_max: int) -> int:
        """Add zeroed Wasm pages; returns the size before, or -1 where it would pass the limit."""
        ...

    def access(self, address: int, length: int, *, write: bool) -> None:
        """Check an access of the open message, and mark the OS pages that it touches.

        Raises:
            Trap: It lies outside, or crosses a limit; nothing is marked.
        """
        ...

    def read(self, address: int, length: int) -> Bytes:
        """Return bytes inside the memory."""
        ...

    def write(self, address: int, data: Bytes) -> None:
        """Write to where an access was checked, or inside the memory, outside of a message."""
        ...

    def close(self) -> None:
        """Give everything back but the image file."""
        ...
