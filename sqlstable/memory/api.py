"""The ``ic0`` calls for stable memory, exactly as a canister's Wasm module sees them.

`SystemApi` joins a `StableMemory` and a heap. The order of the checks is the replica's, because
a call that breaks two rules traps with the text of the first. Source: dfinity/ic
``rs/embedders/src/wasm_utils/system_api_replacements.rs`` and
``rs/embedders/src/wasmtime_embedder/linker.rs``, 2025-10-31; call signatures:
dfinity/developer-docs ``docs/references/ic-interface-spec/canister-interface.md``, 2026-08-18.

==========================  =======================================================================
``stable64_read/write``     length 0 does nothing, whatever the addresses; else stable bounds, then
                            the largest heap, then the limits on OS pages, then the heap's own size
``stable_read``             the same behind the test that the memory is at most 4 GiB
``stable_write``            tests size and bounds for length 0 too
``stable_size``             traps above 65 536 Wasm pages
``stable_grow``             traps above 65 536 Wasm pages, answers -1 where the result would be
==========================  =======================================================================

A call that moves 0 bytes is a call all the same: it is logged, and a trapped message refuses it.

Beside them stand the direct loads and stores that have been proposed for stable memory: they move
one number between stable memory and the stack, in little-endian order as Wasm's own loads do, and
know no heap. No replica has them; they are here to count what they would touch. Integers wrap, and
a NaN keeps its bits, signalling ones too.
"""

import math
import struct
from typing import Final

from sqlstable.errors import OutOfBoundsTrap, Trap
from sqlstable.ic.units import GIB, WASM_PAGE_BYTES
from sqlstable.memory.seams import OUT_OF_BOUNDS
from sqlstable.memory.stable import StableMemory

HEAP_OUT_OF_BOUNDS: Final = "heap out of bounds"
"""Source: dfinity/ic rs/interfaces/src/execution_environment/errors.rs, 2025-10-31."""

MEMORY_TOO_BIG_FOR_32_BITS: Final = "32 bit stable memory api used on a memory larger than 4GB"
"""Source: dfinity/ic rs/interfaces/src/execution_environment/errors.rs, 2025-10-31."""

WASM_PAGES_MAX_32_BITS: Final = 4 * GIB // WASM_PAGE_BYTES
assert WASM_PAGES_MAX_32_BITS == 65_536

HEAP_BYTES_MAX: Final = 4 * GIB
"""Largest heap of a 32-bit module. Source: ``MAX_WASM_MEMORY_IN_BYTES``, dfinity/ic, 2025-10-31."""

_U32_END: Final = 1 << 32
_U64_END: Final = 1 << 64

_F32_PAYLOAD: Final = (1 << 23) - 1
_F32_QUIET: Final = 1 << 22
_F32_EXPONENT: Final = 0xFF << 23
_F64_EXPONENT: Final = 0x7FF << 52
_PAYLOAD_SHIFT: Final = 52 - 23


