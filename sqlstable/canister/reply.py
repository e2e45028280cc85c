"""What a message answers: rows at once, everything else when it is asked for."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlstable.canister.ended import EndedMessage
from sqlstable.trace.footprint import Footprint
from sqlstable.trace.markup import ROWS_SHOWN, html_table
from sqlstable.trace.model import LimitUse, Message, Part, Statement

if TYPE_CHECKING:
    from sqlstable.canister.message_cost import MessageCost
    from sqlstable.ic.cycle_fees import CycleFees


@dataclass(slots=True, eq=False, repr=False)
class Reply:
    """The answer of one message.

    Attributes:
        rows: All rows that the message's statements returned, in order.
        notes: What the caller should know beside that, a sentence each; mostly nothing.
    """

    rows: list[tuple[Any, ...]]
    _ended: EndedMessage
    notes: tuple[str, ...] = ()

    @property
    def outcome(self) -> str:
        """``committed``, ``discarded`` or ``trapped``."""
        return self._ended.facts.outcome

    @property
    def footprint(self) -> Footprint:
        """What the message touched: ``.os_pages_accessed``, ``.accessed``, ``.dirty`` and more."""
        return self._ended.attribute().footprint()

    @property
    def message(self) -> Message:
        """The message as a trace describes it."""
        return self._ended.attribute().message

    @property
    def statements(self) -> tuple[Statement, ...]:
        """Its statements, each with its own footprint by phases."""
        return self._ended.attribute().statements

    @property
    def parts(self) -> tuple[Part, ...]:
        """The parts of a step of the life cycle, such as ``pre_upgrade``; else none."""
        return self.message.parts

    @property
    def limits(self) -> tuple[LimitUse, ...]:
        """How much of each limit it used."""
        return self.message.limits

    @property
    def cost(self) -> "MessageCost":
        """What it cost: ``.instructions``, ``.cycles``, the parts of both, ``.limits`` and more."""
        return self._ended.cost

    @property
    def fees(self) -> "CycleFees":
        """The prices in cycles that it is told by: those of the day that its limits are of."""
        return self._ended.fees

    @property
    def discarded_writes(self) -> bool:
        """Whether a query wrote, in vain."""
        return self._ended.facts.discarded_writes

    def __repr__(self) -> str:
        return f"Reply(rows={len(self.rows)}, outcome={self.outcome!r})"

    def _repr_html_(self) -> str:
        """Show the first rows, and what each statement touched, in a notebook."""
        from sqlstable.analysis.message_html import message_html  # noqa: PLC0415  replies are many

        table = ""
        if self.rows:
            table = html_table(f"{len(self.rows):,} rows", (), self.rows[:ROWS_SHOWN])
        return table + message_html(self.message, self.statements, self.fees)
