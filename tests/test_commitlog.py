"""The log's bytes: golden, against the documented layout, and against damage of every kind."""

import gzip
import os
import struct
import zlib
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sqlstable.errors import ImageError
from sqlstable.ic.units import OS_PAGE_BYTES, WASM_PAGE_BYTES
from sqlstable.memory import commitlog, durable
from sqlstable.memory.commitlog import (
    NO_WITNESS,
    RECORDS_OFFSET,
    WITNESSES,
    LogHeader,
    find_misfit,
    next_record_offset,
    read_header,
    read_records,
    record_parts,
    witness,
)
from sqlstable.memory.durable import Change, CommitPipeline, apply_records, os_page_runs
from tests.sim.storage import Storage

GOLDEN = Path(__file__).parent / "golden"
LOG_ID = bytes(range(16))
HEADER = LogHeader("process", 4711, LOG_ID)


def page(text):
    return (text.encode() * OS_PAGE_BYTES)[:OS_PAGE_BYTES]


def sim_file(data=b"", name="log"):
    storage = Storage.of({name: bytes(data)})
    return storage.names[name]


def encode(records, *, log_id=LOG_ID, durability="process", first=1):
    """A log with records behind each other: (sizes, is_wiped, witnesses, {OS page: bytes})."""
    data = bytearray(LogHeader(durability, 4711, log_id).encode())
    for number, (wasm_pages, is_wiped, witnesses, pages) in enumerate(records, start=first):
        data.extend(bytes(next_record_offset(len(data)) - len(data)))
        runs = os_page_runs([*pages]) if pages else []
        parts = [
            b"".join(pages[i] for i in range(start >> 12, (start + length) >> 12))
            for start, length in runs
        ]
        data += b"".join(
            record_parts(
                zlib.crc32(log_id),
                sequence_number=number,
                wasm_pages=wasm_pages,
                is_wiped=is_wiped,
                witnesses=witnesses,
                runs=runs,
                data=parts,
            )
        )
    return bytes(data)


class Staged:
    def __init__(self, pages):
        self.pages = pages

    def read(self, address, length):
        return b"".join(self.pages[i] for i in range(address >> 12, (address + length) >> 12))


# -- golden ---------------------------------------------------------------------------------------


MESSAGES = (
    Change([0, 1], Staged({0: page("one "), 1: page("two ")}), 0, 1),
    Change([0, 3], Staged({0: page("first "), 3: page("fourth ")}), 1, 2),
    Change([20], Staged({20: page("far ")}), 2, 2),
    Change([5], Staged({5: page("wiped ")}), 2, 1, is_wiped=True),
    Change([], Staged({}), 1, 3),
)


def written(durability, messages=MESSAGES):
    """The image before the log, the log, and the image behind it."""
    storage = Storage()
    image, log = storage.create("image"), storage.create("log")
    header = LogHeader(durability, 4711, LOG_ID)
    log.write(0, [header.encode()])
    pipeline = CommitPipeline(
        image,
        log,
        log_id=LOG_ID,
        durability=durability,
        read=lambda address, length: image.read(address, length).ljust(length, b"\0"),
        on_resized=lambda _: None,
    )
    before = b""
    for change in messages:
        before = bytes(image.live)
        pipeline.commit(change)
    return before if durability == "process" else b"", bytes(log.live), bytes(image.live)


@pytest.mark.parametrize("durability", ["process", "power"])
def test_the_golden_log_of_version_1_is_written_and_recovered(durability, monkeypatch):
    monkeypatch.setattr(durable, "LOG_FILLED_BYTES", 4096)
    before, log, after = written(durability)
    path = GOLDEN / f"log_v1_{durability}.bin.gz"
    if os.environ.get("SQLSTABLE_UPDATE_GOLDEN") == "1":
        path.write_bytes(gzip.compress(log, mtime=0))
    golden = gzip.decompress(path.read_bytes())
    assert golden == log

    log_file, image = sim_file(golden), sim_file(before, "image")
    header = read_header(log_file, "log")
    assert header == LogHeader(durability, 4711, LOG_ID)
    records = read_records(log_file, header.log_id)
    assert [record.sequence_number for record in records] == (
        [5] if durability == "process" else [1, 2, 3, 4, 5]
    )
    assert find_misfit(image, log_file, records, durability) is None
    apply_records(image, log_file, records, is_flushed=True)
    assert bytes(image.live) == after


