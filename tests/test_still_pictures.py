"""Pictures for papers: of every trace, the same bytes, labelled, with names that do no harm."""

import re
import sys
from pathlib import Path
from typing import get_args

import matplotlib as mpl
import pytest
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

import sqlstable.plot
from sqlstable import Canister
from sqlstable.analysis.locality.locality import locality
from sqlstable.analysis.page_map import page_map
from sqlstable.report.map_look import MapBy
from sqlstable.report.picture_names import PictureEnding, PictureName
from sqlstable.report.pictures.drawing import PICTURES, Figures, save_picture
from tests.cli_images import call, folder  # noqa: F401  a fixture
from tests.hand_built import HandBuiltTrace
from tests.locality_world import hostile_trace, million_accesses, one_access, shop_trace

NAMES = get_args(PictureName)
FIRST_BYTES = {".png": b"\x89PNG\r\n", ".svg": b"<?xml", ".pdf": b"%PDF"}


@pytest.fixture(autouse=True, scope="module")
def _no_screen():
    mpl.use("agg")
    yield
    plt.close("all")


def texts_of(name, trace):
    """Return all texts of a picture, as they are drawn."""
    figure = Figure()
    axes = figure.subplots()
    PICTURES[name](axes, Figures(trace))
    figure.draw_without_rendering()
    legend = axes.get_legend()
    found = [axes.get_title(loc="left"), axes.get_xlabel(), axes.get_ylabel()]
    return found + [it.get_text() for it in legend.get_texts()] if legend else found


@pytest.fixture(name="kept")
def kept_fixture(folder):  # noqa: F811
    """The name of a kept trace."""
    assert call("run", "shop.sql", "--trace", "a.trace").exit_code == 0
    return "a.trace"


# -- all of them -----------------------------------------------------------------------------------


def test_every_name_has_a_picture():
    assert set(PICTURES) == set(NAMES)


@pytest.mark.slow
@pytest.mark.parametrize("ending", get_args(PictureEnding))
def test_pictures_have_the_same_bytes_each_time_and_no_date(ending, tmp_path):
    for name in NAMES:
        made = []
        for place in ("a", "b"):
            save_picture(Figures(shop_trace()), name, tmp_path / place, ending)
            made.append((tmp_path / place).read_bytes())
        assert made[0] == made[1], name
        assert made[0].startswith(FIRST_BYTES[ending])
        assert not re.search(rb"CreationDate|<dc:date>|20[0-9]{2}-\d\d-\d\dT", made[0])


@pytest.mark.slow
@pytest.mark.parametrize("make", [HandBuiltTrace, one_access, hostile_trace, million_accesses])
def test_every_trace_can_be_drawn(make, tmp_path):
    figures = Figures(make())
    for name in NAMES:
        save_picture(figures, name, tmp_path / name, ".svg")
        assert (tmp_path / name).stat().st_size > 1_000


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NAMES if name != "page-map"])
def test_axes_are_labelled(name):
    title, x, y = texts_of(name, shop_trace())[:3]
    assert title
    assert x
    assert y
    assert not re.search(r"(?<!OS )(?<!SQLite )\bpages?\b", f"{title} {x} {y}")


def test_the_map_says_what_a_cell_stands_for_and_whose_it_is():
    texts = texts_of("page-map", shop_trace())
    assert texts[0] == "Stable memory, a cell: 1 OS page"
    assert "never touched, left out" in texts[1]
    assert any(it.startswith("sale\n") for it in texts)


def test_hostile_names_are_drawn_as_they_are():
    joined = "\n".join(texts_of("page-map", hostile_trace()))
    assert r"_a\$b_{x}^2\$ \\$" in joined
    assert "<script>alert" in joined
    assert not set("\x1b\u202e\x00漢") & set(joined)
    assert max(map(len, joined.splitlines())) < 80


# -- the public door -------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", sqlstable.plot.__all__)
def test_functions_draw_into_axes_that_are_given_or_make_some(name):
    draw = getattr(sqlstable.plot, name)
    axes = Figure().subplots()
    assert draw(shop_trace(), axes) is axes
    made = draw(shop_trace())
    assert made.get_title(loc="left") == axes.get_title(loc="left")
    assert made.figure.number in plt.get_fignums()


def test_results_of_analysis_can_be_drawn():
    found = locality(shop_trace(), unit="sqlite")
    for name in ("reuse", "miss_ratio", "working_set", "regions"):
        getattr(sqlstable.plot, name)(found, Figure().subplots())
    axes = sqlstable.plot.miss_ratio(found, Figure().subplots(), cache_size=7)
    assert any("cache_size 7" in it.get_text() for it in axes.texts)
    for by in get_args(MapBy):
        sqlstable.plot.page_map(page_map(shop_trace()), Figure().subplots(), by=by)


def test_the_configured_cache_is_marked():
    axes = sqlstable.plot.miss_ratio(shop_trace(), Figure().subplots())
    assert any("cache_size 10" in it.get_text() for it in axes.texts)


def test_settings_of_the_reader_stay_as_they_were():
    before = dict(mpl.rcParams)
    save_picture(Figures(one_access()), "reuse", Path("/dev/null"), ".svg")
    assert dict(mpl.rcParams) == before


