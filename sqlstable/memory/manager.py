"""Many memories in one: the memory manager of ic-stable-structures, layout version 1.

A canister has a single stable memory, and that grows at its end only. The manager cuts it into
*buckets* of one size and hands them out, in order, to up to 255 *virtual memories*; each of these
is a memory of its own to whoever uses it. Bytes written here open in a canister and the other way
round. The calls on the memory below are the crate's too (version 0.7.2), one by one, because a
canister pays for calls as well as for bytes.

Layout, integers little-endian, ``A`` buckets of ``N`` Wasm pages::

    byte                    size          content
    ----------------------  ------------  -------------------------------------------------
         0                  3             "MGR"
         3                  1             layout version: 1
         4                  2             A, how many buckets are allocated: 0 to 32 768
         6                  2             N, Wasm pages of one bucket: 128 unless chosen
         8                  32            reserved, zero
        40                  8 x 255       size of memory 0, 1 ... 254, in Wasm pages
      2080                  32 768        owner of bucket 0, 1 ... 32 767: the id of a memory,
                                          or 255 for nobody
    34 848                  30 688        never written
    65 536                  N x 65 536    bucket 0
    65 536 + b x N x 65 536 N x 65 536    bucket b, up to b = A - 1

Invariants:

* Buckets are numbered in the order in which they were handed out; those from ``A`` on have no
  owner, and those below ``A`` lie wholly inside the memory.
* The k-th bucket of a memory, by ascending index, holds its bytes from ``k x N x 65 536`` on, and
  a memory has at least the buckets that its size needs.
* Buckets start at multiples of 65 536, so an OS page of a virtual memory is exactly one OS page of
  the memory below. Only ``grow`` touches more than the bytes asked for: OS pages 0 to 8.
* What is kept beside the bytes changes after the last call of a ``grow`` succeeded, never before:
  a trap on the way leaves it as it was. When the bytes below are rolled back, ``reload`` follows.

Limitations:

* Nothing is ever given back: no memory shrinks, and holes (buckets below ``A`` without an owner,
  left by the crate's version 0.7.1 alone) are not filled again.
* All memories share 32 768 buckets: 256 GiB at the default bucket size, 2 GiB at one Wasm page.
* The first byte of a memory costs a whole bucket of stable memory size.
* New Wasm pages are zero only if nobody wrote there before. They may have been written: by what
  was in the memory before the manager, or through the gap that ``VirtualMemory`` describes.
* There is no checksum; only contradictions are noticed. Two live managers over one memory do not
  see each other's changes.

Source: dfinity/stable-structures src/memory_manager.rs, v0.7.2, 2025-09-22.
"""

import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from sqlstable.errors import (
    ImageError,
    LimitTrap,
    MemoryManagerError,
    OutOfBoundsTrap,
    SettingsError,
    Trap,
)
from sqlstable.ic.units import GIB, OS_PAGE_BYTES, WASM_PAGE_BYTES, wasm_pages_needed
from sqlstable.ic.words import STABLE_MEMORY_BYTES
from sqlstable.memory.seams import Memory
from sqlstable.memory.signatures import MANAGER_MAGIC, MANAGER_VERSION, Reader, what_is_there

MEMORIES_MAX: Final = 255
"""How many virtual memories there can be; their ids are 0 to 254."""

BUCKETS_MAX: Final = 32_768
"""How many buckets all virtual memories together can have."""

DEFAULT_BUCKET_WASM_PAGES: Final = 128
"""Wasm pages of one bucket unless chosen otherwise: 8 MiB."""

BUCKET_WASM_PAGES_MAX: Final = 2**16 - 1
"""The largest bucket size, in Wasm pages, that the header's two bytes hold."""

NO_OWNER: Final = MEMORIES_MAX
"""What the bucket table says of a bucket that belongs to nobody: the first id that is no id."""

_HEADER: Final = struct.Struct(f"<3sBHH32x{MEMORIES_MAX}Q")

HEADER_BYTES: Final = _HEADER.size
"""Bytes of the header, which every ``grow`` rewrites whole."""

