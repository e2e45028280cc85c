"""Stable memory: bytes that survive upgrades, and messages that commit whole or leave nothing.

`StableMemory` behaves as the Internet Computer's 64-bit stable memory does: it starts at size 0,
grows by Wasm pages, never shrinks, reads as zero where nothing was written, and traps out of
bounds. `sqlstable.memory.api.SystemApi` puts the exact ``ic0`` calls over it.

**Messages.** Between `begin` and `commit` or `rollback`, writes go to a second, equally sparse
backing, the *staging* one; the bytemap says for each OS page which of the two holds its bytes.
Commit copies the dirty OS pages over, rollback forgets them. Both cost what was touched, not
what the memory holds. Outside of a message each call is a message of its own.

**Files.** `StableMemory.open` keeps the committed bytes in an image file; a commit is durable then,
see `sqlstable.memory.image.durable`. Every call that writes must be inside a message there.

**Invariants**

* The committed bytes change in `commit` only (and by calls outside of any message).
* A message that trapped stays trapped: every later call raises the same trap, and it can only be
  rolled back.
* What a query did is never kept.
* Bytes beyond the size are zero in both views.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from threading import get_ident
from typing import TYPE_CHECKING, Final, Self

from sqlstable.errors import MessageError, OutOfBoundsTrap, SettingsError, Trap
from sqlstable.ic.limits import Limits, resolve_limits
from sqlstable.ic.units import MIB, OS_PAGE_BYTES, WASM_PAGE_BYTES, os_pages_spanned
from sqlstable.ic.words import GROW, MESSAGE_KINDS, READ, SIZE, WRITE
from sqlstable.memory import accesslog, forks
from sqlstable.memory.backing import Backing, Bytes, check_size, reserve_pair, whole_wasm_pages
from sqlstable.memory.bytemap import DIRTY, Bytemap
from sqlstable.memory.image.durable import Change, NotCommittedError, os_page_runs
from sqlstable.memory.seams import Watcher

if TYPE_CHECKING:
    from sqlstable.memory.image.imagefile import ImageFile

WASM_PAGES_MAX: Final = 1 << 47
"""Wasm pages that a memory without limits can have: 2^63 bytes.

