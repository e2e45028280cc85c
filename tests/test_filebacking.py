"""Readers of an image file: a map, `pread` and plain bytes show the same, always."""

import mmap
import os
import sys
from pathlib import Path
from random import Random

import pytest

from sqlstable.ic.units import GIB, OS_PAGE_BYTES, WASM_PAGE_BYTES
from sqlstable.memory.image import filebacking
from sqlstable.memory.image.filebacking import (
    MAPPED_FILE_SYSTEMS,
    FileBacking,
    FileWindow,
    is_map_safe,
    open_backing,
)
from sqlstable.memory.image.imagefile import open_image
from sqlstable.memory.image.osfile import OsFile
from sqlstable.memory.stable import StableMemory

NEEDS_LINUX = pytest.mark.skipif(
    sys.platform != "linux", reason="maps that grow in place are used on Linux only"
)

REACH = 64 * WASM_PAGE_BYTES
READERS = [pytest.param(False, id="pread"), pytest.param(True, id="map", marks=NEEDS_LINUX)]


@pytest.fixture
def file(tmp_path):
    opened = OsFile(os.open(tmp_path / "image", os.O_RDWR | os.O_CREAT))
    yield opened
    opened.close()


def memory_on(path, *, use_map, durability="process"):
    image = open_image(path, capacity_bytes=REACH, use_map=use_map, durability=durability)
    assert (image.backing.flat is not None) == use_map
    return StableMemory(limits=None, image=image)


