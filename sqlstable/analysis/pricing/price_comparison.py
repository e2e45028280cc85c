"""A trace under many price lists at once, and how far one list's total moves with what it assumes.

What a list charges is linear in the units: those of messages that pay alike are added up, and each
list is asked once. So a comparison takes one look at the trace, whatever the number of lists.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from typing import Final, Literal, get_args

from sqlstable.analysis.pricing.trace_prices import MessagePrices
from sqlstable.analysis.trace_source import TraceSource
from sqlstable.errors import SettingsError, TraceError
from sqlstable.ic.assumptions import ASSUMPTIONS, assumed, assumptions_of
from sqlstable.ic.charged import Charged, charged_together
from sqlstable.ic.prices import PRICE_REGIMES, PriceRegime, regime_of
from sqlstable.ic.pricing import Spent, spent
from sqlstable.spelling import spelled
from sqlstable.trace.model import Message, SampleGroup, Statement, TraceSettings

ComparedBy = Literal["trace", "message", "statement", "shape"]
"""What one row of a comparison stands for."""

COMPARED_BY: Final[tuple[ComparedBy, ...]] = get_args(ComparedBy)


@dataclass(frozen=True, slots=True)
class ComparedRow:
    """Something under each price list of a comparison, in their order."""

    name: str
    "SQL, the shape, the label or kind of a message; empty for the whole trace."
    index: int | None
    "Of the statement or message; of a shape that of its first statement."
    count: int
    "Statements, or messages, that it stands for."
    spent: tuple[Spent, ...]


@dataclass(frozen=True, slots=True)
class PriceComparison:
    """A trace under several price lists."""

    by: ComparedBy
    lists: tuple[PriceRegime, ...]
    today: int
    "Which of them is that of today."
    total: ComparedRow
    rows: tuple[ComparedRow, ...]
    "Empty where the whole trace is all that was asked for."
    settings: TraceSettings
    "Of the trace."

    def __repr__(self) -> str:
        more = f", {len(self.rows):,} rows by {self.by}" if self.rows else ""
        return f"<PriceComparison under {len(self.lists)} price lists{more}>"


class PricedSum:
    """What messages, or statements of them, owe together under any price list."""

    def __init__(self) -> None:
        self.count = 0
        self._by_kind: dict[str, Charged] = {}

    def add(self, charged: Charged | None, kind: str) -> None:
        """Add a message or statement.

        Args:
            charged: What it is charged for; None: it ran nothing.
            kind: Of the message.
        """
        self.count += 1
        if charged is None:
            return
        before = self._by_kind.get(kind)
        both = charged if before is None else charged_together([before, charged])
        self._by_kind[kind] = both

    def spent(self, regime: PriceRegime) -> Spent:
        """Return what that comes to.

        Args:
            regime: A price list, for the heap that the trace has.
        """
        computation: int | None = 0
        heap: int | None = 0
        stable = 0
        for kind, units in self._by_kind.items():
            found = spent(units, regime.for_message(kind))
            computation = _plus(computation, found.computation)
            heap = _plus(heap, found.heap)
            stable += found.stable
        return Spent(computation, stable, heap)


def _plus(before: int | None, more: int | None) -> int | None:
    return None if before is None or more is None else before + more


def compare_prices(
    trace: TraceSource, *, by: ComparedBy = "trace", assume: Mapping[str, str] | None = None
) -> PriceComparison:
    """Return what every price list makes of a trace.

    Args:
        trace: What was recorded.
        by: What each further row stands for: a name of `ComparedBy`.
        assume: What all lists assume otherwise than by default, by names of
            `sqlstable.ic.assumptions.ASSUMPTIONS`.

    Raises:
        TraceError: The trace does not hold what lists charge for.
        SettingsError: There are no such rows.

    Examples:
        >>> COMPARED_BY
        ('trace', 'message', 'statement', 'shape')
    """
    if by not in COMPARED_BY:
        raise SettingsError(f"prices compare by {', '.join(COMPARED_BY[1:])}, and not by {by!r}")
    lists = tuple(assumed(it, assume or {}) for it in PRICE_REGIMES.values())
    paid = [MessagePrices(it, trace.settings).regime for it in lists]
    whole, kinds = PricedSum(), dict[int, str]()
    rows: dict[object, tuple[str, int, PricedSum]] = {}
    for message in trace.messages:
        whole.add(units_of(message), message.kind)
        kinds[message.index] = message.kind
        if by == "message":
            of_one = PricedSum()
            of_one.add(message.charged, message.kind)
            rows[message.index] = (message.label or message.kind, message.index, of_one)
    if by in ("statement", "shape"):
        for statement in trace.statements:
            key, name = _row_of(statement, by)
            row = rows.get(key)
            if row is None:
                row = rows[key] = (name, statement.index, PricedSum())
            row[2].add(units_of(statement), kinds[statement.message])
    return PriceComparison(
        by=by,
        lists=lists,
        today=[it.name for it in lists].index(regime_of(None).name),
        total=_row("", None, whole, paid),
        rows=tuple(_row(name, index, found, paid) for name, index, found in rows.values()),
        settings=trace.settings,
    )


def _row_of(statement: Statement, by: str) -> tuple[object, str]:
    if by == "statement":
        return statement.index, statement.sql
    shape = statement.shape or statement.sql
    return (shape, statement.kind), shape


def _row(
    name: str, index: int | None, found: PricedSum, paid: Iterable[PriceRegime]
) -> ComparedRow:
    return ComparedRow(name, index, found.count, tuple(found.spent(it) for it in paid))


def units_of(record: Message | Statement) -> Charged | None:
    """Return what a record is charged for; None where it ran nothing.

    Raises:
        TraceError: The trace does not say.
    """
    charged = record.charged
    if charged is None and (record.instructions is not None or _has_calls(record)):
        way = spelled(
            'Canister(engine="wasm", trace=PATH)', "sqlstable run --engine wasm --trace FILE"
        )
        raise TraceError(
            "the trace has no counts of what price lists charge for, as those of format version 1 "
            f"to 6; record it again with this sqlstable: {way}"
        )
    return charged


def _has_calls(record: Message | Statement) -> bool:
    calls = record.stable.calls
    return bool(calls.read or calls.write or calls.grow)


# -- what is assumed -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AssumedTotal:
    """A total under other assumptions than the default ones."""

    assumptions: Mapping[str, str]
    "Those that are others."
    spent: Spent


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """How far a trace's total moves with what a price list assumes."""

    regime: PriceRegime
    "The price list, under default assumptions."
    default: Spent
    single: tuple[AssumedTotal, ...]
    "One assumption changed at a time, to each of its other values."
    least: AssumedTotal
    "The combination that costs least."
    most: AssumedTotal
    settings: TraceSettings
    "Of the trace."
    message_count: int
    measured_count: int
    "Messages that were measured; where not all were, they stand for the others of their block."
    left_out_count: int
    "Messages of which none was measured that could stand for them."

    @property
    def names(self) -> tuple[str, ...]:
        """The assumptions that concern the list."""
        return tuple(assumptions_of(self.regime))


