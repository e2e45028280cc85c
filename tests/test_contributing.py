"""CONTRIBUTING tells the truth: its files and names exist, and its recipes work as it says."""

import importlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import sqlstable
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
    for what in ("view", "limit", "price list", "layout", "hook", "command"):
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


class House:
    """A copy of the package, to which a recipe adds something."""

    def __init__(self, folder):
        self.folder = folder
        shutil.copytree(
            Path(sqlstable.__file__).parent,
            folder / "sqlstable",
            ignore=shutil.ignore_patterns("__pycache__"),
        )
        self.touched = set()

    def add(self, path, text):
        """Write a new file."""
        assert not (self.folder / path).exists()
        (self.folder / path).write_text(text, encoding="utf-8")
        self.touched.add(path)

    def change(self, path, old, new):
        """Change one place of a file."""
        text = (self.folder / path).read_text(encoding="utf-8")
        assert text.count(old) == 1, f"{old} is {text.count(old)} times in {path}"
        (self.folder / path).write_text(text.replace(old, new), encoding="utf-8")
        self.touched.add(path)

    def run(self, *arguments):
        """Run Python on the changed package, and return what it prints."""
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(self.folder), "COLUMNS": "100"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def house(tmp_path):
    house = House(tmp_path)
    (tmp_path / "one.sql").write_text("CREATE TABLE t (x);\nSELECT * FROM t;\n", encoding="utf-8")
    yield house
    assert 1 <= len(house.touched) <= FILES_MAX


@pytest.mark.slow
def test_a_limit_is_a_row(house):
    house.change(
        "sqlstable/ic/limit_tables.py",
        "\n_MEMORY: Final = (\n",
        '\n_MEMORY: Final = (\n    Limit("toy_bytes", "bytes", "A toy.", _only(5, "a test")),\n',
    )
    code = (
        "from sqlstable.ic.limit_tables import LIMITS; print(LIMITS['toy_bytes'].history[-1].value)"
    )
    assert house.run("-c", code) == "5\n"


@pytest.mark.slow
def test_a_price_list_is_a_row(house):
    count = (
        "import sqlstable\n"
        "with sqlstable.Canister(engine='wasm') as canister:\n"
        "    print(canister.update('CREATE TABLE t (x)').message.instructions.stable)\n"
    )
    before = int(house.run("-c", count))
    house.change(
        "sqlstable/ic/prices.py",
        "    ),\n)\n\nPRICE_REGIMES",
        "    ),\n    PriceRegime(\n"
        '        name="toy", since=date(2026, 7, 2), table=REPLICA, dirty_heap_os_page=0,\n'
        "        costs=SystemCosts(dirty_os_page=7_000_000), source='a test',\n"
        "    ),\n)\n\nPRICE_REGIMES",
    )
    # Three OS pages are dirty; what regions cost is no longer charged.
    assert int(house.run("-c", count)) > before + 20_000_000


LAYOUT = """
from sqlstable.layout.filemap import ENDLESS, FileMap
from sqlstable.layout.layout import Opened
from sqlstable.layout.placement import RawPlacement
from sqlstable.layout.raw_layout import Raw


class Toy:
    name = "toy"
    traits = Raw.traits

    def probe(self, peek):
        return peek.start(6, BASE) == b"SQLite"

    def locate(self, peek):
        return FileMap.of((0,), bucket_bytes=ENDLESS, base=BASE)

    def open(self, memory, *, bucket_pages, growth, is_read_only):
        return Opened(RawPlacement(memory, base=BASE))


BASE = 8192
"""


