"""All pictures of a trace, and those that two have side by side."""

from dataclasses import replace

from sqlstable.analysis.locality.locality import Locality, locality
from sqlstable.analysis.page_map import page_map
from sqlstable.analysis.page_time import page_time
from sqlstable.analysis.trace_source import TraceSource
from sqlstable.report.html.pictures.of_locality import (
    hot_set_picture,
    miss_ratio_picture,
    regions_picture,
    reuse_picture,
    working_set_picture,
)
from sqlstable.report.html.pictures.of_memory import growth_picture, trees_picture
from sqlstable.report.html.pictures.of_page_map import coloured_names, map_picture, time_picture
from sqlstable.report.html.pictures.picture import Picture


def pictures_of(
    trace: TraceSource,
    *,
    found: Locality | None = None,
    statement_link: str | None = "statement-",
) -> tuple[Picture, ...]:
    """Return the pictures of a trace, in the order in which a page shows them.

    Args:
        trace: Read four times, never held.
        found: Its locality in OS pages, where it is known already.
        statement_link: What the ids of the rows of statements begin with in the page; None where
            there are none.
    """
    pages = page_map(trace)
    found = found or locality(trace)
    return (
        map_picture(pages, trace, statement_link=statement_link),
        time_picture(pages, page_time(trace, pages)),
        trees_picture(trace, pages),
        reuse_picture(found),
        miss_ratio_picture(found, trace),
        working_set_picture(found),
        hot_set_picture(found),
        regions_picture(found),
        growth_picture(trace, found.over_time),
    )


def comparison_maps(before: TraceSource, after: TraceSource) -> tuple[Picture, Picture]:
    """Return the maps of two traces; an owner has the same colour in both."""
    maps = page_map(before), page_map(after)
    coloured = coloured_names(*maps)
    first, second = (
        replace(
            map_picture(made, trace, statement_link=None, coloured=coloured),
            id=f"page-map-{when}",
            title=f"Map of stable memory, {when}",
            drawn_as="page-map",
        )
        for made, trace, when in zip(maps, (before, after), ("before", "after"), strict=True)
    )
    return first, second
