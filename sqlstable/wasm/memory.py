"""Stable memory whose bytes lie in a Wasm memory.

To a canister and to whoever observes it, `WasmMemory` is a `StableMemory`. Bytes, marks, limits,
undo log and access log are the shim's (``shim.wat``); the canister's module works there without
any Python, and what Python itself reads and writes (an import, say) goes by the same rules.

**Invariants**

* Bytes are changed in place; the undo log brings them back. So what is read inside of a message
  always is what the message sees.
* The heap belongs to the message as well: commit keeps it, rollback brings it back.
* A reinstallation gets a machine of its own; the old one waits until the message has ended.
* What can fail at the end of a message does so before the commit point. Each step behind it does no
  harm when it is done again, and is, wherever it was cut off: what is in the image file is here.
"""

import ctypes
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Final, NamedTuple, overload

from sqlstable.errors import MessageError, OutOfBoundsTrap, Trap
from sqlstable.ic.limits import Limits
from sqlstable.ic.units import OS_PAGE_BYTES, UINT64_MAX, WASM_PAGE_BYTES, os_pages_spanned
from sqlstable.memory.backing import Bytes, check_size
from sqlstable.memory.bytemap import Bytemap
from sqlstable.memory.image.durable import Change, NotCommittedError
from sqlstable.memory.image.imagefile import ImageFile, open_image
from sqlstable.memory.stable import OUT_OF_BOUNDS, WASM_PAGES_MAX, StableMemory
from sqlstable.wasm import shim
from sqlstable.wasm.instance import Instance
from sqlstable.wasm.overlay import Overlay
from sqlstable.wasm.program import FAR_BYTES, NEAR_BYTES, Program

MakeProgram = Callable[[int], Program]
"""Returns the program whose memories reserve so many bytes."""

_ACCESSED_COUNT: Final = shim.STATUS.index("accessed_count")
_DIRTY_COUNT: Final = shim.STATUS.index("dirty_count")
_STABLE_SIZE: Final = shim.STATUS.index("stable_size")


