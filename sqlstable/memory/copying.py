"""Copies of a stable memory, to try things on."""

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
