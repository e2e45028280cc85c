"""How one scene of the demo looks: what was asked, which OS pages it took, how to read that."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from rich.cells import cell_len
from rich.text import Text

from sqlstable.analysis.page_map import PageMap
from sqlstable.cli.fates import Band, band_lines
from sqlstable.cli.inks import BLUE, GREEN, GREY, RED
from sqlstable.cli.rows import row_lines
from sqlstable.engine.statements import Rows
from sqlstable.report.grid import GAP, paragraph
from sqlstable.report.map_lines import map_lines
from sqlstable.report.map_look import MapLook
from sqlstable.report.numbers import bar, count
from sqlstable.trace.model import OwnerUse

BAR_CELLS: Final = 44
"""Length of the bar that stands for the whole database, where there is room."""

MAP_COLUMNS: Final = 32
"""Of a small map, which is the same on each terminal."""

OWNERS_MAX: Final = 6
"""Up to so many owners are all shown."""

_MARGIN: Final = 3
_SQL_STYLE: Final = BLUE
_NUMBER_STYLE: Final = "bold"
_READING_STYLE: Final = GREEN
_QUIET: Final = GREY


@dataclass(frozen=True, slots=True)
class Meter:
    """OS pages that a message touched, against all that the database has."""

    verb: str
    "accessed or dirty."
    os_pages: int
    database_os_pages: int
    owners: tuple[tuple[str, int], ...]
    "Names and their OS pages, the most first."
    footnote: str = ""
    "Other numbers of the message."


@dataclass(frozen=True, slots=True)
class Change:
    """One question before and after something was done for it."""

    name: str
    before: int
    after: int


@dataclass(frozen=True, slots=True)
class Check:
    """Something that has to be true, and whether it is."""

    text: str
    holds: bool


@dataclass(frozen=True, slots=True)
class Scene:
    """One part of the demo; what it does not have stays away."""

    headline: str
    reading: str
    "What the numbers mean, in a sentence or two."
    sql: str = ""
    columns: tuple[str, ...] = ()
    rows: Rows | None = None
    event: str = ""
    "What happened, in a few sentences."
    bands: tuple[Band, ...] = ()
    "What was wiped, and what stayed."
    meter: Meter | None = None
    facts: tuple[tuple[str, str], ...] = ()
    "Names and values, a line each."
    changes: tuple[Change, ...] = ()
    plan_changes: tuple[tuple[str, str], ...] = ()
    "Lines of plans with their sign: - that went, + that came."
    checks: tuple[Check, ...] = ()
    map: PageMap | None = None
    "Where in stable memory it all lies."


def scene_lines(
    scene: Scene, number: int, width: int, *, has_half_blocks: bool = False
) -> list[Text]:
    """Lay out a scene.

    Args:
        scene: What is shown.
        number: Its place in the demo, from 1.
        width: Columns of the terminal.
        has_half_blocks: Whether a map can be drawn with them, as `MapLook` says.
    """
    look = MapLook(has_half_blocks=has_half_blocks, columns_max=MAP_COLUMNS)
    blocks = [
        [_headline(scene.headline, number, width)],
        [Text(line, style=_SQL_STYLE) for line in scene.sql.splitlines()],
        paragraph(scene.event, width - _MARGIN) if scene.event else [],
        [] if scene.rows is None else row_lines(scene.columns, scene.rows, width - _MARGIN),
        band_lines(scene.bands, width - _MARGIN) if scene.bands else [],
        [] if scene.meter is None else list(_meter_lines(scene.meter, width - _MARGIN)),
        list(_fact_lines(scene.facts, width - _MARGIN)),
        list(_change_lines(scene.changes)),
        list(_plan_lines(scene.plan_changes)),
        list(map(check_line, scene.checks)),
        [] if scene.map is None else map_lines(scene.map, look, width - _MARGIN),
        paragraph(scene.reading, width - _MARGIN, style=_READING_STYLE),
    ]
    lines = blocks[0]
    for block in filter(None, blocks[1:]):
        lines += [*(Text(" " * _MARGIN).append_text(line) for line in block), Text()]
    return lines


def owner_counts(owners: Iterable[OwnerUse], *, dirty: bool = False) -> tuple[tuple[str, int], ...]:
    """Add up OS pages by their owner's name, the most first.

    Examples:
        >>> leaf = OwnerUse("line", "line", "table", "leaf", 12, 3)
        >>> inner = OwnerUse("line", "line", "table", "interior", 1, 0)
        >>> owner_counts([leaf, inner]), owner_counts([leaf, inner], dirty=True)
        ((('line', 13),), (('line', 3),))
    """
    counts: dict[str, int] = defaultdict(int)
    for owner in owners:
        counts[owner.name] += owner.os_pages_dirty if dirty else owner.os_pages_accessed
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return tuple((name, number) for name, number in ranked if number)


def _headline(text: str, number: int, width: int) -> Text:
    line = Text("── ", style=_QUIET)
    line.append(f"{number}  {text} ", style="bold default")
    return line.append("─" * (width - line.cell_len))


def _meter_lines(meter: Meter, room: int) -> Iterator[Text]:
    kept = len(meter.owners) if len(meter.owners) <= OWNERS_MAX else OWNERS_MAX - 1
    shown, rest = list(meter.owners[:kept]), meter.owners[kept:]
    if rest:
        shown.append((f"{len(rest)} more", sum(number for _, number in rest)))
    title = f"OS pages {meter.verb}"
    width = max(map(cell_len, [title, *(f"  {name}" for name, _ in shown)]))
    total = f"{count(meter.os_pages)} of {count(meter.database_os_pages)}"
    digits = len(count(meter.os_pages))
    widths = width, len(total), max(min(BAR_CELLS, room - width - len(total) - 4), 1)
    yield _bar_line(title, total, meter.os_pages, meter, widths, _NUMBER_STYLE)
    for name, number in shown:
        text = f"{count(number):>{digits}}"
        yield _bar_line(f"  {name}", text, number, meter, widths, "")
    if meter.footnote:
        yield Text(meter.footnote, style=_QUIET)


def _fact_lines(facts: Sequence[tuple[str, str]], width: int) -> Iterator[Text]:
    room = max((cell_len(name) for name, _ in facts), default=0) + GAP
    for name, value in facts:
        first, *others = paragraph(value, width - room) or [Text()]
        yield Text.assemble((f"{name:<{room}}", "bold"), first)
        for line in others:
            yield Text(" " * room).append_text(line)


def _bar_line(
    name: str, number: str, part: int, meter: Meter, widths: tuple[int, int, int], style: str
) -> Text:
    line = Text(f"{name:<{widths[0]}}  {number:<{widths[1]}}  ", style=style)
    line.append(bar(part, meter.database_os_pages, widths[2]), style=f"not bold {BLUE}")
    return line


def _change_lines(changes: Sequence[Change]) -> Iterator[Text]:
    if not changes:
        return
    width = max(cell_len(change.name) for change in changes)
    yield Text(f"{'OS pages accessed':<{width}}  {'before':>6}   {'after':>5}", style="bold")
    for change in changes:
        line = Text(f"{change.name:<{width}}  {count(change.before):>6} → {count(change.after):>5}")
        if 0 < change.after < change.before:
            line.append(f"   ▼ {change.before / change.after:.1f} times fewer", style=GREEN)
        yield line


def _plan_lines(changes: Sequence[tuple[str, str]]) -> Iterator[Text]:
    if changes:
        yield Text("SQLite's plan", style="bold")
    for sign, text in changes:
        yield Text(f"{sign} {text}", style={"-": RED, "+": GREEN}[sign])


def check_line(check: Check) -> Text:
    """Say whether something is true that has to be."""
    mark = ("✓", GREEN) if check.holds else ("✗", f"bold {RED}")
    return Text.assemble(mark, " ", check.text)
