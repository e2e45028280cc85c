"""The HTML page in a browser: sorted, filtered, opened, by keyboard, dark, on a phone, on paper."""

from dataclasses import replace
from functools import cached_property

import pytest
from playwright.sync_api import expect

from benchmarks.html import SIZE_MB_MAX, write_trace
from sqlstable import Canister, open_trace
from sqlstable.report.html.as_html import render_comparison_html, render_html
from tests.browser import DESK, PHONE, chromium, opened, violations  # noqa: F401  a fixture
from tests.hand_built import (
    HandBuiltTrace,
    message,
    music_trace,
    shapes_put_together,
    statement,
    summarized,
    use,
)
from tests.test_html import evil_trace

pytestmark = pytest.mark.slow

ROWS = "#statements tr[data-row]"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("pages")


def written(folder, name, text):
    path = folder / f"{name}.html"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def shop(folder):
    """The page of a real run: messages of each kind, a plan, owners, accesses for pictures."""
    with Canister(trace=":memory:", engine="wasm") as canister:
        canister.update("CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT)")
        with canister.message("update", label="load") as made, made.transaction():
            made.executemany("INSERT INTO t (b) VALUES (?)", [(f"row {it}",) for it in range(2000)])
        for key in range(70):
            canister.query("SELECT b FROM t WHERE a = ?", (key,))
        canister.query("SELECT count(*) FROM t WHERE b LIKE '%7%'")
        canister.upgrade()
        with canister.trace() as trace:
            return written(folder, "shop", render_html(trace, name="shop"))


@pytest.fixture(scope="module")
def music(folder):
    return written(folder, "music", render_html(music_trace(), name="music.trace"))


