"""What the wasm engine notes of a message while it runs, as bytes and tuples, to be read later.

Nothing here is computed in the hot path: the shim's lists are copied when the message ends, and
whoever wants numbers asks `MessageNotes`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from sqlstable.engine.measured.codec import StatementResult
from sqlstable.engine.measured.schema_copy import Plan
from sqlstable.ic import words
from sqlstable.ic.accesses import Access, Accesses, TakenAccesses
from sqlstable.ic.prices import PriceRegime
from sqlstable.ic.units import INT64_MAX, OS_PAGE_BYTES, WASM_PAGE_BYTES
from sqlstable.ic.words import GROW, WRITE
from sqlstable.layout.filemap import FileMap
from sqlstable.wasm import shim

_Numbers = npt.NDArray[np.int64]


class Mark(IntEnum):
    """What a border begins, as ``module/source/ic0.h`` has it: phases, counted from 1 there."""

    GLUE = 0
    PREPARE = 1 + words.PREPARE
    RUN = 1 + words.RUN
    COMMIT = 1 + words.COMMIT
    ENCODE = 1 + words.REPLY


_RECORD_NUMBERS: Final = len(shim.LOG.columns)


class NotedLog:
    """The accesses of one message in order, as the shim has noted them."""

    def __init__(self, data: bytes, file_map: FileMap) -> None:
        self._rows = np.frombuffer(data, dtype=np.int64).reshape(-1, _RECORD_NUMBERS)
        self._map = file_map
        self._decoded: Accesses | None = None
        self._taken: TakenAccesses | None = None

    def taken(self) -> TakenAccesses:
        """Return the accesses as observers know them; decoded once, whoever asks."""
        if self._taken is None:
            self._taken = TakenAccesses(len(self._rows), self._chunks, self._few)
        return self._taken

    def _few(self) -> list[Access]:
        # A handful of accesses, for which numpy takes many times as long.
        found = []
        for kind, address, length in self._rows.tolist():
            kind %= shim.OF_DRIVER  # noqa: PLW2901  whoever it was, it was an access
            # What was asked for in vain may pass 2^63, and is negative here.
            address = INT64_MAX if address < 0 else address  # noqa: PLW2901
            length = INT64_MAX if length < 0 else length  # noqa: PLW2901
            offset = self._map.offset(address) if kind <= WRITE else -1
            found.append((kind, address, length, offset))
        return found

    def _chunks(self, start: int, stop: int) -> Iterator[Accesses]:
        if len(self._rows) > _CHUNK_ROWS:
            for low in range(start, stop, _CHUNK_ROWS):
                yield self._columns(self._rows[low : min(low + _CHUNK_ROWS, stop)])
        elif stop > start:
            yield self._all().slice(start, stop)

    def _all(self) -> Accesses:
        # A short log is read several times, span by span: it is decoded once.
        if self._decoded is None:
            self._decoded = self._columns(self._rows)
        return self._decoded

    @property
    def has_drivers(self) -> bool:
        """Whether some accesses were not the canister's, but the driver's, as in an import."""
        return bool((self._rows[:, 0] >= shim.OF_DRIVER).any())

    def touched(self) -> "StableTouched":
        """Return what the canister itself has touched, whoever was there before it."""
        rows = self._rows
        moved = rows[(rows[:, 0] <= WRITE) & (rows[:, 2] > 0)]
        written = moved[moved[:, 0] == WRITE]
        return StableTouched(
            _distinct(written, OS_PAGE_BYTES),
            _distinct(moved, WASM_PAGE_BYTES),
            _distinct(written, WASM_PAGE_BYTES),
        )

    def calls(self, start: int, stop: int) -> "StableCalls":
        """Return the canister's calls of a part."""
        rows = self._rows[start:stop]
        if not len(rows):
            return NO_CALLS
        kinds = rows[:, 0]
        moved = kinds <= WRITE
        return StableCalls(
            int(np.count_nonzero(moved)),
            int(rows[moved, 2].sum()),
            int(np.count_nonzero(kinds == GROW)),
        )

    def _columns(self, rows: _Numbers) -> Accesses:
        kind = (rows[:, 0] % shim.OF_DRIVER).astype(np.int8)
        # What was asked for in vain may pass 2^63, and is negative here.
        address = np.where(rows[:, 1] < 0, INT64_MAX, rows[:, 1])
        length = np.where(rows[:, 2] < 0, INT64_MAX, rows[:, 2])
        offset = np.where(kind <= WRITE, self._map.offsets(address), -1)
        return Accesses(kind, address, length, offset)


def _distinct(accesses: _Numbers, unit_bytes: int) -> int:
    """Return how many units of so many bytes accesses of a byte or more touch."""
    first = accesses[:, 1] // unit_bytes
    last = (accesses[:, 1] + accesses[:, 2] - 1) // unit_bytes
    units = [np.arange(start, stop + 1) for start, stop in zip(first, last, strict=True)]
    return len(np.unique(np.concatenate(units))) if units else 0


_CHUNK_ROWS: Final = 1 << 16


