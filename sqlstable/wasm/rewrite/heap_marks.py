"""Marking the OS pages of the heap that a module reads and writes.

The marks are a memory of their own, `MARKS_BYTES` long: byte ``p`` is 1 once OS page ``p`` was
read, byte ``WRITTEN + p`` once it was written. Two arrays instead of two bits in one byte, because
then a mark is one store, without a load or a branch.

Each load and store is preceded by its mark. A load that is not declared as naturally aligned may
straddle two OS pages, and gets a second mark for its last byte; compilers declare what they know,
so a declaration is believed unless `every_access_may_straddle` is asked for. Bulk operators mark
both sides of what they move; one of length 0 marks nothing.

**Limitations.** An access that traps leaves its mark all the same; of one beyond 4 GiB the mark is
anywhere. The message is rolled back then, and whoever restores from marks restores more than
needed.
"""

from typing import Final

from sqlstable.ic.units import GIB, MIB, OS_PAGE_BYTES, OS_PAGE_SHIFT
from sqlstable.wasm.rewrite.assembly import assemble
from sqlstable.wasm.rewrite.binary import F32, F64, I32, I64
from sqlstable.wasm.rewrite.bytereader import signed
from sqlstable.wasm.rewrite.operators import LOADS, STORES, name_of, numbers_of

READ: Final = 0
"""Where the array of OS pages read begins."""

WRITTEN: Final = 4 * GIB // OS_PAGE_BYTES
"""Where the array of OS pages written begins: one byte for each OS page of 4 GiB."""

MARKS_BYTES: Final = 2 * WRITTEN
assert MARKS_BYTES == 2 * MIB

MARKS_MEMORY: Final = 1
"""Index of the memory of marks in a rewritten module; the heap has index 0."""


SCRATCH_LOCALS: Final = ((1, I32), (1, I32), (1, I64), (1, F32), (1, F64))
"""Locals that a function with marks gets: an address, and a value of each type."""

_U32_END: Final = 1 << 32
_SHIFT: Final = assemble(f"i32.const {OS_PAGE_SHIFT} i32.shr_u i32.const 1")
_STORE_READ: Final = assemble(f"i32.store8 {MARKS_MEMORY} {READ}")
_STORE_WRITTEN: Final = assemble(f"i32.store8 {MARKS_MEMORY} {WRITTEN}")


def access_bytes(name: str) -> int:
    """Return how many bytes a load or store moves.

    Examples:
        >>> access_bytes("i64.load32_u"), access_bytes("f64.store")
        (4, 8)
    """
    assert name in LOADS or name in STORES
    digits = "".join(filter(str.isdigit, name.partition(".")[2]))
    return int(digits or name[1:3]) // 8


ACCESS_BYTES: Final = {name: access_bytes(name) for name in LOADS | STORES}
"""Bytes that each load and store moves."""


class MarkedAccesses(dict[bytes, bytes]):
    """For each load and store, itself with its marks; made on demand.

    Args:
        first_scratch_local: Index of the first of `SCRATCH_LOCALS` in the function.
        every_access_may_straddle: Whether to distrust declared alignments.

    Examples:
        >>> accesses = MarkedAccesses(7, every_access_may_straddle=False)
        >>> accesses[bytes.fromhex("28 02 00")].hex(" ")  # i32.load
        '22 07 41 0c 76 41 01 3a 40 01 00 20 07 28 02 00'
    """

    def __init__(self, first_scratch_local: int, *, every_access_may_straddle: bool) -> None:
        super().__init__()
        self.every_access_may_straddle = every_access_may_straddle
        self._get_address = assemble(f"local.get {first_scratch_local}")
        self._tee_address = assemble(f"local.tee {first_scratch_local}")
        self._value_locals = {
            kind: (assemble(f"local.set {local}"), assemble(f"local.get {local}"))
            for local, kind in enumerate(("i32", "i64", "f32", "f64"), first_scratch_local + 1)
        }

    def __missing__(self, operator: bytes) -> bytes:
        name = name_of(operator)
        alignment_shift, offset = numbers_of(operator)
        length = ACCESS_BYTES[name]
        is_load = name in LOADS
        store = _STORE_READ if is_load else _STORE_WRITTEN
        marks = self._tee_address + _page_of(offset) + store
        if length > 1 and (self.every_access_may_straddle or 1 << alignment_shift < length):
            marks += self._get_address + _page_of(offset + length - 1) + store
        marks += self._get_address
        if is_load:
            marked = marks + operator
        else:
            set_value, get_value = self._value_locals[name[:3]]
            marked = set_value + marks + get_value + operator
        self[operator] = marked
        return marked


def _page_of(offset: int) -> bytes:
    """Return code that turns an address into the OS page of the address plus ``offset``."""
    wrapped = offset if offset < 1 << 31 else offset - _U32_END
    # i32.const, i32.add
    return (b"\x41" + signed(wrapped) + b"\x6a" if offset else b"") + _SHIFT


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
            local.get 0 i32.const 1 i32.store8 {MARKS_MEMORY} {array}
            local.get 0 i32.const 1 i32.add local.tee 0
            local.get 2 i32.le_u br_if 0
        end
        end"""
