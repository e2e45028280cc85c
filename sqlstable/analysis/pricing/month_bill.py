"""What a month of a canister costs, from a trace of some calls and how often each is made.

Each call costs in the month what it cost in the trace on average; what the canister holds at the
end of the trace is paid for all month. All of it is kept as exact fractions, and rounded where it
is shown, so that bills add up.

**Limitations.** That the calls of a month cost what those of the trace did is an assumption: a
table that grows makes some dearer. With ``growth`` the size of stable memory goes on growing by as
much a call; that is modelled, not measured, and stable memory grows by whole buckets, so that a
trace with few of them says little.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from fractions import Fraction
from typing import Final

from sqlstable.analysis.pricing.bucket_room import BucketRoom, bucket_room
from sqlstable.analysis.pricing.call_groups import (
    CUT,
    CallGroup,
    CallGroups,
    names_of,
    one_line,
    short_name,
)
from sqlstable.analysis.pricing.frequency import MONTH_S, Frequency, Wish
from sqlstable.analysis.trace_source import TraceSource
from sqlstable.errors import SettingsError
from sqlstable.ic.cycle_fees import REFERENCE_NODE_COUNT, CycleFees
from sqlstable.ic.idle_burn import (
    AS_CREATED,
    MONTH_DAYS,
    NOTHING_HELD,
    Allocations,
    IdleBurn,
    MemorySizes,
    freezing_limit,
    idle_burn,
    subnet_memory,
)
from sqlstable.ic.message_fees import AS_UPDATE, FREE_KINDS
from sqlstable.ic.units import GIB
from sqlstable.ic.words import UPDATE_KINDS
from sqlstable.spelling import spelled
from sqlstable.trace.format.estimating import SampleBlock

REQUEST_BYTES: Final = 100
"""Bytes of a request that are assumed where a trace does not say."""

PARTS: Final = ("base", "execution", "ingress", "calls")
"""What calls are paid for, by the names in `MessageCycles`."""

_NAMES_SHOWN_MAX: Final = 8
_NAME_SHOWN_CHARACTERS: Final = 60
_SELECTORS: Final = ("message", "statement")


@dataclass(frozen=True, slots=True)
class BillTerms:
    """Under which conditions a month is billed; each is an assumption that the bill states."""

    day: date
    "Of the prices in cycles, and of the memory of subnets."
    fees: CycleFees
    sizes: MemorySizes = NOTHING_HELD
    "What is held beside stable memory, whose size is that at the end of the trace."
    allocations: Allocations = AS_CREATED
    subnet_usage_bytes: int | None = None
    "Memory that the subnet has in use; None leaves reservations out."
    growth: bool = False
    "Whether stable memory goes on growing by as much a call as in the trace."
    request_bytes: int = REQUEST_BYTES
    balance: int | None = None
    "Cycles of the canister; None where nobody said."
    counted_under: str | None = None
    "Price list that the trace was counted under, where its instructions are those of another."


@dataclass(frozen=True, slots=True)
class BillLine:
    """One kind of call, for a month; cycles are exact, and of the whole month."""

    name: str
    kind: str
    "update, query, upgrade …"
    frequency: Frequency
    group: CallGroup
    "What of it is in the trace."
    as_update: bool = False
    "Whether it is a query that is called as an update."

    @property
    def is_estimated(self) -> bool:
        """Whether instructions of some of its messages were estimated."""
        return self.group.estimated > 0

    @property
    def calls_per_month(self) -> Fraction:
        """How often it is called."""
        return self.frequency.per_month

    def part(self, name: str) -> Fraction:
        """Return the cycles of one of `PARTS`."""
        return self.group.each(getattr(self.group, name)) * self.calls_per_month

    @property
    def each(self) -> Fraction:
        """Cycles of a call."""
        return self.group.each(self.group.total)

    @property
    def total(self) -> Fraction:
        """Cycles of all its calls."""
        return self.each * self.calls_per_month

    @property
    def grown_bytes(self) -> Fraction:
        """By which stable memory would grow, at as much a call as in the trace."""
        return self.group.each(self.group.grown_bytes) * self.calls_per_month


@dataclass(frozen=True, slots=True)
class Standing:
    """What is paid whether the canister is called or not."""

    sizes: MemorySizes
    heap_seen_at: int | None
    "Index of the last message that was measured, whose heap it is; None: the trace's last one."
    billed_bytes: int
    "What it holds, or has reserved where that is more."
    burn: IdleBurn
    "Of a day."
    freezing_limit: int
    "Balance below which it is frozen."
    storage: int
    "Cycles of the month for what it holds when the month begins."
    presence: int
    compute: int
    grown_bytes: Fraction
    "By which stable memory grows in the month; 0 unless that was asked for."
    growth_storage: Fraction
    "Cycles of the month for what it grows by, as if that came evenly. Modelled."
    room: BucketRoom | None
    "What the database can still take, where growth was asked for and there is none."
    reserved: int | None
    "Cycles set aside, not spent, for all that it holds and grows by; None where nobody asked."

    @property
    def total(self) -> Fraction:
        """Cycles of the month."""
        return self.storage + self.presence + self.compute + self.growth_storage


@dataclass(frozen=True, slots=True)
class Bill:
    """A month of 30 days."""

    terms: BillTerms
    lines: tuple[BillLine, ...]
    standing: Standing
    as_in_trace: bool
    "Whether nobody said how often, so that each call is made as often as in the trace."
    not_called: tuple[str, ...]
    "Names in the trace that were not asked for."
    import_count: int = 0
    "Messages of the trace that loaded a database, and are left out."
    blocks: tuple[SampleBlock, ...] = ()
    "What was measured of the trace, where a part of its messages was."

    @property
    def is_estimated(self) -> bool:
        """Whether some of its calls cost what others stand for."""
        return any(line.is_estimated for line in self.lines)

    @property
    def paid_kinds(self) -> frozenset[str]:
        """Kinds of message that its calls are, but for those that are free."""
        return frozenset(
            kind
            for line in self.lines
            for kind in line.group.kinds
            if line.as_update or kind not in FREE_KINDS
        )

    @property
    def paid_blocks(self) -> tuple[SampleBlock, ...]:
        """What was measured of the messages of these kinds, whose instructions it rests on."""
        kinds = self.paid_kinds
        return tuple(block for block in self.blocks if block.group.kind in kinds)

    def part(self, name: str) -> Fraction:
        """Return the cycles of one of `PARTS` over all calls."""
        return sum((line.part(name) for line in self.lines), Fraction(0))

    @property
    def calls_total(self) -> Fraction:
        """Cycles of all calls."""
        return sum((line.total for line in self.lines), Fraction(0))

    @property
    def total(self) -> Fraction:
        """Cycles of the month."""
        return self.calls_total + self.standing.total

    @property
    def days_until_next_bucket(self) -> Fraction | None:
        """How long the database can grow within its last bucket; None where nobody knows.

        Its updates are taken to be as those of the trace, all together.
        """
        room = self.standing.room
        updates = sum(
            (it.calls_per_month for it in self.lines if it.group.kinds.intersection(UPDATE_KINDS)),
            Fraction(0),
        )
        if room is None or room.updates_left is None or not updates:
            return None
        return room.updates_left * MONTH_DAYS / updates

    @property
    def days_until_frozen(self) -> Fraction | None:
        """How long the balance lasts until the canister is frozen; None: for ever, or none given.

        The freezing limit is that of the month's beginning, though growth raises it.
        """
        balance = self.terms.balance
        if balance is None or (not self.total and balance >= self.standing.freezing_limit):
            return None
        above = max(balance - self.standing.freezing_limit, 0)
        return above * MONTH_DAYS / self.total if above else Fraction(0)

    @property
    def prepaid(self) -> int:
        """The most that has to be there for one of the calls, beside the freezing limit."""
        return max((line.group.prepaid for line in self.lines), default=0)


def bill(trace: TraceSource, wishes: Sequence[Wish], terms: BillTerms) -> Bill:
    """Return what a month costs.

    Args:
        trace: Of the calls, with the instructions of the price list wanted.
        wishes: How often each is made; none: each as often as in the trace.
        terms: The conditions.

    Raises:
        SettingsError: The trace is empty or has no instructions, a name is not in it or is there
            twice, or the subnet has no room.
    """
    if not len(trace.messages):
        raise SettingsError(
            "the trace is empty, so there is no call to bill; record a run that has some"
        )
    groups = _groups(trace, terms)
    as_updates = (
        _groups(trace, terms, as_updates=True) if any(it.as_update for it in wishes) else groups
    )
    lines = _asked(groups, as_updates, wishes) if wishes else _as_in_trace(groups)
    for line in lines:
        _check_counted(line)
    called = {name for it in lines for name in (it.name, *it.group.covers)}
    return Bill(
        terms,
        tuple(lines),
        _standing(trace, groups, lines, terms),
        not wishes,
        tuple(name for name in groups.by_name if name not in called),
        groups.import_count,
        tuple(trace.summary.blocks),
    )


def _groups(trace: TraceSource, terms: BillTerms, *, as_updates: bool = False) -> CallGroups:
    return CallGroups(trace, terms.fees, request_bytes=terms.request_bytes, as_updates=as_updates)


def _as_in_trace(groups: CallGroups) -> list[BillLine]:
    return [
        BillLine(name, it.kind, Frequency(Fraction(it.call_count), "month"), it)
        for name, it in groups.by_name.items()
        if it.call_count
    ]


def _asked(groups: CallGroups, as_updates: CallGroups, wishes: Iterable[Wish]) -> list[BillLine]:
    """Return a line for each wish.

    Args:
        groups: What each costs as it was called.
        as_updates: The same with queries called as updates.
        wishes: What is called, how, and how often.
    """
    lines: dict[tuple[str, bool], BillLine] = {}
    for wish in wishes:
        group = _found(as_updates if wish.as_update else groups, wish.name)
        as_update = wish.as_update and _is_query(group)
        if (group.name, as_update) in lines:
            raise SettingsError(f"{group.name!r} is given twice; say once how often it is called")
        for other in lines.values():
            if other.as_update == as_update and groups.share(other.group, group):
                raise SettingsError(
                    f"{other.name!r} and {group.name!r} name the same call, which would be billed "
                    "twice; leave one of them out"
                )
        lines[group.name, as_update] = BillLine(
            group.name, group.kind, wish.frequency, group, as_update=as_update
        )
    return [*lines.values()]


def _is_query(group: CallGroup) -> bool:
    """Tell whether something is another call where it is called as an update.

    Raises:
        SettingsError: It cannot be called so.
    """
    if not group.kinds.isdisjoint(AS_UPDATE):
        return True
    if not group.kinds.isdisjoint(("update", "replicated_query")):
        return False
    why = (
        "a composite query cannot be called so (IC0527)"
        if "composite_query" in group.kinds
        else f"no {group.kind} is called so"
    )
    raise SettingsError(f"{group.name!r} is billed as update, and {why}; leave 'as update' out")


def _found(groups: CallGroups, name: str) -> CallGroup:
    """Return what is called by a name, one with ``…`` for a part of it, or a number.

    What the bill calls something goes before the method, shape or kind of what has a label.
    """
    asked = one_line(name)
    group = groups.by_name.get(name) or groups.by_name.get(asked) or groups.also_called(asked)
    if group is not None:
        return group
    if CUT in asked:
        found = groups.like(asked)
        if len(found) > 1:
            raise SettingsError(
                f"{name!r} can be {len(found):,} names of the trace: {_listed(found)}; write more "
                "of the one that is meant"
            )
        if found:
            return _found(groups, found[0])
    word, colon, number = name.partition(":")
    if colon and word in _SELECTORS and number.isascii() and number.isdigit():
        index = int(number)
        one = groups.of_message(index) if word == "message" else groups.of_statement(index)
        if one is not None and one.call_count:
            return one
        raise SettingsError(
            f"the trace has no call with {word} {index}; report TRACE lists them"
            + ", and loading a database is none of a canister's" * bool(groups.import_count)
        )
    known = names_of(it for it in groups.by_name.values() if it.call_count)
    raise SettingsError(
        f"nothing in the trace is called {name!r}; there are: {_listed(known)}; methods and shapes "
        "are taken too, as reports by shape have them, and message:N and statement:N name one by "
        "its index"
    )


def _listed(names: Sequence[str]) -> str:
    """Return the first names as they are taken, and how many more there are."""
    shown = [short_name(it, names, _NAME_SHOWN_CHARACTERS) for it in names[:_NAMES_SHOWN_MAX]]
    more = len(names) - len(shown)
    return " | ".join([*shown, f"and {more:,} more"] if more else shown)


def _check_counted(line: BillLine) -> None:
    if line.group.unknown:
        way = spelled('Canister(engine="wasm", trace=PATH)', "run --engine wasm --trace")
        raise SettingsError(
            f"the trace has no instructions of {line.name[:_NAME_SHOWN_CHARACTERS]!r}, so its "
            f"execution has no price: record it with {way}, which counts them"
        )


def _standing(
    trace: TraceSource, groups: CallGroups, lines: Iterable[BillLine], terms: BillTerms
) -> Standing:
    last, given = trace.messages[-1], terms.sizes
    seen, seen_at = groups.heap_seen or (0, last.index)
    sizes = MemorySizes(
        heap=given.heap or seen,
        stable=last.image_bytes,
        module=given.module,
        chunk_store=given.chunk_store,
        snapshots=given.snapshots,
    )
    fees, allocations = terms.fees, terms.allocations
    billed = max(sizes.total, allocations.memory_bytes)
    burn = idle_burn(fees, sizes, allocations)
    grown = sum((it.grown_bytes for it in lines), Fraction(0)) if terms.growth else Fraction(0)
    more = _billed_on_average(sizes.total, grown, allocations.memory_bytes) - billed
    return Standing(
        sizes=sizes,
        heap_seen_at=None if given.heap or seen_at == last.index else seen_at,
        billed_bytes=billed,
        burn=burn,
        freezing_limit=freezing_limit(burn, allocations),
        storage=fees.memory(size_bytes=billed, seconds=MONTH_S),
        presence=fees.presence(seconds=MONTH_S) if billed else 0,
        compute=fees.compute(percent=allocations.compute_percent, seconds=MONTH_S),
        grown_bytes=grown,
        growth_storage=(
            more
            * (fees.rates.storage_gib_second * MONTH_S * fees.node_count)
            / (GIB * REFERENCE_NODE_COUNT)
        ),
        room=bucket_room(trace) if terms.growth and not grown else None,
        reserved=_reserved(max(billed, sizes.total + int(grown)), terms),
    )


def _billed_on_average(size: int, grown: Fraction, allocated: int) -> Fraction:
    """Return the bytes that are billed while a canister grows evenly, on average."""
    end = size + grown
    if allocated <= size or not grown:
        return max(Fraction(allocated), (size + end) / 2)
    if allocated >= end:
        return Fraction(allocated)
    inside = (allocated - size) / grown
    return allocated * inside + (allocated + end) / 2 * (1 - inside)


def _reserved(size_bytes: int, terms: BillTerms) -> int | None:
    if terms.subnet_usage_bytes is None:
        return None
    return subnet_memory(terms.day).reservation(
        terms.fees, usage_bytes=terms.subnet_usage_bytes, grown_bytes=size_bytes
    )
