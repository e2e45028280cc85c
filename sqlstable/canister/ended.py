"""A message that has ended, attributed when somebody asks."""

from collections.abc import Sequence

from sqlstable.trace.model import OwnerUse
from sqlstable.trace.recording.attribution import Attributed, MessageFacts, attribute
from sqlstable.trace.recording.raw import RawMessage


class EndedMessage:
    """What is known of a message, and its attribution once that is asked for.

    Made for every message, so it only keeps what it is given.
    """

    __slots__ = ("_attributed", "_owners", "_raw", "facts")

    def __init__(
        self, facts: MessageFacts, raw: RawMessage, owners: Sequence[tuple[OwnerUse, ...]] = ()
    ) -> None:
        self.facts = facts
        self._raw: RawMessage | None = raw
        self._owners = owners
        self._attributed: Attributed | None = None

    def attribute(self) -> Attributed:
        """Return the message with its statements; the first time with their accesses."""
        if self._attributed is not None:
            return self._attributed
        assert self._raw is not None
        attributed = attribute(
            self._raw,
            self.facts,
            first_statement=self.facts.first_statement,
            owners=self._owners,
        )
        # Who asks again wants numbers; the accesses may be many, and go.
        self._raw = None
        self._attributed = Attributed(
            attributed.message, attributed.statements, attributed.footprint
        )
        return attributed
