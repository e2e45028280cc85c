"""The HTML page of a trace: what is in it, and that nothing else ever is."""

import base64
import hashlib
import re
from dataclasses import replace

import pytest

from sqlstable import Canister, open_trace
from sqlstable.analysis.locality.locality import locality
from sqlstable.analysis.whatif.page_cache import page_cache_what_if
from sqlstable.report.by_locality import locality_rows
from sqlstable.report.html.as_html import render_comparison_html, render_html
from sqlstable.report.html.sheet import SheetColumn, SheetDetail, SheetWords, sheet, shown_text
from sqlstable.report.measures import TABLE_MEASURES
from sqlstable.report.page_cache_table import change
from tests.golden_files import GOLDEN
from tests.hand_built import HandBuiltTrace, message, music_trace, owner, statement, use
from tests.picture_world import unpacked

EVIL = '</script><script>alert(1)</script><img src=x onerror="alert(2)">\u202e\x1b[31m'


def data_of(page, name="sheets-data"):
    found = re.search(f'id="{name}">([A-Za-z0-9+/=]*)</script>', page)
    return unpacked(found[1])


def column(sheets, sheet_id, name, *, detail=None):
    """What a column of a sheet shows, row by row."""
    facts, columns = sheets[sheet_id]
    if detail is None:
        listed, values = facts["columns"], columns[name]
    else:
        listed = next(it for it in facts["details"] if it["name"] == detail)["columns"]
        values = columns[f"{detail}.{name}"]
    texts = next(it for it in listed if it["name"] == name)["texts"]
    return [None if it < 0 else texts[it] if texts else it for it in values.tolist()]


def evil_trace(text=EVIL):
    """A trace that has hostile text wherever text can be."""
    made = statement(
        *(0, 0, f"SELECT {text}", 1),
        shape=text,
        kind=text,
        plan=(f"SCAN {text}",),
        owners=(owner(text, 1, role=text, kind=text, table=text),),
    )
    words = {"label": text, "outcome": text, "cache": text, "trap": text, "trap_limit": text}
    trace = HandBuiltTrace()
    settings = replace(trace.settings, values={**trace.settings.values, text: text, "now": text})
    return HandBuiltTrace(
        settings=settings,
        messages=(message(0, "query", (0,), use(1), **words),),
        statements=(made,),
    )


# -- the file ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def music_page():
    return render_html(music_trace(), name="music.trace")


def test_the_same_trace_gives_the_same_bytes(music_page):
    assert render_html(music_trace(), name="music.trace") == music_page
    assert music_page.startswith("<!doctype html>\n")


def test_a_page_names_nothing_outside_of_itself(music_page):
    links = re.findall(r'(?:src|href|action|srcset|data)="([^"]*)"', music_page)
    assert links
    assert all(it.startswith("#") or it == "data:," for it in links)
    assert set(re.findall(r"https?://[^\"' )]*", music_page)) <= {"http://www.w3.org/2000/svg"}


