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
  `sqlstable.memory.image.imagefile` keeps other processes of ours out. A foreign writer is noticed
  by the file's length, at once, by its time, be it set back, and by its name that leads elsewhere,
  at the next message that begins a millisecond after the last look. Not by a time within a tick of
  the clock from our own last write, or within two seconds where it is of whole seconds (some file
  systems have no others), nor by any on file systems whose files are not mapped.

**Why one record is enough for** ``process``: when a record is written over the one before it,
that one's message is in the image already. If the write is cut off, no record is whole, and the
image needs none.

**Why a log is not applied to another image**, or another state of this one, though a file may have
been copied, restored or put in the other's place while nobody had it open: each record says what
the OS pages were that it changes, and by what the whole image is told after it
(`sqlstable.memory.image.belonging` has the rule, `sqlstable.memory.image.fingerprint` what it
costs). Both are at hand in a commit: the fingerprint changes by the terms of the OS pages that the
message changed. It is taken of the whole image with the first message of an opening.

**Why a record is sealed** when its message is in the image: without, one that was answered could
not be told from one that was being applied, and a backup of the state before it from a message that
is still to be finished.

**Why the header names the start of the system**: a kill takes nothing from the image, a loss of
power any sector since the last flush. So an image that lacks messages of the log of ``power`` is
whole after a loss of power, and after a kill another state, such as a backup.

**Why a checkpoint begins the log with a record without OS pages**, and flushes that before the log
is used again: else a record half overwritten could leave the first ones of a long row whole, and
applying those alone would take OS pages back to an older state.

