"""The map of stable memory in a notebook: a widget, and a still picture where there is none.

The widget is the map of HTML reports. A picture of the same goes with it, for notebooks that are
read without a kernel, such as on a web page that shows committed ones.
"""

from base64 import b64encode
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Self

from sqlstable.analysis.page_map import PageMap, page_map
from sqlstable.analysis.trace_source import TraceSource
from sqlstable.report.html.pictures.of_page_map import map_picture
from sqlstable.report.html.pictures.payload import payload
from sqlstable.report.html.pictures.picture import Picture
from sqlstable.report.html.pictures.scripts import map_module, style
from sqlstable.report.notebook_pictures import page_map_png

_RENDER = """
export default {
  async render({ model, el }) {
    el.classList.add("picture");
    const place = document.createElement("div");
    el.append(place);
    const pictures = await unpack(model.get("map"));
    drawMap(place, pictures["page-map"]);
  },
};
"""


@dataclass(frozen=True, slots=True, eq=False)
class MapView:
    """A map of stable memory that shows itself."""

    pages: PageMap
    picture: Picture

    @classmethod
    def of(cls, trace: TraceSource) -> Self:
        """Return the map of a trace, which may be closed afterwards."""
        pages = page_map(trace)
        return cls(pages, map_picture(pages, trace, statement_link=None))

    def __repr__(self) -> str:
        return f"<map of stable memory: {self.pages.stretches.shown:,} OS pages shown>"

    def _repr_mimebundle_(self, **_options: object) -> dict[str, Any]:
        """Return the widget where it can be, and always what needs no kernel."""
        bundle: dict[str, Any] = {"text/plain": repr(self)}
        picture = page_map_png(self.pages)
        if picture is not None:
            bundle["image/png"] = b64encode(picture).decode("ascii")
        widget = widget_class()
        if widget is not None:
            made = widget(map=payload([self.picture]))._repr_mimebundle_()
            bundle = {**(made[0] if isinstance(made, tuple) else made or {}), **bundle}
        return bundle


@lru_cache
def widget_class() -> Any:  # noqa: ANN401  anywidget is optional
    """Return the class of the widget, or None where anywidget is not installed."""
    try:
        import anywidget  # noqa: PLC0415  optional
        import traitlets  # noqa: PLC0415  comes with it
    except ImportError:
        return None
    body = {
        "__module__": __name__,
        "__doc__": "The map of HTML reports, in a notebook.",
        "_esm": map_module() + _RENDER,
        "_css": style(),
        "map": traitlets.Unicode().tag(sync=True),
    }
    return type("PageMapWidget", (anywidget.AnyWidget,), body)
