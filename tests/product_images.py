"""Images of other products, built and read by what their sources document, without sqlstable.

froghub: ``src/vfs.rs`` of froghub-io/ic-sqlite. ic-sqlite-vfs: ``src/stable/meta.rs`` and
``docs/API_STABILITY.md`` of humandebri/ic-sqlite-vfs, 2.x, in a memory manager of
ic-stable-structures.
"""

import sqlite3
import struct
from contextlib import closing
from itertools import pairwise

WASM_PAGE = 65_536
SUPERBLOCK_FIELDS = (
    ("version", 8, 4),
    ("sqlite_page_size", 12, 4),
    ("db_size", 16, 8),
    ("schema_version", 24, 8),
    ("last_tx_id", 32, 8),
    ("flags", 40, 8),
    ("checksum", 48, 8),
    ("import_expected_checksum", 56, 8),
    ("import_written_until", 64, 8),
    ("import_total_size", 72, 8),
    ("import_base_offset", 80, 8),
    ("checksum_refresh_offset", 88, 8),
    ("checksum_refresh_hash", 96, 8),
    ("checksum_refresh_tx_id", 104, 8),
    ("db_base_offset", 112, 8),
    ("page_table_offset", 120, 8),
    ("page_count", 128, 8),
    ("layout_version", 136, 8),
    ("zero_extent_count", 144, 8),
    ("meta_checksum", 152, 8),
)


def database(*statements, page_size=4096):
    """The bytes of a database that plain SQLite has made."""
    with closing(sqlite3.connect(":memory:")) as plain:
        plain.execute(f"PRAGMA page_size = {page_size}")
        plain.execute("VACUUM")
        for statement in statements:
            plain.execute(statement)
        plain.commit()
        return plain.serialize()


def rows_of(data, sql):
    """What plain SQLite reads in a database; its integrity is checked."""
    with closing(sqlite3.connect(":memory:")) as plain:
        plain.deserialize(data)
        assert plain.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return plain.execute(sql).fetchall()


def padded(data, unit=WASM_PAGE):
    return data + bytes(-len(data) % unit)


# -- froghub ---------------------------------------------------------------------------------------


def froghub(data, *, length=None):
    return padded(struct.pack(">Q", len(data) if length is None else length) + data)


def froghub_database(image):
    """The file that the product gives to SQLite."""
    (length,) = struct.unpack_from(">Q", image)
    assert 8 + length <= len(image)
    return image[8 : 8 + length]


# -- ic-sqlite-vfs ---------------------------------------------------------------------------------


def fnv(data):
    value = 14695981039346656037
    for byte in data:
        value = (value ^ byte) * 1099511628211 % (1 << 64)
    return value


def superblock(*, masks=(), **fields):
    """A superblock whose own checksum is right unless it is among the fields."""
    values = {
        "version": 8,
        "sqlite_page_size": 16_384,
        "db_base_offset": WASM_PAGE,
        "layout_version": 8,
        "zero_extent_count": len(masks),
        **fields,
    }
    values.setdefault("page_count", -(-values.get("db_size", 0) // 16_384))
    block = bytearray(b"ICSQLITE" + bytes(152))
    for name, offset, size in SUPERBLOCK_FIELDS:
        block[offset : offset + size] = values.get(name, 0).to_bytes(size, "little")
    block += b"".join(struct.pack("<QQ", *mask) for mask in masks)
    if "meta_checksum" not in fields:
        block[152:160] = fnv(block).to_bytes(8, "little")
    return bytes(block)


def read_superblock(memory):
    """The fields of a superblock, and the masked ranges; checked as the product checks them."""
    fields = {
        name: int.from_bytes(memory[offset : offset + size], "little")
        for name, offset, size in SUPERBLOCK_FIELDS
    }
    count = fields["zero_extent_count"]
    assert memory[:8] == b"ICSQLITE"
    assert fields["version"] == fields["layout_version"] == 8
    assert count <= 1024
    block = bytearray(memory[: 160 + 16 * count])
    block[152:160] = bytes(8)
    assert fnv(block) == fields["meta_checksum"]
    masks = [struct.unpack_from("<QQ", memory, 160 + 16 * n) for n in range(count)]
    assert all(start < stop for start, stop in masks)
    assert all(one[1] < other[0] for one, other in pairwise(masks))
    assert fields["page_count"] == -(-fields["db_size"] // 16_384)
    assert fields["page_table_offset"] == 0
    return fields, masks


def managed(memories, *, bucket_pages=1, order=None):
    """An image with a memory manager.

    Args:
        memories: Bytes of each virtual memory, by id.
        bucket_pages: Wasm pages of a bucket.
        order: Owner of each bucket; by default one memory after the other.
    """
    size = bucket_pages * WASM_PAGE
    needed = {one: -(-len(data) // size) for one, data in memories.items()}
    order = order or [one for one in memories for _ in range(needed[one])]
    sizes = [-(-len(memories.get(one, b"")) // WASM_PAGE) for one in range(255)]
    header = struct.pack("<3sBHH32x255Q", b"MGR", 1, len(order), bucket_pages, *sizes)
    image = bytearray(padded(header + bytes(order) + b"\xff" * (32_768 - len(order))))
    taken = dict.fromkeys(memories, 0)
    for owner in order:
        start = taken[owner] * size
        taken[owner] += 1
        image += memories.get(owner, b"")[start : start + size].ljust(size, b"\0")
    return bytes(image)


def virtual_memory(image, memory_id):
    """The bytes of a virtual memory."""
    _, _, count, bucket_pages, *sizes = struct.unpack_from("<3sBHH32x255Q", image)
    size = bucket_pages * WASM_PAGE
    buckets = [n for n, owner in enumerate(image[2080 : 2080 + count]) if owner == memory_id]
    parts = [image[WASM_PAGE + n * size : WASM_PAGE + (n + 1) * size] for n in buckets]
    return b"".join(parts)[: sizes[memory_id] * WASM_PAGE]


def ic_sqlite_vfs_memory(data, *, base=WASM_PAGE, masks=(), **fields):
    """A virtual memory with a database."""
    block = superblock(db_size=len(data), db_base_offset=base, masks=masks, **fields)
    return padded(block.ljust(base, b"\0") + data)


def ic_sqlite_vfs(data, *, memory_id=120, bucket_pages=1, others=None, order=None, **fields):
    memory = ic_sqlite_vfs_memory(data, **fields)
    return managed({memory_id: memory, **(others or {})}, bucket_pages=bucket_pages, order=order)


def ic_sqlite_vfs_database(image, memory_id=120):
    """The file that the product gives to SQLite, and the fields of the superblock."""
    memory = virtual_memory(image, memory_id)
    fields, masks = read_superblock(memory)
    base, size = fields["db_base_offset"], fields["db_size"]
    assert base + size <= len(memory)
    data = bytearray(memory[base : base + size])
    for start, stop in masks:
        low, high = min(start * 16_384, size), min(stop * 16_384, size)
        data[low:high] = bytes(high - low)
    return bytes(data), fields
