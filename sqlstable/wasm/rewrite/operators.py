"""WebAssembly's operators: their names, their encodings, and cutting code into them.

Supported is what the Internet Computer takes: WebAssembly 2.0 (with vectors, bulk memory, reference
types, several results), tail calls, and memories and tables with 64-bit addresses. Whatever else
begins an operator (threads, exceptions, garbage collection, relaxed vectors) is refused by name.

Code is cut by one regular expression, because a loop over single bytes in Python takes ten times as
long. Read by hand are only ``br_table``, whose length stands in its own first number, and what is
written longer than need be: such operators come out in their shortest form.

**Limitations.** Types are not checked; wasmtime does that, for the module as it came.

Source:
    WebAssembly core specification 2.0, section 5.4, binary format of instructions.
"""

import re
from typing import Final

from sqlstable.errors import ModuleError
from sqlstable.wasm.rewrite.bytereader import Reader, signed, unsigned
from sqlstable.wasm.rewrite.simd import (
    LANE_LOADS,
    LANE_STORES,
    RELAXED_FIRST,
    SIMD_NAMES,
    VECTOR_LOADS,
    VECTOR_STORES,
)


def _words(text: str) -> list[str]:
    return text.split()


_CONTROL: Final = {
    0x00: "unreachable",
    0x01: "nop",
    0x02: "block",
    0x03: "loop",
    0x04: "if",
    0x05: "else",
    0x0B: "end",
    0x0C: "br",
    0x0D: "br_if",
    0x0E: "br_table",
    0x0F: "return",
    0x10: "call",
    0x11: "call_indirect",
    0x12: "return_call",
    0x13: "return_call_indirect",
    0x1A: "drop",
    0x1B: "select",
    0x1C: "select t",
    0x20: "local.get",
    0x21: "local.set",
    0x22: "local.tee",
    0x23: "global.get",
    0x24: "global.set",
    0x25: "table.get",
    0x26: "table.set",
    0x3F: "memory.size",
    0x40: "memory.grow",
    0x41: "i32.const",
    0x42: "i64.const",
    0x43: "f32.const",
    0x44: "f64.const",
    0xD0: "ref.null",
    0xD1: "ref.is_null",
    0xD2: "ref.func",
}

_MEMORY: Final = _words(  # from 0x28 on
    "i32.load i64.load f32.load f64.load "
    "i32.load8_s i32.load8_u i32.load16_s i32.load16_u "
    "i64.load8_s i64.load8_u i64.load16_s i64.load16_u i64.load32_s i64.load32_u "
    "i32.store i64.store f32.store f64.store "
    "i32.store8 i32.store16 i64.store8 i64.store16 i64.store32"
)

_COMPARED: Final = _words("eq ne lt_s lt_u gt_s gt_u le_s le_u ge_s ge_u")
_COMPUTED: Final = _words(
    "clz ctz popcnt add sub mul div_s div_u rem_s rem_u and or xor shl shr_s shr_u rotl rotr"
)
_FLOATED: Final = _words("abs neg ceil floor trunc nearest sqrt add sub mul div min max copysign")

_NUMERIC: Final = [  # from 0x45 on
    "i32.eqz",
    *(f"i32.{name}" for name in _COMPARED),
    "i64.eqz",
    *(f"i64.{name}" for name in _COMPARED),
    *(f"f32.{name}" for name in _words("eq ne lt gt le ge")),
    *(f"f64.{name}" for name in _words("eq ne lt gt le ge")),
    *(f"i32.{name}" for name in _COMPUTED),
    *(f"i64.{name}" for name in _COMPUTED),
    *(f"f32.{name}" for name in _FLOATED),
    *(f"f64.{name}" for name in _FLOATED),
    "i32.wrap_i64",
    *_words("i32.trunc_f32_s i32.trunc_f32_u i32.trunc_f64_s i32.trunc_f64_u"),
    *_words("i64.extend_i32_s i64.extend_i32_u"),
    *_words("i64.trunc_f32_s i64.trunc_f32_u i64.trunc_f64_s i64.trunc_f64_u"),
    *_words("f32.convert_i32_s f32.convert_i32_u f32.convert_i64_s f32.convert_i64_u"),
    "f32.demote_f64",
    *_words("f64.convert_i32_s f64.convert_i32_u f64.convert_i64_s f64.convert_i64_u"),
    "f64.promote_f32",
    *_words("i32.reinterpret_f32 i64.reinterpret_f64 f32.reinterpret_i32 f64.reinterpret_i64"),
    *_words("i32.extend8_s i32.extend16_s i64.extend8_s i64.extend16_s i64.extend32_s"),
]