class WasmMemory(StableMemory):
    """A stable memory that a machine works on.

    Args:
        make_program: Gives the program.
        limits: As for `StableMemory`; without any, stable memory ends at 512 GiB.
        image_file: An open image file that keeps the committed bytes.
    """

    def __init__(
        self,
        make_program: MakeProgram,
        *,
        limits: Limits | date | str | None = "latest",
        image_file: ImageFile | None = None,
    ) -> None:
        backing = WasmBacking(self)
        super().__init__(limits=limits, backing=backing)
        self._make_program = make_program
        self._reach_bytes = NEAR_BYTES
        if image_file is not None and image_file.wasm_pages * WASM_PAGE_BYTES > NEAR_BYTES // 2:
            self._reach_bytes = FAR_BYTES
        self._wiped: Instance | None = None
        self._committed: _Committed | None = None
        "What the open message has committed, from the commit point to its end."
        self._is_new_heap = False
        self._is_behind = False
        self._is_looking = False
        self._undo_places: dict[int, int] | None = None
        "Where the old bytes of each dirty OS page are, once somebody asks; until the message ends."
        self.machine = self._new_machine()
        "What works on it now; another one after a reinstallation."
        self.bytemap: Bytemap = WasmBytemap(self)
        self.image_file = image_file
        self._overlay = None if image_file is None else Overlay(image_file)
        if self._overlay is not None:
            self._overlay.cover(self.machine)
        self._wasm_pages = self._committed_wasm_pages = self.machine.stable_wasm_pages

    # -- the four calls -------------------------------------------------------------------------

    def size(self) -> int:
        """Return the size in Wasm pages."""
        self._raise_if_trapped()
        if self.kind is not None and not self._is_looking:
            self.machine.note_size()
        return self.wasm_pages

    def grow(self, wasm_pages: int, *, wasm_pages_max: int = WASM_PAGES_MAX) -> int:
        """Add zeroed Wasm pages; see `StableMemory.grow`."""
        self._raise_if_trapped()
        if self.kind is None:
            with self._implicit():
                return self.grow(wasm_pages, wasm_pages_max=wasm_pages_max)
        self._refuse_looking()
        return self.machine.host_grow(wasm_pages & UINT64_MAX, wasm_pages_max)

    # -- messages -------------------------------------------------------------------------------

    def renew_heap(self) -> None:
        """Take note that the open message makes the heap anew: marks do not tell what changed."""
        self._is_new_heap = True

    def commit(self) -> None:
        """Make the message's writes, growth and heap permanent; see `StableMemory.commit`."""
        if self.kind is None:
            raise MessageError("no message is open; begin one first")
        if self.trap is not None:
            raise self.trap
        if self.kind == "query":
            raise MessageError("what a query does is never kept; roll it back, or begin an update")
        try:
            self.machine.prepare_commit()
        except Trap as trap:
            raise self.poison(trap) from None
        numbers = self.machine.numbers()
        dirty_count, after = numbers[_DIRTY_COUNT], numbers[_STABLE_SIZE]
        is_wiped = self._wiped is not None
        is_changed = bool(dirty_count) or after != self._committed_wasm_pages or is_wiped
        if self.image_file is not None and is_changed:
            self._commit_image(self.image_file, after, is_wiped=is_wiped)
        self._committed = committed = _Committed(after, dirty_count, is_changed, is_wiped)
        try:
            self._finish(committed)
        except Exception:  # noqa: BLE001  whatever it was, the message is committed
            self._finish(committed)

    def rollback(self) -> None:
        """Take back the message's writes, growth and heap; see `StableMemory.rollback`."""
        if self.kind is None:
            raise MessageError("no message is open; there is nothing to roll back")
        if self._committed is not None:
            # An exception from outside has cut the end of a commit off.
            self._finish(self._committed)
            self._tell_watchers()
            return
        if self._wiped is not None:
            self._unwipe_machine()
            is_changed = True
        else:
            try:
                numbers = self.machine.numbers()
                is_changed = bool(numbers[_DIRTY_COUNT]) or (
                    numbers[_STABLE_SIZE] != self._committed_wasm_pages
                )
                self.machine.rollback(is_new_heap=self._is_new_heap)
            except Trap:
                # Nothing may stay of the message, and to take it back again does no harm.
                self.machine.rollback(is_new_heap=self._is_new_heap)
                is_changed = True
        is_changed = is_changed or self.trap is not None
        self._wasm_pages = self._committed_wasm_pages
        self.trap = self._left_behind
        self._end()
        if is_changed:
            self._tell_watchers()

    def recover(self) -> bool:
        """Finish the message that was cut off, or forget it; see `StableMemory.recover`."""
        self.watchers.clear()
        self.trap = self._left_behind
        self._is_looking = False
        self._is_new_heap = True
        committed = self._committed
        self.machine.recover()
        if committed is not None:
            self._finish(committed)
            return True
        if self._wiped is not None:
            self._unwipe_machine()
        else:
            self.machine.rollback(is_new_heap=True)
        self._wasm_pages = self._committed_wasm_pages
        self._end()
        self._is_behind = False
        return False

    def wipe(self) -> None:
        """Become empty inside the open message, with a new heap; a rollback brings all back.

        Raises:
            MessageError: No message is open, or it has accessed something already.
        """
        if self.kind is None or self.bytemap.accessed or self._wiped is not None:
            raise MessageError(
                "stable memory is wiped at the very beginning of a message; begin one first"
            )
        machine = self._new_machine()
        self._wiped, self.machine = self.machine, machine
        self.bytemap.begin(self.bytemap.limits, self.kind)

    def close(self) -> None:
        """Give all memory back; the memory is not used afterwards."""
        self.watchers.clear()
        for machine in (self.machine, self._wiped):
            if machine is not None:
                machine.close()
        self._wiped = None
        if self._overlay is not None:
            self._overlay.close()
        if self.image_file is not None:
            self.image_file.close()

    @property
    def is_behind(self) -> bool:
        """Whether messages have changed what others derive their state from."""
        return self._is_behind

    def keep_heap(self) -> None:
        """Let the heap of the open query outlive it: it stands for an earlier one."""
        self.machine.keep_heap()

    # -- unrecorded views -----------------------------------------------------------------------

    @property
    def wasm_pages(self) -> int:
        """The size in Wasm pages, without counting as a call."""
        return self._wasm_pages if self.kind is None else self.machine.stable_wasm_pages

    def peek(self, offset: int, length: int) -> bytes:
        """Return bytes as they are now; neither recorded nor counted, for observers only.

        Raises:
            OutOfBoundsTrap: The range does not lie inside the memory.
        """
        if offset < 0 or offset + length > self.wasm_pages * WASM_PAGE_BYTES:
            raise OutOfBoundsTrap(OUT_OF_BOUNDS)
        return ctypes.string_at(self.machine.stable_address + offset, length)

    def peek_before(self, offset: int, length: int) -> bytes:
        """Return bytes as they are now, but for OS pages that the message wrote their old ones."""
        content = bytearray(self.peek(offset, length))
        if self._undo_places is None:
            self._undo_places = {os_page: place for place, os_page in enumerate(self.bytemap.dirty)}
        for os_page in os_pages_spanned(offset, length):
            place = self._undo_places.get(os_page)
            if place is None:
                continue
            start = os_page * OS_PAGE_BYTES
            low, high = max(start, offset), min(start + OS_PAGE_BYTES, offset + length)
            undo = self.machine.address_of("undo", (place + 1) * OS_PAGE_BYTES)
            old = ctypes.string_at(undo + place * OS_PAGE_BYTES + low - start, high - low)
            content[low - offset : high - offset] = old
        return bytes(content)

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Let nothing in a block be recorded, marked or limited, and refuse all writes."""
        was_looking, self._is_looking = self._is_looking, True
        try:
            yield
        finally:
            self._is_looking = was_looking

    def catch_up(self) -> None:
        """Let those who derive state from the bytes see what messages have changed.

        Inside of a message they see what it has changed so far.
        """
        if self._is_behind or (self.kind is not None and bool(self.bytemap.dirty)):
            self._tell_watchers()

    # -- accesses -------------------------------------------------------------------------------

    def access_read(self, address: int, length: int, file_offset: int = -1) -> Bytes:
        """Read, mark and log."""
        self._raise_if_trapped()
        if self.kind is not None and not self._is_looking:
            self._access(address, length, is_write=False)
            return self.peek(address, length)
        if not self._is_looking:
            self.check("query")
        return self.peek(address, length) if length else b""

    def access_write(self, address: int, data: Bytes, file_offset: int = -1) -> None:
        """Write, mark and log."""
        self._raise_if_trapped()
        if self.kind is None:
            with self._implicit():
                self.access_write(address, data, file_offset)
            return
        self._refuse_looking()
        self._access(address, len(data), is_write=True)
        self._put(address, data)

    def touch_read(self, address: int, length: int) -> Bytes:
        """Mark, log and read."""
        return self.access_read(address, length)

    def touch_write(self, address: int, data: Bytes) -> None:
        """Mark, log and write."""
        self.access_write(address, data)

    def touch(self, address: int, length: int, *, write: bool) -> None:
        """Mark and log an access without moving bytes; outside of a message do nothing."""
        if self.kind is not None:
            self._raise_if_trapped()
            self._access(address, length, is_write=write)

    def first_read(self, os_page: int) -> None:
        """Mark an OS page as accessed."""
        self._access(os_page << 12, 1 << 12, is_write=False)

    def first_write(self, os_page: int) -> None:
        """Mark an OS page as dirty."""
        self._access(os_page << 12, 1 << 12, is_write=True)

    def load(self, pieces: Iterator[tuple[int, Bytes]], wasm_pages: int) -> bool:
        """Take over a whole image between messages; returns whether there was room.

        Args:
            pieces: What is other than zero, each piece with its address.
            wasm_pages: Size of the image.
        """
        assert self.kind is None
        if not self.machine.set_stable_size(wasm_pages):
            return False
        self._wasm_pages = self._committed_wasm_pages = wasm_pages
        for address, data in pieces:
            self._put(address, data)
        return True

    # -- inside ---------------------------------------------------------------------------------

    def _new_machine(self) -> Instance:
        program = self._make_program(self._reach_bytes)
        limit = self._reach_bytes // WASM_PAGE_BYTES
        return Instance(
            program,
            stable_wasm_pages_max=min(self._wasm_pages_max(), limit),
            limits=self.limits,
        )

    def _finish(self, committed: "_Committed") -> None:
        """Do what is left behind the commit point."""
        self.machine.commit(is_new_heap=self._is_new_heap or committed.is_wiped)
        if self._wiped is not None:
            self._wiped.close()
            self._wiped = None
        self._wasm_pages = self._committed_wasm_pages = committed.wasm_pages
        if self._overlay is not None and committed.is_changed:
            self._overlay.on_commit(
                self.machine,
                os_pages_dirty=committed.os_pages_dirty,
                is_wiped=committed.is_wiped,
            )
        self._is_behind = self._is_behind or committed.is_changed
        self.trap = self._left_behind
        self._end()

    def _unwipe_machine(self) -> None:
        """Have the machine again that `wipe` has put aside."""
        assert self._wiped is not None
        other = self.machine
        self.machine, self._wiped = self._wiped, None
        other.close()

    def _commit_image(self, image_file: ImageFile, after: int, *, is_wiped: bool) -> None:
        before = self._committed_wasm_pages
        change = Change(self.bytemap.dirty, self.backing, before, after, is_wiped)
        try:
            image_file.commit(change)
        except NotCommittedError as error:
            raise self.poison(Trap(str(error))) from error

    @contextmanager
    def _implicit(self) -> Iterator[None]:
        """Outside of a message each call is a message of its own."""
        self._check_unlogged()
        self.begin("update")
        self.bytemap.begin(None, "update")
        try:
            yield
        except BaseException:
            self.rollback()
            raise
        self.commit()

    def _access(self, address: int, length: int, *, is_write: bool) -> None:
        if not (0 <= address <= UINT64_MAX and 0 <= length <= UINT64_MAX):
            raise self.poison(OutOfBoundsTrap(OUT_OF_BOUNDS))
        try:
            self.machine.host_access(address, length, is_write=is_write)
        except Trap as trap:
            raise self.poison(trap) from None

    def _put(self, address: int, data: Bytes) -> None:
        if len(data):
            content = data if isinstance(data, bytes) else bytes(data)
            ctypes.memmove(self.machine.stable_address + address, content, len(content))

    def _refuse_looking(self) -> None:
        if self._is_looking:
            raise MessageError("stable memory is only looked at; writes are the canister's")

    def _end(self) -> None:
        self.kind = self.thread = self._committed = None
        self._is_new_heap = False
        self._undo_places = None
        for watcher in self.watchers:
            watcher.on_end()

    def _tell_watchers(self) -> None:
        self._is_behind = False
        with self.looking():
            for watcher in self.watchers:
                watcher.on_rollback()


class _Committed(NamedTuple):
    """A message behind its commit point."""

    wasm_pages: int
    os_pages_dirty: int
    is_changed: bool
    is_wiped: bool


def open_image_memory(
    make_program: MakeProgram,
    path: Path | str,
    *,
    limits: Limits | None,
    durability: str,
    is_read_only: bool,
) -> WasmMemory:
    """Open an image file as `StableMemory.open` does, for a machine.

    Raises:
        ImageError: It is no image, is open elsewhere, was cut off, or passes the limit.
        SettingsError: ``durability`` is unknown.
    """
    wasm_pages_max = min(
        FAR_BYTES // WASM_PAGE_BYTES,
        WASM_PAGES_MAX if limits is None else limits.stable_memory_wasm_pages_max,
    )
    # Before the file is locked: it may have to be compiled.
    make_program(NEAR_BYTES)
    image_file = open_image(
        path,
        capacity_bytes=wasm_pages_max * WASM_PAGE_BYTES,
        durability=durability,
        is_read_only=is_read_only,
    )
    try:
        check_size(image_file.wasm_pages, wasm_pages_max)
        return WasmMemory(make_program, limits=limits, image_file=image_file)
    except BaseException:
        image_file.close()
        raise


class WasmBacking:
    """The bytes of a `WasmMemory` as they are now; there is no view, because they may move."""

    flat: memoryview | None = None

    def __init__(self, memory: WasmMemory) -> None:
        self._memory = memory

    def read(self, address: int, length: int) -> bytes:
        """Return a copy; beyond the size there are zeros."""
        machine = self._memory.machine
        there = min(max(self._memory.wasm_pages * WASM_PAGE_BYTES - address, 0), length)
        data = ctypes.string_at(machine.stable_address + address, there) if there else b""
        return data if there == length else data + bytes(length - there)

    def write(self, address: int, data: Bytes) -> None:
        """Refuse: bytes are changed by messages."""
        raise AssertionError(address, len(data))

    def discard(self, address: int, length: int) -> None:
        """Refuse, likewise."""
        raise AssertionError(address, length)

    def empty(self) -> "WasmBacking":
        """Return itself: nothing is staged, the undo log remembers."""
        return self

    def close(self) -> None:
        """Hold nothing."""


class OsPages(Sequence[int]):
    """The OS pages of one of the shim's lists, in the order in which they got there."""

    def __init__(self, memory: WasmMemory, what: shim.List, count_index: int) -> None:
        self._memory = memory
        self._what = what
        self._count_index = count_index

    def __len__(self) -> int:
        return self._memory.machine.number(self._count_index)

    @overload
    def __getitem__(self, index: int) -> int: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[int]: ...

    def __getitem__(self, index: int | slice) -> int | Sequence[int]:
        return self._all()[index]

    def __iter__(self) -> Iterator[int]:
        return iter(self._all())

    def _all(self) -> list[int]:
        data = self._memory.machine.noted(self._what, len(self))
        return memoryview(data).cast("q").tolist() if data else []


