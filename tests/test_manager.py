"""The memory manager against the Rust crate's images and call traces, and a plain model."""

import gzip
import json
import struct
import zlib
from pathlib import Path
from types import SimpleNamespace

import apsw
import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from sqlstable.errors import (
    ImageError,
    LimitTrap,
    MemoryManagerError,
    OutOfBoundsTrap,
    SettingsError,
    Trap,
)
from sqlstable.ic.units import OS_PAGE_BYTES, WASM_PAGE_BYTES, os_pages_spanned
from sqlstable.memory.manager import (
    BUCKETS_MAX,
    HEADER_BYTES,
    MEMORIES_MAX,
    NO_OWNER,
    MemoryManager,
    VirtualMemory,
)
from sqlstable.memory.stable import StableMemory

VECTORS = Path(__file__).parent / "vectors"
TABLE_END = 2080 + 32_768


class LoggedMemory:
    """A growing bytearray with hard bounds that logs each call as the vectors do."""

    def __init__(self, data=b"", *, wasm_pages_max=2**32):
        self.data = bytearray(data)
        self.log = []
        self.wasm_pages_max = wasm_pages_max
        self.calls_left = None

    def size(self):
        self._record("s", 0, 0)
        return len(self.data) // WASM_PAGE_BYTES

    def grow(self, wasm_pages):
        self._record("g", wasm_pages, 0)
        before = len(self.data) // WASM_PAGE_BYTES
        if before + wasm_pages > self.wasm_pages_max:
            return -1
        self.data.extend(bytes(wasm_pages * WASM_PAGE_BYTES))
        return before

    def read(self, offset, length):
        self._record("r", offset, length)
        return self.peek(offset, length)

    def write(self, offset, data):
        self._record("w", offset, len(data))
        assert 0 <= offset <= offset + len(data) <= len(self.data)
        self.data[offset : offset + len(data)] = data

    def peek(self, offset, length):
        assert 0 <= offset <= offset + length <= len(self.data)
        return bytes(self.data[offset : offset + length])

    def take_log(self):
        log, self.log = self.log, []
        return log

    def _record(self, *call):
        if self.calls_left == 0:
            raise Trap("fault: no calls left")
        if self.calls_left is not None:
            self.calls_left -= 1
        self.log.append(list(call))


class SparseMemory:
    """A memory of any size that holds only the Wasm pages written to."""

    def __init__(self):
        self.wasm_pages = {}
        self.size_wasm_pages = 0
        self.os_pages_dirty = set()

    def size(self):
        return self.size_wasm_pages

    def grow(self, wasm_pages):
        self.size_wasm_pages += wasm_pages
        return self.size_wasm_pages - wasm_pages

    def read(self, offset, length):
        assert 0 <= offset <= offset + length <= self.size_wasm_pages * WASM_PAGE_BYTES
        blank = bytes(WASM_PAGE_BYTES)
        return b"".join(
            bytes(self.wasm_pages.get(index, blank)[start:stop])
            for index, start, stop in self._pieces(offset, length)
        )

    def write(self, offset, data):
        assert 0 <= offset <= offset + len(data) <= self.size_wasm_pages * WASM_PAGE_BYTES
        self.os_pages_dirty.update(os_pages_spanned(offset, len(data)))
        rest = memoryview(data)
        for index, start, stop in self._pieces(offset, len(data)):
            wasm_page = self.wasm_pages.setdefault(index, bytearray(WASM_PAGE_BYTES))
            wasm_page[start:stop] = rest[: stop - start]
            rest = rest[stop - start :]

    def _pieces(self, offset, length):
        while length:
            index, start = divmod(offset, WASM_PAGE_BYTES)
            count = min(WASM_PAGE_BYTES - start, length)
            yield index, start, start + count
            offset, length = offset + count, length - count


def vector_json(name):
    return json.loads((VECTORS / name).read_text())


def vector_image(name):
    return gzip.decompress((VECTORS / name).read_bytes())


def crc(data):
    return f"{zlib.crc32(data):08x}"


def pattern(length, seed):
    index = np.arange(length, dtype=np.uint64)
    return ((131 * seed + 17 * index + 29 * (index >> np.uint64(8))) % 256).astype("u1").tobytes()


def content(manager, memory_id):
    memory = manager.get(memory_id)
    return memory.read(0, memory.size() * WASM_PAGE_BYTES)