BUCKET_TABLE_OFFSET: Final = HEADER_BYTES
"""Byte at which the bucket table starts: one byte for each bucket there can be."""

BUCKETS_OFFSET_WASM_PAGES: Final = wasm_pages_needed(BUCKET_TABLE_OFFSET + BUCKETS_MAX)
"""Wasm pages in front of bucket 0."""

BUCKETS_OFFSET: Final = BUCKETS_OFFSET_WASM_PAGES * WASM_PAGE_BYTES
"""Byte at which bucket 0 starts."""

# Written in this byte order, a bucket size of 128 is the bytes "80 00"; this is "00 80".
_BUCKET_WASM_PAGES_LOOKALIKE: Final = int.from_bytes(
    DEFAULT_BUCKET_WASM_PAGES.to_bytes(2, "big"), "little"
)

assert HEADER_BYTES == 3 + 1 + 2 + 2 + 32 + 8 * MEMORIES_MAX == 2080
assert BUCKETS_OFFSET == WASM_PAGE_BYTES
assert BUCKETS_OFFSET - BUCKET_TABLE_OFFSET - BUCKETS_MAX == 30_688
assert (BUCKET_TABLE_OFFSET + BUCKETS_MAX - 1) // OS_PAGE_BYTES == 8
assert BUCKETS_MAX * DEFAULT_BUCKET_WASM_PAGES * WASM_PAGE_BYTES == 256 * GIB
assert NO_OWNER not in range(MEMORIES_MAX)


