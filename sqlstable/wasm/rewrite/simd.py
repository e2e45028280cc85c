"""WebAssembly's vector operators: their names, by the number behind the prefix 0xFD.

All of the finished proposal. The relaxed operators, numbers from 0x100 on, may give different
results on different processors; the Internet Computer refuses them.

Source:
    WebAssembly core specification 2.0, section 5.4.8, vector instructions.
"""

from collections.abc import Iterator
from typing import Final

_INTEGERS: Final = "eq ne lt_s lt_u gt_s gt_u le_s le_u ge_s ge_u"
_FLOATS: Final = "eq ne lt gt le ge"

_GROUPS: Final = (  # first number, prefix of the names, names
    (
        0,
        "v128",
        (
            "load load8x8_s load8x8_u load16x4_s load16x4_u load32x2_s load32x2_u "
            "load8_splat load16_splat load32_splat load64_splat store const"
        ),
    ),
    (13, "i8x16", "shuffle swizzle splat"),
    (16, "i16x8", "splat"),
    (17, "i32x4", "splat"),
    (18, "i64x2", "splat"),
    (19, "f32x4", "splat"),
    (20, "f64x2", "splat"),
    (21, "i8x16", "extract_lane_s extract_lane_u replace_lane"),
    (24, "i16x8", "extract_lane_s extract_lane_u replace_lane"),
    (27, "i32x4", "extract_lane replace_lane"),
    (29, "i64x2", "extract_lane replace_lane"),
    (31, "f32x4", "extract_lane replace_lane"),
    (33, "f64x2", "extract_lane replace_lane"),
    (35, "i8x16", _INTEGERS),
    (45, "i16x8", _INTEGERS),
    (55, "i32x4", _INTEGERS),
    (65, "f32x4", _FLOATS),
    (71, "f64x2", _FLOATS),
    (
        77,
        "v128",
        (
            "not and andnot or xor bitselect any_true load8_lane load16_lane load32_lane "
            "load64_lane store8_lane store16_lane store32_lane store64_lane load32_zero load64_zero"
        ),
    ),
    (94, "f32x4", "demote_f64x2_zero"),
    (95, "f64x2", "promote_low_f32x4"),
    (96, "i8x16", "abs neg popcnt all_true bitmask narrow_i16x8_s narrow_i16x8_u"),
    (103, "f32x4", "ceil floor trunc nearest"),
    (
        107,
        "i8x16",
        "shl shr_s shr_u add add_sat_s add_sat_u sub sub_sat_s sub_sat_u",
    ),
    (116, "f64x2", "ceil floor"),
    (118, "i8x16", "min_s min_u max_s max_u"),
    (122, "f64x2", "trunc"),
    (123, "i8x16", "avgr_u"),
    (124, "i16x8", "extadd_pairwise_i8x16_s extadd_pairwise_i8x16_u"),
    (126, "i32x4", "extadd_pairwise_i16x8_s extadd_pairwise_i16x8_u"),
    (
        128,
        "i16x8",
        (
            "abs neg q15mulr_sat_s all_true bitmask narrow_i32x4_s narrow_i32x4_u "
            "extend_low_i8x16_s extend_high_i8x16_s extend_low_i8x16_u extend_high_i8x16_u "
            "shl shr_s shr_u add add_sat_s add_sat_u sub sub_sat_s sub_sat_u"
        ),
    ),
    (148, "f64x2", "nearest"),
    (149, "i16x8", "mul min_s min_u max_s max_u"),
    (
        155,
        "i16x8",
        "avgr_u extmul_low_i8x16_s extmul_high_i8x16_s extmul_low_i8x16_u extmul_high_i8x16_u",
    ),
    (160, "i32x4", "abs neg"),
    (163, "i32x4", "all_true bitmask"),
    (
        167,
        "i32x4",
        (
            "extend_low_i16x8_s extend_high_i16x8_s extend_low_i16x8_u extend_high_i16x8_u "
            "shl shr_s shr_u add"
        ),
    ),
    (177, "i32x4", "sub"),
    (181, "i32x4", "mul min_s min_u max_s max_u dot_i16x8_s"),
    (
        188,
        "i32x4",
        "extmul_low_i16x8_s extmul_high_i16x8_s extmul_low_i16x8_u extmul_high_i16x8_u",
    ),
    (192, "i64x2", "abs neg"),
    (195, "i64x2", "all_true bitmask"),
    (
        199,
        "i64x2",
        (
            "extend_low_i32x4_s extend_high_i32x4_s extend_low_i32x4_u extend_high_i32x4_u "
            "shl shr_s shr_u add"
        ),
    ),
    (209, "i64x2", "sub"),
    (
        213,
        "i64x2",
        (
            "mul eq ne lt_s gt_s le_s ge_s "
            "extmul_low_i32x4_s extmul_high_i32x4_s extmul_low_i32x4_u extmul_high_i32x4_u"
        ),
    ),
    (224, "f32x4", "abs neg"),
    (227, "f32x4", "sqrt add sub mul div min max pmin pmax"),
    (236, "f64x2", "abs neg"),
    (239, "f64x2", "sqrt add sub mul div min max pmin pmax"),
    (248, "i32x4", "trunc_sat_f32x4_s trunc_sat_f32x4_u"),
    (250, "f32x4", "convert_i32x4_s convert_i32x4_u"),
    (252, "i32x4", "trunc_sat_f64x2_s_zero trunc_sat_f64x2_u_zero"),
    (254, "f64x2", "convert_low_i32x4_s convert_low_i32x4_u"),
)


def _numbered() -> Iterator[tuple[int, str]]:
    for first, prefix, names in _GROUPS:
        for number, name in enumerate(names.split(), first):
            yield number, f"{prefix}.{name}"


SIMD_NAMES: Final[dict[int, str]] = dict(_numbered())
"""Name of each vector operator, by its number."""

assert len(SIMD_NAMES) == 236
assert len(set(SIMD_NAMES.values())) == 236
assert SIMD_NAMES[0x5D] == "v128.load64_zero"
assert SIMD_NAMES[0xF7] == "f64x2.pmax"

RELAXED_FIRST: Final = 0x100
"""Number of the first relaxed operator."""

VECTOR_LOADS: Final = frozenset(
    name for name in SIMD_NAMES.values() if name.startswith("v128.load") and "lane" not in name
)
VECTOR_STORES: Final = frozenset(
    name for name in SIMD_NAMES.values() if name.startswith("v128.store") and "lane" not in name
)
LANE_LOADS: Final = frozenset(
    name for name in SIMD_NAMES.values() if name.startswith("v128.load") and "lane" in name
)
LANE_STORES: Final = frozenset(
    name for name in SIMD_NAMES.values() if name.startswith("v128.store") and "lane" in name
)
