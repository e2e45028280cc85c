"""The log's bytes: golden, against the documented layout, and against damage of every kind."""

import gzip
import os
import struct
import zlib
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise, product
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sqlstable.errors import ImageError
from sqlstable.ic.units import OS_PAGE_BYTES
from sqlstable.memory.image import commitlog, durable
from sqlstable.memory.image.belonging import find_misfit
from sqlstable.memory.image.commitlog import (
    CHECKSUM_BYTES,
    RECORD_HEAD_BYTES,
    RECORDS_OFFSET,
    LogEntry,
    LogHeader,
    _table_bytes,
    next_record_offset,
    note_on,
    read_header,
    read_records,
    record_parts,
)
from sqlstable.memory.image.durable import CommitPipeline, PageChange, apply_records, os_page_runs
from sqlstable.memory.image.fingerprint import ALL_OS_PAGES, sector_crcs
from tests.sim.storage import Storage

GOLDEN = Path(__file__).parent / "golden"
LOG_ID = bytes(range(16))
BOOT_ID = bytes(range(16, 32))
HEADER = LogHeader("process", 4711, LOG_ID)


def page(text):
    return (text.encode() * OS_PAGE_BYTES)[:OS_PAGE_BYTES]


def sim_file(data=b"", name="log"):
    storage = Storage.of({name: bytes(data)})
    return storage.names[name]


def entry_of(number, wasm_pages, pages, *, is_wiped=False, durability="process", **options):
    """What a record says whose OS pages held zeros before."""
    size = CHECKSUM_BYTES[durability]
    os_pages = sorted(pages)
    before = b"".join(checksum_of(bytes(4096), size) for _ in os_pages)
    after = tuple(zlib.crc32(pages[os_page]) for os_page in os_pages)
    return LogEntry(
        number,
        *wasm_pages,
        options.pop("covered", ALL_OS_PAGES),
        options.pop("fingerprint", 0),
        tuple(os_page_runs(os_pages)) if os_pages else (),
        options.pop("before", before),
        after,
        is_wiped,
        **options,
    )


def checksum_of(data, size):
    return zlib.crc32(data).to_bytes(4, "little") if size == 4 else sector_crcs(data)


def encode(records, *, log_id=LOG_ID, durability="process", first=1, seal=None):
    """A log with records behind each other: (sizes, is_wiped, {OS page: bytes}[, options])."""
    data = bytearray(LogHeader(durability, 4711, log_id).encode())
    for number, (sizes, is_wiped, pages, *rest) in enumerate(records, start=first):
        data.extend(bytes(next_record_offset(len(data)) - len(data)))
        options = rest[0] if rest else {}
        entry = entry_of(number, sizes, pages, is_wiped=is_wiped, durability=durability, **options)
        parts = [pages[os_page] for os_page in sorted(pages)]
        written_ = record_parts(zlib.crc32(log_id), entry, parts)
        data += b"".join(written_)
    if seal is not None:
        data.extend(bytes(next_record_offset(len(data)) - len(data)))
        data += note_on(written_[0], seal)
    return bytes(data)


class Staged:
    def __init__(self, pages):
        self.pages = pages

    def read(self, address, length):
        return b"".join(self.pages[i] for i in range(address >> 12, (address + length) >> 12))


# -- golden ---------------------------------------------------------------------------------------


MESSAGES = (
    PageChange([0, 1], Staged({0: page("one "), 1: page("two ")}), 0, 1),
    PageChange([0, 3], Staged({0: page("first "), 3: page("fourth ")}), 1, 2),
    PageChange([20], Staged({20: page("far ")}), 2, 2),
    PageChange([5], Staged({5: page("wiped ")}), 2, 1, is_wiped=True),
    PageChange([], Staged({}), 1, 3),
)


def written(durability, messages=MESSAGES):
    """The image before the log, the log, and the image behind it."""
    storage = Storage()
    image, log = storage.create("image"), storage.create("log")
    header = LogHeader(durability, 4711, LOG_ID, BOOT_ID)
    log.write(0, [header.encode()])
    pipeline = CommitPipeline(
        image,
        log,
        header=header,
        read=lambda address, length: image.read(address, length).ljust(length, b"\0"),
        on_resized=lambda _: None,
    )
    before = b""
    for change in messages:
        before = bytes(image.live)
        pipeline.commit(change)
    return before if durability == "process" else b"", bytes(log.live), bytes(image.live)