def test_the_golden_header_is_as_documented():
    golden = gzip.decompress((GOLDEN / "log_v1_power.bin.gz").read_bytes())
    head = b"SQSTLOG\n" + struct.pack("<IIQ", 1, 2, 4711) + LOG_ID
    expected = head + struct.pack("<I", zlib.crc32(head))
    assert len(expected) == 44
    assert golden[:4096] == expected.ljust(4096, b"\0")


def test_the_golden_records_are_as_documented():
    golden = gzip.decompress((GOLDEN / "log_v1_power.bin.gz").read_bytes())
    # The first of the opening: nothing of it was there before, so it has no witness.
    one = record_by_hand(1, (0, 1), [(0, 2)], page("one ") + page("two "))
    assert golden[4096 : 4096 + len(one)] == one
    # Of later ones nobody looks at witnesses.
    two = record_by_hand(2, (1, 2), [(0, 1), (3, 1)], page("first ") + page("fourth "))
    start = 4096 * 4
    assert golden[start : start + len(two)] == two


def test_the_golden_witnesses_are_as_documented():
    _, log, _ = written("process", MESSAGES[:3])
    assert log[: 4096 + 8] == HEADER.encode() + b"SQSTREC\n"
    # The first and the last OS page that the message before it had changed, as it left them.
    marks = [(0, zlib.crc32(page("first "))), (3, zlib.crc32(page("fourth ")))]
    three = record_by_hand(3, (2, 2), [(20, 1)], page("far "), marks)
    assert log[4096 : 4096 + len(three)] == three

    checksums = [zlib.crc32(page("x")[:512])] * 8
    assert witness(7, page("x"), "power") == (7, struct.pack("<8I", *checksums))
    assert witness(7, page("x"), "process") == (7, struct.pack("<I28x", zlib.crc32(page("x"))))


def record_by_hand(number, sizes, runs, data, marks=(), *, is_wiped=0):
    head = b"SQSTREC\n" + struct.pack("<QQQQQ", number, *sizes, len(runs), is_wiped)
    for os_page, checksum in marks:
        head += struct.pack("<qI28x", os_page, checksum)
    head += struct.pack("<q32x", -1) * (4 - len(marks))
    assert len(head) == 208
    table = b"".join(struct.pack("<QQ", *run) for run in runs)
    crc = zlib.crc32(LOG_ID + head + bytes(8) + table + data)
    return head + struct.pack("<II", crc, 0) + table + data


# -- there and back -------------------------------------------------------------------------------


wasm_sizes = st.integers(0, 1 << 47)
os_pages = st.integers(0, (1 << 51) - 1)
witnesses = st.lists(st.tuples(os_pages, st.binary(min_size=32, max_size=32)), max_size=WITNESSES)
contents = st.dictionaries(
    os_pages, st.sampled_from([page("a"), page("bc"), bytes(4096)]), max_size=9
)
logs = st.lists(
    st.tuples(st.tuples(wasm_sizes, wasm_sizes), st.booleans(), witnesses, contents), max_size=4
)


