"""The shim: stable memory and the system calls of a canister, as a WebAssembly module.

The files in ``shim/``, beside this one, are the shim; ``memory.wat`` and ``calls.wat`` say what it
does. This file assembles it, for heaps with 32-bit and with 64-bit addresses, and describes what a
driver reads and sets there as data, so that no name or offset stands anywhere else.
"""

import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Final, NamedTuple

from sqlstable.ic.prices import SystemCosts
from sqlstable.ic.units import GIB, WASM_PAGE_BYTES
from sqlstable.wasm.rewrite.heap_marks import EXTRA_CELLS, MARKS_BYTES, MARKS_WASM_PAGES
from sqlstable.wasm.shimtext import calls_put_in, default_environment

KEEP_NOTHING: Final = 0
BY_MARKS: Final = 1
WHOLE: Final = 2
"""How ``commit`` keeps the heap and ``rollback`` restores it: not at all, by its marks, whole."""

INSTRUCTIONS_MAX: Final = 1 << 62
"""Largest instruction limit of a message, and the one that stands for none.

Borders give back what they cost, so that a counter at its very end would wrap around.
"""

BORDER: Final = 0x53
"""Low byte of the counter type with which a module marks the border of a phase."""

BORDER_OPERATORS: Final = "i32.const call drop"
"""What a module marks it by; the shim gives back what they cost, so that borders are free."""