def sensitivity(trace: TraceSource, regime: PriceRegime) -> Sensitivity:
    """Say how far the total moves under each assumption, one at a time and all together.

    Of a run with both engines it is worked out from the messages that were measured, each for as
    many of its block as it stands for.

    Args:
        trace: What was recorded.
        regime: A price list; what it assumes otherwise than by default is left out.

    Raises:
        TraceError: The trace does not hold what the list charges for.
    """
    plain = PRICE_REGIMES[regime.name]
    whole = _Sampled(trace)

    def under(values: Mapping[str, str]) -> AssumedTotal:
        changed = {name: it for name, it in values.items() if it != ASSUMPTIONS[name].default}
        paid = MessagePrices(assumed(plain, changed), trace.settings).regime
        return AssumedTotal(changed, whole.spent(paid))

    names = tuple(assumptions_of(plain))
    combined = [
        under(dict(zip(names, values, strict=True)))
        for values in product(*(ASSUMPTIONS[name].values for name in names))
    ]
    return Sensitivity(
        regime=plain,
        default=under({}).spent,
        single=tuple(it for it in combined if len(it.assumptions) == 1),
        # Of equal ones, that which changes least.
        least=min(combined, key=lambda it: (_size(it), len(it.assumptions))),
        most=max(combined, key=lambda it: (_size(it), -len(it.assumptions))),
        settings=trace.settings,
        message_count=whole.message_count,
        measured_count=sum(it.measured.count for it in whole.strata),
        left_out_count=whole.left_out_count,
    )


