"""The assumptions of a bill in sentences: the same ones in every format."""

from collections.abc import Iterator, Mapping
from typing import Final

from sqlstable.analysis.pricing.month_bill import Bill
from sqlstable.analysis.pricing.trace_prices import recorded_prices
from sqlstable.ic.cycle_fees import fee_rates
from sqlstable.ic.fee_tables import STORAGE
from sqlstable.ic.idle_burn import DAY_S, MONTH_DAYS
from sqlstable.ic.money import XdrRate
from sqlstable.ic.prices import regime_on
from sqlstable.report.money_words import days_words
from sqlstable.report.numbers import count, counted, size
from sqlstable.report.sample_words import ESTIMATED, measured_words
from sqlstable.report.text import clean
from sqlstable.trace.format.estimating import CONFIDENCE, margin_of
from sqlstable.trace.model import TraceSettings

_GROWING_MIN: Final = 3
"""Messages that must have grown stable memory for an average to say something."""


def assumptions(
    bill: Bill, rate: XdrRate, storage: str, settings: Mapping[str, object]
) -> Iterator[str]:
    """Yield what a bill takes for granted, one sentence each.

    Args:
        bill: It.
        rate: What cycles cost in money.
        storage: Whose price of memory it has.
        settings: Those of the trace.
    """
    terms, fees = bill.terms, bill.terms.fees
    yield (
        f"prices in cycles of {terms.day}, for a subnet of {counted(fees.node_count, 'node')}"
        + ("; instructions with 64-bit addresses, twice as dear" if fees.is_64 else "")
    )
    yield rate.words
    yield _instructions_words(bill, settings)
    yield (
        f"a month has {MONTH_DAYS} days; each call costs what it cost in the trace on average"
        + (", made as often as there" if bill.as_in_trace else "")
    )
    called = [clean(line.name) for line in bill.lines if line.as_update]
    if called:
        yield (
            "queries called as updates, and paid for as such, arrival from outside included: "
            f"{' | '.join(called)}"
        )
    assumed = sum(line.group.assumed_requests for line in bill.lines)
    if assumed:
        yield (
            f"{count(terms.request_bytes)} bytes arrive with a call, as the trace does not say "
            "(--request-bytes)"
        )
    if bill.import_count:
        yield (
            "loading a database is no canister's work, and left out; on the Internet Computer its "
            "bytes arrive in calls of their own"
        )
    yield from _memory(bill, storage)


def _instructions_words(bill: Bill, settings: Mapping[str, object]) -> str:
    regime = recorded_prices(TraceSettings(settings))
    name = settings.get("price_regime") if regime is None else regime.label
    before = bill.terms.counted_under
    if before is not None:
        return (
            f"instructions under the price list {clean(str(name))}, from what the trace counted "
            f"under {clean(before)}"
        )
    how = "counted or estimated" if bill.is_estimated else "counted"
    return f"instructions as {how} in the trace" + (
        "" if name is None else f", under the price list {clean(str(name))}"
    )


def _memory(bill: Bill, storage: str) -> Iterator[str]:
    standing, terms = bill.standing, bill.terms
    yield _storage_words(bill, storage)
    sizes, seen_at = standing.sizes, standing.heap_seen_at
    heap_seen = "" if seen_at is None else f" (as message {seen_at}, the last measured, left it)"
    yield (
        f"the canister holds stable memory {size(sizes.stable)}, as at the end of the trace, heap "
        f"{size(sizes.heap)}{heap_seen}, module {size(sizes.module)}, snapshots "
        f"{size(sizes.snapshots)}"
    )
    if terms.growth and not standing.grown_bytes:
        yield _room_words(bill)
    elif terms.growth:
        yield (
            "modelled: stable memory goes on growing by as much a call as in the trace, "
            f"{size(int(standing.grown_bytes))} in the month, evenly"
        )
    else:
        yield "stable memory does not grow (--growth lets it, as in the trace)"
    allocations = terms.allocations
    if allocations.memory_bytes:
        yield f"memory allocation {size(allocations.memory_bytes)}, paid for whether used or not"
    if allocations.compute_percent:
        yield f"compute allocation {allocations.compute_percent} %"
    if terms.subnet_usage_bytes is not None:
        yield f"the subnet has {size(terms.subnet_usage_bytes)} in use"
    yield f"frozen below {allocations.freezing_threshold_s / DAY_S:g} days of idle burn"


