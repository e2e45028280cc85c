"""Committing a message to an image file, and finishing what was cut off.

**How a commit goes.** Space is reserved in the image; the message is written to the log as one
record; that is the commit point. Then its OS pages are written into the image, and the message is
answered. With ``power`` the log is flushed before the commit point counts, and the image once
64 MiB of records have gathered.

**Fault model.** What may happen, and what holds then:

* The process is killed at any instant, inside a call too: a write is then cut off at the border
  of an OS page. Everything that was written stays written.
* The power goes (``power`` only): of what was written since a file's last flush, any sectors of
  512 bytes are there and any are not, in any order; lengths likewise. What was flushed stays. A
  sector is written whole or not at all, and one that nobody writes does not change.
* A call fails: for want of space, with an I/O error, after a part of its bytes (of the image:
  after whole OS pages, with ``power`` after whole sectors). Before the commit point the message
  traps, the image is as it was, and the record is taken back, since a part of it may make a whole
  one with what older records left; where that fails too, whether the message survives is unknown,
  and no further message begins. Behind the commit point the message is committed; the log is kept,
  no further message begins, and the next opening finishes the work.
* An exception comes from outside, such as Ctrl-C, at any line: as behind the commit point, and the
  log says at the next opening whether the message is there.
* Never: bytes that change by themselves, flushes that lie, two writers. The lock of
  `sqlstable.memory.imagefile` keeps other processes of ours out; a foreign writer is noticed by
  the file's length and time, at the next message.

**Why one record is enough for** ``process``: when a record is written over the one before it,
that one's message is in the image already. If the write is cut off, no record is whole, and the
image needs none.

**Why a checkpoint wipes the first record** and flushes that before the log is used again: else a
record half overwritten could leave the first ones of a long row whole, and applying those alone
would take OS pages back to an older state.

**Why recovery flushes the log before it touches the image** (``power``): its owner may have been
killed before it could. If the power then went during recovery, the image would hold a part of a
message whose record is lost.
"""

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple, NoReturn

import numpy as np

from sqlstable.ic.units import MIB, OS_PAGE_BYTES, WASM_PAGE_BYTES
from sqlstable.memory.backing import Backing, Bytes
from sqlstable.memory.commitlog import (
    RECORDS_OFFSET,
    WITNESSES,
    Durability,
    Record,
    Witness,
    next_record_offset,
    record_parts,
    witness,
)
from sqlstable.memory.osfile import File, Run

CHECKPOINT_BYTES: Final = 64 * MIB
"""Records that gather with ``power`` before the image is flushed; recovery copies no more."""

LOG_BYTES_KEPT: Final = MIB
"""With ``process``, a log that had to hold more is cut back: a load is rarely followed by one."""

LOG_FILLED_BYTES: Final = MIB
"""With ``power``, zeros are written ahead by so much."""

RESERVED_BYTES: Final = WASM_PAGE_BYTES
assert RESERVED_BYTES == 1 << 16
"""Space is asked for by Wasm pages: often enough to stay sparse, seldom enough to stay quick."""

_LOOPED_OS_PAGES: Final = 256
"""Up to so many OS pages, a plain loop joins them quicker than numpy does."""


_CUT_OFF: Final = (
    "the last message was cut off while it was being committed; close the image and open it "
    "again: its log says whether the message is there, and finishes it"
)


class NotCommittedError(Exception):
    """The message could not be committed; the image is as it was before."""


class Change(NamedTuple):
    """What one message does to the image."""

    dirty: Sequence[int]
    "OS pages, each once, in any order."
    staging: Backing
    "Their bytes."
    wasm_pages_before: int
    wasm_pages_after: int
    is_wiped: bool = False
    "Whether everything before is gone."


