"""The hook by which a module tells where its statements begin and end.

A module may export a function ``sqlstable_statement`` that takes the address and the size of a
text, and call it where a statement begins; and with a size of 0 where one ends. On a replica that
function does nothing. Here its first operators are another call, to the shim, which notes where it
was and what has been counted so far; they are put in behind the metering, so that the module costs
what it costs on a replica.

The shim's function is reached through a table of its own with one entry, which the driver fills:
so no function is imported, and the indexes of all others stay.
"""

from dataclasses import replace
from typing import Final

from sqlstable.wasm.rewrite.binary import (
    FUNCREF,
    FUNCTION,
    I32,
    I64,
    TABLE,
    Body,
    Export,
    Module,
    SizeLimits,
    TableType,
)
from sqlstable.wasm.rewrite.bytereader import unsigned

HOOK_EXPORT: Final = "sqlstable_statement"
"""What a module exports that tells of its statements."""

HOOK_TABLE: Final = "sqlstable:statement"
"""What the table is exported as through which the shim's function is called."""


def with_statement_hook(changed: Module, module: Module) -> Module:
    """Let a module's hook call the shim.

    Args:
        changed: The module, rewritten: indexes of its functions and types are those of before.
        module: As it came.

    Returns:
        The same where it exports no hook, or one that takes something else.
    """
    place = _hook_of(module)
    if place is None:
        return changed
    table = len(module.all_tables)
    call = b"".join(
        (
            *(b"\x20\x00", b"\x20\x01", b"\x41\x00"),
            *(b"\x11", unsigned(module.functions[place]), unsigned(table)),
        )
    )
    body = changed.bodies[place]
    code = call + body.data[body.start : body.stop]
    hooked = Body(body.local_groups, body.local_count, code, 0, len(code))
    return replace(
        changed,
        tables=(*changed.tables, TableType(FUNCREF, SizeLimits(1, 1))),
        exports=(*changed.exports, Export(HOOK_TABLE, TABLE, table)),
        bodies=(*changed.bodies[:place], hooked, *changed.bodies[place + 1 :]),
    )


def _hook_of(module: Module) -> int | None:
    """Return which of the module's own functions is its hook."""
    imported = len(module.imported(FUNCTION))
    pointer = I64 if module.is_64 else I32
    for item in module.exports:
        if item.kind == FUNCTION and item.name == HOOK_EXPORT and item.index >= imported:
            place = item.index - imported
            kind = module.types[module.functions[place]]
            if (kind.parameters, kind.results) == (bytes((pointer, pointer)), b""):
                return place
    return None
