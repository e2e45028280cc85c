"""From what was recorded during a message to what a trace says of it.

Runs after the message, never in its hot path. Each statement gets a footprint for each of its
phases, and the owners of the SQLite pages it touched. Owners are a state, accesses are history:
a SQLite page that the message dirtied belongs to whom it belongs at the message's end, any other
one to whom it belonged last.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from sqlstable.ic.units import OS_PAGE_BYTES, WASM_PAGE_BYTES
from sqlstable.trace.footprint import EMPTY, Footprint, measure, os_pages_of, unite
from sqlstable.trace.model import (
    GROW,
    PHASES,
    READ,
    WRITE,
    Accesses,
    Instructions,
    LimitUse,
    Message,
    OutsideUse,
    OwnerUse,
    SqliteCounters,
    StableUse,
    Statement,
)
from sqlstable.trace.owners import Owner
from sqlstable.trace.raw import (
    AccessColumns,
    OutsideSpan,
    RawMessage,
    RawStatement,
    Span,
    TakenAccesses,
    statement_of,
)
from sqlstable.trace.shape import shape_of

_Numbers = npt.NDArray[np.int64]

MESSAGE: Final = "message"
"""Name of accesses between statements that nothing else names."""

_EMPTY_USE: Final = EMPTY.use

_SPANS_READ_SINGLY: Final = 4
"""With more spans than that, what lies between them is read too, and left out."""

_OWNER_SHIFT: Final = 40
"""OS page indexes below 2^40 reach 4 PiB; above them stands the owner."""


class OwnerLookup(Protocol):
    """Who owns SQLite pages; `sqlstable.trace.owners.OwnerMap` is one."""

    owners: list[Owner]

    def owner_indexes(self, numbers: _Numbers) -> npt.NDArray[np.int32]:
        """Owners now."""
        ...

    def last_owner_indexes(self, numbers: _Numbers) -> npt.NDArray[np.int32]:
        """Owners before SQLite pages were freed."""
        ...


class FileLookup(Protocol):
    """Who owns stable memory outside of the main database file.

    `sqlstable.trace.file_owners.FileOwners` is one.
    """

    owners: list[Owner]

    def owner_indexes(self, addresses: _Numbers) -> npt.NDArray[np.int64]:
        """Positions in ``owners``, which may grow with the call; -1 where it is unknown."""
        ...


@dataclass(frozen=True, slots=True)
class MessageFacts:
    """What is known of a message besides its accesses."""

    index: int
    kind: str
    outcome: str
    image_bytes: int
    label: str | None = None
    trap: str | None = None
    discarded_writes: bool = False
    cache: str | None = None
    limits: tuple[LimitUse, ...] = ()
    trap_limit: str | None = None
    instructions_max: int | None = None
    "Instructions that it may execute; None where there is no limit."


@dataclass(frozen=True, slots=True)
class Attributed:
    """A message with its statements, and where each one's accesses are."""

    message: Message
    statements: tuple[Statement, ...]
    footprint: Footprint
    statement_accesses: dict[int, Callable[[], Iterator[Accesses]]] = field(default_factory=dict)
    outside_accesses: tuple[Callable[[], Iterator[Accesses]], ...] = ()


def attribute(
    raw: RawMessage,
    facts: MessageFacts,
    *,
    first_statement: int,
    page_size: int,
    owners: OwnerLookup | None = None,
    files: FileLookup | None = None,
) -> Attributed:
    """Attribute everything that was recorded during one message.

    Args:
        raw: What the recorder handed over.
        facts: The rest of what is known of the message.
        first_statement: Index of the message's first statement in the whole trace.
        page_size: Bytes of a SQLite page.
        owners: Owners at the message's end; None leaves owners empty.
        files: Owners of what lies outside of the main database file; None leaves them unknown.

    Returns:
        Records whose calls and bytes add up to what the memory saw.
    """
    dirty = dirty_sqlite_pages(raw, page_size) if owners is not None else None
    items = [statement_of(entry) for entry in raw.statements]
    statements, footprints = [], []
    for index, item in enumerate(items, start=first_statement):
        phases = _phase_footprints(raw, item.spans)
        whole = unite(phases)
        footprints.append(whole)
        uses: tuple[OwnerUse, ...] = ()
        if owners is not None and whole is not EMPTY:
            assert dirty is not None
            places = _Places(owners, files, np.array(sorted(dirty)), page_size)
            uses = _owner_uses(_chunks(raw, item.spans), places)
        statements.append(_statement(index, facts.index, item, phases, whole, uses))
    outside = _outside(raw, items)
    outside_footprints = [measure(raw.accesses.chunks(span.start, span.stop)) for span in outside]
    footprint = unite([*footprints, *outside_footprints])
    instructions, heap = (None, None) if raw.costs is None else raw.costs()
    message = Message(
        index=facts.index,
        kind=facts.kind,
        label=facts.label,
        outcome=facts.outcome,
        trap=facts.trap,
        discarded_writes=facts.discarded_writes,
        cache=facts.cache,
        statements=tuple(statement.index for statement in statements),
        stable=footprint.use,
        outside=tuple(
            OutsideUse(span.name, part.use)
            for span, part in zip(outside, outside_footprints, strict=True)
        ),
        limits=(*facts.limits, *_instruction_limit(facts, instructions)),
        image_bytes=facts.image_bytes,
        instructions=instructions,
        heap=heap,
        trap_limit=facts.trap_limit,
    )
    return Attributed(
        message,
        tuple(statements),
        footprint,
        {
            index: _source(raw, item.spans)
            for index, item in enumerate(items, start=first_statement)
        },
        tuple(_source(raw, ((span.start, span.stop, 0),)) for span in outside),
    )


