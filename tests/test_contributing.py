"""CONTRIBUTING tells the truth: its files and names exist, and its recipes work as it says."""

import importlib
import re

import pytest

from tests.documents import ROOT

TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
FILES_MAX = 2
_SECTION = TEXT.partition("## What to add, and where")[2].partition("\n## ")[0]
RECIPES = {
    what: files
    for what, files, _ in re.findall(r"^\| (an? .*?) \| (.*?) \| (.*?) \|$", _SECTION, re.MULTILINE)
}


def module_of(path):
    return importlib.import_module(path.removesuffix(".py").replace("/", "."))


def test_all_that_varies_has_a_recipe():
    words = " ".join(RECIPES)
    for what in ("view", "limit", "price list", "layout", "command"):
        assert what in words


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_touches_two_files_at_most(recipe):
    files = re.findall(r"`(sqlstable/[\w/]+\.py)`", RECIPES[recipe])
    assert 1 <= len(files) <= FILES_MAX
    assert all((ROOT / file).exists() for file in files)


@pytest.mark.parametrize("recipe", RECIPES)
def test_names_of_a_recipe_stand_in_their_files(recipe):
    found = re.findall(r"`(\w+)` (?:of|in) `(sqlstable/[\w/]+\.py)`", RECIPES[recipe])
    assert found
    for name, file in found:
        assert hasattr(module_of(file.replace("/__init__.py", "")), name)


def test_paths_exist():
    for path in re.findall(r"`((?:tests|benchmarks|sqlstable|docs|\.ci)/[\w/.]*)`", TEXT):
        assert (ROOT / path).exists(), path
    for module in re.findall(r"python -m ([\w.]+)", TEXT):
        if module != "pytest":
            assert (ROOT / f"{module.replace('.', '/')}.py").exists(), module
