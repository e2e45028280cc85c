"""The bytes by which one tells what a stable memory holds."""

from collections.abc import Callable
from typing import Final

from sqlstable.ic.units import WASM_PAGE_BYTES
from sqlstable.sqlite.header import SQLITE_MAGIC

Reader = Callable[[int, int], bytes]
"""Returns ``length`` bytes from byte ``offset`` on, as ``Memory.read`` does."""

MANAGER_MAGIC: Final = b"MGR"
"""The first three bytes of a memory with the memory manager of ic-stable-structures."""

MANAGER_VERSION: Final = 1
"""The byte behind them: the only layout that was ever released."""

MANAGER_SIGNATURE: Final = MANAGER_MAGIC + bytes((MANAGER_VERSION,))

SUPERBLOCK_MAGIC: Final = b"ICSQLITE"
"""The first bytes of a memory in the layout of ic-sqlite-vfs."""

_FOREIGN: Final = (
    (0, SQLITE_MAGIC, "'SQLite format 3', a raw database: open it with layout raw"),
    (0, MANAGER_MAGIC, "'MGR', a memory manager of ic-stable-structures"),
    (8, SQLITE_MAGIC, "a length, then 'SQLite format 3': open it with layout froghub"),
    (0, b"NIMSQLV1", "'NIMSQLV1', a SQLite database in the layout of the Nim port"),
    (0, b"MOREGION", "'MOREGION', the regions of a Motoko canister"),
    (0, b"BTR", "'BTR', a BTreeMap of ic-stable-structures without a manager"),
    (0, b"SCL", "'SCL', a Cell of ic-stable-structures without a manager"),
    (0, b"SVC", "'SVC', a Vec of ic-stable-structures without a manager"),
    (0, b"SMH", "'SMH', a MinHeap of ic-stable-structures without a manager"),
    (0, b"GLI", "'GLI', the index of a Log of ic-stable-structures without a manager"),
    (0, b"GLD", "'GLD', the data of a Log of ic-stable-structures without a manager"),
    (
        WASM_PAGE_BYTES,
        MANAGER_MAGIC,
        "a header of its own and has a manager at byte 65536, as Internet Identity does",
    ),
)
"""Where a signature stands, the signature, and what has it."""


def what_is_there(read: Reader, size_wasm_pages: int) -> str:
    """Describe a memory that is not empty and has no manager at its start."""
    for offset, signature, name in _FOREIGN:
        end = offset + len(signature)
        if end <= size_wasm_pages * WASM_PAGE_BYTES and read(offset, len(signature)) == signature:
            return f"it begins with {name}"
    head = read(0, 16)
    return f"it begins with the bytes {head.hex(' ')}" if any(head) else "it begins with zeros"