_PREFIXED: Final = _words(  # behind 0xFC
    "i32.trunc_sat_f32_s i32.trunc_sat_f32_u i32.trunc_sat_f64_s i32.trunc_sat_f64_u "
    "i64.trunc_sat_f32_s i64.trunc_sat_f32_u i64.trunc_sat_f64_s i64.trunc_sat_f64_u "
    "memory.init data.drop memory.copy memory.fill "
    "table.init elem.drop table.copy table.grow table.size table.fill"
)

NAMES: Final[dict[bytes, str]] = {
    **{bytes([code]): name for code, name in _CONTROL.items()},
    **{bytes([0x28 + index]): name for index, name in enumerate(_MEMORY)},
    **{bytes([0x45 + index]): name for index, name in enumerate(_NUMERIC)},
    **{bytes([0xFC, index]): name for index, name in enumerate(_PREFIXED)},
    **{b"\xfd" + unsigned(number): name for number, name in SIMD_NAMES.items()},
}
"""Name of each operator, by the bytes it begins with."""

CODES: Final[dict[str, bytes]] = {name: code for code, name in NAMES.items()}
"""The bytes that each operator begins with, by its name."""

assert NAMES[b"\x45"] == "i32.eqz"
assert NAMES[b"\xc4"] == "i64.extend32_s"
assert NAMES[b"\x3e"] == "i64.store32"
assert NAMES[b"\xfc\x11"] == "table.fill"

LOADS: Final = frozenset(name for name in _MEMORY if ".load" in name) | VECTOR_LOADS | LANE_LOADS
STORES: Final = (
    frozenset(name for name in _MEMORY if ".store" in name) | VECTOR_STORES | LANE_STORES
)

UNSUPPORTED: Final = {
    **dict.fromkeys((0x06, 0x07, 0x08, 0x09, 0x0A, 0x18, 0x19, 0x1F), "exceptions"),
    **dict.fromkeys((0x14, 0x15, 0xD4, 0xD5, 0xD6), "typed function references"),
    **dict.fromkeys((0xD3, 0xFB), "garbage collection"),
    0xFE: "threads",
}
"""What an operator with that first byte belongs to."""

_U32: Final = rb"[\x80-\xff]{0,4}[\x00-\x7f]"
_U64: Final = rb"[\x80-\xff]{0,9}[\x00-\x7f]"
_MEMARG: Final = rb"[\x00-\x1f]" + _U64  # a larger alignment would name another memory


def _vectors(names: frozenset[str]) -> bytes:
    """Return an expression for vector operators, without what follows."""
    numbers = [number for number, name in SIMD_NAMES.items() if name in names]
    short = b"".join(rb"\x%02x" % number for number in numbers if number < 0x80)
    long = b"".join(rb"\x%02x" % number for number in numbers if number >= 0x80)
    if not long:
        return rb"\xfd[" + short + rb"]"
    return rb"\xfd(?:[" + short + rb"]|[" + long + rb"]\x01)"


_OF_16_BYTES: Final = frozenset(("v128.const", "i8x16.shuffle"))
_OF_A_LANE: Final = frozenset(
    name for name in SIMD_NAMES.values() if "extract_lane" in name or "replace_lane" in name
)
_OF_VECTORS: Final = (
    frozenset(SIMD_NAMES.values())
    - VECTOR_LOADS
    - VECTOR_STORES
    - LANE_LOADS
    - LANE_STORES
    - _OF_16_BYTES
    - _OF_A_LANE
)

