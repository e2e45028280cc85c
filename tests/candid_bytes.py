"""Candid messages written by hand from the specification, to check the real thing against.

Source:
    dfinity/candid spec/Candid.md, "Binary Format": type table, argument types, values.
"""

import struct

from hypothesis import strategies as st

PRIMITIVES = {
    "null": -1,
    "bool": -2,
    "nat": -3,
    "int": -4,
    "nat8": -5,
    "nat16": -6,
    "nat32": -7,
    "nat64": -8,
    "int8": -9,
    "int16": -10,
    "int32": -11,
    "int64": -12,
    "float64": -14,
    "text": -15,
}
FIXED = {
    "nat8": "<B",
    "nat16": "<H",
    "nat32": "<I",
    "nat64": "<Q",
    "int8": "<b",
    "int16": "<h",
    "int32": "<i",
    "int64": "<q",
    "float64": "<d",
}


def unsigned(number):
    out = bytearray()
    while True:
        number, low = number >> 7, number & 0x7F
        out.append(low | (0x80 if number else 0))
        if not number:
            return bytes(out)


def signed(number):
    out = bytearray()
    while True:
        low = number & 0x7F
        number >>= 7
        is_last = number == (-1 if low & 0x40 else 0)
        out.append(low | (0 if is_last else 0x80))
        if is_last:
            return bytes(out)


def label(name):
    """The number of a field: a sum over its bytes, modulo 2^32."""
    number = 0
    for byte in name.encode():
        number = (number * 223 + byte) % 2**32
    return number


def sorted_fields(fields):
    return sorted(fields, key=lambda field: label(field[0]))


class Writer:
    """Types are names of primitives, or tuples: ("opt", t), ("vec", t), ("record", ((n, t), …))."""

    def __init__(self):
        self.table = []

    def type(self, kind):
        if isinstance(kind, str):
            return signed(PRIMITIVES[kind])
        head, inner = kind
        if head in ("opt", "vec"):
            entry = signed(-18 if head == "opt" else -19) + self.type(inner)
        else:
            entry = signed(-20 if head == "record" else -21) + unsigned(len(inner))
            for name, field in sorted_fields(inner):
                entry += unsigned(label(name)) + self.type(field)
        self.table.append(entry)
        return signed(len(self.table) - 1)

    def value(self, kind, value):
        if isinstance(kind, str):
            return self.primitive(kind, value)
        head, inner = kind
        if head == "opt":
            return b"\0" if value is None else b"\1" + self.value(inner, value)
        if head == "vec":
            return unsigned(len(value)) + b"".join(self.value(inner, it) for it in value)
        fields = sorted_fields(inner)
        if head == "record":
            return b"".join(self.value(field, value[name]) for name, field in fields)
        ((case, inside),) = value.items()
        index = [name for name, _ in fields].index(case)
        return unsigned(index) + self.value(dict(fields)[case], inside)

    def primitive(self, kind, value):
        if kind == "null":
            return b""
        if kind == "bool":
            return b"\1" if value else b"\0"
        if kind == "nat":
            return unsigned(value)
        if kind == "int":
            return signed(value)
        if kind == "text":
            return unsigned(len(value.encode())) + value.encode()
        return struct.pack(FIXED[kind], value)


def message(kinds, values):
    writer = Writer()
    types = b"".join(writer.type(kind) for kind in kinds)
    body = b"".join(writer.value(kind, it) for kind, it in zip(kinds, values, strict=True))
    table = unsigned(len(writer.table)) + b"".join(writer.table)
    return b"DIDL" + table + unsigned(len(kinds)) + types + body


def text_of(kind):
    if isinstance(kind, str):
        return kind
    head, inner = kind
    if head in ("opt", "vec"):
        return f"{head} {text_of(inner)}"
    return f"{head} {{ {'; '.join(f'{name} : {text_of(it)}' for name, it in inner)} }}"


EXACT = 2**53 - 1

VALUES = {
    "null": st.none(),
    "bool": st.booleans(),
    "nat": st.integers(0, EXACT),
    "int": st.integers(-EXACT, EXACT),
    "nat8": st.integers(0, 2**8 - 1),
    "nat16": st.integers(0, 2**16 - 1),
    "nat32": st.integers(0, 2**32 - 1),
    "nat64": st.integers(0, EXACT),
    "int8": st.integers(-(2**7), 2**7 - 1),
    "int16": st.integers(-(2**15), 2**15 - 1),
    "int32": st.integers(-(2**31), 2**31 - 1),
    "int64": st.integers(-EXACT, EXACT),
    "float64": st.floats(allow_nan=False, allow_infinity=False),
    "text": st.text(max_size=8),
}

NAMES = st.lists(
    st.sampled_from(["name", "age", "ok", "err", "owner", "id_2", "Zz"]),
    min_size=1,
    max_size=3,
    unique=True,
)


@st.composite
def composed(draw, inner):
    head = draw(st.sampled_from(["opt", "vec", "record", "variant"]))
    if head == "opt":
        # What may be null itself is another test's: its JSON is an array.
        return (head, draw(inner.filter(lambda kind: kind != "null" and kind[0] != "opt")))
    if head == "vec":
        # A blob is another one's, too.
        return (head, draw(inner.filter(lambda kind: kind != "nat8")))
    return (head, tuple((name, draw(inner)) for name in draw(NAMES)))


KINDS = st.recursive(st.sampled_from(sorted(PRIMITIVES)), composed, max_leaves=6)


def values_of(kind):
    if isinstance(kind, str):
        return VALUES[kind]
    head, inner = kind
    if head == "opt":
        return st.none() | values_of(inner)
    if head == "vec":
        return st.lists(values_of(inner), max_size=3)
    if head == "record":
        return st.fixed_dictionaries({name: values_of(field) for name, field in inner})
    return st.one_of([values_of(field).map(lambda it, n=name: {n: it}) for name, field in inner])


@st.composite
def typed_values(draw):
    kinds = draw(st.lists(KINDS, max_size=3))
    return kinds, [draw(values_of(kind)) for kind in kinds]
