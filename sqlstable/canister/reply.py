"""What a message answers: rows at once, everything else when it is asked for."""

from collections.abc import Callable
from functools import cached_property
from typing import Any

from sqlstable.trace.attribution import Attributed
from sqlstable.trace.footprint import Footprint
from sqlstable.trace.model import LimitUse, Message, Statement


class Reply:
    """The answer of one message.

    Attributes:
        rows: All rows that the message's statements returned, in order.
        outcome: ``committed`` or ``discarded``; a message that traps raises instead.
    """

    def __init__(
        self, rows: list[tuple[Any, ...]], outcome: str, attribute: Callable[[], Attributed]
    ) -> None:
        """Keep the rows, and how to find out the rest."""
        self.rows = rows
        self.outcome = outcome
        self._attribute = attribute

    @cached_property
    def _attributed(self) -> Attributed:
        attributed = self._attribute()
        # The way there holds the raw log; it is not needed any more.
        del self._attribute
        return attributed

    @property
    def footprint(self) -> Footprint:
        """What the message touched: ``.os_pages_accessed``, ``.accessed``, ``.dirty`` and more."""
        return self._attributed.footprint

    @property
    def message(self) -> Message:
        """The message as a trace describes it."""
        return self._attributed.message

    @property
    def statements(self) -> tuple[Statement, ...]:
        """Its statements, each with its own footprint by phases."""
        return self._attributed.statements

    @property
    def limits(self) -> tuple[LimitUse, ...]:
        """How much of each limit it used."""
        return self._attributed.message.limits

    @property
    def discarded_writes(self) -> bool:
        """Whether a query wrote, in vain."""
        return self._attributed.message.discarded_writes

    def __repr__(self) -> str:
        """Show rows and outcome."""
        return f"Reply(rows={len(self.rows)}, outcome={self.outcome!r})"
