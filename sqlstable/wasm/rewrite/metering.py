"""The code that counts instructions, basic block by basic block.

The counter is a global that others read and change, and a function works on a copy of it in a
local: a processor would wait for a global at each block. Each charge goes to both, so that the
global is always true; after a call, or a helper that charges, the copy is made anew, once for each
basic block.
"""

from typing import Final

from sqlstable.wasm.rewrite.assembly import assemble
from sqlstable.wasm.rewrite.binary import I64
from sqlstable.wasm.rewrite.bytereader import signed

COUNTER_LOCALS: Final = ((1, I64),)
"""What a metered function gets, before any other new local."""


class BlockCharges(dict[int, bytes]):
    """For the weight of a basic block, the code that charges for it; made on demand.

    Args:
        counter: Index of the global.
        local: Index of its copy.
        out_of_instructions: Index of the function to call where nothing is left, or None for a
            charge without a test.

    Examples:
        >>> charges = BlockCharges(counter=0, local=5, out_of_instructions=None)
        >>> charges[3].hex(" ")
        '20 05 42 03 7d 22 05 24 00'
    """

    def __init__(self, *, counter: int, local: int, out_of_instructions: int | None) -> None:
        super().__init__()
        self._get = assemble(f"local.get {local} i64.const 0")[:-1]
        self._take = assemble(f"i64.sub local.tee {local} global.set {counter}")
        self._test = b""
        if out_of_instructions is not None:
            # The call does not come back. Said so, it costs the rest of the function no register.
            self._test = assemble(
                f"local.get {local} i64.const 0 i64.lt_s "
                f"if empty call {out_of_instructions} unreachable end"
            )

    def __missing__(self, weight: int) -> bytes:
        """Make one; a weight of 0 is tested only."""
        charge = self._get + signed(weight) + self._take if weight else b""
        code = self[weight] = charge + self._test
        return code


class FunctionCharges:
    """All that a function needs whose copy of the counter is one certain local.

    Args:
        counter: Index of the global.
        local: Index of its copy.
        out_of_instructions: Index of the function to call where nothing is left.
    """

    def __init__(self, *, counter: int, local: int, out_of_instructions: int) -> None:
        self.copy = assemble(f"global.get {counter} local.set {local}")
        "Makes the copy anew"
        self.plain = BlockCharges(counter=counter, local=local, out_of_instructions=None)
        "For blocks that are entered from before"
        self.tested = BlockCharges(
            counter=counter, local=local, out_of_instructions=out_of_instructions
        )
        "For the start of a function and of each pass of a loop"
