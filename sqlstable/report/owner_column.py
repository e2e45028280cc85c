"""The column that says whose the OS pages of a statement are: names, bars, counts."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from rich.cells import cell_len
from rich.text import Text

from sqlstable.report.grid import Cell, Column, cell
from sqlstable.report.numbers import bar, count
from sqlstable.report.text import clean, fit
from sqlstable.trace.model import OwnerUse

OWNERS_SHOWN: Final = 3
"""Lines of one cell; with more owners the last line says how many more there are."""

HEADING: Final = "whose OS pages"

NAME_WIDTH_MIN: Final = 8
"""The words "not determined" need as much, with the bar and the count behind."""
BAR_CELLS: Final = 5


@dataclass(frozen=True, slots=True)
class Share:
    """How many of a statement's accessed OS pages belong to one owner, or to several more."""

    name: str
    os_pages_accessed: int
    rest: bool = False


def shares(owners: Iterable[OwnerUse]) -> list[Share]:
    """Return the owners to show, the roles of each put together, the most accessed first.

    Examples:
        >>> leaf = OwnerUse("album", "album", "table", "leaf", 12, 0)
        >>> inner = OwnerUse("album", "album", "table", "interior", 1, 0)
        >>> shares([leaf, inner])
        [Share(name='album', os_pages_accessed=13, rest=False)]
    """
    accessed: dict[str, int] = defaultdict(int)
    for owner in owners:
        accessed[clean(owner.name or owner.kind)] += owner.os_pages_accessed
    ranked = sorted(accessed.items(), key=lambda item: (-item[1], item[0]))
    if len(ranked) <= OWNERS_SHOWN:
        return [Share(*item) for item in ranked]
    shown, rest = ranked[: OWNERS_SHOWN - 1], ranked[OWNERS_SHOWN - 1 :]
    return [
        *(Share(*item) for item in shown),
        Share(f"+{count(len(rest))} more", sum(number for _, number in rest), rest=True),
    ]


@dataclass(frozen=True, slots=True)
class OwnerColumn:
    """The widths of the owners' column, taken from all that it has to hold."""

    name_width: int
    count_width: int

    @property
    def width(self) -> int:
        """Columns of the terminal that it takes."""
        return self.name_width + 1 + BAR_CELLS + 1 + self.count_width

    @property
    def column(self) -> Column:
        """The column of the table."""
        return Column(HEADING, max(self.width, len(HEADING)), drop=1)

    def cell(self, owners: Sequence[Share], *, os_pages_accessed: int) -> Cell:
        """Return the cell of one statement: a name, a bar and a count on each line.

        Args:
            owners: What ``shares`` returned.
            os_pages_accessed: Of the statement; a full bar stands for all of them.
        """
        if not owners:
            return cell("not determined", style="dim") if os_pages_accessed else []
        return [self._line(share, os_pages_accessed) for share in owners]

    def _line(self, share: Share, whole: int) -> Text:
        name = fit(share.name, self.name_width)
        number = count(share.os_pages_accessed)
        line = Text(name + " " * (self.name_width - cell_len(name) + 1))
        line.append(bar(share.os_pages_accessed, whole, BAR_CELLS).ljust(BAR_CELLS), style="cyan")
        line.append(f" {number:>{self.count_width}}")
        if share.rest:
            line.stylize("dim")
        return line


def owner_column(rows: Iterable[Sequence[Share]], *, name_width_max: int) -> OwnerColumn:
    """Return the column that holds these shares, the names cut to a width."""
    listed = [share for row in rows for share in row]
    widest = max((cell_len(share.name) for share in listed), default=0)
    return OwnerColumn(
        name_width=min(max(widest, NAME_WIDTH_MIN), name_width_max),
        count_width=max((len(count(share.os_pages_accessed)) for share in listed), default=1),
    )
