"""From what was recorded during a message to what a trace says of it.

Runs after the message, never in its hot path. Each statement gets a footprint for each of its
phases, and the owners of the SQLite pages it touched. Owners are a state, accesses are history:
a SQLite page that the message dirtied belongs to whom it belongs at the message's end, any other
one to whom it belonged last.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from itertools import groupby, pairwise
from operator import itemgetter
from typing import Final, NamedTuple

import numpy as np

from sqlstable.ic.accesses import Accesses, TakenAccesses
from sqlstable.ic.limits import Limits, part_kind
from sqlstable.ic.units import WASM_PAGE_BYTES
from sqlstable.ic.words import (
    GROW,
    INSTRUCTIONS,
    OS_PAGES_ACCESSED,
    OS_PAGES_DIRTY,
    PHASES,
    READ,
    RUN,
    STABLE_MEMORY_BYTES,
    WRITE,
)
from sqlstable.trace.access_stream import NO_PHASE
from sqlstable.trace.footprint import Footprint
from sqlstable.trace.model import (
    AccessSpan,
    HeapUse,
    Instructions,
    LimitUse,
    Message,
    OutsideUse,
    OwnerUse,
    Part,
    SqliteCounters,
    Statement,
)
from sqlstable.trace.recording.few import FewMeter
from sqlstable.trace.recording.many import ManyMeter
from sqlstable.trace.recording.owner_numbers import Places
from sqlstable.trace.recording.raw import (
    OutsideSpan,
    RawMessage,
    RawStatement,
    statement_of,
)
from sqlstable.trace.shape import shape_of

_entry_and_phase: Final = itemgetter(1, 2)

MESSAGE: Final = "message"
"""Name of accesses between statements that nothing else names."""


class MessageFacts(NamedTuple):
    """What is known of a message besides its accesses, once it has ended.

    Every message makes one, so it is a tuple: that is made in a fifth of a data class's time.
    """

    message: int
    "Its index in the whole trace."
    kind: str
    outcome: str
    image_bytes: int
    label: str | None = None
    trap: str | None = None
    trap_limit: str | None = None
    discarded_writes: bool = False
    cache: str | None = None
    first_statement: int = 0
    "Index of its first statement there."
    limits: Limits | None = None
    "Those that hold for it, whether they are enforced or not."
    os_pages_accessed: int = 0
    os_pages_dirty: int = 0
    continues: int | None = None
    "Index of the message that it goes on from, behind an await."
    parts: tuple[Part, ...] = ()


@dataclass(frozen=True, slots=True)
class Attributed:
    """A message with its statements, and where each one's accesses are."""

    message: Message
    statements: tuple[Statement, ...]
    footprint: Callable[[], Footprint]
    "Made when it is asked for."
    statement_accesses: dict[int, Callable[[], Iterable[Accesses]]] = field(default_factory=dict)
    outside_accesses: tuple[Callable[[], Iterable[Accesses]], ...] = ()
    order: Sequence[AccessSpan] = ()
    "How the accesses of statements and outside entries followed each other."


def attribute(
    raw: RawMessage,
    facts: MessageFacts,
    *,
    first_statement: int,
    owners: Sequence[tuple[OwnerUse, ...]] = (),
    places: Places | None = None,
    bytes_changed: int | None = None,
) -> Attributed:
    """Attribute everything that was recorded during one message.

    Args:
        raw: What the recorder handed over.
        facts: The rest of what is known of the message.
        first_statement: Index of the message's first statement in the whole trace.
        owners: What `owner_uses` has found for each statement; nothing leaves owners empty.
        places: Whose OS pages are, where nobody has looked before.
        bytes_changed: How many bytes of stable memory the message left different, where known.

    Returns:
        Records whose calls and bytes add up to what the memory saw.
    """
    meter = _meter(raw)
    items, statements = [], []
    accesses: dict[int, Callable[[], Iterable[Accesses]]] = {}
    for index, entry in enumerate(raw.statements, start=first_statement):
        item = statement_of(entry)
        items.append(item)
        if places is not None:
            uses = meter.owners(item.spans, places)
        else:
            uses = owners[index - first_statement] if owners else ()
        statements.append(_statement(index, facts.message, item, meter, uses))
        accesses[index] = partial(meter.accesses, item.spans)
    outside_uses, outside_accesses = [], []
    outside = _outside(raw, items)
    for span in outside:
        outside_uses.append(OutsideUse(span.name, meter.outside(span.start, span.stop)))
        outside_accesses.append(partial(meter.accesses, ((span.start, span.stop, RUN),)))
    footprint, stable = meter.whole()
    instructions, heap = (None, None) if raw.costs is None else _told(raw.costs(), facts)
    message = Message(
        index=facts.message,
        kind=facts.kind,
        label=facts.label,
        outcome=facts.outcome,
        trap=facts.trap,
        discarded_writes=facts.discarded_writes,
        cache=facts.cache,
        statements=tuple(range(first_statement, first_statement + len(items))),
        stable=stable,
        outside=tuple(outside_uses),
        limits=_limits_used(facts, instructions),
        image_bytes=facts.image_bytes,
        instructions=instructions,
        heap=heap,
        trap_limit=facts.trap_limit,
        bytes_changed=bytes_changed,
        continues=facts.continues,
        parts=facts.parts,
    )
    return Attributed(
        message,
        tuple(statements),
        footprint,
        accesses,
        tuple(outside_accesses),
        _order(items, outside),
    )


