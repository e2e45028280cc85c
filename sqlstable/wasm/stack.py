"""How deep a canister's calls may go, and whether the thread that runs it has so much stack.

WebAssembly runs on the stack of the thread that calls it. wasmtime traps where a canister has used
`WASM_STACK_BYTES` of it; a thread that has less would end the process instead.
"""

import ctypes
import sys
import threading
from contextlib import suppress
from typing import Any, Final

from sqlstable.errors import SettingsError
from sqlstable.ic.units import MIB

WASM_STACK_BYTES: Final = 5 * MIB
"""What a replica gives a canister.

Source: dfinity/ic rs/embedders/src/wasmtime_embedder.rs MAX_WASM_STACK_SIZE.
"""

HOST_STACK_BYTES: Final = MIB
"""What Python and wasmtime need beside it."""

_SMALL_STACK_BYTES: Final = MIB // 2
"""wasmtime's own choice, for systems whose main thread has no room for more."""

_ATTRIBUTES_BYTES: Final = 256
"""More than a ``pthread_attr_t`` has anywhere."""

_checked = threading.local()


def wasm_stack_bytes() -> int:
    """Return how much stack a canister gets on this system.

    Examples:
        >>> wasm_stack_bytes() > 0
        True
    """
    return _SMALL_STACK_BYTES if sys.platform == "win32" else WASM_STACK_BYTES


def set_stack(config: Any) -> None:  # noqa: ANN401  wasmtime's
    """Give canisters their stack in a configuration of wasmtime."""
    size = wasm_stack_bytes()
    # A stack of its own, for asynchronous calls, which there are none of, must be larger; and
    # only wasmtime's C interface sets it.
    from wasmtime import _ffi  # noqa: PLC0415  optional

    _ffi.wasmtime_config_async_stack_size_set(config.ptr(), size + HOST_STACK_BYTES)
    config.max_wasm_stack = size


def check_thread() -> None:
    """Insist that this thread has the stack that a canister may use.

    Raises:
        SettingsError: It has less.
    """
    if getattr(_checked, "is_large", False):
        return
    found, needed = thread_stack_bytes(), wasm_stack_bytes() + HOST_STACK_BYTES
    if found is not None and found < needed:
        raise SettingsError(
            f"this thread has a stack of {found // 1024} KiB, and the wasm engine needs "
            f"{needed // 1024}, since a canister may use {wasm_stack_bytes() // 1024} of them; "
            "call threading.stack_size(8 * 1024 * 1024) before the thread is made, or, for the "
            "main thread, `ulimit -s 8192` before Python"
        )
    _checked.is_large = True


def thread_stack_bytes() -> int | None:
    """Return how large the stack of this thread is, or None where the system does not say."""
    if sys.platform == "linux":
        if threading.get_native_id() == threading.main_thread().native_id:
            # It grows as it is used, and what the C library says of it varies.
            import resource  # noqa: PLC0415  not on every system

            limit = resource.getrlimit(resource.RLIMIT_STACK)[0]
            return None if limit == resource.RLIM_INFINITY else limit
        with suppress(OSError, AttributeError):
            return _linux_thread_stack_bytes()
    return None


def _linux_thread_stack_bytes() -> int | None:
    library = ctypes.CDLL(None)
    library.pthread_self.restype = ctypes.c_void_p
    attributes = ctypes.create_string_buffer(_ATTRIBUTES_BYTES)
    address, size = ctypes.c_void_p(), ctypes.c_size_t()
    thread = ctypes.c_void_p(library.pthread_self())
    if library.pthread_getattr_np(thread, attributes) != 0:
        return None
    library.pthread_attr_getstack(attributes, ctypes.byref(address), ctypes.byref(size))
    library.pthread_attr_destroy(attributes)
    return size.value
