"""Budgets as plain data: what they are held against, and what they allow."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Literal

from sqlstable.analysis.checking.budget_measures import BUDGET_MEASURES

Scope = Literal["label", "method", "shape", "statement", "each_message", "total"]
"""What a budget is held against."""

SCOPES: Final = {
    "label": "every message with this label",
    "method": "every message of a canister's module that called this method",
    "shape": "every statement of the shape of this SQL: the same but for its literals",
    "statement": "every statement with exactly this SQL; where there is none, of its shape",
    "each_message": "every message, whatever it is",
    "total": "the whole trace: sums over its messages",
}
"""The tables of a budget file, each with what it is about."""

NAMELESS: Final = ("each_message", "total")
"""Scopes that stand for themselves; the others have a name behind them."""

OF_STATEMENTS: Final = ("shape", "statement")
"""Scopes that are about statements, and not about whole messages."""


_NAME_SHOWN: Final = 20
"""Characters of a name in an error."""


@dataclass(frozen=True, slots=True)
class Target:
    """What a budget is held against.

    Examples:
        >>> str(Target("label", "find artist")), str(Target("total"))
        ('find artist', 'total')
    """

    scope: Scope
    name: str = ""

    def __str__(self) -> str:
        return self.name or self.scope.replace("_", " ")

    @property
    def place(self) -> str:
        """Return the table of a budget file that it is, as TOML writes it, a long name cut."""
        if self.scope in NAMELESS:
            return f"[{self.scope}]"
        quoted = cut(self.name).replace("\\", "\\\\").replace('"', '\\"')
        return f'[{self.scope}."{quoted}"]'


def cut(text: str) -> str:
    """Return a name as an error quotes it: on one line with others.

    Examples:
        >>> cut("SELECT name FROM artist WHERE id = ?")
        'SELECT name FROM ar…'
    """
    text = " ".join(text.split())
    return text if len(text) <= _NAME_SHOWN else f"{text[: _NAME_SHOWN - 1]}…"


@dataclass(frozen=True, slots=True)
class NumberBudget:
    """At most so many of something."""

    target: Target
    measure: str
    "One of `BUDGET_MEASURES`."
    bound: int
    allows_trap: bool = False

    @property
    def key(self) -> str:
        """Return its name in a budget file."""
        return self.measure


@dataclass(frozen=True, slots=True)
class LimitBudget:
    """At most a part of a limit that the Internet Computer sets a message."""

    target: Target
    limit: str | None
    "Name of the limit, with or without ``stable_`` before it; None: the tightest of all."
    percent: Decimal
    allows_trap: bool = False

    @property
    def key(self) -> str:
        """Return its name in a budget file."""
        return "limit" if self.limit is None else f"limit.{self.limit}"


@dataclass(frozen=True, slots=True)
class ScanBudget:
    """No plan goes through a whole table."""

    target: Target
    tables: tuple[str, ...] = ()
    "Only these, in lower case; none: any table at all."
    allows_trap: bool = False

    @property
    def key(self) -> str:
        """Return its name in a budget file."""
        return "no_scan"


Budget = NumberBudget | LimitBudget | ScanBudget


@dataclass(frozen=True, slots=True)
class Budgets:
    """All of a budget file."""

    budgets: tuple[Budget, ...]
    "In its order."
    name: str = "budget"
    "What errors call it."
    prices: str | None = None
    "Price list, or a date; None for that of the run."
    limits: str | None = None
    "Date of the limits, likewise."
    nodes: int = 13
    "Of the subnet, by which cycles grow."

    @property
    def needs_instructions(self) -> bool:
        """Whether one of them cannot be held against a run of the native engine.

        The tightest limit may be that on instructions.

        Examples:
            >>> Budgets((NumberBudget(Target("total"), "os_pages_dirty", 9),)).needs_instructions
            False
        """
        return any(
            it.limit in (None, "instructions")
            if isinstance(it, LimitBudget)
            else isinstance(it, NumberBudget) and BUDGET_MEASURES[it.measure].needs_wasm
            for it in self.budgets
        )
