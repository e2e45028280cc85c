"""Stable memory: bytes that survive upgrades, and messages that commit whole or leave nothing.

`StableMemory` behaves as the Internet Computer's 64-bit stable memory does: it starts at size 0,
grows by Wasm pages, never shrinks, reads as zero where nothing was written, and traps out of
bounds. `sqlstable.memory.api.SystemApi` puts the exact ``ic0`` calls over it.

**Messages.** What is written between `begin` and `commit` or `rollback` is kept whole or leaves
nothing; `sqlstable.memory.atomic` says how one goes. Outside of a message each call is a message
of its own.

**Stores.** The bytes are a store's: by default `sqlstable.memory.staged.Staged`, which puts a
message's writes beside what is committed.

**Files.** `StableMemory.open` keeps the committed bytes in an image file; a commit is durable then,
see `sqlstable.memory.image.durable`. Every call that writes must be inside a message there.

**Invariants**

* The committed bytes change in `commit` only (and by calls outside of any message).
* A message that trapped stays trapped: every later call raises the same trap, and it can only be
  rolled back.
* What a query did is never kept.
* Bytes beyond the size are zero.
"""

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from sqlstable.errors import MessageError, OutOfBoundsTrap, Trap
from sqlstable.ic.limits import Limits, resolve_limits
from sqlstable.ic.units import OS_PAGE_BYTES, WASM_PAGE_BYTES
from sqlstable.ic.words import GROW, READ, SIZE, WRITE
from sqlstable.memory.accesslog import AccessLog
from sqlstable.memory.atomic import Atomic
from sqlstable.memory.backing import Backing, Bytes, check_size, reserve_pair, whole_wasm_pages
from sqlstable.memory.seams import OUT_OF_BOUNDS, ByteStore
from sqlstable.memory.staged import Staged

if TYPE_CHECKING:
    from sqlstable.memory.image.imagefile import ImageFile

WASM_PAGES_MAX: Final = 1 << 47
"""Wasm pages that a memory without limits can have: 2^63 bytes.

Every address is then a signed 64-bit number, as logs and trace files keep them.
"""
assert WASM_PAGES_MAX * WASM_PAGE_BYTES == 1 << 63

_IMAGE_PIECE_BYTES: Final = WASM_PAGE_BYTES
_ZEROS: Final = bytes(_IMAGE_PIECE_BYTES)


