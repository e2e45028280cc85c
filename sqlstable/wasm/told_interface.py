"""The interface that a module tells when it is asked, by a function for that purpose.

A module of Rust that was built by cargo alone has no ``candid:service`` section; but
``ic_cdk::export_candid!`` has it export a function that gives the address of its interface, as text
that a zero byte ends. It is asked on an instance of its own, of which nothing remains.

Source of the function's name and meaning:
    crate candid-extractor 0.1.6, which dfx builds use to write the section.
"""

from typing import Final

from sqlstable.errors import SqlstableError
from sqlstable.wasm.instance import Instance
from sqlstable.wasm.program import Program, wasmtime_module

POINTER_EXPORT: Final = "get_candid_pointer"

_INSTRUCTIONS_MAX: Final = 500_000_000
"""Writing out an interface takes some 100,000."""


def told_interface(program: Program) -> str | None:
    """Return the interface that a module tells, in Candid's words; None where it tells none.

    Args:
        program: The module's. It is not changed by that, and nobody counts it.
    """
    if POINTER_EXPORT not in program.layout.exports:
        return None
    instance = Instance(program, stable_wasm_pages_max=0, limits=None)
    try:
        instance.begin_message(_INSTRUCTIONS_MAX, 0, 0)
        address = instance.joined.address_from(POINTER_EXPORT)
        heap = instance.heap_bytes()
        end = -1 if address is None else heap.find(b"\0", address)
        return None if address is None or end < 0 else heap[address:end].decode()
    except (wasmtime_module().Trap, SqlstableError, UnicodeDecodeError):
        return None
    finally:
        instance.close()
