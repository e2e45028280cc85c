"""``sqlstable sweep`` as its users meet it: combinations, designs, the front, and bad input."""

import csv
import io
import json
from itertools import combinations, product
from math import prod
from pathlib import Path
from random import Random

import pytest

from sqlstable.analysis.advice.advice import Advice
from sqlstable.analysis.scaling.pareto import sweep_results
from sqlstable.analysis.scaling.runs import RanMessage, RunResult
from sqlstable.cli import many_runs
from sqlstable.report.sweep_data import render_sweep_csv, render_sweep_json
from sqlstable.report.sweep_table import render_sweep
from sqlstable.workload.sweeping.design import every_combination, latin_hypercube, one_at_a_time
from tests.golden_files import check_golden
from tests.test_cli import call
from tests.test_cli_scale import SCRIPT

ALONE = ("--workers", 1)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("work.sql").write_text(SCRIPT)
    return tmp_path


def rows_of(*arguments):
    result = call("sweep", "work.sql", *arguments, *ALONE, "--format", "csv")
    assert result.exit_code == 0, result.stderr
    return list(csv.DictReader(io.StringIO(result.stdout)))


# -- designs ---------------------------------------------------------------------------------------


def test_a_latin_hypercube_has_each_value_equally_often():
    draw = Random(3)
    for _ in range(8):
        values = {f"v{at}": list(range(draw.randint(2, 5))) for at in range(draw.randint(2, 4))}
        least, most = max(map(len, values.values())), prod(map(len, values.values()))
        count = draw.randint(least, most - 1)
        found = latin_hypercube(values, count)
        assert len(found) == count
        assert found[0] == dict.fromkeys(values, 0)
        for name, listed in values.items():
            uses = [sum(row[name] == value for row in found) for value in listed]
            assert max(uses) - min(uses) <= 1
        assert found == latin_hypercube(values, count)


def test_a_large_enough_hypercube_is_every_combination():
    values = {"a": [1, 2], "b": [3, 4, 5]}
    assert latin_hypercube(values, 6) == every_combination(values)
    pairs = {pair for row in latin_hypercube(values, 5) for pair in combinations(row.items(), 2)}
    assert len(pairs) >= 5


def test_one_at_a_time_differs_from_the_first_row_in_one_value():
    values = {"a": [1, 2, 3], "b": [4, 5], "c": [6]}
    first, *others = one_at_a_time(values)
    assert len(others) == 3
    assert all(sum(row[name] != first[name] for name in values) == 1 for row in others)


# -- the command -----------------------------------------------------------------------------------


def test_every_combination_is_a_row():
    rows = rows_of("--page-size", "512,4096", "--layout", "managed,raw", "--param", "rows=10,1e3")
    found = [(row["layout"], row["page_size"], row["rows"]) for row in rows]
    assert found == list(product(["managed", "raw"], ["512", "4096"], ["10", "1000"]))
    assert [row["number"] for row in rows] == [str(number) for number in range(1, 9)]
    assert {row["instructions"] for row in rows} == {""}
    front = [row for row in rows if row["is_on_front"] == "true"]
    assert front
    assert {row["layout"] for row in front} == {"raw"}


def test_a_combination_that_cannot_be_is_a_row_that_says_so():
    rows = rows_of("--layout", "managed,raw", "--journal-mode", "memory,persist")
    assert ["room for the database only" in row["failure"] for row in rows] == [
        *(False, False, False, True)
    ]
    assert rows[3]["os_pages_accessed"] == ""


def test_a_value_that_no_run_can_have_is_refused_before_any_runs(monkeypatch):
    monkeypatch.setattr(many_runs, "carry_out", None)
    for options, text in (
        (("--page-size", "512,1"), "page_size is 1; it must be a power of two from 512 to 65536"),
        (("--page-size", "1,2"), "page_size is 1; it must be"),
        (("--layout", "raw", "--journal-mode", "persist,delete"), "room for the database only"),
    ):
        result = call("sweep", "work.sql", *options, *ALONE)
        assert (result.exit_code, result.stdout) == (2, "")
        assert text in result.stderr


