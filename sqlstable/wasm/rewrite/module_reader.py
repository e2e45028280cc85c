"""Reading a module in the WebAssembly binary format, and refusing what is none.

**Invariants**

* Bytes that are no module, or one that is not supported, raise `ModuleError` and nothing else; the
  text says what and where.
* The work is bounded by the length of the module, which is bounded by `MODULE_BYTES_MAX`.
* ``read_module(wasm).encode()`` is the same module: equal sections in the standard order, without
  custom ones other than the names of functions.

**Limitations.** One memory; no threads, exceptions, garbage collection or components, and constant
expressions of one operator, as on the Internet Computer. Types inside of functions are wasmtime's
to check; what else the Internet Computer refuses is said by `sqlstable.wasm.rewrite.validation`.

Source:
    WebAssembly core specification 2.0, section 5.5, with 64-bit addresses as in its version 3.0.
"""

from collections.abc import Callable
from typing import Final, TypeVar

from sqlstable.errors import ModuleError
from sqlstable.ic.units import MIB
from sqlstable.wasm.rewrite.binary import (
    CODE,
    CUSTOM,
    EXTERNREF,
    FUNCREF,
    FUNCTION,
    GLOBAL,
    MAGIC,
    MEMORY,
    SECTION_ORDER,
    SECTIONS,
    TABLE,
    VALUE_TYPES,
    VERSION,
    WASM_PAGES_MAX,
    Body,
    Export,
    FunctionType,
    Global,
    Import,
    Module,
    SizeLimits,
    TableType,
)
from sqlstable.wasm.rewrite.bytereader import Reader

_Item = TypeVar("_Item")

MODULE_BYTES_MAX: Final = 100 * MIB
"""The Internet Computer takes no larger module."""

CODE_BYTES_MAX: Final = 12 * MIB
"""Nor one with more code.

Source: dfinity/ic rs/embedders/src/wasm_utils/validation.rs MAX_CODE_SECTION_SIZE_IN_BYTES, read in
humandebri/ic @ 1493686b; it was 11 MiB on 2025-10-31, and the documentation still says 10.
"""

LOCALS_MAX: Final = 50_000
"""Locals of one function. Source: WebAssembly JavaScript interface, implementation limits."""

