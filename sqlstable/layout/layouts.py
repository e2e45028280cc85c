"""The layouts there are. A new one is a module with its object, and its name in this tuple."""

from typing import Final

from sqlstable.errors import ImageError
from sqlstable.layout.froghub import Froghub
from sqlstable.layout.ic_sqlite_vfs import IcSqliteVfs
from sqlstable.layout.layout import Layout, Peek
from sqlstable.layout.managed import Managed
from sqlstable.layout.raw_layout import Raw

LAYOUTS: Final[tuple[Layout, ...]] = (Managed(), Raw(), Froghub(), IcSqliteVfs())
"""All layouts, the default first. Of two that an image has, the later is the more particular."""

LAYOUT_NAMES: Final = tuple(layout.name for layout in LAYOUTS)


def layout_named(name: str) -> Layout:
    """Return the layout of a name in `LAYOUT_NAMES`."""
    return LAYOUTS[LAYOUT_NAMES.index(name)]


def recognised(peek: Peek) -> Layout | None:
    """Return the layout that an image has, or None where it is of none that is known."""
    return next((layout for layout in reversed(LAYOUTS) if layout.probe(peek)), None)


def check_layout(layout: Layout, peek: Peek) -> None:
    """Refuse an image that is plainly of another layout than the one that was chosen.

    A memory manager that has no database yet can get one in any of the layouts that have buckets.

    Raises:
        ImageError: It names the layout that the image has.
    """
    found = recognised(peek)
    if found is None or layout.probe(peek):
        return
    if not (found.traits.has_buckets and layout.traits.has_buckets):
        raise ImageError(
            f"the image has layout {found.name}, not {layout.name}; choose layout {found.name}"
        )
