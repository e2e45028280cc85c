"""A heap and the shim that stands beside it, in a store, on a stable memory.

An instance has one side for heaps with 32-bit addresses or one for 64-bit ones; both only where a
module was followed by one of the other kind. A message can go on on the other side: what it has
noted so far is then given to it, `take_over`.
"""

import ctypes
from typing import TYPE_CHECKING, Any, Final

from sqlstable.ic.units import MIB, WASM_PAGE_BYTES
from sqlstable.wasm import shim
from sqlstable.wasm.calls import Call, Trampoline
from sqlstable.wasm.environment import Environment
from sqlstable.wasm.interrupts import Guard
from sqlstable.wasm.joining import reserving
from sqlstable.wasm.osmemory import give_back
from sqlstable.wasm.program import Program, wasmtime_module
from sqlstable.wasm.rewrite.metering import EXTRAS
from sqlstable.wasm.rewrite.rewriter import SHIM_MODULE

if TYPE_CHECKING:
    from wasmtime import Memory, Store

_OF_MESSAGE: Final = (
    *("counter", "instruction_limit", "accessed_max", "dirty_max", "page_charges"),
    *("log_remaining", "trap_at", "stable_size_now", "stable_size_kept"),
    *("accessed_count", "dirty_count", "log_count", "border_count"),
    *("stable_regions_accessed", "stable_regions_dirty"),
    *("charged_os_pages_dirty", "charged_regions_accessed", "charged_regions_dirty"),
    *("reply_max_of_query", "reply_max_of_other", "reply_max_of_any"),
    *EXTRAS,
)
"""Globals of the shim that belong to a message, whichever heap it has."""


NO_REPLY_LIMIT: Final = -1
"""Replies as large as you like."""

REPLIES_MAX: Final = (3 * MIB, 2 * MIB, NO_REPLY_LIMIT)
"""Bytes of a reply at most, where nobody says otherwise: of an execution in the context of a query
that is not replicated, of one in any other, and of all in no context that a message has."""

_REPLIES: Final = ("reply_max_of_query", "reply_max_of_other", "reply_max_of_any")
"""Globals of the shim."""

_LOG_BYTES: Final = 8 * len(shim.LOG.columns)

_KEPT_BYTES: Final = 64 * MIB
"""Of a list; where a message has filled more, that is not kept for the next one."""


class Side:
    """One heap, and its shim.

    Args:
        store: Where both live.
        trampoline: Of the store.
        stable: The stable memory that the shim works on.
        program: Says which kind of heap, and how large it is.
    """

    def __init__(
        self, store: "Store", trampoline: Trampoline, stable: "Memory", program: Program
    ) -> None:
        wasmtime = wasmtime_module()
        self.is_64 = is_64 = program.layout.is_64
        self._store = store
        with reserving():
            self.heap: Memory = wasmtime.Memory(
                store,
                wasmtime.MemoryType(
                    wasmtime.Limits(
                        program.layout.heap_wasm_pages, shim.HEAP_WASM_PAGES_MAX[is_64]
                    ),
                    is_64=is_64,
                ),
            )
            linker = wasmtime.Linker(program.engine)
            linker.define(store, SHIM_MODULE, "heap", self.heap)
            linker.define(store, SHIM_MODULE, "stable", stable)
            instance = linker.instantiate(store, program.shim)
        self.exports: Any = instance.exports(store)
        self.calls: dict[str, Call] = {
            name: trampoline.call_of(self.exports[name], count)
            for name, count in shim.DRIVER_CALLS.items()
        }
        self.heap_address = self.address(self.heap)
        names = {
            *("argument", "reply", "debug", "text", "status", "environment", "outcome"),
            *("heap_marks", "bytemap", "undo", "statements"),
            *(item.memory for item in shim.LISTS),
        }
        self.addresses = {name: self.address(self.exports[name]) for name in names}
        "Where each of the shim's memories begins in this process."
        self.replies_max = REPLIES_MAX
        self.environment: Environment | None = None
        "What lies in the shim's memory for the code to find; None as long as nobody wrote it."
        self.marks_bytes = 2 * shim.WRITTEN[is_64]
        "Both arrays of the heap's marks together."
        self.guard = Guard(self.addresses["heap_marks"], self.marks_bytes)
        "Ends what runs."

    def address(self, memory: "Memory") -> int:
        """Return where a memory begins in this process, now."""
        return ctypes.addressof(memory.data_ptr(self._store).contents)

    def set_value(self, name: str, value: int) -> None:
        """Set one of the shim's globals."""
        self.exports[name].set_value(self._store, value)

    def limit_replies(self, wanted: tuple[int, int, int]) -> None:
        """Say how many bytes a reply may have, as `REPLIES_MAX` does."""
        if self.replies_max != wanted:
            self.replies_max = wanted
            for name, value in zip(_REPLIES, wanted, strict=True):
                self.set_value(name, value)

    def value(self, name: str) -> int:
        """Return one of the shim's globals."""
        return int(self.exports[name].value(self._store))

    def shrink(self, told: shim.ShimStatus | None) -> None:
        """Give back what the lists of a message took that has ended, where that was much.

        Args:
            told: What the shim told before; None where it was not asked.
        """
        if told is None:
            return
        for name, size in (("log", told.log_count * _LOG_BYTES), ("undo", told.dirty_count << 12)):
            if size > _KEPT_BYTES:
                give_back(self.addresses[name], size)

    def heap_bytes(self) -> bytes:
        """Return the heap as it is now."""
        size = self.value("heap_size") * WASM_PAGE_BYTES
        # ctypes.string_at ends at 2 GiB.
        return bytes((ctypes.c_char * size).from_address(self.heap_address))

    def clear_marks(self) -> None:
        """Let what was touched in the heap so far be touched anew."""
        ctypes.memset(self.addresses["heap_marks"], 0, self.marks_bytes)

    def marks(self) -> list[tuple[int, bytes]]:
        """Return the heap's marks, by where they lie."""
        size = self.heap.size(self._store) << 4
        start = self.addresses["heap_marks"]
        written = start + shim.WRITTEN[self.is_64]
        return [(at, ctypes.string_at(at, size)) for at in (start, written)]

    def take_over(self, other: "Side") -> None:
        """Go on with the message of another side: all but its heap, and what its calls hold.

        Raises:
            MemoryError: There is no room for it.
        """
        other.calls["settle"]()
        pages = other.value("stable_size_now")
        if not self.calls["set_stable_size"](pages):
            raise MemoryError
        for name in _OF_MESSAGE:
            self.set_value(name, other.value(name))
        counts = {item.memory: (item.count, 8 * len(item.columns)) for item in shim.LISTS}
        sizes = {name: other.value(count) * width for name, (count, width) in counts.items()}
        sizes["undo"] = other.value("dirty_count") << 12
        sizes["bytemap"] = pages << 4
        for name, size in sizes.items():
            self._copy(name, other, size)

    def _copy(self, name: str, other: "Side", size: int) -> None:
        """Copy what one of the other side's memories holds, as far as it goes."""
        theirs, ours = other.exports[name], self.exports[name]
        size = min(size, theirs.size(self._store) << 16)
        missing = ((size + 0xFFFF) >> 16) - ours.size(self._store)
        if missing > 0:
            ours.grow(self._store, missing)
        if size:
            self.addresses[name] = self.address(ours)
            ctypes.memmove(self.addresses[name], other.address(theirs), size)