def owner_uses(raw: RawMessage, places: Places) -> list[tuple[OwnerUse, ...]]:
    """Return the owners of what each statement of a message touched.

    Owners change with the next message, so that this is found before it; everything else that is
    said of a message can wait.
    """
    meter = _meter(raw)
    return [meter.owners(statement_of(entry).spans, places) for entry in raw.statements]


def _told(
    costs: tuple[Instructions | None, HeapUse | None], facts: MessageFacts
) -> tuple[Instructions | None, HeapUse | None]:
    instructions = costs[0]
    if facts.kind == "load_snapshot" and instructions is not None and not instructions.total:
        # No code ran. What the Internet Computer charges for it is no count of ours.
        return None, None
    return costs


def _meter(raw: RawMessage) -> FewMeter | ManyMeter:
    few = raw.accesses.few()
    return ManyMeter(raw.accesses) if few is None else FewMeter(few)


def _limits_used(facts: MessageFacts, instructions: Instructions | None) -> tuple[LimitUse, ...]:
    """Return how much of each limit a message has used, where there are any."""
    limits = facts.limits
    if limits is None:
        return ()
    stable_bytes_max = limits.stable_memory_wasm_pages_max * WASM_PAGE_BYTES
    message = limits.of(facts.kind)
    stable = (
        *(
            _os_pages_used(facts, limits)
            if facts.parts
            else (
                _limit_use(
                    OS_PAGES_ACCESSED, facts.os_pages_accessed, message.os_pages_accessed_max
                ),
                _limit_use(OS_PAGES_DIRTY, facts.os_pages_dirty, message.os_pages_dirty_max),
            )
        ),
        _limit_use(STABLE_MEMORY_BYTES, facts.image_bytes, stable_bytes_max),
    )
    if instructions is None:
        return stable
    return (*stable, LimitUse(INSTRUCTIONS, instructions.total, message.instructions_max))


def _os_pages_used(facts: MessageFacts, limits: Limits) -> tuple[LimitUse, LimitUse]:
    """Return how much of the limits on OS pages a message has used; of parts, the one nearest."""
    accessed, dirty = zip(
        *(
            _os_pages_of(
                limits, part_kind(it.name, facts.kind), it.os_pages_accessed, it.os_pages_dirty
            )
            for it in facts.parts
        ),
        strict=True,
    )
    return max(accessed, key=_share), max(dirty, key=_share)


def _os_pages_of(
    limits: Limits, kind: str, os_pages_accessed: int, os_pages_dirty: int
) -> tuple[LimitUse, LimitUse]:
    message = limits.of(kind)
    return (
        _limit_use(OS_PAGES_ACCESSED, os_pages_accessed, message.os_pages_accessed_max),
        _limit_use(OS_PAGES_DIRTY, os_pages_dirty, message.os_pages_dirty_max),
    )


def _share(use: LimitUse) -> float:
    return use.used / max(use.limit, 1)


# Small messages use the same few numbers; finding the record is quicker than making it.
_limit_use: Final = lru_cache(maxsize=1024)(LimitUse)


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
    meter: FewMeter | ManyMeter,
    owners: tuple[OwnerUse, ...],
) -> Statement:
    whole, uses = meter.phases(item.spans)
    return Statement(
        index=index,
        message=message,
        sql=item.text.sql,
        shape=shape_of(item.text.sql),
        kind=item.text.kind,
        row_count=item.row_count,
        runs=item.runs,
        plan=item.text.plan,
        stable=whole,
        phases=dict(zip(PHASES, uses, strict=True)),
        sqlite=SqliteCounters(item.hits, item.vm_steps, item.fullscan_steps, item.sorts),
        owners=owners,
        instructions=item.instructions,
        phase_instructions=item.phase_instructions,
        loops=item.loops,
    )


def _order(items: Sequence[RawStatement], outside: Sequence[OutsideSpan]) -> list[AccessSpan]:
    """Return how the accesses of a message followed each other."""
    if len(items) == 1 and not outside:
        # As most messages.
        spans = items[0].spans
        if len(spans) == 1 and spans[0][1] > spans[0][0]:
            start, stop, phase = spans[0]
            return [AccessSpan(0, phase, stop - start)]
        return [AccessSpan(0, phase, stop - start) for start, stop, phase in spans if stop > start]
    entry = -1
    found: list[tuple[int, int, int, int]] = []
    for spans in (*(item.spans for item in items), *(((*it[:2], NO_PHASE),) for it in outside)):
        made = [(start, entry + 1, phase, stop) for start, stop, phase in spans if stop > start]
        if made:
            entry += 1
            found += made
    found.sort()
    return [
        AccessSpan(entry, phase, sum(stop - start for start, _, _, stop in group))
        for (entry, phase), group in groupby(found, key=_entry_and_phase)
    ]


def _outside(raw: RawMessage, items: Sequence[RawStatement]) -> list[OutsideSpan]:
    """Name every access that no statement's span covers."""
    if not raw.outside:
        unbilled = len(raw.accesses)
        for item in items:
            for start, stop, _ in item.spans:
                unbilled -= stop - start
        if not unbilled:
            return []
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