class _Stratum:
    """Messages of which those that were measured stand for all."""

    def __init__(self) -> None:
        self.measured = PricedSum()
        self.message_count = 0


class _Sampled:
    """What all messages owe, worked out from those that were measured.

    Units are charged in one line, so that those of the measured ones of a block, times how many
    messages each stands for, are those of the block.
    """

    def __init__(self, trace: TraceSource) -> None:
        by_group: dict[SampleGroup | None, dict[int, _Stratum]] = {}
        for message in trace.messages:
            sample = message.sample
            group = None if sample is None else sample.group._replace(block=0)
            blocks = by_group.setdefault(group, {})
            stratum = blocks.setdefault(0 if sample is None else sample.group.block, _Stratum())
            stratum.message_count += 1
            if sample is None or _is_counted(message):
                stratum.measured.add(units_of(message), message.kind)
        found = [it for blocks in by_group.values() for it in _joined(blocks.values())]
        self.strata = [it for it in found if it.measured.count]
        self.message_count = sum(it.message_count for it in found)
        self.left_out_count = sum(it.message_count for it in found if not it.measured.count)

    def spent(self, regime: PriceRegime) -> Spent:
        """Return what that comes to under a price list, for the heap that the trace has."""
        parts: list[Fraction | None] = [Fraction(0)] * 3
        for it in self.strata:
            found = it.measured.spent(regime)
            each = Fraction(it.message_count, it.measured.count)
            own = (found.computation, found.stable, found.heap)
            parts = [
                None if before is None or part is None else before + part * each
                for before, part in zip(parts, own, strict=True)
            ]
        computation, stable, heap = (None if it is None else round(it) for it in parts)
        return Spent(computation, stable or 0, heap)


def _joined(strata: Iterable[_Stratum]) -> Iterator[_Stratum]:
    """Yield strata, each of which nothing was measured together with the one before it."""
    last: _Stratum | None = None
    for it in strata:
        if last is not None and not it.measured.count:
            last.message_count += it.message_count
            continue
        if last is not None:
            yield last
        last = it
    if last is not None:
        yield last


def _is_counted(message: Message) -> bool:
    return message.instructions is not None and message.instructions.measured


def _size(found: AssumedTotal) -> int:
    known = found.spent
    return known.stable + (known.computation or 0) + (known.heap or 0)


def shares(found: Spent) -> Mapping[str, float | None]:
    """Return which share of the total each part is; None where a part is not known."""
    total = found.total
    parts = {"computation": found.computation, "stable": found.stable, "heap": found.heap}
    return {
        name: None if total is None or part is None else part / total if total else 0.0
        for name, part in parts.items()
    }


def times(found: Spent, other: Spent) -> float | None:
    """Return how many times another's total one is; None where one is not known, or nothing.

    Stable memory's parts say nothing of totals, whatever they are a part of.
    """
    mine, theirs = found.total, other.total
    return mine / theirs if mine is not None and theirs else None


def rows_of(found: PriceComparison) -> Iterator[ComparedRow]:
    """Yield all rows, the whole trace last."""
    yield from found.rows
    yield found.total
