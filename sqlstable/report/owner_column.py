"""The column that says whose the OS pages of a statement are: names, bars, counts."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from rich.cells import cell_len
from rich.text import Text

from sqlstable.report.grid import Cell, cell
from sqlstable.report.measures import Measured
from sqlstable.report.numbers import bar, count
from sqlstable.report.table import Column
from sqlstable.report.text import clean, fit
from sqlstable.trace.model import OwnerUse

Row = TypeVar("Row", bound=Measured)

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


def shares(owners: Iterable[OwnerUse], whole: int | None = None) -> list[Share]:
    """Return the owners to show, the roles of each put together, the most accessed first.

    Args:
        owners: What a row touched of each owner and role.
        whole: OS pages that the row accessed. Where nodes of several roles share OS pages, as in a
            stable B-tree, the roles of an owner add up to more than it has; it has no more than the
            others leave.

    Examples:
        >>> leaf = OwnerUse("album", "album", "table", "leaf", 12, 0)
        >>> inner = OwnerUse("album", "album", "table", "interior", 1, 0)
        >>> shares([leaf, inner])
        [Share(name='album', os_pages_accessed=13, rest=False)]
        >>> shares([leaf, inner], whole=12)
        [Share(name='album', os_pages_accessed=12, rest=False)]
    """
    accessed: dict[str, int] = defaultdict(int)
    least: dict[str, int] = defaultdict(int)
    for owner in owners:
        name = clean(owner.name or owner.kind)
        accessed[name] += owner.os_pages_accessed
        least[name] = max(least[name], owner.os_pages_accessed)
    if whole is not None and sum(accessed.values()) > whole:
        left = whole - sum(least.values())
        for name, number in accessed.items():
            accessed[name] = min(number, max(left, 0) + least[name])
    ranked = sorted(accessed.items(), key=lambda item: (-item[1], item[0]))
    if len(ranked) <= OWNERS_SHOWN:
        return [Share(*item) for item in ranked]
    shown, rest = ranked[: OWNERS_SHOWN - 1], ranked[OWNERS_SHOWN - 1 :]
    return [
        *(Share(*item) for item in shown),
        Share(f"+{count(len(rest))} more", sum(number for _, number in rest), rest=True),
    ]


def owner_column(
    rows: Iterable[Row],
    owners: Callable[[Row], Sequence[Share] | None],
    *,
    name_width_max: int,
    drop: int = 1,
) -> Column[Row]:
    """Return the column that holds the owners of these rows, the names cut to a width.

    Args:
        rows: What each stands for.
        owners: What ``shares`` returned of a row, or None where owners are not asked for.
        name_width_max: Columns of the terminal.
        drop: When it goes where there is no room.
    """
    listed = [share for row in rows for share in owners(row) or ()]
    widest = max((cell_len(share.name) for share in listed), default=0)
    name_width = min(max(widest, NAME_WIDTH_MIN), name_width_max)
    count_width = max((len(count(share.os_pages_accessed)) for share in listed), default=1)

    def shown(row: Row, _width: int) -> Cell:
        whole, found = row.stable.os_pages_accessed, owners(row)
        if not found:
            return cell("not determined", "dim") if whole and found is not None else []
        return [_line(share, whole, name_width, count_width) for share in found]

    width = name_width + 1 + BAR_CELLS + 1 + count_width
    return Column(HEADING, shown, width=max(width, len(HEADING)), drop=drop)


def _line(share: Share, whole: int, name_width: int, count_width: int) -> Text:
    name = fit(share.name, name_width)
    line = Text(name + " " * (name_width - cell_len(name) + 1))
    line.append(bar(share.os_pages_accessed, whole, BAR_CELLS).ljust(BAR_CELLS), style="cyan")
    line.append(f" {count(share.os_pages_accessed):>{count_width}}")
    if share.rest:
        line.stylize("dim")
    return line
