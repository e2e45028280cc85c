"""Blocks of accesses: exact, independent of chunks, small, and refused when damaged."""

import tracemalloc
import zlib
from contextlib import suppress
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqlstable.errors import TraceError
from sqlstable.ic.accesses import Accesses
from sqlstable.ic.words import GROW, READ, SIZE, WRITE
from sqlstable.trace import blocks
from sqlstable.trace.blocks import (
    EMPTY_BLOCK,
    SEGMENT_ACCESSES,
    decode_accesses,
    decode_segments,
    encode_accesses,
)
from sqlstable.trace.format import columns

COLUMNS = ("kind", "address", "length", "offset")
MIB = 1_048_576

int64s = st.integers(-(2**63), 2**63 - 1)
wild_rows = st.tuples(st.integers(-128, 127), int64s, int64s, int64s)
regular_rows = st.tuples(
    st.sampled_from([READ, WRITE]),
    st.integers(0, 300).map(lambda index: 65_536 + 4096 * index),
    st.just(4096),
    st.just(0),
).map(lambda row: (*row[:3], row[1] - 65_536))
outside_rows = st.sampled_from(
    [(SIZE, 0, 0, -1), (GROW, 0, 128, -1), (WRITE, 0, 2080, -1), (READ, 24, 16, -1)]
)
rows_lists = st.lists(regular_rows | outside_rows | wild_rows, max_size=200)


def accesses_of(rows):
    kind, address, length, offset = zip(*rows, strict=True) if rows else ((), (), (), ())
    return Accesses(
        np.array(kind, np.int8),
        np.array(address, np.int64),
        np.array(length, np.int64),
        np.array(offset, np.int64),
    )


def rows_of(accesses):
    return list(zip(*(getattr(accesses, name).tolist() for name in COLUMNS), strict=True))


def assert_equal(actual, expected):
    for name in COLUMNS:
        left, right = getattr(actual, name), getattr(expected, name)
        assert left.dtype == right.dtype
        np.testing.assert_array_equal(left, right)


def whole(os_page_indexes, *, kind=READ, displacement=65_536):
    """Return accesses to whole OS pages of a database that begins at ``displacement``."""
    offset = np.asarray(os_page_indexes, np.int64) * 4096
    count = len(offset)
    kinds = np.broadcast_to(np.asarray(kind, np.int8), count)
    return Accesses(kinds, offset + displacement, np.full(count, 4096, np.int64), offset)


def with_checksum(content):
    return content + zlib.crc32(content).to_bytes(4, "little")


def block_of(count, packed, *, body_bytes=None):
    """Return a block of one segment with any content, right or wrong."""
    sizes = (count, len(packed) if body_bytes is None else body_bytes, len(packed))
    return with_checksum(b"\x01" + b"".join(map(columns.varint, sizes)) + packed)


# Exactness


@given(rows_lists)
def test_everything_comes_back(rows):
    assert rows_of(decode_accesses(encode_accesses([accesses_of(rows)]))) == rows


@pytest.mark.slow
@given(st.lists(wild_rows, min_size=64, max_size=100))
def test_everything_comes_back_from_long_irregular_lists(rows):
    assert rows_of(decode_accesses(encode_accesses([accesses_of(rows)]))) == rows


@given(
    st.integers(64, 3000),
    st.integers(0, 2**32 - 1),
    st.integers(0, 62),
    st.integers(0, 62),
    st.floats(0, 0.2),
)
def test_everything_comes_back_from_mixtures(count, seed, range_bits, unit_bits, share):
    """Long blocks take other ways through the encoder than short ones; so do rare exceptions."""
    random = np.random.default_rng(seed)
    offset = random.integers(0, 1 << range_bits, count) << min(unit_bits, 62 - range_bits)
    accesses = Accesses(
        random.integers(0, 2, count).astype(np.int8),
        offset + ((offset >> 23) % 5) * 8 * MIB,
        np.full(count, 4096, np.int64),
        offset,
    )
    odd = random.random(count) < share
    accesses.kind[odd] = SIZE
    accesses.address[odd] = random.integers(-(2**63), 2**63 - 1, np.count_nonzero(odd))
    accesses.length[odd] = 0
    accesses.offset[odd] = -1
    assert_equal(decode_accesses(encode_accesses([accesses])), accesses)


