"""The names of further files in stable memory: attached databases and journals.

A memory manager knows its virtual memories by number only. So the first Wasm page of virtual
memory 121 holds a small directory. It is written when the first further file is made, and not
before: an image with one database and no stable journal has none.

Layout, integers little-endian; entry 0 is the main database in virtual memory 120, kept so that
it and its journal have the same names in each session::

    byte            size   content
    --------------  -----  ----------------------------------------------------------------
         0            8    "SQLSTDIR"
         8            1    version: 1
         9          247    reserved, zero
    256 + 256 x n         entry n, of 134 at most
         +0           1    virtual memory that holds the file: 120, or 122 to 254; 0 ends the list
         +1           1    kind: 1 database, 2 journal, 3 what was a write-ahead log
         +2           2    bytes of the name, 1 to 248
         +4           4    reserved, zero
         +8         248    the name in UTF-8, then zeros

Invariants:

* Names and virtual memories occur once. Entries are added and never removed: a virtual memory
  cannot shrink, so a deleted file keeps its place, and gets it back when it is made again.
* A virtual memory that has buckets already is somebody else's, and is never given to a file.
* Memories 101 to 119 belong to stable-fs, and those up to 100 to the canister's own structures.
* A write-ahead log was made by early versions only, and is empty: it keeps its place, too.
* What is kept beside the bytes is derived from them anew after each rollback.
"""

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from sqlstable.errors import ImageError
from sqlstable.ic.units import WASM_PAGE_BYTES
from sqlstable.memory.manager import MemoryManager

if TYPE_CHECKING:
    from sqlstable.memory.stable import StableMemory

DIRECTORY_MEMORY_ID: Final = 121
"""Virtual memory of the directory, the one behind the main database's."""

DATABASE_MEMORY_ID: Final = 120
"""Virtual memory of the main database. Source: wasm-forge/ic-rusqlite ``src/lib.rs``, 0.5.0."""

FURTHER_MEMORY_IDS: Final = range(122, 255)
"""Virtual memories of further files."""

MAGIC: Final = b"SQLSTDIR"
VERSION: Final = 1
ENTRY_BYTES: Final = 256
NAME_BYTES_MAX: Final = 248
ENTRIES_MAX: Final = 1 + len(FURTHER_MEMORY_IDS)

KINDS: Final = ("", "database", "journal", "wal")
"""Kinds of files, by the number that stands for them in an entry."""

_ENTRY: Final = struct.Struct(f"<BBH4x{NAME_BYTES_MAX}s")
_HEADER: Final = struct.Struct(f"<{len(MAGIC)}sB{ENTRY_BYTES - len(MAGIC) - 1}x")
DIRECTORY_BYTES: Final = ENTRY_BYTES * (1 + ENTRIES_MAX)
"""Bytes of a directory that is full."""

assert _ENTRY.size == _HEADER.size == ENTRY_BYTES
assert DIRECTORY_BYTES <= WASM_PAGE_BYTES, "one Wasm page holds the whole directory"


class Entry(NamedTuple):
    """One file that has a place in stable memory."""

    memory_id: int
    "Virtual memory that holds it."
    kind: str
    "database, journal or wal."
    name: str
    "Name by which SQLite opens it."


