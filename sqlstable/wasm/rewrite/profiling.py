"""Who used the instructions of a message, and touched its memory first: a tree of calls.

A module that is rewritten with `RewriteOptions.has_profile` says when it enters and leaves each of
its functions, however it leaves it: by its end, by ``return``, a branch or a tail call. What the
counter went down by meanwhile belongs to the function that was on top; so do the regions and OS
pages of the heap that its loads and stores touch first. System calls are on top while they run.
What the counter counts is the same as without.

The tree lies in a memory of the module's own, exported as `PROFILE_EXPORT`: a header, a byte of
flags for each region of the heap, and nodes, each one function called along one path. Whoever
reads it calls `PROFILE_END_EXPORT` first, which gives what came last to whom it belongs: a message
that traps leaves no function. The driver clears header and flags before each message.

**Limitations.** Paths longer than `DEPTH_MAX`, and new ones beyond `NODES_MAX`, belong to where
they begin. A system call through a table belongs to its caller.
"""

from typing import Final

from sqlstable.ic.units import OS_PAGES_PER_WASM_PAGE, WASM_PAGE_BYTES
from sqlstable.wasm.rewrite.assembly import assemble
from sqlstable.wasm.rewrite.binary import I32, I64, FunctionType
from sqlstable.wasm.rewrite.bytereader import signed, unsigned
from sqlstable.wasm.rewrite.heap_marks import MARKS_MEMORY, READ, WRITTEN
from sqlstable.wasm.rewrite.helpers import Helper
from sqlstable.wasm.rewrite.operators import numbers_of

PROFILE_EXPORT: Final = "sqlstable:profile"
PROFILE_END_EXPORT: Final = "sqlstable:profile_end"

PROFILE_MEMORY: Final = 2
"""Index of the memory in a rewritten module, behind the heap and its marks."""

# -- where things are -----------------------------------------------------------------------------

CURRENT: Final = 0
"""The node on top, its address; all numbers are i32 but for those that say otherwise."""

FREE: Final = 4
"""Where the next node goes."""

BEYOND: Final = 8
"""How many functions were entered that have no node."""

HEAP_OS_PAGES_WRITTEN: Final = 12
"""OS pages of the heap that belong to somebody, groups of them where they are charged so."""

COUNTER: Final = 16
"""The counter, i64, when it was looked at last."""

STABLE_ACCESSED: Final = 24
STABLE_WRITTEN: Final = 28
"""Regions of stable memory that belong to somebody."""

HEADER_BYTES: Final = 32

FLAGS: Final = 4096
"""Flags of the heap's regions: 1 accessed, 2 written."""

FLAGS_BYTES: Final = 2 * WASM_PAGE_BYTES
assert WRITTEN[True] == FLAGS_BYTES * OS_PAGES_PER_WASM_PAGE

ROOT: Final = 3 * WASM_PAGE_BYTES
"""The first node: it stands for whoever calls the module, and has nothing itself."""

assert FLAGS + FLAGS_BYTES <= ROOT

FUNCTION: Final = 0
PARENT: Final = 4
FIRST_CHILD: Final = 8
SIBLING: Final = 12
LAST_CHILD: Final = 16
"""The child that was entered last: loops call the same function again and again."""

DEPTH: Final = 20
CALLS: Final = 24
"""i64"""

INSTRUCTIONS: Final = 32
"""i64"""

NODE_HEAP_ACCESSED: Final = 40
NODE_HEAP_WRITTEN: Final = 44
NODE_HEAP_OS_PAGES: Final = 48
NODE_STABLE_ACCESSED: Final = 52
NODE_STABLE_WRITTEN: Final = 56
NODE_BYTES: Final = 64

NODES_MAX: Final = 1 << 20
DEPTH_MAX: Final = 500

PROFILE_WASM_PAGES: Final = (ROOT + NODES_MAX * NODE_BYTES) // WASM_PAGE_BYTES

STABLE_GLOBALS: Final = ("stable_regions_accessed", "stable_regions_dirty")
"""Globals of the shim, i64, that a module with a profile imports."""

# -- functions ------------------------------------------------------------------------------------

_P: Final = PROFILE_MEMORY
_M: Final = MARKS_MEMORY


def _added(address: str, offset: int, amount: str) -> str:
    """Return code that adds to a number of the profile's memory."""
    return f"{address} {address} i32.load {_P} {offset} {amount} i32.add i32.store {_P} {offset} "


_TOP: Final = f"i32.const 0 i32.load {_P} {CURRENT}"

