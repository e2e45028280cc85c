"""A canister's module as it is deployed: decompressed, and its custom sections read.

What a developer hands over is a ``.wasm`` or a ``.wasm.gz``. The Internet Computer takes both, and
calls the module by the SHA-256 of what it was given; so does this.

**Invariants**

* Bytes that are no module raise `ModuleError` and nothing else.
* No more than `MODULE_BYTES_MAX` bytes come out of a compressed module, whatever it says.

Source:
    dfinity/ic rs/embedders/src/wasm_utils/decoding.rs @ 1bc0a5953, 2025-10-31; the custom section
    ``name`` in WebAssembly core specification 2.0, appendix 7.4.1; ``icp:`` sections in
    dfinity/developer-docs docs/references/ic-interface-spec, canister module format.
"""

import hashlib
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from sqlstable.errors import ModuleError
from sqlstable.wasm.rewrite.bytereader import Reader
from sqlstable.wasm.rewrite.module_reader import MODULE_BYTES_MAX, sections_of

_GZIP: Final = b"\x1f\x8b\x08"
_GZIP_BYTES_MIN: Final = 16
_GZIP_WINDOW: Final = 16 + zlib.MAX_WBITS
_FUNCTION_NAMES: Final = 1

PERSISTENCE_SECTION: Final = "enhanced-orthogonal-persistence"
"""MetadataSection of a module whose heap survives an upgrade."""

CANDID_SECTION: Final = "candid:service"
"""MetadataSection that says what the canister's methods take and give."""


@dataclass(frozen=True, slots=True)
class MetadataSection:
    """One custom section for the Internet Computer."""

    content: bytes
    is_public: bool
    "Whether everybody can read it, not only controllers."


@dataclass(frozen=True, slots=True)
class ModuleFile:
    r"""A module as it was handed over.

    Examples:
        >>> module = ModuleFile.of(b"\0asm\1\0\0\0")
        >>> module.wasm, module.is_compressed, module.metadata
        (b'\x00asm\x01\x00\x00\x00', False, {})
        >>> module.hash.hex()[:8]
        '93a44bbb'
    """

    wasm: bytes
    "The module, decompressed."
    hash: bytes
    "SHA-256 of what was handed over: the module hash that the Internet Computer shows."
    is_compressed: bool
    metadata: Mapping[str, MetadataSection]
    "``icp:public NAME`` and ``icp:private NAME``, by name."
    function_names: Mapping[int, str] = field(repr=False)
    "What functions are called, by index, as far as the module says."

    @classmethod
    def of(cls, data: bytes) -> "ModuleFile":
        """Read a module.

        Args:
            data: What is in a ``.wasm`` or ``.wasm.gz`` file.

        Raises:
            ModuleError: It is neither, damaged, or too large.
        """
        wasm = decompressed(data)
        _, custom = sections_of(wasm)
        names = [content for title, content in custom if title == "name"]
        return cls(
            wasm=wasm,
            hash=hashlib.sha256(data).digest(),
            is_compressed=data.startswith(_GZIP),
            metadata=_metadata(custom),
            function_names=function_names(names[0]) if names else {},
        )

    @property
    def candid(self) -> str | None:
        """The service that ``candid:service`` describes, or None."""
        found = self.metadata.get(CANDID_SECTION)
        return None if found is None else found.content.decode(errors="replace")

    @property
    def keeps_heap(self) -> bool:
        """Whether an upgrade keeps the heap: enhanced orthogonal persistence."""
        return PERSISTENCE_SECTION in self.metadata


def decompressed(data: bytes) -> bytes:
    """Return a module without the compression that it may have.

    Raises:
        ModuleError: It is no gzip file, or not one of the size that it says.
    """
    if not data.startswith(_GZIP[:2]):
        return data
    if not data.startswith(_GZIP) or len(data) < _GZIP_BYTES_MIN:
        raise _undecoded("the gzip stream is too short, or not of this kind")
    size = int.from_bytes(data[-4:], "little")
    if size > MODULE_BYTES_MAX:
        raise ModuleError(
            f"Wasm module size of {size} exceeds the maximum allowed size of {MODULE_BYTES_MAX}. "
            "Shrink the module with tools like ic-wasm, or split the logic across canisters. The "
            "size is what the last four bytes of the gzip file say: if the module is not so "
            f"large, the {len(data)} bytes here are damaged or cut off; compress it again."
        )
    decoder = zlib.decompressobj(_GZIP_WINDOW)
    try:
        wasm = decoder.decompress(data, size + 1)
    except zlib.error as error:
        raise _undecoded(str(error)) from error
    if len(wasm) != size or not decoder.eof:
        raise _undecoded(
            f"specified uncompressed size {size} does not match extracted size {len(wasm)}"
        )
    return wasm


def _undecoded(why: str) -> ModuleError:
    return ModuleError(
        f"Failed to decode wasm module: {why}. Compress it again, with gzip -n, or hand over the "
        ".wasm file itself."
    )


def _metadata(custom: list[tuple[str, bytes]]) -> dict[str, MetadataSection]:
    """Return the sections for the Internet Computer; the first of a name counts."""
    found: dict[str, MetadataSection] = {}
    for title, content in custom:
        for scope in ("icp:public ", "icp:private "):
            if title.startswith(scope):
                name = title.removeprefix(scope)
                found.setdefault(name, MetadataSection(content, is_public=scope == "icp:public "))
    return found


def function_names(content: bytes) -> dict[int, str]:
    r"""Return the names of functions that a custom section ``name`` has.

    One that is damaged is nobody's error: names are for reading, and those before the damage count.

    Examples:
        >>> function_names(bytes.fromhex("01 06 01 05 03") + b"add")
        {5: 'add'}
        >>> function_names(b"\1\xff")
        {}
    """
    names: dict[int, str] = {}
    reader = Reader(content, 0, len(content), "names")
    try:
        while reader.position < reader.stop:
            kind = reader.byte()
            length = reader.u32()
            start = reader.position
            reader.take(length)
            if kind == _FUNCTION_NAMES:
                part = Reader(content, start, start + length, "names of functions")
                for _ in range(part.count()):
                    index = part.u32()
                    names[index] = part.name()
    except ModuleError:
        pass
    return names
