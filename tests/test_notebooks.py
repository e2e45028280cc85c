"""The notebooks run, show what they are committed with, and no number in their prose is made up."""

import re
import runpy
from functools import cache

import nbformat
import pytest

import sqlstable
import sqlstable.testing
from tests.documents import ROOT, VERSION

FOLDER = ROOT / "notebooks"
NAMES = sorted(path.name for path in FOLDER.glob("*.ipynb"))
NUMBER = re.compile(r"(?<![\w.])\d[\d,]*(?:\.\d+)?")
"""A number in prose; not the digits of a name."""
INSTALL = "pip install '.[notebook]'"
BYTES_MAX = 300_000

refresh = runpy.run_path(str(FOLDER / "refresh.py"))


@cache
def notebook(name):
    return nbformat.read(FOLDER / name, as_version=4)


def cells(name, kind):
    return [cell for cell in notebook(name).cells if cell.cell_type == kind]


def outputs(name):
    return [output for cell in cells(name, "code") for output in cell.outputs]


def texts(found):
    """All that outputs show as text; of a picture only that there is one.

    What has HTML shows that; then the text beside it is for nobody.
    """
    for output in found:
        if output.output_type == "stream":
            yield output.name, VERSION.sub("sqlite", output.text)
            continue
        kinds = set(output.data) - ({"text/plain"} if "text/html" in output.data else set())
        for kind in sorted(kinds):
            text = output.data[kind]
            shown = "" if kind.startswith("image/") else VERSION.sub("sqlite", text)
            yield kind, shown


def test_there_is_a_notebook_for_each_lesson():
    numbers = [name[:2] for name in NAMES]
    assert numbers == [f"{number:02}" for number in range(1, 9)]


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_begins_with_how_to_install_and_is_committed_as_it_ran(name):
    first = notebook(name).cells[0].source
    assert first.startswith("# ")
    assert INSTALL in first
    assert notebook(name).metadata == refresh["METADATA"]
    counts = [cell.execution_count for cell in cells(name, "code")]
    assert counts == list(range(1, len(counts) + 1))
    assert all(set(cell.metadata) <= {"tags"} for cell in notebook(name).cells)
    assert any(kind.startswith("image/") for kind, _ in texts(outputs(name))) or "05" in name
    assert (FOLDER / name).stat().st_size < BYTES_MAX


@pytest.mark.parametrize("name", NAMES)
def test_no_output_is_an_error_or_names_this_machine(name):
    assert [it for it in outputs(name) if it.output_type == "error"] == []
    shown = "\n".join(text for _, text in texts(outputs(name)))
    assert re.findall(r"(?:/tmp|/home|/root|/work|[A-Z]:\\|0x[0-9a-f]{6})\S*", shown) == []
    assert "stderr" not in {kind for kind, _ in texts(outputs(name))}


@pytest.mark.parametrize("name", NAMES)
def test_every_number_of_the_prose_comes_from_a_cell(name):
    known = [cell.source for cell in cells(name, "code")]
    known += [text for _, text in texts(outputs(name))]
    numbers = set(NUMBER.findall("\n".join(known)))
    for cell in cells(name, "markdown"):
        # Links, code and the numbers of a list are no claims.
        prose = re.sub(r"\]\([^)]*\)|`[^`]*`|^\d+\. ", "", cell.source, flags=re.MULTILINE)
        assert set(NUMBER.findall(prose)) - numbers == set(), cell.source


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_asks_predicts_and_uses_public_names(name):
    prose = "\n".join(cell.source for cell in cells(name, "markdown"))
    shown = "\n".join(text for _, text in texts(outputs(name)))
    assert len(re.findall(r"\*\*Predict\*\*", prose)) >= 2
    assert len(re.findall(r"\*\*What we see\.\*\*", shown)) >= 2
    assert "**Try it.**" in prose
    code = "\n".join(cell.source for cell in cells(name, "code"))
    assert set(re.findall(r"\bsqlstable\.([A-Z]\w+)", code)) <= set(sqlstable.__all__)
    imported = re.findall(r"^from (sqlstable\S*) import (.*)$", code, re.MULTILINE)
    places = ("sqlstable.testing", "sqlstable.analysis.")
    assert all(module.startswith(places) for module, _ in imported)


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name):
    for cell in cells(name, "markdown"):
        for link in re.findall(r"\]\(([^)#:]+)\)", cell.source):
            assert (FOLDER / link).exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs_and_shows_what_it_is_committed_with(name):
    ran = refresh["executed"](FOLDER / name)
    for before, after in zip(notebook(name).cells, ran.cells, strict=True):
        assert before.source == after.source
        if before.cell_type == "code":
            assert list(texts(after.outputs)) == list(texts(before.outputs)), before.source