_CHARGE: Final = f"""
    {_TOP} local.tee 0 i32.load {_P} {PARENT} if empty
        local.get 0 local.get 0 i64.load {_P} {INSTRUCTIONS}
        i32.const 0 i64.load {_P} {COUNTER} i64.add global.get counter i64.sub
        i64.store {_P} {INSTRUCTIONS}
    end
    i32.const 0 global.get counter i64.store {_P} {COUNTER}
    end"""
"""What the counter went down by belongs to the node on top, unless it is the root."""

_ENTER: Final = f"""
    i32.const 0 i32.load {_P} {BEYOND} if empty
        {_added("i32.const 0", BEYOND, "i32.const 1")} return
    end
    call profile_charge
    {_TOP} local.tee 1 i32.load {_P} {LAST_CHILD} local.tee 2
    if empty
        local.get 2 i32.load {_P} {FUNCTION} local.get 0 i32.ne if empty
            local.get 1 i32.load {_P} {FIRST_CHILD} local.set 2
            block empty
                loop empty
                    local.get 2 i32.eqz br_if 1
                    local.get 2 i32.load {_P} {FUNCTION} local.get 0 i32.eq br_if 1
                    local.get 2 i32.load {_P} {SIBLING} local.set 2
                    br 0
                end
            end
        end
    end
    local.get 2 i32.eqz if empty
        local.get 1 i32.load {_P} {DEPTH} i32.const {DEPTH_MAX} i32.ge_u
        i32.const 0 i32.load {_P} {FREE} local.tee 2 i32.const {ROOT + NODES_MAX * NODE_BYTES}
        i32.ge_u i32.or if empty
            {_added("i32.const 0", BEYOND, "i32.const 1")} return
        end
        i32.const 0 local.get 2 i32.const {NODE_BYTES} i32.add i32.store {_P} {FREE}
        local.get 2 local.get 0 i32.store {_P} {FUNCTION}
        local.get 2 local.get 1 i32.store {_P} {PARENT}
        local.get 2 i32.const 0 i32.store {_P} {FIRST_CHILD}
        local.get 2 local.get 1 i32.load {_P} {FIRST_CHILD} i32.store {_P} {SIBLING}
        local.get 1 local.get 2 i32.store {_P} {FIRST_CHILD}
        local.get 2 i32.const 0 i32.store {_P} {LAST_CHILD}
        local.get 2 local.get 1 i32.load {_P} {DEPTH} i32.const 1 i32.add i32.store {_P} {DEPTH}
        local.get 2 i64.const 0 i64.store {_P} {CALLS}
        local.get 2 i64.const 0 i64.store {_P} {INSTRUCTIONS}
        local.get 2 i64.const 0 i64.store {_P} {NODE_HEAP_ACCESSED}
        local.get 2 i64.const 0 i64.store {_P} {NODE_HEAP_OS_PAGES}
        local.get 2 i64.const 0 i64.store {_P} {NODE_STABLE_WRITTEN}
    end
    local.get 1 local.get 2 i32.store {_P} {LAST_CHILD}
    local.get 2 local.get 2 i64.load {_P} {CALLS} i64.const 1 i64.add i64.store {_P} {CALLS}
    i32.const 0 local.get 2 i32.store {_P} {CURRENT}
    end"""
"""Finds or makes the node of function 0 below the one on top; locals: that one, the node."""

_LEAVE: Final = f"""
    i32.const 0 i32.load {_P} {BEYOND} if empty
        {_added("i32.const 0", BEYOND, "i32.const -1")} return
    end
    call profile_charge
    i32.const 0 {_TOP} i32.load {_P} {PARENT} i32.store {_P} {CURRENT}
    end"""

_TOUCH: Final = f"""
    local.get 0 i32.load8_u {_P} {FLAGS} local.tee 2 local.get 1 i32.and local.get 1 i32.eq
    if empty return end
    local.get 0 local.get 2 local.get 1 i32.or i32.store8 {_P} {FLAGS}
    {_TOP} local.set 3
    local.get 2 i32.const 1 i32.and i32.eqz if empty
        {_added("local.get 3", NODE_HEAP_ACCESSED, "i32.const 1")}
    end
    local.get 1 i32.const 2 i32.and local.get 2 i32.const 2 i32.and i32.gt_u if empty
        {_added("local.get 3", NODE_HEAP_WRITTEN, "i32.const 1")}
    end
    end"""
"""Region 0 was touched as flags 1 say; locals: its flags so far, the node on top."""

