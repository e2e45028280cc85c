"""Locality and maps in a terminal: what they say, at every width, of every trace."""

import csv
import io
import json
import re
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from jsonschema import Draft202012Validator
from rich.cells import cell_len

from sqlstable import Canister
from sqlstable.analysis.curves import CURVES
from sqlstable.analysis.locality.locality import locality
from sqlstable.analysis.page_map import page_map
from sqlstable.report.as_csv import render_csv
from sqlstable.report.as_table import render_table
from sqlstable.report.json_schema import locality_schema
from sqlstable.report.locality_json import render_locality_json
from sqlstable.report.map_look import MapBy, MapCurve, MapLook
from sqlstable.report.map_shades import UNTOUCHED, shading
from sqlstable.report.plain import plain
from tests.cli_images import call, folder  # noqa: F401  a fixture
from tests.golden_files import check_golden
from tests.hand_built import HandBuiltTrace, traces
from tests.locality_world import hostile_trace, million_accesses, one_access, shop_trace
from tests.test_cli import masked

WIDTHS = (40, 60, 80, 100, 200)
VIEWS_OF_ACCESSES = ("locality", "os-page")
CASES = {
    "empty": HandBuiltTrace,
    "one access": one_access,
    "shop": shop_trace,
    "hostile": hostile_trace,
    "million": million_accesses,
}


def drawn(trace, width=100, *, color_system=None, **look):
    return render_table(
        trace, by="os-page", width=width, color_system=color_system, map_look=MapLook(**look)
    )


def map_rows(text):
    """Return the lines of letters of a map whose lines have labels."""
    return [line.split("  ", 1)[1] for line in text.splitlines() if re.match(r" *[\d,]+  \S", line)]


# -- golden ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [60, 80, 100, 200])
def test_locality_is_the_golden_one(width):
    text = render_table(shop_trace(), by="locality", width=width)
    check_golden(f"locality_{width}.txt", masked(text))


@pytest.mark.parametrize("by", get_args(MapBy))
def test_the_map_is_the_golden_one(by):
    check_golden(f"map_{by}.txt", masked(drawn(shop_trace(), 80, by=by)))


def test_the_map_in_colour_is_the_golden_one():
    text = drawn(shop_trace(), 80, color_system="truecolor", has_half_blocks=True)
    check_golden("map_in_colour.txt", masked(text))


# -- every trace, every width ----------------------------------------------------------------------


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("by", VIEWS_OF_ACCESSES)
@pytest.mark.parametrize(
    "case", [pytest.param(it, marks=pytest.mark.slow if it == "million" else ()) for it in CASES]
)
def test_no_line_is_wider_than_asked_and_nothing_acts(case, by, width):
    text = render_table(CASES[case](), by=by, width=width)
    assert max(cell_len(line) for line in text.splitlines()) <= width
    assert not set("\x1b\u202e\x00\r") & set(text)
    in_ascii = plain(text)
    assert case == "hostile" or in_ascii.count("?") == text.count("?")
    assert max(cell_len(line) for line in in_ascii.splitlines()) <= width + (case == "hostile")


@pytest.mark.slow
@settings(max_examples=40)
@given(traces(messages_max=3))
def test_any_trace_can_be_looked_at(trace):
    for by in VIEWS_OF_ACCESSES:
        assert render_table(trace, by=by)
        assert render_csv(trace, by=by)
    "".join(render_locality_json(trace))


# -- the map ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("curve", get_args(MapCurve))
def test_every_os_page_has_its_letter_in_every_order(curve):
    text = drawn(shop_trace(), 100, curve=curve)
    found = page_map(shop_trace())
    cells = found.cells(1 << 20)
    assert cells.os_pages_each == 1
    art = text.split("\n\n")[1]
    names = re.findall(r"\b([a-z])  (\S+|\(.*?\)), (\d+) OS page", text)
    assert {name for _, name, _ in names} >= {"sale", "sale_customer"}
    body = "".join(re.sub(r"^ *[\d,]+  ", "", line) for line in art.splitlines())
    for letter, _, count in names:
        assert body.count(letter) == int(count)


def test_curves_are_those_that_there_are():
    assert set(get_args(MapCurve)) == set(CURVES)