class WasmBytemap(Bytemap):
    """The marks of the open message, as the shim keeps them."""

    def __init__(self, memory: WasmMemory) -> None:
        super().__init__(0)
        self._memory = memory
        self.accessed = OsPages(memory, shim.ACCESSED, _ACCESSED_COUNT)  # type: ignore[assignment]  # only read
        self.dirty = OsPages(memory, shim.DIRTY, _DIRTY_COUNT)  # type: ignore[assignment]  # only read

    def begin(self, limits: Limits | None, kind: str) -> None:
        """Set the limits of the message that begins."""
        super().begin(limits, kind)
        instructions = shim.INSTRUCTIONS_MAX
        if limits is not None and self.is_enforced:
            instructions = min(instructions, limits.of(kind).instructions_max)
        self._memory.machine.begin_message(instructions, self.accessed_max, self.dirty_max)

    def mark(self, os_page: int) -> int:
        """Return 0, `ACCESSED` or `DIRTY`."""
        return self.states(range(os_page, os_page + 1))[0]

    def states(self, pages: range) -> bytes:
        """Return the marks of consecutive OS pages."""
        machine = self._memory.machine
        end = machine.stable_wasm_pages * (WASM_PAGE_BYTES >> 12)
        there = max(min(pages.stop, end) - pages.start, 0)
        address = machine.address_of("bytemap") + pages.start
        return ctypes.string_at(address, there) + bytes(len(pages) - there)

    def touch(self, pages: range, *, write: bool) -> None:
        """Mark consecutive OS pages."""
        start, length = pages.start << 12, len(pages) << 12
        self._memory.machine.host_access(start, length, is_write=write)

    def clear(self) -> None:
        """Nothing: the shim forgets the marks when a message ends."""

    def close(self) -> None:
        """Nothing to give back."""
