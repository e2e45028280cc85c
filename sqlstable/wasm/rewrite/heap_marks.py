"""Marking the OS pages of the heap that a module reads and writes.

The marks are a memory of their own: byte ``p`` is 1 once OS page ``p`` was read, byte
``WRITTEN + p`` once it was written, where `WRITTEN` depends on the size that addresses have. It is
two arrays instead of two bits in one byte, because then a mark is one store, without a load or a
branch.

Each load and store is preceded by its mark. A load that is not declared as naturally aligned may
straddle two OS pages, and gets a second mark for its last byte; compilers declare what they know,
so a declaration is believed unless `every_access_may_straddle` is asked for. Bulk operators mark
both sides of what they move; one of length 0 marks nothing.

**Limitations.** An access that traps leaves its mark all the same; of one beyond the largest heap
the mark is anywhere, or making it is what traps. The message is rolled back then, and whoever
restores from marks restores more than needed.
"""

import math
import re
from typing import Final

from sqlstable.ic.units import MIB, OS_PAGE_SHIFT, OS_PAGES_PER_WASM_PAGE, WASM_PAGE_BYTES
from sqlstable.wasm.rewrite.assembly import assemble
from sqlstable.wasm.rewrite.binary import (
    F32,
    F64,
    I32,
    I64,
    V128,
    VALUE_TYPES,
    WASM64_PAGES_MAX,
    WASM_PAGES_MAX,
)
from sqlstable.wasm.rewrite.bytereader import signed
from sqlstable.wasm.rewrite.operators import LOADS, STORES, name_of, numbers_of
from sqlstable.wasm.rewrite.simd import LANE_LOADS

READ: Final = 0
"""Where the array of OS pages read begins."""

WRITTEN: Final = {False: 1 * MIB, True: 2 * MIB}
"""Where the array of OS pages written begins, by whether addresses have 64 bits."""

assert WRITTEN[False] == WASM_PAGES_MAX * OS_PAGES_PER_WASM_PAGE
assert WRITTEN[True] >= WASM64_PAGES_MAX * OS_PAGES_PER_WASM_PAGE

MARKS_BYTES: Final = {is_64: 2 * written for is_64, written in WRITTEN.items()}
"""Size of both arrays, likewise."""

EXTRA_CELLS: Final = {False: 8, True: 0}
"""How many numbers of eight bytes each extra has behind the marks, likewise.

See `sqlstable.wasm.rewrite.metering`. None where an access beyond the heap may mark anything.
"""

MARKS_WASM_PAGES: Final = {
    is_64: size // WASM_PAGE_BYTES + 1 for is_64, size in MARKS_BYTES.items()
}
"""Size of the memory of marks, with a Wasm page for such numbers."""

MARKS_MEMORY: Final = 1
"""Index of the memory of marks in a rewritten module; the heap has index 0."""

VALUE_LOCALS: Final = ((1, I32), (1, I64), (1, F32), (1, F64), (1, V128))
"""Locals that a function with marks gets behind one for an address: a value of each type.

The last one is left out where no vector is stored.
"""

_SHIFT: Final = {
    False: assemble(f"i32.const {OS_PAGE_SHIFT} i32.shr_u i32.const 1"),
    True: assemble(f"i64.const {OS_PAGE_SHIFT} i64.shr_u i32.wrap_i64 i32.const 1"),
}


def scratch_locals(*, is_64: bool, has_vectors: bool) -> tuple[tuple[int, int], ...]:
    """Return the locals that a function with marks gets: an address, and a value of each type."""
    values = VALUE_LOCALS if has_vectors else VALUE_LOCALS[:-1]
    return ((1, I64 if is_64 else I32), *values)


def access_bytes(name: str) -> int:
    """Return how many bytes a load or store moves.

    Examples:
        >>> access_bytes("i64.load32_u"), access_bytes("f64.store")
        (4, 8)
        >>> access_bytes("v128.load16x4_s"), access_bytes("v128.store64_lane")
        (8, 8)
    """
    assert name in LOADS or name in STORES
    kind, _, access = name.partition(".")
    numbers = [int(digits) for digits in re.findall("[0-9]+", access)]
    return math.prod(numbers or [int(kind[1:])]) // 8


ACCESS_BYTES: Final = {name: access_bytes(name) for name in LOADS | STORES}
"""Bytes that each load and store moves."""


def value_type_of(name: str) -> str:
    """Return the type of what lies above the address on the stack, or nothing for most loads."""
    if name in STORES or name in LANE_LOADS:
        return name.partition(".")[0]
    return ""


