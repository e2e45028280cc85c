"""Why a message trapped, and what the Internet Computer says about it.

The shim and the rewritten module leave a number in the global ``trap_code`` before they trap;
0 there means that WebAssembly itself trapped. `trap_of` turns it into the exception that the native
engine would raise, with the same words.

Source of the words:
    dfinity/ic rs/interfaces/src/execution_environment/errors.rs, 2025-10-31.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from sqlstable.errors import ContractTrap, LimitTrap, OutOfBoundsTrap, ReplyTrap, Trap
from sqlstable.ic.limits import Limits
from sqlstable.ic.words import INSTRUCTIONS, REPLY_BYTES, STABLE_MEMORY_BYTES, STACK_OVERFLOW
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
    """The module asked for something that cannot be had here; the text is what."""

    CONTRACT = 9
    """The module used a system call in a way that is not allowed; the text says how."""

    NO_MEMORY = 10
    """A list of the shim could not grow: this computer has no memory left."""

    INJECTED = 11
    """A test asked for it, by the shim's global ``trap_at``."""

    WRONG_CONTEXT = 12
    """The module used a system call where it may not; the text is its name."""

    SLICE = 13
    """A system call was given bytes that reach beyond what there is; the text says of what."""

    CYCLES_SLICE = 14
    """Likewise for the 16 bytes of an amount of cycles; the text is the call's name."""

    CYCLES_TOO_BIG = 15
    """An amount of cycles has more than 64 bits, and the call returns only so many."""

    INVALID_PRINCIPAL = 16

    OUT_OF_CYCLES = 17
    """A call was to take more cycles than there are."""

    PLAIN = 18
    """As `CONTRACT`, and the text is all."""


WASM_TRAPS: Final = {
    "UNREACHABLE": "unreachable",
    "INTEGER_DIVISION_BY_ZERO": "integer division by 0",
    "STACK_OVERFLOW": STACK_OVERFLOW,
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


@dataclass(frozen=True, slots=True)
class TrapWords:
    """What a text of the shim leaves open."""

    numbers: tuple[int, int, int] = (0, 0, 0)
    names: Mapping[str, str] = field(default_factory=dict)
    """``said``: what the canister said itself; ``self``, ``minting``, ``callee``: principals;
    ``method``: of the call under construction; ``mode``: where the code ran."""


def trap_of(
    code: int,
    *,
    text: str = "",
    wasm_trap: str | None = None,
    limits: Limits | None = None,
    instruction_limit: int = 0,
    words: TrapWords | None = None,
) -> Trap:
    """Return the exception for a trap.

    Args:
        code: A `TrapCode`.
        text: The shim's text.
        wasm_trap: Name of the ``wasmtime.TrapCode``, where ``code`` is `TrapCode.WASM`.
        limits: Those of the message; needed where one was crossed.
        instruction_limit: That of the message.
        words: What the text leaves open.

    Examples:
        >>> trap_of(TrapCode.OUT_OF_INSTRUCTIONS, instruction_limit=40).args[0]
        'Canister exceeded the limit of 40 instructions for single message execution.'
        >>> trap_of(TrapCode.WASM, wasm_trap="INTEGER_DIVISION_BY_ZERO").args[0]
        'integer division by 0'
    """
    if code in _CONTRACT_CODES:
        return _contract_trap(code, text, words or TrapWords())
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
        case TrapCode.ACCESSED_LIMIT | TrapCode.DIRTY_LIMIT:
            assert limits is not None
            is_access = code == TrapCode.ACCESSED_LIMIT
            return accessed_trap(limits) if is_access else dirty_trap(limits)
    return _other_trap(code, text, wasm_trap)


_CONTRACT_CODES: Final = frozenset(
    (
        *(TrapCode.CONTRACT, TrapCode.WRONG_CONTEXT, TrapCode.SLICE, TrapCode.CYCLES_SLICE),
        *(TrapCode.INVALID_PRINCIPAL, TrapCode.OUT_OF_CYCLES, TrapCode.PLAIN),
    )
)


def _contract_trap(code: int, text: str, words: TrapWords) -> Trap:
    """Return the trap for a system call that was used in a wrong way.

    Source:
        dfinity/ic rs/embedders/src/wasmtime_embedder/system_api.rs error_for, valid_subslice and
        copy_cycles_to_heap @ 1bc0a5953, 2025-10-31. A blank is missing in one there, too.
    """
    names, (at, size, have) = words.names, words.numbers
    match code:
        case TrapCode.INVALID_PRINCIPAL:
            return ContractTrap("Canister provided invalid principal id")
        case TrapCode.OUT_OF_CYCLES:
            return ContractTrap(f"Canister {names.get('self', '')} is out of cycles")
        case TrapCode.PLAIN:
            return ContractTrap(_filled(text, words))
        case TrapCode.WRONG_CONTEXT:
            said = f'"{text}" cannot be executed in {names.get("mode", "")} mode'
        case TrapCode.CYCLES_SLICE:
            said = (
                f"{text} failed because dst + size is out of bounds.Found dst = {at} and "
                f"size = {size} while must be <= {have}"
            )
        case TrapCode.SLICE:
            is_address = at + size < 1 << 64
            end = f"exceeds the slice size={have}" if is_address else "is an invalid address"
            said = f"{text}: src={at} + length={size} {end}"
        case _:
            said = _filled(text, words)
    if text.startswith(_REPLY_TOO_LARGE):
        return ReplyTrap(f"{CONTRACT_VIOLATED}{said}", limit=REPLY_BYTES)
    return ContractTrap(f"{CONTRACT_VIOLATED}{said}")


_REPLY_TOO_LARGE: Final = (
    "ic0.msg_reply_data_append: application payload size",
    "ic0.msg_reject: application payload size",
)
"""How the shim's words begin where a reply is too large."""


CONTRACT_VIOLATED: Final = "Canister violated contract: "
"""How the words of most of these begin."""


def _filled(text: str, words: TrapWords) -> str:
    return text.format(*words.numbers, **words.names)


_WORDS: Final = {
    TrapCode.TOO_BIG_FOR_32_BITS: MEMORY_TOO_BIG_FOR_32_BITS,
    TrapCode.CYCLES_TOO_BIG: "cycles amount exceeds 64-bit representation",
    TrapCode.NO_MEMORY: "this computer has no memory left for the message; let it do less",
    TrapCode.INJECTED: "injected trap",
}


def _other_trap(code: int, text: str, wasm_trap: str | None) -> Trap:
    if code == TrapCode.CALLED:
        # Of what the module itself traps for, only this is a limit of the message.
        is_limit = GROW_FAILED in text
        return LimitTrap(text, limit=STABLE_MEMORY_BYTES) if is_limit else Trap(text)
    if code == TrapCode.NO_MEANING:
        return Trap(
            f"ic0.{text} has no meaning here: there is no network; leave the call out, or "
            "test it with PocketIC"
        )
    if code != TrapCode.WASM:
        return Trap(_WORDS[TrapCode(code)])
    words = WASM_TRAPS.get(wasm_trap or "", OTHER)
    return OutOfBoundsTrap(words) if words == HEAP_OUT_OF_BOUNDS else Trap(words)