class StableMemory(Atomic):
    r"""Simulated 64-bit stable memory.

    Args:
        limits: Limits to enforce: a `Limits`, a date for those of that day, ``"latest"``, or None
            for none at all (the size is then bounded by addresses only, to 2^63 bytes).
        backing: Where committed bytes are kept; by default the fastest this system offers.
        image: An open image file that keeps them; `open` is the way to it.
        store: What keeps all bytes, instead of any backing.

    Examples:
        >>> memory = StableMemory()
        >>> memory.grow(1), memory.size()
        (0, 1)
        >>> memory.write(65_530, b"abc")
        >>> memory.read(65_528, 6)
        b'\x00\x00abc\x00'
        >>> with memory.message("update"):
        ...     memory.write(0, b"kept")
        >>> with memory.message("query"):
        ...     memory.write(0, b"gone")
        >>> memory.read(0, 4)
        b'kept'
    """

    def __init__(
        self,
        *,
        limits: Limits | date | str | None = "latest",
        backing: Backing | None = None,
        image: "ImageFile | None" = None,
        store: ByteStore | None = None,
    ) -> None:
        resolved = resolve_limits(limits)
        if store is None:
            store = _staged(resolved, backing, image)
        super().__init__(store, resolved, image)
        self.store: ByteStore = store
        "Where the bytes are."
        self.log: AccessLog | None = None
        self.is_closed = False
        "Whether all memory has been given back."

    # -- what the bytes are kept in -------------------------------------------------------------

    @property
    def backing(self) -> Backing:
        """The committed bytes."""
        return self.store.backing

    @property
    def staging(self) -> Backing:
        """The bytes of OS pages that the open message has dirtied."""
        return self.store.staging

    # -- the four calls -------------------------------------------------------------------------

    def size(self) -> int:
        """Return the size in Wasm pages."""
        self._raise_if_trapped()
        if self.log is not None:
            self.log.note(SIZE, 0, 0)
        return self.store.wasm_pages if self.kind is None else self.store.size()

    def grow(self, wasm_pages: int, *, wasm_pages_max: int = WASM_PAGES_MAX) -> int:
        """Add zeroed Wasm pages.

        Args:
            wasm_pages: How many; 0 or more. As for the Internet Computer, a negative number is an
                impossibly large one.
            wasm_pages_max: A bound on the result beside the limit on stable memory.

        Returns:
            The size before in Wasm pages, or -1 with nothing changed where the result would
            pass the limit.
        """
        self._raise_if_trapped()
        if self.log is not None:
            self.log.note(GROW, 0, wasm_pages)
        store = self.store
        bound = min(wasm_pages_max, size_max(self.limits))
        if self.kind is not None:
            return store.grow(wasm_pages, bound)
        if 0 <= wasm_pages <= bound - store.wasm_pages:
            self._check_unlogged()
        old = store.grow(wasm_pages, bound)
        store.commit(store.prepare())
        return old

    def read(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes from byte ``offset`` on.

        A length of 0 is never out of bounds, as on the Internet Computer; a negative number
        always is.

        Raises:
            OutOfBoundsTrap: The range does not lie inside the memory.
            LimitTrap: The message may not access so many OS pages.
        """
        return bytes(self.access_read(offset, length))

    def write(self, offset: int, data: Bytes) -> None:
        """Write ``data`` from byte ``offset`` on; never grows.

        Raises:
            OutOfBoundsTrap: The range does not lie inside the memory.
            LimitTrap: The message may not access or dirty so many OS pages.
        """
        self.access_write(offset, data)

    # -- whole images ---------------------------------------------------------------------------

    @classmethod
    def from_image(
        cls, image: Path | str | Bytes, *, limits: Limits | date | str | None = "latest"
    ) -> "StableMemory":
        """Make a memory that holds a copy of an image, such as a snapshot's ``stable_memory.bin``.

        Args:
            image: Bytes, or the path of a file; a multiple of 65 536 bytes long.
            limits: As for the class.

        Raises:
            ImageError: The length is no multiple of a Wasm page, or passes the limit.
        """
        if isinstance(image, Path | str):
            with cls.open(image, limits=limits, is_read_only=True) as opened:
                memory = cls(limits=limits)
                memory.grow(opened.wasm_pages)
                assert opened.image_file is not None
                for address, data in opened.image_file.pieces():
                    memory.write(address, data)
                return memory
        wasm_pages = whole_wasm_pages(len(image))
        memory = cls(limits=limits)
        if memory.grow(wasm_pages) < 0:
            memory.close()
            check_size(wasm_pages, size_max(memory.limits))
        view = memoryview(image)
        for start in range(0, len(image), _IMAGE_PIECE_BYTES):
            piece = view[start : start + _IMAGE_PIECE_BYTES]
            # Holes stay holes: an image is mostly zeros, and writing them would take memory.
            if bytes(piece) != _ZEROS:
                memory.write(start, piece)
        return memory

    @classmethod
    def open(
        cls,
        path: Path | str,
        *,
        limits: Limits | date | str | None = "latest",
        durability: str = "process",
        is_read_only: bool = False,
        is_created: bool = True,
    ) -> "StableMemory":
        """Open an image file, whose committed bytes these are from now on.

        The file is as long as stable memory and sparse; while it is open for writing, a log lies
        beside it. What the log of an opening that was cut off holds is recovered first, and
        ``image_file.recovery`` says so in a line.

        Args:
            path: The image; made, empty, if it is not there.
            limits: As for the class.
            durability: ``process``: a committed message survives the end of the process, ``kill
                -9`` included. ``power``: it survives a loss of power, too, and takes longer.
            is_read_only: Allow queries only, and leave all files as they are; so is a file that
                is not writable.
            is_created: Whether a file that is not there is made.

        Raises:
            ImageError: It is no image, is open elsewhere, was cut off, or passes the limit.
            SettingsError: ``durability`` is unknown.
        """
        # Image files need POSIX's locks; memories do not.
        from sqlstable.memory.image.imagefile import open_image  # noqa: PLC0415

        resolved = resolve_limits(limits)
        wasm_pages_max = size_max(resolved)
        image = open_image(
            path,
            capacity_bytes=wasm_pages_max * WASM_PAGE_BYTES,
            durability=durability,
            is_read_only=is_read_only,
            is_created=is_created,
        )
        if image.wasm_pages > wasm_pages_max:
            image.close()
        check_size(image.wasm_pages, wasm_pages_max)
        return cls(limits=resolved, image=image)

    def image(self) -> bytes:
        """Return all bytes as they are now, the open message's writes included; not recorded.

        Raises:
            ImageError: The image file was changed by somebody else, or is a parent process's.
        """
        self.check("query")
        return self.peek(0, self.wasm_pages * WASM_PAGE_BYTES)

    def close(self) -> None:
        """Give all memory back; the memory is not used afterwards."""
        self.is_closed = True
        self.watchers.clear()
        self.store.close()
        if self.image_file is not None:
            self.image_file.close()

    def __enter__(self) -> Self:
        """Use the memory in a ``with`` block."""
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- unrecorded views -----------------------------------------------------------------------

    @property
    def wasm_pages(self) -> int:
        """The size in Wasm pages, without counting as a call."""
        return self.store.wasm_pages

    def peek(self, offset: int, length: int) -> bytes:
        """Return bytes as they are now; neither recorded nor counted, for observers only.

        Raises:
            OutOfBoundsTrap: The range does not lie inside the memory.
        """
        store = self.store
        if offset < 0 or offset + length > store.wasm_pages * WASM_PAGE_BYTES:
            raise OutOfBoundsTrap(OUT_OF_BOUNDS)
        return bytes(store.read(offset, length))

    def peek_before(self, offset: int, length: int) -> bytes:
        """Return bytes as they were when the open message began, likewise."""
        return bytes(self.store.backing.read(offset, length))

    # -- accesses -------------------------------------------------------------------------------

    def access_read(self, address: int, length: int, file_offset: int = -1) -> Bytes:
        """Read, mark and log; `read` with the database file's offset for the log."""
        self.touch(address, length, write=False)
        if self.log is not None:
            self.log.note(READ, address, length, file_offset)
        return self.store.read(address, length) if length else b""

    def access_write(self, address: int, data: Bytes, file_offset: int = -1) -> None:
        """Write, mark and log; `write` with the database file's offset for the log."""
        length = len(data)
        self.touch(address, length, write=True)
        if length:
            if self.kind is None:
                self._check_unlogged()
            self.store.write(address, data)
        if self.log is not None:
            self.log.note(WRITE, address, length, file_offset)

    def touch_read(self, address: int, length: int) -> Bytes:
        """Mark and read inside the bounds; the caller logs."""
        self.touch(address, length, write=False)
        return self.store.read(address, length)

    def touch_write(self, address: int, data: Bytes) -> None:
        """Mark and write inside the bounds, in a message; the caller logs."""
        self.touch(address, len(data), write=True)
        self.store.write(address, data)

    def touch(self, address: int, length: int, *, write: bool) -> None:
        """Mark the OS pages of a range without moving bytes; outside of a message only check it.

        Whoever marks for writing must then write the range, or trap.

        Raises:
            OutOfBoundsTrap: The range does not lie inside the memory.
            LimitTrap: The message may not access or dirty so many OS pages.
            ImageError: The image file was changed by somebody else.
        """
        if self.trap is not None:
            raise self.trap
        if self.kind is None:
            # A map of a file that was cut off kills.
            self.check("query")
            end = self.store.wasm_pages * WASM_PAGE_BYTES
            if length and not 0 <= address < address + length <= end:
                raise OutOfBoundsTrap(OUT_OF_BOUNDS)
            return
        try:
            self.store.access(address, length, write=write)
        except Trap as trap:
            raise self.poison(trap) from None

    def first_read(self, os_page: int) -> None:
        """Mark an OS page as accessed that is not yet; poisons the message at the limit."""
        self.touch(os_page * OS_PAGE_BYTES, OS_PAGE_BYTES, write=False)

    def first_write(self, os_page: int) -> None:
        """Mark an OS page as dirty that is not yet; poisons the message at the limit.

        Whoever marks it must then stage it whole.
        """
        self.touch(os_page * OS_PAGE_BYTES, OS_PAGE_BYTES, write=True)

    # -- inside ---------------------------------------------------------------------------------

    def _check_unlogged(self) -> None:
        if self.changed is not None:
            # No message says what it was.
            self.changed.forget()
        if self.image_file is not None:
            raise MessageError(
                "an image file is changed by messages only, so that each is there whole or not "
                'at all; write inside "with memory.message():"'
            )

    def _raise_if_trapped(self) -> None:
        if self.trap is not None:
            raise self.trap


def size_max(limits: Limits | None) -> int:
    """Return how many Wasm pages a memory can have at most."""
    return WASM_PAGES_MAX if limits is None else limits.stable_memory_wasm_pages_max


def _staged(limits: Limits | None, backing: Backing | None, image: "ImageFile | None") -> Staged:
    if image is not None:
        backing = image.backing
    if backing is not None:
        return Staged(backing, backing.empty(), image)
    return Staged(*reserve_pair(size_max(limits) * WASM_PAGE_BYTES))