class MarkedAccesses(dict[bytes, bytes]):
    """For each load and store, itself with its marks; made on demand.

    Args:
        first_scratch_local: Index of the first of `scratch_locals` in the function.
        is_64: Whether addresses have 64 bits.
        every_access_may_straddle: Whether to distrust declared alignments.
        marks: Code that leaves a mark of a read and of a write, if not a plain store: it takes an
            OS page and a 1.

    Examples:
        >>> accesses = MarkedAccesses(7, is_64=False, every_access_may_straddle=False)
        >>> accesses[bytes.fromhex("28 02 00")].hex(" ")  # i32.load
        '22 07 41 0c 76 41 01 3a 40 01 00 20 07 28 02 00'
    """

    def __init__(
        self,
        first_scratch_local: int,
        *,
        is_64: bool,
        every_access_may_straddle: bool,
        marks: tuple[bytes, bytes] | None = None,
    ) -> None:
        super().__init__()
        self.is_64 = is_64
        self.every_access_may_straddle = every_access_may_straddle
        self._get_address = assemble(f"local.get {first_scratch_local}")
        self._tee_address = assemble(f"local.tee {first_scratch_local}")
        self._store_read, self._store_written = marks or (
            assemble(f"i32.store8 {MARKS_MEMORY} {READ}"),
            assemble(f"i32.store8 {MARKS_MEMORY} {WRITTEN[is_64]}"),
        )
        self._value_locals = {
            VALUE_TYPES[kind]: (assemble(f"local.set {local}"), assemble(f"local.get {local}"))
            for local, (_, kind) in enumerate(VALUE_LOCALS, first_scratch_local + 1)
        }

    def __missing__(self, operator: bytes) -> bytes:
        name = name_of(operator)
        alignment_shift, offset = numbers_of(operator)[:2]
        length = ACCESS_BYTES[name]
        store = self._store_read if name in LOADS else self._store_written
        marks = self._tee_address + _page_of(offset, is_64=self.is_64) + store
        if length > 1 and (self.every_access_may_straddle or 1 << alignment_shift < length):
            last = offset + length - 1
            marks += self._get_address + _page_of(last, is_64=self.is_64) + store
        marks += self._get_address
        kind = value_type_of(name)
        if kind:
            set_value, get_value = self._value_locals[kind]
            marked = set_value + marks + get_value + operator
        else:
            marked = marks + operator
        self[operator] = marked
        return marked


def _page_of(offset: int, *, is_64: bool) -> bytes:
    """Return code that turns an address into the OS page of the address plus ``offset``."""
    if not offset:
        return _SHIFT[is_64]
    # i64.const, i64.add; or the same of i32.
    const, add, end = (b"\x42", b"\x7c", 1 << 64) if is_64 else (b"\x41", b"\x6a", 1 << 32)
    offset &= end - 1
    wrapped = offset if offset < end >> 1 else offset - end
    return const + signed(wrapped) + add + _SHIFT[is_64]


def mark_code(array: int) -> str:
    """Return the store that leaves a mark."""
    return f"i32.store8 {MARKS_MEMORY} {array}"


def mark_range_code(array: int) -> str:
    """Return the code of a function that marks ``n`` bytes from an address on.

    Its parameters are the address and ``n``; local 2 is the last OS page.
    """
    return f"""
        local.get 1 i32.eqz if empty return end
        local.get 0 local.get 1 i32.add i32.const 1 i32.sub
        i32.const {OS_PAGE_SHIFT} i32.shr_u local.set 2
        local.get 0 i32.const {OS_PAGE_SHIFT} i32.shr_u local.set 0
        loop empty
            local.get 0 i32.const 1 {mark_code(array)}
            local.get 0 i32.const 1 i32.add local.tee 0
            local.get 2 i32.le_u br_if 0
        end
        end"""


def mark_range_code_64(array: int) -> str:
    """Return the same for addresses of 64 bits; locals 2 and 3 are i32.

    A range that does not lie in the heap is left alone: what it is marked for traps.
    """
    return f"""
        local.get 1 i64.eqz if empty return end
        local.get 1 memory.size i64.const {16} i64.shl i64.gt_u if empty return end
        local.get 0 memory.size i64.const {16} i64.shl local.get 1 i64.sub i64.gt_u
        if empty return end
        local.get 0 local.get 1 i64.add i64.const 1 i64.sub
        i64.const {OS_PAGE_SHIFT} i64.shr_u i32.wrap_i64 local.set 2
        local.get 0 i64.const {OS_PAGE_SHIFT} i64.shr_u i32.wrap_i64 local.set 3
        loop empty
            local.get 3 i32.const 1 {mark_code(array)}
            local.get 3 i32.const 1 i32.add local.tee 3
            local.get 2 i32.le_u br_if 0
        end
        end"""