class SystemApi:
    """Stable memory's system calls over one memory and one heap.

    Args:
        memory: The stable memory.
        heap: The module's heap, a multiple of 65 536 bytes long; read and written in place.

    Examples:
        >>> api = SystemApi(StableMemory(), bytearray(65_536))
        >>> api.stable64_grow(1), api.stable64_size()
        (0, 1)
        >>> api.heap[:5] = b"hello"
        >>> api.stable64_write(100, 0, 5)
        >>> api.stable64_read(10, 100, 5)
        >>> bytes(api.heap[10:15])
        b'hello'
    """

    def __init__(self, memory: StableMemory, heap: bytearray) -> None:
        self.memory = memory
        self.heap = heap

    # -- 64 bits --------------------------------------------------------------------------------

    def stable64_size(self) -> int:
        """Return the size in Wasm pages."""
        return self.memory.size()

    def stable64_grow(self, new_pages: int) -> int:
        """Add zeroed Wasm pages; returns the old size in Wasm pages, or -1."""
        _check_unsigned(_U64_END, new_pages=new_pages)
        return self.memory.grow(new_pages)

    def stable64_read(self, dst: int, offset: int, size: int) -> None:
        """Copy ``size`` bytes from stable ``offset`` to heap address ``dst``.

        Raises:
            OutOfBoundsTrap: One of the ranges does not lie inside its memory.
            LimitTrap: The message may not access so many OS pages.
        """
        _check_unsigned(_U64_END, dst=dst, offset=offset, size=size)
        if size > 0:
            self._check_stable(offset, size)
            self._check_heap(dst, offset, size, write=False)
        self.heap[dst : dst + size] = self.memory.access_read(offset, size)

    def stable64_write(self, offset: int, src: int, size: int) -> None:
        """Copy ``size`` bytes from heap address ``src`` to stable ``offset``.

        Raises:
            OutOfBoundsTrap: One of the ranges does not lie inside its memory.
            LimitTrap: The message may not access or dirty so many OS pages.
        """
        _check_unsigned(_U64_END, offset=offset, src=src, size=size)
        if size > 0:
            self._check_stable(offset, size)
            self._check_heap(src, offset, size, write=True)
        self.memory.access_write(offset, memoryview(self.heap)[src : src + size])

    # -- 32 bits, deprecated since interface specification 0.25.0 (2024-06-14) --------------------

    def stable_size(self) -> int:
        """Return the size in Wasm pages.

        Raises:
            Trap: The memory is larger than 4 GiB.
        """
        self._check_32_bits()
        return self.memory.size()

    def stable_grow(self, new_pages: int) -> int:
        """Add zeroed Wasm pages; returns the old size, or -1 where the result passes 4 GiB.

        Raises:
            Trap: The memory is larger than 4 GiB already.
        """
        _check_unsigned(_U32_END, new_pages=new_pages)
        self._check_32_bits()
        return self.memory.grow(new_pages, wasm_pages_max=WASM_PAGES_MAX_32_BITS)

    def stable_read(self, dst: int, offset: int, size: int) -> None:
        """Copy ``size`` bytes from stable ``offset`` to heap address ``dst``.

        Raises:
            Trap: The memory is larger than 4 GiB, a range out of bounds, or a limit crossed.
        """
        _check_unsigned(_U32_END, dst=dst, offset=offset, size=size)
        if size > 0:
            self._check_32_bits()
        self.stable64_read(dst, offset, size)

    def stable_write(self, offset: int, src: int, size: int) -> None:
        """Copy ``size`` bytes from heap address ``src`` to stable ``offset``.

        Unlike its siblings it traps for length 0 too, where ``offset`` lies beyond the size.

        Raises:
            Trap: The memory is larger than 4 GiB, a range out of bounds, or a limit crossed.
        """
        _check_unsigned(_U32_END, offset=offset, src=src, size=size)
        self._check_32_bits()
        self._check_stable(offset, size)
        self.stable64_write(offset, src, size)

    # -- proposed direct loads and stores ----------------------------------------------------------

    def stable64_loadi8(self, offset: int) -> int:
        """Load one signed byte."""
        return self._load_integer("<b", offset)

    def stable64_loadi16(self, offset: int) -> int:
        """Load a signed 16-bit integer."""
        return self._load_integer("<h", offset)

    def stable64_loadi32(self, offset: int) -> int:
        """Load a signed 32-bit integer."""
        return self._load_integer("<i", offset)

    def stable64_loadi64(self, offset: int) -> int:
        """Load a signed 64-bit integer."""
        return self._load_integer("<q", offset)

    def stable64_loadf32(self, offset: int) -> float:
        """Load a 32-bit float."""
        return _widen(self._load("<f", offset))

    def stable64_loadf64(self, offset: int) -> float:
        """Load a 64-bit float."""
        return _float64(self._load("<d", offset))

    def stable64_storei8(self, offset: int, value: int) -> None:
        """Store the low 8 bits of ``value``."""
        self._store(offset, (value & 0xFF).to_bytes(1, "little"))

    def stable64_storei16(self, offset: int, value: int) -> None:
        """Store the low 16 bits of ``value``."""
        self._store(offset, (value & 0xFFFF).to_bytes(2, "little"))

    def stable64_storei32(self, offset: int, value: int) -> None:
        """Store the low 32 bits of ``value``."""
        self._store(offset, (value & (_U32_END - 1)).to_bytes(4, "little"))

    def stable64_storei64(self, offset: int, value: int) -> None:
        """Store the low 64 bits of ``value``."""
        self._store(offset, (value & (_U64_END - 1)).to_bytes(8, "little"))

    def stable64_storef32(self, offset: int, value: float) -> None:
        """Store ``value`` rounded to a 32-bit float; what is too large becomes infinite."""
        self._store(offset, _narrow(value))

    def stable64_storef64(self, offset: int, value: float) -> None:
        """Store ``value`` as a 64-bit float."""
        self._store(offset, struct.pack("<d", value))

    # -- inside ---------------------------------------------------------------------------------

    def _load_integer(self, form: str, offset: int) -> int:
        (value,) = struct.unpack(form, self._load(form, offset))
        assert isinstance(value, int)
        return value

    def _load(self, form: str, offset: int) -> bytes:
        _check_unsigned(_U64_END, offset=offset)
        return self.memory.read(offset, struct.calcsize(form))

    def _store(self, offset: int, data: bytes) -> None:
        _check_unsigned(_U64_END, offset=offset)
        self.memory.write(offset, data)

    def _check_stable(self, offset: int, size: int) -> None:
        if offset + size > self.memory.wasm_pages * WASM_PAGE_BYTES:
            raise self.memory.poison(OutOfBoundsTrap(OUT_OF_BOUNDS))

    def _check_heap(self, address: int, offset: int, size: int, *, write: bool) -> None:
        if address + size <= len(self.heap):
            return
        if address <= HEAP_BYTES_MAX and size <= HEAP_BYTES_MAX:
            # It might have been a larger heap: the limits on OS pages come before its own size.
            self.memory.touch(offset, size, write=write)
        raise self.memory.poison(OutOfBoundsTrap(HEAP_OUT_OF_BOUNDS))

    def _check_32_bits(self) -> None:
        if self.memory.wasm_pages > WASM_PAGES_MAX_32_BITS:
            raise self.memory.poison(Trap(MEMORY_TOO_BIG_FOR_32_BITS))


