"""All pictures of a trace."""

from sqlstable.analysis.locality.locality import locality
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
from sqlstable.report.html.pictures.of_page_map import map_picture, time_picture
from sqlstable.report.html.pictures.picture import Picture


def pictures_of(
    trace: TraceSource, *, statement_link: str | None = "statement-"
) -> tuple[Picture, ...]:
    """Return the pictures of a trace, in the order in which a page shows them.

    Args:
        trace: Read four times, never held.
        statement_link: What the ids of the rows of statements begin with in the page; None where
            there are none.
    """
    pages = page_map(trace)
    found = locality(trace)
    return (
        map_picture(pages, trace, statement_link=statement_link),
        time_picture(pages, page_time(trace, pages)),
        trees_picture(pages),
        reuse_picture(found),
        miss_ratio_picture(found, trace),
        working_set_picture(found),
        hot_set_picture(found),
        regions_picture(found),
        growth_picture(trace, found.over_time),
    )
