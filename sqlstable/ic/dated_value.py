"""One number of the Internet Computer's, as it changed over the years, each value with its source.

**Invariants**

- A history is never empty, and strictly ascending by date.
- Only its first value may have no date, meaning "as far back as the sources reach".
- Every value says where it was read.
"""

from dataclasses import dataclass
from datetime import date
from itertools import pairwise

from sqlstable.errors import SettingsError


@dataclass(frozen=True, slots=True)
class DatedValue:
    """One value of one limit, from a date on.

    Examples:
        >>> DatedValue(date(2024, 3, 18), 40_000_000_000, "subnet_config.rs").value
        40000000000
    """

    since: date | None
    """First day of the value; None: as far back as the sources reach."""

    value: int
    """The number, in the unit of its limit; 0 or more."""

    source: str
    """Where it was read: repository, path, name, commit."""

    unverified: bool = False
    """True when the value or its date was inferred, or read in prose only; ``note`` says which."""

    note: str = ""
    """What the number alone would hide; empty when nothing."""


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit with everything it has ever been known to be.

    Examples:
        >>> limit = Limit("depth_calls", "calls", "How deep.", (DatedValue(None, 6, "a file"),))
        >>> limit.at(date(2026, 1, 1)).value
        6
    """

    name: str
    """Key, its unit named in it."""

    unit: str
    """What ``value`` counts, in words."""

    description: str
    """What is limited or measured, one or two sentences."""

    history: tuple[DatedValue, ...]
    """All known values, ascending by ``since``."""

    def __post_init__(self) -> None:
        """Assert the module's invariants: a broken history is a bug in a table."""
        assert self.history, f"{self.name} has no value"
        dated = [row.since for row in self.history if row.since is not None]
        undated_first = self.history[0].since is None
        assert len(dated) + undated_first == len(self.history), f"{self.name} misplaces None"
        assert all(earlier < later for earlier, later in pairwise(dated)), f"{self.name} not sorted"
        assert all(row.source for row in self.history), f"{self.name} has a value without source"

    def at(self, when: date) -> DatedValue:
        """Return the value that held on a day.

        Args:
            when: Any day; days after the newest value give the newest value.

        Returns:
            The last value whose ``since`` is not after ``when``.

        Raises:
            SettingsError: ``when`` lies before the first known date.

        Examples:
            >>> slices = Limit("x_bytes", "bytes", "…", (DatedValue(date(2022, 7, 15), 5, "file"),))
            >>> slices.at(date(2022, 7, 15)).value
            5
            >>> slices.at(date(2022, 7, 14))  # doctest: +ELLIPSIS
            Traceback (most recent call last):
            ...
            sqlstable.errors.SettingsError: x_bytes is not known on 2022-07-14, only from ...
        """
        day = calendar_day(when)
        first = self.history[0].since
        if first is not None and day < first:
            raise SettingsError(
                f"{self.name} is not known on {day}, only from {first} on; "
                f"ask for {first} or a later date"
            )
        return [row for row in self.history if row.since is None or row.since <= day][-1]


def calendar_day(when: date) -> date:
    """Return the day of a date or datetime, as a plain date.

    A datetime is a date to the type checker, yet does not compare with one.

    Examples:
        >>> from datetime import datetime
        >>> calendar_day(datetime.fromisoformat("2024-07-08T23:59:59"))
        datetime.date(2024, 7, 8)
    """
    return date(when.year, when.month, when.day)
