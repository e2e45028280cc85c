"""Ways of keeping a database over an upgrade: where it lies meanwhile and between messages.

A further way, of another format or of another structure, is one more object beside those here, and
a module with entry points of the same names: ``canister_init``, ``canister_pre_upgrade`` where
there is something to do, ``canister_post_upgrade``, ``canister_update execute`` and
``canister_query execute``.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np

from sqlstable.database.settings import Settings
from sqlstable.database.vfs import julian_milliseconds
from sqlstable.engine.measured.codec import encode_heap_settings, encode_settings
from sqlstable.engine.measured.module.builds import HEAP_BUILD
from sqlstable.ic.units import WASM_PAGE_BYTES
from sqlstable.layout.directory import DATABASE_MEMORY_ID
from sqlstable.memory.manager import BUCKETS_OFFSET, MemoryManager
from sqlstable.memory.stable import StableMemory

ALLOCATION_BYTES_MAX: Final = 2_147_483_391
"""The most that SQLite allocates at once.

Source:
    ``SQLITE_MAX_ALLOCATION_SIZE`` of SQLite 3.54.1.
"""

WINDOW_SQLITE_PAGES: Final = 16
"""SQLite pages of the window through which a database is streamed."""

KEPT_OFFSET: Final = WASM_PAGE_BYTES
"""Address of the database in what build ``heap`` keeps; its header is at 0."""

_HEADER: Final = struct.Struct("<8sIIQQ")
_MAGIC: Final = b"SQLKEPT\0"
_VERSION: Final = 1
_LOCK_BYTE: Final = 1 << 30
_ODD: Final = np.uint64(0x9E3779B97F4A7C15)
_HALF: Final = np.uint64(32)

Pieces = Iterator[tuple[int, bytes]]
"""Addresses of stable memory, ascending, each with the bytes that are there; zeros between them."""


class Strategy(Protocol):
    """A way of keeping data over an upgrade."""

    @property
    def name(self) -> str:
        """As reports have it."""
        ...

    @property
    def summary(self) -> str:
        """What it does, in a few words."""
        ...

    @property
    def build(self) -> str:
        """Name of the module that does it, in `ALL_BUILDS`."""
        ...

    @property
    def has_pre_upgrade(self) -> bool:
        """Whether its canisters have a ``canister_pre_upgrade``."""
        ...

    @property
    def database_bytes_max(self) -> int | None:
        """The largest database that it can keep, whatever the limits are; None: as they say."""
        ...

    def argument(self, settings: Settings) -> bytes:
        """Return what ``canister_init`` and ``canister_post_upgrade`` are given."""
        ...

    def image(self, database: bytes, settings: Settings) -> Pieces:
        """Yield the stable memory from which ``canister_post_upgrade`` has a database."""
        ...


@dataclass(frozen=True, slots=True)
class Serialising:
    """SQLite in the heap, which writes its database to stable memory before an upgrade."""

    name: str
    summary: str
    way: int
    "0 whole, 1 streamed, as ``source/heap.c`` has it."
    database_bytes_max: int | None
    build: str = HEAP_BUILD.name
    has_pre_upgrade: bool = True

    def argument(self, settings: Settings) -> bytes:
        """Return how the database is opened, and which way it is kept."""
        return encode_heap_settings(
            settings,
            now_ms=julian_milliseconds(settings.now),
            way=self.way,
            window=WINDOW_SQLITE_PAGES,
        )

    def image(self, database: bytes, settings: Settings) -> Pieces:
        """Yield header and database, which both ways keep alike."""
        page_bytes = settings.page_size if database else 0
        assert not database or len(database) % page_bytes == 0
        header = _HEADER.pack(
            _MAGIC, _VERSION, page_bytes, len(database), kept_sum(database, settings.page_size)
        )
        yield 0, header
        if database:
            yield KEPT_OFFSET, database


@dataclass(frozen=True, slots=True)
class Staying:
    """SQLite over stable memory: an upgrade finds the database where it is."""

    name: str = "stay"
    summary: str = "SQLite in stable memory: nothing is moved"
    build: str = HEAP_BUILD.name
    "Of all three: what they differ by is then no other allocator, and no other layout of a heap."
    has_pre_upgrade: bool = False
    database_bytes_max: int | None = None

    def argument(self, settings: Settings) -> bytes:
        """Return how the database is opened."""
        return encode_settings(settings, now_ms=julian_milliseconds(settings.now))

    def image(self, database: bytes, settings: Settings) -> Pieces:
        """Yield the memory manager's tables and the database, or in layout raw that alone."""
        if settings.layout == "raw":
            if database:
                yield 0, database
            return
        memory = StableMemory(limits=None)
        manager = MemoryManager(memory, bucket_wasm_pages=settings.bucket_pages)
        wasm_pages = -(-len(database) // WASM_PAGE_BYTES)
        # As the module grows it: whole buckets.
        wasm_pages = -(-wasm_pages // settings.bucket_pages) * settings.bucket_pages
        assert manager.get(DATABASE_MEMORY_ID).grow(wasm_pages) == 0
        yield 0, memory.peek(0, BUCKETS_OFFSET)
        if database:
            # The only memory of a new manager: its buckets follow each other, and are all there.
            yield BUCKETS_OFFSET, database
            yield memory.wasm_pages * WASM_PAGE_BYTES - 1, b"\0"


STAY: Final = Staying()
WHOLE: Final = Serialising(
    "whole",
    "SQLite in the heap, serialised whole",
    way=0,
    database_bytes_max=ALLOCATION_BYTES_MAX,
)
STREAMED: Final = Serialising(
    "streamed",
    "SQLite in the heap, streamed SQLite page by SQLite page",
    way=1,
    database_bytes_max=None,
)

STRATEGIES: Final[tuple[Strategy, ...]] = (STAY, WHOLE, STREAMED)
"""All that are compared."""


def kept_sum(database: bytes, page_size: int) -> int:
    """Return the sum of a database, as ``source/heap.c`` keeps it in its header.

    Examples:
        >>> kept_sum(b"", 4096)
        0
    """
    pages = np.frombuffer(database, dtype="<u8").reshape(-1, page_size // 8)
    offsets = np.arange(len(pages), dtype=np.uint64) * np.uint64(page_size)
    with np.errstate(over="ignore"):
        sums = (offsets + np.uint64(1)) * _ODD
        for column in range(pages.shape[1]):
            sums = (sums ^ pages[:, column]) * _ODD
            sums ^= sums >> _HALF
    # SQLite leaves out the page that has the lock byte.
    counted = sums[offsets // np.uint64(page_size) != np.uint64(_LOCK_BYTE // page_size)]
    return int(np.sum(counted, dtype=np.uint64))


def kept_database(image: bytes) -> bytes:
    """Return the database in stable memory that build ``heap`` has written.

    Examples:
        >>> image = bytearray(KEPT_OFFSET + 512)
        >>> for address, data in WHOLE.image(bytes(range(256)) * 2, Settings(page_size=512)):
        ...     image[address : address + len(data)] = data
        >>> kept_database(bytes(image)) == bytes(range(256)) * 2
        True
    """
    magic, _, _, size_bytes, _ = _HEADER.unpack_from(image)
    assert magic == _MAGIC
    return image[KEPT_OFFSET : KEPT_OFFSET + size_bytes]