@pytest.mark.parametrize("tag", ["script", "style"])
def test_the_policy_allows_the_one_script_and_the_one_style(music_page, tag):
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', music_page)
    (text,) = re.findall(f"<{tag}>(.*?)</{tag}>", music_page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    # Autoescape may write a plus sign of base64 as an entity.
    policy = policy.replace("&#43;", "+").replace("&#39;", "'")
    assert f"{tag}-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_hostile_text_never_leaves_its_place():
    trace = evil_trace()
    for page in (
        render_html(trace, name=EVIL),
        render_comparison_html(trace, HandBuiltTrace(), names=(EVIL, EVIL)),
    ):
        assert "<img" not in page
        assert "<script>alert" not in page
        assert page.count("</script>") == 3
        assert "\u202e" not in page
        assert "\x1b" not in page
    facts, _ = data_of(render_html(trace))["statements"]
    told = str(facts)
    assert "<img src=x onerror" in told
    assert "\u202e" not in told
    assert "\x1b" not in told


def test_an_empty_trace_says_so():
    page = render_html(HandBuiltTrace())
    assert "The trace is empty" in page
    assert data_of(page)["statements"][0]["count"] == 0


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.trace")), ids=lambda it: it.name)
def test_a_page_of_an_old_trace_is_whole_but_for_what_it_refuses_to_draw(path):
    with open_trace(path) as trace:
        page = render_html(trace)
        sheets = data_of(page)
        assert sheets["statements"][0]["count"] == len(trace.statements)
        pair = render_comparison_html(trace, trace)
    for made in (page, pair):
        assert ("There are no pictures:" in made) != ("data-picture=" in made.split("<script")[0])


# -- what is in it -------------------------------------------------------------------------------


def test_sheets_have_what_the_trace_has(music_page):
    trace, sheets = music_trace(), data_of(music_page)
    assert column(sheets, "statements", "sql") == [it.sql for it in trace.statements]
    assert column(sheets, "messages", "kind") == [it.kind for it in trace.messages]
    for place, measure in enumerate(TABLE_MEASURES[:2]):
        found = column(sheets, "statements", f"measure_{place}")
        assert found == [measure.of(it) for it in trace.statements]
        found = column(sheets, "messages", f"measure_{place}")
        assert found == [measure.of(it) for it in trace.messages]
    listed = [use for it in trace.statements for use in it.owners]
    assert column(sheets, "statements", "name", detail="owners") == [it.name for it in listed]
    counts = sheets["statements"][1]["owners.count"].tolist()
    assert counts == [len(it.owners) for it in trace.statements]
    outside = [it.name for made in trace.messages for it in made.outside]
    assert outside
    assert column(sheets, "messages", "name", detail="outside") == outside
    plans = [line for it in trace.statements for line in it.plan]
    assert column(sheets, "statements", "line", detail="plan") == plans


def test_the_sheet_of_locality_has_what_the_view_has():
    with Canister(trace=":memory:") as canister:
        canister.update("CREATE TABLE t (a); INSERT INTO t VALUES (1)")
        canister.query("SELECT a FROM t")
        with canister.trace() as trace:
            sheets = data_of(render_html(trace))
            rows = list(locality_rows(locality(trace)))
    assert column(sheets, "locality", "touches") == [it.touches for it in rows]
    assert column(sheets, "locality", "distinct") == [it.distinct for it in rows]
    assert column(sheets, "locality", "scope") == [it.scope for it in rows]


def test_the_summary_states_verdict_kinds_and_settings(music_page):
    assert "verdict-bad" in music_page
    assert 'href="#message-6"' in music_page
    for words in ("engine native", "limits 2026-08-18", "modelled", "computation, heap and cycles"):
        assert words in music_page


def test_a_comparison_has_both_sides_and_what_changed():
    before = music_trace()
    dearer = [
        replace(it, stable=use(it.stable.os_pages_accessed + 5), plan=("SCAN x",))
        for it in before.statements
    ]
    settings = replace(before.settings, values={**before.settings.values, "cache_size": 7})
    after = replace(before, statements=tuple(dearer), settings=settings)
    page = render_comparison_html(before, after, names=("a.trace", "b.trace"))
    sheets = data_of(page)
    changes = sheets["statements"][1]["measure_0_change"].tolist()
    assert changes == [10] * len(dearer)
    assert set(column(sheets, "statements", "plan")) == {"changed"}
    assert "not like with like: cache_size differs" in page
    assert "500 SQLite pages" in page
    assert set(data_of(page, "pictures-data")) == {"page-map-before", "page-map-after"}


# -- sheets --------------------------------------------------------------------------------------


def packed(values, **kind):
    columns = [SheetColumn("x", "x", lambda it: it, **kind)]
    return sheet(SheetWords("s", "S", "row"), columns, values, count=len(values))


@pytest.mark.parametrize("values", [[-3, 0, None, 4], [-(2**40), 2**40], [0]])
def test_changes_keep_their_sign(values):
    found = packed(values, unit="change").columns["x"].tolist()
    decoded = [None if it < 0 else it // 2 if it % 2 == 0 else -(it + 1) // 2 for it in found]
    assert decoded == values


@pytest.mark.parametrize(("unit", "largest"), [("number", 2**53 - 1), ("change", 2**53 - 2)])
def test_no_number_is_larger_than_a_browser_can_tell(unit, largest):
    assert packed([2**64, 1], unit=unit).columns["x"].tolist()[0] == largest


def test_equal_texts_are_there_once():
    made = packed(["b", "a", None, "b"], unit="text")
    assert made.facts["columns"][0]["texts"] == ["b", "a"]
    assert made.columns["x"].tolist() == [0, 1, -1, 0]


def test_columns_of_which_nothing_is_known_are_left_out():
    assert packed([None, None]).facts["columns"] == []


def test_the_map_stands_between_the_advice_and_the_tables():
    with Canister(trace=":memory:") as canister:
        canister.update('CREATE TABLE "" (x)')
        canister.query('SELECT x FROM ""')
        with canister.trace() as trace:
            page = render_html(trace)
    places = [page.index(f'id="{it}"') for it in ("advice", "page-map", "messages", "page-time")]
    assert places == sorted(places)
    assert page.count('id="page-map"') == 1
    contents = page[page.index("<nav") : page.index("</nav>")]
    assert contents.index("#page-map") < contents.index("#messages")
    # A table with an empty name is not the whole trace.
    sheets = data_of(page)
    names, parts = (column(sheets, "locality", it) for it in ("name", "scope"))
    assert names.count("the whole trace") == parts.count("trace") == 1
    assert "-" in names


def test_a_sheet_says_how_many_rows_it_leaves_out(monkeypatch):
    monkeypatch.setattr("sqlstable.report.html.sheet.ROWS_MAX", 3)
    made = packed(range(5))
    assert (made.row_count, made.left_out, made.columns["x"].tolist()) == (5, 2, [0, 1, 2])
    page = render_html(music_trace())
    assert "The first 3 are here" in page


def test_details_have_a_count_for_each_row():
    detail = SheetDetail("d", "D", range, (SheetColumn("y", "y", lambda it: it),))
    made = sheet(SheetWords("s", "S", "row"), (), [2, 0, 1], count=3, details=(detail,))
    assert made.columns["d.count"].tolist() == [2, 0, 1]
    assert made.columns["d.y"].tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SELECT\n\n   1", "SELECT\n\n   1"),
        ("a\u202eb\x00", "a\N{REPLACEMENT CHARACTER}b␀"),
        ("\r\na\r\n", "a"),
    ],
)
def test_shown_text_keeps_lines_and_nothing_invisible(text, expected):
    assert shown_text(text) == expected


