"""Stable memory: its size, its bounds, images of it, and the process around it."""

import os
import random
import warnings
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from sqlstable.errors import (
    ImageError,
    MessageError,
    OutOfBoundsTrap,
    SettingsError,
    Trap,
)
from sqlstable.ic.limits import resolve_limits
from sqlstable.ic.units import GIB, OS_PAGE_BYTES, WASM_PAGE_BYTES
from sqlstable.memory import backing
from sqlstable.memory.accesslog import AccessLog
from sqlstable.memory.backing import ChunkBacking, TieredBacking
from sqlstable.memory.bytemap import ACCESSED, DIRTY
from sqlstable.memory.stable import WASM_PAGES_MAX, StableMemory
from tests.children import run_python
from tests.stable_world import (  # noqa: F401  a fixture
    BACKINGS,
    BORDER,
    LATEST,
    NEEDS_LINUX,
    Witness,
    filled,
    memory_fixture,
    touched,
)

# --- Size and growth


def test_new_memory_is_empty():
    memory = StableMemory()
    assert memory.size() == memory.wasm_pages == 0
    assert memory.image() == b""
    assert memory.grow(0) == 0
    assert memory.read(0, 0) == b""


def test_grow_answers_the_size_before_and_adds_zeros(memory):
    assert memory.grow(2) == 4
    assert memory.grow(1) == 6
    assert memory.size() == 7
    assert memory.image() == bytes(7 * WASM_PAGE_BYTES)


def test_grow_by_nothing_answers_the_size(memory):
    assert memory.grow(0) == 4
    assert memory.size() == 4