class StableCalls(NamedTuple):
    """Calls on stable memory that are charged."""

    accesses: int
    bytes_moved: int
    grows: int

    def cost(self, regime: PriceRegime) -> int:
        """Return what they cost, without OS pages and regions."""
        return regime.stable_call_cost(
            accesses=self.accesses, bytes_moved=self.bytes_moved, grows=self.grows
        )


NO_CALLS: Final = StableCalls(0, 0, 0)


class StableTouched(NamedTuple):
    """First touches of stable memory."""

    os_pages_dirty: int
    wasm_pages_accessed: int
    wasm_pages_dirty: int

    def cost(self, regime: PriceRegime) -> int:
        """Return what a regime charges for them."""
        return regime.stable_page_cost(
            os_pages_dirty=self.os_pages_dirty,
            wasm_pages_accessed=self.wasm_pages_accessed,
            wasm_pages_dirty=self.wasm_pages_dirty,
        )


class Border(NamedTuple):
    """A row of `shim.BORDERS`: what a message had used and done there."""

    mark: int
    instructions: int
    log_count: int
    page_charges: int
    heap_regions: int
    heap_os_pages: int
    extra_2023: int
    extra_flat: int
    charged_os_pages_dirty: int
    charged_regions_accessed: int
    charged_regions_dirty: int

    @classmethod
    def now(cls, status: shim.ShimStatus, instruction_limit: int) -> "Border":
        """Return what one would say where the shim has told the rest."""
        return cls(
            Mark.GLUE,
            instruction_limit - status.counter,
            status.log_count,
            status.page_charges,
            status.heap_regions_accessed | status.heap_regions_written << 32,
            status.heap_os_pages_priced,
            status.extra_2023,
            status.extra_flat,
            status.charged_os_pages_dirty,
            status.charged_regions_accessed,
            status.charged_regions_dirty,
        )


assert Border._fields == shim.BORDERS.columns

NO_BORDER: Final = Border(*(0 for _ in Border._fields))
"""Where a message begins."""


@dataclass(slots=True)
class CallNote:
    """One call of the canister inside a message."""

    sql: str
    "The SQL of its request."
    results: Sequence[StatementResult]
    "What its statements answered, rows left out."
    row_counts: list[int]
    border_start: int
    border_stop: int
    end_row: Border
    "The end of the call as one more border."
    request_bytes: int
    reply_bytes: int
    plans: list[tuple[str, ...]]
    "Lines of EXPLAIN QUERY PLAN for each statement."
    trapped: Sequence[tuple[str, Plan]] = ()
    "The statements of a call that trapped, and so has no results: they are cut from its text."
    is_failed: bool = False
    whole: "WholeNote | None" = None
    "What it is a part of; None where each of its statements counts as one."


@dataclass(slots=True)
class WholeNote:
    """What counts as one statement, though the module was called several times or ran several."""

    sql: str
    calls: list[CallNote] = field(default_factory=list)
    row_count: int = 0
    "Rows that were handed out."
    runs: int = 1


class HeapTouched(NamedTuple):
    """What was done to the heap."""

    wasm_pages_accessed: int
    wasm_pages_written: int
    os_pages_written: int
    size_bytes: int
    os_pages_priced: int
    "OS pages written, as they are charged."

    @classmethod
    def of(cls, status: shim.ShimStatus) -> "HeapTouched":
        """Take it from what the shim told."""
        return cls(
            status.heap_regions_accessed,
            status.heap_regions_written,
            status.heap_os_pages_written,
            status.heap_size * WASM_PAGE_BYTES,
            status.heap_os_pages_priced,
        )

    def cost(self, regime: PriceRegime) -> int:
        """Return what a regime charges for it."""
        return regime.heap_cost(
            wasm_pages_accessed=self.wasm_pages_accessed,
            wasm_pages_written=self.wasm_pages_written,
            os_pages_written=self.os_pages_priced,
        )


@dataclass(slots=True)
class MessageNotes:
    """A message that has ended."""

    calls: list[CallNote]
    log: NotedLog
    borders: bytes
    status: shim.ShimStatus
    "What the shim told at its end."
    instruction_limit: int
    regime: PriceRegime
    watches_heap: bool
    counts_heap: bool
    has_extras: bool
    earlier_heaps: tuple[HeapTouched, ...] = ()
    "What the parts before the last one did to the heap, each with marks of its own."

    @property
    def heap(self) -> HeapTouched | None:
        """What the message did to the heap, or None where nobody counted; of all its parts."""
        if not self.counts_heap:
            return None
        last = HeapTouched.of(self.status)
        parts = (*self.earlier_heaps, last)
        return HeapTouched(
            sum(part.wasm_pages_accessed for part in parts),
            sum(part.wasm_pages_written for part in parts),
            sum(part.os_pages_written for part in parts),
            last.size_bytes,
            sum(part.os_pages_priced for part in parts),
        )

    @property
    def end(self) -> Border:
        """Where it ended, as one more border."""
        return Border.now(self.status, self.instruction_limit)

    def border_rows(self) -> _Numbers:
        """Return the borders as rows of `shim.BORDERS`."""
        columns = len(shim.BORDERS.columns)
        return np.frombuffer(self.borders, dtype=np.int64).reshape(-1, columns)