def _check_unsigned(end: int, **arguments: int) -> None:
    for name, value in arguments.items():
        if not 0 <= value < end:
            raise ValueError(f"{name} is {value}; it must be from 0 to {end - 1}")


def _float64(data: bytes) -> float:
    (value,) = struct.unpack("<d", data)
    assert isinstance(value, float)
    return value


def _widen(data: bytes) -> float:
    """Return a 32-bit float; a NaN's bits are moved by hand, as the processor would quiet it."""
    bits = int.from_bytes(data, "little")
    sign, exponent, payload = bits >> 31, bits >> 23 & 0xFF, bits & _F32_PAYLOAD
    if exponent == 0xFF and payload:
        wide = sign << 63 | _F64_EXPONENT | payload << _PAYLOAD_SHIFT
        return _float64(wide.to_bytes(8, "little"))
    (value,) = struct.unpack("<f", data)
    assert isinstance(value, float)
    return value


def _narrow(value: float) -> bytes:
    """Return the bytes of the nearest 32-bit float; of a NaN, those that `_widen` came from."""
    if math.isnan(value):
        bits = int.from_bytes(struct.pack("<d", value), "little")
        # Without any payload it would be an infinity.
        payload = bits >> _PAYLOAD_SHIFT & _F32_PAYLOAD or _F32_QUIET
        return (bits >> 63 << 31 | _F32_EXPONENT | payload).to_bytes(4, "little")
    try:
        return struct.pack("<f", value)
    except OverflowError:
        return struct.pack("<f", math.copysign(math.inf, value))
