r"""The log beside an image file: what a commit writes before it touches the image.

A log belongs to one opening of one image. It begins with a header of one OS page; behind it lie
records, each the whole of one committed message: its OS pages as they are after it, and the size
of stable memory before and after. Integers are little-endian::

    header, OS page 0                            record, at a multiple of 4096
    byte  size  content                          byte  size     content
    ----  ----  ------------------------------   ----  -------  -------------------------------
       0     8  "SQSTLOG\n"                          0     8    "SQSTREC\n"
       8     4  format version: 1                    8     8    sequence number, from 1
      12     4  durability: 1 process, 2 power      16     8    Wasm pages before
      16     8  process id of the owner             24     8    Wasm pages after
      24    16  random id of this log               32     8    R, runs of OS pages
      40     4  CRC-32 of bytes 0 to 39             40     8    1 if everything before is wiped
                                                    48  4x40    witnesses: OS page (or -1), and
                                                                CRC-32s of it as it was before
                                                   208     4    CRC-32 of log id, of this header
                                                                with 0 here, and of all behind it
                                                   212     4    0
                                                   216  Rx16    runs: first OS page, OS pages
                                                      …         the bytes of all runs

``process`` writes each record over the one before it: by then that one's message is in the image.
A record that was cut off fails its CRC, and then the image is whole without it. ``power`` appends,
because the image is flushed only now and then.

**Which records count.** Those from the first one on that are whole, with sequence numbers that go
up by one. They are in the log's order the image's newest messages; applying them again does no
harm.

**Whether a log belongs to an image** is decided by content, as both may have been copied, and one
of them taken from a backup: the image's length must be one that the records state, and the
witnesses of the first record must be as they were before it, or as the records left them. They are
OS pages that the message *before* it changed, so an image that lacks that message does not fit;
the first message of an opening gives OS pages that it changes itself. ``process`` has one checksum
of each, because a kill leaves OS pages whole; ``power`` has one of each sector.
"""

import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from sqlstable.errors import ImageError
from sqlstable.ic.units import MIB, OS_PAGE_BYTES
from sqlstable.memory.backing import Bytes
from sqlstable.memory.osfile import File, Run

Durability = Literal["process", "power"]

LOG_MAGIC: Final = b"SQSTLOG\n"
RECORD_MAGIC: Final = b"SQSTREC\n"
LOG_FORMAT_VERSION: Final = 1

DURABILITIES: Final[tuple[Durability, ...]] = ("process", "power")

RECORDS_OFFSET: Final = OS_PAGE_BYTES
"""Byte of the log at which the first record begins."""

SECTOR_BYTES: Final = 512
"""What a device writes whole or not at all."""

WITNESSES: Final = 4
WITNESS_BYTES: Final = OS_PAGE_BYTES // SECTOR_BYTES * 4
NO_WITNESS: Final = (-1, bytes(WITNESS_BYTES))

Witness = tuple[int, bytes]
"""An OS page, and the checksums of its parts."""

_HEADER: Final = struct.Struct("<8sIIQ16sI")
_HEADER_CRC_BYTE: Final = _HEADER.size - 4
_RECORD: Final = struct.Struct(f"<8sQQQQQ{f'q{WITNESS_BYTES}s' * WITNESSES}II")
_RECORD_CRC_BYTE: Final = _RECORD.size - 8
_RUN: Final = struct.Struct("<QQ")
_PIECE_BYTES: Final = 4 * MIB
_NO_WITNESSES: Final = [NO_WITNESS * (WITNESSES - given) for given in range(WITNESSES + 1)]

assert _HEADER.size == 44
assert (_RECORD_CRC_BYTE, _RECORD.size) == (208, 216)


@dataclass(frozen=True, slots=True)
class LogHeader:
    """To whom a log belongs."""

    durability: Durability
    process_id: int
    log_id: bytes
    "16 random bytes; no record of another log passes for one of this."

    def encode(self) -> bytes:
        """Return the header's OS page."""
        code = DURABILITIES.index(self.durability) + 1
        head = _HEADER.pack(LOG_MAGIC, LOG_FORMAT_VERSION, code, self.process_id, self.log_id, 0)[
            :_HEADER_CRC_BYTE
        ]
        return (head + zlib.crc32(head).to_bytes(4, "little")).ljust(OS_PAGE_BYTES, b"\0")


