"""How fragmented B-trees are, as lines below the figures of locality."""

from collections.abc import Sequence

from rich.text import Text

from sqlstable.analysis.locality.fragmentation import TreeFragmentation
from sqlstable.report.grid import Cell, cell, paragraph
from sqlstable.report.numbers import UNKNOWN
from sqlstable.report.table import Column, Table, number, words
from sqlstable.report.text import clean, fit
from sqlstable.report.view import GROUPS_MAX, more_lines

_NOTE = (
    "when the trace ended; leaps: steps of a whole scan that do not go to the next SQLite page; "
    "spare: SQLite pages fewer if all were full, of which VACUUM or REINDEX gets most"
)


def tree_lines(trees: Sequence[TreeFragmentation], width: int) -> list[Text]:
    """Lay out the largest trees; nothing where there are none."""
    if not trees:
        return []
    shown = trees[:GROUPS_MAX]
    table = Table.holding(_columns(), shown, width)
    body = [line for tree in shown for line in table.row(tree)]
    more = more_lines(len(trees) - len(shown), "more tree", width)
    return [*table.framed([*body, *more]), *paragraph(_NOTE, width, style="italic")]


def _columns() -> list[Column[TreeFragmentation]]:
    def name(row: TreeFragmentation, width: int) -> Cell:
        return cell(fit(clean(row.tree.name), width), "bold")

    return [
        Column("tree", name, rest_min=14),
        words("kind", lambda it: [clean(it.tree.kind)], width_max=8, drop=1),
        number("depth", lambda it: it.tree.depth, drop=2),
        number("SQLite\npages", lambda it: it.sqlite_pages),
        number("fill", lambda it: f"{it.fill:.0%}"),
        number("leaves\nin order", _in_order),
        number("leaps", lambda it: it.leaps, drop=3),
        number("spare", lambda it: it.sqlite_pages_saved_max, drop=4),
    ]


def _in_order(row: TreeFragmentation) -> str:
    share = row.tree.leaves_in_order
    return UNKNOWN if share is None else f"{share:.0%}"
