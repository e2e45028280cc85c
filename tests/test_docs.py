"""Documents are true: code runs, output is what is printed, nothing public is missing."""

import inspect
import pkgutil
import re
import runpy

import pytest

import sqlstable
import sqlstable.testing
from sqlstable.cli import COMMANDS
from tests.documents import OMISSION, ROOT, blocks_of, examples_of, make_programs, run_document

DOCS = ROOT / "docs"
PAGES = sorted(path.relative_to(ROOT).as_posix() for path in DOCS.rglob("*.md"))
DOCUMENTS = ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", *PAGES]
SESSIONS = [name for name in PAGES if examples_of(blocks_of(ROOT / name))]
SHOWN_ONLY = {"text", "sql"}
"""Languages of blocks that neither run nor are files: formats, lists, drawings."""
WHOLE_REPORT = "docs/reference/reports.md"
"""The page that shows a report from its first line to its last."""
LESSONS = ("docs/tutorial", "docs/how-to")
"""Pages where each block must run."""

generator = runpy.run_path(str(DOCS / "generate.py"))


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    return make_programs(tmp_path_factory.mktemp("programs") / "bin")


def test_readme_runs_and_prints_what_it_says(programs):
    blocks = blocks_of(ROOT / "README.md")
    assert {"console", "sh"} <= {block.language for block in blocks}
    run_document([block for block in blocks if block.language != "sh"], ROOT, programs)


@pytest.mark.parametrize(
    "document",
    [pytest.param(it, marks=() if it == WHOLE_REPORT else pytest.mark.slow) for it in SESSIONS],
)
def test_pages_run_and_print_what_they_say(document, programs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_document(blocks_of(ROOT / document), tmp_path, programs)


def test_a_report_is_shown_whole():
    shown = [it.text for it in blocks_of(ROOT / WHOLE_REPORT) if it.language == "console"]
    assert any(OMISSION.search(text) is None and text.count("\n") > 50 for text in shown)


def test_the_documents_together_show_the_python_api_at_work():
    python = [
        block
        for document in ("README.md", *PAGES)
        for block in blocks_of(ROOT / document)
        if block.language == "python" and block.title is None
    ]
    assert len(python) >= 6
    assert examples_of(python) > 40


@pytest.mark.parametrize("document", PAGES)
def test_blocks_of_pages_run_or_are_there_to_be_read(document):
    for block in blocks_of(ROOT / document):
        runs = block.title is not None or block.language in {"console", "python", "ipython"}
        is_lesson = document.startswith(LESSONS)
        # README's commands run in CI, in a clean environment.
        is_of_readme = block.language == "sh" and block in blocks_of(ROOT / "README.md")
        assert runs or is_of_readme or (block.language in SHOWN_ONLY and not is_lesson), block


@pytest.mark.parametrize("name", generator["MADE"])
def test_generated_pages_are_what_the_package_says(name):
    found = (DOCS / "reference" / name).read_text(encoding="utf-8")
    assert found == generator["page"](name), "stale: run python docs/generate.py"


def test_every_command_is_in_readme_and_in_the_reference():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    reference = (DOCS / "reference" / "commands.md").read_text(encoding="utf-8")
    for command in COMMANDS:
        # Commands of a group share a row.
        assert f"`sqlstable {command.split()[0]}" in readme
        assert f"\n## `sqlstable {command}`\n" in reference


def test_every_public_name_exists_and_is_documented():
    reference = (DOCS / "reference" / "python.md").read_text(encoding="utf-8")
    for module in (sqlstable, sqlstable.testing):
        for name in set(module.__all__) - {"__version__"}:
            assert (getattr(module, name).__doc__ or "").strip(), name
            assert f"\n::: {module.__name__}.{name}\n" in reference


def test_every_name_on_the_python_page_exists():
    reference = (DOCS / "reference" / "python.md").read_text(encoding="utf-8")
    for path in re.findall(r"^::: (\S+)$", reference, re.MULTILINE):
        assert pkgutil.resolve_name(path), path
    chosen = re.findall(r"^::: (\S+)\n +options:\n +members: \[(.*)\]$", reference, re.MULTILINE)
    assert chosen
    for path, members in chosen:
        found = pkgutil.resolve_name(path)
        made = inspect.getsource(found)
        for name in members.split(", "):
            assert hasattr(found, name) or f"self.{name}" in made, f"{path}.{name}"


def test_every_page_is_in_the_site_and_every_page_of_the_site_exists():
    site = (ROOT / "zensical.toml").read_text(encoding="utf-8")
    named = re.findall(r'"([\w/-]+\.md)"', site)
    assert sorted(f"docs/{name}" for name in named) == PAGES


@pytest.mark.parametrize("document", DOCUMENTS)
def test_documents_point_at_what_exists(document):
    text = (ROOT / document).read_text(encoding="utf-8")
    for path in re.findall(r"`((?:tests|benchmarks|examples|sqlstable|docs)/[\w/.]*)`", text):
        assert (ROOT / path).exists(), f"{document} names {path}"
    for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert ((ROOT / document).parent / link).exists(), f"{document} links to {link}"
