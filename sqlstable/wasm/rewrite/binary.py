"""The WebAssembly binary format: a module as data, and written back.

`sqlstable.wasm.rewrite.module_reader.read_module` turns bytes into a `Module`: what the rewriter
changes is data, the rest stays the bytes that it was. `Module.encode` writes it again. Code is cut
into operators only on demand, by `sqlstable.wasm.rewrite.operators.cut`.

Source:
    WebAssembly core specification 2.0, section 5.5, with 64-bit addresses as in its version 3.0.
"""

from dataclasses import dataclass
from typing import Final

from sqlstable.ic.units import GIB, WASM_PAGE_BYTES
from sqlstable.wasm.rewrite.bytereader import name, unsigned, vector

WASM_PAGES_MAX: Final = 4 * GIB // WASM_PAGE_BYTES
"""Of a memory with 32-bit addresses: 4 GiB."""

WASM64_PAGES_MAX: Final = 6 * GIB // WASM_PAGE_BYTES
"""Of one with 64-bit addresses, on the Internet Computer: 6 GiB.

Source: dfinity/developer-docs docs/references/resource-limits.md @ b58cf042, 2026-08-18.
"""

assert (WASM_PAGES_MAX, WASM64_PAGES_MAX) == (65_536, 98_304)

I32: Final = 0x7F
I64: Final = 0x7E
F32: Final = 0x7D
F64: Final = 0x7C
V128: Final = 0x7B
FUNCREF: Final = 0x70
EXTERNREF: Final = 0x6F
VALUE_TYPES: Final = {
    I32: "i32",
    I64: "i64",
    F32: "f32",
    F64: "f64",
    V128: "v128",
    FUNCREF: "funcref",
    EXTERNREF: "externref",
}

FUNCTION: Final = 0
TABLE: Final = 1
MEMORY: Final = 2
GLOBAL: Final = 3

MAGIC: Final = b"\0asm"
VERSION: Final = b"\1\0\0\0"

CUSTOM: Final = 0
CODE: Final = 10
SECTIONS: Final = {
    CUSTOM: "custom section",
    1: "type section",
    2: "import section",
    3: "function section",
    4: "table section",
    5: "memory section",
    6: "global section",
    7: "export section",
    8: "start section",
    9: "element section",
    12: "data count section",
    CODE: "code section",
    11: "data section",
}
"""Their names, in the order in which they stand in a module."""

SECTION_ORDER: Final = {section: place for place, section in enumerate(SECTIONS)}


@dataclass(frozen=True, slots=True)
class FunctionType:
    """Value types that a function takes and gives, one byte for each."""

    parameters: bytes
    results: bytes

    def encode(self) -> bytes:
        """Return its bytes."""
        return (
            b"\x60"
            + unsigned(len(self.parameters))
            + self.parameters
            + unsigned(len(self.results))
            + self.results
        )


@dataclass(frozen=True, slots=True)
class SizeLimits:
    """Smallest and largest size, of a memory in Wasm pages, of a table in entries."""

    minimum: int
    maximum: int | None
    is_64: bool = False
    "Whether addresses, or indexes, have 64 bits"

    def encode(self) -> bytes:
        """Return its bytes."""
        flags = 4 if self.is_64 else 0
        if self.maximum is None:
            return bytes([flags]) + unsigned(self.minimum)
        return bytes([flags | 1]) + unsigned(self.minimum) + unsigned(self.maximum)


@dataclass(frozen=True, slots=True)
class TableType:
    """A table of references."""

    element_type: int
    "`FUNCREF` or `EXTERNREF`"
    limits: SizeLimits

    def encode(self) -> bytes:
        """Return its bytes."""
        return bytes([self.element_type]) + self.limits.encode()


@dataclass(frozen=True, slots=True)
class Import:
    """Something that comes from outside."""

    module: str
    name: str
    kind: int
    "`FUNCTION`, `TABLE`, `MEMORY` or `GLOBAL`"
    description: bytes
    "What kind of function, table, memory or global, as the module holds it"
    type_index: int = -1
    "Of a function"
    table: TableType | None = None
    "What is imported, if it is a table"

    def encode(self) -> bytes:
        """Return its bytes."""
        return name(self.module) + name(self.name) + bytes([self.kind]) + self.description