@pytest.mark.parametrize("durability", ["process", "power"])
def test_the_golden_log_of_version_2_is_written_and_recovered(durability, monkeypatch):
    monkeypatch.setattr(durable, "LOG_FILLED_BYTES", 4096)
    before, log, after = written(durability)
    path = GOLDEN / f"log_v2_{durability}.bin.gz"
    if os.environ.get("SQLSTABLE_UPDATE_GOLDEN") == "1":
        path.write_bytes(gzip.compress(log, mtime=0))
    golden = gzip.decompress(path.read_bytes())
    assert golden == log

    log_file, image = sim_file(golden), sim_file(before, "image")
    header = read_header(log_file, "log")
    assert header == LogHeader(durability, 4711, LOG_ID, BOOT_ID)
    records = read_records(log_file, header, "log")
    numbers = [record.entry.sequence_number for record in records]
    assert numbers == ([5] if durability == "process" else [1, 2, 3, 4, 5])
    assert [record.is_sealed for record in records] == [False] * (len(records) - 1) + [True]
    # As after a loss of power; the one of a kill has nothing to do.
    lacks = durability == "power"
    fits = find_misfit(image, log_file, records, header, lacks_sectors=lacks)
    assert (fits is None) == lacks
    apply_records(image, log_file, records, header, pending=records, is_flushed=True)
    assert bytes(image.live) == after
    assert find_misfit(image, log_file, records, header, lacks_sectors=False) is None


@pytest.mark.parametrize("durability", ["process", "power"])
def test_the_golden_log_of_version_1_is_refused_with_the_way_out(durability):
    """It does not say for certain to which image it belongs."""
    log = sim_file(gzip.decompress((GOLDEN / f"log_v1_{durability}.bin.gz").read_bytes()))
    with pytest.raises(ImageError, match="open the image once with sqlstable 0"):
        read_header(log, "log")


def test_the_golden_header_is_as_documented():
    golden = gzip.decompress((GOLDEN / "log_v2_power.bin.gz").read_bytes())
    head = b"SQSTLOG\n" + struct.pack("<IIQ", 2, 2, 4711) + LOG_ID + BOOT_ID
    expected = head + struct.pack("<I", zlib.crc32(head))
    assert len(expected) == 60
    assert golden[:4096] == expected.ljust(4096, b"\0")


def crcs(*pages):
    return struct.pack(f"<{len(pages)}I", *map(zlib.crc32, pages))


def sectors(text):
    return struct.pack("<8I", *[zlib.crc32((text.encode() * 512)[:512])] * 8)


ZEROS = sectors("\0")


def summed(pages):
    """The fingerprint, by hand."""
    zero = zlib.crc32(bytes(4096))
    terms = [
        (zlib.crc32(data) - zero) * (number * 0x9E3779B1 | 1) for number, data in pages.items()
    ]
    return sum(terms) % 2**64


def record_by_hand(number, sizes, runs, tables, data, fingerprint, *, emptied=()):
    os_pages = sum(count for _, count in runs)
    head = b"SQSTREC\n" + struct.pack("<QQQ", number, *sizes)
    head += struct.pack("<QQQ", bool(emptied), 1 << 52, fingerprint)
    head += struct.pack("<QQQQ", len(runs), os_pages, len(emptied), 0)
    assert len(head) == 88
    table = b"".join(struct.pack("<QQ", *run) for run in runs)
    table += struct.pack(f"<{len(emptied)}Q", *emptied) + tables
    crc = zlib.crc32(LOG_ID + head + bytes(10) + table)
    return head + struct.pack("<I6x", crc) + table + data, crc


def test_the_golden_records_are_as_documented():
    golden = gzip.decompress((GOLDEN / "log_v2_power.bin.gz").read_bytes())
    one, two, first, fourth = map(page, ("one ", "two ", "first ", "fourth "))
    record, _ = record_by_hand(
        *(1, (0, 1), [(0, 2)], ZEROS * 2 + crcs(one, two), one + two),
        summed({0: one, 1: two}),
    )
    assert golden[4096 : 4096 + len(record)] == record
    record, _ = record_by_hand(
        *(2, (1, 2), [(0, 1), (3, 1)]),
        sectors("one ") + ZEROS + crcs(first, fourth),
        first + fourth,
        summed({0: first, 1: two, 3: fourth}),
    )
    start = 4096 * 4
    assert golden[start : start + len(record)] == record