class CommitPipeline:
    """Takes changes from memory to the image, through the log.

    Args:
        image: The image, whole and of ``wasm_pages`` Wasm pages.
        log: The log, with its header written and, for ``power``, flushed.
        log_id: The id in that header.
        durability: What a commit survives.
        read: Reads committed bytes of the image.
        on_resized: Is told after the image got another length.
    """

    def __init__(
        self,
        image: File,
        log: File,
        *,
        log_id: bytes,
        durability: Durability,
        read: Callable[[int, int], Bytes],
        on_resized: Callable[[int], None],
    ) -> None:
        """Begin with an empty log."""
        self.failure: str | None = None
        "Why no further message may begin, or None."
        self._image = image
        self._log = log
        self._log_crc = zlib.crc32(log_id)
        self.durability = durability
        self._is_flushed = durability == "power"
        self._read = read
        self._on_resized = on_resized
        self._sequence_number = 0
        self._log_offset = self._log_filled = RECORDS_OFFSET
        self._last_changed: Sequence[int] = ()
        self._reserved: set[int] = set()

    def commit(self, change: Change) -> None:
        """Make one message permanent.

        Raises:
            NotCommittedError: It could not be; nothing has changed.
        """
        runs = os_page_runs(change.dirty)
        read = change.staging.read
        data = [read(start, length) for start, length in runs]
        end_offset = self._write_ahead(change, runs, data)
        try:
            self._apply(change, runs, data)
            if runs:
                self._last_changed = _ends(runs)
            if not self._is_flushed:
                if end_offset > LOG_BYTES_KEPT:
                    self._log.resize(RECORDS_OFFSET)
            else:
                self._log_offset = next_record_offset(end_offset)
                if self._log_offset - RECORDS_OFFSET >= CHECKPOINT_BYTES:
                    self._checkpoint()
        except OSError as error:
            self.failure = (
                f"the last message is committed, but the image could not be brought up to date: "
                f"{reason(error)}; close it, mend that, and open it again: its log finishes the "
                "work"
            )
        else:
            self.failure = None

    def flush(self) -> None:
        """Flush the image, after which it is whole without its log."""
        if self._is_flushed:
            self._image.flush()

    # -- before the commit point ----------------------------------------------------------------

    def _write_ahead(self, change: Change, runs: Sequence[Run], data: Sequence[Bytes]) -> int:
        """Reserve space and write the record; returns where it ends in the log."""
        try:
            parts = record_parts(
                self._log_crc,
                sequence_number=self._sequence_number + 1,
                wasm_pages=(change.wasm_pages_before, change.wasm_pages_after),
                is_wiped=change.is_wiped,
                witnesses=self._witnesses(change, runs),
                runs=runs,
                data=data,
            )
            self._reserve(runs)
        except OSError as error:
            msg = f"there is no room for the message in the image: {reason(error)}"
            raise NotCommittedError(msg) from error
        # From here to the end nothing else may begin, whatever exception comes in between.
        self.failure = _CUT_OFF
        end_offset = self._log_offset + len(parts[0]) + len(change.dirty) * OS_PAGE_BYTES
        try:
            self._log.write(self._log_offset, parts)
            if self._is_flushed:
                self._fill_log(end_offset)
                self._log.flush()
        except OSError as error:
            self._take_back(error)
        self._sequence_number += 1
        return end_offset

    def _fill_log(self, end_offset: int) -> None:
        """Write zeros behind a record that has made the log longer, for those that follow.

        Flushing what was written over is twice as quick as flushing a file that grows.
        """
        if end_offset > self._log_filled:
            self._log_filled = end_offset + LOG_FILLED_BYTES
            try:
                self._log.write(end_offset, [bytes(LOG_FILLED_BYTES)])
            except OSError:
                # Without zeros it is slower, and just as right; the space is needed elsewhere.
                self._log_filled = end_offset
                self._log.resize(end_offset)

    def _take_back(self, error: OSError) -> NoReturn:
        """Make sure that a record which could not be written never counts."""
        msg = f"the message could not be written to the log of the image: {reason(error)}"
        try:
            # A part of a record, and what older ones left behind it, may make a whole one.
            self._log.resize(self._log_offset)
            self._log_filled = self._log_offset
            if self._is_flushed:
                self._log.flush()
        except OSError:
            msg += ", nor could it be taken back: whether it survives is unknown"
            self.failure = f"{msg}; close the image, and open it again to see"
        else:
            self.failure = None
        raise NotCommittedError(msg) from error

    def _reserve(self, runs: Sequence[Run]) -> None:
        reserved = self._reserved
        for start, length in runs:
            first, last = start >> 16, (start + length - 1) >> 16
            if first in reserved and (first == last or self._is_reserved(first, last)):
                continue
            self._image.reserve(first * RESERVED_BYTES, (last + 1 - first) * RESERVED_BYTES)
            reserved.update(range(first, last + 1))

    def _is_reserved(self, first: int, last: int) -> bool:
        return self._reserved.issuperset(range(first, last + 1))

    def _witnesses(self, change: Change, runs: Sequence[Run]) -> list[Witness]:
        """Take checksums of OS pages that tell this state of the image from older ones."""
        if self._log_offset != RECORDS_OFFSET:
            # Those of the first record in a row are looked at, and no others.
            return []
        # The first message of an opening knows of none before it: what it changes has to do.
        addresses = self._last_changed or [*(start for start, _ in runs[:3]), *_ends(runs)]
        size_bytes = change.wasm_pages_before * WASM_PAGE_BYTES
        read, durability = self._read, self.durability
        return [
            witness(address >> 12, read(address, OS_PAGE_BYTES), durability)
            for address in dict.fromkeys(addresses)
            if address < size_bytes
        ][:WITNESSES]

    # -- behind it ------------------------------------------------------------------------------

    def _apply(self, change: Change, runs: Sequence[Run], data: Sequence[Bytes]) -> None:
        before, after = change.wasm_pages_before, change.wasm_pages_after
        if change.is_wiped:
            self._image.resize(0)
            # Before anybody looks: what was mapped is not there any more.
            self._on_resized(0)
            self._reserved.clear()
        if after != before or change.is_wiped:
            self._image.resize(after * WASM_PAGE_BYTES)
        self._image.write_runs(runs, data)
        if after != before or change.is_wiped:
            self._on_resized(after * WASM_PAGE_BYTES)

    def _checkpoint(self) -> None:
        self._image.flush()
        self._log.write(RECORDS_OFFSET, [bytes(OS_PAGE_BYTES)])
        self._log.flush()
        self._log_offset = RECORDS_OFFSET


