"""What an operator of WebAssembly costs in instructions, as data: by date, with sources.

A replica adds up weights, one for each operator, and calls the sum *instructions*. `REPLICA` is its
table of today; `REPLICA_2023` and `REPLICA_FLAT` are those before it. The rewriter asks for the
weight of an operator by its name; `sqlstable.ic.prices` joins a table with what else costs.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True, slots=True)
class WeightTable:
    """Weights of all operators.

    Examples:
        >>> REPLICA.weight("i32.div_u"), REPLICA.weight("local.get")
        (10, 1)
    """

    name: str
    source: str
    "Repository, path, commit and date"
    default: int
    "Instructions of an operator that is not named"
    weights: Mapping[str, int]
    "Instructions by the name of the operator; bulk operators without what their length costs"
    function_entry: int
    "Instructions that entering a function costs"
    per_unit: int
    "Instructions for each byte, or table entry, that a bulk operator moves"
    weights_64: Mapping[str, int] = field(default_factory=dict)
    "Those that differ in a module whose memory has 64-bit addresses"

    def weight(self, operator: str, *, is_64: bool = False) -> int:
        """Return what an operator costs.

        Args:
            operator: Its name.
            is_64: Whether the memory of the module has 64-bit addresses.
        """
        if is_64 and operator in self.weights_64:
            return self.weights_64[operator]
        return self.weights.get(operator, self.default)

    def total(self, operators: str) -> int:
        """Return what operators cost together, their names apart by spaces."""
        return sum(map(self.weight, operators.split()))

    @property
    def key(self) -> str:
        """What tells these weights from others, whatever the tables are called."""
        named = sorted(self.weights.items()), sorted(self.weights_64.items())
        return repr((self.default, named, self.function_entry, self.per_unit))


def _weights(
    *groups: tuple[int, str | Iterable[str]], base: Mapping[str, int] | None = None
) -> Mapping[str, int]:
    """Return weights by name; later groups win."""
    weights = {} if base is None else dict(base)
    for weight, names in groups:
        weights |= dict.fromkeys(names.split() if isinstance(names, str) else names, weight)
    return MappingProxyType(weights)


def _both(sizes: str, names: str) -> list[str]:
    """Return each name for each of the types, such as ``f32.add`` and ``f64.add``."""
    return [f"{size}.{name}" for size in sizes.split() for name in names.split()]


_MARKERS: Final = "block loop else end"
_FLOAT_COMPUTING: Final = _both("f32 f64", "add sub mul div min max ceil floor trunc nearest sqrt")
_FLOAT_TRUNCATION: Final = _both(
    "i32 i64",
    "trunc_f32_s trunc_f32_u trunc_f64_s trunc_f64_u "
    "trunc_sat_f32_s trunc_sat_f32_u trunc_sat_f64_s trunc_sat_f64_u",
)
_BULK: Final = "memory.copy memory.fill memory.init table.copy table.fill table.init"

_NEW_METERING: Final = _weights(
    (0, _MARKERS),
    (2, "if br br_if br_table global.get global.set"),
    (5, "call table.get table.set ref.is_null"),
    (10, "call_indirect"),
    (3, "return_call"),
    (60, "return_call_indirect"),
    (130, "ref.func"),
    (20, "memory.size"),
    (100, "table.size"),
    (100, _BULK),
    (300, "memory.grow table.grow data.drop elem.drop"),
    (10, _both("i32 i64", "div_s div_u rem_s rem_u")),
    (3, _both("f32 f64", "eq ne lt gt le ge")),
    (20, _FLOAT_TRUNCATION),
    (3, _both("f32 f64", "convert_i32_s convert_i64_s")),
    (16, _both("f32 f64", "convert_i32_u convert_i64_u")),
)

_INTEGER_VECTORS: Final = (
    (2, _both("i8x16 i16x8 i32x4", "lt_u gt_u")),
    (2, "i16x8.extadd_pairwise_i8x16_u"),
    (3, "i32x4.extadd_pairwise_i16x8_u"),
    (3, "i8x16.shuffle i8x16.popcnt i8x16.shl i8x16.shr_s"),
    (2, _both("i16x8 i32x4 i64x2", "shl shr_s shr_u")),
    (2, "i8x16.shr_u i16x8.extmul_high_i8x16_s i16x8.extmul_high_i8x16_u i32x4.mul"),
    (2, _both("i32x4", "extmul_low_i16x8_s extmul_high_i16x8_s")),
    (2, _both("i32x4", "extmul_low_i16x8_u extmul_high_i16x8_u")),
    (3, "i64x2.shr_s"),
    (4, "i64x2.mul"),
)
_FLOAT_VECTORS: Final = (
    (2, _both("f32x4 f64x2", "ceil floor trunc nearest abs neg add sub mul")),
    (5, "f32x4.sqrt"),
    (14, "f64x2.sqrt"),
    (10, "f32x4.div"),
    (12, "f64x2.div"),
    (4, "f32x4.min f32x4.max f64x2.min"),
    (5, "f64x2.max"),
    (2, "i32x4.trunc_sat_f32x4_s i32x4.trunc_sat_f64x2_s_zero"),
    (3, "i32x4.trunc_sat_f64x2_u_zero"),
    (4, "i32x4.trunc_sat_f32x4_u f32x4.convert_i32x4_u"),
)
_VECTOR_ACCESSES: Final = (
    "load load8x8_s load8x8_u load16x4_s load16x4_u load32x2_s load32x2_u load8_splat "
    "load16_splat load32_splat load64_splat load32_zero load64_zero store load8_lane load16_lane "
    "load32_lane load64_lane store8_lane store16_lane store32_lane store64_lane"
)
_ACCESSES_64: Final = _weights(
    (2, _both("i32 i64 f32 f64", "load store")),
    (2, _both("i32 i64", "load8_s load8_u load16_s load16_u store8 store16")),
    (2, "i64.load32_s i64.load32_u i64.store32"),
    (2, _both("v128", _VECTOR_ACCESSES)),
)
"""Loads and stores of a memory with 64-bit addresses."""

REPLICA: Final = WeightTable(
    name="replica",
    source=(
        "dfinity/ic rs/embedders/src/wasm_utils/instrumentation.rs instruction_to_cost "
        "@ 1bc0a5953, 2025-10-31; equal @ 002d5530, and in humandebri/ic @ a96918e6, newer"
    ),
    default=1,
    weights=_weights(
        (1, _both("f32 f64", "abs neg")),
        (2, _both("f32 f64", "add sub mul ceil floor trunc nearest")),
        (3, "f32.div"),
        (5, "f64.div"),
        (18, _both("f32 f64", "min max")),
        (2, "f32.copysign"),
        (3, "f64.copysign"),
        (5, "f32.sqrt"),
        (8, "f64.sqrt"),
        *_INTEGER_VECTORS,
        *_FLOAT_VECTORS,
        base=_NEW_METERING,
    ),
    function_entry=1,
    per_unit=1,
    weights_64=_ACCESSES_64,
)
"""The weights of today."""

REPLICA_2023: Final = WeightTable(
    name="replica-2023",
    source=(
        "dfinity/ic rs/embedders/src/wasm_utils/instrumentation.rs instruction_to_cost_new, in "
        "luc-blaeser/ic @ 0f039356; on application subnets from 2023-10-04, until when is unknown"
    ),
    default=1,
    weights=_weights(
        (20, _FLOAT_COMPUTING),
        (2, _both("f32 f64", "abs neg copysign")),
        base=_NEW_METERING,
    ),
    function_entry=1,
    per_unit=1,
)
"""The first weights that told operators apart: computing with floats cost 20."""

REPLICA_FLAT: Final = WeightTable(
    name="replica-flat",
    source=(
        "dfinity/ic rs/embedders/src/wasm_utils/instrumentation.rs instruction_to_cost, in "
        "luc-blaeser/ic @ 0f039356; before 2023-10-04. That entering a function cost nothing is "
        "not verified"
    ),
    default=1,
    weights=_weights((0, _MARKERS)),
    function_entry=0,
    per_unit=1,
)
"""Every operator costs 1."""
