"""Why a message trapped, and what the Internet Computer says about it.

The shim and the rewritten module leave a number in the global ``trap_code`` before they trap;
0 there means that WebAssembly itself trapped. `trap_of` turns it into the exception that the native
engine would raise, with the same words.

Source of the words:
    dfinity/ic rs/interfaces/src/execution_environment/errors.rs, 2025-10-31.
"""

from enum import IntEnum
from typing import Final

from sqlstable.errors import LimitTrap, OutOfBoundsTrap, Trap
from sqlstable.ic.limits import Limits
from sqlstable.ic.words import INSTRUCTIONS, STABLE_MEMORY_BYTES
from sqlstable.memory.api import HEAP_OUT_OF_BOUNDS, MEMORY_TOO_BIG_FOR_32_BITS
from sqlstable.memory.bytemap import accessed_trap, dirty_trap
from sqlstable.memory.seams import OUT_OF_BOUNDS


class TrapCode(IntEnum):
    """What the global ``trap_code`` holds."""

    WASM = 0
    """WebAssembly trapped by itself: ``unreachable``, a division by zero, an address too high."""

    OUT_OF_INSTRUCTIONS = 1
    STABLE_OUT_OF_BOUNDS = 2
    HEAP_OUT_OF_BOUNDS = 3
    TOO_BIG_FOR_32_BITS = 4
    ACCESSED_LIMIT = 5
    DIRTY_LIMIT = 6

    CALLED = 7
    """The module called ``ic0.trap``; its message is the shim's text."""

    NO_MEANING = 8
    """The module called something that does not exist here; the text is its name."""

    CONTRACT = 9
    """The module used a system call in a way that is not allowed; the text is its name."""

    NO_MEMORY = 10
    """A list of the shim could not grow: this computer has no memory left."""

    INJECTED = 11
    """A test asked for it, by the shim's global ``trap_at``."""


WASM_TRAPS: Final = {
    "UNREACHABLE": "unreachable",
    "INTEGER_DIVISION_BY_ZERO": "integer division by 0",
    "STACK_OVERFLOW": "stack overflow",
    "MEMORY_OUT_OF_BOUNDS": "heap out of bounds",
    "TABLE_OUT_OF_BOUNDS": "table out of bounds",
    "INTERRUPT": "interrupted from outside; nothing of the message remains",
}
"""The Internet Computer's words by the names of ``wasmtime.TrapCode``; for others `OTHER`.

It has none for an interrupt, which is not part of it.
"""

GROW_FAILED: Final = "grow failed: "
"""Words of ``source/placement.c``, for stable memory that cannot grow."""

OTHER: Final = "unknown"


def trap_of(
    code: int,
    *,
    text: str = "",
    wasm_trap: str | None = None,
    limits: Limits | None = None,
    instruction_limit: int = 0,
) -> Trap:
    """Return the exception for a trap.

    Args:
        code: A `TrapCode`.
        text: The shim's text.
        wasm_trap: Name of the ``wasmtime.TrapCode``, where ``code`` is `TrapCode.WASM`.
        limits: Those of the message; needed where one was crossed.
        instruction_limit: That of the message.

    Examples:
        >>> trap_of(TrapCode.OUT_OF_INSTRUCTIONS, instruction_limit=40).args[0]
        'Canister exceeded the limit of 40 instructions for single message execution.'
        >>> trap_of(TrapCode.WASM, wasm_trap="INTEGER_DIVISION_BY_ZERO").args[0]
        'integer division by 0'
    """
    match code:
        case TrapCode.OUT_OF_INSTRUCTIONS:
            return LimitTrap(
                f"Canister exceeded the limit of {instruction_limit} instructions for single "
                "message execution.",
                limit=INSTRUCTIONS,
            )
        case TrapCode.STABLE_OUT_OF_BOUNDS:
            return OutOfBoundsTrap(OUT_OF_BOUNDS)
        case TrapCode.HEAP_OUT_OF_BOUNDS:
            return OutOfBoundsTrap(HEAP_OUT_OF_BOUNDS)
        case TrapCode.TOO_BIG_FOR_32_BITS:
            return Trap(MEMORY_TOO_BIG_FOR_32_BITS)
        case TrapCode.ACCESSED_LIMIT | TrapCode.DIRTY_LIMIT:
            assert limits is not None
            is_access = code == TrapCode.ACCESSED_LIMIT
            return accessed_trap(limits) if is_access else dirty_trap(limits)
    return _other_trap(code, text, wasm_trap)


def _other_trap(code: int, text: str, wasm_trap: str | None) -> Trap:
    match code:
        case TrapCode.CALLED:
            # Of what the module itself traps for, only this is a limit of the message.
            is_limit = GROW_FAILED in text
            return LimitTrap(text, limit=STABLE_MEMORY_BYTES) if is_limit else Trap(text)
        case TrapCode.NO_MEANING:
            return Trap(
                f"ic0.{text} has no meaning here: there is one canister and no network; "
                "leave the call out, or test it with PocketIC"
            )
        case TrapCode.CONTRACT:
            return Trap(f"Canister violated contract: ic0.{text}")
        case TrapCode.NO_MEMORY:
            return Trap("this computer has no memory left for the message; let it do less")
        case TrapCode.INJECTED:
            return Trap("injected trap")
    assert code == TrapCode.WASM, code
    words = WASM_TRAPS.get(wasm_trap or "", OTHER)
    return OutOfBoundsTrap(words) if words == HEAP_OUT_OF_BOUNDS else Trap(words)
