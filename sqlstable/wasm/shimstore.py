"""Stable memory whose bytes lie in a Wasm memory.

To a canister and to whoever observes it, that is a `StableMemory` as any other, over a `ShimStore`.
Bytes, marks, limits, undo log and access log are the shim's (``shim/``); the canister's module
works there without any Python, and what Python itself reads and writes (an import, say) goes by
the same rules.

**Invariants**

* Bytes are changed in place; the undo log brings them back. So what is read inside of a message
  always is what the message sees.
* The heap belongs to the message as well: commit keeps it, rollback brings it back.
* A reinstallation gets a machine of its own; the old one waits until the message has ended.

**Another module** on the same bytes: in a message, `ShimStore.install`. Nothing is copied, and
nothing of the module runs; whoever upgrades calls its entry points then, each in a part of the
message of its own where the Internet Computer has it so. Commit keeps the new module, rollback
brings the old one back: with its heap, globals and tables, and stable memory as it was.

* upgrade: ``begin``, the old module's ``canister_pre_upgrade``, ``install``, the new one's
  ``canister_start`` and ``canister_post_upgrade``, ``commit``
* upgrade that keeps the heap: the same with ``install(..., keeps_heap=True)``
* reinstallation: ``begin``, ``wipe``, ``install``, ``canister_start``, ``canister_init``,
  ``commit``
* the same module anew: ``install`` with the same program
"""

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Final

from sqlstable.errors import MessageError, OutOfBoundsTrap, Trap
from sqlstable.ic.limits import Limits, resolve_limits
from sqlstable.ic.units import NO_LIMIT, OS_PAGE_BYTES, WASM_PAGE_BYTES, os_pages_spanned
from sqlstable.ic.words import ANSWERING_KINDS, DISCARDED_KINDS
from sqlstable.memory.backing import Backing, Bytes, check_size
from sqlstable.memory.bytemap import ACCESSED, DIRTY, Bytemap
from sqlstable.memory.image.durable import PageChange
from sqlstable.memory.image.imagefile import ImageFile, open_image
from sqlstable.memory.seams import OUT_OF_BOUNDS, Counting
from sqlstable.memory.stable import StableMemory, size_max
from sqlstable.wasm import shim
from sqlstable.wasm.instance import Instance
from sqlstable.wasm.overlay import Overlay
from sqlstable.wasm.program import FAR_BYTES, NEAR_BYTES, Program
from sqlstable.wasm.side import NO_REPLY_LIMIT, REPLIES_MAX

MakeProgram = Callable[[int], Program]
"""Returns the program whose memories reserve so many bytes."""

_UINT64_MAX: Final = (1 << 64) - 1
_INT64_MAX: Final = (1 << 63) - 1