HEAP_WASM_PAGES_MAX: Final = {False: 4 * GIB // WASM_PAGE_BYTES, True: 6 * GIB // WASM_PAGE_BYTES}
"""How large a heap may become, by whether its addresses have 64 bits.

Source: dfinity/developer-docs docs/references/resource-limits.md @ b58cf042, 2026-08-18.
"""

WRITTEN: Final = {False: 1 << 20, True: 1 << 21}
"""Where the second array of heap marks begins, likewise; the size of each."""

_NAME: Final = re.compile(r'@"([^"]*)"')


DRIVER_CALLS: Final = {
    "begin_message": 3,
    "begin_call": 2,
    "reserve_environment": 1,
    "reserve_kept": 0,
    "commit": 1,
    "rollback": 1,
    "tell": 0,
    "settle": 0,
    "host_access": 3,
    "enter_access": 3,
    "host_grow": 2,
    "stable64_size": 0,
    "set_stable_size": 1,
    "keep_heap": 1,
    "reset_heap": 1,
}
"""The shim's functions for the driver, and how many numbers each takes."""

OF_DRIVER_ONLY: Final = frozenset(
    {*DRIVER_CALLS, "count_heap", "heap_charge", "statement"} - {"stable64_size"}
)
"""Functions of the shim that are no system calls, whatever a module imports."""


@dataclass(frozen=True, slots=True)
class List:
    """A list of records that a message fills."""

    memory: str
    "Name of the exported memory; records lie in it from byte 0 on"
    count: str
    "Name of the exported global that counts records"
    columns: tuple[str, ...]
    "Numbers of a record: signed 64-bit, little-endian"


ACCESSED: Final = List("accessed", "accessed_count", ("os_page",))
"""Stable OS pages accessed, in the order of their first access."""

DIRTY: Final = List("dirty", "dirty_count", ("os_page",))
"""Stable OS pages written, in the order of their first write."""

LOG: Final = List("log", "log_count", ("kind", "address", "length"))
"""Calls on stable memory, kinds as in `sqlstable.ic.words`.

Address and length are what the call was given, which may pass 2^63 where nothing was moved.
"""

OF_DRIVER: Final = 8
"""Beside a kind in `LOG`: an access of the driver's own, which costs nothing."""

BORDERS: Final = List(
    "borders",
    "border_count",
    (
        *("mark", "instructions", "log_count", "page_charges", "heap_regions", "heap_os_pages"),
        *("extra_2023", "extra_flat", "charged_os_pages_dirty"),
        *("charged_regions_accessed", "charged_regions_dirty"),
    ),
)
"""Borders of phases, with what the message had used and done when each was passed.

Those of the heap are counted where a statement begins (mark 1), with heap marks: Wasm pages
accessed, and written in the upper 32 bits; OS pages written, as they are charged. The last ones are
as in `ShimStatus`.
"""

LISTS: Final = (ACCESSED, DIRTY, LOG, BORDERS)


class ShimStatus(NamedTuple):
    """What ``tell`` writes into the memory ``status``, in this order, eight bytes each."""

    counter: int
    trap_code: int
    answer: int
    reply_size: int
    text_size: int
    debug_size: int
    accessed_count: int
    dirty_count: int
    log_count: int
    border_count: int
    page_charges: int
    stable_size: int
    "In Wasm pages, as the open message sees it."
    heap_size: int
    heap_os_pages_accessed: int
    heap_os_pages_written: int
    heap_regions_accessed: int
    heap_regions_written: int
    heap_os_pages_priced: int
    "OS pages written as they are charged, each group of four as one where those of 16 KiB are."
    extra_2023: int
    """What the weights of 2023 count beyond today's, see
    `sqlstable.wasm.rewrite.metering.EXTRAS`."""
    extra_flat: int
    "Likewise the flat ones; it is negative."
    charged_os_pages_dirty: int
    "Stable OS pages that the canister was the first to write, counted as they are charged."
    charged_regions_accessed: int
    charged_regions_dirty: int


@dataclass(frozen=True, slots=True)
class Buffer:
    """Bytes that a call takes or leaves."""

    memory: str
    "Name of the exported memory"
    size: str
    "Name of the exported global that holds their number"


ARGUMENT: Final = Buffer("argument", "argument_size")
REPLY: Final = Buffer("reply", "reply_size")
"""The reply; the message of a reject, where ``answer`` is 2."""

DEBUG: Final = Buffer("debug", "debug_size")
"""Debug prints of the message, each behind its length in four bytes."""

TEXT: Final = Buffer("text", "text_size")
"""What a trap says, for `sqlstable.wasm.traps.trap_of`."""

SHIM_NAME: Final = "sqlstable:shim"
"""What the shim is called in backtraces."""


def cost_globals(costs: SystemCosts) -> dict[str, int]:
    """Return the values of the shim's globals of costs.

    Examples:
        >>> cost_globals(SystemCosts())["charge_stable_access"]
        20
    """
    return {f"charge_{name}": getattr(costs, name) for name in SystemCosts.__dataclass_fields__}


_POINTERS: Final = {
    False: {
        r"\bi64\.of_ptr\b": "i64.extend_i32_u",
        r"\bptr\.of_i64\b": "i32.wrap_i64",
        r"\b(i32\.of_ptr|ptr\.of_i32)\b": "block (result i32)",
        r"\bptr\b": "i32",
    },
    True: {
        r"\b(i64\.of_ptr|ptr\.of_i64)\b": "block (result i64)",
        r"\bi32\.of_ptr\b": "i32.wrap_i64",
        r"\bptr\.of_i32\b": "i64.extend_i32_u",
        r"\bptr\b": "i64",
    },
}
"""What stands for the words on heap addresses, by whether they have 64 bits; conversions first,
which have the type in their names.

Where there is nothing to convert, a block that gives its operand stands for it.
"""


def pointers_put_in(text: str, *, is_64: bool) -> str:
    """Return a text of the shim with one type of heap addresses in the place of ``ptr``.

    Examples:
        >>> pointers_put_in("(ptr.add (ptr.of_i64 (local.get $a)) (ptr.const 1))", is_64=False)
        '(i32.add (i32.wrap_i64 (local.get $a)) (i32.const 1))'
        >>> pointers_put_in("(ptr.add (ptr.of_i64 (local.get $a)) (ptr.const 1))", is_64=True)
        '(i64.add (block (result i64) (local.get $a)) (i64.const 1))'
    """
    numbers = {
        "HEAP_WASM_PAGES_MAX": HEAP_WASM_PAGES_MAX[is_64],
        "MARKS_WASM_PAGES": MARKS_WASM_PAGES[is_64],
        "CELLS_START": MARKS_BYTES[is_64],
        "CELLS_BYTES": 8 * EXTRA_CELLS[is_64],
        "WRITTEN": WRITTEN[is_64],
    }
    for name, number in numbers.items():
        text = re.sub(rf"\b{name}\b", str(number), text)
    for pattern, replacement in _POINTERS[is_64].items():
        text = re.sub(pattern, replacement, text)
    return text


_PARTS: Final = ("memory.wat", "calls.wat", "cycles.wat", "outgoing.wat", "statements.wat")


def _part(name: str) -> str:
    """Return one part of the shim without its comments."""
    text = (files("sqlstable.wasm") / "shim" / name).read_text(encoding="utf-8")
    return "\n".join(line.partition(";;")[0] for line in text.splitlines())


def shim_text(*, is_64: bool = False) -> str:
    """Return the shim in the text format, with its names put into a memory.

    Args:
        is_64: Whether addresses of the heap have 64 bits.

    Examples:
        >>> '(data (memory $words) (i64.const 0)' in shim_text()
        True
    """
    names = ""
    places: dict[str, int] = {}

    def placed(match: re.Match[str]) -> str:
        nonlocal names
        name = match.group(1)
        if name not in places:
            places[name] = len(names)
            names += name
        return f"(i64.const {places[name]}) (i64.const {len(name)})"

    text = calls_put_in("\n".join(map(_part, _PARTS)))
    code = pointers_put_in(_NAME.sub(placed, text), is_64=is_64)
    data = f'(data (memory $words) (i64.const 0) "{names}")'
    return f"(module ${SHIM_NAME}\n{code}\n{data}\n{default_environment()})\n"


@cache
def shim(*, is_64: bool = False) -> bytes:
    r"""Return the shim in the binary format.

    Args:
        is_64: Whether addresses of the heap have 64 bits.

    Raises:
        ImportError: wasmtime is missing.

    Examples:
        >>> shim()[:4]
        b'\x00asm'
    """
    from wasmtime import wat2wasm  # noqa: PLC0415  slow to import

    return bytes(wat2wasm(shim_text(is_64=is_64)))
