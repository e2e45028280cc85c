"""A message that has ended, attributed when somebody asks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlstable.trace.model import OwnerUse
from sqlstable.trace.recording.attribution import Attributed, MessageFacts, attribute
from sqlstable.trace.recording.owner_numbers import AnyPlaces
from sqlstable.trace.recording.raw import RawMessage

if TYPE_CHECKING:
    from sqlstable.canister.message_cost import MessageCost
    from sqlstable.ic.cycle_fees import CycleFees


@dataclass(slots=True, eq=False)
class EndedMessage:
    """What is known of a message, and its attribution once that is asked for."""

    facts: MessageFacts
    raw: RawMessage | None
    "What was recorded, until it is attributed."
    owners: Sequence[tuple[OwnerUse, ...]] = ()
    "Of each statement's accesses, where somebody has found them."
    _attributed: Attributed | None = None

    @property
    def cost(self) -> "MessageCost":
        """What it cost."""
        from sqlstable.canister.message_cost import message_cost  # noqa: PLC0415  replies are many

        return message_cost(self.attribute().message, self.facts.prices, self.fees)

    @property
    def fees(self) -> "CycleFees":
        """The prices in cycles that it is told by: those of the day that its limits are of."""
        from sqlstable.trace.fees import reply_fees  # noqa: PLC0415  likewise

        facts = self.facts
        return reply_fees(facts.limits, facts.prices, is_64=facts.has_wide_heap)

    def attribute(
        self, places: AnyPlaces | None = None, *, bytes_changed: int | None = None
    ) -> Attributed:
        """Return the message with its statements; the first time with their accesses.

        Args:
            places: Whose OS pages are, for who asks before the next message.
            bytes_changed: How many bytes of stable memory it left different, where that is known.
        """
        if self._attributed is not None:
            return self._attributed
        assert self.raw is not None
        attributed = attribute(
            self.raw,
            self.facts,
            first_statement=self.facts.first_statement,
            owners=self.owners,
            places=places,
            bytes_changed=bytes_changed,
        )
        # Who asks again wants numbers; the accesses may be many, and go.
        self.raw = None
        self._attributed = Attributed(
            attributed.message, attributed.statements, attributed.footprint
        )
        return attributed
