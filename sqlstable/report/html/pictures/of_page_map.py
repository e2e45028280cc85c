"""The map of stable memory, and when what of it was touched."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from sqlstable.analysis.page_counts import TOP_STATEMENTS
from sqlstable.analysis.page_map import PageMap
from sqlstable.analysis.page_time import PageTime
from sqlstable.analysis.trace_source import TraceSource
from sqlstable.report.html.pictures.picture import (
    Integers,
    Json,
    Picture,
    PictureTable,
    shortened,
    whole,
)

CELLS_MAX: Final = 1 << 18
"""Cells of a map at most: 512 by 512, about as many as a screen shows apart."""
ROWS_MAX: Final = 50
"""Rows of a table for readers at most."""
SHAPES_MAX: Final = 2_000
"""Shapes of statements that a page tells at most."""
TOPS_MAX: Final = 200_000
"""Statements told of all cells together at most: a third of a large page's bytes."""
COLOURS: Final = 8
"""Owners with a colour of their own; more nobody tells apart."""
UNKNOWN_KIND: Final = "unknown"


def map_picture(
    page_map: PageMap,
    trace: TraceSource,
    *,
    statement_link: str | None = "statement-",
    coloured: Sequence[str] = (),
) -> Picture:
    """Return the map of stable memory.

    Args:
        page_map: Of the trace.
        trace: Where shapes of statements are.
        statement_link: What the ids of the rows of statements begin with, to link to them, and to
            those of messages; None where there are no such rows.
        coloured: Owners that have colours of their own; by default `coloured_names` of this map.
    """
    stretches = page_map.stretches
    each, columns = _units(page_map)
    shapes, shape_columns = _shapes(trace, columns)
    facts: dict[str, Json] = {
        "os_pages_each": each,
        "gap_after": stretches.gap_after,
        "stable_os_pages": page_map.stable_os_pages,
        "message_count": page_map.message_count,
        "owners": _told_owners(page_map, coloured or coloured_names(page_map)),
        "shapes": shapes,
        "statement_link": statement_link,
    }
    spans = {"first": stretches.first, "count": stretches.count, "gap": stretches.gap}
    return Picture(
        id="page-map",
        title="Map of stable memory",
        note="Where the workload lives. Each cell is a part of stable memory, in the order of "
        "addresses; what lies close in memory lies close in the picture. Nodes above the leaves of "
        "a B-tree have a stronger colour than its leaves.",
        table=_owners_table(page_map),
        facts=facts,
        columns=columns | spans | shape_columns,
    )


def time_picture(page_map: PageMap, counts: PageTime) -> Picture:
    """Return when which OS pages were touched."""
    rows, bins = counts.reads.shape
    return Picture(
        id="page-time",
        title="OS pages over time",
        note="A scan is a slope, a hot set a line across, and a random workload a cloud. Time runs "
        "to the right in accesses, stable memory downwards without what nobody touched.",
        table=_time_table(page_map, counts),
        facts={
            "rows": rows,
            "bins": bins,
            "accesses_each": counts.accesses_each,
            "os_pages_each": counts.os_pages_each,
            "access_count": counts.access_count,
            "owners": _told_owners(page_map, coloured_names(page_map)),
        },
        columns={
            "reads": counts.reads.ravel(),
            "writes": counts.writes.ravel(),
            "first_message": counts.first_message,
            "first_os_page": counts.first_os_page,
            "owner": page_map.cells(max(1, bins)).owner,
        },
    )


def coloured_names(*maps: PageMap) -> tuple[str, ...]:
    """Return the owners that have colours of their own: those with most OS pages in all maps."""
    of_name: Counter[str] = Counter()
    for page_map in maps:
        for owner, os_pages in zip(page_map.owners, _owned(page_map), strict=True):
            if os_pages and owner.kind != UNKNOWN_KIND:
                of_name[owner.name] += os_pages
    return tuple(sorted(of_name, key=lambda name: (-of_name[name], name))[:COLOURS])


def _owned(page_map: PageMap) -> list[int]:
    """Return how many OS pages each owner has."""
    found: list[int] = np.bincount(page_map.owner, minlength=len(page_map.owners)).tolist()
    return found


def _told_owners(page_map: PageMap, coloured: Sequence[str]) -> list[Json]:
    """Return names, kinds, roles, OS pages and colours."""
    return [
        {
            "name": shortened(owner.name),
            "kind": owner.kind,
            "role": owner.role,
            "os_pages": os_pages,
            "colour": coloured.index(owner.name) if owner.name in coloured else -1,
        }
        for owner, os_pages in zip(page_map.owners, _owned(page_map), strict=True)
    ]


