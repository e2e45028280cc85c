"""The module that runs in an instance, and the one that was there when the last message ended.

A module is joined to the heap and the shim of a `Side`. Another module takes the same side, or,
where its addresses are of another width, a side of its own, on the same stable memory. wasmtime
frees none of them before their store, so that what was once made for a module is used again when
the same module begins anew.
"""

import ctypes
from typing import TYPE_CHECKING, Any

from sqlstable.errors import SettingsError, Trap
from sqlstable.ic.units import WASM_PAGE_BYTES
from sqlstable.wasm import shim
from sqlstable.wasm.calls import Trampoline
from sqlstable.wasm.joined import Joined
from sqlstable.wasm.joining import shim_values
from sqlstable.wasm.program import Program, wasmtime_module
from sqlstable.wasm.side import Side

if TYPE_CHECKING:
    from wasmtime import Memory, Store

NO_MEMORY = "this computer has no memory left for the heap"


class Modules:
    """What runs on one stable memory.

    Args:
        store: Where all of it lives.
        trampoline: Of the store.
        stable: The stable memory.
        stable_wasm_pages_max: How large it may become.
        program: What is there first.
    """

    def __init__(
        self,
        store: "Store",
        trampoline: Trampoline,
        stable: "Memory",
        stable_wasm_pages_max: int,
        program: Program,
    ) -> None:
        self._store = store
        self._trampoline = trampoline
        self._stable = stable
        self._stable_wasm_pages_max = stable_wasm_pages_max
        self._sides: dict[bool, Side] = {}
        self._told: dict[tuple[bool, str], int] = {}
        "What the shim of each side was told of the program."
        self._is_changed = False
        "Whether the open message has installed another module, or tried to."
        self.side = self._side_for(program)
        self._set_costs(program)
        self.side.set_value("heap_size", program.layout.heap_wasm_pages)
        self.joined = self._kept = self._join(program)
        "The module that runs, and the one that a rollback goes back to."
        self._note_new_heap()
        self.side.calls["keep_heap"](shim.WHOLE)
        self._kept_state: Any = self.joined.new_state

    def renew(self, data: bytes | None = None) -> None:
        """Make the heap what a new instance's is, or other bytes; globals are a new instance's.

        Raises:
            Trap: This computer has no memory left.
        """
        joined, side = self.joined, self.side
        data = joined.new_heap if data is None else data
        if data is None:
            self._install_anew(joined.program)
            return
        self._clear_heap(joined.program, len(data))
        ctypes.memmove(side.heap_address, data, len(data))
        joined.set_state(joined.new_state)

    def install(self, program: Program, *, keeps_heap: bool) -> None:
        """Go on with another module; see `sqlstable.wasm.instance.Instance.install`."""
        if program is self.joined.program and not keeps_heap:
            self.renew()
            return
        self._is_changed = True
        if program.layout.is_64 != self.side.is_64:
            self._change_side(program, keeps_heap=keeps_heap)
        if keeps_heap:
            self._install_on_kept(program)
        else:
            self._install_anew(program)

    def keep(self) -> None:
        """Let a rollback go back to the module as it is now."""
        self._kept_state = self.joined.state()

    def commit(self) -> None:
        """Keep the module as it is, behind the shim's commit; again does no harm."""
        if self._is_changed:
            kept = self._kept.side
            if kept is not self.side:
                kept.calls["commit"](shim.KEEP_NOTHING)
                kept.calls["reset_heap"](0)
            self._kept, self._is_changed = self.joined, False
        self._kept_state = self.joined.state()

    def rollback(self) -> None:
        """Go back to the module as it was kept, behind the shim's rollback; again does no harm."""
        if self._is_changed:
            if self._kept.side is not self.side:
                self.side = self._kept.side
                # What the message did before it changed sides is noted here, too.
                self.side.calls["rollback"](shim.WHOLE)
            self.joined, self._is_changed = self._kept, False
            self._set_costs(self.joined.program)
        self.joined.set_state(self._kept_state)

    # -- inside ---------------------------------------------------------------------------------

    def _install_anew(self, program: Program) -> None:
        self._is_changed = True
        self._clear_heap(program, 0)
        self._set_costs(program)
        self.joined = self._join(program)
        self._note_new_heap()

    def _install_on_kept(self, program: Program) -> None:
        self._grow_heap(program)
        self._set_costs(program)
        # Active segments are written as the module is instantiated; here they have to go again.
        heap = self.side.heap_bytes() if program.layout.has_active_data else b""
        self.joined = self._join(program)
        ctypes.memmove(self.side.heap_address, heap, len(heap))

    def _join(self, program: Program) -> Joined:
        return Joined(self._store, self._trampoline, program, self.side)

    def _side_for(self, program: Program) -> Side:
        is_64 = program.layout.is_64
        side = self._sides.get(is_64)
        if side is None:
            side = Side(self._store, self._trampoline, self._stable, program)
            self._sides[is_64] = side
        return side

    def _set_costs(self, program: Program) -> None:
        for name, value in shim_values(program, self._stable_wasm_pages_max).items():
            if self._told.get((self.side.is_64, name)) != value:
                self.side.set_value(name, value)
                self._told[self.side.is_64, name] = value

    def _note_new_heap(self) -> None:
        self.joined.new_heap = self.side.heap_bytes().rstrip(b"\0")

    def _clear_heap(self, program: Program, size: int) -> None:
        """Fill the heap with zeros; it has at least what a program begins with, and ``size``."""
        wasm_pages = max(program.layout.heap_wasm_pages, -(-size // WASM_PAGE_BYTES))
        if not self.side.calls["reset_heap"](wasm_pages):
            raise Trap(NO_MEMORY)

    def _grow_heap(self, program: Program) -> None:
        """Let the heap have at least what a program begins with."""
        side, wasm_pages = self.side, program.layout.heap_wasm_pages
        if wasm_pages > side.value("heap_size"):
            missing = wasm_pages - side.heap.size(self._store)
            if missing > 0:
                side.heap.grow(self._store, missing)
            side.set_value("heap_size", wasm_pages)

    def _change_side(self, program: Program, *, keeps_heap: bool) -> None:
        """Go on with the open message on a heap whose addresses have the other width."""
        old, new = self.side, self._side_for(program)
        if keeps_heap:
            raise SettingsError(
                "the heap cannot be kept: its addresses have "
                f"{64 if old.is_64 else 32} bits, and those of the new module "
                f"{64 if new.is_64 else 32}; upgrade without keeping it"
            )
        try:
            new.take_over(old)
        except (MemoryError, wasmtime_module().Trap):
            raise Trap(NO_MEMORY) from None
        self.side = new