@pytest.fixture(scope="module")
def both(folder):
    before = music_trace()
    after = replace(
        before,
        statements=tuple(
            replace(it, stable=use(it.stable.os_pages_accessed // 2), plan=("SEARCH x",))
            for it in before.statements
        ),
    )
    return written(folder, "both", render_comparison_html(before, after))


@pytest.fixture(scope="module")
def evil(folder):
    return written(folder, "evil", render_html(evil_trace(), name="</title><b>x"))


@pytest.fixture(scope="module")
def long(folder):
    trace = evil_trace("W" * 5_000)
    return written(folder, "long", render_html(trace, name="N" * 5_000))


@pytest.fixture(scope="module")
def empty(folder):
    return written(folder, "empty", render_html(HandBuiltTrace()))


@pytest.fixture(scope="module")
def one(folder):
    trace = HandBuiltTrace(
        messages=(message(0, "query", (0,), use(1)),), statements=(statement(0, 0, "SELECT 1", 1),)
    )
    return written(folder, "one", render_html(trace))


def first_cells(page, place):
    return page.locator(f"{ROWS} > :nth-child({place})").all_inner_texts()


# -- tables --------------------------------------------------------------------------------------


def test_a_heading_sorts_down_then_up(chromium, music):  # noqa: F811
    with opened(chromium, music) as page:
        heading = page.locator("#statements thead th", has_text="OS pages accessed")
        for direction, expected in (("descending", "262,144"), ("ascending", "0")):
            heading.locator("button").click()
            assert heading.get_attribute("aria-sort") == direction
            assert page.locator(f"{ROWS} td.number.row").first.inner_text() == expected
        assert page.locator("#statements thead [aria-sort]").count() == 1


def test_text_sorts_as_people_do(chromium, music):  # noqa: F811
    with opened(chromium, music) as page:
        page.locator("#statements thead button", has_text="statement").click()
        found = first_cells(page, 2)
        assert found[0].startswith("BEGIN")
        assert found == sorted(found, key=str.lower)


def test_words_filter_whatever_text_has_them(chromium, music):  # noqa: F811
    with opened(chromium, music) as page:
        search = page.get_by_label("Filter statements by text")
        search.fill("JOIN using")
        expect(page.locator(ROWS)).to_have_count(1)
        found = first_cells(page, 2)
        assert "JOIN album" in found[0]
        search.fill("no such text")
        page.get_by_text("No statement matches").wait_for()
        page.locator("#statements .everything").click()
        assert page.locator(ROWS).count() == len(music_trace().statements)


def test_choices_filter_by_kind_and_owner(chromium, music):  # noqa: F811
    trace = music_trace()
    with opened(chromium, music) as page:
        page.locator("#statements").get_by_label("owner").select_option(label="artist")
        expected = [it for it in trace.statements if any(o.name == "artist" for o in it.owners)]
        assert page.locator(ROWS).count() == len(expected)
        page.locator("#statements .tools label", has_text="kind").locator(
            "select"
        ).first.select_option(label="ddl")
        expected = [it for it in expected if it.kind == "ddl"]
        assert page.locator(ROWS).count() == len(expected)


def test_a_row_opens_to_all_that_is_known(chromium, music):  # noqa: F811
    with opened(chromium, music) as page:
        page.locator(f"{ROWS} .row-open").nth(5).click()
        told = page.locator("#statements .row-detail").inner_text()
        for words in ("JOIN artist AS r", "SCAN t", "USE TEMP B-TREE", "1,290", "interior", "run"):
            assert words in told
        page.get_by_role("button", name="Its message").click()
        assert page.locator("#message-3 .row-open").get_attribute("aria-expanded") == "true"
        page.get_by_role("button", name="Its statements").click()
        assert page.locator(ROWS).count() == 1
        assert "of message 3" in page.locator("#statements .told").inner_text()


def test_rows_come_a_part_at_a_time_and_links_find_theirs(chromium, shop):  # noqa: F811
    with opened(chromium, shop, fragment="#statement-60") as page:
        assert page.locator(ROWS).count() <= 50
        row = page.locator("#statement-60 .row-open")
        assert row.get_attribute("aria-expanded") == "true"
        assert row.evaluate("it => it === document.activeElement")
        page.locator("#statements").get_by_role("button", name="Previous").click()
        assert page.locator("#statement-0").count() == 1
        page.locator("#statements").get_by_label("Rows at once").select_option("200")
        assert page.locator(ROWS).count() > 70


def test_everything_goes_by_keyboard(chromium, music):  # noqa: F811
    with opened(chromium, music) as page:
        page.keyboard.press("Tab")
        assert page.locator(":focus").inner_text() == "Skip to the content"
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "content"
        page.locator(f"{ROWS} .row-open").first.focus()
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Enter")
        assert page.locator("#statement-1 .row-open").get_attribute("aria-expanded") == "true"
        page.keyboard.press("Enter")
        assert page.locator("#statement-1 .row-open").get_attribute("aria-expanded") == "false"
        page.locator("#statements thead button").nth(2).focus()
        page.keyboard.press("Space")
        assert page.locator("#statements thead [aria-sort]").count() == 1


def test_two_traces_have_pairs_plans_and_maps(chromium, both):  # noqa: F811
    with opened(chromium, both) as page:
        assert page.locator(f"{ROWS} [data-word$=better]").count() > 0
        page.locator(f"{ROWS} .row-open").nth(5).click()
        told = page.locator("#statements .row-detail").inner_text()
        assert "- SCAN t" in told
        assert "+ SEARCH x" in told
        assert page.locator("[data-picture^=page-map] canvas").count() == 2


def test_an_index_that_one_trace_alone_has_is_in_one_legend(chromium, folder):  # noqa: F811
    traces = []
    for number, setup in enumerate(("SELECT 1", "CREATE INDEX t_a ON t (a)")):
        path = folder / f"{number}.trace"
        with Canister(trace=path) as canister:
            canister.update("CREATE TABLE t (a)")
            canister.update("INSERT INTO t VALUES (randomblob(9000))")
            canister.update(setup)
        traces.append(path)
    with open_trace(traces[0]) as before, open_trace(traces[1]) as after:
        path = written(folder, "index", render_comparison_html(before, after))
    with opened(chromium, path) as page:
        legends = page.locator("[data-picture^=page-map] .picture-legend")
        page.wait_for_function("document.querySelectorAll('.picture-legend button').length > 3")
        assert ["t_a" in legends.nth(place).inner_text() for place in (0, 1)] == [False, True]


# -- looks ---------------------------------------------------------------------------------------


def ground(page):
    return page.evaluate("getComputedStyle(document.body).backgroundColor")


def test_the_theme_follows_the_system_and_the_button(chromium, one):  # noqa: F811
    found = {}
    for scheme in ("light", "dark"):
        with opened(chromium, one, scheme=scheme) as page:
            found[scheme] = ground(page)
    assert found["light"] != found["dark"]
    with opened(chromium, one) as page:
        button = page.locator("#theme")
        for words, expected in (("light", "light"), ("dark", "dark"), ("system", "light")):
            button.click()
            assert button.inner_text() == f"Theme: {words}"
            assert ground(page) == found[expected]


@pytest.mark.parametrize("name", ["shop", "both", "evil", "long", "empty", "one"])
def test_nothing_is_wider_than_a_phone(chromium, request, name):  # noqa: F811
    with opened(chromium, request.getfixturevalue(name), viewport=PHONE) as page:
        for opener in page.locator(".row-open").all()[:3]:
            opener.click()
        assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]


@pytest.mark.parametrize(
    ("viewport", "scheme"), [(DESK, "light"), (PHONE, "dark")], ids=["light desk", "dark phone"]
)
@pytest.mark.parametrize("name", ["shop", "both", "evil", "empty"])
def test_axe_finds_no_violation(chromium, request, name, viewport, scheme):  # noqa: F811
    path = request.getfixturevalue(name)
    with opened(chromium, path, viewport=viewport, scheme=scheme) as page:
        for opener in page.locator(".row-open").all()[:2]:
            opener.click()
        assert violations(page) == []


def test_on_paper_all_is_shown_and_nothing_to_press(chromium, shop):  # noqa: F811
    with opened(chromium, shop) as page:
        page.emulate_media(media="print")
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert page.locator(ROWS).count() > 70
        assert page.locator("details:not([open])").count() == 0
        for hidden in (".tools", ".contents", "#theme", ".turner button"):
            assert not page.locator(hidden).first.is_visible()
        fixed = "[...document.querySelectorAll('*')].filter(it => ['fixed', 'sticky'].includes("
        assert page.evaluate(f"{fixed}getComputedStyle(it).position)).length") == 0
        page.evaluate("dispatchEvent(new Event('afterprint'))")
        assert page.locator(ROWS).count() == 50
        assert page.pdf().startswith(b"%PDF")


# -- safety --------------------------------------------------------------------------------------


def test_hostile_text_is_shown_and_never_run(chromium, evil):  # noqa: F811
    with opened(chromium, evil) as page:
        for opener in page.locator(".row-open").all():
            opener.click()
        assert page.locator("img").count() == 0
        assert "<img src=x onerror" in page.locator("#statements .row-detail").first.inner_text()
        text = page.locator("body").inner_text()
        assert "\u202e" not in text
        assert "\x1b" not in text


def test_the_policy_stops_what_gets_in(chromium, one):  # noqa: F811
    with opened(chromium, one, is_attacked=True) as page:
        stopped = page.evaluate(
            """() => new Promise((resolve) => {
              const found = [];
              addEventListener("securitypolicyviolation", (it) => {
                found.push(it.effectiveDirective);
                if (found.length === 3) resolve(found.sort());
              });
              const script = document.createElement("script");
              script.textContent = "window.ran = true";
              const image = document.createElement("img");
              image.src = "https://example.invalid/x.png";
              const frame = document.createElement("iframe");
              frame.src = "https://example.invalid/";
              document.body.append(script, image, frame);
            })"""
        )
        assert stopped == ["frame-src", "img-src", "script-src-elem"]
        assert page.evaluate("window.ran") is None


def test_an_empty_trace_and_one_statement_are_whole_pages(chromium, empty, one):  # noqa: F811
    with opened(chromium, empty) as page:
        assert "The trace is empty" in page.locator("main").inner_text()
    with opened(chromium, one) as page:
        assert page.locator(ROWS).count() == 1


class WithoutAccesses(HandBuiltTrace):
    """A trace that keeps no accesses, so that there is nothing to draw, and adds up once."""

    summary = cached_property(lambda self: summarized(self.messages, self.statements))
    shape_uses = cached_property(lambda self: shapes_put_together(self.messages, self.statements))

    def access_blocks(self, *, owners=True, pieces=False):
        return iter(())


def test_a_hundred_thousand_statements_stay_quick(chromium, folder):  # noqa: F811
    count = 100_000
    trace = WithoutAccesses(
        messages=(message(0, "update", range(count), use(9)),),
        statements=tuple(
            statement(it, 0, f"SELECT {it} FROM t{it % 7}", it % 1000) for it in range(count)
        ),
    )
    path = written(folder, "many", render_html(trace))
    assert path.stat().st_size < 4_000_000
    with opened(chromium, path) as page:
        assert page.locator("tr").count() < 500
        page.get_by_label("Filter statements by text").fill("99999")
        expect(page.locator(ROWS)).to_have_count(1)
        page.locator("#statements .everything").click()
        page.locator("#statements thead button", has_text="statement").click()
        assert page.locator(ROWS).count() == 50


def test_a_million_accesses_are_a_small_page(chromium, folder):  # noqa: F811
    write_trace(folder / "million.trace")
    with open_trace(folder / "million.trace") as trace:
        path = written(folder, "million", render_html(trace))
    assert path.stat().st_size <= 1_000_000 * SIZE_MB_MAX
    with opened(chromium, path) as page:
        assert page.locator("[data-picture=page-map] canvas").is_visible()
        assert page.locator(ROWS).count() == 50
