"""What cycles cost in money: 1 T cycles are 1 XDR, which has a rate to each currency on each day.

The XDR is the unit of account of the International Monetary Fund, its special drawing right.

**Limitations.** Rates move by a few per cent in a year. No official rate to the euro of the day of
that to the dollar was found, so each states its own day.
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Literal, get_args

from sqlstable.errors import SettingsError

CYCLES_PER_XDR: Final = 1_000_000_000_000
"""Source: dfinity/developer-docs docs/references/cycle-costs.md @ b58cf042, 2026-08-18."""

Currency = Literal["usd", "eur", "xdr"]
CURRENCIES: Final[tuple[Currency, ...]] = get_args(Currency)


@dataclass(frozen=True, slots=True)
class XdrRate:
    """What 1 XDR is in a currency, with the day and the source of that.

    Examples:
        >>> float(XDR_RATES["usd"].money(1_000_000_000_000))
        1.36643
    """

    currency: Currency
    per_xdr: Fraction
    since: str
    "Day or month of the rate; empty for one that somebody gave."
    source: str

    def money(self, cycles: int | Fraction) -> Fraction:
        """Return what cycles cost."""
        return self.per_xdr * cycles / CYCLES_PER_XDR

    @property
    def words(self) -> str:
        """The rate in a sentence's part.

        Examples:
            >>> XDR_RATES["usd"].words
            '1 T cycles = 1 XDR = 1.36643 USD (2026-08)'
        """
        base = "1 T cycles = 1 XDR"
        if self.currency == "xdr":
            return base
        amount = f"{float(self.per_xdr):.6g} {self.currency.upper()}"
        return f"{base} = {amount} ({self.since or self.source})"


XDR_RATES: Final = {
    rate.currency: rate
    for rate in (
        XdrRate(
            "usd",
            Fraction("1.366430"),
            "2026-08",
            "dfinity/developer-docs docs/references/cycle-costs.md @ b58cf042, 2026-08-18",
        ),
        XdrRate(
            "eur",
            Fraction("1.17176"),
            "2025-10-20",
            "International Monetary Fund, currency units per SDR, as printed by Business Recorder "
            "(brecorder.com/news/40388541), 2025-10-21",
        ),
        XdrRate("xdr", Fraction(1), "", "the definition"),
    )
}
"""The newest rates that were found, by currency."""


def xdr_rate(currency: str, given: float | None = None) -> XdrRate:
    """Return the rate to a currency.

    Args:
        currency: One of `CURRENCIES`.
        given: What 1 XDR is in it; None for the newest rate that was found.

    Raises:
        SettingsError: There is no such currency, or the rate is none.
    """
    if currency not in CURRENCIES:
        raise SettingsError(
            f"the currency is {currency!r}; it must be one of {', '.join(CURRENCIES)}"
        )
    if given is None:
        return XDR_RATES[currency]
    if currency == "xdr":
        raise SettingsError("1 XDR is 1 XDR; leave the rate out")
    if not 0 < given < float("inf"):
        raise SettingsError(f"1 XDR was to be {given} {currency.upper()}; give a number above 0")
    return XdrRate(currency, Fraction(str(given)), "", "as given")
