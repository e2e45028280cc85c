"""The map of stable memory in a notebook: the widget, and the picture that goes with it."""

import base64
import io
import sys

import pytest
from matplotlib.image import imread

from sqlstable import Canister
from sqlstable.analysis.page_map import page_map
from sqlstable.notebook_map import MapView, widget_class
from sqlstable.report.html.pictures.payload import payload
from sqlstable.report.notebook_pictures import page_map_png
from tests.browser import chromium  # noqa: F401  a fixture
from tests.hand_built import HandBuiltTrace
from tests.hostile_texts import HOSTILE_NAME
from tests.notebook_world import no_matplotlib

WIDGET = "application/vnd.jupyter.widget-view+json"


@pytest.fixture(scope="module")
def view():
    quoted = '"' + HOSTILE_NAME.replace('"', '""') + ' $x_^$"'
    with Canister(trace=":memory:") as canister:
        canister.update(f"CREATE TABLE {quoted} (id INTEGER PRIMARY KEY, x)")
        with canister.message() as message, message.transaction():
            message.executemany(
                f"INSERT INTO {quoted} (x) VALUES (?)", [("x" * 500,) for _ in range(500)]
            )
        with canister.trace() as trace:
            return MapView.of(trace)


def test_a_map_is_a_widget_and_a_picture(view):
    bundle = view._repr_mimebundle_()
    assert {WIDGET, "image/png", "text/plain"} <= set(bundle)
    assert bundle["text/plain"] == repr(view)
    pixels = imread(io.BytesIO(base64.b64decode(bundle["image/png"])))
    assert pixels.shape[0] > 200
    # Several owners, and what nobody touched.
    assert len({tuple(pixel) for row in pixels for pixel in row.round(1)}) > 4


def test_the_same_trace_gives_the_same_picture(view):
    assert page_map_png(view.pages) == page_map_png(view.pages)


def test_where_a_library_is_missing_the_rest_is_shown(view, monkeypatch):
    monkeypatch.setitem(sys.modules, "anywidget", None)
    widget_class.cache_clear()
    assert set(view._repr_mimebundle_()) == {"image/png", "text/plain"}
    monkeypatch.setattr("sqlstable.report.notebook_pictures.drawing_room", no_matplotlib)
    assert set(view._repr_mimebundle_()) == {"text/plain"}
    widget_class.cache_clear()


def test_a_trace_without_an_access_has_a_map_too():
    pages = page_map(HandBuiltTrace())
    assert page_map_png(pages).startswith(b"\x89PNG")
    assert "0 OS pages" in repr(MapView.of(HandBuiltTrace()))


RENDER = """async ([source, data]) => {
  const url = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
  const widget = (await import(url)).default;
  await widget.render({ model: { get: () => data }, el: document.getElementById("cell") });
}"""


@pytest.mark.slow
def test_the_widget_draws_and_tells_in_a_browser(view, chromium):  # noqa: F811
    complaints = []
    page = chromium.new_page()
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.set_content(f"<style>{widget_class()._css}</style><div id=cell></div>")
    page.evaluate(RENDER, [widget_class()._esm, payload([view.picture])])
    canvas = page.locator("canvas")
    assert canvas.evaluate("it => it.width * it.height") >= view.pages.stretches.shown
    canvas.focus()
    page.keyboard.press("Home")
    told = page.locator(".picture-telling").inner_text()
    page.close()
    assert "OS page 0" in told
    assert "memory manager" in told
    assert complaints == []
