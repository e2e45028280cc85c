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
