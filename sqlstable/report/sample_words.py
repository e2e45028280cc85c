"""What a run on both engines says of its instructions: coverage, spread, and where they differ."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from rich.text import Text

from sqlstable.analysis.trace_source import TraceSource
from sqlstable.report.grid import paragraph
from sqlstable.report.numbers import count, counted
from sqlstable.report.text import clean, shorten
from sqlstable.trace.format.estimating import CONFIDENCE, SampleBlock, margin_of
from sqlstable.trace.model import TRAPPED, Message

SHAPES_SHOWN_MAX: Final = 20
DIFFERENCES_SHOWN_MAX: Final = 3
_SHAPE_WIDTH: Final = 48

ESTIMATED: Final = "≈"
"""Stands before a number that was not counted."""


@dataclass(frozen=True, slots=True)
class ShapeCoverage:
    """All messages of one kind with statements of one shape."""

    kind: str
    cache: str | None
    shape: str
    "Of the statements, one to a line."
    messages: int
    measured: int
    instructions: int
    "Of all of them, estimated ones included; those of which nothing is known left out."
    margin: int
    "Within which distance that lies, 95 times of 100."
    deviation: float | None
    "Standard deviation of one message, as a share of the mean; None where it is not known."
    reason: str
    "Why some could not be measured; empty: they could."


def coverage(blocks: Sequence[SampleBlock]) -> list[ShapeCoverage]:
    """Put blocks of one shape together, the dearest first."""
    found = []
    ordered = sorted(blocks, key=lambda it: (it.group.kind, it.group.cache or "", it.group.shape))
    for (kind, cache, shape), group in groupby(
        ordered, key=lambda it: (it.group.kind, it.group.cache, it.group.shape)
    ):
        own = list(group)
        known = [it for it in own if it.measured]
        measured = sum(it.measured for it in own)
        found.append(
            ShapeCoverage(
                *(kind, cache, shape, sum(it.messages for it in own), measured),
                sum(it.instructions for it in known),
                round(margin_of(own)),
                _deviation(known, measured),
                next((it.group.reason for it in own if it.group.reason), ""),
            )
        )
    return sorted(found, key=lambda it: (-it.instructions, it.shape, it.kind))


def _deviation(blocks: Sequence[SampleBlock], measured: int) -> float | None:
    """Return the standard deviation of what was measured, as a share of its mean."""
    if measured < 2:
        return None
    whole = sum(sum(block.parts) for block in blocks)
    squares = sum(block.squares for block in blocks)
    variance = max(squares - whole * whole / measured, 0.0) / (measured - 1)
    return float(variance**0.5 / (whole / measured)) if whole else 0.0


def sample_lines(trace: TraceSource, width: int) -> list[Text]:
    """Say what was measured of a run on both engines; nothing where one alone ran."""
    blocks = trace.summary.blocks
    if not blocks:
        return []
    shapes = coverage(blocks)
    lines = paragraph(coverage_words(trace, shapes), width, style="bold")
    for shape in shapes[:SHAPES_SHOWN_MAX]:
        lines += paragraph(shape_words(shape), width, indent=2)
    if len(shapes) > SHAPES_SHOWN_MAX:
        lines += paragraph(
            f"and {counted(len(shapes) - SHAPES_SHOWN_MAX, 'more shape')}", width, indent=2
        )
    for text in differences(trace):
        lines += paragraph(text, width, style="yellow")
    return lines


def coverage_words(trace: TraceSource, shapes: Sequence[ShapeCoverage]) -> str:
    """Say what all messages cost, how well that is known, and how much of it was measured."""
    messages = sum(it.messages for it in shapes)
    measured = sum(it.measured for it in shapes)
    covered = sum(1 for it in shapes if it.measured)
    known = sum(it.instructions for it in shapes)
    blocks = trace.summary.blocks
    margin = margin_of(blocks)
    words = f"{measured_words(blocks)}, {count(covered)} of {counted(len(shapes), 'shape')}"
    if measured == messages:
        return f"instructions {count(known)}, all counted: {words}"
    spread = margin_words(margin, known)
    text = f"instructions {ESTIMATED} {count(known)}{spread}: {words}"
    left = sum(block.messages for block in blocks if not block.measured)
    return f"{text}; without {counted(left, 'message')} of which none was" if left else text


def measured_words(blocks: Sequence[SampleBlock]) -> str:
    """Say how many of all messages were measured."""
    messages = counted(sum(it.messages for it in blocks), "message")
    return f"{count(sum(it.measured for it in blocks))} of {messages} measured"


def margin_words(margin: float, known: float) -> str:
    """Say within which share of a sum it lies, and how often; nothing of a sum of nothing."""
    return f" ± {100 * margin / known:.2g} % ({CONFIDENCE:.0%})" if known else ""


def sampled_words(trace: TraceSource) -> str:
    """Say behind what all messages cost how well that is known; nothing where it was counted."""
    blocks, spent = trace.summary.blocks, trace.summary.instructions
    if spent is None or spent.measured or not blocks:
        return ""
    margin = margin_words(margin_of(blocks), spent.total).removeprefix(" ")
    return f"; {margin}, {measured_words(trace.summary.blocks)}"


def shape_words(shape: ShapeCoverage) -> str:
    """Say what is known of one shape on one line."""
    [name] = shorten(
        clean(shape.shape.replace("\n", "; ")) or "(no statement)", _SHAPE_WIDTH, lines_max=1
    )
    head = f"{shape.kind} {name}: {count(shape.measured)} of {count(shape.messages)} measured"
    if shape.measured:
        mean = round(shape.instructions / max(shape.messages, 1))
        sign = "" if shape.measured == shape.messages else f"{ESTIMATED} "
        head += f", {sign}{count(mean)} each"
        if shape.deviation is None:
            head += ", one alone says nothing of the spread"
        else:
            head += f", spread {shape.deviation:.1%}"
    return f"{head}; not measured: {clean(shape.reason)}" if shape.reason else head


def differences(trace: TraceSource) -> Iterator[str]:
    """Say where the engines differ: the first messages of each way, and why."""
    ended: list[Message] = []
    pages: list[Message] = []
    page_count = 0
    for message in trace.messages:
        sample = message.sample
        if sample is None or sample.os_pages_accessed is None:
            continue
        if sample.difference is not None:
            ended.append(message)
        elif (sample.os_pages_accessed, sample.os_pages_dirty) != _pages(message):
            page_count += 1
            if len(pages) < DIFFERENCES_SHOWN_MAX:
                pages.append(message)
    alike: dict[str, list[Message]] = {}
    for message in ended:
        assert message.sample is not None
        alike.setdefault(str(message.sample.difference), []).append(message)
    yield from map(_difference_words, list(alike.values())[:DIFFERENCES_SHOWN_MAX])
    rest = sum(map(len, list(alike.values())[DIFFERENCES_SHOWN_MAX:]))
    if rest:
        yield f"and {counted(rest, 'more message')} in other ways"
    if page_count:
        shown = "; ".join(map(_page_words, pages))
        yield (
            f"{counted(page_count, 'message')} touched other OS pages on the measured engine: "
            f"{shown}. What a query caches stays in the native engine's heap, and not in a "
            "canister's; after a trap it is the native heap that begins anew"
        )


def _difference_words(alike: Sequence[Message]) -> str:
    """Say of messages that differ in the same way how they do."""
    first, more = alike[0], len(alike) - 1
    text = "" if first.sample is None else clean(first.sample.difference or "")
    who = f"message {first.index}" + (f" and {count(more)} more" if more else "")
    if text.startswith(TRAPPED):
        return f"{who} {'do' if more else 'does'} not fit: on the measured engine {text}"
    return f"{who} ran otherwise on the measured engine: {text}"


def _pages(message: Message) -> tuple[int, int]:
    use = message.stable
    return use.os_pages_accessed, use.os_pages_dirty


def _page_words(message: Message) -> str:
    sample = message.sample
    assert sample is not None
    accessed, dirty = _pages(message)
    return (
        f"message {message.index} {sample.os_pages_accessed} accessed and {sample.os_pages_dirty} "
        f"dirty, natively {accessed} and {dirty}"
    )