class MemoryManager:
    """Virtual memories over one memory.

    An empty memory gets a new header and bucket table at once. One that already has them is
    opened; its own bucket size wins over the argument. Anything else is refused rather than
    overwritten, which is the one difference from the crate.

    Args:
        memory: The memory to manage; the manager must be its only writer.
        bucket_wasm_pages: Wasm pages of one bucket of a new manager, 1 to 65 535, but not 32 768,
            whose bytes read as a big-endian 128.
        overwrite: Start a new manager where something else than a manager is, as the crate does.
            The header and bucket table (the first 34 848 bytes) are replaced; the rest stays and
            shows up in the virtual memories as they grow. A manager that is there is opened, also
            with this.

    Raises:
        ImageError: The memory holds something else than a manager, and ``overwrite`` is off.
        MemoryManagerError: There is a manager, but one that this layout does not know or whose
            tables contradict each other or the size of the memory. Nothing is changed.
        SettingsError: ``bucket_wasm_pages`` is out of range.
        LimitTrap: The memory is empty and cannot grow by one Wasm page.

    Examples:
        >>> from sqlstable.memory.stable import StableMemory
        >>> memory = StableMemory()
        >>> manager = MemoryManager(memory, bucket_wasm_pages=2)
        >>> names, balances = manager.get(0), manager.get(1)
        >>> names.grow(1), balances.grow(3), names.grow(2)
        (0, 0, 1)
        >>> names.write(2 * 65_536, b"alice")
        >>> manager.buckets(0), manager.buckets(1)
        ((0, 3), (1, 2))
        >>> address = manager.bucket_address(3)
        >>> address, memory.read(address, 5)
        (458752, b'alice')

        What was written is found again, by the crate as well as here:

        >>> reopened = MemoryManager(memory)
        >>> reopened.bucket_wasm_pages, dict(reopened.sizes()), list(reopened.owners())
        (2, {0: 3, 1: 3}, [0, 1, 1, 0])

        After a rollback of the bytes below, the manager and its handles are told:

        >>> with memory.message("query"):
        ...     before = names.grow(100)
        >>> names.size()
        103
        >>> manager.reload(memory.peek, size_wasm_pages=memory.wasm_pages)
        True
        >>> names.size(), names.read(2 * 65_536, 5)
        (3, b'alice')
    """

    def __init__(
        self,
        memory: Memory,
        *,
        bucket_wasm_pages: int = DEFAULT_BUCKET_WASM_PAGES,
        overwrite: bool = False,
    ) -> None:
        """Open the manager in ``memory``, or make a new one; see the class."""
        _check_bucket_size(bucket_wasm_pages)
        self._new_bucket_wasm_pages = bucket_wasm_pages
        self._overwrite = overwrite
        tables = self._derive(memory.read, memory.size())
        if not tables.formatted:
            _format(memory, tables)
            tables.formatted = True
        self._state = _State(memory, tables)

    @property
    def memory(self) -> Memory:
        """The memory below."""
        return self._state.memory

    @property
    def bucket_wasm_pages(self) -> int:
        """Wasm pages of one bucket, as the header has it."""
        return self._state.tables.bucket_wasm_pages

    @property
    def bucket_bytes(self) -> int:
        """Bytes of one bucket."""
        return self._state.tables.bucket_bytes

    def get(self, memory_id: int) -> "VirtualMemory":
        """Return a new handle on a virtual memory; touches no byte.

        Handles on the same id see the same memory, but each has a bucket cache of its own.

        Args:
            memory_id: 0 to 254. A memory never grown has size 0.

        Raises:
            SettingsError: There is no such id.
        """
        _check_memory_id(memory_id)
        return VirtualMemory(self._state, memory_id)

    def owners(self) -> bytes:
        """Return the owner of each allocated bucket, in bucket order.

        Returns:
            One byte a bucket: the id of a memory, or 255 for a hole.
        """
        return bytes(self._state.tables.owners)

    def sizes(self) -> Mapping[int, int]:
        """Return the size in Wasm pages of every memory that is not empty, by ascending id."""
        sizes = self._state.tables.sizes_wasm_pages
        return {memory_id: size for memory_id, size in enumerate(sizes) if size}

    def buckets(self, memory_id: int) -> tuple[int, ...]:
        """Return the buckets of a memory in the order of its bytes, which is ascending.

        Args:
            memory_id: 0 to 254.

        Returns:
            0-based bucket indexes; the k-th one holds bytes ``k * bucket_bytes`` and following.

        Raises:
            SettingsError: There is no such id.
        """
        _check_memory_id(memory_id)
        return tuple(self._state.tables.buckets[memory_id])

    def bucket_address(self, bucket_index: int) -> int:
        """Return the byte of the memory below at which a bucket starts, allocated or not.

        Args:
            bucket_index: 0 to 32 767.

        Raises:
            SettingsError: There can be no such bucket.
        """
        if not 0 <= bucket_index < BUCKETS_MAX:
            raise SettingsError(
                f"bucket {bucket_index} does not exist; buckets are numbered 0 to {BUCKETS_MAX - 1}"
            )
        return self._state.tables.bucket_address(bucket_index)

    def reload(self, peek: Reader, *, size_wasm_pages: int) -> bool:
        """Forget everything kept beside the bytes and derive it again; for use after a rollback.

        All handles follow, and their bucket caches are empty again. When the rollback took the
        header away too, because the message that made the manager did not commit, all memories
        are empty, and the next ``grow`` of any of them writes header and bucket table first.

        Args:
            peek: Reads the bytes as they are now. It is not the memory's own ``read`` so that
                the rebuilding need not be recorded as an access.
            size_wasm_pages: The size of the memory now; with 0, ``peek`` is never called.

        Returns:
            Whether anything is different now; empty bucket caches do not count.

        Raises:
            ImageError: The memory now holds something else than a manager, and the manager was
                not opened with ``overwrite``. Nothing is changed.
            MemoryManagerError: As for the class. Nothing is changed.
        """
        # Handles compare by identity: new tables empty every bucket cache.
        if self._is_as_in(peek, size_wasm_pages):
            self._state.tables = replace(self._state.tables)
            return False
        self._state.tables = self._derive(peek, size_wasm_pages)
        return True

    def _is_as_in(self, peek: Reader, size_wasm_pages: int) -> bool:
        """Whether the header is that of the tables: each growth that gives a bucket rewrites it."""
        tables = self._state.tables
        if not tables.formatted or size_wasm_pages == 0:
            return False
        header = _encode_header(
            tables.bucket_wasm_pages, len(tables.owners), tables.sizes_wasm_pages
        )
        return peek(0, HEADER_BYTES) == header

    def _derive(self, read: Reader, size_wasm_pages: int) -> "Tables":
        """Return the tables that the bytes hold, or blank ones where a new manager may go."""
        if size_wasm_pages == 0:
            return _blank_tables(self._new_bucket_wasm_pages)
        if read(0, len(MANAGER_MAGIC)) == MANAGER_MAGIC:
            return read_tables(read, size_wasm_pages)
        if self._overwrite:
            return _blank_tables(self._new_bucket_wasm_pages)
        raise ImageError(
            f"no memory manager in this memory of {size_wasm_pages} Wasm pages: "
            f"{what_is_there(read, size_wasm_pages)}. To put a manager in its place and lose "
            f"the first {BUCKET_TABLE_OFFSET + BUCKETS_MAX} bytes, open it by "
            "MemoryManager(memory, overwrite=True)"
        )


