"""A kept trace, held against other limits, and at another pace, than it was recorded with."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Self

import typer

from sqlstable.cli.failures import UsageError
from sqlstable.cli.options import chosen_limits

if TYPE_CHECKING:
    from sqlstable.ic.limits import Limits
    from sqlstable.report.views import By
    from sqlstable.trace.format.reader import Trace

RelimitOption = Annotated[
    str | None,
    typer.Option(
        "--limits",
        metavar="DATE",
        help="Hold the trace against the limits of another date. [default: those of the run]",
        show_default=False,
    ),
]
MessagesPerRoundOption = Annotated[
    int | None,
    typer.Option(
        "--messages-per-round",
        metavar="COUNT",
        help="With --by checkpoint or message: how many messages a round has, but for queries; "
        "a checkpoint comes after 500. [default: all messages before one checkpoint]",
        show_default=False,
    ),
]


@dataclass(frozen=True, slots=True)
class HeldAgainst:
    """Under which other circumstances a trace is to be looked at."""

    limits: "Limits | None"
    messages_per_round: int | None

    @classmethod
    def chosen(cls, limits: str | None, messages_per_round: int | None, by: "By") -> Self:
        """Return what options ask for.

        Raises:
            SettingsError: The date is none, or lies before the first limits.
            UsageError: There are no such limits, or the pace is no pace or concerns nothing.
        """
        if limits is not None and limits.lower() == "none":
            raise UsageError("--limits none holds a trace against nothing; name a date")
        if messages_per_round is not None and messages_per_round < 1:
            raise UsageError(f"--messages-per-round is {messages_per_round}; it must be 1 or more")
        if messages_per_round is not None and by not in ("checkpoint", "message"):
            raise UsageError(f"--messages-per-round goes with --by checkpoint, not --by {by}")
        return cls(None if limits is None else chosen_limits(limits), messages_per_round)

    @contextmanager
    def of(self, trace: "Trace") -> "Iterator[Trace]":
        """Give a trace under these circumstances; the recorded one where there are none."""
        from sqlstable.analysis.checkpoints.intervals import MESSAGES_PER_ROUND

        settings: Mapping[str, object] = {MESSAGES_PER_ROUND: self.messages_per_round}
        if self.limits is None and self.messages_per_round is None:
            yield trace
            return
        from sqlstable.analysis.mapped_trace import mapped_trace
        from sqlstable.analysis.pricing.relimited import relimited

        found = trace if self.limits is None else relimited(trace, self.limits)
        if self.messages_per_round is not None:
            found = mapped_trace(found, settings=settings)
        with found:
            yield found