def _room_words(bill: Bill) -> str:
    """Say how far the database has filled its last bucket, where stable memory did not grow."""
    room = bill.standing.room
    if room is None:
        return "stable memory grows by whole buckets, and did not in these calls of the trace"
    unit = "bucket" if room.is_bucket else "Wasm page"
    words = (
        f"stable memory grows by {unit}s of {size(room.unit_bytes)}: {clean(room.name)} has "
        f"{size(room.free_bytes)} free before it needs the next"
    )
    if not room.update_count:
        return words
    updates = counted(room.update_count, "update")
    if room.updates_left is None:
        return f"{words}, and did not grow within its last one in {updates} of the trace"
    days = bill.days_until_next_bucket
    when = (
        "" if days is None else f", {days_words(days)} of this bill if its updates are like those"
    )
    return (
        f"{words}; within its last one it grew by {size(room.grown_bytes)} in {updates} of the "
        f"trace, and at that pace needs the next after {count(int(room.updates_left))} more{when}"
    )


def _storage_words(bill: Bill, storage: str) -> str:
    rates = bill.terms.fees.rates
    other = next(name for name in STORAGE if name != storage)
    beside = f" and {count(rates.canister_second)} a second for the canister"
    doubt = f"; which prices hold is not verified (--storage {storage}, or {other})"
    return (
        f"memory at {count(rates.storage_gib_second)} cycles a GiB and second"
        f"{beside * bool(rates.canister_second)}"
        f"{doubt * (fee_rates(bill.terms.day, storage=other) != rates)}"
    )


def doubts(bill: Bill, settings: Mapping[str, object]) -> Iterator[str]:
    """Yield what may be wrong about a bill."""
    if bill.is_estimated:
        yield _estimate_words(bill)
    counted_by, charged_by = settings.get("price_regime"), regime_on(bill.terms.day).name
    if counted_by is not None and counted_by != charged_by:
        yield (
            f"instructions are counted as {clean(str(counted_by))} does, and on "
            f"{bill.terms.day} {charged_by} was charged: --prices {charged_by} counts so"
        )
    if bill.terms.growth:
        yield from _growth_doubts(bill)


def _estimate_words(bill: Bill) -> str:
    """Say how much of a bill was estimated, and how well that is known."""
    groups = [line.group for line in bill.lines]
    guessed, seen = sum(it.estimated for it in groups), sum(it.message_count for it in groups)
    often = f"{100 * CONFIDENCE:.0f} of 100 times"
    kinds = ", ".join(sorted(it.replace("_", " ") for it in bill.paid_kinds))
    blocks = bill.paid_blocks
    known = sum(it.instructions for it in blocks if it.measured)
    whole = (
        f", and those of all messages of the trace that are paid for ({kinds}) together within ± "
        f"{100 * margin_of(blocks) / known:.2g} %"
    )
    return (
        f"instructions of {count(guessed)} of {counted(seen, 'message')} billed are estimated "
        f"({ESTIMATED}): {often} those of one message lie within ± "
        f"{100 * max(it.error_band for it in groups):.2g} % of what is stated, or nearer"
        f"{whole if known else ''}: {measured_words(blocks)}"
    )


def _growth_doubts(bill: Bill) -> Iterator[str]:
    """Yield why growth may be wrong: stable memory grows by whole buckets."""
    groups = [line.group for line in bill.lines]
    if not any(group.grown_bytes for group in groups):
        yield (
            "stable memory did not grow in these calls of the trace, so that none is modelled; it "
            "grows by whole buckets, and a trace with more calls says more"
        )
    for group in groups:
        if 0 < group.growing_count < _GROWING_MIN:
            yield (
                f"{clean(group.name)} grew stable memory in {group.growing_count} of "
                f"{counted(group.message_count, 'message')} alone, by "
                f"{size(group.grown_bytes)}: a longer trace says more"
            )
