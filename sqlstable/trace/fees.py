"""The prices in cycles that go with what a trace was counted under."""

from contextlib import suppress
from datetime import date, timedelta
from itertools import pairwise
from typing import Final

from sqlstable.ic.assumptions import price_settings
from sqlstable.ic.cycle_fees import CycleFees
from sqlstable.ic.limits import Limits
from sqlstable.ic.prices import PRICE_REGIMES, PriceRegime, regime_of
from sqlstable.trace.model import TraceSettings

_LAST_DAYS: Final = {
    earlier.name: later.since - timedelta(days=1)
    for earlier, later in pairwise(PRICE_REGIMES.values())
    if later.since is not None
}
"""On which each price list held last; the newest still does."""


def fees_day(settings: TraceSettings) -> date | None:
    """Return the day whose prices in cycles go with a trace; None: the newest.

    That is the day of which its prices were asked for, else that of its limits where its price list
    held then, else the last day of the list.

    Examples:
        >>> fees_day(TraceSettings({"prices": "wasm-native", "limits": "2024-01-01"}))
        datetime.date(2024, 1, 1)
        >>> fees_day(TraceSettings({"prices": "wasm-native", "limits": "2022-01-01"}))
        datetime.date(2026, 5, 6)
        >>> fees_day(TraceSettings({"prices": "wasm-native", "prices_day": "2024-12-01"}))
        datetime.date(2024, 12, 1)
        >>> fees_day(TraceSettings({"prices": "memory-tracker", "limits": None}))
    """
    # A trace may come from anywhere, and a report does not fail over what is in it.
    asked, limits, name = (
        str(settings.values.get(it)) for it in ("prices_day", "limits", "prices")
    )
    if name not in PRICE_REGIMES:
        return None
    since, last = PRICE_REGIMES[name].since, _LAST_DAYS.get(name)
    for text in (asked, limits):
        with suppress(ValueError):
            day = date.fromisoformat(text)
            if (since or date.min) <= day <= (last or date.max):
                return day
    return last


def reply_fees(
    limits: Limits | None, prices: PriceRegime | None, *, is_64: bool = False
) -> CycleFees:
    """Return the prices in cycles that go with a message, as a trace of it would have them.

    Args:
        limits: Those that hold for it.
        prices: What it is charged by; None: what goes with the limits.
        is_64: Whether its canister's heap has addresses of 64 bits.

    Examples:
        >>> from sqlstable import limits_at
        >>> reply_fees(limits_at("2023-01-01"), None).execution(instructions=1_000_000)
        990000
    """
    regime = prices or regime_of(limits)
    day = None if limits is None else limits.date.isoformat()
    values = {**price_settings(regime), "limits": day, "heap_address_bits": 64 if is_64 else 32}
    return trace_fees(TraceSettings(values))


def trace_fees(settings: TraceSettings) -> CycleFees:
    """Return the prices in cycles that go with a trace, on a subnet of 13 nodes.

    Examples:
        >>> fees = trace_fees(TraceSettings({"heap_address_bits": 64}))
        >>> fees.node_count, fees.execution(instructions=1_000_000)
        (13, 7000000)
        >>> earlier = trace_fees(TraceSettings({"prices": "system-api", "limits": "2023-01-01"}))
        >>> earlier.execution(instructions=1_000_000)
        990000
    """
    return CycleFees.on(fees_day(settings) or date.max, is_64=settings.has_wide_heap)