def state(manager):
    """Everything a manager says about itself."""
    return (
        manager.bucket_wasm_pages,
        manager.owners(),
        dict(manager.sizes()),
        [manager.buckets(memory_id) for memory_id in range(MEMORIES_MAX)],
    )


def image(
    *,
    magic=b"MGR",
    version=1,
    allocated=0,
    bucket_wasm_pages=1,
    sizes=(),
    owners=b"",
    wasm_pages=None,
    byte_order="<",
):
    """A managed memory written out from the documented layout, field by field."""
    size_list = [dict(sizes).get(memory_id, 0) for memory_id in range(255)]
    front = magic + struct.pack(f"{byte_order}BHH", version, allocated, bucket_wasm_pages)
    front += bytes(32) + struct.pack(f"{byte_order}255Q", *size_list)
    front += owners + b"\xff" * (32_768 - len(owners))
    assert len(front) == TABLE_END
    if wasm_pages is None:
        wasm_pages = 1 + allocated * bucket_wasm_pages
    return front + bytes(wasm_pages * WASM_PAGE_BYTES - len(front))


# --- The crate's own images and traces


def replay_step(step, manager, handles):
    """Do one step of an interleaved vector; return what the crate returned, under its names."""
    handle = handles.setdefault(step["memory"], manager.get(step["memory"]))
    if step["op"] == "grow":
        return {"ret": handle.grow(step["pages"])}
    if step["op"] == "read":
        data = handle.read(step["offset"], step["len"])
        assert len(data) == step["len"]
        return {"data_crc": crc(data)}
    assert step["op"] == "write"
    handle.write(step["offset"], pattern(step["len"], step["seed"]))
    return {}


@pytest.mark.parametrize("bucket_wasm_pages", [1, pytest.param(128, marks=pytest.mark.slow)])
def test_interleaved_vector_is_reproduced_call_by_call(bucket_wasm_pages):
    vector = vector_json(f"memory_manager_interleaved_bucket{bucket_wasm_pages}.json")
    first, *steps = vector["steps"]
    assert first["op"] == "init"
    memory = LoggedMemory()
    manager = MemoryManager(memory, bucket_wasm_pages=first["bucket_size_in_pages"])
    handles = {}
    assert_step_matches(first, memory, {})
    for step in steps:
        assert_step_matches(step, memory, replay_step(step, manager, handles))

    assert memory.data == vector_image(vector["image"])
    assert crc(memory.data) == vector["image_crc"]
    assert_final_state(vector, manager)
    assert_final_state(vector, MemoryManager(memory))


def assert_step_matches(step, memory, results):
    assert memory.take_log() == step["trace"], step
    assert len(memory.data) == step["real_pages"] * WASM_PAGE_BYTES, step
    assert crc(memory.data) == step["crc"], step
    expected = {key: step[key] for key in ("ret", "data_crc") if key in step}
    assert results == expected, step


def assert_final_state(vector, manager):
    assert list(manager.owners()) == vector["bucket_owners"]
    assert len(manager.owners()) == vector["num_allocated_buckets"]
    assert manager.bucket_wasm_pages == vector["bucket_size_in_pages"]
    assert dict(manager.sizes()) == {m["memory"]: m["size_in_pages"] for m in vector["final"]}
    for memory in vector["final"]:
        assert crc(content(manager, memory["memory"])) == memory["content_crc"]


def test_vectors_hold_every_kind_of_step():
    """The replay above would pass on files that lost the interesting steps."""
    one, many = (
        vector_json(f"memory_manager_interleaved_bucket{n}.json")["steps"] for n in (1, 128)
    )
    assert {step["op"] for step in one} == {"init", "grow", "write", "read"}
    assert {step["op"] for step in many} == {"init", "grow", "write", "read"}
    zero_length = [step for step in one if step.get("len") == 0]
    assert [step["op"] for step in zero_length] == ["write", "read"]
    assert any(step.get("pages") == 0 for step in one)
    assert any(len(step["trace"]) == 3 and step["op"] in {"read", "write"} for step in one)
    past_size = many[17]
    assert past_size["op"] == "write"
    assert past_size["offset"] >= 129 * WASM_PAGE_BYTES