@given(
    records=logs, first=st.integers(1, 1 << 60), durability=st.sampled_from(["process", "power"])
)
def test_what_was_written_is_read(records, first, durability):
    log = sim_file(encode(records, durability=durability, first=first))
    assert read_header(log, "log") == LogHeader(durability, 4711, LOG_ID)
    found = read_records(log, LOG_ID)
    assert len(found) == len(records)
    for number, (record, given_) in enumerate(zip(found, records, strict=True), start=first):
        wasm_pages, is_wiped, marks, pages = given_
        assert record.sequence_number == number
        assert (record.wasm_pages_before, record.wasm_pages_after) == wasm_pages
        assert record.is_wiped == is_wiped
        assert record.witnesses == (*marks, *[NO_WITNESS] * (WITNESSES - len(marks)))
        assert record.os_pages == len(pages)
        read = {}
        for address, data in record.pieces(log):
            for start in range(0, len(data), OS_PAGE_BYTES):
                read[(address + start) >> 12] = data[start : start + OS_PAGE_BYTES]
        assert read == pages
    for one, other in pairwise(found):
        assert one.end_offset <= other.data_offset - 216
    assert read_records(log, bytes(16)) == []


@given(
    st.sets(st.one_of(os_pages, st.integers(0, 40), st.integers(1000, 1900)), max_size=700),
    st.randoms(),
)
def test_runs_are_those_of_a_model(chosen, choose):
    shuffled = [*chosen]
    choose.shuffle(shuffled)
    expected = []
    for os_page in sorted(chosen):
        if expected and expected[-1][0] + expected[-1][1] == os_page * 4096:
            expected[-1] = (expected[-1][0], expected[-1][1] + 4096)
        else:
            expected.append((os_page * 4096, 4096))
    assert os_page_runs(shuffled) == expected


def test_runs_longer_than_the_loop_are_those_of_a_model():
    for length in (255, 256, 257, 5000):
        assert os_page_runs([*range(7, 7 + length)]) == [(7 * 4096, length * 4096)]
        assert os_page_runs([*range(0, 2 * length, 2)]) == [
            (i * 4096, 4096) for i in range(0, 2 * length, 2)
        ]


def test_a_record_longer_than_a_piece_is_read_in_pieces(monkeypatch):
    monkeypatch.setattr(commitlog, "_PIECE_BYTES", 8192)
    pages = {i: page(str(i)) for i in (0, 1, 2, 3, 4, 9)}
    log = sim_file(encode([((1, 1), False, [], pages)]))
    (record,) = read_records(log, LOG_ID)
    pieces = [*record.pieces(log)]
    assert [(address, len(data)) for address, data in pieces] == [
        *((0, 8192), (8192, 8192), (16_384, 4096)),
        (9 * 4096, 4096),
    ]
    assert b"".join(data for _, data in pieces) == b"".join(pages.values())


# -- headers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"SQ",
        b"SQSTLOG\n",
        HEADER.encode()[:43],
        bytes(44),
        bytes(4096),
        bytes(3),
        # Torn, and nothing behind it that might have been answered.
        HEADER.encode()[:24] + bytes(4072),
    ],
)
def test_a_header_that_was_not_finished_is_none(data):
    assert read_header(sim_file(data), "log") is None


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"hello, I am a diary", "is not a log of sqlstable: it begins with b'hello, I"),
        (b"SQLite format 3\0".ljust(8192, b"x"), "is not a log of sqlstable"),
        (bytes(4097), "is not a log of sqlstable"),
        (bytes(100) + b"a header of zeros, then something", "is not a log of sqlstable"),
        (b"SQSTLOG\n" + struct.pack("<I", 2) + bytes(4084), "has format version 2, and only 1 is"),
        (
            HEADER.encode()[:30] + b"?" + HEADER.encode()[31:] + b"records",
            "is damaged: its header has a wrong",
        ),
    ],
)
def test_a_foreign_damaged_or_newer_log_is_refused_with_the_reason(data, text):
    with pytest.raises(ImageError, match="x-log " + text):
        read_header(sim_file(data), "x-log")


@given(st.binary(max_size=200), st.integers(0, 8192))
def test_a_header_of_any_bytes_is_none_or_refused(data, length):
    with suppress(ImageError):
        assert read_header(sim_file(data.ljust(length, b"\0")), "log") is None