_OPERATOR: Final = b"|".join(
    (
        rb"[\x0c\x0d\x10\x20-\x26\xd2]" + _U32,
        rb"\x41" + _U32,
        rb"[\x00\x01\x05\x0b\x0f\x1a\x1b\x45-\xc4\xd1]",
        rb"[\x28-\x3e]" + _MEMARG,
        rb"[\x02-\x04]" + _U32,
        rb"\x42" + _U64,
        rb"\x43[\x00-\xff]{4}",
        rb"\x44[\x00-\xff]{8}",
        rb"[\x11\x13]" + _U32 + _U32,
        rb"\x12" + _U32,
        rb"[\x3f\x40]\x00",
        rb"\x1c\x01[\x6f-\x7f]",
        rb"\xd0[\x6f\x70]",
        rb"\xfc[\x00-\x07]",
        rb"\xfc\x08" + _U32 + rb"\x00",
        rb"\xfc\x0a\x00\x00",
        rb"\xfc\x0b\x00",
        rb"\xfc[\x09\x0d\x0f-\x11]" + _U32,
        rb"\xfc[\x0c\x0e]" + _U32 + _U32,
        _vectors(_OF_VECTORS),
        _vectors(VECTOR_LOADS | VECTOR_STORES) + _MEMARG,
        _vectors(LANE_LOADS | LANE_STORES) + _MEMARG + rb"[\x00-\xff]",
        _vectors(_OF_A_LANE) + rb"[\x00-\xff]",
        _vectors(_OF_16_BYTES) + rb"[\x00-\xff]{16}",
    )
)
_ONE: Final = re.compile(_OPERATOR, re.DOTALL)
# Possessive, so that code which does not match is given up at once instead of tried again.
_RUN: Final = re.compile(b"(?:" + _OPERATOR + b")*+", re.DOTALL)
_NUMBER: Final = re.compile(_U64)
_BR_TABLE: Final = 0x0E


def cut(code: bytes, start: int, stop: int) -> list[bytes]:
    r"""Return the operators of ``code[start:stop]``, each with its immediates.

    Args:
        code: A whole module.
        start: Byte at which the first operator begins.
        stop: Byte behind the last one.

    Raises:
        ModuleError: An operator is unknown, unsupported, or cut off by ``stop``.

    Examples:
        >>> cut(bytes.fromhex("2000 41ff00 6a 0b"), 0, 7)
        [b' \x00', b'A\xff\x00', b'j', b'\x0b']
    """
    operators: list[bytes] = []
    position = start
    while True:
        run = _RUN.match(code, position, stop)
        assert run is not None
        operators += _ONE.findall(code, position, run.end())
        position = run.end()
        if position == stop:
            return operators
        if code[position] == _BR_TABLE:
            after = _after_br_table(code, position, stop)
            operators.append(code[position:after])
        else:
            operator, after = _read(code, position, stop)
            operators.append(operator)
        position = after


def name_of(operator: bytes) -> str:
    """Return an operator's name.

    Examples:
        >>> name_of(bytes.fromhex("fc0a0000")), name_of(bytes.fromhex("41ff00"))
        ('memory.copy', 'i32.const')
    """
    first = operator[0]
    if first < 0xFC:
        return NAMES[operator[:1]]
    return NAMES[operator[: 2 if operator[1] < 0x80 else 3]]


def numbers_of(operator: bytes) -> list[int]:
    """Return the unsigned immediates of an operator that has no others.

    Examples:
        >>> numbers_of(bytes.fromhex("2802 8001"))
        [2, 128]
    """
    first = operator[0]
    start = 1 if first < 0xFC else 2 if operator[1] < 0x80 else 3
    return [_unsigned(number) for number in _NUMBER.findall(operator, start)]


def _unsigned(number: bytes) -> int:
    value = 0
    for byte in reversed(number):
        value = value << 7 | byte & 0x7F
    return value


def _after_br_table(code: bytes, position: int, stop: int) -> int:
    """Return the byte behind a ``br_table``: a count, so many labels, and one more."""
    number = _NUMBER.match(code, position + 1, stop)
    if number is None:
        raise _cut_off(position)
    labels = _unsigned(number.group()) + 1
    after = number.end()
    if labels > stop - after:
        raise _cut_off(position)
    for _ in range(labels):
        number = _NUMBER.match(code, after, stop)
        if number is None:
            raise _cut_off(position)
        after = number.end()
    return after


