"""The shim: stable memory and the system calls of a canister, as a WebAssembly module.

``shim.wat``, beside this file, is the shim; it says what it does. This file assembles it, and
describes what a driver reads and sets there as data, so that no name or offset stands anywhere
else.
"""

import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Final, NamedTuple

from sqlstable.ic.prices import SystemCosts

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

_NAME: Final = re.compile(r'@"([^"]*)"')


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
    ("mark", "instructions", "log_count", "page_charges", "heap_regions", "heap_os_pages"),
)
"""Borders of phases, with what the message had used and done when each was passed.

The last two are counted where a statement begins (mark 1), with heap marks: Wasm pages of the heap
accessed, and written in the upper 32 bits; OS pages of it written.
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


@dataclass(frozen=True, slots=True)
class Buffer:
    """Bytes that a call takes or leaves."""

    memory: str
    "Name of the exported memory"
    size: str
    "Name of the exported global that holds their number"
    offset: int = 0
    "Where in the memory they begin"


ARGUMENT: Final = Buffer("argument", "argument_size")
REPLY: Final = Buffer("reply", "reply_size")
"""The reply; the message of a reject, where ``answer`` is 2."""

DEBUG: Final = Buffer("debug", "debug_size")
"""Debug prints of the message, each behind its length in four bytes."""

TEXT: Final = Buffer("text", "text_size")
"""What a trap says, for `sqlstable.wasm.traps.trap_of`."""

CALLER: Final = Buffer("principals", "caller_size", 0)
SELF: Final = Buffer("principals", "self_size", 64)
CONTROLLER: Final = Buffer("principals", "controller_size", 128)
SUBNET: Final = Buffer("principals", "subnet_size", 192)
CERTIFIED_DATA: Final = Buffer("principals", "certified_size", 256)

_NAMES_OFFSET: Final = 1024
"""Where the shim's constant texts begin, in the same memory."""

PRINCIPAL_BYTES_MAX: Final = 29
"""Source: dfinity/developer-docs docs/references/ic-interface-spec, textual representation."""


def cost_globals(costs: SystemCosts) -> dict[str, int]:
    """Return the values of the shim's globals of costs.

    Examples:
        >>> cost_globals(SystemCosts())["charge_stable_access"]
        20
    """
    return {f"charge_{name}": getattr(costs, name) for name in SystemCosts.__dataclass_fields__}


def shim_text() -> str:
    """Return the shim in the text format, with its names put into a memory.

    Examples:
        >>> '(data (memory $principals) (i32.const 1024)' in shim_text()
        True
    """
    text = (files("sqlstable.wasm") / "shim.wat").read_text(encoding="utf-8")
    names = ""
    places: dict[str, int] = {}

    def placed(match: re.Match[str]) -> str:
        nonlocal names
        name = match.group(1)
        if name not in places:
            places[name] = _NAMES_OFFSET + len(names)
            names += name
        return f"(i32.const {places[name]}) (i32.const {len(name)})"

    code = "\n".join(_NAME.sub(placed, line.partition(";;")[0]) for line in text.splitlines())
    end = code.rindex(")")
    data = f'(data (memory $principals) (i32.const {_NAMES_OFFSET}) "{names}")'
    return f"{code[:end]}{data})\n"


@cache
def shim() -> bytes:
    r"""Return the shim in the binary format.

    Raises:
        ImportError: wasmtime is missing.

    Examples:
        >>> shim()[:4]
        b'\x00asm'
    """
    from wasmtime import wat2wasm  # noqa: PLC0415  slow to import

    return bytes(wat2wasm(shim_text()))
