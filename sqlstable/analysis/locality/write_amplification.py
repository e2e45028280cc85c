"""Write amplification: how much is written for what changes."""

from dataclasses import dataclass
from typing import Final, get_args

from sqlstable.analysis.trace_source import TraceSource
from sqlstable.ic.units import OS_PAGE_BYTES
from sqlstable.ic.words import CallKind

_CALLED: Final = get_args(CallKind)


@dataclass(frozen=True, slots=True)
class WriteAmplification:
    """Bytes changed against bytes written against the OS pages that these make dirty.

    SQLite writes whole SQLite pages, and the Internet Computer keeps whole OS pages, so each step
    is at least 1: bytes written by bytes changed, OS pages dirty in bytes by bytes written (below 1
    where a message writes an OS page repeatedly).

    Source: write amplification as in X.-Y. Hu et al., "Write amplification analysis in flash-based
    solid state drives", SYSTOR 2009: bytes written to the medium by bytes that the user changed.
    """

    bytes_changed: int | None
    "Bytes that messages left different; None where the trace does not say it of each."
    bytes_written: int
    "Moved by writes."
    os_pages_dirty: int
    "Each once for a message; those of all messages add up."

    @property
    def dirty_bytes(self) -> int:
        """The dirty OS pages in bytes."""
        return self.os_pages_dirty * OS_PAGE_BYTES

    @property
    def written_by_changed(self) -> float | None:
        """Bytes written for each byte that changed; None where none did, or nobody knows."""
        return self.bytes_written / self.bytes_changed if self.bytes_changed else None

    @property
    def dirty_by_changed(self) -> float | None:
        """Bytes of dirty OS pages for each byte that changed; None as above."""
        return self.dirty_bytes / self.bytes_changed if self.bytes_changed else None

    @property
    def dirty_by_written(self) -> float | None:
        """Bytes of dirty OS pages for each byte written; None where none was."""
        return self.dirty_bytes / self.bytes_written if self.bytes_written else None


def write_amplification(trace: TraceSource) -> WriteAmplification:
    """Add up what updates and queries wrote; those of discarded ones count, as they are paid.

    Bytes changed are known where each of them says so. Nobody compares what a life-cycle step
    changed, so its writes are left out of all three.
    """
    changed: int | None = 0
    written = dirty = 0
    for message in trace.messages:
        if message.kind not in _CALLED:
            continue
        written += message.stable.bytes_written
        dirty += message.stable.os_pages_dirty
        if changed is not None and message.bytes_changed is not None:
            changed += message.bytes_changed
        else:
            changed = None
    return WriteAmplification(changed, written, dirty)