_OWN_OS_PAGE: Final = (
    _added("i32.const 0", HEAP_OS_PAGES_WRITTEN, "i32.const 1")
    + f"{_TOP} local.set 2 "
    + _added("local.get 2", NODE_HEAP_OS_PAGES, "i32.const 1")
)


def _stable(global_name: str, header: int, node: int) -> str:
    """Return code that gives what a global has grown by to node 0."""
    return f"""
    local.get 0 local.get 0 i32.load {_P} {node}
    global.get {global_name} i32.wrap_i64 i32.const 0 i32.load {_P} {header} i32.sub i32.add
    i32.store {_P} {node}
    i32.const 0 global.get {global_name} i32.wrap_i64 i32.store {_P} {header} """


def _written_in(local: int, group: int) -> str:
    """Return code that counts the OS pages, or groups of four, that a word of marks has."""
    if group == 1:
        return f"local.get {local} i64.popcnt"
    return f"""
        local.get {local} local.get {local} i64.const 8 i64.shr_u i64.or
        local.tee 7 local.get 7 i64.const 16 i64.shr_u i64.or
        i64.const {0x1_0000_0001} i64.and i64.popcnt"""


def _sync(*, is_64: bool, group: int) -> str:
    """Return code that gives whatever the shim has touched to the node on top.

    Locals: that node, an OS page, where the heap ends, OS pages written so far, how many of them
    are new, the marks as written of the two halves of a region, and one more.
    """
    size = "memory.size i32.wrap_i64" if is_64 else "memory.size"
    written = WRITTEN[is_64]
    return f"""
    {_TOP} local.set 0
    {_stable(STABLE_GLOBALS[0], STABLE_ACCESSED, NODE_STABLE_ACCESSED)}
    {_stable(STABLE_GLOBALS[1], STABLE_WRITTEN, NODE_STABLE_WRITTEN)}
    {size} i32.const 4 i32.shl local.set 2
    block empty
        loop empty
            local.get 1 local.get 2 i32.ge_u br_if 1
            local.get 1 i64.load {_M} {written} local.set 5
            local.get 1 i64.load {_M} {written + 8} local.set 6
            {_written_in(5, group)} {_written_in(6, group)} i64.add i32.wrap_i64
            local.get 3 i32.add local.set 3
            local.get 5 local.get 6 i64.or local.tee 5
            local.get 1 i64.load {_M} {READ} i64.or
            local.get 1 i64.load {_M} {READ + 8} i64.or i64.eqz i32.eqz if empty
                local.get 1 i32.const 4 i32.shr_u
                local.get 5 i64.eqz if i32 i32.const 1 else i32.const 3 end
                call profile_touch
            end
            local.get 1 i32.const 16 i32.add local.set 1
            br 0
        end
    end
    local.get 3 i32.const 0 i32.load {_P} {HEAP_OS_PAGES_WRITTEN} i32.sub local.set 4
    {_added("local.get 0", NODE_HEAP_OS_PAGES, "local.get 4")}
    i32.const 0 local.get 3 i32.store {_P} {HEAP_OS_PAGES_WRITTEN}
    end"""


def profiling_helpers(*, is_64: bool, group: int) -> list[Helper]:
    """Return the functions that keep the tree.

    Args:
        is_64: Whether addresses of the heap have 64 bits.
        group: How many OS pages of the heap are charged as one when they are written: 1 or 4.
    """
    assert group in (1, 4)
    size = "memory.size i32.wrap_i64" if is_64 else "memory.size"
    written = WRITTEN[is_64]
    read = f"""
        local.get 0 i32.const 1 i32.store8 {_M} {READ}
        local.get 0 i32.const 4 i32.shr_u local.tee 0 i32.load8_u {_P} {FLAGS}
        local.get 0 {size} i32.ge_u i32.or if empty return end
        local.get 0 i32.const 1 call profile_touch end"""
    # What lies beyond the heap traps, and belongs to nobody.
    load = "i32.load8_u" if group == 1 else "i32.const -4 i32.and i32.load"
    write = f"""
        local.get 0 {load} {_M} {written} i32.eqz
        local.get 0 i32.const 4 i32.shr_u local.tee 3 {size} i32.lt_u i32.and if empty
            {_OWN_OS_PAGE}
        end
        local.get 0 i32.const 1 i32.store8 {_M} {written}
        local.get 3 {size} i32.ge_u if empty return end
        local.get 3 i32.load8_u {_P} {FLAGS} i32.const 2 i32.and if empty return end
        local.get 3 i32.const 3 call profile_touch end"""
    return [
        _helper("profile_charge", 0, 1, _CHARGE),
        _helper("profile_enter", 1, 2, _ENTER),
        _helper("profile_leave", 0, 0, _LEAVE),
        _helper("profile_touch", 2, 2, _TOUCH),
        # Of the same type as the operator that leaves a mark, which they stand for.
        _helper("profile_read", 2, 0, read),
        _helper("profile_written", 2, 2, write),
        Helper(
            "profile_sync",
            FunctionType(b"", b""),
            ((5, I32), (3, I64)),
            _sync(is_64=is_64, group=group),
        ),
        _helper("profile_leave_call", 0, 0, "call profile_sync call profile_leave end"),
        _helper("profile_end", 0, 0, "call profile_sync call profile_charge end"),
    ]


