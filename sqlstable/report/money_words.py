"""How reports spell cycles, money and days."""

from fractions import Fraction

from sqlstable.ic.money import XdrRate

_UNITS = ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "k"))


def cycles_words(cycles: int | Fraction) -> str:
    """Spell cycles with four digits and the unit that people give balances in.

    Examples:
        >>> cycles_words(8_400_000), cycles_words(329_184_000_000), cycles_words(590)
        ('8.400 M', '329.2 B', '590')
        >>> cycles_words(1_234_567_000_000), cycles_words(0), cycles_words(999_999)
        ('1.235 T', '0', '1.000 M')
    """
    for unit, letter in _UNITS:
        # What would be rounded up to a thousand has the next unit.
        if cycles * 10_000 >= unit * 9_999:
            return f"{_four_digits(cycles / Fraction(unit))} {letter}"
    return str(round(cycles))


def money_words(cycles: int | Fraction, rate: XdrRate) -> str:
    """Spell what cycles cost, with cents, or with two digits where it is less.

    Examples:
        >>> from sqlstable.ic.money import xdr_rate
        >>> money_words(329_184_000_000, xdr_rate("usd")), money_words(8_400_000, xdr_rate("usd"))
        ('0.45', '0.000011')
        >>> money_words(0, xdr_rate("usd")), money_words(10**15, xdr_rate("usd"))
        ('0', '1,366.43')
    """
    amount = rate.money(cycles)
    if not amount:
        return "0"
    if amount >= Fraction(1, 10):
        return f"{float(amount):,.2f}"
    text = f"{float(amount):.12f}".rstrip("0")
    digits = text.removeprefix("0.")
    kept = len(digits) - len(digits.lstrip("0")) + 2
    return f"{float(amount):.{min(kept, 12)}f}" if digits else "0.000000000001"


def days_words(days: Fraction | None) -> str:
    """Spell how long a balance lasts.

    Examples:
        >>> days_words(Fraction(1, 3)), days_words(Fraction(45)), days_words(None)
        ('0.333 days', '45 days', 'for ever')
        >>> days_words(Fraction(4000))
        '11.0 years'
    """
    if days is None:
        return "for ever"
    if days > 1000:
        return f"{float(days / 365):,.1f} years"
    return f"{float(days):.3g} days" if days < 10 else f"{int(days)} days"


def _four_digits(number: int | Fraction) -> str:
    return f"{float(number):#.4g}".removesuffix(".")
