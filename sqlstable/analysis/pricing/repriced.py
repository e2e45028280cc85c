"""A trace under another price list, without running it again.

A message owes what a list charges for the units that it used (`sqlstable.ic.charged`); a statement
owes what it was the first to touch, so that statements and what lies around them add up to their
message under every list.

**Limitations.** The trace is that of a run under the prices that it names: a message that ran out
of instructions there has not run further here, and one that would run out here is shown with all
that it used. What phases cost is known where the weights of operators are those of the run and one
phase alone moved bytes; that of parts of a step is not known.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import date

from sqlstable.analysis.mapped_trace import mapped_trace
from sqlstable.analysis.pricing.trace_prices import MessagePrices, recorded_prices
from sqlstable.analysis.trace_source import TraceSource
from sqlstable.errors import TraceError
from sqlstable.ic.assumptions import assumed, price_settings
from sqlstable.ic.charged import Charged
from sqlstable.ic.prices import PriceRegime, resolve_prices
from sqlstable.ic.pricing import spent
from sqlstable.ic.words import INSTRUCTIONS
from sqlstable.spelling import spelled
from sqlstable.trace.format.reader import Trace
from sqlstable.trace.model import Instructions, Message, Statement, TraceSettings


def repriced(
    trace: TraceSource,
    prices: PriceRegime | date | str,
    assume: Mapping[str, str] | None = None,
) -> Trace:
    """Return a trace as it would have been counted under other prices, to be closed on its own.

    All views, exports and data frames of it show them. Of a trace of the native engine nothing
    changes but the name of the list: nobody counted instructions.

    Args:
        trace: What was recorded; it stays open, and as it is.
        prices: The price list: a name, a day on which it held, or a
            `sqlstable.ic.prices.PriceRegime`.
        assume: What it assumes otherwise than by default, by names of
            `sqlstable.ic.assumptions.ASSUMPTIONS`.

    Raises:
        SettingsError: There is no such list or assumption.
        TraceError: The trace does not hold what the list charges for.

    Examples:
        >>> from sqlstable import Canister
        >>> with Canister(trace=":memory:") as canister:
        ...     reply = canister.update("CREATE TABLE t (a)")
        ...     with canister.trace() as trace:
        ...         then = repriced(trace, "wasm-native")
        >>> then.settings["prices"]
        'wasm-native'
        >>> then.close()
    """
    regime = assumed(resolve_prices(prices), assume or {})
    _refuse_estimates(trace, regime)
    anew = _Anew(regime, trace.settings)
    settings = price_settings(regime)
    if "prices_day" in trace.settings.values:
        settings.setdefault("prices_day", None)
    if "price_regime" in trace.settings.values:
        settings["price_regime"] = regime.name
    return mapped_trace(
        trace, message=anew.of_message, statement=anew.of_statement, settings=settings
    )


def _refuse_estimates(trace: TraceSource, regime: PriceRegime) -> None:
    estimated = estimated_count(trace)
    if estimated:
        total = sum(block.messages for block in trace.summary.blocks)
        name, is_assumed = regime.name, bool(regime.assumptions)
        way = spelled(
            f'run again with prices="{name}"{" and the same assume" * is_assumed}, or with '
            'measure="all"',
            f"run again with --prices {name}{' and the same --assume' * is_assumed}, or with "
            "--measure all",
        )
        raise TraceError(
            f"{estimated:,} of {total:,} messages were estimated, from messages that were measured "
            f"under the prices of the run, and cannot be counted anew under {name}: {way}"
        )


def estimated_count(trace: TraceSource) -> int:
    """Return how many messages of a trace were not measured, but estimated from others."""
    return sum(block.estimated for block in trace.summary.blocks)


class _Anew:
    """Records with the instructions of another price list.

    Args:
        regime: The price list, for no kind of heap or message yet.
        settings: Of the trace.
    """

    def __init__(self, regime: PriceRegime, settings: TraceSettings) -> None:
        before = recorded_prices(settings)
        self._prices = MessagePrices(regime, settings)
        self._same_weights = before is not None and before.table.key == regime.table.key
        # Of a run whose prices charge the heap it was somebody's choice.
        self._is_unwatched = before is None or before.charges_heap
        self._reduced: dict[int, PriceRegime] = {}
        "Prices of the messages that pay others than an update."

    def of_message(self, message: Message) -> Message:
        paid = self._prices.of(message)
        if paid is not self._prices.regime:
            self._reduced[message.index] = paid
        counted = message.instructions
        if counted is None:
            return message
        found = self._counted(counted, _charged(message, message.charged, "message"), paid)
        limits = tuple(
            replace(use, used=found.total) if use.name == INSTRUCTIONS else use
            for use in message.limits
        )
        parts = tuple(replace(it, instructions=None) for it in message.parts)
        if len(parts) == 1:
            parts = (replace(parts[0], instructions=found.total),)
        return replace(message, instructions=found, limits=limits, parts=parts)

    def of_statement(self, statement: Statement) -> Statement:
        counted = statement.instructions
        if counted is None:
            return statement
        paid = self._reduced.get(statement.message, self._prices.regime)
        charged = _charged(statement, statement.charged, "statement")
        found = self._counted(counted, charged, paid)
        dearer = found.stable - counted.stable
        phases = _phases(statement, dearer) if self._same_weights else None
        return replace(statement, instructions=found, phase_instructions=phases)

    def _counted(
        self, counted: Instructions, charged: Charged, regime: PriceRegime
    ) -> Instructions:
        return _instructions(counted, charged, regime, is_unwatched=self._is_unwatched)


def _instructions(
    counted: Instructions, charged: Charged, regime: PriceRegime, *, is_unwatched: bool
) -> Instructions:
    found = spent(charged, regime)
    if found.computation is None:
        raise TraceError(
            f"the trace has no count of operators by the weights {regime.table.name}, which prices "
            f"{regime.name} go by; record it again with this sqlstable"
        )
    # A heap that nobody was to watch costs nothing, as in a run.
    heap = found.heap or 0
    if found.heap is None and not is_unwatched:
        raise TraceError(
            f"the heap was not watched in this run, whose prices charge nothing for it, and those "
            f"of {regime.name} do; record it with {spelled('track_heap=True', '--track-heap')}"
        )
    return replace(
        counted,
        total=found.computation + found.stable + heap,
        computation=found.computation,
        stable=found.stable,
        heap=heap,
    )


def _charged(record: Message | Statement, charged: Charged | None, what: str) -> Charged:
    if charged is None:
        way = spelled('Canister(engine="wasm", trace=PATH)', "run --engine wasm --trace")
        raise TraceError(
            f"{what} {record.index} has no counts of what price lists charge for, as traces of "
            f"format version 1 to 6; record it again with this sqlstable: {way}"
        )
    return charged


def _phases(statement: Statement, dearer: int) -> dict[str, int] | None:
    """Return the instructions of phases where it is clear which of them pays what is dearer."""
    phases = statement.phase_instructions
    if phases is None:
        return None
    calls = {name: use.calls for name, use in statement.phases.items()}
    paying = [name for name, it in calls.items() if it.read or it.write or it.grow]
    if len(paying) > 1:
        return None
    return {name: used + (dearer if name in paying else 0) for name, used in phases.items()}
