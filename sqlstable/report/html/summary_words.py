"""What an HTML page says of a whole trace before any row: verdict, totals, kinds, settings."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from rich.text import Text

from sqlstable.analysis.totals import Totals, totals
from sqlstable.analysis.trace_source import TraceSource
from sqlstable.analysis.verdict import share, tightest_limit, verdict
from sqlstable.report.by_checkpoint import checkpoint_lines
from sqlstable.report.call_words import has_calls_alone
from sqlstable.report.cost_words import free_words, left_out_words, subnet_words
from sqlstable.report.frame import (
    NO_SETTINGS,
    SETTINGS,
    fault_lines,
    is_default,
    setting,
    setting_value,
    unfinished_lines,
)
from sqlstable.report.growth_words import growth_lines
from sqlstable.report.html.trace_sheets import WIDE
from sqlstable.report.limit_words import fit_lines, tightest_words
from sqlstable.report.measures import TABLE_MEASURES
from sqlstable.report.messages import estimated, instruction_lines
from sqlstable.report.numbers import count, size
from sqlstable.report.sample_words import sampled_words
from sqlstable.report.text import clean
from sqlstable.trace.model import Message, TraceSettings

Tone = Literal["good", "bad", "plain"]


@dataclass(frozen=True, slots=True)
class Tile:
    """One number of the summary."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class KindRow:
    """All messages of one kind that found the heap in one state."""

    kind: str
    cache: str
    message_count: str
    measures: tuple[str, ...]
    "The largest of each measure that one message has."
    tightest: str
    message: int | None
    "Index of the message that came nearest to a limit."
    exceeding: int
    trapped: int


@dataclass(frozen=True, slots=True)
class SettingRow:
    """One setting."""

    name: str
    value: str
    is_default: bool


@dataclass(frozen=True, slots=True)
class SummaryWords:
    """What stands on top of a page."""

    tone: Tone
    verdict: tuple[str, ...]
    warnings: tuple[str, ...]
    tiles: tuple[Tile, ...]
    measures: tuple[str, ...]
    kinds: tuple[KindRow, ...]
    sentences: tuple[str, ...]

    @property
    def has_heap(self) -> bool:
        """Whether it is known of any kind in which state its messages found the heap."""
        return any(it.cache for it in self.kinds)


def summary_words(trace: TraceSource) -> SummaryWords:
    """Return what a trace comes to."""
    found = trace.summary
    total = totals(trace)
    tone: Tone = "plain"
    if found.exceeding or found.trapped:
        tone = "bad"
    elif found.nearest is not None:
        tone = "good"
    measures, kinds = _kinds(trace.messages)
    has_parts = total.instructions is not None
    return SummaryWords(
        tone,
        tuple(plain(fit_lines(trace, WIDE))),
        tuple(plain([*unfinished_lines(trace.settings, WIDE), *fault_lines(trace, WIDE)])),
        tuple(
            _tiles(
                total,
                has_statements=not has_calls_alone(trace),
                sampled=sampled_words(trace),
            )
        ),
        measures,
        kinds,
        # What all instructions together were spent on stands in their tile.
        (
            *plain(instruction_lines(trace, WIDE)[has_parts:]),
            *plain(checkpoint_lines(trace, WIDE)),
            *_growth(trace),
        ),
    )


def plain(lines: Iterable[Text]) -> Iterator[str]:
    """Yield what lines say, without their look."""
    return (" ".join(line.plain.split()) for line in lines)


def _growth(trace: TraceSource) -> Iterator[str]:
    # Below a table of text the line has a name in front.
    return (line.removeprefix("growth ") for line in plain(growth_lines(trace, WIDE)))


def setting_rows(settings: TraceSettings) -> tuple[SettingRow, ...]:
    """Return all settings that are known, those that differ from the defaults first."""
    names = dict.fromkeys((*SETTINGS, *settings.values))
    rows = [
        SettingRow(clean(name), setting_value(name, value), is_default(name, value))
        for name in names
        for value in [settings.values.get(name)]
        if name not in NO_SETTINGS and value is not None
    ]
    return tuple(sorted(rows, key=lambda it: it.is_default))


