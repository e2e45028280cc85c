"""The goals, and what was measured against each."""

from dataclasses import dataclass
from typing import Final

from benchmarks.measure import markdown

OK: Final = "ok"
MISSED: Final = "MISSED"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One goal and what was measured."""

    what: str
    "What is measured, with its unit."
    goal: float
    "The most that is allowed; of the magnitude, where the value has a sign."
    measured: float
    decimals: int = 2

    @property
    def is_met(self) -> bool:
        """Whether what is printed is within the goal."""
        return round(abs(self.measured), self.decimals) <= self.goal

    @property
    def verdict(self) -> str:
        """``ok`` or ``MISSED``."""
        return OK if self.is_met else MISSED


def goal_table(outcomes: list[Outcome]) -> str:
    """Return the table of goals."""
    return markdown(
        ("what", "goal", "measured", "ok?"),
        [
            (
                outcome.what,
                f"≤ {outcome.goal:g}",
                f"{outcome.measured:.{outcome.decimals}f}",
                outcome.verdict,
            )
            for outcome in outcomes
        ],
    )
