"""Results of analysis as pictures that a notebook keeps; nothing where matplotlib is missing."""

import io
from collections.abc import Callable, Sequence
from typing import Any, Final

from sqlstable.analysis.locality.locality import Locality
from sqlstable.analysis.page_map import PageMap
from sqlstable.errors import SettingsError
from sqlstable.report.picture_names import drawing_room

_DOTS_PER_INCH: Final = 130
"""As sharp as a screen shows; a committed notebook has every picture in it."""


def page_map_png(found: PageMap) -> bytes | None:
    """Return the map of stable memory, coloured by owner, as PNG."""
    return _png([lambda room, axes: room.draw_page_map(axes, found)])


def locality_png(found: Locality) -> bytes | None:
    """Return the curves of locality, side by side, as PNG."""
    return _png(
        [
            lambda room, axes: room.draw_reuse(axes, found),
            lambda room, axes: room.draw_miss_ratio(axes, found, None),
            lambda room, axes: room.draw_working_set(axes, found),
            lambda room, axes: room.draw_regions(axes, found),
        ]
    )


def _png(draws: Sequence[Callable[[Any, Any], None]]) -> bytes | None:
    try:
        room: Any = drawing_room()
    except SettingsError:
        return None
    from matplotlib.figure import Figure  # noqa: PLC0415  it is there

    down = across = 1 if len(draws) == 1 else 2
    with room.paper_style():
        size = (across * room.COLUMN_INCHES, down * room.HEIGHT_INCHES)
        figure = Figure(figsize=size, layout="constrained")
        for draw, axes in zip(
            draws, figure.subplots(down, across, squeeze=False).flat, strict=True
        ):
            draw(room, axes)
        out = io.BytesIO()
        # Without the version of matplotlib, which is written else.
        figure.savefig(out, format="png", dpi=_DOTS_PER_INCH, metadata={"Software": None})
    return out.getvalue()