_GZIP: Final = b"\x1f\x8b"


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
        >>> read_module(b"\0asm\1\0\0\0\5\4\1\2\0\0")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        sqlstable.errors.ModuleError: byte 11, memory section: a memory shared between threads ...
    """
    sections, custom = sections_of(wasm)
    return _ModuleReader(wasm, sections).module(tuple(custom))


def sections_of(wasm: bytes) -> tuple[dict[int, Reader], list[tuple[str, bytes]]]:
    """Return the sections of a module by number; and custom ones, as name and content, in order.

    Raises:
        ModuleError: It is none, or its sections are damaged.
    """
    _check_beginning(wasm)
    sections: dict[int, Reader] = {}
    custom: list[tuple[str, bytes]] = []
    outer = Reader(wasm, len(MAGIC + VERSION), len(wasm), "module")
    last = 0
    while outer.position < len(wasm):
        start = outer.position
        section = outer.byte()
        if section == 13:
            raise outer.unsupported("an exception tag", start)
        if section not in SECTIONS:
            raise outer.error(f"section {section} there is unknown; the module is damaged", start)
        length = outer.u32()
        start = outer.position
        outer.take(length)
        reader = Reader(wasm, start, start + length, SECTIONS[section])
        if section == CODE and length > CODE_BYTES_MAX:
            raise ModuleError(
                f"Wasm module code section size of {length} exceeds the maximum allowed size of "
                f"{CODE_BYTES_MAX}. Try shrinking the module code section using tools like "
                "`ic-wasm` or splitting the logic across multiple canisters."
            )
        if section == CUSTOM:
            custom.append((reader.name(), wasm[reader.position : reader.stop]))
            continue
        if SECTION_ORDER[section] <= last:
            raise reader.error("the section comes twice or too late; the module is damaged")
        last = SECTION_ORDER[section]
        sections[section] = reader
    return sections, custom


def _check_beginning(wasm: bytes) -> None:
    if wasm[:2] == _GZIP:
        raise ModuleError("the module is compressed with gzip; decompress it first, once")
    if wasm[:4] != MAGIC:
        raise ModuleError(
            f"a WebAssembly module begins with {MAGIC!r}, this file with {wasm[:4]!r}; "
            "give the .wasm file of a canister"
        )
    if wasm[4:8] == b"\x0d\0\1\0":
        raise ModuleError("this is a WebAssembly component; give the plain module inside it")
    if wasm[4:8] != VERSION:
        raise ModuleError(f"version {wasm[4:8].hex()} of WebAssembly is unknown; only 1 is known")
    if len(wasm) > MODULE_BYTES_MAX:
        raise ModuleError(
            f"Wasm module size of {len(wasm)} exceeds the maximum allowed size of "
            f"{MODULE_BYTES_MAX}. Try shrinking the module using tools like `ic-wasm` or splitting "
            "the logic across multiple canisters."
        )


class _ModuleReader:
    """Reads the sections of one module, in order, as later ones refer to earlier ones."""

    def __init__(self, wasm: bytes, sections: dict[int, Reader]) -> None:
        self.wasm = wasm
        self.sections = sections
        self.types: tuple[FunctionType, ...] = ()
        self.imports: tuple[Import, ...] = ()
        self.functions: tuple[int, ...] = ()
        self.function_count = 0
        self.counts: dict[int, int] = {}
        "Of functions, tables, memories and globals, for exports."

    def module(self, custom: tuple[tuple[str, bytes], ...]) -> Module:
        """Read all of it."""
        self.types = self._vector(1, self._type)
        self.imports = self._vector(2, self._import)
        self.functions = self._vector(3, self._function)
        self.function_count = len(self.functions) + self._imported(FUNCTION)
        tables = self._vector(4, self._table)
        memories = self._vector(5, self._memory)
        globals_ = self._vector(6, self._global)
        self._check_memories(memories)
        self.counts = {
            FUNCTION: self.function_count,
            TABLE: len(tables) + self._imported(TABLE),
            MEMORY: len(memories) + self._imported(MEMORY),
            GLOBAL: len(globals_) + self._imported(GLOBAL),
        }
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

    def _check_memories(self, memories: tuple[SizeLimits, ...]) -> None:
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

    def _table(self, reader: Reader) -> TableType:
        start = reader.position
        element_type = reader.byte()
        if element_type not in (FUNCREF, EXTERNREF):
            raise reader.unsupported("a table of anything but funcref and externref", start)
        return TableType(element_type, _limits(reader, "a table"))

    def _memory(self, reader: Reader) -> SizeLimits:
        start = reader.position
        limits = _limits(reader, "a memory")
        if not limits.is_64 and limits.minimum > WASM_PAGES_MAX:
            raise reader.error(f"{limits.minimum} Wasm pages are more than 4 GiB", start)
        return limits

    # -- imports, globals, exports -----------------------------------------------------------------

    def _import(self, reader: Reader) -> Import:
        module, title = reader.name(), reader.name()
        start = reader.position
        kind = reader.byte()
        described = reader.position
        type_index, table = -1, None
        if kind == FUNCTION:
            type_index = self._type_index(reader)
        elif kind == TABLE:
            table = self._table(reader)
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
        return Import(module, title, kind, description, type_index, table)

    def _global(self, reader: Reader) -> Global:
        value_type = _value_type(reader)
        is_mutable = _mutability(reader)
        return Global(value_type, is_mutable, self._constant(reader))

    def _export(self, reader: Reader) -> Export:
        title = reader.name()
        start = reader.position
        kind = reader.byte()
        index = reader.u32()
        if kind > GLOBAL:
            raise reader.unsupported(f"an export of kind {kind}", start)
        if index >= self.counts[kind]:
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
        elif operator == 0xFD:
            if reader.u32() != _V128_CONST:
                raise reader.unsupported("a constant expression of computed vectors", start)
            reader.take(16)
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
        length = reader.u32()
        start = reader.position
        reader.take(length)
        inner = Reader(self.wasm, start, reader.position, "function body")
        groups = inner.vector(lambda: (inner.u32(), _value_type(inner)))
        count = sum(group[0] for group in groups)
        if count > LOCALS_MAX:
            raise inner.error(f"{count} locals, the limit is {LOCALS_MAX}", start)
        return Body(groups, count, self.wasm, inner.position, inner.stop)


_V128_CONST: Final = 12


def _value_type(reader: Reader) -> int:
    start = reader.position
    value = reader.byte()
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
    if flags & 2:
        raise reader.unsupported(f"{what} shared between threads", start)
    if flags & ~5:
        raise reader.unsupported(f"{what} with limits of form 0x{flags:02x}", start)
    is_64 = bool(flags & 4)
    read = reader.u64 if is_64 else reader.u32
    minimum = read()
    maximum = read() if flags & 1 else None
    if maximum is not None and maximum < minimum:
        raise reader.error(f"largest size {maximum} is below the smallest, {minimum}", start)
    return SizeLimits(minimum, maximum, is_64)