class ShimStore:
    """The bytes of a stable memory that a machine works on.

    Args:
        make_program: Gives the program.
        limits: Those of the memory; without any, stable memory ends at 512 GiB.
        image_file: An open image file that keeps the committed bytes.
    """

    def __init__(
        self, make_program: MakeProgram, limits: Limits | None, image_file: ImageFile | None = None
    ) -> None:
        self._limits = limits
        self._reach_bytes = NEAR_BYTES
        if image_file is not None and image_file.wasm_pages * WASM_PAGE_BYTES > NEAR_BYTES // 2:
            self._reach_bytes = FAR_BYTES
        self.backing: Backing = ShimBytes(self._committed)
        self.staging: Backing = ShimBytes(self.read)
        self.machine = self._new_machine(make_program(self._reach_bytes))
        "What works on it now; another one after a reinstallation."
        self._wiped: Instance | None = None
        "The machine before, while a message has wiped it."
        self._overlay = None if image_file is None else Overlay(image_file)
        if self._overlay is not None:
            self._overlay.cover(self.machine)
        self._committed_wasm_pages = self.machine.stable_wasm_pages
        self._bytemap = Bytemap(0)
        self._kind: str | None = None
        "Of the open message."
        self._bounds: tuple[int, int, int] | None = None
        "Limits of the message that began last, on instructions and OS pages."
        self._bounds_kind = ""
        self.heap_bytes_max = NO_LIMIT
        "How large a heap the message that began last may leave behind."
        self._before_part = 0, 0
        "OS pages accessed and dirtied by earlier parts of the message, again ones counted again."
        self._mirrored = 0, 0
        "How many of the shim's lists the bytemap has."
        self._is_new_heap = False
        self._is_behind = False
        self._is_looking = False
        self.is_driven = False
        "Whether others than the canister have used the bytes in the open message."
        self._undo_places: dict[int, int] | None = None
        "Where the old bytes of each dirty OS page are, once somebody asks; until the message ends."

    # -- bytes ----------------------------------------------------------------------------------

    @property
    def wasm_pages(self) -> int:
        """The size in Wasm pages, without counting as a call."""
        if self._kind is None:
            return self._committed_wasm_pages
        return self.machine.tell().stable_size

    def size(self) -> int:
        """Return the size in Wasm pages."""
        if not self._is_looking:
            self.is_driven = True
            self.machine.note_size()
        return self.machine.stable_wasm_pages

    def grow(self, wasm_pages: int, wasm_pages_max: int) -> int:
        """Add zeroed Wasm pages."""
        self._refuse_looking()
        self.is_driven = True
        return self.machine.host_grow(wasm_pages & _UINT64_MAX, wasm_pages_max)

    def access(self, address: int, length: int, *, write: bool) -> None:
        """Check, mark and log, as the shim does for a canister; only check what is looked at."""
        if write:
            self._refuse_looking()
        last = self.wasm_pages * WASM_PAGE_BYTES if self._is_looking else _UINT64_MAX
        if not (0 <= address <= last and 0 <= length <= last):
            raise OutOfBoundsTrap(OUT_OF_BOUNDS)
        if not self._is_looking:
            self.is_driven = True
            self.machine.host_access(address, length, is_write=write)
        elif address + length > last:
            raise OutOfBoundsTrap(OUT_OF_BOUNDS)

    def read(self, address: int, length: int) -> bytes:
        """Return a copy; beyond the size there are zeros."""
        there = min(max(self.wasm_pages * WASM_PAGE_BYTES - address, 0), length)
        data = ctypes.string_at(self.machine.stable_address + address, there) if there else b""
        return data if there == length else data + bytes(length - there)

    def write(self, address: int, data: Bytes) -> None:
        """Write in place."""
        self._refuse_looking()
        self._is_behind = True
        content = data if isinstance(data, bytes) else bytes(data)
        ctypes.memmove(self.machine.stable_address + address, content, len(content))

    def close(self) -> None:
        """Close machines and overlay."""
        for machine in (self.machine, self._wiped):
            if machine is not None:
                machine.close()
        self._wiped = None
        if self._overlay is not None:
            self._overlay.close()

    # -- messages -------------------------------------------------------------------------------

    def begin(self, limits: Limits | None, kind: str, counting: Counting = "on") -> None:
        """Set the limits, of instructions too, which all parts of a message share."""
        bytemap = self._bytemap
        if counting != "on":
            if counting == "anew":
                self._begin_part(limits, kind)
            return
        if self._bounds is None or limits is not bytemap.limits or kind != self._bounds_kind:
            bytemap.begin(limits, kind)
            instructions = shim.INSTRUCTIONS_MAX
            enforced = limits if bytemap.is_enforced else None
            if enforced is not None:
                self.machine.limits = enforced
                instructions = min(instructions, enforced.of(kind).instructions_max)
            self.machine.side.limit_replies(_replies_max(enforced, kind))
            self.heap_bytes_max = _heap_max(enforced, kind)
            self._bounds_kind = kind
            self._bounds = instructions, bytemap.accessed_max, bytemap.dirty_max
        self.machine.begin_message(*self._bounds)
        self._kind = kind

    def prepare(self) -> PageChange:
        """Make room for the heap that is kept, and return what the message has changed."""
        status = self.machine.tell()
        dirty = self._listed(shim.DIRTY, status.dirty_count)
        self.machine.prepare_commit()
        return PageChange(
            dirty,
            self.staging,
            self._committed_wasm_pages,
            status.stable_size,
            self._wiped is not None,
        )

    def commit(self, change: PageChange) -> None:
        """Keep bytes and heap."""
        self.machine.commit(is_new_heap=self._is_new_heap or change.is_wiped)
        if self._wiped is not None:
            self._wiped.close()
            self._wiped = None
        self._committed_wasm_pages = change.wasm_pages_after
        if not change.is_empty:
            self._is_behind = True
            if self._overlay is not None:
                self._overlay.on_commit(
                    self.machine, os_pages_dirty=len(change.dirty), is_wiped=change.is_wiped
                )
        self._end()

    def rollback(self) -> bool:
        """Take back bytes and heap."""
        if self._wiped is not None:
            other = self.machine
            self.machine, self._wiped = self._wiped, None
            other.close()
            is_changed = True
        else:
            try:
                status = self.machine.tell()
                is_changed = bool(status.dirty_count) or (
                    status.stable_size != self._committed_wasm_pages
                )
                self.machine.rollback(is_new_heap=self._is_new_heap)
            except Trap:
                # Nothing may stay of the message, and to take it back again does no harm.
                self.machine.rollback(is_new_heap=self._is_new_heap)
                is_changed = True
        self._end()
        return is_changed

    def begin_again(self) -> None:
        """Take back what the open message did, bytes and heap; it goes on from its beginning."""
        assert self._bounds is not None
        self.machine.rollback(is_new_heap=self._is_new_heap)
        kind = self._kind
        self._end()
        self._kind = kind
        self.machine.begin_message(*self._bounds)

    @property
    def bytemap(self) -> Bytemap:
        """The marks that the shim has now, copied where it has more."""
        bytemap, status = self._bytemap, self.machine.tell()
        counts = status.accessed_count, status.dirty_count
        for what, os_pages, count, known, mark in zip(
            (shim.ACCESSED, shim.DIRTY),
            (bytemap.accessed, bytemap.dirty),
            counts,
            self._mirrored,
            (ACCESSED, DIRTY),
            strict=True,
        ):
            if count != known:
                os_pages[:] = self._listed(what, count)
                bytemap.far_marks.update(dict.fromkeys(os_pages, mark))
        self._mirrored = counts
        return bytemap

    def wipe(self) -> None:
        """Go on with a new machine, which has a new heap."""
        assert self._kind is not None
        machine = self._new_machine(self.machine.program)
        self._wiped, self.machine = self.machine, machine
        self.begin(self._bytemap.limits, self._kind)

    def recover(self) -> None:
        """Let no call of the canister go on, and go by the whole heap."""
        self._is_looking = self._is_behind = False
        self._is_new_heap = True
        self.machine.recover()

    # -- the heap, and those who look -----------------------------------------------------------

    def renew_heap(self) -> None:
        """Take note that the open message makes the heap anew: marks do not tell what changed."""
        self._is_new_heap = True

    def install(self, make_program: MakeProgram, *, keeps_heap: bool = False) -> None:
        """Go on with another module in the open message, on the same bytes; nothing of it runs.

        Args:
            make_program: Gives the new program; the one that runs begins anew.
            keeps_heap: Whether it finds the heap as it is; its globals are new in any case.

        Raises:
            ModuleError: The module cannot be instantiated; the message has to be rolled back.
            Trap: This computer has no memory left; likewise.
            SettingsError: The heap should be kept, and has addresses of another width; likewise.
        """
        assert self._kind is not None
        self._is_new_heap = True
        self.machine.install(make_program(self._reach_bytes), keeps_heap=keeps_heap)

    def keep_heap(self) -> None:
        """Let the heap of the open query outlive it: it stands for an earlier one."""
        self.machine.keep_heap()

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Let nothing in a block be recorded, marked or limited, and refuse all writes."""
        was_looking, self._is_looking = self._is_looking, True
        try:
            yield
        finally:
            self._is_looking = was_looking

    @property
    def is_behind(self) -> bool:
        """Whether others derive their state from bytes that messages have changed since.

        Inside of a message that is what it has changed so far, too.
        """
        return self._is_behind or (self._kind is not None and self.machine.tell().dirty_count > 0)

    def caught_up(self) -> None:
        """Take note that they have looked again."""
        self._is_behind = False

    @property
    def used(self) -> tuple[int, int]:
        """OS pages that the part of the message that runs has accessed, and dirtied."""
        status, (accessed, dirty) = self.machine.tell(), self._before_part
        return status.accessed_count - accessed, status.dirty_count - dirty

    # -- inside ---------------------------------------------------------------------------------

    def _begin_part(self, limits: Limits | None, kind: str) -> None:
        """Clear the marks, and let the limits count from here; lists and undo log go on."""
        machine, bytemap = self.machine, self._bytemap
        marks, status = machine.address_of("bytemap"), machine.tell()
        for os_page in self._listed(shim.ACCESSED, status.accessed_count):
            ctypes.memset(marks + os_page, 0, 1)
        machine.trees.keep()
        machine.side.clear_marks()
        machine.trees.begin()
        # They do not tell any more what the message did to the heap.
        self._is_new_heap = True
        self._before_part = status.accessed_count, status.dirty_count
        bytemap.begin(limits, kind)
        for name, count, count_max in (
            ("accessed_max", status.accessed_count, bytemap.accessed_max),
            ("dirty_max", status.dirty_count, bytemap.dirty_max),
        ):
            machine.set_value(name, min(count + count_max, _INT64_MAX))
        # What is set next belongs to another message.
        self._bounds = None

    def _listed(self, what: shim.List, count: int) -> list[int]:
        """Return a list of OS pages, each once: of several parts each has entered it."""
        os_pages: list[int] = memoryview(self.machine.noted(what, count)).cast("q").tolist()
        return [*dict.fromkeys(os_pages)] if any(self._before_part) else os_pages

    def _new_machine(self, program: Program) -> Instance:
        reach = self._reach_bytes // WASM_PAGE_BYTES
        return Instance(
            program,
            stable_wasm_pages_max=min(size_max(self._limits), reach),
            limits=self._limits,
        )

    def _committed(self, address: int, length: int) -> bytes:
        """Return bytes as they are now, but for OS pages that the message wrote their old ones."""
        end = self._committed_wasm_pages * WASM_PAGE_BYTES
        if self._wiped is not None:
            # It has all that was there; the machine that works now began with nothing.
            there = max(min(end - address, length), 0)
            old = ctypes.string_at(self._wiped.stable_address + address, there) if there else b""
            return old + bytes(length - there)
        content = bytearray(self.read(address, length))
        if self._undo_places is None:
            count = self.machine.tell().dirty_count
            dirty = memoryview(self.machine.noted(shim.DIRTY, count)).cast("q").tolist()
            # The first part that wrote it has kept its old bytes.
            self._undo_places = {dirty[at]: at for at in reversed(range(count))}
        # What the message has grown was not there, and has no old bytes.
        if address + length > end:
            content[max(end - address, 0) :] = bytes(min(address + length - end, length))
        for os_page in os_pages_spanned(address, max(min(length, end - address), 0)):
            place = self._undo_places.get(os_page)
            if place is None:
                continue
            start = os_page * OS_PAGE_BYTES
            low, high = max(start, address), min(start + OS_PAGE_BYTES, address + length)
            undo = self.machine.address_of("undo", (place + 1) * OS_PAGE_BYTES)
            old = ctypes.string_at(undo + place * OS_PAGE_BYTES + low - start, high - low)
            content[low - address : high - address] = old
        return bytes(content)

    def _refuse_looking(self) -> None:
        if self._is_looking:
            raise MessageError("stable memory is only looked at; writes are the canister's")

    def _end(self) -> None:
        self._kind = None
        self._is_new_heap = self.is_driven = False
        self._undo_places = None
        self._before_part = self._mirrored = 0, 0
        self._bytemap.clear()


def _replies_max(limits: Limits | None, kind: str) -> tuple[int, int, int]:
    """Return how large replies may be, as `REPLIES_MAX`; nobody waits for one of other kinds."""
    if limits is None:
        return REPLIES_MAX
    call = limits.reply_max(kind) if kind in ANSWERING_KINDS else NO_REPLY_LIMIT
    return limits.query_reply_bytes_max, limits.reply_bytes_max, call


def _heap_max(limits: Limits | None, kind: str) -> int:
    """Return how large a heap a message may leave behind; a query leaves none."""
    return NO_LIMIT if limits is None or kind in DISCARDED_KINDS else limits.heap_bytes_max


class ShimBytes:
    """Bytes of a `ShimStore` to be read; there is no view, because they may move."""

    flat: memoryview | None = None

    def __init__(self, read: Callable[[int, int], bytes]) -> None:
        self._read = read

    def read(self, address: int, length: int) -> bytes:
        """Return a copy."""
        return self._read(address, length)

    def write(self, address: int, data: Bytes) -> None:
        """Refuse: bytes are changed by messages."""
        raise AssertionError(address, len(data))

    def discard(self, address: int, length: int) -> None:
        """Refuse, likewise."""
        raise AssertionError(address, length)

    def empty(self) -> "ShimBytes":
        """Refuse, likewise."""
        raise AssertionError

    def close(self) -> None:
        """Hold nothing."""


def wasm_memory(
    make_program: MakeProgram, *, limits: Limits | date | str | None = "latest"
) -> StableMemory:
    """Return an empty stable memory that a machine works on.

    Args:
        make_program: Gives the program.
        limits: As for `StableMemory`; without any, stable memory ends at 512 GiB.
    """
    resolved = resolve_limits(limits)
    return StableMemory(limits=resolved, store=ShimStore(make_program, resolved))


def open_image_memory(
    make_program: MakeProgram,
    path: Path | str,
    *,
    limits: Limits | None,
    durability: str,
    is_read_only: bool,
) -> StableMemory:
    """Open an image file as `StableMemory.open` does, for a machine.

    Raises:
        ImageError: It is no image, is open elsewhere, was cut off, or passes the limit.
        SettingsError: ``durability`` is unknown.
    """
    wasm_pages_max = min(FAR_BYTES // WASM_PAGE_BYTES, size_max(limits))
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
        store = ShimStore(make_program, limits, image_file)
        return StableMemory(limits=limits, image=image_file, store=store)
    except BaseException:
        image_file.close()
        raise


def shim_of(memory: StableMemory) -> ShimStore:
    """Return the store of a memory that a machine works on."""
    assert isinstance(memory.store, ShimStore)
    return memory.store


def catch_up(memory: StableMemory) -> None:
    """Let those who derive state from the bytes see what messages have changed."""
    store = shim_of(memory)
    if store.is_behind:
        store.caught_up()
        with store.looking():
            memory.announce()
