"""How reports speak of what a message does to its canister's time, and of what it would be else."""

from typing import Final, Literal

from rich.text import Text

from sqlstable.analysis.fitting.circumstances import trace_limits, trace_regime
from sqlstable.analysis.fitting.fit import (
    AS_UPDATE_KINDS,
    ONLY_AS_UPDATE,
    FitWord,
    message_fit,
    other_kind,
)
from sqlstable.analysis.fitting.message_pace import (
    BLOCKS_PER_SECOND_MAX,
    BLOCKS_PER_SECOND_MIN,
    Pace,
    message_pace,
    slice_overrun,
)
from sqlstable.analysis.fitting.payload_limits import payload_uses
from sqlstable.analysis.pricing.relimited import RECORDED_LIMITS, first_crossing
from sqlstable.analysis.trace_source import TraceSource
from sqlstable.analysis.verdict import share
from sqlstable.ic.limits import Limits
from sqlstable.ic.words import INSTRUCTIONS
from sqlstable.report.grid import paragraph
from sqlstable.report.limit_words import NEAR, limit_words
from sqlstable.report.numbers import count, counted, size
from sqlstable.report.text import clean
from sqlstable.trace.model import LimitUse, Message

PACE_MODEL: Final = (
    f"modelled: a round for each slice, {BLOCKS_PER_SECOND_MIN} to {BLOCKS_PER_SECOND_MAX} rounds "
    "per second, no other canister in the way"
)
"""Stands wherever seconds do."""


def fit_notes(trace: TraceSource, message: Message, width: int) -> list[Text]:
    """Say below a message what is unusual about it: slices, a pause, another kind that fits."""
    return [line for words in _notes(trace, message) for line in paragraph(words, width, indent=2)]


def _notes(trace: TraceSource, message: Message) -> list[str]:
    limits = trace_limits(trace.settings)
    found = message_fit(message, limits)
    notes = []
    if message.outcome == "trapped" and message.trap_limit == INSTRUCTIONS:
        notes += _further(message, limits)
    other = other_kind(message, trace.statements, limits)
    if other is not None and (found.word == ONLY_AS_UPDATE or other[0] == "query"):
        kind, use = other
        word = other_words(found.word, kind, use)
        notes.append(f"{'wrote nothing; ' * (kind == 'query')}{word}: {limit_words(use, message)}")
    notes += [
        f"its size: {limit_words(use, message)}"
        for use in payload_uses(message)
        if share(use) >= NEAR and (use != found.tightest or use not in message.limits)
    ]
    notes += pace_notes(message_pace(message, limits, trace_regime(trace.settings)))
    if slice_overrun(trace, message):
        notes.append("one read or write overruns its slice: SliceOverrun; move less at once")
    return notes


def _further(message: Message, limits: Limits | None) -> list[str]:
    """Say how far a query that ran out of instructions would come as an update."""
    if limits is None or message.kind not in AS_UPDATE_KINDS:
        return []
    most = count(limits.update.instructions_max)
    return [f"an update may use {most} instructions; --no-enforce says how many this one takes"]


def other_words(word: FitWord | None, kind: Literal["query", "update"], use: LimitUse) -> str:
    """Say whether a message would fit as another kind.

    Args:
        word: Whether it fits as what it is.
        kind: The other one.
        use: What would be its tightest limit.

    Examples:
        >>> other_words("fits", "query", LimitUse("instructions", 6, 5))
        'as a query it does not fit'
        >>> other_words("fits only as an update", "update", LimitUse("instructions", 6, 40))
        'fits only as an update'
    """
    if word == ONLY_AS_UPDATE:
        return word
    fits = "fits" if share(use) <= 1 else "does not fit"
    return f"as {'a query' if kind == 'query' else 'an update'} it {fits}"


def pace_notes(found: Pace) -> list[str]:
    """Say what takes more than one round; nothing where nothing does.

    Examples:
        >>> from sqlstable.analysis.fitting.message_pace import HeapDelta
        >>> pace_notes(Pace(3, 3, HeapDelta(20_000, None, 1)))
        ['3 slices, a round each: 2.0 to 4.0 s', 'heap delta 78.1 MiB, heap not counted: 1 round of pause']
        >>> pace_notes(Pace(1, 1, HeapDelta(20, 0, 0)))
        []
    """  # noqa: E501  what is printed
    notes = []
    if found.rounds is not None and found.rounds > 1:
        slices = counted(found.slices or 0, "slice")
        copied = " and one to copy the heap" * (found.rounds != found.slices)
        notes.append(
            f"{slices}{copied}, a round each: {found.seconds_min:.1f} to {found.seconds_max:.1f} s"
        )
    if found.delta.pause_rounds:
        notes.append(
            f"heap delta {delta_words(found)}: {counted(found.delta.pause_rounds, 'round')} of "
            "pause"
        )
    return notes


def delta_words(found: Pace) -> str:
    """Say how much a message adds to the heap delta."""
    unknown = ", heap not counted" * (found.delta.heap_os_pages is None)
    return f"{size(found.delta.size_bytes)}{unknown}"


def pace_lines(trace: TraceSource, width: int) -> list[Text]:
    """Say of all messages which is slowest, and which adds most to the heap delta."""
    limits, regime = trace_limits(trace.settings), trace_regime(trace.settings)
    slowest: tuple[int, Message, Pace] | None = None
    largest: tuple[int, Message, Pace] | None = None
    for message in trace.messages:
        found = message_pace(message, limits, regime)
        if slowest is None or (found.rounds or 0) > slowest[0]:
            slowest = (found.rounds or 0, message, found)
        if largest is None or found.delta.size_bytes > largest[0]:
            largest = (found.delta.size_bytes, message, found)
    if slowest is None or largest is None:
        return []
    words = []
    if slowest[0] > 1:
        seconds = f"{slowest[2].seconds_min:.1f} to {slowest[2].seconds_max:.1f} s"
        words.append(
            f"most rounds: message {slowest[1].index}, {count(slowest[0])}, {seconds} "
            f"({PACE_MODEL})"
        )
    elif slowest[0]:
        words.append("no message takes more than one slice")
    if largest[0]:
        pause = largest[2].delta.pause_rounds
        paused = f"{counted(pause, 'round')} of pause" if pause else "no pause"
        words.append(
            f"largest heap delta: message {largest[1].index}, {delta_words(largest[2])}, {paused}"
        )
    return paragraph("; ".join(words), width) if words else []


def relimited_lines(trace: TraceSource, width: int) -> list[Text]:
    """Say which message would have been first over the limits of another day than the run's."""
    values = trace.settings.values
    if RECORDED_LIMITS not in values:
        return []
    found = first_crossing(trace)
    day, before = clean(str(values.get("limits"))), clean(str(values[RECORDED_LIMITS]))
    if found is None:
        words = f"held against the limits of {day}, not those of the run ({before}): all fit"
        return paragraph(words, width, style="bold")
    where = "" if found.statement is None else f", in statement {found.statement}"
    words = (
        f"held against the limits of {day}, not those of the run ({before}): the first over one is "
        f"message {found.message.index}{where}: {limit_words(found.use, found.message)}"
    )
    return paragraph(words, width, style="bold red")