**Why recovery flushes the log before it touches the image** (``power``): its owner may have been
killed before it could. If the power then went during recovery, the image would hold a part of a
message whose record is lost.
"""

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import Final, NamedTuple, NoReturn

import numpy as np

from sqlstable.ic.units import MIB, OS_PAGE_BYTES, OS_PAGES_PER_WASM_PAGE, WASM_PAGE_BYTES
from sqlstable.memory.backing import Backing, Bytes
from sqlstable.memory.image.commitlog import (
    LOSS_MAGIC,
    RECORD_HEAD_BYTES,
    RECORDS_OFFSET,
    SEAL_MAGIC,
    LogEntry,
    LogHeader,
    Record,
    next_record_offset,
    note_on,
    packed_crcs,
    record_parts,
)
from sqlstable.memory.image.fingerprint import (
    ALL_OS_PAGES,
    FILLED_OS_PAGES_MAX,
    ZERO_CRC,
    Fingerprint,
    os_page_crcs,
    os_page_crcs_of,
    sector_crcs,
    take_fingerprint,
)
from sqlstable.memory.image.osfile import File, ReadFile, Run

CHECKPOINT_BYTES: Final = 64 * MIB
"""Records that gather with ``power`` before the image is flushed; recovery copies no more."""

LOG_BYTES_KEPT: Final = MIB
"""With ``process``, a log that had to hold more is cut back: a load is rarely followed by one."""

LOG_FILLED_BYTES: Final = MIB
"""With ``power``, zeros are written ahead by so much."""

RESERVED_BYTES: Final = WASM_PAGE_BYTES
assert RESERVED_BYTES == 1 << 16
"""Space is asked for by Wasm pages: often enough to stay sparse, seldom enough to stay quick."""

WITNESSES: Final = 64
"""OS pages of the message before that a record of a large image names."""

KNOWN_CRCS_MAX: Final = 1 << 16
"""CRC-32s of committed OS pages that are remembered, about 100 bytes each."""

_ZERO_SECTORS: Final = sector_crcs(bytes(OS_PAGE_BYTES))

_LOOPED_OS_PAGES: Final = 256
"""Up to so many OS pages, a plain loop joins them quicker than numpy does."""


CUT_OFF: Final = (
    "the last message was cut off while it was being committed; close the image and open it "
    "again: its log says whether the message is there, and finishes it"
)
"""Why nothing goes on after an exception from outside in the middle of a commit."""


class NotCommittedError(Exception):
    """The message could not be committed; the image is as it was before."""


class PageChange(NamedTuple):
    """What one message does to the image."""

    dirty: Sequence[int]
    "OS pages, each once, in any order."
    staging: Backing
    "Their bytes."
    wasm_pages_before: int
    wasm_pages_after: int
    is_wiped: bool = False
    "Whether everything before is gone."

    @property
    def is_empty(self) -> bool:
        """Whether it leaves the image as it is."""
        is_resized = self.wasm_pages_before != self.wasm_pages_after
        return not (self.dirty or is_resized or self.is_wiped)


class CommitPipeline:
    """Takes changes from memory to the image, through the log.

    Args:
        image: The image, whole.
        log: The log, with its header written and, for ``power``, flushed.
        header: That header.
        read: Reads committed bytes of the image.
        on_resized: Is told after the image got another length.
    """

    def __init__(
        self,
        image: File,
        log: File,
        *,
        header: LogHeader,
        read: Callable[[int, int], Bytes],
        on_resized: Callable[[int], None],
    ) -> None:
        self.failure: str | None = None
        "Why no further message may begin, or None."
        self.durability = header.durability
        self.log_bytes = RECORDS_OFFSET
        "Bytes that the log has at least."
        self._image = image
        self._log = log
        self._header = header
        self._log_crc = zlib.crc32(header.log_id)
        self._is_flushed = self.durability == "power"
        self._read = read
        self._on_resized = on_resized
        self._sequence_number = 0
        self._log_offset = self._log_filled = RECORDS_OFFSET
        self._reserved: set[int] = set()
        self._fingerprint: Fingerprint | None = None
        self._known_crcs: dict[int, int] = {}
        self._witnesses: tuple[tuple[int, int], ...] = ()
        self._wasm_pages = 0
        self._last_head: Bytes = b""

    def commit(self, change: PageChange) -> None:
        """Make one message permanent.

        Raises:
            NotCommittedError: It could not be; nothing has changed.
        """
        runs = os_page_runs(change.dirty)
        read = change.staging.read
        data = [read(start, length) for start, length in runs]
        os_pages = sorted(change.dirty)
        entry, fingerprint = self._describe(change, runs, os_pages, data)
        head, end_offset = self._write_ahead(entry, data)
        try:
            self._apply(change, runs, data)
            self._note(entry, os_pages, fingerprint)
            self._finish(head, end_offset)
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
            _expect_loss(self._log, self._last_head, self._log_offset)
            self._image.flush()

    def renew_log(self) -> None:
        """Write the log anew, of which somebody else has cut something off.

        Between messages the image is whole, so nothing is lost with it.

        Raises:
            OSError: A call failed.
        """
        self._log.write(0, [self._header.encode()])
        self._log_filled = RECORDS_OFFSET
        self._restart_log()

    # -- before the commit point ----------------------------------------------------------------

    def _describe(
        self,
        change: PageChange,
        runs: Sequence[Run],
        os_pages: Sequence[int],
        data: Sequence[Bytes],
    ) -> tuple[LogEntry, Fingerprint]:
        """Say what the record of a message says, and what the image is told by after it."""
        try:
            fingerprint = self._fingerprint_now()
            crcs = self._crcs_before(os_pages, change.wasm_pages_before)
            emptied = self._emptied_by(os_pages, fingerprint) if change.is_wiped else {}
            before = self._checksums([*os_pages, *emptied], [*crcs, *emptied.values()])
        except OSError as error:
            raise NotCommittedError(f"the image cannot be read: {reason(error)}") from error
        after = os_page_crcs(data)
        changed = fingerprint.changed(os_pages, crcs, after)
        if emptied:
            changed = changed.changed([*emptied], [*emptied.values()], [ZERO_CRC] * len(emptied))
        entry = LogEntry(
            self._sequence_number + 1,
            change.wasm_pages_before,
            change.wasm_pages_after,
            changed.os_pages_covered,
            changed.value,
            tuple(runs),
            before,
            tuple(after),
            change.is_wiped,
            tuple(emptied),
            () if change.is_wiped else self._witnesses,
        )
        return entry, changed

    def _fingerprint_now(self) -> Fingerprint:
        known = self._fingerprint
        if known is None:
            known = self._fingerprint = take_fingerprint(self._image)
        elif known.os_pages_filled > FILLED_OS_PAGES_MAX * 5 // 4:
            # What recovery has to read stays bounded, and this is rare.
            taken = take_fingerprint(self._image)
            # Never more than before: what a wipe emptied beyond, no record of this log has noted.
            if taken.os_pages_covered > known.os_pages_covered:
                taken = take_fingerprint(self._image, known.os_pages_covered)
            known = self._fingerprint = taken
        return known

    def _crcs_before(self, os_pages: Sequence[int], wasm_pages: int) -> list[int]:
        known = self._known_crcs
        try:
            return [known[os_page] for os_page in os_pages]
        except KeyError:
            return [
                known[os_page] if os_page in known else self._committed_crc(os_page, wasm_pages)
                for os_page in os_pages
            ]

    def _committed_crc(self, os_page: int, wasm_pages: int) -> int:
        if os_page >= wasm_pages * OS_PAGES_PER_WASM_PAGE:
            return ZERO_CRC
        return zlib.crc32(self._read(os_page * OS_PAGE_BYTES, OS_PAGE_BYTES))

    def _emptied_by(self, os_pages: Sequence[int], fingerprint: Fingerprint) -> dict[int, int]:
        """Return the OS pages that a wipe leaves empty, and their CRC-32s before it."""
        written = set(os_pages)
        return {
            os_page: int(crc)
            for first, crcs in os_page_crcs_of(self._image, fingerprint.os_pages_covered)
            for os_page, crc in enumerate(crcs, start=first)
            if crc != ZERO_CRC and os_page not in written
        }

    def _checksums(self, os_pages: Sequence[int], crcs: Sequence[int]) -> bytes:
        """Return the checksums that say how OS pages were before."""
        if not self._is_flushed:
            return packed_crcs(crcs)
        read = self._read
        return b"".join(
            _ZERO_SECTORS
            if crc == ZERO_CRC
            else sector_crcs(read(os_page * OS_PAGE_BYTES, OS_PAGE_BYTES))
            for os_page, crc in zip(os_pages, crcs, strict=True)
        )

    def _write_ahead(self, entry: LogEntry, data: Sequence[Bytes]) -> tuple[Bytes, int]:
        """Reserve space and write the record; returns its head, and where it ends in the log."""
        try:
            self._reserve(entry.runs)
        except OSError as error:
            raise NotCommittedError(
                f"there is no room for the message in the image: {reason(error)}"
            ) from error
        parts = record_parts(self._log_crc, entry, data)
        # From here to the end nothing else may begin, whatever exception comes in between.
        self.failure = CUT_OFF
        end_offset = self._log_offset + sum(map(len, parts))
        try:
            self._log.write(self._log_offset, parts)
            if self._is_flushed:
                self._fill_log(end_offset)
                self._log.flush()
        except OSError as error:
            self._take_back(error)
        self._sequence_number += 1
        return parts[0], end_offset

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
            self._log_filled = self.log_bytes = self._log_offset
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

    # -- behind it ------------------------------------------------------------------------------

    def _apply(self, change: PageChange, runs: Sequence[Run], data: Sequence[Bytes]) -> None:
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

    def _note(self, entry: LogEntry, os_pages: Sequence[int], fingerprint: Fingerprint) -> None:
        """Remember what the next record has to say of the image."""
        known, count = self._known_crcs, len(os_pages)
        if entry.is_wiped or len(known) + count > KNOWN_CRCS_MAX:
            known.clear()
        if count <= KNOWN_CRCS_MAX:
            known.update(zip(os_pages, entry.after, strict=True))
        if fingerprint.os_pages_covered != ALL_OS_PAGES:
            self._witnesses = tuple(islice(zip(os_pages, entry.after, strict=True), WITNESSES))
        self._fingerprint = fingerprint
        self._wasm_pages = entry.wasm_pages_after

    def _finish(self, head: Bytes, end_offset: int) -> None:
        """Seal the record of a message that is in the image, and make room for the next."""
        self.log_bytes = end_offset
        self._last_head = head
        next_offset = next_record_offset(end_offset)
        try:  # noqa: SIM105 (twice as quick as suppress, with each message)
            self._log.write(next_offset, [note_on(head, SEAL_MAGIC)])
        except OSError:
            # Whoever finds no seal has more to do, and does it right: no room is no failure.
            pass
        if not self._is_flushed:
            if end_offset > LOG_BYTES_KEPT:
                self._restart_log()
            return
        self._log_offset = next_offset
        if self._log_offset - RECORDS_OFFSET >= CHECKPOINT_BYTES:
            self._restart_log()

    def _restart_log(self) -> None:
        """Begin the log anew with a record that only states what the image is, whole as it is."""
        self.flush()
        fingerprint = self._fingerprint
        self._log_offset = self.log_bytes = RECORDS_OFFSET
        if fingerprint is not None and self._last_head:
            size, covered = self._wasm_pages, fingerprint.os_pages_covered
            entry = LogEntry(self._sequence_number, size, size, covered, fingerprint.value)
            parts = record_parts(self._log_crc, entry, [])
            end_offset = RECORDS_OFFSET + sum(map(len, parts))
            self._log.write(RECORDS_OFFSET, parts)
            self.log_bytes, self._last_head = end_offset, parts[0]
            if self._is_flushed:
                self._log_offset = next_record_offset(end_offset)
        if self._is_flushed:
            self._log.flush()
        else:
            self._log.resize(self.log_bytes)


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


def apply_records(
    image: File,
    log: File,
    records: Sequence[Record],
    header: LogHeader,
    *,
    pending: Sequence[Record],
    is_flushed: bool,
) -> None:
    """Bring an image up to date with what is pending in its log; doing it again does no harm.

    Args:
        image: The image.
        log: The log; written to if flushing.
        records: What counts in the log.
        header: The log's.
        pending: Which of them the image may lack.
        is_flushed: Whether image and log survive a loss of power afterwards.

    Raises:
        OSError: A call failed; the log still holds everything.
    """
    if is_flushed:
        # Its owner may have been killed before it could: the image must not be ahead of it.
        log.flush()
        if records and header.durability == "power":
            last = records[-1]
            head = log.read(last.offset, RECORD_HEAD_BYTES)
            _expect_loss(log, head, next_record_offset(last.end_offset))
    for record in pending:
        entry = record.entry
        if entry.is_wiped:
            image.resize(0)
        # Never shorter: later records may have grown it before everything was cut off.
        if image.size() < entry.wasm_pages_after * WASM_PAGE_BYTES:
            image.resize(entry.wasm_pages_after * WASM_PAGE_BYTES)
        for address, data in record.pieces(log):
            image.write(address, [data])
    if is_flushed:
        image.flush()


def _expect_loss(log: File, head: Bytes, offset: int) -> None:
    """Say behind the last record, before the image is flushed, that sectors may be lost."""
    # On a full disk there may be no room for the note, and the flush succeeds without.
    with suppress(OSError):
        if head:
            log.write(offset, [note_on(head, LOSS_MAGIC)])


class PatchedFile:
    """An image with the records of its log laid over it in memory; the file stays as it is.

    For openings that must not write: read-only files, and readers that are not the owner.
    """

    def __init__(self, image: ReadFile, log: ReadFile, records: Sequence[Record]) -> None:
        """Read all records into memory, a few times 64 MiB at most unless one message is larger."""
        self._image = image
        self._size_bytes = image.size()
        self._os_pages: dict[int, bytes] = {}
        self._is_wiped = False
        for record in records:
            if record.entry.is_wiped:
                self._os_pages.clear()
                self._is_wiped, self._size_bytes = True, 0
            size_bytes = record.entry.wasm_pages_after * WASM_PAGE_BYTES
            self._size_bytes = max(self._size_bytes, size_bytes)
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

    def extents(self) -> Iterator[tuple[int, int]]:
        """Yield all of it: where the records have holes filled is not looked up."""
        yield 0, self._size_bytes

    def close(self) -> None:
        """Close the file underneath."""
        self._image.close()


def reason(error: OSError) -> str:
    """Return what the system says, without a path."""
    return error.strerror or str(error)
