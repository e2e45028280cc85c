"""Calling WebAssembly functions quickly: the unchecked call of wasmtime's C interface.

The public way of wasmtime-py looks up a function's type at each call, which takes longer than most
messages. The unchecked call takes numbers from one buffer and leaves the result there. It belongs
to what wasmtime-py keeps private, so where it is not as expected the public way takes over, with
one warning. Both are checked to give the same in tests/test_wasm_engine.py.
"""

import ctypes
import warnings
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Final

from sqlstable.wasm.program import wasmtime_module

if TYPE_CHECKING:
    import wasmtime

Call = Callable[..., int]
"""Calls one function with whole numbers; returns its result, a signed number, or anything where it
has none. A trap is raised as ``wasmtime.Trap``."""

_PARAMETERS_MAX: Final = 4


class Trampoline:
    """Makes quick calls of the functions of one store."""

    def __init__(self, store: "wasmtime.Store") -> None:
        self._store = store
        self._quick = _quick_call()
        self._context = 0
        self._traps: list[ctypes.c_void_p] = []
        if self._quick is not None:
            context = ctypes.cast(store._context(), ctypes.c_void_p).value  # noqa: SLF001  see above
            assert context is not None
            self._context = context

    def call_of(self, function: "wasmtime.Func", parameter_count: int) -> Call:
        """Return what calls ``function``.

        Args:
            function: One that takes and gives i32 and i64 only.
            parameter_count: How many numbers it takes; at most four.
        """
        assert parameter_count <= _PARAMETERS_MAX
        if self._quick is None:
            return self._slow_call(function, parameter_count)
        return self._quick_call(function, parameter_count)

    def forget_traps(self) -> None:
        """Free the traps of calls that an exception from outside cut off before they were told."""
        for trap in self._traps:
            if trap.value:
                _error_of(None, trap)

    def _quick_call(self, function: "wasmtime.Func", parameter_count: int) -> Call:
        quick, context = self._quick, self._context
        assert quick is not None
        raw = function._func  # noqa: SLF001  see above
        target = ctypes.addressof(raw)
        slots = max(parameter_count, 1)
        # A value is 16 bytes, of which a number takes the first eight.
        buffer = (ctypes.c_int64 * (2 * slots))()
        values = ctypes.addressof(buffer)
        trap = ctypes.c_void_p()
        trap_address = ctypes.addressof(trap)
        self._traps.append(trap)

        # What the addresses point at must live as long as the function.
        def call(*numbers: int, keep: Any = (raw, buffer, trap)) -> int:  # noqa: ANN401  see there
            place = 0
            for number in numbers:
                buffer[place] = number
                place += 2
            error = quick(context, target, values, slots, trap_address)
            if error or trap.value:
                raise _error_of(error, trap)
            return buffer[0]

        return call

    def _slow_call(self, function: "wasmtime.Func", parameter_count: int) -> Call:
        store = self._store

        def call(*numbers: int) -> int:
            assert len(numbers) == parameter_count
            result = function(store, *numbers)
            return 0 if result is None else int(result)

        return call


@cache
def _quick_call() -> Callable[[int, int, int, int, int], int | None] | None:
    try:
        # The prototype is our own: plain addresses, which take no conversion.
        prototype = ctypes.CFUNCTYPE(
            ctypes.c_void_p,
            ctypes.c_void_p,
            ctypes.c_void_p,
            ctypes.c_void_p,
            ctypes.c_size_t,
            ctypes.c_void_p,
        )
        ffi = _private_interface()
        assert ctypes.sizeof(ffi.wasmtime_val_raw_t) == 2 * ctypes.sizeof(ctypes.c_int64)
        function = prototype(("wasmtime_func_call_unchecked", ffi.dll))
    except (ImportError, AttributeError, AssertionError):
        warnings.warn(
            "this release of wasmtime keeps its unchecked call elsewhere; the wasm engine works, "
            "but small messages take several times as long",
            RuntimeWarning,
            stacklevel=2,
        )
        return None
    return function


