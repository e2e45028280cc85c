"""Documents whose blocks of code run: README and the pages in ``docs``.

A document is a session in one folder, from its first block to its last. A block with a title is a
file of that name; ``console`` is commands and what they print; ``python`` with ``>>>`` is a
doctest; ``ipython`` is a cell of a notebook, below ``Out:`` what it prints or returns. A line ``…``
in output stands for lines left out.
"""

import doctest
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import sqlstable
from tests.notebook_world import Cells

ROOT = Path(__file__).parent.parent
OMISSION = re.compile(r"^…\n", re.MULTILINE)
VERSION = re.compile(r"sqlite \d+\.\d+\.\d+")
_BLOCK = re.compile(
    r'^```(?P<language>\w+)(?: title="(?P<title>[^"]+)")?\n(?P<text>.*?)^```$',
    re.DOTALL | re.MULTILINE,
)
_PROGRAMS = {"sqlstable": '-m sqlstable "$@"', "python": '"$@"'}


@dataclass(frozen=True)
class Block:
    """One block of code of a document."""

    language: str
    title: str | None
    text: str


def blocks_of(path):
    """Return the blocks of code of a document, in order."""
    text = path.read_text(encoding="utf-8")
    found = [Block(**match.groupdict()) for match in _BLOCK.finditer(text)]
    assert 2 * len(found) == len(re.findall(r"^ *```", text, re.MULTILINE)), f"odd fences in {path}"
    return found


def examples_of(blocks):
    """Return how many commands, Python statements and cells the blocks have."""
    commands = sum(len(_commands(it)) for it in blocks if it.language == "console")
    python = "\n".join(it.text for it in blocks if it.language == "python" and it.title is None)
    cells = sum(it.language == "ipython" for it in blocks)
    return cells + commands + len(doctest.DocTestParser().get_examples(python))


def run_document(blocks, folder, programs):
    """Run all blocks in a folder, and assert that each prints what stands in it."""
    names, cells = {}, None
    for number, block in enumerate(blocks):
        if block.title is not None:
            (folder / block.title).write_text(block.text, encoding="utf-8")
        elif block.language == "console":
            for command, shown in _commands(block):
                _run_command(command, shown, folder, programs)
        elif block.language == "python":
            # A name of its own: tracebacks look up the lines of functions of other blocks by it.
            name = f"{folder.name} {number}"
            test = doctest.DocTestParser().get_doctest(block.text, names, name, None, 0)
            assert test.examples, f"nothing runs in {block.text}"
            report = []
            runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
            runner.run(test, out=report.append, clear_globs=False)
            names = test.globs
            assert runner.failures == 0, "".join(report)
        elif block.language == "ipython":
            cells = cells or Cells()
            text, _, shown = block.text.partition("Out:\n")
            _compare(text, cells.run(text), shown)
    if cells is not None:
        cells.close()


def make_programs(folder):
    """Put programs into a folder, so that commands find this Python and this package."""
    folder.mkdir()
    for name, arguments in _PROGRAMS.items():
        program = folder / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments}\n', encoding="utf-8")
        program.chmod(0o755)
    return folder


def _commands(block):
    """Return the commands of a console block, each with what it prints."""
    _, *pieces = re.split(r"^\$ ", block.text, flags=re.MULTILINE)
    return [tuple(piece.split("\n", 1)) for piece in pieces]


def _run_command(command, shown, folder, programs):
    if "wasm" in command:
        # The first use of a module compiles it, and may say so.
        sqlstable.Canister(engine="wasm").close()
    printed = subprocess.run(
        ["/bin/sh", "-c", command],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        env={
            **os.environ,
            "COLUMNS": "100",
            "NO_COLOR": "1",
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        },
    )
    assert printed.returncode == 0, f"{command}\n{printed.stderr}"
    # Another SQLite may be installed one day; what it prints is compared all the same.
    _compare(command, printed.stdout + printed.stderr, shown)
    assert printed.stderr in shown, f"{command} says also\n{printed.stderr}"


def _compare(command, printed, shown):
    """Assert that what is printed is what a document shows of it."""
    output = VERSION.sub("sqlite", printed)
    expected = VERSION.sub("sqlite", shown)
    pieces = OMISSION.split(expected)
    if len(pieces) == 1:
        assert output == expected
    for piece in pieces:
        assert piece in output, f"{command} does not print\n{piece}but\n{output}"
        output = output[output.index(piece) + len(piece) :]
