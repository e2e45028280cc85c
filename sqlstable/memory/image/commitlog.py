r"""The log beside an image file: what a commit writes before it touches the image.

A log belongs to one opening of one image. It begins with a header of one OS page; behind it lie
records, each the whole of one committed message: its OS pages as they are after it, what they were
before it, and what the whole image is after it. Integers are little-endian::

    header, OS page 0                            record, at a multiple of 4096
    byte  size  content                          byte  size     content
    ----  ----  ------------------------------   ----  -------  -------------------------------
       0     8  "SQSTLOG\n"                          0     8    "SQSTREC\n"
       8     4  format version: 2                    8     8    sequence number, from 1
      12     4  durability: 1 process, 2 power      16     8    Wasm pages before
      16     8  process id of the owner             24     8    Wasm pages after
      24    16  random id of this log               32     8    1 if everything before is wiped
      40    16  id of the system's start, or 0      40     8    OS pages that the fingerprint
      56     4  CRC-32 of bytes 0 to 55                         covers
                                                    48     8    fingerprint of the image after
                                                    56     8    R, runs of OS pages
                                                    64     8    N, OS pages in these runs
                                                    72     8    E, OS pages that a wipe empties
                                                    80     8    W, witnesses
                                                    88     4    CRC-32 of log id, of this header
                                                                with 0 here, and of all tables
                                                    92     6    0
                                                    98  Rx16    runs: first OS page, OS pages
                                                      …  Ex8    OS pages emptied
                                                      …         checksums before, of the OS pages
                                                                in the runs, then of the emptied
                                                      …  Nx4    CRC-32s after
                                                      … Wx12    witnesses: OS page, CRC-32
                                                      …         the bytes of all runs

A checksum before is one CRC-32 of the OS page with ``process``, because a kill leaves OS pages
whole; with ``power`` it is one of each of its sectors. A record without runs only states what the
image is.

Where the next record would be, there may be a note of 24 bytes on the one before: a magic, its
sequence number, a CRC-32 of its CRC-32 and of these, and 0. "SQSTSEAL" *seals* it: its message is
in the image, so after a kill there is nothing to do. "SQSTLOSS" is written before the image is
flushed: a flush that fails drops what it was to write, and nobody is told what that was.

``process`` writes each record over the one before it: by then that one's message is in the image.
A record that was cut off fails its CRC, and then the image is whole without it. ``power`` appends,
because the image is flushed only now and then.

**Which records count.** Those from the first one on that are whole, with sequence numbers that go
up by one. Whether they may be applied to an image, and which, is decided in
`sqlstable.memory.image.belonging`.
"""

import struct
import sys
import zlib
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np

from sqlstable.errors import ImageError
from sqlstable.ic.units import MIB, OS_PAGE_BYTES, OS_PAGES_PER_WASM_PAGE, amount
from sqlstable.memory.backing import Bytes
from sqlstable.memory.image.durability import DURABILITIES, Durability
from sqlstable.memory.image.fingerprint import OS_PAGE_SECTORS, os_page_crcs
from sqlstable.memory.image.osfile import ReadFile, Run

LOG_MAGIC: Final = b"SQSTLOG\n"
RECORD_MAGIC: Final = b"SQSTREC\n"
SEAL_MAGIC: Final = b"SQSTSEAL"
LOSS_MAGIC: Final = b"SQSTLOSS"
LOG_FORMAT_VERSION: Final = 2

RECORDS_OFFSET: Final = OS_PAGE_BYTES
"""Byte of the log at which the first record begins."""

RECORD_HEAD_BYTES: Final = 98
"""Not a multiple of 4, as all tables are: so no OS page of a message lies where a record may begin,
and none that holds a log as its content is read as one."""

CHECKSUM_BYTES: Final[dict[Durability, int]] = {"process": 4, "power": 4 * OS_PAGE_SECTORS}
"""Bytes of the checksum of an OS page before a message."""

UNKNOWN_BOOT: Final = bytes(16)

