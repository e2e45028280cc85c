"""A small assembler for the functions that the rewriter adds to a module."""

from typing import Final

from sqlstable.wasm.rewrite.binary import VALUE_TYPES
from sqlstable.wasm.rewrite.bytereader import signed, unsigned
from sqlstable.wasm.rewrite.operators import CODES, LOADS, STORES

_BLOCK_TYPES: Final = {"empty": 0x40, **{name: code for code, name in VALUE_TYPES.items()}}
_BLOCKS: Final = frozenset(("block", "loop", "if"))
_SIGNED: Final = frozenset(("i32.const", "i64.const"))
_INDEXED: Final = frozenset(
    (
        *("local.get", "local.set", "local.tee", "global.get", "global.set"),
        *("call", "br", "br_if", "data.drop"),
    )
)
_FIXED: Final = {
    "memory.size": b"\0",
    "memory.grow": b"\0",
    "memory.copy": b"\0\0",
    "memory.fill": b"\0",
}
_OTHER_MEMORY: Final = 0x40


def assemble(text: str, **names: int) -> bytes:
    """Return the code of operators written as words.

    A load or store is followed by the index of its memory and its offset; its alignment is that of
    a byte. A block is followed by the type of its result, or ``empty``.

    Args:
        text: Operators and their immediates, separated by white space.
        names: What words stand for that are neither operators nor numbers.

    Examples:
        >>> assemble("local.get 0 i32.const -1 i32.store8 1 heap", heap=128).hex()
        '2000417f3a40018001'
    """
    words = iter(text.split())

    def number() -> int:
        word = next(words)
        return names[word] if word in names else int(word)

    parts = []
    for word in words:
        parts.append(CODES[word])
        if word in _BLOCKS:
            parts.append(bytes([_BLOCK_TYPES[next(words)]]))
        elif word in _SIGNED:
            parts.append(signed(number()))
        elif word in _INDEXED:
            parts.append(unsigned(number()))
        elif word == "memory.init":
            parts.append(unsigned(number()) + b"\0")
        elif word in _FIXED:
            parts.append(_FIXED[word])
        elif word in LOADS or word in STORES:
            memory = number()
            parts.append(bytes([_OTHER_MEMORY, memory]) if memory else b"\0")
            parts.append(unsigned(number()))
    return b"".join(parts)
