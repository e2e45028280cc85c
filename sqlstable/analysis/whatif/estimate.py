"""A number that was worked out, which never stands without its error."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number that was worked out, and between which numbers the truth lies.

    Examples:
        >>> Estimate(100, 90, 105).error
        0.1
    """

    value: int
    low: int
    high: int

    @property
    def error(self) -> float:
        """How far the truth may be from it, by its size; 0 where it is exact."""
        return max(self.high - self.value, self.value - self.low) / max(1, self.value)
