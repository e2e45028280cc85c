"""How far a database has filled its last bucket, and how fast it does: when it needs the next one.

Stable memory grows by whole buckets, so that a trace in which no bucket was filled says nothing of
a month's growth, though the database grew.

**Limitations.** Which of the updates made the database grow is not in a trace: the pace is that of
all of them since its last bucket came.
"""

from dataclasses import dataclass
from fractions import Fraction

from sqlstable.analysis.growth import DATABASE_KIND, filling
from sqlstable.analysis.trace_source import TraceSource
from sqlstable.ic.words import UPDATE_KINDS
from sqlstable.trace.model import StableArea


@dataclass(frozen=True, slots=True)
class BucketRoom:
    """What the main database has left before stable memory grows.

    Examples:
        >>> BucketRoom("main.db", 8_388_608, True, 6_000_000, 200_000, 50).updates_left
        Fraction(1500, 1)
    """

    name: str
    "Of its file."
    unit_bytes: int
    "What stable memory grows by for it."
    is_bucket: bool
    "Whether that is a bucket of the memory manager; else a Wasm page."
    free_bytes: int
    "That it can still take: free SQLite pages, and what no SQLite page has."
    grown_bytes: int
    "By which it grew since stable memory last did; it may have become smaller."
    update_count: int
    "Updates since then, by whatever they did."

    @property
    def updates_left(self) -> Fraction | None:
        """Updates of the same pace after which it is full; None where it did not grow."""
        if self.grown_bytes <= 0 or not self.update_count:
            return None
        return Fraction(self.free_bytes * self.update_count, self.grown_bytes)


def bucket_room(trace: TraceSource) -> BucketRoom | None:
    """Return what the main database has left; None where the trace does not say, or it has none.

    Args:
        trace: Gone through once more.
    """
    # Areas are noted when stable memory has grown, and at the end.
    found = [it for it in trace.areas if it.kind == DATABASE_KIND and it.allocated_bytes]
    if not found or not len(trace.messages):
        return None
    last = max(found, key=lambda it: it.message)
    mine = [it for it in found if it.name == last.name]
    since = min(
        (it for it in mine if it.allocated_bytes == last.allocated_bytes),
        key=lambda it: it.message,
    )
    return BucketRoom(
        name=last.name,
        unit_bytes=last.unit_bytes,
        is_bucket=last.memory_id is not None,
        free_bytes=last.allocated_bytes - _data_bytes(last),
        grown_bytes=_data_bytes(last) - _data_bytes(since),
        update_count=sum(
            since.message < it.index <= last.message and it.kind in UPDATE_KINDS
            for it in trace.messages
        ),
    )


def _data_bytes(area: StableArea) -> int:
    return filling(area).data_bytes
