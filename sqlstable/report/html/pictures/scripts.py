"""The scripts and the style of the pictures, joined for a page or for a notebook."""

from importlib.resources import files
from typing import Final

_FOLDER: Final = files("sqlstable.report.html.pictures")

_MAP: Final = ("shared", "curves", "map")
"""What the map of stable memory needs, in the order in which it is defined."""
_OTHERS: Final = (
    *("chart", "page_time", "reuse", "miss_ratio", "working_set"),
    *("regions", "hot_set", "growth", "trees"),
)


def page_script(more: str = "") -> str:
    """Return the script of a page: it draws each picture that has a place there.

    It stands in a function of its own, so that nothing else of a page shares its names.

    Args:
        more: Another script of the page, which may use what stands in shared.js.
    """
    joined = f"{_joined(*_MAP, *_OTHERS)}\n{more}\n{_joined('start')}"
    return f'"use strict";\n(() => {{\n{joined}}})();\n'


def map_module() -> str:
    """Return an ES module that exports ``unpack(base64)`` and ``drawMap(element, data)``.

    ``unpack`` takes what `payload` gives and promises an object with a picture's data for each of
    their ids; ``drawMap`` draws that of ``page-map`` into an element.
    """
    return f"{_joined(*_MAP)}export {{ unpack, drawMap }};\n"


def style() -> str:
    """Return the style sheet of the pictures, light and dark."""
    return (_FOLDER / "pictures.css").read_text(encoding="utf-8")


def _joined(*names: str) -> str:
    scripts = ((_FOLDER / "js" / f"{name}.js").read_text(encoding="utf-8") for name in names)
    return "\n".join(scripts)