def _ends(runs: Sequence[Run]) -> list[int]:
    """Return the addresses of the first and the last OS page of some runs."""
    return [runs[0][0], runs[-1][0] + runs[-1][1] - OS_PAGE_BYTES] if runs else []


def os_page_runs(os_pages: Sequence[int]) -> list[Run]:
    """Join OS pages into runs, ascending.

    Examples:
        >>> os_page_runs([7, 2, 3])
        [(8192, 8192), (28672, 4096)]
    """
    if len(os_pages) == 1:
        return [(os_pages[0] << 12, OS_PAGE_BYTES)]
    if len(os_pages) > _LOOPED_OS_PAGES:
        return list(_vector_runs(os_pages))
    runs: list[Run] = []
    start = stop = -1
    for os_page in sorted(os_pages):
        if os_page != stop:
            if start >= 0:
                runs.append((start << 12, (stop - start) << 12))
            start = os_page
        stop = os_page + 1
    if start >= 0:
        runs.append((start << 12, (stop - start) << 12))
    return runs


def _vector_runs(os_pages: Sequence[int]) -> Iterator[Run]:
    ordered = np.sort(np.array(os_pages, dtype=np.int64))
    breaks = np.flatnonzero(np.diff(ordered) != 1) + 1
    starts = ordered[np.concatenate(([0], breaks))]
    stops = ordered[np.concatenate((breaks - 1, [len(ordered) - 1]))] + 1
    for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
        yield start * OS_PAGE_BYTES, (stop - start) * OS_PAGE_BYTES


def apply_records(image: File, log: File, records: Sequence[Record], *, is_flushed: bool) -> None:
    """Bring an image up to date with what counts in its log; doing it again does no harm.

    Raises:
        OSError: A call failed; the log still holds everything.
    """
    if is_flushed:
        # Its owner may have been killed before it could: the image must not be ahead of it.
        log.flush()
    for record in records:
        if record.is_wiped:
            image.resize(0)
        # Never shorter: later records may have grown it before everything was cut off.
        if image.size() < record.wasm_pages_after * WASM_PAGE_BYTES:
            image.resize(record.wasm_pages_after * WASM_PAGE_BYTES)
        for address, data in record.pieces(log):
            image.write(address, [data])
    if is_flushed:
        image.flush()


class PatchedFile:
    """An image with the records of its log laid over it in memory; the file stays as it is.

    For openings that must not write: read-only files, and readers that are not the owner.
    """

    def __init__(self, image: File, log: File, records: Sequence[Record]) -> None:
        """Read all records into memory, a few times 64 MiB at most unless one message is larger."""
        self._image = image
        self._size_bytes = image.size()
        self._os_pages: dict[int, bytes] = {}
        self._is_wiped = False
        for record in records:
            if record.is_wiped:
                self._os_pages.clear()
                self._is_wiped, self._size_bytes = True, 0
            self._size_bytes = max(self._size_bytes, record.wasm_pages_after * WASM_PAGE_BYTES)
            for address, data in record.pieces(log):
                for start in range(0, len(data), OS_PAGE_BYTES):
                    self._os_pages[(address + start) >> 12] = data[start : start + OS_PAGE_BYTES]

    @property
    def os_pages(self) -> Mapping[int, bytes]:
        """The OS pages that differ from the file."""
        return self._os_pages

    def size(self) -> int:
        """Return the length with all records applied."""
        return self._size_bytes

    def read(self, offset: int, length: int) -> bytes:
        """Return the file's bytes, or the records' where they have some."""
        length = min(length, self._size_bytes - offset)
        if length <= 0:
            return b""
        data = b"" if self._is_wiped else self._image.read(offset, length)
        result = bytearray(data.ljust(length, b"\0"))
        for os_page in range(offset >> 12, (offset + length - 1 >> 12) + 1):
            patch = self._os_pages.get(os_page)
            if patch is not None:
                start = os_page << 12
                low, high = max(start, offset), min(start + OS_PAGE_BYTES, offset + length)
                result[low - offset : high - offset] = patch[low - start : high - start]
        return bytes(result)

    def write(self, offset: int, parts: Sequence[Bytes]) -> None:
        """Refuse."""
        raise AssertionError(offset, len(parts))

    def write_runs(self, runs: Sequence[Run], data: Sequence[Bytes]) -> None:
        """Refuse."""
        raise AssertionError(len(runs), len(data))

    def resize(self, size_bytes: int) -> None:
        """Refuse."""
        raise AssertionError(size_bytes)

    def reserve(self, offset: int, length: int) -> None:
        """Refuse."""
        raise AssertionError(offset, length)

    def flush(self) -> None:
        """Do nothing: nothing is ever written."""

    def close(self) -> None:
        """Close the file underneath."""
        self._image.close()


def reason(error: OSError) -> str:
    """Return what the system says, without a path."""
    return error.strerror or str(error)
