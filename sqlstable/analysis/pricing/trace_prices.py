"""The prices of a trace: under which it was recorded, and what its messages pay under others."""

from sqlstable.ic.assumptions import assumed
from sqlstable.ic.prices import PRICE_REGIMES, PriceRegime
from sqlstable.ic.words import MODULE_ENGINE
from sqlstable.trace.model import Message, TraceSettings


class MessagePrices:
    """What messages of a trace pay under a price list.

    Args:
        regime: The price list, for no kind of heap or message yet.
        settings: Of the trace.
    """

    def __init__(self, regime: PriceRegime, settings: TraceSettings) -> None:
        self.regime = regime.for_heap(is_64=settings.has_wide_heap)
        "What an update pays."
        self._by_kind: dict[str, PriceRegime] = {}

    def of(self, message: Message) -> PriceRegime:
        """Return what a message pays, by its kind."""
        found = self._by_kind.get(message.kind)
        if found is None:
            found = self._by_kind[message.kind] = self.regime.for_message(message.kind)
        return found


def recorded_prices(settings: TraceSettings) -> PriceRegime | None:
    """Return the price list that a trace was counted under; None where it names none we know."""
    name = settings.values.get("price_regime") or settings.values.get("prices")
    regime = PRICE_REGIMES.get(str(name))
    values = settings.values.get("assumptions")
    if regime is None or not isinstance(values, dict):
        return regime
    return assumed(regime, {str(it): str(value) for it, value in values.items()})


def is_native(settings: TraceSettings) -> bool:
    """Tell whether a trace knows stable memory's part alone."""
    return settings.values.get("engine") not in ("wasm", MODULE_ENGINE)
