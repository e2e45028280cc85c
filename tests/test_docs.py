"""README is true: its code runs, its output is what is printed, and nothing public is missing."""

import doctest
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import sqlstable

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
CONSOLE_BLOCKS = re.findall(r"```console\n\$ (sqlstable [^\n]*)\n(.*?)```", README, re.DOTALL)
VERSION = re.compile(r"sqlite \d+\.\d+\.\d+")
OMISSION = re.compile(r"^…\n", re.MULTILINE)
"""A line that stands for lines left out."""


def test_readmes_python_runs_and_prints_what_it_says():
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(blocks) >= 4
    session = doctest.DocTestParser().get_doctest("\n".join(blocks), {}, "README", None, 0)
    results = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(session)
    assert results.attempted > 20
    assert results.failed == 0


@pytest.mark.parametrize(("command", "shown"), CONSOLE_BLOCKS)
def test_readmes_output_blocks_are_what_is_printed(command, shown):
    if "--engine wasm" in command:
        # The first use of a module compiles it, and may say so.
        sqlstable.Canister(engine="wasm").close()
    printed = subprocess.run(
        [sys.executable, "-m", *shlex.split(command)],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "COLUMNS": "100", "NO_COLOR": "1"},
    )
    # Another SQLite may be installed one day; what it prints is compared all the same.
    output, expected = (VERSION.sub("sqlite", text) for text in (printed.stdout, shown))
    pieces = OMISSION.split(expected)
    if len(pieces) == 1:
        assert output == expected
    for piece in pieces:
        assert piece in output
        output = output[output.index(piece) + len(piece) :]
    assert printed.stderr == ""


def test_readme_has_an_output_block():
    assert len(CONSOLE_BLOCKS) >= 1


def test_readme_names_every_command():
    for command in sorted((ROOT / "sqlstable" / "cli").glob("*.py")):
        if "typer.Argument" in command.read_text(encoding="utf-8"):
            # A module cannot be named import, so it has an underscore behind its name.
            assert f"`sqlstable {command.stem.rstrip('_')} " in README


def test_every_public_name_exists_and_is_documented():
    for name in sqlstable.__all__:
        public = getattr(sqlstable, name)
        assert name == "__version__" or (public.__doc__ or "").strip(), name


@pytest.mark.parametrize("document", ["README.md", "ARCHITECTURE.md", "CHANGELOG.md"])
def test_documents_point_at_what_exists(document):
    text = (ROOT / document).read_text(encoding="utf-8")
    for path in re.findall(r"`((?:tests|benchmarks|examples|sqlstable)/[\w/.]*)`", text):
        assert (ROOT / path).exists(), f"{document} names {path}"
