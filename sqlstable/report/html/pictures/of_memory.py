"""Pictures of stable memory as a whole: its growth, and the trees in it."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from sqlstable.analysis.locality.over_time import DistinctOverTime
from sqlstable.analysis.page_map import PageMap
from sqlstable.analysis.trace_source import TraceSource
from sqlstable.ic.units import OS_PAGE_BYTES
from sqlstable.report.html.pictures.picture import Json, Picture, PictureTable, shortened, whole
from sqlstable.report.numbers import UNKNOWN, counted, percent
from sqlstable.trace.model import TreeShape

POINTS_MAX: Final = 400
"""Messages of a curve at most."""
TREES_MAX: Final = 20
TABLE_ROWS: Final = 12

ROLES: Final = ("leaf", "interior", "overflow", "other")
"""What OS pages of a tree are told apart by."""


def growth_picture(trace: TraceSource, over_time: DistinctOverTime) -> Picture:
    """Return the size of stable memory after each message, and what had been touched by then."""
    stable = [message.image_bytes for message in trace.messages]
    touched = (over_time.os_pages_so_far * OS_PAGE_BYTES).tolist()
    shown = _shown(len(stable))
    return Picture(
        id="growth",
        title="Growth of stable memory",
        note="Stable memory never shrinks and is paid for whole. Below its size is how much of it "
        "messages had touched until then.",
        table=PictureTable(
            ("After message", "Stable memory, bytes", "Touched so far, bytes"),
            tuple(
                (whole(at), whole(stable[at]), whole(touched[at]))
                for at in shown[:: max(1, -(-len(shown) // TABLE_ROWS))]
            ),
        ),
        facts={
            "messages": shown,
            "stable_bytes": [stable[at] for at in shown],
            "touched_bytes": [touched[at] for at in shown],
        },
    )


def trees_picture(trace: TraceSource, page_map: PageMap) -> Picture:
    """Return the shapes of the B-trees at the end; of an old trace, what was touched of them."""
    return _shapes_picture(trace) if trace.trees else _touched_trees_picture(page_map)


def _left_out(trees: Sequence[object]) -> str:
    """Say that some are not shown, where that is so."""
    if len(trees) <= TREES_MAX:
        return ""
    return f" Shown are the {TREES_MAX} largest of {len(trees)}."


def _shapes_picture(trace: TraceSource) -> Picture:
    page_bytes = trace.settings.values.get("page_size")
    order = sorted(trace.trees, key=lambda it: (-sum(_pages_of(it)), it.name))
    shown = [(it, _fullness(it, page_bytes), _in_order(it)) for it in order[:TREES_MAX]]
    told: list[Json] = [
        {
            "name": shortened(tree.name),
            "pages": _pages_of(tree),
            "words": ", ".join(
                (
                    f"{counted(tree.depth, 'level')}",
                    *([f"{full} full"] if full else []),
                    *([f"{ordered} in order"] if ordered else []),
                )
            ),
        }
        for tree, full, ordered in shown
    ]
    return Picture(
        id="trees",
        title="Shapes of tables and indexes",
        note="SQLite pages of each B-tree when the trace ended. Full is the share of its bytes "
        "that hold something. In order are leaves that the next SQLite page of the file follows: a "
        "scan of a tree that is 100% in order never leaps. VACUUM writes trees anew, in order."
        + _left_out(order),
        table=PictureTable(
            ("Name", "Kind", "Levels", "Leaves", "Interior", "Overflow", "Full", "In order"),
            tuple(
                (
                    shortened(tree.name),
                    tree.kind,
                    whole(tree.depth),
                    *map(whole, _pages_of(tree)),
                    full or UNKNOWN,
                    ordered or UNKNOWN,
                )
                for tree, full, ordered in shown
            ),
            len(order) - len(shown),
        ),
        facts={"trees": told, "roles": list(ROLES[:-1])},
    )


def _pages_of(tree: TreeShape) -> list[int]:
    """Return its SQLite pages by role, in the order of `ROLES`."""
    return [tree.leaf_pages, tree.interior_pages, tree.overflow_pages]


def _fullness(tree: TreeShape, page_bytes: object) -> str:
    """Return the share of its bytes in use; empty where nobody knows how many it has."""
    if not isinstance(page_bytes, int) or page_bytes <= 0:
        return ""
    size_bytes = sum(_pages_of(tree)) * page_bytes
    return percent(size_bytes - tree.unused_bytes, size_bytes) if size_bytes else ""


def _in_order(tree: TreeShape) -> str:
    if tree.leaves_in_order is None:
        return ""
    followed = tree.leaf_pages - 1
    return percent(round(tree.leaves_in_order * followed), followed)


def _touched_trees_picture(page_map: PageMap) -> Picture:
    counts = np.bincount(page_map.owner, minlength=len(page_map.owners)).tolist()
    trees: dict[tuple[str, str], list[int]] = {}
    for owner, pages in zip(page_map.owners, counts, strict=True):
        if pages:
            role = owner.role if owner.role in ROLES else "other"
            tree = trees.setdefault((owner.name, owner.kind), [0] * len(ROLES))
            tree[ROLES.index(role)] += pages
    order = sorted(trees.items(), key=lambda it: (-sum(it[1]), it[0]))
    shown = order[:TREES_MAX]
    told: list[Json] = [
        {
            "name": shortened(name),
            "pages": pages,
            "words": f"{kind}, {counted(sum(pages), 'OS page')}",
        }
        for (name, kind), pages in shown
    ]
    return Picture(
        id="trees",
        title="OS pages by table and index",
        note="OS pages that the workload touched of each, by their part in its B-tree. This trace "
        "does not say what shape the trees had when it ended." + _left_out(order),
        table=PictureTable(
            ("Name", "Kind", *(role.capitalize() for role in ROLES)),
            tuple((shortened(name), kind, *map(whole, pages)) for (name, kind), pages in shown),
            len(order) - len(shown),
        ),
        facts={"trees": told, "roles": list(ROLES)},
    )


def _shown(count: int) -> list[int]:
    """Return indexes of messages, the first and the last among them."""
    step = max(1, -(-count // POINTS_MAX))
    return sorted({*range(0, count, step), *([count - 1] if count else [])})