@pytest.mark.parametrize("use_map", READERS)
def test_a_reader_follows_the_file_as_it_grows_shrinks_and_is_written(file, use_map):
    backing = open_backing(file, REACH, use_map=use_map)
    view = backing.flat
    model = bytearray()

    def look():
        for address, length in ((0, 10), (len(model) // 2, 5000), (REACH - 9000, 9000), (7, 0)):
            expected = bytes(model[address : address + length]).ljust(length, b"\0")
            assert bytes(backing.read(address, length)) == expected
            if view is not None:
                # What the hot path holds stays right, too.
                assert bytes(view[address : address + length]) == expected

    choose = Random(5)
    for _ in range(60):
        size_bytes = choose.choice((0, 1, 2, 3, 7, 64)) * WASM_PAGE_BYTES
        if size_bytes > len(model) or choose.random() < 0.3:
            if size_bytes < len(model):
                # Truncated to nothing first, as a wipe does: what was there is gone.
                file.resize(0)
                backing.resized(0)
                model.clear()
            file.resize(size_bytes)
            backing.resized(size_bytes)
            model.extend(bytes(size_bytes - len(model)))
        if model:
            address = choose.randrange(len(model) - 4096)
            data = choose.randbytes(choose.randint(1, 4096))
            file.write(address, [data])
            model[address : address + len(data)] = data
        look()
    backing.close()
    assert backing.flat is None


@pytest.mark.slow
@pytest.mark.parametrize("use_map", READERS)
@pytest.mark.parametrize("seed", range(8))
def test_random_messages_read_as_in_a_plain_memory(  # noqa: PLR0912
    tmp_path, seed, use_map
):
    """Growth, writes of any alignment, wipes, traps and closes, against a memory without file."""
    choose = Random(seed)
    path = tmp_path / "image"
    memory = memory_on(path, use_map=use_map)
    model = StableMemory(limits=None)
    for _ in range(120):
        is_kept = choose.random() < 0.7
        both = (memory, model)
        for one in both:
            one.begin("update")
        if choose.random() < 0.06:
            for one in both:
                one.wipe()
        if choose.random() < 0.3 and model.wasm_pages < 50:
            count = choose.randint(1, 5)
            for one in both:
                one.grow(count)
        for _ in range(choose.randint(0, 6) if model.wasm_pages else 0):
            data = choose.randbytes(choose.choice((1, 100, 4096, 9000)))
            address = choose.randrange(model.wasm_pages * WASM_PAGE_BYTES - len(data))
            for one in both:
                one.write(address, data)
        assert memory.image() == model.image()
        for one in both:
            if is_kept:
                one.commit()
            else:
                one.rollback()
        assert memory.image() == model.image() == path.read_bytes()
        if choose.random() < 0.1:
            memory.close()
            memory = memory_on(path, use_map=use_map and choose.random() < 0.7)
            use_map_now = memory.backing.flat is not None
            assert memory.image() == model.image()
            if use_map and not use_map_now:
                memory.close()
                memory = memory_on(path, use_map=True)
    memory.close()
    model.close()


@pytest.mark.parametrize("use_map", READERS)
def test_committed_bytes_are_changed_by_commits_only(file, use_map):
    backing = open_backing(file, REACH, use_map=use_map)
    with pytest.raises(AssertionError):
        backing.write(0, b"x")
    with pytest.raises(AssertionError):
        backing.discard(0, 4096)
    if backing.flat is not None:
        assert backing.flat.readonly
    fresh = backing.empty()
    fresh.write(5, b"x")
    assert bytes(fresh.read(4, 3)) == b"\0x\0"
    fresh.close()
    backing.close()


@NEEDS_LINUX
def test_a_view_that_is_held_outlives_the_backing(file):
    file.resize(WASM_PAGE_BYTES)
    file.write(0, [b"still here"])
    backing = open_backing(file, REACH, use_map=True)
    held = backing.flat[:10]
    backing.close()
    assert bytes(held) == b"still here"


@NEEDS_LINUX
def test_a_map_reserves_addresses_and_no_memory(file):
    file.resize(3 * WASM_PAGE_BYTES)
    before = resident_bytes()
    backing = open_backing(file, 400 * GIB, use_map=True)
    assert len(backing.flat) == 400 * GIB
    assert resident_bytes() - before < 4 << 20
    # The last addresses are there, and zero.
    assert bytes(backing.read(400 * GIB - 10, 10)) == bytes(10)
    # Beyond the map the file is asked.
    assert bytes(backing.read(400 * GIB - 5, 10)) == bytes(10)
    backing.close()


@NEEDS_LINUX
def test_a_system_that_refuses_the_map_is_read_by_pread(file, monkeypatch):
    file.resize(WASM_PAGE_BYTES)
    file.write(100, [b"bytes"])

    def refuse(*_):
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(filebacking, "FileWindow", refuse)
    backing = open_backing(file, REACH, use_map=True)
    assert backing.flat is None
    assert backing.read(100, 5) == b"bytes"


@NEEDS_LINUX
def test_a_failing_map_leaves_addresses_that_read_as_zero(file, monkeypatch):
    window = FileWindow(file, REACH)
    monkeypatch.setattr(filebacking, "_mmap", lambda *_: 0)
    file.resize(WASM_PAGE_BYTES)
    file.write(0, [b"x"])
    with pytest.raises(OSError, match=r"."):
        window.resized(WASM_PAGE_BYTES)
    assert bytes(window.view[:4]) == bytes(4)


def test_pages_of_this_system_divide_wasm_pages():
    """Else the end of an image would lie inside a page of the map."""
    assert WASM_PAGE_BYTES % mmap.PAGESIZE == 0
    assert mmap.PAGESIZE % OS_PAGE_BYTES == 0


def test_without_a_map_bytes_beyond_the_end_are_zero(file):
    backing = FileBacking(file, REACH, None)
    file.write(0, [b"abc"])
    assert backing.read(1, 5) == b"bc\0\0\0"
    assert backing.read(1 << 40, 3) == bytes(3)
    assert backing.read(0, 0) == b""


# -- which reader ---------------------------------------------------------------------------------


def mounts(monkeypatch, file, *lines):
    device = os.fstat(file.descriptor).st_dev
    here = f"{os.major(device)}:{os.minor(device)}"
    text = "".join(line.replace("HERE", here) + "\n" for line in lines)
    monkeypatch.setattr(Path, "read_text", lambda _, **__: text)


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs"])
def test_local_disks_are_mapped(file, monkeypatch, kind):
    assert kind in MAPPED_FILE_SYSTEMS
    mounts(
        monkeypatch,
        file,
        "1 0 0:5 / /proc rw - proc proc rw",
        f"2 1 HERE / / rw,relatime shared:1 - {kind} /dev/x rw",
    )
    assert is_map_safe(file.descriptor)


@pytest.mark.parametrize(
    "lines",
    [
        [],
        ["2 1 HERE / / rw - tmpfs tmpfs rw"],
        ["2 1 HERE / /home rw - nfs4 host:/x rw"],
        ["2 1 HERE / / rw - fuse.sshfs host:/x rw"],
        ["2 1 HERE / / rw - overlay overlay rw,lowerdir=/a"],
        # The same device under two names: the careful one decides.
        ["2 1 HERE / / rw - ext4 /dev/x rw", "3 1 HERE / /b rw - overlay overlay rw"],
        ["2 1 9999:1 / / rw - ext4 /dev/x rw"],
    ],
)
def test_memory_network_and_unknown_file_systems_are_not(file, monkeypatch, lines):
    mounts(monkeypatch, file, *lines)
    assert not is_map_safe(file.descriptor)
    backing = open_backing(file, REACH)
    assert backing.flat is None


def test_a_system_that_tells_nothing_is_read_by_pread(file, monkeypatch):
    def refuse(self, **_):
        raise PermissionError

    monkeypatch.setattr(Path, "read_text", refuse)
    assert not is_map_safe(file.descriptor)


def resident_bytes():
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()
    return int(pages[1]) * mmap.PAGESIZE