def test_results_of_a_sweep_are_not_those_of_scale():
    sweep = ("sweep", "work.sql", "--page-size", "512,1024")
    scale = ("scale", "work.sql", "--param", "rows=10,20,40")
    for first, other in ((sweep, scale), (scale, sweep)):
        name = f"{first[0]}.sqlite"
        assert call(*first, "--results", name, *ALONE).exit_code == 0
        kept = Path(name).read_bytes()
        result = call(*other, "--results", name, *ALONE)
        assert result.exit_code == 2
        said = f"{name} has the runs of a {first[0]}, and a {other[0]} keeps its own"
        assert said in result.stderr
        assert Path(name).read_bytes() == kept
        assert call(*first, "--results", name, *ALONE).exit_code == 0


def test_values_are_those_of_single_runs():
    rows = rows_of("--page-size", "1024,8192", "--param", "rows=500")
    scripts = SCRIPT.replace("*/ 100", "*/ 500")
    for row in rows:
        Path("one.sql").write_text(scripts)
        shown = call("run", "one.sql", "--page-size", row["page_size"], "--format", "json")
        total = json.loads(shown.stdout)["totals"]
        assert int(row["os_pages_accessed"]) == total["stable"]["os_pages_accessed"]
        assert int(row["os_pages_dirty"]) == total["stable"]["os_pages_dirty"]
        assert int(row["stable_bytes"]) == total["image_bytes"]


@pytest.mark.slow
def test_engines_side_by_side_are_compared_by_what_both_count():
    options = ("--engine", "native,wasm", "--page-size", "512,4096", *ALONE)
    found = json.loads(call("sweep", "work.sql", *options, "--format", "json").stdout)
    assert found["work"] == "os_pages_accessed"
    assert [row["instructions"] is None for row in found["rows"]] == [True, True, False, False]
    text = " ".join(call("sweep", "work.sql", *options).stdout.split())
    assert "as not every engine here counts instructions" in text
    alone = json.loads(
        call("sweep", "work.sql", *options, "--format", "json", "--engine", "wasm").stdout
    )
    assert alone["work"] == "instructions"


def test_advice_cites_its_rows():
    options = ("--page-size", "4096,65536", "--param", "rows=2000", *ALONE)
    text = call("sweep", "work.sql", *options).stdout
    assert "Choose page_size 4096 rather than 65536\n  row 1, page_size 4096" in text
    found = json.loads(call("sweep", "work.sql", *options, "--format", "json").stdout)
    assert found["advice"][0]["code"] == "page-size"


def test_designs_of_fewer_say_so():
    options = ("--page-size", "512,1024,4096", "--cache-size", "10,50,500", *ALONE)
    result = call("sweep", "work.sql", *options, "--design", "4")
    assert "a Latin hypercube of 4 combinations, seed 0" in result.stdout
    result = call("sweep", "work.sql", *options, "--design", "one", "--format", "json")
    assert json.loads(result.stdout)["design"] == "the first values with one changed at a time"
    assert len(json.loads(result.stdout)["rows"]) == 5


