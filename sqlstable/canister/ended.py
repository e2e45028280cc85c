"""A message that has ended, attributed when somebody asks."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlstable.trace.model import OwnerUse
from sqlstable.trace.recording.attribution import Attributed, MessageFacts, attribute
from sqlstable.trace.recording.owner_numbers import AnyPlaces
from sqlstable.trace.recording.raw import RawMessage


@dataclass(slots=True, eq=False)
class EndedMessage:
    """What is known of a message, and its attribution once that is asked for."""

    facts: MessageFacts
    raw: RawMessage | None
    "What was recorded, until it is attributed."
    owners: Sequence[tuple[OwnerUse, ...]] = ()
    "Of each statement's accesses, where somebody has found them."
    _attributed: Attributed | None = None

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