# -- damage ---------------------------------------------------------------------------------------


THREE = [
    ((0, 2), False, [], {0: page("a"), 1: page("b"), 9: page("c")}),
    ((2, 2), False, [(0, bytes(32))], {1: page("d")}),
    ((2, 3), True, [], {}),
]


def assert_only_written(data, written_):
    """Whatever is read was written, in order and from the first one on."""
    log = sim_file(data)
    found = read_records(log, LOG_ID)
    assert found == written_[: len(found)]
    return len(found)


def test_any_flipped_bit_ends_the_records_before_it():
    data = encode(THREE)
    records = read_records(sim_file(data), LOG_ID)
    ends = [record.end_offset for record in records]
    offsets = [next_record_offset(end) for end in (RECORDS_OFFSET, *ends[:-1])]
    choose = Random(1)
    inside = [*range(4096, 4096 + 300), *range(offsets[1], offsets[1] + 300)]
    inside += [*range(offsets[2], len(data)), *choose.sample(range(4096, len(data)), 300)]
    for at in inside:
        damaged = bytearray(data)
        damaged[at] ^= 1 << choose.randrange(8)
        found = assert_only_written(damaged, records)
        whole = sum(end <= at for end in ends)
        # Between records, and in four bytes of each that mean nothing, a bit does no harm.
        is_padding = any(end <= at < offset for end, offset in zip(ends, offsets[1:], strict=False))
        is_spare = any(0 <= at - offset - 212 < 4 for offset in offsets)
        assert found == (3 if is_padding or is_spare else whole)


def test_a_log_cut_off_anywhere_has_the_records_before_the_cut():
    data = encode(THREE)
    records = read_records(sim_file(data), LOG_ID)
    for length in range(0, len(data), 97):
        whole = sum(record.end_offset <= length for record in records)
        assert assert_only_written(data[:length], records) == whole


@settings(max_examples=300)
@given(st.binary(max_size=1500), st.integers(0, 3))
def test_random_bytes_are_no_records(data, zeros):
    assert read_records(sim_file(HEADER.encode() + bytes(zeros * 8) + data), LOG_ID) == []


@settings(max_examples=300)
@given(st.data())
def test_random_bytes_with_the_marks_of_a_record_are_no_record(data):
    numbers = st.integers(0, (1 << 64) - 1)
    small = st.one_of(st.integers(0, 5), numbers)
    head = b"SQSTREC\n" + struct.pack("<5Q", *(data.draw(small) for _ in range(5)))
    rest = data.draw(st.binary(min_size=168, max_size=9000))
    assert read_records(sim_file(HEADER.encode() + head + rest), LOG_ID) == []


@settings(max_examples=200)
@given(st.randoms())
def test_pieces_of_logs_glued_together_give_only_what_was_written(choose):
    data = encode(THREE)
    records = read_records(sim_file(data), LOG_ID)
    other = encode(THREE[::-1], log_id=bytes(16), first=2)
    mixed = bytearray(data)
    for _ in range(choose.randint(1, 4)):
        length = choose.randrange(1, 9000)
        source, target = choose.choice((data, other)), choose.randrange(len(data))
        start = choose.randrange(len(source))
        piece = source[start : start + length]
        mixed[target : target + len(piece)] = piece
    mixed = mixed[: choose.choice((len(mixed), choose.randrange(len(mixed))))]
    # A copy of a record is one, wherever it lies; nothing else is.
    contents = [replace(record, data_offset=0, end_offset=0) for record in records]
    for record in read_records(sim_file(mixed), LOG_ID):
        assert replace(record, data_offset=0, end_offset=0) in contents


def test_records_that_do_not_follow_each_other_do_not_count():
    older = encode([THREE[0]], first=7)[4096:]
    data = encode([THREE[1]], first=9)
    data = data.ljust(next_record_offset(len(data)), b"\0")
    assert [one.sequence_number for one in read_records(sim_file(data + older), LOG_ID)] == [9]


