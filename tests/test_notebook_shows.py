"""Results of analysis in a notebook: each shows its numbers, and nothing that a name says acts."""

import base64

import pytest

from sqlstable import Canister
from sqlstable.analysis.advice.advice import Advice
from sqlstable.analysis.compare import compare
from sqlstable.analysis.locality.locality import locality
from sqlstable.analysis.page_map import page_map
from sqlstable.analysis.pricing.price_comparison import compare_prices
from sqlstable.analysis.scaling.growing import scale_results
from sqlstable.analysis.scaling.pareto import SweepResults, SweepRow
from sqlstable.analysis.scaling.runs import RunResult
from sqlstable.analysis.whatif.page_cache import page_cache_what_if
from sqlstable.notebook_shows import SHOWS, register
from tests.hand_built import HandBuiltTrace, music_trace, music_trace_with_index
from tests.hostile_texts import HOSTILE_NAME, is_harmless
from tests.notebook_world import make_shell, no_matplotlib
from tests.test_upgrade_compare import comparison


@pytest.fixture(scope="module")
def shell():
    shell = make_shell()
    register(shell)
    yield shell
    type(shell).clear_instance()


@pytest.fixture(scope="module")
def trace():
    with Canister(trace=":memory:", cache_size=10) as canister:
        canister.update("CREATE TABLE t (id INTEGER PRIMARY KEY, x)")
        canister.update("INSERT INTO t (x) VALUES (1), (2)")
        canister.query("SELECT sum(x) FROM t")
        with canister.trace() as trace:
            yield trace


def shown(shell, result, kind="text/html"):
    data, _ = shell.display_formatter.format(result)
    return data[kind]


def test_every_name_is_that_of_a_result():
    for shows in SHOWS.values():
        for name in shows:
            module, _, result = name.rpartition(".")
            found = __import__(f"sqlstable.{module}", fromlist=[result])
            assert isinstance(getattr(found, result), type)


def test_locality_shows_its_figures_and_a_map_its_picture(shell, trace):
    found = locality(trace)
    html, image, picture = shown(shell, found).partition("<img ")
    assert is_harmless(html)
    assert f">{found.touches:,}</td>" in html
    assert image
    assert 'alt="its curves"' in picture
    assert base64.b64decode(picture.partition("base64,")[2].rstrip('">')).startswith(b"\x89PNG")
    assert "locality by OS page" in html
    assert shown(shell, page_map(trace), "image/png")


def test_without_matplotlib_the_figures_are_there(shell, trace, monkeypatch):
    monkeypatch.setattr("sqlstable.report.notebook_pictures.drawing_room", no_matplotlib)
    found = locality(trace)
    assert "<img" not in shown(shell, found)
    assert f">{found.touches:,}</td>" in shown(shell, found)


def test_nothing_recorded_has_figures_too(shell):
    assert "locality by OS page" in shown(shell, locality(HandBuiltTrace()))


def test_a_larger_cache_is_shown_with_its_error(shell, trace):
    html = shown(shell, page_cache_what_if(trace, [20, 40]))
    assert is_harmless(html)
    assert html.count("predicted") == 2
    assert "as recorded" in html


def test_advice_shows_what_it_cites_as_text(shell):
    html = shown(shell, Advice("index", HOSTILE_NAME, (HOSTILE_NAME,), None, (1,), 0.5))
    assert is_harmless(html)
    assert html.count("&lt;script&gt;") == 2


def test_a_sweep_shows_first_what_nothing_beats(shell):
    result = RunResult({}, {}, {})
    rows = (
        SweepRow(1, {"page_size": 512}, result),
        SweepRow(2, {"page_size": 4096}, result, is_on_front=True),
    )
    html = shown(shell, SweepResults(rows, ("page_size",), has_instructions=False))
    assert is_harmless(html)
    assert html.index("4096") < html.index("512")
    assert "nothing beats it" in html


def test_a_status_shows_sizes_and_the_lines_of_dfx(shell):
    with Canister() as canister:
        canister.update("CREATE TABLE t (id INTEGER PRIMARY KEY, x)")
        status = canister.status()
    for html in (shown(shell, status), shown(shell, status.figures)):
        assert is_harmless(html)
        assert ">Idle cycles burned per day</td>" in html
    assert f">{status.stable_size_bytes:,}</td>" in shown(shell, status)
    sizes = f"stable memory {status.stable_size_bytes:,} bytes, database 8,192 bytes"
    assert shown(shell, status, "text/plain") == f"<Status: 2 messages, {sizes}>"
    figures = shown(shell, status.figures, "text/plain")
    assert figures.startswith("<CanisterFigures canister: Running, memory ")


def test_a_comparison_says_in_text_what_changed(shell):
    found = compare(music_trace(), music_trace_with_index())
    assert "before → after" in shown(shell, found)
    plain = shown(shell, found, "text/plain")
    assert plain == "<Comparison of 11 statements: 2 better, 1 worse, 7 same, 1 added>"


@pytest.mark.parametrize("by", ["trace", "statement"])
def test_prices_compared_show_every_list_and_row(shell, trace, by):
    found = compare_prices(trace, by=by)
    html = shown(shell, found)
    assert is_harmless(html)
    assert html.count("<table>") == (1 if by == "trace" else 2)
    assert all(f">{it.name}</td>" in html for it in found.lists)
    assert f">{found.total.spent[0].stable:,}</td>" in html
    assert ("SELECT sum(x) FROM t" in html) == (by == "statement")
    assert shown(shell, found, "text/plain").startswith("<PriceComparison under 6 price lists")


def test_upgrades_compared_show_what_each_takes(shell):
    found = comparison(lambda size: 5_000_000 + 1000 * size)
    html = shown(shell, found)
    assert is_harmless(html)
    assert all(f">{way.name}</th>" in html for way in found.ways)
    assert ">100,000</td>" in html
    assert ">105,000,000</td>" in html
    assert shown(shell, found, "text/plain").startswith("<UpgradeComparison of ")


def test_growth_shows_its_laws(shell):
    runs = [(size, RunResult({}, {}, {}, used_bytes=int(size))) for size in (1e4, 1e5, 1e6)]
    html = shown(shell, scale_results("rows <b>", runs, None))
    assert is_harmless(html)
    assert "growth with rows &lt;b&gt;, 3 sizes" in html
    assert "linear" in html