def _instruction_limit(
    facts: MessageFacts, instructions: Instructions | None
) -> Iterator[LimitUse]:
    """Yield the limit on instructions, where there is one and they were counted."""
    if facts.instructions_max is not None and instructions is not None:
        yield LimitUse("instructions", instructions.total, facts.instructions_max)


def footprint_of(raw: RawMessage) -> Footprint:
    """Return what a whole message touched."""
    return measure(raw.accesses.chunks(0, len(raw.accesses)))


def grown_wasm_pages(raw: RawMessage) -> int:
    """Return by how many Wasm pages stable memory was asked to grow during a message."""
    chunks = raw.accesses.chunks(0, len(raw.accesses))
    return sum(int(chunk.length[chunk.kind == GROW].sum()) for chunk in chunks)


def dirty_sqlite_pages(raw: RawMessage, page_size: int) -> set[int]:
    """Return the numbers of the SQLite pages that the message wrote."""
    return _sqlite_pages(raw.accesses, page_size, kinds=(WRITE,))


def accessed_sqlite_pages(accesses: TakenAccesses, page_size: int) -> set[int]:
    """Return the numbers of the SQLite pages that were read or written."""
    return _sqlite_pages(accesses, page_size, kinds=(READ, WRITE))


def _sqlite_pages(accesses: TakenAccesses, page_size: int, *, kinds: tuple[int, ...]) -> set[int]:
    few = accesses.few()
    if few is None:
        return _many_sqlite_pages(accesses, page_size, kinds=kinds)
    found = set()
    for kind, _, length, offset in few:
        if kind in kinds and offset >= 0 and length > 0:
            first, last = offset // page_size, (offset + length - 1) // page_size
            found.add(first + 1)
            if last > first:
                found.update(range(first + 2, last + 2))
    return found


def _many_sqlite_pages(
    accesses: TakenAccesses, page_size: int, *, kinds: tuple[int, ...]
) -> set[int]:
    parts = []
    for chunk in accesses.chunks(0, len(accesses)):
        wanted = np.isin(chunk.kind, kinds) & (chunk.offset >= 0) & (chunk.length > 0)
        if not wanted.any():
            continue
        offset = chunk.offset[wanted]
        first = offset // page_size
        last = (offset + chunk.length[wanted] - 1) // page_size
        parts.append(np.unique(first) + 1)
        for low, high in zip(first[last > first], last[last > first], strict=True):
            parts.append(np.arange(low + 1, high + 1) + 1)
    return set(np.unique(np.concatenate(parts)).tolist()) if parts else set()


def _statement(
    index: int,
    message: int,
    item: RawStatement,
    phases: list[Footprint],
    whole: Footprint,
    owners: tuple[OwnerUse, ...],
) -> Statement:
    uses = [_EMPTY_USE if phase is EMPTY else phase.use for phase in phases]
    return Statement(
        index=index,
        message=message,
        sql=item.text.sql,
        shape=shape_of(item.text.sql),
        kind=item.text.kind,
        row_count=item.row_count,
        runs=item.runs,
        plan=item.text.plan,
        stable=_same_or_use(whole, phases, uses),
        phases=dict(zip(PHASES, uses, strict=True)),
        sqlite=SqliteCounters(item.hits, item.vm_steps, item.fullscan_steps, item.sorts),
        owners=owners,
        instructions=item.instructions,
        phase_instructions=item.phase_instructions,
        loops=item.loops,
    )


def _same_or_use(whole: Footprint, phases: list[Footprint], uses: list[StableUse]) -> StableUse:
    for phase, use in zip(phases, uses, strict=True):
        if phase is whole:
            return use
    return whole.use


def _phase_footprints(raw: RawMessage, spans: Sequence[Span]) -> list[Footprint]:
    phases: list[list[Span]] = [[] for _ in PHASES]
    for span in spans:
        phases[span[2]].append(span)
    return [measure(_chunks(raw, part)) if part else EMPTY for part in phases]


def _chunks(raw: RawMessage, spans: Sequence[Span]) -> Iterator[AccessColumns]:
    """Yield the accesses of spans in order, in few pieces however many spans there are."""
    if len(spans) <= _SPANS_READ_SINGLY:
        for start, stop, _ in spans:
            if stop > start:
                yield from raw.accesses.chunks(start, stop)
        return
    low = min(start for start, _, _ in spans)
    high = max(stop for _, stop, _ in spans)
    wanted = np.zeros(high - low, dtype=bool)
    for start, stop, _ in spans:
        wanted[start - low : stop - low] = True
    base = 0
    for chunk in raw.accesses.chunks(low, high):
        part = wanted[base : base + len(chunk.kind)]
        base += len(chunk.kind)
        yield Accesses(
            chunk.kind[part], chunk.address[part], chunk.length[part], chunk.offset[part]
        )


