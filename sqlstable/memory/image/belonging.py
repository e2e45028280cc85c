"""Whether a log may be applied to an image: only where it continues this very one.

Image and log are two files, and either may have been copied, restored from a backup, or left over.
Nothing of ours is in the image, so it is told by content. A log may be applied only if

1. the image has a length that it can have after what may have happened (see below),
2. each OS page that a pending message changes holds what it held before, or what a pending message
   left in it, and
3. all the rest is what the last record says that it is: with what the pending messages leave put in
   their places, the image has that record's fingerprint.

So what comes out is the image after the last message, OS page by OS page, and nothing that somebody
else has written is written over. All that may slip through are equal checksums: one OS page that
differs has an equal CRC-32 once in 2^32.

**Which messages are pending** depends on what may have happened:

* The process was killed, in the running system (``process`` in any case): the image holds every
  message before the last one. A sealed last one is in it, too: then nothing is pending, and
  the image must be exact. Else the last one may be there in part, by whole OS pages (``power``: by
  sectors, as a failing disk leaves them).
* The system has been started anew since, or a flush may have failed (``power`` only): of all
  messages in the log each sector may be there or not.

A backup that was put in the image's place after a kill is therefore refused, also if the log of
``power`` holds all that happened since the backup.

**Large images.** A fingerprint covers the beginning of an image only, where more than 64 MiB of it
are not zero. Beyond that, a record names the OS pages that the message before it changed, and what
they are. Two images with more data than that pass for one another if they differ only beyond it,
and neither in what the last two messages changed.
"""

from collections.abc import Sequence
from typing import Final

from sqlstable.ic.units import OS_PAGE_BYTES, WASM_PAGE_BYTES
from sqlstable.memory.backing import Bytes
from sqlstable.memory.image.commitlog import (
    CHECKSUM_BYTES,
    UNKNOWN_BOOT,
    LogHeader,
    Record,
    packed_crcs,
)
from sqlstable.memory.image.durability import Durability
from sqlstable.memory.image.fingerprint import ZERO_CRC, os_page_crcs, sector_crcs, take_fingerprint
from sqlstable.memory.image.osfile import ReadFile

_ZEROS: Final = bytes(OS_PAGE_BYTES)


def pending_records(records: Sequence[Record], *, lacks_sectors: bool) -> Sequence[Record]:
    """Return the records whose messages the image may lack, in part or whole.

    Args:
        records: What counts in the log.
        lacks_sectors: See `may_lack_sectors`.
    """
    if lacks_sectors:
        return records
    return [record for record in records[-1:] if not record.is_sealed]


def may_lack_sectors(records: Sequence[Record], header: LogHeader, boot_id: bytes) -> bool:
    """Return whether sectors of an image may have been lost since its log was written.

    Args:
        records: What counts in the log; at least one.
        header: The log's.
        boot_id: Of the running system; `UNKNOWN_BOOT` counts as another one.
    """
    if header.durability != "power":
        return False
    is_same_boot = header.boot_id == boot_id and boot_id != UNKNOWN_BOOT
    return not is_same_boot or records[-1].is_doubtful


def find_misfit(
    image: ReadFile,
    log: ReadFile,
    records: Sequence[Record],
    header: LogHeader,
    *,
    lacks_sectors: bool,
) -> str | None:
    """Say why records do not continue an image, or None where they do.

    Args:
        image: The image, as its owner left it.
        log: The log.
        records: What counts in the log; at least one.
        header: The log's.
        lacks_sectors: See `may_lack_sectors`.
    """
    pending = pending_records(records, lacks_sectors=lacks_sectors)
    last = records[-1].entry
    sizes = {last.wasm_pages_after * WASM_PAGE_BYTES}
    for record in pending:
        sizes.add(record.entry.wasm_pages_before * WASM_PAGE_BYTES)
        sizes.add(record.entry.wasm_pages_after * WASM_PAGE_BYTES)
        sizes |= {0} if record.entry.is_wiped else set()
    size_bytes = image.size()
    if size_bytes not in sizes:
        stated = " or ".join(f"{size}" for size in sorted(sizes))
        return f"the image has {size_bytes} bytes, where the log expects {stated}"
    states = _States(log, header.durability)
    for record in pending:
        states.add(record)
    return (
        _find_strange_page(image, states, last.os_pages_covered)
        or _find_stale_page(image, records[-1], states.final)
        or _find_stale_rest(image, records[-1], states.final)
    )