class Directory:
    """The directory of one memory manager.

    Args:
        memory: The stable memory below.
        manager: Its memory manager.

    Raises:
        ImageError: There is a directory, of a newer version or damaged.
    """

    def __init__(self, memory: "StableMemory", manager: MemoryManager) -> None:
        """Read the directory, if there is one; nothing is recorded or written."""
        self._memory = memory
        self._manager = manager
        self._handle = manager.get(DIRECTORY_MEMORY_ID)
        self._bytes = b""
        self.entries: dict[str, Entry] = {}
        "All entries, by name."
        self.foreign: str | None = None
        "What virtual memory 121 holds, if that is no directory."
        self.reload()

    @property
    def main_name(self) -> str | None:
        """Name of the main database, or None where there is no directory."""
        for entry in self.entries.values():
            if entry.memory_id == DATABASE_MEMORY_ID:
                return entry.name
        return None

    @property
    def used_bytes(self) -> int:
        """Bytes of the header and the entries."""
        return ENTRY_BYTES * (1 + len(self.entries)) if self.entries else 0

    def free_id(self) -> int | None:
        """Return a virtual memory for one more file, or None where none is left."""
        taken = {entry.memory_id for entry in self.entries.values()}
        for memory_id in FURTHER_MEMORY_IDS:
            if memory_id not in taken and not self._manager.buckets(memory_id):
                return memory_id
        return None

    def reload(self) -> None:
        """Derive everything from the bytes, which the manager's tables locate.

        Raises:
            ImageError: The directory is of a newer version, or damaged. Nothing is changed.
        """
        data = self._peek()
        if data == self._bytes:
            return
        is_ours = data.startswith(MAGIC)
        entries = decode(data) if is_ours else {}
        self._bytes, self.entries = data, entries
        self.foreign = None if is_ours or not data else repr(data[:16])

    def check_usable(self) -> None:
        """Refuse to use what is no directory.

        Raises:
            ImageError: Virtual memory 121 belongs to somebody else.
        """
        if self.foreign is not None:
            raise ImageError(
                f"virtual memory {DIRECTORY_MEMORY_ID} should hold the names of further files, "
                f"and begins with {self.foreign} instead of {MAGIC!r}: it belongs to something "
                "else, so this image can hold the main database only; keep its journal in the "
                "heap (journal_mode memory or off), and give other databases a memory of their own"
            )

    def add(self, entry: Entry, *, main_name: str, before_write: Callable[[], None]) -> bool:
        """Write an entry, in the open message; the first one with header and main database.

        Args:
            entry: The new file.
            main_name: Name of the main database.
            before_write: Called before each write.

        Returns:
            False, with nothing changed, where stable memory has no room for a directory.
        """
        if not self.make_room():
            return False
        if not self.entries:
            main = Entry(DATABASE_MEMORY_ID, "database", main_name)
            before_write()
            self._write(0, _HEADER.pack(MAGIC, VERSION) + _encode(main) + _encode(entry))
            self.entries = {main_name: main}
        else:
            before_write()
            self._write(ENTRY_BYTES * (1 + len(self.entries)), _encode(entry))
        self.entries[entry.name] = entry
        self._bytes = self._peek()
        return True

    def make_room(self) -> bool:
        """Allocate the directory's Wasm page, if it has none; False where there is no room."""
        return self._handle.size() > 0 or self._handle.grow(1) >= 0

    def _write(self, offset: int, data: bytes) -> None:
        self._handle.write(offset, data)

    def _peek(self) -> bytes:
        if not self._handle.size():
            return b""
        # No bucket is smaller than a Wasm page, so the whole directory lies in the first one.
        bucket = self._manager.buckets(DIRECTORY_MEMORY_ID)[0]
        return self._memory.peek(self._manager.bucket_address(bucket), DIRECTORY_BYTES)


def decode(data: bytes) -> dict[str, Entry]:
    """Return the entries of a directory, by name.

    Args:
        data: Its bytes, beginning with the magic.

    Raises:
        ImageError: The version is unknown, or the entries cannot be.
    """
    if data[len(MAGIC)] != VERSION:
        raise ImageError(
            f"the file directory in virtual memory {DIRECTORY_MEMORY_ID} has version "
            f"{data[len(MAGIC)]}, and this sqlstable knows version {VERSION}; use a newer one"
        )
    entries: dict[str, Entry] = {}
    memory_ids: set[int] = set()
    for index in range(ENTRIES_MAX):
        start = ENTRY_BYTES * (1 + index)
        record = data[start : start + ENTRY_BYTES]
        if record[0] == 0:
            break
        entry = _decode_entry(record, index)
        if entry.name in entries or entry.memory_id in memory_ids:
            raise _damaged(index, f"{entry.name!r} in virtual memory {entry.memory_id} is there "
                           "twice")  # fmt: skip
        entries[entry.name] = entry
        memory_ids.add(entry.memory_id)
    if DATABASE_MEMORY_ID not in memory_ids:
        raise _damaged(0, f"no entry names virtual memory {DATABASE_MEMORY_ID}")
    return entries


def _decode_entry(record: bytes, index: int) -> Entry:
    memory_id, kind, length, name = _ENTRY.unpack(record)
    is_main = memory_id == DATABASE_MEMORY_ID
    if is_main != (index == 0) or not (is_main or memory_id in FURTHER_MEMORY_IDS):
        raise _damaged(index, f"virtual memory {memory_id} cannot hold its file")
    if not 1 <= kind < len(KINDS) or (is_main and KINDS[kind] != "database"):
        raise _damaged(index, f"a file of kind {kind} cannot be")
    if not 1 <= length <= NAME_BYTES_MAX or any(name[length:]) or 0 in name[:length]:
        raise _damaged(index, f"its name does not have {length} bytes")
    try:
        text = name[:length].decode()
    except UnicodeDecodeError:
        raise _damaged(index, f"its name {name[:length]!r} is no UTF-8") from None
    return Entry(memory_id, KINDS[kind], text)


def _encode(entry: Entry) -> bytes:
    name = entry.name.encode()
    assert 1 <= len(name) <= NAME_BYTES_MAX
    return _ENTRY.pack(entry.memory_id, KINDS.index(entry.kind), len(name), name)


def _damaged(index: int, reason: str) -> ImageError:
    return ImageError(
        f"entry {index} of the file directory in virtual memory {DIRECTORY_MEMORY_ID} is "
        f"damaged: {reason}; restore an intact image"
    )