def _helper(name: str, parameters: int, locals_: int, text: str) -> Helper:
    kind = FunctionType(bytes([I32]) * parameters, b"")
    return Helper(name, kind, ((locals_, I32),) if locals_ else (), text)


# -- code -----------------------------------------------------------------------------------------

_BLOCK: Final = 0x02
_IF: Final = 0x04
_END: Final = 0x0B
_RETURN: Final = 0x0F
_CALL: Final = 0x10
_TAIL_CALL: Final = 0x12
_TAIL_CALL_INDIRECT: Final = 0x13


class ProfiledCode:
    """Puts into the code of functions that they are entered and left.

    Args:
        names: Indexes of the functions of `profiling_helpers`.
        imported_functions: How many functions the module imports: its system calls.
    """

    def __init__(self, names: dict[str, int], imported_functions: int) -> None:
        self._names = names
        self._imported = imported_functions
        self._leave = self._call("profile_leave")
        self.marks = (self._call("profile_read"), self._call("profile_written"))
        "What stands for the marks of loads and stores."

    def code(
        self, index: int, block_type: bytes, operators: list[bytes], rewritten: list[bytes]
    ) -> bytes:
        """Return a function's code.

        The whole of it becomes a block, behind which the function is left. The block stands where
        branches out of the function lead to; ``return`` becomes one of them.

        Args:
            index: Of the function, in the module.
            block_type: Encoded type of a block without parameters and with its results.
            operators: As they came.
            rewritten: What became of each, which ends with the operator itself; it is changed.
        """
        depth = 0
        for at, operator in enumerate(operators):
            first = operator[0]
            if _BLOCK <= first <= _IF:
                depth += 1
            elif first == _END:
                depth -= 1
            elif _RETURN <= first <= _TAIL_CALL_INDIRECT:
                changed = self._changed(operator, depth)
                if changed is not None:
                    before = rewritten[at].removesuffix(operator)
                    assert len(before) < len(rewritten[at])
                    rewritten[at] = before + changed
        enter = assemble(f"i32.const {index} call {self._names['profile_enter']}")
        code = b"".join(rewritten)
        return enter + bytes([_BLOCK]) + block_type + code + self._leave + bytes([_END])

    def _changed(self, operator: bytes, depth: int) -> bytes | None:
        first = operator[0]
        if first == _RETURN:
            return b"\x0c" + unsigned(depth)
        if first == _TAIL_CALL_INDIRECT:
            return self._leave + operator
        if first in (_CALL, _TAIL_CALL):
            call = self._system_call(operator)
            if first == _CALL:
                return call
            return self._leave + operator if call is None else call + b"\x0c" + unsigned(depth)
        return None

    def _system_call(self, operator: bytes) -> bytes | None:
        """Return a system call with its entering and leaving, or None for another call."""
        (index,) = numbers_of(operator)
        if index >= self._imported:
            return None
        enter = assemble(f"i32.const {index} call {self._names['profile_enter']}")
        called = bytes([_CALL]) + unsigned(index)
        return enter + called + self._call("profile_leave_call")

    def _call(self, name: str) -> bytes:
        return bytes([_CALL]) + unsigned(self._names[name])


def block_type_of(results: bytes, type_index: int) -> bytes:
    r"""Return the encoded type of a block without parameters.

    Args:
        results: Its value types.
        type_index: Of the type that has these results, if they are several.

    Examples:
        >>> block_type_of(b"", 0), block_type_of(b"\x7f", 0), block_type_of(b"xy", 70)
        (b'@', b'\x7f', b'\xc6\x00')
    """
    if not results:
        return b"\x40"
    return results if len(results) == 1 else signed(type_index)
