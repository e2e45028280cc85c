"""What the cells of a page map show: each a shade, with a letter for where there is no colour.

Colours of owners: M. Okabe, K. Ito, "Color Universal Design", 2008, told apart by colour-blind
readers, too. Colours of amounts: cividis, J. R. Nuñez et al., PLOS ONE 13 (7), 2018, which gets
lighter evenly.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np

from sqlstable.analysis.page_map import PageCells, PageMap
from sqlstable.report.map_look import MapBy
from sqlstable.report.numbers import count, counted
from sqlstable.report.text import clean
from sqlstable.trace.access_stream import UNKNOWN_OWNER, Int64s

OWNER_COLOURS: Final = (
    *("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7"),
)
OTHERS_COLOUR: Final = "#999999"
AMOUNT_COLOURS: Final = (
    *("#123570", "#3b496c", "#575d6d", "#707173", "#8a8678", "#a59c74", "#c3b369", "#fee838"),
)
"""From few to many, and from long ago to now."""

UNTOUCHED: Final = -1
UNTOUCHED_LETTER: Final = "."


@dataclass(frozen=True, slots=True)
class Shade:
    """What cells of one kind look like, and what they stand for."""

    letter: str
    "One character of ASCII."
    colour: str
    "In hexadecimal digits, as in HTML."
    meaning: str


@dataclass(frozen=True, slots=True, eq=False)
class Shading:
    """The shades of a map, and which one each cell has."""

    words: str
    "What cells show."
    shades: tuple[Shade, ...]
    of_cells: Int64s
    "Position in ``shades``; `UNTOUCHED` for cells that nobody touched."


def shading(page_map: PageMap, cells: PageCells, by: MapBy) -> Shading:
    """Choose shades for cells.

    Args:
        page_map: The map whose cells they are.
        cells: From `PageMap.cells`.
        by: What they show.
    """
    return _SHADINGS[by](page_map, cells)


def _by_owner(page_map: PageMap, cells: PageCells) -> Shading:
    """Give the names with most OS pages a shade of their own; what is nobody's is not one."""
    os_pages = np.bincount(page_map.owner, minlength=len(page_map.owners)).tolist()
    # SQL may name a table as something that is none, such as the memory manager.
    sums: dict[tuple[str, str], int] = {}
    for place, owner in enumerate(page_map.owners):
        if os_pages[place] and place != UNKNOWN_OWNER:
            one = owner.name, owner.kind
            sums[one] = sums.get(one, 0) + os_pages[place]
    ranked = sorted(sums, key=lambda one: (-sums[one], one))
    shared = Counter(name for name, _ in ranked)
    named, others = ranked[: len(OWNER_COLOURS)], ranked[len(OWNER_COLOURS) :]
    shades = [
        Shade(
            chr(ord("a") + at),
            colour,
            f"{clean(one[0]) or '-'}{f' ({one[1]})' if shared[one[0]] > 1 else ''}, "
            f"{counted(sums[one], 'OS page')}",
        )
        for at, (one, colour) in enumerate(zip(named, OWNER_COLOURS, strict=False))
    ]
    rest = sum(sums[one] for one in others)
    if others:
        words = f"{counted(len(others), 'other owner')}, {counted(rest, 'OS page')}"
        shades.append(Shade("*", OTHERS_COLOUR, words))
    unknown = os_pages[UNKNOWN_OWNER]
    if unknown:
        shades.append(Shade("?", "#666666", f"owner not known, {counted(unknown, 'OS page')}"))
    place_of = {one: min(at, len(OWNER_COLOURS)) for at, one in enumerate(ranked)}
    shade_of = [
        place_of.get((owner.name, owner.kind), len(shades) - 1) for owner in page_map.owners
    ]
    shade_of[UNKNOWN_OWNER] = len(shades) - 1
    return Shading(
        "owner, of most of its OS pages" if cells.os_pages_each > 1 else "owner",
        tuple(shades),
        # The entry behind the last one is that of no owner.
        np.array([*shade_of, UNTOUCHED], np.int64)[cells.owner],
    )


def _by_accesses(_page_map: PageMap, cells: PageCells) -> Shading:
    """Let shades stand for powers of one number, the smallest that has enough of them."""
    touches = cells.reads + cells.writes
    most = int(touches.max(initial=0))
    base = 2
    while base ** len(AMOUNT_COLOURS) <= most:
        base *= 2
    firsts = [base**power for power in range(len(AMOUNT_COLOURS)) if base**power <= most]
    names = [
        _span(first, min(first * base - 1, most)) + (" reads and writes" if at == 0 else "")
        for at, first in enumerate(firsts)
    ]
    of_cells = np.searchsorted(np.array(firsts, np.int64), touches, side="right") - 1
    return Shading("reads and writes", _amounts(names), _touched(cells, of_cells))


def _by_writer(page_map: PageMap, cells: PageCells) -> Shading:
    each = _messages_each(page_map)
    spans = _message_spans(page_map, each)
    names = [f"message {words}" if at == 0 else words for at, words in enumerate(spans)]
    shades = (*_amounts(names), Shade("-", OTHERS_COLOUR, "read only"))
    of_cells = np.where(cells.last_writer < 0, len(shades) - 1, cells.last_writer // each)
    return Shading("the message that wrote to it last", shades, _touched(cells, of_cells))


def _by_age(page_map: PageMap, cells: PageCells) -> Shading:
    each = _messages_each(page_map)
    ages = page_map.message_count - 1 - cells.last_access
    spans = _message_spans(page_map, each)
    names = [f"{words} messages ago" if at == 0 else words for at, words in enumerate(spans)]
    # What was touched last is lightest.
    shades = tuple(
        Shade(shade.letter, AMOUNT_COLOURS[len(AMOUNT_COLOURS) - 1 - at], shade.meaning)
        for at, shade in enumerate(_amounts(names))
    )
    return Shading("when it was last touched", shades, _touched(cells, ages // each))


_SHADINGS: Final[Mapping[MapBy, Callable[[PageMap, PageCells], Shading]]] = MappingProxyType(
    {"owner": _by_owner, "accesses": _by_accesses, "writer": _by_writer, "age": _by_age}
)


def _messages_each(page_map: PageMap) -> int:
    return max(1, -(-page_map.message_count // len(AMOUNT_COLOURS)))


def _message_spans(page_map: PageMap, each: int) -> list[str]:
    return [
        _span(first, min(first + each, page_map.message_count) - 1)
        for first in range(0, page_map.message_count, each)
    ]


def _span(first: int, last: int) -> str:
    return count(first) if first == last else f"{count(first)} to {count(last)}"


def _amounts(names: Sequence[str]) -> tuple[Shade, ...]:
    """Spread the names over the colours, the last one on the lightest."""
    last = len(AMOUNT_COLOURS) - 1
    steps = max(1, len(names) - 1)
    return tuple(
        Shade(str(at + 1), AMOUNT_COLOURS[last - (len(names) - 1 - at) * last // steps], name)
        for at, name in enumerate(names)
    )


def _touched(cells: PageCells, of_cells: Int64s) -> Int64s:
    return np.where(cells.touched > 0, of_cells, UNTOUCHED)