def test_reclaimed_image_opens_with_its_holes():
    memory = LoggedMemory(vector_image("memory_manager_v071_reclaimed.a_after_reclaim.bin.gz"))
    assert crc(memory.data) == vector_json("memory_manager_v071_reclaimed.json")["image_a_crc"]
    manager = MemoryManager(memory)
    assert list(manager.owners()) == [NO_OWNER, NO_OWNER, NO_OWNER, 11, 11]
    assert dict(manager.sizes()) == {11: 2}
    assert content(manager, 11) == pattern(WASM_PAGE_BYTES, 200) + pattern(WASM_PAGE_BYTES, 201)


def test_reused_buckets_are_read_in_ascending_order():
    vector = vector_json("memory_manager_v071_reclaimed.json")
    memory = LoggedMemory(vector_image("memory_manager_v071_reclaimed.b_after_reuse.bin.gz"))
    assert crc(memory.data) == vector["image_b_crc"]
    manager = MemoryManager(memory)
    assert list(manager.owners()) == vector["owners_after_b"]
    assert len(manager.owners()) == vector["num_allocated_buckets"]
    assert manager.buckets(11) == (1, 3, 4)
    assert crc(content(manager, 11)) == vector["memory11_crc_after_reload"]
    assert vector["memory11_crc_after_reload"] != vector["memory11_crc_in_the_live_session"]
    assert crc(content(manager, 12)) == vector["memory12_page0_crc_right_after_grow"]


def test_holes_are_never_filled_again():
    memory = LoggedMemory(vector_image("memory_manager_v071_reclaimed.b_after_reuse.bin.gz"))
    manager = MemoryManager(memory)
    assert manager.get(13).grow(2) == 0
    assert list(manager.owners()) == [12, 11, NO_OWNER, 11, 11, 13, 13]
    assert memory.data[2080 + 2] == NO_OWNER
    assert state(MemoryManager(memory)) == state(manager)


def test_sqlite_database_of_ic_rusqlite_layout_is_sound():
    vector = vector_json("memory_manager_sqlite_in_memory_120.json")
    manager = MemoryManager(LoggedMemory(vector_image(vector["image"])))
    assert list(manager.owners()) == vector["bucket_owners"]
    assert manager.bucket_wasm_pages == vector["bucket_size_in_pages"]
    assert dict(manager.sizes()) == {
        3: vector["other_size_in_pages"],
        vector["db_memory"]: vector["db_memory_size_in_pages"],
    }
    assert manager.buckets(vector["db_memory"]) == (0, 2)
    database = manager.get(vector["db_memory"]).read(0, vector["db_bytes"])
    assert crc(database) == vector["db_crc"]
    connection = apsw.Connection(":memory:")
    connection.deserialize("main", database)
    integrity = connection.execute("PRAGMA integrity_check").get
    answer = connection.execute(vector["sql_check"]).get
    connection.close()
    assert integrity == vector["pragma_integrity_check"]
    assert list(answer) == vector["sql_expect"]


@pytest.fixture(scope="module")
def canister_image():
    vector = vector_json("canister_image.json")
    data = vector_image(vector["image"])
    assert crc(data) == vector["image_crc"]
    return SimpleNamespace(data=data, **vector)


@pytest.mark.slow
def test_canister_image_opens(canister_image):
    memory = LoggedMemory(canister_image.data)
    manager = MemoryManager(memory)
    assert memory.log == [["s", 0, 0], ["r", 0, 3], ["r", 0, 2080], ["r", 2080, 32_768]]
    assert list(manager.owners()) == canister_image.bucket_owners
    assert manager.bucket_wasm_pages == canister_image.bucket_size_in_pages
    magics = [manager.get(memory_id).read(0, 3) for memory_id in range(7)]
    assert magics == [b"BTR", b"GLI", b"GLD", b"SCL", b"SVC", b"SMH", b"BTR"]

    cell = bytes.fromhex(canister_image.memories["3"]["value"])
    assert manager.get(3).read(4, 4 + len(cell)) == struct.pack("<I", len(cell)) + cell
    items = [bytes.fromhex(item) for item in canister_image.memories["4"]["content"]]
    assert manager.get(4).read(64, 8 * len(items)) == b"".join(items)
    entries = [bytes.fromhex(entry) for entry in canister_image.memories["1,2"]["content"]]
    assert manager.get(2).read(32, sum(map(len, entries))) == b"".join(entries)


