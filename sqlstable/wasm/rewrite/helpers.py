"""Functions that the rewriter adds to a module, behind the module's own.

They are neither metered nor marked themselves; they meter and mark for the operators they stand
for. Each is written as operators in words, for `sqlstable.wasm.rewrite.assembly`.
"""

from dataclasses import dataclass

from sqlstable.wasm.rewrite.assembly import assemble
from sqlstable.wasm.rewrite.binary import I32, I64, Body, FunctionType
from sqlstable.wasm.rewrite.heap_marks import (
    READ,
    WRITTEN,
    mark_code,
    mark_range_code,
    mark_range_code_64,
)
from sqlstable.wasm.traps import TrapCode


@dataclass(frozen=True, slots=True)
class Helper:
    """One function to be added."""

    name: str
    type: FunctionType
    local_groups: tuple[tuple[int, int], ...]
    text: str
    "Operators in words; other helpers and globals by name"

    def body(self, names: dict[str, int]) -> Body:
        """Return its code, with indexes for the names."""
        code = assemble(self.text, **names)
        return Body(self.local_groups, sum(n for n, _ in self.local_groups), code, 0, len(code))


def _i32s(parameters: int, results: int) -> FunctionType:
    return FunctionType(bytes([I32]) * parameters, bytes([I32]) * results)


def _charge(name: str, kind: int, extended: str, per_unit: int) -> Helper:
    """Return the charge for a length of some type.

    It gives back the length that it was given, so that it can be put in before an operator.
    """
    return Helper(
        name,
        FunctionType(bytes([kind]), bytes([kind])),
        (),
        f"""
        global.get counter
        local.get 0 {extended} i64.const {per_unit} i64.mul
        i64.sub global.set counter
        global.get counter i64.const 0 i64.lt_s
        if empty call out_of_instructions unreachable end
        local.get 0 end""",
    )


def metering_helpers(per_unit: int, *, has_64: bool) -> list[Helper]:
    """Return the end of a message without instructions left, and the charges for lengths.

    Args:
        per_unit: Instructions for each byte or table entry.
        has_64: Whether there are lengths of 64 bits.
    """
    helpers = [
        Helper(
            "out_of_instructions",
            FunctionType(b"", b""),
            (),
            f"i32.const {TrapCode.OUT_OF_INSTRUCTIONS.value} global.set trap_code unreachable end",
        ),
        _charge("charge", I32, "i64.extend_i32_u", per_unit),
    ]
    if has_64:
        helpers.append(_charge("charge_64", I64, "", per_unit))
    return helpers


def growing_helper(wasm_pages_max: int, *, is_64: bool) -> Helper:
    """Return ``memory.grow`` for a heap whose logical size a rollback can lower.

    The memory itself grows only where the logical size passes it; between the two it must be kept
    zero by whoever lowers the size.
    """
    if is_64:
        return _growing_helper_64(wasm_pages_max)
    return Helper(
        "grow",
        _i32s(1, 1),
        ((1, I32), (1, I64)),
        f"""
        global.get heap_size local.tee 1 i64.extend_i32_u
        local.get 0 i64.extend_i32_u i64.add local.tee 2
        i64.const {wasm_pages_max} i64.gt_u if empty i32.const -1 return end
        local.get 2 memory.size i64.extend_i32_u i64.gt_u if empty
            local.get 2 i32.wrap_i64 memory.size i32.sub memory.grow
            i32.const -1 i32.eq if empty i32.const -1 return end
        end
        local.get 2 i32.wrap_i64 global.set heap_size
        local.get 1 end""",
    )


def _growing_helper_64(wasm_pages_max: int) -> Helper:
    return Helper(
        "grow",
        FunctionType(bytes([I64]), bytes([I64])),
        ((2, I64),),
        f"""
        local.get 0 i64.const {wasm_pages_max} i64.gt_u if empty i64.const -1 return end
        global.get heap_size i64.extend_i32_u local.tee 1
        local.get 0 i64.add local.tee 2
        i64.const {wasm_pages_max} i64.gt_u if empty i64.const -1 return end
        local.get 2 memory.size i64.gt_u if empty
            local.get 2 memory.size i64.sub memory.grow
            i64.const -1 i64.eq if empty i64.const -1 return end
        end
        local.get 2 i32.wrap_i64 global.set heap_size
        local.get 1 end""",
    )


def marking_helpers(*, is_64: bool, has_profile: bool = False) -> list[Helper]:
    """Return the marks of ranges.

    Args:
        is_64: Whether addresses have 64 bits.
        has_profile: Whether a mark tells the profile, see `sqlstable.wasm.rewrite.profiling`.
    """
    if is_64:
        kind, code, groups = FunctionType(bytes([I64, I64]), b""), mark_range_code_64, ((2, I32),)
    else:
        kind, code, groups = _i32s(2, 0), mark_range_code, ((1, I32),)
    read, written = code(READ), code(WRITTEN[is_64])
    if has_profile:
        read = read.replace(mark_code(READ), "call profile_read")
        written = written.replace(mark_code(WRITTEN[is_64]), "call profile_written")
    return [
        Helper("mark_read", kind, groups, read),
        Helper("mark_written", kind, groups, written),
    ]


def bulk_helpers(*, is_64: bool, is_metered: bool, has_marks: bool) -> list[Helper]:
    """Return ``memory.copy`` and ``memory.fill``, and what comes before ``memory.init``.

    Each takes target, source (or value) and length. ``before_init`` gives them back, because the
    operator behind it names its own segment; source and length of it are i32 in any memory.
    """
    address = I64 if is_64 else I32
    charge = f"local.get 2 call {'charge_64' if is_64 else 'charge'} drop" if is_metered else ""
    charge_init = "local.get 2 call charge drop" if is_metered else ""
    written = "local.get 0 local.get 2 call mark_written" if has_marks else ""
    read = "local.get 1 local.get 2 call mark_read" if has_marks else ""
    extended = "i64.extend_i32_u" if is_64 else ""
    initial = f"local.get 0 local.get 2 {extended} call mark_written" if has_marks else ""
    operands = "local.get 0 local.get 1 local.get 2"
    init = bytes([address, I32, I32])
    return [
        Helper(
            "copy",
            FunctionType(bytes([address] * 3), b""),
            (),
            f"{charge} {written} {read} {operands} memory.copy end",
        ),
        Helper(
            "fill",
            FunctionType(bytes([address, I32, address]), b""),
            (),
            f"{charge} {written} {operands} memory.fill end",
        ),
        Helper(
            "before_init",
            FunctionType(init, init),
            (),
            f"{charge_init} {initial} {operands} end",
        ),
    ]


def init_helper(segment: int, empty_segment: int, *, is_64: bool) -> Helper:
    """Return ``memory.init`` for a segment that the module can drop.

    Dropping sets a global instead, which can be set back; a segment that was dropped is like one
    without bytes.
    """
    operands = "local.get 0 local.get 1 local.get 2"
    return Helper(
        f"init_{segment}",
        FunctionType(bytes([I64 if is_64 else I32, I32, I32]), b""),
        (),
        f"""
        {operands} call before_init drop drop drop
        global.get dropped_{segment} if empty
            {operands} memory.init {empty_segment} return
        end
        {operands} memory.init {segment} end""",
    )