Every address is then a signed 64-bit number, as logs and trace files keep them.
"""
assert WASM_PAGES_MAX * WASM_PAGE_BYTES == 1 << 63

STAGED_BYTES_KEPT: Final = 64 * MIB
"""Staged memory that is kept for the next messages; beyond it, commit gives it back."""

BULK_BYTES: Final = 16 * MIB
"""A message that stages more than that is a load: what it staged is given back at once, because
the messages that follow rarely need as much."""

_IMAGE_PIECE_BYTES: Final = WASM_PAGE_BYTES
_ZEROS: Final = bytes(_IMAGE_PIECE_BYTES)

_LOOPED_OS_PAGES: Final = 64
"""Up to so many dirty OS pages, a plain loop applies them quicker than sorting does."""

OUT_OF_BOUNDS: Final = "stable memory out of bounds"
"""Source: dfinity/ic rs/interfaces/src/execution_environment/errors.rs, 2025-10-31."""


class StableMemory:
    r"""Simulated 64-bit stable memory.

    Args:
        limits: Limits to enforce: a `Limits`, a date for those of that day, ``"latest"``, or None
            for none at all (the size is then bounded by addresses only, to 2^63 bytes).
        backing: Where committed bytes are kept; by default the fastest this system offers.
        image: An open image file that keeps them; `open` is the way to it.

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
    ) -> None:
        self.limits = resolve_limits(limits)
        self.image_file = image
        if image is not None:
            backing = image.backing
        self.backing, self.staging = (
            reserve_pair(self._wasm_pages_max() * WASM_PAGE_BYTES)
            if backing is None
            else (backing, backing.empty())
        )
        flat = self.backing.flat
        self.bytemap = Bytemap(0 if flat is None else len(flat) // OS_PAGE_BYTES)
        self.log: accesslog.AccessLog | None = None
        self.kind: str | None = None
        self.trap: Trap | None = None
        self.thread: int | None = None
        "Identifier of the thread that began the open message, or None."
        self.watchers: list[Watcher] = []
        self._wasm_pages = self._committed_wasm_pages = 0 if image is None else image.wasm_pages
        self._wiped_backing: Backing | None = None
        self._is_committed = False
        "Whether the open message has passed its commit point."
        self._staged_bytes = 0
        self._staged_reach_bytes = 0
        self._left_behind: Trap | None = None
        "What each call raises in a child process, whose memory this is not."
        forks.watch(self)

    # -- the four calls -------------------------------------------------------------------------

    def size(self) -> int:
        """Return the size in Wasm pages."""
        self._raise_if_trapped()
        if self.log is not None:
            self.log.note(SIZE, 0, 0)
        return self._wasm_pages

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
        old = self._wasm_pages
        if wasm_pages < 0 or old + wasm_pages > min(wasm_pages_max, self._wasm_pages_max()):
            return -1
        if self.kind is None:
            self._check_unlogged()
        self._wasm_pages = old + wasm_pages
        if self.kind is None:
            self._committed_wasm_pages = self._wasm_pages
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

    # -- messages -------------------------------------------------------------------------------

    @contextmanager
    def message(self, kind: str = "update") -> Iterator[None]:
        """Run a block as one message: it commits whole, or leaves nothing.

        Args:
            kind: update, query, upgrade, install or reinstall; a query's writes are discarded.

        Raises:
            Trap: The message trapped, even if the block swallowed the exception.
        """
        self.begin(kind)
        try:
            yield
        except BaseException:
            self.rollback()
            raise
        if self.trap is not None:
            trap = self.trap
            self.rollback()
            raise trap
        if kind == "query":
            self.rollback()
            return
        try:
            self.commit()
        except BaseException:
            if self.kind is not None:
                self.rollback()
            raise

    def begin(self, kind: str) -> None:
        """Begin a message.

        Raises:
            MessageError: One is open already; messages do not nest.
            SettingsError: There is no such kind.
            ImageError: The image file takes no message any more: it was changed by somebody else,
                or belongs to a parent process.
            Trap: The image file is read-only, and the message is no query; or the memory is a
                parent process's.
        """
        if self.kind is not None:
            raise MessageError(
                f"a message ({self.kind}) is open already; end it before beginning another"
            )
        if kind not in MESSAGE_KINDS:
            raise SettingsError(
                f"unknown message kind {kind!r}; use one of {', '.join(MESSAGE_KINDS)}"
            )
        self.check(kind)
        self.bytemap.begin(self.limits, kind)
        self.kind = kind
        self.thread = get_ident()

    def check(self, kind: str) -> None:
        """Refuse what `begin` would refuse for the image file's sake, without beginning.

        For whoever reads committed bytes before: a map of a file that was cut off kills.

        Raises:
            ImageError: As for `begin`.
            Trap: As for `begin`.
        """
        if self.image_file is not None:
            self.image_file.check(kind)
        elif self._left_behind is not None:
            raise self._left_behind

    def commit(self) -> None:
        """Make the message's writes and growth permanent.

        Raises:
            MessageError: No message is open, or it is a query.
            Trap: The message trapped, or its image file has no room for it; it is still open and
                can only be rolled back.
        """
        if self.kind is None:
            raise MessageError("no message is open; begin one first")
        if self.trap is not None:
            raise self.trap
        if self.kind == "query":
            raise MessageError("what a query does is never kept; roll it back, or begin an update")
        if self.image_file is not None:
            self._commit_to(self.image_file)
        self._is_committed = True
        self._finish_commit()

    def rollback(self) -> None:
        """Forget the message's writes and growth; harmless where nothing was written.

        Raises:
            MessageError: No message is open.
        """
        if self.kind is None:
            raise MessageError("no message is open; there is nothing to roll back")
        changed = self.bytemap.dirty or self._wasm_pages != self._committed_wasm_pages
        changed = self._unwipe() or changed
        if not changed and self.trap is None:
            self._end()
            return
        self._note_staged()
        if self.image_file is not None:
            # Behind the commit, an exception from outside may have cut the message's end off.
            self._committed_wasm_pages = self.image_file.wasm_pages
        self._wasm_pages = self._committed_wasm_pages
        self.trap = self._left_behind
        self._end()
        for watcher in self.watchers:
            watcher.on_rollback()

    def leave_behind(self) -> None:
        """Refuse everything from now on: this is a child process; an image says so by itself."""
        if self.image_file is None:
            self.trap = self._left_behind = Trap(forks.LEFT_BEHIND)

    def seal(self) -> None:
        """Let nobody change anything any more, in a message or in none."""
        self.trap = Trap("the message was cut off")
        for watcher in self.watchers:
            watcher.on_trap()

    def recover(self) -> bool:
        """Finish a message that was cut off behind its commit point, or forget one before it.

        Nobody watches the memory any more.

        Returns:
            Whether there was something to finish.
        """
        self.watchers.clear()
        self.trap = self._left_behind
        if self._is_committed:
            self._finish_commit()
            return True
        self._unwipe()
        if self.image_file is not None:
            self._committed_wasm_pages = self.image_file.wasm_pages
        self._wasm_pages = self._committed_wasm_pages
        self._end()
        return False

    def poison(self, trap: Trap) -> Trap:
        """Mark the open message as trapped, and return the trap to be raised.

        Returns:
            ``trap``, or the one with which the message had trapped before.
        """
        if self.kind is None:
            return trap
        if self.trap is None:
            self.trap = trap
            for watcher in self.watchers:
                watcher.on_trap()
        return self.trap

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
                    memory.backing.write(address, data)
                return memory
        wasm_pages = whole_wasm_pages(len(image))
        memory = cls(limits=limits)
        if memory.grow(wasm_pages) < 0:
            memory.close()
            check_size(wasm_pages, _wasm_pages_max(memory.limits))
        view = memoryview(image)
        for start in range(0, len(image), _IMAGE_PIECE_BYTES):
            piece = view[start : start + _IMAGE_PIECE_BYTES]
            # Holes stay holes: an image is mostly zeros, and writing them would take memory.
            if bytes(piece) != _ZEROS:
                memory.backing.write(start, piece)
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
        wasm_pages_max = _wasm_pages_max(resolved)
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
        return self.peek(0, self._wasm_pages * WASM_PAGE_BYTES)

    def reset(self) -> None:
        """Become empty again, as reinstalling a canister does.

        Raises:
            MessageError: A message is open.
        """
        if self.kind is not None:
            raise MessageError(
                f"a message ({self.kind}) is open; end it before the memory is reset"
            )
        self.begin("reinstall")
        self.wipe()
        self.commit()
        for watcher in self.watchers:
            watcher.on_rollback()

    def wipe(self) -> None:
        """Become empty inside the open message; a rollback brings everything back.

        Raises:
            MessageError: No message is open, or it has accessed something already.
        """
        if self.kind is None or self.bytemap.accessed or self._wiped_backing is not None:
            raise MessageError(
                "stable memory is wiped at the very beginning of a message; begin one first"
            )
        self._wiped_backing, self.backing = self.backing, self.backing.empty()
        self._wasm_pages = 0

    def close(self) -> None:
        """Give all memory back; the memory is not used afterwards."""
        self.watchers.clear()
        self.staging.close()
        self.bytemap.close()
        if self.image_file is None:
            self.backing.close()
        else:
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
        return self._wasm_pages

    def peek(self, offset: int, length: int) -> bytes:
        """Return bytes as they are now; neither recorded nor counted, for observers only.

        Raises:
            OutOfBoundsTrap: The range does not lie inside the memory.
        """
        if offset + length > self._wasm_pages * WASM_PAGE_BYTES:
            raise OutOfBoundsTrap(OUT_OF_BOUNDS)
        return bytes(self._current(offset, length))

    def peek_before(self, offset: int, length: int) -> bytes:
        """Return bytes as they were when the open message began, likewise."""
        return bytes(self.backing.read(offset, length))

    # -- accesses -------------------------------------------------------------------------------

    def access_read(self, address: int, length: int, file_offset: int = -1) -> Bytes:
        """Read, mark and log; `read` with the database file's offset for the log."""
        self._raise_if_trapped()
        if length == 0:
            self._note(READ, address, 0, file_offset)
            return b""
        self._check_bounds(address, length)
        self.touch(address, length, write=False)
        self._note(READ, address, length, file_offset)
        return self._current(address, length)

    def access_write(self, address: int, data: Bytes, file_offset: int = -1) -> None:
        """Write, mark and log; `write` with the database file's offset for the log."""
        self._raise_if_trapped()
        length = len(data)
        if length == 0:
            self._note(WRITE, address, 0, file_offset)
            return
        self._check_bounds(address, length)
        if self.kind is None:
            self._check_unlogged()
            self._note(WRITE, address, length, file_offset)
            self.backing.write(address, data)
            return
        self._stage(address, data)
        self._note(WRITE, address, length, file_offset)

    def touch_read(self, address: int, length: int) -> Bytes:
        """Mark and read inside the bounds; the caller logs."""
        self.touch(address, length, write=False)
        return self._current(address, length)

    def touch_write(self, address: int, data: Bytes) -> None:
        """Mark and stage inside the bounds, in a message; the caller logs."""
        self._stage(address, data)

    def touch(self, address: int, length: int, *, write: bool) -> None:
        """Mark the OS pages of a range without moving bytes; outside of a message do nothing.

        Whoever marks for writing must then stage these OS pages whole, or trap.

        Raises:
            LimitTrap: The message may not access or dirty so many OS pages.
        """
        if self.kind is None:
            return
        self._raise_if_trapped()
        try:
            self.bytemap.touch(os_pages_spanned(address, length), write=write)
        except Trap as trap:
            raise self.poison(trap) from None

    def first_read(self, os_page: int) -> None:
        """Mark an OS page as accessed that is not yet; poisons the message at the limit."""
        try:
            self.bytemap.first_read(os_page)
        except Trap as trap:
            raise self.poison(trap) from None

    def first_write(self, os_page: int) -> None:
        """Mark an OS page as dirty that is not yet; poisons the message at the limit.

        Whoever marks it must then stage it whole.
        """
        try:
            self.bytemap.first_write(os_page)
        except Trap as trap:
            raise self.poison(trap) from None

    # -- inside ---------------------------------------------------------------------------------

    def _commit_to(self, image_file: "ImageFile") -> None:
        """Make the message permanent in the image file, if it has changed anything."""
        before, after = self._committed_wasm_pages, self._wasm_pages
        is_wiped = self._wiped_backing is not None
        if not self.bytemap.dirty and before == after and not is_wiped:
            return
        self._note_staged()
        change = Change(self.bytemap.dirty, self.staging, before, after, is_wiped)
        try:
            image_file.commit(change)
        except NotCommittedError as error:
            raise self.poison(Trap(str(error))) from error
        if is_wiped:
            # The empty one of this message has done its duty; the file holds everything now.
            assert self._wiped_backing is not None
            self.backing, self._wiped_backing = self._wiped_backing, self.backing

    def _finish_commit(self) -> None:
        """Do what is left behind the commit point; doing it again does no harm."""
        if self.image_file is None and self.bytemap.dirty:
            self._note_staged()
            self._apply()
        if self._wiped_backing is not None:
            self._wiped_backing.close()
            self._wiped_backing = None
        self._committed_wasm_pages = self._wasm_pages
        self._is_committed = False
        self._end()

    def _unwipe(self) -> bool:
        """Have the bytes again that `wipe` has put aside; returns whether there were any."""
        wiped = self._wiped_backing
        if wiped is None:
            return False
        kept = wiped if self.image_file is None else self.image_file.backing
        other = self.backing if self.backing is not kept else wiped
        self.backing, self._wiped_backing = kept, None
        other.close()
        return True

    def _apply(self) -> None:
        """Copy the dirty OS pages over."""
        dirty = self.bytemap.dirty
        write, read = self.backing.write, self.staging.read
        if len(dirty) <= _LOOPED_OS_PAGES:
            for os_page in dirty:
                write(os_page << 12, read(os_page << 12, OS_PAGE_BYTES))
        else:
            for start, length in os_page_runs(dirty):
                write(start, read(start, length))

    def _check_unlogged(self) -> None:
        if self.image_file is not None:
            raise MessageError(
                "an image file is changed by messages only, so that each is there whole or not "
                'at all; write inside "with memory.message():"'
            )

    def _wasm_pages_max(self) -> int:
        return _wasm_pages_max(self.limits)

    def _raise_if_trapped(self) -> None:
        if self.trap is not None:
            raise self.trap

    def _check_bounds(self, address: int, length: int) -> None:
        if not 0 <= address < address + length <= self._wasm_pages * WASM_PAGE_BYTES:
            raise self.poison(OutOfBoundsTrap(OUT_OF_BOUNDS))

    def _note(self, kind: int, address: int, length: int, file_offset: int) -> None:
        if self.log is not None:
            self.log.note(kind, address, length, file_offset)

    def _stage(self, address: int, data: Bytes) -> None:
        if len(data) == OS_PAGE_BYTES and not address & (OS_PAGE_BYTES - 1):
            # A whole OS page, as nearly always.
            if self.bytemap.mark(address >> 12) != DIRTY:
                self.first_write(address >> 12)
            self.staging.write(address, data)
            return
        pages = os_pages_spanned(address, len(data))
        ragged = []
        # The first and last OS page may be covered in part: the rest of them is copied first.
        for os_page in {pages.start, pages.stop - 1}:
            start = os_page * OS_PAGE_BYTES
            covered = address <= start and start + OS_PAGE_BYTES <= address + len(data)
            if not covered and self.bytemap.mark(os_page) != DIRTY:
                ragged.append(start)
        self.touch(address, len(data), write=True)
        for start in ragged:
            self.staging.write(start, self.backing.read(start, OS_PAGE_BYTES))
        self.staging.write(address, data)

    def _current(self, address: int, length: int) -> Bytes:
        if self.kind is None or not self.bytemap.dirty or length == 0:
            return self.backing.read(address, length)
        pages = os_pages_spanned(address, length)
        states = self.bytemap.states(pages)
        dirty = states.count(DIRTY)
        if dirty == len(states):
            return self.staging.read(address, length)
        if dirty == 0:
            return self.backing.read(address, length)
        result = bytearray(self.backing.read(address, length))
        for os_page, state in zip(pages, states, strict=True):
            if state == DIRTY:
                start = max(os_page * OS_PAGE_BYTES, address)
                stop = min((os_page + 1) * OS_PAGE_BYTES, address + length)
                result[start - address : stop - address] = self.staging.read(start, stop - start)
        return bytes(result)

    def _note_staged(self) -> None:
        reach_bytes = self._wasm_pages * WASM_PAGE_BYTES
        staged_bytes = len(self.bytemap.dirty) * OS_PAGE_BYTES
        self._staged_bytes += staged_bytes
        if staged_bytes > BULK_BYTES:
            self._staged_bytes += STAGED_BYTES_KEPT
        self._staged_reach_bytes = max(self._staged_reach_bytes, reach_bytes)

    def _end(self) -> None:
        if self._staged_bytes > STAGED_BYTES_KEPT:
            self.staging.discard(0, self._staged_reach_bytes)
            self._staged_bytes = self._staged_reach_bytes = 0
        self.bytemap.clear()
        self.kind = self.thread = None
        for watcher in self.watchers:
            watcher.on_end()


def _wasm_pages_max(limits: Limits | None) -> int:
    return WASM_PAGES_MAX if limits is None else limits.stable_memory_wasm_pages_max
