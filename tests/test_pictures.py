"""Pictures of an HTML page: what is packed for its scripts is what analysis found."""

import re

import numpy as np
import pytest

from sqlstable import Canister
from sqlstable.analysis.locality.locality import locality
from sqlstable.analysis.page_map import page_map
from sqlstable.analysis.page_time import page_time
from sqlstable.report.html.pictures.of_locality import configured_cache_pages
from sqlstable.report.html.pictures.of_memory import trees_picture
from sqlstable.report.html.pictures.of_page_map import map_picture
from sqlstable.report.html.pictures.payload import payload
from sqlstable.report.html.pictures.picture import Picture, PictureTable, shortened
from sqlstable.report.html.pictures.pictures_of import comparison_maps, pictures_of
from sqlstable.report.html.pictures.scripts import map_module, page_script
from sqlstable.trace.model import TraceSettings
from tests.hand_built import HandBuiltTrace, accesses, message, statement, use
from tests.picture_world import unpacked

HOSTILE = '</script><img src=x onerror="alert(1)">\u202e\x00' + "x" * 5_000


@pytest.fixture(name="trace", scope="module")
def trace_fixture():
    with Canister(trace=":memory:") as canister:
        canister.update("CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT)")
        canister.update(
            "INSERT INTO t (b) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n "
            "LIMIT 3000) SELECT hex(randomblob(40)) FROM n"
        )
        canister.query("SELECT sum(length(b)) FROM t")
        trace = canister.trace()
        yield trace
        trace.close()


def packed(columns, **facts):
    return Picture("x", "X", "", PictureTable((), ()), facts, columns)


@pytest.mark.parametrize(
    "values", [[], [0], [-1], [255], [-1, 255], [256], [65_535, 65_536], [-1, 2**52], [0, 3, 2**40]]
)
def test_columns_come_back_as_they_were(values):
    column = np.array(values, np.int64)
    text = payload([packed({"b": column, "a": column[::-1]}, name=HOSTILE)])
    facts, columns = unpacked(text)["x"]
    assert facts == {"name": HOSTILE}
    assert (columns["b"].tolist(), columns["a"].tolist()) == (values, values[::-1])
    assert re.fullmatch("[A-Za-z0-9+/=]+", text)


def test_the_map_tells_what_the_analysis_found(trace):
    made = page_map(trace)
    facts, columns = unpacked(payload([map_picture(made, trace)]))["page-map"]
    assert facts["os_pages_each"] == 1
    assert np.cumsum(columns["step"]).tolist() == made.places.tolist()
    for name in ("owner", "reads", "writes", "last_writer", "last_access", "statement_count"):
        assert columns[name].tolist() == getattr(made, name).tolist()
    tops = np.stack([columns[f"top_{place}"] for place in range(3)], axis=1)
    assert tops.tolist() == made.top_statements.tolist()
    told = np.cumsum(columns["statement_step"]).tolist()
    assert set(told) == set(tops[tops >= 0].tolist())
    shapes = [facts["shapes"][it] for it in columns["statement_shape"].tolist()]
    assert [shortened(trace.statements[it].shape) for it in told] == shapes
    assert sum(owner["os_pages"] for owner in facts["owners"]) == len(made.os_pages)


def test_the_miss_ratio_is_that_of_locality_in_sqlite_pages(trace):
    facts, _ = unpacked(payload(pictures_of(trace)))["miss-ratio"]
    curve = locality(trace, unit="sqlite").miss_ratio
    assert (facts["unit"], facts["configured"]) == ("SQLite page", 500)
    *points, beyond = facts["points"]
    assert [size for size, _ in points] == list(range(len(curve.misses)))
    assert [ratio for _, ratio in points] == pytest.approx(curve.ratio, abs=1e-6)
    assert beyond == [500, points[-1][1]]


def test_a_page_does_not_grow_with_the_shapes_of_a_script(trace, monkeypatch):
    monkeypatch.setattr("sqlstable.report.html.pictures.of_page_map.SHAPES_MAX", 1)
    picture = map_picture(page_map(trace), trace)
    assert len(picture.facts["shapes"]) == 1
    assert set(picture.columns["statement_shape"].tolist()) == {-1, 0}


def test_a_large_map_tells_fewer_statements_of_a_cell(trace, monkeypatch):
    made = page_map(trace)
    for tops, expected in ((3, 3), (2, 2), (1, 1), (0, 1)):
        most = tops * len(made.os_pages)
        monkeypatch.setattr("sqlstable.report.html.pictures.of_page_map.TOPS_MAX", most)
        columns = map_picture(made, trace).columns
        assert [f"top_{it}" in columns for it in range(3)] == [it < expected for it in range(3)]