_HEADER: Final = struct.Struct("<8sIIQ16s16sI")
_HEADER_CRC_BYTE: Final = _HEADER.size - 4
_RECORD: Final = struct.Struct("<8s10QIIH")
_RECORD_CRC_BYTE: Final = _RECORD.size - 10
_RUN: Final = struct.Struct("<QQ")
_WITNESS: Final = struct.Struct("<QI")
_NOTE_BYTES: Final = 24
_PIECE_BYTES: Final = 4 * MIB
_WASM_PAGES_MAX: Final = 1 << 47
_OS_PAGES_MAX: Final = _WASM_PAGES_MAX * OS_PAGES_PER_WASM_PAGE

assert _HEADER.size == 60
assert (_RECORD_CRC_BYTE, _RECORD.size) == (88, RECORD_HEAD_BYTES)
assert _WITNESS.size == 12
assert array("I").itemsize == 4


@dataclass(frozen=True, slots=True)
class LogHeader:
    """To whom a log belongs."""

    durability: Durability
    process_id: int
    log_id: bytes
    "16 random bytes; no record of another log passes for one of this."
    boot_id: bytes = UNKNOWN_BOOT
    "16 bytes of the start of the system on which it was written."

    def encode(self) -> bytes:
        """Return the header's OS page."""
        code = DURABILITIES.index(self.durability) + 1
        head = _HEADER.pack(
            LOG_MAGIC,
            LOG_FORMAT_VERSION,
            code,
            self.process_id,
            self.log_id,
            self.boot_id,
            0,
        )[:_HEADER_CRC_BYTE]
        return (head + zlib.crc32(head).to_bytes(4, "little")).ljust(OS_PAGE_BYTES, b"\0")


