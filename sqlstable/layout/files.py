"""What lies in stable memory, file by file."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StableFileInfo:
    """One file in stable memory, or a virtual memory of somebody else's."""

    name: str
    "Name by which SQLite opens it; ``(memory 3)`` for a virtual memory that is not a file here."
    kind: str
    "database, journal, wal, file directory or other memory."
    memory_id: int | None
    "Virtual memory that holds it; None in layout raw."
    allocated_bytes: int
    "Bytes of stable memory that are its own: whole buckets; in layout raw the whole memory."
    size_bytes: int
    "Bytes that it may use of them without growing."
    used_bytes: int
    "Exact size of the file now."
    bucket_addresses: tuple[int, ...]
    "Address in stable memory of each of its buckets, in the order of the file."
