"""The code that counts instructions, basic block by basic block.

The counter is a global that others read and change, and a function works on a copy of it in a
local: a processor would wait for a global at each block. Each charge goes to both, so that the
global is always true; after a call, or a helper that charges, the copy is made anew, once for each
basic block.

Beside the counter, which goes by one table of weights, *extras* count what other tables count more
or less than today's, so that one run can be priced by any of them: instructions by a table are
those by today's and its extra. Where a block weighs the same by both there is nothing to count. An
extra is charged with the counter, before anything of the block runs, and tested nowhere.

Most blocks have an extra by the flat table. As a global it would be one number that each block has
to wait for until the block before has stored it. So it is the sum of a global and of several
*cells* behind the marks, which blocks take in turn; the shim adds them up where it tells them. That
memory is at hand in a register where loads and stores are marked. There are no cells without marks,
nor for 64-bit addresses, with which an access that traps may leave its mark in a cell.

At the start of a function and of each pass of a loop a byte of the marks is read, too, where there
are marks: nothing runs for long without that, and a driver ends it by taking the marks away
(`sqlstable.wasm.interrupts`). An epoch of wasmtime would do the same, but its check may call out,
which costs a loop its registers: up to four times the time.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from sqlstable.ic.prices import REPLICA, REPLICA_2023, REPLICA_FLAT, WeightTable
from sqlstable.wasm.rewrite.assembly import assemble
from sqlstable.wasm.rewrite.binary import I64
from sqlstable.wasm.rewrite.bytereader import signed
from sqlstable.wasm.rewrite.heap_marks import EXTRA_CELLS, MARKS_BYTES, MARKS_MEMORY

COUNTER_LOCALS: Final = ((1, I64),)
"""What a metered function gets, before any other new local."""


EXTRAS: Final[Mapping[str, WeightTable]] = MappingProxyType(
    {"extra_2023": REPLICA_2023, "extra_flat": REPLICA_FLAT}
)
"""By the name of each extra, a global: the table whose weights it counts beyond `REPLICA`'s."""

_FIELD_BITS: Final = 32
_FIELD: Final = (1 << _FIELD_BITS) - 1
"""A block's weight has a field for each count, so that weights are added all at once. No function
has so many operators that one overflows: a module's code is limited to some MiB."""


def weight_of(table: WeightTable, operator: str, *, is_64: bool, has_extras: bool) -> int:
    """Return the weight of an operator, with its extras in fields above it.

    Args:
        table: Of the counter.
        operator: Its name.
        is_64: Whether the memory of the module has 64-bit addresses.
        has_extras: Whether there are extras.

    Examples:
        >>> add = weight_of(REPLICA, "f64.add", is_64=False, has_extras=True)
        >>> fields_of(2 * add)
        [4, 36, -2]
    """
    own = table.weight(operator, is_64=is_64)
    if not has_extras:
        return own
    today = REPLICA.weight(operator, is_64=is_64)
    return _joined(own, (it.weight(operator, is_64=is_64) - today for it in EXTRAS.values()))


def entry_weight(table: WeightTable, *, has_extras: bool) -> int:
    """Return what entering a function costs, likewise."""
    if not has_extras:
        return table.function_entry
    extras = (it.function_entry - REPLICA.function_entry for it in EXTRAS.values())
    return _joined(table.function_entry, extras)


def fields_of(weight: int) -> list[int]:
    """Return the weight of a block, and its extras, which may be negative."""
    fields = [weight & _FIELD]
    for _ in EXTRAS:
        weight = (weight - fields[-1]) >> _FIELD_BITS
        low = weight & _FIELD
        fields.append(low - (low >> (_FIELD_BITS - 1) << _FIELD_BITS))
    return fields


def _joined(own: int, extras: Iterable[int]) -> int:
    return own + sum(extra << _FIELD_BITS * at for at, extra in enumerate(extras, 1))