def _source(raw: RawMessage, spans: Sequence[Span]) -> Callable[[], Iterator[Accesses]]:
    def accesses() -> Iterator[Accesses]:
        for chunk in _chunks(raw, spans):
            yield Accesses(chunk.kind, chunk.address, chunk.length, chunk.offset)

    return accesses


def _outside(raw: RawMessage, items: Sequence[RawStatement]) -> list[OutsideSpan]:
    """Name every access that no statement's span covers."""
    covered = sorted(
        [(start, stop) for item in items for start, stop, _ in item.spans if stop > start]
        + [(span.start, span.stop) for span in raw.outside]
    )
    result = list(raw.outside)
    edges = [(0, 0), *covered, (len(raw.accesses), len(raw.accesses))]
    for (_, stop), (start, _) in pairwise(edges):
        assert start >= stop, "no access is billed twice"
        if start > stop:
            result.append(OutsideSpan(stop, start, MESSAGE))
    return sorted(result)


_MANAGER: Final = Owner("(memory manager)", "(memory manager)", "memory manager", "")
_OTHER: Final = Owner("(other memory)", "(other memory)", "unknown", "")


@dataclass(frozen=True, slots=True)
class _Places:
    """Whose OS pages are, as one range of numbers.

    The owners of SQLite pages come first, then the memory manager and whatever is unknown, then
    the other files.
    """

    owners: OwnerLookup
    files: FileLookup | None
    dirty: _Numbers
    "SQLite pages that the message wrote, ascending."
    page_size: int

    def owner_at(self, number: int) -> Owner:
        """Return the owner with a number."""
        beyond = number - len(self.owners.owners)
        if beyond < 0:
            return self.owners.owners[number]
        if beyond < 2:
            return (_MANAGER, _OTHER)[beyond]
        assert self.files is not None
        return self.files.owners[beyond - 2]

    def numbers_of(
        self, chunk: AccessColumns, os_pages: _Numbers, origin: npt.NDArray[np.intp]
    ) -> _Numbers:
        """Return the number of the owner of each OS page of each access."""
        offset, address = chunk.offset[origin], chunk.address[origin]
        # The first byte of the access inside each OS page, as an offset in the file.
        inside = offset + np.maximum(os_pages * OS_PAGE_BYTES - address, 0)
        numbers = np.where(offset >= 0, inside // self.page_size + 1, 1)
        at_end = self.owners.owner_indexes(numbers).astype(np.int64)
        before = self.owners.last_owner_indexes(numbers).astype(np.int64)
        found = np.where(np.isin(numbers, self.dirty), at_end, before)
        outside = offset < 0
        if outside.any():
            found[outside] = self._outside_numbers(os_pages[outside] * OS_PAGE_BYTES)
        return found

    def _outside_numbers(self, addresses: _Numbers) -> _Numbers:
        manager = len(self.owners.owners)
        found = np.where(addresses < WASM_PAGE_BYTES, manager, manager + 1)
        beyond = np.flatnonzero(addresses >= WASM_PAGE_BYTES)
        if self.files is not None and len(beyond):
            # A file that is unknown, at -1, stays the unknown one just below the first.
            found[beyond] = manager + 2 + self.files.owner_indexes(addresses[beyond])
        return found


def _owner_uses(chunks: Iterator[AccessColumns], places: _Places) -> tuple[OwnerUse, ...]:
    accessed_keys, dirty_keys = [], []
    for chunk in chunks:
        moved = np.where(chunk.kind <= WRITE, chunk.length, 0)
        os_pages, origin = os_pages_of(chunk.address, moved)
        keys = (places.numbers_of(chunk, os_pages, origin) << _OWNER_SHIFT) | os_pages
        accessed_keys.append(np.unique(keys))
        dirty_keys.append(np.unique(keys[chunk.kind[origin] == WRITE]))
    accessed, written = _count_by_owner(accessed_keys), _count_by_owner(dirty_keys)
    uses = []
    for number, count in accessed.items():
        owner = places.owner_at(number)
        uses.append(
            OwnerUse(
                owner.name,
                owner.table,
                owner.kind,
                owner.role,
                count,
                written.get(number, 0),
            )
        )
    return tuple(sorted(uses, key=lambda use: (-use.os_pages_accessed, use.name, use.role)))


def _count_by_owner(keys: list[_Numbers]) -> dict[int, int]:
    """Return how many different OS pages each owner has, by the owner's number."""
    if not keys:
        return {}
    distinct = np.unique(np.concatenate(keys)) if len(keys) > 1 else keys[0]
    counts = np.bincount(distinct >> _OWNER_SHIFT)
    return {number: int(counts[number]) for number in np.flatnonzero(counts).tolist()}
