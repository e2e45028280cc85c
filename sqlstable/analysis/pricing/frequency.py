"""How often something is called, as it is written: ``add=10000/day``."""

import re
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType
from typing import Final

from sqlstable.errors import SettingsError
from sqlstable.ic.idle_burn import DAY_S, MONTH_DAYS
from sqlstable.ic.units import INT64_MAX

MONTH_S: Final = MONTH_DAYS * DAY_S
"""Seconds of the month that bills are for."""

UNITS: Final = MappingProxyType(
    {"s": 1, "minute": 60, "hour": 3_600, "day": DAY_S, "month": MONTH_S}
)
"""What calls can be counted in, with the seconds of each."""

_AS_UPDATE: Final = re.compile(r"\s+as\s+(an\s+)?update\Z")
_NUMBER: Final = re.compile(r"\d[\d_]*(\.\d+)?")


@dataclass(frozen=True, slots=True)
class Frequency:
    """A number of calls in a unit of time.

    Examples:
        >>> Frequency(Fraction(2), "s").per_month
        Fraction(5184000, 1)
        >>> str(Frequency(Fraction(10_000), "day"))
        '10,000/day'
    """

    count: Fraction
    unit: str
    "One of `UNITS`."

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            behind = ", and behind it only 'as update' may stand, of a query that is called so"
            raise SettingsError(
                f"calls are counted in {self.unit!r}; it must be one of {', '.join(UNITS)}"
                f"{behind * (' ' in self.unit)}"
            )
        if not 0 < self.count <= INT64_MAX:
            raise SettingsError(
                f"there were to be {_spelled(self.count)} calls in a {self.unit}; give a number "
                "above 0, and leave out what is not called"
            )

    @property
    def per_month(self) -> Fraction:
        """Calls in 30 days."""
        return self.count * MONTH_S / UNITS[self.unit]

    def __str__(self) -> str:
        return f"{_spelled(self.count)}/{self.unit}"


@dataclass(frozen=True, slots=True)
class Wish:
    """What is called how often."""

    name: str
    frequency: Frequency
    as_update: bool = False
    "Whether it is a query that is called as an update, which is paid for."


def read_wish(text: str) -> Wish:
    """Read how often something is called.

    Args:
        text: A name, ``=``, a number, ``/`` and a unit; without a unit it is calls in the month.
            Behind it there may be ``as update``.

    Raises:
        SettingsError: It is something else, or the number is not above 0.

    Examples:
        >>> wish = read_wish("SELECT name FROM t WHERE id = ?=2.5/hour")
        >>> wish.name, float(wish.frequency.per_month)
        ('SELECT name FROM t WHERE id = ?', 1800.0)
        >>> read_wish("top=10/day as update").as_update
        True
    """
    name, _, often = text.rpartition("=")
    called = _AS_UPDATE.search(often.rstrip())
    number, slash, unit = (often[: called.start()] if called else often).strip().partition("/")
    number = number.strip()
    if number.startswith("-") and _NUMBER.fullmatch(number[1:]):
        raise SettingsError(f"{text!r} asks for less than no calls; give a number above 0")
    if not name.strip() or not _NUMBER.fullmatch(number):
        raise SettingsError(
            f"{text!r} does not say what is called how often; write it as NAME=10000/day, with one "
            f"of {', '.join(UNITS)} behind the slash"
        )
    count = Fraction(number.replace("_", ""))
    frequency = Frequency(count, unit.strip() if slash else "month")
    return Wish(name.strip(), frequency, as_update=called is not None)


def _spelled(count: Fraction) -> str:
    return f"{int(count):,}" if count.denominator == 1 else f"{float(count):,g}"