def _cut_off(position: int) -> ModuleError:
    return ModuleError(
        f"byte {position}: the br_table there does not fit in its function; "
        "the module is damaged, build it again"
    )


_FOLLOWING: Final = {
    **dict.fromkeys(
        _words(
            "br br_if call return_call ref.func local.get local.set local.tee global.get "
            "global.set table.get table.set table.grow table.size table.fill data.drop elem.drop"
        ),
        "i",
    ),
    **dict.fromkeys(_words("call_indirect return_call_indirect table.init table.copy"), "ii"),
    **dict.fromkeys(_words("block loop if"), "s"),
    **dict.fromkeys(_words("memory.size memory.grow memory.fill"), "m"),
    **dict.fromkeys((*_MEMORY, *VECTOR_LOADS, *VECTOR_STORES), "a"),
    **dict.fromkeys(LANE_LOADS | LANE_STORES, "ab"),
    **dict.fromkeys(_OF_A_LANE, "b"),
    **dict.fromkeys(_OF_16_BYTES, "bbbbbbbbbbbbbbbb"),
    "memory.init": "im",
    "memory.copy": "mm",
    "i32.const": "s",
    "i64.const": "l",
    "f32.const": "bbbb",
    "f64.const": "bbbbbbbb",
    "ref.null": "s",
    "select t": "t",
}
"""What follows an operator: an index, a signed number of 33 or 64 bits, the index of a memory,
alignment and offset of an access, a byte, or types."""

_ALIGNMENT_SHIFT_MAX: Final = 31


def _read(code: bytes, position: int, stop: int) -> tuple[bytes, int]:
    """Read an operator that may be written longer than need be.

    Returns:
        It in its shortest form, and the byte behind it.
    """
    reader = Reader(code, position, stop, "function body")
    first = reader.byte()
    begin = bytes([first])
    try:
        if first in (0xFC, 0xFD):
            begin += unsigned(reader.u32())
        name = NAMES.get(begin)
        if name is None or name == "br_table":
            raise _refused(code, position, stop)
        parts = [_following(reader, kind, position) for kind in _FOLLOWING.get(name, "")]
    except ModuleError as error:
        if "supported" in str(error):
            raise
        raise _refused(code, position, stop) from error
    return begin + b"".join(parts), reader.position


def _following(reader: Reader, kind: str, position: int) -> bytes:
    if kind == "i":
        return unsigned(reader.u32())
    if kind in "sl":
        return signed(reader.signed(33 if kind == "s" else 64))
    if kind == "b":
        return bytes([reader.byte()])
    if kind == "t":
        types = reader.vector(reader.byte)
        if len(types) != 1:
            raise reader.error("a select there has not one type", position)
        return b"\x01" + bytes(types)
    number = reader.u32()
    if kind == "m":
        if number:
            raise reader.unsupported("several memories", position)
        return b"\0"
    assert kind == "a"
    if number > _ALIGNMENT_SHIFT_MAX:
        if number & 0x40:
            raise reader.unsupported("several memories", position)
        raise reader.error(f"an alignment of 2^{number} is too large", position)
    return unsigned(number) + unsigned(reader.u64())


def _refused(code: bytes, position: int, stop: int) -> ModuleError:
    """Say why no operator could be read."""
    first = code[position]
    feature = UNSUPPORTED.get(first)
    name = NAMES.get(bytes([first]), "unknown")
    if first in (0xFC, 0xFD):
        number = _NUMBER.match(code, position + 1, stop)
        value = -1 if number is None else _unsigned(number.group())
        if first == 0xFD and value >= RELAXED_FIRST:
            feature = "relaxed SIMD"
        begin = bytes([first]) + unsigned(max(value, 0))
        name = NAMES.get(begin, f"prefix of number {value}")
    if feature is not None:
        return ModuleError(
            f"byte {position}: operator 0x{first:02x} belongs to {feature}, which is not "
            "supported, nor is it on the Internet Computer; build the module without it"
        )
    return ModuleError(
        f"byte {position}: the operator 0x{first:02x} ({name}) there is unknown, or damaged, or "
        "does not fit in its function; build the module again"
    )