@pytest.mark.parametrize(
    ("limits", "wasm_pages_max"),
    [
        ("2021-06-01", 65_536),
        (date(2021, 9, 13), 65_536),
        ("2021-09-14", 2 * 65_536),
        ("2024-01-09", 400 * GIB // WASM_PAGE_BYTES),
        ("latest", 500 * GIB // WASM_PAGE_BYTES),
        (replace(LATEST, stable_memory_wasm_pages_max=3), 3),
        (None, WASM_PAGES_MAX),
    ],
)
def test_growth_ends_at_the_limit_of_the_day(limits, wasm_pages_max):
    memory = StableMemory(limits=limits)
    for growth in (wasm_pages_max + 1, 1 << 64, 1 << 70):
        assert memory.grow(growth) == -1
    assert memory.grow(wasm_pages_max - 1) == 0
    assert memory.grow(2) == -1
    assert memory.size() == wasm_pages_max - 1
    assert memory.grow(1) == wasm_pages_max - 1
    assert memory.grow(1) == -1
    assert memory.grow(0) == wasm_pages_max
    end = wasm_pages_max * WASM_PAGE_BYTES
    memory.write(end - 1, b"!")
    assert memory.read(end - 2, 2) == b"\0!"
    with pytest.raises(OutOfBoundsTrap):
        memory.read(end - 1, 2)
    memory.close()


def test_refused_growth_changes_nothing_in_a_message_either():
    memory = StableMemory(limits=replace(LATEST, stable_memory_wasm_pages_max=3))
    with memory.message():
        assert memory.grow(2) == 0
        assert memory.grow(2) == -1
        memory.write(2 * WASM_PAGE_BYTES - 1, b"!")
    assert memory.size() == 2
    assert memory.trap is None


def test_growth_can_be_bounded_below_the_limit():
    memory = StableMemory(limits=replace(LATEST, stable_memory_wasm_pages_max=3))
    assert memory.grow(2, wasm_pages_max=1) == -1
    assert memory.grow(2, wasm_pages_max=2) == 0
    assert memory.grow(2, wasm_pages_max=9) == -1


def test_negative_growth_is_impossibly_large(memory):
    assert memory.grow(-1) == -1
    assert memory.size() == 4


@pytest.mark.parametrize("limits", ["2021-05-09", "yesterday"])
def test_unknown_limits_are_refused(limits):
    with pytest.raises(SettingsError):
        StableMemory(limits=limits)
    assert resolve_limits(None) is None
    assert resolve_limits(LATEST) is LATEST


# --- Bounds


@pytest.mark.parametrize(
    ("offset", "length"),
    [
        (4 * WASM_PAGE_BYTES, 1),
        (4 * WASM_PAGE_BYTES - 1, 2),
        (0, 4 * WASM_PAGE_BYTES + 1),
        (1 << 62, 1),
        ((1 << 64) - 1, 1),
        (-1, 1),
        (-1, 2),
        (-WASM_PAGE_BYTES, WASM_PAGE_BYTES),
    ],
)
def test_access_outside_the_memory_traps(memory, offset, length):
    before = filled(memory)
    with pytest.raises(OutOfBoundsTrap, match=r"\Astable memory out of bounds\Z"):
        memory.read(offset, length)
    with pytest.raises(OutOfBoundsTrap, match=r"\Astable memory out of bounds\Z"):
        memory.write(offset, bytes(length))
    assert memory.image() == before


def test_negative_length_traps(memory):
    with pytest.raises(OutOfBoundsTrap):
        memory.read(5, -1)


def test_last_byte_is_inside(memory):
    memory.write(4 * WASM_PAGE_BYTES - 1, b"z")
    assert memory.read(4 * WASM_PAGE_BYTES - 2, 2) == b"\0z"


@pytest.mark.parametrize("offset", [0, 4 * WASM_PAGE_BYTES, 4 * WASM_PAGE_BYTES + 1, 1 << 64])
def test_access_of_no_bytes_is_never_out_of_bounds(memory, offset):
    with memory.message():
        assert memory.read(offset, 0) == b""
        memory.write(offset, b"")
        assert touched(memory) == ([], [])


def test_trap_outside_of_a_message_leaves_the_memory_usable(memory):
    with pytest.raises(OutOfBoundsTrap):
        memory.read(1 << 40, 1)
    assert memory.trap is None
    memory.write(0, b"on")
    assert memory.read(0, 2) == b"on"


def test_writes_outside_of_a_message_are_kept_at_once_and_not_marked(memory):
    witness = Witness(memory)
    memory.write(10, b"kept")
    assert memory.read(10, 4) == b"kept"
    assert touched(memory) == ([], [])
    assert bytes(memory.backing.read(10, 4)) == b"kept"
    assert witness.events == []


@pytest.mark.parametrize("address", [1 << 62, WASM_PAGES_MAX * WASM_PAGE_BYTES - 5, 511 * GIB])
def test_far_byte_reads_back_without_limits(address):
    memory = StableMemory(limits=None)
    assert memory.grow(WASM_PAGES_MAX) == 0
    memory.write(address, b"apart")
    with memory.message("query"):
        memory.write(address + 1, b"--")
        assert memory.read(address, 5) == b"a--rt"
    with memory.message():
        memory.write(address + 2, b"++")
        assert memory.read(address, 5) == b"ap++t"
        assert touched(memory)[1] == [address // OS_PAGE_BYTES]
    assert memory.read(address, 5) == b"ap++t"
    assert memory.bytemap.far_marks == {}
    memory.close()


@NEEDS_LINUX
def test_range_across_the_end_of_the_flat_view_is_one_range():
    memory = StableMemory(backing=BACKINGS["tiered"]())
    memory.grow(4)
    assert memory.bytemap.flat_os_pages == BORDER // OS_PAGE_BYTES
    last = BORDER // OS_PAGE_BYTES - 1
    with memory.message():
        memory.write(BORDER - 3, b"border")
        assert memory.bytemap.states(range(last - 1, last + 3)) == bytes([0, DIRTY, DIRTY, 0])
        assert memory.read(BORDER - 5, 10) == b"\0\0border\0\0"
    assert memory.bytemap.states(range(last - 1, last + 3)) == bytes(4)
    assert memory.read(BORDER - 5, 10) == b"\0\0border\0\0"


# --- Images


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_image_survives_the_round_trip(memory, kind):
    before = filled(memory)
    copy = StableMemory.from_image(kind(before))
    assert copy.image() == before
    assert copy.size() == 4
    copy.write(0, b"own")
    assert memory.image() == before
    copy.close()


@pytest.mark.parametrize("kind", [str, Path])
def test_image_file_is_read(tmp_path, kind):
    path = tmp_path / "stable_memory.bin"
    data = bytes(WASM_PAGE_BYTES) + random.Random(1).randbytes(WASM_PAGE_BYTES)
    path.write_bytes(data)
    memory = StableMemory.from_image(kind(path))
    memory.write(0, b"in the copy only")
    memory.close()
    assert path.read_bytes() == data


def test_empty_image_is_an_empty_memory():
    assert StableMemory.from_image(b"").size() == 0


def test_holes_of_an_image_take_no_memory(monkeypatch):
    monkeypatch.setattr(backing, "reserve", lambda _capacity: ChunkBacking())
    data = bytearray(5 * WASM_PAGE_BYTES)
    data[3 * WASM_PAGE_BYTES + 9] = data[-1] = 1
    memory = StableMemory.from_image(data)
    assert sorted(memory.backing._chunks) == [3, 4]
    assert memory.image() == data


@pytest.mark.parametrize(
    ("length", "text"),
    [
        (
            1,
            "the image is 1 bytes long, 1 more than 0 Wasm pages; it is truncated, or not an image",
        ),
        (3 * WASM_PAGE_BYTES - 1, "the image is 196607 bytes long, 65535 more than 2 Wasm pages"),
    ],
)
def test_image_of_broken_length_is_refused(length, text):
    with pytest.raises(ImageError, match=text):
        StableMemory.from_image(bytes(length))


def test_image_above_the_limit_is_refused():
    limits = replace(LATEST, stable_memory_wasm_pages_max=2)
    text = "the image has 3 Wasm pages, the limit is 2; choose limits of a later date, or None"
    with pytest.raises(ImageError, match=text):
        StableMemory.from_image(bytes(3 * WASM_PAGE_BYTES), limits=limits)
    assert StableMemory.from_image(bytes(2 * WASM_PAGE_BYTES), limits=limits).size() == 2


def test_image_shows_the_open_message(memory):
    with memory.message("query"):
        memory.grow(1)
        memory.write(4 * WASM_PAGE_BYTES, b"staged")
        assert memory.image() == bytes(4 * WASM_PAGE_BYTES) + b"staged".ljust(
            WASM_PAGE_BYTES, b"\0"
        )
    assert memory.image() == bytes(4 * WASM_PAGE_BYTES)


def test_reset_empties_the_memory(memory):
    filled(memory)
    witness = Witness(memory)
    memory.reset()
    assert memory.size() == 0
    # A message like any other, behind which everything has to be looked at anew.
    assert witness.seen == [("end", None, False, 0, b""), ("rollback", None, False, 0, b"")]
    with pytest.raises(OutOfBoundsTrap):
        memory.read(0, 1)
    with memory.message():
        assert memory.grow(5) == 0
        memory.write(3 * WASM_PAGE_BYTES + 1, b"new")
    assert memory.image().strip(b"\0") == b"new"


def test_reset_inside_a_message_is_refused(memory):
    memory.begin("reinstall")
    with pytest.raises(MessageError, match=r"a message \(reinstall\) is open; end it before"):
        memory.reset()
    assert memory.size() == 4
    memory.commit()


# --- Observers


def test_peek_is_neither_counted_nor_recorded(memory):
    memory.log = AccessLog(4096, lambda offsets: offsets)
    with memory.message():
        memory.write(5000, b"seen")
        position, before = memory.log.position(), touched(memory)
        assert memory.peek(4998, 8) == b"\0\0seen\0\0"
        assert memory.peek(0, 4 * WASM_PAGE_BYTES) == memory.image()
        assert memory.peek(2 * WASM_PAGE_BYTES, 0) == b""
        assert memory.wasm_pages == 4
        with pytest.raises(OutOfBoundsTrap, match="stable memory out of bounds"):
            memory.peek(4 * WASM_PAGE_BYTES, 1)
        assert memory.trap is None
        assert memory.log.position() == position == 1
        assert touched(memory) == before == ([1], [1])


# --- The process around it


@NEEDS_LINUX
def test_forked_process_leaves_the_marks_of_its_parent_alone():
    memory = StableMemory()
    memory.grow(1)
    memory.begin("update")
    memory.read(0, 1)
    with warnings.catch_warnings():
        # Python warns from 3.12 on where other threads run; none of them is used here.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:  # pragma: no cover
        try:
            # The child is refused; whatever marks all the same does not reach the parent.
            memory.bytemap.touch(range(2), write=True)
            memory.write(0, b"child")
        except Trap as trap:
            os._exit(0 if "before this process was forked" in str(trap) else 1)
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    assert memory.bytemap.states(range(2)) == bytes([ACCESSED, 0])
    assert memory.read(0, 5) == bytes(5)
    memory.commit()
    memory.close()


@NEEDS_LINUX
@pytest.mark.parametrize("maps", [0, 1, 2])
def test_memory_falls_back_to_chunks_where_addresses_run_out(maps):
    resource = pytest.importorskip("resource")  # Windows has none
    before = resource.getrlimit(resource.RLIMIT_AS)
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (taken + maps * 512 * GIB + GIB, before[1]))
    try:
        memory = StableMemory(limits=None)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    assert type(memory.backing) is type(memory.staging)
    assert isinstance(memory.backing, TieredBacking if maps == 2 else ChunkBacking)
    memory.grow(1)
    with memory.message():
        memory.write(0, b"fine")
    assert memory.read(0, 4) == b"fine"
    memory.close()


@NEEDS_LINUX
@pytest.mark.slow
def test_closing_gives_all_memory_back():
    script = """
import os
from pathlib import Path
from sqlstable.memory.stable import StableMemory
def statm(column):
    return int(Path("/proc/self/statm").read_text().split()[column]) * os.sysconf("SC_PAGE_SIZE")
before = statm(0), statm(1)
memory = StableMemory()
memory.grow(8_000_000)
with memory.message():
    for index in range(5000):
        memory.write(index * 100_000_000, b"x")
assert statm(0) - before[0] > 1000 * 2**30
memory.close()
assert statm(0) - before[0] < 64 * 2**20, statm(0) - before[0]
assert statm(1) - before[1] < 16 * 2**20, statm(1) - before[1]
"""
    run_python(script)
