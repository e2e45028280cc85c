"""The pictures in a browser: what they tell is what the analysis found, by mouse and by keys."""

import random
import re
from contextlib import ExitStack

import numpy as np
import pytest

from sqlstable import Canister
from sqlstable.analysis.curves import CURVES, width_for
from sqlstable.analysis.page_map import page_map
from sqlstable.report.html.as_html import render_html
from sqlstable.report.html.pictures.scripts import map_module
from tests.browser import PHONE, chromium, opened, violations  # noqa: F401  a fixture
from tests.hand_built import HandBuiltTrace, accesses, message, statement, use
from tests.test_access_stream import run_at_random
from tests.test_pictures import HOSTILE

pytestmark = pytest.mark.slow

MAP = "[data-picture=page-map]"
PICTURES = (
    *("page-map", "page-time", "trees", "reuse", "miss-ratio"),
    *("working-set", "hot-set", "regions", "growth"),
)


@pytest.fixture(name="show")
def show_fixture(chromium, tmp_path):  # noqa: F811
    """Return a function that opens the page of a trace."""
    with ExitStack() as pages:

        def show(trace, **options):
            path = tmp_path / "page.html"
            path.write_text(render_html(trace), encoding="utf-8")
            return pages.enter_context(opened(chromium, path, **options))

        yield show


@pytest.fixture(name="trace", scope="module")
def trace_fixture():
    with Canister(trace=":memory:") as canister:
        run_at_random(canister, random.Random(4), 12)
        trace = canister.trace()
        yield trace
        trace.close()


def told(tab):
    return tab.locator(f"{MAP} output").inner_text()


def whole(number):
    return f"{number:,}"


def move_to(tab, os_page):
    tab.evaluate(
        f"page => {{ const {{map}} = document.querySelector('{MAP}');"
        " map.moveTo(map.cellOfPage(page)); }",
        os_page,
    )


def pixels(tab):
    """Return the pixels of the map, in lines."""
    flat = tab.evaluate(f"""() => {{
        const canvas = document.querySelector("{MAP} canvas");
        const copy = new OffscreenCanvas(canvas.width, canvas.height);
        const context = copy.getContext("2d", {{ willReadFrequently: true }});
        context.drawImage(canvas, 0, 0);
        const image = context.getImageData(0, 0, canvas.width, canvas.height);
        return [canvas.width, ...image.data];
    }}""")
    return np.array(flat[1:]).reshape(-1, flat[0], 4)


def cell_places(made):
    """Return where the cells of a map lie; each gap has one."""
    gaps = int(np.count_nonzero(made.stretches.gap)) + (made.stretches.gap_after > 0)
    count = made.stretches.shown + gaps
    x, y = CURVES["hilbert"](count, width_for(count))
    return x.tolist(), y.tolist()


def painted(image):
    """Return the colours of all cells, sorted; what lies beyond the last one is transparent."""
    return sorted(tuple(it) for it in image.reshape(-1, 4).tolist() if it[3])


def settle(tab):
    """Wait until the browser has drawn what changed."""
    tab.evaluate(
        "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
    )


def point_at(tab, x, y):
    """Move the mouse onto a pixel of the map."""
    canvas = tab.locator(f"{MAP} canvas")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    height, width = pixels(tab).shape[:2]
    at = (box["width"] * (x + 0.5) / width, box["height"] * (y + 0.5) / height)
    tab.mouse.move(box["x"] + at[0], box["y"] + at[1])


def check_told(text, made, row, trace):
    owner = made.owners[made.owner[row]]
    assert text.startswith(f"OS page {whole(made.os_pages[row])}")
    assert owner.name in text
    assert owner.role in text
    reads, writes = int(made.reads[row]), int(made.writes[row])
    assert re.search(rf"\b{whole(reads)} reads?, {whole(writes)} writes? ", text)
    assert f"accessed last by message {whole(made.last_access[row])}" in text
    writer = int(made.last_writer[row])
    expected = (
        "never written" if writer < 0 else f"written last by message {whole(writer)}, accessed"
    )
    assert expected in text
    count = int(made.statement_count[row])
    assert ("touched by no statement" if count == 0 else f"{whole(count)} statement") in text
    for top in made.top_statements[row].tolist():
        if top >= 0:
            assert f"{top} · {trace.statements[top].shape[:40]}" in text