# -- commands --------------------------------------------------------------------------------------


def test_a_picture_goes_into_a_file_and_is_replaced_only_when_asked(kept):
    done = call("report", kept, "--picture", "miss-ratio", "--output", "m.svg")
    assert (done.exit_code, done.stdout) == (0, "")
    assert "the picture miss-ratio in m.svg" in done.stderr
    before = Path("m.svg").read_bytes()
    refused = call("report", kept, "--picture", "reuse", "--output", "m.svg")
    assert refused.exit_code == 2
    assert "m.svg exists already" in refused.stderr
    assert Path("m.svg").read_bytes() == before
    done = call("report", kept, "--picture", "reuse", "--output", "m.svg", "--force")
    assert done.exit_code == 0
    assert Path("m.svg").read_bytes() != before


@pytest.mark.slow
def test_all_pictures_go_into_a_folder(kept):
    done = call("report", kept, "--picture", "all", "--output", "pictures")
    assert done.exit_code == 0
    assert sorted(it.name for it in Path("pictures").iterdir()) == sorted(
        f"{name}.svg" for name in NAMES
    )
    again = call("report", kept, "--picture", "all", "--output", "pictures")
    assert again.exit_code == 2
    assert "exists already" in again.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--picture", "heatmap", "--output", "a.svg"), "'heatmap' is not one of"),
        (("--picture", "reuse"), "--picture reuse needs a place: --output reuse.svg"),
        (("--output", "a.svg"), "--output is where a picture goes; add --picture NAME"),
        (("--picture", "reuse", "--output", "a.jpg"), "a.jpg must end with one of .png, .svg"),
        (("--picture", "reuse", "--output", "a"), "a must end with one of .png, .svg, .pdf"),
        (("--picture", "reuse", "--output", "."), ". is a folder; name a file in it"),
        (("--picture", "all", "--output", "shop.sql"), "shop.sql is a file; --picture all needs"),
        (("--picture", "all", "--output", "no/such"), "the folder of no/such is not there"),
        (("--picture", "reuse", "--output", "a.svg", "--map"), "--by os-page do not go together"),
        (("--picture", "reuse", "--output", "no/a.svg"), "the folder of no/a.svg is not there"),
        (("--picture", "reuse", "--output", "shop.svg", "--force"), "is not a picture of"),
        (("--picture", "reuse", "--format", "csv", "--output", "a.svg"), "do not go together"),
        (("--picture", "reuse", "--html", "a.html", "--output", "a.svg"), "do not go together"),
        (("--picture", "reuse", "--compare", "a.trace", "--output", "a.svg"), "do not go together"),
        (("--force",), "--force concerns the file of --html or --output"),
    ],
)
def test_misuse_is_refused_and_changes_nothing(kept, options, words):
    Path("shop.svg").write_text("a letter to a friend")
    before = {it.name: it.read_bytes() for it in Path().iterdir()}
    done = call("report", kept, *options)
    assert done.exit_code == 2
    assert words in " ".join(done.stderr.replace("│", " ").split())
    assert {it.name: it.read_bytes() for it in Path().iterdir()} == before


def test_without_matplotlib_the_error_names_the_extra(kept, monkeypatch):
    for name in [*sys.modules]:
        if name.startswith("sqlstable.report.pictures"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    done = call("report", kept, "--picture", "reuse", "--output", "a.svg")
    assert done.exit_code == 2
    assert "matplotlib, which draws pictures, is missing" in done.stderr
    assert "pip install '.[plot]'" in done.stderr
    assert not Path("a.svg").exists()


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_a_picture_that_others_drew_is_never_replaced(tmp_path, ending):
    trace, path = tmp_path / "a.trace", tmp_path / f"mine.{ending}"
    with Canister(trace=trace) as canister:
        canister.update("CREATE TABLE t (a)")
    Figure().savefig(path, metadata={"Creator": "me"} if ending != "png" else None)
    before = path.read_bytes()
    arguments = ("report", str(trace), "--picture", "reuse", "--output", str(path), "--force")
    refused = call(*arguments)
    assert (refused.exit_code, path.read_bytes()) == (2, before)
    assert "is not a picture of sqlstable, so it is not replaced" in refused.stderr
    path.unlink()
    for _ in range(2):
        assert call(*arguments).exit_code == 0


@pytest.mark.slow
def test_a_run_draws_its_picture_at_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ran = call("run", "@ledger", "--trace", "a.trace", "--picture", "growth", "--output", "run.svg")
    assert ran.exit_code == 0, ran.stderr
    assert "the picture growth in run.svg" in ran.stderr
    assert call("report", "a.trace", "--picture", "growth", "--output", "report.svg").exit_code == 0
    assert Path("run.svg").read_bytes() == Path("report.svg").read_bytes()
    for options, text in (
        (["--picture", "growth"], "needs a place: --output growth.svg"),
        (["--output", "x.svg"], "add --picture NAME"),
        (["--picture", "growth", "--output", "run.svg"], "run.svg exists already"),
    ):
        refused = call("run", "@ledger", *options)
        assert (refused.exit_code, refused.stdout) == (2, "")
        assert text in refused.stderr
