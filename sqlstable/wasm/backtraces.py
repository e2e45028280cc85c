"""Which functions of a canister were running when it trapped, as a replica names them.

Source of the words:
    dfinity/ic rs/interfaces/src/execution_environment/errors.rs, CanisterBacktrace, 2025-10-31.
"""

import re
from typing import Any, Final

from sqlstable.wasm.shim import SHIM_NAME

BACKTRACE_TITLE: Final = "Canister Backtrace:"
"""Stands before the names where a replica prints them, each in a line of its own."""

_RUST_HASH: Final = re.compile(r"::h[0-9a-f]{16}$")
"""What the Rust compiler puts behind the name of each function."""


def backtrace_of(trap: Any, function_count: int) -> tuple[str, ...]:  # noqa: ANN401  wasmtime's
    """Return the functions that were running, the innermost first.

    Args:
        trap: A ``wasmtime.Trap``.
        function_count: Functions of the module as it came, with the imported ones: those behind
            were put in, and are nobody's.
    """
    return tuple(
        function_name(frame.func_name, frame.func_index)
        for frame in trap.frames
        if frame.module_name != SHIM_NAME and frame.func_index < function_count
    )


def function_name(name: str | None, index: int) -> str:
    """Return how a replica names a function.

    Args:
        name: From the module's section of names.
        index: Of the function.

    Examples:
        >>> function_name("shop::add::h0123456789abcdef", 3), function_name(None, 4)
        ('shop::add', 'unknown function at index 4')
    """
    return f"unknown function at index {index}" if name is None else _RUST_HASH.sub("", name)