def test_each_os_page_tells_what_the_analysis_found(show, trace):
    tab, made = show(trace), page_map(trace)
    for row in [*range(0, len(made.os_pages), 7), len(made.os_pages) - 1]:
        move_to(tab, int(made.os_pages[row]))
        check_told(told(tab), made, row, trace)
    links = tab.locator(f"{MAP} .map-statement a").evaluate_all("all => all.map(it => it.hash)")
    tops = made.top_statements[len(made.os_pages) - 1]
    assert links == [f"#statement-{top}" for top in tops.tolist() if top >= 0]
    message_index = int(made.last_access[-1])
    link = tab.locator(f"{MAP} output a[href='#message-{message_index}']").last
    link.click()
    assert tab.locator(f"#message-{message_index}").is_visible()


def test_the_mouse_points_at_the_cell_under_it(show, trace):
    tab, made = show(trace), page_map(trace)
    x, y = cell_places(made)
    assert pixels(tab).shape[1] == width_for(len(x))
    for row in range(0, len(made.os_pages), 29):
        cell = int(made.places[row]) + int(
            np.count_nonzero(made.stretches.gap[made.stretches.first <= made.os_pages[row]])
        )
        point_at(tab, x[cell], y[cell])
        check_told(told(tab), made, row, trace)


def test_the_cursor_goes_by_keys_and_is_held_by_enter(show, trace):
    tab, made = show(trace), page_map(trace)
    x, y = cell_places(made)
    os_page_at = {place: cell for cell, place in enumerate(zip(x[:16], y[:16], strict=True))}
    tab.locator(f"{MAP} canvas").focus()
    tab.keyboard.press("Home")
    for key, place in (("Right", (1, 0)), ("Down", (1, 1)), ("Left", (0, 1)), ("Up", (0, 0))):
        tab.keyboard.press(f"Arrow{key}")
        assert told(tab).startswith(f"OS page {os_page_at[place]} ·")
    tab.keyboard.press("ArrowUp")
    tab.keyboard.press("Enter")
    assert told(tab).startswith("OS page 0 (held)")
    point_at(tab, 1, 1)
    assert told(tab).startswith("OS page 0 (held)")
    tab.keyboard.press("Escape")
    point_at(tab, 1, 0)
    assert told(tab).startswith(f"OS page {os_page_at[1, 0]} ·")
    tab.keyboard.press("End")
    assert f"A gap: {whole(made.stretches.gap_after)} OS pages" in told(tab)


@pytest.mark.parametrize("curve", CURVES)
def test_the_curves_are_those_of_the_analysis(chromium, curve):  # noqa: F811
    tab = chromium.new_page()
    names = "Object.assign(window, { pixelsOfCells, widthFor, ready: true });"
    tab.add_script_tag(content=f"{map_module()}{names}", type="module")
    tab.wait_for_function("window.ready")
    for count in (0, 1, 5, 100, 5_000, 20_000):
        width = width_for(count)
        x, y = CURVES[curve](count, width)
        assert tab.evaluate("count => widthFor(count)", count) == width
        made = tab.evaluate(
            "([name, ...it]) => [...pixelsOfCells(name, ...it)]", [curve, count, width]
        )
        assert made == (y.astype(np.int64) * width + x).tolist()
    tab.close()


def test_each_colouring_shows_something_else(show, trace):
    tab = show(trace)
    seen = []
    colour, order = tab.locator(f"{MAP} select").all()
    for name in ("owner", "accesses", "writer", "age"):
        colour.select_option(name)
        seen.append(pixels(tab))
        assert len(np.unique(seen[-1].reshape(-1, 4), axis=0)) > 3
    assert len({it.tobytes() for it in seen}) == 4
    order.select_option("linear")
    assert painted(pixels(tab)) == painted(seen[-1])
    button = tab.locator(f"{MAP} .map-zoom button").nth(1)
    before = tab.locator(f"{MAP} canvas").bounding_box()["width"]
    button.click()
    assert tab.locator(f"{MAP} canvas").bounding_box()["width"] == pytest.approx(
        2 * before, rel=0.05
    )


def test_an_owner_chosen_in_the_legend_stands_out(show, trace):
    tab = show(trace)
    before = pixels(tab)
    chosen = tab.locator(f"{MAP} .picture-legend button").first
    chosen.click()
    assert not np.array_equal(pixels(tab), before)
    assert tab.locator(f"{MAP} [aria-pressed=true]:focus").count() == 1
    tab.keyboard.press("Enter")
    assert tab.locator(f"{MAP} [aria-pressed=true]").count() == 0
    assert np.array_equal(pixels(tab), before)


