"""The memory manager: against the Rust crate, byte for byte and call for call."""

import gzip
import json
import struct
import zlib
from pathlib import Path
from types import SimpleNamespace

import apsw
import pytest

from sqlstable.errors import (
    OutOfBoundsTrap,
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
from tests.manager_world import (  # noqa: F401  fixtures
    LoggedMemory,
    SparseMemory,
    content,
    image,
    manager_fixture,
    memory_fixture,
    pattern,
    state,
)

VECTORS = Path(__file__).parent / "vectors"


def vector_json(name):
    return json.loads((VECTORS / name).read_text())


def vector_image(name):
    return gzip.decompress((VECTORS / name).read_bytes())


def crc(data):
    return f"{zlib.crc32(data):08x}"


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