def test_an_interrupted_sweep_reports_its_rows_and_goes_on(monkeypatch):
    whole = many_runs.carry_out

    def cut_off(specs, results, crew, **options):
        whole(specs[:2], results, crew)
        raise KeyboardInterrupt

    options = ("--page-size", "512,1024,4096", "--results", "r.sqlite", *ALONE)
    with monkeypatch.context() as patch:
        patch.setattr(many_runs, "carry_out", cut_off)
        result = call("sweep", "work.sql", *options)
    assert result.exit_code == 130
    assert "under 2 combinations" in result.stdout
    assert "interrupted after 2 of 3 runs; the same command goes on" in result.stderr
    result = call("sweep", "work.sql", *options)
    assert result.exit_code == 0
    assert "2 of 3 runs are in r.sqlite already" in result.stderr
    fresh = call("sweep", "work.sql", *options[:2], *ALONE)
    assert result.stdout == fresh.stdout


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((), "nothing varies"),
        (("--page-size", "512"), "nothing varies"),
        (("--page-size", "512,many"), "--page-size many is no whole number"),
        (("--page-size", "512,512"), "one twice"),
        (("--page-size", "512,"), "an empty value"),
        (("--layout", "raw,round"), "'round' is none of managed, raw"),
        (("--engine", "steam,wasm"), "'steam' is none of native, wasm"),
        (("--journal-mode", "wal,memory"), "'wal' is none of memory"),
        (("--preset", "none,mine"), "'mine' is none of"),
        (("--page-size", "512,1024", "--design", "x"), "is neither a number of runs nor one"),
        (("--page-size", "512,1024", "--design", "1"), "give 2 or more"),
        (("--page-size", "512,1024", "--design", "-3"), "is neither"),
        (("--param", "none=1,2"), "no parameter 'none'"),
        (("--page-size", "512,1024", "--results", "work.sql"), "no file of results"),
        (("--param", "rows=1,2,3,4"), "these are 4 runs, more than 3"),
        (("--page-size", "512,1024", "--database", "work.sql"), "work.sql"),
        (("--page-size", "512,1024", "--limits", "soon"), "soon"),
    ],
)
def test_bad_input_is_refused_and_nothing_is_written(folder, monkeypatch, arguments, text):
    monkeypatch.setattr(many_runs, "RUNS_MAX", 3)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    result = call("sweep", "work.sql", *arguments, "--workers", 1)
    assert result.exit_code == 2, result.output
    assert text in result.stderr
    assert "Traceback" not in result.output
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_parameter_that_is_called_as_a_setting_is_refused():
    Path("bad.sql").write_text("SELECT /*@page_size*/ 1")
    result = call("sweep", "bad.sql", "--param", "page_size=1,2")
    assert result.exit_code == 2
    assert "rename it" in result.stderr


# -- the table -------------------------------------------------------------------------------------


def made_row(work, dirty, stable, *, failure=None, parameters=None):
    message = RanMessage(0, "install", None, "committed", None, None, work, dirty, stable)
    settings = {} if failure else {"engine": "native", "limits": "2026-08-18"}
    return RunResult({}, parameters or {}, settings, (message,), (), failure)


def made_sweep():
    sizes, layouts = (512, 4096, 65_536), ("managed", "raw")
    choices = [{"layout": layout, "page_size": size} for layout in layouts for size in sizes]
    numbers = [(900, 400, 1 << 23), (300, 200, 1 << 23), (500, 600, 1 << 23), (880, 190, 1 << 19)]
    results = [made_row(*each, parameters={"rows": 7}) for each in numbers]
    results += [made_row(310, 210, 1 << 18), made_row(0, 0, 0, failure="no such thing; leave it")]
    return sweep_results(choices, results)


ADVICE = (
    Advice("page-size", "Take 4096.", ("row 2: 300", "row 1: 900"), "measured 67 %", (2, 1), 0.6),
)


def shown(found, width=100, advice=ADVICE):
    return render_sweep(
        found, advice=advice, design="every combination", width=width, color_system=None
    )


def test_the_table_is_as_it_was():
    check_golden("table_sweep.txt", shown(made_sweep()))


@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_table_fits_its_width(width):
    assert max(map(len, shown(made_sweep(), width).splitlines())) <= width


def test_tables_of_nothing_and_of_failures_only():
    failed = sweep_results([{"a": 1}], [made_row(0, 0, 0, failure="no")])
    assert "no combination ran to its end" in shown(failed)
    assert shown(sweep_results([], []))
    assert list(render_sweep_csv(failed))[1] == "1,1,,,,,,no,false\n"


def test_hostile_texts_do_no_harm():
    hostile = "<b>\x1b[31m\u202e[red]" + "x" * 5000
    found = sweep_results(
        [{hostile: hostile}, {hostile: 2}],
        [made_row(1, 1, 1), made_row(1, 1, 1, failure=hostile)],
    )
    advice = (Advice("x", hostile, (hostile,), hostile, (1,), 1.0),)
    for width in (40, 100):
        text = shown(found, width, advice)
        assert "\x1b" not in text
        assert "\u202e" not in text
    text = "".join(render_sweep_json(found, advice=advice, design=hostile))
    assert json.loads(text)["varied"] == [hostile]