def test_light_dark_and_paper(show, trace):
    tab = show(trace, scheme="light")
    light = pixels(tab)
    tab.emulate_media(color_scheme="dark")
    settle(tab)
    dark = pixels(tab)
    assert light[..., :3].sum() > dark[..., :3].sum()
    tab.emulate_media(color_scheme="dark", media="print")
    settle(tab)
    assert np.array_equal(pixels(tab), light)
    assert not tab.locator(f"{MAP} .picture-controls").is_visible()
    tab.emulate_media(color_scheme="dark", media="screen")
    tab.evaluate("document.documentElement.dataset.theme = 'light'")
    settle(tab)
    assert np.array_equal(pixels(tab), light)


def test_axe_finds_nothing_in_pictures_and_their_tables(show, trace):
    tab = show(trace, scheme="dark", viewport=PHONE)
    for name in PICTURES:
        tab.locator(f"#{name} summary").click()
    assert violations(tab) == []
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize(
    "name", ["reuse", "miss-ratio", "working-set", "regions", "growth", "page-time"]
)
def test_each_chart_has_a_cursor_for_mouse_and_keys(show, trace, name):
    tab = show(trace)
    place = tab.locator(f"[data-picture={name}] [tabindex='0']")
    output = tab.locator(f"[data-picture={name}] output")
    place.focus()
    tab.keyboard.press("Home")
    first = output.inner_text()
    tab.keyboard.press("End")
    last = output.inner_text()
    tab.keyboard.press("ArrowLeft")
    assert len({first, last, output.inner_text()}) == 3
    place.hover(position={"x": 400, "y": 100})
    assert output.inner_text() not in (first, last)


def test_the_miss_ratio_marks_the_configured_cache(show, trace):
    assert "configured: 500" in show(trace).locator("[data-picture=miss-ratio] svg").text_content()


def test_traces_of_nothing_and_of_hostile_names_are_shown(show):
    tab = show(HandBuiltTrace(messages=(message(0, "update", (), use(0)),)))
    assert "No OS page was touched" in told(tab)
    hostile = HandBuiltTrace(
        messages=(message(0, "update", (0,), use(1)),),
        statements=(statement(0, 0, HOSTILE),),
        accesses_by_statement=(accesses((0, 0, 10, -1)),),
    )
    tab = show(hostile)
    move_to(tab, 0)
    assert '</script><img src=x onerror="alert(1)">' in told(tab)
    assert tab.locator("img").count() == 0


def test_a_cell_that_stands_for_many_says_so(show, trace, monkeypatch):
    monkeypatch.setattr("sqlstable.report.html.pictures.of_page_map.CELLS_MAX", 16)
    tab, made = show(trace), page_map(trace)
    cells = made.cells(16)
    each = cells.os_pages_each
    assert f"A cell stands for {each} OS pages" in tab.locator(MAP).inner_text()
    for cell in np.flatnonzero(cells.touched).tolist():
        tab.evaluate(f"document.querySelector('{MAP}').map.moveTo({cell})")
        first = int(cells.first[cell])
        assert told(tab).startswith(
            f"OS pages {whole(first)} to {whole(first + each - 1)} · mostly "
        )
        assert f"{whole(int(cells.reads[cell]))} read" in told(tab)


def test_a_finger_holds_what_it_touches(show, trace):
    tab = show(trace, viewport=PHONE, has_touch=True)
    tab.locator(f"{MAP} canvas").tap(position={"x": 5, "y": 5})
    assert told(tab).startswith("OS page 0 (held)")
    tab.locator(f"{MAP} canvas").tap(position={"x": 5, "y": 5})
    assert told(tab).startswith("OS page 0 ·")


def test_a_gap_says_how_large_it_is(show):
    far = 1 << 30
    trace = HandBuiltTrace(
        messages=(message(0, "update", (0,), use(2)),),
        statements=(statement(0, 0, "SELECT 1"),),
        accesses_by_statement=(accesses((0, 0, 1, -1), (1, far * 4096, 1, -1)),),
    )
    tab = show(trace)
    tab.evaluate(f"document.querySelector('{MAP}').map.moveTo(16)")
    assert told(tab).startswith(f"A gap: {far - 16:,} OS pages (4 TiB)")
    move_to(tab, far)
    assert told(tab).startswith(f"OS page {far:,}")
