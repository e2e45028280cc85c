"""The WebAssembly binary format: a module read, checked and written back.

`read_module` turns bytes into a `Module`: what the rewriter changes is data, the rest stays the
bytes that it was. `Module.encode` writes it again. Code is cut into operators only on demand, by
`sqlstable.wasm.rewrite.operators.cut`.

**Invariants**

* Bytes that are no module, or one that is not supported, raise `ModuleError` and nothing else; the
  text says what and where.
* The work is bounded by the length of the module, which is bounded by `MODULE_BYTES_MAX`.
* ``read_module(wasm).encode()`` is the same module: equal sections in the standard order, without
  custom ones other than the names of functions.

**Limitations.** One memory with 32-bit addresses; no SIMD, threads, exceptions, tail calls, garbage
collection or components. Types inside of functions are wasmtime's to check.

Source:
    WebAssembly core specification 2.0, section 5.5; limits: dfinity/developer-docs
    docs/references/resource-limits.md @ b58cf042, 2026-08-18.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from sqlstable.errors import ModuleError
from sqlstable.ic.units import MIB
from sqlstable.wasm.rewrite.bytereader import Reader, name, unsigned, vector

_Item = TypeVar("_Item")

MODULE_BYTES_MAX: Final = 100 * MIB
"""The Internet Computer takes no larger module."""

CODE_BYTES_MAX: Final = 10 * MIB
"""Nor one with more code."""

FUNCTIONS_MAX: Final = 50_000
GLOBALS_MAX: Final = 1_000

LOCALS_MAX: Final = 50_000
"""Locals of one function. Source: WebAssembly JavaScript interface, implementation limits."""

WASM_PAGES_MAX: Final = 65_536
"""Of a memory with 32-bit addresses: 4 GiB."""

I32: Final = 0x7F
I64: Final = 0x7E
F32: Final = 0x7D
F64: Final = 0x7C
FUNCREF: Final = 0x70
EXTERNREF: Final = 0x6F
VALUE_TYPES: Final = {
    I32: "i32",
    I64: "i64",
    F32: "f32",
    F64: "f64",
    FUNCREF: "funcref",
    EXTERNREF: "externref",
}

FUNCTION: Final = 0
TABLE: Final = 1
MEMORY: Final = 2
GLOBAL: Final = 3

_MAGIC: Final = b"\0asm"
_VERSION: Final = b"\1\0\0\0"
_GZIP: Final = b"\x1f\x8b"

_CUSTOM: Final = 0
_CODE: Final = 10
_SECTIONS: Final = {
    0: "custom section",
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
    10: "code section",
    11: "data section",
}
_ORDER: Final = {section: place for place, section in enumerate(_SECTIONS)}


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

    def encode(self) -> bytes:
        """Return its bytes."""
        if self.maximum is None:
            return b"\0" + unsigned(self.minimum)
        return b"\1" + unsigned(self.minimum) + unsigned(self.maximum)


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
    tables: tuple[bytes, ...]
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
    def function_count(self) -> int:
        """Functions, the imported ones included."""
        return len(self.imported(FUNCTION)) + len(self.functions)

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
            4: list(self.tables),
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
        parts = [_MAGIC + _VERSION]
        for section in sorted(contents, key=_ORDER.__getitem__):
            content = contents[section]
            parts += [bytes([section]), unsigned(len(content)), content]
        for title, content in self.custom:
            if title == "name":
                whole = name(title) + content
                parts += [b"\0", unsigned(len(whole)), whole]
        return b"".join(parts)


def read_module(wasm: bytes) -> Module:
    r"""Read a module.

    Args:
        wasm: A module in the binary format; at most `MODULE_BYTES_MAX` bytes.

    Raises:
        ModuleError: It is damaged, truncated, or uses what is not supported.

    Examples:
        >>> module = read_module(b"\0asm\1\0\0\0")
        >>> module.function_count, module.memory
        (0, None)
        >>> read_module(b"\0asm\1\0\0\0\5\4\1\4\0\0")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        sqlstable.errors.ModuleError: byte 11, memory section: a memory with 64-bit addresses ...
    """
    sections, custom = _sections(wasm)
    return _ModuleReader(wasm, sections).module(tuple(custom))


def _sections(wasm: bytes) -> tuple[dict[int, Reader], list[tuple[str, bytes]]]:
    _check_beginning(wasm)
    sections: dict[int, Reader] = {}
    custom: list[tuple[str, bytes]] = []
    outer = Reader(wasm, len(_MAGIC + _VERSION), len(wasm), "module")
    last = 0
    while outer.position < len(wasm):
        start = outer.position
        section = outer.byte()
        if section == 13:
            raise outer.unsupported("an exception tag", start)
        if section not in _SECTIONS:
            raise outer.error(f"section {section} there is unknown; the module is damaged", start)
        length = outer.u32()
        start = outer.position
        outer.take(length)
        reader = Reader(wasm, start, start + length, _SECTIONS[section])
        if section == _CUSTOM:
            custom.append((reader.name(), wasm[reader.position : reader.stop]))
            continue
        if _ORDER[section] <= last:
            raise reader.error("the section comes twice or too late; the module is damaged")
        last = _ORDER[section]
        sections[section] = reader
    return sections, custom


def _check_beginning(wasm: bytes) -> None:
    if wasm[:2] == _GZIP:
        raise ModuleError("the module is compressed with gzip; decompress it first")
    if wasm[:4] != _MAGIC:
        raise ModuleError(
            f"a WebAssembly module begins with {_MAGIC!r}, this file with {wasm[:4]!r}; "
            "give the .wasm file of a canister"
        )
    if wasm[4:8] == b"\x0d\0\1\0":
        raise ModuleError("this is a WebAssembly component; give the plain module inside it")
    if wasm[4:8] != _VERSION:
        raise ModuleError(f"version {wasm[4:8].hex()} of WebAssembly is unknown; only 1 is known")
    if len(wasm) > MODULE_BYTES_MAX:
        raise ModuleError(f"the module has {len(wasm)} bytes, the limit is {MODULE_BYTES_MAX}")


class _ModuleReader:
    """Reads the sections of one module, in order, as later ones refer to earlier ones."""

    def __init__(self, wasm: bytes, sections: dict[int, Reader]) -> None:
        self.wasm = wasm
        self.sections = sections
        self.types: tuple[FunctionType, ...] = ()
        self.imports: tuple[Import, ...] = ()
        self.functions: tuple[int, ...] = ()
        self.global_count = 0
        self.function_count = 0

    def module(self, custom: tuple[tuple[str, bytes], ...]) -> Module:
        """Read all of it."""
        self.types = self._vector(1, self._type)
        self.imports = self._vector(2, self._import)
        self.functions = self._vector(3, self._function)
        self.function_count = len(self.functions) + self._imported(FUNCTION)
        tables = self._vector(4, self._table)
        memories = self._vector(5, self._memory)
        globals_ = self._vector(6, self._global)
        self._check_counts(memories, globals_)
        self.global_count = len(globals_) + self._imported(GLOBAL)
        exports = self._vector(7, self._export)
        start = self._number(8)
        elements = self._vector(9, self._element)
        data_count = self._number(12)
        bodies = self._vector(10, self._body)
        if len(bodies) != len(self.functions):
            raise ModuleError(
                f"code section: {len(bodies)} bodies for {len(self.functions)} functions; "
                "the module is damaged"
            )
        data = self._vector(11, self._data)
        if data_count is not None and data_count != len(data):
            raise ModuleError(
                f"data section: {len(data)} segments where {data_count} were announced; "
                "the module is damaged"
            )
        return Module(
            types=self.types,
            imports=self.imports,
            functions=self.functions,
            tables=tables,
            memory=memories[0] if memories else None,
            globals=globals_,
            exports=exports,
            start=start,
            elements=elements,
            data_count=data_count,
            bodies=bodies,
            data_segments=data,
            custom=custom,
        )

    def _vector(self, section: int, read: Callable[[Reader], _Item]) -> tuple[_Item, ...]:
        reader = self.sections.get(section)
        if reader is None:
            return ()
        items = reader.vector(lambda: read(reader))
        reader.finish()
        return items

    def _number(self, section: int) -> int | None:
        reader = self.sections.get(section)
        if reader is None:
            return None
        value = reader.u32()
        if section == 8 and value >= self.function_count:
            raise reader.error(f"there is no function {value} to start with")
        reader.finish()
        return value

    def _imported(self, kind: int) -> int:
        return sum(item.kind == kind for item in self.imports)

    def _check_counts(self, memories: tuple[SizeLimits, ...], globals_: tuple[Global, ...]) -> None:
        for section, count, limit in (
            (3, len(self.functions), FUNCTIONS_MAX),
            (6, len(globals_), GLOBALS_MAX),
        ):
            if count > limit:
                raise ModuleError(
                    f"{_SECTIONS[section]}: {count} entries, the Internet Computer's limit is "
                    f"{limit}"
                )
        if len(memories) + self._imported(MEMORY) > 1:
            raise ModuleError(
                f"memory section: {len(memories) + self._imported(MEMORY)} memories; more than "
                "one is not supported; build the module without it"
            )

    # -- types -----------------------------------------------------------------------------------

    def _type(self, reader: Reader) -> FunctionType:
        start = reader.position
        form = reader.byte()
        if form in (0x4E, 0x4F, 0x50, 0x5E, 0x5F):
            raise reader.unsupported("a type of garbage collection", start)
        if form != 0x60:
            raise reader.error(f"type form 0x{form:02x} is unknown; the module is damaged", start)
        parameters = bytes(reader.vector(lambda: _value_type(reader)))
        return FunctionType(parameters, bytes(reader.vector(lambda: _value_type(reader))))

    def _type_index(self, reader: Reader) -> int:
        start = reader.position
        index = reader.u32()
        if index >= len(self.types):
            raise reader.error(f"there is no type {index}; the module is damaged", start)
        return index

    def _function(self, reader: Reader) -> int:
        return self._type_index(reader)

    def _table(self, reader: Reader) -> bytes:
        start = reader.position
        if reader.byte() not in (FUNCREF, EXTERNREF):
            raise reader.unsupported("a table of anything but funcref and externref", start)
        _limits(reader, "a table")
        return self.wasm[start : reader.position]

    def _memory(self, reader: Reader) -> SizeLimits:
        start = reader.position
        limits = _limits(reader, "a memory")
        if limits.minimum > WASM_PAGES_MAX:
            raise reader.error(f"{limits.minimum} Wasm pages are more than 4 GiB", start)
        return limits

    # -- imports, globals, exports -----------------------------------------------------------------

    def _import(self, reader: Reader) -> Import:
        module, title = reader.name(), reader.name()
        start = reader.position
        kind = reader.byte()
        described = reader.position
        type_index = -1
        if kind == FUNCTION:
            type_index = self._type_index(reader)
        elif kind == TABLE:
            self._table(reader)
        elif kind == MEMORY:
            self._memory(reader)
        elif kind == GLOBAL:
            _value_type(reader)
            _mutability(reader)
        elif kind == 4:
            raise reader.unsupported("an exception tag", start)
        else:
            raise reader.error(f"import kind {kind} is unknown; the module is damaged", start)
        description = self.wasm[described : reader.position]
        return Import(module, title, kind, description, type_index)

    def _global(self, reader: Reader) -> Global:
        value_type = _value_type(reader)
        is_mutable = _mutability(reader)
        return Global(value_type, is_mutable, self._constant(reader))

    def _export(self, reader: Reader) -> Export:
        title = reader.name()
        start = reader.position
        kind = reader.byte()
        index = reader.u32()
        counts = {FUNCTION: self.function_count, GLOBAL: self.global_count}
        if kind > GLOBAL:
            raise reader.unsupported(f"an export of kind {kind}", start)
        if index >= counts.get(kind, index + 1):
            raise reader.error(f"the export {title!r} names nothing (index {index})", start)
        return Export(title, kind, index)

    def _constant(self, reader: Reader) -> bytes:
        """Return a constant expression: one operator, and the end."""
        start = reader.position
        operator = reader.byte()
        if operator in (0x41, 0x42):
            reader.signed(32 if operator == 0x41 else 64)
        elif operator in (0x43, 0x44):
            reader.take(4 if operator == 0x43 else 8)
        elif operator == 0x23:
            index = reader.u32()
            if index >= self._imported(GLOBAL):
                raise reader.error(f"global {index} is not an imported one", start)
        elif operator == 0xD0:
            reader.byte()
        elif operator == 0xD2:
            reader.u32()
        else:
            raise reader.unsupported(f"a constant expression with 0x{operator:02x}", start)
        if reader.byte() != 0x0B:
            raise reader.unsupported("a constant expression of several operators", start)
        return self.wasm[start : reader.position]

    # -- segments ----------------------------------------------------------------------------------

    def _element(self, reader: Reader) -> bytes:
        start = reader.position
        form = reader.u32()
        if form > 7:
            raise reader.error(f"element segment form {form} is unknown", start)
        is_active, has_expressions = not form & 1, bool(form & 4)
        if is_active:
            if form & 2:
                reader.u32()
            self._constant(reader)
        if form & 3:
            reader.byte()
        if has_expressions:
            reader.vector(lambda: self._constant(reader))
        else:
            reader.vector(reader.u32)
        return self.wasm[start : reader.position]

    def _data(self, reader: Reader) -> bytes:
        start = reader.position
        form = reader.u32()
        if form > 2:
            raise reader.error(f"data segment form {form} is unknown", start)
        if form == 2 and reader.u32():
            raise reader.unsupported("a segment for another memory", start)
        if form != 1:
            self._constant(reader)
        reader.take(reader.u32())
        return self.wasm[start : reader.position]

    # -- code --------------------------------------------------------------------------------------

    def _body(self, reader: Reader) -> Body:
        if reader.stop - reader.position > CODE_BYTES_MAX:
            raise reader.error(f"the Internet Computer's limit is {CODE_BYTES_MAX} bytes of code")
        length = reader.u32()
        start = reader.position
        reader.take(length)
        inner = Reader(self.wasm, start, reader.position, "function body")
        groups = inner.vector(lambda: (inner.u32(), _value_type(inner)))
        count = sum(group[0] for group in groups)
        if count > LOCALS_MAX:
            raise inner.error(f"{count} locals, the limit is {LOCALS_MAX}", start)
        return Body(groups, count, self.wasm, inner.position, inner.stop)


def _value_type(reader: Reader) -> int:
    start = reader.position
    value = reader.byte()
    if value == 0x7B:
        raise reader.unsupported("SIMD (a value of type v128)", start)
    if value not in VALUE_TYPES:
        raise reader.unsupported(f"a value of type 0x{value:02x}", start)
    return value


def _mutability(reader: Reader) -> bool:
    start = reader.position
    value = reader.byte()
    if value > 1:
        raise reader.error(f"mutability 0x{value:02x} is unknown; the module is damaged", start)
    return bool(value)


def _limits(reader: Reader, what: str) -> SizeLimits:
    start = reader.position
    flags = reader.byte()
    if flags & 4:
        raise reader.unsupported(f"{what} with 64-bit addresses", start)
    if flags & 2:
        raise reader.unsupported(f"{what} shared between threads", start)
    if flags > 1:
        raise reader.unsupported(f"{what} with limits of form 0x{flags:02x}", start)
    minimum = reader.u32()
    maximum = reader.u32() if flags else None
    if maximum is not None and maximum < minimum:
        raise reader.error(f"largest size {maximum} is below the smallest, {minimum}", start)
    return SizeLimits(minimum, maximum)
