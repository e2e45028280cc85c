"""The map of stable memory as a still picture, for a notebook that is read without a kernel."""

import io
import warnings
from collections import Counter
from typing import Any, Final

import numpy as np

from sqlstable.analysis.curves import CURVES, width_for
from sqlstable.analysis.page_map import PageCells, PageMap
from sqlstable.report.numbers import count
from sqlstable.report.text import clean, fit

CELLS_MAX: Final = 1 << 16
"""Cells of a picture at most: more than a screen shows apart in a few centimetres."""

NAME_WIDTH_MAX: Final = 28

_COLOURS: Final = (
    *("#0072b2", "#e69f00", "#009e73", "#cc79a7"),
    *("#56b4e9", "#d55e00", "#b8a900", "#7a5195"),
)
"""Of owners, those with most cells first. Source: Okabe and Ito, "Color Universal Design", 2008."""
_OTHER: Final = "#8a8f98"
_UNTOUCHED: Final = "#eceef1"


def still_map(pages: PageMap) -> bytes | None:
    """Return the map, coloured by owner, as PNG; None where matplotlib is not installed.

    Args:
        pages: What happened to each OS page.
    """
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415  optional
    except ImportError:
        return None
    cells = pages.cells(CELLS_MAX)
    names = _names(pages, cells)
    figure = Figure(figsize=(7, 4), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(_pixels(pages, cells, names), interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.set_title(_title(pages, cells), fontsize=9, loc="left")
    axes.legend(handles=_entries(names), loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    out = io.BytesIO()
    with warnings.catch_warnings():
        # A name may have characters that no font here has; then boxes stand for them.
        warnings.simplefilter("ignore")
        # Without the version of matplotlib, which is written else.
        figure.savefig(out, format="png", bbox_inches="tight", metadata={"Software": None})
    return out.getvalue()


def _names(pages: PageMap, cells: PageCells) -> list[tuple[str, int]]:
    """Return the names of owners with how many cells each has, most first."""
    counted = Counter(pages.owners[owner].name for owner in cells.owner.tolist() if owner >= 0)
    return sorted(counted.items(), key=lambda it: (-it[1], it[0]))


def _pixels(pages: PageMap, cells: PageCells, names: list[tuple[str, int]]) -> np.ndarray[Any, Any]:
    """Return the picture as rows of colours; where no cell lies it is transparent."""
    width = width_for(len(cells))
    x, y = CURVES["hilbert"](len(cells), width)
    nth = {name: place for place, (name, _) in enumerate(names)}
    palette = np.array([_rgba(_colour(nth.get(owner.name))) for owner in pages.owners])
    found = np.zeros((int(y.max(initial=0)) + 1, width, 4))
    known = cells.owner >= 0
    found[y, x] = _rgba(_UNTOUCHED)
    found[y[known], x[known]] = palette[cells.owner[known]]
    return found


def _colour(nth: int | None) -> str:
    return _COLOURS[nth] if nth is not None and nth < len(_COLOURS) else _OTHER


def _rgba(colour: str) -> list[float]:
    return [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)] + [1.0]


def _entries(names: list[tuple[str, int]]) -> list[Any]:
    from matplotlib.patches import Patch  # noqa: PLC0415  optional

    entries = [
        # A dollar sign would begin a formula, and a name after a line is left out of legends.
        Patch(color=_colour(nth), label=" " + fit(clean(name), NAME_WIDTH_MAX).replace("$", r"\$"))
        for nth, (name, _) in enumerate(names[: len(_COLOURS)])
    ]
    if len(names) > len(_COLOURS):
        entries.append(Patch(color=_OTHER, label=f" {len(names) - len(_COLOURS)} more owners"))
    return [*entries, Patch(color=_UNTOUCHED, label=" untouched")]


def _title(pages: PageMap, cells: PageCells) -> str:
    each = cells.os_pages_each
    cell = "one OS page" if each == 1 else f"{count(each)} OS pages"
    gaps = " and gaps left out" if pages.stretches.left_out else ""
    return (
        f"Stable memory: a cell is {cell} of 4 KiB, along Hilbert curves, by owner;\n"
        f"{count(pages.stretches.shown)} of {count(pages.stable_os_pages)} OS pages shown{gaps}"
    )
