"""One suite for every backing: zeros where nothing was written, memory only where something was.

The backings differ in reach and in how they cut addresses; nothing else may show.
"""

import os
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sqlstable.ic.units import GIB, MIB, OS_PAGE_BYTES
from sqlstable.memory import backing as backing_module
from sqlstable.memory.backing import (
    CHUNK_BYTES,
    FLAT_BYTES_MAX,
    ChunkBacking,
    MappedBacking,
    TieredBacking,
    reserve,
)

REACH = 6 * CHUNK_BYTES
"""Addresses that the tests use, from each backing's base on."""

FAR = 1 << 62

PATTERN = bytes(7 * index % 255 + 1 for index in range(997))

NEEDS_LINUX = pytest.mark.skipif(
    sys.platform != "linux", reason="sparse anonymous maps are used on Linux only"
)


def mapped():
    return MappedBacking(REACH)


def tiered(*, near_bytes=2 * CHUNK_BYTES):
    return TieredBacking(MappedBacking(near_bytes), ChunkBacking(), near_bytes=near_bytes)


def tiered_of_chunks(*, near_bytes=CHUNK_BYTES + 1001):
    """A border that no chunk and no OS page shares."""
    return TieredBacking(ChunkBacking(), ChunkBacking(), near_bytes=near_bytes)


CASES = {
    "mapped": (mapped, 0, NEEDS_LINUX),
    "chunks": (ChunkBacking, 0, ()),
    "chunks far": (ChunkBacking, FAR, ()),
    "tiered": (tiered, 0, NEEDS_LINUX),
    "tiered far": (tiered, FAR, NEEDS_LINUX),
    "tiered of chunks": (tiered_of_chunks, 0, ()),
}
"""Name: (makes one, address from which on it is used, marks)."""

EVERY_BACKING = pytest.mark.parametrize(
    ("make", "base"),
    [pytest.param(make, base, id=name, marks=marks) for name, (make, base, marks) in CASES.items()],
)
EVERY_KIND = pytest.mark.parametrize(
    "make",
    [
        pytest.param(make, id=name, marks=marks)
        for name, (make, base, marks) in CASES.items()
        if base == 0
    ],
)
CUTS = (0, OS_PAGE_BYTES, CHUNK_BYTES, CHUNK_BYTES + 1001, 2 * CHUNK_BYTES, 3 * CHUNK_BYTES)


def content(backing, address, length):
    data = backing.read(address, length)
    assert len(data) == length
    return bytes(data)


