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
from operator import attrgetter, itemgetter
from typing import Final, NamedTuple

import numpy as np

from sqlstable.ic.accesses import Accesses, TakenAccesses
from sqlstable.ic.charged import Charged
from sqlstable.ic.limits import Limits, part_kind
from sqlstable.ic.prices import PriceRegime
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
    LimitUse,
    Message,
    ModuleCall,
    OutsideUse,
    OwnerUse,
    Part,
    Sample,
    SqliteCounters,
    StableUse,
    Statement,
)
from sqlstable.trace.payload_uses import payload_uses
from sqlstable.trace.recording.few import FewMeter
from sqlstable.trace.recording.first_touches import charged_alone, charged_in_order
from sqlstable.trace.recording.many import ManyMeter
from sqlstable.trace.recording.owner_numbers import AnyPlaces
from sqlstable.trace.recording.raw import (
    NO_COSTS,
    Costs,
    OutsideSpan,
    RawMessage,
    RawStatement,
    statement_of,
)
from sqlstable.trace.shape import shape_of

_entry_and_phase: Final = itemgetter(1, 2)
_charged_of: Final[Callable[[RawStatement], Charged | None]] = attrgetter("charged")

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
    prices: PriceRegime | None = None
    "What it is charged by, or its stable memory where nobody counts instructions."
    os_pages_accessed: int = 0
    os_pages_dirty: int = 0
    continues: int | None = None
    "Index of the message that it goes on from, behind an await."
    parts: tuple[Part, ...] = ()
    call: Callable[[], ModuleCall] | None = None
    "Says what was called, and what it answered, of a canister's own module."
    sample: Sample | None = None
    "What it stands for where it may have run on both engines."
    is_called_by_canister: bool = False
    has_wide_heap: bool = False
    "Whether its heap has addresses of 64 bits, so that instructions are dearer."


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
    places: AnyPlaces | None = None,
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
    # As `_meter`, which would be a call for each message.
    few = raw.accesses.few()
    meter = ManyMeter(raw.accesses) if few is None else FewMeter(few)
    items = [*map(statement_of, raw.statements)]
    outside = _outside(raw, items)
    costs = NO_COSTS if raw.costs is None else _told(raw.costs(), facts)
    is_alone = len(items) == 1 and not outside and not raw.part_starts
    charges, charged = [*map(_charged_of, items)], costs.charged
    if raw.costs is None and not is_alone:
        charges, charged = charged_in_order(raw, items, outside)  # type: ignore[assignment]
    statements = []
    accesses: dict[int, Callable[[], Iterable[Accesses]]] = {}
    for place, item in enumerate(items):
        if places is not None:
            uses = meter.owners(item.spans, places)
        else:
            uses = owners[place] if owners else ()
        whole, of_phases = meter.phases(item.spans)
        if raw.costs is None and is_alone:
            calls = whole.calls
            charged = charges[0] = charged_alone(
                calls.read + calls.write,
                whole.bytes_read + whole.bytes_written,
                calls.grow,
                whole.os_pages_dirty,
                whole.wasm_pages_accessed,
                whole.wasm_pages_dirty,
            )
        index = first_statement + place
        statements.append(
            _statement(index, facts.message, item, whole, of_phases, uses, charges[place])
        )
        accesses[index] = partial(meter.accesses, item.spans)
    outside_uses, outside_accesses = [], []
    for span in outside:
        outside_uses.append(OutsideUse(span.name, meter.outside(span.start, span.stop)))
        outside_accesses.append(partial(meter.accesses, ((span.start, span.stop, RUN),)))
    footprint, stable = meter.whole()
    statement_range = range(first_statement, first_statement + len(items))
    message = _message(facts, costs, charged, statement_range, stable, outside_uses, bytes_changed)
    return Attributed(
        message,
        tuple(statements),
        footprint,
        accesses,
        tuple(outside_accesses),
        _order(items, outside),
    )


def _message(
    facts: MessageFacts,
    costs: Costs,
    charged: Charged | None,
    statements: range,
    stable: StableUse,
    outside: Sequence[OutsideUse],
    bytes_changed: int | None,
) -> Message:
    instructions = costs.instructions
    return Message(
        index=facts.message,
        kind=facts.kind,
        label=facts.label,
        outcome=facts.outcome,
        trap=facts.trap,
        discarded_writes=facts.discarded_writes,
        cache=facts.cache,
        statements=tuple(statements),
        stable=stable,
        outside=tuple(outside),
        limits=_limits_used(facts, costs),
        image_bytes=facts.image_bytes,
        instructions=instructions,
        heap=costs.heap,
        trap_limit=facts.trap_limit,
        bytes_changed=bytes_changed,
        continues=facts.continues,
        parts=facts.parts,
        call=None if facts.call is None else facts.call(),
        charged=charged,
        payloads=costs.payloads,
        sample=facts.sample,
    )


def owner_uses(raw: RawMessage, places: AnyPlaces) -> list[tuple[OwnerUse, ...]]:
    """Return the owners of what each statement of a message touched.

    Owners change with the next message, so that this is found before it; everything else that is
    said of a message can wait.
    """
    meter = _meter(raw)
    return [meter.owners(statement_of(entry).spans, places) for entry in raw.statements]


def _told(costs: Costs, facts: MessageFacts) -> Costs:
    instructions = costs.instructions
    if facts.kind == "load_snapshot" and instructions is not None and not instructions.total:
        # No code ran. What the Internet Computer charges for it is no count of ours.
        return costs._replace(instructions=None, heap=None, charged=None)
    return costs


def _meter(raw: RawMessage) -> FewMeter | ManyMeter:
    few = raw.accesses.few()
    return ManyMeter(raw.accesses) if few is None else FewMeter(few)


def _limits_used(facts: MessageFacts, costs: Costs) -> tuple[LimitUse, ...]:
    """Return how much of each limit a message has used, where there are any."""
    limits = facts.limits
    if limits is None:
        return ()
    stable_bytes_max = limits.stable_memory_wasm_pages_max * WASM_PAGE_BYTES
    message = limits.of(facts.kind)
    uses: tuple[LimitUse, ...] = (
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
    if costs.instructions is not None:
        used = costs.instructions.total
        uses = (*uses, LimitUse(INSTRUCTIONS, used, message.instructions_max))
    if costs.payloads is None:
        return uses
    is_from_outside = not facts.is_called_by_canister
    # Where both engines ran it, the measured one may have trapped alone.
    trap = facts.trap
    if trap is None and facts.sample is not None and facts.sample.has_trapped:
        trap = facts.sample.difference
    return uses + payload_uses(
        facts.kind, costs.payloads, limits, trap=trap, is_from_outside=is_from_outside
    )


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
    whole: StableUse,
    uses: Sequence[StableUse],
    owners: tuple[OwnerUse, ...],
    charged: Charged | None,
) -> Statement:
    return Statement(
        index=index,
        message=message,
        sql=item.text.sql,
        shape=item.text.shape or shape_of(item.text.sql),
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
        charged=charged,
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