@pytest.mark.parametrize("text", ["x" * 10_000_000, "\n" * 100_000, "a\n" * 100_000])
def test_shown_text_is_short(text):
    assert len(shown_text(text)) < 5_000


def test_larger_caches_are_predicted_on_the_page_as_in_the_terminal():
    with Canister(trace=":memory:", cache_size=10) as canister:
        canister.update("CREATE TABLE t (a INTEGER PRIMARY KEY, b)")
        canister.update(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000) "
            "INSERT INTO t SELECT i, zeroblob(40) FROM n"
        )
        for _ in range(3):
            canister.update("UPDATE t SET b = 1 WHERE a % 97 = 3")
        with canister.trace() as trace:
            found = page_cache_what_if(trace)
            sheets = data_of(render_html(trace))
    assert column(sheets, "page-cache", "size") == [10, *(it.cache_size for it in found.rows)]
    changes = column(sheets, "page-cache", "figure_0_change")
    assert changes[0] == f"{found.recorded.reads.value} as recorded"
    assert changes[1:] == [change(it.reads, found.recorded.reads.value) for it in found.rows]
    assert column(sheets, "page-cache", "figure_0")[1:] == [it.reads.value for it in found.rows]
    assert "-" in changes[-1]


def test_a_trace_that_cannot_tell_predicts_nothing_on_its_page():
    with Canister(trace=":memory:") as canister:
        canister.update("PRAGMA cache_size = 20")
        with canister.trace() as trace:
            assert "page-cache" not in data_of(render_html(trace))