@pytest.mark.slow
def test_new_memory_leaves_the_others_of_a_canister_alone(canister_image):
    memory = LoggedMemory(canister_image.data)
    manager = MemoryManager(memory)
    crc_before = {memory_id: crc(content(manager, memory_id)) for memory_id in manager.sizes()}
    assert sorted(crc_before) == list(range(7))

    memory.take_log()
    database = manager.get(120)
    assert database.grow(1) == 0
    touched = [call for call in memory.take_log() if call[0] in "rw"]
    os_pages = set().union(*(os_pages_spanned(offset, length) for _, offset, length in touched))
    assert os_pages <= set(range(9))

    database.write(0, pattern(WASM_PAGE_BYTES, 5))
    address = manager.bucket_address(7)
    assert memory.take_log() == [["w", address, WASM_PAGE_BYTES]]
    assert address == len(canister_image.data)

    reopened = MemoryManager(memory)
    assert list(reopened.owners()) == [*canister_image.bucket_owners, 120]
    assert content(reopened, 120) == pattern(WASM_PAGE_BYTES, 5)
    for memory_id, expected in crc_before.items():
        assert crc(content(reopened, memory_id)) == expected


# --- Bytes and addresses


def test_new_manager_is_the_documented_layout():
    memory = LoggedMemory()
    manager = MemoryManager(memory, bucket_wasm_pages=3)
    assert memory.data == image(bucket_wasm_pages=3)
    manager.get(254).grow(4)
    manager.get(0).grow(1)
    expected = image(
        allocated=3, bucket_wasm_pages=3, sizes={254: 4, 0: 1}, owners=bytes([254, 254, 0])
    )
    assert memory.data == expected


def test_default_bucket_is_8_mib():
    manager = MemoryManager(LoggedMemory())
    assert manager.bucket_wasm_pages == 128
    assert manager.bucket_bytes == 8 * 1024 * 1024
    assert manager.bucket_address(0) == 65_536
    assert manager.bucket_address(32_767) == 65_536 + 32_767 * 8 * 1024 * 1024


def test_stored_bucket_size_wins_over_the_argument():
    memory = LoggedMemory(image(bucket_wasm_pages=5))
    assert MemoryManager(memory, bucket_wasm_pages=2).bucket_wasm_pages == 5


def test_memory_is_not_grown_beyond_need():
    memory = LoggedMemory(bytes(10 * WASM_PAGE_BYTES))
    manager = MemoryManager(memory, bucket_wasm_pages=3, overwrite=True)
    assert manager.memory is memory
    assert manager.get(0).grow(9) == 0
    assert len(memory.data) == 10 * WASM_PAGE_BYTES
    assert manager.get(0).grow(1) == 9
    assert len(memory.data) == 13 * WASM_PAGE_BYTES


def test_empty_grow_rewrites_the_header_only():
    memory = LoggedMemory()
    virtual = MemoryManager(memory).get(3)
    before = bytes(memory.data)
    memory.take_log()
    assert virtual.grow(0) == 0
    assert memory.take_log() == [["s", 0, 0], ["s", 0, 0], ["w", 0, HEADER_BYTES]]
    assert memory.data == before


def test_spare_bucket_is_used_before_the_new_one():
    """A memory that owns more buckets than its size needs goes on with the spare one."""
    data = image(allocated=2, sizes={7: 1}, owners=bytes([7, 7]))
    manager = MemoryManager(LoggedMemory(data))
    virtual = manager.get(7)
    assert virtual.grow(1) == 1
    assert manager.buckets(7) == (0, 1, 2)
    virtual.write(WASM_PAGE_BYTES, b"spare")
    assert manager.memory.peek(manager.bucket_address(1), 5) == b"spare"


def test_255_memories_are_independent():
    memory = LoggedMemory()
    manager = MemoryManager(memory, bucket_wasm_pages=1)
    for memory_id in range(MEMORIES_MAX):
        virtual = manager.get(memory_id)
        assert virtual.memory_id == memory_id
        assert virtual.grow(1) == 0
        virtual.write(memory_id, bytes([memory_id]) * 300)
    reopened = MemoryManager(memory)
    assert list(reopened.owners()) == list(range(MEMORIES_MAX))
    for memory_id in range(MEMORIES_MAX):
        data = reopened.get(memory_id).read(memory_id, 300)
        assert data == bytes([memory_id]) * 300


