"""Copies of a stable memory: to try things on, or into another one."""

from sqlstable.errors import SettingsError
from sqlstable.ic.units import WASM_PAGE_BYTES
from sqlstable.memory.stable import StableMemory


def copied(memory: StableMemory) -> StableMemory:
    """Return a copy in this process's memory; holes of an image file stay holes.

    Examples:
        >>> with StableMemory.from_image(b"abcd" * 2**14) as memory, copied(memory) as other:
        ...     other.image() == memory.image()
        True
    """
    made = StableMemory(limits=memory.limits)
    made.grow(memory.wasm_pages)
    pieces = [(0, memory.image())] if memory.image_file is None else memory.image_file.pieces()
    for address, data in pieces:
        made.write(address, data)
    return made


def copy_memory(source: StableMemory, target: StableMemory) -> None:
    """Make a memory what another one is, outside of any message.

    Raises:
        SettingsError: The other one has more Wasm pages than this one may have; nothing changes.

    Examples:
        >>> with StableMemory.from_image(b"abcd" * 2**14) as source, StableMemory() as target:
        ...     copy_memory(source, target)
        ...     target.image() == source.image()
        True
    """
    if target.wasm_pages > source.wasm_pages:
        target.reset()
    if target.grow(source.wasm_pages - target.wasm_pages) < 0:
        raise SettingsError(
            f"the memory has {source.wasm_pages} Wasm pages, more than the one that it is copied "
            "into may have"
        )
    for address in range(0, source.wasm_pages * WASM_PAGE_BYTES, WASM_PAGE_BYTES):
        data = source.peek(address, WASM_PAGE_BYTES)
        if data != target.peek(address, WASM_PAGE_BYTES):
            target.write(address, data)
