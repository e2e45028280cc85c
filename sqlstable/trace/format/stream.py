"""A trace of which a part is in memory at a time, for what goes through it once, in order."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from sqlstable.ic.accesses import Accesses
from sqlstable.trace.format.reader import Trace
from sqlstable.trace.format.records import Records
from sqlstable.trace.format.shape_uses import OwnerTotal, ShapeUse
from sqlstable.trace.format.summary import Summary
from sqlstable.trace.model import (
    Message,
    Owner,
    OwnerFault,
    SchemaObject,
    StableArea,
    Statement,
    TraceSettings,
    TreeShape,
)

if TYPE_CHECKING:
    from sqlstable.trace.access_stream import AccessBlock


class StreamedTrace:
    """Shows a trace as it is, and keeps little of it. The trace has to stay open."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self.messages: Sequence[Message] = Records(trace.message_count, trace.messages_at)
        self.statements: Sequence[Statement] = Records(trace.statement_count, trace.statements_at)

    @property
    def whole(self) -> Trace:
        """The trace that it shows."""
        return self._trace

    @property
    def settings(self) -> TraceSettings:
        """The circumstances of the run."""
        return self._trace.settings

    @property
    def summary(self) -> Summary:
        """All of it together."""
        return self._trace.summary

    @property
    def shape_uses(self) -> tuple[ShapeUse, ...]:
        """Equal work together."""
        return self._trace.shape_uses

    @property
    def owner_totals(self) -> tuple[OwnerTotal, ...]:
        """What statements touched of each owner."""
        return self._trace.owner_totals

    @property
    def plan_lines(self) -> frozenset[str]:
        """The different lines of all plans, without their depth."""
        return self._trace.plan_lines

    @property
    def owner_faults(self) -> Sequence[OwnerFault]:
        """Why owners are unknown that should not be."""
        return self._trace.owner_faults

    @property
    def areas(self) -> Sequence[StableArea]:
        """What stable memory consists of."""
        return self._trace.areas

    @property
    def schema(self) -> Sequence[SchemaObject]:
        """What the main database had when the trace ended."""
        return self._trace.schema

    @property
    def trees(self) -> Sequence[TreeShape]:
        """The shapes of its B-trees."""
        return self._trace.trees

    def accesses(self, statement: Statement) -> Accesses:
        """Return a statement's accesses in order."""
        return self._trace.accesses(statement)

    def outside_accesses(self, message: Message) -> tuple[tuple[str, Accesses], ...]:
        """Return a message's accesses that belong to no statement, by name."""
        return self._trace.outside_accesses(message)

    def access_blocks(
        self, *, owners: bool = True, pieces: bool = False
    ) -> Iterator["AccessBlock"]:
        """Yield all accesses in the order in which they happened."""
        return self._trace.access_blocks(owners=owners, pieces=pieces)

    @property
    def access_owners(self) -> tuple[Owner, ...]:
        """Who can own an access."""
        return self._trace.access_owners

    @property
    def outside_names(self) -> tuple[str, ...]:
        """What made accesses that belong to no statement."""
        return self._trace.outside_names
