"""Pictures of stable memory as a whole: its growth, and the trees in it."""

from typing import Final

import numpy as np

from sqlstable.analysis.locality.over_time import DistinctOverTime
from sqlstable.analysis.page_map import PageMap
from sqlstable.analysis.trace_source import TraceSource
from sqlstable.ic.units import OS_PAGE_BYTES
from sqlstable.report.html.pictures.picture import Json, Picture, PictureTable, shortened, whole

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


def trees_picture(page_map: PageMap) -> Picture:
    """Return the OS pages touched of each tree, by what they are in it."""
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
        {"name": shortened(name), "kind": kind, "pages": pages} for (name, kind), pages in shown
    ]
    return Picture(
        id="trees",
        title="OS pages by table and index",
        note="OS pages that the workload touched of each, by their part in its B-tree.",
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