def filler(length, seed=0):
    """Bytes without a zero that repeat at no power of two."""
    return (PATTERN * ((length + seed) // len(PATTERN) + 1))[seed : seed + length]


def resident_bytes():
    """Memory that this process takes now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


# --- Reads and writes


@EVERY_BACKING
def test_bytes_never_written_read_as_zero(make, base):
    backing = make()
    assert content(backing, base, REACH) == bytes(REACH)
    assert content(backing, base + CHUNK_BYTES - 1, 2) == b"\0\0"
    backing.write(base + 5, b"x")
    assert content(backing, base, 9) == b"\0\0\0\0\0x\0\0\0"
    assert content(backing, base + 3 * CHUNK_BYTES, 100) == bytes(100)


@EVERY_BACKING
@pytest.mark.parametrize("cut", CUTS)
def test_write_reads_back_across_every_border_and_leaves_its_neighbours(make, base, cut):
    for before in (-1, 0, 1):
        for length in (1, 2, OS_PAGE_BYTES + 1, CHUNK_BYTES, 2 * CHUNK_BYTES + 3):
            start = max(cut - before, 1)
            expected = b"<" + filler(length) + b">"
            backing = make()
            backing.write(base + start - 1, b"<")
            backing.write(base + start + length, b">")
            backing.write(base + start, filler(length))
            assert content(backing, base + start, length) == filler(length)
            assert content(backing, base + start - 1, length + 2) == expected
            assert content(backing, base, REACH).count(0) == REACH - length - 2


@EVERY_BACKING
def test_every_kind_of_buffer_is_kept_as_a_copy(make, base):
    backing = make()
    source = bytearray(filler(CHUNK_BYTES + 10))
    expected = bytes(source)
    for kind in (bytes, bytearray, memoryview):
        backing.write(base + 3, kind(source))
        assert content(backing, base + 3, len(expected)) == expected
    source[:] = bytes(len(source))
    assert content(backing, base + 3, len(expected)) == expected


@EVERY_BACKING
def test_no_bytes_are_read_written_and_discarded_anywhere(make, base):
    backing = make()
    backing.write(base, b"abc")
    for address in (base, base + 1, base + CHUNK_BYTES, FAR, (1 << 64) - 1):
        backing.write(address, b"")
        backing.discard(address, 0)
        assert bytes(backing.read(address, 0)) == b""
    assert content(backing, base, 4) == b"abc\0"


# --- Giving memory back


@EVERY_BACKING
@pytest.mark.parametrize(
    ("start", "stop"),
    [
        (0, REACH),
        (CHUNK_BYTES, 2 * CHUNK_BYTES),
        (OS_PAGE_BYTES, 3 * OS_PAGE_BYTES),
        (1, REACH - 1),
        (CHUNK_BYTES - 1, 2 * CHUNK_BYTES + 1),
        (CHUNK_BYTES + 1, 2 * CHUNK_BYTES - 1),
        (100, 200),
        (OS_PAGE_BYTES - 1, OS_PAGE_BYTES + 1),
        (OS_PAGE_BYTES, OS_PAGE_BYTES + 1),
        (3 * CHUNK_BYTES, 3 * CHUNK_BYTES),
    ],
)
def test_discarded_range_reads_as_zero_and_its_neighbours_stay(make, base, start, stop):
    backing = make()
    expected = bytearray(filler(REACH))
    backing.write(base, expected)
    backing.discard(base + start, stop - start)
    expected[start:stop] = bytes(stop - start)
    assert content(backing, base, REACH) == expected


@EVERY_BACKING
def test_discarded_range_can_be_written_again(make, base):
    backing = make()
    backing.write(base, filler(REACH))
    backing.discard(base + 10, REACH - 20)
    backing.write(base + CHUNK_BYTES - 2, b"again")
    assert content(backing, base + CHUNK_BYTES - 4, 9) == b"\0\0again\0\0"


def test_discard_forgets_whole_chunks_and_makes_none():
    backing = ChunkBacking()
    backing.discard(5, 3 * CHUNK_BYTES)
    assert backing._chunks == {}
    backing.write(0, bytes(4 * CHUNK_BYTES))
    backing.discard(5, 3 * CHUNK_BYTES)
    assert sorted(backing._chunks) == [0, 3]


@EVERY_KIND
def test_empty_backing_has_the_same_kind_and_reach_and_no_bytes(make):
    backing = make()
    backing.write(0, filler(REACH))
    other = backing.empty()
    assert type(other) is type(backing)
    assert content(other, 0, REACH) == bytes(REACH)
    assert (other.flat is None) == (backing.flat is None)
    if backing.flat is not None:
        assert len(other.flat) == len(backing.flat)
    other.write(REACH - 3, b"own")
    assert content(backing, REACH - 3, 3) == filler(REACH)[REACH - 3 : REACH]
    other.close()
    assert content(backing, 0, 3) == filler(REACH)[:3]


# --- Flat views


@EVERY_KIND
def test_flat_view_shows_and_changes_the_bytes_from_address_0_on(make):
    backing = make()
    view = backing.flat
    if view is None:
        assert make in (ChunkBacking, tiered_of_chunks)
        return
    backing.write(10, b"seen")
    assert bytes(view[10:14]) == b"seen"
    view[OS_PAGE_BYTES : OS_PAGE_BYTES + 3] = b"set"
    assert content(backing, OS_PAGE_BYTES, 3) == b"set"
    backing.discard(0, len(view))
    assert bytes(view[10:14]) == bytes(4)


@NEEDS_LINUX
def test_flat_view_of_two_tiers_ends_at_the_border():
    backing = tiered()
    backing.write(2 * CHUNK_BYTES - 2, b"near")
    assert len(backing.flat) == 2 * CHUNK_BYTES
    assert bytes(backing.flat[-2:]) == b"ne"
    with pytest.raises(AssertionError):
        TieredBacking(MappedBacking(2 * CHUNK_BYTES), ChunkBacking(), near_bytes=CHUNK_BYTES)


@NEEDS_LINUX
def test_view_taken_before_closing_stays_readable():
    backing = mapped()
    backing.write(0, b"held")
    view = backing.flat
    backing.close()
    assert backing.flat is None
    assert bytes(view[:4]) == b"held"


@EVERY_KIND
def test_closing_twice_does_no_harm(make):
    backing = make()
    backing.write(0, b"x")
    backing.close()
    backing.close()


# --- What is taken


@NEEDS_LINUX
def test_500_gib_are_reserved_without_taking_memory():
    before = resident_bytes()
    backing = reserve(500 * GIB)
    for index in range(1000):
        backing.write(index * (GIB // 2) + 123, b"x")
    for index in range(1000):
        assert content(backing, index * (GIB // 2) + GIB // 4, OS_PAGE_BYTES) == bytes(4096)
    assert resident_bytes() - before < 1000 * OS_PAGE_BYTES + 8 * MIB
    backing.close()


@NEEDS_LINUX
@pytest.mark.parametrize("ragged", [0, 1])
def test_discarding_a_map_gives_its_memory_back(ragged):
    backing = MappedBacking(GIB)
    before = resident_bytes()
    backing.write(OS_PAGE_BYTES, bytes(64 * MIB))
    assert resident_bytes() - before > 56 * MIB
    backing.discard(OS_PAGE_BYTES + ragged, 64 * MIB - 2 * ragged)
    assert resident_bytes() - before < 8 * MIB


@NEEDS_LINUX
def test_closing_a_map_gives_its_memory_back():
    backing = MappedBacking(GIB)
    before = resident_bytes()
    backing.write(0, bytes(64 * MIB))
    assert resident_bytes() - before > 56 * MIB
    backing.close()
    assert resident_bytes() - before < 8 * MIB


@pytest.mark.parametrize(
    "make",
    [
        ChunkBacking,
        pytest.param(tiered, marks=NEEDS_LINUX),
        pytest.param(lambda: reserve(1 << 63), id="reserved"),
    ],
)
def test_huge_addresses_and_ranges_take_milliseconds(make):
    started = time.process_time()
    backing = make()
    for address in (0, FAR - 3, FAR + CHUNK_BYTES - 2, (1 << 63) - 5):
        backing.write(address, b"abcde")
        assert content(backing, address, 5) == b"abcde"
    backing.discard(5, FAR)
    assert content(backing, 0, 6) == b"abcde\0"
    assert content(backing, FAR - 3, 9) == bytes(8) + b"\0"
    assert content(backing, FAR + CHUNK_BYTES - 2, 5) == b"abcde"
    backing.discard(0, 1 << 63)
    assert content(backing, FAR + CHUNK_BYTES - 2, 5) == bytes(5)
    backing.close()
    # Generous: it takes milliseconds, and a loop over what the range spans would take years.
    assert time.process_time() - started < 0.2


# --- Which one is chosen


@NEEDS_LINUX
@pytest.mark.parametrize(
    ("capacity_bytes", "kind", "flat_bytes"),
    [
        (1, MappedBacking, CHUNK_BYTES),
        (CHUNK_BYTES, MappedBacking, CHUNK_BYTES),
        (4 * GIB, MappedBacking, 4 * GIB),
        (FLAT_BYTES_MAX, MappedBacking, FLAT_BYTES_MAX),
        (FLAT_BYTES_MAX + 1, TieredBacking, FLAT_BYTES_MAX),
        (1 << 64, TieredBacking, FLAT_BYTES_MAX),
    ],
)
def test_reserve_maps_what_a_map_reaches(capacity_bytes, kind, flat_bytes):
    backing = reserve(capacity_bytes)
    assert type(backing) is kind
    assert len(backing.flat) == flat_bytes
    backing.write(capacity_bytes - 1, b"!")
    assert content(backing, capacity_bytes - 1, 1) == b"!"
    backing.close()


def test_reserve_without_maps_is_chunks(monkeypatch):
    def no_map(_capacity_bytes):
        raise OSError

    monkeypatch.setattr(backing_module, "MappedBacking", no_map)
    assert type(reserve(500 * GIB)) is ChunkBacking


def test_map_is_refused_off_linux(monkeypatch):
    monkeypatch.setattr(backing_module.sys, "platform", "darwin")
    with pytest.raises(OSError, match="on Linux only"):
        MappedBacking(CHUNK_BYTES)


# --- A plain model


OFFSETS = st.builds(
    lambda cut, by: min(max(cut + by, 0), REACH), st.sampled_from(CUTS), st.integers(-9, 9)
) | st.integers(0, REACH)
LENGTHS = st.integers(0, 12) | st.integers(0, REACH)
OPERATIONS = st.lists(
    st.tuples(st.sampled_from(["write", "discard", "read"]), OFFSETS, LENGTHS), max_size=12
)


@EVERY_BACKING
@pytest.mark.slow
@settings(max_examples=40)
@given(operations=OPERATIONS)
def test_backing_behaves_as_a_bytearray(make, base, operations):
    backing, model = make(), bytearray(REACH)
    for seed, (operation, offset, wanted) in enumerate(operations):
        length = min(wanted, REACH - offset)
        if operation == "write":
            data = filler(length, seed)
            backing.write(base + offset, data)
            model[offset : offset + length] = data
        elif operation == "discard":
            backing.discard(base + offset, length)
            model[offset : offset + length] = bytes(length)
        assert content(backing, base + offset, length) == model[offset : offset + length]
    assert content(backing, base, REACH) == model
    backing.close()
