"""Functions that the rewriter adds to a module, behind the module's own.

They are neither metered nor marked themselves; they meter and mark for the operators they stand
for. Each is written as operators in words, for `sqlstable.wasm.rewrite.assembly`.
"""

from dataclasses import dataclass

from sqlstable.wasm.rewrite.assembly import assemble
from sqlstable.wasm.rewrite.binary import I32, I64, Body, FunctionType
from sqlstable.wasm.rewrite.heap_marks import READ, WRITTEN, mark_range_code
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


def metering_helpers(per_unit: int) -> list[Helper]:
    """Return the end of a message without instructions left, and the charge for a length."""
    return [
        Helper(
            "out_of_instructions",
            FunctionType(b"", b""),
            (),
            f"i32.const {TrapCode.OUT_OF_INSTRUCTIONS.value} global.set trap_code unreachable end",
        ),
        # Gives back the length that it was given, so that it can be put in before an operator.
        Helper(
            "charge",
            _i32s(1, 1),
            (),
            f"""
            global.get counter
            local.get 0 i64.extend_i32_u i64.const {per_unit} i64.mul
            i64.sub global.set counter
            global.get counter i64.const 0 i64.lt_s
            if empty call out_of_instructions unreachable end
            local.get 0 end""",
        ),
    ]


def growing_helper(wasm_pages_max: int) -> Helper:
    """Return ``memory.grow`` for a heap whose logical size a rollback can lower.

    The memory itself grows only where the logical size passes it; between the two it must be kept
    zero by whoever lowers the size.
    """
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


def marking_helpers() -> list[Helper]:
    """Return the marks of ranges."""
    return [
        Helper("mark_read", _i32s(2, 0), ((1, I32),), mark_range_code(READ)),
        Helper("mark_written", _i32s(2, 0), ((1, I32),), mark_range_code(WRITTEN)),
    ]


def bulk_helpers(*, is_metered: bool, has_marks: bool) -> list[Helper]:
    """Return ``memory.copy`` and ``memory.fill``, and what comes before ``memory.init``.

    Each takes target, source (or value) and length. ``before_init`` gives them back, because the
    operator behind it names its own segment.
    """
    charge = "local.get 2 call charge drop" if is_metered else ""
    written = "local.get 0 local.get 2 call mark_written" if has_marks else ""
    read = "local.get 1 local.get 2 call mark_read" if has_marks else ""
    operands = "local.get 0 local.get 1 local.get 2"
    return [
        Helper("copy", _i32s(3, 0), (), f"{charge} {written} {read} {operands} memory.copy end"),
        Helper("fill", _i32s(3, 0), (), f"{charge} {written} {operands} memory.fill end"),
        Helper("before_init", _i32s(3, 3), (), f"{charge} {written} {operands} end"),
    ]
