"""What all pictures share: sizes, fonts, colours, numbers on axes, and names that do no harm.

A picture is as wide as a column of a paper (3.5 inches) and legible there. Colours are those of
the maps in a terminal (`sqlstable.report.map_shades`); every curve differs by its dashes, too.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.font_manager import FontProperties, findfont
from matplotlib.ft2font import FT2Font
from matplotlib.legend import Legend
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from sqlstable.report.text import clean, fit

COLUMN_INCHES: Final = 3.5
"""Of most journals with two columns."""
HEIGHT_INCHES: Final = 2.6

FONT: Final = "DejaVu Sans"
"""Comes with matplotlib, so that pictures are the same everywhere."""

NAME_CHARACTERS_MAX: Final = 28

BLUE, ORANGE, GREEN, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#666666"

STYLE: Final[Any] = {
    "font.family": [FONT],
    "font.size": 7.5,
    "axes.labelsize": 7.5,
    "axes.titlesize": 8,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "legend.fontsize": 6.5,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.2,
    "axes.unicode_minus": False,
    "figure.dpi": 150,
    "savefig.dpi": 300,
    # TrueType, which journals ask for, and the same names in each file.
    "pdf.fonttype": 42,
    "svg.hashsalt": "sqlstable",
    "path.simplify": False,
}


@contextmanager
def paper_style() -> Iterator[None]:
    """Draw in the style of a paper, whatever the reader's own settings are."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE)
        yield


@cache
def _drawable() -> frozenset[int]:
    return frozenset(FT2Font(findfont(FontProperties(family=FONT))).get_charmap())


def drawable(text: str) -> str:
    r"""Return a clean text that matplotlib draws as it is: no mathematics, no missing letters.

    Examples:
        >>> drawable("price in $"), drawable("漢字")
        ('price in \\$', '??')
    """
    known = _drawable()
    shown = "".join(it if ord(it) in known else "?" for it in fit(clean(text), 400))
    return shown.replace("$", r"\$")


def shown_name(text: str) -> str:
    """Return the name of an owner, short enough for a legend."""
    return drawable(fit(clean(text) or "-", NAME_CHARACTERS_MAX))


def label(axes: Axes, title: str, x: str, y: str) -> None:
    """Say what a picture shows, and what its axes are, with their units."""
    axes.set_title(title, loc="left")
    axes.set_xlabel(x)
    axes.set_ylabel(y)


def counts_on(axis: Any, *, is_log: bool = False) -> None:  # noqa: ANN401  an axis of matplotlib has no public type
    """Spell the numbers of an axis as counts."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: spelled(value)))
    if is_log:
        axis.set_major_locator(LogLocator(numticks=7))
        axis.set_minor_formatter(NullFormatter())
    else:
        axis.set_major_locator(MaxNLocator(nbins=6, integer=True))


def spelled(value: float) -> str:
    """Spell a number on an axis in few characters.

    Examples:
        >>> [spelled(value) for value in (0, 12, 0.5, 1_500, 20_000, 3_000_000, 4e9, 7e12)]
        ['0', '12', '0.5', '1,500', '20 k', '3 M', '4 G', '7 T']
    """
    for unit, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= 10 * unit or abs(value) >= unit > 1e3:
            return f"{value / unit:g} {letter}"
    return f"{value:,.0f}" if value == round(value) else f"{value:g}"


def percent_on(axis: Any) -> None:  # noqa: ANN401  as above
    """Spell the numbers of an axis from 0 to 1 as percents."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g}%"))


def legend_of(axes: Axes, handles: list[Any], names: list[str], **options: Any) -> Legend:  # noqa: ANN401  matplotlib's own options
    """Add a legend whose names may begin with whatever they like."""
    # A name that begins with an underscore would be left out, so it comes when none decides.
    legend = axes.legend(handles, ["x"] * len(names), **options)
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set_text(name)
    return legend


def nothing(axes: Axes) -> None:
    """Say that there is nothing to draw."""
    axes.text(0.5, 0.5, "no access recorded", transform=axes.transAxes, ha="center", color=GREY)
