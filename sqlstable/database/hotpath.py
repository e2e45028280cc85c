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
from typing import TYPE_CHECKING, NamedTuple

from sqlstable.ic.units import OS_PAGE_BYTES
from sqlstable.memory.backing import Bytes
from sqlstable.memory.bytemap import ACCESSED, DIRTY

if TYPE_CHECKING:
    from sqlstable.database.store import DatabaseFile, DatabaseStore
    from sqlstable.memory.stable import StableMemory

Read = Callable[[int, int], Bytes]
Write = Callable[[Bytes, int], None]


class Paths(NamedTuple):
    """What one binding of the store gives its files."""

    read_of: Callable[["DatabaseFile"], Read]
    "Makes the xRead of one open file."
    write: Write
    "The xWrite of all open files."
    get_size: Callable[[], int]
    "Bytes of the file, exactly."
    set_size: Callable[[int], None]
    "Sets that size; also makes newly allocated bytes known."


def make_paths(store: "DatabaseStore") -> Paths:
    """Return the quickest pair of functions for the store as it is now.

    The quick ones need one piece of addresses, both views flat over it, and a beginning at an OS
    page: they tell OS pages by the offset in the file.
    """
    origin = store.placement.map.origin
    reach = _flat_bytes(store.memory)
    if (
        origin is None
        or origin % OS_PAGE_BYTES
        or not reach
        or origin + store.placement.allocated_bytes > reach
    ):
        return slow_paths(store)
    if store.page_size > OS_PAGE_BYTES:
        return wide_paths(store, origin)
    if store.memory.log is None:
        return unrecorded_paths(store, origin)
    return narrow_paths(store, origin)


def narrow_paths(store: "DatabaseStore", origin: int) -> Paths:
    """Return recorded paths for SQLite pages that lie inside one OS page each."""
    memory = store.memory
    base, staged, marks = _views(store, origin)
    shift = origin // OS_PAGE_BYTES
    page_size = store.page_size
    size, allocated = store.known_size, store.placement.allocated_bytes
    slow_read, slow_write = store.slow_read, store.slow_write
    bytemap = memory.bytemap
    accessed, dirty = bytemap.accessed, bytemap.dirty
    is_part = page_size < OS_PAGE_BYTES
    first_read = memory.first_read
    first_write = store.first_write_of_part if is_part else memory.first_write
    assert memory.log is not None
    log = memory.log.append

    def read_of(file: "DatabaseFile") -> Read:
        def xRead(amount: int, offset: int) -> Bytes:
            if amount != page_size or offset >= size:
                return slow_read(file, amount, offset)
            mark = marks[offset >> 12]
            if mark == DIRTY:
                log(offset)
                return staged[offset : offset + amount]
            if not mark:
                # `StableMemory.first_read`, and `first_write` below, written out: most accesses
                # of a cold query are first ones.
                if len(accessed) >= bytemap.accessed_max:
                    first_read((offset >> 12) + shift)
                accessed.append((offset >> 12) + shift)
                marks[offset >> 12] = ACCESSED
            log(offset)
            return base[offset : offset + amount]

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
        log(~offset)
        staged[offset : offset + length] = data
        if offset == size:
            size = offset + length
        return None

    def get_size() -> int:
        return size

    def set_size(new_size: int) -> None:
        nonlocal size, allocated
        size, allocated = new_size, store.placement.allocated_bytes

    return Paths(read_of, xWrite, get_size, set_size)