@dataclass(frozen=True, slots=True)
class Global:
    """A global that the module defines."""

    value_type: int
    is_mutable: bool
    initial: bytes
    "A constant expression, with its end"

    def encode(self) -> bytes:
        """Return its bytes."""
        return bytes([self.value_type, self.is_mutable]) + self.initial


@dataclass(frozen=True, slots=True)
class Export:
    """Something that is given to the outside."""

    name: str
    kind: int
    index: int

    def encode(self) -> bytes:
        """Return its bytes."""
        return name(self.name) + bytes([self.kind]) + unsigned(self.index)


@dataclass(frozen=True, slots=True)
class Body:
    """A function's locals and code; the code lies in `data`, which may be the whole module."""

    local_groups: tuple[tuple[int, int], ...]
    "Count and value type, in order"
    local_count: int
    data: bytes
    start: int
    stop: int

    def encode(self) -> bytes:
        """Return its bytes, their length before them."""
        groups = vector([unsigned(count) + bytes([kind]) for count, kind in self.local_groups])
        code = self.data[self.start : self.stop]
        return unsigned(len(groups) + len(code)) + groups + code


@dataclass(frozen=True, slots=True)
class Module:
    """A module, section by section; what nobody here changes is kept as bytes."""

    types: tuple[FunctionType, ...]
    imports: tuple[Import, ...]
    functions: tuple[int, ...]
    "Index of the type of each function that the module defines"
    tables: tuple[TableType, ...]
    memory: SizeLimits | None
    globals: tuple[Global, ...]
    exports: tuple[Export, ...]
    start: int | None
    elements: tuple[bytes, ...]
    data_count: int | None
    bodies: tuple[Body, ...]
    data_segments: tuple[bytes, ...]
    custom: tuple[tuple[str, bytes], ...]
    "Name and content of custom sections"

    def imported(self, kind: int) -> list[Import]:
        """Return the imports of one kind, in the order of their indexes."""
        return [item for item in self.imports if item.kind == kind]

    @property
    def is_64(self) -> bool:
        """Whether its memory has 64-bit addresses."""
        return self.memory is not None and self.memory.is_64

    def type_of(self, function: int) -> FunctionType:
        """Return the type of a function, which may be imported."""
        imported = self.imported(FUNCTION)
        if function < len(imported):
            return self.types[imported[function].type_index]
        return self.types[self.functions[function - len(imported)]]

    @property
    def function_count(self) -> int:
        """Functions, the imported ones included."""
        return len(self.imported(FUNCTION)) + len(self.functions)

    @property
    def all_tables(self) -> list[TableType]:
        """Tables in the order of their indexes, the imported ones first."""
        return [item.table for item in self.imports if item.table is not None] + [*self.tables]

    @property
    def global_count(self) -> int:
        """Globals, the imported ones included."""
        return len(self.imported(GLOBAL)) + len(self.globals)

    def encode(self) -> bytes:
        """Return the module's bytes."""
        memory = [] if self.memory is None else [self.memory.encode()]
        vectors = {
            1: [item.encode() for item in self.types],
            2: [item.encode() for item in self.imports],
            3: [unsigned(index) for index in self.functions],
            4: [item.encode() for item in self.tables],
            5: memory,
            6: [item.encode() for item in self.globals],
            7: [item.encode() for item in self.exports],
            9: list(self.elements),
            10: [item.encode() for item in self.bodies],
            11: list(self.data_segments),
        }
        contents = {section: vector(items) for section, items in vectors.items() if items}
        if self.start is not None:
            contents[8] = unsigned(self.start)
        if self.data_count is not None:
            contents[12] = unsigned(self.data_count)
        parts = [MAGIC + VERSION]
        for section in sorted(contents, key=SECTION_ORDER.__getitem__):
            content = contents[section]
            parts += [bytes([section]), unsigned(len(content)), content]
        for title, content in self.custom:
            if title == "name":
                whole = name(title) + content
                parts += [b"\0", unsigned(len(whole)), whole]
        return b"".join(parts)