def test_no_page_of_a_message_can_lie_where_a_record_may_begin():
    """Else a message that holds a log as its content could be read as one."""
    for runs in range(10_000):
        assert (216 + 16 * runs) % OS_PAGE_BYTES != 0


# -- whether a log belongs to an image ------------------------------------------------------------


def image_of(pages, wasm_pages=1):
    data = bytearray(wasm_pages * WASM_PAGE_BYTES)
    for number, content in pages.items():
        data[number << 12 : (number + 1) << 12] = content
    return sim_file(data, "image")


def misfit(image, durability="process", *, marks, pages, sizes=(1, 1), is_wiped=False):
    log = sim_file(encode([(sizes, is_wiped, marks, pages)], durability=durability))
    return find_misfit(image, log, read_records(log, LOG_ID), durability)


@pytest.mark.parametrize("durability", ["process", "power"])
def test_an_image_fits_as_it_was_and_as_it_is_after(durability):
    marks = [witness(2, page("before"), durability), witness(5, page("kept"), durability)]
    pages = {2: page("after"), 7: page("more")}
    for two in ("before", "after"):
        image = image_of({2: page(two), 5: page("kept"), 7: page("anything")})
        assert misfit(image, durability, marks=marks, pages=pages) is None
    for wrong in ({2: page("other"), 5: page("kept")}, {2: page("after"), 5: page("changed")}):
        found = misfit(image_of(wrong), durability, marks=marks, pages=pages)
        assert found in {
            f"OS page {number} is neither as it was before nor as the log left it"
            for number in (2, 5)
        }


def test_an_os_page_torn_between_sectors_fits_only_where_power_may_go():
    torn = page("after")[:1024] + page("before")[1024:]
    for durability, fits in (("process", False), ("power", True)):
        marks = [witness(2, page("before"), durability)]
        found = misfit(image_of({2: torn}), durability, marks=marks, pages={2: page("after")})
        assert (found is None) == fits


def test_a_single_byte_tells_another_image():
    for durability in ("process", "power"):
        marks = [witness(2, page("kept"), durability)]
        for at in (0, 1, 511, 512, 3000, 4095):
            changed = bytearray(page("kept"))
            changed[at] ^= 1
            image = image_of({2: bytes(changed)})
            assert misfit(image, durability, marks=marks, pages={0: page("x")}) is not None


def test_a_length_that_the_log_does_not_state_is_refused():
    for wasm_pages, is_wiped, fits in [
        *((2, False, True), (5, False, True), (3, False, False), (0, False, False)),
        *((0, True, True), (1, True, False)),
    ]:
        image = image_of({}, wasm_pages)
        found = misfit(image, marks=[], pages={0: page("x")}, sizes=(2, 5), is_wiped=is_wiped)
        assert (found is None) == fits
        if not fits:
            assert f"the image has {wasm_pages * 65_536} bytes, where the log expects " in found
            assert "131072 or 327680" in found


def test_a_wiped_image_fits_as_zeros_too():
    marks = [witness(2, page("before"), "process")]
    for content, fits in ((bytes(4096), True), (page("before"), True), (page("x"), False)):
        found = misfit(image_of({2: content}), marks=marks, pages={}, is_wiped=True)
        assert (found is None) == fits


def test_witnesses_of_later_records_are_not_looked_at():
    """Their OS pages may still be as they were before the first record, which nobody knows."""
    marks = [witness(5, page("between"), "power")]
    records = [
        ((1, 1), False, [], {4: page("a"), 5: page("between"), 6: page("c")}),
        ((1, 1), False, marks, {5: page("last")}),
    ]
    log = sim_file(encode(records, durability="power"))
    image = image_of({5: page("long ago")})
    assert find_misfit(image, log, read_records(log, LOG_ID), "power") is None