def test_a_wipe_says_what_it_empties_and_a_seal_that_it_is_done():
    _, log, _ = written("process", MESSAGES[:4])
    first, two, fourth, far, wiped = map(page, ("first ", "two ", "fourth ", "far ", "wiped "))
    emptied = {0: first, 1: two, 3: fourth, 20: far}
    record, crc = record_by_hand(
        *(4, (2, 1), [(5, 1)]),
        crcs(bytes(4096), *emptied.values(), wiped),
        wiped,
        summed({5: wiped}),
        emptied=[*emptied],
    )
    assert log[4096 : 4096 + len(record)] == record
    note = b"SQSTSEAL" + struct.pack("<Q", 4)
    at = next_record_offset(4096 + len(record))
    assert log[at : at + 24] == note + struct.pack("<II", zlib.crc32(note, crc), 0)


# -- there and back -------------------------------------------------------------------------------


wasm_sizes = st.tuples(st.integers(0, 1 << 47), st.integers(0, 1 << 47)).map(sorted)
os_pages = st.integers(0, (1 << 51) - 1)
contents = st.dictionaries(
    os_pages, st.sampled_from([page("a"), page("bc"), bytes(4096)]), max_size=9
)


@st.composite
def log_records(draw, durability):
    pages = draw(contents)
    sizes = (0, 1 << 47) if pages else draw(wasm_sizes)
    is_wiped = draw(st.booleans())
    emptied = draw(st.lists(os_pages, max_size=3)) if is_wiped else []
    count = (len(pages) + len(emptied)) * CHECKSUM_BYTES[durability]
    options = {
        "before": draw(st.binary(min_size=count, max_size=count)),
        "covered": draw(os_pages),
        "fingerprint": draw(st.integers(0, (1 << 64) - 1)),
        "emptied": tuple(emptied),
        "witnesses": tuple(draw(st.lists(st.tuples(os_pages, st.integers(0, 99)), max_size=3))),
    }
    return sizes, is_wiped, pages, options


@given(st.data(), st.integers(1, 1 << 60), st.sampled_from(["process", "power"]))
def test_what_was_written_is_read(draws, first, durability):
    records = draws.draw(st.lists(log_records(durability), max_size=4))
    log = sim_file(encode(records, durability=durability, first=first))
    header = read_header(log, "log")
    assert header == LogHeader(durability, 4711, LOG_ID)
    found = read_records(log, header, "log")
    assert len(found) == len(records)
    for number, (record, given_) in enumerate(zip(found, records, strict=True), start=first):
        sizes, is_wiped, pages, options = given_
        expected = entry_of(
            number, sizes, pages, is_wiped=is_wiped, durability=durability, **dict(options)
        )
        assert record.entry == expected
        read = {}
        for address, data in record.pieces(log):
            for start in range(0, len(data), OS_PAGE_BYTES):
                read[(address + start) >> 12] = data[start : start + OS_PAGE_BYTES]
        assert read == pages
    for one, other in pairwise(found):
        assert one.end_offset <= other.offset
    assert read_records(log, replace(header, log_id=bytes(16)), "log") == []


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
    log = sim_file(encode([((0, 1), False, pages)]))
    (record,) = read_records(log, HEADER, "log")
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
        HEADER.encode()[:59],
        bytes(60),
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
        (b"SQSTLOG\n" + struct.pack("<I", 3) + bytes(4084), "has format version 3, and only 2 is"),
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
    ((0, 2), False, {0: page("a"), 1: page("b"), 9: page("c")}),
    ((2, 2), False, {1: page("d")}, {"witnesses": ((0, 7),)}),
    ((2, 3), True, {}),
]


def assert_only_written(data, written_):
    """Whatever is read was written, in order and from the first one on."""
    log = sim_file(data)
    found = read_records(log, HEADER, "log")
    assert found == written_[: len(found)]
    return len(found)


def test_any_flipped_bit_ends_the_records_before_it():
    data = encode(THREE)
    records = read_records(sim_file(data), HEADER, "log")
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
        # Between records, and in six bytes of each that mean nothing, a bit does no harm.
        is_padding = any(end <= at < offset for end, offset in zip(ends, offsets[1:], strict=False))
        is_spare = any(0 <= at - offset - 92 < 6 for offset in offsets)
        assert found == (3 if is_padding or is_spare else whole)


def test_a_log_cut_off_anywhere_has_the_records_before_the_cut():
    data = encode(THREE)
    records = read_records(sim_file(data), HEADER, "log")
    for length in range(0, len(data), 97):
        whole = sum(record.end_offset <= length for record in records)
        assert assert_only_written(data[:length], records) == whole


