"""What stable memory consists of at the moment, as a trace keeps it; nothing of it is recorded."""

from sqlstable.database.vfs import StableVFS
from sqlstable.errors import ImageError
from sqlstable.ic.units import WASM_PAGE_BYTES
from sqlstable.layout.files import StableFileInfo
from sqlstable.memory.manager import BUCKET_TABLE_OFFSET, BUCKETS_MAX, BUCKETS_OFFSET
from sqlstable.sqlite.header import HEADER_BYTES, parse_header
from sqlstable.trace.model import StableArea
from sqlstable.trace.ownership.file_owners import FileListing, FileOwners, ListedFile


def list_files(vfs: StableVFS) -> FileListing:
    """Return the files in stable memory and their buckets."""
    files = [ListedFile(it.name, it.kind, it.bucket_addresses) for it in vfs.stable_files()]
    return FileListing(files, (vfs.bucket_pages or 1) * WASM_PAGE_BYTES)


def file_owners(vfs: StableVFS) -> FileOwners | None:
    """Return who has what lies beside the main database; None where nothing can."""
    if vfs.bucket_pages is None and vfs.store.record is None:
        return None
    manager_bytes = 0 if vfs.bucket_pages is None else BUCKETS_OFFSET
    return FileOwners(lambda: list_files(vfs), manager_bytes=manager_bytes)


def list_areas(vfs: StableVFS, message: int) -> tuple[StableArea, ...]:
    """Return what stable memory consists of now.

    Args:
        vfs: Its files are listed.
        message: Index of the message that has just ended.
    """
    unit_bytes = (vfs.bucket_pages or 1) * WASM_PAGE_BYTES
    areas = [_area(vfs, info, message, unit_bytes) for info in vfs.stable_files()]
    if vfs.bucket_pages and vfs.memory.wasm_pages:
        tables_bytes = BUCKET_TABLE_OFFSET + BUCKETS_MAX
        areas.append(
            StableArea(
                message=message,
                name="memory manager",
                kind="memory manager",
                memory_id=None,
                allocated_bytes=BUCKETS_OFFSET,
                unit_bytes=WASM_PAGE_BYTES,
                size_bytes=BUCKETS_OFFSET,
                used_bytes=tables_bytes,
                free_bytes=0,
            )
        )
    return tuple(areas)


def _area(vfs: StableVFS, info: StableFileInfo, message: int, unit_bytes: int) -> StableArea:
    size_bytes = min(info.size_bytes, info.allocated_bytes)
    # A database that is being made may be longer than what is allocated so far.
    used_bytes = min(info.used_bytes, size_bytes)
    free_bytes = _free_bytes(vfs, info) if info.kind == "database" else 0
    return StableArea(
        message=message,
        name=info.name,
        kind=info.kind,
        memory_id=info.memory_id,
        allocated_bytes=info.allocated_bytes,
        unit_bytes=unit_bytes,
        size_bytes=size_bytes,
        used_bytes=used_bytes,
        free_bytes=min(free_bytes, used_bytes),
    )


def _free_bytes(vfs: StableVFS, info: StableFileInfo) -> int:
    """Return how much of a database is free SQLite pages, as its header says."""
    if info.used_bytes < HEADER_BYTES or not info.bucket_addresses:
        return 0
    try:
        header = parse_header(vfs.memory.peek(info.bucket_addresses[0], HEADER_BYTES))
    except ImageError:
        return 0
    return 0 if header is None else header.free_count * header.page_size