def extra_cell(extra: int, turn: int) -> int:
    """Return the address of a cell in the memory of marks of a heap with 32-bit addresses.

    Args:
        extra: Index of one of `EXTRAS`.
        turn: Which of its cells, from 0 on.

    Examples:
        >>> extra_cell(1, 0) - extra_cell(0, 0)
        64
    """
    return MARKS_BYTES[False] + 8 * (extra * EXTRA_CELLS[False] + turn)


class BlockCharges(dict[tuple[int, int], bytes]):
    """For the weight of a basic block, and its turn, the code that charges for it; made on demand.

    Args:
        counter: Index of the global.
        local: Index of its copy.
        out_of_instructions: Index of the function to call where nothing is left, or None for a
            charge without a test.
        has_marks: Whether a test reads a mark.
        extras: Indexes of the globals that count extras.
        has_cells: Whether cells count them instead.

    Examples:
        >>> charges = BlockCharges(counter=0, local=5, out_of_instructions=None)
        >>> charges[3, 0].hex(" ")
        '20 05 42 03 7d 22 05 24 00'
    """

    def __init__(
        self,
        *,
        counter: int,
        local: int,
        out_of_instructions: int | None,
        has_marks: bool = False,
        extras: tuple[int, ...] = (),
        has_cells: bool = False,
    ) -> None:
        super().__init__()
        self._extras = extras
        self._has_cells = has_cells
        self._get = assemble(f"local.get {local} i64.const 0")[:-1]
        self._take = assemble(f"i64.sub local.tee {local} global.set {counter}")
        self._test = b""
        if out_of_instructions is not None:
            # The call does not come back. Said so, it costs the rest of the function no register.
            self._test = assemble(
                f"local.get {local} i64.const 0 i64.lt_s "
                f"if empty call {out_of_instructions} unreachable end"
            )
        if has_marks:
            # At address 0, as nothing is below zero here: at a constant one it would be left out.
            self._test += assemble(
                f"local.get {local} i64.const 63 i64.shr_u i32.wrap_i64 "
                f"i32.load8_u {MARKS_MEMORY} 0 drop"
            )

    def __missing__(self, block: tuple[int, int]) -> bytes:
        """Make one; a weight of 0 is tested only."""
        weight, turn = block
        own, *extras = fields_of(weight)
        charge = self._get + signed(own) + self._take if own else b""
        for at, (counter, extra) in enumerate(zip(self._extras, extras, strict=False)):
            if not extra:
                continue
            get, put = f"global.get {counter}", f"global.set {counter}"
            if self._has_cells:
                cell = f"{MARKS_MEMORY} {extra_cell(at, turn)}"
                get, put = f"i32.const 0 i32.const 0 i64.load {cell}", f"i64.store {cell}"
            charge += assemble(f"{get} i64.const {extra} i64.add {put}")
        code = self[block] = charge + self._test
        return code


class FunctionCharges:
    """All that a function needs whose copy of the counter is one certain local.

    Args:
        counter: Index of the global.
        local: Index of its copy.
        out_of_instructions: Index of the function to call where nothing is left.
        has_marks: Whether there are marks.
        extras: Indexes of the globals that count extras.
        has_cells: Whether cells count them instead.
    """

    def __init__(
        self,
        *,
        counter: int,
        local: int,
        out_of_instructions: int,
        has_marks: bool,
        extras: tuple[int, ...],
        has_cells: bool,
    ) -> None:
        self.copy = assemble(f"global.get {counter} local.set {local}")
        "Makes the copy anew"
        self.plain = BlockCharges(
            counter=counter,
            local=local,
            out_of_instructions=None,
            extras=extras,
            has_cells=has_cells,
        )
        "For blocks that are entered from before"
        self.tested = BlockCharges(
            counter=counter,
            local=local,
            out_of_instructions=out_of_instructions,
            has_marks=has_marks,
            extras=extras,
            has_cells=has_cells,
        )
        "For the start of a function and of each pass of a loop"