class Globals:
    """The mutable globals of a module, all read and all set at once.

    References are read and set like numbers: functions belong to the store as long as it lives, and
    of other things a canister has nothing but the null reference.
    """

    def __init__(self, store: "wasmtime.Store", found: "list[wasmtime.Global]") -> None:
        """Take them; they go the quick way, and where that is not there, the public one."""
        self._store = store
        self._globals = found
        self._is_quick = _quick_call() is not None
        if not self._is_quick:
            return
        ffi = _private_interface()
        context = ctypes.cast(store._context(), ctypes.c_void_p).value  # noqa: SLF001  see above
        prototype = ctypes.PYFUNCTYPE(ctypes.c_void_p, *[ctypes.c_void_p] * 3)
        get = partial(prototype(("wasmtime_global_get", ffi.dll)), context)
        set_ = partial(prototype(("wasmtime_global_set", ffi.dll)), context)
        self._buffer = (ffi.wasmtime_val_t * len(found))()
        size = ctypes.sizeof(ffi.wasmtime_val_t)
        start = ctypes.addressof(self._buffer)
        places = [
            (ctypes.addressof(each._global), start + index * size)  # noqa: SLF001  see above
            for index, each in enumerate(found)
        ]
        self._gets = [partial(get, *place) for place in places]
        self._sets = [partial(set_, *place) for place in places]
        self._size = size * len(found)

    def values(self) -> Any:  # noqa: ANN401  for `set_values` only
        """Return what they hold."""
        if not self._is_quick:
            return [each.value(self._store) for each in self._globals]
        for get in self._gets:
            get()
        return ctypes.string_at(self._buffer, self._size)

    def set_values(self, values: Any) -> None:  # noqa: ANN401  what `values` returned
        """Let them hold what they did."""
        if not self._is_quick:
            for each, value in zip(self._globals, values, strict=True):
                each.set_value(self._store, value)
            return
        ctypes.memmove(self._buffer, values, self._size)
        for set_ in self._sets:
            error = set_()
            if error:
                raise _error_of(error, ctypes.c_void_p())

    def typed(self) -> list[tuple[str, Any]]:
        """Return the type and the value of each that holds a number, or a vector as a number."""
        found = self._numeric()
        if not self._is_quick:
            return [(kind, self._globals[index].value(self._store)) for index, kind in found]
        self.values()
        return [(kind, _value_of(self._buffer[index], kind)) for index, kind in found]

    def set_typed(self, values: Sequence[tuple[str, Any]]) -> None:
        """Let them hold what `typed` returned."""
        self.values()
        for (index, kind), (_, value) in zip(self._numeric(), values, strict=True):
            if not self._is_quick or kind != VECTOR:
                self._globals[index].set_value(self._store, value)
                continue
            raw = value.to_bytes(_VECTOR_BYTES, "little")
            ctypes.memmove(self._buffer[index].of.v128, raw, _VECTOR_BYTES)
            error = self._sets[index]()
            assert not error

    def _numeric(self) -> list[tuple[int, str]]:
        """Return index and type of those that hold numbers."""
        if self._is_quick:
            self.values()
            kinds = [_NUMERIC_KINDS.get(int(value.kind)) for value in self._buffer]
        else:
            types = [str(one.type(self._store).content) for one in self._globals]
            kinds = [kind if kind in _NUMERIC_KINDS.values() else None for kind in types]
        return [(index, kind) for index, kind in enumerate(kinds) if kind is not None]


VECTOR: Final = "v128"

_VECTOR_BYTES: Final = 16

_NUMERIC_KINDS: Final = {0: "i32", 1: "i64", 2: "f32", 3: "f64", 4: VECTOR}
"""Source: wasmtime's include/wasmtime/val.h, ``WASMTIME_I32`` and following."""


def _value_of(raw: Any, kind: str) -> Any:  # noqa: ANN401  a ``wasmtime_val_t``
    if kind == VECTOR:
        return int.from_bytes(bytes(raw.of.v128), "little")
    return getattr(raw.of, kind)


def _private_interface() -> Any:  # noqa: ANN401  a module
    wasmtime_module()
    from wasmtime import _ffi  # noqa: PLC0415  slow to import

    return _ffi


def _error_of(error: int | None, trap: ctypes.c_void_p) -> Exception:
    """Return what a call ended with as wasmtime's own exception, which frees it."""
    wasmtime, ffi = wasmtime_module(), _private_interface()
    if trap.value:
        found = ctypes.cast(trap.value, ctypes.POINTER(ffi.wasm_trap_t))
        trap.value = None
        raised: Exception = wasmtime.Trap._from_ptr(found)  # noqa: SLF001  see above
        return raised
    assert error
    pointer = ctypes.cast(error, ctypes.POINTER(ffi.wasmtime_error_t))
    failed: Exception = wasmtime.WasmtimeError._from_ptr(pointer)  # noqa: SLF001
    return failed
