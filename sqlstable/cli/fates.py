"""A picture of what an event wiped and what it left: one band for the heap, one for stable memory.

Each cell is a 4 KiB page of the database: in stable memory an OS page, in the heap SQLite's own
copy of it, at the same place. A character says what became of it, and a colour says the same again.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final, Literal

from rich.text import Text

from sqlstable.cli.inks import BLUE, GREEN, GREY, ORANGE, PURPLE
from sqlstable.ic.units import OS_PAGES_PER_WASM_PAGE
from sqlstable.report.grid import GAP, paragraph

Fate = Literal["stayed", "back", "gone", "restored", "absent"]
"""``back`` is a page that was written and has its old bytes again; ``absent`` was never there."""

MARKS: Final[dict[Fate, tuple[str, str]]] = {
    "stayed": ("█", BLUE),
    "back": ("▒", PURPLE),
    "gone": ("░", ORANGE),
    "restored": ("▓", GREEN),
    "absent": ("·", GREY),
}
"""A character for each fate, and its colour."""

_MEANINGS: Final[dict[Fate, str]] = {
    "stayed": "stayed",
    "back": "was written, is as it was",
    "gone": "gone",
    "restored": "was gone, and is there again",
    "absent": "no copy in the heap",
}

_APART: Final = "   "
"""Between two entries of the legend."""


@dataclass(frozen=True, slots=True)
class Band:
    """The pages of one memory, in the order of the database."""

    name: str
    fates: tuple[Fate, ...]
    words: str
    "What they are, and what became of them, with numbers."


def fates_of(
    page_count: int, *, there: Iterable[int], fate: Fate = "stayed", back: Iterable[int] = ()
) -> tuple[Fate, ...]:
    """Say what became of each page.

    Args:
        page_count: Pages of the database.
        there: Indexes from 0 of those that were there before.
        fate: What became of these.
        back: Indexes of those that were written, and are as they were.

    Examples:
        >>> fates_of(4, there=[0, 2], fate="gone"), fates_of(3, there=range(3), back=[1])
        (('gone', 'absent', 'gone', 'absent'), ('stayed', 'back', 'stayed'))
    """
    was_there, is_back = set(there), set(back)

    def of(index: int) -> Fate:
        if index not in was_there:
            return "absent"
        return "back" if index in is_back else fate

    return tuple(map(of, range(page_count)))


def band_lines(bands: Sequence[Band], width: int) -> list[Text]:
    """Draw bands below each other, each with its name on the left and its words below."""
    label = max(len(band.name) for band in bands) + GAP
    columns = _columns(width - label)
    lines: list[Text] = []
    for band in bands:
        for at, row in enumerate(_rows(band.fates, columns)):
            name = band.name if at == 0 else ""
            lines.append(Text.assemble((f"{name:<{label}}", "bold"), _drawn(row)))
        lines += paragraph(band.words, width, indent=label)
    return [*lines, *_legend(bands, width)]


def _columns(room: int) -> int:
    """Let each line hold whole Wasm pages."""
    return max(OS_PAGES_PER_WASM_PAGE, room // OS_PAGES_PER_WASM_PAGE * OS_PAGES_PER_WASM_PAGE)


def _rows(fates: Sequence[Fate], columns: int) -> Iterator[Sequence[Fate]]:
    for at in range(0, len(fates), columns):
        yield fates[at : at + columns]


def _drawn(row: Sequence[Fate]) -> Text:
    line = Text()
    for fate, same in groupby(row):
        mark, colour = MARKS[fate]
        line.append(mark * sum(1 for _ in same), colour)
    return line


def _legend(bands: Sequence[Band], width: int) -> Iterator[Text]:
    there = {fate for band in bands for fate in band.fates}
    line = Text()
    for fate, (mark, colour) in MARKS.items():
        if fate not in there:
            continue
        entry = Text.assemble((mark, colour), f" {_MEANINGS[fate]}")
        if line.cell_len and line.cell_len + len(_APART) + entry.cell_len > width:
            yield line
            line = Text()
        line.append(_APART if line.cell_len else "").append_text(entry)
    yield line
