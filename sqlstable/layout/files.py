"""What lies in stable memory, file by file."""

from dataclasses import dataclass

from sqlstable.errors import ImageError
from sqlstable.memory.signatures import MANAGER_MAGIC, SUPERBLOCK_MAGIC
from sqlstable.sqlite.header import HEADER_BYTES, SQLITE_MAGIC, parse_header


@dataclass(frozen=True, slots=True)
class StableFileInfo:
    """One file in stable memory, or a virtual memory of somebody else's."""

    name: str
    "Name by which SQLite opens it; ``(memory 3)`` for a virtual memory that is not a file here."
    kind: str
    "database, journal, wal, file directory or other memory."
    memory_id: int | None
    "Virtual memory that holds it; None where there is no memory manager."
    allocated_bytes: int
    "Bytes of stable memory that are its own: whole buckets, or the whole memory."
    size_bytes: int
    "Bytes that it may use of them without growing."
    used_bytes: int
    "Exact size of the file now."
    bucket_addresses: tuple[int, ...]
    "Address in stable memory of each of its buckets, in the order of the file."


def file_size_bytes(first_bytes: bytes, allocated_bytes: int) -> int:
    """Return how long the database file is that lies in ``allocated_bytes`` bytes of memory.

    Memory is allocated in Wasm pages and never shrinks, so the header decides. A first
    transaction that was rolled back leaves a header of zeros behind: that file is empty.

    Args:
        first_bytes: The first bytes of the memory, at least 100 where there are so many.
        allocated_bytes: Bytes allocated to the file.

    Raises:
        ImageError: The bytes are not a database, are cut off, or in WAL mode.
    """
    if allocated_bytes == 0 or not any(first_bytes[:HEADER_BYTES]):
        return 0
    header = parse_header(first_bytes)
    if header is None:
        raise ImageError(_foreign(first_bytes))
    if header.is_wal:
        raise ImageError(
            "the database is in WAL mode, and no canister has a write-ahead log. If this is a "
            "database file, import it: sqlstable import APP.db IMAGE; if it is an image, the early "
            "sqlstable that made it takes it out of that mode: PRAGMA journal_mode = delete"
        )
    if header.size_bytes > allocated_bytes:
        raise ImageError(
            f"the database says it has {header.sqlite_page_count} SQLite pages of "
            f"{header.page_size} bytes, {header.size_bytes} in all, but only {allocated_bytes} "
            "bytes are there; the image is truncated"
        )
    return header.size_bytes or allocated_bytes


def _foreign(first_bytes: bytes) -> str:
    start = first_bytes[:16]
    if start[8:] == SQLITE_MAGIC[:8]:
        return (
            "a SQLite database begins at byte 8, behind a length: that is froghub's ic-sqlite; "
            "open the image with layout froghub"
        )
    if start[: len(MANAGER_MAGIC)] == MANAGER_MAGIC:
        return "the bytes begin with a memory manager's header; open them with layout managed"
    if start[: len(SUPERBLOCK_MAGIC)] == SUPERBLOCK_MAGIC:
        return (
            "the bytes begin with the superblock of ic-sqlite-vfs; open the image with layout "
            "ic-sqlite-vfs"
        )
    return (
        f"no SQLite database is there: the bytes begin with {start!r}, and a database with "
        f"{SQLITE_MAGIC!r}; choose the layout and memory that hold it"
    )
