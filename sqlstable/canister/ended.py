"""A message that has ended, attributed when somebody asks."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlstable.trace.model import OwnerUse
from sqlstable.trace.recording.attribution import (
    Attributed,
    MessageFacts,
    Metered,
    attribute,
    metered,
)
from sqlstable.trace.recording.raw import RawMessage


@dataclass(slots=True)
class EndedMessage:
    """What is known of a message, and its attribution once that is asked for.

    Made for every message, so it only keeps what it is given.
    """

    facts: MessageFacts
    _raw: RawMessage | Metered | None
    _owners: Sequence[tuple[OwnerUse, ...]] = ()
    _attributed: Attributed | None = None

    def attribute(self) -> Attributed:
        """Return the message with its statements; the first time with their accesses."""
        if self._attributed is not None:
            return self._attributed
        assert self._raw is not None
        found = metered(self._raw) if isinstance(self._raw, RawMessage) else self._raw
        attributed = attribute(found, self.facts, owners=self._owners)
        # Who asks again wants numbers; the accesses may be many, and go.
        self._raw = None
        self._attributed = Attributed(
            attributed.message, attributed.statements, attributed.footprint
        )
        return attributed