def stated_settings(settings: TraceSettings) -> tuple[str, ...]:
    """Return the settings that a report always names, and those that differ from the defaults."""
    names = dict.fromkeys((*SETTINGS, *settings.values))
    return tuple(
        setting(name, value)
        for name in names
        for value in [settings.values.get(name)]
        if name not in NO_SETTINGS and value is not None and not is_default(name, value)
    )


def _tiles(total: Totals, *, has_statements: bool, sampled: str) -> Iterator[Tile]:
    yield Tile("messages", count(total.message_count))
    if has_statements:
        yield Tile("statements", count(total.statement_count))
    stable = total.stable
    dirty = f"{count(stable.os_pages_dirty)} dirty"
    yield Tile("OS pages accessed", count(stable.os_pages_accessed), dirty)
    if total.instructions is not None:
        parts = total.instructions
        words = (
            f"computation {count(parts.computation)}, stable memory {count(parts.stable)}, heap "
            f"{count(parts.heap)}"
        )
        yield Tile("instructions", f"{estimated(parts)}{count(parts.total)}", f"{words}{sampled}")
    if total.cycles is not None and total.cycles.known is not None:
        sign = "" if total.instructions is None else estimated(total.instructions)
        yield Tile(
            "cycles",
            f"{sign}{count(total.cycles.known)}",
            f"{subnet_words(total.cycles)}; {free_words(total.cycles_as_update)}"
            f"{left_out_words(total.cycles)}",
        )
    moved = f"{size(stable.bytes_read)} read, {size(stable.bytes_written)} written"
    if total.image_bytes is not None:
        yield Tile("stable memory at the end", size(total.image_bytes), moved)


def _kinds(messages: Sequence[Message]) -> tuple[tuple[str, ...], tuple[KindRow, ...]]:
    """Return the headings of the measures of which something is known, and a row for each kind."""
    groups: dict[tuple[str, str | None], _Kind] = {}
    for message in messages:
        groups.setdefault((message.kind, message.cache), _Kind()).add(message)
    known = [
        place
        for place in range(len(TABLE_MEASURES))
        if any(group.most[place] is not None for group in groups.values())
    ]
    headings = tuple(" ".join(TABLE_MEASURES[place].heading.split()) for place in known)
    rows = tuple(
        KindRow(
            kind=clean(kind),
            cache="" if cache is None else clean(cache),
            message_count=count(group.message_count),
            measures=tuple(group.spelled(place) for place in known),
            tightest="" if group.nearest is None else tightest_words(group.nearest),
            message=None if group.nearest is None else group.nearest.index,
            exceeding=group.exceeding,
            trapped=group.trapped,
        )
        for (kind, cache), group in groups.items()
    )
    return headings, rows


_NOTHING_USED: Final = -1.0


class _Kind:
    """What the messages of one kind come to, while they are read."""

    def __init__(self) -> None:
        self.message_count = self.exceeding = self.trapped = 0
        self.most: list[int | None] = [None] * len(TABLE_MEASURES)
        self._spelled: list[str | int | None] = [None] * len(TABLE_MEASURES)
        self.nearest: Message | None = None
        self._share = _NOTHING_USED

    def spelled(self, place: int) -> str:
        """Spell the largest of a measure."""
        found = self._spelled[place]
        return found if isinstance(found, str) else count(found)

    def add(self, message: Message) -> None:
        self.message_count += 1
        self.trapped += message.outcome == "trapped"
        self.exceeding += verdict(message) == "exceeds"
        for place, measure in enumerate(TABLE_MEASURES):
            found, most = measure.of(message), self.most[place]
            if found is not None and (most is None or found > most):
                self.most[place] = found
                self._spelled[place] = measure.spelled(message)
        tightest = tightest_limit(message)
        used = _NOTHING_USED if tightest is None else share(tightest)
        if used > self._share:
            self.nearest, self._share = message, used
