"""The browser that is installed, driven by playwright: pages opened, and what they complain of.

Tests need one: Chromium at ``/usr/bin/chromium``, or where ``SQLSTABLE_BROWSER`` says. Where there
is none they fail, and say so; nothing is skipped.
"""

import os
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

CHROMIUM = "/usr/bin/chromium"
PHONE = {"width": 390, "height": 844}
DESK = {"width": 1280, "height": 900}
READY = "html[data-sheets][data-ready]"
AXE = "axe.min.js"


def executable():
    path = os.environ.get("SQLSTABLE_BROWSER", CHROMIUM)
    if not Path(path).is_file():
        pytest.fail(
            f"no browser at {path}: install Chromium, or say in SQLSTABLE_BROWSER where one is"
        )
    return path


@pytest.fixture(scope="module")
def chromium():
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=executable(), args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def opened(
    browser, path, *, viewport=None, scheme="light", fragment="", is_attacked=False, **others
):
    """Open a page, and hold it to what every page promises: no complaint, no request but itself.

    Of one that is attacked, complaints are what is wanted. Others are options of the context.
    """
    context = browser.new_context(viewport=viewport or DESK, color_scheme=scheme, **others)
    page = context.new_page()
    complaints, requests, loaded = [], [], []
    page.on("console", lambda it: complaints.append(it.text))
    page.on("pageerror", lambda it: complaints.append(str(it)))
    page.on("dialog", lambda it: (complaints.append("dialog"), it.dismiss()))
    page.on("request", lambda it: requests.append(it.url))
    page.on("requestfinished", lambda it: loaded.append(it.url))
    page.goto(f"{path.as_uri()}{fragment}")
    page.wait_for_selector(READY, timeout=30_000, state="attached")
    yield page
    assert "undefined" not in page.inner_text("body")
    if not is_attacked:
        assert complaints == []
        assert {it.split("#")[0] for it in requests} <= {path.as_uri(), "data:,"}
    assert {it.split("#")[0] for it in loaded} <= {path.as_uri(), "data:,"}
    context.close()


def violations(page):
    """What axe-core finds wrong with a page, each with the elements that it is about."""
    import axe_core_python  # noqa: PLC0415  where its script lies

    script = Path(axe_core_python.__file__).with_name(AXE).read_text(encoding="utf-8")
    # Added by the debugger, which the page's policy does not concern.
    page.evaluate(f"() => {{ {script}; window.axe = axe; }}")
    found = page.evaluate("() => axe.run()")["violations"]
    return [(it["id"], [node["html"][:150] for node in it["nodes"]][:5]) for it in found]
