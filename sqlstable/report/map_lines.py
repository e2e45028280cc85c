"""The page map of stable memory in lines of a terminal.

In colour a character holds two cells, one above the other; without, a cell is a letter, and the
words below say what it stands for in either case.
"""

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Final

import numpy as np
from rich.cells import cell_len
from rich.text import Text

from sqlstable.analysis.curves import CURVES
from sqlstable.analysis.page_map import PageCells, PageMap
from sqlstable.ic.units import OS_PAGE_BYTES, OS_PAGES_PER_WASM_PAGE
from sqlstable.report.grid import GAP, paragraph
from sqlstable.report.map_look import MapCurve, MapLook
from sqlstable.report.map_shades import (
    UNTOUCHED,
    UNTOUCHED_LETTER,
    Shade,
    Shading,
    shading,
)
from sqlstable.report.numbers import count, counted, size
from sqlstable.report.text import fit
from sqlstable.trace.access_stream import Int64s

LEGEND_WIDTH_MAX: Final = 48

_NO_CELL: Final = -2
_UPPER, _LOWER, _FULL = "▀", "▄", "█"


def map_lines(page_map: PageMap, look: MapLook, width: int) -> list[Text]:
    """Draw a page map, with what its cells stand for below it."""
    label = 0 if look.curve == "hilbert" else len(_label(page_map)) + GAP
    columns = _columns(min(width - label, look.columns_max))
    cells, grid, firsts = _grid(page_map, look, columns)
    shades = shading(page_map, cells, look.by)
    shown = np.where(grid == _NO_CELL, _NO_CELL, np.append(shades.of_cells, UNTOUCHED)[grid])
    draw = _half_blocks if look.has_half_blocks else _letters
    step = 2 if look.has_half_blocks else 1
    lines = []
    for at, line in enumerate(draw(shown, shades)):
        name = count(int(firsts[at * step])) if label else ""
        margin = f"{name:>{label - GAP}}{'':{GAP}}" if label else ""
        lines.append(Text.assemble((margin, "dim"), line))
    return [
        *lines,
        Text(),
        *_legend(shades, look, width),
        *paragraph(_scale_words(page_map, cells, look), width),
    ]


def _label(page_map: PageMap) -> str:
    """Return a label as wide as the widest: that of the last OS page that is shown."""
    stretches = page_map.stretches
    last = int(stretches.first[-1] + stretches.count[-1]) if len(stretches.first) else 0
    return count(last)


def _columns(room: int) -> int:
    """Let each line hold whole Wasm pages, which messages are charged for."""
    return max(OS_PAGES_PER_WASM_PAGE, room // OS_PAGES_PER_WASM_PAGE * OS_PAGES_PER_WASM_PAGE)


def _grid(page_map: PageMap, look: MapLook, columns: int) -> tuple[PageCells, Int64s, Int64s]:
    """Place as many cells as there is room for.

    Returns:
        The cells, the index of a cell at each place, and the first OS page of each row.
    """
    room = columns * look.rows_max
    while True:
        cells = page_map.cells(room)
        x, y = CURVES[look.curve](len(cells), columns)
        rows = int(y.max(initial=-1)) + 1
        # Curves that do not fill their last row of squares need more rows.
        if rows <= look.rows_max or room == 1:
            break
        room = max(1, room // 2)
    grid = np.full((rows, columns), _NO_CELL, np.int64)
    grid[y, x] = np.arange(len(cells))
    firsts = cells.first[np.where(grid == _NO_CELL, len(cells), grid).min(axis=1)]
    return cells, grid, firsts


def _letters(shown: Int64s, shades: Shading) -> Iterator[Text]:
    for row in shown.tolist():
        yield _joined(_letter(place, shades) for place in row)


def _letter(place: int, shades: Shading) -> tuple[str, str]:
    if place < 0:
        return (" ", "") if place == _NO_CELL else (UNTOUCHED_LETTER, "dim")
    return shades.shades[place].letter, shades.shades[place].colour


def _half_blocks(shown: Int64s, shades: Shading) -> Iterator[Text]:
    for at in range(0, len(shown), 2):
        upper = shown[at].tolist()
        lower = shown[at + 1].tolist() if at + 1 < len(shown) else [_NO_CELL] * len(upper)
        yield _joined(
            _half_block(above, below, shades) for above, below in zip(upper, lower, strict=True)
        )


def _joined(characters: Iterable[tuple[str, str]]) -> Text:
    """Return characters as a line; equal ones that follow each other have one style."""
    line = Text()
    for (character, style), same in groupby(characters):
        line.append(character * sum(1 for _ in same), style)
    line.rstrip()
    return line


def _half_block(above: int, below: int, shades: Shading) -> tuple[str, str]:
    """Return a character for two cells, and its style; untouched ones let the ground through."""
    if above < 0 and below < 0:
        is_empty = above == below == _NO_CELL
        return (" ", "") if is_empty else (UNTOUCHED_LETTER, "dim")
    if below < 0:
        return _UPPER, shades.shades[above].colour
    if above < 0:
        return _LOWER, shades.shades[below].colour
    colour, other = shades.shades[above].colour, shades.shades[below].colour
    return (_FULL, colour) if above == below else (_UPPER, f"{colour} on {other}")


def _legend(shades: Shading, look: MapLook, width: int) -> list[Text]:
    """Set the shades side by side where there is room, as many in a line."""
    entries = [(shade, shade.meaning) for shade in shades.shades]
    room = min(LEGEND_WIDTH_MAX, width)
    texts = [_entry(shade, fit(words, room - 3), look) for shade, words in entries]
    texts.append(Text.assemble((f"{UNTOUCHED_LETTER} ", "dim"), " not touched"))
    each = max(text.cell_len for text in texts) + GAP
    in_line = max(1, (width + GAP) // each)
    lines = []
    for at in range(0, len(texts), in_line):
        line = Text()
        for text in texts[at : at + in_line]:
            line.append(" " * (each * ((cell_len(line.plain) + each - 1) // each) - line.cell_len))
            line.append_text(text)
        lines.append(line)
    return lines


def _entry(shade: Shade, words: str, look: MapLook) -> Text:
    mark = _FULL * 2 if look.has_half_blocks else f"{shade.letter} "
    return Text.assemble((mark, shade.colour), f" {words}")


_CURVE_WORDS: Final[dict[MapCurve, str]] = {
    "linear": "lines from left to right; at their left the OS page that each begins with",
    "snake": "lines turn at their ends; at their left the first OS page of each",
    "hilbert": "along Hilbert curves: what is close in memory is close here",
}


def _scale_words(page_map: PageMap, cells: PageCells, look: MapLook) -> str:
    """Say what a cell stands for, how much is shown, and how much is left out."""
    each, stretches = cells.os_pages_each, page_map.stretches
    stands = f"each cell: {counted(each, 'OS page')}, {size(each * OS_PAGE_BYTES)}"
    gaps = int(np.count_nonzero(stretches.gap)) + (stretches.gap_after > 0)
    parts = [
        stands if each == 1 else f"{stands}: it stands for several",
        f"{count(len(page_map.os_pages))} of {counted(stretches.shown, 'OS page')} were touched",
        f"left out: {count(stretches.left_out)} in {counted(gaps, 'gap')} that nobody touched",
    ]
    kept = parts if gaps else parts[:2]
    return f"{'; '.join(kept)}. Order: {_CURVE_WORDS[look.curve]}."
