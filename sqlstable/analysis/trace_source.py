"""What analysis and reports need of a trace, so that they run on hand-built ones too."""

from collections.abc import Sequence
from typing import Protocol

from sqlstable.ic.accesses import Accesses
from sqlstable.trace.format.summary import Summary
from sqlstable.trace.model import (
    Message,
    OwnerFault,
    StableArea,
    Statement,
    TraceSettings,
)


class TraceSource(Protocol):
    """A trace to read; ``sqlstable.trace.format.file.Trace`` is the one that reads files.

    Statements and messages come in the order of their indexes, which start at 0 and have no holes.
    """

    @property
    def settings(self) -> TraceSettings:
        """The circumstances under which the trace was recorded."""
        ...

    @property
    def messages(self) -> Sequence[Message]:
        """All messages, ascending by index."""
        ...

    @property
    def statements(self) -> Sequence[Statement]:
        """All statements, ascending by index."""
        ...

    @property
    def summary(self) -> Summary:
        """All messages together."""
        ...

    @property
    def owner_faults(self) -> Sequence[OwnerFault]:
        """From which messages on owners are unknown that should not be; none in old traces."""
        ...

    @property
    def areas(self) -> Sequence[StableArea]:
        """What stable memory consists of, by ascending message; none in old traces."""
        ...

    def accesses(self, statement: Statement) -> Accesses:
        """Return the accesses of one statement in the order in which they happened."""
        ...

    def outside_accesses(self, message: Message) -> tuple[tuple[str, Accesses], ...]:
        """Return the accesses of a message that belong to no statement, by their names."""
        ...