@settings(max_examples=300)
@given(st.binary(max_size=1500), st.integers(0, 3))
def test_random_bytes_are_no_records(data, zeros):
    assert read_records(sim_file(HEADER.encode() + bytes(zeros * 8) + data), HEADER, "log") == []


@settings(max_examples=300)
@given(st.data())
def test_random_bytes_with_the_marks_of_a_record_are_no_record(data):
    numbers = st.integers(0, (1 << 64) - 1)
    small = st.one_of(st.integers(0, 5), numbers)
    head = b"SQSTREC\n" + struct.pack("<10Q", *(data.draw(small) for _ in range(10)))
    rest = data.draw(st.binary(min_size=10, max_size=9000))
    assert read_records(sim_file(HEADER.encode() + head + rest), HEADER, "log") == []


@settings(max_examples=200)
@given(st.randoms())
def test_pieces_of_logs_glued_together_give_only_what_was_written(choose):
    data = encode(THREE)
    records = read_records(sim_file(data), HEADER, "log")
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
    contents = [record.entry for record in records]
    for record in read_records(sim_file(mixed), HEADER, "log"):
        assert record.entry in contents


def test_records_that_do_not_follow_each_other_do_not_count():
    older = encode([THREE[0]], first=7)[4096:]
    data = encode([THREE[1]], first=9)
    data = data.ljust(next_record_offset(len(data)), b"\0")
    assert [
        one.entry.sequence_number for one in read_records(sim_file(data + older), HEADER, "log")
    ] == [9]


def test_no_page_of_a_message_can_lie_where_a_record_may_begin():
    """Else a message that holds a log as its content could be read as one."""
    for durability, size in CHECKSUM_BYTES.items():
        for counts in product((0, 1, 2, 500, 1017, 4096), repeat=4):
            runs, pages, emptied, marks = counts
            tables = _table_bytes(durability, *counts)
            assert tables == 16 * runs + 8 * emptied + (pages + emptied) * size + (
                4 * pages + 12 * marks
            )
            assert (RECORD_HEAD_BYTES + tables) % OS_PAGE_BYTES != 0


# -- numbers that cannot be -----------------------------------------------------------------------


IMPOSSIBLE = {
    "a run beyond the image": (
        ((1, 1), False, {16: page("x")}),
        "changes OS page 16 of 1 Wasm",
    ),
    "a run beyond all files": (((1, 1), False, {1 << 52: page("x")}), "changes OS page 4503599627"),
    "a run beyond 64 bits": (((1, 1), False, {1 << 60: page("x")}), "changes OS page 11529215046"),
    "a size beyond all files": (((0, 1 << 48), False, {}), "states a size of 281474976710656 W"),
    "a size before, likewise": (((1 << 60, 1), True, {}), "states a size of 1152921504606846976"),
    "a size that shrinks": (((3, 2), False, {}), "shrinks the image from 3 to 2 Wasm pages"),
    "a witness beyond all files": (
        ((1, 1), False, {}, {"witnesses": ((1 << 52, 1),)}),
        "speaks of OS page 4503599627370496",
    ),
    "an OS page emptied beyond all files": (
        ((1, 1), True, {}, {"emptied": (1 << 55,), "before": bytes(4)}),
        "speaks of OS page 36028797018963968",
    ),
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_a_log_with_right_checksums_and_wrong_numbers_is_refused(name):
    record, reason = IMPOSSIBLE[name]
    log = sim_file(encode([record]))
    with pytest.raises(ImageError, match=f"x-log says what cannot be: record 1 {reason}"):
        read_records(log, HEADER, "x-log")


def test_runs_that_overlap_or_have_another_length_are_refused():
    entry = entry_of(1, (1, 1), {1: page("a"), 2: page("b")})
    for runs, reason in [
        ([(4096, 4096), (4096, 4096)], "has runs of OS pages that overlap"),
        ([(8192, 4096), (4096, 4096)], "has runs of OS pages that overlap"),
        ([(4096, 4096)], "has 2 OS pages, and 1 in its runs"),
        ([(4096, 12_288)], "has 2 OS pages, and 3 in its runs"),
    ]:
        parts = record_parts(
            zlib.crc32(LOG_ID), entry._replace(runs=tuple(runs)), [page("a"), page("b")]
        )
        log = sim_file(HEADER.encode() + b"".join(parts))
        with pytest.raises(ImageError, match=reason):
            read_records(log, HEADER, "x-log")