def test_buckets_run_out_at_32768():
    memory = SparseMemory()
    manager = MemoryManager(memory, bucket_wasm_pages=1)
    virtual = manager.get(9)
    assert virtual.grow(BUCKETS_MAX + 1) == -1
    assert manager.owners() == b""
    assert virtual.grow(BUCKETS_MAX - 1) == 0
    assert manager.get(254).grow(1) == 0
    assert max(memory.os_pages_dirty) == 8

    before, front = state(manager), memory.read(0, WASM_PAGE_BYTES)
    assert virtual.grow(1) == -1
    assert manager.get(0).grow(1) == -1
    assert virtual.grow(0) == BUCKETS_MAX - 1
    assert state(manager) == before
    assert memory.read(0, WASM_PAGE_BYTES) == front
    assert memory.size() == 1 + BUCKETS_MAX
    assert state(MemoryManager(memory)) == before
    virtual.write((BUCKETS_MAX - 1) * WASM_PAGE_BYTES - 3, b"end")
    assert memory.read(BUCKETS_MAX * WASM_PAGE_BYTES - 3, 3) == b"end"


def test_default_buckets_hold_256_gib():
    memory = SparseMemory()
    virtual = MemoryManager(memory).get(120)
    assert virtual.grow(BUCKETS_MAX * 128) == 0
    assert virtual.grow(1) == -1
    last = 256 * 1024**3 - 1
    virtual.write(last, b"!")
    assert virtual.read(last - 1, 2) == b"\0!"


# --- Bounds and the bucket cache


@pytest.fixture
def memory():
    return LoggedMemory()


@pytest.fixture
def manager(memory):
    manager = MemoryManager(memory, bucket_wasm_pages=2)
    memory.take_log()
    return manager


@pytest.mark.parametrize(
    ("offset", "length"),
    [(WASM_PAGE_BYTES, 1), (WASM_PAGE_BYTES - 1, 2), (0, WASM_PAGE_BYTES + 1), (2**70, 1)],
)
def test_access_past_the_size_traps(manager, memory, offset, length):
    virtual = manager.get(4)
    virtual.grow(1)
    memory.take_log()
    with pytest.raises(OutOfBoundsTrap, match=rf"MemoryId\(4\): read .* {length} bytes at byte"):
        virtual.read(offset, length)
    with pytest.raises(OutOfBoundsTrap, match=rf"write out of bounds.*{offset}.*\(1 Wasm pages\)"):
        virtual.write(offset, bytes(length))
    assert memory.take_log() == []


@pytest.mark.parametrize(("offset", "length"), [(-1, 1), (-WASM_PAGE_BYTES, 4), (0, -1), (5, -3)])
def test_negative_numbers_never_reach_the_header(manager, memory, offset, length):
    virtual = manager.get(4)
    virtual.grow(4)
    virtual.read(0, 1)
    memory.take_log()
    with pytest.raises(OutOfBoundsTrap):
        virtual.read(offset, length)
    assert virtual.grow(-1) == -1
    assert virtual.size() == 4
    assert memory.take_log() == []


def test_bytes_past_the_size_in_the_bucket_used_last_are_reachable(manager):
    virtual = manager.get(4)
    virtual.grow(1)
    virtual.read(0, 1)
    virtual.write(WASM_PAGE_BYTES + 10, b"early")
    assert virtual.read(WASM_PAGE_BYTES + 10, 5) == b"early"
    with pytest.raises(OutOfBoundsTrap):
        virtual.read(2 * WASM_PAGE_BYTES - 1, 2)
    assert virtual.grow(1) == 1
    assert manager.get(4).read(WASM_PAGE_BYTES + 10, 5) == b"early"


def test_each_handle_has_its_own_cache(manager):
    used, fresh = manager.get(4), manager.get(4)
    used.grow(1)
    used.read(0, 1)
    used.read(WASM_PAGE_BYTES, 1)
    with pytest.raises(OutOfBoundsTrap):
        fresh.read(WASM_PAGE_BYTES, 1)


def test_bucket_is_remembered_even_if_the_access_traps(manager, memory):
    virtual = manager.get(4)
    virtual.grow(1)
    memory.calls_left = 0
    with pytest.raises(Trap, match="fault"):
        virtual.read(0, 1)
    memory.calls_left = None
    assert virtual.read(WASM_PAGE_BYTES, 1) == b"\0"