class VirtualMemory:
    """One of a manager's memories; itself a ``Memory``. ``MemoryManager.get`` makes it.

    A handle remembers the bucket that it used last, and what lies wholly inside that bucket goes
    straight to the memory below, as in the crate. Real canisters live with the consequences, so
    they are kept:

    * Bytes past the size but inside the bucket used last can be read and written. The memory
      shows them once it has grown that far.
    * An access of no bytes at byte 0 through a new handle is passed on, to byte 0 of the memory
      below. All other accesses of no bytes outside the bucket used last stop here: in bounds they
      do nothing, else they trap.
    """

    __slots__ = (
        "_cached_address",
        "_cached_start",
        "_cached_stop",
        "_cached_tables",
        "_memory_id",
        "_state",
    )

    def __init__(self, state: "_State", memory_id: int) -> None:
        self._state = state
        self._memory_id = memory_id
        self._forget_bucket()

    @property
    def memory_id(self) -> int:
        """The id of this memory, 0 to 254."""
        return self._memory_id

    def size(self) -> int:
        """Return the size in Wasm pages; asks nothing of the memory below."""
        return self._state.tables.sizes_wasm_pages[self._memory_id]

    def grow(self, wasm_pages: int) -> int:
        """Add Wasm pages, taking new buckets where the last one is full.

        Costs a write of 2080 bytes at byte 0 below, however little is added, even nothing.

        Args:
            wasm_pages: 0 or more. As for the Internet Computer, a negative number is an
                impossibly large one.

        Returns:
            The size before, in Wasm pages, or -1 with nothing changed when the buckets run out.

        Raises:
            LimitTrap: The memory below could not grow. Bytes may have been written there, which
                the rollback of the message takes back; the manager itself is unchanged.
        """
        return _grow(self._state, self._memory_id, wasm_pages)

    def read(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes from byte ``offset`` on: one read below for each bucket.

        Args:
            offset: 0 or more, counted from the start of this memory.
            length: 0 or more.

        Raises:
            OutOfBoundsTrap: The bytes end past the size and not inside the bucket used last.
        """
        address = self._find_in_cache(offset, length)
        if address is not None:
            return self._state.memory.read(address, length)
        self._check_bounds("read", offset, length)
        read = self._state.memory.read
        return b"".join(read(start, count) for start, count in self._pieces(offset, length))

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Write ``data`` from byte ``offset`` on: one write below for each bucket.

        Args:
            offset: 0 or more, counted from the start of this memory.
            data: The bytes; never makes the memory grow.

        Raises:
            OutOfBoundsTrap: The bytes end past the size and not inside the bucket used last.
        """
        address = self._find_in_cache(offset, len(data))
        if address is not None:
            self._state.memory.write(address, data)
            return
        self._check_bounds("write", offset, len(data))
        rest = memoryview(data)
        for start, count in self._pieces(offset, len(data)):
            self._state.memory.write(start, rest[:count])
            rest = rest[count:]

    def _forget_bucket(self) -> None:
        self._cached_tables = self._state.tables
        self._cached_start = self._cached_stop = self._cached_address = 0

    def _find_in_cache(self, offset: int, length: int) -> int | None:
        """Return the address below of a range inside the bucket used last, else None."""
        if self._cached_tables is not self._state.tables:
            self._forget_bucket()
        if self._cached_start <= offset <= offset + length <= self._cached_stop:
            return self._cached_address + offset - self._cached_start
        return None

    def _check_bounds(self, access: str, offset: int, length: int) -> None:
        size = self.size()
        if 0 <= offset <= offset + length <= size * WASM_PAGE_BYTES:
            return
        trap = OutOfBoundsTrap(
            f"MemoryId({self._memory_id}): {access} out of bounds: {length} bytes at byte {offset} "
            f"of a memory of {size * WASM_PAGE_BYTES} bytes ({size} Wasm pages); grow it first"
        )
        raise _told(self._state.memory, trap)

    def _pieces(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        """Cut a range at the ends of buckets: yield address below and length, piece by piece."""
        tables = self._state.tables
        buckets = tables.buckets[self._memory_id]
        while length > 0:
            position, start = divmod(offset, tables.bucket_bytes)
            count = min(tables.bucket_bytes - start, length)
            address = tables.bucket_address(buckets[position])
            # Before the access, as in the crate: it is the one used last even if that traps.
            self._cached_start = offset - start
            self._cached_stop = self._cached_start + tables.bucket_bytes
            self._cached_address = address
            yield address + start, count
            offset += count
            length -= count


@dataclass(slots=True)
class Tables:
    """What header and bucket table say, ready for looking up."""

    bucket_wasm_pages: int
    "Wasm pages of one bucket, 1 to 65 535."
    sizes_wasm_pages: list[int]
    "Size of each memory, by id."
    owners: bytearray
    "Owner of each allocated bucket, by index; 255 for a hole."
    buckets: list[list[int]]
    "The buckets of each memory, by id, ascending."
    formatted: bool
    "Whether header and bucket table are in the memory."

    @property
    def bucket_bytes(self) -> int:
        """Bytes of one bucket."""
        return self.bucket_wasm_pages * WASM_PAGE_BYTES

    def bucket_address(self, bucket_index: int) -> int:
        """Return where a bucket begins."""
        return BUCKETS_OFFSET + bucket_index * self.bucket_bytes

    def buckets_needed(self, size_wasm_pages: int) -> int:
        """Return how many buckets a memory of this size has at least."""
        return -(-size_wasm_pages // self.bucket_wasm_pages)


@dataclass(slots=True)
class _State:
    """What a manager shares with its handles; ``reload`` replaces the tables for all of them."""

    memory: Memory
    tables: Tables


def _check_bucket_size(bucket_wasm_pages: int) -> None:
    if bucket_wasm_pages == _BUCKET_WASM_PAGES_LOOKALIKE:
        raise SettingsError(
            f"a bucket of {bucket_wasm_pages} Wasm pages is written as the bytes 00 80, which "
            "mark a big-endian image with buckets of 128; take one Wasm page more or less"
        )
    if not 1 <= bucket_wasm_pages <= BUCKET_WASM_PAGES_MAX:
        raise SettingsError(
            f"a bucket of {bucket_wasm_pages} Wasm pages is not possible; "
            f"take 1 to {BUCKET_WASM_PAGES_MAX}, {DEFAULT_BUCKET_WASM_PAGES} being usual"
        )


def _check_memory_id(memory_id: int) -> None:
    if not 0 <= memory_id < MEMORIES_MAX:
        raise SettingsError(
            f"memory id {memory_id} does not exist; take 0 to {MEMORIES_MAX - 1} "
            f"({NO_OWNER} marks buckets without an owner)"
        )


def _grow(state: _State, memory_id: int, wasm_pages: int) -> int:
    """Grow a memory with the crate's calls in the crate's order; see ``VirtualMemory.grow``."""
    memory, tables = state.memory, state.tables
    before = tables.sizes_wasm_pages[memory_id]
    after = before + wasm_pages
    allocated_before = len(tables.owners)
    # From the sizes, not from the buckets held: a memory may hold one too many.
    missing = tables.buckets_needed(after) - tables.buckets_needed(before)
    allocated = allocated_before + missing
    if wasm_pages < 0 or allocated > BUCKETS_MAX:
        return -1
    if not tables.formatted:
        _format(memory, tables)
    for bucket_index in range(allocated_before, allocated):
        _growing_write(memory, BUCKET_TABLE_OFFSET + bucket_index, bytes((memory_id,)))
    _make_room(memory, memory_id, tables.bucket_wasm_pages, allocated)
    sizes_wasm_pages = tables.sizes_wasm_pages.copy()
    sizes_wasm_pages[memory_id] = after
    header = _encode_header(tables.bucket_wasm_pages, allocated, sizes_wasm_pages)
    _growing_write(memory, 0, header)
    # Every call that could trap is behind us; now the tables may follow the bytes.
    tables.sizes_wasm_pages = sizes_wasm_pages
    tables.owners.extend(bytes((memory_id,)) * missing)
    tables.buckets[memory_id].extend(range(allocated_before, allocated))
    tables.formatted = True
    assert len(tables.buckets[memory_id]) >= tables.buckets_needed(after)
    return before


def _make_room(memory: Memory, memory_id: int, bucket_wasm_pages: int, allocated: int) -> None:
    """Grow the memory below so that all allocated buckets lie inside it."""
    required = BUCKETS_OFFSET_WASM_PAGES + allocated * bucket_wasm_pages
    if required <= memory.size():
        return
    # The crate asks for the size a second time, and a canister pays for that call too.
    size_wasm_pages = memory.size()
    if memory.grow(required - size_wasm_pages) == -1:
        trap = LimitTrap(
            f"MemoryId({memory_id}): grow failed: {allocated} buckets of {bucket_wasm_pages} Wasm "
            f"pages need {required} Wasm pages, and the memory below has {size_wasm_pages} and "
            "cannot grow so far; raise its limit, take smaller buckets, or store less",
            limit=STABLE_MEMORY_BYTES,
        )
        raise _told(memory, trap)


def _told(memory: Memory, trap: Trap) -> Trap:
    """Return the trap to be raised, after telling a memory that keeps messages."""
    poison: Callable[[Trap], Trap] | None = getattr(memory, "poison", None)
    return trap if poison is None else poison(trap)


def _growing_write(memory: Memory, offset: int, data: bytes) -> None:
    """Write after growing by what is missing: the crate's way of writing its own tables."""
    size_wasm_pages = memory.size()
    missing = wasm_pages_needed(offset + len(data)) - size_wasm_pages
    if missing > 0 and memory.grow(missing) == -1:
        trap = LimitTrap(
            f"grow failed: the memory manager's own {len(data)} bytes at byte {offset} need "
            f"{missing} Wasm pages more than the {size_wasm_pages} that the memory has; "
            "raise its limit",
            limit=STABLE_MEMORY_BYTES,
        )
        raise _told(memory, trap)
    memory.write(offset, data)


def _format(memory: Memory, tables: Tables) -> None:
    """Write the header and bucket table of a manager that has handed out nothing."""
    assert not tables.owners
    header = _encode_header(tables.bucket_wasm_pages, 0, tables.sizes_wasm_pages)
    _growing_write(memory, 0, header)
    _growing_write(memory, BUCKET_TABLE_OFFSET, bytes((NO_OWNER,)) * BUCKETS_MAX)


def _encode_header(bucket_wasm_pages: int, allocated: int, sizes_wasm_pages: list[int]) -> bytes:
    return _HEADER.pack(
        MANAGER_MAGIC, MANAGER_VERSION, allocated, bucket_wasm_pages, *sizes_wasm_pages
    )


def _blank_tables(bucket_wasm_pages: int) -> Tables:
    return Tables(
        bucket_wasm_pages=bucket_wasm_pages,
        sizes_wasm_pages=[0] * MEMORIES_MAX,
        owners=bytearray(),
        buckets=[[] for _ in range(MEMORIES_MAX)],
        formatted=False,
    )


def read_tables(read: Reader, size_wasm_pages: int) -> Tables:
    """Return what the bytes of a manager say, which begin with its magic.

    Args:
        read: Returns so many bytes from an address on.
        size_wasm_pages: Of the memory below.

    Raises:
        MemoryManagerError: They are of another version, or contradict themselves.
    """
    header, bucket_table = read(0, HEADER_BYTES), read(BUCKET_TABLE_OFFSET, BUCKETS_MAX)
    _, version, allocated, bucket_wasm_pages, *sizes_wasm_pages = _HEADER.unpack(header)
    if version != MANAGER_VERSION:
        raise MemoryManagerError(
            f"the memory manager has layout version {version}; only version {MANAGER_VERSION} was "
            "ever released, so the image is damaged, or it needs a newer sqlstable"
        )
    tables = _blank_tables(bucket_wasm_pages)
    tables.sizes_wasm_pages = sizes_wasm_pages
    tables.owners.extend(bucket_table[:allocated])
    for bucket_index, owner in enumerate(tables.owners):
        if owner != NO_OWNER:
            tables.buckets[owner].append(bucket_index)
    tables.formatted = True
    problem = (
        _find_wrong_geometry(bucket_wasm_pages, allocated, size_wasm_pages)
        or _find_stray_owner(bucket_table, allocated)
        or _find_oversized_memory(tables)
    )
    if problem is None:
        return tables
    if bucket_wasm_pages == _BUCKET_WASM_PAGES_LOOKALIKE:
        problem += (
            ". Its bucket size is the bytes 00 80, a big-endian 128: this looks like Motoko's "
            "MotokoStableBTree, which writes the same fields in the other byte order and does not "
            "open here; export its data from the canister"
        )
    raise MemoryManagerError(f"the memory manager's header is not sound: {problem}")


def _find_wrong_geometry(
    bucket_wasm_pages: int, allocated: int, size_wasm_pages: int
) -> str | None:
    if bucket_wasm_pages == 0:
        return "its buckets have 0 Wasm pages; restore an intact image"
    if bucket_wasm_pages == _BUCKET_WASM_PAGES_LOOKALIKE and allocated == 0:
        return f"it has no buckets yet, and they would have {bucket_wasm_pages} Wasm pages each"
    if allocated > BUCKETS_MAX:
        return f"{allocated} buckets are allocated, of {BUCKETS_MAX}; restore an intact image"
    required = BUCKETS_OFFSET_WASM_PAGES + allocated * bucket_wasm_pages
    if required > size_wasm_pages:
        return (
            f"{allocated} buckets of {bucket_wasm_pages} Wasm pages need {required} Wasm pages, "
            f"but the memory has {size_wasm_pages}: the image is truncated; take a complete one"
        )
    return None


def _find_stray_owner(bucket_table: bytes, allocated: int) -> str | None:
    """Look for an owner beyond the allocated buckets: the next ``grow`` would give it a second."""
    unallocated = bucket_table[allocated:]
    if unallocated.count(NO_OWNER) == len(unallocated):
        return None
    stray = next(index for index, owner in enumerate(unallocated) if owner != NO_OWNER)
    return (
        f"bucket {allocated + stray} belongs to memory {unallocated[stray]}, but only "
        f"{allocated} buckets are allocated; restore an intact image"
    )


def _find_oversized_memory(tables: Tables) -> str | None:
    for memory_id, size in enumerate(tables.sizes_wasm_pages):
        held = len(tables.buckets[memory_id])
        if tables.buckets_needed(size) > held:
            return (
                f"memory {memory_id} has {size} Wasm pages, but its {held} buckets hold "
                f"{held * tables.bucket_wasm_pages}; restore an intact image"
            )
    return None