class LogEntry(NamedTuple):
    """What a record says beside the bytes of its OS pages."""

    sequence_number: int
    wasm_pages_before: int
    wasm_pages_after: int
    os_pages_covered: int
    "OS pages that the fingerprint covers."
    fingerprint: int
    "That of the image after the message."
    runs: tuple[Run, ...] = ()
    "Where the bytes go, by whole OS pages, ascending."
    before: bytes = b""
    "Checksums of the OS pages in the runs as they were, then of those emptied."
    after: tuple[int, ...] = ()
    "CRC-32s of the OS pages in the runs as they are."
    is_wiped: bool = False
    "Whether nothing of the image before counts, as after a reinstallation."
    emptied: tuple[int, ...] = ()
    "OS pages that hold only zeros after a wipe, and held something else."
    witnesses: tuple[tuple[int, int], ...] = ()
    "OS pages that the message before changed, and their CRC-32s; where not all are covered."

    def os_pages(self) -> Iterator[int]:
        """Yield the OS pages of the runs."""
        for start, length in self.runs:
            yield from range(start // OS_PAGE_BYTES, (start + length) // OS_PAGE_BYTES)


@dataclass(frozen=True, slots=True)
class Record:
    """One committed message in a log."""

    entry: LogEntry
    offset: int
    "Byte of the log at which the record begins."
    data_offset: int
    "Byte of the log at which the bytes of the first run begin."
    end_offset: int
    "Byte of the log behind the record."
    is_sealed: bool = False
    "Whether the message is in the image, unless a loss of power took it out."
    is_doubtful: bool = False
    "Whether the image was being flushed, and may have lost sectors if that failed."

    def pieces(self, log: ReadFile) -> Iterator[tuple[int, bytes]]:
        """Yield the bytes of all runs, each with its address in stable memory."""
        offset = self.data_offset
        for start, length in self.entry.runs:
            for done in range(0, length, _PIECE_BYTES):
                count = min(_PIECE_BYTES, length - done)
                yield start + done, log.read(offset + done, count)
            offset += length


# -- writing --------------------------------------------------------------------------------------


def record_parts(log_crc: int, entry: LogEntry, data: Sequence[Bytes]) -> list[Bytes]:
    """Return a record, ready to be written in one call.

    Args:
        log_crc: CRC-32 of the log's id.
        entry: What it says.
        data: The bytes of each run.
    """
    head = bytearray(
        _RECORD.pack(
            RECORD_MAGIC,
            entry.sequence_number,
            entry.wasm_pages_before,
            entry.wasm_pages_after,
            entry.is_wiped,
            entry.os_pages_covered,
            entry.fingerprint,
            len(entry.runs),
            len(entry.after),
            len(entry.emptied),
            len(entry.witnesses),
            *(0, 0, 0),
        )
    )
    if len(entry.runs) == 1:
        ((start, length),) = entry.runs
        head += _RUN.pack(start >> 12, length >> 12)
    else:
        head += np.right_shift(np.array(entry.runs, dtype="<u8"), 12).tobytes()
    if entry.emptied:
        head += struct.pack(f"<{len(entry.emptied)}Q", *entry.emptied)
    head += entry.before
    head += packed_crcs(entry.after)
    for one in entry.witnesses:
        head += _WITNESS.pack(*one)
    crc = zlib.crc32(head, log_crc)
    head[_RECORD_CRC_BYTE : _RECORD_CRC_BYTE + 4] = crc.to_bytes(4, "little")
    return [head, *data]


def packed_crcs(crcs: Sequence[int]) -> bytes:
    """Return CRC-32s as records have them."""
    packed = array("I", crcs)
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tobytes()


def note_on(head: Bytes, magic: bytes) -> bytes:
    """Return a note on a record, to be written where the next one would begin.

    Args:
        head: The beginning of the record.
        magic: `SEAL_MAGIC` or `LOSS_MAGIC`.
    """
    note = magic + bytes(head[8:16])
    crc = int.from_bytes(head[_RECORD_CRC_BYTE : _RECORD_CRC_BYTE + 4], "little")
    return note + zlib.crc32(note, crc).to_bytes(8, "little")


# -- reading --------------------------------------------------------------------------------------


def read_header(log: ReadFile, name: str) -> LogHeader | None:
    """Return the header of a log, or None where its owner had not finished writing it.

    Args:
        log: The log.
        name: What errors call it.

    Raises:
        ImageError: It is not a log, or one of another format, or damaged.
    """
    data = log.read(0, _HEADER.size)
    if (
        not any(data) and log.size() <= RECORDS_OFFSET and not any(log.read(0, RECORDS_OFFSET))
    ) or (len(data) < _HEADER.size and LOG_MAGIC.startswith(data[:8])):
        return None
    if data[:8] != LOG_MAGIC:
        raise ImageError(
            f"{name} is not a log of sqlstable: it begins with {data[:8]!r}; move it away if it "
            "belongs to something else"
        )
    _, version, code, process_id, log_id, boot_id, crc = _HEADER.unpack(data)
    if version != LOG_FORMAT_VERSION:
        raise ImageError(_other_format(name, version))
    if crc != zlib.crc32(data[:_HEADER_CRC_BYTE]) or not 1 <= code <= len(DURABILITIES):
        if log.size() <= RECORDS_OFFSET:
            # Torn by a loss of power before any message was answered.
            return None
        raise ImageError(
            f"{name} is damaged: its header has a wrong checksum; restore image and log from a "
            "copy, or move the log away and check the image"
        )
    return LogHeader(DURABILITIES[code - 1], process_id, log_id, boot_id)


def _other_format(name: str, version: int) -> str:
    if version > LOG_FORMAT_VERSION:
        return (
            f"{name} has format version {version}, and only {LOG_FORMAT_VERSION} is known; "
            "open the image with a newer sqlstable, which will recover it"
        )
    return (
        f"{name} has format version {version}, which does not say for certain to which image it "
        "belongs; open the image once with sqlstable 0.1.0, which will recover it, or move the "
        "log away to open the image as it is"
    )


def read_records(log: ReadFile, header: LogHeader, name: str) -> list[Record]:
    """Return the records that count, in order.

    Raises:
        ImageError: A whole record says what cannot be.
    """
    records: list[Record] = []
    offset = RECORDS_OFFSET
    while True:
        record = _read_record(log, header, offset, name)
        if record is None or (
            records and record.entry.sequence_number != records[-1].entry.sequence_number + 1
        ):
            return records
        records.append(record)
        offset = next_record_offset(record.end_offset)


def next_record_offset(end_offset: int) -> int:
    """Return where a record may begin that follows one ending there.

    At an OS page of its own, so that a write that is torn leaves the record before it alone.
    """
    return -(-end_offset // OS_PAGE_BYTES) * OS_PAGE_BYTES


def _read_record(log: ReadFile, header: LogHeader, offset: int, name: str) -> Record | None:
    """Return the record at ``offset``, or None where there is no whole one."""
    fixed = log.read(offset, _RECORD.size)
    if len(fixed) < _RECORD.size or fixed[:8] != RECORD_MAGIC:
        return None
    numbers = _RECORD.unpack(fixed)
    counts = numbers[7:11]
    table_bytes = _table_bytes(header.durability, *counts)
    data_offset = offset + _RECORD.size + table_bytes
    end_offset = data_offset + counts[1] * OS_PAGE_BYTES
    if end_offset > log.size():
        return None
    tables = log.read(offset + _RECORD.size, table_bytes)
    blank = fixed[:_RECORD_CRC_BYTE] + bytes(10)
    if numbers[11] != zlib.crc32(tables, zlib.crc32(blank, zlib.crc32(header.log_id))):
        return None
    entry = _decode(header.durability, numbers, tables)
    impossible = _find_impossible(entry, counts[1])
    if impossible is not None:
        raise ImageError(
            f"{name} says what cannot be: record {entry.sequence_number} {impossible}; it was not "
            "written by sqlstable. Move it away to open the image as it is"
        )
    note = log.read(next_record_offset(end_offset), _NOTE_BYTES)
    record = Record(
        entry,
        offset,
        data_offset,
        end_offset,
        is_sealed=note == note_on(fixed, SEAL_MAGIC),
        is_doubtful=note == note_on(fixed, LOSS_MAGIC),
    )
    crcs = (crc for _, data in record.pieces(log) for crc in os_page_crcs([data]))
    return record if all(map(int.__eq__, crcs, entry.after)) else None


def _table_bytes(
    durability: Durability, runs: int, os_pages: int, emptied: int, witnesses: int
) -> int:
    checksums = (os_pages + emptied) * CHECKSUM_BYTES[durability]
    return runs * 16 + emptied * 8 + checksums + os_pages * 4 + witnesses * _WITNESS.size


def _decode(durability: Durability, numbers: Sequence[int], tables: bytes) -> LogEntry:
    _, sequence_number, before, after, is_wiped, covered, fingerprint, *rest = numbers
    run_count, os_pages, emptied, _, *_ = rest
    view = memoryview(tables)
    ends = np.cumsum(
        [
            run_count * _RUN.size,
            emptied * 8,
            (os_pages + emptied) * CHECKSUM_BYTES[durability],
            os_pages * 4,
        ]
    ).tolist()
    runs, pages, checksums, crcs, witnesses = (
        view[start:stop] for start, stop in zip([0, *ends], [*ends, len(view)], strict=True)
    )
    return LogEntry(
        sequence_number,
        before,
        after,
        covered,
        fingerprint,
        tuple((first << 12, count << 12) for first, count in _RUN.iter_unpack(runs)),
        bytes(checksums),
        tuple(np.frombuffer(crcs, dtype="<u4").tolist()),
        bool(is_wiped),
        tuple(np.frombuffer(pages, dtype="<u8").tolist()),
        tuple(_WITNESS.iter_unpack(witnesses)),
    )


def _find_impossible(entry: LogEntry, os_pages: int) -> str | None:
    """Hold the numbers of a record against each other; what is wrong, or None."""
    before, after = entry.wasm_pages_before, entry.wasm_pages_after
    runs = entry.runs
    last = max((start + length for start, length in runs), default=0) // OS_PAGE_BYTES - 1
    in_runs = sum(length for _, length in runs) // OS_PAGE_BYTES
    overlap = any(start + length > then for (start, length), (then, _) in pairwise(runs))
    others = [*entry.emptied, *(os_page for os_page, _ in entry.witnesses)]
    # What follows is looked at in this order: sizes first, as all else is held against them.
    findings = {
        f"states a size of {max(before, after)} Wasm pages": max(before, after) > _WASM_PAGES_MAX,
        f"shrinks the image from {before} to {amount(after, 'Wasm page')}": after < before
        and not entry.is_wiped,
        f"changes OS page {last} of {amount(after, 'Wasm page')}": last
        >= after * OS_PAGES_PER_WASM_PAGE,
        "has runs of OS pages that overlap": overlap,
        f"has {os_pages} OS pages, and {in_runs} in its runs": in_runs != os_pages,
        f"speaks of OS page {max(others, default=0)}": max(others, default=0) >= _OS_PAGES_MAX,
    }
    return next((text for text, is_so in findings.items() if is_so), None)
