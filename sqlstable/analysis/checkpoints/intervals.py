"""What messages leave for each checkpoint: dirty OS pages, overlay, chunks to hash, heap delta.

Every 500 rounds a replica writes what has changed into files and hashes these in chunks of 1 MiB.
Until then it holds what is dirty: the heap delta, of which a subnet has 140 GiB today.

**Modelled.** Which messages fall into one interval nobody knows before a canister is deployed, so
it is said: all of them, or so many a round (`MESSAGES_PER_ROUND` in the settings of a trace).
Queries take no round. Files are those of overlays, one for each shard of 40 GiB that has a dirty OS
page, written once; what merging them costs later is left out. The heap is in the heap delta, as far
as it was watched, and in no file here, as a trace does not know which of its OS pages were dirty.

**Sources**: `sqlstable.ic.limits.LIMITS`, ``checkpoint_rounds``, ``state_chunk_bytes``,
``state_rehash_chunks``, ``overlay_*``, ``heap_delta_subnet_bytes``.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sqlstable.analysis.fitting.circumstances import limit_value, trace_limits, trace_regime
from sqlstable.analysis.fitting.message_pace import heap_delta
from sqlstable.analysis.trace_source import TraceSource
from sqlstable.ic.limits import LIMITS
from sqlstable.ic.units import OS_PAGE_BYTES
from sqlstable.ic.words import DISCARDED_KINDS, WRITE
from sqlstable.trace.model import Message, TraceSettings

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    _Pages = npt.NDArray[np.int64]

MESSAGES_PER_ROUND: Final = "messages_per_round"
"""Name of the setting; where there is none, all messages fall into one interval."""


def _of_today(name: str) -> int:
    return LIMITS[name].history[-1].value


ROUNDS: Final = _of_today("checkpoint_rounds")
CHUNK_BYTES: Final = _of_today("state_chunk_bytes")
REHASHED_OF: Final = _of_today("state_rehash_chunks")
SHARD_OS_PAGES: Final = _of_today("overlay_shard_os_pages")
RANGE_BYTES: Final = _of_today("overlay_range_bytes")
FILE_BYTES: Final = _of_today("overlay_os_page_count_bytes") + _of_today("overlay_version_bytes")
"""What an overlay file has beside its OS pages and ranges."""

CHUNK_OS_PAGES: Final = CHUNK_BYTES // OS_PAGE_BYTES

HEAP_DELTA_BYTES: Final = _of_today("heap_delta_subnet_bytes")
"""That a subnet may have between two checkpoints; also for days before it is known."""


@dataclass(frozen=True, slots=True)
class CheckpointInterval:
    """What the messages of one interval leave for the checkpoint at its end."""

    index: int
    first_message: int
    last_message: int
    round_count: int | None
    "Rounds in which it had messages; None where all messages fall into one interval."
    committed_count: int
    "Messages that left something, or could have."
    os_pages_dirty: int
    "Different OS pages of stable memory that were written."
    os_pages_dirty_sum: int
    "Those of each message, added up: one that ten messages wrote counts ten times."
    heap_delta_bytes: int
    "What the messages added to the heap delta of the subnet, the heap as far as it was watched."
    is_heap_counted: bool
    range_count: int
    "Runs of dirty OS pages, which the index of an overlay file holds."
    overlay_count: int
    "Overlay files."
    stable_bytes: int
    "Size of stable memory at the end."
    chunks_touched: int
    "Chunks of 1 MiB of stable memory in which an OS page is dirty."
    heap_delta_bytes_max: int
    "That a subnet may have between two checkpoints."

    @property
    def overlay_bytes(self) -> int:
        """Bytes of the overlay files: OS pages, ranges, counts and versions."""
        return (
            self.os_pages_dirty * OS_PAGE_BYTES
            + self.range_count * RANGE_BYTES
            + self.overlay_count * FILE_BYTES
        )

    @property
    def chunks_new(self) -> int:
        """Chunks of the overlay files, which are hashed because they are new."""
        return -(-self.overlay_bytes // CHUNK_BYTES)

    @property
    def chunks_rehashed(self) -> int:
        """Chunks that are hashed though nothing in them has changed: one of ten."""
        return -(-self.stable_bytes // CHUNK_BYTES) // REHASHED_OF

    @property
    def hashed_bytes_each(self) -> float | None:
        """Bytes hashed as new for each byte of a dirty OS page; None where none is dirty."""
        dirty = self.os_pages_dirty * OS_PAGE_BYTES
        return self.overlay_bytes / dirty if dirty else None

    @property
    def chunk_bytes_each(self) -> float | None:
        """The same if chunks of stable memory itself were hashed, as before overlays."""
        dirty = self.os_pages_dirty * OS_PAGE_BYTES
        return self.chunks_touched * CHUNK_BYTES / dirty if dirty else None

    @property
    def subnet_share(self) -> float:
        """Part of what a subnet may add to its heap delta between two checkpoints."""
        return self.heap_delta_bytes / self.heap_delta_bytes_max


def messages_per_round(settings: TraceSettings) -> int | None:
    """Return how many messages a round has; None for all in one interval."""
    found = settings.values.get(MESSAGES_PER_ROUND)
    return found if isinstance(found, int) and found > 0 else None


def checkpoint_intervals(trace: TraceSource) -> list[CheckpointInterval]:
    """Return the intervals of a trace in order; those without a message are left out."""
    spans = list(_spans(trace))
    if not spans:
        return []
    pages = _dirty_pages(trace, spans)
    return [_interval(trace, span, found) for span, found in zip(spans, pages, strict=True)]


@dataclass(slots=True)
class _Span:
    """The messages of one interval."""

    index: int
    first: int
    last: int
    rounds: set[int]


def _spans(trace: TraceSource) -> Iterator[_Span]:
    each = messages_per_round(trace.settings)
    span: _Span | None = None
    executed = 0
    for message in trace.messages:
        round_index = 0 if each is None else executed // each
        is_query = message.kind in DISCARDED_KINDS
        executed += not is_query
        index = round_index // ROUNDS
        if span is None or span.index != index:
            if span is not None:
                yield span
            span = _Span(index, message.index, message.index, set())
        span.last = message.index
        if not is_query:
            span.rounds.add(round_index)
    if span is not None:
        yield span


def is_kept(message: Message) -> bool:
    """Tell whether what a message wrote is there behind it."""
    return message.outcome == "committed" and message.kind not in DISCARDED_KINDS


def _dirty_pages(trace: TraceSource, spans: list[_Span]) -> "list[_Pages]":
    """Return the different OS pages that messages left dirty, ascending, for each span."""
    import numpy as np  # noqa: PLC0415  numbers need no arrays

    kept = np.array([is_kept(it) for it in trace.messages], dtype=np.bool_)
    lasts = np.array([it.last for it in spans])
    found: list[list[_Pages]] = [[] for _ in spans]
    for block in trace.access_blocks(owners=False):
        rows, os_pages = block.os_pages()
        written = (block.kind[rows] == WRITE) & kept[block.message[rows]]
        of_span = np.searchsorted(lasts, block.message[rows[written]])
        for place in np.unique(of_span).tolist():
            held = found[place]
            held.append(np.unique(os_pages[written][of_span == place]))
            if len(held) > _HELD_MAX:
                held[:] = [np.unique(np.concatenate(held))]
    none = np.empty(0, dtype=np.int64)
    return [np.unique(np.concatenate([none, *held])) for held in found]


_HELD_MAX: Final = 16


def _interval(trace: TraceSource, span: _Span, os_pages: "_Pages") -> CheckpointInterval:
    import numpy as np  # noqa: PLC0415  as above

    limits, regime = trace_limits(trace.settings), trace_regime(trace.settings)
    dirty_sum = delta_bytes = committed = 0
    is_heap_counted = True
    for index in range(span.first, span.last + 1):
        message = trace.messages[index]
        if is_kept(message):
            delta = heap_delta(message, limits, regime)
            dirty_sum += delta.stable_os_pages
            delta_bytes += delta.size_bytes
            is_heap_counted &= delta.heap_os_pages is not None
            committed += 1
    shards = os_pages // SHARD_OS_PAGES
    gaps = (np.diff(os_pages) != 1) | (np.diff(shards) != 0)
    return CheckpointInterval(
        index=span.index,
        first_message=span.first,
        last_message=span.last,
        round_count=None if messages_per_round(trace.settings) is None else len(span.rounds),
        committed_count=committed,
        os_pages_dirty=len(os_pages),
        os_pages_dirty_sum=dirty_sum,
        heap_delta_bytes=delta_bytes,
        is_heap_counted=is_heap_counted,
        range_count=int(np.count_nonzero(gaps)) + bool(len(os_pages)),
        overlay_count=len(np.unique(shards)),
        stable_bytes=trace.messages[span.last].image_bytes,
        chunks_touched=len(np.unique(os_pages // CHUNK_OS_PAGES)),
        heap_delta_bytes_max=limit_value("heap_delta_subnet_bytes", limits) or HEAP_DELTA_BYTES,
    )