@pytest.mark.slow
def test_a_layout_is_a_module_and_its_name_in_a_tuple(house):
    house.add("sqlstable/layout/toy.py", LAYOUT)
    house.change(
        "sqlstable/layout/layouts.py",
        "\nLAYOUTS: Final[tuple[Layout, ...]] = (",
        "\nfrom sqlstable.layout.toy import Toy\n\nLAYOUTS: Final[tuple[Layout, ...]] = (Toy(), ",
    )
    house.run("-m", "sqlstable", "run", "one.sql", "--layout", "toy", "--image", "one.stable")
    image = (house.folder / "one.stable").read_bytes()
    assert image[8192:].startswith(b"SQLite format 3")
    # Extraction is told no layout: it asks each.
    house.run("-m", "sqlstable", "extract", "one.stable", "one.db")
    assert (house.folder / "one.db").read_bytes()[:16] == image[8192:8208]


COMMAND = """
import typer


def show_toy() -> None:
    \"\"\"Show a toy.\"\"\"
    typer.echo("a toy")
"""


@pytest.mark.slow
def test_a_command_is_a_module_and_a_line(house):
    house.add("sqlstable/cli/toy.py", COMMAND)
    house.change(
        "sqlstable/cli/__init__.py",
        "COMMANDS: Final = {\n",
        'COMMANDS: Final = {\n    "toy": Listed("toy.show_toy", "Show a toy."),\n',
    )
    assert house.run("-m", "sqlstable", "toy") == "a toy\n"
    assert "Show a toy." in house.run("-m", "sqlstable", "--help")


UPGRADE = """
            def note(message: HookMessage) -> None:
                message.execute("INSERT INTO t VALUES (?)", (message.part,))

            life.part("post_upgrade", opens=not is_kept, before=note)
"""
UPGRADING = """
import sqlstable

for engine in ("native", "wasm"):
    with sqlstable.Canister(engine=engine, trace=":memory:") as canister:
        canister.update("CREATE TABLE t (x)")
        reply = canister.upgrade()
        print(reply.outcome, canister.query("SELECT x FROM t").rows)
        print([statement.stable.os_pages_dirty for statement in reply.statements])
        canister.update("ALTER TABLE t RENAME TO gone")
        try:
            canister.upgrade()
        except sqlstable.SqlstableError as error:
            print(type(error).__name__)
        print(canister.query("SELECT x FROM gone").rows)
"""


@pytest.mark.slow
def test_what_each_upgrade_does_is_in_the_body_of_its_step(house):
    house.change(
        "sqlstable/canister/steps.py",
        '\n            life.part("post_upgrade", opens=not is_kept, before=migration)\n',
        UPGRADE,
    )
    house.change(
        "sqlstable/canister/steps.py", "import Hook, Hooks", "import Hook, HookMessage, Hooks"
    )
    answers = "committed [('post_upgrade',)]\n[2]\nSqlError\n[('post_upgrade',)]\n"
    # One that fails takes the upgrade with it, and leaves the canister as it was.
    assert house.run("-c", UPGRADING) == 2 * answers


VIEW_MODULE = """
from rich.text import Text

from sqlstable.report.view import ACCESSED, Fields, View, named

VIEW = View(
    by="toy",
    title="OS pages by toy",
    glossary=(ACCESSED,),
    lines=lambda trace, look: [Text(f"toy of {len(trace.messages)} messages")],
    items=lambda trace: trace.messages,
    fields=(
        named("index").called(["message"]),
        Fields(("os_pages_accessed",), lambda it: (it.stable.os_pages_accessed,)),
    ),
)
"""


@pytest.mark.slow
def test_a_view_is_a_module_and_its_name(house):
    house.add("sqlstable/report/by_toy.py", VIEW_MODULE)
    house.change("sqlstable/report/views.py", '    "statement", ', '    "toy", "statement", ')
    assert "toy of 3 messages" in house.run("-m", "sqlstable", "run", "one.sql", "--by", "toy")
    lines = house.run("-m", "sqlstable", "run", "one.sql", "--by", "toy", "--format", "csv")
    assert lines.splitlines()[0] == "message,os_pages_accessed"
    assert len(lines.splitlines()) == 4
    assert "toy|statement|shape" in house.run("-m", "sqlstable", "run", "--help")