@dataclass(frozen=True, slots=True)
class Record:
    """One committed message in a log."""

    sequence_number: int
    wasm_pages_before: int
    wasm_pages_after: int
    is_wiped: bool
    "Whether nothing of the image before counts, as after a reinstallation."
    witnesses: tuple[Witness, ...]
    runs: tuple[Run, ...]
    data_offset: int
    "Byte of the log at which the bytes of the first run begin."
    end_offset: int
    "Byte of the log behind the record."

    @property
    def os_pages(self) -> int:
        """OS pages that the message dirtied."""
        return sum(length for _, length in self.runs) // OS_PAGE_BYTES

    def pieces(self, log: File) -> Iterator[tuple[int, bytes]]:
        """Yield the bytes of all runs, each with its address in stable memory."""
        offset = self.data_offset
        for start, length in self.runs:
            for done in range(0, length, _PIECE_BYTES):
                count = min(_PIECE_BYTES, length - done)
                yield start + done, log.read(offset + done, count)
            offset += length


def read_header(log: File, name: str) -> LogHeader | None:
    """Return the header of a log, or None where its owner had not finished writing it.

    Args:
        log: The log.
        name: What errors call it.

    Raises:
        ImageError: It is not a log, or one of a newer format, or damaged.
    """
    data = log.read(0, _HEADER.size)
    if (
        not any(data) and log.size() <= RECORDS_OFFSET and not any(log.read(0, RECORDS_OFFSET))
    ) or (len(data) < _HEADER.size and LOG_MAGIC.startswith(data[:8])):
        return None
    if data[:8] != LOG_MAGIC:
        msg = (
            f"{name} is not a log of sqlstable: it begins with {data[:8]!r}; move it away if it "
            "belongs to something else"
        )
        raise ImageError(msg)
    _, version, code, process_id, log_id, crc = _HEADER.unpack(data)
    if version > LOG_FORMAT_VERSION:
        msg = (
            f"{name} has format version {version}, and only {LOG_FORMAT_VERSION} is known; "
            "open the image with a newer sqlstable, which will recover it"
        )
        raise ImageError(msg)
    if crc != zlib.crc32(data[:_HEADER_CRC_BYTE]) or not 1 <= code <= len(DURABILITIES):
        if log.size() <= RECORDS_OFFSET:
            # Torn by a loss of power before any message was answered.
            return None
        msg = (
            f"{name} is damaged: its header has a wrong checksum; restore image and log from a "
            "copy, or move the log away and check the image"
        )
        raise ImageError(msg)
    return LogHeader(DURABILITIES[code - 1], process_id, log_id)


def record_parts(
    log_crc: int,
    *,
    sequence_number: int,
    wasm_pages: tuple[int, int],
    is_wiped: bool,
    witnesses: Sequence[Witness],
    runs: Sequence[Run],
    data: Sequence[Bytes],
) -> list[Bytes]:
    """Return a record, ready to be written in one call.

    Args:
        log_crc: CRC-32 of the log's id.
        sequence_number: One more than that of the record before.
        wasm_pages: Size before and after.
        is_wiped: See `Record`.
        witnesses: At most `WITNESSES`.
        runs: Where the bytes go, by whole OS pages.
        data: The bytes of each run.
    """
    before, after = wasm_pages
    fields = [RECORD_MAGIC, sequence_number, before, after, len(runs), is_wiped]
    for one in witnesses:
        fields += one
    fields += _NO_WITNESSES[len(witnesses)]
    head = bytearray(_RECORD.pack(*fields, 0, 0))
    if len(runs) == 1:
        head += _RUN.pack(runs[0][0] >> 12, runs[0][1] >> 12)
    else:
        head += np.right_shift(np.array(runs, dtype="<u8"), 12).tobytes()
    crc = zlib.crc32(head, log_crc)
    for part in data:
        crc = zlib.crc32(part, crc)
    head[_RECORD_CRC_BYTE : _RECORD_CRC_BYTE + 4] = crc.to_bytes(4, "little")
    return [head, *data]


def witness(os_page: int, data: Bytes, durability: Durability) -> Witness:
    """Return the witness of an OS page with these 4096 bytes."""
    if durability == "process":
        return os_page, zlib.crc32(data).to_bytes(WITNESS_BYTES, "little")
    view = memoryview(data)
    sectors = (view[start : start + SECTOR_BYTES] for start in range(0, len(view), SECTOR_BYTES))
    return os_page, b"".join(zlib.crc32(sector).to_bytes(4, "little") for sector in sectors)