def test_half_blocks_hold_two_rows_each():
    letters = map_rows(drawn(shop_trace(), 80))
    text = drawn(shop_trace(), 80, color_system="truecolor", has_half_blocks=True)
    blocks = [line for line in text.splitlines() if set("▀▄") & set(line) and "OS page" not in line]
    assert len(blocks) == -(-len(letters) // 2)
    assert all("\x1b[38;2;230;159;0m" in line for line in blocks[1:])


def test_a_cell_that_stands_for_several_says_so():
    text = " ".join(drawn(million_accesses(), 60).split())
    each = int(re.search(r"each cell: (\d+) OS pages", text)[1])
    assert each > 1
    assert "it stands for several" in text
    assert "it stands for several" not in drawn(shop_trace())


def test_a_table_called_as_the_memory_manager_is_another_owner():
    with Canister(trace=":memory:") as canister:
        canister.update('CREATE TABLE "(memory manager)" (x)')
        with canister.trace() as trace:
            text = drawn(trace, 100)
    assert "(memory manager) (memory manager), 9 OS pages" in text
    assert "(memory manager) (table), 1 OS page" in text


@pytest.mark.parametrize("by", get_args(MapBy))
def test_shades_tell_each_cell_what_it_is(by):
    found = page_map(shop_trace())
    cells = found.cells(1 << 20)
    made = shading(found, cells, by)
    assert ((made.of_cells == UNTOUCHED) == (cells.touched == 0)).all()
    assert len({shade.letter for shade in made.shades}) == len(made.shades)
    for cell in np.flatnonzero(cells.touched).tolist():
        words = made.shades[made.of_cells[cell]].meaning
        numbers = [int(it.replace(",", "")) for it in re.findall(r"[\d,]*\d", words)]
        low, high = numbers[0] if numbers else 0, numbers[-1] if numbers else 0
        match by:
            case "owner":
                assert words.startswith(found.owners[cells.owner[cell]].name)
            case "accesses":
                assert low <= cells.reads[cell] + cells.writes[cell] <= high
            case "writer" if cells.last_writer[cell] < 0:
                assert words == "read only"
            case "writer":
                assert low <= cells.last_writer[cell] <= high
            case "age":
                assert low <= found.message_count - 1 - cells.last_access[cell] <= high


def test_csv_of_os_pages_has_a_row_for_each_that_was_touched():
    found = page_map(shop_trace())
    rows = list(csv.DictReader(io.StringIO(render_csv(shop_trace(), by="os-page"))))
    assert [int(row["os_page"]) for row in rows] == found.os_pages.tolist()
    assert sum(int(row["reads"]) + int(row["writes"]) for row in rows) == found.touches
    assert {row["owner"] for row in rows} >= {"sale", "sale_customer", "sqlite_schema"}


# -- locality --------------------------------------------------------------------------------------


def test_csv_of_locality_adds_up_by_owner_shape_and_phase():
    rows = list(csv.DictReader(io.StringIO(render_csv(shop_trace(), by="locality"))))
    sums = {}
    for row in rows:
        sums[row["scope"]] = sums.get(row["scope"], 0) + int(row["touches"])
    assert set(sums) == {"trace", "owner", "shape", "phase"}
    assert set(sums.values()) == {locality(shop_trace()).touches}


@pytest.mark.parametrize("case", ["empty", "one access", "shop", "hostile"])
def test_json_of_locality_keeps_to_its_schema(case):
    text = "".join(render_locality_json(CASES[case]()))
    assert text.isascii()
    document = json.loads(text)
    Draft202012Validator(locality_schema()).validate(document)
    touches = document["os_pages"]["touches"]
    assert touches == document["os_pages"]["miss_ratio"][0][1]
    assert touches == sum(it["reads"] + it["writes"] for it in document["os_pages"]["owners"])


def test_the_configured_cache_is_marked():
    text = render_table(shop_trace(), by="locality")
    assert re.search(r"▲ cache_size 10: a second cache as large would miss [\d.]+%", text)
    mark = next(line for line in text.splitlines() if "▲" in line)
    curve = next(line for line in text.splitlines() if "█▇" in line or "██" in line)
    assert len(mark.split("▲")[0]) < len(curve)


@pytest.mark.slow
def test_predictions_that_take_seconds_are_left_out_and_named():
    text = " ".join(render_table(million_accesses(), by="locality").split())
    assert "takes a while for 1,000,000 accesses: --by locality --format json has it" in text
    assert "what another cache_size would come to cache_size" not in text


# -- commands --------------------------------------------------------------------------------------


def test_run_and_report_draw_the_same_map(folder):  # noqa: F811
    ran = call("run", "shop.sql", "--trace", "a.trace", "--map", "--map-by", "accesses")
    again = call("report", "a.trace", "--map", "--map-by", "accesses")
    assert (ran.exit_code, again.exit_code) == (0, 0)
    assert ran.stdout == again.stdout
    assert call("report", "a.trace", "--by", "os-page", "--map-by", "accesses").stdout == ran.stdout


def test_json_by_locality_is_a_document_of_its_own(folder):  # noqa: F811
    assert call("run", "shop.sql", "--trace", "a.trace").exit_code == 0
    done = call("report", "a.trace", "--by", "locality", "--format", "json")
    assert json.loads(done.stdout)["format"] == "sqlstable-locality"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--map", "--by", "owner"), "--map is a view of its own, beside --by owner"),
        (("--map-by", "age"), "--map-by age concerns the map; add --map"),
        (("--map-curve", "snake", "--by", "owner"), "--map-curve snake concerns the map"),
        (("--map", "--plan"), "--plan goes with statements and shapes"),
        (("--map", "--map-by", "colour"), "'colour' is not one of"),
    ],
)
def test_options_of_the_map_that_do_not_go_together_are_refused(folder, options, words):  # noqa: F811
    assert call("run", "shop.sql", "--trace", "a.trace").exit_code == 0
    done = call("report", "a.trace", *options)
    assert done.exit_code == 2
    assert words in " ".join(done.stderr.replace("│", " ").split())