def _units(page_map: PageMap) -> tuple[int, dict[str, Integers]]:
    """Return how many OS pages a cell stands for, and columns of the cells that were touched."""
    cells = page_map.cells(CELLS_MAX)
    at = np.flatnonzero(cells.touched)
    busiest = _busiest(page_map, cells.os_pages_each)
    top = page_map.top_statements[busiest]
    return cells.os_pages_each, {
        "step": np.diff(at, prepend=0),
        "owner": cells.owner[at],
        "reads": cells.reads[at],
        "writes": cells.writes[at],
        "last_writer": cells.last_writer[at],
        "last_access": cells.last_access[at],
        "statement_count": page_map.statement_count[busiest],
        **{f"top_{place}": top[:, place] for place in range(_told_tops(len(at)))},
    }


def _told_tops(cell_count: int) -> int:
    """Return how many statements are told of each cell: three, or fewer in a large map."""
    return max(1, min(TOP_STATEMENTS, TOPS_MAX // max(1, cell_count)))


def _busiest(page_map: PageMap, each: int) -> Integers:
    """Return the row of the most touched OS page of each cell, in the order of cells."""
    touches = page_map.reads + page_map.writes
    cell = page_map.places // each
    order = np.lexsort((-touches, cell))
    new = np.ones(len(order), np.bool_)
    new[1:] = cell[order[1:]] != cell[order[:-1]]
    return order[new]


def _shapes(
    trace: TraceSource, columns: Mapping[str, Integers]
) -> tuple[list[Json], dict[str, Integers]]:
    """Return shapes, each once and shortened, and columns of the statements told and theirs.

    Scripts may have as many shapes as statements, and a page must not grow with them: of those
    beyond `SHAPES_MAX` it has the numbers alone.
    """
    tops = [column for name, column in columns.items() if name.startswith("top_")]
    told = np.unique(np.concatenate(tops))
    told = told[told >= 0]
    numbers: dict[str, int] = {}
    shape_of = np.full(len(told), -1, np.int64)
    place_of = dict(zip(told.tolist(), range(len(told)), strict=True))
    for statement in trace.statements:
        place = place_of.get(statement.index)
        if place is not None:
            shape = statement.shape
            if shape in numbers or len(numbers) < SHAPES_MAX:
                shape_of[place] = numbers.setdefault(shape, len(numbers))
    steps = np.diff(told, prepend=0)
    return [*map(shortened, numbers)], {"statement_step": steps, "statement_shape": shape_of}


def _owners_table(page_map: PageMap) -> PictureTable:
    count = len(page_map.owners)
    pages, reads, writes = (
        np.bincount(page_map.owner, weights=weights, minlength=count).astype(np.int64)
        for weights in (None, page_map.reads, page_map.writes)
    )
    order = [owner for owner in np.argsort(-pages, kind="stable").tolist() if pages[owner]]
    rows = tuple(
        (
            shortened(page_map.owners[owner].name),
            page_map.owners[owner].kind,
            page_map.owners[owner].role,
            *(whole(int(column[owner])) for column in (pages, reads, writes)),
        )
        for owner in order[:ROWS_MAX]
    )
    headings = ("Owner", "Kind", "Role", "OS pages", "Reads", "Writes")
    return PictureTable(headings, rows, max(0, len(order) - ROWS_MAX))


def _time_table(page_map: PageMap, counts: PageTime) -> PictureTable:
    """Return tenths of time: what was touched in each, and the part of memory with most of it."""
    tenths = np.array_split(np.arange(len(counts.reads)), 10)
    rows = []
    for tenth in tenths:
        if not len(tenth):
            continue
        reads, writes = counts.reads[tenth].sum(axis=0), counts.writes[tenth].sum(axis=0)
        most = int(np.argmax(reads + writes)) if len(reads) else 0
        first = int(tenth[0]) * counts.accesses_each
        last = min(counts.access_count, (int(tenth[-1]) + 1) * counts.accesses_each) - 1
        place = whole(int(counts.first_os_page[most])) if len(reads) else ""
        rows.append(
            (
                f"{whole(first)} to {whole(last)}",
                whole(int(reads.sum())),
                whole(int(writes.sum())),
                whole(int(np.count_nonzero(reads + writes))),
                place,
            )
        )
    parts = f"Parts of {whole(counts.os_pages_each)} OS pages touched"
    headings = ("Accesses", "Reads", "Writes", parts, "Most touched part begins at OS page")
    return PictureTable(headings, tuple(rows))