def test_the_ends_of_the_range_come_back():
    least, most = -(2**63), 2**63 - 1
    corners = [
        (kind, address, length, offset)
        for kind in (-128, 0, 127)
        for address in (least, -1, 0, most)
        for length in (least, 0, most)
        for offset in (least, -1, 0, most)
    ]
    for rows in ([row] for row in corners):
        assert rows_of(decode_accesses(encode_accesses([accesses_of(rows)]))) == rows
    assert rows_of(decode_accesses(encode_accesses([accesses_of(corners)]))) == corners


@pytest.mark.parametrize("granule", [9, 12, 16, 20, 23, 26])
@pytest.mark.parametrize("span", [1 << 16, 1 << 24, 1 << 30, 1 << 40])
def test_buckets_in_any_order_come_back(granule, span):
    random = np.random.default_rng(granule)
    offset = random.integers(0, span, 1000)
    place = (offset >> granule) * 7919 % 10_007
    address = 65_536 + (place << granule) + (offset & ((1 << granule) - 1))
    accesses = Accesses(np.zeros(1000, np.int8), address, np.full(1000, 512, np.int64), offset)
    assert_equal(decode_accesses(encode_accesses([accesses])), accesses)


def test_no_accesses_are_the_empty_block():
    assert encode_accesses([]) == EMPTY_BLOCK
    assert encode_accesses([accesses_of([])]) == EMPTY_BLOCK
    assert_equal(decode_accesses(EMPTY_BLOCK), accesses_of([]))


# Chunks and segments


@given(rows_lists, st.data())
def test_chunks_make_no_difference(rows, data):
    accesses = accesses_of(rows)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=8)))
    chunks = [
        accesses.slice(start, stop)
        for start, stop in zip([0, *cuts], [*cuts, len(rows)], strict=True)
    ]
    with mock.patch.object(blocks, "SEGMENT_ACCESSES", 13):
        block = encode_accesses(iter(chunks))
        assert block == encode_accesses([accesses])
        assert rows_of(decode_accesses(block)) == rows
        pieces = list(decode_segments(block))
    assert [len(piece) for piece in pieces[:-1]] == [13] * (len(pieces) - 1)


@pytest.mark.parametrize("count", [SEGMENT_ACCESSES - 1, SEGMENT_ACCESSES, SEGMENT_ACCESSES + 1])
def test_segments_end_where_they_should(count):
    accesses = whole(np.arange(count) % 1000)
    block = encode_accesses(accesses.slice(start, start + 1000) for start in range(0, count, 1000))
    assert block == encode_accesses([accesses])
    assert_equal(decode_accesses(block), accesses)


# Size and memory


def test_the_bytes_are_those_of_the_documented_layout():
    block = encode_accesses([accesses_of([(READ, 65_536 + 4096, 4096, 4096)])])
    body = bytes.fromhex(
        "0000"  # what: all 0, read and inside
        "008040"  # length: all 4096
        "008040"  # offset: all 4096
        "00 00808008"  # displacement: a column, all 65 536
        ""  # address: none lies outside
    )
    head = bytes([1, 1, len(body), len(body)])  # version, accesses, body bytes, packed bytes
    assert block == with_checksum(head + body)


@pytest.mark.parametrize(
    ("os_page_count", "os_page_bytes"),
    [(131_072, 2.4), (131_072_000, 3.6)],
    ids=["512 MiB", "500 GiB"],
)
def test_random_whole_pages_take_less_than_four_bytes(os_page_count, os_page_bytes):
    random = np.random.default_rng(1)
    count = SEGMENT_ACCESSES
    accesses = whole(
        random.integers(0, os_page_count, count), kind=random.integers(READ, WRITE + 1, count)
    )
    block = encode_accesses([accesses])
    assert len(block) <= os_page_bytes * count
    with mock.patch.object(zlib, "compress", lambda data, _level: data + b" "):
        assert len(encode_accesses([accesses])) <= 4 * count
    assert_equal(decode_accesses(block), accesses)


def test_scans_take_next_to_nothing():
    assert len(encode_accesses([whole(np.arange(SEGMENT_ACCESSES))])) < 1000