def test_an_owner_has_the_same_colour_in_both_maps_of_a_comparison(trace):
    with Canister(trace=":memory:") as canister:
        canister.update("CREATE TABLE u (a); CREATE TABLE t (a)")
        with canister.trace() as other:
            found = unpacked(payload(comparison_maps(trace, other)))
    assert list(found) == ["page-map-before", "page-map-after"]
    before, after = (
        {it["name"]: it["colour"] for it in facts["owners"]} for facts, _ in found.values()
    )
    assert after["t"] == before["t"] >= 0
    assert after["u"] >= 0


def test_pictures_over_time_add_up(trace):
    made = page_map(trace)
    facts, columns = unpacked(payload(pictures_of(trace)))["page-time"]
    assert columns["reads"].sum() + columns["writes"].sum() == made.touches
    assert len(columns["reads"]) == facts["rows"] * facts["bins"]
    counts = page_time(trace, made)
    assert columns["owner"].tolist() == made.cells(facts["bins"]).owner.tolist()
    assert facts["os_pages_each"] == counts.os_pages_each


def test_the_same_trace_gives_the_same_bytes(trace):
    assert payload(pictures_of(trace)) == payload(pictures_of(trace))


def test_scripts_load_nothing_and_make_no_element_of_a_string():
    scripts = page_script() + map_module()
    assert "innerHTML" not in scripts
    assert "insertAdjacent" not in scripts
    assert not re.search(
        r"\b(eval|fetch|import)\(|document\.write|XMLHttp|https?://(?!www.w3)", scripts
    )


def test_trees_tell_how_scattered_they_are(trace):
    facts, _ = unpacked(payload(pictures_of(trace)))["trees"]
    by_name = {it["name"]: it for it in facts["trees"]}
    for tree in trace.trees:
        pages = [tree.leaf_pages, tree.interior_pages, tree.overflow_pages]
        assert by_name[tree.name]["pages"] == pages
        full = 1 - tree.unused_bytes / (4096 * sum(pages))
        told = re.search(r"([\d.]+)% full", by_name[tree.name]["words"])
        assert float(told[1]) == pytest.approx(100 * full, abs=0.6)
        ordered = re.search(r"([\d.]+)% in order", by_name[tree.name]["words"])
        if tree.leaves_in_order is None:
            assert ordered is None
        else:
            assert float(ordered[1]) == pytest.approx(100 * tree.leaves_in_order, abs=0.6)


def test_an_old_trace_tells_what_was_touched_of_its_trees(trace):
    made = page_map(trace)
    picture = trees_picture(HandBuiltTrace(), made)
    assert picture.title == "OS pages by table and index"
    assert sum(sum(it["pages"]) for it in picture.facts["trees"]) == len(made.os_pages)


def test_an_empty_trace_has_pictures(trace):
    del trace
    found = unpacked(payload(pictures_of(HandBuiltTrace())))
    assert len(found) == 9
    assert found["page-map"][0]["owners"][0]["os_pages"] == 0


def test_a_cell_that_stands_for_many_tells_of_its_busiest(monkeypatch):
    monkeypatch.setattr("sqlstable.report.html.pictures.of_page_map.CELLS_MAX", 4)
    trace = HandBuiltTrace(
        messages=(message(0, "update", (0, 1), use(2)),),
        statements=(statement(0, 0, "SELECT 1"), statement(1, 0, "SELECT 2")),
        accesses_by_statement=(
            accesses((0, 0, 1, -1)),
            accesses((1, 4_096, 1, -1), (1, 4_096, 1, -1)),
        ),
    )
    facts, columns = unpacked(payload([map_picture(page_map(trace), trace)]))["page-map"]
    assert facts["os_pages_each"] > 1
    assert (columns["reads"][0], columns["writes"][0], columns["top_0"][0]) == (1, 2, 1)


@pytest.mark.parametrize(
    ("cache_size", "page_size", "expected"),
    [(500, 4096, 500), (-2000, 4096, 500), (-1, 65_536, 0), (None, 4096, None), (5, None, None)],
)
def test_the_configured_cache_is_in_sqlite_pages(cache_size, page_size, expected):
    settings = TraceSettings({"cache_size": cache_size, "page_size": page_size})
    assert configured_cache_pages(HandBuiltTrace(settings=settings)) == expected