def unrecorded_paths(store: "DatabaseStore", origin: int) -> Paths:
    """Return `narrow_paths` without the log, for connections that nobody records."""
    memory = store.memory
    base, staged, marks = _views(store, origin)
    shift = origin // OS_PAGE_BYTES
    page_size = store.page_size
    size, allocated = store.known_size, store.placement.allocated_bytes
    slow_read, slow_write = store.slow_read, store.slow_write
    bytemap = memory.bytemap
    accessed, dirty = bytemap.accessed, bytemap.dirty
    is_part = page_size < OS_PAGE_BYTES
    first_read = memory.first_read
    first_write = store.first_write_of_part if is_part else memory.first_write

    def read_of(file: "DatabaseFile") -> Read:
        def xRead(amount: int, offset: int) -> Bytes:
            if amount != page_size or offset >= size:
                return slow_read(file, amount, offset)
            mark = marks[offset >> 12]
            if mark == DIRTY:
                return staged[offset : offset + amount]
            if not mark:
                if len(accessed) >= bytemap.accessed_max:
                    first_read((offset >> 12) + shift)
                accessed.append((offset >> 12) + shift)
                marks[offset >> 12] = ACCESSED
            return base[offset : offset + amount]

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
        staged[offset : offset + length] = data
        if offset == size:
            size = offset + length
        return None

    def get_size() -> int:
        return size

    def set_size(new_size: int) -> None:
        nonlocal size, allocated
        size, allocated = new_size, store.placement.allocated_bytes

    return Paths(read_of, xWrite, get_size, set_size)


def wide_paths(store: "DatabaseStore", origin: int) -> Paths:
    """Return paths for SQLite pages that span several whole OS pages."""
    base, staged, marks = _views(store, origin)
    page_size = store.page_size
    count = page_size // OS_PAGE_BYTES
    all_accessed, all_dirty = bytes([ACCESSED]) * count, bytes([DIRTY]) * count
    size, allocated = store.known_size, store.placement.allocated_bytes
    slow_read, slow_write = store.slow_read, store.slow_write
    log = _log_of(store)

    def read_of(file: "DatabaseFile") -> Read:
        def xRead(amount: int, offset: int) -> Bytes:
            if amount == page_size and offset < size:
                first = offset >> 12
                state = marks[first : first + count]
                if state == all_accessed:
                    log(offset)
                    return base[offset : offset + amount]
                if state == all_dirty:
                    log(offset)
                    return staged[offset : offset + amount]
            return slow_read(file, amount, offset)

        return xRead

    def xWrite(data: Bytes, offset: int) -> None:
        if len(data) == page_size and offset < size:
            first = offset >> 12
            if marks[first : first + count] == all_dirty:
                log(~offset)
                staged[offset : offset + page_size] = data
                return
        slow_write(data, offset)

    def get_size() -> int:
        return size

    def set_size(new_size: int) -> None:
        nonlocal size, allocated
        size, allocated = new_size, store.placement.allocated_bytes

    return Paths(read_of, xWrite, get_size, set_size)


def slow_paths(store: "DatabaseStore") -> Paths:
    """Return paths that leave everything to the store."""
    size = store.known_size

    def read_of(file: "DatabaseFile") -> Read:
        def xRead(amount: int, offset: int) -> Bytes:
            return store.slow_read(file, amount, offset)

        return xRead

    def get_size() -> int:
        return size

    def set_size(new_size: int) -> None:
        nonlocal size
        size = new_size

    return Paths(read_of, store.slow_write, get_size, set_size)


def closed_paths(size: int) -> Paths:
    """Return paths of a file that is ``size`` bytes long and closed; they refer to no store."""

    def read_of(file: "DatabaseFile") -> Read:
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


def _flat_bytes(memory: "StableMemory") -> int:
    """Return how far both views and the marks reach; 0 where addresses did not suffice for one."""
    views = memory.backing.flat, memory.staging.flat
    reaches = [0 if view is None else len(view) for view in views]
    return min(*reaches, memory.bytemap.flat_os_pages * OS_PAGE_BYTES)


def _views(store: "DatabaseStore", origin: int) -> tuple[memoryview, memoryview, memoryview]:
    """Views of committed bytes, staged bytes and marks that begin where the file begins."""
    assert origin % OS_PAGE_BYTES == 0, origin
    memory = store.memory
    base, staged = memory.backing.flat, memory.staging.flat
    assert base is not None
    assert staged is not None
    return base[origin:], staged[origin:], memory.bytemap.marks[origin // OS_PAGE_BYTES :]


def _log_of(store: "DatabaseStore") -> Callable[[int], object]:
    log = store.memory.log
    return _ignore if log is None else log.append


def _ignore(entry: int) -> None:
    """Stand for the log where nobody records."""