def test_buckets_in_any_order_take_one_table():
    """The largest database a manager can hold: 32 768 buckets of 8 MiB, all shuffled."""
    random = np.random.default_rng(2)
    places = random.permutation(32_768)
    count = SEGMENT_ACCESSES
    accesses = whole(random.integers(0, 32_768 * 2048, count))
    buckets = accesses.offset // (8 * MIB)
    accesses.address[:] += (places[buckets] - buckets) * 8 * MIB
    block = encode_accesses([accesses])
    assert len(block) <= 3.8 * count
    assert_equal(decode_accesses(block), accesses)


def test_rare_irregular_accesses_do_not_spoil_the_rest():
    random = np.random.default_rng(3)
    count = SEGMENT_ACCESSES
    accesses = whole(random.integers(0, 131_072_000, count))
    odd = slice(None, None, 50)
    accesses.address[odd] = random.integers(0, 65_536, len(accesses.address[odd]))
    accesses.length[odd] = 16
    accesses.offset[odd] = -1
    assert len(encode_accesses([accesses])) <= 3.7 * count


@pytest.mark.slow
def test_encoding_needs_little_memory():
    random = np.random.default_rng(4)
    chunk_count, chunk_accesses = 30, 50_000
    chunks = (
        whole(random.integers(0, 131_072_000, chunk_accesses), kind=random.integers(0, 2))
        for _ in range(chunk_count)
    )
    tracemalloc.start()
    block = encode_accesses(chunks)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(block) > 3 * chunk_count * chunk_accesses
    assert peak_bytes - len(block) < 30 * MIB


# An independent reading of the layout, one value at a time


def slow_decode(block):
    assert zlib.crc32(block[:-4]) == int.from_bytes(block[-4:], "little")
    assert block[0] == 1
    data = bytearray(block[1:-4])
    rows = []
    while data:
        count, body_bytes, packed_bytes = (slow_varint(data) for _ in range(3))
        packed = take(data, packed_bytes)
        body = bytearray(packed if packed_bytes == body_bytes else zlib.decompress(packed))
        assert len(body) == body_bytes
        rows += slow_body(body, count)
        assert not body
    return rows


def slow_body(body, count):
    what, length = slow_column(body, count), slow_column(body, count)
    inside_count = sum(w % 2 == 0 for w in what)
    offsets = slow_column(body, inside_count)
    moved = slow_displacement(body, offsets)
    inside = iter([(signed(p + d), p) for p, d in zip(offsets, moved, strict=True)])
    outside = iter([(address, -1) for address in slow_column(body, count - inside_count)])
    rows = []
    for w, n in zip(what, length, strict=True):
        address, offset = next(outside if w % 2 else inside)
        rows.append((w >> 1, address, n, offset))
    return rows


def slow_displacement(body, offsets):
    (granule,) = take(body, 1)
    if granule == 0:
        return slow_column(body, len(offsets))
    runs = slow_varint(body)
    starts, values = slow_column(body, runs), slow_column(body, runs)
    assert starts == sorted(set(starts))
    return [
        [v for s, v in zip(starts, values, strict=True) if s <= offset >> granule][-1]
        for offset in offsets
    ]