def read_records(log: File, log_id: bytes) -> list[Record]:
    """Return the records that count, in order."""
    records: list[Record] = []
    offset = RECORDS_OFFSET
    while True:
        record = _read_record(log, log_id, offset)
        if record is None or (
            records and record.sequence_number != records[-1].sequence_number + 1
        ):
            return records
        records.append(record)
        offset = next_record_offset(record.end_offset)


def next_record_offset(end_offset: int) -> int:
    """Return where a record may begin that follows one ending there.

    At an OS page of its own, so that a write that is torn leaves the record before it alone.
    """
    return -(-end_offset // OS_PAGE_BYTES) * OS_PAGE_BYTES


def _read_record(log: File, log_id: bytes, offset: int) -> Record | None:
    """Return the record at ``offset``, or None where there is no whole one."""
    fixed = log.read(offset, _RECORD.size)
    if len(fixed) < _RECORD.size or fixed[:8] != RECORD_MAGIC:
        return None
    _, sequence_number, before, after, run_count, is_wiped, *rest = _RECORD.unpack(fixed)
    data_offset = offset + _RECORD.size + run_count * _RUN.size
    size_bytes = log.size()
    if data_offset > size_bytes:
        return None
    table = log.read(offset + _RECORD.size, run_count * _RUN.size)
    runs = tuple((first << 12, count << 12) for first, count in _RUN.iter_unpack(table))
    end_offset = data_offset + sum(length for _, length in runs)
    if end_offset > size_bytes:
        return None
    record = Record(
        sequence_number,
        before,
        after,
        bool(is_wiped),
        tuple((rest[2 * i], rest[2 * i + 1]) for i in range(WITNESSES)),
        runs,
        data_offset,
        end_offset,
    )
    blank = fixed[:_RECORD_CRC_BYTE] + bytes(8)
    crc = zlib.crc32(table, zlib.crc32(blank, zlib.crc32(log_id)))
    for start in range(data_offset, end_offset, _PIECE_BYTES):
        crc = zlib.crc32(log.read(start, min(_PIECE_BYTES, end_offset - start)), crc)
    return record if crc == rest[-2] else None


def find_misfit(
    image: File, log: File, records: Sequence[Record], durability: Durability
) -> str | None:
    """Say why records cannot be those of an image, or None if they may be.

    Args:
        image: The image, as its owner left it.
        log: The log.
        records: What counts in the log; at least one.
        durability: That of the log.
    """
    size_bytes = image.size()
    sizes = {records[0].wasm_pages_before << 16, *(r.wasm_pages_after << 16 for r in records)}
    if any(record.is_wiped for record in records):
        sizes.add(0)
    if size_bytes not in sizes:
        stated = " or ".join(f"{size}" for size in sorted(sizes))
        return f"the image has {size_bytes} bytes, where the log expects {stated}"
    for os_page, samples in sorted(_known_samples(log, records, durability).items()):
        now = image.read(os_page << 12, OS_PAGE_BYTES).ljust(OS_PAGE_BYTES, b"\0")
        if not _is_mixture(witness(os_page, now, durability)[1], samples):
            return f"OS page {os_page} is neither as it was before nor as the log left it"
    return None


def _known_samples(
    log: File, records: Sequence[Record], durability: Durability
) -> dict[int, list[bytes]]:
    """Return samples of every state that the OS pages of witnesses have been in.

    Only the first record's: an OS page of a later one may still be, in the image, as it was
    before an earlier one, and that state nobody knows.
    """
    known = {os_page: [sample] for os_page, sample in records[0].witnesses if os_page >= 0}
    for record in records:
        if record.is_wiped:
            for os_page, samples in known.items():
                samples.append(witness(os_page, bytes(OS_PAGE_BYTES), durability)[1])
        for address, data in record.pieces(log) if known else ():
            first = address >> 12
            for os_page in known.keys() & range(first, first + (len(data) >> 12)):
                start = (os_page - first) << 12
                after = data[start : start + OS_PAGE_BYTES]
                known[os_page].append(witness(os_page, after, durability)[1])
    return known


def _is_mixture(sample: bytes, samples: Sequence[bytes]) -> bool:
    """Whether each checksum of ``sample`` is that of one of ``samples``."""
    for start in range(0, WITNESS_BYTES, 4):
        part = slice(start, start + 4)
        if not any(sample[part] == other[part] for other in samples):
            return False
    return True
