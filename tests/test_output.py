"""Where text goes: how wide, with which colours and which characters."""

import io
import os
import re
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sqlstable.cli import app
from sqlstable.cli.output import Screen, is_ascii_locale, screen
from sqlstable.report.grid import WIDTH_MIN
from tests.children import ROOT, run_child

VARIABLES = ("COLUMNS", "NO_COLOR", "FORCE_COLOR", "TERM", "LANG", "LC_ALL", "LC_CTYPE",
             "PYTHONIOENCODING", "PYTHONUTF8")  # fmt: skip


class Terminal(io.StringIO):
    """A stream at which somebody sits."""

    def isatty(self):
        return True


@pytest.fixture
def environment(monkeypatch):
    """Set what the environment says, and nothing else."""

    def set_environment(**values):
        for name in VARIABLES:
            monkeypatch.delenv(name, raising=False)
        for name, value in values.items():
            monkeypatch.setenv(name, value)

    return set_environment


@pytest.mark.parametrize(
    ("values", "pipe", "terminal"),
    [
        ({"TERM": "xterm"}, (100, None), (80, "auto")),
        ({"TERM": "xterm", "COLUMNS": "80"}, (80, None), (80, "auto")),
        ({"TERM": "xterm", "COLUMNS": "200"}, (200, None), (200, "auto")),
        ({"TERM": "xterm", "COLUMNS": "12"}, (WIDTH_MIN, None), (WIDTH_MIN, "auto")),
        ({"COLUMNS": "0"}, (100, None), None),
        ({"COLUMNS": "-3"}, (100, None), None),
        ({"COLUMNS": "many"}, (100, None), None),
        ({"COLUMNS": "9" * 5000}, (100, None), None),
        ({"TERM": "xterm", "FORCE_COLOR": "1"}, (100, "auto"), (80, "auto")),
        ({"TERM": "xterm", "FORCE_COLOR": "0"}, (100, None), (80, "auto")),
        ({"FORCE_COLOR": "1"}, (100, "standard"), (80, "standard")),
        ({"TERM": "dumb", "FORCE_COLOR": "1"}, (100, "standard"), (80, "standard")),
        ({"TERM": "dumb"}, (100, None), (80, None)),
        ({"TERM": "xterm", "NO_COLOR": "1"}, (100, None), (80, None)),
        ({"TERM": "xterm", "NO_COLOR": "1", "FORCE_COLOR": "1"}, (100, None), (80, None)),
    ],
)
def test_the_environment_says_how_wide_and_colourful(
    environment, monkeypatch, values, pipe, terminal
):
    environment(**values)
    size = os.terminal_size((int(values.get("COLUMNS", 80)) if terminal else 80, 24))
    monkeypatch.setattr("shutil.get_terminal_size", lambda *_, **__: size)
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert screen() == Screen(*pipe)
    if terminal is not None:
        monkeypatch.setattr(sys, "stdout", Terminal())
        assert screen() == Screen(*terminal)


@pytest.mark.parametrize(
    ("values", "is_ascii"),
    [
        ({}, False),
        ({"LANG": "C"}, True),
        ({"LANG": "POSIX"}, True),
        ({"LANG": "C", "LC_CTYPE": "C.UTF-8"}, True),
        ({"LC_ALL": "C", "LANG": "de_DE.UTF-8"}, True),
        ({"LANG": "C", "LC_ALL": "en_US.UTF-8"}, False),
        ({"LANG": "C", "LC_CTYPE": "en_US.UTF-8"}, False),
        ({"LANG": "C.UTF-8"}, False),
        ({"LC_CTYPE": "C.UTF-8"}, False),
        ({"LANG": "C", "PYTHONIOENCODING": "utf-8"}, False),
        ({"LANG": "C", "PYTHONUTF8": "1"}, False),
    ],
)
def test_a_locale_of_ascii_is_one_that_was_chosen(environment, values, is_ascii):
    environment(**values)
    assert is_ascii_locale() == is_ascii


def run_script(folder, **values):
    (folder / "a.sql").write_text("CREATE TABLE t (a);\nSELECT 'ä東';\n")
    kept = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    arguments = ("run", "a.sql", "--rows", "--trace", "t.trace")
    variables = {**kept, "PYTHONPATH": str(ROOT), **values}
    return run_child("-m", "sqlstable", *arguments, cwd=folder, env=variables, text=False)


@pytest.mark.slow
@pytest.mark.parametrize("values", [{"PYTHONIOENCODING": "ascii"}, {"LANG": "C"}, {"LC_ALL": "C"}])
def test_an_ascii_locale_gets_bars_and_rules_of_its_own(tmp_path, values):
    result = run_script(tmp_path, **values)
    assert result.returncode == 0
    text = result.stdout.decode("ascii")
    assert "-" * 100 in text.splitlines()
    assert re.search(r" #+ +\d", text)
    assert "message 1 - update - warm cache - committed" in text
    assert "SELECT '???'" in text
    assert result.stderr.isascii()


@pytest.mark.slow
def test_a_pipe_gets_utf_8_in_a_locale_that_nobody_chose(tmp_path):
    text = run_script(tmp_path).stdout.decode("utf-8")
    assert "─" * 100 in text.splitlines()
    assert "SELECT 'ä東'" in text


def test_plans_and_settings_are_shown_when_asked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a.sql").write_text("CREATE TABLE t (a);\nSELECT * FROM t ORDER BY a;\n")

    def call(*arguments):
        return CliRunner().invoke(app, arguments)

    plain = call("run", "a.sql", "--trace", "a.trace").stdout
    both = call("run", "a.sql", "--plan", "--settings").stdout
    assert "USE TEMP B-TREE FOR ORDER BY" in both
    assert "USE TEMP B-TREE" not in plain
    assert "bucket_pages 128" in both
    assert "bucket_pages" not in plain
    assert call("report", "a.trace", "--plan", "--settings").stdout == both
    assert "USE TEMP" in call("report", "a.trace", "--plan", "--by", "shape").stdout
    assert "USE TEMP" in call("report", "a.trace", "--plan", "--compare", "a.trace").stdout
    for arguments in (("run", "a.sql"), ("report", "a.trace")):
        refused = call(*arguments, "--plan", "--by", "owner")
        assert refused.exit_code == 2
        assert "--plan goes with statements and shapes, not --by owner" in refused.stderr