def slow_column(body, count):
    if count == 0:
        return []
    (form,) = take(body, 1)
    base = slow_signed_varint(body)
    if form == 0:
        return [base] * count
    shift, width = take(body, 2)
    values = [0] * count
    for plane in range(width // 8):
        for index, byte in enumerate(take(body, count)):
            values[index] |= byte << 8 * plane
    for bit in range(width // 8 * 8, width):
        packed = take(body, -(-count // 8))
        for index in range(count):
            values[index] |= (packed[index // 8] >> index % 8 & 1) << bit
    if form == 2:
        total = 0
        for index, value in enumerate(values):
            total += value >> 1 if value % 2 == 0 else ~(value >> 1)
            values[index] = total
    return [signed(base + (value << shift)) for value in values]


def slow_varint(data):
    value = shift = 0
    while True:
        (byte,) = take(data, 1)
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value


def slow_signed_varint(data):
    value = slow_varint(data)
    return value >> 1 if value % 2 == 0 else ~(value >> 1)


def take(data, count):
    assert count <= len(data)
    taken = bytes(data[:count])
    del data[:count]
    return taken


def signed(value):
    return (value + 2**63) % 2**64 - 2**63


@given(rows_lists)
def test_an_independent_reader_agrees(rows):
    assert slow_decode(encode_accesses([accesses_of(rows)])) == rows


@pytest.mark.slow
@given(st.integers(64, 2000), st.integers(0, 2**32 - 1), st.sampled_from([0, 1, 20, 200]))
def test_an_independent_reader_agrees_on_long_blocks(count, seed, odd_one_in):
    random = np.random.default_rng(seed)
    accesses = whole(np.cumsum(random.integers(0, 3, count)), kind=random.integers(0, 2, count))
    accesses.address[:] += (accesses.offset >> 23) % 2 * 8 * MIB
    if odd_one_in:
        accesses.address[::odd_one_in] += 7
        accesses.offset[::odd_one_in] = -1
    assert slow_decode(encode_accesses([accesses])) == rows_of(accesses)


# Damage


def test_every_damaged_bit_is_noticed():
    block = encode_accesses([whole([1, 2, 3, 500, 70_000])])
    for bit in range(8 * len(block)):
        damaged = bytearray(block)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(TraceError, match="damaged"):
            decode_accesses(bytes(damaged))


def test_every_cut_is_noticed():
    block = encode_accesses([whole(np.arange(300) * 7 % 251)])
    for length in range(len(block)):
        with pytest.raises(TraceError, match="damaged"):
            decode_accesses(block[:length])


def test_a_newer_version_is_named():
    with pytest.raises(TraceError, match=r"version 2, and this sqlstable reads 1; upgrade"):
        decode_accesses(with_checksum(b"\x02" + EMPTY_BLOCK[1:-4]))


@given(st.binary(max_size=60), rows_lists, st.data())
def test_nonsense_with_a_right_checksum_raises_nothing_else(garbage, rows, data):
    content = encode_accesses([accesses_of(rows)])[:-4]
    start = data.draw(st.integers(1, len(content)))
    stop = data.draw(st.integers(start, len(content)))
    with suppress(TraceError):
        decode_accesses(with_checksum(content[:start] + garbage + content[stop:]))


@given(st.integers(1, 100), st.binary(max_size=80))
def test_nonsense_inside_of_a_segment_raises_nothing_else(count, body):
    with suppress(TraceError):
        decode_accesses(block_of(count, body))


@pytest.mark.parametrize(
    ("count", "body", "reason"),
    [
        (0, "00", "a segment is empty"),
        (SEGMENT_ACCESSES + 1, "00", "a number is larger than 131072"),
        (1, "0000", "ends 1 bytes too early"),
        (1, "0000 0000 0400", "a column of the unknown form 4"),
        (1, "0000 0000 0000 04", "a granule of"),
        (1, "0000 0000 0000 00 0000 ff", "bytes left over"),
        (1, "0000 0000 0000 17 00", "index -1 is out of bounds"),
        (1, "0000 0000 0000 17 02", "a number is larger than 1"),
        (2, "0000 0000 0100 00 41", "a column of 65 bits, shifted by 0"),
        (2, "0000 0000 0100 41 08", "a column of 8 bits, shifted by 65"),
        (2, "0000 0000 0100 00 40 00", "too early"),
        (1, "00ffffffffffffffffff7f", "a number is larger than"),
    ],
)
def test_the_reason_is_named(count, body, reason):
    with pytest.raises(TraceError, match=f"damaged: .*{reason}"):
        decode_accesses(block_of(count, bytes.fromhex(body)))


def test_a_body_that_unpacks_to_gigabytes_is_not_unpacked():
    bomb = zlib.compress(bytes(64 * MIB))
    tracemalloc.start()
    with pytest.raises(TraceError, match="does not unpack to 100 bytes"):
        decode_accesses(block_of(1, bomb, body_bytes=100))
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 8 * MIB


def test_a_body_that_does_not_unpack_is_damage():
    with pytest.raises(TraceError, match="decompressing"):
        decode_accesses(block_of(1, bytes(4), body_bytes=5))
