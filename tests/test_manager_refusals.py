"""What the memory manager refuses: foreign memories, and tables that contradict themselves."""

import pytest

from sqlstable.errors import (
    ImageError,
    MemoryManagerError,
    SettingsError,
)
from sqlstable.ic.units import WASM_PAGE_BYTES
from sqlstable.memory.manager import (
    MemoryManager,
)
from tests.manager_world import (  # noqa: F401  fixtures
    SQLITE_MAGIC,
    TABLE_END,
    LoggedMemory,
    content,
    image,
    manager_fixture,
    memory_fixture,
    pattern,
)

FOREIGN = {
    "raw": (SQLITE_MAGIC, 1, "'SQLite format 3', a raw database"),
    "froghub": ((8192).to_bytes(8, "big") + SQLITE_MAGIC, 2, "froghub"),
    "nim": (b"NIMSQLV1", 1, "Nim"),
    "motoko": (b"MOREGION\2", 6, "'MOREGION', the regions of a Motoko canister"),
    "map": (b"BTR\2", 1, "a BTreeMap of ic-stable-structures without a manager"),
    "cell": (b"SCL\1", 1, "a Cell"),
    "vec": (b"SVC\1", 1, "a Vec"),
    "heap": (b"SMH\1", 1, "a MinHeap"),
    "log index": (b"GLI\1", 1, "the index of a Log"),
    "log data": (b"GLD\1", 1, "the data of a Log"),
    "identity": (b"IIC\x09".ljust(65_536, b"\0") + b"MGR\1", 3, "a manager at byte 65536"),
    "almost": (b"MGS\1", 1, "begins with the bytes 4d 47 53 01 00"),
    "zeros": (b"", 4, "of 4 Wasm pages: it begins with zeros"),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_foreign_memory_is_refused_and_named(case):
    start, wasm_pages, text = FOREIGN[case]
    memory = LoggedMemory(start.ljust(wasm_pages * WASM_PAGE_BYTES, b"\0"))
    before = bytes(memory.data)
    with pytest.raises(ImageError, match=text) as caught:
        MemoryManager(memory)
    assert not isinstance(caught.value, MemoryManagerError)
    assert "overwrite=True" in str(caught.value)
    assert memory.data == before
    assert {call[0] for call in memory.log} == {"s", "r"}


def test_overwrite_replaces_the_front_and_keeps_the_rest():
    memory = LoggedMemory(pattern(3 * WASM_PAGE_BYTES, 1))
    before = bytes(memory.data)
    manager = MemoryManager(memory, bucket_wasm_pages=1, overwrite=True)
    new = [["s", 0, 0], ["w", 0, 2080], ["s", 0, 0], ["w", 2080, 32_768]]
    assert memory.log == [["s", 0, 0], ["r", 0, 3], *new]
    assert memory.data == image()[:TABLE_END] + before[TABLE_END:]
    assert manager.get(0).grow(1) == 0
    assert content(manager, 0) == before[WASM_PAGE_BYTES : 2 * WASM_PAGE_BYTES]


def test_overwrite_opens_a_manager_that_is_there():
    memory = LoggedMemory(image(allocated=1, sizes={5: 1}, owners=b"\5"))
    before = bytes(memory.data)
    assert dict(MemoryManager(memory, overwrite=True).sizes()) == {5: 1}
    assert memory.data == before


BIG_ENDIAN = "MotokoStableBTree"
UNSOUND = {
    "version 0": ({"version": 0}, "layout version 0; only version 1"),
    "version 2": ({"version": 2}, "layout version 2; only version 1"),
    "bucket size 0": ({"bucket_wasm_pages": 0}, "buckets have 0 Wasm pages"),
    "too many buckets": (
        {"allocated": 32_769, "wasm_pages": 1},
        "32769 buckets are allocated, of 32768",
    ),
    "truncated": (
        {"allocated": 3, "bucket_wasm_pages": 2, "owners": b"\1\1\2", "wasm_pages": 6},
        "3 buckets of 2 Wasm pages need 7 Wasm pages, but the memory has 6",
    ),
    "truncated to the header": (
        {"allocated": 1, "bucket_wasm_pages": 128, "owners": b"\1", "wasm_pages": 1},
        "need 129 Wasm pages, but the memory has 1",
    ),
    "size without buckets": (
        {"sizes": {7: 1}},
        "memory 7 has 1 Wasm pages, but its 0 buckets hold 0",
    ),
    "size above buckets": (
        {"allocated": 2, "bucket_wasm_pages": 2, "sizes": {0: 2, 9: 3}, "owners": b"\0\x09"},
        "memory 9 has 3 Wasm pages, but its 1 buckets hold 2",
    ),
    "size near 2^64": (
        {"allocated": 1, "sizes": {254: 2**64 - 1}, "owners": b"\xfe"},
        "memory 254 has 18446744073709551615 Wasm pages",
    ),
    "owner beyond A": (
        {"allocated": 1, "sizes": {0: 1}, "owners": b"\0\xff\x05"},
        "bucket 2 belongs to memory 5, but only 1 buckets are allocated",
    ),
    "last owner beyond A": (
        {"owners": b"\xff" * 32_767 + b"\0"},
        "bucket 32767 belongs to memory 0, but only 0",
    ),
    "hole where a bucket was": (
        {"allocated": 1, "sizes": {0: 1}, "owners": b"\xff"},
        "memory 0 has 1 Wasm pages, but its 0 buckets hold 0",
    ),
    "big-endian": (
        {
            "allocated": 2,
            "bucket_wasm_pages": 128,
            "sizes": {0: 1, 1: 5},
            "owners": b"\0\1",
            "byte_order": ">",
        },
        BIG_ENDIAN,
    ),
    "big-endian, 256 buckets": (
        # Read as little-endian, these are one bucket of 32 768 Wasm pages, which would fit.
        {
            "allocated": 256,
            "bucket_wasm_pages": 128,
            "sizes": {0: 256 * 128},
            "owners": bytes(256),
            "byte_order": ">",
        },
        BIG_ENDIAN,
    ),
    "big-endian, empty": ({"bucket_wasm_pages": 128, "byte_order": ">"}, BIG_ENDIAN),
}


class FrontMemory(LoggedMemory):
    """Says it is larger than the first Wasm page, which is all that it holds."""

    def __init__(self, data):
        super().__init__(data[:WASM_PAGE_BYTES])
        self.size_wasm_pages = len(data) // WASM_PAGE_BYTES

    def size(self):
        super().size()
        return self.size_wasm_pages


def unsound_memory(case):
    fields = dict(UNSOUND[case][0])
    buckets = fields.get("allocated", 0) * fields.get("bucket_wasm_pages", 1)
    wasm_pages = fields.pop("wasm_pages", 1 + buckets)
    memory = FrontMemory(image(wasm_pages=1, **fields))
    memory.size_wasm_pages = wasm_pages
    return memory


@pytest.mark.parametrize("case", UNSOUND)
@pytest.mark.parametrize("overwrite", [False, True])
def test_unsound_manager_is_refused_with_numbers(case, overwrite):
    memory = unsound_memory(case)
    before = bytes(memory.data)
    with pytest.raises(MemoryManagerError, match=UNSOUND[case][1]) as caught:
        MemoryManager(memory, overwrite=overwrite)
    if UNSOUND[case][1] != BIG_ENDIAN:
        assert BIG_ENDIAN not in str(caught.value)
    assert memory.data == before
    assert memory.log == [["s", 0, 0], ["r", 0, 3], ["r", 0, 2080], ["r", 2080, 32_768]]


def test_little_endian_bucket_of_32768_wasm_pages_opens_when_it_fits():
    memory = FrontMemory(
        image(allocated=1, bucket_wasm_pages=32_768, sizes={0: 9}, owners=b"\0", wasm_pages=1)
    )
    memory.size_wasm_pages = 1 + 32_768
    assert MemoryManager(memory).bucket_bytes == 2 * 1024**3


@pytest.mark.parametrize("bucket_wasm_pages", [-1, 0, 32_768, 65_536])
def test_impossible_bucket_size_is_refused(memory, bucket_wasm_pages):
    with pytest.raises(SettingsError, match=str(bucket_wasm_pages)):
        MemoryManager(memory, bucket_wasm_pages=bucket_wasm_pages)
    assert memory.log == []


@pytest.mark.parametrize("bucket_wasm_pages", [1, 32_767, 32_769, 65_535])
def test_extreme_bucket_sizes_are_kept(memory, bucket_wasm_pages):
    MemoryManager(memory, bucket_wasm_pages=bucket_wasm_pages)
    assert MemoryManager(memory).bucket_wasm_pages == bucket_wasm_pages


@pytest.mark.parametrize("memory_id", [-1, 255, 256])
def test_unknown_memory_id_is_refused(manager, memory_id):
    with pytest.raises(SettingsError, match=f"memory id {memory_id} does not exist"):
        manager.get(memory_id)
    with pytest.raises(SettingsError, match=f"memory id {memory_id} does not exist"):
        manager.buckets(memory_id)


@pytest.mark.parametrize("bucket_index", [-1, 32_768])
def test_unknown_bucket_is_refused(manager, bucket_index):
    with pytest.raises(SettingsError, match=f"bucket {bucket_index} does not exist"):
        manager.bucket_address(bucket_index)