class _States:
    """What OS pages may hold that pending messages change."""

    def __init__(self, log: ReadFile, durability: Durability) -> None:
        self._log = log
        self._durability = durability
        self._before: dict[int, list[bytes]] = {}
        "Checksums of each OS page before, and of zeros after a wipe."
        self._after: dict[int, list[tuple[int, int]]] = {}
        "CRC-32s of what messages leave in each, and bytes of the log at which that is."
        self.final: dict[int, int] = {}
        "The CRC-32 of each, after the last message."
        self.is_wiped = False

    def add(self, record: Record) -> None:
        """Add what a message makes of what was there."""
        entry, size = record.entry, CHECKSUM_BYTES[self._durability]
        changed = [*entry.os_pages(), *entry.emptied]
        for index, os_page in enumerate(changed):
            if os_page not in self._before:
                self._before[os_page] = [entry.before[index * size : (index + 1) * size]]
        if entry.is_wiped:
            self.is_wiped = True
            zeros = self._checksum(_ZEROS)
            for os_page, states in self._before.items():
                states.append(zeros)
                self.final[os_page] = ZERO_CRC
        offset = record.data_offset
        for os_page, crc in zip(entry.os_pages(), entry.after, strict=True):
            self._after.setdefault(os_page, []).append((crc, offset))
            self.final[os_page] = crc
            offset += OS_PAGE_BYTES

    def may_hold(self, os_page: int, data: bytes) -> bool:
        """Return whether bytes may be there: as they were, as a message left them, or torn."""
        after = self._after.get(os_page, ())
        if os_page_crcs([data])[0] in {crc for crc, _ in after}:
            return True
        # Only what is torn needs the bytes of the log once more.
        left = (self._checksum(self._log.read(offset, OS_PAGE_BYTES)) for _, offset in after)
        return _is_mixture(self._checksum(data), [*self._before[os_page], *left])

    def _checksum(self, os_page: Bytes) -> bytes:
        """Return the checksum of an OS page as records have it of those before."""
        if self._durability == "process":
            return packed_crcs(os_page_crcs([os_page]))
        return sector_crcs(os_page)


def _os_page_of(image: ReadFile, os_page: int) -> bytes:
    data = image.read(os_page * OS_PAGE_BYTES, OS_PAGE_BYTES)
    return data.ljust(OS_PAGE_BYTES, b"\0")


def _find_strange_page(image: ReadFile, states: _States, os_pages_covered: int) -> str | None:
    """Look at each OS page that is pending: is it as it was, or as a message left it?"""
    for os_page in sorted(states.final):
        if states.is_wiped and os_page >= os_pages_covered:
            # What a wipe has emptied there, nobody has written down.
            continue
        if not states.may_hold(os_page, _os_page_of(image, os_page)):
            return f"OS page {os_page} is neither as it was before nor as the log left it"
    return None


def _find_stale_page(image: ReadFile, record: Record, pending: dict[int, int]) -> str | None:
    """Look at what the last two messages left, where nothing of it is pending."""
    entry = record.entry
    known = dict(entry.witnesses)
    known.update(zip(entry.os_pages(), entry.after, strict=True))
    for os_page in sorted(known.keys() - pending.keys()):
        if os_page_crcs([_os_page_of(image, os_page)]) != [known[os_page]]:
            return f"OS page {os_page} is not as the last message left it"
    return None


def _find_stale_rest(image: ReadFile, record: Record, pending: dict[int, int]) -> str | None:
    """Hold the fingerprint of what comes out against what the last message says."""
    entry = record.entry
    found = take_fingerprint(image, entry.os_pages_covered)
    now = os_page_crcs([_os_page_of(image, os_page) for os_page in pending])
    comes_out = found.changed([*pending], now, [*pending.values()])
    if comes_out.value == entry.fingerprint:
        return None
    return "its other OS pages are not those that the log continues"


def _is_mixture(checksum: bytes, possible: Sequence[bytes]) -> bool:
    """Whether each CRC-32 of a checksum is that of one of the states."""
    for start in range(0, len(checksum), 4):
        part = slice(start, start + 4)
        if not any(checksum[part] == other[part] for other in possible):
            return False
    return True
