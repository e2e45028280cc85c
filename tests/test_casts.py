"""The recorded stories in the docs: what they show now, sound, and playing in a browser."""

import html
import json
import re

import pytest
from playwright.sync_api import expect

from docs.casts import CASTS, FOLDER, HEIGHT, WIDTH, cast
from tests.browser import chromium  # noqa: F401  a fixture
from tests.documents import ROOT

pytestmark = pytest.mark.slow

SGR = re.compile(r"\x1b\[[\d;]*m")


def lines_of(name):
    return (FOLDER / f"{name}.cast").read_text(encoding="utf-8").splitlines()


def words_of(name):
    shown = "".join(json.loads(line)[2] for line in lines_of(name)[1:])
    return SGR.sub("", shown).replace("\r", "")


@pytest.mark.parametrize("name", CASTS)
def test_a_cast_is_what_the_story_shows_now(name):
    assert "\n".join(lines_of(name)) + "\n" == cast(name), "run python docs/casts.py"


@pytest.mark.parametrize("name", CASTS)
def test_a_cast_is_of_version_2_with_rising_times_and_fits_its_terminal(name):
    header, *events = map(json.loads, lines_of(name))
    assert (header["version"], header["width"], header["height"]) == (2, WIDTH, HEIGHT)
    assert not header.keys() & {"timestamp", "idle_time_limit"}
    times = [at for at, _, _ in events]
    assert times == sorted(times)
    assert {kind for _, kind, _ in events} == {"o"}
    assert all(text.endswith("\r\n") for _, _, text in events)
    assert max(map(len, words_of(name).splitlines())) <= WIDTH


@pytest.fixture
def page(chromium, tmp_path):  # noqa: F811  the fixture
    """A page with the cast as the site has it: the player, and nothing fetched."""
    player = (ROOT / "docs/javascripts/cast.js").read_text(encoding="utf-8")
    source = "\n".join(lines_of("survival"))
    assert "</script" not in source
    path = tmp_path / "page.html"
    path.write_text(
        "<!doctype html><meta charset=utf-8><div class=cast>"
        f'<script type="application/x-asciicast">\n{source}\n</script></div>'
        f"<script>{player}</script>",
        encoding="utf-8",
    )
    page = chromium.new_page()
    complaints = []
    page.on("pageerror", lambda it: complaints.append(str(it)))
    page.on("request", lambda it: complaints.append(it.url))
    page.goto(path.as_uri())
    yield page
    assert complaints == [path.as_uri()]
    page.close()


def test_the_player_shows_the_first_scene_and_plays_to_the_end(page):
    screen = page.locator(".cast-screen")
    expect(screen).to_contain_text("kill -9 in the middle of a message")
    expect(screen).not_to_contain_text("Another process")
    page.get_by_role("button", name="Next scene").click()
    expect(screen).to_contain_text("Another process")
    page.get_by_role("button", name="Previous scene").click()
    page.get_by_role("button", name="Play", exact=True).click()
    page.get_by_role("button", name="Pause").click()
    page.get_by_label("Time").evaluate(
        "it => { it.value = it.max; it.dispatchEvent(new Event('input')) }"
    )
    expect(page.get_by_role("button", name="Again")).to_be_visible()
    assert html.unescape(screen.inner_text()).rstrip("\n") == words_of("survival").rstrip("\n")


def test_the_player_shows_colours_as_they_were_recorded(page):
    colours = page.locator(".cast-screen span").evaluate_all("all => all.map(it => it.style.color)")
    assert {"rgb(0, 120, 206)", "rgb(189, 89, 0)"} <= set(colours)
