"""The two functions that SQLite calls for every SQLite page it moves.

They run millions of times, so each does the least that its duty allows: look up the OS page's
mark, count a first access, log, and hand out a view. What is rare (other lengths, the end of the
file, mixed marks) goes to the store's slow path. Names are closure variables because Python finds
those quickest; the functions are made anew whenever what they close over changes.

Which pair is made:

===============  ==================================================================================
`narrow_paths`   SQLite pages of at most 4096 bytes, the file in one piece, a flat backing
`wide_paths`     larger SQLite pages, the file in one piece, a flat backing
`slow_paths`     everything else: a file in pieces, chunked backings, odd page sizes
===============  ==================================================================================
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from sqlstable.ic.units import OS_PAGE_BYTES
from sqlstable.layout.placement import Placement
from sqlstable.memory.backing import Bytes
from sqlstable.memory.bytemap import ACCESSED, DIRTY
from sqlstable.memory.stable import StableMemory

Read = Callable[[int, int], Bytes]
Write = Callable[[Bytes, int], None]


@dataclass(frozen=True, slots=True)
class Source:
    """What the functions are made from: a database file as it is now."""

    memory: StableMemory
    placement: Placement
    page_size: int
    size_bytes: int
    slow_write: Write
    "Writes any length anywhere."
    first_write_of_part: Callable[[int], None]
    "Marks an OS page as dirty of which SQLite writes only a part, keeping the rest."


class Paths(NamedTuple):
    """What one binding of the store gives its files."""

    read_of: Callable[[Read], Read]
    "Makes the xRead of one open file from one that reads any length anywhere."
    write: Write
    "The xWrite of all open files."
    get_size: Callable[[], int]
    "Bytes of the file, exactly."
    set_size: Callable[[int], None]
    "Sets that size; also makes newly allocated bytes known."


def make_paths(source: Source) -> Paths:
    """Return the quickest pair of functions for the store as it is now.

    The quick ones need one piece of addresses, both views flat over it, and a beginning at an OS
    page: they tell OS pages by the offset in the file.
    """
    origin = source.placement.map.origin
    reach = _flat_bytes(source.memory)
    if (
        origin is None
        or origin % OS_PAGE_BYTES
        or not reach
        or origin + source.placement.allocated_bytes > reach
    ):
        return slow_paths(source)
    if source.page_size > OS_PAGE_BYTES:
        return wide_paths(source, origin)
    return narrow_paths(source, origin)


def narrow_paths(source: Source, origin: int) -> Paths:
    """Return recorded paths for SQLite pages that lie inside one OS page each."""
    memory = source.memory
    base, staged, marks = _views(source, origin)
    shift = origin // OS_PAGE_BYTES
    page_size = source.page_size
    size, allocated = source.size_bytes, source.placement.allocated_bytes
    slow_write = source.slow_write
    bytemap = memory.bytemap
    accessed, dirty = bytemap.accessed, bytemap.dirty
    is_part = page_size < OS_PAGE_BYTES
    first_read = memory.first_read
    first_write = source.first_write_of_part if is_part else memory.first_write
    log = _log_of(source)

    def read_of(slow_read: Read) -> Read:
        def xRead(amount: int, offset: int) -> Bytes:
            if amount != page_size or offset >= size:
                return slow_read(amount, offset)
            mark = marks[offset >> 12]
            if not mark:
                # `StableMemory.first_read`, and `first_write` below, written out: most accesses
                # of a cold query are first ones.
                if len(accessed) >= bytemap.accessed_max:
                    first_read((offset >> 12) + shift)
                accessed.append((offset >> 12) + shift)
                marks[offset >> 12] = ACCESSED
            if log is not None:
                log(offset)
            # A view does: APSW copies it into SQLite's buffer before anything changes it.
            return (staged if mark == DIRTY else base)[offset : offset + amount]

        return xRead

    def xWrite(data: Bytes, offset: int) -> None:
        nonlocal size
        length = len(data)
        if length != page_size or offset > size or offset >= allocated:
            return slow_write(data, offset)
        mark = marks[offset >> 12]
        if mark != DIRTY:
            if (
                is_part
                or len(dirty) >= bytemap.dirty_max
                or (not mark and len(accessed) >= bytemap.accessed_max)
            ):
                first_write((offset >> 12) + shift)
            else:
                if not mark:
                    accessed.append((offset >> 12) + shift)
                dirty.append((offset >> 12) + shift)
                marks[offset >> 12] = DIRTY
        if log is not None:
            # Below zero: reads and writes go into one list of plain integers.
            log(~offset)
        staged[offset : offset + length] = data
        if offset == size:
            size = offset + length
        return None

    def set_size(new_size: int) -> None:
        nonlocal size, allocated
        size, allocated = new_size, source.placement.allocated_bytes

    return Paths(read_of, xWrite, lambda: size, set_size)


def wide_paths(source: Source, origin: int) -> Paths:
    """Return paths for SQLite pages that span several whole OS pages."""
    base, staged, marks = _views(source, origin)
    page_size = source.page_size
    count = page_size // OS_PAGE_BYTES
    all_accessed, all_dirty = bytes([ACCESSED]) * count, bytes([DIRTY]) * count
    size, allocated = source.size_bytes, source.placement.allocated_bytes
    slow_write = source.slow_write
    log = _log_of(source)

    def read_of(slow_read: Read) -> Read:
        def xRead(amount: int, offset: int) -> Bytes:
            if amount == page_size and offset < size:
                first = offset >> 12
                state = marks[first : first + count]
                if state == all_accessed:
                    if log is not None:
                        log(offset)
                    return base[offset : offset + amount]
                if state == all_dirty:
                    if log is not None:
                        log(offset)
                    return staged[offset : offset + amount]
            return slow_read(amount, offset)

        return xRead

    def xWrite(data: Bytes, offset: int) -> None:
        if len(data) == page_size and offset < size:
            first = offset >> 12
            if marks[first : first + count] == all_dirty:
                if log is not None:
                    log(~offset)
                staged[offset : offset + page_size] = data
                return
        slow_write(data, offset)

    def get_size() -> int:
        return size

    def set_size(new_size: int) -> None:
        nonlocal size, allocated
        size, allocated = new_size, source.placement.allocated_bytes

    return Paths(read_of, xWrite, get_size, set_size)


def slow_paths(source: Source) -> Paths:
    """Return paths that leave everything to the store."""
    size = source.size_bytes

    def read_of(slow_read: Read) -> Read:
        return slow_read

    def get_size() -> int:
        return size

    def set_size(new_size: int) -> None:
        nonlocal size
        size = new_size

    return Paths(read_of, source.slow_write, get_size, set_size)


def closed_paths(size: int) -> Paths:
    """Return paths of a file that is ``size`` bytes long and closed; they refer to no store."""

    def read_of(slow_read: Read) -> Read:
        return xRead

    def xRead(amount: int, offset: int) -> Bytes:
        raise AssertionError(amount, offset)

    def xWrite(data: Bytes, offset: int) -> None:
        raise AssertionError(len(data), offset)

    def get_size() -> int:
        return size

    def set_size(new_size: int) -> None:
        raise AssertionError(new_size)

    return Paths(read_of, xWrite, get_size, set_size)


def _flat_bytes(memory: StableMemory) -> int:
    """Return how far both views and the marks reach; 0 where addresses did not suffice for one."""
    views = memory.backing.flat, memory.staging.flat
    reaches = [0 if view is None else len(view) for view in views]
    return min(*reaches, memory.bytemap.flat_os_pages * OS_PAGE_BYTES)


def _views(source: Source, origin: int) -> tuple[memoryview, memoryview, memoryview]:
    """Views of committed bytes, staged bytes and marks that begin where the file begins."""
    assert origin % OS_PAGE_BYTES == 0, origin
    memory = source.memory
    base, staged = memory.backing.flat, memory.staging.flat
    assert base is not None
    assert staged is not None
    return base[origin:], staged[origin:], memory.bytemap.marks[origin // OS_PAGE_BYTES :]


def _log_of(source: Source) -> Callable[[int], object] | None:
    # Each access looks whether there is one, so that one pair of functions is enough: a look at a
    # local is quicker than a call of something in C that keeps nothing.
    log = source.memory.log
    return None if log is None else log.append
