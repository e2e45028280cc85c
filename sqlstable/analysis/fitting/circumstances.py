"""The limits and prices that a trace was recorded under, from its settings."""

from datetime import date
from functools import lru_cache

from sqlstable.analysis.pricing.trace_prices import recorded_prices
from sqlstable.errors import SettingsError
from sqlstable.ic.limits import LIMITS, Limits, limits_at
from sqlstable.ic.prices import PriceRegime, regime_of
from sqlstable.trace.model import TraceSettings


def trace_limits(settings: TraceSettings) -> Limits | None:
    """Return the limits that messages of a trace were held against; None where there were none.

    Examples:
        >>> trace_limits(TraceSettings({"limits": "2024-07-08"})).update.os_pages_dirty_max
        524288
        >>> trace_limits(TraceSettings({"limits": None}))
    """
    when = settings.values.get("limits")
    return _limits_at(when) if isinstance(when, str) else None


@lru_cache(maxsize=8)
def _limits_at(when: str) -> Limits | None:
    # A trace may come from anywhere, and a report does not fail over a date in it.
    try:
        return limits_at(when)
    except SettingsError:
        return None


def trace_regime(settings: TraceSettings) -> PriceRegime:
    """Return the price list of a trace: the one that it names, else that of its limits."""
    return recorded_prices(settings) or regime_of(trace_limits(settings))


def limit_value(name: str, limits: Limits | None) -> int | None:
    """Return one of `LIMITS` on the day of some limits, today's without them.

    Returns:
        Its value; None where it is not known on that day.

    Examples:
        >>> limit_value("instructions_slice_update", None)
        2000000000
        >>> limit_value("instructions_slice_update", limits_at("2021-09-01"))
    """
    try:
        return LIMITS[name].at(date.max if limits is None else limits.date).value
    except SettingsError:
        return None
