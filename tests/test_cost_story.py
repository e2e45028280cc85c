"""The story of the cost: what it says holds, it is the same each time, and 80 columns wide."""

import re

import pytest
from typer.testing import CliRunner

from sqlstable.cli import app

pytestmark = pytest.mark.slow

SCENES = 9


def show(*options):
    return CliRunner().invoke(app, ["demo", "cost", *options])


@pytest.fixture(scope="module")
def shown():
    """What the story prints in 80 columns."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "80")
        result = show()
        assert (result.exit_code, result.stderr) == (0, "")
        assert show().stdout == result.stdout
    return result.stdout


def test_it_is_told_to_its_end_in_80_columns(shown):
    assert re.findall(r"^── (\d)", shown, re.MULTILINE) == [str(it + 1) for it in range(SCENES)]
    assert shown.count("✓") == 3
    assert "✗" not in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_no_page_is_called_just_that(shown):
    assert not re.findall(r"(?<!OS )(?<!SQLite )(?<!Wasm )\bpages?\b(?! cache)", shown)


def test_the_engine_that_counts_nothing_is_refused():
    result = show("--engine", "native")
    assert result.exit_code == 2
    assert "the story cost counts instructions, which the native engine does not" in result.stderr


def test_it_says_what_the_index_saves_where_the_join_is_called_as_an_update(shown):
    text = " ".join(shown.split())
    [(without, with_index, saved)] = re.findall(
        r"it costs ([\d.]+) M cycles, and ([\d.]+) M with the index, which saves ([\d.]+) M a call",
        text,
    )
    assert float(without) - float(with_index) == pytest.approx(float(saved), abs=0.02)
    # Base price and arrival are paid either way: what is saved is instructions.
    totals = dict(re.findall(r"(with index|without) .*? ([\d.]+) M +[\d.]+%", shown))
    fewer = float(totals["without"]) - float(totals["with index"])
    assert float(saved) == pytest.approx(fewer, abs=0.03)