def test_zero_bytes_at_zero_of_a_new_handle_reach_byte_zero_below(manager, memory):
    assert manager.get(4).read(0, 0) == b""
    manager.get(4).write(0, b"")
    assert memory.take_log() == [["r", 0, 0], ["w", 0, 0]]


def test_zero_bytes_at_one_of_an_empty_memory_trap(manager):
    with pytest.raises(OutOfBoundsTrap):
        manager.get(4).read(1, 0)
    with pytest.raises(OutOfBoundsTrap):
        manager.get(4).write(1, b"")


def test_zero_bytes_in_bounds_but_outside_the_cached_bucket_make_no_call(manager, memory):
    virtual = manager.get(4)
    virtual.grow(6)
    virtual.read(0, 1)
    memory.take_log()
    assert virtual.read(5 * WASM_PAGE_BYTES, 0) == b""
    virtual.write(6 * WASM_PAGE_BYTES, b"")
    assert memory.take_log() == []
    assert virtual.read(2 * WASM_PAGE_BYTES, 0) == b""
    assert memory.take_log() == [["r", manager.bucket_address(1), 0]]


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_every_kind_of_buffer_is_written(manager, kind):
    virtual = manager.get(4)
    virtual.grow(5)
    data = pattern(3 * WASM_PAGE_BYTES, 9)
    for _ in range(2):
        virtual.write(WASM_PAGE_BYTES + 7, kind(data))
        virtual.write(WASM_PAGE_BYTES + 7, kind(data[:9]))
    read = virtual.read(WASM_PAGE_BYTES + 7, len(data))
    assert read == data
    assert type(read) is bytes


# --- Rejections


SQLITE_MAGIC = b"SQLite format 3\0"
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


# --- Traps and rollbacks


def test_memory_that_cannot_grow_for_the_header_traps():
    memory = LoggedMemory(wasm_pages_max=0)
    with pytest.raises(LimitTrap, match="own 2080 bytes at byte 0 need 1 Wasm pages more than the"):
        MemoryManager(memory)
    assert memory.data == b""


def test_failing_grow_below_traps_and_changes_nothing_in_the_manager():
    memory = LoggedMemory(wasm_pages_max=6)
    manager = MemoryManager(memory, bucket_wasm_pages=2)
    manager.get(1).grow(3)
    before, data = state(manager), bytes(memory.data)
    text = r"MemoryId\(1\): grow failed: 4 buckets of 2 Wasm pages need 9 .* the memory below has 5"
    with pytest.raises(LimitTrap, match=text):
        manager.get(1).grow(4)
    assert state(manager) == before
    memory.data[:] = data  # what the rollback of the message does
    assert manager.get(1).grow(1) == 3
    assert state(MemoryManager(memory)) == state(manager)


def test_trap_at_any_call_of_a_grow_leaves_the_manager_as_it_was():
    def prepare():
        memory = LoggedMemory()
        manager = MemoryManager(memory, bucket_wasm_pages=1)
        manager.get(3).grow(1)
        manager.get(4).grow(1)
        memory.take_log()
        return memory, manager

    memory, manager = prepare()
    manager.get(3).grow(2)
    expected, call_count = bytes(memory.data), len(memory.log)
    assert call_count == 9
    for calls_left in range(call_count):
        memory, manager = prepare()
        before, data = state(manager), bytes(memory.data)
        memory.calls_left = calls_left
        with pytest.raises(Trap, match="fault"):
            manager.get(3).grow(2)
        memory.calls_left = None
        assert state(manager) == before
        memory.data[:] = data
        assert manager.get(3).grow(2) == 1
        assert memory.data == expected


def test_reload_reaches_every_handle_and_makes_no_recorded_call(manager, memory):
    virtual, other = manager.get(4), manager.get(5)
    virtual.grow(3)
    virtual.write(0, b"kept")
    before, data = state(manager), bytes(memory.data)
    other.grow(2)
    virtual.grow(5)
    virtual.write(0, b"lost")
    virtual.read(7 * WASM_PAGE_BYTES, 1)
    memory.data[:] = data
    memory.take_log()

    manager.reload(memory.peek, size_wasm_pages=len(data) // WASM_PAGE_BYTES)
    assert memory.take_log() == []
    assert state(manager) == before
    assert (virtual.size(), other.size()) == (3, 0)
    assert virtual.read(0, 4) == b"kept"
    with pytest.raises(OutOfBoundsTrap):
        virtual.read(7 * WASM_PAGE_BYTES, 1)


def test_reload_empties_the_bucket_caches(manager, memory):
    virtual = manager.get(4)
    virtual.grow(1)
    virtual.read(0, 1)
    virtual.read(WASM_PAGE_BYTES, 1)
    manager.reload(memory.peek, size_wasm_pages=3)
    with pytest.raises(OutOfBoundsTrap):
        virtual.read(WASM_PAGE_BYTES, 1)
    memory.take_log()
    virtual.write(0, b"")
    assert memory.take_log() == [["w", 0, 0]]


def test_reload_of_an_empty_memory_starts_over_with_the_next_grow(manager, memory):
    expected_log = [["s", 0, 0], ["g", 1, 0], ["w", 0, 2080], ["s", 0, 0], ["w", 2080, 32_768]]
    expected_log += [["s", 0, 0], ["w", 2080, 1], ["s", 0, 0], ["s", 0, 0], ["g", 2, 0]]
    expected_log += [["s", 0, 0], ["w", 0, 2080]]
    virtual = manager.get(4)
    virtual.grow(7)
    memory.data.clear()
    manager.reload(memory.peek, size_wasm_pages=0)
    assert (virtual.size(), manager.owners(), dict(manager.sizes())) == (0, b"", {})
    assert manager.bucket_wasm_pages == 2
    with pytest.raises(OutOfBoundsTrap):
        virtual.read(0, 1)

    memory.take_log()
    assert virtual.grow(1) == 0
    assert memory.take_log() == expected_log
    fresh = LoggedMemory()
    expected = MemoryManager(fresh, bucket_wasm_pages=2).get(4)
    assert expected.grow(1) == 0
    assert virtual.grow(2) == expected.grow(2) == 1
    assert memory.data == fresh.data


def test_trap_while_starting_over_starts_over_again(manager, memory):
    memory.data.clear()
    manager.reload(memory.peek, size_wasm_pages=0)
    for calls_left in range(12):
        memory.calls_left = calls_left
        with pytest.raises(Trap, match="fault"):
            manager.get(4).grow(1)
        memory.data.clear()
    memory.calls_left = None
    assert manager.get(4).grow(1) == 0
    assert memory.data == image(allocated=1, bucket_wasm_pages=2, sizes={4: 1}, owners=b"\4")


def test_reload_of_overwritten_bytes_needs_the_permission_given_before():
    foreign = SQLITE_MAGIC.ljust(WASM_PAGE_BYTES, b"\0")
    memory = LoggedMemory(foreign)
    manager = MemoryManager(memory, bucket_wasm_pages=1, overwrite=True)
    memory.data[:] = foreign
    manager.reload(memory.peek, size_wasm_pages=1)
    assert manager.get(0).grow(1) == 0
    assert memory.data == image(allocated=1, sizes={0: 1}, owners=b"\0")


@pytest.mark.parametrize("damage", [b"SQL", b"MGR\2"])
def test_failed_reload_changes_nothing(manager, memory, damage):
    manager.get(4).grow(3)
    before = state(manager)
    memory.data[: len(damage)] = damage
    with pytest.raises(ImageError):
        manager.reload(memory.peek, size_wasm_pages=5)
    assert state(manager) == before


# --- A plain model


BUCKET_SIZES = (1, 2, 3, 128)
MEMORY_IDS = (0, 1, 120, 254)
MODEL_BYTES_MAX = 400 * WASM_PAGE_BYTES


class ManagerModel(RuleBasedStateMachine):
    """Random use of four memories beside four bytearrays; reopening may happen at any time."""

    @initialize(bucket_wasm_pages=st.sampled_from(BUCKET_SIZES))
    def make(self, bucket_wasm_pages):
        self.memory = SparseMemory()
        self.manager = MemoryManager(self.memory, bucket_wasm_pages=bucket_wasm_pages)
        self.model = {memory_id: bytearray() for memory_id in MEMORY_IDS}
        self.handles = {memory_id: self.manager.get(memory_id) for memory_id in MEMORY_IDS}

    @rule(memory_id=st.sampled_from(MEMORY_IDS), buckets=st.integers(0, 2), more=st.integers(-1, 2))
    def grow(self, memory_id, buckets, more):
        wasm_pages = max(0, buckets * self.manager.bucket_wasm_pages + more)
        model = self.model[memory_id]
        if len(model) + wasm_pages * WASM_PAGE_BYTES > MODEL_BYTES_MAX:
            return
        assert self.handles[memory_id].grow(wasm_pages) == len(model) // WASM_PAGE_BYTES
        model.extend(bytes(wasm_pages * WASM_PAGE_BYTES))

    @rule(memory_id=st.sampled_from(MEMORY_IDS), data=st.data(), seed=st.integers(0, 255))
    def write(self, memory_id, data, seed):
        offset, length = data.draw(self.ranges(memory_id))
        written = pattern(length, seed)
        self.handles[memory_id].write(offset, written)
        self.model[memory_id][offset : offset + length] = written

    @rule(memory_id=st.sampled_from(MEMORY_IDS), data=st.data())
    def read(self, memory_id, data):
        offset, length = data.draw(self.ranges(memory_id))
        expected = self.model[memory_id][offset : offset + length]
        assert self.handles[memory_id].read(offset, length) == expected

    @rule(memory_id=st.sampled_from(MEMORY_IDS), excess=st.integers(1, 3 * WASM_PAGE_BYTES))
    def read_past_the_end_with_a_new_handle(self, memory_id, excess):
        with pytest.raises(OutOfBoundsTrap):
            self.manager.get(memory_id).read(len(self.model[memory_id]), excess)

    @rule()
    def reload(self):
        before = state(self.manager)
        self.manager.reload(self.memory.read, size_wasm_pages=self.memory.size())
        assert state(self.manager) == before

    @rule()
    def reopen(self):
        before = state(self.manager)
        self.manager = MemoryManager(self.memory)
        self.handles = {memory_id: self.manager.get(memory_id) for memory_id in MEMORY_IDS}
        assert state(self.manager) == before

    @invariant()
    def sizes_agree(self):
        sizes = {
            memory_id: len(model) // WASM_PAGE_BYTES
            for memory_id, model in self.model.items()
            if model
        }
        assert dict(self.manager.sizes()) == sizes
        held = [index for memory_id in MEMORY_IDS for index in self.manager.buckets(memory_id)]
        assert sorted(held) == list(range(len(self.manager.owners())))
        required = 1 + len(held) * self.manager.bucket_wasm_pages
        assert self.memory.size() == required

    def teardown(self):
        for memory_id, model in self.model.items():
            assert content(self.manager, memory_id) == model

    def ranges(self, memory_id):
        """Ranges in bounds, most of them around the ends of Wasm pages."""
        size = len(self.model[memory_id])
        ends = st.integers(0, size // WASM_PAGE_BYTES).map(lambda n: n * WASM_PAGE_BYTES)
        near = st.builds(lambda end, by: min(max(end + by, 0), size), ends, st.integers(-9, 9))
        lengths = st.integers(0, 20) | st.integers(0, 3 * WASM_PAGE_BYTES)
        return st.builds(lambda offset, length: (offset, min(length, size - offset)), near, lengths)


TestManagerModel = pytest.mark.slow(ManagerModel.TestCase)
TestManagerModel.settings = settings(max_examples=60, stateful_step_count=25)


# --- The seam


def test_virtual_memories_stack():
    """A virtual memory is a memory: a manager works inside one."""
    inner = MemoryManager(MemoryManager(LoggedMemory()).get(7), bucket_wasm_pages=1)
    assert isinstance(inner.memory, VirtualMemory)
    assert inner.get(2).grow(2) == 0
    inner.get(2).write(WASM_PAGE_BYTES - 1, b"ab")
    assert inner.get(2).read(WASM_PAGE_BYTES - 1, 2) == b"ab"


def test_os_pages_of_a_virtual_memory_are_os_pages_below(manager):
    manager.get(0).grow(3)
    for bucket_index in range(2):
        assert manager.bucket_address(bucket_index) % OS_PAGE_BYTES == 0


def test_a_trap_of_the_manager_is_a_trap_of_the_message():
    memory = StableMemory()
    with memory.message("update"):
        virtual = MemoryManager(memory).get(0)
    memory.begin("update")
    with pytest.raises(OutOfBoundsTrap):
        virtual.read(0, 1)
    with pytest.raises(OutOfBoundsTrap):
        memory.write(0, b"too late")
    memory.rollback()
